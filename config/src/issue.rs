//! Making keys, keysets and rosters: what `init` does at an agency or a broker, and what a region authority
//! signs. The same functions serve the commands, the demo and the tests.

use bytes::Bytes;
use lintas_proto::{
    canonical,
    envelope::wrap::{DecryptionKey, WrapError},
    limits,
    schema::{
        BrokerKeys, BrokerSecrets, Delegation, DirectoryBundle, EncryptionKey, EncryptionSeed, JoinRequest,
        Keyset, Member, NodeSecrets, Roster, RosterSignature, SignedKeyset, SignedRoster,
    },
    sign::{KeyRole, SUITE, SignatureError, Signed, SigningKey},
};
use rand_core::CryptoRng;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::directory::DirectoryError;

/// How many epochs of encryption keys a keyset publishes, this one and those to come.
pub const EPOCHS_AHEAD: u32 = 5;
/// How long a delegation and a keyset are valid, milliseconds: 1 year.
pub const KEYSET_VALID_MS: u64 = 365 * 24 * 60 * 60 * 1_000;

/// Why keys or a roster were not made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IssueError {
    /// A seed that makes no key.
    #[error(transparent)]
    Key(#[from] SignatureError),
    /// A seed that makes no encryption key.
    #[error(transparent)]
    Encryption(#[from] WrapError),
    /// A roster that breaks a rule.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A seed of the wrong size.
    #[error("secret key `{0}` must be 32 bytes")]
    Seed(&'static str),
}

/// A 32-byte secret seed.
pub type Seed = Zeroizing<[u8; 32]>;

/// A fresh seed.
pub fn fresh_seed(entropy: &mut dyn CryptoRng) -> Seed {
    let mut seed = Zeroizing::new([0; 32]);
    entropy.fill_bytes(seed.as_mut());
    seed
}

/// Reads a stored seed.
///
/// # Errors
/// [`IssueError::Seed`].
pub fn seed(name: &'static str, bytes: &[u8]) -> Result<Seed, IssueError> {
    bytes.try_into().map(Zeroizing::new).map_err(|_| IssueError::Seed(name))
}

/// Makes a new agency's keys: the offline identity seed, the node's secrets, and the request to join.
/// `member` needs everything but its identity key.
///
/// # Errors
/// [`IssueError`].
pub fn new_agency(
    region: &str,
    member: Member,
    now_ms: u64,
    entropy: &mut dyn CryptoRng,
) -> Result<(Seed, NodeSecrets, JoinRequest), IssueError> {
    let identity_seed = fresh_seed(entropy);
    let identity = SigningKey::from_seed(KeyRole::Identity, &identity_seed)?;
    let member = Member { identity_key: Bytes::copy_from_slice(&identity.public_key()), ..member };
    let mut secret = || Bytes::copy_from_slice(fresh_seed(entropy).as_slice());
    let mut secrets = NodeSecrets {
        region: region.to_owned(),
        agency: member.agency.clone(),
        transport_seed: secret(),
        packet_seed: secret(),
        delegate_seed: secret(),
        slot_key: secret(),
        ..NodeSecrets::default()
    };
    let delegate = SigningKey::from_seed(KeyRole::Delegate, &seed("delegate", &secrets.delegate_seed)?)?;
    secrets.delegation = canonical::encode(&Delegation {
        region: region.to_owned(),
        agency: member.agency.clone(),
        delegate_key: Bytes::copy_from_slice(&delegate.public_key()),
        not_after_ms: now_ms.saturating_add(KEYSET_VALID_MS),
    });
    secrets.delegation_signature =
        Bytes::copy_from_slice(&identity.sign(Signed::Delegation, &secrets.delegation));
    let this_epoch = u32::try_from(now_ms / limits::EPOCH_MS).unwrap_or(u32::MAX);
    for unit in &member.units {
        for epoch in (this_epoch..).take(EPOCHS_AHEAD as usize) {
            secrets.encryption_seeds.push(EncryptionSeed { unit: unit.unit.clone(), epoch, seed: secret() });
        }
    }
    let keyset = sign_keyset(&secrets, 1, Bytes::new(), now_ms)?;
    let request = JoinRequest { region: region.to_owned(), member: Some(member), keyset: Some(keyset) };
    Ok((identity_seed, secrets, request))
}

/// Signs the keyset of these secrets as `version`, following the keyset with hash `prev_hash`.
///
/// # Errors
/// [`IssueError`].
pub fn sign_keyset(
    secrets: &NodeSecrets,
    version: u64,
    prev_hash: Bytes,
    now_ms: u64,
) -> Result<SignedKeyset, IssueError> {
    let public = |role, name, bytes: &[u8]| -> Result<Bytes, IssueError> {
        Ok(Bytes::copy_from_slice(&SigningKey::from_seed(role, &seed(name, bytes)?)?.public_key()))
    };
    let mut encryption_keys = Vec::with_capacity(secrets.encryption_seeds.len());
    for EncryptionSeed { unit, epoch, seed: bytes } in &secrets.encryption_seeds {
        let key = DecryptionKey::from_seed(&seed("encryption", bytes)?)?;
        encryption_keys.push(EncryptionKey {
            unit: unit.clone(),
            epoch: *epoch,
            public_key: Bytes::from(key.public().to_bytes()),
            // A packet sealed at the end of the epoch may be on its way for 90 days.
            not_after_ms: (u64::from(*epoch) + 1) * limits::EPOCH_MS + limits::DELIVER_WITHIN_MS_MAX,
        });
    }
    let keyset = canonical::encode(&Keyset {
        format: crate::directory::KEYSET_FORMAT,
        region: secrets.region.clone(),
        agency: secrets.agency.clone(),
        version,
        prev_hash,
        not_after_ms: now_ms.saturating_add(KEYSET_VALID_MS),
        transport_keys: vec![public(KeyRole::Transport, "transport", &secrets.transport_seed)?],
        packet_keys: vec![public(KeyRole::Packet, "packet", &secrets.packet_seed)?],
        encryption_keys,
        suites: vec![SUITE.into()],
    });
    let delegate = SigningKey::from_seed(KeyRole::Delegate, &seed("delegate", &secrets.delegate_seed)?)?;
    Ok(SignedKeyset {
        delegation: secrets.delegation.clone(),
        delegation_signature: secrets.delegation_signature.clone(),
        keyset_signature: Bytes::copy_from_slice(&delegate.sign(Signed::Keyset, &keyset)),
        keyset,
    })
}

/// Makes a new broker's keys: its secrets, and what the roster says of it.
///
/// # Errors
/// [`IssueError`].
pub fn new_broker(
    name: &str,
    entropy: &mut dyn CryptoRng,
) -> Result<(BrokerSecrets, BrokerKeys), IssueError> {
    let (transport_seed, receipt_seed) = (fresh_seed(entropy), fresh_seed(entropy));
    let keys = BrokerKeys {
        name: name.to_owned(),
        transport_key: Bytes::copy_from_slice(
            &SigningKey::from_seed(KeyRole::Transport, &transport_seed)?.public_key(),
        ),
        receipt_key: Bytes::copy_from_slice(
            &SigningKey::from_seed(KeyRole::Receipt, &receipt_seed)?.public_key(),
        ),
    };
    let secrets = BrokerSecrets {
        name: name.to_owned(),
        transport_seed: Bytes::copy_from_slice(transport_seed.as_slice()),
        receipt_seed: Bytes::copy_from_slice(receipt_seed.as_slice()),
    };
    Ok((secrets, keys))
}

/// Signs a roster with the keys of authorities (role [`KeyRole::Authority`]).
///
/// # Errors
/// [`IssueError::Directory`] when the roster breaks a rule.
pub fn sign_roster(roster: &Roster, authorities: &[SigningKey]) -> Result<SignedRoster, IssueError> {
    crate::directory::check_roster(roster)?;
    let bytes = canonical::encode(roster);
    let sign = |key: &SigningKey| RosterSignature {
        key_id: Bytes::copy_from_slice(key.id()),
        signature: Bytes::copy_from_slice(&key.sign(Signed::Roster, &bytes)),
    };
    let mut signatures: Vec<RosterSignature> = authorities.iter().map(sign).collect();
    signatures.sort_by(|a, b| a.key_id.cmp(&b.key_id));
    Ok(SignedRoster { roster: bytes, signatures })
}

/// Joins roster and keysets (in any order) into the file that every member keeps.
#[must_use]
pub fn bundle(roster: &SignedRoster, mut keysets: Vec<SignedKeyset>) -> Bytes {
    let agency = |signed: &SignedKeyset| crate::directory::keyset_agency(signed).unwrap_or_default();
    keysets.sort_by_key(agency);
    canonical::encode(&DirectoryBundle {
        roster: canonical::encode(roster),
        keysets: keysets.iter().map(canonical::encode).collect(),
    })
}
