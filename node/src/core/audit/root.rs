//! The root log, 256 epochs at a time.

mod cosigned;

use lintas_config::directory::PastRoster;
use lintas_proto::{
    audit::{
        epoch::{RootEntry, slots_root},
        files::LogFile,
        merkle::leaf_hash,
        note::{Checkpoint, SignedCheckpoint},
        tile::{Tile, WIDTH},
    },
    id::Digest,
    limits,
};
use serde::{Deserialize, Serialize};

use self::cosigned::{Cosigned, foreign_lines};
use super::{
    anchor::Anchor,
    finding::{Finding, Findings, Kind},
    source::{LogFiles, bundle, tile_hashes, whole},
    tree::{Compare, Tree},
};

/// What an epoch says to the sub-logs.
pub(crate) struct Epoch<'a> {
    pub(crate) number: u64,
    /// When the one before it ended, and when it did; none if its entry is lost.
    pub(crate) times: Option<(u64, u64)>,
    /// One for each member of the roster; none if they are lost or not those of the entry.
    pub(crate) slots: Option<Vec<Digest>>,
    /// Whose slots they are.
    pub(crate) roster: Option<&'a PastRoster>,
}

/// How far the root log is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct RootState {
    pub(crate) tree: Tree,
    /// When the first and the last epoch ended.
    pub(crate) first_ms: u64,
    pub(crate) last_ms: u64,
    /// Epochs that a quorum cosigned in time.
    pub(crate) attested: u64,
    /// Epochs that are too young to be missed.
    pub(crate) young: u64,
    /// Checkpoints that a quorum had cosigned.
    pub(crate) cosigned: u64,
    /// File of cosigned checkpoints, and how many of it are behind us.
    at: (u64, usize),
    /// Size of the last one.
    cosigned_size: u64,
    /// Nothing more can be read.
    pub(crate) stopped: bool,
}

/// A scan of a root log.
pub(crate) struct RootScan<'a> {
    files: &'a dyn LogFiles,
    anchor: &'a Anchor,
    /// The checkpoint that is checked, and by when a quorum cosigned it.
    checkpoint: Checkpoint,
    witnessed_s: Option<u64>,
    now_ms: u64,
    pub(crate) state: RootState,
    /// Cosigned checkpoints of the file that `state.at` names.
    list: Vec<Cosigned>,
    /// No more files of them.
    over: bool,
}

impl<'a> RootScan<'a> {
    /// Reads the checkpoint. `state` is where an interrupted scan of the same log was.
    pub(crate) fn begin(
        files: &'a dyn LogFiles,
        anchor: &'a Anchor,
        state: RootState,
        now_ms: u64,
        found: &mut Findings,
    ) -> Option<Self> {
        let (signed, checkpoint) = checkpoint(files, anchor, None, found)?;
        let last = checkpoint.size.checked_sub(1).and_then(|last| anchor.roster_at(last));
        let witnessed_s = last.and_then(|roster| signed.witnessed_at(&roster.witnesses));
        // The file is read again, and what is behind us with it.
        let state = RootState { cosigned_size: 0, ..state };
        let (list, over) = (Vec::new(), false);
        let mut scan = Self { files, anchor, checkpoint, witnessed_s, now_ms, state, list, over };
        scan.load(found);
        Some(scan)
    }

    /// Epochs of the checkpoint.
    pub(crate) fn size(&self) -> u64 {
        self.checkpoint.size
    }

    /// Root of the checkpoint.
    pub(crate) fn root(&self) -> &Digest {
        &self.checkpoint.root
    }

    /// The next epochs, up to the end of their bundle; empty at the end.
    pub(crate) fn next(&mut self, found: &mut Findings) -> Vec<Epoch<'a>> {
        let (files, anchor) = (self.files, self.anchor);
        let (from, size, log) = (self.state.tree.size(), self.checkpoint.size, anchor.origin.as_str());
        if from >= size || self.state.stopped {
            return Vec::new();
        }
        let index = from / WIDTH;
        let (entries, leaves) = match bundle(files, log, None, index, size) {
            Ok((entries, file)) => {
                let leaves = entries.iter().map(|entry| leaf_hash(entry)).collect::<Vec<_>>();
                (Some((entries, file)), leaves)
            }
            Err(finding) => {
                found.push(finding);
                // The tile holds the place of what cannot be read, so that the rest can be.
                let hashes = Tile::of_tree(0, index, size).map(|tile| tile_hashes(files, log, None, tile));
                let Some(Ok((hashes, _))) = hashes else {
                    self.state.stopped = true;
                    return Vec::new();
                };
                (None, hashes)
            }
        };
        let mut slots = self.slots(index, leaves.len(), found).into_iter();
        let compare = Compare { files, log, owner: None };
        let mut epochs = Vec::with_capacity(leaves.len());
        for (at, leaf) in leaves.iter().enumerate() {
            let number = self.state.tree.size();
            let entry = entries.as_ref().and_then(|(entries, file)| Some((entries.get(at)?, *file)));
            let roster = anchor.roster_at(number);
            let read = entry.and_then(|(entry, file)| self.entry(number, entry, file, found));
            let times = read.map(|(before, entry)| (before, entry.time_ms));
            let mine = slots.next().flatten();
            let mine = read.and_then(|(_, entry)| self.check_slots(&entry, mine, roster, found));
            self.attest(number, times, found);
            self.state.tree.push(*leaf, &compare, found);
            self.compare_cosigned(found);
            epochs.push(Epoch { number, times, slots: mine, roster });
        }
        epochs
    }

    /// Compares what is left: partial tiles, root, and what lies beyond.
    pub(crate) fn end(&mut self, found: &mut Findings) {
        let (log, checkpoint) = (self.anchor.origin.as_str(), self.checkpoint.clone());
        if !self.state.stopped {
            let compare = Compare { files: self.files, log, owner: None };
            self.state.tree.end(&checkpoint.root, &compare, found);
        }
        let epoch_ms = self.anchor.newest().map_or(0, |roster| u64::from(roster.epoch_ms));
        let slack_ms = limits::COSIGNED_WITHIN_MS.max(epoch_ms.saturating_mul(2));
        let mut beyond: Option<(u64, u64, u64)> = None;
        while let Some(next) = self.list.get(self.state.at.1) {
            if next.size > checkpoint.size {
                beyond = Some((next.size, next.at_s.unwrap_or(0), next.file));
            }
            self.advance(found);
        }
        if let Some((size, at_s, file)) = beyond {
            let lost = at_s.saturating_mul(1_000) > self.state.last_ms.saturating_add(slack_ms);
            let (kind, text) = if lost {
                let text = "a checkpoint that the log signed is larger than the one that it shows now: epochs were taken away";
                (Kind::Rollback, text)
            } else {
                (Kind::Note, "cosigned checkpoints are a little newer than the checkpoint")
            };
            let finding = Finding::new(kind, log, text).of(LogFile::Checkpoint).of(LogFile::Cosigned(file));
            found.push(finding.epoch(size.saturating_sub(1)));
        }
        if let Some(ended) = self.anchor.ended.as_ref().filter(|ended| ended.size > checkpoint.size) {
            let text =
                format!("the roster says that this log ended with {} epochs; fewer are shown", ended.size);
            found.push(Finding::new(Kind::Rollback, log, text).of(LogFile::Checkpoint));
        }
    }

    fn entry(
        &mut self,
        number: u64,
        bytes: &[u8],
        file: LogFile,
        found: &mut Findings,
    ) -> Option<(u64, RootEntry)> {
        let log = self.anchor.origin.as_str();
        let entry = match RootEntry::parse(bytes) {
            Ok(entry) => entry,
            Err(error) => {
                found.push(Finding::new(Kind::WrongEpoch, log, error.to_string()).of(file).epoch(number));
                return None;
            }
        };
        if entry.epoch != number {
            let text = format!("it says that it is epoch {}", entry.epoch);
            found.push(Finding::new(Kind::WrongEpoch, log, text).of(file).epoch(number));
        }
        let before = self.state.last_ms;
        if entry.time_ms < before {
            let text = "it ended before the epoch before it";
            found.push(Finding::new(Kind::BackDated, log, text).of(file).epoch(number));
        }
        if number == 0 {
            self.state.first_ms = entry.time_ms;
        }
        self.state.last_ms = entry.time_ms;
        Some((before, entry))
    }

    /// The slots of each epoch of a bundle.
    fn slots(&self, index: u64, epochs: usize, found: &mut Findings) -> Vec<Option<Vec<Digest>>> {
        let (log, file) = (self.anchor.origin.as_str(), LogFile::Slots(index));
        let bytes = match whole(self.files, log, None, file) {
            Ok(bytes) => bytes,
            Err(finding) => {
                found.push(finding);
                return Vec::new();
            }
        };
        let (mut rest, mut slots) = (bytes.as_ref(), Vec::with_capacity(epochs));
        for at in 0..epochs {
            let next = rest.split_first_chunk::<4>().and_then(|(count, after)| {
                let count = usize::try_from(u32::from_be_bytes(*count)).ok()?;
                after.split_at_checked(count.checked_mul(32)?)
            });
            let Some((these, after)) = next else {
                let epoch = index.saturating_mul(WIDTH).saturating_add(at as u64);
                let text = "it does not hold the slots of this epoch";
                found.push(Finding::new(Kind::Damaged, log, text).of(file).epoch(epoch));
                return slots;
            };
            rest = after;
            slots.push(Some(these.chunks_exact(32).filter_map(|slot| slot.try_into().ok()).collect()));
        }
        if !rest.is_empty() && epochs as u64 == WIDTH {
            let text = "it goes on behind the slots of its last epoch";
            found.push(Finding::new(Kind::Damaged, log, text).of(file));
        }
        slots
    }

    fn check_slots(
        &self,
        entry: &RootEntry,
        slots: Option<Vec<Digest>>,
        roster: Option<&PastRoster>,
        found: &mut Findings,
    ) -> Option<Vec<Digest>> {
        let (log, slots) = (self.anchor.origin.as_str(), slots?);
        let file = LogFile::Slots(entry.epoch / WIDTH);
        let count = u32::try_from(slots.len()).ok();
        if count != Some(entry.slots) || slots_root(&slots) != entry.slots_root {
            let text = "its slots are not those of the root log's entry";
            found.push(Finding::new(Kind::Damaged, log, text).of(file).epoch(entry.epoch));
            return None;
        }
        if roster.is_some_and(|roster| roster.agencies.len() != slots.len()) {
            let text = "it does not have one slot for each member of the roster: `rosters` is damaged, or the entry is wrong";
            found.push(
                Finding::new(Kind::Damaged, log, text).of(LogFile::Rosters).of(file).epoch(entry.epoch),
            );
        }
        Some(slots)
    }
}

/// The checkpoint of a log, with its signature checked. One with a wrong signature is a finding, and still says how
/// far to look.
pub(crate) fn checkpoint(
    files: &dyn LogFiles,
    anchor: &Anchor,
    agency: Option<&str>,
    found: &mut Findings,
) -> Option<(SignedCheckpoint, Checkpoint)> {
    let origin = agency.map_or_else(|| anchor.origin.clone(), |agency| format!("{}/{agency}", anchor.origin));
    let bytes = match whole(files, &origin, agency, LogFile::Checkpoint) {
        Ok(bytes) => bytes,
        Err(finding) => {
            found.push(finding);
            return None;
        }
    };
    let unsigned = |error: &dyn std::fmt::Display| {
        Finding::new(Kind::Unsigned, &origin, error.to_string()).of(LogFile::Checkpoint)
    };
    let signed = match SignedCheckpoint::parse(&bytes) {
        Ok(signed) => signed,
        Err(error) => {
            found.push(unsigned(&error));
            return None;
        }
    };
    if let Err(error) = signed.verify(&origin, &anchor.log_key) {
        found.push(unsigned(&error));
    } else if let Some(text) = foreign_lines(&signed, anchor) {
        found.push(Finding::new(Kind::Damaged, &origin, text).of(LogFile::Checkpoint));
    }
    let claim = signed.claim().clone();
    Some((signed, claim))
}
