//! What can go wrong on a connection: whose fault it is, and what to do.
//!
//! Text that a peer sent is escaped and cut before it is kept, so an error may be printed and logged.

use std::{io, net::SocketAddr};

use lintas_proto::{
    canonical::DecodeError,
    frame::{FrameError, FrameType},
    limits::SENTENCE_BYTES_MAX,
    schema::Reason,
};
use quinn::{ConnectionError, ReadError, TransportErrorCode, WriteError};
use thiserror::Error;

use crate::connection::CloseCode;

/// TLS alerts that this protocol tells apart (RFC 8446 section 6.2).
mod alert {
    pub(super) const HANDSHAKE_FAILURE: u8 = 40;
    pub(super) const ACCESS_DENIED: u8 = 49;
    pub(super) const PROTOCOL_VERSION: u8 = 70;
    pub(super) const NO_APPLICATION_PROTOCOL: u8 = 120;
}

/// Why an operation on a link failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The UDP socket cannot be opened.
    #[error(
        "cannot open UDP `{address}`: {source}; check that the address is this machine's and the port free"
    )]
    Socket {
        /// Address asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Called outside of an asynchronous runtime.
    #[error("no asynchronous runtime is running; this is a fault in the calling program")]
    NoRuntime,
    /// The TLS library refuses the key or the configuration.
    #[error("TLS refuses this side's key or settings: {0}")]
    Tls(#[from] rustls::Error),
    /// The cryptography library lacks the cipher that QUIC starts with (RFC 9001 section 5.2).
    #[error("the TLS library has no AES-128-GCM, which QUIC needs; this is a fault in this build")]
    InitialCipher,
    /// No connection can be started to this address.
    #[error("cannot connect to `{address}`: {problem}; check the broker's address in the settings")]
    Address {
        /// Address asked for.
        address: SocketAddr,
        /// What is wrong with it.
        problem: String,
    },
    /// The peer refused this side's key.
    #[error(
        "the broker does not know this node's key: ask the region authority whether this agency is admitted, \
         suspended or revoked; if it is active, publish a keyset with this transport key, then connect again"
    )]
    NotAdmitted,
    /// This side refused the peer's key.
    #[error(
        "the peer's key is not in this side's directory, or the peer cannot sign for it; fetch the newest \
         directory, and check that the address is the right one"
    )]
    UnknownPeer,
    /// The peer is no Lintas peer, or an older one.
    #[error(
        "the peer does not speak lintas/1 over TLS 1.3 with X25519MLKEM768; check its address and version"
    )]
    Foreign,
    /// The peer has no room for another handshake or connection.
    #[error("the peer is too busy for another connection; try again in a minute")]
    Busy,
    /// This side has no room for another connection.
    #[error("{max} connections are open, no more are allowed; the peer was told to come back later")]
    Full {
        /// The limit.
        max: usize,
    },
    /// The handshake did not end in time.
    #[error("no handshake within {ms_max} ms; check that UDP reaches the peer")]
    HandshakeTimeout {
        /// The limit.
        ms_max: u64,
    },
    /// The hello, or the answer to it, did not come in time.
    #[error("the peer is connected but said no hello within {ms_max} ms")]
    HelloTimeout {
        /// The limit.
        ms_max: u64,
    },
    /// The broker answered the hello with a refusal.
    #[error("the broker refused the session ({}): {text}", reason.as_str_name())]
    Refused {
        /// The broker's reason.
        reason: Reason,
        /// The broker's sentence.
        text: String,
    },
    /// The broker's answer names no reason that this protocol knows.
    #[error("the broker answered the hello with reason {0}, which this version does not know")]
    UnknownReason(i32),
    /// The peer closed the connection.
    #[error("the peer closed the connection: {code}{}", said(text))]
    Closed {
        /// The peer's code.
        code: CloseCode,
        /// The peer's words.
        text: String,
    },
    /// The peer closed the connection with a code from another version.
    #[error("the peer closed the connection with code {0}, which this version does not know")]
    ClosedUnknown(u64),
    /// This side closed the connection.
    #[error("this side has closed the connection")]
    ClosedHere,
    /// Nothing was heard for too long.
    #[error("nothing was heard from the peer for too long; the network or the peer is down")]
    Silent,
    /// The peer has forgotten the connection.
    #[error("the peer has forgotten the connection, it was probably restarted; connect again")]
    Forgotten,
    /// One side broke QUIC or TLS.
    #[error("QUIC failed: {0}")]
    Transport(String),
    /// A frame header that is not one.
    #[error("the peer sent no valid frame: {0}")]
    Frame(FrameError),
    /// A frame of this side's that may not be sent.
    #[error("this frame cannot be sent: {0}")]
    Unsendable(FrameError),
    /// A payload that is not the one canonical encoding of its message.
    #[error("the peer sent no valid message: {0}")]
    Decode(#[from] DecodeError),
    /// A valid frame in the wrong place.
    #[error("the peer sent a {have:?} frame where none belongs")]
    UnexpectedFrame {
        /// Type that came.
        have: FrameType,
    },
    /// The stream ended inside a frame, or before one that belongs there.
    #[error("the peer ended the stream where {missing} bytes or more were still due")]
    Truncated {
        /// Bytes of the frame still missing, as far as known.
        missing: usize,
    },
    /// The peer stopped in the middle of something.
    #[error("the peer sent or took nothing for too long in the middle of a transfer (limit {ms_max} ms)")]
    Stalled {
        /// The limit, with what the length of the frame allows.
        ms_max: u64,
    },
    /// The peer abandoned the stream that it was sending.
    #[error("the peer abandoned its stream (code {0})")]
    StreamReset(u64),
    /// The peer no longer reads what this side sends.
    #[error("the peer no longer reads this stream (code {0})")]
    StreamStopped(u64),
    /// The stream was ended on this side.
    #[error("this side has ended the stream")]
    StreamEnded,
    /// Something other than a question about the directory was to be sent to a peer that nobody vouches for.
    #[error(
        "a peer that the directory does not know may be asked for a directory and nothing else; this is a fault \
         in the calling program"
    )]
    UntrustedPeer,
    /// Raw bytes were asked for inside a frame.
    #[error("raw bytes were asked for inside a frame; this is a fault in the calling program")]
    InsideFrame,
}

/// A peer's words, if it says any.
fn said(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" (it says `{text}`)") }
}

impl LinkError {
    /// What the peer sees when a connection is closed because of this error.
    #[must_use]
    pub fn close_code(&self) -> CloseCode {
        match self {
            Self::Frame(_)
            | Self::Decode(_)
            | Self::UnexpectedFrame { .. }
            | Self::Truncated { .. }
            | Self::UnknownReason(_)
            | Self::Foreign
            | Self::Transport(_) => CloseCode::ProtocolViolation,
            Self::UnknownPeer => CloseCode::NotAMember,
            Self::HandshakeTimeout { .. } | Self::HelloTimeout { .. } => CloseCode::HelloTimeout,
            Self::Stalled { .. } => CloseCode::Stalled,
            Self::Full { .. } => CloseCode::Busy,
            Self::Socket { .. }
            | Self::NoRuntime
            | Self::Tls(_)
            | Self::InitialCipher
            | Self::Address { .. }
            | Self::NotAdmitted
            | Self::Busy
            | Self::Refused { .. }
            | Self::Closed { .. }
            | Self::ClosedUnknown(_)
            | Self::ClosedHere
            | Self::Silent
            | Self::Forgotten
            | Self::Unsendable(_)
            | Self::StreamReset(_)
            | Self::StreamStopped(_)
            | Self::StreamEnded
            | Self::UntrustedPeer
            | Self::InsideFrame => CloseCode::Done,
        }
    }
}

impl From<ConnectionError> for LinkError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::VersionMismatch => Self::Foreign,
            ConnectionError::TransportError(error) => {
                if error.code == TransportErrorCode::crypto(alert::ACCESS_DENIED) {
                    Self::UnknownPeer
                } else {
                    broken(error.code, error.to_string())
                }
            }
            ConnectionError::ConnectionClosed(close) => {
                if close.error_code == TransportErrorCode::crypto(alert::ACCESS_DENIED) {
                    Self::NotAdmitted
                } else if close.error_code == TransportErrorCode::CONNECTION_REFUSED {
                    Self::Busy
                } else {
                    broken(close.error_code, close.to_string())
                }
            }
            ConnectionError::ApplicationClosed(close) => {
                let number = close.error_code.into_inner();
                match CloseCode::from_wire(number) {
                    Some(CloseCode::NotAMember) => Self::NotAdmitted,
                    Some(CloseCode::Busy) => Self::Busy,
                    Some(code) => {
                        let text = printable(&String::from_utf8_lossy(&close.reason));
                        Self::Closed { code, text }
                    }
                    None => Self::ClosedUnknown(number),
                }
            }
            ConnectionError::Reset => Self::Forgotten,
            ConnectionError::TimedOut => Self::Silent,
            ConnectionError::LocallyClosed => Self::ClosedHere,
            ConnectionError::CidsExhausted => Self::Transport("no connection ids are left".to_owned()),
        }
    }
}

impl From<ReadError> for LinkError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::StreamReset(code.into_inner()),
            ReadError::ConnectionLost(error) => error.into(),
            ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => {
                Self::StreamEnded
            }
        }
    }
}

impl From<WriteError> for LinkError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(code) => Self::StreamStopped(code.into_inner()),
            WriteError::ConnectionLost(error) => error.into(),
            WriteError::ClosedStream | WriteError::ZeroRttRejected => Self::StreamEnded,
        }
    }
}

/// Text of a peer, safe to print: at most [`SENTENCE_BYTES_MAX`] characters, control characters escaped.
pub(crate) fn printable(text: &str) -> String {
    text.chars().take(SENTENCE_BYTES_MAX).flat_map(char::escape_debug).collect()
}

fn broken(code: TransportErrorCode, text: String) -> LinkError {
    let foreign = [alert::HANDSHAKE_FAILURE, alert::PROTOCOL_VERSION, alert::NO_APPLICATION_PROTOCOL];
    if foreign.into_iter().map(TransportErrorCode::crypto).any(|foreign| foreign == code) {
        LinkError::Foreign
    } else {
        LinkError::Transport(printable(&text))
    }
}
