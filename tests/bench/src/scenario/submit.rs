//! Durable accepts in a second: signature, replay, policy, audit, queue and fdatasync before each answer.

use crate::{
    bench::Bench,
    load::{self, Plan, Source, Wire},
    packets::{self, Wanted},
    report::{Outcome, Row},
    world::{World, secrets_file, unit},
};

/// Connections, each of an agency of its own; as many others receive.
const CONNECTIONS: usize = 8;
pub(super) const IN_FLIGHT: usize = 64;
/// So that the body takes 1 KiB.
pub(super) const TEXT_BYTES: usize = 980;
/// More than any machine of this kind accepts in a second.
const PER_SECOND_MAX: usize = 30_000;

pub(super) fn run(bench: &Bench) -> Outcome {
    let mut rows = Vec::new();
    for connections in [1, CONNECTIONS] {
        let folder = bench.folder("submit-");
        let mut world = World::found(bench, folder.path(), 2 * CONNECTIONS, "");
        let count = PER_SECOND_MAX * bench.seconds as usize / connections;
        let (sources, bytes) = sealed(bench, &world, connections, count);
        world.start();
        bench.says(format!("{connections} connections"));
        let wire = Wire::Lintas { broker: world.address() };
        let plan =
            Plan { wire, sources, in_flight: IN_FLIGHT, pace: None, seconds: bench.time().as_secs_f64() };
        let told = load::run(bench, folder.path(), &plan);
        let name = format!("submit.{connections}x{IN_FLIGHT}");
        rows.push(
            Row::new(format!("{name}.accepts"), told.per_second(), "1/s").note(format!("{bytes} bytes each")),
        );
        rows.push(Row::new(format!("{name}.latency.p50"), told.durations().p50_us(), "us"));
        rows.push(Row::new(format!("{name}.latency.p99"), told.durations().p99_us(), "us"));
        rows.push(Row::new(format!("{name}.peak"), world.broker().peak_kib() as f64 * 1_024.0, "bytes"));
        world.stop();
    }
    rows.into()
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
