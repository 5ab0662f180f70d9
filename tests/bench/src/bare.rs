//! The bare reference: the strongest server that this machine allows for the one thing that every durable accept
//! needs. QUIC in, Ed25519 verified over the very bytes that the broker verifies, SHA-256 over the whole packet, one
//! write and one fdatasync for everything pending, an answer of 8 bytes. No canonical check, no directory, no replay
//! window, no policy, no audit log, no queue, no receipt: what the broker does beyond it is what it costs.
//!
//! It is a process of its own ([`role`]), and also plays the echo and the sink of the limits. A stream begins with
//! 32 bytes of the sender's public key; then each message has its length before it (u32, little endian).

pub(crate) mod quic;
mod serve;
mod store;

use std::{
    ffi::{OsStr, OsString},
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use lintas_tests::{process::Process, region::free_address};

use crate::bench::Bench;

/// First argument of the server's process.
const ROLE: &str = "__bare";
/// Bytes of the sender's public key at the beginning of a stream.
pub(crate) const KEY_BYTES: usize = 32;
/// Bytes of an answer: the first of the packet's SHA-256.
pub(crate) const ANSWER_BYTES: usize = 8;

/// What the server does with what comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Verifies, hashes, makes durable, answers.
    Store,
    /// Answers.
    Echo,
    /// Counts bytes, and answers once at the end.
    Sink,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Echo => "echo",
            Self::Sink => "sink",
        }
    }
}

/// The running server.
#[derive(Debug)]
pub(crate) struct Bare {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    file: PathBuf,
}

impl Bare {
    /// Starts it and waits until it listens; it keeps its file and its log in `folder`.
    pub(crate) fn start(bench: &Bench, folder: &Path, mode: Mode) -> Self {
        let address = free_address();
        let (file, log) = (folder.join("bare.store"), folder.join(format!("bare-{}.log", mode.name())));
        let listen = address.to_string();
        let arguments = [OsStr::new(ROLE), OsStr::new(mode.name()), OsStr::new(&listen), file.as_os_str()];
        let mut process = Process::start(&bench.program, &arguments, &log, &[]);
        assert!(process.wait_for("listens on", 0), "the bare server does not start:\n{}", process.said());
        Self { process, address, file }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // The process is killed with its value; only a storing one has a file.
        let _ = fs::remove_file(&self.file);
    }
}

/// Plays the server, if the arguments say so.
pub(crate) fn role(arguments: &[OsString]) -> Option<ExitCode> {
    if arguments.get(1)? != ROLE {
        return None;
    }
    let [mode, address, file] = &arguments[2..] else { return Some(ExitCode::from(2)) };
    let modes = [Mode::Store, Mode::Echo, Mode::Sink];
    let mode = *modes.iter().find(|known| mode == known.name()).unwrap();
    let address = address.to_str().unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(serve::forever(address, mode, Path::new(file)));
    Some(ExitCode::SUCCESS)
}
