//! The durable state: one journal, and the fold over it.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use lintas_journal::{
    Class, CommitError, CommitHandle, Committer, Fold, FoldError, Journal, Limits, NewRecord, OpenError,
    ReadError, Reader,
};
use thiserror::Error;
use tokio::sync::Notify;

use super::folder::Folder;
use crate::core::{
    records::{RECORD_BYTES_MAX, Record, RecordError},
    state::State,
};

#[cfg(not(test))]
use lintas_journal::FileDisk as NodeDisk;

#[cfg(test)]
use crate::testing::FillableDisk as NodeDisk;

/// Most bytes of records that are kept together.
const GROUP_BYTES_MAX: usize = 2 * RECORD_BYTES_MAX;
/// Shortest journal segment, bytes; a smaller setting is raised to it, so that the largest packet fits.
const SEGMENT_BYTES_MIN: u32 = 12 << 20;

/// The store failed. After [`is_fatal`](Self::is_fatal) the process must stop and open anew.
#[derive(Debug, Error)]
pub(crate) enum StoreError {
    /// The journal does not open.
    #[error("the journal does not open: {}", with_causes(.0))]
    Open(#[from] OpenError),
    /// The journal does not take the records.
    #[error("the journal does not keep this: {0}")]
    Commit(#[from] CommitError),
    /// No room for some of the records.
    #[error(
        "the disk is full, and nothing of this was kept; make room and try again (what was kept is safe)"
    )]
    NoRoom,
    /// A record is not there any more.
    #[error("a kept record cannot be read: {0}")]
    Read(#[from] ReadError),
    /// A record that this version cannot read.
    #[error("a kept record cannot be understood: {0}")]
    Record(#[from] RecordError),
    /// No threads.
    #[error("the system gives no threads or files: {0}")]
    Io(#[from] std::io::Error),
}

impl StoreError {
    /// Whether nothing can be kept any more.
    pub(crate) fn is_fatal(&self) -> bool {
        match self {
            Self::Commit(error) => matches!(error, CommitError::Poisoned | CommitError::Closed),
            Self::Record(_) => true,
            Self::Open(_) | Self::NoRoom | Self::Read(_) | Self::Io(_) => false,
        }
    }
}

/// The journal and what it says.
pub(crate) struct Store {
    committer: Committer<NodeDisk>,
    handle: CommitHandle<NodeDisk>,
    reader: Reader<NodeDisk>,
    /// Held from a commit until its records are folded, so that state and journal have one order.
    order: Mutex<()>,
    /// Owned by [`keep`](Self::keep); everybody else only looks.
    state: Mutex<State>,
    /// Rung when nothing can be kept any more.
    failed: Notify,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("handle", &self.handle).finish_non_exhaustive()
    }
}

struct Folding<'a>(&'a mut State);

impl Fold for Folding<'_> {
    fn restore(&mut self, _: &[u8]) -> Result<(), FoldError> {
        Err(FoldError::new("this version makes no snapshots; a newer one wrote it"))
    }

    fn replay(&mut self, record: &lintas_journal::Record) -> Result<(), FoldError> {
        // The state keeps parts of it, and they are not to keep a whole segment in memory.
        let payload = Bytes::copy_from_slice(&record.payload);
        let decoded = Record::decode(record.kind, &payload).map_err(FoldError::new)?;
        self.0.apply(record.sequence, &decoded).map_err(FoldError::new)
    }
}

impl Store {
    /// Opens the journal and folds it.
    pub(crate) fn open(folder: &Folder, segment_mib: u32) -> Result<Self, StoreError> {
        let group_bytes_max = u32::try_from(GROUP_BYTES_MAX).unwrap_or(u32::MAX);
        let limits = Limits {
            segment_bytes: segment_mib.saturating_mul(1 << 20).max(SEGMENT_BYTES_MIN),
            record_bytes_max: u32::try_from(RECORD_BYTES_MAX).unwrap_or(u32::MAX),
            group_bytes_max,
            ..Limits::default()
        };
        let disk = NodeDisk::open(folder.path("journal"))?;
        let mut state = State::default();
        let (journal, _) = Journal::open(disk, limits, None, &mut Folding(&mut state))?;
        let committer = Committer::start(journal)?;
        let handle = committer.handle();
        let reader = handle.reader();
        Ok(Self {
            committer,
            handle,
            reader,
            order: Mutex::default(),
            state: Mutex::new(state),
            failed: Notify::new(),
        })
    }

    /// Makes records durable, then folds them in: all, or it fails.
    pub(crate) fn keep(&self, records: Vec<Record>) -> Result<(), StoreError> {
        let kept = self.keep_what_fits(records)?;
        if kept.into_iter().all(|kept| kept) { Ok(()) } else { Err(StoreError::NoRoom) }
    }

    /// As [`keep`](Self::keep), but says of each record whether it found room. Records that let queues drain go
    /// first and may use the reserve of a full disk.
    pub(crate) fn keep_what_fits(&self, records: Vec<Record>) -> Result<Vec<bool>, StoreError> {
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = vec![false; records.len()];
        let (essential, ordinary): (Vec<_>, Vec<_>) =
            records.into_iter().enumerate().partition(|(_, record)| record.is_essential());
        for (records, class) in [(essential, Class::Essential), (ordinary, Class::Ordinary)] {
            let done = if self.commit(&records, class)? {
                records
            } else {
                // Together they find no room; one or the other may.
                let mut found = Vec::new();
                for record in records {
                    if self.commit(std::slice::from_ref(&record), class)? {
                        found.push(record);
                    }
                }
                found
            };
            for (at, _) in done {
                if let Some(kept) = kept.get_mut(at) {
                    *kept = true;
                }
            }
        }
        Ok(kept)
    }

    /// Makes records durable in one group, then folds them in: all or, if the disk has no room, none.
    pub(crate) fn keep_together(&self, records: Vec<Record>) -> Result<bool, StoreError> {
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let records: Vec<_> = records.into_iter().enumerate().collect();
        self.commit(&records, Class::Ordinary)
    }

    /// Waits until nothing can be kept any more: the process must stop.
    pub(crate) async fn failed(&self) {
        self.failed.notified().await;
    }

    /// Commits one group; false when the disk has no room for it.
    fn commit(&self, records: &[(usize, Record)], class: Class) -> Result<bool, StoreError> {
        if records.is_empty() {
            return Ok(true);
        }
        let new = |(_, record): &(usize, Record)| {
            let (kind, payload) = record.encode();
            NewRecord { kind, payload, brief: None }
        };
        let failed = |error: StoreError| {
            if error.is_fatal() {
                self.failed.notify_one();
            }
            error
        };
        let committed = match self.handle.commit_wait(records.iter().map(new).collect(), class) {
            Err(CommitError::DiskFull) => return Ok(false),
            other => other.map_err(|error| failed(error.into()))?,
        };
        let mut state = self.state();
        for (sequence, (_, record)) in (committed.first_sequence..).zip(records) {
            state.apply(sequence, record).map_err(|error| failed(error.into()))?;
        }
        Ok(true)
    }

    /// The state as it is now. Not to be held while records are kept.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets packets wait again whose receipts stand in logs that have ended; how many.
    pub(crate) fn submit_again(&self, ended: impl Fn(&str) -> bool, now_ms: u64) -> usize {
        // Whatever is being kept is folded first.
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        self.state().submit_again(ended, now_ms)
    }

    /// Reads a record again.
    pub(crate) fn read(&self, sequence: u64) -> Result<Record, StoreError> {
        let record = self.reader.read(sequence)?;
        Ok(Record::decode(record.kind, &record.payload)?)
    }

    /// Ends cleanly: what is queued is durable, and nothing more is taken.
    pub(crate) fn close(&self) -> Result<(), StoreError> {
        self.committer.handle().close()?;
        Ok(())
    }
}

/// An error with everything behind it.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
