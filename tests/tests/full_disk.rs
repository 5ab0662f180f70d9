//! A disk without room: whoever asks is told, what is there is read and answered for, and it goes on by itself.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{collections::BTreeSet, path::Path};

use lintas_tests::{
    case,
    cut::{self, Image},
    load::{self, listed},
    process::wait,
    region::{Region, Said},
};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_lintas-demo");
/// Exit code of `lintas`: the disk failed or is full.
const STORAGE: i32 = 10;
/// Most packets that may find room in what a journal has ready: segments of 16 MiB.
const PACKETS_MAX: usize = 90;
/// Words of a packet, so that some fill a segment.
const WORDS: usize = 800_000;

/// An officer's long alert from TH to KH.
fn send(region: &Region, number: usize) -> Said {
    let draft = case::draft(region.root(), &format!("long-{number}.json"), |alert| {
        alert["to"] = json!(["KH/KH-AHT"]);
        alert["body"]["title"] = json!([{ "language": "en", "text": format!("long {number}") }]);
        alert["body"]["summary"] = json!([{ "language": "en", "text": "x".repeat(WORDS) }]);
    });
    region.lintas("TH", &["--json", "send", &draft])
}

fn sent(said: &Said) -> String {
    said.json()["packet_id"].as_str().unwrap().to_owned()
}

/// Whether the broker has put packets of TH off for want of room. Lists are dear: each decrypts everything.
fn is_put_off(region: &Region) -> bool {
    let full = |packet: &Value| {
        packet["state"] == "waiting" && packet["why"].as_str().is_some_and(|why| why.contains("disk is full"))
    };
    listed(region, "TH", "outbox").iter().any(full)
}

/// How many packets of TH the broker has not answered for good.
fn waiting(region: &Region) -> u64 {
    region.lintas("TH", &["--json", "status"]).ok().json()["waiting"].as_u64().unwrap()
}

/// Sends until the broker has no room; what was kept.
fn until_full(region: &Region, kept: &mut BTreeSet<String>) {
    for _ in 0..PACKETS_MAX {
        kept.insert(sent(&send(region, kept.len()).ok()));
        if waiting(region) < 3 {
            continue;
        }
        let has_stopped = || region.said("broker").contains("the broker stops");
        let is_answered = wait(|| has_stopped() || waiting(region) == 0 || is_put_off(region));
        assert!(is_answered && !has_stopped(), "neither taken nor refused:\n{}", region.said("broker"));
        if waiting(region) > 0 {
            return;
        }
    }
    panic!("the disk is never full");
}

#[test]
fn a_broker_without_room_says_so_delivers_and_goes_on_by_itself() {
    if !cut::is_possible() {
        return;
    }
    let root = cut::folder();
    let disk = Image::new(&root.path().join("broker.img"), &root.path().join("broker"), 256);
    let mut region = Region::found(Path::new(PROGRAM), root.path(), &["KH", "TH"]);
    region.is_small();
    ["broker", "TH"].iter().for_each(|name| region.start(name));
    let (process, mut kept) = (region.process("broker").id(), BTreeSet::new());

    // KH is away, so that nothing leaves.
    let filled = disk.fill();
    until_full(&region, &mut kept);
    // There is room: what was put off is taken, without a word to anybody.
    drop(filled);
    let taken = || {
        region.hurry_node("TH");
        waiting(&region) == 0
    };
    assert!(wait(taken), "{}", region.said("TH"));

    // Full again: what is there is delivered and acknowledged, and that makes room.
    let filled = disk.fill();
    until_full(&region, &mut kept);
    region.start("KH");
    load::has_arrived(&region, &kept, "with a full disk");
    assert_eq!((region.process("broker").id(), region.starts("broker")), (process, 1));
    drop(filled);
    load::log_holds(&region, "after a full disk");
    load::ends_whole(&mut region, "after a full disk");
}

#[test]
fn a_node_without_room_says_so_to_its_officer_and_goes_on_by_itself() {
    if !cut::is_possible() {
        return;
    }
    let root = cut::folder();
    let disk =
        |name: &str| Image::new(&root.path().join(format!("{name}.img")), &root.path().join(name), 160);
    let (of_th, of_kh) = (disk("TH"), disk("KH"));
    let mut region = Region::found(Path::new(PROGRAM), root.path(), &["KH", "TH"]);
    region.is_small();
    ["broker", "TH"].iter().for_each(|name| region.start(name));
    let process = region.process("TH").id();

    // The sender: nothing is kept that was refused, and everything else goes on.
    let (filled, mut kept) = (of_th.fill(), BTreeSet::new());
    let mut refused = send(&region, 0);
    while refused.code == 0 {
        kept.insert(sent(&refused));
        assert!(kept.len() < PACKETS_MAX, "the disk is never full");
        refused = send(&region, kept.len());
    }
    assert!(refused.code == STORAGE && refused.err.contains("the disk is full"), "{refused:?}");
    let ids = |packets: Vec<Value>| -> BTreeSet<String> {
        packets.iter().map(|packet| packet["packet_id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(listed(&region, "TH", "outbox")), kept);
    let first = kept.first().unwrap().clone();
    let _ = region.lintas("TH", &["show", &first]).ok();
    // What its node must keep of answers has room.
    assert!(wait(|| waiting(&region) == 0), "{}", region.said("TH"));
    drop(filled);
    assert!(wait(|| {
        let said = send(&region, kept.len());
        said.code == 0 && kept.insert(sent(&said))
    }));
    assert_eq!((region.process("TH").id(), region.starts("TH")), (process, 1));

    // The recipient: what it has no room for stays with the broker.
    region.start("KH");
    let process = region.process("KH").id();
    let received = || region.lintas("KH", &["--json", "status"]).ok().json()["received"].as_u64().unwrap();
    assert!(wait(|| received() > 0));
    let filled = of_kh.fill();
    for _ in 0..PACKETS_MAX {
        kept.insert(sent(&send(&region, kept.len()).ok()));
        if region.said("KH").contains("the disk is full") {
            break;
        }
    }
    assert!(wait(|| region.said("KH").contains("the disk is full")), "{}", region.said("KH"));
    let read = listed(&region, "KH", "inbox");
    assert!(!read.is_empty() && ids(read.clone()).is_subset(&kept));
    let _ = region.lintas("KH", &["show", read[0]["packet_id"].as_str().unwrap()]).ok();
    let status = region.lintas("KH", &["status"]).ok();
    assert!(status.out.contains("the disk is full: deliveries wait at the broker"), "{status:?}");
    drop(filled);
    load::has_arrived(&region, &kept, "after a full disk");
    assert_eq!((region.process("KH").id(), region.starts("KH")), (process, 1));
    load::ends_whole(&mut region, "after a full disk");
}
