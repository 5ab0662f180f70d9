//! Decides: pure, synchronous, takes time and randomness as arguments.
//!
//! - [`admit`]: gates 1 to 5, from bytes to a verified submission; [`rules`]: what is in force, [`judge`]: what it says
//! - [`plan`]: gates 6 to 11, and what one group commit holds: packets, queue entries, audit events, receipts;
//!   [`quota`] is the last
//! - [`agreement`]: whether the clock is to be acted upon
//! - [`refuse`]: what a sender is told when a gate stays shut
//! - [`outcome`]: how a queue entry ends; [`leave`]: whose entries are withheld, because their recipient has left
//! - [`earlier`]: directories that packets may name; [`pace`]: how often something may change
//! - [`deliver`]: what a session hands over next; [`hand_over`]: whether its recipient may still have it
//! - [`events`]: what the log is told beside that; [`erase`]: what it is to forget; [`scribe`] gives every event its place
//! - [`ledger`]: the state that is folded over the journal, of [`queue`]s, `known` packet ids and more; `ascending` holds many
//!   of anything
//! - [`record`]: what the journal holds, byte by byte; `brief`: what is folded of it; `terse`: numbers and texts in few bytes; `squeeze`:
//!   whatever repeats itself
//! - [`log`]: the audit log as it is published, folded over the same records
//! - [`snapshot`]: the ledger as bytes, so that old segments can go; [`spent`] are the records that go with them

pub mod admit;
pub mod agreement;
mod ascending;
mod brief;
pub mod deliver;
pub mod earlier;
pub mod erase;
pub mod events;
pub mod hand_over;
pub mod judge;
mod known;
pub mod leave;
pub mod ledger;
pub mod log;
pub mod outcome;
pub mod pace;
pub mod plan;
pub mod queue;
pub mod quota;
pub mod record;
pub mod refuse;
pub mod rules;
pub mod scribe;
pub mod snapshot;
pub mod spent;
mod squeeze;
mod terse;
