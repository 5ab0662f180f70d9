//! A region of real processes over real QUIC on loopback. What happens when they are killed at any moment is in `kills.rs`.

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
    demo,
    process::wait,
    region::{Region, Said},
};
use serde_json::Value;

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
