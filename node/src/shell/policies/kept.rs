//! The versions of the own policy, and what of them counts now or later.

use std::sync::Arc;

use lintas_config::policy::{Bundle, BundleError, Problem};

use super::files::{self, VERSIONS_MAX, Version};
use crate::shell::{failure::Failure, folder::Folder};

/// What is kept of the own policy.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// All of them, in order.
    pub(super) versions: Vec<Version>,
    /// Read: the one in force, and those whose time has not come.
    pub(super) bundles: Vec<Arc<Bundle>>,
    /// Before that time others count, which were let go.
    pub(super) from_ms: u64,
    /// One that should be in force from a time on and cannot be read: its version, that time, why.
    unreadable: Option<(u64, u64, Problem)>,
}

impl Kept {
    /// What counts of those versions, now or later.
    pub(super) fn read(folder: &Folder, versions: Vec<Version>, now_ms: u64) -> Result<Self, Failure> {
        let mut kept = Self { versions, ..Self::default() };
        let present = kept.versions.iter().rposition(|one| one.not_before_ms <= now_ms).unwrap_or_default();
        if let Some(first) = kept.versions.get(present).filter(|_| present > 0) {
            kept.from_ms = first.not_before_ms;
        }
        for version in kept.versions.iter().skip(present).filter(|one| one.believed) {
            match Bundle::kept(&files::bytes(folder, version)?, &version.hash) {
                Ok(bundle) => kept.bundles.push(bundle),
                Err(error) => {
                    tracing::error!(version = version.version, %error, "a policy cannot be read");
                    let problem = unreadable(version.version, &error);
                    kept.unreadable = Some((version.version, version.not_before_ms, problem));
                }
            }
        }
        Ok(kept)
    }

    /// Whether a version may be the next one.
    pub(super) fn next(&self, version: &Version) -> Result<(), String> {
        if self.versions.len() >= VERSIONS_MAX {
            return Err(format!("there are {VERSIONS_MAX} versions, and no more are kept"));
        }
        match self.versions.last() {
            Some(newest) => version.follows(newest),
            None if version.version == 1 => Ok(()),
            None => Err(format!("version {} is not the first one", version.version)),
        }
    }

    /// One more bundle; those that are over are let go.
    pub(super) fn add(&mut self, bundle: Arc<Bundle>, now_ms: u64) {
        self.bundles.push(bundle);
        let present = self.bundles.iter().rposition(|one| one.said().not_before_ms <= now_ms);
        let over = self.bundles.drain(..present.unwrap_or_default()).count();
        if let Some(first) = self.bundles.first().filter(|_| over > 0) {
            self.from_ms = first.said().not_before_ms;
        }
    }

    pub(super) fn unreadable_at(&self, now_ms: u64) -> Option<&Problem> {
        let (version, from_ms, problem) = self.unreadable.as_ref()?;
        let newer = |one: &Arc<Bundle>| one.version() > *version && one.said().not_before_ms <= now_ms;
        (*from_ms <= now_ms && !self.bundles.iter().any(newer)).then_some(problem)
    }
}

fn unreadable(version: u64, error: &BundleError) -> Problem {
    Problem {
        what: format!(
            "version {version} of this agency's release policy should be in force, and this software cannot read it: {error}"
        ),
        mend: "mend the policy (`lintas policy show`, `lintas policy check`) and publish it as the next version; nothing is \
               sent or taken before"
            .to_owned(),
        ..Problem::default()
    }
}

/// What is said when a policy that was let go is not to be had any more.
pub(super) fn unread(failure: &Failure) -> Problem {
    Problem {
        what: format!("this agency's release policy cannot be read again: {failure}"),
        mend: "do what the sentence says, then look again; nothing is sent or taken before".to_owned(),
        ..Problem::default()
    }
}
