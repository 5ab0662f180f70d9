//! Bytes and proofs of Lintas: what every part of the system, and any outsider, must agree on.
//!
//! Pure: no I/O, no clock, no randomness of its own; time and entropy are arguments. The formats are written
//! down in docs/FORMAT.md so that others can implement them.
//!
//! # The way of a packet
//!
//! 1. **compose** (node core): draft → body, label, recipients
//! 2. **preflight** (node core): own agency's release policy, before anything is encrypted
//! 3. **seal** ([`envelope::seal`]): body → ciphertext, one key wrap per recipient, header signed
//! 4. **outbox** (node shell): durable before anything is said to the user
//! 5. **submit** ([`frame`] over QUIC): pipelined; same packet twice → the same receipt
//! 6. **admit** (broker core): signature, canonical bytes, replay, expiry, policy ([`envelope::verify`])
//! 7. **commit** (broker shell): one durable write holds packet, queue entries and audit entries
//! 8. **receipt** ([`receipt`]): signed promise with the log position, only after 7
//! 9. **deliver** (QUIC): per-recipient order, credit window, redelivery until acknowledged
//! 10. **open** ([`envelope::open`]): verify everything again, decrypt
//! 11. **inbox** (node shell): durable, encrypted at rest, deduplicated; then acknowledge
//! 12. **evidence** ([`evidence`]): the acknowledgement is committed and travels back to the originator

pub mod audit;
pub mod canonical;
pub mod envelope;
pub mod evidence;
pub mod frame;
pub mod id;
pub mod label;
pub mod limits;
pub mod receipt;
pub mod schema;
pub mod sign;
#[cfg(test)]
mod testing;
