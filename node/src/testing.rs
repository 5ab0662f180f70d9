//! A region for tests: an authority, a broker's keys, three agencies with data folders of their own.

pub(crate) mod log;
mod policy;
pub(crate) mod whole_log;

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use lintas_config::{
    Bootstrap, Directory,
    issue::{bundle, fresh_seed, new_agency, new_broker, seed, sign_keyset, sign_roster},
    os_entropy,
    policy::{bundle as bundle_format, schema_hash},
};
use lintas_journal::{Disk, FileDisk};
use lintas_proto::{
    audit::leaf::log_event,
    canonical,
    envelope::core::Core,
    id::{Digest, sha256},
    limits,
    receipt::{Receipt, sign_receipts, sub_log_origin},
    schema::{
        AuditEvent, BrokerSecrets, Delivery, DirectoryUpdate, EventType, Header, IncludedPacket, LeafProof,
        Member, MemberStatus, NodeSecrets, Opening, PolicyBundle, Role, Roster, RosterUnit, SignedKeyset,
        StoredInclusion, StoredRootProof, Submission, UnitFunction, UnitRef,
    },
    sign::{KeyRole, SigningKey, VerifyingKey},
};
use tempfile::TempDir;
use zeroize::Zeroizing;

use crate::{
    core::{
        keys::{Holds, lock_file},
        records::Record,
        vault::{Unlocker, Wrapping},
    },
    shell::{clock, desk::Desk, files, folder::Folder, policies::files::Version},
};

pub(crate) use self::policy::OPEN;
use self::policy::decided;

/// Name of the region and of its broker.
pub(crate) const REGION: &str = "example";
pub(crate) const BROKER: &str = "hub.example";

/// What Thailand expects of such a policy.
pub(crate) const ALERT_GOES: &str = "[[case]]\nname = \"an alert goes\"\nfrom = \"TH/TH-VIC\"\nto = \"KH/KH-AHT\"\nkind = \
                                     \"ALERT\"\npurposes = [\"INVESTIGATION\"]\nexpect = \"release\"\n";

/// A policy that lets alerts go, and takes them; `why` makes one different from another.
pub(crate) fn alerts(why: &str) -> String {
    let one = |id: &str, action: &str| {
        format!(
            "@id(\"{id}\")\n@reason(\"{why}\")\npermit (principal, action == Lintas::Action::\"{action}\", resource)\nwhen \
             {{ resource.kind == Lintas::Kind::\"ALERT\" }};\n"
        )
    };
    one("alerts", "Release") + &one("take-alerts", "Accept")
}

/// A region on disk.
pub(crate) struct Region {
    pub(crate) root: TempDir,
    pub(crate) broker: BrokerSecrets,
    pub(crate) bootstrap: Bootstrap,
    pub(crate) bundle: Bytes,
    pub(crate) secrets: BTreeMap<String, NodeSecrets>,
    authority: SigningKey,
    /// The last one signed, and what has changed since.
    roster: Roster,
    roster_hash: Digest,
    keysets: Vec<SignedKeyset>,
    /// The next place that a receipt promises.
    pub(crate) next_index: AtomicU64,
}

fn member(agency: &str, country: &str, units: &[(&str, UnitFunction)]) -> Member {
    let unit = |(unit, function): &(&str, UnitFunction)| RosterUnit {
        unit: (*unit).to_owned(),
        name: "Unit".to_owned(),
        functions: vec![*function as i32],
        clearance: 0,
        purposes: vec![lintas_proto::schema::Purpose::Investigation as i32],
    };
    Member {
        agency: agency.to_owned(),
        name: format!("Police of {agency}"),
        country: country.to_owned(),
        roles: vec![Role::Agency as i32],
        units: units.iter().map(unit).collect(),
        status: MemberStatus::Active as i32,
        ..Member::default()
    }
}

impl Region {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// With a roster that `change` has changed before it was signed.
    pub(crate) fn with(change: impl FnOnce(&mut Roster)) -> Self {
        let (mut entropy, now) = (os_entropy(), clock::now_ms());
        let authority = SigningKey::from_seed(KeyRole::Authority, &fresh_seed(&mut entropy)).unwrap();
        let (broker, broker_keys) = new_broker(BROKER, &mut entropy).unwrap();
        let agencies = [
            member("ID", "ID", &[("ID-CID", UnitFunction::Investigation), ("ID-NCB", UnitFunction::Spoc)]),
            member("KH", "KH", &[("KH-AHT", UnitFunction::Investigation)]),
            member("TH", "TH", &[("TH-MAR", UnitFunction::Maritime), ("TH-VIC", UnitFunction::Spoc)]),
        ];
        let (mut members, mut keysets, mut secrets) = (Vec::new(), Vec::new(), BTreeMap::new());
        for agency in agencies {
            let code = agency.agency.clone();
            let (_, secret, request) = new_agency(REGION, agency, now, &mut entropy).unwrap();
            members.push(request.member.unwrap());
            keysets.push(request.keyset.unwrap());
            secrets.insert(code, secret);
        }
        let mut roster = Roster {
            format: 1,
            region: REGION.to_owned(),
            version: 1,
            not_before_ms: now - 60_000,
            not_after_ms: now + 1_000_000_000,
            authority_keys: vec![Bytes::copy_from_slice(&authority.public_key())],
            threshold: 1,
            members,
            brokers: vec![broker_keys],
            suite_min: 1,
            epoch_ms: 10_000,
            ..Roster::default()
        };
        change(&mut roster);
        let key = VerifyingKey::parse(&authority.public_key()).unwrap();
        let bootstrap = Bootstrap { region: REGION.to_owned(), authority_keys: vec![key], threshold: 1 };
        let first = bundle(&sign_roster(&roster, std::slice::from_ref(&authority)).unwrap(), keysets.clone());
        let roster_hash = sha256(&[&canonical::encode(&roster)]);
        let root = TempDir::new().unwrap();
        let next_index = AtomicU64::new(4);
        Self {
            root,
            broker,
            bootstrap,
            bundle: first,
            secrets,
            authority,
            roster_hash,
            roster,
            keysets,
            next_index,
        }
    }

    /// The bytes of the next directory, which the authority signs after `change`.
    pub(crate) fn next(&mut self, change: impl FnOnce(&mut Roster)) -> Bytes {
        self.roster.prev_hash = Bytes::copy_from_slice(&self.roster_hash);
        self.roster.version += 1;
        change(&mut self.roster);
        self.roster_hash = sha256(&[&canonical::encode(&self.roster)]);
        let signed = sign_roster(&self.roster, std::slice::from_ref(&self.authority)).unwrap();
        bundle(&signed, self.keysets.clone())
    }

    /// Gives an agency other keys, of which its old identity key knows nothing; the secret ones of its new machine.
    pub(crate) fn rekey(&mut self, agency: &str) -> NodeSecrets {
        let at = self.roster.members.iter().position(|member| member.agency == agency).unwrap();
        let member = self.roster.members[at].clone();
        let (_, secrets, request) = new_agency(REGION, member, clock::now_ms(), &mut os_entropy()).unwrap();
        self.roster.members[at] = request.member.unwrap();
        self.keysets[at] = request.keyset.unwrap();
        secrets
    }

    /// Adds a member, which must come last in order of codes, with the single point of contact CODE-NCB.
    pub(crate) fn join(&mut self, agency: &str, groups: &[&str]) {
        let unit = format!("{agency}-NCB");
        let mut new = member(agency, agency, &[(&unit, UnitFunction::Spoc)]);
        new.groups = groups.iter().map(|group| (*group).to_owned()).collect();
        let (_, secret, request) = new_agency(REGION, new, clock::now_ms(), &mut os_entropy()).unwrap();
        self.roster.members.push(request.member.unwrap());
        self.keysets.push(request.keyset.unwrap());
        self.secrets.insert(agency.to_owned(), secret);
    }

    /// Gives an agency new packet and encryption keys, in its next keyset.
    pub(crate) fn rotate(&mut self, agency: &str) {
        let at = self.roster.members.iter().position(|member| member.agency == agency).unwrap();
        let (mut entropy, signed) = (os_entropy(), self.keysets[at].clone());
        let before: lintas_proto::schema::Keyset =
            canonical::decode(&signed.keyset, limits::KEYSET_BYTES_MAX).unwrap();
        let secrets = self.secrets.get_mut(agency).unwrap();
        secrets.packet_seed = Bytes::copy_from_slice(fresh_seed(&mut entropy).as_slice());
        for known in &mut secrets.encryption_seeds {
            known.seed = Bytes::copy_from_slice(fresh_seed(&mut entropy).as_slice());
        }
        let hash = Bytes::copy_from_slice(&sha256(&[&signed.keyset]));
        self.keysets[at] = sign_keyset(secrets, before.version + 1, hash, clock::now_ms()).unwrap();
    }

    /// Puts an agency's keyset of the first directory in the place of its newest, which is returned.
    pub(crate) fn put_back(&mut self, agency: &str) -> SignedKeyset {
        let at = self.roster.members.iter().position(|member| member.agency == agency).unwrap();
        let first: lintas_proto::schema::DirectoryBundle =
            canonical::decode(&self.bundle, limits::DIRECTORY_BYTES_MAX).unwrap();
        let keyset = canonical::decode(&first.keysets[at], limits::KEYSET_BYTES_MAX).unwrap();
        std::mem::replace(&mut self.keysets[at], keyset)
    }

    /// A directory of this region, from its bytes.
    pub(crate) fn open(&self, bundle: &Bytes) -> Directory {
        Directory::open(bundle, &self.bootstrap).unwrap()
    }

    /// What an honest broker sends to whoever has `have`; `through` are the directories after it, the last is its own.
    pub(crate) fn update(have: &Directory, through: &[&Directory]) -> DirectoryUpdate {
        let newer = through.iter().filter(|next| next.roster().version > have.roster().version);
        let rosters = newer.map(|next| next.signed_roster().unwrap()).collect();
        through.last().unwrap().answer(&have.question().unwrap(), rosters).unwrap()
    }

    /// An agency founded anew in the first directory; the seed of its identity key.
    pub(crate) fn found_anew(&mut self, member: Member) -> Zeroizing<[u8; 32]> {
        let at = self.roster.members.iter().position(|known| known.agency == member.agency).unwrap();
        let code = member.agency.clone();
        let (seed, secrets, request) =
            new_agency(REGION, member, clock::now_ms(), &mut os_entropy()).unwrap();
        self.roster.members[at] = request.member.unwrap();
        self.keysets[at] = request.keyset.unwrap();
        self.secrets.insert(code, secrets);
        self.roster_hash = sha256(&[&canonical::encode(&self.roster)]);
        let signed = sign_roster(&self.roster, std::slice::from_ref(&self.authority)).unwrap();
        self.bundle = bundle(&signed, self.keysets.clone());
        seed
    }

    pub(crate) fn directory(&self) -> Directory {
        Directory::open(&self.bundle, &self.bootstrap).unwrap()
    }

    pub(crate) fn path(&self, agency: &str) -> PathBuf {
        self.root.path().join(agency)
    }

    /// Opens an agency's desk; makes its folder first if need be.
    pub(crate) fn desk(&self, agency: &str) -> Desk {
        self.desk_at(agency, "127.0.0.1:1")
    }

    pub(crate) fn desk_at(&self, agency: &str, broker: &str) -> Desk {
        let desk = self.desk_without_policy(agency, broker);
        self.give_open(&desk);
        desk
    }

    /// As a node is that has not fetched its agency's policy.
    pub(crate) fn desk_without_policy(&self, agency: &str, broker: &str) -> Desk {
        let folder = Folder::at(&self.path(agency));
        let unlocker = Unlocker::KeyFile(Zeroizing::new([7; 32]));
        if !folder.path("node.toml").exists() {
            for name in ["", "blobs", "blobs/in", "blobs/out"] {
                files::private_folder(&folder.path(name)).unwrap();
            }
            let plain = canonical::encode(&self.secrets[agency]);
            let wrapping = Wrapping::new(&unlocker, &mut os_entropy()).unwrap();
            let keys = lock_file(Holds::Node, &plain, &wrapping, &mut os_entropy()).unwrap();
            let settings = format!("broker = \"{broker}\"\nsegment_mib = 1\n");
            let bootstrap = self.bootstrap.to_text();
            let made: [(&str, &[u8]); 4] = [
                ("node.keys", &keys),
                ("bootstrap.toml", bootstrap.as_bytes()),
                ("directory.bin", &self.bundle),
                ("node.toml", settings.as_bytes()),
            ];
            for (name, bytes) in made {
                files::write_new(&folder.path(name), bytes).unwrap();
            }
        }
        let lock = folder.lock().unwrap();
        let desk = Desk::open(folder, lock, &unlocker, true).unwrap();
        let now_ms = clock::now_ms();
        desk.compare_clocks(now_ms, now_ms);
        desk.submit_what_ended();
        desk
    }

    /// The key that signs packets and evidence of an agency.
    pub(crate) fn packet_key(&self, agency: &str) -> SigningKey {
        let bytes = &self.secrets[agency].packet_seed;
        SigningKey::from_seed(KeyRole::Packet, &seed("packet", bytes).unwrap()).unwrap()
    }

    /// The key that signs receipts and evidence of the broker.
    pub(crate) fn receipt_key(&self) -> SigningKey {
        let key = seed("receipt", &self.broker.receipt_seed).unwrap();
        SigningKey::from_seed(KeyRole::Receipt, &key).unwrap()
    }

    /// The key that signs checkpoints of the broker's log.
    pub(crate) fn log_key(&self) -> SigningKey {
        SigningKey::from_seed(KeyRole::Log, &seed("log", &self.broker.log_seed).unwrap()).unwrap()
    }

    /// The broker's receipt for an agency, canonical bytes.
    pub(crate) fn receipt(
        &self,
        agency: &str,
        header: &Bytes,
        events: &[(EventType, Option<UnitRef>)],
    ) -> Bytes {
        let first = self.next_index.fetch_add(events.len() as u64, Ordering::Relaxed);
        self.receipt_in((&sub_log_origin(BROKER, agency), first), agency, header, events)
    }

    /// As [`receipt`](Self::receipt), in that sub-log from that index on.
    pub(crate) fn receipt_in(
        &self,
        (origin, first): (&str, u64),
        agency: &str,
        header: &Bytes,
        events: &[(EventType, Option<UnitRef>)],
    ) -> Bytes {
        let (core, digest) = (core(header), sha256(&[header]));
        let now = clock::now_ms();
        let event = |(kind, unit): &(EventType, Option<UnitRef>)| AuditEvent {
            r#type: *kind as i32,
            agency: agency.to_owned(),
            time_ms: now,
            packet_id: Bytes::copy_from_slice(core.packet_id.as_bytes()),
            header_digest: Bytes::copy_from_slice(&digest),
            originator: Some(core.originator.clone()),
            recipient: unit.clone(),
            directory_hash: Bytes::copy_from_slice(self.directory().hash()),
            ..decided(*kind, unit.as_ref())
        };
        let receipt = Receipt {
            origin: origin.to_owned(),
            packet_id: core.packet_id,
            header_digest: digest,
            time_ms: now,
            deadline_ms: now + 10_000,
            events: (first..).zip(events).map(|(at, said)| log_event(at, [9; 32], &event(said))).collect(),
        };
        let key = self.receipt_key();
        canonical::encode(&sign_receipts(&[receipt.to_bytes()], &key).unwrap()[0])
    }

    /// The broker's receipt for who submitted a packet that is released to everybody.
    pub(crate) fn submitted(&self, agency: &str, submission: &Submission) -> Bytes {
        self.receipt(agency, &submission.header, &submission_events(submission))
    }

    /// A version of an agency's policy, signed by its delegate key: canonical bytes of `SignedPolicyBundle`.
    pub(crate) fn policy(&self, agency: &str, before: Option<&Bytes>, from_ms: u64, policies: &str) -> Bytes {
        let before = before.map(|bytes| Version::read(bytes).unwrap().0);
        let said = PolicyBundle {
            format: bundle_format::FORMAT,
            region: REGION.to_owned(),
            owner: agency.to_owned(),
            version: before.as_ref().map_or(1, |before| before.version + 1),
            prev_hash: before.map_or_else(Bytes::new, |before| Bytes::copy_from_slice(&before.hash)),
            not_before_ms: from_ms,
            schema_hash: Bytes::copy_from_slice(&schema_hash()),
            policies: policies.to_owned(),
            cases: ALERT_GOES.to_owned(),
            note: String::new(),
        };
        canonical::encode(&bundle_format::sign(&self.secrets[agency], &said).unwrap())
    }

    /// What the broker delivers to recipient `index` of a submission.
    pub(crate) fn delivery(&self, submission: &Submission, index: usize, queue_sequence: u64) -> Delivery {
        let opening = submission.openings[index].clone();
        let unit = UnitRef { agency: opening.agency.clone(), unit: opening.unit.clone() };
        Delivery {
            queue_sequence,
            header: submission.header.clone(),
            signature: submission.signature.clone(),
            recipient_index: u32::try_from(index).unwrap(),
            wrap: submission.wraps[index].clone(),
            body: submission.body.clone(),
            receipt: self.receipt(&opening.agency, &submission.header, &[(EventType::Received, Some(unit))]),
            opening: Some(opening),
        }
    }
}

/// A disk that is full while a file named `full` lies beside the journal.
#[derive(Debug, Clone)]
pub(crate) struct FillableDisk {
    files: FileDisk,
    full: PathBuf,
}

impl FillableDisk {
    pub(crate) fn open(journal: PathBuf) -> io::Result<Self> {
        let full = journal.with_file_name("full");
        Ok(Self { files: FileDisk::open(journal)?, full })
    }
}

impl Disk for FillableDisk {
    type Lock = <FileDisk as Disk>::Lock;

    fn lock(&self) -> io::Result<Option<Self::Lock>> {
        self.files.lock()
    }

    fn list(&self) -> io::Result<Vec<u64>> {
        self.files.list()
    }

    fn length(&self, file: u64) -> io::Result<u64> {
        self.files.length(file)
    }

    fn create(&self, file: u64, bytes: u64) -> io::Result<()> {
        if self.full.exists() {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            self.files.create(file, bytes)
        }
    }

    fn remove(&self, file: u64) -> io::Result<()> {
        self.files.remove(file)
    }

    fn read(&self, file: u64, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.files.read(file, offset, into)
    }

    fn write(&self, file: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.files.write(file, offset, bytes)
    }

    fn sync(&self, file: u64) -> io::Result<()> {
        self.files.sync(file)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.files.sync_directory()
    }
}

/// What a broker says of a submission that it releases to everybody.
pub(crate) fn submission_events(submission: &Submission) -> Vec<(EventType, Option<UnitRef>)> {
    let unit = |o: &Opening| UnitRef { agency: o.agency.clone(), unit: o.unit.clone() };
    let released = submission.openings.iter().map(|opening| (EventType::Released, Some(unit(opening))));
    [(EventType::Submitted, None)].into_iter().chain(released).collect()
}

/// The records of where the events of [`Region::submitted`] stand; nothing in them holds.
pub(crate) fn inclusion_of(submission: &Submission) -> Vec<Record> {
    let origin = format!("{BROKER}/audit");
    let leaves = vec![LeafProof { index: 4, ..LeafProof::default() }];
    let header_digest = Bytes::copy_from_slice(&digest(submission));
    let packets = vec![IncludedPacket { header_digest, incoming: false, leaves }];
    let root = StoredRootProof { origin: origin.clone(), epoch: 1, ..StoredRootProof::default() };
    let inclusion = StoredInclusion { origin, epoch: 1, packets, ..StoredInclusion::default() };
    vec![Record::RootProof(root), Record::Inclusion(inclusion)]
}

/// The core in a header.
pub(crate) fn core(header: &Bytes) -> Core {
    let header: Header = canonical::decode(header, limits::HEADER_BYTES_MAX).unwrap();
    Core::parse(&header.core).unwrap()
}

/// Digest of a submission's header.
pub(crate) fn digest(submission: &Submission) -> Digest {
    sha256(&[&submission.header])
}

/// A draft to `to` with a title; `label` is added to the least label.
pub(crate) fn draft(to: &[&str], title: &str, label: &str, onward: &str) -> String {
    let to: Vec<String> = to.iter().map(|to| format!("\"{to}\"")).collect();
    format!(
        r#"{{ "kind": "ALERT", "from": "TH-MAR", "to": [{}], "onward": "{onward}",
            "label": {{ "handling": ["HANDLING_CODE_H0"], "purposes": ["PURPOSE_INVESTIGATION"], {label} }},
            "body": {{ "title": [{{ "language": "en", "text": "{title}" }}],
                       "urgency": "URGENCY_URGENT", "pap": "PAP_AMBER", "origin": "ORIGIN_HUMAN", "alert": {{
                       "suspected": ["OFFENCE_TRAFFICKING_IN_PERSONS"] }} }} }}"#,
        to.join(", ")
    )
}

/// The least label.
pub(crate) const AMBER: &str = r#""tlp": "TLP_AMBER""#;
