//! Whether events make sense: alone, in their order, and beside those of the other sub-logs in scope.

use std::collections::BTreeMap;

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
    /// How many ends are to come: two where an agency writes to itself.
    open: Vec<(Open, u8)>,
    /// Events by type.
    pub(crate) counts: BTreeMap<String, u64>,
    /// Releases and receptions by the policy that allowed them; [`UNNAMED`] where none is named.
    pub(crate) policies: BTreeMap<String, u64>,
    /// Events whose content is not known: what belongs to them cannot be missed.
    unknown: bool,
    #[serde(skip)]
    index: Option<BTreeMap<Open, u8>>,
}

/// An event that must stand in two sub-logs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pair {
    /// The two agencies.
    pub(crate) originator: String,
    recipient: String,
    unit: String,
    packet: Vec<u8>,
    digest: Vec<u8>,
    evidence: Vec<u8>,
    /// RELEASED stands for RECEIVED too.
    kind: i32,
    pub(crate) time_ms: u64,
}

impl Packets {
    /// Ends that are still to come.
    pub(crate) fn waiting(&self) -> usize {
        self.index.as_ref().map_or(self.open.len(), BTreeMap::len)
    }

    /// Before it is kept.
    pub(crate) fn settle(&mut self) {
        if let Some(index) = &self.index {
            self.open = index.iter().map(|(open, ends)| (open.clone(), *ends)).collect();
        }
    }

    /// An event whose opening is not there: nothing that depends on it is missed from here on.
    pub(crate) fn unseen(&mut self, event_type: u8) {
        self.count(i32::from(event_type));
        self.unknown = true;
    }

    /// The next event of the sub-log of `agency`.
    pub(crate) fn event(&mut self, log: &str, index: u64, event: &AuditEvent, found: &mut Findings) {
        self.count(event.r#type);
        let known = (event.packet_id.to_vec(), event.header_digest.to_vec());
        let mut wrong = |what: &str| {
            let text = format!("packet {} {what}", hex(&event.packet_id));
            found.push(Finding::new(Kind::Contradiction, log, text).entry(index));
        };
        let Ok(kind) = EventType::try_from(event.r#type) else { return };
        match kind {
            EventType::Submitted => {
                self.submitted = Some(known);
                self.denied.clear();
            }
            EventType::Released | EventType::Received => {
                if kind == EventType::Released && self.submitted.as_ref() != Some(&known) && !self.unknown {
                    wrong("was released without having been submitted");
                }
                if event.reason != Reason::Accepted as i32 {
                    wrong("was let through although a decision says no");
                }
                self.decided(event);
                if let Some(open) = opened(event) {
                    if kind == EventType::Released && self.denied.contains(&open) {
                        wrong("was let through to a recipient to whom it was denied");
                    }
                    let by = event.originator.as_ref().map_or("", |by| by.agency.as_str());
                    if self.once_more(open, by) {
                        wrong("was let through to one recipient more than once");
                    }
                }
            }
            EventType::Acknowledged | EventType::Expired | EventType::Withheld => {
                let Some(open) = opened(event) else {
                    return wrong("comes to an end that names no recipient");
                };
                let left = self.index().get(&open).copied();
                match left {
                    Some(left) if left > 1 => drop(self.index().insert(open, left - 1)),
                    Some(_) => drop(self.index().remove(&open)),
                    None if self.unknown => {}
                    None => wrong(&format!(
                        "comes to an end for {} / {} without having been let through, or a second time",
                        open.agency, open.unit
                    )),
                }
            }
            EventType::Denied | EventType::NotAccepted => {
                if self.denied(event, &known) {
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

    /// One more way in for a recipient; whether that is one too many. `by` is the originator's agency.
    fn once_more(&mut self, open: Open, by: &str) -> bool {
        let both = open.agency == by;
        let ends = self.index().entry(open).or_default();
        *ends = ends.saturating_add(1);
        *ends > 1 + u8::from(both)
    }

    /// Remembers to whom a packet was denied; whether it was let through there before.
    fn denied(&mut self, event: &AuditEvent, known: &(Vec<u8>, Vec<u8>)) -> bool {
        let by_policy = event.reason == Reason::Policy as i32;
        let Some(open) = opened(event).filter(|_| by_policy) else { return false };
        let let_through = self.index().contains_key(&open);
        if self.submitted.as_ref() == Some(known) && self.denied.len() < limits::RECIPIENTS_MAX {
            self.denied.push(open);
        }
        let_through
    }

    fn decided(&mut self, event: &AuditEvent) {
        let unnamed = [UNNAMED.to_owned()];
        let ids = if event.policy_ids.is_empty() { &unnamed[..] } else { &event.policy_ids };
        for id in ids {
            // As many as anybody can read; a broker could name a new one each time.
            if self.policies.len() < POLICIES_MAX || self.policies.contains_key(id) {
                *self.policies.entry(id.clone()).or_default() += 1;
            }
        }
    }

    fn count(&mut self, event_type: i32) {
        *self.counts.entry(name(event_type)).or_default() += 1;
    }

    fn index(&mut self) -> &mut BTreeMap<Open, u8> {
        let open = &mut self.open;
        self.index.get_or_insert_with(|| std::mem::take(open).into_iter().collect())
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

fn opened(event: &AuditEvent) -> Option<Open> {
    let UnitRef { agency, unit } = event.recipient.clone()?;
    Some(Open { packet: event.packet_id.to_vec(), agency, unit })
}

/// The kinds of events that stand with the originator and with the recipient.
pub(crate) fn pair(event: &AuditEvent) -> Option<Pair> {
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
    let (originator, recipient) = (event.originator.clone()?, event.recipient.clone()?);
    Some(Pair {
        originator: originator.agency,
        recipient: recipient.agency,
        unit: recipient.unit,
        packet: event.packet_id.to_vec(),
        digest: event.header_digest.to_vec(),
        evidence: if kind == EventType::NotAccepted { Vec::new() } else { event.evidence_digest.to_vec() },
        kind: kind as i32,
        time_ms: event.time_ms,
    })
}

/// Events of the same epochs of several sub-logs.
#[derive(Debug, Default)]
pub(crate) struct Counterparts {
    /// Entries without their counterpart: of the originator's and of the recipient's sub-log.
    seen: BTreeMap<Pair, (Vec<u64>, Vec<u64>)>,
    /// Times of events whose openings are not there, by agency.
    unseen: std::collections::BTreeSet<(String, u64)>,
}

impl Counterparts {
    /// An event of the sub-log of `agency`.
    pub(crate) fn saw(&mut self, agency: &str, index: u64, pair: Pair) {
        // Both stand in the same sub-log: `Packets` counts them.
        if pair.originator == pair.recipient {
            return;
        }
        let by_originator = pair.originator == agency;
        let sides = self.seen.entry(pair.clone()).or_default();
        let (mine, other) =
            if by_originator { (&mut sides.0, &mut sides.1) } else { (&mut sides.1, &mut sides.0) };
        if other.pop().is_none() {
            mine.push(index);
        }
        if sides.0.is_empty() && sides.1.is_empty() {
            self.seen.remove(&pair);
        }
    }

    /// An event without its opening.
    pub(crate) fn unseen(&mut self, agency: &str, time_ms: u64) {
        self.unseen.insert((agency.to_owned(), time_ms));
    }

    /// What has no counterpart in a sub-log that is in scope as well.
    pub(crate) fn end(&mut self, root_origin: &str, in_scope: &dyn Fn(&str) -> bool, found: &mut Findings) {
        for (pair, sides) in std::mem::take(&mut self.seen) {
            let (here, there, index) = match (sides.0.first(), sides.1.first()) {
                (Some(index), _) => (&pair.originator, &pair.recipient, *index),
                (None, Some(index)) => (&pair.recipient, &pair.originator, *index),
                (None, None) => continue,
            };
            if !in_scope(there) {
                continue;
            }
            let what = name(pair.kind);
            let packet = hex(&pair.packet);
            let (kind, text) = if self.unseen.contains(&(there.clone(), pair.time_ms)) {
                let text = format!(
                    "the counterpart of packet {packet} ({what}) in the sub-log of {there} was erased"
                );
                (Kind::Note, text)
            } else {
                let text = format!(
                    "packet {packet} ({what}): {here} has the event, and the sub-log of {there} lacks its counterpart, or has \
                     another one"
                );
                (Kind::NoCounterpart, text)
            };
            found.push(Finding::new(kind, &format!("{root_origin}/{here}"), text).entry(index));
        }
        self.unseen.clear();
    }
}

#[cfg(test)]
mod tests {
    use lintas_proto::id::Digest;

    use super::*;

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
