//! The one way Lintas speaks QUIC: raw public keys, post-quantum key exchange, framed streams.
//!
//! | file | what it decides |
//! |---|---|
//! | [`tls`](TransportKey) | who the peer is: RFC 7250 raw Ed25519 keys, asked of a [`PeerDirectory`] |
//! | [`endpoint`](Server) | the UDP socket, transport parameters, accepting and connecting |
//! | `gate` | which handshakes are worth starting while strangers knock |
//! | `registry` | which connections live, and which a new directory ends |
//! | [`connection`](Connection) | one authenticated peer: streams, close codes |
//! | [`untrusted`](UntrustedConnection) | a broker that the directory does not know: asked for a directory only |
//! | [`framed`](FrameWriter) | frames and raw bytes on a stream; `assemble` puts them together |
//! | [`raw`](take_raw) | raw bytes on their way to a disk |
//! | [`hello`](greet) | the first exchange of a session |
//! | [`limits`] | every number above, with its unit |
//! | [`error`](LinkError) | what went wrong, whose fault it is, what to do |
//!
//! # What happens to a stranger
//! A connection exists for the caller only after the peer has proved (RFC 8446 section 4.4.3) that it holds
//! the private key of a public key that the directory admits. Until then it costs the broker one slot in the
//! gate, 16 KiB of handshake buffer and at most three times the bytes that it sent (RFC 9000 section 8.1).
//!
//! With TLS 1.3 a client is connected before the server has looked at its key, so a refused node learns it
//! in the hello ([`LinkError::NotAdmitted`]); a session is open after [`greet`], not after
//! [`Client::connect`].
//!
//! # Deliberately absent
//! Certificates, session tickets, resumption and 0-RTT (a resumed session would skip the key check), address
//! validation tokens that outlive a retry, datagrams, unidirectional streams, and any knowledge of packets.

mod assemble;
mod connection;
mod connection_ids;
mod endpoint;
mod error;
mod framed;
mod gate;
mod hello;
pub mod limits;
mod raw;
mod registry;
mod tls;
mod untrusted;

#[cfg(test)]
mod tests;

pub use connection::{CloseCode, Connection};
pub use endpoint::{Client, Handshake, Server};
pub use error::LinkError;
pub use framed::{FrameReader, FrameWriter, decode};
pub use hello::{First, answer, greet, receive_first, receive_hello, refuse};
pub use limits::Limits;
pub use raw::{TakeError, take_raw};
pub use tls::{PeerDirectory, TransportKey};
pub use untrusted::UntrustedConnection;
