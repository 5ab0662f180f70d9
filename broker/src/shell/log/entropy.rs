//! Random bytes of the system, a page at a time: to ask for each opening's key by itself would take longer than to seal it.

use std::convert::Infallible;

use rand_core::{CryptoRng, TryCryptoRng, TryRng};
use zeroize::{Zeroize as _, Zeroizing};

/// The keys of 32 openings.
const PAGE_BYTES: usize = 1_024;

/// Gives each byte of a source once, and keeps none that it has given.
pub(super) struct Pages<R> {
    source: R,
    page: Zeroizing<[u8; PAGE_BYTES]>,
    /// Bytes at the end of the page that were not given yet.
    left: usize,
}

impl<R: CryptoRng> Pages<R> {
    pub(super) fn of(source: R) -> Self {
        Self { source, page: Zeroizing::new([0; PAGE_BYTES]), left: 0 }
    }
}

impl<R: CryptoRng> TryRng for Pages<R> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, mut into: &mut [u8]) -> Result<(), Infallible> {
        while !into.is_empty() {
            if self.left == 0 {
                self.source.fill_bytes(self.page.as_mut());
                self.left = PAGE_BYTES;
            }
            let (_, rest) = self.page.split_at_mut(PAGE_BYTES.saturating_sub(self.left));
            let count = rest.len().min(into.len());
            let (given, _) = rest.split_at_mut(count);
            let (now, later) = into.split_at_mut(count);
            now.copy_from_slice(given);
            given.zeroize();
            self.left = self.left.saturating_sub(count);
            into = later;
        }
        Ok(())
    }
}

impl<R: CryptoRng> TryCryptoRng for Pages<R> {}

#[cfg(test)]
mod tests {
    use rand_core::Rng as _;

    use super::*;

    /// Counts bytes.
    struct Counting(u64);

    impl TryRng for Counting {
        type Error = Infallible;

        fn try_next_u32(&mut self) -> Result<u32, Infallible> {
            unreachable!("bytes are asked for")
        }

        fn try_next_u64(&mut self) -> Result<u64, Infallible> {
            unreachable!("bytes are asked for")
        }

        fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), Infallible> {
            for byte in into {
                *byte = u8::try_from(self.0 % 251).unwrap();
                self.0 += 1;
            }
            Ok(())
        }
    }

    impl TryCryptoRng for Counting {}

    #[test]
    fn every_byte_is_given_once_and_forgotten() {
        let (mut pages, mut whole) = (Pages::of(Counting(0)), Vec::new());
        for length in [1, 32, 32, 1_000, 0, 3_000, 32] {
            let mut bytes = vec![0; length];
            pages.fill_bytes(&mut bytes);
            whole.extend(bytes);
        }
        let expected: Vec<u8> = (0..whole.len()).map(|at| u8::try_from(at % 251).unwrap()).collect();
        assert_eq!(whole, expected);
        assert_ne!(pages.left, 0);
        assert!(pages.page[..PAGE_BYTES - pages.left].iter().all(|byte| *byte == 0));
        assert!(pages.page[PAGE_BYTES - pages.left..].iter().any(|byte| *byte != 0));
    }
}
