//! Keysets: the keys that an agency uses now, under its offline identity key.

use lintas_proto::{
    canonical,
    envelope::wrap::EncryptionKey,
    id::Digest,
    limits,
    schema::{Delegation, Keyset, Member, Roster, SignedKeyset},
    sign::{KeyRole, SUITE, Signed, VerifyingKey, key_id},
};

use super::DirectoryError;

/// The keyset format of this version.
pub(crate) const FORMAT: u32 = 1;

/// An agency's verified keys.
#[derive(Debug, Clone)]
pub(super) struct AgencyKeys {
    pub(super) version: u64,
    pub(super) not_after_ms: u64,
    pub(super) transport: Vec<VerifyingKey>,
    /// With their key ids.
    pub(super) packet: Vec<(Digest, VerifyingKey)>,
    pub(super) encryption: Vec<UnitKey>,
    delegate: VerifyingKey,
    /// Public bytes of the encryption keys.
    encryption_bytes: Vec<bytes::Bytes>,
}

/// One unit's encryption key for one epoch.
#[derive(Debug, Clone)]
pub(super) struct UnitKey {
    pub(super) unit: String,
    pub(super) epoch: u32,
    pub(super) not_after_ms: u64,
    pub(super) key: EncryptionKey,
}

impl AgencyKeys {
    /// Every public key of the keyset, of all roles.
    pub(super) fn all(&self) -> impl Iterator<Item = &[u8]> {
        let signing =
            self.transport.iter().chain(self.packet.iter().map(|(_, key)| key)).chain([&self.delegate]);
        let encryption = self.encryption_bytes.iter().map(|bytes| bytes.as_ref());
        signing.map(|key| key.as_bytes().as_slice()).chain(encryption)
    }
}

/// The agency that a keyset claims to be of.
pub(crate) fn agency(signed: &SignedKeyset) -> Option<String> {
    canonical::decode::<Keyset>(&signed.keyset, limits::KEYSET_BYTES_MAX).ok().map(|keyset| keyset.agency)
}

/// Checks identity key → delegation → keyset, and the rules of both.
pub(super) fn verify(
    roster: &Roster,
    member: &Member,
    signed: &SignedKeyset,
) -> Result<AgencyKeys, DirectoryError> {
    let whose = || format!("keyset of {}", member.agency);
    let rule = |what| DirectoryError::Rule { whose: whose(), what };
    let bad_key = |error| DirectoryError::Key { whose: whose(), error };
    let identity = VerifyingKey::parse(&member.identity_key).map_err(bad_key)?;
    identity
        .verify(Signed::Delegation, &signed.delegation, &signed.delegation_signature)
        .map_err(|_| DirectoryError::Signature(format!("delegation of {}", member.agency)))?;
    let delegation: Delegation = canonical::decode(&signed.delegation, limits::KEYSET_BYTES_MAX)?;
    let delegate = VerifyingKey::parse(&delegation.delegate_key).map_err(bad_key)?;
    delegate
        .verify(Signed::Keyset, &signed.keyset, &signed.keyset_signature)
        .map_err(|_| DirectoryError::Signature(whose()))?;
    let keyset: Keyset = canonical::decode(&signed.keyset, limits::KEYSET_BYTES_MAX)?;

    let rules = [
        (
            "delegation is for another agency or region",
            delegation.agency == member.agency && delegation.region == roster.region,
        ),
        (
            "keyset is for another agency or region",
            keyset.agency == member.agency && keyset.region == roster.region,
        ),
        ("format must be 1", keyset.format == FORMAT),
        ("version must be 1 or more", keyset.version > 0),
        (
            "the first version has no previous one, every other names it",
            (keyset.version == 1) == keyset.prev_hash.is_empty(),
        ),
        ("a keyset ends before its delegation", keyset.not_after_ms <= delegation.not_after_ms),
        ("suite 1 must be among the suites", keyset.suites.contains(&u32::from(SUITE))),
        (
            "a keyset has at most 8 transport and 8 packet keys",
            keyset.transport_keys.len() <= 8 && keyset.packet_keys.len() <= 8,
        ),
    ];
    if let Some((what, _)) = rules.iter().find(|(_, holds)| !holds) {
        return Err(rule(what));
    }
    let parse = |keys: &[bytes::Bytes]| -> Result<Vec<VerifyingKey>, DirectoryError> {
        keys.iter().map(|key| VerifyingKey::parse(key).map_err(bad_key)).collect()
    };
    let transport = parse(&keyset.transport_keys)?;
    let packet = parse(&keyset.packet_keys)?;
    let unit_key = |key: &lintas_proto::schema::EncryptionKey| {
        if !member.units.iter().any(|unit| unit.unit == key.unit) {
            return Err(rule("an encryption key is for a unit that the roster does not know"));
        }
        let parsed =
            EncryptionKey::parse(&key.public_key).map_err(|_| rule("an encryption key is not sound"))?;
        Ok(UnitKey { unit: key.unit.clone(), epoch: key.epoch, not_after_ms: key.not_after_ms, key: parsed })
    };
    Ok(AgencyKeys {
        version: keyset.version,
        not_after_ms: keyset.not_after_ms,
        transport,
        packet: packet.into_iter().map(|key| (key_id(KeyRole::Packet, key.as_bytes()), key)).collect(),
        encryption: keyset.encryption_keys.iter().map(unit_key).collect::<Result<_, _>>()?,
        encryption_bytes: keyset.encryption_keys.iter().map(|key| key.public_key.clone()).collect(),
        delegate,
    })
}
