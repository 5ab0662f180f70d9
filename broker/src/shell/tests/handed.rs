//! Who gets what by the policies: at admission, and when it is handed over.

use lintas_proto::{
    evidence::{Evidence, verify_evidence},
    limits,
    receipt::verify_receipt,
    schema::{AuditEvent, BlobGet, BlobStatus, EventType, SignedEvidence, SignedReceipt},
};

use super::*;
use crate::testing::{OPEN, blob, unit};

fn events(world: &World, receipt: &Bytes) -> Vec<AuditEvent> {
    let signed: SignedReceipt = canonical::decode(receipt, limits::RECEIPT_BYTES_MAX).unwrap();
    verify_receipt(&signed, |id| world.directory.receipt_key(id)).unwrap().1
}

/// The broker's word that a policy keeps a packet from its recipient.
async fn withheld(world: &World, th: &mut Node, sealed: &Sealed) -> Evidence {
    let EvidenceDelivery { queue_sequence: number, evidence } = th.evidence().await;
    let signed: SignedEvidence = canonical::decode(&evidence, limits::SIGNED_EVIDENCE_BYTES_MAX).unwrap();
    let evidence = verify_evidence(&signed, |_, id| world.directory.receipt_key(id)).unwrap();
    assert_eq!((evidence.reason, evidence.header_digest), (Reason::Policy, sealed.digest));
    th.take(number).await;
    evidence
}

async fn blob_of(node: &Node, sealed: &Sealed, blob_id: &Bytes) -> Reason {
    let (mut writer, mut reader) = node.connection.open_stream().await.unwrap();
    let header_digest = Bytes::copy_from_slice(&sealed.digest);
    let get = BlobGet { blob_id: blob_id.clone(), header_digest, offset: 0 };
    writer.send_message(FrameType::BlobGet, &get).await.unwrap();
    let status: BlobStatus = soon(reader.next_message(FrameType::BlobStatus)).await.unwrap();
    status.reason()
}

async fn upload(node: &Node, bytes: Vec<u8>, reference: &lintas_proto::schema::AttachmentRef) {
    let (mut writer, mut reader) = node.connection.open_stream().await.unwrap();
    let put = lintas_proto::schema::BlobPut { blob: Some(reference.clone()) };
    writer.send_message(FrameType::BlobPut, &put).await.unwrap();
    let _: BlobStatus = soon(reader.next_message(FrameType::BlobStatus)).await.unwrap();
    writer.write_raw(Bytes::from(bytes)).await.unwrap();
    soon(writer.finish()).await.unwrap();
    let kept: BlobStatus = soon(reader.next_message(FrameType::BlobStatus)).await.unwrap();
    assert_eq!(kept.reason(), Reason::Accepted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_that_one_does_not_accept_reaches_the_others_also_after_a_crash() {
    let (mut world, folder) = scene();
    world.set_policy("VN", "");
    world.write_policies(folder.path());
    let broker = Broker::start(folder.path()).await;
    let mut th = Node::connect(&world, &broker, "TH").await;
    let vn = Node::connect(&world, &broker, "VN").await;
    let (bytes, reference) = blob(b"crew");
    upload(&th, bytes, &reference).await;
    let to = [unit("VN", "A"), unit("KH", "A")];
    let sealed = world.packet_with("TH", &to, |core| core.attachments.push(reference.clone()));
    let receipt = th.receipt(&sealed).await;
    let kinds: Vec<EventType> = events(&world, &receipt).iter().map(AuditEvent::r#type).collect();
    assert_eq!(kinds, [EventType::Submitted, EventType::NotAccepted, EventType::Released]);
    assert_eq!(blob_of(&vn, &sealed, &reference.blob_id).await, Reason::MissingAttachment);
    broker.drop_dead().await;

    let broker = Broker::start(folder.path()).await;
    let mut th = Node::connect(&world, &broker, "TH").await;
    assert_eq!(th.receipt(&sealed).await, receipt);
    let mut vn = Node::connect(&world, &broker, "VN").await;
    vn.silence().await;
    assert_eq!(blob_of(&vn, &sealed, &reference.blob_id).await, Reason::MissingAttachment);
    let mut kh = Node::connect(&world, &broker, "KH").await;
    let delivery = kh.delivery().await;
    assert_eq!((delivery.recipient_index, delivery.queue_sequence), (1, 1));
    assert_eq!(delivery.opening.as_ref(), sealed.submission.openings.get(1));
    assert_eq!(blob_of(&kh, &sealed, &reference.blob_id).await, Reason::Accepted);
    let whole = canonical::encode(&delivery);
    let holds = |part: &[u8]| whole.windows(part.len()).any(|window| window == part);
    assert!(!holds(&sealed.submission.wraps[0]) && !holds(b"VN-A"), "nothing of the other");
    kh.acknowledge(&world, &sealed, &to[1], 1).await;
    th.evidence().await;
    assert_eq!(broker.shared.ledger().packet_by_digest(&sealed.digest), None, "nobody else is waited for");
    // Another day, another policy: nothing is revived.
    world.set_policy("VN", OPEN);
    broker.enforce(&world);
    vn.silence().await;
    Node::connect(&world, &broker, "VN").await.silence().await;
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_policy_forbids_by_now_is_not_handed_over_and_what_comes_behind_is() {
    let (mut world, folder) = quiet_scene();
    let broker = Broker::start(folder.path()).await;
    let mut th = Node::connect(&world, &broker, "TH").await;
    let (a, b) = (unit("KH", "A"), unit("KH", "B"));
    let (bytes, reference) = blob(b"crew");
    upload(&th, bytes, &reference).await;
    let to_a = |world: &World| {
        world.packet_with("TH", &[unit("KH", "A"), unit("VN", "A")], |core| {
            core.attachments.push(reference.clone());
        })
    };
    // More than the credit of a session.
    let denied: Vec<Sealed> = (0..12).map(|_| to_a(&world)).collect();
    let last = world.packet("TH", std::slice::from_ref(&b));
    for packet in denied.iter().chain([&last]) {
        th.receipt(packet).await;
    }
    let not_a = format!(
        "{OPEN} @id(\"not-a\") @reason(\"A has been infiltrated\")
        forbid (principal == Lintas::Unit::\"KH/KH-A\", action == Lintas::Action::\"Accept\", resource);"
    );
    world.set_policy("KH", &not_a);
    broker.enforce(&world);
    let mut kh = Node::connect(&world, &broker, "KH").await;
    let delivery = kh.delivery().await;
    assert_eq!((delivery.queue_sequence, delivery.header), (13, last.submission.header.clone()));
    for packet in &denied {
        let evidence = withheld(&world, &mut th, packet).await;
        assert_eq!((evidence.recipient, evidence.policy_id.as_str()), (Some(a.clone()), "KH/not-accepted"));
        assert!(!evidence.text.contains("infiltrated"), "{}", evidence.text);
        assert_eq!(blob_of(&kh, packet, &reference.blob_id).await, Reason::MissingAttachment);
    }
    kh.silence().await;
    world.set_policy("KH", OPEN);
    broker.enforce(&world);
    assert_eq!(blob_of(&kh, &denied[0], &reference.blob_id).await, Reason::MissingAttachment);
    let mut kh = Node::connect(&world, &broker, "KH").await;
    assert_eq!(kh.delivery().await.queue_sequence, 13, "nothing is revived");
    kh.silence().await;
    let mut vn = Node::connect(&world, &broker, "VN").await;
    assert_eq!(vn.delivery().await.header, denied[0].submission.header, "VN lost nothing");
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_stand_in_the_log_before_what_they_decide() {
    let (mut world, folder) = quiet_scene();
    let broker = Broker::start(folder.path()).await;
    let mut th = Node::connect(&world, &broker, "TH").await;
    let first = th.receipt(&world.packet("TH", &[unit("KH", "A")])).await;
    world.set_policy("TH", &format!("{OPEN} // again"));
    broker.enforce(&world);
    let second = th.receipt(&world.packet("TH", &[unit("KH", "A")])).await;
    let index = |receipt: &Bytes| {
        let signed: SignedReceipt = canonical::decode(receipt, limits::RECEIPT_BYTES_MAX).unwrap();
        let (receipt, events) = verify_receipt(&signed, |id| world.directory.receipt_key(id)).unwrap();
        (receipt.events[0].index, events[0].policy_set_hash.clone())
    };
    let hash = world.rules.policies().hash().as_slice();
    let ((first, before), (second, after)) = (index(&first), index(&second));
    assert_eq!((first, second), (1, 4), "POLICY_CHANGED, two events, POLICY_CHANGED");
    assert!(before != hash && after == hash);
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attachment_that_is_on_its_way_is_cut_off_when_a_policy_forbids_it() {
    let (mut world, folder) = quiet_scene();
    let broker = Broker::start(folder.path()).await;
    let mut th = Node::connect(&world, &broker, "TH").await;
    // More than both sides of a connection hold for somebody who does not read.
    let (bytes, reference) = blob(&vec![7; 40 << 20]);
    let length = bytes.len();
    upload(&th, bytes, &reference).await;
    let to = [unit("KH", "A"), unit("VN", "A")];
    let sealed = world.packet_with("TH", &to, |core| core.attachments.push(reference.clone()));
    th.receipt(&sealed).await;
    let (mut kh, mut vn) =
        (Node::connect(&world, &broker, "KH").await, Node::connect(&world, &broker, "VN").await);
    kh.delivery().await;
    vn.delivery().await;
    let begin = async |node: &Node| {
        let (mut writer, mut reader) = node.connection.open_stream().await.unwrap();
        let header_digest = Bytes::copy_from_slice(&sealed.digest);
        let get = BlobGet { blob_id: reference.blob_id.clone(), header_digest, offset: 0 };
        writer.send_message(FrameType::BlobGet, &get).await.unwrap();
        let status: BlobStatus = soon(reader.next_message(FrameType::BlobStatus)).await.unwrap();
        assert_eq!(status.reason(), Reason::Accepted);
        (writer, reader)
    };
    let (denied, allowed) = (begin(&kh).await, begin(&vn).await);
    world.set_policy("KH", "");
    broker.enforce(&world);
    let (_denied, mut reader) = denied;
    let mut given = 0;
    let cut = loop {
        match soon(reader.read_raw(1 << 20)).await {
            Ok(Some(part)) => given += part.len(),
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    assert!(cut && given < length, "{given} of {length}");
    let (_allowed, mut reader) = allowed;
    let mut given = 0;
    while let Some(part) = soon(reader.read_raw(1 << 20)).await.unwrap() {
        given += part.len();
    }
    assert_eq!(given, length, "whoever may have it gets all of it");
    broker.stop().await.unwrap();
}
