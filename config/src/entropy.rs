//! Randomness of the operating system, for everything in Lintas that takes entropy as an argument.

use std::convert::Infallible;

use rand_core::{CryptoRng, Rng as _, TryCryptoRng, TryRng, UnwrapErr};
use zeroize::Zeroize as _;

/// Drawn at once. A call of the system for the 32 bytes of each salt would cost a broker more than the salt is worth.
const BLOCK_BYTES: usize = 1024;

/// Randomness of the operating system.
///
/// It panics if the operating system has none: there is nothing safe left to do.
#[must_use]
pub fn os_entropy() -> impl CryptoRng {
    Entropy { block: [0; BLOCK_BYTES], used: BLOCK_BYTES }
}

/// A block of it; what was given out is wiped at once, the rest at the end.
struct Entropy {
    block: [u8; BLOCK_BYTES],
    used: usize,
}

impl TryRng for Entropy {
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

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        let mut system = UnwrapErr(getrandom::SysRng);
        if out.len() >= BLOCK_BYTES {
            system.fill_bytes(out);
            return Ok(());
        }
        if BLOCK_BYTES - self.used < out.len() {
            system.fill_bytes(&mut self.block);
            self.used = 0;
        }
        let given = self.block.iter_mut().skip(self.used).take(out.len());
        for (to, from) in out.iter_mut().zip(given) {
            *to = std::mem::take(from);
        }
        self.used += out.len();
        Ok(())
    }
}

impl TryCryptoRng for Entropy {}

impl Drop for Entropy {
    fn drop(&mut self) {
        self.block.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand_core::Rng as _;

    use super::*;

    #[test]
    fn no_byte_is_given_out_twice_and_what_was_given_is_wiped() {
        let mut entropy = Entropy { block: [0; BLOCK_BYTES], used: BLOCK_BYTES };
        let mut seen = HashSet::new();
        for length in [32, 1, 1_000, 32, BLOCK_BYTES - 1, BLOCK_BYTES, 3 * BLOCK_BYTES, 32] {
            let mut out = vec![0; length + 32];
            entropy.fill_bytes(&mut out);
            for window in out.windows(32) {
                assert!(seen.insert(window.to_vec()), "32 random bytes came twice");
            }
            assert!(entropy.block[..entropy.used].iter().all(|byte| *byte == 0));
        }
    }
}
