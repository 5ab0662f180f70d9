//! Keysets: the keys that an agency uses now, under its offline identity key.

use std::sync::Arc;

use bytes::Bytes;
use lintas_proto::{
    canonical,
    envelope::wrap::EncryptionKey,
    id::{Digest, sha256},
    limits,
    schema::{Delegation, Keyset, Member, SignedKeyset},
    sign::{KeyRole, SUITE, Signed, VerifyingKey, key_id},
};

use super::{
    DirectoryError,
    mark::Stamp,
    roster::{ascending, code},
};

/// The keyset format of this version.
pub(crate) const FORMAT: u32 = 1;
/// Most transport keys, and most packet keys, of an agency.
pub const SIGNING_KEYS_MAX: usize = 8;
/// Most suites that a keyset names.
const SUITES_MAX: usize = 8;

/// An agency's verified keys.
#[derive(Debug, Clone)]
pub(super) struct AgencyKeys {
    pub(super) delegation: Stamp,
    pub(super) keyset: Stamp,
    /// Hash of the keyset's last predecessor; `None` in version 1.
    pub(super) previous: Option<Digest>,
    pub(super) not_after_ms: u64,
    pub(super) transport: Vec<VerifyingKey>,
    /// With their key ids.
    pub(super) packet: Vec<(Digest, VerifyingKey)>,
    /// Sorted by unit, then epoch.
    pub(super) encryption: Vec<UnitKey>,
    delegate: VerifyingKey,
    /// What these keys were verified from.
    identity_key: Bytes,
    signed: Bytes,
}

/// One unit's encryption key for one epoch.
#[derive(Debug, Clone)]
pub(super) struct UnitKey {
    pub(super) unit: String,
    pub(super) epoch: u32,
    pub(super) not_after_ms: u64,
    pub(super) key: EncryptionKey,
    bytes: Bytes,
}

impl AgencyKeys {
    /// Every public key of the keyset, of all roles.
    pub(super) fn all(&self) -> impl Iterator<Item = &[u8]> {
        let signing =
            self.transport.iter().chain(self.packet.iter().map(|(_, key)| key)).chain([&self.delegate]);
        let encryption = self.encryption.iter().map(|key| key.bytes.as_ref());
        signing.map(|key| key.as_bytes().as_slice()).chain(encryption)
    }

    /// Whether the keyset names no key at all.
    pub(super) fn are_none(&self) -> bool {
        self.transport.is_empty() && self.packet.is_empty() && self.encryption.is_empty()
    }

    /// Whether these are the keys of those very bytes under that identity key.
    pub(super) fn are_of(&self, member: &Member, signed: &Bytes) -> bool {
        self.identity_key == member.identity_key && self.signed == *signed
    }
}

/// The agency that a keyset claims to be of.
pub(crate) fn agency(signed: &SignedKeyset) -> Option<String> {
    canonical::decode::<Keyset>(&signed.keyset, limits::KEYSET_BYTES_MAX).ok().map(|keyset| keyset.agency)
}

/// Checks identity key → delegation → keyset, and the rules of both. `bytes` are those of a `SignedKeyset`.
pub(super) fn verify(
    region: &str,
    member: &Member,
    bytes: &Bytes,
) -> Result<Arc<AgencyKeys>, DirectoryError> {
    let whose = || format!("keyset of {}", member.agency);
    let rule = |what| DirectoryError::Rule { whose: whose(), what };
    let bad_key = |error| DirectoryError::Key { whose: whose(), error };
    let signed: SignedKeyset = canonical::decode(bytes, limits::KEYSET_BYTES_MAX)?;
    let (delegation, delegate) = delegate(member, &signed.delegation, &signed.delegation_signature)?;
    delegate
        .verify(Signed::Keyset, &signed.keyset, &signed.keyset_signature)
        .map_err(|_| DirectoryError::Signature(whose()))?;
    let keyset: Keyset = canonical::decode(&signed.keyset, limits::KEYSET_BYTES_MAX)?;
    if let Some((what, _)) =
        rules(region, &member.agency, &delegation, &keyset).iter().find(|(_, holds)| !holds)
    {
        return Err(rule(what));
    }
    let parse = |keys: &[Bytes]| -> Result<Vec<VerifyingKey>, DirectoryError> {
        keys.iter().map(|key| VerifyingKey::parse(key).map_err(bad_key)).collect()
    };
    let packet = parse(&keyset.packet_keys)?;
    let stamp = |version, bytes: &Bytes| Stamp { version, hash: sha256(&[bytes]) };
    Ok(Arc::new(AgencyKeys {
        delegation: stamp(delegation.version, &signed.delegation),
        keyset: stamp(keyset.version, &signed.keyset),
        previous: keyset.prev_hash.as_ref().try_into().ok(),
        not_after_ms: keyset.not_after_ms,
        transport: parse(&keyset.transport_keys)?,
        packet: packet.into_iter().map(|key| (key_id(KeyRole::Packet, key.as_bytes()), key)).collect(),
        encryption: unit_keys(&keyset).map_err(|error| error.unwrap_or_else(rule))?,
        delegate,
        identity_key: member.identity_key.clone(),
        signed: bytes.clone(),
    }))
}

/// The key that a member's identity key lets sign keysets and policy bundles. Whose it says it is, the caller checks.
pub(crate) fn delegate(
    member: &Member,
    delegation: &Bytes,
    signature: &Bytes,
) -> Result<(Delegation, VerifyingKey), DirectoryError> {
    let whose = || format!("delegation of {}", member.agency);
    let bad_key = |error| DirectoryError::Key { whose: whose(), error };
    let identity = VerifyingKey::parse(&member.identity_key).map_err(bad_key)?;
    identity
        .verify(Signed::Delegation, delegation, signature)
        .map_err(|_| DirectoryError::Signature(whose()))?;
    let delegation: Delegation = canonical::decode(delegation, limits::KEYSET_BYTES_MAX)?;
    let delegate = VerifyingKey::parse(&delegation.delegate_key).map_err(bad_key)?;
    Ok((delegation, delegate))
}

fn rules(region: &str, agency: &str, delegation: &Delegation, keyset: &Keyset) -> [(&'static str, bool); 10] {
    let own = |whose_region: &str, whose_agency: &str| whose_region == region && whose_agency == agency;
    let signing = [&keyset.transport_keys, &keyset.packet_keys];
    [
        ("delegation is for another agency or region", own(&delegation.region, &delegation.agency)),
        ("a delegation counts from 1", delegation.version > 0),
        ("a delegation of a keyset key is not a handover", delegation.identity_key.is_empty()),
        ("keyset is for another agency or region", own(&keyset.region, &keyset.agency)),
        ("format must be 1", keyset.format == FORMAT),
        ("version must be 1 or more", keyset.version > 0),
        (
            "the first version has no previous one, every other names its 32 bytes",
            keyset.prev_hash.len() == if keyset.version == 1 { 0 } else { 32 },
        ),
        ("a keyset ends no later than its delegation", keyset.not_after_ms <= delegation.not_after_ms),
        (
            "at most 8 suites, sorted, suite 1 among them",
            keyset.suites.len() <= SUITES_MAX
                && ascending(keyset.suites.iter())
                && keyset.suites.contains(&u32::from(SUITE)),
        ),
        ("at most 8 transport and 8 packet keys", signing.iter().all(|keys| keys.len() <= SIGNING_KEYS_MAX)),
    ]
}

/// Encryption keys. Those of a unit that the roster does not name stay unused: the authority may take a unit from
/// the roster before its agency publishes a new keyset.
fn unit_keys(keyset: &Keyset) -> Result<Vec<UnitKey>, Result<DirectoryError, &'static str>> {
    if !ascending(keyset.encryption_keys.iter().map(|key| (&key.unit, key.epoch))) {
        return Err(Err("encryption keys must be sorted by unit and epoch, one for each"));
    }
    let unit_key = |key: &lintas_proto::schema::EncryptionKey| {
        code("unit", &key.unit).map_err(Ok)?;
        // The private key is destroyed then: nothing may be sealed to it that could still be on its way.
        let latest = epoch_ends_ms(key.epoch) + limits::DELIVER_WITHIN_MS_MAX + limits::CLOCK_SKEW_MS_MAX;
        if key.not_after_ms > latest {
            return Err(Err("an encryption key ends at most 90 days after its epoch"));
        }
        let parsed =
            EncryptionKey::parse(&key.public_key).map_err(|_| Err("an encryption key is not sound"))?;
        Ok(UnitKey {
            unit: key.unit.clone(),
            epoch: key.epoch,
            not_after_ms: key.not_after_ms,
            key: parsed,
            bytes: key.public_key.clone(),
        })
    };
    keyset.encryption_keys.iter().map(unit_key).collect()
}

/// When an encryption epoch begins, milliseconds since 1970.
pub(crate) fn epoch_begins_ms(epoch: u32) -> u64 {
    u64::from(epoch) * limits::EPOCH_MS
}

/// When it ends.
pub(crate) fn epoch_ends_ms(epoch: u32) -> u64 {
    (u64::from(epoch) + 1) * limits::EPOCH_MS
}
