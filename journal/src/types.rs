//! What the owner hands in and gets back.

use std::fmt;

use bytes::Bytes;

use crate::error::{Cut, FoldError};

/// One record as the owner writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRecord {
    /// The owner's tag; 0xFF00 to 0xFFFF are the journal's.
    pub kind: u16,
    /// At most `record_bytes_max` bytes.
    pub payload: Bytes,
    /// What [`Fold::replay_brief`] needs of it, which opening then reads in its place. Without one, or with one that is
    /// longer than the payload, the record itself is read.
    pub brief: Option<Bytes>,
}

impl NewRecord {
    /// The brief, if it is worth being kept.
    pub(crate) fn kept_brief(&self) -> Option<&[u8]> {
        self.brief.as_deref().filter(|brief| brief.len() <= self.payload.len())
    }
}

/// One record as it is read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// From 1, without gaps, never reused once durable; a record keeps it wherever it is moved.
    pub sequence: u64,
    /// The owner's tag.
    pub kind: u16,
    /// The owner's bytes.
    pub payload: Bytes,
}

/// Records that become durable together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// At least one.
    pub records: Vec<NewRecord>,
    /// What room they may take.
    pub class: Class,
}

/// What room a group may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Leaves the reserve segments alone.
    Ordinary,
    /// Acknowledgements, recalls, revocations, audit: may use the reserve, so that a full disk can drain.
    Essential,
}

/// The durable place of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Sequence of its first record.
    pub first_sequence: u64,
    /// Sequence of its last record.
    pub last_sequence: u64,
}

impl Committed {
    pub(crate) fn new(first_sequence: u64, records: usize) -> Self {
        let last_sequence = first_sequence.saturating_add(records as u64).saturating_sub(1);
        Self { first_sequence, last_sequence }
    }
}

/// The highest position that somebody saw as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// Sequence of the last durable record; 0 for none.
    pub sequence: u64,
}

/// The owner's state, rebuilt while the journal opens.
pub trait Fold {
    /// Takes the newest snapshot. Called at most once, before any record.
    ///
    /// # Errors
    /// The owner's reason why it is unusable; the journal then does not open.
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), FoldError>;

    /// Takes one record beyond the snapshot. Called once for each, in ascending order without gaps; carried
    /// records are never among them. Whoever keeps a part of the payload keeps its whole segment in memory, unless it is
    /// copied.
    ///
    /// # Errors
    /// The owner's reason why it is unusable; the journal then does not open.
    fn replay(&mut self, record: &Record) -> Result<(), FoldError>;

    /// As [`replay`](Self::replay), of a record in a sealed segment, by its brief.
    ///
    /// # Errors
    /// The owner's reason why it is unusable; the journal then does not open.
    fn replay_brief(&mut self, sequence: u64, kind: u16, brief: &[u8]) -> Result<(), FoldError> {
        let _ = (sequence, kind, brief);
        Err(FoldError::new("this version makes no briefs; another one wrote it"))
    }

    /// The brief of a record that was just replayed; what is in no sealed segment yet is written again with it.
    fn brief(&mut self, record: &Record) -> Option<Bytes> {
        let _ = record;
        None
    }
}

/// Whether the owner still needs the record with this sequence.
pub type Live = Box<dyn Fn(u64) -> bool + Send>;

/// A request to make room.
pub struct Compaction {
    /// The snapshot stands for all records up to this sequence: at least that of the snapshot before, at most
    /// the last durable one.
    pub covers: u64,
    /// The owner's state, at most `snapshot_bytes_max` bytes.
    pub snapshot: Vec<u8>,
    /// Asked, on the thread that compacts, for records up to `covers` only.
    pub live: Live,
    /// Records up to this sequence that are not live are to be overwritten, whatever it costs: a segment that holds one
    /// goes even if most of it is live, as far as one compaction may carry. 0 for none.
    pub must_go: u64,
}

impl fmt::Debug for Compaction {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { covers, snapshot, live: _, must_go } = self;
        out.debug_struct("Compaction")
            .field("covers", covers)
            .field("snapshot_bytes", &snapshot.len())
            .field("must_go", must_go)
            .finish()
    }
}

/// What a compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactReport {
    /// Live segments afterwards, with the one being written.
    pub segments: u64,
    /// Segments that went.
    pub segments_freed: u64,
    /// Live records that were carried out of them.
    pub records_carried: u64,
    /// Length of the owner's snapshot, in bytes.
    pub snapshot_bytes: u64,
    /// Segments that still hold a record that must go: ask again.
    pub must_go_left: u64,
}

/// What opening found and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenReport {
    /// Live segments, with the one being written.
    pub segments: u64,
    /// Records in the live segments, without carried copies.
    pub records: u64,
    /// Records handed to [`Fold::replay`].
    pub replayed: u64,
    /// What the snapshot handed to [`Fold::restore`] covers; `None` if there was none.
    pub snapshot_covers: Option<u64>,
    /// The unfinished write that was cut off, if there was one.
    pub cut: Option<Cut>,
    /// The journal had been closed, and nothing came after that.
    pub clean_close: bool,
    /// Bytes of groups written again to a fresh segment.
    pub rewritten_bytes: u64,
    /// Files whose content was not live and was overwritten.
    pub overwritten_files: u64,
    /// The sequence that the next record will get.
    pub next_sequence: u64,
}
