//! The root log, 256 epochs at a time.

use lintas_config::directory::PastRoster;
use lintas_proto::{
    audit::{
        epoch::{RootEntry, slots_root},
        files::LogFile,
        merkle::leaf_hash,
        note::{Checkpoint, SignedCheckpoint},
        tile::{self, Tile, WIDTH},
    },
    id::Digest,
    limits,
};
use serde::{Deserialize, Serialize};

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

/// A checkpoint that the log signed.
struct Cosigned {
    size: u64,
    root: Digest,
    /// By when a quorum had cosigned it, seconds.
    at_s: Option<u64>,
    file: u64,
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

    /// Whether a quorum cosigned in time a checkpoint that has this epoch.
    fn attest(&mut self, epoch: u64, times: Option<(u64, u64)>, found: &mut Findings) {
        while self.list.get(self.state.at.1).is_some_and(|next| next.size <= epoch) {
            self.advance(found);
        }
        let Some((_, time_ms)) = times else { return };
        let next = self.list.get(self.state.at.1).filter(|next| next.size <= self.checkpoint.size);
        let by_s = next.map_or(self.witnessed_s, |next| next.at_s);
        let until_ms = time_ms.saturating_add(limits::COSIGNED_WITHIN_MS);
        let by_ms = by_s.map(|by_s| by_s.saturating_mul(1_000));
        let log = self.anchor.origin.as_str();
        if self.anchor.roster_at(epoch).is_some_and(|roster| roster.witnesses.is_empty()) {
            let text = "the roster names no witnesses: these epochs rest on the broker's word alone";
            found.push(Finding::new(Kind::NoWitnesses, log, text).epoch(epoch));
            return;
        }
        let future = |by_ms: u64| by_ms.saturating_add(limits::CLOCK_SKEW_MS_MAX) < time_ms;
        match by_ms {
            Some(by_ms) if future(by_ms) => {
                let text = "the witnesses cosigned it more than 5 minutes before the time that it claims";
                found.push(Finding::new(Kind::BackDated, log, text).epoch(epoch));
            }
            Some(by_ms) if by_ms <= until_ms => self.state.attested = self.state.attested.saturating_add(1),
            None if self.now_ms < until_ms => self.state.young = self.state.young.saturating_add(1),
            Some(_) | None => {
                let file = LogFile::Cosigned(next.map_or(self.state.at.0, |next| next.file));
                let text = "no quorum of witnesses cosigned within 60 seconds: time not attested";
                found.push(Finding::new(Kind::TimeNotAttested, log, text).of(file).epoch(epoch));
            }
        }
    }

    /// Compares the checkpoints of the size that is reached.
    fn compare_cosigned(&mut self, found: &mut Findings) {
        let (size, log) = (self.state.tree.size(), self.anchor.origin.as_str());
        let ended = self.anchor.ended.as_ref().filter(|ended| ended.size == size);
        if ended.is_some_and(|ended| ended.root != self.state.tree.root().as_slice()) {
            let text = "the region authority ended this log with another root of this size";
            found.push(
                Finding::new(Kind::Fork, log, text).of(LogFile::Checkpoint).epoch(size.saturating_sub(1)),
            );
        }
        while let Some(next) = self.list.get(self.state.at.1).filter(|next| next.size <= size) {
            let (same, file) = (next.size < size || next.root == self.state.tree.root(), next.file);
            if !same {
                let text = "the log signed two trees of this size with different roots";
                let finding = Finding::new(Kind::Fork, log, text).of(LogFile::Cosigned(file));
                found.push(finding.of(LogFile::Checkpoint).epoch(size.saturating_sub(1)));
            }
            if next.size < size {
                break;
            }
            // It still attests the epochs before it, which were looked at already.
            self.advance(found);
        }
    }

    fn advance(&mut self, found: &mut Findings) {
        self.state.at.1 = self.state.at.1.saturating_add(1);
        self.state.cosigned = self.state.cosigned.saturating_add(1);
        if self.state.at.1 >= self.list.len() && !self.over {
            self.state.at = (self.state.at.0.saturating_add(1), 0);
            self.load(found);
        }
    }

    /// Reads the file that `state.at` names.
    fn load(&mut self, found: &mut Findings) {
        let (log, index) = (self.anchor.origin.as_str(), self.state.at.0);
        let file = LogFile::Cosigned(index);
        self.list.clear();
        let bytes = match whole(self.files, log, None, file) {
            Ok(bytes) => bytes,
            Err(finding) => {
                self.over = true;
                // Nobody can tell whether there was one: then times are not attested.
                if finding.kind != Kind::Missing {
                    found.push(finding);
                }
                return;
            }
        };
        let mut read = 0usize;
        for note in tile::entries(&bytes) {
            match note.map(|note| self.cosigned(note, index)) {
                Some(Ok(next)) if next.size >= self.state.cosigned_size => {
                    self.state.cosigned_size = next.size;
                    self.list.push(next);
                }
                Some(Ok(_)) => {
                    found.push(Finding::new(Kind::Damaged, log, "its checkpoints are out of order").of(file))
                }
                Some(Err(error)) => found.push(Finding::new(Kind::Damaged, log, error).of(file)),
                None => found.push(Finding::new(Kind::Damaged, log, "it ends within a checkpoint").of(file)),
            }
            read = read.saturating_add(1);
        }
        let next_is_there = || {
            let next = LogFile::Cosigned(index.saturating_add(1));
            self.files.read(None, next, 0, 1).is_ok_and(|next| next.is_some())
        };
        if read != 256 && (read > 256 || next_is_there()) {
            let text = format!("it holds {read} checkpoints, and all but the last file hold 256");
            found.push(Finding::new(Kind::Damaged, log, text).of(file));
        }
        if self.list.is_empty() {
            self.over = true;
        }
    }

    fn cosigned(&self, note: &[u8], file: u64) -> Result<Cosigned, String> {
        let signed = SignedCheckpoint::parse(note).map_err(|error| error.to_string())?;
        let anchor = self.anchor;
        let checkpoint = signed.verify(&anchor.origin, &anchor.log_key).map_err(|error| error.to_string())?;
        let roster = checkpoint.size.checked_sub(1).and_then(|last| anchor.roster_at(last));
        let at_s = roster.and_then(|roster| signed.witnessed_at(&roster.witnesses));
        if let Some(text) = foreign_lines(&signed, anchor) {
            return Err(text);
        }
        if at_s.is_none() && roster.is_some_and(|roster| !roster.witnesses.is_empty()) {
            return Err(format!("its checkpoint of {} epochs is not cosigned by a quorum", checkpoint.size));
        }
        Ok(Cosigned { size: checkpoint.size, root: checkpoint.root, at_s, file })
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

/// Signature lines that are neither the log's nor a valid one of a witness of any roster.
fn foreign_lines(signed: &SignedCheckpoint, anchor: &Anchor) -> Option<String> {
    let lines = signed.to_string().lines().filter(|line| line.starts_with('\u{2014}')).count();
    let known = 1usize.saturating_add(signed.cosignatures(anchor.witnesses()).len());
    (lines > known).then(|| {
        let foreign = lines.saturating_sub(known);
        format!("{foreign} of its {lines} signatures are not valid ones of the log or of a witness")
    })
}
