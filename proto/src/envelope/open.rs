//! Opening: verify everything again, then decrypt.

use std::fmt;

use bytes::Bytes;
use thiserror::Error;

use super::{
    body::{self, BodyError},
    chunk::{self, ChunkError, ContentKey},
    pad::{PadError, unpad},
    seal::{body_context, wrap_info},
    verify::{VerifiedHeader, VerifyError},
    wrap::{DecryptionKey, WrapError, unwrap},
};
use crate::{
    canonical::{self, DecodeError},
    id::Digest,
    limits,
    schema::{Body, Opening},
};

/// What one recipient was given beside the header.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// Which commitment and wrap is the recipient's, 0-based.
    pub index: usize,
    /// Opens that commitment.
    pub opening: &'a Opening,
    /// The recipient's key wrap.
    pub wrap: &'a [u8],
    /// Body ciphertext.
    pub body: &'a [u8],
}

/// An opened packet.
pub struct Opened {
    /// The body, checked.
    pub body: Body,
    /// The content key, for the recipient's own record. Keep it encrypted; the wrap itself is not kept.
    pub content_key: ContentKey,
    /// The sender's last packet to this recipient; zero for the first. One that was never seen was lost or held back.
    pub previous: Digest,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opened { .. }")
    }
}

/// Why a packet was not opened.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OpenError {
    /// A part is not the one that was signed.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The opening names another encryption key than the one given.
    #[error("the packet was sealed for another key of this unit")]
    OtherKey,
    /// Wrong key or changed bytes: one error for everything that secrets are involved in.
    #[error("cannot be opened: wrong key, or the bytes were changed")]
    CannotOpen,
    /// The sender signed a body that breaks a rule.
    #[error("the body was opened, but {0}")]
    Body(#[from] BodyError),
    /// The sender signed a body that is not canonical.
    #[error("the body was opened, but {0}")]
    Decode(#[from] DecodeError),
    /// The sender signed a body that is not padded as the format says.
    #[error("the body was opened, but {0}")]
    Pad(#[from] PadError),
}

impl From<ChunkError> for OpenError {
    fn from(_: ChunkError) -> Self {
        Self::CannotOpen
    }
}

impl From<WrapError> for OpenError {
    fn from(_: WrapError) -> Self {
        Self::CannotOpen
    }
}

/// Opens a packet with a unit's secret key.
///
/// # Errors
/// [`OpenError`].
pub fn open(header: &VerifiedHeader, parts: Parts<'_>, secret: &DecryptionKey) -> Result<Opened, OpenError> {
    header.check_opening(parts.index, parts.opening)?;
    header.check_wrap(parts.index, parts.wrap)?;
    if parts.opening.enc_key_id != secret.public().id().as_slice() {
        return Err(OpenError::OtherKey);
    }
    header.check_body(parts.body)?;
    let wrapped = unwrap(secret, &wrap_info(header.context(), secret.public().id()), parts.wrap)?;
    let body = decrypt(header, &wrapped.content_key, parts.body)?;
    Ok(Opened { body, content_key: wrapped.content_key, previous: wrapped.previous })
}

/// Opens a packet again with its content key, as kept by a recipient or by the sender.
///
/// # Errors
/// [`OpenError`].
pub fn reopen(header: &VerifiedHeader, content_key: &ContentKey, body: &[u8]) -> Result<Body, OpenError> {
    header.check_body(body)?;
    decrypt(header, content_key, body)
}

pub(crate) fn decrypt(
    header: &VerifiedHeader,
    content_key: &ContentKey,
    body: &[u8],
) -> Result<Body, OpenError> {
    let plain = chunk::open(content_key, &body_context(header.context()), body)?;
    // The byte fields of the body share this buffer; it is zeroized when the last of them is gone.
    let plain = Bytes::from_owner(plain);
    let body: Body = canonical::decode(&plain.slice_ref(unpad(&plain)?), limits::BODY_PLAIN_BYTES_MAX)?;
    body::check(&body, header.core())?;
    Ok(body)
}
