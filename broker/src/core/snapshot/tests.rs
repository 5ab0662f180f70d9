use lintas_config::os_entropy;
use lintas_proto::schema::{
    AuditEvent, EventType, StoredAdmission, StoredEpoch, StoredEvents, StoredLogBegun, StoredMembers,
    StoredOutcome, StoredRecipient, StoredTaken,
};
use proptest::prelude::*;

use super::*;
use crate::{
    core::{
        erase::Erasure,
        events::{self, about},
        record::Fact,
        rules::Generation,
        scribe::Scribe,
    },
    testing::{Book, unit},
};

const AGENCIES: [&str; 4] = ["KH", "LA", "TH", "VN"];

/// What may happen next; numbers are taken modulo what is there.
#[derive(Debug, Clone)]
enum Step {
    Submit { from: usize, to: Vec<usize>, blob: Option<u8>, lasts_ms: u64 },
    End { agency: usize, nth: usize },
    Taken { agency: usize, nth: usize },
    Wait { ms: u64 },
    Epoch,
    Members,
    SlotKey { agency: usize, key: u8 },
    Refused { agency: usize, count: usize },
    Read { auditor: usize, agency: usize, first: u64, count: u64 },
    Tell,
    Erase { agency: usize, first: u64 },
    LogBegun,
}

fn step() -> impl Strategy<Value = Step> {
    let blob = prop_oneof![Just(None), (0u8..3).prop_map(Some)];
    let to = prop::collection::vec(0usize..4, 1..4);
    prop_oneof![
        4 => (0usize..4, to, blob, 1u64..400_000)
            .prop_map(|(from, to, blob, lasts_ms)| Step::Submit { from, to, blob, lasts_ms }),
        3 => (0usize..4, 0usize..8).prop_map(|(agency, nth)| Step::End { agency, nth }),
        2 => (0usize..4, 0usize..8).prop_map(|(agency, nth)| Step::Taken { agency, nth }),
        1 => (1u64..400_000).prop_map(|ms| Step::Wait { ms }),
        3 => audit_step(),
    ]
}

fn audit_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => Just(Step::Epoch),
        4 => Just(Step::Members),
        4 => (0usize..4, 1u8..4).prop_map(|(agency, key)| Step::SlotKey { agency, key }),
        4 => (0usize..4, 1usize..4).prop_map(|(agency, count)| Step::Refused { agency, count }),
        8 => (0usize..4, 0usize..4, 0u64..8, 1u64..8)
            .prop_map(|(auditor, agency, first, count)| Step::Read { auditor, agency, first, count }),
        3 => Just(Step::Tell),
        4 => (0usize..4, 0u64..8).prop_map(|(agency, first)| Step::Erase { agency, first }),
        1 => Just(Step::LogBegun),
    ]
}

fn submit(book: &mut Book, from: usize, to: &[usize], blob: Option<u8>, lasts_ms: u64) {
    let number = book.last();
    let mut packet_id = [0; 16];
    packet_id[..6].copy_from_slice(&number.to_be_bytes()[2..]);
    (packet_id[6], packet_id[8]) = (0x70, 0x80);
    let mut digest = [1; 32];
    digest[..8].copy_from_slice(&number.to_be_bytes());
    let recipient = |(at, to): (usize, &usize)| {
        let unit = Some(unit(AGENCIES[*to], if at % 2 == 0 { "A" } else { "B" }));
        // Some are denied; somebody gets it.
        let denied = at > 0 && (number + at as u64).is_multiple_of(3);
        let receipt = if denied { Bytes::new() } else { Bytes::from_static(b"receipt") };
        StoredRecipient { unit, receipt }
    };
    let admission = StoredAdmission {
        packet_id: Bytes::copy_from_slice(&packet_id),
        header_digest: Bytes::copy_from_slice(&digest),
        originator: Some(unit(AGENCIES[from], "A")),
        not_before_ms: book.now_ms,
        deliver_by_ms: book.now_ms + lasts_ms,
        receipt: Bytes::from_static(b"receipt"),
        recipients: to.iter().enumerate().map(recipient).collect(),
        blobs: blob.map(|blob| Bytes::copy_from_slice(&[blob; 32])).into_iter().collect(),
        packet_bytes: 9,
        time_ms: book.ledger.time_at(book.now_ms),
    };
    book.apply(Fact::Packet(Bytes::from_static(b"packet"))).unwrap();
    book.apply(Fact::Admission(admission)).unwrap();
}

/// The number of the `nth` entry of a queue, if it is of the kind asked for.
fn entry(book: &Book, agency: usize, nth: usize, packet: bool) -> Option<(u64, u64)> {
    let queue = book.ledger.queue(AGENCIES[agency])?;
    let nth = nth % queue.len().max(1);
    let (number, entry) = queue.after(0).nth(nth)?;
    match entry.held {
        Held::Packet { admission, .. } if packet => Some((number, admission)),
        Held::Evidence { outcome, .. } if !packet => Some((number, outcome)),
        Held::Packet { .. } | Held::Evidence { .. } => None,
    }
}

fn take_step(book: &mut Book, step: &Step) {
    match step {
        Step::Submit { from, to, blob, lasts_ms } => submit(book, *from, to, *blob, *lasts_ms),
        Step::End { agency, nth } => {
            let Some((queue_sequence, admission)) = entry(book, *agency, *nth, true) else { return };
            let originator = book.ledger.packet(admission).unwrap().originator.agency.clone();
            let agency = AGENCIES[*agency].to_owned();
            let mut scribe = Scribe::new(&book.ledger, Generation::default(), book.now_ms);
            let kind = if queue_sequence % 3 == 0 { EventType::Withheld } else { EventType::Acknowledged };
            let mut event = |agency: &String| scribe.store(about(kind, agency), &mut os_entropy());
            let events = vec![event(&originator), event(&agency)];
            let evidence = Bytes::from_static(b"evidence");
            let fact = Fact::Outcome(StoredOutcome { agency, queue_sequence, evidence, events });
            book.apply(fact).unwrap();
        }
        Step::Taken { agency, nth } => {
            let Some((queue_sequence, _)) = entry(book, *agency, *nth, false) else { return };
            let agency = AGENCIES[*agency].to_owned();
            book.apply(Fact::Taken(StoredTaken { agency, queue_sequence })).unwrap();
        }
        Step::Wait { ms } => book.now_ms += ms,
        Step::Epoch
        | Step::Members
        | Step::SlotKey { .. }
        | Step::Refused { .. }
        | Step::Read { .. }
        | Step::Tell
        | Step::Erase { .. }
        | Step::LogBegun => {
            for fact in audit_facts(book, step) {
                book.apply(fact).unwrap();
            }
        }
    }
}

/// The records of a step of the audit log; none if it cannot be taken now.
fn audit_facts(book: &Book, step: &Step) -> Vec<Fact> {
    let (ledger, mut entropy) = (&book.ledger, os_entropy());
    let (audit, has_begun) = (ledger.audit(), ledger.audit().roster_version() > 0);
    let mut scribe = Scribe::new(ledger, Generation::default(), book.now_ms);
    let hash = || Bytes::copy_from_slice(&[book.last().to_be_bytes()[7]; 32]);
    match step {
        Step::Epoch if has_begun => {
            let (epoch, time_ms) = (audit.epochs(), ledger.time_at(book.now_ms));
            vec![Fact::Epoch(StoredEpoch {
                epoch,
                time_ms,
                directory_hash: hash(),
                ..StoredEpoch::default()
            })]
        }
        Step::Members => {
            let agencies = AGENCIES.map(str::to_owned).to_vec();
            let mut event =
                |agency: &String| scribe.store(about(EventType::DirectoryChanged, agency), &mut entropy);
            let events = if has_begun { agencies.iter().map(&mut event).collect() } else { Vec::new() };
            let (roster_version, keysets) = (audit.roster_version() + 1, vec![hash(); agencies.len()]);
            vec![Fact::Members(StoredMembers { roster_version, agencies, events, keysets })]
        }
        Step::SlotKey { agency, key } if has_begun => {
            let key = (AGENCIES[*agency], &[*key; 32]);
            events::slot_key(key, ledger, &mut scribe, &mut entropy).into_iter().collect()
        }
        Step::Refused { agency, count } if has_begun => {
            let keyset = |number: usize| AuditEvent {
                evidence_digest: Bytes::copy_from_slice(&[u8::try_from(number).unwrap(); 32]),
                ..about(
                    [EventType::Denied, EventType::KeyChanged, EventType::PolicyChanged][number % 3],
                    AGENCIES[*agency],
                )
            };
            let events = (0..*count).map(|number| scribe.store(keyset(number), &mut entropy)).collect();
            vec![Fact::Events(StoredEvents { events, ..StoredEvents::default() })]
        }
        Step::Read { auditor, agency, first, count }
            if first + count <= ledger.log_size(AGENCIES[*agency]) =>
        {
            let who = (AGENCIES[*auditor], AGENCIES[*agency]);
            vec![events::read(who, (*first, *count), 0, &mut scribe, &mut entropy)]
        }
        Step::Tell => {
            let due = audit.reads_to_tell(scribe.time_ms());
            due.map(|read| events::told(read, &mut scribe, &mut entropy)).collect()
        }
        Step::Erase { agency, first } => {
            let known = ledger.known.in_order().into_iter().map(|(id, _)| id);
            let packets = known.filter(|id| id.as_bytes()[5] % 3 == 0);
            let packets = packets.filter(|id| ledger.waits_for(&[*id].into()).is_none()).collect();
            let order = Bytes::from_static(b"order");
            let (agency, indices) = (AGENCIES[*agency], [*first, first + 2]);
            let erasure = Erasure { agency, indices: &indices, packets: &packets, order: &order };
            erasure.record(ledger, &mut scribe, &mut entropy).into_iter().collect()
        }
        Step::LogBegun => {
            vec![Fact::LogBegun(StoredLogBegun { number: audit.number() + 1, time_ms: book.now_ms })]
        }
        Step::Epoch
        | Step::SlotKey { .. }
        | Step::Refused { .. }
        | Step::Read { .. }
        | Step::Submit { .. }
        | Step::End { .. }
        | Step::Taken { .. }
        | Step::Wait { .. } => Vec::new(),
    }
}

fn fold(mut ledger: Ledger, facts: &[Fact], first: u64) -> Ledger {
    for (sequence, fact) in (first..).zip(facts) {
        ledger.apply(sequence, fact).unwrap();
    }
    ledger
}

/// As a start does with sealed segments.
fn fold_briefs(facts: &[Fact]) -> Ledger {
    let mut ledger = Ledger::default();
    for (sequence, fact) in (1..).zip(facts) {
        let record = fact.to_record();
        match &record.brief {
            Some(brief) => drop(ledger.apply_brief(sequence, record.kind, brief).unwrap()),
            None => drop(ledger.apply(sequence, fact).unwrap()),
        }
    }
    ledger
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happened: folding is repeatable, a snapshot anywhere changes nothing, and one set of bytes
    /// stands for one ledger.
    #[test]
    fn a_snapshot_stands_for_the_records_before_it(
        before in prop::collection::vec(step(), 0..60),
        after in prop::collection::vec(step(), 0..30),
    ) {
        let mut book = Book::at(1_000);
        before.iter().for_each(|step| take_step(&mut book, step));
        let (covers, bytes) = (book.last(), encode(&book.ledger));
        let restored = decode(&bytes).unwrap();
        prop_assert_eq!(&restored, &book.ledger);
        prop_assert_eq!(encode(&restored), bytes);
        after.iter().for_each(|step| take_step(&mut book, step));
        let (_, later) = book.facts.split_at(usize::try_from(covers).unwrap());
        prop_assert_eq!(&fold(restored, later, covers + 1), &book.ledger);
        prop_assert_eq!(&fold(Ledger::default(), &book.facts, 1), &book.ledger);
        prop_assert_eq!(&fold_briefs(&book.facts), &book.ledger);
        // A receipt that may be asked for is not spent, nor what the log was not given yet.
        for (_, seen) in book.ledger.known.in_order().into_iter().filter(|(_, seen)| seen.admission > 0) {
            prop_assert!(!book.ledger.spent().contains(seen.admission, u64::MAX));
        }
        for (sequence, fact) in (1..).zip(&book.facts) {
            let bears_nothing = matches!(fact, Fact::Packet(_) | Fact::Taken(_));
            prop_assert!(bears_nothing || !book.ledger.spent().contains(sequence, sequence - 1));
        }
        // What a live entry stands on is never spent.
        for agency in AGENCIES {
            for (_, entry) in book.ledger.queue(agency).iter().flat_map(|queue| queue.after(0)) {
                prop_assert!(!book.ledger.spent().contains(entry.record(), u64::MAX));
                if let Held::Packet { admission, .. } = entry.held {
                    prop_assert!(!book.ledger.spent().contains(admission - 1, u64::MAX));
                    prop_assert!(book.ledger.packet(admission).is_some());
                }
            }
        }
    }

    #[test]
    fn bytes_that_are_no_snapshot_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn a_cut_snapshot_is_refused_or_whole(cut in 0usize..2_000) {
        let mut book = Book::at(1_000);
        (0..6).for_each(|from| submit(&mut book, from % 4, &[0, 1], Some(1), 9_000));
        let bytes = encode(&book.ledger);
        let cut = cut % bytes.len();
        if let Ok(ledger) = decode(&bytes[..cut]) {
            prop_assert_ne!(ledger, book.ledger);
        }
    }
}

#[test]
fn an_entry_without_its_packet_is_refused() {
    let bytes = |kind: u64, rest: &[u8]| {
        let mut out = Writing::default();
        out.bytes(&MAGIC);
        // No time, nothing spent, no units, no packets, no other ids; one queue with one entry.
        [0, 0, 0, 0, 0, 1].into_iter().for_each(|number| out.number(number));
        out.text("KH");
        [2, 1, 1, 2, kind].into_iter().for_each(|number| out.number(number));
        out.bytes(rest);
        [0, 0].into_iter().for_each(|number| out.number(number));
        out.0
    };
    assert_eq!(decode(&bytes(0, &[0, 0, 9])), Err(SnapshotError::Incomplete));
    let id = PacketId::new(1, &mut os_entropy());
    let evidence = bytes(1, id.as_bytes());
    assert!(decode(&evidence).is_ok());
    assert_eq!(decode(&bytes(2, id.as_bytes())), Err(SnapshotError::Incomplete));
    assert_eq!(decode(&[&evidence[..], &[0]].concat()), Err(SnapshotError::Incomplete));
    assert_eq!(decode(&evidence[..evidence.len() - 1]), Err(SnapshotError::Truncated));
    assert_eq!(decode(b"LEDGER01"), Err(SnapshotError::Version));
    assert_eq!(decode(&[]), Err(SnapshotError::Version));
}
