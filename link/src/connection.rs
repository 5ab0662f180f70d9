//! One authenticated peer: its key, its streams, and how the connection ends.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use quinn::VarInt;

use crate::{
    error::LinkError,
    framed::{FrameReader, FrameWriter},
    limits::{CLOSE_TEXT_BYTES_MAX, Limits},
    registry::{Registry, Seat},
    tls::parse_spki,
};

/// Why a connection was closed, as the other side sees it (RFC 9000 section 20.2). Numbers are stable; a
/// retired one is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum CloseCode {
    /// Nothing more to say.
    Done = 0,
    /// The directory does not list this key.
    NotAMember = 1,
    /// The other side broke the protocol.
    ProtocolViolation = 2,
    /// This side is going down; connect again later.
    ShuttingDown = 3,
    /// The key has left the directory.
    DirectoryChanged = 4,
    /// No hello, or no answer to it, in time.
    HelloTimeout = 5,
    /// A newer connection of the same peer took this one's place.
    Superseded = 6,
    /// Too many connections; connect again later.
    Busy = 7,
    /// The hello was answered with a refusal.
    Refused = 8,
    /// The other side stopped in the middle of something.
    Stalled = 9,
}

impl CloseCode {
    /// The code with this number on the wire.
    #[must_use]
    pub fn from_wire(number: u64) -> Option<Self> {
        Some(match number {
            0 => Self::Done,
            1 => Self::NotAMember,
            2 => Self::ProtocolViolation,
            3 => Self::ShuttingDown,
            4 => Self::DirectoryChanged,
            5 => Self::HelloTimeout,
            6 => Self::Superseded,
            7 => Self::Busy,
            8 => Self::Refused,
            9 => Self::Stalled,
            _ => return None,
        })
    }

    /// The number on the wire.
    pub(crate) fn wire(self) -> VarInt {
        VarInt::from_u32(u32::from(self as u8))
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "nothing more to say",
            Self::NotAMember => "the directory does not list this key",
            Self::ProtocolViolation => "this side broke the protocol",
            Self::ShuttingDown => "the peer is shutting down, connect again later",
            Self::DirectoryChanged => "this side's key has left the directory",
            Self::HelloTimeout => "the hello did not come in time",
            Self::Superseded => "a newer connection of the same peer took this one's place",
            Self::Busy => "the peer has too many connections, connect again later",
            Self::Refused => "the hello was refused",
            Self::Stalled => "this side stopped in the middle of something",
        })
    }
}

/// A connection whose peer has proved a key that the directory admits.
///
/// Clones are the same connection. It closes when the last clone and the last half of its streams are gone.
#[derive(Debug, Clone)]
pub struct Connection {
    inner: quinn::Connection,
    peer_key: [u8; 32],
    limits: Limits,
    seat: Arc<Seat>,
}

impl Connection {
    /// Reads the key that the handshake proved, and takes a seat.
    pub(crate) fn seated(
        inner: quinn::Connection,
        registry: &Arc<Registry>,
        limits: Limits,
    ) -> Result<Self, LinkError> {
        let identity = inner.peer_identity().and_then(|any| any.downcast().ok());
        let keys: Box<Vec<rustls::pki_types::CertificateDer<'static>>> =
            identity.ok_or(LinkError::UnknownPeer)?;
        let [spki] = keys.as_slice() else {
            return Err(LinkError::UnknownPeer);
        };
        let peer_key = parse_spki(spki)?;
        let seat = registry.enter(peer_key, &inner)?;
        Ok(Self { inner, peer_key, limits, seat })
    }

    /// The 32-byte Ed25519 public key that the peer proved.
    #[must_use]
    pub fn peer_key(&self) -> [u8; 32] {
        self.peer_key
    }

    /// Where the peer's packets come from now; it may change during a connection (RFC 9000 section 9).
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        self.inner.remote_address()
    }

    /// Current estimate of the round trip time.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        self.inner.rtt()
    }

    /// A number that no other live connection of this process has.
    #[must_use]
    pub fn stable_id(&self) -> usize {
        self.inner.stable_id()
    }

    /// The limits that this connection runs on.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Opens a stream; waits while [`STREAMS_MAX`](crate::limits::STREAMS_MAX) of this side are open. The
    /// peer sees it with the first byte sent. Safe to cancel.
    ///
    /// # Errors
    /// Why the connection ended.
    pub async fn open_stream(&self) -> Result<(FrameWriter, FrameReader), LinkError> {
        Ok(self.frame(self.inner.open_bi().await?))
    }

    /// Waits for a stream that the peer opens. Safe to cancel.
    ///
    /// # Errors
    /// Why the connection ended.
    pub async fn accept_stream(&self) -> Result<(FrameWriter, FrameReader), LinkError> {
        Ok(self.frame(self.inner.accept_bi().await?))
    }

    /// Ends the connection at once; what is on its way is lost. `text` is for the peer's log and is cut
    /// after [`CLOSE_TEXT_BYTES_MAX`] bytes.
    pub fn close(&self, code: CloseCode, text: &str) {
        close(&self.inner, code, text);
    }

    /// Ends the connection because of `error`, with the code that [`LinkError::close_code`] names. The peer
    /// sees the code only; the reason belongs in this side's log.
    pub fn fail(&self, error: &LinkError) {
        self.close(error.close_code(), "");
    }

    /// Waits until the connection has ended; says why. Safe to cancel.
    pub async fn closed(&self) -> LinkError {
        self.inner.closed().await.into()
    }

    fn frame(&self, (send, receive): (quinn::SendStream, quinn::RecvStream)) -> (FrameWriter, FrameReader) {
        (
            FrameWriter::new(send, self.limits, Arc::clone(&self.seat)),
            FrameReader::new(receive, self.limits, Arc::clone(&self.seat)),
        )
    }
}

/// Closes with a code and a text for the peer's log.
pub(crate) fn close(connection: &quinn::Connection, code: CloseCode, text: &str) {
    connection.close(code.wire(), cut(text));
}

/// A closing text short enough for one packet.
pub(crate) fn cut(text: &str) -> &[u8] {
    let text = text.as_bytes();
    text.get(..CLOSE_TEXT_BYTES_MAX).unwrap_or(text)
}
