//! AMQP 0-9-1 with RabbitMQ's publisher confirms: a confirm comes when the queue's quorum has the message on disk.

use bytes::{Buf as _, BufMut as _, BytesMut};
use tokio::net::TcpStream;

use super::{
    Plan,
    drive::{self, Pending, Wire},
};

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const FRAME_END: u8 = 0xce;
/// Kind, channel and length before a frame, and its end.
const FRAME_BYTES: usize = 8;
/// Class and method.
type Method = (u16, u16);
const START: Method = (10, 10);
const START_OK: Method = (10, 11);
const TUNE: Method = (10, 30);
const TUNE_OK: Method = (10, 31);
const OPEN: Method = (10, 40);
const OPEN_OK: Method = (10, 41);
const CHANNEL_OPEN: Method = (20, 10);
const CHANNEL_OPEN_OK: Method = (20, 11);
const QUEUE_DECLARE: Method = (50, 10);
const QUEUE_DECLARE_OK: Method = (50, 11);
const PUBLISH: Method = (60, 40);
const ACK: Method = (60, 80);
const NACK: Method = (60, 120);
const CONFIRM_SELECT: Method = (85, 10);
const CONFIRM_SELECT_OK: Method = (85, 11);
const BASIC: u16 = 60;
/// A queue that outlives the server.
const DURABLE: u8 = 2;
/// Which properties a message has: only whether it is persistent.
const HAS_DELIVERY_MODE: u16 = 1 << 12;
const PERSISTENT: u8 = 2;

/// A session with one channel on which publishing is confirmed.
pub(super) struct Client {
    /// What comes before each message's header.
    publish: Vec<u8>,
    count: u64,
}

impl drive::Client for Client {
    async fn open(tcp: TcpStream, plan: &Plan, number: usize) -> (Self, Wire) {
        let mut wire = Wire::tls(tcp, plan).await;
        wire.write(b"AMQP\0\0\x09\x01").await;
        expect(&mut wire, START).await;
        let secret = format!("\0bench\0{}", plan.password);
        // No properties of the client.
        let start = [&[0; 4][..], &short("PLAIN"), &long(secret.as_bytes()), &short("en_US")].concat();
        wire.write(&method(0, START_OK, &start)).await;
        let mut tune = expect(&mut wire, TUNE).await;
        let (channels, frame_bytes) = (tune.get_u16(), tune.get_u32());
        assert!(frame_bytes as usize >= plan.body_bytes + FRAME_BYTES);
        // No heartbeats.
        let tune = [&channels.to_be_bytes()[..], &frame_bytes.to_be_bytes(), &[0, 0]].concat();
        wire.write(&method(0, TUNE_OK, &tune)).await;
        wire.write(&method(0, OPEN, &[short("/"), short(""), vec![0]].concat())).await;
        expect(&mut wire, OPEN_OK).await;
        wire.write(&method(1, CHANNEL_OPEN, &short(""))).await;
        expect(&mut wire, CHANNEL_OPEN_OK).await;
        let queue = short(&format!("bench{}", number % plan.targets));
        let quorum = [&short("x-queue-type")[..], b"S", &long(b"quorum")].concat();
        wire.write(&method(1, QUEUE_DECLARE, &[&[0, 0][..], &queue, &[DURABLE], &long(&quorum)].concat()))
            .await;
        expect(&mut wire, QUEUE_DECLARE_OK).await;
        wire.write(&method(1, CONFIRM_SELECT, &[0])).await;
        expect(&mut wire, CONFIRM_SELECT_OK).await;
        let publish = method(1, PUBLISH, &[&[0, 0][..], &short(""), &queue, &[0]].concat());
        (Self { publish, count: 0 }, wire)
    }

    fn message(&mut self, body: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&self.publish);
        let mut header = Vec::with_capacity(15);
        header.put_u16(BASIC);
        header.put_u16(0);
        header.put_u64(body.len() as u64);
        header.put_u16(HAS_DELIVERY_MODE);
        header.put_u8(PERSISTENT);
        frame(HEADER, 1, &header, out);
        frame(BODY, 1, body, out);
        self.count += 1;
    }

    fn answers(&mut self, input: &mut BytesMut, _: &mut Vec<u8>, pending: &mut Pending) {
        while let Some((method, mut body)) = next(input) {
            // Confirms count from 1 on.
            let number = body.get_u64() - 1;
            match (method, body.get_u8() & 1 == 1) {
                (ACK, false) => pending.done(number),
                (ACK, true) => pending.done_up_to(number),
                (NACK, _) => pending.refused(number, "nack".to_owned()),
                (other, _) => panic!("{other:?}: {}", String::from_utf8_lossy(&body)),
            }
        }
    }
}

/// Waits for this answer, and gives what it says.
async fn expect(wire: &mut Wire, wanted: Method) -> BytesMut {
    loop {
        if let Some((method, body)) = next(&mut wire.input) {
            assert_eq!(method, wanted, "{}", String::from_utf8_lossy(&body));
            return body;
        }
        wire.read().await;
    }
}

/// The next method that is whole.
fn next(input: &mut BytesMut) -> Option<(Method, BytesMut)> {
    let length = u32::from_be_bytes(input.get(3..7)?.try_into().unwrap()) as usize;
    input.get(..length + FRAME_BYTES)?;
    let mut frame = input.split_to(length + FRAME_BYTES);
    assert_eq!((frame.get_u8(), frame[length + FRAME_BYTES - 2]), (METHOD, FRAME_END));
    frame.advance(6);
    frame.truncate(length);
    Some(((frame.get_u16(), frame.get_u16()), frame))
}

fn method(channel: u16, (class, method): Method, arguments: &[u8]) -> Vec<u8> {
    let payload = [&class.to_be_bytes()[..], &method.to_be_bytes(), arguments].concat();
    let mut out = Vec::new();
    frame(METHOD, channel, &payload, &mut out);
    out
}

fn frame(kind: u8, channel: u16, payload: &[u8], out: &mut Vec<u8>) {
    out.put_u8(kind);
    out.put_u16(channel);
    out.put_u32(payload.len() as u32);
    out.extend_from_slice(payload);
    out.put_u8(FRAME_END);
}

fn short(text: &str) -> Vec<u8> {
    [&[text.len() as u8], text.as_bytes()].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let bytes = method(1, ACK, &[&7_u64.to_be_bytes()[..], &[1]].concat());
        for whole in 0..bytes.len() {
            assert_eq!(next(&mut BytesMut::from(&bytes[..whole])), None);
        }
        let mut input = BytesMut::from([bytes.clone(), bytes].concat().as_slice());
        for _ in 0..2 {
            let (method, mut body) = next(&mut input).unwrap();
            assert_eq!((method, body.get_u64(), body.as_ref()), (ACK, 7, &[1][..]));
        }
        assert!(input.is_empty());
    }
}
