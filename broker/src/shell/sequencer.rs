//! The sequencer: one thread that gives every accepted packet its place. It drains what the sessions have
//! verified, plans one group, and hands it to the journal; answers go out when the group is durable. While one
//! group is being synced, the next one is planned.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use lintas_journal::{Class, CommitError, CommitHandle, Committed, Compaction, FileDisk};
use lintas_proto::{
    audit::group::GroupError,
    canonical,
    frame::FrameType,
    schema::{Reason, StoredTaken},
};
use thiserror::Error;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, mpsc},
};

use super::{clock, index::Index, shared::Shared};
use crate::core::{
    admit::Verified,
    ledger::{Held, Ledger},
    outcome::{self, Acknowledged, OutcomeError, Subject},
    plan::{Plan, Verdict},
    record::{Fact, RecordError},
    refuse::{Refused, Speaker},
    snapshot,
};

/// Most intakes planned into one group.
const BATCH_INTAKES_MAX: usize = 512;
/// Most bytes of packets planned into one group.
const BATCH_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Most expired entries ended in one round.
const EXPIRED_MAX: usize = 256;
/// How often the sequencer looks for expired entries, milliseconds.
const TICK_MS: u64 = 1_000;
/// Packets that nobody needs, in bytes, after which old segments are compacted.
const COMPACT_AFTER_BYTES: u64 = 128 * 1024 * 1024;

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

/// Where an answer goes: the session's outbound channel, and the permit that kept a place in it.
#[derive(Debug)]
pub(crate) struct AnswerTo {
    pub(crate) sender: mpsc::Sender<(FrameType, Bytes)>,
    pub(crate) permit: OwnedSemaphorePermit,
}

impl AnswerTo {
    /// Never waits: the permit stands for a place in the channel.
    pub(crate) fn send(self, kind: FrameType, payload: Bytes) {
        // A session that has ended asks again when it is back, and gets the same answer.
        let _ = self.sender.try_send((kind, payload));
        drop(self.permit);
    }

    pub(crate) fn refuse(self, refused: &Refused, speaker: &Speaker<'_>, now_ms: u64) {
        self.send(FrameType::Refusal, canonical::encode(&refused.answer(speaker, now_ms)));
    }
}

/// What sessions hand over.
#[derive(Debug)]
pub(crate) enum Intake {
    /// A submission that passed the gates without state.
    Submit(Box<Verified>, AnswerTo),
    /// The end of an entry of the session's own queue.
    End(End),
    /// Finish what is there, then stop.
    Stop,
}

/// The sequencer's own state.
#[derive(Debug)]
pub(crate) struct Sequencer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) journal: CommitHandle<FileDisk>,
    pub(crate) index: Arc<Index>,
    pub(crate) intake: mpsc::Receiver<Intake>,
    pub(crate) runtime: Handle,
    /// Last record handed to the journal.
    pub(crate) last_sequence: u64,
    /// Packets that nobody needs since the last compaction, bytes.
    pub(crate) spent_bytes: u64,
}

impl Sequencer {
    /// Runs until [`Intake::Stop`], until every session is gone, or until the journal fails.
    pub(crate) fn run(mut self) {
        let runtime = self.runtime.clone();
        while let Some((batch, stop)) = runtime.block_on(self.next_batch()) {
            if let Err(error) = self.round(batch) {
                tracing::error!(%error, "the journal failed; the broker stops");
                self.shared.failed.send_replace(true);
                return;
            }
            if stop {
                return;
            }
        }
    }

    /// Waits for intakes, at most a tick, and drains what is there. None when every sender is gone.
    async fn next_batch(&mut self) -> Option<(Vec<Intake>, bool)> {
        let (mut batch, mut bytes, mut stop) = (Vec::new(), 0, false);
        let first = tokio::time::timeout(Duration::from_millis(TICK_MS), self.intake.recv()).await;
        let mut next = match first {
            Ok(None) => return None,
            Ok(Some(intake)) => Some(intake),
            Err(_) => None,
        };
        while let Some(intake) = next {
            match &intake {
                Intake::Stop => stop = true,
                Intake::Submit(verified, _) => bytes += verified.submission().len(),
                Intake::End(_) => {}
            }
            batch.push(intake);
            let full = stop || batch.len() >= BATCH_INTAKES_MAX || bytes >= BATCH_BYTES_MAX;
            next = if full { None } else { self.intake.try_recv().ok() };
        }
        Some((batch, stop))
    }

    /// One round: ends first, so that a full disk can drain; then submissions.
    fn round(&mut self, batch: Vec<Intake>) -> Result<(), Fatal> {
        let now_ms = clock::now_ms();
        let (mut submissions, mut ends) = (Vec::new(), Vec::new());
        for intake in batch {
            match intake {
                Intake::Submit(verified, answer) => submissions.push((verified, answer)),
                Intake::End(end) => ends.push(end),
                Intake::Stop => {}
            }
        }
        let over = self.shared.ledger().expired(now_ms, EXPIRED_MAX);
        let expired = |(agency, queue_sequence, _)| End { agency, queue_sequence, how: How::Expired };
        ends.extend(over.into_iter().map(expired));
        for end in ends {
            self.end(&end, now_ms)?;
        }
        if !submissions.is_empty() {
            self.submit(submissions, now_ms)?;
        }
        self.shared.ledger().forget(now_ms);
        self.compact()
    }

    /// Ends one queue entry. A group each; the committer joins what is pending into one write.
    fn end(&mut self, end: &End, now_ms: u64) -> Result<(), Fatal> {
        let shared = Arc::clone(&self.shared);
        let mut ledger = shared.ledger();
        let fact = match end.fact(&ledger, &shared, now_ms) {
            Ok(Some(fact)) => fact,
            // It has ended already: the acknowledgement came twice.
            Ok(None) => return Ok(()),
            Err(error) => {
                tracing::warn!(agency = end.agency, %error, "acknowledgement refused");
                return Ok(());
            }
        };
        let (of_done, index) = (Arc::clone(&shared), Arc::clone(&self.index));
        let done = move |committed| {
            publish(&of_done, &index, committed);
        };
        let sequence = match self.journal.commit(vec![fact.to_record()], Class::Essential, Box::new(done)) {
            Err(CommitError::DiskFull) => {
                tracing::error!("the disk is full, its reserve too; the entry stays in the queue");
                return Ok(());
            }
            committed => committed?,
        };
        self.last_sequence = sequence;
        let ended = ledger.apply(sequence, &fact)?;
        drop(ledger);
        if let Some(packet) = ended {
            self.spent_bytes += packet.bytes;
            packet.blobs.iter().for_each(|blob| shared.blobs.remove(&packet.originator.agency, blob));
        }
        Ok(())
    }

    /// Plans one group of submissions and hands it to the journal.
    fn submit(&mut self, submissions: Vec<(Box<Verified>, AnswerTo)>, now_ms: u64) -> Result<(), Fatal> {
        let shared = Arc::clone(&self.shared);
        let speaker = shared.speaker();
        let mut ledger = shared.ledger();
        let mut plan = Plan::new(&ledger, &speaker, now_ms);
        let mut entropy = lintas_config::os_entropy();
        let mut waiting = Vec::with_capacity(submissions.len());
        for (verified, answer) in submissions {
            let agency = verified.header().core().originator.agency.clone();
            let full = verified.refuse(Reason::DiskFull, DISK_FULL);
            match plan.submit(*verified, |blob| shared.blobs.has(&agency, blob), &mut entropy) {
                Verdict::Admitted(index) | Verdict::Twin(index) => waiting.push((index, full, answer)),
                Verdict::Known(admission) => self.answer_again(admission, answer),
                Verdict::Refused(refused) => answer.refuse(&refused, &speaker, now_ms),
            }
        }
        let (facts, receipts) = plan.seal()?;
        if facts.is_empty() {
            return Ok(());
        }
        let records = facts.iter().map(Fact::to_record).collect();
        let waiting = Arc::new(Mutex::new(waiting));
        let (of_done, index, answers) = (Arc::clone(&shared), Arc::clone(&self.index), Arc::clone(&waiting));
        let done = move |committed| {
            if publish(&of_done, &index, committed) {
                for (index, _, answer) in std::mem::take(&mut *lock(&answers)) {
                    answer.send(FrameType::Receipt, receipts.get(index).cloned().unwrap_or_default());
                }
            }
        };
        let first = match self.journal.commit(records, Class::Ordinary, Box::new(done)) {
            Err(CommitError::DiskFull) => {
                for (_, full, answer) in std::mem::take(&mut *lock(&waiting)) {
                    answer.refuse(&full, &speaker, now_ms);
                }
                return Ok(());
            }
            committed => committed?,
        };
        for (sequence, fact) in (first..).zip(&facts) {
            ledger.apply(sequence, fact)?;
            self.last_sequence = sequence;
        }
        Ok(())
    }

    /// The same packet again: the same receipt, byte for byte, as soon as its record is durable.
    fn answer_again(&self, admission: u64, answer: AnswerTo) {
        let shared = Arc::clone(&self.shared);
        self.runtime.spawn(async move {
            let mut durable = shared.durable.subscribe();
            if durable.wait_for(|durable| *durable >= admission).await.is_err() {
                return;
            }
            match shared.admission(admission) {
                Ok(stored) => answer.send(FrameType::Receipt, stored.receipt),
                Err(error) => tracing::error!(%error, "a receipt cannot be read again"),
            }
        });
    }

    /// Lets old segments go when enough of them is spent.
    fn compact(&mut self) -> Result<(), Fatal> {
        if self.spent_bytes < COMPACT_AFTER_BYTES {
            return Ok(());
        }
        self.spent_bytes = 0;
        let (snapshot, spent) = {
            let ledger = self.shared.ledger();
            (snapshot::encode(&ledger), ledger.spent())
        };
        let live = Box::new(move |sequence| !spent.contains(sequence));
        match self.journal.compact(Compaction { covers: self.last_sequence, snapshot, live }) {
            Ok(report) => tracing::info!(?report, "journal compacted"),
            Err(error @ (CommitError::Poisoned | CommitError::Closed)) => return Err(error.into()),
            Err(error) => tracing::warn!(%error, "journal not compacted; tried again later"),
        }
        Ok(())
    }
}

/// What the sender of a packet is told when the journal has no room.
const DISK_FULL: &str = "The broker's disk is full; nothing was stored. The packet is tried again by itself; tell the region's operator.";

/// Tells everybody how far the journal is durable; false if it failed.
fn publish(shared: &Shared, index: &Index, committed: Result<Committed, CommitError>) -> bool {
    match committed {
        Ok(Committed { last_sequence, .. }) => {
            index.stamp(last_sequence);
            shared.durable.send_replace(last_sequence);
            true
        }
        Err(error) => {
            tracing::error!(%error, "a group did not become durable; nobody is answered");
            shared.failed.send_replace(true);
            false
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The end of one queue entry.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) agency: String,
    pub(crate) queue_sequence: u64,
    pub(crate) how: How,
}

/// How a queue entry ends.
#[derive(Debug)]
pub(crate) enum How {
    /// The recipient's evidence came.
    Acknowledged(Box<Acknowledged>),
    /// The originator has the evidence that the entry held.
    Taken,
    /// The packet's time is over.
    Expired,
}

impl End {
    /// The record of this end; none when the entry has ended already.
    fn fact(&self, ledger: &Ledger, shared: &Shared, now_ms: u64) -> Result<Option<Fact>, OutcomeError> {
        let queue_sequence = self.queue_sequence;
        let misfit = OutcomeError::Misfit(queue_sequence);
        let Some(entry) = ledger.queue(&self.agency).and_then(|queue| queue.get(queue_sequence)) else {
            return Ok(None);
        };
        let subject = match entry.held {
            Held::Evidence { .. } => None,
            Held::Packet { admission, recipient_index } => {
                let packet = ledger.packet(admission).ok_or(misfit.clone())?;
                let unit = usize::try_from(recipient_index).ok().and_then(|at| packet.recipients.get(at));
                Some(Subject {
                    agency: self.agency.clone(),
                    queue_sequence,
                    unit: unit.cloned().ok_or(misfit.clone())?,
                    packet_id: packet.packet_id,
                    digest: packet.digest,
                    originator: packet.originator.clone(),
                })
            }
        };
        let (speaker, mut entropy) = (shared.speaker(), lintas_config::os_entropy());
        match (&self.how, subject) {
            (How::Taken, None) => {
                let agency = self.agency.clone();
                Ok(Some(Fact::Taken(StoredTaken { agency, queue_sequence })))
            }
            (How::Acknowledged(acknowledged), Some(subject)) => acknowledged
                .end(&subject, ledger, &speaker, now_ms, &mut entropy)
                .map(Fact::Outcome)
                .map(Some),
            (How::Expired, Some(subject)) => {
                outcome::expire(&subject, ledger, &speaker, now_ms, &mut entropy).map(Fact::Outcome).map(Some)
            }
            (How::Taken, Some(_)) | (How::Acknowledged(_) | How::Expired, None) => Err(misfit),
        }
    }
}
