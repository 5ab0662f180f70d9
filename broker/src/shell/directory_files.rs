//! The directory on disk. The first one is believed on the bootstrap; from then on the high-water mark stands against
//! every older one, and against every other history.
//!
//! The broker never writes to the operator's `directory.bin`. What is in force stands in its own files, written in
//! this order, each durable before the next: `rosters/`, `directory.current`, `directory.mark`, `directory.earlier`.
//! So wherever the power fails, what stands in an earlier file follows what stands in a later one, and a start goes on
//! from there.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use lintas_config::{Bootstrap, Directory, HighWater, directory::chain::STEPS_MAX};
use lintas_proto::{
    canonical, limits,
    schema::{DirectoryBundle, Roster, SignedRoster},
};

use super::folder::{Folder, FolderError, at, make_folder, replace};

/// The operator's.
pub(super) const DIRECTORY: &str = "directory.bin";
/// The operator's.
pub(super) const STEPS: &str = "directory-steps";
const CURRENT: &str = "directory.current";
const MARK: &str = "directory.mark";
const ROSTERS: &str = "rosters";
/// Longest mark that is read, bytes: one with as many agencies as a directory can name is shorter.
const MARK_BYTES_MAX: usize = limits::DIRECTORY_BYTES_MAX;

impl Folder {
    /// The directory that was in force last; at a first start the operator's. Durable when this returns.
    pub(crate) fn directory(&self) -> Result<Directory, FolderError> {
        let (directory, steps) = self.found()?;
        self.keep_directory(&directory, &steps)?;
        Ok(directory)
    }

    fn found(&self) -> Result<(Directory, Vec<Bytes>), FolderError> {
        let own = absent(read(&self.path(CURRENT), limits::DIRECTORY_BYTES_MAX))?;
        let wrong = if own.is_some() { FolderError::Current } else { FolderError::Succession };
        let bytes = match own {
            Some(bytes) => bytes,
            None => read(&self.path(DIRECTORY), limits::DIRECTORY_BYTES_MAX)?,
        };
        if let Some(mark) = absent(read(&self.path(MARK), MARK_BYTES_MAX))? {
            let mark = HighWater::decode(&mark)?;
            let steps = self.steps(mark.roster_version(), offered(&bytes))?;
            let directory = Directory::resume(&bytes, &steps, &mark).map_err(Box::new).map_err(wrong)?;
            return Ok((directory, steps));
        }
        let path = self.path("bootstrap.toml");
        let bootstrap = Bootstrap::parse(&fs::read_to_string(&path).map_err(at(&path))?)?;
        match Directory::open(&bytes, &bootstrap) {
            Ok(directory) => Ok((directory, Vec::new())),
            Err(error) => {
                let steps = self.steps(0, offered(&bytes))?;
                if steps.is_empty() {
                    return Err(error.into());
                }
                let directory = Directory::open_along(&bytes, &steps, &bootstrap).map_err(Box::new);
                Ok((directory.map_err(wrong)?, steps))
            }
        }
    }

    /// Makes a directory the one of the next start, durably. `steps` are the rosters that led to it.
    pub(crate) fn keep_directory(&self, directory: &Directory, steps: &[Bytes]) -> Result<(), FolderError> {
        let rosters = self.path(ROSTERS);
        if !rosters.is_dir() {
            make_folder(&rosters)?;
        }
        for signed in steps.iter().chain([&directory.signed_roster()?]) {
            let path = self.roster_path(version(signed).unwrap_or_default());
            write_changed(&path, signed, limits::ROSTER_BYTES_MAX)?;
        }
        write_changed(&self.path(CURRENT), directory.bytes(), limits::DIRECTORY_BYTES_MAX)?;
        self.remember(directory)
    }

    /// Remembers the directory: nothing older takes its place any more.
    fn remember(&self, directory: &Directory) -> Result<(), FolderError> {
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

    /// The operator's `directory.bin` and the rosters that lead to it from version `after`; none if there is no file.
    pub(crate) fn operators(&self, after: u64) -> Result<Option<(Bytes, Vec<Bytes>)>, FolderError> {
        let Some(bytes) = absent(read(&self.path(DIRECTORY), limits::DIRECTORY_BYTES_MAX))? else {
            return Ok(None);
        };
        let steps = self.steps(after, offered(&bytes))?;
        Ok(Some((bytes, steps)))
    }

    /// Where a roster that was in force here stands.
    pub(crate) fn roster_path(&self, version: u64) -> PathBuf {
        self.path(ROSTERS).join(format!("{version:06}.bin"))
    }

    /// Canonical bytes of a `SignedRoster` that was in force here.
    pub(crate) fn roster(&self, version: u64) -> Result<Bytes, FolderError> {
        read(&self.roster_path(version), limits::ROSTER_BYTES_MAX)
    }

    /// Rosters between the two versions, neither included, in order: the operator's, and those that were in force
    /// here.
    fn steps(&self, after: u64, before: u64) -> Result<Vec<Bytes>, FolderError> {
        let mut steps = BTreeMap::new();
        if after.saturating_add(1) >= before {
            return Ok(Vec::new());
        }
        let folder = self.path(STEPS);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => Some(entries),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(at(&folder)(error)),
        };
        for entry in entries.into_iter().flatten() {
            let path = entry.map_err(at(&folder))?.path();
            if path.extension().is_none_or(|extension| extension != "bin") {
                continue;
            }
            let bytes = read(&path, limits::ROSTER_BYTES_MAX)?;
            let version = version(&bytes).ok_or_else(|| FolderError::Step(path.clone()))?;
            if (after.saturating_add(1)..before).contains(&version) {
                steps.insert(version, bytes);
            }
            if steps.len() > STEPS_MAX {
                return Err(FolderError::Step(path));
            }
        }
        let newest = u64::try_from(STEPS_MAX).unwrap_or(u64::MAX);
        for version in
            (after.saturating_add(1)..before).rev().take_while(|version| before - version <= newest)
        {
            if let Some(bytes) = absent(self.roster(version))? {
                steps.insert(version, bytes);
            }
        }
        Ok(steps.into_values().collect())
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
pub(super) fn read(path: &Path, bytes_max: usize) -> Result<Bytes, FolderError> {
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

/// None for a file that is not there.
pub(super) fn absent(read: Result<Bytes, FolderError>) -> Result<Option<Bytes>, FolderError> {
    match read {
        Ok(bytes) => Ok(Some(bytes)),
        Err(FolderError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write_changed(path: &Path, bytes: &Bytes, bytes_max: usize) -> Result<(), FolderError> {
    let length = fs::metadata(path).map(|there| there.len()).ok();
    if length == Some(bytes.len() as u64) && read(path, bytes_max).is_ok_and(|before| before == bytes) {
        return Ok(());
    }
    replace(path, bytes)
}

/// New identity keys that count on the word of the region authority alone.
pub(super) fn tell_identities(directory: &Directory) {
    for changed in directory.held() {
        tracing::warn!(
            agency = changed.agency,
            key = changed.after,
            "a new identity key that the one before it does not vouch for: what waits for the agency is withheld, then it \
             is served again. The broker follows the roster; each node waits for its officer's word"
        );
    }
}
