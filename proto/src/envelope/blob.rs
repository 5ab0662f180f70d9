//! Attachments: each is a ciphertext blob of its own, sealed and opened in constant memory.
//!
//! Plaintext is the file followed by zeros up to its Padmé length; ciphertext is Cobblestone-256 under context
//! "lintas/v1/blob" 00 packet_id ‖ index (u32 big-endian). The key is random and stands in the sealed body.

use std::fmt;

use bytes::Bytes;
use rand_core::CryptoRng;
use ring::digest::{Context, SHA256};
use thiserror::Error;
use zeroize::Zeroizing;

use super::{
    chunk::{
        self, CHUNK_BYTES, ChunkError, ContentKey, HEAD_BYTES, Opener, SALT_BYTES, SEALED_CHUNK_BYTES,
        Sealer, fresh,
    },
    pad::padme,
    segment::{SegmentRoot, blob_id},
};
use crate::{
    id::{PacketId, finish},
    limits,
    schema::{AttachmentKey, AttachmentRef},
};

/// Ciphertext length of a file of `plain` bytes; `None` beyond [`limits::BLOB_BYTES_MAX`].
#[must_use]
pub fn blob_length(plain: u64) -> Option<u64> {
    chunk::sealed_length(padme(plain)).filter(|length| *length <= limits::BLOB_BYTES_MAX)
}

/// Why an attachment was not sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BlobError {
    /// Beyond [`limits::BLOB_BYTES_MAX`].
    #[error("attachment of {0} bytes would be larger than 5 GiB when it is encrypted")]
    TooLarge(u64),
    /// The file was longer or shorter than announced: it changed while it was read.
    #[error("the file changed while it was read: {need} bytes were announced, {have} came")]
    Length {
        /// Bytes announced.
        need: u64,
        /// Bytes given.
        have: u64,
    },
    /// Wrong key or changed bytes.
    #[error("attachment {0}")]
    Open(#[from] ChunkError),
    /// The ciphertext is not the one that the core names.
    #[error("attachment is not the one that the packet names")]
    Root,
    /// The plaintext is not the one that the body names, or its padding is not zeros.
    #[error("attachment was opened but is not the file that the body names")]
    Content,
}

fn context(packet_id: PacketId, index: u32) -> Vec<u8> {
    [b"lintas/v1/blob\0".as_slice(), packet_id.as_bytes(), &index.to_be_bytes()].concat()
}

/// Seals one attachment.
pub struct BlobSealer {
    key: ContentKey,
    sealer: Sealer,
    root: SegmentRoot,
    content: Hasher,
    /// Plaintext not yet in a chunk, always shorter than one.
    pending: Zeroizing<Vec<u8>>,
    length: u64,
}

impl fmt::Debug for BlobSealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobSealer {{ length: {}, .. }}", self.length)
    }
}

/// SHA-256 with a count.
struct Hasher {
    context: Context,
    length: u64,
}

impl Hasher {
    fn new() -> Self {
        Self { context: Context::new(&SHA256), length: 0 }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
        self.length += bytes.len() as u64;
    }
}

impl BlobSealer {
    /// Starts attachment `index` of a packet; the file has `length` bytes. Writes the head of the ciphertext to `out`.
    ///
    /// # Errors
    /// [`BlobError::TooLarge`].
    pub fn new(
        packet_id: PacketId,
        index: u32,
        length: u64,
        entropy: &mut dyn CryptoRng,
        out: &mut Vec<u8>,
    ) -> Result<Self, BlobError> {
        blob_length(length).ok_or(BlobError::TooLarge(length))?;
        let key: ContentKey = fresh(entropy);
        let salt = fresh::<SALT_BYTES>(entropy);
        let start = out.len();
        let sealer = Sealer::new(&key, &salt, &context(packet_id, index), out)?;
        let mut root = SegmentRoot::default();
        root.update(out.get(start..).unwrap_or_default());
        Ok(Self {
            key,
            sealer,
            root,
            content: Hasher::new(),
            pending: Zeroizing::new(Vec::with_capacity(CHUNK_BYTES)),
            length,
        })
    }

    /// Takes the next bytes of the file; appends ciphertext to `out`.
    ///
    /// # Errors
    /// [`BlobError::Length`] when the file is longer than announced.
    pub fn update(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), BlobError> {
        self.content.update(plain);
        if self.content.length > self.length {
            return Err(BlobError::Length { need: self.length, have: self.content.length });
        }
        self.push(plain, out)
    }

    /// Ends the file: pads, seals the last chunk, and says what core and body must name.
    ///
    /// # Errors
    /// [`BlobError::Length`] when the file is shorter than announced.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(AttachmentRef, AttachmentKey), BlobError> {
        if self.content.length != self.length {
            return Err(BlobError::Length { need: self.length, have: self.content.length });
        }
        let zeros = [0; CHUNK_BYTES];
        let mut padding = padme(self.length) - self.length;
        while padding > 0 {
            let piece = usize::try_from(padding).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            self.push(zeros.get(..piece).unwrap_or_default(), out)?;
            padding -= piece as u64;
        }
        let start = out.len();
        self.sealer.finish(&self.pending, out)?;
        self.root.update(out.get(start..).unwrap_or_default());
        let (root, length) = self.root.finish();
        let reference = AttachmentRef {
            blob_id: Bytes::copy_from_slice(&blob_id(&root, length)),
            length,
            root: Bytes::copy_from_slice(&root),
        };
        let key = AttachmentKey {
            key: Bytes::copy_from_slice(self.key.as_slice()),
            length: self.length,
            sha256: Bytes::copy_from_slice(&finish(self.content.context)),
            ..AttachmentKey::default()
        };
        Ok((reference, key))
    }

    fn push(&mut self, mut plain: &[u8], out: &mut Vec<u8>) -> Result<(), BlobError> {
        let start = out.len();
        while !plain.is_empty() {
            let (now, later) = plain.split_at(plain.len().min(CHUNK_BYTES - self.pending.len()));
            self.pending.extend_from_slice(now);
            if let Some(chunk) = self.pending.first_chunk::<CHUNK_BYTES>() {
                self.sealer.chunk(chunk, out)?;
                self.pending.clear();
            }
            plain = later;
        }
        self.root.update(out.get(start..).unwrap_or_default());
        Ok(())
    }
}

/// Opens one attachment. What it gives must not be shown or used before [`finish`](Self::finish) returned.
pub struct BlobOpener {
    key: ContentKey,
    context: Vec<u8>,
    opener: Option<Opener>,
    root: SegmentRoot,
    content: Hasher,
    pending: Vec<u8>,
    plain: Zeroizing<Vec<u8>>,
    reference: AttachmentRef,
    length: u64,
    sha256: Bytes,
}

impl fmt::Debug for BlobOpener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobOpener {{ length: {}, .. }}", self.length)
    }
}

impl BlobOpener {
    /// Starts attachment `index` of a packet, as core and body name it.
    ///
    /// # Errors
    /// [`BlobError::Content`] when core and body do not fit each other.
    pub fn new(
        packet_id: PacketId,
        index: u32,
        reference: &AttachmentRef,
        attachment: &AttachmentKey,
    ) -> Result<Self, BlobError> {
        let key: [u8; 32] = attachment.key.as_ref().try_into().map_err(|_| BlobError::Content)?;
        if blob_length(attachment.length) != Some(reference.length) {
            return Err(BlobError::Content);
        }
        Ok(Self {
            key: ContentKey::new(key),
            context: context(packet_id, index),
            opener: None,
            root: SegmentRoot::default(),
            content: Hasher::new(),
            pending: Vec::with_capacity(SEALED_CHUNK_BYTES),
            plain: Zeroizing::new(Vec::with_capacity(SEALED_CHUNK_BYTES)),
            reference: reference.clone(),
            length: attachment.length,
            sha256: attachment.sha256.clone(),
        })
    }

    /// Takes the next bytes of the ciphertext; appends plaintext to `out`.
    ///
    /// # Errors
    /// [`BlobError::Open`].
    pub fn update(&mut self, mut sealed: &[u8], out: &mut Vec<u8>) -> Result<(), BlobError> {
        self.root.update(sealed);
        while !sealed.is_empty() {
            let full = if self.opener.is_some() { SEALED_CHUNK_BYTES } else { HEAD_BYTES };
            let (now, later) = sealed.split_at(sealed.len().min(full - self.pending.len()));
            self.pending.extend_from_slice(now);
            sealed = later;
            if self.pending.len() < full {
                return Ok(());
            }
            match (&mut self.opener, self.pending.first_chunk(), self.pending.first_chunk()) {
                (Some(opener), Some(chunk), _) => opener.chunk(chunk, &mut self.plain)?,
                (None, _, Some(head)) => self.opener = Some(Opener::new(&self.key, &self.context, head)?),
                _ => return Err(ChunkError::CannotOpen.into()),
            }
            self.pending.clear();
            self.release(out)?;
        }
        Ok(())
    }

    /// Ends the ciphertext: the last chunk, its root, and the file's digest.
    ///
    /// # Errors
    /// [`BlobError`].
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), BlobError> {
        let opener = self.opener.take().ok_or(ChunkError::CannotOpen)?;
        opener.finish(&self.pending, &mut self.plain)?;
        self.release(out)?;
        let (root, length) = self.root.finish();
        if root != *self.reference.root || length != self.reference.length {
            return Err(BlobError::Root);
        }
        let whole = self.content.length == self.length && finish(self.content.context) == *self.sha256;
        if whole { Ok(()) } else { Err(BlobError::Content) }
    }

    /// Moves decrypted bytes to `out`, but for the padding, which must be zeros.
    fn release(&mut self, out: &mut Vec<u8>) -> Result<(), BlobError> {
        let room = usize::try_from(self.length - self.content.length).unwrap_or(usize::MAX);
        let (file, padding) = self.plain.split_at(self.plain.len().min(room));
        if padding.iter().any(|byte| *byte != 0) {
            return Err(BlobError::Content);
        }
        self.content.update(file);
        out.extend_from_slice(file);
        self.plain.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::TestEntropy;

    fn seal(packet: PacketId, file: &[u8], piece: usize) -> (Vec<u8>, AttachmentRef, AttachmentKey) {
        let mut out = Vec::new();
        let mut sealer =
            BlobSealer::new(packet, 3, file.len() as u64, &mut TestEntropy::new(5), &mut out).unwrap();
        file.chunks(piece).for_each(|piece| sealer.update(piece, &mut out).unwrap());
        let (reference, key) = sealer.finish(&mut out).unwrap();
        (out, reference, key)
    }

    fn open(
        packet: PacketId,
        index: u32,
        sealed: &[u8],
        reference: &AttachmentRef,
        key: &AttachmentKey,
        piece: usize,
    ) -> Result<Vec<u8>, BlobError> {
        let mut out = Vec::new();
        let mut opener = BlobOpener::new(packet, index, reference, key)?;
        for piece in sealed.chunks(piece) {
            opener.update(piece, &mut out)?;
        }
        opener.finish(&mut out).map(|()| out)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn a_file_comes_back_and_a_changed_one_does_not(
            length in 0usize..100_000, a in 1usize..40_000, b in 1usize..40_000, flip in any::<prop::sample::Index>(),
        ) {
            let packet = PacketId::new(1, &mut TestEntropy::new(9));
            let file: Vec<u8> = (0..=252).cycle().take(length).collect();
            let (sealed, reference, key) = seal(packet, &file, a);
            prop_assert_eq!(Some(sealed.len() as u64), blob_length(length as u64));
            prop_assert_eq!(&open(packet, 3, &sealed, &reference, &key, b).unwrap(), &file);
            prop_assert!(open(packet, 4, &sealed, &reference, &key, b).is_err(), "index");
            let mut changed = sealed.clone();
            changed[flip.index(sealed.len())] ^= 0x10;
            prop_assert!(open(packet, 3, &changed, &reference, &key, b).is_err(), "flip");
            prop_assert!(open(packet, 3, &sealed[..sealed.len() - 1], &reference, &key, b).is_err(), "cut");
            let mut longer = sealed.clone();
            longer.push(0);
            prop_assert!(open(packet, 3, &longer, &reference, &key, b).is_err(), "longer");
        }
    }

    #[test]
    fn neither_key_nor_plaintext_is_printed() {
        let packet = PacketId::new(1, &mut TestEntropy::new(9));
        let (sealed, reference, key) = seal(packet, &[0xab; 100], 100);
        let mut out = Vec::new();
        let mut sealer = BlobSealer::new(packet, 3, 100, &mut TestEntropy::new(5), &mut out).unwrap();
        sealer.update(&[0xab; 100], &mut out).unwrap();
        assert_eq!(format!("{sealer:?}"), "BlobSealer { length: 100, .. }");
        let mut opener = BlobOpener::new(packet, 3, &reference, &key).unwrap();
        opener.update(&sealed, &mut out).unwrap();
        assert_eq!(format!("{opener:?}"), "BlobOpener { length: 100, .. }");
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_refused() {
        let packet = PacketId::new(1, &mut TestEntropy::new(9));
        let mut out = Vec::new();
        let mut sealer = BlobSealer::new(packet, 0, 10, &mut TestEntropy::new(1), &mut out).unwrap();
        assert_eq!(sealer.update(&[0; 11], &mut out), Err(BlobError::Length { need: 10, have: 11 }));
        let sealer = BlobSealer::new(packet, 0, 10, &mut TestEntropy::new(1), &mut out).unwrap();
        assert_eq!(sealer.finish(&mut out).unwrap_err(), BlobError::Length { need: 10, have: 0 });
    }
}
