//! Two nodes over real QUIC, with the least broker that keeps the protocol (the whole region is tested elsewhere).

use std::{collections::HashMap, fs, net::Ipv4Addr, sync::Mutex};

use lintas_config::{Directory, issue::seed, policy::Bundle};
use lintas_link::{First, Server, answer, receive_first};
use lintas_proto::{
    audit::{
        files::LogFile,
        note::{SignedCheckpoint, root_origin},
        tile::{Hashes as _, Tile},
    },
    id::Digest,
    limits,
    schema::{
        Acknowledgement, BlobGet, BlobPut, BlobStatus, DirectoryGet, DirectoryHead, DirectoryNotice,
        DirectoryUpdate, EvidenceDelivery, Hello, KeysetStatus, LogGet, LogHead, PolicyGet, PolicyHead,
        PolicyPut, PolicyStatus, PolicyUpdate, Reason, Submission, WitnessAnswer, WitnessRequest,
    },
};

use super::*;
use crate::{
    core::{log::standing::tests::Tree, view::Standing},
    shell::{
        desk::{How, Reply, Request},
        policies::files::Version,
    },
    testing::{AMBER, BROKER, REGION, Region, draft},
};

#[derive(Debug)]
struct Everybody;

impl PeerDirectory for Everybody {
    fn admits(&self, _: &[u8; 32]) -> bool {
        true
    }
}

/// What the broker has.
#[derive(Default)]
struct Held {
    blobs: HashMap<Bytes, Vec<u8>>,
    packets: Vec<Submission>,
    acknowledgements: Vec<Acknowledgement>,
    /// Downloads that fail before one succeeds.
    failing_downloads: usize,
    /// Downloads that bring other bytes before one does not.
    damaged_downloads: usize,
    /// From where downloads were asked.
    offsets: Vec<usize>,
    submissions: usize,
    live: Vec<Connection>,
    /// Every hello is answered with it.
    refusal: Option<Reason>,
    hellos: usize,
    /// Of the last hello.
    roster_version: u64,
    /// Directories after the region's first; the last is the hub's.
    directories: Vec<Directory>,
    /// What it sends instead of what it has.
    lie: Option<DirectoryUpdate>,
    questions: usize,
    /// What every session of Thailand is asked to cosign.
    witness_requests: Vec<WitnessRequest>,
    witness_answers: Vec<WitnessAnswer>,
    /// Leaves of the root log, of which tiles are given; partial ones only of the last tile.
    log: Vec<Digest>,
    /// Bundles of each agency's policy, in order.
    policies: HashMap<String, Vec<Bytes>>,
    /// What it answers to a bundle with such a text, instead of taking it.
    policy_refusal: Option<(Reason, &'static str)>,
    policy_gets: usize,
    policy_puts: usize,
    /// What it answers to a keyset.
    keyset_reason: Option<Reason>,
}

struct Hub {
    region: Region,
    held: Mutex<Held>,
}

impl Hub {
    fn start(region: Region) -> (Arc<Self>, SocketAddr) {
        let seed = seed("t", &region.broker.transport_seed).unwrap();
        Self::start_with(region, &seed)
    }

    fn start_with(region: Region, seed: &[u8; 32]) -> (Arc<Self>, SocketAddr) {
        let key = TransportKey::from_seed(seed).unwrap();
        let server = Server::bind((Ipv4Addr::LOCALHOST, 0).into(), &key, Arc::new(Everybody)).unwrap();
        let address = server.local_addr().unwrap();
        let hub = Arc::new(Self { region, held: Mutex::default() });
        let serving = Arc::clone(&hub);
        tokio::spawn(async move {
            while let Some(handshake) = server.accept().await {
                let hub = Arc::clone(&serving);
                tokio::spawn(async move { hub.session(handshake.complete().await.unwrap()).await });
            }
        });
        (hub, address)
    }

    async fn session(self: Arc<Self>, connection: Connection) -> Result<(), LinkError> {
        let (first, mut writer, mut reader) = receive_first(&connection, &[FrameType::DirectoryGet]).await?;
        let hello = match first {
            First::Hello(hello) => hello,
            First::Other(_, payload) => return self.tell(writer, &payload).await,
        };
        let refusal = {
            let mut held = self.held.lock().unwrap();
            held.hellos += 1;
            held.roster_version = hello.roster_version;
            held.refusal
        };
        if let Some(reason) = refusal {
            let text = "1440 minutes, \u{1b}[2J".to_owned();
            let ack = HelloAck { protocol: 1, reason: reason as i32, text, ..HelloAck::default() };
            return lintas_link::refuse(&connection, writer, &ack).await;
        }
        let ack = HelloAck {
            protocol: 1,
            region: REGION.to_owned(),
            broker: BROKER.to_owned(),
            reason: Reason::Accepted as i32,
            roster_version: self.directory().roster().version,
            directory_hash: Bytes::copy_from_slice(self.directory().hash()),
            time_ms: clock::now_ms(),
            credit: 8,
            ..HelloAck::default()
        };
        answer(&mut writer, &ack).await?;
        self.held.lock().unwrap().live.push(connection.clone());
        let (hub, blobs, agency) = (Arc::clone(&self), connection.clone(), hello.agency.clone());
        tokio::spawn(async move {
            while let Ok((writer, reader)) = blobs.accept_stream().await {
                let _ = hub.blob(&agency, writer, reader).await;
            }
        });
        for (kind, payload) in self.queue(&hello) {
            writer.send(kind, payload).await?;
        }
        if hello.roster_version < self.directory().roster().version {
            let (version, hash) = (self.directory().roster().version, *self.directory().hash());
            let notice =
                DirectoryNotice { roster_version: version, directory_hash: Bytes::copy_from_slice(&hash) };
            writer.send_message(FrameType::DirectoryNotice, &notice).await?;
        }
        while let Some((kind, payload)) = reader.next().await? {
            if kind == FrameType::Submission {
                let packet: Submission = canonical::decode(&payload, limits::FRAME_BYTES_MAX)?;
                let receipt = self.region.submitted(&hello.agency, &packet);
                {
                    let mut held = self.held.lock().unwrap();
                    held.submissions += 1;
                    if !held.packets.contains(&packet) {
                        held.packets.push(packet);
                    }
                }
                writer.send(FrameType::Receipt, receipt).await?;
            } else if kind == FrameType::WitnessAnswer {
                let answer = canonical::decode(&payload, limits::HELLO_BYTES_MAX)?;
                self.held.lock().unwrap().witness_answers.push(answer);
            } else {
                assert_eq!(kind, FrameType::Acknowledgement);
                let ack = canonical::decode(&payload, limits::HELLO_BYTES_MAX)?;
                self.held.lock().unwrap().acknowledgements.push(ack);
            }
        }
        Ok(())
    }

    /// The newest directory that it has.
    fn directory(&self) -> Directory {
        self.held.lock().unwrap().directories.last().cloned().unwrap_or_else(|| self.region.directory())
    }

    async fn tell(&self, mut writer: FrameWriter, question: &Bytes) -> Result<(), LinkError> {
        let get: DirectoryGet = canonical::decode(question, limits::DIRECTORY_GET_BYTES_MAX)?;
        let newest = self.directory();
        let update = {
            let mut held = self.held.lock().unwrap();
            held.questions += 1;
            let first = [self.region.directory()];
            let newer =
                first.iter().chain(&held.directories).filter(|d| d.roster().version > get.roster_version);
            let rosters = newer.map(|directory| directory.signed_roster().unwrap()).collect();
            held.lie.clone().unwrap_or_else(|| newest.answer(&get, rosters).unwrap())
        };
        let bytes = canonical::encode(&update);
        let reason = Reason::Accepted as i32;
        let head = DirectoryHead { reason, text: String::new(), length: bytes.len() as u64 };
        writer.send_message(FrameType::DirectoryHead, &head).await?;
        writer.write_raw(bytes).await?;
        writer.finish().await
    }

    /// What waits for an agency when it connects.
    fn queue(&self, hello: &Hello) -> Vec<(FrameType, Bytes)> {
        let held = self.held.lock().unwrap();
        if hello.agency == "KH" {
            let delivery = |(at, packet)| canonical::encode(&self.region.delivery(packet, 0, at));
            return (1..).zip(&held.packets).map(|entry| (FrameType::Delivery, delivery(entry))).collect();
        }
        let evidence = |ack: &Acknowledgement| EvidenceDelivery {
            queue_sequence: ack.queue_sequence,
            evidence: ack.evidence.clone(),
        };
        let signed = held.acknowledgements.iter().filter(|ack| !ack.evidence.is_empty());
        let signed = signed.map(|ack| (FrameType::Evidence, canonical::encode(&evidence(ack))));
        let requests = held.witness_requests.iter();
        signed.chain(requests.map(|one| (FrameType::WitnessRequest, canonical::encode(one)))).collect()
    }

    async fn log(&self, mut writer: FrameWriter, question: &Bytes) -> Result<(), LinkError> {
        let get: LogGet = canonical::decode(question, limits::HELLO_BYTES_MAX)?;
        let tree = Tree(self.held.lock().unwrap().log.clone());
        let size = tree.0.len() as u64;
        let hashes = |tile: Tile| {
            let now = Tile::of_tree(tile.level, tile.index, size).filter(|now| now.width >= tile.width)?;
            let hash = |index| tree.hash(tile.level, tile.index * 256 + index).unwrap();
            let there = tile.is_full() || !now.is_full();
            there.then(|| (0..u64::from(tile.width)).flat_map(hash).collect::<Vec<u8>>())
        };
        // Nothing else of a log is here.
        let file = LogFile::parse(&get.path);
        let bytes = if let Some(LogFile::Tile(tile)) = file { hashes(tile) } else { None };
        let (there, bytes) = (bytes.is_some(), bytes.unwrap_or_default());
        let reason = if there { Reason::Accepted } else { Reason::MissingAttachment };
        let length = bytes.len() as u64;
        let head = LogHead { reason: reason as i32, text: String::new(), file_length: length, length };
        writer.send_message(FrameType::LogHead, &head).await?;
        writer.write_raw(bytes.into()).await?;
        writer.finish().await
    }

    /// An agency's bundles, as an honest broker gives and takes them.
    async fn policies(
        &self,
        agency: &str,
        mut writer: FrameWriter,
        (kind, payload): (FrameType, Bytes),
    ) -> Result<(), LinkError> {
        let open = |bytes: &Bytes| Bundle::open(bytes, &self.directory()).unwrap();
        if kind == FrameType::PolicyPut {
            let put: PolicyPut = canonical::decode(&payload, limits::POLICY_PUT_BYTES_MAX)?;
            let status = {
                let mut held = self.held.lock().unwrap();
                held.policy_puts += 1;
                let text = Version::read(&put.bundle).unwrap().1.policies;
                let refusal = held.policy_refusal.filter(|(_, part)| text.contains(part));
                let known = held.policies.entry(agency.to_owned()).or_default();
                if refusal.is_none() {
                    known.push(put.bundle);
                }
                let reason = refusal.map_or(Reason::Accepted, |(reason, _)| reason) as i32;
                PolicyStatus { reason, text: "no\u{1b}[2J".to_owned(), version: known.len() as u64 }
            };
            if status.reason == Reason::Accepted as i32 {
                let known = self.held.lock().unwrap().policies[agency].clone();
                let before = known.len().checked_sub(2).map(|at| open(&known[at]));
                open(known.last().unwrap()).follows(before.as_deref()).unwrap();
            }
            writer.send_message(FrameType::PolicyStatus, &status).await?;
            return writer.finish().await;
        }
        let get: PolicyGet = canonical::decode(&payload, limits::HELLO_BYTES_MAX)?;
        let known = {
            let mut held = self.held.lock().unwrap();
            held.policy_gets += 1;
            held.policies.get(agency).cloned().unwrap_or_default()
        };
        let newest = known.last().map(|newest| Version::read(newest).unwrap().0);
        let newer = known.iter().skip(usize::try_from(get.version).unwrap()).take(2).cloned().collect();
        let update = canonical::encode(&PolicyUpdate { bundles: newer });
        let head = PolicyHead {
            reason: Reason::Accepted as i32,
            text: String::new(),
            version: newest.as_ref().map_or(0, |newest| newest.version),
            hash: newest.map_or_else(Bytes::new, |newest| Bytes::copy_from_slice(&newest.hash)),
            length: update.len() as u64,
        };
        writer.send_message(FrameType::PolicyHead, &head).await?;
        writer.write_raw(update).await?;
        writer.finish().await
    }

    async fn blob(
        &self,
        agency: &str,
        mut writer: FrameWriter,
        mut reader: FrameReader,
    ) -> Result<(), LinkError> {
        let status = |blob_id: &Bytes, length| BlobStatus {
            blob_id: blob_id.clone(),
            reason: Reason::Accepted as i32,
            text: String::new(),
            length,
        };
        let (kind, payload) = reader.next().await?.unwrap();
        if kind == FrameType::DirectoryGet {
            return self.tell(writer, &payload).await;
        }
        if kind == FrameType::PolicyGet || kind == FrameType::PolicyPut {
            return self.policies(agency, writer, (kind, payload)).await;
        }
        if kind == FrameType::LogGet {
            return self.log(writer, &payload).await;
        }
        if kind == FrameType::KeysetPut {
            let reason = self.held.lock().unwrap().keyset_reason.unwrap() as i32;
            let status = KeysetStatus { reason, text: "version 1 is older\u{1b}[2J".to_owned() };
            writer.send_message(FrameType::KeysetStatus, &status).await?;
            return writer.finish().await;
        }
        if kind == FrameType::BlobGet {
            let get: BlobGet = canonical::decode(&payload, limits::HELLO_BYTES_MAX)?;
            let offset = usize::try_from(get.offset).unwrap();
            let (bytes, cut, held_damage) = {
                let mut held = self.held.lock().unwrap();
                let cut = held.failing_downloads > 0;
                held.failing_downloads = held.failing_downloads.saturating_sub(1);
                held.offsets.push(offset);
                let damaged = held.damaged_downloads > 0;
                held.damaged_downloads = held.damaged_downloads.saturating_sub(1);
                (held.blobs[&get.blob_id].clone(), cut, damaged)
            };
            writer.send_message(FrameType::BlobStatus, &status(&get.blob_id, bytes.len() as u64)).await?;
            let sent = if cut { bytes.len() / 2 } else { bytes.len() };
            let mut sent = bytes[..sent].to_vec();
            if held_damage {
                sent[100] ^= 1;
            }
            writer.write_raw(Bytes::copy_from_slice(&sent[offset..])).await?;
            return writer.finish().await;
        }
        let put: BlobPut = canonical::decode(&payload, limits::HELLO_BYTES_MAX)?;
        let blob = put.blob.unwrap();
        let mut bytes = self.held.lock().unwrap().blobs.remove(&blob.blob_id).unwrap_or_default();
        writer.send_message(FrameType::BlobStatus, &status(&blob.blob_id, bytes.len() as u64)).await?;
        if (bytes.len() as u64) < blob.length {
            while let Some(piece) = reader.read_raw(1 << 16).await? {
                bytes.extend_from_slice(&piece);
            }
            writer.send_message(FrameType::BlobStatus, &status(&blob.blob_id, blob.length)).await?;
        }
        assert_eq!(lintas_proto::envelope::segment::segment_root(&bytes).as_slice(), blob.root.as_ref());
        self.held.lock().unwrap().blobs.insert(blob.blob_id, bytes);
        Ok(())
    }
}

async fn soon(what: &str, done: impl Fn() -> bool) {
    for _ in 0..1200 {
        if done() {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("takes too long: {what}");
}

fn run(desk: &Arc<Desk>) -> tokio::task::JoinHandle<Failure> {
    let session = Session::new(Arc::clone(desk)).unwrap();
    tokio::spawn(async move { session.run().await })
}

fn standing(desk: &Desk, id: &str) -> crate::core::view::OutboxEntry {
    let Ok(Reply::Standing(entry)) = desk.answer(Request::Standing { id: id.to_owned() }) else {
        panic!("no standing");
    };
    *entry
}

fn received(desk: &Desk) -> usize {
    let Ok(Reply::Status(status)) = desk.answer(Request::Status) else { panic!("no status") };
    status.received
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_with_an_attachment_crosses_and_evidence_returns() {
    let (hub, address) = Hub::start(Region::new());
    let address = address.to_string();
    let thailand = Arc::new(hub.region.desk_at("TH", &address));
    let running = run(&thailand);
    let file = hub.region.root.path().join("vessel.jpg");
    let content: Vec<u8> = (0..=250).cycle().take(3_000_000).collect();
    fs::write(&file, &content).unwrap();
    soon("hello", || hub.held.lock().unwrap().live.len() == 1).await;
    // A daemon that waits sends at once.
    let text = draft(&["KH/KH-AHT"], "trawler", AMBER, "NONE");
    let request = Request::Send {
        draft: text,
        attach: vec![file],
        to: vec![],
        from: None,
        how: crate::shell::desk::How::default(),
    };
    let desk = Arc::clone(&thailand);
    let Ok(Reply::Kept(kept)) = spawn_blocking(move || desk.answer(request)).await.unwrap() else {
        panic!("not kept");
    };
    let is_accepted = || matches!(standing(&thailand, &kept.packet_id).standing, Standing::Accepted { .. });
    soon("receipt", is_accepted).await;

    // The first download is cut, the second brings other bytes: the packet is not acknowledged before the third.
    {
        let mut held = hub.held.lock().unwrap();
        (held.failing_downloads, held.damaged_downloads) = (1, 2);
    }
    let cambodia = Arc::new(hub.region.desk_at("KH", &address));
    let reading = run(&cambodia);
    soon("cut download", || hub.held.lock().unwrap().failing_downloads == 0).await;
    let count = received(&cambodia);
    let (offsets, acknowledged) = {
        let held = hub.held.lock().unwrap();
        (held.offsets.len(), held.acknowledgements.len())
    };
    // Asked in this order: if the third download has not begun by now, nothing could have come before.
    assert!(offsets >= 3 || (count, acknowledged) == (0, 0), "taken before the attachment was whole");
    soon("delivery", || received(&cambodia) == 1).await;
    {
        let held = hub.held.lock().unwrap();
        assert_eq!(held.live.len(), 2, "no session was opened anew");
        // What the cut one brought is not fetched again; what was wrong is thrown away.
        assert_eq!(held.offsets, [0, 1_049_656, 0], "{:?}", held.offsets);
    }
    assert_eq!(cambodia.transfers().all(), []);
    soon("acknowledgement", || !hub.held.lock().unwrap().acknowledgements.is_empty()).await;
    let to = hub.region.root.path().join("export");
    fs::create_dir(&to).unwrap();
    let export = Request::Export { id: kept.packet_id.clone(), to: to.clone(), confirmed: false };
    let desk = Arc::clone(&cambodia);
    spawn_blocking(move || desk.answer(export)).await.unwrap().unwrap();
    assert_eq!(fs::read(to.join("1.bin")).unwrap(), content);

    // Thailand comes back; the evidence waits for it.
    let live: Vec<Connection> = hub.held.lock().unwrap().live.drain(..).collect();
    live.iter().for_each(|connection| connection.close(CloseCode::ShuttingDown, "back soon"));
    soon("evidence", || standing(&thailand, &kept.packet_id).recipients[0].state == "delivered").await;
    running.abort();
    reading.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_where_it_was_cut() {
    let (hub, address) = Hub::start(Region::new());
    let thailand = Arc::new(hub.region.desk_at("TH", &address.to_string()));
    let file = hub.region.root.path().join("list.pdf");
    fs::write(&file, vec![7; 500_000]).unwrap();
    let text = draft(&["KH/KH-AHT"], "trawler", AMBER, "NONE");
    let request = Request::Send {
        draft: text,
        attach: vec![file],
        to: vec![],
        from: None,
        how: crate::shell::desk::How::default(),
    };
    let Ok(Reply::Kept(kept)) = thailand.answer(request) else { panic!("not kept") };
    let blob = fs::read_dir(hub.region.path("TH").join("blobs/out")).unwrap().next().unwrap().unwrap();
    let id = lintas_proto::id::unhex(blob.file_name().to_str().unwrap()).unwrap();
    let begun = fs::read(blob.path()).unwrap()[..123_456].to_vec();
    hub.held.lock().unwrap().blobs.insert(Bytes::from(id), begun);
    let running = run(&thailand);
    soon("receipt", || matches!(standing(&thailand, &kept.packet_id).standing, Standing::Accepted { .. }))
        .await;
    running.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_without_room_for_its_attachment_waits_and_lets_others_pass() {
    let (hub, address) = Hub::start(Region::new());
    let address = address.to_string();
    let thailand = Arc::new(hub.region.desk_at("TH", &address));
    let file = hub.region.root.path().join("list.pdf");
    fs::write(&file, vec![7; 500_000]).unwrap();
    let text = draft(&["KH/KH-AHT"], "trawler", AMBER, "NONE");
    for attach in [vec![file], vec![]] {
        let request = Request::Send {
            draft: text.clone(),
            attach,
            to: vec![],
            from: None,
            how: crate::shell::desk::How::default(),
        };
        assert!(matches!(thailand.answer(request), Ok(Reply::Kept(_))));
    }
    let running = run(&thailand);
    soon("packets", || hub.held.lock().unwrap().packets.len() == 2).await;
    drop(hub.region.desk_at("KH", &address));
    let path = hub.region.path("KH").join("node.toml");
    let settings = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{settings}free_mib_min = 16777216\n")).unwrap();
    let cambodia = Arc::new(hub.region.desk_at("KH", &address));
    let reading = run(&cambodia);
    soon("the packet without", || received(&cambodia) == 1).await;
    soon("why", || cambodia.link().trouble.contains("free_mib_min")).await;
    assert!(cambodia.link().connected, "the session goes on");
    let acknowledged = || hub.held.lock().unwrap().acknowledgements.len();
    soon("the acknowledgement of what came without", || acknowledged() > 0).await;
    assert_eq!(acknowledged(), 1, "what is not whole is not acknowledged");
    reading.abort();
    assert!(reading.await.unwrap_err().is_cancelled());
    // Once there is room it is taken.
    soon("the end", || Arc::strong_count(&cambodia) == 1).await;
    drop(cambodia);
    fs::write(&path, settings).unwrap();
    let cambodia = Arc::new(hub.region.desk_at("KH", &address));
    let reading = run(&cambodia);
    soon("both", || received(&cambodia) == 2).await;
    running.abort();
    reading.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn more_deliveries_with_attachments_than_may_wait_are_all_taken_in_the_end() {
    const PACKETS: usize = 24;
    let (hub, address) = Hub::start(Region::new());
    let address = address.to_string();
    let thailand = Arc::new(hub.region.desk_at("TH", &address));
    let file = hub.region.root.path().join("list.pdf");
    fs::write(&file, vec![7; 2_000]).unwrap();
    let text = draft(&["KH/KH-AHT"], "trawler", AMBER, "NONE");
    for _ in 0..PACKETS {
        let request = Request::Send {
            draft: text.clone(),
            attach: vec![file.clone()],
            to: vec![],
            from: None,
            how: crate::shell::desk::How::default(),
        };
        assert!(matches!(thailand.answer(request), Ok(Reply::Kept(_))));
    }
    let running = run(&thailand);
    soon("packets", || hub.held.lock().unwrap().packets.len() == PACKETS).await;
    let hellos = hub.held.lock().unwrap().hellos;
    let cambodia = Arc::new(hub.region.desk_at("KH", &address));
    let reading = run(&cambodia);
    soon("all", || received(&cambodia) == PACKETS).await;
    let sessions = hub.held.lock().unwrap().hellos - hellos;
    assert!((1..=3).contains(&sessions), "{sessions} sessions");
    running.abort();
    reading.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_offline_goes_out_in_order() {
    let (hub, address) = Hub::start(Region::new());
    let thailand = Arc::new(hub.region.desk_at("TH", &address.to_string()));
    let text = draft(&["KH/KH-AHT"], "trawler", AMBER, "NONE");
    let mut ids = Vec::new();
    for _ in 0..100 {
        let request = Request::Send {
            draft: text.clone(),
            attach: vec![],
            to: vec![],
            from: None,
            how: How::default(),
        };
        let Ok(Reply::Kept(kept)) = thailand.answer(request) else { panic!("not kept") };
        ids.push(kept.packet_id);
    }
    let running = run(&thailand);
    let accepted = |id: &String| matches!(standing(&thailand, id).standing, Standing::Accepted { .. });
    soon("receipts", || ids.iter().all(accepted)).await;
    let held = hub.held.lock().unwrap();
    let arrived: Vec<String> = held
        .packets
        .iter()
        .map(|packet| crate::testing::core(&packet.header).packet_id.to_string())
        .collect();
    assert_eq!(arrived, ids);
    assert_eq!(held.submissions, 100);
    drop(held);
    running.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_refuses_the_node_is_not_hammered_and_nothing_is_lost() {
    let (hub, address) = Hub::start(Region::new());
    let thailand = Arc::new(hub.region.desk_at("TH", &address.to_string()));
    let text = draft(&["KH/KH-AHT"], "trawler", AMBER, "NONE");
    let request = Request::Send {
        draft: text,
        attach: vec![],
        to: vec![],
        from: None,
        how: crate::shell::desk::How::default(),
    };
    let Ok(Reply::Kept(kept)) = thailand.answer(request) else { panic!("not kept") };
    let cases = [
        (Reason::Clock, "set this machine's clock"),
        (Reason::WrongRegion, "check `broker` in node.toml"),
        (Reason::UnknownSender, "ask the region authority"),
    ];
    let trouble = || thailand.link().trouble;
    hub.held.lock().unwrap().refusal = Some(Reason::Clock);
    let running = run(&thailand);
    for (at, (reason, advice)) in cases.into_iter().enumerate() {
        hub.held.lock().unwrap().refusal = Some(reason);
        // What SIGHUP does.
        thailand.reconnect();
        soon(advice, || trouble().contains(advice)).await;
        assert!(trouble().contains("it says `1440 minutes"), "{}", trouble());
        assert!(trouble().contains("The outbox keeps everything"));
        sleep(Duration::from_millis(700)).await;
        let hellos = hub.held.lock().unwrap().hellos;
        assert!(hellos <= at + 2, "{hellos} hellos");
    }
    assert!(matches!(standing(&thailand, &kept.packet_id).standing, Standing::Waiting { .. }));
    hub.held.lock().unwrap().refusal = None;
    thailand.reconnect();
    soon("receipt", || matches!(standing(&thailand, &kept.packet_id).standing, Standing::Accepted { .. }))
        .await;
    running.abort();
}

mod directories;
mod policies;

/// A session is dropped in the middle when the node takes up another transport key.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_on_its_way_when_a_session_was_dropped_goes_out_in_the_next() {
    let (hub, address) = Hub::start(Region::new());
    let thailand = Arc::new(hub.region.desk_at("TH", &address.to_string()));
    let request = Request::Send {
        draft: draft(&["KH/KH-AHT"], "trawler", AMBER, "NONE"),
        attach: vec![],
        to: vec![],
        from: None,
        how: How::default(),
    };
    let Ok(Reply::Kept(kept)) = thailand.answer(request) else { panic!("not kept") };
    assert!(matches!(thailand.next_work(), Ok(Work::Submit(_))), "the first session submits it");
    let running = run(&thailand);
    let is_accepted = || matches!(standing(&thailand, &kept.packet_id).standing, Standing::Accepted { .. });
    soon("receipt", is_accepted).await;
    running.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_answers_in_the_session_and_tiles_prove_a_fork_that_others_were_shown() {
    let (hub, address) = Hub::start(Region::new());
    let (honest, other) = (Tree::new(600, u64::MAX), Tree::new(600, 300));
    let note = |tree: &Tree, size| {
        let checkpoint = tree.checkpoint(size, &root_origin(BROKER));
        SignedCheckpoint::sign(checkpoint, &hub.region.log_key()).unwrap().to_bytes()
    };
    let request = WitnessRequest { old_size: 0, proof: vec![], checkpoint: note(&honest, 400) };
    {
        let mut held = hub.held.lock().unwrap();
        held.witness_requests = vec![request];
        held.log = honest.0.clone();
    }
    let thailand = Arc::new(hub.region.desk_at("TH", &address.to_string()));
    let running = run(&thailand);
    soon("cosignature", || hub.held.lock().unwrap().witness_answers.len() == 1).await;
    let answer = hub.held.lock().unwrap().witness_answers[0].clone();
    assert_eq!((answer.reason, answer.size), (Reason::Accepted as i32, 400));
    // What Cambodia was shown of the same log is proven and taken over, also where partial tiles are full by now.
    thailand.hear_checkpoint("KH", &note(&honest, 500));
    soon("larger", || thailand.known_checkpoint().unwrap().claim().size == 500).await;
    // Indonesia was shown another one: first the broker gives tiles of the honest log, then of that one.
    thailand.hear_checkpoint("ID", &note(&other, 590));
    sleep(Duration::from_millis(300)).await;
    assert!(thailand.findings().unwrap().is_empty());
    hub.held.lock().unwrap().log = other.0.clone();
    soon("fork", || thailand.findings().unwrap().len() == 1).await;
    let found = thailand.findings().unwrap();
    assert_eq!((found[0].kind.as_str(), found[0].is_evidence, found[0].exhibits.len()), ("fork", true, 3));
    assert_eq!(hub.held.lock().unwrap().live.len(), 1, "no session was opened anew");
    running.abort();
}
