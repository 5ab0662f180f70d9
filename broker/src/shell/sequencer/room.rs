//! Room in the journal: when old segments go, and attachments with the packets that named them.

use lintas_journal::{CommitError, CompactReport, Compaction};

use super::{Fatal, Sequencer};
use crate::core::snapshot;

/// Spent records, in bytes, after which old segments are compacted. Tests are to get there.
const COMPACT_AFTER_BYTES: u64 = if cfg!(test) { 64 * 1024 } else { 128 * 1024 * 1024 };
/// The same when every queue is empty: a segment.
const COMPACT_AT_REST_BYTES: u64 = if cfg!(test) { 64 * 1024 } else { 64 * 1024 * 1024 };
/// About as long is a record that holds no packet, bytes.
const RECORD_BYTES: u64 = 2 * 1024;
/// On a full disk whatever can go is compacted, but not more often than this, milliseconds.
pub(super) const SQUEEZE_EVERY_MS: u64 = 10_000;
/// What was erased is overwritten at once, but not more often than this, milliseconds: it may move much of the journal.
const ERASE_EVERY_MS: u64 = 10 * 60 * 1_000;
/// Between two compactions for the same erasure, milliseconds: packets come in between.
const ERASE_MORE_MS: u64 = 1_000;

/// What is known of the room in the journal.
#[derive(Debug, Default)]
pub(in crate::shell) struct Room {
    /// Packets that nobody needs since the last compaction, bytes.
    spent_bytes: u64,
    /// Spent records at the last compaction.
    spent_records: u64,
    /// The journal was full; when to try again to make room.
    squeeze_ms: Option<u64>,
    /// Erasures up to this record are overwritten. Not kept: a start looks once more.
    overwritten: u64,
    /// When to look for erasures again.
    erase_ms: u64,
    /// Something went since it was last seen that at rest nothing more goes: records go when the log is published up to them,
    /// and one compaction carries so much only.
    may_settle: bool,
}

impl Room {
    /// After recovery: packets that ended since the snapshot, in bytes, and spent records in it.
    pub(in crate::shell) fn new(spent_bytes: u64, spent_records: u64) -> Self {
        Self { spent_bytes, spent_records, may_settle: true, ..Self::default() }
    }

    /// A packet has ended.
    pub(super) fn ended(&mut self, bytes: u64) {
        self.spent_bytes = self.spent_bytes.saturating_add(bytes);
    }

    /// The journal was full.
    pub(super) fn is_short(&mut self, now_ms: u64) {
        self.squeeze_ms.get_or_insert(now_ms);
    }

    /// About how many bytes nobody needs, when so many records are spent.
    fn bytes(&self, spent_records: u64) -> u64 {
        let records = spent_records.saturating_sub(self.spent_records);
        self.spent_bytes.saturating_add(records.saturating_mul(RECORD_BYTES))
    }
}

impl Sequencer {
    /// Removes attachments of packets whose end is durable, unless another packet names them by now.
    pub(super) fn remove_blobs(&mut self) {
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

    /// Lets old segments go: when enough of them is spent, when the journal was full and anything is, and when something
    /// was erased that the published log no longer needs.
    pub(super) fn compact(&mut self, now_ms: u64) -> Result<(), Fatal> {
        let published = self.shared.log.published.borrow().sequence;
        let (spent_records, erased, bytes, is_empty) = {
            let ledger = self.shared.ledger();
            let spent_records = ledger.spent().len();
            (spent_records, ledger.audit().erased(), self.room.bytes(spent_records), ledger.entries() == 0)
        };
        let enough = bytes >= COMPACT_AFTER_BYTES || (bytes >= COMPACT_AT_REST_BYTES && is_empty);
        let segments = self.journal.segments();
        let settle = self.room.may_settle && is_empty && published >= self.last_sequence && segments > 1;
        let squeeze = self.room.squeeze_ms.is_some_and(|at| at <= now_ms) && bytes > 0;
        let is_erased = erased > self.room.overwritten && erased <= published;
        let overwrite = is_erased && now_ms >= self.room.erase_ms;
        if !(enough || squeeze || overwrite || settle) {
            return Ok(());
        }
        (self.room.spent_bytes, self.room.spent_records) = (0, spent_records);
        self.room.squeeze_ms = self.room.squeeze_ms.map(|_| now_ms.saturating_add(SQUEEZE_EVERY_MS));
        let (snapshot, spent) = {
            let ledger = self.shared.ledger();
            (snapshot::encode(&ledger), ledger.spent().clone())
        };
        let live = Box::new(move |sequence| !spent.contains(sequence, published));
        let must_go = if is_erased { erased } else { 0 };
        let request = Compaction { covers: self.last_sequence, snapshot, live, must_go };
        let report = match self.journal.compact(request) {
            Ok(report) => said(report),
            Err(error @ (CommitError::Poisoned | CommitError::Closed)) => return Err(error.into()),
            Err(error) => {
                tracing::warn!(%error, "journal not compacted; tried again later");
                self.room.may_settle &= !settle;
                self.room.erase_ms = now_ms.saturating_add(SQUEEZE_EVERY_MS);
                return Ok(());
            }
        };
        self.room.may_settle = match settle {
            true => report.segments < segments,
            false => self.room.may_settle || enough || report.segments_freed > 0,
        };
        if is_erased && report.must_go_left == 0 {
            (self.room.overwritten, self.room.erase_ms) = (erased, now_ms.saturating_add(ERASE_EVERY_MS));
        } else if is_erased {
            // More soon. Where nothing could go there was no room to carry what stays.
            let pause_ms = if report.segments_freed == 0 { SQUEEZE_EVERY_MS } else { ERASE_MORE_MS };
            self.room.erase_ms = now_ms.saturating_add(pause_ms);
        }
        Ok(())
    }
}

fn said(report: CompactReport) -> CompactReport {
    let CompactReport { segments, segments_freed, records_carried, snapshot_bytes, must_go_left } = report;
    tracing::info!(
        segments,
        segments_freed,
        records_carried,
        snapshot_bytes,
        must_go_left,
        "journal compacted"
    );
    report
}
