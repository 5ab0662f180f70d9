//! What `lintas doctor` asks of an open node. Each check is one function over what it needs.

use std::sync::PoisonError;

use lintas_config::Directory;
use lintas_proto::{id::hex, limits, schema::AttachmentRef};

use super::{
    Desk,
    read::{backwards, why},
};
use crate::{
    core::{
        health::Check,
        keys::Keys,
        listed::{self, ListedKeys, ListedUnitKey},
        outbox::PutOff,
        state::{Answer, State},
        text::one_line,
        view::LinkView,
    },
    shell::{
        clock::{self, show as time},
        folder::Folder,
        probe,
    },
};

const HOUR_MS: u64 = 60 * 60 * 1_000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// How long before their end keysets and delegations are spoken of: their renewal may need the offline key.
const KEYS_WARN_DAYS: u64 = 60;
/// How long before its end a roster is spoken of: the authority renews it every few weeks.
const ROSTER_WARN_DAYS: u64 = 14;
/// Fewest weeks ahead for which keys should be published.
const WEEKS_AHEAD_MIN: u64 = 2;
/// A packet may wait so long without a word.
const WAITING_MS_MAX: u64 = HOUR_MS;
/// Refused and rejected packets are spoken of for so long.
const RECENT_MS: u64 = 7 * DAY_MS;
const RENEW: &str = "ask the region authority for a newer directory; a key that ends is renewed with the offline identity key";

impl Desk {
    /// Every check. A node that does not run tries the broker once.
    pub(super) fn doctor(&self) -> Vec<Check> {
        let (directory, keys, now_ms) = (self.directory(), self.keys(), clock::now_ms());
        let listed = listed::keysets(&directory).unwrap_or_default();
        let own = listed.iter().find(|listed| listed.agency == keys.agency);
        let link = if self.daemon { self.link() } else { probe::try_broker(self) };
        let mut checks = vec![signing_keys(&keys, own)];
        checks.extend(encryption_keys(&keys, &directory, own, now_ms));
        let strange = self.warning_of_stranger();
        checks.extend(
            strange.map(|found| {
                Check::wrong("strange_keyset", found, "stop the other machine, or make new keys")
            }),
        );
        checks.extend(own.map(|own| keyset_end(own, now_ms)));
        checks.extend(own.map(|own| delegation_end(own, now_ms)));
        checks.push(directory_now(&directory, now_ms));
        checks.push(held(&directory));
        checks.push(refused(&self.refused_directory.lock().unwrap_or_else(PoisonError::into_inner)));
        checks.push(version(&directory, &link));
        let state = self.store.state();
        checks.push(clock_of_records(state.latest_ms(), now_ms));
        checks.push(clock_of_broker(&link));
        checks.push(journal(&state));
        let older = self.warning_of_pages(&state);
        checks.extend(
            older.map(|found| Check::wrong("key_pages", found, "restore the newest copy of node.keys")),
        );
        checks.push(attachments(self.warning_of_blobs(), missing(&state, &self.folder)));
        checks.push(running(self.daemon));
        checks.push(connection(&link, self.daemon));
        let oldest = state.waiting().next().map(|(_, packet)| packet);
        let put_off = oldest.and_then(|packet| self.pipeline().why_put_off(&packet.digest).cloned());
        let oldest_ms = oldest.map(|packet| packet.created_ms);
        checks.push(waiting(state.waiting().count(), oldest_ms, put_off.as_ref(), now_ms));
        checks.push(refused_packets(&state, now_ms));
        checks.push(rejections(&state, now_ms));
        checks.push(gaps(&state));
        checks
    }
}

fn signing_keys(keys: &Keys, own: Option<&ListedKeys>) -> Check {
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

/// One check a unit.
fn encryption_keys(keys: &Keys, directory: &Directory, own: Option<&ListedKeys>, now_ms: u64) -> Vec<Check> {
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

fn keyset_end(own: &ListedKeys, now_ms: u64) -> Check {
    ends("keyset_end", "this agency's keyset", own.not_after_ms, now_ms, KEYS_WARN_DAYS)
}

fn delegation_end(own: &ListedKeys, now_ms: u64) -> Check {
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

fn directory_now(directory: &Directory, now_ms: u64) -> Check {
    let roster = directory.roster();
    let what = format!("the directory (roster version {})", roster.version);
    if now_ms < roster.not_before_ms {
        let found = format!("{what} is valid only from {} on", time(roster.not_before_ms));
        return Check::wrong("directory", found, "set this machine's clock right");
    }
    ends("directory", &what, roster.not_after_ms, now_ms, ROSTER_WARN_DAYS)
}

fn held(directory: &Directory) -> Check {
    let held: Vec<_> = directory.held().iter().map(|held| one_line(&held.to_string())).collect();
    if held.is_empty() {
        return Check::ok("held_agencies", "no agency is held");
    }
    let advice = "call the agency at a number you know, let it read the key, then: lintas confirm AGENCY KEY";
    Check::warning("held_agencies", held.join("; "), advice)
}

fn refused(why: &Option<String>) -> Check {
    match why {
        None => Check::ok("directory_file", "directory.bin is the directory in force"),
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

fn version(directory: &Directory, link: &LinkView) -> Check {
    let (ours, theirs) = (directory.roster().version, link.broker_roster);
    if theirs == 0 {
        return Check::ok("directory_version", "no broker has said which directory it has");
    }
    if theirs > ours {
        let found = format!("the broker has roster version {theirs}, this node {ours}");
        let advice = "let the node fetch it, or get directory.bin from the region authority";
        return Check::warning("directory_version", found, advice);
    }
    Check::ok("directory_version", format!("this node has roster version {ours}, the broker {theirs}"))
}

fn clock_of_records(latest_ms: u64, now_ms: u64) -> Check {
    match backwards(latest_ms, now_ms) {
        Some(found) => {
            Check::wrong("clock", found, "set the clock, and let a time service (NTP) keep it right")
        }
        None => Check::ok("clock", format!("this machine says {}; no record is from later", time(now_ms))),
    }
}

fn clock_of_broker(link: &LinkView) -> Check {
    let Some(apart_ms) = link.clock_apart_ms else {
        return Check::ok("clock_of_broker", "not compared: no session with the broker since the start");
    };
    let found = format!("this machine's clock and the broker's differ by {} s", apart_ms / 1_000);
    if apart_ms > limits::CLOCK_SKEW_MS_MAX {
        let advice =
            "set this machine's clock, and let a time service (NTP) keep it; packets are refused meanwhile";
        return Check::wrong("clock_of_broker", found, advice);
    }
    if apart_ms > limits::CLOCK_SKEW_MS_MAX / 5 {
        let advice =
            "let a time service (NTP) keep this machine's clock; from 5 minutes on packets are refused";
        return Check::warning("clock_of_broker", found, advice);
    }
    Check::ok("clock_of_broker", found)
}

fn journal(state: &State) -> Check {
    let (sent, received) = (state.outgoing().count(), state.incoming().count());
    let rejected = state.rejections().count();
    let found = format!("the journal opens: {sent} packets sent, {received} received, {rejected} not taken");
    Check::ok("journal", found)
}

/// Attachments that kept packets name and that are not on the disk.
fn missing(state: &State, folder: &Folder) -> usize {
    let id = |reference: &AttachmentRef| hex(&reference.blob_id);
    let out = state.outgoing().flat_map(|(_, packet)| &packet.attachments);
    let received = state.incoming().flat_map(|(_, packet)| &packet.attachments);
    out.filter(|reference| !folder.blob_out(&id(reference)).exists()).count()
        + received.filter(|reference| !folder.blob_in(&id(reference)).exists()).count()
}

fn attachments(unnamed: Option<String>, missing: usize) -> Check {
    if missing > 0 {
        let found = format!("{missing} attachments of kept packets are not in the folder `blobs`");
        return Check::wrong(
            "attachments",
            found,
            "restore `blobs` from the copy that belongs to this journal",
        );
    }
    match unnamed {
        Some(found) => {
            let advice = "if `journal` was restored, restore the one that belongs to `blobs`; else they may be deleted";
            Check::warning("attachments", found, advice)
        }
        None => {
            Check::ok("attachments", "every attachment belongs to a packet, and every packet has its own")
        }
    }
}

fn running(daemon: bool) -> Check {
    if daemon {
        return Check::ok("running", "the node runs");
    }
    let found = "the node does not run: nothing is sent and nothing comes in";
    Check::warning("running", found, "start `lintas run`")
}

fn connection(link: &LinkView, daemon: bool) -> Check {
    let trouble = one_line(&link.trouble);
    let advice = "check the network, the broker's address in node.toml and that UDP is let through; what waits is kept";
    if !link.connected {
        let since =
            if link.since_ms == 0 { String::new() } else { format!(" since {}", time(link.since_ms)) };
        let why = if trouble.is_empty() { "it is being tried".to_owned() } else { trouble };
        let found = if daemon {
            format!("no session with the broker{since}: {why}")
        } else {
            format!("the broker was tried just now, in vain: {why}")
        };
        return Check::wrong("broker", found, advice);
    }
    let broker = one_line(&link.broker);
    if !trouble.is_empty() {
        let found = format!("connected to {broker}; last trouble: {trouble}");
        return Check::warning("broker", found, "do what the sentence says");
    }
    let how = if daemon { "connected to" } else { "tried just now, and answered by" };
    Check::ok("broker", format!("{how} {broker}"))
}

fn waiting(count: usize, oldest_ms: Option<u64>, put_off: Option<&PutOff>, now_ms: u64) -> Check {
    let Some(oldest_ms) = oldest_ms else {
        return Check::ok("outbox", "no packet waits for an answer of the broker");
    };
    let because = put_off.map(|put_off| format!(", put off: {}", why(put_off.reason, &put_off.text)));
    let found = format!(
        "{count} packets wait for an answer of the broker, the oldest since {}{}",
        time(oldest_ms),
        because.unwrap_or_default()
    );
    if now_ms.saturating_sub(oldest_ms) > WAITING_MS_MAX {
        return Check::warning(
            "outbox",
            found,
            "look at `lintas outbox`; if it is urgent, tell the recipient",
        );
    }
    Check::ok("outbox", found)
}

fn refused_packets(state: &State, now_ms: u64) -> Check {
    let recent = |answer: &Answer| matches!(answer, Answer::Refused { received_ms, .. } if now_ms.saturating_sub(*received_ms) < RECENT_MS);
    let count = state.outgoing().filter(|(_, packet)| recent(&packet.answer)).count();
    if count == 0 {
        return Check::ok("refused_packets", "the broker has refused no packet in the last 7 days");
    }
    let found = format!("the broker has refused {count} packets in the last 7 days; they reached nobody");
    Check::warning("refused_packets", found, "look at `lintas outbox`, mend what it says and send again")
}

fn rejections(state: &State, now_ms: u64) -> Check {
    let recent = state.rejections().filter(|one| now_ms.saturating_sub(one.received_ms) < RECENT_MS);
    let count = recent.count();
    if count == 0 {
        return Check::ok("inbox", "every delivery of the last 7 days could be verified and opened");
    }
    let found = format!("{count} deliveries of the last 7 days could not be verified or opened");
    Check::warning("inbox", found, "look at `lintas inbox`; ask the senders, and tell the broker's operator")
}

fn gaps(state: &State) -> Check {
    let count = state.incoming().filter(|(_, packet)| state.misses_previous(packet)).count();
    if count == 0 {
        return Check::ok("gaps", "no sender speaks of an earlier packet that is not here");
    }
    let found = format!("{count} packets name an earlier one from the same sender that was not seen here");
    let advice = "ask the senders: it may have expired, or somebody holds packets back";
    Check::warning("gaps", found, advice)
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

    #[test]
    fn a_packet_that_waits_for_more_than_an_hour_is_spoken_of() {
        let check = |hours: u64| waiting(3, Some(1_000), None, 1_000 + hours * HOUR_MS + 1).mark;
        assert_eq!([0, 1].map(check), [Mark::Ok, Mark::Warning]);
    }
}
