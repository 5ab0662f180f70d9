//! From kill -9 until the broker listens again, with many live packets in its store.
//!
//! Twice: straight after the load, when all there is must be folded again; and after a compaction, when a snapshot stands
//! for it. The last segment and the snapshot are verified to the last byte before the broker
//! listens, the sealed segments soon after (docs/JOURNAL.md). The page cache is warm, as it is when a process is
//! killed; a machine that starts reads the journal from its disk first.

use std::{thread::sleep, time::Duration};

use super::stock;
use crate::{
    bench::Bench,
    report::{Outcome, Row, Target},
    statistics::median,
    world::World,
};

const SENDERS: usize = stock::SENDERS;
/// Live packets for each second that a measurement may take, and at most.
const PER_SECOND: usize = 25_000;
const PACKETS_MAX: usize = 1_000_000;
/// Packets that are delivered so that the broker compacts: it does when 128 MiB are not needed any more.
const DELIVERED: usize = 32_000;
const ROUNDS: usize = 3;
const SECONDS_PER_MILLION_MAX: f64 = 1.5;

pub(super) fn run(bench: &Bench) -> Outcome {
    let folder = bench.folder("reopen-");
    // Agencies that send, as many that never connect, as many that take what is theirs.
    let mut world = World::found(bench, folder.path(), 3 * SENDERS, "");
    let count = (PER_SECOND * bench.seconds as usize).min(PACKETS_MAX);
    world.start();
    let empty = world.broker().resident_bytes();
    let bytes = stock::fill(bench, &world, count, SENDERS);
    let mut rows = Vec::new();
    let note = format!("{count} live packets of {bytes} bytes");
    rows.extend(reopened(bench, &mut world, "reopen.folded", (count, empty), &note));

    stock::fill(bench, &world, DELIVERED, 2 * SENDERS);
    stock::rest(bench, &world);
    stock::drain(bench, &world, 2 * SENDERS..3 * SENDERS, DELIVERED);
    let compacted = stock::wait(|| world.broker().said().contains("journal compacted"));
    assert!(compacted, "the broker does not compact");
    let note = format!("{count} live packets in a snapshot");
    rows.extend(reopened(bench, &mut world, "reopen.snapshot", (count, empty), &note));
    world.kill();
    rows.into()
}

/// Kills the broker and starts it again, several times.
fn reopened(
    bench: &Bench,
    world: &mut World,
    name: &str,
    (count, empty): (usize, u64),
    note: &str,
) -> [Row; 4] {
    let (mut seconds, mut processors, mut resident) = (Vec::new(), Vec::new(), 0);
    let (journal, _) = stock::journal_bytes(world);
    for _ in 0..ROUNDS {
        world.kill();
        bench.says("starting again");
        seconds.push(world.start_timed().as_secs_f64());
        processors.push(world.cpu_seconds());
        resident = world.broker().resident_bytes();
        // What the broker does beside its first work is done before it is killed again: it overwrites old files.
        sleep(Duration::from_secs(2));
    }
    let millions = count as f64 / 1e6;
    let per_million = median(seconds.clone()) / millions;
    let each = resident.saturating_sub(empty) as f64 / count as f64;
    let rounds: Vec<String> = seconds.iter().map(|seconds| format!("{seconds:.2}")).collect();
    [
        Row::new(format!("{name}.per_million"), per_million, "s")
            .must_be(Target::AtMost(SECONDS_PER_MILLION_MAX))
            .note(format!("{note}; {} s", rounds.join(", "))),
        Row::new(format!("{name}.cpu.per_million"), median(processors) / millions, "s")
            .note("of all processors together, which a busy machine changes less"),
        Row::new(format!("{name}.journal"), journal as f64, "bytes"),
        Row::new(format!("{name}.memory.per_packet"), each, "bytes"),
    ]
}
