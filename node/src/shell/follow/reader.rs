//! What is read of the broker's log, and no more of it than a proof needs: a few hashes' worth for a log of any length.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lintas_link::Connection;
use lintas_proto::{
    audit::{
        epoch::{ENTRY_BYTES, RootEntry},
        files::LogFile,
        leaf::LEAF_BYTES,
        note::SignedCheckpoint,
        tile::{OutsideTree, Tile, WIDTH, Wanted},
    },
    id::Digest,
    limits,
};

use super::Stop;
use crate::{
    core::log::inclusion::{Fault, Tiles, find_slots, read_slots, slots_bytes},
    shell::log_link::{self, LogError, Piece},
};

/// Most tiles fetched for one proof, 8 KiB each.
const TILES_MAX: usize = 512;
/// Entries of a full tile or bundle.
const FULL: u16 = 256;
/// Pieces kept for the next proof, so that neighbours do not fetch the same tile twice.
const KEPT_MAX: usize = 256;
/// Bytes of a record in `sizes`, and how many of them are fetched together.
const SIZE_BYTES: u64 = 16;
const SIZES_AT_ONCE: u64 = 64;
/// Bytes of a record in `slot-keys`, and how many of them are tried.
const SLOT_KEY_BYTES: usize = 40;
const SLOT_KEYS_MAX: usize = 64;
/// An entry behind its length.
const ENTRY_FRAMED: u64 = 2 + ENTRY_BYTES as u64;
const LEAF_FRAMED: u64 = 2 + LEAF_BYTES as u64;

/// Where pieces of log files come from.
pub(crate) trait LogSource: Sync {
    /// At most `length` bytes of a file from `offset` on, 0 for all.
    fn piece(
        &self,
        origin: &str,
        file: LogFile,
        offset: u64,
        length: u64,
    ) -> impl Future<Output = Result<Piece, LogError>> + Send;
}

impl LogSource for Connection {
    async fn piece(&self, origin: &str, file: LogFile, offset: u64, length: u64) -> Result<Piece, LogError> {
        log_link::get(self, origin, file, offset, length).await
    }
}

/// Reads one log's files.
pub(super) struct Reader<'a, S> {
    source: &'a S,
    kept: BTreeMap<(String, Tile), Bytes>,
}

/// A record of `sizes`: an epoch with new entries, and how many there were at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grown {
    pub(super) epoch: u64,
    pub(super) size: u64,
}

impl<'a, S: LogSource> Reader<'a, S> {
    pub(super) fn new(source: &'a S) -> Self {
        Self { source, kept: BTreeMap::new() }
    }

    /// The checkpoint of a root log. No signature is checked.
    pub(super) async fn checkpoint(&self, origin: &str) -> Result<SignedCheckpoint, Stop> {
        let max = limits::CHECKPOINT_BYTES_MAX as u64;
        let piece = self.source.piece(origin, LogFile::Checkpoint, 0, max).await?;
        SignedCheckpoint::parse(&piece.bytes)
            .map_err(|error| Stop::Wrong(format!("its checkpoint cannot be read: {error}")))
    }

    /// The tiles that `prove` asks for in the tree of `size` leaves.
    pub(super) async fn tiles(
        &mut self,
        origin: &str,
        size: u64,
        prove: impl Fn(&Wanted) -> Result<(), OutsideTree>,
    ) -> Result<Tiles, Stop> {
        let wanted = Wanted::of(size);
        prove(&wanted).map_err(|_| Fault::Tile)?;
        let wanted: BTreeSet<Tile> = wanted.into_tiles();
        if wanted.len() > TILES_MAX {
            return Err(Stop::Wrong("a proof asks for more of its tree than there can be".to_owned()));
        }
        let mut tiles = BTreeMap::new();
        for tile in wanted {
            tiles.insert(tile, self.tile(origin, tile).await?);
        }
        Ok(Tiles::new(size, tiles))
    }

    async fn tile(&mut self, origin: &str, tile: Tile) -> Result<Bytes, Stop> {
        let key = (origin.to_owned(), tile);
        if let Some(kept) = self.kept.get(&key) {
            return Ok(kept.clone());
        }
        let length = u64::from(tile.width) * 32;
        let full = Tile { width: FULL, ..tile };
        let piece = self.piece_of((origin, LogFile::Tile(tile), LogFile::Tile(full)), 0, length).await?;
        if piece.bytes.len() as u64 != length {
            return Err(Fault::Tile.into());
        }
        if self.kept.len() >= KEPT_MAX {
            self.kept.clear();
        }
        self.kept.insert(key, piece.bytes.clone());
        Ok(piece.bytes)
    }

    /// A piece of a partial file, or of the full one that has taken its place meanwhile and begins with it.
    async fn piece_of(
        &self,
        (origin, partial, full): (&str, LogFile, LogFile),
        offset: u64,
        length: u64,
    ) -> Result<Piece, LogError> {
        match self.source.piece(origin, partial, offset, length).await {
            Err(LogError::Missing(_)) if partial != full => {
                self.source.piece(origin, full, offset, length).await
            }
            given => given,
        }
    }

    /// Entry `index` of a root log of `size` entries.
    pub(super) async fn root_entry(&self, origin: &str, index: u64, size: u64) -> Result<Bytes, Stop> {
        self.entry(origin, index, size, ENTRY_FRAMED).await
    }

    /// Entry `index` of a sub-log of `size` entries.
    pub(super) async fn leaf(&self, origin: &str, index: u64, size: u64) -> Result<Bytes, Stop> {
        self.entry(origin, index, size, LEAF_FRAMED).await
    }

    /// All entries of one log have the same length, so each has its place in its bundle.
    async fn entry(&self, origin: &str, index: u64, size: u64, framed: u64) -> Result<Bytes, Stop> {
        let tile = Tile::of_hash(0, index, size).ok_or(Fault::Tile)?;
        let (file, full) = (LogFile::Entries(tile.index, tile.width), LogFile::Entries(tile.index, FULL));
        let piece = self.piece_of((origin, file, full), (index % WIDTH) * framed, framed).await?;
        let whole = piece.bytes.len() as u64 == framed;
        let entry = piece.bytes.split_first_chunk::<2>().filter(|_| whole);
        let entry = entry.filter(|(length, _)| u64::from(u16::from_be_bytes(**length)) + 2 == framed);
        let (_, entry) =
            entry.ok_or_else(|| Stop::Wrong("an entry is not as long as entries are".to_owned()))?;
        Ok(Bytes::copy_from_slice(entry))
    }

    /// The slots of an epoch, checked against its entry. While the roster is the same all epochs of a file are as long
    /// as this one; if that guess is wrong, the file is read from its beginning.
    pub(super) async fn slots(&self, origin: &str, entry: &RootEntry) -> Result<Vec<Digest>, Stop> {
        let (file, nth) = (LogFile::Slots(entry.epoch / WIDTH), entry.epoch % WIDTH);
        let length = slots_bytes(entry.slots) as u64;
        let guess = self.source.piece(origin, file, nth.saturating_mul(length), length).await?;
        if let Some(slots) = read_slots(&guess.bytes, entry) {
            return Ok(slots);
        }
        let whole = self.source.piece(origin, file, 0, 0).await?;
        let found = find_slots(&whole.bytes, nth).and_then(|bytes| read_slots(bytes, entry));
        found.ok_or_else(|| Fault::Slots(entry.epoch).into())
    }

    /// The slot keys that the log says were in use by an epoch, the newest first; none while it names none.
    pub(super) async fn slot_keys(&self, origin: &str, epoch: u64) -> Result<Vec<[u8; 32]>, Stop> {
        let piece = match self.source.piece(origin, LogFile::SlotKeys, 0, 0).await {
            Err(LogError::Missing(_)) => return Ok(Vec::new()),
            other => other?,
        };
        let (records, _) = piece.bytes.as_chunks::<SLOT_KEY_BYTES>();
        let record = |record: &[u8; SLOT_KEY_BYTES]| {
            let (from, key) = record.split_first_chunk::<8>()?;
            (u64::from_be_bytes(*from) <= epoch).then(|| key.try_into().ok()).flatten()
        };
        Ok(records.iter().rev().filter_map(record).take(SLOT_KEYS_MAX).collect())
    }

    /// The sizes of a sub-log, of epochs below `epochs`; empty while nothing of it is published.
    pub(super) async fn sizes(&self, origin: &str, epochs: u64) -> Result<Sizes<'a, S>, Stop> {
        let (origin, source) = (origin.to_owned(), self.source);
        let mut sizes = Sizes { source, origin, count: 0, blocks: BTreeMap::new() };
        let first = sizes.source.piece(&sizes.origin, LogFile::Sizes, 0, SIZE_BYTES).await;
        let piece = match first {
            Err(LogError::Missing(_)) => return Ok(sizes),
            other => other?,
        };
        sizes.count = piece.file_length / SIZE_BYTES;
        sizes.count = sizes.first_that(|grown| grown.epoch >= epochs).await?;
        Ok(sizes)
    }
}

/// The file `sizes`, searched. What it says is believed only once the slot of that epoch opens with it.
pub(super) struct Sizes<'a, S> {
    source: &'a S,
    origin: String,
    count: u64,
    blocks: BTreeMap<u64, Bytes>,
}

impl<S: LogSource> Sizes<'_, S> {
    /// The last epoch with new entries.
    pub(super) async fn last(&mut self) -> Result<Option<Grown>, Stop> {
        match self.count.checked_sub(1) {
            Some(at) => self.at(at).await.map(Some),
            None => Ok(None),
        }
    }

    /// The epoch in which entry `index` was added, and the size before it; none if it was not.
    pub(super) async fn of_entry(&mut self, index: u64) -> Result<Option<(Grown, u64)>, Stop> {
        let at = self.first_that(|grown| grown.size > index).await?;
        if at >= self.count {
            return Ok(None);
        }
        let before = match at.checked_sub(1) {
            Some(before) => self.at(before).await?.size,
            None => 0,
        };
        Ok(Some((self.at(at).await?, before)))
    }

    /// The first record for which something holds that holds for all after it; their number if for none. Ends after as
    /// many steps as the number has bits, whatever the records say.
    async fn first_that(&mut self, holds: impl Fn(&Grown) -> bool) -> Result<u64, Stop> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if holds(&self.at(middle).await?) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Ok(low)
    }

    async fn at(&mut self, record: u64) -> Result<Grown, Stop> {
        let (block, within) = (record / SIZES_AT_ONCE, record % SIZES_AT_ONCE);
        let within = usize::try_from(within * SIZE_BYTES).unwrap_or(usize::MAX);
        if !self.blocks.contains_key(&block) {
            let (offset, length) = (block * SIZES_AT_ONCE * SIZE_BYTES, SIZES_AT_ONCE * SIZE_BYTES);
            let piece = self.source.piece(&self.origin, LogFile::Sizes, offset, length).await?;
            if self.blocks.len() >= KEPT_MAX {
                self.blocks.clear();
            }
            self.blocks.insert(block, piece.bytes);
        }
        let bytes = self.blocks.get(&block).and_then(|bytes| bytes.get(within..));
        let read = bytes.and_then(|bytes| bytes.split_first_chunk::<8>());
        let read = read.and_then(|(epoch, rest)| Some((epoch, rest.first_chunk::<8>()?)));
        let (epoch, size) = read.ok_or_else(|| Stop::Wrong("`sizes` is shorter than it says".to_owned()))?;
        Ok(Grown { epoch: u64::from_be_bytes(*epoch), size: u64::from_be_bytes(*size) })
    }
}
