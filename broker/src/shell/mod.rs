//! Does: QUIC, disk, clock.
//!
//! - [`listener`]: who may connect, and the hello
//! - [`session`]: one node: its submissions in, its queue out
//! - [`transfer`]: attachments, up and down
//! - [`sequencer`]: one thread that gives every packet its place in the journal; [`leavers`]: what it withholds
//! - [`answer`]: receipts and refusals on their way out
//! - [`metrics`]: what is counted; [`operator`]: where the operator asks for it, and for health
//! - [`keeper`]: new directories while the broker runs; [`directory_files`], [`earlier`]: the directory on disk
//! - [`directory_streams`]: what nodes ask and bring about it; [`offer`]: what they are given; [`notices`]: what they are told
//! - [`shared`], [`blobs`] and their [`inventory`], [`index`], [`folder`], [`clock`]: what they stand on
//! - [`start`]: all of it up, and down again

mod answer;
mod blobs;
mod clock;
mod directory_files;
mod directory_streams;
mod earlier;
mod folder;
mod index;
mod inventory;
mod keeper;
mod leavers;
mod listener;
mod metrics;
mod notices;
mod offer;
mod operator;
mod sequencer;
mod session;
mod shared;
mod start;
#[cfg(test)]
mod tests;
mod transfer;

pub(crate) use folder::{Folder, FolderError};
#[cfg(test)]
pub(crate) use sequencer::BATCH_BYTES;
pub(crate) use start::{RunError, run, signals};
