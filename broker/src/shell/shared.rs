//! What the sequencer and the sessions share.

use std::{
    collections::HashMap,
    fmt::Display,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use bytes::Bytes;
use lintas_config::Directory;
use lintas_journal::{FileDisk, ReadError, Reader};
use lintas_proto::{
    audit::note::log_name,
    canonical,
    id::Digest,
    limits,
    schema::{Member, StoredAdmission, Submission},
    sign::SigningKey,
};
use thiserror::Error;
use tokio::sync::{Semaphore, watch};

use super::{
    answer::AnswerTo, blobs::Blobs, clock::Clock, folder::Folder, in_force::InForce, log::LogState,
    metrics::Metrics, policies::Store, recent::Recent,
};
use crate::core::{
    earlier::Earlier,
    hand_over::UnreadableError,
    leave::Sought,
    ledger::Ledger,
    queue::Queue,
    record::{Fact, RecordError},
    refuse::{Refused, Speaker},
    rules::Rules,
};

/// Most bytes of submissions that all sessions together have handed to the sequencer; more wait.
pub(crate) const INTAKE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A record that must be there and cannot be used.
#[derive(Debug, Error)]
pub(crate) enum StoredError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("the packet of record {sequence}: {error}")]
    Unreadable { sequence: u64, error: UnreadableError },
    #[error("record {sequence} is not {expected}")]
    Other { sequence: u64, expected: &'static str },
}

/// Shared state.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Changed by the sequencer only, when the journal has taken the records.
    ledger: RwLock<Ledger>,
    /// In force. Read afresh for each piece of work.
    pub(super) in_force: InForce,
    /// Release policies of the agencies, in force and to come.
    pub(super) policies: Store,
    /// Directories under which a packet may have been sealed before it waited, the one in force included.
    pub(super) earlier: RwLock<Earlier>,
    /// Counts the changes of what is in force.
    pub(crate) changed: watch::Sender<u64>,
    /// Hash of the directory under which the sequencer has ended what waited for whoever has left.
    sought: Mutex<Sought>,
    /// Why the operator's directory is not in force, if so.
    refused_directory: Mutex<Option<String>>,
    region: String,
    pub(crate) broker: String,
    /// Name of the present log: the first part of its origins. It cannot change while the broker runs.
    pub(crate) log_name: String,
    pub(crate) receipt_key: SigningKey,
    /// Of the audit log.
    pub(crate) log: LogState,
    pub(crate) blobs: Blobs,
    pub(crate) reader: Reader<FileDisk>,
    /// What the journal was given last.
    pub(crate) recent: Recent,
    /// Most unacknowledged deliveries of one session.
    pub(crate) credit: usize,
    /// Highest record that is durable; nothing above it is shown to anybody.
    pub(crate) durable: watch::Sender<u64>,
    /// Rung for an agency's session when its queue has changed and the change is durable. One a member.
    bells: RwLock<HashMap<String, watch::Sender<()>>>,
    /// What is left of [`INTAKE_BYTES_MAX`].
    pub(crate) intake_bytes: Arc<Semaphore>,
    pub(crate) metrics: Metrics,
    /// What time it is, and whether anything may be done by it.
    pub(crate) clock: Clock,
    /// Set when sessions are to answer what they have taken, and end.
    pub(crate) stopping: watch::Sender<bool>,
    /// Set when the journal failed: the process must stop.
    pub(crate) failed: watch::Sender<bool>,
}

impl Shared {
    /// Starts from what recovery folded; `durable` is its last record.
    pub(crate) fn new(parts: Parts, durable: u64) -> Self {
        let Parts {
            ledger,
            rules,
            policies,
            earlier,
            broker,
            receipt_key,
            log_key,
            folder,
            blobs,
            reader,
            credit,
            clock,
        } = parts;
        let metrics = Metrics::default();
        let ended = usize::try_from(ledger.audit().number()).unwrap_or(usize::MAX);
        metrics.handed_over(durable);
        Self {
            bells: RwLock::new(rules.directory().roster().members.iter().map(bell).collect()),
            ledger: RwLock::new(ledger),
            region: rules.directory().roster().region.clone(),
            in_force: InForce::new(rules),
            policies,
            earlier: RwLock::new(earlier),
            changed: watch::Sender::new(0),
            sought: Mutex::default(),
            refused_directory: Mutex::new(None),
            log_name: log_name(&broker, ended),
            broker,
            receipt_key,
            log: LogState::new(log_key, folder),
            blobs,
            reader,
            recent: Recent::default(),
            credit,
            durable: watch::Sender::new(durable),
            intake_bytes: Arc::new(Semaphore::new(INTAKE_BYTES_MAX)),
            metrics,
            clock,
            stopping: watch::Sender::new(false),
            failed: watch::Sender::new(false),
        }
    }

    /// The ledger, to look at. Held for moments only, never across an await.
    pub(crate) fn ledger(&self) -> RwLockReadGuard<'_, Ledger> {
        self.ledger.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ledger, to fold a record in. For the sequencer only, and never while it waits for the journal.
    pub(super) fn ledger_mut(&self) -> RwLockWriteGuard<'_, Ledger> {
        self.ledger.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The directory in force now.
    pub(crate) fn directory(&self) -> Arc<Directory> {
        Arc::clone(self.rules().directory())
    }

    /// Roster version of a directory that packets may name.
    pub(crate) fn named(&self, hash: &Digest, now_ms: u64) -> Option<u64> {
        self.earlier.read().unwrap_or_else(PoisonError::into_inner).roster_version(hash, now_ms)
    }

    /// Makes a bell for each member that has none.
    pub(super) fn hang_bells(&self, directory: &Directory) {
        let mut bells = self.bells.write().unwrap_or_else(PoisonError::into_inner);
        for member in &directory.roster().members {
            if !bells.contains_key(&member.agency) {
                bells.extend([bell(member)]);
            }
        }
    }

    /// See [`owes_nothing_to_held`](Self::owes_nothing_to_held). For the sequencer only.
    pub(super) fn sought(&self) -> MutexGuard<'_, Sought> {
        self.sought.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no packet waits any more for an agency that `directory` holds, nor will after a power cut, and none
    /// planned before can follow.
    pub(super) fn owes_nothing_to_held(&self, directory: &Directory) -> bool {
        let sought = *self.sought();
        let ledger = self.ledger();
        let waits = |agency: &str| ledger.queue(agency).is_some_and(Queue::has_packets);
        sought.is_over(directory.hash(), *self.durable.borrow())
            && !directory.held().iter().any(|held| waits(&held.agency))
    }

    /// Remembers why the operator's directory is not taken, and says it once.
    pub(super) fn refuse_directory(&self, why: Option<String>) {
        let mut refused = self.refused_directory.lock().unwrap_or_else(PoisonError::into_inner);
        if *refused == why {
            return;
        }
        if let Some(why) = &why {
            tracing::error!(
                "{why}. Put the newest directory of the region authority there, and rosters that were missed into \
                 directory-steps"
            );
            self.metrics.directories_refused.add(1);
        }
        *refused = why;
    }

    /// Why the operator's directory is not in force, if so.
    pub(crate) fn refused_directory(&self) -> Option<String> {
        self.refused_directory.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells the sessions of these agencies that their queues have changed.
    pub(crate) fn ring(&self, agencies: &[String]) {
        let bells = self.bells.read().unwrap_or_else(PoisonError::into_inner);
        for bell in agencies.iter().filter_map(|agency| bells.get(agency)) {
            bell.send_replace(());
        }
    }

    /// An agency's bell; one that is not a member has none, and no session.
    pub(crate) fn bell(&self, agency: &str) -> Option<watch::Receiver<()>> {
        let bells = self.bells.read().unwrap_or_else(PoisonError::into_inner);
        bells.get(agency).map(watch::Sender::subscribe)
    }

    /// The broker as a speaker, now.
    pub(crate) fn speaker(&self) -> Speaker<'_> {
        self.speaker_under(&self.rules())
    }

    /// The broker as a speaker under these rules.
    pub(crate) fn speaker_under(&self, rules: &Rules) -> Speaker<'_> {
        Speaker {
            region: &self.region,
            broker: &self.broker,
            log: &self.log_name,
            key: &self.receipt_key,
            generation: rules.generation(),
        }
    }

    /// Refuses a submission, and counts it.
    pub(crate) fn refuse(&self, answer: AnswerTo, refused: &Refused, now_ms: u64) {
        self.metrics.refused(refused.reason);
        answer.refuse(refused, &self.speaker(), now_ms);
    }

    fn fact(&self, sequence: u64) -> Result<Arc<Fact>, StoredError> {
        match self.recent.get(sequence) {
            Some(fact) => Ok(fact),
            None => Ok(Arc::new(Fact::from_record(&self.reader.read(sequence)?)?)),
        }
    }

    /// Something of a stored admission.
    pub(crate) fn admission<T>(
        &self,
        sequence: u64,
        look: impl FnOnce(&StoredAdmission) -> T,
    ) -> Result<T, StoredError> {
        let fact = self.fact(sequence)?;
        let Fact::Admission(admission) = fact.as_ref() else { return Err(other(sequence, "an admission")) };
        Ok(look(admission))
    }

    /// The evidence in a stored outcome.
    pub(crate) fn evidence(&self, outcome: u64) -> Result<Bytes, StoredError> {
        let fact = self.fact(outcome)?;
        let Fact::Outcome(stored) = fact.as_ref() else { return Err(other(outcome, "an outcome")) };
        Ok(stored.evidence.clone())
    }

    /// The packet of an admission: it stands in the record just before.
    pub(crate) fn packet(&self, admission: u64) -> Result<Submission, StoredError> {
        let sequence = admission.saturating_sub(1);
        let fact = self.fact(sequence)?;
        let Fact::Packet(bytes) = fact.as_ref() else {
            return Err(other(sequence, "a packet"));
        };
        canonical::decode(bytes, limits::FRAME_BYTES_MAX)
            .map_err(|error| RecordError::Decode { sequence, error }.into())
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
    pub(crate) rules: Rules,
    pub(crate) policies: Store,
    pub(crate) earlier: Earlier,
    pub(crate) broker: String,
    pub(crate) receipt_key: SigningKey,
    pub(crate) log_key: SigningKey,
    pub(crate) folder: Folder,
    pub(crate) blobs: Blobs,
    pub(crate) reader: Reader<FileDisk>,
    pub(crate) credit: usize,
    pub(crate) clock: Clock,
}

fn bell(member: &Member) -> (String, watch::Sender<()>) {
    (member.agency.clone(), watch::Sender::new(()))
}

fn other(sequence: u64, expected: &'static str) -> StoredError {
    StoredError::Other { sequence, expected }
}
