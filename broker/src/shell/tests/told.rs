//! What the audit log is told beside packets, seen in the journal.

use std::collections::BTreeMap;

use lintas_journal::{FileDisk, Fold, FoldError, Journal, Limits, Record};
use lintas_proto::{
    audit::leaf::open_event,
    id::sha256,
    schema::{AuditEvent, Caveat, EventType, StoredEpoch, StoredEvent},
};
use tokio::sync::{mpsc, oneshot};

use super::{
    operator::{free, shows},
    *,
};
use crate::{
    core::record::Fact,
    shell::{
        intake::{Denied, Intake},
        start::{Engine, Voice},
    },
    testing::unit,
};

#[derive(Default)]
pub(super) struct Facts(Vec<Fact>);

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
pub(super) fn facts(folder: &Path) -> Vec<Fact> {
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

/// The same, without the first bundle of every member that all logs begin with.
fn later_events_of(facts: &[Fact]) -> Vec<AuditEvent> {
    let mut events = events_of(facts);
    let first: Vec<AuditEvent> = events.drain(..3).collect();
    use EventType::PolicyChanged;
    assert_eq!(kinds(&first), [(PolicyChanged, "KH"), (PolicyChanged, "TH"), (PolicyChanged, "VN")]);
    events
}

fn kinds(events: &[AuditEvent]) -> Vec<(EventType, &str)> {
    events.iter().map(|event| (event.r#type(), event.agency.as_str())).collect()
}

pub(super) fn epochs(facts: &[Fact]) -> Vec<&StoredEpoch> {
    facts.iter().filter_map(|fact| if let Fact::Epoch(epoch) = fact { Some(epoch) } else { None }).collect()
}

fn denied(world: &World) -> Sealed {
    world.packet_with("TH", &[unit("KH", "A")], |core| core.label.caveats.push(Caveat::Noforn as i32))
}

/// The broker behind its listener, with epochs of 200 ms.
pub(super) struct Behind {
    pub(super) world: World,
    pub(super) folder: TempFolder,
    pub(super) engine: Engine,
    pub(super) intake: mpsc::Sender<Intake>,
}

impl Behind {
    pub(super) fn start(world: World, folder: TempFolder) -> Self {
        let at = Folder::at(folder.path());
        let (settings, directory) = (at.settings().unwrap(), at.directory().unwrap());
        let speaks = Voice::of(&world.broker).unwrap();
        let limits = Limits { segments_max: 100, ..Limits::default() };
        let (engine, intake) = Engine::start(&at, &settings, limits, directory, speaks).unwrap();
        Self { world, folder, engine, intake }
    }

    pub(super) async fn read(
        &self,
        auditor: &str,
        agency: &str,
        first_index: u64,
        count: u64,
    ) -> Result<(), Denied> {
        let (answer, answered) = oneshot::channel();
        let (auditor, agency) = (auditor.to_owned(), agency.to_owned());
        self.intake.send(Intake::Read { auditor, agency, first_index, count, answer }).await.unwrap();
        soon(answered).await.unwrap()
    }

    pub(super) async fn stop(self) -> (World, TempFolder) {
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
    let events = later_events_of(&facts(folder.path()));
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
    assert_eq!(
        kinds(&later_events_of(&facts)),
        [(EventType::KeyChanged, "TH"); 3],
        "the first one is no change"
    );
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
    let events = later_events_of(&facts(folder.path()));
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
    assert_eq!(behind.read("VN", "TH", 0, 8).await.unwrap_err().0, Reason::Malformed, "there are seven");
    behind.read("VN", "TH", 0, 7).await.unwrap();
    behind.read("VN", "TH", 2, 2).await.unwrap();
    soon(async {
        // reads_told_after_days is 0 in this region.
        while behind.engine.shared.ledger().log_size("TH") < 8 {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let (_, folder) = behind.stop().await;
    let events = later_events_of(&facts(folder.path()));
    let reads = events.iter().filter(|event| event.r#type() == EventType::AuditRead).count();
    assert!(
        (1..=2).contains(&reads),
        "the second is within the first, unless an epoch ended between: {reads}"
    );
    assert_eq!((events[0].agency.as_str(), events[0].other_agency.as_str()), ("VN", "TH"));
    let told = events.iter().find(|event| event.r#type() == EventType::AuditReadTold).unwrap();
    assert_eq!((told.agency.as_str(), told.other_agency.as_str()), ("TH", "VN"));
    assert_eq!((told.first_index, told.count, told.other_time_ms), (0, 7, events[0].time_ms));
}
