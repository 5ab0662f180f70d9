//! The fold: how each record of the journal changes what the node knows.

use lintas_proto::{
    canonical::{self, fixed},
    envelope::core::Core,
    evidence::Evidence,
    id::{Digest, sha256},
    limits,
    receipt::Receipt,
    schema::{
        EventType, Header, Outcome, Reason, Refusal, SignedEvidence, SignedReceipt, StoredEvidence,
        StoredIncoming, StoredOutgoing, StoredPurge, StoredReceipt, StoredRefusal, StoredRejection,
        StoredReview, Submission, UnitRef,
    },
};

use super::{Answer, Denied, Fate, Incoming, Outgoing, Rejection, Review, State, name};
use crate::core::records::{Record, RecordError};

impl State {
    /// Takes the record with this sequence.
    pub(crate) fn apply(&mut self, sequence: u64, record: &Record) -> Result<(), RecordError> {
        self.latest_ms = self.latest_ms.max(record.made_ms());
        match record {
            Record::Outgoing(stored) => self.apply_outgoing(sequence, stored),
            Record::Receipt(stored) => self.apply_receipt(sequence, stored),
            Record::Refusal(stored) => self.apply_refusal(stored),
            Record::Incoming(stored) => self.apply_incoming(sequence, stored),
            Record::Evidence(stored) => self.apply_evidence(sequence, stored),
            Record::Rejection(stored) => self.apply_rejection(sequence, stored),
            Record::Doubted(stored) => self.apply_doubted(sequence, stored),
            Record::Confirmation(stored) => {
                if self.contacts.apply(stored) {
                    self.seen.forget(&stored.agency);
                }
                Ok(())
            }
            Record::Purge(stored) => self.apply_purge(stored),
            Record::Review(stored) => self.apply_review(stored),
            Record::Inclusion(stored) => {
                let size = stored.slot.as_ref().map_or(0, |slot| slot.size);
                // From here on the log itself is compared.
                self.promises.included(&stored.origin, size);
                self.receipts.included(sequence, stored);
                Ok(())
            }
            Record::RootProof(stored) => {
                self.receipts.rooted(sequence, stored);
                Ok(())
            }
            Record::Finding(stored) => {
                self.findings.apply(sequence, stored);
                Ok(())
            }
        }
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
            answer: if stored.awaits_review { Answer::AwaitsReview } else { Answer::Waiting },
            deliver_by_ms: core.deliver_by_ms,
            attachments: core.attachments,
            in_place_of: None,
            replaced_by: None,
            generation: 0,
            despite_stale: stored.despite_stale,
            review: None,
            again: false,
            evidence: Vec::new(),
        };
        let packet = self.take_place(packet, &stored.supersedes)?;
        self.outgoing.insert(sequence, packet);
        self.outgoing_by_digest.insert(digest, sequence);
        if !stored.awaits_review {
            self.waiting.insert(sequence);
        }
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
        let (generation, review) = (before.generation.saturating_add(1), before.review.clone());
        Ok(Outgoing { in_place_of: Some(before.packet_id), generation, review, ..packet })
    }

    /// Of a packet that waited for it; or, said by its sender at once, of one that was never held.
    fn apply_review(&mut self, stored: &StoredReview) -> Result<(), RecordError> {
        let digest: Digest = fixed("header_digest", &stored.header_digest)?;
        let sequence = self.outgoing_by_digest.get(&digest);
        let packet = sequence.and_then(|sequence| self.outgoing.get_mut(sequence));
        let packet = packet.ok_or(RecordError::Missing("the packet of a review"))?;
        packet.review = Some(Review {
            released: stored.released,
            reviewer: stored.reviewer.clone(),
            note: stored.note.clone(),
            time_ms: stored.time_ms,
        });
        if packet.answer == Answer::AwaitsReview {
            packet.answer = Answer::Reviewed;
        }
        Ok(())
    }

    fn apply_receipt(&mut self, record: u64, stored: &StoredReceipt) -> Result<(), RecordError> {
        let signed: SignedReceipt = canonical::decode(&stored.receipt, limits::RECEIPT_BYTES_MAX)?;
        let (receipt, events) = Receipt::parse(&signed.receipt)?;
        self.promises.note(&receipt.origin, &receipt.events, record);
        let Some(sequence) = self.outgoing_by_digest.get(&receipt.header_digest) else {
            return Err(RecordError::Missing("the packet of a receipt"));
        };
        let Some(packet) = self.outgoing.get_mut(sequence) else {
            return Err(RecordError::Missing("the packet of a receipt"));
        };
        self.waiting.remove(sequence);
        self.receipts.promised(*sequence, record, &receipt);
        packet.again = false;
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
                // Whoever has it from an earlier log has it.
                if !matches!(fate, Fate::Delivered { .. }) {
                    *fate = Fate::Denied(Denied {
                        not_accepted: event.r#type == EventType::NotAccepted as i32,
                        reason: Reason::try_from(event.reason).unwrap_or_default(),
                        policy_ids: event.policy_ids.clone(),
                        text: event.text.clone(),
                        time_ms: event.time_ms,
                    });
                }
            } else {
                if matches!(fate, Fate::Denied(_)) {
                    *fate = Fate::Pending;
                }
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
        // The signed receipt is stronger than any refusal, as long as its log goes on.
        if matches!(packet.answer, Answer::Accepted { .. }) && !stored.log_ended {
            return Ok(());
        }
        packet.again = false;
        packet.answer = Answer::Refused {
            reason: Reason::try_from(refusal.reason).unwrap_or_default(),
            text: refusal.text,
            // Kept only after it was verified.
            signed: refusal.evidence.is_some(),
            received_ms: stored.received_ms,
            not_resealed: stored.not_resealed.clone(),
        };
        Ok(())
    }

    fn apply_incoming(&mut self, sequence: u64, stored: &StoredIncoming) -> Result<(), RecordError> {
        let core = core_of(&stored.header)?;
        self.seen.note(&core);
        let signed: SignedReceipt = canonical::decode(&stored.receipt, limits::RECEIPT_BYTES_MAX)?;
        let (receipt, _) = Receipt::parse(&signed.receipt)?;
        self.promises.note(&receipt.origin, &receipt.events, sequence);
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
        self.receipts.promised(sequence, sequence, &receipt);
        self.ledger.sealed(sequence, stored.key_page, stored.received_ms);
        Ok(())
    }

    fn apply_evidence(&mut self, record: u64, stored: &StoredEvidence) -> Result<(), RecordError> {
        let signed: SignedEvidence = canonical::decode(&stored.evidence, limits::SIGNED_EVIDENCE_BYTES_MAX)?;
        let evidence = Evidence::parse(&signed.evidence)?;
        let (digest, recipient) = (sha256(&[&stored.evidence]), evidence.recipient.as_ref());
        self.tally.believe(digest, &evidence.header_digest, recipient);
        let sequence = self.outgoing_by_digest.get(&evidence.header_digest);
        let packet = sequence.and_then(|sequence| self.outgoing.get_mut(sequence));
        let known = packet.and_then(|packet| {
            packet.evidence.push(record);
            packet.recipients.iter_mut().find(|(unit, _)| Some(unit) == recipient)
        });
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
                    by_broker: evidence.actor.unit.is_empty(),
                    reason: evidence.reason,
                    policy_id: evidence.policy_id,
                    text: evidence.text,
                    time_ms: evidence.time_ms,
                };
            }
            Outcome::Acceptance | Outcome::Rejection | Outcome::Failure | Outcome::Unspecified => {}
        }
        Ok(())
    }

    fn apply_doubted(&mut self, record: u64, stored: &StoredEvidence) -> Result<(), RecordError> {
        let signed: SignedEvidence = canonical::decode(&stored.evidence, limits::SIGNED_EVIDENCE_BYTES_MAX)?;
        let evidence = Evidence::parse(&signed.evidence)?;
        self.tally.doubt(sha256(&[&stored.evidence]), &evidence.header_digest, Some(record));
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

fn core_of(header: &bytes::Bytes) -> Result<Core, RecordError> {
    let header: Header = canonical::decode(header, limits::HEADER_BYTES_MAX)?;
    Ok(Core::parse(&header.core)?)
}

fn is_denial(event_type: i32) -> bool {
    let denials = [EventType::Denied, EventType::NotAccepted, EventType::Withheld];
    denials.iter().any(|denial| *denial as i32 == event_type)
}
