//! Witnesses that cosign, that lie, that sleep.

use lintas_proto::{
    audit::{
        merkle::verify_consistency,
        note::{SignedCheckpoint, WitnessKey},
        tile::entries,
    },
    id::sha256,
    schema::{WitnessAnswer, WitnessRequest},
};

use super::{
    super::{metrics::page, operator::ill},
    standing::{head, knowing, published, watched},
    *,
};

/// A node that says what it is told to.
struct Witness {
    node: Node,
    agency: &'static str,
    /// What it cosigned last.
    known: (u64, [u8; 32]),
}

impl Witness {
    async fn connect(world: &World, broker: &Broker, agency: &'static str) -> Self {
        let node = Node::connect(world, broker, agency).await;
        Self { node, agency, known: (0, sha256(&[])) }
    }

    /// The next request, and its checkpoint.
    async fn asked(&mut self) -> (WitnessRequest, SignedCheckpoint) {
        let request: WitnessRequest =
            decode(FrameType::WitnessRequest, &self.node.next(FrameType::WitnessRequest).await).unwrap();
        let checkpoint = SignedCheckpoint::parse(&request.checkpoint).unwrap();
        (request, checkpoint)
    }

    async fn say(&mut self, reason: Reason, size: u64, cosignature: &[u8]) {
        let (reason, cosignature) = (reason as i32, Bytes::copy_from_slice(cosignature));
        let answer = WitnessAnswer { reason, size, cosignature };
        self.node.writer.send_message(FrameType::WitnessAnswer, &answer).await.unwrap();
    }

    /// As an honest node: checks, keeps, cosigns.
    async fn cosign(&mut self, world: &World) -> u64 {
        loop {
            let (request, checkpoint) = self.asked().await;
            let log_key = &world.directory.brokers()[0].log_key;
            let claim = checkpoint.verify("hub.mekong/audit", log_key).unwrap().clone();
            if request.old_size != self.known.0 {
                let known = self.known.0;
                self.say(Reason::Replay, known, &[]).await;
                continue;
            }
            let proof: Vec<[u8; 32]> =
                request.proof.iter().map(|hash| hash.as_ref().try_into().unwrap()).collect();
            verify_consistency((self.known.0, &self.known.1), (claim.size, &claim.root), &proof).unwrap();
            self.known = (claim.size, claim.root);
            let cosignature = checkpoint.cosign(&world.witness_key(self.agency), clock::shown_ms() / 1_000);
            self.say(Reason::Accepted, claim.size, &cosignature.unwrap()).await;
            return claim.size;
        }
    }

    /// Cosigns until it is stopped.
    fn run(mut self, world: &Arc<World>) -> JoinHandle<()> {
        let world = Arc::clone(world);
        tokio::spawn(async move {
            loop {
                self.cosign(&world).await;
            }
        })
    }
}

fn keys(world: &World) -> Vec<WitnessKey> {
    world.directory.witnesses()
}

/// What stands in `checkpoint`, if it is so.
async fn checkpoint(folder: &Path, is_so: impl Fn(&SignedCheckpoint) -> bool) -> SignedCheckpoint {
    for _ in 0..1_500 {
        if let Ok(bytes) = std::fs::read(folder.join("audit/1/checkpoint")) {
            let note = SignedCheckpoint::parse(&bytes).unwrap();
            if is_so(&note) {
                return note;
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("checkpoint is {:?}", std::fs::read_to_string(folder.join("audit/1/checkpoint")));
}

/// The checkpoints that a quorum had cosigned.
fn cosigned(folder: &Path) -> Vec<SignedCheckpoint> {
    let bytes = std::fs::read(folder.join("audit/1/cosigned/000")).unwrap_or_default();
    entries(&bytes).map(|entry| SignedCheckpoint::parse(entry.unwrap()).unwrap()).collect()
}

/// Waits until so many are kept.
async fn have_cosigned(folder: &Path, count: usize) {
    for _ in 0..1_500 {
        if cosigned(folder).len() >= count {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("{} are kept", cosigned(folder).len());
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_are_cosigned_by_a_quorum_and_by_no_fewer() {
    // A quorum of four is three.
    let (mut world, folder) = watched(&["KH", "TH", "VN"]);
    world.join("ZZ");
    world.make_witness("ZZ");
    world.publish();
    world.write(folder.path());
    let world = Arc::new(world);
    let broker = Broker::start(folder.path()).await;
    let (kh, th) =
        (Witness::connect(&world, &broker, "KH").await, Witness::connect(&world, &broker, "TH").await);
    let vn = Witness::connect(&world, &broker, "VN").await;
    let running = [kh.run(&world), th.run(&world)];
    let two = checkpoint(folder.path(), |note| note.cosignatures(&keys(&world)).len() == 2).await;
    assert_eq!((two.witnessed_at(&keys(&world)), cosigned(folder.path()).len()), (None, 0));
    // After a minute the operator is told; packets go on.
    assert_eq!(ill(&broker.shared, clock::shown_ms()), None);
    broker.shared.metrics.round(clock::shown_ms() + 100_000);
    assert!(ill(&broker.shared, clock::shown_ms() + 100_000).unwrap().contains("no quorum of witnesses"));
    assert!(page(&broker.shared).contains("\nlintas_broker_log_witnessed_seconds "));
    let vn = vn.run(&world);
    let three = checkpoint(folder.path(), |note| note.witnessed_at(&keys(&world)).is_some()).await;
    assert!(three.claim().size >= two.claim().size);
    // The first is kept, and another one only after a while.
    have_cosigned(folder.path(), 1).await;
    checkpoint(folder.path(), |note| {
        note.claim().size > three.claim().size + 2 && note.witnessed_at(&keys(&world)).is_some()
    })
    .await;
    let kept = cosigned(folder.path());
    assert_eq!(kept.len(), 1);
    assert!(kept[0].witnessed_at(&keys(&world)).is_some());
    // After a restart the next one follows, behind the first.
    running.iter().chain([&vn]).for_each(JoinHandle::abort);
    broker.stop().await.unwrap();
    let broker = Broker::start(folder.path()).await;
    // What is kept is given from the start, also while too few witnesses are here for anything to be signed.
    let reader = Node::connect(&world, &broker, "KH").await;
    let given = super::given::file(&reader.connection, "hub.mekong/audit", "cosigned/000").await.ok();
    assert_eq!(given, std::fs::read(folder.path().join("audit/1/cosigned/000")).ok());
    drop(reader);
    let mut running = Vec::new();
    for agency in ["KH", "TH", "VN", "ZZ"] {
        // They have forgotten what they knew; the broker asks from the beginning.
        running.push(Witness::connect(&world, &broker, agency).await.run(&world));
    }
    have_cosigned(folder.path(), 2).await;
    let kept = cosigned(folder.path());
    assert!(kept.len() == 2 && kept[1].claim().size > kept[0].claim().size, "{kept:?}");
    // The file is given as far as it is durable: what was written just now soon is.
    let vn = Node::connect(&world, &broker, "KH").await;
    let written = std::fs::read(folder.path().join("audit/1/cosigned/000")).unwrap();
    let mut given = Vec::new();
    for _ in 0..1_500 {
        given = super::given::file(&vn.connection, "hub.mekong/audit", "cosigned/000").await.unwrap();
        assert!(written.starts_with(&given) || given.starts_with(&written));
        if given.len() >= written.len() {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    assert!(given.starts_with(&written));
    running.iter().for_each(JoinHandle::abort);
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_that_lies_is_not_counted_and_one_that_sleeps_holds_up_nobody() {
    let (mut world, folder) = watched(&["KH", "TH", "VN"]);
    for agency in ["YY", "ZZ"] {
        world.join(agency);
        world.make_witness(agency);
    }
    world.publish();
    world.write(folder.path());
    let world = Arc::new(world);
    let broker = Broker::start(folder.path()).await;
    // A quorum of five is four: with the liar there would be one, with the sleeper too.
    let running: Vec<JoinHandle<()>> = [
        Witness::connect(&world, &broker, "KH").await.run(&world),
        Witness::connect(&world, &broker, "TH").await.run(&world),
        Witness::connect(&world, &broker, "VN").await.run(&world),
    ]
    .into();
    let mut asleep = Witness::connect(&world, &broker, "YY").await;
    let mut liar = Witness::connect(&world, &broker, "ZZ").await;
    asleep.asked().await;
    let now_s = || clock::shown_ms() / 1_000;
    for lie in 0..5 {
        let (_, note) = liar.asked().await;
        let size = note.claim().size;
        let (own, others) = (world.witness_key("ZZ"), world.witness_key("KH"));
        match lie {
            // By another's key; another text; a false time; a false size; sizes that cannot be.
            0 => liar.say(Reason::Accepted, size, &note.cosign(&others, now_s()).unwrap()).await,
            1 => {
                let mut wrong = note.cosign(&own, now_s()).unwrap();
                wrong[30] ^= 1;
                liar.say(Reason::Accepted, size, &wrong).await;
            }
            2 => liar.say(Reason::Accepted, size, &note.cosign(&own, 1).unwrap()).await,
            3 => liar.say(Reason::Accepted, size + 1, &note.cosign(&own, now_s()).unwrap()).await,
            _ => liar.say(Reason::Replay, u64::MAX, &[]).await,
        }
    }
    liar.asked().await;
    let note = checkpoint(folder.path(), |note| note.cosignatures(&keys(&world)).len() == 3).await;
    assert_eq!((note.witnessed_at(&keys(&world)), cosigned(folder.path()).len()), (None, 0));
    assert_eq!(broker.shared.metrics.witness_lies.get(), 5);
    // Nobody who sleeps is asked twice, and packets go on.
    asleep.node.receipt(&world.packet("YY", &[crate::testing::unit("KH", "A")])).await;
    assert!(!asleep.node.passed.iter().any(|(kind, _)| *kind == FrameType::WitnessRequest));
    // The truth, at last.
    let honest = liar.run_from(&world).await;
    checkpoint(folder.path(), |note| note.witnessed_at(&keys(&world)).is_some()).await;
    // An answer to nothing ends the session.
    let mut rude = Witness::connect(&world, &broker, "YY").await;
    rude.asked().await;
    rude.say(Reason::Policy, 0, &[]).await;
    rude.say(Reason::Policy, 0, &[]).await;
    rude.say(Reason::Policy, 0, &[]).await;
    let ended = soon(rude.node.connection.closed()).await;
    assert!(matches!(ended, LinkError::Closed { .. }), "{ended:?}");
    running.iter().chain([&honest]).for_each(JoinHandle::abort);
    broker.stop().await.unwrap();
}

impl Witness {
    /// Answers what it was asked last as it should, and goes on so.
    async fn run_from(mut self, world: &Arc<World>) -> JoinHandle<()> {
        let known = self.known.0;
        self.say(Reason::Replay, known, &[]).await;
        self.run(world)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_roster_says_who_counts_from_its_change_on() {
    let (mut world, folder) = watched(&["KH", "TH"]);
    let broker = Broker::start(folder.path()).await;
    let (mut kh, mut th) =
        (Witness::connect(&world, &broker, "KH").await, Witness::connect(&world, &broker, "TH").await);
    let (_, of_th) = th.asked().await;
    // One of two is no quorum; of one it is.
    while kh.cosign(&world).await < of_th.claim().size {}
    assert!(cosigned(folder.path()).is_empty());
    world.member("TH").witness_key = Bytes::new();
    world.publish_next();
    place(&folder.path().join("directory.bin"), world.directory.bytes());
    th.node.told(&world).await;
    for _ in 0..100 {
        if !cosigned(folder.path()).is_empty() {
            break;
        }
        let _ = timeout(Duration::from_millis(200), kh.cosign(&world)).await;
    }
    assert_eq!(cosigned(folder.path()).len(), 1);
    // Who is a witness no more is heard no more.
    let key = world.witness_key("TH");
    th.say(Reason::Accepted, of_th.claim().size, &of_th.cosign(&key, clock::shown_ms() / 1_000).unwrap())
        .await;
    // Nobody at all: what is signed is put out at once.
    world.member("KH").witness_key = Bytes::new();
    world.publish_next();
    place(&folder.path().join("directory.bin"), world.directory.bytes());
    kh.node.told(&world).await;
    let size = head(&broker, 1).await.claim().size;
    checkpoint(folder.path(), |note| note.claim().size > size + 3).await;
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_hello_shows_is_where_the_proof_begins() {
    let (world, folder) = watched(&["KH"]);
    let broker = Broker::start(folder.path()).await;
    let mut kh = Witness::connect(&world, &broker, "KH").await;
    kh.cosign(&world).await;
    published(&broker, 5).await;
    let known = head(&broker, 5).await;
    drop(kh);
    let hello = knowing("KH", &known);
    let node = connect_as(&world, broker.address, &world.transport("KH"), &hello).await.unwrap();
    let mut kh = Witness { node, agency: "KH", known: (known.claim().size, known.claim().root) };
    let (request, _) = kh.asked().await;
    assert_eq!(request.old_size, known.claim().size);
    broker.stop().await.unwrap();
}
