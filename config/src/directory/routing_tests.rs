//! What no single agency can keep out of a broker: rosters, newcomers, new identities.

use bytes::Bytes;
use lintas_proto::{
    canonical,
    schema::{DirectoryGet, DirectoryUpdate, MemberStatus},
    sign::{KeyRole, SigningKey},
};

use super::*;
use crate::{
    issue::{bundle, delegate, seed, sign_keyset, sign_roster},
    os_entropy,
    testing::{NOW, Region, key, public, region},
};

const TH: usize = 1;

fn previous(directory: &Directory) -> Bytes {
    Bytes::copy_from_slice(directory.keyset_hash("TH").unwrap())
}

/// What the authority publishes: the next roster, with that keyset of TH.
fn published(region: &mut Region, keyset: SignedKeyset, status: MemberStatus) -> Bytes {
    region.next_version();
    region.roster.members[TH].status = status as i32;
    region.keysets[TH] = keyset;
    region.bundle()
}

#[test]
fn no_agency_keeps_out_a_roster_by_signing_two_keysets() {
    let zeros = Bytes::from_static(&[0; 32]);
    for status in [MemberStatus::Active, MemberStatus::Suspended, MemberStatus::Revoked] {
        for further in [false, true] {
            let mut region = region();
            let first = region.open().unwrap();
            let sign = |version, previous| sign_keyset(&region.secrets[TH], version, previous, NOW).unwrap();
            let (brought, other) = (sign(2, previous(&first)), sign(2, zeros.clone()));
            let ahead = first.with_keyset(&brought).unwrap();
            // Version 3 follows the version 2 that the authority was given, not the one that the broker has.
            let third = sign(3, Bytes::copy_from_slice(&sha256(&[&other.keyset])));
            let bytes = published(&mut region, if further { third } else { other }, status);
            let merged = ahead.merge(&bytes, &[]).unwrap();
            assert_eq!((merged.roster().version, merged.keyset_version("TH")), (2, Some(2)));
            assert_eq!(
                merged.keyset_hash("TH"),
                ahead.keyset_hash("TH"),
                "the one that was seen first stays"
            );
        }
    }
}

#[test]
fn a_stolen_key_that_was_replaced_keeps_out_no_roster() {
    let mut region = region();
    let first = region.open().unwrap();
    let stolen = region.secrets[TH].clone();
    delegate(&mut region.secrets[TH], &region.identities[TH], 2, NOW, &mut os_entropy()).unwrap();
    let cured = sign_keyset(&region.secrets[TH], 2, previous(&first), NOW).unwrap();
    let ahead = first.with_keyset(&cured).unwrap();
    // The thief gives the authority, which does not know of the new delegation yet, a higher version.
    let thiefs = sign_keyset(&stolen, 9, Bytes::from_static(&[0; 32]), NOW).unwrap();
    let bytes = published(&mut region, thiefs, MemberStatus::Active);
    let merged = ahead.merge(&bytes, &[]).unwrap();
    assert_eq!((merged.roster().version, merged.keyset_version("TH")), (2, Some(2)));
    // A keyset that nobody signed is no better.
    let mut forged = cured.clone();
    forged.keyset_signature = Bytes::from_static(&[0; 64]);
    let bytes = published(&mut region, forged, MemberStatus::Active);
    assert_eq!(merged.merge(&bytes, &[]).unwrap().roster().version, 3);
}

#[test]
fn who_lists_the_key_of_a_newcomer_is_named_and_can_be_revoked() {
    let mut region = region();
    let first = region.open().unwrap();
    region.next_version();
    region.join("VN");
    // TH has seen VN's request to join before it was published.
    let mut thief = region.secrets[TH].clone();
    thief.transport_seed = region.secrets[2].transport_seed.clone();
    let ahead = first.with_keyset(&sign_keyset(&thief, 2, previous(&first), NOW).unwrap()).unwrap();
    let refused = ahead.merge(&region.bundle(), &[]).unwrap_err();
    assert_eq!(refused, DirectoryError::KeyTwice("TH and VN".to_owned()).into());
    region.roster.members[TH].status = MemberStatus::Revoked as i32;
    let next = ahead.merge(&region.bundle(), &[]).unwrap();
    let transport = seed("t", &region.secrets[2].transport_seed).unwrap();
    let transport = SigningKey::from_seed(KeyRole::Transport, &transport).unwrap();
    assert_eq!(next.agency_of_transport(&transport.public_key()), Some("VN"));
    // Nodes get what the broker has.
    assert_eq!(first.succeed(next.bytes(), &[]).unwrap().hash(), next.hash());
}

#[test]
fn a_newcomer_takes_identity_keys_as_they_are_now() {
    let mut region = region();
    let bootstrap = region.bootstrap();
    let mut rosters = vec![canonical::encode(&region.sign())];
    let fresh = key(KeyRole::Identity);
    region.next_version();
    region.roster.members[TH].identity_key = public(&fresh);
    delegate(&mut region.secrets[TH], &fresh, 1, NOW, &mut os_entropy()).unwrap();
    region.keysets[TH] = sign_keyset(&region.secrets[TH], 1, Bytes::new(), NOW).unwrap();
    rosters.push(canonical::encode(&region.sign()));
    let keysets: Vec<Bytes> = region.keysets.iter().map(canonical::encode).collect();
    let take = |rosters: &[Bytes]| {
        let update = DirectoryUpdate {
            rosters: rosters.to_vec(),
            keysets: keysets.clone(),
            ..DirectoryUpdate::default()
        };
        Directory::take_first(&update, &bootstrap).unwrap()
    };
    assert!(take(&rosters).held().is_empty(), "the bootstrap vouches for the newest, too");
    // And when it does not: the walk begins with the newest that it vouches for.
    let authorities: Vec<SigningKey> = (0..3).map(|_| key(KeyRole::Authority)).collect();
    region.next_version();
    region.roster.authority_keys = authorities.iter().map(public).collect();
    let mut signed = region.sign();
    signed.signatures.extend(sign_roster(&region.roster, &authorities[..2]).unwrap().signatures);
    signed.signatures.sort_by(|a, b| a.key_id.cmp(&b.key_id));
    rosters.push(canonical::encode(&signed));
    region.authorities = authorities;
    region.next_version();
    rosters.push(canonical::encode(&region.sign()));
    let taken = take(&rosters);
    assert_eq!((taken.roster().version, taken.held().len()), (4, 0));
}

#[test]
fn a_broker_follows_the_roster_where_a_node_waits_for_its_officer() {
    let mut region = region();
    let first = region.open().unwrap();
    let fresh = key(KeyRole::Identity);
    region.next_version();
    region.roster.members[TH].identity_key = public(&fresh);
    delegate(&mut region.secrets[TH], &fresh, 1, NOW, &mut os_entropy()).unwrap();
    region.keysets[TH] = sign_keyset(&region.secrets[TH], 1, Bytes::new(), NOW).unwrap();
    let node = first.succeed(&region.bundle(), &[]).unwrap();
    assert_eq!(node.held().len(), 1);
    let broker = node.clone().by_roster_alone().unwrap();
    assert!(broker.held().is_empty());
    assert_eq!((broker.hash(), broker.bytes()), (node.hash(), node.bytes()), "it is the same directory");
    assert!(broker.keyset_version("TH").is_some() && node.keyset_version("TH").is_none());
    let mark = HighWater::decode(&broker.high_water().encode()).unwrap();
    assert!(Directory::resume(broker.bytes(), &[], &mark).unwrap().held().is_empty(), "after a restart too");
    // From now on its keysets are counted like any other's.
    region.rotate(TH, 1);
    let newer = broker.with_keyset(&region.keysets[TH]).unwrap();
    let old = bundle(&region.sign(), vec![region.keysets[0].clone()]);
    assert!(newer.succeed(&old, &[]).is_err());
    assert_eq!(newer.merge(&old, &[]).unwrap().keyset_version("TH"), Some(2));
}

#[test]
fn what_a_broker_lacks_is_found_for_active_members_only() {
    let mut region = region();
    let old = region.open().unwrap();
    region.rotate(TH, 1);
    let newest = canonical::encode(&region.keysets[TH]);
    let ahead = old.with_keyset(&region.keysets[TH]).unwrap();
    let offered = |by: &Directory| by.answer(&DirectoryGet::default(), Vec::new()).unwrap();
    assert_eq!(ahead.newer_than(&offered(&old)).unwrap(), [newest]);
    assert!(old.newer_than(&offered(&ahead)).unwrap().is_empty());
    assert!(ahead.newer_than(&offered(&ahead)).unwrap().is_empty());
    region.next_version();
    region.roster.members[TH].status = MemberStatus::Suspended as i32;
    let suspended = ahead.succeed(&region.bundle(), &[]).unwrap();
    assert!(suspended.newer_than(&offered(&old)).unwrap().is_empty(), "no broker takes it");
}
