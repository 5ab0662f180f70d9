//! What the sequencer and the sessions share.

use std::{
    fmt::Display,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lintas_config::Directory;
use lintas_journal::{FileDisk, ReadError, Reader};
use lintas_proto::{
    canonical, limits,
    schema::{StoredAdmission, StoredOutcome, Submission},
    sign::SigningKey,
};
use thiserror::Error;
use tokio::sync::watch;

use super::blobs::Blobs;
use crate::core::{
    ledger::Ledger,
    record::{Fact, RecordError},
    refuse::Speaker,
};

/// A record that must be there and cannot be used.
#[derive(Debug, Error)]
pub(crate) enum StoredError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("record {sequence} is not {expected}")]
    Other { sequence: u64, expected: &'static str },
}

/// Shared state.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Changed by the sequencer only, and only together with handing the records to the journal.
    ledger: Mutex<Ledger>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) broker: String,
    pub(crate) receipt_key: SigningKey,
    pub(crate) blobs: Blobs,
    pub(crate) reader: Reader<FileDisk>,
    /// Most unacknowledged deliveries of one session.
    pub(crate) credit: usize,
    /// Highest record that is durable; nothing above it is shown to anybody.
    pub(crate) durable: watch::Sender<u64>,
    /// Set when the journal failed: the process must stop.
    pub(crate) failed: watch::Sender<bool>,
}

impl Shared {
    /// Starts from what recovery folded; `durable` is its last record.
    pub(crate) fn new(parts: Parts, durable: u64) -> Self {
        let Parts { ledger, directory, broker, receipt_key, blobs, reader, credit } = parts;
        let (ledger, directory) = (Mutex::new(ledger), Arc::new(directory));
        let (durable, failed) = (watch::Sender::new(durable), watch::Sender::new(false));
        Self { ledger, directory, broker, receipt_key, blobs, reader, credit, durable, failed }
    }

    /// The ledger. Held for moments only, never across an await.
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The broker as a speaker.
    pub(crate) fn speaker(&self) -> Speaker<'_> {
        Speaker {
            region: &self.directory.roster().region,
            broker: &self.broker,
            key: &self.receipt_key,
            directory_hash: *self.directory.hash(),
        }
    }

    /// A stored admission.
    pub(crate) fn admission(&self, sequence: u64) -> Result<StoredAdmission, StoredError> {
        match Fact::from_record(&self.reader.read(sequence)?)? {
            Fact::Admission(admission) => Ok(admission),
            Fact::Packet(_) | Fact::Outcome(_) | Fact::Taken(_) => Err(other(sequence, "an admission")),
        }
    }

    /// A stored outcome.
    pub(crate) fn outcome(&self, sequence: u64) -> Result<StoredOutcome, StoredError> {
        match Fact::from_record(&self.reader.read(sequence)?)? {
            Fact::Outcome(outcome) => Ok(outcome),
            Fact::Packet(_) | Fact::Admission(_) | Fact::Taken(_) => Err(other(sequence, "an outcome")),
        }
    }

    /// The packet of an admission: it stands in the record just before.
    pub(crate) fn packet(&self, admission: u64) -> Result<Submission, StoredError> {
        let sequence = admission.saturating_sub(1);
        match Fact::from_record(&self.reader.read(sequence)?)? {
            Fact::Packet(bytes) => canonical::decode(&bytes, limits::FRAME_BYTES_MAX)
                .map_err(|error| RecordError::Decode { sequence, error }.into()),
            Fact::Admission(_) | Fact::Outcome(_) | Fact::Taken(_) => Err(other(sequence, "a packet")),
        }
    }

    /// Stops the process: going on would promise what cannot be kept.
    pub(crate) fn fail(&self, error: &impl Display) {
        tracing::error!(%error, "the broker stops");
        self.failed.send_replace(true);
    }
}

/// What a broker is started with.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) ledger: Ledger,
    pub(crate) directory: Directory,
    pub(crate) broker: String,
    pub(crate) receipt_key: SigningKey,
    pub(crate) blobs: Blobs,
    pub(crate) reader: Reader<FileDisk>,
    pub(crate) credit: usize,
}

fn other(sequence: u64, expected: &'static str) -> StoredError {
    StoredError::Other { sequence, expected }
}
