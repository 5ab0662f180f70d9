//! Openings: what a leaf commits to, each under a key of its own, so that one can be forgotten and every proof stays.
//!
//! | file | what |
//! |---|---|
//! | `openings/<N>` | for each entry of bundle N: length u16 big-endian, then AES-256-GCM ciphertext of salt (32) ‖ event, with its tag; nonce zero, the leaf as associated data |
//! | `keys/<N>` | for each entry of bundle N: its key, 32 bytes; zeros when it was erased |
//!
//! A key seals one opening and never another, so its nonce may be fixed.

use bytes::Bytes;
use rand_core::CryptoRng;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use thiserror::Error;
use zeroize::Zeroizing;

use super::leaf::{LEAF_BYTES, LeafError, open_leaf};
use crate::schema::{AuditEvent, LoggedEvent};

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;
/// The key of an opening that was erased.
pub const ERASED: [u8; KEY_BYTES] = [0; KEY_BYTES];
const SALT_BYTES: usize = 32;

/// An opening that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OpeningError {
    /// It was erased by order of its agency.
    #[error("the event was erased by order of its agency")]
    Erased,
    /// Key, ciphertext and leaf do not belong together.
    #[error("the opening is damaged or belongs to another leaf")]
    Damaged,
    /// What it holds is not what the leaf commits to.
    #[error(transparent)]
    Leaf(#[from] LeafError),
}

/// Seals the opening of an event under a new key: key and ciphertext.
///
/// # Errors
/// [`OpeningError::Damaged`] for an event without salt or leaf of their sizes; does not happen for a logged event.
pub fn seal(
    event: &LoggedEvent,
    entropy: &mut dyn CryptoRng,
) -> Result<(Zeroizing<[u8; KEY_BYTES]>, Vec<u8>), OpeningError> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    entropy.fill_bytes(key.as_mut());
    if event.salt.len() != SALT_BYTES || event.leaf.len() != LEAF_BYTES || *key == ERASED {
        return Err(OpeningError::Damaged);
    }
    let mut sealed = Vec::with_capacity(SALT_BYTES + event.event.len() + AES_256_GCM.tag_len());
    sealed.extend_from_slice(&event.salt);
    sealed.extend_from_slice(&event.event);
    cipher(&key)?
        .seal_in_place_append_tag(nonce(), Aad::from(&event.leaf), &mut sealed)
        .map_err(|_| OpeningError::Damaged)?;
    Ok((key, sealed))
}

/// Opens what [`seal`] sealed, and checks it against the leaf at `index`.
///
/// # Errors
/// [`OpeningError`].
pub fn open(
    index: u64,
    leaf: &[u8],
    key: &[u8; KEY_BYTES],
    sealed: &[u8],
) -> Result<(LoggedEvent, AuditEvent), OpeningError> {
    let (salt, bytes) = unseal(leaf, key, sealed)?;
    let event = open_leaf(leaf, &salt, &bytes)?;
    Ok((LoggedEvent { index, leaf: Bytes::copy_from_slice(leaf), salt, event: bytes }, event))
}

/// As [`open`], for whoever needs the event alone.
///
/// # Errors
/// [`OpeningError`].
pub fn open_event(leaf: &[u8], key: &[u8; KEY_BYTES], sealed: &[u8]) -> Result<AuditEvent, OpeningError> {
    let (salt, bytes) = unseal(leaf, key, sealed)?;
    Ok(open_leaf(leaf, &salt, &bytes)?)
}

/// Salt and event.
fn unseal(leaf: &[u8], key: &[u8; KEY_BYTES], sealed: &[u8]) -> Result<(Bytes, Bytes), OpeningError> {
    if *key == ERASED {
        return Err(OpeningError::Erased);
    }
    let mut buffer = sealed.to_vec();
    let plain = cipher(key)?
        .open_in_place(nonce(), Aad::from(leaf), &mut buffer)
        .map_err(|_| OpeningError::Damaged)?
        .len();
    buffer.truncate(plain);
    let mut salt = Bytes::from(buffer);
    if salt.len() < SALT_BYTES {
        return Err(OpeningError::Damaged);
    }
    let event = salt.split_off(SALT_BYTES);
    Ok((salt, event))
}

fn cipher(key: &[u8; KEY_BYTES]) -> Result<LessSafeKey, OpeningError> {
    UnboundKey::new(&AES_256_GCM, key).map(LessSafeKey::new).map_err(|_| OpeningError::Damaged)
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests {
    use super::{super::leaf::log_event, *};
    use crate::{schema::EventType, testing::TestEntropy};

    #[test]
    fn an_opening_opens_its_own_leaf_only_and_no_longer_without_its_key() {
        let event = AuditEvent {
            r#type: EventType::Received as i32,
            agency: "KH-CNP".to_owned(),
            time_ms: 5,
            ..AuditEvent::default()
        };
        let logged = log_event(3, [4; 32], &event);
        let (key, sealed) = seal(&logged, &mut TestEntropy::new(1)).unwrap();
        assert_eq!(open(3, &logged.leaf, &key, &sealed), Ok((logged.clone(), event.clone())));
        assert_eq!(open(3, &logged.leaf, &ERASED, &sealed), Err(OpeningError::Erased));
        let other = log_event(3, [5; 32], &event);
        assert_eq!(open(3, &other.leaf, &key, &sealed), Err(OpeningError::Damaged));
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(3, &logged.leaf, &key, &flipped), Err(OpeningError::Damaged));
        }
    }
}
