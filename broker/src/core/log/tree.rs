//! A growing tree with the tiles that it is not done with: at most 255 hashes a level.

use lintas_proto::{
    audit::{
        merkle::{Frontier, root_of_subtrees},
        tile::Tile,
    },
    id::Digest,
};

/// Levels of tiles.
const LEVELS: usize = 8;
/// Hashes of a full tile.
const WIDTH: usize = 256;

/// A tree.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    size: u64,
    /// Each level's last tile, while it is not full.
    rows: [Row; LEVELS],
}

/// A tile that is not full. Its subtrees are those of the whole tree at these levels.
#[derive(Debug, Clone, Default)]
struct Row {
    hashes: Vec<Digest>,
    frontier: Frontier,
}

impl Row {
    fn push(&mut self, hash: Digest) {
        self.hashes.push(hash);
        self.frontier.push(hash);
    }
}

impl Tree {
    /// Leaves so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Root.
    #[must_use]
    pub fn root(&self) -> Digest {
        root_of_subtrees(self.rows.iter().flat_map(|row| row.frontier.subtrees().iter().rev()))
    }

    /// Appends a leaf hash. `full` is given each tile that becomes full.
    pub fn push(&mut self, leaf: Digest, mut full: impl FnMut(Tile, Vec<u8>)) {
        self.size = self.size.saturating_add(1);
        let (mut hashes, mut hash) = (self.size, leaf);
        for (level, row) in (0..).zip(&mut self.rows) {
            row.push(hash);
            if row.hashes.len() < WIDTH {
                return;
            }
            hashes /= WIDTH as u64;
            let tile = Tile { level, index: hashes.saturating_sub(1), width: 256 };
            full(tile, row.hashes.concat());
            hash = row.frontier.root();
            row.hashes.clear();
            row.frontier = Frontier::default();
        }
    }

    /// The unfinished tiles that a tree of `before` leaves did not have, or not so.
    pub fn partial_tiles(&self, before: u64) -> impl Iterator<Item = (Tile, Vec<u8>)> {
        let size = self.size();
        partial_tiles(size).filter_map(move |tile| {
            let is_new = Tile::of_tree(tile.level, tile.index, before) != Some(tile);
            let row = self.rows.get(usize::from(tile.level)).filter(|_| is_new)?;
            Some((tile, row.hashes.concat()))
        })
    }

    /// The tree of `size` leaves from its unfinished tiles.
    ///
    /// # Errors
    /// Those of `read`, which gives exactly the hashes of a tile.
    pub fn resume<E>(size: u64, mut read: impl FnMut(Tile) -> Result<Vec<Digest>, E>) -> Result<Self, E> {
        let mut rows = <[Row; LEVELS]>::default();
        for tile in partial_tiles(size) {
            if let Some(row) = rows.get_mut(usize::from(tile.level)) {
                read(tile)?.into_iter().for_each(|hash| row.push(hash));
            }
        }
        Ok(Self { size, rows })
    }

    /// Hashes of the last tile of level 0, while it is not full.
    #[must_use]
    pub fn last_leaves(&self) -> &[Digest] {
        let [row, ..] = &self.rows;
        &row.hashes
    }
}

/// The unfinished tiles of a tree of `size` leaves.
pub fn partial_tiles(size: u64) -> impl Iterator<Item = Tile> {
    (0..8u8).filter_map(move |level| {
        let hashes = size >> (8 * u32::from(level));
        Tile::of_tree(level, hashes / WIDTH as u64, size)
    })
}
