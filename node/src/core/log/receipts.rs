//! Receipts and how well each is proven: part of the fold over the journal. A hundred bytes or two for each packet.
//!
//! | grade | what is kept here |
//! |---|---|
//! | promised | the broker's signed receipt |
//! | included | and the paths of its events in the broker's log |
//! | witnessed | and a quorum's cosignatures under that log |

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lintas_proto::{
    receipt::Receipt,
    schema::{StoredInclusion, StoredRootProof},
};

/// Where the events of a packet's receipt are promised to stand, and where they were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Promise {
    /// Sequence of the record that holds the receipt.
    pub(crate) record: u64,
    /// Sub-log.
    pub(crate) origin: String,
    /// Indices of its events there, ascending; never empty.
    pub(crate) indices: Vec<u64>,
    /// By when they stand there.
    pub(crate) deadline_ms: u64,
    /// Where they were found.
    pub(crate) place: Option<Place>,
    /// Records of receipts before it, in logs that have ended.
    pub(crate) earlier: Vec<u64>,
}

/// Where events were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Sequence of the record with the proofs.
    pub(crate) record: u64,
    /// Epoch of the root log.
    pub(crate) epoch: u64,
}

impl Promise {
    /// Origin of the root log.
    pub(crate) fn root_origin(&self) -> &str {
        root_of(&self.origin)
    }

    fn key(&self) -> (String, u64) {
        (self.root_origin().to_owned(), self.indices.first().copied().unwrap_or_default())
    }
}

/// Origin of the root log above a sub-log.
pub(crate) fn root_of(sub_log: &str) -> &str {
    sub_log.rsplit_once('/').map_or(sub_log, |(root, _)| root)
}

/// How well a receipt is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grade {
    /// The broker said so.
    Promised,
    /// Its log has it.
    Included,
    /// A quorum of witnesses saw that log.
    Witnessed,
}

impl Grade {
    /// The stable name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Promised => "promised",
            Self::Included => "included",
            Self::Witnessed => "witnessed",
        }
    }
}

/// The newest proof of an epoch of a root log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RootKept {
    /// Sequence of its record.
    pub(crate) record: u64,
    /// A quorum had cosigned it.
    pub(crate) witnessed: bool,
}

/// All receipts.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    /// By the record of the packet.
    promises: BTreeMap<u64, Promise>,
    /// Packets whose events were not found yet.
    open: BTreeSet<u64>,
    /// The packet by origin of the root log and its first index in the sub-log.
    by_index: HashMap<(String, u64), u64>,
    roots: BTreeMap<(String, u64), RootKept>,
    /// Epochs that hold something of ours and were not witnessed when their proof was kept.
    unwitnessed: BTreeSet<(String, u64)>,
}

impl Receipts {
    /// The packet in record `packet` has a receipt, in record `record`.
    pub(crate) fn promised(&mut self, packet: u64, record: u64, receipt: &Receipt) {
        let mut promise = Promise {
            record,
            origin: receipt.origin.clone(),
            indices: receipt.events.iter().map(|event| event.index).collect(),
            deadline_ms: receipt.deadline_ms,
            place: None,
            earlier: Vec::new(),
        };
        if let Some(before) = self.promises.remove(&packet) {
            promise.earlier = before.earlier;
            promise.earlier.push(before.record);
        }
        self.by_index.entry(promise.key()).or_insert(packet);
        self.promises.insert(packet, promise);
        self.open.insert(packet);
    }

    /// Events were found; in the record with that sequence.
    pub(crate) fn included(&mut self, sequence: u64, stored: &StoredInclusion) {
        for packet in &stored.packets {
            let first = packet.leaves.first().map(|leaf| leaf.index).unwrap_or_default();
            let Some(packet) = self.by_index.get(&(stored.origin.clone(), first)) else { continue };
            let promise =
                self.promises.get_mut(packet).filter(|promise| promise.root_origin() == stored.origin);
            let Some(promise) = promise else { continue };
            promise.place = Some(Place { record: sequence, epoch: stored.epoch });
            self.open.remove(packet);
        }
        let key = (stored.origin.clone(), stored.epoch);
        if !self.roots.get(&key).is_some_and(|root| root.witnessed) {
            self.unwitnessed.insert(key);
        }
    }

    /// An epoch's place in the root log, in the record with that sequence.
    pub(crate) fn rooted(&mut self, sequence: u64, stored: &StoredRootProof) {
        let key = (stored.origin.clone(), stored.epoch);
        if self.roots.get(&key).is_some_and(|before| before.witnessed) {
            return;
        }
        if stored.witnessed {
            self.unwitnessed.remove(&key);
        }
        self.roots.insert(key, RootKept { record: sequence, witnessed: stored.witnessed });
    }

    /// What is known of the receipt of the packet in that record.
    pub(crate) fn of(&self, packet: u64) -> Option<&Promise> {
        self.promises.get(&packet)
    }

    /// How well the receipt of the packet in that record is proven; none without a receipt.
    pub(crate) fn grade(&self, packet: u64) -> Option<Grade> {
        let promise = self.promises.get(&packet)?;
        Some(match &promise.place {
            None => Grade::Promised,
            Some(place) => match self.root(promise.root_origin(), place.epoch) {
                Some(RootKept { witnessed: true, .. }) => Grade::Witnessed,
                Some(RootKept { witnessed: false, .. }) => Grade::Included,
                // Proofs of an epoch without its place in the root log prove nothing.
                None => Grade::Promised,
            },
        })
    }

    /// The newest proof of an epoch.
    pub(crate) fn root(&self, root_origin: &str, epoch: u64) -> Option<RootKept> {
        self.roots.get(&(root_origin.to_owned(), epoch)).copied()
    }

    /// Packets whose events in that sub-log were not found yet, in the order in which they were kept.
    pub(crate) fn open_in(&self, origin: &str) -> impl DoubleEndedIterator<Item = (u64, &Promise)> {
        let found = self.open.iter().filter_map(|packet| Some((*packet, self.promises.get(packet)?)));
        found.filter(move |(_, promise)| promise.origin == origin)
    }

    /// Epochs of that root log that hold something of ours, and lack a quorum.
    pub(crate) fn unwitnessed(&self, root_origin: &str) -> impl Iterator<Item = u64> {
        let from = (root_origin.to_owned(), 0)..=(root_origin.to_owned(), u64::MAX);
        self.unwitnessed.range(from).map(|(_, epoch)| *epoch)
    }
}

#[cfg(test)]
mod tests {
    use lintas_proto::{
        audit::leaf::log_event,
        id::PacketId,
        schema::{AuditEvent, IncludedPacket, LeafProof},
    };

    use super::*;

    fn receipt(log: &str, indices: &[u64]) -> Receipt {
        Receipt {
            origin: format!("{log}/audit/TH"),
            packet_id: PacketId::new(1, &mut lintas_config::os_entropy()),
            header_digest: [1; 32],
            time_ms: 5,
            deadline_ms: 10,
            events: indices.iter().map(|at| log_event(*at, [2; 32], &AuditEvent::default())).collect(),
        }
    }

    fn inclusion(log: &str, epoch: u64, first: u64) -> StoredInclusion {
        let leaves = vec![LeafProof { index: first, ..LeafProof::default() }];
        StoredInclusion {
            origin: format!("{log}/audit"),
            epoch,
            packets: vec![IncludedPacket { leaves, ..IncludedPacket::default() }],
            ..StoredInclusion::default()
        }
    }

    fn root(log: &str, epoch: u64, witnessed: bool) -> StoredRootProof {
        StoredRootProof { origin: format!("{log}/audit"), epoch, witnessed, ..StoredRootProof::default() }
    }

    #[test]
    fn a_receipt_rises_grade_by_grade_and_never_falls() {
        let mut receipts = Receipts::default();
        assert_eq!(receipts.grade(1), None);
        receipts.promised(1, 2, &receipt("hub", &[4, 5]));
        receipts.promised(3, 3, &receipt("hub", &[6]));
        assert_eq!((receipts.grade(1), receipts.open_in("hub/audit/TH").count()), (Some(Grade::Promised), 2));
        receipts.included(4, &inclusion("hub", 9, 4));
        assert_eq!(receipts.grade(1), Some(Grade::Promised), "its root is not proven yet");
        receipts.rooted(5, &root("hub", 9, false));
        assert_eq!((receipts.grade(1), receipts.grade(3)), (Some(Grade::Included), Some(Grade::Promised)));
        assert_eq!(receipts.unwitnessed("hub/audit").collect::<Vec<_>>(), [9]);
        receipts.rooted(6, &root("hub", 9, true));
        receipts.rooted(7, &root("hub", 9, false));
        assert_eq!(receipts.grade(1), Some(Grade::Witnessed));
        assert_eq!(receipts.root("hub/audit", 9).unwrap().record, 6);
        assert_eq!(receipts.unwitnessed("hub/audit").count(), 0);
    }

    #[test]
    fn a_receipt_of_the_next_log_takes_the_place_of_the_one_before() {
        let mut receipts = Receipts::default();
        receipts.promised(1, 2, &receipt("hub", &[4]));
        receipts.included(3, &inclusion("hub", 9, 4));
        receipts.rooted(4, &root("hub", 9, true));
        receipts.promised(1, 5, &receipt("hub.log2", &[0]));
        assert_eq!(receipts.grade(1), Some(Grade::Promised));
        assert_eq!(receipts.of(1).unwrap().earlier, [2]);
        // What is still said of the old log changes nothing.
        receipts.included(6, &inclusion("hub", 10, 4));
        assert_eq!(receipts.grade(1), Some(Grade::Promised));
        receipts.included(7, &inclusion("hub.log2", 0, 0));
        receipts.rooted(8, &root("hub.log2", 0, false));
        assert_eq!(receipts.grade(1), Some(Grade::Included));
    }
}
