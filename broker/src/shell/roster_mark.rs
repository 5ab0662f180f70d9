//! The directory of a start. The first one is believed on the bootstrap; from then on the high-water mark of the
//! last start stands against every older one, and against every other history.
//!
//! The mark is written when the broker has taken the directory, so the directory's bytes are always there before
//! the mark that names them. Rosters that were published while the broker was down stand as
//! `directory-steps/*.bin`; those that it has passed already may stay there.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
};

use bytes::Bytes;
use lintas_config::{Bootstrap, Directory, HighWater, directory::chain::STEPS_MAX};
use lintas_proto::{
    canonical, limits,
    schema::{DirectoryBundle, Roster, SignedRoster},
};

use super::folder::{Folder, FolderError, at, replace};

const DIRECTORY: &str = "directory.bin";
const MARK: &str = "directory.mark";
const STEPS: &str = "directory-steps";
/// Longest mark that is read, bytes: one with as many agencies as a directory can name is shorter.
const MARK_BYTES_MAX: usize = limits::DIRECTORY_BYTES_MAX;

impl Folder {
    /// The directory, if it is the one of the last start or follows it.
    pub(crate) fn directory(&self) -> Result<Directory, FolderError> {
        let path = self.path(DIRECTORY);
        let bytes = read(&path, limits::DIRECTORY_BYTES_MAX)?;
        let mark = match read(&self.path(MARK), MARK_BYTES_MAX) {
            Ok(bytes) => Some(HighWater::decode(&bytes)?),
            Err(FolderError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let after = mark.as_ref().map_or(0, HighWater::roster_version);
        let steps = self.steps(after, offered(&bytes))?;
        if let Some(mark) = mark {
            return Ok(Directory::resume(&bytes, &steps, &mark).map_err(Box::new)?);
        }
        let path = self.path("bootstrap.toml");
        let bootstrap = Bootstrap::parse(&fs::read_to_string(&path).map_err(at(&path))?)?;
        match Directory::open(&bytes, &bootstrap) {
            Ok(directory) => Ok(directory),
            Err(error) if steps.is_empty() => Err(error.into()),
            Err(_) => Ok(Directory::open_along(&bytes, &steps, &bootstrap).map_err(Box::new)?),
        }
    }

    /// Remembers the directory, durably: nothing older takes its place any more.
    pub(crate) fn remember(&self, directory: &Directory) -> Result<(), FolderError> {
        let (path, mark) = (self.path(MARK), directory.high_water().encode());
        match read(&path, MARK_BYTES_MAX) {
            Ok(before) if before == mark => return Ok(()),
            Ok(_) => {}
            Err(_) => {
                let ran = fs::read_dir(self.journal()).is_ok_and(|mut files| files.next().is_some());
                if ran {
                    tracing::warn!(
                        version = directory.roster().version,
                        "directory.mark is missing although this broker has run before; the directory is believed \
                         on bootstrap.toml alone: compare its version with the region authority's"
                    );
                }
            }
        }
        replace(&path, &mark)
    }

    /// Rosters between the two versions, neither included, in order.
    fn steps(&self, after: u64, before: u64) -> Result<Vec<Bytes>, FolderError> {
        let folder = self.path(STEPS);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(at(&folder)(error)),
        };
        let mut steps = Vec::new();
        for entry in entries {
            let path = entry.map_err(at(&folder))?.path();
            if path.extension().is_none_or(|extension| extension != "bin") {
                continue;
            }
            let bytes = read(&path, limits::ROSTER_BYTES_MAX)?;
            let version = version(&bytes).ok_or_else(|| FolderError::Step(path.clone()))?;
            if (after.saturating_add(1)..before).contains(&version) {
                steps.push((version, bytes));
            }
            if steps.len() > STEPS_MAX {
                return Err(FolderError::Step(path));
            }
        }
        steps.sort();
        steps.dedup();
        Ok(steps.into_iter().map(|(_, bytes)| bytes).collect())
    }
}

/// Version of a roster whose signatures nobody has checked yet: only to put files in order.
fn version(signed: &Bytes) -> Option<u64> {
    let signed: SignedRoster = canonical::decode(signed, limits::ROSTER_BYTES_MAX).ok()?;
    let roster: Roster = canonical::decode(&signed.roster, limits::ROSTER_BYTES_MAX).ok()?;
    Some(roster.version)
}

/// Version of the roster in a bundle, unchecked too. What cannot be read is refused later, with the reason.
fn offered(bundle: &Bytes) -> u64 {
    let bundle = canonical::decode(bundle, limits::DIRECTORY_BYTES_MAX).ok();
    bundle.and_then(|bundle: DirectoryBundle| version(&bundle.roster)).unwrap_or(0)
}

/// A file of at most `bytes_max` bytes.
fn read(path: &Path, bytes_max: usize) -> Result<Bytes, FolderError> {
    let read = || -> io::Result<Bytes> {
        let mut bytes = Vec::new();
        File::open(path)?.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > bytes_max {
            return Err(io::Error::other(format!("longer than {bytes_max} bytes")));
        }
        Ok(bytes.into())
    };
    read().map_err(at(path))
}

/// Agencies of which nothing is believed: the operator must know, nobody else is harmed.
pub(crate) fn tell_held(directory: &Directory) {
    for held in directory.held() {
        tracing::warn!(
            agency = held.agency,
            "held: its identity key has changed, and its old key does not vouch for it"
        );
    }
}
