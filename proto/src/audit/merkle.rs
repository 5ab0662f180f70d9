//! Merkle trees with the prefixes of RFC 6962: 00 before a leaf, 01 before a node.

use std::num::NonZeroU64;

use bytes::Bytes;
use thiserror::Error;

use crate::id::{Digest, sha256};

/// Hash of one leaf (RFC 6962 section 2.1).
#[must_use]
pub fn leaf_hash(data: &[u8]) -> Digest {
    sha256(&[&[0], data])
}

/// Hash of an inner node (RFC 6962 section 2.1).
#[must_use]
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    sha256(&[&[1], left, right])
}

/// A growing tree that keeps only the roots of its complete subtrees: at most 64 hashes.
#[derive(Debug, Clone, Default)]
pub struct Frontier {
    size: u64,
    /// Complete subtrees, largest first.
    subtrees: Vec<Digest>,
}

impl Frontier {
    /// Leaves so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Roots of the complete subtrees, largest first: as many as the size has one bits.
    #[must_use]
    pub fn subtrees(&self) -> &[Digest] {
        &self.subtrees
    }

    /// A tree of `size` leaves from the roots of its complete subtrees, largest first; `None` if their number is wrong.
    #[must_use]
    pub fn resume(size: u64, subtrees: Vec<Digest>) -> Option<Self> {
        let fits = usize::try_from(size.count_ones()).is_ok_and(|count| count == subtrees.len());
        fits.then_some(Self { size, subtrees })
    }

    /// Appends a leaf hash.
    pub fn push(&mut self, leaf: Digest) {
        let mut hash = leaf;
        // Each trailing one bit of the size is a complete subtree that the new leaf completes further.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.subtrees.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.subtrees.push(hash);
        self.size += 1;
    }

    /// Root of the tree (RFC 6962 section 2.1); SHA-256 of nothing for the empty tree.
    #[must_use]
    pub fn root(&self) -> Digest {
        root_of_subtrees(self.subtrees.iter().rev())
    }
}

/// Root of the tree whose complete subtrees have these roots, smallest first; SHA-256 of nothing for the empty tree.
#[must_use]
pub fn root_of_subtrees<'a>(smallest_first: impl IntoIterator<Item = &'a Digest>) -> Digest {
    let mut subtrees = smallest_first.into_iter();
    let Some(smallest) = subtrees.next() else { return sha256(&[]) };
    subtrees.fold(*smallest, |hash, left| node_hash(left, &hash))
}

/// Root over leaf hashes.
#[must_use]
pub fn root(leaves: &[Digest]) -> Digest {
    let mut frontier = Frontier::default();
    for leaf in leaves {
        frontier.push(*leaf);
    }
    frontier.root()
}

/// Inclusion path of leaf `index` (0-based) among `leaves`: at most 64 hashes, leaf to root; `None` beyond the tree.
/// RFC 6962 section 2.1.1.
#[must_use]
pub fn path(leaves: &[Digest], index: usize) -> Option<Vec<Digest>> {
    let (mut leaves, mut index, mut path) = (leaves, index, Vec::new());
    leaves.get(index)?;
    while leaves.len() > 1 {
        let split = leaves.len().next_power_of_two() / 2;
        let (left, right) = leaves.split_at_checked(split)?;
        if index < split {
            path.push(root(right));
            leaves = left;
        } else {
            path.push(root(left));
            leaves = right;
            index -= split;
        }
    }
    path.reverse();
    Some(path)
}

/// All inclusion paths at once, in the order of the leaves, sharing the work and the memory: O(n) hashed and held. The
/// hashes of all paths are slices of one buffer.
#[must_use]
pub fn paths(leaves: &[Digest]) -> (Digest, Vec<Vec<Bytes>>) {
    /// A hash, and its place in the buffer.
    type Node = (Digest, usize);
    fn climb(leaves: &[Digest], nodes: &mut Vec<u8>, paths: &mut [Vec<usize>]) -> Node {
        let split = leaves.len().next_power_of_two() / 2;
        let hash = match (leaves.split_at_checked(split), leaves.len() > 1) {
            (Some((left, right)), true) => {
                let (left_paths, right_paths) = paths.split_at_mut(split);
                let (left, left_at) = climb(left, nodes, left_paths);
                let (right, right_at) = climb(right, nodes, right_paths);
                left_paths.iter_mut().for_each(|path| path.push(right_at));
                right_paths.iter_mut().for_each(|path| path.push(left_at));
                node_hash(&left, &right)
            }
            _ => leaves.first().copied().unwrap_or_else(|| sha256(&[])),
        };
        nodes.extend_from_slice(&hash);
        (hash, nodes.len() - hash.len())
    }
    let mut nodes = Vec::with_capacity(2 * leaves.len() * size_of::<Digest>());
    let mut paths = vec![Vec::new(); leaves.len()];
    let (root, _) = climb(leaves, &mut nodes, &mut paths);
    let nodes = Bytes::from(nodes);
    let hashes =
        |path: Vec<usize>| path.into_iter().map(|at| nodes.slice(at..at + size_of::<Digest>())).collect();
    (root, paths.into_iter().map(hashes).collect())
}

/// An inclusion path that cannot be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("inclusion path does not fit index {index} in a tree of {size} leaves")]
pub struct PathError {
    /// Index claimed.
    pub index: u64,
    /// Size claimed.
    pub size: u64,
}

/// Root that `leaf` at `index` (0-based) and `path` lead to in a tree of `size` leaves.
///
/// # Errors
/// [`PathError`] if the index lies beyond the tree or the path has the wrong length. RFC 9162 section 2.1.3.2.
pub fn root_from_path(
    leaf: Digest,
    index: u64,
    size: NonZeroU64,
    path: &[Digest],
) -> Result<Digest, PathError> {
    let error = PathError { index, size: size.get() };
    if index >= size.get() {
        return Err(error);
    }
    let (mut at, mut last, mut hash) = (index, size.get() - 1, leaf);
    for step in path {
        if last == 0 {
            return Err(error);
        }
        if at % 2 == 1 || at == last {
            hash = node_hash(step, &hash);
            while at % 2 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, step);
        }
        at >>= 1;
        last >>= 1;
    }
    if last == 0 { Ok(hash) } else { Err(error) }
}

/// A consistency proof that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the tree of {new} leaves does not continue the one of {old}")]
pub struct ConsistencyError {
    /// Size of the earlier tree.
    pub old: u64,
    /// Size of the later tree.
    pub new: u64,
}

/// Checks that the tree of size and root `new` begins with the leaves of the tree `old`.
///
/// # Errors
/// [`ConsistencyError`]. RFC 9162 section 2.1.4.2; the empty tree is consistent with every tree, by an empty proof.
pub fn verify_consistency(
    old: (u64, &Digest),
    new: (u64, &Digest),
    proof: &[Digest],
) -> Result<(), ConsistencyError> {
    let error = ConsistencyError { old: old.0, new: new.0 };
    let holds = |holds| if holds { Ok(()) } else { Err(error) };
    if old.0 == 0 {
        return holds(proof.is_empty() && *old.1 == sha256(&[]));
    }
    if old.0 >= new.0 {
        return holds(old == new && proof.is_empty());
    }
    // A tree that is complete is its own first subtree, and the proof does not repeat it.
    let (first, rest) = match proof.split_first() {
        _ if old.0.is_power_of_two() => (*old.1, proof),
        Some((first, rest)) => (*first, rest),
        None => return Err(error),
    };
    holds(consistency_roots(old.0, new.0, first, rest) == Some((*old.1, *new.1)))
}

/// The roots to which a consistency proof leads, of the tree of `old` leaves and of that of `new`. `first` is the root of
/// the last complete subtree of the earlier tree; a proof begins with it, but for an earlier tree that is complete itself.
/// Whoever shows hashes that lead to the root of the later tree has shown the root of the earlier one.
///
/// `None` if the number of hashes does not fit, or unless 0 < `old` < `new`.
#[must_use]
pub fn consistency_roots(old: u64, new: u64, first: Digest, rest: &[Digest]) -> Option<(Digest, Digest)> {
    let before_last = old.checked_sub(1).filter(|_| old < new)?;
    let shift = before_last.trailing_ones();
    let (mut at, mut last) = (before_last >> shift, (new - 1) >> shift);
    let (mut from_old, mut from_new) = (first, first);
    for step in rest {
        if last == 0 {
            return None;
        }
        if at % 2 == 1 || at == last {
            from_old = node_hash(step, &from_old);
            from_new = node_hash(step, &from_new);
            while at % 2 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            from_new = node_hash(&from_new, step);
        }
        at >>= 1;
        last >>= 1;
    }
    (last == 0).then_some((from_old, from_new))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::hex;

    fn leaves(n: usize) -> Vec<Digest> {
        (0..n).map(|i| leaf_hash(&i.to_be_bytes())).collect()
    }

    #[test]
    fn known_roots() {
        // RFC 6962: the empty tree; certificate-transparency's one-leaf tree of the empty string.
        assert_eq!(hex(&root(&[])), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(
            hex(&root(&[leaf_hash(b"")])),
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
        );
    }

    proptest! {
        #[test]
        fn every_path_leads_to_the_root_and_no_other_does(n in 1usize..70, at in 0usize..70, wrong in 0usize..70) {
            let tree = leaves(n);
            let at = at % n;
            let size = NonZeroU64::new(n as u64).unwrap();
            let (whole, all) = paths(&tree);
            let one = path(&tree, at).unwrap();
            prop_assert!(all[at].iter().map(AsRef::as_ref).eq(one.iter().map(Digest::as_slice)));
            prop_assert_eq!(whole, root(&tree));
            prop_assert_eq!(root_from_path(tree[at], at as u64, size, &one), Ok(whole));
            if wrong != at {
                prop_assert_ne!(root_from_path(tree[at], wrong as u64, size, &one), Ok(whole));
            }
            let mut longer = one.clone();
            longer.push([0; 32]);
            prop_assert!(root_from_path(tree[at], at as u64, size, &longer).is_err());
            if let Some((_, shorter)) = one.split_last() {
                prop_assert!(root_from_path(tree[at], at as u64, size, shorter).is_err());
            }
        }
    }
}
