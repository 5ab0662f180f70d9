//! Opening by the indexes of sealed segments: what is seen then, and what soon after.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;

use std::{thread::sleep, time::Duration};

use lintas_journal::*;
use support::*;

/// Several sealed segments, a snapshot with a carried record among them.
fn disk() -> SimDisk {
    let disk = SimDisk::new(1, 512);
    let (mut journal, ..) = open(&disk).unwrap();
    for tag in 1..=30 {
        journal.commit(&sized(tag, 1000), Class::Ordinary).unwrap();
    }
    journal.compact(compaction(25, b"the snapshot", |sequence| sequence == 3 || sequence > 20)).unwrap();
    for tag in 31..=60 {
        journal.commit(&sized(tag, 1000), Class::Ordinary).unwrap();
    }
    drop(journal);
    disk
}

fn glance(disk: &SimDisk) -> Result<(Journal<SimDisk>, Seen), OpenError> {
    let mut seen = Seen::default();
    Journal::open_untended(disk.clone(), limits(), None, &mut seen, Depth::Indexes)
        .map(|(journal, _)| (journal, seen))
}

/// What the verifier says of it within so many steps of 5 ms; its thread has the lowest priority.
fn verified_within(journal: Journal<SimDisk>, steps: u32) -> Option<String> {
    let committer = Committer::start(journal).unwrap();
    let handle = committer.handle();
    for _ in 0..steps {
        if let Some(damage) = handle.damage() {
            assert!(handle.commit_wait(sized(0, 10), Class::Essential).is_err(), "it goes on");
            return Some(damage.to_string());
        }
        sleep(Duration::from_millis(5));
    }
    None
}

/// The damage that it finds.
fn verified(journal: Journal<SimDisk>) -> String {
    verified_within(journal, 12_000).unwrap()
}

#[test]
fn damage_in_a_sealed_segment_is_found_soon_after_opening_and_named() {
    let whole = disk();
    assert_eq!(verified_within(glance(&whole.fork()).unwrap().0, 40), None);
    for tag in [3, 22, 31, 40] {
        let bad = whole.fork();
        let (file, at) = find(&bad, format!("record {tag} ").as_bytes()).unwrap();
        bad.flip(file, at + 100, 1);
        let refused = damage(Journal::open(bad.fork(), limits(), None, &mut Seen::default()).unwrap_err());
        assert_eq!((refused.file, refused.field), (Some(file), Field::RecordChecksum));
        let (journal, seen) = glance(&bad).unwrap();
        assert_eq!(seen.records.len(), 35, "all behind the snapshot");
        let read = journal.reader().read(tag);
        assert!(matches!(read, Err(ReadError::Damaged(_))), "a read finds it at once: {read:?}");
        // What vouches for it differs, because another is asked first.
        let place = |text: &str| text.split("; ").next().map(str::to_owned);
        let found = verified(journal);
        assert_eq!(place(&found), place(&refused.to_string()));
        assert!(
            found.contains(&format!("acknowledged records from {} on", refused.sequence.unwrap())),
            "{found}"
        );
    }
}

#[test]
fn damage_that_a_reader_meets_is_remembered() {
    let disk = disk();
    let (journal, ..) = open(&disk).unwrap();
    let committer = Committer::start(journal).unwrap();
    let (handle, reader) = (committer.handle(), committer.handle().reader());
    assert!(matches!(reader.read(10_000), Err(ReadError::NotFound { .. })) && handle.unreadable().is_none());
    let (file, at) = find(&disk, b"record 40 ").unwrap();
    disk.flip(file, at + 100, 1);
    let Err(ReadError::Damaged(found)) = reader.read(40) else { panic!("it can be read") };
    assert_eq!((handle.unreadable(), handle.is_poisoned()), (Some(found.as_ref()), false));
}

#[test]
fn damage_to_what_is_read_refuses_to_open() {
    let whole = disk();
    let mut tried = 0;
    for file in whole.list().unwrap() {
        let content = whole.content(file);
        for at in (HEADER..content.len()).step_by(8).filter(|at| content[*at..].starts_with(b"LJGROUP1")) {
            let contents = u16::from_le_bytes([content[at + 36], content[at + 37]]);
            // Indexes, and parts of the snapshot that is there.
            if ![3, 6].contains(&contents) {
                continue;
            }
            for offset in [0, 20, 36, GROUP + 4, GROUP + 16, GROUP + 20, GROUP + 24] {
                let bad = whole.fork();
                bad.flip(file, at + offset, 1);
                let opened = Journal::open(bad.fork(), limits(), None, &mut Seen::default());
                if opened.is_ok() {
                    continue; // An old one that is not live any more.
                }
                // The header of a part is not read, but soon verified.
                let is_read = contents == 6 || offset >= GROUP;
                match glance(&bad) {
                    Err(error) => assert_eq!(damage(error).file, Some(file)),
                    Ok((journal, _)) => {
                        assert!(!is_read, "contents {contents} at {at} + {offset} of {file}");
                        assert!(!verified(journal).is_empty());
                    }
                }
                tried += 1;
            }
        }
    }
    assert!(tried > 20, "{tried}");
}

/// The file of the last segment.
fn newest(disk: &SimDisk) -> u64 {
    let number = |file: &u64| u64::from_le_bytes(disk.content(*file)[16..24].try_into().unwrap());
    disk.list().unwrap().into_iter().max_by_key(number).unwrap()
}

#[test]
fn a_full_segment_with_its_index_and_no_successor_is_moved_on_a_full_disk() {
    let disk = SimDisk::new(1, 512);
    let (mut journal, ..) = open(&disk).unwrap();
    for tag in 1..=200 {
        journal.commit(&sized(tag, 100), Class::Ordinary).unwrap();
    }
    drop(journal);
    let last = newest(&disk);
    let length = disk.content(last).len();
    disk.plant(last, 0, &vec![0; length]);
    disk.set_capacity(disk.used_bytes());
    // The spare is enough: the index that is there is not written again, and needs no room beside the new one.
    let (journal, seen, report) = open(&disk).unwrap();
    assert!(report.cut.is_none() && seen.records.len() > 50 && seen.records.len() < 200);
    drop(journal);
    assert_eq!(disk.content(newest(&disk)).len(), length);
}

#[test]
fn a_segment_with_its_index_and_no_successor_goes_on() {
    let unfinished = disk();
    let last = newest(&unfinished);
    let length = unfinished.content(last).len();
    unfinished.plant(last, 0, &vec![0; length]);
    let (mut journal, seen, report) = open(&unfinished).unwrap();
    assert!(report.cut.is_none() && seen.records.len() < 35);
    let next = journal.next_sequence();
    journal.commit(&sized(next, 100), Class::Ordinary).unwrap();
    drop(journal);
    let (_, again, _) = open(&unfinished).unwrap();
    assert_eq!(again.records.len(), seen.records.len() + 1);
}
