//! Does: QUIC, disk, clock.
//!
//! - [`listener`]: who may connect, and the hello
//! - [`session`]: one node: its submissions in, its queue out
//! - [`transfer`]: attachments, up and down
//! - [`sequencer`]: one thread that gives every packet its place in the journal
//! - [`shared`], [`blobs`], [`index`], [`folder`], [`clock`]: what they stand on

mod blobs;
mod clock;
mod folder;
mod index;
mod listener;
mod sequencer;
mod session;
mod shared;
mod start;
mod transfer;

pub(crate) use folder::{Folder, FolderError};
pub(crate) use start::{RunError, run};
