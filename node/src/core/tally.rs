//! What evidence is kept, and how much more is: nothing that others say may fill this disk.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    ops::Bound,
};

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
    /// By packet; and the record of each, once it is kept.
    doubted: HashMap<Digest, HashMap<Digest, Option<u64>>>,
    /// All of those records.
    records: BTreeSet<u64>,
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
        if let Some(Some(record)) = self.doubted.get_mut(packet).and_then(|held| held.remove(&evidence)) {
            self.records.remove(&record);
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
        let doubted = self.doubted.values().flat_map(HashMap::keys).copied();
        (self.believed.iter().copied().collect(), doubted.collect())
    }

    /// Counts evidence that could not be verified, and is in that record if it is kept already.
    pub(crate) fn doubt(&mut self, evidence: Digest, packet: &Digest, record: Option<u64>) {
        let before = self.doubted.entry(*packet).or_default().insert(evidence, record);
        if let Some(before) = before.flatten() {
            self.records.remove(&before);
        }
        self.records.extend(record);
    }

    /// Records of evidence that is not believed, behind that one, oldest first; so many at most.
    pub(crate) fn doubted(&self, after: u64, max: usize) -> Vec<u64> {
        self.records.range((Bound::Excluded(after), Bound::Unbounded)).take(max).copied().collect()
    }

    /// Whether evidence that could not be verified is new and finds room, with what `other` holds.
    pub(crate) fn room_to_doubt(&self, other: &Self, evidence: &Digest, packet: &Digest) -> bool {
        let held = |tally: &Self| tally.doubted.get(packet).is_some_and(|held| held.contains_key(evidence));
        let count = |tally: &Self| tally.doubted.get(packet).map(HashMap::len).unwrap_or_default();
        !held(self) && !held(other) && count(self) + count(other) < DOUBTED_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_doubted_is_listed_in_order_once_and_not_when_it_is_believed() {
        let (mut tally, evidence) = (Tally::default(), |number: u8| [number; 32]);
        for (number, record) in [(1, Some(30)), (2, None), (3, Some(10)), (4, Some(20)), (1, Some(40))] {
            tally.doubt(evidence(number), &[number % 2; 32], record);
        }
        assert_eq!(tally.doubted(0, 9), [10, 20, 40]);
        assert_eq!((tally.doubted(10, 1), tally.doubted(40, 9)), (vec![20], vec![]));
        tally.believe(evidence(4), &[0; 32], None);
        tally.believe(evidence(2), &[0; 32], None);
        assert_eq!(tally.doubted(0, 9), [10, 40]);
    }
}
