//! Attachments: ciphertext files by blob id, in one folder per uploading agency. The broker has no key for
//! them; it checks each against its Merkle root before the name becomes durable.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::UNIX_EPOCH,
};

use lintas_proto::{
    envelope::segment::{SegmentRoot, blob_id},
    id::{Digest, check_code, hex, unhex},
};
use thiserror::Error;

use super::{
    folder::{make_folder, sync_folder},
    inventory::{Inventory, Reserved},
};

/// An upload that was not kept.
#[derive(Debug, Error)]
pub(crate) enum BlobError {
    /// The bytes are not those that the blob id names.
    #[error("The attachment's bytes are not those that its id names; seal and upload it again.")]
    Mismatch,
    /// The agency has too many already.
    #[error(
        "The broker holds too many attachments of this agency; submit the packets that name them, or wait until they are delivered."
    )]
    Quota,
    /// The folder cannot be written. What the system says belongs in the broker's log only.
    #[error("The broker cannot store attachments now; the upload is tried again by itself.")]
    Io(#[source] io::Error),
}

/// The attachments of all agencies.
#[derive(Debug)]
pub(crate) struct Blobs {
    folder: PathBuf,
    /// Names unfinished uploads apart.
    uploads: AtomicU64,
    inventory: Inventory,
}

impl Blobs {
    /// Opens the folder: removes uploads that were cut off, and takes stock of the rest. `named` says whether
    /// a packet in the queues names a blob of an agency.
    pub(crate) fn open(folder: PathBuf, named: impl Fn(&str, &Digest) -> bool) -> io::Result<Self> {
        make_folder(&folder).map_err(io::Error::other)?;
        let inventory = Inventory::default();
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let agency =
                path.file_name().and_then(|name| name.to_str()).filter(|name| check_code(name).is_ok());
            match agency {
                Some(agency) if path.is_dir() => take_stock(&path, agency, &inventory, &named)?,
                _ => tracing::warn!(path = %path.display(), "not the broker's; left alone"),
            }
        }
        Ok(Self { folder, uploads: AtomicU64::new(0), inventory })
    }

    /// Whether an agency has uploaded a blob completely.
    pub(crate) fn has(&self, agency: &str, blob: &Digest) -> bool {
        self.inventory.has(agency, blob)
    }

    /// A complete blob and its length.
    pub(crate) fn read(&self, agency: &str, blob: &Digest) -> io::Result<(File, u64)> {
        let path = self.path(agency, blob).ok_or(io::ErrorKind::NotFound)?;
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok((file, length))
    }

    /// Starts an upload of `length` bytes.
    pub(crate) fn upload(&self, agency: &str, blob: Digest, length: u64) -> Result<Upload, BlobError> {
        let reserved = self.inventory.reserve(agency, length).ok_or(BlobError::Quota)?;
        let start = || -> io::Result<Upload> {
            let path = self.path(agency, &blob).ok_or(io::ErrorKind::InvalidInput)?;
            let folder = path.parent().map(Path::to_owned).ok_or(io::ErrorKind::InvalidInput)?;
            if !folder.is_dir() {
                make_folder(&folder).map_err(io::Error::other)?;
            }
            let part = folder.join(format!("{}.part", self.uploads.fetch_add(1, Ordering::Relaxed)));
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
            let (agency, inventory) = (agency.to_owned(), self.inventory.clone());
            let root = SegmentRoot::default();
            let part = Part(part);
            Ok(Upload {
                file,
                part,
                path,
                folder,
                agency,
                blob,
                length,
                root,
                inventory,
                _reserved: reserved,
            })
        };
        start().map_err(BlobError::Io)
    }

    /// A packet names the blob: it stays until that packet ends.
    pub(crate) fn name(&self, agency: &str, blob: &Digest) {
        self.inventory.name(agency, blob);
    }

    /// Removes a blob that no packet names.
    pub(crate) fn remove(&self, agency: &str, blob: &Digest) {
        self.inventory.remove(agency, blob);
        if let Some(path) = self.path(agency, blob)
            && let Err(error) = fs::remove_file(&path)
        {
            tracing::warn!(%error, "an attachment was not removed; the next start does it");
        }
    }

    /// Removes blobs that have waited too long for a packet.
    pub(crate) fn sweep(&self, now_ms: u64) {
        for (agency, blob) in self.inventory.overdue(now_ms) {
            tracing::info!(agency, blob = hex(&blob), "no packet came for this attachment");
            self.remove(&agency, &blob);
        }
    }

    /// Agency codes hold no character that means anything in a path; anything else has no path.
    fn path(&self, agency: &str, blob: &Digest) -> Option<PathBuf> {
        check_code(agency).ok().map(|()| self.folder.join(agency).join(hex(blob)))
    }
}

/// Takes stock of one agency's folder. Its names become durable: whoever stopped before may not have waited.
fn take_stock(
    folder: &Path,
    agency: &str,
    inventory: &Inventory,
    named: &impl Fn(&str, &Digest) -> bool,
) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "part") {
            fs::remove_file(path)?;
            continue;
        }
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(blob) = unhex(name).ok().and_then(|bytes| Digest::try_from(bytes).ok()) else {
            tracing::warn!(path = %path.display(), "not an attachment; left alone");
            continue;
        };
        let meta = fs::metadata(&path)?;
        let since = meta.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let since_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let unnamed = if named(agency, &blob) { None } else { Some(since_ms) };
        inventory.keep(agency, blob, meta.len(), unnamed);
    }
    sync_folder(folder)
}

/// An upload in progress; dropped, it leaves nothing.
#[derive(Debug)]
pub(crate) struct Upload {
    file: File,
    part: Part,
    path: PathBuf,
    folder: PathBuf,
    agency: String,
    blob: Digest,
    length: u64,
    root: SegmentRoot,
    inventory: Inventory,
    _reserved: Reserved,
}

#[derive(Debug)]
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        // Already renamed when the upload was kept.
        let _ = fs::remove_file(&self.0);
    }
}

impl Upload {
    /// Writes what came. Together these are at most the announced length.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.root.update(bytes);
        self.file.write_all(bytes).map_err(BlobError::Io)
    }

    /// Checks root and length, and makes the blob durable under its name.
    #[allow(clippy::disallowed_methods, reason = "file and folder are synced around the rename")]
    pub(crate) fn keep(self, now_ms: u64) -> Result<(), BlobError> {
        let (root, length) = self.root.finish();
        if length != self.length || blob_id(&root, length) != self.blob {
            return Err(BlobError::Mismatch);
        }
        let keep = || -> io::Result<()> {
            self.file.sync_all()?;
            fs::rename(&self.part.0, &self.path)?;
            sync_folder(&self.folder)
        };
        keep().map_err(BlobError::Io)?;
        // Only now may a packet name it.
        self.inventory.keep(&self.agency, self.blob, length, Some(now_ms));
        Ok(())
    }
}
