//! The sequencer: one thread that gives every accepted packet, and every event of the audit log, its place. It drains
//! what the sessions have verified, plans one group, and hands it to the journal; answers go out when the group is
//! durable. While one group is being synced, the next one is planned.
//!
//! A round goes this way: the log is told of the rules in force ([`log`]), under which the whole round is; entries end, then submissions and refusals
//! ([`packets`]), then what else the log is told, the end of the epoch if it is time, and last old segments go
//! ([`room`]). While the clock is in doubt ([`doubt`]) only what sessions had under way ends.
//!
//! The ledger is never locked while something is handed to the journal: that may wait for the disk.

mod doubt;
mod log;
mod packets;
pub(super) mod room;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use lintas_journal::{Class, CommitError, CommitHandle, Committed, FileDisk, NewRecord};
use lintas_proto::{audit::group::GroupError, limits, schema::StoredEvent};
use thiserror::Error;
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
    time::sleep,
};

use self::room::Room;
pub(super) use self::{log::Logbook, packets::Refusals};
use super::{
    clock,
    index::Index,
    intake::{End, Intake, Refusing, Submitted},
    leavers::Leavers,
    shared::Shared,
};
use crate::core::{
    ledger::Ended,
    outcome::How,
    quota::Quota,
    record::{Fact, RecordError},
};

/// Most intakes planned into one group.
const BATCH_INTAKES_MAX: usize = 512;
/// Bytes of packets after which a group is full; the last packet may exceed it.
pub(super) const BATCH_BYTES: usize = 1024 * 1024;
/// Rounds that may be under way to the disk: one that is being synced, and one that is ready behind it. While they are,
/// what comes in gathers: a few long rounds cost much less than many short ones.
const ROUNDS_MAX: usize = 2;
/// Most expired entries ended in one round.
const EXPIRED_MAX: usize = 256;
/// How often the sequencer looks for what time has ended, milliseconds.
const TICK_MS: u64 = 1_000;
/// Why the broker must stop: what is durable is uncertain, or the ledger contradicts itself.
#[derive(Debug, Error)]
enum Fatal {
    #[error(transparent)]
    Journal(#[from] CommitError),
    #[error("receipts could not be signed: {0}")]
    Sign(#[from] GroupError),
    #[error(transparent)]
    Ledger(#[from] RecordError),
}

/// The sequencer's own state.
#[derive(Debug)]
pub(crate) struct Sequencer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) journal: CommitHandle<FileDisk>,
    pub(crate) index: Arc<Index>,
    pub(crate) intake: mpsc::Receiver<Intake>,
    /// Of the directory.
    pub(crate) changed: watch::Receiver<u64>,
    pub(crate) runtime: Handle,
    /// Last record handed to the journal.
    pub(crate) last_sequence: u64,
    /// Last records of rounds that may not be durable yet, at most [`ROUNDS_MAX`].
    pub(crate) rounds: VecDeque<u64>,
    /// Packets whose end is not yet durable, with the record that ends them: their attachments go then.
    pub(crate) ended: VecDeque<(u64, Ended)>,
    /// When to look again for what time has ended.
    pub(crate) tick_ms: u64,
    /// Room in the journal.
    pub(super) room: Room,
    /// What agencies may still submit.
    pub(crate) quota: Quota,
    /// Of how many refusals the log is told.
    pub(super) refusals: Refusals,
    /// What the log is told beside packets.
    pub(super) logbook: Logbook,
    /// Whether the clock is so far behind the log that it was said.
    pub(super) is_behind: bool,
    /// The search for entries whose recipients have left.
    pub(crate) leavers: Leavers,
}

/// Facts that are written together.
struct Group {
    facts: Vec<Fact>,
    /// The events of each admission among them.
    promised: Vec<Vec<StoredEvent>>,
}

impl From<Vec<Fact>> for Group {
    fn from(facts: Vec<Fact>) -> Self {
        Self { facts, promised: Vec::new() }
    }
}

/// Tells the process when the sequencer ends by a panic.
struct Alarm(Arc<Shared>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(&"the sequencer panicked; this is a defect");
        }
    }
}

impl Sequencer {
    /// Runs until every sender of intakes is gone, or until the journal fails.
    pub(crate) fn run(mut self) {
        let _alarm = Alarm(Arc::clone(&self.shared));
        let runtime = self.runtime.clone();
        while let Some(batch) = runtime.block_on(self.next_batch()) {
            if let Err(error) = self.round(batch) {
                self.shared.fail(&error);
                return;
            }
        }
    }

    /// Waits for intakes, at most a tick, and drains what is there. None when every sender is gone, or when the broker has
    /// failed elsewhere: then nobody waits for this thread, and the runtime under it goes away.
    async fn next_batch(&mut self) -> Option<Vec<Intake>> {
        if !self.wait_for_disk().await {
            return None;
        }
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let wait_ms = match self.shared.clock.agreed_ms() {
            None => TICK_MS,
            // While there is something to withhold nothing is waited for.
            Some(_) if self.leavers.are_sought() => 0,
            Some(now_ms) => TICK_MS.min(self.logbook.wait_ms(now_ms)),
        };
        let mut failed = self.shared.failed.subscribe();
        let mut next = tokio::select! {
            biased;
            _ = failed.wait_for(|failed| *failed) => return None,
            intake = self.intake.recv() => Some(intake?),
            _ = self.changed.changed() => None,
            () = sleep(Duration::from_millis(wait_ms)) => None,
        };
        while let Some(intake) = next {
            if let Intake::Submit(submitted) = &intake {
                bytes += submitted.verified.submission().len();
            }
            batch.push(intake);
            let full = batch.len() >= BATCH_INTAKES_MAX || bytes >= BATCH_BYTES;
            next = if full { None } else { self.intake.try_recv().ok() };
        }
        Some(batch)
    }

    /// Waits until the disk has caught up; false if it never will.
    async fn wait_for_disk(&mut self) -> bool {
        let (mut durable, mut failed) = (self.shared.durable.subscribe(), self.shared.failed.subscribe());
        if self.rounds.back().is_none_or(|last| *last < self.last_sequence) {
            self.rounds.push_back(self.last_sequence);
        }
        while let Some(first) = self.rounds.front().copied() {
            if *durable.borrow() < first {
                if self.rounds.len() < ROUNDS_MAX {
                    break;
                }
                tokio::select! {
                    biased;
                    _ = failed.wait_for(|failed| *failed) => return false,
                    _ = durable.wait_for(|durable| *durable >= first) => {}
                }
            }
            self.rounds.pop_front();
        }
        true
    }

    /// One round: ends first, so that a full disk can drain; then submissions.
    fn round(&mut self, batch: Vec<Intake>) -> Result<(), Fatal> {
        self.shared.metrics.round(clock::shown_ms());
        let Some(now_ms) = self.shared.clock.agreed_ms() else { return self.round_in_doubt(batch) };
        self.look_at_clock(now_ms);
        let (mut submissions, mut refusals) = (Vec::new(), Vec::new());
        let (mut ends, mut denials, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for intake in batch {
            match intake {
                Intake::Submit(submitted) => submissions.push(*submitted),
                Intake::Refuse(refusing) => refusals.push(*refusing),
                Intake::End(end) => ends.push(end),
                Intake::Deny(denying) => denials.push(*denying),
                other @ (Intake::SlotKey { .. } | Intake::Read { .. } | Intake::Erase { .. }) => {
                    others.push(other);
                }
            }
        }
        ends.extend(self.tick(now_ms)?);
        // By the time that the events of this round bear.
        let time_ms = self.shared.ledger().time_at(now_ms);
        let rules = self.shared.rules_at(time_ms);
        // Nobody has an event before it has a slot, and nothing is decided by policies that the log does not know.
        let told = self.tell_rules(&rules, now_ms)?;
        // All that was planned under an earlier directory is in the ledger.
        ends.extend(self.leavers.next(&self.shared.ledger(), rules.directory(), now_ms));
        if ends.iter().any(|end| matches!(end.how, How::Withheld { .. })) {
            self.shared.sought().begin();
        }
        for end in ends {
            self.end(&end, &rules, now_ms)?;
        }
        self.shared.sought().set(self.leavers.sought_under(), self.last_sequence);
        self.remove_blobs();
        if told {
            self.deny(denials, &rules, now_ms)?;
            self.submit(submissions, refusals, &rules, now_ms)?;
            self.tell_others(others, &rules, now_ms)?;
            self.end_epoch(&rules, now_ms)?;
        } else {
            self.refuse_for_room(submissions, refusals, now_ms);
        }
        self.compact(now_ms)
    }

    /// Times in the log never go back; when the clock does, the log waits for it.
    fn look_at_clock(&mut self, now_ms: u64) {
        let behind_ms = self.shared.ledger().time_at(now_ms).saturating_sub(now_ms);
        self.shared.metrics.clock_behind(behind_ms);
        let is_behind = behind_ms > limits::CLOCK_SKEW_MS_MAX;
        if is_behind && !self.is_behind {
            tracing::error!(
                behind_ms,
                "the clock is behind the audit log, whose times never go back; nodes refuse receipts with such times. Set the clock right"
            );
        }
        self.is_behind = is_behind;
    }

    /// Once a tick: entries whose time is over, and attachments that no packet ever named.
    fn tick(&mut self, now_ms: u64) -> Result<Vec<End>, Fatal> {
        if now_ms < self.tick_ms && self.tick_ms - now_ms <= TICK_MS {
            return Ok(Vec::new());
        }
        if self.journal.is_poisoned() {
            return Err(CommitError::Poisoned.into());
        }
        let over = self.shared.ledger().expired(now_ms, EXPIRED_MAX);
        // With so many there are more.
        self.tick_ms = if over.len() < EXPIRED_MAX { now_ms.saturating_add(TICK_MS) } else { now_ms };
        self.shared.blobs.sweep(now_ms);
        let end = |(agency, queue_sequence)| End { agency, queue_sequence, how: How::Expired };
        Ok(over.into_iter().map(end).collect())
    }

    /// As [`commit`](Self::commit); false when the journal has no room.
    fn commit_if_room(
        &mut self,
        group: impl Into<Group>,
        class: Class,
        now_ms: u64,
        then: impl FnOnce(Committed) + Send + 'static,
    ) -> Result<bool, Fatal> {
        match self.commit(group.into(), class, then) {
            Err(Fatal::Journal(CommitError::DiskFull)) => {
                self.room.is_short(now_ms);
                Ok(false)
            }
            committed => committed.map(|()| true),
        }
    }

    /// Hands one group to the journal and folds it in. `then` runs on the committer's thread when the group is
    /// durable; it must not lock the ledger.
    fn commit(
        &mut self,
        Group { facts, promised }: Group,
        class: Class,
        then: impl FnOnce(Committed) + Send + 'static,
    ) -> Result<(), Fatal> {
        let records: Vec<NewRecord> = facts.iter().map(Fact::to_record).collect();
        let bytes: Vec<usize> = records.iter().map(|record| record.payload.len()).collect();
        let agencies: BTreeSet<&str> = facts.iter().flat_map(Fact::agencies).collect();
        let agencies: Arc<[String]> = agencies.into_iter().map(str::to_owned).collect();
        let (shared, index) = (Arc::clone(&self.shared), Arc::clone(&self.index));
        let ringing = Arc::clone(&agencies);
        let done = move |committed| {
            if let Some(committed) = publish(&shared, &index, committed) {
                then(committed);
                shared.ring(&ringing);
            }
        };
        let first = self.journal.commit(records, class, Box::new(done))?;
        self.shared.log.fresh.put(first, &facts, promised);
        {
            let mut ledger = self.shared.ledger_mut();
            for (sequence, fact) in (first..).zip(&facts) {
                if let Some(ended) = ledger.apply(sequence, fact)? {
                    self.room.ended(ended.bytes);
                    self.ended.push_back((sequence, ended));
                }
                self.last_sequence = sequence;
            }
            self.shared.clock.logged(ledger.time_at(0));
        }
        self.shared.metrics.handed_over(self.last_sequence);
        for (agency, blob) in facts.iter().flat_map(Fact::blobs) {
            self.shared.blobs.name(agency, &blob);
        }
        self.shared.recent.add(first, bytes.into_iter().zip(facts));
        // The group may have been durable before it was folded in: then nobody saw the new entries.
        if *self.shared.durable.borrow() >= self.last_sequence {
            self.shared.ring(&agencies);
        }
        Ok(())
    }
}

/// Tells how far the journal is durable; none if it failed.
fn publish(shared: &Shared, index: &Index, committed: Result<Committed, CommitError>) -> Option<Committed> {
    match committed {
        Ok(committed) => {
            let Committed { first_sequence, last_sequence } = committed;
            shared.metrics.group(last_sequence.saturating_sub(first_sequence).saturating_add(1));
            index.stamp(last_sequence);
            shared.durable.send_replace(last_sequence);
            Some(committed)
        }
        Err(error) => {
            shared.fail(&error);
            None
        }
    }
}
