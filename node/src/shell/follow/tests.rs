//! A node that follows a log in memory, honest or not.

use bytes::Bytes;
use lintas_proto::{
    audit::{epoch::RootEntry, files::LogFile, proof::TlogProof},
    canonical,
    frame::FrameType,
    id::sha256,
    limits,
    schema::Submission,
};

use super::*;
use crate::{
    core::log::{findings::Kind, inclusion, receipts::Grade},
    shell::desk::{Heard, How, Request, Work},
    testing::{AMBER, REGION, Region, draft, log::FakeLog, submission_events},
};

struct World {
    region: Region,
    desk: Arc<Desk>,
    log: FakeLog,
    start_ms: u64,
}

impl World {
    /// Thailand's node, and a log with one empty epoch.
    fn new() -> Self {
        let region = Region::new();
        let (desk, mut log) = (Arc::new(region.desk("TH")), FakeLog::new(&region, "TH"));
        let start_ms = clock::now_ms();
        log.end_epoch(start_ms - 10_000);
        Self { region, desk, log, start_ms }
    }

    /// Sends a packet, which the broker promises to log next.
    fn send(&self) -> (Submission, Bytes) {
        let text = draft(&["KH/KH-AHT"], "t", AMBER, "NONE");
        let (attach, to, how) = (Vec::new(), Vec::new(), How::default());
        self.desk.answer(Request::Send { draft: text, attach, to, from: None, how }).unwrap();
        let Work::Submit(next) = self.desk.next_work().unwrap() else { panic!("nothing to submit") };
        let packet: Submission = canonical::decode(&next.bytes, limits::FRAME_BYTES_MAX).unwrap();
        let at = (self.log.sub.as_str(), self.log.leaves.len() as u64);
        let receipt = self.region.receipt_in(at, "TH", &packet.header, &submission_events(&packet));
        let heard = vec![Heard { kind: FrameType::Receipt, payload: receipt.clone() }];
        self.desk.settle(self.desk.judge(heard)).unwrap();
        (packet, receipt)
    }

    async fn round(&self) -> Result<usize, Stop> {
        Follower::new(&self.desk).round(&self.log).await
    }

    fn grade(&self, packet: &Submission) -> Option<Grade> {
        self.desk.grade_of(&sha256(&[&packet.header]))
    }

    /// The one finding.
    fn finding(&self) -> (String, bool, Vec<Bytes>) {
        let found = self.desk.findings().unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        (found[0].kind.clone(), found[0].is_evidence, found[0].exhibits.clone())
    }
}

#[tokio::test]
async fn a_receipt_is_included_then_witnessed_and_stays_so_after_a_restart() {
    let mut world = World::new();
    world.log.log_strange(3, world.start_ms - 11_000);
    world.log.end_epoch(world.start_ms - 9_000);
    let (packet, receipt) = world.send();
    assert_eq!(world.grade(&packet), Some(Grade::Promised));
    world.log.publish(3);
    assert_eq!(world.round().await.unwrap(), 0, "not yet there");
    world.log.log(&receipt);
    world.log.end_epoch(world.start_ms + 5_000);
    world.log.publish(1);
    assert_eq!(world.round().await.unwrap(), 1);
    assert_eq!(world.grade(&packet), Some(Grade::Included));
    assert_eq!(world.round().await.unwrap(), 0, "once is enough");
    for second in 6..300 {
        world.log.end_epoch(world.start_ms + second * 1_000);
    }
    world.log.publish(2);
    assert_eq!(world.round().await.unwrap(), 1);
    assert_eq!(world.grade(&packet), Some(Grade::Witnessed));
    assert_eq!(world.desk.findings().unwrap(), []);
    let World { region, desk, log, .. } = world;
    drop(desk);
    let desk = Arc::new(region.desk("TH"));
    assert_eq!(desk.grade_of(&sha256(&[&packet.header])), Some(Grade::Witnessed));
    assert_eq!(Follower::new(&desk).round(&log).await.unwrap(), 0);
}

#[tokio::test]
async fn a_long_log_costs_a_few_tiles() {
    let mut world = World::new();
    let mut sent = Vec::new();
    for epoch in 0..600u64 {
        if epoch % 200 == 7 {
            let (packet, receipt) = world.send();
            world.log.log(&receipt);
            sent.push(packet);
        } else {
            // As late as the receipts say.
            world.log.log_strange(30, clock::now_ms());
        }
        world.log.end_epoch(clock::now_ms());
    }
    world.log.publish(3);
    let whole: usize = world.log.files.lock().unwrap().values().map(Bytes::len).sum();
    assert_eq!(world.round().await.unwrap(), 3);
    assert!(sent.iter().all(|packet| world.grade(packet) == Some(Grade::Witnessed)));
    let given = *world.log.given.lock().unwrap();
    assert!(whole > 1_500_000 && given < 200_000, "{given} of {whole} bytes");
    assert_eq!(world.desk.findings().unwrap(), []);
}

#[tokio::test]
async fn a_promise_that_a_witnessed_log_does_not_keep_is_evidence() {
    let mut world = World::new();
    let (packet, receipt) = world.send();
    world.log.end_epoch(world.start_ms + 5_000);
    world.log.publish(3);
    world.round().await.unwrap();
    assert_eq!(world.desk.findings().unwrap(), [], "its deadline is not over");
    world.log.end_epoch(world.start_ms + 60_000);
    world.log.publish(1);
    world.round().await.unwrap();
    assert_eq!(world.desk.findings().unwrap(), [], "no quorum has seen it");
    world.log.end_epoch(world.start_ms + 61_000);
    world.log.publish(3);
    world.round().await.unwrap();
    let (kind, weight, exhibits) = world.finding();
    assert_eq!((kind, weight, &exhibits[0]), (Kind::PromiseNotKept.as_str().to_owned(), true, &receipt));
    // What it consists of convinces a stranger.
    let slot: SlotOpening = canonical::decode(&exhibits[1], 64 * 1024).unwrap();
    let root: RootProof = canonical::decode(&exhibits[2], 64 * 1024).unwrap();
    let entry = RootEntry::parse(&root.entry).unwrap();
    assert!(inclusion::opens(&slot, &entry) && slot.size == 0 && entry.time_ms == world.start_ms + 61_000);
    let (directory, proof) = (world.region.directory(), TlogProof::parse(&root.proof).unwrap());
    proof.verify(&root.entry, &world.log.root, &directory.brokers()[0].log_key).unwrap();
    assert!(proof.checkpoint.witnessed_at(&directory.witnesses()).is_some());
    assert_eq!(world.grade(&packet), Some(Grade::Promised));
}

#[tokio::test]
async fn another_leaf_where_one_was_promised_is_evidence() {
    let mut world = World::new();
    let (_, receipt) = world.send();
    world.log.log_strange(2, world.start_ms);
    world.log.end_epoch(world.start_ms + 5_000);
    world.log.publish(3);
    world.round().await.unwrap();
    let (kind, weight, exhibits) = world.finding();
    assert_eq!((kind, weight, &exhibits[0]), (Kind::OtherLeaf.as_str().to_owned(), true, &receipt));
    let proof: lintas_proto::schema::LeafProof = canonical::decode(&exhibits[1], 64 * 1024).unwrap();
    let slot: SlotOpening = canonical::decode(&exhibits[2], 64 * 1024).unwrap();
    let root = slot.root.as_ref().try_into().unwrap();
    assert!(inclusion::stands(&proof, slot.size, &root) && proof.leaf == world.log.leaves[0]);
}

#[tokio::test]
async fn times_outside_of_the_epoch_are_evidence() {
    for (before, after) in [(Some(60_000), 70_000), (None, -5_000)] {
        let mut world = World::new();
        let at = |offset: i64| world.start_ms.checked_add_signed(offset).unwrap();
        let ((_, receipt), before, after) = (world.send(), before.map(at), at(after));
        before.into_iter().for_each(|time_ms| world.log.end_epoch(time_ms));
        world.log.log(&receipt);
        world.log.end_epoch(after);
        world.log.publish(3);
        world.round().await.unwrap();
        let (kind, weight, exhibits) = world.finding();
        assert_eq!((kind, weight), (Kind::BackDated.as_str().to_owned(), true));
        assert_eq!(exhibits.len(), if before.is_some() { 6 } else { 4 });
    }
}

#[tokio::test]
async fn what_is_shown_wrongly_proves_nothing_and_keeps_nothing() {
    type IsIt = fn(&str, LogFile) -> bool;
    let files: [(&str, IsIt); 7] = [
        ("checkpoint", |_, file| matches!(file, LogFile::Checkpoint)),
        ("root tiles", |origin, file| matches!(file, LogFile::Tile(_)) && !origin.ends_with("TH")),
        ("sub-log tiles", |origin, file| matches!(file, LogFile::Tile(_)) && origin.ends_with("TH")),
        ("root entries", |origin, file| matches!(file, LogFile::Entries(..)) && !origin.ends_with("TH")),
        ("slots", |_, file| matches!(file, LogFile::Slots(_))),
        ("sizes", |_, file| matches!(file, LogFile::Sizes)),
        ("cut off", |_, file| !matches!(file, LogFile::Entries(..))),
    ];
    for (what, is_it) in files {
        let mut world = World::new();
        let (packet, receipt) = world.send();
        world.log.log(&receipt);
        world.log.end_epoch(world.start_ms + 5_000);
        world.log.publish(3);
        let cut = what == "cut off";
        let spoiled = world.log.spoil(is_it, |bytes| {
            if cut {
                bytes.truncate(bytes.len() / 2);
            } else {
                let at = if what == "checkpoint" { 20 } else { bytes.len() - 9 };
                bytes[at] ^= 1;
            }
        });
        assert!(spoiled > 0, "{what}");
        let mut follower = Follower::new(&world.desk);
        let outcome = follower.round(&world.log).await;
        assert!(outcome.is_err(), "{what}: {outcome:?}");
        assert_eq!(world.grade(&packet), Some(Grade::Promised), "{what}");
        assert_eq!(world.desk.findings().unwrap(), [], "{what}: it may be an accident");
        let stop = outcome.unwrap_err();
        follower.suspect(&stop).await;
        assert_eq!(world.desk.findings().unwrap(), [], "{what}: it may be an accident");
        world.desk.pulse().pass(Duration::from_secs(600));
        // Of a later session.
        Follower::new(&world.desk).suspect(&stop).await;
        let (kind, weight, _) = world.finding();
        assert_eq!((kind, weight), (Kind::Withheld.as_str().to_owned(), false), "{what}");
    }
}

#[tokio::test]
async fn a_log_that_stands_still_and_a_broker_that_is_slow_are_accused() {
    let mut world = World::new();
    world.log.publish(3);
    let epoch = Duration::from_secs(10);
    for minute in 0..40 {
        world.round().await.unwrap();
        world.desk.pulse().pass(Duration::from_secs(60));
        // Each minute another session.
        Follower::new(&world.desk).look_at_pulse(epoch).await;
        assert_eq!(world.desk.findings().unwrap().len(), usize::from(minute >= 11), "{minute}");
    }
    let (kind, weight, exhibits) = world.finding();
    assert_eq!((kind, weight, exhibits.len()), (Kind::Withheld.as_str().to_owned(), false, 1));
    let status = world.desk.answer(Request::Status).unwrap();
    assert!(format!("{status:?}").contains("no newer audit log than the one with 1 epochs"));
    world.log.end_epoch(world.start_ms);
    world.log.publish(3);
    world.round().await.unwrap();
    Follower::new(&world.desk).suspect(&LogError::Slow.into()).await;
    world.desk.pulse().pass(Duration::from_secs(700));
    Follower::new(&world.desk).suspect(&LogError::NotConnected.into()).await;
    Follower::new(&world.desk).suspect(&Stop::Behind).await;
    assert_eq!(world.desk.findings().unwrap().len(), 1, "that is not the broker's doing");
    Follower::new(&world.desk).suspect(&LogError::Slow.into()).await;
    assert_eq!(world.desk.findings().unwrap().len(), 2);
}

#[tokio::test]
async fn without_witnesses_the_brokers_signature_attests_the_directory() {
    for witnesses in [true, false] {
        let mut world = World::new();
        let next = world.region.next(|roster| {
            roster.members.iter_mut().filter(|_| !witnesses).for_each(|member| member.witness_key.clear());
            roster.reads_told_after_days += 1;
        });
        let next = world.region.open(&next);
        assert!(world.desk.take_update(&Region::update(&world.desk.directory(), &[&next])).unwrap());
        world.log.epochs[0].0.directory_hash = *next.hash();
        world.log.publish(0);
        world.round().await.unwrap();
        let file =
            String::from_utf8(std::fs::read(world.region.path("TH").join("attested")).unwrap()).unwrap();
        let hash = lintas_proto::id::hex(next.hash());
        assert_eq!(file.lines().skip(2).any(|line| line.starts_with(&hash)), !witnesses, "{file}");
    }
}

#[tokio::test]
async fn without_a_quorum_a_broken_promise_is_told_once_as_this_nodes_word() {
    let mut world = World::new();
    let (_, receipt) = world.send();
    for second in [60_000, 2_000_000, 2_010_000] {
        world.log.end_epoch(world.start_ms + second);
        world.log.publish(1);
        world.round().await.unwrap();
        assert_eq!(world.desk.findings().unwrap().len(), usize::from(second > 60_000), "{second}");
    }
    let (kind, weight, exhibits) = world.finding();
    assert_eq!(
        (kind, weight, &exhibits[..]),
        (Kind::PromiseNotKept.as_str().to_owned(), false, &[receipt][..])
    );
}

#[tokio::test]
async fn files_that_were_filled_meanwhile_serve_as_well() {
    let mut world = World::new();
    let (packet, receipt) = world.send();
    world.log.log(&receipt);
    world.log.end_epoch(world.start_ms + 5_000);
    world.log.publish(3);
    let shown = world.log.files.lock().unwrap().clone();
    world.log.log_strange(300, world.start_ms + 5_000);
    (6..306).for_each(|second| world.log.end_epoch(world.start_ms + second * 1_000));
    world.log.publish(3);
    {
        // The checkpoint is the one before; the partial files have gone.
        let mut files = world.log.files.lock().unwrap();
        files.retain(|(_, file), _| !matches!(file, LogFile::Checkpoint));
        let old = |(at, _): &(&(String, LogFile), _)| matches!(at.1, LogFile::Checkpoint | LogFile::Sizes);
        files.extend(shown.iter().filter(old).map(|(at, bytes)| (at.clone(), bytes.clone())));
    }
    assert_eq!(world.round().await.unwrap(), 1);
    assert_eq!(world.grade(&packet), Some(Grade::Witnessed));
}

#[tokio::test]
async fn a_slot_under_another_key_size_or_root_is_an_accusation() {
    for lie in 0..3 {
        let mut world = World::new();
        let (packet, receipt) = world.send();
        world.log.log(&receipt);
        let (size, root) = (world.log.leaves.len() as u64, world.log.sub_root());
        match lie {
            0 => world.log.slot_key = [3; 32],
            1 => world.log.sizes.push((1, size)),
            _ => {}
        }
        let (size, root) = (size + u64::from(lie == 1), if lie == 2 { [1; 32] } else { root });
        world.log.end_epoch_with(world.start_ms + 5_000, size, &root);
        world.log.publish(3);
        let stop = world.round().await.unwrap_err();
        assert!(matches!(stop, Stop::Wrong(_) | Stop::Log(LogError::Missing(_))), "{lie}: {stop}");
        assert_eq!(world.grade(&packet), Some(Grade::Promised));
    }
}

#[tokio::test]
async fn a_slot_at_another_place_than_the_roster_of_then_gives_is_not_believed() {
    for honest in [true, false] {
        let mut world = World::new();
        world.region.join("ZZ", &[]);
        let next = world.region.next(|_| {});
        let next = world.region.open(&next);
        assert!(world.desk.take_update(&Region::update(&world.desk.directory(), &[&next])).unwrap());
        let (packet, receipt) = world.send();
        world.log.log(&receipt);
        // An entry with the slots of the roster before: one member fewer.
        world.log.index -= u32::from(!honest);
        world.log.end_epoch(world.start_ms + 5_000);
        world.log.publish(3);
        assert_eq!(world.round().await.is_ok(), honest);
        let grade = if honest { Grade::Witnessed } else { Grade::Promised };
        assert_eq!(world.grade(&packet), Some(grade));
    }
}

#[tokio::test]
async fn a_tree_that_does_not_continue_the_known_one_is_not_believed() {
    let mut world = World::new();
    world.log.end_epoch(world.start_ms);
    world.log.publish(3);
    world.round().await.unwrap();
    let (packet, receipt) = world.send();
    world.log.epochs[0].0.time_ms -= 1;
    world.log.log(&receipt);
    world.log.end_epoch(world.start_ms + 5_000);
    world.log.publish(3);
    assert!(matches!(world.round().await, Err(Stop::Wrong(_))));
    assert_eq!(world.grade(&packet), Some(Grade::Promised));
}

#[tokio::test]
async fn epochs_under_an_earlier_slot_key_are_proven_with_the_key_that_the_log_names() {
    let mut world = World::new();
    let of_now = world.log.slot_key;
    let (packet, receipt) = world.send();
    world.log.slot_key = [3; 32];
    world.log.log(&receipt);
    world.log.end_epoch(world.start_ms + 5_000);
    world.log.slot_key = of_now;
    world.log.end_epoch(world.start_ms + 6_000);
    world.log.publish(3);
    assert!(matches!(world.round().await, Err(Stop::Wrong(_))), "nobody says which key it was");
    world.log.slot_keys = vec![(1, [3; 32]), (2, of_now)];
    world.log.publish(3);
    assert_eq!(world.round().await.unwrap(), 1);
    assert_eq!(world.grade(&packet), Some(Grade::Witnessed));
    assert_eq!(world.desk.findings().unwrap(), []);
}

/// It goes on so for a day.
async fn suspect_for_long(world: &World, stop: &Stop) {
    for _ in 0..2 {
        Follower::new(&world.desk).suspect(stop).await;
        world.desk.pulse().pass(Duration::from_secs(24 * 60 * 60));
    }
}

#[tokio::test]
async fn a_log_of_a_newer_roster_accuses_nobody() {
    let mut world = World::new();
    let (packet, receipt) = world.send();
    world.log.members += 1;
    world.log.log(&receipt);
    world.log.end_epoch(world.start_ms + 5_000);
    world.log.publish(3);
    let stop = world.round().await.unwrap_err();
    assert!(matches!(stop, Stop::Behind), "{stop}");
    suspect_for_long(&world, &stop).await;
    assert_eq!(world.desk.findings().unwrap(), []);
    assert_eq!(world.grade(&packet), Some(Grade::Promised));
}

#[tokio::test]
async fn a_log_that_no_quorum_has_let_begin_accuses_nobody_and_one_that_hides_does() {
    let mut world = World::new();
    let (_, receipt) = world.send();
    let mut follower = Follower::new(&world.desk);
    let stop = follower.round(&world.log).await.unwrap_err();
    assert!(matches!(stop, Stop::Log(LogError::Missing(LogFile::Checkpoint))), "{stop}");
    suspect_for_long(&world, &stop).await;
    assert_eq!(world.desk.findings().unwrap(), []);
    // Once there was one, it does not go.
    world.log.log(&receipt);
    world.log.end_epoch(world.start_ms + 5_000);
    world.log.publish(3);
    follower.round(&world.log).await.unwrap();
    world.log.files.lock().unwrap().clear();
    let stop = follower.round(&world.log).await.unwrap_err();
    suspect_for_long(&world, &stop).await;
    let (kind, is_evidence, exhibits) = world.finding();
    assert_eq!((kind.as_str(), is_evidence), ("withheld", false));
    assert!(judged(&world, &kind, &exhibits).is_err());
}

/// What a stranger with the roster says of a finding.
fn judged(world: &World, kind: &str, exhibits: &[Bytes]) -> Result<String, String> {
    let believed = lintas_config::directory::PastRosters::of(&world.region.directory()).unwrap();
    crate::core::log::judge::judge(&believed, (kind, exhibits), clock::show)
        .map_err(|error| error.to_string())
}

/// The finding convinces, and no longer with any byte of it changed. Cosignatures are looked at by nobody: the broker's
/// own signature is what convicts it.
fn convinces(world: &World) -> Vec<Bytes> {
    let (kind, is_evidence, exhibits) = world.finding();
    assert!(is_evidence && judged(world, &kind, &exhibits).is_ok(), "{kind}");
    for (at, exhibit) in exhibits.iter().enumerate() {
        let cosigned = exhibit.windows(9).position(|some| some == b"/witness/");
        // As far as the signature of the log.
        let signed_only = cosigned.map_or(exhibit.len(), |found| found - REGION.len() - 5);
        for byte in (0..signed_only).step_by(if exhibit.len() > 300 { 11 } else { 5 }) {
            let mut altered = exhibits.clone();
            let mut bytes = exhibit.to_vec();
            bytes[byte] ^= 1;
            altered[at] = bytes.into();
            assert!(judged(world, &kind, &altered).is_err(), "{kind}: byte {byte} of exhibit {at}");
        }
        let mut fewer = exhibits.clone();
        fewer.remove(at);
        assert!(judged(world, &kind, &fewer).is_err(), "{kind} without exhibit {at}");
    }
    for other in ["fork", "rollback", "other-leaf", "back-dated", "promise-not-kept", "withheld", "", "other"]
    {
        assert!(other == kind || judged(world, other, &exhibits).is_err(), "{kind} as {other}");
    }
    // Another region's authorities know no such broker.
    assert!(judged(&World::new(), &kind, &exhibits).is_err());
    exhibits
}

#[tokio::test]
async fn each_lie_convinces_a_stranger_and_no_altered_one_does() {
    // An event that is left out.
    let mut world = World::new();
    world.send();
    world.log.end_epoch(world.start_ms + 61_000);
    world.log.publish(3);
    world.round().await.unwrap();
    assert_eq!(convinces(&world).len(), 3);
    // Another event's leaf.
    let mut world = World::new();
    world.send();
    world.log.log_strange(2, world.start_ms);
    world.log.end_epoch(world.start_ms + 5_000);
    world.log.publish(3);
    world.round().await.unwrap();
    assert_eq!(convinces(&world).len(), 4);
    // One place promised twice.
    let world = World::new();
    world.send();
    world.send();
    world.desk.tell_broken_promises();
    assert_eq!(convinces(&world).len(), 2);
    // Times before and after its epoch.
    for (before, after) in [(Some(60_000), 70_000), (None, -5_000)] {
        let mut world = World::new();
        let at = |offset: i64| world.start_ms.checked_add_signed(offset).unwrap();
        let ((_, receipt), before, after) = (world.send(), before.map(at), at(after));
        before.into_iter().for_each(|time_ms| world.log.end_epoch(time_ms));
        world.log.log(&receipt);
        world.log.end_epoch(after);
        world.log.publish(3);
        world.round().await.unwrap();
        assert_eq!(convinces(&world).len(), if before.is_some() { 6 } else { 4 });
    }
}

#[tokio::test]
async fn nothing_that_an_honest_log_signs_convicts_it() {
    let mut world = World::new();
    let (mut receipts, mut places) = (Vec::new(), Vec::new());
    for epoch in 1..6u64 {
        let (_, receipt) = world.send();
        places.push((world.log.leaves.len(), epoch));
        world.log.log(&receipt);
        receipts.push(receipt);
        // The last ends long after all deadlines, as after a broker was away.
        world.log.end_epoch(clock::now_ms() + if epoch == 5 { 600_000 } else { 0 });
    }
    world.log.publish(3);
    world.round().await.unwrap();
    assert_eq!(world.desk.findings().unwrap(), []);
    let states: Vec<(Bytes, Bytes)> = (0..6).map(|epoch| world.log.state(epoch, 3)).collect();
    let size = |epoch: u64| world.log.sizes.iter().find(|(grown, _)| *grown == epoch).unwrap().1;
    let none = |kind: &str, exhibits: &[&Bytes]| {
        let exhibits: Vec<Bytes> = exhibits.iter().map(|one| (*one).clone()).collect();
        let judged = judged(&world, kind, &exhibits);
        assert!(judged.is_err(), "{kind}: {judged:?}");
    };
    for (receipt, (first, epoch)) in receipts.iter().zip(&places) {
        for (slot, root) in &states {
            none("promise-not-kept", &[receipt, slot, root]);
            for later in *epoch..6 {
                let leaf = world.log.leaf(*first, usize::try_from(size(later)).unwrap());
                none("other-leaf", &[receipt, &leaf, slot, root]);
                none("back-dated", &[receipt, &leaf, slot, root]);
                for (slot_before, root_before) in &states {
                    none("back-dated", &[receipt, &leaf, slot, root, slot_before, root_before]);
                }
            }
        }
        receipts.iter().for_each(|other| none("other-leaf", &[receipt, other]));
    }
    let entries: Vec<Bytes> =
        world.log.epochs.iter().map(|(entry, _)| Bytes::copy_from_slice(&entry.to_bytes())).collect();
    let notes: Vec<Bytes> = (1..=6).map(|n| world.log.checkpoint(&entries[..n], 3).to_bytes()).collect();
    let hashes: Vec<lintas_proto::id::Digest> =
        entries.iter().map(|entry| lintas_proto::audit::merkle::leaf_hash(entry)).collect();
    let hashes: Bytes = hashes.concat().into();
    for one in &notes {
        none("rollback", &[one]);
        none("fork", &[one]);
        for other in &notes {
            none("fork", &[one, other]);
            for until in 1..=6 {
                none("fork", &[one, other, &hashes.slice(..until * 32)]);
            }
        }
    }
}
