//! Packets that some queue still holds. There may be millions of them, so each is short: units that many packets name are
//! kept once.

use std::{collections::BTreeMap, sync::Arc};

use lintas_proto::{
    id::{Digest, PacketId},
    schema::UnitRef,
};

use crate::core::brief::Unit;

/// A packet that some queue still holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LivePacket {
    /// UUIDv7.
    pub packet_id: PacketId,
    /// SHA-256 of its header.
    pub digest: Digest,
    /// Who sent it.
    pub originator: Arc<UnitRef>,
    /// Who may have it. Whoever was denied, at first or when it was to be handed over, is not in it.
    pub recipients: Recipients,
    /// Its attachments.
    pub blobs: Box<[Digest]>,
    /// Queue entries that still hold it.
    pub remaining: u32,
    /// Length of its record, bytes.
    pub bytes: u64,
}

/// Units by their place among the commitments of a packet, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipients(Few);

/// One, as most packets have, needs no memory of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Few {
    One((u32, Arc<UnitRef>)),
    Others(Box<[(u32, Arc<UnitRef>)]>),
}

impl Recipients {
    /// `units` in ascending order of their places.
    #[must_use]
    pub fn new(units: Vec<(u32, Arc<UnitRef>)>) -> Self {
        debug_assert!(units.is_sorted_by(|(a, _), (b, _)| a < b), "places out of order");
        match <[_; 1]>::try_from(units) {
            Ok([one]) => Self(Few::One(one)),
            Err(units) => Self(Few::Others(units.into())),
        }
    }

    /// The one at that place.
    #[must_use]
    pub fn get(&self, place: u32) -> Option<&UnitRef> {
        let at = self.all().binary_search_by_key(&place, |(place, _)| *place).ok()?;
        self.all().get(at).map(|(_, unit)| unit.as_ref())
    }

    /// All, with their places.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &UnitRef)> {
        self.all().iter().map(|(place, unit)| (*place, unit.as_ref()))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    /// Takes one out.
    pub(super) fn remove(&mut self, place: u32) {
        *self = Self::new(self.all().iter().filter(|(at, _)| *at != place).cloned().collect());
    }

    fn all(&self) -> &[(u32, Arc<UnitRef>)] {
        match &self.0 {
            Few::One(one) => std::slice::from_ref(one),
            Few::Others(others) => others,
        }
    }
}

/// Every unit that a packet has named, once. As many as the region has had; who is in it says nothing.
#[derive(Debug, Clone, Default)]
pub(in crate::core) struct Units(BTreeMap<String, BTreeMap<String, Arc<UnitRef>>>);

impl Units {
    /// The one that is kept of those equal to this one.
    pub(in crate::core) fn get(&mut self, (agency, name): Unit<'_>) -> Arc<UnitRef> {
        if let Some(known) = self.0.get(agency).and_then(|of_agency| of_agency.get(name)) {
            return Arc::clone(known);
        }
        let new = Arc::new(UnitRef { agency: agency.to_owned(), unit: name.to_owned() });
        let of_agency = self.0.entry(agency.to_owned()).or_default();
        of_agency.insert(name.to_owned(), Arc::clone(&new));
        new
    }
}

/// Ledgers that hold the same are the same, whatever they have seen before.
impl PartialEq for Units {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Units {}
