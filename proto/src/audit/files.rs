//! What a log consists of: files with these paths, on the broker's disk, in a mirror, and over the wire.
//!
//! | path | root log | sub-log | what |
//! |---|---|---|---|
//! | `checkpoint` | yes | yes | signed note; of the root log with cosignatures |
//! | `tile/<L>/<N>[.p/<W>]` | yes | yes | hashes (C2SP tlog-tiles) |
//! | `tile/entries/<N>[.p/<W>]` | yes | yes | entries, each behind its length |
//! | `slots/<N>` | yes | | for each epoch of bundle N: number of slots u32, then 32 bytes each |
//! | `cosigned/<N>` | yes | | checkpoints that a quorum had cosigned, 256 a file, each behind its length u16 |
//! | `rosters` | yes | | from which epoch on which roster's members have the slots: epoch u64, version u64 |
//! | `roster/<version>` | yes | | canonical bytes of `SignedRoster` |
//! | `openings/<N>`, `keys/<N>` | | yes | see [`super::opening`] |
//! | `sizes` | | yes | for each epoch with new entries: epoch u64, size of the sub-log at its end u64 |
//! | `slot-keys` | | yes | from which epoch on which slot key: epoch u64, key (32) |
//!
//! Numbers are big-endian. All but `checkpoint` and `keys/<N>` only grow.

use std::fmt;

use super::tile::{LEVEL_MAX, Tile, entries_path, number_path, parse_numbered};

/// A file of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogFile {
    /// `checkpoint`.
    Checkpoint,
    /// `tile/<L>/<N>[.p/<W>]`.
    Tile(Tile),
    /// `tile/entries/<N>[.p/<W>]`: number and width.
    Entries(u64, u16),
    /// `slots/<N>`.
    Slots(u64),
    /// `cosigned/<N>`.
    Cosigned(u64),
    /// `rosters`.
    Rosters,
    /// `roster/<version>`.
    Roster(u64),
    /// `openings/<N>`.
    Openings(u64),
    /// `keys/<N>`.
    Keys(u64),
    /// `sizes`.
    Sizes,
    /// `slot-keys`.
    SlotKeys,
}

impl LogFile {
    /// Reads a path; `None` for every other text, so that what comes over a wire names no other file.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let full = |rest| parse_numbered(rest).filter(|(_, width)| *width == 256).map(|(index, _)| index);
        let (first, rest) = path.split_once('/').unwrap_or((path, ""));
        let file = match (first, rest) {
            ("checkpoint", "") => Self::Checkpoint,
            ("rosters", "") => Self::Rosters,
            ("sizes", "") => Self::Sizes,
            ("slot-keys", "") => Self::SlotKeys,
            ("slots", rest) => Self::Slots(full(rest)?),
            ("cosigned", rest) => Self::Cosigned(full(rest)?),
            ("openings", rest) => Self::Openings(full(rest)?),
            ("keys", rest) => Self::Keys(full(rest)?),
            ("roster", version) => Self::Roster(version.parse().ok()?),
            ("tile", rest) => match rest.split_once('/')? {
                ("entries", rest) => {
                    let (index, width) = parse_numbered(rest)?;
                    Self::Entries(index, width)
                }
                (level, rest) => {
                    let level = level.parse().ok().filter(|level| *level <= LEVEL_MAX)?;
                    let (index, width) = parse_numbered(rest)?;
                    Self::Tile(Tile { level, index, width })
                }
            },
            _ => return None,
        };
        (file.to_string() == path).then_some(file)
    }

    /// Whether it belongs to the root log.
    #[must_use]
    pub fn is_of_root(self) -> bool {
        match self {
            Self::Checkpoint | Self::Tile(_) | Self::Entries(..) => true,
            Self::Slots(_) | Self::Cosigned(_) | Self::Rosters | Self::Roster(_) => true,
            Self::Openings(_) | Self::Keys(_) | Self::Sizes | Self::SlotKeys => false,
        }
    }

    /// Whether it belongs to a sub-log.
    #[must_use]
    pub fn is_of_sub_log(self) -> bool {
        match self {
            Self::Checkpoint | Self::Tile(_) | Self::Entries(..) => true,
            Self::Openings(_) | Self::Keys(_) | Self::Sizes | Self::SlotKeys => true,
            Self::Slots(_) | Self::Cosigned(_) | Self::Rosters | Self::Roster(_) => false,
        }
    }

    /// Whether reading it shows what events say, so that it counts as a read of that agency's sub-log.
    #[must_use]
    pub fn shows_events(self) -> bool {
        matches!(self, Self::Openings(_) | Self::Keys(_))
    }
}

impl fmt::Display for LogFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checkpoint => f.write_str("checkpoint"),
            Self::Tile(tile) => f.write_str(&tile.path()),
            Self::Entries(index, width) => f.write_str(&entries_path(*index, *width)),
            Self::Slots(index) => write!(f, "slots/{}", number_path(*index)),
            Self::Cosigned(index) => write!(f, "cosigned/{}", number_path(*index)),
            Self::Rosters => f.write_str("rosters"),
            Self::Roster(version) => write!(f, "roster/{version}"),
            Self::Openings(index) => write!(f, "openings/{}", number_path(*index)),
            Self::Keys(index) => write!(f, "keys/{}", number_path(*index)),
            Self::Sizes => f.write_str("sizes"),
            Self::SlotKeys => f.write_str("slot-keys"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_reads_as_it_is_written() {
        let all = [
            LogFile::Checkpoint,
            LogFile::Tile(Tile { level: 3, index: 1_234_067, width: 256 }),
            LogFile::Tile(Tile { level: 0, index: 0, width: 17 }),
            LogFile::Entries(5, 256),
            LogFile::Entries(5, 1),
            LogFile::Slots(1_000),
            LogFile::Cosigned(0),
            LogFile::Rosters,
            LogFile::Roster(12),
            LogFile::Openings(999),
            LogFile::Keys(1),
            LogFile::Sizes,
            LogFile::SlotKeys,
        ];
        for file in all {
            assert_eq!(LogFile::parse(&file.to_string()), Some(file));
            assert!(file.is_of_root() || file.is_of_sub_log());
        }
    }

    #[test]
    fn no_path_leads_elsewhere() {
        let wrong = [
            "",
            "/",
            "..",
            "checkpoint/",
            "checkpoint/x",
            "../checkpoint",
            "tile/8/000",
            "tile/00/000",
            "tile/0/0",
            "tile/0/000.p/256",
            "tile/entries/../x",
            "slots/000.p/3",
            "slots/",
            "roster/01",
            "roster/-1",
            "roster/+1",
            "roster/",
            "keys/x000/000",
            "sizes/000",
            "journal/segment",
            "tile/entries",
            "tile",
        ];
        for path in wrong {
            assert_eq!(LogFile::parse(path), None, "{path}");
        }
    }
}
