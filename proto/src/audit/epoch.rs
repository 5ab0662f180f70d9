//! The root log: one entry for each epoch, and under it one slot for each member of the roster.
//!
//! Entry, 117 bytes, numbers big-endian:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 1 | version, 1 |
//! | 1 | 8 | epoch: its index in the root log |
//! | 9 | 8 | time: when it ended, ms since 1970-01-01T00:00:00Z |
//! | 17 | 32 | directory hash |
//! | 49 | 32 | hash of the policy bundles in force; zeros while only the regional baseline rules |
//! | 81 | 4 | number of slots: of members in the roster |
//! | 85 | 32 | root of the Merkle tree over the slots, in the roster's order |
//!
//! A slot hides who has how many events from everybody who lacks the agency's slot key: see [`slot`].

use std::num::NonZeroU64;

use ring::hmac;
use thiserror::Error;

use super::merkle::{self, leaf_hash};
use crate::id::{Digest, sha256};

/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 117;

/// An entry of the root log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootEntry {
    /// Index in the root log.
    pub epoch: u64,
    /// When it ended, milliseconds since 1970-01-01T00:00:00Z.
    pub time_ms: u64,
    /// Directory in force.
    pub directory_hash: Digest,
    /// Policy bundles in force; zeros for the baseline alone.
    pub policy_set_hash: Digest,
    /// Members of the roster.
    pub slots: u32,
    /// Root over their slots.
    pub slots_root: Digest,
}

/// Bytes that are no entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not an entry of the root log: {0}")]
pub struct EntryError(&'static str);

impl RootEntry {
    /// The 117 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; ENTRY_BYTES] {
        let mut out = [0; ENTRY_BYTES];
        let parts: [&[u8]; 7] = [
            &[1],
            &self.epoch.to_be_bytes(),
            &self.time_ms.to_be_bytes(),
            &self.directory_hash,
            &self.policy_set_hash,
            &self.slots.to_be_bytes(),
            &self.slots_root,
        ];
        out.copy_from_slice(&parts.concat());
        out
    }

    /// Reads 117 bytes.
    ///
    /// # Errors
    /// [`EntryError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, EntryError> {
        let bytes: &[u8; ENTRY_BYTES] = bytes.try_into().map_err(|_| EntryError("its length"))?;
        let field = EntryError("its fields");
        let (version, rest) = bytes.split_first().ok_or(field)?;
        let (epoch, rest) = rest.split_first_chunk::<8>().ok_or(field)?;
        let (time, rest) = rest.split_first_chunk::<8>().ok_or(field)?;
        let (directory_hash, rest) = rest.split_first_chunk::<32>().ok_or(field)?;
        let (policy_set_hash, rest) = rest.split_first_chunk::<32>().ok_or(field)?;
        let (slots, rest) = rest.split_first_chunk::<4>().ok_or(field)?;
        if *version != 1 {
            return Err(EntryError("its version"));
        }
        Ok(Self {
            epoch: u64::from_be_bytes(*epoch),
            time_ms: u64::from_be_bytes(*time),
            directory_hash: *directory_hash,
            policy_set_hash: *policy_set_hash,
            slots: u32::from_be_bytes(*slots),
            slots_root: rest.try_into().map_err(|_| field)?,
        })
    }
}

/// Salt of an agency's slot: HMAC-SHA-256(slot key, origin of the root log ‖ epoch u64). RFC 2104.
#[must_use]
pub fn slot_salt(slot_key: &[u8; 32], root_origin: &str, epoch: u64) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, slot_key);
    let message = [root_origin.as_bytes(), &epoch.to_be_bytes()].concat();
    hmac::sign(&key, &message).as_ref().try_into().unwrap_or_default()
}

/// A slot: SHA-256("lintas/v1/slot" 00 salt ‖ roster index u32 ‖ size u64 ‖ root of the sub-log).
#[must_use]
pub fn slot(salt: &[u8; 32], roster_index: u32, size: u64, root: &Digest) -> Digest {
    sha256(&[b"lintas/v1/slot\0", salt, &roster_index.to_be_bytes(), &size.to_be_bytes(), root])
}

/// Root over all slots of an epoch, in the roster's order.
#[must_use]
pub fn slots_root(slots: &[Digest]) -> Digest {
    merkle::root(&leaves(slots))
}

/// Path of one slot to [`slots_root`]; `None` beyond the last.
#[must_use]
pub fn slot_path(slots: &[Digest], roster_index: u32) -> Option<Vec<Digest>> {
    merkle::path(&leaves(slots), usize::try_from(roster_index).ok()?)
}

/// Whether `path` leads from the slot at `roster_index` to the entry's root. There is exactly one slot for each index.
#[must_use]
pub fn is_slot_of(entry: &RootEntry, roster_index: u32, slot: &Digest, path: &[Digest]) -> bool {
    let Some(size) = NonZeroU64::new(entry.slots.into()) else { return false };
    merkle::root_from_path(leaf_hash(slot), roster_index.into(), size, path) == Ok(entry.slots_root)
}

fn leaves(slots: &[Digest]) -> Vec<Digest> {
    slots.iter().map(|slot| leaf_hash(slot)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_as_it_was_written() {
        let entry = RootEntry {
            epoch: 7,
            time_ms: 1_900_000_000_000,
            directory_hash: [1; 32],
            policy_set_hash: [2; 32],
            slots: 11,
            slots_root: [3; 32],
        };
        let bytes = entry.to_bytes();
        assert_eq!(RootEntry::parse(&bytes), Ok(entry));
        assert!(RootEntry::parse(&bytes[1..]).is_err());
        let mut other = bytes;
        other[0] = 2;
        assert!(RootEntry::parse(&other).is_err());
    }

    #[test]
    fn a_slot_stands_at_its_index_and_at_no_other() {
        let salt = slot_salt(&[9; 32], "hub.mekong/audit", 7);
        assert_ne!(salt, slot_salt(&[9; 32], "hub.mekong/audit", 8));
        assert_ne!(salt, slot_salt(&[8; 32], "hub.mekong/audit", 7));
        let slots: Vec<Digest> = (0..11).map(|index| slot(&salt, index, 5, &[4; 32])).collect();
        let entry = RootEntry {
            epoch: 7,
            time_ms: 1,
            directory_hash: [0; 32],
            policy_set_hash: [0; 32],
            slots: 11,
            slots_root: slots_root(&slots),
        };
        let path = slot_path(&slots, 3).unwrap();
        assert!(is_slot_of(&entry, 3, &slots[3], &path));
        assert!(!is_slot_of(&entry, 4, &slots[3], &path));
        assert!(!is_slot_of(&entry, 3, &slots[4], &path));
        assert!(!is_slot_of(
            &RootEntry { slots: 12, ..entry },
            10,
            &slots[10],
            &slot_path(&slots, 10).unwrap()
        ));
        assert_eq!(slot_path(&slots, 11), None);
    }
}
