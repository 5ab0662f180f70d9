//! X-Wing (draft-connolly-cfrg-xwing-kem) for a recipient who opens many wraps with one key: the seed is expanded once,
//! not for each wrap, and both halves run on aws-lc-rs, as in TLS. Everything but decapsulation, and the key schedule of
//! HPKE above it, is the crate `hpke`'s.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    agreement::{self, PrivateKey as X25519Key, UnparsedPublicKey},
    digest,
    kem::{Ciphertext, DecapsulationKey, ML_KEM_768},
};
use hpke::{Deserializable, HpkeError, Kem, Serializable, kem::SharedSecret, kem::XWing};
use ml_kem::{FromSeed as _, MlKem768};
use rand_core::CryptoRng;
use shake::{ExtendableOutput as _, Shake256, Update as _, XofReader as _};
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

type Seed = <XWing as Kem>::PrivateKey;
type Public = <XWing as Kem>::PublicKey;

/// ML-KEM: d ‖ z. The 32 bytes of X25519 follow.
const ML_KEM_SEED_BYTES: usize = 64;
const ML_KEM_CIPHERTEXT_BYTES: usize = 1_088;
const LABEL: &[u8; 6] = br"\.//^\";

/// X-Wing, with keys that stay expanded.
pub(super) struct Expanded;

/// A secret key: its seed, and what follows from it.
#[derive(Clone)]
pub(super) struct SecretKey {
    seed: Seed,
    halves: Arc<Result<Halves, HpkeError>>,
}

/// aws-lc overwrites what it frees.
struct Halves {
    ml_kem: DecapsulationKey,
    x25519: X25519Key,
    x25519_public: [u8; 32],
}

impl SecretKey {
    fn of(seed: Seed) -> Self {
        let halves = Arc::new(Halves::of(&seed));
        Self { seed, halves }
    }

    fn halves(&self) -> Result<&Halves, HpkeError> {
        self.halves.as_ref().as_ref().map_err(|_| HpkeError::ValidationError)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey { .. }")
    }
}

impl Serializable for SecretKey {
    type OutputSize = <Seed as Serializable>::OutputSize;

    fn write_exact(&self, out: &mut [u8]) {
        self.seed.write_exact(out);
    }
}

impl Deserializable for SecretKey {
    fn from_bytes(seed: &[u8]) -> Result<Self, HpkeError> {
        let key = Self::of(Seed::from_bytes(seed)?);
        key.halves()?;
        Ok(key)
    }
}

impl ConstantTimeEq for SecretKey {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.seed.ct_eq(&other.seed)
    }
}

impl Halves {
    /// `expandDecapsulationKey` of the draft.
    fn of(seed: &Seed) -> Result<Self, HpkeError> {
        let mut shake = Shake256::default();
        shake.update(&Zeroizing::new(seed.to_bytes()));
        let mut expanded = Zeroizing::new([0; ML_KEM_SEED_BYTES + 32]);
        shake.finalize_xof().read(expanded.as_mut());
        let (ml_kem, x25519) = expanded.split_at(ML_KEM_SEED_BYTES);
        let ml_kem = Zeroizing::new(ml_kem::Seed::try_from(ml_kem).map_err(|_| HpkeError::ValidationError)?);
        let refused = |_| HpkeError::ValidationError;
        let x25519 = X25519Key::from_private_key(&agreement::X25519, x25519).map_err(refused)?;
        let public = x25519.compute_public_key().map_err(|_| HpkeError::ValidationError)?;
        let x25519_public = public.as_ref().try_into().map_err(|_| HpkeError::ValidationError)?;
        let ml_kem = DecapsulationKey::new(&ML_KEM_768, &expanded_ml_kem(&ml_kem)).map_err(refused)?;
        Ok(Self { ml_kem, x25519, x25519_public })
    }

    /// The shared secret; an error only for an X25519 half of small order.
    fn decapsulate(&self, encapsulated: &[u8]) -> Result<SharedSecret<Expanded>, HpkeError> {
        let (ciphertext, theirs) =
            encapsulated.split_at_checked(ML_KEM_CIPHERTEXT_BYTES).ok_or(HpkeError::DecapError)?;
        let first =
            self.ml_kem.decapsulate(Ciphertext::from(ciphertext)).map_err(|_| HpkeError::DecapError)?;
        let mut combiner = digest::Context::new(&digest::SHA3_256);
        combiner.update(first.as_ref());
        let peer = UnparsedPublicKey::new(&agreement::X25519, theirs);
        agreement::agree(&self.x25519, peer, HpkeError::DecapError, |second| {
            combiner.update(second);
            Ok(())
        })?;
        [theirs, &self.x25519_public, LABEL].iter().for_each(|part| combiner.update(part));
        let mut shared = SharedSecret::default();
        shared.0.copy_from_slice(combiner.finish().as_ref());
        Ok(shared)
    }
}

/// The form in which aws-lc takes a key (FIPS 203 section 7.1): it is never kept or sent.
#[allow(
    deprecated,
    reason = "aws-lc-rs takes no seed; nothing is read in this form, so nothing of it need be checked"
)]
fn expanded_ml_kem(seed: &ml_kem::Seed) -> Zeroizing<Vec<u8>> {
    use ml_kem::ExpandedKeyEncoding as _;
    let (key, _) = MlKem768::from_seed(seed);
    let expanded = Zeroizing::new(key.to_expanded_bytes());
    Zeroizing::new(expanded.to_vec())
}

impl Kem for Expanded {
    type PublicKey = Public;
    type PrivateKey = SecretKey;
    type EncappedKey = <XWing as Kem>::EncappedKey;
    type NSecret = <XWing as Kem>::NSecret;

    const KEM_ID: u16 = XWing::KEM_ID;

    fn sk_to_pk(secret: &SecretKey) -> Public {
        XWing::sk_to_pk(&secret.seed)
    }

    fn derive_keypair(material: &[u8]) -> (SecretKey, Public) {
        let (seed, public) = XWing::derive_keypair(material);
        (SecretKey::of(seed), public)
    }

    fn decap(
        secret: &SecretKey,
        sender: Option<&Public>,
        encapsulated: &Self::EncappedKey,
    ) -> Result<SharedSecret<Self>, HpkeError> {
        // X-Wing authenticates no sender.
        if sender.is_some() {
            return Err(HpkeError::DecapError);
        }
        secret.halves()?.decapsulate(&encapsulated.to_bytes())
    }

    fn encap_with_rng(
        recipient: &Public,
        sender: Option<(&SecretKey, &Public)>,
        entropy: &mut impl CryptoRng,
    ) -> Result<(SharedSecret<Self>, Self::EncappedKey), HpkeError> {
        if sender.is_some() {
            return Err(HpkeError::EncapError);
        }
        let (shared, encapsulated) = XWing::encap_with_rng(recipient, None, entropy)?;
        Ok((SharedSecret(shared.0), encapsulated))
    }
}
