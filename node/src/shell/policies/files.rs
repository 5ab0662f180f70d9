//! `policy/` in the data folder: every version of the own agency's policy, one file each, never written twice, unless the broker
//! has refused it and so nobody else has it.
//!
//! | name | what |
//! |---|---|
//! | `000003.bin` | `SignedPolicyBundle`: version 3 |
//! | `000003.old` | the same, signed with keys that were replaced before this node was made: history, never in force here |
//!
//! What is read was verified when it was kept. Here its own signature and the chain of hashes are looked at again, because
//! a disk fails; whether its keys still count the directory said then, and says again to whoever takes one from the broker.

use std::{io, path::PathBuf};

use bytes::Bytes;
use lintas_proto::{
    canonical,
    id::{Digest, hex, sha256},
    limits,
    schema::{Delegation, PolicyBundle, SignedPolicyBundle},
    sign::{Signed, VerifyingKey},
};

use crate::shell::{
    failure::{Code, Failure, why},
    files,
    folder::Folder,
};

const FOLDER: &str = "policy";
const BELIEVED: &str = "bin";
const HISTORY: &str = "old";
/// Most versions of one agency.
pub(crate) const VERSIONS_MAX: usize = 4_096;

/// One version, without its texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    /// Region and agency.
    pub(crate) region: String,
    pub(crate) owner: String,
    pub(crate) version: u64,
    /// Of the version before; empty in the first.
    pub(crate) prev_hash: Bytes,
    /// SHA-256 of the canonical bytes of its `PolicyBundle`.
    pub(crate) hash: Digest,
    pub(crate) not_before_ms: u64,
    pub(crate) note: String,
    /// Version of the delegation under which it was signed.
    pub(crate) delegation: u64,
    /// It may be in force here.
    pub(crate) believed: bool,
}

impl Version {
    /// Reads a bundle, and checks that the key that it names has signed it. Whose key that is, it does not.
    pub(crate) fn read(bytes: &Bytes) -> Result<(Self, PolicyBundle), String> {
        let words = |error: canonical::DecodeError| error.to_string();
        let signed: SignedPolicyBundle =
            canonical::decode(bytes, limits::POLICY_BUNDLE_BYTES_MAX).map_err(words)?;
        let said: PolicyBundle =
            canonical::decode(&signed.bundle, limits::POLICY_BUNDLE_BYTES_MAX).map_err(words)?;
        let delegation: Delegation =
            canonical::decode(&signed.delegation, limits::KEYSET_BYTES_MAX).map_err(words)?;
        let key = VerifyingKey::parse(&delegation.delegate_key).map_err(|error| error.to_string())?;
        key.verify(Signed::PolicyBundle, &signed.bundle, &signed.bundle_signature)
            .map_err(|_| "its signature does not fit".to_owned())?;
        let version = Self {
            region: said.region.clone(),
            owner: said.owner.clone(),
            version: said.version,
            prev_hash: said.prev_hash.clone(),
            hash: sha256(&[&signed.bundle]),
            not_before_ms: said.not_before_ms,
            note: said.note.clone(),
            delegation: delegation.version,
            believed: true,
        };
        Ok((version, said))
    }

    /// Whether it may come after `before`.
    pub(crate) fn follows(&self, before: &Self) -> Result<(), String> {
        let (have, known) = (self.version, before.version);
        if have != known.saturating_add(1) {
            return Err(format!("version {have} does not follow version {known}: one is missing"));
        }
        if self.prev_hash.as_ref() != before.hash {
            return Err(format!(
                "version {have} follows another version {known}: it names {}, and version {known} here is {}",
                hex(&self.prev_hash),
                hex(&before.hash)
            ));
        }
        if self.not_before_ms < before.not_before_ms {
            return Err(format!("version {have} would be in force before version {known}"));
        }
        if (&self.region, &self.owner) == (&before.region, &before.owner) {
            return Ok(());
        }
        Err(format!("version {have} is {}'s, version {known} {}'s", self.owner, before.owner))
    }
}

/// Where a version lies.
fn path(folder: &Folder, version: u64, believed: bool) -> PathBuf {
    let ending = if believed { BELIEVED } else { HISTORY };
    folder.path(FOLDER).join(format!("{version:06}.{ending}"))
}

/// All versions, in order, checked.
pub(crate) fn versions(folder: &Folder) -> Result<Vec<Version>, Failure> {
    let root = folder.path(FOLDER);
    let entries = match std::fs::read_dir(&root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Failure::file("read", &root, &error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let found = entry.map_err(|error| Failure::file("read", &root, &error))?.path();
        let number = found.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
        let ending = found.extension().and_then(|ending| ending.to_str());
        let believed = ending == Some(BELIEVED);
        names.extend(number.filter(|_| believed || ending == Some(HISTORY)).map(|at| (at, believed)));
    }
    names.sort_unstable();
    if names.len() > VERSIONS_MAX {
        return Err(damaged(&root, &format!("it holds more than {VERSIONS_MAX} versions")));
    }
    let mut versions: Vec<Version> = Vec::with_capacity(names.len());
    for (number, believed) in names {
        let path = path(folder, number, believed);
        let (mut version, _) = Version::read(&bytes_of(&path)?).map_err(|why| damaged(&path, &why))?;
        if version.version != number {
            return Err(damaged(&path, &format!("it is version {}", version.version)));
        }
        version.believed = believed;
        if let Some(before) = versions.last() {
            version.follows(before).map_err(|why| damaged(&path, &why))?;
        }
        versions.push(version);
    }
    Ok(versions)
}

/// The bytes of one version, as they were when `version` was read.
pub(crate) fn bytes(folder: &Folder, version: &Version) -> Result<Bytes, Failure> {
    let path = path(folder, version.version, version.believed);
    let bytes = bytes_of(&path)?;
    match Version::read(&bytes) {
        Ok((read, _)) if read.hash == version.hash => Ok(bytes),
        Ok(_) => Err(damaged(&path, "it has been changed")),
        Err(why) => Err(damaged(&path, &why)),
    }
}

/// What one version says.
pub(crate) fn said(folder: &Folder, version: &Version) -> Result<PolicyBundle, Failure> {
    let read = Version::read(&bytes(folder, version)?);
    read.map(|(_, said)| said).map_err(Failure::internal)
}

/// Keeps one more version, in the place of those in `over`: durable when this returns.
pub(crate) fn keep(
    folder: &Folder,
    version: &Version,
    bytes: &[u8],
    over: &[Version],
) -> Result<(), Failure> {
    let root = folder.path(FOLDER);
    files::private_folder(&root).map_err(|error| Failure::file("make", &root, &error))?;
    let target = path(folder, version.version, version.believed);
    let failed = |error: io::Error| not_kept(&target, &error);
    // What a process that was cut off in the middle left.
    files::wipe_leftovers(&target).map_err(failed)?;
    // The last one first: what is left is a chain at any moment.
    for later in over.iter().skip(1).rev() {
        files::remove(&path(folder, later.version, later.believed)).map_err(failed)?;
    }
    if !over.is_empty() {
        return files::replace(&target, bytes).map_err(failed);
    }
    let free = !target.exists();
    files::write_new(&target, bytes).map_err(|error| {
        // It has its name, and whether that lasts is not known: nobody is to find later what was never published.
        if free {
            let _ = files::remove(&target);
        }
        failed(error)
    })
}

fn not_kept(path: &std::path::Path, error: &io::Error) -> Failure {
    let message = format!(
        "`{}` cannot be written: {}. Make room, or look at the disk, and try again; the policy in force stays in force",
        path.display(),
        why(error)
    );
    Failure::new(Code::Storage, message)
}

fn bytes_of(path: &std::path::Path) -> Result<Bytes, Failure> {
    files::read(path, limits::POLICY_BUNDLE_BYTES_MAX as u64)
        .map(Bytes::from)
        .map_err(|error| damaged(path, &format!("cannot be read: {}", why(&error))))
}

fn damaged(path: &std::path::Path, what: &str) -> Failure {
    let message = format!(
        "`{}` is damaged or is not the one that was kept: {what}. Put it back from a copy; or, if the broker has this \
         agency's policy, move the folder `{FOLDER}` of the data folder away: the running node fetches it from there, and \
         sends and takes nothing before",
        path.display()
    );
    Failure::new(Code::Storage, message)
}
