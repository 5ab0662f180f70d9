//! Queues: what an agency still has to be handed, in the order of admission.

use std::collections::BTreeMap;

use lintas_proto::id::PacketId;

use super::ascending::Ascending;

/// What a queue entry holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// A packet for one recipient; `admission` is a record, the packet the one before it.
    Packet {
        /// Sequence of the admission record.
        admission: u64,
        /// Which recipient of it, 0-based.
        recipient_index: u32,
    },
    /// Evidence about a packet that the agency originated; `outcome` is a record.
    Evidence {
        /// Sequence of the outcome record.
        outcome: u64,
        /// The packet.
        packet: PacketId,
    },
}

/// One entry of an agency's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// What it holds.
    pub held: Held,
    /// Not handed over earlier.
    pub not_before_ms: u64,
    /// Not handed over later; evidence never expires.
    pub deliver_by_ms: u64,
}

impl Entry {
    /// Evidence about `packet` in the record `outcome`.
    pub(super) fn evidence(outcome: u64, packet: PacketId) -> Self {
        Self { held: Held::Evidence { outcome, packet }, not_before_ms: 0, deliver_by_ms: u64::MAX }
    }

    /// The youngest record that the entry stands on: it may be handed over once that is durable. Grows from
    /// entry to entry of a queue.
    #[must_use]
    pub fn record(&self) -> u64 {
        match self.held {
            Held::Packet { admission, .. } => admission,
            Held::Evidence { outcome, .. } => outcome,
        }
    }
}

/// An entry as it is kept: there may be millions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Packet { admission: u64, not_before_ms: u64, deliver_by_ms: u64, recipient_index: u32 },
    Evidence { outcome: u64, packet: PacketId },
}

impl From<Entry> for Kept {
    fn from(Entry { held, not_before_ms, deliver_by_ms }: Entry) -> Self {
        match held {
            Held::Packet { admission, recipient_index } => {
                Self::Packet { admission, not_before_ms, deliver_by_ms, recipient_index }
            }
            Held::Evidence { outcome, packet } => Self::Evidence { outcome, packet },
        }
    }
}

impl From<Kept> for Entry {
    fn from(kept: Kept) -> Self {
        match kept {
            Kept::Packet { admission, not_before_ms, deliver_by_ms, recipient_index } => {
                Self { held: Held::Packet { admission, recipient_index }, not_before_ms, deliver_by_ms }
            }
            Kept::Evidence { outcome, packet } => Self::evidence(outcome, packet),
        }
    }
}

/// An agency's queue, in the order of admission.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Queue {
    /// Number of the next entry, from 1.
    pub(super) next: u64,
    entries: Ascending<u64, Kept>,
    /// Packets by end of their time, and number.
    deadlines: Ascending<(u64, u64), ()>,
    /// Packets by originator.
    from: BTreeMap<String, usize>,
}

impl Queue {
    /// Puts an entry at the end; `from` is the originator of the packet that it holds.
    pub(super) fn push(&mut self, entry: Entry, from: &str) {
        let number = self.next.max(1);
        self.next = number + 1;
        self.insert(number, entry, from);
    }

    /// Puts an entry where it stood.
    pub(super) fn insert(&mut self, number: u64, entry: Entry, from: &str) {
        if let Held::Packet { .. } = entry.held {
            self.deadlines.insert((entry.deliver_by_ms, number), ());
            match self.from.get_mut(from) {
                Some(packets) => *packets += 1,
                None => drop(self.from.insert(from.to_owned(), 1)),
            }
        }
        self.entries.insert(number, entry.into());
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, number: u64, from: &str) -> Option<Entry> {
        let entry = Entry::from(self.entries.remove(&number)?);
        if let Held::Packet { .. } = entry.held {
            self.deadlines.remove(&(entry.deliver_by_ms, number));
            match self.from.get_mut(from) {
                Some(packets) if *packets > 1 => *packets -= 1,
                Some(_) | None => drop(self.from.remove(from)),
            }
        }
        Some(entry)
    }

    /// Entries after number `after`, in order.
    pub fn after(&self, after: u64) -> impl Iterator<Item = (u64, Entry)> {
        self.entries.from(after.saturating_add(1)).map(|(number, kept)| (number, (*kept).into()))
    }

    /// The entry with that number.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<Entry> {
        self.entries.get(&number).map(|kept| (*kept).into())
    }

    /// Packets that may no longer be handed over at `now_ms`, the longest overdue first.
    pub fn expired(&self, now_ms: u64) -> impl Iterator<Item = u64> {
        let over = self.deadlines.iter().take_while(move |((at, _), ())| *at <= now_ms);
        over.map(|((_, number), ())| number)
    }

    /// How many packets of one originator wait.
    #[must_use]
    pub fn packets_from(&self, originator: &str) -> usize {
        self.from.get(originator).copied().unwrap_or(0)
    }

    /// Whether it holds a packet; otherwise evidence at most.
    #[must_use]
    pub fn has_packets(&self) -> bool {
        !self.from.is_empty()
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
