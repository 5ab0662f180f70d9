//! What the broker and recipients say about our packets: checked before it is kept.

use bytes::Bytes;
use lintas_config::{
    Directory,
    directory::LogOwner,
    policy::decide::{BASELINE, NOT_ACCEPTED},
};
use lintas_proto::{
    audit::group::GroupError,
    canonical::{self, DecodeError, fixed},
    envelope::verify::PacketKeys as _,
    evidence::{Evidence, EvidenceError, verify_evidence},
    id::Digest,
    limits,
    receipt::{ReceiptError, verify_receipt},
    schema::{
        AuditEvent, EventType, Outcome, Reason, Refusal, SignedEvidence, SignedReceipt, Stage, StoredReceipt,
        StoredRefusal, UnitRef,
    },
    sign::{KeyRole, VerifyingKey, key_id},
};
use thiserror::Error;

use super::state::{Answer, Fate, Outgoing, State};

/// An answer that is not believed; the broker, or whoever signed it, is at fault. Nothing is kept.
#[derive(Debug, Error)]
pub(crate) enum AnswerError {
    /// Not canonical.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A receipt that does not hold.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// Evidence that does not hold.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// About a packet that is not ours.
    #[error("it speaks of a packet that this node did not send")]
    NotOurs,
    /// From another sub-log than ours.
    #[error("it stands in the sub-log `{0}`, which is not this agency's present one")]
    Origin(String),
    /// From a log of that broker that this node's directory does not know.
    #[error("it stands in the log `{0}`, which this node's directory does not know; a newer one may")]
    NewLog(String),
    /// Somebody speaks for somebody else.
    #[error("`{0}` may not make this statement")]
    Actor(String),
    /// A field that must be there is not, or is not what it must be.
    #[error("{0} is missing or out of place")]
    Field(&'static str),
}

impl AnswerError {
    /// Whether a newer directory may hold the key that signed.
    pub(crate) fn is_unknown_key(&self) -> bool {
        matches!(self, Self::Receipt(ReceiptError::Group(GroupError::UnknownKey)) | Self::NewLog(_))
    }
}

/// A receipt that holds.
#[derive(Debug)]
pub(crate) struct Checked {
    /// The receipt.
    pub(crate) receipt: lintas_proto::receipt::Receipt,
    /// Its events, opened.
    pub(crate) events: Vec<AuditEvent>,
}

/// Verifies a receipt: a broker of the directory signed it, in the sub-log of `agency` at that same broker.
pub(crate) fn check_receipt(
    bytes: &Bytes,
    directory: &Directory,
    agency: &str,
) -> Result<Checked, AnswerError> {
    let signed: SignedReceipt = canonical::decode(bytes, limits::RECEIPT_BYTES_MAX)?;
    let mut signer = None;
    let (receipt, events) = verify_receipt(&signed, |key_id| {
        let (name, key) = broker_key(directory, key_id)?;
        signer = Some(name);
        Some(key)
    })?;
    match directory.log_of(&receipt.origin) {
        None if signer.is_some_and(|signer| receipt.origin.starts_with(&format!("{signer}.log"))) => {
            Err(AnswerError::NewLog(receipt.origin))
        }
        Some(log) if Some(log.broker.name.as_str()) == signer && log.owner == LogOwner::Agency(agency) => {
            Ok(Checked { receipt, events })
        }
        Some(_) | None => Err(AnswerError::Origin(receipt.origin)),
    }
}

/// The broker took a packet of ours: the record to keep, or none when it is kept already.
pub(crate) fn accept_receipt(
    bytes: &Bytes,
    state: &State,
    directory: &Directory,
    agency: &str,
    now_ms: u64,
) -> Result<(Digest, Option<StoredReceipt>), AnswerError> {
    let Checked { receipt, events } = check_receipt(bytes, directory, agency)?;
    // Nothing is promised any more in a log that has ended.
    if directory.log_of(&receipt.origin).is_some_and(|log| log.ended().is_some()) {
        return Err(AnswerError::Origin(receipt.origin));
    }
    let (_, packet) = state.own(&receipt.header_digest).ok_or(AnswerError::NotOurs)?;
    if packet.packet_id != receipt.packet_id || !was_submitted(packet) {
        return Err(AnswerError::NotOurs);
    }
    check_events(&events, &packet.recipients, agency)?;
    let known = matches!(packet.answer, Answer::Accepted { .. });
    let stored = StoredReceipt {
        header_digest: Bytes::copy_from_slice(&receipt.header_digest),
        receipt: bytes.clone(),
        received_ms: now_ms,
        clock_differs: receipt.time_ms.abs_diff(now_ms) > limits::CLOCK_SKEW_MS_MAX,
    };
    Ok((receipt.header_digest, (!known).then_some(stored)))
}

/// What waits for a person's review, or was held back by it, never left this node.
fn was_submitted(packet: &Outgoing) -> bool {
    !matches!(packet.answer, Answer::AwaitsReview | Answer::Reviewed)
}

/// One event of submitting, one for each recipient that says what became of it there, and no other.
fn check_events(
    events: &[AuditEvent],
    recipients: &[(UnitRef, Fate)],
    agency: &str,
) -> Result<(), AnswerError> {
    let about = |unit: Option<&UnitRef>| -> Vec<&AuditEvent> {
        events.iter().filter(|event| event.recipient.as_ref() == unit).collect()
    };
    let submitted = matches!(about(None)[..], [event] if event.r#type == EventType::Submitted as i32);
    let each = |(unit, _): &(UnitRef, Fate)| matches!(about(Some(unit))[..], [event] if says_what_became(event, unit, agency));
    let whole = submitted && recipients.iter().all(each) && events.len() == recipients.len() + 1;
    if whole { Ok(()) } else { Err(AnswerError::Field("an event of the receipt")) }
}

/// Released; or not, and then by a policy that may say so: the baseline and this agency's own deny, of the recipient's is
/// told only that it does not accept.
fn says_what_became(event: &AuditEvent, unit: &UnitRef, agency: &str) -> bool {
    let by_policy = event.reason == Reason::Policy as i32 && !event.policy_ids.is_empty();
    match EventType::try_from(event.r#type).unwrap_or_default() {
        EventType::Released => matches!(
            Reason::try_from(event.reason).unwrap_or_default(),
            Reason::Unspecified | Reason::Accepted
        ),
        EventType::Denied => {
            let may = |id: &String| {
                let owner = id.split_once('/').map(|(owner, _)| owner);
                owner.is_some_and(|owner| owner == BASELINE || owner == agency)
            };
            by_policy && event.policy_ids.iter().all(may)
        }
        EventType::NotAccepted => {
            by_policy && event.policy_ids == [format!("{}/{NOT_ACCEPTED}", unit.agency)]
        }
        EventType::Unspecified
        | EventType::Submitted
        | EventType::Received
        | EventType::Delivered
        | EventType::Withheld
        | EventType::Acknowledged
        | EventType::Expired
        | EventType::Recalled
        | EventType::Destroyed
        | EventType::Relayed
        | EventType::DirectoryChanged
        | EventType::PolicyChanged
        | EventType::KeyChanged
        | EventType::Erased
        | EventType::AuditRead
        | EventType::AuditReadTold => false,
    }
}

/// What a refusal means.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Try again later, as it is.
    Later {
        /// Which packet.
        digest: Digest,
        /// Why.
        reason: Reason,
        /// The broker's sentence.
        text: String,
        /// Why it is not believed to be final, if it claims to be.
        doubt: Option<AnswerError>,
    },
    /// Final: the record to keep, or none when an answer is kept already.
    Final {
        /// Which packet.
        digest: Digest,
        /// The record.
        record: Option<StoredRefusal>,
    },
}

/// The broker refused a packet of ours.
///
/// Final is only what it has signed, or what it could not sign because it could not read the header. What does
/// not hold is tried again later.
pub(crate) fn take_refusal(
    bytes: &Bytes,
    state: &State,
    directory: &Directory,
    now_ms: u64,
) -> Result<Refused, AnswerError> {
    let refusal: Refusal = canonical::decode(bytes, limits::HELLO_BYTES_MAX)?;
    let digest: Digest =
        fixed("header_digest", &refusal.header_digest).map_err(|_| AnswerError::Field("header_digest"))?;
    let (_, packet) = state.own(&digest).ok_or(AnswerError::NotOurs)?;
    let reason = Reason::try_from(refusal.reason).unwrap_or_default();
    if matches!(reason, Reason::Unspecified | Reason::Accepted) {
        return Err(AnswerError::Field("reason"));
    }
    let stated = match &refusal.evidence {
        Some(signed) => check_statement(signed, &digest, reason, directory),
        None if refusal.retry || refusal.packet_id.is_empty() => Ok(()),
        None => Err(AnswerError::Field("evidence")),
    };
    if refusal.retry || stated.is_err() {
        return Ok(Refused::Later { digest, reason, text: refusal.text, doubt: stated.err() });
    }
    // A packet that was once accepted stays accepted: the signed receipt is stronger than a later word.
    let open = matches!(packet.answer, Answer::Waiting);
    let record = open.then(|| StoredRefusal {
        header_digest: refusal.header_digest.clone(),
        refusal: bytes.clone(),
        received_ms: now_ms,
        log_ended: packet.again,
        not_resealed: String::new(),
    });
    Ok(Refused::Final { digest, record })
}

fn check_statement(
    signed: &SignedEvidence,
    digest: &Digest,
    reason: Reason,
    directory: &Directory,
) -> Result<(), AnswerError> {
    let find = |actor: &UnitRef, key_id: &Digest| {
        let known = broker_key(directory, key_id).filter(|(name, _)| *name == actor.agency);
        known.filter(|_| actor.unit.is_empty()).map(|(_, key)| key)
    };
    let evidence = verify_evidence(signed, find)?;
    let same = evidence.header_digest == *digest && evidence.reason == reason;
    let refuses = evidence.stage == Stage::Submission && evidence.outcome == Outcome::Rejection;
    let here = evidence.region == directory.roster().region;
    if same && refuses && here { Ok(()) } else { Err(AnswerError::Field("evidence")) }
}

/// What was said about a packet.
#[derive(Debug)]
pub(crate) enum Told {
    /// Verified.
    Believed(Box<Evidence>),
    /// Canonical, but not verified: by an unknown key, or by somebody who may not say it.
    Doubted {
        /// SHA-256 of the header of the packet of ours that it speaks of, if it does.
        packet: Option<Digest>,
        /// What is wrong with it.
        why: AnswerError,
    },
}

/// Reads evidence about a packet of ours.
///
/// A recipient speaks for itself only, and only about a packet that was sent to it; a broker of the directory
/// may say that something failed. An error is for bytes that are no evidence at all.
pub(crate) fn hear_evidence(
    bytes: &Bytes,
    state: &State,
    directory: &Directory,
    now_ms: u64,
) -> Result<Told, AnswerError> {
    let signed: SignedEvidence = canonical::decode(bytes, limits::SIGNED_EVIDENCE_BYTES_MAX)?;
    Ok(match believe(&signed, state, directory, now_ms) {
        Ok(evidence) => Told::Believed(Box::new(evidence)),
        Err(why) => {
            let claimed = Evidence::parse(&signed.evidence).ok().map(|evidence| evidence.header_digest);
            Told::Doubted { packet: claimed.filter(|digest| state.own(digest).is_some()), why }
        }
    })
}

fn believe(
    signed: &SignedEvidence,
    state: &State,
    directory: &Directory,
    now_ms: u64,
) -> Result<Evidence, AnswerError> {
    let now = directory.at(now_ms);
    let find = |actor: &UnitRef, key_id: &Digest| {
        if actor.unit.is_empty() {
            broker_key(directory, key_id).filter(|(name, _)| *name == actor.agency).map(|(_, key)| key)
        } else {
            now.packet_key(actor, key_id)
        }
    };
    let evidence = verify_evidence(signed, find)?;
    if evidence.region != directory.roster().region {
        return Err(AnswerError::Field("region"));
    }
    let (_, packet) = state.own(&evidence.header_digest).ok_or(AnswerError::NotOurs)?;
    let actor = &evidence.actor;
    let allowed = match &evidence.recipient {
        Some(recipient) => {
            let asked = packet.recipients.iter().any(|(unit, _)| unit == recipient);
            let broker_says_no = actor.unit.is_empty() && evidence.outcome != Outcome::Acceptance;
            asked && (broker_says_no || actor == recipient)
        }
        None => evidence.stage == Stage::Submission && actor.unit.is_empty(),
    };
    if !allowed || packet.packet_id != evidence.packet_id || !was_submitted(packet) {
        return Err(AnswerError::Actor(super::state::name(actor)));
    }
    Ok(evidence)
}

/// Name and receipt key of the broker whose receipt key has that id.
fn broker_key<'a>(directory: &'a Directory, id: &Digest) -> Option<(&'a str, &'a VerifyingKey)> {
    let fits = |key: &VerifyingKey| key_id(KeyRole::Receipt, key.as_bytes()) == *id;
    let broker = directory.brokers().iter().find(|broker| fits(&broker.receipt_key))?;
    Some((&broker.name, &broker.receipt_key))
}
