//! The segments of a journal, read byte by byte as docs/JOURNAL.md says.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::independent::files;

/// Length of a segment's header.
const HEADER: usize = 4_096;
/// Length of a group's header.
const GROUP: usize = 88;
/// Length of a record's header.
pub const RECORD: usize = 20;

/// A record of a journal, where it lies.
#[derive(Debug)]
pub struct Place {
    /// Offset of the header of its group.
    pub group: usize,
    /// Offset of its own header.
    pub record: usize,
    /// Length of its payload.
    pub bytes: usize,
    /// What it is, to its owner.
    pub kind: u16,
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> usize {
    bytes[at..at + N].iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
}

/// The records of a segment, as docs/JOURNAL.md says; the last is the mark that it was closed.
#[must_use]
pub fn records(segment: &[u8]) -> Vec<Place> {
    let (mut places, mut group) = (Vec::new(), HEADER);
    while segment.get(group..).is_some_and(|rest| rest.starts_with(b"LJGROUP1")) {
        let end = group + GROUP + number::<4>(segment, group + 28);
        let mut record = group + GROUP;
        while record < end {
            let (bytes, kind) = (number::<4>(segment, record), number::<2>(segment, record + 4));
            places.push(Place { group, record, bytes, kind: u16::try_from(kind).unwrap() });
            record += RECORD + bytes;
        }
        group = end.next_multiple_of(8);
    }
    places
}

/// The files of the live segment alone, which a small journal has one of.
#[must_use]
pub fn live(journal: &Path, copy: &Path) -> PathBuf {
    let newest =
        files(journal).into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "journal"));
    let newest = newest.max_by_key(|path| number::<8>(&fs::read(path).unwrap(), 16)).unwrap();
    fs::create_dir_all(copy).unwrap();
    let path = copy.join(newest.file_name().unwrap());
    fs::copy(newest, &path).unwrap();
    path
}
