//! Does: QUIC, disk, clock.
//!
//! - [`listener`]: who may connect, and the hello
//! - [`session`]: one node: its submissions in, its queue out
//! - [`transfer`]: attachments, up and down; [`upload`]: one that goes on where it was cut
//! - [`sequencer`]: one thread that gives every packet its place in the journal
//! - [`answer`]: receipts and refusals on their way out
//! - [`metrics`]: what is counted; [`operator`]: where the operator asks for it, and for health
//! - [`roster_mark`]: the directory of a start, and that no older one takes its place
//! - [`shared`], [`blobs`] and their [`inventory`], [`index`], [`folder`], [`clock`]: what they stand on
//! - [`start`]: all of it up, and down again

mod answer;
mod blobs;
mod clock;
mod earlier;
mod folder;
mod index;
mod inventory;
mod listener;
mod metrics;
mod operator;
mod roster_mark;
mod sequencer;
mod session;
mod shared;
mod start;
#[cfg(test)]
mod tests;
mod transfer;
mod upload;

pub(crate) use folder::{Folder, FolderError};
#[cfg(test)]
pub(crate) use sequencer::BATCH_BYTES;
pub(crate) use start::{RunError, run, signals};
