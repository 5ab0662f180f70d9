//! The records of a broker's journal. Kinds are stable; a retired one is never used again.
//!
//! | kind | name | payload |
//! |---|---|---|
//! | 1 | PACKET | canonical `Submission`, as it came |
//! | 2 | ADMISSION | `StoredAdmission`, squeezed; the packet is the record just before |
//! | 3 | OUTCOME | `StoredOutcome` |
//! | 4 | TAKEN | `StoredTaken` |
//! | 5 | EPOCH | `StoredEpoch` |
//! | 6 | EVENTS | `StoredEvents` |
//! | 7 | SLOT_KEY | `StoredSlotKey` |
//! | 8 | MEMBERS | `StoredMembers` |
//! | 9 | ERASURE | `StoredErasure` |
//! | 10 | LOG_BEGUN | `StoredLogBegun` |

use bytes::Bytes;
use lintas_journal::{NewRecord, Record};
use lintas_proto::{
    canonical::{self, DecodeError},
    id::Digest,
    limits,
    schema::{
        StoredAdmission, StoredEpoch, StoredErasure, StoredEvents, StoredLogBegun, StoredMembers,
        StoredOutcome, StoredSlotKey, StoredTaken,
    },
};
use thiserror::Error;

use super::{
    brief::Brief,
    squeeze::{squeeze, unsqueeze},
};

pub(super) const PACKET: u16 = 1;
pub(super) const ADMISSION: u16 = 2;
pub(super) const OUTCOME: u16 = 3;
pub(super) const TAKEN: u16 = 4;
const EPOCH: u16 = 5;
const EVENTS: u16 = 6;
const SLOT_KEY: u16 = 7;
const MEMBERS: u16 = 8;
const ERASURE: u16 = 9;
const LOG_BEGUN: u16 = 10;

/// Longest record of a broker, bytes: a submission, or an admission with a receipt for each recipient.
pub const RECORD_BYTES_MAX: usize = limits::FRAME_BYTES_MAX;

/// What one record says.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// The bytes of a packet. Means nothing without the admission that follows.
    Packet(Bytes),
    /// A packet was accepted.
    Admission(StoredAdmission),
    /// A queue entry that held a packet has ended.
    Outcome(StoredOutcome),
    /// An originator has its evidence.
    Taken(StoredTaken),
    /// An epoch of the audit log has ended.
    Epoch(StoredEpoch),
    /// Audit events that change no queue.
    Events(StoredEvents),
    /// An agency's slots are salted with another key.
    SlotKey(StoredSlotKey),
    /// The slot tree has other members.
    Members(StoredMembers),
    /// Openings are to be forgotten.
    Erasure(StoredErasure),
    /// The log before has ended, and everything with it.
    LogBegun(StoredLogBegun),
}

/// A record that this version cannot read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecordError {
    /// Not canonical: written by something else, or a defect.
    #[error("record {sequence}: {error}")]
    Decode {
        /// Sequence of the record.
        sequence: u64,
        /// What is wrong.
        error: DecodeError,
    },
    /// An admission of which not even the message can be read.
    #[error("record {sequence} breaks off, or is squeezed otherwise; use the version that wrote it")]
    Squeezed {
        /// Sequence of the record.
        sequence: u64,
    },
    /// A kind that this version does not know.
    #[error(
        "record {sequence} is of kind {kind}, which this version does not know; use the version that wrote it"
    )]
    Kind {
        /// Sequence of the record.
        sequence: u64,
        /// Kind read.
        kind: u16,
    },
    /// A record that contradicts those before it.
    #[error("record {sequence} does not follow from the records before it: {what}")]
    Contradiction {
        /// Sequence of the record.
        sequence: u64,
        /// What does not fit.
        what: &'static str,
    },
}

impl Fact {
    /// The record to be written.
    #[must_use]
    pub fn to_record(&self) -> NewRecord {
        let (kind, payload) = match self {
            Self::Packet(submission) => (PACKET, submission.clone()),
            Self::Admission(admission) => (ADMISSION, squeeze(&canonical::encode(admission)).into()),
            Self::Outcome(outcome) => (OUTCOME, canonical::encode(outcome)),
            Self::Taken(taken) => (TAKEN, canonical::encode(taken)),
            Self::Epoch(epoch) => (EPOCH, canonical::encode(epoch)),
            Self::Events(events) => (EVENTS, canonical::encode(events)),
            Self::SlotKey(key) => (SLOT_KEY, canonical::encode(key)),
            Self::Members(members) => (MEMBERS, canonical::encode(members)),
            Self::Erasure(erasure) => (ERASURE, canonical::encode(erasure)),
            Self::LogBegun(begun) => (LOG_BEGUN, canonical::encode(begun)),
        };
        NewRecord { kind, payload, brief: self.brief() }
    }

    /// What the ledger folds of it, where that is less than all of it. What has none because something is wrong with it is
    /// refused by the ledger.
    #[must_use]
    pub fn brief(&self) -> Option<Bytes> {
        Brief::of(self).ok().flatten().map(|brief| brief.to_bytes())
    }

    /// Agencies whose queues it changes.
    pub fn agencies(&self) -> impl Iterator<Item = &str> {
        let (units, events, taken) = match self {
            Self::Packet(_) => (None, None, None),
            Self::Admission(admission) => (Some(&admission.recipients), None, None),
            Self::Outcome(outcome) => (None, Some(&outcome.events), None),
            Self::Taken(taken) => (None, None, Some(taken.agency.as_str())),
            Self::Epoch(_)
            | Self::Events(_)
            | Self::SlotKey(_)
            | Self::Members(_)
            | Self::Erasure(_)
            | Self::LogBegun(_) => (None, None, None),
        };
        let released = units.into_iter().flatten().filter(|recipient| !recipient.receipt.is_empty());
        let units = released.filter_map(|recipient| recipient.unit.as_ref());
        let events = events.into_iter().flatten().map(|event| event.agency.as_str());
        units.map(|unit| unit.agency.as_str()).chain(events).chain(taken)
    }

    /// Attachments that it names, with the agency that uploaded them.
    pub fn blobs(&self) -> impl Iterator<Item = (&str, Digest)> {
        let admission = match self {
            Self::Admission(admission) => admission.originator.as_ref().zip(Some(&admission.blobs)),
            Self::Packet(_)
            | Self::Outcome(_)
            | Self::Taken(_)
            | Self::Epoch(_)
            | Self::Events(_)
            | Self::SlotKey(_)
            | Self::Members(_)
            | Self::Erasure(_)
            | Self::LogBegun(_) => None,
        };
        admission.into_iter().flat_map(|(originator, blobs)| {
            let blobs = blobs.iter().filter_map(|blob| Digest::try_from(blob.as_ref()).ok());
            blobs.map(|blob| (originator.agency.as_str(), blob))
        })
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn from_record(record: &Record) -> Result<Self, RecordError> {
        let (sequence, payload) = (record.sequence, &record.payload);
        let max = RECORD_BYTES_MAX;
        let whole = match record.kind {
            ADMISSION => unsqueeze(payload, max).ok_or(RecordError::Squeezed { sequence })?,
            _ => Vec::new(),
        };
        let whole = Bytes::from(whole);
        let read = || -> Result<Option<Self>, DecodeError> {
            Ok(Some(match record.kind {
                PACKET => Self::Packet(payload.clone()),
                ADMISSION => Self::Admission(canonical::decode(&whole, max)?),
                OUTCOME => Self::Outcome(canonical::decode(payload, max)?),
                TAKEN => Self::Taken(canonical::decode(payload, max)?),
                EPOCH => Self::Epoch(canonical::decode(payload, max)?),
                EVENTS => Self::Events(canonical::decode(payload, max)?),
                SLOT_KEY => Self::SlotKey(canonical::decode(payload, max)?),
                MEMBERS => Self::Members(canonical::decode(payload, max)?),
                ERASURE => Self::Erasure(canonical::decode(payload, max)?),
                LOG_BEGUN => Self::LogBegun(canonical::decode(payload, max)?),
                _ => return Ok(None),
            }))
        };
        match read() {
            Ok(Some(fact)) => Ok(fact),
            Ok(None) => Err(RecordError::Kind { sequence, kind: record.kind }),
            Err(error) => Err(RecordError::Decode { sequence, error }),
        }
    }
}
