//! A broker for the simulator: the core of this crate, the real journal, and the real files of the audit log, on simulated
//! disks, without thread, clock or socket. What stands here takes the place of the sequencer (`round`), the sessions
//! (`session`) and the publisher (`publish`), and does in the same order what they do. Attachments, slot keys, reads,
//! erasures, witnesses and the keeper of the directory are left out.
//!
//! As in the broker itself, a group is folded in when it has its sequence, and becomes durable later: [`SimBroker::write`].

mod publish;
mod round;
mod session;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use lintas_config::{Directory, clock::Reading, issue};
use lintas_journal::{ByHand, Depth, Journal, Limits, NewRecord, Reader, SimDisk};
use lintas_proto::{
    frame::FrameType,
    schema::{BrokerSecrets, PublishedLog},
    sign::{KeyRole, SigningKey},
};
use rand_core::CryptoRng;

pub use self::publish::AuditDisk;
use self::{publish::Publishing, round::Intake, session::Session};
use super::{
    leavers::Leavers,
    log::Fresh,
    recover::Folding,
    sequencer::{Logbook, Refusals},
};
use crate::core::{
    agreement::Agreement, earlier::Earlier, ledger::Ledger, quota::Quota, refuse::Speaker, rules::Generation,
    rules::Rules,
};

/// The process must stop, and begin anew with what is on its disks.
#[derive(Debug)]
pub struct Stopped(pub String);

/// What the outside world gives to a piece of work.
pub struct Hands<'a> {
    /// In force.
    pub rules: &'a Rules,
    /// Directories that packets may name.
    pub earlier: &'a Earlier,
    /// This machine's clock.
    pub now_ms: u64,
    /// How long this machine runs.
    pub boot_ms: u64,
    /// Randomness.
    pub entropy: &'a mut dyn CryptoRng,
}

impl Hands<'_> {
    fn reading(&self) -> Reading {
        Reading { wall_ms: self.now_ms, boot_ms: self.boot_ms }
    }
}

impl std::fmt::Debug for Hands<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hands {{ now_ms: {}, .. }}", self.now_ms)
    }
}

/// What an operator sets, and who the broker is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its keys.
    pub secrets: BrokerSecrets,
    /// Its region.
    pub region: String,
    /// Of the journal.
    pub limits: Limits,
    /// Packets that an agency may submit a minute; 0 for any number.
    pub submissions_per_minute: u32,
    /// Most entries of a queue.
    pub queue_entries_max: u32,
    /// Most unacknowledged deliveries of a session.
    pub credit: usize,
}

/// A frame on its way to a node.
pub type Frame = (FrameType, Bytes);

/// An answer that waits for a record to be durable.
#[derive(Debug)]
struct Waiting {
    record: u64,
    session: u64,
    what: Answer,
}

#[derive(Debug)]
enum Answer {
    Frame(Frame),
    /// The receipt in the admission of that record.
    Again(u64),
}

/// In whose name it signs.
#[derive(Debug)]
struct Voice {
    region: String,
    name: String,
    key: SigningKey,
}

impl Voice {
    fn speaker(&self, generation: Generation) -> Speaker<'_> {
        Speaker { region: &self.region, broker: &self.name, log: &self.name, key: &self.key, generation }
    }
}

/// A broker.
#[derive(Debug)]
pub struct SimBroker {
    voice: Voice,
    credit: usize,
    journal: ByHand<SimDisk>,
    reader: Reader<SimDisk>,
    ledger: Ledger,
    /// Last record handed to the journal, and last durable one.
    last_sequence: u64,
    durable: u64,
    /// Last records of rounds that are not durable.
    rounds: VecDeque<u64>,
    quota: Quota,
    refusals: Refusals,
    leavers: Leavers,
    logbook: Logbook,
    /// Rules of which members, keysets and bundles are in the ledger.
    told: Option<Generation>,
    /// The journal was full when it was asked last.
    short: bool,
    intake: Vec<Intake>,
    sessions: BTreeMap<u64, Session>,
    /// Whether the clock is to be acted upon.
    agreement: Agreement,
    waiting: VecDeque<Waiting>,
    fresh: Fresh,
    publishing: Publishing,
    /// Records handed to the journal since somebody asked.
    handed: Vec<(u64, NewRecord)>,
}

impl SimBroker {
    /// Recovers from the disks.
    ///
    /// # Errors
    /// [`Stopped`]: a disk failed, or what is on it cannot be used.
    pub fn open(
        disk: SimDisk,
        audit: &AuditDisk,
        settings: &Settings,
        depth: Depth,
        now: Reading,
        directory: &Directory,
    ) -> Result<Self, Stopped> {
        let mut fold = Folding::default();
        let (journal, _) =
            Journal::open_untended(disk, settings.limits.clone(), None, &mut fold, depth).map_err(stopped)?;
        let durable = journal.next_sequence().saturating_sub(1);
        let journal = ByHand::new(journal);
        let seed = issue::seed("receipt", &settings.secrets.receipt_seed).map_err(stopped)?;
        let name = settings.secrets.name.clone();
        let publishing = Publishing::open(audit, &name, durable)?;
        let (last_ms, holds) = (fold.ledger.time_at(0), directory.at(now.wall_ms).in_force());
        let agreement = Agreement::begin(now, last_ms, holds);
        let key = SigningKey::from_seed(KeyRole::Receipt, &seed).map_err(stopped)?;
        Ok(Self {
            voice: Voice { region: settings.region.clone(), name, key },
            credit: settings.credit,
            reader: journal.reader(),
            journal,
            ledger: fold.ledger,
            last_sequence: durable,
            durable,
            rounds: VecDeque::new(),
            quota: Quota::new(settings.submissions_per_minute, settings.queue_entries_max),
            refusals: Refusals::default(),
            leavers: Leavers::default(),
            logbook: Logbook::default(),
            told: None,
            short: false,
            intake: Vec::new(),
            sessions: BTreeMap::new(),
            agreement,
            waiting: VecDeque::new(),
            fresh: Fresh::default(),
            publishing,
            handed: Vec::new(),
        })
    }

    /// One write of the committer: what it makes durable is answered. False if nothing waited.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn write(&mut self) -> Result<bool, Stopped> {
        let Some(committed) = self.journal.write().map_err(stopped)? else { return Ok(false) };
        self.is_durable(committed.last_sequence)?;
        Ok(true)
    }

    fn is_durable(&mut self, sequence: u64) -> Result<(), Stopped> {
        self.durable = sequence;
        while self.rounds.front().is_some_and(|last| *last <= sequence) {
            self.rounds.pop_front();
        }
        let waiting = std::mem::take(&mut self.waiting);
        for Waiting { record, session, what } in waiting {
            if record > sequence {
                self.waiting.push_back(Waiting { record, session, what });
                continue;
            }
            let frame = match what {
                Answer::Frame(frame) => Some(frame),
                Answer::Again(admission) => self.receipt(admission)?,
            };
            self.say(session, frame);
        }
        Ok(())
    }

    /// A turn of the journal's tender.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn tend(&mut self) -> Result<(), Stopped> {
        self.journal.tend().map_err(stopped)
    }

    /// What is folded so far, also what is not durable.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Last record handed to the journal, and last durable one.
    #[must_use]
    pub fn reached(&self) -> (u64, u64) {
        (self.last_sequence, self.durable)
    }

    /// How far the audit log is published.
    #[must_use]
    pub fn published(&self) -> Option<&PublishedLog> {
        self.publishing.published()
    }

    /// Whether the journal had no room when it was asked last.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.short
    }

    /// Live segments of the journal.
    #[must_use]
    pub fn segments(&self) -> u64 {
        self.journal.segments()
    }

    /// Records handed to the journal since this was asked last.
    pub fn take_handed(&mut self) -> Vec<(u64, NewRecord)> {
        std::mem::take(&mut self.handed)
    }

    /// The record of that sequence, as it is on the disk; none if it has gone.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn record(&self, sequence: u64) -> Result<Option<lintas_journal::Record>, Stopped> {
        match self.reader.read(sequence) {
            Ok(record) => Ok(Some(record)),
            Err(lintas_journal::ReadError::NotFound { .. }) => Ok(None),
            Err(error) => Err(stopped(error)),
        }
    }
}

fn stopped(error: impl std::fmt::Display) -> Stopped {
    Stopped(error.to_string())
}
