//! What connections cost that are open and idle: memory of the broker, and the latency of those that are not.

use std::{
    ffi::OsString,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, ExitCode, Stdio},
    thread::sleep,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::submit::TEXT_BYTES;
use crate::{
    bare::{Bare, Mode},
    bench::Bench,
    load::{
        self, Plan, Source, Told, Wire, bare,
        lintas::{connect_from, spread},
    },
    packets::{self, Wanted},
    report::{Outcome, Row, Target},
    world::{World, secrets_file, unit},
};

/// First argument of the process that holds the connections.
const ROLE: &str = "__idle";
const CONNECTIONS: usize = 1_000;
/// Most bytes of the broker's memory for each.
const BYTES_MAX: f64 = 30_000.0;
/// Between two that begin, so that the region's broker lets all in at once.
const EACH: Duration = Duration::from_millis(4);
/// After which what the handshakes took is given back.
const REST: Duration = Duration::from_secs(3);
const PACE: f64 = 1_000.0;
const PACED_IN_FLIGHT: usize = 256;

/// Who connects, and where.
#[derive(Debug, Serialize, Deserialize)]
struct Holding {
    server: SocketAddr,
    secrets: Vec<PathBuf>,
    /// The server is the bare one.
    bare: bool,
}

pub(super) fn run(bench: &Bench) -> Outcome {
    let folder = bench.folder("idle-");
    let mut world = World::found(bench, folder.path(), CONNECTIONS + 2, "");
    let sources = [0, 1].map(|round| {
        let packets = world.root().join(format!("{round}.packets"));
        let count = PACE as usize * bench.seconds as usize;
        let wanted = Wanted { from: CONNECTIONS, to: &[CONNECTIONS + 1], count, text_bytes: TEXT_BYTES };
        packets::seal_into(bench, &world, &packets, wanted);
        Source { secrets: secrets_file(world.root(), &unit(CONNECTIONS).agency), packets }
    });
    world.start();
    let [first, second] = sources;
    let alone = paced(bench, &world, first);
    bench.says(format!("{CONNECTIONS} connections"));
    let before = world.broker().resident_bytes();
    let held = hold(bench, &world, world.address(), false);
    sleep(REST);
    let after = world.broker().resident_bytes();
    let beside = paced(bench, &world, second);
    let_go(held);
    bench.says(format!("{CONNECTIONS} connections to the bare server"));
    let bare = Bare::start(bench, world.root(), Mode::Echo);
    let empty = bare.process.resident_bytes();
    let held = hold(bench, &world, bare.address, true);
    sleep(REST);
    let bare_each = (bare.process.resident_bytes() as f64 - empty as f64) / CONNECTIONS as f64;
    let_go(held);
    world.stop();
    let each = (after as f64 - before as f64) / CONNECTIONS as f64;
    vec![
        Row::new("idle.connection.memory", each, "bytes")
            .beside("bare, one stream and nothing else", bare_each)
            .must_be(Target::AtMost(BYTES_MAX))
            .note(format!("{CONNECTIONS} sessions, resident before {before} and after {after}")),
        Row::new("idle.accept.p50", beside.durations().p50_us(), "us")
            .beside("without", alone.durations().p50_us()),
        Row::new("idle.accept.p99", beside.durations().p99_us(), "us")
            .beside("without", alone.durations().p99_us()),
    ]
    .into()
}

fn paced(bench: &Bench, world: &World, source: Source) -> Told {
    let wire = Wire::Lintas { broker: world.address(), times: 1 };
    let seconds = bench.time().as_secs_f64();
    let plan = Plan { wire, sources: vec![source], in_flight: PACED_IN_FLIGHT, pace: Some(PACE), seconds };
    let told = load::run(bench, world.root(), &plan);
    assert_eq!(told.refused, 0, "refused: {}", told.refusal);
    told
}

/// It ends when its input does.
fn let_go(mut held: Child) {
    drop(held.stdin.take());
    assert!(held.wait().unwrap().success(), "connections were lost");
}

/// Starts the process that holds the connections, and waits until it has them.
fn hold(bench: &Bench, world: &World, server: SocketAddr, bare: bool) -> Child {
    let secrets = (0..CONNECTIONS).map(|number| secrets_file(world.root(), &unit(number).agency)).collect();
    let (holding, file) = (Holding { server, secrets, bare }, world.root().join("idle.json"));
    fs::write(&file, serde_json::to_vec(&holding).unwrap()).unwrap();
    let mut command = Command::new(&bench.program);
    command.arg(ROLE).arg(&file).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "ready\n", "not all are connected");
    child
}

/// Plays the process that holds the connections, if the arguments say so.
pub(crate) fn role(arguments: &[OsString]) -> Option<ExitCode> {
    if arguments.get(1)? != ROLE {
        return None;
    }
    let holding: Holding = serde_json::from_slice(&fs::read(arguments.get(2)?).unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (mut held, mut held_bare, mut ended) = (Vec::new(), Vec::new(), JoinSet::new());
    for (number, secrets) in holding.secrets.iter().enumerate() {
        if holding.bare {
            held_bare.push(runtime.block_on(bare::connect(holding.server, Some(secrets))));
            continue;
        }
        let address = spread(number).into();
        let (sender, hearer) = runtime.block_on(connect_from(address, holding.server, secrets));
        held.push(sender);
        ended.spawn_on(hearer.ended(), runtime.handle());
        sleep(EACH);
    }
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    let lost = ended.try_join_next().is_some();
    drop((held, held_bare));
    Some(ExitCode::from(u8::from(lost)))
}
