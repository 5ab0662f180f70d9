//! Key wraps: HPKE base mode (RFC 9180), KEM 0x647A MLKEM768-X25519 (draft-ietf-hpke-pq; X-Wing),
//! HKDF-SHA256, ChaCha20-Poly1305. Empty AAD: all context is in `info`.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 1,088 | ML-KEM-768 ciphertext |
//! | 1,088 | 32 | X25519 public key |
//! | 1,120 | 80 | AEAD ciphertext of content key (32) ‖ previous (32), with its tag |

use std::fmt;

use hpke::{
    Deserializable as _, Kem as _, OpModeR, OpModeS, Serializable as _, aead::ChaCha20Poly1305,
    kdf::HkdfSha256, kem::XWing,
};
use rand_core::CryptoRng;
use thiserror::Error;
use zeroize::Zeroizing;

use super::{
    chunk::ContentKey,
    xwing::{Expanded, SecretKey},
};
use crate::{
    id::Digest,
    sign::{KeyRole, key_id},
};

/// Bytes of a wrap.
pub const WRAP_BYTES: usize = ENCAPSULATED_BYTES + 64 + 16;
/// Bytes of an encryption public key: ML-KEM-768 (1,184) ‖ X25519 (32).
pub const PUBLIC_KEY_BYTES: usize = 1_216;
const ENCAPSULATED_BYTES: usize = 1_120;
const ML_KEM_CIPHERTEXT_BYTES: usize = 1_088;

/// Why a key or a wrap was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WrapError {
    /// Not an X-Wing public key, or its X25519 half is of small order or not in its one encoding.
    #[error("encryption key is not a sound MLKEM768-X25519 key")]
    BadKey,
    /// Anything else. One error, so that no difference tells anything.
    #[error("cannot be opened: wrong key, or the bytes were changed")]
    CannotOpen,
}

/// A unit's public encryption key.
#[derive(Clone, PartialEq, Eq)]
pub struct EncryptionKey {
    key: <XWing as hpke::Kem>::PublicKey,
    id: Digest,
}

impl EncryptionKey {
    /// Reads 1,216 bytes.
    ///
    /// # Errors
    /// [`WrapError::BadKey`].
    pub fn parse(bytes: &[u8]) -> Result<Self, WrapError> {
        let sound = |x25519: &&[u8; 32]| !small_order(x25519) && below_p(x25519);
        bytes.last_chunk().filter(sound).ok_or(WrapError::BadKey)?;
        let key = <XWing as hpke::Kem>::PublicKey::from_bytes(bytes).map_err(|_| WrapError::BadKey)?;
        Ok(Self { key, id: key_id(KeyRole::Encryption, bytes) })
    }

    /// Key id.
    #[must_use]
    pub fn id(&self) -> &Digest {
        &self.id
    }

    /// The 1,216 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.key.to_bytes().to_vec()
    }
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncryptionKey({})", crate::id::hex(&self.id))
    }
}

/// A unit's secret encryption key: the 32-byte seed of X-Wing, and what it expands to.
pub struct DecryptionKey {
    key: SecretKey,
    public: EncryptionKey,
}

impl DecryptionKey {
    /// Key of a uniformly random 32-byte seed.
    ///
    /// # Errors
    /// [`WrapError::BadKey`]; does not happen for a uniformly random seed.
    pub fn from_seed(seed: &Zeroizing<[u8; 32]>) -> Result<Self, WrapError> {
        let key = SecretKey::from_bytes(seed.as_ref()).map_err(|_| WrapError::BadKey)?;
        let public = EncryptionKey::parse(&Expanded::sk_to_pk(&key).to_bytes())?;
        Ok(Self { key, public })
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &EncryptionKey {
        &self.public
    }
}

impl fmt::Debug for DecryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DecryptionKey { .. }")
    }
}

/// What a wrap holds for one recipient.
#[derive(Clone)]
pub struct Wrapped {
    /// Opens the body.
    pub content_key: ContentKey,
    /// Header digest of the sender's last packet to this recipient that was released; zero for the first.
    pub previous: Digest,
}

impl fmt::Debug for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wrapped { .. }")
    }
}

/// Wraps for one recipient: 1,200 bytes.
///
/// # Errors
/// [`WrapError::BadKey`].
pub fn wrap(
    recipient: &EncryptionKey,
    info: &[u8],
    wrapped: &Wrapped,
    mut entropy: &mut dyn CryptoRng,
) -> Result<Vec<u8>, WrapError> {
    let plain = Zeroizing::new([wrapped.content_key.as_slice(), &wrapped.previous].concat());
    let (encapsulated, sealed) = hpke::single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, XWing>(
        &OpModeS::Base,
        &recipient.key,
        info,
        &plain,
        b"",
        &mut entropy,
    )
    .map_err(|_| WrapError::BadKey)?;
    Ok([encapsulated.to_bytes().as_slice(), &sealed].concat())
}

/// Opens a wrap.
///
/// An encapsulation whose X25519 half is of small order is refused before hpke sees it: its shared secret
/// would be known to all (RFC 7748 section 6.1, RFC 9180 section 7.1.4).
///
/// # Errors
/// [`WrapError::CannotOpen`] for everything.
pub fn unwrap(secret: &DecryptionKey, info: &[u8], wrap: &[u8]) -> Result<Wrapped, WrapError> {
    let wrap: &[u8; WRAP_BYTES] = wrap.try_into().map_err(|_| WrapError::CannotOpen)?;
    let (encapsulated, sealed) = wrap.split_at(ENCAPSULATED_BYTES);
    let (_, x25519) = encapsulated.split_at(ML_KEM_CIPHERTEXT_BYTES);
    if x25519.first_chunk().is_none_or(small_order) {
        return Err(WrapError::CannotOpen);
    }
    let encapsulated = <Expanded as hpke::Kem>::EncappedKey::from_bytes(encapsulated);
    let plain = hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, Expanded>(
        &OpModeR::Base,
        &secret.key,
        &encapsulated.map_err(|_| WrapError::CannotOpen)?,
        info,
        sealed,
        b"",
    );
    let plain = Zeroizing::new(plain.map_err(|_| WrapError::CannotOpen)?);
    let (content_key, previous) = plain.split_first_chunk::<32>().ok_or(WrapError::CannotOpen)?;
    let previous = previous.try_into().map_err(|_| WrapError::CannotOpen)?;
    Ok(Wrapped { content_key: Zeroizing::new(*content_key), previous })
}

/// Whether an X25519 public key is of small order: the seven values of u, in each encoding that X25519 takes
/// (it ignores the highest bit and reduces modulo p). <https://cr.yp.to/ecdh.html#validate>
fn small_order(key: &[u8; 32]) -> bool {
    let mut u = *key;
    if let Some(last) = u.last_mut() {
        *last &= 0x7f;
    }
    SMALL_ORDER_U.contains(&u)
}

/// Whether u is below p = 2^255 - 19: each key has one encoding, so one key id. X-Wing hashes the encoding, so a
/// wrap for another one would never open.
fn below_p(key: &[u8; 32]) -> bool {
    let [first, middle @ .., last] = key;
    *last < 0x7f || (*last == 0x7f && (*first < 0xed || middle.iter().any(|byte| *byte != 0xff)))
}

const SMALL_ORDER_U: [[u8; 32]; 7] = [
    little_endian(0x00, 0x00, 0x00),
    little_endian(0x01, 0x00, 0x00),
    little_endian(0xec, 0xff, 0x7f),
    little_endian(0xed, 0xff, 0x7f),
    little_endian(0xee, 0xff, 0x7f),
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda,
        0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04,
        0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
    ],
];

/// `first`, then 30 times `middle`, then `last`.
const fn little_endian(first: u8, middle: u8, last: u8) -> [u8; 32] {
    let mut out = [middle; 32];
    out[0] = first;
    out[31] = last;
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestEntropy;

    fn key(seed: u8) -> DecryptionKey {
        DecryptionKey::from_seed(&Zeroizing::new([seed; 32])).unwrap()
    }

    #[test]
    fn the_table_holds_exactly_points_that_x25519_sends_to_zero() {
        use curve25519_dalek::montgomery::MontgomeryPoint;
        for u in SMALL_ORDER_U {
            for bit in [0, 0x80] {
                let mut encoding = u;
                encoding[31] |= bit;
                assert!(small_order(&encoding));
                assert_eq!(MontgomeryPoint(encoding).mul_clamped([9; 32]).0, [0; 32]);
            }
        }
        assert!(!small_order(&[9; 32]));
    }

    #[test]
    fn only_the_right_key_info_and_bytes_open_a_wrap() {
        let wrapped = Wrapped { content_key: Zeroizing::new([7; 32]), previous: [8; 32] };
        let sealed = wrap(key(1).public(), b"info", &wrapped, &mut TestEntropy::new(1)).unwrap();
        assert_eq!(sealed.len(), WRAP_BYTES);
        let opened = unwrap(&key(1), b"info", &sealed).unwrap();
        assert_eq!((*opened.content_key, opened.previous), ([7; 32], [8; 32]));
        assert_eq!(unwrap(&key(2), b"info", &sealed).unwrap_err(), WrapError::CannotOpen);
        assert_eq!(unwrap(&key(1), b"other", &sealed).unwrap_err(), WrapError::CannotOpen);
        for at in (0..sealed.len()).step_by(7).chain([1_088, 1_119, 1_199]) {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(unwrap(&key(1), b"info", &changed).unwrap_err(), WrapError::CannotOpen, "byte {at}");
        }
        assert_eq!(unwrap(&key(1), b"info", &sealed[1..]).unwrap_err(), WrapError::CannotOpen);
    }

    // That an encapsulation of small order is refused although it would open: tests/rules.rs.
    #[test]
    fn a_public_key_of_small_order_is_refused() {
        for u in SMALL_ORDER_U {
            let mut public = key(1).public().to_bytes();
            public[1_184..].copy_from_slice(&u);
            assert_eq!(EncryptionKey::parse(&public).unwrap_err(), WrapError::BadKey);
        }
    }
}
