//! Which place in a sub-log a receipt promised to which leaf. Two signed receipts that promise one place to two leaves
//! prove that the broker lied.

use std::collections::BTreeMap;

use lintas_proto::{audit::leaf::LEAF_BYTES, schema::LoggedEvent};

/// Most places that are remembered. What is included is forgotten before: from then on the log itself is compared.
const PLACES_MAX: usize = if cfg!(test) { 64 } else { 200_000 };
/// Most broken promises of one run that are told.
const BROKEN_MAX: usize = 64;

/// A leaf, and the record whose receipt promised its place.
#[derive(Debug, Clone, Copy)]
struct Promise {
    leaf: [u8; LEAF_BYTES],
    record: u64,
}

/// Two receipts that cannot both be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken {
    /// Origin of the sub-log.
    pub(crate) origin: String,
    /// The place.
    pub(crate) index: u64,
    /// Records that hold the receipts, the earlier first.
    pub(crate) records: [u64; 2],
}

/// The promises, folded over the journal.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    logs: BTreeMap<String, BTreeMap<u64, Promise>>,
    places: usize,
    broken: Vec<Broken>,
}

impl Promises {
    /// Takes a verified receipt of the record with this sequence.
    pub(crate) fn note(&mut self, origin: &str, events: &[LoggedEvent], record: u64) {
        let log = self.logs.entry(origin.to_owned()).or_default();
        for event in events {
            let Ok(leaf) = <[u8; LEAF_BYTES]>::try_from(event.leaf.as_ref()) else { continue };
            match log.get(&event.index) {
                Some(before) if before.leaf == leaf => {}
                Some(before) => {
                    if self.broken.len() < BROKEN_MAX {
                        let records = [before.record, record];
                        self.broken.push(Broken { origin: origin.to_owned(), index: event.index, records });
                    }
                }
                None => {
                    log.insert(event.index, Promise { leaf, record });
                    self.places += 1;
                }
            }
        }
        while self.places > PLACES_MAX {
            // Of the fullest log the oldest place.
            let Some(log) = self.logs.values_mut().max_by_key(|log| log.len()) else { break };
            log.pop_first();
            self.places -= 1;
        }
    }

    /// This agency's sub-log under that root log is verified up to that size: what was promised below is compared with the
    /// log itself.
    #[allow(dead_code, reason = "who follows the log is being built")]
    pub(crate) fn included(&mut self, root_origin: &str, size: u64) {
        let is_under =
            |origin: &str| origin.strip_prefix(root_origin).is_some_and(|rest| rest.starts_with('/'));
        for (_, log) in self.logs.iter_mut().filter(|(origin, _)| is_under(origin)) {
            let before = log.len();
            *log = log.split_off(&size);
            self.places -= before - log.len();
        }
    }

    /// Broken promises that nobody was told of yet.
    pub(crate) fn take_broken(&mut self) -> Vec<Broken> {
        std::mem::take(&mut self.broken)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn event(index: u64, leaf: u8) -> LoggedEvent {
        LoggedEvent { index, leaf: Bytes::from(vec![leaf; LEAF_BYTES]), ..LoggedEvent::default() }
    }

    #[test]
    fn one_place_is_promised_to_one_leaf() {
        let mut promises = Promises::default();
        promises.note("hub/audit/TH", &[event(4, 1), event(5, 2)], 10);
        promises.note("hub/audit/TH", &[event(4, 1), event(6, 3)], 11);
        promises.note("hub.log2/audit/TH", &[event(4, 9)], 12);
        assert_eq!(promises.take_broken(), []);
        promises.note("hub/audit/TH", &[event(5, 7)], 13);
        let broken = Broken { origin: "hub/audit/TH".to_owned(), index: 5, records: [10, 13] };
        assert_eq!((promises.take_broken(), promises.take_broken()), (vec![broken], vec![]));
        promises.included("hub/audit", 6);
        promises.included("hub.log2/audi", 9);
        promises.note("hub/audit/TH", &[event(5, 8), event(6, 8)], 14);
        assert_eq!(promises.take_broken().len(), 1, "the place before is the verified log's");
    }

    #[test]
    fn a_bounded_number_of_places_is_remembered() {
        let mut promises = Promises::default();
        for index in 0..1_000 {
            promises.note("hub/audit/TH", &[event(index, 1)], index);
        }
        assert_eq!(promises.places, PLACES_MAX);
        promises.note("hub/audit/TH", &[event(999, 2)], 1_000);
        assert_eq!(promises.take_broken().len(), 1);
    }
}
