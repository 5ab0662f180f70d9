//! Randomness from one seed: what happens next, and every key, nonce and salt.

use chacha20::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// A stream of random numbers.
#[derive(Debug)]
pub struct Dice(ChaCha20Rng);

impl Dice {
    /// One of several streams of a seed, which do not disturb each other.
    #[must_use]
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8..16].copy_from_slice(&stream.to_le_bytes());
        Self(ChaCha20Rng::from_seed(bytes))
    }

    /// For whoever needs keys and salts.
    pub fn entropy(&mut self) -> &mut ChaCha20Rng {
        &mut self.0
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// From 0, below `end`, which is 1 or more.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0.next_u64() % end
    }

    /// An index into something of that length.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }

    /// True in so many of a hundred cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
