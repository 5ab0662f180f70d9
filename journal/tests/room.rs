//! A full disk, and the room that compaction makes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;

use std::sync::{Arc, Mutex};

use lintas_journal::*;
use support::*;

fn fill(journal: &mut Journal<SimDisk>, class: Class, from: u64) -> u64 {
    let mut tag = from;
    loop {
        match journal.commit(&sized(tag, 1000), class) {
            Ok(committed) => assert_eq!(committed.first_sequence, tag),
            Err(CommitError::DiskFull) => return tag - 1,
            Err(other) => panic!("{other}"),
        }
        tag += 1;
    }
}

#[test]
fn a_full_disk_refuses_the_ordinary_serves_the_essential_and_recovers() {
    let disk = SimDisk::new(1, 512);
    disk.set_capacity(8 * (16 << 10));
    let (mut journal, ..) = open(&disk).unwrap();
    let ordinary = fill(&mut journal, Class::Ordinary, 1);
    assert!(ordinary >= 40, "{ordinary}");
    let essential = fill(&mut journal, Class::Essential, ordinary + 1);
    assert!(essential >= ordinary + 2 * 10, "two segments are kept for it: {ordinary}, {essential}");
    assert_eq!(journal.next_sequence(), essential + 1, "a refused group takes no sequence");

    // Closed, reopened and cut on the full disk.
    drop(journal);
    let disk = disk.crash(Loss::Everything);
    let (mut journal, seen, _) = open(&disk).unwrap();
    assert_eq!(seen.records.len() as u64, essential);
    assert_eq!(journal.commit(&sized(0, 1000), Class::Essential), Err(CommitError::DiskFull));

    // Room by compaction, without a restart.
    let report = journal.compact(compaction(essential, b"drained", |_| false)).unwrap();
    assert!(report.segments_freed >= 6, "{report:?}");
    assert_eq!(
        journal.commit(&sized(essential + 1, 1000), Class::Ordinary).unwrap().first_sequence,
        essential + 1
    );

    // Room by a larger disk, without a restart.
    let full = fill(&mut journal, Class::Ordinary, essential + 2);
    disk.set_capacity(9 * (16 << 10));
    assert_eq!(journal.commit(&sized(full + 1, 1000), Class::Ordinary).unwrap().first_sequence, full + 1);
}

#[test]
fn compaction_on_a_full_disk_never_eats_its_own_room() {
    let disk = SimDisk::new(1, 512);
    disk.set_capacity(8 * (16 << 10));
    let (mut journal, ..) = open(&disk).unwrap();
    let ordinary = fill(&mut journal, Class::Ordinary, 1);
    let all = fill(&mut journal, Class::Essential, ordinary + 1);
    for _ in 0..10 {
        assert_eq!(journal.compact(compaction(all, b"", |_| true)), Err(CommitError::DiskFull));
    }
    let report = journal.compact(compaction(all, b"", |sequence| sequence > 30)).unwrap();
    assert!(report.segments_freed >= 1, "{report:?}");
    assert!(journal.commit(&sized(all + 1, 1000), Class::Essential).is_ok());
    let (journal, ..) = open(&disk.crash(Loss::Everything)).unwrap();
    for sequence in 31..=all {
        assert_eq!(journal.reader().read(sequence).unwrap().payload, sized(sequence, 1000)[0].payload);
    }
}

/// A disk without room for anything, filled by both classes; how many records.
fn filled() -> (SimDisk, u64) {
    let disk = SimDisk::new(1, 512);
    disk.set_capacity(8 * (16 << 10));
    let (mut journal, ..) = open(&disk).unwrap();
    let ordinary = fill(&mut journal, Class::Ordinary, 1);
    let all = fill(&mut journal, Class::Essential, ordinary + 1);
    drop(journal);
    (disk, all)
}

fn begins(disk: &SimDisk) -> bool {
    Journal::open(disk.clone(), limits(), None, &mut Seen::default()).is_ok()
}

/// Starts that are cut off, at each operation in turn, after one that was cut off at each: the next one needs no room.
fn starts_again(arm: impl Fn(&SimDisk, u64), losses: &[Loss]) {
    let (disk, all) = filled();
    let mut cuts = 0;
    for first in 1.. {
        let disk = disk.crash(Loss::Nothing);
        arm(&disk, first);
        let began = begins(&disk);
        // Every other place, and each with half of the others.
        let seconds = (1 + first % 2..=12).step_by(2);
        for (second, loss) in seconds.flat_map(|second| losses.iter().map(move |loss| (second, *loss))) {
            let disk = disk.fork().crash(loss);
            arm(&disk, second);
            // Twice at the same place, so that whatever it takes each time runs out.
            let disk = (0..2).fold(disk, |disk, _| {
                begins(&disk);
                let next = disk.crash(loss);
                arm(&next, second);
                next
            });
            let disk = disk.crash(loss);
            let (mut journal, seen, _) =
                open(&disk).unwrap_or_else(|error| panic!("{first}, then {second}, {loss:?}: {error}"));
            assert_eq!(seen.records.len() as u64, all, "{first}, then {second}, {loss:?}");
            assert_eq!(journal.commit(&sized(0, 1000), Class::Essential), Err(CommitError::DiskFull));
            let report = journal.compact(compaction(all, b"drained", |_| false)).unwrap();
            assert!(report.segments_freed >= 5, "{report:?}");
            assert_eq!(journal.commit(&sized(9, 1000), Class::Essential).unwrap().first_sequence, all + 1);
            drop(journal);
            let (_, seen, _) = open(&disk.crash(Loss::Everything)).unwrap();
            assert_eq!((seen.snapshot.as_deref(), seen.records.len()), (Some(&b"drained"[..]), 1));
            cuts += 1;
        }
        if began {
            assert!(first > 4 && cuts > 20, "a start has {first} operations?");
            return;
        }
    }
}

#[test]
fn starts_that_lose_power_on_a_full_disk_use_up_nothing() {
    let losses = [Loss::Nothing, Loss::Everything, Loss::Random(7), Loss::TornLastWrite(300)];
    starts_again(|disk, at| disk.power_off_in(at), &losses);
}

#[test]
fn starts_whose_syncs_fail_on_a_full_disk_use_up_nothing() {
    starts_again(|disk, at| disk.fail_sync_in(at), &[Loss::Nothing]);
}

#[test]
fn a_disk_too_small_for_one_segment_says_so() {
    let disk = SimDisk::new(1, 512);
    disk.set_capacity(1000);
    assert!(matches!(open(&disk), Err(OpenError::DiskFull { bytes: 16384 })));
    disk.set_capacity(1 << 20);
    assert!(open(&disk).is_ok());
}

#[test]
fn a_drained_queue_leaves_one_segment_and_its_records_are_overwritten() {
    let disk = SimDisk::new(1, 512);
    let (mut journal, ..) = open(&disk).unwrap();
    for tag in 1..=200 {
        journal.commit(&sized(tag, 1000), Class::Ordinary).unwrap();
    }
    let full = disk.used_bytes();
    let report = journal.compact(compaction(200, b"nothing is left", |_| false)).unwrap();
    assert_eq!((report.segments, report.records_carried), (1, 0));
    assert!(report.segments_freed > 15, "{report:?}");
    assert_eq!(
        disk.used_bytes(),
        5 * (16 << 10),
        "of {full}: the one written to, the next, two in reserve, one to compact into"
    );
    assert_eq!(find(&disk, b"record "), None);
    assert!(matches!(journal.reader().read(5), Err(ReadError::NotFound { .. })));
    assert_eq!(find(&disk.crash(Loss::Everything), b"record "), None, "nor on the medium");
}

#[test]
fn a_reopened_drained_journal_goes_on_with_the_next_sequence() {
    let disk = SimDisk::new(1, 512);
    let (mut journal, ..) = open(&disk).unwrap();
    for tag in 1..=50 {
        journal.commit(&sized(tag, 1000), Class::Ordinary).unwrap();
    }
    journal.compact(compaction(50, b"state at 50", |_| false)).unwrap();
    drop(journal);
    for _ in 0..3 {
        let (journal, seen, report) = open_at(&disk, Some(50)).unwrap();
        assert_eq!((seen.snapshot.as_deref(), seen.records.len()), (Some(&b"state at 50"[..]), 0));
        assert_eq!((journal.next_sequence(), report.snapshot_covers), (51, Some(50)));
    }
}

#[test]
fn live_records_are_carried_keep_their_sequence_and_are_never_replayed() {
    let disk = SimDisk::new(1, 512);
    let (mut journal, ..) = open(&disk).unwrap();
    for tag in 1..=120 {
        journal.commit(&sized(tag, 1000), Class::Ordinary).unwrap();
    }
    let live = |sequence: u64| sequence % 20 == 3;
    for round in 0..4u64 {
        let reader = journal.reader();
        let report = journal.compact(compaction(110 + round, b"s", live)).unwrap();
        assert_eq!(report.records_carried > 0, round == 0 || report.segments_freed > 0, "{report:?}");
        for sequence in (1..=120).filter(|sequence| live(*sequence)) {
            assert_eq!(
                reader.read(sequence).unwrap().payload,
                sized(sequence, 1000)[0].payload,
                "round {round}"
            );
        }
        drop(journal);
        assert!(matches!(reader.read(3), Err(ReadError::Closed)));
        let (reopened, seen, _) = open(&disk).unwrap();
        journal = reopened;
        let replayed: Vec<u64> = seen.records.iter().map(|(sequence, ..)| *sequence).collect();
        assert_eq!(replayed, (111 + round..=120).collect::<Vec<_>>());
        for sequence in (1..=120).filter(|sequence| live(*sequence)) {
            assert_eq!(journal.reader().read(sequence).unwrap().sequence, sequence, "round {round}");
        }
    }
}

#[test]
fn only_records_up_to_covers_are_asked_for_and_none_beyond_goes() {
    let disk = SimDisk::new(1, 512);
    let (mut journal, ..) = open(&disk).unwrap();
    for tag in 1..=60 {
        journal.commit(&sized(tag, 1000), Class::Ordinary).unwrap();
    }
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let live = move |sequence| {
        log.lock().unwrap().push(sequence);
        false
    };
    journal.compact(compaction(30, b"s", live)).unwrap();
    assert!(asked.lock().unwrap().iter().all(|sequence| *sequence <= 30));
    for sequence in 31..=60 {
        assert!(journal.reader().read(sequence).is_ok());
    }
    let refused = |journal: &mut Journal<SimDisk>, covers| {
        journal.compact(compaction(covers, b"", |_| true)).unwrap_err()
    };
    assert_eq!(refused(&mut journal, 29), CommitError::Covers { covers: 29, lowest: 30, highest: 60 });
    assert_eq!(refused(&mut journal, 61), CommitError::Covers { covers: 61, lowest: 30, highest: 60 });
    let long = compaction(60, &vec![0; (1 << 20) + 1], |_| true);
    assert_eq!(
        journal.compact(long),
        Err(CommitError::SnapshotTooLarge { bytes: (1 << 20) + 1, max: 1 << 20 })
    );
}

#[test]
fn a_snapshot_of_any_size_comes_back() {
    for bytes in [0usize, 1, 1900, 2048, 11_000, 12_000, 100_000, 1 << 20] {
        let disk = SimDisk::new(1, 512);
        let (mut journal, ..) = open(&disk).unwrap();
        journal.commit(&group(&["a"]), Class::Ordinary).unwrap();
        let snapshot: Vec<u8> = (0..bytes).map(|n| u8::try_from(n * 31 % 251).unwrap()).collect();
        for _ in 0..2 {
            journal.compact(compaction(1, &snapshot, |_| true)).unwrap();
        }
        journal.commit(&group(&["b"]), Class::Ordinary).unwrap();
        drop(journal);
        let (_, seen, report) = open(&disk.crash(Loss::Everything)).unwrap();
        assert_eq!((seen.snapshot, report.snapshot_covers), (Some(snapshot), Some(1)), "{bytes}");
        assert_eq!(seen.records, [(2, 7, b"b".to_vec())]);
    }
}

#[test]
fn an_unreadable_live_record_keeps_its_segment() {
    let disk = SimDisk::new(1, 512);
    let (mut journal, ..) = open(&disk).unwrap();
    for tag in 1..=40 {
        journal.commit(&sized(tag, 1000), Class::Ordinary).unwrap();
    }
    let (file, at) = find(&disk, b"record 3 ").unwrap();
    disk.flip(file, at, 1);
    let before = disk.operations();
    let refused = journal.compact(compaction(40, b"", |sequence| sequence == 3)).unwrap_err();
    assert!(matches!(refused, CommitError::Unreadable { sequence: 3, .. }), "{refused}");
    assert_eq!(disk.operations(), before, "nothing was written");
    disk.flip(file, at, 1);
    journal.compact(compaction(40, b"", |sequence| sequence == 3)).unwrap();
    assert_eq!(journal.reader().read(3).unwrap().payload, sized(3, 1000)[0].payload);
}

#[test]
fn the_name_of_a_segment_that_opening_makes_is_durable_before_anything_is_answered() {
    let disk = SimDisk::new(1, 512);
    disk.set_capacity(2 * (16 << 10));
    let (mut journal, ..) = open(&disk).unwrap();
    journal.commit(&group(&["a"]), Class::Essential).unwrap();
    drop(journal);
    // Without its spare, opening must make a file; and there is no room for another, so that nothing else
    // would sync the directory.
    let (used, _) = find(&disk, b"LJSEGM01").unwrap();
    disk.list().unwrap().into_iter().filter(|file| *file != used).for_each(|file| disk.steal(file));
    let (mut journal, ..) = open(&disk).unwrap();
    journal.commit(&group(&["b"]), Class::Essential).unwrap();
    let (_, seen, _) = open_at(&disk.crash(Loss::Everything), Some(2)).unwrap();
    assert_eq!(seen.records.len(), 2);
}

/// A compaction by which `must_go` and everything dead before it is overwritten.
fn overwriting(covers: u64, must_go: u64, live: impl Fn(u64) -> bool + Send + 'static) -> Compaction {
    Compaction { must_go, ..compaction(covers, b"s", live) }
}

#[test]
fn what_must_go_goes_out_of_full_segments_too_in_as_many_rounds_as_it_needs() {
    let disk = SimDisk::new(1, 512);
    let (mut journal, ..) = open(&disk).unwrap();
    for tag in 1..=200 {
        journal.commit(&sized(tag, 1000), Class::Ordinary).unwrap();
    }
    // Each segment holds one that is dead: fifteen of sixteen records live.
    let live = |sequence: u64| sequence % 15 != 3;
    let report = journal.compact(compaction(200, b"s", live)).unwrap();
    assert_eq!((report.segments_freed, report.must_go_left), (0, 0), "nobody asked: {report:?}");
    assert!(find(&disk, b"record 3 .").is_some());
    let mut rounds = 0;
    loop {
        rounds += 1;
        let report = journal.compact(overwriting(200, 100, live)).unwrap();
        assert!(report.records_carried * 1_000 <= 40 << 10, "as much as one round may carry: {report:?}");
        if report.must_go_left == 0 {
            break;
        }
        assert!(report.segments_freed > 0 && rounds < 50, "{report:?}");
    }
    assert!(rounds > 1, "in rounds");
    let medium = disk.crash(Loss::Everything);
    for tag in 1..=200 {
        let there = find(&medium, format!("record {tag} .").as_bytes()).is_some();
        assert!(if live(tag) { there } else { !there || tag > 100 }, "{tag}");
    }
    drop(journal);
    let (journal, ..) = open(&medium).unwrap();
    for tag in (1..=200).filter(|tag| live(*tag)) {
        assert_eq!(journal.reader().read(tag).unwrap().payload, sized(tag, 1000)[0].payload, "{tag}");
    }
}

#[test]
fn what_must_go_goes_although_one_segment_is_more_than_a_round_may_carry() {
    let disk = SimDisk::new(1, 512);
    let mut seen = Seen::default();
    let narrow = Limits { carry_bytes_max: 2_000, ..limits() };
    let (mut journal, _) = Journal::open(disk.clone(), narrow, None, &mut seen).unwrap();
    for tag in 1..=40 {
        journal.commit(&sized(tag, 1000), Class::Ordinary).unwrap();
    }
    let report = journal.compact(overwriting(40, 40, |sequence| sequence != 5)).unwrap();
    assert_eq!((report.segments_freed, report.must_go_left), (1, 0), "{report:?}");
    assert_eq!(find(&disk, b"record 5 ."), None);
    assert_eq!(journal.reader().read(6).unwrap().sequence, 6);
    let report = journal.compact(overwriting(40, 40, |sequence| sequence != 5)).unwrap();
    assert_eq!((report.segments_freed, report.records_carried), (0, 0), "once is enough: {report:?}");
}

#[test]
fn without_room_to_carry_what_must_go_nothing_is_lost_and_it_goes_later() {
    let disk = SimDisk::new(1, 512);
    disk.set_capacity(8 * (16 << 10));
    let (mut journal, ..) = open(&disk).unwrap();
    let last = fill(&mut journal, Class::Ordinary, 1);
    let last = fill(&mut journal, Class::Essential, last + 1);
    let live = |sequence: u64| sequence % 15 != 3;
    assert_eq!(journal.compact(overwriting(last, last, live)), Err(CommitError::DiskFull));
    assert_eq!(journal.reader().read(4).unwrap().sequence, 4);
    disk.set_capacity(12 * (16 << 10));
    let mut rounds = 0;
    while journal.compact(overwriting(last, last, live)).unwrap().must_go_left > 0 {
        rounds += 1;
        assert!(rounds < 50);
    }
    for tag in 1..=last {
        assert_eq!(find(&disk, format!("record {tag} .").as_bytes()).is_some(), live(tag), "{tag}");
    }
}
