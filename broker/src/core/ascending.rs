//! A map for keys that mostly come in ascending order and mostly go in that order: queue entries, packets, deadlines. Those
//! of the standard library keep their nodes half empty then. There may be millions of entries, so each takes little more
//! than itself.

use std::{collections::BTreeMap, fmt::Debug};

/// Entries that lie together: what is in the middle is moved within them only.
const CHUNK: usize = 32;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Ascending<K, V> {
    /// By a key that is not above any in it, and above all in the chunk before. None is empty.
    chunks: BTreeMap<K, Vec<(K, V)>>,
    len: usize,
}

impl<K, V> Default for Ascending<K, V> {
    fn default() -> Self {
        Self { chunks: BTreeMap::new(), len: 0 }
    }
}

impl<K: Ord + Copy, V: PartialEq> PartialEq for Ascending<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<K: Ord + Copy, V: Eq> Eq for Ascending<K, V> {}

impl<K: Ord + Copy, V> Ascending<K, V> {
    /// The value that was there, if any.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let before = self.chunks.range_mut(..=key).next_back();
        let Some((_, chunk)) = before else {
            self.chunks.insert(key, vec![(key, value)]);
            self.len += 1;
            return None;
        };
        match chunk.binary_search_by_key(&key, |(key, _)| *key) {
            Ok(at) => return chunk.get_mut(at).map(|(_, there)| std::mem::replace(there, value)),
            Err(at) if chunk.len() < CHUNK => chunk.insert(at, (key, value)),
            Err(at) => {
                // What stands behind it, nothing as a rule, goes on in a chunk of its own.
                let behind = chunk.split_off(at);
                let mut own = Some((key, value));
                if chunk.is_empty() {
                    chunk.extend(own.take());
                }
                if let Some((first, _)) = behind.first() {
                    self.chunks.insert(*first, behind);
                }
                if let Some(own) = own {
                    self.chunks.insert(key, vec![own]);
                }
            }
        }
        self.len += 1;
        None
    }

    /// Takes a value out.
    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let (first, chunk) = self.chunks.range_mut(..=*key).next_back()?;
        let at = chunk.binary_search_by_key(key, |(key, _)| *key).ok()?;
        let (_, value) = chunk.remove(at);
        self.len -= 1;
        if chunk.is_empty() {
            let first = *first;
            self.chunks.remove(&first);
        } else if chunk.len() < chunk.capacity() / 2 {
            chunk.shrink_to_fit();
        }
        Some(value)
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        let (_, chunk) = self.chunks.range(..=*key).next_back()?;
        let at = chunk.binary_search_by_key(key, |(key, _)| *key).ok()?;
        chunk.get(at).map(|(_, value)| value)
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let (_, chunk) = self.chunks.range_mut(..=*key).next_back()?;
        let at = chunk.binary_search_by_key(key, |(key, _)| *key).ok()?;
        chunk.get_mut(at).map(|(_, value)| value)
    }

    pub(super) fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// In order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.chunks.values().flatten().map(|(key, value)| (*key, value))
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.chunks.values().flatten().map(|(_, value)| value)
    }

    /// From `key` on, in order.
    pub(super) fn from(&self, key: K) -> impl Iterator<Item = (K, &V)> {
        let first = self.chunks.range(..=key).next_back().map_or(key, |(first, _)| *first);
        let chunks = self.chunks.range(first..).flat_map(|(_, chunk)| chunk);
        chunks.map(|(key, value)| (*key, value)).skip_while(move |(at, _)| *at < key)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((any::<bool>(), 0u64..300), 0..600), from in 0u64..300) {
            let (mut ours, mut model) = (Ascending::default(), BTreeMap::new());
            for ((puts, key), value) in steps.into_iter().zip(0..) {
                if puts {
                    prop_assert_eq!(ours.insert(key, value), model.insert(key, value));
                } else {
                    prop_assert_eq!(ours.remove(&key), model.remove(&key));
                }
                prop_assert_eq!((ours.len(), ours.is_empty()), (model.len(), model.is_empty()));
                prop_assert_eq!(ours.get(&key).copied(), model.get(&key).copied());
                prop_assert!(ours.chunks.values().all(|chunk| !chunk.is_empty()));
            }
            prop_assert!(ours.iter().eq(model.iter().map(|(key, value)| (*key, value))));
            prop_assert!(ours.from(from).eq(model.range(from..).map(|(key, value)| (*key, value))));
            let other = model.into_iter().fold(Ascending::default(), |mut other, (key, value)| {
                other.insert(key, value);
                other
            });
            prop_assert_eq!(ours, other);
        }
    }

    #[test]
    fn what_comes_in_order_lies_together_and_what_is_left_takes_no_more_than_it_must() {
        let mut map = Ascending::default();
        for key in 0..10_000u64 {
            map.insert(key, key);
        }
        let held = |map: &Ascending<u64, u64>| map.chunks.values().map(Vec::capacity).sum::<usize>();
        assert!(held(&map) <= 10_000 + CHUNK, "{}", held(&map));
        for key in (0..10_000).filter(|key| key % 100 != 0) {
            map.remove(&key);
        }
        assert_eq!(map.len(), 100);
        assert!(held(&map) <= 400, "{}", held(&map));
    }
}
