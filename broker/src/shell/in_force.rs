//! What is in force now: the directory, and the policies under its roster. Changes come from the [`keeper`](super::keeper),
//! and from time alone: a bundle begins at a moment that it names, and a policy that was taken out of the baseline leaves it.
//! Whoever asks first after such a moment makes the exchange, so that nothing is decided by what is over, however busy the
//! keeper is.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock,
    atomic::{AtomicU64, Ordering},
};

use lintas_config::{Directory, policy::Policies};
use lintas_proto::id::hex;

use super::shared::Shared;
use crate::core::{earlier::Taken, rules::Rules};

/// See the module.
#[derive(Debug)]
pub(super) struct InForce {
    rules: RwLock<Arc<Rules>>,
    /// Held from reading what is in force until it is exchanged, so that no change undoes another one. Whoever holds it takes
    /// no lock of the ledger.
    exchange: Mutex<()>,
    /// The latest time by which anything was put in force, milliseconds since 1970.
    moment_ms: AtomicU64,
}

impl InForce {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules: RwLock::new(Arc::new(rules)), exchange: Mutex::default(), moment_ms: AtomicU64::new(0) }
    }

    fn present(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.exchange.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time by which bundles begin. It never goes back, not even where the clock does: what was in force stays so.
    fn moment_ms(&self, now_ms: u64) -> u64 {
        self.moment_ms.fetch_max(now_ms, Ordering::Relaxed).max(now_ms)
    }

    /// Whether time has made something else of it.
    fn is_over(&self, rules: &Rules, now_ms: u64) -> bool {
        rules.policies().next_change_ms().is_some_and(|next_ms| next_ms <= self.moment_ms(now_ms))
    }
}

impl Shared {
    /// Directory and policies in force now.
    pub(crate) fn rules(&self) -> Arc<Rules> {
        self.rules_at(self.clock.now_ms())
    }

    /// Those in force at `now_ms`, or later.
    pub(crate) fn rules_at(&self, now_ms: u64) -> Arc<Rules> {
        let rules = self.in_force.present();
        if !self.in_force.is_over(&rules, now_ms) {
            return rules;
        }
        let turn = self.in_force.turn();
        // Somebody else may have been first.
        let rules = self.in_force.present();
        if self.in_force.is_over(&rules, now_ms) {
            self.enforce_in_turn(&turn, &rules, Arc::clone(rules.directory()), None);
        }
        self.in_force.present()
    }

    /// The time by which bundles begin: that of the log, or later.
    pub(super) fn moment_ms(&self) -> u64 {
        let now_ms = self.clock.now_ms();
        let log_ms = self.ledger().time_at(now_ms);
        self.in_force.moment_ms(log_ms)
    }

    /// Puts a directory in force, with the policies that count under its roster now. `taken` if the directory is new. For the
    /// keeper only, when all of it is durable.
    pub(super) fn enforce(&self, directory: Arc<Directory>, taken: Option<Taken>) {
        self.moment_ms();
        let turn = self.in_force.turn();
        let before = self.in_force.present();
        self.enforce_in_turn(&turn, &before, directory, taken);
    }

    fn enforce_in_turn(
        &self,
        _turn: &MutexGuard<'_, ()>,
        before: &Rules,
        directory: Arc<Directory>,
        taken: Option<Taken>,
    ) {
        let (roster, now_ms) = (directory.shared_roster(), self.in_force.moment_ms(0));
        let live = self.policies.live(&roster, now_ms);
        let policies = if Arc::ptr_eq(before.policies().roster(), &roster) {
            Ok(before.policies().with(live, now_ms))
        } else {
            Policies::new(roster, live, now_ms)
        };
        match policies {
            Ok(policies) => {
                self.tell_policies(before.policies(), &policies);
                self.put_in_force(Rules::new(directory, Arc::new(policies)), taken);
            }
            // It was read with the directory.
            Err(problem) => tracing::error!(%problem, "the baseline cannot be read; what is in force stays"),
        }
    }

    /// Exchanges what is in force, for packets that come from now on; `taken` if the directory is another one.
    pub(super) fn put_in_force(&self, rules: Rules, taken: Option<Taken>) {
        let same = taken.is_none() && rules.generation() == self.in_force.present().generation();
        if let Some(taken) = taken {
            self.earlier.write().unwrap_or_else(PoisonError::into_inner).take(taken);
        }
        self.hang_bells(rules.directory());
        *self.in_force.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
        if !same {
            self.changed.send_modify(|changes| *changes += 1);
        }
    }

    fn tell_policies(&self, before: &Policies, after: &Policies) {
        for bundle in after.bundles() {
            let (agency, version, hash) = (bundle.owner(), bundle.version(), bundle.hash());
            if before.bundle(agency).is_none_or(|known| known.hash() != hash) {
                self.metrics.policy_changes.add(1);
                tracing::info!(agency, version, hash = hex(hash), "policies are in force");
            }
        }
    }
}
