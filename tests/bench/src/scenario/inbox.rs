//! From the sender to the recipient's inbox, durable there: a load generator, the broker, and a real node.

use std::{collections::HashMap, path::Path};

use lintas_proto::{
    canonical,
    envelope::core::Core,
    limits,
    schema::{Header, Submission},
};

use super::submit::{IN_FLIGHT, TEXT_BYTES};
use crate::{
    bench::Bench,
    load::{self, Plan, Source, Told, Wire},
    node::Node,
    packets::{self, Wanted},
    report::{Outcome, Row, Target},
    statistics::Durations,
    world::{World, secrets_file, unit},
};

/// Packets in a second where latency is measured.
const PACE: f64 = 1_000.0;
/// Unanswered at most where latency is measured: never so many unless something stands still.
const PACED_IN_FLIGHT: usize = 256;
/// Agencies that send as fast as it goes.
const SENDERS: usize = 8;
/// More than any machine of this kind accepts in a second.
const PER_SECOND_MAX: usize = 25_000;
/// Longest time for which it goes as fast as it can, seconds: everything is sealed beforehand.
const SATURATED_SECONDS_MAX: u64 = 4;
/// Of the accept latency.
const RATIO_MAX: f64 = 2.0;
/// Most memory of the broker under load.
const PEAK_BYTES_MAX: f64 = 64e6;

pub(super) fn run(bench: &Bench) -> Outcome {
    let folder = bench.folder("inbox-");
    let (mut world, mut node) = World::found_with_node(bench, folder.path(), SENDERS, "");
    let paced = Run { pace: Some(PACE), in_flight: PACED_IN_FLIGHT, seconds: bench.seconds };
    let saturated =
        Run { pace: None, in_flight: IN_FLIGHT, seconds: bench.seconds.min(SATURATED_SECONDS_MAX) };
    let one = sources(bench, &world, "paced", 1, PACE as usize * bench.seconds as usize);
    let each = PER_SECOND_MAX * saturated.seconds as usize / SENDERS;
    let all = sources(bench, &world, "saturated", SENDERS, each);
    world.start();
    node.start();
    bench.says("1,000 in a second");
    let told = paced.run(bench, &world, folder.path(), &one);
    assert!(node.has_kept(told.latencies.len()), "not everything arrived");
    let mut rows = latency_rows(&told, &arrivals(&told, &one[0], &node));
    rows.push(
        Row::new("inbox.1000.broker.peak", world.broker().peak_kib() as f64 * 1_024.0, "bytes")
            .must_be(Target::AtMost(PEAK_BYTES_MAX)),
    );
    rows.push(Row::new("inbox.1000.node.peak", node.process().peak_kib() as f64 * 1_024.0, "bytes"));
    bench.says("as fast as it goes");
    let told = saturated.run(bench, &world, folder.path(), &all);
    let end = told.began_unix_ns + (told.seconds * 1e9) as u64;
    let kept = node.kept().iter().filter(|(at, _)| (told.began_unix_ns..=end).contains(at)).count();
    let name = format!("inbox.{SENDERS}x{IN_FLIGHT}");
    rows.push(
        Row::new(format!("{name}.kept"), kept as f64 / told.seconds, "1/s")
            .note("durable in the inbox, acknowledged, while the broker accepts"),
    );
    rows.push(Row::new(format!("{name}.accepts"), told.per_second(), "1/s"));
    rows.push(Row::new(format!("{name}.broker.peak"), world.broker().peak_kib() as f64 * 1_024.0, "bytes"));
    node.stop();
    world.stop();
    rows.into()
}

/// How it is sent.
#[derive(Debug, Clone, Copy)]
struct Run {
    pace: Option<f64>,
    in_flight: usize,
    seconds: u64,
}

impl Run {
    fn run(self, bench: &Bench, world: &World, folder: &Path, sources: &[Source]) -> Told {
        let wire = Wire::Lintas { broker: world.address(), times: 1 };
        let plan = Plan {
            wire,
            sources: sources.to_vec(),
            in_flight: self.in_flight,
            pace: self.pace,
            seconds: self.seconds as f64,
        };
        load::run(bench, folder, &plan)
    }
}

/// Packets of each of the first agencies to the one with the node.
fn sources(bench: &Bench, world: &World, name: &str, senders: usize, count: usize) -> Vec<Source> {
    let source = |from| {
        let packets = world.root().join(format!("{from}.{name}.packets"));
        let wanted = Wanted { from, to: &[SENDERS], count, text_bytes: TEXT_BYTES };
        packets::seal_into(bench, world, &packets, wanted);
        Source { secrets: secrets_file(world.root(), &unit(from).agency), packets }
    };
    (0..senders).map(source).collect()
}

/// How long each took from the moment when it was due until it was durable in the inbox.
fn arrivals(told: &Told, source: &Source, node: &Node) -> Durations {
    let kept: HashMap<String, u64> = node.kept().into_iter().map(|(at, packet)| (packet, at)).collect();
    let due = |number: usize| told.began_unix_ns + (number as f64 * 1e9 / PACE) as u64;
    let sent = packets::read(&source.packets).into_iter().take(told.latencies.len());
    let took = |(number, packet)| {
        let at = kept.get(&packet_id(packet)).expect("a packet that was accepted is in the inbox");
        at.saturating_sub(due(number))
    };
    Durations::new(sent.enumerate().map(took).collect())
}

fn packet_id(submission: bytes::Bytes) -> String {
    let submission: Submission = canonical::decode(&submission, limits::FRAME_BYTES_MAX).unwrap();
    let header: Header = canonical::decode(&submission.header, limits::HEADER_BYTES_MAX).unwrap();
    Core::parse(&header.core).unwrap().packet_id.to_string()
}

fn latency_rows(told: &Told, arrivals: &Durations) -> Vec<Row> {
    assert_eq!(told.refused, 0, "refused: {}", told.refusal);
    let accepts = told.durations();
    vec![
        Row::new("inbox.1000.accept.p50", accepts.p50_us(), "us"),
        Row::new("inbox.1000.accept.p99", accepts.p99_us(), "us"),
        Row::new("inbox.1000.latency.p50", arrivals.p50_us(), "us")
            .beside("accept", accepts.p50_us())
            .must_be(Target::RatioAtMost(RATIO_MAX)),
        Row::new("inbox.1000.latency.p99", arrivals.p99_us(), "us").beside("accept", accepts.p99_us()),
    ]
}
