//! NATS: each message is published with a subject to which JetStream answers when the stream has it on disk.

use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpStream,
};

use super::{
    Plan,
    drive::{self, Pending, Wire},
};

/// A session, subscribed to the answers of its own messages.
pub(super) struct Client {
    subject: String,
    /// Before the number of the message.
    inbox: String,
    count: u64,
}

impl drive::Client for Client {
    async fn open(tcp: TcpStream, plan: &Plan, number: usize) -> (Self, Wire) {
        // The server speaks first, in clear; TLS begins then.
        let mut greeting = String::new();
        let mut tcp = BufReader::new(tcp);
        tcp.read_line(&mut greeting).await.unwrap();
        assert!(greeting.starts_with("INFO ") && tcp.buffer().is_empty(), "{greeting}");
        let mut wire = Wire::tls(tcp.into_inner(), plan).await;
        let stream = format!("bench{}", number % plan.targets);
        let inbox = format!("_INBOX.bench{number}.");
        let subject = format!("{stream}.packets");
        let config = format!(
            "{{\"name\":\"{stream}\",\"subjects\":[\"{stream}.>\"],\"retention\":\"limits\",\"storage\":\"file\",\
             \"num_replicas\":1,\"max_msgs\":-1,\"max_bytes\":-1,\"max_age\":0,\"discard\":\"new\"}}"
        );
        let hello = format!(
            "CONNECT {{\"verbose\":false,\"pedantic\":false,\"tls_required\":true,\"user\":\"bench\",\"pass\":\"{}\",\
             \"lang\":\"rust\",\"version\":\"1\",\"protocol\":1}}\r\nSUB {inbox}* 1\r\n\
             PUB $JS.API.STREAM.CREATE.{stream} {inbox}created {}\r\n{config}\r\n",
            plan.password,
            config.len(),
        );
        wire.write(hello.as_bytes()).await;
        let created = loop {
            let mut out = Vec::new();
            match next(&mut wire.input, &mut out) {
                Some(Heard::Message { body, .. }) => break body,
                Some(Heard::Other) => {}
                None => wire.read().await,
            }
            wire.write(&out).await;
        };
        assert!(!created.contains("\"error\""), "{created}");
        (Self { subject, inbox, count: 0 }, wire)
    }

    fn message(&mut self, body: &[u8], out: &mut Vec<u8>) {
        let head = format!("PUB {} {}{} {}\r\n", self.subject, self.inbox, self.count, body.len());
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(body);
        out.extend_from_slice(b"\r\n");
        self.count += 1;
    }

    fn answers(&mut self, input: &mut BytesMut, out: &mut Vec<u8>, pending: &mut Pending) {
        while let Some(heard) = next(input, out) {
            if let Heard::Message { subject, body } = heard {
                let number = subject.strip_prefix(&self.inbox).unwrap().parse().unwrap();
                if body.contains("\"seq\":") && !body.contains("\"error\"") {
                    pending.done(number);
                } else {
                    pending.refused(number, body);
                }
            }
        }
    }
}

/// What a server says.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Message { subject: String, body: String },
    Other,
}

/// The next that is whole.
fn next(input: &mut BytesMut, out: &mut Vec<u8>) -> Option<Heard> {
    let end = input.windows(2).position(|two| two == b"\r\n")?;
    let line = std::str::from_utf8(&input[..end]).unwrap();
    if let Some(rest) = line.strip_prefix("MSG ") {
        // Subject, subscription, length.
        let mut words = rest.split(' ');
        let (subject, length) =
            (words.next().unwrap().to_owned(), words.next_back().unwrap().parse().unwrap());
        let body: usize = end + 2;
        let whole: usize = body + length;
        let text = input.get(body..whole + 2)?;
        let text = String::from_utf8_lossy(&text[..length]).into_owned();
        input.advance(whole + 2);
        return Some(Heard::Message { subject, body: text });
    }
    assert!(!line.starts_with("-ERR"), "{line}");
    if line == "PING" {
        out.extend_from_slice(b"PONG\r\n");
    }
    input.advance(end + 2);
    Some(Heard::Other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_whole_is_heard() {
        let (mut input, mut out) =
            (BytesMut::from(&b"PING\r\n+OK\r\nMSG _INBOX.bench0.7 1 9\r\n{\"seq\":1"[..]), vec![]);
        assert_eq!((next(&mut input, &mut out), out.as_slice()), (Some(Heard::Other), &b"PONG\r\n"[..]));
        assert_eq!(next(&mut input, &mut out), Some(Heard::Other));
        assert_eq!(next(&mut input, &mut out), None);
        input.extend_from_slice(b"}\r\n");
        let (subject, body) = ("_INBOX.bench0.7".to_owned(), "{\"seq\":1}".to_owned());
        assert_eq!(next(&mut input, &mut out), Some(Heard::Message { subject, body }));
        assert!(input.is_empty());
    }
}
