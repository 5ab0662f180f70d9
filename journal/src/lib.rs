//! The one place that makes bytes durable: segments, group commit, recovery.
mod commit;
mod compact;
pub mod disk;
mod error;
mod group;
mod image;
mod journal;
mod layout;
mod limits;
mod mailbox;
mod map;
mod recover;
mod scan;
mod segment;
mod space;
mod survey;
mod tail;
mod types;

pub use commit::{CommitHandle, Committer, Done};
pub use disk::Disk;
pub use disk::files::FileDisk;
pub use disk::sim::{Loss, SimDisk};
pub use error::{CommitError, Cut, Damage, Evidence, Field, FoldError, LimitsError, OpenError, ReadError};
pub use journal::Journal;
pub use limits::{Limits, SEGMENT_BYTES_MAX};
pub use map::Reader;
pub use types::{
    Anchor, Class, Committed, CompactReport, Compaction, Fold, Group, Live, NewRecord, OpenReport, Record,
};
