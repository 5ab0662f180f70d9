//! Attachments: ciphertext files by blob id, in one folder per uploading agency. The broker has no key for
//! them; it checks each against its Merkle root before the name becomes durable.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use lintas_proto::{
    envelope::{blob::blob_id, segment::SegmentRoot},
    id::{Digest, check_code, hex},
};
use thiserror::Error;

use super::folder::{make_folder, sync_folder};

/// An upload that was not kept.
#[derive(Debug, Error)]
pub(crate) enum BlobError {
    /// The bytes are not those that the blob id names.
    #[error("the attachment's bytes are not those that its id names; seal and upload it again")]
    Mismatch,
    /// The folder cannot be written.
    #[error("the broker cannot store attachments now: {0}")]
    Io(#[from] io::Error),
}

/// The attachments of all agencies.
#[derive(Debug)]
pub(crate) struct Blobs {
    folder: PathBuf,
    /// Names unfinished uploads apart.
    uploads: AtomicU64,
}

impl Blobs {
    /// Opens the folder and removes uploads that were cut off.
    pub(crate) fn open(folder: PathBuf) -> io::Result<Self> {
        make_folder(&folder).map_err(io::Error::other)?;
        for agency in fs::read_dir(&folder)? {
            for file in fs::read_dir(agency?.path())? {
                let path = file?.path();
                if path.extension().is_some_and(|extension| extension == "part") {
                    fs::remove_file(path)?;
                }
            }
        }
        Ok(Self { folder, uploads: AtomicU64::new(0) })
    }

    /// Whether an agency has uploaded a blob completely.
    pub(crate) fn has(&self, agency: &str, blob: &Digest) -> bool {
        self.path(agency, blob).is_some_and(|path| path.is_file())
    }

    /// A complete blob and its length.
    pub(crate) fn read(&self, agency: &str, blob: &Digest) -> io::Result<(File, u64)> {
        let path = self.path(agency, blob).ok_or(io::ErrorKind::NotFound)?;
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok((file, length))
    }

    /// Starts an upload of `length` bytes.
    pub(crate) fn upload(&self, agency: &str, blob: Digest, length: u64) -> io::Result<Upload> {
        let path = self.path(agency, &blob).ok_or(io::ErrorKind::InvalidInput)?;
        let folder = path.parent().map(Path::to_owned).ok_or(io::ErrorKind::InvalidInput)?;
        make_folder(&folder).map_err(io::Error::other)?;
        let part = folder.join(format!("{}.part", self.uploads.fetch_add(1, Ordering::Relaxed)));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
        Ok(Upload { file, part: Part(part), path, folder, blob, length, root: SegmentRoot::default() })
    }

    /// Removes a blob that no queue needs. Losing this in a crash leaves a file too many, nothing else.
    pub(crate) fn remove(&self, agency: &str, blob: &Digest) {
        if let Some(path) = self.path(agency, blob)
            && let Err(error) = fs::remove_file(&path)
        {
            tracing::debug!(%error, "attachment was not removed");
        }
    }

    /// Agency codes hold no character that means anything in a path; anything else has no path.
    fn path(&self, agency: &str, blob: &Digest) -> Option<PathBuf> {
        check_code(agency).ok().map(|()| self.folder.join(agency).join(hex(blob)))
    }
}

/// An upload in progress; dropped, it leaves nothing.
#[derive(Debug)]
pub(crate) struct Upload {
    file: File,
    part: Part,
    path: PathBuf,
    folder: PathBuf,
    blob: Digest,
    length: u64,
    root: SegmentRoot,
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
    /// Bytes still to come are these at most.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.root.update(bytes);
        Ok(self.file.write_all(bytes)?)
    }

    /// Checks root and length, and makes the blob durable under its name.
    #[allow(clippy::disallowed_methods, reason = "file and folder are synced around the rename")]
    pub(crate) fn keep(self) -> Result<(), BlobError> {
        let (root, length) = self.root.finish();
        if length != self.length || blob_id(&root, length) != self.blob {
            return Err(BlobError::Mismatch);
        }
        self.file.sync_all()?;
        fs::rename(&self.part.0, &self.path)?;
        Ok(sync_folder(&self.folder)?)
    }
}
