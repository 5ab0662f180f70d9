//! The agency's secret keys: sealed as one file, and in use.

use std::fmt;

use bytes::Bytes;
use lintas_config::issue::{IssueError, seed};
use lintas_proto::{
    canonical::{self, DecodeError},
    envelope::wrap::{DecryptionKey, WrapError},
    limits,
    schema::{LockedKeys, NodeSecrets},
    sign::{KeyRole, SignatureError, SigningKey},
};
use rand_core::CryptoRng;
use thiserror::Error;
use zeroize::{Zeroize as _, Zeroizing};

use super::vault::{Unlocker, Vault, VaultError};

/// The format of key files of this version.
const FORMAT: u32 = 1;

/// What a file of keys holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holds {
    /// `NodeSecrets`.
    Node,
    /// The 32-byte identity seed.
    Identity,
    /// The 32-byte seed of an office of the region authority.
    Authority,
}

impl Holds {
    fn purpose(self) -> &'static str {
        match self {
            Self::Node => "lintas/v1/node-secrets",
            Self::Identity => "lintas/v1/identity",
            Self::Authority => "lintas/v1/authority",
        }
    }
}

/// Keys that cannot be used.
#[derive(Debug, Error)]
pub(crate) enum KeysError {
    /// The file is not one.
    #[error("the key file is damaged: {0}; restore it from a copy")]
    Decode(#[from] DecodeError),
    /// Locked, or changed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A seed that makes no key.
    #[error("a secret key cannot be used: {0}")]
    Issue(#[from] IssueError),
    /// As above.
    #[error("a secret key cannot be used: {0}")]
    Signing(#[from] SignatureError),
    /// As above.
    #[error("a secret key cannot be used: {0}")]
    Encryption(#[from] WrapError),
}

/// Seals `plain` under a vault of its own, locked with `with`: the bytes of a key file.
pub(crate) fn lock_file(
    holds: Holds,
    plain: &[u8],
    with: &Unlocker,
    entropy: &mut dyn CryptoRng,
) -> Result<Bytes, VaultError> {
    let vault = Vault::new(entropy);
    let sealed = vault.seal(holds.purpose(), b"", plain, entropy)?;
    let lock = Some(vault.lock(with, entropy)?);
    Ok(canonical::encode(&LockedKeys { format: FORMAT, lock, sealed }))
}

/// Opens a key file: the vault, and what was sealed in it.
pub(crate) fn open_file(
    holds: Holds,
    file: &Bytes,
    with: &Unlocker,
) -> Result<(Vault, Zeroizing<Vec<u8>>), KeysError> {
    let locked: LockedKeys = canonical::decode(file, limits::KEYSET_BYTES_MAX)?;
    let lock = locked.lock.filter(|_| locked.format == FORMAT).ok_or(VaultError::Parameters)?;
    let vault = Vault::unlock(&lock, with)?;
    let plain = vault.open(holds.purpose(), b"", &locked.sealed)?;
    Ok((vault, plain))
}

/// One unit's key for one epoch.
#[derive(Debug)]
struct UnitKey {
    unit: String,
    key: DecryptionKey,
}

/// The keys in use.
pub(crate) struct Keys {
    /// Region of the agency.
    pub(crate) region: String,
    /// Its code.
    pub(crate) agency: String,
    /// Seed of the TLS key.
    pub(crate) transport_seed: Zeroizing<[u8; 32]>,
    /// Signs packets and evidence.
    pub(crate) packet: SigningKey,
    /// Key of the agency's audit slots; the broker has it too.
    pub(crate) slot_key: Zeroizing<[u8; 32]>,
    encryption: Vec<UnitKey>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys {{ agency: {}, .. }}", self.agency)
    }
}

impl Keys {
    /// Reads the plaintext of a node's key file.
    pub(crate) fn parse(plain: Zeroizing<Vec<u8>>) -> Result<Self, KeysError> {
        // The decoded message shares these bytes; once it is gone they are ours alone again, and wiped.
        let bytes = Bytes::copy_from_slice(&plain);
        let keys = decode(&bytes);
        if let Ok(mut bytes) = bytes.try_into_mut() {
            bytes.as_mut().zeroize();
        }
        keys
    }

    /// The key of one of this agency's units with that id.
    pub(crate) fn decryption_key(&self, unit: &str, key_id: &[u8]) -> Option<&DecryptionKey> {
        let fits = |known: &&UnitKey| known.unit == unit && known.key.public().id() == key_id;
        self.encryption.iter().find(fits).map(|known| &known.key)
    }
}

fn decode(bytes: &Bytes) -> Result<Keys, KeysError> {
    let secrets: NodeSecrets = canonical::decode(bytes, limits::KEYSET_BYTES_MAX)?;
    let mut encryption = Vec::with_capacity(secrets.encryption_seeds.len());
    for known in &secrets.encryption_seeds {
        let key = DecryptionKey::from_seed(&seed("encryption", &known.seed)?)?;
        encryption.push(UnitKey { unit: known.unit.clone(), key });
    }
    Ok(Keys {
        region: secrets.region.clone(),
        agency: secrets.agency.clone(),
        transport_seed: seed("transport", &secrets.transport_seed)?,
        packet: SigningKey::from_seed(KeyRole::Packet, &seed("packet", &secrets.packet_seed)?)?,
        slot_key: seed("slot", &secrets.slot_key)?,
        encryption,
    })
}
