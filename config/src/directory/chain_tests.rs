use bytes::Bytes;
use lintas_proto::{
    canonical,
    envelope::verify::PacketKeys as _,
    schema::{BrokerKeys, MemberStatus, UnitRef},
    sign::{KeyRole, SigningKey},
};

use super::*;
use crate::{
    issue::{bundle, delegate, hand_over, seed, sign_keyset, sign_revocation, sign_roster},
    os_entropy,
    testing::{NOW, Region, key, public, region},
};

fn agency_error(what: Layer, problem: StampError) -> SuccessionError {
    SuccessionError::Agency { agency: "TH".to_owned(), what, problem }
}

fn signed(region: &Region) -> Bytes {
    canonical::encode(&region.sign())
}

#[test]
fn rosters_are_walked_one_by_one() {
    let mut region = region();
    let first = region.open().unwrap();
    let mut steps = vec![];
    for _ in 0..3 {
        region.next_version();
        steps.push(signed(&region));
    }
    region.next_version();
    let whole = region.bundle();
    let fifth = first.succeed(&whole, &steps).unwrap();
    assert_eq!((fifth.roster().version, fifth.high_water().roster_version()), (5, 5));
    let gap = first.succeed(&whole, &steps[1..]).unwrap_err();
    assert_eq!(gap, SuccessionError::StepMissing { have: 3, need: 2 });
    let gap = first.succeed(&whole, &steps[..2]).unwrap_err();
    assert_eq!(gap, SuccessionError::StepMissing { have: 5, need: 4 });
    assert_eq!(fifth.succeed(&whole, &[]).unwrap().hash(), fifth.hash(), "the same again");
}

#[test]
fn a_roster_is_never_rolled_back_forked_or_doubled() {
    let mut region = region();
    let old = region.bundle();
    let first = region.open().unwrap();
    region.next_version();
    let second = first.succeed(&region.bundle(), &[]).unwrap();
    let rolled = second.succeed(&old, &[]).unwrap_err();
    assert_eq!(rolled, SuccessionError::RosterRolledBack { have: 1, seen: 2 });

    region.roster.epoch_ms += 1;
    let doubled = second.succeed(&region.bundle(), &[]).unwrap_err();
    assert_eq!(doubled, SuccessionError::RosterEquivocation { version: 2 });
    let forged = bundle(&sign_roster(&region.roster, &region.authorities[..1]).unwrap(), vec![]);
    let accused = second.succeed(&forged, &[]).unwrap_err();
    let few = DirectoryError::TooFewSignatures { have: 1, need: 2 };
    assert_eq!(accused, few.into(), "who only forges makes nobody guilty");

    region.next_version();
    let forked = second.succeed(&region.bundle(), &[]).unwrap_err();
    assert_eq!(forked, SuccessionError::RosterFork { version: 3 });
}

#[test]
fn new_authorities_need_the_old_ones_and_themselves() {
    let mut region = region();
    let first = region.open().unwrap();
    let old = region.bootstrap();
    let fresh: Vec<SigningKey> = (0..3).map(|_| key(KeyRole::Authority)).collect();
    region.next_version();
    region.roster.authority_keys = fresh.iter().map(public).collect();
    let old_keys = std::mem::replace(&mut region.authorities, fresh);
    let by_old = sign_roster(&region.roster, &old_keys[..2]).unwrap().signatures;
    let by_new = region.sign().signatures;
    let by = |old: usize, new: usize| {
        let mut signed = region.sign();
        signed.signatures = [&by_old[..old], &by_new[..new]].concat();
        signed.signatures.sort_by(|a, b| a.key_id.cmp(&b.key_id));
        first.succeed(&bundle(&signed, region.keysets.clone()), &[])
    };
    let few = |have| SuccessionError::from(DirectoryError::TooFewSignatures { have, need: 2 });
    assert_eq!(by(2, 0).unwrap_err(), few(0), "the new ones have not agreed");
    assert_eq!(by(0, 2).unwrap_err(), few(0), "nor have the old ones");
    assert_eq!(by(2, 1).unwrap_err(), few(1));
    let second = by(2, 2).unwrap();
    assert!(Directory::open(second.bytes(), &old).is_ok(), "the old bootstrap leads to it");

    region.next_version();
    let third = second.succeed(&region.bundle(), &[]).unwrap();
    assert!(Directory::open(third.bytes(), &old).is_err(), "but not beyond it");
    let bundled: DirectoryBundle = canonical::decode(second.bytes(), limits::DIRECTORY_BYTES_MAX).unwrap();
    let along = Directory::open_along(third.bytes(), &[bundled.roster], &old).unwrap();
    assert_eq!(along.high_water(), third.high_water(), "unless the roster between leads there");
}

#[test]
fn keysets_follow_by_version_and_name_their_predecessor() {
    let mut region = region();
    let first = region.open().unwrap();
    let old = region.bundle();
    region.rotate(1, 1);
    let second = first.succeed(&region.bundle(), &[]).unwrap();
    assert_eq!(second.keyset_version("TH"), Some(2));
    let rolled = agency_error(Layer::Keyset, StampError::RolledBack { have: 1, seen: 2 });
    assert_eq!(second.succeed(&old, &[]).unwrap_err(), rolled);

    let good = region.keysets[1].clone();
    let zeros = Bytes::from_static(&[0; 32]);
    region.keysets[1] = sign_keyset(&region.secrets[1], 2, zeros.clone(), NOW).unwrap();
    let doubled = agency_error(Layer::Keyset, StampError::Equivocation { version: 2 });
    assert_eq!(second.succeed(&region.bundle(), &[]).unwrap_err(), doubled);
    region.keysets[1] = sign_keyset(&region.secrets[1], 3, zeros.clone(), NOW).unwrap();
    let forked = agency_error(Layer::Keyset, StampError::Fork { version: 3 });
    assert_eq!(second.succeed(&region.bundle(), &[]).unwrap_err(), forked);
    region.keysets[1] = sign_keyset(&region.secrets[1], 4, zeros, NOW).unwrap();
    assert!(second.succeed(&region.bundle(), &[]).is_ok(), "what was skipped is not compared");

    let without = bundle(&region.sign(), vec![region.keysets[0].clone()]);
    let missing = agency_error(Layer::Keyset, StampError::Missing { seen: 2 });
    assert_eq!(second.succeed(&without, &[]).unwrap_err(), missing);
    region.keysets[1] = good;
    assert_eq!(second.succeed(&region.bundle(), &[]).unwrap().hash(), second.hash());
}

#[test]
fn a_replaced_delegate_signs_no_more() {
    let mut region = region();
    let first = region.open().unwrap();
    let stolen = region.secrets[1].clone();
    let prev = |directory: &Directory| Bytes::copy_from_slice(directory.keyset_hash("TH").unwrap());
    delegate(&mut region.secrets[1], &region.identities[1], 2, NOW, &mut os_entropy()).unwrap();
    region.keysets[1] = sign_keyset(&region.secrets[1], 2, prev(&first), NOW).unwrap();
    let second = first.succeed(&region.bundle(), &[]).unwrap();
    region.keysets[1] = sign_keyset(&stolen, 3, prev(&second), NOW).unwrap();
    let rolled = agency_error(Layer::Delegation, StampError::RolledBack { have: 1, seen: 2 });
    assert_eq!(second.succeed(&region.bundle(), &[]).unwrap_err(), rolled);
}

#[test]
fn a_revocation_on_paper_follows_any_keyset_and_nothing_follows_it() {
    let mut region = region();
    let paper = sign_revocation(&region.secrets[1], NOW).unwrap();
    region.rotate(1, 1);
    let directory = region.open().unwrap().with_keyset(&paper).unwrap();
    assert_eq!(directory.keyset_version("TH"), Some(u64::MAX));
    assert!(directory.at(NOW).encryption_key(&unit("TH", "TH-A")).is_none());
    assert!(directory.with_keyset(&region.keysets[1]).is_err());
    assert!(directory.at(NOW).encryption_key(&unit("KH", "KH-A")).is_some());
}

#[test]
fn a_keyset_with_another_agencys_key_harms_only_itself() {
    let region = region();
    let directory = region.open().unwrap();
    let mut thief = region.secrets[0].clone();
    thief.transport_seed = region.secrets[1].transport_seed.clone();
    let prev = Bytes::copy_from_slice(directory.keyset_hash("KH").unwrap());
    let keyset = sign_keyset(&thief, 2, prev, NOW).unwrap();
    let refused = directory.with_keyset(&keyset).unwrap_err();
    assert!(matches!(refused, SuccessionError::Directory(DirectoryError::KeyTwice(_))), "{refused}");
}

fn unit(agency: &str, unit: &str) -> UnitRef {
    UnitRef { agency: agency.to_owned(), unit: unit.to_owned() }
}

/// Gives TH a new identity in the next roster; with its old key's word if `vouched`.
fn new_identity(region: &mut Region, vouched: bool) {
    let fresh = key(KeyRole::Identity);
    region.next_version();
    let word = hand_over("example", "TH", &region.identities[1], &fresh.public_key());
    region.roster.members[1].handover = if vouched { word } else { Bytes::new() };
    region.roster.members[1].identity_key = public(&fresh);
    delegate(&mut region.secrets[1], &fresh, 1, NOW, &mut os_entropy()).unwrap();
    region.keysets[1] = sign_keyset(&region.secrets[1], 1, Bytes::new(), NOW).unwrap();
    region.identities[1] = fresh;
}

#[test]
fn an_identity_handed_over_by_its_old_key_is_believed() {
    let mut region = region();
    region.rotate(1, 7);
    let first = region.open().unwrap();
    new_identity(&mut region, true);
    let second = first.succeed(&region.bundle(), &[]).unwrap();
    assert!(second.held().is_empty());
    assert_eq!(second.keyset_version("TH"), Some(1), "the count begins anew");
    region.next_version();
    assert!(second.succeed(&region.bundle(), &[]).unwrap().held().is_empty());
}

#[test]
fn an_identity_that_nobody_vouches_for_is_held_until_an_officer_confirms_it() {
    let mut region = region();
    let first = region.open().unwrap();
    new_identity(&mut region, false);
    let second = first.succeed(&region.bundle(), &[]).unwrap();
    assert_eq!(second.held()[0].agency, "TH");
    assert!(second.held()[0].to_string().contains("by another way"));
    // Whoever comes anew has believed no other key.
    let (bootstrap, rosters) =
        (region.bootstrap(), [&first, &second].map(|known| known.signed_roster().unwrap()).to_vec());
    let update = second.answer(&Directory::first_question(&bootstrap), rosters).unwrap();
    assert!(Directory::take_first(&update, &bootstrap).unwrap().held().is_empty());
    let packet = SigningKey::from_seed(KeyRole::Packet, &seed("p", &region.secrets[1].packet_seed).unwrap());
    let packet = *packet.unwrap().id();
    let believed = |directory: &Directory| {
        let at = directory.at(NOW);
        let found = at.packet_key(&unit("TH", "TH-A"), &packet).is_some();
        assert_eq!(found, at.encryption_key(&unit("TH", "TH-A")).is_some());
        assert!(at.encryption_key(&unit("KH", "KH-A")).is_some(), "others are unaffected");
        found
    };
    assert!(!believed(&second));
    region.next_version();
    let third = second.succeed(&region.bundle(), &[]).unwrap();
    assert!(!believed(&third), "time does not make it true");
    let mark = HighWater::decode(&third.high_water().encode()).unwrap();
    assert!(!believed(&Directory::resume(third.bytes(), &[], &mark).unwrap()), "nor does a restart");
    assert!(third.confirm("TH", &[7; 32]).is_err());
    assert!(third.confirm("KH", &region.identities[0].public_key()).is_err(), "nothing to confirm");
    let confirmed = third.confirm("TH", &region.identities[1].public_key()).unwrap();
    assert!(believed(&confirmed) && confirmed.held().is_empty());
    assert_eq!(confirmed.hash(), third.hash(), "it is the same directory");
}

#[test]
fn a_revoked_member_stays_named_does_not_return_and_vouches_for_nobody() {
    let mut region = region();
    let first = region.open().unwrap();
    region.next_version();
    region.roster.members[1].status = MemberStatus::Revoked as i32;
    let keysets = std::mem::take(&mut region.keysets);
    region.keysets = vec![keysets[0].clone()];
    let second = first.succeed(&region.bundle(), &[]).unwrap();
    region.keysets = keysets;
    region.next_version();
    region.roster.members[1].status = MemberStatus::Active as i32;
    let returned = second.succeed(&region.bundle(), &[]).unwrap_err();
    assert_eq!(returned, SuccessionError::MemberReturned { agency: "TH".to_owned() });
    region.roster.version -= 1;
    region.roster.prev_hash = Bytes::copy_from_slice(first.roster_hash());
    region.roster.members[1].status = MemberStatus::Revoked as i32;
    new_identity(&mut region, true);
    region.roster.members[1].status = MemberStatus::Active as i32;
    assert_eq!(second.succeed(&region.bundle(), &[]).unwrap().held().len(), 1);
    let gone = region.roster.members.pop().unwrap().agency;
    region.keysets.pop();
    assert_eq!(
        second.succeed(&region.bundle(), &[]).unwrap_err(),
        SuccessionError::MemberGone { agency: gone }
    );
}

#[test]
fn a_mark_reads_back_refuses_damage_and_a_rollback_after_restart() {
    let mut region = region();
    let old = region.bundle();
    let first = region.open().unwrap();
    region.next_version();
    region.rotate(0, 1);
    let second = first.succeed(&region.bundle(), &[]).unwrap();
    let bytes = second.high_water().encode();
    let mark = HighWater::decode(&bytes).unwrap();
    assert_eq!(&mark, second.high_water());
    assert_eq!(Directory::resume(second.bytes(), &[], &mark).unwrap().hash(), second.hash());
    let rolled = Directory::resume(&old, &[], &mark).unwrap_err();
    assert_eq!(rolled, SuccessionError::RosterRolledBack { have: 1, seen: 2 });
    let newer = Directory::resume(second.bytes(), &[], first.high_water()).unwrap();
    assert_eq!(newer.hash(), second.hash(), "the power failed before the mark was kept");
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert!(HighWater::decode(&damaged).is_err(), "byte {at}");
        assert!(HighWater::decode(&bytes[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn what_was_said_of_a_log_stays_said_and_one_key_signs_one_log() {
    let mut region = region();
    let ended = |size: u64| EndedLog { size, root: Bytes::from(vec![7; 32]) };
    let first = region.open().unwrap();
    let fresh = key(KeyRole::Log);
    let broker = "hub.example".to_owned();
    // Another key for a log that goes on.
    region.next_version();
    region.roster.brokers[0].log_key = public(&fresh);
    let two_keys = first.succeed(&region.bundle(), &[]).unwrap_err();
    assert_eq!(two_keys, SuccessionError::LogKey { broker: broker.clone() });
    assert!(first.proposed(&region.bundle()).is_err());
    // With an end of that log, the next one may have it.
    region.roster.brokers[0].ended_logs = vec![ended(9)];
    let second = first.succeed(&region.bundle(), &[]).unwrap();
    assert_eq!(second.brokers()[0].root_origin(), "hub.example.log2/audit");
    region.next_version();
    for changed in [vec![], vec![ended(8)], vec![ended(10), ended(9)]] {
        region.roster.brokers[0].ended_logs = changed;
        let mark = HighWater::decode(&second.high_water().encode()).unwrap();
        let after_restart = Directory::resume(&region.bundle(), &[], &mark).unwrap_err();
        assert_eq!(second.succeed(&region.bundle(), &[]).unwrap_err(), after_restart);
        assert_eq!(after_restart, SuccessionError::LogReturned { broker: broker.clone() });
    }
    // A broker that goes and comes back has not forgotten either.
    region.roster.brokers[0].ended_logs = vec![ended(9)];
    let back = region.roster.brokers[0].clone();
    region.roster.brokers[0] = crate::issue::new_broker("other", &mut os_entropy()).unwrap().1;
    let third = second.succeed(&region.bundle(), &[]).unwrap();
    let step = signed(&region);
    region.next_version();
    region.roster.brokers = vec![BrokerKeys { ended_logs: vec![], ..back.clone() }];
    let again = third.succeed(&region.bundle(), &[]).unwrap_err();
    assert_eq!(again, SuccessionError::LogReturned { broker });
    region.roster.brokers = vec![BrokerKeys { ended_logs: vec![ended(9), ended(2)], ..back }];
    let fourth = second.succeed(&region.bundle(), &[step]).unwrap();
    assert_eq!(fourth.brokers()[0].root_origin(), "hub.example.log3/audit");
    assert_eq!(HighWater::decode(&fourth.high_water().encode()).unwrap(), *fourth.high_water());
}
