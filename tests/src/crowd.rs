//! A region of many members whose keys the test holds, and its broker as a process of its own.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use lintas_config::{
    issue::{new_agency, seed},
    os_entropy,
};
use lintas_link::{Client, FrameReader, FrameWriter, LinkError, PeerDirectory, TransportKey, greet};
use lintas_proto::schema::{
    Hello, JoinRequest, Member, MemberStatus, NodeSecrets, Purpose, Role, RosterUnit, UnitFunction,
};
use tokio::{runtime::Runtime, task::JoinSet, time::timeout};

use crate::{
    ROLE_BROKER,
    directory::Issued,
    process::Process,
    region::{free_address, now_ms, said},
};

const REGION: &str = "crowd";
/// Most handshakes at once.
const AT_ONCE: usize = 20;
/// How long anything may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(120);

/// The region.
#[derive(Debug)]
pub struct Crowd {
    root: PathBuf,
    address: SocketAddr,
    issued: Issued,
    secrets: Vec<NodeSecrets>,
    broker: Process,
    runtime: Runtime,
}

/// A member's open session; it reads nothing until the test does.
#[derive(Debug)]
pub struct Guest {
    _client: Client,
    _writer: FrameWriter,
    reader: FrameReader,
}

/// Trusts whoever answers.
#[derive(Debug)]
struct Anybody;

impl PeerDirectory for Anybody {
    fn admits(&self, _: &[u8; 32]) -> bool {
        true
    }
}

impl Crowd {
    /// Founds a region of `count` members, one authority signing alone, and starts its broker.
    #[must_use]
    pub fn found(program: &Path, root: &Path, count: usize) -> Self {
        let (folder, address) = (root.join("broker"), free_address());
        let mut init = Command::new(program);
        init.args([ROLE_BROKER, "init", "--name", "hub.crowd", "--listen", &address.to_string(), "--data"]);
        let _ = said(init.arg(&folder)).ok();
        let mut entropy = os_entropy();
        let (mut members, mut keysets, mut secrets) = (vec![], vec![], vec![]);
        for number in 0..count {
            let (_, secret, request) = new_agency(REGION, member(number), now_ms(), &mut entropy).unwrap();
            let JoinRequest { member, keyset, .. } = request;
            members.push(Member { witness_key: Bytes::new(), ..member.unwrap() });
            keysets.push(keyset.unwrap());
            secrets.push(secret);
        }
        let issued = Issued::found(&folder, REGION, 1_000, (members, keysets));
        let arguments =
            [OsStr::new(ROLE_BROKER), OsStr::new("run"), OsStr::new("--data"), folder.as_os_str()];
        let mut broker = Process::start(program, &arguments, &root.join("broker.log"), &[]);
        assert!(broker.wait_for("listens on", 0), "the broker does not start:\n{}", broker.said());
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { root: root.to_owned(), address, issued, secrets, broker, runtime }
    }

    /// The broker.
    #[must_use]
    pub fn broker(&self) -> &Process {
        &self.broker
    }

    /// Has each of these members open a session, in their order.
    #[must_use]
    pub fn connect(&self, numbers: std::ops::Range<usize>) -> Vec<Guest> {
        let mut guests = BTreeMap::new();
        for some in numbers.collect::<Vec<_>>().chunks(AT_ONCE) {
            let opened = self.runtime.block_on(async {
                let mut tries = JoinSet::new();
                for number in some.iter().copied() {
                    let (address, secrets, hello) =
                        (self.address, self.secrets[number].clone(), self.hello(number));
                    tries.spawn(async move { (number, open(address, secrets, hello).await.unwrap()) });
                }
                tries.join_all().await
            });
            guests.extend(opened);
        }
        guests.into_values().collect()
    }

    /// What the broker answers to one that tries to connect.
    #[must_use]
    pub fn refused(&self, number: usize) -> Option<LinkError> {
        self.runtime.block_on(open(self.address, self.secrets[number].clone(), self.hello(number))).err()
    }

    fn hello(&self, number: usize) -> Hello {
        Hello {
            protocol: 1,
            region: REGION.to_owned(),
            agency: agency(number),
            roster_version: self.issued.directory().roster().version,
            keyset_version: 1,
            directory_hash: Bytes::copy_from_slice(self.issued.directory().hash()),
            slot_key: self.secrets[number].slot_key.clone(),
            time_ms: now_ms(),
            software: "lintas-tests".to_owned(),
            ..Hello::default()
        }
    }

    /// The authority revokes these members; the broker's operator puts the new directory in its place, whole.
    pub fn revoke(&self, numbers: std::ops::Range<usize>) {
        self.issued.revoke(&self.root.join("broker"), numbers);
    }

    /// Why each of these sessions ended; none where one did not end.
    pub fn ends(&self, guests: &mut [Guest]) -> Vec<Option<LinkError>> {
        let end = |guest: &mut Guest| {
            let reading = async {
                loop {
                    match guest.reader.next().await {
                        Ok(Some(_)) => {}
                        Ok(None) => return LinkError::StreamEnded,
                        Err(error) => return error,
                    }
                }
            };
            self.runtime.block_on(async { timeout(PATIENCE, reading).await.ok() })
        };
        guests.iter_mut().map(end).collect()
    }

    /// Whether a session goes on: nothing ends it within a second.
    #[must_use]
    pub fn goes_on(&self, guest: &mut Guest) -> bool {
        let reading = async { while let Ok(Some(_)) = guest.reader.next().await {} };
        self.runtime.block_on(async { timeout(Duration::from_secs(1), reading).await.is_err() })
    }
}

async fn open(address: SocketAddr, secrets: NodeSecrets, hello: Hello) -> Result<Guest, LinkError> {
    let key = TransportKey::from_seed(&seed("transport", &secrets.transport_seed).unwrap())?;
    let client = Client::bind(SocketAddr::from(([127, 0, 0, 1], 0)), &key, Arc::new(Anybody))?;
    loop {
        match client.connect(address).await {
            // Too many at once from one address: it is let in a little later.
            Err(LinkError::Busy) => tokio::time::sleep(Duration::from_millis(200)).await,
            connected => {
                let (_, writer, reader) = greet(&connected?, &hello).await?;
                return Ok(Guest { _client: client, _writer: writer, reader });
            }
        }
    }
}

fn agency(number: usize) -> String {
    format!("A{number:05}")
}

fn member(number: usize) -> Member {
    let agency = agency(number);
    Member {
        name: format!("Police of {agency}"),
        roles: vec![Role::Agency as i32],
        units: vec![RosterUnit {
            unit: format!("{agency}-SPOC"),
            name: "Contact point".to_owned(),
            functions: vec![UnitFunction::Spoc as i32],
            clearance: 2,
            purposes: vec![Purpose::Investigation as i32],
        }],
        status: MemberStatus::Active as i32,
        agency,
        ..Member::default()
    }
}
