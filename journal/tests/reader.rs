//! A record that moves between looking it up and reading it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;

use std::io;
use std::sync::{Arc, Mutex};

use lintas_journal::*;
use support::*;

type Hook = Box<dyn FnOnce() + Send>;

/// A simulated disk that does something of the test's just before a read.
#[derive(Clone)]
struct Hooked {
    disk: SimDisk,
    before_read: Arc<Mutex<Option<Hook>>>,
}

impl std::fmt::Debug for Hooked {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.disk.fmt(out)
    }
}

impl Disk for Hooked {
    type Lock = <SimDisk as Disk>::Lock;

    fn lock(&self) -> io::Result<Option<Self::Lock>> {
        self.disk.lock()
    }

    fn list(&self) -> io::Result<Vec<u64>> {
        self.disk.list()
    }

    fn length(&self, file: u64) -> io::Result<u64> {
        self.disk.length(file)
    }

    fn create(&self, file: u64, bytes: u64) -> io::Result<()> {
        self.disk.create(file, bytes)
    }

    fn remove(&self, file: u64) -> io::Result<()> {
        self.disk.remove(file)
    }

    fn read(&self, file: u64, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let hook = self.before_read.lock().unwrap().take();
        if let Some(hook) = hook {
            hook();
        }
        self.disk.read(file, offset, into)
    }

    fn write(&self, file: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.write(file, offset, bytes)
    }

    fn sync(&self, file: u64) -> io::Result<()> {
        self.disk.sync(file)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.disk.sync_directory()
    }
}

#[test]
fn a_record_that_moves_under_a_reader_is_looked_up_again() {
    // With 20 records its old file is overwritten and kept, with 150 it may also be removed.
    for records in [20, 150] {
        let disk = Hooked { disk: SimDisk::new(1, 512), before_read: Arc::default() };
        let (mut journal, _) = Journal::open(disk.clone(), limits(), None, &mut Seen::default()).unwrap();
        for tag in 1..=records {
            journal.commit(&sized(tag, 1000), Class::Ordinary).unwrap();
        }
        let reader = journal.reader();
        let journal = Arc::new(Mutex::new(journal));
        let hook = |live: fn(u64) -> bool| {
            let journal = Arc::clone(&journal);
            let compact = move || {
                journal.lock().unwrap().compact(compaction(records, b"", live)).unwrap();
            };
            *disk.before_read.lock().unwrap() = Some(Box::new(compact));
        };
        let (_, before) = find(&disk.disk, b"record 5 ").unwrap();
        hook(|sequence| sequence == 5);
        assert_eq!(reader.read(5).unwrap().payload, sized(5, 1000)[0].payload);
        assert_ne!(find(&disk.disk, b"record 5 ").unwrap().1, before, "it was moved during the read");
        hook(|_| false);
        assert!(matches!(reader.read(5), Err(ReadError::NotFound { sequence: 5 })), "and now it is gone");
    }
}

#[test]
fn a_run_gives_what_single_reads_give_and_no_more_than_fits() {
    let disk = SimDisk::new(1, 512);
    let (mut journal, ..) = open(&disk).unwrap();
    for tag in 1..=200 {
        // Groups of one and of several records, over many segments.
        let group: Vec<NewRecord> = (0..1 + tag % 3).flat_map(|part| sized(tag * 10 + part, 300)).collect();
        journal.commit(&group, Class::Ordinary).unwrap();
    }
    let last = journal.commit(&sized(1, 10), Class::Ordinary).unwrap().last_sequence;
    // Some are carried elsewhere, some are gone.
    journal.compact(compaction(100, b"", |sequence| sequence % 3 == 0)).unwrap();
    let reader = journal.reader();
    for bytes_max in [0, 320, 1_000, 5_000, 1 << 20] {
        let (mut next, mut longest) = (1, 0);
        while next <= last {
            match (reader.read(next), reader.read_run(next, last, bytes_max)) {
                (Ok(one), Ok(run)) => {
                    assert_eq!(run[0], one);
                    for (record, sequence) in run.iter().zip(next..) {
                        assert_eq!(record, &reader.read(sequence).unwrap());
                    }
                    let bytes: usize = run.iter().map(|record| record.payload.len()).sum();
                    assert!(run.len() == 1 || bytes <= bytes_max as usize, "{bytes} of {bytes_max}");
                    longest = longest.max(run.len());
                    next += run.len() as u64;
                }
                (Err(ReadError::NotFound { .. }), Err(ReadError::NotFound { .. })) => next += 1,
                (one, run) => panic!("{next}: {one:?}, {run:?}"),
            }
        }
        assert_eq!(longest > 1, bytes_max >= 1_000, "{bytes_max}");
    }
    assert_eq!(
        reader.read_run(last - 1, last - 1, 1 << 20).unwrap().len(),
        1,
        "not beyond the last one asked for"
    );
    drop(journal);
    assert!(matches!(reader.read_run(last, last, 0), Err(ReadError::Closed)));
}

#[test]
fn a_run_ends_before_what_is_damaged() {
    let disk = SimDisk::new(1, 512);
    let (mut journal, ..) = open(&disk).unwrap();
    for tag in 1..=5 {
        journal.commit(&sized(tag, 300), Class::Ordinary).unwrap();
    }
    let (file, at) = find(&disk, b"record 3 ").unwrap();
    disk.flip(file, at + 7, 0x10);
    let reader = journal.reader();
    let run = reader.read_run(1, 5, 1 << 20).unwrap();
    assert_eq!(run.iter().map(|record| record.sequence).collect::<Vec<_>>(), [1, 2]);
    assert!(matches!(reader.read_run(3, 5, 1 << 20), Err(ReadError::Damaged(_))));
    assert_eq!(reader.read_run(4, 5, 1 << 20).unwrap().len(), 2);
}
