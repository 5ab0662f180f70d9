//! Our trees, tiles and proofs against those that others wrote (crate `tlog_tiles`, a port of Go's x/mod sumdb/tlog):
//! the same tiles with the same bytes, the same roots and proofs, and each verifies what the other has made.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests; a failure is a failed test"
)]

use std::{collections::BTreeMap, num::NonZeroU64};

use lintas_proto::{
    audit::{
        merkle::{self, leaf_hash, root_from_path, verify_consistency},
        tile::{self, Hashes, OutsideTree, Tile, hash_in, new_tiles},
    },
    id::Digest,
};
use proptest::prelude::*;
use tlog_tiles::{
    Error, Hash, HashReader, TileHashReader, TileReader, check_record, check_tree, prove_record, prove_tree,
    record_hash, stored_hashes, tree_hash,
};

/// Height of the tiles of C2SP tlog-tiles.
const HEIGHT: u8 = 8;

fn entry(index: u64) -> Vec<u8> {
    format!("entry {index}").into_bytes()
}

/// Our tiles of a tree: each hash by its definition, the root of 256^level leaves.
struct Ours {
    size: u64,
    tiles: BTreeMap<Tile, Vec<u8>>,
}

impl Ours {
    fn of(size: u64) -> Self {
        let mut rows: Vec<Vec<Digest>> = vec![(0..size).map(|index| leaf_hash(&entry(index))).collect()];
        while let Some(above) = rows.last().filter(|row| row.len() >= 256) {
            let above = above.as_chunks::<256>().0.iter().map(|tile| merkle::root(tile)).collect();
            rows.push(above);
        }
        let bytes = |tile: &Tile| {
            let first = usize::try_from(tile.index).unwrap() * 256;
            rows[usize::from(tile.level)][first..first + usize::from(tile.width)].concat()
        };
        Self { size, tiles: new_tiles(0, size).map(|tile| (tile, bytes(&tile))).collect() }
    }
}

impl Hashes for Ours {
    type Error = OutsideTree;

    fn hash(&self, level: u8, index: u64) -> Result<Digest, OutsideTree> {
        let tile = Tile::of_hash(level, index, self.size).and_then(|tile| self.tiles.get(&tile));
        tile.and_then(|tile| hash_in(tile, index)).ok_or(OutsideTree { level, index })
    }
}

/// Their coordinates of our tile.
fn ours(tile: &tlog_tiles::Tile) -> Tile {
    assert_eq!(tile.height(), HEIGHT);
    Tile { level: tile.level(), index: tile.level_index(), width: u16::try_from(tile.width()).unwrap() }
}

/// Their reader over our tiles. It asks for tiles as narrow as will do; ours are as wide as the tree has them.
impl TileReader for Ours {
    fn height(&self) -> u8 {
        HEIGHT
    }

    fn read_tiles(&self, tiles: &[tlog_tiles::Tile]) -> Result<Vec<Vec<u8>>, Error> {
        let read = |tile| {
            let wanted = ours(tile);
            let there = Tile::of_tree(wanted.level, wanted.index, self.size).ok_or(Error::InvalidTile)?;
            let bytes = self.tiles.get(&there).ok_or(Error::InvalidTile)?;
            bytes.get(..usize::from(wanted.width) * 32).map(<[u8]>::to_vec).ok_or(Error::InvalidTile)
        };
        tiles.iter().map(read).collect()
    }

    fn save_tiles(&self, _: &[tlog_tiles::Tile], _: &[Vec<u8>]) {}
}

/// Their storage of hashes.
#[derive(Default)]
struct Theirs(Vec<Hash>);

impl HashReader for Theirs {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, Error> {
        Ok(indexes.iter().map(|index| self.0[usize::try_from(*index).unwrap()]).collect())
    }
}

impl Theirs {
    fn of(size: u64) -> Self {
        let mut theirs = Self::default();
        for index in 0..size {
            let hashes = stored_hashes(index, &entry(index), &theirs).unwrap();
            theirs.0.extend(hashes);
        }
        theirs
    }
}

fn bytes(proof: &[Hash]) -> Vec<Digest> {
    proof.iter().map(|hash| hash.0).collect()
}

/// Two trees of one log, of `old` and of `size` entries, and entry `at`.
fn agree(old: u64, size: u64, at: u64) {
    let (mine, other) = (Ours::of(size), Theirs::of(size));
    let root = tile::root(&mine, size).unwrap();
    assert_eq!(root, tree_hash(size, &other).unwrap().0, "root of {size}");
    let before = tile::root(&mine, old).unwrap();
    assert_eq!(before, tree_hash(old, &other).unwrap().0, "root of {old}");

    let mut mine_new: Vec<Tile> = new_tiles(old, size).collect();
    let their_new = tlog_tiles::Tile::new_tiles(HEIGHT, old, size);
    let mut their_new: Vec<(Tile, Vec<u8>)> =
        their_new.iter().map(|tile| (ours(tile), tile.read_data(&other).unwrap())).collect();
    mine_new.sort();
    their_new.sort();
    assert_eq!(mine_new, their_new.iter().map(|(tile, _)| *tile).collect::<Vec<_>>());
    for (tile, bytes) in &their_new {
        assert_eq!(mine.tiles.get(tile), Some(bytes), "{}", tile.path());
        // Their paths name the height and are otherwise the same.
        let width = u32::from(tile.width);
        let path = tlog_tiles::Tile::new(HEIGHT, tile.level, tile.index, width, false).path();
        assert_eq!(path.replacen("tile/8/", "tile/", 1), tile.path());
    }

    // What each proves; theirs also from our tiles, which it authenticates by the root.
    let over_ours = TileHashReader::new(size, Hash(root), &mine);
    let leaf = leaf_hash(&entry(at));
    assert_eq!(leaf, record_hash(&entry(at)).0);
    let mut inclusion = tile::inclusion(&mine, size, at).unwrap();
    assert_eq!(inclusion, bytes(&prove_record(size, at, &other).unwrap()));
    assert_eq!(inclusion, bytes(&prove_record(size, at, &over_ours).unwrap()));
    let total = NonZeroU64::new(size).unwrap();
    assert_eq!(root_from_path(leaf, at, total, &inclusion), Ok(root));
    let mut theirs = inclusion.iter().map(|hash| Hash(*hash)).collect();
    assert!(check_record(&theirs, size, Hash(root), at, Hash(leaf)).is_ok());
    if let Some(hash) = inclusion.last_mut() {
        hash[0] ^= 1;
        theirs = inclusion.iter().map(|hash| Hash(*hash)).collect();
        assert!(check_record(&theirs, size, Hash(root), at, Hash(leaf)).is_err());
        assert_ne!(root_from_path(leaf, at, total, &inclusion), Ok(root));
    }

    if old > 0 {
        let mut proof = tile::consistency(&mine, old, size).unwrap();
        assert_eq!(proof, bytes(&prove_tree(size, old, &other).unwrap()));
        assert_eq!(proof, bytes(&prove_tree(size, old, &over_ours).unwrap()));
        let both = |proof: &[Digest]| {
            let theirs = proof.iter().map(|hash| Hash(*hash)).collect();
            let theirs = check_tree(&theirs, size, Hash(root), old, Hash(before)).is_ok();
            (verify_consistency((old, &before), (size, &root), proof).is_ok(), theirs)
        };
        assert_eq!(both(&proof), (true, true));
        if let Some(hash) = proof.first_mut() {
            hash[31] ^= 0x80;
            assert_eq!(both(&proof), (false, false));
            proof.pop();
            assert_eq!(both(&proof), (false, false));
        }
    }
}

/// Sizes around the widths of tiles, and the one of the specification's example.
#[test]
fn large_trees_agree() {
    for (old, size, at) in [(65_535, 65_536, 65_535), (256, 65_537, 255), (4_097, 70_000, 69_999)] {
        agree(old, size, at);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn small_trees_agree(size in 1u64..1_200, old in 0u64..1_200, at in 0u64..1_200) {
        agree(old % (size + 1), size, at % size);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3))]

    #[test]
    fn trees_of_any_size_agree(size in 1u64..70_000, old in 0u64..70_000, at in 0u64..70_000) {
        agree(old % (size + 1), size, at % size);
    }
}
