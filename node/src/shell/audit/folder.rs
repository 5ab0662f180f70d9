//! A root log and the sub-logs under it, as files: `<mirror>/<log name>/audit/`, or a broker's `audit/<number>/`.

use std::{
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use lintas_config::{Bootstrap, Directory};
use lintas_proto::{
    audit::{files::LogFile, note::SignedCheckpoint},
    canonical,
    id::{check_code, check_name},
    limits,
    schema::{DirectoryBundle, Roster, SignedRoster},
};

use crate::{
    core::audit::{
        anchor::Trust,
        source::{LogFiles, Owner},
    },
    shell::{
        failure::{Code, Failure},
        files,
        folder::Folder,
        trust,
    },
};

/// Where an interrupted scan keeps how far it was.
const STATE: &str = "verified";
/// Says that a folder is an extract.
pub(crate) const EXTRACT: &str = "extract";
/// Longest state, bytes.
const STATE_BYTES_MAX: u64 = 1 << 30;

/// The folder of a root log.
#[derive(Debug, Clone)]
pub(crate) struct LogFolder {
    root: PathBuf,
    /// It is within a mirror of ours, where a state may be kept.
    pub(crate) mirror: bool,
}

impl LogFiles for LogFolder {
    fn read(
        &self,
        owner: Owner<'_>,
        file: LogFile,
        offset: u64,
        length: u64,
    ) -> Result<Option<Bytes>, String> {
        let mut open = match std::fs::File::open(self.place(owner, file)) {
            Ok(open) => open,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let mut bytes = Vec::new();
        let seek = open.seek(SeekFrom::Start(offset));
        let read = seek.and_then(|_| open.take(length).read_to_end(&mut bytes));
        read.map(|_| Some(bytes.into())).map_err(|error| error.to_string())
    }
}

impl LogFolder {
    /// The folder of a root log.
    pub(crate) fn at(root: PathBuf, mirror: bool) -> Self {
        Self { root, mirror }
    }

    /// The log of that name in a mirror.
    pub(crate) fn in_mirror(mirror: &Path, log_name: &str) -> Self {
        Self::at(mirror.join(log_name).join("audit"), true)
    }

    /// Where a file lies.
    pub(crate) fn path(&self, owner: Owner<'_>, file: LogFile) -> PathBuf {
        let folder = owner.map_or_else(|| self.root.clone(), |agency| self.root.join(agency));
        let path = folder.join(file.to_string());
        match file {
            // A broker keeps each roster once, beside `audit/`.
            LogFile::Roster(version) if !self.mirror && !path.exists() => {
                let broker = self.root.join("../../rosters").join(format!("{version:06}.bin"));
                if broker.exists() { broker } else { path }
            }
            LogFile::Roster(_)
            | LogFile::Rosters
            | LogFile::Checkpoint
            | LogFile::Tile(_)
            | LogFile::Entries(..)
            | LogFile::Slots(_)
            | LogFile::Cosigned(_)
            | LogFile::Openings(_)
            | LogFile::Keys(_)
            | LogFile::Sizes
            | LogFile::SlotKeys => path,
        }
    }

    /// Where a file is read from. A broker keeps the rosters beside `audit/`, for all of its logs.
    fn place(&self, owner: Owner<'_>, file: LogFile) -> PathBuf {
        let path = self.path(owner, file);
        let LogFile::Roster(version) = file else { return path };
        let kept =
            self.root.ancestors().nth(2).map(|data| data.join("rosters").join(format!("{version:06}.bin")));
        kept.filter(|kept| !self.mirror && !path.exists() && kept.exists()).unwrap_or(path)
    }

    /// Whether these files are an extract, made by `lintas audit export`: content of other events was left out. What
    /// lies in a mirror is none, whoever says so.
    pub(crate) fn is_extract(&self) -> bool {
        !self.mirror && self.root.join(EXTRACT).exists()
    }

    /// The folder itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Agencies whose sub-logs are here, in order.
    pub(crate) fn agencies(&self) -> Vec<String> {
        let found = std::fs::read_dir(&self.root).into_iter().flatten().flatten();
        let folders = found.filter(|entry| entry.path().is_dir());
        let names = folders.filter_map(|entry| entry.file_name().into_string().ok());
        let mut agencies: Vec<String> = names.filter(|name| check_code(name).is_ok()).collect();
        agencies.sort();
        agencies
    }

    /// What a checkpoint claims to be of.
    fn claimed(&self, agency: Option<&str>) -> Option<String> {
        let bytes = files::read(&self.path(agency, LogFile::Checkpoint), 4 << 10).ok()?;
        Some(SignedCheckpoint::parse(&bytes).ok()?.claim().origin.clone())
    }

    /// Origin of the root log: as its checkpoint says; if that is damaged, as those of the sub-logs say; else as the
    /// mirror's folder is called.
    fn read_origin(&self) -> Option<String> {
        let of_agency = |agency: &String| {
            let origin = self.claimed(Some(agency))?;
            origin.strip_suffix(agency.as_str())?.strip_suffix('/').map(str::to_owned)
        };
        let claimed = self.claimed(None).or_else(|| self.agencies().iter().find_map(of_agency));
        let called = || {
            let name = self.root.parent()?.file_name()?.to_str()?;
            check_name(name).is_ok().then(|| format!("{name}/audit"))
        };
        claimed.filter(|origin| !self.mirror || Some(origin) == called().as_ref()).or_else(called)
    }

    /// What an interrupted scan kept.
    pub(crate) fn state(&self) -> Option<Vec<u8>> {
        files::read(&self.root.join(STATE), STATE_BYTES_MAX).ok()
    }

    /// Keeps how far a scan is. Not in a folder that is not ours.
    pub(crate) fn keep_state(&self, state: &[u8]) -> io::Result<()> {
        if self.mirror { files::replace(&self.root.join(STATE), state) } else { Ok(()) }
    }

    /// A scan that has ended leaves nothing behind.
    pub(crate) fn forget_state(&self) {
        if self.mirror {
            let _ = std::fs::remove_file(self.root.join(STATE));
        }
    }
}

/// A log to look at, and what is believed.
pub(crate) struct Place {
    pub(crate) files: LogFolder,
    pub(crate) origin: String,
    pub(crate) trust: Believed,
    /// The directory has no bootstrap file behind it.
    pub(crate) on_your_word: bool,
}

/// As [`Trust`], owned.
pub(crate) enum Believed {
    Directory(Box<Directory>),
    Bootstrap(Box<Bootstrap>),
}

impl Place {
    /// What a scan believes.
    pub(crate) fn trust(&self) -> Trust<'_> {
        match &self.trust {
            Believed::Directory(directory) => Trust::Directory(directory),
            Believed::Bootstrap(bootstrap) => Trust::Bootstrap(bootstrap),
        }
    }

    /// The log in `from`, or in the mirror of a data folder. With several, the one called `log`, else the one that the
    /// directory says is in use.
    pub(crate) fn find(
        from: Option<&Path>,
        data: Option<&Folder>,
        (directory, bootstrap): (Option<&Path>, Option<&Path>),
        log: Option<&str>,
    ) -> Result<Self, Failure> {
        let (trust, on_your_word) = believe(directory, bootstrap, data)?;
        let root = match (from, data) {
            (Some(from), _) => from.to_owned(),
            (None, Some(data)) => data.path("audit"),
            (None, None) => {
                let message =
                    "which log? give --from DIR, or the data folder of a node (--data, LINTAS_DATA)";
                return Err(Failure::new(Code::Usage, message));
            }
        };
        let mut found: Vec<(LogFolder, String)> = Vec::new();
        for folder in candidates(&root) {
            if let Some(origin) = folder.read_origin() {
                found.push((folder, origin));
            }
        }
        let named = |origin: &str| log.is_none_or(|log| origin == log || origin == format!("{log}/audit"));
        found.retain(|(_, origin)| named(origin));
        if found.len() > 1
            && let Believed::Directory(directory) = &trust
        {
            let in_use =
                |origin: &str| directory.brokers().iter().any(|broker| broker.root_origin() == origin);
            if found.iter().filter(|(_, origin)| in_use(origin)).count() == 1 {
                found.retain(|(_, origin)| in_use(origin));
            }
        }
        let names: Vec<String> = found.iter().map(|(_, origin)| origin.clone()).collect();
        let mut found = found.into_iter();
        match (found.next(), found.next()) {
            (Some((files, origin)), None) => Ok(Self { files, origin, trust, on_your_word }),
            (None, _) => {
                let message = format!(
                    "there is no audit log in `{}`; mirror one with `lintas audit mirror`, or give another --from",
                    root.display()
                );
                Err(Failure::new(Code::NotFound, message))
            }
            (Some(_), Some(_)) => {
                let message = format!("several logs are there, say which with --log: {}", names.join(", "));
                Err(Failure::new(Code::Usage, message))
            }
        }
    }
}

/// Folders of root logs: the folder itself, those of a mirror, those of a broker.
fn candidates(root: &Path) -> Vec<LogFolder> {
    let is_log = |path: &Path| {
        [LogFile::Checkpoint, LogFile::Rosters].iter().any(|file| path.join(file.to_string()).exists())
            || path.join("tile").exists()
    };
    if is_log(root) {
        return vec![LogFolder::at(root.to_owned(), false)];
    }
    let mut children: Vec<PathBuf> = std::fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    children.sort();
    let mut found = Vec::new();
    for child in children {
        if is_log(&child.join("audit")) {
            found.push(LogFolder::at(child.join("audit"), true));
        } else if is_log(&child) {
            found.push(LogFolder::at(child, false));
        }
    }
    found
}

/// What the reader believes: a directory, else a bootstrap file, else what a node does. Whether it is on its word alone.
pub(crate) fn believe(
    directory: Option<&Path>,
    bootstrap: Option<&Path>,
    data: Option<&Folder>,
) -> Result<(Believed, bool), Failure> {
    let bad = |error: &dyn std::fmt::Display| Failure::new(Code::NotSetUp, error);
    let read = |path: &Path, max: u64| {
        files::read(path, max).map(Bytes::from).map_err(|error| Failure::file("read", path, &error))
    };
    let bootstrap = bootstrap
        .map(|path| {
            let text = String::from_utf8(read(path, 64 * 1024)?.to_vec())
                .map_err(|_| bad(&"the bootstrap file is not text"))?;
            Bootstrap::parse(&text).map_err(|error| bad(&error))
        })
        .transpose()?;
    match (directory, bootstrap, data) {
        (Some(path), bootstrap, _) => {
            let bytes = read(path, limits::DIRECTORY_BYTES_MAX as u64)?;
            let on_your_word = bootstrap.is_none();
            let bootstrap = match bootstrap {
                Some(bootstrap) => bootstrap,
                None => Bootstrap::of(&roster(&bytes)?).map_err(|error| bad(&error))?,
            };
            let directory = Directory::open(&bytes, &bootstrap).map_err(|error| bad(&error))?;
            Ok((Believed::Directory(Box::new(directory)), on_your_word))
        }
        (None, Some(bootstrap), _) => Ok((Believed::Bootstrap(Box::new(bootstrap)), false)),
        (None, None, Some(data)) => {
            let directory = trust::look_only(data)?;
            Ok((Believed::Directory(Box::new(directory)), false))
        }
        (None, None, None) => Err(Failure::new(
            Code::Usage,
            "whom is the log to be checked against? give --directory FILE or --bootstrap FILE, or the data folder of a \
             node (--data, LINTAS_DATA)",
        )),
    }
}

fn roster(bundle: &Bytes) -> Result<Roster, Failure> {
    let bad =
        |error: canonical::DecodeError| Failure::new(Code::NotSetUp, format_args!("directory: {error}"));
    let bundle: DirectoryBundle = canonical::decode(bundle, limits::DIRECTORY_BYTES_MAX).map_err(bad)?;
    let signed: SignedRoster = canonical::decode(&bundle.roster, limits::ROSTER_BYTES_MAX).map_err(bad)?;
    canonical::decode(&signed.roster, limits::ROSTER_BYTES_MAX).map_err(bad)
}
