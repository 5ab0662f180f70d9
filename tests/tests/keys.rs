//! Purged packets and locked nodes in a region of real processes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::{fs, path::Path};

use lintas_tests::{case::titled, process::wait, region::Region};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_lintas-demo");

/// Sends an alert from TH to KH; its packet id.
fn send(region: &Region, root: &Path, title: &str) -> String {
    let said = region.lintas("TH", &["--json", "send", &titled(root, title)]).ok();
    said.json()["packet_id"].as_str().unwrap().to_owned()
}

fn inbox(region: &Region) -> Vec<Value> {
    region.lintas("KH", &["--json", "inbox"]).ok().json()["packets"].as_array().cloned().unwrap_or_default()
}

#[test]
fn what_is_purged_at_both_ends_is_gone_and_a_locked_node_misses_nothing() {
    let root = tempfile::tempdir().unwrap();
    let mut region = Region::found(Path::new(PROGRAM), root.path(), &["KH", "TH"]);
    region.start_broker();
    region.start_node("TH");
    region.start_node("KH");
    let (first, second) = (send(&region, root.path(), "first"), send(&region, root.path(), "second"));
    assert!(wait(|| inbox(&region).len() == 2));
    assert!(wait(
        || region.lintas("TH", &["--json", "outbox"]).ok().json()["packets"][1]["state"] == "accepted"
    ));
    for agency in ["KH", "TH"] {
        let old = fs::read(region.folder(agency).join("node.keys")).unwrap();
        // Nobody to ask: only a yes on the command line is one.
        assert_eq!(region.lintas(agency, &["purge", &first]).code, 2);
        let purged = region.lintas(agency, &["--json", "purge", &first, "--yes"]).ok().json();
        assert_eq!((&purged["done"], &purged["total"]), (&true.into(), &1.into()));
        assert_ne!(fs::read(region.folder(agency).join("node.keys")).unwrap(), old);
        let shown = region.lintas(agency, &["show", &first]);
        assert!(shown.code == 7 && shown.err.contains("was purged here on"), "{shown:?}");
        let _ = region.lintas(agency, &["show", &second]).ok();
    }
    // A kill, and all of it still holds.
    region.kill_node("KH");
    region.start_node("KH");
    assert_eq!(region.lintas("KH", &["show", &first]).code, 7);
    let _ = region.lintas("KH", &["show", &second]).ok();
    assert!(region.lintas("KH", &["inbox"]).ok().out.contains("PURGED 20"));
    // What is sent to a node that is locked waits at the broker.
    let _ = region.lintas("KH", &["lock"]).ok();
    let third = send(&region, root.path(), "third");
    assert!(wait(
        || region.lintas("TH", &["--json", "outbox"]).ok().json()["packets"][0]["state"] == "accepted"
    ));
    assert_eq!(region.lintas("KH", &["inbox"]).code, 14);
    let _ = region.lintas("KH", &["unlock"]).ok();
    assert!(wait(|| inbox(&region).first().is_some_and(|packet| packet["packet_id"] == third.as_str())));
    assert!(region.stop_node("KH") && region.stop_node("TH") && region.stop_broker());
}
