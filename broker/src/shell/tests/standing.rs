//! A broker that was put back from a backup, and nodes that only say so.

use lintas_proto::{audit::note::SignedCheckpoint, schema::EndedLog, sign::SigningKey};

use super::*;
use crate::testing::TestLog;

const ORIGIN: &str = "hub.mekong/audit";

/// Epochs of 100 ms, and these witnesses.
pub(super) fn watched(witnesses: &[&str]) -> (World, TempFolder) {
    let (mut world, folder) = scene();
    world.roster.epoch_ms = 100;
    witnesses.iter().for_each(|agency| world.make_witness(agency));
    world.publish();
    world.write(folder.path());
    (world, folder)
}

pub(super) fn knowing(agency: &str, checkpoint: &SignedCheckpoint) -> Hello {
    Hello { root_checkpoint: checkpoint.to_bytes(), ..hello(agency) }
}

/// Waits until so many epochs are published.
pub(super) async fn published(broker: &Broker, epochs: u64) {
    let mut published = broker.shared.log.published.subscribe();
    soon(published.wait_for(|published| published.epochs >= epochs)).await.unwrap();
}

/// The newest head that the broker has signed, of at least that size.
pub(super) async fn head(broker: &Broker, size: u64) -> SignedCheckpoint {
    let mut heads = broker.shared.log.head.subscribe();
    let is_there =
        |head: &Option<Arc<SignedCheckpoint>>| head.as_ref().is_some_and(|head| head.claim().size >= size);
    let head = soon(heads.wait_for(is_there)).await.unwrap().clone().unwrap();
    SignedCheckpoint::clone(&head)
}

/// A checkpoint of another history of the same log.
fn other(folder: &TempFolder, size: u64, key: &SigningKey) -> SignedCheckpoint {
    let mut log = TestLog::new(&folder.path().join("other"));
    log.epochs(size, 1);
    log.checkpoint(ORIGIN, size, key)
}

/// Shows a checkpoint to a running broker, and waits for its end.
async fn stopped_by(world: &World, broker: Broker, known: &SignedCheckpoint) -> RunError {
    let Broker { address, task, .. } = broker;
    // The hello may be cut off by the end.
    let _ = connect_as(world, address, &world.transport("VN"), &knowing("VN", known)).await;
    soon(task).await.unwrap().unwrap_err()
}

async fn refused_start(folder: &TempFolder) -> RunError {
    let folder = Folder::at(folder.path());
    soon(run(&folder, std::future::pending(), |_| panic!("listens"))).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_is_stopped_by_any_hello_and_stays_stopped_until_a_newer_one() {
    let (world, folder) = watched(&[]);
    let broker = Broker::start(folder.path()).await;
    published(&broker, 2).await;
    broker.stop().await.unwrap();
    let backup = TempFolder::new();
    copy(folder.path(), backup.path());
    let broker = Broker::start(folder.path()).await;
    let epochs = broker.shared.log.published.borrow().epochs;
    let newer = head(&broker, epochs + 10).await;
    broker.stop().await.unwrap();
    let broker = Broker::start(backup.path()).await;
    assert!(broker.shared.log.published.borrow().epochs < newer.claim().size, "the test is too slow");
    let why = stopped_by(&world, broker, &newer).await;
    let text = why.to_string();
    assert!(matches!(why, RunError::Behind(_)), "{text}");
    for part in [
        "restored backup",
        "restore it and start",
        "lintas region change",
        "--end-log hub.mekong=",
        "audit/1/behind",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let behind = std::fs::read(backup.path().join("audit/1/behind")).unwrap();
    assert_eq!(SignedCheckpoint::parse(&behind).unwrap().claim(), newer.claim());
    assert!(matches!(refused_start(&backup).await, RunError::Behind(_)));
    // The newer backup contains it, although the file is there.
    crate::testing::put(&folder.path().join("audit/1/behind"), &behind);
    Broker::start(folder.path()).await.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_history_under_its_own_key_stops_a_broker_and_the_end_of_that_log_lets_it_begin_the_next() {
    let (mut world, folder) = watched(&[]);
    let broker = Broker::start(folder.path()).await;
    published(&broker, 3).await;
    let forked = other(&folder, 2, &world.log_key());
    assert!(matches!(stopped_by(&world, broker, &forked).await, RunError::Behind(_)));
    assert!(matches!(refused_start(&folder).await, RunError::Behind(_)));
    let root = Bytes::copy_from_slice(&forked.claim().root);
    world.roster.brokers[0].ended_logs = vec![EndedLog { size: 2, root }];
    world.publish_next();
    place(&folder.path().join("directory.bin"), world.directory.bytes());
    // The start that takes the directory ends; the next one begins the next log.
    let broker = loop {
        let (ready, listening) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let home = Folder::at(folder.path());
        let task = tokio::spawn(async move {
            let stop = async {
                let _ = stopped.await;
            };
            serve(&home, stop, |address, shared| assert!(ready.send((address, Arc::clone(shared))).is_ok()))
                .await
        });
        let Ok((address, shared)) = soon(listening).await else {
            assert!(matches!(soon(task).await.unwrap(), Err(RunError::LogEnded)));
            continue;
        };
        if shared.ledger().audit().number() == 1 {
            break Broker { address, shared, stop, task };
        }
        assert!(matches!(soon(task).await.unwrap(), Err(RunError::LogEnded)));
    };
    published(&broker, 2).await;
    // What nodes know of the ended log is no reproach any more.
    let vn = connect_as(&world, broker.address, &world.transport("VN"), &knowing("VN", &forked)).await;
    assert_eq!(head(&broker, 3).await.claim().origin, "hub.mekong.log2/audit");
    drop(vn.unwrap());
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lies_stops_nobody() {
    let (world, folder) = watched(&[]);
    let broker = Broker::start(folder.path()).await;
    published(&broker, 2).await;
    // By the key of a witness in place of the broker's.
    let stranger = SigningKey::from_seed(lintas_proto::sign::KeyRole::Log, &[9; 32].into()).unwrap();
    let forged = other(&folder, 300, &stranger).to_bytes();
    let mut flipped = other(&folder, 300, &world.log_key()).to_bytes().to_vec();
    let last = flipped.len() - 4;
    flipped[last] ^= 1;
    let elsewhere = {
        let mut log = TestLog::new(&folder.path().join("elsewhere"));
        log.epochs(300, 1);
        log.checkpoint("hub.other/audit", 300, &world.log_key()).to_bytes()
    };
    for junk in [forged, flipped.into(), elsewhere, Bytes::from_static(b"junk"), vec![7; 4_000].into()] {
        let hello = Hello { root_checkpoint: junk, ..hello("VN") };
        let node = connect_as(&world, broker.address, &world.transport("VN"), &hello).await.unwrap();
        drop(node);
    }
    let signed = head(&broker, 3).await;
    connect_as(&world, broker.address, &world.transport("VN"), &knowing("VN", &signed)).await.unwrap();
    broker.stop().await.unwrap();
    assert!(!folder.path().join("audit/1/behind").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_signed_before_a_quorum_of_witnesses_has_said_what_it_knows() {
    let (world, folder) = watched(&["KH", "TH", "VN"]);
    let broker = Broker::start(folder.path()).await;
    // Two of three. Who says nothing of use is not counted; packets go on.
    let junk = Hello { root_checkpoint: Bytes::from_static(b"junk"), ..hello("TH") };
    let mut th = connect_as(&world, broker.address, &world.transport("TH"), &junk).await.unwrap();
    let _kh = Node::connect(&world, &broker, "KH").await;
    let _again = Node::connect(&world, &broker, "KH").await;
    th.receipt(&world.packet("TH", &[crate::testing::unit("KH", "A")])).await;
    published(&broker, 4).await;
    assert!(!*broker.shared.log.may_sign.borrow() && broker.shared.log.head.borrow().is_none());
    assert!(!folder.path().join("audit/1/checkpoint").exists());
    let _vn = Node::connect(&world, &broker, "VN").await;
    head(&broker, 4).await;
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_broker_is_stopped_by_becomes_the_largest_that_a_quorum_has_cosigned() {
    let (world, folder) = watched(&["KH", "TH", "VN"]);
    let witnesses = world.directory.witnesses();
    let mut log = TestLog::new(&folder.path().join("other"));
    log.epochs(301, 1);
    let by = |size: u64, agencies: &[&str]| {
        let mut note = log.checkpoint(ORIGIN, size, &world.log_key());
        for agency in agencies {
            let witness = world.directory.witness(agency).unwrap();
            let cosignature = note.cosign(&world.witness_key(agency), 1_900_000_000).unwrap();
            note.add_cosignature(&witness, &cosignature).unwrap();
        }
        note
    };
    let Broker { address, shared, task, stop: _stop } = Broker::start(folder.path()).await;
    // At once, and the quorum in pieces.
    let shows = async |agency: &str, known: &SignedCheckpoint| {
        connect_as(&world, address, &world.transport(agency), &knowing(agency, known)).await.is_ok()
    };
    let (small, first, second) = (by(299, &[]), by(300, &["KH"]), by(300, &["TH"]));
    let there = tokio::join!(shows("VN", &small), shows("KH", &first), shows("TH", &second));
    assert_ne!(there, (true, true, true), "nobody is served any more");
    for _ in 0..100 {
        if task.is_finished() {
            break;
        }
        // They come again, as nodes do.
        let _ = tokio::join!(shows("VN", &small), shows("KH", &first), shows("TH", &second));
        assert!(!*shared.log.may_sign.borrow() && shared.log.head.borrow().is_none());
        sleep(Duration::from_millis(50)).await;
    }
    let why = soon(task).await.unwrap().unwrap_err();
    assert!(matches!(&why, RunError::Behind(_)) && why.to_string().contains("300 epochs"), "{why}");
    let path = folder.path().join("audit/1/behind");
    let kept = SignedCheckpoint::parse(&std::fs::read(&path).unwrap()).unwrap();
    assert!(kept.claim().size == 300 && kept.witnessed_at(&witnesses).is_some(), "{kept}");
    assert!(!path.with_extension("part").exists());
    // A start says so at once: it needs to hear nobody.
    assert!(matches!(refused_start(&folder).await, RunError::Behind(_)));
    // Without a quorum it listens again.
    crate::testing::put(&path, &by(299, &[]).to_bytes());
    let stopping = refused_start(&folder).await;
    assert!(stopping.to_string().contains("299 epochs"), "{stopping}");
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}
