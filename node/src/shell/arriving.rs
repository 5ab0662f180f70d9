//! An attachment that arrives: bytes into a part that outlives a cut, a kill and a restart, until it is whole and
//! checked.

use std::{
    fs::{File, OpenOptions},
    io::{self, IoSlice, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
};

use bytes::Bytes;
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
    /// Of what was written before, beside what is being written.
    syncing: Option<JoinHandle<io::Result<()>>>,
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
        Ok(Some(Self {
            file,
            part,
            target: target.to_owned(),
            root,
            here,
            synced: here,
            length,
            syncing: None,
        }))
    }

    /// How many bytes are here.
    pub(crate) fn here(&self) -> u64 {
        self.here
    }

    /// How many are missing.
    pub(crate) fn missing(&self) -> u64 {
        self.length.saturating_sub(self.here)
    }

    /// Writes what came; true when a sync of it was begun.
    pub(crate) fn write(&mut self, pieces: &[Bytes]) -> io::Result<bool> {
        pieces.iter().for_each(|piece| self.root.update(piece));
        self.here = self.here.saturating_add(write_all(&mut self.file, pieces)?);
        let due = self.here.saturating_sub(self.synced) >= SYNC_BYTES;
        if due {
            let synced = self.begin_sync();
            self.or_begin_anew(synced)?;
            self.synced = self.here;
        }
        Ok(due)
    }

    /// Begins to sync what was written so far, once the sync before has ended. The network goes on meanwhile. If nobody
    /// waits for its end any more, it still empties the part when it fails: it holds the lock until then.
    fn begin_sync(&mut self) -> io::Result<()> {
        self.end_sync()?;
        let file = self.file.try_clone()?;
        self.syncing = Some(thread::Builder::new().name("blob sync".to_owned()).spawn(move || {
            let synced = file.sync_data();
            if synced.is_err() {
                // If this fails too, the disk takes nothing any more.
                let _ = file.set_len(0);
            }
            synced
        })?);
        Ok(())
    }

    /// Waits for the sync that runs.
    fn end_sync(&mut self) -> io::Result<()> {
        let Some(syncing) = self.syncing.take() else { return Ok(()) };
        syncing.join().unwrap_or_else(|_| Err(io::Error::other("a sync panicked")))
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
        let synced = self.end_sync().and_then(|()| self.file.sync_all());
        self.or_begin_anew(synced)?;
        renameat_with(CWD, &self.part, CWD, &self.target, RenameFlags::NOREPLACE)?;
        sync_folder(self.target.parent().unwrap_or(Path::new("/")))?;
        Ok(Check::Kept)
    }
}

/// Writes all pieces with as few calls as there can be; their bytes.
fn write_all(file: &mut File, pieces: &[Bytes]) -> io::Result<u64> {
    let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let (mut rest, mut written) = (slices.as_mut_slice(), 0);
    while !rest.is_empty() {
        match file.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                written += count as u64;
                IoSlice::advance_slices(&mut rest, count);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

/// Name of the part of a blob.
fn part_of(target: &Path) -> io::Result<PathBuf> {
    let mut name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(PART);
    Ok(target.with_file_name(name))
}

#[cfg(test)]
mod tests {
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
        first.write(&[Bytes::copy_from_slice(&bytes[..2_200_000])]).unwrap();
        drop(first);
        let mut second = open(&target, &reference);
        let here = usize::try_from(second.here()).unwrap();
        assert_eq!(here, 1_049_656 + 1_049_600);
        second.write(&bytes[here..].chunks(1_400).map(Bytes::copy_from_slice).collect::<Vec<_>>()).unwrap();
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
        part.write(&[Bytes::copy_from_slice(&bytes[..2_200_000])]).unwrap();
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
        part.write(&[bytes.into()]).unwrap();
        drop(part);
        // Whole but wrong, found by the next process.
        let part = open(&target, &reference);
        assert_eq!(part.missing(), 0);
        assert_eq!(part.finish(&reference).unwrap(), Check::ThrownAway);
        assert_eq!((open(&target, &reference).here(), target.exists()), (0, false));
    }
}
