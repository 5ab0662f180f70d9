//! Erasure: an agency orders that openings of its own sub-log are forgotten. The leaves stay, and every proof with them.
//!
//! Nothing is erased that somebody still waits for: the packet in a queue, or evidence about it that its originator has
//! not taken. The receipt goes too, so the same packet is refused from then on, until its id is forgotten.

use std::collections::BTreeSet;

use bytes::Bytes;
use lintas_proto::{
    id::{PacketId, sha256},
    limits,
    schema::{AuditEvent, EventType, StoredErasure},
};
use rand_core::CryptoRng;
use thiserror::Error;

use super::{
    events::{about, bytes},
    ledger::Ledger,
    queue::Held,
    record::Fact,
    scribe::Scribe,
};

/// Why an order is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EraseError {
    /// The entries.
    #[error(
        "The order names no entries of the sub-log, too many, or not in ascending order; correct it and sign it again."
    )]
    Indices,
    /// Somebody waits for a packet.
    #[error(
        "Packet {packet} still waits for {agency}; order it again when {agency} has taken it, or its time is over."
    )]
    Waits {
        /// The packet.
        packet: PacketId,
        /// For whom.
        agency: String,
    },
    /// The originator has not taken its evidence.
    #[error(
        "Evidence about packet {packet} still waits for {agency}, which sent it; order it again when {agency} has taken it."
    )]
    Untaken {
        /// The packet.
        packet: PacketId,
        /// Its originator.
        agency: String,
    },
}

/// What is to be erased. The signature of the order was checked.
#[derive(Debug, Clone)]
pub struct Erasure<'a> {
    /// Whose sub-log.
    pub agency: &'a str,
    /// Entries, ascending.
    pub indices: &'a [u64],
    /// Packets that these entries are about.
    pub packets: &'a BTreeSet<PacketId>,
    /// Canonical bytes of `SignedErasureOrder`.
    pub order: &'a Bytes,
}

impl Erasure<'_> {
    /// The record.
    ///
    /// # Errors
    /// [`EraseError`].
    pub fn record(
        &self,
        ledger: &Ledger,
        scribe: &mut Scribe<'_>,
        entropy: &mut dyn CryptoRng,
    ) -> Result<Fact, EraseError> {
        let Self { agency, indices, packets, order } = *self;
        let ascending = indices.iter().zip(indices.iter().skip(1)).all(|(a, b)| a < b);
        let within = indices.last().is_some_and(|last| *last < ledger.log_size(agency));
        if !ascending || !within || indices.len() > limits::ERASURE_INDICES_MAX {
            return Err(EraseError::Indices);
        }
        match ledger.waits_for(packets) {
            None => {}
            Some((packet, agency, Held::Packet { .. })) => {
                return Err(EraseError::Waits { packet, agency: agency.to_owned() });
            }
            Some((packet, agency, Held::Evidence { .. })) => {
                return Err(EraseError::Untaken { packet, agency: agency.to_owned() });
            }
        }
        let event = |(first_index, count)| {
            let evidence_digest = bytes(&sha256(&[order]));
            let event =
                AuditEvent { first_index, count, evidence_digest, ..about(EventType::Erased, agency) };
            scribe.store(event, entropy)
        };
        Ok(Fact::Erasure(StoredErasure {
            agency: agency.to_owned(),
            indices: indices.to_vec(),
            packet_ids: packets.iter().map(|id| Bytes::copy_from_slice(id.as_bytes())).collect(),
            order: order.clone(),
            events: runs(indices).into_iter().map(event).collect(),
        }))
    }
}

/// Ascending numbers as runs: the first and how many.
fn runs(indices: &[u64]) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for index in indices {
        match runs.last_mut().filter(|(first, count)| first.checked_add(*count) == Some(*index)) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => runs.push((*index, 1)),
        }
    }
    runs
}

#[cfg(test)]
mod tests;
