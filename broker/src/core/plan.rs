//! Plans: what one durable write will hold. Submissions that pass the last gates become records, audit events
//! and receipts; nothing of the ledger changes until the journal has taken the write.
//!
//! Gates, after those of [`super::admit`]: 6 replay, 7 expiry, 8 recipients, 9 release policy, 10 attachments, 11
//! quota: room in the queues, then the rate. So a packet counts against its agency's rate once: when it passed
//! everything else. The same packet again is answered at gate 6 and not counted.
//!
//! Release is decided per recipient. Whoever is denied gets no receipt, no place in a queue and nothing of the packet;
//! the originator reads in its receipt what became of each. If nobody may get it the packet is refused.

mod packet_log;

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use lintas_proto::{
    audit::group::GroupError,
    canonical,
    id::{Digest, PacketId, hex},
    limits,
    receipt::{Receipt, sign_receipts, sub_log_origin},
    schema::{LoggedEvent, Reason, StoredAdmission, StoredEvent, StoredEvents, StoredRecipient},
    sign::SigningKey,
};
use rand_core::CryptoRng;

use self::packet_log::PacketLog;
use super::{
    admit::Verified,
    ledger::Ledger,
    quota::{Planned as Queued, Quota},
    record::Fact,
    refuse::{ERASED, Refused, Speaker},
    rules::Rules,
    scribe::Scribe,
};

/// Bytes of records after which a plan is full; the last packet may exceed it.
pub const PLAN_BYTES: usize = 2 * 1024 * 1024;
/// Longest proof of a receipt in a group, bytes.
const PROOF_BYTES_MAX: usize = 640;
/// Bytes that all denials of one packet together may take in its receipt; each at most a sentence.
const DENIALS_BYTES_MAX: usize = 96 * 1024;

/// To the sender of a packet whose id stands for another one.
const USED: &str = "This packet id was used before with other content; the packet must get a new id.";
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
    /// The originator's, then one for each recipient that gets it.
    receipts: Vec<Bytes>,
    /// What these receipts promise, in their order.
    promised: Vec<StoredEvent>,
    /// In the sub-logs of those whose own policy does not accept it.
    events: Vec<StoredEvent>,
}

/// A group commit in the making.
#[derive(Debug)]
pub struct Plan<'a> {
    ledger: &'a Ledger,
    rules: &'a Rules,
    now_ms: u64,
    /// Name of the log that receipts promise.
    log: &'a str,
    admitted: Vec<Admitted>,
    ids: HashMap<PacketId, (Digest, usize)>,
    scribe: Scribe<'a>,
    /// Queue entries of this plan.
    queued: Queued,
    quota: &'a mut Quota,
    /// About how long its records are.
    bytes: usize,
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
    /// The events of each admission among them, as its receipts hold them.
    pub promised: Vec<Vec<StoredEvent>>,
    /// Signed receipts of the originators, in the order of admission.
    pub receipts: Vec<Bytes>,
}

impl<'a> Plan<'a> {
    /// An empty plan over the present ledger, under the rules that `speaker` names. `quota` counts what the plan
    /// admits.
    #[must_use]
    pub fn new(
        ledger: &'a Ledger,
        speaker: &Speaker<'a>,
        rules: &'a Rules,
        now_ms: u64,
        quota: &'a mut Quota,
    ) -> Self {
        let (admitted, ids, queued) = (Vec::new(), HashMap::new(), Queued::new());
        let scribe = Scribe::new(ledger, speaker.generation, now_ms);
        Self { ledger, rules, now_ms, log: speaker.log, admitted, ids, scribe, queued, quota, bytes: 0 }
    }

    /// Whether it is long enough: what else there is belongs into the next one.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes >= PLAN_BYTES
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
        // By the time that its events will bear.
        let verified = verified.under(self.rules, self.scribe.time_ms());
        if let Some(refused) = self.refusal(&verified, has_blob) {
            return Verdict::Refused(refused);
        }
        let index = self.admitted.len();
        self.ids.insert(id, (digest, index));
        let admitted = self.record(verified, entropy);
        self.bytes = self.bytes.saturating_add(admitted.bytes());
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
        if let Some(refused) = self.denial(verified) {
            return Some(refused);
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

    /// The refusal of a packet that nobody may get, or of which its originator may not be told now who does not accept it.
    fn denial(&mut self, verified: &Verified) -> Option<Refused> {
        let originator = verified.header().core().originator.agency.as_str();
        let probes = probes(verified);
        if probes > 0
            && let Err(text) = self.quota.may_probe(originator, self.now_ms)
        {
            return Some(verified.refuse(Reason::Quota, &text));
        }
        if verified.judged().all.iter().any(Result::is_ok) {
            return None;
        }
        self.quota.probed(originator, probes, self.now_ms);
        Some(verified.refuse_by_policy())
    }

    /// Says which limit the packet is beyond. Otherwise it is counted, so this gate is the last.
    fn over_quota(&mut self, verified: &Verified) -> Option<String> {
        let originator = verified.header().core().originator.agency.as_str();
        let mut needed: BTreeMap<&str, usize> = BTreeMap::new();
        for (opening, judged) in verified.openings().iter().zip(&verified.judged().all) {
            if judged.is_ok() {
                *needed.entry(opening.agency.as_str()).or_default() += 1;
            }
        }
        let no_room = self.quota.no_room(self.ledger, &self.queued, originator, &needed);
        no_room.or_else(|| self.quota.count(originator, self.now_ms).err())
    }

    /// Audit events, queue entries and unsigned receipts of one packet.
    fn record(&mut self, verified: Verified, entropy: &mut dyn CryptoRng) -> Admitted {
        let core = verified.header().core();
        let (originator, digest) = (&core.originator, *verified.header().digest());
        self.quota.probed(&originator.agency, probes(&verified), self.now_ms);
        let log = PacketLog::new(&verified, self.rules.generation().roster_version);
        // SUBMITTED, and of each recipient what the originator reads and what it reads itself.
        self.scribe.draw(1 + 2 * verified.openings().len(), entropy);
        let denials = verified.judged().denied().count().max(1);
        let text_max = (DENIALS_BYTES_MAX / denials).min(limits::SENTENCE_BYTES_MAX);
        let mut sender_events = vec![self.scribe.write(log.submitted(), entropy)];
        for (unit, named, judged) in log.recipients() {
            let event = match judged {
                Ok(allowed) => log.released(unit, named, allowed),
                Err(denied) => log.told(denied, text_max),
            };
            sender_events.push(self.scribe.write(event, entropy));
        }
        let stored = |agency: &str, event: &LoggedEvent| StoredEvent {
            agency: agency.to_owned(),
            event: Some(event.clone()),
        };
        let mut promised: Vec<_> =
            sender_events.iter().map(|event| stored(&originator.agency, event)).collect();
        let mut receipts = vec![self.receipt(core.packet_id, digest, &originator.agency, sender_events)];
        let mut recipients = Vec::with_capacity(verified.openings().len());
        for (unit, named, judged) in log.recipients() {
            recipients.push(StoredRecipient { unit: Some(unit.clone()), receipt: Bytes::new() });
            let Ok(allowed) = judged else { continue };
            let received = self.scribe.write(log.received(unit.clone(), named, allowed), entropy);
            promised.push(stored(&unit.agency, &received));
            receipts.push(self.receipt(core.packet_id, digest, &unit.agency, vec![received]));
            let queue = self.queued.entry(unit.agency).or_default();
            match queue.get_mut(&originator.agency) {
                Some(planned) => *planned += 1,
                None => drop(queue.insert(originator.agency.clone(), 1)),
            }
        }
        // Behind the admission's events: their record follows it.
        let own = verified.judged().denied().filter_map(|denied| log.own(denied, text_max));
        let events = own.map(|event| self.scribe.store(event, entropy)).collect();
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
        Admitted { verified, admission, receipts, promised, events }
    }

    fn receipt(&self, packet_id: PacketId, digest: Digest, agency: &str, events: Vec<LoggedEvent>) -> Bytes {
        let time_ms = self.scribe.time_ms();
        // Nothing is published before its epoch ends.
        let epochs_ms = 2 * u64::from(self.rules.directory().roster().epoch_ms);
        Receipt {
            origin: sub_log_origin(self.log, agency),
            packet_id,
            header_digest: digest,
            time_ms,
            deadline_ms: time_ms.saturating_add(limits::INCLUDED_WITHIN_MS.max(epochs_ms)),
            events,
        }
        .into_bytes()
    }
}

/// Denials that tell the originator something of the policies of others.
fn probes(verified: &Verified) -> usize {
    let originator = &verified.header().core().originator;
    verified.judged().denied().filter(|denied| denied.probes(originator)).count()
}

impl Admitted {
    /// About how long its records are, and not less.
    fn bytes(&self) -> usize {
        let receipts = self.receipts.iter().map(|receipt| receipt.len().saturating_add(PROOF_BYTES_MAX));
        let events = self.events.iter().map(|event| canonical::encode(event).len().saturating_add(8));
        let recipients = self.admission.recipients.len().saturating_mul(2 * limits::CODE_BYTES_MAX + 16);
        let parts = [self.verified.submission().len(), recipients, 4 * 1024];
        parts.into_iter().chain(receipts).chain(events).fold(0, usize::saturating_add)
    }
}

impl Planned {
    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.admitted.is_empty()
    }

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
        let mut all_promised = Vec::with_capacity(self.admitted.len());
        for Admitted { verified, mut admission, promised, events, .. } in self.admitted {
            all_promised.push(promised);
            admission.receipt = next()?;
            for (recipient, judged) in admission.recipients.iter_mut().zip(&verified.judged().all) {
                if judged.is_ok() {
                    recipient.receipt = next()?;
                }
            }
            receipts.push(admission.receipt.clone());
            facts.push(Fact::Packet(verified.submission().clone()));
            facts.push(Fact::Admission(admission));
            if !events.is_empty() {
                facts.push(Fact::Events(StoredEvents { events, ..StoredEvents::default() }));
            }
        }
        Ok(Sealed { facts, promised: all_promised, receipts })
    }
}

#[cfg(test)]
mod partial_tests;
#[cfg(test)]
mod tests;
