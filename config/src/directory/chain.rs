//! What may follow what: rosters step by step, keysets and delegations by their versions.
//!
//! | of | version | accepted if |
//! |---|---|---|
//! | roster | lower | never |
//! | roster | same | the very same bytes |
//! | roster | next | names the one in force as its predecessor; k of its authorities AND k of those that it names itself signed it |
//! | roster | beyond | the steps in between are given: each is walked |
//! | keyset, delegation | lower | never |
//! | keyset, delegation | same | the very same bytes |
//! | keyset | next | names the one in force as its predecessor |
//! | keyset | beyond | signed under the identity key. What was skipped was not seen here and is not compared |
//! | delegation | higher | signed by the identity key |
//!
//! Of a broker's logs, those that have ended stay as they are, and more may follow; a broker that went and comes back
//! goes on where it was. Its log key changes only when its log ends, so that one key signs one log.
//!
//! What a roster takes out of the regional baseline goes on to forbid for 14 days from the begin of that roster
//! ([`crate::policy::loosening`]): a roster that ends it earlier does not follow, whoever signed it. The texts
//! are compared at every step from one roster to the next. After a restart only the mark of the roster before is known,
//! not its text: then the first step cannot be compared. It was compared by everybody who ran meanwhile.
//!
//! The counts of keysets and delegations belong to one identity key; with another they begin anew. So a stolen
//! delegate key that ran up the count is cured by the offline key alone.

use bytes::Bytes;
use lintas_proto::{
    canonical,
    id::sha256,
    limits,
    schema::{BrokerKeys, Delegation, Member, MemberStatus, Roster, SignedRoster},
    sign::{Signed, VerifyingKey},
};

use super::{
    DirectoryError,
    error::{IdentityChanged, Layer, StampError, SuccessionError},
    keyset::AgencyKeys,
    mark::{HighWater, Seen, SeenLogs, Stamp, room_for_broker},
    roster::{self, Authorities},
};
use crate::{
    policy::loosening,
    words::{fingerprint_digits, fingerprint_words},
};

/// Most rosters walked at once.
pub const STEPS_MAX: usize = 4_096;

/// Walks from the roster of `mark` over `steps` (canonical bytes of `SignedRoster`, in order) to `last`. The roster,
/// and the mark moved to it; what is seen of keysets is unchanged. `before` is the roster of the mark, if it is known.
pub(super) fn walk(
    mark: &HighWater,
    before: Option<&Roster>,
    steps: &[Bytes],
    last: &SignedRoster,
) -> Result<(Roster, HighWater), SuccessionError> {
    if steps.len() > STEPS_MAX {
        let what = "at most 4,096 rosters are walked at once";
        return Err(DirectoryError::Rule { whose: "directory".to_owned(), what }.into());
    }
    let (mut mark, mut walked) = (mark.clone(), None);
    for bytes in steps {
        let signed: SignedRoster =
            canonical::decode(bytes, limits::ROSTER_BYTES_MAX).map_err(DirectoryError::from)?;
        let roster = roster::read(&signed, &mark.region)?;
        if roster.version <= mark.roster.version {
            return Err(SuccessionError::StepMissing { have: roster.version, need: next(&mark) });
        }
        step(&mut mark, walked.as_ref().or(before), &signed, &roster)?;
        walked = Some(roster);
    }
    let roster = roster::read(last, &mark.region)?;
    let hash = sha256(&[&last.roster]);
    let seen = mark.roster.version;
    if roster.version < seen {
        return Err(SuccessionError::RosterRolledBack { have: roster.version, seen });
    }
    if roster.version > seen {
        step(&mut mark, walked.as_ref().or(before), last, &roster)?;
    } else if hash == mark.roster.hash {
        // Believed already: its signatures were checked when it came.
        roster::check(&roster)?;
    } else {
        // Only the authorities themselves can be accused; anybody else has merely forged.
        mark.authorities.signed(last)?;
        return Err(SuccessionError::RosterEquivocation { version: seen });
    }
    Ok((roster, mark))
}

/// One step forward.
fn step(
    mark: &mut HighWater,
    before: Option<&Roster>,
    signed: &SignedRoster,
    roster: &Roster,
) -> Result<(), SuccessionError> {
    let version = roster.version;
    if version != next(mark) {
        return Err(SuccessionError::StepMissing { have: version, need: next(mark) });
    }
    roster::verify(signed, roster, &mark.authorities)?;
    advance(mark, before, signed, roster)
}

/// One step to a roster that may not be signed yet: what the authorities ask before they sign. The mark that results
/// is to be thrown away.
pub(super) fn propose(
    mark: &HighWater,
    before: &Roster,
    signed: &SignedRoster,
    roster: &Roster,
) -> Result<HighWater, SuccessionError> {
    let mut mark = mark.clone();
    roster::check(roster)?;
    if roster.version <= mark.roster.version {
        return Err(SuccessionError::RosterRolledBack { have: roster.version, seen: mark.roster.version });
    }
    if roster.version != next(&mark) {
        return Err(SuccessionError::StepMissing { have: roster.version, need: next(&mark) });
    }
    advance(&mut mark, Some(before), signed, roster)?;
    Ok(mark)
}

/// Moves the mark to a roster of the next version.
fn advance(
    mark: &mut HighWater,
    before: Option<&Roster>,
    signed: &SignedRoster,
    roster: &Roster,
) -> Result<(), SuccessionError> {
    let version = roster.version;
    if roster.prev_hash != mark.roster.hash.as_slice() {
        return Err(SuccessionError::RosterFork { version });
    }
    if let Some(before) = before {
        loosening::follows(before, roster).map_err(|early| SuccessionError::too_early(version, early))?;
    }
    let named = |agency: &str| roster.members.binary_search_by(|member| member.agency.as_str().cmp(agency));
    if let Some(agency) = mark.agencies.keys().find(|agency| named(agency).is_err()) {
        return Err(SuccessionError::MemberGone { agency: agency.clone() });
    }
    for member in &roster.members {
        let seen = match mark.agencies.remove(&member.agency) {
            Some(seen) => follow(&mark.region, seen, member)?,
            None => first(member),
        };
        mark.agencies.insert(member.agency.clone(), seen);
    }
    for broker in &roster.brokers {
        logs_follow(mark, broker)?;
    }
    mark.authorities = Authorities::of(roster)?;
    mark.roster = Stamp { version, hash: sha256(&[&signed.roster]) };
    Ok(())
}

/// A broker's logs: what ended stays, and a log has one key from its beginning to its end.
fn logs_follow(mark: &mut HighWater, broker: &BrokerKeys) -> Result<(), SuccessionError> {
    let name = broker.name.clone();
    let now = SeenLogs::of(broker, broker.ended_logs.len());
    match mark.brokers.get(&name) {
        None if !room_for_broker(mark.brokers.len()) => {
            let what = "a region has had too many brokers; found it anew under another name";
            return Err(DirectoryError::Rule { whose: "roster".to_owned(), what }.into());
        }
        None => {}
        Some(seen) => {
            let before = SeenLogs::of(broker, usize::from(seen.ended));
            if now.ended < seen.ended || before.hash != seen.hash {
                return Err(SuccessionError::LogReturned { broker: name });
            }
            if now.ended == seen.ended && now.log_key != seen.log_key {
                return Err(SuccessionError::LogKey { broker: name });
            }
        }
    }
    mark.brokers.insert(name, now);
    Ok(())
}

fn next(mark: &HighWater) -> u64 {
    mark.roster.version.saturating_add(1)
}

/// A member seen for the first time: believed on the word of k authorities.
pub(super) fn first(member: &Member) -> Seen {
    Seen { identity_key: key_bytes(member), revoked: is(member, MemberStatus::Revoked), keys: None }
}

/// A member seen before. Under an identity key that nobody vouches for, what was believed stays as it is.
fn follow(region: &str, seen: Seen, member: &Member) -> Result<Seen, SuccessionError> {
    let revoked = is(member, MemberStatus::Revoked);
    if seen.identity_key == key_bytes(member) {
        if seen.revoked && !revoked {
            return Err(SuccessionError::MemberReturned { agency: member.agency.clone() });
        }
        return Ok(Seen { revoked, ..seen });
    }
    // Whoever was revoked vouches for nobody.
    if !seen.revoked && vouches(region, &seen.identity_key, member) { Ok(first(member)) } else { Ok(seen) }
}

/// Whether the identity key before it signed a handover to the one of the roster.
pub(crate) fn vouches(region: &str, before: &[u8; 32], member: &Member) -> bool {
    let handover = handover(region, &member.agency, &member.identity_key);
    let check = |key: VerifyingKey| key.verify(Signed::Delegation, &handover, &member.handover);
    VerifyingKey::parse(before).and_then(check).is_ok()
}

/// The bytes by which an identity key hands over to the next one.
pub(crate) fn handover(region: &str, agency: &str, identity_key: &Bytes) -> Bytes {
    canonical::encode(&Delegation {
        region: region.to_owned(),
        agency: agency.to_owned(),
        identity_key: identity_key.clone(),
        ..Delegation::default()
    })
}

/// Why nothing of that member is believed here, if so.
pub(super) fn held(seen: &Seen, member: &Member) -> Option<IdentityChanged> {
    (seen.identity_key != key_bytes(member)).then(|| IdentityChanged {
        agency: member.agency.clone(),
        before: fingerprint_words(&seen.identity_key),
        after: fingerprint_words(&key_bytes(member)),
        digits: fingerprint_digits(&key_bytes(member)),
    })
}

/// Checks that an agency's keys may follow those seen, and remembers them.
pub(super) fn follow_keys(
    seen: &mut Seen,
    member: &Member,
    keys: Option<&AgencyKeys>,
) -> Result<(), SuccessionError> {
    let wrong = |what, problem| SuccessionError::Agency { agency: member.agency.clone(), what, problem };
    let Some(keys) = keys else {
        return match seen.keys {
            // Without active membership its keys count for nothing, so they may go.
            Some((_, keyset)) if !is(member, MemberStatus::Revoked) => {
                Err(wrong(Layer::Keyset, StampError::Missing { seen: keyset.version }))
            }
            Some(_) | None => Ok(()),
        };
    };
    if let Some((delegation, keyset)) = &seen.keys {
        in_order(delegation, &keys.delegation).map_err(|problem| wrong(Layer::Delegation, problem))?;
        in_order(keyset, &keys.keyset).map_err(|problem| wrong(Layer::Keyset, problem))?;
        let version = keys.keyset.version;
        if keyset.version.checked_add(1) == Some(version) && keys.previous != Some(keyset.hash) {
            return Err(wrong(Layer::Keyset, StampError::Fork { version }));
        }
    }
    seen.keys = Some((keys.delegation, keys.keyset));
    Ok(())
}

fn in_order(seen: &Stamp, offered: &Stamp) -> Result<(), StampError> {
    let version = offered.version;
    if version < seen.version {
        return Err(StampError::RolledBack { have: version, seen: seen.version });
    }
    if version == seen.version && offered.hash != seen.hash {
        return Err(StampError::Equivocation { version });
    }
    Ok(())
}

fn is(member: &Member, status: MemberStatus) -> bool {
    MemberStatus::try_from(member.status) == Ok(status)
}

/// `roster::member` has parsed it: 32 bytes.
fn key_bytes(member: &Member) -> [u8; 32] {
    member.identity_key.as_ref().try_into().unwrap_or_default()
}
