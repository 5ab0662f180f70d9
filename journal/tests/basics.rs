//! What a journal does when nothing goes wrong, and how it refuses what it must not take.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;

use lintas_journal::*;
use support::*;

#[test]
fn an_empty_directory_begins_a_journal() {
    let disk = SimDisk::new(1, 512);
    let (journal, seen, report) = open(&disk).unwrap();
    assert_eq!(seen, Seen::default());
    assert_eq!(journal.next_sequence(), 1);
    assert_eq!((report.next_sequence, report.segments, report.cut), (1, 1, None));
    assert!(matches!(journal.reader().read(1), Err(ReadError::NotFound { sequence: 1 })));
}

#[test]
fn what_was_committed_is_there_after_a_power_cut() {
    let disk = SimDisk::new(1, 512);
    let (mut journal, ..) = open(&disk).unwrap();
    let first = journal.commit(&group(&["a", "b"]), Class::Ordinary).unwrap();
    assert_eq!(first, Committed { first_sequence: 1, last_sequence: 2 });
    let second = journal.commit(&group(&["c"]), Class::Essential).unwrap();
    assert_eq!(second, Committed { first_sequence: 3, last_sequence: 3 });
    let (journal, seen, report) = open(&disk.crash(Loss::Everything)).unwrap();
    let expected = [(1, 7, b"a".to_vec()), (2, 7, b"b".to_vec()), (3, 7, b"c".to_vec())];
    assert_eq!(seen.records, expected);
    assert_eq!((report.replayed, report.cut, report.clean_close), (3, None, false));
    for (sequence, kind, payload) in expected {
        let read = journal.reader().read(sequence).unwrap();
        assert_eq!(read, Record { sequence, kind, payload: payload.into() });
    }
}

#[test]
fn a_clean_close_gives_the_anchor_and_is_reported() {
    let disk = SimDisk::new(1, 512);
    let (mut journal, ..) = open(&disk).unwrap();
    journal.commit(&group(&["a", "b"]), Class::Ordinary).unwrap();
    assert_eq!(journal.close().unwrap(), Anchor { sequence: 2 });
    let (_, seen, report) = open_at(&disk, Some(2)).unwrap();
    assert_eq!(seen.records.len(), 2);
    assert!(report.clean_close);
}

#[test]
fn opening_again_and_again_neither_grows_nor_loses() {
    let disk = SimDisk::new(1, 512);
    let mut used = None;
    for round in 1..=20 {
        let (mut journal, seen, _) = open(&disk).unwrap();
        assert_eq!(seen.records.len() as u64, round - 1);
        journal.commit(&group(&["x"]), Class::Ordinary).unwrap();
        assert_eq!(journal.close().unwrap().sequence, round);
        assert_eq!(*used.get_or_insert(disk.used_bytes()), disk.used_bytes());
    }
}

#[test]
fn segments_follow_each_other() {
    let disk = SimDisk::new(1, 512);
    let (mut journal, ..) = open(&disk).unwrap();
    for tag in 1..=100 {
        assert_eq!(journal.commit(&sized(tag, 700), Class::Ordinary).unwrap().first_sequence, tag);
    }
    let (journal, seen, report) = open(&disk.crash(Loss::Everything)).unwrap();
    assert!(report.segments >= 6, "{report:?}");
    assert_eq!(seen.records.len(), 100);
    for tag in 1..=100 {
        assert_eq!(journal.reader().read(tag).unwrap().payload, sized(tag, 700)[0].payload);
    }
}

#[test]
fn several_groups_share_a_write_and_a_sync() {
    let disk = SimDisk::new(1, 512);
    let (mut journal, ..) = open(&disk).unwrap();
    let before = (disk.syncs(), disk.operations());
    let good = |text| Group { records: group(&[text, text]), class: Class::Ordinary };
    let empty = Group { records: Vec::new(), class: Class::Ordinary };
    let answers = journal.commit_many(&[good("a"), empty, good("b")]);
    assert_eq!((disk.syncs() - before.0, disk.operations() - before.1), (1, 2));
    let committed = |first_sequence, last_sequence| Ok(Committed { first_sequence, last_sequence });
    assert_eq!(answers, [committed(1, 2), Err(CommitError::Empty), committed(3, 4)]);
    let (_, seen, _) = open(&disk.crash(Loss::Everything)).unwrap();
    assert_eq!(seen.records.len(), 4);
}

#[test]
fn what_is_too_large_or_reserved_is_refused_and_leaves_no_trace() {
    let disk = SimDisk::new(1, 512);
    let (mut journal, ..) = open(&disk).unwrap();
    let before = disk.operations();
    let refused = |journal: &mut Journal<SimDisk>, group: &[NewRecord]| {
        journal.commit(group, Class::Essential).unwrap_err()
    };
    assert_eq!(refused(&mut journal, &[]), CommitError::Empty);
    assert_eq!(
        refused(&mut journal, &sized(1, 1501)),
        CommitError::RecordTooLarge { bytes: 1501, max: 1500 }
    );
    let reserved = NewRecord { kind: 0xFF00, ..record("x") };
    assert_eq!(refused(&mut journal, &[reserved]), CommitError::ReservedKind { kind: 0xFF00 });
    let many = vec![record("x"); 65];
    assert!(matches!(refused(&mut journal, &many), CommitError::GroupTooLarge { records: 65, .. }));
    let long = [sized(1, 1000), sized(2, 1000)].concat();
    assert!(matches!(refused(&mut journal, &long), CommitError::GroupTooLarge { records: 2, .. }));
    assert_eq!(disk.operations(), before);
    let highest = NewRecord { kind: 0xFEFF, ..sized(1, 1500).remove(0) };
    assert_eq!(journal.commit(&[highest], Class::Ordinary).unwrap().first_sequence, 1);
}

#[test]
fn a_second_opener_is_refused_until_the_first_is_gone() {
    let disk = SimDisk::new(1, 512);
    let (journal, ..) = open(&disk).unwrap();
    assert!(matches!(open(&disk), Err(OpenError::Locked)));
    drop(journal);
    assert!(open(&disk).is_ok());
}

#[test]
fn contradicting_limits_are_refused() {
    let refused = |limits| {
        let opened = Journal::open(SimDisk::new(1, 512), limits, None, &mut Seen::default());
        match opened {
            Err(OpenError::Limits(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    let too_short = refused(Limits { segment_bytes: 8 << 10, ..limits() });
    assert!(matches!(too_short, LimitsError::SegmentTooShort { .. }));
    let too_long = refused(Limits { segment_bytes: (1 << 30) + 1, ..limits() });
    assert!(matches!(too_long, LimitsError::SegmentTooLong { .. }));
    let beyond = refused(Limits { record_bytes_max: 2000, ..limits() });
    assert!(matches!(beyond, LimitsError::RecordBeyondGroup { .. }));
    assert_eq!(refused(Limits { segments_max: 0, ..limits() }), LimitsError::Zero { name: "segments_max" });
}

#[test]
fn an_anchor_beyond_the_end_is_refused() {
    let disk = SimDisk::new(1, 512);
    assert!(matches!(
        open_at(&disk, Some(1)),
        Err(OpenError::ShortOfAnchor { anchor: 1, last: 0, cut: None })
    ));
    let (mut journal, ..) = open(&disk).unwrap();
    journal.commit(&group(&["a", "b"]), Class::Ordinary).unwrap();
    drop(journal);
    let refused = open_at(&disk, Some(3)).unwrap_err();
    assert!(matches!(refused, OpenError::ShortOfAnchor { anchor: 3, last: 2, cut: None }));
    assert!(refused.to_string().contains("records 3 to 3 are missing"), "{refused}");
    assert!(open_at(&disk, Some(2)).is_ok());
}

#[test]
fn an_owner_who_refuses_a_record_or_a_snapshot_stops_the_opening() {
    struct Picky;
    impl Fold for Picky {
        fn restore(&mut self, _: &[u8]) -> Result<(), FoldError> {
            Err(FoldError::new("no snapshot, please"))
        }
        fn replay(&mut self, record: &Record) -> Result<(), FoldError> {
            if record.sequence == 2 { Err(FoldError::new("not this one")) } else { Ok(()) }
        }
    }
    let disk = SimDisk::new(1, 512);
    let (mut journal, ..) = open(&disk).unwrap();
    journal.commit(&group(&["a", "b"]), Class::Ordinary).unwrap();
    drop(journal);
    let before = disk.operations();
    let refused = Journal::open(disk.clone(), limits(), None, &mut Picky).unwrap_err();
    assert!(matches!(refused, OpenError::Fold { sequence: Some(2), .. }));
    assert_eq!(disk.operations(), before, "a refused opening writes nothing");
    let (mut journal, ..) = open(&disk).unwrap();
    journal.compact(compaction(2, b"state", |_| true)).unwrap();
    drop(journal);
    let refused = Journal::open(disk, limits(), None, &mut Picky).unwrap_err();
    assert!(matches!(refused, OpenError::Fold { sequence: None, .. }));
}

#[test]
fn limits_may_change_from_one_opening_to_the_next() {
    let disk = SimDisk::new(1, 512);
    let open = |limits: Limits| {
        let mut seen = Seen::default();
        let (journal, _) = Journal::open(disk.clone(), limits, None, &mut seen).unwrap();
        (journal, seen)
    };
    let sizes = [16, 64, 12, 40, 9].map(|kib| kib << 10);
    let mut tag = 0;
    for segment_bytes in sizes {
        let (mut journal, seen) = open(Limits { segment_bytes, ..limits() });
        assert_eq!(seen.records.len() as u64, tag);
        for _ in 0..37 {
            tag += 1;
            journal.commit(&sized(tag, 1000), Class::Ordinary).unwrap();
        }
        for sequence in 1..=tag {
            assert_eq!(journal.reader().read(sequence).unwrap().payload, sized(sequence, 1000)[0].payload);
        }
    }
    let (mut journal, _) = open(limits());
    journal.compact(compaction(tag, b"", |sequence| sequence == 40)).unwrap();
    assert_eq!(journal.reader().read(40).unwrap().payload, sized(40, 1000)[0].payload);
    assert_eq!(disk.used_bytes(), 5 * (16 << 10), "files of other lengths are gone");
}

#[test]
fn long_records_are_read_whole() {
    let wide =
        Limits { segment_bytes: 1 << 20, record_bytes_max: 200_000, group_bytes_max: 300_000, ..limits() };
    let disk = SimDisk::new(1, 4096);
    let (mut journal, _) = Journal::open(disk, wide, None, &mut Seen::default()).unwrap();
    for (tag, bytes) in (1..).zip([200_000, 10, 17_000, 16_364, 16_365, 0, 100_000]) {
        let record = record(vec![b'r'; bytes]);
        journal.commit(std::slice::from_ref(&record), Class::Ordinary).unwrap();
        assert_eq!(journal.reader().read(tag).unwrap().payload, record.payload);
    }
    assert_eq!(journal.reader().read(1).unwrap().payload.len(), 200_000);
}
