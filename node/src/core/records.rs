//! The records of the node's journal: kinds, encoding, decoding. Kinds are stable; a retired one is never used
//! again. Layouts stand in schema/lintas/v1/store.proto.
//!
//! | kind | record | written when |
//! |---|---|---|
//! | 1 | `StoredOutgoing` | a packet was sealed; before the user is told |
//! | 2 | `StoredReceipt` | the broker's receipt was verified |
//! | 3 | `StoredRefusal` | the broker refused for good |
//! | 4 | `StoredIncoming` | a delivery was opened; before it is acknowledged |
//! | 5 | `StoredEvidence` | evidence about our packet was verified; before it is acknowledged |
//! | 6 | `StoredRejection` | a delivery could not be verified or opened; before the failure is acknowledged |
//! | 7 | `StoredEvidence` | evidence about our packet could not be verified; before it is acknowledged |
//! | 8 | `StoredPurge` | packets are purged; before the pages of their keys are destroyed |
//! | 9 | `StoredConfirmation` | the first directory was believed, or an officer confirmed an agency; before anything is sent to it |
//! | 10 | `StoredInclusion` | events of this agency were found in the broker's log, and every proof holds |
//! | 11 | `StoredRootProof` | the epoch of such events was found in its root log; again, once a quorum has cosigned it |
//! | 12 | `StoredFinding` | the broker's log shows what it should not |
//! | 13 | `StoredReview` | a person decided about a packet that waited for review; together with what is released |

use bytes::Bytes;
use lintas_proto::{
    canonical::{self, DecodeError, WrongSize},
    envelope::core::CoreError,
    evidence::EvidenceError,
    id::IdError,
    limits,
    receipt::ReceiptError,
    schema::{
        StoredConfirmation, StoredEvidence, StoredFinding, StoredInclusion, StoredIncoming, StoredOutgoing,
        StoredPurge, StoredReceipt, StoredRefusal, StoredRejection, StoredReview, StoredRootProof,
    },
};
use thiserror::Error;

/// Longest record, bytes: a frame's payload, and what the node adds.
pub(crate) const RECORD_BYTES_MAX: usize = limits::FRAME_BYTES_MAX + 16 * 1024;

/// A record that cannot be read. The journal's checksums hold, so this is another version's, or a fault of ours.
#[derive(Debug, Error)]
pub(crate) enum RecordError {
    /// A kind that this version does not know.
    #[error("record kind {0} is unknown; a newer version wrote it")]
    Kind(u16),
    /// Not canonical.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A fixed-size field of another size.
    #[error(transparent)]
    Size(#[from] WrongSize),
    /// Not a packet id.
    #[error(transparent)]
    Id(#[from] IdError),
    /// Not a core.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// Not a receipt.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// Not evidence.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// A field that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
}

/// One record.
#[derive(Debug, Clone)]
pub(crate) enum Record {
    /// Kind 1.
    Outgoing(StoredOutgoing),
    /// Kind 2.
    Receipt(StoredReceipt),
    /// Kind 3.
    Refusal(StoredRefusal),
    /// Kind 4.
    Incoming(Box<StoredIncoming>),
    /// Kind 5.
    Evidence(StoredEvidence),
    /// Kind 6.
    Rejection(StoredRejection),
    /// Kind 7: not verified, believed by nobody.
    Doubted(StoredEvidence),
    /// Kind 8.
    Purge(StoredPurge),
    /// Kind 9.
    Confirmation(StoredConfirmation),
    /// Kind 10.
    Inclusion(StoredInclusion),
    /// Kind 11.
    RootProof(StoredRootProof),
    /// Kind 12.
    Finding(StoredFinding),
    /// Kind 13.
    Review(StoredReview),
}

impl Record {
    /// Kind and payload.
    pub(crate) fn encode(&self) -> (u16, Bytes) {
        match self {
            Self::Outgoing(stored) => (1, canonical::encode(stored)),
            Self::Receipt(stored) => (2, canonical::encode(stored)),
            Self::Refusal(stored) => (3, canonical::encode(stored)),
            Self::Incoming(stored) => (4, canonical::encode(stored.as_ref())),
            Self::Evidence(stored) => (5, canonical::encode(stored)),
            Self::Rejection(stored) => (6, canonical::encode(stored)),
            Self::Doubted(stored) => (7, canonical::encode(stored)),
            Self::Purge(stored) => (8, canonical::encode(stored)),
            Self::Confirmation(stored) => (9, canonical::encode(stored)),
            Self::Inclusion(stored) => (10, canonical::encode(stored)),
            Self::RootProof(stored) => (11, canonical::encode(stored)),
            Self::Finding(stored) => (12, canonical::encode(stored)),
            Self::Review(stored) => (13, canonical::encode(stored)),
        }
    }

    /// Reads a record.
    pub(crate) fn decode(kind: u16, payload: &Bytes) -> Result<Self, RecordError> {
        let max = RECORD_BYTES_MAX;
        Ok(match kind {
            1 => Self::Outgoing(canonical::decode(payload, max)?),
            2 => Self::Receipt(canonical::decode(payload, max)?),
            3 => Self::Refusal(canonical::decode(payload, max)?),
            4 => Self::Incoming(Box::new(canonical::decode(payload, max)?)),
            5 => Self::Evidence(canonical::decode(payload, max)?),
            6 => Self::Rejection(canonical::decode(payload, max)?),
            7 => Self::Doubted(canonical::decode(payload, max)?),
            8 => Self::Purge(canonical::decode(payload, max)?),
            9 => Self::Confirmation(canonical::decode(payload, max)?),
            10 => Self::Inclusion(canonical::decode(payload, max)?),
            11 => Self::RootProof(canonical::decode(payload, max)?),
            12 => Self::Finding(canonical::decode(payload, max)?),
            13 => Self::Review(canonical::decode(payload, max)?),
            other => return Err(RecordError::Kind(other)),
        })
    }

    /// This machine's clock when it was made, milliseconds.
    pub(crate) fn made_ms(&self) -> u64 {
        match self {
            Self::Outgoing(stored) => stored.created_ms,
            Self::Receipt(stored) => stored.received_ms,
            Self::Refusal(stored) => stored.received_ms,
            Self::Incoming(stored) => stored.received_ms,
            Self::Evidence(stored) | Self::Doubted(stored) => stored.received_ms,
            Self::Rejection(stored) => stored.received_ms,
            Self::Purge(stored) => stored.time_ms,
            Self::Confirmation(stored) => stored.time_ms,
            Self::Inclusion(stored) => stored.time_ms,
            Self::RootProof(stored) => stored.time_ms,
            Self::Finding(stored) => stored.time_ms,
            Self::Review(stored) => stored.time_ms,
        }
    }

    /// Whether it must find room even on a full disk: it lets the broker's queue drain, or destroys what must go.
    pub(crate) fn is_essential(&self) -> bool {
        match self {
            Self::Receipt(_)
            | Self::Refusal(_)
            | Self::Evidence(_)
            | Self::Rejection(_)
            | Self::Doubted(_)
            | Self::Purge(_) => true,
            // What was found in the log is found there again.
            Self::Outgoing(_)
            | Self::Incoming(_)
            | Self::Confirmation(_)
            | Self::Inclusion(_)
            | Self::RootProof(_)
            | Self::Finding(_)
            | Self::Review(_) => false,
        }
    }
}
