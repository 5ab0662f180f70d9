//! Signatures: Ed25519 over the DSSE pre-authentication encoding of the exact bytes.
//!
//! Strict everywhere, by one function: small-order, torsioned and non-canonical keys never become a
//! [`VerifyingKey`]; small-order `R` is refused; `s` must be below the group order (aws-lc does that).
//! Sources: RFC 8032 section 5.1, DSSE protocol "PAE".

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use curve25519_dalek::edwards::CompressedEdwardsY;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::id::{Digest, sha256};

/// The cryptographic suite of this version. Never negotiated.
pub const SUITE: u8 = 1;

/// What a key is for. A key serves one role only. Values are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum KeyRole {
    /// TLS raw public key of a node or broker.
    Transport = 1,
    /// Signs packets and evidence of an agency.
    Packet = 2,
    /// Signs keysets and policy bundles.
    Delegate = 3,
    /// Not used: bundles are signed by the delegate key.
    Policy = 4,
    /// Cosigns audit checkpoints.
    Witness = 5,
    /// Signs a broker's receipts and evidence.
    Receipt = 6,
    /// Signs audit checkpoints.
    Log = 7,
    /// An agency's offline identity.
    Identity = 8,
    /// A region authority.
    Authority = 9,
    /// A unit's encryption key.
    Encryption = 10,
}

/// Key id: SHA-256(suite ‖ role ‖ public key), suite and role one byte each.
#[must_use]
pub fn key_id(role: KeyRole, public_key: &[u8]) -> Digest {
    sha256(&[&[SUITE, role as u8], public_key])
}

/// What is signed. Each kind has a PAE type of its own, so that no signature can stand for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signed {
    /// A packet's header.
    Header,
    /// A grant.
    Grant,
    /// A group of receipts.
    ReceiptGroup,
    /// A group of evidence.
    EvidenceGroup,
    /// A roster.
    Roster,
    /// A delegation.
    Delegation,
    /// A keyset.
    Keyset,
    /// An order to erase openings of the audit log.
    ErasureOrder,
    /// A policy bundle.
    PolicyBundle,
}

impl Signed {
    /// The PAE type.
    #[must_use]
    pub fn pae_type(self) -> &'static str {
        match self {
            Self::Header => "application/vnd.lintas.header.v1+protobuf",
            Self::Grant => "application/vnd.lintas.grant.v1+protobuf",
            Self::ReceiptGroup => "application/vnd.lintas.receipt-group.v1",
            Self::EvidenceGroup => "application/vnd.lintas.evidence-group.v1",
            Self::Roster => "application/vnd.lintas.roster.v1+protobuf",
            Self::Delegation => "application/vnd.lintas.delegation.v1+protobuf",
            Self::Keyset => "application/vnd.lintas.keyset.v1+protobuf",
            Self::ErasureOrder => "application/vnd.lintas.erasure-order.v1+protobuf",
            Self::PolicyBundle => "application/vnd.lintas.policy-bundle.v1+protobuf",
        }
    }
}

/// DSSE pre-authentication encoding: `DSSEv1 SP len(type) SP type SP len(body) SP body`, lengths in ASCII decimal.
#[must_use]
pub fn pae(signed: Signed, body: &[u8]) -> Vec<u8> {
    let name = signed.pae_type();
    let mut out = format!("DSSEv1 {} {name} {} ", name.len(), body.len()).into_bytes();
    out.extend_from_slice(body);
    out
}

/// Why a key or a signature was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SignatureError {
    /// The key is not a point of prime order in its one encoding.
    #[error("public key is not a canonical Ed25519 point of prime order")]
    BadKey,
    /// The signature does not fit.
    #[error("signature does not fit the bytes and the key")]
    BadSignature,
}

/// A secret Ed25519 key in one role.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    id: Digest,
}

impl SigningKey {
    /// Key of a 32-byte seed (RFC 8032 section 5.1.5).
    ///
    /// # Errors
    /// [`SignatureError::BadKey`]; does not happen for a uniformly random seed.
    pub fn from_seed(role: KeyRole, seed: &Zeroizing<[u8; 32]>) -> Result<Self, SignatureError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_ref()).map_err(|_| SignatureError::BadKey)?;
        let id = key_id(role, pair.public_key().as_ref());
        Ok(Self { pair, id })
    }

    /// Public key, 32 bytes.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(self.pair.public_key().as_ref());
        out
    }

    /// Key id.
    #[must_use]
    pub fn id(&self) -> &Digest {
        &self.id
    }

    /// Signature over PAE(type, body), 64 bytes.
    #[must_use]
    pub fn sign(&self, signed: Signed, body: &[u8]) -> [u8; 64] {
        self.sign_raw(&pae(signed, body))
    }

    /// Signature over bare bytes. For the formats of others, with keys that sign nothing else: see
    /// [`crate::audit::note`].
    pub(crate) fn sign_raw(&self, message: &[u8]) -> [u8; 64] {
        let mut out = [0; 64];
        out.copy_from_slice(self.pair.sign(message).as_ref());
        out
    }

    /// Whether it is a key of that role.
    pub(crate) fn is(&self, role: KeyRole) -> bool {
        self.id == key_id(role, &self.public_key())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey { .. }")
    }
}

/// A public Ed25519 key that may be believed: canonical, of prime order. The only way to one is [`parse`](Self::parse).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyingKey([u8; 32]);

impl VerifyingKey {
    /// Reads 32 bytes.
    ///
    /// # Errors
    /// [`SignatureError::BadKey`] for another size, a non-canonical encoding, a point of small order (all 14
    /// encodings) or one with a torsion component.
    pub fn parse(bytes: &[u8]) -> Result<Self, SignatureError> {
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| SignatureError::BadKey)?;
        let compressed = CompressedEdwardsY(bytes);
        let point = compressed.decompress().ok_or(SignatureError::BadKey)?;
        let sound = point.compress() == compressed && !point.is_small_order() && point.is_torsion_free();
        if sound { Ok(Self(bytes)) } else { Err(SignatureError::BadKey) }
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Checks a signature over PAE(type, body).
    ///
    /// # Errors
    /// [`SignatureError::BadSignature`].
    pub fn verify(&self, signed: Signed, body: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        self.verify_raw(&pae(signed, body), signature)
    }

    /// Checks a signature over bare bytes (RFC 8032 section 5.1.7, cofactorless).
    pub(crate) fn verify_raw(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        let r = signature.first_chunk::<32>().ok_or(SignatureError::BadSignature)?;
        if SMALL_ORDER_R.contains(r) {
            return Err(SignatureError::BadSignature);
        }
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(message, signature)
            .map_err(|_| SignatureError::BadSignature)
    }
}

/// The eight points of small order in their canonical encodings. Other encodings of them never pass as `R`,
/// because aws-lc compares `R` with a canonical encoding. (Chalkias et al., "Taming the many EdDSAs", table 6.)
const SMALL_ORDER_R: [[u8; 32]; 8] = [
    encoding(0x01, 0x00, 0x00),
    encoding(0xec, 0xff, 0x7f),
    encoding(0x00, 0x00, 0x00),
    encoding(0x00, 0x00, 0x80),
    ORDER_8_A,
    with_sign(ORDER_8_A),
    ORDER_8_B,
    with_sign(ORDER_8_B),
];

const ORDER_8_A: [u8; 32] = [
    0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5,
    0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
];
const ORDER_8_B: [u8; 32] = [
    0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a,
    0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
];

/// `first`, then 30 times `middle`, then `last`.
const fn encoding(first: u8, middle: u8, last: u8) -> [u8; 32] {
    let mut out = [middle; 32];
    out[0] = first;
    out[31] = last;
    out
}

const fn with_sign(mut encoding: [u8; 32]) -> [u8; 32] {
    encoding[31] |= 0x80;
    encoding
}

#[cfg(test)]
mod tests;
