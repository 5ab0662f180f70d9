//! What is believed of the region: by the reader's directory or bootstrap file, with what the file adds.

use std::collections::BTreeMap;

use bytes::Bytes;
use lintas_config::{
    Bootstrap, Directory, DirectoryError,
    directory::{Broker, PastRoster, PastRosters, chain::STEPS_MAX},
};
use lintas_proto::{
    audit::note::{SignedCheckpoint, log_name, root_origin},
    canonical,
    envelope::verify::PacketKeys as _,
    id::Digest,
    limits,
    schema::{DirectoryBundle, EndedLog, EvidenceFile, Roster, SignedRoster, UnitRef},
    sign::{KeyRole, VerifyingKey, key_id},
};

use super::{Fault, fault};
use crate::core::log::attested::CHANGE_MS;

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
        let directories = self.directories.iter().filter(|of| self.vouches(of, &unit.agency, time_ms));
        directories.into_iter().find_map(|of| of.at(time_ms).packet_key(unit, id).cloned())
    }

    /// Whether the keys of an agency in that directory are still its own at that time: no newer roster that is believed
    /// had ended its membership, or named another identity key, by then.
    pub(super) fn vouches(&self, directory: &Directory, agency: &str, time_ms: u64) -> bool {
        let version = directory.roster().version;
        let in_force = |roster: &&PastRoster| roster.not_before_ms.saturating_add(CHANGE_MS) < time_ms;
        let then = self.rosters().take_while(|roster| roster.version > version).find(in_force);
        let member = directory.member(agency);
        then.is_none_or(|then| then.identities.get(agency) == member.map(|member| &member.identity_key))
    }

    /// The roster whose witnesses count for a checkpoint over an epoch with so many slots: the newest under which a quorum
    /// had cosigned it before the next one was in force for a day; without a quorum the newest. Members never leave, so a
    /// roster with fewer members than slots is older than the epoch.
    pub(super) fn witnessed_under(&self, signed: &SignedCheckpoint, slots: u32) -> Option<&PastRoster> {
        let mut replaced_ms = u64::MAX;
        let mut newest = None;
        for roster in self.rosters().filter(|roster| roster.agencies.len() >= slots as usize) {
            newest = newest.or(Some(roster));
            let at_ms = signed.witnessed_at(&roster.witnesses).map(|at| at.saturating_mul(1_000));
            if at_ms.is_some_and(|at_ms| at_ms <= replaced_ms) {
                return Some(roster);
            }
            replaced_ms = roster.not_before_ms.saturating_add(limits::ATTESTED_WITHIN_MS);
        }
        newest
    }

    /// What the region authority says today of the end of a root log.
    pub(super) fn end_of(&self, origin: &str) -> Option<&EndedLog> {
        let brokers = &self.past.newest()?.brokers;
        brokers.iter().find_map(|broker| {
            let is_it = |number: &usize| root_origin(&log_name(&broker.name, *number)) == origin;
            broker.ended_logs.get((0..broker.ended_logs.len()).find(is_it)?)
        })
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
