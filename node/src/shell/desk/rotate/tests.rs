use std::fs;

use lintas_config::issue::{fresh_seed, new_agency, sign_keyset, sign_revocation};
use lintas_proto::{
    frame::FrameType,
    schema::{Member, MemberStatus, Role, RosterUnit, Submission, UnitFunction},
    sign::{KeyRole, SigningKey},
};
use zeroize::Zeroizing;

use super::*;
use crate::shell::desk::How;
use crate::{
    shell::desk::Heard,
    testing::{AMBER, REGION, Region, draft},
};

const DAY_MS: u64 = 86_400_000;

fn post(desk: &Desk) -> Submission {
    desk.send(&draft(&["KH/KH-AHT"], "t", AMBER, "NONE"), &[], &[], None, &How::default(), &mut os_entropy())
        .unwrap();
    canonical::decode(&desk.next_submission().unwrap().unwrap().bytes, limits::FRAME_BYTES_MAX).unwrap()
}

/// What the broker would do with what is unpublished.
fn take_up(region: &Region, desk: &Desk) {
    let signed = canonical::decode(&desk.unpublished_keyset().unwrap(), limits::KEYSET_BYTES_MAX).unwrap();
    let next = desk.directory().with_keyset(&signed).unwrap();
    fs::write(region.path("KH").join("directory.bin"), next.bytes()).unwrap();
    desk.renew(true);
}

#[test]
fn a_packet_opens_after_the_key_that_it_came_under_has_died() {
    let region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    let packet = post(&thailand);
    let payload = canonical::encode(&region.delivery(&packet, 0, 1));
    cambodia.settle(cambodia.judge(vec![Heard { kind: FrameType::Delivery, payload }])).unwrap();
    let now = clock::now_ms();
    let opening = &packet.openings[0];
    assert!(cambodia.keys().decryption_key("KH-AHT", &opening.enc_key_id).is_some());
    // The roster of this test ends before: what it does not confirm destroys nothing.
    cambodia.rotate(now + 200 * DAY_MS).unwrap();
    assert!(cambodia.keys().decryption_key("KH-AHT", &opening.enc_key_id).is_some());
    let published = Published { in_force: true, member: true, surely_ms: u64::MAX, ..Published::default() };
    let destroy = |secrets: &mut NodeSecrets| {
        rotation::rotate(secrets, &published, now + 200 * DAY_MS, &mut os_entropy()).map(Some)
    };
    cambodia.change_secrets(Part::All, destroy).unwrap();
    assert!(cambodia.keys().decryption_key("KH-AHT", &opening.enc_key_id).is_none());
    assert!(cambodia.show(&cambodia.inbox(1).unwrap().packets[0].packet_id).is_ok());
    drop(cambodia);
    let cambodia = region.desk("KH");
    assert!(cambodia.keys().decryption_key("KH-AHT", &opening.enc_key_id).is_none(), "durable");
    assert!(cambodia.show(&cambodia.inbox(1).unwrap().packets[0].packet_id).is_ok());
}

#[test]
fn a_keyset_is_signed_when_it_is_due_kept_and_offered_until_it_is_published() {
    let region = Region::new();
    let cambodia = region.desk("KH");
    let now = clock::now_ms();
    assert_eq!(cambodia.unpublished_keyset(), None);
    cambodia.rotate(now).unwrap();
    assert_eq!(cambodia.unpublished_keyset(), None, "nothing is due");
    let view = cambodia.keys_view().unwrap();
    assert!(view.published && view.published_version == Some(1) && view.units[0].unit == "KH-AHT");
    cambodia.rotate(now + 8 * DAY_MS).unwrap();
    let offered = cambodia.unpublished_keyset().unwrap();
    let view = cambodia.keys_view().unwrap();
    assert_eq!((view.keyset_version, view.published_version, view.published), (Some(2), Some(1), false));
    drop(cambodia);
    let cambodia = region.desk("KH");
    assert_eq!(cambodia.unpublished_keyset(), Some(offered), "durable before it is offered");
    take_up(&region, &cambodia);
    assert_eq!(cambodia.unpublished_keyset(), None);
    assert!(cambodia.keys_view().unwrap().published);
}

#[test]
fn a_unit_that_the_authority_adds_gets_keys_when_the_directory_comes() {
    let mut region = Region::new();
    let cambodia = region.desk("KH");
    let next = region.next(|roster| {
        let mut unit = roster.members[1].units[0].clone();
        unit.unit = "KH-NEW".to_owned();
        roster.members[1].units.push(unit);
    });
    fs::write(region.path("KH").join("directory.bin"), &next).unwrap();
    cambodia.renew(false);
    let view = cambodia.keys_view().unwrap();
    assert_eq!(view.units.iter().map(|unit| unit.unit.as_str()).collect::<Vec<_>>(), ["KH-AHT", "KH-NEW"]);
    assert!(cambodia.unpublished_keyset().is_some());
}

#[test]
fn a_foreign_revocation_is_carried_until_the_directory_has_it() {
    let region = Region::new();
    let cambodia = region.desk("KH");
    let revocation = canonical::encode(&sign_revocation(&region.secrets["TH"], clock::now_ms()).unwrap());
    let (binary, text) = (region.root.path().join("r.bin"), region.root.path().join("r.txt"));
    fs::write(&binary, &revocation).unwrap();
    fs::write(&text, revocation_text("TH", REGION, &revocation)).unwrap();
    for file in [&binary, &text] {
        cambodia.publish_keyset(file).unwrap();
        assert_eq!(cambodia.keysets_to_publish(), std::slice::from_ref(&revocation));
        assert_eq!(cambodia.keys_view().unwrap().to_publish, ["TH"]);
    }
    // A keyset that comes later takes nothing away from it.
    let before = Bytes::copy_from_slice(cambodia.directory().keyset_hash("TH").unwrap());
    let ordinary = sign_keyset(&region.secrets["TH"], 2, before, clock::now_ms()).unwrap();
    fs::write(&text, canonical::encode(&ordinary)).unwrap();
    cambodia.publish_keyset(&text).unwrap();
    assert_eq!(cambodia.keysets_to_publish(), std::slice::from_ref(&revocation));
    // Not this agency's own.
    assert_eq!(cambodia.revoke_keys(Some(&binary), clock::now_ms()).unwrap_err().code, Code::Usage);
    let signed = canonical::decode(&revocation, limits::KEYSET_BYTES_MAX).unwrap();
    let next = cambodia.directory().with_keyset(&signed).unwrap();
    fs::write(region.path("KH").join("directory.bin"), next.bytes()).unwrap();
    cambodia.renew(true);
    assert!(cambodia.keysets_to_publish().is_empty());
    assert_eq!(fs::read_dir(region.path("KH").join("keysets")).unwrap().count(), 0, "forgotten");
    // Whoever writes to it is told why that is in vain.
    let text = draft(&["TH/TH-MAR"], "t", AMBER, "NONE");
    let told =
        cambodia.send(&text, &[], &[], Some("KH-AHT"), &How::default(), &mut os_entropy()).unwrap_err();
    assert!(told.code == Code::Draft && told.message.contains("TH has taken back all its keys"), "{told}");
    // A stranger's, an older one, and no keyset at all.
    let (_, _, stranger) =
        new_agency(REGION, Member { agency: "XX".to_owned(), ..Member::default() }, 1, &mut os_entropy())
            .unwrap();
    fs::write(&binary, canonical::encode(&stranger.keyset.unwrap())).unwrap();
    assert_eq!(cambodia.publish_keyset(&binary).unwrap_err().code, Code::NotSetUp);
    let older = sign_keyset(&region.secrets["TH"], 2, Bytes::from_static(&[1; 32]), clock::now_ms()).unwrap();
    fs::write(&binary, canonical::encode(&older)).unwrap();
    assert_eq!(cambodia.publish_keyset(&binary).unwrap_err().code, Code::NotSetUp);
    fs::write(&binary, "no keyset").unwrap();
    assert_eq!(cambodia.publish_keyset(&binary).unwrap_err().code, Code::NotSetUp);
}

#[test]
fn an_agency_revokes_itself_and_signs_nothing_more() {
    let region = Region::new();
    let cambodia = region.desk("KH");
    cambodia.revoke_keys(None, clock::now_ms()).unwrap();
    let offered = cambodia.unpublished_keyset().unwrap();
    assert!(OwnKeyset::parse(&offered).unwrap().is_revocation());
    cambodia.rotate(clock::now_ms() + 30 * DAY_MS).unwrap();
    assert_eq!(cambodia.unpublished_keyset(), Some(offered));
    assert!(cambodia.status().warnings.iter().any(|warning| warning.contains("revoked")));
    take_up(&region, &cambodia);
    let view = cambodia.keys_view().unwrap();
    assert!(view.revoked && view.published && cambodia.unpublished_keyset().is_none());
}

/// An agency whose identity key the test has.
fn with_identity() -> (Region, SigningKey) {
    let mut region = Region::new();
    let member = Member {
        agency: "KH".to_owned(),
        name: "Police of KH".to_owned(),
        roles: vec![Role::Agency as i32],
        units: vec![RosterUnit {
            unit: "KH-AHT".to_owned(),
            name: "Unit".to_owned(),
            functions: vec![UnitFunction::Spoc as i32],
            clearance: 0,
            purposes: vec![lintas_proto::schema::Purpose::Investigation as i32],
        }],
        status: MemberStatus::Active as i32,
        ..Member::default()
    };
    let seed = region.found_anew(member);
    (region, SigningKey::from_seed(KeyRole::Identity, &seed).unwrap())
}

fn word(desk: &Desk, identity: &SigningKey, version: u64) -> Secret {
    let (region, agency) = (desk.keys().region.clone(), desk.keys().agency.clone());
    let word =
        rotation::word(&region, &agency, version, identity, clock::now_ms(), &mut os_entropy()).unwrap();
    Secret(Zeroizing::new(lintas_proto::id::hex(&canonical::encode(&word))))
}

#[test]
fn the_identity_key_renews_the_node_and_all_keys_change_hands_in_two_steps() {
    let (region, identity) = with_identity();
    let cambodia = region.desk("KH");
    let now = clock::now_ms();
    let stranger = SigningKey::from_seed(KeyRole::Identity, &fresh_seed(&mut os_entropy())).unwrap();
    let refused = cambodia.renew_keys(&word(&cambodia, &stranger, 2), true, now).unwrap_err();
    assert!(refused.message.contains("another identity key"), "{refused}");
    let old = (cambodia.keys().transport_seed.clone(), cambodia.keys().packet.public_key());
    cambodia.renew_keys(&word(&cambodia, &identity, 2), true, now).unwrap();
    assert_eq!(cambodia.keys().transport_seed, old.0, "the region does not know the new one yet");
    assert!(cambodia.keys_view().unwrap().keys_to_come);
    // The new revocation is the one that holds.
    let revocation = read_keyset(&region.path("KH").join("revocation.txt")).unwrap();
    assert!(revocation.is_revocation());
    take_up(&region, &cambodia);
    assert_ne!(cambodia.keys().transport_seed, old.0, "they took over with the directory");
    assert_ne!(cambodia.keys().packet.public_key(), old.1);
    take_up(&region, &cambodia);
    let signed = canonical::decode(&revocation.bytes, limits::KEYSET_BYTES_MAX).unwrap();
    assert!(cambodia.directory().with_keyset(&signed).is_ok());
    drop(cambodia);
    // It still is a member, by its new keys.
    assert_eq!(region.desk("KH").keys_view().unwrap().delegation_version, 2);
}

#[test]
fn the_end_of_the_delegation_is_told_two_months_ahead() {
    let region = Region::new();
    let cambodia = region.desk("KH");
    let end = cambodia.keys().delegated_until_ms;
    assert_eq!(cambodia.warning_of_keys(end - 61 * DAY_MS), None);
    let warning = cambodia.warning_of_keys(end - 59 * DAY_MS).unwrap();
    assert!(warning.contains("lintas keys renew --identity") && warning.contains("ends on 20"), "{warning}");
    assert!(cambodia.warning_of_keys(end).unwrap().contains("ended on"));
}

/// Two machines with the same keys, or an older copy of node.keys that was put back.
#[test]
fn a_keyset_that_this_node_did_not_sign_is_told_and_followed_up_once_a_day() {
    let region = Region::new();
    let cambodia = region.desk("KH");
    let publish = |version, now_ms| {
        let before = Bytes::copy_from_slice(cambodia.directory().keyset_hash("KH").unwrap());
        let strange = sign_keyset(&region.secrets["KH"], version, before, now_ms).unwrap();
        let next = cambodia.directory().with_keyset(&strange).unwrap();
        fs::write(region.path("KH").join("directory.bin"), next.bytes()).unwrap();
        cambodia.renew(true);
        cambodia.keys_view().unwrap().keyset_version.unwrap()
    };
    let now = clock::now_ms();
    assert_eq!(cambodia.status().warnings, [""; 0]);
    assert_eq!(publish(2, now + 1), 3, "followed up");
    let told = |version: u64| {
        let text = format!("keyset {version} of this agency, which this node did not sign");
        cambodia.status().warnings.iter().any(|warning| warning.contains(&text))
    };
    assert!(told(2), "{:?}", cambodia.status().warnings);
    take_up(&region, &cambodia);
    assert_eq!(publish(4, now + 2), 3, "not without end");
    assert!(told(4), "{:?}", cambodia.status().warnings);
    cambodia.rotate(now + 25 * 3_600_000).unwrap();
    assert_eq!(cambodia.keys_view().unwrap().keyset_version, Some(5));
}

#[test]
fn a_clock_that_is_wrong_within_the_time_of_the_roster_destroys_nothing() {
    let region = Region::with(|roster| roster.not_after_ms = roster.not_before_ms + 399 * DAY_MS);
    let cambodia = region.desk("KH");
    let now = clock::now_ms();
    let first = || cambodia.keys().epochs().map(|(_, epoch)| epoch).min();
    let before = first();
    let later = now + 200 * DAY_MS;
    cambodia.rotate(later).unwrap();
    assert_eq!(first(), before, "nobody has agreed on this clock");
    cambodia.compare_clocks(later, now);
    cambodia.rotate(later).unwrap();
    cambodia.compare_clocks(now, now);
    cambodia.rotate(later).unwrap();
    assert_eq!(first(), before, "it was right, and was set since");
    cambodia.compare_clocks(later, later + 1);
    cambodia.rotate(later).unwrap();
    assert!(first() > before);
}
