//! A sealed segment of the live journal: its end, what vouches for that, and reading single things in it.

use crate::Record;
use crate::disk::Disk;
use crate::error::{Evidence, Field, OpenError};
use crate::group::{ALIGN, Contents, FRAME_BYTES, GROUP_HEADER_BYTES, GroupHeader, decode_record, hash_of};
use crate::index::Index;
use crate::layout::{Hash, Take, window};
use crate::map::SegmentMap;
use crate::scan::{Fault, Group};
use crate::segment::SEGMENT_HEADER_BYTES;
use crate::survey::Found;

/// A sealed segment of the live journal, and what vouches for its end.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) found: Found,
    /// Offset of its last group, the index.
    pub(crate) index_at: u32,
    pub(crate) end: u32,
    /// SHA-256 of that group.
    pub(crate) hash: Hash,
    pub(crate) evidence: Evidence,
}

impl Sealed {
    pub(crate) fn damage(&self, offset: u32, field: Field, sequence: u64) -> OpenError {
        self.found.damage(Fault { offset, field, sequence, records: None }, self.evidence)
    }

    /// Of what cannot be told which records it affects: all that were first written here.
    fn all(&self, offset: u32, field: Field) -> OpenError {
        self.damage(offset, field, self.found.header.first_sequence)
    }

    /// The bytes of the index, which are what its successor, or the snapshot, says.
    ///
    /// # Errors
    /// `Io`, `Damaged`.
    pub(crate) fn read_index<D: Disk>(&self, disk: &D) -> Result<Vec<u8>, OpenError> {
        let Self { found, index_at, end, hash, .. } = self;
        let bytes = end.checked_sub(*index_at).filter(|_| {
            *index_at >= SEGMENT_HEADER_BYTES && *end <= found.length && index_at.is_multiple_of(ALIGN)
        });
        let bytes = bytes.ok_or_else(|| self.all(*index_at, Field::SegmentEnd))?;
        let mut group = vec![0; bytes as usize];
        disk.read(found.file, u64::from(*index_at), &mut group).map_err(reading)?;
        GroupHeader::decode(&group, found.header.number, *index_at)
            .map_err(|field| self.all(*index_at, field))?;
        if hash_of(&group) != *hash {
            return Err(self.all(*index_at, Field::SegmentEndHash));
        }
        Ok(group)
    }

    /// What the index says, and the sequence that follows the records first written here.
    ///
    /// # Errors
    /// `Damaged`.
    pub(crate) fn index<'a>(&self, group: &'a [u8]) -> Result<(Index<'a>, u64), OpenError> {
        let number = self.found.header.number;
        let read = || {
            let header = GroupHeader::decode(group, number, self.index_at)?;
            if header.contents != Contents::Index {
                return Err(Field::GroupContents);
            }
            let body = window(group, GROUP_HEADER_BYTES, header.body_bytes).ok_or(Field::GroupLength)?;
            let index = Index::decode(&decode_record(body, number)?).ok_or(Field::SegmentIndex)?;
            let next = self.found.header.first_sequence.saturating_add(index.own.len() as u64);
            if header.first_sequence != next {
                return Err(Field::GroupFirstSequence);
            }
            Ok((index, next))
        };
        read().map_err(|field| self.all(self.index_at, field))
    }

    /// The map of the segment by its index.
    pub(crate) fn map(&self, index: &Index<'_>) -> SegmentMap {
        let Self { found, index_at, end, hash, .. } = self;
        SegmentMap::of_index(found.file, found.header.first_sequence, index, (*index_at, *end), *hash)
    }

    /// The record whose frame lies at `offset`.
    ///
    /// # Errors
    /// `Io`, `Damaged`.
    pub(crate) fn record<D: Disk>(&self, disk: &D, offset: u32, sequence: u64) -> Result<Record, OpenError> {
        let damage = |field| self.damage(offset, field, sequence);
        let mut frame = [0; FRAME_BYTES as usize];
        disk.read(self.found.file, u64::from(offset), &mut frame).map_err(reading)?;
        let bytes = Take(&frame).u32().and_then(|payload| payload.checked_add(FRAME_BYTES));
        let bytes = bytes.filter(|bytes| offset.checked_add(*bytes).is_some_and(|end| end <= self.end));
        let bytes = bytes.ok_or_else(|| damage(Field::RecordLength))?;
        let mut record = vec![0; bytes as usize];
        disk.read(self.found.file, u64::from(offset), &mut record).map_err(reading)?;
        let raw = decode_record(&record, self.found.header.number).map_err(damage)?;
        if raw.sequence != sequence {
            return Err(damage(Field::RecordSequence));
        }
        let (kind, payload) = (raw.kind, raw.payload.to_vec());
        Ok(Record { sequence, kind, payload: payload.into() })
    }

    /// That the index, if this group is it, says what stands before it.
    ///
    /// # Errors
    /// `Damaged`.
    pub(crate) fn check_index(&self, map: &SegmentMap, group: &Group<'_>) -> Result<(), OpenError> {
        if group.header.contents != Contents::Index {
            return Ok(());
        }
        let index = group.records.first().and_then(|(_, record)| Index::decode(record));
        let same = index.is_some_and(|index| {
            index.own.iter().map(|own| own.offset).eq(map.offsets.iter().copied())
                && index.carried == map.carried
        });
        if same && group.header.offset == self.index_at {
            return Ok(());
        }
        Err(self.all(group.header.offset, Field::SegmentIndex))
    }

    /// That what was walked ends where, and with what, it must.
    ///
    /// # Errors
    /// `Damaged`.
    pub(crate) fn check_end(&self, map: &SegmentMap, next_sequence: u64) -> Result<(), OpenError> {
        let wrong = |field| Err(self.damage(map.end, field, next_sequence));
        if map.end != self.end {
            return wrong(Field::SegmentEnd);
        }
        if map.hash == self.hash { Ok(()) } else { wrong(Field::SegmentEndHash) }
    }
}

fn reading(source: std::io::Error) -> OpenError {
    OpenError::Io { doing: "read a segment", source }
}
