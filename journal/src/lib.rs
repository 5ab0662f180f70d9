//! The one place that makes bytes durable: segments, group commit, recovery.
//!
//! The journal knows bytes, sequences and nothing of their meaning. Its owner hands in groups of records and
//! learns when they are durable; reads records by sequence; and, now and then, hands in a snapshot of its state
//! so that old segments can go. The format, byte by byte, is in `docs/JOURNAL.md`.
//!
//! | to do this | use |
//! |---|---|
//! | open, and fold what is there into the owner's state | [`Journal::open`], [`Fold`] |
//! | commit from one thread | [`Journal::commit`], [`Journal::commit_many`] |
//! | commit from many, one fsync for all that wait | [`Committer`], [`CommitHandle`] |
//! | read, also meanwhile | [`Reader`] |
//! | make room | [`Journal::compact`], [`Compaction`] |
//! | close, and remember how far it went | [`Journal::close`], [`Anchor`] |
//! | run it on files, or on a disk that fails on demand | [`FileDisk`], [`SimDisk`] |
//! | commit as the committer does, one write at a time | [`ByHand`] |
//!
//! Inside, from the bytes up: `segment`, `group`, `image` and `index` are the formats, one kind of bytes each; `scan`
//! walks the groups of a segment and tells damage from a torn end; `tail` is the segment being written; `map`
//! knows where each record lies, `run` reads many at once; `space` is the account of free room. `survey`, `recover`, `newest` (the
//! snapshot), `sealed` and `replay` open, `verify` reads later what opening did not, `journal`
//! commits, `compact` makes room; `mailbox` and `commit` are the committer, `by_hand` is the same without its threads.
//!
//! # What fails, what is on the disk then, and what happens
//!
//! | what fails | what may be on the disk | what happens |
//! |---|---|---|
//! | power or process, during the write or fsync of a batch | any part of that batch | the valid groups at its front stay, the rest is cut and reported; none of it was acknowledged |
//! | power or process, while a segment is begun | a whole header, a torn one or none; nothing behind it | a whole one is an empty segment, the others are blank files |
//! | power or process, while opening moves the end | the old segment untouched, the new one incomplete | the new one is dropped, the move is made again |
//! | power or process, during a compaction | the sources untouched, an unfinished snapshot | the snapshot before it is valid; unfinished parts are ignored, carried copies are copies |
//! | power or process, while a segment is overwritten | a header that is no longer live, or a blank file | it is overwritten again |
//! | fsync or write of anything | uncertain, whatever a read says | poisoned: every waiting and later caller gets [`CommitError::Poisoned`]; the next opening writes the end again |
//! | no room, for a group | nothing of it | [`CommitError::DiskFull`] before it gets a sequence; the reserve still serves [`Class::Essential`] |
//! | no room, for a compaction | nothing of it | [`CommitError::DiskFull`] before anything is written |
//! | no room, for opening | unchanged | [`OpenError::DiskFull`]; one segment is kept for this, so only if something else took it |
//! | a read, while opening | unchanged | [`OpenError::Io`] |
//! | a read, or damage, of one record | unchanged | [`ReadError`]; a compaction that needs it is refused before it writes |
//! | damage before a later group, a later segment or what a snapshot needs | unchanged | [`OpenError::Damaged`] says where, which field, from which record on, and how it is known |
//! | damage in a sealed segment, where opening read its index alone | unchanged | poisoned as soon as it is found; [`CommitHandle::damage`] says what such a refusal would |
//! | damage at the very end | unchanged | with an [`Anchor`] beyond it [`OpenError::ShortOfAnchor`]; without, it is a torn end like any other |
//! | a second opener | unchanged | [`OpenError::Locked`] |
//! | a callback of the owner panics | its group is durable | poisoned, the others of its batch are answered first |

mod by_hand;
mod check;
mod commit;
mod compact;
pub mod disk;
mod error;
mod group;
mod image;
mod index;
mod journal;
mod layout;
mod limits;
mod mailbox;
mod map;
mod newest;
mod recover;
mod replay;
mod run;
mod scan;
mod sealed;
mod segment;
mod space;
mod survey;
mod tail;
mod types;
mod verify;

pub use by_hand::ByHand;
pub use check::{Checked, check};
pub use commit::{CommitHandle, Committer, Done};
pub use disk::Disk;
pub use disk::files::FileDisk;
pub use disk::sim::{Loss, SimDisk};
pub use error::{CommitError, Cut, Damage, Evidence, Field, FoldError, LimitsError, OpenError, ReadError};
pub use journal::Journal;
pub use limits::{Limits, SEGMENT_BYTES_MAX};
pub use map::Reader;
pub use recover::Depth;
pub use types::{
    Anchor, Class, Committed, CompactReport, Compaction, Fold, Group, Live, NewRecord, OpenReport, Record,
};
