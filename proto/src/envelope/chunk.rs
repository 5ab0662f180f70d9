//! C2SP chunked encryption (<https://c2sp.org/chunked-encryption>), instance Cobblestone-256: HKDF-Expand with
//! SHA-512 and AES-256-GCM.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 24 | salt |
//! | 24 | 32 | key commitment |
//! | 56 | n × 16,400 | full chunks: 16,384 bytes of ciphertext, 16 of tag |
//! | … | 16 to 16,399 | final chunk, always shorter than a full one |

use rand_core::CryptoRng;
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hkdf::{HKDF_SHA512, KeyType, Prk},
};
use subtle::ConstantTimeEq as _;
use thiserror::Error;
use zeroize::Zeroizing;

/// Plaintext bytes of a full chunk.
pub const CHUNK_BYTES: usize = 16 * 1024;
/// Bytes of an AES-GCM tag.
pub const TAG_BYTES: usize = 16;
/// Ciphertext bytes of a full chunk.
pub const SEALED_CHUNK_BYTES: usize = CHUNK_BYTES + TAG_BYTES;
/// Bytes of salt and commitment before the first chunk.
pub const HEAD_BYTES: usize = SALT_BYTES + COMMITMENT_BYTES;
/// Bytes of the salt.
pub const SALT_BYTES: usize = 24;
const COMMITMENT_BYTES: usize = 32;
/// Most chunks of one message (C2SP: 2^38).
const CHUNKS_MAX: u64 = 1 << 38;

/// A content-encryption key: 32 uniformly random bytes, used for one message.
pub type ContentKey = Zeroizing<[u8; 32]>;

/// Why a message was not sealed or opened. Opening has one error for everything that secrets are involved in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ChunkError {
    /// Wrong key or context, or changed, cut or reordered bytes.
    #[error("cannot be opened: wrong key, or the bytes were changed")]
    CannotOpen,
    /// A chunk of the wrong length at this place, or more than 2^38 of them.
    #[error("chunk has a length that cannot stand here")]
    Length,
}

/// Ciphertext length of `plain` bytes; `None` beyond 64 bits.
#[must_use]
pub fn sealed_length(plain: u64) -> Option<u64> {
    let chunks = plain / CHUNK_BYTES as u64 + 1;
    plain.checked_add(chunks.checked_mul(TAG_BYTES as u64)?)?.checked_add(HEAD_BYTES as u64)
}

/// Plaintext length of `sealed` bytes; `None` if no message has that length.
#[must_use]
pub fn plain_length(sealed: u64) -> Option<u64> {
    let chunks = sealed.checked_sub(HEAD_BYTES as u64)?;
    let last = (chunks % SEALED_CHUNK_BYTES as u64).checked_sub(TAG_BYTES as u64)?;
    Some(chunks / SEALED_CHUNK_BYTES as u64 * CHUNK_BYTES as u64 + last)
}

/// Seals a whole message.
///
/// # Errors
/// [`ChunkError::Length`] beyond 2^38 chunks.
pub fn seal(
    key: &ContentKey,
    salt: &[u8; SALT_BYTES],
    context: &[u8],
    plain: &[u8],
) -> Result<Vec<u8>, ChunkError> {
    let capacity = sealed_length(plain.len() as u64).and_then(|length| usize::try_from(length).ok());
    let mut out = Vec::with_capacity(capacity.ok_or(ChunkError::Length)?);
    let mut sealer = Sealer::new(key, salt, context, &mut out)?;
    let (full, last) = plain.as_chunks::<CHUNK_BYTES>();
    for chunk in full {
        sealer.chunk(chunk, &mut out)?;
    }
    sealer.finish(last, &mut out)?;
    Ok(out)
}

/// Opens a whole message.
///
/// # Errors
/// [`ChunkError::CannotOpen`] for everything.
pub fn open(key: &ContentKey, context: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, ChunkError> {
    let mut out = Zeroizing::new(Vec::with_capacity(sealed.len()));
    let (head, chunks) = sealed.split_first_chunk::<HEAD_BYTES>().ok_or(ChunkError::CannotOpen)?;
    let mut opener = Opener::new(key, context, head)?;
    let (full, last) = chunks.as_chunks::<SEALED_CHUNK_BYTES>();
    for chunk in full {
        opener.chunk(chunk, &mut out)?;
    }
    opener.finish(last, &mut out)?;
    Ok(out)
}

/// Seals a message chunk by chunk, in constant memory.
#[derive(Debug)]
pub struct Sealer(Chunks);

impl Sealer {
    /// Starts a message and writes its head. `salt` must be random; `key` must be used for this message only.
    ///
    /// # Errors
    /// [`ChunkError::CannotOpen`]; does not happen for a 32-byte key.
    pub fn new(
        key: &ContentKey,
        salt: &[u8; SALT_BYTES],
        context: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Self, ChunkError> {
        let (chunks, commitment) = derive(key, salt, context)?;
        out.extend_from_slice(salt);
        out.extend_from_slice(&commitment);
        Ok(Self(chunks))
    }

    /// Seals the next full chunk.
    ///
    /// # Errors
    /// [`ChunkError::Length`] beyond 2^38 chunks.
    pub fn chunk(&mut self, plain: &[u8; CHUNK_BYTES], out: &mut Vec<u8>) -> Result<(), ChunkError> {
        self.0.seal(plain, out)
    }

    /// Seals the final chunk, shorter than a full one, perhaps empty.
    ///
    /// # Errors
    /// [`ChunkError::Length`] for a full chunk or more.
    pub fn finish(mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), ChunkError> {
        if plain.len() >= CHUNK_BYTES { Err(ChunkError::Length) } else { self.0.seal(plain, out) }
    }
}

/// Opens a message chunk by chunk, in constant memory. Nothing that it gave may be used before
/// [`finish`](Self::finish) said that the message is whole.
#[derive(Debug)]
pub struct Opener(Chunks);

impl Opener {
    /// Starts a message; the key commitment is checked before anything is decrypted.
    ///
    /// # Errors
    /// [`ChunkError::CannotOpen`].
    pub fn new(key: &ContentKey, context: &[u8], head: &[u8; HEAD_BYTES]) -> Result<Self, ChunkError> {
        let (salt, commitment) = head.split_first_chunk::<SALT_BYTES>().ok_or(ChunkError::CannotOpen)?;
        let (chunks, expected) = derive(key, salt, context)?;
        if bool::from(commitment.ct_eq(&expected)) { Ok(Self(chunks)) } else { Err(ChunkError::CannotOpen) }
    }

    /// Opens the next full chunk.
    ///
    /// # Errors
    /// [`ChunkError::CannotOpen`].
    pub fn chunk(&mut self, sealed: &[u8; SEALED_CHUNK_BYTES], out: &mut Vec<u8>) -> Result<(), ChunkError> {
        self.0.open(sealed, out)
    }

    /// Opens the final chunk, shorter than a full one.
    ///
    /// # Errors
    /// [`ChunkError::CannotOpen`], also for a full chunk or more: the message was cut.
    pub fn finish(mut self, sealed: &[u8], out: &mut Vec<u8>) -> Result<(), ChunkError> {
        let cut = sealed.len() >= SEALED_CHUNK_BYTES;
        if cut { Err(ChunkError::CannotOpen) } else { self.0.open(sealed, out) }
    }
}

/// Key, base nonce and counter: the state between two chunks.
struct Chunks {
    key: LessSafeKey,
    base_nonce: [u8; 12],
    counter: u64,
}

impl std::fmt::Debug for Chunks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Chunks {{ counter: {}, .. }}", self.counter)
    }
}

impl Chunks {
    /// Base nonce XOR counter, big-endian (section "AEAD usage").
    fn next_nonce(&mut self) -> Result<Nonce, ChunkError> {
        if self.counter >= CHUNKS_MAX {
            return Err(ChunkError::Length);
        }
        let mut nonce = self.base_nonce;
        for (byte, counter) in nonce.iter_mut().rev().zip(self.counter.to_le_bytes()) {
            *byte ^= counter;
        }
        self.counter += 1;
        Ok(Nonce::assume_unique_for_key(nonce))
    }

    fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), ChunkError> {
        let nonce = self.next_nonce()?;
        let start = out.len();
        out.extend_from_slice(plain);
        let chunk = out.get_mut(start..).unwrap_or_default();
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::empty(), chunk)
            .map_err(|_| ChunkError::Length)?;
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }

    fn open(&mut self, sealed: &[u8], out: &mut Vec<u8>) -> Result<(), ChunkError> {
        let nonce = self.next_nonce()?;
        let start = out.len();
        out.extend_from_slice(sealed);
        let chunk = out.get_mut(start..).unwrap_or_default();
        let opened = self.key.open_in_place(nonce, Aad::empty(), chunk).map(|plain| plain.len());
        out.truncate(start + opened.as_ref().copied().unwrap_or(0));
        opened.map(drop).map_err(|_| ChunkError::CannotOpen)
    }
}

/// Key ‖ base nonce ‖ commitment = HKDF-Expand(input key, info) (section "Key derivation").
fn derive(
    input_key: &ContentKey,
    salt: &[u8; SALT_BYTES],
    context: &[u8],
) -> Result<(Chunks, [u8; COMMITMENT_BYTES]), ChunkError> {
    struct Length;
    impl KeyType for Length {
        fn len(&self) -> usize {
            32 + 12 + COMMITMENT_BYTES
        }
    }
    let info = [b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0".as_slice(), salt, context];
    let prk = Prk::new_less_safe(HKDF_SHA512, input_key.as_ref());
    let mut okm = Zeroizing::new([0; 32 + 12 + COMMITMENT_BYTES]);
    let filled = prk.expand(&info, Length).and_then(|expanded| expanded.fill(okm.as_mut()));
    filled.map_err(|_| ChunkError::CannotOpen)?;
    let [key @ .., _, _, _, _, _, _, _, _, _, _, _, _] =
        okm.first_chunk::<44>().ok_or(ChunkError::CannotOpen)?;
    let mut rest = okm.iter().skip(32).copied();
    let base_nonce = std::array::from_fn(|_| rest.next().unwrap_or_default());
    let commitment = std::array::from_fn(|_| rest.next().unwrap_or_default());
    let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| ChunkError::CannotOpen)?;
    Ok((Chunks { key: LessSafeKey::new(key), base_nonce, counter: 0 }, commitment))
}

/// `N` random bytes: a key, a salt.
pub(crate) fn fresh<const N: usize>(entropy: &mut dyn CryptoRng) -> Zeroizing<[u8; N]> {
    let mut bytes = Zeroizing::new([0; N]);
    entropy.fill_bytes(bytes.as_mut());
    bytes
}

#[cfg(test)]
mod tests;
