//! Walking the groups of one segment, and telling damage from a torn end.

use crate::error::Field;
use crate::group::{
    ALIGN, Contents, GROUP_HEADER_BYTES, GroupHeader, MAGIC, RawRecord, decode_record, hash_of, parse_record,
};
use crate::layout::{Hash, all_zero, window};
use crate::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};

/// Records, each with the offset of its frame in the segment.
type Placed<'a> = Vec<(u32, RawRecord<'a>)>;

/// One valid group.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    pub(crate) header: GroupHeader,
    /// Offset of the first byte behind the padding.
    pub(crate) end: u32,
    pub(crate) hash: Hash,
    pub(crate) records: Placed<'a>,
}

/// The place where a walk cannot go on, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) offset: u32,
    pub(crate) field: Field,
    /// The first record that is affected.
    pub(crate) sequence: u64,
    /// Records of the bad group, if its header is valid.
    pub(crate) records: Option<u32>,
}

/// Goes over the groups of a segment from the first to the last.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    bytes: &'a [u8],
    /// Offset of the first of the bytes.
    base: u32,
    segment: u64,
    /// All of it was walked before, and is not hashed again.
    known: bool,
    pub(crate) at: u32,
    pub(crate) groups: u32,
    pub(crate) hash: Hash,
    pub(crate) next_sequence: u64,
}

impl<'a> Walk<'a> {
    /// `bytes`: the segment from its header on.
    pub(crate) fn new(header: &SegmentHeader, bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            base: 0,
            segment: header.number,
            known: false,
            at: SEGMENT_HEADER_BYTES,
            groups: 0,
            hash: header.previous_hash,
            next_sequence: header.first_sequence,
        }
    }

    /// The same over groups that were found valid before. Their hashes are not told.
    pub(crate) fn again(header: &SegmentHeader, bytes: &'a [u8]) -> Self {
        Self { known: true, ..Self::new(header, bytes) }
    }

    /// Goes on where this walk is, over bytes that begin at offset `base`.
    pub(crate) fn over<'b>(&self, base: u32, bytes: &'b [u8]) -> Walk<'b> {
        let Self { segment, known, at, groups, hash, next_sequence, .. } = *self;
        Walk { bytes, base, segment, known, at, groups, hash, next_sequence }
    }

    /// The next group; `None` when nothing but zeros follows.
    ///
    /// # Errors
    /// [`Fault`]: what follows is neither a valid next group nor blank. The walk stays before it.
    pub(crate) fn step(&mut self) -> Result<Option<Group<'a>>, Fault> {
        let rest = self.bytes.get(self.at.saturating_sub(self.base) as usize..).unwrap_or_default();
        let front = rest.get(..GROUP_HEADER_BYTES as usize).unwrap_or(rest);
        if all_zero(front) && all_zero(rest) {
            return Ok(None);
        }
        let header = self.header(rest).map_err(|field| self.fault(field, None))?;
        let group = self.group(header.clone()).map_err(|(field, sequence)| Fault {
            sequence: sequence.unwrap_or(self.next_sequence),
            ..self.fault(field, Some(header.records))
        })?;
        self.at = group.end;
        self.hash = group.hash;
        self.groups = self.groups.saturating_add(1);
        if header.contents == Contents::Owner {
            self.next_sequence = self.next_sequence.saturating_add(u64::from(header.records));
        }
        Ok(Some(group))
    }

    fn fault(&self, field: Field, records: Option<u32>) -> Fault {
        Fault { offset: self.at, field, sequence: self.next_sequence, records }
    }

    /// The header at the front of `rest`, checked against where the walk is.
    fn header(&self, rest: &[u8]) -> Result<GroupHeader, Field> {
        let header = GroupHeader::decode(rest, self.segment, self.at)?;
        if header.number != self.groups {
            return Err(Field::GroupNumber);
        }
        if header.synced > self.at {
            return Err(Field::GroupSynced);
        }
        if header.first_sequence != self.next_sequence {
            return Err(Field::GroupFirstSequence);
        }
        if !self.known && header.previous != self.hash {
            return Err(Field::GroupPreviousHash);
        }
        Ok(header)
    }

    /// The whole group behind a valid header, or the field that is wrong with the record it is in.
    fn group(&self, header: GroupHeader) -> Result<Group<'a>, (Field, Option<u64>)> {
        let length = (Field::GroupLength, None);
        let body_at = self.at.checked_add(GROUP_HEADER_BYTES).ok_or(length)?;
        let window = |at: u32, count| window(self.bytes, at.checked_sub(self.base)?, count);
        let body = window(body_at, header.body_bytes).ok_or(length)?;
        let body_end = body_at.checked_add(header.body_bytes).ok_or(length)?;
        let end = body_end.checked_next_multiple_of(ALIGN).ok_or(length)?;
        let padding = window(body_end, end.saturating_sub(body_end)).ok_or(length)?;
        let records = self.records(&header, body, body_at)?;
        if !all_zero(padding) {
            return Err((Field::GroupPadding, None));
        }
        let whole = window(self.at, end.saturating_sub(self.at)).ok_or(length)?;
        let hash = if self.known { Hash::default() } else { hash_of(whole) };
        Ok(Group { header, end, hash, records })
    }

    fn records(
        &self,
        header: &GroupHeader,
        mut body: &'a [u8],
        mut at: u32,
    ) -> Result<Placed<'a>, (Field, Option<u64>)> {
        let mut records = Vec::new();
        while !body.is_empty() {
            let index = records.len() as u64;
            let owner = header.contents == Contents::Owner;
            let expected = owner.then(|| header.first_sequence.saturating_add(index));
            let record = if self.known { parse_record(body) } else { decode_record(body, self.segment) };
            let record = record.map_err(|field| (field, expected))?;
            if expected.is_some_and(|sequence| sequence != record.sequence) {
                return Err((Field::RecordSequence, expected));
            }
            records.push((at, record));
            let bytes = record.encoded_bytes();
            body = body.get(bytes as usize..).unwrap_or_default();
            at = at.saturating_add(bytes);
        }
        if records.len() != header.records as usize {
            return Err((Field::GroupRecords, None));
        }
        Ok(records)
    }
}

/// The offset of a group that proves that the bytes at `fault` were durable once: its valid header says that
/// everything below some offset beyond `fault` was. Groups of the same write as the bad one prove nothing,
/// because a lost cache may keep any part of one write.
pub(crate) fn later_group(bytes: &[u8], segment: u64, fault: u32) -> Option<u32> {
    let mut at = fault.checked_add(ALIGN)?.checked_next_multiple_of(ALIGN)?.saturating_sub(ALIGN);
    while let Some(rest) = bytes.get(at as usize..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with(&MAGIC)
            && let Ok(header) = GroupHeader::decode(rest, segment, at)
            && header.synced > fault
        {
            return Some(at);
        }
        at = at.checked_add(ALIGN)?;
    }
    None
}

/// Bytes from `at` to the last one that is not zero.
pub(crate) fn used_bytes(bytes: &[u8], at: u32) -> u64 {
    let rest = bytes.get(at as usize..).unwrap_or_default();
    rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::{Position, encode};

    fn header() -> SegmentHeader {
        SegmentHeader {
            number: 5,
            previous: 4,
            previous_end: 4096,
            previous_index: 0,
            previous_hash: [9; 32],
            replaces: 0,
            image: 0,
            first_sequence: 70,
        }
    }

    fn position() -> Position {
        Position { segment: 5, number: 0, offset: 4096, synced: 4096, first_sequence: 70, previous: [9; 32] }
    }

    /// Walks a segment whose only group is whole in itself, but was written for this position.
    fn walk(position: &Position, sequence: u64) -> Result<Option<u32>, Field> {
        let mut bytes = header().encode();
        let record = RawRecord { sequence, kind: 1, payload: b"payload", brief: None };
        encode(&mut bytes, position, Contents::Owner, [record]).unwrap();
        bytes.resize(8192, 0);
        let group = Walk::new(&header(), &bytes).step().map_err(|fault| fault.field)?;
        Ok(group.map(|group| group.header.records))
    }

    #[test]
    fn a_group_must_be_the_next_one_in_every_respect() {
        assert_eq!(walk(&position(), 70), Ok(Some(1)));
        let wrong = |position: Position| walk(&position, 70).unwrap_err();
        assert_eq!(wrong(Position { segment: 6, ..position() }), Field::GroupSegment);
        assert_eq!(wrong(Position { number: 1, ..position() }), Field::GroupNumber);
        assert_eq!(wrong(Position { offset: 4104, ..position() }), Field::GroupOffset);
        assert_eq!(wrong(Position { synced: 4104, ..position() }), Field::GroupSynced);
        assert_eq!(wrong(Position { first_sequence: 71, ..position() }), Field::GroupFirstSequence);
        assert_eq!(wrong(Position { previous: [8; 32], ..position() }), Field::GroupPreviousHash);
        assert_eq!(walk(&position(), 71), Err(Field::RecordSequence));
    }

    #[test]
    fn only_a_group_written_after_a_sync_beyond_the_fault_is_evidence() {
        let mut bytes = header().encode();
        let first = RawRecord { sequence: 70, kind: 1, payload: b"payload", brief: None };
        encode(&mut bytes, &position(), Contents::Owner, [first]).unwrap();
        let second = u32::try_from(bytes.len()).unwrap();
        for (synced, evidence) in [(4096, None), (second, Some(second))] {
            let mut bytes = bytes.clone();
            let position = Position { number: 1, offset: second, synced, first_sequence: 71, ..position() };
            encode(&mut bytes, &position, Contents::Owner, [first]).unwrap();
            assert_eq!(later_group(&bytes, 5, 4096), evidence);
            assert_eq!(later_group(&bytes, 6, 4096), None);
        }
    }
}
