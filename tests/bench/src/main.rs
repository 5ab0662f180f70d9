//! `lintas-bench`: how fast Lintas is, beside the limits of the machine and beside its peers, in one run.
//!
//! Exit codes: 0 every target that was looked at holds; 1 one does not, or something differed; 2 wrong use.
//!
//! | module | what |
//! |---|---|
//! | `scenario` | what is measured, a file each |
//! | `world` | a region whose keys the benchmark holds, and its broker as a process |
//! | `packets` | packets that are signed and sealed beforehand |
//! | `bare` | the strongest bare server, as a reference |
//! | `node` | a node as an agency runs it, as a process |
//! | `load` | the load generator, a process of its own |
//! | `attack` | strangers and members that attack, as processes |
//! | `bulk` | what a stream, SHA-256 and the disk can do with a large file |
//! | `peers` | clients of the peers, with the feature `peers` |
//! | `statistics`, `report`, `quiet` | percentiles; rows and charts; whether the machine is quiet |

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    reason = "a harness: whatever is not as it should be ends the run; measuring needs the clock"
)]

mod attack;
mod bare;
mod bench;
mod bulk;
mod cli;
mod load;
mod node;
mod packets;
#[cfg(feature = "peers")]
mod peers;
mod quiet;
mod report;
mod scenario;
mod statistics;
mod world;

use std::{ffi::OsString, process::ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = lintas_tests::role(&arguments) {
        return code;
    }
    if let Some(code) = bare::role(&arguments) {
        return code;
    }
    if let Some(code) = load::role(&arguments) {
        return code;
    }
    if let Some(code) = bulk::role(&arguments)
        .or_else(|| scenario::idle::role(&arguments))
        .or_else(|| attack::role(&arguments))
    {
        return code;
    }
    #[cfg(feature = "peers")]
    if let Some(code) = peers::role(&arguments) {
        return code;
    }
    cli::main(arguments)
}
