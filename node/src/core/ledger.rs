//! Where the content keys of kept packets are, and which were destroyed: part of the fold over the journal. About 100
//! bytes for each packet.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use lintas_proto::schema::StoredPurge;

/// Records by page, and pages by record.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Records whose content keys are sealed under each page, those that were purged left out.
    pages: BTreeMap<u64, BTreeSet<u64>>,
    page_of: HashMap<u64, u64>,
    /// Keys that a purge moved: page and sealed key.
    moved: HashMap<u64, (u64, Bytes)>,
    /// When a record was purged.
    purged: BTreeMap<u64, u64>,
    /// Pages that are to be destroyed, or are.
    destroyed: BTreeSet<u64>,
    /// Highest page, how many keys were ever sealed under it by packets that came, and since when.
    newest: (u64, usize, u64),
}

impl Ledger {
    /// A packet was kept, its key sealed under `page`.
    pub(crate) fn sealed(&mut self, sequence: u64, page: u64, time_ms: u64) {
        self.pages.entry(page).or_default().insert(sequence);
        self.page_of.insert(sequence, page);
        let (newest, keys, _) = &mut self.newest;
        if page > *newest {
            self.newest = (page, 1, time_ms);
        } else if page == *newest {
            *keys += 1;
        }
    }

    /// Packets were purged.
    pub(crate) fn purge(&mut self, stored: &StoredPurge) {
        for sequence in &stored.records {
            self.leave_page(*sequence);
            self.moved.remove(sequence);
            self.purged.entry(*sequence).or_insert(stored.time_ms);
        }
        for moved in &stored.moved {
            self.leave_page(moved.record);
            self.pages.entry(moved.key_page).or_default().insert(moved.record);
            self.page_of.insert(moved.record, moved.key_page);
            // A copy: the bytes of the record are not kept for it.
            let sealed = Bytes::copy_from_slice(&moved.sealed_key);
            self.moved.insert(moved.record, (moved.key_page, sealed));
            // Nothing else is sealed under such a page.
            if moved.key_page > self.newest.0 {
                self.newest = (moved.key_page, super::pages::PAGE_KEYS_MAX, stored.time_ms);
            }
        }
        self.destroyed.extend(&stored.pages);
    }

    fn leave_page(&mut self, sequence: u64) {
        let Some(page) = self.page_of.remove(&sequence) else { return };
        if let Some(records) = self.pages.get_mut(&page) {
            records.remove(&sequence);
            if records.is_empty() {
                self.pages.remove(&page);
            }
        }
    }

    /// The page of a record whose key lives.
    pub(crate) fn page_of(&self, sequence: u64) -> Option<u64> {
        self.page_of.get(&sequence).copied()
    }

    /// Records whose keys live under a page, in order.
    pub(crate) fn on_page(&self, page: u64) -> impl Iterator<Item = u64> {
        self.pages.get(&page).into_iter().flatten().copied()
    }

    /// Pages under which keys of kept packets are sealed.
    pub(crate) fn live_pages(&self) -> impl Iterator<Item = u64> {
        self.pages.keys().copied()
    }

    /// Where a purge moved the key of a record: page and sealed key.
    pub(crate) fn moved(&self, sequence: u64) -> Option<(u64, &Bytes)> {
        self.moved.get(&sequence).map(|(page, sealed)| (*page, sealed))
    }

    /// When a record was purged.
    pub(crate) fn purged_ms(&self, sequence: u64) -> Option<u64> {
        self.purged.get(&sequence).copied()
    }

    /// Every record that was purged.
    pub(crate) fn purged(&self) -> impl Iterator<Item = u64> {
        self.purged.keys().copied()
    }

    /// Pages that no key file may hold any more.
    pub(crate) fn destroyed(&self) -> &BTreeSet<u64> {
        &self.destroyed
    }

    /// The highest page under which something was sealed, how many keys, and since when; zeros before the first.
    pub(crate) fn newest(&self) -> (u64, usize, u64) {
        self.newest
    }
}

#[cfg(test)]
mod tests {
    use lintas_proto::schema::MovedKey;

    use super::*;

    #[test]
    fn purged_keys_leave_their_page_and_the_others_move() {
        let mut ledger = Ledger::default();
        for (sequence, page) in [(1, 1), (2, 1), (3, 1), (4, 2)] {
            ledger.sealed(sequence, page, sequence * 10);
        }
        assert_eq!(ledger.newest(), (2, 1, 40));
        let moved = |record, key_page| MovedKey { record, key_page, sealed_key: Bytes::from_static(b"key") };
        let purge = StoredPurge {
            records: vec![2],
            moved: vec![moved(1, 3), moved(3, 3)],
            pages: vec![1],
            time_ms: 50,
        };
        ledger.purge(&purge);
        assert_eq!((ledger.purged_ms(2), ledger.purged_ms(1), ledger.page_of(2)), (Some(50), None, None));
        assert_eq!(ledger.on_page(1).count(), 0);
        assert_eq!(ledger.on_page(3).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(ledger.moved(3), Some((3, &Bytes::from_static(b"key"))));
        // A page of moved keys takes no others.
        assert_eq!(ledger.newest(), (3, crate::core::pages::PAGE_KEYS_MAX, 50));
        let again =
            StoredPurge { records: vec![1, 2], moved: vec![moved(3, 4)], pages: vec![3], time_ms: 60 };
        ledger.purge(&again);
        assert_eq!((ledger.purged_ms(1), ledger.purged_ms(2)), (Some(60), Some(50)), "once is for ever");
        assert_eq!((ledger.page_of(3), ledger.page_of(1)), (Some(4), None));
        assert_eq!(ledger.destroyed().iter().copied().collect::<Vec<_>>(), [1, 3]);
    }
}
