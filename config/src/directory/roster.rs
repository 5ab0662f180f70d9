//! The roster: rules and signatures.

use std::collections::BTreeSet;

use lintas_proto::{
    canonical,
    id::{Digest, check_code, check_name},
    limits,
    schema::{Member, MemberStatus, Roster, SignedRoster},
    sign::{KeyRole, SUITE, Signed, VerifyingKey, key_id},
};

use super::{Bootstrap, DirectoryError};

/// The roster format of this version.
pub(crate) const FORMAT: u32 = 1;

/// Checks signatures (k of n of the bootstrap's authorities) and rules.
pub(super) fn verify(signed: &SignedRoster, bootstrap: &Bootstrap) -> Result<Roster, DirectoryError> {
    check_signatures(signed, bootstrap)?;
    let roster: Roster = canonical::decode(&signed.roster, limits::ROSTER_BYTES_MAX)?;
    if roster.region != bootstrap.region {
        return Err(DirectoryError::WrongRegion { have: roster.region, need: bootstrap.region.clone() });
    }
    check(&roster)?;
    Ok(roster)
}

fn check_signatures(signed: &SignedRoster, bootstrap: &Bootstrap) -> Result<(), DirectoryError> {
    let id = |key: &VerifyingKey| key_id(KeyRole::Authority, key.as_bytes());
    let mut signers: BTreeSet<Digest> = BTreeSet::new();
    for signature in &signed.signatures {
        let known = bootstrap.authority_keys.iter().find(|key| id(key) == signature.key_id.as_ref());
        // A signature by somebody else proves nothing and harms nothing; a false one by an authority is refused.
        let Some(key) = known else { continue };
        key.verify(Signed::Roster, &signed.roster, &signature.signature)
            .map_err(|_| DirectoryError::Signature("roster".to_owned()))?;
        signers.insert(id(key));
    }
    let (have, need) = (signers.len(), bootstrap.threshold);
    if have >= need { Ok(()) } else { Err(DirectoryError::TooFewSignatures { have, need }) }
}

/// Rules of a roster, for whoever signs one and whoever reads one.
pub(crate) fn check(roster: &Roster) -> Result<(), DirectoryError> {
    let rule = |what| DirectoryError::Rule { whose: "roster".to_owned(), what };
    let threshold = usize::try_from(roster.threshold).unwrap_or(usize::MAX);
    let rules = [
        ("format must be 1", roster.format == FORMAT),
        ("version must be 1 or more", roster.version > 0),
        (
            "the first version has no previous one, every other names it",
            (roster.version == 1) == roster.prev_hash.is_empty(),
        ),
        ("validity must not end before it begins", roster.not_before_ms < roster.not_after_ms),
        (
            "threshold must be from 1 to the number of authority keys",
            (1..=roster.authority_keys.len()).contains(&threshold),
        ),
        ("a region has at least one broker", !roster.brokers.is_empty()),
        ("suite_min must be a suite of this version", roster.suite_min == u32::from(SUITE)),
        ("epoch_ms must be from 100 to 3,600,000", (100..=3_600_000).contains(&roster.epoch_ms)),
        (
            "members must be sorted by agency, each once",
            ascending(roster.members.iter().map(|m| m.agency.as_str())),
        ),
        (
            "brokers must be sorted by name, each once",
            ascending(roster.brokers.iter().map(|b| b.name.as_str())),
        ),
    ];
    if let Some((what, _)) = rules.iter().find(|(_, holds)| !holds) {
        return Err(rule(what));
    }
    name("region", &roster.region)?;
    roster.brokers.iter().try_for_each(|broker| name("broker", &broker.name))?;
    roster.members.iter().try_for_each(member)
}

fn member(member: &Member) -> Result<(), DirectoryError> {
    let rule = |what| Err(DirectoryError::Rule { whose: member.agency.clone(), what });
    code("agency", &member.agency)?;
    member.units.iter().try_for_each(|unit| code("unit", &unit.unit))?;
    if MemberStatus::try_from(member.status).unwrap_or_default() == MemberStatus::Unspecified {
        return rule("a member needs a status");
    }
    if member.roles.is_empty() || member.name.is_empty() {
        return rule("a member needs a name and a role");
    }
    if !ascending(member.units.iter().map(|unit| unit.unit.as_str())) {
        return rule("units must be sorted, each once");
    }
    if VerifyingKey::parse(&member.identity_key).is_err() {
        return rule("the identity key is not a sound Ed25519 key");
    }
    Ok(())
}

fn ascending<'a>(names: impl Iterator<Item = &'a str> + Clone) -> bool {
    names.clone().zip(names.skip(1)).all(|(a, b)| a < b)
}

fn name(what: &'static str, text: &str) -> Result<(), DirectoryError> {
    check_name(text).map_err(|error| DirectoryError::Id { what, text: text.to_owned(), error })
}

fn code(what: &'static str, text: &str) -> Result<(), DirectoryError> {
    check_code(text).map_err(|error| DirectoryError::Id { what, text: text.to_owned(), error })
}
