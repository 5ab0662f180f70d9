//! Sends as much as there is room for, and counts what is acknowledged: the same for every protocol.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::{sleep_until, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::Plan;
use crate::load::Told;

/// A server that does not answer for so long ends the run.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most that is read at once.
const READ_BYTES: usize = 64 * 1_024;

/// A connection with a server, and what came and is not understood yet.
pub(super) struct Wire {
    stream: TlsStream<TcpStream>,
    pub(super) input: BytesMut,
}

impl Wire {
    /// TLS over a connection on which nothing else is said before.
    pub(super) async fn tls(tcp: TcpStream, plan: &Plan) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&plan.authority).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
        Self { stream, input: BytesMut::with_capacity(READ_BYTES) }
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Waits for more input.
    pub(super) async fn read(&mut self) {
        self.input.reserve(READ_BYTES);
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.input)).await;
        assert!(read.expect("the server does not answer").unwrap() > 0, "the server ended the connection");
    }
}

/// A client of one protocol; it numbers what it sends from 0 on.
pub(super) trait Client: Sized + Send + 'static {
    /// Opens a session, and makes what the messages go to.
    fn open(tcp: TcpStream, plan: &Plan, number: usize) -> impl Future<Output = (Self, Wire)> + Send;
    /// Adds the next message.
    fn message(&mut self, body: &[u8], out: &mut Vec<u8>);
    /// Takes whole answers from `input`; adds what must be said to them to `out`.
    fn answers(&mut self, input: &mut BytesMut, out: &mut Vec<u8>, pending: &mut Pending);
}

/// What is not answered yet.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Number of the first in the list.
    first: u64,
    /// Since when; none if it is answered.
    since: VecDeque<Option<Instant>>,
    unanswered: usize,
    latencies: Vec<u64>,
    refused: u64,
    refusal: String,
    last: Option<Instant>,
}

impl Pending {
    fn sent(&mut self, now: Instant) {
        self.since.push_back(Some(now));
        self.unanswered += 1;
    }

    /// This one is durable.
    pub(super) fn done(&mut self, number: u64) {
        let now = Instant::now();
        if let Some(since) = self.take(number) {
            self.latencies.push((now - since).as_nanos() as u64);
            self.last = Some(now);
        }
    }

    /// This one and all before it are durable.
    pub(super) fn done_up_to(&mut self, number: u64) {
        while self.first <= number {
            self.done(self.first);
        }
    }

    pub(super) fn refused(&mut self, number: u64, why: String) {
        if self.take(number).is_some() {
            self.refused += 1;
            self.refusal = why;
        }
    }

    /// The first that is not answered.
    pub(super) fn oldest(&self) -> u64 {
        self.first
    }

    fn take(&mut self, number: u64) -> Option<Instant> {
        let at = number.checked_sub(self.first).expect("answered twice") as usize;
        let since = self.since.get_mut(at).expect("answered before it was sent").take();
        self.unanswered -= usize::from(since.is_some());
        while let Some(None) = self.since.front() {
            self.since.pop_front();
            self.first += 1;
        }
        since
    }
}

/// Everything that the plan says.
pub(super) async fn all<C: Client>(plan: &Plan) -> Told {
    let mut ready = Vec::new();
    for number in 0..plan.connections {
        let tcp = TcpStream::connect(plan.address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        ready.push(C::open(tcp, plan, number).await);
    }
    let start = Instant::now() + Duration::from_millis(100);
    let mut running = JoinSet::new();
    for (client, wire) in ready {
        running.spawn(connection(plan.clone(), client, wire, start));
    }
    let mut told = Told::default();
    let mut last = start;
    while let Some(pending) = running.join_next().await {
        let pending = pending.unwrap();
        told.latencies.extend(pending.latencies);
        told.refused += pending.refused;
        if told.refusal.is_empty() {
            told.refusal = pending.refusal;
        }
        last = last.max(pending.last.unwrap_or(start));
    }
    told.seconds = (last - start).as_secs_f64();
    told
}

async fn connection<C: Client>(plan: Plan, mut client: C, mut wire: Wire, start: Instant) -> Pending {
    let (mut pending, mut out) = (Pending::default(), Vec::new());
    // Nothing that is easy to compress, should anybody try.
    let mut body: Vec<u8> = (0..plan.body_bytes as u64).map(|at| (at * at * 31 + 7) as u8).collect();
    sleep_until(start.into()).await;
    let end = start + Duration::from_secs_f64(plan.seconds);
    let mut count = 0_u64;
    loop {
        let now = Instant::now();
        while now < end && pending.unanswered < plan.in_flight {
            body[..8].copy_from_slice(&count.to_le_bytes());
            client.message(&body, &mut out);
            pending.sent(now);
            count += 1;
        }
        if !out.is_empty() {
            wire.write(&out).await;
            out.clear();
        }
        if pending.unanswered == 0 {
            return pending;
        }
        wire.read().await;
        client.answers(&mut wire.input, &mut out, &mut pending);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(count: usize) -> Pending {
        let mut pending = Pending::default();
        (0..count).for_each(|_| pending.sent(Instant::now()));
        pending
    }

    #[test]
    fn answers_count_once_in_whatever_order_they_come() {
        let mut pending = sent(5);
        pending.done(2);
        pending.done_up_to(3);
        assert_eq!((pending.latencies.len(), pending.unanswered, pending.oldest()), (4, 1, 4));
        pending.refused(4, "full".to_owned());
        assert_eq!((pending.refused, pending.unanswered, pending.oldest()), (1, 0, 5));
        assert_eq!((pending.latencies.len(), pending.refusal.as_str()), (4, "full"));
    }

    #[test]
    #[should_panic(expected = "answered before it was sent")]
    fn an_answer_to_nothing_ends_the_run() {
        sent(2).done(2);
    }
}
