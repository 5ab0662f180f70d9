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
