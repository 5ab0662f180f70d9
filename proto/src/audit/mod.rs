//! Proofs: Merkle trees, audit leaves, statements signed in groups, and the formats of the published log.
//!
//! - [`leaf`]: one event and its opening; [`group`]: many statements, one signature
//! - [`merkle`]: trees and their proofs; [`tile`]: the same trees as files (C2SP tlog-tiles)
//! - [`note`]: signed checkpoints and cosignatures (C2SP); [`proof`]: one entry's place, as text (C2SP)
//! - [`epoch`]: an entry of the root log, and the slots under it
//! - [`opening`]: what opens leaves, each under a key of its own; [`files`]: what a log consists of

pub mod epoch;
pub mod files;
pub mod group;
pub mod leaf;
pub mod merkle;
pub mod note;
pub mod opening;
pub mod proof;
pub mod tile;
