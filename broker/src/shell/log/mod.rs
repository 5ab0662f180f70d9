//! The audit log on its way out: published, cosigned, read.
//!
//! - [`fresh`]: from the sequencer to the [`publisher`], which writes [`files`] on a [`disk`]
//! - [`reading`], [`tiles`]: the log on the disk, as far as it is published
//! - [`standing`]: nothing is signed before the witnesses have said what they know; a restored backup stops
//! - [`asking`]: one session's witness; [`witnesses`]: what all of them say of one head; [`cosigned`]: what is kept of it
//! - [`streams`]: who may read what; [`erasure`]: what an agency orders to be forgotten

mod asking;
mod cosigned;
pub(crate) mod disk;
mod erasure;
pub(crate) mod files;
mod fresh;
#[cfg(any(test, feature = "sim"))]
pub(super) mod memory;
pub(crate) mod publisher;
mod reading;
mod standing;
mod streams;
#[cfg(test)]
pub(super) mod tests;
mod tiles;
mod witnesses;

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use lintas_config::{Directory, directory::Broker};
use lintas_proto::{audit::note::SignedCheckpoint, id::Digest, sign::SigningKey};
use tokio::sync::{mpsc, watch};

#[cfg(feature = "sim")]
pub(super) use self::fresh::Fresh;
#[cfg(not(feature = "sim"))]
use self::fresh::Fresh;
pub(super) use self::{
    asking::Asking,
    standing::{Behind, LISTEN_MS_MAX, Standing, StandingError},
    streams::LogDesk,
    witnesses::UNWITNESSED_MS_MAX,
};
use self::{cosigned::Cosigned, reading::LogFiles, witnesses::Cosignature};
use super::{
    folder::{Folder, FolderError},
    shared::Shared,
};

/// Most cosignatures on their way to the one task that counts them: each witness has at most one.
const COSIGNATURES_MAX: usize = 64;

/// How far the log is published, durably.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Published {
    /// Journal sequence of the last EPOCH record that is published; records up to it are no longer needed for the log.
    pub(crate) sequence: u64,
    /// How many logs of this broker had ended when this one began.
    pub(crate) ended: u64,
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
    /// What the publisher need not read.
    pub(super) fresh: Fresh,
    /// Told by the publisher, when it is durable and before it is signed; known before the first node is let in.
    pub(crate) published: watch::Sender<Published>,
    /// The root checkpoint that was signed last; to be cosigned.
    pub(crate) head: watch::Sender<Option<Arc<SignedCheckpoint>>>,
    /// Nothing is signed before this is true: enough witnesses have said what they know of this log.
    pub(crate) may_sign: watch::Sender<bool>,
    /// What nodes say of this log in their hellos.
    pub(super) standing: Standing,
    /// The head that witnesses are asked about now.
    asked: watch::Sender<Option<Arc<SignedCheckpoint>>>,
    /// From the sessions to the task that counts cosignatures.
    cosignatures: mpsc::Sender<Cosignature>,
    cosigned_by: Mutex<Option<mpsc::Receiver<Cosignature>>>,
    /// Checkpoints in `cosigned` of the present log that are durable.
    cosigned: AtomicU64,
    /// When a quorum was last there, or this began, milliseconds since 1970.
    witnessed_ms: AtomicU64,
    /// Where its files are.
    folder: Folder,
}

impl LogState {
    pub(crate) fn new(key: SigningKey, folder: Folder) -> Self {
        let (cosignatures, cosigned_by) = mpsc::channel(COSIGNATURES_MAX);
        Self {
            key,
            fresh: Fresh::default(),
            published: watch::Sender::default(),
            head: watch::Sender::default(),
            may_sign: watch::Sender::default(),
            standing: Standing::default(),
            asked: watch::Sender::default(),
            cosignatures,
            cosigned_by: Mutex::new(Some(cosigned_by)),
            cosigned: AtomicU64::new(0),
            witnessed_ms: AtomicU64::new(0),
            folder,
        }
    }

    /// How long ago a quorum of witnesses was last there, milliseconds; none before the first look.
    pub(super) fn unwitnessed_ms(&self, now_ms: u64) -> Option<u64> {
        let since_ms = self.witnessed_ms.load(Ordering::Relaxed);
        (since_ms > 0).then(|| now_ms.saturating_sub(since_ms))
    }

    /// A quorum is there now.
    fn witnessed(&self, now_ms: u64) {
        self.witnessed_ms.store(now_ms, Ordering::Relaxed);
    }

    /// So many checkpoints in `cosigned` are durable.
    fn counted(&self, cosigned: u64) {
        self.cosigned.store(cosigned, Ordering::Relaxed);
    }

    /// Finds out what a quorum has cosigned of the present log. Before anybody may read it: an auditor would take files that
    /// are withheld for files that are gone.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(super) fn find_cosigned(shared: &Shared) -> Result<(), FolderError> {
        let directory = shared.directory();
        if let Some(me) = me(shared, &directory) {
            let folder = shared.log.folder.audit_log(me.ended_logs.len().saturating_add(1));
            shared.log.counted(Cosigned::open(&folder)?.count);
        }
        Ok(())
    }

    /// The task that has heads cosigned. There is one; it ends with `shared`'s last session.
    pub(super) async fn witness(shared: Arc<Shared>) {
        let answers = shared.log.cosigned_by.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(answers) = answers {
            witnesses::run(&shared, answers).await;
        }
    }

    /// The present root log of this broker.
    fn present(&self, me: &Broker) -> LogFiles {
        let published = *self.published.borrow();
        let is_present = usize::try_from(published.ended).is_ok_and(|ended| ended == me.ended_logs.len());
        LogFiles {
            broker: self.folder.clone(),
            number: me.ended_logs.len().saturating_add(1),
            agency: None,
            epochs: if is_present { published.epochs } else { 0 },
            cosigned: self.cosigned.load(Ordering::Relaxed),
        }
    }
}

/// This broker as a directory lists it. One that is not listed is about to stop.
fn me<'a>(shared: &Shared, directory: &'a Directory) -> Option<&'a Broker> {
    directory.brokers().iter().find(|broker| broker.name == shared.broker)
}
