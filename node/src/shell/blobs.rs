//! Attachments on disk: sealed in constant memory, opened only into a folder that the officer names.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use lintas_config::settings::NodeSettings;
use lintas_proto::{
    envelope::blob::{BlobOpener, BlobSealer, blob_length},
    id::{PacketId, hex},
    limits,
    schema::{AttachmentKey, AttachmentRef},
};
use rand_core::CryptoRng;
use thiserror::Error;
use zeroize::Zeroizing;

use super::{
    failure::{Code, Failure},
    files::{self, PART, PartFile},
    folder::Folder,
    progress::Tell,
};
use crate::core::{draft::Attachments, text::one_line};

/// Bytes read at once.
const PIECE_BYTES: usize = 64 * 1024;
/// Longest file name that a body may carry, bytes.
const NAME_BYTES_MAX: usize = 255;
/// How long what arrives is left to go on, or to find its packet, milliseconds: 7 days.
const ARRIVING_MS_MAX: u64 = 7 * 24 * 60 * 60 * 1_000;
const MIB: u64 = 1 << 20;

/// Why there is no room for an attachment.
#[derive(Debug, Error)]
pub(crate) enum NoRoom {
    /// The disk.
    #[error(
        "{free} MiB of this machine's disk are left, and its operator keeps {min} MiB free (`free_mib_min` in \
         node.toml): make room"
    )]
    Disk {
        /// MiB left.
        free: u64,
        /// MiB kept free.
        min: u64,
    },
    /// The operator's limit.
    #[error(
        "attachments take {taken} MiB here, and this node's operator lets them take {max} MiB \
         (`attachments_mib_max` in node.toml): raise it, and start the node again"
    )]
    Quota {
        /// MiB taken.
        taken: u64,
        /// MiB allowed.
        max: u64,
    },
    /// The folder cannot be looked at.
    #[error("the folder of attachments cannot be looked at: {0}")]
    Io(#[from] io::Error),
}

/// How much room attachments may take, as `node.toml` says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    attachments_mib_max: u64,
    free_mib_min: u64,
}

impl Room {
    /// As the settings say.
    pub(crate) fn of(settings: &NodeSettings) -> Self {
        Self {
            attachments_mib_max: settings.attachments_mib_max.into(),
            free_mib_min: settings.free_mib_min.into(),
        }
    }

    /// Whether there is room for so many bytes more.
    pub(crate) fn check(&self, folder: &Folder, more: u64) -> Result<(), NoRoom> {
        let left = files::free_bytes(folder.root())?;
        if left.saturating_sub(more) < self.free_mib_min.saturating_mul(MIB) {
            return Err(NoRoom::Disk { free: left / MIB, min: self.free_mib_min });
        }
        let mut taken: u64 = 0;
        for name in ["blobs/in", "blobs/out"] {
            for entry in std::fs::read_dir(folder.path(name))? {
                // What goes away meanwhile takes nothing.
                taken = taken.saturating_add(entry?.metadata().map_or(0, |found| found.len()));
            }
        }
        if taken.saturating_add(more) > self.attachments_mib_max.saturating_mul(MIB) {
            return Err(NoRoom::Quota { taken: taken.div_ceil(MIB), max: self.attachments_mib_max });
        }
        Ok(())
    }
}

/// Sealed files that have no name yet. Dropped, they leave nothing.
#[derive(Debug, Default)]
pub(crate) struct SealedFiles(Vec<(PartFile, PathBuf)>);

/// Sealed files under their names, durable.
#[derive(Debug, Default)]
pub(crate) struct KeptFiles(Vec<PathBuf>);

impl SealedFiles {
    /// Gives them their names; all or none.
    pub(crate) fn keep(self, folder: &Folder) -> Result<KeptFiles, Failure> {
        let mut kept = KeptFiles::default();
        for (part, target) in self.0 {
            if let Err(error) = part.keep_as(&target) {
                kept.remove();
                return Err(Failure::file("keep the attachment in", folder.root(), &error));
            }
            kept.0.push(target);
        }
        Ok(kept)
    }
}

impl KeptFiles {
    /// Removes them: their packet was not kept.
    pub(crate) fn remove(&self) {
        for path in &self.0 {
            if let Err(error) = std::fs::remove_file(path) {
                tracing::warn!(%error, "a sealed attachment was not removed");
            }
        }
    }
}

/// Seals files as the attachments of a packet, and syncs them; they get their names just before the packet that
/// names them is kept.
pub(crate) fn seal_all(
    folder: &Folder,
    room: Room,
    packet_id: PacketId,
    files: &[PathBuf],
    entropy: &mut dyn CryptoRng,
    tell: Tell<'_>,
) -> Result<(Attachments, SealedFiles), Failure> {
    if files.len() > limits::ATTACHMENTS_MAX {
        let message = format!("{} attachments, at most {} are allowed", files.len(), limits::ATTACHMENTS_MAX);
        return Err(Failure::new(Code::Draft, message));
    }
    let mut lengths = Vec::with_capacity(files.len());
    let mut sealed_bytes: u64 = 0;
    for path in files {
        let length = length_of(path)?;
        sealed_bytes = sealed_bytes.saturating_add(blob_length(length).unwrap_or(u64::MAX));
        lengths.push(length);
    }
    if !files.is_empty() {
        room.check(folder, sealed_bytes).map_err(|error| {
            Failure::new(Code::Storage, format_args!("there is no room to seal the attachments: {error}"))
        })?;
    }
    let total = lengths.iter().copied().fold(0, u64::saturating_add);
    let (mut attachments, mut sealed, mut before) = (Attachments::new(), SealedFiles::default(), 0u64);
    for ((index, path), length) in (0..).zip(files).zip(lengths) {
        let told = |done: u64| tell(before.saturating_add(done), total);
        let (reference, key, part) = seal(folder, (packet_id, index), path, entropy, &told)?;
        let target = folder.blob_out(&hex(&reference.blob_id));
        attachments.push((reference, key));
        sealed.0.push((part, target));
        before = before.saturating_add(length);
    }
    Ok((attachments, sealed))
}

fn refused(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Code::Draft, format_args!("cannot attach `{}`: {error}", path.display()))
}

/// Length of a file that may be attached.
fn length_of(path: &Path) -> Result<u64, Failure> {
    // Looked at before it is opened: opening a pipe could wait forever.
    let found = std::fs::metadata(path).map_err(|error| refused(path, &error))?;
    if !found.is_file() {
        return Err(refused(path, &"it is not a file"));
    }
    if found.len() > limits::ATTACHMENT_BYTES_MAX {
        return Err(refused(
            path,
            &format_args!(
                "it has {} bytes, and an attachment may have {} (4 GiB); send it in parts",
                found.len(),
                limits::ATTACHMENT_BYTES_MAX
            ),
        ));
    }
    Ok(found.len())
}

fn seal(
    folder: &Folder,
    (packet_id, index): (PacketId, u32),
    path: &Path,
    entropy: &mut dyn CryptoRng,
    told: &dyn Fn(u64) -> bool,
) -> Result<(AttachmentRef, AttachmentKey, PartFile), Failure> {
    let refuse = |error: &dyn std::fmt::Display| refused(path, error);
    let store = |error: io::Error| Failure::file("keep the attachment in", folder.root(), &error);
    let mut file = File::open(path).map_err(|error| refuse(&error))?;
    let length = file.metadata().map_err(|error| refuse(&error))?.len();
    let mut sealed = Vec::with_capacity(2 * PIECE_BYTES);
    let mut sealer =
        BlobSealer::new(packet_id, index, length, entropy, &mut sealed).map_err(|error| refuse(&error))?;
    let mut out = PartFile::create(&folder.blob_out(&format!("{packet_id}-{index}"))).map_err(store)?;
    let mut piece = Zeroizing::new(vec![0; PIECE_BYTES]);
    let mut done: u64 = 0;
    loop {
        let count = file.read(&mut piece).map_err(|error| refuse(&error))?;
        if count == 0 {
            break;
        }
        let read = piece.get(..count).unwrap_or_default();
        sealer.update(read, &mut sealed).map_err(|error| refuse(&error))?;
        out.write(&sealed).map_err(store)?;
        sealed.clear();
        done = done.saturating_add(count as u64);
        if !told(done) {
            return Err(refuse(&"stopped; nothing was sealed"));
        }
    }
    let (reference, key) = sealer.finish(&mut sealed).map_err(|error| refuse(&error))?;
    out.write(&sealed).map_err(store)?;
    out.sync().map_err(store)?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let file_name = crate::core::text::shorten(&name, NAME_BYTES_MAX);
    Ok((reference, AttachmentKey { file_name, ..key }, out))
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
pub(crate) fn open(wanted: &Wanted<'_>, target: &Path, tell: Tell<'_>) -> Result<(), Failure> {
    let number = wanted.index + 1;
    let write = |error: io::Error| {
        if error.kind() != io::ErrorKind::AlreadyExists {
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
        return Err(write(io::ErrorKind::AlreadyExists.into()));
    }
    let mut out = PartFile::create(target).map_err(write)?;
    let mut done: u64 = 0;
    let (mut piece, mut plain) = (vec![0; PIECE_BYTES], Zeroizing::new(Vec::with_capacity(2 * PIECE_BYTES)));
    loop {
        let count = sealed.read(&mut piece).map_err(|error| damaged(&error))?;
        if count == 0 {
            break;
        }
        let read = piece.get(..count).unwrap_or_default();
        opener.update(read, &mut plain).map_err(|error| damaged(&error))?;
        out.write(&plain).map_err(write)?;
        done = done.saturating_add(plain.len() as u64);
        plain.clear();
        if !tell(done, wanted.key.length) {
            return Err(damaged(&"stopped; nothing was written"));
        }
    }
    opener.finish(&mut plain).map_err(|error| damaged(&error))?;
    out.write(&plain).map_err(write)?;
    out.keep().map_err(write)
}

/// Seals one attachment of ours again, for another packet, a piece at a time. Durable in `blobs/out` when this returns;
/// under its name only after all of it was checked. Stops when
/// `goes_on` says so.
pub(crate) fn seal_again(
    folder: &Folder,
    wanted: &Wanted<'_>,
    packet_id: PacketId,
    entropy: &mut dyn CryptoRng,
    goes_on: &dyn Fn() -> bool,
) -> Result<(AttachmentRef, AttachmentKey), Failure> {
    let number = wanted.index + 1;
    let damaged = |error: &dyn std::fmt::Display| {
        let message = format!(
            "the sealed copy of attachment {number} on this machine's disk is damaged or gone ({error}); check the disk, \
             and send what is in the packet again as a new one"
        );
        Failure::new(Code::NotFound, message)
    };
    let read = |error: io::Error| {
        if error.kind() == io::ErrorKind::NotFound {
            damaged(&error)
        } else {
            Failure::file("read", &wanted.sealed, &error)
        }
    };
    let store = |error: std::io::Error| Failure::file("keep the attachment in", folder.root(), &error);
    let mut file = File::open(&wanted.sealed).map_err(read)?;
    let mut opener = BlobOpener::new(wanted.packet_id, wanted.index, wanted.reference, wanted.key)
        .map_err(|error| damaged(&error))?;
    let mut sealed = Vec::with_capacity(2 * PIECE_BYTES);
    let mut sealer = BlobSealer::new(packet_id, wanted.index, wanted.key.length, entropy, &mut sealed)
        .map_err(|error| damaged(&error))?;
    let mut out =
        PartFile::create(&folder.blob_out(&format!("{packet_id}-{}", wanted.index))).map_err(store)?;
    let (mut piece, mut plain) = (vec![0; PIECE_BYTES], Zeroizing::new(Vec::with_capacity(2 * PIECE_BYTES)));
    loop {
        let count = file.read(&mut piece).map_err(read)?;
        if count == 0 {
            break;
        }
        let piece = piece.get(..count).unwrap_or_default();
        opener.update(piece, &mut plain).map_err(|error| damaged(&error))?;
        sealer.update(&plain, &mut sealed).map_err(|error| damaged(&error))?;
        plain.clear();
        out.write(&sealed).map_err(store)?;
        sealed.clear();
        if !goes_on() {
            return Err(Failure::new(Code::Storage, "stopped, because the node is locked or ends"));
        }
    }
    opener.finish(&mut plain).map_err(|error| damaged(&error))?;
    sealer.update(&plain, &mut sealed).map_err(|error| damaged(&error))?;
    let (reference, key) = sealer.finish(&mut sealed).map_err(|error| damaged(&error))?;
    out.write(&sealed).map_err(store)?;
    out.keep_as(&folder.blob_out(&hex(&reference.blob_id))).map_err(store)?;
    let (length, sha256) = (key.length, key.sha256);
    Ok((reference, AttachmentKey { key: key.key, length, sha256, ..wanted.key.clone() }))
}

/// Removes files that are not whole, which an interrupted process left, and counts whole ones that no kept packet
/// names: those stay, for the journal may be the one that is missing. With `arriving_at_ms`, the time now, both have
/// [`ARRIVING_MS_MAX`] first: their packets are still with the broker. Only for whoever holds the lock of the folder.
pub(crate) fn sweep(
    folder: &Path,
    named: &BTreeSet<String>,
    arriving_at_ms: Option<u64>,
) -> io::Result<usize> {
    let mut unnamed = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let found = entry.metadata()?;
        if !found.is_file() || named.contains(&name) {
            continue;
        }
        let since = found.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let since_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let waits = arriving_at_ms.is_some_and(|now_ms| now_ms.saturating_sub(since_ms) < ARRIVING_MS_MAX);
        if name.ends_with(PART) {
            let blob = name.strip_suffix(PART).unwrap_or_default();
            if !waits || named.contains(blob) || blob.starts_with('.') {
                tracing::info!(name = one_line(&name), "removing an attachment that is not whole");
                std::fs::remove_file(entry.path())?;
            }
        } else if !waits {
            unnamed += 1;
        }
    }
    Ok(unnamed)
}
