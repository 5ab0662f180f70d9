//! Sealing: from a draft to the bytes that are submitted.

use std::fmt;

use bytes::Bytes;
use rand_core::CryptoRng;
use thiserror::Error;
use zeroize::Zeroizing;

use super::{
    body::{self, BodyError},
    chunk::{self, ChunkError, ContentKey, SALT_BYTES, fresh},
    core::{Core, CoreError, check_audience, recipient_commitment},
    pad::{PadError, pad},
    segment::segment_root,
    wrap::{EncryptionKey, WrapError, Wrapped, wrap},
};
use crate::{
    canonical,
    id::{Digest, sha256},
    limits,
    schema::{self, Body, Opening, Submission, UnitRef},
    sign::{Signed, SigningKey},
};

/// One recipient of a draft.
#[derive(Debug, Clone)]
pub struct Recipient {
    /// Unit that is to read the packet.
    pub unit: UnitRef,
    /// Its encryption key, from the directory.
    pub key: EncryptionKey,
    /// Header digest of the sender's last packet to this recipient whose receipt said released; zero for the first.
    pub previous: Digest,
    /// The sender chose the unit itself, not an agency or a group that it stands for.
    pub named: bool,
}

/// What is to be sealed.
#[derive(Debug)]
pub struct Draft {
    /// The core; its `recipient_commit` and `sign_key_id` are filled in by [`seal`].
    pub core: Core,
    /// The body. Its `audience` is filled in when [`visible_audience`](Self::visible_audience) is set.
    pub body: Body,
    /// Recipients in the order in which they are committed.
    pub recipients: Vec<Recipient>,
    /// Whether each recipient may see who the others are.
    pub visible_audience: bool,
}

/// A sealed packet.
pub struct Sealed {
    /// What is submitted to the broker.
    pub submission: Submission,
    /// SHA-256 of the header bytes.
    pub digest: Digest,
    /// The content key, for the sender's own record. Keep it encrypted.
    pub content_key: ContentKey,
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed {{ digest: {}, .. }}", crate::id::hex(&self.digest))
    }
}

/// Why a draft was not sealed. The caller is at fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SealError {
    /// The core breaks a rule.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// The body breaks a rule.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The body is too long.
    #[error(transparent)]
    Pad(#[from] PadError),
    /// A recipient's key cannot be used.
    #[error("recipient {agency} / {unit}: {error}")]
    Recipient {
        /// Agency.
        agency: String,
        /// Unit.
        unit: String,
        /// What is wrong.
        error: WrapError,
    },
    /// A chunk was not encrypted.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// The header is beyond [`limits::HEADER_BYTES_MAX`].
    #[error(
        "header of {have} bytes, at most {} are allowed; send to fewer recipients",
        limits::HEADER_BYTES_MAX
    )]
    HeaderTooLarge {
        /// Bytes it would have.
        have: usize,
    },
}

/// Context of the body's encryption: "lintas/v1/body" 00 ctx.
#[must_use]
pub fn body_context(context: &Digest) -> Vec<u8> {
    [b"lintas/v1/body\0".as_slice(), context].concat()
}

/// `info` of a key wrap: "lintas/v1/wrap" 00 ctx enc_key_id.
#[must_use]
pub fn wrap_info(context: &Digest, enc_key_id: &[u8]) -> Vec<u8> {
    [b"lintas/v1/wrap\0".as_slice(), context, enc_key_id].concat()
}

/// Seals a draft: commits to the recipients, encrypts the body once, wraps its key for each recipient, signs.
///
/// Randomness is drawn in this order: a salt of 16 bytes for each recipient, content key (32), body salt (24),
/// then 64 bytes for each wrap.
///
/// # Errors
/// [`SealError`].
pub fn seal(draft: Draft, signer: &SigningKey, entropy: &mut dyn CryptoRng) -> Result<Sealed, SealError> {
    let Draft { mut core, mut body, recipients, visible_audience } = draft;
    let openings = openings(&recipients, entropy);
    check_audience(openings.iter())?;
    core.sign_key_id = *signer.id();
    core.recipient_commit = openings.iter().map(recipient_commitment).collect();
    if visible_audience {
        body.audience.clone_from(&openings);
    }
    body::check(&body, &core)?;
    let core_bytes = core.to_bytes()?;
    let context = sha256(&[&core_bytes]);

    let content_key: ContentKey = fresh(entropy);
    let salt: Zeroizing<[u8; SALT_BYTES]> = fresh(entropy);
    let plain = pad(&Zeroizing::new(prost::Message::encode_to_vec(&body)))?;
    let sealed_body = Bytes::from(chunk::seal(&content_key, &salt, &body_context(&context), &plain)?);
    let wraps = wraps(&recipients, &context, &content_key, entropy)?;

    let header = canonical::encode(&schema::Header {
        core: core_bytes,
        wrap_sha256: wraps.iter().map(|wrap| Bytes::copy_from_slice(&sha256(&[wrap]))).collect(),
        body_root: Bytes::copy_from_slice(&segment_root(&sealed_body)),
        body_length: sealed_body.len() as u64,
    });
    if header.len() > limits::HEADER_BYTES_MAX {
        return Err(SealError::HeaderTooLarge { have: header.len() });
    }
    let signature = Bytes::copy_from_slice(&signer.sign(Signed::Header, &header));
    let digest = sha256(&[&header]);
    let submission = Submission { header, signature, openings, wraps, body: sealed_body };
    Ok(Sealed { submission, digest, content_key })
}

fn openings(recipients: &[Recipient], entropy: &mut dyn CryptoRng) -> Vec<Opening> {
    let opening = |recipient: &Recipient| Opening {
        salt: Bytes::copy_from_slice(fresh::<16>(entropy).as_slice()),
        agency: recipient.unit.agency.clone(),
        unit: recipient.unit.unit.clone(),
        enc_key_id: Bytes::copy_from_slice(recipient.key.id()),
        named: recipient.named,
    };
    recipients.iter().map(opening).collect()
}

fn wraps(
    recipients: &[Recipient],
    context: &Digest,
    content_key: &ContentKey,
    entropy: &mut dyn CryptoRng,
) -> Result<Vec<Bytes>, SealError> {
    let mut wraps = Vec::with_capacity(recipients.len());
    for Recipient { unit, key, previous, .. } in recipients {
        let wrapped = Wrapped { content_key: content_key.clone(), previous: *previous };
        let sealed = wrap(key, &wrap_info(context, key.id()), &wrapped, entropy);
        let refused =
            |error| SealError::Recipient { agency: unit.agency.clone(), unit: unit.unit.clone(), error };
        wraps.push(Bytes::from(sealed.map_err(refused)?));
    }
    Ok(wraps)
}
