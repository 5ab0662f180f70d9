//! Audit leaves: what stands in an agency's sub-log for one event.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 1 | version, 1 |
//! | 1 | 1 | event type, as in `EventType` |
//! | 2 | 8 | time, ms since 1970-01-01T00:00:00Z, big-endian |
//! | 10 | 16 | event id: first half of SHA-256("lintas/v1/event-id" 00 salt ‖ event bytes) |
//! | 26 | 32 | commitment: SHA-256("lintas/audit-event/v1" 00 salt ‖ event bytes) |
//!
//! A leaf alone says nothing about the event but its type and time; salt and event open it. When the salt is
//! erased the leaf stays, and every proof with it.

use bytes::Bytes;
use thiserror::Error;

use crate::{
    canonical::{self, DecodeError},
    id::{Digest, sha256},
    limits,
    schema::{AuditEvent, EventType, LoggedEvent},
};

/// Bytes of a leaf.
pub const LEAF_BYTES: usize = 58;

/// A leaf that does not fit its opening.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LeafError {
    /// The event is not canonical.
    #[error("audit event: {0}")]
    Event(#[from] DecodeError),
    /// The event has no type.
    #[error("audit event has no type")]
    NoType,
    /// Salt and event lead to another leaf.
    #[error("leaf is not the one of this salt and event")]
    Mismatch,
}

/// Puts an event under `salt` at `index` of its sub-log.
#[must_use]
pub fn log_event(index: u64, salt: [u8; 32], event: &AuditEvent) -> LoggedEvent {
    let event_type = u8::try_from(event.r#type).unwrap_or(0);
    let bytes = canonical::encode(event);
    let leaf = Bytes::copy_from_slice(&leaf(event_type, event.time_ms, &salt, &bytes));
    LoggedEvent { index, leaf, salt: Bytes::copy_from_slice(&salt), event: bytes }
}

/// Opens a logged event: the event, if salt and event lead to the leaf.
///
/// # Errors
/// [`LeafError`].
pub fn open_event(logged: &LoggedEvent) -> Result<AuditEvent, LeafError> {
    open_leaf(&logged.leaf, &logged.salt, &logged.event)
}

/// The event, if `salt` and its canonical `bytes` lead to `found`.
pub(super) fn open_leaf(found: &[u8], salt: &[u8], bytes: &Bytes) -> Result<AuditEvent, LeafError> {
    let event: AuditEvent = canonical::decode(bytes, limits::EVENT_BYTES_MAX)?;
    EventType::try_from(event.r#type).map_err(|_| LeafError::NoType)?;
    let event_type = u8::try_from(event.r#type).ok().filter(|t| *t != 0).ok_or(LeafError::NoType)?;
    let salt: [u8; 32] = salt.try_into().map_err(|_| LeafError::Mismatch)?;
    let expected = leaf(event_type, event.time_ms, &salt, bytes);
    if expected == *found { Ok(event) } else { Err(LeafError::Mismatch) }
}

fn leaf(event_type: u8, time_ms: u64, salt: &[u8; 32], event: &[u8]) -> [u8; LEAF_BYTES] {
    let id: Digest = sha256(&[b"lintas/v1/event-id\0", salt, event]);
    let commitment: Digest = sha256(&[b"lintas/audit-event/v1\0", salt, event]);
    let (half, _) = id.split_at(16);
    let mut leaf = [0; LEAF_BYTES];
    let mut rest = leaf.as_mut_slice();
    for part in [&[1, event_type], time_ms.to_be_bytes().as_slice(), half, &commitment] {
        let (to, after) = std::mem::take(&mut rest).split_at_mut(part.len());
        to.copy_from_slice(part);
        rest = after;
    }
    leaf
}
