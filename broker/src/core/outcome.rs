//! Outcomes: what a recipient's acknowledgement, or the end of a packet's time, makes of a queue entry.

use bytes::Bytes;
use lintas_config::Directory;
use lintas_proto::{
    audit::leaf::log_event,
    canonical,
    envelope::verify::PacketKeys as _,
    evidence::{Evidence, EvidenceError, sign_evidence, verify_evidence},
    id::{Digest, PacketId, sha256},
    limits,
    schema::{
        AuditEvent, EventType, Outcome, Reason, SignedEvidence, Stage, StoredEvent, StoredOutcome, UnitRef,
    },
};
use rand_core::CryptoRng;
use thiserror::Error;

use super::{ledger::Ledger, refuse::Speaker};

/// Why an acknowledgement was not taken. The node is at fault; the entry stays in its queue.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OutcomeError {
    /// The evidence is not sound.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// The evidence speaks of something else.
    #[error("the evidence does not fit queue entry {0}")]
    Misfit(u64),
}

/// One packet of one queue entry.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Whose queue.
    pub agency: String,
    /// Number of the entry.
    pub queue_sequence: u64,
    /// Unit that the packet is for.
    pub unit: UnitRef,
    /// The packet.
    pub packet_id: PacketId,
    /// SHA-256 of its header.
    pub digest: Digest,
    /// Who sent it.
    pub originator: UnitRef,
}

/// Evidence of a recipient that may end a queue entry. Made by [`verify`] only.
#[derive(Debug, Clone)]
pub struct Acknowledged {
    evidence: Evidence,
    signed: Bytes,
}

/// Checks a recipient's signed evidence; `agency` is whose session it came through.
///
/// # Errors
/// [`OutcomeError`].
pub fn verify(
    signed: &Bytes,
    agency: &str,
    directory: &Directory,
    now_ms: u64,
) -> Result<Acknowledged, OutcomeError> {
    let decoded: SignedEvidence =
        canonical::decode(signed, limits::SIGNED_EVIDENCE_BYTES_MAX).map_err(EvidenceError::from)?;
    let view = directory.at(now_ms);
    let evidence = verify_evidence(&decoded, |actor, key_id| {
        if actor.agency == agency { view.packet_key(actor, key_id) } else { None }
    })?;
    Ok(Acknowledged { evidence, signed: signed.clone() })
}

impl Acknowledged {
    /// The record that ends the entry.
    ///
    /// # Errors
    /// [`OutcomeError::Misfit`] when the evidence speaks of another packet, unit or stage.
    pub fn end(
        &self,
        subject: &Subject,
        ledger: &Ledger,
        speaker: &Speaker<'_>,
        now_ms: u64,
        entropy: &mut dyn CryptoRng,
    ) -> Result<StoredOutcome, OutcomeError> {
        let evidence = &self.evidence;
        let fits = evidence.stage == Stage::Delivery
            && evidence.packet_id == subject.packet_id
            && evidence.header_digest == subject.digest
            && evidence.recipient.as_ref() == Some(&subject.unit)
            && evidence.actor == subject.unit
            && evidence.region == speaker.region;
        if !fits {
            return Err(OutcomeError::Misfit(subject.queue_sequence));
        }
        let ending =
            Ending { kind: EventType::Acknowledged, reason: evidence.reason, evidence: &self.signed };
        Ok(ending.record(subject, ledger, speaker, now_ms, entropy))
    }
}

/// The record that ends an entry whose time is over, with the broker's own evidence.
///
/// # Errors
/// [`OutcomeError::Evidence`]; does not happen for what the ledger holds.
pub fn expire(
    subject: &Subject,
    ledger: &Ledger,
    speaker: &Speaker<'_>,
    now_ms: u64,
    entropy: &mut dyn CryptoRng,
) -> Result<StoredOutcome, OutcomeError> {
    let evidence = Evidence {
        region: speaker.region.to_owned(),
        stage: Stage::Delivery,
        outcome: Outcome::Failure,
        reason: Reason::Expired,
        text: format!(
            "{} / {} did not fetch the packet before its time was over.",
            subject.unit.agency, subject.unit.unit
        ),
        packet_id: subject.packet_id,
        header_digest: subject.digest,
        actor: speaker.actor(),
        recipient: Some(subject.unit.clone()),
        time_ms: now_ms,
        leaf: None,
        policy_id: String::new(),
        directory_hash: speaker.directory_hash,
    };
    let signed = sign_evidence(&[evidence], speaker.key)?;
    let evidence = signed.first().map(canonical::encode).unwrap_or_default();
    let ending = Ending { kind: EventType::Expired, reason: Reason::Expired, evidence: &evidence };
    Ok(ending.record(subject, ledger, speaker, now_ms, entropy))
}

struct Ending<'a> {
    kind: EventType,
    reason: Reason,
    evidence: &'a Bytes,
}

impl Ending<'_> {
    /// One event in the originator's sub-log and one in the recipient's.
    fn record(
        &self,
        subject: &Subject,
        ledger: &Ledger,
        speaker: &Speaker<'_>,
        now_ms: u64,
        entropy: &mut dyn CryptoRng,
    ) -> StoredOutcome {
        let mut events = Vec::with_capacity(2);
        for agency in [&subject.originator.agency, &subject.agency] {
            let event = AuditEvent {
                r#type: self.kind as i32,
                agency: agency.clone(),
                time_ms: now_ms,
                packet_id: Bytes::copy_from_slice(subject.packet_id.as_bytes()),
                header_digest: Bytes::copy_from_slice(&subject.digest),
                originator: Some(subject.originator.clone()),
                recipient: Some(subject.unit.clone()),
                directory_hash: Bytes::copy_from_slice(&speaker.directory_hash),
                reason: self.reason as i32,
                evidence_digest: Bytes::copy_from_slice(&sha256(&[self.evidence])),
                ..AuditEvent::default()
            };
            let mut salt = [0; 32];
            entropy.fill_bytes(&mut salt);
            // An agency may write to itself: then both events stand in the same sub-log.
            let before =
                events.iter().filter(|stored: &&StoredEvent| stored.agency == *agency).count() as u64;
            let event = log_event(ledger.log_size(agency) + before, salt, &event);
            events.push(StoredEvent { agency: agency.clone(), event: Some(event) });
        }
        StoredOutcome {
            agency: subject.agency.clone(),
            queue_sequence: subject.queue_sequence,
            evidence: self.evidence.clone(),
            events,
        }
    }
}
