//! What records that were written just now add to the log, from the sequencer straight to the publisher: to read them back and to
//! decode them costs more than to fold them. What is not here is read from the journal, so nothing is lost with it.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use lintas_proto::schema::StoredEvent;

use crate::core::record::Fact;

/// Most bytes of events that wait for the publisher; the oldest go.
const BYTES_MAX: usize = 8 * 1024 * 1024;
/// About what an event takes beside its own bytes.
const EVENT_BYTES: usize = 256;

/// The events of records, in their order.
#[derive(Debug, Default)]
pub(crate) struct Fresh(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    records: VecDeque<(u64, Vec<StoredEvent>)>,
    bytes: usize,
}

impl Fresh {
    /// Takes over what records add to the log, the first of which is `first`; `promised` are the events of each admission among
    /// them. A record that says more than its events must be read.
    pub(crate) fn put(&self, first: u64, facts: &[Fact], promised: Vec<Vec<StoredEvent>>) {
        let (mut waiting, mut promised) = (self.waiting(), promised.into_iter());
        for (sequence, fact) in (first..).zip(facts) {
            let events = match fact {
                Fact::Packet(_) | Fact::Taken(_) => Vec::new(),
                Fact::Admission(_) => match promised.next() {
                    Some(events) => events,
                    None => continue,
                },
                Fact::Outcome(outcome) => outcome.events.clone(),
                Fact::Epoch(_)
                | Fact::Events(_)
                | Fact::SlotKey(_)
                | Fact::Members(_)
                | Fact::Erasure(_)
                | Fact::LogBegun(_) => continue,
            };
            waiting.bytes = waiting.bytes.saturating_add(bytes(&events));
            waiting.records.push_back((sequence, events));
        }
        while waiting.bytes > BYTES_MAX && waiting.pop().is_some() {}
    }

    /// The records from `next` on that are here one behind another, up to `last`. What is older is forgotten.
    pub(crate) fn take(&self, next: u64, last: u64) -> Vec<(u64, Vec<StoredEvent>)> {
        let mut waiting = self.waiting();
        while waiting.first().is_some_and(|first| first < next) {
            let _ = waiting.pop();
        }
        let mut taken = Vec::new();
        for sequence in next..=last {
            if waiting.first() != Some(sequence) {
                break;
            }
            taken.extend(waiting.pop());
        }
        taken
    }

    /// The last record that must be read in the journal, if `next` must be.
    pub(crate) fn read_until(&self, last: u64) -> u64 {
        self.waiting().first().map_or(last, |first| first.saturating_sub(1).min(last))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn first(&self) -> Option<u64> {
        self.records.front().map(|(sequence, _)| *sequence)
    }

    fn pop(&mut self) -> Option<(u64, Vec<StoredEvent>)> {
        let popped = self.records.pop_front();
        let gone = popped.as_ref().map_or(0, |(_, events)| bytes(events));
        self.bytes = self.bytes.saturating_sub(gone);
        popped
    }
}

fn bytes(events: &[StoredEvent]) -> usize {
    let own = events.iter().filter_map(|stored| stored.event.as_ref()).map(|event| event.event.len());
    own.sum::<usize>().saturating_add(events.len().saturating_add(1).saturating_mul(EVENT_BYTES))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn sequences(taken: &[(u64, Vec<StoredEvent>)]) -> Vec<u64> {
        taken.iter().map(|(sequence, _)| *sequence).collect()
    }

    #[test]
    fn what_is_missing_is_read_and_the_oldest_go_when_there_is_no_room() {
        let (fresh, packet) = (Fresh::default(), Fact::Packet(Bytes::new()));
        fresh.put(3, &[packet.clone(), packet.clone()], Vec::new());
        fresh.put(7, std::slice::from_ref(&packet), Vec::new());
        assert_eq!((sequences(&fresh.take(1, 9)), fresh.read_until(9)), (vec![], 2));
        assert_eq!(sequences(&fresh.take(3, 3)), [3]);
        assert_eq!((sequences(&fresh.take(4, 9)), fresh.read_until(9), fresh.read_until(5)), (vec![4], 6, 5));
        assert_eq!(sequences(&fresh.take(8, 9)), [0; 0], "7 was read meanwhile");
        assert_eq!((fresh.read_until(9), fresh.waiting().bytes), (9, 0));
        let many = BYTES_MAX / EVENT_BYTES + 10;
        fresh.put(1, &vec![packet; many], Vec::new());
        assert_eq!(fresh.read_until(u64::MAX), 10);
    }
}
