//! Whoever has recorded every datagram between nodes and broker sends all of it again: to the broker and to a node, after they
//! were started again, from the same addresses and from others. It buys nothing.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::{path::Path, thread::sleep, time::Duration};

use lintas_tests::{
    shaped::{Shaped, rounds},
    shaper::{From, Shaper, Way},
};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_lintas-demo");
const MIB: u64 = 1 << 20;

/// What a replay must not change: entries of packets in the audit log of TH, both inboxes, how the broker counts.
fn standing(world: &Shaped) -> (Vec<Value>, Vec<Vec<String>>, Vec<u64>) {
    let said = world.region.lintas("TH", &["--json", "audit", "mirror"]);
    assert_eq!(said.code, 0, "{said:?}");
    let listed = world
        .region
        .lintas("TH", &["--json", "audit", "list", "--oldest-first", "--limit", "1000"])
        .ok()
        .json();
    let of_packets = |row: &&Value| row["packet_id"].as_str().is_some_and(|id| !id.is_empty());
    let rows = listed["events"].as_array().unwrap_or_else(|| panic!("{listed}"));
    let counted = [
        "submissions_accepted_total",
        "deliveries_total",
        "acknowledgements_total",
        "queue_entries",
        "sessions",
    ];
    (
        rows.iter().filter(of_packets).cloned().collect(),
        ["KH", "TH"].map(|node| world.inbox(node)).to_vec(),
        counted.map(|name| world.metric(name)).to_vec(),
    )
}

#[test]
fn a_whole_capture_sent_again_after_a_restart_changes_nothing() {
    let mut world = Shaped::found(Path::new(PROGRAM), &["KH", "TH"], Shaper::that_records);
    world.start();
    for number in 0..5 {
        world.send("TH", "KH", (number == 2).then_some(64));
        world.send("KH", "TH", None);
    }
    world.all_arrived_once_in_order();
    let ways = ["KH", "TH"];
    let recorded = |way: Way| ways.map(|node| (node, world.way(node).recorded(way)));
    let (up, down) = (recorded(Way::Up), recorded(Way::Down));
    assert!(up.iter().chain(&down).all(|(_, datagrams)| datagrams.len() > 20));

    world.region.kill_broker();
    world.region.start_broker();
    ways.iter().for_each(|node| world.region.hurry_node(node));
    ways.iter().for_each(|node| world.is_connected(node));
    let (before, held) = (standing(&world), world.region.broker_resident_bytes());
    assert!(!before.0.is_empty());
    for _ in 0..3 * rounds() {
        for (node, datagrams) in &up {
            world.way(node).send_again(Way::Up, datagrams, From::Same);
            world.way(node).send_again(Way::Up, datagrams, From::Other);
        }
    }
    sleep(Duration::from_secs(1));
    assert_eq!(standing(&world), before);

    // The same to a node that was started again.
    world.region.kill_node("KH");
    world.region.start_node("KH");
    world.is_connected("KH");
    let kh = world.region.process("KH").resident_bytes();
    for _ in 0..3 * rounds() {
        for (_, datagrams) in &down {
            world.way("KH").send_again(Way::Down, datagrams, From::Same);
            world.way("KH").send_again(Way::Down, datagrams, From::Other);
        }
        for (node, datagrams) in &up {
            world.way(node).send_again(Way::Up, datagrams, From::Same);
        }
    }
    sleep(Duration::from_secs(1));
    assert_eq!(standing(&world), before);
    let grown = world.region.broker_resident_bytes().saturating_sub(held);
    assert!(grown < 32 * MIB, "the broker grew by {} MiB", grown / MIB);
    let grown = world.region.process("KH").resident_bytes().saturating_sub(kh);
    assert!(grown < 32 * MIB, "the node grew by {} MiB", grown / MIB);

    // Everybody still does their work.
    world.send("TH", "KH", Some(64));
    world.send("KH", "TH", None);
    world.all_arrived_once_in_order();
}
