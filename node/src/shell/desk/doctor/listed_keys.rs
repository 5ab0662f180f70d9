//! Checks of keys and directory: whether the region knows this node's keys, and how long all of it holds.

use lintas_config::Directory;
use lintas_proto::limits;

use super::DAY_MS;
use crate::{
    core::{
        health::Check,
        keys::Keys,
        listed::{ListedKeys, ListedUnitKey},
        text::one_line,
        view::LinkView,
    },
    shell::clock::show as time,
};

/// How long before their end keysets and delegations are spoken of: their renewal may need the offline key.
const KEYS_WARN_DAYS: u64 = 60;
/// How long before its end a roster is spoken of: the authority renews it every few weeks.
const ROSTER_WARN_DAYS: u64 = 14;
/// Fewest weeks ahead for which keys should be published.
const WEEKS_AHEAD_MIN: u64 = 2;
const RENEW: &str = "ask the region authority for a newer directory; a key that ends is renewed with the offline identity key";

pub(super) fn signing_keys(keys: &Keys, own: Option<&ListedKeys>) -> Check {
    let public = lintas_link::TransportKey::from_seed(&keys.transport_seed).ok().map(|key| key.public());
    let transport = own.is_some_and(|own| {
        own.transport.iter().any(|listed| public.as_ref().is_some_and(|public| listed.as_ref() == public))
    });
    let packet =
        own.is_some_and(|own| own.packet.iter().any(|listed| *listed == keys.packet.public_key()[..]));
    if transport && packet {
        return Check::ok("keys", "the keys open; the directory lists this node's transport and packet keys");
    }
    let which = match (transport, packet) {
        (false, false) => "transport key and packet key",
        (false, true) => "transport key",
        (true, _) => "packet key",
    };
    let found = format!("the directory does not list this node's {which}: nobody believes what it sends");
    let advice = "restore the newest copy of node.keys, or have the keys of this node published";
    Check::wrong("keys", found, advice)
}

/// Of a witness: whether the roster names this node's key.
pub(super) fn witness_key(keys: &Keys, directory: &Directory) -> Option<Check> {
    let named = directory.witness(&keys.agency)?;
    if *named.key.as_bytes() == keys.witness.public_key() {
        return Some(Check::ok("witness_key", "the roster names this node's key as a witness of the log"));
    }
    let found =
        "the roster names another witness key of this agency: what this node cosigns counts for nothing";
    let advice = "restore the newest copy of node.keys, or give join-request.bin of this folder to the region authority";
    Some(Check::warning("witness_key", found, advice))
}

/// One check a unit.
pub(super) fn encryption_keys(
    keys: &Keys,
    directory: &Directory,
    own: Option<&ListedKeys>,
    now_ms: u64,
) -> Vec<Check> {
    let units = directory.member(&keys.agency).map(|member| member.units.as_slice()).unwrap_or_default();
    let of = |unit: &str| -> Vec<&ListedUnitKey> {
        own.map(|own| own.encryption.iter().filter(|key| key.unit == unit).collect()).unwrap_or_default()
    };
    let check =
        |unit: &str| unit_keys(unit, &of(unit), |key| keys.decryption_key(unit, &key.id).is_some(), now_ms);
    units.iter().map(|unit| check(&unit.unit)).collect()
}

/// `listed` are the keys of one unit in ascending order of epochs; `is_here` says whether the private half is.
fn unit_keys(
    unit: &str,
    listed: &[&ListedUnitKey],
    is_here: impl Fn(&ListedUnitKey) -> bool,
    now_ms: u64,
) -> Check {
    let name = "encryption_keys";
    let live: Vec<_> = listed.iter().filter(|key| now_ms < key.not_after_ms).collect();
    if live.iter().any(|key| !is_here(key)) {
        let found = format!(
            "{unit}: the directory lists keys that this node has not; what is sealed to them stays closed"
        );
        return Check::wrong(name, found, "restore the newest copy of node.keys, or have new keys published");
    }
    let this = now_ms / limits::EPOCH_MS;
    let ahead =
        (1..).take_while(|ahead| live.iter().any(|key| u64::from(key.epoch) == this + ahead)).count() as u64;
    let publish = "let the node run with a connection, so that it publishes new keys";
    if live.iter().any(|key| u64::from(key.epoch) == this) {
        let found = format!("{unit}: keys for this week and {ahead} weeks ahead");
        return if ahead < WEEKS_AHEAD_MIN {
            Check::warning(name, found, publish)
        } else {
            Check::ok(name, found)
        };
    }
    let last = live.iter().filter(|key| u64::from(key.epoch) < this).map(|key| key.not_after_ms).max();
    match last {
        Some(until_ms) => {
            let found =
                format!("{unit}: no key for this week; senders use an older one, until {}", time(until_ms));
            Check::warning(name, found, publish)
        }
        None => {
            Check::wrong(name, format!("{unit}: no key in the directory: nobody can send to it"), publish)
        }
    }
}

pub(super) fn keyset_end(own: &ListedKeys, now_ms: u64) -> Check {
    ends("keyset_end", "this agency's keyset", own.not_after_ms, now_ms, KEYS_WARN_DAYS)
}

pub(super) fn delegation_end(own: &ListedKeys, now_ms: u64) -> Check {
    let what = "the permission of the identity key to publish keys";
    ends("delegation_end", what, own.delegated_until_ms, now_ms, KEYS_WARN_DAYS)
}

fn ends(check: &str, what: &str, until_ms: u64, now_ms: u64, warn_days: u64) -> Check {
    let days = until_ms.saturating_sub(now_ms) / DAY_MS;
    if until_ms <= now_ms {
        return Check::wrong(check, format!("{what} has ended, at {}", time(until_ms)), RENEW);
    }
    let found = format!("{what} ends in {days} days, at {}", time(until_ms));
    if days < warn_days { Check::warning(check, found, RENEW) } else { Check::ok(check, found) }
}

pub(super) fn directory_now(directory: &Directory, now_ms: u64) -> Check {
    let roster = directory.roster();
    let what = format!("the directory (roster version {})", roster.version);
    if now_ms < roster.not_before_ms {
        let found = format!("{what} is valid only from {} on", time(roster.not_before_ms));
        return Check::wrong("directory", found, "set this machine's clock right");
    }
    ends("directory", &what, roster.not_after_ms, now_ms, ROSTER_WARN_DAYS)
}

pub(super) fn held(directory: &Directory) -> Check {
    let held: Vec<_> = directory.held().iter().map(|held| one_line(&held.to_string())).collect();
    if held.is_empty() {
        return Check::ok("held_agencies", "no agency is held");
    }
    let advice = "call the agency at a number you know, let it read the key, then: lintas confirm AGENCY KEY";
    Check::warning("held_agencies", held.join("; "), advice)
}

pub(super) fn refused(why: &Option<String>) -> Check {
    match why {
        None => Check::ok("directory_file", "no directory that was put here by hand was refused"),
        Some(why) => Check::warning(
            "directory_file",
            format!(
                "directory.bin was refused, and the directory before it stays in force: {}",
                one_line(why)
            ),
            "put the right directory.bin of the region authority in its place",
        ),
    }
}

pub(super) fn version(directory: &Directory, link: &LinkView) -> Check {
    let (ours, theirs) = (directory.roster().version, link.broker_roster);
    if theirs == 0 {
        return Check::ok("directory_version", "no broker has said which directory it has");
    }
    if theirs > ours {
        let found = format!("the broker has roster version {theirs}, this node {ours}");
        let advice = "let the node fetch it, or get directory.bin from the region authority";
        return Check::warning("directory_version", found, advice);
    }
    if theirs < ours {
        let found = format!("the broker has roster version {theirs}, older than this node's {ours}");
        return Check::warning("directory_version", found, "tell the operator of the broker");
    }
    Check::ok("directory_version", format!("this node and the broker have roster version {ours}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::health::Mark;

    const WEEK: u64 = limits::EPOCH_MS;

    #[test]
    fn ends_are_spoken_of_in_time() {
        let mark = |days: u64| ends("end", "it", 100 * DAY_MS + days * DAY_MS, 100 * DAY_MS, 60).mark;
        assert_eq!([0, 1, 59].map(mark), [Mark::Wrong, Mark::Warning, Mark::Warning]);
        assert_eq!([60, 400].map(mark), [Mark::Ok; 2]);
    }

    #[test]
    fn a_unit_needs_a_key_for_this_week_some_ahead_and_their_private_halves() {
        let key = |epoch: u32| ListedUnitKey {
            unit: "TH-MAR".to_owned(),
            epoch,
            not_after_ms: (u64::from(epoch) + 10) * WEEK,
            id: [u8::try_from(epoch % 256).unwrap(); 32],
        };
        let now_ms = 2_930 * WEEK + DAY_MS;
        let check = |epochs: &[u32]| {
            let keys: Vec<_> = epochs.iter().map(|epoch| key(*epoch)).collect();
            unit_keys("TH-MAR", &keys.iter().collect::<Vec<_>>(), |_| true, now_ms)
        };
        assert_eq!(check(&[2_930, 2_931, 2_932]).mark, Mark::Ok);
        assert_eq!(check(&[2_930, 2_931, 2_933]).mark, Mark::Warning, "one week ahead, then a hole");
        assert_eq!(check(&[2_925]).mark, Mark::Warning, "an old key that is not over");
        assert_eq!(check(&[]).mark, Mark::Wrong);
        assert_eq!(check(&[2_900]).mark, Mark::Wrong, "over");
        let missing = unit_keys("TH-MAR", &[&key(2_930), &key(2_931)], |key| key.epoch == 2_930, now_ms);
        assert!(missing.mark == Mark::Wrong && missing.found.contains("has not"), "{missing:?}");
    }
}
