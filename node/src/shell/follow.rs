//! The node follows the broker's audit log: it looks for what was promised to it, proves where it stands, and tells of
//! what does not hold.
//!
//! Each round begins with a checkpoint that the log has signed and that continues the one that this node knows; what is
//! below it is proven hash by hash. A round reads as much as its proofs need and remembers nothing: what was found is in
//! the journal, so after a restart, or months, it goes on where it was.

mod prove;
mod reader;
mod tell;
mod verdict;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use lintas_proto::{
    audit::{merkle::verify_consistency, note::SignedCheckpoint, tile},
    schema::{IncludedPacket, RootProof, SlotOpening, StoredInclusion, StoredRootProof},
};
use thiserror::Error;
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep, timeout},
};

pub(crate) use self::reader::LogSource;
use self::{
    prove::{Logs, open_slot, prove},
    reader::{Grown, Reader},
};
use super::{
    clock,
    desk::{Desk, Pending},
    log_link::LogError,
    store::StoreError,
};
use crate::core::{
    log::inclusion::{Fault, Proven},
    records::Record,
};

/// A round at least so often.
const ROUND_EVERY: Duration = Duration::from_secs(60);
/// How often it is looked whether a round is due; shorter epochs are met at their pace.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Packets and epochs of one round; the next one goes on.
const PACKETS_AT_ONCE: usize = 1_024;
const EPOCHS_AT_ONCE: usize = 32;
/// Leaves of one record.
const LEAVES_AT_ONCE: usize = 1_024;
/// Longest round: one that takes longer begins anew, and counts as one that nothing came of.
const ROUND_MAX: Duration = Duration::from_secs(1_800);
/// How long after a deadline, by the log's own time, a promise that no quorum has seen broken is told of, milliseconds.
const OVERDUE_MS: u64 = 600_000;

/// Why a round ended before its end.
#[derive(Debug, Error)]
pub(crate) enum Stop {
    /// A piece did not come.
    #[error(transparent)]
    Log(#[from] LogError),
    /// What came does not fit together.
    #[error("what the broker shows of its audit log does not hold: {0}")]
    Wrong(String),
    /// The log is ahead of the directory here; that is not the log's fault.
    #[error("the entry is of a newer roster than this node's; its newer directory is awaited")]
    Behind,
    /// What was found was not kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Wrong(fault.to_string())
    }
}

/// Follows as long as the session lives; ends only when nothing can be kept any more.
pub(crate) async fn follow<S: LogSource>(desk: &Arc<Desk>, source: &S) -> StoreError {
    let (mut follower, mut last, mut idle, mut newest) = (Follower::new(desk), None::<Instant>, 0u32, 0);
    let mut counted = Instant::now();
    loop {
        let epoch = Duration::from_millis(desk.directory().roster().epoch_ms.into());
        sleep(epoch.min(LOOK_EVERY)).await;
        desk.pulse().pass(counted.elapsed());
        counted = Instant::now();
        follower.look_at_pulse(epoch).await;
        let promised = follower.newest_promise();
        if promised.is_some_and(|promised| promised > newest) {
            (newest, idle) = (promised.unwrap_or_default(), 0);
        }
        let pause = if promised.is_some() { doubled(epoch, idle) } else { ROUND_EVERY };
        if last.is_some_and(|last| last.elapsed() < pause) {
            continue;
        }
        idle = idle.saturating_add(1);
        match timeout(ROUND_MAX, follower.round(source)).await.unwrap_or(Err(LogError::Slow.into())) {
            Ok(found) => {
                desk.pulse().well();
                idle = if found > 0 { 0 } else { idle };
            }
            Err(Stop::Store(error)) if error.is_fatal() => return error,
            Err(stop) => {
                tracing::debug!(%stop, "the audit log was not followed to its end");
                follower.suspect(&stop).await;
            }
        }
        last = Some(Instant::now());
    }
}

fn doubled(epoch: Duration, times: u32) -> Duration {
    epoch.saturating_mul(1u32.checked_shl(times.min(16)).unwrap_or(u32::MAX)).min(ROUND_EVERY)
}

/// One session's following.
pub(crate) struct Follower<'a> {
    desk: &'a Arc<Desk>,
    /// Packets about which something was found; nothing better is to come.
    disputed: BTreeSet<u64>,
    /// The record from which on the next round looks: what the log lacks does not keep it from what it has.
    from: u64,
}

/// An epoch in which packets of ours are, and the size of the sub-log before it.
struct Group {
    grown: Grown,
    before: u64,
    packets: Vec<Pending>,
}

impl<'a> Follower<'a> {
    pub(crate) fn new(desk: &'a Arc<Desk>) -> Self {
        Self { desk, disputed: BTreeSet::new(), from: 0 }
    }

    fn newest_promise(&self) -> Option<u64> {
        let logs = Logs::of(self.desk)?;
        self.desk.newest_promise(&logs.sub, &self.disputed)
    }

    /// One round; how many packets were found in the log, or in a witnessed one at last.
    pub(crate) async fn round<S: LogSource>(&mut self, source: &S) -> Result<usize, Stop> {
        let Some(logs) = Logs::of(self.desk) else { return Ok(0) };
        let mut reader = Reader::new(source);
        let signed = self.checkpoint(&logs, &mut reader).await?;
        self.desk.pulse().shown(&logs.root, signed.claim().size);
        let Some(last) = signed.claim().size.checked_sub(1) else { return Ok(0) };
        let tip = prove(&logs, &mut reader, last, &signed).await?;
        let witnessed_at = signed.witnessed_at(&logs.witnesses);
        // Where the region has no witnesses, the broker's signature is all that there is.
        let none_at = logs.witnesses.is_empty().then_some(u64::MAX);
        if let Some(seconds) = witnessed_at.or(none_at) {
            self.desk.note_attested(&tip.entry, seconds.saturating_mul(1_000));
        }
        let found = self.include(&logs, &mut reader, &signed, &tip).await?;
        let upgraded =
            if witnessed_at.is_some() { self.upgrade(&logs, &mut reader, &signed).await? } else { 0 };
        Ok(found + upgraded)
    }

    /// The newest checkpoint that the log shows: signed by it, and continuing the one that is known here, or continued by
    /// it.
    async fn checkpoint<S: LogSource>(
        &self,
        logs: &Logs,
        reader: &mut Reader<'_, S>,
    ) -> Result<SignedCheckpoint, Stop> {
        let signed = reader.checkpoint(&logs.root).await?;
        let directory = self.desk.directory();
        let log = directory.log_of(&logs.root).ok_or_else(|| Stop::Wrong("no such log".to_owned()))?;
        signed
            .verify(&logs.root, &log.broker.log_key)
            .map_err(|error| Stop::Wrong(format!("its checkpoint: {error}")))?;
        let known = self.desk.known_checkpoint().filter(|known| known.claim().origin == logs.root);
        let proof = match &known {
            Some(known) => {
                let (one, other) = (known.claim(), signed.claim());
                let (old, new) = if one.size <= other.size { (one, other) } else { (other, one) };
                let tiles = reader
                    .tiles(&logs.root, new.size, |wanted| {
                        tile::consistency(wanted, old.size, new.size).map(drop)
                    })
                    .await?;
                let proof = tile::consistency(&tiles, old.size, new.size)?;
                let holds = verify_consistency((old.size, &old.root), (new.size, &new.root), &proof);
                Some((proof, holds))
            }
            None => None,
        };
        let (desk, learned) = (Arc::clone(self.desk), signed.clone());
        let (proof, holds) = proof.map_or((Vec::new(), Ok(())), |(proof, holds)| (proof, holds));
        let learned = blocking(move || desk.learn_checkpoint(learned, &proof)).await;
        holds.map_err(|error| Stop::Wrong(error.to_string()))?;
        learned.map_err(|error| Stop::Wrong(error.to_string()))?;
        Ok(signed)
    }

    /// Looks for what was promised.
    async fn include<S: LogSource>(
        &mut self,
        logs: &Logs,
        reader: &mut Reader<'_, S>,
        signed: &SignedCheckpoint,
        tip: &Proven,
    ) -> Result<usize, Stop> {
        let pending = self.desk.promised_in(&logs.sub, self.from, PACKETS_AT_ONCE, &self.disputed);
        let next = pending.last().filter(|_| pending.len() >= PACKETS_AT_ONCE);
        self.from = next.map_or(0, |last| last.packet.saturating_add(1));
        if pending.is_empty() {
            return Ok(0);
        }
        let mut sizes = reader.sizes(&logs.sub, signed.claim().size).await?;
        let now = sizes.last().await?;
        let (mut groups, mut absent) = (BTreeMap::<u64, Group>::new(), Vec::new());
        for packet in pending {
            let last = packet.promise.indices.last().copied().unwrap_or_default();
            let Some((grown, before)) = sizes.of_entry(last).await? else {
                absent.push(packet);
                continue;
            };
            if groups.len() >= EPOCHS_AT_ONCE && !groups.contains_key(&grown.epoch) {
                continue;
            }
            let empty = || Group { grown, before, packets: Vec::new() };
            groups.entry(grown.epoch).or_insert_with(empty).packets.push(packet);
        }
        let mut found = 0;
        for group in groups.into_values() {
            let size_now = now.map_or(group.grown.size, |now| now.size);
            found += self.epoch(logs, reader, signed, (group, size_now)).await?;
        }
        self.absent(logs, reader, signed, (tip, now, absent)).await?;
        Ok(found)
    }

    /// Proves the packets of one epoch, and keeps the proofs.
    async fn epoch<S: LogSource>(
        &mut self,
        logs: &Logs,
        reader: &mut Reader<'_, S>,
        signed: &SignedCheckpoint,
        (group, size_now): (Group, u64),
    ) -> Result<usize, Stop> {
        let Group { grown, before, packets } = group;
        let proven = prove(logs, reader, grown.epoch, signed).await?;
        let indices: Vec<u64> = packets.iter().flat_map(|packet| packet.promise.indices.clone()).collect();
        let tiles = reader
            .tiles(&logs.sub, size_now, |wanted| {
                tile::root(wanted, grown.size)?;
                indices.iter().try_for_each(|index| tile::inclusion(wanted, grown.size, *index).map(drop))
            })
            .await?;
        let slot = open_slot(logs, reader, &proven, (grown.size, &tiles)).await?;
        let earlier = verdict::Earlier { epoch: grown.epoch, before, size_now };
        let mut proofs = Vec::new();
        for packet in packets {
            let shown = verdict::Shown { logs, signed, slot: &slot, root: &proven, tiles: &tiles };
            match verdict::packet(reader, &packet, shown, earlier).await? {
                Ok(included) => proofs.push(included),
                Err(finding) => {
                    self.disputed.insert(packet.packet);
                    self.tell(*finding).await;
                }
            }
        }
        let count = proofs.len();
        self.keep(logs, signed, proven, slot, proofs).await?;
        Ok(count)
    }

    async fn keep(
        &self,
        logs: &Logs,
        signed: &SignedCheckpoint,
        proven: Proven,
        slot: SlotOpening,
        packets: Vec<IncludedPacket>,
    ) -> Result<(), Stop> {
        if packets.is_empty() {
            return Ok(());
        }
        let mut records = vec![self.root_record(logs, signed, proven.entry.epoch, proven.proof)];
        let mut rest = packets.into_iter().peekable();
        while rest.peek().is_some() {
            let (mut some, mut leaves) = (Vec::new(), 0);
            while let Some(packet) =
                rest.next_if(|next| leaves == 0 || leaves + next.leaves.len() <= LEAVES_AT_ONCE)
            {
                leaves += packet.leaves.len();
                some.push(packet);
            }
            records.push(Record::Inclusion(StoredInclusion {
                origin: logs.root.clone(),
                epoch: proven.entry.epoch,
                slot: Some(slot.clone()),
                packets: some,
                time_ms: clock::now_ms(),
            }));
        }
        self.store(records).await
    }

    fn root_record(&self, logs: &Logs, signed: &SignedCheckpoint, epoch: u64, proof: RootProof) -> Record {
        Record::RootProof(StoredRootProof {
            origin: logs.root.clone(),
            epoch,
            proof: Some(proof),
            time_ms: clock::now_ms(),
            witnessed: signed.witnessed_at(&logs.witnesses).is_some(),
        })
    }

    async fn store(&self, records: Vec<Record>) -> Result<(), Stop> {
        let desk = Arc::clone(self.desk);
        Ok(blocking(move || desk.keep_proofs(records)).await?)
    }

    /// What was included before a quorum had seen it, under a checkpoint that one has cosigned.
    async fn upgrade<S: LogSource>(
        &self,
        logs: &Logs,
        reader: &mut Reader<'_, S>,
        signed: &SignedCheckpoint,
    ) -> Result<usize, Stop> {
        let epochs = self.desk.unwitnessed(&logs.root, signed.claim().size, EPOCHS_AT_ONCE);
        let mut records = Vec::with_capacity(epochs.len());
        for epoch in epochs {
            let proven = prove(logs, reader, epoch, signed).await?;
            records.push(self.root_record(logs, signed, epoch, proven.proof));
        }
        let upgraded = records.len();
        self.store(records).await?;
        Ok(upgraded)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a test writes need not survive a power cut")]
mod tests;
