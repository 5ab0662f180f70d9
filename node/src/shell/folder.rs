//! The data folder: where everything lies, who has it, and what the operator set.
//!
//! | name | what |
//! |---|---|
//! | `node.toml` | settings |
//! | `bootstrap.toml` | keys of the region authorities, compared by hand |
//! | `directory.bin` | the signed directory, from the region authority; the first one, and a way in for others |
//! | `directory.current` | the directory in force, written by the node alone |
//! | `directory.mark` | what was believed last, so that nothing older is |
//! | `rosters/` | if versions were missed: the directory.bin files in between |
//! | `node.keys` | secret keys, sealed |
//! | `identity.key` | seed of the identity key, sealed; to be moved offline |
//! | `join-request.bin` | for the region authority |
//! | `revocation.bin`, `revocation.txt` | takes the agency out when all else is lost; to be moved offline |
//! | `keyset.bin` | of a node that took the place of another: for the broker |
//! | `keysets/` | keysets of others, to be brought to the broker |
//! | `policy/` | every version of the agency's release policy |
//! | `seen/` | rosters and keysets under which something kept was signed, for evidence |
//! | `witness/` | of each root log the largest verified checkpoint |
//! | `attested` | which directories the audit log has attested |
//! | `journal/` | packets, receipts, evidence |
//! | `blobs/out`, `blobs/in` | attachments, sealed, by blob id |
//! | `control.sock` | where a daemon answers commands |
//! | `lock` | held by the one process that uses the folder |

use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use lintas_config::settings::NodeSettings;

use super::{
    failure::{Code, Failure, why},
    files,
};

const SETTINGS_BYTES_MAX: u64 = 64 * 1024;

/// Paths of the data folder.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    root: PathBuf,
}

/// The lock of the data folder, held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Folder {
    /// The folder at `root`, which may not be there yet.
    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The folder itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A file or folder in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// A blob of a packet of ours, by blob id in hex.
    pub(crate) fn blob_out(&self, id: &str) -> PathBuf {
        self.root.join("blobs/out").join(id)
    }

    /// A blob of a received packet.
    pub(crate) fn blob_in(&self, id: &str) -> PathBuf {
        self.root.join("blobs/in").join(id)
    }

    /// Where a daemon answers.
    pub(crate) fn socket(&self) -> PathBuf {
        self.path("control.sock")
    }

    /// Refuses a folder that is none, or that others may enter.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if !self.path("node.toml").exists() {
            let root = self.root.display();
            let message = format!("`{root}` is no data folder of a node; make one with `lintas init`");
            return Err(Failure::new(Code::NotSetUp, message));
        }
        files::check_private(&self.root).map_err(|error| {
            let message = format!("the data folder `{}` cannot be used: {error}", self.root.display());
            Failure::new(Code::NotSetUp, message)
        })
    }

    /// Takes the lock.
    pub(crate) fn lock(&self) -> Result<Lock, Failure> {
        let path = self.path("lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.map_err(|error| Failure::file("open", &path, &error))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Failure::new(
                Code::InUse,
                "another lintas process is using this data folder; wait until it is done and try again",
            )),
            Err(TryLockError::Error(error)) => Err(Failure::file("lock", &path, &error)),
        }
    }

    /// Reads `node.toml`.
    pub(crate) fn settings(&self) -> Result<NodeSettings, Failure> {
        let text = self.text("node.toml", "make the folder with `lintas init`")?;
        NodeSettings::parse(&text)
            .map_err(|error| Failure::new(Code::NotSetUp, format_args!("node.toml, {error}; mend it")))
    }

    /// Reads a file that must be there.
    pub(crate) fn read(&self, name: &str, max: u64, advice: &str) -> Result<Bytes, Failure> {
        let path = self.path(name);
        files::read(&path, max).map(Bytes::from).map_err(|error| {
            let message = format!("cannot read `{}`: {}; {advice}", path.display(), why(&error));
            Failure::new(Code::NotSetUp, message)
        })
    }

    /// Reads a text file that must be there.
    pub(crate) fn text(&self, name: &str, advice: &str) -> Result<String, Failure> {
        let bytes = self.read(name, SETTINGS_BYTES_MAX, advice)?;
        String::from_utf8(bytes.to_vec())
            .map_err(|_| Failure::new(Code::NotSetUp, format_args!("`{name}` is not text; {advice}")))
    }
}
