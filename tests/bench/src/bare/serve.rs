//! Connections of the bare server. Each verifies its own packets in its own task, as many as have come at once: with as
//! many connections as processors or more nothing is won by handing packets to other threads. One connection alone
//! therefore verifies on one processor, as one session of the broker does.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use lintas_proto::sign::Signed;
use quinn::{Connection, Incoming, RecvStream, SendStream};
use ring::{
    digest::{SHA256, digest},
    signature::{ED25519, UnparsedPublicKey},
};

use super::{
    ANSWER_BYTES, KEY_BYTES, Mode, quic,
    store::{Batch, Outgoing, Store},
};

/// Most pieces taken from a stream at once: about 45 KiB, some 15 packets.
const PIECES: usize = 32;
/// Bytes of the length before a message.
const LENGTH_BYTES: usize = 4;

/// Serves until it is killed.
pub(super) async fn forever(address: SocketAddr, mode: Mode, file: &Path) {
    let store = (mode == Mode::Store).then(|| Store::start(file));
    let endpoint = quic::server(address);
    println!("listens on {address}");
    io::stdout().flush().unwrap();
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(connection(incoming, mode, store.clone()));
    }
}

async fn connection(incoming: Incoming, mode: Mode, store: Option<Arc<Store>>) {
    let connection: Connection = incoming.await.unwrap();
    let (send, mut receive) = connection.accept_bi().await.unwrap();
    let mut key = [0; KEY_BYTES];
    receive.read_exact(&mut key).await.unwrap();
    match (mode, store) {
        (Mode::Sink, _) => sink(send, receive).await,
        (Mode::Echo, _) => {
            messages(send, receive, |packets, answers, to| {
                let count = frames(&packets).count();
                answers.resize(count * ANSWER_BYTES, 0);
                to.put(answers);
                to.ring();
            })
            .await
        }
        (Mode::Store, store) => {
            let (store, mut verifier) = (store.unwrap(), Verifier::new(key));
            messages(send, receive, move |packets, answers, to| {
                for packet in frames(&packets) {
                    assert!(verifier.verify(packet), "a packet is not signed by its sender");
                    answers.extend_from_slice(&digest(&SHA256, packet).as_ref()[..ANSWER_BYTES]);
                }
                store.put(Batch { packets, answers: std::mem::take(answers), to: Arc::clone(to) });
            })
            .await;
        }
    }
}

/// Gives whole messages, with their lengths before them, to `take`, as many at once as there are.
async fn messages(
    send: SendStream,
    mut receive: RecvStream,
    mut take: impl FnMut(Vec<u8>, &mut Vec<u8>, &Arc<Outgoing>),
) {
    let outgoing = Arc::new(Outgoing::default());
    let answering = tokio::spawn(answer(send, Arc::clone(&outgoing)));
    let (mut pieces, mut arrived) = ([const { Bytes::new() }; PIECES], Vec::new());
    while let Ok(Some(count)) = receive.read_chunks(&mut pieces).await {
        for piece in &mut pieces[..count] {
            arrived.extend_from_slice(&std::mem::take(piece));
        }
        let whole = frames(&arrived).map(|packet| LENGTH_BYTES + packet.len()).sum();
        if whole > 0 {
            let mut next = Vec::with_capacity(arrived.capacity());
            next.extend_from_slice(&arrived[whole..]);
            arrived.truncate(whole);
            take(std::mem::replace(&mut arrived, next), &mut Vec::new(), &outgoing);
        }
    }
    answering.abort();
}

/// Sends answers, as many at once as there are.
async fn answer(mut send: SendStream, outgoing: Arc<Outgoing>) {
    loop {
        let answers = Bytes::from(outgoing.take().await);
        if send.write_chunk(answers).await.is_err() {
            return;
        }
    }
}

async fn sink(mut send: SendStream, mut receive: RecvStream) {
    let (mut pieces, mut bytes) = ([const { Bytes::new() }; PIECES], 0_u64);
    while let Some(count) = receive.read_chunks(&mut pieces).await.unwrap() {
        bytes += pieces[..count].iter().map(|piece| piece.len() as u64).sum::<u64>();
    }
    send.write_all(&bytes.to_le_bytes()).await.unwrap();
    send.finish().unwrap();
    let _ = send.stopped().await;
}

/// The whole messages at the beginning of `bytes`.
fn frames(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk::<LENGTH_BYTES>()?;
        let (packet, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        bytes = rest;
        Some(packet)
    })
}

/// Verifies the packets of one sender, over the bytes that the broker verifies: PAE of the header.
struct Verifier {
    key: UnparsedPublicKey<[u8; KEY_BYTES]>,
    message: Vec<u8>,
}

impl Verifier {
    fn new(key: [u8; KEY_BYTES]) -> Self {
        Self { key: UnparsedPublicKey::new(&ED25519, key), message: Vec::new() }
    }

    fn verify(&mut self, submission: &[u8]) -> bool {
        let Some((header, signature)) = signed(submission) else { return false };
        let name = Signed::Header.pae_type();
        self.message.clear();
        write!(self.message, "DSSEv1 {} {name} {} ", name.len(), header.len()).unwrap();
        self.message.extend_from_slice(header);
        self.key.verify(&self.message, signature).is_ok()
    }
}

/// The first two fields of a submission: header and signature.
fn signed(submission: &[u8]) -> Option<(&[u8], &[u8])> {
    let (header, rest) = field(submission, 1)?;
    let (signature, _) = field(rest, 2)?;
    Some((header, signature))
}

/// A field of bytes with that number (below 16) at the beginning of a message, and what follows it.
fn field(bytes: &[u8], number: u8) -> Option<(&[u8], &[u8])> {
    let (tag, mut rest) = bytes.split_first()?;
    let mut length = 0;
    for shift in (0..28).step_by(7) {
        let (byte, after) = rest.split_first()?;
        rest = after;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return if *tag == number << 3 | 2 { rest.split_at_checked(length) } else { None };
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use lintas_proto::{
        canonical,
        schema::Submission,
        sign::{KeyRole, SigningKey},
    };
    use zeroize::Zeroizing;

    use super::*;

    fn submission(key: &SigningKey) -> Vec<u8> {
        let header = Bytes::from(vec![5; 300]);
        let signature = Bytes::copy_from_slice(&key.sign(Signed::Header, &header));
        let body = Bytes::from(vec![6; 1_000]);
        canonical::encode(&Submission { header, signature, body, ..Submission::default() }).to_vec()
    }

    #[test]
    fn it_verifies_what_the_broker_verifies() {
        let key = SigningKey::from_seed(KeyRole::Packet, &Zeroizing::new([3; 32])).unwrap();
        let packet = submission(&key);
        assert!(Verifier::new(key.public_key()).verify(&packet));
        assert!(!Verifier::new([4; 32]).verify(&packet));
        for at in [0, 3, 100, 310] {
            let mut changed = packet.clone();
            changed[at] ^= 1;
            assert!(!Verifier::new(key.public_key()).verify(&changed), "byte {at}");
        }
    }

    #[test]
    fn whole_messages_only() {
        let bytes = [&[2, 0, 0, 0, 8, 9][..], &[0, 0, 0, 0], &[3, 0, 0, 0, 1, 2]].concat();
        assert_eq!(frames(&bytes).collect::<Vec<_>>(), [&[8, 9][..], &[]]);
        assert_eq!(frames(&[1, 0, 0]).count(), 0);
    }
}
