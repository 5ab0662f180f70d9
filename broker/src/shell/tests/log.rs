//! The published log of a broker that runs: what an auditor finds in `audit/`.

use lintas_journal::Limits;
use lintas_proto::{
    audit::{
        epoch::RootEntry,
        merkle::verify_consistency,
        note::{SignedCheckpoint, log_name, root_origin},
        tile,
    },
    id::Digest,
    receipt::{Receipt, sub_log_origin},
    schema::{PublishedLog, SignedReceipt},
    sign::VerifyingKey,
};

use super::*;
use crate::{
    shell::{
        log::tests::{Auditor, read_all},
        start::{Engine, Voice},
    },
    testing::{BROKER, unit},
};

/// How far the log of that folder is published.
fn mark(folder: &Path) -> Option<PublishedLog> {
    let bytes = Bytes::from(std::fs::read(folder.join("audit/published")).ok()?);
    Some(canonical::decode(&bytes.slice(32..), 1 << 20).unwrap())
}

fn size(state: &PublishedLog, agency: &str) -> u64 {
    state.sub_logs.iter().find(|log| log.agency == agency).map_or(0, |log| log.size)
}

async fn until(folder: &Path, reached: impl Fn(&PublishedLog) -> bool) -> PublishedLog {
    soon(async {
        loop {
            match mark(folder).filter(&reached) {
                Some(state) => return state,
                None => sleep(Duration::from_millis(20)).await,
            }
        }
    })
    .await
}

/// Every event of a receipt, at its place in the published log.
fn is_included(auditor: &Auditor, state: &PublishedLog, receipt: &Bytes) -> usize {
    let signed: SignedReceipt = canonical::decode(receipt, 1 << 20).unwrap();
    let (receipt, _) = Receipt::parse(&signed.receipt).unwrap();
    let agency = receipt.origin.rsplit_once('/').unwrap().1;
    let log = auditor.log(Some(agency), size(state, agency));
    let root = log.root();
    for event in &receipt.events {
        assert_eq!(log.entry(event.index, &root), event.leaf);
        let opened = auditor.opened(agency, event.index, &event.leaf).unwrap();
        assert_eq!(canonical::encode(&opened), event.event);
    }
    receipt.events.len()
}

fn root(state: &PublishedLog) -> Digest {
    state.root.as_ref().try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_promised_stands_in_the_published_log_and_a_restart_continues_it() {
    let (world, folder) = scene_with_epochs(200);
    let (path, mut receipts, mut before) = (folder.path(), Vec::new(), None);
    for round in 1..=3u64 {
        let broker = Broker::start(path).await;
        let mut th = Node::connect(&world, &broker, "TH").await;
        let mut kh = Node::connect(&world, &broker, "KH").await;
        for _ in 0..7 {
            let to = [unit("KH", "A"), unit("TH", "B"), unit("VN", "A")];
            receipts.push(th.receipt(&world.packet("TH", &to)).await);
            receipts.push(kh.delivery().await.receipt);
        }
        // A packet is submitted, released three times, and once received by its own agency.
        let state = until(path, |state| size(state, "TH") >= 7 * 5 * round).await;
        if round == 2 {
            broker.drop_dead().await;
        } else {
            broker.stop().await.unwrap();
        }
        let state = mark(path).filter(|now| now.epochs >= state.epochs).unwrap();
        let auditor = Auditor { files: read_all(&path.join("audit")), ended: 0 };
        let events: usize = receipts.iter().map(|receipt| is_included(&auditor, &state, receipt)).sum();
        assert_eq!(events, 7 * 5 * usize::try_from(round).unwrap());
        let log = auditor.log(None, state.epochs);
        assert_eq!(log.root(), root(&state));
        let times = (0..state.epochs).map(|at| {
            let entry = RootEntry::parse(log.entry(at, &root(&state))).unwrap();
            assert_eq!((entry.epoch, entry.directory_hash, entry.slots), (at, *world.directory.hash(), 3));
            entry.time_ms
        });
        assert!(times.is_sorted());
        if let Some(before) = before.replace(state.clone()) {
            let proof = tile::consistency(&log, before.epochs, state.epochs).unwrap();
            let (old, new) = ((before.epochs, &root(&before)), (state.epochs, &root(&state)));
            verify_consistency(old, new, &proof).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_signed_before_it_may_be_and_then_the_newest() {
    let (world, folder) = scene_with_epochs(200);
    let at = Folder::at(folder.path());
    let (settings, directory) = (at.settings().unwrap(), at.directory().unwrap());
    let speaks = Voice::of(&world.broker).unwrap();
    let key = VerifyingKey::parse(&speaks.log_key.public_key()).unwrap();
    let (engine, intake) = Engine::start(&at, &settings, Limits::default(), directory, speaks).unwrap();
    let log = &engine.shared.log;
    let mut published = log.published.subscribe();
    soon(published.wait_for(|published| published.epochs >= 3)).await.unwrap();
    assert!(log.head.borrow().is_none());
    assert!(!read_all(&at.audit()).keys().any(|path| path.ends_with("checkpoint")));

    log.may_sign.send_replace(true);
    let (name, mut head) = (log_name(BROKER, 0), log.head.subscribe());
    let first = soon(head.wait_for(Option::is_some)).await.unwrap().clone().unwrap();
    let said = first.verify(&root_origin(&name), &key).unwrap();
    assert!(said.size >= 3);
    let files = read_all(&at.audit());
    for agency in ["KH", "TH", "VN"] {
        let note = SignedCheckpoint::parse(&files[&format!("1/{agency}/checkpoint")]).unwrap();
        assert_eq!(note.verify(&sub_log_origin(&name, agency), &key).unwrap().size, 1, "its policies");
    }
    let newer = |head: &Option<Arc<SignedCheckpoint>>| {
        head.as_ref().is_some_and(|head| head.claim().size >= said.size + 2)
    };
    let next = soon(head.wait_for(newer)).await.unwrap().clone().unwrap();
    let published = *log.published.borrow();
    assert!(next.claim().size <= published.epochs, "signed only what is durable");
    drop(intake);
    soon(engine.stop()).await.unwrap();
    let state = mark(folder.path()).unwrap();

    // A damaged log is not continued.
    let tile = folder.path().join(format!("audit/1/tile/0/000.p/{}", state.epochs));
    let mut bytes = std::fs::read(&tile).unwrap();
    bytes[5] ^= 1;
    crate::testing::put(&tile, &bytes);
    let refused = run(&at, std::future::pending(), |_| panic!("listens")).await.unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("audit/1/tile/") && text.contains("restore"), "{text}");
    // Nor is one that the journal falls behind of.
    bytes[5] ^= 1;
    crate::testing::put(&tile, &bytes);
    std::fs::remove_dir_all(at.journal()).unwrap();
    std::fs::remove_dir_all(at.index()).unwrap();
    std::fs::create_dir(at.journal()).unwrap();
    let refused = run(&at, std::future::pending(), |_| panic!("listens")).await.unwrap_err();
    assert!(matches!(refused, RunError::Publish(_)), "{refused}");
    assert!(refused.to_string().contains("one of them comes from a backup"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_for_the_log_alone_stops_no_packets_and_the_log_follows() {
    let (world, folder) = super::standing::watched(&[]);
    // Every write to this one ends as on a full disk.
    let rosters = folder.path().join("audit/1/rosters");
    std::fs::create_dir_all(rosters.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/dev/full", &rosters).unwrap();
    let broker = Broker::start(folder.path()).await;
    let (mut th, mut kh) =
        (Node::connect(&world, &broker, "TH").await, Node::connect(&world, &broker, "KH").await);
    for number in 1..=5 {
        th.receipt(&world.packet("TH", &[unit("KH", "A")])).await;
        assert_eq!(kh.delivery().await.queue_sequence, number);
        sleep(Duration::from_millis(150)).await;
    }
    assert_eq!(broker.shared.log.published.borrow().epochs, 0);
    assert!(broker.shared.ledger().audit().epochs() > 2 && !*broker.shared.failed.borrow());
    let ill = || crate::shell::operator::ill(&broker.shared, clock::shown_ms());
    assert!(ill().is_some_and(|why| why.starts_with("the disk is full")), "{:?}", ill());
    std::fs::remove_file(&rosters).unwrap();
    let behind = broker.shared.ledger().audit().epochs();
    super::standing::published(&broker, behind + 2).await;
    let head = super::standing::head(&broker, behind + 2).await;
    assert!(head.claim().size >= behind + 2 && ill().is_none(), "{:?}", ill());
    broker.stop().await.unwrap();
    // What it wrote is whole: a start reads it back.
    Broker::start(folder.path()).await.stop().await.unwrap();
}
