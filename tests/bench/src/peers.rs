//! Clients of the peers, in a process of their own as our load generator is.
//!
//! They are no libraries: each speaks as much of its protocol as a sender needs. It writes at once what there is room
//! for, and counts what is acknowledged. That is less work than any library does, and the server has the rest of the
//! processors: a peer is not slow here because its client is.

mod drive;
mod jetstream;
mod postgresql;
mod rabbitmq;

use std::{
    ffi::OsString,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use serde::{Deserialize, Serialize};

use crate::{bench::Bench, load::Told};

/// First argument of such a process.
const ROLE: &str = "__peer";

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Protocol {
    /// NATS, each message to a stream of JetStream and acknowledged by it.
    JetStream,
    /// AMQP 0-9-1, to quorum queues, with publisher confirms.
    RabbitMq,
    /// PostgreSQL's own, a row and a commit for each message.
    PostgreSql,
}

/// What is to be sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) protocol: Protocol,
    pub(crate) address: SocketAddr,
    /// Certificate of whoever signed the server's, PEM.
    pub(crate) authority: PathBuf,
    pub(crate) password: String,
    pub(crate) connections: usize,
    /// Most unanswered at once, of each connection.
    pub(crate) in_flight: usize,
    pub(crate) body_bytes: usize,
    /// Streams, queues or tables, among which the connections are spread.
    pub(crate) targets: usize,
    pub(crate) seconds: f64,
}

/// Runs the client and waits for what it says.
pub(crate) fn run(bench: &Bench, folder: &Path, plan: &Plan) -> Told {
    let file = folder.join("peer.json");
    fs::write(&file, serde_json::to_vec(plan).unwrap()).unwrap();
    let output = Command::new(&bench.program).arg(ROLE).arg(&file).output().unwrap();
    assert!(output.status.success(), "{:?}: {}", plan.protocol, String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Plays the client, if the arguments say so.
pub(crate) fn role(arguments: &[OsString]) -> Option<ExitCode> {
    if arguments.get(1)? != ROLE {
        return None;
    }
    let plan: Plan = serde_json::from_slice(&fs::read(arguments.get(2)?).unwrap()).unwrap();
    // As our load generator has.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let told = runtime.block_on(async {
        match plan.protocol {
            Protocol::JetStream => drive::all::<jetstream::Client>(&plan).await,
            Protocol::RabbitMq => drive::all::<rabbitmq::Client>(&plan).await,
            Protocol::PostgreSql => drive::all::<postgresql::Client>(&plan).await,
        }
    });
    println!("{}", serde_json::to_string(&told).unwrap());
    Some(ExitCode::SUCCESS)
}
