//! The cast of the outside tests: three agencies, a broker, their fixed keys, and a packet between them.
//! Everything is made with the public API, from a stream of bytes that docs/FORMAT.md describes.

#![allow(dead_code, reason = "each test file is a crate of its own and uses a part of this")]
#![allow(clippy::unwrap_used, reason = "the tests' own values; a failure is a failed test")]

pub(crate) mod hpke;

use std::convert::Infallible;

use bytes::Bytes;
pub(crate) use lintas_proto::receipt::Receipt;
use lintas_proto::{
    audit::leaf::log_event,
    canonical,
    envelope::{
        blob::BlobSealer,
        core::Core,
        grant::GrantTerms,
        open::Parts,
        seal::{Draft, Recipient, Sealed, seal},
        verify::{PacketKeys, VerifiedHeader, verify_header},
        wrap::DecryptionKey,
    },
    evidence::Evidence,
    id::{Digest, PacketId, hex, sha256},
    receipt::sub_log_origin,
    schema::{
        self, Alert, AttachmentKey, AttachmentRef, AuditEvent, Body, EventType, Grading, GradingScheme,
        HandlingCode, Kind, Label, LoggedEvent, NameType, Offence, Onward, Origin, Outcome, Person,
        PersonName, PersonRole, Purpose, Reason, Stage, Text, Tlp, UnitRef, Urgency,
    },
    sign::{KeyRole, SigningKey, VerifyingKey},
};
use rand_core::{CryptoRng, TryCryptoRng, TryRng};
use zeroize::Zeroizing;

/// The bytes SHA-256(label ‖ 0) ‖ SHA-256(label ‖ 1) ‖ …, counters of 64 bits, big-endian; each draw takes the next.
pub(crate) struct Stream {
    label: String,
    counter: u64,
    rest: Vec<u8>,
    /// Bytes drawn so far.
    pub(crate) drawn: usize,
}

impl Stream {
    pub(crate) fn new(label: &str) -> Self {
        Self { label: label.to_owned(), counter: 0, rest: Vec::new(), drawn: 0 }
    }
}

impl TryRng for Stream {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        while self.rest.len() < dst.len() {
            self.rest.extend(sha256(&[self.label.as_bytes(), &self.counter.to_be_bytes()]));
            self.counter += 1;
        }
        dst.copy_from_slice(&self.rest.drain(..dst.len()).collect::<Vec<_>>());
        self.drawn += dst.len();
        Ok(())
    }
}

impl TryCryptoRng for Stream {}

/// Real randomness, for the packets that no one could have prepared for.
pub(crate) struct System(ring::rand::SystemRandom);

impl System {
    pub(crate) fn new() -> Self {
        Self(ring::rand::SystemRandom::new())
    }
}

impl TryRng for System {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        ring::rand::SecureRandom::fill(&self.0, dst).unwrap();
        Ok(())
    }
}

impl TryCryptoRng for System {}

/// 2026-01-15T08:00:00Z in milliseconds.
pub(crate) const NOW_MS: u64 = 1_768_464_000_000;
pub(crate) const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
pub(crate) const REGION: &str = "mekong";
pub(crate) const BROKER: &str = "broker.mekong";

/// Seeds of the fixed keys: 32 times the same byte.
pub(crate) const TH_SIGN: u8 = 0x01;
pub(crate) const KH_SIGN: u8 = 0x02;
pub(crate) const BROKER_SIGN: u8 = 0x03;
pub(crate) const KH_SEED: u8 = 0x11;
pub(crate) const VN_SEED: u8 = 0x12;
pub(crate) const LA_SEED: u8 = 0x13;

pub(crate) fn unit(agency: &str, unit: &str) -> UnitRef {
    UnitRef { agency: agency.to_owned(), unit: unit.to_owned() }
}

pub(crate) fn th() -> UnitRef {
    unit("TH", "TH-ATD-RNG")
}

pub(crate) fn kh() -> UnitRef {
    unit("KH", "KH-AHT")
}

pub(crate) fn vn() -> UnitRef {
    unit("VN", "VN-C02")
}

pub(crate) fn la() -> UnitRef {
    unit("LA", "LA-ATD")
}

pub(crate) fn signer(seed: u8, role: KeyRole) -> SigningKey {
    SigningKey::from_seed(role, &Zeroizing::new([seed; 32])).unwrap()
}

pub(crate) fn decryption(seed: u8) -> DecryptionKey {
    DecryptionKey::from_seed(&Zeroizing::new([seed; 32])).unwrap()
}

/// Which agency signs packets with which key.
pub(crate) struct Directory(pub(crate) Vec<(UnitRef, Digest, VerifyingKey)>);

impl Directory {
    pub(crate) fn of(keys: &[(UnitRef, &SigningKey)]) -> Self {
        let entry = |(unit, key): &(UnitRef, &SigningKey)| {
            (unit.clone(), *key.id(), VerifyingKey::parse(&key.public_key()).unwrap())
        };
        Self(keys.iter().map(entry).collect())
    }

    /// Thailand, who originates, and Cambodia, who relays.
    pub(crate) fn usual() -> Self {
        Self::of(&[(th(), &signer(TH_SIGN, KeyRole::Packet)), (kh(), &signer(KH_SIGN, KeyRole::Packet))])
    }
}

impl PacketKeys for Directory {
    fn packet_key(&self, originator: &UnitRef, key_id: &Digest) -> Option<&VerifyingKey> {
        self.0.iter().find(|(unit, id, _)| unit == originator && id == key_id).map(|(.., key)| key)
    }
}

pub(crate) fn text(language: &str, text: &str) -> Text {
    Text { language: language.to_owned(), text: text.to_owned(), machine_translated: false }
}

pub(crate) fn label() -> Label {
    Label {
        tlp: Tlp::Amber as i32,
        handling: vec![HandlingCode::H1 as i32, HandlingCode::H2 as i32],
        purposes: vec![Purpose::Investigation as i32, Purpose::VictimProtection as i32],
        offences: vec![Offence::TraffickingInPersons as i32],
        data: vec![schema::DataCategory::Victim as i32],
        ..Label::default()
    }
}

pub(crate) fn core(packet_id: PacketId) -> Core {
    Core {
        packet_id,
        originator: th(),
        sign_key_id: [0; 32],
        region: REGION.to_owned(),
        roster_version: 3,
        keyset_version: 7,
        directory_hash: sha256(&[b"a directory"]),
        kind: Kind::Alert,
        label: label(),
        onward: Onward::Region,
        created_ms: packet_id.created_ms(),
        not_before_ms: packet_id.created_ms(),
        deliver_by_ms: packet_id.created_ms() + 7 * DAY_MS,
        recipient_commit: Vec::new(),
        refers_to: None,
        attachments: Vec::new(),
        reviewed: false,
    }
}

pub(crate) fn body() -> Body {
    let name = PersonName {
        r#type: NameType::Alias as i32,
        full: "สมชาย".to_owned(),
        language: "th-Thai".to_owned(),
        ..PersonName::default()
    };
    let grading = Grading {
        scheme: GradingScheme::Europol4x4 as i32,
        source: "B".to_owned(),
        information: "2".to_owned(),
        handling: String::new(),
    };
    Body {
        format: 1,
        title: vec![text("en", "Fishing boat with eleven men aboard"), text("th", "เรือประมงมีชายสิบเอ็ดคน")],
        urgency: Urgency::Urgent as i32,
        gradings: vec![grading],
        origin: Origin::Human as i32,
        alert: Some(Alert { suspected: vec![Offence::TraffickingInPersons as i32], ..Alert::default() }),
        persons: vec![Person {
            id: 1,
            roles: vec![PersonRole::Suspect as i32],
            names: vec![name],
            citizenships: vec!["TH".to_owned()],
            ..Person::default()
        }],
        ..Body::default()
    }
}

/// Seals `file` as attachment `index`: ciphertext, and what core and body name.
pub(crate) fn attachment(
    packet_id: PacketId,
    index: u32,
    file: &[u8],
    entropy: &mut dyn CryptoRng,
) -> (Vec<u8>, AttachmentRef, AttachmentKey) {
    let mut blob = Vec::new();
    let mut sealer = BlobSealer::new(packet_id, index, file.len() as u64, entropy, &mut blob).unwrap();
    sealer.update(file, &mut blob).unwrap();
    let (reference, key) = sealer.finish(&mut blob).unwrap();
    let key =
        AttachmentKey { file_name: "crew list.csv".to_owned(), media_type: "text/csv".to_owned(), ..key };
    (blob, reference, key)
}

pub(crate) const FILE: &[u8] = b"name,role\nSomchai,master\n";

/// A sealed packet with its attachment.
pub(crate) struct Packet {
    pub(crate) sealed: Sealed,
    pub(crate) blob: Vec<u8>,
    pub(crate) draft_body: Body,
    pub(crate) attachment: AttachmentKey,
}

/// From Thailand to Cambodia and Vietnam, with one attachment.
pub(crate) fn packet(entropy: &mut dyn CryptoRng) -> Packet {
    packet_with(entropy, &[decryption(KH_SEED), decryption(VN_SEED)], &signer(TH_SIGN, KeyRole::Packet))
}

pub(crate) fn packet_with(
    entropy: &mut dyn CryptoRng,
    keys: &[DecryptionKey; 2],
    signer: &SigningKey,
) -> Packet {
    let packet_id = PacketId::new(NOW_MS, entropy);
    let (blob, reference, key) = attachment(packet_id, 0, FILE, entropy);
    let mut core = core(packet_id);
    core.attachments.push(reference);
    let mut body = body();
    body.attachments.push(key.clone());
    let draft_body = body.clone();
    let [first, second] = keys;
    let recipients = vec![
        Recipient { unit: kh(), key: first.public().clone(), previous: [0; 32], named: false },
        Recipient {
            unit: vn(),
            key: second.public().clone(),
            previous: sha256(&[b"an earlier header"]),
            named: false,
        },
    ];
    let draft = Draft { core, body, recipients, visible_audience: false };
    Packet { sealed: seal(draft, signer, entropy).unwrap(), blob, draft_body, attachment: key }
}

impl Packet {
    pub(crate) fn verified(&self) -> VerifiedHeader {
        let submission = &self.sealed.submission;
        verify_header(&submission.header, &submission.signature, &Directory::usual()).unwrap()
    }

    /// What recipient `index` gets beside the header.
    pub(crate) fn parts(&self, index: usize) -> Parts<'_> {
        let submission = &self.sealed.submission;
        Parts {
            index,
            opening: submission.openings.get(index).unwrap(),
            wrap: submission.wraps.get(index).unwrap(),
            body: &submission.body,
        }
    }

    /// The header and the core in it, decoded.
    pub(crate) fn decoded(&self) -> (schema::Header, schema::Core) {
        let header: schema::Header = canonical::decode(&self.sealed.submission.header, 65_536).unwrap();
        let core = canonical::decode(&header.core, 65_536).unwrap();
        (header, core)
    }
}

/// Terms under which Cambodia relays to Laos.
pub(crate) fn grant_terms(grant_id: PacketId) -> GrantTerms {
    GrantTerms {
        grant_id,
        previous_grant: None,
        relayer: kh(),
        directory_hash: sha256(&[b"a directory"]),
        consent_digest: None,
        expires_ms: NOW_MS + 3 * DAY_MS,
    }
}

fn events(packet: &Packet) -> Vec<AuditEvent> {
    let event = |r#type: EventType, recipient| AuditEvent {
        r#type: r#type as i32,
        agency: "TH".to_owned(),
        time_ms: NOW_MS + 250,
        packet_id: packet.verified().core().packet_id.as_bytes().to_vec().into(),
        header_digest: packet.sealed.digest.to_vec().into(),
        originator: Some(th()),
        recipient,
        directory_hash: sha256(&[b"a directory"]).to_vec().into(),
        reason: Reason::Accepted as i32,
        ..AuditEvent::default()
    };
    vec![
        event(EventType::Submitted, None),
        event(EventType::Released, Some(kh())),
        event(EventType::Released, Some(vn())),
    ]
}

/// The broker's receipt for `packet`; a salt of 32 bytes is drawn for each event.
pub(crate) fn receipt(packet: &Packet, entropy: &mut dyn CryptoRng) -> Receipt {
    let log = |(index, event): (u64, AuditEvent)| -> LoggedEvent {
        let mut salt = [0; 32];
        entropy.fill_bytes(&mut salt);
        log_event(index, salt, &event)
    };
    Receipt {
        origin: sub_log_origin(BROKER, "TH"),
        packet_id: packet.verified().core().packet_id,
        header_digest: packet.sealed.digest,
        time_ms: NOW_MS + 250,
        deadline_ms: NOW_MS + 60_250,
        events: (41..).zip(events(packet)).map(log).collect(),
    }
}

/// What Cambodia says when the packet is durable there.
pub(crate) fn delivered(packet: &Packet) -> Evidence {
    Evidence {
        region: REGION.to_owned(),
        stage: Stage::Delivery,
        outcome: Outcome::Acceptance,
        reason: Reason::Accepted,
        text: String::new(),
        packet_id: packet.verified().core().packet_id,
        header_digest: packet.sealed.digest,
        actor: kh(),
        recipient: Some(kh()),
        time_ms: NOW_MS + 400,
        leaf: Some([7; 58]),
        policy_id: String::new(),
        directory_hash: sha256(&[b"a directory"]),
    }
}

/// `bytes` with one bit turned.
pub(crate) fn flipped(bytes: &[u8], bit: usize) -> Bytes {
    let mut out = bytes.to_vec();
    *out.get_mut(bit / 8).unwrap() ^= 1 << (bit % 8);
    out.into()
}

/// What docs/examples/open_packet.py reads, field by field: names and bytes.
pub(crate) struct Given {
    pub(crate) signing_key: Vec<u8>,
    pub(crate) decryption_seed: Vec<u8>,
    pub(crate) recipient_index: usize,
    pub(crate) header: Vec<u8>,
    pub(crate) signature: Vec<u8>,
    pub(crate) opening: Vec<u8>,
    pub(crate) wrap: Vec<u8>,
    pub(crate) body: Vec<u8>,
    pub(crate) blobs: Vec<Vec<u8>>,
}

impl Given {
    pub(crate) fn of(
        sealed: &Sealed,
        signing_key: [u8; 32],
        seed: [u8; 32],
        index: usize,
        blobs: &[&[u8]],
    ) -> Self {
        let submission = &sealed.submission;
        Self {
            signing_key: signing_key.to_vec(),
            decryption_seed: seed.to_vec(),
            recipient_index: index,
            header: submission.header.to_vec(),
            signature: submission.signature.to_vec(),
            opening: canonical::encode(submission.openings.get(index).unwrap()).to_vec(),
            wrap: submission.wraps.get(index).unwrap().to_vec(),
            body: submission.body.to_vec(),
            blobs: blobs.iter().map(|blob| blob.to_vec()).collect(),
        }
    }

    /// One JSON object; `more` comes after the fields that the program reads.
    pub(crate) fn json(&self, more: &[(String, Vec<u8>)]) -> String {
        let own = [
            ("signing_key", &self.signing_key),
            ("decryption_seed", &self.decryption_seed),
            ("header", &self.header),
            ("signature", &self.signature),
            ("opening", &self.opening),
            ("wrap", &self.wrap),
            ("body", &self.body),
        ];
        let pair = |name: &str, bytes: &[u8]| format!("  \"{name}\": \"{}\",\n", hex(bytes));
        let own: String = own.iter().map(|(name, bytes)| pair(name, bytes)).collect();
        let more: String = more.iter().map(|(name, bytes)| pair(name, bytes)).collect();
        let blobs: Vec<_> = self.blobs.iter().map(|blob| format!("\"{}\"", hex(blob))).collect();
        let index = self.recipient_index;
        format!("{{\n{own}{more}  \"recipient_index\": {index},\n  \"blobs\": [{}]\n}}\n", blobs.join(", "))
    }
}
