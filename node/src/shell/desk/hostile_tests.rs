//! What a hostile broker, or a stranger through it, may try.

use bytes::Bytes;
use lintas_config::os_entropy;
use lintas_proto::{
    canonical,
    envelope::seal::seal,
    evidence::{Evidence, sign_evidence},
    frame::FrameType,
    id::PacketId,
    limits,
    schema::{
        Acknowledgement, EventType, EvidenceDelivery, Outcome, Reason, Refusal, SignedEvidence, Stage,
        StoredIncoming, Submission, UnitRef,
    },
};

use super::*;
use crate::core::{
    draft::{Attachments, Draft, Sender, compose},
    records::Record,
    view::Standing,
};
use crate::testing::{AMBER, BROKER, REGION, Region, core, digest, draft, submission_events};

/// Seals a packet from Thailand to Cambodia.
pub(super) fn packet(desk: &Desk) -> Submission {
    desk.send(&draft(&["KH/KH-AHT"], "t", AMBER, "NONE"), &[], &[], None, &How::default(), &mut os_entropy())
        .unwrap();
    let next = desk.next_submission().unwrap().unwrap();
    canonical::decode(&next.bytes, limits::FRAME_BYTES_MAX).unwrap()
}

pub(super) fn hear(desk: &Desk, frames: Vec<(FrameType, Bytes)>) -> Vec<Acknowledgement> {
    let heard = frames.into_iter().map(|(kind, payload)| Heard { kind, payload }).collect();
    desk.settle(desk.judge(heard)).unwrap().acknowledgements
}

fn unit(agency: &str, unit: &str) -> UnitRef {
    UnitRef { agency: agency.to_owned(), unit: unit.to_owned() }
}

/// Cambodia says that it has a packet, or that it failed.
pub(super) fn statement(region: &Region, packet: &Submission, outcome: Outcome) -> Evidence {
    let accepted = outcome == Outcome::Acceptance;
    Evidence {
        region: REGION.to_owned(),
        stage: Stage::Delivery,
        outcome,
        reason: if accepted { Reason::Accepted } else { Reason::Malformed },
        text: String::new(),
        packet_id: core(&packet.header).packet_id,
        header_digest: digest(packet),
        actor: unit("KH", "KH-AHT"),
        recipient: Some(unit("KH", "KH-AHT")),
        time_ms: clock::now_ms(),
        leaf: None,
        policy_id: String::new(),
        directory_hash: *region.directory().hash(),
    }
}

/// Statements that differ in their time, signed by an agency, as deliveries.
pub(super) fn told(region: &Region, signer: &str, said: &Evidence, count: u64) -> Vec<(FrameType, Bytes)> {
    let said: Vec<Evidence> =
        (0..count).map(|more| Evidence { time_ms: said.time_ms + more, ..said.clone() }).collect();
    let signed = sign_evidence(&said, &region.packet_key(signer)).unwrap();
    let frame = |(queue_sequence, signed)| {
        let delivery = EvidenceDelivery { queue_sequence, evidence: canonical::encode(signed) };
        (FrameType::Evidence, canonical::encode(&delivery))
    };
    (1..).zip(&signed).map(frame).collect()
}

/// Bytes of the records kept.
pub(super) fn kept(desk: &Desk) -> usize {
    let mut count = 0;
    while desk.store.read(count as u64 + 1).is_ok() {
        count += 1;
    }
    count
}

#[test]
fn evidence_that_is_not_believed_holds_nothing_up_and_fills_nothing() {
    let region = Region::new();
    let thailand = region.desk("TH");
    let packet = packet(&thailand);
    let id = core(&packet.header).packet_id.to_string();
    let before = kept(&thailand);
    let said = statement(&region, &packet, Outcome::Acceptance);
    // Signed by Indonesia in the name of Cambodia.
    let forged = told(&region, "ID", &said, 64);
    assert_eq!(hear(&thailand, forged.clone()).len(), 64);
    assert_eq!(hear(&thailand, forged).len(), 64);
    assert_eq!(kept(&thailand), before + 16);
    assert_eq!(thailand.standing(&id).unwrap().recipients[0].state, "pending");
    assert!(thailand.link().trouble.contains("not believed"));
    // About packets that were never sent, forged or not.
    let other = Evidence { header_digest: [9; 32], ..said.clone() };
    for signer in ["ID", "KH"] {
        assert_eq!(hear(&thailand, told(&region, signer, &other, 3)).len(), 3);
    }
    assert_eq!(kept(&thailand), before + 16);
    drop(thailand);
    let thailand = region.desk("TH");
    assert_eq!(hear(&thailand, told(&region, "ID", &said, 1)).len(), 1);
    assert_eq!(kept(&thailand), before + 16);
    assert_eq!(hear(&thailand, told(&region, "KH", &said, 1)).len(), 1);
    assert_eq!(thailand.standing(&id).unwrap().recipients[0].state, "delivered");
}

#[test]
fn no_number_of_failures_fills_the_disk_or_hides_that_it_arrived() {
    let region = Region::new();
    let thailand = region.desk("TH");
    let packet = packet(&thailand);
    let id = core(&packet.header).packet_id.to_string();
    let before = kept(&thailand);
    let failed = statement(&region, &packet, Outcome::Failure);
    assert_eq!(hear(&thailand, told(&region, "KH", &failed, 20)).len(), 20);
    assert_eq!(kept(&thailand), before + 3);
    let arrived = statement(&region, &packet, Outcome::Acceptance);
    assert_eq!(hear(&thailand, told(&region, "KH", &arrived, 5)).len(), 5);
    assert_eq!(kept(&thailand), before + 4);
    assert_eq!(thailand.standing(&id).unwrap().recipients[0].state, "delivered");
}

fn delivered(delivery: &lintas_proto::schema::Delivery) -> (FrameType, Bytes) {
    (FrameType::Delivery, canonical::encode(delivery))
}

fn outcomes(answers: &[Acknowledgement]) -> Vec<Outcome> {
    let outcome = |answer: &Acknowledgement| {
        let signed: SignedEvidence =
            canonical::decode(&answer.evidence, limits::SIGNED_EVIDENCE_BYTES_MAX).unwrap();
        Evidence::parse(&signed.evidence).unwrap().outcome
    };
    answers.iter().map(outcome).collect()
}

#[test]
fn a_damaged_copy_never_answers_for_a_good_one() {
    let region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    let packet = packet(&thailand);
    let good = delivered(&region.delivery(&packet, 0, 1));
    let mut broken = region.delivery(&packet, 0, 2);
    broken.signature = Bytes::from(vec![1; 64]);
    let bad = delivered(&broken);
    let failure = hear(&cambodia, vec![bad.clone()]);
    assert_eq!(outcomes(&failure), [Outcome::Failure]);
    assert_eq!(hear(&cambodia, vec![bad.clone()]), failure);
    assert_eq!(cambodia.status().rejected, 1);
    // Both in one batch, in either order, and after a restart.
    let both = hear(&cambodia, vec![bad.clone(), good.clone()]);
    assert!(outcomes(&both).contains(&Outcome::Acceptance));
    assert_eq!((cambodia.status().rejected, cambodia.status().received), (0, 1));
    drop(cambodia);
    let cambodia = region.desk("KH");
    assert_eq!((cambodia.status().rejected, cambodia.status().received), (0, 1));
    assert_eq!(outcomes(&hear(&cambodia, vec![bad])), [Outcome::Acceptance]);
}

#[test]
fn a_bad_and_a_good_copy_in_one_batch_are_one_packet() {
    let region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    let packet = packet(&thailand);
    let mut broken = region.delivery(&packet, 0, 1);
    broken.wrap = Bytes::from(vec![1; broken.wrap.len()]);
    let good = region.delivery(&packet, 0, 2);
    let answers = hear(&cambodia, vec![delivered(&broken), delivered(&good)]);
    assert_eq!(outcomes(&answers), [Outcome::Acceptance; 2]);
    assert_eq!((cambodia.status().rejected, cambodia.status().received), (0, 1));
}

#[test]
fn a_receipt_by_an_unknown_key_waits_for_the_directory() {
    let mut region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    let packet = packet(&thailand);
    region.broker = Region::new().broker;
    assert_eq!(hear(&cambodia, vec![delivered(&region.delivery(&packet, 0, 1))]), []);
    assert_eq!(cambodia.status().rejected, 0);
    assert!(cambodia.link().trouble.contains("the node fetches the newest"));
}

#[test]
fn rejections_are_bounded_and_hold_back_no_packet() {
    let region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    let packet = packet(&thailand);
    // Other digests, each rejected: the receipt is for another header.
    let rejected = (0..12).map(|at| {
        let mut delivery = region.delivery(&packet, 0, at);
        let mut header: lintas_proto::schema::Header =
            canonical::decode(&delivery.header, limits::HEADER_BYTES_MAX).unwrap();
        header.body_length += 1 + at;
        delivery.header = canonical::encode(&header);
        delivered(&delivery)
    });
    let frames: Vec<_> = rejected.chain([delivered(&region.delivery(&packet, 0, 100))]).collect();
    assert_eq!(hear(&cambodia, frames.clone()).len(), 9);
    assert_eq!((cambodia.status().rejected, cambodia.status().received), (8, 1));
    assert_eq!(hear(&cambodia, frames).len(), 9);
    assert_eq!(cambodia.status().rejected, 8);
}

#[test]
fn a_unit_that_the_directory_does_not_know_yet_holds_back_nothing_else() {
    let region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    let packet = packet(&thailand);
    let mut unknown = region.delivery(&packet, 0, 1);
    unknown.opening.as_mut().unwrap().unit = "KH-NEW".to_owned();
    let known = region.delivery(&packet, 0, 2);
    let answers = hear(&cambodia, vec![delivered(&unknown), delivered(&known)]);
    assert_eq!(answers.iter().map(|answer| answer.queue_sequence).collect::<Vec<_>>(), [2]);
    assert!(cambodia.link().trouble.contains("does not know unit KH-NEW yet"));
}

#[test]
fn what_came_before_a_breach_is_kept_first() {
    let region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    let packet = packet(&thailand);
    let mut foreign = region.delivery(&packet, 0, 2);
    foreign.opening.as_mut().unwrap().agency = "ID".to_owned();
    let frames = [region.delivery(&packet, 0, 1), foreign].map(|delivery| {
        let (kind, payload) = delivered(&delivery);
        Heard { kind, payload }
    });
    let settled = cambodia.settle(cambodia.judge(frames.into())).unwrap();
    assert_eq!(settled.acknowledgements.len(), 1);
    assert!(matches!(settled.broken, Some(Broken::Protocol(_))));
    assert_eq!(cambodia.status().received, 1);
}

#[test]
fn a_receipt_says_of_everybody_what_became_of_the_packet_and_of_nobody_else() {
    let region = Region::new();
    let thailand = region.desk("TH");
    let packet = packet(&thailand);
    let id = core(&packet.header).packet_id.to_string();
    let whole = submission_events(&packet);
    let stranger = (EventType::Released, Some(unit("ID", "ID-CID")));
    let (submitted, released) = (whole[0].clone(), whole[1].clone());
    let lacking = [
        vec![submitted.clone()],
        vec![released.clone()],
        vec![submitted.clone(), stranger.clone()],
        vec![submitted.clone(), released.clone(), stranger],
        vec![submitted.clone(), released.clone(), released.clone()],
        vec![submitted.clone(), submitted.clone(), released.clone()],
        vec![submitted.clone(), (EventType::Received, released.1.clone())],
    ];
    for events in lacking {
        hear(&thailand, vec![(FrameType::Receipt, region.receipt("TH", &packet.header, &events))]);
        let standing = thailand.standing(&id).unwrap().standing;
        assert!(matches!(standing, Standing::Waiting { .. }), "{events:?}");
    }
    let denied = [submitted, (EventType::Denied, released.1)];
    hear(&thailand, vec![(FrameType::Receipt, region.receipt("TH", &packet.header, &denied))]);
    assert!(matches!(thailand.standing(&id).unwrap().standing, Standing::Accepted { .. }));
    assert_eq!(thailand.standing(&id).unwrap().recipients[0].state, "denied");
}

#[test]
fn a_delivery_needs_the_receipt_of_its_own_unit() {
    let region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    let packet = packet(&thailand);
    for named in [None, Some(unit("KH", "KH-OTHER"))] {
        let mut delivery = region.delivery(&packet, 0, 1);
        delivery.receipt = region.receipt("KH", &packet.header, &[(EventType::Received, named)]);
        assert_eq!(outcomes(&hear(&cambodia, vec![delivered(&delivery)])), [Outcome::Failure]);
    }
}

#[test]
fn a_final_refusal_is_believed_with_the_signed_statement_only() {
    let region = Region::new();
    let thailand = region.desk("TH");
    let packet = packet(&thailand);
    let id = core(&packet.header).packet_id;
    let refuse = |evidence| {
        let refusal = Refusal {
            packet_id: Bytes::copy_from_slice(id.as_bytes()),
            header_digest: Bytes::copy_from_slice(&digest(&packet)),
            reason: Reason::Expired as i32,
            text: "No.".to_owned(),
            retry: false,
            evidence,
        };
        hear(&thailand, vec![(FrameType::Refusal, canonical::encode(&refusal))]);
        thailand.standing(&id.to_string()).unwrap().standing
    };
    let statement = Evidence {
        stage: Stage::Submission,
        reason: Reason::Expired,
        actor: unit(BROKER, ""),
        recipient: None,
        ..statement(&region, &packet, Outcome::Rejection)
    };
    let sign = |key| sign_evidence(std::slice::from_ref(&statement), &key).unwrap().remove(0);
    for doubtful in [None, Some(sign(Region::new().receipt_key()))] {
        let Standing::Waiting { again_ms: Some(_), .. } = refuse(doubtful) else { panic!("final") };
        assert!(thailand.link().trouble.contains("not believed"));
    }
    assert!(matches!(refuse(Some(sign(region.receipt_key()))), Standing::Refused { signed: true, .. }));
}

#[test]
fn a_packet_that_came_too_late_is_marked() {
    let region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    let packet = packet(&thailand);
    hear(&cambodia, vec![delivered(&region.delivery(&packet, 0, 1))]);
    let inbox = cambodia.inbox(1).unwrap();
    assert_eq!(inbox.packets[0].warnings, [""; 0]);
    let sequence = cambodia.store.state().incoming().next().unwrap().0;
    let Record::Incoming(stored) = cambodia.store.read(sequence).unwrap() else { panic!("another record") };
    let late = StoredIncoming { received_ms: core(&packet.header).deliver_by_ms + 1, ..*stored };
    cambodia.store.keep(vec![Record::Incoming(Box::new(late))]).unwrap();
    let warnings = cambodia.inbox(1).unwrap().packets[0].warnings.clone();
    assert!(warnings[0].contains("came after the time"), "{warnings:?}");
}

#[test]
fn a_daemon_that_ends_before_it_answers_is_told_apart() {
    let region = Region::new();
    let desk = region.desk("TH");
    let folder = desk.folder().clone();
    let listener = std::os::unix::net::UnixListener::bind(folder.socket()).unwrap();
    let ended = std::thread::spawn(move || drop(listener.accept().unwrap()));
    let failure = crate::shell::control::ask(&folder, &Request::Status).unwrap().unwrap_err();
    ended.join().unwrap();
    assert_eq!((failure.code, failure.code as u8), (Code::DaemonEnded, 11));
    assert!(failure.message.contains("look at `lintas outbox` before you send again"));
}

/// A packet of Thailand to Cambodia under that id.
fn packet_under(desk: &Desk, packet_id: PacketId) -> Submission {
    let directory = desk.directory();
    let draft = Draft::parse(&draft(&["KH/KH-AHT"], "t", AMBER, "NONE"), &[], None).unwrap();
    let originator = draft.originator(&directory, "TH").unwrap();
    let clearing = super::send::Clearing::again(false);
    let cleared = desk.clear(&draft, &originator, &directory, clearing).unwrap().recipients;
    let sender = Sender { originator, packet_id, reviewed: false };
    let draft = compose(draft, sender, cleared, Attachments::new(), &directory, &desk.store.state());
    seal(draft, &desk.keys().packet, &mut os_entropy()).unwrap().submission
}

#[test]
fn of_two_packets_under_one_id_the_first_is_kept_and_of_one_delivery_twice_one_however_they_come() {
    let region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    for round in 0..3_usize {
        let id = PacketId::new(clock::now_ms(), &mut os_entropy());
        let (first, second) = (packet_under(&thailand, id), packet_under(&thailand, id));
        let heard = |(packet, sequence)| {
            let (kind, payload) = delivered(&region.delivery(packet, 0, sequence));
            Heard { kind, payload }
        };
        let come = [(&first, 1), (&second, 2), (&first, 3)];
        let groups: Vec<Vec<Step>> = match round {
            // All in one batch, or each in its own, judged before any of them is kept.
            0 => vec![cambodia.judge(come.map(heard).into())],
            1 => come.map(|one| cambodia.judge(vec![heard(one)])).into(),
            _ => vec![],
        };
        let settle = |steps| cambodia.settle(steps).unwrap().acknowledgements;
        let answers: Vec<Acknowledgement> = if groups.is_empty() {
            come.into_iter().flat_map(|one| settle(cambodia.judge(vec![heard(one)]))).collect()
        } else {
            groups.into_iter().flat_map(settle).collect()
        };
        assert_eq!(answers.iter().map(|answer| answer.queue_sequence).collect::<Vec<_>>(), [1, 2, 3]);
        let said = |answer: &Acknowledgement| {
            let signed: SignedEvidence =
                canonical::decode(&answer.evidence, limits::SIGNED_EVIDENCE_BYTES_MAX).unwrap();
            Evidence::parse(&signed.evidence).unwrap()
        };
        let [kept, refused, again] = [0, 1, 2].map(|at: usize| said(&answers[at]));
        assert_eq!((kept.outcome, kept.header_digest), (Outcome::Acceptance, digest(&first)));
        assert_eq!((refused.outcome, refused.reason), (Outcome::Failure, Reason::Replay), "round {round}");
        assert_eq!((refused.header_digest, refused.packet_id), (digest(&second), id));
        assert_eq!(kept, again, "the same answer");
        assert_eq!(cambodia.status().received, round + 1);
    }
}

#[test]
fn a_delivery_that_two_sessions_keep_at_the_same_time_is_kept_once() {
    let region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    for round in 1..=8_usize {
        let packet = packet_under(&thailand, PacketId::new(clock::now_ms(), &mut os_entropy()));
        let (kind, payload) = delivered(&region.delivery(&packet, 0, 1));
        // Batches of a session that is over go on beside those of the next: both judge before either keeps.
        let judged = [(); 4].map(|()| cambodia.judge(vec![Heard { kind, payload: payload.clone() }]));
        let (together, desk) = (std::sync::Barrier::new(judged.len()), &cambodia);
        let together = &together;
        let answers = std::thread::scope(|scope| {
            let settle = |steps| {
                scope.spawn(move || {
                    together.wait();
                    desk.settle(steps).unwrap().acknowledgements.remove(0).evidence
                })
            };
            judged.map(settle).map(|thread| thread.join().unwrap())
        });
        assert!(answers.iter().all(|answer| *answer == answers[0]), "one answer");
        assert_eq!(cambodia.status().received, round);
    }
}
