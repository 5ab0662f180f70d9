//! The index of a sealed segment: its last group, which says where everything in it lies, and what its records mean to
//! their owner. Whoever opens the journal reads it instead of the segment.
//!
//! One record of kind 0xFF05:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | count of the records first written here |
//! | 4 | 4 | count of the carried records |
//! | 8 | 4 | count of the records of a snapshot |
//! | 12 | 10 and more each | a record first written here: offset (4), kind (2), length of its brief (4), its brief |
//! | | 16 each | a carried record: sequence (8), offset (4), length (4) |
//! | | 8 each | a record of a snapshot: offset (4), length (4) |
//!
//! A record without a brief has the length 0xFFFFFFFF there. Offsets are those of frames in the segment, ascending.

use crate::group::{Contents, FRAME_BYTES, GROUP_HEADER_BYTES, RawRecord};
use crate::layout::Take;

pub(crate) const KIND_INDEX: u16 = 0xFF05;

/// What an index without entries takes, with its group, its frame and its padding.
pub(crate) const EMPTY_BYTES: u32 = GROUP_HEADER_BYTES + FRAME_BYTES + 12 + 8;
/// What a carried record takes in the index, bytes.
pub(crate) const CARRIED_BYTES: u32 = 16;
/// What a record of a snapshot takes, bytes.
pub(crate) const IMAGE_BYTES: u32 = 8;
/// What a record of the owner takes beside its brief, bytes.
const OWN_BYTES: u32 = 10;
const NO_BRIEF: u32 = u32::MAX;
const COUNTS_BYTES: usize = 12;

/// What a record of the owner takes in the index, bytes.
pub(crate) fn own_bytes(brief: Option<&[u8]>) -> u64 {
    u64::from(OWN_BYTES).saturating_add(brief.map_or(0, <[u8]>::len) as u64)
}

/// The index of the segment that is being written. It may become some MiB long, and is not copied.
#[derive(Debug, Default)]
pub(crate) struct Growing {
    /// Behind room for the counts.
    own: Section,
    carried: Section,
    image: Section,
}

#[derive(Debug, Default)]
struct Section {
    count: u32,
    bytes: Vec<u8>,
}

impl Section {
    fn put<'a>(&mut self, parts: impl IntoIterator<Item = &'a [u8]>) {
        self.count = self.count.saturating_add(1);
        parts.into_iter().for_each(|part| self.bytes.extend_from_slice(part));
    }
}

impl Growing {
    /// Takes a record over that lies at offset `at`.
    pub(crate) fn add(&mut self, contents: Contents, at: u32, record: &RawRecord<'_>) {
        let (offset, length) = (at.to_le_bytes(), record.encoded_bytes().to_le_bytes());
        match contents {
            Contents::Owner => {
                let brief = record.brief.and_then(|brief| Some((u32::try_from(brief.len()).ok()?, brief)));
                let (length, brief) = brief.unwrap_or((NO_BRIEF, &[]));
                if self.own.bytes.is_empty() {
                    self.own.bytes.extend([0; COUNTS_BYTES]);
                }
                self.own.put([&offset[..], &record.kind.to_le_bytes(), &length.to_le_bytes(), brief]);
            }
            Contents::Carried => self.carried.put([&record.sequence.to_le_bytes()[..], &offset, &length]),
            Contents::Image => self.image.put([&offset[..], &length]),
            Contents::Moved | Contents::Closed | Contents::Index => {}
        }
    }

    /// Bytes that the entries take.
    pub(crate) fn bytes(&self) -> u64 {
        let own = self.own.bytes.len().saturating_sub(COUNTS_BYTES);
        [own, self.carried.bytes.len(), self.image.bytes.len()].iter().map(|bytes| *bytes as u64).sum()
    }

    /// The payload of its record.
    pub(crate) fn payload(self) -> Vec<u8> {
        let counts = [&self.own, &self.carried, &self.image].map(|section| section.count.to_le_bytes());
        let mut payload = self.own.bytes;
        payload.resize(payload.len().max(COUNTS_BYTES), 0);
        payload.iter_mut().zip(counts.as_flattened()).for_each(|(to, from)| *to = *from);
        payload.extend_from_slice(&self.carried.bytes);
        payload.extend_from_slice(&self.image.bytes);
        payload
    }
}

/// The index of a sealed segment, as it was read.
#[derive(Debug)]
pub(crate) struct Index<'a> {
    /// Sequence, offset and length of each carried record.
    pub(crate) carried: Vec<(u64, u32, u32)>,
    /// Offset and length of each record of a snapshot.
    pub(crate) images: Vec<(u32, u32)>,
    /// Records first written here, in order.
    pub(crate) own: Vec<Own<'a>>,
}

/// One record first written in the segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Own<'a> {
    pub(crate) offset: u32,
    pub(crate) kind: u16,
    pub(crate) brief: Option<&'a [u8]>,
}

impl<'a> Index<'a> {
    /// `None` if the record is not an index, whole and without anything behind it.
    pub(crate) fn decode(record: &RawRecord<'a>) -> Option<Self> {
        let mut take = Take(record.payload);
        let (own, carried, images) = (take.u32()?, take.u32()?, take.u32()?);
        let own = (0..own).map(|_| Own::take(&mut take)).collect::<Option<Vec<_>>>()?;
        let carried = (0..carried).map(|_| Some((take.u64()?, take.u32()?, take.u32()?)));
        let carried = carried.collect::<Option<Vec<_>>>()?;
        let images = (0..images).map(|_| Some((take.u32()?, take.u32()?))).collect::<Option<Vec<_>>>()?;
        (record.kind == KIND_INDEX && take.0.is_empty()).then_some(Self { carried, images, own })
    }
}

impl<'a> Own<'a> {
    fn take(take: &mut Take<'a>) -> Option<Self> {
        let (offset, kind, length) = (take.u32()?, take.u16()?, take.u32()?);
        if length == NO_BRIEF {
            return Some(Self { offset, kind, brief: None });
        }
        let (brief, rest) = take.0.split_at_checked(length as usize)?;
        take.0 = rest;
        Some(Self { offset, kind, brief: Some(brief) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_wrong_sizes() {
        let mut growing = Growing::default();
        let record = |kind, brief| RawRecord { sequence: 9, kind, payload: b"payload", brief };
        growing.add(Contents::Carried, 4184, &record(1, None));
        growing.add(Contents::Image, 5000, &record(0xFF01, None));
        growing.add(Contents::Owner, 6000, &record(2, Some(b"brief")));
        growing.add(Contents::Owner, 6100, &record(3, Some(b"")));
        growing.add(Contents::Owner, 6200, &record(4, None));
        growing.add(Contents::Moved, 6300, &record(0xFF03, None));
        let bytes = growing.bytes();
        let payload = growing.payload();
        let entries =
            u64::from(CARRIED_BYTES + IMAGE_BYTES) + own_bytes(Some(b"brief")) + 2 * own_bytes(None);
        assert_eq!((payload.len() as u64, bytes), (12 + entries, entries));
        let raw = |kind, payload| RawRecord { kind, payload, ..RawRecord::default() };
        let index = Index::decode(&raw(KIND_INDEX, &payload)).unwrap();
        assert_eq!((index.carried, index.images), (vec![(9, 4184, 27)], vec![(5000, 27)]));
        let own = |offset, kind, brief| Own { offset, kind, brief };
        let all = [own(6000, 2, Some(&b"brief"[..])), own(6100, 3, Some(b"")), own(6200, 4, None)];
        assert_eq!(index.own, all);
        assert!(Index::decode(&raw(KIND_INDEX + 1, &payload)).is_none());
        assert!((0..payload.len()).all(|end| Index::decode(&raw(KIND_INDEX, &payload[..end])).is_none()));
        assert!(Index::decode(&raw(KIND_INDEX, &[&payload[..], &[0]].concat())).is_none());
    }
}
