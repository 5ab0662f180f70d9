//! A sub-log: its entries, their openings ([`leaves`]), and the slots that the root log has of it.

mod gone;
mod leaves;

use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use lintas_proto::{
    audit::{
        epoch::{slot, slot_salt},
        files::LogFile,
        note::Checkpoint,
        tile::WIDTH,
    },
    id::Digest,
    schema::EventType,
};
use serde::{Deserialize, Serialize};

pub(crate) use self::leaves::says;
use self::{
    gone::{forget, remember},
    leaves::{Leaf, Opened},
};
use super::{
    anchor::{Anchor, pair},
    counterparts::{Halves, pair as pair_of},
    finding::{Finding, Findings, Kind},
    packets::Packets,
    root::{Epoch, checkpoint},
    source::{LogFiles, whole, width},
    tree::{Compare, Tree},
};

/// Bytes of `sizes` that are read at a time: whole records.
const SIZES_BYTES: u64 = 64 * 1024;

/// How far a sub-log is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct SubState {
    pub(crate) tree: Tree,
    pub(crate) packets: Packets,
    /// Openings that hold what the leaf says; that were erased; that were left out on request.
    pub(crate) opened: u64,
    pub(crate) erased: u64,
    pub(crate) left_out: u64,
    /// Slots that are those of this sub-log.
    pub(crate) slots: u64,
    /// When the last of these epochs ended: until then the sub-log is known to have been as it is here.
    pub(crate) proven_ms: u64,
    /// Runs of openings that have gone, and whose ERASED event has not come: first and last index.
    gone: Vec<(u64, u64)>,
    /// Bytes of `sizes` behind us, the last epoch read and the size at its end.
    sizes: (u64, u64, u64),
    pub(crate) stopped: bool,
    short: bool,
    /// A slot was wrong before the sub-log ended.
    wrong: bool,
    /// When the last epoch ended whose slot was right.
    pub(crate) slot_ms: u64,
}

/// A scan of a sub-log.
pub(crate) struct SubScan<'a> {
    files: &'a dyn LogFiles,
    anchor: &'a Anchor,
    pub(crate) agency: String,
    pub(crate) origin: String,
    checkpoint: Checkpoint,
    /// From which epoch on which key.
    slot_keys: Vec<(u64, [u8; 32])>,
    has_slot_keys: bool,
    since_ms: u64,
    /// Threads that have nothing to do now.
    spare: &'a AtomicUsize,
    /// The files are an extract: openings may have been left out.
    extract: bool,
    pub(crate) state: SubState,
    /// Records of `sizes` that were read and not used.
    sizes: std::collections::VecDeque<(u64, u64)>,
    /// DIRECTORY_CHANGED of this epoch: version and hash of the roster, if the opening is there.
    changed: Vec<Option<(u64, Bytes)>>,
    /// Leaves that were read and not used.
    window: std::collections::VecDeque<Leaf>,
    /// How far these epochs go, as far as it is known: what is beyond their last bundle is not read yet.
    reach: u64,
}

impl<'a> SubScan<'a> {
    /// Reads checkpoint and slot keys.
    pub(crate) fn begin(
        files: &'a dyn LogFiles,
        anchor: &'a Anchor,
        agency: &str,
        state: SubState,
        (since_ms, spare, extract): (u64, &'a AtomicUsize, bool),
        found: &mut Findings,
    ) -> Option<Self> {
        let (_, checkpoint) = checkpoint(files, anchor, Some(agency), found)?;
        let origin = format!("{}/{agency}", anchor.origin);
        let keys = whole(files, &origin, Some(agency), LogFile::SlotKeys);
        let has_slot_keys = keys.is_ok();
        let slot_keys = match keys {
            Ok(bytes) => slot_keys(&bytes, &origin, found),
            // A broker that was never given a key has no such file; the slots tell.
            Err(finding) if finding.kind == Kind::Missing => Vec::new(),
            Err(finding) => {
                found.push(finding);
                Vec::new()
            }
        };
        Some(Self {
            files,
            anchor,
            agency: agency.to_owned(),
            origin,
            checkpoint,
            slot_keys,
            has_slot_keys,
            since_ms,
            spare,
            extract,
            state,
            sizes: std::collections::VecDeque::new(),
            changed: Vec::new(),
            window: std::collections::VecDeque::new(),
            reach: 0,
        })
    }

    /// Entries of the checkpoint.
    pub(crate) fn size(&self) -> u64 {
        self.checkpoint.size
    }

    /// Goes to the end of those epochs; what they say of other sub-logs.
    pub(crate) fn follow(&mut self, epochs: &[Epoch<'_>], found: &mut Findings) -> Halves {
        let (mut root, mut others): (Option<Digest>, _) = (None, Halves::of(&self.agency));
        if self.sizes.is_empty() {
            self.read_sizes(found);
        }
        let last = epochs.last().map_or(0, |epoch| epoch.number);
        let ahead = self.sizes.iter().take_while(|(epoch, _)| *epoch <= last).last();
        self.reach = ahead.map_or(0, |(_, size)| *size);
        for epoch in epochs {
            let size = self.size_at(epoch.number, found);
            if size > self.checkpoint.size && !self.state.short {
                self.state.short = true;
                let text = format!(
                    "its checkpoint has {} entries, and `sizes` says {size} at the end of this epoch",
                    self.checkpoint.size
                );
                let finding = Finding::new(Kind::Missing, &self.origin, text).of(LogFile::Checkpoint);
                found.push(finding.of(LogFile::Sizes).epoch(epoch.number));
            }
            let before = self.state.tree.size();
            self.go_to(size, epoch.times, Some(&mut others), found);
            if self.state.tree.size() != before {
                root = None;
            }
            self.check_turn(epoch, found);
            if self.state.tree.size() == size {
                let root = *root.get_or_insert_with(|| self.state.tree.root());
                self.check_slot(epoch, size, &root, found);
            }
        }
        others
    }

    /// Goes to the end of the checkpoint, and compares what is left.
    pub(crate) fn end(&mut self, found: &mut Findings) {
        self.go_to(self.checkpoint.size, None, None, found);
        if !self.state.stopped {
            let compare = Compare { files: self.files, log: &self.origin, owner: Some(&self.agency) };
            self.state.tree.end(&self.checkpoint.root, &compare, found);
        }
        for (first, last) in std::mem::take(&mut self.state.gone) {
            let count = last.saturating_sub(first).saturating_add(1);
            self.state.erased = self.state.erased.saturating_sub(count);
            if self.extract {
                // Whoever made the extract left them out; that they are in the log is checked.
                self.state.left_out = self.state.left_out.saturating_add(count);
                continue;
            }
            let text = "opening missing: its key is gone, and no ERASED event of this sub-log names it; it cannot be replayed";
            let mut finding =
                Finding::new(Kind::OpeningGone, &self.origin, text).of(LogFile::Keys(first / WIDTH));
            finding.entries = Some((first, last));
            found.push(finding);
        }
    }

    /// Pushes leaves until the tree has that size; those of an epoch have their times within it.
    fn go_to(
        &mut self,
        size: u64,
        times: Option<(u64, u64)>,
        mut others: Option<&mut Halves>,
        found: &mut Findings,
    ) {
        let target = size.min(self.checkpoint.size);
        while self.state.tree.size() < target && !self.state.stopped {
            let index = self.state.tree.size();
            let Some(leaf) = self.window.pop_front() else {
                self.load(target, found);
                continue;
            };
            if let (Some((_, time_ms)), Some((from_ms, to_ms))) = (leaf.says, times)
                && !(from_ms..=to_ms).contains(&time_ms)
            {
                let text = "its time is not within the epoch in which it was published";
                let file = LogFile::Entries(index / WIDTH, width(index / WIDTH, self.checkpoint.size));
                found.push(Finding::new(Kind::BackDated, &self.origin, text).of(file).entry(index));
            }
            self.take(index, &leaf, others.as_deref_mut(), found);
            let compare = Compare { files: self.files, log: &self.origin, owner: Some(&self.agency) };
            self.state.tree.push(leaf.hash, &compare, found);
        }
    }

    fn take(&mut self, index: u64, leaf: &Leaf, others: Option<&mut Halves>, found: &mut Findings) {
        let state = &mut self.state;
        let changes = EventType::DirectoryChanged as i32;
        if leaf.says.is_none_or(|(kind, _)| i32::from(kind) == changes) {
            self.changed.push(match &leaf.opening {
                Opened::Event(event) => Some((event.version, event.evidence_digest.clone())),
                Opened::Erased | Opened::LeftOut | Opened::Lost => None,
            });
        }
        match (&leaf.opening, leaf.says) {
            (Opened::Event(event), _) => {
                state.opened = state.opened.saturating_add(1);
                if event.agency != self.agency {
                    let text = format!("it says that it belongs to the sub-log of {}", event.agency);
                    found.push(Finding::new(Kind::Contradiction, &self.origin, text).entry(index));
                }
                if event.r#type == EventType::Erased as i32 {
                    forget(&mut state.gone, event.first_index, event.count);
                }
                state.packets.event(&self.origin, index, event, found);
                if let (Some(others), Some(pair)) = (others, pair_of(event)) {
                    others.saw(index, &pair);
                }
            }
            (Opened::Erased | Opened::LeftOut | Opened::Lost, says) => {
                let (event_type, time_ms) = says.unwrap_or_default();
                state.packets.unseen(event_type);
                if let Some(others) = others {
                    others.unseen(time_ms);
                }
                match leaf.opening {
                    Opened::Erased => {
                        state.erased = state.erased.saturating_add(1);
                        remember(&mut state.gone, index);
                    }
                    Opened::LeftOut => state.left_out = state.left_out.saturating_add(1),
                    Opened::Event(_) | Opened::Lost => {}
                }
            }
        }
    }

    /// Size of this sub-log at the end of an epoch.
    fn size_at(&mut self, epoch: u64, found: &mut Findings) -> u64 {
        loop {
            match self.sizes.front().copied() {
                Some((at, size)) if at <= epoch => {
                    let (behind, last, before) = self.state.sizes;
                    let first = behind == 0;
                    if (!first && at <= last) || size <= before {
                        let text = "its epochs and sizes do not go up";
                        found.push(
                            Finding::new(Kind::Damaged, &self.origin, text).of(LogFile::Sizes).epoch(at),
                        );
                    }
                    self.state.sizes = (behind.saturating_add(16), at, size.max(before));
                    self.sizes.pop_front();
                }
                Some(_) => return self.state.sizes.2,
                None if !self.read_sizes(found) => return self.state.sizes.2,
                None => {}
            }
        }
    }

    /// Reads on in `sizes`; false at its end.
    fn read_sizes(&mut self, found: &mut Findings) -> bool {
        let behind = self.state.sizes.0;
        let read = self.files.read(Some(&self.agency), LogFile::Sizes, behind, SIZES_BYTES);
        let kind_text = match read {
            Ok(Some(bytes)) => {
                self.sizes = bytes.chunks(16).filter_map(pair).collect();
                let whole = bytes.len().is_multiple_of(16);
                if whole {
                    return !self.sizes.is_empty();
                }
                Some((Kind::Damaged, "it ends within a record".to_owned()))
            }
            // An empty sub-log has none.
            Ok(None) => (self.checkpoint.size > 0).then(|| (Kind::Missing, "it is not there".to_owned())),
            Err(error) => Some((Kind::Unreadable, format!("it cannot be read: {error}"))),
        };
        if let Some((kind, text)) = kind_text
            && !self.state.short
        {
            self.state.short = true;
            found.push(Finding::new(kind, &self.origin, text).of(LogFile::Sizes));
        }
        !self.sizes.is_empty()
    }

    /// `rosters` carries no signature; the sub-logs say as well when a roster came into force.
    fn check_turn(&mut self, epoch: &Epoch<'_>, found: &mut Findings) {
        let (seen, turn) = (std::mem::take(&mut self.changed), self.anchor.turn_at(epoch.number));
        let wrong = |kind, text: String| {
            Finding::new(kind, &self.anchor.origin, text).of(LogFile::Rosters).epoch(epoch.number)
        };
        for (version, hash) in seen.iter().flatten() {
            if turn.is_none_or(|turn| turn < *version) {
                let text = format!(
                    "the sub-logs say that roster version {version} came into force in this epoch; it does not"
                );
                found.push(wrong(Kind::Damaged, text));
            }
            if self.anchor.roster(*version).is_some_and(|roster| roster.hash != hash.as_ref()) {
                let text =
                    format!("the sub-log of {} names another roster as version {version}", self.agency);
                found.push(wrong(Kind::Contradiction, text));
            }
        }
        let Some(version) = turn.filter(|_| epoch.number > 0) else { return };
        let member = epoch.roster.is_some_and(|roster| roster.index_of(&self.agency).is_some());
        let told = seen.iter().any(|seen| seen.as_ref().is_none_or(|(seen, _)| *seen == version));
        if member && !told && !self.state.stopped {
            let text = format!(
                "it says that roster version {version} came into force in this epoch; the sub-logs do not"
            );
            found.push(wrong(Kind::Damaged, text));
        }
    }

    fn check_slot(&mut self, epoch: &Epoch<'_>, size: u64, root: &Digest, found: &mut Findings) {
        let index = epoch.roster.and_then(|roster| roster.index_of(&self.agency));
        let (Some(slots), Some(index)) = (epoch.slots.as_ref(), index) else {
            if epoch.slots.is_some() && epoch.roster.is_some() && size > 0 {
                let text = "it has entries in an epoch whose roster does not name this agency";
                found.push(
                    Finding::new(Kind::WrongSlot, &self.origin, text).of(LogFile::Sizes).epoch(epoch.number),
                );
            }
            return;
        };
        let after = self.slot_keys.partition_point(|(from, _)| *from <= epoch.number);
        let key = after.checked_sub(1).and_then(|at| self.slot_keys.get(at)).map_or([0; 32], |(_, key)| *key);
        let salt = slot_salt(&key, &self.anchor.origin, epoch.number);
        let there = usize::try_from(index).ok().and_then(|index| slots.get(index));
        if there == Some(&slot(&salt, index, size, root)) {
            self.state.slots = self.state.slots.saturating_add(1);
            self.state.slot_ms = epoch.times.map_or(self.state.slot_ms, |(_, ended_ms)| ended_ms);
            return;
        }
        if !self.state.wrong && self.has_slot_keys && size == self.checkpoint.size && self.sizes.is_empty() {
            let text = "the root log goes on, and this sub-log ends here: fetch the rest (`lintas audit mirror --agency`); if \
                        nothing more comes, `slot-keys` or `sizes` is damaged, or the broker withholds entries";
            let finding = Finding::new(Kind::Missing, &self.origin, text).of(LogFile::Checkpoint);
            found.push(finding.of(LogFile::Sizes).of(LogFile::SlotKeys).epoch(epoch.number));
            return;
        }
        self.state.wrong = true;
        let text = "the root log's slot of this agency is not that of its sub-log: `sizes`, `slot-keys` or the entries are \
                    damaged, or the broker published another sub-log than this one";
        let mut finding = Finding::new(Kind::WrongSlot, &self.origin, text).of(LogFile::SlotKeys);
        if !self.has_slot_keys {
            finding = Finding::new(Kind::Missing, &self.origin, "it is not there, and the slots need it")
                .of(LogFile::SlotKeys);
        }
        found.push(finding.of(LogFile::Sizes).epoch(epoch.number));
    }
}

fn slot_keys(bytes: &Bytes, origin: &str, found: &mut Findings) -> Vec<(u64, [u8; 32])> {
    let mut keys: Vec<(u64, [u8; 32])> = Vec::new();
    for record in bytes.chunks(40) {
        let read = record
            .split_first_chunk::<8>()
            .and_then(|(epoch, key)| Some((u64::from_be_bytes(*epoch), <[u8; 32]>::try_from(key).ok()?)));
        let follows = |epoch: u64| keys.last().is_none_or(|(before, _)| *before < epoch);
        match read {
            Some((epoch, key)) if follows(epoch) => keys.push((epoch, key)),
            Some(_) | None => {
                let text = "it ends within a record, or its epochs do not go up";
                found.push(Finding::new(Kind::Damaged, origin, text).of(LogFile::SlotKeys));
                return keys;
            }
        }
    }
    keys
}
