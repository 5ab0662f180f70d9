//! Decides: pure, synchronous, takes time and randomness as arguments.
//!
//! - [`admit`]: gates 1 to 5, from bytes to a verified submission
//! - [`ledger`]: the state that is folded over the journal, and the gates that need it
//! - [`plan`]: what one group commit holds: packets, queue entries, audit events, receipts
//! - [`record`]: what the journal holds, byte by byte
//! - [`snapshot`]: the ledger as bytes, so that old segments can go

pub mod admit;
pub mod ledger;
pub mod outcome;
pub mod plan;
pub mod record;
pub mod refuse;
pub mod snapshot;
