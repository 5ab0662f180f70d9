//! The one task that has the log cosigned. It puts one head before all witnesses at a time, so that their answers come
//! to the same head however slow some of them are; counts them; and writes `checkpoint` and `cosigned`. Nobody's packets
//! wait for it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use lintas_config::Directory;
use lintas_proto::{
    audit::{
        files::LogFile,
        note::{SignedCheckpoint, WitnessKey},
    },
    limits,
};
use tokio::{
    sync::mpsc,
    task::block_in_place,
    time::{Instant, sleep},
};

use super::{cosigned::Cosigned, reading::read, standing::Standing};
use crate::shell::{
    clock,
    folder::{FolderError, at, replace},
    shared::Shared,
};

/// `checkpoint` is written without a quorum after so long, or after an epoch if that is shorter; the next head is
/// put before the witnesses after so long at the latest. Milliseconds.
const ROUND_MS_MAX: u64 = 5_000;
/// A cosigned checkpoint is appended at least so often, milliseconds.
const APPENDED_MS_MAX: u64 = 30_000;
/// What may pass between an epoch's end and its quorum without a gap in `cosigned`, milliseconds.
const SLACK_MS: u64 = 2_000;
/// Without a quorum for so long the operator is told, milliseconds.
pub(in crate::shell) const UNWITNESSED_MS_MAX: u64 = limits::COSIGNED_WITHIN_MS;
/// And again each time so long has passed, milliseconds.
const ALARM_AGAIN_MS: u64 = 600_000;
/// How often this looks around at least, milliseconds.
const TICK_MS: u64 = 1_000;

/// What a witness has said of a head; its signature fits.
#[derive(Debug)]
pub(super) struct Cosignature {
    pub(super) agency: String,
    pub(super) head: Arc<SignedCheckpoint>,
    pub(super) bytes: Bytes,
}

/// One head before the witnesses.
#[derive(Debug)]
struct Round {
    head: Arc<SignedCheckpoint>,
    cosignatures: BTreeMap<String, Bytes>,
    began: Instant,
    /// A quorum was there.
    done: bool,
}

/// The files of one log that this task writes.
#[derive(Debug)]
struct Kept {
    origin: String,
    folder: std::path::PathBuf,
    /// Size and cosignatures of what stands in `checkpoint`: it never goes back.
    written: (u64, usize),
    cosigned: Cosigned,
    appended: Option<Instant>,
}

#[derive(Debug, Default)]
struct Witnessing {
    /// Signed last, and when that was seen.
    newest: Option<(Arc<SignedCheckpoint>, Instant)>,
    round: Option<Round>,
    kept: Option<Kept>,
    /// When the operator was told last that there is no quorum, milliseconds since 1970.
    told_ms: Option<u64>,
}

/// Runs until the process ends.
pub(super) async fn run(shared: &Shared, mut answers: mpsc::Receiver<Cosignature>) {
    let (mut heads, mut changed) = (shared.log.head.subscribe(), shared.changed.subscribe());
    let mut this = Witnessing::default();
    shared.log.witnessed(clock::shown_ms());
    loop {
        let head = heads.borrow_and_update().clone();
        this.see(head);
        let step = block_in_place(|| this.step(shared));
        let wait_ms = step.unwrap_or_else(|error| {
            tracing::error!(%error, "what witnesses have cosigned cannot be kept; tried again");
            TICK_MS
        });
        tokio::select! {
            ended = heads.changed() => if ended.is_err() { return },
            ended = changed.changed() => {
                if ended.is_err() { return }
                Standing::recount(shared);
                // Who has become a witness is asked at once.
                shared.log.asked.send_modify(|_| {});
            }
            answer = answers.recv() => {
                let Some(answer) = answer else { return };
                this.take(answer);
                while let Ok(answer) = answers.try_recv() {
                    this.take(answer);
                }
            }
            () = sleep(Duration::from_millis(wait_ms)) => {}
        }
    }
}

impl Witnessing {
    fn see(&mut self, head: Option<Arc<SignedCheckpoint>>) {
        let Some(head) = head else { return };
        if self.newest.as_ref().is_none_or(|(newest, _)| !Arc::ptr_eq(newest, &head)) {
            self.newest = Some((head, Instant::now()));
        }
    }

    fn take(&mut self, answer: Cosignature) {
        let round = self.round.as_mut().filter(|round| Arc::ptr_eq(&round.head, &answer.head));
        if let Some(round) = round {
            round.cosignatures.insert(answer.agency, answer.bytes);
        }
    }

    /// One look around: what is to be asked, written and told. Milliseconds until the next at the latest.
    fn step(&mut self, shared: &Shared) -> Result<u64, FolderError> {
        let directory = shared.directory();
        let witnesses = directory.witnesses();
        self.alarm(shared, witnesses.len());
        let Some((newest, seen)) = self.newest.clone() else { return Ok(TICK_MS) };
        self.begin(shared, &directory, &newest, witnesses.is_empty())?;
        let (Some(round), Some(kept)) = (self.round.as_mut(), self.kept.as_mut()) else { return Ok(TICK_MS) };
        let note = round.note(&directory);
        let count = note.cosignatures(&witnesses).len();
        let is_quorum = note.witnessed_at(&witnesses).is_some();
        let patience = Duration::from_millis(ROUND_MS_MAX.min(directory.roster().epoch_ms.into()));
        let age = seen.elapsed();
        let is_newest = Arc::ptr_eq(&round.head, &newest);
        // Another head may have come meanwhile: what this one has is shown all the same, before the round is given up.
        let is_late = (is_newest && age >= patience) || round.began.elapsed() >= patience;
        let size = note.claim().size;
        if (witnesses.is_empty() || is_quorum || is_late || kept.written.0 == size)
            && (size, count) > kept.written
        {
            kept.write(&note, count)?;
        }
        if is_quorum {
            let epoch_ms = directory.roster().epoch_ms.into();
            kept.append(&note, epoch_ms)?;
            if !round.done {
                round.done = true;
                shared.log.witnessed(clock::shown_ms());
            }
            shared.log.counted(kept.cosigned.count);
        }
        // With this head decided, the next one is looked at.
        if is_quorum && !is_newest {
            return Ok(0);
        }
        let wait = patience.saturating_sub(age).as_millis();
        Ok(u64::try_from(wait).unwrap_or(TICK_MS).clamp(1, TICK_MS))
    }

    /// Puts the newest head before the witnesses, if the one before is decided.
    fn begin(
        &mut self,
        shared: &Shared,
        directory: &Directory,
        newest: &Arc<SignedCheckpoint>,
        alone: bool,
    ) -> Result<(), FolderError> {
        let is_over = self.round.as_ref().is_none_or(|round| {
            let late = round.began.elapsed() >= Duration::from_millis(ROUND_MS_MAX);
            let other_log = round.head.claim().origin != newest.claim().origin;
            !Arc::ptr_eq(&round.head, newest) && (alone || round.done || late || other_log)
        });
        if !is_over {
            return Ok(());
        }
        let origin = &newest.claim().origin;
        if self.kept.as_ref().is_none_or(|kept| kept.origin != *origin) {
            let Some(log) = directory.log_of(origin) else { return Ok(()) };
            let kept = Kept::open(shared, origin, log.number.saturating_add(1), &directory.witnesses())?;
            shared.log.counted(kept.cosigned.count);
            self.kept = Some(kept);
        }
        let (head, began) = (Arc::clone(newest), Instant::now());
        self.round = Some(Round { head, cosignatures: BTreeMap::new(), began, done: false });
        shared.log.asked.send_replace(Some(Arc::clone(newest)));
        Ok(())
    }

    /// Tells the operator when there is no quorum for long, and when there is one again.
    fn alarm(&mut self, shared: &Shared, witnesses: usize) {
        let now_ms = clock::shown_ms();
        if witnesses == 0 {
            // Nobody is asked. Whoever becomes a witness has its time.
            shared.log.witnessed(now_ms);
        }
        let late_ms = shared.log.unwitnessed_ms(now_ms).filter(|ms| *ms > UNWITNESSED_MS_MAX);
        match (late_ms, self.told_ms) {
            (Some(late_ms), told)
                if told.is_none_or(|told| now_ms.saturating_sub(told) >= ALARM_AGAIN_MS) =>
            {
                let seconds = late_ms / 1_000;
                tracing::error!(
                    seconds,
                    "no quorum of witnesses has cosigned the audit log for so long; packets go on. Look which nodes of \
                     witnesses are not connected, and call their agencies"
                );
                self.told_ms = Some(now_ms);
            }
            (None, Some(_)) => {
                tracing::info!("a quorum of witnesses cosigns the audit log again");
                self.told_ms = None;
            }
            (Some(_) | None, _) => {}
        }
    }
}

impl Round {
    /// The head with the cosignatures of those who are witnesses now.
    fn note(&self, directory: &Directory) -> SignedCheckpoint {
        let mut note = SignedCheckpoint::clone(&self.head);
        for (agency, bytes) in &self.cosignatures {
            let Some(witness) = directory.witness(agency) else { continue };
            if let Err(error) = note.add_cosignature(&witness, bytes) {
                // Its key has changed meanwhile.
                tracing::debug!(agency, %error, "a cosignature counts no more");
            }
        }
        note
    }
}

impl Kept {
    fn open(
        shared: &Shared,
        origin: &str,
        number: usize,
        witnesses: &[WitnessKey],
    ) -> Result<Self, FolderError> {
        let folder = shared.log.folder.audit_log(number);
        let path = folder.join(LogFile::Checkpoint.to_string());
        let there = read(&path, limits::CHECKPOINT_BYTES_MAX).map_err(at(&path))?.unwrap_or_default();
        let written = SignedCheckpoint::parse(&there)
            .map_or((0, 0), |note| (note.claim().size, note.cosignatures(witnesses).len()));
        let cosigned = Cosigned::open(&folder)?;
        // One that cannot be read is written anew.
        Ok(Self { origin: origin.to_owned(), folder, written, cosigned, appended: None })
    }

    fn write(&mut self, note: &SignedCheckpoint, count: usize) -> Result<(), FolderError> {
        replace(&self.folder.join(LogFile::Checkpoint.to_string()), &note.to_bytes())?;
        self.written = (note.claim().size, count);
        Ok(())
    }

    /// Appends a checkpoint with its quorum: the first, and then as many as leave no longer gap than allowed.
    fn append(&mut self, note: &SignedCheckpoint, epoch_ms: u64) -> Result<(), FolderError> {
        let next_ms = epoch_ms.saturating_add(SLACK_MS);
        let rest = Duration::from_millis(APPENDED_MS_MAX.saturating_sub(next_ms));
        let is_due = self.appended.is_none_or(|appended| appended.elapsed() >= rest);
        if is_due && note.claim().size > self.cosigned.size {
            self.cosigned.append(note)?;
            self.appended = Some(Instant::now());
        }
        Ok(())
    }
}
