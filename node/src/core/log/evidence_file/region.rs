//! What is believed of the region: by the reader's directory or bootstrap file, with what the file adds.

use std::collections::BTreeMap;

use bytes::Bytes;
use lintas_config::{
    Bootstrap, Directory, DirectoryError,
    directory::{Broker, PastRoster, PastRosters, chain::STEPS_MAX},
};
use lintas_proto::{
    canonical,
    envelope::verify::PacketKeys as _,
    id::Digest,
    limits,
    schema::{DirectoryBundle, EvidenceFile, Roster, SignedRoster, UnitRef},
    sign::{KeyRole, VerifyingKey, key_id},
};

use super::{Fault, fault};

/// What the reader believes already.
#[derive(Debug)]
pub(crate) enum Anchor<'a> {
    /// A verified directory.
    Directory(&'a Directory),
    /// The authorities of a bootstrap file.
    Bootstrap(&'a Bootstrap),
}

/// What is believed of the region, with what the file adds.
pub(super) struct Region {
    pub(super) past: PastRosters,
    versions: Vec<u64>,
    pub(super) directories: Vec<Directory>,
}

impl Region {
    pub(super) fn of(file: &EvidenceFile, anchor: &Anchor<'_>) -> Result<Self, Fault> {
        let wrong = fault("a roster");
        let mut past = match anchor {
            Anchor::Directory(directory) => PastRosters::of(directory),
            Anchor::Bootstrap(bootstrap) => PastRosters::from_bootstrap(bootstrap),
        }
        .map_err(|error| wrong(&error))?;
        let bundles: Vec<&Bytes> = [&file.directory].into_iter().chain(&file.more_directories).collect();
        let mut offered = BTreeMap::new();
        for bytes in &bundles {
            let bundle: DirectoryBundle =
                canonical::decode(bytes, limits::DIRECTORY_BYTES_MAX).map_err(|error| wrong(&error))?;
            offer(&mut offered, &bundle.roster).map_err(|error| wrong(&error))?;
        }
        for roster in &file.rosters {
            offer(&mut offered, roster).map_err(|error| wrong(&error))?;
        }
        if offered.len() > STEPS_MAX {
            return Err(wrong(&"there are more than anybody walks"));
        }
        if let Some((version, error)) = past.believe(&offered).first() {
            return Err(wrong(&format!("version {version}: {error}")));
        }
        let mut versions: Vec<u64> =
            offered.into_keys().chain(past.newest().map(|newest| newest.version)).collect();
        versions.sort_unstable();
        versions.dedup();
        let open = |bytes: &&Bytes| open_bundle(bytes).map_err(|error| fault("a directory")(&error));
        let directories = bundles.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { past, versions, directories })
    }

    /// Believed rosters, the newest first.
    pub(super) fn rosters(&self) -> impl Iterator<Item = &PastRoster> {
        self.versions.iter().rev().filter_map(|version| self.past.get(*version))
    }

    pub(super) fn brokers(&self) -> impl Iterator<Item = &Broker> {
        self.rosters().flat_map(|roster| &roster.brokers)
    }

    pub(super) fn receipt_key(&self, id: &Digest) -> Option<&Broker> {
        self.brokers().find(|broker| key_id(KeyRole::Receipt, broker.receipt_key.as_bytes()) == *id)
    }

    pub(super) fn packet_key(&self, unit: &UnitRef, id: &Digest, time_ms: u64) -> Option<VerifyingKey> {
        self.directories.iter().find_map(|directory| directory.at(time_ms).packet_key(unit, id).cloned())
    }
}

/// Takes a roster among those offered; two of one version are a fault.
fn offer(offered: &mut BTreeMap<u64, Bytes>, bytes: &Bytes) -> Result<(), DirectoryError> {
    let version = roster_of(bytes)?.version;
    match offered.insert(version, bytes.clone()) {
        Some(other) if other != *bytes => Err(DirectoryError::Rule {
            whose: "evidence file".to_owned(),
            what: "it holds two rosters of one version",
        }),
        Some(_) | None => Ok(()),
    }
}

/// The roster in the canonical bytes of a `SignedRoster`; nothing is verified.
pub(crate) fn roster_of(bytes: &Bytes) -> Result<Roster, DirectoryError> {
    let signed: SignedRoster = canonical::decode(bytes, limits::ROSTER_BYTES_MAX)?;
    Ok(canonical::decode(&signed.roster, limits::ROSTER_BYTES_MAX)?)
}

/// A directory whose roster is believed by other ways: its keysets are verified under it.
pub(crate) fn open_bundle(bytes: &Bytes) -> Result<Directory, DirectoryError> {
    let bundle: DirectoryBundle = canonical::decode(bytes, limits::DIRECTORY_BYTES_MAX)?;
    Directory::open(bytes, &Bootstrap::of(&roster_of(&bundle.roster)?)?)
}
