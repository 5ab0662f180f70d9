//! Whether this broker knows its own log: nobody may sign a second story of what has happened.
//!
//! Every hello shows the largest root checkpoint that the node knows. One of the present log, under this broker's own
//! key, that the published log does not contain means that the broker runs on a restored backup, or on a forked one.
//! It signs nothing more and serves nobody. For a while it goes on listening to what others know: the largest of these
//! that a quorum has cosigned is where the region authority can end the log. It stays in `behind`, and the broker stops: at
//! the next start again, until a newer backup contains it or the region authority has ended this log. What is not signed
//! by this broker's log key changes nothing: a lying node cannot stop a broker.

use std::{
    collections::BTreeSet,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lintas_config::{Directory, directory::Broker};
use lintas_proto::{
    audit::note::{SignedCheckpoint, WitnessKey, quorum},
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
/// Most checkpoints that the log does not contain and that are compared; a node shows the largest that it knows.
const MISSING_MAX: usize = 64;
/// How long a broker that must stop listens to what others know, milliseconds: longer than a node waits before it comes
/// again.
pub(in crate::shell) const LISTEN_MS_MAX: u64 = if cfg!(test) { 3_000 } else { 35_000 };

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
    /// A quorum has cosigned it.
    is_witnessed: bool,
}

impl Behind {
    /// Whether a quorum of witnesses has cosigned what this broker does not contain.
    pub(in crate::shell) fn is_witnessed(&self) -> bool {
        self.is_witnessed
    }
}

fn name(file: &std::path::Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What nodes have said since the start.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    said: Mutex<Said>,
    /// Set when the process must stop, and again when something larger is known.
    pub(in crate::shell) behind: watch::Sender<Option<Arc<Behind>>>,
}

#[derive(Debug, Default)]
struct Said {
    /// Who has said hello, with a checkpoint that could be looked at or none.
    heard: BTreeSet<String>,
    /// What this broker has signed and its log does not contain, each with all cosignatures that were seen. With one of
    /// them nothing is signed any more.
    missing: Vec<SignedCheckpoint>,
}

impl Said {
    /// Takes one in. False if it says nothing new.
    fn add(&mut self, signed: &SignedCheckpoint, me: &Broker, witnesses: &[WitnessKey]) -> bool {
        let key = &me.log_key;
        let Some(known) = self.missing.iter_mut().find(|known| known.claim() == signed.claim()) else {
            self.missing.push(signed.joined(signed, key, witnesses));
            let worst = |(_, note): &(usize, &SignedCheckpoint)| rank(note, witnesses);
            if self.missing.len() > MISSING_MAX
                && let Some((worst, _)) = self.missing.iter().enumerate().min_by_key(worst)
            {
                self.missing.swap_remove(worst);
            }
            return true;
        };
        let joined = known.joined(signed, key, witnesses);
        let is_more = joined.cosignatures(witnesses).len() > known.cosignatures(witnesses).len();
        *known = joined;
        is_more
    }

    /// Where the log would best end.
    fn best(&self, witnesses: &[WitnessKey]) -> Option<&SignedCheckpoint> {
        self.missing.iter().max_by_key(|note| rank(note, witnesses))
    }

    /// Whether a quorum of witnesses has been heard.
    fn is_quorum(&self, directory: &Directory) -> bool {
        let count = self.heard.iter().filter(|agency| directory.witness(agency).is_some()).count();
        count >= quorum(directory.witnesses().len())
    }
}

/// The largest that a quorum has cosigned comes first; else the largest.
fn rank(note: &SignedCheckpoint, witnesses: &[WitnessKey]) -> (bool, u64, usize) {
    (note.witnessed_at(witnesses).is_some(), note.claim().size, note.cosignatures(witnesses).len())
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
                Some(Told::Missing(signed)) => {
                    return Err(Self::stop(shared, (me, &directory, &files), &signed).into());
                }
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
                tracing::warn!(
                    agency,
                    size = signed.claim().size,
                    "a hello shows what this log does not contain"
                );
                Self::stop(shared, (me, &directory, &files), &signed);
                None
            }
            Err(error) => {
                tracing::error!(agency, %error, "the log's own tiles cannot be read to check a hello");
                return None;
            }
        };
        shared.log.standing.said().heard.insert(agency.to_owned());
        Self::recount(shared);
        known
    }

    /// Whether this broker has to stop, so that nobody is served.
    pub(in crate::shell) fn must_stop(shared: &Shared) -> bool {
        !shared.log.standing.said().missing.is_empty()
    }

    /// Waits until nothing better can be shown for the end of this log: a quorum of witnesses has been heard, and the
    /// largest checkpoint of all that they know has been cosigned by a quorum. At once where there are no witnesses.
    pub(in crate::shell) async fn is_settled(shared: &Shared) {
        let mut told = shared.log.standing.behind.subscribe();
        loop {
            told.borrow_and_update();
            if shared.log.standing.settled(&shared.directory()) {
                return;
            }
            if told.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn settled(&self, directory: &Directory) -> bool {
        let (said, witnesses) = (self.said(), directory.witnesses());
        let largest = said.missing.iter().map(|note| note.claim().size).max();
        let best = said.best(&witnesses);
        let is_largest = best.is_some_and(|best| best.witnessed_at(&witnesses).is_some())
            && best.map(|best| best.claim().size) == largest;
        witnesses.is_empty() || (is_largest && said.is_quorum(directory))
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the log be signed when witnesses that form a quorum have said hello. Also after a change of the directory.
    pub(super) fn recount(shared: &Shared) {
        let log = &shared.log;
        let said = log.standing.said();
        if !said.missing.is_empty() {
            // Who has been heard may settle where the log ends.
            log.standing.behind.send_modify(|_| {});
        } else if !*log.may_sign.borrow() && said.is_quorum(&shared.directory()) {
            tracing::info!("the log may be signed: enough witnesses have said what they know");
            log.may_sign.send_replace(true);
        }
    }

    /// Nothing is signed from here on, and the process stops. One hello after the other: what is kept is the best of them.
    fn stop(
        shared: &Shared,
        (me, directory, files): (&Broker, &Directory, &LogFiles),
        signed: &SignedCheckpoint,
    ) -> Behind {
        let (standing, witnesses) = (&shared.log.standing, directory.witnesses());
        let mut said = standing.said();
        let first = said.missing.is_empty();
        let is_new = said.add(signed, me, &witnesses);
        shared.log.may_sign.send_replace(false);
        let best = said.best(&witnesses).unwrap_or(signed);
        let path = files.folder().join(BEHIND);
        if is_new {
            let kept = make_folder(&files.folder()).and_then(|()| replace(&path, &best.to_bytes()));
            if let Err(error) = kept {
                // The next hello shows it again.
                tracing::error!(%error, "what stops this broker cannot be kept");
            }
        }
        let behind = Behind {
            broker: shared.broker.clone(),
            have: files.epochs,
            signed: best.claim().size,
            file: path,
            is_witnessed: best.witnessed_at(&witnesses).is_some(),
        };
        if first {
            tracing::error!("the broker stops: {behind}");
        }
        standing.behind.send_replace(Some(Arc::new(behind.clone())));
        behind
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
