//! Keys at rest: a random key-encryption key seals everything secret; it is itself wrapped by a passphrase
//! (argon2id) or by a key file.
//!
//! A file is sealed under a new key-encryption key each time it is written. Said plainly: SSDs, snapshots and backups may
//! keep what was overwritten.
//!
//! AES-256-GCM with a random nonce; the AAD is a purpose, a zero byte and an id, so that no sealed thing can
//! stand for another. Said plainly: without a TPM or an HSM, an old disk image and the passphrase still open
//! what was there.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use bytes::Bytes;
use lintas_proto::{
    canonical::fixed,
    schema::{KeyLock, LockKind},
};
use rand_core::CryptoRng;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use thiserror::Error;
use zeroize::Zeroizing;

/// Memory of argon2id, KiB: 64 MiB.
const MEMORY_KIB: u32 = 64 * 1024;
/// Passes of argon2id.
const PASSES: u32 = 3;
/// Lanes of argon2id.
const LANES: u32 = 1;
/// Most memory that a lock on disk may ask for, KiB: 1 GiB.
const MEMORY_KIB_MAX: u32 = 1024 * 1024;
/// Most passes that a lock on disk may ask for.
const PASSES_MAX: u32 = 16;
/// Shortest new passphrase, characters: it stands alone (NIST SP 800-63B-4, section 3.1.1.2).
pub(crate) const PASSPHRASE_CHARS_MIN: usize = 15;
const LOCK_PURPOSE: &str = "lintas/v1/lock";

/// A 32-byte secret.
type Secret = Zeroizing<[u8; 32]>;

/// Why something stays locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum VaultError {
    /// The passphrase or key file does not open the lock.
    #[error("the passphrase or key file is wrong; nothing was opened")]
    WrongSecret,
    /// The lock wants the other kind of secret.
    #[error("these keys are locked with {needs}; {advice}")]
    WrongKind {
        /// What locks them.
        needs: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// The bytes were changed, or belong elsewhere.
    #[error("sealed bytes were changed or belong elsewhere; restore the file from a copy")]
    Damaged,
    /// The lock asks for what no lock of this version has.
    #[error("the key lock is not one of this version; restore the file from a copy")]
    Parameters,
}

/// What the operator brings to open a lock.
pub(crate) enum Unlocker {
    /// Words.
    Passphrase(Zeroizing<String>),
    /// 32 bytes of a file.
    KeyFile(Secret),
}

impl fmt::Debug for Unlocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unlocker { .. }")
    }
}

/// What is kept of an [`Unlocker`] while a file is open: the key derived from it and the lock's parameters, so that the
/// file can be sealed anew without the passphrase and without argon2id.
pub(crate) struct Wrapping {
    /// Without what it wraps.
    lock: KeyLock,
    key: Secret,
}

impl fmt::Debug for Wrapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wrapping { .. }")
    }
}

impl Wrapping {
    /// For a new lock.
    pub(crate) fn new(with: &Unlocker, entropy: &mut dyn CryptoRng) -> Result<Self, VaultError> {
        let lock = match with {
            Unlocker::Passphrase(_) => {
                let salt = random(entropy);
                let (half, _) = salt.split_at(16);
                KeyLock {
                    kind: LockKind::Passphrase as i32,
                    salt: Bytes::copy_from_slice(half),
                    memory_kib: MEMORY_KIB,
                    passes: PASSES,
                    lanes: LANES,
                    wrapped: Bytes::new(),
                }
            }
            Unlocker::KeyFile(_) => KeyLock { kind: LockKind::KeyFile as i32, ..KeyLock::default() },
        };
        let key = wrapping_key(&lock, with)?;
        Ok(Self { lock, key })
    }

    /// As a stored lock wants it.
    pub(crate) fn of(lock: &KeyLock, with: &Unlocker) -> Result<Self, VaultError> {
        let key = wrapping_key(lock, with)?;
        Ok(Self { lock: KeyLock { wrapped: Bytes::new(), ..lock.clone() }, key })
    }

    /// Whether a stored lock has the same parameters; only then [`Vault::unlock`] can succeed.
    fn fits(&self, lock: &KeyLock) -> bool {
        KeyLock { wrapped: Bytes::new(), ..lock.clone() } == self.lock
    }
}

/// A key that seals: the key-encryption key of a file, or a key page.
pub(crate) struct Vault {
    key: Secret,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault { .. }")
    }
}

impl Vault {
    /// A fresh one.
    pub(crate) fn new(entropy: &mut dyn CryptoRng) -> Self {
        Self { key: random(entropy) }
    }

    /// Nonce ‖ ciphertext ‖ tag.
    pub(crate) fn seal(
        &self,
        purpose: &str,
        id: &[u8],
        plain: &[u8],
        entropy: &mut dyn CryptoRng,
    ) -> Result<Bytes, VaultError> {
        seal_under(&self.key, &aad(purpose, id), plain, entropy)
    }

    /// Opens what [`seal`](Self::seal) made for the same purpose and id.
    pub(crate) fn open(
        &self,
        purpose: &str,
        id: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        open_under(&self.key, &aad(purpose, id), sealed).ok_or(VaultError::Damaged)
    }

    /// Wraps the key for storage.
    pub(crate) fn lock(&self, with: &Wrapping, entropy: &mut dyn CryptoRng) -> Result<KeyLock, VaultError> {
        let wrapped = seal_under(&with.key, &lock_aad(&with.lock), self.key.as_ref(), entropy)?;
        Ok(KeyLock { wrapped, ..with.lock.clone() })
    }

    /// Opens a stored lock.
    pub(crate) fn unlock(lock: &KeyLock, with: &Wrapping) -> Result<Self, VaultError> {
        let plain = Some(with).filter(|with| with.fits(lock));
        let plain = plain.and_then(|with| open_under(&with.key, &lock_aad(lock), &lock.wrapped));
        Self::from_bytes(&plain.ok_or(VaultError::WrongSecret)?)
    }

    /// The vault with that key, 32 bytes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, VaultError> {
        Ok(Self { key: Zeroizing::new(fixed("key", bytes).map_err(|_| VaultError::Damaged)?) })
    }
}

fn wrapping_key(lock: &KeyLock, with: &Unlocker) -> Result<Secret, VaultError> {
    match (LockKind::try_from(lock.kind), with) {
        (Ok(LockKind::KeyFile), Unlocker::KeyFile(key)) => Ok(key.clone()),
        (Ok(LockKind::Passphrase), Unlocker::Passphrase(words)) => stretch(lock, words),
        (Ok(LockKind::KeyFile), Unlocker::Passphrase(_)) => Err(VaultError::WrongKind {
            needs: "a key file",
            advice: "give it with --key-file or LINTAS_KEY_FILE",
        }),
        (Ok(LockKind::Passphrase), Unlocker::KeyFile(_)) => Err(VaultError::WrongKind {
            needs: "a passphrase",
            advice: "leave --key-file and LINTAS_KEY_FILE away",
        }),
        (Ok(LockKind::Unspecified) | Err(_), _) => Err(VaultError::Parameters),
    }
}

/// argon2id, version 0x13 (RFC 9106).
fn stretch(lock: &KeyLock, words: &str) -> Result<Secret, VaultError> {
    let bounded = lock.memory_kib <= MEMORY_KIB_MAX && lock.passes <= PASSES_MAX && lock.lanes == LANES;
    if !bounded || lock.salt.len() != 16 {
        return Err(VaultError::Parameters);
    }
    let params = Params::new(lock.memory_kib, lock.passes, lock.lanes, Some(32));
    let params = params.map_err(|_| VaultError::Parameters)?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(words.as_bytes(), &lock.salt, key.as_mut())
        .map_err(|_| VaultError::Parameters)?;
    Ok(key)
}

/// Binds every parameter of the lock.
fn lock_aad(lock: &KeyLock) -> Vec<u8> {
    let numbers = [lock.kind.cast_unsigned(), lock.memory_kib, lock.passes, lock.lanes];
    let numbers: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
    aad(LOCK_PURPOSE, &[numbers.as_slice(), &lock.salt].concat())
}

fn aad(purpose: &str, id: &[u8]) -> Vec<u8> {
    [purpose.as_bytes(), b"\0", id].concat()
}

fn cipher(key: &Secret) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, key.as_ref()).ok().map(LessSafeKey::new)
}

fn seal_under(
    key: &Secret,
    aad: &[u8],
    plain: &[u8],
    entropy: &mut dyn CryptoRng,
) -> Result<Bytes, VaultError> {
    let mut nonce = [0; NONCE_LEN];
    entropy.fill_bytes(&mut nonce);
    let mut bytes = Zeroizing::new(plain.to_vec());
    cipher(key)
        .and_then(|cipher| {
            let nonce = Nonce::assume_unique_for_key(nonce);
            cipher.seal_in_place_append_tag(nonce, Aad::from(aad), &mut *bytes).ok()
        })
        .ok_or(VaultError::Damaged)?;
    Ok(Bytes::from([nonce.as_slice(), &bytes].concat()))
}

fn open_under(key: &Secret, aad: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
    let mut bytes = Zeroizing::new(sealed.to_vec());
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let length = cipher(key)?.open_in_place(nonce, Aad::from(aad), &mut bytes).ok()?.len();
    bytes.truncate(length);
    Some(bytes)
}

fn random(entropy: &mut dyn CryptoRng) -> Secret {
    let mut bytes = Zeroizing::new([0; 32]);
    entropy.fill_bytes(bytes.as_mut());
    bytes
}

#[cfg(test)]
mod tests {
    use lintas_config::os_entropy;

    use super::*;

    fn words(text: &str) -> Unlocker {
        Unlocker::Passphrase(Zeroizing::new(text.to_owned()))
    }

    fn wrapping(text: &str) -> Wrapping {
        Wrapping::new(&words(text), &mut os_entropy()).unwrap()
    }

    #[test]
    fn only_the_right_passphrase_opens_the_lock() {
        let (vault, mut entropy) = (Vault::new(&mut os_entropy()), os_entropy());
        let sealed = vault.seal("test", b"1", b"secret", &mut entropy).unwrap();
        let lock = vault.lock(&wrapping("correct horse"), &mut entropy).unwrap();
        let right = Wrapping::of(&lock, &words("correct horse")).unwrap();
        let opened = Vault::unlock(&lock, &right).unwrap();
        assert_eq!(*opened.open("test", b"1", &sealed).unwrap(), b"secret");
        let wrong = Wrapping::of(&lock, &words("wrong horse")).unwrap();
        assert_eq!(Vault::unlock(&lock, &wrong).unwrap_err(), VaultError::WrongSecret);
        let key_file = Unlocker::KeyFile(Zeroizing::new([7; 32]));
        assert!(matches!(Wrapping::of(&lock, &key_file), Err(VaultError::WrongKind { .. })));
        // The same words with another salt are another lock; kept, they open the next one without argon2id.
        assert_eq!(Vault::unlock(&lock, &wrapping("correct horse")).unwrap_err(), VaultError::WrongSecret);
        let next = Vault::new(&mut entropy);
        let sealed = next.seal("test", b"1", b"more", &mut entropy).unwrap();
        let lock = next.lock(&right, &mut entropy).unwrap();
        let right = Wrapping::of(&lock, &words("correct horse")).unwrap();
        assert_eq!(*Vault::unlock(&lock, &right).unwrap().open("test", b"1", &sealed).unwrap(), b"more");
        assert!(vault.open("test", b"1", &sealed).is_err(), "each vault has a key of its own");
    }

    #[test]
    fn a_flipped_bit_anywhere_keeps_it_shut() {
        let (vault, mut entropy) = (Vault::new(&mut os_entropy()), os_entropy());
        let key_file = Wrapping::new(&Unlocker::KeyFile(Zeroizing::new([7; 32])), &mut entropy).unwrap();
        let lock = vault.lock(&key_file, &mut entropy).unwrap();
        let sealed = vault.seal("test", b"1", b"secret", &mut entropy).unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.to_vec();
            changed[at] ^= 1;
            assert_eq!(vault.open("test", b"1", &changed).unwrap_err(), VaultError::Damaged);
        }
        for at in 0..lock.wrapped.len() {
            let mut wrapped = lock.wrapped.to_vec();
            wrapped[at] ^= 1;
            let changed = KeyLock { wrapped: wrapped.into(), ..lock.clone() };
            assert!(Vault::unlock(&changed, &key_file).is_err());
        }
        assert!(vault.open("test", b"2", &sealed).is_err(), "id");
        assert!(vault.open("tes", b"t\x001", &sealed).is_err(), "purpose");
    }

    #[test]
    fn a_lock_may_not_ask_for_endless_work() {
        let greedy = KeyLock {
            kind: LockKind::Passphrase as i32,
            salt: Bytes::from_static(&[1; 16]),
            memory_kib: u32::MAX,
            passes: 3,
            lanes: 1,
            ..KeyLock::default()
        };
        assert_eq!(Wrapping::of(&greedy, &words("x")).unwrap_err(), VaultError::Parameters);
    }
}
