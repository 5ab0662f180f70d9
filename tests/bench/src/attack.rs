//! Those who attack, each kind in a process of its own: it says when it is ready, goes on until its input ends, then says
//! what it has done.
//!
//! They run at the lowest priority: in earnest they have machines of their own, and take no processor from the broker. A
//! member that floods is a [`crate::load`] generator.

use std::{
    ffi::OsString,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitCode, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use lintas_link::{CloseCode, LinkError};
use lintas_proto::{frame::FrameType, schema::LogGet};
use lintas_tests::stranger;
use serde::{Deserialize, Serialize};
use tokio::{runtime::Runtime, task::JoinSet};

use crate::{
    bench::Bench,
    load::lintas::{Hearer, Sender, connect_from, spread},
};

/// First argument of such a process.
const ROLE: &str = "__attack";
/// Longest attack, whatever becomes of the benchmark.
const TIME_MAX: Duration = Duration::from_secs(900);
/// Most strangers of one attack.
const STRANGERS_MAX: usize = 1_000_000;
/// Addresses of strangers: together they may begin more handshakes than the broker allows in all.
const STRANGER_ADDRESSES: usize = 16;
/// Streams on which one member asks for a file of the log: as many as a broker serves one at once.
const LOG_STREAMS: usize = 8;
/// Between two members that connect, so that the broker lets all in at once.
const EACH: Duration = Duration::from_millis(4);

/// What is done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Attack {
    /// Datagrams that look like the beginning of a connection.
    Junk { broker: SocketAddr, per_second: u32, seed: u64 },
    /// Handshakes with keys that no roster knows, 50 at once, without a pause.
    Strangers { broker: SocketAddr },
    /// Members that connect, ask for a file of the log on many streams, and never read.
    Deaf { broker: SocketAddr, members: Vec<PathBuf>, origin: String },
    /// Members that hold a session until the broker ends it, for a change of the directory. No attack: they are to be
    /// told at once.
    Held { broker: SocketAddr, members: Vec<PathBuf> },
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Done {
    pub(crate) seconds: f64,
    /// Datagrams sent, handshakes tried, members connected.
    pub(crate) count: u64,
    /// Handshakes that the broker looked at, and refused for their key.
    pub(crate) refused: u64,
    /// When each session ended because the directory had changed, nanoseconds since 1970.
    pub(crate) ended_unix_ns: Vec<u64>,
}

/// A running attack.
#[derive(Debug)]
pub(crate) struct Attacker {
    child: Child,
    says: BufReader<ChildStdout>,
}

impl Attacker {
    /// Starts it, and waits until it is ready. `folder` is its own.
    pub(crate) fn start(bench: &Bench, folder: &Path, attack: &Attack) -> Self {
        fs::create_dir_all(folder).unwrap();
        let file = folder.join("attack.json");
        fs::write(&file, serde_json::to_vec(attack).unwrap()).unwrap();
        let mut command = match attack {
            Attack::Held { .. } => Command::new(&bench.program),
            Attack::Junk { .. } | Attack::Strangers { .. } | Attack::Deaf { .. } => {
                let mut command = Command::new("nice");
                command.args(["-n", "19"]).arg(&bench.program);
                command
            }
        };
        command.arg(ROLE).arg(&file).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (mut says, mut said) = (BufReader::new(child.stdout.take().unwrap()), String::new());
        says.read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n", "the attack does not begin");
        Self { child, says }
    }

    /// Ends it; what it has done.
    pub(crate) fn end(mut self) -> Done {
        drop(self.child.stdin.take());
        let mut said = String::new();
        self.says.read_to_string(&mut said).unwrap();
        assert!(self.child.wait().unwrap().success(), "the attack failed");
        serde_json::from_str(&said).unwrap()
    }
}

/// Also when something else has failed.
impl Drop for Attacker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Plays an attacker, if the arguments say so.
pub(crate) fn role(arguments: &[OsString]) -> Option<ExitCode> {
    if arguments.get(1)? != ROLE {
        return None;
    }
    let attack: Attack = serde_json::from_slice(&fs::read(arguments.get(2)?).unwrap()).unwrap();
    let done = match &attack {
        Attack::Junk { broker, per_second, seed } => {
            until_told(|goes_on| (stranger::throw_junk(*broker, *per_second, *seed, goes_on), 0))
        }
        Attack::Strangers { broker } => {
            let from: Vec<_> = (0..STRANGER_ADDRESSES).map(spread).collect();
            until_told(|goes_on| {
                let (refused, unseen) = stranger::storm_from(&from, *broker, STRANGERS_MAX, goes_on);
                ((refused + unseen) as u64, refused as u64)
            })
        }
        Attack::Deaf { broker, members, origin } => deaf(*broker, members, origin),
        Attack::Held { broker, members } => held(*broker, members),
    };
    println!("{}", serde_json::to_string(&done).unwrap());
    Some(ExitCode::SUCCESS)
}

/// Says that it is ready, and attacks until its input ends: how many there were, and how many of them were refused.
fn until_told(attack: impl FnOnce(&dyn Fn() -> bool) -> (u64, u64)) -> Done {
    let (over, began) = (Arc::new(AtomicBool::new(false)), Instant::now());
    let ends = Arc::clone(&over);
    thread::spawn(move || {
        wait();
        ends.store(true, Ordering::Relaxed);
    });
    println!("ready");
    let (count, refused) = attack(&|| !over.load(Ordering::Relaxed) && began.elapsed() < TIME_MAX);
    Done { seconds: began.elapsed().as_secs_f64(), count, refused, ..Done::default() }
}

/// Until the input ends.
fn wait() {
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Has each of these members open a session.
fn connect(runtime: &Runtime, broker: SocketAddr, members: &[PathBuf]) -> Vec<(Sender, Hearer)> {
    let one = |(number, secrets): (usize, &PathBuf)| {
        thread::sleep(EACH);
        runtime.block_on(connect_from(spread(number).into(), broker, secrets))
    };
    members.iter().enumerate().map(one).collect()
}

fn deaf(broker: SocketAddr, members: &[PathBuf], origin: &str) -> Done {
    let (runtime, began) = (runtime(), Instant::now());
    let sessions = connect(&runtime, broker, members);
    let get = LogGet { origin: origin.to_owned(), path: "roster/1".to_owned(), ..LogGet::default() };
    let asked = runtime.block_on(async {
        let mut asked = Vec::new();
        for (sender, _) in &sessions {
            for _ in 0..LOG_STREAMS {
                let (mut writer, reader) = sender.connection.open_stream().await.unwrap();
                writer.send_message(FrameType::LogGet, &get).await.unwrap();
                asked.push((writer, reader));
            }
        }
        asked
    });
    println!("ready");
    wait();
    drop(asked);
    Done { seconds: began.elapsed().as_secs_f64(), count: sessions.len() as u64, ..Done::default() }
}

fn held(broker: SocketAddr, members: &[PathBuf]) -> Done {
    let (runtime, began) = (runtime(), Instant::now());
    let (senders, hearers): (Vec<_>, Vec<_>) = connect(&runtime, broker, members).into_iter().unzip();
    let mut ends = JoinSet::new();
    for hearer in hearers {
        ends.spawn_on(
            async move {
                let why = hearer.ended().await;
                let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
                matches!(why, LinkError::Closed { code: CloseCode::DirectoryChanged, .. }).then_some(at)
            },
            runtime.handle(),
        );
    }
    println!("ready");
    wait();
    let mut ended_unix_ns = Vec::new();
    while let Some(ended) = ends.try_join_next() {
        ended_unix_ns.extend(ended.unwrap());
    }
    let count = senders.len() as u64;
    Done { seconds: began.elapsed().as_secs_f64(), count, ended_unix_ns, ..Done::default() }
}
