//! What proves that events of this agency stand in the broker's log: each step is computed here from bytes on nobody's
//! word, up to a signed checkpoint.

use std::{collections::BTreeMap, num::NonZeroU64, ops::RangeInclusive};

use bytes::Bytes;
use lintas_proto::{
    audit::{
        epoch::{RootEntry, is_slot_of, slot, slot_path, slot_salt, slots_root},
        merkle::{leaf_hash, root_from_path},
        note::SignedCheckpoint,
        proof::TlogProof,
        tile::{self, Hashes, Tile, hash_in},
    },
    id::Digest,
    schema::{LeafProof, RootProof, SlotOpening},
};
use thiserror::Error;

/// What does not hold of what the broker shows. Its bytes are signed by nobody, so this is this node's word only.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Fault {
    /// A tile that the tree has was not given, or is too short.
    #[error("a part of its tree is not what the size of the tree says")]
    Tile,
    /// Entry and checkpoint do not fit.
    #[error("the entry of epoch {0} does not stand in the tree of its checkpoint")]
    Entry(u64),
    /// The slots do not fit the entry.
    #[error("the slots of epoch {0} are not those of its entry")]
    Slots(u64),
    /// The slot of this agency is not the one of its sub-log as it is shown.
    #[error("the slot of this agency in epoch {0} does not open with its key, size and root")]
    Closed(u64),
    /// The sub-log does not lead to the slot.
    #[error("entry {0} of the sub-log does not stand in the tree of its slot")]
    Leaf(u64),
}

/// Tiles of a tree of a certain size.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tiles {
    size: u64,
    tiles: BTreeMap<Tile, Bytes>,
}

impl Tiles {
    /// Of a tree of `size` leaves.
    pub(crate) fn new(size: u64, tiles: BTreeMap<Tile, Bytes>) -> Self {
        Self { size, tiles }
    }
}

impl Hashes for Tiles {
    type Error = Fault;

    fn hash(&self, level: u8, index: u64) -> Result<Digest, Fault> {
        let tile = Tile::of_hash(level, index, self.size).ok_or(Fault::Tile)?;
        self.tiles.get(&tile).and_then(|bytes| hash_in(bytes, index)).ok_or(Fault::Tile)
    }
}

/// An epoch of the root log, proven.
#[derive(Debug, Clone)]
pub(crate) struct Proven {
    /// Its entry.
    pub(crate) entry: RootEntry,
    /// As others are shown it.
    pub(crate) proof: RootProof,
}

/// Proves that `entry` is the one of `epoch` in the tree of a checkpoint whose signature was checked.
pub(crate) fn prove_entry(
    entry: &[u8],
    epoch: u64,
    root_log: &Tiles,
    signed: &SignedCheckpoint,
) -> Result<Proven, Fault> {
    let checkpoint = signed.claim();
    let path = tile::inclusion(root_log, checkpoint.size, epoch)?;
    let read = RootEntry::parse(entry).map_err(|_| Fault::Entry(epoch))?;
    let size = NonZeroU64::new(checkpoint.size).ok_or(Fault::Entry(epoch))?;
    let stands = root_from_path(leaf_hash(entry), epoch, size, &path) == Ok(checkpoint.root);
    if !stands || read.epoch != epoch {
        return Err(Fault::Entry(epoch));
    }
    let text = TlogProof { index: epoch, path, checkpoint: signed.clone() }.to_text();
    Ok(Proven { entry: read, proof: RootProof { entry: Bytes::copy_from_slice(entry), proof: text.into() } })
}

/// The slots of an epoch, if they are those of its entry. `bytes` are their number and they themselves, as in the file.
pub(crate) fn read_slots(bytes: &[u8], entry: &RootEntry) -> Option<Vec<Digest>> {
    let (count, slots) = bytes.split_first_chunk::<4>()?;
    let slots: Vec<Digest> = slots.chunks_exact(32).filter_map(|slot| slot.try_into().ok()).collect();
    let whole = u32::from_be_bytes(*count) == entry.slots
        && usize::try_from(entry.slots) == Ok(slots.len())
        && bytes.len() == slots_bytes(entry.slots);
    (whole && slots_root(&slots) == entry.slots_root).then_some(slots)
}

/// Bytes of one epoch in a file of slots.
pub(crate) fn slots_bytes(slots: u32) -> usize {
    usize::try_from(slots).unwrap_or(usize::MAX).saturating_mul(32).saturating_add(4)
}

/// Finds one epoch's slots in a whole file of slots, `nth` of it, the first being 0.
pub(crate) fn find_slots(file: &[u8], nth: u64) -> Option<&[u8]> {
    let mut rest = file;
    for _ in 0..nth {
        let (count, _) = rest.split_first_chunk::<4>()?;
        rest = rest.get(slots_bytes(u32::from_be_bytes(*count))..)?;
    }
    let (count, _) = rest.split_first_chunk::<4>()?;
    rest.get(..slots_bytes(u32::from_be_bytes(*count)))
}

/// Which of the slots may be an agency's: its place in a roster of `members`, of which the last ones to join may not have
/// been there yet. Members never leave a roster, so a roster with as many members has the same ones.
pub(crate) fn slot_places(index_now: u32, members_now: usize, slots: u32) -> Option<RangeInclusive<u32>> {
    let newer = u32::try_from(members_now).ok()?.checked_sub(slots)?;
    let last = index_now.min(slots.checked_sub(1)?);
    Some(index_now.saturating_sub(newer)..=last)
}

/// Opens the slot of this agency: its sub-log had `size` and `root` at the end of that epoch.
pub(crate) fn open_slot(
    (entry, slots): (&RootEntry, &[Digest]),
    root_origin: &str,
    keys: &[[u8; 32]],
    mut places: RangeInclusive<u32>,
    (size, root): (u64, &Digest),
) -> Result<SlotOpening, Fault> {
    let opening = |roster_index: u32| {
        let at = usize::try_from(roster_index).ok()?;
        let salts = keys.iter().map(|key| slot_salt(key, root_origin, entry.epoch));
        let salt =
            salts.into_iter().find(|salt| slots.get(at) == Some(&slot(salt, roster_index, size, root)))?;
        Some(SlotOpening {
            salt: Bytes::copy_from_slice(&salt),
            roster_index,
            size,
            root: Bytes::copy_from_slice(root),
            path: as_bytes(&slot_path(slots, roster_index)?),
        })
    };
    places.find_map(opening).ok_or(Fault::Closed(entry.epoch))
}

/// The place of a leaf in a sub-log of `size`, with that root.
pub(crate) fn prove_leaf(
    index: u64,
    leaf: &Bytes,
    sub_log: &Tiles,
    (size, root): (u64, &Digest),
) -> Result<LeafProof, Fault> {
    let path = tile::inclusion(sub_log, size, index)?;
    let proof = LeafProof { index, leaf: leaf.clone(), path: as_bytes(&path) };
    if stands(&proof, size, root) { Ok(proof) } else { Err(Fault::Leaf(index)) }
}

/// Whether a leaf stands in a sub-log of `size`, with that root.
pub(crate) fn stands(proof: &LeafProof, size: u64, root: &Digest) -> bool {
    let Some(size) = NonZeroU64::new(size) else { return false };
    let path: Option<Vec<Digest>> =
        proof.path.iter().map(|hash| Digest::try_from(hash.as_ref()).ok()).collect();
    let reached = path.map(|path| root_from_path(leaf_hash(&proof.leaf), proof.index, size, &path));
    reached == Some(Ok(*root))
}

/// Whether a slot opens to what it claims, under an entry.
pub(crate) fn opens(opening: &SlotOpening, entry: &RootEntry) -> bool {
    let digest = |bytes: &Bytes| Digest::try_from(bytes.as_ref()).ok();
    let path: Option<Vec<Digest>> = opening.path.iter().map(digest).collect();
    let (Some(salt), Some(root), Some(path)) = (digest(&opening.salt), digest(&opening.root), path) else {
        return false;
    };
    let slot = slot(&salt, opening.roster_index, opening.size, &root);
    is_slot_of(entry, opening.roster_index, &slot, &path)
}

/// When a leaf says that its event was.
pub(crate) fn leaf_time_ms(leaf: &[u8]) -> Option<u64> {
    leaf.get(2..10)?.try_into().ok().map(u64::from_be_bytes)
}

fn as_bytes(path: &[Digest]) -> Vec<Bytes> {
    path.iter().map(|hash| Bytes::copy_from_slice(hash)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_looked_for_where_the_agency_stood_then() {
        assert_eq!(slot_places(3, 11, 11), Some(3..=3));
        // Two members are newer than the entry, and may stand before this agency or behind it.
        assert_eq!(slot_places(3, 11, 9), Some(1..=3));
        assert_eq!(slot_places(10, 11, 9), Some(8..=8));
        assert_eq!(slot_places(3, 11, 12), None, "this node's roster is older than the entry");
        assert_eq!(slot_places(3, 11, 0), None);
    }

    #[test]
    fn slots_are_found_and_believed_only_if_they_are_the_entrys() {
        let slots: Vec<Digest> = (0..3u8).map(|n| [n; 32]).collect();
        let written = |slots: &[Digest]| {
            let count = u32::try_from(slots.len()).unwrap().to_be_bytes();
            [count.as_slice(), &slots.concat()].concat()
        };
        let entry = RootEntry {
            epoch: 1,
            time_ms: 1,
            directory_hash: [0; 32],
            policy_set_hash: [0; 32],
            slots: 3,
            slots_root: slots_root(&slots),
        };
        let file = [written(&slots[..2]), written(&slots), written(&slots)].concat();
        let found = find_slots(&file, 1).unwrap();
        assert_eq!(read_slots(found, &entry), Some(slots.clone()));
        assert_eq!(find_slots(&file, 3), None);
        assert_eq!(find_slots(&file[..file.len() - 1], 2), None);
        assert_eq!(read_slots(find_slots(&file, 0).unwrap(), &entry), None);
        for at in 0..found.len() {
            let mut other = found.to_vec();
            other[at] ^= 1;
            assert_eq!(read_slots(&other, &entry), None, "byte {at}");
        }
    }
}
