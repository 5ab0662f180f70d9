//! Quota: how much one agency may submit, how much may wait for one agency, and how often one may learn that others do not
//! accept what it sends: whoever asks often enough reads their policies.
//!
//! A packet that is refused for a full disk has been counted. Rates are not durable: a broker that starts gives every
//! agency a full minute's worth.

use std::collections::BTreeMap;

use super::{ledger::Ledger, pace::Pace, queue::Queue};

/// Of a queue, one originator's packets may take one part in this many, so that nobody fills it for the others.
pub const ORIGINATOR_SHARE: usize = 5;
/// How many denials by other agencies' policies one originator is told at once, and how often one more, milliseconds.
const PROBES: (u64, u64) = (60, 10_000);
/// What one packet costs: a bucket gains the rate (packets a minute) each millisecond.
const PACKET: u64 = 60_000;

/// Quota of all agencies. Owned by whoever plans; one bucket per agency that has submitted something verified,
/// so there are at most as many as active members.
#[derive(Debug, Clone)]
pub struct Quota {
    /// Packets a minute; 0 for no limit.
    submissions_per_minute: u32,
    /// Most entries of one agency's queue, 1 or more.
    queue_entries_max: usize,
    buckets: BTreeMap<String, Bucket>,
    probes: Pace,
}

/// A token bucket, in parts of a packet: [`PACKET`] are one.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    level: u64,
    at_ms: u64,
}

/// Queue entries that a plan adds, by agency and originator.
pub type Planned = BTreeMap<String, BTreeMap<String, usize>>;

impl Quota {
    /// Full buckets. `submissions_per_minute` is both the rate and the largest burst; 0 is no limit.
    #[must_use]
    pub fn new(submissions_per_minute: u32, queue_entries_max: u32) -> Self {
        let queue_entries_max = usize::try_from(queue_entries_max).unwrap_or(usize::MAX).max(1);
        Self {
            submissions_per_minute,
            queue_entries_max,
            buckets: BTreeMap::new(),
            probes: Pace::new(PROBES.0, PROBES.1),
        }
    }

    /// Counts one packet of `originator`, or says, for its refusal, what the limit is and when there is room again.
    ///
    /// # Errors
    /// The sentence; nothing was counted.
    pub fn count(&mut self, originator: &str, now_ms: u64) -> Result<(), String> {
        let rate = u64::from(self.submissions_per_minute);
        if rate == 0 {
            return Ok(());
        }
        let full = Bucket { level: rate * PACKET, at_ms: now_ms };
        let bucket = self.buckets.entry(originator.to_owned()).or_insert(full);
        // A clock that was set back gives nothing, and takes nothing either.
        let gained = now_ms.saturating_sub(bucket.at_ms).saturating_mul(rate);
        *bucket = Bucket { level: bucket.level.saturating_add(gained).min(full.level), at_ms: now_ms };
        match bucket.level.checked_sub(PACKET) {
            Some(left) => {
                bucket.level = left;
                Ok(())
            }
            None => {
                let seconds = (PACKET - bucket.level).div_ceil(rate).div_ceil(1_000);
                Err(format!(
                    "The broker takes {rate} packets a minute from {originator}; try again in {seconds} s."
                ))
            }
        }
    }

    /// Says which queue has no room for a packet of `originator` that needs `needed` entries per agency, beside
    /// what is `planned`.
    #[must_use]
    pub fn no_room(
        &self,
        ledger: &Ledger,
        planned: &Planned,
        originator: &str,
        needed: &BTreeMap<&str, usize>,
    ) -> Option<String> {
        let (most, own_most) = (self.queue_entries_max, self.per_originator());
        // Each packet brings evidence back, so an agency that takes none may not go on.
        if ledger.queue(originator).map_or(0, Queue::len) >= most {
            return Some(format!(
                "The queue of {originator} is full ({most} entries); fetch what waits there first."
            ));
        }
        let (agency, _) = needed.iter().find(|(agency, needed)| {
            let (queue, planned) = (ledger.queue(agency), planned.get(**agency));
            let all: usize = planned.map_or(0, |from| from.values().sum());
            let own = planned.and_then(|from| from.get(originator)).copied().unwrap_or(0);
            let before = queue.map_or(0, |queue| queue.packets_from(originator));
            queue.map_or(0, Queue::len) + all + **needed > most || before + own + **needed > own_most
        })?;
        Some(format!(
            "The queue of {agency} has no room for more from {originator} (at most {own_most} of its own, {most} \
             of all); try again when {agency} has taken some."
        ))
    }

    /// Whether an originator may be told now that other agencies do not accept a packet; otherwise what it is told instead.
    ///
    /// # Errors
    /// The sentence.
    pub fn may_probe(&self, originator: &str, now_ms: u64) -> Result<(), String> {
        match self.probes.wait_ms(originator, now_ms) {
            0 => Ok(()),
            wait_ms => Err(format!(
                "Other agencies have not accepted too many packets of {originator}; the broker looks at this one again in \
                 {} s. Find out why they do not, and send them what they take.",
                wait_ms.div_ceil(1_000)
            )),
        }
    }

    /// It is told of so many.
    pub fn probed(&mut self, originator: &str, denials: usize, now_ms: u64) {
        if denials > 0 {
            self.probes.count_all(originator, u64::try_from(denials).unwrap_or(u64::MAX), now_ms);
        }
    }

    /// Most entries of one originator in one queue.
    #[must_use]
    pub fn per_originator(&self) -> usize {
        (self.queue_entries_max / ORIGINATOR_SHARE).max(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::NOW;

    #[test]
    fn a_minutes_worth_at_once_then_one_at_a_time() {
        let mut quota = Quota::new(60, 100);
        for _ in 0..60 {
            quota.count("TH", NOW).unwrap();
        }
        let refused = quota.count("TH", NOW).unwrap_err();
        assert_eq!(refused, "The broker takes 60 packets a minute from TH; try again in 1 s.");
        quota.count("KH", NOW).unwrap();
        assert!(quota.count("TH", NOW + 999).is_err(), "a refusal costs nothing, and gives nothing");
        quota.count("TH", NOW + 1_000).unwrap();
        assert!(quota.count("TH", NOW + 1_000).is_err());
        // A long rest gives one minute's worth and no more.
        assert_eq!((0..100).filter(|_| quota.count("TH", NOW + 10_000_000).is_ok()).count(), 60);
        assert_eq!(quota.buckets.len(), 2);
    }

    #[test]
    fn a_slow_rate_says_how_long() {
        let mut quota = Quota::new(1, 100);
        quota.count("TH", NOW).unwrap();
        assert!(quota.count("TH", NOW + 15_500).unwrap_err().ends_with("try again in 45 s."));
        quota.count("TH", NOW + 60_000).unwrap();
    }

    #[test]
    fn a_clock_set_back_neither_gives_nor_locks_out() {
        let mut quota = Quota::new(1, 100);
        quota.count("TH", NOW).unwrap();
        assert!(quota.count("TH", NOW - 3_600_000).is_err());
        quota.count("TH", NOW - 3_600_000 + 60_000).unwrap();
    }

    #[test]
    fn zero_is_no_limit() {
        let mut quota = Quota::new(0, 1);
        assert!((0..100_000).all(|_| quota.count("TH", 0).is_ok()));
        assert!(quota.buckets.is_empty());
        assert_eq!(quota.per_originator(), 1, "there is always room for one");
    }

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_the_rate(rate in 1u32..1_000, steps in prop::collection::vec(0u64..5_000, 1..300)) {
            let (mut quota, mut now_ms, mut taken) = (Quota::new(rate, 1), NOW, 0u64);
            for step in steps {
                now_ms += step;
                taken += u64::from(quota.count("TH", now_ms).is_ok());
            }
            prop_assert!(taken * PACKET <= u64::from(rate) * (PACKET + now_ms - NOW));
        }
    }
}
