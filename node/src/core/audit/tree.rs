//! A tree that is derived anew from the hashes of its leaves, and every tile of it compared with what the files say.

use lintas_proto::{
    audit::{
        files::LogFile,
        merkle::{Frontier, root_of_subtrees},
        tile::{Tile, WIDTH},
    },
    id::{Digest, hex},
};
use serde::{Deserialize, Serialize};

use super::{
    finding::{Finding, Findings, Kind},
    source::{LogFiles, Owner, tile_hashes},
};

/// What was pushed so far: at most 255 hashes a level.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Tree {
    size: u64,
    /// Of each level, the hashes of its last tile, which is not full.
    rows: Vec<Vec<Digest>>,
    /// The subtrees of each row; behind the rows after a state was read.
    #[serde(skip)]
    frontiers: Vec<Frontier>,
}

impl Tree {
    /// Leaves so far.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf; a tile that it fills is compared.
    pub(crate) fn push(&mut self, leaf: Digest, compare: &Compare<'_>, found: &mut Findings) {
        self.resume();
        let (mut hash, mut size, mut level) = (leaf, self.size, 0u8);
        self.size = self.size.saturating_add(1);
        loop {
            let at = usize::from(level);
            if self.rows.len() <= at {
                self.rows.push(Vec::new());
                self.frontiers.push(Frontier::default());
            }
            let (Some(row), Some(frontier)) = (self.rows.get_mut(at), self.frontiers.get_mut(at)) else {
                return;
            };
            row.push(hash);
            frontier.push(hash);
            if (row.len() as u64) < WIDTH {
                return;
            }
            compare.tile(Tile { level, index: size / WIDTH, width: 256 }, row, found);
            hash = frontier.root();
            row.clear();
            *frontier = Frontier::default();
            size /= WIDTH;
            level = level.saturating_add(1);
        }
    }

    /// Root of what was pushed.
    pub(crate) fn root(&mut self) -> Digest {
        self.resume();
        root_of_subtrees(self.frontiers.iter().flat_map(|row| row.subtrees().iter().rev()))
    }

    /// Compares the tiles that are not full, and the root.
    pub(crate) fn end(&mut self, root: &Digest, compare: &Compare<'_>, found: &mut Findings) {
        let size = self.size;
        for (level, row) in (0u8..).zip(&self.rows) {
            let index = size.checked_shr(8 * (u32::from(level) + 1)).unwrap_or(0);
            let Ok(width) = u16::try_from(row.len()) else { continue };
            if width > 0 {
                compare.tile(Tile { level, index, width }, row, found);
            }
        }
        let derived = self.root();
        if derived != *root {
            let text = format!(
                "the {size} entries lead to the root {}, and the checkpoint says {}",
                hex(&derived),
                hex(root)
            );
            let finding = Finding::new(Kind::RootDiffers, compare.log, text).of(LogFile::Checkpoint);
            found.push(finding);
        }
    }

    fn resume(&mut self) {
        for row in self.rows.iter().skip(self.frontiers.len()) {
            let mut frontier = Frontier::default();
            row.iter().for_each(|hash| frontier.push(*hash));
            self.frontiers.push(frontier);
        }
    }
}

/// With what a tree is compared.
pub(crate) struct Compare<'a> {
    pub(crate) files: &'a dyn LogFiles,
    pub(crate) log: &'a str,
    pub(crate) owner: Owner<'a>,
}

impl Compare<'_> {
    fn tile(&self, tile: Tile, derived: &[Digest], found: &mut Findings) {
        let (hashes, file) = match tile_hashes(self.files, self.log, self.owner, tile) {
            Ok(read) => read,
            Err(finding) => return found.push(finding),
        };
        let differs = hashes.iter().zip(derived).position(|(read, derived)| read != derived);
        let Some(at) = differs else { return };
        let finding = if tile.level == 0 {
            let at = tile.index.saturating_mul(WIDTH).saturating_add(at as u64);
            let text = "tile and entry do not belong together: one of the two files is damaged";
            Finding::new(Kind::Damaged, self.log, text)
                .of(file)
                .of(LogFile::Entries(tile.index, tile.width))
                .entry(at)
        } else {
            Finding::new(Kind::Damaged, self.log, "it is not the tile that the entries lead to").of(file)
        };
        found.push(finding);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use lintas_proto::audit::merkle::{leaf_hash, root as merkle_root};

    use super::*;

    struct Nothing;

    impl LogFiles for Nothing {
        fn read(&self, _: Owner<'_>, _: LogFile, _: u64, _: u64) -> Result<Option<Bytes>, String> {
            Ok(None)
        }
    }

    #[test]
    fn a_tree_goes_on_from_what_was_kept_of_it() {
        let compare = Compare { files: &Nothing, log: "x/audit", owner: None };
        let (mut whole, mut parts, mut found) = (Tree::default(), Tree::default(), Findings::default());
        let mut leaves = Vec::new();
        for at in 0..70_000u64 {
            let leaf = leaf_hash(&at.to_be_bytes());
            leaves.push(leaf);
            whole.push(leaf, &compare, &mut found);
            if at % 9_973 == 0 {
                parts = serde_json::from_slice(&serde_json::to_vec(&parts).unwrap()).unwrap();
            }
            parts.push(leaf, &compare, &mut Findings::default());
        }
        assert_eq!(whole.root(), merkle_root(&leaves));
        assert_eq!(parts.root(), whole.root());
        // 273 full tiles of level 0 and one of level 1 were asked for, and not found.
        assert_eq!(found.counts()[&Kind::Missing], 274);
    }
}
