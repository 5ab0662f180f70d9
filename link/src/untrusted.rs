//! A connection to a broker whose key this node's directory does not know: good for asking for a directory,
//! which carries its own signatures, and for nothing else.

use std::net::SocketAddr;

use lintas_proto::frame::FrameType;

use crate::{
    connection::{CloseCode, Connection},
    error::LinkError,
    framed::{FrameReader, FrameWriter},
    tls::PeerDirectory,
};

/// Admits every key. Of [`Client::connect_to_anyone`](crate::Client::connect_to_anyone) only.
#[derive(Debug)]
pub(crate) struct Anyone;

impl PeerDirectory for Anyone {
    fn admits(&self, _transport_key: &[u8; 32]) -> bool {
        true
    }
}

/// A connection whose peer has proved a key that nobody vouches for.
///
/// It is no [`Connection`], so no session begins on it, and its streams send `DirectoryGet` frames only:
/// what comes back must prove itself by its own signatures. The peer may open no stream.
///
/// ```compile_fail
/// async fn session(peer: lintas_link::UntrustedConnection, hello: lintas_proto::schema::Hello) {
///     lintas_link::greet(&peer, &hello).await.unwrap();
/// }
/// ```
#[derive(Debug)]
pub struct UntrustedConnection(Connection);

impl UntrustedConnection {
    pub(crate) fn new(connection: Connection) -> Self {
        Self(connection)
    }

    /// The 32-byte Ed25519 public key that the peer proved.
    #[must_use]
    pub fn peer_key(&self) -> [u8; 32] {
        self.0.peer_key()
    }

    /// Where the peer's packets come from now.
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        self.0.remote_address()
    }

    /// Opens a stream for a question about the directory. Safe to cancel.
    ///
    /// The writer refuses raw bytes and every frame but `DirectoryGet` ([`LinkError::UntrustedPeer`]).
    ///
    /// # Errors
    /// Why the connection ended; [`LinkError::NotAdmitted`] when the broker does not know this node's key.
    pub async fn open_stream(&self) -> Result<(FrameWriter, FrameReader), LinkError> {
        let (writer, reader) = self.0.open_stream().await?;
        Ok((writer.only(FrameType::DirectoryGet), reader))
    }

    /// Ends the connection at once; as [`Connection::close`].
    pub fn close(&self, code: CloseCode, text: &str) {
        self.0.close(code, text);
    }

    /// Waits until the connection has ended; says why. Safe to cancel.
    pub async fn closed(&self) -> LinkError {
        self.0.closed().await
    }
}
