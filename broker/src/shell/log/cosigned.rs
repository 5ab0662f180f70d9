//! `cosigned/<N>`: checkpoints that a quorum had cosigned, in their order, each behind its length.

use std::{
    fs::OpenOptions,
    io::{Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use lintas_proto::{
    audit::{
        files::LogFile,
        note::SignedCheckpoint,
        tile::{WIDTH, entries, push_entry},
    },
    limits,
};

use super::reading::read;
use crate::shell::folder::{FolderError, at, make_folder, sync_folder};

/// Longest file, bytes.
const FILE_BYTES_MAX: usize = 256 * (limits::CHECKPOINT_BYTES_MAX + 2);

/// The files of one root log. One task writes them.
#[derive(Debug)]
pub(super) struct Cosigned {
    folder: PathBuf,
    /// Checkpoints that are durable.
    pub(super) count: u64,
    /// Of them in the last file, bytes.
    bytes: u64,
    /// Size of the last one.
    pub(super) size: u64,
}

impl Cosigned {
    /// Finds the end. What a power cut has left of an unfinished one does not count, and is written over.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(super) fn open(folder: &Path) -> Result<Self, FolderError> {
        let path = |number| folder.join(LogFile::Cosigned(number).to_string());
        // Files follow each other without a gap.
        let (mut low, mut high) = (0, 1u64);
        while path(high).exists() {
            (low, high) = (high, high.saturating_mul(2));
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if path(middle).exists() { low = middle } else { high = middle }
        }
        let path = path(low);
        let bytes = read(&path, FILE_BYTES_MAX).map_err(at(&path))?.unwrap_or_default();
        let mut found =
            Self { folder: folder.to_owned(), count: low.saturating_mul(WIDTH), bytes: 0, size: 0 };
        for entry in entries(&bytes).map_while(|entry| entry) {
            let Ok(signed) = SignedCheckpoint::parse(entry) else { break };
            found.count += 1;
            found.bytes += 2 + entry.len() as u64;
            found.size = signed.claim().size;
        }
        Ok(found)
    }

    /// Appends one that is larger than those before; durable when this returns.
    ///
    /// # Errors
    /// A disk that does not take it.
    pub(super) fn append(&mut self, signed: &SignedCheckpoint) -> Result<(), FolderError> {
        let path = self.folder.join(LogFile::Cosigned(self.count / WIDTH).to_string());
        let begins = self.count.is_multiple_of(WIDTH);
        let (from, mut record) = (if begins { 0 } else { self.bytes }, Vec::new());
        push_entry(&mut record, &signed.to_bytes());
        if let Some(parent) = path.parent().filter(|parent| begins && !parent.exists()) {
            make_folder(parent)?;
        }
        let write = || {
            let mut open = OpenOptions::new();
            let mut file = open.write(true).create(true).truncate(false).mode(0o600).open(&path)?;
            file.set_len(from)?;
            file.seek(SeekFrom::Start(from))?;
            file.write_all(&record)?;
            file.sync_all()?;
            path.parent().filter(|_| begins).map_or(Ok(()), sync_folder)
        };
        write().map_err(at(&path))?;
        self.count += 1;
        (self.bytes, self.size) = (from + record.len() as u64, signed.claim().size);
        Ok(())
    }
}
