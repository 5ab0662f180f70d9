//! Nothing changed passes, and nothing at all makes a parser panic: every bit of every signed object turned, every
//! cut, random bytes, and messages built at random from the shape of the schema.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests; a failure is a failed test"
)]

mod scene;

use bytes::Bytes;
use lintas_proto::{
    audit::{
        epoch::{ENTRY_BYTES, RootEntry},
        files::LogFile,
        note::SignedCheckpoint,
        proof::TlogProof,
        tile,
    },
    canonical::{FieldKind, MessageShape, Shaped, decode, encode},
    envelope::{
        chunk::{self, ContentKey},
        core::Core,
        grant::{seal_grant, verify_grant},
        open::{OpenError, Parts, open},
        pad::{pad, padme, unpad},
        seal::Recipient,
        verify::{Part, VerifyError, verify_header},
        wrap::unwrap,
    },
    evidence::{Evidence, sign_evidence, verify_evidence},
    frame,
    id::PacketId,
    receipt::{Receipt, sign_receipts, verify_receipt},
    schema,
    sign::{KeyRole, VerifyingKey},
};
use proptest::prelude::*;
use scene::{Directory, NOW_MS, Packet, Stream};

fn packet() -> Packet {
    scene::packet(&mut Stream::new("flips"))
}

/// `bytes` with each bit turned, cut at each length, and longer by one byte.
fn changed(bytes: &[u8]) -> impl Iterator<Item = (String, Bytes)> {
    let flips = (0..8 * bytes.len()).map(move |bit| (format!("bit {bit}"), scene::flipped(bytes, bit)));
    let cuts = (0..bytes.len()).map(move |at| (format!("cut at {at}"), Bytes::copy_from_slice(&bytes[..at])));
    let longer = [0, 1, 0x0a].map(|byte| (format!("longer by {byte}"), [bytes, &[byte]].concat().into()));
    flips.chain(cuts).chain(longer)
}

#[test]
fn a_changed_header_is_refused_and_the_error_says_so() {
    let packet = packet();
    let submission = &packet.sealed.submission;
    let says = [
        "header: ",
        "core: ",
        "no packet-signing key ",
        "the signature does not fit the header",
        "2 recipients are committed, ",
        "body has ",
    ];
    let mut seen = vec![0; says.len()];
    for (how, header) in changed(&submission.header) {
        let error =
            verify_header(&header, &submission.signature, &Directory::usual()).unwrap_err().to_string();
        let found = says.iter().position(|start| error.starts_with(start));
        seen[found.unwrap_or_else(|| unreachable!("{how}: {error}"))] += 1;
    }
    // Most flips fall into digests and sizes, and only the signature finds those.
    assert!(seen[0] > 100 && seen[1] > 100 && seen[2] > 100 && seen[3] > 1_000, "{seen:?}");
}

#[test]
fn a_changed_signature_is_refused_as_such() {
    let packet = packet();
    let submission = &packet.sealed.submission;
    for (how, signature) in changed(&submission.signature) {
        let error = verify_header(&submission.header, &signature, &Directory::usual()).unwrap_err();
        assert_eq!(error, VerifyError::Signature, "{how}");
    }
}

#[test]
fn a_changed_opening_wrap_or_body_is_refused_by_its_name() {
    let packet = packet();
    let (verified, secret) = (packet.verified(), scene::decryption(scene::KH_SEED));
    let parts = packet.parts(0);
    let refused = |parts: Parts<'_>| open(&verified, parts, &secret).map(|_| ()).unwrap_err();
    let mut decoded = 0;
    for (how, bytes) in changed(&encode(parts.opening)) {
        // Many changes are no message at all; those that are open no commitment.
        if let Ok(opening) = decode::<schema::Opening>(&bytes, 1_024) {
            let error = refused(Parts { opening: &opening, ..parts });
            assert_eq!(error, OpenError::Verify(VerifyError::Digest(Part::Opening(0))), "{how}");
            decoded += 1;
        }
    }
    assert!(decoded > 300, "{decoded}");
    for (how, wrap) in changed(parts.wrap) {
        let error = refused(Parts { wrap: &wrap, ..parts });
        assert_eq!(error, OpenError::Verify(VerifyError::Digest(Part::Wrap(0))), "{how}");
    }
    for (how, body) in changed(parts.body) {
        let error = refused(Parts { body: &body, ..parts });
        let expected = if body.len() == parts.body.len() {
            VerifyError::Digest(Part::Body)
        } else {
            VerifyError::BodyLength { need: parts.body.len() as u64, have: body.len() as u64 }
        };
        assert_eq!(error, OpenError::Verify(expected), "{how}");
    }
}

#[test]
fn a_changed_wrap_does_not_open_even_where_no_digest_is_checked() {
    let packet = packet();
    let (verified, secret) = (packet.verified(), scene::decryption(scene::KH_SEED));
    let info = lintas_proto::envelope::seal::wrap_info(verified.context(), secret.public().id());
    unwrap(&secret, &info, packet.parts(0).wrap).unwrap();
    // Decapsulation is slow without optimisation: a seventh of the bits, but all kinds of place.
    for bit in (0..8 * 1_200).step_by(7) {
        assert!(unwrap(&secret, &info, &scene::flipped(packet.parts(0).wrap, bit)).is_err(), "bit {bit}");
    }
    for (how, body) in changed(packet.parts(0).body) {
        let context = lintas_proto::envelope::seal::body_context(verified.context());
        assert!(chunk::open(&packet.sealed.content_key, &context, &body).is_err(), "body: {how}");
    }
}

#[test]
fn a_changed_receipt_or_proof_is_refused() {
    let packet = packet();
    let key = scene::signer(scene::BROKER_SIGN, KeyRole::Receipt);
    let public = VerifyingKey::parse(&key.public_key()).unwrap();
    let receipt = scene::receipt(&packet, &mut Stream::new("salts"));
    let other = Receipt { deadline_ms: receipt.deadline_ms + 1, ..receipt.clone() };
    let all = [other.to_bytes(), receipt.to_bytes(), other.to_bytes()];
    let signed = encode(&sign_receipts(&all, &key).unwrap()[1]);
    let verify = |bytes: &Bytes| {
        let signed: schema::SignedReceipt = decode(bytes, 65_536).map_err(|error| error.to_string())?;
        let verified = verify_receipt(&signed, |id| (id == key.id()).then_some(&public));
        verified.map(|(receipt, _)| receipt).map_err(|error| error.to_string())
    };
    assert_eq!(verify(&signed).unwrap(), receipt);
    for (how, bytes) in changed(&signed) {
        let error = verify(&bytes).unwrap_err();
        let named = ["receipt: ", "SignedReceipt", "GroupProof"].iter().any(|name| error.starts_with(name));
        assert!(named, "{how}: {error}");
    }
}

#[test]
fn changed_evidence_or_proof_is_refused() {
    let packet = packet();
    let key = scene::signer(scene::KH_SIGN, KeyRole::Packet);
    let public = VerifyingKey::parse(&key.public_key()).unwrap();
    let evidence = scene::delivered(&packet);
    let later = Evidence { time_ms: NOW_MS + 500, ..evidence.clone() };
    let signed = encode(&sign_evidence(&[evidence.clone(), later], &key).unwrap()[0]);
    let verify = |bytes: &Bytes| {
        let signed: schema::SignedEvidence = decode(bytes, 65_536).map_err(|error| error.to_string())?;
        let find =
            |actor: &schema::UnitRef, id: &_| (actor.agency == "KH" && id == key.id()).then_some(&public);
        verify_evidence(&signed, find).map_err(|error| error.to_string())
    };
    assert_eq!(verify(&signed).unwrap(), evidence);
    for (how, bytes) in changed(&signed) {
        let error = verify(&bytes).unwrap_err();
        let named = ["evidence: ", "SignedEvidence", "GroupProof"].iter().any(|name| error.starts_with(name));
        assert!(named, "{how}: {error}");
    }
}

#[test]
fn a_changed_grant_is_refused() {
    let packet = packet();
    let verified = packet.verified();
    let terms = scene::grant_terms(PacketId::new(NOW_MS, &mut Stream::new("grant id")));
    let key = scene::decryption(scene::LA_SEED).public().clone();
    let recipient = Recipient { unit: scene::la(), key, previous: [0; 32], named: false };
    let signer = scene::signer(scene::KH_SIGN, KeyRole::Packet);
    let content_key = &packet.sealed.content_key;
    let mut entropy = Stream::new("grant");
    let sealed = seal_grant(&verified, &terms, content_key, &[recipient], &signer, &mut entropy).unwrap();
    verify_grant(&verified, &sealed.grant, &sealed.signature, &Directory::usual()).unwrap();
    for (how, grant) in changed(&sealed.grant) {
        assert!(verify_grant(&verified, &grant, &sealed.signature, &Directory::usual()).is_err(), "{how}");
    }
}

/// One canonical encoding of a message of this shape, chosen by `entropy`.
fn built(shape: &'static MessageShape, entropy: &mut Stream, out: &mut Vec<u8>) {
    let mut pick = |below: u32| entropy.next_u32() % below;
    let plan: Vec<(usize, u32)> = (0..shape.fields.len()).map(|at| (at, pick(3))).collect();
    for (field, present) in plan.into_iter().map(|(at, present)| (&shape.fields[at], present)) {
        if present == 0 {
            continue;
        }
        let count = if field.repeated { 1 + entropy.next_u32() % 3 } else { 1 };
        if let FieldKind::String | FieldKind::Bytes | FieldKind::Message(_) = field.kind {
            for _ in 0..count {
                let value = delimited(field.kind, entropy);
                if !value.is_empty() {
                    varint(u64::from(field.tag << 3 | 2), out);
                    varint(value.len() as u64, out);
                    out.extend(value);
                }
            }
            continue;
        }
        let mut numbers = Vec::new();
        (0..count).for_each(|_| varint(number(field.kind, entropy), &mut numbers));
        varint(u64::from(field.tag << 3 | if field.repeated { 2 } else { 0 }), out);
        if field.repeated {
            varint(numbers.len() as u64, out);
        }
        out.extend(numbers);
    }
}

/// A value of a length-delimited kind; a submessage may come out empty, and is then left out.
fn delimited(kind: FieldKind, entropy: &mut Stream) -> Vec<u8> {
    let length = 1 + entropy.next_u32() as usize % 40;
    let mut value = Vec::new();
    match kind {
        FieldKind::Message(inner) => built(inner, entropy, &mut value),
        FieldKind::String => {
            let letters: Vec<char> = "aZ0 -ก้ร\u{0}\u{10ffff}".chars().collect();
            let text: String =
                (0..length).map(|_| letters[entropy.next_u32() as usize % letters.len()]).collect();
            value = text.into_bytes();
        }
        FieldKind::Bytes
        | FieldKind::Bool
        | FieldKind::Uint32
        | FieldKind::Uint64
        | FieldKind::Sint32
        | FieldKind::Enum(_) => {
            value.resize(length, 0);
            entropy.fill_bytes(&mut value);
        }
    }
    value
}

/// A number of this kind, not 0.
fn number(kind: FieldKind, entropy: &mut Stream) -> u64 {
    let any = entropy.next_u64() >> (entropy.next_u32() % 64);
    match kind {
        FieldKind::Bool => 1,
        FieldKind::Uint32 | FieldKind::Sint32 => (any & 0xffff_ffff).max(1),
        FieldKind::Enum(valid) => u64::try_from(valid[entropy.next_u32() as usize % valid.len()]).unwrap(),
        FieldKind::Uint64 | FieldKind::String | FieldKind::Bytes | FieldKind::Message(_) => any.max(1),
    }
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap());
}

const MAX: usize = 1 << 20;

/// If `bytes` are a message at all, they are the only bytes of it.
fn one_encoding<M: Shaped>(bytes: &Bytes) -> bool {
    decode::<M>(bytes, MAX).is_ok_and(|message| {
        assert_eq!(encode(&message), bytes, "{}", M::shape().name);
        true
    })
}

/// Builds, decodes and disturbs one message of type `M`; gives whether the disturbed bytes are one too.
fn exercise<M: Shaped>(seed: u64, random: &[u8], flip: usize) {
    let mut bytes = Vec::new();
    built(M::shape(), &mut Stream::new(&format!("{} {seed}", M::shape().name)), &mut bytes);
    let bytes = Bytes::from(bytes);
    assert!(
        one_encoding::<M>(&bytes),
        "{}: {bytes:x?}: {:?}",
        M::shape().name,
        decode::<M>(&bytes, MAX).err()
    );
    one_encoding::<M>(&Bytes::copy_from_slice(random));
    one_encoding::<M>(&bytes.slice(..flip % (bytes.len() + 1)));
    one_encoding::<M>(&[bytes.as_ref(), random].concat().into());
    if !bytes.is_empty() {
        one_encoding::<M>(&scene::flipped(&bytes, flip % (8 * bytes.len())));
    }
}

/// Calls `exercise` for each message named.
macro_rules! all {
    ($seed:expr, $random:expr, $flip:expr, $($message:ident),+ $(,)?) => {
        $(exercise::<schema::$message>($seed, $random, $flip);)+
    };
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_message_has_one_encoding_and_no_bytes_make_the_gate_panic(
        seed: u64, random in prop::collection::vec(any::<u8>(), 0..300), flip: usize,
    ) {
        all!(
            seed, &random, flip, UnitRef, Classification, Label, Core, PacketRef, AttachmentRef, Header, Opening,
            GrantCore, Grant, Evidence, GroupProof, SignedEvidence, AuditEvent, LoggedEvent, Receipt, SignedReceipt,
            Text, PartialDate, PersonName, Person, Vessel, Vehicle, Document, Phone, Account, Position, Location,
            RouteLeg, Route, Organisation, Event, Relation, Grading, Thread, AttachmentKey, Alert, Notice, Request,
            Reply, Recall, Body, RosterUnit, Member, BrokerKeys, Roster, RosterSignature, SignedRoster, EncryptionKey,
            Keyset, Delegation, SignedKeyset, DirectoryBundle, Hello, HelloAck, Submission, Refusal, Delivery,
            EvidenceDelivery, Acknowledgement, BlobPut, BlobGet, BlobStatus, KnownKeyset, DirectoryGet, DirectoryHead,
            DirectoryUpdate, KeysetPut, KeysetStatus, DirectoryNotice, EndedLog, WitnessRequest, WitnessAnswer, LogGet,
            LogHead, ErasurePut, ErasureStatus, SlotOpening, LeafProof, RootProof, ErasureOrder, SignedErasureOrder,
            EvidenceFile, StoredEpoch, StoredEvents, StoredMembers, StoredErasure, StoredLogBegun,
        );
    }

    #[test]
    fn no_bytes_make_a_parser_panic(seed: u64, random in prop::collection::vec(any::<u8>(), 0..2_000)) {
        let mut entropy = Stream::new(&format!("parsers {seed}"));
        let mut message = |shape| {
            let mut bytes = Vec::new();
            built(shape, &mut entropy, &mut bytes);
            Bytes::from(bytes)
        };
        // Canonical messages without sense get further than random bytes.
        let core = message(schema::Core::shape());
        let header = schema::Header {
            core: core.clone(),
            ..decode(&message(schema::Header::shape()), MAX).unwrap()
        };
        let wild = Bytes::copy_from_slice(&random);
        for bytes in [&core, &wild, &message(schema::Evidence::shape()), &message(schema::Receipt::shape())] {
            prop_assert!(Core::parse(bytes).is_err());
            prop_assert!(Evidence::parse(bytes).is_err());
            prop_assert!(Receipt::parse(bytes).is_err());
        }
        for bytes in [&encode(&header), &message(schema::Header::shape()), &wild] {
            prop_assert!(verify_header(bytes, &wild, &Directory::usual()).is_err());
        }
        let public = VerifyingKey::parse(&scene::signer(1, KeyRole::Packet).public_key()).unwrap();
        let receipt = decode(&message(schema::SignedReceipt::shape()), MAX).unwrap();
        prop_assert!(verify_receipt(&receipt, |_| Some(&public)).is_err());
        let evidence = decode(&message(schema::SignedEvidence::shape()), MAX).unwrap();
        prop_assert!(verify_evidence(&evidence, |_, _| Some(&public)).is_err());
        prop_assert!(chunk::open(&ContentKey::new([1; 32]), b"", &random).is_err());
        let _ = unpad(&random);
        prop_assert!(SignedCheckpoint::parse(&random).is_err());
        prop_assert!(TlogProof::parse(&random).is_err());
        prop_assert!(RootEntry::parse(&random).is_err() || random.len() == ENTRY_BYTES);
        prop_assert!(LogFile::parse(&String::from_utf8_lossy(&random)).is_none());
        prop_assert!(tile::entries(&random).count() <= random.len());
        if let Some(header) = random.first_chunk() {
            let _ = frame::parse_header(*header);
        }
        prop_assert!(VerifyingKey::parse(&random).is_err() || random.len() == 32);
    }

    #[test]
    fn no_wrap_made_of_random_bytes_opens(random in prop::collection::vec(any::<u8>(), 1_200)) {
        prop_assert!(unwrap(&scene::decryption(scene::KH_SEED), b"info", &random).is_err());
    }

    #[test]
    fn a_frame_header_comes_back(length in 0usize..4_000_000, byte in 0u8..30) {
        if let Ok(kind) = frame::FrameType::try_from(byte) {
            let header = frame::header(kind, length);
            prop_assert_eq!(header.is_ok(), length <= kind.bytes_max());
            if let Ok(header) = header {
                prop_assert_eq!(frame::parse_header(header), Ok((kind, length)));
            }
        } else {
            prop_assert_eq!(frame::parse_header([0, 0, 0, 0, byte]), Err(frame::FrameError::UnknownType(byte)));
        }
    }

    #[test]
    fn one_padding_is_right_for_each_body(body in prop::collection::vec(any::<u8>(), 0..3_000), more in 0usize..3) {
        let length = u32::try_from(body.len()).unwrap();
        let mut plain = [length.to_be_bytes().as_slice(), &body].concat();
        let padded = usize::try_from(padme(plain.len() as u64)).unwrap().max(512);
        plain.resize(padded + more, 0);
        prop_assert_eq!(unpad(&plain).ok(), (more == 0).then_some(body.as_slice()));
        prop_assert!(unpad(&plain[..padded - 1]).is_err());
        if more == 0 {
            prop_assert_eq!(&*pad(&body).unwrap(), &plain);
        }
    }
}
