//! What is forgotten, and what begins anew: erasures, the next log, clocks that go back.

use lintas_journal::{FileDisk, Journal, Limits};
use lintas_proto::{
    receipt::Receipt,
    schema::{EndedLog, ErasureOrder, SignedErasureOrder, SignedReceipt},
};
use tokio::sync::oneshot;

use super::{
    operator::free,
    told::{Behind, Facts, epochs, facts},
    *,
};
use crate::{
    core::{events, ledger::Ledger, record::Fact},
    shell::intake::Intake,
    testing::unit,
};

/// Salts of the events of a receipt.
fn salts(receipt: &Bytes) -> Vec<Bytes> {
    let signed: SignedReceipt = canonical::decode(receipt, 1 << 20).unwrap();
    Receipt::parse(&signed.receipt).unwrap().0.events.into_iter().map(|event| event.salt).collect()
}

fn is_anywhere(folder: &Path, needle: &[u8]) -> bool {
    std::fs::read_dir(folder.join("journal")).unwrap().any(|file| {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        // Most of a segment is empty.
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes[..end].windows(needle.len()).any(|window| window == needle)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_erased_is_gone_from_the_files_and_the_same_packet_is_refused() {
    let (world, folder) = scene_with_epochs(200);
    let broker = Broker::start(folder.path()).await;
    let (mut th, to) = (Node::connect(&world, &broker, "TH").await, unit("KH", "A"));
    let (gone, stays) =
        (world.packet("TH", std::slice::from_ref(&to)), world.packet("TH", std::slice::from_ref(&to)));
    let (receipt, other) = (th.receipt(&gone).await, th.receipt(&stays).await);
    let mut kh = Node::connect(&world, &broker, "KH").await;
    kh.delivery().await;
    broker.stop().await.unwrap();

    let behind = Behind::start(world, folder);
    let id = behind.world.admit(&gone).unwrap().header().core().packet_id;
    let order = ErasureOrder {
        region: REGION.to_owned(),
        origin: "hub.mekong/audit/TH".to_owned(),
        indices: vec![0, 1],
        ground: "By order of the court".to_owned(),
        time_ms: clock::shown_ms(),
    };
    let order = SignedErasureOrder { order: canonical::encode(&order), ..SignedErasureOrder::default() };
    let erase = async || {
        let (answer, answered) = oneshot::channel();
        let (order, packets) = (Box::new(order.clone()), vec![id]);
        behind.intake.send(Intake::Erase { order, packets, answer }).await.unwrap();
        soon(answered).await.unwrap()
    };
    let (reason, text) = erase().await.unwrap_err();
    assert!(reason == Reason::Policy && text.contains("still waits for KH"), "{text}");
    let end = |agency: &str, how| {
        let agency = agency.to_owned();
        behind.intake.send(Intake::End(crate::shell::intake::End { agency, queue_sequence: 1, how }))
    };
    end("KH", behind.world.acknowledgement(&gone, &to)).await.unwrap();
    let (_, text) = erase().await.unwrap_err();
    assert!(text.contains("waits for TH, which sent it"), "{text}");
    end("TH", crate::core::outcome::How::Taken).await.unwrap();
    assert_eq!(erase().await.unwrap(), 6, "behind its policies, two packets of two events each, and one end");
    let salts_gone = salts(&receipt);
    soon(async {
        while is_anywhere(behind.folder.path(), &salts_gone[0]) {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    // Nothing moves any more.
    let (world, folder) = behind.stop().await;
    assert!(salts_gone.iter().all(|salt| !is_anywhere(folder.path(), salt)));
    assert!(is_anywhere(folder.path(), &salts(&other)[0]), "the other packet still waits");
    let broker = Broker::start(folder.path()).await;
    let mut th = Node::connect(&world, &broker, "TH").await;
    th.submit(&gone).await;
    let refusal = th.refusal().await;
    assert_eq!(refusal.reason(), Reason::Replay);
    assert!(refusal.text.contains("its receipt was erased"), "{}", refusal.text);
    assert_eq!(th.receipt(&stays).await, other);
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_log_begins_empty_and_takes_the_same_packet_again() {
    let (mut world, folder) = scene_with_epochs(200);
    let broker = Broker::start(folder.path()).await;
    let mut th = Node::connect(&world, &broker, "TH").await;
    let packet = world.packet("TH", &[unit("KH", "A")]);
    let before = th.receipt(&packet).await;
    world.roster.brokers[0].ended_logs.push(EndedLog { size: 1, root: Bytes::from_static(&[1; 32]) });
    world.publish_next();
    place(&folder.path().join("directory.bin"), world.directory.bytes());
    let ended = soon(broker.task).await.unwrap();
    assert!(matches!(ended, Err(RunError::LogEnded)), "{ended:?}");

    let broker = Broker::start(folder.path()).await;
    let mut th = Node::connect(&world, &broker, "TH").await;
    let mut kh = Node::connect(&world, &broker, "KH").await;
    kh.silence().await;
    let after = th.receipt(&packet).await;
    let origin = |receipt: &Bytes| {
        let signed: SignedReceipt = canonical::decode(receipt, 1 << 20).unwrap();
        let receipt = Receipt::parse(&signed.receipt).unwrap().0;
        (receipt.origin, receipt.events[0].index)
    };
    assert_eq!(origin(&before), ("hub.mekong/audit/TH".to_owned(), 1), "behind its policies");
    assert_eq!(origin(&after), ("hub.mekong.log2/audit/TH".to_owned(), 1), "told anew");
    assert_eq!(kh.delivery().await.queue_sequence, 1);
    broker.stop().await.unwrap();
    let facts = facts(folder.path());
    let begun = facts.iter().position(|fact| matches!(fact, Fact::LogBegun(_))).unwrap();
    assert!(matches!(&facts[begun + 1], Fact::Members(members) if members.events.is_empty()));
    assert_eq!(epochs(&facts[begun..]).first().unwrap().epoch, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_behind_the_log_is_said_and_the_log_does_not_go_back() {
    let (world, folder) = scene_with_epochs(200);
    let ahead_ms = clock::shown_ms() + 3_600_000;
    let limits = Limits { segment_bytes: 16 << 20, ..Limits::default() };
    let disk = FileDisk::open(folder.path().join("journal")).unwrap();
    let (mut journal, _) = Journal::open(disk, limits, None, &mut Facts::default()).unwrap();
    let mut entropy = lintas_config::os_entropy();
    let mut ledger = Ledger::default();
    let members = events::members(&ledger, &world.rules, ahead_ms, &mut entropy).unwrap();
    ledger.apply(1, &members).unwrap();
    let epoch = events::epoch(&ledger, &world.rules, ahead_ms);
    journal.commit(&[members.to_record(), epoch.to_record()], lintas_journal::Class::Ordinary).unwrap();
    drop(journal);
    let address = free();
    set(folder.path(), &format!("metrics = \"{address}\""));
    let broker = Broker::start(folder.path()).await;
    // In doubt, until two members agree with it.
    assert!(connect_as(&world, broker.address, &world.transport("KH"), &hello("KH")).await.is_err());
    let mut th = Node::connect(&world, &broker, "TH").await;
    let receipt = th.receipt(&world.packet("TH", &[unit("KH", "A")])).await;
    let signed: SignedReceipt = canonical::decode(&receipt, 1 << 20).unwrap();
    assert_eq!(Receipt::parse(&signed.receipt).unwrap().0.time_ms, ahead_ms);
    let page = operator::get(address, "/metrics").await;
    let line =
        page.lines().find(|line| line.starts_with("lintas_broker_clock_behind_milliseconds ")).unwrap();
    let behind_ms: u64 = line.rsplit_once(' ').unwrap().1.parse().unwrap();
    assert!((3_500_000..=3_600_000).contains(&behind_ms), "{behind_ms}");
    sleep(Duration::from_millis(500)).await;
    broker.stop().await.unwrap();
    let facts = facts(folder.path());
    let epochs = epochs(&facts);
    assert!(epochs.len() > 2 && epochs.iter().all(|epoch| epoch.time_ms == ahead_ms));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_roster_that_knows_of_fewer_logs_than_the_journal_is_refused() {
    let (mut world, folder) = quiet_scene();
    let old = world.directory.bytes().clone();
    world.roster.brokers[0].ended_logs.push(EndedLog { size: 1, root: Bytes::from_static(&[1; 32]) });
    world.publish_next();
    world.write(folder.path());
    Broker::start(folder.path()).await.stop().await.unwrap();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("directory") && path.is_file() {
            std::fs::remove_file(path).unwrap();
        }
    }
    place(&folder.path().join("directory.bin"), &old);
    let refused = run(&Folder::at(folder.path()), std::future::pending(), |_| panic!("listens")).await;
    let refused = refused.unwrap_err();
    assert!(matches!(refused, RunError::RosterBehindLog { known: 1, number: 0 }), "{refused:?}");
}
