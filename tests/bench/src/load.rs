//! The load generator: a process of its own, which is told by a file what to send and says what came of it.
//!
//! It only sends what was sealed before. Closed loop: each connection has so many unanswered at once. Paced: each
//! packet has its moment, and its latency counts from that moment on, also when the generator itself was late.

pub(crate) mod bare;
pub(crate) mod drain;
mod drive;
pub(crate) mod lintas;
mod pacer;

use std::{
    ffi::OsString,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use serde::{Deserialize, Serialize};

use crate::{bench::Bench, statistics::Durations};

/// First argument of the load generator's process.
const ROLE: &str = "__load";

/// Where it goes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Wire {
    /// To a broker: the packets of each file so many times.
    Lintas {
        /// Where it listens.
        broker: SocketAddr,
        /// More than once only in an attack.
        times: usize,
    },
    /// To the bare reference or to an echo: the packets of each file so many times.
    Bare {
        /// Where it listens.
        server: SocketAddr,
        /// More than once only where nobody looks at them.
        times: usize,
    },
    /// So many bytes on one stream to a sink.
    Bulk {
        /// Where it listens.
        server: SocketAddr,
        bytes: u64,
    },
}

/// One connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Source {
    /// The sender's secret keys ([`crate::world::secrets_file`]); empty towards an echo, which looks at none.
    pub(crate) secrets: PathBuf,
    /// What it sends ([`crate::packets`]).
    pub(crate) packets: PathBuf,
}

/// What is to be sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) wire: Wire,
    pub(crate) sources: Vec<Source>,
    /// Most unanswered at once, of each connection.
    pub(crate) in_flight: usize,
    /// Packets in a second, of all connections together; as fast as it goes if none.
    pub(crate) pace: Option<f64>,
    /// It ends then, or when everything was sent.
    pub(crate) seconds: f64,
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Told {
    /// From the first packet to the last answer.
    pub(crate) seconds: f64,
    /// When it began, nanoseconds since 1970: with the pace it tells when each packet was due.
    pub(crate) began_unix_ns: u64,
    /// Of each packet that was accepted, nanoseconds.
    pub(crate) latencies: Vec<u64>,
    /// Answers that were no receipt, and what the first one said. A benchmark counts none of them as done.
    pub(crate) refused: u64,
    pub(crate) refusal: String,
    /// Processor time of the generator itself meanwhile, seconds: near [`Told::seconds`] it was the bottleneck, since
    /// it sends on one thread.
    pub(crate) cpu_seconds: f64,
}

impl Told {
    /// Accepted packets in a second. Ends the run if any was refused: what is measured then is something else.
    pub(crate) fn per_second(&self) -> f64 {
        assert_eq!(self.refused, 0, "refused: {}", self.refusal);
        self.latencies.len() as f64 / self.seconds
    }

    /// Processors that the generator was busy on.
    pub(crate) fn cpu(&self) -> f64 {
        self.cpu_seconds / self.seconds
    }

    pub(crate) fn durations(&self) -> Durations {
        Durations::new(self.latencies.clone())
    }
}

/// Runs the load generator and waits for what it says.
pub(crate) fn run(bench: &Bench, folder: &Path, plan: &Plan) -> Told {
    let file = folder.join("plan.json");
    fs::write(&file, serde_json::to_vec(plan).unwrap()).unwrap();
    let output = Command::new(&bench.program).arg(ROLE).arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Plays the load generator, if the arguments say so.
pub(crate) fn role(arguments: &[OsString]) -> Option<ExitCode> {
    if arguments.get(1)? == drain::ROLE {
        return drain::role(arguments);
    }
    if arguments.get(1)? != ROLE {
        return None;
    }
    let plan: Plan = serde_json::from_slice(&fs::read(arguments.get(2)?).unwrap()).unwrap();
    // Threads inherit it: each packet is due at its moment, not up to 50 us later.
    fs::write("/proc/self/timerslack_ns", "1").unwrap();
    // One thread: the processors are for what is measured.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let told = runtime.block_on(async { drive::all(&plan).await });
    println!("{}", serde_json::to_string(&told).unwrap());
    Some(ExitCode::SUCCESS)
}
