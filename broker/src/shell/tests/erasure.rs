//! Reads of others' events are in the log before they are given; what an agency orders to be forgotten is forgotten.

use lintas_proto::{
    audit::{
        opening::{self, OpeningError},
        tile::entries,
    },
    id::sha256,
    schema::{AuditEvent, ErasureOrder, ErasurePut, ErasureStatus, EventType, Role, SignedErasureOrder},
    sign::{Signed, SigningKey},
};

use super::{given::file, standing::watched, *};
use crate::testing::unit;

fn origin(agency: &str) -> String {
    format!("hub.mekong/audit/{agency}")
}

/// What an agency reads in its own sub-log of so many entries.
async fn own(node: &Node, agency: &str, size: usize) -> Vec<Result<AuditEvent, OpeningError>> {
    let get = async |path: &str| file(&node.connection, &origin(agency), path).await;
    let (mut leaves, mut sealed, mut keys) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..400 {
        if let Ok(bundle) = get(&format!("tile/entries/000.p/{size}")).await {
            leaves = bundle;
            (sealed, keys) = (get("openings/000").await.unwrap(), get("keys/000").await.unwrap());
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    let mut events = Vec::new();
    for (index, leaf) in (0..).zip(entries(&leaves)) {
        let at = usize::try_from(index).unwrap();
        let sealed = entries(&sealed).nth(at).flatten().unwrap();
        let opened = opening::open(index, leaf.unwrap(), &keys.as_chunks::<32>().0[at], sealed);
        events.push(opened.map(|(_, event)| event));
    }
    assert_eq!(events.len(), size);
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_auditor_reads_of_others_stands_in_its_own_log_first() {
    let (mut world, folder) = watched(&[]);
    world.member("VN").roles.push(Role::Auditor as i32);
    world.member("VN").audits = vec!["KH".to_owned()];
    world.publish();
    world.write(folder.path());
    let broker = Broker::start(folder.path()).await;
    let (mut th, kh) =
        (Node::connect(&world, &broker, "TH").await, Node::connect(&world, &broker, "KH").await);
    let vn = Node::connect(&world, &broker, "VN").await;
    for _ in 0..3 {
        th.receipt(&world.packet("TH", &[unit("KH", "A")])).await;
    }
    own(&kh, "KH", 4).await;
    // Leaves and tiles say nothing of events.
    for path in ["tile/entries/000.p/4", "tile/0/000.p/4", "sizes"] {
        assert!(file(&vn.connection, &origin("KH"), path).await.is_ok(), "{path}");
    }
    assert_eq!(file(&vn.connection, &origin("TH"), "openings/000").await, Err(Reason::Policy));
    let size = |agency| broker.shared.ledger().log_size(agency);
    assert_eq!((size("VN"), size("KH")), (1, 4), "behind their policies");
    let (head, bytes) = super::given::piece(&vn.connection, &origin("KH"), "keys/000", 32, 64).await;
    assert_eq!((head.reason, bytes.len(), size("VN")), (Reason::Accepted as i32, 64, 2));
    let events = own(&vn, "VN", 2).await;
    let read = events[1].as_ref().unwrap();
    assert_eq!((read.r#type, read.other_agency.as_str()), (EventType::AuditRead as i32, "KH"));
    assert_eq!((read.first_index, read.count), (1, 2));
    // Its own log it reads as it likes. By this roster the one who was read is told at once, and once.
    assert_eq!((size("VN"), size("KH")), (2, 5));
    let told = own(&kh, "KH", 5).await.pop().unwrap().unwrap();
    assert_eq!((told.r#type, told.other_agency.as_str()), (EventType::AuditReadTold as i32, "VN"));
    broker.stop().await.unwrap();
}

/// An order, signed.
fn order(world: &World, indices: &[u64], key: &SigningKey, change: impl FnOnce(&mut ErasureOrder)) -> Bytes {
    let mut order = ErasureOrder {
        region: world.roster.region.clone(),
        origin: origin("KH"),
        indices: indices.to_vec(),
        ground: "Article 12 of the data protection act".to_owned(),
        time_ms: clock::shown_ms(),
    };
    change(&mut order);
    let order = canonical::encode(&order);
    let signature = Bytes::copy_from_slice(&key.sign(Signed::ErasureOrder, &order));
    canonical::encode(&SignedErasureOrder { order, key_id: Bytes::copy_from_slice(key.id()), signature })
}

async fn put(node: &Node, order: Bytes) -> (Reason, ErasureStatus) {
    let (mut writer, mut reader) = node.connection.open_stream().await.unwrap();
    writer.send_message(FrameType::ErasurePut, &ErasurePut { order }).await.unwrap();
    let status: ErasureStatus = soon(reader.next_message(FrameType::ErasureStatus)).await.unwrap();
    (Reason::try_from(status.reason).unwrap(), status)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agency_orders_to_be_erased_cannot_be_opened_any_more_and_the_log_says_so() {
    let (world, folder) = watched(&[]);
    let broker = Broker::start(folder.path()).await;
    let (mut th, mut kh) =
        (Node::connect(&world, &broker, "TH").await, Node::connect(&world, &broker, "KH").await);
    let (to, key) = (unit("KH", "A"), world.packet_key("KH"));
    let sealed = world.packet("TH", std::slice::from_ref(&to));
    th.receipt(&sealed).await;
    let before = own(&kh, "KH", 2).await;
    // While somebody waits for the packet it cannot be forgotten.
    let (reason, status) = put(&kh, order(&world, &[1], &key, |_| {})).await;
    assert!(reason == Reason::Policy && status.text.contains("waits"), "{status:?}");
    let number = kh.delivery().await.queue_sequence;
    kh.acknowledge(&world, &sealed, &to, number).await;
    let taken = th.evidence().await.queue_sequence;
    th.take(taken).await;
    own(&kh, "KH", 3).await;
    let others = world.packet_key("TH");
    let wrong = [
        (Reason::BadSignature, order(&world, &[1], &others, |_| {})),
        (Reason::WrongRegion, order(&world, &[1], &key, |order| order.region.push('x'))),
        (Reason::Policy, order(&world, &[1], &key, |order| order.origin = origin("TH"))),
        (Reason::Policy, order(&world, &[1], &key, |order| order.origin = "hub.mekong/audit".to_owned())),
        (Reason::NotYetValid, order(&world, &[1, 3], &key, |_| {})),
        (Reason::Malformed, order(&world, &[2, 1], &key, |_| {})),
        (Reason::Malformed, order(&world, &[2, 2], &key, |_| {})),
        (Reason::Malformed, order(&world, &[], &key, |_| {})),
        (Reason::Malformed, order(&world, &[1], &key, |order| order.ground.clear())),
        (Reason::Malformed, order(&world, &[1], &key, |order| order.ground = "a\u{1b}[2J".to_owned())),
        (Reason::Malformed, order(&world, &[1], &key, |order| order.ground = "a".repeat(385))),
        (Reason::Clock, order(&world, &[1], &key, |order| order.time_ms -= 600_000)),
        (Reason::Malformed, Bytes::from_static(b"junk")),
    ];
    for (reason, order) in wrong {
        let (have, status) = put(&kh, order).await;
        assert!(have == reason && !status.text.is_empty(), "{reason:?}: {status:?}");
    }
    let good = order(&world, &[1, 2], &key, |_| {});
    assert_eq!(put(&th, good.clone()).await.0, Reason::BadSignature, "another agency brings it");
    let (reason, status) = put(&kh, good.clone()).await;
    assert_eq!((reason, status.index), (Reason::Accepted, 3), "{status:?}");
    let after = own(&kh, "KH", 4).await;
    assert!(before[1].is_ok());
    assert_eq!(after[1..3], [Err(OpeningError::Erased), Err(OpeningError::Erased)]);
    let erased = after[3].as_ref().unwrap();
    assert_eq!((erased.r#type, erased.first_index, erased.count), (EventType::Erased as i32, 1, 2));
    assert_eq!(erased.evidence_digest, sha256(&[&good]).as_slice());
    // Again, by the same order or a new one: the same answer, and nothing new in the log.
    for again in [good, order(&world, &[2], &key, |_| {})] {
        let (reason, status) = put(&kh, again).await;
        assert_eq!((reason, status.index), (Reason::Accepted, 3), "{status:?}");
    }
    assert_eq!(broker.shared.ledger().log_size("KH"), 4);
    let (reason, status) = put(&kh, order(&world, &[3], &key, |_| {})).await;
    assert!(reason == Reason::Policy && status.text.contains("about no packet"), "{status:?}");
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_that_was_erased_is_a_replay_also_when_its_keys_have_gone() {
    let (mut world, folder) = watched(&[]);
    let broker = Broker::start(folder.path()).await;
    let (mut th, mut kh) =
        (Node::connect(&world, &broker, "TH").await, Node::connect(&world, &broker, "KH").await);
    let (to, key) = (unit("KH", "A"), world.packet_key("KH"));
    let sealed = world.packet("TH", std::slice::from_ref(&to));
    th.receipt(&sealed).await;
    let number = kh.delivery().await.queue_sequence;
    kh.acknowledge(&world, &sealed, &to, number).await;
    let taken = th.evidence().await.queue_sequence;
    th.take(taken).await;
    own(&kh, "KH", 3).await;
    let (reason, status) = put(&kh, order(&world, &[1, 2], &key, |_| {})).await;
    assert_eq!(reason, Reason::Accepted, "{status:?}");
    th.submit(&sealed).await;
    let before = th.refusal().await;
    assert_eq!((before.reason, before.retry), (Reason::Replay as i32, false), "{before:?}");
    // The unit that signed is no more.
    world.member("TH").units.remove(0);
    world.publish_next();
    broker.enforce(&world);
    th.submit(&sealed).await;
    let after = th.refusal().await;
    assert_eq!((after.reason, after.retry, &after.text), (Reason::Replay as i32, false, &before.text));
    assert!(after.evidence.is_some() && after.packet_id == before.packet_id, "{after:?}");
    // Nobody else is told of it.
    kh.submit(&sealed).await;
    assert_eq!(kh.refusal().await.reason, Reason::UnknownSender as i32);
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_orders_erasure_all_the_time_does_not_fill_the_log() {
    // What is ordered is done at the end of an epoch, so the same order is new until then.
    let (mut world, folder) = watched(&[]);
    world.roster.epoch_ms = 2_000;
    world.publish();
    world.write(folder.path());
    let broker = Broker::start(folder.path()).await;
    let (mut th, mut kh) =
        (Node::connect(&world, &broker, "TH").await, Node::connect(&world, &broker, "KH").await);
    let (to, key) = (unit("KH", "A"), world.packet_key("KH"));
    let sealed = world.packet("TH", std::slice::from_ref(&to));
    th.receipt(&sealed).await;
    let number = kh.delivery().await.queue_sequence;
    kh.acknowledge(&world, &sealed, &to, number).await;
    let taken = th.evidence().await.queue_sequence;
    th.take(taken).await;
    own(&kh, "KH", 3).await;
    let good = order(&world, &[1, 2], &key, |_| {});
    let (mut done, mut refused) = (0, 0);
    for _ in 0..100 {
        match put(&kh, good.clone()).await {
            (Reason::Accepted, _) => done += 1,
            (reason, status) => {
                assert!(reason == Reason::Quota && status.text.contains("Too many orders"), "{status:?}");
                refused += 1;
            }
        }
    }
    assert!(done >= 32 && broker.shared.ledger().log_size("KH") <= 35, "{done} {refused}");
    broker.stop().await.unwrap();
}
