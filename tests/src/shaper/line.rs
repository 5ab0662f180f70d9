//! What happens to datagrams that go one way: decided here, with the time as an argument.

use std::collections::BTreeMap;

use super::dice::Dice;

/// What a line does to what it carries. The default carries everything at once and unharmed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weather {
    /// Nothing passes.
    pub cut: bool,
    /// Lost, of a thousand.
    pub loss: u32,
    /// Sent twice, of a thousand. The second comes up to [`HELD_MS_MAX`] later.
    pub duplicates: u32,
    /// Held back for up to [`HELD_MS_MAX`], of a thousand, so that later ones overtake.
    pub reordered: u32,
    /// How long everything takes, milliseconds.
    pub delay_ms: u64,
    /// How much longer it may take, milliseconds. By itself it changes no order.
    pub jitter_ms: u64,
    /// Bytes a second; none for no limit.
    pub rate: Option<u64>,
    /// Longest datagram that passes, bytes with the headers of IPv4 and UDP; none for no limit.
    pub mtu: Option<usize>,
}

/// Longest extra wait of what is held back, milliseconds.
pub const HELD_MS_MAX: u64 = 30;
/// Headers of IPv4 and UDP, bytes.
pub const HEADERS_BYTES: usize = 28;
/// Most datagrams on their way; more are dropped, as a router would.
pub const QUEUE_MAX: usize = 4_096;
/// Most bytes on their way.
pub const QUEUE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What became of datagrams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Came in.
    pub taken: u64,
    /// Came in, bytes.
    pub taken_bytes: u64,
    /// Came out.
    pub given: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Lost in a cut.
    pub cut: u64,
    /// Put in twice.
    pub duplicated: u64,
    /// Held back.
    pub reordered: u64,
    /// Too long.
    pub too_long: u64,
    /// Dropped for a full queue.
    pub dropped: u64,
}

/// One way.
#[derive(Debug)]
pub struct Line<T> {
    weather: Weather,
    dice: Dice,
    /// By when it is due, microseconds, and by its number.
    queue: BTreeMap<(u64, u64), (Vec<u8>, T)>,
    bytes: usize,
    number: u64,
    /// When the last of those before has gone out, by the rate.
    free_us: u64,
    /// When the last of those that keep their order is due.
    last_us: u64,
    counts: Counts,
}

impl<T: Clone> Line<T> {
    /// A line of that weather, whose chances follow from `seed`.
    #[must_use]
    pub fn new(weather: Weather, seed: u64) -> Self {
        Self {
            weather,
            dice: Dice::of(seed),
            queue: BTreeMap::new(),
            bytes: 0,
            number: 0,
            free_us: 0,
            last_us: 0,
            counts: Counts::default(),
        }
    }

    /// Changes the weather. What is on its way goes on, but in a cut.
    pub fn set(&mut self, weather: Weather) {
        self.weather = weather;
        if weather.cut {
            self.counts.cut += self.queue.len() as u64;
            self.queue.clear();
            self.bytes = 0;
        }
    }

    /// The weather.
    #[must_use]
    pub fn weather(&self) -> Weather {
        self.weather
    }

    /// What became of what it was given.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Takes a datagram for `to`.
    pub fn take(&mut self, now_us: u64, datagram: &[u8], to: &T) {
        let Weather { cut, loss, duplicates, reordered, jitter_ms, mtu, .. } = self.weather;
        self.counts.taken += 1;
        self.counts.taken_bytes += datagram.len() as u64;
        // Each datagram rolls as often, whatever becomes of it: the same seed means the same fate for the same number.
        let (is_lost, is_double, is_held) =
            (self.dice.falls(loss), self.dice.falls(duplicates), self.dice.falls(reordered));
        let jitter_us = self.dice.roll(jitter_ms * 1_000 + 1);
        let (held_us, later_us) = (self.held_us(), self.held_us());
        if cut {
            self.counts.cut += 1;
        } else if mtu.is_some_and(|most| datagram.len() + HEADERS_BYTES > most) {
            self.counts.too_long += 1;
        } else if is_lost {
            self.counts.lost += 1;
        } else {
            if !self.has_room(datagram.len()) {
                self.counts.dropped += 1;
                return;
            }
            let due_us = self.due_us(now_us, datagram.len(), jitter_us);
            self.counts.reordered += u64::from(is_held);
            self.put(due_us + if is_held { held_us } else { 0 }, datagram, to);
            if is_double && self.has_room(datagram.len()) {
                self.counts.duplicated += 1;
                self.put(due_us + later_us, datagram, to);
            }
        }
    }

    fn held_us(&mut self) -> u64 {
        1_000 + self.dice.roll((HELD_MS_MAX - 1) * 1_000)
    }

    /// When it comes out if it is not held back: after what was there before it.
    fn due_us(&mut self, now_us: u64, bytes: usize, jitter_us: u64) -> u64 {
        let rate = self.weather.rate.unwrap_or(0);
        let takes_us = (bytes as u64 * 1_000_000).checked_div(rate).unwrap_or(0);
        self.free_us = self.free_us.max(now_us) + takes_us;
        self.last_us = self.last_us.max(self.free_us + self.weather.delay_ms * 1_000 + jitter_us);
        self.last_us
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.queue.len() < QUEUE_MAX && self.bytes + bytes <= QUEUE_BYTES_MAX
    }

    fn put(&mut self, due_us: u64, datagram: &[u8], to: &T) {
        self.number += 1;
        self.bytes += datagram.len();
        self.queue.insert((due_us, self.number), (datagram.to_vec(), to.clone()));
    }

    /// When the next comes out, microseconds.
    #[must_use]
    pub fn next_us(&self) -> Option<u64> {
        self.queue.first_key_value().map(|((due_us, _), _)| *due_us)
    }

    /// The next that is due.
    pub fn give(&mut self, now_us: u64) -> Option<(Vec<u8>, T)> {
        self.next_us().filter(|due_us| *due_us <= now_us)?;
        let (_, (datagram, to)) = self.queue.pop_first()?;
        self.bytes -= datagram.len();
        self.counts.given += 1;
        Some((datagram, to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `count` numbered datagrams of 100 bytes, one each millisecond; what came out: when, and which.
    fn run(weather: Weather, seed: u64, count: u32) -> (Vec<(u64, u32)>, Counts) {
        let mut line = Line::new(weather, seed);
        let mut out = Vec::new();
        for at_us in (0..u64::from(count) * 1_000 + 5_000_000).step_by(1_000) {
            let number = u32::try_from(at_us / 1_000).unwrap();
            if number < count {
                let mut datagram = number.to_be_bytes().to_vec();
                datagram.resize(100, 7);
                line.take(at_us, &datagram, &());
            }
            while let Some((datagram, ())) = line.give(at_us) {
                out.push((at_us, u32::from_be_bytes(datagram[..4].try_into().unwrap())));
            }
        }
        assert_eq!(line.next_us(), None);
        (out, line.counts())
    }

    fn numbers(out: &[(u64, u32)]) -> Vec<u32> {
        out.iter().map(|(_, number)| *number).collect()
    }

    #[test]
    fn a_fair_line_carries_everything_at_once_in_order() {
        let (out, counts) = run(Weather::default(), 1, 1_000);
        assert_eq!(numbers(&out), (0..1_000).collect::<Vec<_>>());
        assert!(out.iter().all(|(at_us, number)| *at_us == u64::from(*number) * 1_000));
        assert_eq!(counts, Counts { taken: 1_000, taken_bytes: 100_000, given: 1_000, ..Counts::default() });
    }

    #[test]
    fn as_much_is_lost_as_is_said_and_the_same_by_the_same_seed() {
        let weather = Weather { loss: 50, ..Weather::default() };
        let (first, counts) = run(weather, 42, 20_000);
        // The standard deviation is 31: these bounds are five of them.
        assert!((850..1_150).contains(&counts.lost), "{counts:?}");
        assert_eq!(counts.lost + counts.given, 20_000);
        assert_eq!(run(weather, 42, 20_000).0, first);
        assert_ne!(run(weather, 43, 20_000).0, first);
    }

    #[test]
    fn duplicates_come_twice_and_nothing_is_missing() {
        let (out, counts) = run(Weather { duplicates: 10, ..Weather::default() }, 7, 20_000);
        assert!((130..270).contains(&counts.duplicated), "{counts:?}");
        assert_eq!(counts.given, 20_000 + counts.duplicated);
        let mut once = numbers(&out);
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), 20_000);
    }

    #[test]
    fn later_ones_overtake_what_is_held_back() {
        let (out, counts) = run(Weather { reordered: 20, ..Weather::default() }, 7, 10_000);
        assert!((130..270).contains(&counts.reordered), "{counts:?}");
        let back = numbers(&out).windows(2).filter(|two| two[0] > two[1]).count();
        assert!(back > 100, "{back}");
        assert_eq!(out.len(), 10_000);
    }

    #[test]
    fn what_takes_longer_by_chance_keeps_its_order() {
        let weather = Weather { delay_ms: 50, jitter_ms: 10, ..Weather::default() };
        let (out, _) = run(weather, 7, 5_000);
        assert_eq!(numbers(&out), (0..5_000).collect::<Vec<_>>());
        let took = |(at_us, number): &(u64, u32)| at_us - u64::from(*number) * 1_000;
        assert!(out.iter().map(took).all(|us| (50_000..=61_000).contains(&us)));
        assert!(out.iter().map(took).any(|us| us < 55_000) && out.iter().map(took).any(|us| us > 58_000));
    }

    #[test]
    fn a_rate_is_kept_and_what_does_not_fit_is_dropped_and_counted() {
        // 100 datagrams a second; 1,000 come.
        let (out, counts) = run(Weather { rate: Some(10_000), ..Weather::default() }, 7, 400);
        assert_eq!((out.len(), counts.dropped), (400, 0));
        assert!(out.windows(2).all(|two| two[1].0 - two[0].0 >= 10_000));
        let mut line = Line::new(Weather { rate: Some(1), ..Weather::default() }, 7);
        (0..QUEUE_MAX + 10).for_each(|_| line.take(0, &[0; 10], &()));
        assert_eq!((line.queue.len(), line.counts().dropped), (QUEUE_MAX, 10));
        let mut line = Line::new(Weather { delay_ms: 1, ..Weather::default() }, 7);
        (0..65).for_each(|_| line.take(0, &vec![0; 65_000], &()));
        assert_eq!((line.bytes, line.counts().dropped), (64 * 65_000, 1));
    }

    #[test]
    fn a_narrow_line_carries_no_long_datagram_and_a_cut_one_none() {
        let mut line = Line::new(Weather { mtu: Some(1_280), ..Weather::default() }, 7);
        line.take(0, &[0; 1_252], &());
        line.take(0, &[0; 1_253], &());
        assert_eq!((line.queue.len(), line.counts().too_long), (1, 1));
        line.set(Weather { cut: true, ..Weather::default() });
        line.take(0, &[0; 10], &());
        assert_eq!((line.give(u64::MAX), line.counts().cut), (None, 2));
        line.set(Weather::default());
        line.take(0, &[0; 10], &());
        assert!(line.give(0).is_some());
    }
}
