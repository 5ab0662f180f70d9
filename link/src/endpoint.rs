//! The UDP socket, the transport parameters, and the two ways to a connection: accept and connect.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use aws_lc_rs::hmac;
use lintas_proto::id::sha256;
use quinn::{ClientConfig, Endpoint, EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::{Instant, timeout};

use crate::{
    connection::{CloseCode, Connection, cut},
    connection_ids::RecognisedIds,
    error::LinkError,
    gate::{Decision, Gate, Ticket},
    limits::{
        CONNECTION_WINDOW_BYTES, CRYPTO_BUFFER_BYTES_MAX, INCOMING_BYTES_MAX, INCOMING_MAX,
        INCOMING_TOTAL_BYTES_MAX, Limits, SEND_WINDOW_BYTES, SOCKET_BUFFER_BYTES, STREAM_WINDOW_BYTES,
        STREAMS_MAX, UNTRUSTED_CONNECTIONS_MAX, UNTRUSTED_WINDOW_BYTES,
    },
    registry::Registry,
    tls::{self, PeerDirectory, TransportKey},
    untrusted::{Anyone, UntrustedConnection},
};

/// What the TLS interface wants as a name. Nothing is checked against it and it is not sent: a raw key is
/// the identity (RFC 7250 section 4).
const SERVER_NAME: &str = "broker.lintas";

/// The broker's side: accepts nodes.
///
/// Dropped, it closes its connections: none may outlive the directory that can end it.
#[derive(Debug)]
pub struct Server {
    endpoint: Endpoint,
    registry: Arc<Registry>,
    gate: Arc<Gate>,
    limits: Limits,
}

impl Server {
    /// Listens on `address` with the default [`Limits`].
    ///
    /// # Errors
    /// [`LinkError::Socket`], [`LinkError::NoRuntime`], [`LinkError::Tls`].
    pub fn bind(
        address: SocketAddr,
        key: &TransportKey,
        directory: Arc<dyn PeerDirectory>,
    ) -> Result<Self, LinkError> {
        Self::bind_with(address, key, directory, Limits::default())
    }

    /// Listens on `address`.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn bind_with(
        address: SocketAddr,
        key: &TransportKey,
        directory: Arc<dyn PeerDirectory>,
        limits: Limits,
    ) -> Result<Self, LinkError> {
        let crypto = tls::quic_server(key, Arc::clone(&directory))?;
        let mut config = ServerConfig::with_crypto(Arc::new(crypto));
        config
            .transport_config(Arc::new(transport(&limits)))
            .max_incoming(INCOMING_MAX)
            .incoming_buffer_size(INCOMING_BYTES_MAX)
            .incoming_buffer_size_total(INCOMING_TOTAL_BYTES_MAX);
        // A token that outlives the connection would let a stranger skip the retry under load.
        config.validation_token.sent(0).log(Arc::new(quinn::NoneTokenLog));
        let endpoint = open(address, key, Some(config))?;
        let registry = Registry::new(directory, limits);
        Ok(Self { endpoint, registry, gate: Gate::new(limits), limits })
    }

    /// Waits for the next node; none when the server is closed.
    ///
    /// Returns before the handshake, which is to be completed in a task of its own: a slow peer holds up
    /// nobody. While too many handshakes are in progress or were begun of late, attempts are retried or refused here, unseen. Safe
    /// to cancel.
    pub async fn accept(&self) -> Option<Handshake> {
        loop {
            let incoming = self.endpoint.accept().await?;
            let address = incoming.remote_address();
            let validated = incoming.remote_address_validated();
            match self.gate.decide(address.ip(), validated, self.endpoint.open_connections(), Instant::now())
            {
                Decision::Start(ticket) => {
                    let registry = Arc::clone(&self.registry);
                    return Some(Handshake { incoming, registry, limits: self.limits, _ticket: ticket });
                }
                // Cannot fail: an address that is not validated may be retried.
                Decision::Retry => drop(incoming.retry()),
                Decision::Refuse => {
                    tracing::debug!(%address, "too many handshakes, one refused");
                    incoming.refuse();
                }
            }
        }
    }

    /// To be called after the directory has changed: closes every live connection whose key it no longer
    /// admits, or gives to another peer ([`CloseCode::DirectoryChanged`]), and returns how many.
    #[must_use = "the number belongs in the log"]
    pub fn recheck(&self) -> usize {
        self.registry.recheck()
    }

    /// Number of authenticated connections.
    #[must_use]
    pub fn live(&self) -> usize {
        self.registry.live()
    }

    /// The address that the server listens on.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Closes every connection and accepts no more.
    pub fn close(&self, code: CloseCode, text: &str) {
        self.endpoint.close(code.wire(), cut(text));
    }

    /// Waits until every connection has ended and its peer has had time to learn it.
    pub async fn wait_idle(&self) {
        self.endpoint.wait_idle().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.close(CloseCode::ShuttingDown, "");
    }
}

/// A handshake that has not begun. Dropped, it refuses the peer.
#[derive(Debug)]
pub struct Handshake {
    incoming: quinn::Incoming,
    registry: Arc<Registry>,
    limits: Limits,
    /// Its slot in the gate, given back when the handshake ends either way.
    _ticket: Ticket,
}

impl Handshake {
    /// Where the peer's packets come from.
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        self.incoming.remote_address()
    }

    /// Whether the address has been proved by a retry (RFC 9000 section 8.1.2).
    #[must_use]
    pub fn is_validated(&self) -> bool {
        self.incoming.remote_address_validated()
    }

    /// Completes the handshake, within its limit: the peer has then proved a key that the directory admits.
    ///
    /// # Errors
    /// [`LinkError::UnknownPeer`] for a stranger; [`LinkError::HandshakeTimeout`]; [`LinkError::Full`];
    /// [`LinkError::Foreign`].
    pub async fn complete(self) -> Result<Connection, LinkError> {
        let Self { incoming, registry, limits, _ticket } = self;
        let connection = in_time(incoming.accept()?, &limits).await?;
        Connection::seated(connection, &registry, limits)
    }
}

/// The node's side: connects to brokers.
///
/// Dropped, it closes its connections: none may outlive the directory that can end it.
#[derive(Debug)]
pub struct Client {
    endpoint: Endpoint,
    registry: Arc<Registry>,
    config: ClientConfig,
    /// Connections to brokers that the directory does not know, and the TLS settings that allow them.
    untrusted: (Arc<Registry>, ClientConfig),
    limits: Limits,
}

impl Client {
    /// Sends from `address` (port 0 for any), with the default [`Limits`].
    ///
    /// # Errors
    /// [`LinkError::Socket`], [`LinkError::NoRuntime`], [`LinkError::Tls`].
    pub fn bind(
        address: SocketAddr,
        key: &TransportKey,
        directory: Arc<dyn PeerDirectory>,
    ) -> Result<Self, LinkError> {
        Self::bind_with(address, key, directory, Limits::default())
    }

    /// Sends from `address` (port 0 for any).
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn bind_with(
        address: SocketAddr,
        key: &TransportKey,
        directory: Arc<dyn PeerDirectory>,
        limits: Limits,
    ) -> Result<Self, LinkError> {
        let mut trusted = transport(&limits);
        trusted.keep_alive_interval(Some(Duration::from_millis(limits.keep_alive_ms)));
        let mut asking = transport(&limits);
        asking
            .max_concurrent_bidi_streams(VarInt::from_u32(0))
            .stream_receive_window(VarInt::from_u32(UNTRUSTED_WINDOW_BYTES))
            .receive_window(VarInt::from_u32(UNTRUSTED_WINDOW_BYTES));
        let config = client_config(key, Arc::clone(&directory), trusted)?;
        let anyone: Arc<dyn PeerDirectory> = Arc::new(Anyone);
        let untrusted_limits = Limits { connections_max: UNTRUSTED_CONNECTIONS_MAX, ..limits };
        let untrusted =
            (Registry::new(Arc::clone(&anyone), untrusted_limits), client_config(key, anyone, asking)?);
        let endpoint = open(address, key, None)?;
        Ok(Self { endpoint, registry: Registry::new(directory, limits), config, untrusted, limits })
    }

    /// Connects to the broker at `address`, whose key must be one that the directory admits. The broker has
    /// perhaps not yet looked at this node's key; [`greet`](crate::greet) tells. Safe to cancel.
    ///
    /// # Errors
    /// [`LinkError::UnknownPeer`] for a false broker; [`LinkError::NotAdmitted`], [`LinkError::Busy`],
    /// [`LinkError::Foreign`], [`LinkError::HandshakeTimeout`], [`LinkError::Address`].
    pub async fn connect(&self, address: SocketAddr) -> Result<Connection, LinkError> {
        let connection = self.reach(self.config.clone(), address).await?;
        Connection::seated(connection, &self.registry, self.limits)
    }

    /// Connects to whoever answers at `address`: for a node whose directory is too old to know the broker's
    /// present key. The peer proves that it holds the key that it shows, not that anybody vouches for it; it learns
    /// this node's public key. Safe to cancel.
    ///
    /// # Errors
    /// As [`connect`](Self::connect); [`LinkError::UnknownPeer`] when the peer cannot sign for its key.
    pub async fn connect_to_anyone(&self, address: SocketAddr) -> Result<UntrustedConnection, LinkError> {
        let (registry, config) = &self.untrusted;
        let connection = self.reach(config.clone(), address).await?;
        Ok(UntrustedConnection::new(Connection::seated(connection, registry, self.limits)?))
    }

    async fn reach(&self, config: ClientConfig, address: SocketAddr) -> Result<quinn::Connection, LinkError> {
        let connecting = self
            .endpoint
            .connect_with(config, address, SERVER_NAME)
            .map_err(|problem| LinkError::Address { address, problem: problem.to_string() })?;
        in_time(connecting, &self.limits).await
    }

    /// As [`Server::recheck`], for brokers that have left the directory.
    #[must_use = "the number belongs in the log"]
    pub fn recheck(&self) -> usize {
        self.registry.recheck()
    }

    /// The address that the client sends from.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Closes every connection and opens no more.
    pub fn close(&self, code: CloseCode, text: &str) {
        self.endpoint.close(code.wire(), cut(text));
    }

    /// Waits until every connection has ended and its peer has had time to learn it.
    pub async fn wait_idle(&self) {
        self.endpoint.wait_idle().await;
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.close(CloseCode::Done, "");
    }
}

fn client_config(
    key: &TransportKey,
    directory: Arc<dyn PeerDirectory>,
    transport: TransportConfig,
) -> Result<ClientConfig, LinkError> {
    let mut config = ClientConfig::new(Arc::new(tls::quic_client(key, directory)?));
    config.transport_config(Arc::new(transport)).token_store(Arc::new(quinn::NoneTokenStore));
    Ok(config)
}

/// Waits for a handshake within its limit. Dropped on timeout, which closes it.
async fn in_time(connecting: quinn::Connecting, limits: &Limits) -> Result<quinn::Connection, LinkError> {
    let ms_max = limits.handshake_ms_max;
    let connected = timeout(Duration::from_millis(ms_max), connecting).await;
    Ok(connected.map_err(|_| LinkError::HandshakeTimeout { ms_max })??)
}

/// Transport parameters of both sides (RFC 9000 section 18.2).
///
/// Path MTU starts at 1,200 and is discovered from there: starting it at the size of a jumbo frame, with
/// segmentation offload, brought throughput down to a hundredth.
pub(crate) fn transport(limits: &Limits) -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .crypto_buffer_size(CRYPTO_BUFFER_BYTES_MAX)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(limits.idle_ms_max))))
        .enable_segmentation_offload(true);
    config
}

/// Opens the socket and starts the endpoint's task.
fn open(
    address: SocketAddr,
    key: &TransportKey,
    server: Option<ServerConfig>,
) -> Result<Endpoint, LinkError> {
    let runtime = quinn::default_runtime().ok_or(LinkError::NoRuntime)?;
    let failed = |source| LinkError::Socket { address, source };
    let socket = udp_socket(address).map_err(failed)?;
    Endpoint::new(endpoint_config(key, server.is_some()), server, socket.into(), runtime).map_err(failed)
}

/// A broker's connection ids and reset tokens follow from its transport key. After a crash the new process
/// recognises the ids of the old one and resets those connections (RFC 9000 section 10.3): a node need not wait
/// for [`IDLE_MS_MAX`](crate::limits::IDLE_MS_MAX) to learn that they are gone. A node's ids are random: nobody
/// can link them over networks and restarts.
fn endpoint_config(key: &TransportKey, server: bool) -> EndpointConfig {
    if !server {
        return EndpointConfig::default();
    }
    let reset = hmac::Key::new(hmac::HMAC_SHA256, key.restart.as_slice());
    let ids =
        hmac::Key::new(hmac::HMAC_SHA256, &sha256(&[b"lintas/v1/connection-ids\0", key.restart.as_slice()]));
    let mut config = EndpointConfig::new(Arc::new(reset));
    config.cid_generator(move || Box::new(RecognisedIds::new(ids.clone())));
    config
}

fn udp_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6()
        && let Err(cause) = socket.set_only_v6(false)
    {
        tracing::warn!(%address, %cause, "this socket speaks IPv6 only");
    }
    socket.set_nonblocking(true)?;
    enlarge(&socket);
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Asks for large buffers. A kernel that gives less costs throughput, not correctness.
fn enlarge(socket: &Socket) {
    let wanted = SOCKET_BUFFER_BYTES;
    let receive = socket.set_recv_buffer_size(wanted).and_then(|()| socket.recv_buffer_size());
    let send = socket.set_send_buffer_size(wanted).and_then(|()| socket.send_buffer_size());
    let (receive, send) = (receive.unwrap_or_default(), send.unwrap_or_default());
    if receive < wanted || send < wanted {
        tracing::warn!(wanted, receive, send, "UDP buffers are small; raise net.core.rmem_max and wmem_max");
    }
}
