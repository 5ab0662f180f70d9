//! The committer without its threads: whoever owns the journal says when the next write is made, so that a simulator can
//! stop the machine between a group that has its sequence and a group that is durable. The mailbox, the account of room and
//! the journal are those of [`Committer`](crate::Committer).

use crate::disk::Disk;
use crate::error::CommitError;
use crate::journal::{Journal, check_group};
use crate::mailbox::{Admitted, Mailbox, Work};
use crate::map::Reader;
use crate::{Class, Committed, CompactReport, Compaction, NewRecord};

/// See the module.
#[derive(Debug)]
pub struct ByHand<D: Disk> {
    journal: Journal<D>,
    mailbox: Mailbox,
    /// Groups in the mailbox; it is not asked while there are none, because it would wait.
    waiting: usize,
}

impl<D: Disk> ByHand<D> {
    /// Takes over an open journal.
    #[must_use]
    pub fn new(journal: Journal<D>) -> Self {
        let mailbox = Mailbox::new(journal.next_sequence());
        Self { journal, mailbox, waiting: 0 }
    }

    /// Queues a group and returns the sequence of its first record, as [`CommitHandle::commit`](crate::CommitHandle::commit)
    /// does.
    ///
    /// # Errors
    /// As there. Where that would wait for room in the mailbox, this is [`CommitError::Closed`].
    pub fn commit(&mut self, records: Vec<NewRecord>, class: Class) -> Result<u64, CommitError> {
        if self.waiting >= self.journal.limits.mailbox_groups_max {
            return Err(CommitError::Closed);
        }
        let bytes = check_group(&self.journal.limits, &records)?;
        let group = Admitted { records, first_sequence: 0, bytes, done: Box::new(drop) };
        let first = self.mailbox.put(&self.journal.limits, &self.journal.space, class, group)?;
        self.waiting += 1;
        Ok(first)
    }

    /// Makes durable what one turn of the committer would, with one write and one fdatasync. None if nothing waits.
    ///
    /// # Errors
    /// [`CommitError::Poisoned`]; any part of it may be durable then.
    pub fn write(&mut self) -> Result<Option<Committed>, CommitError> {
        if self.waiting == 0 {
            return Ok(None);
        }
        let Some(Work::Groups(groups)) = self.mailbox.take(&self.journal.limits) else { return Ok(None) };
        self.waiting = self.waiting.saturating_sub(groups.len());
        let first = self.journal.next_sequence();
        self.journal.write_admitted(groups.iter().map(|group| &*group.records))?;
        let records = groups.iter().map(|group| group.records.len()).sum();
        Ok(Some(Committed::new(first, records)))
    }

    /// Compacts behind what waits, which is written before. What is condemned then waits for [`tend`](Self::tend).
    ///
    /// # Errors
    /// As [`Journal::compact`].
    pub fn compact(&mut self, request: Compaction) -> Result<CompactReport, CommitError> {
        while self.write()?.is_some() {}
        self.journal.compact_without_wiping(request)
    }

    /// A turn of the tender: overwrites what is condemned, and makes the next segments ready.
    ///
    /// # Errors
    /// [`CommitError::Poisoned`].
    pub fn tend(&mut self) -> Result<(), CommitError> {
        self.journal.check_alive()?;
        self.journal.space.tend()
    }

    /// A reader of everything durable.
    #[must_use]
    pub fn reader(&self) -> Reader<D> {
        self.journal.reader()
    }

    /// Live segments, with the one being written.
    #[must_use]
    pub fn segments(&self) -> u64 {
        self.journal.map.read().segments.len() as u64
    }
}
