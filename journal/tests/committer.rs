//! The committer: order, batching, back-pressure, failure, and real files under kill -9.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};

use lintas_journal::*;
use support::*;

fn start(disk: &SimDisk) -> Committer<SimDisk> {
    Committer::start(open(disk).unwrap().0).unwrap()
}

type Answer = Result<Committed, CommitError>;

fn answers() -> (impl Fn() -> Done, Receiver<Answer>) {
    let (send, receive) = sync_channel(10_000);
    let done = move || -> Done {
        let send = send.clone();
        Box::new(move |answer| send.send(answer).unwrap())
    };
    (done, receive)
}

#[test]
fn sequences_are_given_out_at_the_call_and_hold() {
    let disk = SimDisk::new(1, 512);
    let committer = start(&disk);
    let handle = committer.handle();
    let (done, answers) = answers();
    for tag in 0..300 {
        assert_eq!(handle.commit(group(&["a", "b"]), Class::Ordinary, done()).unwrap(), 1 + 2 * tag);
    }
    for tag in 0..300 {
        let committed = Committed { first_sequence: 1 + 2 * tag, last_sequence: 2 + 2 * tag };
        assert_eq!(answers.recv().unwrap(), Ok(committed));
        assert!(handle.reader().read(committed.last_sequence).is_ok(), "answered means readable");
    }
    assert_eq!(committer.close().unwrap(), Anchor { sequence: 600 });
    let (_, seen, report) = open(&disk.crash(Loss::Everything)).unwrap();
    assert!(report.clean_close && seen.records.len() == 600);
}

#[test]
fn owners_on_many_threads_with_compactions_and_readers_between() {
    let disk = SimDisk::new(1, 512);
    let committer = start(&disk);
    let live = |sequence: u64| sequence.is_multiple_of(10);
    let written: Vec<(u64, u64)> = std::thread::scope(|scope| {
        let owners: Vec<_> = (0..4u64)
            .map(|owner| {
                let handle = committer.handle();
                scope.spawn(move || {
                    let commit = |n: u64| {
                        let tag = owner * 1000 + n;
                        let committed = handle.commit_wait(sized(tag, 400), Class::Ordinary).unwrap();
                        (committed.first_sequence, tag)
                    };
                    (0..250).map(commit).collect::<Vec<_>>()
                })
            })
            .collect();
        let handle = committer.handle();
        let reading = scope.spawn(move || {
            let reader = handle.reader();
            let mut read = 0;
            for round in 1..=100u64 {
                // Live ones are always readable once they are durable, also while they move.
                let last =
                    handle.commit_wait(sized(9_000 + round, 400), Class::Ordinary).unwrap().last_sequence;
                for sequence in (1..=last).filter(|sequence| live(*sequence)) {
                    assert_eq!(reader.read(sequence).unwrap().sequence, sequence);
                    read += 1;
                }
                if round % 5 == 0 {
                    handle.compact(compaction(last, b"snapshot", live)).unwrap();
                }
            }
            read
        });
        let written = owners.into_iter().flat_map(|owner| owner.join().unwrap()).collect();
        assert!(reading.join().unwrap() > 1000);
        written
    });
    let sequences: std::collections::BTreeSet<u64> = written.iter().map(|(sequence, _)| *sequence).collect();
    assert_eq!(sequences.len(), 1000, "each sequence once");
    committer.close().unwrap();
    let (journal, ..) = open(&disk.crash(Loss::Everything)).unwrap();
    for (sequence, tag) in written.into_iter().filter(|(sequence, _)| live(*sequence)) {
        assert_eq!(journal.reader().read(sequence).unwrap().payload, sized(tag, 400)[0].payload);
    }
}

#[test]
fn a_failed_sync_answers_everybody_and_nobody_with_success() {
    let disk = SimDisk::new(1, 512);
    let committer = start(&disk);
    let handle = committer.handle();
    handle.commit_wait(group(&["a"]), Class::Ordinary).unwrap();
    disk.fail_sync_in(1);
    let (done, answers) = answers();
    let mut queued = 0;
    let refused = loop {
        match handle.commit(group(&["b"]), Class::Ordinary, done()) {
            Ok(_) => queued += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, CommitError::Poisoned);
    assert!(handle.is_poisoned());
    for _ in 0..queued {
        assert_eq!(answers.recv().unwrap(), Err(CommitError::Poisoned));
    }
    assert_eq!(handle.commit_wait(group(&["c"]), Class::Essential), Err(CommitError::Poisoned));
    assert_eq!(committer.close(), Err(CommitError::Poisoned));
}

#[test]
fn a_group_with_a_sequence_never_fails_for_room() {
    let disk = SimDisk::new(1, 512);
    disk.set_capacity(9 * (16 << 10));
    let committer = start(&disk);
    let handle = committer.handle();
    let (done, answers) = answers();
    let mut next = 1;
    for class in [Class::Ordinary, Class::Essential] {
        let mut refused = 0;
        while refused < 5 {
            match handle.commit(sized(next, 100 + usize::try_from(next * 37 % 1400).unwrap()), class, done())
            {
                Ok(sequence) => {
                    assert_eq!(sequence, next);
                    next += 1;
                }
                Err(CommitError::DiskFull) => refused += 1,
                Err(other) => panic!("{other}"),
            }
        }
    }
    for sequence in 1..next {
        let committed = Committed { first_sequence: sequence, last_sequence: sequence };
        assert_eq!(answers.recv().unwrap(), Ok(committed));
    }
    assert!(answers.try_recv().is_err(), "a refused group is not answered twice");
    handle.compact(compaction(next - 1, b"", |_| false)).unwrap();
    assert_eq!(handle.commit_wait(sized(next, 100), Class::Ordinary).unwrap().first_sequence, next);
    committer.close().unwrap();
}

#[test]
fn a_full_mailbox_makes_callers_wait_and_loses_nothing() {
    let disk = SimDisk::new(1, 512);
    let committer = start(&disk);
    let handle = committer.handle();
    let (release, gate) = sync_channel::<()>(0);
    handle.commit(group(&["gate"]), Class::Ordinary, Box::new(move |_| gate.recv().unwrap())).unwrap();
    let (done, answers) = answers();
    std::thread::scope(|scope| {
        let owner = scope.spawn(|| {
            for _ in 0..200 {
                handle.commit(group(&["x"]), Class::Ordinary, done()).unwrap();
            }
        });
        // 200 groups do not fit a mailbox of 32 while the committer stands at the gate.
        for _ in 0..1000 {
            std::thread::yield_now();
        }
        assert!(!owner.is_finished());
        release.send(()).unwrap();
    });
    assert_eq!(answers.iter().take(200).filter(Result::is_ok).count(), 200);
}

#[test]
fn a_panicking_callback_poisons_but_the_others_are_told() {
    let disk = SimDisk::new(1, 512);
    let committer = start(&disk);
    let handle = committer.handle();
    let (release, gate) = sync_channel::<()>(0);
    handle.commit(group(&["gate"]), Class::Ordinary, Box::new(move |_| gate.recv().unwrap())).unwrap();
    let (done, answers) = answers();
    handle.commit(group(&["x"]), Class::Ordinary, Box::new(|_| panic!("an owner's mistake"))).unwrap();
    handle.commit(group(&["y"]), Class::Ordinary, done()).unwrap();
    release.send(()).unwrap();
    assert!(answers.recv().unwrap().is_ok(), "it is durable");
    assert_eq!(handle.commit_wait(group(&["z"]), Class::Ordinary), Err(CommitError::Poisoned));
}

#[test]
fn after_close_or_drop_nothing_is_accepted_and_the_directory_is_free() {
    let disk = SimDisk::new(1, 512);
    let committer = start(&disk);
    let handle = committer.handle();
    handle.commit_wait(group(&["a"]), Class::Ordinary).unwrap();
    committer.close().unwrap();
    assert_eq!(handle.commit_wait(group(&["b"]), Class::Ordinary), Err(CommitError::Closed));
    assert_eq!(handle.compact(compaction(1, b"", |_| true)), Err(CommitError::Closed));
    assert_eq!(handle.close(), Err(CommitError::Closed));
    let committer = start(&disk);
    let (done, answers) = answers();
    for _ in 0..20 {
        committer.handle().commit(group(&["c"]), Class::Ordinary, done()).unwrap();
    }
    drop(committer);
    assert_eq!(answers.try_iter().filter(Result::is_ok).count(), 20, "what was queued is finished");
    assert_eq!(open(&disk).unwrap().1.records.len(), 21);
}

#[test]
fn what_a_compaction_let_go_is_overwritten_before_a_dropped_committer_is_gone() {
    let disk = SimDisk::new(1, 512);
    let committer = start(&disk);
    let handle = committer.handle();
    for tag in 1..=60 {
        handle.commit_wait(sized(tag, 1000), Class::Ordinary).unwrap();
    }
    handle.compact(compaction(60, b"", |_| false)).unwrap();
    drop(committer);
    assert_eq!(find(&disk, b"record "), None);
}

const CHILD: &str = "LINTAS_JOURNAL_TEST_DIRECTORY";

/// Not a test of its own: what the killed process does.
#[test]
fn child_commits_until_killed() {
    let Ok(directory) = std::env::var(CHILD) else { return };
    let mut seen = Seen::default();
    let (journal, _) = Journal::open(FileDisk::open(directory).unwrap(), limits(), None, &mut seen).unwrap();
    let committer = Committer::start(journal).unwrap();
    let handle = committer.handle();
    let mut out = std::io::stdout();
    for round in 1u64.. {
        let committed = handle.commit_wait([sized(1, 300), sized(2, 300)].concat(), Class::Ordinary).unwrap();
        writeln!(out, "durable {}", committed.last_sequence).unwrap();
        out.flush().unwrap();
        if round % 40 == 0 {
            let covers = committed.last_sequence;
            handle.compact(compaction(covers, &covers.to_le_bytes(), |_| false)).unwrap();
        }
    }
}

struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lintas-journal-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn nothing_that_a_killed_process_called_durable_is_lost() {
    let directory = Directory::new("kill");
    let mut last = 0u64;
    for round in 0..10u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_commits_until_killed", "--nocapture"])
            .env(CHILD, &directory.0)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let durable = |line: &str| line.split("durable ").nth(1).and_then(|n| n.trim().parse::<u64>().ok());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut told = 0;
        for n in lines.by_ref().filter_map(|line| durable(&line)) {
            told += 1;
            last = last.max(n);
            if told > 20 + round * 13 {
                break;
            }
        }
        assert!(told > 20, "the child stopped by itself in round {round}");
        child.kill().unwrap();
        child.wait().unwrap();
        last = lines.filter_map(|line| durable(&line)).fold(last, u64::max);

        let mut seen = Seen::default();
        let anchor = Some(Anchor { sequence: last });
        let (journal, report) =
            Journal::open(FileDisk::open(&directory.0).unwrap(), limits(), anchor, &mut seen).unwrap();
        let covered = seen.snapshot.map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
        assert_eq!(covered + seen.records.len() as u64, journal.next_sequence() - 1, "{report:?}");
        assert!(journal.next_sequence() > last && (journal.next_sequence() - 1) % 2 == 0);
    }
    assert!(last > 1000, "{last}");
}

#[test]
fn real_files_are_locked_listed_and_overwritten() {
    let directory = Directory::new("files");
    let disk = FileDisk::open(directory.0.join("journal")).unwrap();
    let open = || Journal::open(disk.clone(), limits(), None, &mut Seen::default());
    let (mut journal, _) = open().unwrap();
    assert!(matches!(open(), Err(OpenError::Locked)));
    let other = FileDisk::open(directory.0.join("journal")).unwrap();
    assert!(matches!(Journal::open(other, limits(), None, &mut Seen::default()), Err(OpenError::Locked)));
    for tag in 1..=40 {
        journal.commit(&sized(tag, 1000), Class::Ordinary).unwrap();
    }
    journal.compact(compaction(40, b"s", |sequence| sequence == 17)).unwrap();
    assert_eq!(journal.reader().read(17).unwrap().payload, sized(17, 1000)[0].payload);
    journal.close().unwrap();
    let (journal, report) = open().unwrap();
    assert!(report.clean_close);
    assert_eq!(journal.reader().read(17).unwrap().payload, sized(17, 1000)[0].payload);
    let files = disk.list().unwrap();
    assert_eq!(files.len(), 5);
    for file in files {
        let mut content = vec![0; 16 << 10];
        disk.read(file, 0, &mut content).unwrap();
        assert!(
            !content.windows(9).any(|window| window == b"record 16"),
            "a dead record is still in file {file}"
        );
    }
}

#[test]
fn what_must_go_is_gone_from_the_files() {
    let directory = Directory::new("erased");
    let path = directory.0.join("journal");
    let (journal, _) =
        Journal::open(FileDisk::open(&path).unwrap(), limits(), None, &mut Seen::default()).unwrap();
    let committer = Committer::start(journal).unwrap();
    let handle = committer.handle();
    for tag in 1..=60 {
        handle.commit_wait(sized(tag, 1000), Class::Ordinary).unwrap();
    }
    let holds = |tag: u64| {
        let text = format!("record {tag} .");
        std::fs::read_dir(&path).unwrap().any(|file| {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            bytes.windows(text.len()).any(|window| window == text.as_bytes())
        })
    };
    assert!(holds(7) && holds(40));
    let live = |sequence: u64| sequence != 7 && sequence != 40;
    while handle.compact(Compaction { must_go: 60, ..compaction(60, b"s", live) }).unwrap().must_go_left > 0 {
    }
    // Overwriting is the tender's; it is done at the latest when the committer ends.
    drop(committer);
    assert!(!holds(7) && !holds(40));
    assert!((1..=60).filter(|tag| live(*tag)).all(holds));
}
