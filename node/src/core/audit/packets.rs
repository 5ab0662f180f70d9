//! Whether the events of a sub-log make sense, alone and in their order.

use std::collections::{BTreeMap, HashMap};

use lintas_proto::{
    id::hex,
    limits,
    schema::{AuditEvent, EventType, Reason, UnitRef},
};
use serde::{Deserialize, Serialize};

use super::finding::{Finding, Findings, Kind};

/// A packet at one recipient that has not come to an end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Open {
    packet: Vec<u8>,
    agency: String,
    unit: String,
}

/// What is known of the packets of one sub-log: those that were submitted last, and those that are on their way.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Packets {
    /// Packet and header digest of the last SUBMITTED.
    submitted: Option<(Vec<u8>, Vec<u8>)>,
    /// To whom that packet was denied.
    #[serde(default)]
    denied: Vec<Open>,
    /// How many ends are to come: two where an agency writes to itself. As it is kept; while a scan runs, `ways` says it.
    open: Vec<(Open, u8)>,
    /// Events by type, without those of `tally`.
    counts: BTreeMap<String, u64>,
    /// Releases and receptions by the policy that allowed them; [`UNNAMED`] where none is named.
    pub(crate) policies: BTreeMap<String, u64>,
    /// Events whose content is not known: what belongs to them cannot be missed.
    unknown: bool,
    #[serde(skip)]
    ways: Option<Ways>,
    #[serde(skip)]
    tally: BTreeMap<i32, u64>,
}

/// A packet's id: 16 bytes, unless the log names something else.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum PacketName {
    Id([u8; 16]),
    Other(Box<[u8]>),
}

impl PacketName {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        bytes.try_into().map_or_else(|_| Self::Other(bytes.into()), Self::Id)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Id(id) => id,
            Self::Other(bytes) => bytes,
        }
    }
}

/// Packets on their way to recipients, who are numbered: there are few of them.
#[derive(Debug, Clone, Default)]
struct Ways {
    /// Number of an agency's unit.
    numbers: HashMap<String, HashMap<String, usize>>,
    recipients: Vec<UnitRef>,
    /// How many ends are to come of a packet at a recipient.
    ends: HashMap<(PacketName, usize), u8>,
}

impl Ways {
    fn place(&mut self, packet: &[u8], to: &UnitRef) -> (PacketName, usize) {
        let known = self.numbers.get(&to.agency).and_then(|units| units.get(&to.unit));
        let number = known.copied().unwrap_or_else(|| {
            let number = self.recipients.len();
            self.recipients.push(to.clone());
            self.numbers.entry(to.agency.clone()).or_default().insert(to.unit.clone(), number);
            number
        });
        (PacketName::of(packet), number)
    }

    fn has(&mut self, packet: &[u8], to: &UnitRef) -> bool {
        let place = self.place(packet, to);
        self.ends.contains_key(&place)
    }

    /// One more way in; how many there are then.
    fn begins(&mut self, packet: &[u8], to: &UnitRef) -> u8 {
        let place = self.place(packet, to);
        let ends = self.ends.entry(place).or_default();
        *ends = ends.saturating_add(1);
        *ends
    }

    /// One of them ends; false if there is none.
    fn ends(&mut self, packet: &[u8], to: &UnitRef) -> bool {
        let place = self.place(packet, to);
        match self.ends.get_mut(&place) {
            Some(left) if *left > 1 => *left -= 1,
            Some(_) => drop(self.ends.remove(&place)),
            None => return false,
        }
        true
    }

    /// All of them, in order.
    fn listed(&self) -> Vec<(Open, u8)> {
        let one = |((packet, number), ends): (&(PacketName, usize), &u8)| {
            let UnitRef { agency, unit } = self.recipients.get(*number)?.clone();
            Some((Open { packet: packet.bytes().to_vec(), agency, unit }, *ends))
        };
        let mut all: Vec<(Open, u8)> = self.ends.iter().filter_map(one).collect();
        all.sort();
        all
    }
}

impl FromIterator<(Open, u8)> for Ways {
    fn from_iter<I: IntoIterator<Item = (Open, u8)>>(all: I) -> Self {
        let mut ways = Self::default();
        for (Open { packet, agency, unit }, ends) in all {
            let place = ways.place(&packet, &UnitRef { agency, unit });
            ways.ends.insert(place, ends);
        }
        ways
    }
}

impl Packets {
    /// Ends that are still to come.
    pub(crate) fn waiting(&self) -> usize {
        self.ways.as_ref().map_or(self.open.len(), |ways| ways.ends.len())
    }

    /// Events by type.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        let mut counts = self.counts.clone();
        for (event_type, more) in &self.tally {
            let count = counts.entry(name(*event_type)).or_default();
            *count = count.saturating_add(*more);
        }
        counts
    }

    /// Before it is kept.
    pub(crate) fn settle(&mut self) {
        if let Some(ways) = &self.ways {
            self.open = ways.listed();
        }
        self.counts = self.counts();
        self.tally.clear();
    }

    /// An event whose opening is not there: nothing that depends on it is missed from here on.
    pub(crate) fn unseen(&mut self, event_type: u8) {
        self.count(i32::from(event_type));
        self.unknown = true;
    }

    /// The next event of the sub-log.
    pub(crate) fn event(&mut self, log: &str, index: u64, event: &AuditEvent, found: &mut Findings) {
        self.count(event.r#type);
        let packet = event.packet_id.as_ref();
        let mut wrong = |what: &str| {
            let text = format!("packet {} {what}", hex(&event.packet_id));
            found.push(Finding::new(Kind::Contradiction, log, text).entry(index));
        };
        let Ok(kind) = EventType::try_from(event.r#type) else { return };
        match kind {
            EventType::Submitted => {
                self.submitted = Some((packet.to_vec(), event.header_digest.to_vec()));
                self.denied.clear();
            }
            EventType::Released | EventType::Received => {
                if kind == EventType::Released && !self.is_submitted(event) && !self.unknown {
                    wrong("was released without having been submitted");
                }
                if event.reason != Reason::Accepted as i32 {
                    wrong("was let through although a decision says no");
                }
                self.decided(event);
                if let Some(to) = &event.recipient {
                    let same = |denied: &Open| {
                        denied.packet == packet && denied.agency == to.agency && denied.unit == to.unit
                    };
                    if kind == EventType::Released && self.denied.iter().any(same) {
                        wrong("was let through to a recipient to whom it was denied");
                    }
                    let both = event.originator.as_ref().map_or("", |by| by.agency.as_str()) == to.agency;
                    if self.ways().begins(packet, to) > 1 + u8::from(both) {
                        wrong("was let through to one recipient more than once");
                    }
                }
            }
            EventType::Acknowledged | EventType::Expired | EventType::Withheld => {
                let Some(to) = &event.recipient else {
                    return wrong("comes to an end that names no recipient");
                };
                if !self.ways().ends(packet, to) && !self.unknown {
                    wrong(&format!(
                        "comes to an end for {} / {} without having been let through, or a second time",
                        to.agency, to.unit
                    ));
                }
            }
            EventType::Denied | EventType::NotAccepted => {
                if self.denied(event) {
                    wrong("was denied to a recipient to whom it was let through");
                }
            }
            EventType::Unspecified
            | EventType::Delivered
            | EventType::Recalled
            | EventType::Destroyed
            | EventType::Relayed
            | EventType::DirectoryChanged
            | EventType::PolicyChanged
            | EventType::KeyChanged
            | EventType::Erased
            | EventType::AuditRead
            | EventType::AuditReadTold => {}
        }
    }

    /// Whether it is about the packet that was submitted last.
    fn is_submitted(&self, event: &AuditEvent) -> bool {
        let same = |(packet, digest): &(Vec<u8>, Vec<u8>)| {
            *packet == event.packet_id.as_ref() && *digest == event.header_digest.as_ref()
        };
        self.submitted.as_ref().is_some_and(same)
    }

    /// Remembers to whom a packet was denied; whether it was let through there before.
    fn denied(&mut self, event: &AuditEvent) -> bool {
        let by_policy = event.reason == Reason::Policy as i32;
        let Some(to) = event.recipient.as_ref().filter(|_| by_policy) else { return false };
        let let_through = self.ways().has(&event.packet_id, to);
        if self.is_submitted(event) && self.denied.len() < limits::RECIPIENTS_MAX {
            let UnitRef { agency, unit } = to.clone();
            self.denied.push(Open { packet: event.packet_id.to_vec(), agency, unit });
        }
        let_through
    }

    fn decided(&mut self, event: &AuditEvent) {
        let unnamed = event.policy_ids.is_empty().then_some(UNNAMED);
        for id in event.policy_ids.iter().map(String::as_str).chain(unnamed) {
            if let Some(count) = self.policies.get_mut(id) {
                *count = count.saturating_add(1);
            } else if self.policies.len() < POLICIES_MAX {
                // As many as anybody can read; a broker could name a new one each time.
                self.policies.insert(id.to_owned(), 1);
            }
        }
    }

    fn count(&mut self, event_type: i32) {
        let count = self.tally.entry(event_type).or_default();
        *count = count.saturating_add(1);
    }

    fn ways(&mut self) -> &mut Ways {
        let open = &mut self.open;
        self.ways.get_or_insert_with(|| std::mem::take(open).into_iter().collect())
    }
}

/// Stands for the policy of an event that names none.
const UNNAMED: &str = "none named";
/// Most policies that are counted one by one.
const POLICIES_MAX: usize = 256;

/// `EVENT_TYPE_RELEASED` → `released`.
pub(crate) fn name(event_type: i32) -> String {
    let known = EventType::try_from(event_type).unwrap_or(EventType::Unspecified);
    let name = known.as_str_name();
    name.strip_prefix("EVENT_TYPE_").unwrap_or(name).to_lowercase()
}

#[cfg(test)]
mod tests {
    use lintas_proto::id::Digest;

    use super::{super::counterparts::pair, *};

    const PACKET: [u8; 16] = [1; 16];
    const DIGEST: Digest = [2; 32];

    fn event(kind: EventType, reason: Reason, to: Option<&str>) -> AuditEvent {
        let unit = |agency: &str| UnitRef { agency: agency.to_owned(), unit: format!("{agency}-A") };
        AuditEvent {
            r#type: kind as i32,
            packet_id: PACKET.to_vec().into(),
            header_digest: DIGEST.to_vec().into(),
            originator: Some(unit("TH")),
            recipient: to.map(unit),
            reason: reason as i32,
            ..AuditEvent::default()
        }
    }

    fn found(events: &[AuditEvent]) -> Vec<String> {
        let (mut packets, mut findings) = (Packets::default(), Findings::default());
        for (index, event) in (0..).zip(events) {
            packets.event("log", index, event, &mut findings);
        }
        findings.into_shown().into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn a_release_in_part_makes_sense() {
        let submitted = event(EventType::Submitted, Reason::Accepted, None);
        let released = event(EventType::Released, Reason::Accepted, Some("KH"));
        let denied = event(EventType::Denied, Reason::Policy, Some("VN"));
        let refused = event(EventType::NotAccepted, Reason::Policy, Some("LA"));
        assert_eq!(found(&[submitted, released, denied, refused]), Vec::<String>::new());
    }

    #[test]
    fn nobody_is_both_denied_a_packet_and_given_it() {
        let submitted = event(EventType::Submitted, Reason::Accepted, None);
        let released = event(EventType::Released, Reason::Accepted, Some("KH"));
        for kind in [EventType::Denied, EventType::NotAccepted] {
            let denied = event(kind, Reason::Policy, Some("KH"));
            let one = found(&[submitted.clone(), released.clone(), denied.clone()]);
            assert!(
                one.len() == 1 && one[0].contains("was denied to a recipient to whom it was let through"),
                "{one:?}"
            );
            let other = found(&[submitted.clone(), denied, released.clone()]);
            assert!(other.len() == 1 && other[0].contains("to whom it was denied"), "{other:?}");
        }
    }

    #[test]
    fn what_a_recipient_does_not_accept_stands_in_both_logs() {
        let refused = event(EventType::NotAccepted, Reason::Policy, Some("KH"));
        let ours = AuditEvent { evidence_digest: vec![3; 32].into(), ..refused.clone() };
        assert_eq!(pair(&ours), pair(&refused));
        assert!(pair(&refused).is_some());
        assert_eq!(pair(&event(EventType::NotAccepted, Reason::Expired, None)), None);
        assert_eq!(pair(&event(EventType::Denied, Reason::Policy, Some("KH"))), None, "KH never hears of it");
    }
}
