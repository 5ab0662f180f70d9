//! The directories that were in force here. A packet that was sealed under one of them, and waited for its link, is
//! accepted while it may still be on its way, as long as every key that it uses is valid under the directory in
//! force: a change at one agency must not stop what others have already sealed.
//!
//! Each is remembered with its roster version, so that nobody can claim to have seen a newer directory than there is.

use std::collections::{BTreeMap, HashMap, VecDeque};

use lintas_proto::{id::Digest, limits};

/// How long a directory that is no longer in force may be named, milliseconds.
pub const NAMED_MS_MAX: u64 = limits::DELIVER_WITHIN_MS_MAX + limits::CLOCK_SKEW_MS_MAX;
/// Most directories remembered: 90 days of a region of 5,000 agencies that publish a keyset each week.
pub const DIRECTORIES_MAX: usize = 65_536;
/// Most directories remembered that keysets of one agency have made, so that nobody pushes out the others'.
pub const OF_ONE_CAUSE_MAX: usize = 1_024;

/// A directory that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// directory_hash.
    pub hash: Digest,
    /// When, milliseconds since 1970.
    pub since_ms: u64,
    /// Version of its roster.
    pub roster_version: u64,
    /// The agency whose keyset made it; empty when a roster did.
    pub cause: String,
}

/// The directories that may be named, the one in force included.
#[derive(Debug, Clone, Default)]
pub struct Earlier {
    /// With the end of their time, milliseconds since 1970.
    known: HashMap<Digest, (u64, Taken)>,
    /// In the order in which they were taken; the last is in force.
    order: VecDeque<Digest>,
    /// How many each agency has made.
    made: BTreeMap<String, usize>,
}

impl Earlier {
    /// From now on that one is in force. Nothing happens when it is already.
    pub fn take(&mut self, taken: Taken) {
        if self.order.back() == Some(&taken.hash) {
            return;
        }
        let (now_ms, cause) = (taken.since_ms, taken.cause.clone());
        if let Some((until_ms, _)) = self.order.back().and_then(|last| self.known.get_mut(last)) {
            *until_ms = now_ms.saturating_add(NAMED_MS_MAX);
        }
        self.forget_if(|_, known| known.hash == taken.hash, 1);
        self.forget_if(|until_ms, _| until_ms <= now_ms, usize::MAX);
        if !cause.is_empty() && self.made.get(&cause).is_some_and(|made| *made >= OF_ONE_CAUSE_MAX) {
            self.forget_if(|_, known| known.cause == cause, 1);
        }
        if self.order.len() >= DIRECTORIES_MAX {
            self.forget_if(|_, _| true, 1);
        }
        self.order.push_back(taken.hash);
        *self.made.entry(cause).or_default() += 1;
        self.known.insert(taken.hash, (u64::MAX, taken));
    }

    /// Roster version of a directory that may be named at `now_ms`.
    #[must_use]
    pub fn roster_version(&self, hash: &Digest, now_ms: u64) -> Option<u64> {
        self.known.get(hash).filter(|(until_ms, _)| now_ms < *until_ms).map(|(_, known)| known.roster_version)
    }

    /// All that are remembered, in order; the last is in force.
    pub fn iter(&self) -> impl Iterator<Item = &Taken> {
        self.order.iter().filter_map(|hash| self.known.get(hash)).map(|(_, taken)| taken)
    }

    /// Forgets the first `max` for which `which` holds.
    fn forget_if(&mut self, which: impl Fn(u64, &Taken) -> bool, mut max: usize) {
        let Self { known, order, made } = self;
        if !known.values().any(|(until_ms, taken)| which(*until_ms, taken)) {
            return;
        }
        order.retain(|hash| {
            let Some((until_ms, taken)) = known.get(hash) else { return false };
            if max == 0 || !which(*until_ms, taken) {
                return true;
            }
            max -= 1;
            let left = made.get(&taken.cause).copied().unwrap_or(0).saturating_sub(1);
            if left == 0 {
                made.remove(&taken.cause);
            } else {
                made.insert(taken.cause.clone(), left);
            }
            known.remove(hash);
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(number: u64, cause: &str) -> Taken {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_be_bytes());
        Taken { hash, since_ms: number, roster_version: number, cause: cause.to_owned() }
    }

    #[test]
    fn a_directory_may_be_named_as_long_as_a_packet_may_be_on_its_way() {
        let mut earlier = Earlier::default();
        earlier.take(taken(1, ""));
        assert_eq!(earlier.roster_version(&taken(1, "").hash, u64::MAX - 1), Some(1), "in force");
        earlier.take(taken(2, ""));
        earlier.take(taken(2, ""));
        assert_eq!(earlier.roster_version(&taken(1, "").hash, 1 + NAMED_MS_MAX), Some(1));
        assert_eq!(earlier.roster_version(&taken(1, "").hash, 2 + NAMED_MS_MAX), None);
        earlier.take(Taken { since_ms: 2 + NAMED_MS_MAX, ..taken(3, "") });
        assert_eq!(earlier.iter().map(|taken| taken.roster_version).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn one_agency_pushes_out_its_own_only() {
        let mut earlier = Earlier::default();
        earlier.take(taken(0, ""));
        earlier.take(taken(1, "KH"));
        for number in 2..2_000 {
            earlier.take(taken(number, "TH"));
        }
        let now_ms = 2_000;
        for number in [0, 1, 1_999, 2_000 - OF_ONE_CAUSE_MAX as u64] {
            assert_eq!(earlier.roster_version(&taken(number, "").hash, now_ms), Some(number));
        }
        assert_eq!(earlier.roster_version(&taken(1_999 - OF_ONE_CAUSE_MAX as u64, "").hash, now_ms), None);
        assert_eq!((earlier.order.len(), earlier.known.len()), (2 + OF_ONE_CAUSE_MAX, 2 + OF_ONE_CAUSE_MAX));
        assert_eq!(earlier.made.values().sum::<usize>(), earlier.order.len());
    }
}
