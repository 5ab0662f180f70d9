//! What the session does for the outbox: which packet is submitted next, and which attachments before it.

use bytes::Bytes;
use lintas_proto::{
    id::Digest,
    schema::{AttachmentRef, Reason},
};

use super::Desk;
use crate::{
    core::{
        outbox::Next,
        records::{Record, RecordError},
        state::Outgoing,
    },
    shell::{clock, store::StoreError},
};

/// A packet to be submitted.
#[derive(Debug)]
pub(crate) struct Submission {
    /// Canonical bytes of `Submission`.
    pub(crate) bytes: Bytes,
}

/// Attachments to be uploaded before their packet.
#[derive(Debug)]
pub(crate) struct Upload {
    /// SHA-256 of its header.
    pub(crate) digest: Digest,
    /// Its id.
    pub(crate) packet: String,
    /// In order.
    pub(crate) attachments: Vec<AttachmentRef>,
    /// The broker could not use what came last time.
    pub(crate) doubted: bool,
}

/// What the session is to do for the outbox.
#[derive(Debug)]
pub(crate) enum Work {
    /// Submit a packet.
    Submit(Submission),
    /// Upload attachments, then say [`uploaded`](Desk::uploaded).
    Upload(Upload),
    /// Wait for the bell; at the latest until then.
    Wait(Option<u64>),
}

impl Desk {
    /// What to do now for the packets that wait.
    pub(crate) fn next_work(&self) -> Result<Work, StoreError> {
        let sequence = {
            let state = self.store.state();
            let now_ms = clock::now_ms();
            // What comes too late is submitted without them: the broker's refusal is its final answer.
            let over_ms = self.agreed_ms().unwrap_or_default();
            let uploads = |packet: &Outgoing| !packet.attachments.is_empty() && !packet.is_over(over_ms);
            let waiting = state.waiting().map(|(_, packet)| (packet.digest, uploads(packet)));
            let mut pipeline = self.pipeline();
            let next = pipeline.next(waiting, now_ms);
            let (Next::Upload(digest) | Next::Submit(digest)) = next else {
                let until_ms = if let Next::Wait(until_ms) = next { until_ms } else { None };
                return Ok(Work::Wait(until_ms));
            };
            let Some((sequence, packet)) = state.own(&digest) else {
                return Ok(Work::Wait(None));
            };
            if next == Next::Upload(digest) {
                let (packet, attachments) = (packet.packet_id.to_string(), packet.attachments.clone());
                let put_off = pipeline.why_put_off(&digest);
                let doubted = put_off.is_some_and(|put_off| put_off.reason == Reason::Malformed);
                return Ok(Work::Upload(Upload { digest, packet, attachments, doubted }));
            }
            sequence
        };
        let Record::Outgoing(stored) = self.store.read(sequence)? else {
            return Err(RecordError::Missing("an outgoing packet").into());
        };
        Ok(Work::Submit(Submission { bytes: stored.submission }))
    }

    /// A packet cannot go now; it is tried again later.
    pub(crate) fn put_off(&self, digest: Digest, reason: Reason, text: String) {
        self.pipeline().put_off(digest, reason, text, clock::now_ms());
        self.bell.notify_one();
    }
}
