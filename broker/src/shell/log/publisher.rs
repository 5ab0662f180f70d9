//! The publisher: a thread that follows the durable records, publishes each epoch, and signs what is published.
//!
//! It never reads beyond what is durable, and it says what is published only after that is durable too. On a full disk it
//! waits, and packets go on as long as the journal has room. Whatever else it cannot do stops the broker.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, thread::JoinHandle, time::Duration};

use lintas_journal::{ReadError, Record};
use lintas_proto::{
    audit::{
        files::LogFile,
        note::{Checkpoint, NoteError, SignedCheckpoint, log_name, root_origin},
    },
    receipt::sub_log_origin,
    schema::PublishedLog,
};
use rand_core::CryptoRng;
use thiserror::Error;
use tokio::{runtime::Handle, sync::watch, time::sleep};

use super::{
    super::{clock, shared::Shared},
    disk::{Disk, Files},
    files::{FilesError, LogFiles, digest, told},
};
use crate::core::{
    log::{
        LogError,
        fold::LogFold,
        publication::{Publication, Target},
    },
    record::{Fact, RecordError},
};

/// How long a full disk is waited for before the next attempt, milliseconds.
const FULL_MS: u64 = if cfg!(test) { 100 } else { 30_000 };
/// What becomes durable within this time is folded together, milliseconds: to be woken for each group would take the
/// processor from those who accept packets.
const PAUSE_MS: u64 = 20;
/// Bytes of the journal that are read at a time: some hundred records.
const RUN_BYTES_MAX: u32 = 256 * 1024;

/// Why the log is not published any more.
#[derive(Debug, Error)]
pub(crate) enum PublishError {
    /// On the disk.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// A record that does not follow.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A record that cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A record that is none.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A record that the log still needs is gone.
    #[error(
        "record {0} is gone from the journal before it was published; restore audit/ together with journal/ from one \
         backup"
    )]
    Lost(u64),
    /// The journal is older than the log.
    #[error(
        "the journal ends at record {durable}, and audit/ was published up to record {published}: one of them comes from \
         a backup; restore audit/ together with journal/ from one backup"
    )]
    Behind {
        /// Last record of the journal.
        durable: u64,
        /// Last record that is published.
        published: u64,
    },
    /// A checkpoint that cannot be signed.
    #[error("the log's checkpoint cannot be signed: {0}")]
    Sign(#[from] NoteError),
    /// The system gives no thread.
    #[error("system: {0}")]
    Thread(std::io::Error),
}

/// The running publisher.
#[derive(Debug)]
pub(crate) struct Publisher {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Publisher {
    /// Reads and checks what is published, then starts the thread.
    pub(crate) fn start(shared: &Arc<Shared>, audit: PathBuf) -> Result<Self, PublishError> {
        let disk = Files::open(audit).map_err(|error| FilesError::Io { path: String::new(), error })?;
        let stop = watch::Sender::new(false);
        let publishing = Publishing::resume(Arc::clone(shared), disk, stop.subscribe())?;
        let runtime = Handle::current();
        let thread = std::thread::Builder::new().name("publisher".to_owned());
        let thread = thread.spawn(move || publishing.run(&runtime)).map_err(PublishError::Thread)?;
        Ok(Self { stop, thread })
    }

    /// Waits for what is being published. Before the journal is closed.
    pub(crate) fn stop(self) {
        self.stop.send_replace(true);
        // A thread that panicked has said so.
        let _ = self.thread.join();
    }
}

/// The thread's own state.
struct Publishing<D> {
    shared: Arc<Shared>,
    files: LogFiles<D>,
    fold: LogFold,
    /// The record to read next.
    next: u64,
    /// Number of the log and size that was signed last, of the root log.
    signed: (u64, u64),
    /// The same, of the sub-logs.
    signed_sub_logs: BTreeMap<String, (u64, u64)>,
    /// The disk was full at the last attempt.
    is_full: bool,
    stop: watch::Receiver<bool>,
}

/// Tells the process when the publisher ends by a panic.
struct Alarm(Arc<Shared>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(&"the publisher of the audit log panicked; this is a defect");
        }
    }
}

impl<D: Disk> Publishing<D> {
    fn resume(shared: Arc<Shared>, disk: D, stop: watch::Receiver<bool>) -> Result<Self, PublishError> {
        let (files, fold) = LogFiles::resume(disk, &shared.broker)?;
        let published = files.published().map(told).unwrap_or_default();
        let durable = *shared.durable.borrow();
        if published.sequence > durable {
            return Err(PublishError::Behind { durable, published: published.sequence });
        }
        shared.log.published.send_replace(published);
        let next = published.sequence.saturating_add(1);
        let signed_sub_logs = match files.published() {
            Some(state) => signed_sub_logs(&files, state)?,
            None => BTreeMap::new(),
        };
        Ok(Self { shared, files, fold, next, signed: (0, 0), signed_sub_logs, is_full: false, stop })
    }

    fn run(mut self, runtime: &Handle) {
        let _alarm = Alarm(Arc::clone(&self.shared));
        loop {
            let worked = if self.is_full { self.again() } else { Ok(()) };
            match worked.and_then(|()| self.work()) {
                Ok(()) => {}
                Err(PublishError::Files(error)) if error.is_full() => {
                    tracing::error!(
                        %error,
                        "the disk is full: the audit log is not published, and what was promised is late; packets go on \
                         while the journal has room. Make room now"
                    );
                    self.is_full = true;
                    self.shared.metrics.log_full(true);
                }
                Err(error) => {
                    self.shared.fail(&error);
                    return;
                }
            }
            if !runtime.block_on(self.wait()) {
                return;
            }
        }
    }

    /// After a full disk: what was begun is written again.
    fn again(&mut self) -> Result<(), PublishError> {
        self.fold = self.files.again(&self.shared.broker)?;
        self.next = self.files.published().map_or(0, |state| state.sequence).saturating_add(1);
        self.tell();
        self.work()?;
        self.is_full = false;
        self.shared.metrics.log_full(false);
        tracing::info!("the disk has room; the audit log is published again");
        Ok(())
    }

    /// Until there is something to do; false at the end.
    async fn wait(&mut self) -> bool {
        let (mut durable, mut failed) = (self.shared.durable.subscribe(), self.shared.failed.subscribe());
        let mut may_sign = self.shared.log.may_sign.subscribe();
        let (next, newest) = (self.next, self.files.published().map(|state| (state.ended, state.epochs)));
        let unsigned = newest.is_some_and(|newest| newest != self.signed);
        let more = async {
            let _ = durable.wait_for(|durable| *durable >= next).await;
            sleep(Duration::from_millis(PAUSE_MS)).await;
        };
        tokio::select! {
            biased;
            _ = self.stop.wait_for(|stop| *stop) => false,
            _ = failed.wait_for(|failed| *failed) => false,
            () = sleep(Duration::from_millis(FULL_MS)), if self.is_full => true,
            () = more, if !self.is_full => true,
            _ = may_sign.wait_for(|may| *may), if unsigned && !self.is_full => true,
        }
    }

    /// Publishes what is durable now, then signs the newest of it.
    fn work(&mut self) -> Result<(), PublishError> {
        let (durable, mut entropy) = (*self.shared.durable.borrow(), lintas_config::os_entropy());
        while self.next <= durable && !self.is_over() {
            let fresh = self.shared.log.fresh.take(self.next, durable);
            for (sequence, events) in &fresh {
                let publication = self.fold.apply_events(*sequence, events, &mut entropy)?;
                self.publish(publication)?;
                self.next = sequence.saturating_add(1);
            }
            if fresh.is_empty() {
                self.read_on(self.shared.log.fresh.read_until(durable), &mut entropy)?;
            }
        }
        if self.is_over() { Ok(()) } else { self.sign() }
    }

    /// Folds in the next records of the journal, up to `last`: as many as one read gives.
    fn read_on(&mut self, last: u64, entropy: &mut dyn CryptoRng) -> Result<(), PublishError> {
        let records = self.records(last)?;
        if records.is_empty() {
            self.next += 1;
        }
        for record in records {
            let publication = self.fold.apply(self.next, &Fact::from_record(&record)?, entropy)?;
            self.publish(publication)?;
            self.next += 1;
        }
        Ok(())
    }

    fn publish(&mut self, publication: Option<Publication>) -> Result<(), PublishError> {
        let Some(publication) = publication else { return Ok(()) };
        let is_end = publication.end.is_some();
        self.files.publish(publication)?;
        if is_end {
            self.tell();
        }
        Ok(())
    }

    /// Whether the broker stops, or is gone.
    fn is_over(&self) -> bool {
        *self.stop.borrow() || self.stop.has_changed().is_err() || *self.shared.failed.borrow()
    }

    /// The next records, up to `durable`; none if nobody needs the next one and it is gone.
    fn records(&self, durable: u64) -> Result<Vec<Record>, PublishError> {
        let next = self.next;
        match self.shared.reader.read_run(next, durable, RUN_BYTES_MAX) {
            Ok(records) => Ok(records),
            // A packet, say. What the log needs is kept until it is published; without it the indices have a gap.
            Err(ReadError::NotFound { .. }) if self.shared.ledger().spent().contains(next, u64::MAX) => {
                Ok(Vec::new())
            }
            Err(ReadError::NotFound { .. }) => Err(PublishError::Lost(next)),
            Err(error) => Err(error.into()),
        }
    }

    fn tell(&self) {
        if let Some(state) = self.files.published() {
            self.shared.metrics.published(clock::shown_ms());
            self.shared.log.published.send_replace(told(state));
        }
    }

    /// Signs the newest checkpoints, if that is allowed: of the sub-logs that changed, then of the root log.
    fn sign(&mut self) -> Result<(), PublishError> {
        let shared = Arc::clone(&self.shared);
        // Nothing more is said of a log that has ended: this may be a backup of it.
        let number = shared.ledger().audit().number();
        let may_sign = |state: &&PublishedLog| *shared.log.may_sign.borrow() && state.ended == number;
        let Some(state) = self.files.published().filter(may_sign).cloned() else {
            return Ok(());
        };
        let newest = (state.ended, state.epochs);
        if self.signed == newest {
            return Ok(());
        }
        let name = log_name(&shared.broker, usize::try_from(state.ended).unwrap_or(usize::MAX));
        let (mut notes, mut signed) = (Vec::new(), Vec::new());
        for log in &state.sub_logs {
            if self.signed_sub_logs.get(&log.agency) == Some(&(state.ended, log.size)) {
                continue;
            }
            let (origin, root) = (sub_log_origin(&name, &log.agency), digest(&log.root).unwrap_or_default());
            let note = SignedCheckpoint::sign(Checkpoint { origin, size: log.size, root }, &shared.log.key)?;
            notes.push((checkpoint(&state, &log.agency).to_string(), note.to_bytes().to_vec()));
            signed.push((log.agency.clone(), (state.ended, log.size)));
        }
        if !notes.is_empty() {
            self.files.replace(&notes)?;
        }
        self.signed_sub_logs.extend(signed);
        let root = digest(&state.root).unwrap_or_default();
        let head = Checkpoint { origin: root_origin(&name), size: state.epochs, root };
        let head = SignedCheckpoint::sign(head, &shared.log.key)?;
        self.signed = newest;
        shared.log.head.send_replace(Some(Arc::new(head)));
        Ok(())
    }
}

fn checkpoint(state: &PublishedLog, agency: &str) -> Target {
    Target { ended: state.ended, agency: Some(agency.to_owned()), file: LogFile::Checkpoint }
}

/// Sizes that the sub-logs' checkpoints show. Only what this process reads itself: a damaged one is written again.
fn signed_sub_logs<D: Disk>(
    files: &LogFiles<D>,
    state: &PublishedLog,
) -> Result<BTreeMap<String, (u64, u64)>, FilesError> {
    let mut signed = BTreeMap::new();
    for log in &state.sub_logs {
        let note = files.read(&checkpoint(state, &log.agency))?;
        let note = note.and_then(|note| SignedCheckpoint::parse(&note).ok());
        if let Some(note) = note.filter(|note| note.claim().root == *log.root) {
            signed.insert(log.agency.clone(), (state.ended, note.claim().size));
        }
    }
    Ok(signed)
}
