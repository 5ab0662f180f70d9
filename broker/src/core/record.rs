//! The records of a broker's journal. Kinds are stable; a retired one is never used again.
//!
//! | kind | name | payload |
//! |---|---|---|
//! | 1 | PACKET | canonical `Submission`, as it came |
//! | 2 | ADMISSION | `StoredAdmission`; the packet is the record just before |
//! | 3 | OUTCOME | `StoredOutcome` |
//! | 4 | TAKEN | `StoredTaken` |

use bytes::Bytes;
use lintas_journal::{NewRecord, Record};
use lintas_proto::{
    canonical::{self, DecodeError},
    id::Digest,
    limits,
    schema::{StoredAdmission, StoredOutcome, StoredTaken},
};
use thiserror::Error;

const PACKET: u16 = 1;
const ADMISSION: u16 = 2;
const OUTCOME: u16 = 3;
const TAKEN: u16 = 4;

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
            Self::Admission(admission) => (ADMISSION, canonical::encode(admission)),
            Self::Outcome(outcome) => (OUTCOME, canonical::encode(outcome)),
            Self::Taken(taken) => (TAKEN, canonical::encode(taken)),
        };
        NewRecord { kind, payload }
    }

    /// Agencies whose queues it changes.
    pub fn agencies(&self) -> impl Iterator<Item = &str> {
        let (units, events, taken) = match self {
            Self::Packet(_) => (None, None, None),
            Self::Admission(admission) => (Some(&admission.recipients), None, None),
            Self::Outcome(outcome) => (None, Some(&outcome.events), None),
            Self::Taken(taken) => (None, None, Some(taken.agency.as_str())),
        };
        let units = units.into_iter().flatten().filter_map(|recipient| recipient.unit.as_ref());
        let events = events.into_iter().flatten().map(|event| event.agency.as_str());
        units.map(|unit| unit.agency.as_str()).chain(events).chain(taken)
    }

    /// Attachments that it names, with the agency that uploaded them.
    pub fn blobs(&self) -> impl Iterator<Item = (&str, Digest)> {
        let admission = match self {
            Self::Admission(admission) => admission.originator.as_ref().zip(Some(&admission.blobs)),
            Self::Packet(_) | Self::Outcome(_) | Self::Taken(_) => None,
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
        let decode = |error| RecordError::Decode { sequence, error };
        Ok(match record.kind {
            PACKET => Self::Packet(payload.clone()),
            ADMISSION => Self::Admission(canonical::decode(payload, RECORD_BYTES_MAX).map_err(decode)?),
            OUTCOME => Self::Outcome(canonical::decode(payload, RECORD_BYTES_MAX).map_err(decode)?),
            TAKEN => Self::Taken(canonical::decode(payload, RECORD_BYTES_MAX).map_err(decode)?),
            kind => return Err(RecordError::Kind { sequence, kind }),
        })
    }
}
