//! Publications on the disk, step by step, and back from it at a start.

use std::io;

use bytes::Bytes;
use lintas_proto::{
    audit::{
        files::LogFile,
        merkle::verify_consistency,
        tile::{self, Hashes, Tile, hash_in},
    },
    canonical,
    id::{Digest, sha256},
    schema::PublishedLog,
};
use thiserror::Error;

use super::{Published, disk::Disk};
use crate::core::log::{
    LogError,
    fold::LogFold,
    publication::{Publication, Target, Write},
    resume::lengths,
};

/// How far the log is published.
const PUBLISHED: &str = "published";
/// Longest one: members and sub-logs of the largest roster.
const PUBLISHED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of an epoch that is not over which may wait for being durable: no start stands on them before the mark does, and to
/// sync every part of a long epoch would hold up the journal on the same disk.
const UNSYNCED_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Why a publication is not on the disk, or not to be trusted. The broker stops.
#[derive(Debug, Error)]
pub(crate) enum FilesError {
    /// A file that cannot be written or read.
    #[error(
        "audit/{path}: {error}; check the disk, or restore audit/ together with journal/ from one backup"
    )]
    Io {
        /// Below `audit/`.
        path: String,
        /// What the system says.
        error: io::Error,
    },
    /// What is there does not fit.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The mark is damaged.
    #[error("audit/published is damaged; restore audit/ together with journal/ from one backup")]
    Mark,
    /// What is to be published does not continue what is.
    #[error(
        "the log of {epochs} epochs does not continue the one in audit/published; somebody else has written there, or a \
         file is damaged: restore audit/ together with journal/ from one backup"
    )]
    NotContinued {
        /// Epochs of the new one.
        epochs: u64,
    },
}

impl FilesError {
    /// Whether there is no room on the disk, and nothing else is wrong.
    pub(crate) fn is_full(&self) -> bool {
        let Self::Io { error, .. } = self else { return false };
        matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// The folder `audit/`.
#[derive(Debug)]
pub(crate) struct LogFiles<D> {
    disk: D,
    /// What the mark says.
    published: Option<PublishedLog>,
    /// Tiles and bundles that became full since. The mark still stands on their unfinished ones.
    full: Vec<Target>,
    /// Bytes written since the last sync.
    unsynced: usize,
}

impl<D: Disk> LogFiles<D> {
    /// Goes on where the mark stands, or at the beginning if there is none.
    pub(crate) fn resume(disk: D, broker: &str) -> Result<(Self, LogFold), FilesError> {
        let mut files = Self { disk, published: None, full: Vec::new(), unsynced: 0 };
        let fold = files.again(broker)?;
        Ok((files, fold))
    }

    /// Back to the mark, also after an error: what is behind it is to be written again.
    pub(crate) fn again(&mut self, broker: &str) -> Result<LogFold, FilesError> {
        // The mark may have been put there and not synced: nothing is signed on it that a power cut takes back.
        self.disk.settle().map_err(io_at(""))?;
        self.full.clear();
        self.unsynced = 0;
        self.published = read_mark(&self.disk)?;
        let Some(state) = &self.published else { return Ok(LogFold::new(broker, 0)) };
        cut_back(&mut self.disk, state)?;
        let disk = &self.disk;
        Ok(LogFold::resume(broker, state, |target, from| {
            disk.read(&target.to_string(), from).map_err(|error| LogError::File {
                file: target.to_string(),
                what: format!("it was published and cannot be read: {error}"),
            })
        })?)
    }

    /// What the mark says.
    pub(crate) fn published(&self) -> Option<&PublishedLog> {
        self.published.as_ref()
    }

    /// Writes a publication. At the end of an epoch each step is durable before the next, with all parts of that epoch. An
    /// error leaves it to the next start.
    pub(crate) fn publish(&mut self, publication: Publication) -> Result<(), FilesError> {
        for step in [&publication.contents, &publication.tiles] {
            for (target, write) in step {
                let path = target.to_string();
                let (Write::Whole(bytes) | Write::Append { bytes, .. } | Write::Overwrite { bytes, .. }) =
                    write;
                self.unsynced = self.unsynced.saturating_add(bytes.len());
                match write {
                    Write::Whole(bytes) => self.disk.write(&path, bytes),
                    Write::Append { at, bytes } => self.disk.append(&path, *at, bytes),
                    Write::Overwrite { at, bytes } => self.disk.overwrite(&path, *at, bytes),
                }
                .map_err(io_at(&path))?;
            }
            if publication.end.is_some() || self.unsynced > UNSYNCED_BYTES_MAX {
                self.disk.sync().map_err(io_at(""))?;
                self.unsynced = 0;
            }
        }
        self.full.extend(publication.full().cloned());
        let Some(state) = publication.end else { return Ok(()) };
        self.continues(&state)?;
        let message = canonical::encode(&state);
        let bytes = [&sha256(&[&message])[..], &message].concat();
        self.replace(&[(PUBLISHED.to_owned(), bytes)])?;
        self.published = Some(state);
        self.clear(&publication.gone)
    }

    /// Removes what the mark no longer stands on.
    fn clear(&mut self, gone: &[Target]) -> Result<(), FilesError> {
        for full in std::mem::take(&mut self.full) {
            let path = format!("{full}.p");
            self.disk.remove_folder(&path).map_err(io_at(&path))?;
        }
        for gone in gone {
            let path = gone.to_string();
            self.disk.remove(&path).map_err(io_at(&path))?;
        }
        Ok(())
    }

    /// Files in place of others; durable when this returns.
    pub(crate) fn replace(&mut self, files: &[(String, Vec<u8>)]) -> Result<(), FilesError> {
        let first = files.first().map(|(path, _)| path.as_str()).unwrap_or_default();
        self.disk.replace(files).map_err(io_at(first))
    }

    /// A file; none if it is not there.
    pub(crate) fn read(&self, target: &Target) -> Result<Option<Vec<u8>>, FilesError> {
        read(&self.disk, &target.to_string())
    }

    /// Whether `next` continues what the mark on the disk says: its tree begins with that one.
    fn continues(&self, next: &PublishedLog) -> Result<(), FilesError> {
        let refused = FilesError::NotContinued { epochs: next.epochs };
        if read_mark(&self.disk)? != self.published {
            return Err(refused);
        }
        let Some(last) = self.published.as_ref().filter(|last| last.ended == next.ended) else {
            let begins = self.published.as_ref().is_none_or(|last| last.ended < next.ended);
            return if begins && next.epochs == 1 { Ok(()) } else { Err(refused) };
        };
        let tiles = RootTiles { disk: &self.disk, ended: next.ended, size: next.epochs };
        let proof = tile::consistency(&tiles, last.epochs, next.epochs)?;
        let (Some(before), Some(after)) = (digest(&last.root), digest(&next.root)) else {
            return Err(refused);
        };
        let holds = verify_consistency((last.epochs, &before), (next.epochs, &after), &proof).is_ok();
        let follows = last.epochs.checked_add(1) == Some(next.epochs) && last.sequence < next.sequence;
        if holds && follows { Ok(()) } else { Err(refused) }
    }
}

/// What others are told of the mark.
pub(crate) fn told(state: &PublishedLog) -> Published {
    let root = digest(&state.root).unwrap_or_default();
    Published { sequence: state.sequence, ended: state.ended, epochs: state.epochs, root }
}

pub(super) fn digest(bytes: &Bytes) -> Option<Digest> {
    bytes.as_ref().try_into().ok()
}

fn read_mark(disk: &impl Disk) -> Result<Option<PublishedLog>, FilesError> {
    let Some(bytes) = read(disk, PUBLISHED)? else { return Ok(None) };
    mark(&Bytes::from(bytes)).map(Some).ok_or(FilesError::Mark)
}

/// Reads the mark; `None` if it is damaged.
pub(crate) fn mark(bytes: &Bytes) -> Option<PublishedLog> {
    let (sum, message) = bytes.split_at_checked(32)?;
    let state: PublishedLog = canonical::decode(&bytes.slice_ref(message), PUBLISHED_BYTES_MAX).ok()?;
    (sha256(&[message]) == *sum).then_some(state)
}

/// Takes away what an attempt that was cut off has appended.
fn cut_back(disk: &mut impl Disk, state: &PublishedLog) -> Result<(), FilesError> {
    for (target, length) in lengths(state) {
        let path = target.to_string();
        disk.cut(&path, length).map_err(|error| LogError::File { file: path, what: error.to_string() })?;
    }
    disk.sync().map_err(io_at(""))
}

fn read(disk: &impl Disk, path: &str) -> Result<Option<Vec<u8>>, FilesError> {
    match disk.read(path, 0) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_at(path)(error)),
    }
}

fn io_at(path: &str) -> impl FnOnce(io::Error) -> FilesError {
    let path = path.to_owned();
    move |error| FilesError::Io { path, error }
}

/// Hashes of the root log, from its tiles on the disk.
struct RootTiles<'a, D> {
    disk: &'a D,
    ended: u64,
    size: u64,
}

impl<D: Disk> Hashes for RootTiles<'_, D> {
    type Error = FilesError;

    fn hash(&self, level: u8, index: u64) -> Result<Digest, FilesError> {
        let none = FilesError::NotContinued { epochs: self.size };
        let Some(tile) = Tile::of_hash(level, index, self.size) else { return Err(none) };
        let target = Target { ended: self.ended, agency: None, file: LogFile::Tile(tile) };
        let tile = read(self.disk, &target.to_string())?;
        tile.and_then(|tile| hash_in(&tile, index)).ok_or(none)
    }
}
