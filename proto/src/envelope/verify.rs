//! Verification: from bytes to [`VerifiedHeader`], the proof that an agency of the directory signed them.
//!
//! Broker and recipient run the same code. What is verified is the bytes that came, never a re-encoding.

use std::fmt;

use bytes::Bytes;
use thiserror::Error;

use super::{
    chunk,
    core::{Core, CoreError, check_audience, digests, opens},
    segment::segment_root,
    wrap::WRAP_BYTES,
};
use crate::{
    canonical::{self, DecodeError, WrongSize, fixed},
    id::{Digest, sha256},
    limits,
    schema::{self, Opening, UnitRef},
    sign::{Signed, VerifyingKey},
};

/// A part of a packet, for error messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The header bytes.
    Header,
    /// The opening of a recipient, 0-based.
    Opening(usize),
    /// The key wrap of a recipient, 0-based.
    Wrap(usize),
    /// The body ciphertext.
    Body,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("header"),
            Self::Opening(index) => write!(f, "opening {index}"),
            Self::Wrap(index) => write!(f, "key wrap {index}"),
            Self::Body => f.write_str("body"),
        }
    }
}

/// Why a packet was refused. Whoever sent these bytes is at fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum VerifyError {
    /// The header is not canonical.
    #[error("header: {0}")]
    Header(#[from] DecodeError),
    /// A fixed-size field of the header has another size.
    #[error("header: {0}")]
    HeaderSize(#[from] WrongSize),
    /// The core breaks a rule.
    #[error("core: {0}")]
    Core(#[from] CoreError),
    /// The directory knows no such packet key of that unit's agency.
    #[error("no packet-signing key {} of {agency} / {unit} is in the directory", crate::id::hex(key_id))]
    UnknownKey {
        /// Agency claimed.
        agency: String,
        /// Unit claimed.
        unit: String,
        /// Key claimed.
        key_id: Digest,
    },
    /// The signature does not fit the header.
    #[error("the signature does not fit the header")]
    Signature,
    /// Wraps, openings and commitments are not the same number.
    #[error("{commitments} recipients are committed, but there are {have} {part}s")]
    Count {
        /// "key wrap" or "opening".
        part: &'static str,
        /// Commitments in the core.
        commitments: usize,
        /// Parts given.
        have: usize,
    },
    /// A part is not the one that the header names.
    #[error("{0} is not the one that the header names")]
    Digest(Part),
    /// The body's length is not the one in the header, or no body can have it.
    #[error("body has {have} bytes, the header says {need}")]
    BodyLength {
        /// Length in the header.
        need: u64,
        /// Length given.
        have: u64,
    },
}

/// Finds the packet-signing keys of agencies.
pub trait PacketKeys {
    /// The key `key_id` of `originator`'s agency, if the directory holds it for packets and knows the unit.
    fn packet_key(&self, originator: &UnitRef, key_id: &Digest) -> Option<&VerifyingKey>;
}

/// A header whose signature was checked. Made by [`verify_header`] only.
#[derive(Debug, Clone)]
pub struct VerifiedHeader {
    core: Core,
    context: Digest,
    digest: Digest,
    wrap_sha256: Vec<Digest>,
    body_root: Digest,
    body_length: u64,
    bytes: Bytes,
    signature: Bytes,
}

/// Checks header bytes and their signature (64 bytes), in this order: size, canonical bytes, rules of the core,
/// key from the directory, signature.
///
/// # Errors
/// [`VerifyError`].
pub fn verify_header(
    header: &Bytes,
    signature: &Bytes,
    keys: &impl PacketKeys,
) -> Result<VerifiedHeader, VerifyError> {
    let verified = parse_header(header, signature)?;
    let core = &verified.core;
    let key =
        keys.packet_key(&core.originator, &core.sign_key_id).ok_or_else(|| VerifyError::UnknownKey {
            agency: core.originator.agency.clone(),
            unit: core.originator.unit.clone(),
            key_id: core.sign_key_id,
        })?;
    key.verify(Signed::Header, header, signature).map_err(|_| VerifyError::Signature)?;
    Ok(verified)
}

/// Everything but the signature.
fn parse_header(bytes: &Bytes, signature: &Bytes) -> Result<VerifiedHeader, VerifyError> {
    let header: schema::Header = canonical::decode(bytes, limits::HEADER_BYTES_MAX)?;
    let core = Core::parse(&header.core)?;
    let wrap_sha256 = digests("wrap_sha256", &header.wrap_sha256)?;
    count("key wrap", core.recipient_commit.len(), wrap_sha256.len())?;
    let length = header.body_length;
    if length > limits::BODY_BYTES_MAX as u64 || chunk::plain_length(length).is_none() {
        return Err(VerifyError::BodyLength { need: limits::BODY_BYTES_MAX as u64, have: length });
    }
    Ok(VerifiedHeader {
        core,
        context: sha256(&[&header.core]),
        digest: sha256(&[bytes]),
        wrap_sha256,
        body_root: fixed("body_root", &header.body_root)?,
        body_length: length,
        bytes: bytes.clone(),
        signature: signature.clone(),
    })
}

pub(crate) fn count(part: &'static str, commitments: usize, have: usize) -> Result<(), VerifyError> {
    if commitments == have { Ok(()) } else { Err(VerifyError::Count { part, commitments, have }) }
}

impl VerifiedHeader {
    /// The checked core.
    #[must_use]
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// `ctx`: SHA-256 of the core bytes.
    #[must_use]
    pub fn context(&self) -> &Digest {
        &self.context
    }

    /// SHA-256 of the header bytes: the packet's name in receipts and evidence.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The bytes that were signed.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The signature, 64 bytes.
    #[must_use]
    pub fn signature(&self) -> &Bytes {
        &self.signature
    }

    /// Body ciphertext length, bytes.
    #[must_use]
    pub fn body_length(&self) -> u64 {
        self.body_length
    }

    /// Checks that `opening` is recipient `index`'s.
    ///
    /// # Errors
    /// [`VerifyError::Digest`].
    pub fn check_opening(&self, index: usize, opening: &Opening) -> Result<(), VerifyError> {
        let fits = self.core.recipient_commit.get(index).is_some_and(|commitment| opens(opening, commitment));
        if fits { Ok(()) } else { Err(VerifyError::Digest(Part::Opening(index))) }
    }

    /// Checks that `wrap` is recipient `index`'s.
    ///
    /// # Errors
    /// [`VerifyError::Digest`].
    pub fn check_wrap(&self, index: usize, wrap: &[u8]) -> Result<(), VerifyError> {
        let expected = self.wrap_sha256.get(index);
        let fits = wrap.len() == WRAP_BYTES && expected.is_some_and(|digest| sha256(&[wrap]) == *digest);
        if fits { Ok(()) } else { Err(VerifyError::Digest(Part::Wrap(index))) }
    }

    /// Checks that `body` is the ciphertext that the header names.
    ///
    /// # Errors
    /// [`VerifyError::BodyLength`], [`VerifyError::Digest`].
    pub fn check_body(&self, body: &[u8]) -> Result<(), VerifyError> {
        let have = body.len() as u64;
        if have != self.body_length {
            return Err(VerifyError::BodyLength { need: self.body_length, have });
        }
        if segment_root(body) == self.body_root { Ok(()) } else { Err(VerifyError::Digest(Part::Body)) }
    }

    /// Checks everything that travels beside the header when a packet is submitted, and that no unit stands twice
    /// among the recipients.
    ///
    /// # Errors
    /// [`VerifyError::Count`], [`VerifyError::Digest`], [`VerifyError::BodyLength`], [`CoreError::Recipients`].
    pub fn check_parts(&self, openings: &[Opening], wraps: &[Bytes], body: &[u8]) -> Result<(), VerifyError> {
        let commitments = self.core.recipient_commit.len();
        count("opening", commitments, openings.len())?;
        count("key wrap", commitments, wraps.len())?;
        for (index, opening) in openings.iter().enumerate() {
            self.check_opening(index, opening)?;
        }
        check_audience(openings.iter())?;
        for (index, wrap) in wraps.iter().enumerate() {
            self.check_wrap(index, wrap)?;
        }
        self.check_body(body)
    }
}
