//! The policies that this node knows: the baseline of its roster and its own agency's bundles. Another agency's bundle never
//! comes here.
//!
//! - [`Shelf`]: every version of the own policy, kept in [`files`]; what is in force under a directory
//! - [`AtBroker`]: what the broker has of it, as the session has heard
//!
//! A version that was signed here counts here at once, when its time has come; at the broker when the broker has it. One that
//! the broker has refused is in no chain but this node's: the next one takes its place, and that of those behind it. Else none
//! after it would ever come to the broker.

pub(crate) mod files;
mod kept;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use lintas_config::{
    Directory,
    policy::{Bundle, BundleError, Policies, Problem},
};
use lintas_proto::id::{Digest, hex};
use tokio::sync::Notify;

use self::{
    files::{VERSIONS_MAX, Version},
    kept::{Kept, unread},
};
use super::{
    failure::{Code, Failure},
    folder::Folder,
};

/// The policy of the own agency.
#[derive(Debug)]
pub(crate) struct Shelf {
    folder: Folder,
    kept: Mutex<Kept>,
    current: Mutex<Option<Current>>,
    broker: Mutex<AtBroker>,
    /// Rung when the broker is to be asked again.
    wanted: Notify,
}

/// What was in force, and when. Whether it was before, it does not say.
#[derive(Debug)]
struct Current {
    policies: Arc<Policies>,
    at_ms: u64,
}

/// What the broker has, as far as is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AtBroker {
    /// When it said so; 0 for never since the start.
    pub(crate) heard_ms: u64,
    /// Its newest version; 0 for none.
    pub(crate) version: u64,
    /// SHA-256 of it.
    pub(crate) hash: Vec<u8>,
    /// What keeps both from having the same.
    pub(crate) trouble: Option<String>,
    /// Two different bundles have the same version.
    pub(crate) forked: bool,
    /// The broker has looked at this version and says no.
    pub(crate) refused: Option<u64>,
}

/// Why bundles of the broker are not taken.
#[derive(Debug)]
pub(crate) enum NotTaken {
    /// They are not believed.
    Untrue(String),
    /// Two different bundles have the same version.
    Forked(String),
    /// They could not be kept.
    Failed(Failure),
}

impl Shelf {
    /// What is kept in the folder, for an agency.
    pub(crate) fn open(folder: &Folder, region: &str, agency: &str, now_ms: u64) -> Result<Self, Failure> {
        let versions = files::versions(folder)?;
        if let Some(other) = versions.iter().find(|one| one.owner != agency || one.region != region) {
            let message = format!(
                "the folder `policy` holds the release policy of {} in the region {}, and this node is {agency}'s in \
                 {region}: move it away",
                other.owner, other.region
            );
            return Err(Failure::new(Code::NotSetUp, message));
        }
        Ok(Self {
            folder: folder.clone(),
            kept: Mutex::new(Kept::read(folder, versions, now_ms)?),
            current: Mutex::default(),
            broker: Mutex::default(),
            wanted: Notify::new(),
        })
    }

    /// What is in force under that directory now.
    pub(crate) fn policies(&self, directory: &Directory, now_ms: u64) -> Result<Arc<Policies>, Problem> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let bundles = {
            let kept = self.kept_at(now_ms)?;
            if let Some(problem) = kept.unreadable_at(now_ms) {
                return Err(problem.clone());
            }
            kept.bundles.clone()
        };
        let roster = directory.shared_roster();
        let same = current.as_ref().filter(|known| Arc::ptr_eq(known.policies.roster(), &roster));
        let policies = match same {
            Some(known) if known.holds(now_ms) => return Ok(Arc::clone(&known.policies)),
            Some(known) => known.policies.with(bundles, now_ms),
            None => Policies::new(roster, bundles, now_ms)?,
        };
        let policies = Arc::new(policies);
        *current = Some(Current { policies: Arc::clone(&policies), at_ms: now_ms });
        Ok(policies)
    }

    /// Takes up the next version, which [`Bundle::open`] has believed. Durable, and in force if its time has come, when
    /// this returns. Whoever calls has looked that it follows; another one may have come first. What the broker has refused
    /// makes room for it.
    pub(crate) fn publish(&self, bundle: &Arc<Bundle>, now_ms: u64) -> Result<(), Failure> {
        let (version, _) = Version::read(bundle.bytes()).map_err(Failure::internal)?;
        let mut kept = self.kept();
        let instead = self.at_broker().refused == Some(version.version);
        let place = kept.versions.iter().position(|one| instead && one.version == version.version);
        let over = place.map(|place| kept.versions.split_off(place)).unwrap_or_default();
        let done = kept
            .next(&version)
            .map_err(|why| Failure::new(Code::Draft, format_args!("{why}; look at it, and publish again")));
        let done = done.and_then(|()| files::keep(&self.folder, &version, bundle.bytes(), &over));
        if let Err(failure) = done {
            kept.versions.extend(over);
            return Err(Failure::new(failure.code, format_args!("nothing was published: {failure}")));
        }
        kept.versions.push(version);
        if over.is_empty() {
            kept.add(Arc::clone(bundle), now_ms);
        } else {
            // The one before it may count again, until its own time comes.
            *kept = Kept::read(&self.folder, kept.versions.clone(), now_ms)?;
        }
        self.note_broker(|broker| broker.refused = None);
        drop(kept);
        self.changed();
        Ok(())
    }

    /// Whether that version still is the one to be brought to the broker. From here on it makes room for none.
    pub(crate) fn is_to_bring(&self, bytes: &Bytes) -> bool {
        let kept = self.kept();
        let same = |one: &Version| kept.versions.iter().any(|own| own.hash == one.hash);
        let found = Version::read(bytes).is_ok_and(|(version, _)| same(&version));
        if found {
            self.note_broker(|broker| broker.refused = None);
        }
        found
    }

    /// Puts a bundle in force that is kept nowhere.
    #[cfg(test)]
    pub(crate) fn add(&self, bundle: Arc<Bundle>) {
        self.kept().bundles.push(bundle);
        self.changed();
    }

    /// Takes up what the broker has and this node has not: versions in order. Durable when this returns. How many.
    pub(crate) fn take(
        &self,
        offered: &[Bytes],
        (agency, directory): (&str, &Directory),
        now_ms: u64,
    ) -> Result<usize, NotTaken> {
        let mut kept = self.kept();
        let untrue = |why: String| NotTaken::Untrue(format!("what it sends is not believed: {why}"));
        let mut read: Vec<Version> = Vec::with_capacity(offered.len());
        for bytes in offered {
            let (version, _) = Version::read(bytes).map_err(untrue)?;
            if version.owner != agency || version.region != directory.roster().region {
                return Err(untrue(format!("it is the policy of {} in {}", version.owner, version.region)));
            }
            if let Some(before) = read.last() {
                version.follows(before).map_err(untrue)?;
            } else if let Some(own) = kept.versions.last() {
                if version.version == own.version.saturating_add(1) && version.prev_hash.as_ref() != own.hash
                {
                    return Err(NotTaken::Forked(forked(own, &version.prev_hash)));
                }
                version.follows(own).map_err(untrue)?;
            }
            read.push(version);
        }
        if kept.versions.len().saturating_add(read.len()) > VERSIONS_MAX {
            return Err(untrue(format!("it has more than {VERSIONS_MAX} versions")));
        }
        let Some(newest) = offered.last() else { return Ok(0) };
        // The newest vouches for those before it, whose hashes it names.
        let believed = match Bundle::open(newest, directory) {
            Ok(_) => true,
            Err(BundleError::OldKeys(_) | BundleError::Directory(_) | BundleError::Schema)
                if kept.versions.iter().all(|one| !one.believed) =>
            {
                false
            }
            Err(error @ BundleError::OldKeys(_)) => {
                return Err(untrue(format!(
                    "{error}. To go on from there: stop this node, move the folder `policy` of its data folder away, start it \
                     again; then publish what you want as the next version"
                )));
            }
            Err(error) => return Err(untrue(error.to_string())),
        };
        for version in &mut read {
            version.believed = believed;
        }
        let present = read.iter().rposition(|one| one.not_before_ms <= now_ms).unwrap_or_default();
        let mut counting = read.iter().zip(offered).skip(present).filter(|_| believed);
        let sound = counting.try_for_each(|(version, bytes)| Bundle::kept(bytes, &version.hash).map(drop));
        sound.map_err(|error| untrue(error.to_string()))?;
        let before = kept.versions.len();
        let done = read.into_iter().zip(offered).try_for_each(|(version, bytes)| {
            files::keep(&self.folder, &version, bytes, &[])?;
            kept.versions.push(version);
            Ok(())
        });
        // Also if not all of them could be kept: what was, counts.
        if kept.versions.len() > before {
            *kept = Kept::read(&self.folder, kept.versions.clone(), now_ms).map_err(NotTaken::Failed)?;
            drop(kept);
            self.changed();
        }
        done.map(|()| offered.len()).map_err(NotTaken::Failed)
    }

    /// Every version, in order.
    pub(crate) fn versions(&self) -> Vec<Version> {
        self.kept().versions.clone()
    }

    /// The newest version; 0 for none.
    pub(crate) fn newest(&self) -> u64 {
        self.kept().versions.last().map_or(0, |newest| newest.version)
    }

    /// The bytes of the versions that a broker lacks whose newest is `version` with `hash`.
    pub(crate) fn after(&self, version: u64, hash: &[u8]) -> Result<Vec<(u64, Bytes)>, NotTaken> {
        let kept = self.kept();
        let same = kept.versions.iter().find(|one| one.version == version);
        if let Some(own) = same.filter(|own| own.hash != hash) {
            return Err(NotTaken::Forked(forked(own, hash)));
        }
        let missing: Vec<&Version> = kept.versions.iter().filter(|one| one.version > version).collect();
        if let Some(first) = missing.first().filter(|first| first.version != version.saturating_add(1)) {
            let why = format!(
                "it has version {version}, and version {} is neither there nor here, where {} is the oldest one",
                version.saturating_add(1),
                first.version
            );
            return Err(NotTaken::Untrue(why));
        }
        let read = |one: &Version| Ok((one.version, files::bytes(&self.folder, one)?));
        missing.into_iter().map(read).collect::<Result<_, Failure>>().map_err(NotTaken::Failed)
    }

    /// What the broker has.
    pub(crate) fn at_broker(&self) -> AtBroker {
        self.broker.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what the broker has.
    pub(crate) fn note_broker(&self, change: impl FnOnce(&mut AtBroker)) {
        change(&mut self.broker.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Why nothing is in force although something should be.
    pub(crate) fn unreadable(&self, now_ms: u64) -> Option<Problem> {
        match self.kept_at(now_ms) {
            Ok(kept) => kept.unreadable_at(now_ms).cloned(),
            Err(problem) => Some(problem),
        }
    }

    /// Waits until the broker is to be asked again.
    pub(crate) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    fn changed(&self) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.wanted.notify_one();
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// With what counts at that time: the clock may have been ahead when the rest was let go.
    fn kept_at(&self, now_ms: u64) -> Result<MutexGuard<'_, Kept>, Problem> {
        let mut kept = self.kept();
        if now_ms < kept.from_ms {
            let read = Kept::read(&self.folder, kept.versions.clone(), now_ms);
            *kept = read.map_err(|failure| unread(&failure))?;
        }
        Ok(kept)
    }
}

impl Current {
    fn holds(&self, now_ms: u64) -> bool {
        self.at_ms <= now_ms && self.policies.next_change_ms().is_none_or(|next| now_ms < next)
    }
}

/// What is said of two bundles of one version.
fn forked(own: &Version, other: &[u8]) -> String {
    let other: Digest = other.try_into().unwrap_or_default();
    format!(
        "there are two different bundles of the same version: version {} of this agency's release policy is {} here and {} \
         at the broker, which decides by its own. Two machines with this agency's keys have published, or the folder \
         `policy` was put back from an older copy. Ask who publishes for this agency. To let the broker's one count: stop \
         this node, move the folder `policy` of its data folder away, start it again; then publish what you want as the \
         next version",
        own.version,
        short(&own.hash),
        short(&other)
    )
}

/// The first digits of a hash, enough to tell two apart.
pub(crate) fn short(hash: &Digest) -> String {
    hex(hash).chars().take(16).collect()
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a test writes need not survive a power cut")]
mod tests;
