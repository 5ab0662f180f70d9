//! The regional broker: admits packets, makes them durable together with their audit events, gives receipts,
//! and hands packets over. It holds no key that opens anything.
//!
//! - [`core`] decides: pure, synchronous, takes time and randomness as arguments
//! - `shell` does: QUIC, disk, clock
//!
//! The way of a packet through this crate: `shell::session` receives the bytes; [`core::admit`] takes them
//! through the gates without state; `shell::sequencer` lets [`core::plan`] take them through the others and
//! make records, audit events and receipts, and hands one group to the journal; when it is durable the receipt
//! goes out and `shell::session` of each recipient hands the packet over; [`core::outcome`] makes the
//! recipient's acknowledgement into the record that ends the queue entry and brings evidence to the originator.
//! Attachments go up and down beside it (`shell::transfer`). The directory under which all of this happens changes
//! meanwhile: `shell::keeper` puts the next one in force, and [`core::leave`] says what waits for whoever has left it.

mod cli;
pub mod core;
mod shell;
#[cfg(test)]
mod testing;

pub use cli::main;
#[cfg(feature = "sim")]
pub use shell::sim;
