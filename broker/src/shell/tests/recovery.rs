use lintas_journal::{FileDisk, Fold, FoldError, Journal, Limits, OpenReport, Record};
use lintas_link::{CloseCode, LinkError};
use lintas_proto::schema::Reason;
use tokio::sync::{Semaphore, mpsc};

use super::*;
use crate::{
    core::queue::Queue,
    shell::{
        answer::{Answer, AnswerTo},
        index,
        intake::{End, Intake, Submitted},
        start::{Engine, Voice},
    },
    testing::unit,
};

/// Looks at a journal and keeps nothing.
struct Glance;

impl Fold for Glance {
    fn restore(&mut self, _: &[u8]) -> Result<(), FoldError> {
        Ok(())
    }

    fn replay(&mut self, _: &Record) -> Result<(), FoldError> {
        Ok(())
    }
}

/// What an opening finds, on a copy: opening changes the journal.
fn glance(folder: &Path) -> OpenReport {
    let copy = TempFolder::new();
    for file in std::fs::read_dir(folder.join("journal")).unwrap() {
        let path = file.unwrap().path();
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    let limits = Limits { segment_bytes: 16 << 20, ..Limits::default() };
    Journal::open(FileDisk::open(copy.path()).unwrap(), limits, None, &mut Glance).unwrap().1
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_answers_what_was_taken_and_closes_cleanly() {
    let (world, folder) = quiet_scene();
    let broker = Broker::start(folder.path()).await;
    let mut th = Node::connect(&world, &broker, "TH").await;
    let sealed: Vec<Sealed> = (0..40).map(|_| world.packet("TH", &[unit("KH", "A")])).collect();
    for packet in &sealed {
        th.submit(packet).await;
    }
    let stopping = tokio::spawn(broker.stop());
    let mut receipts = Vec::new();
    while let Ok(Some((kind, payload))) = soon(th.reader.next()).await {
        assert_eq!(kind, FrameType::Receipt);
        receipts.push(payload);
    }
    let closed = soon(th.connection.closed()).await;
    assert!(matches!(closed, LinkError::Closed { code: CloseCode::ShuttingDown, .. }), "{closed:?}");
    stopping.await.unwrap().unwrap();
    let report = glance(folder.path());
    assert!(report.clean_close);
    assert_eq!(
        report.next_sequence,
        3 + 2 * receipts.len() as u64,
        "members, policies, and nothing unanswered"
    );
    let anchor = index::open(&folder.path().join("index")).unwrap().1.unwrap();
    assert_eq!(anchor.sequence, report.next_sequence - 1);

    let broker = Broker::start(folder.path()).await;
    let mut th = Node::connect(&world, &broker, "TH").await;
    for (at, packet) in sealed.iter().enumerate() {
        let receipt = th.receipt(packet).await;
        assert!(receipts.get(at).is_none_or(|before| *before == receipt), "{at}");
    }
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loses_nothing_that_was_answered() {
    let (world, folder) = scene();
    let mut broker = Broker::start(folder.path()).await;
    let to = unit("KH", "A");
    let (mut sealed, mut receipts) = (Vec::new(), Vec::new());
    for round in 0..3u64 {
        let mut th = Node::connect(&world, &broker, "TH").await;
        for _ in 0..5 {
            let packet = world.packet("TH", std::slice::from_ref(&to));
            receipts.push(th.receipt(&packet).await);
            sealed.push(packet);
        }
        // One is acknowledged and its evidence seen, so that its end is durable.
        let mut kh = Node::connect(&world, &broker, "KH").await;
        assert_eq!(kh.delivery().await.queue_sequence, round + 1);
        kh.acknowledge(&world, &sealed[usize::try_from(round).unwrap()], &to, round + 1).await;
        while th.evidence().await.queue_sequence != round + 1 {}
        th.submit(&world.packet("TH", std::slice::from_ref(&to))).await;
        broker.drop_dead().await;
        assert!(!glance(folder.path()).clean_close);
        broker = Broker::start(folder.path()).await;
    }
    let mut th = Node::connect(&world, &broker, "TH").await;
    for (packet, receipt) in sealed.iter().zip(&receipts) {
        assert_eq!(th.receipt(packet).await, receipt);
    }
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_and_queues_outlive_compaction() {
    let (mut world, folder) = scene();
    world.title_bytes = 20_000;
    let mut broker = Broker::start(folder.path()).await;
    let mut th = Node::connect(&world, &broker, "TH").await;
    let mut kh = Node::connect(&world, &broker, "KH").await;
    let to = [unit("KH", "A"), unit("VN", "A")];
    let keep = world.packet("TH", &to);
    let mut receipts = vec![th.receipt(&keep).await];
    let mut sealed = vec![keep];
    kh.delivery().await;
    for number in 2..8 {
        let packet = world.packet("TH", &to[..1]);
        receipts.push(th.receipt(&packet).await);
        kh.delivery().await;
        kh.acknowledge(&world, &packet, &to[0], number).await;
        let evidence = th.evidence().await.queue_sequence;
        th.take(evidence).await;
        sealed.push(packet);
    }
    sleep(Duration::from_millis(200)).await;
    for (packet, receipt) in sealed.iter().zip(&receipts) {
        assert_eq!(th.receipt(packet).await, receipt, "after compaction");
    }
    broker.drop_dead().await;
    assert!(glance(folder.path()).snapshot_covers.is_some(), "compacted");
    broker = Broker::start(folder.path()).await;
    let mut th = Node::connect(&world, &broker, "TH").await;
    for (packet, receipt) in sealed.iter().zip(&receipts) {
        assert_eq!(th.receipt(packet).await, receipt, "after compaction and a crash");
    }
    for agency in ["KH", "VN"] {
        let mut node = Node::connect(&world, &broker, agency).await;
        assert_eq!(node.delivery().await.body, sealed[0].submission.body);
        node.silence().await;
    }
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_index_may_be_lost_but_not_be_ahead_of_the_journal() {
    let (world, folder) = quiet_scene();
    let broker = Broker::start(folder.path()).await;
    let sealed = world.packet("TH", &[unit("KH", "A")]);
    let receipt = Node::connect(&world, &broker, "TH").await.receipt(&sealed).await;
    broker.stop().await.unwrap();
    let path = folder.path().join("index");
    std::fs::remove_dir_all(&path).unwrap();
    let broker = Broker::start(folder.path()).await;
    assert_eq!(Node::connect(&world, &broker, "TH").await.receipt(&sealed).await, receipt);
    broker.stop().await.unwrap();

    let (db, anchor) = index::open(&path).unwrap();
    assert_eq!(anchor.unwrap().sequence, 4, "built anew");
    index::Index::start(db).unwrap().finish(lintas_journal::Anchor { sequence: 5 });
    let at = Folder::at(folder.path());
    let refused = run(&at, std::future::pending(), |_| panic!("listens")).await.unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("journal") && text.contains('5'), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_brokers_do_not_share_a_folder() {
    let (_, folder) = scene();
    let broker = Broker::start(folder.path()).await;
    let at = Folder::at(folder.path());
    let refused = run(&at, std::future::pending(), |_| panic!("listens")).await.unwrap_err();
    assert!(refused.to_string().contains("in use by another broker"), "{refused}");
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_read_again_ends_the_process() {
    use std::{fs::OpenOptions, os::unix::fs::FileExt as _};
    let (mut world, folder) = scene();
    world.title_bytes = 20_000;
    let broker = Broker::start(folder.path()).await;
    let sealed = world.packet("TH", &[unit("KH", "A")]);
    let mut th = Node::connect(&world, &broker, "TH").await;
    th.receipt(&sealed).await;
    // What was committed just now is in memory as well; others push it out.
    world.title_bytes = 900_000;
    for _ in 0..3 {
        th.receipt(&world.packet("TH", &[unit("VN", "A")])).await;
    }
    let needle = &sealed.submission.body[..64];
    let mut spoiled = 0;
    for file in std::fs::read_dir(folder.path().join("journal")).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(needle.len()).position(|window| window == needle) {
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
            spoiled += 1;
        }
    }
    assert_eq!(spoiled, 1);
    // The broker may be gone before the greeting is over.
    let kh = connect_as(&world, broker.address, &world.transport("KH"), &hello("KH")).await;
    let ended = soon(broker.task).await.unwrap();
    assert!(matches!(ended, Err(RunError::Failed)), "{ended:?}");
    if let Ok(mut kh) = kh {
        let frame = soon(kh.reader.next()).await;
        assert!(matches!(frame, Ok(None) | Err(_)), "nothing false is handed over: {frame:?}");
    }
    drop(th);
}

/// Drives the sequencer without a network, on a journal that may not grow.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_packets_and_still_drains() {
    let (mut world, folder) = scene();
    world.title_bytes = 900_000;
    let at = Folder::at(folder.path());
    let small = Limits { segments_max: 5, ..Limits::default() };
    let open = |path: &Path| Folder::at(path).directory().unwrap();
    let speaks = Voice::of(&world.broker).unwrap();
    let settings = at.settings().unwrap();
    let (engine, intake) = Engine::start(&at, &settings, small, open(folder.path()), speaks).unwrap();
    let places = Arc::new(Semaphore::new(4));
    let (sender, mut answers) = mpsc::channel::<Answer>(4);
    let to = unit("KH", "A");
    let mut admitted = Vec::new();
    let submit = async |world: &World, sealed: &Sealed| {
        let place = Arc::clone(&places).acquire_owned().await.unwrap();
        let share = Arc::clone(&engine.shared.intake_bytes).acquire_owned().await.unwrap();
        let (answer, verified) = (AnswerTo { sender: sender.clone(), place }, world.admit(sealed).unwrap());
        let submitted = Submitted { verified, answer, share };
        intake.send(Intake::Submit(Box::new(submitted))).await.unwrap();
    };
    // Ever shorter ones, until nothing fits.
    for title_bytes in [900_000, 100_000, 10_000, 10] {
        world.title_bytes = title_bytes;
        loop {
            let sealed = world.packet("TH", std::slice::from_ref(&to));
            submit(&world, &sealed).await;
            let answer = soon(answers.recv()).await.unwrap();
            if answer.kind == FrameType::Refusal {
                let refusal: Refusal = canonical::decode(&answer.payload, 8_192).unwrap();
                assert_eq!((refusal.reason, refusal.retry), (Reason::DiskFull as i32, true));
                break;
            }
            admitted.push(sealed);
            assert!(admitted.len() < 200, "never full");
        }
    }
    assert!(admitted.len() > 5);
    // What is refused for good must stand in the log; without room there it is refused for now.
    for round in 0.. {
        let denied = world.packet_with("TH", std::slice::from_ref(&to), |core| {
            core.label.caveats.push(lintas_proto::schema::Caveat::Noforn as i32);
        });
        submit(&world, &denied).await;
        let answer = soon(answers.recv()).await.unwrap();
        let refusal: Refusal = canonical::decode(&answer.payload, 8_192).unwrap();
        if refusal.reason == Reason::DiskFull as i32 {
            assert!(refusal.retry);
            break;
        }
        assert!(refusal.reason == Reason::Policy as i32 && round < 50, "never full: {}", refusal.text);
    }
    let waiting = || engine.shared.ledger().queue("KH").map_or(0, Queue::len);
    assert_eq!(waiting(), admitted.len(), "nothing of the refused one");
    for (queue_sequence, sealed) in (1..).zip(&admitted) {
        let how = world.acknowledgement(sealed, &to);
        let end = End { agency: "KH".to_owned(), queue_sequence, how };
        intake.send(Intake::End(end)).await.unwrap();
    }
    soon(async {
        while waiting() > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    // Now there is room again: what ended was compacted away.
    world.title_bytes = 900_000;
    let sealed = world.packet("TH", std::slice::from_ref(&to));
    submit(&world, &sealed).await;
    assert_eq!(soon(answers.recv()).await.unwrap().kind, FrameType::Receipt);
    drop(intake);
    soon(engine.stop()).await.unwrap();
}

/// Packets that fill more than two segments, one after another.
async fn fill(world: &mut World, engine: &Engine, intake: &mpsc::Sender<Intake>) {
    world.title_bytes = 900_000;
    let (sender, mut answers) = mpsc::channel::<Answer>(4);
    let places = Arc::new(Semaphore::new(4));
    for _ in 0..40 {
        let sealed = world.packet("TH", &[unit("KH", "A")]);
        let place = Arc::clone(&places).acquire_owned().await.unwrap();
        let share = Arc::clone(&engine.shared.intake_bytes).acquire_owned().await.unwrap();
        let (answer, verified) = (AnswerTo { sender: sender.clone(), place }, world.admit(&sealed).unwrap());
        let submitted = Submitted { verified, answer, share };
        intake.send(Intake::Submit(Box::new(submitted))).await.unwrap();
        assert_eq!(soon(answers.recv()).await.unwrap().kind, FrameType::Receipt);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_further_back_stops_a_broker_soon_and_its_next_start_before_anybody_is_let_in() {
    use std::os::unix::fs::FileExt as _;
    let (mut world, folder) = scene();
    let at = Folder::at(folder.path());
    let settings = at.settings().unwrap();
    let start = |world: &World| {
        let directory = Folder::at(folder.path()).directory().unwrap();
        Engine::start(&at, &settings, Limits::default(), directory, Voice::of(&world.broker).unwrap())
    };
    let (engine, intake) = start(&world).unwrap();
    fill(&mut world, &engine, &intake).await;
    drop(intake);
    soon(engine.stop()).await.unwrap();

    // In the middle of a packet in the first segment.
    let spoilt = folder.path().join("journal/segment-000001.journal");
    let file = std::fs::OpenOptions::new().read(true).write(true).open(spoilt).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 5_000_000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 5_000_000).unwrap();

    let (engine, intake) = start(&world).unwrap();
    let mut failed = engine.shared.failed.subscribe();
    soon(failed.wait_for(|failed| *failed)).await.unwrap();
    let found = soon(engine.stop()).await.unwrap_err();
    assert!(matches!(found, RunError::Damaged(_)), "{found:?}");
    assert!(found.to_string().contains("segment 1 (file 1) is damaged"), "{found}");
    drop(intake);
    assert!(at.journal_was_damaged());
    for _ in 0..2 {
        let refused = start(&world).err().unwrap();
        assert!(matches!(refused, RunError::Open(_)), "{refused:?}");
    }

    file.write_all_at(&byte, 5_000_000).unwrap();
    let (engine, intake) = start(&world).unwrap();
    assert!(!at.journal_was_damaged());
    drop(intake);
    soon(engine.stop()).await.unwrap();
}
