//! What policies keep from whom: asked again when a packet is sealed again, at the recipient, and told by the broker.

use std::time::Duration;

use bytes::Bytes;
use lintas_config::{os_entropy, policy::Bundle};
use lintas_proto::{
    audit::leaf::log_event,
    canonical,
    evidence::{Evidence, sign_evidence},
    frame::FrameType,
    limits,
    receipt::{Receipt, sign_receipts, sub_log_origin},
    schema::{
        Acknowledgement, AuditEvent, EventType, EvidenceDelivery, Outcome, Reason, SignedEvidence, Stage,
        Submission, UnitRef,
    },
};
use tokio::time::timeout;

use super::{reseal_tests::refuse, *};
use crate::{
    core::view::{Arrival, Standing},
    testing::{AMBER, BROKER, OPEN, REGION, Region, core, digest, draft, submission_events},
};

const NO_ALERTS: &str = r#"
@id("all")
@reason("for tests")
permit (principal, action in Lintas::Action::"transfer", resource);

@id("no-alerts")
@reason("Operation Lotus is secret")
@advice("ask the duty officer")
@public_reason("alerts go to the duty desk by telephone")
forbid (principal, action == Lintas::Action::"Accept", resource)
when { resource.kind == Lintas::Kind::"ALERT" };
"#;

const NOT_TO_KH: &str = r#"
@id("all")
@reason("for tests")
permit (principal, action == Lintas::Action::"Release", resource);

@id("not-to-kh")
@reason("the agreement with KH has ended")
forbid (principal in Lintas::Agency::"KH", action == Lintas::Action::"Release", resource);
"#;

fn unit(agency: &str, unit: &str) -> UnitRef {
    UnitRef { agency: agency.to_owned(), unit: unit.to_owned() }
}

/// Seals a packet from Thailand.
fn packet_to(desk: &Desk, to: &[&str], label: &str) -> Submission {
    desk.send(&draft(to, "t", label, "NONE"), &[], &[], None, &How::default(), &mut os_entropy()).unwrap();
    next(desk).unwrap()
}

fn next(desk: &Desk) -> Option<Submission> {
    let next = desk.next_submission().unwrap().ok()?;
    Some(canonical::decode(&next.bytes, limits::FRAME_BYTES_MAX).unwrap())
}

fn id(packet: &Submission) -> String {
    core(&packet.header).packet_id.to_string()
}

fn hear(desk: &Desk, kind: FrameType, payload: Bytes) -> Vec<Acknowledgement> {
    desk.settle(desk.judge(vec![Heard { kind, payload }])).unwrap().acknowledgements
}

fn deliver(region: &Region, desk: &Desk, packet: &Submission) -> Vec<Acknowledgement> {
    hear(desk, FrameType::Delivery, canonical::encode(&region.delivery(packet, 0, 1)))
}

/// What the recipient signed.
fn said(acknowledgement: &Acknowledgement) -> Evidence {
    let signed: SignedEvidence =
        canonical::decode(&acknowledgement.evidence, limits::SIGNED_EVIDENCE_BYTES_MAX).unwrap();
    Evidence::parse(&signed.evidence).unwrap()
}

/// Evidence of somebody about a packet for KH-AHT.
fn tell(region: &Region, desk: &Desk, packet: &Submission, change: impl FnOnce(&mut Evidence)) {
    let mut said = Evidence {
        region: REGION.to_owned(),
        stage: Stage::Delivery,
        outcome: Outcome::Acceptance,
        reason: Reason::Accepted,
        text: String::new(),
        packet_id: core(&packet.header).packet_id,
        header_digest: digest(packet),
        actor: unit("KH", "KH-AHT"),
        recipient: Some(unit("KH", "KH-AHT")),
        time_ms: clock::now_ms(),
        leaf: None,
        policy_id: String::new(),
        directory_hash: *region.directory().hash(),
    };
    change(&mut said);
    let key =
        if said.actor.unit.is_empty() { region.receipt_key() } else { region.packet_key(&said.actor.agency) };
    let evidence = canonical::encode(&sign_evidence(&[said], &key).unwrap()[0]);
    let delivery = EvidenceDelivery { queue_sequence: 9, evidence };
    hear(desk, FrameType::Evidence, canonical::encode(&delivery));
}

fn arrivals(desk: &Desk, packet: &Submission) -> Vec<Arrival> {
    desk.standing(&id(packet)).unwrap().recipients
}

fn states(desk: &Desk, packet: &Submission) -> Vec<String> {
    arrivals(desk, packet).into_iter().map(|arrival| arrival.state).collect()
}

#[test]
fn what_the_own_policy_does_not_take_is_answered_and_nothing_of_it_is_kept() {
    let region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    region.give(&cambodia, NO_ALERTS);
    let packet = packet_to(&thailand, &["KH/KH-AHT"], AMBER);
    let answer = deliver(&region, &cambodia, &packet);
    let evidence = said(&answer[0]);
    assert_eq!((evidence.outcome, evidence.reason), (Outcome::Rejection, Reason::Policy));
    assert_eq!(evidence.policy_id, "KH/not-accepted");
    assert!(evidence.text.contains("alerts go to the duty desk by telephone"), "{}", evidence.text);
    assert!(!evidence.text.contains("Lotus") && !evidence.text.contains("no-alerts"), "{}", evidence.text);
    // At home it stands whole.
    let inbox = cambodia.inbox(9).unwrap();
    assert_eq!((inbox.total, inbox.rejected.len()), (0, 1));
    let why = &inbox.rejected[0].text;
    assert!(why.contains("ALERT from TH/TH-MAR") && why.contains("Operation Lotus is secret"), "{why}");
    assert!(why.contains("(policy KH/no-alerts)") && why.contains("ask the duty officer"), "{why}");
    assert!(cambodia.show(&id(&packet)).is_err());
    // What was refused is not taken when the policy is a looser one: the sender was told.
    region.give(&cambodia, OPEN);
    assert_eq!(deliver(&region, &cambodia, &packet), answer);
    assert_eq!(cambodia.status().received, 0);
    // And that is what the sender sees.
    hear(&thailand, FrameType::Receipt, region.submitted("TH", &packet));
    let delivery = EvidenceDelivery { queue_sequence: 1, evidence: answer[0].evidence.clone() };
    hear(&thailand, FrameType::Evidence, canonical::encode(&delivery));
    let arrival = arrivals(&thailand, &packet).remove(0);
    assert_eq!(
        (arrival.state.as_str(), arrival.policies),
        ("not-accepted", vec!["KH/not-accepted".to_owned()])
    );
    assert!(arrival.why.unwrap().contains("duty desk"));
}

#[test]
fn the_baseline_is_asked_at_the_recipient_too() {
    let region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    // Sealed under a roster whose baseline forbids nothing of the kind: the sender's node may be anybody's.
    let packet = packet_to(&thailand, &["KH/KH-AHT"], r#""tlp": "TLP_RED""#);
    let mut delivery = region.delivery(&packet, 0, 1);
    assert!(packet.openings[0].named);
    delivery.opening.as_mut().unwrap().named = false;
    // The opening is bound by the commitment: a broker cannot unname it.
    let answer = hear(&cambodia, FrameType::Delivery, canonical::encode(&delivery));
    assert_eq!(said(&answer[0]).outcome, Outcome::Failure);
    assert_eq!(said(&deliver(&region, &cambodia, &packet)[0]).outcome, Outcome::Acceptance);
}

#[test]
fn without_the_own_policy_a_delivery_is_neither_taken_nor_refused() {
    let region = Region::new();
    let thailand = region.desk("TH");
    let cambodia = region.desk_without_policy("KH", "127.0.0.1:1");
    let packet = packet_to(&thailand, &["KH/KH-AHT"], AMBER);
    assert_eq!(deliver(&region, &cambodia, &packet), []);
    let status = cambodia.status();
    assert_eq!((status.received, status.rejected), (0, 0));
    assert!(status.warnings.iter().any(|one| one.contains("knows no release policy of its own agency")));
    assert!(status.link.unwrap().trouble.contains("can neither be taken nor refused"));
    let checks = cambodia.doctor();
    let check = checks.iter().find(|check| check.check == "own_policy").unwrap();
    assert_eq!(check.mark, crate::core::health::Mark::Wrong);
    // Nor is anything sent.
    let text = draft(&["TH/TH-VIC"], "t", AMBER, "NONE").replace("TH-MAR", "KH-AHT");
    let refused = cambodia.send(&text, &[], &[], None, &How::default(), &mut os_entropy()).unwrap_err();
    assert!(refused.message.contains("KH has not published a release policy"), "{refused}");
    // When it has come, what waits is delivered again and taken.
    region.give(&cambodia, OPEN);
    assert_eq!(said(&deliver(&region, &cambodia, &packet)[0]).outcome, Outcome::Acceptance);
    assert!(cambodia.status().warnings.is_empty());
}

#[tokio::test]
async fn what_was_left_until_a_policy_begins_is_delivered_again_when_it_begins() {
    let region = Region::new();
    let packet = packet_to(&region.desk("TH"), &["KH/KH-AHT"], AMBER);
    let cambodia = region.desk_without_policy("KH", "127.0.0.1:1");
    let begins_ms = clock::now_ms() + 3_600_000;
    let first = region.policy("KH", None, begins_ms, OPEN);
    cambodia.shelf().publish(&Bundle::open(&first, &region.directory()).unwrap(), clock::now_ms()).unwrap();
    assert_eq!(deliver(&region, &cambodia, &packet), []);
    let woken = async |desk: &Desk| timeout(Duration::ZERO, desk.renewed()).await.is_ok();
    cambodia.look_for_policy(begins_ms - 1);
    assert!(!woken(&cambodia).await, "its time has not come");
    cambodia.look_for_policy(begins_ms);
    assert!(woken(&cambodia).await, "the session is opened anew, so that it comes again");
    cambodia.look_for_policy(begins_ms);
    assert!(!woken(&cambodia).await, "once");
    assert_eq!(deliver(&region, &cambodia, &packet), [], "that somebody looked ahead puts nothing in force");
    let payload = canonical::encode(&region.delivery(&packet, 0, 1));
    let step = cambodia.judge_at(Heard { kind: FrameType::Delivery, payload }, begins_ms);
    let settled = cambodia.settle(vec![step]).unwrap();
    assert_eq!(said(&settled.acknowledgements[0]).outcome, Outcome::Acceptance);
}

#[test]
fn a_packet_that_a_policy_denies_by_now_is_not_sealed_again_and_says_why() {
    let mut region = Region::new();
    let desk = region.desk("TH");
    let packet = packet_to(&desk, &["KH/KH-AHT"], AMBER);
    region.rotate("KH");
    let second = region.next(|_| {});
    let second = region.open(&second);
    refuse(&region, &desk, &packet, Reason::Reseal);
    assert!(desk.take_update(&Region::update(&desk.directory(), &[&second])).unwrap());
    region.give(&desk, NOT_TO_KH);
    assert!(!desk.seal_again().unwrap());
    drop(desk);
    let desk = region.desk("TH");
    let entry = desk.standing(&id(&packet)).unwrap();
    let Standing::Refused { why, .. } = entry.standing else { panic!("not refused") };
    assert!(why.contains("the agreement with KH has ended (policy TH/not-to-kh)"), "{why}");
    assert!(entry.replaced_by.is_none() && next(&desk).is_none());
}

#[test]
fn a_recipient_is_chosen_when_sealed_again_as_it_was_before() {
    let mut region = Region::new();
    let desk = region.desk("TH");
    let first = packet_to(&desk, &["ID", "KH/KH-AHT"], AMBER);
    assert_eq!(first.openings.iter().map(|o| o.named).collect::<Vec<_>>(), [false, true]);
    region.rotate("KH");
    let second = region.next(|_| {});
    let second = region.open(&second);
    refuse(&region, &desk, &first, Reason::Reseal);
    assert!(desk.take_update(&Region::update(&desk.directory(), &[&second])).unwrap());
    desk.seal_again().unwrap();
    let again = next(&desk).unwrap();
    assert_eq!(again.openings.iter().map(|o| o.named).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn a_partial_release_is_told_recipient_by_recipient() {
    let region = Region::new();
    let desk = region.desk("TH");
    let to = ["ID/ID-CID", "ID/ID-NCB", "KH/KH-AHT"];
    let first = packet_to(&desk, &to, AMBER);
    assert_eq!(states(&desk, &first), ["pending"; 3]);
    let mut events = submission_events(&first);
    events[1].0 = EventType::Denied;
    events[3].0 = EventType::NotAccepted;
    hear(&desk, FrameType::Receipt, region.receipt("TH", &first.header, &events));
    drop(desk);
    let desk = region.desk("TH");
    let entry = desk.standing(&id(&first)).unwrap();
    assert!(matches!(entry.standing, Standing::Accepted { in_part: true, .. }));
    assert_eq!(states(&desk, &first), ["denied", "released", "not-accepted"]);
    let arrivals = arrivals(&desk, &first);
    let why = |at: usize| arrivals[at].why.clone().unwrap();
    assert!(why(0).contains("the regional baseline (baseline/for-tests)"), "{}", why(0));
    assert!(
        why(2).contains("the policy of KH (KH/not-accepted)") && why(2).contains("What to do"),
        "{}",
        why(2)
    );
    // The chain to a recipient counts what was released to it, and nothing else.
    let second = packet_to(&desk, &to, AMBER);
    let previous = |at: usize| {
        let unit = unit(&second.openings[at].agency, &second.openings[at].unit);
        desk.store.state().previous_to(&unit)
    };
    assert_eq!([previous(0), previous(1), previous(2)], [[0; 32], digest(&first), [0; 32]]);
    // A loosening at the broker changes nothing about the first.
    hear(&desk, FrameType::Receipt, region.submitted("TH", &second));
    assert_eq!(states(&desk, &second), ["released"; 3]);
    assert_eq!(states(&desk, &first), ["denied", "released", "not-accepted"]);
    // What is withheld later is told with the policy.
    tell(&region, &desk, &second, |said| {
        said.actor = unit(BROKER, "");
        (said.outcome, said.reason) = (Outcome::Failure, Reason::Policy);
        said.policy_id = "TH/not-to-kh".to_owned();
        said.text = "The release policy of TH does not release it any more.".to_owned();
    });
    let withheld = desk.standing(&id(&second)).unwrap().recipients.remove(2);
    assert_eq!((withheld.state.as_str(), withheld.policies), ("withheld", vec!["TH/not-to-kh".to_owned()]));
    assert!(withheld.why.unwrap().contains("does not release it any more"));
}

/// A receipt for a packet whose events are changed before they are signed.
fn changed(region: &Region, packet: &Submission, change: impl Fn(&mut AuditEvent)) -> Bytes {
    let (now, core) = (clock::now_ms(), core(&packet.header));
    let event = |(kind, unit): (EventType, Option<UnitRef>)| {
        let mut event = AuditEvent {
            r#type: kind as i32,
            agency: "TH".to_owned(),
            time_ms: now,
            packet_id: Bytes::copy_from_slice(core.packet_id.as_bytes()),
            header_digest: Bytes::copy_from_slice(&digest(packet)),
            originator: Some(core.originator.clone()),
            recipient: unit,
            directory_hash: Bytes::copy_from_slice(region.directory().hash()),
            reason: Reason::Accepted as i32,
            ..AuditEvent::default()
        };
        change(&mut event);
        event
    };
    let events = (70..).zip(submission_events(packet)).map(|(at, said)| log_event(at, [9; 32], &event(said)));
    let receipt = Receipt {
        origin: sub_log_origin(BROKER, "TH"),
        packet_id: core.packet_id,
        header_digest: digest(packet),
        time_ms: now,
        deadline_ms: now + 10_000,
        events: events.collect(),
    };
    canonical::encode(&sign_receipts(&[receipt.to_bytes()], &region.receipt_key()).unwrap()[0])
}

#[test]
fn a_denial_counts_only_from_whom_it_may_come() {
    let region = Region::new();
    let desk = region.desk("TH");
    let packet = packet_to(&desk, &["KH/KH-AHT"], AMBER);
    let says = |kind: EventType, reason: Reason, ids: &[&str]| {
        let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
        let receipt = changed(&region, &packet, |event| {
            if event.recipient.is_some() {
                (event.r#type, event.reason, event.policy_ids) = (kind as i32, reason as i32, ids.clone());
            }
        });
        hear(&desk, FrameType::Receipt, receipt);
        matches!(desk.standing(&id(&packet)).unwrap().standing, Standing::Accepted { .. })
    };
    // Nobody is told what another agency's policy says, and no other agency denies.
    assert!(!says(EventType::NotAccepted, Reason::Policy, &["KH/secret"]));
    assert!(!says(EventType::NotAccepted, Reason::Policy, &["ID/not-accepted"]));
    assert!(!says(EventType::NotAccepted, Reason::Policy, &["KH/not-accepted", "KH/secret"]));
    assert!(!says(EventType::Denied, Reason::Policy, &["KH/not-accepted"]));
    assert!(!says(EventType::Denied, Reason::Policy, &["TH/a", "ID/b"]));
    assert!(!says(EventType::Denied, Reason::Policy, &[]));
    assert!(!says(EventType::Denied, Reason::Quota, &["TH/a"]));
    assert!(!says(EventType::Released, Reason::Policy, &["TH/a"]));
    assert!(!says(EventType::Withheld, Reason::Policy, &["TH/a"]));
    assert!(says(EventType::Denied, Reason::Policy, &["TH/a"]));
}

#[test]
fn a_broker_that_gives_a_packet_to_somebody_whom_its_receipt_denies_is_found_out() {
    let region = Region::new();
    let desk = region.desk("TH");
    let packet = packet_to(&desk, &["ID/ID-CID", "KH/KH-AHT"], AMBER);
    let mut events = submission_events(&packet);
    events[2].0 = EventType::Denied;
    hear(&desk, FrameType::Receipt, region.receipt("TH", &packet.header, &events));
    assert_eq!(desk.noted().len(), 0);
    tell(&region, &desk, &packet, |_| {});
    drop(desk);
    let desk = region.desk("TH");
    // It has it, whatever the broker says; and that is an alarm.
    assert_eq!(states(&desk, &packet), ["released", "delivered"]);
    let noted = desk.noted();
    assert_eq!((noted.len(), noted[0].kind.as_str()), (1, "delivered-though-denied"));
    assert!(noted[0].text.contains("KH/KH-AHT") && noted[0].text.contains("baseline/for-tests"));
    assert_eq!(desk.findings().unwrap()[0].exhibits.len(), 2);
    // A failure of theirs, or the broker's word, is none.
    let other = packet_to(&desk, &["ID/ID-CID", "KH/KH-AHT"], AMBER);
    hear(&desk, FrameType::Receipt, region.submitted("TH", &other));
    tell(&region, &desk, &other, |_| {});
    assert_eq!(desk.noted().len(), 1);
}
