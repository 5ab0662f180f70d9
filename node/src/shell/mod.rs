//! What the node does: files, clock, sockets, the network.
//!
//! - [`daemon`]: the process that keeps everything going; [`door`]: open, or locked; [`control`]: where commands knock
//! - [`desk`]: everything that can be asked of a node
//! - [`session`]: the link to the broker; [`directory_link`]: keysets and directories beside it;
//!   [`policies`], [`policy_link`]: the own policy here, and beside it; [`log_link`]: the audit log beside it, [`follow`]: followed
//! - [`courier`]: attachments beside it; [`transfer`]: one of them over the wire; [`arriving`]: one on its way to the
//!   disk; [`blobs`]: all of them there; [`progress`]: how far long work is
//! - [`join`]: the first directory; [`trust`]: the one in force, and its mark
//! - [`store`]: the journal; [`folder`], [`files`]: the disk; [`unlock`], [`memory`]: secrets on their way in, and in
//!   memory; [`clock`]
//! - [`watch`]: what is known of the audit log, on disk
//! - [`health`], [`probe`]: what is looked at when something is wrong; [`failure`]: what a command says then
//! - [`region`]: the region authority's files

mod arriving;
pub(crate) mod audit;
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
pub(crate) mod follow;
pub(crate) mod health;
pub(crate) mod join;
pub(crate) mod log_link;
pub(crate) mod memory;
pub(crate) mod policies;
pub(crate) mod policy_link;
pub(crate) mod probe;
pub(crate) mod progress;
pub(crate) mod region;
pub(crate) mod session;
pub(crate) mod store;
pub(crate) mod transfer;
pub(crate) mod trust;
pub(crate) mod unlock;
pub(crate) mod watch;
