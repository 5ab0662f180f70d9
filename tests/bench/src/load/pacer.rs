//! Gives each packet its moment: connections take turns, and a thread of its own wakes them, since the timers of an
//! asynchronous runtime are a millisecond coarse, more than what is measured.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

/// Wakes connections in turn.
#[derive(Debug)]
pub(super) struct Pacer {
    start: Instant,
    /// Between two packets, of whatever connection.
    step: Duration,
    connections: usize,
    /// Packets of all connections, if they have so many.
    total: usize,
    come: Vec<(Arc<Semaphore>, usize)>,
}

/// The moments of one connection.
#[derive(Debug)]
pub(super) struct Turns {
    first: Instant,
    each: Duration,
    /// How many there are.
    pub(super) count: usize,
    /// Those that have come.
    pub(super) come: Arc<Semaphore>,
}

impl Turns {
    /// When packet `number` of this connection is due.
    pub(super) fn due(&self, number: usize) -> Instant {
        self.first + self.each.mul_f64(number as f64)
    }
}

impl Pacer {
    /// `pace` packets in a second for so many seconds.
    pub(super) fn new(start: Instant, pace: f64, connections: usize, seconds: f64) -> Self {
        let total = ((pace * seconds) as usize).max(connections);
        Self { start, step: Duration::from_secs_f64(1.0 / pace), connections, total, come: Vec::new() }
    }

    /// The turns of the next connection, which has so many packets.
    pub(super) fn turns(&mut self, packets: usize) -> Turns {
        let at = self.come.len();
        let count = packets.min((self.total - at).div_ceil(self.connections));
        let come = Arc::new(Semaphore::new(0));
        self.come.push((Arc::clone(&come), count));
        let first = self.start + self.step.mul_f64(at as f64);
        Turns { first, each: self.step.mul_f64(self.connections as f64), count, come }
    }

    /// Starts the thread.
    pub(super) fn start(self) {
        thread::spawn(move || {
            for number in 0..self.total {
                let due = self.start + self.step.mul_f64(number as f64);
                thread::sleep(due.saturating_duration_since(Instant::now()));
                let (come, count) = &self.come[number % self.connections];
                if number / self.connections < *count {
                    come.add_permits(1);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_take_turns() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start, 1_000.0, 4, 0.010);
        let turns: Vec<_> = (0..4).map(|_| pacer.turns(100)).collect();
        assert_eq!(turns.iter().map(|turns| turns.count).collect::<Vec<_>>(), [3, 3, 2, 2]);
        assert_eq!(turns[1].due(2) - start, Duration::from_millis(9));
        assert_eq!(Pacer::new(start, 1_000.0, 1, 1.0).turns(7).count, 7);
    }
}
