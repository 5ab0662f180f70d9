//! A delivery: verify everything again, open, ask the own policy ([`taken`]), look once more when it is to be kept
//! ([`stands()`]), and decide what to answer ([`settle()`]). Nothing is stored here.

mod settle;
mod stands;
mod taken;

use std::sync::MutexGuard;

use bytes::Bytes;
use lintas_config::{Directory, policy::Policies};
use lintas_proto::{
    audit::leaf::LEAF_BYTES,
    canonical::{self, fixed},
    envelope::{
        chunk::ContentKey,
        core::Core,
        open::{OpenError, Parts, open},
        verify::{PacketKeys as _, VerifyError, verify_header},
    },
    evidence::Evidence,
    id::{Digest, PacketId, sha256},
    limits,
    schema::{
        AttachmentRef, Delivery, EventType, Header, Opening, Outcome, Reason, Stage, StoredIncoming, UnitRef,
    },
};

use self::taken::denied;
pub(crate) use self::{
    settle::{Verdict, settle},
    stands::{Stands, stands},
};
use super::{answer::check_receipt, keys::Keys, state::State, text::shorten};

/// Purpose under which content keys of received packets are sealed; the id is [`incoming_id`].
pub(crate) const INCOMING_PURPOSE: &str = "lintas/v1/store/incoming";

/// Why a packet is not taken whose id another one has.
const REPLAY: &str = "this packet id was used before for another packet";

/// Names a received packet for one unit.
pub(crate) fn incoming_id(digest: &Digest, unit: &str) -> Vec<u8> {
    [digest.as_slice(), unit.as_bytes()].concat()
}

/// What a judgement rests on.
#[derive(Clone, Copy)]
pub(crate) struct Bench<'a> {
    /// What was received before. Looked at for moments: others are judged and kept meanwhile.
    pub(crate) state: &'a dyn Fn() -> MutexGuard<'a, State>,
    /// Whose keys count.
    pub(crate) directory: &'a Directory,
    /// The baseline and the own release policy; none if they cannot be read.
    pub(crate) policies: Option<&'a Policies>,
    /// What opens packets.
    pub(crate) keys: &'a Keys,
    /// Now.
    pub(crate) now_ms: u64,
}

impl Bench<'_> {
    /// The record that answered this delivery before, and whether nothing changes that answer: what was kept stays, and
    /// what a policy did not take is not taken when the policy is another one.
    fn answered(&self, digest: &Digest, unit: &str) -> Option<(u64, bool)> {
        answered(&(self.state)(), digest, unit)
    }
}

fn answered(state: &State, digest: &Digest, unit: &str) -> Option<(u64, bool)> {
    let record = state.answered(digest, unit)?;
    let rejection = state.rejection(record);
    Some((record, rejection.is_none_or(|rejection| rejection.reason == Reason::Policy)))
}

/// Whether an originator's packet id was used before for another packet.
fn is_replay(state: &State, agency: &str, packet_id: PacketId, digest: &Digest) -> bool {
    state.digest_of(agency, packet_id).is_some_and(|before| before != digest)
}

/// What is to be done with a delivery.
#[derive(Debug)]
pub(crate) enum Judgement {
    /// It was answered before, by the record with this sequence: the same answer goes out again.
    Again(u64),
    /// It is what it claims to be, and opens.
    Accept(Box<Accepted>),
    /// It is not; the failure is kept and answered.
    Reject(Box<Rejected>),
    /// This node's directory is too old to judge it. It stays with the broker, unanswered.
    TooNew(String),
    /// This node's directory does not know this unit of its own agency. It stays with the broker, unanswered.
    UnknownUnit(String),
    /// What this agency takes is not known here. It stays with the broker, unanswered.
    NoPolicy,
    /// The broker broke the protocol; nothing can be answered.
    Unanswerable(&'static str),
}

/// A delivery that was opened.
pub(crate) struct Accepted {
    /// SHA-256 of the header.
    pub(crate) digest: Digest,
    /// For which unit.
    pub(crate) unit: String,
    /// Blobs to fetch before it is kept.
    pub(crate) attachments: Vec<AttachmentRef>,
    /// The agency that sealed it.
    pub(crate) originator: String,
    /// What it knew of the broker's log, from the body; of which nothing is verified.
    pub(crate) root_checkpoint: Bytes,
    stored: StoredIncoming,
    content_key: ContentKey,
    evidence: Evidence,
}

impl Accepted {
    /// The packet's id.
    pub(crate) fn packet_id(&self) -> PacketId {
        self.evidence.packet_id
    }
}

impl std::fmt::Debug for Accepted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Accepted { .. }")
    }
}

/// A delivery that was not.
#[derive(Debug)]
pub(crate) struct Rejected {
    /// SHA-256 of the header bytes.
    pub(crate) digest: Digest,
    /// For which unit.
    pub(crate) unit: String,
    /// Why.
    pub(crate) text: String,
    evidence: Evidence,
}

/// What is wrong with a delivery.
struct Fault {
    reason: Reason,
    text: String,
    too_new: bool,
}

impl Fault {
    fn new(reason: Reason, text: impl ToString) -> Self {
        Self { reason, text: text.to_string(), too_new: false }
    }

    /// `evidence` says yet that the packet was taken.
    fn reject(self, evidence: Evidence) -> Rejected {
        let text = shorten(&self.text, limits::SENTENCE_BYTES_MAX);
        let (digest, unit) = (evidence.header_digest, evidence.actor.unit.clone());
        let (outcome, reason) = (Outcome::Failure, self.reason);
        let evidence = Evidence { outcome, reason, text: text.clone(), ..evidence };
        Rejected { digest, unit, text, evidence }
    }
}

/// Judges a delivery.
pub(crate) fn judge(delivery: &Delivery, bench: Bench<'_>) -> Judgement {
    let Some(opening) = delivery.opening.as_ref() else {
        return Judgement::Unanswerable("a delivery without an opening");
    };
    let unit = UnitRef { agency: opening.agency.clone(), unit: opening.unit.clone() };
    if unit.agency != bench.keys.agency {
        return Judgement::Unanswerable("a delivery for a unit that is not this agency's");
    }
    if !bench.directory.has_unit(&unit) {
        return Judgement::UnknownUnit(unit.unit);
    }
    let digest = sha256(&[&delivery.header]);
    let before = bench.answered(&digest, &unit.unit);
    if let Some((sequence, true)) = before {
        return Judgement::Again(sequence);
    }
    let judgement = judge_new(delivery, opening, (digest, unit), bench);
    // What was rejected may have been a damaged copy; only a good one changes the answer.
    match (before, judgement) {
        (Some((sequence, _)), Judgement::Reject(_) | Judgement::TooNew(_) | Judgement::NoPolicy) => {
            Judgement::Again(sequence)
        }
        (_, judgement) => judgement,
    }
}

fn judge_new(
    delivery: &Delivery,
    opening: &Opening,
    (digest, unit): (Digest, UnitRef),
    bench: Bench<'_>,
) -> Judgement {
    let receipt = received(delivery, &digest, &unit, bench);
    let core = claimed_core(&delivery.header);
    let known_id = receipt.as_ref().ok().map(|seen| seen.packet_id);
    let Some(packet_id) = core.as_ref().map(|core| core.packet_id).or(known_id) else {
        return Judgement::Unanswerable("a delivery in which neither header nor receipt can be read");
    };
    let leaf = receipt.as_ref().ok().map(|seen| seen.leaf);
    let fault = match receipt.and_then(|seen| examine(delivery, opening, &seen, bench)) {
        Ok(examined) => {
            let Some(policies) = bench.policies.filter(|known| known.bundle(&unit.agency).is_some()) else {
                return Judgement::NoPolicy;
            };
            if let Some(denied) = denied(policies, &examined.core, opening, &unit, bench.now_ms) {
                let evidence = Evidence { leaf, ..said(bench, packet_id, digest, &unit) };
                return Judgement::Reject(Box::new(denied.reject(evidence)));
            }
            let Examined { stored, content_key, core, root_checkpoint } = examined;
            let evidence = Evidence { leaf, ..said(bench, packet_id, digest, &unit) };
            let Core { attachments, originator: UnitRef { agency: originator, .. }, .. } = core;
            let unit = unit.unit;
            let accepted = Accepted {
                digest,
                unit,
                attachments,
                originator,
                root_checkpoint,
                stored,
                content_key,
                evidence,
            };
            return Judgement::Accept(Box::new(accepted));
        }
        Err(fault) => fault,
    };
    if fault.too_new {
        return Judgement::TooNew(fault.text);
    }
    let evidence = Evidence { leaf, ..said(bench, packet_id, digest, &unit) };
    Judgement::Reject(Box::new(fault.reject(evidence)))
}

/// What the receipt that came with a delivery says.
struct Seen {
    packet_id: PacketId,
    leaf: [u8; LEAF_BYTES],
}

/// The receipt must stand in our own sub-log, for this packet and this unit.
fn received(delivery: &Delivery, digest: &Digest, unit: &UnitRef, bench: Bench<'_>) -> Result<Seen, Fault> {
    let refuse = |error: &dyn ToString| {
        Fault::new(Reason::Malformed, format!("the broker's receipt does not hold: {}", error.to_string()))
    };
    let checked = check_receipt(&delivery.receipt, bench.directory, &bench.keys.agency)
        .map_err(|error| Fault { too_new: error.is_unknown_key(), ..refuse(&error) })?;
    if checked.receipt.header_digest != *digest {
        return Err(refuse(&"it is for another packet"));
    }
    let mut events = checked.receipt.events.iter().zip(&checked.events);
    let received = events.find(|(_, event)| {
        event.r#type == EventType::Received as i32 && event.recipient.as_ref() == Some(unit)
    });
    let (logged, _) = received.ok_or_else(|| refuse(&"it has no event of receiving by this unit"))?;
    let leaf = fixed("leaf", &logged.leaf).map_err(|error| refuse(&error))?;
    Ok(Seen { packet_id: checked.receipt.packet_id, leaf })
}

/// A delivery that holds, opened.
struct Examined {
    stored: StoredIncoming,
    content_key: ContentKey,
    core: Core,
    root_checkpoint: Bytes,
}

fn examine(delivery: &Delivery, opening: &Opening, seen: &Seen, bench: Bench<'_>) -> Result<Examined, Fault> {
    let now = bench.directory.at(bench.now_ms);
    let header = verify_header(&delivery.header, &delivery.signature, &now)
        .map_err(|error| verify_fault(error, delivery, bench))?;
    let core = header.core();
    if core.region != bench.keys.region {
        return Err(Fault::new(Reason::WrongRegion, "the packet is for another region"));
    }
    if core.packet_id != seen.packet_id {
        return Err(Fault::new(Reason::Malformed, "the broker's receipt names another packet id"));
    }
    if is_replay(&(bench.state)(), &core.originator.agency, core.packet_id, header.digest()) {
        return Err(Fault::new(Reason::Replay, REPLAY));
    }
    let secret = bench.keys.decryption_key(&opening.unit, &opening.enc_key_id);
    let secret = secret.ok_or_else(|| {
        Fault::new(Reason::CannotOpen, "the packet was sealed for a key that this node does not have")
    })?;
    let index = usize::try_from(delivery.recipient_index).unwrap_or(usize::MAX);
    let parts = Parts { index, opening, wrap: &delivery.wrap, body: &delivery.body };
    let opened = open(&header, parts, secret).map_err(|error| open_fault(&error))?;
    let sign_key = now.packet_key(&core.originator, &core.sign_key_id);
    let previous = opened.previous;
    let stored = StoredIncoming {
        header: delivery.header.clone(),
        signature: delivery.signature.clone(),
        recipient_index: delivery.recipient_index,
        opening: Some(opening.clone()),
        body: delivery.body.clone(),
        receipt: delivery.receipt.clone(),
        sealed_key: Bytes::new(),
        previous: if previous == Digest::default() {
            Bytes::new()
        } else {
            Bytes::copy_from_slice(&previous)
        },
        received_ms: bench.now_ms,
        evidence: Bytes::new(),
        key_page: 0,
        sign_key: sign_key.map(|key| Bytes::copy_from_slice(key.as_bytes())).unwrap_or_default(),
    };
    Ok(Examined {
        stored,
        core: core.clone(),
        root_checkpoint: opened.body.root_checkpoint,
        content_key: opened.content_key,
    })
}

/// A signature by an unknown key may be a newer directory's, not a forgery: then the packet waits.
fn verify_fault(error: VerifyError, delivery: &Delivery, bench: Bench<'_>) -> Fault {
    match error {
        VerifyError::UnknownKey { .. } => Fault {
            too_new: claimed_core(&delivery.header).is_some_and(|core| is_newer(&core, bench.directory)),
            ..Fault::new(Reason::BadSignature, error)
        },
        VerifyError::Signature => Fault::new(Reason::BadSignature, error),
        VerifyError::Header(_)
        | VerifyError::HeaderSize(_)
        | VerifyError::Core(_)
        | VerifyError::Count { .. }
        | VerifyError::Digest(_)
        | VerifyError::BodyLength { .. } => Fault::new(Reason::Malformed, error),
    }
}

fn open_fault(error: &OpenError) -> Fault {
    let reason = match error {
        OpenError::OtherKey | OpenError::CannotOpen => Reason::CannotOpen,
        OpenError::Verify(_) | OpenError::Body(_) | OpenError::Decode(_) | OpenError::Pad(_) => {
            Reason::Malformed
        }
    };
    Fault::new(reason, error)
}

fn is_newer(core: &Core, directory: &Directory) -> bool {
    let keyset = directory.keyset_version(&core.originator.agency);
    core.roster_version > directory.roster().version || keyset.is_none_or(|known| core.keyset_version > known)
}

/// The core as the header claims it, before any signature was checked.
fn claimed_core(header: &Bytes) -> Option<Core> {
    let header: Header = canonical::decode(header, limits::HEADER_BYTES_MAX).ok()?;
    Core::parse(&header.core).ok()
}

/// "We have it", signed by nobody yet.
fn said(bench: Bench<'_>, packet_id: PacketId, header_digest: Digest, unit: &UnitRef) -> Evidence {
    Evidence {
        region: bench.keys.region.clone(),
        stage: Stage::Delivery,
        outcome: Outcome::Acceptance,
        reason: Reason::Accepted,
        text: String::new(),
        packet_id,
        header_digest,
        actor: unit.clone(),
        recipient: Some(unit.clone()),
        time_ms: bench.now_ms,
        leaf: None,
        policy_id: String::new(),
        directory_hash: *bench.directory.hash(),
    }
}
