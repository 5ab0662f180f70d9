//! What is to be written, in which order: docs/AUDIT.md, "Order of publication".

use std::fmt;

use lintas_proto::{
    audit::{
        files::LogFile,
        tile::{Tile, WIDTH},
    },
    schema::PublishedLog,
};

/// A file of the log. Written out, its path below `audit/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// How many logs have ended before this one.
    pub ended: u64,
    /// Whose sub-log; none for the root log.
    pub agency: Option<String>,
    /// Which file.
    pub file: LogFile,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.ended.saturating_add(1);
        match &self.agency {
            Some(agency) => write!(f, "{number}/{agency}/{}", self.file),
            None => write!(f, "{number}/{}", self.file),
        }
    }
}

/// What is done to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// The file is these bytes.
    Whole(Vec<u8>),
    /// From `at` on the file is these bytes, and ends with them; there may be more of an attempt that was cut off.
    Append {
        /// Bytes that stay.
        at: u64,
        /// Bytes that follow.
        bytes: Vec<u8>,
    },
    /// The bytes at `at` are these; the others stay.
    Overwrite {
        /// Where.
        at: u64,
        /// With what.
        bytes: Vec<u8>,
    },
}

/// A part of an epoch, and maybe its end. Each step is durable before the next one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Publication {
    /// First: openings, keys, entry bundles, sizes, slot keys.
    pub contents: Vec<(Target, Write)>,
    /// Then: tiles, slots, rosters.
    pub tiles: Vec<(Target, Write)>,
    /// Then, at the end of an epoch: how far the log is published.
    pub end: Option<PublishedLog>,
    /// Then these go: unfinished tiles and bundles that no recent checkpoint needs.
    pub gone: Vec<Target>,
}

impl Publication {
    /// Tiles and bundles that became full: the unfinished ones of the same number go when this is durable.
    pub fn full(&self) -> impl Iterator<Item = &Target> {
        self.contents.iter().chain(&self.tiles).map(|(target, _)| target).filter(|target| match target.file {
            LogFile::Entries(_, width) | LogFile::Tile(Tile { width, .. }) => u64::from(width) == WIDTH,
            LogFile::Checkpoint
            | LogFile::Slots(_)
            | LogFile::Cosigned(_)
            | LogFile::Rosters
            | LogFile::Roster(_)
            | LogFile::Openings(_)
            | LogFile::Keys(_)
            | LogFile::Sizes
            | LogFile::SlotKeys => false,
        })
    }
}

/// A file that is only appended to.
#[derive(Debug, Clone, Default)]
pub(super) struct Appended {
    /// How long it is with what was given out.
    pub(super) at: u64,
    pending: Vec<u8>,
}

impl Appended {
    pub(super) fn of(at: u64) -> Self {
        Self { at, pending: Vec::new() }
    }

    pub(super) fn put(&mut self, parts: &[&[u8]]) {
        parts.iter().for_each(|part| self.pending.extend_from_slice(part));
    }

    /// Gives out what is new.
    pub(super) fn give(&mut self, target: impl FnOnce() -> Target, out: &mut Vec<(Target, Write)>) {
        if !self.pending.is_empty() {
            let (at, bytes) = (self.at, std::mem::take(&mut self.pending));
            self.at = at.saturating_add(bytes.len() as u64);
            out.push((target(), Write::Append { at, bytes }));
        }
    }
}
