//! What a machine's clocks say, and whether the one that people set has leapt.
//!
//! The clock of the wall is what an operator, a time service, or whoever has taken either says it is. The machine also
//! counts the time since it was booted, sleep included; nobody sets that. As long as both go on alike nobody has set the
//! clock. Which of the two is right when they do not, neither says: the count is never taken for the time.

use std::time::{SystemTime, UNIX_EPOCH};

use lintas_proto::limits::CLOCK_SKEW_MS_MAX;
use rustix::time::{ClockId, clock_gettime};

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Milliseconds since 1970-01-01T00:00:00Z; 0 for a clock before that.
    pub wall_ms: u64,
    /// Milliseconds since the machine was booted, sleep included.
    pub boot_ms: u64,
}

impl Reading {
    /// Of this machine, now.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "where the shells' clocks read both")]
    pub fn take() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let boot = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(boot.tv_sec).unwrap_or_default();
        let boot_ms = seconds.saturating_mul(1_000).saturating_add(boot.tv_nsec.unsigned_abs() / 1_000_000);
        Self { wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX), boot_ms }
    }

    /// By how much the one clock is before the other: the same for as long as nobody sets the clock of the wall.
    #[must_use]
    pub fn offset_ms(self) -> i64 {
        let signed = |ms| i64::try_from(ms).unwrap_or(i64::MAX);
        signed(self.wall_ms).saturating_sub(signed(self.boot_ms))
    }

    /// By how much the clock was set since, milliseconds, if that is more than honest clocks differ.
    #[must_use]
    pub fn leapt_ms(self, since: Self) -> Option<u64> {
        leapt_ms(self.offset_ms(), since.offset_ms())
    }
}

/// As [`Reading::leapt_ms`], of two offsets.
#[must_use]
pub fn leapt_ms(offset_ms: i64, since_ms: i64) -> Option<u64> {
    Some(offset_ms.abs_diff(since_ms)).filter(|ms| *ms > CLOCK_SKEW_MS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 86_400_000;
    const BEGIN: Reading = Reading { wall_ms: 20_000 * DAY_MS, boot_ms: 7_000 };

    #[test]
    fn time_that_passes_is_no_leap_however_long_the_machine_sleeps() {
        for passed_ms in [0, 1, DAY_MS, 4_000 * DAY_MS] {
            let later = Reading { wall_ms: BEGIN.wall_ms + passed_ms, boot_ms: BEGIN.boot_ms + passed_ms };
            assert_eq!(later.leapt_ms(BEGIN), None);
        }
    }

    #[test]
    fn a_clock_that_is_set_by_more_than_honest_clocks_differ_has_leapt_both_ways() {
        let at = |wall_ms| Reading { wall_ms, boot_ms: BEGIN.boot_ms + 1_000 }.leapt_ms(BEGIN);
        let right = BEGIN.wall_ms + 1_000;
        for by_ms in [1, 60_000, CLOCK_SKEW_MS_MAX] {
            assert_eq!((at(right + by_ms), at(right - by_ms)), (None, None));
        }
        for by_ms in [CLOCK_SKEW_MS_MAX + 1, DAY_MS, 400 * DAY_MS] {
            assert_eq!((at(right + by_ms), at(right - by_ms)), (Some(by_ms), Some(by_ms)));
        }
        assert!(at(0).is_some() && at(u64::MAX).is_some());
    }

    #[test]
    fn the_machine_counts_on_while_its_clock_goes_on() {
        let one = Reading::take();
        let two = Reading::take();
        assert!(one.wall_ms > 0 && one.boot_ms > 0 && one.boot_ms <= two.boot_ms);
        assert_eq!(two.leapt_ms(one), None);
    }
}
