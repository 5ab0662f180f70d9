//! What can go wrong, one type per operation.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use thiserror::Error;

/// Limits that contradict each other. The fault is the caller's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LimitsError {
    /// Offsets inside a segment are 32 bits wide and a segment is read as a whole.
    #[error("segment_bytes of {bytes} is beyond the maximum of {max}", max = crate::limits::SEGMENT_BYTES_MAX)]
    SegmentTooLong {
        /// What was asked for, in bytes.
        bytes: u32,
    },
    /// A segment must hold at least two of the longest groups.
    #[error("segment_bytes of {bytes} does not hold two groups of {group} bytes")]
    SegmentTooShort {
        /// The segment, in bytes.
        bytes: u32,
        /// The longest group, in bytes.
        group: u32,
    },
    /// The longest record must fit a group.
    #[error("a group with the longest record takes {need} bytes, group_bytes_max is {group}")]
    RecordBeyondGroup {
        /// What the longest record needs, in bytes.
        need: u64,
        /// The longest group, in bytes.
        group: u32,
    },
    /// This limit must not be zero.
    #[error("{name} must not be zero")]
    Zero {
        /// The limit.
        name: &'static str,
    },
}

/// The owner's refusal of a snapshot or a record while the journal opens.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct FoldError(Box<dyn StdError + Send + Sync>);

impl FoldError {
    /// Wraps any error, or a text.
    pub fn new(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

/// Why a journal did not open. Nothing was published; except for [`OpenError::Io`] nothing was changed.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The limits contradict each other (fault: caller).
    #[error(transparent)]
    Limits(#[from] LimitsError),
    /// Another process, or another part of this one, has the directory open.
    #[error("the journal is already open elsewhere")]
    Locked,
    /// The disk refused an operation.
    #[error("cannot {doing}")]
    Io {
        /// What the journal was doing.
        doing: &'static str,
        /// The answer of the operating system.
        #[source]
        source: io::Error,
    },
    /// There is no room for the one segment that recovery needs.
    #[error("the disk has no room for one more segment of {bytes} bytes; free space and open again")]
    DiskFull {
        /// What is needed, in bytes.
        bytes: u32,
    },
    /// Acknowledged records are damaged or missing.
    #[error(transparent)]
    Damaged(#[from] Box<Damage>),
    /// Somebody saw a later position as durable than the journal now reaches.
    #[error(
        "the journal ends at record {last} but record {anchor} was durable; records {first} to {anchor} are missing{cut}; \
         nothing was changed: restore the directory from a copy that holds them",
        first = last.saturating_add(1),
        cut = cut.as_ref().map(|cut| format!(" ({cut})")).unwrap_or_default(),
    )]
    ShortOfAnchor {
        /// The highest sequence that was durable.
        anchor: u64,
        /// The highest sequence that is there; 0 for none.
        last: u64,
        /// The tail that does not hold a valid group, if there is one.
        cut: Option<Cut>,
    },
    /// The owner refused its snapshot (`sequence` is `None`) or a record.
    #[error("the owner refused {}", sequence.map_or("its snapshot".to_owned(), |n| format!("record {n}")))]
    Fold {
        /// The record, or `None` for the snapshot.
        sequence: Option<u64>,
        /// The owner's reason.
        #[source]
        source: FoldError,
    },
}

/// Why a group or a compaction was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CommitError {
    /// A group without records (fault: caller).
    #[error("a group needs at least one record")]
    Empty,
    /// Kinds from 0xFF00 belong to the journal (fault: caller).
    #[error("kind {kind:#06x} is reserved")]
    ReservedKind {
        /// The kind.
        kind: u16,
    },
    /// The payload is longer than `record_bytes_max` (fault: caller).
    #[error("a record of {bytes} bytes is beyond the limit of {max}")]
    RecordTooLarge {
        /// The payload, in bytes.
        bytes: u64,
        /// The limit, in bytes.
        max: u64,
    },
    /// The group has too many records or bytes (fault: caller).
    #[error(
        "a group of {records} records and {bytes} bytes is beyond the limit of {records_max} and {bytes_max}"
    )]
    GroupTooLarge {
        /// Records in the group.
        records: u64,
        /// The encoded group, in bytes.
        bytes: u64,
        /// Limit, in records.
        records_max: u64,
        /// Limit, in bytes.
        bytes_max: u64,
    },
    /// No room for this group. It has no sequence and left no trace; the journal goes on, and the same
    /// group is accepted as soon as there is room.
    #[error("the disk is full")]
    DiskFull,
    /// A write or an fsync failed earlier: what reached the disk is uncertain. Stop the process.
    #[error("a write to the journal failed; what it holds is uncertain until it is opened again")]
    Poisoned,
    /// The journal was closed.
    #[error("the journal is closed")]
    Closed,
    /// `covers` goes backwards, or beyond what is durable (fault: caller).
    #[error("a snapshot cannot cover up to {covers}: {lowest} to {highest} is possible")]
    Covers {
        /// What was asked for.
        covers: u64,
        /// What the newest snapshot covers.
        lowest: u64,
        /// The last durable sequence.
        highest: u64,
    },
    /// The snapshot is longer than `snapshot_bytes_max` (fault: caller).
    #[error("a snapshot of {bytes} bytes is beyond the limit of {max}")]
    SnapshotTooLarge {
        /// The snapshot, in bytes.
        bytes: u64,
        /// The limit, in bytes.
        max: u64,
    },
    /// A live record cannot be read, so that its segment must stay. Nothing was written.
    #[error("live record {sequence} cannot be carried forward: {reason}")]
    Unreadable {
        /// The record.
        sequence: u64,
        /// The text of the [`ReadError`].
        reason: String,
    },
}

/// Why a record cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// Never durable here, or dead and gone with its segment.
    #[error("record {sequence} is not in the journal")]
    NotFound {
        /// The record.
        sequence: u64,
    },
    /// The journal that this reader belongs to is gone; its files may be somebody else's by now.
    #[error("the journal is closed")]
    Closed,
    /// The bytes on the disk are not what was written.
    #[error(transparent)]
    Damaged(#[from] Box<Damage>),
    /// The disk refused to read.
    #[error("cannot read record {sequence}")]
    Io {
        /// The record.
        sequence: u64,
        /// The answer of the operating system.
        #[source]
        source: io::Error,
    },
}

/// Acknowledged bytes that are not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Number of the segment; 0 if its header cannot tell.
    pub segment: u64,
    /// Number of the file that holds it; `None` if no file does.
    pub file: Option<u64>,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// The first record that is affected, as far as it can be told.
    pub sequence: Option<u64>,
    /// What is wrong.
    pub field: Field,
    /// Why this cannot be an unfinished write.
    pub evidence: Evidence,
}

impl StdError for Damage {}

impl fmt::Display for Damage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.file {
            Some(file) => {
                write!(out, "segment {} (file {file}) is damaged at offset {}", self.segment, self.offset)?
            }
            None => write!(out, "segment {} is missing", self.segment)?,
        }
        write!(out, ": {} is wrong; {}", self.field, self.evidence)?;
        match self.sequence {
            Some(sequence) => write!(out, "; affected: acknowledged records from {sequence} on")?,
            None => write!(out, "; affected: which records cannot be told")?,
        }
        write!(
            out,
            "; nothing was changed: restore this file from a copy, or set the directory aside and rebuild it"
        )
    }
}

/// Why damage is not just the torn end of the last write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// A group at this offset was written after the damaged place was durable.
    LaterGroup {
        /// Offset of the later group in the same segment.
        offset: u64,
    },
    /// This segment was begun after the damaged one was complete and durable.
    LaterSegment {
        /// The later segment.
        number: u64,
    },
    /// The newest snapshot, which this segment ends, says what must be there.
    Snapshot {
        /// The segment that ends the snapshot.
        segment: u64,
    },
    /// The segment that this one replaced was overwritten, and that happens only once this one is durable.
    Replaced {
        /// The segment that is gone.
        segment: u64,
    },
    /// Bytes follow a segment header, and those are written only once the header is durable.
    BytesFollow,
    /// The header is whole, but of a format that this code does not read.
    OtherVersion,
    /// The record was acknowledged.
    Acknowledged,
}

impl fmt::Display for Evidence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LaterGroup { offset } => {
                write!(out, "a group at offset {offset} was written after this was durable")
            }
            Self::LaterSegment { number } => write!(out, "segment {number} was begun after this was durable"),
            Self::Snapshot { segment } => {
                write!(out, "the snapshot that ends in segment {segment} relies on it")
            }
            Self::Replaced { segment } => {
                write!(out, "segment {segment}, which it replaced, was overwritten after this was durable")
            }
            Self::BytesFollow => write!(out, "bytes follow that were written after the header was durable"),
            Self::OtherVersion => write!(out, "another version of this software wrote it and can open it"),
            Self::Acknowledged => write!(out, "the record was acknowledged"),
        }
    }
}

/// What the last, unfinished write left behind and recovery did not take over. None of it was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// The segment, as it was numbered when it was written.
    pub segment: u64,
    /// Where the cut is, in bytes.
    pub offset: u64,
    /// From the cut to the last byte that is not zero, in bytes.
    pub bytes: u64,
    /// Sequence of the first record that is cut. It will be given out again.
    pub first_sequence: u64,
    /// Records of the first cut group, if its header can still be read.
    pub records: Option<u32>,
    /// What was wrong at the cut.
    pub field: Field,
}

impl fmt::Display for Cut {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segment, offset, bytes, first_sequence, field, .. } = self;
        write!(
            out,
            "an unfinished write of {bytes} bytes at offset {offset} of segment {segment}, from record {first_sequence} on: {field}"
        )
    }
}

/// The part of a header, a group or a record that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Field {
    /// The file is too short for a segment header.
    #[error("the length of the segment header")]
    SegmentLength,
    /// Bytes 0 to 8 of the file.
    #[error("the magic of the segment header")]
    SegmentMagic,
    /// The format version is not one that this code reads.
    #[error("the format version of the segment header")]
    SegmentVersion,
    /// Some field of the segment header.
    #[error("the checksum of the segment header")]
    SegmentChecksum,
    /// A link of the segment header does not point backwards, or to the wrong segment.
    #[error("a link of the segment header")]
    SegmentNumber,
    /// Two files hold the same segment.
    #[error("the number of the segment, which another file holds as well,")]
    SegmentTwice,
    /// The first sequence of a segment does not continue the one before it.
    #[error("the first sequence of the segment")]
    SegmentFirstSequence,
    /// The groups of a segment do not end where its successor says.
    #[error("the end of the segment")]
    SegmentEnd,
    /// The last group of a segment is not the one that its successor names.
    #[error("the hash of the last group of the segment")]
    SegmentEndHash,
    /// The segment replaces another, and the mark that it is complete is not there.
    #[error("the end of the segment, which lacks the mark of its move,")]
    SegmentUnmarked,
    /// No file holds the segment.
    #[error("the whole segment")]
    SegmentMissing,
    /// The first eight bytes of a group.
    #[error("the magic of a group header")]
    GroupMagic,
    /// The group belongs to another segment (an earlier use of the file).
    #[error("the segment number of a group header")]
    GroupSegment,
    /// The group is not the next one of its segment.
    #[error("the number of a group header")]
    GroupNumber,
    /// The group was written for another place.
    #[error("the offset of a group header")]
    GroupOffset,
    /// The `synced` offset lies behind the group.
    #[error("the synced offset of a group header")]
    GroupSynced,
    /// A length reaches beyond the end.
    #[error("the length of a group")]
    GroupLength,
    /// The group holds more or fewer records than it says.
    #[error("the record count of a group")]
    GroupRecords,
    /// Unknown contents.
    #[error("the contents field of a group header")]
    GroupContents,
    /// The group does not continue the sequence.
    #[error("the first sequence of a group header")]
    GroupFirstSequence,
    /// The group does not follow the group before it.
    #[error("the previous hash of a group header")]
    GroupPreviousHash,
    /// Some field of the group header.
    #[error("the checksum of a group header")]
    GroupChecksum,
    /// Bytes between the records and the next group.
    #[error("the padding of a group")]
    GroupPadding,
    /// A record reaches beyond its group.
    #[error("the length of a record")]
    RecordLength,
    /// The record has another sequence than its place dictates.
    #[error("the sequence of a record")]
    RecordSequence,
    /// Some byte of the record.
    #[error("the checksum of a record")]
    RecordChecksum,
    /// The index at the end of a segment is none, or does not say what stands there.
    #[error("the index of the segment")]
    SegmentIndex,
    /// The last record of a snapshot.
    #[error("the closing record of the snapshot")]
    SnapshotEnd,
    /// A part of the snapshot is missing, or they are not what was written.
    #[error("the content of the snapshot")]
    SnapshotParts,
}
