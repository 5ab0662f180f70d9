//! Durable accepts in a second: signature, replay, policy, audit, queue and fdatasync before each answer. The bare
//! reference has the same packets in the same run, in turn with the broker.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::Command,
    thread,
    time::Duration,
};

use crate::bench::Folder;
use lintas_tests::region::free_address;

use super::limits::verify_per_second;
use crate::{
    bare::{Bare, Mode},
    bench::Bench,
    load::{self, Plan, Source, Told, Wire},
    packets::{self, Wanted},
    report::{Chart, Line, Outcome, Row, Target},
    statistics::{cpu_seconds, median},
    world::{World, secrets_file, unit},
};

/// Connections, each of an agency of its own; as many others receive.
pub(super) const CONNECTIONS: usize = 8;
pub(super) const IN_FLIGHT: usize = 64;
/// So that the body takes 1 KiB.
pub(super) const TEXT_BYTES: usize = 980;
/// More than any machine of this kind accepts in a second.
const PER_SECOND_MAX: usize = 30_000;
/// Rounds of each, in turn; the median counts.
const ROUNDS: usize = 3;
/// Resident memory of the broker, bytes.
const PEAK_BYTES_MAX: f64 = 64_000_000.0;
/// Connections of the chart.
const SCALING: [usize; 5] = [1, 2, 4, 8, 16];
/// Most of a region.
const SENDERS_MAX: usize = SCALING[SCALING.len() - 1];

pub(super) fn run(bench: &Bench) -> Outcome {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    bench.says("Ed25519");
    let verify = verify_per_second(cores, bench.time().min(Duration::from_secs(2)));
    let mut rows = Vec::new();
    for connections in [1, CONNECTIONS] {
        let mut pair = Pair::start(bench);
        let name = format!("submit.{connections}x{IN_FLIGHT}");
        let rounds: Vec<Round> = (0..ROUNDS).map(|_| pair.round(bench, connections)).collect();
        let rate = median_of(&rounds, |round| round.ours.per_second());
        let bare = median_of(&rounds, |round| round.bare.per_second());
        let note = format!("{} bytes each; durable, decided, in the audit log", rounds[0].bytes);
        let mut accepts = Row::new(format!("{name}.accepts"), rate, "1/s").beside("bare", bare).note(note);
        if connections == CONNECTIONS {
            accepts = accepts.must_be(Target::RatioAtLeast(0.75));
        }
        rows.push(accepts);
        rows.push(
            Row::new(format!("{name}.verified"), rate, "1/s")
                .beside(format!("limits.ring.verify.{cores}"), verify),
        );
        rows.extend(latencies(&name, &rounds));
        rows.extend(costs(&name, &rounds, connections == CONNECTIONS));
        let peak = pair.put_away(&name);
        rows.push(if connections == CONNECTIONS {
            peak.must_be(Target::AtMost(PEAK_BYTES_MAX))
        } else {
            peak
        });
    }
    Outcome { rows, charts: vec![scaling(bench)], ..Outcome::default() }
}

fn latencies(name: &str, rounds: &[Round]) -> Vec<Row> {
    let row = |what, part| {
        let ours = median_of(rounds, |round| round.ours.durations().percentile_us(part));
        let bare = median_of(rounds, |round| round.bare.durations().percentile_us(part));
        Row::new(format!("{name}.latency.{what}"), ours, "us").beside("bare", bare)
    };
    vec![row("p50", 0.5), row("p99", 0.99)]
}

fn costs(name: &str, rounds: &[Round], is_saturated: bool) -> Vec<Row> {
    let each = |seconds: f64, told: &Told| seconds * 1_000_000.0 / told.latencies.len() as f64;
    let ours = median_of(rounds, |round| each(round.ours_cpu, &round.ours));
    let bare = median_of(rounds, |round| each(round.bare_cpu, &round.bare));
    let cpu = Row::new(format!("{name}.cpu"), ours, "us").beside("bare", bare);
    let note = "processors that the load generator was busy on beside the broker; it sends on one thread";
    let generator =
        Row::new(format!("{name}.generator.cpu"), median_of(rounds, |round| round.ours.cpu()), "cores")
            .beside("beside the bare", median_of(rounds, |round| round.bare.cpu()))
            .note(note);
    let groups = Row::new(
        format!("{name}.acks.per.fdatasync"),
        median_of(rounds, |round| round.ours.latencies.len() as f64 / round.groups),
        "packets",
    );
    let groups = if is_saturated { groups.must_be(Target::AtLeast(50.0)) } else { groups };
    vec![cpu.note("processor time of the process, user and system, of one packet"), generator, groups]
}

/// Accepts over connections.
fn scaling(bench: &Bench) -> Chart {
    let mut pair = Pair::start(bench);
    let rounds: Vec<_> =
        SCALING.iter().map(|connections| (*connections as f64, pair.round(bench, *connections))).collect();
    pair.world.stop();
    let line = |name: &str, rate: fn(&Round) -> f64| Line {
        name: name.to_owned(),
        points: rounds.iter().map(|(connections, round)| (*connections, rate(round))).collect(),
    };
    Chart {
        file: "scaling",
        title: format!("Durable accepts, {IN_FLIGHT} in flight on each connection"),
        x: ("connections", true),
        y: ("accepts/s", false),
        lines: vec![
            line("Lintas", |round| round.ours.per_second()),
            line("bare reference", |round| round.bare.per_second()),
        ],
    }
}

fn median_of(rounds: &[Round], what: impl Fn(&Round) -> f64) -> f64 {
    median(rounds.iter().map(what).collect())
}

/// A broker and the bare reference, in turn: the one that is not measured is stopped.
pub(super) struct Pair {
    pub(super) world: World,
    bare: Bare,
    metrics: SocketAddr,
    folder: Folder,
}

/// One round of each, with the same packets.
pub(super) struct Round {
    pub(super) ours: Told,
    pub(super) bare: Told,
    /// Processor time of each meanwhile, seconds.
    ours_cpu: f64,
    bare_cpu: f64,
    /// Groups that our journal made durable meanwhile.
    groups: f64,
    /// Of one packet.
    bytes: usize,
}

impl Pair {
    pub(super) fn start(bench: &Bench) -> Self {
        let (folder, metrics) = (bench.folder("pair-"), free_address());
        let region = folder.path().join("region");
        let settings = format!("metrics = \"{metrics}\"\n");
        let mut world = World::found(bench, &region, 2 * SENDERS_MAX, &settings);
        world.start();
        let bare = Bare::start(bench, folder.path(), Mode::Store);
        Self { world, bare, metrics, folder }
    }

    /// As fast as it goes.
    fn round(&mut self, bench: &Bench, connections: usize) -> Round {
        let seconds = bench.time().as_secs_f64() / ROUNDS as f64;
        let count = (PER_SECOND_MAX as f64 * seconds) as usize;
        // One connection cannot keep every processor busy.
        let count = if connections == 1 { count / 2 } else { count };
        let plan = (IN_FLIGHT, None, seconds);
        self.round_of(bench, connections, count, plan)
    }

    /// `count` packets at most; most unanswered of each connection, pace, seconds.
    pub(super) fn round_of(
        &mut self,
        bench: &Bench,
        connections: usize,
        count: usize,
        (in_flight, pace, seconds): (usize, Option<f64>, f64),
    ) -> Round {
        let (sources, bytes) = sealed(bench, &self.world, connections, count / connections);
        let plan = |wire| Plan { wire, sources: sources.clone(), in_flight, pace, seconds };
        let (broker, bare) = (self.world.broker().id().to_string(), self.bare.process.id().to_string());
        rest(&broker);
        bench.says(format!("{connections} connections, the broker"));
        let (cpu, groups) = (cpu_seconds(&broker), self.groups());
        let ours = load::run(
            bench,
            self.folder.path(),
            &plan(Wire::Lintas { broker: self.world.address(), times: 1 }),
        );
        let (ours_cpu, groups) = (cpu_seconds(&broker) - cpu, self.groups() - groups);
        // What the broker has to do afterwards is its own, not the reference's.
        signal("STOP", &broker);
        bench.says(format!("{connections} connections, the bare reference"));
        let cpu = cpu_seconds(&bare);
        let wire = Wire::Bare { server: self.bare.address, times: 1 };
        let told = load::run(bench, self.folder.path(), &plan(wire));
        let bare_cpu = cpu_seconds(&bare) - cpu;
        signal("CONT", &broker);
        Round { ours, bare: told, ours_cpu, bare_cpu, groups, bytes }
    }

    /// Groups that are durable, since the broker started.
    fn groups(&self) -> f64 {
        let page = get(self.metrics);
        let name = "lintas_broker_group_records_count ";
        page.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse().unwrap()
    }

    /// What they have held at most.
    fn put_away(mut self, name: &str) -> Row {
        let peak = |process: &lintas_tests::process::Process| process.peak_kib() as f64 * 1_024.0;
        let row = Row::new(format!("{name}.peak"), peak(self.world.broker()), "bytes")
            .beside("bare", peak(&self.bare.process))
            .note("most resident memory, after all rounds; nobody drains the queues");
        self.world.stop();
        row
    }
}

/// Waits until a process has nothing to do: it must not begin a round with what an earlier one left.
pub(super) fn rest(process: &str) {
    for _ in 0..60 {
        let before = cpu_seconds(process);
        thread::sleep(Duration::from_millis(250));
        if cpu_seconds(process) - before < 0.02 {
            return;
        }
    }
}

fn signal(name: &str, process: &str) {
    assert!(Command::new("kill").arg(format!("-{name}")).arg(process).status().unwrap().success());
}

/// The page of metrics.
fn get(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    page
}

/// Packets from each of the first agencies to one of the others; bytes of one.
pub(super) fn sealed(bench: &Bench, world: &World, connections: usize, count: usize) -> (Vec<Source>, usize) {
    let mut bytes = 0;
    let sources = (0..connections)
        .map(|from| {
            let packets = world.root().join(format!("{from}.packets"));
            let wanted = Wanted { from, to: &[from + connections], count, text_bytes: TEXT_BYTES };
            bytes = packets::seal_into(bench, world, &packets, wanted);
            Source { secrets: secrets_file(world.root(), &unit(from).agency), packets }
        })
        .collect();
    (sources, bytes)
}
