//! The region authority revokes a member while it is connected and packets wait for it: its connection ends at once,
//! and the officers who wrote to it learn that nothing arrived.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::path::Path;

use lintas_link::{CloseCode, LinkError};
use lintas_tests::{
    case,
    member::Member,
    process::wait,
    region::{Region, now_ms},
};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_lintas-demo");
const NODES: [&str; 2] = ["TH", "VN"];

/// Where each recipient of TH's packets stands: `(unit, state, why)`.
fn arrivals(region: &Region) -> Vec<(String, String, String)> {
    let said = region.lintas("TH", &["--json", "outbox"]).ok().json();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packets = said["packets"].as_array().cloned().unwrap_or_default();
    let recipients = packets.iter().flat_map(|packet| packet["recipients"].as_array().cloned().unwrap());
    recipients.map(|to| (text(&to["unit"]), text(&to["state"]), text(&to["why"]))).collect()
}

#[test]
fn a_member_is_revoked_while_packets_wait_for_it() {
    let root = tempfile::tempdir().unwrap();
    let kh = Member::of(&lintas_config::source::mekong().unwrap(), "KH");
    let mut region = Region::found_with(Path::new(PROGRAM), root.path(), &NODES, &[&kh], |broker| broker);
    region.start_broker();
    NODES.iter().for_each(|node| region.start_node(node));
    // KH is connected, and takes nothing.
    let hello = kh.hello(&region.directory());
    let (mut session, _) = kh.connect(region.broker_address(), &hello).unwrap();

    let directory = region.directory();
    let vn = directory.roster().members.iter().find(|member| member.agency == "VN").unwrap();
    let vn = format!("VN/{}", vn.units[0].unit);
    let draft = case::draft(root.path(), "draft.json", |alert| alert["to"] = json!(["KH/KH-AHT", vn]));
    for _ in 0..2 {
        let _ = region.lintas("TH", &["--json", "send", &draft]).ok();
    }
    let state = |agency: &str, state: &str| {
        let all = arrivals(&region);
        all.iter().filter(|(unit, have, _)| unit.starts_with(agency) && have == state).count()
    };
    assert!(wait(|| state("VN", "delivered") == 2), "{:?}", arrivals(&region));
    assert_eq!(state("KH", "released"), 2, "{:?}", arrivals(&region));

    region.authority().enact("revoke.bin", &["--revoke", "KH"]);
    region.take_published("broker");
    let placed_ms = now_ms();
    let ended = kh.wait_for_end(&mut session);
    println!("closed {} ms after the file was there", now_ms() - placed_ms);
    let changed = matches!(ended, Some(LinkError::Closed { code: CloseCode::DirectoryChanged, .. }));
    assert!(changed, "{ended:?}");
    assert!(wait(|| state("KH", "failed") == 2), "{:?}", arrivals(&region));
    println!("its senders knew {} ms after the file was there", now_ms() - placed_ms);
    for (_, state, why) in arrivals(&region).iter().filter(|(unit, ..)| unit.starts_with("KH")) {
        assert_eq!(state, "failed");
        assert!(why.contains("roster version 2 of the region authority KH"), "{why}");
        assert!(why.contains("no longer an active member"), "{why}");
    }
    assert_eq!(state("VN", "delivered"), 2);
    let refused = kh.connect(region.broker_address(), &hello);
    assert!(matches!(refused, Err(LinkError::NotAdmitted)), "{refused:?}");

    // It stays out after a crash of the broker.
    region.kill_broker();
    region.start_broker();
    let refused = kh.connect(region.broker_address(), &hello);
    assert!(matches!(refused, Err(LinkError::NotAdmitted)), "{refused:?}");
    assert!(NODES.iter().all(|node| region.stop_node(node)) && region.stop_broker());
}
