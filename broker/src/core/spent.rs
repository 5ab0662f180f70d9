//! Spent records: those of the journal that nobody needs.

use std::collections::BTreeMap;

/// A set of record sequences: one bit a record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spent {
    /// 64 records a block.
    pub(super) blocks: BTreeMap<u64, u64>,
}

impl Spent {
    pub(super) fn insert(&mut self, sequence: u64) {
        *self.blocks.entry(sequence / 64).or_default() |= 1 << (sequence % 64);
    }

    /// Whether the record is in the set.
    #[must_use]
    pub fn contains(&self, sequence: u64) -> bool {
        self.blocks.get(&(sequence / 64)).is_some_and(|bits| bits >> (sequence % 64) & 1 == 1)
    }
}
