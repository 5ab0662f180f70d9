//! Numbers that repeat with their seed, which a failing test prints: splitmix64.

use crate::region::now_ms;

/// A seeded source of numbers.
#[derive(Debug)]
pub struct Dice {
    seed: u64,
    state: u64,
}

impl Dice {
    /// From `LINTAS_SEED`, or from the clock. Says which, for `test`.
    #[must_use]
    pub fn of(test: &str) -> Self {
        let seed = number("LINTAS_SEED").unwrap_or_else(now_ms);
        println!("{test}: LINTAS_SEED={seed}");
        Self { seed, state: seed }
    }

    /// What it began with.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A number from 0 to `sides`, without `sides`.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[usize::try_from(self.roll(of.len() as u64)).unwrap()]
    }
}

/// A number from the environment.
#[must_use]
pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// How often a test repeats itself: `name` of the environment, or `otherwise`, the gate's short form.
#[must_use]
pub fn rounds(name: &str, otherwise: u64) -> u64 {
    number(name).unwrap_or(otherwise)
}
