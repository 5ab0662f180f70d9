//! A small region for tests: three agencies with two units each, one authority, one broker. Every agency has a policy
//! bundle that releases and accepts everything.

mod book;
mod facts;
mod log;
mod policy;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use lintas_config::{
    Bootstrap, Directory,
    issue::{bundle, fresh_seed, new_agency, new_broker, seed, sign_keyset, sign_revocation, sign_roster},
    os_entropy,
    policy::Bundle as PolicyVersion,
};
use lintas_link::TransportKey;
use lintas_proto::{
    canonical,
    envelope::{
        blob::BlobSealer,
        chunk::plain_length,
        core::Core,
        seal::{Draft, Recipient, Sealed, seal},
        wrap::DecryptionKey,
    },
    evidence::{Evidence, sign_evidence},
    id::PacketId,
    schema::{
        Alert, AttachmentKey, AttachmentRef, Body, BrokerSecrets, HandlingCode, JoinRequest, Keyset, Kind,
        Label, Member, MemberStatus, NodeSecrets, Offence, Onward, Origin, Outcome, Purpose, Reason, Role,
        Roster, RosterUnit, SignedKeyset, Stage, Text, Tlp, UnitFunction, UnitRef, Urgency,
    },
    sign::{KeyRole, SigningKey, VerifyingKey},
};

pub(crate) use self::{
    book::{Book, QUEUE_ENTRIES_MAX},
    facts::Facts,
    log::TestLog,
    policy::OPEN,
};
use crate::core::{
    admit::{self, Verified},
    outcome::{self, How},
    refuse::{Refused, Speaker},
    rules::Rules,
};

/// 2026-01-15T08:00:00Z.
pub(crate) const NOW: u64 = 1_768_464_000_000;
pub(crate) const DAY: u64 = 24 * 60 * 60 * 1_000;
pub(crate) const REGION: &str = "mekong";
pub(crate) const BROKER: &str = "hub.mekong";

pub(crate) fn unit(agency: &str, unit: &str) -> UnitRef {
    UnitRef { agency: agency.to_owned(), unit: format!("{agency}-{unit}") }
}

/// A region. Its clock stands at `now_ms`.
pub(crate) struct World {
    pub(crate) now_ms: u64,
    /// How long bodies are to be.
    pub(crate) title_bytes: usize,
    pub(crate) directory: Directory,
    /// The directory with the newest bundles.
    pub(crate) rules: Rules,
    bundles: BTreeMap<String, Vec<Arc<PolicyVersion>>>,
    pub(crate) bootstrap: Bootstrap,
    pub(crate) broker: BrokerSecrets,
    pub(crate) receipt_key: SigningKey,
    pub(crate) roster: Roster,
    pub(crate) keysets: Vec<SignedKeyset>,
    authority: SigningKey,
    pub(crate) secrets: BTreeMap<String, NodeSecrets>,
}

impl World {
    pub(crate) fn new(now_ms: u64) -> Self {
        let mut entropy = os_entropy();
        let authority = SigningKey::from_seed(KeyRole::Authority, &fresh_seed(&mut entropy)).unwrap();
        let (broker, broker_keys) = new_broker(BROKER, &mut entropy).unwrap();
        let (mut members, mut keysets, mut secrets) = (vec![], vec![], BTreeMap::new());
        for agency in ["KH", "TH", "VN"] {
            let (_, secret, request) = new_agency(REGION, member(agency), now_ms, &mut entropy).unwrap();
            let JoinRequest { member, keyset, .. } = request;
            // Who witnesses says so in its test.
            members.push(Member { witness_key: Bytes::new(), ..member.unwrap() });
            keysets.push(keyset.unwrap());
            secrets.insert(agency.to_owned(), secret);
        }
        let roster = Roster {
            format: 1,
            region: REGION.to_owned(),
            version: 1,
            not_before_ms: now_ms - DAY,
            not_after_ms: now_ms + 200 * DAY,
            authority_keys: vec![Bytes::copy_from_slice(&authority.public_key())],
            threshold: 1,
            members,
            brokers: vec![broker_keys],
            suite_min: 1,
            epoch_ms: 10_000,
            ..Roster::default()
        };
        let bootstrap = Bootstrap {
            region: REGION.to_owned(),
            authority_keys: vec![VerifyingKey::parse(&authority.public_key()).unwrap()],
            threshold: 1,
        };
        let receipt = seed("receipt", &broker.receipt_seed).unwrap();
        let receipt_key = SigningKey::from_seed(KeyRole::Receipt, &receipt).unwrap();
        let directory = open(&roster, &keysets, &authority, &bootstrap);
        let title_bytes = 10;
        let bundles = secrets.iter().map(|(agency, secrets)| (agency.clone(), vec![policy::first(secrets)]));
        let bundles = bundles.collect();
        Self {
            now_ms,
            title_bytes,
            rules: policy::rules(&directory, &bundles, now_ms),
            bundles,
            directory,
            bootstrap,
            broker,
            receipt_key,
            roster,
            keysets,
            authority,
            secrets,
        }
    }

    /// The directory after the roster was changed.
    pub(crate) fn publish(&mut self) {
        self.directory = open(&self.roster, &self.keysets, &self.authority, &self.bootstrap);
        self.rules = policy::rules(&self.directory, &self.bundles, self.now_ms);
    }

    /// The directory after the next roster was published.
    pub(crate) fn publish_next(&mut self) {
        self.roster.prev_hash = Bytes::copy_from_slice(self.directory.roster_hash());
        self.roster.version += 1;
        self.publish();
    }

    /// Changes a member; [`publish`](Self::publish) puts it in force.
    pub(crate) fn member(&mut self, agency: &str) -> &mut Member {
        self.roster.members.iter_mut().find(|member| member.agency == agency).unwrap()
    }

    /// Makes a member a witness; [`publish`](Self::publish) puts it in force.
    pub(crate) fn make_witness(&mut self, agency: &str) {
        let key = self.witness_key(agency).public_key();
        self.member(agency).witness_key = Bytes::copy_from_slice(&key);
    }

    /// Key by which an agency cosigns.
    pub(crate) fn witness_key(&self, agency: &str) -> SigningKey {
        let seed = seed("witness", &self.secrets[agency].witness_seed).unwrap();
        SigningKey::from_seed(KeyRole::Witness, &seed).unwrap()
    }

    /// The broker's key for its log.
    pub(crate) fn log_key(&self) -> SigningKey {
        SigningKey::from_seed(KeyRole::Log, &seed("log", &self.broker.log_seed).unwrap()).unwrap()
    }

    /// Changes a member's status in the roster; [`publish_next`](Self::publish_next) puts it in force.
    pub(crate) fn set_status(&mut self, agency: &str, status: MemberStatus) {
        self.member(agency).status = status as i32;
    }

    /// A new member; [`publish_next`](Self::publish_next) puts it in force.
    pub(crate) fn join(&mut self, agency: &str) {
        let (_, secret, request) =
            new_agency(REGION, member(agency), self.now_ms, &mut os_entropy()).unwrap();
        self.roster.members.push(Member { witness_key: Bytes::new(), ..request.member.unwrap() });
        self.roster.members.sort_by(|a, b| a.agency.cmp(&b.agency));
        self.keysets.push(request.keyset.unwrap());
        self.bundles.insert(agency.to_owned(), vec![policy::first(&secret)]);
        self.secrets.insert(agency.to_owned(), secret);
    }

    /// All keys of an agency are other ones, and its old identity key vouches for none;
    /// [`publish_next`](Self::publish_next) puts it in force.
    pub(crate) fn change_identity(&mut self, agency: &str) {
        self.roster.members.retain(|member| member.agency != agency);
        self.keysets.retain(|signed| keyset_of(signed) != agency);
        self.join(agency);
    }

    /// The keyset that may follow the one of an agency, with the same keys.
    pub(crate) fn next_keyset(&self, agency: &str) -> SignedKeyset {
        let version = self.directory.keyset_version(agency).unwrap() + 1;
        self.keyset(agency, version, self.directory.keyset_hash(agency).unwrap())
    }

    pub(crate) fn keyset(&self, agency: &str, version: u64, previous: &[u8]) -> SignedKeyset {
        let previous = Bytes::copy_from_slice(previous);
        // Each has another end, so that no two are the same.
        sign_keyset(&self.secrets[agency], version, previous, self.now_ms - version).unwrap()
    }

    /// The keyset by which an agency takes back its keys.
    pub(crate) fn revocation(&self, agency: &str) -> SignedKeyset {
        sign_revocation(&self.secrets[agency], self.now_ms).unwrap()
    }

    /// The directory with another keyset in it.
    pub(crate) fn put_keyset(&mut self, signed: SignedKeyset) {
        let agency = keyset_of(&signed);
        self.keysets.retain(|keyset| keyset_of(keyset) != agency);
        self.keysets.push(signed);
        self.publish();
    }

    pub(crate) fn speaker(&self) -> Speaker<'_> {
        Speaker {
            region: REGION,
            broker: BROKER,
            log: BROKER,
            key: &self.receipt_key,
            generation: self.rules.generation(),
        }
    }

    pub(crate) fn transport(&self, agency: &str) -> TransportKey {
        let seed = seed("transport", &self.secrets[agency].transport_seed).unwrap();
        TransportKey::from_seed(&seed).unwrap()
    }

    /// Key pair of a unit for this epoch.
    pub(crate) fn decryption(&self, to: &UnitRef) -> DecryptionKey {
        let epoch = u32::try_from(self.now_ms / lintas_proto::limits::EPOCH_MS).unwrap();
        let seeds = &self.secrets[&to.agency].encryption_seeds;
        let found = seeds.iter().find(|seed| seed.unit == to.unit && seed.epoch == epoch).unwrap();
        DecryptionKey::from_seed(&seed("encryption", &found.seed).unwrap()).unwrap()
    }

    pub(crate) fn packet_key(&self, agency: &str) -> SigningKey {
        let seed = seed("packet", &self.secrets[agency].packet_seed).unwrap();
        SigningKey::from_seed(KeyRole::Packet, &seed).unwrap()
    }

    /// A packet from unit A of `from`.
    pub(crate) fn packet(&self, from: &str, to: &[UnitRef]) -> Sealed {
        self.packet_with(from, to, |_| {})
    }

    /// A packet whose core was changed before it was sealed.
    pub(crate) fn packet_with(&self, from: &str, to: &[UnitRef], change: impl FnOnce(&mut Core)) -> Sealed {
        let key = |to: &UnitRef| self.decryption(to).public().clone();
        let recipient =
            |to: &UnitRef| Recipient { unit: to.clone(), key: key(to), previous: [0; 32], named: true };
        self.seal(from, to.iter().map(recipient).collect(), change)
    }

    pub(crate) fn seal(
        &self,
        from: &str,
        recipients: Vec<Recipient>,
        change: impl FnOnce(&mut Core),
    ) -> Sealed {
        let mut core = self.core(from);
        change(&mut core);
        let keys = core.attachments.iter().map(attachment_key);
        let h3 = core.label.handling.contains(&(HandlingCode::H3 as i32));
        let body = Body {
            attachments: keys.collect(),
            handling_restriction: if h3 { text(10) } else { Vec::new() },
            ..body(self.title_bytes)
        };
        let draft = Draft { core, body, recipients, visible_audience: false };
        seal(draft, &self.packet_key(from), &mut os_entropy()).unwrap()
    }

    fn core(&self, from: &str) -> Core {
        let packet_id = PacketId::new(self.now_ms, &mut os_entropy());
        Core {
            packet_id,
            originator: unit(from, "A"),
            sign_key_id: [0; 32],
            region: REGION.to_owned(),
            roster_version: self.roster.version,
            keyset_version: self.directory.keyset_version(from).unwrap_or_default(),
            directory_hash: *self.directory.hash(),
            kind: Kind::Alert,
            label: label(),
            onward: Onward::None,
            created_ms: self.now_ms,
            not_before_ms: self.now_ms,
            deliver_by_ms: self.now_ms + 7 * DAY,
            recipient_commit: Vec::new(),
            refers_to: None,
            attachments: Vec::new(),
            reviewed: false,
        }
    }

    /// The packet as the broker's first gates see it now.
    pub(crate) fn admit(&self, sealed: &Sealed) -> Result<Verified, Refused> {
        let header = lintas_proto::envelope::verify::verify_header(
            &sealed.submission.header,
            &sealed.submission.signature,
            &self.directory.at(self.now_ms),
        );
        let agency = header.unwrap().core().originator.agency.clone();
        admit::verify(&canonical::encode(&sealed.submission), &agency, &self.rules, |_| None, self.now_ms)
    }

    /// What `to` says when it has taken a packet.
    pub(crate) fn evidence(&self, sealed: &Sealed, to: &UnitRef) -> Evidence {
        let verified = self.admit(sealed).unwrap();
        Evidence {
            region: REGION.to_owned(),
            stage: Stage::Delivery,
            outcome: Outcome::Acceptance,
            reason: Reason::Accepted,
            text: String::new(),
            packet_id: verified.header().core().packet_id,
            header_digest: sealed.digest,
            actor: to.clone(),
            recipient: Some(to.clone()),
            time_ms: self.now_ms,
            leaf: None,
            policy_id: String::new(),
            directory_hash: *self.directory.hash(),
        }
    }

    /// Evidence signed by an agency.
    pub(crate) fn sign(&self, evidence: Evidence, agency: &str) -> Bytes {
        let mut signed = sign_evidence(&[evidence], &self.packet_key(agency)).unwrap();
        canonical::encode(&signed.pop().unwrap())
    }

    /// A recipient's acknowledgement, checked as a session does.
    pub(crate) fn acknowledgement(&self, sealed: &Sealed, to: &UnitRef) -> How {
        let signed = self.sign(self.evidence(sealed, to), &to.agency);
        let checked = outcome::verify(&signed, &to.agency, &self.directory, self.now_ms).unwrap();
        How::Acknowledged(Box::new(checked))
    }

    /// Writes a broker's data folder.
    pub(crate) fn write(&self, folder: &Path) {
        let put = |name: &str, bytes: &[u8]| put(&folder.join(name), bytes);
        put("broker.toml", b"listen = \"127.0.0.1:0\"\nsegment_mib = 16\ncredit = 8\n");
        put("broker.keys", &canonical::encode(&self.broker));
        put("bootstrap.toml", self.bootstrap.to_text().as_bytes());
        put("directory.bin", self.directory.bytes());
        for name in ["journal", "blobs"] {
            std::fs::create_dir_all(folder.join(name)).unwrap();
        }
        self.write_policies(folder);
    }
}

/// The agency that a keyset is of.
fn keyset_of(signed: &SignedKeyset) -> String {
    canonical::decode::<Keyset>(&signed.keyset, lintas_proto::limits::KEYSET_BYTES_MAX).unwrap().agency
}

fn open(roster: &Roster, keysets: &[SignedKeyset], authority: &SigningKey, from: &Bootstrap) -> Directory {
    let signed = sign_roster(roster, std::slice::from_ref(authority)).unwrap();
    Directory::open(&bundle(&signed, keysets.to_vec()), from).unwrap()
}

fn member(agency: &str) -> Member {
    let unit = |letter: &str| RosterUnit {
        unit: format!("{agency}-{letter}"),
        name: "Unit".to_owned(),
        functions: vec![UnitFunction::Spoc as i32],
        clearance: 2,
        purposes: vec![Purpose::Investigation as i32],
    };
    Member {
        agency: agency.to_owned(),
        country: agency.to_owned(),
        name: format!("Police of {agency}"),
        roles: vec![Role::Agency as i32],
        units: vec![unit("A"), unit("B")],
        status: MemberStatus::Active as i32,
        ..Member::default()
    }
}

fn label() -> Label {
    Label {
        tlp: Tlp::Amber as i32,
        handling: vec![HandlingCode::H1 as i32],
        purposes: vec![Purpose::Investigation as i32],
        offences: vec![Offence::TraffickingInPersons as i32],
        ..Label::default()
    }
}

fn text(bytes: usize) -> Vec<Text> {
    vec![Text { language: "en".to_owned(), text: "b".repeat(bytes), machine_translated: false }]
}

fn body(title_bytes: usize) -> Body {
    Body {
        format: 1,
        title: text(title_bytes),
        urgency: Urgency::Urgent as i32,
        origin: Origin::Human as i32,
        alert: Some(Alert { suspected: vec![Offence::TraffickingInPersons as i32], ..Alert::default() }),
        ..Body::default()
    }
}

/// The broker never sees it.
fn attachment_key(reference: &AttachmentRef) -> AttachmentKey {
    AttachmentKey {
        key: Bytes::from_static(&[7; 32]),
        file_name: "crew.csv".to_owned(),
        media_type: "text/csv".to_owned(),
        length: plain_length(reference.length).unwrap(),
        sha256: Bytes::from_static(&[8; 32]),
        description: Vec::new(),
    }
}

/// An attachment's ciphertext, and its name in a core.
pub(crate) fn blob(file: &[u8]) -> (Vec<u8>, AttachmentRef) {
    let (mut blob, mut entropy) = (Vec::new(), os_entropy());
    let id = PacketId::new(NOW, &mut entropy);
    let mut sealer = BlobSealer::new(id, 0, file.len() as u64, &mut entropy, &mut blob).unwrap();
    sealer.update(file, &mut blob).unwrap();
    let (reference, _) = sealer.finish(&mut blob).unwrap();
    (blob, reference)
}

/// Writes a file, durable or not.
pub(crate) fn put(path: &Path, bytes: &[u8]) {
    use std::io::Write as _;
    std::fs::File::create(path).unwrap().write_all(bytes).unwrap();
}

/// A folder that goes with its value.
pub(crate) struct TempFolder(PathBuf);

impl TempFolder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("lintas-broker-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
