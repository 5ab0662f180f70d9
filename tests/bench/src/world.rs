//! A region whose keys the benchmark holds, and its broker as a process of its own.
//!
//! Everybody releases and takes everything that the baseline does not forbid; the audit log is kept as always.

use std::{
    ffi::OsStr,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use bytes::Bytes;
use lintas_config::{issue::new_agency, os_entropy, settings::BrokerSettings};
use lintas_proto::{
    canonical,
    schema::{
        JoinRequest, Member, MemberStatus, NodeSecrets, Purpose, Role, RosterUnit, UnitFunction, UnitRef,
    },
};
use lintas_tests::{
    ROLE_BROKER,
    directory::Issued,
    policy,
    process::Process,
    region::{free_address, now_ms},
};

use crate::{bench::Bench, node::Node};

pub(crate) const REGION: &str = "bench";
const BROKER: &str = "hub.bench";
/// How often the log is published, milliseconds: as a region is founded if nobody says otherwise.
pub(crate) const EPOCH_MS: u32 = 10_000;
/// Ticks a second of the times in `/proc`: Linux shows all processes so many, whatever it counts in itself.
const PROC_TICKS: f64 = 100.0;
/// Settings without which the benchmark would measure the bounds on one agency instead of the broker.
const UNBOUNDED: &str = "queue_entries_max = 10000000\njournal_mib_max = 1048576\n";
const ANY_RATE: &str = "submissions_per_minute = 0\n";

/// A region on disk.
#[derive(Debug)]
pub(crate) struct World {
    program: PathBuf,
    root: PathBuf,
    pub(crate) issued: Issued,
    pub(crate) secrets: Vec<NodeSecrets>,
    broker: Option<Process>,
}

impl World {
    /// Founds a region of `agencies` with one unit each under `root`. `settings` are lines of broker.toml.
    pub(crate) fn found(bench: &Bench, root: &Path, agencies: usize, settings: &str) -> Self {
        Self::found_beside(bench, root, agencies, settings, false).0
    }

    /// As [`found`](Self::found), with one agency more, whose node is a real one: its number is `agencies`.
    pub(crate) fn found_with_node(
        bench: &Bench,
        root: &Path,
        agencies: usize,
        settings: &str,
    ) -> (Self, Node) {
        let (world, node) = Self::found_beside(bench, root, agencies, settings, true);
        (world, node.unwrap())
    }

    fn found_beside(
        bench: &Bench,
        root: &Path,
        agencies: usize,
        settings: &str,
        with_node: bool,
    ) -> (Self, Option<Node>) {
        init(&bench.program, root, settings);
        let mut entropy = os_entropy();
        let (mut members, mut keysets, mut secrets) = (vec![], vec![], vec![]);
        for number in 0..agencies {
            let (_, secret, request) = new_agency(REGION, member(number), now_ms(), &mut entropy).unwrap();
            let JoinRequest { member, keyset, .. } = request;
            // Nobody watches the log, so it needs no cosignatures to be published.
            members.push(Member { witness_key: Bytes::new(), ..member.unwrap() });
            keysets.push(keyset.unwrap());
            secrets.push(secret);
        }
        let node = with_node.then(|| {
            let (node, request) = Node::init(&bench.program, root, agencies, address(root));
            let Member { identity_key, .. } = request.member.unwrap();
            members.push(Member { identity_key, ..member(agencies) });
            keysets.push(request.keyset.unwrap());
            node
        });
        let broker = root.join("broker");
        let issued = Issued::found(&broker, REGION, EPOCH_MS, (members, keysets));
        for secrets in &secrets {
            fs::write(secrets_file(root, &secrets.agency), canonical::encode(secrets)).unwrap();
            let folder = broker.join("policies").join(&secrets.agency);
            fs::create_dir_all(&folder).unwrap();
            fs::write(
                folder.join("1.bin"),
                policy::signed(secrets, policy::OPEN, &cases(&secrets.agency), None),
            )
            .unwrap();
        }
        if let Some(node) = &node {
            let signed = node.join(&broker);
            let folder = broker.join("policies").join(&node.unit.agency);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("1.bin"), signed).unwrap();
        }
        let (program, root) = (bench.program.clone(), root.to_owned());
        (Self { program, root, issued, secrets, broker: None }, node)
    }

    /// No agency submits more in a minute than a region allows if nobody says otherwise. Before the broker starts.
    pub(crate) fn bound_rates(&self) {
        let toml = self.folder().join("broker.toml");
        let text = fs::read_to_string(&toml).unwrap();
        fs::write(toml, text.replace(ANY_RATE, "")).unwrap();
    }

    /// Starts the broker and waits until it listens.
    pub(crate) fn start(&mut self) {
        let (log, data) = (self.root.join("broker.log"), self.root.join("broker"));
        let before = fs::read_to_string(&log).unwrap_or_default().matches("listens on").count();
        let arguments = [OsStr::new(ROLE_BROKER), OsStr::new("run"), OsStr::new("--data"), data.as_os_str()];
        let mut broker = Process::start(&self.program, &arguments, &log, &[]);
        assert!(broker.wait_for("listens on", before), "the broker does not start:\n{}", broker.said());
        self.broker = Some(broker);
    }

    /// The same, but looks each millisecond: how long it takes from the start of the process until the broker listens.
    pub(crate) fn start_timed(&mut self) -> Duration {
        let (log, data) = (self.root.join("broker.log"), self.root.join("broker"));
        // What earlier runs said is long by now.
        fs::remove_file(&log).unwrap();
        let arguments = [OsStr::new(ROLE_BROKER), OsStr::new("run"), OsStr::new("--data"), data.as_os_str()];
        let began = Instant::now();
        let mut broker = Process::start(&self.program, &arguments, &log, &[]);
        while !broker.said().contains("listens on") {
            assert!(broker.is_running(), "the broker does not start:\n{}", broker.said());
            sleep(Duration::from_millis(1));
        }
        let took = began.elapsed();
        self.broker = Some(broker);
        took
    }

    /// Time of processors that the broker has used since its start, in user and kernel, seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.broker().id())).unwrap();
        // The name, in brackets, may hold anything; the fields behind it begin with the third.
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let ticks = fields.split_whitespace().skip(11).take(2);
        ticks.map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / PROC_TICKS
    }

    /// The running broker.
    pub(crate) fn broker(&self) -> &Process {
        self.broker.as_ref().unwrap()
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.broker.take().unwrap().kill_9();
    }

    /// SIGTERM; it must end well.
    pub(crate) fn stop(&mut self) {
        assert!(self.broker.take().unwrap().terminate().success(), "the broker did not end well");
    }

    /// Folder of the broker.
    pub(crate) fn folder(&self) -> PathBuf {
        self.root.join("broker")
    }

    /// Where everything lies.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where the broker listens.
    pub(crate) fn address(&self) -> SocketAddr {
        address(&self.root)
    }
}

fn address(root: &Path) -> SocketAddr {
    let text = fs::read_to_string(root.join("broker/broker.toml")).unwrap();
    BrokerSettings::parse(&text).unwrap().listen
}

/// Makes the broker's folder as its operator would.
fn init(program: &Path, root: &Path, settings: &str) {
    let (folder, listen) = (root.join("broker"), free_address().to_string());
    let output = Command::new(program)
        .args([ROLE_BROKER, "init", "--name", BROKER, "--listen", &listen, "--data"])
        .arg(&folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let toml = folder.join("broker.toml");
    fs::write(&toml, format!("listen = \"{listen}\"\n{UNBOUNDED}{ANY_RATE}{settings}")).unwrap();
}

fn member(number: usize) -> Member {
    let unit = unit(number);
    Member {
        name: format!("Police of {}", unit.agency),
        roles: vec![Role::Agency as i32],
        units: vec![RosterUnit {
            unit: unit.unit,
            name: "Contact point".to_owned(),
            functions: vec![UnitFunction::Spoc as i32],
            clearance: 2,
            purposes: vec![Purpose::Investigation as i32],
        }],
        status: MemberStatus::Active as i32,
        agency: unit.agency,
        ..Member::default()
    }
}

/// The unit of an agency; codes are in ascending order.
pub(crate) fn unit(number: usize) -> UnitRef {
    let agency = format!("A{number:05}");
    UnitRef { unit: format!("{agency}-SPOC"), agency }
}

/// Where an agency's secret keys lie for the load generator.
pub(crate) fn secrets_file(root: &Path, agency: &str) -> PathBuf {
    root.join(format!("{agency}.secrets"))
}

/// Cases that a policy of an agency must have.
pub(crate) fn cases(agency: &str) -> String {
    let name = format!("{agency}/{agency}-SPOC");
    format!(
        "[[case]]\nname = \"to itself\"\nfrom = \"{name}\"\nto = \"{name}\"\nkind = \"ALERT\"\ntlp = \"AMBER\"\n\
         purposes = [\"INVESTIGATION\"]\nexpect = \"release\"\n"
    )
}
