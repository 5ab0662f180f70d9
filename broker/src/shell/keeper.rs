//! The keeper of the directory: takes in what the operator and the members bring, one change after another, makes it
//! durable, and puts it in force. Whoever works under a directory is never stopped by it: verifying and writing are
//! done on threads of their own, and the change itself is an exchange of one pointer.
//!
//! What follows from a change is done by those who wait for [`Shared::changed`]: the listener closes the connections
//! of whoever has left, the sequencer withholds what waits for them and tells the audit log, the sessions tell their
//! nodes.

use std::{
    fs::{self, Metadata},
    io,
    path::Path,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use lintas_config::{Directory, SuccessionError, policy::Policies};
use lintas_proto::{
    canonical, limits,
    schema::{Keyset, Reason, SignedKeyset},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{Mutex, OwnedMutexGuard},
    task::spawn_blocking,
    time::sleep,
};

use super::{
    clock,
    directory_files::{DIRECTORY, STEPS, read, tell_identities},
    folder::{Folder, FolderError, at, sync_folder},
    offer::Offers,
    shared::Shared,
};
use crate::core::{
    earlier::Taken,
    pace::Pace,
    refuse::{reason_of_succession, sentence},
    rules::Rules,
};

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
/// Most files of `keysets/` taken in one look.
const KEYSETS_MAX: usize = 64;
/// Where the operator puts keysets.
const KEYSETS: &str = "keysets";

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
    /// When to try what is done once more, milliseconds since 1970.
    again_ms: Option<u64>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    folder: Folder,
    turn: Arc<Mutex<Turn>>,
    pub(super) offers: Offers,
}

impl Keeper {
    pub(crate) fn new(shared: Arc<Shared>, folder: Folder) -> Arc<Self> {
        let pace = |(burst, every_ms)| Pace::new(burst, every_ms);
        let turn = Turn { changes: pace(CHANGES), puts: pace(PUTS), seen: None, done: None, again_ms: None };
        let offers = Offers::new(folder.clone());
        Arc::new(Self { shared, folder, turn: Arc::new(Mutex::new(turn)), offers })
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
            keeper.look_at_directory(turn, at_once);
            keeper.look_at_keysets(at_once);
            keeper.serve_held();
        })
        .await;
    }

    /// Takes in a keyset that the node of `bringer` brings (canonical bytes of `SignedKeyset`). Durable and in force
    /// when the answer is [`Reason::Accepted`].
    pub(crate) async fn put(self: &Arc<Self>, bringer: &str, keyset: Bytes) -> (Reason, String) {
        let bringer = bringer.to_owned();
        let put = self.in_turn(move |keeper, turn| keeper.put_in_turn(turn, &bringer, &keyset)).await;
        put.unwrap_or_else(|| {
            (Reason::ShuttingDown, "The broker is stopping; bring the keyset again.".to_owned())
        })
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

    fn look_at_directory(&self, turn: &mut Turn, at_once: bool) {
        let stamp = stamp(&self.folder);
        let (settled, now_ms) = (at_once || turn.seen == stamp, clock::now_ms());
        let again = at_once || turn.again_ms.is_some_and(|at| at <= now_ms);
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
        (turn.done, turn.again_ms) = (stamp, again.then(|| now_ms.saturating_add(AGAIN_MS)));
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
        let Some(next) = self.rules(next) else { return };
        self.shared.put_in_force(
            next,
            Taken { hash, since_ms: clock::now_ms(), roster_version, cause: String::new() },
        );
    }

    /// Each file of `keysets/` is taken or refused, and gets a name that says which.
    fn look_at_keysets(&self, at_once: bool) {
        let folder = self.folder.path(KEYSETS);
        let Ok(entries) = fs::read_dir(&folder) else { return };
        let is_new = |path: &Path| path.extension().is_some_and(|extension| extension == "bin");
        let mut paths: Vec<_> =
            entries.flatten().map(|entry| entry.path()).filter(|path| is_new(path)).collect();
        paths.sort();
        for path in paths.iter().take(KEYSETS_MAX) {
            let settled =
                fs::metadata(path).is_ok_and(|there| clock::now_ms().abs_diff(modified(&there)) > LOOK_MS);
            if settled || at_once {
                self.take_keyset_file(path);
            }
        }
    }

    #[allow(clippy::disallowed_methods, reason = "the folder is synced after the rename")]
    fn take_keyset_file(&self, path: &Path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = match read(path, limits::KEYSET_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) => return tracing::error!(%error, "a keyset cannot be read"),
        };
        let (verdict, text) = match opened(&bytes) {
            Some((signed, keyset)) => match self.take_keyset(&signed, &keyset.agency) {
                Ok(()) => ("taken", String::new()),
                Err(trouble @ (Trouble::Disk(_) | Trouble::Held(_))) => {
                    return tracing::error!(%trouble, name, "a keyset is taken later");
                }
                Err(trouble) => ("refused", trouble.to_string()),
            },
            None => ("refused", "it is no keyset".to_owned()),
        };
        if verdict == "taken" {
            tracing::info!(name, "a keyset was taken");
        } else {
            self.shared.metrics.keysets_refused.add(1);
            tracing::error!(
                name,
                text,
                "a keyset is refused; the one in force stays. Ask the agency for another"
            );
        }
        let renamed = fs::rename(path, path.with_extension(format!("bin.{verdict}")));
        if let Err(error) = renamed.and_then(|()| path.parent().map_or(Ok(()), sync_folder)).map_err(at(path))
        {
            tracing::error!(%error, "a keyset that was dealt with cannot be renamed; take it away");
        }
    }

    fn put_in_turn(&self, turn: &mut Turn, bringer: &str, bytes: &Bytes) -> (Reason, String) {
        let now_ms = clock::now_ms();
        let refused = |reason, text: &str| {
            self.shared.metrics.keysets_refused.add(1);
            (reason, sentence(text))
        };
        let wait = |wait_ms: u64| {
            let seconds = wait_ms.div_ceil(1_000);
            refused(
                Reason::Quota,
                &format!("Too many keysets for now; the broker takes the next one in {seconds} s."),
            )
        };
        if turn.puts.wait_ms(bringer, now_ms) > 0 {
            return wait(turn.puts.wait_ms(bringer, now_ms));
        }
        turn.puts.count(bringer, now_ms);
        let Some((signed, keyset)) = opened(bytes) else {
            return refused(Reason::Malformed, "The broker could not read the keyset.");
        };
        let (directory, agency) = (self.shared.directory(), keyset.agency.as_str());
        let revokes = is_empty(&keyset) && !directory.is_self_revoked(agency);
        if directory.member(agency).is_none() {
            let text = "The keyset is of no active member of the region; ask the region authority.";
            return refused(Reason::UnknownSender, text);
        }
        if !revokes && turn.changes.wait_ms(agency, now_ms) > 0 {
            return wait(turn.changes.wait_ms(agency, now_ms));
        }
        match self.take_keyset(&signed, agency) {
            Ok(()) => {
                if !Arc::ptr_eq(&directory, &self.shared.directory()) {
                    turn.changes.count(agency, now_ms);
                }
                (Reason::Accepted, String::new())
            }
            Err(Trouble::Refused(error)) => refused(
                reason_of_succession(&error),
                &format!("The broker does not take the keyset, the one before stays in force: {error}."),
            ),
            Err(trouble @ Trouble::Held(_)) => refused(Reason::Quota, &trouble.to_string()),
            Err(trouble @ (Trouble::Disk(_) | Trouble::NotInForce { .. })) => {
                tracing::error!(%trouble, "a keyset could not be taken");
                refused(
                    Reason::DiskFull,
                    "The broker could not store the keyset; bring it again, or tell its operator.",
                )
            }
        }
    }

    fn take_keyset(&self, signed: &SignedKeyset, agency: &str) -> Result<(), Trouble> {
        let present = self.shared.directory();
        if present.held().iter().any(|held| held.agency == agency) {
            return Err(Trouble::Held(agency.to_owned()));
        }
        let next = present.with_keyset(signed).map_err(|error| Trouble::Refused(Box::new(error)))?;
        self.take_up(next, &[], agency)
    }

    /// Makes a directory durable and puts it in force. `cause` is the agency whose keyset made it, or empty.
    fn take_up(&self, next: Directory, steps: &[Bytes], cause: &str) -> Result<(), Trouble> {
        let (present, now_ms) = (self.shared.directory(), clock::now_ms());
        if next.bytes() == present.bytes() {
            return Ok(());
        }
        let version = next.roster().version;
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
        if let Some(next) = self.rules(next) {
            self.shared.put_in_force(next, taken);
        }
        Ok(())
    }

    /// A directory with the policies under its roster. Its baseline was read with it, so this does not fail.
    fn rules(&self, directory: Directory) -> Option<Rules> {
        let known: Vec<_> = self.shared.rules().policies().bundles().cloned().collect();
        let policies = Policies::new(directory.shared_roster(), known, clock::now_ms());
        let policies =
            policies.inspect_err(|problem| tracing::error!(%problem, "the baseline cannot be read")).ok()?;
        Some(Rules::new(Arc::new(directory), Arc::new(policies)))
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

fn opened(bytes: &Bytes) -> Option<(SignedKeyset, Keyset)> {
    let signed: SignedKeyset = canonical::decode(bytes, limits::KEYSET_BYTES_MAX).ok()?;
    let keyset = canonical::decode(&signed.keyset, limits::KEYSET_BYTES_MAX).ok()?;
    Some((signed, keyset))
}

fn is_empty(keyset: &Keyset) -> bool {
    keyset.transport_keys.is_empty() && keyset.packet_keys.is_empty() && keyset.encryption_keys.is_empty()
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
