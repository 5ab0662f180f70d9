//! What `lintas doctor` asks of an open node. Each check is one function over what it needs.

mod listed_keys;

use std::sync::PoisonError;

use lintas_proto::{id::hex, limits, schema::AttachmentRef};

use self::listed_keys::{
    delegation_end, directory_now, encryption_keys, held, keyset_end, refused, signing_keys, version,
    witness_key,
};
use super::{
    Desk,
    read::{backwards, why},
};
use crate::{
    core::{
        health::Check,
        listed,
        log::findings::{Noted, Weight},
        outbox::PutOff,
        state::{Answer, Outgoing, State},
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
/// A packet may wait so long without a word.
const WAITING_MS_MAX: u64 = HOUR_MS;
/// Refused and rejected packets are spoken of for so long.
const RECENT_MS: u64 = 7 * DAY_MS;
impl Desk {
    /// Every check. A node that does not run tries the broker once.
    pub(super) fn doctor(&self) -> Vec<Check> {
        let (directory, keys, now_ms) = (self.directory(), self.keys(), clock::now_ms());
        let listed = listed::keysets(&directory).unwrap_or_default();
        let own = listed.iter().find(|listed| listed.agency == keys.agency);
        let link = if self.daemon { self.link() } else { probe::try_broker(self) };
        let mut checks = vec![signing_keys(&keys, own)];
        checks.extend(witness_key(&keys, &directory));
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
        checks.push(self.policy_check(now_ms));
        checks.push(self.attestation(now_ms));
        checks.push(audit_log(&self.noted(), self.watch.damaged(&directory), self.watch.strangers()));
        checks.push(match self.warning_of_policy() {
            None => Check::ok("own_policy", "the release policy of this agency is known here"),
            Some(found) => Check::wrong(
                "own_policy",
                found,
                "look at `lintas policy history`, and publish one if there is none",
            ),
        });
        let state = self.store.state();
        checks.push(clock_of_machine(self.clock_set_by(), state.latest_ms(), now_ms));
        checks.push(clock_of_broker(&link));
        checks.push(journal(&state));
        let older = self.warning_of_pages(&state);
        checks.extend(
            older.map(|found| Check::wrong("key_pages", found, "restore the newest copy of node.keys")),
        );
        checks.push(attachments(self.warning_of_blobs(), missing(&state, &self.folder, now_ms)));
        checks.push(running(self.daemon));
        checks.push(connection(&link, self.daemon));
        let oldest = state.waiting().next().map(|(_, packet)| packet);
        let put_off = oldest.and_then(|packet| self.pipeline().why_put_off(&packet.digest).cloned());
        let oldest_ms = oldest.map(|packet| packet.created_ms);
        checks.push(waiting(state.waiting().count(), oldest_ms, put_off.as_ref(), now_ms));
        checks.push(reviews(state.awaiting_review(now_ms).map(|(_, packet)| packet.deliver_by_ms).min()));
        checks.push(refused_packets(&state, now_ms));
        checks.push(rejections(&state, now_ms));
        checks.push(gaps(&state));
        checks
    }
}

/// What was found about the broker's log: the newest evidence, else the newest accusation.
fn audit_log(noted: &[Noted], damaged: Option<String>, strangers: u64) -> Check {
    const AUDIT_LOG: &str = "audit_log";
    if let Some(damaged) = damaged {
        return Check::wrong(AUDIT_LOG, damaged, "do what the sentence says");
    }
    let count = |weight| noted.iter().filter(|one| one.weight == weight).count();
    let newest = |weight| noted.iter().rev().find(|one| one.weight == weight);
    let (proven, claimed) = (count(Weight::Evidence), count(Weight::Accusation));
    if let Some(newest) = newest(Weight::Evidence) {
        let found = format!(
            "{proven} findings about the audit log can be proven; on {}: {newest}",
            time(newest.time_ms)
        );
        return Check::wrong(AUDIT_LOG, found, "show `lintas audit findings` to the region authority");
    }
    if let Some(newest) = newest(Weight::Accusation) {
        let found = format!("{claimed} findings about the audit log; on {}: {newest}", time(newest.time_ms));
        return Check::warning(
            AUDIT_LOG,
            found,
            "look at `lintas audit findings`, and ask the broker's operator",
        );
    }
    let found = "nothing was found that the broker's audit log should not show";
    match strangers {
        0 => Check::ok(AUDIT_LOG, found),
        _ => Check::ok(
            AUDIT_LOG,
            format!(
                "{found}; {strangers} packets came with a checkpoint of no broker of this region, which says nothing"
            ),
        ),
    }
}

fn clock_of_machine(set_by: Option<u64>, latest_ms: u64, now_ms: u64) -> Check {
    if let Some(minutes) = set_by {
        let found = format!(
            "this machine's clock was set by {minutes} minutes while the node ran; nothing that comes is judged before a broker \
             agrees with it"
        );
        return Check::wrong("clock", found, "set the clock, and let a time service (NTP) keep it right");
    }
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

/// Attachments that kept packets need and that are not on the disk. Those of purged packets are gone, and those of a
/// sent packet of which nothing more becomes.
fn missing(state: &State, folder: &Folder, now_ms: u64) -> usize {
    let id = |reference: &AttachmentRef| hex(&reference.blob_id);
    let kept = |sequence: u64| state.ledger().purged_ms(sequence).is_none();
    let needed = |(at, packet): &(u64, &Outgoing)| kept(*at) && !state.is_settled(*at, packet, now_ms);
    let out = state.outgoing().filter(needed);
    let out = out.flat_map(|(_, packet)| &packet.attachments);
    let received = state.incoming().filter(|(sequence, _)| kept(*sequence));
    let received = received.flat_map(|(_, packet)| &packet.attachments);
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
        None => Check::ok(
            "attachments",
            "every attachment belongs to a packet, and none that a packet needs is missing",
        ),
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
    let advice = "do what the sentence says; if it names no remedy, check the network, the broker's address in node.toml and \
                  that UDP is let through. What waits is kept";
    if !link.connected {
        let since =
            if link.since_ms == 0 { String::new() } else { format!(" since {}", time(link.since_ms)) };
        if daemon && trouble.is_empty() {
            let found = format!("no session with the broker{since}: it is being tried for the first time");
            return Check::warning("broker", found, "ask again in a minute");
        }
        let found = if daemon {
            format!("no session with the broker{since}: {trouble}")
        } else {
            format!("the broker was tried just now, in vain: {trouble}")
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

/// `until_ms`: when the first of those that wait can no longer be released.
fn reviews(until_ms: Option<u64>) -> Check {
    let Some(until_ms) = until_ms else { return Check::ok("review", "no packet waits for review") };
    let found =
        format!("packets wait for a person's review; the first can be released until {}", time(until_ms));
    Check::warning("review", found, "look at `lintas review`")
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
        return Check::ok("inbox", "every delivery of the last 7 days could be verified, opened and taken");
    }
    let found = format!(
        "{count} deliveries of the last 7 days could not be verified or opened, or this agency's policy did not take them"
    );
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

    #[test]
    fn a_packet_that_waits_for_more_than_an_hour_is_spoken_of() {
        let check = |hours: u64| waiting(3, Some(1_000), None, 1_000 + hours * HOUR_MS + 1).mark;
        assert_eq!([0, 1].map(check), [Mark::Ok, Mark::Warning]);
    }
}
