//! Whoever leaves is gone at once, and what waited for it is withheld.

use lintas_link::CloseCode;
use lintas_proto::{
    evidence::{Evidence, verify_evidence},
    limits,
    schema::{MemberStatus, Outcome, SignedEvidence},
};

use super::*;
use crate::testing::{put, unit};

/// Evidence of the broker that a packet did not reach its recipient.
async fn withheld(world: &World, th: &mut Node, sealed: &Sealed) -> Evidence {
    let evidence = th.evidence().await;
    let signed: SignedEvidence =
        canonical::decode(&evidence.evidence, limits::SIGNED_EVIDENCE_BYTES_MAX).unwrap();
    let evidence = verify_evidence(&signed, |_, id| world.directory.receipt_key(id)).unwrap();
    assert_eq!((evidence.outcome, evidence.reason), (Outcome::Failure, Reason::MemberLeft));
    assert_eq!(evidence.header_digest, sealed.digest);
    evidence
}

/// KH, as soon as the broker serves it under its new identity.
async fn served(world: &World, broker: &Broker) -> Node {
    soon(async {
        loop {
            match connect_as(world, broker.address, &world.transport("KH"), &hello("KH")).await {
                Ok(node) => return node,
                Err(LinkError::NotAdmitted) => sleep(Duration::from_millis(50)).await,
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await
}

async fn is_closed(node: &Node) {
    let closed = soon(node.connection.closed()).await;
    assert!(matches!(closed, LinkError::Closed { code: CloseCode::DirectoryChanged, .. }), "{closed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_roster_revokes_one_and_admits_another_while_the_broker_runs() {
    let (mut world, folder) = scene();
    let broker = Broker::start(folder.path()).await;
    let mut th = Node::connect(&world, &broker, "TH").await;
    let mut kh = Node::connect(&world, &broker, "KH").await;
    let to = [unit("KH", "A"), unit("VN", "A")];
    let packets: Vec<Sealed> = (0..3).map(|_| world.packet("TH", &to)).collect();
    for packet in &packets {
        th.receipt(packet).await;
        kh.delivery().await;
    }
    world.join("LA");
    let la = connect_as(&world, broker.address, &world.transport("LA"), &hello("LA")).await.err();
    assert!(matches!(la, Some(LinkError::NotAdmitted)), "{la:?}");
    world.set_status("KH", MemberStatus::Revoked);
    world.publish_next();
    place(&folder.path().join("directory.bin"), world.directory.bytes());
    let placed_ms = clock::shown_ms();
    th.told(&world).await;
    let told_ms = clock::shown_ms();
    is_closed(&kh).await;
    let after_ms = || clock::shown_ms() - told_ms;
    println!("told {} ms after the file was there; closed {} ms later", told_ms - placed_ms, after_ms());
    assert!(after_ms() < 5_000);
    for packet in &packets {
        let evidence = withheld(&world, &mut th, packet).await;
        assert_eq!(evidence.recipient, Some(unit("KH", "A")));
        assert!(
            evidence.text.contains("by roster version 2 of the region authority KH"),
            "{}",
            evidence.text
        );
    }
    println!("all withheld {} ms after it was told", after_ms());
    let again = connect_as(&world, broker.address, &world.transport("KH"), &hello("KH")).await.err();
    assert!(matches!(again, Some(LinkError::NotAdmitted)), "{again:?}");
    th.submit(&world.packet("TH", &[unit("KH", "A")])).await;
    assert_eq!(th.refusal().await.reason, Reason::UnknownRecipient as i32);
    // VN lost nothing, and LA is a member.
    let mut vn = Node::connect(&world, &broker, "VN").await;
    for _ in &packets {
        vn.delivery().await;
    }
    let mut la = Node::connect(&world, &broker, "LA").await;
    th.submit(&world.packet("TH", &[unit("LA", "A")])).await;
    let refusal = th.refusal().await;
    assert!(refusal.reason() == Reason::Policy && refusal.text.contains("LA"), "{}", refusal.text);
    broker.enforce(&world);
    let sealed = world.packet("TH", &[unit("LA", "A")]);
    th.receipt(&sealed).await;
    assert_eq!(la.delivery().await.body, sealed.submission.body);
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_member_comes_back_to_an_empty_queue() {
    let (mut world, folder) = scene();
    let path = folder.path().join("directory.bin");
    let broker = Broker::start(folder.path()).await;
    let mut th = Node::connect(&world, &broker, "TH").await;
    let kh = Node::connect(&world, &broker, "KH").await;
    let sealed = world.packet("TH", &[unit("KH", "A")]);
    th.receipt(&sealed).await;
    world.set_status("KH", MemberStatus::Suspended);
    world.publish_next();
    place(&path, world.directory.bytes());
    is_closed(&kh).await;
    withheld(&world, &mut th, &sealed).await;
    world.set_status("KH", MemberStatus::Active);
    world.publish_next();
    place(&path, world.directory.bytes());
    th.told(&world).await;
    let mut kh = Node::connect(&world, &broker, "KH").await;
    kh.silence().await;
    let sealed = world.packet("TH", &[unit("KH", "A")]);
    th.receipt(&sealed).await;
    assert_eq!(kh.delivery().await.body, sealed.submission.body);
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_while_the_broker_was_down_is_withheld_at_the_start() {
    let (mut world, folder) = scene();
    let broker = Broker::start(folder.path()).await;
    let packets: Vec<Sealed> = (0..3).map(|_| world.packet("TH", &[unit("KH", "B")])).collect();
    let mut th = Node::connect(&world, &broker, "TH").await;
    for packet in &packets {
        th.receipt(packet).await;
    }
    broker.stop().await.unwrap();
    // Only the unit leaves.
    world.roster.members[0].units.remove(1);
    world.publish_next();
    put(&folder.path().join("directory.bin"), world.directory.bytes());
    let broker = Broker::start(folder.path()).await;
    let mut th = Node::connect(&world, &broker, "TH").await;
    for packet in &packets {
        let evidence = withheld(&world, &mut th, packet).await;
        assert!(evidence.text.contains("no longer has this unit"), "{}", evidence.text);
    }
    Node::connect(&world, &broker, "KH").await.silence().await;
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agency_takes_itself_out_with_a_file() {
    let (world, folder) = scene();
    let keysets = folder.path().join("keysets");
    std::fs::create_dir(&keysets).unwrap();
    let broker = Broker::start(folder.path()).await;
    let mut th = Node::connect(&world, &broker, "TH").await;
    let kh = Node::connect(&world, &broker, "KH").await;
    let sealed = world.packet("TH", &[unit("KH", "A")]);
    th.receipt(&sealed).await;
    place(&keysets.join("paper.bin"), &canonical::encode(&world.revocation("KH")));
    place(&keysets.join("other.bin"), b"nothing");
    is_closed(&kh).await;
    let evidence = withheld(&world, &mut th, &sealed).await;
    assert!(evidence.text.contains("KH has revoked its own keys"), "{}", evidence.text);
    let gone = |name: &str| keysets.join(name).exists();
    soon(async {
        while !(gone("paper.bin.taken") && gone("other.bin.refused")) {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(!gone("paper.bin") && !gone("other.bin"));
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agency_that_lost_its_identity_key_is_served_again_when_the_roster_names_its_new_one() {
    let (mut world, folder) = scene();
    let path = folder.path().join("directory.bin");
    let broker = Broker::start(folder.path()).await;
    let mut th = Node::connect(&world, &broker, "TH").await;
    let kh = Node::connect(&world, &broker, "KH").await;
    let (before, old) = (world.transport("KH"), world.packet("TH", &[unit("KH", "A")]));
    th.receipt(&old).await;
    world.change_identity("KH");
    world.publish_next();
    place(&path, world.directory.bytes());
    is_closed(&kh).await;
    th.told(&world).await;
    let refused = connect_as(&world, broker.address, &before, &hello("KH")).await.err();
    assert!(matches!(refused, Some(LinkError::NotAdmitted)), "{refused:?}");
    let evidence = withheld(&world, &mut th, &old).await;
    assert!(evidence.text.contains("its old one does not vouch for"), "{}", evidence.text);
    // Nobody has to tell the broker anything.
    let mut kh = served(&world, &broker).await;
    let sealed = world.packet("TH", &[unit("KH", "A")]);
    th.receipt(&sealed).await;
    let delivery = kh.delivery().await;
    assert_eq!(delivery.body, sealed.submission.body);
    kh.acknowledge(&world, &sealed, &unit("KH", "A"), delivery.queue_sequence).await;
    let evidence = th.evidence().await;
    th.take(evidence.queue_sequence).await;
    // Its keys change like any other's, also after a crash.
    let next = world.next_keyset("KH");
    assert_eq!(bring_signed(&kh.connection, &next).await.0, Reason::Accepted);
    world.put_keyset(next);
    broker.drop_dead().await;
    let broker = Broker::start(folder.path()).await;
    let mut kh = Node::connect(&world, &broker, "KH").await;
    kh.silence().await;
    assert_eq!(bring_signed(&kh.connection, &world.next_keyset("KH")).await.0, Reason::Accepted);
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agency_that_took_itself_out_comes_back_under_a_new_identity() {
    let (mut world, folder) = scene();
    let broker = Broker::start(folder.path()).await;
    let th = Node::connect(&world, &broker, "TH").await;
    let revocation = world.revocation("KH");
    assert_eq!(bring_signed(&th.connection, &revocation).await.0, Reason::Accepted);
    broker.stop().await.unwrap();
    // The authority does not know of the revocation, and the broker does not run.
    world.change_identity("KH");
    world.publish_next();
    put(&folder.path().join("directory.bin"), world.directory.bytes());
    let broker = Broker::start(folder.path()).await;
    let (mut th, mut kh) = (Node::connect(&world, &broker, "TH").await, served(&world, &broker).await);
    let sealed = world.packet("TH", &[unit("KH", "A")]);
    th.receipt(&sealed).await;
    assert_eq!(kh.delivery().await.body, sealed.submission.body);
    assert_eq!(
        bring_signed(&th.connection, &revocation).await.0,
        Reason::BadSignature,
        "of the old identity"
    );
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agency_that_signed_two_keysets_keeps_out_no_roster_that_revokes_it() {
    let (mut world, folder) = scene();
    let path = folder.path().join("directory.bin");
    let broker = Broker::start(folder.path()).await;
    let th = Node::connect(&world, &broker, "TH").await;
    let kh = Node::connect(&world, &broker, "KH").await;
    assert_eq!(bring_signed(&kh.connection, &world.next_keyset("KH")).await.0, Reason::Accepted);
    // The authority was given another version 2, and what follows it.
    let doubled = world.keyset("KH", 2, &[7; 32]);
    let previous = lintas_proto::id::sha256(&[&doubled.keyset]);
    world.put_keyset(doubled);
    let third = world.keyset("KH", 3, &previous);
    world.put_keyset(third);
    world.set_status("KH", MemberStatus::Revoked);
    world.publish_next();
    place(&path, world.directory.bytes());
    is_closed(&kh).await;
    let update =
        ask(&th.connection, &DirectoryGet { region: REGION.to_owned(), ..DirectoryGet::default() }).await;
    assert_eq!(update.unwrap().rosters.len(), 2);
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_packets_that_race_with_a_change_none_is_left_behind() {
    let (world, folder) = scene();
    let broker = Broker::start(folder.path()).await;
    let mut th = Node::connect(&world, &broker, "TH").await;
    let vn = Node::connect(&world, &broker, "VN").await;
    let packets: Vec<Sealed> = (0..50).map(|_| world.packet("TH", &[unit("KH", "A")])).collect();
    let revocation = world.revocation("KH");
    let bringing = tokio::spawn(async move {
        let brought = bring_signed(&vn.connection, &revocation).await;
        (brought, vn)
    });
    let (mut receipts, mut evidence, mut refusals, mut told) = (0, 0, 0, false);
    for packet in &packets {
        th.submit(packet).await;
    }
    while receipts + refusals < packets.len() || evidence < receipts {
        let (kind, payload) = match th.passed.pop_front() {
            Some(frame) => frame,
            None => soon(th.reader.next()).await.unwrap().unwrap(),
        };
        if kind == FrameType::Receipt {
            receipts += 1;
        } else if kind == FrameType::Evidence {
            evidence += 1;
            let delivery: EvidenceDelivery = decode(kind, &payload).unwrap();
            th.take(delivery.queue_sequence).await;
        } else if kind == FrameType::Refusal {
            refusals += 1;
            let refusal: Refusal = decode(kind, &payload).unwrap();
            assert_eq!(refusal.reason, Reason::UnknownRecipient as i32, "{}", refusal.text);
            assert!(refusal.text.contains("KH has revoked its own keys"), "{}", refusal.text);
        } else {
            assert_eq!(kind, FrameType::DirectoryNotice);
            told = true;
        }
    }
    println!("{receipts} accepted and withheld, {refusals} refused");
    assert_eq!(bringing.await.unwrap().0.0, Reason::Accepted);
    if !told {
        th.notice().await;
    }
    th.silence().await;
    th.submit(&world.packet("TH", &[unit("KH", "A")])).await;
    assert_eq!(th.refusal().await.reason, Reason::UnknownRecipient as i32);
    broker.stop().await.unwrap();
}
