//! Looking at a journal that nobody has open, without writing a byte: what opening would find, and every segment that
//! it would read.

use std::sync::Arc;

use crate::disk::Disk;
use crate::error::OpenError;
use crate::limits::Limits;
use crate::map::{Reader, SharedMap};
use crate::recover::{Depth, examine};
use crate::survey::survey;
use crate::{Anchor, Fold, OpenReport};

/// What a journal holds, verified.
#[derive(Debug)]
pub struct Checked<D: Disk> {
    /// As opening would report it. Nothing is written again or overwritten, so those counts are 0.
    pub report: OpenReport,
    /// Reads every record that is there, those before the snapshot as well.
    pub reader: Reader<D>,
    /// Bytes of the live segments that were verified: headers and groups. What lies behind the end of a segment is zeros,
    /// or stale, and is not used by anything.
    pub verified_bytes: u64,
    /// Files that are not part of the live journal: blank, or to be overwritten.
    pub idle_files: u64,
}

/// Verifies the journal in `disk` as opening it would, folds it into `fold`, and writes nothing. The lock is not taken:
/// the caller sees to it that nobody has the journal open.
///
/// # Errors
/// [`OpenError`], as opening would give it.
pub fn check<D: Disk>(
    disk: &D,
    limits: &Limits,
    anchor: Option<Anchor>,
    fold: &mut impl Fold,
) -> Result<Checked<D>, OpenError> {
    limits.check()?;
    let survey = survey(disk, limits)?;
    let files = survey.files;
    let (report, map) = match examine(disk, &survey, anchor, fold, Depth::Whole)? {
        Some(examined) => {
            let mut map = examined.map;
            map.insert(examined.last.found.header.number, examined.last.scan.map);
            (examined.report, map)
        }
        None => (OpenReport { next_sequence: 1, ..OpenReport::default() }, crate::map::Map::default()),
    };
    let verified_bytes = map.segments.values().map(|segment| u64::from(segment.end)).sum();
    let idle_files = files.saturating_sub(map.segments.len() as u64);
    let reader = Reader::new(disk.clone(), Arc::new(SharedMap::new(map)));
    Ok(Checked { report, reader, verified_bytes, idle_files })
}
