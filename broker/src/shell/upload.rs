//! One upload: bytes into a part that outlives a cut, a kill and a restart, until it is whole and checked.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
};

use lintas_proto::{
    envelope::segment::{SegmentRoot, blob_id, boundary},
    id::Digest,
};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    blobs::{BlobError, Room},
    clock,
    folder::sync_folder,
    inventory::Inventory,
};

/// Bytes read at once when a root is computed anew.
const READ_BYTES: usize = 256 * 1024;
/// After so many bytes a part is synced, and the disk looked at: the last sync stays short.
const SYNC_BYTES: u64 = 64 * 1024 * 1024;

/// Where an upload writes, and whose it is.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) agency: String,
    pub(super) blob: Digest,
    pub(super) length: u64,
    /// The agency's folder.
    pub(super) folder: PathBuf,
    /// Name of the part.
    pub(super) part: PathBuf,
    /// Name of the whole.
    pub(super) whole: PathBuf,
    pub(super) inventory: Inventory,
    pub(super) room: Room,
    /// One upload of a blob at a time.
    pub(super) _turn: OwnedSemaphorePermit,
}

/// An upload in progress. Dropped, it leaves its part for the next one.
#[derive(Debug)]
pub(crate) struct Upload {
    place: Place,
    file: File,
    root: SegmentRoot,
    here: u64,
    synced: u64,
}

impl Upload {
    /// Goes on with the part: cuts it at the last segment boundary, and reads what stays.
    pub(super) fn open(place: Place) -> Result<Self, BlobError> {
        let open = || -> io::Result<(File, SegmentRoot, u64)> {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&place.part)?;
            let found = file.metadata()?.len();
            // All of it may be here: then only the check was cut off.
            let here = if found == place.length { found } else { boundary(found.min(place.length)) };
            file.set_len(here)?;
            let mut root = SegmentRoot::default();
            let mut piece = vec![0; READ_BYTES];
            loop {
                let count = file.read(&mut piece)?;
                if count == 0 {
                    break;
                }
                root.update(piece.get(..count).unwrap_or_default());
            }
            file.seek(SeekFrom::Start(here))?;
            Ok((file, root, here))
        };
        let (file, root, here) = open().map_err(BlobError::Io)?;
        place.inventory.progress(&place.agency, &place.blob, here, clock::shown_ms());
        Ok(Self { place, file, root, here, synced: here })
    }

    /// How many bytes are here.
    pub(crate) fn here(&self) -> u64 {
        self.here
    }

    /// How many are missing.
    pub(crate) fn missing(&self) -> u64 {
        self.place.length.saturating_sub(self.here)
    }

    /// Writes what came, at most what is missing.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.root.update(bytes);
        self.file.write_all(bytes).map_err(BlobError::Io)?;
        self.here = self.here.saturating_add(bytes.len() as u64);
        if self.here.saturating_sub(self.synced) >= SYNC_BYTES {
            let synced = self.file.sync_data();
            self.or_begin_anew(synced)?;
            self.synced = self.here;
            self.note();
            self.place.room.check_free(&self.place.folder, 0)?;
        }
        Ok(())
    }

    /// Checks root and length, and makes the blob durable under its name. What is wrong is thrown away.
    #[allow(clippy::disallowed_methods, reason = "file and folder are synced around the rename")]
    pub(crate) fn keep(mut self) -> Result<(), BlobError> {
        let (root, length) = std::mem::take(&mut self.root).finish();
        let Place { agency, blob, folder, part, whole, inventory, .. } = &self.place;
        if length != self.place.length || blob_id(&root, length) != *blob {
            fs::remove_file(part).map_err(BlobError::Io)?;
            inventory.remove_part(agency, blob);
            return Err(BlobError::Mismatch);
        }
        let synced = self.file.sync_all();
        self.or_begin_anew(synced)?;
        fs::rename(part, whole).map_err(BlobError::Io)?;
        // The folder's own name as well: it may be new, and whoever made it waited for nothing.
        let named = folder.parent().map_or(Ok(()), sync_folder);
        named.and_then(|()| sync_folder(folder)).map_err(BlobError::Unsure)?;
        // Only now may a packet name it.
        inventory.keep(agency, *blob, length, Some(clock::shown_ms()));
        Ok(())
    }

    /// After a failed sync the cache may show bytes that the disk never gets, and a later sync may succeed all the same:
    /// the part is thrown away, so that the next upload begins at 0.
    fn or_begin_anew(&self, synced: io::Result<()>) -> Result<(), BlobError> {
        synced.map_err(|error| {
            let Place { agency, blob, part, inventory, .. } = &self.place;
            // Emptied as well: its name may not go away.
            let _ = self.file.set_len(0);
            if fs::remove_file(part).is_ok() {
                inventory.remove_part(agency, blob);
            }
            BlobError::Io(error)
        })
    }

    fn note(&self) {
        let Place { agency, blob, inventory, .. } = &self.place;
        inventory.progress(agency, blob, self.here, clock::shown_ms());
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // Changes nothing once the part has left the account.
        self.note();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        shell::blobs::{Blobs, Room},
        testing::TempFolder,
    };

    #[tokio::test]
    async fn after_a_failed_sync_nothing_of_a_part_counts() {
        let folder = TempFolder::new();
        let blobs = Blobs::open(folder.path().to_owned(), Room::new(100, 0), |_, _| false).unwrap();
        let begin = async || blobs.upload("TH", [7; 32], 3_000_000).await.unwrap().unwrap();
        let mut upload = begin().await;
        upload.write(&[1; 2_200_000]).unwrap();
        drop(upload);
        let upload = begin().await;
        assert!(upload.here() > 0);
        assert!(upload.or_begin_anew(Err(io::Error::other("the disk failed"))).is_err());
        drop(upload);
        assert_eq!(begin().await.here(), 0);
    }
}
