//! Random histories of a region: every valid one is accepted, along every way; no single change of a step is.

use bytes::Bytes;
use lintas_proto::{
    canonical,
    schema::{BrokerKeys, EndedLog, MemberStatus, SignedRoster},
    sign::{KeyRole, SigningKey},
};
use proptest::prelude::*;

use super::*;
use crate::{
    issue::{bundle, delegate, hand_over, new_broker, sign_keyset, sign_roster},
    os_entropy,
    testing::{NOW, Region, key, public, region},
};

/// What happens to a region from one directory to the next.
#[derive(Debug, Clone, Copy)]
enum Happens {
    /// The roster is renewed.
    Renewed,
    /// All authorities change.
    Authorities,
    /// A broker changes its receipt key.
    Broker,
    /// An agency publishes a keyset, so many versions ahead.
    Rotated(usize, u64),
    /// An agency hands its identity over.
    HandedOver(usize),
    /// An agency is suspended.
    Suspended(usize),
    /// It is active again.
    Reinstated(usize),
    /// Somebody joins.
    Joined,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        Just(Happens::Renewed),
        Just(Happens::Authorities),
        Just(Happens::Broker),
        (0..2usize, 1..4u64).prop_map(|(at, ahead)| Happens::Rotated(at, ahead)),
        (0..2usize).prop_map(Happens::HandedOver),
        (0..2usize).prop_map(Happens::Suspended),
        (0..2usize).prop_map(Happens::Reinstated),
        Just(Happens::Joined),
    ]
}

/// Lets it happen; the roster that comes of it, signed by the authorities before and after.
fn live(region: &mut Region, happens: Happens) -> SignedRoster {
    let mut before = None;
    if !matches!(happens, Happens::Rotated(..)) {
        region.next_version();
    }
    match happens {
        Happens::Renewed => region.roster.not_after_ms += 1,
        Happens::Authorities => {
            let fresh = (0..3).map(|_| key(KeyRole::Authority)).collect();
            before = Some(std::mem::replace(&mut region.authorities, fresh));
            region.roster.authority_keys = region.authorities.iter().map(public).collect();
        }
        Happens::Broker => region.roster.brokers[0].receipt_key = public(&key(KeyRole::Receipt)),
        Happens::Rotated(at, ahead) => region.rotate(at, ahead),
        Happens::HandedOver(at) => hand(region, at),
        Happens::Suspended(at) => region.roster.members[at].status = MemberStatus::Suspended as i32,
        Happens::Reinstated(at) => region.roster.members[at].status = MemberStatus::Active as i32,
        Happens::Joined => {
            let code = format!("U{:03}", region.roster.members.len());
            region.join(&code);
        }
    }
    let mut signed = region.sign();
    if let Some(before) = before {
        signed.signatures.extend(sign_roster(&region.roster, &before[..2]).unwrap().signatures);
        signed.signatures.sort_by(|a, b| a.key_id.cmp(&b.key_id));
    }
    signed
}

/// Hands an identity over.
fn hand(region: &mut Region, at: usize) {
    let fresh: SigningKey = key(KeyRole::Identity);
    let agency = region.roster.members[at].agency.clone();
    let word = hand_over("example", &agency, &region.identities[at], &fresh.public_key());
    region.roster.members[at].handover = word;
    region.roster.members[at].identity_key = public(&fresh);
    delegate(&mut region.secrets[at], &fresh, 1, NOW, &mut os_entropy()).unwrap();
    region.keysets[at] = sign_keyset(&region.secrets[at], 1, Bytes::new(), NOW).unwrap();
    region.identities[at] = fresh;
}

/// A history: the directory files in order, and the rosters among them, each once.
struct History {
    first: Directory,
    files: Vec<Bytes>,
    rosters: Vec<SignedRoster>,
    bootstrap: Bootstrap,
}

fn history(events: &[Happens]) -> History {
    let mut region = region();
    let (first, bootstrap) = (region.open().unwrap(), region.bootstrap());
    let (mut files, mut rosters) = (vec![], vec![region.sign()]);
    for happens in events {
        let signed = live(&mut region, *happens);
        if signed.roster != rosters.last().unwrap().roster {
            rosters.push(signed);
        }
        files.push(bundle(rosters.last().unwrap(), region.keysets.clone()));
    }
    rosters.remove(0);
    History { first, files, rosters, bootstrap }
}

impl History {
    /// The rosters before the last one, changed by `change`, then the last file.
    fn leap(&self, change: impl FnOnce(&mut Vec<Bytes>)) -> Result<Directory, SuccessionError> {
        let mut steps: Vec<Bytes> = self.rosters.iter().map(canonical::encode).collect();
        steps.pop();
        change(&mut steps);
        self.first.succeed(self.files.last().unwrap(), &steps)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_valid_history_is_accepted_along_every_way(events in prop::collection::vec(happens(), 1..7)) {
        let history = history(&events);
        let mut walked = history.first.clone();
        for file in &history.files {
            let next = walked.succeed(file, &[]).unwrap();
            let mark = HighWater::decode(&walked.high_water().encode()).unwrap();
            let resumed = Directory::resume(file, &[], &mark).unwrap();
            prop_assert_eq!(resumed.high_water(), next.high_water());
            prop_assert!(next.held().is_empty());
            walked = next;
        }
        let leapt = history.leap(|_| ()).unwrap();
        prop_assert_eq!(leapt.hash(), walked.hash());
        for file in history.files.iter().filter(|file| *file != walked.bytes()) {
            prop_assert!(walked.succeed(file, &[]).is_err(), "nothing older takes its place");
        }
    }

    #[test]
    fn a_node_anywhere_behind_gets_the_very_same_directory(
        events in prop::collection::vec(happens(), 1..7),
        behind in any::<prop::sample::Index>(),
    ) {
        let history = history(&events);
        let newest = history.leap(|_| ()).unwrap();
        let above = |version: u64| -> Vec<Bytes> {
            let version_of = |signed: &&SignedRoster| {
                let roster: Roster = canonical::decode(&signed.roster, limits::ROSTER_BYTES_MAX).unwrap();
                roster.version > version
            };
            history.rosters.iter().filter(version_of).map(canonical::encode).collect()
        };
        let mut walked = vec![history.first.clone()];
        for file in &history.files {
            walked.push(walked.last().unwrap().succeed(file, &[]).unwrap());
        }
        let node = &walked[behind.index(walked.len())];
        let update = newest.answer(&node.question().unwrap(), above(node.roster().version)).unwrap();
        let taken = node.take(&update).unwrap();
        prop_assert_eq!(taken.hash(), newest.hash());
        prop_assert_eq!(taken.bytes(), newest.bytes());
        // Nothing that is here already travels again.
        let again = newest.answer(&taken.question().unwrap(), Vec::new()).unwrap();
        prop_assert!(again.rosters.is_empty() && again.keysets.is_empty());
        let same = taken.take(&again).unwrap();
        prop_assert_eq!(same.bytes(), newest.bytes());
        // A newcomer with the bootstrap file alone.
        let bootstrap = history.bootstrap.clone();
        let mut rosters = above(0);
        rosters.insert(0, history.first.signed_roster().unwrap());
        let update = newest.answer(&Directory::first_question(&bootstrap), rosters.clone()).unwrap();
        let first = Directory::take_first(&update, &bootstrap).unwrap();
        prop_assert_eq!(first.bytes(), newest.bytes());
        // What a broker withholds shows.
        let mut less = newest.answer(&Directory::first_question(&bootstrap), rosters).unwrap();
        less.keysets.pop();
        less.rosters.clear();
        let taken = newest.take(&less);
        prop_assert!(taken.is_err());
    }

    #[test]
    fn no_tampered_step_is_accepted(
        events in prop::collection::vec(happens().prop_filter("rosters", |h| !matches!(h, Happens::Rotated(..))), 2..6),
        at in any::<prop::sample::Index>(),
        bit in any::<prop::sample::Index>(),
    ) {
        let history = history(&events);
        let at = at.index(history.rosters.len() - 1);
        prop_assert!(history.leap(|_| ()).is_ok());
        let flipped = history.leap(|steps| {
            let mut bytes = steps[at].to_vec();
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            steps[at] = Bytes::from(bytes);
        });
        prop_assert!(flipped.is_err(), "a flipped bit");
        prop_assert!(history.leap(|steps| drop(steps.remove(at))).is_err(), "a step left out");
        prop_assert!(history.leap(|steps| steps.insert(at, steps[at].clone())).is_err(), "a step twice");
        let unsigned = history.leap(|steps| {
            let signed = SignedRoster { signatures: vec![], ..history.rosters[at].clone() };
            steps[at] = canonical::encode(&signed);
        });
        prop_assert!(unsigned.is_err(), "a step without signatures");
        let strangers = history.leap(|steps| {
            let strangers = [key(KeyRole::Authority), key(KeyRole::Authority)];
            let roster = canonical::decode(&history.rosters[at].roster, limits::ROSTER_BYTES_MAX).unwrap();
            steps[at] = canonical::encode(&sign_roster(&roster, &strangers).unwrap());
        });
        prop_assert!(strangers.is_err(), "a step signed by strangers");
    }

    #[test]
    fn a_mark_has_one_reading_and_one_encoding(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = mark();
        bytes.truncate(bytes.len() - 32);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        for body in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
            let whole = [body, &sha256(&[body])].concat();
            if let Ok(mark) = HighWater::decode(&whole) {
                prop_assert_eq!(mark.encode(), whole);
            }
        }
    }
}

fn mark() -> Vec<u8> {
    static MARK: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    MARK.get_or_init(|| region().open().unwrap().high_water().encode()).clone()
}

#[test]
fn a_node_that_was_away_for_seven_months_gets_what_is_in_force() {
    const DAY_MS: u64 = 86_400_000;
    let mut region = region();
    region.roster.not_after_ms = NOW + 30 * DAY_MS;
    let (away, later) = (region.open().unwrap(), NOW + 210 * DAY_MS);
    let mark = HighWater::decode(&away.high_water().encode()).unwrap();
    let (mut newest, mut rosters) = (away.clone(), Vec::new());
    // Each roster is over before the next one but one begins; everybody's keys change but those of whoever is away.
    for month in 1..=7 {
        let mut before = None;
        region.next_version();
        region.roster.not_before_ms = NOW + (30 * month - 1) * DAY_MS;
        region.roster.not_after_ms = NOW + 30 * (month + 1) * DAY_MS;
        if month == 3 {
            let fresh = (0..3).map(|_| key(KeyRole::Authority)).collect();
            before = Some(std::mem::replace(&mut region.authorities, fresh));
            region.roster.authority_keys = region.authorities.iter().map(public).collect();
        }
        if month == 5 {
            // With a new log key its log ends.
            let ended_logs = vec![EndedLog { size: 9, root: Bytes::from(vec![7; 32]) }];
            let broker = new_broker("hub.example", &mut os_entropy()).unwrap().1;
            region.roster.brokers = vec![BrokerKeys { ended_logs, ..broker }];
        }
        region.rotate(1, 4);
        let mut signed = region.sign();
        if let Some(before) = before {
            signed.signatures.extend(sign_roster(&region.roster, &before[..2]).unwrap().signatures);
            signed.signatures.sort_by(|a, b| a.key_id.cmp(&b.key_id));
        }
        newest = newest.succeed(&bundle(&signed, region.keysets.clone()), &[]).unwrap();
        rosters.push(canonical::encode(&signed));
    }
    assert!(!away.at(later).in_force());
    let update = newest.answer(&away.question().unwrap(), rosters.clone()).unwrap();
    let steps = &rosters[..rosters.len() - 1];
    for back in [away.take(&update).unwrap(), Directory::resume(newest.bytes(), steps, &mark).unwrap()] {
        assert!(back.at(later).in_force() && back.held().is_empty());
        assert_eq!(back.hash(), newest.hash());
        assert_ne!(back.brokers()[0].transport_key, away.brokers()[0].transport_key);
        // Its own keys are listed as it left them, and new ones follow.
        assert_eq!(back.keyset_hash("KH"), away.keyset_hash("KH"));
        let previous = Bytes::copy_from_slice(back.keyset_hash("KH").unwrap());
        let own = sign_keyset(&region.secrets[0], 2, previous, later).unwrap();
        assert_eq!(back.with_keyset(&own).unwrap().keyset_version("KH"), Some(2));
    }
    // One roster is missing, and the way is cut.
    let cut = [&rosters[..2], &rosters[3..6]].concat();
    assert!(Directory::resume(newest.bytes(), &cut, &mark).is_err());
}
