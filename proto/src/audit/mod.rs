//! Proofs: Merkle trees, audit leaves, and statements signed in groups.

pub mod group;
pub mod leaf;
pub mod merkle;
