//! The journal itself: opening, committing, closing. Compaction is in `compact`.

use std::sync::Arc;

use tracing::info;

use crate::disk::Disk;
use crate::error::{CommitError, OpenError};
use crate::group::{Contents, RawRecord, encoded_bytes};
use crate::image::{KIND_CLOSED, KIND_RESERVED};
use crate::index::own_bytes;
use crate::limits::Limits;
use crate::map::{Reader, SegmentMap, SharedMap};
use crate::recover::{self, Depth, Recovered};
use crate::sealed::Sealed;
use crate::segment::SegmentHeader;
use crate::space::Space;
use crate::tail::{Tail, mark};
use crate::{Anchor, Class, Committed, Fold, Group, NewRecord, OpenReport};

/// An open journal. It alone writes; it reads through [`Reader`].
///
/// Every method that writes returns only when the bytes are durable. After [`CommitError::Poisoned`] nothing
/// is ever accepted again: drop it, stop the process, and open anew.
#[derive(Debug)]
pub struct Journal<D: Disk> {
    pub(crate) disk: D,
    pub(crate) limits: Limits,
    pub(crate) space: Arc<Space<D>>,
    pub(crate) map: Arc<SharedMap>,
    pub(crate) tail: Tail,
    /// The segment that ends the newest snapshot; 0 for none.
    pub(crate) image: u64,
    /// What the newest snapshot covers.
    pub(crate) covers: u64,
    pub(crate) next_sequence: u64,
    pub(crate) next_number: u64,
    /// Sealed segments of which only the index was read, until somebody reads them.
    pub(crate) unverified: Vec<Sealed>,
    _lock: D::Lock,
}

impl<D: Disk> Journal<D> {
    /// Opens the journal in `disk`, or begins one if there is none, and folds it into `fold`.
    ///
    /// `anchor` is the highest position that anybody saw as durable. What the last use of the journal left
    /// behind its last sealed segment is written again to a fresh segment and synced before this returns, so
    /// that nothing rests on a page cache that outlived a failed fsync.
    ///
    /// # Errors
    /// [`OpenError`]; nothing was published then.
    pub fn open(
        disk: D,
        limits: Limits,
        anchor: Option<Anchor>,
        fold: &mut impl Fold,
    ) -> Result<(Self, OpenReport), OpenError> {
        let (journal, report) = Self::open_untended(disk, limits, anchor, fold, Depth::Whole)?;
        journal.space.tend().map_err(preparing)?;
        Ok((journal, report))
    }

    /// The same, but leaves to the threads of a [`crate::Committer`] what can be done while the owner goes on; they begin at
    /// once, and a failure poisons the journal. One overwrites what is not live and makes the next segments ready. If the
    /// last use was ended before that was done, this waits for all of it, so that files do not pile up. The other verifies
    /// the sealed segments, if of those only the indexes are read here, and each record that has no brief.
    ///
    /// # Errors
    /// [`OpenError`]; nothing was published then.
    pub fn open_untended(
        disk: D,
        limits: Limits,
        anchor: Option<Anchor>,
        fold: &mut impl Fold,
        depth: Depth,
    ) -> Result<(Self, OpenReport), OpenError> {
        limits.check()?;
        let lock = disk.lock().map_err(|source| OpenError::Io { doing: "lock the journal", source })?;
        let lock = lock.ok_or(OpenError::Locked)?;
        let Recovered { map, tail, stock, image, covers, next_sequence, report, unverified } =
            recover::recover(&disk, &limits, anchor, fold, depth)?;
        let space = Arc::new(Space::new(disk.clone(), limits.clone(), stock, tail.free()));
        let OpenReport { segments, replayed, clean_close, rewritten_bytes, next_sequence: next, .. } = report;
        info!(segments, replayed, clean_close, rewritten_bytes, next_sequence = next, "journal open");
        let next_number = tail.number.saturating_add(1);
        let map = Arc::new(SharedMap::new(map));
        if report.overwritten_files > 1 {
            space.tend().map_err(preparing)?;
        }
        let journal = Self {
            disk,
            limits,
            space,
            map,
            tail,
            image,
            covers,
            next_sequence,
            next_number,
            unverified,
            _lock: lock,
        };
        Ok((journal, report))
    }

    /// The sequence that the next record will get; one more than the last durable one.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Makes one group durable: one write, one fdatasync (one more of each where a segment is full).
    ///
    /// # Errors
    /// [`CommitError`]; except after `Poisoned` the journal is as it was.
    pub fn commit(&mut self, group: &[NewRecord], class: Class) -> Result<Committed, CommitError> {
        self.admit(group, class)?;
        let first_sequence = self.next_sequence;
        self.write_admitted([group].into_iter())?;
        Ok(Committed::new(first_sequence, group.len()))
    }

    /// Makes several groups durable with one write and one fdatasync. Each is all or nothing by itself, and
    /// each is refused by itself: an answer per group, in order.
    ///
    /// Between the groups of one call a power cut may keep any number from the front.
    pub fn commit_many(&mut self, groups: &[Group]) -> Vec<Result<Committed, CommitError>> {
        let mut next = self.next_sequence;
        let mut answers: Vec<_> = groups
            .iter()
            .map(|group| {
                self.admit(&group.records, group.class)?;
                let committed = Committed::new(next, group.records.len());
                next = next.saturating_add(group.records.len() as u64);
                Ok(committed)
            })
            .collect();
        let admitted: Vec<&[NewRecord]> = groups
            .iter()
            .zip(&answers)
            .filter(|(_, answer)| answer.is_ok())
            .map(|(group, _)| &*group.records)
            .collect();
        if let Err(poisoned) = self.write_admitted(admitted.into_iter()) {
            answers
                .iter_mut()
                .filter(|answer| answer.is_ok())
                .for_each(|answer| *answer = Err(poisoned.clone()));
        }
        answers
    }

    /// A reader of everything durable, also while this journal goes on.
    #[must_use]
    pub fn reader(&self) -> Reader<D> {
        Reader::new(self.disk.clone(), Arc::clone(&self.map))
    }

    /// Writes the mark of a clean close and returns the anchor that the next [`Journal::open`] may be given.
    ///
    /// # Errors
    /// [`CommitError::Poisoned`].
    pub fn close(mut self) -> Result<Anchor, CommitError> {
        self.finish()
    }

    pub(crate) fn finish(&mut self) -> Result<Anchor, CommitError> {
        self.check_alive()?;
        self.space.tend()?;
        let staged = self.tail.stage(Contents::Closed, self.next_sequence, mark(KIND_CLOSED));
        staged.map_err(|field| self.space.poison("encode a group", &field))?;
        self.settle(0)?;
        Ok(Anchor { sequence: self.next_sequence.saturating_sub(1) })
    }

    fn admit(&self, group: &[NewRecord], class: Class) -> Result<(), CommitError> {
        self.check_alive()?;
        let bytes = check_group(&self.limits, group)?;
        self.space.admit(bytes, class)
    }

    pub(crate) fn check_alive(&self) -> Result<(), CommitError> {
        if self.space.is_poisoned() { Err(CommitError::Poisoned) } else { Ok(()) }
    }

    /// Writes groups that have their room. They take the next sequences, in order.
    ///
    /// # Errors
    /// [`CommitError::Poisoned`], and then any part of them may be durable.
    pub(crate) fn write_admitted<'a>(
        &mut self,
        groups: impl Iterator<Item = &'a [NewRecord]>,
    ) -> Result<(), CommitError> {
        self.check_alive()?;
        let mut unsettled = 0u64;
        for group in groups {
            let bytes = footprint(group);
            if bytes > self.tail.free() {
                self.rotate(std::mem::take(&mut unsettled))?;
            }
            let first_sequence = self.next_sequence;
            let records = (first_sequence..).zip(group).map(|(sequence, record)| RawRecord {
                sequence,
                kind: record.kind,
                payload: &record.payload,
                brief: record.kept_brief(),
            });
            self.stage(Contents::Owner, records)?;
            self.next_sequence = first_sequence.saturating_add(group.len() as u64);
            unsettled = unsettled.saturating_add(bytes);
        }
        self.settle(unsettled)
    }

    /// Stages one group, and hands the buffer to the disk when it grew long.
    pub(crate) fn stage<'a>(
        &mut self,
        contents: Contents,
        records: impl Iterator<Item = RawRecord<'a>> + Clone,
    ) -> Result<(), CommitError> {
        let staged = self.tail.stage(contents, self.next_sequence, records);
        staged.map_err(|field| self.space.poison("encode a group", &field))?;
        if self.tail.staged().len() >= (self.limits.group_bytes_max as usize).saturating_mul(2) {
            self.tail.flush(&self.disk).map_err(|cause| self.space.poison("write to a segment", &cause))?;
        }
        Ok(())
    }

    /// Makes everything staged durable, publishes it, and settles the account.
    pub(crate) fn settle(&mut self, admitted_bytes: u64) -> Result<(), CommitError> {
        let synced = self.tail.sync(&self.disk);
        let notes = synced.map_err(|cause| self.space.poison("write and sync a segment", &cause))?;
        self.map.write().extend(self.tail.number, notes, self.tail.end, self.tail.hash);
        self.space.written(admitted_bytes, self.tail.free());
        Ok(())
    }

    /// Ends the segment with its index and goes on in a fresh one. Everything staged, of which so many bytes were admitted,
    /// is durable before that is begun: the new header vouches for it.
    pub(crate) fn rotate(&mut self, admitted_bytes: u64) -> Result<(), CommitError> {
        let index_at = self.tail.stage_index(self.next_sequence);
        let index_at = index_at.map_err(|field| self.space.poison("encode an index", &field))?;
        self.settle(admitted_bytes)?;
        self.map.write().seal(self.tail.number, index_at);
        let file = self.space.take_spare();
        let file = file.ok_or_else(|| self.space.poison("rotate", &"the promised segment is not there"))?;
        let header = SegmentHeader {
            number: self.next_number,
            previous: self.tail.number,
            previous_end: self.tail.end,
            previous_index: index_at,
            previous_hash: self.tail.hash,
            replaces: 0,
            image: self.image,
            first_sequence: self.next_sequence,
        };
        let begun = Tail::begin(&self.disk, file, self.limits.segment_bytes, &header);
        self.tail = begun.map_err(|cause| self.space.poison("begin a segment", &cause))?;
        self.next_number = self.next_number.saturating_add(1);
        let segment = SegmentMap::new(file, header.first_sequence, self.tail.end, self.tail.hash);
        self.map.write().insert(header.number, segment);
        Ok(())
    }
}

fn preparing(cause: CommitError) -> OpenError {
    OpenError::Io { doing: "prepare segments", source: std::io::Error::other(cause) }
}

impl<D: Disk> Drop for Journal<D> {
    fn drop(&mut self) {
        self.map.write().closed = true;
    }
}

/// Bytes of the encoded group and of what it takes in the index.
fn footprint(group: &[NewRecord]) -> u64 {
    let index = group.iter().map(|record| own_bytes(record.kept_brief())).fold(0, u64::saturating_add);
    encoded_bytes(group.iter().map(|record| record.payload.len() as u64)).saturating_add(index)
}

/// Bytes of the encoded group and its part of the index, if the limits allow it.
///
/// # Errors
/// `Empty`, `ReservedKind`, `RecordTooLarge`, `GroupTooLarge`.
pub(crate) fn check_group(limits: &Limits, group: &[NewRecord]) -> Result<u64, CommitError> {
    if group.is_empty() {
        return Err(CommitError::Empty);
    }
    let max = u64::from(limits.record_bytes_max);
    for record in group {
        let bytes = record.payload.len() as u64;
        if record.kind >= KIND_RESERVED {
            return Err(CommitError::ReservedKind { kind: record.kind });
        }
        if bytes > max {
            return Err(CommitError::RecordTooLarge { bytes, max });
        }
    }
    let bytes = footprint(group);
    let (records, records_max) = (group.len() as u64, u64::from(limits.group_records_max));
    let bytes_max = u64::from(limits.group_bytes_max);
    if bytes > bytes_max || records > records_max {
        return Err(CommitError::GroupTooLarge { records, bytes, records_max, bytes_max });
    }
    Ok(bytes)
}
