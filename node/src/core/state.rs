//! What the node knows: a pure fold over its journal. Recovery runs the same code as the forward path.
//!
//! It holds an index entry for each packet, a few hundred bytes; the packets themselves stay in the journal
//! and are read by their sequence.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lintas_proto::{
    canonical::{self, fixed},
    envelope::core::Core,
    evidence::Evidence,
    id::{Digest, PacketId, sha256},
    limits,
    receipt::Receipt,
    schema::{
        AttachmentRef, EventType, Header, Kind, Outcome, Reason, Refusal, SignedEvidence, SignedReceipt,
        StoredEvidence, StoredIncoming, StoredOutgoing, StoredPurge, StoredReceipt, StoredRefusal,
        StoredRejection, Submission, UnitRef,
    },
};

use super::{
    contacts::Contacts,
    freshness::Seen,
    ledger::Ledger,
    records::{Record, RecordError},
    tally::Tally,
};

/// What the broker said to a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing yet.
    Waiting,
    /// It has it, durably.
    Accepted {
        /// The broker's time.
        time_ms: u64,
        /// Sub-log in which it stands.
        origin: String,
        /// 0-based index there.
        index: u64,
        /// The clocks of broker and node differ.
        clock_differs: bool,
    },
    /// It will not take it.
    Refused {
        /// Why.
        reason: Reason,
        /// The broker's sentence.
        text: String,
        /// The broker signed a statement of it.
        signed: bool,
        /// When it came here.
        received_ms: u64,
    },
}

/// What became of a packet at one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing is known yet.
    Pending,
    /// The broker did not release it to this recipient.
    Denied {
        /// Why.
        reason: Reason,
    },
    /// The recipient signed that it has it.
    Delivered {
        /// The recipient's time.
        time_ms: u64,
    },
    /// Somebody signed that it did not arrive.
    Failed {
        /// Who says so.
        by: String,
        /// Why.
        reason: Reason,
        /// Their sentence.
        text: String,
        /// Their time.
        time_ms: u64,
    },
}

/// A packet of this agency.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    /// SHA-256 of its header.
    pub(crate) digest: Digest,
    /// Its id.
    pub(crate) packet_id: PacketId,
    /// What it is.
    pub(crate) kind: Kind,
    /// When it was sealed.
    pub(crate) created_ms: u64,
    /// Each recipient and what became of it there.
    pub(crate) recipients: Vec<(UnitRef, Fate)>,
    /// What the broker said.
    pub(crate) answer: Answer,
    /// Not delivered later.
    pub(crate) deliver_by_ms: u64,
    /// Its blobs.
    pub(crate) attachments: Vec<AttachmentRef>,
    /// The packet whose place it took, because keys had moved.
    pub(crate) in_place_of: Option<PacketId>,
    /// The packet that took its place.
    pub(crate) replaced_by: Option<PacketId>,
    /// How often the same was sealed before.
    pub(crate) generation: u32,
    /// An officer sent it although the directory was known to be out of date.
    pub(crate) despite_stale: bool,
}

impl Outgoing {
    /// Whether nothing more will become of it: refused, or accepted and everybody's fate known, or its time over.
    pub(crate) fn is_settled(&self, now_ms: u64) -> bool {
        match self.answer {
            Answer::Waiting => false,
            Answer::Refused { .. } => true,
            Answer::Accepted { .. } => {
                let known = |(_, fate): &(UnitRef, Fate)| !matches!(fate, Fate::Pending);
                self.recipients.iter().all(known)
                    || now_ms > self.deliver_by_ms.saturating_add(limits::CLOCK_SKEW_MS_MAX)
            }
        }
    }
}

/// A packet for one unit of this agency.
#[derive(Debug, Clone)]
pub(crate) struct Incoming {
    /// SHA-256 of its header.
    pub(crate) digest: Digest,
    /// Its id.
    pub(crate) packet_id: PacketId,
    /// Who sent it.
    pub(crate) originator: UnitRef,
    /// For which unit of ours.
    pub(crate) unit: String,
    /// What it is.
    pub(crate) kind: Kind,
    /// When it was durable here.
    pub(crate) received_ms: u64,
    /// Not delivered later.
    pub(crate) deliver_by_ms: u64,
    /// The sender's packet before this one; none for the first.
    pub(crate) previous: Option<Digest>,
    /// Its blobs.
    pub(crate) attachments: Vec<AttachmentRef>,
}

/// A delivery that was not taken.
#[derive(Debug, Clone)]
pub(crate) struct Rejection {
    /// SHA-256 of its header bytes.
    pub(crate) digest: Digest,
    /// For which unit.
    pub(crate) unit: String,
    /// Why.
    pub(crate) reason: Reason,
    /// In words.
    pub(crate) text: String,
    /// When.
    pub(crate) received_ms: u64,
}

/// The state.
#[derive(Debug, Default)]
pub(crate) struct State {
    outgoing: BTreeMap<u64, Outgoing>,
    outgoing_by_digest: HashMap<Digest, u64>,
    /// Sequences of packets without a final answer, in the order in which they were sealed.
    waiting: BTreeSet<u64>,
    /// The last packet released to each (agency, unit).
    released: HashMap<(String, String), Digest>,
    incoming: BTreeMap<u64, Incoming>,
    rejections: BTreeMap<u64, Rejection>,
    /// Deliveries answered, kept or rejected, by digest and unit: the sequence of their record.
    answered: HashMap<(Digest, String), u64>,
    /// Digests by (agency, packet id) of what was received.
    ids: HashMap<(String, PacketId), Digest>,
    tally: Tally,
    contacts: Contacts,
    seen: Seen,
    ledger: Ledger,
    /// This machine's clock when the newest record was made.
    latest_ms: u64,
}

impl State {
    /// Takes the record with this sequence.
    pub(crate) fn apply(&mut self, sequence: u64, record: &Record) -> Result<(), RecordError> {
        self.latest_ms = self.latest_ms.max(record.made_ms());
        match record {
            Record::Outgoing(stored) => self.apply_outgoing(sequence, stored),
            Record::Receipt(stored) => self.apply_receipt(stored),
            Record::Refusal(stored) => self.apply_refusal(stored),
            Record::Incoming(stored) => self.apply_incoming(sequence, stored),
            Record::Evidence(stored) => self.apply_evidence(stored),
            Record::Rejection(stored) => self.apply_rejection(sequence, stored),
            Record::Doubted(stored) => self.apply_doubted(stored),
            Record::Confirmation(stored) => {
                if self.contacts.apply(stored) {
                    self.seen.forget(&stored.agency);
                }
                Ok(())
            }
            Record::Purge(stored) => self.apply_purge(stored),
        }
    }

    /// Packets without a final answer, oldest first.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (u64, &Outgoing)> {
        self.waiting.iter().filter_map(|sequence| Some((*sequence, self.outgoing.get(sequence)?)))
    }

    /// Own packets, newest first.
    pub(crate) fn outgoing(&self) -> impl Iterator<Item = (u64, &Outgoing)> {
        self.outgoing.iter().rev().map(|(sequence, packet)| (*sequence, packet))
    }

    /// Received packets, newest first.
    pub(crate) fn incoming(&self) -> impl Iterator<Item = (u64, &Incoming)> {
        self.incoming.iter().rev().map(|(sequence, packet)| (*sequence, packet))
    }

    /// Rejected deliveries, newest first.
    pub(crate) fn rejections(&self) -> impl Iterator<Item = &Rejection> {
        self.rejections.values().rev()
    }

    /// Our packet with that header digest.
    pub(crate) fn own(&self, digest: &Digest) -> Option<(u64, &Outgoing)> {
        let sequence = self.outgoing_by_digest.get(digest)?;
        Some((*sequence, self.outgoing.get(sequence)?))
    }

    /// The last packet that was released to a unit; zeros before the first.
    pub(crate) fn previous_to(&self, unit: &UnitRef) -> Digest {
        self.released.get(&(unit.agency.clone(), unit.unit.clone())).copied().unwrap_or_default()
    }

    /// The record that answered this delivery before.
    pub(crate) fn answered(&self, digest: &Digest, unit: &str) -> Option<u64> {
        self.answered.get(&(*digest, unit.to_owned())).copied()
    }

    /// Whether that record rejected a delivery.
    pub(crate) fn is_rejection(&self, sequence: u64) -> bool {
        self.rejections.contains_key(&sequence)
    }

    /// The digest that an originator's packet id was used for before.
    pub(crate) fn digest_of(&self, agency: &str, packet_id: PacketId) -> Option<&Digest> {
        self.ids.get(&(agency.to_owned(), packet_id))
    }

    /// Where the content keys are.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Our packet in that record.
    pub(crate) fn sent_in(&self, sequence: u64) -> Option<&Outgoing> {
        self.outgoing.get(&sequence)
    }

    /// The received packet in that record.
    pub(crate) fn received_in(&self, sequence: u64) -> Option<&Incoming> {
        self.incoming.get(&sequence)
    }

    /// Evidence kept.
    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// To whom this agency may send.
    pub(crate) fn contacts(&self) -> &Contacts {
        &self.contacts
    }

    /// How new a directory the senders of received packets have.
    pub(crate) fn seen(&self) -> &Seen {
        &self.seen
    }

    /// This machine's clock when the newest record was made; 0 before the first.
    pub(crate) fn latest_ms(&self) -> u64 {
        self.latest_ms
    }

    /// Whether the sender speaks of an earlier packet that never came here.
    pub(crate) fn misses_previous(&self, packet: &Incoming) -> bool {
        packet.previous.is_some_and(|digest| self.answered(&digest, &packet.unit).is_none())
    }

    fn apply_outgoing(&mut self, sequence: u64, stored: &StoredOutgoing) -> Result<(), RecordError> {
        let submission: Submission = canonical::decode(&stored.submission, limits::FRAME_BYTES_MAX)?;
        let core = core_of(&submission.header)?;
        let digest = fixed("header_digest", &stored.header_digest)?;
        let unit =
            |o: &lintas_proto::schema::Opening| UnitRef { agency: o.agency.clone(), unit: o.unit.clone() };
        let packet = Outgoing {
            digest,
            packet_id: core.packet_id,
            kind: core.kind,
            created_ms: stored.created_ms,
            recipients: submission.openings.iter().map(|o| (unit(o), Fate::Pending)).collect(),
            answer: Answer::Waiting,
            deliver_by_ms: core.deliver_by_ms,
            attachments: core.attachments,
            in_place_of: None,
            replaced_by: None,
            generation: 0,
            despite_stale: stored.despite_stale,
        };
        let packet = self.take_place(packet, &stored.supersedes)?;
        self.outgoing.insert(sequence, packet);
        self.outgoing_by_digest.insert(digest, sequence);
        self.waiting.insert(sequence);
        self.ledger.sealed(sequence, stored.key_page, stored.created_ms);
        Ok(())
    }

    /// Joins a packet with the one of ours whose place it takes, if any.
    fn take_place(&mut self, packet: Outgoing, supersedes: &[u8]) -> Result<Outgoing, RecordError> {
        if supersedes.is_empty() {
            return Ok(packet);
        }
        let before: Digest = fixed("supersedes", supersedes)?;
        let sequence = self.outgoing_by_digest.get(&before);
        let before = sequence.and_then(|sequence| self.outgoing.get_mut(sequence));
        let before = before.ok_or(RecordError::Missing("the packet that another one replaces"))?;
        before.replaced_by = Some(packet.packet_id);
        let generation = before.generation.saturating_add(1);
        Ok(Outgoing { in_place_of: Some(before.packet_id), generation, ..packet })
    }

    fn apply_receipt(&mut self, stored: &StoredReceipt) -> Result<(), RecordError> {
        let signed: SignedReceipt = canonical::decode(&stored.receipt, limits::RECEIPT_BYTES_MAX)?;
        let (receipt, events) = Receipt::parse(&signed.receipt)?;
        let Some(sequence) = self.outgoing_by_digest.get(&receipt.header_digest) else {
            return Err(RecordError::Missing("the packet of a receipt"));
        };
        let Some(packet) = self.outgoing.get_mut(sequence) else {
            return Err(RecordError::Missing("the packet of a receipt"));
        };
        self.waiting.remove(sequence);
        packet.answer = Answer::Accepted {
            time_ms: receipt.time_ms,
            origin: receipt.origin,
            index: receipt.events.first().map(|event| event.index).unwrap_or_default(),
            clock_differs: stored.clock_differs,
        };
        for (unit, fate) in &mut packet.recipients {
            let about = |event: &&lintas_proto::schema::AuditEvent| event.recipient.as_ref() == Some(unit);
            let denied = events.iter().filter(about).find(|event| is_denial(event.r#type));
            if let Some(event) = denied {
                *fate = Fate::Denied { reason: Reason::try_from(event.reason).unwrap_or_default() };
            } else {
                self.released.insert((unit.agency.clone(), unit.unit.clone()), packet.digest);
            }
        }
        Ok(())
    }

    fn apply_refusal(&mut self, stored: &StoredRefusal) -> Result<(), RecordError> {
        let refusal: Refusal = canonical::decode(&stored.refusal, limits::HELLO_BYTES_MAX)?;
        let digest: Digest = fixed("header_digest", &stored.header_digest)?;
        let sequence = self.outgoing_by_digest.get(&digest);
        let packet = sequence.and_then(|sequence| self.outgoing.get_mut(sequence));
        let (Some(sequence), Some(packet)) = (sequence, packet) else {
            return Err(RecordError::Missing("the packet of a refusal"));
        };
        self.waiting.remove(sequence);
        // The signed receipt is stronger than any refusal.
        if matches!(packet.answer, Answer::Accepted { .. }) {
            return Ok(());
        }
        packet.answer = Answer::Refused {
            reason: Reason::try_from(refusal.reason).unwrap_or_default(),
            text: refusal.text,
            // Kept only after it was verified.
            signed: refusal.evidence.is_some(),
            received_ms: stored.received_ms,
        };
        Ok(())
    }

    fn apply_incoming(&mut self, sequence: u64, stored: &StoredIncoming) -> Result<(), RecordError> {
        let core = core_of(&stored.header)?;
        self.seen.note(&core);
        let opening = stored.opening.as_ref().ok_or(RecordError::Missing("opening"))?;
        let digest = sha256(&[&stored.header]);
        let previous =
            if stored.previous.is_empty() { None } else { Some(fixed("previous", &stored.previous)?) };
        // A good copy of what was rejected before takes its place.
        if let Some(before) = self.answered.insert((digest, opening.unit.clone()), sequence) {
            self.rejections.remove(&before);
        }
        self.ids.insert((core.originator.agency.clone(), core.packet_id), digest);
        let packet = Incoming {
            digest,
            packet_id: core.packet_id,
            originator: core.originator,
            unit: opening.unit.clone(),
            kind: core.kind,
            received_ms: stored.received_ms,
            deliver_by_ms: core.deliver_by_ms,
            previous,
            attachments: core.attachments,
        };
        self.incoming.insert(sequence, packet);
        self.ledger.sealed(sequence, stored.key_page, stored.received_ms);
        Ok(())
    }

    fn apply_evidence(&mut self, stored: &StoredEvidence) -> Result<(), RecordError> {
        let signed: SignedEvidence = canonical::decode(&stored.evidence, limits::SIGNED_EVIDENCE_BYTES_MAX)?;
        let evidence = Evidence::parse(&signed.evidence)?;
        let (digest, recipient) = (sha256(&[&stored.evidence]), evidence.recipient.as_ref());
        self.tally.believe(digest, &evidence.header_digest, recipient);
        let sequence = self.outgoing_by_digest.get(&evidence.header_digest);
        let packet = sequence.and_then(|sequence| self.outgoing.get_mut(sequence));
        let known =
            packet.and_then(|packet| packet.recipients.iter_mut().find(|(unit, _)| Some(unit) == recipient));
        let Some((unit, fate)) = known else {
            return Ok(());
        };
        // Who signed that it has the packet has it, whatever else is said.
        let delivered = matches!(fate, Fate::Delivered { .. });
        match evidence.outcome {
            Outcome::Acceptance if evidence.actor == *unit && !delivered => {
                *fate = Fate::Delivered { time_ms: evidence.time_ms };
            }
            Outcome::Rejection | Outcome::Failure if !delivered => {
                *fate = Fate::Failed {
                    by: name(&evidence.actor),
                    reason: evidence.reason,
                    text: evidence.text,
                    time_ms: evidence.time_ms,
                };
            }
            Outcome::Acceptance | Outcome::Rejection | Outcome::Failure | Outcome::Unspecified => {}
        }
        Ok(())
    }

    fn apply_doubted(&mut self, stored: &StoredEvidence) -> Result<(), RecordError> {
        let signed: SignedEvidence = canonical::decode(&stored.evidence, limits::SIGNED_EVIDENCE_BYTES_MAX)?;
        let evidence = Evidence::parse(&signed.evidence)?;
        self.tally.doubt(sha256(&[&stored.evidence]), &evidence.header_digest);
        Ok(())
    }

    fn apply_purge(&mut self, stored: &StoredPurge) -> Result<(), RecordError> {
        if !stored.records.iter().all(|at| self.holds_packet(*at)) {
            return Err(RecordError::Missing("the packet of a purge"));
        }
        self.ledger.purge(stored);
        Ok(())
    }

    fn holds_packet(&self, sequence: u64) -> bool {
        self.outgoing.contains_key(&sequence) || self.incoming.contains_key(&sequence)
    }

    fn apply_rejection(&mut self, sequence: u64, stored: &StoredRejection) -> Result<(), RecordError> {
        let unit = stored.unit.as_ref().ok_or(RecordError::Missing("unit"))?;
        let digest = fixed("header_digest", &stored.header_digest)?;
        self.answered.insert((digest, unit.unit.clone()), sequence);
        let rejection = Rejection {
            digest,
            unit: unit.unit.clone(),
            reason: Reason::try_from(stored.reason).unwrap_or_default(),
            text: stored.text.clone(),
            received_ms: stored.received_ms,
        };
        self.rejections.insert(sequence, rejection);
        Ok(())
    }
}

/// `TH / TH-MAR`, or a broker's name.
pub(crate) fn name(unit: &UnitRef) -> String {
    if unit.unit.is_empty() { unit.agency.clone() } else { format!("{}/{}", unit.agency, unit.unit) }
}

fn core_of(header: &bytes::Bytes) -> Result<Core, RecordError> {
    let header: Header = canonical::decode(header, limits::HEADER_BYTES_MAX)?;
    Ok(Core::parse(&header.core)?)
}

fn is_denial(event_type: i32) -> bool {
    let denials = [EventType::Denied, EventType::NotAccepted, EventType::Withheld];
    denials.iter().any(|denial| *denial as i32 == event_type)
}
