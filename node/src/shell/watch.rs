//! The largest verified checkpoint of each root log, on disk: `witness/<origin>`, the signed note. It is replaced only by
//! one that continues it, and is durable before anybody is told of it. To check and to keep are one step.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use lintas_config::{Directory, directory::Broker};
use lintas_proto::{audit::note::SignedCheckpoint, limits, schema::WitnessRequest, sign::VerifyingKey};
use tokio::sync::Notify;

use super::{files, folder::Folder};
use crate::core::log::{
    gossip::Waiting,
    standing::{Compared, Pair, Standing, Verdict, is_sound},
    witness::{Decision, decide},
};

/// Folder of the checkpoints.
const FOLDER: &str = "witness";

/// What is known of one log.
#[derive(Debug)]
enum Slot {
    Nothing,
    Known(Standing),
    /// The file is there and cannot be believed: nothing is taken in its place.
    Damaged(String),
}

/// A checkpoint that does not take the place of the one that is known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LearnError {
    /// Not signed by a present root log of the region, or not sound.
    #[error("the checkpoint is not one of a root log of this region: {0}")]
    NotSigned(String),
    /// The proof does not lead from what is known to it.
    #[error("the checkpoint with {new} entries is not proven to continue the one with {known}")]
    Unproven {
        /// Entries of the one that is known.
        known: u64,
        /// Of the one that was offered.
        new: u64,
    },
    /// It is of another tree; that was noted as a finding.
    #[error("the broker has signed two different logs; `lintas audit findings` shows what proves it")]
    Fork(Box<crate::core::log::findings::Finding>),
    /// The file that is there is damaged.
    #[error("{0}")]
    Damaged(String),
    /// It was not kept.
    #[error("the checkpoint was not kept: {0}")]
    Disk(#[from] std::io::Error),
}

/// What the node knows of the logs of its region.
#[derive(Debug)]
pub(crate) struct Watch {
    folder: PathBuf,
    logs: Mutex<BTreeMap<String, Slot>>,
    waiting: Mutex<Waiting>,
    /// Rung when something waits to be compared.
    pub(crate) compare: Notify,
    strangers: AtomicU64,
    unkept: AtomicU64,
}

impl Watch {
    /// Makes the folder if need be.
    pub(crate) fn open(folder: &Folder) -> std::io::Result<Self> {
        let folder = folder.path(FOLDER);
        files::private_folder(&folder)?;
        Ok(Self {
            folder,
            logs: Mutex::default(),
            waiting: Mutex::default(),
            compare: Notify::new(),
            strangers: AtomicU64::new(0),
            unkept: AtomicU64::new(0),
        })
    }

    /// Decides about a request of the broker, and keeps what is to be cosigned. An error if it was not kept: then nothing
    /// may be cosigned.
    pub(crate) fn witness(
        &self,
        request: &WitnessRequest,
        signed: Arc<SignedCheckpoint>,
        key: &VerifyingKey,
    ) -> Result<Decision, LearnError> {
        let origin = signed.claim().origin.clone();
        let mut logs = self.logs();
        let slot = self.slot(&mut logs, &origin, key);
        let decision = decide(request, signed, slot.standing()?);
        if let Decision::Keep(signed) = &decision {
            self.keep(slot, signed)?;
        }
        Ok(decision)
    }

    /// Takes a checkpoint that `proof` leads to from the one that is known; without one, the first is believed as it is.
    /// One that is smaller, or the same, changes nothing.
    pub(crate) fn learn(
        &self,
        signed: &Arc<SignedCheckpoint>,
        key: &VerifyingKey,
        judge: impl FnOnce(&Pair) -> Verdict,
    ) -> Result<(), LearnError> {
        let claim = signed.claim();
        signed.verify(&claim.origin, key).map_err(|error| LearnError::NotSigned(error.to_string()))?;
        if !is_sound(claim) {
            return Err(LearnError::NotSigned("the empty log has another root".to_owned()));
        }
        let mut logs = self.logs();
        let slot = self.slot(&mut logs, &claim.origin, key);
        let Some(standing) = slot.standing()? else { return self.keep(slot, signed) };
        let known = standing.known().claim().size;
        let unproven = LearnError::Unproven { known, new: claim.size };
        match standing.compare(signed) {
            Compared::Fork(finding) => Err(LearnError::Fork(Box::new(finding))),
            Compared::Same => {
                if claim.size == known
                    && let Slot::Known(standing) = slot
                    && signed.to_bytes().len() > standing.known().to_bytes().len()
                {
                    // The same tree with more cosignatures: on the disk it need not change.
                    standing.advance(Arc::clone(signed));
                }
                Ok(())
            }
            Compared::Apart(pair) => match judge(&pair) {
                Verdict::Fork(finding) => Err(LearnError::Fork(Box::new(finding))),
                Verdict::Unproven => Err(unproven),
                Verdict::Consistent if claim.size > known => self.keep(slot, signed),
                Verdict::Consistent => Ok(()),
            },
        }
    }

    /// The largest verified checkpoint of a log; none before the first.
    pub(crate) fn known(&self, origin: &str, key: &VerifyingKey) -> Option<Arc<SignedCheckpoint>> {
        self.with(origin, key, |standing| Arc::clone(standing.known()))
    }

    /// Compares a checkpoint that the log has signed with what is known; none before the first.
    pub(crate) fn compared(&self, signed: &Arc<SignedCheckpoint>, key: &VerifyingKey) -> Option<Compared> {
        self.with(&signed.claim().origin, key, |standing| standing.compare(signed))
    }

    fn with<T>(&self, origin: &str, key: &VerifyingKey, look: impl FnOnce(&Standing) -> T) -> Option<T> {
        let mut logs = self.logs();
        self.slot(&mut logs, origin, key).standing().ok().flatten().map(look)
    }

    /// What is wrong with the files.
    pub(crate) fn damaged(&self, directory: &Directory) -> Option<String> {
        let mut logs = self.logs();
        directory.brokers().iter().find_map(|broker: &Broker| {
            let slot = self.slot(&mut logs, &broker.root_origin(), &broker.log_key);
            if let Slot::Damaged(why) = slot { Some(why.clone()) } else { None }
        })
    }

    /// Checkpoints that wait to be compared.
    pub(crate) fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A packet came with a checkpoint that no broker of the directory has signed.
    pub(crate) fn count_stranger(&self) {
        self.strangers.fetch_add(1, Ordering::Relaxed);
    }

    /// How many did, since the start.
    pub(crate) fn strangers(&self) -> u64 {
        self.strangers.load(Ordering::Relaxed)
    }

    /// A finding was not kept, because there are too many or the disk is full.
    pub(crate) fn count_unkept(&self) {
        self.unkept.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were not, since the start.
    pub(crate) fn unkept(&self) -> u64 {
        self.unkept.load(Ordering::Relaxed)
    }

    fn logs(&self) -> MutexGuard<'_, BTreeMap<String, Slot>> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, origin: &str) -> PathBuf {
        self.folder.join(origin.replace('/', "_"))
    }

    fn slot<'a>(
        &self,
        logs: &'a mut BTreeMap<String, Slot>,
        origin: &str,
        key: &VerifyingKey,
    ) -> &'a mut Slot {
        logs.entry(origin.to_owned()).or_insert_with(|| self.load(origin, key))
    }

    fn load(&self, origin: &str, key: &VerifyingKey) -> Slot {
        let path = self.path(origin);
        let damaged = |why: String| {
            let advice = "this node does not cosign that log, and compares nothing with it, before the file is restored \
                          from a copy, or removed on the word of the region authority";
            let why = format!("`{}` cannot be believed: {why}; {advice}", path.display());
            tracing::error!(why, "what this node knew of the audit log is damaged");
            Slot::Damaged(why)
        };
        let note = match files::read(&path, limits::CHECKPOINT_BYTES_MAX as u64) {
            Ok(note) => note,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Slot::Nothing,
            Err(error) => return damaged(error.to_string()),
        };
        let signed = match SignedCheckpoint::parse(&note) {
            Ok(signed) if signed.claim().origin == origin => signed,
            Ok(_) => return damaged("it is of another log".to_owned()),
            Err(error) => return damaged(error.to_string()),
        };
        // The roster may name another key of the log since: what was believed then stays.
        if signed.claims_key(key)
            && let Err(error) = signed.verify(origin, key)
        {
            return damaged(error.to_string());
        }
        Slot::Known(Standing::begin(Arc::new(signed)))
    }

    fn keep(&self, slot: &mut Slot, signed: &Arc<SignedCheckpoint>) -> Result<(), LearnError> {
        files::replace(&self.path(&signed.claim().origin), &signed.to_bytes())?;
        match slot {
            Slot::Known(standing) => standing.advance(Arc::clone(signed)),
            Slot::Nothing | Slot::Damaged(_) => *slot = Slot::Known(Standing::begin(Arc::clone(signed))),
        }
        // What was heard before may be decided now.
        self.compare.notify_one();
        Ok(())
    }
}

impl Slot {
    fn standing(&self) -> Result<Option<&Standing>, LearnError> {
        match self {
            Self::Nothing => Ok(None),
            Self::Known(standing) => Ok(Some(standing)),
            Self::Damaged(why) => Err(LearnError::Damaged(why.clone())),
        }
    }
}
