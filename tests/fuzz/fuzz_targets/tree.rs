//! Merkle trees and tiles: a proof holds for its leaf, its index and its sizes only, and sizes that nobody's log has cost
//! no more than others.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lintas_fuzz::draws::Draws;
use lintas_proto::{
    audit::{
        merkle::{self, Frontier, consistency_roots, leaf_hash, root_from_path, verify_consistency},
        tile::{self, Hashes, OutsideTree, Tile, Wanted},
    },
    id::Digest,
};
use std::{num::NonZeroU64, sync::LazyLock};

/// Leaves of the largest tree here: tiles of two levels, whole and partial.
const LEAVES: usize = 600;

static HASHES: LazyLock<Vec<Digest>> =
    LazyLock::new(|| (0..LEAVES).map(|index| leaf_hash(&index.to_be_bytes())).collect());

/// Roots of the complete subtrees of 256 leaves.
static ABOVE: LazyLock<Vec<Digest>> = LazyLock::new(|| HASHES.chunks_exact(256).map(merkle::root).collect());

struct Tree(usize);

impl Hashes for Tree {
    type Error = OutsideTree;

    fn hash(&self, level: u8, index: u64) -> Result<Digest, OutsideTree> {
        let outside = OutsideTree { level, index };
        Tile::of_hash(level, index, self.0 as u64).ok_or(outside)?;
        let row = [&HASHES, &ABOVE].into_iter().nth(level.into()).ok_or(outside)?;
        row.get(usize::try_from(index).map_err(|_| outside)?).copied().ok_or(outside)
    }
}

fuzz_target!(|data: &[u8]| {
    let mut draws = Draws::new(data);
    match draws.byte() % 4 {
        0 => inclusion(&mut draws),
        1 => consistency(&mut draws),
        2 => any_sizes(&mut draws),
        _ => frontier(&mut draws),
    }
});

/// Mostly small trees.
fn size(draws: &mut Draws<'_>) -> usize {
    let most = if draws.byte() < 32 { LEAVES } else { 40 };
    draws.below(most)
}

fn inclusion(draws: &mut Draws<'_>) {
    let size = 1 + size(draws);
    let (index, other) = (draws.below(size), draws.below(size));
    let leaves = &HASHES[..size];
    let path = tile::inclusion(&Tree(size), size as u64, index as u64).unwrap();
    assert_eq!(Some(&path), merkle::path(leaves, index).as_ref(), "tiles and leaves differ");
    let root = tile::root(&Tree(size), size as u64).unwrap();
    assert_eq!(root, merkle::root(leaves));
    let changed = another(&path, draws);
    let (count, at) = (NonZeroU64::new(size as u64).unwrap(), other as u64);
    let leads = root_from_path(leaves[index], at, count, &changed) == Ok(root);
    assert_eq!(leads, other == index && changed == path, "a leaf at two places, or by two paths");
}

fn consistency(draws: &mut Draws<'_>) {
    let new = 1 + size(draws);
    let old = draws.below(new + 1);
    let roots = [old, new].map(|size| merkle::root(&HASHES[..size]));
    let proof = tile::consistency(&Tree(new), old as u64, new as u64).unwrap();
    let changed = another(&proof, draws);
    let (mut before, mut after) = (roots[0], roots[1]);
    let (bit, which) = (draws.byte(), draws.byte() % 4);
    before[usize::from(bit % 32)] ^= u8::from(which == 1);
    after[usize::from(bit % 32)] ^= u8::from(which == 2);
    let holds = verify_consistency((old as u64, &before), (new as u64, &after), &changed).is_ok();
    // The empty tree comes before every tree, whatever root that has.
    let same = changed == proof && before == roots[0] && (after == roots[1] || old == 0);
    assert_eq!(holds, same, "{old} and {new}");
}

/// Sizes up to 2^64 - 1, as a checkpoint may claim them.
fn any_sizes(draws: &mut Draws<'_>) {
    let (old, new, index) = (draws.number(), draws.number(), draws.number());
    // Nothing is proved with it; it says which tiles a proof would need, and so how long the proof is.
    let wanted = Wanted::of(new);
    let to_root = tile::inclusion(&wanted, new, index).unwrap().len();
    let between = tile::consistency(&wanted, old, new).unwrap().len();
    let repeated = usize::from(!old.is_power_of_two());
    let lengths = [to_root, between.saturating_sub(repeated), between, draws.below(70)];
    let path = vec![[draws.byte(); 32]; lengths[draws.below(4)]];
    if let Some(size) = NonZeroU64::new(new) {
        let found = root_from_path([1; 32], index, size, &path);
        assert_eq!(found.is_ok(), index < new && path.len() == to_root, "{index} of {new}");
    }
    let roots = consistency_roots(old, new, [1; 32], &path);
    assert_eq!(roots.is_some(), 0 < old && old < new && path.len() + repeated == between, "{old} and {new}");
    let holds = verify_consistency((old, &[1; 32]), (new, &[2; 32]), &path);
    assert!(holds.is_err(), "roots of no tree: {old} and {new}");
    let subtrees = tile::subtrees(&wanted, new).unwrap();
    assert_eq!(subtrees.len(), usize::try_from(new.count_ones()).unwrap());
    let tiles = wanted.into_tiles();
    assert!(tiles.len() <= 3 * 64 * 2, "{} tiles", tiles.len());
    for tile in &tiles {
        assert_eq!(Tile::of_tree(tile.level, tile.index, new), Some(*tile));
    }
    for tile in tile::new_tiles(old, new).take(500) {
        assert_eq!(Tile::of_tree(tile.level, tile.index, new), Some(tile));
        assert_ne!(Tile::of_tree(tile.level, tile.index, old), Some(tile), "a tile that is not new");
    }
}

fn frontier(draws: &mut Draws<'_>) {
    let (size, more) = (size(draws), draws.below(40));
    let subtrees = tile::subtrees(&Tree(size), size as u64).unwrap();
    let mut resumed = Frontier::resume(size as u64, subtrees.clone()).unwrap();
    let end = (size + more).min(LEAVES);
    HASHES[size..end].iter().for_each(|leaf| resumed.push(*leaf));
    assert_eq!((resumed.root(), resumed.size()), (merkle::root(&HASHES[..end]), end as u64));
    let any = draws.number();
    let fits = usize::try_from(any.count_ones()).unwrap() == subtrees.len();
    assert_eq!(Frontier::resume(any, subtrees).is_some(), fits);
}

/// `path` with a hash changed, removed, added or moved; as it was when nothing is left to draw.
fn another(path: &[Digest], draws: &mut Draws<'_>) -> Vec<Digest> {
    let mut path = path.to_vec();
    let how = draws.byte();
    let (at, to) = (draws.below(path.len()), draws.below(path.len()));
    match how % 6 {
        1 if !path.is_empty() => path[at][usize::from(how >> 3)] ^= 1 << (how & 7),
        2 if !path.is_empty() => drop(path.remove(at)),
        3 => path.insert(at, [how; 32]),
        4 if !path.is_empty() => path.swap(at, to),
        5 => path.extend_from_within(at..),
        _ => {}
    }
    path
}
