//! Padding, so that a ciphertext's length says little. Padmé (Nikitin et al., "Reducing Metadata Leakage from
//! Encrypted Files", algorithm 1): at most 12 % longer, and O(log log n) bits leak.

use thiserror::Error;
use zeroize::Zeroizing;

use crate::limits;

/// Padded length of `length` bytes.
#[must_use]
pub fn padme(length: u64) -> u64 {
    let Some(exponent) = length.checked_ilog2() else { return length };
    let Some(mantissa_bits) = exponent.checked_ilog2() else { return length };
    // The length keeps its highest `mantissa_bits + 1` bits after the leading one; the rest is rounded up.
    let mask = (1u64 << (exponent - (mantissa_bits + 1).min(exponent))) - 1;
    length.saturating_add(mask) & !mask
}

/// A body that is too long to be padded, or a plaintext that is not a padded body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PadError {
    /// Beyond [`limits::BODY_PLAIN_BYTES_MAX`].
    #[error("body of {have} bytes, at most {max} are allowed; send the rest as an attachment")]
    TooLarge {
        /// Bytes of the body.
        have: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Length prefix, total length or padding bytes are not as they must be.
    #[error("body is not padded as the format says")]
    Malformed,
}

const PREFIX_BYTES: usize = 4;

/// Padded body: length u32 big-endian ‖ body ‖ zeros, to Padmé of the sum, at least [`limits::BODY_PLAIN_BYTES_MIN`].
///
/// # Errors
/// [`PadError::TooLarge`].
pub fn pad(body: &[u8]) -> Result<Zeroizing<Vec<u8>>, PadError> {
    let max = limits::BODY_PLAIN_BYTES_MAX;
    let too_large = PadError::TooLarge { have: body.len(), max };
    let length = padded(body.len()).filter(|length| *length <= max).ok_or(too_large)?;
    let prefix = u32::try_from(body.len()).map_err(|_| too_large)?;
    let mut out = Zeroizing::new(Vec::with_capacity(length));
    out.extend_from_slice(&prefix.to_be_bytes());
    out.extend_from_slice(body);
    out.resize(length, 0);
    Ok(out)
}

/// The body of a padded plaintext. One padding is right for each length; any other is refused.
///
/// # Errors
/// [`PadError::Malformed`].
pub fn unpad(plain: &[u8]) -> Result<&[u8], PadError> {
    let (prefix, rest) = plain.split_first_chunk::<PREFIX_BYTES>().ok_or(PadError::Malformed)?;
    let length = u32::from_be_bytes(*prefix) as usize;
    let (body, padding) = rest.split_at_checked(length).ok_or(PadError::Malformed)?;
    let sound = padded(length) == Some(plain.len()) && padding.iter().all(|byte| *byte == 0);
    if sound { Ok(body) } else { Err(PadError::Malformed) }
}

fn padded(body: usize) -> Option<usize> {
    let length = padme(body.checked_add(PREFIX_BYTES)? as u64);
    usize::try_from(length).ok().map(|length| length.max(limits::BODY_PLAIN_BYTES_MIN))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn padme_gives_the_lengths_of_the_paper() {
        // Figures from algorithm 1, worked by hand.
        for (length, expected) in
            [(0, 0), (1, 1), (2, 2), (8, 8), (9, 10), (100, 104), (1_000, 1_024), (1_048_577, 1_081_344)]
        {
            assert_eq!(padme(length), expected, "{length}");
        }
    }

    proptest! {
        #[test]
        fn padding_is_at_most_12_percent_and_settles(length in 0u64..1 << 40) {
            let padded = padme(length);
            prop_assert!(padded >= length && padded <= length + length * 12 / 100 + 1);
            prop_assert_eq!(padme(padded), padded);
        }

        #[test]
        fn what_is_padded_comes_back_and_a_changed_padding_does_not(body in prop::collection::vec(any::<u8>(), 0..5_000)) {
            let mut plain = pad(&body).unwrap();
            prop_assert_eq!(unpad(&plain).unwrap(), &body[..]);
            if plain.len() > body.len() + PREFIX_BYTES {
                *plain.last_mut().unwrap() = 1;
                prop_assert_eq!(unpad(&plain), Err(PadError::Malformed));
                plain.pop();
                prop_assert_eq!(unpad(&plain), Err(PadError::Malformed));
            }
        }
    }
}
