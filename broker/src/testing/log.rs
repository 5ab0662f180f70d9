//! A log on the disk, as the publisher leaves it.

use std::path::{Path, PathBuf};

use lintas_proto::{
    audit::{
        epoch::RootEntry,
        files::LogFile,
        merkle::{self, leaf_hash},
        note::{Checkpoint, SignedCheckpoint},
        opening::seal,
        tile::{Tile, WIDTH, new_tiles, push_entry},
    },
    id::Digest,
    schema::LoggedEvent,
    sign::SigningKey,
};

use super::put;

/// A root log or a sub-log that grows.
pub(crate) struct TestLog {
    pub(crate) folder: PathBuf,
    entries: Vec<Vec<u8>>,
    leaves: Vec<Digest>,
    openings: Vec<Vec<u8>>,
    keys: Vec<[u8; 32]>,
    sizes: Vec<u8>,
}

impl TestLog {
    pub(crate) fn new(folder: &Path) -> Self {
        let folder = folder.to_owned();
        std::fs::create_dir_all(&folder).unwrap();
        let (entries, leaves, openings) = (Vec::new(), Vec::new(), Vec::new());
        Self { folder, entries, leaves, openings, keys: Vec::new(), sizes: Vec::new() }
    }

    pub(crate) fn size(&self) -> u64 {
        self.leaves.len() as u64
    }

    /// Root of the first `size` leaves.
    pub(crate) fn root(&self, size: u64) -> Digest {
        merkle::root(&self.leaves[..usize::try_from(size).unwrap()])
    }

    /// A signed checkpoint of the first `size` leaves.
    pub(crate) fn checkpoint(&self, origin: &str, size: u64, key: &SigningKey) -> SignedCheckpoint {
        let checkpoint = Checkpoint { origin: origin.to_owned(), size, root: self.root(size) };
        SignedCheckpoint::sign(checkpoint, key).unwrap()
    }

    /// Epochs until there are `size`; `salt` tells one history from another.
    pub(crate) fn epochs(&mut self, size: u64, salt: u8) {
        for epoch in self.size()..size {
            let (time_ms, slots_root) = (1_800_000_000_000 + epoch, [salt; 32]);
            let (directory_hash, policy_set_hash) = ([0; 32], [0; 32]);
            let entry = RootEntry { epoch, time_ms, directory_hash, policy_set_hash, slots: 1, slots_root };
            self.entries.push(entry.to_bytes().to_vec());
        }
        self.write();
    }

    /// Events, all of one epoch.
    pub(crate) fn events(&mut self, epoch: u64, events: &[LoggedEvent]) {
        for event in events {
            let (key, sealed) = seal(event, &mut lintas_config::os_entropy()).unwrap();
            self.entries.push(event.leaf.to_vec());
            self.openings.push(sealed);
            self.keys.push(*key);
        }
        self.sizes.extend([epoch.to_be_bytes(), (self.entries.len() as u64).to_be_bytes()].concat());
        self.write();
    }

    pub(crate) fn put(&self, file: LogFile, bytes: &[u8]) {
        let path = self.folder.join(file.to_string());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        put(&path, bytes);
    }

    fn write(&mut self) {
        let before = self.size();
        self.leaves.extend(self.entries[self.leaves.len()..].iter().map(|entry| leaf_hash(entry)));
        for tile in new_tiles(before, self.size()) {
            let length = 256usize.pow(tile.level.into());
            let first = usize::try_from(tile.index * WIDTH).unwrap() * length;
            let hashes = self.leaves[first..].chunks_exact(length).take(tile.width.into());
            let bytes: Vec<u8> = hashes.flat_map(merkle::root).collect();
            self.put(LogFile::Tile(tile), &bytes);
            if tile.is_full() {
                let partial = self.folder.join(Tile { width: 1, ..tile }.path());
                let _ = std::fs::remove_dir_all(partial.parent().unwrap());
            }
        }
        for (index, bundle) in self.entries.chunks(256).enumerate() {
            let mut bytes = Vec::new();
            bundle.iter().for_each(|entry| assert!(push_entry(&mut bytes, entry)));
            let width = u16::try_from(bundle.len()).unwrap();
            self.put(LogFile::Entries(index as u64, width), &bytes);
        }
        for (index, openings) in self.openings.chunks(256).enumerate() {
            let mut bytes = Vec::new();
            openings.iter().for_each(|opening| assert!(push_entry(&mut bytes, opening)));
            self.put(LogFile::Openings(index as u64), &bytes);
        }
        for (index, keys) in self.keys.chunks(256).enumerate() {
            self.put(LogFile::Keys(index as u64), keys.as_flattened());
        }
        if !self.sizes.is_empty() {
            self.put(LogFile::Sizes, &self.sizes);
        }
    }
}
