//! Receipts: a broker's signed promise that a packet's audit events are durable and will stand in the log.
//!
//! A receipt is given only after the durable commit. Its bytes never change: the same packet submitted again
//! gets the same receipt, and the log that is published later only adds proofs to it.

use bytes::Bytes;
use thiserror::Error;

use crate::{
    audit::{
        group::{self, GroupError, GroupOf},
        leaf::{LeafError, open_event},
    },
    canonical::{self, DecodeError, WrongSize, fixed},
    id::{Digest, IdError, PacketId, check_code, check_name},
    limits,
    schema::{self, AuditEvent, LoggedEvent, SignedReceipt},
    sign::{SUITE, SigningKey, VerifyingKey},
};

/// Why a receipt was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReceiptError {
    /// Not canonical.
    #[error("receipt: {0}")]
    Decode(#[from] DecodeError),
    /// A fixed-size field of another size.
    #[error("receipt: {0}")]
    Size(#[from] WrongSize),
    /// A packet id, or a name or code of the origin, that is none.
    #[error("receipt: {0}")]
    Id(#[from] IdError),
    /// A field that must be there is not.
    #[error("receipt: {0} is missing or out of place")]
    Field(&'static str),
    /// An event that its salt does not open, or that speaks of something else.
    #[error("receipt: event {index}: {error}")]
    Event {
        /// 0-based place in the receipt.
        index: usize,
        /// What is wrong.
        error: LeafError,
    },
    /// The proof does not hold.
    #[error("receipt: {0}")]
    Group(#[from] GroupError),
}

/// A receipt. Shape in docs/FORMAT.md, "Receipt".
#[derive(Debug, Clone, PartialEq)]
pub struct Receipt {
    /// Sub-log, `<broker>/audit/<agency>`.
    pub origin: String,
    /// The packet.
    pub packet_id: PacketId,
    /// SHA-256 of its header.
    pub header_digest: Digest,
    /// When it was committed, milliseconds since 1970-01-01T00:00:00Z.
    pub time_ms: u64,
    /// By when the events stand in a published tree.
    pub deadline_ms: u64,
    /// The events, with ascending indices in the sub-log.
    pub events: Vec<LoggedEvent>,
}

/// Origin of an agency's sub-log at a broker.
#[must_use]
pub fn sub_log_origin(broker: &str, agency: &str) -> String {
    format!("{broker}/audit/{agency}")
}

impl Receipt {
    /// Canonical bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        self.clone().into_bytes()
    }

    /// Canonical bytes, of what is not needed any more.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        canonical::encode(&schema::Receipt {
            suite: SUITE.into(),
            origin: self.origin,
            packet_id: Bytes::copy_from_slice(self.packet_id.as_bytes()),
            header_digest: Bytes::copy_from_slice(&self.header_digest),
            time_ms: self.time_ms,
            deadline_ms: self.deadline_ms,
            events: self.events,
        })
    }

    /// Reads canonical bytes and opens every event; gives them in order.
    ///
    /// # Errors
    /// [`ReceiptError`].
    pub fn parse(bytes: &Bytes) -> Result<(Self, Vec<AuditEvent>), ReceiptError> {
        let wire: schema::Receipt = canonical::decode(bytes, limits::RECEIPT_BYTES_MAX)?;
        if wire.suite != u32::from(SUITE) {
            return Err(ReceiptError::Field("suite"));
        }
        let receipt = Self {
            origin: wire.origin,
            packet_id: PacketId::from_bytes(&wire.packet_id)?,
            header_digest: fixed("header_digest", &wire.header_digest)?,
            time_ms: wire.time_ms,
            deadline_ms: wire.deadline_ms,
            events: wire.events,
        };
        let events = receipt.open()?;
        Ok((receipt, events))
    }

    fn open(&self) -> Result<Vec<AuditEvent>, ReceiptError> {
        let (broker, agency) = self.origin.split_once("/audit/").ok_or(ReceiptError::Field("origin"))?;
        check_name(broker)?;
        check_code(agency)?;
        let ascending = self.events.iter().zip(self.events.iter().skip(1)).all(|(a, b)| a.index < b.index);
        if self.events.is_empty() || !ascending {
            return Err(ReceiptError::Field("events"));
        }
        if self.time_ms == 0 || self.deadline_ms <= self.time_ms {
            return Err(ReceiptError::Field("deadline_ms"));
        }
        let mut events = Vec::with_capacity(self.events.len());
        for (index, logged) in self.events.iter().enumerate() {
            let event = open_event(logged).map_err(|error| ReceiptError::Event { index, error })?;
            let same = event.packet_id == self.packet_id.as_bytes().as_slice()
                && event.header_digest == self.header_digest.as_slice()
                && event.agency == agency;
            if !same {
                return Err(ReceiptError::Event { index, error: LeafError::Mismatch });
            }
            events.push(event);
        }
        Ok(events)
    }
}

/// Signs receipts as one group; in the same order.
///
/// # Errors
/// [`GroupError::Malformed`] for an empty or too large group.
pub fn sign_receipts(receipts: &[Bytes], key: &SigningKey) -> Result<Vec<SignedReceipt>, GroupError> {
    let proofs = group::sign(GroupOf::Receipts, receipts, key)?;
    let join = |(receipt, proof): (&Bytes, _)| SignedReceipt { receipt: receipt.clone(), proof: Some(proof) };
    Ok(receipts.iter().zip(proofs).map(join).collect())
}

/// Checks a signed receipt; `find` gives the broker's receipt key with that id. Whether that broker is the one
/// that the receipt's `origin` names is for the caller to check.
///
/// # Errors
/// [`ReceiptError`].
pub fn verify_receipt<'k>(
    signed: &SignedReceipt,
    find: impl FnOnce(&Digest) -> Option<&'k VerifyingKey>,
) -> Result<(Receipt, Vec<AuditEvent>), ReceiptError> {
    let proof = signed.proof.as_ref().ok_or(ReceiptError::Field("proof"))?;
    group::verify(GroupOf::Receipts, &signed.receipt, proof, find)?;
    Receipt::parse(&signed.receipt)
}
