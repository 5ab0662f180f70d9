//! The audit log on its way out: published, cosigned, read.

pub(crate) mod disk;
pub(crate) mod files;
pub(crate) mod publisher;
#[cfg(test)]
pub(super) mod tests;

use std::sync::Arc;

use lintas_proto::{audit::note::SignedCheckpoint, id::Digest, sign::SigningKey};
use tokio::sync::watch;

/// How far the log is published, durably.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Published {
    /// Journal sequence of the last EPOCH record that is published; records up to it are no longer needed for the log.
    pub(crate) sequence: u64,
    /// Size of the root log.
    pub(crate) epochs: u64,
    /// Its root.
    pub(crate) root: Digest,
}

/// What publisher, witnesses and readers of the log tell each other.
#[derive(Debug)]
pub(crate) struct LogState {
    /// Signs checkpoints.
    pub(crate) key: SigningKey,
    /// Told by the publisher, when it is durable.
    pub(crate) published: watch::Sender<Published>,
    /// The root checkpoint that was signed last; to be cosigned.
    pub(crate) head: watch::Sender<Option<Arc<SignedCheckpoint>>>,
    /// Nothing is signed before this is true: enough witnesses have said what they know of this log.
    pub(crate) may_sign: watch::Sender<bool>,
}

impl LogState {
    pub(crate) fn new(key: SigningKey) -> Self {
        Self {
            key,
            published: watch::Sender::default(),
            head: watch::Sender::default(),
            may_sign: watch::Sender::default(),
        }
    }
}
