//! Whether this broker knows its own log: nobody may sign a second story of what has happened.
//!
//! Every hello shows the largest root checkpoint that the node knows. One of the present log, under this broker's own
//! key, that the published log does not contain means that the broker runs on a restored backup, or on a forked one.
//! It stops, and what it was shown stays in `behind`: it stops again at the next start, until a newer backup contains
//! it or the region authority has ended this log. What is not signed by this broker's log key changes nothing: a lying
//! node cannot stop a broker.

use std::{
    collections::BTreeSet,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use lintas_config::{Directory, directory::Broker};
use lintas_proto::{
    audit::note::{SignedCheckpoint, quorum},
    limits,
};
use thiserror::Error;
use tokio::sync::watch;

use super::{
    me,
    reading::{LogFiles, read},
    tiles::DiskTiles,
};
use crate::shell::{
    folder::{FolderError, at, make_folder, replace},
    shared::Shared,
};

/// File in the folder of the root log: the checkpoint that it does not contain.
const BEHIND: &str = "behind";

/// This broker's log is not what others know of it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "this broker runs on a restored backup: its audit log has {have} epochs, but it has signed a checkpoint of {signed} \
     {}. It admits and delivers nothing, because it would tell another story of what has happened. Do one of two \
     things. If there is a newer backup, restore it and start the broker again. If there is none, give the file {} to \
     the region authority: it ends this log with `lintas region change --end-log {broker}={}` and the new directory, put into \
     directory.bin, lets the broker begin its next log; nodes then submit again by themselves what has no answer",
    if signed > have { "epochs" } else { "epochs with another content" }, file.display(), name(file)
)]
pub(crate) struct Behind {
    broker: String,
    /// Epochs that are published here.
    have: u64,
    /// Size of the checkpoint.
    signed: u64,
    /// The checkpoint.
    file: PathBuf,
}

fn name(file: &std::path::Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What nodes have said since the start.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// Who has said hello, with a checkpoint that could be looked at or none.
    heard: Mutex<BTreeSet<String>>,
    /// Set once: the process must stop.
    pub(in crate::shell) behind: watch::Sender<Option<Arc<Behind>>>,
}

/// What a hello's checkpoint says.
enum Told {
    /// Nothing of the present log.
    Nothing,
    /// The present log had this size.
    Contained(u64),
    /// It was not signed by a broker of this region.
    Junk,
    /// The present log does not contain it.
    Missing(Box<SignedCheckpoint>),
}

impl Standing {
    /// At the start, under the directory in force: refuses to go on where the last run had to stop.
    ///
    /// # Errors
    /// [`Behind`]; a file that cannot be read.
    pub(in crate::shell) fn begin(shared: &Shared) -> Result<(), StandingError> {
        let directory = shared.directory();
        if let Some(me) = me(shared, &directory) {
            let files = shared.log.present(me);
            let path = files.folder().join(BEHIND);
            let found = read(&path, limits::CHECKPOINT_BYTES_MAX).map_err(at(&path))?;
            let told =
                found.map(|bytes| told(me, &directory, &files, &bytes)).transpose().map_err(at(&path))?;
            match told {
                Some(Told::Missing(signed)) => return Err(behind(shared, &files, &signed, path).into()),
                // A newer backup; or not this log's, so that nothing depends on it.
                None | Some(Told::Nothing | Told::Contained(_) | Told::Junk) => {}
            }
        }
        Self::recount(shared);
        Ok(())
    }

    /// Waits until the process must stop.
    pub(in crate::shell) async fn is_behind(told: &mut watch::Receiver<Option<Arc<Behind>>>) -> Arc<Behind> {
        loop {
            if let Some(behind) = told.borrow_and_update().as_ref() {
                return Arc::clone(behind);
            }
            if told.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Looks at the checkpoint of a hello. Reads tiles. The size that the node knows, if it is of the present log.
    pub(in crate::shell) fn hello(shared: &Shared, agency: &str, checkpoint: &[u8]) -> Option<u64> {
        let directory = shared.directory();
        let me = me(shared, &directory)?;
        let files = shared.log.present(me);
        let known = match told(me, &directory, &files, checkpoint) {
            Ok(Told::Nothing) => None,
            Ok(Told::Contained(size)) => Some(size),
            Ok(Told::Junk) => {
                shared.metrics.checkpoints_ignored.add(1);
                tracing::warn!(agency, "a hello shows a checkpoint that no broker of this region has signed");
                return None;
            }
            Ok(Told::Missing(signed)) => {
                Self::stop(shared, agency, &files, &signed);
                return None;
            }
            Err(error) => {
                tracing::error!(agency, %error, "the log's own tiles cannot be read to check a hello");
                return None;
            }
        };
        let standing = &shared.log.standing;
        standing.heard.lock().unwrap_or_else(PoisonError::into_inner).insert(agency.to_owned());
        Self::recount(shared);
        known
    }

    /// Lets the log be signed when witnesses that form a quorum have said hello. Also after a change of the directory.
    pub(super) fn recount(shared: &Shared) {
        let log = &shared.log;
        if *log.may_sign.borrow() || log.standing.behind.borrow().is_some() {
            return;
        }
        let directory = shared.directory();
        let heard = log.standing.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let count = heard.iter().filter(|agency| directory.witness(agency).is_some()).count();
        if count >= quorum(directory.witnesses().len()) {
            tracing::info!(
                witnesses = count,
                "the log may be signed: enough witnesses have said what they know"
            );
            log.may_sign.send_replace(true);
        }
    }

    /// Nothing is signed from here on, and the process stops.
    fn stop(shared: &Shared, agency: &str, files: &LogFiles, signed: &SignedCheckpoint) {
        shared.log.may_sign.send_replace(false);
        let path = files.folder().join(BEHIND);
        let kept = make_folder(&files.folder()).and_then(|()| replace(&path, &signed.to_bytes()));
        if let Err(error) = kept {
            // The next hello shows it again.
            tracing::error!(%error, "what stops this broker cannot be kept");
        }
        let behind = behind(shared, files, signed, path);
        tracing::error!(agency, "the broker stops: {behind}");
        shared.log.standing.behind.send_replace(Some(Arc::new(behind)));
    }
}

/// Why a start is refused.
#[derive(Debug, Error)]
pub(crate) enum StandingError {
    #[error(transparent)]
    Behind(#[from] Behind),
    #[error(transparent)]
    Folder(#[from] FolderError),
}

fn behind(shared: &Shared, files: &LogFiles, signed: &SignedCheckpoint, file: PathBuf) -> Behind {
    Behind { broker: shared.broker.clone(), have: files.epochs, signed: signed.claim().size, file }
}

/// What a checkpoint says about the present log, of which `files` are published.
fn told(me: &Broker, directory: &Directory, files: &LogFiles, bytes: &[u8]) -> io::Result<Told> {
    if bytes.is_empty() {
        return Ok(Told::Nothing);
    }
    let Ok(signed) = SignedCheckpoint::parse(bytes) else { return Ok(Told::Junk) };
    let origin = &signed.claim().origin;
    let broker = directory.log_of(origin).map(|log| log.broker);
    let Some(broker) = broker.filter(|broker| signed.verify(origin, &broker.log_key).is_ok()) else {
        return Ok(Told::Junk);
    };
    if broker.name != me.name || *origin != me.root_origin() {
        return Ok(Told::Nothing);
    }
    if DiskTiles::new(&files.folder(), files.epochs).contain(signed.claim())? {
        Ok(Told::Contained(signed.claim().size))
    } else {
        Ok(Told::Missing(Box::new(signed)))
    }
}
