//! An attachment that arrives: bytes into a part that outlives a cut, a kill and a restart, until it is whole and
//! checked.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use lintas_proto::{
    envelope::segment::{SegmentRoot, boundary},
    schema::AttachmentRef,
};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::files::{PART, sync_folder};

/// Bytes read at once when a root is computed anew.
const READ_BYTES: usize = 256 * 1024;
/// After so many bytes a part is synced: the last sync stays short.
const SYNC_BYTES: u64 = 64 * 1024 * 1024;

/// A part. Dropped, it stays for the next transfer.
#[derive(Debug)]
pub(crate) struct Arriving {
    /// Locked for as long as it is open: one transfer of a blob at a time.
    file: File,
    part: PathBuf,
    target: PathBuf,
    root: SegmentRoot,
    here: u64,
    synced: u64,
    length: u64,
}

/// What came of the last check.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// It is durable, under its name.
    Kept,
    /// It was not what the packet names; the part is empty again.
    ThrownAway,
}

impl Arriving {
    /// Goes on with the part of `target`, cut at the last segment boundary; none when all of it is here. Waits for
    /// an earlier transfer of the same blob, whose connection has ended, to leave it. May take as long as reading
    /// the part takes.
    pub(crate) fn open(target: &Path, length: u64) -> io::Result<Option<Self>> {
        if target.exists() {
            return Ok(None);
        }
        let part = part_of(target)?;
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&part)?;
        file.lock()?;
        if target.exists() {
            // The earlier one kept it. The part that was opened, if it is another, is nobody's.
            let _ = std::fs::remove_file(&part);
            return Ok(None);
        }
        let found = file.metadata()?.len();
        // All of it may be here: then only the check was cut off.
        let here = if found == length { found } else { boundary(found.min(length)) };
        file.set_len(here)?;
        let (mut root, mut piece) = (SegmentRoot::default(), vec![0; READ_BYTES]);
        loop {
            let count = file.read(&mut piece)?;
            if count == 0 {
                break;
            }
            root.update(piece.get(..count).unwrap_or_default());
        }
        file.seek(SeekFrom::Start(here))?;
        Ok(Some(Self { file, part, target: target.to_owned(), root, here, synced: here, length }))
    }

    /// How many bytes are here.
    pub(crate) fn here(&self) -> u64 {
        self.here
    }

    /// How many are missing.
    pub(crate) fn missing(&self) -> u64 {
        self.length.saturating_sub(self.here)
    }

    /// Writes what came; true when it was synced.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<bool> {
        self.root.update(bytes);
        self.file.write_all(bytes)?;
        self.here = self.here.saturating_add(bytes.len() as u64);
        let due = self.here.saturating_sub(self.synced) >= SYNC_BYTES;
        if due {
            let synced = self.file.sync_data();
            self.or_begin_anew(synced)?;
            self.synced = self.here;
        }
        Ok(due)
    }

    /// After a failed sync the cache may show bytes that the disk never gets, and a later sync may succeed all the same:
    /// nothing of the part counts any more.
    fn or_begin_anew(&self, synced: io::Result<()>) -> io::Result<()> {
        synced.inspect_err(|_| {
            // If this fails too, the disk takes nothing any more.
            let _ = self.file.set_len(0);
        })
    }

    /// Checks root and length; durable under its name when this returns, or thrown away.
    pub(crate) fn finish(mut self, blob: &AttachmentRef) -> io::Result<Check> {
        let (root, length) = std::mem::take(&mut self.root).finish();
        if length != blob.length || root != *blob.root {
            // Emptied, not removed: whoever waits for the lock holds the same file.
            self.file.set_len(0)?;
            return Ok(Check::ThrownAway);
        }
        let synced = self.file.sync_all();
        self.or_begin_anew(synced)?;
        renameat_with(CWD, &self.part, CWD, &self.target, RenameFlags::NOREPLACE)?;
        sync_folder(self.target.parent().unwrap_or(Path::new("/")))?;
        Ok(Check::Kept)
    }
}

/// Name of the part of a blob.
fn part_of(target: &Path) -> io::Result<PathBuf> {
    let mut name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(PART);
    Ok(target.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use lintas_proto::envelope::segment::segment_root;

    use super::*;

    fn blob(length: usize) -> (Vec<u8>, AttachmentRef) {
        let bytes: Vec<u8> = (0..=250).cycle().take(length).collect();
        let root = Bytes::copy_from_slice(&segment_root(&bytes));
        (bytes, AttachmentRef { blob_id: Bytes::new(), length: length as u64, root })
    }

    fn open(target: &Path, blob: &AttachmentRef) -> Arriving {
        Arriving::open(target, blob.length).unwrap().unwrap()
    }

    #[test]
    fn a_part_goes_on_at_a_segment_boundary_and_is_checked_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("ab");
        let (bytes, reference) = blob(3_000_000);
        let mut first = open(&target, &reference);
        first.write(&bytes[..2_200_000]).unwrap();
        drop(first);
        let mut second = open(&target, &reference);
        let here = usize::try_from(second.here()).unwrap();
        assert_eq!(here, 1_049_656 + 1_049_600);
        second.write(&bytes[here..]).unwrap();
        assert_eq!(second.finish(&reference).unwrap(), Check::Kept);
        assert_eq!(std::fs::read(&target).unwrap(), bytes);
        assert!(Arriving::open(&target, reference.length).unwrap().is_none());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no part is left");
    }

    #[test]
    fn after_a_failed_sync_nothing_of_a_part_counts() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("ab");
        let (bytes, reference) = blob(3_000_000);
        let mut part = open(&target, &reference);
        part.write(&bytes[..2_200_000]).unwrap();
        part.or_begin_anew(Ok(())).unwrap();
        drop(part);
        let part = open(&target, &reference);
        assert!(part.here() > 0);
        assert!(part.or_begin_anew(Err(io::Error::other("the disk failed"))).is_err());
        drop(part);
        assert_eq!(open(&target, &reference).here(), 0);
    }

    #[test]
    fn what_the_packet_does_not_name_is_thrown_away_whole() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("ab");
        let (mut bytes, reference) = blob(1_200_000);
        bytes[7] ^= 1;
        let mut part = open(&target, &reference);
        part.write(&bytes).unwrap();
        drop(part);
        // Whole but wrong, found by the next process.
        let part = open(&target, &reference);
        assert_eq!(part.missing(), 0);
        assert_eq!(part.finish(&reference).unwrap(), Check::ThrownAway);
        assert_eq!((open(&target, &reference).here(), target.exists()), (0, false));
    }
}
