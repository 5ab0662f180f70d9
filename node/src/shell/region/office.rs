//! An office's folder.
//!
//! | name | what |
//! |---|---|
//! | `authority.key` | the office's secret key, sealed |
//! | `authority.pub` | its name and public key, for the other offices |
//! | `signed.mark` | what it signed last, so that it never signs two rosters of one version |
//! | `directory.mark` | the directory that it saw last, so that it signs nothing that does not follow |
//! | `bootstrap.toml` | optional: who may sign, for an office that has seen no directory yet |
//! | `lock` | held by the one process that uses the folder |

use std::path::{Path, PathBuf};

use bytes::Bytes;
use lintas_config::{
    Directory, SuccessionError,
    authority::{Office, Proposal, SignedMark},
    issue::{fresh_seed, seed},
    os_entropy,
};
use lintas_proto::{
    limits,
    sign::{KeyRole, SigningKey, VerifyingKey},
};

use super::files::{self, BOOTSTRAP, HISTORY};
use crate::{
    core::{
        keys::{Holds, lock_file, open_file},
        vault::Wrapping,
    },
    shell::{
        failure::{Code, Failure},
        files::{check_private, private_folder, write_new},
        folder::{Folder, Lock},
        unlock::{new_unlocker, unlocker},
    },
};

const KEY: &str = "authority.key";
const PUBLIC: &str = "authority.pub";
const SIGNED: &str = "signed.mark";
const SEEN: &str = "directory.mark";

/// An office's folder in use.
pub(crate) struct OfficeFolder {
    folder: Folder,
    /// Name and public key.
    pub(crate) office: Office,
    _lock: Lock,
}

/// Makes an office's key, or nothing. The office, and the path of its public key.
pub(crate) fn make(
    folder: &Folder,
    name: &str,
    key_file: Option<&Path>,
) -> Result<(Office, PathBuf), Failure> {
    if [KEY, PUBLIC, SIGNED, SEEN, "node.keys"].iter().any(|name| folder.path(name).exists()) {
        let message = format!(
            "`{}` already holds an office or a node, and nothing was changed; name a new folder",
            folder.root().display()
        );
        return Err(Failure::new(Code::NotSetUp, message));
    }
    let mut entropy = os_entropy();
    let seed = fresh_seed(&mut entropy);
    let key = SigningKey::from_seed(KeyRole::Authority, &seed).map_err(Failure::internal)?;
    let key = VerifyingKey::parse(&key.public_key()).map_err(Failure::internal)?;
    let office = Office { name: name.to_owned(), key };
    let public = office.to_text().map_err(|error| Failure::new(Code::Usage, error))?;
    let unlocker = new_unlocker(key_file, &mut entropy)?;
    let sealed = Wrapping::new(&unlocker, &mut entropy)
        .and_then(|with| lock_file(Holds::Authority, seed.as_ref(), &with, &mut entropy))
        .map_err(Failure::internal)?;
    private_folder(folder.root()).map_err(|error| Failure::file("make the folder", folder.root(), &error))?;
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path(name);
        write_new(&path, bytes).map_err(|error| Failure::file("write", &path, &error))
    };
    write(KEY, &sealed)?;
    write(SIGNED, SignedMark::default().to_text().as_bytes())?;
    // Last: with it the folder counts as one.
    write(PUBLIC, public.as_bytes())?;
    Ok((office, folder.path(PUBLIC)))
}

impl OfficeFolder {
    /// Opens a folder that [`make`] made. No other process uses it until this is dropped.
    pub(crate) fn open(folder: &Folder) -> Result<Self, Failure> {
        let public = folder.path(PUBLIC);
        if !public.exists() {
            let root = folder.root().display();
            let message = format!("`{root}` is no folder of an office; make one with `lintas region office`");
            return Err(Failure::new(Code::NotSetUp, message));
        }
        check_private(folder.root()).map_err(|error| {
            let message = format!("the folder `{}` cannot be used: {error}", folder.root().display());
            Failure::new(Code::NotSetUp, message)
        })?;
        let lock = folder.lock()?;
        Ok(Self { folder: folder.clone(), office: files::office(&public)?, _lock: lock })
    }

    /// The directory that a proposal shall follow, which must be the one that this office saw last, or follow it.
    /// It is remembered before this returns.
    pub(crate) fn predecessor(
        &self,
        against: &Path,
        history: Option<&Path>,
        bootstrap: Option<&Path>,
    ) -> Result<Directory, Failure> {
        let bytes = files::directory_bytes(against)?;
        let version = Proposal::parse(&bytes).map_err(|error| files::unusable(against, &error))?;
        let version = version.roster().version;
        let beside = against.with_file_name(HISTORY);
        let history = history.unwrap_or(&beside);
        let seen = self.folder.path(SEEN);
        let directory = if seen.exists() {
            let mark = files::mark(&seen)?;
            let steps = files::steps(history, mark.roster_version(), version)?;
            Directory::resume(&bytes, &steps, &mark).map_err(|error| refused(against, &error))?
        } else if self.signed()?.is_of(&self_vouched(against)?.1) {
            // This very roster was reviewed and signed here.
            self_vouched(against)?.0
        } else {
            let own = self.folder.path(BOOTSTRAP);
            let vouches = bootstrap.or(own.exists().then_some(own.as_path())).ok_or_else(|| {
                let message = "this office has seen no directory of the region yet, so it cannot tell a false one: \
                               give --bootstrap FILE, whose words were compared with another office by another way";
                Failure::new(Code::NotSetUp, message)
            })?;
            files::directory(against, Some(vouches))?
        };
        files::replace(&seen, &directory.high_water().encode())?;
        Ok(directory)
    }

    /// Whether this office has seen a directory of its region.
    pub(crate) fn has_seen(&self) -> bool {
        self.folder.path(SEEN).exists()
    }

    fn signed(&self) -> Result<SignedMark, Failure> {
        let text = self.folder.text(
            SIGNED,
            "without it this office does not know what it signed, and signs nothing; restore it from the newest copy",
        )?;
        SignedMark::parse(&text).map_err(|error| Failure::new(Code::NotSetUp, error))
    }

    /// Refuses what this office must not sign, after what it signed before.
    pub(crate) fn may_sign(&self, proposal: &Proposal) -> Result<SignedMark, Failure> {
        let roster = proposal.roster();
        self.signed()?
            .sign(&roster.region, roster.version, &proposal.hash())
            .map_err(|problem| Failure::new(Code::Forbidden, problem))
    }

    /// Signs. What is signed is remembered before the signature exists.
    pub(crate) fn sign(&self, proposal: &mut Proposal, key_file: Option<&Path>) -> Result<(), Failure> {
        let mark = self.may_sign(proposal)?;
        let key = self.key(key_file)?;
        files::replace(&self.folder.path(SIGNED), mark.to_text().as_bytes())?;
        proposal.sign(&key);
        Ok(())
    }

    fn key(&self, key_file: Option<&Path>) -> Result<SigningKey, Failure> {
        let advice = "restore it from a copy";
        let file: Bytes = self.folder.read(KEY, limits::KEYSET_BYTES_MAX as u64, advice)?;
        let unlocker = unlocker(key_file)?;
        let (_, plain) = open_file(Holds::Authority, &file, &unlocker)
            .map_err(|error| Failure::new(Code::Locked, format_args!("{KEY}: {error}")))?;
        let seed = seed("authority", &plain).map_err(|error| Failure::new(Code::NotSetUp, error))?;
        let key = SigningKey::from_seed(KeyRole::Authority, &seed)
            .map_err(|error| Failure::new(Code::NotSetUp, error))?;
        if key.public_key() != *self.office.key.as_bytes() {
            let message = "authority.key and authority.pub are not of one office; restore both from a copy";
            return Err(Failure::new(Code::NotSetUp, message));
        }
        Ok(key)
    }
}

/// A directory on the word of the authorities that it names, and the hash of its roster.
fn self_vouched(path: &Path) -> Result<(Directory, lintas_proto::id::Digest), Failure> {
    let directory = files::directory(path, None)?;
    let hash = *directory.roster_hash();
    Ok((directory, hash))
}

fn refused(path: &Path, error: &SuccessionError) -> Failure {
    let advice = match error {
        SuccessionError::StepMissing { .. } => {
            "; give the folder `history` of the published directories with --history"
        }
        SuccessionError::Directory(_)
        | SuccessionError::RosterRolledBack { .. }
        | SuccessionError::RosterEquivocation { .. }
        | SuccessionError::RosterFork { .. }
        | SuccessionError::MemberGone { .. }
        | SuccessionError::MemberReturned { .. }
        | SuccessionError::LogReturned { .. }
        | SuccessionError::LogKey { .. }
        | SuccessionError::Loosened { .. }
        | SuccessionError::Agency { .. }
        | SuccessionError::NotConfirmed { .. } => "; give the newest directory.bin that was published",
    };
    let message = format!("`{}` does not follow what this office saw last: {error}{advice}", path.display());
    Failure::new(Code::Forbidden, message)
}
