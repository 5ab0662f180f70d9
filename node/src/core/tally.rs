//! What evidence is kept, and how much more is: nothing that others say may fill this disk.

use std::collections::{HashMap, HashSet};

use lintas_proto::{
    id::Digest,
    schema::{Outcome, UnitRef},
};

/// Most verified statements about one packet and one recipient. The last is for an acceptance, so that no
/// number of failures keeps out that it arrived.
const BELIEVED_MAX: usize = 4;
/// Most statements about one packet that could not be verified.
const DOUBTED_MAX: usize = 16;

/// Evidence kept.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    believed: HashSet<Digest>,
    counts: HashMap<(Digest, Option<UnitRefKey>), usize>,
    doubted: HashMap<Digest, HashSet<Digest>>,
}

/// Agency and unit.
type UnitRefKey = (String, String);

fn key(packet: &Digest, recipient: Option<&UnitRef>) -> (Digest, Option<UnitRefKey>) {
    (*packet, recipient.map(|unit| (unit.agency.clone(), unit.unit.clone())))
}

impl Tally {
    /// Whether this evidence (SHA-256 of its bytes) is kept as verified.
    pub(crate) fn has(&self, evidence: &Digest) -> bool {
        self.believed.contains(evidence)
    }

    /// Counts verified evidence, whatever the bounds are.
    pub(crate) fn believe(&mut self, evidence: Digest, packet: &Digest, recipient: Option<&UnitRef>) {
        if self.believed.insert(evidence) {
            *self.counts.entry(key(packet, recipient)).or_default() += 1;
        }
    }

    /// Whether verified evidence finds room, with what `other` holds.
    pub(crate) fn room_to_believe(
        &self,
        other: &Self,
        packet: &Digest,
        recipient: Option<&UnitRef>,
        outcome: Outcome,
    ) -> bool {
        let key = key(packet, recipient);
        let count = |tally: &Self| tally.counts.get(&key).copied().unwrap_or_default();
        let max = if outcome == Outcome::Acceptance { BELIEVED_MAX } else { BELIEVED_MAX - 1 };
        count(self) + count(other) < max
    }

    /// SHA-256 of everything that is kept: what is believed, and what is not.
    #[cfg(feature = "sim")]
    pub(crate) fn all(&self) -> (Vec<Digest>, Vec<Digest>) {
        let doubted = self.doubted.values().flatten().copied();
        (self.believed.iter().copied().collect(), doubted.collect())
    }

    /// Counts evidence that could not be verified.
    pub(crate) fn doubt(&mut self, evidence: Digest, packet: &Digest) {
        self.doubted.entry(*packet).or_default().insert(evidence);
    }

    /// Whether evidence that could not be verified is new and finds room, with what `other` holds.
    pub(crate) fn room_to_doubt(&self, other: &Self, evidence: &Digest, packet: &Digest) -> bool {
        let held = |tally: &Self| tally.doubted.get(packet).is_some_and(|held| held.contains(evidence));
        let count = |tally: &Self| tally.doubted.get(packet).map(HashSet::len).unwrap_or_default();
        !held(self) && !held(other) && count(self) + count(other) < DOUBTED_MAX
    }
}
