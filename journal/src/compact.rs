//! Making room: carry live records forward, write the snapshot, let old segments go.
//!
//! A compaction begins a fresh segment and writes, in this order: the live records of the segments that go;
//! the parts of the snapshot, which begin with the list of the segments that stay; the closing record. One
//! sync makes it valid. Until then the sources are untouched and the snapshot before it is the valid one;
//! from then on the sources are not live, and are overwritten.

use crate::disk::Disk;
use crate::error::{CommitError, ReadError};
use crate::group::{Contents, FRAME_BYTES, GROUP_HEADER_BYTES, RawRecord, encoded_bytes, hash_of};
use crate::image::{
    END_BYTES, ImageEnd, KEPT_BYTES, KIND_END, KIND_PART, Kept, PART_PREFIX_BYTES, encode_part,
};
use crate::index::{CARRIED_BYTES, IMAGE_BYTES};
use crate::map::{Place, SegmentMap};
use crate::space::Room;
use crate::{CompactReport, Compaction, Journal, Record};

/// A segment that could go.
#[derive(Debug)]
struct Candidate {
    number: u64,
    file: u64,
    live: Vec<u64>,
    live_bytes: u64,
    /// Holds a record that must be overwritten.
    must_go: bool,
}

impl<D: Disk> Journal<D> {
    /// Writes the owner's snapshot, carries the live records of nearly empty segments forward, and overwrites
    /// those segments. Only segments with no record beyond `covers` go. A live record keeps its sequence and
    /// stays readable throughout; a dead one may vanish, and does if it must go and the report says that nothing
    /// is left.
    ///
    /// # Errors
    /// `Covers`, `SnapshotTooLarge`, `DiskFull` and `Unreadable` leave the journal as it was; `Poisoned`.
    pub fn compact(&mut self, request: Compaction) -> Result<CompactReport, CommitError> {
        let report = self.compact_without_wiping(request)?;
        self.space.tend()?;
        Ok(report)
    }

    /// The same, but leaves the overwriting to whoever calls [`crate::space::Space::tend`] next.
    pub(crate) fn compact_without_wiping(
        &mut self,
        request: Compaction,
    ) -> Result<CompactReport, CommitError> {
        self.check_alive()?;
        let Compaction { covers, snapshot, live, must_go } = request;
        let highest = self.next_sequence.saturating_sub(1);
        if covers < self.covers || covers > highest {
            return Err(CommitError::Covers { covers, lowest: self.covers, highest });
        }
        let (bytes, max) = (snapshot.len() as u64, self.limits.snapshot_bytes_max);
        if bytes > max {
            return Err(CommitError::SnapshotTooLarge { bytes, max });
        }
        let candidates = self.candidates(covers, &*live, must_go);
        let must_go = candidates.iter().filter(|candidate| candidate.must_go).count() as u64;
        let sources = self.reserve_for(candidates, bytes)?;
        let going = sources.iter().filter(|source| source.must_go).count() as u64;
        let outcome = self.carry(&sources).and_then(|carried| {
            self.write_image(covers, &snapshot, &sources, &carried)?;
            Ok(carried.len() as u64)
        });
        match outcome {
            Ok(records_carried) => {
                let report = self.release(covers, &sources, records_carried, bytes);
                Ok(CompactReport { must_go_left: must_go.saturating_sub(going), ..report })
            }
            Err(failed) => {
                self.space.end_housekeeping(self.tail.free(), Vec::new());
                Err(failed)
            }
        }
    }

    /// All segments without a record beyond `covers`: first what must go, then the emptiest.
    fn candidates(&self, covers: u64, live: &dyn Fn(u64) -> bool, must_go: u64) -> Vec<Candidate> {
        let map = self.map.read();
        let mut candidates = Vec::new();
        for (number, segment) in &map.segments {
            if segment.last_sequence().is_some_and(|last| last > covers) {
                continue;
            }
            let here = |place: Place, offset| place.segment == *number && place.offset == offset;
            let current = |(sequence, offset, _): &(u64, u32, u32)| {
                map.place(*sequence).is_some_and(|place| here(place, *offset)) && live(*sequence)
            };
            let (current, others): (Vec<_>, Vec<_>) = records_of(segment).partition(current);
            candidates.push(Candidate {
                number: *number,
                file: segment.file,
                live: current.iter().map(|(sequence, ..)| *sequence).collect(),
                live_bytes: current.iter().map(|(.., span)| u64::from(*span)).sum(),
                must_go: others.iter().any(|(sequence, ..)| *sequence <= must_go),
            });
        }
        candidates.sort_by_key(|candidate| (!candidate.must_go, candidate.live_bytes));
        candidates
    }

    /// Chooses among the candidates and sets spares aside for what will be written. If there is too little
    /// room to carry records, only segments without live records go.
    fn reserve_for(&self, candidates: Vec<Candidate>, snapshot: u64) -> Result<Vec<Candidate>, CommitError> {
        let percent = u64::from(self.limits.carry_live_percent_max);
        let live_max = u64::from(self.limits.segment_bytes).saturating_mul(percent) / 100;
        let mut carried = 0u64;
        let chosen = |candidate: &Candidate| {
            let total = carried.saturating_add(candidate.live_bytes);
            let within = total <= self.limits.carry_bytes_max;
            // Of what must go one segment always fits, or it never would.
            let fits = if candidate.must_go {
                within || carried == 0
            } else {
                within && candidate.live_bytes <= live_max
            };
            carried = if fits { total } else { carried };
            fits
        };
        let mut sources: Vec<Candidate> = candidates.into_iter().filter(chosen).collect();
        loop {
            let segments = self.segments_for(
                carried,
                sources.iter().map(|source| source.live.len() as u64).sum(),
                snapshot,
            );
            if self.space.begin_housekeeping(segments, sources.len() as u64) == Room::Granted {
                return Ok(sources);
            }
            match self.space.make_room() {
                Err(CommitError::DiskFull) if carried > 0 => {
                    carried = 0;
                    sources.retain(|source| source.live.is_empty());
                }
                outcome => outcome?,
            }
        }
    }

    /// Segments that the output may take, at most: one longest group is written off at the end of each.
    fn segments_for(&self, carried: u64, records: u64, snapshot: u64) -> u64 {
        let stays = self.map.read().segments.len() as u64;
        let image = snapshot.saturating_add(stays.saturating_mul(u64::from(KEPT_BYTES)));
        let part_overhead =
            u64::from(GROUP_HEADER_BYTES + FRAME_BYTES + PART_PREFIX_BYTES + 8 + CARRIED_BYTES);
        let parts = image.div_ceil(self.part_bytes()).saturating_mul(part_overhead);
        // A carried record has a group of its own at worst.
        let groups = records.saturating_mul(u64::from(GROUP_HEADER_BYTES + FRAME_BYTES + 8 + CARRIED_BYTES));
        let end = encoded_bytes([u64::from(END_BYTES + CARRIED_BYTES)]);
        let output = [carried, groups, image, parts, end].into_iter().fold(0, u64::saturating_add);
        let each = self.limits.fresh_bytes().saturating_sub(u64::from(self.limits.group_bytes_max)).max(1);
        output.div_ceil(each)
    }

    /// Content of one part of a snapshot: its group is as long as a group may be.
    fn part_bytes(&self) -> u64 {
        let overhead = u64::from(GROUP_HEADER_BYTES + FRAME_BYTES + PART_PREFIX_BYTES + 8 + CARRIED_BYTES);
        u64::from(self.limits.group_bytes_max).saturating_sub(overhead).max(1)
    }

    /// Reads what must be carried, before anything is written.
    fn carry(&self, sources: &[Candidate]) -> Result<Vec<Record>, CommitError> {
        let reader = self.reader();
        let mut sequences: Vec<u64> = sources.iter().flat_map(|source| &source.live).copied().collect();
        sequences.sort_unstable();
        let unreadable =
            |sequence, cause: ReadError| CommitError::Unreadable { sequence, reason: cause.to_string() };
        sequences
            .into_iter()
            .map(|sequence| reader.read(sequence).map_err(|cause| unreadable(sequence, cause)))
            .collect()
    }

    fn write_image(
        &mut self,
        covers: u64,
        snapshot: &[u8],
        sources: &[Candidate],
        carried: &[Record],
    ) -> Result<(), CommitError> {
        self.rotate(0)?;
        let id = self.tail.number;
        let mut joined = Vec::new();
        let mut kept = 0u32;
        for (number, segment) in self.map.read().segments.range(..id) {
            if sources.iter().all(|source| source.number != *number) {
                let SegmentMap { index_at, end, hash, .. } = *segment;
                Kept { number: *number, index_at, end, hash }.encode(&mut joined);
                kept = kept.saturating_add(1);
            }
        }
        joined.extend_from_slice(snapshot);

        for record in carried {
            let raw = RawRecord {
                sequence: record.sequence,
                kind: record.kind,
                payload: &record.payload,
                brief: None,
            };
            self.stage_fitting(Contents::Carried, raw)?;
        }
        let mut parts = 0u32;
        let part_bytes = usize::try_from(self.part_bytes()).unwrap_or(usize::MAX);
        for content in joined.chunks(part_bytes) {
            let payload = encode_part(id, parts, content);
            self.stage_fitting(Contents::Image, own(KIND_PART, &payload))?;
            parts = parts.saturating_add(1);
        }
        let hash = hash_of(&joined);
        let end = ImageEnd { id, covers, parts, kept, snapshot_bytes: snapshot.len() as u64, hash }.encode();
        self.stage_fitting(Contents::Image, own(KIND_END, &end))?;
        self.settle(0)
    }

    /// Stages a group of one record, in the next segment if this one is full.
    fn stage_fitting(&mut self, contents: Contents, record: RawRecord<'_>) -> Result<(), CommitError> {
        let index = u64::from(CARRIED_BYTES.max(IMAGE_BYTES));
        if encoded_bytes([record.payload.len() as u64]).saturating_add(index) > self.tail.free() {
            self.rotate(0)?;
        }
        self.stage(contents, std::iter::once(record))
    }

    /// The snapshot is durable: readers and the account forget the sources.
    fn release(
        &mut self,
        covers: u64,
        sources: &[Candidate],
        records_carried: u64,
        bytes: u64,
    ) -> CompactReport {
        self.covers = covers;
        self.image = self.tail.number;
        let mut map = self.map.write();
        for source in sources {
            map.remove(source.number);
        }
        let segments = map.segments.len() as u64;
        drop(map);
        self.space.end_housekeeping(self.tail.free(), sources.iter().map(|source| source.file).collect());
        CompactReport {
            segments,
            segments_freed: sources.len() as u64,
            records_carried,
            snapshot_bytes: bytes,
            must_go_left: 0,
        }
    }
}

/// One of the journal's own records.
fn own(kind: u16, payload: &[u8]) -> RawRecord<'_> {
    RawRecord { kind, payload, ..RawRecord::default() }
}

/// Sequence, offset and span of every record in a segment, first written there or carried there.
fn records_of(segment: &SegmentMap) -> impl Iterator<Item = (u64, u32, u32)> {
    segment.own().chain(segment.carried.iter().copied())
}
