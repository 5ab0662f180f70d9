//! The hashes of a log, from its tiles on the disk.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use lintas_proto::{
    audit::{
        merkle::verify_consistency,
        note::Checkpoint,
        tile::{self, Hashes, Tile, hash_in},
    },
    id::Digest,
};

use super::reading::widest;

/// A log's tiles. Keeps those that it has read.
#[derive(Debug)]
pub(crate) struct DiskTiles {
    folder: PathBuf,
    /// Leaves that are published.
    size: u64,
    read: RefCell<BTreeMap<Tile, Bytes>>,
}

impl DiskTiles {
    /// Of the log in `folder`, of which `size` leaves are published.
    pub(crate) fn new(folder: &Path, size: u64) -> Self {
        Self { folder: folder.to_owned(), size, read: RefCell::default() }
    }

    /// Whether this log contains what the checkpoint says: it had that root when it had that size.
    ///
    /// # Errors
    /// Tiles that cannot be read.
    pub(super) fn contain(&self, known: &Checkpoint) -> io::Result<bool> {
        Ok(known.size <= self.size && tile::root(self, known.size)? == known.root)
    }

    /// Proof that the tree of `new` leaves, whose root is `root`, continues the one of `old` leaves.
    ///
    /// # Errors
    /// Tiles that cannot be read, or that do not lead to that root.
    pub(super) fn consistency(&self, old: u64, (new, root): (u64, &Digest)) -> io::Result<Vec<Digest>> {
        let proof = tile::consistency(self, old, new)?;
        verify_consistency((old, &tile::root(self, old)?), (new, root), &proof).map_err(damaged)?;
        Ok(proof)
    }
}

impl Hashes for DiskTiles {
    type Error = io::Error;

    fn hash(&self, level: u8, index: u64) -> io::Result<Digest> {
        let tile = Tile::of_hash(level, index, self.size)
            .ok_or_else(|| damaged(tile::OutsideTree { level, index }))?;
        if let Some(hash) = self.read.borrow().get(&tile).and_then(|bytes| hash_in(bytes, index)) {
            return Ok(hash);
        }
        let bytes = Bytes::from(read(&self.folder, tile)?);
        let hash = hash_in(&bytes, index).ok_or_else(|| damaged(format!("{} is too short", tile.path())))?;
        self.read.borrow_mut().insert(tile, bytes);
        Ok(hash)
    }
}

/// The bytes of a tile, or of a wider one in its place.
fn read(folder: &Path, tile: Tile) -> io::Result<Vec<u8>> {
    let file = widest(folder, |width| Tile { width, ..tile }.path(), tile.width)?;
    let mut bytes = Vec::new();
    file.ok_or(io::ErrorKind::NotFound)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn damaged(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
