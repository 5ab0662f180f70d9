//! Numbers and texts in few bytes: a number is 7 bits a byte, the lowest first, the highest bit set in all but the last; a
//! text stands behind its length.

/// Appends.
#[derive(Debug, Default)]
pub(super) struct Writing(pub(super) Vec<u8>);

impl Writing {
    pub(super) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            let [low, ..] = number.to_le_bytes();
            self.0.push(low | 0x80);
            number >>= 7;
        }
        let [low, ..] = number.to_le_bytes();
        self.0.push(low);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes(text.as_bytes());
    }
}

/// Takes off the front; `None` where the bytes end before, or are not what is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading<'a>(pub(super) &'a [u8]);

impl<'a> Reading<'a> {
    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            if (bits << shift) >> shift != bits {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    pub(super) fn place(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*front)
    }

    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        let count = usize::try_from(self.number()?).ok()?;
        std::str::from_utf8(self.bytes(count)?).ok()
    }

    /// Nothing is left.
    pub(super) fn is_over(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn round_trip(numbers in prop::collection::vec(any::<u64>(), 0..20), shift in 0u32..64, text: String) {
            let mut writing = Writing::default();
            writing.text(&text);
            numbers.iter().for_each(|number| writing.number(*number >> shift));
            let mut reading = Reading(&writing.0);
            prop_assert_eq!(reading.text(), Some(text.as_str()));
            for number in &numbers {
                prop_assert_eq!(reading.number(), Some(*number >> shift));
            }
            prop_assert!(reading.is_over() && reading.number().is_none());
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut reading = Reading(&bytes);
            while reading.number().is_some() {}
            let _ = (reading.text(), reading.array::<4>(), reading.place());
        }
    }
}
