//! What of the log is given to whom.

use lintas_proto::{
    audit::{files::LogFile, leaf::log_event, tile::Tile},
    schema::{AuditEvent, EndedLog, EventType, LogGet, LogHead, LoggedEvent, MemberStatus, Role},
};

use super::*;
use crate::{shell::log::Published, testing::TestLog};

const ROOT: &str = "hub.mekong/audit";

fn event(index: u64) -> LoggedEvent {
    let event = AuditEvent {
        r#type: EventType::Received as i32,
        agency: "KH".to_owned(),
        time_ms: 1_800_000_000_000 + index,
        packet_id: Bytes::from(vec![u8::try_from(index % 256).unwrap(); 16]),
        ..AuditEvent::default()
    };
    log_event(index, [3; 32], &event)
}

fn events(range: std::ops::Range<u64>) -> Vec<LoggedEvent> {
    range.map(event).collect()
}

/// Nothing but the test writes this log: no epoch ends.
fn quiet() -> (World, TempFolder) {
    let (mut world, folder) = scene();
    world.roster.epoch_ms = 3_600_000;
    world.member("TH").roles.push(Role::Auditor as i32);
    world.member("TH").audits = vec!["KH".to_owned()];
    world.join("ZZ");
    world.member("ZZ").roles = vec![Role::Auditor as i32];
    world.member("ZZ").audits = vec!["*".to_owned()];
    world.publish();
    world.write(folder.path());
    (world, folder)
}

/// Says that so many epochs are published.
fn publish(broker: &Broker, log: &TestLog, epochs: u64) {
    broker.shared.log.published.send_replace(Published {
        sequence: 0,
        ended: 0,
        epochs,
        root: log.root(epochs),
    });
}

/// Asks for a piece of a file.
pub(super) async fn piece(
    connection: &Connection,
    origin: &str,
    path: &str,
    offset: u64,
    length: u64,
) -> (LogHead, Vec<u8>) {
    let (mut writer, mut reader) = connection.open_stream().await.unwrap();
    let get = LogGet { origin: origin.to_owned(), path: path.to_owned(), offset, length };
    writer.send_message(FrameType::LogGet, &get).await.unwrap();
    let head: LogHead = soon(reader.next_message(FrameType::LogHead)).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(part) = soon(reader.read_raw(1 << 20)).await.unwrap() {
        bytes.extend(part);
    }
    assert_eq!(bytes.len() as u64, head.length);
    (head, bytes)
}

pub(super) async fn file(connection: &Connection, origin: &str, path: &str) -> Result<Vec<u8>, Reason> {
    let (head, bytes) = piece(connection, origin, path, 0, 0).await;
    let reason = Reason::try_from(head.reason).unwrap();
    if reason == Reason::Accepted {
        return Ok(bytes);
    }
    assert!(bytes.is_empty() && !head.text.is_empty(), "{head:?}");
    Err(reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_is_given_as_far_as_it_is_published_and_no_further() {
    let (world, folder) = quiet();
    let broker = Broker::start(folder.path()).await;
    let mut root = TestLog::new(&folder.path().join("audit/1"));
    root.epochs(300, 0);
    let slots: Vec<u8> =
        (0..=u8::MAX).flat_map(|epoch| [1u32.to_be_bytes().as_slice(), &[epoch; 32]].concat()).collect();
    root.put(LogFile::Slots(0), &slots);
    root.put(LogFile::Rosters, &[0u64, 1, 270, 2, 290, 3].map(u64::to_be_bytes).concat());
    let mut sub = TestLog::new(&folder.path().join("audit/1/KH"));
    sub.events(5, &events(0..10));
    sub.events(270, &events(10..20));
    // Of an epoch that is not published yet.
    sub.events(280, &events(20..25));
    let key = |epoch: u64| [epoch.to_be_bytes().as_slice(), &[7; 32]].concat();
    sub.put(LogFile::SlotKeys, &[key(0), key(280)].concat());
    publish(&broker, &root, 280);
    let node = Node::connect(&world, &broker, "KH").await;
    let kh = node.connection.clone();
    let (of_root, own) = (async |path: &str| file(&kh, ROOT, path).await, "hub.mekong/audit/KH");
    let of_sub = async |path: &str| file(&kh, own, path).await;
    // Trees: the partial one of 256 leaves is gone, the full one begins with it; nothing beyond 280.
    let whole = std::fs::read(root.folder.join("tile/0/000")).unwrap();
    assert_eq!(of_root("tile/0/000").await.unwrap(), whole);
    assert_eq!(of_root("tile/0/000.p/17").await.unwrap(), &whole[..17 * 32]);
    assert_eq!(of_root("tile/1/000.p/1").await.unwrap(), root.root(256));
    let widest = std::fs::read(root.folder.join("tile/0/001.p/44")).unwrap();
    assert_eq!(of_root("tile/0/001.p/24").await.unwrap(), &widest[..24 * 32]);
    assert_eq!(of_root("tile/0/001.p/25").await, Err(Reason::MissingAttachment));
    assert_eq!(of_root("tile/0/001").await, Err(Reason::MissingAttachment));
    assert_eq!(of_root("tile/entries/000.p/3").await.unwrap().len(), 3 * 119);
    assert_eq!(of_root("tile/entries/001.p/24").await.unwrap().len(), 24 * 119);
    assert_eq!(of_root("tile/entries/001.p/44").await, Err(Reason::MissingAttachment));
    assert_eq!(of_root("slots/000").await.unwrap(), slots);
    assert_eq!(of_root("slots/001").await, Err(Reason::MissingAttachment));
    assert_eq!(of_root("rosters").await.unwrap().len(), 32);
    assert_eq!(of_root("roster/1").await.unwrap(), world.directory.signed_roster().unwrap());
    assert_eq!(of_root("roster/2").await, Err(Reason::MissingAttachment));
    // The sub-log has 20 entries; 5 more are on the disk.
    assert_eq!(of_sub("sizes").await.unwrap().len(), 32);
    assert_eq!(of_sub("slot-keys").await.unwrap(), key(0));
    assert_eq!(of_sub("keys/000").await.unwrap().len(), 20 * 32);
    assert_eq!(of_sub("keys/001").await, Err(Reason::MissingAttachment));
    assert_eq!(of_sub("tile/entries/000.p/20").await.unwrap().len(), 20 * 60);
    assert_eq!(of_sub("tile/entries/000.p/21").await, Err(Reason::MissingAttachment));
    assert_eq!(of_sub("tile/0/000.p/21").await, Err(Reason::MissingAttachment));
    let openings = of_sub("openings/000").await.unwrap();
    assert_eq!(lintas_proto::audit::tile::entries(&openings).filter(Option::is_some).count(), 20);
    publish(&broker, &root, 281);
    assert_eq!(of_sub("keys/000").await.unwrap().len(), 25 * 32);
    // Files of the other kind, and pieces.
    assert_eq!(of_sub("slots/000").await, Err(Reason::MissingAttachment));
    assert_eq!(of_root("sizes").await, Err(Reason::MissingAttachment));
    let (head, bytes) = piece(&kh, ROOT, "tile/0/000", 32, 64).await;
    assert_eq!((head.file_length, bytes.as_slice()), (8_192, &whole[32..96]));
    let (head, bytes) = piece(&kh, ROOT, "tile/0/000", 8_192, 0).await;
    assert_eq!((head.reason, bytes.len()), (Reason::Accepted as i32, 0), "what was read whole");
    let (head, _) = piece(&kh, ROOT, "tile/0/000", 8_193, 0).await;
    assert_eq!(head.reason, Reason::Malformed as i32);
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_what_is_as_the_roster_says() {
    let (mut world, folder) = quiet();
    let broker = Broker::start(folder.path()).await;
    let mut root = TestLog::new(&folder.path().join("audit/1"));
    root.epochs(3, 0);
    for agency in ["KH", "TH", "VN", "ZZ"] {
        TestLog::new(&folder.path().join("audit/1").join(agency)).events(0, &events(0..2));
    }
    publish(&broker, &root, 3);
    // TH audits KH, ZZ everybody; KH and VN nobody.
    let readers = [("KH", "KH"), ("TH", "KH TH"), ("VN", "VN"), ("ZZ", "KH TH VN ZZ")];
    for (reader, may) in readers {
        let node = Node::connect(&world, &broker, reader).await;
        assert!(file(&node.connection, ROOT, "tile/0/000.p/3").await.is_ok(), "{reader}");
        for owner in ["KH", "TH", "VN", "ZZ"] {
            let origin = format!("{ROOT}/{owner}");
            for path in ["tile/0/000.p/2", "sizes"] {
                let (head, bytes) = piece(&node.connection, &origin, path, 0, 0).await;
                if may.contains(owner) {
                    assert_eq!(head.reason, Reason::Accepted as i32, "{reader} of {owner}");
                } else {
                    assert_eq!((head.reason, bytes.len()), (Reason::Policy as i32, 0), "{reader} of {owner}");
                    assert!(head.text.contains("region authority"), "{}", head.text);
                }
            }
        }
    }
    // What the roster took away counts at once, on the same connection.
    let th = Node::connect(&world, &broker, "TH").await;
    let zz = Node::connect(&world, &broker, "ZZ").await;
    world.member("TH").roles.pop();
    world.member("TH").audits.clear();
    world.set_status("ZZ", MemberStatus::Revoked);
    world.publish_next();
    place(&folder.path().join("directory.bin"), world.directory.bytes());
    let gone = soon(zz.connection.closed()).await;
    assert!(matches!(gone, LinkError::NotAdmitted | LinkError::Closed { .. }), "{gone:?}");
    assert_eq!(file(&th.connection, "hub.mekong/audit/KH", "sizes").await, Err(Reason::Policy));
    assert!(file(&th.connection, "hub.mekong/audit/TH", "sizes").await.is_ok());
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_path_and_no_origin_leads_out_of_the_log() {
    let (world, folder) = quiet();
    let broker = Broker::start(folder.path()).await;
    let mut root = TestLog::new(&folder.path().join("audit/1"));
    root.epochs(3, 0);
    publish(&broker, &root, 3);
    let zz = Node::connect(&world, &broker, "ZZ").await;
    for path in
        ["../../broker.keys", "/etc/passwd", "behind", "published", "tile/../../../broker.keys", "", "tile"]
    {
        assert_eq!(file(&zz.connection, ROOT, path).await, Err(Reason::MissingAttachment), "{path}");
    }
    for origin in [
        "",
        "hub.mekong",
        "hub.mekong/audit/",
        "hub.mekong/audit/..",
        "hub.mekong/audit/../1",
        "hub.mekong.log2/audit",
        "other/audit",
        "hub.mekong/audit/KH/..",
    ] {
        assert_eq!(
            file(&zz.connection, origin, "checkpoint").await,
            Err(Reason::MissingAttachment),
            "{origin}"
        );
    }
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_log_is_given_up_to_its_end() {
    let (mut world, folder) = quiet();
    let mut root = TestLog::new(&folder.path().join("audit/1"));
    root.epochs(300, 0);
    let end = EndedLog { size: 280, root: Bytes::copy_from_slice(&root.root(280)) };
    world.roster.brokers[0].ended_logs = vec![end];
    world.member("VN").roles.push(lintas_proto::schema::Role::Auditor as i32);
    world.member("VN").audits = vec!["KH".to_owned()];
    world.publish();
    world.write(folder.path());
    let broker = Broker::start(folder.path()).await;
    let node = Node::connect(&world, &broker, "VN").await;
    let vn = node.connection.clone();
    assert!(file(&vn, ROOT, "tile/0/001.p/24").await.is_ok());
    assert_eq!(file(&vn, ROOT, "tile/0/001.p/25").await, Err(Reason::MissingAttachment));
    assert_eq!(file(&vn, "hub.mekong.log2/audit", "tile/0/000.p/1").await, Err(Reason::MissingAttachment));
    // A read of others' events could be written into the present log only, where those entries are other ones.
    for path in ["openings/000", "keys/000"] {
        assert_eq!(file(&vn, "hub.mekong/audit/KH", path).await, Err(Reason::Policy), "{path}");
        assert_eq!(file(&vn, "hub.mekong/audit/VN", path).await, Err(Reason::MissingAttachment), "{path}");
    }
    assert_eq!(file(&vn, "hub.mekong/audit/KH", "sizes").await, Err(Reason::MissingAttachment));
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_questions_is_refused_and_hurts_nobody_else() {
    let (world, folder) = quiet();
    let broker = Broker::start(folder.path()).await;
    let mut root = TestLog::new(&folder.path().join("audit/1"));
    root.epochs(256, 0);
    // More than a connection holds for somebody who does not read.
    let epoch = [3_000u32.to_be_bytes().to_vec(), vec![9; 96_000]].concat();
    root.put(LogFile::Slots(0), &epoch.repeat(256));
    publish(&broker, &root, 256);
    let vn = Node::connect(&world, &broker, "VN").await;
    let mut held = Vec::new();
    for _ in 0..8 {
        let (mut writer, reader) = vn.connection.open_stream().await.unwrap();
        let get = LogGet { origin: ROOT.to_owned(), path: "slots/000".to_owned(), ..LogGet::default() };
        writer.send_message(FrameType::LogGet, &get).await.unwrap();
        held.push((writer, reader));
    }
    // Nobody reads them: a ninth is refused, on another connection too; another agency is served.
    let (second, _client) = bare(&world, &broker, "VN").await;
    let ninth = async {
        loop {
            match file(&second, ROOT, "tile/0/000").await {
                // Not all eight have arrived yet.
                Ok(_) => sleep(Duration::from_millis(20)).await,
                Err(refused) => return refused,
            }
        }
    };
    assert_eq!(soon(ninth).await, Reason::Quota);
    let kh = Node::connect(&world, &broker, "KH").await;
    let asked = (0..500).map(|_| file(&kh.connection, ROOT, "tile/0/000"));
    for answer in asked {
        assert_eq!(answer.await.unwrap().len(), 8_192);
    }
    drop(held);
    for _ in 0..100 {
        if file(&second, ROOT, "tile/0/000").await.is_ok() {
            return broker.stop().await.unwrap();
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("places are not free again");
}

#[test]
fn the_builder_writes_what_a_tree_consists_of() {
    let folder = TempFolder::new();
    let mut log = TestLog::new(folder.path());
    log.epochs(257, 0);
    let tile = std::fs::read(log.folder.join(Tile { level: 1, index: 0, width: 1 }.path())).unwrap();
    assert_eq!(tile, log.root(256));
}
