//! Segment roots: a ciphertext's Merkle root over segments of 64 chunks, so that a broker without keys can
//! check what it stores and a transfer can resume.
//!
//! Segment 0 is the first 1,049,656 bytes (head and 64 chunks), every other the next 1,049,600 bytes, the last
//! one shorter or whole. Leaves are RFC 6962 leaf hashes of the segments.

use ring::digest::{Context, SHA256};

use super::chunk::{HEAD_BYTES, SEALED_CHUNK_BYTES};
use crate::{
    audit::merkle::Frontier,
    id::{Digest, finish, sha256},
};

/// Ciphertext bytes of 64 chunks.
pub const SEGMENT_BYTES: usize = 64 * SEALED_CHUNK_BYTES;

/// The last segment boundary within the first `length` bytes: where a transfer that was cut goes on.
#[must_use]
pub fn boundary(length: u64) -> u64 {
    let (first, every) = ((HEAD_BYTES + SEGMENT_BYTES) as u64, SEGMENT_BYTES as u64);
    length.checked_sub(first).map_or(0, |beyond| length - beyond % every)
}

/// Computes a segment root over bytes as they come.
pub struct SegmentRoot {
    frontier: Frontier,
    segment: Context,
    /// Bytes that the present segment still takes.
    room: usize,
    length: u64,
}

impl std::fmt::Debug for SegmentRoot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SegmentRoot {{ length: {} }}", self.length)
    }
}

impl Default for SegmentRoot {
    fn default() -> Self {
        Self { frontier: Frontier::default(), segment: leaf(), room: HEAD_BYTES + SEGMENT_BYTES, length: 0 }
    }
}

impl SegmentRoot {
    /// Takes the next bytes of the ciphertext.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.room == 0 {
                self.close_segment();
            }
            let (now, later) = bytes.split_at(bytes.len().min(self.room));
            self.segment.update(now);
            self.room -= now.len();
            self.length += now.len() as u64;
            bytes = later;
        }
    }

    /// Root and length in bytes.
    #[must_use]
    pub fn finish(mut self) -> (Digest, u64) {
        self.close_segment();
        (self.frontier.root(), self.length)
    }

    fn close_segment(&mut self) {
        let done = std::mem::replace(&mut self.segment, leaf());
        self.frontier.push(finish(done));
        self.room = SEGMENT_BYTES;
    }
}

/// Segment root of a whole ciphertext.
#[must_use]
pub fn segment_root(bytes: &[u8]) -> Digest {
    let mut root = SegmentRoot::default();
    root.update(bytes);
    root.finish().0
}

/// Blob id: SHA-256("lintas/v1/blob-id" 00 root ‖ length u64 big-endian).
#[must_use]
pub fn blob_id(root: &Digest, length: u64) -> Digest {
    sha256(&[b"lintas/v1/blob-id\0", root, &length.to_be_bytes()])
}

/// A leaf hash begun (RFC 6962 section 2.1).
fn leaf() -> Context {
    let mut context = Context::new(&SHA256);
    context.update(&[0]);
    context
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::merkle;

    #[test]
    fn a_boundary_is_where_a_segment_ends() {
        let (first, every) = (1_049_656, 1_049_600);
        for (length, want) in [
            (0, 0),
            (first - 1, 0),
            (first, first),
            (first + every - 1, first),
            (first + every, first + every),
            (first + 4_000 * every + 7, first + 4_000 * every),
        ] {
            assert_eq!(boundary(length), want, "{length}");
        }
    }

    #[test]
    fn segments_are_cut_where_the_format_says() {
        let first = HEAD_BYTES + SEGMENT_BYTES;
        for length in [0, 1, first - 1, first, first + 1, first + SEGMENT_BYTES, first + SEGMENT_BYTES + 1] {
            let bytes: Vec<u8> = (0..=250).cycle().take(length).collect();
            let (head, rest) = bytes.split_at(length.min(first));
            let mut leaves = vec![merkle::leaf_hash(head)];
            leaves.extend(rest.chunks(SEGMENT_BYTES).map(merkle::leaf_hash));
            let mut piecewise = SegmentRoot::default();
            bytes.chunks(77_777).for_each(|piece| piecewise.update(piece));
            assert_eq!(piecewise.finish(), (merkle::root(&leaves), length as u64), "{length} bytes");
        }
    }
}
