//! The worked example of docs/FORMAT.md and docs/examples/packet.json, made again from fixed keys and fixed
//! randomness and compared byte for byte. `LINTAS_BLESS=1 cargo test` writes both.
//!
//! Values that the crate does not show (the keys of a chunked message) are derived here a second time, so that
//! the page does not merely repeat what the crate says about itself.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests; a failure is a failed test"
)]
#![allow(clippy::disallowed_methods, reason = "a page of documentation need not survive a power cut")]

mod scene;

use std::{fmt::Write as _, path::Path};

use bytes::Bytes;
use lintas_proto::{
    audit::merkle::{leaf_hash, root},
    canonical,
    envelope::{
        blob::blob_length,
        grant::{open_granted, seal_grant, verify_grant},
        open::{Parts, open},
        pad::{pad, padme},
        seal::{Recipient, body_context, wrap_info},
        segment::blob_id,
        segment::segment_root,
    },
    evidence::{sign_evidence, verify_evidence},
    id::{PacketId, hex, sha256},
    receipt::{sign_receipts, verify_receipt},
    schema,
    sign::{KeyRole, Signed, VerifyingKey, key_id, pae},
};
use prost::Message as _;
use rand_core::Rng as _;
use ring::hmac;
use scene::{Directory, Given, NOW_MS, Packet, Stream};

const LABEL: &str = "lintas worked example";
const BEGIN: &str = "<!-- worked example: from here to the end made by proto/tests/worked_example.rs -->\n";

/// The draws in their order: name and bytes.
const DRAWS: [(&str, usize); 15] = [
    ("packet id, before time, version and variant are set", 16),
    ("attachment 0: key", 32),
    ("attachment 0: salt", 24),
    ("recipient 0: salt of the commitment", 16),
    ("recipient 1: salt of the commitment", 16),
    ("content key", 32),
    ("salt of the body", 24),
    ("recipient 0: encapsulation", 64),
    ("recipient 1: encapsulation", 64),
    ("event 0: salt", 32),
    ("event 1: salt", 32),
    ("event 2: salt", 32),
    ("grant id, before time, version and variant are set", 16),
    ("grant, recipient 0: salt of the commitment", 16),
    ("grant, recipient 0: encapsulation", 64),
];

/// The page as it grows, and the long values that go to the file.
#[derive(Default)]
struct Page {
    text: String,
    more: Vec<(String, Vec<u8>)>,
}

impl Page {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn title(&mut self, title: &str) {
        writeln!(self.text, "\n### {title}\n").unwrap();
    }

    /// A short value in full.
    fn value(&mut self, name: &str, bytes: &[u8]) {
        writeln!(self.text, "{name} ({} bytes):\n\n```text", bytes.len()).unwrap();
        bytes.chunks(48).for_each(|line| writeln!(self.text, "{}", hex(line)).unwrap());
        self.line("```\n");
    }

    /// A long value: length and digest here, all of it in the file.
    fn long(&mut self, name: &str, field: &str, bytes: &[u8]) {
        let digest = hex(&sha256(&[bytes]));
        writeln!(self.text, "{name}: {} bytes, SHA-256 `{digest}`; `{field}` in the file.\n", bytes.len())
            .unwrap();
        self.more.push((field.to_owned(), bytes.to_vec()));
    }
}

/// All draws of the example, cut from a second copy of the stream.
fn draws() -> Vec<Vec<u8>> {
    let mut stream = Stream::new(LABEL);
    let cut = |(_, length): &(&str, usize)| {
        let mut bytes = vec![0; *length];
        stream.fill_bytes(&mut bytes);
        bytes
    };
    DRAWS.iter().map(cut).collect()
}

/// Chunk key (32) ‖ base nonce (12) ‖ commitment (32): HKDF-Expand of RFC 5869, written out.
fn chunk_keys(key: &[u8], salt: &[u8], context: &[u8]) -> Vec<u8> {
    let prk = hmac::Key::new(hmac::HMAC_SHA512, key);
    let info = [b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0".as_slice(), salt, context].concat();
    let first = hmac::sign(&prk, &[info.as_slice(), &[1]].concat());
    let second = hmac::sign(&prk, &[first.as_ref(), &info, &[2]].concat());
    [first.as_ref(), second.as_ref()].concat()[..76].to_vec()
}

fn keys(page: &mut Page) {
    page.title("Keys");
    page.line("Each secret seed is one byte, repeated 32 times.\n");
    page.line("| who | role | seed byte | public key | key id |\n|---|---|---|---|---|");
    let signing = [
        ("TH, unit TH-ATD-RNG: originator", KeyRole::Packet, scene::TH_SIGN),
        ("KH, unit KH-AHT: relayer", KeyRole::Packet, scene::KH_SIGN),
        ("the broker `broker.mekong`", KeyRole::Receipt, scene::BROKER_SIGN),
    ];
    for (who, role, seed) in signing {
        let key = scene::signer(seed, role);
        let (public, id) = (hex(&key.public_key()), hex(key.id()));
        writeln!(page.text, "| {who} | {role:?} | `{seed:02x}` | `{public}` | `{id}` |").unwrap();
    }
    let encryption = [
        ("KH, unit KH-AHT: recipient 0", scene::KH_SEED),
        ("VN, unit VN-C02: recipient 1", scene::VN_SEED),
        ("LA, unit LA-ATD: recipient of the grant", scene::LA_SEED),
    ];
    for (who, seed) in encryption {
        let key = scene::decryption(seed);
        let bytes = key.public().to_bytes();
        assert_eq!(*key.public().id(), key_id(KeyRole::Encryption, &bytes));
        let (digest, id) = (hex(&sha256(&[&bytes])), hex(key.public().id()));
        writeln!(page.text, "| {who} | Encryption | `{seed:02x}` | SHA-256 `{digest}` | `{id}` |").unwrap();
    }
}

fn randomness(page: &mut Page, draws: &[Vec<u8>]) {
    page.title("Randomness");
    writeln!(
        page.text,
        "The stream is block 0 ‖ block 1 ‖ …, block i = SHA-256(\"{LABEL}\" ‖ i as u64 big-endian). Each draw takes \
         the next bytes of it.\n\n| draw | bytes | value |\n|---|---|---|",
    )
    .unwrap();
    for ((name, length), value) in DRAWS.iter().zip(draws) {
        writeln!(page.text, "| {name} | {length} | `{}` |", hex(value)).unwrap();
    }
}

fn attachment(page: &mut Page, packet: &Packet, draws: &[Vec<u8>]) {
    let (id, blob) = (packet.verified().core().packet_id, &packet.blob);
    page.title("Attachment");
    page.value("Packet id: time 1768464000000 ms, version 7, the rest as drawn", id.as_bytes());
    page.value("The file `crew list.csv`", scene::FILE);
    let padded = padme(scene::FILE.len() as u64);
    writeln!(page.text, "Padmé length of {} is {padded}.\n", scene::FILE.len()).unwrap();
    let context = [b"lintas/v1/blob\0".as_slice(), id.as_bytes(), &[0; 4]].concat();
    page.value("Context", &context);
    let derived = chunk_keys(&draws[1], &draws[2], &context);
    assert_eq!((&blob[..24], &blob[24..56]), (draws[2].as_slice(), &derived[44..]), "salt and commitment");
    assert_eq!(blob_length(scene::FILE.len() as u64), Some(blob.len() as u64));
    page.value("Chunk key ‖ base nonce ‖ commitment", &derived);
    page.value("Blob: salt ‖ commitment ‖ the one, final chunk", blob);
    let root = segment_root(blob);
    assert_eq!(root, leaf_hash(blob), "a blob of one segment");
    page.value("Segment root", &root);
    page.value("Blob id", &blob_id(&root, blob.len() as u64));
}

fn core(page: &mut Page, packet: &Packet, draws: &[Vec<u8>]) {
    let submission = &packet.sealed.submission;
    page.title("Core");
    for (index, opening) in submission.openings.iter().enumerate() {
        assert_eq!(*opening.salt, draws[3 + index]);
        page.value(&format!("Opening {index}, canonical bytes"), &canonical::encode(opening));
        let commitment = packet.verified().core().recipient_commit[index];
        page.value(&format!("Commitment {index}"), &commitment);
    }
    let (header, _) = packet.decoded();
    page.value("Core, canonical bytes", &header.core);
    page.value("ctx = SHA-256 of the core", packet.verified().context());
}

fn body(page: &mut Page, packet: &Packet, draws: &[Vec<u8>]) {
    let sealed = &packet.sealed.submission.body;
    page.title("Body");
    let bytes = packet.draft_body.encode_to_vec();
    page.value("Body message, canonical bytes", &bytes);
    let plain = pad(&bytes).unwrap();
    let padded = plain.len();
    writeln!(page.text, "Padded: `{}` ‖ body ‖ zeros, {padded} bytes.\n", hex(&plain[..4])).unwrap();
    let context = body_context(packet.verified().context());
    page.value("Context", &context);
    let derived = chunk_keys(&draws[5], &draws[6], &context);
    assert_eq!(
        (&sealed[..24], &sealed[24..56]),
        (draws[6].as_slice(), &derived[44..]),
        "salt and commitment"
    );
    assert_eq!(packet.sealed.content_key.as_slice(), draws[5]);
    page.value("Chunk key ‖ base nonce ‖ commitment", &derived);
    let digest = hex(&sha256(&[sealed]));
    writeln!(page.text, "Ciphertext: {} bytes, SHA-256 `{digest}`; `body` in the file.\n", sealed.len())
        .unwrap();
    page.value("Segment root", &segment_root(sealed));
}

fn wraps(page: &mut Page, packet: &Packet, draws: &[Vec<u8>]) {
    page.title("Key wraps");
    for (index, seed, draw) in [(0, scene::KH_SEED, 7), (1, scene::VN_SEED, 8)] {
        let secret = scene::decryption(seed);
        let opened = open(&packet.verified(), packet.parts(index), &secret).unwrap();
        let info = wrap_info(packet.verified().context(), secret.public().id());
        let wrap = &packet.sealed.submission.wraps[index];
        page.value(&format!("Recipient {index}: info"), &info);
        let plain = [opened.content_key.as_slice(), &opened.previous].concat();
        let hpke = scene::hpke::encapsulate(&secret.public().to_bytes(), &draws[draw], &info, None);
        assert_eq!(scene::hpke::seal(&hpke, &plain), *wrap, "RFC 9180, written out a second time");
        page.value(&format!("Recipient {index}: shared secret of X-Wing"), &hpke.shared);
        page.value(&format!("Recipient {index}: HPKE key ‖ base nonce"), &[hpke.key, hpke.nonce].concat());
        page.value(&format!("Recipient {index}: content key ‖ previous"), &plain);
        page.value(&format!("Recipient {index}: the last 80 bytes of the wrap"), &wrap[1_120..]);
        let (digest, field) = (hex(&sha256(&[wrap])), if index == 0 { "wrap" } else { "wrap_1" });
        let length = wrap.len();
        page.line(&format!(
            "Recipient {index}: wrap of {length} bytes, SHA-256 `{digest}`; `{field}` in the file.\n"
        ));
    }
    page.more.push(("wrap_1".to_owned(), packet.sealed.submission.wraps[1].to_vec()));
}

fn header(page: &mut Page, packet: &Packet) {
    let submission = &packet.sealed.submission;
    page.title("Header and signature");
    page.long("Header, canonical bytes", "header", &submission.header);
    page.more.pop();
    page.value("Header digest = SHA-256 of the header", &packet.sealed.digest);
    let signed = pae(Signed::Header, &submission.header);
    let start = signed.len() - submission.header.len();
    page.value("PAE before the header bytes", &signed[..start]);
    page.value("Signature", &submission.signature);
}

fn receipt_and_evidence(page: &mut Page, packet: &Packet, entropy: &mut Stream) {
    let key = scene::signer(scene::BROKER_SIGN, KeyRole::Receipt);
    let receipt = scene::receipt(packet, entropy);
    let other = scene::Receipt { deadline_ms: receipt.deadline_ms + 1, ..receipt.clone() };
    let signed = sign_receipts(&[other.to_bytes(), receipt.to_bytes()], &key).unwrap().remove(1);
    let public = VerifyingKey::parse(&key.public_key()).unwrap();
    verify_receipt(&signed, |id| (id == key.id()).then_some(&public)).unwrap();
    page.title("Receipt");
    page.value("Event 0, canonical bytes", &receipt.events[0].event);
    page.value("Event 0, leaf", &receipt.events[0].leaf);
    page.long("Receipt, canonical bytes", "receipt", &signed.receipt);
    page.line("It was signed as statement 1 of a group of 2; statement 0 differs in `deadline_ms`, which is 1 more.\n");
    let leaves = [leaf_hash(&other.to_bytes()), leaf_hash(&signed.receipt)];
    page.value("Leaf hash of statement 0: the path", &leaves[0]);
    page.value("Leaf hash of statement 1", &leaves[1]);
    let bytes = [root(&leaves).as_slice(), &2u32.to_be_bytes()].concat();
    page.value("What is signed, inside PAE: root ‖ size", &bytes);
    let proof = signed.proof.as_ref().unwrap();
    assert_eq!((proof.index, proof.size, &*proof.path[0]), (1, 2, leaves[0].as_slice()));
    public.verify(Signed::ReceiptGroup, &bytes, &proof.signature).unwrap();
    page.value("Signature", &proof.signature);
    page.long("Signed receipt, canonical bytes", "signed_receipt", &canonical::encode(&signed));

    page.title("Evidence");
    let key = scene::signer(scene::KH_SIGN, KeyRole::Packet);
    let signed = sign_evidence(&[scene::delivered(packet)], &key).unwrap().remove(0);
    let public = VerifyingKey::parse(&key.public_key()).unwrap();
    verify_evidence(&signed, |_, id| (id == key.id()).then_some(&public)).unwrap();
    page.line("KH says that the packet is durable there: a group of one, so the root is its leaf hash.\n");
    page.value("Evidence, canonical bytes", &signed.evidence);
    page.value("Signed evidence, canonical bytes", &canonical::encode(&signed));
}

fn grant(page: &mut Page, packet: &Packet, entropy: &mut Stream) {
    page.title("Grant");
    let terms = scene::grant_terms(PacketId::new(NOW_MS + 3_600_000, entropy));
    let (signer, secret) =
        (scene::signer(scene::KH_SIGN, KeyRole::Packet), scene::decryption(scene::LA_SEED));
    let recipient =
        Recipient { unit: scene::la(), key: secret.public().clone(), previous: [0; 32], named: false };
    let (verified, key) = (packet.verified(), &packet.sealed.content_key);
    let sealed = seal_grant(&verified, &terms, key, &[recipient], &signer, entropy).unwrap();
    let grant = verify_grant(&verified, &sealed.grant, &sealed.signature, &Directory::usual()).unwrap();
    let parts = Parts { opening: &sealed.openings[0], wrap: &sealed.wraps[0], ..packet.parts(0) };
    open_granted(&verified, &grant, parts, &secret).unwrap();
    page.line("KH relays the packet to LA, an hour later.\n");
    let wire: schema::Grant = canonical::decode(&sealed.grant, 65_536).unwrap();
    page.value("Opening, canonical bytes", &canonical::encode(&sealed.openings[0]));
    page.value("GrantCore, canonical bytes", &wire.grant_core);
    let core_digest = sha256(&[&wire.grant_core]);
    let info =
        [b"lintas/v1/grant\0".as_slice(), verified.context(), &core_digest, secret.public().id()].concat();
    page.value("info", &info);
    page.long("Wrap", "grant_wrap", &sealed.wraps[0]);
    page.value("Grant, canonical bytes", &sealed.grant);
    page.value("Signature", &sealed.signature);
}

/// The section of the page, and the file.
fn example() -> (String, String) {
    let (mut page, mut entropy, draws) = (Page::default(), Stream::new(LABEL), draws());
    let packet = scene::packet(&mut entropy);
    page.text.push_str(BEGIN);
    page.line("\nLong values stand in `docs/examples/packet.json`, which `docs/examples/open_packet.py` opens as KH.");
    keys(&mut page);
    randomness(&mut page, &draws);
    attachment(&mut page, &packet, &draws);
    core(&mut page, &packet, &draws);
    body(&mut page, &packet, &draws);
    wraps(&mut page, &packet, &draws);
    header(&mut page, &packet);
    receipt_and_evidence(&mut page, &packet, &mut entropy);
    grant(&mut page, &packet, &mut entropy);
    assert_eq!(
        entropy.drawn,
        DRAWS.iter().map(|(_, length)| length).sum::<usize>(),
        "all draws are on the page"
    );
    let signing_key = scene::signer(scene::TH_SIGN, KeyRole::Packet).public_key();
    let given = Given::of(&packet.sealed, signing_key, [scene::KH_SEED; 32], 0, &[&packet.blob]);
    let json = given.json(&page.more);
    (page.text.replace("\n\n\n", "\n\n").trim_end().to_owned() + "\n", json)
}

#[test]
fn page_and_file_are_what_the_crate_makes() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let (page, file) = (docs.join("FORMAT.md"), docs.join("examples/packet.json"));
    let (section, json) = example();
    let text = std::fs::read_to_string(&page).unwrap();
    let (before, found) = text.split_once(BEGIN).unwrap();
    if std::env::var_os("LINTAS_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&page, format!("{before}{section}")).unwrap();
        std::fs::write(&file, json).unwrap();
        return;
    }
    let found = format!("{BEGIN}{found}");
    for (number, (is, made)) in found.lines().zip(section.lines()).enumerate() {
        assert_eq!(is, made, "line {number} of the worked example; LINTAS_BLESS=1 writes it anew");
    }
    assert_eq!(found, section, "the worked example; LINTAS_BLESS=1 writes it anew");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), json, "packet.json; LINTAS_BLESS=1 writes it anew");
}

#[test]
fn sealing_draws_what_it_says() {
    let mut entropy = Stream::new(LABEL);
    let packet = scene::packet(&mut entropy);
    assert_eq!(entropy.drawn, 16 + 32 + 24 + 2 * 16 + 32 + 24 + 2 * 64);
    assert_eq!(Bytes::copy_from_slice(&draws()[5]), packet.sealed.content_key.as_slice());
}
