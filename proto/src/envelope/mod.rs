//! The envelope, suite 1: how a packet is sealed, signed, verified and opened (docs/FORMAT.md).

pub mod blob;
pub mod body;
pub mod chunk;
pub mod core;
pub mod grant;
pub mod open;
pub mod pad;
pub mod seal;
pub mod segment;
pub mod verify;
pub mod wrap;
mod xwing;
