//! An agency's node: composes, checks, seals, keeps, sends, receives, opens.
//!
//! | folder | what |
//! |---|---|
//! | `core` | decides: pure, with time and randomness as arguments |
//! | `shell` | does: files, clock, sockets, the network |
//! | `cli` | one file per command of `lintas` |
//!
//! All durable state is one journal; what the node knows is a fold over it. A packet is durable before the
//! officer is told that it is kept; a delivery is durable before it is acknowledged. The plaintext of a body and
//! the key wrap that came with it are never stored.
//!
//! The way of a packet through this crate: out by `core::draft`, `core::preflight`, `shell::desk` (send, outgoing) and
//! `shell::session`; in by `shell::session`, `core::inbox`, `shell::desk` (exchange) and the journal. Attachments move
//! beside the session by `shell::courier`, keysets and directories by `shell::directory_link`. `core::rotation` and
//! `core::pages` say which keys live and die, `core::contacts` and `core::freshness` to whom is sent and under what.
//!
//! # Deliberately absent
//! The agency's own release policy (the preflight says where it will be asked), recall, relaying, the web
//! console.

mod cli;
mod core;
mod shell;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(test)]
mod testing;

use std::{ffi::OsString, process::ExitCode};

/// Runs the command line `args` (the first is the program's name).
///
/// Exit codes are stable; `lintas --help` lists them.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    cli::run(args)
}
