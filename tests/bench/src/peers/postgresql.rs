//! PostgreSQL: a row for each message, and a commit of its own for each row.

use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    Plan,
    drive::{self, Pending, Wire},
};

/// Asks for TLS.
const SSL_REQUEST: u32 = 80_877_103;
const PROTOCOL: u32 = 196_608;
/// Type of the column.
const BYTEA: u32 = 17;
const STATEMENT: &[u8] = b"add\0";

/// A session with a prepared statement.
pub(super) struct Client;

impl drive::Client for Client {
    async fn open(mut tcp: TcpStream, plan: &Plan, number: usize) -> (Self, Wire) {
        assert_eq!(plan.in_flight, 1, "one commit at a time is all that the protocol can");
        tcp.write_all(&[8_u32.to_be_bytes(), SSL_REQUEST.to_be_bytes()].concat()).await.unwrap();
        assert_eq!(tcp.read_u8().await.unwrap(), b'S', "the server has no TLS");
        let mut wire = Wire::tls(tcp, plan).await;
        let startup = [&PROTOCOL.to_be_bytes()[..], b"user\0bench\0database\0postgres\0\0"].concat();
        wire.write(&[&(startup.len() as u32 + 4).to_be_bytes()[..], &startup].concat()).await;
        // It asks for the password in clear, which TLS hides.
        let (kind, body) = heard(&mut wire).await;
        assert_eq!((kind, body.as_slice()), (b'R', &[0, 0, 0, 3][..]));
        wire.write(&message(b'p', &[plan.password.as_bytes(), b"\0"])).await;
        ready(&mut wire).await;
        let table = format!("bench{}", number % plan.targets);
        let create = format!("CREATE TABLE IF NOT EXISTS {table} (body bytea NOT NULL)\0");
        wire.write(&message(b'Q', &[create.as_bytes()])).await;
        ready(&mut wire).await;
        let insert = format!("INSERT INTO {table} (body) VALUES ($1)\0");
        let types = [&1_u16.to_be_bytes()[..], &BYTEA.to_be_bytes()].concat();
        let parse = message(b'P', &[STATEMENT, insert.as_bytes(), &types]);
        wire.write(&[parse, message(b'S', &[])].concat()).await;
        ready(&mut wire).await;
        (Self, wire)
    }

    fn message(&mut self, body: &[u8], out: &mut Vec<u8>) {
        // One parameter, binary; nothing comes back.
        let formats = [0, 1, 0, 1, 0, 1];
        let length = (body.len() as u32).to_be_bytes();
        out.extend(message(b'B', &[b"\0", STATEMENT, &formats, &length, body, &[0, 0]]));
        out.extend(message(b'E', &[b"\0", &[0; 4]]));
        out.extend(message(b'S', &[]));
    }

    fn answers(&mut self, input: &mut BytesMut, _: &mut Vec<u8>, pending: &mut Pending) {
        while let Some((kind, body)) = next(input) {
            match kind {
                b'Z' => pending.done(pending.oldest()),
                b'E' => panic!("{}", String::from_utf8_lossy(&body)),
                _ => {}
            }
        }
    }
}

/// Waits until it is ready for a command.
async fn ready(wire: &mut Wire) {
    while heard(wire).await.0 != b'Z' {}
}

async fn heard(wire: &mut Wire) -> (u8, Vec<u8>) {
    loop {
        if let Some((kind, body)) = next(&mut wire.input) {
            assert_ne!(kind, b'E', "{}", String::from_utf8_lossy(&body));
            // That a table is there already, or a parameter's value.
            if kind != b'N' && kind != b'S' && kind != b'K' {
                return (kind, body);
            }
        } else {
            wire.read().await;
        }
    }
}

/// The next message that is whole: what it is, and its body.
fn next(input: &mut BytesMut) -> Option<(u8, Vec<u8>)> {
    let length = u32::from_be_bytes(input.get(1..5)?.try_into().unwrap()) as usize;
    let body = input.get(5..1 + length)?.to_vec();
    let kind = input[0];
    input.advance(1 + length);
    Some((kind, body))
}

fn message(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = vec![kind];
    out.extend_from_slice(&(length as u32 + 4).to_be_bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let bytes = [message(b'C', &[b"INSERT ", b"0 1\0"]), message(b'Z', &[b"I"])].concat();
        for whole in 0..bytes.len() {
            let mut input = BytesMut::from(&bytes[..whole]);
            let first = (whole >= 16).then(|| (b'C', b"INSERT 0 1\0".to_vec()));
            assert_eq!(next(&mut input), first, "{whole}");
        }
        let mut input = BytesMut::from(&bytes[16..]);
        assert_eq!(next(&mut input), Some((b'Z', b"I".to_vec())));
    }
}
