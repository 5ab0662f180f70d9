//! Attachments on disk: sealed in constant memory, opened only into a folder that the officer names.

use std::{
    collections::BTreeSet,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use lintas_proto::{
    envelope::blob::{BlobOpener, BlobSealer},
    id::{PacketId, hex},
    limits,
    schema::{AttachmentKey, AttachmentRef},
};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::{
    failure::{Code, Failure},
    files::{PART, PartFile},
    folder::Folder,
};
use crate::core::{draft::Attachments, text::one_line};

/// Bytes read at once.
const PIECE_BYTES: usize = 64 * 1024;
/// Longest file that is attached while transfers do not resume, bytes. Padded it stays below
/// [`lintas_proto::limits::TRANSFER_BYTES_MAX`].
const ATTACHMENT_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Longest file name that a body may carry, bytes.
const NAME_BYTES_MAX: usize = 255;

/// Seals files as the attachments of a packet: each durable in `blobs/out` when this returns. The packet that
/// names them is kept only afterwards.
pub(crate) fn seal_all(
    folder: &Folder,
    packet_id: PacketId,
    files: &[PathBuf],
    entropy: &mut dyn CryptoRng,
) -> Result<Attachments, Failure> {
    if files.len() > limits::ATTACHMENTS_MAX {
        let message = format!("{} attachments, at most {} are allowed", files.len(), limits::ATTACHMENTS_MAX);
        return Err(Failure::new(Code::Draft, message));
    }
    (0..).zip(files).map(|(index, path)| seal(folder, packet_id, index, path, entropy)).collect()
}

fn seal(
    folder: &Folder,
    packet_id: PacketId,
    index: u32,
    path: &Path,
    entropy: &mut dyn CryptoRng,
) -> Result<(AttachmentRef, AttachmentKey), Failure> {
    let refuse = |error: &dyn std::fmt::Display| {
        Failure::new(Code::Draft, format_args!("cannot attach `{}`: {error}", path.display()))
    };
    let store = |error: std::io::Error| Failure::file("keep the attachment in", folder.root(), &error);
    // Looked at before it is opened: opening a pipe could wait forever.
    if !std::fs::metadata(path).map_err(|error| refuse(&error))?.is_file() {
        return Err(refuse(&"it is not a file"));
    }
    let mut file = File::open(path).map_err(|error| refuse(&error))?;
    let found = file.metadata().map_err(|error| refuse(&error))?;
    if found.len() > ATTACHMENT_BYTES_MAX {
        return Err(refuse(&"it is larger than 16 MiB; send it in parts"));
    }
    let mut sealed = Vec::with_capacity(2 * PIECE_BYTES);
    let mut sealer = BlobSealer::new(packet_id, index, found.len(), entropy, &mut sealed)
        .map_err(|error| refuse(&error))?;
    let mut out = PartFile::create(&folder.blob_out(&format!("{packet_id}-{index}"))).map_err(store)?;
    let mut piece = Zeroizing::new(vec![0; PIECE_BYTES]);
    loop {
        let count = file.read(&mut piece).map_err(|error| refuse(&error))?;
        if count == 0 {
            break;
        }
        let read = piece.get(..count).unwrap_or_default();
        sealer.update(read, &mut sealed).map_err(|error| refuse(&error))?;
        out.write(&sealed).map_err(store)?;
        sealed.clear();
    }
    let (reference, key) = finish(sealer, &mut out, sealed, folder).map_err(|error| refuse(&error))?;
    out.keep_as(&folder.blob_out(&hex(&reference.blob_id))).map_err(store)?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let file_name = crate::core::text::shorten(&name, NAME_BYTES_MAX);
    Ok((reference, AttachmentKey { file_name, ..key }))
}

fn finish(
    sealer: BlobSealer,
    out: &mut PartFile,
    mut sealed: Vec<u8>,
    folder: &Folder,
) -> Result<(AttachmentRef, AttachmentKey), Failure> {
    let ended = sealer.finish(&mut sealed).map_err(|error| Failure::new(Code::Draft, error))?;
    out.write(&sealed).map_err(|error| Failure::file("keep the attachment in", folder.root(), &error))?;
    Ok(ended)
}

/// One attachment to be opened.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    /// Its packet.
    pub(crate) packet_id: PacketId,
    /// 0-based.
    pub(crate) index: u32,
    /// What the core names.
    pub(crate) reference: &'a AttachmentRef,
    /// What opens it.
    pub(crate) key: &'a AttachmentKey,
    /// The sealed file.
    pub(crate) sealed: PathBuf,
}

/// Opens one attachment into `target`, which gets its name only after everything was checked. The name that
/// the sender gave is never used.
pub(crate) fn open(wanted: &Wanted<'_>, target: &Path) -> Result<(), Failure> {
    let number = wanted.index + 1;
    let write = |error: std::io::Error| {
        if error.kind() != std::io::ErrorKind::AlreadyExists {
            return Failure::file("write", target, &error);
        }
        let there = target.display();
        let message = format!("`{there}` is already there and is not overwritten; name an empty folder");
        Failure::new(Code::Storage, message)
    };
    let damaged = |error: &dyn std::fmt::Display| {
        Failure::new(Code::Storage, format_args!("attachment {number} does not open: {error}"))
    };
    let mut sealed = File::open(&wanted.sealed).map_err(|error| damaged(&error))?;
    let mut opener = BlobOpener::new(wanted.packet_id, wanted.index, wanted.reference, wanted.key)
        .map_err(|error| damaged(&error))?;
    if target.exists() {
        return Err(write(std::io::ErrorKind::AlreadyExists.into()));
    }
    let mut out = PartFile::create(target).map_err(write)?;
    let (mut piece, mut plain) = (vec![0; PIECE_BYTES], Zeroizing::new(Vec::with_capacity(2 * PIECE_BYTES)));
    loop {
        let count = sealed.read(&mut piece).map_err(|error| damaged(&error))?;
        if count == 0 {
            break;
        }
        let read = piece.get(..count).unwrap_or_default();
        opener.update(read, &mut plain).map_err(|error| damaged(&error))?;
        out.write(&plain).map_err(write)?;
        plain.clear();
    }
    opener.finish(&mut plain).map_err(|error| damaged(&error))?;
    out.write(&plain).map_err(write)?;
    out.keep().map_err(write)
}

/// Seals one attachment of ours again, for another packet, a piece at a time. Durable in `blobs/out` when this returns;
/// under its name only after all of it was checked.
pub(crate) fn seal_again(
    folder: &Folder,
    wanted: &Wanted<'_>,
    packet_id: PacketId,
    entropy: &mut dyn CryptoRng,
) -> Result<(AttachmentRef, AttachmentKey), Failure> {
    let number = wanted.index + 1;
    let damaged = |error: &dyn std::fmt::Display| {
        Failure::new(Code::Storage, format_args!("attachment {number} does not open: {error}"))
    };
    let store = |error: std::io::Error| Failure::file("keep the attachment in", folder.root(), &error);
    let mut file = File::open(&wanted.sealed).map_err(|error| damaged(&error))?;
    let mut opener = BlobOpener::new(wanted.packet_id, wanted.index, wanted.reference, wanted.key)
        .map_err(|error| damaged(&error))?;
    let mut sealed = Vec::with_capacity(2 * PIECE_BYTES);
    let mut sealer = BlobSealer::new(packet_id, wanted.index, wanted.key.length, entropy, &mut sealed)
        .map_err(|error| damaged(&error))?;
    let mut out =
        PartFile::create(&folder.blob_out(&format!("{packet_id}-{}", wanted.index))).map_err(store)?;
    let (mut piece, mut plain) = (vec![0; PIECE_BYTES], Zeroizing::new(Vec::with_capacity(2 * PIECE_BYTES)));
    loop {
        let count = file.read(&mut piece).map_err(|error| damaged(&error))?;
        if count == 0 {
            break;
        }
        let read = piece.get(..count).unwrap_or_default();
        opener.update(read, &mut plain).map_err(|error| damaged(&error))?;
        sealer.update(&plain, &mut sealed).map_err(|error| damaged(&error))?;
        plain.clear();
        out.write(&sealed).map_err(store)?;
        sealed.clear();
    }
    opener.finish(&mut plain).map_err(|error| damaged(&error))?;
    sealer.update(&plain, &mut sealed).map_err(|error| damaged(&error))?;
    let (reference, key) = finish(sealer, &mut out, sealed, folder)?;
    out.keep_as(&folder.blob_out(&hex(&reference.blob_id))).map_err(store)?;
    let (length, sha256) = (key.length, key.sha256);
    Ok((reference, AttachmentKey { key: key.key, length, sha256, ..wanted.key.clone() }))
}

/// Removes files that are not whole, which an interrupted process left, and counts whole ones that no kept packet
/// names: those stay, for the journal may be the one that is missing. Only for whoever holds the lock of the folder.
pub(crate) fn sweep(folder: &Path, named: &BTreeSet<String>) -> std::io::Result<usize> {
    let mut unnamed = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !entry.file_type()?.is_file() || named.contains(&name) {
            continue;
        }
        if name.ends_with(PART) {
            tracing::info!(name = one_line(&name), "removing an attachment that is not whole");
            std::fs::remove_file(entry.path())?;
        } else {
            unnamed += 1;
        }
    }
    Ok(unnamed)
}
