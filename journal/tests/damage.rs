//! Damage is named where it is, and never taken for a torn end; hostile bytes never panic.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;

use lintas_journal::*;
use support::*;

/// One sealed segment, then a snapshot with a carried record, then two groups: every kind of thing.
fn everything() -> SimDisk {
    let disk = SimDisk::new(1, 512);
    let (mut journal, ..) = open(&disk).unwrap();
    for tag in 1..=20 {
        journal.commit(&sized(tag, 1000), Class::Ordinary).unwrap();
    }
    journal.compact(compaction(15, b"the snapshot", |sequence| sequence == 3)).unwrap();
    for tag in 21..=22 {
        journal.commit(&sized(tag, 100), Class::Ordinary).unwrap();
    }
    drop(journal);
    disk
}

/// The same after a reopening, which moved the last segment, and one more group.
fn everything_moved() -> SimDisk {
    let disk = everything();
    let (mut journal, ..) = open(&disk).unwrap();
    journal.commit(&sized(23, 100), Class::Ordinary).unwrap();
    drop(journal);
    disk
}

/// The file and offset of every group header of the newest use of each file, with its segment and contents.
fn groups(disk: &SimDisk) -> Vec<(u64, usize, u64, u16)> {
    let mut groups = Vec::new();
    for file in disk.list().unwrap() {
        let content = disk.content(file);
        for at in (HEADER..content.len()).step_by(8) {
            if content[at..].starts_with(b"LJGROUP1") {
                let segment = u64::from_le_bytes(content[at + 8..at + 16].try_into().unwrap());
                groups.push((file, at, segment, u16::from_le_bytes([content[at + 36], content[at + 37]])));
            }
        }
    }
    groups
}

#[test]
fn a_flipped_bit_in_any_field_of_any_group_and_record_is_named() {
    let disk = everything_moved();
    let whole = open(&disk.fork()).unwrap().1;
    let groups = groups(&disk);
    let last = *groups.iter().max_by_key(|(_, at, segment, _)| (*segment, *at)).unwrap();
    let contents: std::collections::BTreeSet<u16> = groups.iter().map(|(.., contents)| *contents).collect();
    assert_eq!(
        contents.into_iter().collect::<Vec<_>>(),
        [1, 2, 3, 4, 6],
        "owner, carried, snapshot, moved, index"
    );
    // Offsets of the byte tables in docs/JOURNAL.md, and what each must be called.
    let fields: [(usize, &[Field]); 18] = [
        (0, &[Field::GroupMagic]),
        (8, &[Field::GroupSegment]),
        (16, &[Field::GroupChecksum]),
        (20, &[Field::GroupOffset]),
        (24, &[Field::GroupChecksum]),
        (28, &[Field::GroupChecksum]),
        (32, &[Field::GroupChecksum]),
        (36, &[Field::GroupChecksum]),
        (38, &[Field::GroupChecksum]),
        (40, &[Field::GroupChecksum]),
        (48, &[Field::GroupChecksum]),
        (80, &[Field::GroupChecksum]),
        (84, &[Field::GroupChecksum]),
        (GROUP, &[Field::RecordChecksum, Field::RecordLength]),
        (GROUP + 4, &[Field::RecordChecksum]),
        (GROUP + 8, &[Field::RecordChecksum]),
        (GROUP + 16, &[Field::RecordChecksum]),
        (GROUP + 20, &[Field::RecordChecksum]),
    ];
    for (file, at, segment, contents) in groups {
        for (offset, names) in fields {
            if contents == 4 && offset == GROUP + 20 {
                continue; // A mark has no payload.
            }
            for mask in [1, 0x80] {
                let bad = disk.fork();
                bad.flip(file, at + offset, mask);
                let context = format!("segment {segment} contents {contents} at {at} + {offset}");
                if (file, at) == (last.0, last.1) {
                    // Nothing follows the last group: it may be the torn end of a write, and is reported as such.
                    let (_, seen, report) = open(&bad).unwrap();
                    assert_eq!(seen.records.len() + 1, whole.records.len(), "{context}");
                    let cut = report.cut.unwrap();
                    assert!(names.contains(&cut.field), "{context}: {cut}");
                    // And refused as soon as somebody knows better.
                    let bad = disk.fork();
                    bad.flip(file, at + offset, mask);
                    assert!(
                        matches!(open_at(&bad, Some(23)), Err(OpenError::ShortOfAnchor { .. })),
                        "{context}"
                    );
                    continue;
                }
                let operations = bad.operations();
                let damage = damage(open(&bad).unwrap_err());
                assert_eq!(bad.operations(), operations, "a refused opening changes nothing: {context}");
                assert!(names.contains(&damage.field), "{context}: {damage}");
                assert_eq!(
                    (damage.file, damage.segment, damage.offset),
                    (Some(file), segment, at as u64),
                    "{context}"
                );
                assert!(damage.to_string().contains("nothing was changed: restore"), "{damage}");
            }
        }
    }
}

#[test]
fn any_flipped_bit_of_the_live_journal_is_seen() {
    let disk = everything_moved();
    let whole = open(&disk.fork()).unwrap().1;
    let mut refused = 0;
    for (file, at, ..) in groups(&disk) {
        for offset in (0..300).step_by(7) {
            let bad = disk.fork();
            bad.flip(file, at + offset, 1 << (offset % 8));
            match open(&bad) {
                Err(OpenError::Damaged(_)) => refused += 1,
                Err(other) => panic!("{other}"),
                Ok((_, seen, report)) => {
                    let lost = whole.records.len() - seen.records.len();
                    assert_eq!(whole.records[..seen.records.len()], seen.records[..]);
                    assert!(
                        lost <= 1 && (lost == 0 || report.cut.is_some()),
                        "{file} {at} {offset}: {report:?}"
                    );
                }
            }
        }
    }
    assert!(refused > 300, "{refused}");
}

#[test]
fn a_damaged_segment_header_is_never_taken_for_a_blank_file() {
    let disk = everything_moved();
    let mut headers = 0;
    for file in disk.list().unwrap() {
        if disk.content(file)[HEADER..].iter().all(|byte| *byte == 0) {
            continue; // a spare
        }
        headers += 1;
        for (offset, name) in [
            (0, Field::SegmentMagic),
            (8, Field::SegmentChecksum),
            (16, Field::SegmentChecksum),
            (24, Field::SegmentChecksum),
            (32, Field::SegmentChecksum),
            (40, Field::SegmentChecksum),
            (72, Field::SegmentChecksum),
            (80, Field::SegmentChecksum),
            (88, Field::SegmentChecksum),
            (96, Field::SegmentChecksum),
            (4092, Field::SegmentChecksum),
        ] {
            let bad = disk.fork();
            bad.flip(file, offset, 4);
            let damage = damage(open(&bad).unwrap_err());
            assert_eq!(
                (damage.file, damage.field, damage.evidence),
                (Some(file), name, Evidence::BytesFollow)
            );
        }
        let bad = disk.fork();
        bad.plant(file, 0, &[0; HEADER]);
        assert_eq!(damage(open(&bad).unwrap_err()).field, Field::SegmentMagic);
        let bad = disk.fork();
        let mut later = bad.content(file)[..HEADER].to_vec();
        later[8] = 3;
        let crc = crc32c::crc32c(&later[..4092]);
        later[4092..].copy_from_slice(&crc.to_le_bytes());
        bad.plant(file, 0, &later);
        let damage = damage(open(&bad).unwrap_err());
        assert_eq!((damage.field, damage.evidence), (Field::SegmentVersion, Evidence::OtherVersion));
    }
    assert!(headers >= 2, "{headers}");
}

#[test]
fn a_lost_file_is_missed() {
    let disk = everything();
    let (mut missed, mut last) = (0, None);
    for (file, _, segment, _) in groups(&disk) {
        last = last.max(Some((segment, file)));
    }
    for file in disk.list().unwrap().into_iter().filter(|file| Some(*file) != last.map(|(_, file)| file)) {
        if disk.content(file).iter().any(|byte| *byte != 0) {
            let bad = disk.fork();
            bad.steal(file);
            let damage = damage(open(&bad).unwrap_err());
            assert_eq!((damage.field, damage.file), (Field::SegmentMissing, None));
            missed += 1;
        }
    }
    assert!(missed >= 1);
    // The last segment is missed by whoever saw its records.
    let bad = disk.fork();
    bad.steal(last.unwrap().1);
    assert!(open_at(&bad, Some(22)).is_err());
}

#[test]
fn damage_to_the_last_group_is_refused_when_the_anchor_knows_it() {
    let disk = SimDisk::new(1, 512);
    let (mut journal, ..) = open(&disk).unwrap();
    journal.commit(&sized(1, 100), Class::Ordinary).unwrap();
    journal.commit(&sized(2, 100), Class::Ordinary).unwrap();
    drop(journal);
    let (file, at) = find(&disk, b"record 2 ").unwrap();
    disk.flip(file, at, 1);
    let refused = open_at(&disk, Some(2)).unwrap_err();
    let OpenError::ShortOfAnchor { anchor: 2, last: 1, cut: Some(cut) } = refused else {
        panic!("{refused}")
    };
    assert_eq!((cut.first_sequence, cut.field, cut.records), (2, Field::RecordChecksum, Some(1)));
    assert!(find(&disk, b"ecord 2 ").is_some(), "a refused opening keeps what is there");
}

#[test]
fn a_clean_close_vouches_for_everything_before() {
    let disk = SimDisk::new(1, 512);
    let (mut journal, ..) = open(&disk).unwrap();
    journal.commit(&sized(1, 100), Class::Ordinary).unwrap();
    journal.close().unwrap();
    let (file, at) = find(&disk, b"record 1 ").unwrap();
    disk.flip(file, at, 1);
    let damage = damage(open(&disk).unwrap_err());
    assert_eq!((damage.sequence, damage.field), (Some(1), Field::RecordChecksum));
    assert!(matches!(damage.evidence, Evidence::LaterGroup { .. }));
}

#[test]
fn a_record_from_an_earlier_use_of_the_file_never_passes() {
    let disk = SimDisk::new(1, 512);
    let (mut journal, ..) = open(&disk).unwrap();
    for tag in 1..=3 {
        journal.commit(&sized(tag, 500), Class::Ordinary).unwrap();
    }
    let (file, _) = find(&disk, b"record 1 ").unwrap();
    let stale = disk.content(file)[HEADER..].to_vec();
    drop(journal);
    // Opening moved everything to another file. Put the old groups behind a crash as if a lying disk had
    // never overwritten them.
    let (mut journal, ..) = open(&disk).unwrap();
    journal.commit(&sized(4, 500), Class::Ordinary).unwrap();
    let (now, _) = find(&disk, b"record 4 ").unwrap();
    assert_ne!(now, file);
    let used = disk.content(now).iter().rposition(|byte| *byte != 0).unwrap().next_multiple_of(8) + 8;
    drop(journal);
    for shift in 0..3 {
        let bad = disk.fork();
        let from = (used - HEADER).max(shift * 616);
        bad.plant(now, used, &stale[from.min(stale.len())..]);
        bad.plant(now, used, &stale[..stale.len().min(16384 - used)]);
        let (_, seen, report) = open(&bad).unwrap();
        assert_eq!(seen.records.len(), 4);
        assert!(report.cut.is_some());
    }
    // The very place of the last group: same offset, same sequence, an earlier number of the segment.
    let bad = disk.fork();
    bad.plant(now, HEADER, &stale[..616]);
    assert_eq!(damage(open(&bad).unwrap_err()).field, Field::GroupSegment);
}

#[test]
fn a_reader_never_returns_bytes_that_are_not_the_record() {
    let disk = SimDisk::new(1, 512);
    let (mut journal, ..) = open(&disk).unwrap();
    journal.commit(&sized(1, 300), Class::Ordinary).unwrap();
    let (file, at) = find(&disk, b"record 1 ").unwrap();
    for offset in 0..320 {
        let at = at - 20 + offset;
        disk.flip(file, at, 0x10);
        let error = journal.reader().read(1).unwrap_err();
        assert!(matches!(error, ReadError::Damaged(_)), "{offset}: {error}");
        disk.flip(file, at, 0x10);
    }
    assert!(journal.reader().read(1).is_ok());
}

#[test]
fn damage_to_what_an_opening_moved_is_not_taken_for_an_unfinished_move() {
    let disk = everything();
    drop(open(&disk).unwrap());
    // Nothing was committed since: no later group vouches for the moved ones, only the source that is gone.
    let moved = groups(&disk)
        .into_iter()
        .filter(|(.., contents)| *contents == 4)
        .map(|(_, at, segment, _)| (at, segment));
    let (mark, last) = moved.max_by_key(|(_, segment)| *segment).unwrap();
    let mut tried = 0;
    for (file, at, segment, contents) in groups(&disk).into_iter().filter(|(.., segment, _)| *segment == last)
    {
        let bad = disk.fork();
        bad.flip(file, at + GROUP + 9, 1);
        let damage = damage(open(&bad).unwrap_err());
        assert_eq!(
            (damage.segment, damage.offset, damage.field),
            (segment, at as u64, Field::RecordChecksum)
        );
        assert!(matches!(damage.evidence, Evidence::Replaced { .. }), "contents {contents}: {damage}");
        tried += 1;
    }
    assert!(tried > 4, "{tried}");
    let bad = disk.fork();
    let file =
        groups(&disk).into_iter().find(|(_, at, segment, _)| (*at, *segment) == (mark, last)).unwrap().0;
    bad.plant(file, mark, &[0; 112]);
    assert_eq!(damage(open(&bad).unwrap_err()).field, Field::SegmentUnmarked);
}

/// Two journals that differ in one group only, `tag`, which has the same length, place and sequence in both.
fn twins(tag: u64) -> (SimDisk, SimDisk) {
    let twin = |letter: char| {
        let disk = SimDisk::new(1, 512);
        let (mut journal, ..) = open(&disk).unwrap();
        for other in 1..=20 {
            let payload = if other == tag {
                format!("{letter}").repeat(1000)
            } else {
                format!("record {other} ").repeat(90)
            };
            journal.commit(&[record(&payload)], Class::Ordinary).unwrap();
        }
        drop(journal);
        disk
    };
    (twin('a'), twin('b'))
}

#[test]
fn a_whole_group_from_another_history_is_refused() {
    let (disk, other) = twins(3);
    let first_file: Vec<_> = groups(&disk).into_iter().filter(|(_, _, segment, _)| *segment == 1).collect();
    let (file, at, ..) = first_file[3];
    let (_, next, ..) = first_file[4];
    assert_ne!(
        disk.content(file)[at..next],
        other.content(file)[at..next],
        "the fourth group names the third"
    );
    disk.plant(file, at, &other.content(file)[at..next]);
    let damage = damage(open(&disk).unwrap_err());
    assert_eq!(
        (damage.field, damage.offset, damage.sequence),
        (Field::GroupPreviousHash, at as u64, Some(4))
    );
}

#[test]
fn a_sealed_segment_must_end_where_and_with_what_its_successor_says() {
    let last_of_first = |disk: &SimDisk| {
        let first: Vec<_> = groups(disk).into_iter().filter(|(_, _, segment, _)| *segment == 1).collect();
        // Its last group is the index; the one before holds its last record.
        (first.len() as u64 - 1, first[first.len() - 2], first[first.len() - 1])
    };
    let (tag, ..) = last_of_first(&twins(0).0);
    let (disk, other) = twins(tag);
    let (_, (file, at, ..), (_, index_at, ..)) = last_of_first(&disk);

    let bad = disk.fork();
    bad.plant(file, at, &other.content(file)[at..]);
    let replaced = damage(open(&bad).unwrap_err());
    assert_eq!((replaced.field, replaced.segment), (Field::SegmentEndHash, 1));
    assert_eq!(replaced.evidence, Evidence::LaterSegment { number: 2 });

    let cut = disk.fork();
    cut.plant(file, index_at, &[0; 2000]);
    let shortened = damage(open(&cut).unwrap_err());
    assert_eq!((shortened.field, shortened.offset), (Field::SegmentEnd, index_at as u64));
    disk.plant(file, at, &[0; 4000]);
    let shortened = damage(open(&disk).unwrap_err());
    assert_eq!((shortened.field, shortened.offset), (Field::SegmentEnd, at as u64));
    assert_eq!(shortened.sequence, Some(tag), "the first record that is missing");
}
