//! The index beside the journal, in sled. Today it holds one thing: the stamp, how far the journal was seen to
//! be durable. A journal that ends before its stamp has lost something and does not open.
//!
//! Written after the journal, by a thread of its own, and built anew at any doubt: never the only copy of
//! anything. Queues and the replay set move here when they outgrow memory.

use std::{
    path::Path,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::JoinHandle,
};

use lintas_journal::Anchor;

/// Page cache, bytes.
const CACHE_BYTES: u64 = 1024 * 1024;
/// How often sled syncs its file, milliseconds. A stamp that is lost is only older.
const SYNC_MS: u64 = 500;
const STAMP: &str = "stamp";

/// Opens the database; deletes it and starts anew at any doubt. The anchor is none for a new one.
pub(crate) fn open(path: &Path) -> Result<(sled::Db, Option<Anchor>), sled::Error> {
    let try_open =
        || sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(Some(SYNC_MS)).open();
    let db = match try_open() {
        Ok(db) => db,
        Err(error) => {
            tracing::warn!(%error, "the index is in doubt and is built anew");
            std::fs::remove_dir_all(path)?;
            try_open()?
        }
    };
    let stamp = db.get(STAMP)?.and_then(|bytes| <[u8; 8]>::try_from(bytes.as_ref()).ok());
    let anchor = stamp.map(|bytes| Anchor { sequence: u64::from_be_bytes(bytes) });
    Ok((db, anchor))
}

/// The running index.
#[derive(Debug)]
pub(crate) struct Index {
    sender: Option<SyncSender<u64>>,
    thread: Option<JoinHandle<()>>,
}

impl Index {
    /// Starts the thread that stamps.
    pub(crate) fn start(db: sled::Db) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(1);
        let thread =
            std::thread::Builder::new().name("index".to_owned()).spawn(move || run(&db, &receiver))?;
        Ok(Self { sender: Some(sender), thread: Some(thread) })
    }

    /// Says how far the journal is durable. Never waits: a stamp that is not taken is overtaken by the next.
    pub(crate) fn stamp(&self, sequence: u64) {
        if let Some(sender) = &self.sender {
            let _ = sender.try_send(sequence);
        }
    }

    /// Stamps the end of a clean close, and waits until it is on the disk.
    pub(crate) fn finish(self, anchor: Anchor) {
        // A thread that has ended has said why.
        let _ = self.sender.as_ref().map(|sender| sender.send(anchor.sequence));
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        self.sender.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(db: &sled::Db, receiver: &Receiver<u64>) {
    while let Ok(sequence) = receiver.recv() {
        if let Err(error) = db.insert(STAMP, &sequence.to_be_bytes()) {
            tracing::error!(%error, "the index cannot be written; it is built anew at the next start");
            return;
        }
    }
    if let Err(error) = db.flush() {
        tracing::error!(%error, "the index is not on the disk; it may be older at the next start");
    }
}
