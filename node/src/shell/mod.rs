//! What the node does: files, clock, sockets, the network.

mod arriving;
pub(crate) mod blobs;
pub(crate) mod clock;
pub(crate) mod control;
mod courier;
pub(crate) mod daemon;
pub(crate) mod desk;
pub(crate) mod directory_link;
pub(crate) mod door;
pub(crate) mod failure;
pub(crate) mod files;
pub(crate) mod folder;
pub(crate) mod health;
pub(crate) mod join;
pub(crate) mod memory;
pub(crate) mod probe;
pub(crate) mod progress;
pub(crate) mod region;
pub(crate) mod session;
pub(crate) mod store;
pub(crate) mod transfer;
pub(crate) mod trust;
pub(crate) mod unlock;
