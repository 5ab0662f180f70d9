//! A check finds what opening finds, and changes nothing.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;

use lintas_journal::*;
use support::*;

/// A sealed segment, a snapshot with a carried record, and groups behind it.
fn disk() -> SimDisk {
    let disk = SimDisk::new(1, 512);
    let (mut journal, ..) = open(&disk).unwrap();
    for tag in 1..=20 {
        journal.commit(&sized(tag, 1000), Class::Ordinary).unwrap();
    }
    journal.compact(compaction(15, b"the snapshot", |sequence| sequence == 3)).unwrap();
    for tag in 21..=22 {
        journal.commit(&sized(tag, 100), Class::Ordinary).unwrap();
    }
    journal.close().unwrap();
    disk
}

/// What opening a copy says and folds, and what a check says; both in words.
fn both(disk: &SimDisk) -> (String, String) {
    let opened = match open(&disk.fork()) {
        Ok((_, seen, report)) => {
            format!("{:?} {:?} {}", seen.by_sequence(), report.cut, report.next_sequence)
        }
        Err(error) => error.to_string(),
    };
    let mut seen = Seen::default();
    let checked = match check(disk, &limits(), None, &mut seen) {
        Ok(Checked { report, .. }) => {
            format!("{:?} {:?} {}", seen.by_sequence(), report.cut, report.next_sequence)
        }
        Err(error) => error.to_string(),
    };
    (opened, checked)
}

#[test]
fn a_check_reads_every_record_and_writes_nothing() {
    let disk = disk();
    let (files, operations) = (disk.list().unwrap(), disk.operations());
    let before: Vec<Vec<u8>> = files.iter().map(|file| disk.content(*file)).collect();
    let mut seen = Seen::default();
    let checked = check(&disk, &limits(), Some(Anchor { sequence: 22 }), &mut seen).unwrap();
    assert!(checked.report.clean_close && checked.report.cut.is_none());
    assert_eq!((checked.report.next_sequence, checked.report.snapshot_covers), (23, Some(15)));
    // The carried one, those behind the snapshot, and no other.
    let there: Vec<u64> = (1..23).filter(|sequence| checked.reader.read(*sequence).is_ok()).collect();
    assert!(there.contains(&3) && (16..23).all(|sequence| there.contains(&sequence)), "{there:?}");
    assert!(matches!(checked.reader.read(23), Err(ReadError::NotFound { .. })));
    assert_eq!(disk.operations(), operations, "it writes");
    assert_eq!(files.iter().map(|file| disk.content(*file)).collect::<Vec<_>>(), before);
    let short = check(&disk, &limits(), Some(Anchor { sequence: 23 }), &mut Seen::default()).unwrap_err();
    assert!(matches!(short, OpenError::ShortOfAnchor { anchor: 23, last: 22, .. }), "{short}");
}

#[test]
fn a_check_finds_every_flip_that_opening_finds_and_says_the_same() {
    let disk = disk();
    let (whole, same) = both(&disk);
    assert_eq!(whole, same);
    let (mut found, mut idle) = (0, 0);
    for file in disk.list().unwrap() {
        let used = disk.content(file).iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        for at in (0..used).step_by(37) {
            let damaged = disk.fork();
            damaged.flip(file, at, 1 << (at % 8));
            let (opened, checked) = both(&damaged);
            assert_eq!(opened, checked, "byte {at} of file {file}");
            if checked == whole { idle += 1 } else { found += 1 }
        }
    }
    // What a dead segment still holds means nothing.
    assert!(found > 100 && found > idle, "{found} {idle}");
}

#[test]
fn a_journal_that_never_was_is_empty() {
    let disk = SimDisk::new(1, 512);
    let checked = check(&disk, &limits(), None, &mut Seen::default()).unwrap();
    assert_eq!((checked.report.next_sequence, checked.verified_bytes, checked.idle_files), (1, 0, 0));
}
