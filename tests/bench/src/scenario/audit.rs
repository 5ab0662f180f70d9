//! The audit log: what it costs the broker to fold and to write it, and how fast an auditor verifies all of it.

use std::{
    fs,
    path::Path,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use bytes::Bytes;
use lintas_proto::{canonical, limits, schema::PublishedLog};
use lintas_tests::{ROLE_NODE, process::Process};
use serde_json::Value;

use super::submit::TEXT_BYTES;
use crate::{
    bench::Bench,
    load::{self, Plan, Source, Told, Wire},
    packets::{self, Wanted},
    report::{Outcome, Row, Target},
    statistics::median,
    world::{World, secrets_file, unit},
};

/// Agencies that send, and as many that receive.
const SENDERS: usize = 8;
const IN_FLIGHT: usize = 64;
/// Packets to one recipient each, while the publisher is watched: SUBMITTED, RELEASED and RECEIVED of each.
const PACKETS: usize = 100_000;
const EVENTS_OF_A_PACKET: u64 = 3;
/// Entries that are verified; packets to many recipients fill the log up to there.
const ENTRIES: u64 = 1_000_000;
/// Times that everything is verified.
const ROUNDS: usize = 3;
/// Longest mark of a log, bytes.
const MARK_BYTES_MAX: usize = 4 * 1024 * 1024;

pub(super) fn run(bench: &Bench) -> Outcome {
    let folder = bench.folder("audit-");
    let mut world = World::found(bench, folder.path(), 2 * SENDERS, "");
    let sources = sealed(bench, &world, "few", PACKETS, |from| vec![from + SENDERS]);
    world.start();
    let mut rows = append(bench, &world, sources);
    let left = ENTRIES.saturating_sub(published(&world.folder()));
    if left > 0 {
        // To each recipient an event with the sender and one with the recipient, and one of the submission.
        let count = left.div_ceil(2 * SENDERS as u64 + 1) as usize;
        let everybody: Vec<usize> = (SENDERS..2 * SENDERS).collect();
        let sources = sealed(bench, &world, "many", count, |_| everybody.clone());
        bench.says("filling the log");
        submit(bench, &world, sources, 600.0);
        wait(&world, ENTRIES);
    }
    while signed(&world.folder()) < mark(&world.folder()).epochs {
        sleep(Duration::from_millis(20));
    }
    world.stop();
    rows.extend(verify(bench, &world));
    rows.into()
}

/// What the publisher takes while the broker accepts as fast as it can.
fn append(bench: &Bench, world: &World, sources: Vec<Source>) -> Vec<Row> {
    let (events, times) = (published(&world.folder()), Times::of(world.broker()));
    bench.says("the log is folded and written while packets come");
    let told = submit(bench, world, sources, bench.time().as_secs_f64());
    let (ended, busy) = (Instant::now(), Times::of(world.broker()));
    assert_eq!(told.refused, 0, "{}", told.refusal);
    wait(world, events + EVENTS_OF_A_PACKET * told.latencies.len() as u64);
    let (late, all) = (ended.elapsed(), Times::of(world.broker()));
    let events = (published(&world.folder()) - events) as f64;
    let us = (all.publisher - times.publisher).as_secs_f64() * 1e6 / events;
    let share = (busy.publisher - times.publisher).as_secs_f64() / (busy.broker - times.broker).as_secs_f64();
    let within = limits::INCLUDED_WITHIN_MS as f64 / 1_000.0;
    vec![
        Row::new("audit.append.cpu", us, "us").note(format!("of one core, for each of {events} events")),
        Row::new("audit.append.events", 1e6 / us, "1/s").note("of one core, if it did nothing else"),
        Row::new("audit.append.share", share, "of the broker's processor time")
            .note(format!("while {:.0} packets a second were accepted", told.per_second())),
        Row::new("audit.append.late", late.as_secs_f64(), "s")
            .must_be(Target::AtMost(within))
            .note("from the last accepted packet until all are published; an epoch lasts 10 s"),
    ]
}

/// Every entry, by the command that an auditor uses, on all processors.
fn verify(bench: &Bench, world: &World) -> Vec<Row> {
    let entries = published(&world.folder());
    let rate = |what: &str, arguments: &[&str]| {
        let times = (0..ROUNDS).map(|round| {
            bench.says(format!("{entries} entries are verified {what}, {} of {ROUNDS}", round + 1));
            let began = Instant::now();
            let said = scan(bench, &world.folder(), arguments);
            let seconds = began.elapsed().as_secs_f64();
            let sum = |field: &str| -> u64 {
                said["sub_logs"].as_array().unwrap().iter().map(|sub| sub[field].as_u64().unwrap()).sum()
            };
            let opened = if arguments.is_empty() { entries } else { 0 };
            assert_eq!((sum("entries"), sum("opened")), (entries, opened), "{said}");
            seconds
        });
        entries as f64 / median(times.collect())
    };
    let note = format!("{entries} entries, from the start of the process to its end");
    vec![
        Row::new("audit.verify.entries", rate("with their openings", &[]), "1/s")
            .must_be(Target::AtLeast(500_000.0))
            .note(note.clone()),
        Row::new("audit.verify.closed", rate("without openings", &["--since", "2200-01-01"]), "1/s")
            .note(note),
    ]
}

/// `lintas audit verify`; what it says. Nothing is wrong, but that this region has no witnesses.
fn scan(bench: &Bench, broker: &Path, arguments: &[&str]) -> Value {
    let output = Command::new(&bench.program)
        .args([ROLE_NODE, "--json", "audit", "verify", "--from"])
        .arg(broker.join("audit/1"))
        .arg("--directory")
        .arg(broker.join("directory.bin"))
        .arg("--bootstrap")
        .arg(broker.join("bootstrap.toml"))
        .args(arguments)
        .env_remove("LINTAS_DATA")
        .output()
        .unwrap();
    let said: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let found: Vec<&String> = said["counts"].as_object().unwrap().keys().collect();
    let expected = ["no_witnesses", "time_not_attested", "note"];
    assert!(found.iter().all(|kind| expected.contains(&kind.as_str())), "{said}");
    said
}

fn sealed(
    bench: &Bench,
    world: &World,
    name: &str,
    count: usize,
    to: impl Fn(usize) -> Vec<usize>,
) -> Vec<Source> {
    let each = count.div_ceil(SENDERS);
    let source = |from| {
        let packets = world.root().join(format!("{from}.{name}"));
        let wanted = Wanted { from, to: &to(from), count: each, text_bytes: TEXT_BYTES };
        packets::seal_into(bench, world, &packets, wanted);
        Source { secrets: secrets_file(world.root(), &unit(from).agency), packets }
    };
    (0..SENDERS).map(source).collect()
}

fn submit(bench: &Bench, world: &World, sources: Vec<Source>, seconds: f64) -> Told {
    let wire = Wire::Lintas { broker: world.address(), times: 1 };
    load::run(bench, world.root(), &Plan { wire, sources, in_flight: IN_FLIGHT, pace: None, seconds })
}

/// Waits until so many entries are published.
fn wait(world: &World, entries: u64) {
    let began = Instant::now();
    while published(&world.folder()) < entries {
        assert!(began.elapsed() < Duration::from_secs(600), "the log is not published");
        sleep(Duration::from_millis(20));
    }
}

/// Entries of all sub-logs that are published.
fn published(broker: &Path) -> u64 {
    mark(broker).sub_logs.iter().map(|log| log.size).sum()
}

/// How far the log is published.
fn mark(broker: &Path) -> PublishedLog {
    let Ok(bytes) = fs::read(broker.join("audit/published")) else { return PublishedLog::default() };
    canonical::decode(&Bytes::from(bytes).slice(32..), MARK_BYTES_MAX).unwrap()
}

/// Epochs of the checkpoint that auditors begin with: it follows what is published.
fn signed(broker: &Path) -> u64 {
    let note = fs::read_to_string(broker.join("audit/1/checkpoint")).unwrap_or_default();
    note.lines().nth(1).and_then(|size| size.parse().ok()).unwrap_or_default()
}

/// Processor time that was used so far.
struct Times {
    publisher: Duration,
    broker: Duration,
}

impl Times {
    fn of(broker: &Process) -> Self {
        let (mut times, tasks) = (
            Self { publisher: Duration::ZERO, broker: Duration::ZERO },
            format!("/proc/{}/task", broker.id()),
        );
        for task in fs::read_dir(tasks).unwrap() {
            let task = task.unwrap().path();
            let Ok(time) = fs::read_to_string(task.join("schedstat")) else { continue };
            let time = Duration::from_nanos(time.split(' ').next().unwrap().parse().unwrap());
            times.broker += time;
            if fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "publisher") {
                times.publisher += time;
            }
        }
        times
    }
}
