use lintas_config::os_entropy;
use lintas_proto::{
    audit::leaf::open_event,
    canonical,
    evidence::verify_evidence,
    limits,
    schema::{EventType, MemberStatus, Outcome, Reason, SignedEvidence, Stage},
};

use super::*;
use crate::{
    core::{
        admit,
        outcome::{self, How},
        plan::{Plan, Verdict},
        quota::Quota,
        record::Fact,
    },
    testing::{Book, NOW, QUEUE_ENTRIES_MAX, World, unit},
};

/// TH has written to KH (both units) and VN.
fn scene() -> (World, Book) {
    let (world, mut book) = (World::new(NOW), Book::at(NOW));
    let first = world.packet("TH", &[unit("KH", "A"), unit("KH", "B"), unit("VN", "A")]);
    let second = world.packet("TH", &[unit("KH", "B")]);
    book.submit(&world, &[&first, &second]);
    (world, book)
}

fn all(book: &Book, world: &World, units: bool) -> Vec<(String, u64, Left)> {
    let (mut sweep, mut found) = (Sweep::new(units), Vec::new());
    while !sweep.is_over() {
        found.extend(sweep.next(&book.ledger, &world.directory));
    }
    found
}

#[test]
fn whoever_leaves_is_found_and_nobody_else() {
    let (mut world, book) = scene();
    assert_eq!(all(&book, &world, true), []);
    let kh = |number, left| ("KH".to_owned(), number, left);
    for status in [MemberStatus::Suspended, MemberStatus::Revoked] {
        world.set_status("KH", status);
        world.publish_next();
        let left = Left::Agency;
        assert_eq!(all(&book, &world, false), [kh(1, left), kh(2, left), kh(3, left)], "{status:?}");
    }
    world.set_status("KH", MemberStatus::Active);
    world.publish();
    assert_eq!(all(&book, &world, true), []);
    world.roster.members[0].units.remove(1);
    world.publish();
    assert_eq!(all(&book, &world, false), [], "keysets take no units away");
    assert_eq!(all(&book, &world, true), [kh(2, Left::Unit), kh(3, Left::Unit)]);
    let revoked = world.revocation("KH");
    world.put_keyset(revoked);
    let left = Left::Keys;
    assert_eq!(all(&book, &world, false), [kh(1, left), kh(2, left), kh(3, left)]);
}

#[test]
fn what_was_sealed_for_an_identity_that_vouches_for_nobody_is_withheld() {
    let (mut world, book) = scene();
    let before = world.directory.clone();
    world.change_identity("KH");
    world.publish_next();
    let held = before.succeed(world.directory.bytes(), &[]).unwrap();
    let found = |directory: &Directory| Sweep::new(false).next(&book.ledger, directory);
    let kh = |number| ("KH".to_owned(), number, Left::Identity);
    assert_eq!(found(&held), [kh(1), kh(2), kh(3)]);
    assert_eq!(found(&held.by_roster_alone().unwrap()), []);
}

#[test]
fn a_new_keyset_withholds_nothing() {
    let (mut world, book) = scene();
    let next = world.next_keyset("KH");
    world.put_keyset(next);
    assert_eq!(all(&book, &world, true), []);
}

#[test]
fn a_long_queue_is_gone_through_in_parts() {
    let (mut world, mut book) = (World::new(NOW), Book::at(NOW));
    let packets: Vec<_> = (0..150).map(|_| world.packet("TH", &[unit("KH", "A"), unit("VN", "A")])).collect();
    for packet in &packets {
        book.submit(&world, &[packet]);
    }
    world.set_status("KH", MemberStatus::Revoked);
    world.set_status("VN", MemberStatus::Suspended);
    world.publish_next();
    let mut sweep = Sweep::new(true);
    let first = sweep.next(&book.ledger, &world.directory);
    assert_eq!((first.len(), sweep.is_over()), (WITHHELD_MAX, false));
    // What was found is gone before the next part, as at the sequencer.
    for (agency, number, left) in &first {
        book.end(&world, agency, *number, &How::Withheld { left: *left, roster_version: 2 });
    }
    let second = sweep.next(&book.ledger, &world.directory);
    assert_eq!((second.len(), sweep.is_over()), (300 - WITHHELD_MAX, true));
    assert!(second.iter().all(|(agency, ..)| agency == "VN"));
}

#[test]
fn what_is_withheld_ends_with_signed_evidence_for_its_originator() {
    let (mut world, mut book) = scene();
    world.set_status("KH", MemberStatus::Revoked);
    world.publish_next();
    let how = How::Withheld { left: Left::Agency, roster_version: 2 };
    let end = |book: &Book, entry: (&str, u64)| {
        outcome::end(entry, &how, &book.ledger, &world.speaker(), NOW, &mut os_entropy())
    };
    let Ok(Some(Fact::Outcome(stored))) = end(&book, ("KH", 1)) else { panic!() };
    for (stored, agency) in stored.events.iter().zip(["TH", "KH"]) {
        let event = open_event(stored.event.as_ref().unwrap()).unwrap();
        assert_eq!((stored.agency.as_str(), event.agency.as_str()), (agency, agency));
        let expected = (EventType::Withheld as i32, Reason::MemberLeft as i32);
        assert_eq!((event.r#type, event.reason), expected);
        assert_eq!(event.directory_hash, world.directory.hash().as_slice());
    }
    let signed: SignedEvidence =
        canonical::decode(&stored.evidence, limits::SIGNED_EVIDENCE_BYTES_MAX).unwrap();
    let evidence = verify_evidence(&signed, |_, id| world.directory.receipt_key(id)).unwrap();
    assert_eq!((evidence.stage, evidence.outcome), (Stage::Delivery, Outcome::Failure));
    assert_eq!((evidence.reason, evidence.recipient), (Reason::MemberLeft, Some(unit("KH", "A"))));
    assert!(evidence.text.contains("roster version 2 of the region authority"), "{}", evidence.text);
    assert!(!evidence.text.contains("VN"), "{}", evidence.text);
    book.apply(Fact::Outcome(stored)).unwrap();
    assert_eq!(end(&book, ("KH", 1)), Ok(None), "twice is once");
    assert_eq!(end(&book, ("TH", 1)), Err(outcome::OutcomeError::Misfit(1)), "evidence is never withheld");
    book.end(&world, "KH", 2, &how);
    assert!(book.ledger.packet(2).is_some(), "VN still needs it");
    let ended = book.end(&world, "KH", 3, &how).unwrap();
    assert_eq!(ended.originator, "TH");
    assert!(book.ledger.queue("KH").unwrap().is_empty() && !book.ledger.queue("VN").unwrap().is_empty());
}

#[test]
fn the_longest_sentences_fit() {
    let code = "Z".repeat(32);
    let unit = UnitRef { agency: code.clone(), unit: code };
    for left in [Left::Agency, Left::Keys, Left::Identity, Left::Unit] {
        let text = left.text(&unit, u64::MAX);
        assert!(text.len() <= limits::SENTENCE_BYTES_MAX, "{}: {text}", text.len());
    }
}

#[test]
fn a_packet_on_its_way_is_judged_under_the_directory_in_force() {
    let (mut world, book) = (World::new(NOW), Book::at(NOW));
    let packet = world.packet("TH", &[unit("KH", "A")]);
    let bytes = canonical::encode(&packet.submission);
    let verified = admit::verify(&bytes, "TH", &world.rules, |_| None, NOW).unwrap();
    let plan = |world: &World| {
        let (speaker, mut quota) = (world.speaker(), Quota::new(0, QUEUE_ENTRIES_MAX));
        let mut plan = Plan::new(&book.ledger, &speaker, &world.rules, NOW, &mut quota);
        match plan.submit(verified.clone(), |_| true, &mut os_entropy()) {
            Verdict::Admitted(_) => Reason::Accepted,
            Verdict::Refused(refused) => refused.reason,
            other @ (Verdict::Known(_) | Verdict::Twin(_)) => panic!("{other:?}"),
        }
    };
    assert_eq!(plan(&world), Reason::Accepted);
    world.publish_next();
    assert_eq!(plan(&world), Reason::Accepted, "another roster, the same members");
    world.set_status("KH", MemberStatus::Suspended);
    world.publish_next();
    assert_eq!(plan(&world), Reason::UnknownRecipient);
    world.set_status("KH", MemberStatus::Active);
    world.set_status("TH", MemberStatus::Suspended);
    world.publish_next();
    assert_eq!(plan(&world), Reason::UnknownSender);
}

#[test]
fn what_is_withheld_must_be_on_the_disk_before_anybody_is_served_anew() {
    let (mut sought, directory, other) = (Sought::default(), [1; 32], [2; 32]);
    assert!(!sought.is_over(&directory, u64::MAX), "nobody has searched yet");
    sought.set(Some(directory), 7);
    assert!(!sought.is_over(&directory, 6), "a power cut would bring the packet back");
    // Others go on meanwhile: the broker does not wait for a moment in which all is durable.
    sought.set(Some(directory), 9);
    assert!(sought.is_over(&directory, 7) && !sought.is_over(&other, 7));
    // The disk was full, and one more is withheld later.
    sought.begin();
    assert!(!sought.is_over(&directory, u64::MAX));
    sought.set(Some(directory), 12);
    assert!(!sought.is_over(&directory, 11) && sought.is_over(&directory, 12));
    sought.set(None, 13);
    assert!(!sought.is_over(&directory, u64::MAX));
}
