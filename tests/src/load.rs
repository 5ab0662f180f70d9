//! An officer in TH who writes to KH without a pause, and what must hold when everything is over.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread::sleep,
    time::Duration,
};

use serde_json::Value;

use crate::{
    case::{self, titled},
    process::wait,
    region::{Officer, Region},
};

/// Most packets that a list shows, and so the most of one test.
pub const PACKETS_MAX: usize = 1_000;
/// Exit code of `lintas audit verify`: whole, but some times were not attested.
const NOT_ATTESTED: i32 = 32;
/// How long the officer waits for the next word, and after a command that failed.
const PAUSE: Duration = Duration::from_millis(5);

/// How much the officer may send.
#[derive(Debug, Default)]
pub struct Load {
    wanted: AtomicUsize,
    over: AtomicBool,
}

impl Load {
    /// So many more, and no more than a list shows.
    pub fn more(&self, packets: usize) {
        let _ = self.wanted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |wanted| {
            Some((wanted + packets).min(PACKETS_MAX - 50))
        });
    }

    /// The officer stops.
    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Sends until [`end`](Self::end). Gives the ids of what the node said it had kept: a command that failed, or was cut
    /// off, has promised nothing.
    #[must_use]
    pub fn send(&self, officer: &Officer, folder: &Path) -> BTreeSet<String> {
        let photograph = case::file("vessel.jpg").display().to_string();
        let (mut kept, mut number) = (BTreeSet::new(), 0);
        while !self.over.load(Ordering::Relaxed) {
            if number >= self.wanted.load(Ordering::Relaxed) {
                sleep(PAUSE);
                continue;
            }
            let draft = titled(folder, &format!("alert {number}"));
            let attached = ["--attach", &photograph];
            let attached = if number % 5 == 0 { &attached[..] } else { &[] };
            let said = officer.lintas(&[&["--json", "send", &draft][..], attached].concat());
            if said.code == 0 {
                kept.insert(said.json()["packet_id"].as_str().unwrap().to_owned());
                number += 1;
            } else {
                sleep(PAUSE);
            }
        }
        kept
    }
}

/// Ends the load also when a test fails.
impl Drop for EndsLoad<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// As long as it lives the officer may send.
#[derive(Debug)]
pub struct EndsLoad<'a>(pub &'a Load);

/// Packets that `list`, `inbox` or `outbox`, of an agency shows.
#[must_use]
pub fn listed(region: &Region, agency: &str, list: &str) -> Vec<Value> {
    let said = region.lintas(agency, &["--json", list, "--limit", "1000"]).ok().json();
    let packets = said["packets"].as_array().cloned().unwrap_or_default();
    assert_eq!(said["total"].as_u64().unwrap(), packets.len() as u64, "more than a list shows");
    packets
}

fn id(packet: &Value) -> String {
    packet["packet_id"].as_str().unwrap().to_owned()
}

/// Waits until everything that was kept has arrived, and holds it against what was promised: each packet once, each with
/// evidence, no finding against the broker's log, and the log of either side whole. `kept` is what the officer was told
/// is kept; `about` is printed when it does not hold.
pub fn has_arrived(region: &Region, kept: &BTreeSet<String>, about: &str) {
    ["TH", "KH"].iter().for_each(|node| region.hurry_node(node));
    let inbox = || listed(region, "KH", "inbox").iter().map(id).collect::<Vec<_>>();
    let there = wait(|| kept.is_subset(&inbox().into_iter().collect()));
    let arrived = inbox();
    let lost: Vec<_> = kept.iter().filter(|id| !arrived.contains(id)).collect();
    assert!(there, "{about}: lost {lost:?} of {}", kept.len());
    let of_kept = |packet: &Value| kept.contains(&id(packet));
    let delivered = |packet: &Value| packet["recipients"][0]["state"] == "delivered";
    let mut sent = Vec::new();
    let done = wait(|| {
        sent = listed(region, "TH", "outbox");
        sent.iter().all(delivered)
    });
    let open: Vec<_> = sent.iter().filter(|packet| !delivered(packet)).collect();
    assert!(done, "{about}: without evidence: {open:?}");
    let outbox: BTreeSet<String> = sent.iter().filter(|packet| of_kept(packet)).map(id).collect();
    assert_eq!(&outbox, kept, "{about}: the outbox has lost something");
    let arrived = inbox();
    let once: BTreeSet<String> = arrived.iter().cloned().collect();
    assert_eq!(arrived.len(), once.len(), "{about}: something arrived twice");
    let sent: BTreeSet<String> = sent.iter().map(id).collect();
    assert!(once.is_subset(&sent), "{about}: something arrived that nobody sent");
}

/// Receipts hold: each side mirrors its part of the broker's log, verifies it, and has nothing to say against it, but that
/// witnesses may have been away for a while. Needs running nodes that are connected.
pub fn log_holds(region: &Region, about: &str) {
    for agency in ["TH", "KH"] {
        let mut said = None;
        let whole = wait(|| {
            region.lintas(agency, &["audit", "mirror"]).code == 0
                && [0, NOT_ATTESTED]
                    .contains(&said.insert(region.lintas(agency, &["--json", "audit", "verify"])).code)
        });
        assert!(whole, "{about}: {agency} cannot verify the log: {said:?}");
        let findings = region.lintas(agency, &["--json", "audit", "findings"]).ok().json();
        assert_eq!(findings.as_array().map(Vec::len), Some(0), "{about}: {agency}: {findings}");
    }
}

/// Everything ends well, and the broker's disk is whole. Nothing runs afterwards.
pub fn ends_whole(region: &mut Region, about: &str) {
    for name in ["TH", "KH", "broker"] {
        let ended = region.stop(name);
        assert!(ended.success(), "{about}: {name} ended with {ended}");
    }
    let check = region.check();
    assert_eq!(check.code, 0, "{about}: {check:?}");
}
