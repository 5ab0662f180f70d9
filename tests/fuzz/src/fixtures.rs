//! Valid objects, made once: the packet, grant, receipt and evidence of proto's own tests, and a small log beside them.

use std::{cell::OnceCell, rc::Rc};

use bytes::Bytes;
use lintas_proto::{
    audit::{
        merkle::{self, leaf_hash},
        note::{Checkpoint, SignedCheckpoint, WitnessKey, witness_name},
        proof::TlogProof,
    },
    canonical::{self, Shaped},
    envelope::{
        chunk::{self, ContentKey},
        core::Core,
        grant::{SealedGrant, seal_grant},
        seal::{Draft, Recipient, body_context, seal},
        segment::segment_root,
        verify::{PacketKeys, VerifiedHeader, VerifyError, verify_header},
        wrap::DecryptionKey,
    },
    evidence::Evidence,
    id::{Digest, PacketId, sha256},
    receipt::Receipt,
    schema::{self, AttachmentKey, AttachmentRef, Body, HandlingCode, Kind, Onward, Submission, UnitRef},
    sign::{KeyRole, Signed, SigningKey, VerifyingKey},
};

use crate::scene::{self, Directory, NOW_MS, Stream};

/// Leaves of the log.
pub const LOG_SIZE: usize = 11;
/// The entry that is proved.
pub const LOG_INDEX: usize = 6;
/// When the witnesses cosigned, seconds since 1970.
pub const COSIGNED_S: u64 = 1_768_464_060;

/// A sealed packet of one kind, and what its parties know.
#[derive(Debug)]
pub struct Packet {
    /// What was submitted.
    pub submission: Submission,
    /// Its header, verified.
    pub verified: VerifiedHeader,
    /// Decoded.
    pub header: schema::Header,
    /// The body that was sealed.
    pub body: Body,
    /// Opens the body.
    pub content_key: ContentKey,
    /// Ciphertext of the one attachment.
    pub blob: Vec<u8>,
    /// As the core names it.
    pub reference: AttachmentRef,
    /// As the body names it.
    pub attachment: AttachmentKey,
}

/// Everything.
pub struct Fixtures {
    /// From Thailand to Cambodia and Vietnam: an alert that may be passed on in the region.
    pub packet: Packet,
    /// One packet of each [`Kind`] and [`Onward`].
    pub kinds: Vec<Packet>,
    /// A grant of Cambodia to Laos for each of `kinds` that allows one.
    pub grants: Vec<Option<SealedGrant>>,
    /// The broker's receipt for `packet`.
    pub receipt: Receipt,
    /// Cambodia's evidence for `packet`.
    pub evidence: Evidence,
    /// Entries of a log.
    pub entries: Vec<Vec<u8>>,
    /// Its checkpoint, cosigned by both witnesses.
    pub note: SignedCheckpoint,
    /// Where entry [`LOG_INDEX`] stands.
    pub proof: TlogProof,
    /// Two witnesses.
    pub witnesses: Vec<WitnessKey>,
    /// Cambodia's key.
    pub kh: DecryptionKey,
    /// Laos's key.
    pub la: DecryptionKey,
    /// Thailand's packet key: of the member that is hostile.
    pub th_signer: SigningKey,
    /// Cambodia's packet key.
    pub kh_signer: SigningKey,
    /// Its public half.
    pub kh_public: VerifyingKey,
    /// The broker's receipt key.
    pub broker_signer: SigningKey,
    /// Its public half.
    pub broker_public: VerifyingKey,
    /// The log's key.
    pub log_public: VerifyingKey,
    directory: Directory,
}

/// The fixtures, the same in every run.
#[must_use]
pub fn fixtures() -> Rc<Fixtures> {
    thread_local! {
        static MADE: OnceCell<Rc<Fixtures>> = const { OnceCell::new() };
    }
    MADE.with(|made| Rc::clone(made.get_or_init(|| Rc::new(Fixtures::make()))))
}

/// Randomness that repeats.
#[must_use]
pub fn entropy(label: &str) -> impl rand_core::CryptoRng + use<> {
    Stream::new(label)
}

/// Origin of the log.
#[must_use]
pub fn origin() -> String {
    format!("{}/audit", scene::BROKER)
}

impl Fixtures {
    fn make() -> Self {
        let usual = scene::packet(&mut Stream::new("fuzz"));
        let (receipt, evidence) =
            (scene::receipt(&usual, &mut Stream::new("salts")), scene::delivered(&usual));
        let packet = Packet {
            verified: usual.verified(),
            header: usual.decoded().0,
            reference: usual.verified().core().attachments.first().unwrap().clone(),
            content_key: usual.sealed.content_key.clone(),
            submission: usual.sealed.submission,
            body: usual.draft_body,
            blob: usual.blob,
            attachment: usual.attachment,
        };
        let kinds: Vec<Packet> =
            all_kinds().into_iter().map(|(kind, onward)| of_kind(kind, onward)).collect();
        let grants = kinds.iter().map(granted).collect();
        let (note, witnesses, entries, proof) = log();
        let public = |key: &SigningKey| VerifyingKey::parse(&key.public_key()).unwrap();
        let kh_signer = scene::signer(scene::KH_SIGN, KeyRole::Packet);
        let broker_signer = scene::signer(scene::BROKER_SIGN, KeyRole::Receipt);
        Self {
            packet,
            kinds,
            grants,
            receipt,
            evidence,
            entries,
            note,
            proof,
            witnesses,
            kh: scene::decryption(scene::KH_SEED),
            la: scene::decryption(scene::LA_SEED),
            th_signer: scene::signer(scene::TH_SIGN, KeyRole::Packet),
            kh_public: public(&kh_signer),
            kh_signer,
            broker_public: public(&broker_signer),
            broker_signer,
            log_public: public(&scene::signer(9, KeyRole::Log)),
            directory: Directory::usual(),
        }
    }

    /// Whose packet keys count: Thailand's and Cambodia's.
    #[must_use]
    pub fn directory(&self) -> &(impl PacketKeys + use<>) {
        &self.directory
    }

    /// Signs `header` as Thailand would, and verifies it: what a hostile member can make others look at.
    ///
    /// # Errors
    /// Why it was refused.
    pub fn signed_by_a_member(&self, header: &Bytes) -> Result<VerifiedHeader, VerifyError> {
        let signature = Bytes::copy_from_slice(&self.th_signer.sign(Signed::Header, header));
        verify_header(header, &signature, &self.directory)
    }

    /// `plain` sealed as the body of a packet whose core is `core`, its header signed: what a hostile member can make
    /// others open.
    ///
    /// # Panics
    /// If the core is none.
    #[must_use]
    pub fn body_of_a_member(&self, core: &Bytes, plain: &[u8]) -> (VerifiedHeader, ContentKey, Vec<u8>) {
        let key = ContentKey::new([7; 32]);
        let sealed = chunk::seal(&key, &[8; 24], &body_context(&sha256(&[core])), plain).unwrap();
        let commitments = Core::parse(core).unwrap().recipient_commit.len();
        let header = canonical::encode(&schema::Header {
            core: core.clone(),
            wrap_sha256: vec![Bytes::from_static(&[1; 32]); commitments],
            body_root: Bytes::copy_from_slice(&segment_root(&sealed)),
            body_length: sealed.len() as u64,
        });
        (self.signed_by_a_member(&header).unwrap(), key, sealed)
    }
}

/// Each kind with another rule for passing it on.
fn all_kinds() -> [(Kind, Onward); 5] {
    [
        (Kind::Alert, Onward::Region),
        (Kind::Notice, Onward::WithConsent),
        (Kind::Request, Onward::Any),
        (Kind::Reply, Onward::None),
        (Kind::Recall, Onward::Region),
    ]
}

fn of_kind(kind: Kind, onward: Onward) -> Packet {
    let entropy = &mut Stream::new(kind.as_str_name());
    let packet_id = PacketId::new(NOW_MS, entropy);
    let (blob, reference, attachment) = scene::attachment(packet_id, 0, scene::FILE, entropy);
    let mut core = scene::core(packet_id);
    (core.kind, core.onward) = (kind, onward);
    core.attachments.push(reference.clone());
    core.label.handling = vec![HandlingCode::H1 as i32, HandlingCode::H3 as i32];
    if kind == Kind::Recall {
        core.refers_to = Some((packet_id, [5; 32]));
    }
    let body = Body {
        attachments: vec![attachment.clone()],
        handling_restriction: vec![scene::text("en", "ask first")],
        ..body_of_kind(kind)
    };
    let key = |seed| scene::decryption(seed).public().clone();
    let recipient = |unit, seed| Recipient { unit, key: key(seed), previous: [0; 32], named: true };
    let recipients = vec![recipient(scene::kh(), scene::KH_SEED), recipient(scene::vn(), scene::VN_SEED)];
    let draft = Draft { core, body: body.clone(), recipients, visible_audience: true };
    let sealed = seal(draft, &scene::signer(scene::TH_SIGN, KeyRole::Packet), entropy).unwrap();
    let submission = sealed.submission;
    let verified = verify_header(&submission.header, &submission.signature, &Directory::usual()).unwrap();
    let header = canonical::decode(&submission.header, 65_536).unwrap();
    let body = Body { audience: submission.openings.clone(), ..body };
    Packet {
        submission,
        verified,
        header,
        body,
        content_key: sealed.content_key,
        blob,
        reference,
        attachment,
    }
}

/// A body with an entity of every sort.
fn body_of_kind(kind: Kind) -> Body {
    let text = |words: &str| vec![scene::text("km-Khmr", words)];
    let whole = |kind_named| (kind == kind_named).then_some(());
    Body {
        summary: text("summary"),
        alert: whole(Kind::Alert)
            .map(|()| schema::Alert { action_asked: text("board it"), ..Default::default() }),
        notice: whole(Kind::Notice)
            .map(|()| schema::Notice { colour: schema::NoticeColour::Yellow as i32, ..Default::default() }),
        request: whole(Kind::Request)
            .map(|()| schema::Request { questions: text("who is the master?"), ..Default::default() }),
        reply: whole(Kind::Reply).map(|()| schema::Reply { answer: text("not known"), ..Default::default() }),
        recall: whole(Kind::Recall)
            .map(|()| schema::Recall { explanation: text("wrong boat"), ..Default::default() }),
        thread: Some(schema::Thread { thread_id: Bytes::from_static(&[1; 16]), ..Default::default() }),
        vessels: vec![schema::Vessel { id: 2, ..Default::default() }],
        vehicles: vec![schema::Vehicle { id: 3, ..Default::default() }],
        documents: vec![schema::Document { id: 4, issued: Some(date(2_020, 2, 29)), ..Default::default() }],
        phones: vec![schema::Phone { id: 5, ..Default::default() }],
        accounts: vec![schema::Account { id: 6, ..Default::default() }],
        locations: vec![schema::Location { id: 7, position: Some(position()), ..Default::default() }],
        routes: vec![schema::Route {
            id: 8,
            legs: vec![schema::RouteLeg { from_location_id: 7, to_location_id: 7, ..Default::default() }],
            ..Default::default()
        }],
        organisations: vec![schema::Organisation { id: 9, ..Default::default() }],
        events: vec![schema::Event { id: 10, location_id: 7, ..Default::default() }],
        relations: vec![schema::Relation { from_id: 1, to_id: 2, confidence: 80, ..Default::default() }],
        ..Body { alert: None, ..scene::body() }
    }
}

fn date(year: u32, month: u32, day: u32) -> schema::PartialDate {
    schema::PartialDate { year, month, day }
}

fn position() -> schema::Position {
    schema::Position { latitude_udeg: 9_966_000, longitude_udeg: 98_633_000, accuracy_m: 50 }
}

fn granted(packet: &Packet) -> Option<SealedGrant> {
    let mut terms = scene::grant_terms(PacketId::new(NOW_MS, &mut Stream::new("grant id")));
    terms.consent_digest = (packet.verified.core().onward == Onward::WithConsent).then_some([6; 32]);
    let key = scene::decryption(scene::LA_SEED).public().clone();
    let recipient = Recipient { unit: scene::la(), key, previous: [0; 32], named: false };
    let signer = scene::signer(scene::KH_SIGN, KeyRole::Packet);
    let entropy = &mut Stream::new("grant");
    seal_grant(&packet.verified, &terms, &packet.content_key, &[recipient], &signer, entropy).ok()
}

fn log() -> (SignedCheckpoint, Vec<WitnessKey>, Vec<Vec<u8>>, TlogProof) {
    let key = scene::signer(9, KeyRole::Log);
    let entries: Vec<Vec<u8>> = (0..LOG_SIZE).map(|index| format!("entry {index}").into_bytes()).collect();
    let leaves: Vec<Digest> = entries.iter().map(|entry| leaf_hash(entry)).collect();
    let checkpoint = Checkpoint { origin: origin(), size: LOG_SIZE as u64, root: merkle::root(&leaves) };
    let mut note = SignedCheckpoint::sign(checkpoint, &key).unwrap();
    let mut witnesses = Vec::new();
    for (agency, seed) in [("TH", 21), ("KH", 22)] {
        let secret = scene::signer(seed, KeyRole::Witness);
        let key = VerifyingKey::parse(&secret.public_key()).unwrap();
        let witness = WitnessKey { name: witness_name(scene::REGION, agency), key };
        let cosignature = note.cosign(&secret, COSIGNED_S).unwrap();
        note.add_cosignature(&witness, &cosignature).unwrap();
        witnesses.push(witness);
    }
    let path = merkle::path(&leaves, LOG_INDEX).unwrap();
    let proof = TlogProof { index: LOG_INDEX as u64, path, checkpoint: note.clone() };
    (note, witnesses, entries, proof)
}

/// Thailand's unit.
#[must_use]
pub fn th() -> UnitRef {
    scene::th()
}

/// The one message that canonical bytes hold.
///
/// # Panics
/// If they hold none.
#[must_use]
pub fn decoded<M: Shaped>(bytes: &Bytes) -> M {
    canonical::decode(bytes, 1 << 20).unwrap()
}
