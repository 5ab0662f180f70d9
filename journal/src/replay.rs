//! Handing the records of the live segments to the owner: verified to the last byte, or by the indexes of the sealed ones.
//!
//! Reading and hashing is what verifying a long journal costs, and segments can be verified one without the
//! other. So a few threads do that ahead, and this one folds what they hand over, in order.

use std::num::NonZero;
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, PoisonError};

use bytes::{Bytes, BytesMut};

use crate::disk::Disk;
use crate::error::{Evidence, Field, OpenError};
use crate::group::Contents;
use crate::limits::VERIFY_THREADS_MAX;
use crate::map::{Map, SegmentMap};
use crate::scan::{Fault, Walk};
use crate::sealed::Sealed;
use crate::survey::{Found, Last, read_into};
use crate::{Fold, OpenReport, Record};

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

/// Verifies every sealed segment to its end, maps its records and hands those beyond `covers` to the owner.
///
/// # Errors
/// `Io`, `Damaged`, `Fold`: the first one in the order of the segments.
pub(crate) fn replay_whole<D: Disk>(
    disk: &D,
    sealed: &[Sealed],
    last: &Last,
    covers: u64,
    fold: &mut impl Fold,
    report: &mut OpenReport,
) -> Result<Map, OpenError> {
    let (mut map, mut expected, buffers) = (Map::default(), 1, Buffers::default());
    in_order(
        sealed,
        |segment| verify_sealed(disk, segment, &buffers, covers),
        |segment, verified| {
            check_continues(&segment.found, expected, covers, segment.evidence)?;
            expected = verified.next_sequence;
            for record in &verified.records {
                replay(record, fold)?;
            }
            report.count(verified.map.offsets.len(), verified.records.len());
            map.insert(segment.found.header.number, verified.map);
            buffers.put(verified.bytes);
            Ok(())
        },
    )?;
    check_continues(&last.found, expected, covers, Evidence::Acknowledged)?;
    Ok(map)
}

/// Maps every sealed segment by its index, and hands what the index says of records beyond `covers` to the owner. Of
/// the segments nothing else is read, but for records without a brief.
///
/// # Errors
/// As [`replay_whole`].
pub(crate) fn replay_indexed<D: Disk>(
    disk: &D,
    sealed: &[Sealed],
    last: &Last,
    covers: u64,
    fold: &mut impl Fold,
    report: &mut OpenReport,
) -> Result<Map, OpenError> {
    let (mut map, mut expected) = (Map::default(), 1);
    in_order(
        sealed,
        |segment| segment.read_index(disk),
        |segment, bytes| {
            let (index, next_sequence) = segment.index(&bytes)?;
            check_continues(&segment.found, expected, covers, segment.evidence)?;
            expected = next_sequence;
            let mut replayed = 0;
            for (sequence, own) in (segment.found.header.first_sequence..).zip(&index.own) {
                if sequence <= covers {
                    continue;
                }
                replayed += 1;
                match own.brief {
                    Some(brief) => fold
                        .replay_brief(sequence, own.kind, brief)
                        .map_err(|source| OpenError::Fold { sequence: Some(sequence), source })?,
                    None => replay(&segment.record(disk, own.offset, sequence)?, fold)?,
                }
            }
            report.count(index.own.len(), replayed);
            map.insert(segment.found.header.number, segment.map(&index));
            Ok(())
        },
    )?;
    check_continues(&last.found, expected, covers, Evidence::Acknowledged)?;
    Ok(map)
}

/// Hands the records of the last segment that lie beyond `covers` to the owner, and gives their briefs, one for each
/// record first written there.
///
/// # Errors
/// `Fold`.
pub(crate) fn replay_last(
    last: &Last,
    covers: u64,
    fold: &mut impl Fold,
    report: &mut OpenReport,
) -> Result<Vec<Option<Bytes>>, OpenError> {
    let bytes = last.valid();
    let mut walk = Walk::again(&last.found.header, &bytes);
    let (mut briefs, mut replayed) = (Vec::new(), 0);
    while let Some(group) = walk.step().map_err(|fault| last.found.damage(fault, Evidence::Acknowledged))? {
        if group.header.contents != Contents::Owner {
            continue;
        }
        for (_, raw) in &group.records {
            if raw.sequence <= covers {
                briefs.push(None);
                continue;
            }
            let payload = bytes.slice_ref(raw.payload);
            let record = Record { sequence: raw.sequence, kind: raw.kind, payload };
            replay(&record, fold)?;
            briefs.push(fold.brief(&record).filter(|brief| brief.len() <= record.payload.len()));
            replayed += 1;
        }
    }
    report.count(briefs.len(), replayed);
    Ok(briefs)
}

fn replay(record: &Record, fold: &mut impl Fold) -> Result<(), OpenError> {
    let sequence = Some(record.sequence);
    fold.replay(record).map_err(|source| OpenError::Fold { sequence, source })
}

impl OpenReport {
    fn count(&mut self, records: usize, replayed: usize) {
        self.records = self.records.saturating_add(records as u64);
        self.replayed = self.replayed.saturating_add(replayed as u64);
    }
}

/// Reads the segments on a few threads with `read` and gives what it says to `take`, in order. Each thread is at most one
/// segment ahead of what was taken from it.
fn in_order<T: Send>(
    sealed: &[Sealed],
    read: impl Fn(&Sealed) -> Result<T, OpenError> + Sync,
    mut take: impl FnMut(&Sealed, T) -> Result<(), OpenError>,
) -> Result<(), OpenError> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).clamp(1, VERIFY_THREADS_MAX);
    let threads = threads.min(sealed.len()).max(1);
    let read = &read;
    std::thread::scope(|scope| {
        let mut lanes = Vec::new();
        for lane in 0..threads {
            let (send, receive) = sync_channel(0);
            let work = move || {
                for segment in sealed.iter().skip(lane).step_by(threads) {
                    // Nobody listens any more once one has failed.
                    if send.send(read(segment)).is_err() {
                        return;
                    }
                }
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
            take(segment, lane.recv().map_err(gone)??)?;
        }
        Ok(())
    })
}

fn verify_sealed<D: Disk>(
    disk: &D,
    sealed: &Sealed,
    buffers: &Buffers,
    covers: u64,
) -> Result<Verified, OpenError> {
    let Sealed { found, end, evidence, .. } = sealed;
    let mut bytes = buffers.get((*end).min(found.length) as usize);
    read_into(disk, found, &mut bytes)?;
    let bytes = bytes.freeze();
    let (mut walk, mut map, mut records) = (Walk::new(&found.header, &bytes), found.empty_map(), Vec::new());
    while let Some(group) = walk.step().map_err(|fault| found.damage(fault, *evidence))? {
        map.add(&group);
        if group.header.contents == Contents::Owner {
            let beyond = group.records.iter().filter(|(_, record)| record.sequence > covers);
            records.extend(beyond.map(|(_, record)| Record {
                sequence: record.sequence,
                kind: record.kind,
                payload: bytes.slice_ref(record.payload),
            }));
        }
        sealed.check_index(&map, &group)?;
    }
    let next_sequence = walk.next_sequence;
    sealed.check_end(&map, next_sequence)?;
    Ok(Verified { bytes, map, records, next_sequence })
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
                previous_index: 0,
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
