//! Release policies of the agencies, as the broker keeps them. [`files`]: on disk, and taken up at a start. [`gate`]: what a
//! bundle must stand before it is kept. The [`keeper`](super::keeper) puts them in force.

mod files;
mod gate;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lintas_config::policy::Bundle;
use lintas_proto::{
    id::{Digest, hex},
    schema::{Member, Roster},
};

pub(super) use self::gate::{Refused, examine, is_same};
use super::folder::{Folder, FolderError};

/// Most versions of one agency that are kept: the one in force and all to come, and earlier ones as far as there is room.
const KEPT_MAX: usize = 64;
/// Most versions of one agency whose time has not come.
pub(super) const TO_COME_MAX: usize = 8;

/// The bundles of all agencies. Changed by the keeper only, each when it is durable.
#[derive(Debug)]
pub(crate) struct Store {
    folder: Folder,
    kept: Mutex<BTreeMap<String, Kept>>,
}

/// The bundles of one agency.
#[derive(Debug)]
struct Kept {
    /// Of every version on disk the SHA-256 of the `PolicyBundle`, ascending without a gap.
    hashes: VecDeque<Digest>,
    /// The one in force, if its time has come, and all to come; ascending. Never empty.
    live: Vec<Arc<Bundle>>,
    /// SHA-256 of the newest one's file.
    file_hash: Digest,
}

impl Kept {
    fn newest(&self) -> Option<&Arc<Bundle>> {
        self.live.last()
    }

    fn version(&self) -> u64 {
        self.newest().map_or(0, |bundle| bundle.version())
    }

    /// The oldest version on disk.
    fn first(&self) -> u64 {
        (self.version() + 1).saturating_sub(self.hashes.len() as u64)
    }

    /// Forgets, but for the disk, what a newer one has replaced at `now_ms`.
    fn settle(&mut self, now_ms: u64) {
        let begun = |bundle: &Arc<Bundle>| bundle.said().not_before_ms <= now_ms;
        if let Some(present) = self.live.iter().rposition(begun) {
            self.live.drain(..present);
        }
    }
}

impl Store {
    /// What counts under a roster at `now_ms`: of each member the bundle in force and those to come.
    pub(super) fn live(&self, roster: &Roster, now_ms: u64) -> Vec<Arc<Bundle>> {
        let members: BTreeSet<&str> = roster.members.iter().map(|member| member.agency.as_str()).collect();
        let mut kept = self.kept();
        kept.values_mut().for_each(|kept| kept.settle(now_ms));
        let of_members = kept.iter().filter(|(agency, _)| members.contains(agency.as_str()));
        of_members.flat_map(|(_, kept)| kept.live.iter().cloned()).collect()
    }

    /// An agency's newest one, in force or to come.
    pub(super) fn newest(&self, agency: &str) -> Option<Arc<Bundle>> {
        self.kept().get(agency).and_then(Kept::newest).cloned()
    }

    /// How many of an agency's are to come at `now_ms`.
    pub(super) fn to_come(&self, agency: &str, now_ms: u64) -> usize {
        let is_to_come = |bundle: &&Arc<Bundle>| bundle.said().not_before_ms > now_ms;
        self.kept().get(agency).map_or(0, |kept| kept.live.iter().filter(is_to_come).count())
    }

    /// Of an agency the newest one, and the files of all above `version`, in order.
    pub(super) fn above(&self, agency: &str, version: u64) -> Option<(Arc<Bundle>, Vec<PathBuf>)> {
        let kept = self.kept();
        let kept = kept.get(agency)?;
        let newest = kept.version();
        let first = kept.first().max((newest + 1).saturating_sub(KEPT_MAX as u64));
        let versions = first.max(version.saturating_add(1))..=newest;
        let paths = versions.map(|version| self.folder.policy_path(agency, version)).collect();
        Some((Arc::clone(kept.newest()?), paths))
    }

    /// For the operator: each agency's versions in force and to come, one a line.
    pub(super) fn page(&self, now_ms: u64) -> String {
        let mut page = String::new();
        for (agency, kept) in self.kept().iter() {
            for bundle in &kept.live {
                let begins = bundle.said().not_before_ms;
                let state =
                    if begins <= now_ms { "in force".to_owned() } else { format!("from {begins} ms") };
                page += &format!("{agency} {} {} {state}\n", bundle.version(), hex(bundle.hash()));
            }
        }
        page
    }

    /// Whether all policies are here that the log was `told` of last: for each member the SHA-256 of its bundle.
    ///
    /// # Errors
    /// The first that is not here: the folder is older than the log.
    pub(super) fn agrees_with_log(
        &self,
        roster: &Roster,
        told: impl Fn(&str) -> Option<Digest>,
    ) -> Result<(), FolderError> {
        let kept = self.kept();
        for Member { agency, .. } in &roster.members {
            let Some(hash) = told(agency).filter(|hash| *hash != [0; 32]) else { continue };
            if !kept.get(agency).is_some_and(|kept| kept.hashes.contains(&hash)) {
                return Err(FolderError::PolicyRolledBack { agency: agency.clone(), hash: hex(&hash) });
            }
        }
        Ok(())
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<String, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
