use lintas_link::{CloseCode, LinkError};
use lintas_proto::{
    evidence::verify_evidence,
    frame::FrameType,
    id::Digest,
    limits,
    receipt::verify_receipt,
    schema::{Outcome, SignedEvidence, SignedReceipt},
};

use super::*;
use crate::testing::{BROKER, unit};

/// Origin of a receipt that verifies and is for this packet.
fn origin(world: &World, receipt: &Bytes, sealed: &Sealed) -> String {
    let signed: SignedReceipt = canonical::decode(receipt, limits::RECEIPT_BYTES_MAX).unwrap();
    let (receipt, _) = verify_receipt(&signed, |id| world.directory.receipt_key(id)).unwrap();
    assert_eq!(receipt.header_digest, sealed.digest);
    receipt.origin
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_goes_all_the_way_and_its_evidence_comes_back() {
    let (world, folder) = scene();
    let broker = Broker::start(folder.path()).await;
    let mut th = Node::connect(&world, &broker, "TH").await;
    let mut kh = Node::connect(&world, &broker, "KH").await;
    let to = [unit("KH", "A"), unit("VN", "B")];
    let sealed = world.packet("TH", &to);
    let receipt = th.receipt(&sealed).await;
    assert_eq!(origin(&world, &receipt, &sealed), format!("{BROKER}/audit/TH"));

    let delivery = kh.delivery().await;
    let submission = &sealed.submission;
    assert_eq!((&delivery.header, &delivery.signature), (&submission.header, &submission.signature));
    assert_eq!(delivery.opening.as_ref(), submission.openings.first());
    assert_eq!((Some(&delivery.wrap), &delivery.body), (submission.wraps.first(), &submission.body));
    assert_eq!((delivery.recipient_index, delivery.queue_sequence), (0, 1));
    assert_eq!(origin(&world, &delivery.receipt, &sealed), format!("{BROKER}/audit/KH"));
    let whole = canonical::encode(&delivery);
    let holds = |part: &[u8]| whole.windows(part.len()).any(|window| window == part);
    assert!(!holds(&submission.wraps[1]) && !holds(b"VN-B"), "nothing of another recipient");

    kh.acknowledge(&world, &sealed, &to[0], 1).await;
    let EvidenceDelivery { queue_sequence, evidence } = th.evidence().await;
    let signed: SignedEvidence = canonical::decode(&evidence, limits::SIGNED_EVIDENCE_BYTES_MAX).unwrap();
    let key = lintas_proto::sign::VerifyingKey::parse(&world.packet_key("KH").public_key()).unwrap();
    let evidence = verify_evidence(&signed, |_, _| Some(&key)).unwrap();
    assert_eq!((evidence.outcome, evidence.recipient), (Outcome::Acceptance, Some(unit("KH", "A"))));
    kh.silence().await;
    drop(th);
    let mut th = Node::connect(&world, &broker, "TH").await;
    assert_eq!(th.evidence().await.queue_sequence, queue_sequence, "until it is taken");
    th.take(queue_sequence).await;
    let mut vn = Node::connect(&world, &broker, "VN").await;
    let late = vn.delivery().await;
    assert_eq!((late.opening.as_ref(), late.recipient_index), (submission.openings.get(1), 1));
    vn.silence().await;
    drop(th);
    Node::connect(&world, &broker, "TH").await.silence().await;
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_that_was_accepted_keeps_its_receipt_when_its_keys_have_gone() {
    let (mut world, folder) = scene();
    let broker = Broker::start(folder.path()).await;
    let mut th = Node::connect(&world, &broker, "TH").await;
    let (sealed, late) = (world.packet("TH", &[unit("KH", "A")]), world.packet("TH", &[unit("KH", "A")]));
    let receipt = th.receipt(&sealed).await;
    // The unit that signed both is no more.
    world.member("TH").units.remove(0);
    world.publish_next();
    broker.enforce(&world);
    assert_eq!(th.receipt(&sealed).await, receipt, "what was accepted was accepted");
    th.submit(&late).await;
    assert_eq!(th.refusal().await.reason, Reason::UnknownSender as i32, "nothing new is");
    // Nobody else is told of it.
    let mut kh = Node::connect(&world, &broker, "KH").await;
    kh.submit(&sealed).await;
    assert_eq!(kh.refusal().await.reason, Reason::UnknownSender as i32);
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_packet_gets_the_same_receipt_for_ever() {
    let (world, folder) = scene();
    let mut broker = Broker::start(folder.path()).await;
    let sealed = world.packet("TH", &[unit("KH", "A")]);
    let mut th = Node::connect(&world, &broker, "TH").await;
    th.submit(&sealed).await;
    th.submit(&sealed).await;
    let receipt = th.next(FrameType::Receipt).await;
    assert_eq!(th.next(FrameType::Receipt).await, receipt, "in flight");
    assert_eq!(th.receipt(&sealed).await, receipt, "later");
    let mut again = Node::connect(&world, &broker, "TH").await;
    assert_eq!(again.receipt(&sealed).await, receipt, "on a new connection");
    broker.stop().await.unwrap();
    broker = Broker::start(folder.path()).await;
    assert_eq!(Node::connect(&world, &broker, "TH").await.receipt(&sealed).await, receipt, "after a restart");
    broker.drop_dead().await;
    broker = Broker::start(folder.path()).await;
    let mut th = Node::connect(&world, &broker, "TH").await;
    assert_eq!(th.receipt(&sealed).await, receipt, "after a crash");
    let mut kh = Node::connect(&world, &broker, "KH").await;
    assert_eq!(kh.delivery().await.header, sealed.submission.header);
    kh.silence().await;
    let id = world.admit(&sealed).unwrap().header().core().packet_id;
    let other = world.packet_with("TH", &[unit("KH", "A")], |core| core.packet_id = id);
    th.submit(&other).await;
    let refusal = th.refusal().await;
    assert_eq!((refusal.reason, refusal.retry), (Reason::Replay as i32, false));
    assert_eq!(refusal.header_digest, other.digest.as_slice());
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_that_ends_nothing_gives_no_credit() {
    let (world, folder) = scene();
    let broker = Broker::start(folder.path()).await;
    let (mut th, to) = (Node::connect(&world, &broker, "TH").await, unit("KH", "A"));
    let sealed: Vec<Sealed> = (0..10).map(|_| world.packet("TH", std::slice::from_ref(&to))).collect();
    for packet in &sealed {
        th.receipt(packet).await;
    }
    let mut kh = Node::connect(&world, &broker, "KH").await;
    for number in 1..=8 {
        assert_eq!(kh.delivery().await.queue_sequence, number);
    }
    // As if packets were evidence, and of what is not there.
    for number in [1, 2, 9, 99] {
        kh.take(number).await;
    }
    kh.silence().await;
    kh.acknowledge(&world, &sealed[0], &to, 1).await;
    assert_eq!(kh.delivery().await.queue_sequence, 9, "one place is free");
    kh.silence().await;
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipient_that_was_away_catches_up_in_order_and_within_its_credit() {
    let (world, folder) = scene();
    let broker = Broker::start(folder.path()).await;
    let (mut th, to) = (Node::connect(&world, &broker, "TH").await, unit("KH", "A"));
    let sealed: Vec<Sealed> = (0..20).map(|_| world.packet("TH", std::slice::from_ref(&to))).collect();
    for packet in &sealed {
        th.submit(packet).await;
    }
    for _ in &sealed {
        th.next(FrameType::Receipt).await;
    }
    let mut kh = Node::connect(&world, &broker, "KH").await;
    let digest = |header: &Bytes| -> Digest { lintas_proto::id::sha256(&[header]) };
    for packet in &sealed[..8] {
        assert_eq!(digest(&kh.delivery().await.header), packet.digest);
    }
    kh.silence().await;
    kh.acknowledge(&world, &sealed[0], &to, 1).await;
    assert_eq!(kh.delivery().await.queue_sequence, 9, "one place is free");
    // Until then the next session would be handed it again.
    assert_eq!(th.evidence().await.queue_sequence, 1, "its end is durable");
    th.take(1).await;
    let mut kh = Node::connect(&world, &broker, "KH").await;
    for (number, packet) in (2u64..).zip(&sealed[1..]) {
        let delivery = kh.delivery().await;
        assert_eq!((delivery.queue_sequence, digest(&delivery.header)), (number, packet.digest));
        kh.acknowledge(&world, packet, &to, number).await;
    }
    kh.silence().await;
    for number in 2..=20 {
        let evidence = th.evidence().await;
        assert_eq!(evidence.queue_sequence, number);
        th.take(number).await;
    }
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_session_takes_the_place_of_the_older() {
    let (world, folder) = scene();
    let broker = Broker::start(folder.path()).await;
    let (mut th, to) = (Node::connect(&world, &broker, "TH").await, unit("KH", "A"));
    let sealed = world.packet("TH", std::slice::from_ref(&to));
    th.receipt(&sealed).await;
    let mut older = Node::connect(&world, &broker, "KH").await;
    let number = older.delivery().await.queue_sequence;
    older.acknowledge(&world, &sealed, &to, number).await;
    let mut newer = Node::connect(&world, &broker, "KH").await;
    let closed = soon(older.connection.closed()).await;
    assert!(matches!(closed, LinkError::Closed { code: CloseCode::Superseded, .. }), "{closed:?}");
    // The old session's acknowledgement may have been read or not; either way there is one evidence.
    if let Ok(Ok(Some((FrameType::Delivery, _)))) =
        timeout(Duration::from_millis(300), newer.reader.next()).await
    {
        newer.acknowledge(&world, &sealed, &to, number).await;
    }
    th.evidence().await;
    th.silence().await;
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_breaks_the_rules_ends_and_harms_nobody() {
    let (world, folder) = scene();
    let broker = Broker::start(folder.path()).await;
    let mut th = Node::connect(&world, &broker, "TH").await;
    let mut kh = Node::connect(&world, &broker, "KH").await;
    // Another agency's packet, and bytes that are none.
    kh.submit(&world.packet("TH", &[unit("VN", "A")])).await;
    assert_eq!(kh.refusal().await.reason, Reason::UnknownSender as i32);
    kh.writer.send(FrameType::Submission, Bytes::from_static(b"\xff")).await.unwrap();
    let refusal = kh.refusal().await;
    assert_eq!((refusal.reason, refusal.evidence), (Reason::Malformed as i32, None));
    // An acknowledgement of another's, and of nothing.
    let (sealed, to) = (world.packet("TH", &[unit("VN", "A")]), unit("VN", "A"));
    th.receipt(&sealed).await;
    kh.acknowledge(&world, &sealed, &to, 1).await;
    kh.take(77).await;
    // A frame that does not belong there.
    kh.writer.send(FrameType::Receipt, Bytes::from_static(b"x")).await.unwrap();
    let closed = soon(kh.connection.closed()).await;
    assert!(matches!(closed, LinkError::Closed { code: CloseCode::ProtocolViolation, .. }), "{closed:?}");
    let mut vn = Node::connect(&world, &broker, "VN").await;
    assert_eq!(vn.delivery().await.queue_sequence, 1, "still there");
    th.silence().await;
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn more_answers_than_places_all_arrive() {
    let (world, folder) = scene();
    let broker = Broker::start(folder.path()).await;
    let Node { connection, mut writer, mut reader, _client, .. } = Node::connect(&world, &broker, "TH").await;
    let one = bytes_of(&world.packet("TH", &[unit("KH", "A")]));
    let count = 3 * crate::shell::session::IN_FLIGHT_MAX;
    let sending = tokio::spawn(async move {
        for _ in 0..count {
            writer.send(FrameType::Submission, one.clone()).await.unwrap();
        }
        writer
    });
    // Does not read for a while: answers gather.
    sleep(Duration::from_millis(500)).await;
    for _ in 0..count {
        assert_eq!(soon(reader.next()).await.unwrap().unwrap().0, FrameType::Receipt);
    }
    drop((sending.await.unwrap(), connection));
    broker.stop().await.unwrap();
}
