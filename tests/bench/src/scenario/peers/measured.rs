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
    row: &'static str,
    connections: usize,
    in_flight: usize,
    /// Streams, queues or tables.
    targets: usize,
    target: Option<f64>,
    acknowledged: &'static str,
}

const PEERS: [Peer; 3] = [
    Peer {
        protocol: Protocol::JetStream,
        name: "NATS JetStream",
        row: "jetstream",
        connections: CONNECTIONS,
        in_flight: IN_FLIGHT,
        targets: CONNECTIONS,
        target: Some(5.0),
        acknowledged: "sync_interval always, file storage, 1 replica, a stream for each connection: at its ack the \
                       message is synced. Not signed, not encrypted but by TLS, no policy for each message, no audit",
    },
    Peer {
        protocol: Protocol::RabbitMq,
        name: "RabbitMQ",
        row: "rabbitmq",
        connections: CONNECTIONS,
        in_flight: IN_FLIGHT,
        targets: CONNECTIONS,
        target: Some(1.5),
        acknowledged: "quorum queues of one member, one for each connection, publisher confirms: at the confirm the \
                       message is in the write-ahead log, synced. Not signed, not encrypted but by TLS, no policy for \
                       each message, no audit",
    },
    Peer {
        protocol: Protocol::PostgreSql,
        name: "PostgreSQL",
        row: "postgres",
        connections: 64,
        in_flight: 1,
        targets: 1,
        target: None,
        acknowledged: "a row for each commit, synchronous_commit and fsync on, no index: at the answer the row is in the \
                       write-ahead log, synced. 64 connections with one row each, because its protocol has no 64 \
                       independent commits in flight on one. Not signed, not encrypted but by TLS, no policy, no audit",
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
    for peer in &PEERS {
        of_peer(bench, folder.path(), &servers, peer, WARM_SECONDS);
    }
    let seconds = (bench.time() / ROUNDS).max(ROUND_MIN).as_secs_f64();
    let (mut ours, mut theirs) = (Rounds::default(), PEERS.map(|_| Rounds::default()));
    let mut bytes = 0;
    for round in 1..=ROUNDS {
        for (peer, rounds) in PEERS.iter().zip(&mut theirs) {
            bench.says(format!("{}, round {round}", peer.name));
            rounds.add(&of_peer(bench, folder.path(), &servers, peer, seconds));
            sleep(SETTLE);
        }
        let (told, each) = of_ours(bench, &world, seconds);
        ours.add(&told);
        bytes = each;
        sleep(SETTLE);
    }
    world.stop();
    told(&ours, &theirs, &servers, bytes)
}

fn of_peer(bench: &Bench, folder: &Path, servers: &Servers, peer: &Peer, seconds: f64) -> Told {
    let plan = peers::Plan {
        protocol: peer.protocol,
        address: servers.address(peer.protocol),
        authority: servers.authority(),
        password: servers.password().to_owned(),
        connections: peer.connections,
        in_flight: peer.in_flight,
        body_bytes: BODY_BYTES,
        targets: peer.targets,
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
    let wire = load::Wire::Lintas { broker: world.address() };
    let plan = load::Plan { wire, sources, in_flight: IN_FLIGHT, pace: None, seconds };
    (load::run(bench, world.root(), &plan), bytes)
}

fn told(ours: &Rounds, theirs: &[Rounds; 3], servers: &Servers, bytes: usize) -> Outcome {
    let (mut rows, mut beside) = (Vec::new(), Vec::new());
    let name = format!("peers.lintas.{CONNECTIONS}x{IN_FLIGHT}");
    let mut bars = vec![("Lintas".to_owned(), ours.per_second())];
    for (peer, rounds) in PEERS.iter().zip(theirs) {
        let of = format!("peers.{}.{}x{}", peer.row, peer.connections, peer.in_flight);
        let called = format!("{} {}", peer.name, servers.version(peer.protocol));
        rows.extend(rounds.rows(&of, &format!("{called}: {}", peer.acknowledged)));
        let row = Row::new(format!("{name}.{}", peer.row), ours.per_second(), "1/s")
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
