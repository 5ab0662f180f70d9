//! Everything that is in force at one time: the baseline and one bundle for each agency that has published any. A change of
//! anything makes another one, with another hash; nothing is ever changed in place.

use std::{collections::HashMap, sync::Arc};

use lintas_proto::{
    id::{Digest, sha256},
    schema::Roster,
};

use super::{
    baseline::Baseline,
    bundle::Bundle,
    decide::{Asked, Decision, Layers, decide},
    memory::{Memory, key},
    question::Question,
    set::{PolicySet, Problem},
};

/// See the module.
#[derive(Debug)]
pub struct Policies {
    roster: Arc<Roster>,
    /// As it was read, with what has left it.
    region: Arc<Baseline>,
    baseline: Vec<PolicySet>,
    baseline_hash: Digest,
    /// One of each agency, in the order of their codes.
    bundles: Vec<Arc<Bundle>>,
    /// Where each agency's stands: to search thousands of names in order costs more than all else of a decision that is
    /// remembered.
    places: HashMap<Box<str>, usize>,
    hash: Digest,
    next_change_ms: Option<u64>,
    /// Of everything that was decided under this roster.
    memory: Arc<Memory>,
}

impl Policies {
    /// Of a roster, and of each agency the newest of `bundles` whose time has come at `now_ms`.
    ///
    /// # Errors
    /// What is wrong with the roster's baseline.
    pub fn new(
        roster: Arc<Roster>,
        bundles: impl IntoIterator<Item = Arc<Bundle>>,
        now_ms: u64,
    ) -> Result<Self, Problem> {
        let region = Arc::new(Baseline::read(&roster)?);
        Ok(Self::of(roster, region, Arc::default(), bundles, now_ms))
    }

    /// Of the same roster, with other bundles or at another time. Nothing is read again.
    #[must_use]
    pub fn with(&self, bundles: impl IntoIterator<Item = Arc<Bundle>>, now_ms: u64) -> Self {
        let (roster, region) = (Arc::clone(&self.roster), Arc::clone(&self.region));
        Self::of(roster, region, Arc::clone(&self.memory), bundles, now_ms)
    }

    fn of(
        roster: Arc<Roster>,
        region: Arc<Baseline>,
        memory: Arc<Memory>,
        bundles: impl IntoIterator<Item = Arc<Bundle>>,
        now_ms: u64,
    ) -> Self {
        let (baseline, baseline_hash) = region.at(now_ms);
        let mut next = region.next_change_ms(now_ms);
        let mut in_force: Vec<Arc<Bundle>> = Vec::new();
        for bundle in bundles {
            let begins_ms = bundle.said().not_before_ms;
            if begins_ms > now_ms {
                next = Some(next.map_or(begins_ms, |next| next.min(begins_ms)));
                continue;
            }
            in_force.push(bundle);
        }
        // Of each agency the newest. They mostly come in order, and then this is one look at each.
        in_force.sort_by(|a, b| a.owner().cmp(b.owner()).then(b.version().cmp(&a.version())));
        in_force.dedup_by(|older, newer| older.owner() == newer.owner());
        let mut hashed = [b"lintas/v1/policy-set\0".as_slice(), &baseline_hash].concat();
        for bundle in &in_force {
            hashed.extend_from_slice(bundle.owner().as_bytes());
            hashed.push(0);
            hashed.extend_from_slice(bundle.hash());
        }
        Self {
            baseline: baseline.into_iter().cloned().collect(),
            baseline_hash,
            roster,
            region,
            places: in_force.iter().enumerate().map(|(at, bundle)| (bundle.owner().into(), at)).collect(),
            bundles: in_force,
            hash: sha256(&[&hashed]),
            next_change_ms: next,
            memory,
        }
    }

    /// policy_set_hash: SHA-256("lintas/v1/policy-set" 00 ‖ hash of the baseline ‖ for each agency in order: code ‖ 00 ‖
    /// hash of its bundle).
    #[must_use]
    pub fn hash(&self) -> &Digest {
        &self.hash
    }

    /// When time alone makes another set of it: a bundle begins, a policy has left the baseline.
    #[must_use]
    pub fn next_change_ms(&self) -> Option<u64> {
        self.next_change_ms
    }

    /// An agency's bundle.
    #[must_use]
    pub fn bundle(&self, agency: &str) -> Option<&Arc<Bundle>> {
        self.bundles.get(*self.places.get(agency)?)
    }

    /// All bundles, in the order of their owners.
    pub fn bundles(&self) -> impl Iterator<Item = &Arc<Bundle>> {
        self.bundles.iter()
    }

    /// The roster under which it decides.
    #[must_use]
    pub fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }

    /// The decision. Remembered: the question may be asked again and again.
    #[must_use]
    pub fn decide(&self, question: &Question<'_>, layers: Layers) -> Arc<Decision> {
        self.decide_until(question, layers).0
    }

    /// The decision, and up to when it stays the same (not included) as long as this set is in force, milliseconds since
    /// 1970.
    #[must_use]
    pub fn decide_until(&self, question: &Question<'_>, layers: Layers) -> (Arc<Decision>, u64) {
        let asked = self.asked(question);
        let key = key(question, layers, (asked, &self.baseline_hash));
        self.memory.recall(&key, question.now_ms).unwrap_or_else(|| {
            let decision = Arc::new(decide(asked, &self.roster, question, layers));
            let until_ms = Self::same_until_ms(asked, question.now_ms);
            self.memory.keep(key, &decision, question.now_ms, until_ms);
            (decision, until_ms)
        })
    }

    fn same_until_ms(Asked { baseline, originator, recipient }: Asked<'_>, now_ms: u64) -> u64 {
        let moment = |set: &PolicySet| set.next_moment_ms(now_ms);
        let moments = baseline.iter().filter_map(moment).chain(originator.and_then(moment));
        moments.chain(recipient.and_then(moment)).min().unwrap_or(u64::MAX)
    }

    fn asked(&self, question: &Question<'_>) -> Asked<'_> {
        let of = |agency: &str| self.bundle(agency).map(|bundle| bundle.policies());
        Asked {
            baseline: &self.baseline,
            originator: of(&question.originator.agency),
            recipient: of(&question.recipient.agency),
        }
    }
}
