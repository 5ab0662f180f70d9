//! Outcomes: what a recipient's acknowledgement, its leaving, a policy, or the end of a packet's time makes of a queue
//! entry.

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
    events::about_packet,
    judge::{Denied, Words},
    leave::Left,
    ledger::{Ledger, live::LivePacket},
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
    /// The policies in force do not let the recipient have it any more.
    Denied(Box<Denied>),
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
    let mut scribe = Scribe::new(ledger, speaker.generation, now_ms);
    let now_ms = scribe.time_ms();
    let fact = match (how, entry.held) {
        (How::Taken, Held::Evidence { .. }) => {
            Fact::Taken(StoredTaken { agency: agency.to_owned(), queue_sequence })
        }
        (How::Taken, Held::Packet { .. })
        | (
            How::Acknowledged(_) | How::Expired | How::Withheld { .. } | How::Denied(_),
            Held::Evidence { .. },
        ) => {
            return Err(misfit);
        }
        (
            How::Acknowledged(_) | How::Expired | How::Withheld { .. } | How::Denied(_),
            Held::Packet { admission, recipient_index },
        ) => {
            let packet = ledger.packet(admission).ok_or(misfit.clone())?;
            let subject = subject((agency, queue_sequence), packet, recipient_index).ok_or(misfit.clone())?;
            let ending = ending(how, &subject, speaker, now_ms)?.ok_or(misfit)?;
            Fact::Outcome(ending.record(&subject, &mut scribe, entropy))
        }
    };
    Ok(Some(fact))
}

/// What that end says; none if it does not fit.
fn ending<'a>(
    how: &'a How,
    subject: &Subject,
    speaker: &Speaker<'_>,
    now_ms: u64,
) -> Result<Option<Ending<'a>>, OutcomeError> {
    let failed = |reason, text: String, policy: &str| {
        failure(subject, (reason, text, policy), speaker, now_ms).map_err(OutcomeError::from)
    };
    let (kind, reason, evidence, denied) = match how {
        How::Acknowledged(acknowledged) if acknowledged.fits(subject, speaker) => {
            (EventType::Acknowledged, acknowledged.evidence.reason, acknowledged.signed.clone(), None)
        }
        How::Expired => {
            let evidence = failed(Reason::Expired, expiry(&subject.unit), "")?;
            (EventType::Expired, Reason::Expired, evidence, None)
        }
        How::Withheld { left, roster_version } => {
            let evidence = failed(Reason::MemberLeft, left.text(&subject.unit, *roster_version), "")?;
            (EventType::Withheld, Reason::MemberLeft, evidence, None)
        }
        How::Denied(denied) if denied.recipient == subject.unit => {
            let Words { policy_id, text } = &denied.told;
            let evidence = failed(Reason::Policy, text.clone(), policy_id)?;
            (EventType::Withheld, Reason::Policy, evidence, Some(denied.as_ref()))
        }
        How::Acknowledged(_) | How::Denied(_) | How::Taken => return Ok(None),
    };
    Ok(Some(Ending { kind, reason, evidence, denied }))
}

fn subject(
    (agency, queue_sequence): (&str, u64),
    packet: &LivePacket,
    recipient_index: u32,
) -> Option<Subject> {
    let unit = packet.recipients.get(recipient_index)?;
    Some(Subject {
        agency: agency.to_owned(),
        queue_sequence,
        unit: unit.clone(),
        packet_id: packet.packet_id,
        digest: packet.digest,
        originator: UnitRef::clone(&packet.originator),
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
    (reason, text, policy_id): (Reason, String, &str),
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
        policy_id: policy_id.to_owned(),
        directory_hash: speaker.generation.directory,
    };
    let signed = sign_evidence(&[evidence], speaker.key)?;
    Ok(signed.first().map(canonical::encode).unwrap_or_default())
}

struct Ending<'a> {
    kind: EventType,
    reason: Reason,
    evidence: Bytes,
    /// The policy that ended it.
    denied: Option<&'a Denied>,
}

impl Ending<'_> {
    /// One event in the originator's sub-log and one in the recipient's. Of a denial the recipient reads no more than that
    /// it is one, unless its own policy decided.
    fn record(
        &self,
        subject: &Subject,
        scribe: &mut Scribe<'_>,
        entropy: &mut dyn CryptoRng,
    ) -> StoredOutcome {
        let version = self.denied.map_or(0, |_| scribe.generation().roster_version);
        let mut event = |agency: &String, words: Option<&Words>| {
            let packet = (&subject.packet_id, &subject.digest);
            let event = AuditEvent {
                recipient: Some(subject.unit.clone()),
                reason: self.reason as i32,
                evidence_digest: Bytes::copy_from_slice(&sha256(&[&self.evidence])),
                policy_ids: words.iter().map(|words| words.policy_id.clone()).collect(),
                text: words.map(|words| words.text.clone()).unwrap_or_default(),
                version,
                ..about_packet(self.kind, agency, packet, &subject.originator)
            };
            scribe.store(event, entropy)
        };
        let told = event(&subject.originator.agency, self.denied.map(|denied| &denied.told));
        let own = event(&subject.agency, self.denied.and_then(|denied| denied.own.as_ref()));
        StoredOutcome {
            agency: subject.agency.clone(),
            queue_sequence: subject.queue_sequence,
            evidence: self.evidence.clone(),
            events: vec![told, own],
        }
    }
}

#[cfg(test)]
mod tests;
