//! What was committed just now, kept for those who wait for it: most packets are handed over within moments, and need not be
//! read back from the journal.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::core::{
    queue::{Entry, Held},
    record::Fact,
};

/// Most bytes of records that are kept, as they stand in the journal.
const BYTES_MAX: usize = 2 * 1024 * 1024;

/// The youngest packets, admissions and outcomes.
#[derive(Debug, Default)]
pub(crate) struct Recent(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// By sequence, with its bytes in the journal.
    facts: BTreeMap<u64, (usize, Arc<Fact>)>,
    bytes: usize,
}

impl Recent {
    /// The fact in that record, if it is still here.
    pub(crate) fn get(&self, sequence: u64) -> Option<Arc<Fact>> {
        self.kept().facts.get(&sequence).map(|(_, fact)| Arc::clone(fact))
    }

    /// Whether all of it that is handed over is here. The oldest goes first, and a packet is older than its admission.
    pub(crate) fn has(&self, entry: &Entry) -> bool {
        let first = match entry.held {
            Held::Packet { admission, .. } => admission.saturating_sub(1),
            Held::Evidence { outcome, .. } => outcome,
        };
        self.kept().facts.contains_key(&first)
    }

    /// Takes over facts with their bytes, the first of which is in the record `first`; the oldest go.
    pub(crate) fn add(&self, first: u64, facts: impl IntoIterator<Item = (usize, Fact)>) {
        let mut kept = self.kept();
        for (sequence, (bytes, fact)) in (first..).zip(facts) {
            if matches!(fact, Fact::Packet(_) | Fact::Admission(_) | Fact::Outcome(_)) {
                kept.bytes = kept.bytes.saturating_add(bytes);
                kept.facts.insert(sequence, (bytes, Arc::new(fact)));
            }
        }
        while kept.bytes > BYTES_MAX
            && let Some((_, (bytes, _))) = kept.facts.pop_first()
        {
            kept.bytes = kept.bytes.saturating_sub(bytes);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn the_oldest_go_when_there_is_no_room() {
        let recent = Recent::default();
        let packet = |byte: u8| (BYTES_MAX / 4, Fact::Packet(Bytes::from(vec![byte])));
        let found = |sequence| recent.get(sequence).map(|fact| (*fact).clone());
        recent.add(1, [packet(1), packet(2)]);
        recent.add(3, [packet(3), packet(4)]);
        assert_eq!(found(1), Some(packet(1).1));
        recent.add(5, [packet(5)]);
        assert_eq!((found(1), found(2)), (None, Some(packet(2).1)));
        let entry = |admission| {
            let held = Held::Packet { admission, recipient_index: 0 };
            Entry { held, not_before_ms: 0, deliver_by_ms: 0 }
        };
        assert!(!recent.has(&entry(2)) && recent.has(&entry(3)), "a packet stands before its admission");
        recent.add(6, [(2 * BYTES_MAX, packet(6).1)]);
        assert!(
            (1..=6).all(|sequence| found(sequence).is_none()),
            "what is larger than all room is not kept"
        );
    }
}
