//! Verifying the live segments and handing their records to the owner.
//!
//! Reading and hashing is what opening a long journal costs, and segments can be verified one without the
//! other. So a few threads do that ahead, and this one folds what they hand over, in order.

use std::num::NonZero;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use bytes::{Bytes, BytesMut};

use crate::disk::Disk;
use crate::error::{Evidence, Field, OpenError};
use crate::group::Contents;
use crate::layout::Hash;
use crate::limits::VERIFY_THREADS_MAX;
use crate::map::{Map, SegmentMap};
use crate::scan::{Fault, Walk};
use crate::segment::SEGMENT_HEADER_BYTES;
use crate::survey::{Found, Last, read_into};
use crate::{Fold, OpenReport, Record};

/// A sealed segment of the live journal, and what vouches for its end.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) found: Found,
    pub(crate) end: u32,
    pub(crate) hash: Hash,
    pub(crate) evidence: Evidence,
}

/// Memory of segments that were folded, for those that come: to get as much afresh for each takes as long as hashing it.
#[derive(Debug, Default)]
struct Buffers(Mutex<Vec<BytesMut>>);

impl Buffers {
    /// `length` bytes that are to be overwritten.
    fn get(&self, length: usize) -> BytesMut {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let Some(mut buffer) = kept else { return BytesMut::zeroed(length) };
        buffer.resize(length, 0);
        buffer
    }

    /// Takes memory back, unless the owner keeps a part of it.
    fn put(&self, bytes: Bytes) {
        if let Ok(buffer) = bytes.try_into_mut() {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        }
    }
}

/// A segment whose every byte was checked.
#[derive(Debug)]
struct Verified {
    bytes: Bytes,
    map: SegmentMap,
    /// Those beyond the snapshot.
    records: Vec<Record>,
    next_sequence: u64,
}

/// Verifies every live segment to its end, maps its records and hands those beyond `covers` to the owner. The map of
/// the last segment is by itself: recovery writes that one anew.
///
/// # Errors
/// `Io`, `Damaged`, `Fold`: the first one in the order of the segments.
pub(crate) fn replay<D: Disk>(
    disk: &D,
    sealed: &[Sealed],
    last: &Last,
    covers: u64,
    fold: &mut impl Fold,
    report: &mut OpenReport,
) -> Result<(Map, SegmentMap), OpenError> {
    let mut map = Map::default();
    let mut expected = 1;
    in_order(disk, sealed, covers, |segment, verified| {
        check_continues(&segment.found, expected, covers, segment.evidence)?;
        expected = verified.next_sequence;
        fold_records(&verified, fold, report)?;
        let Verified { bytes, map: of_segment, .. } = verified;
        map.insert(segment.found.header.number, of_segment);
        Ok(bytes)
    })?;
    check_continues(&last.found, expected, covers, Evidence::Acknowledged)?;
    let bytes = last.bytes.slice(..last.bytes.len().min(last.scan.end as usize));
    let verified = verify(&last.found, bytes, Evidence::Acknowledged, covers)?;
    fold_records(&verified, fold, report)?;
    Ok((map, verified.map))
}

/// Verifies the segments on a few threads and gives them to `take` in order, which gives back their bytes. Each thread is
/// at most one segment ahead of what was taken from it.
fn in_order<D: Disk>(
    disk: &D,
    sealed: &[Sealed],
    covers: u64,
    mut take: impl FnMut(&Sealed, Verified) -> Result<Bytes, OpenError>,
) -> Result<(), OpenError> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).clamp(1, VERIFY_THREADS_MAX);
    let threads = threads.min(sealed.len()).max(1);
    let buffers = Buffers::default();
    let buffers = &buffers;
    std::thread::scope(|scope| {
        let mut lanes = Vec::new();
        for lane in 0..threads {
            let (send, receive) = sync_channel(0);
            let work = move || {
                let segments = sealed.iter().skip(lane).step_by(threads);
                verify_lane(disk, segments, buffers, covers, &send);
            };
            let spawned =
                std::thread::Builder::new().name("journal-verify".to_owned()).spawn_scoped(scope, work);
            spawned.map_err(|source| OpenError::Io { doing: "start a thread", source })?;
            lanes.push(receive);
        }
        for (segment, lane) in sealed.iter().zip(lanes.iter().cycle()) {
            // A lane ends early only if its thread panicked, and then the scope panics as well.
            let gone = |_| OpenError::Io {
                doing: "verify a segment",
                source: std::io::Error::other("thread ended"),
            };
            buffers.put(take(segment, lane.recv().map_err(gone)??)?);
        }
        Ok(())
    })
}

/// One thread's share, until all is done or nobody listens any more.
fn verify_lane<'a, D: Disk>(
    disk: &D,
    segments: impl Iterator<Item = &'a Sealed>,
    buffers: &Buffers,
    covers: u64,
    send: &SyncSender<Result<Verified, OpenError>>,
) {
    for segment in segments {
        if send.send(verify_sealed(disk, segment, buffers, covers)).is_err() {
            return;
        }
    }
}

fn verify_sealed<D: Disk>(
    disk: &D,
    sealed: &Sealed,
    buffers: &Buffers,
    covers: u64,
) -> Result<Verified, OpenError> {
    let Sealed { found, end, hash, evidence } = sealed;
    let mut bytes = buffers.get((*end).min(found.length) as usize);
    read_into(disk, found, &mut bytes)?;
    let verified = verify(found, bytes.freeze(), *evidence, covers)?;
    let fault = |field| {
        let fault =
            Fault { offset: verified.map.end, field, sequence: verified.next_sequence, records: None };
        found.damage(fault, *evidence)
    };
    if verified.map.end != *end {
        return Err(fault(Field::SegmentEnd));
    }
    if verified.map.hash != *hash {
        return Err(fault(Field::SegmentEndHash));
    }
    Ok(verified)
}

/// The records share `bytes`.
fn verify(found: &Found, bytes: Bytes, evidence: Evidence, covers: u64) -> Result<Verified, OpenError> {
    let header = &found.header;
    let mut walk = Walk::new(header, &bytes);
    let mut map =
        SegmentMap::new(found.file, header.first_sequence, SEGMENT_HEADER_BYTES, header.previous_hash);
    let mut records = Vec::new();
    while let Some(group) = walk.step().map_err(|fault| found.damage(fault, evidence))? {
        map.add(&group);
        if group.header.contents == Contents::Owner {
            let beyond = group.records.iter().filter(|(_, record)| record.sequence > covers);
            records.extend(beyond.map(|(_, record)| Record {
                sequence: record.sequence,
                kind: record.kind,
                payload: bytes.slice_ref(record.payload),
            }));
        }
    }
    let next_sequence = walk.next_sequence;
    Ok(Verified { bytes, map, records, next_sequence })
}

fn fold_records(verified: &Verified, fold: &mut impl Fold, report: &mut OpenReport) -> Result<(), OpenError> {
    for record in &verified.records {
        let sequence = Some(record.sequence);
        fold.replay(record).map_err(|source| OpenError::Fold { sequence, source })?;
    }
    report.records = report.records.saturating_add(verified.map.offsets.len() as u64);
    report.replayed = report.replayed.saturating_add(verified.records.len() as u64);
    Ok(())
}

/// Records beyond the snapshot follow each other without a gap; below it, segments may be gone.
fn check_continues(found: &Found, expected: u64, covers: u64, evidence: Evidence) -> Result<(), OpenError> {
    let first = found.header.first_sequence;
    if first == expected || (first > expected && first <= covers.saturating_add(1)) {
        return Ok(());
    }
    let fault = Fault { offset: 0, field: Field::SegmentFirstSequence, sequence: expected, records: None };
    Err(found.damage(fault, evidence))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::SegmentHeader;

    #[test]
    fn a_gap_is_allowed_only_below_the_snapshot() {
        let continues = |first_sequence, expected, covers| {
            let header = SegmentHeader {
                number: 2,
                previous: 1,
                previous_end: 0,
                previous_hash: [0; 32],
                replaces: 0,
                image: 0,
                first_sequence,
            };
            let found = Found { file: 1, length: 0, header };
            check_continues(&found, expected, covers, Evidence::Acknowledged).is_ok()
        };
        assert!(continues(10, 10, 0));
        assert!(!continues(11, 10, 0) && !continues(9, 10, 0));
        assert!(continues(11, 10, 10), "all that is missing is covered");
        assert!(!continues(12, 10, 10), "record 11 is missing");
        assert!(!continues(9, 10, 50), "never backwards");
    }
}
