use lintas_config::{
    issue::{EPOCHS_BEHIND, new_agency},
    os_entropy,
};
use lintas_proto::{
    schema::{Keyset, Member},
    sign::KeyRole,
};

use super::*;

const NOW: u64 = 1_790_000_000_000;

fn agency() -> (NodeSecrets, SigningKey) {
    let member = Member { agency: "TH".to_owned(), ..Member::default() };
    let (seed, mut secrets, _) = new_agency("example", member, NOW, &mut os_entropy()).unwrap();
    secrets.keyset = Bytes::new();
    (secrets, SigningKey::from_seed(KeyRole::Identity, &seed).unwrap())
}

fn says(secrets: &NodeSecrets) -> Keyset {
    own_keyset(secrets).unwrap().unwrap().says
}

/// The directory has taken up what was signed last.
fn publish(secrets: &NodeSecrets, units: &[&str]) -> Published {
    let own = own_keyset(secrets).unwrap().map(|own| (own.says.version, own.hash));
    Published {
        units: units.iter().map(|unit| (*unit).to_owned()).collect(),
        keyset: own,
        member: true,
        in_force: true,
        surely_ms: u64::MAX,
        enough: false,
    }
}

fn turn(secrets: &mut NodeSecrets, published: &Published, now_ms: u64) -> Rotated {
    rotate(secrets, published, now_ms, &mut os_entropy()).unwrap()
}

fn renew_with(
    secrets: &mut NodeSecrets,
    identity: &SigningKey,
    all: bool,
    published: &Published,
    now_ms: u64,
) -> Result<u64, KeysError> {
    let version = delegation(secrets)?.version + 1;
    let word = word("example", "TH", version, identity, now_ms, &mut os_entropy())?;
    let again = renew(secrets, &word, all, published, now_ms, &mut os_entropy())?;
    // The same word twice, or one for somebody else, changes nothing.
    assert!(renew(secrets, &word, all, published, now_ms, &mut os_entropy()).is_err());
    let other = NodeSecrets { agency: "KH".to_owned(), ..word };
    assert!(renew(secrets, &other, all, published, now_ms, &mut os_entropy()).is_err());
    Ok(again)
}

fn epochs(secrets: &NodeSecrets, unit: &str) -> Vec<u32> {
    secrets.encryption_seeds.iter().filter(|seed| seed.unit == unit).map(|seed| seed.epoch).collect()
}

#[test]
fn keys_are_made_weeks_ahead_published_once_a_week_and_destroyed_on_time() {
    let (mut secrets, _) = agency();
    let (mut signed, mut directory) = (0, publish(&secrets, &["TH-A", "TH-B"]));
    // Half a year, looked at six times a day.
    for hours in (0..180 * 24).step_by(4) {
        let now = NOW + hours * 3_600_000;
        let rotated = turn(&mut secrets, &directory, now);
        assert!(!turn(&mut secrets, &directory, now).changed(), "once is enough");
        let this = epoch_at(now);
        for unit in ["TH-A", "TH-B"] {
            let here = epochs(&secrets, unit);
            assert_eq!(here.last(), Some(&(this + EPOCHS_AHEAD - 1)));
            assert!(here.iter().all(|epoch| epoch_dies_ms(*epoch) > now), "{here:?} at {now}");
            // Every epoch since the first is here until its last moment.
            let alive = |epoch: &u32| epoch_dies_ms(*epoch) > now;
            let expected: Vec<u32> = (epoch_at(NOW)..this + EPOCHS_AHEAD).filter(alive).collect();
            assert_eq!(here, expected);
        }
        if let Some(version) = rotated.signed {
            signed += 1;
            assert_eq!(version, signed);
            let keyset = says(&secrets);
            let oldest = keyset.encryption_keys.iter().map(|key| key.epoch).min().unwrap();
            assert_eq!(oldest, (this - EPOCHS_BEHIND).max(epoch_at(NOW)));
            let before = directory.keyset.map(|(_, hash)| hash.to_vec()).unwrap_or_default();
            assert_eq!(keyset.prev_hash, before);
            directory = publish(&secrets, &["TH-A", "TH-B"]);
        }
    }
    let weeks = u64::from(epoch_at(NOW + 180 * DAY_MS - 1) - epoch_at(NOW));
    assert_eq!(signed, 1 + weeks, "the first, and one a week");
    assert!(epochs(&secrets, "TH-A").len() <= 14 + 5, "13 weeks that may be on their way, 5 ahead");
}

#[test]
fn a_seed_dies_ninety_days_and_five_minutes_after_its_week_and_not_before() {
    let (mut secrets, _) = agency();
    let directory = publish(&secrets, &["TH-A"]);
    turn(&mut secrets, &directory, NOW);
    let first = epoch_at(NOW);
    let end = (u64::from(first) + 1) * limits::EPOCH_MS;
    let dies = end + 90 * DAY_MS + 300_000;
    let published = publish(&secrets, &["TH-A"]);
    let rotated = turn(&mut secrets, &published, dies - 1);
    assert_eq!((rotated.destroyed, epochs(&secrets, "TH-A")[0]), (0, first));
    let published = publish(&secrets, &["TH-A"]);
    // A clock that no roster confirms destroys nothing.
    let stale = Published { in_force: false, ..published.clone() };
    assert_eq!(turn(&mut secrets, &stale, dies + 1_000 * DAY_MS).destroyed, 0);
    // Nor does one that may be wrong within the time of the roster.
    let unsure = Published { surely_ms: dies - 1, ..published.clone() };
    assert_eq!(turn(&mut secrets, &unsure, dies + DAY_MS).destroyed, 0);
    let published = publish(&secrets, &["TH-A"]);
    assert_eq!(turn(&mut secrets, &published, dies).destroyed, 1);
    assert_eq!(epochs(&secrets, "TH-A")[0], first + 1);
}

#[test]
fn a_clock_that_no_roster_confirms_makes_and_signs_nothing() {
    let (mut secrets, _) = agency();
    let directory = publish(&secrets, &["TH-A"]);
    turn(&mut secrets, &directory, NOW);
    let wrong = Published { in_force: false, ..publish(&secrets, &["TH-A", "TH-B"]) };
    for days in [20, 300, 10_000, 0] {
        assert!(!turn(&mut secrets, &wrong, NOW + days * DAY_MS).changed(), "{days}");
    }
    let here = epochs(&secrets, "TH-A");
    assert_eq!(here, (epoch_at(NOW)..epoch_at(NOW) + EPOCHS_AHEAD).collect::<Vec<_>>());
}

#[test]
fn a_node_that_was_away_for_months_goes_on_and_a_new_unit_gets_keys() {
    let (mut secrets, _) = agency();
    let directory = publish(&secrets, &["TH-A"]);
    turn(&mut secrets, &directory, NOW);
    let later = NOW + 200 * DAY_MS;
    let published = publish(&secrets, &["TH-A", "TH-NEW"]);
    let rotated = turn(&mut secrets, &published, later);
    assert_eq!((rotated.made, rotated.destroyed, rotated.signed), (10, 5, Some(2)));
    let keyset = says(&secrets);
    assert_eq!(keyset.encryption_keys.len(), 10);
    assert!(keyset.encryption_keys.iter().any(|key| key.unit == "TH-NEW" && key.epoch == epoch_at(later)));
}

#[test]
fn what_was_signed_but_never_published_is_followed_up_and_a_stranger_to_this_node_too() {
    let (mut secrets, _) = agency();
    let nothing = publish(&secrets, &["TH-A"]);
    turn(&mut secrets, &nothing, NOW);
    let first = own_keyset(&secrets).unwrap().unwrap();
    // The directory still has nothing; a week later the second follows the first all the same.
    turn(&mut secrets, &nothing, NOW + 7 * DAY_MS);
    assert_eq!((says(&secrets).version, says(&secrets).prev_hash.to_vec()), (2, first.hash.to_vec()));
    // The directory has another second one, as after an older key file was restored.
    let other = Published { keyset: Some((2, [7; 32])), ..nothing };
    assert_eq!(turn(&mut secrets, &other, NOW + 7 * DAY_MS).signed, Some(3));
    assert_eq!(says(&secrets).prev_hash, [7; 32].as_slice());
}

#[test]
fn a_keyset_ends_with_its_delegation_which_only_the_identity_key_renews() {
    let (mut secrets, identity) = agency();
    let mut directory = publish(&secrets, &["TH-A"]);
    let end = delegated_until(&secrets).unwrap();
    for day in 0..365 {
        turn(&mut secrets, &directory, NOW + day * DAY_MS);
        assert!(says(&secrets).not_after_ms <= end);
        directory = publish(&secrets, &["TH-A"]);
    }
    assert_eq!(turn(&mut secrets, &directory, end).signed, None, "nothing can be signed any more");
    let late = end + DAY_MS;
    renew_with(&mut secrets, &identity, false, &directory, late).unwrap();
    assert_eq!(delegation(&secrets).unwrap().version, 2);
    assert_eq!(says(&secrets).not_after_ms, late + KEYSET_VALID_MS);
    assert_eq!(says(&secrets).version, directory.keyset.unwrap().0 + 1);
}

#[test]
fn keys_to_come_take_over_when_they_are_known_and_the_last_packet_key_stays() {
    let (mut secrets, identity) = agency();
    let directory = publish(&secrets, &["TH-A"]);
    turn(&mut secrets, &directory, NOW);
    let old = says(&secrets);
    let directory = publish(&secrets, &["TH-A"]);
    renew_with(&mut secrets, &identity, true, &directory, NOW).unwrap();
    let both = says(&secrets);
    assert_eq!((both.transport_keys.len(), both.packet_keys.len()), (2, 2));
    assert_eq!(
        (&both.transport_keys[0], &both.packet_keys[0]),
        (&old.transport_keys[0], &old.packet_keys[0])
    );
    assert!(!turn(&mut secrets, &directory, NOW).switched, "nobody knows them yet");
    let published = publish(&secrets, &["TH-A"]);
    let rotated = turn(&mut secrets, &published, NOW);
    assert!(rotated.switched && rotated.signed.is_some());
    let after = says(&secrets);
    assert_eq!(after.transport_keys, both.transport_keys[1..]);
    assert_eq!(after.packet_keys, [both.packet_keys[1].clone(), old.packet_keys[0].clone()]);
    assert!(secrets.next_transport_seed.is_empty() && secrets.next_packet_seed.is_empty());
    // The next time the first packet key goes.
    let published = publish(&secrets, &["TH-A"]);
    renew_with(&mut secrets, &identity, true, &published, NOW).unwrap();
    assert!(!says(&secrets).packet_keys.contains(&old.packet_keys[0]));
}

#[test]
fn nothing_follows_a_revocation() {
    let (mut secrets, identity) = agency();
    let directory = publish(&secrets, &["TH-A"]);
    turn(&mut secrets, &directory, NOW);
    revoke(&mut secrets, NOW).unwrap();
    let revoked = publish(&secrets, &["TH-A"]);
    assert_eq!(says(&secrets).version, u64::MAX);
    assert!(says(&secrets).transport_keys.is_empty());
    assert_eq!(turn(&mut secrets, &directory, NOW + 30 * DAY_MS).signed, None);
    assert_eq!(turn(&mut secrets, &revoked, NOW + 30 * DAY_MS).signed, None);
    let error = renew_with(&mut secrets, &identity, true, &revoked, NOW).unwrap_err();
    assert!(error.to_string().contains("new identity"), "{error}");
}
