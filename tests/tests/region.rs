//! A region of real processes over real QUIC on loopback, and what happens when they are killed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread::sleep,
    time::Duration,
};

use lintas_tests::{
    case::titled,
    demo,
    process::wait,
    region::{Region, Said, now_ms},
};
use serde_json::Value;

/// Most packets of the load; it stops earlier, with the kills.
const LOAD_PACKETS_MAX: usize = 900;
const PROGRAM: &str = env!("CARGO_BIN_EXE_lintas-demo");

fn region(root: &Path) -> Region {
    Region::found(Path::new(PROGRAM), root, &["KH", "TH"])
}

fn packets(said: &Said) -> Vec<Value> {
    said.json()["packets"].as_array().cloned().unwrap_or_default()
}

#[test]
fn an_alert_crosses_the_border() {
    let root = tempfile::tempdir().unwrap();
    let mut teller = demo::Teller::default();
    let mut region = demo::play(Path::new(PROGRAM), root.path(), &mut teller).unwrap();
    assert!(demo::NODES.iter().all(|node| region.stop_node(node)) && region.stop_broker());
}

/// Numbers that repeat with the seed, which is printed: splitmix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

#[test]
fn kill_9_at_random_moments_loses_nothing_and_doubles_nothing() {
    let rounds = std::env::var("LINTAS_KILL_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(20u32);
    let seed = std::env::var("LINTAS_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or_else(now_ms);
    println!("seed {seed}, {rounds} rounds (LINTAS_SEED, LINTAS_KILL_ROUNDS)");
    let mut dice = Dice(seed);
    let root = tempfile::tempdir().unwrap();
    let mut region = region(root.path());
    region.start_broker();
    region.start_node("TH");
    region.start_node("KH");
    let (officer, folder, stop) = (region.officer("TH"), root.path().to_owned(), AtomicBool::new(false));
    let kept = std::thread::scope(|threads| {
        // The load: an officer who sends without a pause. A command that a kill cut off has promised nothing.
        let load = threads.spawn(|| {
            let mut kept = BTreeSet::new();
            for number in 0..LOAD_PACKETS_MAX {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let said = officer.lintas(&["--json", "send", &titled(&folder, &format!("alert {number}"))]);
                if said.code == 0 {
                    kept.insert(said.json()["packet_id"].as_str().unwrap().to_owned());
                }
            }
            kept
        });
        for _ in 0..rounds {
            sleep(Duration::from_millis(dice.roll(150)));
            match dice.roll(3) {
                0 => {
                    region.kill_broker();
                    region.start_broker();
                }
                1 => {
                    region.kill_node("KH");
                    region.start_node("KH");
                }
                _ => {
                    region.kill_node("TH");
                    region.start_node("TH");
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        load.join().unwrap()
    });
    assert!(kept.len() >= rounds as usize, "seed {seed}: too little load to prove anything: {}", kept.len());
    println!("{} packets were kept", kept.len());
    let arrived = || -> Vec<String> {
        let said = region.lintas("KH", &["--json", "inbox", "--limit", "1000"]).ok();
        packets(&said).iter().map(|packet| packet["packet_id"].as_str().unwrap().to_owned()).collect()
    };
    assert!(
        wait(|| kept.is_subset(&arrived().into_iter().collect())),
        "seed {seed}: {} of {} arrived",
        arrived().len(),
        kept.len()
    );
    let all_delivered = || {
        let said = region.lintas("TH", &["--json", "outbox", "--limit", "1000"]).ok();
        packets(&said).iter().all(|packet| packet["recipients"][0]["state"] == "delivered")
    };
    assert!(wait(all_delivered), "seed {seed}: evidence is missing");
    let arrived = arrived();
    let once: BTreeSet<_> = arrived.iter().cloned().collect();
    assert_eq!(arrived.len(), once.len(), "seed {seed}: something arrived twice");
    assert!(kept.is_subset(&once), "seed {seed}: something is lost");
}

#[test]
fn a_node_that_is_offline_keeps_what_it_is_given_and_sends_it_later() {
    let root = tempfile::tempdir().unwrap();
    let mut region = region(root.path());
    // No daemon, no broker: the command opens the store itself.
    let draft = titled(root.path(), "written at sea");
    let said = region.lintas("TH", &["--json", "send", &draft]).ok();
    let packet = said.json()["packet_id"].as_str().unwrap().to_owned();
    region.start_node("TH");
    let outbox = region.lintas("TH", &["--json", "outbox"]).ok();
    assert_eq!(packets(&outbox)[0]["state"], "waiting");
    region.start_broker();
    region.start_node("KH");
    let arrived = wait(|| {
        let inbox = packets(&region.lintas("KH", &["--json", "inbox"]).ok());
        inbox.len() == 1 && inbox[0]["packet_id"] == packet.as_str()
    });
    assert!(arrived, "{}", fs::read_to_string(region.log("TH")).unwrap());
}

#[test]
fn a_node_that_was_away_catches_up_in_order() {
    let root = tempfile::tempdir().unwrap();
    let mut region = region(root.path());
    region.start_broker();
    region.start_node("TH");
    let sent: Vec<String> = (0..40)
        .map(|number| {
            let draft = titled(root.path(), &format!("alert {number}"));
            let said = region.lintas("TH", &["--json", "send", &draft]).ok();
            said.json()["packet_id"].as_str().unwrap().to_owned()
        })
        .collect();
    let accepted = || {
        let outbox = packets(&region.lintas("TH", &["--json", "outbox", "--limit", "100"]).ok());
        outbox.iter().filter(|packet| packet["state"] == "accepted").count() == sent.len()
    };
    assert!(wait(accepted));
    // Killed and started again, so that what is delivered comes from recovery.
    region.kill_broker();
    region.start_broker();
    region.start_node("KH");
    let arrived = || -> Vec<String> {
        let inbox = packets(&region.lintas("KH", &["--json", "inbox", "--limit", "100"]).ok());
        // The newest stands first.
        inbox.iter().rev().map(|packet| packet["packet_id"].as_str().unwrap().to_owned()).collect()
    };
    assert!(wait(|| arrived().len() == sent.len()), "{} of {} arrived", arrived().len(), sent.len());
    assert_eq!(arrived(), sent);
}
