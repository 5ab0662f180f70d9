//! Files that are carried to and from the region authority.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use lintas_config::{
    Bootstrap, Directory, HighWater,
    authority::{Office, Proposal},
    directory::chain::STEPS_MAX,
    source::{BaselineSource, RegionSource, baseline_file, schemes_file},
};
use lintas_proto::{
    audit::note::SignedCheckpoint,
    canonical::{self, Shaped},
    limits,
    schema::{BrokerKeys, ClassificationScheme, DirectoryBundle, JoinRequest},
};

use crate::shell::{
    failure::{Code, Failure},
    files,
};

/// Longest text file, bytes.
const TEXT_BYTES_MAX: u64 = 64 * 1024;
/// Longest file of a broker's public keys, bytes.
const BROKER_BYTES_MAX: usize = 4 * 1024;
/// Longest mark, bytes.
const MARK_BYTES_MAX: u64 = 2 << 20;
/// Folder of all directories that were published, in the folder they are published in.
pub(crate) const HISTORY: &str = "history";
/// The newest directory.
pub(crate) const DIRECTORY: &str = "directory.bin";
/// Who may sign it.
pub(crate) const BOOTSTRAP: &str = "bootstrap.toml";

/// A file that cannot be used.
pub(crate) fn unusable(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Code::NotSetUp, format_args!("`{}` cannot be used: {error}", path.display()))
}

fn bytes(path: &Path, max: u64) -> Result<Bytes, Failure> {
    files::read(path, max).map(Bytes::from).map_err(|error| Failure::file("read", path, &error))
}

fn text(path: &Path) -> Result<String, Failure> {
    let bytes = bytes(path, TEXT_BYTES_MAX)?;
    String::from_utf8(bytes.to_vec()).map_err(|_| unusable(path, &"it is not text"))
}

/// `what` is what such a file is called.
fn message<M: Shaped>(path: &Path, max: usize, what: &str) -> Result<M, Failure> {
    canonical::decode(&bytes(path, max as u64)?, max)
        .map_err(|error| unusable(path, &format_args!("it is no {what}, or it is damaged ({error})")))
}

/// The readable sources of a region.
pub(crate) fn sources(folder: &Path) -> Result<RegionSource, Failure> {
    RegionSource::load(folder).map_err(|error| Failure::new(Code::NotSetUp, error))
}

/// A baseline policy and its cases.
pub(crate) fn baseline(path: &Path) -> Result<BaselineSource, Failure> {
    baseline_file(path).map_err(|error| Failure::new(Code::NotSetUp, error))
}

/// Schemes of classification.
pub(crate) fn schemes(path: &Path) -> Result<Vec<ClassificationScheme>, Failure> {
    schemes_file(path).map_err(|error| Failure::new(Code::NotSetUp, error))
}

/// Requests to join, as agencies hand them over.
pub(crate) fn requests(paths: &[PathBuf]) -> Result<Vec<JoinRequest>, Failure> {
    paths.iter().map(|path| request(path)).collect()
}

/// One of them.
pub(crate) fn request(path: &Path) -> Result<JoinRequest, Failure> {
    message(path, limits::KEYSET_BYTES_MAX, "join-request.bin")
}

/// A checkpoint of a log; nothing of it is believed yet.
pub(crate) fn checkpoint(path: &Path) -> Result<SignedCheckpoint, Failure> {
    let bytes = bytes(path, limits::CHECKPOINT_BYTES_MAX as u64)?;
    SignedCheckpoint::parse(&bytes).map_err(|error| unusable(path, &error))
}

/// Public keys of brokers.
pub(crate) fn brokers(paths: &[PathBuf]) -> Result<Vec<BrokerKeys>, Failure> {
    paths.iter().map(|path| message(path, BROKER_BYTES_MAX, "broker.roster")).collect()
}

/// Signatures by which old identity keys vouch for new ones.
pub(crate) fn handovers(paths: &[PathBuf]) -> Result<Vec<Bytes>, Failure> {
    let handover = |path: &PathBuf| {
        let found = bytes(path, TEXT_BYTES_MAX)?;
        if found.len() == 64 { Ok(found) } else { Err(unusable(path, &"a handover is 64 bytes")) }
    };
    paths.iter().map(handover).collect()
}

/// One office's public key.
pub(crate) fn office(path: &Path) -> Result<Office, Failure> {
    Office::parse(&text(path)?).map_err(|error| unusable(path, &error))
}

/// Public keys of offices; no name and no key twice.
pub(crate) fn offices(paths: &[PathBuf]) -> Result<Vec<Office>, Failure> {
    let mut found: Vec<Office> = Vec::new();
    for path in paths {
        let office = office(path)?;
        if found.iter().any(|known| known.name == office.name || known.key == office.key) {
            return Err(unusable(
                path,
                &"another file has the same name or the same key; give each office once",
            ));
        }
        found.push(office);
    }
    Ok(found)
}

/// Who may sign.
pub(crate) fn bootstrap(path: &Path) -> Result<Bootstrap, Failure> {
    Bootstrap::parse(&text(path)?).map_err(|error| unusable(path, &error))
}

/// A high-water mark.
pub(crate) fn mark(path: &Path) -> Result<HighWater, Failure> {
    HighWater::decode(&bytes(path, MARK_BYTES_MAX)?).map_err(|error| unusable(path, &error))
}

/// Bytes of a directory or a proposal.
pub(crate) fn directory_bytes(path: &Path) -> Result<Bytes, Failure> {
    bytes(path, limits::DIRECTORY_BYTES_MAX as u64)
}

/// Whether these bytes have the shape of a directory.
fn is_bundle(bytes: &Bytes) -> bool {
    canonical::decode::<DirectoryBundle>(bytes, limits::DIRECTORY_BYTES_MAX).is_ok()
}

/// Bytes that have the shape of a directory.
fn bundle(path: &Path) -> Result<Bytes, Failure> {
    let bytes = directory_bytes(path)?;
    if is_bundle(&bytes) {
        return Ok(bytes);
    }
    let why = "it is no proposal and no directory.bin, or it is damaged; get it again from where it was made";
    Err(unusable(path, &why))
}

/// A proposal that keeps every rule; signatures may be missing.
pub(crate) fn proposal(path: &Path) -> Result<Proposal, Failure> {
    Proposal::parse(&bundle(path)?).map_err(|error| unusable(path, &error))
}

/// A directory that k of the authorities that it names itself have signed; with a bootstrap file, of those that the
/// file names.
pub(crate) fn directory(path: &Path, vouches: Option<&Path>) -> Result<Directory, Failure> {
    let bytes = bundle(path)?;
    let bootstrap = match vouches {
        Some(path) => bootstrap(path)?,
        None => Proposal::parse(&bytes)
            .and_then(|proposal| proposal.bootstrap())
            .map_err(|error| unusable(path, &error))?,
    };
    Directory::open(&bytes, &bootstrap).map_err(|error| unusable(path, &error))
}

/// A file that is carried around, by what it holds.
pub(crate) enum Carried {
    /// A directory or proposal, not checked yet.
    Directory(Bytes),
    /// Who may sign.
    Bootstrap(Bootstrap),
    /// An office's public key.
    Office(Office),
    /// A request to join.
    Request(Box<JoinRequest>),
    /// A broker's public keys.
    Broker(BrokerKeys),
}

/// Finds out what a file holds. Each format is told from the others by what stands in it.
pub(crate) fn carried(path: &Path) -> Result<Carried, Failure> {
    let bytes = directory_bytes(path)?;
    if let Ok(text) = std::str::from_utf8(&bytes)
        && text.len() as u64 <= TEXT_BYTES_MAX
    {
        if let Ok(office) = Office::parse(text) {
            return Ok(Carried::Office(office));
        }
        if let Ok(bootstrap) = Bootstrap::parse(text) {
            return Ok(Carried::Bootstrap(bootstrap));
        }
    }
    if let Ok(request) = canonical::decode::<JoinRequest>(&bytes, limits::KEYSET_BYTES_MAX) {
        return Ok(Carried::Request(Box::new(request)));
    }
    if let Ok(broker) = canonical::decode(&bytes, BROKER_BYTES_MAX) {
        return Ok(Carried::Broker(broker));
    }
    if !is_bundle(&bytes) {
        return Err(unusable(
            path,
            &"it is no directory.bin, proposal, bootstrap.toml, authority.pub, join-request.bin or broker.roster, or it \
              is damaged; get it again from where it was made",
        ));
    }
    Ok(Carried::Directory(bytes))
}

/// Name of a version's file in `history`.
pub(crate) fn history_name(version: u64) -> String {
    format!("{version:06}.bin")
}

/// Signed rosters of versions above `from` and below `to`, from a folder of published directories. Whoever walks them
/// checks them; the first that is not there ends the list.
pub(crate) fn steps(history: &Path, from: u64, to: u64) -> Result<Vec<Bytes>, Failure> {
    let mut found = Vec::new();
    for version in (from.saturating_add(1)..to).take(STEPS_MAX) {
        let path = history.join(history_name(version));
        if !path.exists() {
            break;
        }
        let bundle: DirectoryBundle = message(&path, limits::DIRECTORY_BYTES_MAX, "directory.bin")?;
        found.push(bundle.roster);
    }
    Ok(found)
}

/// Writes a file that is not there yet.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    files::write_new(path, bytes).map_err(|error| {
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            let message =
                format!("`{}` is there already, and was left alone; name a new file", path.display());
            return Failure::new(Code::Usage, message);
        }
        Failure::file("write", path, &error)
    })
}

/// Writes a file in the place of the one that is there.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    files::replace(path, bytes).map_err(|error| Failure::file("write", path, &error))
}
