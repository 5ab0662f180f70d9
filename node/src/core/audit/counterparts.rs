//! Events that must stand in two sub-logs, the originator's and the recipient's, compared between those in scope.

use std::{
    collections::{BTreeSet, HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

use lintas_proto::{
    id::{Digest, hex, sha256},
    schema::{AuditEvent, EventType, Reason},
};

use super::{
    finding::{Finding, Findings, Kind},
    packets::{PacketName, name},
};

/// An event that must stand in two sub-logs: what both say of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pair<'a> {
    /// The two agencies.
    pub(crate) originator: &'a str,
    recipient: &'a str,
    unit: &'a str,
    packet: &'a [u8],
    digest: &'a [u8],
    evidence: &'a [u8],
    /// RELEASED stands for RECEIVED too.
    kind: EventType,
    pub(crate) time_ms: u64,
}

impl Pair<'_> {
    /// Two pairs are equal if this is.
    fn key(&self) -> Digest {
        let parts = [
            self.originator.as_bytes(),
            self.recipient.as_bytes(),
            self.unit.as_bytes(),
            self.packet,
            self.digest,
            self.evidence,
        ];
        let lengths = parts.map(|part| (part.len() as u64).to_be_bytes());
        let [a, b, c, d, e, f] = parts;
        let (kind, time) = ((self.kind as i32).to_be_bytes(), self.time_ms.to_be_bytes());
        sha256(&[lengths.as_flattened(), a, b, c, d, e, f, &kind, &time])
    }
}

/// The kinds of events that stand with the originator and with the recipient.
pub(crate) fn pair(event: &AuditEvent) -> Option<Pair<'_>> {
    let kind = match EventType::try_from(event.r#type).ok()? {
        EventType::Released | EventType::Received => EventType::Released,
        kind @ (EventType::Acknowledged | EventType::Expired | EventType::Withheld) => kind,
        // By the policy of the recipient: both are told, each in its own words.
        kind @ EventType::NotAccepted if event.reason == Reason::Policy as i32 => kind,
        EventType::Unspecified
        | EventType::Submitted
        | EventType::Denied
        | EventType::NotAccepted
        | EventType::Delivered
        | EventType::Recalled
        | EventType::Destroyed
        | EventType::Relayed
        | EventType::DirectoryChanged
        | EventType::PolicyChanged
        | EventType::KeyChanged
        | EventType::Erased
        | EventType::AuditRead
        | EventType::AuditReadTold => return None,
    };
    let (originator, recipient) = (event.originator.as_ref()?, event.recipient.as_ref()?);
    Some(Pair {
        originator: &originator.agency,
        recipient: &recipient.agency,
        unit: &recipient.unit,
        packet: &event.packet_id,
        digest: &event.header_digest,
        evidence: if kind == EventType::NotAccepted { &[] } else { &event.evidence_digest },
        kind,
        time_ms: event.time_ms,
    })
}

/// One of the two events of a pair.
#[derive(Debug)]
struct Half {
    key: Digest,
    index: u64,
    by_originator: bool,
    /// Whose sub-log has the other one.
    there: Arc<str>,
    packet: PacketName,
    kind: EventType,
    time_ms: u64,
}

/// What some epochs of one sub-log say of others.
#[derive(Debug, Default)]
pub(crate) struct Halves {
    agency: String,
    seen: Vec<Half>,
    /// Times of events whose openings are not there.
    unseen: BTreeSet<u64>,
    /// Agencies that were named.
    named: HashMap<String, Arc<str>>,
}

impl Halves {
    /// Of the sub-log of `agency`.
    pub(crate) fn of(agency: &str) -> Self {
        Self { agency: agency.to_owned(), ..Self::default() }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.seen.len()
    }

    /// An event.
    pub(crate) fn saw(&mut self, index: u64, pair: &Pair<'_>) {
        // Both stand in the same sub-log: `Packets` counts them.
        if pair.originator == pair.recipient {
            return;
        }
        let by_originator = pair.originator == self.agency;
        let there = if by_originator { pair.recipient } else { pair.originator };
        let there = match self.named.get(there) {
            Some(known) => Arc::clone(known),
            None => Arc::clone(self.named.entry(there.to_owned()).or_insert_with(|| there.into())),
        };
        let (key, packet) = (pair.key(), PacketName::of(pair.packet));
        let Pair { kind, time_ms, .. } = *pair;
        self.seen.push(Half { key, index, by_originator, there, packet, kind, time_ms });
    }

    /// An event without its opening.
    pub(crate) fn unseen(&mut self, time_ms: u64) {
        self.unseen.insert(time_ms);
    }
}

/// Tells what has no counterpart in a sub-log that is in scope as well. `all` are of the same epochs.
pub(crate) fn compare(all: &[Halves], root_origin: &str, scope: &HashSet<&str>, found: &mut Findings) {
    // The first without its counterpart, and how many there are of the same.
    let mut open: HashMap<Digest, (&Half, &str, u64)> = HashMap::new();
    for halves in all {
        for half in halves.seen.iter().filter(|half| scope.contains(half.there.as_ref())) {
            match open.entry(half.key) {
                Entry::Vacant(place) => drop(place.insert((half, &halves.agency, 1))),
                Entry::Occupied(mut place) if place.get().0.by_originator == half.by_originator => {
                    let (_, _, count) = place.get_mut();
                    *count = count.saturating_add(1);
                }
                Entry::Occupied(mut place) => match place.get_mut() {
                    (_, _, count) if *count > 1 => *count -= 1,
                    _ => drop(place.remove()),
                },
            }
        }
    }
    let mut left: Vec<(&Half, &str, u64)> = open.into_values().collect();
    left.sort_by_key(|(half, here, _)| (*here, half.index));
    for (half, here, _) in left {
        let (what, packet, there) = (name(half.kind as i32), hex(half.packet.bytes()), &half.there);
        let erased =
            all.iter().any(|halves| halves.agency == there.as_ref() && halves.unseen.contains(&half.time_ms));
        let (kind, text) = if erased {
            let text =
                format!("the counterpart of packet {packet} ({what}) in the sub-log of {there} was erased");
            (Kind::Note, text)
        } else {
            let text = format!(
                "packet {packet} ({what}): {here} has the event, and the sub-log of {there} lacks its counterpart, or has \
                 another one"
            );
            (Kind::NoCounterpart, text)
        };
        found.push(Finding::new(kind, &format!("{root_origin}/{here}"), text).entry(half.index));
    }
}
