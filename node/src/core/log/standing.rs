//! The largest tree of a log that this node has verified, and whether another one continues it.
//!
//! Every checkpoint here has been signed by the log. Of two trees of different size the hashes of a consistency proof
//! decide: if they lead to the root of the larger tree, they fix the root of the smaller one as well. If the log has
//! signed another root for it, the two signed notes and these hashes convince everybody that it shows two trees.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use lintas_proto::{
    audit::{
        merkle::consistency_roots,
        note::{Checkpoint, SignedCheckpoint},
        tile::{self, Hashes, Tile, Wanted},
    },
    id::{Digest, sha256},
};

use super::findings::{Finding, Kind};

/// Earlier checkpoints that are remembered, so that most of what others know need not be proven again.
const EARLIER_MAX: usize = 256;

/// How two checkpoints of one log stand to each other.
#[derive(Debug)]
pub(crate) enum Compared {
    /// The same tree.
    Same,
    /// Two trees of one size.
    Fork(Finding),
    /// Trees of different sizes: hashes decide.
    Apart(Pair),
}

/// Compares two checkpoints of one origin, both signed by its log.
pub(crate) fn compare(one: &Arc<SignedCheckpoint>, other: &Arc<SignedCheckpoint>) -> Compared {
    let (ours, theirs) = (one.claim(), other.claim());
    if ours == theirs {
        return Compared::Same;
    }
    let (small, large) = if ours.size <= theirs.size { (one, other) } else { (other, one) };
    let pair = Pair { small: Arc::clone(small), large: Arc::clone(large) };
    if ours.size == theirs.size { Compared::Fork(pair.fork(&[])) } else { Compared::Apart(pair) }
}

/// Two checkpoints of one log, of different sizes.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    small: Arc<SignedCheckpoint>,
    large: Arc<SignedCheckpoint>,
}

/// What hashes say of a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The larger tree begins with the smaller one.
    Consistent,
    /// It does not, and the hashes prove it.
    Fork(Finding),
    /// Nothing: they do not lead to the larger tree.
    Unproven,
}

impl Pair {
    /// The larger checkpoint.
    pub(crate) fn large(&self) -> &Checkpoint {
        self.large.claim()
    }

    /// The smaller checkpoint.
    pub(crate) fn small(&self) -> &Checkpoint {
        self.small.claim()
    }

    /// Both signed notes, the smaller tree first.
    pub(crate) fn notes(&self) -> Vec<Bytes> {
        vec![self.small.to_bytes(), self.large.to_bytes()]
    }

    /// The tiles of the larger tree that decide.
    pub(crate) fn tiles(&self) -> BTreeSet<Tile> {
        let wanted = Wanted::of(self.large().size);
        // What it gives are no hashes yet; only the questions count.
        let _ = self.hashes(&wanted);
        wanted.into_tiles()
    }

    /// What these tiles say.
    pub(crate) fn judge<H: Hashes>(&self, tiles: &H) -> Result<Verdict, H::Error> {
        Ok(self.hashes(tiles)?.map_or(Verdict::Consistent, |(first, rest)| self.decide(first, &rest)))
    }

    /// What a consistency proof says (RFC 9162 section 2.1.4).
    pub(crate) fn judge_proof(&self, proof: &[Digest]) -> Verdict {
        let (size, root) = (self.small().size, self.small().root);
        if size == 0 {
            return if proof.is_empty() { Verdict::Consistent } else { Verdict::Unproven };
        }
        match proof.split_first() {
            // The proof leaves out the root that it is about: it cannot show another one.
            _ if size.is_power_of_two() => self.decide(root, proof),
            Some((first, rest)) => self.decide(*first, rest),
            None => Verdict::Unproven,
        }
    }

    /// The hashes of the proof, with the first always there; none if every tree continues the smaller one.
    fn hashes<H: Hashes>(&self, tiles: &H) -> Result<Option<(Digest, Vec<Digest>)>, H::Error> {
        let (old, new) = (self.small().size, self.large().size);
        let Some(first) = tile::subtrees(tiles, old)?.pop() else { return Ok(None) };
        let mut rest = tile::consistency(tiles, old, new)?;
        if !old.is_power_of_two() && !rest.is_empty() {
            rest.remove(0);
        }
        Ok(Some((first, rest)))
    }

    fn decide(&self, first: Digest, rest: &[Digest]) -> Verdict {
        let (small, large) = (self.small(), self.large());
        match consistency_roots(small.size, large.size, first, rest) {
            Some((from_small, from_large)) if from_large == large.root => {
                if from_small == small.root {
                    return Verdict::Consistent;
                }
                Verdict::Fork(self.fork(&[[first].as_slice(), rest].concat()))
            }
            Some(_) | None => Verdict::Unproven,
        }
    }

    fn fork(&self, hashes: &[Digest]) -> Finding {
        let (small, large) = (self.small(), self.large());
        let text = if small.size == large.size {
            format!("the broker has signed two different logs `{}` of {} entries", small.origin, small.size)
        } else {
            format!(
                "the broker has signed its log `{}` with {} entries and with {}, and the second does not begin with the \
                 first",
                small.origin, small.size, large.size
            )
        };
        let mut exhibits = self.notes();
        if !hashes.is_empty() {
            exhibits.push(hashes.concat().into());
        }
        Finding::evidence(Kind::Fork, text, exhibits)
    }
}

/// Whether a checkpoint can be one: the empty tree has one root only.
pub(crate) fn is_sound(checkpoint: &Checkpoint) -> bool {
    checkpoint.size > 0 || checkpoint.root == sha256(&[])
}

/// What this node has verified of one log: each of these trees continues the one before.
#[derive(Debug)]
pub(crate) struct Standing {
    known: Arc<SignedCheckpoint>,
    earlier: BTreeMap<u64, Arc<SignedCheckpoint>>,
}

impl Standing {
    /// Begins with the first one that is believed, or the one that was kept.
    pub(crate) fn begin(first: Arc<SignedCheckpoint>) -> Self {
        Self { known: first, earlier: BTreeMap::new() }
    }

    /// The largest.
    pub(crate) fn known(&self) -> &Arc<SignedCheckpoint> {
        &self.known
    }

    /// Takes one that continues it, or the same with other cosignatures.
    pub(crate) fn advance(&mut self, next: Arc<SignedCheckpoint>) {
        let before = std::mem::replace(&mut self.known, next);
        if before.claim().size < self.known.claim().size {
            self.earlier.insert(before.claim().size, before);
        }
        while self.earlier.len() > EARLIER_MAX {
            self.earlier.pop_first();
        }
    }

    /// Compares with the tree of the same size, if it is remembered; else with the largest.
    pub(crate) fn compare(&self, other: &Arc<SignedCheckpoint>) -> Compared {
        compare(self.earlier.get(&other.claim().size).unwrap_or(&self.known), other)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use lintas_proto::{
        audit::{
            merkle::{leaf_hash, root},
            tile::OutsideTree,
        },
        sign::{KeyRole, SigningKey, VerifyingKey},
    };
    use zeroize::Zeroizing;

    use super::*;
    use crate::core::log::findings::Weight;

    /// A log whose entries from `fork` on are other ones.
    pub(crate) struct Tree(pub(crate) Vec<Digest>);

    impl Tree {
        pub(crate) fn new(entries: u64, fork: u64) -> Self {
            let entry =
                |n: u64| if n < fork { n.to_be_bytes().to_vec() } else { format!("other {n}").into() };
            Self((0..entries).map(|n| leaf_hash(&entry(n))).collect())
        }

        pub(crate) fn checkpoint(&self, size: u64, origin: &str) -> Checkpoint {
            let leaves = &self.0[..usize::try_from(size).unwrap()];
            Checkpoint { origin: origin.to_owned(), size, root: root(leaves) }
        }

        pub(crate) fn proof(&self, old: u64, new: u64) -> Vec<Digest> {
            tile::consistency(self, old, new).unwrap()
        }
    }

    impl Hashes for Tree {
        type Error = OutsideTree;

        fn hash(&self, level: u8, index: u64) -> Result<Digest, OutsideTree> {
            let length = 256usize.pow(u32::from(level));
            let from = usize::try_from(index).unwrap() * length;
            self.0.get(from..from + length).map(root).ok_or(OutsideTree { level, index })
        }
    }

    fn signed(tree: &Tree, size: u64) -> Arc<SignedCheckpoint> {
        let key = SigningKey::from_seed(KeyRole::Log, &Zeroizing::new([1; 32])).unwrap();
        Arc::new(SignedCheckpoint::sign(tree.checkpoint(size, "hub.example/audit"), &key).unwrap())
    }

    /// What a stranger concludes from the exhibits of a fork.
    pub(crate) fn convinces(finding: &Finding, log_key: &VerifyingKey) -> bool {
        let notes: Vec<SignedCheckpoint> =
            finding.exhibits[..2].iter().map(|note| SignedCheckpoint::parse(note).unwrap()).collect();
        let origin = &notes[0].claim().origin;
        let [small, large] = [&notes[0], &notes[1]].map(|note| note.verify(origin, log_key).unwrap());
        let Some(hashes) = finding.exhibits.get(2) else {
            return small.size == large.size && small.root != large.root;
        };
        let hashes: Vec<Digest> = hashes.chunks(32).map(|hash| hash.try_into().unwrap()).collect();
        let (from_small, from_large) =
            consistency_roots(small.size, large.size, hashes[0], &hashes[1..]).unwrap();
        from_large == large.root && from_small != small.root
    }

    #[test]
    fn tiles_tell_a_fork_from_a_log_that_goes_on() {
        let key = SigningKey::from_seed(KeyRole::Log, &Zeroizing::new([1; 32])).unwrap();
        let public = VerifyingKey::parse(&key.public_key()).unwrap();
        for (old, new) in
            [(0_u64, 7_u64), (1, 2), (3, 7), (6, 8), (8, 11), (255, 256), (256, 700), (300, 301), (511, 700)]
        {
            let honest = Tree::new(new, u64::MAX);
            for fork in [0, 1, old / 2, old.saturating_sub(1), old, new - 1, new] {
                let other = Tree::new(new, fork);
                let Compared::Apart(pair) = compare(&signed(&honest, old), &signed(&other, new)) else {
                    panic!()
                };
                assert!(pair.tiles().iter().all(|tile| tile.index * 256 < new), "{old} {new}");
                let verdict = pair.judge(&other).unwrap();
                if fork >= old {
                    assert_eq!(verdict, Verdict::Consistent, "{old} {new} {fork}");
                    assert_eq!(pair.judge_proof(&other.proof(old, new)), Verdict::Consistent);
                    continue;
                }
                let Verdict::Fork(finding) = verdict else { panic!("{old} {new} {fork}") };
                assert!(finding.weight == Weight::Evidence && convinces(&finding, &public));
                assert_ne!(pair.judge_proof(&other.proof(old, new)), Verdict::Consistent);
                // Tiles of another tree than the one that was signed prove nothing.
                assert_eq!(pair.judge(&honest).unwrap(), Verdict::Unproven);
            }
        }
    }

    #[test]
    fn what_was_known_before_is_compared_without_a_proof() {
        let (honest, other) = (Tree::new(40, u64::MAX), Tree::new(40, 5));
        let mut standing = Standing::begin(signed(&honest, 10));
        standing.advance(signed(&honest, 20));
        standing.advance(signed(&honest, 30));
        assert!(matches!(standing.compare(&signed(&honest, 20)), Compared::Same));
        assert!(matches!(standing.compare(&signed(&other, 10)), Compared::Fork(_)));
        assert!(matches!(standing.compare(&signed(&other, 30)), Compared::Fork(_)));
        assert!(matches!(standing.compare(&signed(&honest, 15)), Compared::Apart(_)));
        for size in 31..40 {
            (0..EARLIER_MAX as u64).for_each(|_| standing.advance(signed(&honest, size)));
        }
        assert_eq!(standing.known().claim().size, 39);
    }
}
