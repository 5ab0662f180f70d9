//! A snapshot as records: parts, then one closing record that makes them valid.
//!
//! The parts, joined, are first the segments that stay (48 bytes each), then the owner's snapshot.
//!
//! | offset | bytes | a part, kind 0xFF01 |
//! |---|---|---|
//! | 0 | 8 | snapshot number: the segment that compaction began for it |
//! | 8 | 4 | index of the part, from 0 |
//! | 12 | | its bytes |
//!
//! | offset | bytes | the closing record, kind 0xFF02 |
//! |---|---|---|
//! | 0 | 8 | snapshot number |
//! | 8 | 8 | `covers`: the owner's snapshot stands for all records up to this sequence |
//! | 16 | 4 | count of the parts |
//! | 20 | 4 | count of the segments that stay |
//! | 24 | 8 | bytes of the owner's snapshot |
//! | 32 | 32 | SHA-256 of the parts, joined |
//!
//! | offset | bytes | a segment that stays |
//! |---|---|---|
//! | 0 | 8 | its number |
//! | 8 | 4 | offset of its last group, the index |
//! | 12 | 4 | offset at which it ends |
//! | 16 | 32 | SHA-256 of its last group |

use crate::group::RawRecord;
use crate::layout::{Hash, Take};

pub(crate) const KIND_PART: u16 = 0xFF01;
pub(crate) const KIND_END: u16 = 0xFF02;
pub(crate) const KIND_MOVED: u16 = 0xFF03;
pub(crate) const KIND_CLOSED: u16 = 0xFF04;

/// The first kind that the owner may not use.
pub(crate) const KIND_RESERVED: u16 = 0xFF00;

/// Bytes before the content of a part.
pub(crate) const PART_PREFIX_BYTES: u32 = 12;
pub(crate) const KEPT_BYTES: u32 = 48;
pub(crate) const END_BYTES: u32 = 64;

/// A sealed segment that stays, and where it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) number: u64,
    pub(crate) index_at: u32,
    pub(crate) end: u32,
    pub(crate) hash: Hash,
}

impl Kept {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.index_at.to_le_bytes());
        out.extend_from_slice(&self.end.to_le_bytes());
        out.extend_from_slice(&self.hash);
    }

    pub(crate) fn decode(take: &mut Take<'_>) -> Option<Self> {
        Some(Self { number: take.u64()?, index_at: take.u32()?, end: take.u32()?, hash: take.array()? })
    }
}

/// The closing record of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageEnd {
    pub(crate) id: u64,
    pub(crate) covers: u64,
    pub(crate) parts: u32,
    pub(crate) kept: u32,
    pub(crate) snapshot_bytes: u64,
    pub(crate) hash: Hash,
}

impl ImageEnd {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(END_BYTES as usize);
        out.extend_from_slice(&self.id.to_le_bytes());
        out.extend_from_slice(&self.covers.to_le_bytes());
        out.extend_from_slice(&self.parts.to_le_bytes());
        out.extend_from_slice(&self.kept.to_le_bytes());
        out.extend_from_slice(&self.snapshot_bytes.to_le_bytes());
        out.extend_from_slice(&self.hash);
        out
    }

    /// `None` if the record is not a closing record, whole and without anything behind it.
    pub(crate) fn decode(record: &RawRecord<'_>) -> Option<Self> {
        let mut take = Take(record.payload);
        let end = Self {
            id: take.u64()?,
            covers: take.u64()?,
            parts: take.u32()?,
            kept: take.u32()?,
            snapshot_bytes: take.u64()?,
            hash: take.array()?,
        };
        (record.kind == KIND_END && take.0.is_empty()).then_some(end)
    }
}

/// The payload of one part.
pub(crate) fn encode_part(id: u64, index: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len().saturating_add(PART_PREFIX_BYTES as usize));
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(&index.to_le_bytes());
    out.extend_from_slice(content);
    out
}

/// Number, index and content of a part; `None` if the record is not one.
pub(crate) fn decode_part<'a>(record: &RawRecord<'a>) -> Option<(u64, u32, &'a [u8])> {
    let mut take = Take(record.payload);
    let part = (take.u64()?, take.u32()?, take.0);
    (record.kind == KIND_PART).then_some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_wrong_sizes() {
        let end = ImageEnd { id: 4, covers: 99, parts: 2, kept: 1, snapshot_bytes: 1000, hash: [8; 32] };
        let bytes = end.encode();
        assert_eq!(bytes.len(), END_BYTES as usize);
        let record = |kind, payload| RawRecord { kind, payload, ..RawRecord::default() };
        assert_eq!(ImageEnd::decode(&record(KIND_END, &bytes)), Some(end));
        assert_eq!(ImageEnd::decode(&record(KIND_PART, &bytes)), None);
        assert_eq!(ImageEnd::decode(&record(KIND_END, &bytes[1..])), None);
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(ImageEnd::decode(&record(KIND_END, &longer)), None);

        let part = encode_part(4, 1, b"content");
        assert_eq!(decode_part(&record(KIND_PART, &part)), Some((4, 1, &b"content"[..])));
        assert_eq!(decode_part(&record(KIND_PART, &part[..11])), None);

        let kept = Kept { number: 3, index_at: 4500, end: 5000, hash: [1; 32] };
        let mut bytes = Vec::new();
        kept.encode(&mut bytes);
        assert_eq!(bytes.len(), KEPT_BYTES as usize);
        assert_eq!(Kept::decode(&mut Take(&bytes)), Some(kept));
        assert_eq!(Kept::decode(&mut Take(&bytes[1..])), None);
    }
}
