//! What the audit log is told beside packets, seen in the journal.

use std::collections::BTreeMap;

use lintas_journal::{FileDisk, Fold, FoldError, Journal, Limits, Record};
use lintas_proto::{
    audit::leaf::open_event,
    id::sha256,
    receipt::Receipt,
    schema::{
        AuditEvent, Caveat, EndedLog, ErasureOrder, EventType, SignedErasureOrder, SignedReceipt,
        StoredEpoch, StoredEvent,
    },
};
use tokio::sync::{mpsc, oneshot};

use super::{
    operator::{free, shows},
    *,
};
use crate::{
    core::{events, ledger::Ledger, record::Fact},
    shell::{
        intake::{Denied, Intake},
        start::{Engine, Voice},
    },
    testing::unit,
};

#[derive(Default)]
struct Facts(Vec<Fact>);

impl Fold for Facts {
    fn restore(&mut self, _: &[u8]) -> Result<(), FoldError> {
        panic!("a test so short compacts nothing")
    }

    fn replay(&mut self, record: &Record) -> Result<(), FoldError> {
        self.0.push(Fact::from_record(record).unwrap());
        Ok(())
    }
}

/// Every record, from a copy of the journal.
fn facts(folder: &Path) -> Vec<Fact> {
    let copy = TempFolder::new();
    for file in std::fs::read_dir(folder.join("journal")).unwrap() {
        let path = file.unwrap().path();
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    let limits = Limits { segment_bytes: 16 << 20, ..Limits::default() };
    let mut facts = Facts::default();
    Journal::open(FileDisk::open(copy.path()).unwrap(), limits, None, &mut facts).unwrap();
    facts.0
}

/// Events outside of receipts, in order.
fn events_of(facts: &[Fact]) -> Vec<AuditEvent> {
    let of = |fact: &Fact| -> Vec<StoredEvent> {
        if let Fact::Events(events) = fact {
            events.events.clone()
        } else if let Fact::Members(members) = fact {
            members.events.clone()
        } else if let Fact::SlotKey(key) = fact {
            key.event.clone().into_iter().collect()
        } else if let Fact::Erasure(erasure) = fact {
            erasure.events.clone()
        } else {
            Vec::new()
        }
    };
    facts.iter().flat_map(of).map(|stored| open_event(&stored.event.unwrap()).unwrap()).collect()
}

fn kinds(events: &[AuditEvent]) -> Vec<(EventType, &str)> {
    events.iter().map(|event| (event.r#type(), event.agency.as_str())).collect()
}

fn epochs(facts: &[Fact]) -> Vec<&StoredEpoch> {
    facts.iter().filter_map(|fact| if let Fact::Epoch(epoch) = fact { Some(epoch) } else { None }).collect()
}

fn denied(world: &World) -> Sealed {
    world.packet_with("TH", &[unit("KH", "A")], |core| core.label.caveats.push(Caveat::Noforn as i32))
}

/// The broker behind its listener, with epochs of 200 ms.
struct Behind {
    world: World,
    folder: TempFolder,
    engine: Engine,
    intake: mpsc::Sender<Intake>,
}

impl Behind {
    fn start(world: World, folder: TempFolder) -> Self {
        let at = Folder::at(folder.path());
        let (settings, directory) = (at.settings().unwrap(), at.directory().unwrap());
        let speaks = Voice::of(&world.broker).unwrap();
        let limits = Limits { segments_max: 100, ..Limits::default() };
        let (engine, intake) = Engine::start(&at, &settings, limits, directory, speaks).unwrap();
        Self { world, folder, engine, intake }
    }

    async fn read(&self, auditor: &str, agency: &str, first_index: u64, count: u64) -> Result<(), Denied> {
        let (answer, answered) = oneshot::channel();
        let (auditor, agency) = (auditor.to_owned(), agency.to_owned());
        self.intake.send(Intake::Read { auditor, agency, first_index, count, answer }).await.unwrap();
        soon(answered).await.unwrap()
    }

    async fn stop(self) -> (World, TempFolder) {
        drop(self.intake);
        soon(self.engine.stop()).await.unwrap();
        (self.world, self.folder)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn epochs_end_with_and_without_traffic_and_go_on_after_a_crash() {
    let (world, folder) = scene_with_epochs(200);
    let broker = Broker::start(folder.path()).await;
    sleep(Duration::from_millis(700)).await;
    let mut th = Node::connect(&world, &broker, "TH").await;
    th.receipt(&world.packet("TH", &[unit("KH", "A")])).await;
    sleep(Duration::from_millis(300)).await;
    broker.drop_dead().await;
    let before = facts(folder.path());
    assert!(matches!(&before[0], Fact::Members(members) if members.agencies == ["KH", "TH", "VN"]));
    let broker = Broker::start(folder.path()).await;
    sleep(Duration::from_millis(500)).await;
    broker.stop().await.unwrap();
    let after = facts(folder.path());
    let (count, all) = (epochs(&before).len(), epochs(&after));
    assert!(count >= 3 && all.len() > count, "{count} {}", all.len());
    for (number, epoch) in (0..).zip(&all) {
        assert_eq!((epoch.epoch, epoch.directory_hash.as_ref()), (number, world.directory.hash().as_slice()));
    }
    let apart: Vec<u64> = all.windows(2).map(|two| two[1].time_ms - two[0].time_ms).collect();
    assert!(apart[..count - 1].iter().all(|ms| (20..2_000).contains(ms)), "{apart:?}");
    assert_eq!(after.iter().filter(|fact| matches!(fact, Fact::Members(_))).count(), 1, "one roster");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_roster_and_new_keysets_are_told_also_when_they_came_while_the_broker_was_away() {
    let (mut world, folder) = scene_with_epochs(200);
    let broker = Broker::start(folder.path()).await;
    let mut th = Node::connect(&world, &broker, "TH").await;
    let keyset = world.next_keyset("VN");
    assert_eq!(bring_signed(&th.connection, &keyset).await.0, Reason::Accepted);
    world.put_keyset(keyset);
    th.told(&world).await;
    broker.drop_dead().await;
    let keyset = world.next_keyset("KH");
    world.put_keyset(keyset);
    world.join("LA");
    world.publish_next();
    place(&folder.path().join("directory.bin"), world.directory.bytes());
    let broker = Broker::start(folder.path()).await;
    sleep(Duration::from_millis(600)).await;
    broker.stop().await.unwrap();
    let events = events_of(&facts(folder.path()));
    use EventType::{DirectoryChanged, KeyChanged};
    let expected = [
        (KeyChanged, "VN"),
        (DirectoryChanged, "KH"),
        (DirectoryChanged, "LA"),
        (DirectoryChanged, "TH"),
        (DirectoryChanged, "VN"),
        (KeyChanged, "KH"),
    ];
    assert_eq!(kinds(&events), expected);
    assert_eq!(events[5].evidence_digest, world.directory.keyset_hash("KH").unwrap().as_slice());
    assert_eq!((events[1].version, events[5].version), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_key_of_a_hello_is_kept_and_a_node_cannot_change_it_all_the_time() {
    let (world, folder) = scene_with_epochs(200);
    let broker = Broker::start(folder.path()).await;
    let hello_with = |key: u8| Hello { slot_key: Bytes::copy_from_slice(&[key; 32]), ..hello("TH") };
    for key in [1, 1, 2, 2, 3, 4, 5, 6] {
        connect_as(&world, broker.address, &world.transport("TH"), &hello_with(key)).await.unwrap();
        sleep(Duration::from_millis(50)).await;
    }
    for wrong in [Bytes::new(), Bytes::from_static(&[9; 31]), Bytes::from_static(&[0; 32])] {
        let hello = Hello { slot_key: wrong, ..hello("KH") };
        connect_as(&world, broker.address, &world.transport("KH"), &hello).await.unwrap();
    }
    sleep(Duration::from_millis(300)).await;
    broker.stop().await.unwrap();
    let facts = facts(folder.path());
    let key = |fact: &Fact| {
        if let Fact::SlotKey(key) = fact { Some((key.agency.clone(), key.key[0])) } else { None }
    };
    let keys: Vec<_> = facts.iter().filter_map(key).collect();
    assert_eq!(keys, [1, 2, 3, 4].map(|key| ("TH".to_owned(), key)));
    assert_eq!(kinds(&events_of(&facts)), [(EventType::KeyChanged, "TH"); 3], "the first one is no change");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_final_refusal_is_durable_before_it_is_answered_and_the_log_holds_its_evidence() {
    let (world, folder) = quiet_scene();
    let broker = Broker::start(folder.path()).await;
    let mut th = Node::connect(&world, &broker, "TH").await;
    th.submit(&denied(&world)).await;
    let refusal = th.refusal().await;
    let spoiled = world.packet_with("TH", &[unit("KH", "A")], |core| core.region = "elsewhere".to_owned());
    th.submit(&spoiled).await;
    let wrong = th.refusal().await;
    assert_eq!((refusal.reason(), wrong.reason()), (Reason::Policy, Reason::WrongRegion));
    broker.drop_dead().await;
    let events = events_of(&facts(folder.path()));
    assert_eq!(kinds(&events), [(EventType::Denied, "TH"), (EventType::NotAccepted, "TH")]);
    for (event, refusal) in events.iter().zip([refusal, wrong]) {
        let signed = canonical::encode(&refusal.evidence.unwrap());
        assert_eq!(event.evidence_digest, sha256(&[&signed]).as_slice(), "the very same bytes");
        assert_eq!(event.reason, refusal.reason);
    }
    assert_eq!(events[0].recipient, Some(unit("KH", "A")));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_refused_all_the_time_does_not_fill_the_log() {
    let (world, folder) = quiet_scene();
    let address = free();
    set(folder.path(), &format!("metrics = \"{address}\""));
    let broker = Broker::start(folder.path()).await;
    let mut th = Node::connect(&world, &broker, "TH").await;
    let mut reasons: BTreeMap<i32, usize> = BTreeMap::new();
    for _ in 0..80 {
        th.submit(&denied(&world)).await;
    }
    for _ in 0..80 {
        let refusal = th.refusal().await;
        assert_eq!(refusal.retry, refusal.reason() == Reason::Quota);
        *reasons.entry(refusal.reason).or_default() += 1;
    }
    let (final_ones, later) = (reasons[&(Reason::Policy as i32)], reasons[&(Reason::Quota as i32)]);
    assert!((60..75).contains(&final_ones) && final_ones + later == 80, "{reasons:?}");
    let mut vn = Node::connect(&world, &broker, "VN").await;
    vn.submit(&world.packet_with("VN", &[unit("KH", "A")], |core| core.region = "x".to_owned())).await;
    assert_eq!(vn.refusal().await.reason(), Reason::WrongRegion, "nobody else waits");
    shows(address, &format!("audit_refusals_total {}", final_ones + 1)).await;
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_stands_in_the_auditors_log_at_once_and_is_told_later() {
    let (world, folder) = scene_with_epochs(200);
    let broker = Broker::start(folder.path()).await;
    let mut th = Node::connect(&world, &broker, "TH").await;
    for _ in 0..3 {
        th.receipt(&world.packet("TH", &[unit("KH", "A")])).await;
    }
    broker.stop().await.unwrap();
    let behind = Behind::start(world, folder);
    assert_eq!(behind.read("VN", "TH", 0, 7).await.unwrap_err().0, Reason::Malformed, "there are six");
    behind.read("VN", "TH", 0, 6).await.unwrap();
    behind.read("VN", "TH", 2, 2).await.unwrap();
    soon(async {
        // reads_told_after_days is 0 in this region.
        while behind.engine.shared.ledger().log_size("TH") < 7 {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let (_, folder) = behind.stop().await;
    let events = events_of(&facts(folder.path()));
    let reads = events.iter().filter(|event| event.r#type() == EventType::AuditRead).count();
    assert!(
        (1..=2).contains(&reads),
        "the second is within the first, unless an epoch ended between: {reads}"
    );
    assert_eq!((events[0].agency.as_str(), events[0].other_agency.as_str()), ("VN", "TH"));
    let told = events.iter().find(|event| event.r#type() == EventType::AuditReadTold).unwrap();
    assert_eq!((told.agency.as_str(), told.other_agency.as_str()), ("TH", "VN"));
    assert_eq!((told.first_index, told.count, told.other_time_ms), (0, 6, events[0].time_ms));
}

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
        time_ms: clock::now_ms(),
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
    assert_eq!(erase().await.unwrap(), 5, "behind two packets of two events each, and one end");
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
    assert_eq!(origin(&before), ("hub.mekong/audit/TH".to_owned(), 0));
    assert_eq!(origin(&after), ("hub.mekong.log2/audit/TH".to_owned(), 0));
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
    let ahead_ms = clock::now_ms() + 3_600_000;
    let limits = Limits { segment_bytes: 16 << 20, ..Limits::default() };
    let disk = FileDisk::open(folder.path().join("journal")).unwrap();
    let (mut journal, _) = Journal::open(disk, limits, None, &mut Facts::default()).unwrap();
    let mut entropy = lintas_config::os_entropy();
    let mut ledger = Ledger::default();
    let members = events::members(&ledger, &world.directory, ahead_ms, &mut entropy).unwrap();
    ledger.apply(1, &members).unwrap();
    let epoch = events::epoch(&ledger, &world.directory, ahead_ms);
    journal.commit(&[members.to_record(), epoch.to_record()], lintas_journal::Class::Ordinary).unwrap();
    drop(journal);
    let address = free();
    set(folder.path(), &format!("metrics = \"{address}\""));
    let broker = Broker::start(folder.path()).await;
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
