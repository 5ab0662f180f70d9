//! What is accepted becomes durable: one thread, one write and one fdatasync for everything pending. While a group is
//! being synced the next one gathers; there is no timer.

use std::{
    fs::{File, OpenOptions},
    io::{IoSlice, Seek as _, Write as _},
    path::Path,
    sync::{Arc, Condvar, Mutex},
};

use tokio::sync::Notify;

/// The place is there before anything comes, as in a journal: only data is synced. At its end it begins again.
const FILE_BYTES: usize = 256 * 1024 * 1024;
const GROUP_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Most pieces of one write (IOV_MAX of Linux).
const PIECES_MAX: usize = 1_024;

/// Verified packets of one connection, one behind another, and the answers that they get when they are durable.
pub(super) struct Batch {
    pub(super) packets: Vec<u8>,
    pub(super) answers: Vec<u8>,
    pub(super) to: Arc<Outgoing>,
}

/// Answers that wait for their connection.
#[derive(Default)]
pub(super) struct Outgoing {
    bytes: Mutex<Vec<u8>>,
    bell: Notify,
}

impl Outgoing {
    pub(super) fn put(&self, answers: &[u8]) {
        self.bytes.lock().unwrap().extend_from_slice(answers);
    }

    pub(super) fn ring(&self) {
        self.bell.notify_one();
    }

    /// Waits for answers.
    pub(super) async fn take(&self) -> Vec<u8> {
        loop {
            let bytes = std::mem::take(&mut *self.bytes.lock().unwrap());
            if !bytes.is_empty() {
                return bytes;
            }
            self.bell.notified().await;
        }
    }
}

/// What waits to become durable. The load generator bounds it: so many unanswered and no more.
#[derive(Default)]
pub(super) struct Store {
    pending: Mutex<Vec<Batch>>,
    bell: Condvar,
}

impl Store {
    /// Makes the file and starts the thread.
    pub(super) fn start(path: &Path) -> Arc<Self> {
        let mut file = File::create(path).unwrap();
        let zeros = vec![0; GROUP_BYTES_MAX];
        (0..FILE_BYTES / zeros.len()).for_each(|_| file.write_all(&zeros).unwrap());
        file.sync_all().unwrap();
        let file = OpenOptions::new().write(true).open(path).unwrap();
        let store = Arc::new(Self::default());
        let committing = Arc::clone(&store);
        std::thread::Builder::new().name("committer".into()).spawn(move || committing.commit(file)).unwrap();
        store
    }

    pub(super) fn put(&self, batch: Batch) {
        let mut pending = self.pending.lock().unwrap();
        pending.push(batch);
        if pending.len() == 1 {
            self.bell.notify_one();
        }
    }

    fn commit(&self, mut file: File) {
        let mut at = 0;
        loop {
            let group = self.next_group();
            let bytes: usize = group.iter().map(|batch| batch.packets.len()).sum();
            if at + bytes > FILE_BYTES {
                file.rewind().unwrap();
                at = 0;
            }
            let pieces: Vec<_> = group.iter().map(|batch| IoSlice::new(&batch.packets)).collect();
            let written = file.write_vectored(&pieces).unwrap();
            assert_eq!(written, bytes, "the disk took a part");
            file.sync_data().unwrap();
            at += bytes;
            group.iter().for_each(|batch| batch.to.put(&batch.answers));
            group.iter().for_each(|batch| batch.to.ring());
        }
    }

    fn next_group(&self) -> Vec<Batch> {
        let pending = self.pending.lock().unwrap();
        let mut pending = self.bell.wait_while(pending, |pending| pending.is_empty()).unwrap();
        let mut bytes = 0;
        let fits = |batch: &&Batch| {
            bytes += batch.packets.len();
            bytes <= GROUP_BYTES_MAX
        };
        let count = pending.iter().take(PIECES_MAX).take_while(fits).count().max(1);
        if count == pending.len() { std::mem::take(&mut *pending) } else { pending.drain(..count).collect() }
    }
}
