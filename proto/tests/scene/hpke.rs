//! The key wrap written out a second time, from RFC 9180, draft-ietf-hpke-pq and the X-Wing draft: for values that
//! the crate does not show, and for wraps that no honest sender makes.

use curve25519_dalek::montgomery::MontgomeryPoint;
use ml_kem::{EncapsulationKey, MlKem768};
use ring::{aead, hmac};
use sha3::{Digest as _, Sha3_256};

/// KEM 0x647A MLKEM768-X25519, KDF 0x0001 HKDF-SHA256, AEAD 0x0003 ChaCha20-Poly1305.
const SUITE_ID: &[u8] = b"HPKE\x64\x7a\x00\x01\x00\x03";

/// What both ends of a wrap compute.
pub(crate) struct Secrets {
    pub(crate) encapsulated: Vec<u8>,
    pub(crate) shared: Vec<u8>,
    pub(crate) key: Vec<u8>,
    pub(crate) nonce: Vec<u8>,
}

/// X-Wing encapsulation with `randomness`: 32 bytes for ML-KEM, 32 for X25519; then the key schedule of HPKE's base
/// mode. With `point` the X25519 half is that instead of an honest one, and its shared secret is zero.
pub(crate) fn encapsulate(public: &[u8], randomness: &[u8], info: &[u8], point: Option<[u8; 32]>) -> Secrets {
    let (ml_kem, x25519) = public.split_at(1_184);
    let (for_ml_kem, for_x25519) = randomness.split_at(32);
    let key = EncapsulationKey::<MlKem768>::new(ml_kem.try_into().unwrap()).unwrap();
    let (ciphertext, first) = key.encapsulate_deterministic(for_ml_kem.try_into().unwrap());
    let scalar = for_x25519.try_into().unwrap();
    let (half, second) = match point {
        Some(point) => (point, [0; 32]),
        None => {
            let theirs = MontgomeryPoint(x25519.try_into().unwrap());
            (MontgomeryPoint::mul_base_clamped(scalar).0, theirs.mul_clamped(scalar).0)
        }
    };
    let mut combiner = Sha3_256::new();
    for part in [first.as_slice(), &second, &half, x25519, b"\\.//^\\"] {
        combiner.update(part);
    }
    let shared = combiner.finalize().to_vec();
    let (key, nonce) = key_schedule(&shared, info);
    Secrets { encapsulated: [ciphertext.as_slice(), &half].concat(), shared, key, nonce }
}

/// Seals `plain` as the first message of the context, with empty AAD.
pub(crate) fn seal(secrets: &Secrets, plain: &[u8]) -> Vec<u8> {
    let key = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, &secrets.key).unwrap();
    let nonce = aead::Nonce::try_assume_unique_for_key(&secrets.nonce).unwrap();
    let mut sealed = plain.to_vec();
    aead::LessSafeKey::new(key).seal_in_place_append_tag(nonce, aead::Aad::empty(), &mut sealed).unwrap();
    [secrets.encapsulated.as_slice(), &sealed].concat()
}

fn key_schedule(shared: &[u8], info: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let context =
        [&[0], extract(b"", b"psk_id_hash", b"").as_slice(), &extract(b"", b"info_hash", info)].concat();
    let secret = extract(shared, b"secret", b"");
    (expand(&secret, b"key", &context, 32), expand(&secret, b"base_nonce", &context, 12))
}

fn extract(salt: &[u8], label: &[u8], input: &[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, salt);
    hmac::sign(&key, &[b"HPKE-v1", SUITE_ID, label, input].concat()).as_ref().to_vec()
}

/// One block of HKDF-Expand is enough: 32 bytes at most.
fn expand(secret: &[u8], label: &[u8], context: &[u8], length: u8) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let info = [&[0, length][..], b"HPKE-v1", SUITE_ID, label, context, &[1]].concat();
    let block = hmac::sign(&key, &info).as_ref().to_vec();
    block.into_iter().take(length.into()).collect()
}
