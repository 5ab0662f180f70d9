use bytes::Bytes;
use lintas_proto::{
    canonical,
    envelope::verify::PacketKeys,
    limits,
    schema::{
        ClassificationScheme, DirectoryBundle, LeavingPolicy, Marking, MemberStatus, NodeSecrets,
        SignedRoster, UnitRef,
    },
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
    assert_eq!(region.open().unwrap_err(), DirectoryError::KeyTwice("authority and hub.example".to_owned()));
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

#[test]
fn a_bootstrap_made_by_hand_is_checked_before_it_is_believed() {
    let region = crate::testing::region();
    let nobody = SignedRoster { signatures: vec![], ..region.sign() };
    for threshold in [0, 1, 4] {
        let bootstrap = Bootstrap { threshold, ..region.bootstrap() };
        let refused = Directory::open(&bundle(&nobody, region.keysets.clone()), &bootstrap).unwrap_err();
        assert!(matches!(refused, DirectoryError::Rule { .. }), "{threshold}: {refused}");
    }
    let mut doubled = region.bootstrap();
    doubled.authority_keys[1] = doubled.authority_keys[0].clone();
    assert!(Directory::open(&region.bundle(), &doubled).is_err());
}

#[test]
fn a_fingerprint_is_the_same_whatever_the_order_of_keys_and_another_for_anything_else() {
    let bootstrap = region().bootstrap();
    let print = bootstrap.fingerprint();
    assert_eq!(print.split(' ').map(str::len).collect::<Vec<_>>(), [5; 12]);
    let mut turned = bootstrap.clone();
    turned.authority_keys.reverse();
    assert_eq!(turned.fingerprint(), print);
    let mut fewer = bootstrap.clone();
    fewer.authority_keys.pop();
    let others = [
        Bootstrap { threshold: 3, ..bootstrap.clone() },
        Bootstrap { region: "x".to_owned(), ..bootstrap },
        fewer,
    ];
    assert!(others.iter().all(|other| other.fingerprint() != print));
}

/// A policy that the standard baseline does not have.
const OTHER: &str = "@id(\"other\")\n@reason(\"so\")\nforbid (principal, action in Lintas::Action::\"transfer\", resource)\n\
                     when { resource.kind == Lintas::Kind::\"RECALL\" };\n";

fn leaving(policy: &str, until_ms: u64) -> LeavingPolicy {
    LeavingPolicy { policy: policy.to_owned(), until_ms }
}

fn scheme(code: &str, markings: &[(&str, u32)]) -> ClassificationScheme {
    let marking = |(value, rank): &(&str, u32)| Marking { value: (*value).to_owned(), rank: *rank };
    ClassificationScheme { scheme: code.to_owned(), markings: markings.iter().map(marking).collect() }
}

#[test]
fn schemes_and_their_markings_are_sorted_codes_with_ranks() {
    let refused = |schemes: Vec<ClassificationScheme>| {
        let mut region = region();
        region.roster.schemes = schemes;
        let error = roster::check(&region.roster).unwrap_err().to_string();
        assert!(error.contains("classification schemes"), "{error}");
    };
    refused(vec![scheme("TH", &[])]);
    refused(vec![scheme("TH", &[("LAP", 0)])]);
    refused(vec![scheme("TH", &[("LAP-MAK", 3), ("LAP", 2)])]);
    refused(vec![scheme("TH", &[("LAP", 2), ("LAP", 3)])]);
    refused(vec![scheme("th", &[("LAP", 2)])]);
    refused(vec![scheme("TH", &[("ลับ", 2)])]);
    refused(vec![scheme("TH", &[("LAP", 2)]); 2]);
    refused((0..65).map(|n| scheme(&format!("S{n:02}"), &[("LAP", 2)])).collect());
}

#[test]
fn a_roster_that_breaks_a_rule_is_not_signed() {
    let rules: [fn(&mut Roster); 27] = [
        |r| r.authority_keys[0] = r.authority_keys[1].clone(),
        |r| r.authority_keys[0] = Bytes::from_static(&[1; 32]),
        |r| r.threshold = 1,
        |r| r.baseline = "/".repeat(lintas_proto::limits::BASELINE_BYTES_MAX + 1),
        |r| r.baseline = "permit (principal, action, resource);".to_owned(),
        |r| r.version = 2,
        |r| (r.version, r.prev_hash) = (2, Bytes::from_static(&[1; 31])),
        |r| r.not_after_ms = u64::MAX,
        |r| r.brokers[0].receipt_key = Bytes::from_static(&[0; 32]),
        |r| r.members[0].groups = vec!["B".to_owned(), "A".to_owned()],
        |r| r.members[0].groups = vec!["АSEAN".to_owned()],
        |r| r.members[0].country = "th".to_owned(),
        |r| r.members[0].name = "Police\u{202e}".to_owned(),
        |r| r.members[0].roles = vec![1, 1],
        |r| r.members[0].units[0].functions = vec![99],
        |r| r.members[0].units[0].clearance = 10,
        |r| r.members[0].handover = Bytes::from_static(&[1; 63]),
        |r| r.members[0].units[0].purposes = vec![2, 2],
        |r| r.members[0].units[0].purposes = vec![99],
        |r| r.leaving = vec![leaving("", 1); 65],
        |r| {
            r.leaving = vec![leaving(crate::policy::loosening::standing(&r.clone())[0].text, r.not_before_ms)]
        },
        |r| r.leaving = vec![leaving(&OTHER.repeat(2), r.not_before_ms)],
        |r| r.leaving = vec![leaving(&OTHER.replace("forbid", "permit"), r.not_before_ms)],
        |r| r.leaving = vec![leaving(OTHER, u64::MAX)],
        |r| r.leaving = vec![leaving(OTHER, 0)],
        |r| r.schemes = vec![scheme("TH", &[("LAP", 2)]), scheme("KH", &[("SAMNGAT", 2)])],
        |r| r.schemes = vec![scheme("TH", &[("LAP", 10)])],
    ];
    let sound = {
        let mut region = crate::testing::region();
        region.roster.leaving = vec![leaving(OTHER, region.roster.not_before_ms)];
        region.roster.schemes =
            vec![scheme("KH", &[("SAMNGAT", 2)]), scheme("TH", &[("LAP", 2), ("LAP-MAK", 9)])];
        sign_roster(&region.roster, &region.authorities)
    };
    assert!(sound.is_ok(), "{sound:?}");
    for (number, change) in rules.into_iter().enumerate() {
        let mut region = crate::testing::region();
        change(&mut region.roster);
        assert!(sign_roster(&region.roster, &region.authorities).is_err(), "rule {number}");
    }
}

/// Changes the keyset of TH and signs it again.
fn with_keyset(change: impl FnOnce(&mut lintas_proto::schema::Keyset)) -> Result<Directory, DirectoryError> {
    let mut region = region();
    let mut keyset = region.keyset(1);
    change(&mut keyset);
    let bytes = canonical::encode(&keyset);
    let delegate = seed("delegate", &region.secrets[1].delegate_seed).unwrap();
    let delegate = SigningKey::from_seed(KeyRole::Delegate, &delegate).unwrap();
    let signature = delegate.sign(lintas_proto::sign::Signed::Keyset, &bytes);
    region.keysets[1].keyset_signature = Bytes::copy_from_slice(&signature);
    region.keysets[1].keyset = bytes;
    region.open()
}

#[test]
fn a_keyset_that_breaks_a_rule_is_refused() {
    type Change = fn(&mut lintas_proto::schema::Keyset);
    let rules: [Change; 9] = [
        |k| k.version = 2,
        |k| k.not_after_ms += 1,
        |k| k.suites = vec![2],
        |k| k.suites = vec![2, 1],
        |k| k.transport_keys = vec![k.transport_keys[0].clone(); 2],
        |k| k.transport_keys = vec![k.transport_keys[0].clone(); 9],
        |k| k.encryption_keys.swap(0, 1),
        |k| k.encryption_keys[1].epoch = k.encryption_keys[0].epoch,
        |k| k.encryption_keys[0].not_after_ms += limits::CLOCK_SKEW_MS_MAX + 1,
    ];
    assert!(with_keyset(|_| ()).is_ok());
    for (number, change) in rules.into_iter().enumerate() {
        assert!(with_keyset(change).is_err(), "rule {number}");
    }
}

#[test]
fn a_unit_that_left_the_roster_takes_its_keys_along_and_nobody_else() {
    let mut region = region();
    region.roster.members[1].units.pop();
    let directory = region.open().unwrap();
    let unit = |unit: &str| UnitRef { agency: "TH".to_owned(), unit: unit.to_owned() };
    assert!(directory.at(NOW).encryption_key(&unit("TH-B")).is_none());
    assert!(directory.at(NOW).encryption_key(&unit("TH-A")).is_some());
}

#[test]
fn keys_are_offered_in_their_epoch_and_accepted_until_their_end() {
    let mut region = region();
    region.roster.not_after_ms = NOW + ROSTER_VALID_MS_MAX - 1;
    let directory = region.open().unwrap();
    let unit = UnitRef { agency: "TH".to_owned(), unit: "TH-A".to_owned() };
    let now = *directory.at(NOW).encryption_key(&unit).unwrap().id();
    let next = *directory.at(NOW + limits::EPOCH_MS).encryption_key(&unit).unwrap().id();
    let begins = (NOW / limits::EPOCH_MS + 1) * limits::EPOCH_MS;
    let accepts = |at, key: &Digest| directory.at(at).accepts_encryption_key(&unit, key);
    assert!(accepts(NOW, &now) && !accepts(NOW, &next), "not before its epoch");
    assert!(accepts(begins - limits::CLOCK_SKEW_MS_MAX, &next), "clocks differ");
    assert!(accepts(begins + limits::DELIVER_WITHIN_MS_MAX - 1, &now), "it was on its way");
    assert!(!accepts(begins + limits::DELIVER_WITHIN_MS_MAX, &now));
    let stale = directory.at(NOW + ROSTER_VALID_MS_MAX);
    assert!(stale.encryption_key(&unit).is_none(), "nothing is sent under a stale roster");
}

#[test]
fn an_agency_that_was_away_is_written_to_with_its_last_key_until_that_ends() {
    let mut region = region();
    region.roster.not_after_ms = NOW + ROSTER_VALID_MS_MAX - 1;
    let directory = region.open().unwrap();
    let unit = UnitRef { agency: "TH".to_owned(), unit: "TH-A".to_owned() };
    let epoch = NOW / limits::EPOCH_MS;
    let last_begins = (epoch + u64::from(crate::issue::EPOCHS_AHEAD) - 1) * limits::EPOCH_MS;
    let (last, end) = directory.at(last_begins).encryption_key_until(&unit).unwrap();
    assert_eq!(end, last_begins + limits::EPOCH_MS + limits::DELIVER_WITHIN_MS_MAX);
    for at in [last_begins + 3 * limits::EPOCH_MS, end - 1] {
        let found = directory.at(at).encryption_key_until(&unit);
        assert_eq!(found.map(|(key, end)| (*key.id(), end)), Some((*last.id(), end)));
        assert!(directory.at(at).accepts_encryption_key(&unit, last.id()));
    }
    assert!(directory.at(end).encryption_key(&unit).is_none(), "nobody has its private half any more");
    // A key whose epoch has not begun is not taken, however little is missing.
    let before = directory.at(last_begins - 1).encryption_key(&unit).unwrap();
    assert_ne!(before.id(), last.id());
}

#[test]
fn a_keyset_lists_two_epochs_that_are_over_and_no_more() {
    let mut region = region();
    let epoch = crate::issue::epoch_at(NOW);
    for behind in 1..=4 {
        let mut old = region.secrets[1].encryption_seeds[0].clone();
        old.epoch = epoch - behind;
        old.seed = Bytes::copy_from_slice(fresh_seed(&mut os_entropy()).as_slice());
        region.secrets[1].encryption_seeds.push(old);
    }
    let before = Bytes::copy_from_slice(&sha256(&[&region.keysets[1].keyset]));
    region.keysets[1] = sign_keyset(&region.secrets[1], 2, before, NOW).unwrap();
    assert!(region.open().is_ok());
    let oldest = region.keyset(1).encryption_keys.iter().map(|key| key.epoch).min();
    assert_eq!(oldest, Some(epoch - crate::issue::EPOCHS_BEHIND));
}

#[test]
fn an_agency_can_rotate_its_keys_long_after_it_joined() {
    let mut region = region();
    let before = Bytes::copy_from_slice(&sha256(&[&region.keysets[1].keyset]));
    let later = NOW + 200 * 24 * 60 * 60 * 1_000;
    region.keysets[1] = sign_keyset(&region.secrets[1], 2, before, later).unwrap();
    assert!(region.keyset(1).encryption_keys.is_empty(), "epochs long past are not listed");
    assert_eq!(region.open().unwrap().keyset_version("TH"), Some(2));
}

#[test]
fn a_roster_gathered_some_time_ago_takes_no_newer_keyset_away() {
    let mut region = region();
    let first = region.open().unwrap();
    let (mut ahead, old) = (first.clone(), region.keysets.clone());
    for at in 0..2 {
        region.rotate(at, 1);
        ahead = ahead.with_keyset(&region.keysets[at]).unwrap();
    }
    let newer = region.keysets.clone();
    region.next_version();
    // The authority has the first agency's old keyset, and of the second one that nobody else has seen.
    region.rotate(1, 1);
    region.keysets[0] = old[0].clone();
    let published = region.bundle();
    assert!(ahead.succeed(&published, &[]).is_err(), "as it is it would roll a keyset back");
    let merged = ahead.merge(&published, &[]).unwrap();
    assert_eq!(merged.roster().version, 2);
    assert_eq!((merged.keyset_version("KH"), merged.keyset_version("TH")), (Some(2), Some(3)));
    assert_eq!(merged.keyset_hash("KH").unwrap(), &sha256(&[&newer[0].keyset]));
    assert_eq!(merged.merge(&published, &[]).unwrap().hash(), merged.hash());
}
