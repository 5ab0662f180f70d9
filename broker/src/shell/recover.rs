//! Recovery: the ledger from the journal, and the next log when the one before has ended.

use bytes::Bytes;
use lintas_config::Directory;
use lintas_journal::{Class, FileDisk, Fold, FoldError, Journal, Record};
use lintas_proto::schema::StoredLogBegun;

use super::{clock, run_error::RunError};
use crate::core::{
    ledger::{Ended, Ledger},
    record::Fact,
    snapshot,
};

/// Recovery: the same fold as the forward path.
#[derive(Debug, Default)]
pub(super) struct Folding {
    pub(super) ledger: Ledger,
    /// Packets that ended since the snapshot, bytes.
    pub(super) spent_bytes: u64,
    /// Spent records in the snapshot.
    pub(super) spent_records: u64,
    /// Of the record that was replayed last.
    brief: Option<Bytes>,
}

impl Folding {
    fn ended(&mut self, ended: Option<Ended>) {
        let bytes = ended.map_or(0, |ended| ended.bytes);
        self.spent_bytes = self.spent_bytes.saturating_add(bytes);
    }
}

impl Fold for Folding {
    fn restore(&mut self, bytes: &[u8]) -> Result<(), FoldError> {
        self.ledger = snapshot::decode(bytes).map_err(FoldError::new)?;
        self.spent_records = self.ledger.spent().len();
        Ok(())
    }

    fn replay(&mut self, record: &Record) -> Result<(), FoldError> {
        let fact = Fact::from_record(record).map_err(FoldError::new)?;
        let ended = self.ledger.apply(record.sequence, &fact).map_err(FoldError::new)?;
        self.ended(ended);
        self.brief = fact.brief();
        Ok(())
    }

    fn replay_brief(&mut self, sequence: u64, kind: u16, brief: &[u8]) -> Result<(), FoldError> {
        let ended = self.ledger.apply_brief(sequence, kind, brief).map_err(FoldError::new)?;
        self.ended(ended);
        Ok(())
    }

    fn brief(&mut self, _: &Record) -> Option<Bytes> {
        self.brief.take()
    }
}

/// Begins the next log when the roster says that the one of the ledger has ended: a record before everything else, and
/// the ledger is empty. It begins now if that roster holds by this clock, else with the roster. True if it began.
pub(super) fn begin_log(
    journal: &mut Journal<FileDisk>,
    ledger: &mut Ledger,
    directory: &Directory,
    broker: &str,
) -> Result<bool, RunError> {
    let (Some(number), known) = (ended_logs(directory, broker), ledger.audit().number()) else {
        // Whether it is listed is asked when the newest directory is there.
        return Ok(false);
    };
    if number < known {
        return Err(RunError::RosterBehindLog { known, number });
    }
    if number > known {
        let (now_ms, begins_ms) = (clock::shown_ms(), directory.roster().not_before_ms);
        let time_ms = if directory.at(now_ms).in_force() { now_ms } else { begins_ms };
        let fact = Fact::LogBegun(StoredLogBegun { number, time_ms });
        let committed = journal.commit(&[fact.to_record()], Class::Essential)?;
        ledger.apply(committed.first_sequence, &fact)?;
        tracing::warn!(
            number,
            "the region authority has ended the log before; queues are empty, and nodes submit again what has no final answer"
        );
    }
    Ok(number > known)
}

/// How many logs of the broker have ended, by the roster.
pub(super) fn ended_logs(directory: &Directory, broker: &str) -> Option<u64> {
    let listed = directory.brokers().iter().find(|listed| listed.name == broker);
    listed.and_then(|listed| u64::try_from(listed.ended_logs.len()).ok())
}
