use lintas_config::os_entropy;
use lintas_proto::{
    audit::leaf::open_event,
    envelope::seal::Sealed,
    evidence::verify_evidence,
    schema::{EventType, MemberStatus, Reason, SignedEvidence},
};

use super::*;
use crate::{
    core::{outcome, record::Fact, snapshot},
    testing::{Book, NOW, OPEN, World, blob, unit},
};

/// KH and VN have a packet of TH in their queues.
fn scene() -> (World, Book, Sealed) {
    let (world, mut book) = (World::new(NOW), Book::at(NOW));
    let packet = world.packet_with("TH", &[unit("KH", "A"), unit("VN", "A")], |core| {
        core.attachments.push(blob(b"crew").1);
    });
    book.submit(&world, &[&packet]);
    (world, book, packet)
}

fn asked(packet: &Sealed, at: u32) -> Asked {
    Asked::read(&packet.submission, at).unwrap()
}

fn how(world: &World, book: &Book, packet: &Sealed) -> Option<How> {
    end_of(("KH", 1), &asked(packet, 0), &book.ledger, &world.rules, NOW)
}

/// Both events of an end, and the evidence.
fn events(world: &World, book: &Book, how: &How) -> (Vec<lintas_proto::schema::AuditEvent>, Fact) {
    let end = outcome::end(("KH", 1), how, &book.ledger, &world.speaker(), NOW, &mut os_entropy());
    let fact = end.unwrap().unwrap();
    let Fact::Outcome(outcome) = &fact else { panic!() };
    let opened = outcome.events.iter().map(|event| open_event(event.event.as_ref().unwrap()).unwrap());
    (opened.collect(), fact)
}

#[test]
fn what_is_still_allowed_is_handed_over() {
    let (world, book, packet) = scene();
    assert!(
        may_have(&asked(&packet, 0), &world.rules, NOW) && may_have(&asked(&packet, 1), &world.rules, NOW)
    );
    assert!(how(&world, &book, &packet).is_none());
    assert_eq!(Asked::read(&packet.submission, 2).unwrap_err(), UnreadableError::Recipient(2));
    let mut spoiled = packet.submission.clone();
    spoiled.header = spoiled.header.slice(1..);
    assert!(Asked::read(&spoiled, 0).is_err());
}

#[test]
fn after_a_tightening_of_the_recipients_own_policy_it_reads_why_and_the_originator_does_not() {
    let (mut world, mut book, packet) = scene();
    world.set_policy("KH", "");
    assert!(
        !may_have(&asked(&packet, 0), &world.rules, NOW) && may_have(&asked(&packet, 1), &world.rules, NOW)
    );
    let denied = how(&world, &book, &packet).unwrap();
    let (events, fact) = events(&world, &book, &denied);
    let said: Vec<_> =
        events.iter().map(|event| (event.agency.as_str(), event.policy_ids[0].as_str())).collect();
    assert_eq!(said, [("TH", "KH/not-accepted"), ("KH", "KH/nothing-accepts")]);
    for event in &events {
        assert_eq!((event.r#type, event.reason), (EventType::Withheld as i32, Reason::Policy as i32));
        assert_eq!(event.policy_set_hash, world.rules.policies().hash().as_slice(), "the rules that decided");
        assert_eq!(event.version, 1);
    }
    assert!(events[1].text.contains("no policy of KH accepts"), "{}", events[1].text);
    let Fact::Outcome(outcome) = &fact else { panic!() };
    let signed: SignedEvidence =
        canonical::decode(&outcome.evidence, limits::SIGNED_EVIDENCE_BYTES_MAX).unwrap();
    let evidence = verify_evidence(&signed, |_, id| world.directory.receipt_key(id)).unwrap();
    assert_eq!((evidence.reason, evidence.policy_id.as_str()), (Reason::Policy, "KH/not-accepted"));
    assert_eq!((&evidence.text, evidence.recipient), (&events[0].text, Some(unit("KH", "A"))));
    book.apply(fact).unwrap();
    assert!(book.ledger.queue("KH").unwrap().is_empty() && !book.ledger.queue("VN").unwrap().is_empty());
    // A loosening revives nothing: neither the entry nor the attachment.
    world.set_policy("KH", OPEN);
    assert!(how(&world, &book, &packet).is_none());
    for ledger in [book.ledger.clone(), snapshot::decode(&snapshot::encode(&book.ledger)).unwrap()] {
        let (_, live) = ledger.packet_by_digest(&packet.digest).unwrap();
        assert_eq!(live.recipients.iter().map(|(_, unit)| unit).collect::<Vec<_>>(), [&unit("VN", "A")]);
        assert_eq!(ledger, book.ledger);
    }
}

#[test]
fn after_a_tightening_of_the_originators_policy_the_recipient_reads_no_more_than_that_it_is_withheld() {
    let (mut world, book, packet) = scene();
    world.set_policy("TH", "");
    let (events, _) = events(&world, &book, &how(&world, &book, &packet).unwrap());
    assert_eq!(events[0].policy_ids, ["TH/nothing-releases"]);
    assert!(events[0].text.contains("no policy of TH releases ALERT"), "{}", events[0].text);
    assert_eq!(
        (events[1].agency.as_str(), events[1].policy_ids.len(), events[1].text.as_str()),
        ("KH", 0, "")
    );
    assert_eq!(events[1].reason, Reason::Policy as i32);
    assert_eq!(events[0].evidence_digest, events[1].evidence_digest);
}

#[test]
fn a_moment_that_passes_while_a_packet_waits_counts() {
    let mut world = World::new(NOW);
    world.set_policy(
        "TH",
        &format!(
            "{OPEN} @id(\"over\") @reason(\"the operation is over\") forbid (principal, action, resource)
            when {{ context.now >= datetime(\"2026-01-15T08:00:05Z\") }};"
        ),
    );
    let mut book = Book::at(NOW);
    let packet = world.packet("TH", &[unit("KH", "A")]);
    book.submit(&world, &[&packet]);
    let asked = asked(&packet, 0);
    assert!(may_have(&asked, &world.rules, NOW + 4_999) && !may_have(&asked, &world.rules, NOW + 5_000));
    assert!(end_of(("KH", 1), &asked, &book.ledger, &world.rules, NOW + 5_000).is_some());
}

#[test]
fn a_session_that_was_behind_does_not_end_what_may_be_handed_over_by_now() {
    let (mut world, book, packet) = scene();
    world.set_policy("KH", "");
    assert!(!may_have(&asked(&packet, 0), &world.rules, NOW), "says the session");
    world.set_policy("KH", OPEN);
    assert!(how(&world, &book, &packet).is_none(), "says the sequencer in its turn");
}

#[test]
fn nobody_ends_anything_but_what_it_asked_about() {
    let (mut world, mut book, packet) = scene();
    let other = world.packet("TH", &[unit("KH", "A")]);
    book.submit(&world, &[&other]);
    world.set_policy("KH", "");
    let end = |entry, asked: &Asked| end_of(entry, asked, &book.ledger, &world.rules, NOW);
    assert!(end(("KH", 1), &asked(&other, 0)).is_none(), "another packet");
    assert!(end(("KH", 1), &asked(&packet, 1)).is_none(), "another recipient");
    assert!(end(("KH", 9), &asked(&packet, 0)).is_none(), "no such entry");
    assert!(matches!(end(("KH", 2), &asked(&other, 0)), Some(How::Denied(_))));
}

#[test]
fn whoever_has_left_is_said_to_have_left() {
    let (mut world, book, packet) = scene();
    world.set_status("KH", MemberStatus::Suspended);
    world.publish_next();
    assert!(!may_have(&asked(&packet, 0), &world.rules, NOW));
    assert!(matches!(how(&world, &book, &packet), Some(How::Withheld { left: Left::Agency, .. })));
}

#[test]
fn an_agency_judges_what_it_sends_to_itself_too() {
    let (mut world, mut book) = (World::new(NOW), Book::at(NOW));
    let packet = world.packet("TH", &[unit("TH", "B")]);
    book.submit(&world, &[&packet]);
    assert!(may_have(&asked(&packet, 0), &world.rules, NOW));
    world.set_policy("TH", "");
    let ended = end_of(("TH", 1), &asked(&packet, 0), &book.ledger, &world.rules, NOW);
    assert!(matches!(ended, Some(How::Denied(_))));
}
