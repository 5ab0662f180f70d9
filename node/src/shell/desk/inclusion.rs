//! What the follower of the broker's log asks of the desk: which packets to look for, and to keep what it found.

use std::{
    collections::BTreeSet,
    sync::{MutexGuard, PoisonError},
};

use bytes::Bytes;
use lintas_proto::{
    canonical,
    id::{Digest, PacketId},
    limits,
    receipt::Receipt,
    schema::SignedReceipt,
};

use super::Desk;
use crate::{
    core::{
        log::{pulse::Pulse, receipts::Promise},
        records::{Record, RecordError},
    },
    shell::store::StoreError,
};

/// A packet whose events are to be found in the log.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    /// Record of the packet.
    pub(crate) packet: u64,
    /// Its id.
    pub(crate) packet_id: PacketId,
    /// SHA-256 of its header.
    pub(crate) header_digest: Bytes,
    /// It came here; otherwise it is ours.
    pub(crate) incoming: bool,
    /// What was promised.
    pub(crate) promise: Promise,
    /// The leaves, in the order of the indices.
    pub(crate) leaves: Vec<Bytes>,
    /// Canonical bytes of `SignedReceipt`.
    pub(crate) receipt: Bytes,
}

impl Desk {
    /// Whether the broker's log goes on.
    pub(crate) fn pulse(&self) -> MutexGuard<'_, Pulse> {
        self.pulse.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest packet whose events in that sub-log are to be found, but for those that are left out.
    pub(crate) fn newest_promise(&self, origin: &str, without: &BTreeSet<u64>) -> Option<u64> {
        let state = self.store.state();
        let mut newest = state.receipts().open_in(origin).rev().map(|(packet, _)| packet);
        newest.find(|at| !without.contains(at))
    }

    /// The oldest packets from record `from` on whose events in that sub-log are to be found, at most `max`.
    pub(crate) fn promised_in(
        &self,
        origin: &str,
        from: u64,
        max: usize,
        without: &BTreeSet<u64>,
    ) -> Vec<Pending> {
        let open: Vec<(u64, Promise)> = {
            let state = self.store.state();
            let open = state.receipts().open_in(origin);
            let open = open.filter(|(packet, _)| *packet >= from && !without.contains(packet));
            open.take(max).map(|(packet, promise)| (packet, promise.clone())).collect()
        };
        let read = |(packet, promise): (u64, Promise)| match self.open_promise(packet, promise) {
            Ok(pending) => Some(pending),
            Err(error) => {
                tracing::error!(%error, packet, "a kept receipt cannot be read");
                None
            }
        };
        open.into_iter().filter_map(read).collect()
    }

    fn open_promise(&self, packet: u64, promise: Promise) -> Result<Pending, StoreError> {
        let (bytes, incoming) = self.receipt_in(promise.record)?;
        let signed: SignedReceipt =
            canonical::decode(&bytes, limits::RECEIPT_BYTES_MAX).map_err(RecordError::from)?;
        let (receipt, _) = Receipt::parse(&signed.receipt).map_err(RecordError::from)?;
        Ok(Pending {
            packet,
            packet_id: receipt.packet_id,
            header_digest: Bytes::copy_from_slice(&receipt.header_digest),
            incoming,
            promise,
            leaves: receipt.events.into_iter().map(|event| event.leaf).collect(),
            receipt: bytes,
        })
    }

    /// The receipt in a record, and whether it is of a packet that came here.
    pub(super) fn receipt_in(&self, record: u64) -> Result<(Bytes, bool), StoreError> {
        match self.store.read(record)? {
            Record::Receipt(stored) => Ok((stored.receipt, false)),
            Record::Incoming(stored) => Ok((stored.receipt, true)),
            Record::Outgoing(_)
            | Record::Refusal(_)
            | Record::Evidence(_)
            | Record::Rejection(_)
            | Record::Doubted(_)
            | Record::Purge(_)
            | Record::Confirmation(_)
            | Record::Inclusion(_)
            | Record::RootProof(_)
            | Record::Review(_)
            | Record::Finding(_) => Err(RecordError::Missing("a receipt").into()),
        }
    }

    /// Epochs of that root log, below `size`, that hold something of ours and lack a quorum.
    pub(crate) fn unwitnessed(&self, root_origin: &str, size: u64, max: usize) -> Vec<u64> {
        let state = self.store.state();
        state.receipts().unwitnessed(root_origin).filter(|epoch| *epoch < size).take(max).collect()
    }

    /// How well the receipt of our packet with that header digest is proven.
    #[cfg(test)]
    pub(crate) fn grade_of(
        &self,
        digest: &lintas_proto::id::Digest,
    ) -> Option<crate::core::log::receipts::Grade> {
        let state = self.store.state();
        state.own(digest).and_then(|(sequence, _)| state.receipts().grade(sequence))
    }

    /// Keeps what was found. Without room on the disk it is found again later.
    pub(crate) fn keep_proofs(&self, records: Vec<Record>) -> Result<(), StoreError> {
        if records.is_empty() {
            return Ok(());
        }
        let mut ours: Vec<Digest> = Vec::new();
        for record in &records {
            let Record::Inclusion(stored) = record else { continue };
            let sent = stored.packets.iter().filter(|packet| !packet.incoming);
            ours.extend(sent.filter_map(|packet| Digest::try_from(packet.header_digest.as_ref()).ok()));
        }
        self.store.keep(records)?;
        // What is in the log needs not be sent again.
        self.tidy_these(&ours);
        Ok(())
    }
}
