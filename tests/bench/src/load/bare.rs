//! A stream to the bare server ([`crate::bare`]).

use std::{fs, net::SocketAddr, path::Path, time::Instant};

use bytes::{Buf as _, Bytes};
use lintas_config::issue::seed;
use lintas_proto::{
    canonical, limits,
    schema::NodeSecrets,
    sign::{KeyRole, SigningKey},
};
use quinn::{Connection, Endpoint, RecvStream, SendStream};

use super::{
    Told,
    drive::{Answers, Sending},
};
use crate::bare::{ANSWER_BYTES, KEY_BYTES, quic};

/// Bytes handed over at once of a bulk.
const BULK_BYTES: usize = 256 * 1024;

/// The sending half.
pub(crate) struct Sender {
    stream: SendStream,
    _held: (Endpoint, Connection),
}

/// The hearing half.
pub(crate) struct Hearer {
    stream: RecvStream,
    arrived: Bytes,
    /// Bytes still missing of the next answer.
    missing: usize,
}

/// Connects; the secrets say which key the packets are signed with, none if they are not.
pub(crate) async fn connect(server: SocketAddr, secrets: Option<&Path>) -> (Sender, Hearer) {
    let held = quic::connect(server).await;
    let (mut stream, hearing) = held.1.open_bi().await.unwrap();
    stream.write_all(&secrets.map_or([0; KEY_BYTES], public_key)).await.unwrap();
    (Sender { stream, _held: held }, Hearer { stream: hearing, arrived: Bytes::new(), missing: ANSWER_BYTES })
}

fn public_key(secrets: &Path) -> [u8; KEY_BYTES] {
    let bytes = Bytes::from(fs::read(secrets).unwrap());
    let secrets: NodeSecrets = canonical::decode(&bytes, limits::FRAME_BYTES_MAX).unwrap();
    let seed = seed("packet", &secrets.packet_seed).unwrap();
    SigningKey::from_seed(KeyRole::Packet, &seed).unwrap().public_key()
}

/// Packets of a file with their lengths before them, which is how they go over the wire; the file so many times.
pub(super) fn messages(file: &Path, times: usize) -> Vec<Bytes> {
    let mut rest = Bytes::from(fs::read(file).unwrap());
    let mut messages = Vec::new();
    while rest.has_remaining() {
        let length = rest.clone().get_u32_le() as usize;
        messages.push(rest.split_to(size_of::<u32>() + length));
    }
    vec![messages; times].concat()
}

/// Sends so many bytes on one stream; ends when the server has read them all.
pub(super) async fn bulk(server: SocketAddr, bytes: u64) -> Told {
    let (mut sender, mut hearer) = connect(server, None).await;
    let block = Bytes::from(vec![9; BULK_BYTES]);
    let (began, mut left) = (Instant::now(), bytes);
    while left > 0 {
        let block = block.slice(..usize::try_from(left).unwrap_or(BULK_BYTES).min(BULK_BYTES));
        left -= block.len() as u64;
        sender.stream.write_chunk(block).await.unwrap();
    }
    sender.stream.finish().unwrap();
    let mut counted = [0; ANSWER_BYTES];
    hearer.stream.read_exact(&mut counted).await.unwrap();
    assert_eq!(u64::from_le_bytes(counted), bytes, "the server has read something else");
    let took = began.elapsed();
    Told { seconds: took.as_secs_f64(), latencies: vec![took.as_nanos() as u64], ..Told::default() }
}

impl Sending for Sender {
    async fn send(&mut self, mut packets: Vec<Bytes>) {
        self.stream.write_all_chunks(&mut packets).await.unwrap();
    }
}

impl Answers for Hearer {
    async fn next(&mut self) -> Option<String> {
        while self.arrived.len() < self.missing {
            self.missing -= self.arrived.len();
            let chunk = self.stream.read_chunk(usize::MAX, true).await.unwrap();
            self.arrived = chunk.expect("the server ended the stream").bytes;
        }
        self.arrived.advance(self.missing);
        self.missing = ANSWER_BYTES;
        None
    }
}
