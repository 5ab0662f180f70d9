//! A session with a broker, as a node has it.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use lintas_config::issue::seed;
use lintas_link::{
    Client, Connection, FrameReader, FrameWriter, LinkError, PeerDirectory, TransportKey, greet,
};
use lintas_proto::{
    canonical,
    frame::FrameType,
    limits,
    schema::{Hello, NodeSecrets, Refusal},
};
use lintas_tests::region::now_ms;

use super::drive::{Answers, Sending};

/// The broker's key is in the region that this run founded; whose it is, is not what is measured.
#[derive(Debug)]
struct Anybody;

impl PeerDirectory for Anybody {
    fn admits(&self, _: &[u8; 32]) -> bool {
        true
    }
}

/// The sending half.
pub(crate) struct Sender {
    pub(super) writer: FrameWriter,
    pub(crate) connection: Connection,
    _client: Arc<Client>,
}

/// The hearing half.
pub(crate) struct Hearer {
    pub(super) reader: FrameReader,
    _client: Arc<Client>,
}

/// Addresses of this machine that many come from: an address may begin 50 handshakes in a second.
const ADDRESSES: usize = 25;

/// Where the one of this number comes from.
pub(crate) fn spread(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, (1 + number % ADDRESSES) as u8)
}

/// Connects as the agency whose secrets lie in that file.
pub(super) async fn connect(broker: SocketAddr, secrets: &Path) -> (Sender, Hearer) {
    connect_from(Ipv4Addr::LOCALHOST.into(), broker, secrets).await
}

/// As [`connect`], from another address of this machine.
pub(crate) async fn connect_from(from: IpAddr, broker: SocketAddr, secrets: &Path) -> (Sender, Hearer) {
    let bytes = Bytes::from(fs::read(secrets).unwrap());
    let secrets: NodeSecrets = canonical::decode(&bytes, limits::FRAME_BYTES_MAX).unwrap();
    let key = TransportKey::from_seed(&seed("transport", &secrets.transport_seed).unwrap()).unwrap();
    let client = Client::bind(SocketAddr::from((from, 0)), &key, Arc::new(Anybody)).unwrap();
    let connection = client.connect(broker).await.unwrap();
    let hello = Hello {
        protocol: 1,
        region: secrets.region.clone(),
        agency: secrets.agency.clone(),
        roster_version: 1,
        keyset_version: 1,
        slot_key: secrets.slot_key.clone(),
        time_ms: now_ms(),
        software: "lintas-bench".to_owned(),
        ..Hello::default()
    };
    let (_, writer, reader) = greet(&connection, &hello).await.unwrap();
    let client = Arc::new(client);
    (Sender { writer, connection, _client: Arc::clone(&client) }, Hearer { reader, _client: client })
}

impl Sending for Sender {
    async fn send(&mut self, packets: Vec<Bytes>) {
        let frames = packets.into_iter().map(|packet| (FrameType::Submission, packet));
        self.writer.send_many(frames).await.unwrap();
    }
}

impl Hearer {
    /// Waits until the session ends; what comes meanwhile is left unanswered. Why it ended.
    pub(crate) async fn ended(mut self) -> LinkError {
        loop {
            match self.reader.next().await {
                Ok(Some(_)) => {}
                Ok(None) => return LinkError::StreamEnded,
                Err(error) => return error,
            }
        }
    }
}

impl Answers for Hearer {
    async fn next(&mut self) -> Option<String> {
        loop {
            let (kind, payload) = self.reader.next().await.unwrap().expect("the broker ended the session");
            if kind == FrameType::Receipt {
                return None;
            }
            if kind == FrameType::Refusal {
                let refusal: Refusal = canonical::decode(&payload, kind.bytes_max()).unwrap();
                return Some(format!("{refusal:?}"));
            }
        }
    }
}
