//! Merkle trees as files: tiles of 256 hashes and bundles of 256 entries (C2SP tlog-tiles).
//!
//! Tile `n` at level `l` holds the roots of the complete subtrees of 256^l leaves, number 256 n and up. From tiles every
//! proof follows: [`inclusion`], [`consistency`], [`root`]. They ask for hashes through [`Hashes`], so the same code
//! proves from memory, from disk and from what came over a wire; a proof that is verified authenticates the tiles.

use std::{cell::RefCell, collections::BTreeSet};

use thiserror::Error;

use super::merkle::node_hash;
use crate::id::Digest;

/// Hashes of a full tile, and entries of a full bundle.
pub const WIDTH: u64 = 256;
/// Bits of a tile's width.
const BITS: u32 = 8;
/// Highest level of a tile: a tree has fewer than 2^64 leaves.
pub const LEVEL_MAX: u8 = 7;

/// Where roots of complete subtrees come from.
pub trait Hashes {
    /// Why there is none.
    type Error;

    /// Root of the complete subtree number `index` of 256^`level` leaves (0-based); its leaf hash at level 0.
    ///
    /// # Errors
    /// The source's own.
    fn hash(&self, level: u8, index: u64) -> Result<Digest, Self::Error>;
}

/// A tile of a tree of a certain size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    /// 0 to [`LEVEL_MAX`].
    pub level: u8,
    /// Number of the tile in its level.
    pub index: u64,
    /// Hashes in it, 1 to 256.
    pub width: u16,
}

impl Tile {
    /// The tile that holds hash `index` of `level` in a tree of `size` leaves; `None` if the tree has no such hash.
    #[must_use]
    pub fn of_hash(level: u8, index: u64, size: u64) -> Option<Self> {
        Self::of_tree(level, index / WIDTH, size).filter(|tile| index % WIDTH < u64::from(tile.width))
    }

    /// Tile `index` of `level` in a tree of `size` leaves, as wide as it is there; `None` if it is empty.
    #[must_use]
    pub fn of_tree(level: u8, index: u64, size: u64) -> Option<Self> {
        let shift = BITS.checked_mul(u32::from(level))?;
        let hashes = if level <= LEVEL_MAX { size.checked_shr(shift)? } else { 0 };
        let width = hashes.saturating_sub(index.checked_mul(WIDTH)?).min(WIDTH);
        u16::try_from(width).ok().filter(|width| *width > 0).map(|width| Self { level, index, width })
    }

    /// Whether it will not change any more.
    #[must_use]
    pub fn is_full(&self) -> bool {
        u64::from(self.width) == WIDTH
    }

    /// Path: `tile/<L>/<N>[.p/<W>]`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("tile/{}/{}", self.level, numbered(self.index, self.width))
    }
}

/// Every tile of a tree of `size` leaves that a tree of `before` leaves did not have, in the order of levels.
pub fn new_tiles(before: u64, size: u64) -> impl Iterator<Item = Tile> {
    (0..=LEVEL_MAX).flat_map(move |level| {
        let shift = BITS * u32::from(level);
        let (from, to) = (before >> shift, size >> shift);
        let range = if from < to { from / WIDTH..to.div_ceil(WIDTH) } else { 0..0 };
        range.filter_map(move |index| Tile::of_tree(level, index, size))
    })
}

/// Path of the bundle number `index` with `width` entries: `tile/entries/<N>[.p/<W>]`.
#[must_use]
pub fn entries_path(index: u64, width: u16) -> String {
    format!("tile/entries/{}", numbered(index, width))
}

/// `<N>[.p/<W>]`: groups of three digits, all but the last behind an `x`.
#[must_use]
pub fn numbered(index: u64, width: u16) -> String {
    let partial = if u64::from(width) == WIDTH { String::new() } else { format!(".p/{width}") };
    format!("{}{partial}", number_path(index))
}

/// `x001/x234/067` for 1234067.
#[must_use]
pub fn number_path(index: u64) -> String {
    let mut path = format!("{:03}", index % 1_000);
    let mut rest = index / 1_000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1_000);
        rest /= 1_000;
    }
    path
}

/// Reads what [`numbered`] writes, and nothing else.
#[must_use]
pub fn parse_numbered(path: &str) -> Option<(u64, u16)> {
    let (number, width) = match path.split_once(".p/") {
        Some((number, width)) => (number, width.parse().ok().filter(|width| (1..256).contains(width))?),
        None => (path, 256),
    };
    let digits: String = number.split('/').map(|part| part.strip_prefix('x').unwrap_or(part)).collect();
    let index = digits.parse().ok()?;
    (numbered(index, width) == path).then_some((index, width))
}

/// Root of the tree of `size` leaves; RFC 9162 section 2.1.1.
///
/// # Errors
/// The source's.
pub fn root<H: Hashes>(hashes: &H, size: u64) -> Result<Digest, H::Error> {
    if size == 0 { Ok(crate::id::sha256(&[])) } else { range(hashes, 0, size) }
}

/// Roots of the complete subtrees of a tree of `size` leaves, largest first: what
/// [`Frontier::resume`](super::merkle::Frontier::resume) takes.
///
/// # Errors
/// The source's.
pub fn subtrees<H: Hashes>(hashes: &H, size: u64) -> Result<Vec<Digest>, H::Error> {
    let (mut from, mut roots) = (0, Vec::new());
    while from < size {
        let length = largest_power(size - from);
        roots.push(range(hashes, from, from + length)?);
        from += length;
    }
    Ok(roots)
}

/// Inclusion path of leaf `index` in the tree of `size` leaves, leaf to root; empty beyond the tree. RFC 9162 section
/// 2.1.3.1.
///
/// # Errors
/// The source's.
pub fn inclusion<H: Hashes>(hashes: &H, size: u64, index: u64) -> Result<Vec<Digest>, H::Error> {
    let (mut low, mut high, mut path) = (0, size, Vec::new());
    while index < high && high - low > 1 {
        let split = low + split(high - low);
        if index < split {
            path.push(range(hashes, split, high)?);
            high = split;
        } else {
            path.push(range(hashes, low, split)?);
            low = split;
        }
    }
    path.reverse();
    Ok(path)
}

/// Proof that the tree of `new` leaves begins with that of `old` leaves; empty if either is empty, both are equal, or
/// `old` is larger. RFC 9162 section 2.1.4.1.
///
/// # Errors
/// The source's.
pub fn consistency<H: Hashes>(hashes: &H, old: u64, new: u64) -> Result<Vec<Digest>, H::Error> {
    let mut proof = Vec::new();
    if old == 0 || old >= new {
        return Ok(proof);
    }
    let (mut low, mut high, mut whole) = (0, new, true);
    while old != high {
        let split = low + split(high - low);
        if old <= split {
            proof.push(range(hashes, split, high)?);
            high = split;
        } else {
            proof.push(range(hashes, low, split)?);
            (low, whole) = (split, false);
        }
    }
    if !whole {
        proof.push(range(hashes, low, high)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Largest power of two below `n`, for `n` of at least 2.
fn split(n: u64) -> u64 {
    largest_power(n - 1)
}

/// Largest power of two that is at most `n`, for `n` of at least 1.
fn largest_power(n: u64) -> u64 {
    1 << n.ilog2()
}

/// Root of the leaves `low` to `high`, a range as those proofs have them.
fn range<H: Hashes>(hashes: &H, low: u64, high: u64) -> Result<Digest, H::Error> {
    let length = high - low;
    if !length.is_power_of_two() {
        let split = low + split(length);
        return Ok(node_hash(&range(hashes, low, split)?, &range(hashes, split, high)?));
    }
    let height = length.ilog2();
    let (level, within) = (height / BITS, height % BITS);
    let first = low >> (level * BITS);
    let level = u8::try_from(level).unwrap_or(LEVEL_MAX);
    let mut row = (first..first + (1 << within))
        .map(|index| hashes.hash(level, index))
        .collect::<Result<Vec<Digest>, _>>()?;
    while row.len() > 1 {
        row = row.chunks_exact(2).filter_map(|pair| Some(node_hash(pair.first()?, pair.last()?))).collect();
    }
    Ok(row.first().copied().unwrap_or_default())
}

/// Says which tiles a proof needs, so that they can be fetched together: run the proof over this, ignore its outcome.
#[derive(Debug)]
pub struct Wanted {
    size: u64,
    tiles: RefCell<BTreeSet<Tile>>,
}

impl Wanted {
    /// Of a tree of `size` leaves: tiles are named as wide as they are there.
    #[must_use]
    pub fn of(size: u64) -> Self {
        Self { size, tiles: RefCell::default() }
    }

    /// The tiles asked for so far.
    #[must_use]
    pub fn into_tiles(self) -> BTreeSet<Tile> {
        self.tiles.into_inner()
    }
}

impl Hashes for Wanted {
    type Error = OutsideTree;

    fn hash(&self, level: u8, index: u64) -> Result<Digest, OutsideTree> {
        let tile = Tile::of_hash(level, index, self.size).ok_or(OutsideTree { level, index })?;
        self.tiles.borrow_mut().insert(tile);
        Ok(Digest::default())
    }
}

/// A hash that the tree does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the tree has no hash {index} at level {level}")]
pub struct OutsideTree {
    /// Level.
    pub level: u8,
    /// Number in the level.
    pub index: u64,
}

/// Hash number `index` (of its level) in the bytes of its tile; `None` if the tile is too short.
#[must_use]
pub fn hash_in(tile: &[u8], index: u64) -> Option<Digest> {
    let at = usize::try_from(index % WIDTH).ok()?.checked_mul(32)?;
    tile.get(at..at.checked_add(32)?)?.try_into().ok()
}

/// Entries of a bundle, each behind its length (u16 big-endian); `None` where the bytes end inside one.
pub fn entries(bundle: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let mut rest = Some(bundle);
    std::iter::from_fn(move || {
        let bytes = rest.take().filter(|bytes| !bytes.is_empty())?;
        let next = bytes
            .split_first_chunk::<2>()
            .and_then(|(length, after)| after.split_at_checked(usize::from(u16::from_be_bytes(*length))));
        rest = next.map(|(_, after)| after);
        Some(next.map(|(entry, _)| entry))
    })
}

/// Appends an entry to a bundle. False, and nothing appended, for one of more than 65,535 bytes.
pub fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> bool {
    let Ok(length) = u16::try_from(entry.len()) else { return false };
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    true
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use proptest::prelude::*;

    use super::{
        super::merkle::{Frontier, leaf_hash, path, root as merkle_root, root_from_path, verify_consistency},
        *,
    };

    /// All leaf hashes; tiles are computed from them by definition.
    struct Leaves(Vec<Digest>);

    impl Hashes for Leaves {
        type Error = OutsideTree;

        fn hash(&self, level: u8, index: u64) -> Result<Digest, OutsideTree> {
            let length = 256usize.pow(u32::from(level));
            let from = usize::try_from(index).unwrap() * length;
            let leaves = self.0.get(from..from + length).ok_or(OutsideTree { level, index })?;
            Ok(merkle_root(leaves))
        }
    }

    fn leaves(n: u64) -> Leaves {
        Leaves((0..n).map(|i| leaf_hash(&i.to_be_bytes())).collect())
    }

    #[test]
    fn paths_are_those_of_the_specification() {
        assert_eq!(number_path(1_234_067), "x001/x234/067");
        assert_eq!(number_path(0), "000");
        assert_eq!(number_path(1_000), "x001/000");
        assert_eq!(Tile { level: 0, index: 273, width: 112 }.path(), "tile/0/273.p/112");
        assert_eq!(entries_path(7, 256), "tile/entries/007");
        for (index, width) in [(0, 1), (0, 256), (999, 255), (1_000, 256), (u64::MAX / 2, 17)] {
            assert_eq!(parse_numbered(&numbered(index, width)), Some((index, width)));
        }
        for wrong in
            ["", "0", "000.p/256", "000.p/0", "000.p/01", "x000/000", "001/000", "../000", "000/", "+01"]
        {
            assert_eq!(parse_numbered(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_example_of_the_specification() {
        // 70,000 entries: 273 full level 0 tiles and one of 112; one full level 1 tile and one of 17; one level 2 of 1.
        let all: Vec<Tile> = new_tiles(0, 70_000).collect();
        let of = |level| all.iter().filter(|tile| tile.level == level).collect::<Vec<_>>();
        assert_eq!((of(0).len(), of(0)[273].width), (274, 112));
        assert_eq!((of(1).len(), of(1)[0].width, of(1)[1].width), (2, 256, 17));
        assert_eq!((of(2).len(), of(2)[0].width), (1, 1));
        let after: Vec<String> = new_tiles(255, 256).map(|tile| tile.path()).collect();
        assert_eq!(after, ["tile/0/000", "tile/1/000.p/1"]);
    }

    #[test]
    fn bundles_hold_what_was_put_in() {
        let mut bundle = Vec::new();
        for entry in [&b""[..], b"a", &[7; 65_535]] {
            assert!(push_entry(&mut bundle, entry));
        }
        assert!(!push_entry(&mut bundle, &[0; 65_536]));
        let read: Option<Vec<&[u8]>> = entries(&bundle).collect();
        assert_eq!(read.unwrap().iter().map(|e| e.len()).collect::<Vec<_>>(), [0, 1, 65_535]);
        bundle.pop();
        assert_eq!(entries(&bundle).last(), Some(None));
    }

    proptest! {
        #[test]
        fn proofs_from_tiles_hold(n in 1u64..1_300, old in 0u64..1_300, at in 0u64..1_300) {
            let (hashes, size) = (leaves(n), NonZeroU64::new(n).unwrap());
            let (old, at) = (old % (n + 1), at % n);
            let whole = root(&hashes, n).unwrap();
            prop_assert_eq!(whole, merkle_root(&hashes.0));
            let proof = inclusion(&hashes, n, at).unwrap();
            let index = usize::try_from(at).unwrap();
            prop_assert_eq!(&proof, &path(&hashes.0, index).unwrap());
            prop_assert_eq!(root_from_path(hashes.0[index], at, size, &proof), Ok(whole));
            let before = root(&hashes, old).unwrap();
            let proof = consistency(&hashes, old, n).unwrap();
            prop_assert!(verify_consistency((old, &before), (n, &whole), &proof).is_ok());
            let frontier = Frontier::resume(n, subtrees(&hashes, n).unwrap()).unwrap();
            prop_assert_eq!(frontier.root(), whole);
            let wanted = Wanted::of(n);
            consistency(&wanted, old, n).unwrap();
            prop_assert!(wanted.into_tiles().iter().all(|tile| Tile::of_tree(tile.level, tile.index, n) == Some(*tile)));
        }

        #[test]
        fn no_other_tree_is_consistent(n in 2u64..300, old in 1u64..300, bit in 0usize..256, cut in 0usize..10) {
            let (hashes, old) = (leaves(n), 1 + old % (n - 1));
            let (before, whole) = (root(&hashes, old).unwrap(), root(&hashes, n).unwrap());
            let mut proof = consistency(&hashes, old, n).unwrap();
            let mut other = before;
            other[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(verify_consistency((old, &other), (n, &whole), &proof).is_err());
            let mut other = whole;
            other[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(verify_consistency((old, &before), (n, &other), &proof).is_err());
            prop_assert!(verify_consistency((n, &whole), (old, &before), &proof).is_err());
            let at = cut % proof.len();
            proof.remove(at);
            prop_assert!(verify_consistency((old, &before), (n, &whole), &proof).is_err());
        }
    }
}
