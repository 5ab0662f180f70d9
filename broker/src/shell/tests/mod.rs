//! A real broker on a real folder, spoken to by nodes over QUIC.

mod begun;
mod blobs;
mod directory;
mod doubt;
mod erasure;
mod gates;
mod given;
mod handed;
mod hello;
mod leaving;
mod log;
mod mark;
mod operator;
mod packets;
mod policies;
mod recovery;
mod standing;
mod told;
mod witnesses;

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use lintas_link::{
    Client, Connection, FrameReader, FrameWriter, LinkError, PeerDirectory, TransportKey, decode, greet,
};
use lintas_proto::{
    canonical,
    envelope::seal::Sealed,
    frame::FrameType,
    schema::{
        Acknowledgement, Delivery, DirectoryGet, DirectoryHead, DirectoryNotice, DirectoryUpdate,
        EvidenceDelivery, Hello, KeysetPut, KeysetStatus, Reason, Refusal, SignedKeyset, UnitRef,
    },
};
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{Folder, RunError, clock, run, shared::Shared, start::serve};
use crate::testing::{REGION, TempFolder, World};

/// Long enough for a busy machine, short enough for a test that hangs.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("takes too long")
}

fn scene() -> (World, TempFolder) {
    let (world, folder) = (World::new(clock::shown_ms()), TempFolder::new());
    world.write(folder.path());
    (world, folder)
}

/// Epochs of an hour, so that records can be counted.
fn quiet_scene() -> (World, TempFolder) {
    scene_with_epochs(3_600_000)
}

fn scene_with_epochs(epoch_ms: u32) -> (World, TempFolder) {
    let (mut world, folder) = (World::new(clock::shown_ms()), TempFolder::new());
    world.roster.epoch_ms = epoch_ms;
    world.publish();
    world.write(folder.path());
    (world, folder)
}

/// Adds lines to the broker's settings.
fn set(folder: &Path, lines: &str) {
    let path = folder.join("broker.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    crate::testing::put(&path, format!("{text}{lines}\n").as_bytes());
}

/// A running broker.
struct Broker {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), RunError>>,
}

impl Broker {
    async fn start(folder: &Path) -> Self {
        let (ready, listening) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let folder = Folder::at(folder);
        let task = tokio::spawn(async move {
            let stop = async {
                let _ = stopped.await;
            };
            serve(&folder, stop, |address, shared| assert!(ready.send((address, Arc::clone(shared))).is_ok()))
                .await
        });
        match soon(listening).await {
            Ok((address, shared)) => Self { address, shared, stop, task },
            Err(_) => panic!("{:?}", task.await.unwrap()),
        }
    }

    /// Puts the policies of a world in force.
    fn enforce(&self, world: &World) {
        self.shared.put_in_force(world.rules.clone(), None);
    }

    /// As SIGTERM does.
    async fn stop(self) -> Result<(), RunError> {
        let _ = self.stop.send(());
        soon(self.task).await.unwrap()
    }

    /// Without a word to anybody.
    async fn drop_dead(self) {
        self.task.abort();
        assert!(soon(self.task).await.unwrap_err().is_cancelled());
        // The index is another thread's.
        sleep(Duration::from_millis(300)).await;
    }
}

#[derive(Debug)]
struct Hub([u8; 32]);

impl PeerDirectory for Hub {
    fn admits(&self, transport_key: &[u8; 32]) -> bool {
        *transport_key == self.0
    }
}

/// Puts a file there at once, as `cp` and `mv` do.
fn place(path: &Path, bytes: &[u8]) {
    let part = path.with_extension("new");
    crate::testing::put(&part, bytes);
    place_file(&part, path);
}

#[allow(clippy::disallowed_methods, reason = "an operator does not sync either")]
fn place_file(part: &Path, path: &Path) {
    std::fs::rename(part, path).unwrap();
}

/// A connection without a hello.
async fn bare(world: &World, broker: &Broker, agency: &str) -> (Connection, Client) {
    let hub = Arc::new(Hub(world.directory.brokers()[0].transport_key));
    let client = Client::bind((Ipv4Addr::LOCALHOST, 0).into(), &world.transport(agency), hub).unwrap();
    (soon(client.connect(broker.address)).await.unwrap(), client)
}

/// Asks for the directory.
async fn ask(connection: &Connection, get: &DirectoryGet) -> Result<DirectoryUpdate, DirectoryHead> {
    let (mut writer, mut reader) = connection.open_stream().await.unwrap();
    writer.send_message(FrameType::DirectoryGet, get).await.unwrap();
    let head: DirectoryHead = soon(reader.next_message(FrameType::DirectoryHead)).await.unwrap();
    if head.reason != Reason::Accepted as i32 {
        return Err(head);
    }
    let mut bytes = Vec::new();
    while let Some(part) = soon(reader.read_raw(1 << 20)).await.unwrap() {
        bytes.extend(part);
    }
    assert_eq!(bytes.len() as u64, head.length);
    Ok(canonical::decode(&bytes.into(), 1 << 24).unwrap())
}

/// Brings a keyset.
async fn bring(connection: &Connection, keyset: Bytes) -> (Reason, String) {
    let (mut writer, mut reader) = connection.open_stream().await.unwrap();
    writer.send_message(FrameType::KeysetPut, &KeysetPut { keyset }).await.unwrap();
    let status: KeysetStatus = soon(reader.next_message(FrameType::KeysetStatus)).await.unwrap();
    (Reason::try_from(status.reason).unwrap(), status.text)
}

async fn bring_signed(connection: &Connection, keyset: &SignedKeyset) -> (Reason, String) {
    bring(connection, canonical::encode(keyset)).await
}

/// A node's side of a session.
struct Node {
    connection: Connection,
    writer: FrameWriter,
    reader: FrameReader,
    /// Frames of other kinds that came meanwhile.
    passed: VecDeque<(FrameType, Bytes)>,
    _client: Client,
}

fn hello(agency: &str) -> Hello {
    let (region, agency) = (REGION.to_owned(), agency.to_owned());
    Hello { protocol: 1, region, agency, time_ms: clock::shown_ms(), ..Hello::default() }
}

async fn connect_as(
    world: &World,
    address: SocketAddr,
    key: &TransportKey,
    hello: &Hello,
) -> Result<Node, LinkError> {
    let hub = Arc::new(Hub(world.directory.brokers()[0].transport_key));
    let client = Client::bind((Ipv4Addr::LOCALHOST, 0).into(), key, hub)?;
    let connection = soon(client.connect(address)).await?;
    let (_, writer, reader) = soon(greet(&connection, hello)).await?;
    Ok(Node { connection, writer, reader, passed: VecDeque::new(), _client: client })
}

impl Node {
    async fn connect(world: &World, broker: &Broker, agency: &str) -> Self {
        connect_as(world, broker.address, &world.transport(agency), &hello(agency)).await.unwrap()
    }

    async fn submit(&mut self, sealed: &Sealed) {
        self.writer.send_message(FrameType::Submission, &sealed.submission).await.unwrap();
    }

    /// The next frame of a kind.
    async fn next(&mut self, kind: FrameType) -> Bytes {
        if let Some(at) = self.passed.iter().position(|(have, _)| *have == kind) {
            return self.passed.remove(at).unwrap().1;
        }
        loop {
            let (have, payload) = soon(self.reader.next()).await.unwrap().unwrap();
            if have == kind {
                return payload;
            }
            self.passed.push_back((have, payload));
        }
    }

    async fn receipt(&mut self, sealed: &Sealed) -> Bytes {
        self.submit(sealed).await;
        self.next(FrameType::Receipt).await
    }

    async fn refusal(&mut self) -> Refusal {
        decode(FrameType::Refusal, &self.next(FrameType::Refusal).await).unwrap()
    }

    async fn delivery(&mut self) -> Delivery {
        decode(FrameType::Delivery, &self.next(FrameType::Delivery).await).unwrap()
    }

    async fn notice(&mut self) -> DirectoryNotice {
        decode(FrameType::DirectoryNotice, &self.next(FrameType::DirectoryNotice).await).unwrap()
    }

    /// Waits until it is told of that directory.
    async fn told(&mut self, world: &World) {
        while self.notice().await.directory_hash != world.directory.hash().as_slice() {}
    }

    async fn evidence(&mut self) -> EvidenceDelivery {
        decode(FrameType::Evidence, &self.next(FrameType::Evidence).await).unwrap()
    }

    /// Nothing more comes for a while.
    async fn silence(&mut self) {
        assert!(self.passed.is_empty(), "{:?}", self.passed);
        let more = timeout(Duration::from_millis(250), self.reader.next()).await;
        assert!(more.is_err(), "{more:?}");
    }

    async fn acknowledge(&mut self, world: &World, sealed: &Sealed, to: &UnitRef, queue_sequence: u64) {
        let evidence = world.sign(world.evidence(sealed, to), &to.agency);
        let message = Acknowledgement { queue_sequence, evidence };
        self.writer.send_message(FrameType::Acknowledgement, &message).await.unwrap();
    }

    async fn take(&mut self, queue_sequence: u64) {
        let message = Acknowledgement { queue_sequence, evidence: Bytes::new() };
        self.writer.send_message(FrameType::Acknowledgement, &message).await.unwrap();
    }
}

fn bytes_of(sealed: &Sealed) -> Bytes {
    canonical::encode(&sealed.submission)
}
