//! Why a broker did not run, or stopped.

use std::{net::SocketAddr, sync::Arc};

use lintas_config::issue::IssueError;
use lintas_journal::{CommitError, OpenError};
use lintas_link::LinkError;
use thiserror::Error;

use super::{
    folder::FolderError,
    log::{Behind, StandingError, publisher::PublishError},
};
use crate::core::record::RecordError;

/// Why a broker did not run, or stopped.
#[derive(Debug, Error)]
pub(crate) enum RunError {
    /// The data folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The roster's baseline cannot be read. It was, with the roster.
    #[error("baseline policy: {0}")]
    Baseline(String),
    /// The operator's other clock says another time.
    #[error(
        "this machine's clock and that time are {minutes} minutes apart, and nothing was done: set the clock right, then say it again"
    )]
    OtherTime {
        /// How far apart.
        minutes: u64,
    },
    /// A key cannot be used.
    #[error("broker.keys: {0}")]
    Key(#[from] IssueError),
    /// The index cannot be opened, not even anew.
    #[error("index: {0}; check the disk")]
    Index(#[from] sled::Error),
    /// The journal does not open.
    #[error("journal: {0}")]
    Open(#[from] OpenError),
    /// The journal failed.
    #[error("journal: {0}")]
    Commit(#[from] CommitError),
    /// The published log does not go on.
    #[error("audit log: {0}")]
    Publish(#[from] PublishError),
    /// The network cannot be used.
    #[error("network: {0}")]
    Link(#[from] LinkError),
    /// The port for metrics cannot be used.
    #[error("metrics on {0}: {1}; change `metrics` in broker.toml")]
    Metrics(SocketAddr, std::io::Error),
    /// The system gives no thread or signal.
    #[error("system: {0}")]
    Io(#[from] std::io::Error),
    /// The roster does not name this broker with these keys.
    #[error(
        "the directory does not list the broker `{0}` with these keys; ask the region authority for a new directory"
    )]
    NotListed(String),
    /// The directory has these keys under another name.
    #[error(
        "broker.keys says that this broker is `{named}`, and the directory lists these keys as `{listed}`: broker.keys is \
         damaged, or of another time; put the backup of broker.keys in its place"
    )]
    OtherName {
        /// By broker.keys.
        named: String,
        /// By the directory.
        listed: String,
    },
    /// It runs on a restored backup.
    #[error(transparent)]
    Behind(Arc<Behind>),
    /// A record that was just written contradicts the ledger.
    #[error("journal: {0}")]
    Record(#[from] RecordError),
    /// The roster in force is older than what the journal knows of this broker's logs.
    #[error(
        "by the journal {known} logs of this broker have ended, by its roster {number}; give it the newest directory of \
         the region authority"
    )]
    RosterBehindLog {
        /// Ended logs by the journal.
        known: u64,
        /// Ended logs by the roster.
        number: u64,
    },
    /// The log has ended while the broker ran.
    #[error("the region authority has ended this broker's log; it starts anew and begins the next one")]
    LogEnded,
    /// What was durable is damaged; it was found while the broker ran.
    #[error("journal: {0}")]
    Damaged(String),
    /// The broker stopped because what is durable became uncertain.
    #[error("the broker stopped because its disk failed; start it again, it will recover what is durable")]
    Failed,
}

impl From<StandingError> for RunError {
    fn from(error: StandingError) -> Self {
        match error {
            StandingError::Behind(behind) => Self::Behind(Arc::new(behind)),
            StandingError::Folder(error) => Self::Folder(error),
        }
    }
}
