//! How long an accept takes at a pace, beside the bare reference, and beside the sum of what must happen: the round
//! trip of a stream, one fdatasync, one verification. Each packet counts from the moment that it was due.

use std::{path::PathBuf, time::Duration};

use super::{
    limits::verify_per_second,
    submit::{CONNECTIONS, Pair, Round, sealed},
};
use crate::{
    bare::{Bare, Mode},
    bench::Bench,
    load::{self, Plan, Source, Wire},
    quiet::fdatasync,
    report::{Chart, Line, Outcome, Row, Target},
    statistics::median,
};

/// Packets in a second of the targets.
const PACE: f64 = 1_000.0;
/// Packets in a second of the chart.
const CURVE: [f64; 7] = [250.0, 500.0, 1_000.0, 2_000.0, 4_000.0, 8_000.0, 16_000.0];
/// The chart's rounds are short: fast ones need many packets.
const CURVE_SECONDS_MAX: f64 = 2.0;
/// Rounds of each, in turn; the median counts.
const ROUNDS: usize = 3;
/// Unanswered at most, of each connection: as many as a broker lets a session have. At a pace that is kept it is never
/// reached; at one that is not, the latency grows as it does for a sender.
const IN_FLIGHT: usize = 256;

pub(super) fn run(bench: &Bench) -> Outcome {
    let mut pair = Pair::start(bench);
    let seconds = bench.time().as_secs_f64() / ROUNDS as f64;
    let verify_us = 1_000_000.0 / verify_per_second(1, Duration::from_secs(1));
    let (mut echoes, mut syncs, mut rounds) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        echoes.push(echo_us(bench, &pair, seconds));
        syncs.push(fdatasync(&bench.work, 4_096, 1_000).p50_us());
        rounds.push(paced(bench, &mut pair, PACE, seconds));
    }
    let (echo, sync) = (median(echoes), median(syncs));
    let [p50, p99] = [0.5, 0.99].map(|part| percentiles(&rounds, part));
    let sum = format!("echo {echo:.0} + fdatasync {sync:.0} + verify {verify_us:.0}");
    let mut rows = vec![
        Row::new("latency.1000.p50", p50.0, "us")
            .beside(sum, echo + sync + verify_us)
            .must_be(Target::RatioAtMost(2.5)),
        Row::new("latency.1000.p50.bare", p50.0, "us").beside("bare", p50.1),
        Row::new("latency.1000.p99", p99.0, "us").beside("bare", p99.1).must_be(Target::RatioAtMost(3.0)),
    ];
    let curve: Vec<_> = CURVE
        .iter()
        .map(|pace| (*pace, paced(bench, &mut pair, *pace, seconds.min(CURVE_SECONDS_MAX))))
        .collect();
    pair.world.stop();
    for (pace, round) in &curve {
        let rounds = std::slice::from_ref(round);
        for (what, part) in [("p50", 0.5), ("p99", 0.99)] {
            let (ours, bare) = percentiles(rounds, part);
            rows.push(Row::new(format!("latency.curve.{pace}.{what}"), ours, "us").beside("bare", bare));
        }
    }
    Outcome { rows, charts: vec![chart(&curve)], ..Outcome::default() }
}

/// Ours and the reference's, microseconds.
fn percentiles(rounds: &[Round], part: f64) -> (f64, f64) {
    let of = |round: &Round| {
        (round.ours.durations().percentile_us(part), round.bare.durations().percentile_us(part))
    };
    let (ours, bare) = rounds.iter().map(of).unzip();
    (median(ours), median(bare))
}

fn paced(bench: &Bench, pair: &mut Pair, pace: f64, seconds: f64) -> Round {
    let count = (pace * seconds) as usize + CONNECTIONS;
    let round = pair.round_of(bench, CONNECTIONS, count, (IN_FLIGHT, Some(pace), seconds));
    assert_eq!(round.ours.refused, 0, "refused: {}", round.ours.refusal);
    round
}

/// The round trip of packets of the real size, at the pace of the target.
fn echo_us(bench: &Bench, pair: &Pair, seconds: f64) -> f64 {
    let folder = bench.folder("echo-");
    let server = Bare::start(bench, folder.path(), Mode::Echo);
    let (sources, _) = sealed(bench, &pair.world, CONNECTIONS, (PACE * seconds) as usize / CONNECTIONS);
    let nobody = |source: Source| Source { secrets: PathBuf::new(), ..source };
    let sources = sources.into_iter().map(nobody).collect();
    bench.says("echo");
    let wire = Wire::Bare { server: server.address, times: 1 };
    let plan = Plan { wire, sources, in_flight: IN_FLIGHT, pace: Some(PACE), seconds };
    load::run(bench, folder.path(), &plan).durations().p50_us()
}

fn chart(curve: &[(f64, Round)]) -> Chart {
    let line = |name: &str, value: &dyn Fn(&Round) -> f64| Line {
        name: name.to_owned(),
        points: curve.iter().map(|(pace, round)| (*pace, value(round))).collect(),
    };
    Chart {
        file: "latency",
        title: format!("Durable accept, {CONNECTIONS} connections"),
        x: ("packets/s", true),
        y: ("microseconds", true),
        lines: vec![
            line("Lintas p50", &|round| round.ours.durations().p50_us()),
            line("Lintas p99", &|round| round.ours.durations().p99_us()),
            line("bare p50", &|round| round.bare.durations().p50_us()),
            line("bare p99", &|round| round.bare.durations().p99_us()),
        ],
    }
}
