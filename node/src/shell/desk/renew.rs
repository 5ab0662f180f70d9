//! A new directory takes the place of the one in force, while everything goes on.

use std::sync::{Arc, PoisonError, atomic::Ordering};

use bytes::Bytes;
use lintas_config::{Directory, policy::Policies};
use lintas_proto::{canonical, limits, schema::DirectoryUpdate};

use super::{Desk, check_membership};
use crate::shell::{
    clock,
    failure::{Code, Failure},
    trust::{self, Offered},
};

impl Desk {
    /// Who may be spoken to. Ask once for each piece of work, and keep to the answer.
    pub(crate) fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The policies under that directory.
    pub(crate) fn policies(&self, directory: &Directory) -> Result<Arc<Policies>, Failure> {
        self.policies_at(directory, clock::now_ms())
    }

    /// The policies under that directory, at that time.
    pub(super) fn policies_at(&self, directory: &Directory, now_ms: u64) -> Result<Arc<Policies>, Failure> {
        self.policies.policies(directory, now_ms).map_err(|problem| Failure::new(Code::NotSetUp, problem))
    }

    /// Takes up what `directory.bin` has become, if it may follow; else the one in force stays. With `again`, a
    /// file that was looked at before is looked at once more.
    pub(crate) fn renew(&self, again: bool) {
        // Held to the end: one change of the directory at a time.
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let look = trust::look(&self.folder);
        let same = *looked == look;
        if same && !again {
            return;
        }
        *looked = look;
        match trust::offered(&self.folder, &self.directory()) {
            Ok(next) => {
                self.note_offered(None);
                if let Some(next) = next {
                    self.put_in_force(next);
                }
            }
            // It was put there long ago; the node has fetched newer ones since.
            Err(Offered { rolled_back: true, .. }) if same => {}
            Err(Offered { failure, .. }) => {
                let version = self.directory().roster().version;
                self.trouble(&format!("{failure}; roster version {version} stays in force"));
                self.note_offered(Some(failure.message));
            }
        }
    }

    /// As [`take_update`](Self::take_update), from its bytes.
    pub(crate) fn take_bytes(&self, bytes: &Bytes) -> Result<bool, Failure> {
        let update = canonical::decode(bytes, limits::DIRECTORY_BYTES_MAX).map_err(|error| {
            Failure::new(Code::NotSetUp, format_args!("the broker offered what is no directory: {error}"))
        })?;
        self.take_update(&update)
    }

    /// The broker names its directory: a newer one, or one with other keysets, is to be fetched.
    pub(crate) fn hear_of_directory(&self, roster_version: u64, directory_hash: &[u8]) {
        let ours = self.directory();
        let version = ours.roster().version;
        self.note_link(|link| link.broker_roster = roster_version);
        if roster_version < version {
            self.trouble(&format!(
                "the broker's directory (roster version {roster_version}) is older than this node's ({version}); tell its \
                 operator"
            ));
        } else if directory_hash != ours.hash() {
            self.want_directory();
        }
    }

    /// Takes up what a broker, or whoever answers in its place, sent. True if the directory changed; it is durable
    /// then.
    pub(crate) fn take_update(&self, update: &DirectoryUpdate) -> Result<bool, Failure> {
        let _one = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let in_force = self.directory();
        let taken = in_force.take(update);
        // A broker that was put back from a backup has older keysets, which no node believes. It is brought the newer
        // ones; otherwise no roster would come from it any more until every agency has rotated its keys.
        let newer = if taken.is_err() { in_force.newer_than(update).unwrap_or_default() } else { Vec::new() };
        *self.ahead.lock().unwrap_or_else(PoisonError::into_inner) = newer;
        let next = taken.map_err(|error| {
            let version = in_force.roster().version;
            let message = format!(
                "the broker offered a directory that is not believed: {error}; roster version {version} stays in \
                 force. If it goes on, tell the region authority what this says"
            );
            Failure::new(Code::NotSetUp, message)
        })?;
        if next.bytes() == in_force.bytes() {
            return Ok(false);
        }
        trust::keep(&self.folder, &next)?;
        // What was wrong with directory.bin counts no more.
        self.note_offered(None);
        self.put_in_force(next);
        self.remember(&update.rosters, &[]);
        Ok(true)
    }

    /// Believes the new identity key of a held agency. Durable when this returns.
    pub(super) fn believe(&self, agency: &str, key: &[u8; 32]) -> Result<(), Failure> {
        let _one = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let confirmed = self.directory().confirm(agency, key);
        let confirmed = confirmed.map_err(|error| Failure::new(Code::NotSetUp, error))?;
        trust::keep(&self.folder, &confirmed)?;
        tracing::info!(agency, "an officer confirmed the new identity key");
        self.put_in_force(confirmed);
        Ok(())
    }

    /// Opens the session anew, at once.
    pub(crate) fn reconnect(&self) {
        self.renewed.notify_one();
    }

    /// Waits until the session is to be opened anew: the directory changed who may speak to whom, or the operator
    /// asks for it.
    pub(crate) async fn renewed(&self) {
        self.renewed.notified().await;
    }

    /// A newer directory is to be fetched, if there is one.
    pub(crate) fn want_directory(&self) {
        self.wanted.notify_one();
    }

    /// Waits until a newer directory is to be fetched.
    pub(crate) async fn directory_wanted(&self) {
        self.wanted.notified().await;
    }

    /// Keysets that the broker is to take into its directory: canonical bytes of `SignedKeyset`. Whoever makes one rings
    /// [`want_directory`](Self::want_directory).
    pub(crate) fn keysets_to_bring(&self) -> Vec<Bytes> {
        let ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.unpublished_keyset().into_iter().chain(self.keysets_to_publish()).chain(ahead).collect()
    }

    /// A delivery that stays with the broker because of the directory: it comes again in a new session.
    pub(super) fn left_aside(&self) {
        self.left_aside.store(true, Ordering::Relaxed);
        self.want_directory();
    }

    /// Takes up a policy of the own agency.
    #[cfg(test)]
    pub(crate) fn take_policy(&self, bundle: Arc<lintas_config::policy::Bundle>) {
        self.policies.add(bundle);
        self.policy_changed();
    }

    /// The own policy has changed: what stayed with the broker comes again in a new session.
    pub(crate) fn policy_changed(&self) {
        self.waits_for_policy.store(false, Ordering::Relaxed);
        if self.left_aside.swap(false, Ordering::Relaxed) {
            self.reconnect();
        }
    }

    /// A delivery that stays with the broker because no policy of this agency is in force.
    pub(super) fn wait_for_policy(&self) {
        self.waits_for_policy.store(true, Ordering::Relaxed);
    }

    /// Looks whether one is in force by now: a policy that was published ahead begins without a sign. Called again and again.
    pub(crate) fn look_for_policy(&self, now_ms: u64) {
        let in_force = || {
            let policies = self.policies.policies(&self.directory(), now_ms);
            policies.is_ok_and(|policies| policies.bundle(&self.keys().agency).is_some())
        };
        // Both: one is set as a delivery is judged, the other when it is left.
        let waits =
            [&self.waits_for_policy, &self.left_aside].iter().all(|flag| flag.load(Ordering::Relaxed));
        if waits && in_force() {
            self.policy_changed();
        }
    }

    /// What stands in a log that the region authority has ended is submitted again, unless nothing more becomes of it. Time
    /// alone says so only while the clock is agreed: until then it waits for the next session, which does this anew.
    pub(crate) fn submit_what_ended(&self) {
        let Ok(now_ms) = self.agreed_ms() else { return };
        let directory = self.directory();
        let ended = |origin: &str| directory.log_of(origin).is_some_and(|log| log.ended().is_some());
        let packets = self.store.submit_again(ended, now_ms);
        if packets > 0 {
            tracing::warn!(
                packets,
                "an audit log of the broker has ended; what stood in it is submitted again"
            );
            self.bell.notify_one();
        }
    }

    fn note_offered(&self, why: Option<String>) {
        *self.refused_directory.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// The caller has made it durable, and holds `looked`.
    fn put_in_force(&self, next: Directory) {
        let (before, next) = (self.directory(), Arc::new(next));
        *self.directory.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&next);
        let roster = next.roster().version;
        tracing::info!(roster, "a new directory is in force");
        self.note_in_force(&next);
        self.compare_ended();
        for held in next.held() {
            tracing::warn!(agency = held.agency, "held: {held}");
        }
        if !next.at(clock::now_ms()).in_force() {
            self.trouble(
                "the new directory is not valid now; check this machine's clock, and ask for a newer",
            );
        }
        // Whoever left the region must know it; what was kept stays readable.
        let keys = self.keys();
        let membership = check_membership(&next, &keys);
        let moved = membership.is_ok() != check_membership(&before, &keys).is_ok();
        if let Err(failure) = membership {
            self.trouble(&failure.message);
        }
        self.remember(&[], &[]);
        self.submit_what_ended();
        // Units may have come, and what was published may take the place of what came before it.
        self.rotate_or_tell(clock::now_ms());
        let left = self.left_aside.swap(false, Ordering::Relaxed);
        if left || moved || !keeps_brokers(&before, &next) {
            self.reconnect();
        }
    }
}

/// Whether every broker is still there, with the same TLS key.
fn keeps_brokers(before: &Directory, next: &Directory) -> bool {
    let is_there = |key: &[u8; 32]| next.brokers().iter().any(|broker| broker.transport_key == *key);
    before.brokers().iter().all(|broker| is_there(&broker.transport_key))
}
