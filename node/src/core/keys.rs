//! The agency's secret keys: sealed as one file, and in use.

use std::fmt;

use bytes::Bytes;
use lintas_config::issue::{IssueError, seed};
use lintas_proto::{
    canonical::{self, DecodeError},
    envelope::wrap::{DecryptionKey, WrapError},
    id::{Digest, sha256},
    limits,
    schema::{Delegation, KeyLock, Keyset, LockedKeys, NodeSecrets, SignedKeyset},
    sign::{KeyRole, SignatureError, SigningKey},
};
use rand_core::CryptoRng;
use thiserror::Error;
use zeroize::{Zeroize as _, Zeroizing};

use super::{
    pages::Pages,
    vault::{Unlocker, Vault, VaultError, Wrapping},
};

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
    #[error("the sealed keys are damaged: {0}; restore their file (e.g. node.keys) from a copy")]
    Decode(#[from] DecodeError),
    /// Locked, or changed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// More pages than a key file may hold.
    #[error(
        "this node holds as many key pages as it can; purge what is no longer needed: `lintas purge --before`"
    )]
    TooManyPages,
    /// Pages of this process are missing in the file.
    #[error(
        "node.keys was replaced by an older copy while it was in use; stop the node and put the newest back"
    )]
    OlderFile,
    /// A word of an identity key that is not for these secrets, or not newer.
    #[error("this is not a newer word of this agency's identity key; nothing was changed")]
    OtherWord,
    /// A keyset that ends all, or the last number there is.
    #[error(
        "this agency has revoked its keys, and nothing can follow under this identity key; make a new identity with \
         `lintas init` in a new folder, and let the region authority take it up"
    )]
    Revoked,
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
    with: &Wrapping,
    entropy: &mut dyn CryptoRng,
) -> Result<Bytes, VaultError> {
    let vault = Vault::new(entropy);
    let sealed = vault.seal(holds.purpose(), b"", plain, entropy)?;
    let lock = Some(vault.lock(with, entropy)?);
    Ok(canonical::encode(&LockedKeys { format: FORMAT, lock, sealed }))
}

/// Opens a key file: what opens it again, and what was sealed in it.
pub(crate) fn open_file(
    holds: Holds,
    file: &Bytes,
    with: &Unlocker,
) -> Result<(Wrapping, Zeroizing<Vec<u8>>), KeysError> {
    let (lock, _) = locked(file)?;
    let wrapping = Wrapping::of(&lock, with)?;
    let plain = open_again(holds, file, &wrapping)?;
    Ok((wrapping, plain))
}

/// Opens a key file with what opened it before.
pub(crate) fn open_again(
    holds: Holds,
    file: &Bytes,
    with: &Wrapping,
) -> Result<Zeroizing<Vec<u8>>, KeysError> {
    let (lock, sealed) = locked(file)?;
    Ok(Vault::unlock(&lock, with)?.open(holds.purpose(), b"", &sealed)?)
}

fn locked(file: &Bytes) -> Result<(KeyLock, Bytes), KeysError> {
    let locked: LockedKeys = canonical::decode(file, limits::KEYSET_BYTES_MAX)?;
    let lock = locked.lock.filter(|_| locked.format == FORMAT).ok_or(VaultError::Parameters)?;
    Ok((lock, locked.sealed))
}

/// Lets `work` read or change the plaintext of a node's key file, and wipes it afterwards. What `work` made of it, and
/// the plaintext as it is then.
pub(crate) fn with_secrets<T, E: From<KeysError>>(
    plain: &Zeroizing<Vec<u8>>,
    work: impl FnOnce(&mut NodeSecrets) -> Result<T, E>,
) -> Result<(T, Zeroizing<Vec<u8>>), E> {
    // The decoded message shares these bytes; once it is gone they are ours alone again, and wiped.
    let bytes = Bytes::copy_from_slice(plain);
    let done =
        canonical::decode(&bytes, limits::KEYSET_BYTES_MAX).map_err(|error| KeysError::from(error).into());
    let done = done.and_then(|mut secrets: NodeSecrets| {
        let made = work(&mut secrets);
        let after = canonical::encode(&secrets);
        wipe_all(secrets);
        let plain = Zeroizing::new(after.to_vec());
        wipe(after);
        made.map(|made| (made, plain))
    });
    wipe(bytes);
    done
}

/// Wipes every secret of a message that nobody else shares.
pub(crate) fn wipe_all(secrets: NodeSecrets) {
    let NodeSecrets {
        transport_seed,
        packet_seed,
        delegate_seed,
        slot_key,
        next_transport_seed,
        next_packet_seed,
        witness_seed,
        ..
    } = secrets;
    let used = [transport_seed, packet_seed, delegate_seed, slot_key, witness_seed];
    let own = used.into_iter().chain([next_transport_seed, next_packet_seed]);
    own.for_each(wipe);
    secrets.encryption_seeds.into_iter().for_each(|known| wipe(known.seed));
    secrets.pages.into_iter().for_each(|page| wipe(page.key));
}

/// Wipes bytes that nobody else shares; those that somebody shares are wiped with the last of them.
pub(crate) fn wipe(bytes: Bytes) {
    if let Ok(mut bytes) = bytes.try_into_mut() {
        bytes.as_mut().zeroize();
    }
}

/// One unit's key for one epoch.
#[derive(Debug)]
struct UnitKey {
    unit: String,
    epoch: u32,
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
    /// Cosigns checkpoints; of use only while the roster names it.
    pub(crate) witness: SigningKey,
    encryption: Vec<UnitKey>,
    /// Until when the identity key lets this node sign keysets, milliseconds since 1970.
    pub(crate) delegated_until_ms: u64,
    /// Version of that delegation.
    pub(crate) delegation_version: u64,
    /// Transport and packet keys are waiting until the directory names them.
    pub(crate) keys_to_come: bool,
    /// The keyset that this node signed last; none if it signed none.
    pub(crate) keyset: Option<OwnKeyset>,
}

/// A keyset of this agency, with what must be known of it.
#[derive(Debug, Clone)]
pub(crate) struct OwnKeyset {
    /// Canonical bytes of the `SignedKeyset`.
    pub(crate) bytes: Bytes,
    /// SHA-256 of the keyset in it.
    pub(crate) hash: Digest,
    /// What it says.
    pub(crate) says: Keyset,
}

impl OwnKeyset {
    /// Reads a keyset; nothing of it is verified.
    pub(crate) fn parse(bytes: &Bytes) -> Result<Self, KeysError> {
        // A copy: the bytes given would keep a whole plaintext of secrets alive.
        let bytes = Bytes::copy_from_slice(bytes);
        let signed: SignedKeyset = canonical::decode(&bytes, limits::KEYSET_BYTES_MAX)?;
        let says = canonical::decode(&signed.keyset, limits::KEYSET_BYTES_MAX)?;
        Ok(Self { bytes, hash: sha256(&[&signed.keyset]), says })
    }

    /// Whether it takes the agency out: nothing can follow it under this identity key.
    pub(crate) fn is_revocation(&self) -> bool {
        self.says.version == u64::MAX
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys {{ agency: {}, .. }}", self.agency)
    }
}

impl Keys {
    /// Reads the plaintext of a node's key file.
    pub(crate) fn parse(plain: &Zeroizing<Vec<u8>>) -> Result<(Self, Pages), KeysError> {
        with_secrets(plain, |secrets| Ok((decode(secrets)?, Pages::parse(secrets)?))).map(|(found, _)| found)
    }

    /// Units and epochs of which the private key is here, in order.
    pub(crate) fn epochs(&self) -> impl Iterator<Item = (&str, u32)> {
        self.encryption.iter().map(|known| (known.unit.as_str(), known.epoch))
    }

    /// The key of one of this agency's units with that id.
    pub(crate) fn decryption_key(&self, unit: &str, key_id: &[u8]) -> Option<&DecryptionKey> {
        let fits = |known: &&UnitKey| known.unit == unit && known.key.public().id() == key_id;
        self.encryption.iter().find(fits).map(|known| &known.key)
    }
}

fn decode(secrets: &NodeSecrets) -> Result<Keys, KeysError> {
    let mut encryption = Vec::with_capacity(secrets.encryption_seeds.len());
    for known in &secrets.encryption_seeds {
        let key = DecryptionKey::from_seed(&seed("encryption", &known.seed)?)?;
        encryption.push(UnitKey { unit: known.unit.clone(), epoch: known.epoch, key });
    }
    let delegation: Delegation = canonical::decode(&secrets.delegation, limits::KEYSET_BYTES_MAX)?;
    let keyset = Some(&secrets.keyset).filter(|bytes| !bytes.is_empty());
    Ok(Keys {
        region: secrets.region.clone(),
        agency: secrets.agency.clone(),
        transport_seed: seed("transport", &secrets.transport_seed)?,
        packet: SigningKey::from_seed(KeyRole::Packet, &seed("packet", &secrets.packet_seed)?)?,
        slot_key: seed("slot", &secrets.slot_key)?,
        witness: SigningKey::from_seed(KeyRole::Witness, &seed("witness", &secrets.witness_seed)?)?,
        encryption,
        delegated_until_ms: delegation.not_after_ms,
        delegation_version: delegation.version,
        keys_to_come: !secrets.next_transport_seed.is_empty(),
        keyset: keyset.map(OwnKeyset::parse).transpose()?,
    })
}
