//! The sequencer: one thread that gives every accepted packet its place. It drains what the sessions have
//! verified, plans one group, and hands it to the journal; answers go out when the group is durable. While one
//! group is being synced, the next one is planned.
//!
//! The ledger is never locked while something is handed to the journal: that may wait for the disk.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use lintas_config::Directory;
use lintas_journal::{
    Class, CommitError, CommitHandle, Committed, CompactReport, Compaction, FileDisk, NewRecord,
};
use lintas_proto::{audit::group::GroupError, frame::FrameType, schema::Reason};
use thiserror::Error;
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
    time::sleep,
};

use super::{
    answer::AnswerTo,
    clock,
    index::Index,
    intake::{End, Intake, Submitted},
    leavers::Leavers,
    shared::Shared,
};
use crate::core::{
    ledger::Ended,
    outcome::{self, How},
    plan::{Plan, Sealed, Verdict},
    quota::Quota,
    record::{Fact, RecordError},
    refuse::Refused,
    snapshot,
};

/// Most intakes planned into one group.
const BATCH_INTAKES_MAX: usize = 512;
/// Bytes of packets after which a group is full; the last packet may exceed it.
pub(crate) const BATCH_BYTES: usize = 1024 * 1024;
/// Most expired entries ended in one round.
const EXPIRED_MAX: usize = 256;
/// How often the sequencer looks for what time has ended, milliseconds.
const TICK_MS: u64 = 1_000;
/// Packets that nobody needs, in bytes, after which old segments are compacted. Tests are to get there.
const COMPACT_AFTER_BYTES: u64 = if cfg!(test) { 64 * 1024 } else { 128 * 1024 * 1024 };
/// On a full disk whatever can go is compacted, but not more often than this, milliseconds.
const SQUEEZE_EVERY_MS: u64 = 10_000;
/// What the sender of a packet is told when the journal has no room.
const DISK_FULL: &str = "The broker's disk is full; nothing was stored. The packet is tried again by itself; tell the region's operator.";

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
    /// Packets that nobody needs since the last compaction, bytes.
    pub(crate) spent_bytes: u64,
    /// Packets whose end is not yet durable, with the record that ends them: their attachments go then.
    pub(crate) ended: VecDeque<(u64, Ended)>,
    /// When to look again for what time has ended.
    pub(crate) tick_ms: u64,
    /// The journal was full; when to try again to make room.
    pub(crate) squeeze_ms: Option<u64>,
    /// What agencies may still submit.
    pub(crate) quota: Quota,
    /// The search for entries whose recipients have left.
    pub(crate) leavers: Leavers,
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

    /// Waits for intakes, at most a tick, and drains what is there. None when every sender is gone.
    async fn next_batch(&mut self) -> Option<Vec<Intake>> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        // While there is something to withhold nothing is waited for.
        let wait_ms = if self.leavers.are_sought() { 0 } else { TICK_MS };
        let mut next = tokio::select! {
            biased;
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

    /// One round: ends first, so that a full disk can drain; then submissions.
    fn round(&mut self, batch: Vec<Intake>) -> Result<(), Fatal> {
        let now_ms = clock::now_ms();
        self.shared.metrics.round(now_ms);
        let (mut submissions, mut ends) = (Vec::new(), Vec::new());
        for intake in batch {
            match intake {
                Intake::Submit(submitted) => submissions.push(*submitted),
                Intake::End(end) => ends.push(end),
                Intake::Read { .. } | Intake::Erase { .. } => {}
            }
        }
        ends.extend(self.tick(now_ms)?);
        let directory = self.shared.directory();
        // All that was planned under an earlier directory is in the ledger.
        ends.extend(self.leavers.next(&self.shared.ledger(), &directory, now_ms));
        if ends.iter().any(|end| matches!(end.how, How::Withheld { .. })) {
            self.shared.sought().begin();
        }
        for end in ends {
            self.end(&end, &directory, now_ms)?;
        }
        self.shared.sought().set(self.leavers.sought_under(), self.last_sequence);
        self.remove_blobs();
        if !submissions.is_empty() {
            self.submit(submissions, &directory, now_ms)?;
        }
        self.compact(now_ms)
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

    /// Ends one queue entry. A group each; the committer joins what is pending into one write.
    fn end(&mut self, end: &End, directory: &Directory, now_ms: u64) -> Result<(), Fatal> {
        let shared = Arc::clone(&self.shared);
        let (entry, mut entropy) = ((end.agency.as_str(), end.queue_sequence), lintas_config::os_entropy());
        let speaker = shared.speaker_under(directory);
        let ending = outcome::end(entry, &end.how, &shared.ledger(), &speaker, now_ms, &mut entropy);
        let fact = match ending {
            Ok(Some(fact)) => fact,
            // It has ended already: the acknowledgement came twice.
            Ok(None) => return Ok(()),
            Err(error) => {
                tracing::warn!(agency = end.agency, %error, "acknowledgement refused");
                return Ok(());
            }
        };
        match self.commit(vec![fact], Class::Essential, |()| {}) {
            Err(Fatal::Journal(CommitError::DiskFull)) => {
                tracing::error!("the disk is full, its reserve too; the entry stays in the queue");
                self.squeeze_ms.get_or_insert(now_ms);
                if matches!(end.how, How::Withheld { .. }) {
                    self.leavers.seek_again(now_ms.saturating_add(SQUEEZE_EVERY_MS));
                }
                Ok(())
            }
            committed => {
                shared.metrics.ended(&end.how);
                committed
            }
        }
    }

    /// Plans one group of submissions and hands it to the journal.
    fn submit(
        &mut self,
        submissions: Vec<Submitted>,
        directory: &Directory,
        now_ms: u64,
    ) -> Result<(), Fatal> {
        let shared = Arc::clone(&self.shared);
        let speaker = shared.speaker_under(directory);
        let (mut shares, mut waiting, mut refusals) = (Vec::new(), Vec::new(), Vec::new());
        let planned = {
            let (ledger, mut entropy) = (shared.ledger(), lintas_config::os_entropy());
            let mut plan = Plan::new(&ledger, &speaker, directory, now_ms, &mut self.quota);
            for Submitted { verified, answer, share } in submissions {
                let agency = verified.header().core().originator.agency.clone();
                let full = verified.refuse(Reason::DiskFull, DISK_FULL);
                let verdict = plan.submit(verified, |blob| shared.blobs.has(&agency, blob), &mut entropy);
                if matches!(verdict, Verdict::Twin(_) | Verdict::Known(_)) {
                    shared.metrics.duplicates.add(1);
                }
                match verdict {
                    Verdict::Admitted(index) | Verdict::Twin(index) => waiting.push((index, full, answer)),
                    Verdict::Known(admission) => answer_again(&self.runtime, &shared, admission, answer),
                    Verdict::Refused(refused) => refusals.push((refused, answer)),
                }
                shares.push(share);
            }
            plan.finish()
        };
        for (refused, answer) in refusals {
            log_refusal(&refused);
            shared.refuse(answer, &refused, now_ms);
        }
        if waiting.is_empty() {
            return Ok(());
        }
        let Sealed { facts, receipts } = planned.seal(&shared.receipt_key)?;
        let waiting = Arc::new(Mutex::new(waiting));
        let answers = Arc::clone(&waiting);
        let (admitted, counted) = (receipts.len(), Arc::clone(&shared));
        let answer_all = move |()| {
            counted.metrics.accepted.add(admitted as u64);
            for (index, _, answer) in std::mem::take(&mut *lock(&answers)) {
                let receipt: Bytes = receipts.get(index).cloned().unwrap_or_default();
                answer.send(FrameType::Receipt, receipt);
            }
        };
        match self.commit(facts, Class::Ordinary, answer_all) {
            Err(Fatal::Journal(CommitError::DiskFull)) => {
                tracing::error!("the disk is full; packets are refused, deliveries go on");
                self.squeeze_ms.get_or_insert(now_ms);
                for (_, full, answer) in std::mem::take(&mut *lock(&waiting)) {
                    shared.refuse(answer, &full, now_ms);
                }
                Ok(())
            }
            committed => committed,
        }
    }

    /// Hands one group to the journal and folds it in. `then` runs on the committer's thread when the group is
    /// durable; it must not lock the ledger.
    fn commit(
        &mut self,
        facts: Vec<Fact>,
        class: Class,
        then: impl FnOnce(()) + Send + 'static,
    ) -> Result<(), Fatal> {
        let records: Vec<NewRecord> = facts.iter().map(Fact::to_record).collect();
        let agencies: BTreeSet<String> = facts.iter().flat_map(Fact::agencies).map(str::to_owned).collect();
        let (shared, index, ringing) = (Arc::clone(&self.shared), Arc::clone(&self.index), agencies.clone());
        let done = move |committed| {
            if publish(&shared, &index, committed) {
                then(());
                shared.ring(&ringing);
            }
        };
        let first = self.journal.commit(records, class, Box::new(done))?;
        {
            let mut ledger = self.shared.ledger_mut();
            for (sequence, fact) in (first..).zip(&facts) {
                if let Some(ended) = ledger.apply(sequence, fact)? {
                    self.spent_bytes = self.spent_bytes.saturating_add(ended.bytes);
                    self.ended.push_back((sequence, ended));
                }
                self.last_sequence = sequence;
            }
        }
        self.shared.metrics.handed_over(self.last_sequence);
        for (agency, blob) in facts.iter().flat_map(Fact::blobs) {
            self.shared.blobs.name(agency, &blob);
        }
        // The group may have been durable before it was folded in: then nobody saw the new entries.
        if *self.shared.durable.borrow() >= self.last_sequence {
            self.shared.ring(&agencies);
        }
        Ok(())
    }

    /// Removes attachments of packets whose end is durable, unless another packet names them by now.
    fn remove_blobs(&mut self) {
        let durable = *self.shared.durable.borrow();
        while self.ended.front().is_some_and(|(sequence, _)| *sequence <= durable) {
            let Some((_, ended)) = self.ended.pop_front() else { return };
            for blob in &ended.blobs {
                if !self.shared.ledger().names_blob(&ended.originator, blob) {
                    self.shared.blobs.remove(&ended.originator, blob);
                }
            }
        }
    }

    /// Lets old segments go when enough of them is spent, or when the journal was full and anything is.
    fn compact(&mut self, now_ms: u64) -> Result<(), Fatal> {
        let squeeze = self.squeeze_ms.is_some_and(|at| at <= now_ms) && self.spent_bytes > 0;
        if self.spent_bytes < COMPACT_AFTER_BYTES && !squeeze {
            return Ok(());
        }
        self.spent_bytes = 0;
        self.squeeze_ms = self.squeeze_ms.map(|_| now_ms.saturating_add(SQUEEZE_EVERY_MS));
        let (snapshot, spent) = {
            let ledger = self.shared.ledger();
            (snapshot::encode(&ledger), ledger.spent().clone())
        };
        let live = Box::new(move |sequence| !spent.contains(sequence));
        match self.journal.compact(Compaction { covers: self.last_sequence, snapshot, live }) {
            Ok(CompactReport { segments, segments_freed, records_carried, snapshot_bytes }) => {
                tracing::info!(
                    segments,
                    segments_freed,
                    records_carried,
                    snapshot_bytes,
                    "journal compacted"
                );
            }
            Err(error @ (CommitError::Poisoned | CommitError::Closed)) => return Err(error.into()),
            Err(error) => tracing::warn!(%error, "journal not compacted; tried again later"),
        }
        Ok(())
    }
}

/// The same packet again: the same receipt, byte for byte, as soon as its record is durable.
fn answer_again(runtime: &Handle, shared: &Arc<Shared>, admission: u64, answer: AnswerTo) {
    let shared = Arc::clone(shared);
    runtime.spawn(async move {
        let mut durable = shared.durable.subscribe();
        if durable.wait_for(|durable| *durable >= admission).await.is_err() {
            return;
        }
        match tokio::task::block_in_place(|| shared.admission(admission)) {
            Ok(stored) => answer.send(FrameType::Receipt, stored.receipt),
            Err(error) => shared.fail(&error),
        }
    });
}

/// Tells how far the journal is durable; false if it failed.
fn publish(shared: &Shared, index: &Index, committed: Result<Committed, CommitError>) -> bool {
    match committed {
        Ok(Committed { first_sequence, last_sequence }) => {
            shared.metrics.group(last_sequence.saturating_sub(first_sequence).saturating_add(1));
            index.stamp(last_sequence);
            shared.durable.send_replace(last_sequence);
            true
        }
        Err(error) => {
            shared.fail(&error);
            false
        }
    }
}

/// Text of a refusal is the broker's own; what it quotes was checked.
fn log_refusal(refused: &Refused) {
    let id = refused.packet.map(|id| id.to_string()).unwrap_or_default();
    if refused.reason == Reason::Replay {
        tracing::warn!(packet = id, "a packet id came again with other content");
    } else {
        tracing::debug!(packet = id, reason = refused.reason.as_str_name(), "packet refused");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
