//! A region made on the spot: keys, a directory signed by two of three authorities, a broker and nodes, each
//! with its own folder and its own process.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs,
    net::{SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use lintas_config::{
    Bootstrap, Directory,
    issue::{bundle, fresh_seed, sign_roster},
    os_entropy,
};
use lintas_proto::{
    canonical, limits,
    schema::{BrokerKeys, JoinRequest, Roster},
    sign::{KeyRole, SigningKey, VerifyingKey},
};
use serde_json::Value;

use crate::{
    ROLE_BROKER, ROLE_NODE,
    process::{Process, wait},
};

/// Name of the region.
pub const REGION: &str = "mekong-demo";
/// Name of its broker.
pub const BROKER: &str = "hub.mekong-demo";
/// How long a roster made here is valid, milliseconds: 30 days.
const ROSTER_VALID_MS: u64 = 30 * 24 * 60 * 60 * 1_000;

/// An agency of the region.
#[derive(Debug, Clone, Copy)]
pub struct Agency {
    /// Code.
    pub code: &'static str,
    /// Name.
    pub name: &'static str,
    /// ISO 3166-1 alpha-2.
    pub country: &'static str,
    /// Units as `lintas init --unit` takes them.
    pub units: &'static [&'static str],
}

/// A region on disk.
#[derive(Debug)]
pub struct Region {
    program: PathBuf,
    root: PathBuf,
    broker: Option<Process>,
    nodes: BTreeMap<String, Process>,
}

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Said {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// Standard output as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The command must have succeeded.
    #[must_use]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }
}

impl Region {
    /// Makes keys and folders under `root` by running `init` as a user would, then signs the directory.
    /// `program` is `lintas-demo`.
    #[must_use]
    pub fn found(program: &Path, root: &Path, agencies: &[Agency]) -> Self {
        Self::found_with(program, root, agencies, &[], |broker| broker)
    }

    /// As [`found`](Self::found), with further members whose keys somebody else holds, and with nodes that
    /// connect to what `via` makes of the broker's address.
    #[must_use]
    pub fn found_with(
        program: &Path,
        root: &Path,
        agencies: &[Agency],
        others: &[&JoinRequest],
        via: impl FnOnce(SocketAddr) -> SocketAddr,
    ) -> Self {
        let region =
            Self { program: program.to_owned(), root: root.to_owned(), broker: None, nodes: BTreeMap::new() };
        let address = free_address();
        let broker_folder = region.folder("broker");
        let broker = ["init", "--name", BROKER, "--listen", &address.to_string(), "--data"];
        let _ = region
            .run(ROLE_BROKER, &[&broker.map(OsStr::new)[..], &[broker_folder.as_os_str()]].concat())
            .ok();
        let address = via(address);
        for agency in agencies {
            region.init(agency, address);
        }
        let (bootstrap, directory) = region.sign(agencies, others);
        for folder in ["broker"].into_iter().chain(agencies.iter().map(|agency| agency.code)) {
            region.publish(folder, &bootstrap, &directory);
        }
        region
    }

    fn init(&self, agency: &Agency, broker: SocketAddr) {
        fs::create_dir_all(&self.root).unwrap();
        fs::write(self.key_file(agency.code), hex_key()).unwrap();
        let mut arguments: Vec<OsString> = [
            "init",
            "--region",
            REGION,
            "--agency",
            agency.code,
            "--name",
            agency.name,
            "--country",
            agency.country,
        ]
        .map(OsString::from)
        .to_vec();
        arguments.extend(["--broker".into(), broker.to_string().into()]);
        for unit in agency.units {
            arguments.extend(["--unit".into(), OsString::from(unit)]);
        }
        let _ = self.lintas(agency.code, &arguments).ok();
    }

    /// The region authority's work: read the requests, write the roster, sign it with two of three keys.
    fn sign(&self, agencies: &[Agency], others: &[&JoinRequest]) -> (Bootstrap, Bytes) {
        let mut entropy = os_entropy();
        let seeds: Vec<_> = (0..3).map(|_| fresh_seed(&mut entropy)).collect();
        let authorities: Vec<_> =
            seeds.iter().map(|seed| SigningKey::from_seed(KeyRole::Authority, seed).unwrap()).collect();
        let (mut members, mut keysets) = (Vec::new(), Vec::new());
        let of_node = |agency: &Agency| -> JoinRequest {
            let bytes = fs::read(self.folder(agency.code).join("join-request.bin")).unwrap();
            canonical::decode(&Bytes::from(bytes), limits::KEYSET_BYTES_MAX).unwrap()
        };
        for request in agencies.iter().map(of_node).chain(others.iter().map(|request| (*request).clone())) {
            members.push(request.member.unwrap());
            keysets.push(request.keyset.unwrap());
        }
        members.sort_by(|a, b| a.agency.cmp(&b.agency));
        let broker = fs::read(self.folder("broker").join("broker.roster")).unwrap();
        let broker: BrokerKeys = canonical::decode(&Bytes::from(broker), 4_096).unwrap();
        let now = now_ms();
        let roster = Roster {
            format: 1,
            region: REGION.to_owned(),
            version: 1,
            not_before_ms: now - 60_000,
            not_after_ms: now + ROSTER_VALID_MS,
            authority_keys: authorities.iter().map(|key| Bytes::copy_from_slice(&key.public_key())).collect(),
            threshold: 2,
            members,
            brokers: vec![broker],
            suite_min: 1,
            epoch_ms: 10_000,
            ..Roster::default()
        };
        let signed = sign_roster(&roster, &authorities[..2]).unwrap();
        let keys = authorities.iter().map(|key| VerifyingKey::parse(&key.public_key()).unwrap()).collect();
        let bootstrap = Bootstrap { region: REGION.to_owned(), authority_keys: keys, threshold: 2 };
        (bootstrap, bundle(&signed, keysets))
    }

    fn publish(&self, folder: &str, bootstrap: &Bootstrap, directory: &Bytes) {
        fs::write(self.folder(folder).join("bootstrap.toml"), bootstrap.to_text()).unwrap();
        fs::write(self.folder(folder).join("directory.bin"), directory).unwrap();
    }

    /// Starts the broker and waits until it listens.
    pub fn start_broker(&mut self) {
        let (log, data) = (self.log("broker"), self.folder("broker"));
        let before = fs::read_to_string(&log).unwrap_or_default().matches("listens on").count();
        let arguments = [OsStr::new(ROLE_BROKER), OsStr::new("run"), OsStr::new("--data"), data.as_os_str()];
        let mut broker = Process::start(&self.program, &arguments, &log, &[]);
        assert!(broker.wait_for("listens on", before), "the broker does not start:\n{}", broker.said());
        self.broker = Some(broker);
    }

    /// Ends the broker with kill -9.
    pub fn kill_broker(&mut self) {
        self.broker.take().unwrap().kill_9();
    }

    /// Ends the broker with SIGTERM; true if it ended well.
    pub fn stop_broker(&mut self) -> bool {
        self.broker.take().unwrap().terminate().success()
    }

    /// Starts an agency's node and waits until it takes commands.
    pub fn start_node(&mut self, agency: &str) {
        let (log, data, key) = (self.log(agency), self.folder(agency), self.key_file(agency));
        let arguments = [OsStr::new(ROLE_NODE), OsStr::new("--data"), data.as_os_str(), OsStr::new("run")];
        let environment = [("LINTAS_KEY_FILE", key.as_os_str())];
        let mut node = Process::start(&self.program, &arguments, &log, &environment);
        let answers = |region: &Self| {
            let said = region.lintas(agency, &["--json", "status"]);
            said.code == 0 && said.json()["daemon"] == true
        };
        let up = wait(|| answers(self) || !node.is_running()) && node.is_running();
        assert!(up, "the node of {agency} does not start:\n{}", node.said());
        self.nodes.insert(agency.to_owned(), node);
    }

    /// Ends an agency's node with kill -9.
    pub fn kill_node(&mut self, agency: &str) {
        self.nodes.remove(agency).unwrap().kill_9();
    }

    /// Ends an agency's node with SIGTERM; true if it ended well.
    pub fn stop_node(&mut self, agency: &str) -> bool {
        self.nodes.remove(agency).unwrap().terminate().success()
    }

    /// Runs `lintas` as an officer of `agency` would.
    pub fn lintas<A: AsRef<OsStr>>(&self, agency: &str, arguments: &[A]) -> Said {
        let data = self.folder(agency);
        let mut all: Vec<&OsStr> = vec![OsStr::new("--data"), data.as_os_str()];
        all.extend(arguments.iter().map(AsRef::as_ref));
        self.run_as(ROLE_NODE, &all, Some(&self.key_file(agency)))
    }

    fn run(&self, role: &str, arguments: &[&OsStr]) -> Said {
        self.run_as(role, arguments, None)
    }

    fn run_as(&self, role: &str, arguments: &[&OsStr], key: Option<&Path>) -> Said {
        let mut command = Command::new(&self.program);
        command.arg(role).args(arguments);
        if let Some(key) = key {
            command.env("LINTAS_KEY_FILE", key);
        }
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said {
            code: output.status.code().unwrap_or(-1),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    /// Folder of the broker or of an agency.
    #[must_use]
    pub fn folder(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Log of the broker or of an agency's node.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.root.join(format!("{name}.log"))
    }

    /// The key file that unlocks an agency's node. On a real node it lives on another medium.
    #[must_use]
    pub fn key_file(&self, agency: &str) -> PathBuf {
        self.root.join(format!("{agency}.unlock"))
    }

    /// The directory that broker and nodes hold.
    #[must_use]
    pub fn directory(&self) -> Directory {
        let bootstrap = fs::read_to_string(self.folder("broker").join("bootstrap.toml")).unwrap();
        let bytes = fs::read(self.folder("broker").join("directory.bin")).unwrap();
        Directory::open(&Bytes::from(bytes), &Bootstrap::parse(&bootstrap).unwrap()).unwrap()
    }

    /// Address of the broker.
    #[must_use]
    pub fn broker_address(&self) -> SocketAddr {
        let text = fs::read_to_string(self.folder("broker").join("broker.toml")).unwrap();
        lintas_config::settings::BrokerSettings::parse(&text).unwrap().listen
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "the harness's clock")]
pub fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// A loopback UDP port that was free a moment ago.
fn free_address() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn hex_key() -> String {
    lintas_proto::id::hex(fresh_seed(&mut os_entropy()).as_slice())
}
