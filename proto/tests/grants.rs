//! Grants: Thailand originates, Cambodia relays, Laos opens. And what no grant may do.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests; a failure is a failed test"
)]

mod scene;

use bytes::Bytes;
use lintas_proto::{
    canonical::{decode, encode},
    envelope::{
        core::CoreError,
        grant::{GrantError, GrantTerms, SealedGrant, open_granted, seal_grant, verify_grant},
        open::{OpenError, Parts, open},
        seal::{Draft, Recipient, seal},
        verify::{Part, VerifiedHeader, VerifyError, verify_header},
    },
    id::{IdError, PacketId},
    schema::{self, Onward, Opening, UnitRef},
    sign::{KeyRole, Signed, SigningKey},
};
use scene::{DAY_MS, Directory, NOW_MS, Packet, Stream};

fn packet() -> Packet {
    scene::packet(&mut Stream::new("granted"))
}

fn relayer() -> SigningKey {
    scene::signer(scene::KH_SIGN, KeyRole::Packet)
}

fn terms() -> GrantTerms {
    scene::grant_terms(PacketId::new(NOW_MS, &mut Stream::new("grant id")))
}

fn to(unit: UnitRef) -> Recipient {
    Recipient {
        unit,
        key: scene::decryption(scene::LA_SEED).public().clone(),
        previous: [4; 32],
        named: false,
    }
}

/// Cambodia opens the packet, and grants it with the content key that it found.
fn grant_for(
    packet: &Packet,
    terms: &GrantTerms,
    recipients: &[Recipient],
) -> Result<SealedGrant, GrantError> {
    let verified = packet.verified();
    let opened = open(&verified, packet.parts(0), &scene::decryption(scene::KH_SEED)).unwrap();
    seal_grant(&verified, terms, &opened.content_key, recipients, &relayer(), &mut Stream::new("grant"))
}

fn sealed() -> (Packet, SealedGrant) {
    let packet = packet();
    let grant = grant_for(&packet, &terms(), &[to(scene::la())]).unwrap();
    (packet, grant)
}

fn parts<'a>(packet: &'a Packet, grant: &'a SealedGrant) -> Parts<'a> {
    Parts {
        index: 0,
        opening: &grant.openings[0],
        wrap: &grant.wraps[0],
        body: &packet.sealed.submission.body,
    }
}

#[test]
fn the_new_recipient_opens_what_the_originator_signed() {
    let (packet, sealed) = sealed();
    let verified = packet.verified();
    let grant = verify_grant(&verified, &sealed.grant, &sealed.signature, &Directory::usual()).unwrap();
    assert_eq!(*grant.terms(), terms());
    assert_eq!(*grant.digest(), lintas_proto::id::sha256(&[&sealed.grant]));
    grant.check_parts(&sealed.openings, &sealed.wraps).unwrap();
    let secret = scene::decryption(scene::LA_SEED);
    let opened = open_granted(&verified, &grant, parts(&packet, &sealed), &secret).unwrap();
    assert_eq!(opened.body, packet.draft_body);
    assert_eq!(opened.previous, [4; 32]);
    assert_eq!(opened.content_key, packet.sealed.content_key);
}

#[test]
fn a_granted_wrap_is_bound_to_its_grant() {
    let (packet, sealed) = sealed();
    let (verified, secret) = (packet.verified(), scene::decryption(scene::LA_SEED));
    // The same wrap and opening under another grant of the same relayer: info holds the digest of GrantCore.
    let later = GrantTerms { expires_ms: NOW_MS + DAY_MS, ..terms() };
    let (mut other, mut core) = wire(&grant_for(&packet, &later, &[to(scene::la())]).unwrap());
    core.recipient_commit = wire(&sealed).1.recipient_commit;
    other.wrap_sha256 = wire(&sealed).0.wrap_sha256;
    other.grant_core = encode(&core);
    let (bytes, signature) = signed(&relayer(), &other);
    let grant = verify_grant(&verified, &bytes, &signature, &Directory::usual()).unwrap();
    let refused = open_granted(&verified, &grant, parts(&packet, &sealed), &secret).unwrap_err();
    assert_eq!(refused, OpenError::CannotOpen);
    // Nor is it the wrap of a packet.
    assert!(open(&verified, parts(&packet, &sealed), &secret).is_err());
}

fn wire(sealed: &SealedGrant) -> (schema::Grant, schema::GrantCore) {
    let grant: schema::Grant = decode(&sealed.grant, 65_536).unwrap();
    let core = decode(&grant.grant_core, 65_536).unwrap();
    (grant, core)
}

fn signed(key: &SigningKey, grant: &schema::Grant) -> (Bytes, [u8; 64]) {
    let bytes = encode(grant);
    let signature = key.sign(Signed::Grant, &bytes);
    (bytes, signature)
}

/// What verification says of a grant that was changed and signed anew by its relayer.
fn verified_with(change: impl FnOnce(&mut schema::Grant, &mut schema::GrantCore)) -> Result<(), VerifyError> {
    let (packet, sealed) = sealed();
    let (mut grant, mut core) = wire(&sealed);
    change(&mut grant, &mut core);
    grant.grant_core = encode(&core);
    let (bytes, signature) = signed(&relayer(), &grant);
    verify_grant(&packet.verified(), &bytes, &signature, &Directory::usual()).map(|_| ())
}

#[test]
fn a_grant_that_breaks_a_rule_is_refused_although_it_is_signed() {
    verified_with(|_, _| ()).unwrap();
    let core = |error| Err(VerifyError::Core(error));
    assert_eq!(verified_with(|_, core| core.suite = 2), core(CoreError::Suite(2)));
    assert_eq!(verified_with(|_, core| core.relayer = None), core(CoreError::Missing("relayer")));
    let no_code = CoreError::Id { field: "relayer", error: IdError::Code };
    assert_eq!(verified_with(|_, core| core.relayer = Some(scene::unit("KH", "kh"))), core(no_code));
    let no_id = CoreError::Id { field: "grant_id", error: IdError::NotUuidV7 };
    assert_eq!(verified_with(|_, core| core.grant_id = vec![0; 16].into()), core(no_id));
    let deliver_by = NOW_MS + 7 * DAY_MS;
    assert_eq!(verified_with(|_, core| core.expires_ms = deliver_by), Ok(()));
    assert_eq!(verified_with(|_, core| core.expires_ms = deliver_by + 1), core(CoreError::Times));
    assert_eq!(verified_with(|_, core| core.expires_ms = 0), core(CoreError::Times));
    assert_eq!(verified_with(|_, core| core.consent_digest = vec![1; 32].into()), core(CoreError::Onward));
    let nobody = verified_with(|grant, core| {
        grant.wrap_sha256.clear();
        core.recipient_commit.clear();
    });
    assert_eq!(nobody, core(CoreError::Recipients));
    let twice = verified_with(|grant, core| {
        grant.wrap_sha256.push(grant.wrap_sha256[0].clone());
        core.recipient_commit.push(core.recipient_commit[0].clone());
    });
    assert_eq!(twice, core(CoreError::Recipients));
    let fewer = verified_with(|grant, _| grant.wrap_sha256.clear());
    assert_eq!(fewer, Err(VerifyError::Count { part: "key wrap", commitments: 1, have: 0 }));
    let other = verified_with(|_, core| core.header_digest = vec![1; 32].into());
    assert_eq!(other, Err(VerifyError::Digest(Part::Header)));
    for change in [
        |core: &mut schema::GrantCore| core.prev_grant = vec![1; 31].into(),
        |core: &mut schema::GrantCore| core.directory_hash = Bytes::new(),
        |core: &mut schema::GrantCore| core.sign_key_id.truncate(31),
        |core: &mut schema::GrantCore| core.recipient_commit[0].truncate(31),
    ] {
        let refused = verified_with(|_, core| change(core));
        assert!(matches!(refused, Err(VerifyError::HeaderSize(_))), "{refused:?}");
    }
}

#[test]
fn a_grant_is_signed_by_the_relayer_that_it_names() {
    let (packet, sealed) = sealed();
    let verified = packet.verified();
    let refused = |signature: &[u8], directory: &Directory| {
        verify_grant(&verified, &sealed.grant, signature, directory).map(|_| ()).unwrap_err()
    };
    let th = scene::signer(scene::TH_SIGN, KeyRole::Packet).sign(Signed::Grant, &sealed.grant);
    assert_eq!(
        refused(&th, &Directory::usual()),
        VerifyError::Signature,
        "the originator signs for the relayer"
    );
    let header = relayer().sign(Signed::Header, &sealed.grant);
    assert_eq!(refused(&header, &Directory::usual()), VerifyError::Signature, "a signature of another kind");
    let only_th = Directory::of(&[(scene::th(), &scene::signer(scene::TH_SIGN, KeyRole::Packet))]);
    assert!(matches!(refused(&sealed.signature, &only_th), VerifyError::UnknownKey { .. }));
    for bit in 0..8 * sealed.signature.len() {
        let flipped = scene::flipped(&sealed.signature, bit);
        assert_eq!(refused(&flipped, &Directory::usual()), VerifyError::Signature, "bit {bit}");
    }
}

#[test]
fn a_grant_is_for_one_packet() {
    let (first, sealed) = sealed();
    let second = scene::packet(&mut Stream::new("another packet"));
    let refused =
        verify_grant(&second.verified(), &sealed.grant, &sealed.signature, &Directory::usual()).unwrap_err();
    assert_eq!(refused, VerifyError::Digest(Part::Header));
    // Verified for its own packet and then used for the other one: nothing opens.
    let grant =
        verify_grant(&first.verified(), &sealed.grant, &sealed.signature, &Directory::usual()).unwrap();
    let secret = scene::decryption(scene::LA_SEED);
    let refused = open_granted(&second.verified(), &grant, parts(&second, &sealed), &secret).unwrap_err();
    assert_eq!(refused, OpenError::CannotOpen);
}

/// A packet of Thailand's to Cambodia that may be passed on as `onward` says.
fn packet_that_goes(onward: Onward) -> (VerifiedHeader, lintas_proto::envelope::chunk::ContentKey) {
    let mut core = scene::core(PacketId::new(NOW_MS, &mut Stream::new("onward")));
    core.onward = onward;
    let recipient = Recipient {
        unit: scene::kh(),
        key: scene::decryption(scene::KH_SEED).public().clone(),
        previous: [0; 32],
        named: false,
    };
    let draft = Draft { core, body: scene::body(), recipients: vec![recipient], visible_audience: false };
    let signer = scene::signer(scene::TH_SIGN, KeyRole::Packet);
    let sealed = seal(draft, &signer, &mut Stream::new("onward")).unwrap();
    let submission = sealed.submission;
    let verified = verify_header(&submission.header, &submission.signature, &Directory::usual()).unwrap();
    (verified, sealed.content_key)
}

#[test]
fn a_grant_obeys_the_onward_rule_of_its_packet() {
    let cases = [
        (Onward::None, None, false),
        (Onward::None, Some([1; 32]), false),
        (Onward::WithConsent, None, false),
        (Onward::WithConsent, Some([1; 32]), true),
        (Onward::Region, None, true),
        (Onward::Region, Some([1; 32]), false),
        (Onward::Any, None, true),
        (Onward::Any, Some([1; 32]), false),
    ];
    for (onward, consent_digest, allowed) in cases {
        let (packet, key) = packet_that_goes(onward);
        let terms = GrantTerms { consent_digest, ..terms() };
        let mut entropy = Stream::new("grant");
        let sealed = seal_grant(&packet, &terms, &key, &[to(scene::la())], &relayer(), &mut entropy);
        assert_eq!(sealed.is_ok(), allowed, "sealing: {onward:?}, {consent_digest:?}");

        // A relayer who does not keep the rule: an allowed grant, rewritten for this packet and signed.
        let (_, usual) = self::sealed();
        let (mut grant, mut core) = wire(&usual);
        core.header_digest = Bytes::copy_from_slice(packet.digest());
        core.consent_digest = consent_digest.map(|d| Bytes::copy_from_slice(&d)).unwrap_or_default();
        grant.grant_core = encode(&core);
        let (bytes, signature) = signed(&relayer(), &grant);
        let verified = verify_grant(&packet, &bytes, &signature, &Directory::usual()).map(|_| ());
        let expected = if allowed { Ok(()) } else { Err(VerifyError::Core(CoreError::Onward)) };
        assert_eq!(verified, expected, "verifying: {onward:?}, {consent_digest:?}");
    }
}

#[test]
fn terms_that_nobody_would_take_are_not_sealed() {
    let packet = packet();
    let refused = |terms: &GrantTerms, recipients: &[Recipient]| {
        grant_for(&packet, terms, recipients).map(|_| ()).unwrap_err()
    };
    let late = GrantTerms { expires_ms: NOW_MS + 8 * DAY_MS, ..terms() };
    assert_eq!(refused(&late, &[to(scene::la())]), GrantError::Core(CoreError::Times));
    let nameless = GrantTerms { relayer: scene::unit("KH", ""), ..terms() };
    let no_code = |field| GrantError::Core(CoreError::Id { field, error: IdError::Code });
    assert_eq!(refused(&nameless, &[to(scene::la())]), no_code("relayer"));
    assert_eq!(refused(&terms(), &[to(scene::unit("LA", "la"))]), no_code("recipient"));
    assert_eq!(refused(&terms(), &[]), GrantError::Core(CoreError::Recipients));
    let twice = [to(scene::la()), to(scene::la())];
    assert_eq!(refused(&terms(), &twice), GrantError::Core(CoreError::Recipients));
}

#[test]
fn parts_that_are_not_the_new_recipients_are_refused_by_name() {
    let (packet, sealed) = sealed();
    let verified = packet.verified();
    let grant = verify_grant(&verified, &sealed.grant, &sealed.signature, &Directory::usual()).unwrap();
    let refused = |parts: Parts<'_>, seed: u8| {
        open_granted(&verified, &grant, parts, &scene::decryption(seed)).map(|_| ()).unwrap_err()
    };
    let own = parts(&packet, &sealed);
    let opening = Opening { salt: vec![1; 16].into(), ..sealed.openings[0].clone() };
    let named = |part| OpenError::Verify(VerifyError::Digest(part));
    assert_eq!(refused(Parts { opening: &opening, ..own }, scene::LA_SEED), named(Part::Opening(0)));
    assert_eq!(refused(Parts { index: 1, ..own }, scene::LA_SEED), named(Part::Opening(1)));
    assert_eq!(refused(Parts { wrap: packet.parts(0).wrap, ..own }, scene::LA_SEED), named(Part::Wrap(0)));
    assert_eq!(refused(own, scene::KH_SEED), OpenError::OtherKey);
    let body = scene::flipped(own.body, 1_000);
    assert_eq!(refused(Parts { body: &body, ..own }, scene::LA_SEED), named(Part::Body));
    assert!(matches!(grant.check_parts(&sealed.openings, &[]), Err(VerifyError::Count { .. })));
    assert!(matches!(grant.check_parts(&[], &sealed.wraps), Err(VerifyError::Count { .. })));
    let other = grant.check_parts(&[opening], &sealed.wraps).unwrap_err();
    assert_eq!(other, VerifyError::Digest(Part::Opening(0)));
}
