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
/// How many epochs that are over a keyset still publishes: for packets that were sealed before they were submitted.
pub const EPOCHS_BEHIND: u32 = 2;
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
    let witness_seed = fresh_seed(entropy);
    let witness = SigningKey::from_seed(KeyRole::Witness, &witness_seed)?;
    let member = Member {
        identity_key: Bytes::copy_from_slice(&identity.public_key()),
        witness_key: Bytes::copy_from_slice(&witness.public_key()),
        ..member
    };
    let secret = |entropy: &mut dyn CryptoRng| Bytes::copy_from_slice(fresh_seed(entropy).as_slice());
    let mut secrets = NodeSecrets {
        region: region.to_owned(),
        agency: member.agency.clone(),
        transport_seed: secret(entropy),
        packet_seed: secret(entropy),
        slot_key: secret(entropy),
        witness_seed: Bytes::copy_from_slice(witness_seed.as_slice()),
        ..NodeSecrets::default()
    };
    delegate(&mut secrets, &identity, 1, now_ms, entropy)?;
    let this_epoch = epoch_at(now_ms);
    let last_epoch = this_epoch.saturating_add(EPOCHS_AHEAD - 1);
    for unit in &member.units {
        for epoch in this_epoch..=last_epoch {
            secrets.encryption_seeds.push(EncryptionSeed {
                unit: unit.unit.clone(),
                epoch,
                seed: secret(entropy),
            });
        }
    }
    let keyset = sign_keyset(&secrets, 1, Bytes::new(), now_ms)?;
    secrets.keyset = canonical::encode(&keyset);
    let request = JoinRequest { region: region.to_owned(), member: Some(member), keyset: Some(keyset) };
    Ok((identity_seed, secrets, request))
}

/// The epoch of a moment.
#[must_use]
pub fn epoch_at(now_ms: u64) -> u32 {
    u32::try_from(now_ms / limits::EPOCH_MS).unwrap_or(u32::MAX)
}

/// When an epoch's private key is to be destroyed, milliseconds since 1970: when no packet sealed for it can be on its
/// way any more, by any honest clock.
#[must_use]
pub fn epoch_dies_ms(epoch: u32) -> u64 {
    crate::directory::epoch_ends_ms(epoch) + limits::DELIVER_WITHIN_MS_MAX + limits::CLOCK_SKEW_MS_MAX
}

/// Signs the keyset of these secrets as `version`, following the keyset with hash `prev_hash`. Of encryption keys it
/// lists those from [`EPOCHS_BEHIND`] epochs ago on.
///
/// # Errors
/// [`IssueError`].
pub fn sign_keyset(
    secrets: &NodeSecrets,
    version: u64,
    prev_hash: Bytes,
    now_ms: u64,
) -> Result<SignedKeyset, IssueError> {
    sign_keyset_beside(secrets, version, prev_hash, &[], now_ms)
}

/// As [`sign_keyset`], and lists the public keys `packet_keys` as well: earlier ones, by which packets that are on
/// their way and evidence are still verified.
///
/// # Errors
/// [`IssueError`].
pub fn sign_keyset_beside(
    secrets: &NodeSecrets,
    version: u64,
    prev_hash: Bytes,
    packet_keys: &[Bytes],
    now_ms: u64,
) -> Result<SignedKeyset, IssueError> {
    let mut encryption_keys = Vec::with_capacity(secrets.encryption_seeds.len());
    let listed = |known: &&EncryptionSeed| known.epoch.saturating_add(EPOCHS_BEHIND) >= epoch_at(now_ms);
    for EncryptionSeed { unit, epoch, seed: bytes } in secrets.encryption_seeds.iter().filter(listed) {
        let key = DecryptionKey::from_seed(&seed("encryption", bytes)?)?;
        encryption_keys.push(EncryptionKey {
            unit: unit.clone(),
            epoch: *epoch,
            public_key: Bytes::from(key.public().to_bytes()),
            // A packet sealed at the end of the epoch may be on its way for 90 days.
            not_after_ms: crate::directory::epoch_ends_ms(*epoch) + limits::DELIVER_WITHIN_MS_MAX,
        });
    }
    encryption_keys.sort_by(|a, b| (&a.unit, a.epoch).cmp(&(&b.unit, b.epoch)));
    let (transport_keys, mut own_packet_keys) = signing_keys(secrets)?;
    for key in packet_keys {
        if !own_packet_keys.contains(key) {
            own_packet_keys.push(key.clone());
        }
    }
    own_packet_keys.truncate(crate::directory::SIGNING_KEYS_MAX);
    let packet_keys = own_packet_keys;
    sign(
        secrets,
        Keyset {
            version,
            prev_hash,
            transport_keys,
            packet_keys,
            encryption_keys,
            ..keyset(secrets, now_ms)
        },
    )
}

/// Public transport and packet keys of these secrets: those in use, and those to come if there are any.
///
/// # Errors
/// [`IssueError`].
pub fn signing_keys(secrets: &NodeSecrets) -> Result<(Vec<Bytes>, Vec<Bytes>), IssueError> {
    let public = |role, name, seeds: [&Bytes; 2]| -> Result<Vec<Bytes>, IssueError> {
        let [in_use, to_come] = seeds;
        let to_come = Some(to_come).filter(|seed| !seed.is_empty());
        let key = |bytes: &Bytes| {
            Ok(Bytes::copy_from_slice(&SigningKey::from_seed(role, &seed(name, bytes)?)?.public_key()))
        };
        [Some(in_use), to_come].into_iter().flatten().map(key).collect()
    };
    let transport = [&secrets.transport_seed, &secrets.next_transport_seed];
    let packet = [&secrets.packet_seed, &secrets.next_packet_seed];
    Ok((public(KeyRole::Transport, "transport", transport)?, public(KeyRole::Packet, "packet", packet)?))
}

/// A keyset without keys.
fn keyset(secrets: &NodeSecrets, now_ms: u64) -> Keyset {
    Keyset {
        format: crate::directory::KEYSET_FORMAT,
        region: secrets.region.clone(),
        agency: secrets.agency.clone(),
        not_after_ms: now_ms.saturating_add(KEYSET_VALID_MS),
        suites: vec![SUITE.into()],
        ..Keyset::default()
    }
}

/// Signs a keyset, which ends no later than the delegation under which it is signed.
fn sign(secrets: &NodeSecrets, keyset: Keyset) -> Result<SignedKeyset, IssueError> {
    let delegation: Delegation =
        canonical::decode(&secrets.delegation, limits::KEYSET_BYTES_MAX).map_err(DirectoryError::from)?;
    let not_after_ms = keyset.not_after_ms.min(delegation.not_after_ms);
    let keyset = canonical::encode(&Keyset { not_after_ms, ..keyset });
    let delegate = SigningKey::from_seed(KeyRole::Delegate, &seed("delegate", &secrets.delegate_seed)?)?;
    Ok(SignedKeyset {
        delegation: secrets.delegation.clone(),
        delegation_signature: secrets.delegation_signature.clone(),
        keyset_signature: Bytes::copy_from_slice(&delegate.sign(Signed::Keyset, &keyset)),
        keyset,
    })
}

/// Certifies a new delegate key under the identity key, as delegation `version` (one more than the one before, which it
/// ends). Sign a keyset with the changed secrets next: only with it the new delegation reaches the others.
///
/// # Errors
/// [`IssueError`].
pub fn delegate(
    secrets: &mut NodeSecrets,
    identity: &SigningKey,
    version: u64,
    now_ms: u64,
    entropy: &mut dyn CryptoRng,
) -> Result<(), IssueError> {
    let fresh = fresh_seed(entropy);
    let key = SigningKey::from_seed(KeyRole::Delegate, &fresh)?;
    secrets.delegate_seed = Bytes::copy_from_slice(fresh.as_slice());
    secrets.delegation = canonical::encode(&Delegation {
        region: secrets.region.clone(),
        agency: secrets.agency.clone(),
        delegate_key: Bytes::copy_from_slice(&key.public_key()),
        not_after_ms: now_ms.saturating_add(KEYSET_VALID_MS),
        version,
        ..Delegation::default()
    });
    secrets.delegation_signature =
        Bytes::copy_from_slice(&identity.sign(Signed::Delegation, &secrets.delegation));
    Ok(())
}

/// Hands an agency's identity over to the next identity key: the signature that the region authority puts into
/// [`Member::handover`], so that no officer anywhere needs to confirm the change. It holds for ever: an agency never
/// goes back to a key that it has left.
#[must_use]
pub fn hand_over(region: &str, agency: &str, before: &SigningKey, after: &[u8; 32]) -> Bytes {
    let bytes = crate::directory::handover(region, agency, &Bytes::copy_from_slice(after));
    Bytes::copy_from_slice(&before.sign(Signed::Delegation, &bytes))
}

/// A keyset without any key, with the highest version there is: nothing can follow it under this identity key. Made
/// at `init` and kept on paper, so that an agency can take itself out when all else is lost.
///
/// # Errors
/// [`IssueError`].
pub fn sign_revocation(secrets: &NodeSecrets, now_ms: u64) -> Result<SignedKeyset, IssueError> {
    sign(
        secrets,
        Keyset {
            version: u64::MAX,
            // It may follow any keyset. No keyset has this hash.
            prev_hash: Bytes::from_static(&[0; 32]),
            ..keyset(secrets, now_ms)
        },
    )
}

/// Makes a new broker's keys: its secrets, and what the roster says of it.
///
/// # Errors
/// [`IssueError`].
pub fn new_broker(
    name: &str,
    entropy: &mut dyn CryptoRng,
) -> Result<(BrokerSecrets, BrokerKeys), IssueError> {
    let log_seed = fresh_seed(entropy);
    new_broker_with_log(name, &log_seed, entropy)
}

/// As [`new_broker`] for one that goes on with the log that `log_seed` signs: with another log key its log must end.
///
/// # Errors
/// [`IssueError`].
pub fn new_broker_with_log(
    name: &str,
    log_seed: &Seed,
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
        log_key: Bytes::copy_from_slice(&SigningKey::from_seed(KeyRole::Log, log_seed)?.public_key()),
        ended_logs: Vec::new(),
    };
    let secrets = BrokerSecrets {
        name: name.to_owned(),
        transport_seed: Bytes::copy_from_slice(transport_seed.as_slice()),
        receipt_seed: Bytes::copy_from_slice(receipt_seed.as_slice()),
        log_seed: Bytes::copy_from_slice(log_seed.as_slice()),
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
