//! The packet ids that were used and may come again. There are as many as packets in the longest time that one may take,
//! so each takes little more than what is known of it: a row, its place in a table, and when it is forgotten.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    hash::{BuildHasher as _, RandomState},
};

use hashbrown::{HashTable, hash_table::Entry};
use lintas_proto::id::PacketId;

use super::ledger::Seen;

/// Rows that lie together: one more packet never moves all others.
const CHUNK: usize = 256;

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    rows: Vec<Vec<Row>>,
    /// Numbers of rows that stand for nothing.
    free: Vec<u32>,
    /// Numbers of rows by packet id.
    places: HashTable<u32>,
    /// When each is forgotten, and its row; what is forgotten first is first.
    forget: BinaryHeap<Reverse<(u64, u32)>>,
    hasher: RandomState,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    id: PacketId,
    seen: Seen,
}

impl Known {
    /// What is known of a packet id.
    pub(super) fn get(&self, id: &PacketId) -> Option<&Seen> {
        let place = self.places.find(self.hasher.hash_one(id), |place| self.is(*place, id))?;
        row(&self.rows, *place).map(|row| &row.seen)
    }

    /// As [`get`](Self::get); when it is forgotten must stay as it is.
    pub(super) fn get_mut(&mut self, id: &PacketId) -> Option<&mut Seen> {
        let place = *self.places.find(self.hasher.hash_one(id), |place| self.is(*place, id))? as usize;
        self.rows.get_mut(place / CHUNK)?.get_mut(place % CHUNK).map(|row| &mut row.seen)
    }

    /// Makes room for so many more, if there will be: a table that grows is built anew each time.
    pub(super) fn reserve(&mut self, more: usize) {
        let Self { rows, places, hasher, .. } = self;
        places.reserve(more, |place| row(rows, *place).map_or(0, |row| hasher.hash_one(row.id)));
    }

    /// Remembers a packet id, once; false if it is known.
    pub(super) fn insert(&mut self, id: PacketId, seen: Seen) -> bool {
        let Self { rows, free, places, forget, hasher } = self;
        let same = |place: &u32| row(rows, *place).is_some_and(|row| row.id == id);
        let rehash = |place: &u32| hasher.hash_one(row(rows, *place).map_or(id, |row| row.id));
        let Entry::Vacant(vacant) = places.entry(hasher.hash_one(id), same, rehash) else { return false };
        let last = rows.len().saturating_sub(1).saturating_mul(CHUNK);
        let next = last.saturating_add(rows.last().map_or(0, Vec::len));
        let place = free.pop().unwrap_or(u32::try_from(next).unwrap_or(u32::MAX));
        vacant.insert(place);
        forget.push(Reverse((seen.forget_ms, place)));
        let place = place as usize;
        if rows.len() <= place / CHUNK {
            rows.push(Vec::with_capacity(CHUNK));
        }
        if let Some(chunk) = rows.get_mut(place / CHUNK) {
            match chunk.get_mut(place % CHUNK) {
                Some(old) => *old = Row { id, seen },
                None => chunk.push(Row { id, seen }),
            }
        }
        true
    }

    /// Forgets one whose time is over at `time_ms`, if there is any.
    pub(super) fn forget(&mut self, time_ms: u64) -> Option<Seen> {
        let Reverse((_, place)) = self.forget.peek().copied().filter(|Reverse((at, _))| *at <= time_ms)?;
        self.forget.pop();
        let Row { id, seen } = *row(&self.rows, place)?;
        let found = self.places.find_entry(self.hasher.hash_one(id), |at| *at == place);
        found.ok()?.remove();
        self.free.push(place);
        Some(seen)
    }

    /// All of them, those that are forgotten first first.
    pub(super) fn in_order(&self) -> Vec<(PacketId, Seen)> {
        let rows = self.places.iter().filter_map(|place| row(&self.rows, *place));
        let mut all: Vec<_> = rows.map(|row| (row.id, row.seen)).collect();
        all.sort_unstable_by_key(|(id, seen)| (seen.forget_ms, *id));
        all
    }

    fn is(&self, place: u32, id: &PacketId) -> bool {
        row(&self.rows, place).is_some_and(|row| row.id == *id)
    }
}

fn row(rows: &[Vec<Row>], place: u32) -> Option<&Row> {
    let place = place as usize;
    rows.get(place / CHUNK)?.get(place % CHUNK)
}

impl PartialEq for Known {
    fn eq(&self, other: &Self) -> bool {
        let same = |place: &u32| {
            let mine = row(&self.rows, *place);
            mine.is_some_and(|row| other.get(&row.id) == Some(&row.seen))
        };
        self.places.len() == other.places.len() && self.places.iter().all(same)
    }
}

impl Eq for Known {}

#[cfg(test)]
mod tests {
    use lintas_config::os_entropy;

    use super::*;

    #[test]
    fn each_is_known_until_it_is_forgotten() {
        let ids: Vec<PacketId> = (0..2_000).map(|at| PacketId::new(at, &mut os_entropy())).collect();
        let seen = |at: u64| Seen { digest: [7; 32], admission: at, forget_ms: 1_000 + at * 37 % 1_000 };
        let mut known = Known::default();
        for round in 0..3 {
            for (id, at) in ids.iter().zip(0..) {
                assert!(known.insert(*id, seen(at)) && !known.insert(*id, seen(at + 1)), "{round} {at}");
            }
            assert!(ids.iter().zip(0..).all(|(id, at)| known.get(id) == Some(&seen(at))));
            let order: Vec<u64> = known.in_order().iter().map(|(_, seen)| seen.forget_ms).collect();
            assert!(order.is_sorted() && order.len() == ids.len());
            assert_eq!(known, known.clone());
            assert_eq!(known.forget(999), None);
            let gone: Vec<u64> =
                std::iter::from_fn(|| known.forget(1_499)).map(|seen| seen.forget_ms).collect();
            assert!(gone.len() == 1_000 && gone.is_sorted() && gone.last() == Some(&1_499));
            assert_eq!(ids.iter().filter(|id| known.get(id).is_some()).count(), 1_000);
            while known.forget(u64::MAX).is_some() {}
            assert_eq!(known, Known::default());
        }
        assert!(known.rows.len() <= 2_000 / CHUNK + 1, "rows are used again");
    }
}
