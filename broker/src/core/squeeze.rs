//! Bytes that say the same again and again, in fewer. The two receipts of an admission share most of their proofs, and each of
//! their events names the packet, the directory and the policies once more: that is a third of an admission.
//!
//! First the length of all, then in turn: the count of bytes that come next, and these; how many bytes come again, and how
//! far back they begin, which may be within what comes. It may end after either. Numbers as in [`terse`](super::terse).

use super::terse::{Reading, Writing};

/// What comes again is looked for by so many bytes.
const KEY: usize = 6;
/// Places that are remembered at a time.
const PLACES: usize = 1_024;

/// In fewer bytes, or in hardly more.
pub(super) fn squeeze(bytes: &[u8]) -> Vec<u8> {
    let mut out = Writing(Vec::with_capacity(bytes.len()));
    out.number(bytes.len() as u64);
    // What such bytes are mixed to, and one more than the place where they were seen last.
    let mut places = [(0u32, 0u32); PLACES];
    let (mut at, mut written) = (0usize, 0usize);
    while let Some(ahead) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let key = u64::from_le_bytes(*ahead) << (64 - 8 * KEY);
        let [_, _, _, a, b, c, d, e] = key.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
        let (mixed, slot) =
            (u32::from_le_bytes([a, b, c, d]), usize::from(u16::from_le_bytes([d, e])) % PLACES);
        let here = (mixed, u32::try_from(at + 1).unwrap_or(0));
        let before = places.get_mut(slot).map(|place| std::mem::replace(place, here));
        let before = before.filter(|(was, _)| *was == mixed).and_then(|(_, place)| place.checked_sub(1));
        let same = before.map_or(0, |before| same(bytes, before as usize, at));
        if same < KEY {
            at += 1;
            continue;
        }
        out.number((at - written) as u64);
        out.bytes(bytes.get(written..at).unwrap_or_default());
        out.number(same as u64);
        out.number((at - before.unwrap_or_default() as usize) as u64);
        at += same;
        written = at;
    }
    if let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        out.number(rest.len() as u64);
        out.bytes(rest);
    }
    out.0
}

/// How many bytes at `at` are those at `before`.
fn same(bytes: &[u8], before: usize, at: usize) -> usize {
    let (before, now) = (bytes.get(before..).unwrap_or_default(), bytes.get(at..).unwrap_or_default());
    before.iter().zip(now).take_while(|(a, b)| a == b).count()
}

/// The bytes, if they are at most `max`; `None` if these are no such bytes.
pub(super) fn unsqueeze(bytes: &[u8], max: usize) -> Option<Vec<u8>> {
    let mut reading = Reading(bytes);
    let length = usize::try_from(reading.number()?).ok().filter(|length| *length <= max)?;
    let mut out = Vec::with_capacity(length);
    while !reading.is_over() {
        let count = usize::try_from(reading.number()?).ok()?;
        out.extend_from_slice(reading.bytes(count)?);
        if reading.is_over() {
            break;
        }
        let count = usize::try_from(reading.number()?).ok()?;
        let back = usize::try_from(reading.number()?).ok().filter(|back| *back > 0)?;
        if count > length.checked_sub(out.len())? {
            return None;
        }
        let mut from = out.len().checked_sub(back)?;
        let mut left = count;
        while left > 0 {
            let now = left.min(back);
            out.extend_from_within(from..from + now);
            (from, left) = (from + now, left - now);
        }
    }
    (out.len() == length).then_some(out)
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
            prop_assert!(squeezed.len() <= bytes.len() + 8);
            prop_assert_eq!(unsqueeze(&squeezed, bytes.len()), Some(bytes.clone()));
            prop_assert!(bytes.is_empty() || unsqueeze(&squeezed, bytes.len() - 1).is_none());
            prop_assert!((0..squeezed.len()).all(|end| unsqueeze(&squeezed[..end], bytes.len()).as_ref() != Some(&bytes)));
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
        assert!(squeeze(&twice).len() < 256 + 14 + 12);
        assert_eq!(unsqueeze(&squeeze(&twice), 1_000), Some(twice));
        assert!(squeeze(&[7; 1_000]).len() < 20, "it may overlap itself");
    }
}
