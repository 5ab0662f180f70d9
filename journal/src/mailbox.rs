//! The bounded queue between the owners and the committer. It gives out the sequences.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::commit::{Done, DoneClose, DoneCompact};
use crate::disk::Disk;
use crate::error::CommitError;
use crate::limits::Limits;
use crate::space::{Room, Space};
use crate::{Class, Compaction, NewRecord};

/// A group that has its room and its sequences.
pub(crate) struct Admitted {
    pub(crate) records: Vec<NewRecord>,
    pub(crate) first_sequence: u64,
    pub(crate) bytes: u64,
    pub(crate) done: Done,
}

/// What the committer takes out at once.
pub(crate) enum Work {
    Groups(Vec<Admitted>),
    Compact(Compaction, DoneCompact),
    Close(DoneClose),
}

#[derive(Debug)]
pub(crate) struct Mailbox {
    state: Mutex<State>,
    /// There is something to do, or nothing will come any more.
    filled: Condvar,
    /// There is room again, or nothing is accepted any more.
    drained: Condvar,
}

#[derive(Debug)]
struct State {
    queue: VecDeque<Item>,
    bytes: u64,
    next_sequence: u64,
    closed: bool,
}

enum Item {
    Group(Admitted),
    Compact(Compaction, DoneCompact),
    Close(DoneClose),
}

impl std::fmt::Debug for Item {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Group(group) => write!(out, "Group({})", group.first_sequence),
            Self::Compact(compaction, _) => write!(out, "{compaction:?}"),
            Self::Close(_) => write!(out, "Close"),
        }
    }
}

impl Mailbox {
    pub(crate) fn new(next_sequence: u64) -> Self {
        let state = State { queue: VecDeque::new(), bytes: 0, next_sequence, closed: false };
        Self { state: Mutex::new(state), filled: Condvar::new(), drained: Condvar::new() }
    }

    /// Waits for a place, reserves the room, gives out the sequences and queues the group, all in one step as
    /// seen by other callers: order of sequences is order of calls is order on disk.
    ///
    /// # Errors
    /// `DiskFull` (then no sequence was given out), `Poisoned`, `Closed`. `done` is not called then.
    pub(crate) fn put<D: Disk>(
        &self,
        limits: &Limits,
        space: &Space<D>,
        class: Class,
        mut group: Admitted,
    ) -> Result<u64, CommitError> {
        let mut state = self.lock();
        loop {
            if space.is_poisoned() {
                return Err(CommitError::Poisoned);
            }
            if state.closed {
                return Err(CommitError::Closed);
            }
            if state.queue.len() >= limits.mailbox_groups_max || state.bytes >= limits.mailbox_bytes_max {
                state = self.drained.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            if space.try_admit(group.bytes, class) == Room::Granted {
                break;
            }
            drop(state);
            space.make_room()?;
            state = self.lock();
        }
        group.first_sequence = state.next_sequence;
        let first_sequence = group.first_sequence;
        state.next_sequence = first_sequence.saturating_add(group.records.len() as u64);
        state.bytes = state.bytes.saturating_add(group.bytes);
        state.queue.push_back(Item::Group(group));
        self.filled.notify_one();
        Ok(first_sequence)
    }

    /// Queues a compaction behind what is there.
    ///
    /// # Errors
    /// `Closed`; `done` is not called then.
    pub(crate) fn put_compaction(
        &self,
        limits: &Limits,
        request: Compaction,
        done: DoneCompact,
    ) -> Result<(), CommitError> {
        let mut state = self.lock();
        while !state.closed && state.queue.len() >= limits.mailbox_groups_max {
            state = self.drained.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return Err(CommitError::Closed);
        }
        state.queue.push_back(Item::Compact(request, done));
        self.filled.notify_one();
        Ok(())
    }

    /// Accepts nothing more; queues the close behind what is there.
    ///
    /// # Errors
    /// `Closed`: somebody else did; `done` is not called then.
    pub(crate) fn put_close(&self, done: DoneClose) -> Result<(), CommitError> {
        let mut state = self.lock();
        if std::mem::replace(&mut state.closed, true) {
            return Err(CommitError::Closed);
        }
        state.queue.push_back(Item::Close(done));
        self.wake_all();
        Ok(())
    }

    /// Accepts nothing more. What is queued is still worked on.
    pub(crate) fn shut(&self) {
        self.lock().closed = true;
        self.wake_all();
    }

    /// Accepts nothing more and gives back what is queued.
    pub(crate) fn abandon(&self) -> Vec<Work> {
        let mut state = self.lock();
        state.closed = true;
        state.bytes = 0;
        let items = std::mem::take(&mut state.queue);
        drop(state);
        self.wake_all();
        items.into_iter().map(Item::into_work).collect()
    }

    /// Waits for something to do; `None` once the mailbox is shut and empty. Groups come out together, up to
    /// the limits for one write; anything else comes alone and in its turn.
    pub(crate) fn take(&self, limits: &Limits) -> Option<Work> {
        let mut state = self.lock();
        while state.queue.is_empty() && !state.closed {
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let work = state.take_groups(limits).or_else(|| state.queue.pop_front().map(Item::into_work));
        drop(state);
        self.drained.notify_all();
        work
    }

    fn wake_all(&self) {
        self.filled.notify_all();
        self.drained.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take_groups(&mut self, limits: &Limits) -> Option<Work> {
        let (mut groups, mut records, mut bytes) = (Vec::new(), 0usize, 0u64);
        while let Some(Item::Group(next)) = self.queue.front() {
            let full =
                records >= limits.group_records_max as usize || bytes >= u64::from(limits.group_bytes_max);
            if full {
                break;
            }
            records = records.saturating_add(next.records.len());
            bytes = bytes.saturating_add(next.bytes);
            if let Some(Item::Group(group)) = self.queue.pop_front() {
                groups.push(group);
            }
        }
        self.bytes = self.bytes.saturating_sub(bytes);
        (!groups.is_empty()).then_some(Work::Groups(groups))
    }
}

impl Item {
    fn into_work(self) -> Work {
        match self {
            Self::Group(group) => Work::Groups(vec![group]),
            Self::Compact(request, done) => Work::Compact(request, done),
            Self::Close(done) => Work::Close(done),
        }
    }
}
