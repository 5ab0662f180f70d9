use bytes::Bytes;
use lintas_config::os_entropy;
use lintas_proto::schema::{EventType, StoredAdmission, StoredOutcome, StoredRecipient, StoredTaken};

use super::*;
use crate::{
    core::{
        events::{self, about},
        outcome::How,
        rules::Generation,
        scribe::Scribe,
    },
    testing::{Book, NOW, World, blob, unit},
};

fn admission(id: u8, to: &[&str]) -> StoredAdmission {
    let mut packet_id = [id; 16];
    (packet_id[6], packet_id[8]) = (0x70, 0x80);
    let receipt = Bytes::from_static(b"receipt");
    let recipient =
        |agency: &&str| StoredRecipient { unit: Some(unit(agency, "A")), receipt: receipt.clone() };
    StoredAdmission {
        packet_id: Bytes::copy_from_slice(&packet_id),
        header_digest: Bytes::copy_from_slice(&[id; 32]),
        originator: Some(unit("TH", "A")),
        deliver_by_ms: 1_000,
        recipients: to.iter().map(recipient).collect(),
        packet_bytes: 10,
        time_ms: 1,
        ..StoredAdmission::default()
    }
}

/// The end of an entry that TH sent, behind two earlier events or, for TH itself, behind three.
fn outcome(agency: &str, queue_sequence: u64) -> Fact {
    outcome_of(&book_of_packet().ledger, agency, queue_sequence)
}

fn outcome_of(ledger: &Ledger, agency: &str, queue_sequence: u64) -> Fact {
    let mut scribe = Scribe::new(ledger, Generation::default(), 1);
    let mut event = |agency: &str| scribe.store(about(EventType::Acknowledged, agency), &mut os_entropy());
    let (agency, events) = (agency.to_owned(), vec![event("TH"), event(agency)]);
    Fact::Outcome(StoredOutcome { agency, queue_sequence, evidence: Bytes::new(), events })
}

fn taken(agency: &str, queue_sequence: u64) -> Fact {
    Fact::Taken(StoredTaken { agency: agency.to_owned(), queue_sequence })
}

fn packet() -> Fact {
    Fact::Packet(Bytes::from_static(b"packet"))
}

fn book_of_packet() -> Book {
    let mut book = Book::default();
    book.apply(packet()).unwrap();
    book.apply(Fact::Admission(admission(1, &["KH", "VN"]))).unwrap();
    book
}

/// Records 1 to 3: a packet for KH and VN, acknowledged by KH, and its evidence not taken yet.
fn book() -> Book {
    let mut book = book_of_packet();
    book.apply(outcome("KH", 1)).unwrap();
    book
}

#[test]
fn a_record_that_does_not_follow_is_refused() {
    let next = |fact: Fact| book().apply(fact).unwrap_err();
    let cases: Vec<(&str, Fact)> = vec![
        ("an admission without its packet", Fact::Admission(admission(2, &["KH"]))),
        ("the end of an entry that has ended", outcome_of(&book().ledger, "KH", 1)),
        ("an event that is not the next one", outcome("VN", 1)),
        ("the end of an entry that never was", outcome("VN", 2)),
        ("the end of an entry in no queue", outcome("XX", 1)),
        ("the end of a packet where evidence is", outcome("TH", 1)),
        ("taken evidence that never was", taken("TH", 2)),
        ("taken evidence where a packet is", taken("VN", 1)),
    ];
    for (what, fact) in cases {
        assert!(matches!(next(fact), RecordError::Contradiction { sequence: 4, .. }), "{what}");
    }
    assert!(book().apply(taken("TH", 1)).is_ok());
}

#[test]
fn a_packet_and_its_admission_stand_together() {
    let after_packet = |fact: Fact| {
        let mut book = book();
        book.apply(packet()).unwrap();
        book.apply(fact)
    };
    assert!(after_packet(Fact::Admission(admission(2, &["KH"]))).is_ok());
    assert!(after_packet(packet()).is_err() && after_packet(outcome("VN", 1)).is_err());
    assert!(after_packet(taken("TH", 1)).is_err());
    let mut apart = Ledger::default();
    apart.apply(1, &packet()).unwrap();
    assert!(apart.apply(3, &Fact::Admission(admission(1, &["KH"]))).is_err());
}

#[test]
fn an_admission_of_nothing_is_refused() {
    let broken = [
        StoredAdmission { packet_id: Bytes::new(), ..admission(2, &["KH"]) },
        StoredAdmission { header_digest: Bytes::new(), ..admission(2, &["KH"]) },
        StoredAdmission { originator: None, ..admission(2, &["KH"]) },
        StoredAdmission { blobs: vec![Bytes::from_static(b"short")], ..admission(2, &["KH"]) },
        admission(2, &[]),
        admission(1, &["KH"]),
    ];
    for admission in broken {
        let mut book = book();
        book.apply(packet()).unwrap();
        assert!(book.apply(Fact::Admission(admission)).is_err());
    }
}

#[test]
fn a_blob_stays_until_the_last_packet_that_names_it() {
    let (world, mut book) = (World::new(NOW), Book::at(NOW));
    let ((_, shared), (_, own)) = (blob(b"shared"), blob(b"own"));
    let name = |reference: &lintas_proto::schema::AttachmentRef| {
        let digest: Digest = reference.blob_id.as_ref().try_into().unwrap();
        digest
    };
    let to = [unit("KH", "A")];
    let first = world.packet_with("TH", &to, |core| {
        core.attachments.extend([shared.clone(), own.clone()]);
    });
    let second = world.packet_with("TH", &to, |core| core.attachments.push(shared.clone()));
    book.submit(&world, &[&first, &second]);
    assert_eq!(book.ledger.named_blobs().count(), 2);
    assert!(book.ledger.names_blob("TH", &name(&shared)) && !book.ledger.names_blob("KH", &name(&shared)));
    let ended = book.end(&world, "KH", 1, &world.acknowledgement(&first, &to[0])).unwrap();
    assert_eq!(ended.blobs, [name(&own)], "the other packet needs the shared one");
    let ended = book.end(&world, "KH", 2, &world.acknowledgement(&second, &to[0])).unwrap();
    assert_eq!(ended.blobs, [name(&shared)]);
    assert_eq!(book.ledger.named_blobs().count(), 0);
}

#[test]
fn a_receipt_goes_when_nobody_can_ask_for_it_and_the_log_holds_it() {
    let (world, mut book) = (World::new(NOW), Book::at(NOW));
    book.apply(events::members(&book.ledger, &world.rules, NOW, &mut os_entropy()).unwrap()).unwrap();
    let packet = world.packet_with("TH", &[unit("KH", "A")], |core| core.deliver_by_ms = NOW + 1_000);
    book.submit(&world, &[&packet]);
    let (admission, forgotten_ms) = (3, NOW + 1_000 + limits::CLOCK_SKEW_MS_MAX);
    let epoch = |book: &mut Book, now_ms| {
        book.apply(events::epoch(&book.ledger, &world.rules, now_ms)).unwrap();
    };
    // Forgotten while the packet still waits: no epoch, and no traffic, makes it go.
    let mut waits = Book { ledger: book.ledger.clone(), facts: book.facts.clone(), now_ms: NOW };
    epoch(&mut waits, forgotten_ms);
    assert!(!waits.ledger.spent().contains(admission, u64::MAX));
    waits.end(&world, "KH", 1, &How::Expired);
    assert!(waits.ledger.spent().contains(admission, admission));
    // Ended first.
    book.end(&world, "KH", 1, &world.acknowledgement(&packet, &unit("KH", "A")));
    let outcome = book.last();
    book.end(&world, "TH", 1, &How::Taken);
    epoch(&mut book, forgotten_ms - 1);
    let spent = book.ledger.spent();
    assert!(!spent.contains(admission, u64::MAX) && spent.contains(outcome, outcome), "it may come again");
    epoch(&mut book, forgotten_ms);
    let spent = book.ledger.spent();
    assert!(spent.contains(admission, admission) && !spent.contains(admission, admission - 1));
    assert!((1..=book.last()).all(|sequence| spent.contains(sequence, u64::MAX)), "nothing at all is left");
}

#[test]
fn the_facts_say_whose_queues_they_change() {
    let agencies = |fact: &Fact| fact.agencies().map(str::to_owned).collect::<Vec<_>>();
    assert!(agencies(&packet()).is_empty());
    assert_eq!(agencies(&Fact::Admission(admission(1, &["KH", "VN"]))), ["KH", "VN"]);
    assert_eq!(agencies(&outcome("KH", 1)), ["TH", "KH"], "the originator gets evidence");
    assert_eq!(agencies(&taken("TH", 1)), ["TH"]);
}

#[test]
fn a_record_reads_back_and_an_unknown_one_is_refused() {
    use lintas_journal::{NewRecord, Record};
    let facts = [packet(), Fact::Admission(admission(1, &["KH"])), outcome("KH", 1), taken("TH", 1)];
    for (fact, expected) in facts.iter().zip(1u16..) {
        let NewRecord { kind, payload, brief: _ } = fact.to_record();
        assert_eq!(kind, expected, "kinds are stable");
        let record = Record { sequence: 7, kind, payload: payload.clone() };
        assert_eq!(&Fact::from_record(&record).unwrap(), fact);
        if kind > 1 {
            let longer = Bytes::from([payload.as_ref(), &[0xfa, 0x7f, 0x01, 0x00]].concat());
            let record = Record { payload: longer, ..record };
            let refused = Fact::from_record(&record);
            let is_named = match kind {
                2 => matches!(refused, Err(RecordError::Squeezed { sequence: 7 })),
                _ => matches!(refused, Err(RecordError::Decode { sequence: 7, .. })),
            };
            assert!(is_named, "{refused:?}");
        }
    }
    let record = Record { sequence: 7, kind: 11, payload: Bytes::new() };
    assert_eq!(Fact::from_record(&record), Err(RecordError::Kind { sequence: 7, kind: 11 }));
}
