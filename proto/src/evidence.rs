//! Evidence: signed statements about a packet at one stage of its way (the names follow AS4 and ETSI REM:
//! Submission, Relay, Delivery, Retrieval; Acceptance, Rejection, Failure). Not a packet: small, signed in
//! groups, journaled and queued like one.

use bytes::Bytes;
use thiserror::Error;

use crate::{
    audit::{
        group::{self, GroupError, GroupOf},
        leaf::LEAF_BYTES,
    },
    canonical::{self, DecodeError, WrongSize, fixed},
    id::{Digest, IdError, PacketId, check_code, check_name},
    limits,
    schema::{self, Outcome, Reason, SignedEvidence, Stage, UnitRef},
    sign::{SUITE, SigningKey, VerifyingKey},
};

/// Why evidence was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EvidenceError {
    /// Not canonical.
    #[error("evidence: {0}")]
    Decode(#[from] DecodeError),
    /// A fixed-size field of another size.
    #[error("evidence: {0}")]
    Size(#[from] WrongSize),
    /// A packet id, code or name that is none.
    #[error("evidence: {0}")]
    Id(#[from] IdError),
    /// A field that must be there is not, or one that may not be there is.
    #[error("evidence: {0} is missing, too long or out of place")]
    Field(&'static str),
    /// Beyond [`limits::EVIDENCE_BYTES_MAX`].
    #[error("evidence of {have} bytes, at most {} are allowed", limits::EVIDENCE_BYTES_MAX)]
    TooLarge {
        /// Bytes it would have.
        have: usize,
    },
    /// The proof does not hold.
    #[error("evidence: {0}")]
    Group(#[from] GroupError),
}

/// A statement about one packet at one stage. Shape in docs/FORMAT.md, "Evidence".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// Region.
    pub region: String,
    /// Where on its way the packet was.
    pub stage: Stage,
    /// What became of it there.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
    /// One plain sentence; may be empty.
    pub text: String,
    /// The packet.
    pub packet_id: PacketId,
    /// SHA-256 of its header.
    pub header_digest: Digest,
    /// Who says so. A broker speaks with its name as `agency` and no unit.
    pub actor: UnitRef,
    /// For whom the packet was; none on submission.
    pub recipient: Option<UnitRef>,
    /// When, milliseconds since 1970-01-01T00:00:00Z.
    pub time_ms: u64,
    /// Leaf that the actor saw in its own sub-log; none on submission.
    pub leaf: Option<[u8; LEAF_BYTES]>,
    /// Policy that decided; empty unless the reason is a policy.
    pub policy_id: String,
    /// Directory under which it was said.
    pub directory_hash: Digest,
}

impl Evidence {
    /// Canonical bytes, at most 1 KiB.
    ///
    /// # Errors
    /// [`EvidenceError`].
    pub fn to_bytes(&self) -> Result<Bytes, EvidenceError> {
        self.check()?;
        let bytes = canonical::encode(&schema::Evidence {
            suite: SUITE.into(),
            region: self.region.clone(),
            stage: self.stage as i32,
            outcome: self.outcome as i32,
            reason: self.reason as i32,
            text: self.text.clone(),
            packet_id: Bytes::copy_from_slice(self.packet_id.as_bytes()),
            header_digest: Bytes::copy_from_slice(&self.header_digest),
            actor: Some(self.actor.clone()),
            recipient: self.recipient.clone(),
            time_ms: self.time_ms,
            leaf: self.leaf.map(|leaf| Bytes::copy_from_slice(&leaf)).unwrap_or_default(),
            policy_id: self.policy_id.clone(),
            directory_hash: Bytes::copy_from_slice(&self.directory_hash),
        });
        if bytes.len() > limits::EVIDENCE_BYTES_MAX {
            return Err(EvidenceError::TooLarge { have: bytes.len() });
        }
        Self::parse(&bytes).map(|_| bytes)
    }

    /// Reads canonical bytes.
    ///
    /// # Errors
    /// [`EvidenceError`].
    pub fn parse(bytes: &Bytes) -> Result<Self, EvidenceError> {
        let wire: schema::Evidence = canonical::decode(bytes, limits::EVIDENCE_BYTES_MAX)?;
        if wire.suite != u32::from(SUITE) {
            return Err(EvidenceError::Field("suite"));
        }
        let field = |name| move |_| EvidenceError::Field(name);
        let evidence = Self {
            region: wire.region,
            stage: Stage::try_from(wire.stage).map_err(field("stage"))?,
            outcome: Outcome::try_from(wire.outcome).map_err(field("outcome"))?,
            reason: Reason::try_from(wire.reason).map_err(field("reason"))?,
            text: wire.text,
            packet_id: PacketId::from_bytes(&wire.packet_id)?,
            header_digest: fixed("header_digest", &wire.header_digest)?,
            actor: wire.actor.ok_or(EvidenceError::Field("actor"))?,
            recipient: wire.recipient,
            time_ms: wire.time_ms,
            leaf: if wire.leaf.is_empty() { None } else { Some(fixed("leaf", &wire.leaf)?) },
            policy_id: wire.policy_id,
            directory_hash: fixed("directory_hash", &wire.directory_hash)?,
        };
        evidence.check()?;
        Ok(evidence)
    }

    fn check(&self) -> Result<(), EvidenceError> {
        check_name(&self.region)?;
        let rules = [
            ("stage", self.stage != Stage::Unspecified),
            ("outcome", self.outcome != Outcome::Unspecified),
            ("reason", self.reason != Reason::Unspecified),
            ("reason", (self.outcome == Outcome::Acceptance) == (self.reason == Reason::Accepted)),
            ("text", self.text.len() <= limits::SENTENCE_BYTES_MAX),
            ("policy_id", self.policy_id.len() <= limits::NAME_BYTES_MAX),
            ("policy_id", self.policy_id.is_empty() || self.reason == Reason::Policy),
            ("recipient", self.recipient.is_some() != (self.stage == Stage::Submission)),
            ("leaf", self.leaf.is_none() || self.stage != Stage::Submission),
            ("time_ms", self.time_ms > 0),
        ];
        if let Some((name, _)) = rules.iter().find(|(_, holds)| !holds) {
            return Err(EvidenceError::Field(name));
        }
        if let Some(recipient) = &self.recipient {
            check_code(&recipient.agency)?;
            check_code(&recipient.unit)?;
        }
        if self.actor.unit.is_empty() {
            return Ok(check_name(&self.actor.agency)?);
        }
        check_code(&self.actor.agency)?;
        Ok(check_code(&self.actor.unit)?)
    }
}

/// Signs evidence as one group; in the same order.
///
/// # Errors
/// [`EvidenceError`].
pub fn sign_evidence(evidence: &[Evidence], key: &SigningKey) -> Result<Vec<SignedEvidence>, EvidenceError> {
    let statements: Result<Vec<Bytes>, _> = evidence.iter().map(Evidence::to_bytes).collect();
    let statements = statements?;
    let proofs = group::sign(GroupOf::Evidence, &statements, key)?;
    let join = |(evidence, proof)| SignedEvidence { evidence, proof: Some(proof) };
    Ok(statements.into_iter().zip(proofs).map(join).collect())
}

/// Checks signed evidence. `find` gives the key with that id that the actor may sign evidence with: the packet
/// key of an agency, the receipt key of a broker.
///
/// # Errors
/// [`EvidenceError`].
pub fn verify_evidence<'k>(
    signed: &SignedEvidence,
    find: impl FnOnce(&UnitRef, &Digest) -> Option<&'k VerifyingKey>,
) -> Result<Evidence, EvidenceError> {
    let evidence = Evidence::parse(&signed.evidence)?;
    let proof = signed.proof.as_ref().ok_or(EvidenceError::Field("proof"))?;
    group::verify(GroupOf::Evidence, &signed.evidence, proof, |key_id| find(&evidence.actor, key_id))?;
    Ok(evidence)
}
