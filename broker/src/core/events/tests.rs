use lintas_config::os_entropy;
use lintas_proto::{
    audit::leaf::open_event,
    evidence::verify_evidence,
    schema::{LoggedEvent, MemberStatus, StoredEvent},
};

use super::*;
use crate::{
    core::{plan::Verdict, record::RecordError},
    testing::{Book, NOW, World, unit},
};

/// The sequencer's first round.
fn begun(world: &World) -> Book {
    let mut book = Book::at(NOW);
    let fact = members(&book.ledger, &world.rules, NOW, &mut os_entropy()).unwrap();
    book.apply(fact).unwrap();
    book
}

fn opened(StoredEvent { event, .. }: &StoredEvent) -> AuditEvent {
    open_event(event.as_ref().unwrap()).unwrap()
}

fn events_of(fact: &Fact) -> Vec<AuditEvent> {
    let events: Vec<&StoredEvent> = if let Fact::Events(events) = fact {
        events.events.iter().collect()
    } else if let Fact::Members(members) = fact {
        members.events.iter().collect()
    } else if let Fact::SlotKey(key) = fact {
        key.event.iter().collect()
    } else {
        panic!("{fact:?}")
    };
    events.into_iter().map(opened).collect()
}

fn scribe<'a>(book: &'a Book, world: &World) -> Scribe<'a> {
    Scribe::new(&book.ledger, world.rules.generation(), book.now_ms)
}

fn refused(error: &RecordError) -> &'static str {
    let RecordError::Contradiction { what, .. } = error else { panic!("{error:?}") };
    what
}

#[test]
fn the_first_members_are_told_of_nothing_and_the_next_of_their_roster() {
    let mut world = World::new(NOW);
    let mut book = begun(&world);
    assert_eq!(book.ledger.audit().members().collect::<Vec<_>>(), ["KH", "TH", "VN"]);
    assert_eq!(book.ledger.log_size("TH"), 0);
    assert_eq!(members(&book.ledger, &world.rules, NOW, &mut os_entropy()), None, "told");
    assert_eq!(keysets(&book.ledger, &world.rules, NOW, &mut os_entropy()), None, "the first are known");
    world.join("LA");
    world.set_status("VN", MemberStatus::Revoked);
    world.publish_next();
    let fact = members(&book.ledger, &world.rules, NOW, &mut os_entropy()).unwrap();
    let events = events_of(&fact);
    assert_eq!(
        events.iter().map(|event| event.agency.as_str()).collect::<Vec<_>>(),
        ["KH", "LA", "TH", "VN"]
    );
    for event in events {
        assert_eq!((event.r#type, event.version), (EventType::DirectoryChanged as i32, 2));
        assert_eq!(event.evidence_digest, world.directory.roster_hash().as_slice());
        assert_eq!(event.directory_hash, world.directory.hash().as_slice());
    }
    book.apply(fact).unwrap();
    assert_eq!(keysets(&book.ledger, &world.rules, NOW, &mut os_entropy()), None, "new members are known");
    assert_eq!(book.ledger.log_size("VN"), 1, "whoever has left keeps its slot");
}

#[test]
fn a_keyset_is_told_once_also_when_the_broker_was_away() {
    let mut world = World::new(NOW);
    let mut book = begun(&world);
    world.put_keyset(world.next_keyset("KH"));
    let fact = keysets(&book.ledger, &world.rules, NOW, &mut os_entropy()).unwrap();
    let events = events_of(&fact);
    assert_eq!(events.len(), 1);
    assert_eq!(
        (events[0].agency.as_str(), events[0].r#type, events[0].version),
        ("KH", EventType::KeyChanged as i32, 2)
    );
    assert_eq!(events[0].evidence_digest, world.directory.keyset_hash("KH").unwrap().as_slice());
    book.apply(fact).unwrap();
    assert_eq!(keysets(&book.ledger, &world.rules, NOW, &mut os_entropy()), None);
    let again = crate::core::snapshot::decode(&crate::core::snapshot::encode(&book.ledger)).unwrap();
    assert_eq!(keysets(&again, &world.rules, NOW, &mut os_entropy()), None, "also after a restart");
}

#[test]
fn a_first_slot_key_is_no_event_and_another_one_is() {
    let world = World::new(NOW);
    let mut book = begun(&world);
    let slot_key = |book: &Book, agency, key: &[u8; 32]| {
        slot_key((agency, key), &book.ledger, &mut scribe(book, &world), &mut os_entropy())
    };
    assert_eq!(slot_key(&book, "TH", &[0; 32]), None, "that is what stands for none");
    assert_eq!(slot_key(&book, "XX", &[1; 32]), None, "nobody");
    let first = slot_key(&book, "TH", &[1; 32]).unwrap();
    assert!(events_of(&first).is_empty());
    book.apply(first).unwrap();
    assert_eq!(slot_key(&book, "TH", &[1; 32]), None);
    let second = slot_key(&book, "TH", &[2; 32]).unwrap();
    let event = events_of(&second).remove(0);
    assert_eq!((event.r#type, event.version), (EventType::KeyChanged as i32, 0));
    assert_eq!(event.evidence_digest, sha256(&[&[2; 32]]).as_slice());
    book.apply(second).unwrap();
    assert_eq!((book.ledger.audit().slot_key("TH"), book.ledger.log_size("TH")), (Some(&[2; 32]), 1));
}

#[test]
fn a_final_refusal_is_an_event_of_its_originator_alone() {
    let (world, mut book) = (World::new(NOW), begun(&World::new(NOW)));
    let to = [unit("TH", "B"), unit("KH", "A")];
    let denied = world.packet_with("TH", &to, |core| {
        core.label.caveats.push(lintas_proto::schema::Caveat::Noforn as i32);
    });
    let late = world.packet_with("TH", &to, |core| core.deliver_by_ms = NOW + 1);
    book.now_ms = NOW + 1;
    let (verdicts, _) = book.submit(&world, &[&denied, &late]);
    let refusals_of: Vec<Refused> = verdicts
        .into_iter()
        .map(|verdict| {
            let Verdict::Refused(refused) = verdict else { panic!("{verdict:?}") };
            refused
        })
        .collect();
    let answers: Vec<_> =
        refusals_of.iter().map(|refused| refused.answer(&world.speaker(), NOW + 1)).collect();
    let signed = answers.iter().map(|answer| answer.evidence.clone().unwrap());
    let digests = signed.clone().map(|signed| sha256(&[&lintas_proto::canonical::encode(&signed)]));
    let fact =
        refusals(refusals_of.iter().zip(digests.clone()), &mut scribe(&book, &world), &mut os_entropy());
    let fact = fact.unwrap();
    let events = events_of(&fact);
    for ((event, digest), signed) in events.iter().zip(digests).zip(signed) {
        assert_eq!((event.agency.as_str(), event.evidence_digest.as_ref()), ("TH", digest.as_slice()));
        assert_eq!(event.header_digest.len() + event.packet_id.len(), 48);
        let evidence = verify_evidence(&signed, |_, id| world.directory.receipt_key(id)).unwrap();
        assert_eq!(evidence.reason as i32, event.reason);
    }
    assert_eq!(
        (events[0].r#type, events[1].r#type),
        (EventType::Denied as i32, EventType::NotAccepted as i32)
    );
    assert_eq!(
        (events[0].recipient.clone(), events[0].policy_ids.as_slice()),
        (Some(unit("KH", "A")), ["baseline/noforn".to_owned()].as_slice())
    );
    assert_eq!((events[1].recipient.clone(), events[1].policy_ids.len()), (None, 0));
    book.apply(fact).unwrap();
    assert_eq!((book.ledger.log_size("TH"), book.ledger.log_size("KH")), (2, 0));
}

#[test]
fn only_the_last_word_about_a_verified_packet_is_an_event() {
    let world = World::new(NOW);
    let verified = world.admit(&world.packet("TH", &[unit("KH", "A")])).unwrap();
    for reason in [
        Reason::Policy,
        Reason::Expired,
        Reason::Replay,
        Reason::UnknownRecipient,
        Reason::Reseal,
        Reason::Malformed,
    ] {
        assert!(verified.refuse(reason, "no").is_logged(), "{reason:?}");
    }
    for reason in [
        Reason::Quota,
        Reason::DiskFull,
        Reason::ShuttingDown,
        Reason::StaleDirectory,
        Reason::MissingAttachment,
        Reason::Clock,
    ] {
        assert!(!verified.refuse(reason, "not now").is_logged(), "{reason:?}");
    }
    let sealed = world.packet("TH", &[unit("KH", "A")]);
    let bytes = lintas_proto::canonical::encode(&sealed.submission);
    let of_another = crate::core::admit::verify(&bytes, "KH", &world.rules, |_| None, NOW).unwrap_err();
    assert!(of_another.packet.is_some() && !of_another.is_logged(), "TH did not submit it");
    let mut spoiled = sealed.submission.clone();
    spoiled.signature = Bytes::from_static(&[7; 64]);
    let bytes = lintas_proto::canonical::encode(&spoiled);
    let forged = crate::core::admit::verify(&bytes, "TH", &world.rules, |_| None, NOW).unwrap_err();
    assert!(!forged.is_logged(), "TH did not sign it");
}

#[test]
fn a_read_is_told_after_its_delay_and_reads_that_touch_are_told_together() {
    let world = World::new(NOW);
    let mut book = begun(&world);
    (0..10).for_each(|_| {
        book.submit(&world, &[&world.packet("TH", &[unit("KH", "A")])]);
    });
    let read_now = |book: &mut Book, range| {
        let fact = read(("VN", "TH"), range, 30, &mut scribe(book, &world), &mut os_entropy());
        let event = events_of(&fact).remove(0);
        assert_eq!(
            (event.r#type, event.agency.as_str(), event.other_agency.as_str()),
            (EventType::AuditRead as i32, "VN", "TH")
        );
        book.apply(fact).map(|_| ())
    };
    read_now(&mut book, (0, 4)).unwrap();
    book.now_ms += 1_000;
    read_now(&mut book, (4, 4)).unwrap();
    read_now(&mut book, (15, 5)).unwrap();
    assert!(
        read_now(
            &mut Book { ledger: book.ledger.clone(), facts: book.facts.clone(), now_ms: book.now_ms },
            (15, 6)
        )
        .is_err()
    );
    assert_eq!(
        (book.ledger.log_size("VN"), book.ledger.log_size("TH")),
        (3, 20),
        "the audited sees nothing yet"
    );
    let month = NOW + 30 * DAY_MS;
    assert_eq!(book.ledger.audit().reads_to_tell(month).count(), 0);
    book.now_ms = month + 1_000;
    let due: Vec<Fact> = {
        let mut scribe = scribe(&book, &world);
        let due = book.ledger.audit().reads_to_tell(book.now_ms);
        due.map(|read| told(read, &mut scribe, &mut os_entropy())).collect()
    };
    let ranges = [(0, 8), (15, 5)];
    assert_eq!(due.len(), 2);
    for (fact, range) in due.iter().zip(ranges) {
        let event = events_of(fact).remove(0);
        assert_eq!((event.agency.as_str(), event.other_agency.as_str()), ("TH", "VN"));
        assert_eq!((event.first_index, event.count), range);
        assert!(event.other_time_ms >= NOW && event.other_time_ms <= NOW + 1_000);
        book.apply(fact.clone()).unwrap();
    }
    assert_eq!(book.ledger.audit().reads_to_tell(u64::MAX).count(), 0);
    assert_eq!(
        refused(&book.apply(due[0].clone()).unwrap_err()),
        "an event that is not the next one of its sub-log"
    );
}

#[test]
fn reads_all_over_a_log_are_bounded_and_none_is_left_out() {
    let world = World::new(NOW);
    let mut book = begun(&world);
    (0..50).for_each(|_| {
        book.submit(&world, &[&world.packet("TH", &[unit("KH", "A")])]);
    });
    for index in (0..50).rev().map(|n: u64| 2 * n) {
        let fact = read(("VN", "TH"), (index, 1), 30, &mut scribe(&book, &world), &mut os_entropy());
        book.apply(fact).unwrap();
    }
    let told: Vec<_> = book.ledger.audit().reads_to_tell(u64::MAX).map(|(_, read)| read.clone()).collect();
    assert_eq!(told.len(), 16);
    let covers =
        |read: &StoredRead, index| read.first_index <= index && index < read.first_index + read.count;
    assert!((0..100).step_by(2).all(|index| told.iter().any(|read| covers(read, index))));
}

#[test]
fn times_in_the_log_never_go_back() {
    let world = World::new(NOW);
    let mut book = begun(&world);
    book.submit(&world, &[&world.packet("TH", &[unit("KH", "A")])]);
    book.apply(epoch(&book.ledger, &world.rules, NOW + 5_000)).unwrap();
    // The clock was set back.
    book.now_ms = NOW - 60_000;
    let (_, group) = book.submit(&world, &[&world.packet("TH", &[unit("KH", "A")])]);
    let Fact::Admission(admission) = &group.facts[1] else { panic!() };
    assert_eq!(admission.time_ms, NOW + 5_000);
    let Fact::Epoch(next) = epoch(&book.ledger, &world.rules, NOW) else { panic!() };
    assert_eq!((next.epoch, next.time_ms), (1, NOW + 5_000));
    let early = Fact::Epoch(StoredEpoch { time_ms: NOW + 4_999, ..next });
    assert_eq!(refused(&book.apply(early).unwrap_err()), "time goes back");
}

/// One event more than a record has.
fn extra(book: &Book, world: &World, agency: &str) -> StoredEvent {
    scribe(book, world).store(about(EventType::DirectoryChanged, agency), &mut os_entropy())
}

#[test]
fn what_contradicts_the_log_is_refused() {
    let mut world = World::new(NOW);
    let book = begun(&world);
    let (first, of_th) = (epoch(&book.ledger, &world.rules, NOW), extra(&book, &world, "TH"));
    let Fact::Epoch(first) = first else { panic!() };
    world.join("LA");
    let empty = Book::at(NOW);
    let cases: Vec<(&str, &Book, Fact)> = vec![
        ("it is not the next epoch", &book, Fact::Epoch(StoredEpoch { epoch: 1, ..first.clone() })),
        ("it is not the next epoch", &empty, Fact::Epoch(first.clone())),
        (
            "an epoch without its directory",
            &book,
            Fact::Epoch(StoredEpoch { directory_hash: Bytes::new(), ..first }),
        ),
        ("an event of an agency that has no slot", &book, events_with(vec![extra(&book, &world, "LA")])),
        (
            "an event that is not the next one of its sub-log",
            &book,
            events_with(vec![of_th.clone(), of_th.clone()]),
        ),
        (
            "an event that is none",
            &book,
            events_with(vec![StoredEvent { agency: "TH".to_owned(), event: None }]),
        ),
        (
            "a leaf that is none",
            &book,
            events_with(vec![StoredEvent { agency: "TH".to_owned(), event: Some(LoggedEvent::default()) }]),
        ),
        ("no event", &book, events_with(vec![])),
        (
            "a read is told that never was",
            &book,
            Fact::Events(StoredEvents { events: vec![of_th], read: None, told: 1 }),
        ),
    ];
    all_refused(&cases);
}

fn events_with(events: Vec<StoredEvent>) -> Fact {
    Fact::Events(StoredEvents { events, ..StoredEvents::default() })
}

#[test]
fn members_only_come() {
    let mut world = World::new(NOW);
    let (book, empty) = (begun(&world), Book::at(NOW));
    world.join("LA");
    world.publish_next();
    let next = members(&book.ledger, &world.rules, NOW, &mut os_entropy()).unwrap();
    let Fact::Members(next) = next else { panic!() };
    let cases: Vec<(&str, &Book, Fact)> = vec![
        (
            "members of a roster that is not newer",
            &book,
            Fact::Members(StoredMembers { roster_version: 1, ..next.clone() }),
        ),
        (
            "members out of order",
            &book,
            Fact::Members(StoredMembers {
                agencies: next.agencies.iter().rev().cloned().collect(),
                ..next.clone()
            }),
        ),
        ("members out of order", &book, Fact::Members(StoredMembers { keysets: vec![], ..next.clone() })),
        (
            "every member is told of a new roster, but for the first",
            &book,
            Fact::Members(StoredMembers { events: vec![], ..next.clone() }),
        ),
        ("every member is told of a new roster, but for the first", &empty, Fact::Members(next.clone())),
        (
            "a member is gone; members only come",
            &book,
            Fact::Members(StoredMembers {
                agencies: next.agencies[1..].to_vec(),
                keysets: next.keysets[1..].to_vec(),
                ..next
            }),
        ),
    ];
    all_refused(&cases);
}

fn all_refused(cases: &[(&str, &Book, Fact)]) {
    for (what, book, fact) in cases {
        let mut book = Book { ledger: book.ledger.clone(), facts: book.facts.clone(), now_ms: NOW };
        assert_eq!(refused(&book.apply(fact.clone()).unwrap_err()), *what);
    }
}
