//! Delivery: which entries of its agency's queue a session hands over next.

use std::collections::{BTreeMap, BTreeSet};

use super::queue::{Entry, Queue};

/// Most entries looked at in one call, so that a long queue holds up nobody else.
pub const LOOK_ENTRIES_MAX: usize = 4_096;

/// How long an entry that was handed over holds credit, milliseconds. A node that cannot acknowledge one (its
/// directory is too old for it, its disk too full) still gets what comes behind; the entry stays in the queue and
/// is handed over again in the next session.
pub const CREDIT_HELD_MS: u64 = 60_000;
/// When an entry that its recipient may not have is looked at again, milliseconds: the sequencer ends it, unless the disk is
/// full or other rules are in force by then.
pub const DENIED_AGAIN_MS: u64 = 10_000;
/// Entries that a session may leave without an acknowledgement, as a multiple of its credit.
const UNANSWERED_CREDITS_MAX: usize = 16;

/// How far one session is in its agency's queue. Each entry is looked at once a session, and once more when its
/// time has come.
#[derive(Debug, Clone, Default)]
pub struct Cursor {
    /// Everything up to this number was looked at.
    after: u64,
    /// Entries whose time has not come: when it does, and their numbers.
    deferred: BTreeSet<(u64, u64)>,
    /// Handed over in this session, not acknowledged and not ended yet: their numbers, and when that was.
    handed: BTreeMap<u64, u64>,
}

/// What a session may do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Entries to be handed over now, by number, in this order.
    pub entries: Vec<(u64, Entry)>,
    /// Whether there may be more at once.
    pub more: bool,
}

impl Cursor {
    /// What is to be handed over at `now_ms`: in order, each once, only what stands on records up to
    /// `durable`, is within its time, and leaves at most `credit` entries that hold credit.
    pub fn due(&mut self, queue: &Queue, durable: u64, now_ms: u64, credit: usize) -> Due {
        self.handed.retain(|number, _| queue.get(*number).is_some());
        let holding = self.handed.values().filter(|at| now_ms < at.saturating_add(CREDIT_HELD_MS)).count();
        let unanswered_max = credit.saturating_mul(UNANSWERED_CREDITS_MAX);
        let room = credit.saturating_sub(holding).min(unanswered_max.saturating_sub(self.handed.len()));
        let mut entries = Vec::new();
        while entries.len() < room
            && let Some((at, number)) = self.deferred.first().copied().filter(|(at, _)| *at <= now_ms)
        {
            self.deferred.remove(&(at, number));
            let entry = queue.get(number).filter(|entry| now_ms < entry.deliver_by_ms);
            entries.extend(entry.map(|entry| (number, entry)));
        }
        let mut looked = 0;
        for (number, entry) in queue.after(self.after) {
            if entries.len() >= room || looked >= LOOK_ENTRIES_MAX || entry.record() > durable {
                break;
            }
            (self.after, looked) = (number, looked + 1);
            if entry.not_before_ms > now_ms {
                self.deferred.insert((entry.not_before_ms, number));
            } else if now_ms < entry.deliver_by_ms {
                entries.push((number, entry));
            }
        }
        self.handed.extend(entries.iter().map(|(number, _)| (*number, now_ms)));
        Due { entries, more: looked >= LOOK_ENTRIES_MAX }
    }

    /// An entry was acknowledged: it holds no credit any more, while its end is on its way to the disk.
    pub fn acknowledged(&mut self, number: u64) {
        self.handed.remove(&number);
    }

    /// An entry was due and is not handed over: it holds no credit, and what comes behind it goes on.
    pub fn put_off(&mut self, number: u64, now_ms: u64) {
        self.handed.remove(&number);
        self.deferred.insert((now_ms.saturating_add(DENIED_AGAIN_MS), number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::queue::Held;

    fn packet(admission: u64, not_before_ms: u64, deliver_by_ms: u64) -> Entry {
        Entry { held: Held::Packet { admission, recipient_index: 0 }, not_before_ms, deliver_by_ms }
    }

    fn queue(entries: &[Entry]) -> Queue {
        let mut queue = Queue::default();
        entries.iter().for_each(|entry| queue.push(*entry, "TH"));
        queue
    }

    fn numbers(due: &Due) -> Vec<u64> {
        due.entries.iter().map(|(number, _)| *number).collect()
    }

    #[test]
    fn each_entry_is_handed_over_once_and_in_order() {
        let queue = queue(&[packet(2, 0, 100), packet(4, 0, 100), packet(6, 0, 100)]);
        let mut cursor = Cursor::default();
        assert_eq!(numbers(&cursor.due(&queue, 6, 1, 8)), [1, 2, 3]);
        assert!(cursor.due(&queue, 6, 1, 8).entries.is_empty());
        assert_eq!(numbers(&Cursor::default().due(&queue, 6, 1, 8)), [1, 2, 3], "a new session begins anew");
    }

    #[test]
    fn nothing_is_handed_over_before_it_is_durable() {
        let queue = queue(&[packet(2, 0, 100), packet(4, 0, 100)]);
        let mut cursor = Cursor::default();
        assert!(cursor.due(&queue, 1, 1, 8).entries.is_empty());
        assert_eq!(numbers(&cursor.due(&queue, 2, 1, 8)), [1]);
        assert_eq!(numbers(&cursor.due(&queue, 4, 1, 8)), [2]);
    }

    #[test]
    fn the_credit_holds_until_entries_end() {
        let mut queue = queue(&[packet(2, 0, 100), packet(4, 0, 100), packet(6, 0, 100)]);
        let mut cursor = Cursor::default();
        assert_eq!(numbers(&cursor.due(&queue, 9, 1, 2)), [1, 2]);
        assert!(cursor.due(&queue, 9, 1, 2).entries.is_empty());
        queue.remove(2, "TH");
        assert_eq!(numbers(&cursor.due(&queue, 9, 1, 2)), [3]);
    }

    #[test]
    fn what_was_acknowledged_holds_no_credit_before_its_end_is_durable() {
        let queue = queue(&[packet(2, 0, 100), packet(4, 0, 100), packet(6, 0, 100)]);
        let mut cursor = Cursor::default();
        assert_eq!(numbers(&cursor.due(&queue, 9, 1, 2)), [1, 2]);
        cursor.acknowledged(1);
        cursor.acknowledged(1);
        cursor.acknowledged(7);
        assert_eq!(numbers(&cursor.due(&queue, 9, 1, 2)), [3], "1 is not handed over again");
        assert!(cursor.due(&queue, 9, 1, 2).entries.is_empty());
    }

    #[test]
    fn what_a_node_cannot_acknowledge_does_not_stop_what_comes_behind() {
        let entries: Vec<_> = (1..=200).map(|n| packet(2 * n, 0, u64::MAX)).collect();
        let (queue, mut cursor) = (queue(&entries), Cursor::default());
        assert_eq!(numbers(&cursor.due(&queue, 999, 0, 2)), [1, 2]);
        assert!(cursor.due(&queue, 999, CREDIT_HELD_MS - 1, 2).entries.is_empty());
        assert_eq!(numbers(&cursor.due(&queue, 999, CREDIT_HELD_MS, 2)), [3, 4]);
        let mut handed = 4;
        for round in 2..200 {
            handed += cursor.due(&queue, 999, round * CREDIT_HELD_MS, 2).entries.len();
        }
        assert_eq!(handed, 2 * UNANSWERED_CREDITS_MAX, "and nothing grows without a bound");
    }

    #[test]
    fn an_entry_that_is_denied_holds_no_credit_and_is_looked_at_again_later() {
        let entries: Vec<_> = (1..=4).map(|n| packet(2 * n, 0, u64::MAX)).collect();
        let (mut queue, mut cursor) = (queue(&entries), Cursor::default());
        assert_eq!(numbers(&cursor.due(&queue, 9, 0, 2)), [1, 2]);
        cursor.put_off(1, 0);
        cursor.put_off(2, 0);
        assert_eq!(numbers(&cursor.due(&queue, 9, 0, 2)), [3, 4]);
        queue.remove(2, "TH");
        queue.remove(3, "TH");
        assert!(cursor.due(&queue, 9, DENIED_AGAIN_MS - 1, 2).entries.is_empty(), "not at once");
        assert_eq!(numbers(&cursor.due(&queue, 9, DENIED_AGAIN_MS, 2)), [1], "2 has ended meanwhile");
    }

    #[test]
    fn an_entry_waits_for_its_time_and_does_not_outlive_it() {
        let mut queue = queue(&[packet(2, 50, 100), packet(4, 0, 10), packet(6, 0, 100), packet(8, 50, 60)]);
        let mut cursor = Cursor::default();
        assert_eq!(numbers(&cursor.due(&queue, 9, 10, 8)), [3], "1 and 4 are early, 2 is late");
        assert!(cursor.due(&queue, 9, 49, 8).entries.is_empty());
        queue.remove(4, "TH");
        assert_eq!(numbers(&cursor.due(&queue, 9, 50, 8)), [1]);
        assert_eq!(queue.expired(100).collect::<Vec<_>>(), [2, 1, 3], "longest overdue first");
        assert_eq!(queue.expired(10).collect::<Vec<_>>(), [2]);
        assert_eq!(queue.expired(9).count(), 0);
    }

    #[test]
    fn a_long_queue_of_deferred_entries_is_looked_at_in_parts() {
        let entries: Vec<_> = (1..=LOOK_ENTRIES_MAX as u64 + 1).map(|n| packet(2 * n, 50, 100)).collect();
        let (queue, mut cursor) = (queue(&entries), Cursor::default());
        let first = cursor.due(&queue, u64::MAX, 1, 3);
        assert!(first.entries.is_empty() && first.more);
        assert!(!cursor.due(&queue, u64::MAX, 1, 3).more);
        assert_eq!(numbers(&cursor.due(&queue, u64::MAX, 50, 3)), [1, 2, 3]);
    }

    #[test]
    fn originators_are_counted_apart() {
        let mut queue = queue(&[packet(2, 0, 100), packet(4, 0, 100)]);
        queue.push(packet(6, 0, 100), "KH");
        queue.push(
            Entry::evidence(7, lintas_proto::id::PacketId::new(1, &mut lintas_config::os_entropy())),
            "",
        );
        assert_eq!((queue.packets_from("TH"), queue.packets_from("KH"), queue.len()), (2, 1, 4));
        queue.remove(1, "TH");
        queue.remove(3, "KH");
        assert_eq!((queue.packets_from("TH"), queue.packets_from("KH"), queue.len()), (1, 0, 2));
        assert_eq!(queue.expired(u64::MAX).collect::<Vec<_>>(), [2], "evidence never expires");
    }
}
