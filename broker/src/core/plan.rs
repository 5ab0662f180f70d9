//! Plans: what one durable write will hold. Submissions that pass the last gates become records, audit events
//! and receipts; nothing of the ledger changes until the journal has taken the write.
//!
//! Gates, after those of [`super::admit`]: 6 replay, 7 expiry, 8 recipients, 9 release policy, 10 attachments, 11
//! quota: room in the queues, then the rate. So a packet counts against its agency's rate once: when it passed
//! everything else. The same packet again is answered at gate 6 and not counted.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use lintas_config::Directory;
use lintas_proto::{
    audit::group::GroupError,
    canonical,
    id::{Digest, PacketId, hex},
    limits,
    receipt::{Receipt, sign_receipts, sub_log_origin},
    schema::{AuditEvent, EventType, LoggedEvent, Reason, StoredAdmission, StoredRecipient, UnitRef},
    sign::SigningKey,
};
use rand_core::CryptoRng;

use super::{
    admit::Verified,
    ledger::Ledger,
    quota::{Planned as Queued, Quota},
    record::Fact,
    refuse::{Refused, Speaker},
    scribe::Scribe,
};

/// To the sender of a packet whose id stands for another one.
const USED: &str = "This packet id was used before with other content; the packet must get a new id.";
/// To the sender of a packet whose receipt was erased.
const ERASED: &str = "The broker took this packet before, and its receipt was erased by the order of an agency whose \
                      data it held; it is not sent again. If it still matters, write it anew.";

/// What becomes of one submission.
#[derive(Debug)]
pub enum Verdict {
    /// It is in the plan; its signed receipt is the one with this index.
    Admitted(usize),
    /// It was admitted before; its receipt stands in that record.
    Known(u64),
    /// It is the same as one in this plan.
    Twin(usize),
    /// It is refused.
    Refused(Refused),
}

/// A packet that passed every gate. Made by [`Plan::submit`] only.
#[derive(Debug)]
struct Admitted {
    verified: Verified,
    admission: StoredAdmission,
    receipts: Vec<Bytes>,
}

/// A group commit in the making.
///
/// Of a packet with 500 recipients at their longest codes the admission is 1.1 times as long as the submission;
/// with fewer recipients or a longer body it is shorter. The longest group follows from that and from the
/// caller's limit on submissions.
#[derive(Debug)]
pub struct Plan<'a> {
    ledger: &'a Ledger,
    directory: &'a Directory,
    now_ms: u64,
    /// Name of the log that receipts promise.
    log: &'a str,
    admitted: Vec<Admitted>,
    ids: HashMap<PacketId, (Digest, usize)>,
    scribe: Scribe<'a>,
    /// Queue entries of this plan.
    queued: Queued,
    quota: &'a mut Quota,
}

/// A plan that is complete. It stands on the ledger as it was: nothing else may be applied before it.
#[derive(Debug)]
pub struct Planned {
    admitted: Vec<Admitted>,
}

/// What is to be written, and what is to be answered when it is durable.
#[derive(Debug)]
pub struct Sealed {
    /// In the order in which they are to be written.
    pub facts: Vec<Fact>,
    /// Signed receipts of the originators, in the order of admission.
    pub receipts: Vec<Bytes>,
}

impl<'a> Plan<'a> {
    /// An empty plan over the present ledger, under the directory that `speaker` names. `quota` counts what the plan
    /// admits.
    #[must_use]
    pub fn new(
        ledger: &'a Ledger,
        speaker: &Speaker<'a>,
        directory: &'a Directory,
        now_ms: u64,
        quota: &'a mut Quota,
    ) -> Self {
        let (admitted, ids, queued) = (Vec::new(), HashMap::new(), Queued::new());
        let scribe = Scribe::new(ledger, speaker.directory_hash, now_ms);
        Self { ledger, directory, now_ms, log: speaker.log, admitted, ids, scribe, queued, quota }
    }

    /// Takes a submission through the gates that need state. `has_blob` says whether the originator has
    /// uploaded an attachment completely.
    pub fn submit(
        &mut self,
        verified: Verified,
        has_blob: impl Fn(&Digest) -> bool,
        entropy: &mut dyn CryptoRng,
    ) -> Verdict {
        let (id, digest) = (verified.header().core().packet_id, *verified.header().digest());
        let known = self.ledger.seen(&id).map(|seen| (seen.digest, Verdict::Known(seen.admission)));
        let twin = self.ids.get(&id).map(|(digest, index)| (*digest, Verdict::Twin(*index)));
        if let Some((before, verdict)) = known.or(twin) {
            if before != digest {
                return Verdict::Refused(verified.refuse(Reason::Replay, USED));
            }
            let is_erased = matches!(verdict, Verdict::Known(0));
            return if is_erased {
                Verdict::Refused(verified.refuse(Reason::Replay, ERASED))
            } else {
                verdict
            };
        }
        let verified = verified.under(self.directory, self.now_ms);
        if let Some(refused) = self.refusal(&verified, has_blob) {
            return Verdict::Refused(refused);
        }
        let index = self.admitted.len();
        self.ids.insert(id, (digest, index));
        let admitted = self.record(verified, entropy);
        self.admitted.push(admitted);
        Verdict::Admitted(index)
    }

    /// Ends the plan.
    #[must_use]
    pub fn finish(self) -> Planned {
        Planned { admitted: self.admitted }
    }

    fn refusal(&mut self, verified: &Verified, has_blob: impl Fn(&Digest) -> bool) -> Option<Refused> {
        let core = verified.header().core();
        if core.deliver_by_ms <= self.now_ms || self.ledger.may_have_forgotten(core.deliver_by_ms) {
            return Some(verified.refuse(
                Reason::Expired,
                "The packet's time for delivery is over; write it anew if it still matters.",
            ));
        }
        if core.created_ms > self.now_ms.saturating_add(limits::CLOCK_SKEW_MS_MAX) {
            return Some(verified.refuse(
                Reason::Clock,
                "The packet was made in the future by the broker's clock; check the clock of your node.",
            ));
        }
        if let Some(objection) = verified.objection() {
            return Some(objection.clone());
        }
        let blobs = core.attachments.iter().map(|attachment| attachment.blob_id.as_ref());
        for blob in blobs {
            if !<[u8; 32]>::try_from(blob).is_ok_and(|blob| has_blob(&blob)) {
                let text =
                    format!("Attachment {} has not been uploaded; upload it and submit again.", hex(blob));
                return Some(verified.refuse(Reason::MissingAttachment, &text));
            }
        }
        self.over_quota(verified).map(|text| verified.refuse(Reason::Quota, &text))
    }

    /// Says which limit the packet is beyond. Otherwise it is counted, so this gate is the last.
    fn over_quota(&mut self, verified: &Verified) -> Option<String> {
        let originator = verified.header().core().originator.agency.as_str();
        let mut needed: BTreeMap<&str, usize> = BTreeMap::new();
        for opening in verified.openings() {
            *needed.entry(opening.agency.as_str()).or_default() += 1;
        }
        let no_room = self.quota.no_room(self.ledger, &self.queued, originator, &needed);
        no_room.or_else(|| self.quota.count(originator, self.now_ms).err())
    }

    /// Audit events, queue entries and unsigned receipts of one packet.
    fn record(&mut self, verified: Verified, entropy: &mut dyn CryptoRng) -> Admitted {
        let core = verified.header().core();
        let (originator, digest) = (core.originator.clone(), *verified.header().digest());
        let mut event = |plan: &mut Self, agency: &str, kind, recipient: Option<UnitRef>| {
            let event = AuditEvent {
                r#type: kind as i32,
                agency: agency.to_owned(),
                packet_id: Bytes::copy_from_slice(core.packet_id.as_bytes()),
                header_digest: Bytes::copy_from_slice(&digest),
                originator: Some(originator.clone()),
                recipient,
                reason: Reason::Accepted as i32,
                ..AuditEvent::default()
            };
            plan.scribe.write(event, entropy)
        };
        let mut sender_events = vec![event(self, &originator.agency, EventType::Submitted, None)];
        let (mut recipients, mut receipts) = (Vec::new(), Vec::new());
        for opening in verified.openings() {
            let unit = UnitRef { agency: opening.agency.clone(), unit: opening.unit.clone() };
            sender_events.push(event(self, &originator.agency, EventType::Released, Some(unit.clone())));
        }
        for opening in verified.openings() {
            let unit = UnitRef { agency: opening.agency.clone(), unit: opening.unit.clone() };
            let received = event(self, &unit.agency, EventType::Received, Some(unit.clone()));
            receipts.push(self.receipt(core.packet_id, digest, &unit.agency, vec![received]));
            let queue = self.queued.entry(unit.agency.clone()).or_default();
            *queue.entry(originator.agency.clone()).or_default() += 1;
            recipients.push(StoredRecipient { unit: Some(unit), receipt: Bytes::new() });
        }
        receipts.insert(0, self.receipt(core.packet_id, digest, &originator.agency, sender_events));
        let admission = StoredAdmission {
            packet_id: Bytes::copy_from_slice(core.packet_id.as_bytes()),
            header_digest: Bytes::copy_from_slice(&digest),
            originator: Some(originator.clone()),
            not_before_ms: core.not_before_ms,
            deliver_by_ms: core.deliver_by_ms,
            receipt: Bytes::new(),
            recipients,
            blobs: core.attachments.iter().map(|attachment| attachment.blob_id.clone()).collect(),
            packet_bytes: verified.submission().len() as u64,
            time_ms: self.scribe.time_ms(),
        };
        Admitted { verified, admission, receipts }
    }

    fn receipt(&self, packet_id: PacketId, digest: Digest, agency: &str, events: Vec<LoggedEvent>) -> Bytes {
        let time_ms = self.scribe.time_ms();
        // Nothing is published before its epoch ends.
        let epochs_ms = 2 * u64::from(self.directory.roster().epoch_ms);
        Receipt {
            origin: sub_log_origin(self.log, agency),
            packet_id,
            header_digest: digest,
            time_ms,
            deadline_ms: time_ms.saturating_add(limits::INCLUDED_WITHIN_MS.max(epochs_ms)),
            events,
        }
        .to_bytes()
    }
}

impl Planned {
    /// Signs all receipts as one group.
    ///
    /// # Errors
    /// [`GroupError`]; does not happen for what [`Plan::submit`] put in.
    pub fn seal(self, key: &SigningKey) -> Result<Sealed, GroupError> {
        let all: Vec<Bytes> =
            self.admitted.iter().flat_map(|admitted| admitted.receipts.iter().cloned()).collect();
        let mut signed = Vec::with_capacity(all.len());
        for group in all.chunks(limits::GROUP_STATEMENTS_MAX) {
            signed.extend(sign_receipts(group, key)?.iter().map(canonical::encode));
        }
        let mut signed = signed.into_iter();
        let mut next = || signed.next().ok_or(GroupError::Malformed);
        let (mut facts, mut receipts) = (Vec::with_capacity(2 * self.admitted.len()), Vec::new());
        for Admitted { verified, mut admission, .. } in self.admitted {
            admission.receipt = next()?;
            for recipient in &mut admission.recipients {
                recipient.receipt = next()?;
            }
            receipts.push(admission.receipt.clone());
            facts.push(Fact::Packet(verified.submission().clone()));
            facts.push(Fact::Admission(admission));
        }
        Ok(Sealed { facts, receipts })
    }
}

#[cfg(test)]
mod tests;
