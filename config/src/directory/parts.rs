//! The parts of a directory: its bundle taken apart, its keysets and brokers' keys verified, each key once in all of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use lintas_proto::{
    canonical, limits,
    schema::{BrokerKeys, DirectoryBundle, Member, MemberStatus, Roster, SignedKeyset, SignedRoster},
    sign::VerifyingKey,
};

use super::{
    Broker, DirectoryError,
    keyset::{self, AgencyKeys},
    keyset_agency, rule,
};

/// Signed roster and keysets of the canonical bytes of a `DirectoryBundle`; nothing is verified yet.
pub(super) fn unpack(bytes: &Bytes) -> Result<(SignedRoster, Vec<Bytes>), DirectoryError> {
    let bundle: DirectoryBundle = canonical::decode(bytes, limits::DIRECTORY_BYTES_MAX)?;
    Ok((canonical::decode(&bundle.roster, limits::ROSTER_BYTES_MAX)?, bundle.keysets))
}

/// Checks a keyset on its own: what a region authority does with a request to join.
pub(crate) fn check_keyset(
    region: &str,
    member: &Member,
    signed: &SignedKeyset,
) -> Result<(), DirectoryError> {
    keyset::verify(region, member, &canonical::encode(signed)).map(drop)
}

/// Verified keys by agency.
pub(super) fn verify_keysets(
    roster: &Roster,
    keysets: &[Bytes],
    known: &BTreeMap<String, Arc<AgencyKeys>>,
) -> Result<BTreeMap<String, Arc<AgencyKeys>>, DirectoryError> {
    let mut keys = BTreeMap::new();
    let mut members = roster.members.iter();
    for bytes in keysets {
        let signed: SignedKeyset = canonical::decode(bytes, limits::KEYSET_BYTES_MAX)?;
        let agency = keyset_agency(&signed);
        // Both stand in ascending order, so one pass finds every keyset its member.
        let member = members
            .find(|member| Some(&member.agency) == agency.as_ref())
            .ok_or_else(|| rule("keysets stand in roster order, at most one a member, none of a stranger"))?;
        let verified = match known.get(&member.agency).filter(|known| known.are_of(member, bytes)) {
            Some(known) => Arc::clone(known),
            None => keyset::verify(&roster.region, member, bytes)?,
        };
        keys.insert(member.agency.clone(), verified);
    }
    Ok(keys)
}

/// Verified keys of the brokers.
pub(super) fn brokers(roster: &Roster) -> Result<Vec<Broker>, DirectoryError> {
    let key = |name: &str, bytes: &[u8]| {
        VerifyingKey::parse(bytes)
            .map_err(|error| DirectoryError::Key { whose: format!("broker {name}"), error })
    };
    let broker = |broker: &BrokerKeys| {
        Ok(Broker {
            name: broker.name.clone(),
            transport_key: *key(&broker.name, &broker.transport_key)?.as_bytes(),
            receipt_key: key(&broker.name, &broker.receipt_key)?,
            log_key: key(&broker.name, &broker.log_key)?,
            ended_logs: broker.ended_logs.clone(),
        })
    };
    roster.brokers.iter().map(broker).collect()
}

/// Each public key stands once in the whole directory, whatever its role. So key ids are unique too. The keyset of a
/// revoked member counts for nothing: whoever lists another's key can be revoked, and is out of the way then.
pub(super) fn check_keys_once(
    roster: &Roster,
    keys: &BTreeMap<String, Arc<AgencyKeys>>,
) -> Result<(), DirectoryError> {
    let mut seen: BTreeMap<&[u8], &str> = BTreeMap::new();
    let revoked: BTreeSet<&str> = roster
        .members
        .iter()
        .filter(|member| MemberStatus::try_from(member.status) == Ok(MemberStatus::Revoked))
        .map(|member| member.agency.as_str())
        .collect();
    let authorities = roster.authority_keys.iter().map(|key| ("authority", key.as_ref()));
    let identities =
        roster.members.iter().map(|member| (member.agency.as_str(), member.identity_key.as_ref()));
    let brokers = roster.brokers.iter().flat_map(|broker| {
        [
            (broker.name.as_str(), broker.transport_key.as_ref()),
            (broker.name.as_str(), broker.receipt_key.as_ref()),
            (broker.name.as_str(), broker.log_key.as_ref()),
        ]
    });
    let witnesses = roster
        .members
        .iter()
        .filter(|member| !member.witness_key.is_empty())
        .map(|member| (member.agency.as_str(), member.witness_key.as_ref()));
    let agencies = keys
        .iter()
        .filter(|(agency, _)| !revoked.contains(agency.as_str()))
        .flat_map(|(agency, keys)| keys.all().map(move |key| (agency.as_str(), key)));
    for (whose, key) in authorities.chain(identities).chain(brokers).chain(witnesses).chain(agencies) {
        if let Some(other) = seen.insert(key, whose) {
            let both = if other == whose { whose.to_owned() } else { format!("{other} and {whose}") };
            return Err(DirectoryError::KeyTwice(both));
        }
    }
    Ok(())
}
