//! The journal on a simulated disk, and the fold over it.

use bytes::Bytes;
use lintas_journal::{
    ByHand, Class, CommitError, Fold, FoldError, Journal, Limits, NewRecord, Reader, SimDisk,
};

use super::{Stopped, stopped};
use crate::core::{records::Record, state::State};

#[derive(Debug)]
pub(super) struct Store {
    journal: ByHand<SimDisk>,
    reader: Reader<SimDisk>,
}

/// A store, and what it says.
pub(super) struct Opened {
    pub(super) store: Store,
    pub(super) state: State,
}

struct Folding<'a>(&'a mut State);

impl Fold for Folding<'_> {
    fn restore(&mut self, _: &[u8]) -> Result<(), FoldError> {
        Err(FoldError::new("a node makes no snapshots"))
    }

    fn replay(&mut self, record: &lintas_journal::Record) -> Result<(), FoldError> {
        let payload = Bytes::copy_from_slice(&record.payload);
        let decoded = Record::decode(record.kind, &payload).map_err(FoldError::new)?;
        self.0.apply(record.sequence, &decoded).map_err(FoldError::new)
    }
}

impl Store {
    pub(super) fn open(disk: SimDisk, limits: Limits) -> Result<Opened, Stopped> {
        let mut state = State::default();
        let (journal, _) = Journal::open(disk, limits, None, &mut Folding(&mut state)).map_err(stopped)?;
        let journal = ByHand::new(journal);
        let reader = journal.reader();
        Ok(Opened { store: Self { journal, reader }, state })
    }

    /// As the node's store: those that let queues drain first, together if they find room together.
    pub(super) fn keep_what_fits(
        &mut self,
        records: Vec<Record>,
        state: &mut State,
    ) -> Result<Vec<bool>, Stopped> {
        let mut kept = vec![false; records.len()];
        let (essential, ordinary): (Vec<_>, Vec<_>) =
            records.into_iter().enumerate().partition(|(_, record)| record.is_essential());
        for (records, class) in [(essential, Class::Essential), (ordinary, Class::Ordinary)] {
            let (places, records): (Vec<usize>, Vec<Record>) = records.into_iter().unzip();
            let together = self.commit(&records, class, state)?;
            for (at, record) in places.into_iter().zip(&records) {
                let found = together || self.commit(std::slice::from_ref(record), class, state)?;
                if let Some(kept) = kept.get_mut(at) {
                    *kept = found;
                }
            }
        }
        Ok(kept)
    }

    /// All or none.
    pub(super) fn keep_together(&mut self, records: Vec<Record>, state: &mut State) -> Result<bool, Stopped> {
        self.commit(&records, Class::Ordinary, state)
    }

    fn commit(&mut self, records: &[Record], class: Class, state: &mut State) -> Result<bool, Stopped> {
        if records.is_empty() {
            return Ok(true);
        }
        let new = |record: &Record| {
            let (kind, payload) = record.encode();
            NewRecord { kind, payload, brief: None }
        };
        let first = match self.journal.commit(records.iter().map(new).collect(), class) {
            Err(CommitError::DiskFull) => return Ok(false),
            other => other.map_err(stopped)?,
        };
        self.journal.write().map_err(stopped)?;
        for (sequence, record) in (first..).zip(records) {
            state.apply(sequence, record).map_err(stopped)?;
        }
        Ok(true)
    }

    pub(super) fn tend(&mut self) -> Result<(), Stopped> {
        self.journal.tend().map_err(stopped)
    }

    pub(super) fn read(&self, sequence: u64) -> Result<Record, Stopped> {
        let record = self.reader.read(sequence).map_err(stopped)?;
        Record::decode(record.kind, &record.payload).map_err(stopped)
    }
}
