//! Does: QUIC, disk, clock.
//!
//! The way of a packet:
//!
//! - [`listener`]: who may connect, and the hello
//! - [`transfer`]: attachments, up before their packet and down after it; [`upload`]: one that goes on where it was cut
//! - [`session`]: one node: its submissions in, its queue out
//! - [`intake`]: what sessions hand over to the [`sequencer`]: one thread that gives every packet its place in the
//!   journal; [`leavers`]: what it withholds
//! - [`answer`]: receipts and refusals on their way out
//!
//! The way of a directory:
//!
//! - [`directory_streams`]: what nodes ask and bring about it
//! - [`keeper`]: takes in what is new, and puts it in force; [`directory_files`], [`earlier`]: the directory on disk
//! - [`offer`]: what nodes are given of it; [`notices`]: what they are told
//!
//! The way of a release policy: a node brings it on a stream ([`directory_streams`]), it stands the gate and is kept
//! ([`policies`]), and the [`keeper`], or time, puts it in force ([`in_force`]).
//!
//! The way of an audit event: from the journal through [`log`], which publishes it, has it cosigned, and gives it out.
//!
//! Beside both:
//!
//! - [`places`]: how many streams of one agency are served at once
//! - [`shared`], [`recent`], [`blobs`] and their [`inventory`], [`index`], [`folder`], [`clock`]: what they stand on
//! - [`metrics`]: what is counted; [`operator`]: where the operator asks for it, and for health
//! - [`start`]: all of it up, and down again; [`run_error`]: or why not; [`recover`]: from the journal; [`check`](mod@check): looks only

mod answer;
mod blobs;
mod check;
mod clock;
mod directory_files;
mod directory_streams;
mod earlier;
mod folder;
mod in_force;
mod index;
mod intake;
mod inventory;
mod keeper;
mod leavers;
mod listener;
mod log;
mod metrics;
mod notices;
mod offer;
mod operator;
mod places;
mod policies;
mod recent;
mod recover;
mod run_error;
mod sequencer;
mod session;
mod shared;
#[cfg(feature = "sim")]
pub mod sim;
mod start;
#[cfg(test)]
mod tests;
mod transfer;
mod upload;

pub(crate) use check::{Verdict, run as check};
pub(crate) use folder::{Folder, FolderError};
pub(crate) use run_error::RunError;

pub(crate) use start::{run, signals};
