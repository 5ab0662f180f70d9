//! Clocks that are wrong: the broker's or a node's, ahead or behind, from the start or set while the process runs. What waits
//! is not ended, no time is written that cannot be taken back, nothing is rejected, no key is destroyed, whoever is refused
//! reads why, and all of it arrives once the clock is right.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::{fs, path::Path};

use lintas_tests::{
    case::titled,
    faketime::{Clock, DAY},
    process::wait,
    region::{Region, now_ms},
};
use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_lintas-demo");
const LEAPS: [i64; 2] = [400 * DAY, -400 * DAY];
/// What the broker says when its clock comes into doubt.
const DOUBT: &str = "clock is in doubt";
const AGREED: &str = "is agreed again";

/// A region some of whose machines have a clock of their own. KH is not started.
struct World {
    root: TempDir,
    region: Region,
    clock: Clock,
    sent: Vec<String>,
}

impl World {
    /// A region of `agencies`, in which those of `who` have the clock. None where the library is missing.
    fn found(agencies: &[&str], who: &[&str]) -> Option<Self> {
        let root = tempfile::tempdir().unwrap();
        let clock = Clock::find(root.path(), "wrong")?;
        let mut region = Region::found(Path::new(PROGRAM), root.path(), agencies);
        who.iter().for_each(|who| region.set_environment(who, clock.environment()));
        region.start_broker();
        region.start_node("TH");
        Some(Self { root, region, clock, sent: Vec::new() })
    }

    fn with_clock_of(who: &str) -> Option<Self> {
        Self::found(&["KH", "TH"], &[who])
    }

    /// TH writes to KH; `wait` seconds for the broker's answer.
    fn write(&mut self, wait: &str) -> Value {
        let draft = titled(self.root.path(), &format!("number {}", self.sent.len()));
        let said = self.region.lintas("TH", &["--json", "send", &draft, "--wait", wait]).json();
        self.sent.push(said["packet_id"].as_str().unwrap().to_owned());
        said
    }

    /// TH writes to KH, and the broker takes it.
    fn send(&mut self) {
        let said = self.write("60");
        assert_eq!(said["answer"]["state"], "accepted", "{said}\n{}", self.log("broker"));
    }

    fn status(&self, node: &str) -> Value {
        self.region.lintas(node, &["--json", "status"]).ok().json()
    }

    /// Has nodes try their broker at once, until it holds.
    fn hurry(&self, nodes: &[&str], holds: impl Fn() -> bool) {
        let held = wait(|| {
            nodes.iter().for_each(|node| self.region.hurry_node(node));
            holds()
        });
        assert!(held, "{}\n{}", self.status(nodes[0]), self.log("broker"));
    }

    fn connects(&self, nodes: &[&str]) {
        self.hurry(nodes, || nodes.iter().all(|node| self.status(node)["link"]["connected"] == true));
    }

    fn is_refused(&self, node: &str) {
        self.hurry(&[node], || self.status(node)["link"]["trouble"].to_string().contains("clock"));
    }

    fn log(&self, who: &str) -> String {
        fs::read_to_string(self.region.log(who)).unwrap()
    }

    fn said(&self, words: &str) -> usize {
        self.log("broker").matches(words).count()
    }

    /// Waits until the broker has said something once more than `before` times.
    fn broker_says(&self, words: &str, before: usize) {
        assert!(wait(|| self.said(words) > before), "{words}: {}", self.log("broker"));
    }

    /// The broker's clock comes into doubt.
    fn leap(&self, seconds: i64) {
        let before = self.said(DOUBT);
        self.clock.set(seconds);
        self.broker_says(DOUBT, before);
    }

    fn inbox(&self) -> Vec<String> {
        let said = self.region.lintas("KH", &["--json", "inbox", "--limit", "1000"]).ok().json();
        assert_eq!(said["rejected"].as_array().unwrap().len(), 0, "{said}");
        let packets = said["packets"].as_array().unwrap().iter().rev();
        packets.map(|packet| packet["packet_id"].as_str().unwrap().to_owned()).collect()
    }

    /// How many packets of the outbox are in that state.
    fn outbox(&self, state: &str) -> usize {
        let said = self.region.lintas("TH", &["--json", "outbox", "--limit", "1000"]).ok().json();
        let packets = said["packets"].as_array().unwrap().iter();
        packets.filter(|packet| packet["recipients"][0]["state"] == state).count()
    }

    /// Everything has arrived once, its sender knows, it can be read, and the log is whole: no entry is from before the one
    /// before it, or from another time than this.
    fn all_is_well(&self) {
        let all = wait(|| self.outbox("delivered") == self.sent.len());
        assert!(all, "{}\n{}", self.region.lintas("TH", &["--json", "outbox"]).out, self.log("broker"));
        let (mut inbox, mut sent) = (self.inbox(), self.sent.clone());
        inbox.sort();
        sent.sort();
        assert_eq!(inbox, sent);
        let _ = self.region.lintas("KH", &["show", self.sent.last().unwrap()]).ok();
        let times = || -> Vec<u64> {
            let _ = self.region.lintas("TH", &["audit", "mirror"]).ok();
            let list = ["--json", "audit", "list", "--oldest-first", "--limit", "1000"];
            // Nothing may be published yet.
            let listed = self.region.lintas("TH", &list);
            let events =
                if listed.code == 0 { listed.json()["events"].clone() } else { Value::Array(vec![]) };
            let events = events.as_array().unwrap().iter();
            events.map(|event| event["time_ms"].as_u64().unwrap()).collect()
        };
        // Submitted, released, acknowledged: three of each packet.
        assert!(wait(|| times().len() >= 3 * self.sent.len()), "{:?}", times());
        let (times, now_ms) = (times(), now_ms());
        assert!(times.is_sorted(), "{times:?}");
        assert!(times.iter().all(|ms| ms.abs_diff(now_ms) < 3_600_000), "{times:?} at {now_ms}");
    }
}

#[test]
fn a_broker_whose_clock_leaps_ends_nothing_and_goes_on_when_it_is_right() {
    let Some(mut world) = World::with_clock_of("broker") else { return };
    world.send();
    for leap in LEAPS {
        let agreed = world.said(AGREED);
        world.leap(leap);
        world.is_refused("TH");
        // Kept, and not answered: nothing final becomes of it.
        let said = world.write("2");
        assert_ne!(said["answer"]["state"], "accepted", "{said}");
        assert_eq!(world.said("packet refused"), 0);
        world.clock.set(0);
        world.broker_says(AGREED, agreed);
        world.connects(&["TH"]);
        world.send();
    }
    // A second back, and again, is nothing.
    let doubts = world.said(DOUBT);
    (1..=3).for_each(|seconds| {
        world.clock.set(-seconds);
        world.send();
    });
    assert_eq!(world.said(DOUBT), doubts);
    world.clock.set(0);
    world.region.start_node("KH");
    world.all_is_well();
}

#[test]
fn a_broker_that_starts_with_a_wrong_clock_ends_nothing_and_goes_on_when_it_is_right() {
    let Some(mut world) = World::with_clock_of("broker") else { return };
    world.send();
    for wrong in LEAPS {
        world.region.kill_broker();
        world.clock.set(wrong);
        let (before, refused) = (world.said(DOUBT), world.said("hello refused"));
        world.region.start_broker();
        world.broker_says(DOUBT, before);
        world.region.hurry_node("TH");
        world.broker_says("hello refused", refused);
    }
    world.region.start_node("KH");
    world.is_refused("KH");
    // Set right under way.
    let agreed = world.said(AGREED);
    world.clock.set(0);
    world.broker_says(AGREED, agreed);
    world.connects(&["TH", "KH"]);
    world.send();
    world.all_is_well();
}

#[test]
fn a_broker_that_was_away_for_hours_waits_for_two_members() {
    let Some(mut world) = World::found(&["KH", "TH"], &["broker", "KH", "TH"]) else { return };
    world.send();
    world.region.kill_broker();
    // Time has passed for everybody.
    world.clock.set(5 * 3_600);
    let before = world.said(DOUBT);
    world.region.start_broker();
    world.broker_says(DOUBT, before);
    world.is_refused("TH");
    assert_eq!(world.said(AGREED), 0, "one is not enough");
    world.region.start_node("KH");
    world.hurry(&["TH", "KH"], || world.said("members agree with it") > 0);
    world.connects(&["TH", "KH"]);
    world.send();
    assert!(wait(|| world.outbox("delivered") == world.sent.len()), "{}", world.log("broker"));
}

#[test]
fn one_member_that_lies_cannot_make_a_wrong_clock_agreed() {
    let agencies = ["KH", "LA", "TH", "VN"];
    let Some(mut world) = World::found(&agencies, &["broker", "LA"]) else { return };
    world.send();
    world.region.kill_broker();
    // LA says what the broker's clock says.
    world.clock.set(400 * DAY);
    world.region.start_broker();
    ["LA", "VN"].iter().for_each(|node| world.region.start_node(node));
    let refused = world.said("hello refused");
    ["LA", "TH", "VN"].iter().for_each(|node| world.is_refused(node));
    world.hurry(&["LA", "TH", "VN"], || world.said("hello refused") >= refused + 9);
    assert_eq!(world.said(AGREED), 0, "{}", world.log("broker"));
    // Nor does it keep a right one in doubt.
    world.clock.set(0);
    world.region.start_node("KH");
    world.connects(&["KH", "TH", "VN"]);
    world.all_is_well();
}

#[test]
fn a_node_whose_clock_leaps_rejects_nothing_and_takes_all_when_it_is_right() {
    let Some(mut world) = World::with_clock_of("KH") else { return };
    world.region.start_node("KH");
    world.connects(&["KH"]);
    for leap in LEAPS {
        world.send();
        world.clock.set(leap);
        world.send();
        world.is_refused("KH");
        world.send();
        assert!(world.inbox().len() < world.sent.len(), "the last one waits at the broker");
        world.clock.set(0);
        world.connects(&["KH"]);
        world.all_is_well();
    }
}

#[test]
fn a_node_that_starts_with_a_wrong_clock_is_told_and_loses_nothing() {
    let Some(mut world) = World::with_clock_of("KH") else { return };
    for wrong in LEAPS {
        world.send();
        world.clock.set(wrong);
        world.region.start_node("KH");
        world.is_refused("KH");
        let doctor = world.region.lintas("KH", &["--json", "doctor"]);
        assert!(doctor.out.contains("clock"), "{doctor:?}");
        world.clock.set(0);
        world.connects(&["KH"]);
        world.all_is_well();
        assert!(world.region.stop_node("KH"));
    }
}
