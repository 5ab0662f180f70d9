//! Every bound of the journal, by name and unit.

use crate::error::LimitsError;
use crate::segment::{SEGMENT_HEADER_BYTES, TAIL_BYTES};

/// The bounds one journal runs under. They may differ from one opening to the next: nothing on disk depends
/// on them, except that a record already written is never refused for being larger than a newer limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Length of a new segment file, in bytes. At most [`SEGMENT_BYTES_MAX`].
    pub segment_bytes: u32,
    /// Longest payload of one record, in bytes.
    pub record_bytes_max: u32,
    /// Most records in one group, and most records the committer puts into one write.
    pub group_records_max: u32,
    /// Longest encoded group (header, frames, payloads), and most bytes the committer puts into one write
    /// (the last group may exceed it by its own length).
    pub group_bytes_max: u32,
    /// Most groups waiting for the committer; a caller beyond it waits.
    pub mailbox_groups_max: usize,
    /// Most encoded bytes waiting for the committer; a caller beyond it waits.
    pub mailbox_bytes_max: u64,
    /// Empty segments that only [`Class::Essential`](crate::Class::Essential) groups may use.
    pub reserve_segments: u32,
    /// Most segment files of every state together.
    pub segments_max: u32,
    /// Longest snapshot, in bytes.
    pub snapshot_bytes_max: u64,
    /// A segment is carried forward when at most this share of it is live, in percent.
    pub carry_live_percent_max: u32,
    /// Most live bytes that one compaction carries forward (they are held in memory while it runs).
    pub carry_bytes_max: u64,
}

/// Longest segment file that any limits may ask for, in bytes; also the longest that is ever read.
pub const SEGMENT_BYTES_MAX: u32 = 1 << 30;

/// Empty segments kept for the journal's own moves (recovery and compaction), so that a full disk can
/// neither keep it from opening nor from making room. Nobody else may use them.
pub(crate) const HOUSEKEEPING_SEGMENTS: u32 = 1;

/// Empty segments kept ready beyond the reserve, so that a rotation never waits for an allocation.
pub(crate) const NEXT_SEGMENTS: u32 = 1;

/// Bytes zeroed or copied with one write.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;

/// Threads that verify segments while the journal opens; each holds up to two segments in memory.
pub(crate) const VERIFY_THREADS_MAX: usize = 4;

/// Times a reader looks a record up again after it was moved under its hands.
pub(crate) const READ_ATTEMPTS_MAX: u32 = 16;

impl Default for Limits {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            record_bytes_max: 1 << 20,
            group_records_max: 2_000,
            group_bytes_max: 2 << 20,
            mailbox_groups_max: 4_096,
            mailbox_bytes_max: 16 << 20,
            reserve_segments: 2,
            segments_max: 16_384,
            snapshot_bytes_max: 1 << 30,
            carry_live_percent_max: 50,
            carry_bytes_max: 32 << 20,
        }
    }
}

impl Limits {
    /// Bytes that groups may take of a fresh segment.
    pub(crate) fn fresh_bytes(&self) -> u64 {
        u64::from(self.segment_bytes.saturating_sub(SEGMENT_HEADER_BYTES).saturating_sub(TAIL_BYTES))
    }

    /// Empty segments that the journal tries to have at hand.
    pub(crate) fn spare_target(&self) -> u64 {
        u64::from(self.reserve_segments) + u64::from(HOUSEKEEPING_SEGMENTS) + u64::from(NEXT_SEGMENTS)
    }

    /// Refuses limits that contradict each other.
    ///
    /// # Errors
    /// [`LimitsError`] names the first contradiction.
    pub(crate) fn check(&self) -> Result<(), LimitsError> {
        if self.segment_bytes > SEGMENT_BYTES_MAX {
            return Err(LimitsError::SegmentTooLong { bytes: self.segment_bytes });
        }
        if self.fresh_bytes() < u64::from(self.group_bytes_max) * 2 {
            return Err(LimitsError::SegmentTooShort {
                bytes: self.segment_bytes,
                group: self.group_bytes_max,
            });
        }
        let need = crate::group::encoded_bytes([u64::from(self.record_bytes_max)]);
        if need > u64::from(self.group_bytes_max) {
            return Err(LimitsError::RecordBeyondGroup { need, group: self.group_bytes_max });
        }
        let zero = [
            ("group_records_max", u64::from(self.group_records_max)),
            ("record_bytes_max", u64::from(self.record_bytes_max)),
            ("mailbox_groups_max", self.mailbox_groups_max as u64),
            ("mailbox_bytes_max", self.mailbox_bytes_max),
            ("segments_max", u64::from(self.segments_max)),
        ];
        match zero.into_iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => Err(LimitsError::Zero { name }),
            None => Ok(()),
        }
    }
}
