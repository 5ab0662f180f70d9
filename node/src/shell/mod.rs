//! What the node does: files, clock, sockets, the network.

pub(crate) mod blobs;
pub(crate) mod clock;
pub(crate) mod control;
pub(crate) mod daemon;
pub(crate) mod desk;
pub(crate) mod directory_link;
pub(crate) mod failure;
pub(crate) mod files;
pub(crate) mod folder;
pub(crate) mod health;
pub(crate) mod join;
pub(crate) mod memory;
pub(crate) mod probe;
pub(crate) mod region;
pub(crate) mod session;
pub(crate) mod store;
pub(crate) mod transfer;
pub(crate) mod trust;
pub(crate) mod unlock;
