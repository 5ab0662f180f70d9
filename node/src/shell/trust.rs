//! The directory on disk, and the mark that keeps anything older from taking its place.
//!
//! | name | written by | what |
//! |---|---|---|
//! | `directory.current` | the node | the directory in force |
//! | `directory.mark` | the node | what was believed, so that nothing older is |
//! | `directory.next` | the node | there only while both are being replaced |
//! | `directory.bin` | the operator | the first directory, for which `bootstrap.toml` vouches; later a way in for newer ones |
//!
//! A new directory is kept in three steps, each durable before the next: the bytes as `directory.next`, the mark, the
//! name `directory.current`. At any moment one of the two files is what the mark speaks of.

use bytes::Bytes;
use lintas_config::{Bootstrap, Directory, HighWater, SuccessionError};
use lintas_proto::{
    canonical, limits,
    schema::{DirectoryBundle, Roster, SignedRoster},
};

use super::{
    clock,
    desk::begin_attested,
    failure::{Code, Failure},
    files,
    folder::Folder,
};

const DIRECTORY: &str = "directory.bin";
const CURRENT: &str = "directory.current";
const NEXT: &str = "directory.next";
const MARK: &str = "directory.mark";
const ROSTERS: &str = "rosters";
/// Longest mark: as many agencies as a roster can name, 180 bytes each.
const MARK_BYTES_MAX: u64 = 2 << 20;
/// Most files looked at in `rosters`.
const ROSTERS_MAX: usize = 4_096;
const ADVICE: &str =
    "this node has not joined its region: once the authority has admitted this agency, `lintas join`";

/// What tells one `directory.bin` from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look(Option<(std::time::SystemTime, u64)>);

/// Looks at `directory.bin`.
pub(crate) fn look(folder: &Folder) -> Look {
    let found = std::fs::metadata(folder.path(DIRECTORY));
    Look(found.ok().and_then(|found| Some((found.modified().ok()?, found.len()))))
}

/// The directory of a folder that is opened, and why `directory.bin` adds nothing to it, if it should. Directory and
/// mark are durable when this returns.
pub(crate) fn open(folder: &Folder) -> Result<(Directory, Option<String>), Failure> {
    let Some(mark) = mark(folder)? else {
        let bootstrap = Bootstrap::parse(&folder.text("bootstrap.toml", ADVICE)?)
            .map_err(|error| Failure::new(Code::NotSetUp, error))?;
        let directory =
            Directory::open(&directory_bytes(folder)?, &bootstrap).map_err(|error| refused(&error))?;
        keep(folder, &directory)?;
        return Ok((directory, None));
    };
    let directory = match kept(folder, &mark)? {
        Some(directory) => directory,
        // A folder of before there was a `directory.current`, or one that has lost it.
        None => {
            let bytes = directory_bytes(folder)?;
            let steps = steps(folder, mark.roster_version(), &bytes)?;
            let directory = Directory::resume(&bytes, &steps, &mark).map_err(|error| not_the_next(&error))?;
            keep(folder, &directory)?;
            directory
        }
    };
    match offered(folder, &directory) {
        Ok(next) => Ok((next.unwrap_or(directory), None)),
        // The node has fetched newer ones since it was put there.
        Err(Offered { rolled_back: true, .. }) => Ok((directory, None)),
        Err(Offered { failure, .. }) => Ok((directory, Some(failure.message))),
    }
}

/// The directory in force, for who only reads: nothing is written, and a node may be running.
pub(crate) fn look_only(folder: &Folder) -> Result<Directory, Failure> {
    if let Some(mark) = mark(folder)? {
        for name in [NEXT, CURRENT] {
            let bytes = files::read(&folder.path(name), limits::DIRECTORY_BYTES_MAX as u64);
            let directory = bytes.ok().and_then(|bytes| Directory::resume(&bytes.into(), &[], &mark).ok());
            if let Some(directory) = directory {
                return Ok(directory);
            }
        }
    }
    let bootstrap = Bootstrap::parse(&folder.text("bootstrap.toml", ADVICE)?)
        .map_err(|error| Failure::new(Code::NotSetUp, error))?;
    Directory::open(&directory_bytes(folder)?, &bootstrap).map_err(|error| refused(&error))
}

/// Begins with a first directory: the bootstrap file that vouches for it, the directory, its mark.
pub(crate) fn begin(folder: &Folder, bootstrap: &str, directory: &Directory) -> Result<(), Failure> {
    let path = folder.path("bootstrap.toml");
    files::replace(&path, bootstrap.as_bytes()).map_err(|error| Failure::file("write", &path, &error))?;
    keep(folder, directory)?;
    begin_attested(folder, directory, clock::now_ms())
}

/// What was believed before, if anything was.
pub(crate) fn mark(folder: &Folder) -> Result<Option<HighWater>, Failure> {
    match files::read(&folder.path(MARK), MARK_BYTES_MAX) {
        Ok(mark) => HighWater::decode(&mark).map(Some).map_err(|error| refused(&error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::file("read", &folder.path(MARK), &error)),
    }
}

/// The node's own copy, as it was before a power cut or after it.
fn kept(folder: &Folder, mark: &HighWater) -> Result<Option<Directory>, Failure> {
    for name in [NEXT, CURRENT] {
        let path = folder.path(name);
        let bytes = match files::read(&path, limits::DIRECTORY_BYTES_MAX as u64) {
            Ok(bytes) => Bytes::from(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Failure::file("read", &path, &error)),
        };
        match Directory::resume(&bytes, &[], mark) {
            Ok(directory) => {
                if name == NEXT || directory.high_water() != mark {
                    keep(folder, &directory)?;
                }
                return Ok(Some(directory));
            }
            Err(error) => tracing::warn!(name, %error, "not the directory of the mark"),
        }
    }
    Ok(None)
}

/// Why `directory.bin` is not taken.
#[derive(Debug)]
pub(crate) struct Offered {
    /// What to tell.
    pub(crate) failure: Failure,
    /// It is merely older.
    pub(crate) rolled_back: bool,
}

impl From<Failure> for Offered {
    fn from(failure: Failure) -> Self {
        Self { failure, rolled_back: false }
    }
}

/// What `directory.bin` adds to the directory in force: none if nothing. Durable when this returns.
pub(crate) fn offered(folder: &Folder, in_force: &Directory) -> Result<Option<Directory>, Offered> {
    if !folder.path(DIRECTORY).exists() {
        return Ok(None);
    }
    let bytes = directory_bytes(folder)?;
    if bytes == in_force.bytes() {
        return Ok(None);
    }
    let steps = steps(folder, in_force.roster().version, &bytes)?;
    let next = in_force.merge(&bytes, &steps).map_err(|error| Offered {
        rolled_back: matches!(error, SuccessionError::RosterRolledBack { .. }),
        failure: not_the_next(&error),
    })?;
    if next.bytes() == in_force.bytes() {
        return Ok(None);
    }
    keep(folder, &next)?;
    Ok(Some(next))
}

fn directory_bytes(folder: &Folder) -> Result<Bytes, Failure> {
    folder.read(DIRECTORY, limits::DIRECTORY_BYTES_MAX as u64, ADVICE)
}

/// Remembers a directory. If the power fails in between, one of the two files is what the mark speaks of.
pub(crate) fn keep(folder: &Folder, directory: &Directory) -> Result<(), Failure> {
    let (next, mark, current) = (folder.path(NEXT), folder.path(MARK), folder.path(CURRENT));
    let failed = |path: &std::path::Path, error: &std::io::Error| Failure::file("write", path, error);
    files::replace(&next, directory.bytes()).map_err(|error| failed(&next, &error))?;
    files::replace(&mark, &directory.high_water().encode()).map_err(|error| failed(&mark, &error))?;
    files::rename(&next, &current).map_err(|error| failed(&current, &error))
}

/// Signed rosters above version `from` and below that of `last`, from the files in `rosters`, in order. What is no
/// directory is left out; whether the rest is true is checked by whoever walks it.
fn steps(folder: &Folder, from: u64, last: &Bytes) -> Result<Vec<Bytes>, Failure> {
    let path = folder.path(ROSTERS);
    let Some((to, _)) = roster_of(last) else { return Ok(Vec::new()) };
    if to <= from.saturating_add(1) || !path.is_dir() {
        return Ok(Vec::new());
    }
    let failed = |error: std::io::Error| Failure::file("read", &path, &error);
    let mut found = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir(&path).map_err(failed)?.take(ROSTERS_MAX) {
        let file = entry.map_err(failed)?.path();
        let bytes = files::read(&file, limits::DIRECTORY_BYTES_MAX as u64).map_err(failed)?;
        if let Some((version, roster)) = roster_of(&Bytes::from(bytes))
            && (from.saturating_add(1)..to).contains(&version)
        {
            found.insert(version, roster);
        }
    }
    Ok(found.into_values().collect())
}

/// Version and bytes of the signed roster in a directory file. Nothing of it is verified.
fn roster_of(bytes: &Bytes) -> Option<(u64, Bytes)> {
    let bundle: DirectoryBundle = canonical::decode(bytes, limits::DIRECTORY_BYTES_MAX).ok()?;
    let signed: SignedRoster = canonical::decode(&bundle.roster, limits::ROSTER_BYTES_MAX).ok()?;
    let roster: Roster = canonical::decode(&signed.roster, limits::ROSTER_BYTES_MAX).ok()?;
    Some((roster.version, bundle.roster))
}

fn refused(error: &dyn std::fmt::Display) -> Failure {
    let message = format!("directory.bin is not believed: {error}; get it again from the region authority");
    Failure::new(Code::NotSetUp, message)
}

fn not_the_next(error: &SuccessionError) -> Failure {
    let advice = match error {
        SuccessionError::StepMissing { .. } => {
            "put the directory.bin files in between, under any names, into the folder `rosters` beside it"
        }
        SuccessionError::Directory(_) => "get it again from the region authority",
        SuccessionError::RosterRolledBack { .. }
        | SuccessionError::RosterEquivocation { .. }
        | SuccessionError::RosterFork { .. }
        | SuccessionError::MemberGone { .. }
        | SuccessionError::MemberReturned { .. }
        | SuccessionError::LogReturned { .. }
        | SuccessionError::LogKey { .. }
        | SuccessionError::Loosened { .. }
        | SuccessionError::Agency { .. }
        | SuccessionError::NotConfirmed { .. } => {
            "put the newest directory.bin of the region authority in its place; what was believed before is \
             remembered in directory.mark, which must stay"
        }
    };
    Failure::new(Code::NotSetUp, format_args!("directory.bin is not believed: {error}; {advice}"))
}
