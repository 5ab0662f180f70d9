//! Choices, drawn from the fuzzer's bytes. When they are used up, every choice is the first.

/// The bytes that are left.
#[derive(Debug, Clone)]
pub struct Draws<'a>(&'a [u8]);

impl<'a> Draws<'a> {
    /// Draws from `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next byte, or 0.
    pub fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().map_or((0, self.0), |(first, rest)| (*first, rest));
        self.0 = rest;
        first
    }

    /// A number below `end`; 0 for an `end` of 0.
    pub fn below(&mut self, end: usize) -> usize {
        let wide = if end > 256 { usize::from(self.byte()) << 8 } else { 0 };
        (wide | usize::from(self.byte())) % end.max(1)
    }

    /// Yes or no; no when nothing is left.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Any number, most of them near a power of two.
    pub fn number(&mut self) -> u64 {
        let (kind, near) = (self.byte(), u64::from(self.byte()));
        let power = 1u64 << (kind & 63);
        match kind >> 6 {
            0 => near,
            1 => power.wrapping_add(near),
            2 => power.wrapping_sub(near),
            _ => u64::from_le_bytes(std::array::from_fn(|_| self.byte())),
        }
    }

    /// At most `max` bytes: as many as the next byte says, and as are left.
    pub fn some(&mut self, max: usize) -> &'a [u8] {
        let length = self.below(max.saturating_add(1)).min(self.0.len());
        let (some, rest) = self.0.split_at(length);
        self.0 = rest;
        some
    }

    /// Everything that is left.
    #[must_use]
    pub fn rest(self) -> &'a [u8] {
        self.0
    }
}
