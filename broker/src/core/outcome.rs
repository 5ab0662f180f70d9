//! Outcomes: what a recipient's acknowledgement, its leaving, or the end of a packet's time makes of a queue entry.

use bytes::Bytes;
use lintas_config::Directory;
use lintas_proto::{
    canonical,
    envelope::verify::PacketKeys as _,
    evidence::{Evidence, EvidenceError, sign_evidence, verify_evidence},
    id::{Digest, PacketId, sha256},
    limits,
    schema::{
        AuditEvent, EventType, Outcome, Reason, SignedEvidence, Stage, StoredOutcome, StoredTaken, UnitRef,
    },
};
use rand_core::CryptoRng;
use thiserror::Error;

use super::{
    leave::Left,
    ledger::{Ledger, LivePacket},
    queue::Held,
    record::Fact,
    refuse::{Speaker, sentence},
    scribe::Scribe,
};

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

/// How a queue entry ends.
#[derive(Debug, Clone)]
pub enum How {
    /// The recipient's evidence came.
    Acknowledged(Box<Acknowledged>),
    /// The originator has the evidence that the entry held.
    Taken,
    /// The packet's time is over.
    Expired,
    /// The recipient has left.
    Withheld {
        /// In which way.
        left: Left,
        /// The roster in force.
        roster_version: u64,
    },
}

/// One packet of one queue entry.
#[derive(Debug, Clone)]
struct Subject {
    /// Whose queue.
    agency: String,
    /// Number of the entry.
    queue_sequence: u64,
    /// Unit that the packet is for.
    unit: UnitRef,
    packet_id: PacketId,
    digest: Digest,
    originator: UnitRef,
}

/// The record that ends entry `queue_sequence` of `agency`'s queue; none when it has ended already.
///
/// # Errors
/// [`OutcomeError`]; the entry stays.
pub fn end(
    (agency, queue_sequence): (&str, u64),
    how: &How,
    ledger: &Ledger,
    speaker: &Speaker<'_>,
    now_ms: u64,
    entropy: &mut dyn CryptoRng,
) -> Result<Option<Fact>, OutcomeError> {
    let Some(entry) = ledger.queue(agency).and_then(|queue| queue.get(queue_sequence)) else {
        return Ok(None);
    };
    let misfit = OutcomeError::Misfit(queue_sequence);
    let mut scribe = Scribe::new(ledger, speaker.directory_hash, now_ms);
    let now_ms = scribe.time_ms();
    let fact = match (how, entry.held) {
        (How::Taken, Held::Evidence { .. }) => {
            Fact::Taken(StoredTaken { agency: agency.to_owned(), queue_sequence })
        }
        (How::Taken, Held::Packet { .. })
        | (How::Acknowledged(_) | How::Expired | How::Withheld { .. }, Held::Evidence { .. }) => {
            return Err(misfit);
        }
        (
            How::Acknowledged(_) | How::Expired | How::Withheld { .. },
            Held::Packet { admission, recipient_index },
        ) => {
            let packet = ledger.packet(admission).ok_or(misfit.clone())?;
            let subject = subject((agency, queue_sequence), packet, recipient_index).ok_or(misfit.clone())?;
            let (kind, reason, evidence) = match how {
                How::Acknowledged(acknowledged) if acknowledged.fits(&subject, speaker) => {
                    (EventType::Acknowledged, acknowledged.evidence.reason, acknowledged.signed.clone())
                }
                How::Expired => {
                    let evidence =
                        failure(&subject, Reason::Expired, expiry(&subject.unit), speaker, now_ms)?;
                    (EventType::Expired, Reason::Expired, evidence)
                }
                How::Withheld { left, roster_version } => {
                    let text = left.text(&subject.unit, *roster_version);
                    let evidence = failure(&subject, Reason::MemberLeft, text, speaker, now_ms)?;
                    (EventType::Withheld, Reason::MemberLeft, evidence)
                }
                How::Acknowledged(_) | How::Taken => return Err(misfit),
            };
            let ending = Ending { kind, reason, evidence };
            Fact::Outcome(ending.record(&subject, &mut scribe, entropy))
        }
    };
    Ok(Some(fact))
}

fn subject(
    (agency, queue_sequence): (&str, u64),
    packet: &LivePacket,
    recipient_index: u32,
) -> Option<Subject> {
    let unit = usize::try_from(recipient_index).ok().and_then(|at| packet.recipients.get(at))?;
    Some(Subject {
        agency: agency.to_owned(),
        queue_sequence,
        unit: unit.clone(),
        packet_id: packet.packet_id,
        digest: packet.digest,
        originator: packet.originator.clone(),
    })
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
    /// Whether the evidence speaks of this packet, this unit and its delivery.
    fn fits(&self, subject: &Subject, speaker: &Speaker<'_>) -> bool {
        let evidence = &self.evidence;
        evidence.stage == Stage::Delivery
            && evidence.packet_id == subject.packet_id
            && evidence.header_digest == subject.digest
            && evidence.recipient.as_ref() == Some(&subject.unit)
            && evidence.actor == subject.unit
            && evidence.region == speaker.region
    }
}

fn expiry(UnitRef { agency, unit }: &UnitRef) -> String {
    format!("{agency} / {unit} did not acknowledge the packet before its time was over.")
}

/// The broker's own evidence that a packet was not delivered.
fn failure(
    subject: &Subject,
    reason: Reason,
    text: String,
    speaker: &Speaker<'_>,
    now_ms: u64,
) -> Result<Bytes, EvidenceError> {
    let evidence = Evidence {
        region: speaker.region.to_owned(),
        stage: Stage::Delivery,
        outcome: Outcome::Failure,
        reason,
        text: sentence(&text),
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
    Ok(signed.first().map(canonical::encode).unwrap_or_default())
}

struct Ending {
    kind: EventType,
    reason: Reason,
    evidence: Bytes,
}

impl Ending {
    /// One event in the originator's sub-log and one in the recipient's.
    fn record(
        &self,
        subject: &Subject,
        scribe: &mut Scribe<'_>,
        entropy: &mut dyn CryptoRng,
    ) -> StoredOutcome {
        let mut event = |agency: &String| {
            let event = AuditEvent {
                r#type: self.kind as i32,
                agency: agency.clone(),
                packet_id: Bytes::copy_from_slice(subject.packet_id.as_bytes()),
                header_digest: Bytes::copy_from_slice(&subject.digest),
                originator: Some(subject.originator.clone()),
                recipient: Some(subject.unit.clone()),
                reason: self.reason as i32,
                evidence_digest: Bytes::copy_from_slice(&sha256(&[&self.evidence])),
                ..AuditEvent::default()
            };
            scribe.store(event, entropy)
        };
        let events = vec![event(&subject.originator.agency), event(&subject.agency)];
        StoredOutcome {
            agency: subject.agency.clone(),
            queue_sequence: subject.queue_sequence,
            evidence: self.evidence.clone(),
            events,
        }
    }
}

#[cfg(test)]
mod tests;
