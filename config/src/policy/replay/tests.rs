use std::collections::HashMap;

use lintas_proto::{id::sha256, schema::HandlingCode};
use proptest::prelude::*;

use super::{
    super::{
        diff::tests::chosen,
        view::Described,
        world::{NOW, alert, policy, roster, set, unit},
    },
    *,
};

/// A sub-log as the broker writes it, and what was in force.
#[derive(Default)]
struct Past {
    rosters: HashMap<u64, Arc<Roster>>,
    bundles: HashMap<Digest, Arc<PolicySet>>,
    events: Vec<AuditEvent>,
    now_ms: u64,
}

impl Archive for &Past {
    fn roster(&mut self, version: u64) -> Option<Arc<Roster>> {
        self.rosters.get(&version).cloned()
    }

    fn bundle(&mut self, hash: &Digest) -> Option<Arc<PolicySet>> {
        self.bundles.get(hash).cloned()
    }
}

impl Past {
    fn new() -> Self {
        let rosters = HashMap::from([(1, Arc::new(roster()))]);
        Self { rosters, now_ms: NOW, ..Self::default() }
    }

    fn publish(&mut self, policies: PolicySet) {
        let event = AuditEvent {
            r#type: EventType::PolicyChanged as i32,
            time_ms: self.now_ms,
            evidence_digest: Bytes::copy_from_slice(policies.hash()),
            ..AuditEvent::default()
        };
        self.bundles.insert(*policies.hash(), Arc::new(policies));
        self.events.push(event);
    }

    /// A packet to these, decided as the broker does. `facts` stand in SUBMITTED if somebody gets it, else in each event.
    fn send(&mut self, packet: &Described, to: &[UnitRef], own: Option<&PolicySet>, layers: Layers) {
        let roster = Arc::clone(&self.rosters[&1]);
        let baseline = Baseline::read(&roster).unwrap();
        let sets: Vec<PolicySet> = baseline.at(self.now_ms).0.into_iter().cloned().collect();
        let digest = Bytes::copy_from_slice(&sha256(&[&self.events.len().to_be_bytes()]));
        let decided: Vec<(&UnitRef, Decision)> = to
            .iter()
            .map(|to| (to, seen(&sets, own, &roster, &packet.question(to, self.now_ms), layers)))
            .collect();
        let facts = Some(packet.question(&to[0], self.now_ms).facts());
        let accept = layers == Layers::Accept;
        let released = decided.iter().any(|(_, decision)| matches!(decision, Decision::Release(_)));
        let event = |kind: EventType, to: Option<&UnitRef>, ids: Vec<String>| AuditEvent {
            r#type: kind as i32,
            time_ms: self.now_ms,
            header_digest: digest.clone(),
            originator: Some(packet.originator.clone()),
            recipient: to.cloned(),
            policy_ids: ids.into_iter().take(2).collect(),
            version: 1,
            named: packet.named,
            facts: if accept || !released || kind == EventType::Submitted { facts.clone() } else { None },
            ..AuditEvent::default()
        };
        let mut events = Vec::new();
        if released && !accept {
            events.push(event(EventType::Submitted, None, Vec::new()));
        }
        for (to, decision) in decided {
            let (kind, ids) = match decision {
                Decision::Release(allowed) if accept => (EventType::Received, allowed.accepted_by),
                Decision::Release(allowed) => (EventType::Released, allowed.released_by),
                Decision::Review(allowed) => (EventType::Denied, vec![allowed.review_by[0].clone()]),
                Decision::Deny(denial) if accept => (EventType::NotAccepted, vec![denial.policy_id]),
                Decision::Deny(denial) => (EventType::Denied, vec![denial.policy_id]),
            };
            events.push(event(kind, Some(to), ids));
        }
        self.events.extend(events);
        self.now_ms += 1_000;
    }

    fn replay(&self, candidate: Option<&PolicySet>) -> Report {
        let mut replay = Replay::new("TH", self, candidate, 0);
        for (index, event) in (0..).zip(&self.events) {
            replay.event(index, event);
        }
        replay.finish()
    }
}

const ALL: &str = "";

fn spocs() -> PolicySet {
    set(
        "TH",
        &[&policy(
            "spocs",
            "permit",
            "Release",
            "when { principal.functions.contains(Lintas::Function::\"SPOC\") }",
        )],
    )
}

fn partners() -> [UnitRef; 3] {
    [unit("KH", "KH-AHT"), unit("KH", "KH-VP"), unit("LA", "LA-ATD")]
}

#[test]
fn a_broker_that_decided_by_the_rules_is_found_to_have() {
    let mut past = Past::new();
    past.send(&alert(), &partners(), None, Layers::Release);
    past.publish(spocs());
    past.send(&alert(), &partners(), Some(&spocs()), Layers::Release);
    let mut h3 = alert();
    h3.label.handling = vec![HandlingCode::H3 as i32];
    past.send(&h3, &partners(), Some(&spocs()), Layers::Release);
    past.send(&Described { reviewed: true, ..h3 }, &partners(), Some(&spocs()), Layers::Release);
    let report = past.replay(None);
    assert!(report.is_clean() && report.decided == 12, "{report}");
    assert!(report.to_string().contains("none differs from the log"));
}

#[test]
fn a_broker_that_released_against_the_policy_is_found_out() {
    let mut past = Past::new();
    past.publish(spocs());
    past.send(
        &alert(),
        &partners(),
        Some(&set("TH", &[&policy("all", "permit", "Release", ALL)])),
        Layers::Release,
    );
    let report = past.replay(None);
    // By another policy than it says, and one to whom nothing permits it.
    assert_eq!((report.decided, report.same, report.found.len()), (3, 0, 3));
    let vp = report.found.iter().find(|one| one.to == "KH/KH-VP").unwrap();
    assert_eq!((vp.was.as_str(), vp.would_be.as_str()), ("released", "not released"));
    assert_eq!(
        (vp.was_by.as_slice(), vp.would_be_by.as_slice()),
        (&["TH/all".to_owned()][..], &["TH/nothing-releases".to_owned()][..])
    );
    assert!(report.to_string().contains("report it to the operator"));
    // One event forged the other way: a denial by a policy that never denied.
    let denied = AuditEvent {
        r#type: EventType::Denied as i32,
        policy_ids: vec!["TH/x".to_owned()],
        ..past.events[2].clone()
    };
    past.events[2] = denied;
    assert_eq!(past.replay(None).found[0].would_be, "released");
}

#[test]
fn a_candidate_shows_every_decision_that_would_flip() {
    let mut past = Past::new();
    past.publish(spocs());
    past.send(&alert(), &partners(), Some(&spocs()), Layers::Release);
    let foreign = Described { originator: unit("KH", "KH-AHT"), ..alert() };
    past.send(&foreign, &[unit("TH", "TH-SPOC")], Some(&spocs()), Layers::Accept);
    let kh = policy("kh", "permit", "Release", "when { principal in Lintas::Agency::\"KH\" }");
    let candidate = set("TH", &[&kh, &policy("members", "permit", "Accept", ALL)]);
    let report = past.replay(Some(&candidate));
    let flips: Vec<_> =
        report.found.iter().map(|one| (one.to.as_str(), one.was.as_str(), one.would_be.as_str())).collect();
    assert_eq!(
        flips,
        [
            ("KH/KH-VP", "not released", "released"),
            ("LA/LA-ATD", "released", "not released"),
            ("TH/TH-SPOC", "not accepted", "accepted"),
        ]
    );
    assert_eq!(
        (report.found[2].from.as_str(), report.found[2].would_be_by.as_slice()),
        ("KH/KH-AHT", &["TH/members".to_owned()][..])
    );
    assert!(report.to_string().contains("3 would flip"));
    // The candidate that is in force already flips nothing.
    assert!(past.replay(Some(&spocs())).is_clean());
    let mut since = Replay::new("TH", &past, Some(&candidate), NOW + 1_000);
    past.events.iter().zip(0..).for_each(|(event, index)| since.event(index, event));
    assert_eq!(since.finish().decided, 1);
}

#[test]
fn what_another_agency_did_not_take_was_let_go_by_the_own_policy() {
    let mut past = Past::new();
    past.publish(spocs());
    past.send(&alert(), &partners()[..1], Some(&spocs()), Layers::Release);
    let event = past.events.last_mut().unwrap();
    event.r#type = EventType::NotAccepted as i32;
    event.policy_ids = vec!["KH/not-accepted".to_owned()];
    assert!(past.replay(None).is_clean());
    let flipped = past.replay(Some(&set("TH", &[&policy("kh", "permit", "Accept", ALL)])));
    assert_eq!(flipped.found[0].was, "let go, and not accepted by KH");
}

#[test]
fn what_cannot_be_decided_again_is_counted_by_cause() {
    let mut past = Past::new();
    past.publish(spocs());
    past.send(&alert(), &partners()[..1], Some(&spocs()), Layers::Release);
    let events = past.events.clone();
    let report = |change: &dyn Fn(&mut Replay<'_, &Past>)| {
        let mut replay = Replay::new("TH", &past, None, 0);
        change(&mut replay);
        let report = replay.finish();
        assert!(!report.is_clean() && report.decided == 0);
        report.not_replayed.into_iter().collect::<Vec<_>>()
    };
    let [changed, submitted, released] = [&events[0], &events[1], &events[2]];
    let erased = report(&|replay| {
        replay.event(0, changed);
        replay.event(1, submitted);
        replay.erased(EventType::Released, NOW);
    });
    assert_eq!(erased, [(Cause::Erased, 1)]);
    let no_facts = report(&|replay| {
        replay.event(0, changed);
        replay.event(1, submitted);
        replay.erased(EventType::Submitted, NOW);
        replay.event(3, released);
    });
    assert_eq!(no_facts, [(Cause::NoFacts, 1)]);
    let no_bundle = report(&|replay| {
        replay.erased(EventType::PolicyChanged, NOW);
        replay.event(1, submitted);
        replay.event(2, released);
    });
    assert_eq!(no_bundle, [(Cause::UnknownBundle, 1)]);
    let no_roster = report(&|replay| {
        replay.event(0, changed);
        replay.event(1, submitted);
        replay.event(2, &AuditEvent { version: 7, ..released.clone() });
    });
    assert_eq!(no_roster, [(Cause::UnknownRoster, 1)]);
    let unreadable = report(&|replay| {
        replay.event(0, changed);
        let facts = Some(PolicyFacts { kind: 99, ..submitted.facts.clone().unwrap() });
        replay.event(2, &AuditEvent { facts, ..released.clone() });
    });
    assert_eq!(unreadable, [(Cause::Unreadable, 1)]);
}

#[test]
fn withheld_at_hand_over_is_counted_and_other_refusals_too() {
    let past = Past::new();
    let mut replay = Replay::new("TH", &past, None, 0);
    let event = |kind: EventType, reason: Reason| AuditEvent {
        r#type: kind as i32,
        reason: reason as i32,
        time_ms: NOW,
        ..AuditEvent::default()
    };
    replay.event(0, &event(EventType::Withheld, Reason::Policy));
    replay.event(1, &event(EventType::Withheld, Reason::MemberLeft));
    replay.event(2, &event(EventType::NotAccepted, Reason::Expired));
    let report = replay.finish();
    assert_eq!((report.withheld, report.otherwise, report.decided), (1, 1, 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_decided_by_the_rules_is_decided_so_again(
        bundles in proptest::collection::vec(0u16..1 << 15, 1..4),
        packets in proptest::collection::vec((0usize..5, 1i32..6, 1i32..5, any::<bool>(), any::<bool>(), any::<bool>()), 1..6),
    ) {
        let mut past = Past::new();
        for bits in bundles {
            let own = chosen("TH", bits);
            past.publish(own.clone());
            for (kind, tlp, handling, named, reviewed, accept) in &packets {
                let mut packet = Described {
                    kind: [Kind::Alert, Kind::Notice, Kind::Request, Kind::Reply, Kind::Recall][*kind],
                    named: *named,
                    reviewed: *reviewed,
                    ..alert()
                };
                (packet.label.tlp, packet.label.handling) = (*tlp, vec![*handling]);
                packet.label.data = vec![1 + *tlp];
                if *accept {
                    packet.originator = unit("KH", "KH-VP");
                    past.send(&packet, &[unit("TH", "TH-SPOC"), unit("TH", "TH-MAR")], Some(&own), Layers::Accept);
                } else {
                    past.send(&packet, &partners(), Some(&own), Layers::Release);
                }
            }
        }
        let report = past.replay(None);
        prop_assert!(report.is_clean() && report.decided > 0, "{}", report);
        let last = past.bundles.values().next().unwrap();
        let flips = past.replay(Some(last));
        prop_assert_eq!(flips.decided, flips.same + flips.found.len() as u64);
    }
}
