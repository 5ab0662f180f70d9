//! The sample region of `config/mekong`, made on the spot: keys, a directory signed by two of three authorities,
//! a broker and nodes, each with its own folder and its own process.

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
    issue::fresh_seed,
    os_entropy,
    source::{MemberSource, RegionSource, functions, mekong},
};
use lintas_proto::{canonical, schema::Role};
use serde_json::Value;

use crate::{
    ROLE_BROKER, ROLE_NODE,
    authority::Authority,
    member::Member,
    policy::{self, Released},
    process::{Process, wait},
};

pub mod faults;

/// How often the log of a test's region is published, milliseconds.
const EPOCH_MS: u32 = 500;
/// What a node says when it holds its folder.
const NODE_RUNS: &str = "node runs";

/// A region on disk.
#[derive(Debug)]
pub struct Region {
    program: PathBuf,
    root: PathBuf,
    broker: Option<Process>,
    nodes: BTreeMap<String, Process>,
    /// What more processes find in their environment, by folder.
    environment: BTreeMap<String, Vec<(&'static str, OsString)>>,
}

/// What a region is to be like.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Agencies whose nodes the test starts, by code.
    pub nodes: &'a [&'a str],
    /// Members whose keys the test holds.
    pub held: &'a [&'a Member],
    /// Those of `nodes` that watch the log; as the sample says if none.
    pub witnesses: Option<&'a [&'a str]>,
    /// How often the log is published, milliseconds.
    pub epoch_ms: u32,
    /// What the agencies let go and take.
    pub released: Released,
}

impl<'a> Wanted<'a> {
    /// A region with these nodes, whose log is published quickly. Those of the sample's witnesses watch it that are
    /// among them: others would never answer.
    #[must_use]
    pub fn nodes(nodes: &'a [&'a str]) -> Self {
        Self { nodes, held: &[], witnesses: None, epoch_ms: EPOCH_MS, released: Released::Everything }
    }

    /// The members of such a region: all of the sample, but no outside witness whose node is not there.
    fn members(&self, source: &RegionSource) -> Vec<MemberSource> {
        let there = |member: &&MemberSource| {
            member.roles != [Role::Witness] || self.nodes.contains(&member.agency.as_str())
        };
        source.members.iter().filter(there).cloned().collect()
    }

    fn watches(&self, member: &MemberSource) -> bool {
        let agency = member.agency.as_str();
        self.witnesses
            .map_or(member.witness && self.nodes.contains(&agency), |witnesses| witnesses.contains(&agency))
    }
}

/// Runs commands as an officer would.
#[derive(Debug, Clone)]
pub struct Officer {
    program: PathBuf,
    data: PathBuf,
    key: PathBuf,
    environment: Vec<(&'static str, OsString)>,
}

impl Officer {
    /// Runs `lintas`.
    pub fn lintas<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Said {
        let mut command = Command::new(&self.program);
        command.args([OsStr::new(ROLE_NODE), OsStr::new("--data"), self.data.as_os_str()]).args(arguments);
        command.envs(self.environment.iter().cloned());
        said(command.env("LINTAS_KEY_FILE", &self.key))
    }
}

pub(crate) fn said(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
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
    /// Makes keys and folders under `root` by running `init` as a user would, then founds the region by the commands
    /// of its authority: three offices, two of which sign.
    /// `program` is `lintas-demo`; `nodes` are agency codes.
    #[must_use]
    pub fn found(program: &Path, root: &Path, nodes: &[&str]) -> Self {
        Self::found_as(program, root, &Wanted::nodes(nodes), |broker| broker)
    }

    /// As [`found`](Self::found), with members whose keys the test holds, and with nodes that connect to what
    /// `via` makes of the broker's address.
    #[must_use]
    pub fn found_with(
        program: &Path,
        root: &Path,
        nodes: &[&str],
        held: &[&Member],
        via: impl FnOnce(SocketAddr) -> SocketAddr,
    ) -> Self {
        Self::found_as(program, root, &Wanted { held, ..Wanted::nodes(nodes) }, via)
    }

    /// As [`found_with`](Self::found_with), as the test wants it.
    #[must_use]
    pub fn found_as(
        program: &Path,
        root: &Path,
        wanted: &Wanted<'_>,
        via: impl FnOnce(SocketAddr) -> SocketAddr,
    ) -> Self {
        let source = mekong().unwrap();
        let region = Self {
            program: program.to_owned(),
            root: root.to_owned(),
            broker: None,
            nodes: BTreeMap::new(),
            environment: BTreeMap::new(),
        };
        let address = free_address();
        let (folder, listen) = (region.folder("broker"), address.to_string());
        let arguments = ["init", "--name", &source.brokers[0], "--listen", &listen, "--data"].map(OsStr::new);
        let _ = region.run(ROLE_BROKER, &[&arguments[..], &[folder.as_os_str()]].concat()).ok();
        let address = via(address);
        let authority = region.authority();
        let members = wanted.members(&source);
        let code = |member: &'_ MemberSource| member.agency.clone();
        let codes: Vec<String> = members.iter().map(code).collect();
        let watch: Vec<String> = members.iter().filter(|member| wanted.watches(member)).map(code).collect();
        authority.begin(&refs(&codes), &refs(&watch), wanted.epoch_ms);
        let (mut requests, mut secrets) = (Vec::new(), Vec::new());
        for described in &members {
            let code = described.agency.as_str();
            if wanted.nodes.contains(&code) {
                requests.push(region.init(code, &source, described, address));
                continue;
            }
            let held = wanted.held.iter().find(|member| member.unit.agency == code);
            // Else a member whose node is not there; nobody will ever use its keys.
            let (request, secret) = held.map_or_else(
                || {
                    let Member { request, secrets, .. } = Member::of(&source, code);
                    (request, secrets)
                },
                |member| (member.request.clone(), member.secrets.clone()),
            );
            secrets.push((described, secret));
            let path = authority.path(&format!("{code}-join-request.bin"));
            fs::write(&path, canonical::encode(&request)).unwrap();
            requests.push(path);
        }
        authority.found(&region.folder("broker").join("broker.roster"), &requests);
        for folder in ["broker"].iter().chain(wanted.nodes) {
            region.take_published(folder);
        }
        for (described, secret) in &secrets {
            if let Some((policies, cases)) = wanted.released.texts(described) {
                region.has_bundle(&described.agency, 1, &policy::signed(secret, &policies, &cases, None));
            }
        }
        for described in members.iter().filter(|member| wanted.nodes.contains(&member.agency.as_str())) {
            region.publish_policy(described, wanted.released);
        }
        region
    }

    /// Has an agency publish its release policy, as its officer would, and gives it to a broker that does not run yet.
    fn publish_policy(&self, described: &MemberSource, released: Released) {
        let agency = described.agency.as_str();
        let Some((policies, cases)) = released.texts(described) else { return };
        let _ = self.publish(agency, &policies, &cases).ok();
        let signed = fs::read(self.folder(agency).join("policy/000001.bin")).unwrap();
        self.has_bundle(agency, 1, &signed);
    }

    /// Where the officer of an agency keeps its policy.
    #[must_use]
    pub fn policy_folder(&self, agency: &str) -> PathBuf {
        self.root.join(format!("{agency}-policy"))
    }

    /// `lintas policy publish` of such texts.
    pub fn publish(&self, agency: &str, policies: &str, cases: &str) -> Said {
        let folder = self.policy_folder(agency);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("policy.cedar"), policies).unwrap();
        fs::write(folder.join("cases.toml"), cases).unwrap();
        self.lintas(agency, &["--json", "policy", "publish", folder.to_str().unwrap(), "--yes"])
    }

    /// Puts a bundle into the broker's folder, as if it had been brought.
    pub fn has_bundle(&self, agency: &str, version: u64, signed: &[u8]) {
        let folder = self.folder("broker").join("policies").join(agency);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{version}.bin")), signed).unwrap();
    }

    /// The offices that founded the region.
    #[must_use]
    pub fn authority(&self) -> Authority {
        Authority::at(&self.program, &self.folder("authority"))
    }

    /// Makes an agency's keys anew, as on a new machine, in a folder of that name; its new request.
    pub fn init_anew(&self, agency: &str, folder: &str) -> PathBuf {
        let source = mekong().unwrap();
        let described = source.members.iter().find(|member| member.agency == agency).unwrap();
        self.init(folder, &source, described, self.broker_address())
    }

    /// `lintas init`, as the agency would run it; its request to join.
    fn init(
        &self,
        folder: &str,
        source: &RegionSource,
        described: &MemberSource,
        broker: SocketAddr,
    ) -> PathBuf {
        fs::create_dir_all(&self.root).unwrap();
        fs::write(self.key_file(folder), hex_key()).unwrap();
        let arguments = init_arguments(source, described, broker, &self.identity_key_file(folder));
        let _ = self.lintas(folder, &arguments).ok();
        self.folder(folder).join("join-request.bin")
    }

    /// The key file that opens the identity key of a folder.
    #[must_use]
    pub fn identity_key_file(&self, folder: &str) -> PathBuf {
        self.root.join(format!("{folder}-identity.hex"))
    }

    /// Puts what the authority has published last into a folder of the broker or of an agency.
    pub fn take_published(&self, folder: &str) {
        for name in ["bootstrap.toml", "directory.bin"] {
            let place = self.folder(folder).join(name);
            fs::copy(self.authority().published().join(name), place.with_extension("part")).unwrap();
            fs::rename(place.with_extension("part"), place).unwrap();
        }
    }

    /// What processes of that folder, started from now on, find in their environment beside the harness's own.
    pub fn set_environment(&mut self, folder: &str, environment: Vec<(&'static str, OsString)>) {
        self.environment.insert(folder.to_owned(), environment);
    }

    fn environment(&self, folder: &str) -> Vec<(&'static str, &OsStr)> {
        let set = self.environment.get(folder).into_iter().flatten();
        set.map(|(name, value)| (*name, value.as_os_str())).collect()
    }

    /// Has an agency's node, once it is started again, connect to `broker`.
    pub fn reach(&self, agency: &str, broker: SocketAddr) {
        fs::write(self.folder(agency).join("node.toml"), format!("broker = \"{broker}\"\n")).unwrap();
    }

    /// Starts the broker and waits until it listens.
    pub fn start_broker(&mut self) {
        self.broker = Some(self.other_broker("broker"));
    }

    /// Starts the broker of another folder and waits until it listens; it is the caller's.
    #[must_use]
    pub fn other_broker(&self, folder: &str) -> Process {
        let (log, data) = (self.log(folder), self.folder(folder));
        let before = fs::read_to_string(&log).unwrap_or_default().matches("listens on").count();
        let arguments = [OsStr::new(ROLE_BROKER), OsStr::new("run"), OsStr::new("--data"), data.as_os_str()];
        let mut broker = Process::start(&self.program, &arguments, &log, &self.environment(folder));
        assert!(broker.wait_for("listens on", before), "the broker does not start:\n{}", broker.said());
        broker
    }

    /// Ends the broker with kill -9.
    pub fn kill_broker(&mut self) {
        self.broker.take().unwrap().kill_9();
    }

    /// Ends the broker with SIGTERM; true if it ended well.
    pub fn stop_broker(&mut self) -> bool {
        self.broker.take().unwrap().terminate().success()
    }

    /// Waits until the broker has ended by itself; its exit code.
    pub fn broker_ends(&mut self) -> Option<i32> {
        self.broker.take().unwrap().ends().code()
    }

    /// Memory that the broker holds now, bytes.
    #[must_use]
    pub fn broker_resident_bytes(&self) -> u64 {
        self.broker.as_ref().unwrap().resident_bytes()
    }

    /// Starts an agency's node and waits until it takes commands.
    pub fn start_node(&mut self, agency: &str) {
        let (log, data, key) = (self.log(agency), self.folder(agency), self.key_file(agency));
        let arguments = [OsStr::new(ROLE_NODE), OsStr::new("--data"), data.as_os_str(), OsStr::new("run")];
        let mut environment = self.environment(agency);
        environment.push(("LINTAS_KEY_FILE", key.as_os_str()));
        let before = fs::read_to_string(&log).unwrap_or_default().matches(NODE_RUNS).count();
        let mut node = Process::start(&self.program, &arguments, &log, &environment);
        // Not asked before it holds its folder: the command would open the folder itself, and the node would not start.
        let runs = node.wait_for(NODE_RUNS, before);
        let answers = |region: &Self| {
            let said = region.lintas(agency, &["--json", "status"]);
            said.code == 0 && said.json()["daemon"] == true
        };
        let up = runs && wait(|| answers(self) || !node.is_running()) && node.is_running();
        assert!(up, "the node of {agency} does not start:\n{}", node.said());
        self.nodes.insert(agency.to_owned(), node);
    }

    /// Has an agency's node try its broker at once.
    pub fn hurry_node(&self, agency: &str) {
        self.nodes.get(agency).unwrap().hang_up();
    }

    /// Ends an agency's node with kill -9.
    pub fn kill_node(&mut self, agency: &str) {
        self.nodes.remove(agency).unwrap().kill_9();
    }

    /// Ends an agency's node with SIGTERM; true if it ended well.
    pub fn stop_node(&mut self, agency: &str) -> bool {
        self.nodes.remove(agency).unwrap().terminate().success()
    }

    /// The most memory that the running broker, or an agency's node, has had at once, KiB.
    #[must_use]
    pub fn peak_kib(&self, name: &str) -> u64 {
        self.process(name).peak_kib()
    }

    /// The running broker, or an agency's node.
    #[must_use]
    pub fn process(&self, name: &str) -> &Process {
        let broker = self.broker.as_ref().filter(|_| name == "broker");
        broker.or_else(|| self.nodes.get(name)).unwrap()
    }

    /// Runs `lintas` as an officer of `agency` would.
    pub fn lintas<A: AsRef<OsStr>>(&self, agency: &str, arguments: &[A]) -> Said {
        self.officer(agency).lintas(arguments)
    }

    /// The desk of an officer of `agency`.
    #[must_use]
    pub fn officer(&self, agency: &str) -> Officer {
        Officer {
            program: self.program.clone(),
            data: self.folder(agency),
            key: self.key_file(agency),
            environment: self.environment.get(agency).cloned().unwrap_or_default(),
        }
    }

    fn run(&self, role: &str, arguments: &[&OsStr]) -> Said {
        said(Command::new(&self.program).arg(role).args(arguments))
    }

    /// Where everything lies.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
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

/// What an agency that the sources describe types to make its node.
#[must_use]
pub fn init_arguments(
    source: &RegionSource,
    described: &MemberSource,
    broker: SocketAddr,
    identity_key_file: &Path,
) -> Vec<OsString> {
    let (region, broker) = (source.region.as_str(), broker.to_string());
    let (agency, name) = (described.agency.as_str(), described.name.as_str());
    let typed = ["init", "--region", region, "--agency", agency, "--name", name, "--broker", &broker];
    let mut arguments = typed.map(OsString::from).to_vec();
    arguments.extend(["--identity-key-file".into(), identity_key_file.into()]);
    if !described.country.is_empty() {
        arguments.extend(["--country".into(), OsString::from(&described.country)]);
    }
    if described.units.is_empty() {
        arguments.push("--no-units".into());
    }
    for unit in &described.units {
        let known = functions();
        let names = unit.functions.iter().map(|function| {
            known.iter().find(|(_, known)| known == function).map(|(name, _)| name.as_str()).unwrap()
        });
        let names = names.collect::<Vec<_>>().join("+");
        arguments.extend(["--unit".into(), format!("{}={}, {names}", unit.unit, unit.name).into()]);
    }
    arguments
}

/// Milliseconds since 1970-01-01T00:00:00Z.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "the harness's clock")]
pub fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn refs(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

/// A loopback UDP port that was free a moment ago.
#[must_use]
pub fn free_address() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn hex_key() -> String {
    lintas_proto::id::hex(fresh_seed(&mut os_entropy()).as_slice())
}
