//! The committer: one thread that owns the journal and turns everything pending into one write and one fsync.
//!
//! There is no timer. While one batch is being synced the next one gathers in the mailbox, so that the fsync
//! itself is the window. A second thread, the tender, makes the next segment ready and overwrites old ones. A third, the
//! verifier, reads what was sealed before the journal was opened, and ends.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use tracing::warn;

use crate::disk::Disk;
use crate::error::{CommitError, Damage, OpenError};
use crate::journal::{Journal, check_group};
use crate::limits::Limits;
use crate::mailbox::{Admitted, Mailbox, Work};
use crate::map::Reader;
use crate::sealed::Sealed;
use crate::space::Space;
use crate::verify::{Pane, verify};
use crate::{Anchor, Class, Committed, CompactReport, Compaction, NewRecord};

/// The committer's, as `nice` counts.
const PRIORITY: i32 = -10;
/// The verifier's: nobody waits for it.
const VERIFIER_PRIORITY: i32 = 19;

/// Answers one group, on the committer's thread: it must be quick and must not wait for the committer.
pub type Done = Box<dyn FnOnce(Result<Committed, CommitError>) + Send>;
pub(crate) type DoneCompact = Box<dyn FnOnce(Result<CompactReport, CommitError>) + Send>;
pub(crate) type DoneClose = Box<dyn FnOnce(Result<Anchor, CommitError>) + Send>;

/// The running committer. Dropped without [`Committer::close`], it finishes what is queued and leaves no mark
/// of a clean close.
#[derive(Debug)]
pub struct Committer<D: Disk> {
    handle: CommitHandle<D>,
    threads: Vec<JoinHandle<()>>,
}

/// Hands groups to the committer. Cheap to clone.
pub struct CommitHandle<D: Disk> {
    shared: Arc<Shared<D>>,
}

#[derive(Debug)]
struct Shared<D: Disk> {
    limits: Limits,
    space: Arc<Space<D>>,
    mailbox: Mailbox,
    reader: Reader<D>,
    tender: Bell,
    /// The verifier is to end.
    stopping: AtomicBool,
    /// What the verifier found.
    damage: OnceLock<OpenError>,
}

/// Wakes the tender.
#[derive(Debug, Default)]
struct Bell {
    state: Mutex<Rung>,
    rung: Condvar,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Rung {
    #[default]
    Silent,
    Tend,
    Stop,
}

impl<D: Disk> Committer<D> {
    /// Starts the threads.
    ///
    /// # Errors
    /// The operating system's, if it gives no thread.
    pub fn start(mut journal: Journal<D>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            limits: journal.limits.clone(),
            space: Arc::clone(&journal.space),
            mailbox: Mailbox::new(journal.next_sequence()),
            reader: journal.reader(),
            tender: Bell::default(),
            stopping: AtomicBool::new(false),
            damage: OnceLock::new(),
        });
        let mut committer =
            Self { handle: CommitHandle { shared: Arc::clone(&shared) }, threads: Vec::new() };
        let tended = Arc::clone(&shared);
        if tended.space.wants_tending() {
            tended.tender.ring(Rung::Tend);
        }
        committer.threads.push(spawn("journal-tender", move || tend(&tended))?);
        let unverified = std::mem::take(&mut journal.unverified);
        if !unverified.is_empty() {
            let verified = Arc::clone(&shared);
            let work = move || verify_all(&verified, &unverified);
            committer.threads.push(spawn("journal-verifier", work)?);
        }
        committer.threads.push(spawn("journal-committer", move || Desk { journal, shared }.run())?);
        Ok(committer)
    }

    /// A handle for an owner.
    #[must_use]
    pub fn handle(&self) -> CommitHandle<D> {
        self.handle.clone()
    }

    /// Finishes what is queued, marks a clean close, and returns once the directory is free again.
    ///
    /// # Errors
    /// `Poisoned`; `Closed` if a handle closed it before.
    pub fn close(self) -> Result<Anchor, CommitError> {
        self.handle.close()
    }
}

impl<D: Disk> Drop for Committer<D> {
    fn drop(&mut self) {
        self.handle.shared.mailbox.shut();
        self.handle.shared.stopping.store(true, Ordering::Relaxed);
        self.handle.shared.tender.ring(Rung::Stop);
        let here = std::thread::current().id();
        for thread in self.threads.drain(..).filter(|thread| thread.thread().id() != here) {
            // A panic of an owner's callback was reported by the thread itself, and poisoned the journal.
            let _ = thread.join();
        }
    }
}

impl<D: Disk> CommitHandle<D> {
    /// Queues a group and returns the sequence of its first record; the others follow. `done` is called once
    /// the group is durable, or the journal is poisoned.
    ///
    /// Room is reserved and the sequence given out in the order of the calls. A group that got a sequence
    /// fails only by poisoning, never for lack of room; so an owner may build on it at once, as long as it
    /// tells nobody before `done`. Waits while the mailbox is full.
    ///
    /// # Errors
    /// `Empty`, `ReservedKind`, `RecordTooLarge`, `GroupTooLarge`, `DiskFull`, `Poisoned`, `Closed`: no
    /// sequence was given out, and `done` is not called.
    pub fn commit(&self, group: Vec<NewRecord>, class: Class, done: Done) -> Result<u64, CommitError> {
        let shared = &self.shared;
        let bytes = check_group(&shared.limits, &group)?;
        let group = Admitted { records: group, first_sequence: 0, bytes, done };
        shared.mailbox.put(&shared.limits, &shared.space, class, group)
    }

    /// Commits a group and waits until it is durable. Not to be called from a [`Done`].
    ///
    /// # Errors
    /// As [`CommitHandle::commit`].
    pub fn commit_wait(&self, group: Vec<NewRecord>, class: Class) -> Result<Committed, CommitError> {
        let (send, answer) = sync_channel(1);
        self.commit(group, class, answer_to(send))?;
        wait(&answer)
    }

    /// Compacts, after what is queued and before what comes, and waits for it. See [`Journal::compact`].
    ///
    /// # Errors
    /// As [`Journal::compact`], and `Closed`.
    pub fn compact(&self, request: Compaction) -> Result<CompactReport, CommitError> {
        let (send, answer) = sync_channel(1);
        self.shared.mailbox.put_compaction(&self.shared.limits, request, answer_to(send))?;
        wait(&answer)
    }

    /// Finishes what is queued, accepts nothing more and marks a clean close. The directory stays locked until
    /// the [`Committer`] is dropped.
    ///
    /// # Errors
    /// `Poisoned`; `Closed` if it was closed before.
    pub fn close(&self) -> Result<Anchor, CommitError> {
        let (send, answer) = sync_channel(1);
        self.shared.mailbox.put_close(answer_to(send))?;
        wait(&answer)
    }

    /// A reader of everything durable.
    #[must_use]
    pub fn reader(&self) -> Reader<D> {
        self.shared.reader.clone()
    }

    /// Live segments, with the one being written.
    #[must_use]
    pub fn segments(&self) -> u64 {
        self.shared.reader.map.read().segments.len() as u64
    }

    /// The damage that was found in a sealed segment after opening, which has poisoned the journal.
    #[must_use]
    pub fn damage(&self) -> Option<&OpenError> {
        self.shared.damage.get()
    }

    /// The first damage of a sealed segment that somebody met who read a record, which has poisoned nothing.
    #[must_use]
    pub fn unreadable(&self) -> Option<&Damage> {
        self.shared.reader.map.unreadable.get().map(Box::as_ref)
    }

    /// Whether a write failed, or damage was found, so that nothing is accepted any more and the process should stop.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.shared.space.is_poisoned()
    }
}

impl<D: Disk> Clone for CommitHandle<D> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<D: Disk> fmt::Debug for CommitHandle<D> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("CommitHandle").field("poisoned", &self.is_poisoned()).finish_non_exhaustive()
    }
}

/// The committer's thread. It owns the journal.
struct Desk<D: Disk> {
    journal: Journal<D>,
    shared: Arc<Shared<D>>,
}

impl<D: Disk> Desk<D> {
    fn run(mut self) {
        come_first();
        while let Some(work) = self.shared.mailbox.take(&self.shared.limits) {
            match work {
                Work::Groups(groups) => self.commit(groups),
                Work::Compact(request, done) => {
                    let outcome = self.journal.compact_without_wiping(request);
                    self.answer(done, outcome);
                }
                Work::Close(done) => {
                    let outcome = self.journal.finish();
                    self.answer(done, outcome);
                }
            }
            if self.shared.space.wants_tending() {
                self.shared.tender.ring(Rung::Tend);
            }
        }
        // The tender may have stopped first; what is condemned must not outlive this use of the journal.
        if !self.shared.space.is_poisoned() && self.shared.space.tend().is_err() {
            warn!("old segments are not overwritten yet; the next opening does it");
        }
    }

    fn commit(&mut self, groups: Vec<Admitted>) {
        let in_order =
            groups.first().is_none_or(|group| group.first_sequence == self.journal.next_sequence());
        let outcome = if in_order {
            self.journal.write_admitted(groups.iter().map(|group| &*group.records))
        } else {
            Err(self.shared.space.poison("commit a batch", &"its sequences are not the next ones"))
        };
        for group in groups {
            let committed = Committed::new(group.first_sequence, group.records.len());
            self.answer(group.done, outcome.clone().map(|()| committed));
        }
    }

    /// Calls back an owner. If that panics the others are still told, but the owner's state is in doubt, and
    /// so nothing more is accepted.
    fn answer<T>(&self, done: impl FnOnce(T), outcome: T) {
        if catch_unwind(AssertUnwindSafe(|| done(outcome))).is_err() {
            self.shared.space.poison("answer a group", &"an owner's callback panicked");
        }
    }
}

impl<D: Disk> Drop for Desk<D> {
    /// After a regular end nothing is queued. Should the thread ever panic, everybody who waits is told, and
    /// the journal is poisoned, because nobody is left to write.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.space.poison("go on", &"the committer panicked");
        }
        for work in self.shared.mailbox.abandon() {
            match work {
                Work::Groups(groups) => {
                    groups.into_iter().for_each(|group| (group.done)(Err(CommitError::Poisoned)))
                }
                Work::Compact(_, done) => done(Err(CommitError::Poisoned)),
                Work::Close(done) => done(Err(CommitError::Poisoned)),
            }
        }
    }
}

/// Everybody waits for this thread, which itself mostly waits for the disk: it should get a processor at once. Where the
/// system does not allow that, it waits for its turn like all others.
fn come_first() {
    let thread = Some(rustix::thread::gettid());
    if let Err(error) = rustix::process::setpriority_process(thread, PRIORITY) {
        tracing::debug!(%error, "the committer runs at ordinary priority");
    }
}

/// The verifier's thread: what was opened by its indexes alone is read whole.
fn verify_all<D: Disk>(shared: &Shared<D>, unverified: &[Sealed]) {
    let thread = Some(rustix::thread::gettid());
    if let Err(error) = rustix::process::setpriority_process(thread, VERIFIER_PRIORITY) {
        tracing::debug!(%error, "the verifier runs at ordinary priority");
    }
    let (mut pane, mut bytes) = (Pane::default(), 0u64);
    for sealed in unverified {
        if shared.space.is_poisoned() {
            return;
        }
        let number = sealed.found.header.number;
        match verify(&shared.reader.disk, sealed, &mut pane, &shared.stopping) {
            Ok(true) => bytes = bytes.saturating_add(u64::from(sealed.end)),
            Ok(false) => return,
            // It went meanwhile, and its file with it.
            Err(_) if !shared.reader.map.read().segments.contains_key(&number) => {}
            Err(error) => {
                let error = shared.damage.get_or_init(|| error);
                shared.space.poison("verify a sealed segment", error);
                return;
            }
        }
    }
    tracing::info!(segments = unverified.len(), bytes, "the journal's sealed segments are verified");
}

/// The tender's thread.
fn tend<D: Disk>(shared: &Shared<D>) {
    while shared.tender.wait() == Rung::Tend {
        // An error has poisoned the journal; whoever commits next is told.
        if shared.space.is_poisoned() || shared.space.tend().is_err() {
            return;
        }
    }
}

impl Bell {
    fn ring(&self, how: Rung) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if *state != Rung::Stop {
            *state = how;
        }
        self.rung.notify_one();
    }

    fn wait(&self) -> Rung {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while *state == Rung::Silent {
            state = self.rung.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let how = *state;
        if how == Rung::Tend {
            *state = Rung::Silent;
        }
        how
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work)
}

fn answer_to<T: Send + 'static>(
    send: SyncSender<Result<T, CommitError>>,
) -> Box<dyn FnOnce(Result<T, CommitError>) + Send> {
    // Nobody waits any more if this fails, and then nobody needs the answer.
    Box::new(move |answer| drop(send.send(answer)))
}

fn wait<T>(answer: &Receiver<Result<T, CommitError>>) -> Result<T, CommitError> {
    // Without an answer the committer's thread is gone.
    answer.recv().unwrap_or(Err(CommitError::Poisoned))
}
