use bytes::Bytes;
use lintas_proto::{
    canonical,
    envelope::verify::PacketKeys,
    limits,
    schema::{DirectoryBundle, MemberStatus, NodeSecrets, SignedRoster, UnitRef},
    sign::{KeyRole, SigningKey, key_id},
};

use super::*;
use crate::{
    issue::{bundle, fresh_seed, new_agency, seed, sign_keyset, sign_roster},
    os_entropy,
    testing::{NOW, member, region},
};

#[test]
fn a_signed_region_opens_and_its_keys_are_found() {
    let region = region();
    let directory = region.open().unwrap();
    let unit = UnitRef { agency: "TH".to_owned(), unit: "TH-A".to_owned() };
    let packet =
        SigningKey::from_seed(KeyRole::Packet, &seed("p", &region.secrets[1].packet_seed).unwrap()).unwrap();
    let transport =
        SigningKey::from_seed(KeyRole::Transport, &seed("t", &region.secrets[1].transport_seed).unwrap())
            .unwrap();
    assert_eq!(directory.at(NOW).packet_key(&unit, packet.id()).unwrap().as_bytes(), &packet.public_key());
    assert_eq!(directory.agency_of_transport(&transport.public_key()), Some("TH"));
    let key = directory.at(NOW).encryption_key(&unit).unwrap();
    assert!(directory.at(NOW).accepts_encryption_key(&unit, key.id()));
    assert!(directory.at(NOW).in_force());
    let broker = &directory.brokers()[0];
    let id = key_id(KeyRole::Receipt, broker.receipt_key.as_bytes());
    assert_eq!(directory.receipt_key(&id), Some(&broker.receipt_key));
}

#[test]
fn keys_are_not_found_for_another_agency_unit_or_time() {
    let region = region();
    let directory = region.open().unwrap();
    let packet =
        SigningKey::from_seed(KeyRole::Packet, &seed("p", &region.secrets[1].packet_seed).unwrap()).unwrap();
    let unit = |agency: &str, unit: &str| UnitRef { agency: agency.to_owned(), unit: unit.to_owned() };
    assert!(directory.at(NOW).packet_key(&unit("KH", "KH-A"), packet.id()).is_none(), "another agency");
    assert!(
        directory.at(NOW).packet_key(&unit("TH", "KH-A"), packet.id()).is_none(),
        "another agency's unit"
    );
    assert!(directory.at(NOW).packet_key(&unit("TH", "TH-A"), &[0; 32]).is_none(), "another key");
    let late = NOW + crate::issue::KEYSET_VALID_MS;
    assert!(directory.at(late).packet_key(&unit("TH", "TH-A"), packet.id()).is_none(), "expired keyset");
    assert!(directory.at(late).encryption_key(&unit("TH", "TH-A")).is_none());
    assert!(!directory.at(late).in_force());
}

#[test]
fn a_suspended_member_has_no_keys_at_all() {
    let mut region = region();
    region.roster.members[1].status = MemberStatus::Suspended as i32;
    let directory = region.open().unwrap();
    let packet =
        SigningKey::from_seed(KeyRole::Packet, &seed("p", &region.secrets[1].packet_seed).unwrap()).unwrap();
    let transport =
        SigningKey::from_seed(KeyRole::Transport, &seed("t", &region.secrets[1].transport_seed).unwrap())
            .unwrap();
    let unit = UnitRef { agency: "TH".to_owned(), unit: "TH-A".to_owned() };
    assert!(directory.at(NOW).packet_key(&unit, packet.id()).is_none());
    assert!(directory.at(NOW).encryption_key(&unit).is_none());
    assert_eq!(directory.agency_of_transport(&transport.public_key()), None);
}

#[test]
fn fewer_than_k_authorities_are_not_enough_and_one_does_not_count_twice() {
    let region = region();
    let one = sign_roster(&region.roster, &region.authorities[..1]).unwrap();
    let error = Directory::open(&bundle(&one, region.keysets.clone()), &region.bootstrap()).unwrap_err();
    assert_eq!(error, DirectoryError::TooFewSignatures { have: 1, need: 2 });
    let mut twice = one.clone();
    twice.signatures.push(one.signatures[0].clone());
    let error = Directory::open(&bundle(&twice, region.keysets.clone()), &region.bootstrap()).unwrap_err();
    assert!(matches!(error, DirectoryError::Rule { .. }), "{error}");
    let stranger = SigningKey::from_seed(KeyRole::Authority, &fresh_seed(&mut os_entropy())).unwrap();
    let signed = sign_roster(&region.roster, &[stranger]).unwrap();
    assert!(Directory::open(&bundle(&signed, vec![]), &region.bootstrap()).is_err());
}

#[test]
fn any_flipped_byte_of_the_directory_is_refused_or_changes_nothing_that_is_trusted() {
    let region = region();
    let signed = sign_roster(&region.roster, &region.authorities[..2]).unwrap();
    let whole = bundle(&signed, region.keysets.clone());
    let good = Directory::open(&whole, &region.bootstrap()).unwrap();
    for at in (0..whole.len()).step_by(37) {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 1;
        assert!(Directory::open(&Bytes::from(bytes), &region.bootstrap()).is_err(), "byte {at}");
    }
    assert_eq!(good.hash(), region.open().unwrap().hash());
}

#[test]
fn a_keyset_signed_by_another_agency_or_of_a_stranger_is_refused() {
    let mut region = region();
    let stolen = NodeSecrets { agency: "KH".to_owned(), ..region.secrets[1].clone() };
    region.keysets[0] = sign_keyset(&stolen, 1, Bytes::new(), NOW).unwrap();
    assert_eq!(region.open().unwrap_err(), DirectoryError::Signature("delegation of KH".to_owned()));

    let mut region = crate::testing::region();
    let (_, _, request) = new_agency("example", member("XX"), NOW, &mut os_entropy()).unwrap();
    region.keysets.push(request.keyset.unwrap());
    assert!(matches!(region.open(), Err(DirectoryError::Rule { .. })));
}

#[test]
fn a_key_in_two_places_is_refused() {
    let mut region = region();
    region.roster.brokers[0].receipt_key = region.roster.authority_keys[0].clone();
    assert_eq!(region.open().unwrap_err(), DirectoryError::KeyTwice("hub.example".to_owned()));
}

#[test]
fn another_region_is_refused() {
    let region = region();
    let mut bootstrap = region.bootstrap();
    bootstrap.region = "elsewhere".to_owned();
    let signed = sign_roster(&region.roster, &region.authorities).unwrap();
    let error = Directory::open(&bundle(&signed, vec![]), &bootstrap).unwrap_err();
    assert!(matches!(error, DirectoryError::WrongRegion { .. }));
}

#[test]
fn a_bootstrap_file_reads_back_and_refuses_nonsense() {
    let bootstrap = region().bootstrap();
    assert_eq!(Bootstrap::parse(&bootstrap.to_text()).unwrap(), bootstrap);
    let none = Bootstrap { threshold: 0, ..bootstrap.clone() };
    assert!(Bootstrap::parse(&none.to_text()).is_err());
    assert!(Bootstrap::parse(&format!("{}x = 1\n", bootstrap.to_text())).is_err());
}

#[test]
fn the_bundle_holds_what_was_put_in() {
    let region = region();
    let directory = region.open().unwrap();
    let decoded: DirectoryBundle = canonical::decode(directory.bytes(), limits::DIRECTORY_BYTES_MAX).unwrap();
    let signed: SignedRoster = canonical::decode(&decoded.roster, limits::ROSTER_BYTES_MAX).unwrap();
    assert_eq!(signed.signatures.len(), 2);
    assert_eq!(decoded.keysets.len(), 2);
}
