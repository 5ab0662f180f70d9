//! What the machine can do.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use super::submit::{CONNECTIONS, IN_FLIGHT, sealed};
use crate::{
    bare::{Bare, Mode},
    bench::Bench,
    load::{self, Plan, Source, Told, Wire},
    quiet::fdatasync,
    report::{Outcome, Row},
    statistics::median,
    world::World,
};

/// Bytes of a message that is verified: about a packet's header.
const SIGNED_BYTES: usize = 1_024;
/// Bytes of a message that is echoed.
const ECHO_BYTES: usize = 1_024;
/// Messages in the file that an echo sends again and again.
const ECHO_MESSAGES: usize = 1_000;
/// More messages than any machine of this kind echoes in a second.
const ECHOES_PER_SECOND_MAX: usize = 500_000;
/// More bytes than any machine of this kind carries on a stream in a second.
const BULK_BYTES_PER_SECOND: u64 = 500_000_000;
/// Each thing is measured so often; the median counts.
const ROUNDS: usize = 3;
/// Accepts of the reference in a second, as many packets are sealed for it.
const PER_SECOND_MAX: usize = 40_000;

pub(super) fn run(bench: &Bench) -> Outcome {
    let folder = bench.folder("limits-");
    let mut rows = machine(bench, folder.path());
    rows.extend(echoes(bench, folder.path()));
    rows.push(bulk(bench, folder.path()));
    rows.extend(reference(bench, folder.path()));
    rows.into()
}

fn machine(bench: &Bench, folder: &Path) -> Vec<Row> {
    bench.says("Ed25519");
    let time = bench.time().min(Duration::from_secs(3));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut rows = vec![Row::new("limits.ring.verify.1", verify_per_second(1, time), "1/s")];
    rows.push(Row::new(format!("limits.ring.verify.{cores}"), verify_per_second(cores, time), "1/s"));
    bench.says("fdatasync");
    let syncs = fdatasync(folder, 4_096, 2_000);
    rows.push(Row::new("limits.fdatasync.p50", syncs.p50_us(), "us"));
    rows.push(Row::new("limits.fdatasync.p99", syncs.p99_us(), "us"));
    rows
}

/// Framed streams whose messages are answered with 8 bytes and nothing else.
fn echoes(bench: &Bench, folder: &Path) -> Vec<Row> {
    let file = folder.join("echo.messages");
    write_messages(&file, ECHO_MESSAGES, ECHO_BYTES);
    let server = Bare::start(bench, folder, Mode::Echo);
    let seconds = short(bench);
    let go = |connections: usize, pace, count: f64| {
        let source = Source { secrets: PathBuf::new(), packets: file.clone() };
        let times = (count as usize).div_ceil(ECHO_MESSAGES * connections).max(1);
        let wire = Wire::Bare { server: server.address, times };
        let sources = vec![source; connections];
        load::run(bench, folder, &Plan { wire, sources, in_flight: IN_FLIGHT, pace, seconds })
    };
    let mut rows = Vec::new();
    for connections in [1, CONNECTIONS] {
        bench.says(format!("echo over {connections} connections"));
        let count = ECHOES_PER_SECOND_MAX as f64 * seconds;
        let rates = (0..ROUNDS).map(|_| go(connections, None, count).per_second()).collect();
        rows.push(
            Row::new(format!("limits.quinn.echo.{connections}x{IN_FLIGHT}"), median(rates), "1/s")
                .note(format!("messages of {ECHO_BYTES} bytes on a framed stream, answers of 8 bytes")),
        );
    }
    bench.says("echo, paced");
    let told = go(CONNECTIONS, Some(1_000.0), 1_000.0 * seconds).durations();
    rows.push(Row::new("limits.quinn.echo.paced.p50", told.p50_us(), "us").note("1,000/s"));
    rows.push(Row::new("limits.quinn.echo.paced.p99", told.p99_us(), "us"));
    rows
}

fn bulk(bench: &Bench, folder: &Path) -> Row {
    bench.says("bulk");
    let server = Bare::start(bench, folder, Mode::Sink);
    let bytes = (BULK_BYTES_PER_SECOND as f64 * short(bench)) as u64;
    let wire = Wire::Bulk { server: server.address, bytes };
    let plan = Plan { wire, sources: vec![], in_flight: 1, pace: None, seconds: short(bench) };
    let rates = (0..ROUNDS).map(|_| bytes as f64 * load::run(bench, folder, &plan).per_second()).collect();
    Row::new("limits.quinn.bulk", median(rates), "bytes/s").note("one stream")
}

/// The bare reference alone; beside the broker it stands in `submit`.
fn reference(bench: &Bench, folder: &Path) -> Vec<Row> {
    let world = World::found(bench, &folder.join("region"), 2 * CONNECTIONS, "");
    let mut rows = Vec::new();
    let server = Bare::start(bench, folder, Mode::Store);
    for connections in [1, CONNECTIONS] {
        let count = (PER_SECOND_MAX as f64 * short(bench)) as usize / CONNECTIONS;
        let (sources, bytes) = sealed(bench, &world, connections, count);
        bench.says(format!("the bare reference over {connections} connections"));
        // It remembers no packet, so the same ones do for every round; one connection has eight times as long.
        let times = CONNECTIONS / connections;
        let rounds: Vec<Told> = (0..ROUNDS)
            .map(|_| {
                let wire = Wire::Bare { server: server.address, times };
                let (sources, seconds) = (sources.clone(), short(bench));
                load::run(bench, folder, &Plan { wire, sources, in_flight: IN_FLIGHT, pace: None, seconds })
            })
            .collect();
        let name = format!("limits.bare.{connections}x{IN_FLIGHT}");
        let rate = median(rounds.iter().map(Told::per_second).collect());
        let note = format!("QUIC, Ed25519, SHA-256, fdatasync; {bytes} bytes each");
        rows.push(Row::new(format!("{name}.accepts"), rate, "1/s").note(note));
        let p50 = median(rounds.iter().map(|told| told.durations().p50_us()).collect());
        rows.push(Row::new(format!("{name}.latency.p50"), p50, "us"));
    }
    rows
}

/// How long one of [`ROUNDS`] may take, seconds.
fn short(bench: &Bench) -> f64 {
    bench.time().as_secs_f64() / ROUNDS as f64
}

/// So many messages of so many bytes, as in [`crate::packets`].
fn write_messages(file: &Path, count: usize, bytes: usize) {
    let length = u32::try_from(bytes).unwrap().to_le_bytes();
    fs::write(file, [&length[..], &vec![3; bytes]].concat().repeat(count)).unwrap();
}

/// Ed25519 signatures that ring verifies in a second on `threads` threads together.
pub(crate) fn verify_per_second(threads: usize, time: Duration) -> f64 {
    let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let message = vec![1; SIGNED_BYTES];
    let signature = key.sign(&message);
    let public = UnparsedPublicKey::new(&ED25519, key.public_key().as_ref());
    let counts: u64 = std::thread::scope(|scope| {
        let work = || {
            let (began, mut count) = (Instant::now(), 0_u64);
            while began.elapsed() < time {
                public.verify(&message, signature.as_ref()).unwrap();
                count += 1;
            }
            count
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    counts as f64 / time.as_secs_f64()
}
