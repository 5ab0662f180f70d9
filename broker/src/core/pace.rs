//! A pace: so many at once, and then one in a while, counted for each agency.

use std::collections::BTreeMap;

/// How many at once, and how often one more.
#[derive(Debug, Clone)]
pub struct Pace {
    burst: u64,
    every_ms: u64,
    /// What each agency has used, in milliseconds of waiting, and when that was counted. Those who have used nothing
    /// are not in it.
    used: BTreeMap<String, (u64, u64)>,
}

impl Pace {
    /// Nobody has used anything.
    #[must_use]
    pub fn new(burst: u64, every_ms: u64) -> Self {
        Self { burst, every_ms, used: BTreeMap::new() }
    }

    /// Milliseconds that an agency has to wait until there is room for one more; 0 when there is.
    #[must_use]
    pub fn wait_ms(&self, agency: &str, now_ms: u64) -> u64 {
        let room = self.burst.saturating_sub(1).saturating_mul(self.every_ms);
        self.used_ms(agency, now_ms).saturating_sub(room)
    }

    /// Counts one.
    pub fn count(&mut self, agency: &str, now_ms: u64) {
        self.count_all(agency, 1, now_ms);
    }

    /// Counts several at once.
    pub fn count_all(&mut self, agency: &str, how_many: u64, now_ms: u64) {
        let more_ms = self.every_ms.saturating_mul(how_many);
        let used_ms = self.used_ms(agency, now_ms).saturating_add(more_ms);
        self.used.retain(|_, (used_ms, at_ms)| now_ms.saturating_sub(*at_ms) < *used_ms);
        self.used.insert(agency.to_owned(), (used_ms, now_ms));
    }

    /// A clock that was set back gives nothing.
    fn used_ms(&self, agency: &str, now_ms: u64) -> u64 {
        self.used
            .get(agency)
            .map_or(0, |(used_ms, at_ms)| used_ms.saturating_sub(now_ms.saturating_sub(*at_ms)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_once_then_one_in_a_while() {
        let mut pace = Pace::new(3, 1_000);
        for _ in 0..3 {
            assert_eq!(pace.wait_ms("TH", 5), 0);
            pace.count("TH", 5);
        }
        assert_eq!((pace.wait_ms("TH", 5), pace.wait_ms("TH", 1_004)), (1_000, 1));
        assert_eq!((pace.wait_ms("TH", 1_005), pace.wait_ms("KH", 5)), (0, 0));
        pace.count("TH", 1_005);
        assert!(pace.wait_ms("TH", 1_005) > 0 && pace.wait_ms("TH", 0) > 0);
        pace.count("KH", 1_000_000);
        assert_eq!(pace.used.len(), 1, "nothing is kept of an agency at rest");
    }
}
