//! The node follows the broker's audit log: it looks for what was promised to it, proves where it stands, and tells of
//! what does not hold.
//!
//! Each round begins with a checkpoint that the log has signed and that continues the one that this node knows; what is
//! below it is proven hash by hash. A round reads as much as its proofs need and remembers nothing: what was found is in
//! the journal, so after a restart, or months, it goes on where it was.

mod reader;
mod verdict;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use lintas_proto::{
    audit::{
        files::LogFile,
        merkle::verify_consistency,
        note::{SignedCheckpoint, WitnessKey},
        tile,
    },
    schema::{IncludedPacket, RootProof, SlotOpening, StoredInclusion, StoredRootProof},
};
use thiserror::Error;
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};

pub(crate) use self::reader::LogSource;
use self::reader::{Grown, Reader};
use super::{
    clock,
    desk::{Desk, Pending},
    log_link::LogError,
    store::StoreError,
};
use crate::core::{
    log::{
        findings::{Finding, Kind},
        inclusion::{self, Fault, Proven, Tiles},
    },
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
/// For how long what the broker does not show, or shows wrongly, may be an accident.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 0 } else { 600 });

/// Why a round ended before its end.
#[derive(Debug, Error)]
pub(crate) enum Stop {
    /// A piece did not come.
    #[error(transparent)]
    Log(#[from] LogError),
    /// What came does not fit together.
    #[error("what the broker shows of its audit log does not hold: {0}")]
    Wrong(String),
    /// The log is of a newer roster than this node's: nobody's fault.
    #[error("the entry is of a newer roster than this node's; its newer directory is awaited")]
    Newer,
    /// What was found was not kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Wrong(fault.to_string())
    }
}

/// The logs that are followed, and what opens this agency's slot.
struct Logs {
    root: String,
    sub: String,
    slot_keys: [[u8; 32]; 2],
    index: u32,
    members: usize,
    witnesses: Vec<WitnessKey>,
}

impl Logs {
    fn of(desk: &Desk) -> Option<Self> {
        let (directory, keys) = (desk.directory(), desk.keys());
        let name = desk.link().broker;
        let brokers = directory.brokers();
        let broker = brokers.iter().find(|broker| broker.name == name).or(brokers.first())?;
        Some(Self {
            root: broker.root_origin(),
            sub: broker.sub_log_origin(&keys.agency),
            // Until the broker had this agency's key it used zeros.
            slot_keys: [*keys.slot_key, [0; 32]],
            index: directory.roster_index(&keys.agency)?,
            members: directory.roster().members.len(),
            witnesses: directory.witnesses(),
        })
    }
}

/// Follows as long as the session lives; ends only when nothing can be kept any more.
pub(crate) async fn follow<S: LogSource>(desk: &Arc<Desk>, source: &S) -> StoreError {
    let (mut follower, mut last, mut idle, mut newest) = (Follower::new(desk), None::<Instant>, 0u32, 0);
    let mut wrong_since = None;
    loop {
        let epoch = Duration::from_millis(desk.directory().roster().epoch_ms.into());
        sleep(epoch.min(LOOK_EVERY)).await;
        let promised = follower.newest_promise();
        if promised.is_some_and(|promised| promised > newest) {
            (newest, idle) = (promised.unwrap_or_default(), 0);
        }
        let pause = if promised.is_some() { doubled(epoch, idle) } else { ROUND_EVERY };
        if last.is_some_and(|last| last.elapsed() < pause) {
            continue;
        }
        idle = idle.saturating_add(1);
        match follower.round(source).await {
            Ok(found) => {
                wrong_since = None;
                idle = if found > 0 { 0 } else { idle };
            }
            Err(Stop::Store(error)) if error.is_fatal() => return error,
            Err(stop) => {
                tracing::debug!(%stop, "the audit log was not followed to its end");
                let since = *wrong_since.get_or_insert_with(Instant::now);
                follower.suspect(&stop, since.elapsed());
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
}

/// An epoch in which packets of ours are, and the size of the sub-log before it.
struct Group {
    grown: Grown,
    before: u64,
    packets: Vec<Pending>,
}

impl<'a> Follower<'a> {
    pub(crate) fn new(desk: &'a Arc<Desk>) -> Self {
        Self { desk, disputed: BTreeSet::new() }
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
        let Some(last) = signed.claim().size.checked_sub(1) else { return Ok(0) };
        let tip = prove(&logs, &mut reader, last, &signed).await?;
        let witnessed_at = signed.witnessed_at(&logs.witnesses);
        if let Some(seconds) = witnessed_at {
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
        let pending = self.desk.promised_in(&logs.sub, PACKETS_AT_ONCE, &self.disputed);
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

    /// What is not in the log although its deadline is over, by a witnessed entry of the log itself.
    async fn absent<S: LogSource>(
        &mut self,
        logs: &Logs,
        reader: &mut Reader<'_, S>,
        signed: &SignedCheckpoint,
        (tip, now, absent): (&Proven, Option<Grown>, Vec<Pending>),
    ) -> Result<(), Stop> {
        let overdue = |packet: &Pending| packet.promise.deadline_ms < tip.entry.time_ms;
        let overdue: Vec<Pending> = absent.into_iter().filter(overdue).collect();
        if overdue.is_empty() || signed.witnessed_at(&logs.witnesses).is_none() {
            return Ok(());
        }
        let size = now.map_or(0, |now| now.size);
        let tiles = reader.tiles(&logs.sub, size, |wanted| tile::root(wanted, size).map(drop)).await?;
        let slot = open_slot(logs, reader, tip, (size, &tiles)).await?;
        for packet in overdue {
            self.disputed.insert(packet.packet);
            self.tell(verdict::not_kept(&packet, &slot, tip)).await;
        }
        Ok(())
    }

    async fn tell(&self, finding: Finding) {
        let desk = Arc::clone(self.desk);
        blocking(move || desk.note_finding(finding)).await;
    }

    /// What the broker has not shown for long, or not as it should, is told: it is this node's word.
    fn suspect(&self, stop: &Stop, since: Duration) {
        let what = match stop {
            // Nothing is signed before a quorum of witnesses was there: a log may be without a checkpoint for long.
            Stop::Log(LogError::Missing(LogFile::Checkpoint)) if self.desk.known_checkpoint().is_none() => {
                return;
            }
            Stop::Log(LogError::Missing(_) | LogError::Refused { .. } | LogError::TooLong(_))
            | Stop::Wrong(_) => stop.to_string(),
            Stop::Log(LogError::NotConnected | LogError::Link(_) | LogError::Slow)
            | Stop::Newer
            | Stop::Store(_) => return,
        };
        if since >= PATIENCE {
            let text = format!("this node cannot prove that its packets stand in the log: {what}");
            self.desk.note_finding(Finding::accusation(Kind::Withheld, text, Vec::new()));
        }
    }
}

/// The entry of an epoch, proven under a checkpoint.
async fn prove<S: LogSource>(
    logs: &Logs,
    reader: &mut Reader<'_, S>,
    epoch: u64,
    signed: &SignedCheckpoint,
) -> Result<Proven, Stop> {
    let size = signed.claim().size;
    let entry = reader.root_entry(&logs.root, epoch, size).await?;
    let tiles =
        reader.tiles(&logs.root, size, |wanted| tile::inclusion(wanted, size, epoch).map(drop)).await?;
    Ok(inclusion::prove_entry(&entry, epoch, &tiles, signed)?)
}

/// This agency's slot of a proven epoch: its sub-log had `size` then.
async fn open_slot<S: LogSource>(
    logs: &Logs,
    reader: &mut Reader<'_, S>,
    proven: &Proven,
    (size, tiles): (u64, &Tiles),
) -> Result<SlotOpening, Stop> {
    let slots = reader.slots(&logs.root, &proven.entry).await?;
    let places = inclusion::slot_places(logs.index, logs.members, proven.entry.slots);
    let places = places.ok_or(Stop::Newer)?;
    let root = tile::root(tiles, size)?;
    let open = |keys: &[[u8; 32]]| {
        inclusion::open_slot((&proven.entry, &slots), &logs.root, keys, places.clone(), (size, &root))
    };
    match open(&logs.slot_keys) {
        // An epoch under a key that this agency had before: the log names it, and a wrong one opens nothing.
        Err(Fault::Closed(_)) => Ok(open(&reader.slot_keys(&logs.sub, proven.entry.epoch).await?)?),
        other => Ok(other?),
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
