//! Whether an audit log is whole: checked from its files alone, against a directory or a bootstrap file.
//!
//! The way of a scan: [`verify`] reads the checkpoint and the rosters, then goes through the epochs of the root log, 256 at
//! a time ([`root`]); each of the sub-logs in scope follows as far as those epochs say ([`sub_log`]), opens its events, and
//! [`packets`] asks whether they make sense. [`tree`] derives every tile anew, whatever
//! the files say. Several sub-logs go on at a time, and meet after so many epochs ([`counterparts`]). What does not hold is a
//! [`finding`]; a scan goes on after it, and ends where the files end. [`listing`] reads single events ([`opened`]),
//! [`source`] is where files come from.

pub(crate) mod anchor;
pub(crate) mod counterparts;
pub(crate) mod finding;
pub(crate) mod listing;
pub(crate) mod opened;
pub(crate) mod own;
pub(crate) mod packets;
pub(crate) mod past;
pub(crate) mod root;
pub(crate) mod source;
pub(crate) mod sub_log;
pub(crate) mod tree;
pub(crate) mod verify;

#[cfg(test)]
mod tests;
