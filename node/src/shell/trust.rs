//! The directory on disk, and the mark that keeps anything older from taking its place.
//!
//! `directory.bin` is put there by the operator; `directory.mark` is written by the node alone, after the bytes it
//! speaks of were accepted and are durable. Without a mark the directory is the first one, and `bootstrap.toml`
//! vouches for it; with a mark it must be the one of the mark, or follow it.

use bytes::Bytes;
use lintas_config::{Bootstrap, Directory, HighWater, SuccessionError};
use lintas_proto::{
    canonical, limits,
    schema::{DirectoryBundle, Roster, SignedRoster},
};

use super::{
    failure::{Code, Failure},
    files,
    folder::Folder,
};

const DIRECTORY: &str = "directory.bin";
const MARK: &str = "directory.mark";
const ROSTERS: &str = "rosters";
/// Longest mark: as many agencies as a roster can name, 180 bytes each.
const MARK_BYTES_MAX: u64 = 2 << 20;
/// Most files looked at in `rosters`.
const ROSTERS_MAX: usize = 4_096;
const ADVICE: &str = "get it from the region authority after it has taken join-request.bin";

/// What tells one `directory.bin` from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look(Option<(std::time::SystemTime, u64)>);

/// Looks at `directory.bin`.
pub(crate) fn look(folder: &Folder) -> Look {
    let found = std::fs::metadata(folder.path(DIRECTORY));
    Look(found.ok().and_then(|found| Some((found.modified().ok()?, found.len()))))
}

/// The directory of a folder that is opened; its mark is durable when this returns.
pub(crate) fn open(folder: &Folder) -> Result<Directory, Failure> {
    let bytes = directory_bytes(folder)?;
    let marked = match files::read(&folder.path(MARK), MARK_BYTES_MAX) {
        Ok(mark) => Some(HighWater::decode(&mark).map_err(|error| refused(&error))?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(Failure::file("read", &folder.path(MARK), &error)),
    };
    let directory = match &marked {
        Some(mark) => {
            let steps = steps(folder, mark.roster_version(), &bytes)?;
            Directory::resume(&bytes, &steps, mark).map_err(|error| not_the_next(&error))?
        }
        None => {
            let bootstrap = Bootstrap::parse(&folder.text("bootstrap.toml", ADVICE)?)
                .map_err(|error| Failure::new(Code::NotSetUp, error))?;
            Directory::open(&bytes, &bootstrap).map_err(|error| refused(&error))?
        }
    };
    if marked.as_ref() != Some(directory.high_water()) {
        keep_mark(folder, &directory)?;
    }
    Ok(directory)
}

/// The directory that follows the one in force, as `directory.bin` has it now; none if it is the same. Its mark is
/// durable when this returns.
pub(crate) fn next(folder: &Folder, in_force: &Directory) -> Result<Option<Directory>, Failure> {
    let bytes = directory_bytes(folder)?;
    if bytes == in_force.bytes() {
        return Ok(None);
    }
    let steps = steps(folder, in_force.roster().version, &bytes)?;
    let next = in_force.succeed(&bytes, &steps).map_err(|error| not_the_next(&error))?;
    keep_mark(folder, &next)?;
    Ok(Some(next))
}

fn directory_bytes(folder: &Folder) -> Result<Bytes, Failure> {
    folder.read(DIRECTORY, limits::DIRECTORY_BYTES_MAX as u64, ADVICE)
}

/// Remembers a directory. First the bytes, then the mark: if the power fails in between, the bytes follow the mark that is there.
pub(crate) fn keep_mark(folder: &Folder, directory: &Directory) -> Result<(), Failure> {
    let (bytes, mark) = (folder.path(DIRECTORY), folder.path(MARK));
    files::sync(&bytes).map_err(|error| Failure::file("sync", &bytes, &error))?;
    files::replace(&mark, &directory.high_water().encode())
        .map_err(|error| Failure::file("write", &mark, &error))
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
        | SuccessionError::Agency { .. }
        | SuccessionError::NotConfirmed { .. } => {
            "put the newest directory.bin of the region authority in its place; what was believed before is \
             remembered in directory.mark, which must stay"
        }
    };
    Failure::new(Code::NotSetUp, format_args!("directory.bin is not believed: {error}; {advice}"))
}
