//! A region whose nodes reach their broker through a shaper each, and what must hold whatever the network does: each packet
//! arrives exactly once, those of one sender in the order in which they were sent, and every sender learns it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    case,
    process::wait,
    region::{Region, free_address, now_ms},
    shaper::{Dice, Shaper, Way, Weather},
};

/// Most packets that a test looks at.
const LIST_MAX: &str = "10000";

/// A region behind shapers.
#[derive(Debug)]
pub struct Shaped {
    root: TempDir,
    /// The region; nothing runs until [`start`](Self::start).
    pub region: Region,
    /// What everything here follows from.
    pub seed: u64,
    shapers: BTreeMap<String, Shaper>,
    metrics: SocketAddr,
    sent: Vec<Sent>,
    dice: Dice,
}

/// A packet that a node has kept.
#[derive(Debug)]
struct Sent {
    from: String,
    to: String,
    packet: String,
    /// One with a file lets others overtake while its file is on the way.
    file: Option<PathBuf>,
}

/// The seed of a test: LINTAS_SEED, or the time. It is printed.
#[must_use]
pub fn seed() -> u64 {
    let seed = std::env::var("LINTAS_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or_else(now_ms);
    println!("seed {seed} (LINTAS_SEED)");
    seed
}

/// How often a soak repeats what the gate does once: LINTAS_NETWORK_ROUNDS.
#[must_use]
pub fn rounds() -> usize {
    std::env::var("LINTAS_NETWORK_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

impl Shaped {
    /// Founds a region with these nodes; `shaper` makes each of them a way to the broker.
    #[must_use]
    pub fn found(program: &Path, nodes: &[&str], shaper: impl Fn(SocketAddr, u64) -> Shaper) -> Self {
        let (root, seed, metrics) = (tempfile::tempdir().unwrap(), seed(), free_address());
        let (region, mut dice) = (Region::found(program, root.path(), nodes), Dice::of(seed));
        let address = region.broker_address();
        let settings = format!("listen = \"{address}\"\nmetrics = \"{metrics}\"\n");
        fs::write(region.folder("broker").join("broker.toml"), settings).unwrap();
        let way = |node: &&str| (String::from(*node), shaper(address, dice.roll(u64::MAX)));
        let shapers: BTreeMap<String, Shaper> = nodes.iter().map(way).collect();
        shapers.iter().for_each(|(node, shaper)| region.reach(node, shaper.address()));
        Self { root, region, seed, shapers, metrics, sent: Vec::new(), dice }
    }

    /// Starts the broker and all nodes.
    pub fn start(&mut self) {
        self.region.start_broker();
        let nodes: Vec<String> = self.shapers.keys().cloned().collect();
        nodes.iter().for_each(|node| self.region.start_node(node));
        nodes.iter().for_each(|node| self.is_connected(node));
    }

    /// Waits until a node has a session.
    pub fn is_connected(&self, node: &str) {
        let connected = || self.status(node)["link"]["connected"] == true;
        assert!(wait(connected), "seed {}: {node}: {}", self.seed, self.status(node));
    }

    /// `lintas status` of a node.
    #[must_use]
    pub fn status(&self, node: &str) -> Value {
        self.region.lintas(node, &["--json", "status"]).ok().json()
    }

    /// The way of a node.
    #[must_use]
    pub fn way(&self, node: &str) -> &Shaper {
        &self.shapers[node]
    }

    /// The same weather on all ways.
    pub fn set(&self, weather: Weather) {
        self.shapers.values().for_each(|shaper| shaper.set(weather));
    }

    /// An officer's alert from one agency to another; a file of so many KiB goes with it.
    pub fn send(&mut self, from: &str, to: &str, kib: Option<usize>) {
        let (number, root) = (self.sent.len(), self.root.path());
        let file = kib.map(|kib| {
            let path = root.join(format!("{number}.bin"));
            let bytes: Vec<u8> =
                (0..kib * 128).flat_map(|_| self.dice.roll(u64::MAX).to_be_bytes()).collect();
            fs::write(&path, bytes).unwrap();
            path
        });
        let directory = self.region.directory();
        let unit_of = |agency: &str| {
            let member = directory.roster().members.iter().find(|member| member.agency == agency).unwrap();
            member.units[0].unit.clone()
        };
        let draft = case::draft(root, "draft.json", |alert| {
            let to = format!("{to}/{}", unit_of(to));
            (alert["from"], alert["to"]) = (unit_of(from).into(), json!([to]));
            alert["body"]["title"] = json!([{ "language": "en", "text": format!("number {number}") }]);
        });
        let mut arguments = vec!["--json".to_owned(), "send".to_owned(), draft];
        arguments.extend(file.iter().flat_map(|file| ["--attach".to_owned(), file.display().to_string()]));
        let said = self.region.lintas(from, &arguments).ok().json();
        let packet = said["packet_id"].as_str().unwrap().to_owned();
        self.sent.push(Sent { from: from.to_owned(), to: to.to_owned(), packet, file });
    }

    /// What stands in a list of a node, oldest first.
    fn list(&self, node: &str, list: &str) -> Vec<Value> {
        let said = self.region.lintas(node, &["--json", list, "--limit", LIST_MAX]).ok();
        let mut packets = said.json()["packets"].as_array().cloned().unwrap_or_default();
        packets.reverse();
        packets
    }

    /// Packets in a node's inbox, oldest first.
    #[must_use]
    pub fn inbox(&self, node: &str) -> Vec<String> {
        let id = |packet: &Value| packet["packet_id"].as_str().unwrap().to_owned();
        self.list(node, "inbox").iter().map(id).collect()
    }

    /// How many packets of a node stand so at all their recipients.
    #[must_use]
    pub fn standing(&self, node: &str, state: &str) -> usize {
        let stands = |packet: &&Value| {
            let mut recipients = packet["recipients"].as_array().unwrap().iter();
            recipients.all(|recipient| recipient["state"] == state)
        };
        self.list(node, "outbox").iter().filter(stands).count()
    }

    /// Waits until all that was sent is with its recipients and its senders know; then nothing may be there twice, nothing
    /// else, nothing in another order, and every file must be the one that was sent.
    pub fn all_arrived_once_in_order(&self) {
        let nodes: BTreeSet<&str> = self.shapers.keys().map(String::as_str).collect();
        for node in &nodes {
            let own = self.sent.iter().filter(|sent| sent.from == *node).count();
            assert!(
                wait(|| self.standing(node, "delivered") == own),
                "seed {}: {node}: {} of {own} delivered: {:?}",
                self.seed,
                self.standing(node, "delivered"),
                self.list(node, "outbox")
            );
        }
        for node in &nodes {
            let inbox = self.inbox(node);
            let wanted: BTreeSet<&String> =
                self.sent.iter().filter(|sent| sent.to == *node).map(|sent| &sent.packet).collect();
            assert_eq!(inbox.len(), wanted.len(), "seed {}: {node}: not once: {inbox:?}", self.seed);
            assert_eq!(inbox.iter().collect::<BTreeSet<_>>(), wanted, "seed {}: {node}: others", self.seed);
            for from in &nodes {
                let of = |sent: &&Sent| sent.from == *from && sent.to == *node && sent.file.is_none();
                let sent: Vec<&String> = self.sent.iter().filter(of).map(|sent| &sent.packet).collect();
                let arrived: Vec<&String> = inbox.iter().filter(|packet| sent.contains(packet)).collect();
                assert_eq!(arrived, sent, "seed {}: {from} to {node}: not in order", self.seed);
            }
        }
        self.sent.iter().for_each(|sent| self.same_file(sent));
    }

    fn same_file(&self, sent: &Sent) {
        let Some(file) = &sent.file else { return };
        let to = self.root.path().join(format!("export-{}", sent.packet));
        if to.exists() {
            return; // Compared before.
        }
        fs::create_dir(&to).unwrap();
        let arguments = ["--json", "export", &sent.packet, "--attachments", "--to", to.to_str().unwrap()];
        let exported = self.region.lintas(&sent.to, &arguments).ok().json();
        let got = Path::new(exported[0]["file"].as_str().unwrap());
        let same = Command::new("cmp").arg(file).arg(got).status().unwrap().success();
        assert!(same, "seed {}: {} is not {}", self.seed, got.display(), file.display());
    }

    /// A number on the broker's page of metrics, e.g. `sessions`.
    #[must_use]
    pub fn metric(&self, name: &str) -> u64 {
        let mut stream = TcpStream::connect(self.metrics).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        let name = format!("lintas_broker_{name} ");
        let line = page.lines().find_map(|line| line.strip_prefix(&name));
        line.unwrap_or_else(|| panic!("{name}: {page}")).trim().parse().unwrap()
    }

    /// What the shapers did to datagrams, both ways of all, e.g. how many they lost.
    #[must_use]
    pub fn harmed(&self, of: impl Fn(&crate::shaper::Counts) -> u64) -> u64 {
        let both = |shaper: &Shaper| of(&shaper.counts(Way::Up)) + of(&shaper.counts(Way::Down));
        self.shapers.values().map(both).sum()
    }

    /// Where everything lies.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.root.path()
    }
}
