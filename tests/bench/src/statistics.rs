//! Percentiles, and processor time.

use std::{fs, time::Duration};

/// How long each of many things took.
#[derive(Debug, Clone, Default)]
pub(crate) struct Durations {
    /// Nanoseconds, in ascending order.
    sorted: Vec<u64>,
}

impl Durations {
    pub(crate) fn new(mut nanoseconds: Vec<u64>) -> Self {
        nanoseconds.sort_unstable();
        Self { sorted: nanoseconds }
    }

    pub(crate) fn len(&self) -> usize {
        self.sorted.len()
    }

    /// So that the share `part` of all (0 to 1) took at most so long, microseconds; 0 if there is none.
    pub(crate) fn percentile_us(&self, part: f64) -> f64 {
        let last = self.sorted.len().saturating_sub(1);
        let at = (self.sorted.len() as f64 * part).ceil() as usize;
        self.sorted.get(at.saturating_sub(1).min(last)).map_or(0.0, |ns| *ns as f64 / 1_000.0)
    }

    pub(crate) fn p50_us(&self) -> f64 {
        self.percentile_us(0.5)
    }

    pub(crate) fn p99_us(&self) -> f64 {
        self.percentile_us(0.99)
    }
}

impl FromIterator<Duration> for Durations {
    fn from_iter<I: IntoIterator<Item = Duration>>(all: I) -> Self {
        Self::new(all.into_iter().map(|one| one.as_nanos() as u64).collect())
    }
}

/// Processor time, user and system, that a process has had so far, seconds; `process` is its number or `self`.
pub(crate) fn cpu_seconds(process: &str) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // Behind the name, which may hold anything: fields 14 and 15 of proc(5), in hundredths.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks: u64 = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    ticks as f64 / 100.0
}

/// The one in the middle; of an even number the lower.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let hundred = Durations::new((1..=100).rev().map(|ms| ms * 1_000).collect());
        assert_eq!((hundred.p50_us(), hundred.p99_us(), hundred.percentile_us(1.0)), (50.0, 99.0, 100.0));
        assert_eq!(Durations::new(vec![7_000]).p99_us(), 7.0);
        assert_eq!(Durations::default().p50_us(), 0.0);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
    }
}
