//! The keeper of the directory and of the release policies: takes in what the operator and the members bring, one change after
//! another, makes it durable, and puts it in force. Whoever works under a directory is never stopped by it: verifying and writing are
//! done on threads of their own, and the change itself is an exchange of one pointer.
//!
//! What follows from a change is done by those who wait for [`Shared::changed`]: the listener closes the connections
//! of whoever has left, the sequencer withholds what waits for them and tells the audit log, the sessions tell their
//! nodes. [`keysets`] and [`policies`] are what members bring.

mod keysets;
mod policies;

use std::{
    fs::{self, Metadata},
    io,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use lintas_config::{Directory, SuccessionError, clock::Reading};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{Mutex, OwnedMutexGuard},
    task::spawn_blocking,
    time::sleep,
};

use super::{
    directory_files::{DIRECTORY, STEPS, tell_identities},
    folder::{Folder, FolderError},
    offer::Offers,
    shared::Shared,
};
use crate::core::{earlier::Taken, pace::Pace};

/// How often the operator's files are looked at, milliseconds. A file is taken when it has not changed between two
/// looks, so that one that is being copied is not refused for its missing half.
const LOOK_MS: u64 = 500;
/// How long what the disk or the time prevented waits, milliseconds.
const AGAIN_MS: u64 = 10_000;
/// How many changes keysets of one agency may make at once, and how often one more, milliseconds: each makes a new
/// directory for everybody. An agency that rotates its keys needs one a week.
const CHANGES: (u64, u64) = (10, 10 * 60 * 1_000);
/// How many keysets one agency may bring at once, also such as are refused, and how often one more, milliseconds.
const PUTS: (u64, u64) = (60, 10 * 1_000);
/// Why a change was not made.
#[derive(Debug)]
enum Trouble {
    /// It does not follow.
    Refused(Box<SuccessionError>),
    /// It is not time.
    NotInForce { version: u64 },
    /// Its agency has a new identity key and is not served yet.
    Held(String),
    /// It could not be made durable.
    Disk(FolderError),
}

/// What was found in the operator's files: modification time in milliseconds, length, and that of the steps.
type Stamp = (u64, u64, u64);

/// The state of whose turn it is to change the directory.
#[derive(Debug)]
pub(crate) struct Turn {
    changes: Pace,
    puts: Pace,
    /// Seen at the last look.
    seen: Option<Stamp>,
    /// Dealt with.
    done: Option<Stamp>,
    /// When to try what is done once more, milliseconds since boot.
    again_ms: Option<u64>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    folder: Folder,
    turn: Arc<Mutex<Turn>>,
    gate: policies::Gate,
    pub(super) offers: Offers,
}

impl Keeper {
    pub(crate) fn new(shared: Arc<Shared>, folder: Folder) -> Arc<Self> {
        let pace = |(burst, every_ms)| Pace::new(burst, every_ms);
        let turn = Turn { changes: pace(CHANGES), puts: pace(PUTS), seen: None, done: None, again_ms: None };
        let offers = Offers::new(folder.clone());
        let (turn, gate) = (Arc::new(Mutex::new(turn)), policies::Gate::new());
        Arc::new(Self { shared, folder, turn, gate, offers })
    }

    /// Takes up what the operator brings, now and then, and at once on SIGHUP. Never ends.
    pub(crate) async fn watch(self: &Arc<Self>) -> io::Result<()> {
        let mut hangup: Signal = signal(SignalKind::hangup())?;
        loop {
            let at_once = tokio::select! {
                Some(()) = hangup.recv() => true,
                () = sleep(Duration::from_millis(LOOK_MS)) => false,
            };
            self.look(at_once).await;
        }
    }

    /// Looks at the operator's files.
    pub(crate) async fn look(self: &Arc<Self>, at_once: bool) {
        self.in_turn(move |keeper, turn| {
            keeper.look_at_clock();
            keeper.look_at_directory(turn, at_once);
            keeper.look_at_keysets(at_once);
            keeper.serve_held();
            // What begins with time alone, if nobody has asked since.
            keeper.shared.rules_at(keeper.shared.moment_ms());
        })
        .await;
    }

    /// Waits for a change that is being made; no other begins while the turn is held.
    pub(crate) async fn close(&self) -> OwnedMutexGuard<Turn> {
        Arc::clone(&self.turn).lock_owned().await
    }

    /// One change at a time. Whoever waits may go away; what has begun is ended.
    async fn in_turn<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self, &mut Turn) -> T + Send + 'static,
    ) -> Option<T> {
        let mut turn = Arc::clone(&self.turn).lock_owned().await;
        let keeper = Arc::clone(self);
        let done = spawn_blocking(move || work(&keeper, &mut turn)).await;
        done.inspect_err(|error| tracing::error!(%error, "a change of the directory was cut short")).ok()
    }

    /// The operator's word that the clock is right.
    fn look_at_clock(&self) {
        match self.folder.take_believed() {
            Ok(Some(said)) if !self.shared.clock.believe(said) => {
                tracing::error!(
                    "the clock was set since the operator said that it is right; that counts for nothing"
                );
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "the operator's word on the clock cannot be read"),
        }
    }

    fn look_at_directory(&self, turn: &mut Turn, at_once: bool) {
        let stamp = stamp(&self.folder);
        // By the time since boot: a clock that is in doubt stands still.
        let (settled, boot_ms) = (at_once || turn.seen == stamp, Reading::take().boot_ms);
        let again = at_once || turn.again_ms.is_some_and(|at| at <= boot_ms);
        turn.seen = stamp;
        if stamp.is_none() || !settled || (turn.done == stamp && !again) {
            return;
        }
        let present = self.shared.directory();
        let taken = match self.folder.operators(present.roster().version) {
            Ok(None) => return,
            Ok(Some((bytes, _))) if bytes == present.bytes() => Ok(()),
            Ok(Some((bytes, steps))) => match present.merge(&bytes, &steps) {
                Ok(next) => self.take_up(next, &steps, ""),
                Err(error) => Err(Trouble::Refused(Box::new(error))),
            },
            Err(error) => Err(Trouble::Disk(error)),
        };
        // What the disk or the time prevents is tried again.
        let again = matches!(taken, Err(Trouble::Disk(_) | Trouble::NotInForce { .. }));
        (turn.done, turn.again_ms) = (stamp, again.then(|| boot_ms.saturating_add(AGAIN_MS)));
        let version = present.roster().version;
        self.shared.refuse_directory(taken.err().map(|trouble| {
            format!("{DIRECTORY} is not taken: {trouble}. Roster version {version} stays in force")
        }));
    }

    /// Serves agencies with identity keys that nobody vouches for, as the roster says, when nothing that was sealed
    /// for the keys before waits for them any more.
    fn serve_held(&self) {
        let present = self.shared.directory();
        if present.held().is_empty() || !self.shared.owes_nothing_to_held(&present) {
            return;
        }
        let next = match Directory::clone(&present).by_roster_alone() {
            Ok(next) => next,
            Err(error) => return tracing::error!(%error, "agencies with new identity keys cannot be served"),
        };
        if let Err(error) = self.folder.keep_directory(&next, &[]) {
            return tracing::error!(%error, "agencies with new identity keys are served later");
        }
        for held in present.held() {
            tracing::info!(agency = held.agency, "served under its new identity key");
        }
        let (hash, roster_version) = (*next.hash(), next.roster().version);
        // The same directory: nothing else changes.
        let taken =
            Taken { hash, since_ms: self.shared.clock.now_ms(), roster_version, cause: String::new() };
        self.shared.enforce(Arc::new(next), Some(taken));
    }

    /// Makes a directory durable and puts it in force. `cause` is the agency whose keyset made it, or empty.
    fn take_up(&self, next: Directory, steps: &[Bytes], cause: &str) -> Result<(), Trouble> {
        let present = self.shared.directory();
        if next.bytes() == present.bytes() {
            return Ok(());
        }
        let version = next.roster().version;
        // In doubt nobody knows whether it is valid now. The region authority has signed it, and it may be what ends the doubt.
        let begins_ms = self.shared.clock.now_ms().max(next.roster().not_before_ms);
        let now_ms = self.shared.clock.agreed_ms().unwrap_or(begins_ms);
        if !next.at(now_ms).in_force() && present.at(now_ms).in_force() {
            return Err(Trouble::NotInForce { version });
        }
        present.lets_see(next.roster(), now_ms).map_err(|error| Trouble::Refused(Box::new(error)))?;
        let taken =
            Taken { hash: *next.hash(), since_ms: now_ms, roster_version: version, cause: cause.to_owned() };
        let durable = || {
            self.folder.keep_directory(&next, steps)?;
            self.folder.add_earlier(&taken)
        };
        durable().map_err(Trouble::Disk)?;
        tell_identities(&next);
        let agency = Some(cause).filter(|cause| !cause.is_empty());
        tracing::info!(roster = version, agency, "a new directory is in force");
        let metrics = &self.shared.metrics;
        let kind = if !cause.is_empty() && next.is_self_revoked(cause) {
            &metrics.self_revocations
        } else if cause.is_empty() {
            &metrics.roster_changes
        } else {
            &metrics.keyset_changes
        };
        kind.add(1);
        self.shared.enforce(Arc::new(next), Some(taken));
        Ok(())
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(error) => write!(f, "{error}"),
            Self::NotInForce { version } => {
                write!(
                    f,
                    "roster version {version} is not valid now; it is tried again, look at the clock and its dates"
                )
            }
            Self::Held(agency) => write!(
                f,
                "{agency} has a new identity key; the broker serves it when what waited for it is withheld. Bring the \
                 keyset again in a few seconds."
            ),
            Self::Disk(error) => write!(f, "{error}; it is tried again"),
        }
    }
}

fn stamp(folder: &Folder) -> Option<Stamp> {
    let bundle = fs::metadata(folder.path(DIRECTORY)).ok()?;
    let steps = fs::metadata(folder.path(STEPS)).map(|there| modified(&there)).unwrap_or_default();
    Some((modified(&bundle), bundle.len(), steps))
}

/// Milliseconds since 1970.
fn modified(metadata: &Metadata) -> u64 {
    let since =
        metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
