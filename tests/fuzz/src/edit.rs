//! Valid bytes, changed without regard to what they mean.

use crate::draws::Draws;

/// `bytes` after up to seven changes; as they were when nothing is left to draw.
#[must_use]
pub fn edited(bytes: &[u8], draws: &mut Draws<'_>) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..draws.below(8) {
        edit(&mut out, draws);
    }
    out
}

fn edit(out: &mut Vec<u8>, draws: &mut Draws<'_>) {
    let kind = draws.byte();
    let (at, other) = (draws.below(out.len() + 1), draws.below(out.len() + 1));
    let (low, high) = (at.min(other), at.max(other));
    match kind % 8 {
        0 | 1 => {
            if let Some(byte) = out.get_mut(at) {
                *byte ^= 1 << (kind >> 5);
            }
        }
        2 => {
            if let Some(byte) = out.get_mut(at) {
                *byte = draws.byte();
            }
        }
        3 => out.truncate(at),
        4 => drop(out.splice(at..at, draws.some(40).iter().copied())),
        5 => drop(out.drain(low..high)),
        6 => {
            let copy = out[low..high].to_vec();
            drop(out.splice(low..low, copy));
        }
        _ => out.extend_from_slice(draws.some(255)),
    }
}
