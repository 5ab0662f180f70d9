//! What the node does: files, clock, sockets, the network.

pub(crate) mod blobs;
pub(crate) mod clock;
pub(crate) mod control;
pub(crate) mod daemon;
pub(crate) mod desk;
pub(crate) mod door;
pub(crate) mod failure;
pub(crate) mod files;
pub(crate) mod folder;
pub(crate) mod memory;
pub(crate) mod session;
pub(crate) mod store;
pub(crate) mod transfer;
pub(crate) mod trust;
pub(crate) mod unlock;
