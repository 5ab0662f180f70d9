//! Bytes and proofs.
pub mod canonical;
pub mod frame;
pub mod limits;
pub mod schema;
