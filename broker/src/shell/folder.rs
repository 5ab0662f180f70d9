//! A broker's data folder.
//!
//! | name | what |
//! |---|---|
//! | `broker.toml` | settings |
//! | `broker.keys` | secret keys (`BrokerSecrets`), readable by the operator only; none of them opens a packet |
//! | `broker.roster` | public keys for the region authority (`BrokerKeys`) |
//! | `bootstrap.toml` | the region authorities' keys |
//! | `directory.bin` | the operator's: the newest directory of the region authority (`DirectoryBundle`) |
//! | `directory-steps/*.bin` | the operator's: rosters that lead to `directory.bin`, if any were missed (`SignedRoster`) |
//! | `keysets/*.bin` | the operator's: keysets to take in (`SignedKeyset`) |
//! | `directory.current` | the directory in force (`DirectoryBundle`) |
//! | `directory.mark` | its high-water mark: no older one is taken |
//! | `directory.earlier` | directories that were in force, and that packets may name |
//! | `rosters/<version>.bin` | rosters that were in force (`SignedRoster`) |
//! | `policies/<agency>/<version>.bin` | release policies of the agencies (`SignedPolicyBundle`), the newest 64 of each |
//! | `policies.mark` | their high-water mark: no older one is taken, and none may be missing |
//! | `journal/` | everything durable |
//! | `journal.damaged` | what was found damaged in it while the broker ran: a start verifies all of it before anything else |
//! | `index/` | sled: an index over the journal, rebuilt at any doubt |
//! | `blobs/<agency>/` | ciphertext of attachments |
//! | `audit/<number>/` | the audit log, as others read it (docs/AUDIT.md); number of the log, from 1 |
//! | `audit/<number>/behind` | a checkpoint that this log does not contain: the broker runs on a restored backup |
//! | `audit/published` | how far it is published (SHA-256, then `PublishedLog`) |
//! | `broker.lock` | locked while a broker runs on the folder |

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use lintas_config::{
    DirectoryError, SuccessionError,
    clock::Reading,
    directory::MarkError,
    issue,
    settings::{BrokerSettings, SettingsError},
};
use lintas_proto::{
    canonical::{self, DecodeError},
    schema::{BrokerKeys, BrokerSecrets},
};
use thiserror::Error;
use zeroize::Zeroizing;

const DAMAGED: &str = "journal.damaged";
/// The operator's word that the clock is right.
const BELIEVED: &str = "clock.believed";

/// A data folder that cannot be used.
#[derive(Debug, Error)]
pub(crate) enum FolderError {
    /// A file that cannot be read or written.
    #[error("{}: {error}{}", path.display(), advice(path, error))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A broker lives there already.
    #[error("{0} holds a broker already; choose another folder")]
    Exists(PathBuf),
    /// Another broker runs on it.
    #[error("{0} is in use by another broker; stop that one first")]
    InUse(PathBuf),
    /// The settings cannot be used.
    #[error("{path}: {error}")]
    Settings {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: SettingsError,
    },
    /// The keys cannot be read.
    #[error("broker.keys: {0}; restore it from the backup")]
    Keys(#[from] DecodeError),
    /// A key cannot be made or used.
    #[error("broker.keys: {0}")]
    Issue(#[from] issue::IssueError),
    /// The directory cannot be used.
    #[error("{0}")]
    Directory(#[from] DirectoryError),
    /// The directory does not follow the one of the last start.
    #[error("directory.bin is not taken in place of the directory of the last start: {0}")]
    Succession(Box<SuccessionError>),
    /// The broker's own copy does not follow its mark.
    #[error(
        "directory.current cannot be used: {0}; restore it together with directory.mark, or move it away and put the \
         newest directory of the region authority into directory.bin"
    )]
    Current(Box<SuccessionError>),
    /// The mark cannot be read.
    #[error("directory.mark: {0}")]
    Mark(#[from] MarkError),
    /// A bundle of policies that is not there.
    #[error(
        "{} is missing, and the broker does not run without the policies that it answers for; restore it from the backup, or \
         ask {agency} for version {version} of its policies, as its node keeps it", path.display()
    )]
    PolicyMissing {
        /// Its file.
        path: PathBuf,
        /// Whose it is.
        agency: String,
        /// Its version.
        version: u64,
    },
    /// A bundle of policies that is not what it was.
    #[error(
        "{} is damaged: {what}; restore it from the backup, or ask the agency for that version of its policies, as its node \
         keeps it", path.display()
    )]
    PolicyDamaged {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The mark of the policies does not fit them.
    #[error("policies.mark {0}; restore it from the backup, together with the folder policies/")]
    PolicyMark(&'static str),
    /// The policies are older than what the audit log was told.
    #[error(
        "the audit log was told of policies of {agency} (SHA-256 {hash}) that are not in the folder policies/; restore it and \
         policies.mark as they were when the broker ran last, an older backup will not do"
    )]
    PolicyRolledBack {
        /// Whose they are.
        agency: String,
        /// Of the bundle.
        hash: String,
    },
    /// A file that changed while it was being sent.
    #[error("{0} has changed while it was being sent")]
    Changed(PathBuf),
    /// A file among the steps that is none.
    #[error("{0} is no roster, is not the one that it was, or is one too many; take it out")]
    Step(PathBuf),
}

/// What to do about a file that is not there.
fn advice(path: &Path, error: &io::Error) -> &'static str {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match (error.kind() == io::ErrorKind::NotFound, name.as_ref()) {
        (true, "broker.toml" | "broker.lock") => {
            "; name the folder of the broker with --data, or make one with `lintas-broker init`"
        }
        (true, "broker.keys") => "; restore it from the copy",
        (true, "bootstrap.toml" | "directory.bin") => {
            "; put the one that the region authority gives into the folder"
        }
        (true | false, _) => "",
    }
}

/// A broker's data folder.
#[derive(Debug, Clone)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.0.join("journal")
    }

    /// Whether damage was found in the journal that no start has seen mended.
    pub(crate) fn journal_was_damaged(&self) -> bool {
        self.0.join(DAMAGED).exists()
    }

    /// Damage was found: the next start verifies everything.
    pub(crate) fn journal_is_damaged(&self, what: &str) -> Result<(), FolderError> {
        replace(&self.0.join(DAMAGED), format!("{what}\n").as_bytes())
    }

    /// The journal was opened.
    pub(crate) fn journal_is_whole(&self) -> Result<(), FolderError> {
        let path = self.0.join(DAMAGED);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&path)(error)),
            _ => Ok(()),
        }
    }

    /// The operator has compared the machine's clock with another one: that it was right when it read this.
    pub(crate) fn believe_clock(&self, now: Reading) -> Result<(), FolderError> {
        let Reading { wall_ms, boot_ms } = now;
        replace(&self.0.join(BELIEVED), format!("{wall_ms} {boot_ms}\n").as_bytes())
    }

    /// Takes the operator's word on the clock, if there is one: it counts once.
    pub(crate) fn take_believed(&self) -> Result<Option<Reading>, FolderError> {
        let path = self.0.join(BELIEVED);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at(&path)(error)),
        };
        fs::remove_file(&path).map_err(at(&path))?;
        let said = text.trim_end().split_once(' ').and_then(|(wall, boot)| {
            Some(Reading { wall_ms: wall.parse().ok()?, boot_ms: boot.parse().ok()? })
        });
        said.map(Some).ok_or_else(|| {
            at(&path)(io::Error::other("it is not what `believe-clock` writes; give the word again"))
        })
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.0.join("index")
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.0.join("blobs")
    }

    /// The audit log, published.
    pub(crate) fn audit(&self) -> PathBuf {
        self.0.join("audit")
    }

    /// The root log with that number, from 1.
    pub(crate) fn audit_log(&self, number: usize) -> PathBuf {
        self.audit().join(number.to_string())
    }

    /// Makes keys and default settings; says what the region authority needs.
    /// With `log_of`, another broker's folder, its log key is that one's.
    pub(crate) fn create(
        &self,
        name: &str,
        listen: std::net::SocketAddr,
        log_of: Option<&Self>,
    ) -> Result<BrokerKeys, FolderError> {
        let keys = self.0.join("broker.keys");
        if keys.exists() {
            return Err(FolderError::Exists(self.0.clone()));
        }
        let mut entropy = lintas_config::os_entropy();
        let (secrets, public) = match log_of.map(Self::secrets).transpose()? {
            Some(before) => {
                issue::new_broker_with_log(name, &issue::seed("log", &before.log_seed)?, &mut entropy)?
            }
            None => issue::new_broker(name, &mut entropy)?,
        };
        for folder in [self.0.clone(), self.journal(), self.blobs()] {
            make_folder(&folder)?;
        }
        let settings = BrokerSettings::template(listen);
        write_new(&self.0.join("broker.toml"), settings.as_bytes())?;
        write_new(&self.0.join("broker.roster"), &canonical::encode(&public))?;
        write_new(&keys, &Zeroizing::new(canonical::encode(&secrets).to_vec()))?;
        Ok(public)
    }

    /// Takes the folder for this process, as long as the file lives. Whatever is opened afterwards is nobody else's.
    pub(crate) fn lock(&self) -> Result<File, FolderError> {
        let path = self.0.join("broker.lock");
        let mut open = OpenOptions::new();
        let file =
            open.write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(at(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(FolderError::InUse(self.0.clone())),
            Err(TryLockError::Error(error)) => Err(at(&path)(error)),
        }
    }

    /// As [`lock`](Self::lock), for who only looks: nothing is made. None if no broker has ever run here.
    pub(crate) fn look_lock(&self) -> Result<Option<File>, FolderError> {
        let path = self.0.join("broker.lock");
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(at(&path))?,
        };
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Err(FolderError::InUse(self.0.clone())),
            Err(TryLockError::Error(error)) => Err(at(&path)(error)),
        }
    }

    pub(crate) fn settings(&self) -> Result<BrokerSettings, FolderError> {
        let path = self.0.join("broker.toml");
        let text = fs::read_to_string(&path).map_err(at(&path))?;
        BrokerSettings::parse(&text).map_err(|error| FolderError::Settings { path, error })
    }

    pub(crate) fn secrets(&self) -> Result<BrokerSecrets, FolderError> {
        let path = self.0.join("broker.keys");
        let bytes = Bytes::from(fs::read(&path).map_err(at(&path))?);
        Ok(canonical::decode(&bytes, 4_096)?)
    }

    /// A file in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_owned();
    move |error| FolderError::Io { path, error }
}

/// A folder for the operator only.
pub(crate) fn make_folder(path: &Path) -> Result<(), FolderError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at(path))?;
    path.parent().map_or(Ok(()), |parent| sync_folder(parent).map_err(at(parent)))
}

/// A new file for the operator only, durable when this returns.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), FolderError> {
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        path.parent().map_or(Ok(()), sync_folder)
    };
    write().map_err(at(path))
}

/// A file in place of another or of none; durable when this returns. After a power cut either is there, whole.
#[allow(clippy::disallowed_methods, reason = "file and folder are synced around the rename")]
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), FolderError> {
    let part = path.with_extension("part");
    let write = || -> io::Result<()> {
        let mut open = OpenOptions::new();
        let mut file = open.write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)?;
        path.parent().map_or(Ok(()), sync_folder)
    };
    write().map_err(at(path))
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    File::open(path)?.sync_all()
}
