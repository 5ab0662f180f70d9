//! A growing tree with the tiles that it is not done with: at most 255 hashes a level.

use lintas_proto::{
    audit::{
        merkle::{self, Frontier},
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
    frontier: Frontier,
    /// Hashes of each level's last tile, while it is not full.
    rows: [Vec<Digest>; LEVELS],
}

impl Tree {
    /// Leaves so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// Root.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.frontier.root()
    }

    /// Appends a leaf hash. `full` is given each tile that becomes full.
    pub fn push(&mut self, leaf: Digest, mut full: impl FnMut(Tile, Vec<u8>)) {
        self.frontier.push(leaf);
        let (mut hashes, mut hash) = (self.frontier.size(), leaf);
        for (level, row) in (0..).zip(&mut self.rows) {
            row.push(hash);
            if row.len() < WIDTH {
                return;
            }
            hashes /= WIDTH as u64;
            let tile = Tile { level, index: hashes.saturating_sub(1), width: 256 };
            full(tile, row.concat());
            hash = merkle::root(row);
            row.clear();
        }
    }

    /// The unfinished tiles that a tree of `before` leaves did not have, or not so.
    pub fn partial_tiles(&self, before: u64) -> impl Iterator<Item = (Tile, Vec<u8>)> {
        let size = self.size();
        partial_tiles(size).filter_map(move |tile| {
            let is_new = Tile::of_tree(tile.level, tile.index, before) != Some(tile);
            let row = self.rows.get(usize::from(tile.level)).filter(|_| is_new)?;
            Some((tile, row.concat()))
        })
    }

    /// The tree of `size` leaves from its unfinished tiles.
    ///
    /// # Errors
    /// Those of `read`, which gives exactly the hashes of a tile.
    pub fn resume<E>(size: u64, mut read: impl FnMut(Tile) -> Result<Vec<Digest>, E>) -> Result<Self, E> {
        let (mut rows, mut subtrees) = (<[Vec<Digest>; LEVELS]>::default(), Vec::new());
        for tile in partial_tiles(size) {
            if let Some(row) = rows.get_mut(usize::from(tile.level)) {
                *row = read(tile)?;
            }
        }
        for row in rows.iter().rev() {
            let mut of_row = Frontier::default();
            row.iter().for_each(|hash| of_row.push(*hash));
            subtrees.extend_from_slice(of_row.subtrees());
        }
        let frontier = Frontier::resume(size, subtrees).unwrap_or_default();
        Ok(Self { frontier, rows })
    }

    /// Hashes of the last tile of level 0, while it is not full.
    #[must_use]
    pub fn last_leaves(&self) -> &[Digest] {
        let [row, ..] = &self.rows;
        row
    }
}

/// The unfinished tiles of a tree of `size` leaves.
pub fn partial_tiles(size: u64) -> impl Iterator<Item = Tile> {
    (0..8u8).filter_map(move |level| {
        let hashes = size >> (8 * u32::from(level));
        Tile::of_tree(level, hashes / WIDTH as u64, size)
    })
}
