//! What the audit log needs of the ledger: how long each sub-log is, whose slots an epoch has and under which keys,
//! which reads are still to be told, up to where openings are erased.
//!
//! Every event must stand at the end of its sub-log, not earlier than anything before it. The indices of an admission
//! stand in its receipts and are not read here; their number is.

use std::collections::{BTreeMap, BTreeSet};

use lintas_proto::{
    audit::leaf::open_event,
    canonical::fixed,
    id::{Digest, PacketId},
    schema::{
        EventType, StoredEpoch, StoredErasure, StoredEvent, StoredEvents, StoredLogBegun, StoredMembers,
        StoredRead, StoredSlotKey,
    },
};

use super::Ledger;
use crate::core::{brief::Logged, spent::Spent};

/// Reads of one auditor in one sub-log that touch each other and are not further apart than this, milliseconds, are
/// told together.
const READS_JOIN_MS: u64 = 60 * 60 * 1_000;
/// Most that are told apart in that time; what comes then joins the newest, and what lies between is told as read.
const READS_APART_MAX: usize = 16;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    /// How many logs of this broker have ended.
    pub(in crate::core) number: u64,
    /// Epochs so far.
    pub(in crate::core) epochs: u64,
    /// Of the members; 0 before there are any.
    pub(in crate::core) roster_version: u64,
    /// In the roster's order, with the hash of the keyset that the log was told of last; zeros for none.
    pub(in crate::core) members: BTreeMap<String, Digest>,
    /// Hash of the policy bundle that the log was told of last, of each member that has any.
    pub(in crate::core) policies: BTreeMap<String, Digest>,
    pub(in crate::core) sizes: BTreeMap<String, u64>,
    pub(in crate::core) slot_keys: BTreeMap<String, [u8; 32]>,
    /// Still to be told, by the sequence of the first record.
    pub(in crate::core) reads: BTreeMap<u64, StoredRead>,
    /// Record of the newest erasure.
    pub(in crate::core) erased: u64,
}

impl Audit {
    /// How many logs of this broker have ended: what the name of the present one is made of.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Epochs so far: the number of the next one.
    #[must_use]
    pub fn epochs(&self) -> u64 {
        self.epochs
    }

    /// Version of the roster whose members have slots; 0 before the first.
    #[must_use]
    pub fn roster_version(&self) -> u64 {
        self.roster_version
    }

    /// Who has a slot, in the roster's order.
    pub fn members(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// Hash of the keyset of a member that the log was told of last, zeros for none.
    #[must_use]
    pub fn keyset(&self, agency: &str) -> Option<&Digest> {
        self.members.get(agency)
    }

    /// Hash of the policy bundle of a member that the log was told of last.
    #[must_use]
    pub fn policy(&self, agency: &str) -> Option<&Digest> {
        self.policies.get(agency)
    }

    /// Size of an agency's sub-log.
    #[must_use]
    pub fn size(&self, agency: &str) -> u64 {
        self.sizes.get(agency).copied().unwrap_or(0)
    }

    /// What an agency's slots are salted with, if it has said so.
    #[must_use]
    pub fn slot_key(&self, agency: &str) -> Option<&[u8; 32]> {
        self.slot_keys.get(agency)
    }

    /// Reads to be told at `now_ms`, with the record that they stand in.
    pub fn reads_to_tell(&self, now_ms: u64) -> impl Iterator<Item = (u64, &StoredRead)> {
        self.reads.iter().filter(move |(_, read)| read.tell_ms <= now_ms).map(|(at, read)| (*at, read))
    }

    /// Record of the newest erasure: spent records up to it are to be overwritten. 0 for none.
    #[must_use]
    pub fn erased(&self) -> u64 {
        self.erased
    }

    /// Whether the log has members; before that nothing of it is published.
    pub(super) fn has_begun(&self) -> bool {
        self.roster_version > 0
    }

    /// More entries in a sub-log.
    pub(super) fn grow(&mut self, agency: &str, events: u64) -> Result<(), &'static str> {
        if self.has_begun() && !self.members.contains_key(agency) {
            return Err("an event of an agency that has no slot");
        }
        match self.sizes.get_mut(agency) {
            Some(size) => *size = size.saturating_add(events),
            None => drop(self.sizes.insert(agency.to_owned(), events)),
        }
        Ok(())
    }

    fn read(&mut self, sequence: u64, read: &StoredRead) -> Result<(), &'static str> {
        let end = read.first_index.checked_add(read.count).filter(|_| read.count > 0);
        let end = end.filter(|end| *end <= self.size(&read.agency)).ok_or("a read beyond the sub-log")?;
        let recent = |known: &StoredRead| {
            known.auditor == read.auditor
                && known.agency == read.agency
                && read.time_ms.saturating_sub(known.time_ms) < READS_JOIN_MS
        };
        let too_many = self.reads.values().filter(|known| recent(known)).count() >= READS_APART_MAX;
        let joins = |known: &&mut StoredRead| {
            let known_end = known.first_index.saturating_add(known.count);
            recent(known) && (too_many || (known.first_index <= end && read.first_index <= known_end))
        };
        if let Some(known) = self.reads.values_mut().rev().find(joins) {
            let last = end.max(known.first_index.saturating_add(known.count));
            known.first_index = known.first_index.min(read.first_index);
            known.count = last.saturating_sub(known.first_index);
            known.tell_ms = known.tell_ms.max(read.tell_ms);
        } else {
            self.reads.insert(sequence, read.clone());
        }
        Ok(())
    }
}

impl Ledger {
    /// An event at the end of its sub-log.
    pub(super) fn log(&mut self, event: &Logged<'_>) -> Result<(), &'static str> {
        if event.index != self.audit.size(event.agency) {
            return Err("an event that is not the next one of its sub-log");
        }
        self.pass(event.time_ms)?;
        self.audit.grow(event.agency, 1)
    }

    fn log_all(&mut self, events: &[StoredEvent]) -> Result<(), &'static str> {
        events.iter().try_for_each(|event| self.log(&Logged::of(event)?))
    }

    pub(super) fn end_epoch(&mut self, sequence: u64, epoch: &StoredEpoch) -> Result<(), &'static str> {
        if epoch.epoch != self.audit.epochs || !self.audit.has_begun() {
            return Err("it is not the next epoch");
        }
        let hash = |bytes: &[u8]| bytes.len() == 32;
        if !hash(&epoch.directory_hash) || !(epoch.policy_set_hash.is_empty() || hash(&epoch.policy_set_hash))
        {
            return Err("an epoch without its directory");
        }
        self.pass(epoch.time_ms)?;
        self.audit.epochs = self.audit.epochs.saturating_add(1);
        self.spent.insert_logged(sequence);
        Ok(())
    }

    pub(super) fn tell(&mut self, sequence: u64, told: &StoredEvents) -> Result<(), &'static str> {
        if told.events.is_empty() {
            return Err("no event");
        }
        self.log_all(&told.events)?;
        if told.told > 0 {
            self.audit.reads.remove(&told.told).ok_or("a read is told that never was")?;
        }
        if let Some(read) = &told.read {
            self.audit.read(sequence, read)?;
        }
        for StoredEvent { agency, event } in &told.events {
            let Some(event) = event else { continue };
            let kind = kind(&event.leaf);
            if !matches!(kind, EventType::KeyChanged | EventType::PolicyChanged) {
                continue;
            }
            let event = open_event(event).map_err(|_| "an event that does not open")?;
            let hash = fixed("hash", &event.evidence_digest).map_err(|_| "a change without its hash")?;
            let keyset = self.audit.members.get_mut(agency).ok_or("a change at nobody")?;
            if kind == EventType::KeyChanged {
                *keyset = hash;
            } else {
                self.audit.policies.insert(agency.clone(), hash);
            }
        }
        self.spent.insert_logged(sequence);
        Ok(())
    }

    pub(super) fn set_slot_key(&mut self, sequence: u64, stored: &StoredSlotKey) -> Result<(), &'static str> {
        let key: [u8; 32] = fixed("key", &stored.key).map_err(|_| "a slot key that is none")?;
        let before = self.audit.slot_keys.get(&stored.agency);
        if key == [0; 32] || before == Some(&key) {
            return Err("a slot key that changes nothing");
        }
        if before.is_some() != stored.event.is_some() {
            return Err("a change of the slot key is an event, the first one is not");
        }
        if !self.audit.members.contains_key(&stored.agency) {
            return Err("a slot key of an agency that has no slot");
        }
        self.log_all(stored.event.as_slice())?;
        self.audit.slot_keys.insert(stored.agency.clone(), key);
        self.spent.insert_logged(sequence);
        Ok(())
    }

    pub(super) fn set_members(&mut self, sequence: u64, stored: &StoredMembers) -> Result<(), &'static str> {
        let first = !self.audit.has_begun();
        let audit = &mut self.audit;
        if stored.roster_version <= audit.roster_version {
            return Err("members of a roster that is not newer");
        }
        let ascending = stored.agencies.iter().zip(stored.agencies.iter().skip(1)).all(|(a, b)| a < b);
        if stored.agencies.is_empty() || !ascending || stored.keysets.len() != stored.agencies.len() {
            return Err("members out of order");
        }
        let mut members = BTreeMap::new();
        for (agency, keyset) in stored.agencies.iter().zip(&stored.keysets) {
            let keyset: Digest = fixed("keyset", keyset).map_err(|_| "members without keysets")?;
            members.insert(agency.clone(), audit.members.get(agency).copied().unwrap_or(keyset));
        }
        if audit.members.keys().chain(audit.sizes.keys()).any(|agency| !members.contains_key(agency)) {
            return Err("a member is gone; members only come");
        }
        let told = stored.events.iter().map(|event| &event.agency);
        if !(if first { stored.events.is_empty() } else { told.eq(&stored.agencies) }) {
            return Err("every member is told of a new roster, but for the first");
        }
        (audit.members, audit.roster_version) = (members, stored.roster_version);
        self.log_all(&stored.events)?;
        self.spent.insert_logged(sequence);
        Ok(())
    }

    pub(super) fn erase(&mut self, sequence: u64, erasure: &StoredErasure) -> Result<(), &'static str> {
        let ascending = erasure.indices.iter().zip(erasure.indices.iter().skip(1)).all(|(a, b)| a < b);
        let within = erasure.indices.last().is_some_and(|last| *last < self.audit.size(&erasure.agency));
        if !(ascending && within) {
            return Err("entries are erased that are not there");
        }
        let ids: Result<BTreeSet<PacketId>, _> =
            erasure.packet_ids.iter().map(|id| PacketId::from_bytes(id)).collect();
        let ids = ids.map_err(|_| "packet id is none")?;
        if self.waits_for(&ids).is_some() {
            return Err("a packet is erased that somebody waits for");
        }
        for id in &ids {
            if let Some(seen) = self.known.get_mut(id).filter(|seen| seen.admission > 0) {
                self.spent.insert_logged(seen.admission);
                seen.admission = 0;
            }
        }
        self.log_all(&erasure.events)?;
        self.audit.erased = sequence;
        self.spent.insert_logged(sequence);
        Ok(())
    }

    pub(super) fn begin_log(&mut self, sequence: u64, begun: &StoredLogBegun) -> Result<(), &'static str> {
        if begun.number <= self.audit.number {
            return Err("it is not the next log");
        }
        // What was erased and is not overwritten yet goes with all the rest.
        let erased = if self.audit.erased > 0 { sequence } else { 0 };
        let audit = Audit { number: begun.number, erased, ..Audit::default() };
        *self = Self { time_ms: begun.time_ms, spent: Spent::up_to(sequence), audit, ..Self::default() };
        Ok(())
    }
}

/// Of a leaf.
pub(in crate::core) fn kind(leaf: &[u8]) -> EventType {
    leaf.get(1).and_then(|kind| EventType::try_from(i32::from(*kind)).ok()).unwrap_or_default()
}
