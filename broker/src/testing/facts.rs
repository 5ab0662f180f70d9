//! Records as a sequencer writes them, without one: receipts are signed, indices go on, times never go back.

use std::collections::BTreeMap;

use bytes::Bytes;
use lintas_proto::{
    audit::{leaf::log_event, note::log_name},
    canonical,
    id::{PacketId, sha256},
    receipt::{Receipt, sign_receipts, sub_log_origin},
    schema::{
        AuditEvent, EventType, LoggedEvent, StoredAdmission, StoredEpoch, StoredErasure, StoredEvent,
        StoredEvents, StoredLogBegun, StoredMembers, StoredOutcome, StoredRecipient, StoredSlotKey, UnitRef,
    },
    sign::{KeyRole, SigningKey},
};

use super::{BROKER, NOW, unit};
use crate::core::record::Fact;

/// Writes records. The first one has sequence 1.
pub(crate) struct Facts {
    pub(crate) all: Vec<Fact>,
    /// Every event of the present log, by agency.
    pub(crate) events: BTreeMap<String, Vec<LoggedEvent>>,
    pub(crate) members: Vec<String>,
    key: SigningKey,
    ended: u64,
    epochs: u64,
    time_ms: u64,
    salts: u64,
    rosters: u64,
}

impl Facts {
    pub(crate) fn new() -> Self {
        let key = SigningKey::from_seed(KeyRole::Receipt, &[7; 32].into()).unwrap();
        let (all, events, members) = (Vec::new(), BTreeMap::new(), Vec::new());
        Self { all, events, members, key, ended: 0, epochs: 0, time_ms: NOW, salts: 0, rosters: 0 }
    }

    fn event(&mut self, agency: &str, kind: EventType) -> LoggedEvent {
        self.salts += 1;
        self.time_ms += 1;
        let event = AuditEvent {
            r#type: kind as i32,
            agency: agency.to_owned(),
            time_ms: self.time_ms,
            packet_id: Bytes::copy_from_slice(self.packet_id().as_bytes()),
            header_digest: Bytes::copy_from_slice(&[1; 32]),
            originator: Some(unit("KH", "A")),
            ..AuditEvent::default()
        };
        let events = self.events.entry(agency.to_owned()).or_default();
        let event = log_event(events.len() as u64, sha256(&[&self.salts.to_be_bytes()]), &event);
        events.push(event.clone());
        event
    }

    fn packet_id(&self) -> PacketId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(self.all.len() as u64).to_be_bytes());
        (id[6], id[8]) = (0x70, 0x80);
        PacketId::from_bytes(&id).unwrap()
    }

    fn receipt(&self, agency: &str, events: Vec<LoggedEvent>) -> Bytes {
        let name = log_name(BROKER, usize::try_from(self.ended).unwrap());
        Receipt {
            origin: sub_log_origin(&name, agency),
            packet_id: self.packet_id(),
            header_digest: [1; 32],
            time_ms: self.time_ms,
            deadline_ms: self.time_ms + 1,
            events,
        }
        .to_bytes()
    }

    /// A packet and its admission.
    pub(crate) fn packet(&mut self, from: &str, to: &[UnitRef]) {
        self.all.push(Fact::Packet(Bytes::from_static(b"packet")));
        let mut sent = vec![self.event(from, EventType::Submitted)];
        sent.extend(to.iter().map(|_| self.event(from, EventType::Released)));
        let mut receipts = vec![self.receipt(from, sent)];
        for unit in to {
            let received = self.event(&unit.agency, EventType::Received);
            receipts.push(self.receipt(&unit.agency, vec![received]));
        }
        let mut signed =
            sign_receipts(&receipts, &self.key).unwrap().into_iter().map(|it| canonical::encode(&it));
        let receipt = signed.next().unwrap();
        let recipients = to.iter().zip(signed);
        self.all.push(Fact::Admission(StoredAdmission {
            packet_id: Bytes::copy_from_slice(self.packet_id().as_bytes()),
            header_digest: Bytes::copy_from_slice(&[1; 32]),
            originator: Some(unit(from, "A")),
            receipt,
            recipients: recipients
                .map(|(unit, receipt)| StoredRecipient { unit: Some(unit.clone()), receipt })
                .collect(),
            ..StoredAdmission::default()
        }));
    }

    fn stored(&mut self, agency: &str, kind: EventType) -> StoredEvent {
        StoredEvent { agency: agency.to_owned(), event: Some(self.event(agency, kind)) }
    }

    /// The end of a queue entry.
    pub(crate) fn outcome(&mut self, from: &str, to: &str) {
        let kind = EventType::Acknowledged;
        let events = vec![self.stored(from, kind), self.stored(to, kind)];
        self.all.push(Fact::Outcome(StoredOutcome {
            agency: to.to_owned(),
            events,
            ..StoredOutcome::default()
        }));
    }

    /// A record with so many events of one agency.
    pub(crate) fn events(&mut self, agency: &str, count: usize) {
        let events = (0..count).map(|_| self.stored(agency, EventType::Denied)).collect();
        self.all.push(Fact::Events(StoredEvents { events, ..StoredEvents::default() }));
    }

    pub(crate) fn slot_key(&mut self, agency: &str, key: [u8; 32]) {
        let event = Some(self.stored(agency, EventType::KeyChanged));
        let key = Bytes::copy_from_slice(&key);
        self.all.push(Fact::SlotKey(StoredSlotKey { agency: agency.to_owned(), key, event }));
    }

    /// Another roster with these members.
    pub(crate) fn members(&mut self, agencies: &[&str]) {
        self.rosters += 1;
        self.members = agencies.iter().map(|&agency| agency.to_owned()).collect();
        let events = agencies.iter().map(|agency| self.stored(agency, EventType::DirectoryChanged)).collect();
        let (roster_version, agencies) = (self.rosters, self.members.clone());
        let keysets = vec![Bytes::copy_from_slice(&[0; 32]); agencies.len()];
        self.all.push(Fact::Members(StoredMembers { roster_version, agencies, events, keysets }));
    }

    /// Openings to be forgotten; the indices that there are not are left out.
    pub(crate) fn erase(&mut self, agency: &str, indices: &[u64]) {
        let there = self.events.get(agency).map_or(0, Vec::len) as u64;
        let indices: Vec<u64> = indices.iter().copied().filter(|index| *index < there).collect();
        let events = vec![self.stored(agency, EventType::Erased)];
        let agency = agency.to_owned();
        self.all.push(Fact::Erasure(StoredErasure { agency, indices, events, ..StoredErasure::default() }));
    }

    pub(crate) fn epoch(&mut self) {
        self.time_ms += 1;
        self.all.push(Fact::Epoch(StoredEpoch {
            epoch: self.epochs,
            time_ms: self.time_ms,
            directory_hash: Bytes::copy_from_slice(&sha256(&[&self.rosters.to_be_bytes()])),
            policy_set_hash: Bytes::new(),
        }));
        self.epochs += 1;
    }

    /// The log ends, and the next one begins with the same members.
    pub(crate) fn begin(&mut self) {
        (self.ended, self.epochs) = (self.ended + 1, 0);
        self.events.clear();
        let (number, time_ms) = (self.ended, self.time_ms);
        self.all.push(Fact::LogBegun(StoredLogBegun { number, time_ms }));
        let members = self.members.clone();
        self.members(&members.iter().map(String::as_str).collect::<Vec<_>>());
    }
}
