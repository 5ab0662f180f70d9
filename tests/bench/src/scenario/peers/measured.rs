//! The measurement itself. Everybody in turn, in short rounds; of each the round in the middle counts.

use std::{path::Path, thread::sleep, time::Duration};

use super::servers::Servers;
use crate::{
    bench::Bench,
    load::{self, Told},
    peers::{self, Protocol},
    report::{Bars, Outcome, Row, Target},
    scenario::submit,
    statistics::median,
    world::World,
};

const CONNECTIONS: usize = 8;
const IN_FLIGHT: usize = 64;
/// Of a message to a peer, which carries nothing else.
const BODY_BYTES: usize = 1_024;
const ROUNDS: u32 = 3;
/// A round takes so long at least.
const ROUND_MIN: Duration = Duration::from_secs(1);
/// A peer is warmed up for so long; it does not count.
const WARM_SECONDS: f64 = 1.0;
/// What one has left for later it does within this time, and not in the turn of the next.
const SETTLE: Duration = Duration::from_secs(1);
/// More than any machine of this kind accepts in a second.
const PER_SECOND_MAX: f64 = 30_000.0;

/// A peer, and what holds when it acknowledges.
struct Peer {
    protocol: Protocol,
    name: &'static str,
    /// Streams, queues or tables. If there is a choice, the one that is faster when it is warmed up.
    targets: &'static [usize],
    called: &'static str,
    row: &'static str,
    connections: usize,
    in_flight: usize,
    target: Option<f64>,
    acknowledged: &'static str,
}

const ONE_STREAM: Peer = Peer {
    protocol: Protocol::JetStream,
    name: "NATS JetStream",
    targets: &[1],
    called: "stream",
    row: "jetstream.8x64",
    connections: CONNECTIONS,
    in_flight: IN_FLIGHT,
    target: Some(5.0),
    acknowledged: "sync_interval always, file storage, 1 replica: at the ack the message is written and synced, each by \
                   itself. Not signed, encrypted only by TLS, no policy for each message, no audit",
};

const PEERS: [Peer; 4] = [
    ONE_STREAM,
    // Streams are synced beside each other, but nothing orders what is in two of them.
    Peer { targets: &[CONNECTIONS], row: "jetstream.8x64.streams", target: None, ..ONE_STREAM },
    Peer {
        protocol: Protocol::RabbitMq,
        name: "RabbitMQ",
        targets: &[1, CONNECTIONS],
        called: "queue",
        row: "rabbitmq.8x64",
        connections: CONNECTIONS,
        in_flight: IN_FLIGHT,
        target: Some(1.5),
        acknowledged: "quorum of one member, publisher confirms: at the confirm the message is in the write-ahead log, \
                       synced with others. Not signed, encrypted only by TLS, no policy for each message, no audit",
    },
    Peer {
        protocol: Protocol::PostgreSql,
        name: "PostgreSQL",
        targets: &[1, CONNECTIONS],
        called: "table",
        row: "postgres.64x1",
        connections: 64,
        in_flight: 1,
        target: None,
        acknowledged: "a row for each commit, synchronous_commit and fsync on, no index: at the answer the row is in the \
                       write-ahead log, synced with others. 64 connections with one row each, because its protocol has \
                       no 64 independent commits in flight on one. Not signed, encrypted only by TLS, no policy, no audit",
    },
];

const OURS: &str = "at the receipt the sender's signature is verified, replay excluded, both agencies' policies have \
                    decided, the decision stands in the audit log, the packet in the recipient's queue, all synced; \
                    the body is encrypted end to end";

/// What the rounds of one came to.
#[derive(Default)]
struct Rounds {
    per_second: Vec<f64>,
    p50_us: Vec<f64>,
    p99_us: Vec<f64>,
}

impl Rounds {
    fn add(&mut self, told: &Told) {
        self.per_second.push(told.per_second());
        self.p50_us.push(told.durations().p50_us());
        self.p99_us.push(told.durations().p99_us());
    }

    fn per_second(&self) -> f64 {
        median(self.per_second.clone())
    }

    fn rows(&self, name: &str, note: &str) -> Vec<Row> {
        vec![
            Row::new(name, self.per_second(), "1/s").note(note),
            Row::new(format!("{name}.latency.p50"), median(self.p50_us.clone()), "us"),
            Row::new(format!("{name}.latency.p99"), median(self.p99_us.clone()), "us"),
        ]
    }
}

pub(in crate::scenario) fn run(bench: &Bench) -> Outcome {
    let folder = bench.folder("peers-");
    bench.says("the peers are installed, if they are not, and started");
    let servers_folder = bench.folder("servers-");
    let servers = Servers::start(bench, servers_folder.path());
    let mut world = World::found(bench, folder.path(), 2 * CONNECTIONS, "");
    world.start();
    let targets = PEERS.each_ref().map(|peer| warmed(bench, folder.path(), &servers, peer));
    let seconds = (bench.time() / ROUNDS).max(ROUND_MIN).as_secs_f64();
    let (mut ours, mut theirs) = (Rounds::default(), PEERS.map(|_| Rounds::default()));
    let mut bytes = 0;
    for round in 1..=ROUNDS {
        for ((peer, targets), rounds) in PEERS.iter().zip(targets).zip(&mut theirs) {
            bench.says(format!("{}, round {round}", peer.name));
            rounds.add(&of_peer(bench, folder.path(), &servers, (peer, targets), seconds));
            sleep(SETTLE);
        }
        let (told, each) = of_ours(bench, &world, seconds);
        ours.add(&told);
        bytes = each;
        sleep(SETTLE);
    }
    world.stop();
    told(&ours, &theirs, (&servers, targets), bytes)
}

/// Into how many streams, queues or tables it goes fastest.
fn warmed(bench: &Bench, folder: &Path, servers: &Servers, peer: &Peer) -> usize {
    bench.says(format!("{} is warmed up", peer.name));
    let rate = |targets: &usize| {
        let told = of_peer(bench, folder, servers, (peer, *targets), WARM_SECONDS);
        (told.per_second(), *targets)
    };
    peer.targets.iter().map(rate).max_by(|a, b| a.0.total_cmp(&b.0)).unwrap().1
}

fn of_peer(
    bench: &Bench,
    folder: &Path,
    servers: &Servers,
    (peer, targets): (&Peer, usize),
    seconds: f64,
) -> Told {
    let plan = peers::Plan {
        protocol: peer.protocol,
        address: servers.address(peer.protocol),
        authority: servers.authority(),
        password: servers.password().to_owned(),
        connections: peer.connections,
        in_flight: peer.in_flight,
        body_bytes: BODY_BYTES,
        targets,
        seconds,
    };
    peers::run(bench, folder, &plan)
}

/// With new packets each time: a broker accepts none twice.
fn of_ours(bench: &Bench, world: &World, seconds: f64) -> (Told, usize) {
    let count = (PER_SECOND_MAX * seconds) as usize / CONNECTIONS;
    let (sources, bytes) = submit::sealed(bench, world, CONNECTIONS, count);
    sleep(SETTLE);
    bench.says("Lintas");
    let wire = load::Wire::Lintas { broker: world.address(), times: 1 };
    let plan = load::Plan { wire, sources, in_flight: IN_FLIGHT, pace: None, seconds };
    (load::run(bench, world.root(), &plan), bytes)
}

fn told(
    ours: &Rounds,
    theirs: &[Rounds; 4],
    (servers, targets): (&Servers, [usize; 4]),
    bytes: usize,
) -> Outcome {
    let (mut rows, mut beside) = (Vec::new(), Vec::new());
    let name = format!("peers.lintas.{CONNECTIONS}x{IN_FLIGHT}");
    let mut bars = vec![("Lintas".to_owned(), ours.per_second())];
    for ((peer, rounds), targets) in PEERS.iter().zip(theirs).zip(targets) {
        let version = servers.version(peer.protocol);
        let called = format!(
            "{} {version}, {targets} {}{}",
            peer.name,
            peer.called,
            if targets == 1 { "" } else { "s" }
        );
        let choice = if peer.targets.len() > 1 { " (of 1 and 8 the faster)" } else { "" };
        let note = format!("{called}{choice}; {}", peer.acknowledged);
        rows.extend(rounds.rows(&format!("peers.{}", peer.row), &note));
        let short = peer.row.replace(".8x64", "").replace(".64x1", "");
        let row = Row::new(format!("{name}.{short}"), ours.per_second(), "1/s")
            .beside(&called, rounds.per_second());
        beside.push(match peer.target {
            Some(least) => row.must_be(Target::RatioAtLeast(least)),
            None => row,
        });
        bars.push((called, rounds.per_second()));
    }
    rows.extend(ours.rows(&name, &format!("{bytes} bytes each; {OURS}")));
    rows.extend(beside);
    let title = "Durable messages of 1 KiB in a second, over TLS".to_owned();
    Outcome {
        rows,
        bars: vec![Bars { file: "peers", title, unit: "messages/s", bars }],
        ..Outcome::default()
    }
}
