//! Release to some of the recipients.

use lintas_config::os_entropy;
use lintas_proto::{
    audit::leaf::open_event,
    envelope::{core::Core, seal::Sealed as Packet},
    receipt::verify_receipt,
    schema::{AuditEvent, Caveat, EventType, SignedReceipt, UnitRef},
};

use super::*;
use crate::{
    core::{log::fold::LogFold, outcome::How, snapshot},
    testing::{Book, NOW, OPEN, QUEUE_ENTRIES_MAX, World, blob, unit},
};

/// KH gets it; VN is denied by the label, and the second unit of KH by its own agency's policy.
fn scene() -> (World, Packet) {
    let mut world = World::new(NOW);
    let not_b = format!(
        "{OPEN} @id(\"not-b\") @reason(\"B does not work on this\")
        forbid (principal == Lintas::Unit::\"KH/KH-B\", action == Lintas::Action::\"Accept\", resource);"
    );
    world.set_policy("KH", &not_b);
    let to = [unit("KH", "B"), unit("VN", "A"), unit("KH", "A")];
    let packet = world.packet_with("TH", &to, |core: &mut Core| {
        core.label.caveats.push(Caveat::RelTo as i32);
        core.label.rel_to = vec!["KH".to_owned()];
        core.attachments.push(blob(b"crew").1);
    });
    (world, packet)
}

fn opened(world: &World, receipt: &Bytes) -> Vec<AuditEvent> {
    let signed: SignedReceipt = canonical::decode(receipt, limits::RECEIPT_BYTES_MAX).unwrap();
    verify_receipt(&signed, |id| world.directory.receipt_key(id)).unwrap().1
}

fn admission(fact: &Fact) -> &StoredAdmission {
    let Fact::Admission(admission) = fact else { panic!("{fact:?}") };
    admission
}

type Said<'a> = (EventType, Option<&'a str>, Vec<&'a str>);

/// Of each event the kind, the recipient's unit and the policies.
fn kinds(events: &[AuditEvent]) -> Vec<Said<'_>> {
    fn said(event: &AuditEvent) -> Said<'_> {
        let AuditEvent { r#type, recipient, policy_ids, .. } = event;
        let unit = recipient.as_ref().map(|unit| unit.unit.as_str());
        (EventType::try_from(*r#type).unwrap(), unit, policy_ids.iter().map(String::as_str).collect())
    }
    events.iter().map(said).collect()
}

#[test]
fn the_originator_reads_what_became_of_each_and_the_others_only_of_themselves() {
    let (world, packet) = scene();
    let mut book = Book::at(NOW);
    let (verdicts, group) = book.submit(&world, &[&packet]);
    assert!(matches!(verdicts[..], [Verdict::Admitted(0)]));
    let [Fact::Packet(_), stored @ Fact::Admission(_), Fact::Events(own)] = &group.facts[..] else {
        panic!("{:?}", group.facts)
    };
    let stored = admission(stored);
    let events = opened(&world, &stored.receipt);
    assert_eq!(
        kinds(&events),
        [
            (EventType::Submitted, None, vec![]),
            (EventType::NotAccepted, Some("KH-B"), vec!["KH/not-accepted"]),
            (EventType::Denied, Some("VN-A"), vec!["baseline/rel-to"]),
            (EventType::Released, Some("KH-A"), vec!["TH/release"]),
        ]
    );
    assert!(events[0].facts.is_some() && events[1..].iter().all(|event| event.facts.is_none()));
    for event in &events[1..] {
        assert!(event.named && event.version == 1);
        assert_eq!(event.policy_set_hash, world.rules.policies().hash().as_slice());
    }
    assert!(!events[1].text.contains("does not work"), "{}", events[1].text);
    assert!(events[2].text.contains("REL_TO") && events[3].text.is_empty());

    let receipts: Vec<bool> = stored.recipients.iter().map(|to| to.receipt.is_empty()).collect();
    assert_eq!(receipts, [true, true, false]);
    let theirs = opened(&world, &stored.recipients[2].receipt);
    assert_eq!(kinds(&theirs), [(EventType::Received, Some("KH-A"), vec!["KH/accept"])]);
    assert!(theirs[0].facts.is_some() && theirs[0].named && theirs[0].version == 1);

    assert_eq!(own.events.len(), 1);
    let refused = open_event(own.events[0].event.as_ref().unwrap()).unwrap();
    assert_eq!((refused.agency.as_str(), refused.policy_ids[0].as_str()), ("KH", "KH/not-b"));
    assert!(refused.text.contains("B does not work on this") && refused.facts.is_some());
    assert_eq!(refused.recipient, Some(unit("KH", "B")));
    assert_eq!(
        (book.ledger.log_size("TH"), book.ledger.log_size("KH"), book.ledger.log_size("VN")),
        (4, 2, 0)
    );
}

#[test]
fn whoever_is_denied_appears_in_no_queue_and_nowhere_else() {
    let (world, packet) = scene();
    let mut book = Book::at(NOW);
    book.submit(&world, &[&packet]);
    let restored = snapshot::decode(&snapshot::encode(&book.ledger)).unwrap();
    assert_eq!(restored, book.ledger);
    let mut again = Ledger::default();
    for (sequence, fact) in (1..).zip(&book.facts) {
        again.apply(sequence, fact).unwrap();
    }
    assert_eq!(again, book.ledger);
    for ledger in [&book.ledger, &restored] {
        assert!(ledger.queue("VN").is_none());
        let queue = ledger.queue("KH").unwrap();
        let admission = queue.after(0).next().unwrap().1.record();
        let live = ledger.packet(admission).unwrap();
        assert_eq!((live.digest, live.remaining, live.recipients.len()), (packet.digest, 1, 1));
        assert_eq!(live.recipients.get(2), Some(&unit("KH", "A")));
        let held: Vec<_> = queue.after(0).map(|(_, entry)| entry.held).collect();
        assert_eq!(held, [crate::core::queue::Held::Packet { admission, recipient_index: 2 }]);
    }
    let rung: Vec<&str> = book.facts.iter().flat_map(Fact::agencies).collect();
    assert_eq!(rung, ["KH"], "no bell rings for whoever is denied");
    // The one who has it ends it.
    let how = world.acknowledgement(&packet, &unit("KH", "A"));
    let ended = book.end(&world, "KH", 1, &how).unwrap();
    assert_eq!((ended.originator.as_str(), ended.blobs.len()), ("TH", 1));
    let evidence = book.ledger.queue("TH").unwrap().len();
    assert_eq!(evidence, 1);
    assert!(book.end(&world, "TH", 1, &How::Taken).is_none());
}

#[test]
fn the_published_log_has_every_event_at_its_place() {
    let (world, packet) = scene();
    let mut book = Book::at(NOW);
    let entropy = &mut os_entropy();
    let members = crate::core::events::members(&book.ledger, &world.rules, NOW, entropy).unwrap();
    book.apply(members).unwrap();
    let other = world.packet("VN", &[unit("KH", "B"), unit("KH", "A"), unit("TH", "A")]);
    let (_, group) = book.submit(&world, &[&packet, &other, &packet]);
    book.apply(crate::core::events::epoch(&book.ledger, &world.rules, NOW)).unwrap();
    // Once as the records say it, and once as it is handed on beside them.
    let (mut read, mut handed) =
        (LogFold::new(crate::testing::BROKER, 0), LogFold::new(crate::testing::BROKER, 0));
    let (mut promised, mut ends) = (group.promised.into_iter(), Vec::new());
    for (sequence, fact) in (1..).zip(&book.facts) {
        // The test's speaker names the log as the broker.
        let one = read.apply(sequence, fact, entropy).unwrap_or_else(|error| panic!("{sequence}: {error}"));
        let other = if matches!(fact, Fact::Admission(_)) {
            handed.apply_events(sequence, &promised.next().unwrap(), entropy)
        } else {
            handed.apply(sequence, fact, entropy)
        };
        ends.push((one.and_then(|one| one.end), other.unwrap().and_then(|other| other.end)));
    }
    let (read, handed) = ends.pop().unwrap();
    assert!(read.is_some() && read == handed && promised.next().is_none());
}

#[test]
fn a_packet_admitted_in_part_keeps_its_receipt_whatever_policies_say_later() {
    let (mut world, packet) = scene();
    let mut book = Book::at(NOW);
    book.submit(&world, &[&packet]);
    world.set_policy("KH", OPEN);
    let (verdicts, group) = book.submit(&world, &[&packet]);
    assert!(matches!(verdicts[..], [Verdict::Known(2)]) && group.facts.is_empty(), "nothing is revived");
}

#[test]
fn policies_that_change_between_a_session_and_its_turn_are_asked_again() {
    let mut world = World::new(NOW);
    let book = Book::at(NOW);
    let packet = world.packet("TH", &[unit("KH", "A"), unit("VN", "A")]);
    let verified = world.admit(&packet).unwrap();
    assert_eq!(verified.judged().denied().count(), 0);
    world.set_policy("KH", "");
    let plan = |world: &World, now_ms| {
        let (speaker, mut quota) = (world.speaker(), Quota::new(0, QUEUE_ENTRIES_MAX));
        let mut plan = Plan::new(&book.ledger, &speaker, &world.rules, now_ms, &mut quota);
        let verdict = plan.submit(verified.clone(), |_| true, &mut os_entropy());
        (verdict, plan.finish().seal(&world.receipt_key))
    };
    let (verdict, group) = plan(&world, NOW);
    assert!(matches!(verdict, Verdict::Admitted(0)));
    let events = opened(&world, &admission(&group.unwrap().facts[1]).receipt);
    let found: Vec<_> = kinds(&events).into_iter().map(|(kind, ..)| kind).collect();
    assert_eq!(found, [EventType::Submitted, EventType::NotAccepted, EventType::Released]);
    world.set_policy("VN", "");
    let (Verdict::Refused(refused), _) = plan(&world, NOW) else { panic!("released") };
    assert_eq!((refused.reason, refused.concerns.unwrap().denials.len()), (Reason::Policy, 2));
}

#[test]
fn a_packet_is_judged_at_the_time_that_its_events_bear() {
    let mut world = World::new(NOW);
    world.set_policy(
        "TH",
        &format!(
            "{OPEN} @id(\"over\") @reason(\"the operation is over\") forbid (principal, action, resource)
            when {{ context.now >= datetime(\"2026-01-15T08:00:05Z\") }};"
        ),
    );
    let mut book = Book::at(NOW + 6_000);
    let other = world.packet("VN", &[unit("KH", "A")]);
    book.submit(&world, &[&other]);
    // The clock goes back: the log does not.
    book.now_ms = NOW;
    let packet = world.packet("TH", &[unit("KH", "A")]);
    let (verdicts, _) = book.submit(&world, &[&packet]);
    let [Verdict::Refused(refused)] = &verdicts[..] else { panic!("{verdicts:?}") };
    assert_eq!(refused.policy_id, "TH/over");
}

#[test]
fn nobody_reads_anothers_policy_by_trying() {
    let mut world = World::new(NOW);
    world.set_policy("KH", "");
    let (book, speaker) = (Book::at(NOW), world.speaker());
    let mut quota = Quota::new(0, QUEUE_ENTRIES_MAX);
    let mut plan = Plan::new(&book.ledger, &speaker, &world.rules, NOW, &mut quota);
    let mut submit = |from: &str, to: &[UnitRef]| {
        let packet = world.packet(from, to);
        match plan.submit(world.admit(&packet).unwrap(), |_| true, &mut os_entropy()) {
            Verdict::Refused(refused) => (refused.reason, refused.text),
            Verdict::Admitted(_) => (Reason::Accepted, String::new()),
            other @ (Verdict::Known(_) | Verdict::Twin(_)) => panic!("{other:?}"),
        }
    };
    let (kh, vn) = (unit("KH", "A"), unit("VN", "A"));
    for number in 0..30 {
        assert_eq!(submit("TH", std::slice::from_ref(&kh)).0, Reason::Policy, "{number}");
        assert_eq!(submit("TH", &[kh.clone(), vn.clone()]).0, Reason::Accepted, "{number}");
    }
    let (reason, text) = submit("TH", std::slice::from_ref(&kh));
    assert_eq!(reason, Reason::Quota);
    assert!(text.contains("again in 10 s") && !text.contains("KH"), "{text}");
    assert_eq!(submit("TH", &[kh.clone(), vn.clone()]).0, Reason::Quota, "in part alike");
    assert_eq!(submit("TH", std::slice::from_ref(&vn)).0, Reason::Accepted, "who is accepted goes on");
    assert_eq!(submit("VN", std::slice::from_ref(&kh)).0, Reason::Policy, "others have their own");
    assert_eq!(submit("KH", &[unit("KH", "B")]).0, Reason::Policy, "its own policy is no secret to it");
    let mut plan = Plan::new(&book.ledger, &speaker, &world.rules, NOW + 10_000, &mut quota);
    let packet = world.packet("TH", std::slice::from_ref(&kh));
    let verdict = plan.submit(world.admit(&packet).unwrap(), |_| true, &mut os_entropy());
    assert!(matches!(verdict, Verdict::Refused(refused) if refused.reason == Reason::Policy));
}

#[test]
fn only_who_gets_it_needs_room_in_its_queue() {
    let (world, packet) = scene();
    let mut book = Book::at(NOW);
    let full = crate::core::queue::Entry {
        held: crate::core::queue::Held::Packet { admission: 2, recipient_index: 0 },
        not_before_ms: 0,
        deliver_by_ms: u64::MAX - 1,
    };
    let queue = book.ledger.queues.entry("VN".to_owned()).or_default();
    (0..QUEUE_ENTRIES_MAX).for_each(|_| queue.push(full, "TH"));
    let speaker = world.speaker();
    let mut quota = Quota::new(0, QUEUE_ENTRIES_MAX);
    let mut plan = Plan::new(&book.ledger, &speaker, &world.rules, NOW, &mut quota);
    let verdict = plan.submit(world.admit(&packet).unwrap(), |_| true, &mut os_entropy());
    assert!(matches!(verdict, Verdict::Admitted(0)), "VN is denied: {verdict:?}");
}
