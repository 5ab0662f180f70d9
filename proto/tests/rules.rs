//! Rules beyond the encoding: core, label, header, who may open. For each rule something that keeps all others.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests; a failure is a failed test"
)]

mod scene;

use bytes::Bytes;
use lintas_proto::{
    canonical::{WrongSize, encode},
    envelope::{
        body::BodyError,
        core::{Core, CoreError, recipient_commitment},
        open::{OpenError, Parts, open, reopen},
        seal::{Draft, Recipient, SealError, seal, wrap_info},
        verify::{Part, VerifiedHeader, VerifyError, verify_header},
        wrap::{EncryptionKey, WrapError, unwrap},
    },
    id::{Digest, IdError, PacketId, sha256},
    label::LabelError,
    limits,
    schema::{self, Caveat, Classification, HandlingCode, Kind, UnitRef},
    sign::{KeyRole, Signed, SigningKey, VerifyingKey},
};
use scene::{DAY_MS, Directory, NOW_MS, Packet, Stream};

fn packet() -> Packet {
    scene::packet(&mut Stream::new("rules"))
}

/// What `Core::parse` says when `change` was applied to a sound core.
fn core_with(change: impl FnOnce(&mut schema::Core)) -> Result<Core, CoreError> {
    let (_, mut core) = packet().decoded();
    change(&mut core);
    Core::parse(&encode(&core))
}

fn label_with(change: impl FnOnce(&mut schema::Label)) -> Result<Core, CoreError> {
    core_with(|core| change(core.label.as_mut().unwrap()))
}

#[test]
fn the_core_that_is_changed_below_is_sound() {
    core_with(|_| ()).unwrap();
    label_with(|_| ()).unwrap();
}

#[test]
fn suite_2_is_refused() {
    for suite in [0, 2, 257, u32::MAX] {
        assert_eq!(core_with(|core| core.suite = suite), Err(CoreError::Suite(suite)));
    }
}

#[test]
fn a_packet_id_that_is_no_uuid_v7_is_refused() {
    let with = |at: usize, byte: u8| {
        core_with(|core| {
            let mut id = core.packet_id.to_vec();
            id[at] = byte;
            core.packet_id = id.into();
        })
    };
    let refused = Err(CoreError::Id { field: "packet_id", error: IdError::NotUuidV7 });
    assert_eq!(with(6, 0x4c), refused, "version 4");
    assert_eq!(with(8, 0xd0), refused, "another variant");
    assert_eq!(core_with(|core| core.packet_id.truncate(15)), refused);
    assert_eq!(core_with(|core| core.packet_id = Bytes::new()), refused);
}

#[test]
fn times_that_do_not_follow_each_other_are_refused() {
    let times: [fn(&mut schema::Core); 6] = [
        |core| core.not_before_ms = core.created_ms - 1,
        |core| core.deliver_by_ms = core.not_before_ms,
        |core| core.deliver_by_ms = core.created_ms + 90 * DAY_MS + 1,
        |core| (core.created_ms, core.not_before_ms) = (core.created_ms + 1, core.not_before_ms + 1),
        |core| core.created_ms = 0,
        |core| core.deliver_by_ms = 0,
    ];
    for (number, change) in times.into_iter().enumerate() {
        assert_eq!(core_with(change), Err(CoreError::Times), "change {number}");
    }
    core_with(|core| core.deliver_by_ms = core.created_ms + 90 * DAY_MS).unwrap();
    core_with(|core| core.not_before_ms = core.deliver_by_ms - 1).unwrap();
    assert_eq!(limits::DELIVER_WITHIN_MS_MAX, 90 * DAY_MS);
}

#[test]
fn commitments_are_1_to_500_and_distinct() {
    assert_eq!(core_with(|core| core.recipient_commit.clear()), Err(CoreError::Recipients));
    let twice = core_with(|core| core.recipient_commit.push(core.recipient_commit[0].clone()));
    assert_eq!(twice, Err(CoreError::Recipients));
    let many = |count: u32| {
        core_with(|core| {
            core.recipient_commit = (0..count).map(|n| sha256(&[&n.to_be_bytes()]).to_vec().into()).collect();
        })
    };
    many(500).unwrap();
    assert_eq!(many(501), Err(CoreError::Recipients));
    let short = core_with(|core| core.recipient_commit[1].truncate(31));
    assert_eq!(short, Err(CoreError::Size(WrongSize { field: "recipient_commit", need: 32, have: 31 })));
}

#[test]
fn recall_and_refers_to_go_together() {
    let packet = schema::PacketRef {
        packet_id: packet().decoded().1.packet_id,
        header_digest: Bytes::from_static(&[5; 32]),
    };
    let recall = Kind::Recall as i32;
    assert_eq!(core_with(|core| core.kind = recall), Err(CoreError::RefersTo));
    assert_eq!(core_with(|core| core.refers_to = Some(packet.clone())), Err(CoreError::RefersTo));
    let both = |refers_to: schema::PacketRef| {
        core_with(|core| {
            core.kind = recall;
            core.refers_to = Some(refers_to);
        })
    };
    assert_eq!(both(packet.clone()).unwrap().refers_to.unwrap().1, [5; 32]);
    let half = schema::PacketRef { header_digest: Bytes::new(), ..packet };
    assert!(matches!(both(half), Err(CoreError::Size(_))));
}

#[test]
fn what_must_be_in_a_core_must_be_there() {
    type Change = fn(&mut schema::Core);
    let missing: [(&str, Change); 6] = [
        ("originator", |core| core.originator = None),
        ("label", |core| core.label = None),
        ("kind", |core| core.kind = 0),
        ("onward", |core| core.onward = 0),
        ("roster_version", |core| core.roster_version = 0),
        ("keyset_version", |core| core.keyset_version = 0),
    ];
    for (field, change) in missing {
        assert_eq!(core_with(change), Err(CoreError::Missing(field)));
    }
    let digests: [(&str, Change); 2] = [
        ("sign_key_id", |core| core.sign_key_id = Bytes::new()),
        ("directory_hash", |core| core.directory_hash.truncate(31)),
    ];
    for (name, change) in digests {
        assert!(matches!(core_with(change), Err(CoreError::Size(WrongSize { field, .. })) if field == name));
    }
}

#[test]
fn codes_and_names_are_ascii_and_bounded() {
    for code in ["th", "T H", "ТН", "-TH", "1TH", "T\0H", &"A".repeat(33)] {
        let refused = core_with(|core| core.originator.as_mut().unwrap().agency = code.to_owned());
        assert_eq!(refused, Err(CoreError::Id { field: "originator", error: IdError::Code }), "{code:?}");
    }
    for name in ["", "Mekong", "me kong", "mekong/audit", ".mekong", &"a".repeat(65)] {
        let refused = core_with(|core| core.region = name.to_owned());
        assert_eq!(refused, Err(CoreError::Id { field: "region", error: IdError::Name }), "{name:?}");
    }
    core_with(|core| core.originator.as_mut().unwrap().unit = "A".repeat(32)).unwrap();
}

#[test]
fn an_attachment_that_cannot_be_is_refused() {
    let refused = Err(CoreError::Attachment(0));
    assert_eq!(core_with(|core| core.attachments[0].length += 1), refused, "not the length in the id");
    assert_eq!(core_with(|core| core.attachments[0].blob_id = vec![1; 32].into()), refused);
    assert_eq!(core_with(|core| core.attachments[0].root = vec![1; 32].into()), refused);
    let named = |length: u64| {
        core_with(|core| {
            let root: Digest = core.attachments[0].root.as_ref().try_into().unwrap();
            core.attachments[0].length = length;
            core.attachments[0].blob_id =
                lintas_proto::envelope::segment::blob_id(&root, length).to_vec().into();
        })
    };
    named(72).unwrap();
    assert_eq!(named(71), refused, "no chunked message has that length");
    assert_eq!(named(limits::BLOB_BYTES_MAX + 1), refused, "beyond the limit");
    let twice = core_with(|core| core.attachments.push(core.attachments[0].clone()));
    assert_eq!(twice, Err(CoreError::Attachment(1)));
    let many = core_with(|core| core.attachments = vec![core.attachments[0].clone(); 65]);
    assert_eq!(many, Err(CoreError::Attachment(65)));
}

#[test]
fn a_label_that_breaks_a_rule_is_refused() {
    use LabelError::{Code, Needs, RelTo, Unsorted};
    type Change = fn(&mut schema::Label);
    let changes: [(Change, LabelError); 16] = [
        (|l| l.tlp = 0, Needs("tlp")),
        (|l| l.handling.clear(), Needs("handling")),
        (|l| l.purposes.clear(), Needs("purposes")),
        (|l| l.handling = vec![2, 1], Unsorted("handling")),
        (|l| l.handling = vec![1, 1], Unsorted("handling")),
        (|l| l.caveats = vec![2, 1], Unsorted("caveats")),
        (|l| l.purposes = vec![2, 1], Unsorted("purposes")),
        (|l| l.offences = vec![1, 1], Unsorted("offences")),
        (|l| l.data = vec![3, 2], Unsorted("data")),
        (|l| l.caveats = vec![Caveat::RelTo as i32], RelTo),
        (|l| l.rel_to = vec!["KH".to_owned()], RelTo),
        (|l| rel_to(l, &["VN", "KH"]), Unsorted("rel_to")),
        (|l| rel_to(l, &["KH", "KH"]), Unsorted("rel_to")),
        (|l| rel_to(l, &["kh"]), Code("kh".to_owned())),
        (|l| l.classification = marking("th", "LAP"), Code("th".to_owned())),
        (|l| l.classification = marking("TH", "ลับ"), Code("ลับ".to_owned())),
    ];
    for (number, (change, error)) in changes.into_iter().enumerate() {
        assert_eq!(label_with(change), Err(CoreError::Label(error)), "change {number}");
    }
    label_with(|l| rel_to(l, &["KH", "VN"])).unwrap();
    label_with(|l| l.classification = marking("TH", "LAP")).unwrap();
}

fn rel_to(label: &mut schema::Label, agencies: &[&str]) {
    label.caveats = vec![Caveat::RelTo as i32];
    label.rel_to = agencies.iter().map(|&agency| agency.to_owned()).collect();
}

fn marking(scheme: &str, value: &str) -> Option<Classification> {
    Some(Classification { scheme: scheme.to_owned(), value: value.to_owned() })
}

#[test]
fn a_value_that_is_no_code_is_refused_when_a_core_is_made_too() {
    // The maker of a core does not pass through the gate: `check` looks by itself.
    let mut core = scene::core(PacketId::new(NOW_MS, &mut Stream::new("made")));
    core.recipient_commit.push([1; 32]);
    core.to_bytes().unwrap();
    for unknown in [0, 5, -1] {
        core.label.handling = vec![unknown];
        assert_eq!(core.to_bytes(), Err(CoreError::Label(LabelError::Needs("handling"))), "{unknown}");
    }
}

/// Signs `header` as Thailand and verifies it.
fn header_with(change: impl FnOnce(&mut schema::Header)) -> Result<VerifiedHeader, VerifyError> {
    let (mut header, _) = packet().decoded();
    change(&mut header);
    signed_by(&scene::signer(scene::TH_SIGN, KeyRole::Packet), &header)
}

fn signed_by(key: &SigningKey, header: &schema::Header) -> Result<VerifiedHeader, VerifyError> {
    let bytes = encode(header);
    let signature = Bytes::copy_from_slice(&key.sign(Signed::Header, &bytes));
    verify_header(&bytes, &signature, &Directory::usual())
}

#[test]
fn a_header_that_breaks_a_rule_is_refused_although_it_is_signed() {
    header_with(|_| ()).unwrap();
    let fewer = header_with(|header| header.wrap_sha256.truncate(1));
    assert_eq!(fewer.unwrap_err(), VerifyError::Count { part: "key wrap", commitments: 2, have: 1 });
    let size = header_with(|header| header.body_root.truncate(31)).unwrap_err();
    assert_eq!(size, VerifyError::HeaderSize(WrongSize { field: "body_root", need: 32, have: 31 }));
    let size = header_with(|header| header.wrap_sha256[1].truncate(31)).unwrap_err();
    assert_eq!(size, VerifyError::HeaderSize(WrongSize { field: "wrap_sha256", need: 32, have: 31 }));
    for length in [0, 71, limits::BODY_BYTES_MAX as u64 + 1, u64::MAX] {
        let refused = header_with(|header| header.body_length = length).unwrap_err();
        assert!(matches!(refused, VerifyError::BodyLength { have, .. } if have == length), "{refused}");
    }
    let empty = header_with(|header| header.core = Bytes::new());
    assert_eq!(empty.unwrap_err(), VerifyError::Core(CoreError::Suite(0)));
}

#[test]
fn the_key_comes_from_the_directory_and_from_nowhere_else() {
    let packet = packet();
    let submission = &packet.sealed.submission;
    let refused = |directory: &Directory| {
        verify_header(&submission.header, &submission.signature, directory).map(|_| ()).unwrap_err()
    };
    let unknown = VerifyError::UnknownKey {
        agency: "TH".to_owned(),
        unit: "TH-ATD-RNG".to_owned(),
        key_id: *scene::signer(scene::TH_SIGN, KeyRole::Packet).id(),
    };
    let th = scene::signer(scene::TH_SIGN, KeyRole::Packet);
    assert_eq!(refused(&Directory(Vec::new())), unknown, "nobody is known");
    assert_eq!(refused(&Directory::of(&[(scene::kh(), &th)])), unknown, "the key is another agency's");
    let receipt = scene::signer(scene::TH_SIGN, KeyRole::Receipt);
    assert_eq!(refused(&Directory::of(&[(scene::th(), &receipt)])), unknown, "the key has another role");
    // The directory maps the id to other bytes: those count, whatever signed the header.
    let other = VerifyingKey::parse(&scene::signer(scene::KH_SIGN, KeyRole::Packet).public_key()).unwrap();
    assert_eq!(refused(&Directory(vec![(scene::th(), *th.id(), other)])), VerifyError::Signature);
}

#[test]
fn a_signature_of_another_kind_or_key_does_not_fit() {
    let (header, _) = packet().decoded();
    let bytes = encode(&header);
    let key = scene::signer(scene::TH_SIGN, KeyRole::Packet);
    let grant = Bytes::copy_from_slice(&key.sign(Signed::Grant, &bytes));
    let refused = verify_header(&bytes, &grant, &Directory::usual()).unwrap_err();
    assert_eq!(refused, VerifyError::Signature);
    let by_kh = signed_by(&scene::signer(scene::KH_SIGN, KeyRole::Packet), &header).unwrap_err();
    assert_eq!(by_kh, VerifyError::Signature, "Cambodia signs what says Thailand");
    for length in [0, 63] {
        let signature = Bytes::from(vec![0; length]);
        let refused = verify_header(&bytes, &signature, &Directory::usual()).unwrap_err();
        assert_eq!(refused, VerifyError::Signature);
    }
}

#[test]
fn a_stripped_and_re_signed_copy_cannot_be_opened() {
    // Cambodia takes Thailand's packet, puts its own name and key into the core and signs: a sound header, with the
    // same openings, wraps and body. But ctx is another one, so nothing opens.
    let packet = packet();
    let kh = scene::signer(scene::KH_SIGN, KeyRole::Packet);
    let (mut header, mut core) = packet.decoded();
    core.originator = Some(scene::kh());
    core.sign_key_id = Bytes::copy_from_slice(kh.id());
    header.core = encode(&core);
    let stolen = signed_by(&kh, &header).unwrap();
    let submission = &packet.sealed.submission;
    stolen.check_parts(&submission.openings, &submission.wraps, &submission.body).unwrap();
    let refused = open(&stolen, packet.parts(1), &scene::decryption(scene::VN_SEED)).unwrap_err();
    assert_eq!(refused, OpenError::CannotOpen);
    // Not even with the content key itself.
    let refused = reopen(&stolen, &packet.sealed.content_key, &submission.body).err().unwrap();
    assert_eq!(refused, OpenError::CannotOpen);
    // And with the key id alone changed: the name stays Thailand's, which the directory does not allow.
    core.originator = Some(scene::th());
    header.core = encode(&core);
    assert!(matches!(signed_by(&kh, &header), Err(VerifyError::UnknownKey { .. })));
}

#[test]
fn one_error_stands_for_every_failure_of_decryption() {
    let packet = packet();
    let (verified, secret) = (packet.verified(), scene::decryption(scene::KH_SEED));
    let parts = packet.parts(0);
    let info = wrap_info(verified.context(), secret.public().id());
    let mut errors = Vec::new();
    for at in [0, 1_087, 1_088, 1_119, 1_120, 1_199] {
        let wrap = scene::flipped(parts.wrap, 8 * at);
        errors.push(unwrap(&secret, &info, &wrap).unwrap_err());
    }
    errors.push(unwrap(&secret, b"another info", parts.wrap).unwrap_err());
    errors.push(unwrap(&scene::decryption(9), &info, parts.wrap).unwrap_err());
    errors.push(unwrap(&secret, &info, &parts.wrap[1..]).unwrap_err());
    assert!(errors.iter().all(|error| *error == WrapError::CannotOpen), "{errors:?}");

    // A sender who signs a wrap that opens to nothing: the same word as for a body that does not open.
    let resigned = |wrap: Bytes, body: Bytes| {
        let (mut header, _) = packet.decoded();
        header.wrap_sha256[0] = sha256(&[&wrap]).to_vec().into();
        header.body_root = lintas_proto::envelope::segment::segment_root(&body).to_vec().into();
        let verified = signed_by(&scene::signer(scene::TH_SIGN, KeyRole::Packet), &header).unwrap();
        open(&verified, Parts { wrap: &wrap, body: &body, ..parts }, &secret).map(|_| ()).unwrap_err()
    };
    let (wrap, body) = (Bytes::copy_from_slice(parts.wrap), Bytes::copy_from_slice(parts.body));
    assert_eq!(resigned(scene::flipped(&wrap, 8_000), body.clone()), OpenError::CannotOpen);
    for at in [0, 24, 56, body.len() - 1] {
        assert_eq!(resigned(wrap.clone(), scene::flipped(&body, 8 * at)), OpenError::CannotOpen, "body {at}");
    }
    let said = resigned(scene::flipped(&wrap, 0), body).to_string();
    assert_eq!(said, "cannot be opened: wrong key, or the bytes were changed");
}

#[test]
fn an_encapsulation_of_small_order_is_refused_although_it_would_open() {
    // A dishonest sender takes a point of small order as its X25519 half: the shared secret of that half is zero for
    // every key, and only ML-KEM is left. hpke opens such a wrap; `unwrap` does not.
    use hpke::{Deserializable as _, OpModeR, aead::ChaCha20Poly1305, kdf::HkdfSha256, kem::XWing};
    let (secret, plain) = (scene::decryption(scene::KH_SEED), [7; 64]);
    let public = secret.public().to_bytes();
    let private = <XWing as hpke::Kem>::PrivateKey::from_bytes(&[scene::KH_SEED; 32]).unwrap();
    let mut one = [0; 32];
    one[0] = 1;
    for point in [[0; 32], one] {
        let forged = scene::hpke::encapsulate(&public, &[9; 64], b"info", Some(point));
        let wrap = scene::hpke::seal(&forged, &plain);
        let encapsulated = <XWing as hpke::Kem>::EncappedKey::from_bytes(&wrap[..1_120]).unwrap();
        let opened = hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, XWing>(
            &OpModeR::Base,
            &private,
            &encapsulated,
            b"info",
            &wrap[1_120..],
            b"",
        );
        assert_eq!(opened.unwrap(), plain);
        assert_eq!(unwrap(&secret, b"info", &wrap).unwrap_err(), WrapError::CannotOpen);
    }
    let honest = scene::hpke::encapsulate(&public, &[9; 64], b"info", None);
    unwrap(&secret, b"info", &scene::hpke::seal(&honest, &plain)).unwrap();
}

#[test]
fn an_encryption_key_that_is_unsound_is_refused() {
    let public = scene::decryption(scene::KH_SEED).public().to_bytes();
    EncryptionKey::parse(&public).unwrap();
    let with = |at: usize, bytes: &[u8]| {
        let mut key = public.clone();
        key[at..at + bytes.len()].copy_from_slice(bytes);
        EncryptionKey::parse(&key).map(|_| ()).unwrap_err()
    };
    assert_eq!(with(1_184, &[0; 32]), WrapError::BadKey, "X25519 of small order");
    assert_eq!(with(1_215, &[public[1_215] | 0x80]), WrapError::BadKey, "the bit that X25519 ignores");
    let mut nine_plus_p = [0xff; 32];
    (nine_plus_p[0], nine_plus_p[31]) = (0xf6, 0x7f);
    assert_eq!(with(1_184, &nine_plus_p), WrapError::BadKey, "u + p");
    // FIPS 203 section 7.2, modulus check: a coefficient of q or more.
    assert_eq!(with(0, &[0xff, 0xff, 0xff]), WrapError::BadKey, "ML-KEM coefficient");
    assert_eq!(EncryptionKey::parse(&public[1..]).unwrap_err(), WrapError::BadKey);
}

fn draft(recipients: &[UnitRef]) -> Draft {
    let key = scene::decryption(scene::KH_SEED).public().clone();
    let recipient =
        |unit: &UnitRef| Recipient { unit: unit.clone(), key: key.clone(), previous: [0; 32], named: false };
    Draft {
        core: scene::core(PacketId::new(NOW_MS, &mut Stream::new("draft"))),
        body: scene::body(),
        recipients: recipients.iter().map(recipient).collect(),
        visible_audience: true,
    }
}

fn seal_refuses(draft: Draft) -> SealError {
    let key = scene::signer(scene::TH_SIGN, KeyRole::Packet);
    seal(draft, &key, &mut Stream::new("refused")).map(|_| ()).unwrap_err()
}

#[test]
fn a_unit_stands_once_among_the_recipients() {
    assert_eq!(seal_refuses(draft(&[])), SealError::Core(CoreError::Recipients));
    let twice = draft(&[scene::kh(), scene::vn(), scene::kh()]);
    assert_eq!(seal_refuses(twice), SealError::Core(CoreError::Recipients));
    let unknown = draft(&[scene::unit("KH", "kh")]);
    let error = CoreError::Id { field: "recipient", error: IdError::Code };
    assert_eq!(seal_refuses(unknown), SealError::Core(error));

    // A sender who does not use this `seal`: one unit under two salts, so two commitments.
    let packet = packet();
    let submission = &packet.sealed.submission;
    let (mut header, mut core) = packet.decoded();
    let mut openings = submission.openings.clone();
    openings[1] = schema::Opening { salt: openings[1].salt.clone(), ..openings[0].clone() };
    core.recipient_commit[1] = recipient_commitment(&openings[1]).to_vec().into();
    header.core = encode(&core);
    let verified = signed_by(&scene::signer(scene::TH_SIGN, KeyRole::Packet), &header).unwrap();
    let refused = verified.check_parts(&openings, &submission.wraps, &submission.body).unwrap_err();
    assert_eq!(refused, VerifyError::Core(CoreError::Recipients));
}

#[test]
fn a_visible_audience_is_the_one_that_was_committed() {
    let key = scene::signer(scene::TH_SIGN, KeyRole::Packet);
    let sealed = seal(draft(&[scene::kh(), scene::vn()]), &key, &mut Stream::new("audience")).unwrap();
    let submission = &sealed.submission;
    let verified = verify_header(&submission.header, &submission.signature, &Directory::usual()).unwrap();
    let parts = Parts {
        index: 0,
        opening: &submission.openings[0],
        wrap: &submission.wraps[0],
        body: &submission.body,
    };
    let opened = open(&verified, parts, &scene::decryption(scene::KH_SEED)).unwrap();
    assert_eq!(opened.body.audience, submission.openings);
    let other = scene::decryption(scene::VN_SEED);
    assert_eq!(open(&verified, parts, &other).unwrap_err(), OpenError::OtherKey);
}

#[test]
fn parts_that_are_not_the_recipients_are_refused_by_name() {
    let packet = packet();
    let (verified, secret) = (packet.verified(), scene::decryption(scene::KH_SEED));
    let refused = |parts: Parts<'_>| open(&verified, parts, &secret).map(|_| ()).unwrap_err();
    let (mine, theirs) = (packet.parts(0), packet.parts(1));
    let named = |part| OpenError::Verify(VerifyError::Digest(part));
    assert_eq!(refused(Parts { opening: theirs.opening, ..mine }), named(Part::Opening(0)));
    assert_eq!(refused(Parts { wrap: theirs.wrap, ..mine }), named(Part::Wrap(0)));
    assert_eq!(refused(Parts { index: 1, ..mine }), named(Part::Opening(1)));
    assert_eq!(refused(Parts { index: 2, ..mine }), named(Part::Opening(2)));
    assert_eq!(refused(theirs), OpenError::OtherKey);
    let submission = &packet.sealed.submission;
    let fewer = verified.check_parts(&submission.openings[..1], &submission.wraps, &submission.body);
    assert_eq!(fewer.unwrap_err(), VerifyError::Count { part: "opening", commitments: 2, have: 1 });
    let fewer = verified.check_parts(&submission.openings, &submission.wraps[..1], &submission.body);
    assert_eq!(fewer.unwrap_err(), VerifyError::Count { part: "key wrap", commitments: 2, have: 1 });
}

#[test]
fn h3_and_its_words_go_together() {
    let mut draft = draft(&[scene::kh()]);
    draft.core.label.handling = vec![HandlingCode::H3 as i32];
    assert_eq!(seal_refuses(draft), SealError::Body(BodyError::HandlingRestriction));
}

#[test]
fn a_body_that_is_too_long_is_refused_before_it_is_sealed() {
    let mut draft = draft(&[scene::kh()]);
    draft.body.title[0].text = "x".repeat(limits::BODY_PLAIN_BYTES_MAX);
    assert!(matches!(seal_refuses(draft), SealError::Pad(_)));
}
