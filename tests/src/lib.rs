//! A region of real processes on loopback, for the demo and for tests.
//!
//! cargo does not build the binaries of other packages, so every process is this package's `lintas-demo`
//! started again with a hidden first argument that names its role ([`role`]).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::disallowed_methods,
    reason = "a harness: whatever is not as it should be ends the test"
)]

pub mod authority;
pub mod case;
pub mod crowd;
pub mod cut;
pub mod demo;
pub mod dice;
pub mod directory;
pub mod drill;
pub mod faketime;
pub mod independent;
pub mod load;
pub mod member;
pub mod policy;
pub mod process;
pub mod python;
pub mod region;
pub mod search;
pub mod segment;
pub mod shaped;
pub mod shaper;
pub mod stranger;
pub mod tools;
pub mod trace;
pub mod wire;

use std::{ffi::OsString, process::ExitCode};

/// First argument of a process that is to be a broker.
pub const ROLE_BROKER: &str = "__broker";
/// First argument of a process that is to be a node.
pub const ROLE_NODE: &str = "__node";

/// Runs the role that the first argument names; none when it names no role.
#[must_use]
pub fn role(arguments: &[OsString]) -> Option<ExitCode> {
    let (program, role) = (arguments.first()?, arguments.get(1)?.to_str()?);
    let rest = || std::iter::once(program.clone()).chain(arguments.iter().skip(2).cloned());
    match role {
        ROLE_BROKER => Some(lintas_broker::main(rest())),
        ROLE_NODE => Some(lintas_node::main(rest())),
        _ => None,
    }
}
