//! What sub-logs and the root log have in common: entries, in bundles, and the tiles over them.

use std::collections::VecDeque;

use lintas_proto::{
    audit::{
        files::LogFile,
        merkle::leaf_hash,
        tile::{self, WIDTH, push_entry},
    },
    id::Digest,
};

use super::{
    LogError,
    publication::{Publication, Target, Write},
    tree::{Tree, partial_tiles},
};

/// Of so many of a log's last sizes the unfinished tiles and bundles stay, for whoever reads under a checkpoint that is
/// not the newest one.
const SIZES_KEPT: usize = 64;

/// Entries of a log.
#[derive(Debug, Clone, Default)]
pub(super) struct Entries {
    tree: Tree,
    /// The last bundle, while it is not full.
    bundle: Vec<u8>,
    /// Size at the end of the last epoch.
    before: u64,
    /// Sizes of which unfinished tiles may be there.
    sizes: VecDeque<u64>,
}

impl Entries {
    pub(super) fn size(&self) -> u64 {
        self.tree.size()
    }

    pub(super) fn root(&self) -> Digest {
        self.tree.root()
    }

    /// Whether there are entries of this epoch.
    pub(super) fn have_grown(&self) -> bool {
        self.size() > self.before
    }

    /// Appends an entry of 1 to 65,535 bytes.
    pub(super) fn push(
        &mut self,
        entry: &[u8],
        target: &impl Fn(LogFile) -> Target,
        out: &mut Publication,
    ) -> bool {
        let fits = push_entry(&mut self.bundle, entry);
        let tiles = &mut out.tiles;
        let full = |tile, bytes| tiles.push((target(LogFile::Tile(tile)), Write::Whole(bytes)));
        self.tree.push(leaf_hash(entry), full);
        if self.size().is_multiple_of(WIDTH) {
            let bundle = LogFile::Entries(self.size() / WIDTH - 1, 256);
            out.contents.push((target(bundle), Write::Whole(std::mem::take(&mut self.bundle))));
        }
        fits
    }

    /// At the end of an epoch: what is not full is written too.
    pub(super) fn finish(&mut self, target: &impl Fn(LogFile) -> Target, out: &mut Publication) {
        if !self.have_grown() {
            return;
        }
        if let Some(bundle) = partial_bundle(self.size()) {
            out.contents.push((target(bundle), Write::Whole(self.bundle.clone())));
        }
        for (tile, bytes) in self.tree.partial_tiles(self.before) {
            out.tiles.push((target(LogFile::Tile(tile)), Write::Whole(bytes)));
        }
        self.before = self.size();
        self.sizes.push_back(self.before);
        while self.sizes.len() > SIZES_KEPT {
            let (gone, next) = (self.sizes.pop_front(), self.sizes.front());
            let (gone, next) = (gone.unwrap_or_default(), next.copied().unwrap_or_default());
            let still: Vec<LogFile> = partial_files(next).collect();
            out.gone.extend(partial_files(gone).filter(|file| !still.contains(file)).map(target));
        }
    }

    /// The log of `size` entries from its files.
    pub(super) fn resume(
        size: u64,
        target: &impl Fn(LogFile) -> Target,
        read: &impl Fn(&Target, u64) -> Result<Vec<u8>, LogError>,
    ) -> Result<Self, LogError> {
        let wrong =
            |file: &Target, what: &str| LogError::File { file: file.to_string(), what: what.to_owned() };
        let tree = Tree::resume(size, |tile| {
            let file = target(LogFile::Tile(tile));
            let bytes = read(&file, 0)?;
            let (hashes, rest) = bytes.as_chunks::<32>();
            let whole = hashes.len() == usize::from(tile.width) && rest.is_empty();
            whole.then(|| hashes.to_vec()).ok_or_else(|| wrong(&file, "it has another length"))
        })?;
        let mut bundle = Vec::new();
        if let Some(file) = partial_bundle(size).map(target) {
            bundle = read(&file, 0)?;
            let leaves = tile::entries(&bundle).map(|entry| entry.map(leaf_hash));
            if leaves.collect::<Option<Vec<_>>>().as_deref() != Some(tree.last_leaves()) {
                return Err(wrong(&file, "its entries are not those of the tile over it"));
            }
        }
        Ok(Self { tree, bundle, before: size, sizes: VecDeque::from([size]) })
    }
}

fn partial_bundle(size: u64) -> Option<LogFile> {
    let width = u16::try_from(size % WIDTH).ok().filter(|width| *width > 0)?;
    Some(LogFile::Entries(size / WIDTH, width))
}

/// Unfinished tiles and bundle of a log of `size` entries.
fn partial_files(size: u64) -> impl Iterator<Item = LogFile> {
    partial_tiles(size).map(LogFile::Tile).chain(partial_bundle(size))
}
