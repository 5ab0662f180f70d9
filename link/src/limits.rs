//! Every limit of the transport, with its unit and its reason.
//!
//! [`Limits::default`] is what a region runs on; tests shorten the times.

/// Bytes that a peer may send on one stream before this side has read them: 40 MB/s over 100 ms. What waits unread costs
/// memory, and is no longer in any cache when it is read.
pub const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Bytes that a peer may send on all streams together before this side has read them.
pub const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// Bytes sent and not yet acknowledged that a connection keeps for retransmission.
pub const SEND_WINDOW_BYTES: u64 = 8 * 1024 * 1024;
/// Socket buffers asked of the kernel, bytes each way. Below it, bursts of segmented sends are dropped.
pub const SOCKET_BUFFER_BYTES: usize = 8 * 1024 * 1024;
/// Streams that a peer may have open at once: the session and some blob transfers.
pub const STREAMS_MAX: u32 = 16;
/// Silence after which a connection is dead, milliseconds (RFC 9308 section 3.2).
pub const IDLE_MS_MAX: u32 = 30_000;
/// How often a node breaks its own silence, milliseconds: several tries before [`IDLE_MS_MAX`], often enough
/// to keep a NAT binding, and to be told soon by a broker that was started again.
pub const KEEP_ALIVE_MS: u64 = 5_000;
/// Longest QUIC and TLS handshake, milliseconds: three round trips by satellite, with losses.
pub const HANDSHAKE_MS_MAX: u64 = 10_000;
/// Longest wait for a hello or for its answer, milliseconds.
pub const HELLO_MS_MAX: u64 = 10_000;
/// Longest pause of a peer inside a frame, inside a raw transfer, or in reading what is sent, milliseconds.
pub const STALL_MS_MAX: u64 = 30_000;
/// Slowest acceptable frame, bytes a second: a frame of `n` bytes has [`STALL_MS_MAX`] plus `n` over this.
pub const FRAME_BYTES_PER_SECOND_MIN: u64 = 2 * 1024;
/// Most handshakes in progress.
pub const HANDSHAKES_MAX: usize = 256;
/// Most handshakes in progress from one address (IPv4) or one /64 (IPv6).
pub const HANDSHAKES_PER_ADDRESS_MAX: usize = 64;
/// Handshakes in progress from which on an address must first prove itself by a retry (RFC 9000 section
/// 8.1.2). Below [`HANDSHAKES_PER_ADDRESS_MAX`], so forged addresses cannot use up anybody's share.
pub const RETRY_ABOVE_HANDSHAKES: usize = 32;
/// Handshakes started per second, lasting. One costs the broker 1.2 ms of a core in an unoptimised build (a hybrid key
/// exchange, a signature made, one checked; measured in memory), so the worst that anybody can do is half a core.
pub const STARTS_PER_SECOND_MAX: u32 = 400;
/// Handshakes started at once after a rest: a whole region that comes back ([`CONNECTIONS_MAX`]) is let in.
pub const STARTS_BURST: u32 = 1_024;
/// Handshakes started per second, lasting, from one address (IPv4) or one /64 (IPv6). A thousand nodes behind one
/// address that come back together after a restart of the broker, each trying again after pauses that double from
/// 0.2 to 30 seconds, are all in within a minute; one hostile address costs a sixteenth of a core and leaves seven
/// eighths of [`STARTS_PER_SECOND_MAX`] to others.
pub const STARTS_PER_ADDRESS_PER_SECOND_MAX: u32 = 50;
/// Handshakes started at once after a rest from one address or /64.
///
/// Half of this and half of [`STARTS_BURST`] is kept for addresses that have answered a retry: attempts under forged
/// addresses can use up neither the whole nor anybody's share.
pub const STARTS_PER_ADDRESS_BURST: u32 = 256;
/// Addresses remembered for their rate. When so many are, those at rest are forgotten. An address rests again after
/// a fiftieth of a second for each start; as starts are limited in all, never more than about 1,300 are not at rest,
/// so there is always room.
pub const SHARES_MAX: usize = 4_096;
/// Attempts waiting to be accepted; more are refused unseen.
pub const INCOMING_MAX: usize = 256;
/// Bytes kept for one attempt waiting to be accepted; a hybrid ClientHello takes two datagrams.
pub const INCOMING_BYTES_MAX: u64 = 16 * 1024;
/// Bytes kept for all attempts waiting to be accepted.
pub const INCOMING_TOTAL_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// TLS handshake bytes that may wait out of order, for one connection.
pub const CRYPTO_BUFFER_BYTES_MAX: usize = 16 * 1024;
/// Connections in any state, also those just refused, which linger for three probe timeouts (RFC 9000
/// section 10.2). About 20 KiB each.
pub const OPEN_MAX: usize = 8_192;
/// Authenticated connections.
pub const CONNECTIONS_MAX: usize = 1_024;
/// Authenticated connections of one peer, over all its keys. One more ends the oldest: a node that comes back
/// after its address changed must not wait for its dead connections.
pub const CONNECTIONS_PER_PEER_MAX: usize = 8;
/// Connections to brokers that the directory does not know, of one node.
pub const UNTRUSTED_CONNECTIONS_MAX: usize = 4;
/// Bytes that such a broker may send before this side has read them: a directory comes soon enough with it.
pub const UNTRUSTED_WINDOW_BYTES: u32 = 1024 * 1024;
/// Most bytes taken from a stream at once.
pub const READ_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a raw transfer that are gathered before they are handed on.
pub const RAW_GROUP_BYTES: usize = 256 * 1024;
/// How long they are gathered on a slow line, milliseconds: a person may watch how far it is.
pub const RAW_GROUP_MS_MAX: u64 = 500;
/// Most pieces of a raw transfer taken from a stream at once; each is at most a datagram.
pub const RAW_PIECES_MAX: usize = 64;
/// Such groups of a transfer that are received and not yet written.
pub const RAW_GROUPS_MAX: usize = 3;
/// Payloads up to this many bytes are copied behind their header; longer ones are sent from where they are.
pub const COALESCE_BYTES_MAX: usize = 4 * 1024;
/// Bytes gathered before a group of frames is handed to the connection.
pub const GROUP_BYTES_MAX: usize = 256 * 1024;
/// Longest text sent with a close code, bytes; it must fit one packet.
pub const CLOSE_TEXT_BYTES_MAX: usize = 256;

/// The limits that one endpoint runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// See [`IDLE_MS_MAX`].
    pub idle_ms_max: u32,
    /// See [`KEEP_ALIVE_MS`].
    pub keep_alive_ms: u64,
    /// See [`HANDSHAKE_MS_MAX`].
    pub handshake_ms_max: u64,
    /// See [`HELLO_MS_MAX`].
    pub hello_ms_max: u64,
    /// See [`STALL_MS_MAX`].
    pub stall_ms_max: u64,
    /// See [`FRAME_BYTES_PER_SECOND_MIN`]; 0 counts as 1.
    pub frame_bytes_per_second_min: u64,
    /// See [`HANDSHAKES_MAX`].
    pub handshakes_max: usize,
    /// See [`HANDSHAKES_PER_ADDRESS_MAX`].
    pub handshakes_per_address_max: usize,
    /// See [`RETRY_ABOVE_HANDSHAKES`].
    pub retry_above_handshakes: usize,
    /// See [`STARTS_PER_SECOND_MAX`]; 0 counts as 1.
    pub starts_per_second_max: u32,
    /// See [`STARTS_BURST`].
    pub starts_burst: u32,
    /// See [`STARTS_PER_ADDRESS_PER_SECOND_MAX`]; 0 counts as 1.
    pub starts_per_address_per_second_max: u32,
    /// See [`STARTS_PER_ADDRESS_BURST`].
    pub starts_per_address_burst: u32,
    /// See [`SHARES_MAX`].
    pub shares_max: usize,
    /// See [`OPEN_MAX`].
    pub open_max: usize,
    /// See [`CONNECTIONS_MAX`].
    pub connections_max: usize,
    /// See [`CONNECTIONS_PER_PEER_MAX`].
    pub connections_per_peer_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            idle_ms_max: IDLE_MS_MAX,
            keep_alive_ms: KEEP_ALIVE_MS,
            handshake_ms_max: HANDSHAKE_MS_MAX,
            hello_ms_max: HELLO_MS_MAX,
            stall_ms_max: STALL_MS_MAX,
            frame_bytes_per_second_min: FRAME_BYTES_PER_SECOND_MIN,
            handshakes_max: HANDSHAKES_MAX,
            handshakes_per_address_max: HANDSHAKES_PER_ADDRESS_MAX,
            retry_above_handshakes: RETRY_ABOVE_HANDSHAKES,
            starts_per_second_max: STARTS_PER_SECOND_MAX,
            starts_burst: STARTS_BURST,
            starts_per_address_per_second_max: STARTS_PER_ADDRESS_PER_SECOND_MAX,
            starts_per_address_burst: STARTS_PER_ADDRESS_BURST,
            shares_max: SHARES_MAX,
            open_max: OPEN_MAX,
            connections_max: CONNECTIONS_MAX,
            connections_per_peer_max: CONNECTIONS_PER_PEER_MAX,
        }
    }
}
