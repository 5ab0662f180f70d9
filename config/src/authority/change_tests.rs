use bytes::Bytes;
use lintas_proto::{
    schema::{JoinRequest, MemberStatus},
    sign::{KeyRole, SigningKey, VerifyingKey},
};

use super::*;
use crate::{
    Directory,
    issue::{hand_over, new_agency, new_broker, new_broker_with_log, seed},
    os_entropy,
    testing::{NOW, Region, key, member, public, region},
};

fn verifying(key: &SigningKey) -> VerifyingKey {
    VerifyingKey::parse(&public(key)).unwrap()
}

/// A request of that agency with fresh keys, and its identity key.
fn request(agency: &str) -> (JoinRequest, SigningKey) {
    let (seed, _, request) = new_agency("example", member(agency), NOW, &mut os_entropy()).unwrap();
    (request, SigningKey::from_seed(KeyRole::Identity, &seed).unwrap())
}

/// The review of a change, and the directory that it makes when two authorities sign it.
fn made(region: &Region, from: &Directory, changes: &Changes) -> (Review, Directory) {
    let mut proposal = change(from, None, changes, NOW).unwrap();
    region.authorities[..2].iter().for_each(|key| proposal.sign(key));
    let review = review(&proposal, Some(from), &[]).unwrap();
    assert!(review.complete);
    (review, from.succeed(&proposal.to_bytes(), &[]).unwrap())
}

fn says(review: &Review, kind: &str) -> String {
    let texts = review.changes.iter().filter(|change| change.kind == kind).map(|change| change.text.as_str());
    texts.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_new_identity_is_handed_over_by_its_old_key_or_named_as_not() {
    let region = region();
    let first = region.open().unwrap();
    let (request, fresh) = request("TH");
    let handover = hand_over("example", "TH", &region.identities[1], &fresh.public_key());
    let lost = Changes { identity: vec![request.clone()], ..Changes::default() };
    let (review, next) = made(&region, &first, &lost);
    assert!(says(&review, "identity").contains("NOBODY VOUCHES FOR IT"), "{review:?}");
    assert_eq!(next.held()[0].agency, "TH");
    assert!(next.held()[0].to_string().contains(&crate::words::fingerprint_words(&fresh.public_key())));

    let kept = Changes { handovers: vec![handover.clone()], ..lost.clone() };
    let (review, next) = made(&region, &first, &kept);
    assert!(says(&review, "identity").contains("the old key vouches for it"), "{review:?}");
    assert!(next.held().is_empty() && next.keyset_version("TH") == Some(1));

    let false_one = Changes { handovers: vec![Bytes::from(vec![7; 64])], ..lost };
    assert_eq!(change(&first, None, &false_one, NOW).unwrap_err(), ChangeError::Handover);
    let nobody = Changes { handovers: vec![handover], ..Changes::default() };
    assert_eq!(change(&first, None, &nobody, NOW).unwrap_err(), ChangeError::Handover);
    let mut of_another = kept;
    of_another.identity[0].keyset = Some(region.keysets[1].clone());
    let refused = change(&first, None, &of_another, NOW).unwrap_err();
    assert!(matches!(refused, ChangeError::Directory(_)), "{refused}");
    let mut same = Changes { identity: vec![request], ..Changes::default() };
    same.identity[0].member.as_mut().unwrap().identity_key = public(&region.identities[1]);
    let same = change(&first, None, &same, NOW).unwrap_err();
    assert_eq!(same, ChangeError::SameIdentity { agency: "TH".to_owned() });
}

#[test]
fn keys_of_brokers_and_offices_are_replaced() {
    let region = region();
    let first = region.open().unwrap();
    let log = seed("log", &region.broker.log_seed).unwrap();
    let (_, broker) = new_broker_with_log("hub.example", &log, &mut os_entropy()).unwrap();
    let fresh = key(KeyRole::Authority);
    let changes = Changes {
        brokers: vec![broker.clone()],
        add_offices: vec![verifying(&fresh)],
        drop_offices: vec![verifying(&region.authorities[2])],
        ..Changes::default()
    };
    let (review, next) = made(&region, &first, &changes);
    assert!(says(&review, "broker_keys").contains("broker has new keys"), "{review:?}");
    let goes = crate::words::fingerprint_words(&region.authorities[2].public_key());
    assert!(says(&review, "authority_goes").contains(&goes));
    assert_eq!(review.needs.len(), 2);
    assert_eq!(next.brokers()[0].transport_key, broker.transport_key.as_ref());

    let refused = |changes: Changes| change(&first, None, &changes, NOW).unwrap_err();
    let stranger = new_broker("other", &mut os_entropy()).unwrap().1;
    let none = Changes::default();
    let broker = refused(Changes { brokers: vec![stranger], ..none.clone() });
    assert_eq!(broker, ChangeError::Broker("other".to_owned()));
    let gone = refused(Changes { drop_offices: vec![verifying(&fresh)], ..none.clone() });
    assert!(gone.to_string().contains("go is none of the region's"));
    let come = refused(Changes { add_offices: vec![verifying(&region.authorities[0])], ..none.clone() });
    assert!(come.to_string().contains("come is one of the region's already"));
    // More than half must sign, always.
    let few = refused(Changes { threshold: Some(1), ..none.clone() });
    assert!(matches!(few, ChangeError::Issue(_) | ChangeError::Directory(_)), "{few}");
    let sources = refused(Changes { update: vec!["TH".to_owned()], ..none.clone() });
    assert!(matches!(sources, ChangeError::Sources { .. }));
    let (suspend, revoke) = (vec!["TH".to_owned()], vec!["TH".to_owned()]);
    let twice = refused(Changes { suspend, revoke, ..none });
    assert_eq!(twice, ChangeError::Twice { agency: "TH".to_owned() });
}

#[test]
fn a_renewal_changes_nothing_but_the_validity() {
    let mut region = region();
    let day = 24 * 60 * 60 * 1_000;
    region.roster.not_after_ms = region.roster.not_before_ms + 30 * day + 5 * 60 * 1_000;
    let first = region.open().unwrap();
    let later = NOW + 20 * day;
    let proposal = change(&first, None, &Changes::default(), later).unwrap();
    let review = review(&proposal, Some(&first), &[]).unwrap();
    assert_eq!((review.changes.len(), review.version, review.compared_with), (0, 2, Some(1)));
    assert_eq!(review.valid_until_ms, later + 30 * day);
    assert_eq!(review.valid_until_before_ms, Some(region.roster.not_after_ms));
    assert!(!review.complete && review.signatures.iter().all(|by| by.before && by.after && !by.signed));
    let longer = Changes { valid_days: Some(60), ..Changes::default() };
    assert_eq!(change(&first, None, &longer, later).unwrap().roster().not_after_ms, later + 60 * day);
}

#[test]
fn a_signature_counts_once_and_a_false_one_is_refused() {
    let region = region();
    let first = region.open().unwrap();
    let suspend = Changes { suspend: vec!["KH".to_owned()], ..Changes::default() };
    let mut one = change(&first, None, &suspend, NOW).unwrap();
    let mut other = one.clone();
    for _ in 0..2 {
        one.sign(&region.authorities[0]);
    }
    one.sign(&key(KeyRole::Authority));
    assert_eq!(one.signatures(), 2);
    let counted = review(&one, Some(&first), &[]).unwrap();
    assert_eq!((counted.needs[0].have, counted.complete), (1, false));
    assert!(first.succeed(&one.to_bytes(), &[]).is_err());
    // Not compared with the one before, nobody can say that it is complete.
    other.sign(&region.authorities[1]);
    one.merge(&other).unwrap();
    assert!(review(&one, Some(&first), &[]).unwrap().complete && !review(&one, None, &[]).unwrap().complete);
    one.keep_signatures_of(&region.bootstrap().authority_keys);
    assert_eq!(one.signatures(), 2);
    let next = first.succeed(&one.to_bytes(), &[]).unwrap();
    assert!(next.member("KH").is_none());
    assert_eq!(next.roster().members[0].status, MemberStatus::Suspended as i32);

    let renewal = change(&first, None, &Changes::default(), NOW).unwrap();
    assert_eq!(one.merge(&renewal).unwrap_err(), MergeError::Roster);
    let bytes = one.to_bytes();
    let signature = key_signature(&bytes, &region.authorities[0]);
    let mut forged = bytes.to_vec();
    forged[signature + 40] ^= 1;
    assert!(Proposal::parse(&Bytes::from(forged)).is_err());
}

/// Where the key id of a signature stands in a file.
fn key_signature(bytes: &[u8], key: &SigningKey) -> usize {
    bytes.windows(32).position(|window| window == key.id()).unwrap()
}

#[test]
fn an_inspection_tells_status_units_and_how_long_keys_last() {
    let region = region();
    let directory = region.open().unwrap();
    let office = Office { name: "First".to_owned(), key: verifying(&region.authorities[0]) };
    let found = inspect(&directory, &[office]).unwrap();
    assert_eq!(found.authorities.iter().filter(|by| by.signed).count(), 2);
    assert_eq!(found.authorities[0].office.name.as_deref(), Some("First"));
    let th = &found.members[1];
    assert_eq!((th.agency.as_str(), th.status, th.units[1].unit.as_str()), ("TH", "active", "TH-B"));
    let keyset = th.keyset.as_ref().unwrap();
    let last = keyset.encryption_keys.iter().map(|key| key.epoch_until_ms).max();
    assert_eq!((keyset.version, th.units[0].keys_until_ms), (1, last));
    assert!(last.unwrap() > NOW);
}
