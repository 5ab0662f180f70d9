//! Cosigned checkpoints of a root log, beside its epochs.

use lintas_proto::{
    audit::{files::LogFile, note::SignedCheckpoint, tile},
    id::Digest,
    limits,
};

use super::RootScan;
use crate::core::audit::{
    anchor::Anchor,
    finding::{Finding, Findings, Kind},
    source::whole,
};

/// A checkpoint that the log signed.
pub(super) struct Cosigned {
    pub(super) size: u64,
    root: Digest,
    /// By when a quorum had cosigned it, seconds.
    pub(super) at_s: Option<u64>,
    pub(super) file: u64,
}

impl RootScan<'_> {
    /// Whether a quorum cosigned in time a checkpoint that has this epoch.
    pub(super) fn attest(&mut self, epoch: u64, times: Option<(u64, u64)>, found: &mut Findings) {
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
    pub(super) fn compare_cosigned(&mut self, found: &mut Findings) {
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

    pub(super) fn advance(&mut self, found: &mut Findings) {
        self.state.at.1 = self.state.at.1.saturating_add(1);
        self.state.cosigned = self.state.cosigned.saturating_add(1);
        if self.state.at.1 >= self.list.len() && !self.over {
            self.state.at = (self.state.at.0.saturating_add(1), 0);
            self.load(found);
        }
    }

    /// Reads the file that `state.at` names.
    pub(super) fn load(&mut self, found: &mut Findings) {
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

/// Signature lines that are neither the log's nor a valid one of a witness of any roster.
pub(super) fn foreign_lines(signed: &SignedCheckpoint, anchor: &Anchor) -> Option<String> {
    let lines = signed.to_string().lines().filter(|line| line.starts_with('\u{2014}')).count();
    let known = 1usize.saturating_add(signed.cosignatures(anchor.witnesses()).len());
    (lines > known).then(|| {
        let foreign = lines.saturating_sub(known);
        format!("{foreign} of its {lines} signatures are not valid ones of the log or of a witness")
    })
}
