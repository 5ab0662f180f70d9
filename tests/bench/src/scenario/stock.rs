//! A broker with many packets in its store: how it gets there, and how much of everything it takes then.

use std::{
    fs::{self, File},
    io::Read as _,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    bench::Bench,
    load::{
        self, Plan, Source, Told, Wire,
        drain::{self, Taker},
    },
    packets::{self, Wanted},
    world::{World, secrets_file, unit},
};

/// Agencies that send, each over a connection of its own.
pub(super) const SENDERS: usize = 8;
const IN_FLIGHT: usize = 64;
/// Packets that are sealed before they are sent: they lie in files and in the load generator's memory meanwhile.
const SEALED_MAX: usize = 96_000;
/// The broker is at rest when it uses less than this part of one processor.
const AT_REST: f64 = 0.03;
/// Longest wait for that, and for anything else that comes by itself: several epochs of the log.
const PATIENCE: Duration = Duration::from_secs(60);

/// Packets of each sender `n` to the agency `n + shift`, in files below `world`; bytes of one.
pub(super) fn sealed(bench: &Bench, world: &World, count: usize, shift: usize) -> (Vec<Source>, usize) {
    let mut bytes = 0;
    let sources = (0..SENDERS).map(|from| {
        let packets = world.root().join(format!("{from}.packets"));
        let count = (count + from) / SENDERS;
        let wanted = Wanted { from, to: &[from + shift], count, text_bytes: super::submit::TEXT_BYTES };
        bytes = packets::seal_into(bench, world, &packets, wanted).max(bytes);
        Source { secrets: secrets_file(world.root(), &unit(from).agency), packets }
    });
    (sources.collect(), bytes)
}

/// Sends what was sealed, as fast as it goes or so many a second.
pub(super) fn send(bench: &Bench, world: &World, sources: Vec<Source>, pace: Option<f64>) -> Told {
    let wire = Wire::Lintas { broker: world.address(), times: 1 };
    let plan = Plan { wire, sources, in_flight: IN_FLIGHT, pace, seconds: f64::from(3_600) };
    let told = load::run(bench, world.root(), &plan);
    assert_eq!(told.refused, 0, "refused: {}", told.refusal);
    plan.sources.iter().for_each(|source| fs::remove_file(&source.packets).unwrap());
    told
}

/// Puts `count` packets into the store; bytes of one.
pub(super) fn fill(bench: &Bench, world: &World, count: usize, shift: usize) -> usize {
    let (mut left, mut bytes) = (count, 0);
    while left > 0 {
        let now = left.min(SEALED_MAX);
        let (sources, length) = sealed(bench, world, now, shift);
        bench.says(format!("filling: {} of {count} packets to go", left));
        send(bench, world, sources, None);
        (left, bytes) = (left - now, length);
    }
    bytes
}

/// The agencies, as many as send, take what waits for them: `total` deliveries or pieces of evidence together.
pub(super) fn drain(bench: &Bench, world: &World, agencies: impl Iterator<Item = usize>, total: usize) {
    let taker = |agency: usize| Taker {
        secrets: secrets_file(world.root(), &unit(agency).agency),
        count: (total + agency % SENDERS) / SENDERS,
    };
    let takers = agencies.map(taker).collect();
    let plan = drain::Plan { broker: world.address(), directory: *world.issued.directory().hash(), takers };
    bench.says("taking what waits");
    drain::run(bench, world.root(), &plan);
}

/// Waits until the broker has nothing to do but to end epochs, the one that runs included.
pub(super) fn rest(bench: &Bench, world: &World) {
    bench.says("waiting until the log is published");
    // The last event belongs to an epoch that ends by then.
    sleep(Duration::from_millis(u64::from(crate::world::EPOCH_MS) + 500));
    let began = Instant::now();
    loop {
        let before = world.cpu_seconds();
        sleep(Duration::from_secs(1));
        if world.cpu_seconds() - before < AT_REST || began.elapsed() > PATIENCE {
            return;
        }
    }
}

/// Waits until `done`, as long as anything may take.
pub(super) fn wait(mut done: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while !done() {
        if began.elapsed() > PATIENCE {
            return false;
        }
        sleep(Duration::from_millis(200));
    }
    true
}

/// Bytes of all files below a folder, as long as they are.
pub(super) fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries.flatten().fold(0, |sum, entry| {
        // A file may go meanwhile.
        let bytes = match entry.metadata() {
            Ok(there) if there.is_dir() => folder_bytes(&entry.path()),
            Ok(there) => there.len(),
            Err(_) => 0,
        };
        sum + bytes
    })
}

/// The journal's files: bytes up to the last one that is not zero in each, and bytes that are kept ready.
pub(super) fn journal_bytes(world: &World) -> (u64, u64) {
    let (mut used, mut ready) = (0, 0);
    for entry in fs::read_dir(world.folder().join("journal")).unwrap().flatten() {
        let Ok(mut file) = File::open(entry.path()) else { continue };
        let (mut block, mut at, mut last) = (vec![0; 1 << 20], 0, 0);
        loop {
            let count = file.read(&mut block).unwrap();
            if count == 0 {
                break;
            }
            let used = block[..count].iter().rposition(|byte| *byte != 0);
            last = used.map_or(last, |used| at + used as u64 + 1);
            at += count as u64;
        }
        used += last;
        ready += at - last;
    }
    (used, ready)
}
