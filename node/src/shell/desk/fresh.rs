//! Whether the directory in force is fresh: nobody is known to have a newer one, and the audit log attests it.

use std::sync::PoisonError;

use lintas_config::Directory;
use lintas_proto::audit::epoch::RootEntry;

use super::{Desk, send::WAIT_FOR_DIRECTORY};
use crate::{
    core::{
        health::Check,
        log::attested::{Attested, Unattested},
    },
    shell::{
        clock::{self, show as time},
        failure::Failure,
        files,
        folder::Folder,
    },
};

/// What the log attests, on disk.
const FILE: &str = "attested";
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// What to do while the log does not attest the directory here.
const WAIT_FOR_LOG: &str = "nothing new is sealed until it does: `lintas run` looks by itself while it is connected. If it goes on, \
                            ask the broker's operator, then the region authority; `lintas send --despite-stale` goes on \
                            without it";

/// People have just compared a first directory.
pub(crate) fn begin(folder: &Folder, directory: &Directory, now_ms: u64) -> Result<(), Failure> {
    write(folder, &mut Attested::begin(directory.hash(), now_ms))
}

/// What was known when the folder was used last. Without a file, people compared the first directory at `compared_ms`; a
/// damaged one attests nothing.
pub(super) fn open(folder: &Folder, directory: &Directory, compared_ms: u64) -> Result<Attested, Failure> {
    let path = folder.path(FILE);
    let mut attested = match files::read(&path, FILE_BYTES_MAX) {
        Ok(bytes) => Attested::parse(&bytes).unwrap_or_else(|| {
            tracing::warn!("the file `attested` is damaged; the audit log has to attest the directory again");
            Attested::begin(directory.hash(), 0)
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut attested = Attested::begin(directory.hash(), compared_ms);
            write(folder, &mut attested)?;
            attested
        }
        Err(error) => return Err(Failure::file("read", &path, &error)),
    };
    if attested.in_force(directory.hash(), clock::now_ms()) {
        write(folder, &mut attested)?;
    }
    Ok(attested)
}

fn write(folder: &Folder, attested: &mut Attested) -> Result<(), Failure> {
    let path = folder.path(FILE);
    files::replace(&path, &attested.encode()).map_err(|error| Failure::file("write", &path, &error))
}

impl Desk {
    /// This node has verified a root entry in a checkpoint that a quorum of witnesses had cosigned by `witnessed_at_ms`;
    /// where the region has no witnesses, in one that the broker has signed.
    pub(crate) fn note_attested(&self, entry: &RootEntry, witnessed_at_ms: u64) {
        self.attest(|attested| attested.note(entry, witnessed_at_ms, clock::now_ms()));
    }

    /// Another directory is in force.
    pub(super) fn note_in_force(&self, directory: &Directory) {
        self.attest(|attested| attested.in_force(directory.hash(), clock::now_ms()));
    }

    /// Changes what is known; writes it if `change` says so.
    fn attest(&self, change: impl FnOnce(&mut Attested) -> bool) {
        let mut attested = self.attested.lock().unwrap_or_else(PoisonError::into_inner);
        if change(&mut attested)
            && let Err(failure) = write(&self.folder, &mut attested)
        {
            // After a restart the log has to attest it again.
            tracing::warn!(%failure, "what the audit log attests was not written");
        }
    }

    fn attested(&self, now_ms: u64) -> Result<u64, Unattested> {
        self.attested.lock().unwrap_or_else(PoisonError::into_inner).check(now_ms)
    }

    /// Why nothing new is to be sealed under the directory in force, and what to do.
    pub(super) fn stale(&self) -> Option<String> {
        if let Some(behind) = self.behind() {
            return Some(format!("{behind}; {WAIT_FOR_DIRECTORY}"));
        }
        let now_ms = clock::now_ms();
        let found = self.unattested(self.attested(now_ms).err()?, now_ms);
        Some(format!("{found}; {WAIT_FOR_LOG}"))
    }

    fn unattested(&self, why: Unattested, now_ms: u64) -> String {
        let version = self.directory().roster().version;
        match why {
            Unattested::Old { at_ms: 0 } => format!(
                "the broker's audit log has never attested the directory here (roster version {version}), so nobody \
                 vouches that it is the newest"
            ),
            Unattested::Old { at_ms } if at_ms > now_ms => format!(
                "the file `attested` says that the directory here (roster version {version}) was last attested on {}, which is \
                 still to come: this machine's clock is wrong, or the file is damaged, so nobody vouches that the directory is \
                 the newest",
                time(at_ms)
            ),
            Unattested::Old { at_ms } => format!(
                "the directory here (roster version {version}) was last attested, by the broker's audit log or by those who \
                 compared the first one, on {}, more than 24 hours ago: nobody vouches that it is still the newest",
                time(at_ms)
            ),
            Unattested::Other { since_ms } => format!(
                "the broker's audit log attests another directory than the one here (roster version {version}), which \
                 has not been in the log since it came on {}",
                time(since_ms)
            ),
        }
    }

    /// For `lintas doctor`.
    pub(super) fn attestation(&self, now_ms: u64) -> Check {
        match self.attested(now_ms) {
            Ok(at_ms) => {
                let found = format!(
                    "the audit log, or those who compared the first directory, attested the directory here on {}",
                    time(at_ms)
                );
                if now_ms.saturating_sub(at_ms) > lintas_proto::limits::ATTESTED_WITHIN_MS / 2 {
                    let advice = "let `lintas run` connect: after 24 hours nothing new is sealed";
                    return Check::warning("directory_attested", found, advice);
                }
                Check::ok("directory_attested", found)
            }
            Err(why) => Check::wrong("directory_attested", self.unattested(why, now_ms), WAIT_FOR_LOG),
        }
    }
}
