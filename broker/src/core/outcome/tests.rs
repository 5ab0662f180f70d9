use lintas_config::os_entropy;
use lintas_proto::{audit::leaf::open_event, envelope::seal::Sealed};

use super::*;
use crate::testing::{Book, DAY, NOW, World, unit};

/// KH and VN have a packet of TH in their queues.
fn scene() -> (World, Book, Sealed) {
    let (world, mut book) = (World::new(NOW), Book::at(NOW));
    let packet = world.packet("TH", &[unit("KH", "A"), unit("VN", "A")]);
    book.submit(&world, &[&packet]);
    (world, book, packet)
}

fn try_end(world: &World, book: &Book, entry: (&str, u64), how: &How) -> Result<Option<Fact>, OutcomeError> {
    end(entry, how, &book.ledger, &world.speaker(), book.now_ms, &mut os_entropy())
}

fn stored(fact: Option<Fact>) -> StoredOutcome {
    match fact {
        Some(Fact::Outcome(outcome)) => outcome,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_acknowledgement_ends_the_entry_and_brings_evidence_back() {
    let (world, mut book, packet) = scene();
    let how = world.acknowledgement(&packet, &unit("KH", "A"));
    let outcome = stored(try_end(&world, &book, ("KH", 1), &how).unwrap());
    assert_eq!(outcome.events.len(), 2);
    for (stored, agency) in outcome.events.iter().zip(["TH", "KH"]) {
        let logged = stored.event.as_ref().unwrap();
        let event = open_event(logged).unwrap();
        assert_eq!((stored.agency.as_str(), event.agency.as_str()), (agency, agency));
        assert_eq!(event.r#type, EventType::Acknowledged as i32);
        assert_eq!(logged.index, book.ledger.log_size(agency));
        assert_eq!(event.evidence_digest, sha256(&[&outcome.evidence]).as_slice());
        assert_eq!(event.recipient, Some(unit("KH", "A")));
    }
    assert!(book.apply(Fact::Outcome(outcome)).unwrap().is_none(), "VN still needs it");
    assert!(book.ledger.queue("KH").unwrap().is_empty());
    let (number, entry) = book.ledger.queue("TH").unwrap().after(0).next().unwrap();
    let about = world.admit(&packet).unwrap().header().core().packet_id;
    assert_eq!((number, entry.held), (1, Held::Evidence { outcome: 3, packet: about }));
    assert_eq!(try_end(&world, &book, ("KH", 1), &how), Ok(None), "twice is once");

    assert_eq!(try_end(&world, &book, ("TH", 1), &how), Err(OutcomeError::Misfit(1)), "not a packet");
    book.end(&world, "TH", 1, &How::Taken);
    assert!(book.ledger.queue("TH").unwrap().is_empty());
    let last = book.end(&world, "VN", 1, &world.acknowledgement(&packet, &unit("VN", "A"))).unwrap();
    assert_eq!((last.originator.as_str(), book.ledger.packet(2)), ("TH", None));
    assert!(book.ledger.spent().contains(1, 0) && !book.ledger.spent().contains(2, 9), "the receipt stays");
    assert!(book.ledger.spent().contains(4, 0), "nobody needs the mark that evidence was taken");
    assert!(
        !book.ledger.spent().contains(3, 2) && book.ledger.spent().contains(3, 3),
        "nor the outcome, in the end"
    );
}

#[test]
fn evidence_about_anything_else_is_refused() {
    let (world, book, packet) = scene();
    let other = world.packet("TH", &[unit("KH", "A")]);
    let good = world.evidence(&packet, &unit("KH", "A"));
    let cases: Vec<(&str, Evidence)> = vec![
        ("stage", Evidence { stage: Stage::Retrieval, ..good.clone() }),
        ("region", Evidence { region: "elsewhere".to_owned(), ..good.clone() }),
        ("digest", Evidence { header_digest: [9; 32], ..good.clone() }),
        ("packet", world.evidence(&other, &unit("KH", "A"))),
        ("unit", Evidence { actor: unit("KH", "B"), recipient: Some(unit("KH", "B")), ..good.clone() }),
        ("recipient", Evidence { recipient: Some(unit("VN", "A")), ..good.clone() }),
    ];
    for (what, evidence) in cases {
        let signed = world.sign(evidence, "KH");
        let checked = verify(&signed, "KH", &world.directory, NOW).unwrap();
        let how = How::Acknowledged(Box::new(checked));
        assert_eq!(try_end(&world, &book, ("KH", 1), &how), Err(OutcomeError::Misfit(1)), "{what}");
    }
    assert_eq!(try_end(&world, &book, ("KH", 1), &How::Taken), Err(OutcomeError::Misfit(1)));
}

#[test]
fn only_the_sessions_own_agency_may_acknowledge() {
    let (world, _, packet) = scene();
    let evidence = || world.evidence(&packet, &unit("KH", "A"));
    let refused = |signed: &Bytes, agency: &str| verify(signed, agency, &world.directory, NOW).unwrap_err();
    assert!(matches!(refused(&world.sign(evidence(), "KH"), "VN"), OutcomeError::Evidence(_)));
    assert!(matches!(refused(&world.sign(evidence(), "VN"), "KH"), OutcomeError::Evidence(_)), "forged");
    assert!(matches!(refused(&Bytes::from_static(b"no"), "KH"), OutcomeError::Evidence(_)));
    let mut cut = world.sign(evidence(), "KH").to_vec();
    cut.extend(std::iter::repeat_n(0, limits::SIGNED_EVIDENCE_BYTES_MAX));
    assert!(matches!(refused(&Bytes::from(cut), "KH"), OutcomeError::Evidence(_)));
}

#[test]
fn a_rejection_is_an_outcome_too() {
    let (world, book, packet) = scene();
    let evidence = Evidence {
        outcome: Outcome::Rejection,
        reason: Reason::CannotOpen,
        ..world.evidence(&packet, &unit("KH", "A"))
    };
    let checked = verify(&world.sign(evidence, "KH"), "KH", &world.directory, NOW).unwrap();
    let how = How::Acknowledged(Box::new(checked));
    let outcome = stored(try_end(&world, &book, ("KH", 1), &how).unwrap());
    let event = open_event(outcome.events[0].event.as_ref().unwrap()).unwrap();
    assert_eq!(event.reason, Reason::CannotOpen as i32);
}

#[test]
fn expiry_gives_evidence_of_the_broker_that_verifies() {
    let (world, mut book, packet) = scene();
    assert!(book.ledger.expired(NOW + 7 * DAY - 1, 8).is_empty());
    let over = book.ledger.expired(NOW + 7 * DAY, 8);
    assert_eq!(over, [("KH".to_owned(), 1), ("VN".to_owned(), 1)]);
    assert_eq!(book.ledger.expired(NOW + 7 * DAY, 1).len(), 1);
    book.now_ms = NOW + 7 * DAY;
    let outcome = stored(try_end(&world, &book, ("KH", 1), &How::Expired).unwrap());
    let signed: SignedEvidence =
        canonical::decode(&outcome.evidence, limits::SIGNED_EVIDENCE_BYTES_MAX).unwrap();
    let evidence = verify_evidence(&signed, |_, id| world.directory.receipt_key(id)).unwrap();
    assert_eq!((evidence.outcome, evidence.reason), (Outcome::Failure, Reason::Expired));
    assert_eq!((evidence.recipient, evidence.header_digest), (Some(unit("KH", "A")), packet.digest));
    assert!(!evidence.text.contains("VN"), "{}", evidence.text);
    book.apply(Fact::Outcome(outcome)).unwrap();
    assert_eq!(try_end(&world, &book, ("TH", 1), &How::Expired), Err(OutcomeError::Misfit(1)));
}

#[test]
fn an_agency_that_writes_to_itself_gets_two_events_in_one_log() {
    let (world, mut book) = (World::new(NOW), Book::at(NOW));
    let packet = world.packet("TH", &[unit("TH", "B")]);
    book.submit(&world, &[&packet]);
    let how = world.acknowledgement(&packet, &unit("TH", "B"));
    let outcome = stored(try_end(&world, &book, ("TH", 1), &how).unwrap());
    let indices: Vec<u64> =
        outcome.events.iter().map(|stored| stored.event.as_ref().unwrap().index).collect();
    assert_eq!(indices, [3, 4], "after submitted, released, received");
    book.apply(Fact::Outcome(outcome)).unwrap();
    assert_eq!(book.ledger.log_size("TH"), 5);
}
