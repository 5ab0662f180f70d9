use lintas_proto::{
    envelope::{
        seal::{Recipient, Sealed},
        wrap::DecryptionKey,
    },
    evidence::verify_evidence,
    id::Digest,
    schema::{Caveat, MemberStatus, Outcome, Stage},
};

use super::*;
use crate::testing::{DAY, NOW, World, unit};

/// What the gates that need no state say, gates 8 and 9 included; a packet that somebody may get passes.
fn verify_as(world: &World, sealed: &Sealed, agency: &str) -> Result<Verified, Refused> {
    let bytes = canonical::encode(&sealed.submission);
    let verified = verify(&bytes, agency, &world.rules, |_| None, world.now_ms)?;
    if let Some(objection) = verified.objection() {
        return Err(objection.clone());
    }
    let somebody = verified.judged().all.iter().any(Result::is_ok);
    if somebody { Ok(verified) } else { Err(verified.refuse_by_policy()) }
}

fn refused(world: &World, sealed: &Sealed) -> Refused {
    verify_as(world, sealed, "TH").unwrap_err()
}

fn flip(bytes: &Bytes) -> Bytes {
    let mut bytes = bytes.to_vec();
    bytes[0] ^= 1;
    Bytes::from(bytes)
}

#[test]
fn a_sound_packet_passes() {
    let world = World::new(NOW);
    let sealed = world.packet("TH", &[unit("KH", "A"), unit("VN", "B")]);
    let verified = verify_as(&world, &sealed, "TH").unwrap();
    assert_eq!(verified.header().digest(), &sealed.digest);
    assert_eq!(verified.submission(), &canonical::encode(&sealed.submission));
    assert_eq!(verified.openings().len(), 2);
}

#[test]
fn bytes_that_are_no_submission_are_malformed_and_name_no_packet() {
    let world = World::new(NOW);
    let sealed = world.packet("TH", &[unit("KH", "A")]);
    let mut bytes = canonical::encode(&sealed.submission).to_vec();
    bytes.extend([0x7a, 0x01, 0x00]);
    let refused = verify(&Bytes::from(bytes), "TH", &world.rules, |_| None, NOW).unwrap_err();
    assert_eq!((refused.reason, refused.packet), (Reason::Malformed, None));
    assert!(refused.answer(&world.speaker(), NOW).evidence.is_none());
    let long = Bytes::from(vec![0; limits::FRAME_BYTES_MAX + 1]);
    assert_eq!(verify(&long, "TH", &world.rules, |_| None, NOW).unwrap_err().reason, Reason::TooLarge);
}

#[test]
fn a_roster_out_of_force_admits_nothing() {
    let mut world = World::new(NOW);
    let sealed = world.packet("TH", &[unit("KH", "A")]);
    world.now_ms = NOW + 200 * DAY;
    assert_eq!(refused(&world, &sealed).reason, Reason::StaleDirectory);
}

#[test]
fn a_signature_must_fit_and_its_key_be_known() {
    let world = World::new(NOW);
    let mut sealed = world.packet("TH", &[unit("KH", "A")]);
    sealed.submission.signature = flip(&sealed.submission.signature);
    assert_eq!(refused(&world, &sealed).reason, Reason::BadSignature);
    let stranger = World::new(NOW).packet("TH", &[unit("KH", "A")]);
    assert_eq!(refused(&world, &stranger).reason, Reason::UnknownSender, "another region's TH");
}

#[test]
fn a_session_submits_its_own_agencys_packets_only() {
    let world = World::new(NOW);
    let sealed = world.packet("TH", &[unit("KH", "A")]);
    let refused = verify_as(&world, &sealed, "KH").unwrap_err();
    assert_eq!(refused.reason, Reason::UnknownSender);
    assert!(!refused.text.contains("TH"), "says nothing about the packet: {}", refused.text);
}

#[test]
fn region_and_directory_must_be_the_brokers() {
    let world = World::new(NOW);
    let to = [unit("KH", "A")];
    let region = world.packet_with("TH", &to, |core| core.region = "elsewhere".to_owned());
    assert_eq!(refused(&world, &region).reason, Reason::WrongRegion);
    let directory = world.packet_with("TH", &to, |core| core.directory_hash = [9; 32]);
    assert_eq!(refused(&world, &directory).reason, Reason::StaleDirectory);
}

#[test]
fn every_part_must_be_the_one_that_was_signed() {
    let world = World::new(NOW);
    let sealed = || world.packet("TH", &[unit("KH", "A"), unit("VN", "A")]);
    let mut missing = sealed();
    missing.submission.wraps.pop();
    let mut wrap = sealed();
    wrap.submission.wraps[0] = flip(&wrap.submission.wraps[0]);
    let mut swapped = sealed();
    swapped.submission.openings.swap(0, 1);
    let mut body = sealed();
    body.submission.body = flip(&body.submission.body);
    for sealed in [missing, wrap, swapped, body] {
        let refused = refused(&world, &sealed);
        assert_eq!((refused.reason, refused.packet.is_some()), (Reason::Malformed, true), "{}", refused.text);
    }
}

#[test]
fn recipients_must_be_active_and_their_keys_current() {
    let mut world = World::new(NOW);
    let key = world.decryption(&unit("KH", "A")).public().clone();
    let stranger = Recipient { unit: unit("XX", "A"), key, previous: [0; 32], named: true };
    let sealed = world.seal("TH", vec![stranger], |_| {});
    assert_eq!(refused(&world, &sealed).reason, Reason::UnknownRecipient);

    let other = DecryptionKey::from_seed(&zeroize::Zeroizing::new([5; 32])).unwrap().public().clone();
    let rotated = Recipient { unit: unit("KH", "A"), key: other, previous: [0; 32], named: true };
    let sealed = world.seal("TH", vec![rotated], |_| {});
    assert_eq!(refused(&world, &sealed).reason, Reason::Reseal);

    world.roster.members[0].status = MemberStatus::Suspended as i32;
    world.publish();
    let sealed = world.packet("TH", &[unit("VN", "A"), unit("KH", "A")]);
    let refused = refused(&world, &sealed);
    assert_eq!(refused.reason, Reason::UnknownRecipient);
    assert!(refused.text.contains("KH") && !refused.text.contains("VN"), "{}", refused.text);
}

#[test]
fn gates_stand_in_their_order() {
    let world = World::new(NOW);
    let key = world.decryption(&unit("KH", "A")).public().clone();
    let stranger =
        || vec![Recipient { unit: unit("XX", "A"), key: key.clone(), previous: [0; 32], named: true }];
    // Wrong in everything; each repair brings the next gate to light.
    let wrong = |region: &str, hash: Digest| {
        let mut sealed = world.seal("TH", stranger(), |core| {
            (core.region, core.directory_hash) = (region.to_owned(), hash);
        });
        sealed.submission.body = flip(&sealed.submission.body);
        sealed
    };
    let here = *world.directory.hash();
    let mut unsigned = wrong("elsewhere", [9; 32]);
    unsigned.submission.signature = flip(&unsigned.submission.signature);
    let reason = |sealed: &Sealed, agency: &str| verify_as(&world, sealed, agency).unwrap_err().reason;
    assert_eq!(reason(&unsigned, "KH"), Reason::BadSignature);
    assert_eq!(reason(&wrong("elsewhere", [9; 32]), "KH"), Reason::UnknownSender);
    assert_eq!(reason(&wrong("elsewhere", [9; 32]), "TH"), Reason::WrongRegion);
    assert_eq!(reason(&wrong("mekong", [9; 32]), "TH"), Reason::StaleDirectory);
    assert_eq!(reason(&wrong("mekong", here), "TH"), Reason::Malformed);
    let noforn = |core: &mut Core| core.label.caveats.push(Caveat::Noforn as i32);
    assert_eq!(reason(&world.seal("TH", stranger(), noforn), "TH"), Reason::UnknownRecipient);
    assert_eq!(reason(&world.packet_with("TH", &[unit("KH", "A")], noforn), "TH"), Reason::Policy);
}

#[test]
fn a_refusal_carries_evidence_that_verifies() {
    let world = World::new(NOW);
    let sealed = world.packet_with("TH", &[unit("KH", "A")], |core| core.region = "elsewhere".to_owned());
    let refusal = refused(&world, &sealed).answer(&world.speaker(), NOW);
    let evidence =
        verify_evidence(refusal.evidence.as_ref().unwrap(), |_, id| world.directory.receipt_key(id)).unwrap();
    assert_eq!((evidence.stage, evidence.outcome), (Stage::Submission, Outcome::Rejection));
    assert_eq!((evidence.reason, evidence.header_digest), (Reason::WrongRegion, sealed.digest));
    assert_eq!(evidence.text, refusal.text);
}

fn rel_to(agencies: &'static [&str]) -> impl Fn(&mut Core) {
    move |core: &mut Core| {
        core.label.caveats.push(Caveat::RelTo as i32);
        core.label.rel_to = agencies.iter().map(|&agency| agency.to_owned()).collect();
    }
}

/// Ids of the policies that deny, by recipient.
fn denials(verified: &Verified) -> Vec<(String, String)> {
    let one =
        |denied: &super::super::judge::Denied| (denied.recipient.unit.clone(), denied.told.policy_id.clone());
    verified.judged().denied().map(one).collect()
}

#[test]
fn a_packet_that_nobody_may_get_is_refused_and_the_evidence_names_the_policy() {
    let world = World::new(NOW);
    let to = [unit("KH", "A"), unit("VN", "A")];
    let sealed = world.packet_with("TH", &to, rel_to(&["LA"]));
    let refused = refused(&world, &sealed);
    assert_eq!((refused.reason, refused.policy_id.as_str()), (Reason::Policy, "baseline/rel-to"));
    assert!(refused.text.starts_with("The regional baseline does not release it to KH"), "{}", refused.text);
    assert!(refused.text.contains("VN / VN-A"), "each recipient is named: {}", refused.text);
    let refusal = refused.answer(&world.speaker(), NOW);
    assert!(!refusal.retry);
    let evidence =
        verify_evidence(refusal.evidence.as_ref().unwrap(), |_, id| world.directory.receipt_key(id)).unwrap();
    assert_eq!((evidence.policy_id.as_str(), evidence.reason), ("baseline/rel-to", Reason::Policy));
    assert_eq!(evidence.header_digest, sealed.digest);
}

#[test]
fn each_recipient_is_judged_for_itself() {
    let mut world = World::new(NOW);
    let to = [unit("KH", "A"), unit("VN", "A")];
    let listed = verify_as(&world, &world.packet_with("TH", &to, rel_to(&["KH"])), "TH").unwrap();
    assert_eq!(denials(&listed), [("VN-A".to_owned(), "baseline/rel-to".to_owned())]);
    let both = verify_as(&world, &world.packet_with("TH", &to, rel_to(&["KH", "VN"])), "TH").unwrap();
    assert!(denials(&both).is_empty());
    let noforn = |core: &mut Core| core.label.caveats.push(Caveat::Noforn as i32);
    let abroad = world.packet_with("TH", &[unit("TH", "B"), unit("KH", "A")], noforn);
    let verified = verify_as(&world, &abroad, "TH").unwrap();
    assert_eq!(denials(&verified), [("KH-A".to_owned(), "baseline/noforn".to_owned())]);
    world.roster.members[0].country = "TH".to_owned();
    world.publish();
    let inland = world.packet_with("TH", &[unit("KH", "A")], noforn);
    assert!(verify_as(&world, &inland, "TH").is_ok(), "two agencies of one country");
}

#[test]
fn without_a_bundle_nothing_is_released_and_nothing_accepted() {
    let mut world = World::new(NOW);
    world.without_policy("KH");
    let refused_by = |from: &str, to: &str| {
        let sealed = world.packet(from, &[unit(to, "A")]);
        verify_as(&world, &sealed, from).map_err(|refused| refused.policy_id).err()
    };
    assert_eq!(refused_by("KH", "TH").as_deref(), Some("KH/nothing-releases"));
    assert_eq!(refused_by("TH", "KH").as_deref(), Some("KH/not-accepted"));
    assert_eq!(refused_by("TH", "VN"), None);
}

#[test]
fn the_originator_reads_of_anothers_policy_what_that_policy_lets_others_know() {
    let mut world = World::new(NOW);
    let secret = r#"@id("accept") @reason("x") permit (principal, action == Lintas::Action::"Accept", resource);
        @id("sources") @reason("our own secret reason")
        forbid (principal, action == Lintas::Action::"Accept", resource);"#;
    world.set_policy("KH", secret);
    let refused = refused(&world, &world.packet("TH", &[unit("KH", "A")]));
    assert_eq!(refused.policy_id, "KH/not-accepted");
    assert!(!refused.text.contains("secret") && !refused.text.contains("sources"), "{}", refused.text);
    let denied = &refused.concerns.as_ref().unwrap().denials[0];
    let own = denied.own.as_ref().unwrap();
    assert!(own.policy_id == "KH/sources" && own.text.contains("our own secret reason"), "{}", own.text);
}

#[test]
fn what_a_person_must_review_is_denied_until_the_signed_core_says_so() {
    let world = World::new(NOW);
    let h3 = |reviewed| {
        world.packet_with("TH", &[unit("KH", "A")], |core| {
            core.label.handling = vec![lintas_proto::schema::HandlingCode::H3 as i32];
            core.reviewed = reviewed;
        })
    };
    let refused = refused(&world, &h3(false));
    assert_eq!(refused.policy_id, "baseline/review-h3");
    assert!(refused.text.contains("a person of TH must review it first"), "{}", refused.text);
    assert!(verify_as(&world, &h3(true), "TH").is_ok());
}

#[test]
fn a_label_that_the_log_has_no_room_for_is_refused() {
    let world = World::new(NOW);
    let long = |agencies: usize| {
        world.packet_with("TH", &[unit("KH", "A")], |core| {
            core.label.caveats.push(Caveat::RelTo as i32);
            core.label.rel_to = (0..agencies).map(|n| format!("KH{n:0>28}")).collect();
        })
    };
    let refused = refused(&world, &long(40));
    assert_eq!(refused.reason, Reason::TooLarge);
    assert!(refused.text.contains("name fewer agencies in REL_TO"), "{}", refused.text);
    assert_eq!(self::refused(&world, &long(20)).reason, Reason::Policy, "KH is none of them");
}

/// Forbids from that moment on.
fn until(moment: &str) -> String {
    format!(
        "{}\n@id(\"over\") @reason(\"the operation is over\")
        forbid (principal, action == Lintas::Action::\"Release\", resource)
        when {{ context.now >= datetime(\"{moment}\") }};",
        crate::testing::OPEN
    )
}

#[test]
fn a_judgement_holds_for_its_rules_and_until_the_next_moment_that_a_policy_names() {
    let mut world = World::new(NOW);
    // Five seconds after the test's now.
    world.set_policy("TH", &until("2026-01-15T08:00:05Z"));
    let sealed = world.packet("TH", &[unit("KH", "A")]);
    let verified = verify_as(&world, &sealed, "TH").unwrap();
    let denied = |world: &World, verified: &Verified, now_ms| {
        let verified = verified.clone().under(&world.rules, now_ms);
        denials(&verified).into_iter().map(|(_, policy)| policy).next()
    };
    assert_eq!(denied(&world, &verified, NOW + 4_999), None);
    assert_eq!(denied(&world, &verified, NOW + 5_000).as_deref(), Some("TH/over"), "its turn came too late");
    let late = verified.clone().under(&world.rules, NOW + 5_000);
    assert_eq!(denied(&world, &late, NOW), None, "a clock that was set back");
    // Another bundle, and the same directory.
    world.set_policy("KH", "");
    let verified = verified.under(&world.rules, NOW);
    assert_eq!(denials(&verified), [("KH-A".to_owned(), "KH/not-accepted".to_owned())]);
}

#[test]
fn sentences_are_cut_at_a_character() {
    let long = "ก".repeat(limits::SENTENCE_BYTES_MAX);
    let cut = sentence(&long);
    assert!(cut.len() <= limits::SENTENCE_BYTES_MAX && cut.len() > limits::SENTENCE_BYTES_MAX - 3);
    assert_eq!(sentence("short"), "short");
}

#[test]
fn a_packet_sealed_under_an_earlier_directory_is_taken_if_its_keys_are_still_valid() {
    let mut world = World::new(NOW);
    let sealed = world.packet("TH", &[unit("KH", "A")]);
    let before = *world.directory.hash();
    world.publish_next();
    assert_ne!(world.directory.hash(), &before);
    let bytes = canonical::encode(&sealed.submission);
    let stale = verify(&bytes, "TH", &world.rules, |_| None, NOW).unwrap_err();
    assert_eq!(stale.reason, Reason::StaleDirectory);
    assert!(verify(&bytes, "TH", &world.rules, |hash| (*hash == before).then_some(1), NOW).is_ok());
}

#[test]
fn nobody_names_versions_that_do_not_exist() {
    let mut world = World::new(NOW);
    let before = *world.directory.hash();
    let old = world.packet("TH", &[unit("KH", "A")]);
    world.publish_next();
    let refused = |sealed: &Sealed| {
        let bytes = canonical::encode(&sealed.submission);
        let earlier = |hash: &Digest| (*hash == before).then_some(1);
        verify(&bytes, "TH", &world.rules, earlier, NOW).err().map(|refused| (refused.reason, refused.text))
    };
    assert_eq!(refused(&old), None);
    assert_eq!(refused(&world.packet("TH", &[unit("KH", "A")])), None);
    type Claim = (&'static str, Reason, fn(&mut Core));
    let claims: [Claim; 5] = [
        ("says roster version 3", Reason::Malformed, |core| core.roster_version = 3),
        ("says roster version 1", Reason::Malformed, |core| core.roster_version = 1),
        ("says keyset version 2", Reason::Malformed, |core| core.keyset_version = 2),
        ("the broker has 2", Reason::StaleDirectory, |core| {
            (core.roster_version, core.directory_hash) = (3, [9; 32]);
        }),
        ("does not know", Reason::StaleDirectory, |core| core.directory_hash = [9; 32]),
    ];
    for (says, reason, claim) in claims {
        let sealed = world.packet_with("TH", &[unit("KH", "A")], claim);
        let (have, text) = refused(&sealed).unwrap();
        assert_eq!(have, reason, "{text}");
        assert!(text.contains(says), "{text}");
    }
    let late = world.packet_with("TH", &[unit("KH", "A")], |core| core.directory_hash = before);
    assert_eq!(refused(&late).unwrap().0, Reason::Malformed, "an earlier directory under a later version");
}
