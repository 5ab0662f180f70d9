use lintas_config::os_entropy;
use lintas_proto::{
    audit::leaf::log_event,
    envelope::seal::Sealed as Packet,
    evidence::verify_evidence,
    receipt::verify_receipt,
    schema::{AuditEvent, EventType, Label, PolicyFacts, SignedReceipt, StoredRecipient, UnitRef},
};

use super::*;
use crate::{
    core::{admit::FACTS_BYTES_MAX, record::RECORD_BYTES_MAX},
    testing::{BROKER, Book, DAY, NOW, QUEUE_ENTRIES_MAX, World, blob, unit},
};

/// Room for one originator in a queue.
const SHARE: usize = QUEUE_ENTRIES_MAX as usize / super::super::quota::ORIGINATOR_SHARE;

fn plan_one(book: &Book, world: &World, packet: &Packet, has_blob: bool) -> Verdict {
    let speaker = world.speaker();
    let mut quota = Quota::new(0, QUEUE_ENTRIES_MAX);
    let mut plan = Plan::new(&book.ledger, &speaker, &world.rules, book.now_ms, &mut quota);
    plan.submit(world.admit(packet).unwrap(), |_| has_blob, &mut os_entropy())
}

fn reason(verdict: &Verdict) -> Reason {
    match verdict {
        Verdict::Refused(refused) => {
            assert!(refused.text.len() <= limits::SENTENCE_BYTES_MAX);
            refused.reason
        }
        Verdict::Admitted(_) | Verdict::Known(_) | Verdict::Twin(_) => panic!("{verdict:?}"),
    }
}

/// A receipt's origin and events, verified.
fn opened(world: &World, receipt: &Bytes) -> (Receipt, Vec<AuditEvent>) {
    let signed: SignedReceipt = canonical::decode(receipt, limits::RECEIPT_BYTES_MAX).unwrap();
    verify_receipt(&signed, |id| world.directory.receipt_key(id)).unwrap()
}

fn admission(fact: &Fact) -> &StoredAdmission {
    let Fact::Admission(admission) = fact else { panic!("{fact:?}") };
    admission
}

#[test]
fn receipts_verify_and_their_events_open_without_gaps() {
    let (world, mut book) = (World::new(NOW), Book::at(NOW));
    let packets: Vec<Packet> = (0..3)
        .map(|n| {
            let to = [unit("KH", "A"), unit("KH", "B"), unit("TH", "B"), unit("VN", "A")];
            world.packet("TH", &to[..=n])
        })
        .collect();
    let mut indices: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for batch in [&packets[..2], &packets[2..]] {
        let (verdicts, group) = book.submit(&world, &batch.iter().collect::<Vec<_>>());
        for (at, packet) in batch.iter().enumerate() {
            assert!(matches!(verdicts[at], Verdict::Admitted(index) if index == at));
            let stored = admission(&group.facts[2 * at + 1]);
            assert_eq!(stored.receipt, group.receipts[at]);
            let (own, events) = opened(&world, &stored.receipt);
            assert_eq!((own.origin, own.header_digest), (format!("{BROKER}/audit/TH"), packet.digest));
            assert_eq!(events.len(), 1 + stored.recipients.len());
            indices.entry("TH".to_owned()).or_default().extend(own.events.iter().map(|event| event.index));
            for StoredRecipient { unit, receipt } in &stored.recipients {
                let unit = unit.as_ref().unwrap();
                let (theirs, events) = opened(&world, receipt);
                assert_eq!(theirs.origin, format!("{BROKER}/audit/{}", unit.agency));
                assert_eq!(events.len(), 1, "one event");
                assert_eq!(events[0].recipient.as_ref(), Some(unit), "and no other recipient in it");
                indices.entry(unit.agency.clone()).or_default().push(theirs.events[0].index);
            }
        }
    }
    for (agency, mut indices) in indices {
        indices.sort_unstable();
        let expected: Vec<u64> = (0..book.ledger.log_size(&agency)).collect();
        assert_eq!(indices, expected, "{agency}");
    }
}

#[test]
fn the_same_packet_is_known_and_another_with_its_id_is_a_replay() {
    let (world, mut book) = (World::new(NOW), Book::at(NOW));
    let packet = world.packet("TH", &[unit("KH", "A")]);
    let id = world.admit(&packet).unwrap().header().core().packet_id;
    let other = world.packet_with("TH", &[unit("VN", "A")], |core| core.packet_id = id);
    let (verdicts, group) = book.submit(&world, &[&packet, &packet, &other]);
    assert!(matches!(verdicts[..2], [Verdict::Admitted(0), Verdict::Twin(0)]));
    assert_eq!(reason(&verdicts[2]), Reason::Replay);
    assert_eq!((group.facts.len(), group.receipts.len()), (2, 1));
    assert!(matches!(plan_one(&book, &world, &packet, true), Verdict::Known(2)));
    assert_eq!(reason(&plan_one(&book, &world, &other, true)), Reason::Replay);
    // Also after its end, as long as a copy could come.
    let (agency, ack) = ("KH", world.acknowledgement(&packet, &unit("KH", "A")));
    assert!(book.end(&world, agency, 1, &ack).is_some());
    book.now_ms = NOW + 7 * DAY + limits::CLOCK_SKEW_MS_MAX - 1;
    assert!(matches!(plan_one(&book, &world, &packet, true), Verdict::Known(2)));
}

#[test]
fn a_forgotten_packet_stays_out_even_when_the_clock_goes_back() {
    let (mut world, mut book) = (World::new(NOW), Book::at(NOW));
    let packet = world.packet("TH", &[unit("KH", "A")]);
    book.submit(&world, &[&packet]);
    world.now_ms = NOW + 7 * DAY + limits::CLOCK_SKEW_MS_MAX;
    book.now_ms = world.now_ms;
    let later = world.packet("TH", &[unit("KH", "A")]);
    book.submit(&world, &[&later]);
    let id = world.admit(&packet).unwrap().header().core().packet_id;
    assert!(book.ledger.seen(&id).is_none(), "forgotten");
    book.now_ms = NOW;
    assert_eq!(reason(&plan_one(&book, &world, &packet, true)), Reason::Expired);
}

#[test]
fn an_id_used_again_after_it_was_forgotten_contradicts_nothing() {
    let (mut world, mut book) = (World::new(NOW), Book::at(NOW));
    let short = world.packet_with("TH", &[unit("KH", "A")], |core| core.deliver_by_ms = NOW + 1_000);
    let id = world.admit(&short).unwrap().header().core().packet_id;
    let long = world.packet_with("TH", &[unit("VN", "A")], |core| core.packet_id = id);
    book.submit(&world, &[&short]);
    assert_eq!(reason(&plan_one(&book, &world, &long, true)), Reason::Replay);
    book.now_ms = NOW + 1_000 + limits::CLOCK_SKEW_MS_MAX;
    world.now_ms = book.now_ms;
    // Nothing is forgotten until a later admission is applied; what is written then must fold.
    let filler = world.packet("KH", &[unit("TH", "A")]);
    let (verdicts, _) = book.submit(&world, &[&filler, &long]);
    assert_eq!(reason(&verdicts[1]), Reason::Replay);
    let (verdicts, _) = book.submit(&world, &[&long]);
    assert!(matches!(verdicts[0], Verdict::Admitted(0)));
    let mut again = Ledger::default();
    for (sequence, fact) in (1..).zip(&book.facts) {
        again.apply(sequence, fact).unwrap();
    }
    assert_eq!(again, book.ledger);
}

#[test]
fn times_are_checked() {
    let (world, mut book) = (World::new(NOW), Book::at(NOW));
    let packet = world.packet("TH", &[unit("KH", "A")]);
    book.now_ms = NOW + 7 * DAY;
    assert_eq!(reason(&plan_one(&book, &world, &packet, true)), Reason::Expired);
    book.now_ms = NOW - limits::CLOCK_SKEW_MS_MAX - 1;
    assert_eq!(reason(&plan_one(&book, &world, &packet, true)), Reason::Clock);
    book.now_ms = NOW - limits::CLOCK_SKEW_MS_MAX;
    assert!(matches!(plan_one(&book, &world, &packet, true), Verdict::Admitted(0)));
}

#[test]
fn attachments_must_have_been_uploaded() {
    let (world, book) = (World::new(NOW), Book::at(NOW));
    let (_, reference) = blob(b"crew");
    let packet = world.packet_with("TH", &[unit("KH", "A")], |core| core.attachments.push(reference.clone()));
    let verdict = plan_one(&book, &world, &packet, false);
    assert_eq!(reason(&verdict), Reason::MissingAttachment);
    let Verdict::Refused(refused) = verdict else { panic!() };
    assert!(refused.text.contains(&hex(&reference.blob_id)));
    assert!(refused.answer(&world.speaker(), NOW).retry, "the same packet may come again");
    assert!(matches!(plan_one(&book, &world, &packet, true), Verdict::Admitted(0)));
}

#[test]
fn gates_stand_in_their_order() {
    let (world, mut book) = (World::new(NOW), Book::at(NOW));
    let packet = world.packet_with("TH", &[unit("KH", "A")], |core| core.attachments.push(blob(b"a").1));
    fill(&mut book, "KH", "TH", SHARE);
    assert_eq!(reason(&plan_one(&book, &world, &packet, false)), Reason::MissingAttachment);
    assert_eq!(reason(&plan_one(&book, &world, &packet, true)), Reason::Quota);
    book.now_ms = NOW + 7 * DAY;
    assert_eq!(reason(&plan_one(&book, &world, &packet, false)), Reason::Expired);
}

/// Puts packets into a queue behind the ledger's back.
fn fill(book: &mut Book, agency: &str, from: &str, count: usize) {
    use crate::core::queue::{Entry, Held};
    let queue = book.ledger.queues.entry(agency.to_owned()).or_default();
    let held = Held::Packet { admission: 2, recipient_index: 0 };
    let entry = Entry { held, not_before_ms: 0, deliver_by_ms: u64::MAX - 1 };
    (0..count).for_each(|_| queue.push(entry, from));
}

#[test]
fn a_queue_has_room_for_everybody_and_its_end() {
    let (world, mut book) = (World::new(NOW), Book::at(NOW));
    fill(&mut book, "KH", "TH", SHARE - 1);
    let one = world.packet("TH", &[unit("KH", "A")]);
    let two = world.packet("TH", &[unit("KH", "A"), unit("KH", "B")]);
    let third = world.packet("TH", &[unit("KH", "A")]);
    let other = world.packet("VN", &[unit("KH", "A")]);
    assert_eq!(reason(&plan_one(&book, &world, &two, true)), Reason::Quota);
    // Within one plan too.
    let speaker = world.speaker();
    let mut quota = Quota::new(0, QUEUE_ENTRIES_MAX);
    let mut plan = Plan::new(&book.ledger, &speaker, &world.rules, NOW, &mut quota);
    let mut submit = |packet| plan.submit(world.admit(packet).unwrap(), |_| true, &mut os_entropy());
    assert!(matches!(submit(&one), Verdict::Admitted(0)));
    assert_eq!(reason(&submit(&third)), Reason::Quota);
    assert!(matches!(submit(&other), Verdict::Admitted(1)), "another originator has its own share");
    let full = QUEUE_ENTRIES_MAX as usize - (SHARE - 1);
    fill(&mut book, "KH", "ZZ", full);
    assert_eq!(reason(&plan_one(&book, &world, &other, true)), Reason::Quota);
    let from_full = world.packet("KH", &[unit("VN", "A")]);
    assert_eq!(
        reason(&plan_one(&book, &world, &from_full, true)),
        Reason::Quota,
        "takes nothing, sends nothing"
    );
}

#[test]
fn the_rate_counts_each_packet_once_and_only_when_nothing_else_refuses_it() {
    let (world, mut book) = (World::new(NOW), Book::at(NOW));
    let (speaker, to) = (world.speaker(), [unit("KH", "A")]);
    let mut quota = Quota::new(2, QUEUE_ENTRIES_MAX);
    let known = world.packet("TH", &to);
    book.submit(&world, &[&known]);
    let first = world.packet("TH", &to);
    let missing = world.packet_with("TH", &to, |core| core.attachments.push(blob(b"a").1));
    let late = world.packet_with("TH", &to, |core| core.deliver_by_ms = NOW + 1);
    let now_ms = NOW + 1;
    {
        let mut plan = Plan::new(&book.ledger, &speaker, &world.rules, now_ms, &mut quota);
        let mut submit =
            |packet: &Packet| plan.submit(world.admit(packet).unwrap(), |_| false, &mut os_entropy());
        for _ in 0..5 {
            assert!(matches!(submit(&known), Verdict::Known(_)));
            assert_eq!(reason(&submit(&missing)), Reason::MissingAttachment);
            assert_eq!(reason(&submit(&late)), Reason::Expired);
        }
        assert!(matches!(submit(&first), Verdict::Admitted(0)));
        assert!(matches!(submit(&first), Verdict::Twin(0)));
        assert!(matches!(submit(&world.packet("TH", &to)), Verdict::Admitted(1)));
        let Verdict::Refused(refused) = submit(&world.packet("TH", &to)) else { panic!("beyond the rate") };
        assert_eq!(refused.reason, Reason::Quota);
        assert_eq!(refused.text, "The broker takes 2 packets a minute from TH; try again in 30 s.");
        assert!(refused.answer(&speaker, now_ms).retry);
        assert!(matches!(submit(&first), Verdict::Twin(0)), "still answered");
        assert!(matches!(submit(&known), Verdict::Known(_)), "still answered");
        assert!(matches!(submit(&world.packet("VN", &to)), Verdict::Admitted(2)), "nobody else is concerned");
    }
    // The next plan goes on where this one ended.
    let mut plan = Plan::new(&book.ledger, &speaker, &world.rules, now_ms + 29_999, &mut quota);
    let packet = world.packet("TH", &to);
    assert_eq!(
        reason(&plan.submit(world.admit(&packet).unwrap(), |_| true, &mut os_entropy())),
        Reason::Quota
    );
    let mut plan = Plan::new(&book.ledger, &speaker, &world.rules, now_ms + 30_000, &mut quota);
    let verdict = plan.submit(world.admit(&packet).unwrap(), |_| true, &mut os_entropy());
    assert!(matches!(verdict, Verdict::Admitted(0)), "{verdict:?}");
}

#[test]
fn a_refusal_of_the_plan_is_signed() {
    let (world, mut book) = (World::new(NOW), Book::at(NOW));
    let packet = world.packet("TH", &[unit("KH", "A")]);
    book.now_ms = NOW + 7 * DAY;
    let Verdict::Refused(refused) = plan_one(&book, &world, &packet, true) else { panic!() };
    let answer = refused.answer(&world.speaker(), book.now_ms);
    let evidence =
        verify_evidence(answer.evidence.as_ref().unwrap(), |_, id| world.directory.receipt_key(id));
    assert_eq!(evidence.unwrap().reason, Reason::Expired);
    assert!(!answer.retry);
}

/// A code of the greatest length.
fn code(n: usize) -> String {
    format!("Z{n:0>31}")
}

/// The longest event about a packet, with so many policies and such a text.
fn longest(policies: usize, text: usize, facts: Option<PolicyFacts>) -> AuditEvent {
    let unit = UnitRef { agency: code(1), unit: code(2) };
    AuditEvent {
        r#type: EventType::Released as i32,
        agency: code(1),
        time_ms: u64::MAX >> 1,
        packet_id: Bytes::from_static(&[1; 16]),
        header_digest: Bytes::from_static(&[1; 32]),
        originator: Some(unit.clone()),
        recipient: Some(unit),
        directory_hash: Bytes::from_static(&[1; 32]),
        policy_set_hash: Bytes::from_static(&[1; 32]),
        policy_ids: vec!["p".repeat(65); policies],
        reason: Reason::Policy as i32,
        version: u64::from(u32::MAX),
        text: "t".repeat(text),
        facts,
        named: true,
        ..AuditEvent::default()
    }
}

/// The longest facts that the broker takes.
fn longest_facts() -> PolicyFacts {
    let of = |agencies: usize| {
        let label = Label { rel_to: (0..agencies).map(code).collect(), ..Label::default() };
        PolicyFacts { label: Some(label), ..PolicyFacts::default() }
    };
    let is_short = |facts: &PolicyFacts| canonical::encode(facts).len() <= FACTS_BYTES_MAX;
    (1..100).map(of).take_while(is_short).last().unwrap()
}

/// The sequencer's groups must fit the journal's, whatever members send.
#[test]
fn the_longest_admission_fits_into_a_receipt_a_record_and_a_group() {
    let (world, at) = (World::new(NOW), 1 << 40);
    let text = DENIALS_BYTES_MAX / (limits::RECIPIENTS_MAX - 1);
    let receipt = |events: Vec<AuditEvent>| {
        Receipt {
            origin: sub_log_origin(&"b".repeat(limits::NAME_BYTES_MAX), &code(1)),
            packet_id: PacketId::new(NOW, &mut os_entropy()),
            header_digest: [1; 32],
            time_ms: u64::MAX >> 1,
            deadline_ms: u64::MAX >> 1,
            events: (at..).zip(&events).map(|(index, event)| log_event(index, [1; 32], event)).collect(),
        }
        .to_bytes()
    };
    let submitted = longest(0, 0, Some(longest_facts()));
    let all = |event: AuditEvent| [vec![submitted.clone()], vec![event; limits::RECIPIENTS_MAX]].concat();
    let received = longest(limits::POLICY_IDS_MAX, 0, Some(longest_facts()));
    let refused = longest(1, limits::SENTENCE_BYTES_MAX, Some(longest_facts()));
    for event in [&received, &refused] {
        assert!(canonical::encode(event).len() <= limits::EVENT_BYTES_MAX);
    }
    let one = receipt(vec![received]);
    for own in [all(longest(limits::POLICY_IDS_MAX, 0, None)), all(longest(1, text, None))] {
        let mut unsigned = vec![receipt(own)];
        unsigned.resize(limits::GROUP_STATEMENTS_MAX, one.clone());
        let signed = sign_receipts(&unsigned, &world.receipt_key).unwrap();
        let own = canonical::encode(&signed[0]);
        assert!(own.len() <= limits::RECEIPT_BYTES_MAX, "{}", own.len());
        let theirs = canonical::encode(&signed[1]);
        assert!(theirs.len() <= one.len() + PROOF_BYTES_MAX, "{} {}", theirs.len(), one.len());
        let unit = Some(UnitRef { agency: code(1), unit: code(2) });
        let admission = StoredAdmission {
            receipt: own,
            recipients: vec![StoredRecipient { unit, receipt: theirs }; limits::RECIPIENTS_MAX],
            blobs: vec![Bytes::from_static(&[1; 32]); limits::ATTACHMENTS_MAX],
            ..StoredAdmission::default()
        };
        let admission = canonical::encode(&admission).len();
        assert!(admission <= RECORD_BYTES_MAX, "{admission}");
        // A plan ends behind the packet that makes it full.
        let brief =
            256 + limits::RECIPIENTS_MAX * (2 * limits::CODE_BYTES_MAX + 8) + limits::ATTACHMENTS_MAX * 32;
        let last = PLAN_BYTES + limits::FRAME_BYTES_MAX + admission + brief;
        assert!(last < 3 * RECORD_BYTES_MAX, "{last}");
    }
    let event = log_event(at, [1; 32], &longest(1, text, Some(longest_facts())));
    let event = StoredEvent { agency: code(1), event: Some(event) };
    let events = StoredEvents { events: vec![event; limits::RECIPIENTS_MAX], ..StoredEvents::default() };
    assert!(canonical::encode(&events).len() <= RECORD_BYTES_MAX);
    // A packet that nobody may get is one record: two events for each recipient.
    let event =
        log_event(at, [1; 32], &AuditEvent { evidence_digest: Bytes::from_static(&[1; 32]), ..refused });
    let event = StoredEvent { agency: code(1), event: Some(event) };
    let events = StoredEvents { events: vec![event; 2 * limits::RECIPIENTS_MAX], ..StoredEvents::default() };
    assert!(canonical::encode(&events).len() <= RECORD_BYTES_MAX, "{}", canonical::encode(&events).len());
}

#[test]
fn a_packet_that_was_accepted_keeps_its_receipt_although_its_recipient_is_suspended_since() {
    let (mut world, mut book) = (World::new(NOW), Book::at(NOW));
    let (accepted, other) = (world.packet("TH", &[unit("KH", "A")]), world.packet("TH", &[unit("KH", "A")]));
    assert!(matches!(book.submit(&world, &[&accepted]).0[0], Verdict::Admitted(0)));
    let kh = world.roster.members.iter_mut().find(|member| member.agency == "KH").unwrap();
    kh.status = lintas_proto::schema::MemberStatus::Suspended as i32;
    let before = *world.directory.hash();
    world.publish_next();
    let submit = |packet: &Packet| {
        let speaker = world.speaker();
        let mut quota = Quota::new(0, QUEUE_ENTRIES_MAX);
        let mut plan = Plan::new(&book.ledger, &speaker, &world.rules, book.now_ms, &mut quota);
        let bytes = canonical::encode(&packet.submission);
        let earlier = |hash: &Digest| (*hash == before).then_some(1);
        let verified = crate::core::admit::verify(&bytes, "TH", &world.rules, earlier, NOW).unwrap();
        plan.submit(verified, |_| true, &mut os_entropy())
    };
    assert!(matches!(submit(&accepted), Verdict::Known(_)));
    assert_eq!(reason(&submit(&other)), Reason::UnknownRecipient);
}
