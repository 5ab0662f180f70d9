//! Whether anything gets slower, or larger than it must, as the store grows: brokers with 10^4, 10^5 and, if there is time,
//! 10^6 live packets run side by side and are measured in turns, so that what else the machine does is the same for all.

use super::stock;
use crate::{
    bench::Bench,
    report::{Chart, Line, Outcome, Row, Target},
    statistics::median,
    world::World,
};

const SENDERS: usize = stock::SENDERS;
/// Seconds from which on there is time for a million.
const MILLION_SECONDS: u64 = 40;
const ROUNDS: usize = 5;
/// Packets of one round as fast as it goes, and of the one that is paced: they stay in the store.
const ROUND: usize = 4_800;
const PACED: usize = 2_000;
const PER_SECOND: f64 = 1_000.0;
const RATE_MIN: f64 = 0.9;
const CPU_MAX: f64 = 1.1;

/// A broker with so many packets.
struct Level {
    packets: usize,
    world: World,
    _folder: crate::bench::Folder,
    empty: Taken,
    full: Taken,
    rates: Vec<f64>,
    cpus: Vec<f64>,
    p50s: Vec<f64>,
    p99s: Vec<f64>,
}

/// What a broker takes, bytes.
#[derive(Clone, Copy)]
struct Taken {
    memory: u64,
    journal: u64,
    index: u64,
    audit: u64,
}

pub(super) fn run(bench: &Bench) -> Outcome {
    let sizes: &[usize] =
        if bench.seconds >= MILLION_SECONDS { &[10_000, 100_000, 1_000_000] } else { &[10_000, 100_000] };
    let mut levels: Vec<Level> = sizes.iter().map(|packets| filled(bench, *packets)).collect();
    for round in 0..ROUNDS {
        for level in &mut levels {
            bench.says(format!("round {}: {} packets", round + 1, level.packets));
            let (sources, _) = stock::sealed(bench, &level.world, ROUND, SENDERS);
            let before = level.world.cpu_seconds();
            level.rates.push(stock::send(bench, &level.world, sources, None).per_second());
            level.cpus.push((level.world.cpu_seconds() - before) * 1e6 / ROUND as f64);
            let (sources, _) = stock::sealed(bench, &level.world, PACED, SENDERS);
            let durations = stock::send(bench, &level.world, sources, Some(PER_SECOND)).durations();
            level.p50s.push(durations.p50_us());
            level.p99s.push(durations.p99_us());
        }
    }
    let mut outcome = Outcome::default();
    let first = (median(levels[0].rates.clone()), median(levels[0].cpus.clone()));
    let (beside, mut points) = (format!("with {}", sizes[0]), Vec::new());
    for level in levels {
        let Level { packets, mut world, empty, full, rates, cpus, p50s, p99s, .. } = level;
        let (rate, p50, p99) = (median(rates), median(p50s), median(p99s));
        let mut row = Row::new(format!("growth.{packets}.accepts"), rate, "1/s").note("8 x 64");
        let mut cpu = Row::new(format!("growth.{packets}.cpu"), median(cpus), "us").note("of an accept");
        if packets != sizes[0] {
            row = row.beside(beside.clone(), first.0).must_be(Target::RatioAtLeast(RATE_MIN));
            cpu = cpu.beside(beside.clone(), first.1).must_be(Target::RatioAtMost(CPU_MAX));
        }
        let each = |full: u64, empty: u64| full.saturating_sub(empty) as f64 / packets as f64;
        outcome.rows.extend([
            row,
            cpu,
            Row::new(format!("growth.{packets}.latency.p50"), p50, "us").note("1,000 a second"),
            Row::new(format!("growth.{packets}.latency.p99"), p99, "us"),
            Row::new(format!("growth.{packets}.memory.per_packet"), each(full.memory, empty.memory), "bytes"),
            Row::new(
                format!("growth.{packets}.journal.per_packet"),
                each(full.journal, empty.journal),
                "bytes",
            ),
            Row::new(format!("growth.{packets}.audit.per_packet"), each(full.audit, empty.audit), "bytes"),
            Row::new(format!("growth.{packets}.index"), full.index as f64, "bytes"),
        ]);
        points.push((packets as f64, [rate, p50, p99]));
        world.stop();
    }
    let line = |name: &str, at: usize| Line {
        name: name.to_owned(),
        points: points.iter().map(|(packets, values)| (*packets, values[at])).collect(),
    };
    outcome.charts = vec![
        Chart {
            file: "growth",
            title: "Accepts in a second as the store grows".to_owned(),
            x: ("packets in the store", true),
            y: ("accepts / s", false),
            lines: vec![line("8 x 64 in flight", 0)],
        },
        Chart {
            file: "growth-latency",
            title: "Accept latency at 1,000/s as the store grows".to_owned(),
            x: ("packets in the store", true),
            y: ("us", true),
            lines: vec![line("p50", 1), line("p99", 2)],
        },
    ];
    outcome
}

fn filled(bench: &Bench, packets: usize) -> Level {
    let folder = bench.folder("growth-");
    let mut world = World::found(bench, folder.path(), 2 * SENDERS, "");
    world.start();
    stock::rest(bench, &world);
    let empty = taken(&world);
    stock::fill(bench, &world, packets, SENDERS);
    stock::rest(bench, &world);
    let full = taken(&world);
    let (rates, cpus, p50s, p99s) = (vec![], vec![], vec![], vec![]);
    Level { packets, world, _folder: folder, empty, full, rates, cpus, p50s, p99s }
}

fn taken(world: &World) -> Taken {
    let folder = world.folder();
    Taken {
        memory: world.broker().resident_bytes(),
        journal: stock::journal_bytes(world).0,
        index: stock::folder_bytes(&folder.join("index")),
        audit: stock::folder_bytes(&folder.join("audit")),
    }
}
