//! Where each durable record lies, and reading it there.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use crate::Record;
use crate::disk::Disk;
use crate::error::{Damage, Evidence, Field, ReadError};
use crate::group::{Contents, FRAME_BYTES, decode_record};
use crate::index::Index;
use crate::layout::{Hash, Take};
use crate::limits::READ_ATTEMPTS_MAX;
use crate::scan::Group;
use crate::tail::Notes;

/// Longest span read at once without knowing the record's own length, in bytes.
const SPAN_BYTES_MAX: u32 = 16 << 10;

/// One record's place. `span` is its length in bytes, or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) segment: u64,
    pub(crate) file: u64,
    pub(crate) offset: u32,
    pub(crate) span: u32,
}

/// What is known of a segment that holds groups of the live journal.
#[derive(Debug, Clone)]
pub(crate) struct SegmentMap {
    pub(crate) file: u64,
    pub(crate) first_sequence: u64,
    /// Offset of each record that was first written here; the `i`-th has sequence `first_sequence + i`.
    pub(crate) offsets: Vec<u32>,
    /// Sequence, offset and length of each record that was carried here.
    pub(crate) carried: Vec<(u64, u32, u32)>,
    /// Offset behind the last record that was first written here.
    own_end: u32,
    /// Offset of the index; 0 while the segment is being written.
    pub(crate) index_at: u32,
    /// Offset behind the last group.
    pub(crate) end: u32,
    /// SHA-256 of the last group.
    pub(crate) hash: Hash,
}

impl SegmentMap {
    pub(crate) fn new(file: u64, first_sequence: u64, end: u32, hash: Hash) -> Self {
        let (offsets, carried) = (Vec::new(), Vec::new());
        Self { file, first_sequence, offsets, carried, own_end: end, index_at: 0, end, hash }
    }

    /// Takes over a group that is durable.
    pub(crate) fn add(&mut self, group: &Group<'_>) {
        let records = group.records.iter();
        match group.header.contents {
            Contents::Owner => {
                self.offsets.extend(records.map(|(offset, _)| *offset));
                self.own_end = group.end;
            }
            Contents::Carried => self
                .carried
                .extend(records.map(|(at, record)| (record.sequence, *at, record.encoded_bytes()))),
            Contents::Index => self.index_at = group.header.offset,
            Contents::Image | Contents::Moved | Contents::Closed => {}
        }
        self.end = group.end;
        self.hash = group.hash;
    }

    /// Of a sealed segment, by its index, which lies at `at` and ends the segment at `end`.
    pub(crate) fn of_index(
        file: u64,
        first_sequence: u64,
        index: &Index<'_>,
        (at, end): (u32, u32),
        hash: Hash,
    ) -> Self {
        let offsets = index.own.iter().map(|own| own.offset).collect();
        let carried = index.carried.clone();
        Self { file, first_sequence, offsets, carried, own_end: at, index_at: at, end, hash }
    }

    /// The last sequence first written here; `None` if there is none.
    pub(crate) fn last_sequence(&self) -> Option<u64> {
        (self.offsets.len() as u64).checked_sub(1)?.checked_add(self.first_sequence)
    }

    /// Sequence, offset and span of every record first written here.
    pub(crate) fn own(&self) -> impl Iterator<Item = (u64, u32, u32)> {
        let ends = self.offsets.iter().skip(1).copied().chain([self.own_end]);
        let spans = self.offsets.iter().zip(ends);
        (self.first_sequence..)
            .zip(spans)
            .map(|(sequence, (at, end))| (sequence, *at, end.saturating_sub(*at)))
    }

    fn own_place(&self, number: u64, sequence: u64) -> Option<Place> {
        let index = usize::try_from(sequence.checked_sub(self.first_sequence)?).ok()?;
        let offset = *self.offsets.get(index)?;
        let end = self.offsets.get(index.checked_add(1)?).copied().unwrap_or(self.own_end);
        Some(Place { segment: number, file: self.file, offset, span: end.saturating_sub(offset) })
    }
}

/// All live segments by number, and where the carried records are.
#[derive(Debug, Default)]
pub(crate) struct Map {
    pub(crate) segments: BTreeMap<u64, SegmentMap>,
    /// First sequence to segment number, for segments with records of their own.
    starts: BTreeMap<u64, u64>,
    carried: HashMap<u64, Place>,
    /// The journal is gone, and with it the right to read its files.
    pub(crate) closed: bool,
}

impl Map {
    pub(crate) fn insert(&mut self, number: u64, segment: SegmentMap) {
        if !segment.offsets.is_empty() {
            self.starts.insert(segment.first_sequence, number);
        }
        for (sequence, offset, span) in &segment.carried {
            self.carried.insert(
                *sequence,
                Place { segment: number, file: segment.file, offset: *offset, span: *span },
            );
        }
        self.segments.insert(number, segment);
    }

    /// Takes over what became durable at the end of a segment.
    pub(crate) fn extend(&mut self, number: u64, notes: Notes, end: u32, hash: Hash) {
        let Some(segment) = self.segments.get_mut(&number) else { return };
        if !notes.offsets.is_empty() {
            segment.own_end = end;
        }
        segment.offsets.extend(notes.offsets);
        segment.end = end;
        segment.hash = hash;
        if !segment.offsets.is_empty() {
            self.starts.insert(segment.first_sequence, number);
        }
        for (sequence, offset, span) in &notes.carried {
            self.carried.insert(
                *sequence,
                Place { segment: number, file: segment.file, offset: *offset, span: *span },
            );
        }
        segment.carried.extend(notes.carried);
    }

    /// A segment is complete; its index lies at `index_at`.
    pub(crate) fn seal(&mut self, number: u64, index_at: u32) {
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.index_at = index_at;
            segment.offsets.shrink_to_fit();
        }
    }

    /// Forgets a segment; records that lie nowhere else are gone.
    pub(crate) fn remove(&mut self, number: u64) -> Option<SegmentMap> {
        let segment = self.segments.remove(&number)?;
        if self.starts.get(&segment.first_sequence) == Some(&number) {
            self.starts.remove(&segment.first_sequence);
        }
        for (sequence, ..) in &segment.carried {
            if self.carried.get(sequence).is_some_and(|place| place.segment == number) {
                self.carried.remove(sequence);
            }
        }
        Some(segment)
    }

    pub(crate) fn place(&self, sequence: u64) -> Option<Place> {
        if let Some(place) = self.carried.get(&sequence) {
            return Some(*place);
        }
        self.own_place(sequence)
    }

    /// Where it was first written.
    pub(crate) fn own_place(&self, sequence: u64) -> Option<Place> {
        let (_, number) = self.starts.range(..=sequence).next_back()?;
        self.segments.get(number)?.own_place(*number, sequence)
    }
}

/// The map as the journal (writer) and its readers share it. It holds only what is durable.
#[derive(Debug, Default)]
pub(crate) struct SharedMap {
    map: RwLock<Map>,
    /// The first damage of a sealed segment that a reader met.
    pub(crate) unreadable: OnceLock<Box<Damage>>,
}

impl SharedMap {
    pub(crate) fn new(map: Map) -> Self {
        Self { map: RwLock::new(map), unreadable: OnceLock::new() }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Map> {
        self.map.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Map> {
        self.map.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads durable records by sequence, also while the journal commits and compacts. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reader<D: Disk> {
    pub(crate) disk: D,
    pub(crate) map: Arc<SharedMap>,
}

impl<D: Disk> Reader<D> {
    pub(crate) fn new(disk: D, map: Arc<SharedMap>) -> Self {
        Self { disk, map }
    }

    /// The record with this sequence. Its checksum, which covers the use of the file it lies in, is verified.
    ///
    /// A record that compaction moves meanwhile is looked up again: the place that was read may already be
    /// overwritten, and then the checksum cannot hold.
    ///
    /// # Errors
    /// [`ReadError::NotFound`] for a sequence that is not durable, or dead and gone; a dead one may be
    /// readable for a while. [`ReadError::Closed`] once the journal was dropped. [`ReadError::Damaged`] and [`ReadError::Io`] are the disk's fault.
    pub fn read(&self, sequence: u64) -> Result<Record, ReadError> {
        let lookup = || {
            let map = self.map.read();
            if map.closed {
                return Err(ReadError::Closed);
            }
            map.place(sequence).ok_or(ReadError::NotFound { sequence })
        };
        let mut place = lookup()?;
        for _ in 0..READ_ATTEMPTS_MAX {
            let failure = match self.read_at(place, sequence) {
                Ok(record) => return Ok(record),
                Err(failure) => failure,
            };
            let now = lookup()?;
            if now == place {
                self.remember(&failure);
                return Err(failure);
            }
            place = now;
        }
        self.read_at(place, sequence)
    }

    /// Damage of a sealed segment: opening by the indexes would not see it.
    fn remember(&self, failure: &ReadError) {
        let ReadError::Damaged(damage) = failure else { return };
        let newest = self.map.read().segments.last_key_value().map(|(number, _)| *number);
        if newest.is_some_and(|newest| damage.segment < newest) {
            let _ = self.map.unreadable.set(damage.clone());
        }
    }

    fn read_at(&self, place: Place, sequence: u64) -> Result<Record, ReadError> {
        let io = |source| ReadError::Io { sequence, source };
        let mut span = place.span;
        if span > SPAN_BYTES_MAX {
            let mut frame = [0; FRAME_BYTES as usize];
            self.disk.read(place.file, u64::from(place.offset), &mut frame).map_err(io)?;
            let payload = Take(&frame).u32().unwrap_or(u32::MAX);
            span = span.min(payload.saturating_add(FRAME_BYTES));
        }
        let mut bytes = vec![0; span as usize];
        self.disk.read(place.file, u64::from(place.offset), &mut bytes).map_err(io)?;
        let bytes = Bytes::from(bytes);
        let damage = |field| {
            Box::new(Damage {
                segment: place.segment,
                file: Some(place.file),
                offset: u64::from(place.offset),
                sequence: Some(sequence),
                field,
                evidence: Evidence::Acknowledged,
            })
        };
        let record = decode_record(&bytes, place.segment).map_err(damage)?;
        if record.sequence != sequence {
            return Err(damage(Field::RecordSequence).into());
        }
        Ok(Record { sequence, kind: record.kind, payload: bytes.slice_ref(record.payload) })
    }
}
