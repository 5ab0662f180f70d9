//! Which directories the audit log has attested lately, and whether the one in force here is one of them.
//!
//! A broker that shows one node another directory than the rest would have to put that directory into its log, under the
//! eyes of the witnesses. So nothing is sealed under a directory that no cosigned root entry names.

use std::collections::BTreeMap;

use lintas_proto::{
    audit::epoch::RootEntry,
    id::{Digest, hex, unhex},
    limits,
};

/// How long a new directory may be unattested while the one before it was attested, milliseconds: 10 minutes.
pub(crate) const CHANGE_MS: u64 = 10 * 60 * 1_000;
/// How much newer an attestation must be to be written again, milliseconds.
const WRITE_MS: u64 = 5 * 60 * 1_000;
/// Most directories that are remembered.
const DIRECTORIES_MAX: usize = 64;
/// Begins the file.
const FIRST_LINE: &str = "lintas attested 1";

/// The directory in force, and what attests it. Times are milliseconds since 1970, by the least of the entry's, the
/// witnesses' and this machine's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attested {
    current: Digest,
    /// Since when a directory is in force that was not attested before.
    since_ms: u64,
    /// When the last attested one before it was attested last; 0 for never.
    before_ms: u64,
    times: BTreeMap<Digest, u64>,
    /// As they stand in the file.
    written: BTreeMap<Digest, u64>,
}

/// Why nothing is sealed under the directory in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unattested {
    /// The last attestation is too old; 0 for none.
    Old {
        /// When it was.
        at_ms: u64,
    },
    /// The log attests others, not this one.
    Other {
        /// Since when it is in force.
        since_ms: u64,
    },
}

impl Attested {
    /// With the first directory, that people compared at that time.
    pub(crate) fn begin(directory: &Digest, compared_ms: u64) -> Self {
        let times = BTreeMap::from([(*directory, compared_ms)]);
        Self { current: *directory, since_ms: compared_ms, before_ms: 0, times, written: BTreeMap::new() }
    }

    /// That directory is in force now. True if it was not before: then it is to be written.
    pub(crate) fn in_force(&mut self, directory: &Digest, now_ms: u64) -> bool {
        if self.current == *directory {
            return false;
        }
        // Several changes in a row count from the first that was not attested.
        if let Some(at_ms) = self.times.get(&self.current) {
            (self.since_ms, self.before_ms) = (now_ms, *at_ms);
        }
        self.current = *directory;
        true
    }

    /// This node has verified that entry in a checkpoint that a quorum had cosigned by then. True if it is to be written.
    ///
    /// The older of both times counts: witnesses cosign an old tree again when they are asked to.
    pub(crate) fn note(&mut self, entry: &RootEntry, witnessed_at_ms: u64, now_ms: u64) -> bool {
        let at_ms = entry.time_ms.min(witnessed_at_ms).min(now_ms);
        let time = self.times.entry(entry.directory_hash).or_default();
        // A time that is far from now in the file stands there by damage, and would stay for ever.
        let known = *time;
        *time =
            if known.saturating_sub(now_ms) > limits::ATTESTED_WITHIN_MS { at_ms } else { at_ms.max(known) };
        let newest = *time;
        while self.times.len() > DIRECTORIES_MAX {
            let oldest = self.times.iter().filter(|(hash, _)| **hash != self.current);
            let Some(hash) = oldest.min_by_key(|(_, time)| **time).map(|(hash, _)| *hash) else { break };
            self.times.remove(&hash);
        }
        let written = self.written.get(&entry.directory_hash);
        written.is_none_or(|written| newest.abs_diff(*written) >= WRITE_MS)
    }

    /// When the directory in force was attested last, or the one before it while the change is young; or why it does not
    /// count. The file has no checksum: a time that is as far ahead as would be too long ago does not count either.
    pub(crate) fn check(&self, now_ms: u64) -> Result<u64, Unattested> {
        let fresh = |at_ms: u64| now_ms.abs_diff(at_ms) <= limits::ATTESTED_WITHIN_MS;
        match self.times.get(&self.current).copied() {
            Some(at_ms) if fresh(at_ms) => Ok(at_ms),
            Some(at_ms) => Err(Unattested::Old { at_ms }),
            None if !fresh(self.before_ms) => Err(Unattested::Old { at_ms: self.before_ms }),
            None if now_ms.abs_diff(self.since_ms) <= CHANGE_MS => Ok(self.before_ms),
            None => Err(Unattested::Other { since_ms: self.since_ms }),
        }
    }

    /// The bytes of the file; from now on they count as written.
    pub(crate) fn encode(&mut self) -> Vec<u8> {
        self.written = self.times.clone();
        let mut text = format!(
            "{FIRST_LINE}\ndirectory {} since {} before {}\n",
            hex(&self.current),
            self.since_ms,
            self.before_ms
        );
        for (hash, time) in &self.times {
            text.push_str(&format!("{} {time}\n", hex(hash)));
        }
        text.into_bytes()
    }

    /// Reads the file; none if it is damaged.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?.split('\n');
        if lines.next()? != FIRST_LINE {
            return None;
        }
        let words: Vec<&str> = lines.next()?.split(' ').collect();
        let ["directory", current, "since", since, "before", before] = words[..] else { return None };
        let time = |line: &str| {
            let (hash, time) = line.split_once(' ')?;
            Some((digest(hash)?, time.parse().ok()?))
        };
        let times: BTreeMap<Digest, u64> = lines.map(time).collect::<Option<_>>()?;
        let (since_ms, before_ms) = (since.parse().ok()?, before.parse().ok()?);
        Some(Self { current: digest(current)?, since_ms, before_ms, written: times.clone(), times })
    }
}

fn digest(text: &str) -> Option<Digest> {
    unhex(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = limits::ATTESTED_WITHIN_MS;
    const T: u64 = 1_900_000_000_000;

    fn entry(directory: u8, time_ms: u64) -> RootEntry {
        RootEntry {
            epoch: 1,
            time_ms,
            directory_hash: [directory; 32],
            policy_set_hash: [0; 32],
            slots: 3,
            slots_root: [0; 32],
        }
    }

    #[test]
    fn who_has_joined_may_write_for_a_day_and_then_needs_the_log() {
        let mut attested = Attested::begin(&[1; 32], T);
        assert_eq!(attested.check(T + DAY), Ok(T));
        assert_eq!(attested.check(T + DAY + 1), Err(Unattested::Old { at_ms: T }));
        attested.note(&entry(1, T + DAY), T + DAY + 5, T + DAY + 1_000);
        assert_eq!(attested.check(T + 2 * DAY), Ok(T + DAY));
        assert_eq!(attested.check(T + 2 * DAY + 1), Err(Unattested::Old { at_ms: T + DAY }));
    }

    #[test]
    fn an_old_tree_that_is_cosigned_again_and_times_of_the_future_attest_nothing_new() {
        let mut attested = Attested::begin(&[1; 32], T);
        attested.note(&entry(1, T + 5), T + 3 * DAY, T + 3 * DAY);
        assert_eq!(attested.check(T + 3 * DAY), Err(Unattested::Old { at_ms: T + 5 }));
        attested.note(&entry(1, T + 9 * DAY), T + 9 * DAY, T + 4 * DAY);
        assert_eq!(attested.check(T + 5 * DAY + 1), Err(Unattested::Old { at_ms: T + 4 * DAY }));
    }

    #[test]
    fn a_time_far_ahead_that_damage_has_written_counts_for_nothing_and_goes_with_the_next_attestation() {
        let text = String::from_utf8(Attested::begin(&[1; 32], T).encode()).unwrap();
        for flipped in ["5900000000000", "9900000000000", "1980000000000", "1904000000000"] {
            let mut attested = Attested::parse(text.replace(&T.to_string(), flipped).as_bytes()).unwrap();
            let at_ms = flipped.parse().unwrap();
            assert_eq!(attested.check(T), Err(Unattested::Old { at_ms }));
            assert!(attested.note(&entry(1, T + 5), T + 9, T + 9));
            assert_eq!(attested.check(T + 9), Ok(T + 5));
        }
    }

    #[test]
    fn a_change_has_some_minutes_to_be_attested() {
        let mut attested = Attested::begin(&[1; 32], T);
        assert!(attested.in_force(&[2; 32], T + 1_000) && !attested.in_force(&[2; 32], T + 2_000));
        assert_eq!(attested.check(T + 1_000 + CHANGE_MS), Ok(T));
        assert_eq!(attested.check(T + 1_001 + CHANGE_MS), Err(Unattested::Other { since_ms: T + 1_000 }));
        // The broker goes on with the old one: that changes nothing. A third directory gets no minutes of its own.
        attested.note(&entry(1, T + CHANGE_MS), T + CHANGE_MS, T + 2 * CHANGE_MS);
        attested.in_force(&[3; 32], T + 2 * CHANGE_MS);
        assert_eq!(attested.check(T + 2 * CHANGE_MS), Err(Unattested::Other { since_ms: T + 1_000 }));
        attested.note(&entry(3, T + 2 * CHANGE_MS), T + 2 * CHANGE_MS, T + 2 * CHANGE_MS);
        assert_eq!(attested.check(T + DAY), Ok(T + 2 * CHANGE_MS));
        // One that was attested before it came here counts at once; whoever was offline for long has no minutes.
        attested.note(&entry(4, T + DAY), T + DAY, T + DAY);
        attested.in_force(&[4; 32], T + DAY + 1);
        assert_eq!(attested.check(T + DAY + CHANGE_MS * 2), Ok(T + DAY));
        attested.in_force(&[5; 32], T + 3 * DAY);
        assert_eq!(attested.check(T + 3 * DAY), Err(Unattested::Old { at_ms: T + DAY }));
    }

    #[test]
    fn the_file_reads_as_it_was_written_and_is_not_written_for_every_entry() {
        let mut attested = Attested::begin(&[1; 32], T);
        let bytes = attested.encode();
        assert_eq!(Attested::parse(&bytes).as_ref(), Some(&attested));
        assert!(!attested.note(&entry(1, T + 10_000), T + 10_000, T + 10_000));
        assert!(attested.note(&entry(1, T + WRITE_MS), T + WRITE_MS, T + WRITE_MS));
        assert!(attested.note(&entry(2, T + WRITE_MS), T + WRITE_MS, T + WRITE_MS));
        for number in 0..200u8 {
            attested.note(&entry(number, T + u64::from(number)), u64::MAX, T + DAY);
        }
        assert!(attested.times.len() <= DIRECTORIES_MAX && attested.check(T + DAY).is_ok());
        assert_eq!(Attested::parse(b"lintas attested 2\n"), None);
    }
}
