//! Spent records: those of the journal that nobody needs. Some bear audit events, or tell what the log must know; they
//! are needed until the published log holds them.

use std::collections::BTreeMap;

/// A set of record sequences: two bits a record, and one number for all before the oldest that is needed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spent {
    /// Everything before it is spent once it is published. A multiple of 64.
    pub(super) before: u64,
    /// 64 records a block.
    pub(super) blocks: BTreeMap<u64, Block>,
    /// How many there are.
    len: u64,
}

/// 64 records: bit i stands for record 64 * block + i.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Block {
    /// Spent.
    pub(super) bits: u64,
    /// Spent once they are published.
    pub(super) logged: u64,
}

impl Spent {
    /// Everything up to `sequence`, once it is published.
    pub(super) fn up_to(sequence: u64) -> Self {
        let (block, bit) = (sequence / 64, sequence % 64);
        let mut spent = Self { before: block * 64, blocks: BTreeMap::new(), len: block * 64 };
        spent.restore(block, Block { bits: 0, logged: u64::MAX >> (63 - bit) });
        spent.advance();
        spent
    }

    /// A record that bears nothing for the log.
    pub(super) fn insert(&mut self, sequence: u64) {
        self.add(sequence, Block { bits: 1 << (sequence % 64), logged: 0 });
    }

    /// A record that is needed until it is published.
    pub(super) fn insert_logged(&mut self, sequence: u64) {
        self.add(sequence, Block { bits: 0, logged: 1 << (sequence % 64) });
    }

    /// Whether nobody needs the record, when the log is published up to that one.
    #[must_use]
    pub fn contains(&self, sequence: u64, published: u64) -> bool {
        let Block { bits, logged } = self.blocks.get(&(sequence / 64)).copied().unwrap_or_default();
        let is_set = |bits: u64| bits >> (sequence % 64) & 1 == 1;
        is_set(bits) || (sequence <= published && (sequence < self.before || is_set(logged)))
    }

    /// How many records are in the set, published or not.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts a block of a snapshot back.
    pub(super) fn restore(&mut self, block: u64, bits: Block) {
        self.len = self.len.saturating_add(u64::from((bits.bits | bits.logged).count_ones()));
        self.blocks.insert(block, bits);
    }

    /// Puts the number of a snapshot back.
    pub(super) fn restore_before(&mut self, before: u64) {
        self.len = self.len.saturating_add(before);
        self.before = before;
    }

    fn add(&mut self, sequence: u64, more: Block) {
        if sequence < self.before {
            return;
        }
        let block = self.blocks.entry(sequence / 64).or_default();
        let had = block.bits | block.logged;
        *block = Block { bits: block.bits | more.bits, logged: block.logged | more.logged };
        self.len = self.len.saturating_add(u64::from(had & (more.bits | more.logged) == 0));
        self.advance();
    }

    /// Full blocks at the front become the one number. There is no record 0.
    fn advance(&mut self) {
        while let Some(first) = self.blocks.first_entry().filter(|first| *first.key() == self.before / 64) {
            let (all, none) = (first.get().bits | first.get().logged, u64::from(*first.key() == 0));
            if all | none != u64::MAX {
                return;
            }
            first.remove();
            self.before = self.before.saturating_add(64);
            self.len = self.len.saturating_add(none & !all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_log_needs_is_spent_once_it_is_published() {
        let mut spent = Spent::default();
        spent.insert(3);
        spent.insert_logged(4);
        assert!(
            spent.contains(3, 0) && !spent.contains(4, 3) && spent.contains(4, 4) && !spent.contains(5, 9)
        );
        assert_eq!(spent.len(), 2);
        spent.insert(4);
        assert_eq!((spent.len(), spent.contains(4, 0)), (2, true));
    }

    #[test]
    fn all_before_the_oldest_that_is_needed_is_one_number() {
        let mut spent = Spent::default();
        (1..1_000)
            .filter(|n| *n != 500)
            .for_each(|n| if n % 3 == 0 { spent.insert(n) } else { spent.insert_logged(n) });
        assert_eq!((spent.before, spent.blocks.len()), (448, 9));
        assert!(!spent.contains(500, 2_000) && spent.contains(499, 499) && spent.contains(447, 447));
        assert!(!spent.contains(447, 446), "not published");
        spent.insert(500);
        assert_eq!((spent.before, spent.len()), (960, 1_000));
    }

    #[test]
    fn a_new_log_begins_behind_everything() {
        for last in [0, 1, 62, 63, 64, 200] {
            let spent = Spent::up_to(last);
            assert!(spent.contains(last, last) && !spent.contains(last + 1, u64::MAX), "{last}");
            assert!(!spent.contains(last, last.saturating_sub(1)) || last == 0);
            assert_eq!(spent.len(), last + 1);
        }
    }
}
