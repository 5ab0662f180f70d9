//! Bytes and proofs of Lintas: what every part of the system, and any outsider, must agree on.
//!
//! Pure: no I/O, no clock, no randomness of its own; time and entropy are arguments. The formats are written
//! down in docs/FORMAT.md so that others can implement them.
//!
//! # The way of a packet
//!
//! 1. **compose** (node core): draft → body, label, recipients
//! 2. **preflight** (node core): recipients known and confirmed, label consistent, before anything is encrypted
//! 3. **seal** ([`envelope::seal`]): body and attachments → ciphertext, one key wrap per recipient, header signed
//! 4. **outbox** (node shell): durable before anything is said to the user
//! 5. **upload** ([`frame`] over QUIC): attachments go up beside the session, before their packet
//!    ([`envelope::segment`])
//! 6. **submit** ([`frame`] over QUIC): pipelined; same packet twice → the same receipt
//! 7. **admit** (broker core): signature, canonical bytes, replay, expiry, policy ([`envelope::verify`])
//! 8. **commit** (broker shell): one durable write holds packet, queue entries and audit entries
//! 9. **receipt** ([`receipt`]): signed promise with the log position, only after 8
//! 10. **deliver** (QUIC): per-recipient order, credit window, redelivery until acknowledged
//! 11. **open** ([`envelope::open`]): verify everything again, decrypt
//! 12. **download** (QUIC): attachments come down beside the session, before their delivery is kept
//! 13. **inbox** (node shell): durable, encrypted at rest, deduplicated; then acknowledge
//! 14. **evidence** ([`evidence`]): the acknowledgement is committed and travels back to the originator
//!
//! Whom a packet may come from and go to, and under which keys, says the directory (crate `lintas-config`). It changes
//! while packets are on their way. What was sealed for keys that have gone is refused at 7 and sealed again at 3; what
//! waits at 10 for whoever has left is withheld, and 14 says so.

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
