//! Power cuts and failing syncs: nothing acknowledged is lost, nothing unacknowledged comes in halves.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;

use lintas_journal::*;
use support::*;

#[test]
fn a_group_torn_at_any_byte_is_all_or_nothing() {
    let disk = SimDisk::new(1, 512);
    let (mut journal, ..) = open(&disk).unwrap();
    journal.commit(&group(&["acknowledged"]), Class::Ordinary).unwrap();
    let last = [sized(2, 90), sized(3, 40)].concat();
    let bytes = GROUP + 20 + 90 + 20 + 40;
    // Power goes at the sync, so that the write before it is the last one.
    disk.power_off_in(2);
    assert_eq!(journal.commit(&last, Class::Ordinary), Err(CommitError::Poisoned));
    for torn in 0..=bytes + 6 {
        let disk = disk.fork().crash(Loss::TornLastWrite(torn));
        let (mut journal, seen, report) = open(&disk).unwrap();
        let complete = torn >= bytes; // six bytes of padding follow
        assert_eq!(seen.records.len(), if complete { 3 } else { 1 }, "torn at {torn}");
        assert_eq!(report.cut.is_none(), complete || torn == 0, "torn at {torn}");
        if let Some(cut) = report.cut {
            assert_eq!((cut.segment, cut.first_sequence), (1, 2), "torn at {torn}");
            assert!(cut.bytes > 0 && cut.bytes <= torn as u64, "torn at {torn}: {cut}");
            assert_eq!(cut.records, (torn >= GROUP).then_some(2), "torn at {torn}");
        }
        // The sequences of the cut group are given out again, and its bytes are gone for good.
        let next = if complete { 4 } else { 2 };
        assert_eq!(journal.commit(&group(&["next"]), Class::Ordinary).unwrap().first_sequence, next);
        assert_eq!(find(&disk, b"record 2").is_some(), complete);
        let (_, seen, report) = open(&disk.crash(Loss::Everything)).unwrap();
        assert_eq!((seen.records.len() as u64, report.cut), (next, None));
    }
}

#[test]
fn any_part_of_a_lost_cache_is_cut_not_refused() {
    let mut cuts = 0;
    for seed in 0..400u64 {
        let disk = SimDisk::new(seed, if seed % 2 == 0 { 512 } else { 4096 });
        let (mut journal, ..) = open(&disk).unwrap();
        for tag in 1..=(seed % 9) {
            journal.commit(&sized(tag, 300), Class::Ordinary).unwrap();
        }
        let durable = seed % 9;
        let batch: Vec<Group> = (1..=6)
            .map(|tag| Group { records: [sized(tag, 600), sized(tag, 600)].concat(), class: Class::Ordinary })
            .collect();
        disk.power_off_in(1 + seed % 3);
        assert!(journal.commit_many(&batch).contains(&Err(CommitError::Poisoned)));
        let (_, seen, report) =
            open(&disk.crash(Loss::Random(seed))).unwrap_or_else(|error| panic!("{seed}: {error}"));
        let extra = seen.records.len() as u64 - durable;
        assert_eq!(extra % 2, 0, "seed {seed}: half a group");
        cuts += u64::from(report.cut.is_some());
    }
    assert!(cuts > 50, "the seeds must produce torn tails, and produced {cuts}");
}

/// Runs until something fails; returns the durable count it was told of, and the last count it tried.
fn workload(disk: &SimDisk) -> (u64, u64) {
    let (mut durable, mut tried) = (0, 0);
    let Ok((mut journal, seen, _)) = open(disk) else { return (0, 0) };
    assert!(seen.records.is_empty());
    for round in 0..4 {
        for _ in 0..12 {
            tried += 1;
            if journal.commit(&sized(tried, 900), Class::Ordinary).is_err() {
                return (durable, tried);
            }
            durable = tried;
        }
        let covers = durable;
        let request = compaction(covers, &covers.to_le_bytes(), move |sequence| sequence % 5 == round);
        if journal.compact(request).is_err() {
            return (durable, tried);
        }
    }
    (durable, tried)
}

/// What must hold after any failure of [`workload`]: everything acknowledged counts, whether through the
/// snapshot or by replay, and at most the last group more.
fn check_workload(disk: &SimDisk, durable: u64, tried: u64, context: &str) {
    let (mut journal, seen, _) =
        open_at(disk, Some(durable)).unwrap_or_else(|error| panic!("{context}: {error}"));
    let covered =
        seen.snapshot.as_ref().map_or(0, |bytes| u64::from_le_bytes(bytes[..8].try_into().unwrap()));
    let last = seen.records.last().map_or(covered, |(sequence, ..)| *sequence);
    assert_eq!(
        seen.records.first().map_or(covered + 1, |(sequence, ..)| *sequence),
        covered + 1,
        "{context}"
    );
    assert!(last >= durable && last <= tried, "{context}: {durable} <= {last} <= {tried}");
    assert_eq!(journal.next_sequence(), last + 1, "{context}");
    for (sequence, _, payload) in &seen.records {
        assert_eq!(payload, &sized(*sequence, 900)[0].payload, "{context}");
    }
    // Live under every compaction there was: carried, or never moved.
    for sequence in (1..=last).filter(|sequence| *sequence > covered) {
        assert_eq!(
            journal.reader().read(sequence).unwrap().payload,
            sized(sequence, 900)[0].payload,
            "{context}"
        );
    }
    journal
        .commit(&sized(last + 1, 900), Class::Ordinary)
        .unwrap_or_else(|error| panic!("{context}: {error}"));
}

#[test]
fn a_failed_sync_poisons_and_loses_nothing_acknowledged() {
    let whole = SimDisk::new(3, 512);
    let finished = workload(&whole);
    assert_eq!(finished, (48, 48));
    let syncs = whole.syncs();
    assert!(syncs > 60, "{syncs}");
    for n in 1..=syncs {
        let disk = SimDisk::new(n, 512);
        disk.fail_sync_in(n);
        let (durable, tried) = workload(&disk);
        // Restarted on the same cache, which shows bytes that are not on the medium; then the power goes.
        let restarted = disk.crash(Loss::Nothing);
        check_workload(&restarted, durable, tried, &format!("restart after sync {n}"));
        for loss in [Loss::Everything, Loss::Random(n)] {
            check_workload(
                &restarted.fork().crash(loss),
                durable,
                tried + 1,
                &format!("{loss:?} after restart after sync {n}"),
            );
            check_workload(&disk.fork().crash(loss), durable, tried, &format!("{loss:?} after sync {n}"));
        }
    }
}

#[test]
fn after_poison_nobody_is_told_that_anything_is_durable() {
    let disk = SimDisk::new(3, 512);
    let (mut journal, ..) = open(&disk).unwrap();
    journal.commit(&group(&["a"]), Class::Ordinary).unwrap();
    disk.fail_sync_in(1);
    assert_eq!(journal.commit(&group(&["b"]), Class::Ordinary), Err(CommitError::Poisoned));
    assert_eq!(journal.commit(&group(&["c"]), Class::Essential), Err(CommitError::Poisoned));
    let groups = [Group { records: group(&["d"]), class: Class::Ordinary }];
    assert_eq!(journal.commit_many(&groups), [Err(CommitError::Poisoned)]);
    assert_eq!(journal.compact(compaction(1, b"", |_| true)), Err(CommitError::Poisoned));
    assert!(
        matches!(journal.reader().read(2), Err(ReadError::NotFound { .. })),
        "not durable, not published"
    );
    assert_eq!(journal.close(), Err(CommitError::Poisoned));
}

#[test]
fn power_may_go_at_every_step_of_a_workload_with_compactions() {
    let whole = SimDisk::new(5, 512);
    assert_eq!(workload(&whole), (48, 48));
    for step in 1..=whole.operations() {
        let disk = SimDisk::new(step, 512);
        disk.power_off_in(step);
        let (durable, tried) = workload(&disk);
        for loss in [
            Loss::Everything,
            Loss::Nothing,
            Loss::Random(step),
            Loss::Random(step + 1000),
            Loss::TornLastWrite(100),
        ] {
            check_workload(&disk.fork().crash(loss), durable, tried, &format!("{loss:?} at step {step}"));
        }
    }
}

#[test]
fn power_may_go_at_every_step_of_opening() {
    let disk = SimDisk::new(5, 512);
    let (durable, tried) = workload(&disk);
    let disk = disk.crash(Loss::Everything);
    let steps = {
        let disk = disk.fork();
        let before = disk.operations();
        open(&disk).unwrap();
        disk.operations() - before
    };
    assert!(steps > 5, "{steps}");
    for first in 1..=steps {
        let once = disk.fork();
        once.power_off_in(first);
        assert!(open(&once).is_err());
        for loss in [Loss::Everything, Loss::Nothing, Loss::Random(first)] {
            // And once more, in the opening after it.
            let twice = once.fork().crash(loss);
            twice.power_off_in(1 + first * 7 % steps);
            drop(open(&twice));
            check_workload(
                &twice.crash(loss),
                durable,
                tried,
                &format!("{loss:?} at step {first} of opening"),
            );
        }
    }
}

#[test]
fn the_end_is_written_again_before_anything_is_published() {
    let disk = SimDisk::new(3, 512);
    let (mut journal, ..) = open(&disk).unwrap();
    journal.commit(&group(&["first"]), Class::Ordinary).unwrap();
    disk.fail_sync_in(1);
    assert_eq!(journal.commit(&sized(2, 1400), Class::Ordinary), Err(CommitError::Poisoned));
    drop(journal);
    // Same kernel: the cache still shows record 2, although the medium may not have it.
    let (journal, seen, report) = open(&disk).unwrap();
    assert_eq!(seen.records.len(), 2);
    assert!(report.rewritten_bytes > 1400);
    drop(journal);
    let (_, after, _) = open(&disk.crash(Loss::Everything)).unwrap();
    assert_eq!(after.records, seen.records, "what an opening published survives a power cut");
}

#[test]
fn a_disk_that_cannot_be_read_is_not_an_empty_journal() {
    let disk = SimDisk::new(3, 512);
    let (mut journal, ..) = open(&disk).unwrap();
    journal.commit(&group(&["first"]), Class::Ordinary).unwrap();
    disk.fail_read_in(1);
    assert!(matches!(journal.reader().read(1), Err(ReadError::Io { sequence: 1, .. })));
    assert_eq!(&journal.reader().read(1).unwrap().payload[..], b"first", "and it does not poison");
    drop(journal);
    for read in 1.. {
        let disk = disk.fork();
        disk.fail_read_in(read);
        match open(&disk) {
            Err(OpenError::Io { .. }) => {}
            Ok((_, seen, _)) => {
                assert!(read > 8 && seen.records.len() == 1, "all reads before were tried");
                break;
            }
            Err(other) => panic!("read {read}: {other}"),
        }
    }
}
