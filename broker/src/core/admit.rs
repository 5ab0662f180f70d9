//! Admission, first half: the gates that need no state. From bytes to [`Verified`], the proof that a member
//! signed exactly these bytes for recipients that the directory knows.
//!
//! Gates in order: 1 size (the frame), 2 canonical bytes, 3 directory, 4 signature, 5 parts. The gates that need
//! state follow in [`super::plan`]: 6 replay, 7 expiry, 8 recipients, 9 release policy ([`super::judge`]),
//! 10 attachments, 11 quota. Gates 8 and 9 are judged here already, because many sessions do it at once; what they
//! say counts in its turn, so that a packet which was accepted keeps its receipt whatever has changed since.
//!
//! A judgement holds for the rules that it was made under, and until the next moment that one of their policies names.
//! When its turn comes later than that it is made again: [`Verified::under`]. In its turn, so that the packets of a session
//! keep their order and a recall never overtakes what it recalls; a round has so few recipients that this is bounded.
//!
//! A packet that was accepted keeps its receipt also when it comes again and does not pass the first gates any more ([`claimed`], [`again`]).

use bytes::Bytes;
use lintas_config::Directory;
use lintas_proto::{
    canonical,
    envelope::{
        core::Core,
        verify::{PacketKeys as _, VerifiedHeader, VerifyError, verify_header},
    },
    id::{Digest, PacketId, sha256},
    limits,
    schema::{Header, Opening, Reason, Submission, UnitRef},
};

use super::{
    judge::{Judged, facts},
    ledger::Ledger,
    refuse::{Concerned, ERASED, Refused, reason_of, sentence},
    rules::Rules,
};

/// Longest facts of a packet that the log holds, bytes: an event has room for them beside everything else.
pub const FACTS_BYTES_MAX: usize = 1024;

/// A submission that passed the first five gates. Made by [`verify`] only.
#[derive(Debug, Clone)]
pub struct Verified {
    header: VerifiedHeader,
    openings: Vec<Opening>,
    submission: Bytes,
    judged: Judged,
    objection: Option<Box<Refused>>,
}

impl Verified {
    /// The signed header.
    #[must_use]
    pub fn header(&self) -> &VerifiedHeader {
        &self.header
    }

    /// Openings, one per recipient.
    #[must_use]
    pub fn openings(&self) -> &[Opening] {
        &self.openings
    }

    /// Judges its release again, if other rules are in force by now or time has changed what they say; its keys and its
    /// recipients, if another directory is.
    #[must_use]
    pub fn under(self, rules: &Rules, now_ms: u64) -> Self {
        let generation = rules.generation();
        if self.judged.holds(&generation, now_ms) {
            return self;
        }
        let objection = if self.judged.generation.directory == generation.directory {
            self.objection
        } else {
            let directory = rules.directory();
            let checked = check_sender(&self, directory, now_ms)
                .and_then(|()| check_recipients(&self, directory, now_ms));
            checked.err().map(Box::new)
        };
        let judged = Judged::new(rules, self.header.core(), &self.openings, now_ms);
        Self { judged, objection, ..self }
    }

    /// What gate 8 says against it.
    #[must_use]
    pub fn objection(&self) -> Option<&Refused> {
        self.objection.as_deref()
    }

    /// What gate 9 says of each recipient.
    #[must_use]
    pub fn judged(&self) -> &Judged {
        &self.judged
    }

    /// The refusal of a packet that nobody may get. The text names as many recipients as it has room for.
    #[must_use]
    pub fn refuse_by_policy(&self) -> Refused {
        let denials: Vec<_> = self.judged.denied().cloned().collect();
        let said: Vec<&str> = denials.iter().map(|denied| denied.told.text.as_str()).collect();
        let refused = self.refuse(Reason::Policy, &said.join(" "));
        let policy_id = denials.first().map(|denied| denied.told.policy_id.clone()).unwrap_or_default();
        let core = self.header.core();
        let concerns = Concerned { originator: core.originator.clone(), denials, facts: Some(facts(core)) };
        Refused { policy_id, concerns: Some(Box::new(concerns)), ..refused }
    }

    /// The bytes as they came.
    #[must_use]
    pub fn submission(&self) -> &Bytes {
        &self.submission
    }

    /// Refusal of this packet.
    #[must_use]
    pub fn refuse(&self, reason: Reason, text: &str) -> Refused {
        let (packet_id, digest) = (self.header.core().packet_id, *self.header.digest());
        let originator = self.header.core().originator.clone();
        Refused {
            reason,
            text: sentence(text),
            policy_id: String::new(),
            packet: Some(packet_id),
            concerns: Some(Box::new(Concerned { originator, denials: Vec::new(), facts: None })),
            header_digest: digest,
        }
    }
}

/// Takes a submission from the session of `agency` through the gates that need no state. `earlier` gives the roster
/// version of a directory under which a packet may have been sealed before it waited; its keys must be valid under
/// the one in force.
///
/// # Errors
/// [`Refused`], in the order of the gates.
pub fn verify(
    submission: &Bytes,
    agency: &str,
    rules: &Rules,
    earlier: impl Fn(&Digest) -> Option<u64>,
    now_ms: u64,
) -> Result<Verified, Refused> {
    let directory = rules.directory();
    let parts: Submission =
        canonical::decode(submission, limits::FRAME_BYTES_MAX).map_err(|error| Refused {
            reason: reason_of(&VerifyError::Header(error.clone())),
            text: sentence(&format!("The broker could not read the submission: {error}.")),
            policy_id: String::new(),
            packet: None,
            concerns: None,
            header_digest: sha256(&[submission]),
        })?;
    let unread = |reason, text: &str| Refused {
        reason,
        text: sentence(text),
        policy_id: String::new(),
        packet: None,
        concerns: None,
        header_digest: sha256(&[&parts.header]),
    };
    if !directory.at(now_ms).in_force() {
        return Err(unread(
            Reason::StaleDirectory,
            "The broker's roster is not valid now; the region authority must publish a new one.",
        ));
    }
    let header = verify_header(&parts.header, &parts.signature, &directory.at(now_ms))
        .map_err(|error| unread(reason_of(&error), &format!("The broker refused the packet: {error}.")))?;
    // Nobody is judged before the parts were checked: whoever signed must have named them.
    let judged = Judged::new(rules, header.core(), &[], now_ms);
    let submission = submission.clone();
    let verified = Verified { header, openings: parts.openings, submission, judged, objection: None };
    check_core(&verified, agency, directory)?;
    check_claims(&verified, directory, earlier)?;
    verified.header.check_parts(&verified.openings, &parts.wraps, &parts.body).map_err(|error| {
        verified.refuse(reason_of(&error), &format!("The broker refused the packet: {error}."))
    })?;
    let objection = check_recipients(&verified, directory, now_ms).err().map(Box::new);
    let judged = Judged::new(rules, verified.header.core(), &verified.openings, now_ms);
    Ok(Verified { judged, objection, ..verified })
}

/// Id and header digest of a packet, as its sender says.
pub type Claim = (PacketId, Digest);

/// Which packet of the agency's own it claims to be, whatever the gates say of it: id and digest of its header, as it came. If
/// that packet was accepted before, its receipt was lost on the way, and since then its keys have changed, or its directory is
/// too old to be named. `agency` is whose session it came through; nothing follows but that agency's own receipt.
#[must_use]
pub fn claimed(submission: &Bytes, agency: &str) -> Option<Claim> {
    let parts: Submission = canonical::decode(submission, limits::FRAME_BYTES_MAX).ok()?;
    let header: Header = canonical::decode(&parts.header, limits::HEADER_BYTES_MAX).ok()?;
    let core = Core::parse(&header.core).ok()?;
    (core.originator.agency == agency).then(|| (core.packet_id, sha256(&[&parts.header])))
}

/// What becomes of a packet that the first gates refuse.
#[derive(Debug)]
pub enum Again {
    /// It was accepted before; its receipt stands in that record.
    Known(u64),
    /// It is refused.
    Refused(Refused),
}

/// Whether a packet that the first gates refuse was accepted before: then it keeps its receipt, unless that was erased. To be
/// asked when everything that came before it has its place.
#[must_use]
pub fn again(refused: Refused, claim: Option<&Claim>, ledger: &Ledger) -> Again {
    let seen =
        claim.and_then(|(id, digest)| Some((*id, ledger.seen(id).filter(|seen| seen.digest == *digest)?)));
    match seen {
        None => Again::Refused(refused),
        Some((id, seen)) if seen.admission == 0 => {
            Again::Refused(Refused { packet: Some(id), ..refused.instead(Reason::Replay, ERASED) })
        }
        Some((_, seen)) => Again::Known(seen.admission),
    }
}

fn check_core(verified: &Verified, agency: &str, directory: &Directory) -> Result<(), Refused> {
    let core = verified.header.core();
    let refuse = |reason, text: &str| Err(verified.refuse(reason, text));
    if core.originator.agency != agency {
        let text = format!("This connection belongs to {agency}; it may submit its own packets only.");
        // Its originator has nothing to do with this.
        return Err(Refused { concerns: None, ..verified.refuse(Reason::UnknownSender, &text) });
    }
    if core.region != directory.roster().region {
        return refuse(
            Reason::WrongRegion,
            &format!(
                "The packet is for region {}, this broker serves {}.",
                core.region,
                directory.roster().region
            ),
        );
    }
    let length = canonical::encode(&facts(core)).len();
    if length > FACTS_BYTES_MAX {
        let text = format!(
            "The label is {length} bytes long, and the audit log has room for {FACTS_BYTES_MAX}; name fewer agencies in \
             REL_TO, and send it to the others by another packet."
        );
        return refuse(Reason::TooLarge, &text);
    }
    Ok(())
}

/// Which directory the packet says it was made under. Recipients wait for a directory that is newer than theirs, so a
/// member that names versions which do not exist would make everybody wait for ever.
fn check_claims(
    verified: &Verified,
    directory: &Directory,
    earlier: impl Fn(&Digest) -> Option<u64>,
) -> Result<(), Refused> {
    let (core, present) = (verified.header.core(), directory.roster().version);
    let known =
        if core.directory_hash == *directory.hash() { Some(present) } else { earlier(&core.directory_hash) };
    let Some(version) = known else {
        let text = if core.roster_version > present {
            format!(
                "The packet was made under roster version {}, the broker has {present}; tell the region's operator, \
                 and seal it again when the broker has the newer one.",
                core.roster_version
            )
        } else {
            "The packet was made under a directory that the broker does not know; fetch the directory and seal it again.".to_owned()
        };
        return Err(verified.refuse(Reason::StaleDirectory, &text));
    };
    if core.roster_version != version {
        let text = format!(
            "The packet says roster version {}, but the directory that it names has {version}; the sender's software \
             is at fault, report it.",
            core.roster_version
        );
        return Err(verified.refuse(Reason::Malformed, &text));
    }
    let keyset = directory.keyset_version(&core.originator.agency).unwrap_or_default();
    if core.keyset_version > keyset {
        let text = format!(
            "The packet says keyset version {}, but the newest of {} is {keyset}; the sender's software is at \
             fault, report it.",
            core.keyset_version, core.originator.agency
        );
        return Err(verified.refuse(Reason::Malformed, &text));
    }
    Ok(())
}

/// Whether the key that signed the packet is still one of its originator's.
fn check_sender(verified: &Verified, directory: &Directory, now_ms: u64) -> Result<(), Refused> {
    let core = verified.header.core();
    let UnitRef { agency, unit } = &core.originator;
    if directory.at(now_ms).packet_key(&core.originator, &core.sign_key_id).is_some() {
        return Ok(());
    }
    let text = format!(
        "The directory has changed while the packet was on its way: {agency} / {unit} no longer has the key that \
         signed it. Nothing was sent to anybody; fetch the directory and seal it again."
    );
    Err(verified.refuse(Reason::UnknownSender, &text))
}

fn check_recipients(verified: &Verified, directory: &Directory, now_ms: u64) -> Result<(), Refused> {
    for opening in &verified.openings {
        let unit = UnitRef { agency: opening.agency.clone(), unit: opening.unit.clone() };
        if !directory.has_unit(&unit) {
            let text = format!("{} / {} is not an active member of the region.", unit.agency, unit.unit);
            return Err(verified.refuse(Reason::UnknownRecipient, &text));
        }
        if directory.is_self_revoked(&unit.agency) {
            let text = format!(
                "{} has revoked its own keys; nothing can be sent to it until it has new ones. Take it out, or ask it \
                 by another way.",
                unit.agency
            );
            return Err(verified.refuse(Reason::UnknownRecipient, &text));
        }
        if !directory.at(now_ms).accepts_encryption_key(&unit, &opening.enc_key_id) {
            let text = format!(
                "The key of {} / {} has changed; the packet must be sealed again.",
                unit.agency, unit.unit
            );
            return Err(verified.refuse(Reason::Reseal, &text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
