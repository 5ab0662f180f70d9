//! Bytes that say the same again and again, in fewer. The two receipts of an admission share most of their proofs, and each of
//! their events names the packet, the directory and the policies once more: that is a third of an admission.
//!
//! The length of all (4 bytes, little-endian), then one block of LZ4 (lz4_Block_format.md).

use lz4_flex::block::{compress_prepend_size, decompress, uncompressed_size};

/// In fewer bytes, or in hardly more.
pub(super) fn squeeze(bytes: &[u8]) -> Vec<u8> {
    compress_prepend_size(bytes)
}

/// The bytes, if they are at most `max`; `None` if these are no such bytes.
pub(super) fn unsqueeze(bytes: &[u8], max: usize) -> Option<Vec<u8>> {
    let (length, block) = uncompressed_size(bytes).ok().filter(|(length, _)| *length <= max)?;
    decompress(block, length).ok().filter(|out| out.len() == length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn round_trip(parts in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..40), 1usize..5), 0..20)) {
            let bytes: Vec<u8> = parts.iter().flat_map(|(part, times)| part.repeat(*times)).collect();
            let squeezed = squeeze(&bytes);
            prop_assert!(squeezed.len() <= bytes.len() + bytes.len() / 200 + 24);
            prop_assert_eq!(unsqueeze(&squeezed, bytes.len()), Some(bytes.clone()));
            prop_assert!(bytes.is_empty() || unsqueeze(&squeezed, bytes.len() - 1).is_none());
            prop_assert!((0..squeezed.len()).all(|end| bytes.is_empty() || unsqueeze(&squeezed[..end], bytes.len()).as_ref() != Some(&bytes)));
        }

        #[test]
        fn hostile_bytes_never_panic_nor_take_more_than_they_may(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(unsqueeze(&bytes, 1_000).is_none_or(|out| out.len() <= 1_000));
        }
    }

    #[test]
    fn what_comes_again_is_written_once() {
        let nodes: Vec<u8> = (0..=255).collect();
        let twice = [&nodes[..], b"something else", &nodes].concat();
        assert!(squeeze(&twice).len() < 256 + 14 + 24);
        assert_eq!(unsqueeze(&squeeze(&twice), 1_000), Some(twice));
        assert!(squeeze(&[7; 1_000]).len() < 30, "it may overlap itself");
    }
}
