//! Refusals: one function decides what a sender sees of each reason.

use bytes::Bytes;
use lintas_config::{DirectoryError, SuccessionError};
use lintas_proto::{
    canonical::{DecodeError, Problem},
    envelope::verify::VerifyError,
    evidence::{Evidence, sign_evidence},
    id::{Digest, PacketId},
    limits,
    schema::{Outcome, PolicyFacts, Reason, Refusal, Stage, UnitRef},
    sign::SigningKey,
};

use super::{judge::Denied, rules::Generation};

/// To the sender of a packet whose receipt was erased.
pub(super) const ERASED: &str = "The broker took this packet before, and its receipt was erased by the order of an agency whose \
                      data it held; it is not sent again. If it still matters, write it anew.";

/// Why a submission was not accepted, and what the sender should do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Stable code.
    pub reason: Reason,
    /// One plain sentence: what is wrong, who decided, what to do.
    pub text: String,
    /// The policy that denied, for [`Reason::Policy`]; otherwise empty.
    pub policy_id: String,
    /// The packet, if its header could be read.
    pub packet: Option<PacketId>,
    /// Whom it concerns, if the signature was verified and the submission came from the agency that signed.
    pub concerns: Option<Box<Concerned>>,
    /// SHA-256 of the header bytes as they came.
    pub header_digest: Digest,
}

/// Whom a refusal concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concerned {
    /// Who signed the packet.
    pub originator: UnitRef,
    /// Recipients that were denied, for [`Reason::Policy`].
    pub denials: Vec<Denied>,
    /// What the policies were asked about; with the denials.
    pub facts: Option<PolicyFacts>,
}

/// Who speaks for a broker, and with what.
#[derive(Debug)]
pub struct Speaker<'a> {
    /// Region.
    pub region: &'a str,
    /// Name of the broker.
    pub broker: &'a str,
    /// Name of its present log.
    pub log: &'a str,
    /// Its receipt key.
    pub key: &'a SigningKey,
    /// Rules in force.
    pub generation: Generation,
}

impl Speaker<'_> {
    /// The broker as the actor of evidence.
    #[must_use]
    pub fn actor(&self) -> UnitRef {
        UnitRef { agency: self.broker.to_owned(), unit: String::new() }
    }
}

impl Refused {
    /// Whether it is an audit event: a final word about a packet whose signature was verified.
    #[must_use]
    pub fn is_logged(&self) -> bool {
        self.concerns.is_some() && self.packet.is_some() && is_final(self.reason)
    }

    /// The same packet refused for now, with another reason.
    #[must_use]
    pub fn instead(&self, reason: Reason, text: &str) -> Self {
        Self { reason, text: sentence(text), policy_id: String::new(), ..self.clone() }
    }

    /// The answer to the sender, with the broker's signed statement where the packet could be named.
    #[must_use]
    pub fn answer(&self, speaker: &Speaker<'_>, now_ms: u64) -> Refusal {
        let evidence = self.packet.and_then(|packet_id| {
            let evidence = Evidence {
                region: speaker.region.to_owned(),
                stage: Stage::Submission,
                outcome: Outcome::Rejection,
                reason: self.reason,
                text: self.text.clone(),
                packet_id,
                header_digest: self.header_digest,
                actor: speaker.actor(),
                recipient: None,
                time_ms: now_ms,
                leaf: None,
                policy_id: self.policy_id.clone(),
                directory_hash: speaker.generation.directory,
            };
            sign_evidence(&[evidence], speaker.key).ok().and_then(|mut signed| signed.pop())
        });
        let id = self.packet.map(|id| Bytes::copy_from_slice(id.as_bytes()));
        Refusal {
            packet_id: id.unwrap_or_default(),
            header_digest: Bytes::copy_from_slice(&self.header_digest),
            reason: self.reason as i32,
            text: self.text.clone(),
            retry: may_retry(self.reason),
            evidence,
        }
    }
}

/// Whether a refusal with that reason is the last word on a packet, so that it stands in the log. A stale directory is
/// not: the node catches up and seals the packet again.
fn is_final(reason: Reason) -> bool {
    !may_retry(reason) && reason != Reason::StaleDirectory
}

/// Whether the very same packet may be accepted later.
fn may_retry(reason: Reason) -> bool {
    match reason {
        Reason::Quota
        | Reason::DiskFull
        | Reason::ShuttingDown
        | Reason::MissingAttachment
        | Reason::Clock => true,
        Reason::Unspecified
        | Reason::Accepted
        | Reason::Malformed
        | Reason::TooLarge
        | Reason::UnknownSender
        | Reason::BadSignature
        | Reason::WrongRegion
        | Reason::StaleDirectory
        | Reason::UnknownRecipient
        | Reason::MemberLeft
        | Reason::Expired
        | Reason::NotYetValid
        | Reason::Replay
        | Reason::Policy
        | Reason::CannotOpen
        | Reason::Reseal => false,
    }
}

/// Reason for each way in which verification fails.
#[must_use]
pub fn reason_of(error: &VerifyError) -> Reason {
    match error {
        VerifyError::Header(DecodeError { problem: Problem::TooLarge { .. }, .. }) => Reason::TooLarge,
        VerifyError::UnknownKey { .. } => Reason::UnknownSender,
        VerifyError::Signature => Reason::BadSignature,
        VerifyError::Header(_)
        | VerifyError::HeaderSize(_)
        | VerifyError::Core(_)
        | VerifyError::Count { .. }
        | VerifyError::Digest(_)
        | VerifyError::BodyLength { .. } => Reason::Malformed,
    }
}

/// Reason for each way in which a directory does not follow.
#[must_use]
pub fn reason_of_succession(error: &SuccessionError) -> Reason {
    match error {
        SuccessionError::Directory(
            DirectoryError::Signature(_) | DirectoryError::TooFewSignatures { .. },
        ) => Reason::BadSignature,
        SuccessionError::Directory(DirectoryError::WrongRegion { .. }) => Reason::WrongRegion,
        SuccessionError::Directory(
            DirectoryError::Decode(_)
            | DirectoryError::Id { .. }
            | DirectoryError::Rule { .. }
            | DirectoryError::Key { .. }
            | DirectoryError::Baseline(_)
            | DirectoryError::KeyTwice(_),
        ) => Reason::Malformed,
        SuccessionError::NotConfirmed { .. } => Reason::UnknownSender,
        SuccessionError::RosterRolledBack { .. }
        | SuccessionError::RosterEquivocation { .. }
        | SuccessionError::StepMissing { .. }
        | SuccessionError::RosterFork { .. }
        | SuccessionError::MemberGone { .. }
        | SuccessionError::MemberReturned { .. }
        | SuccessionError::LogReturned { .. }
        | SuccessionError::LogKey { .. }
        | SuccessionError::Loosened { .. }
        | SuccessionError::Agency { .. } => Reason::StaleDirectory,
    }
}

/// A sentence cut to what evidence may carry, at a character boundary.
#[must_use]
pub fn sentence(text: &str) -> String {
    cut(text, limits::SENTENCE_BYTES_MAX)
}

/// A text cut to so many bytes, at a character boundary.
#[must_use]
pub fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let fits = |(at, c): &(usize, char)| at + c.len_utf8() <= bytes_max;
    text.char_indices().take_while(fits).map(|(_, c)| c).collect()
}
