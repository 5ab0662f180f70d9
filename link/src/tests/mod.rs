//! Real QUIC on the loopback address.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use lintas_proto::frame::FrameType;
use tokio::{sync::mpsc, time::timeout};

use crate::{
    Client, Connection, FrameReader, FrameWriter, Limits, LinkError, PeerDirectory, Server, TransportKey,
};

mod frames;
mod handshake;
mod identity;
mod session;
mod untrusted;

/// A directory that counts how often it is asked.
#[derive(Debug, Default)]
struct Book {
    keys: Mutex<HashSet<[u8; 32]>>,
    asked: AtomicUsize,
    /// Says no from this question on; 0 for never.
    no_from: AtomicUsize,
}

impl Book {
    fn of(keys: &[&TransportKey]) -> Arc<Self> {
        let book = Self::default();
        book.keys.lock().unwrap().extend(keys.iter().map(|key| key.public()));
        Arc::new(book)
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn clear(&self) {
        self.keys.lock().unwrap().clear();
    }
}

impl PeerDirectory for Book {
    fn admits(&self, transport_key: &[u8; 32]) -> bool {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let no_from = self.no_from.load(Ordering::SeqCst);
        (no_from == 0 || asked < no_from) && self.keys.lock().unwrap().contains(transport_key)
    }
}

fn key(number: u8) -> TransportKey {
    TransportKey::from_seed(&[number; 32]).unwrap()
}

fn broker_key() -> TransportKey {
    key(100)
}

fn member_key() -> TransportKey {
    key(1)
}

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// Long enough for a busy machine, short enough for a test that hangs.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), future).await.expect("takes too long")
}

/// A broker that accepts members, and a node that is one.
struct Region {
    server: Arc<Server>,
    /// What became of each handshake.
    accepted: mpsc::Receiver<Result<Connection, LinkError>>,
    members: Arc<Book>,
    brokers: Arc<Book>,
    client: Client,
    limits: Limits,
    address: SocketAddr,
}

impl Region {
    fn new(limits: Limits) -> Self {
        let (members, brokers) = (Book::of(&[&member_key()]), Book::of(&[&broker_key()]));
        let server = Server::bind_with(any_port(), &broker_key(), members.clone(), limits).unwrap();
        let (address, server) = (server.local_addr().unwrap(), Arc::new(server));
        let (results, accepted) = mpsc::channel(16);
        let listening = Arc::clone(&server);
        tokio::spawn(async move {
            while let Some(handshake) = listening.accept().await {
                let results = results.clone();
                tokio::spawn(async move {
                    let _ = results.send(handshake.complete().await).await;
                });
            }
        });
        let client = Client::bind_with(any_port(), &member_key(), brokers.clone(), limits).unwrap();
        Self { server, accepted, members, brokers, client, limits, address }
    }

    /// A client with another key.
    fn client_of(&self, key: &TransportKey) -> Client {
        Client::bind_with(any_port(), key, self.brokers.clone(), self.limits).unwrap()
    }

    /// What became of the next handshake.
    async fn accepted(&mut self) -> Result<Connection, LinkError> {
        soon(self.accepted.recv()).await.unwrap()
    }

    /// One connection, from both ends: the node's, the broker's.
    async fn connect(&mut self) -> (Connection, Connection) {
        let node = soon(self.client.connect(self.address)).await.unwrap();
        (node, self.accepted().await.unwrap())
    }
}

/// One stream of one connection, from both ends.
struct Pipe {
    node: Connection,
    broker: Connection,
    to_broker: FrameWriter,
    from_broker: FrameReader,
    to_node: FrameWriter,
    from_node: FrameReader,
    _region: Region,
}

impl Pipe {
    /// A stream exists for the broker once the node has sent on it: one frame, read here, then `start` as
    /// it stands.
    async fn new(limits: Limits, start: &'static [u8]) -> Self {
        let mut region = Region::new(limits);
        let (node, broker) = region.connect().await;
        let (mut to_broker, from_broker) = node.open_stream().await.unwrap();
        to_broker.send(FrameType::Hello, Bytes::new()).await.unwrap();
        let (to_node, mut from_node) = soon(broker.accept_stream()).await.unwrap();
        assert_eq!(soon(from_node.next()).await.unwrap(), Some((FrameType::Hello, Bytes::new())));
        to_broker.write_raw(Bytes::from_static(start)).await.unwrap();
        Self { node, broker, to_broker, from_broker, to_node, from_node, _region: region }
    }
}
