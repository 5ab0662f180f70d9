//! A large file between two agencies whose broker and node are killed on its way.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    thread::sleep,
    time::Duration,
};

use lintas_proto::{
    envelope::blob::blob_length,
    id::{hex, unhex},
};
use lintas_tests::{process::wait, region::Region, wire::Tap};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_lintas-demo");
const MIB: u64 = 1 << 20;
/// More memory than this no process may ever have, KiB.
const PEAK_KIB_MAX: u64 = 256 * 1024;

/// Bytes that nothing compresses or repeats: splitmix64.
fn write_random(path: &Path, mib: u64) {
    let (mut file, mut state) = (File::create(path).unwrap(), 7u64);
    for _ in 0..mib {
        let mut piece = Vec::with_capacity(1 << 20);
        while piece.len() < 1 << 20 {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            piece.extend_from_slice(&(z ^ (z >> 31)).to_be_bytes());
        }
        file.write_all(&piece).unwrap();
    }
}

/// Whether two files are the same, byte for byte.
fn same(a: &Path, b: &Path) -> bool {
    let (mut a, mut b) = (File::open(a).unwrap(), File::open(b).unwrap());
    if a.metadata().unwrap().len() != b.metadata().unwrap().len() {
        return false;
    }
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let count = a.read(&mut left).unwrap();
        if count == 0 {
            return true;
        }
        b.read_exact(&mut right[..count]).unwrap();
        if left[..count] != right[..count] {
            return false;
        }
    }
}

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("case").join(name)
}

fn draft(root: &Path, title: &str) -> String {
    let mut alert: Value = serde_json::from_slice(&fs::read(case("alert.json")).unwrap()).unwrap();
    alert["to"] = serde_json::json!(["KH/KH-AHT"]);
    alert["body"]["title"] = serde_json::json!([{ "language": "en", "text": title }]);
    let path = root.join(format!("{title}.json"));
    fs::write(&path, alert.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Length of the one part in a folder.
fn part(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().map(Result::unwrap);
    let parts = entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(".part"));
    parts.filter_map(|entry| entry.metadata().ok()).map(|found| found.len()).max().unwrap_or(0)
}

/// Waits until so many bytes of a part are there, with patience for `mib` MiB.
fn grows(folder: &Path, bytes: u64, mib: u64) {
    for _ in 0..(6_000 + 60 * mib) {
        if part(folder) >= bytes {
            return;
        }
        sleep(Duration::from_millis(5));
    }
    panic!("only {} of {bytes} bytes are in {}", part(folder), folder.display());
}

fn patiently(mib: u64, what: &str, done: impl Fn() -> bool) {
    assert!((0..1 + mib / 200).any(|_| wait(&done)), "takes too long: {what}");
}

fn entry(region: &Region, agency: &str, list: &str, packet: &str) -> Option<Value> {
    let said = region.lintas(agency, &["--json", list]).ok();
    let packets = said.json()["packets"].as_array().cloned().unwrap_or_default();
    packets.into_iter().find(|found| found["packet_id"] == packet)
}

fn modest(region: &Region, name: &str) {
    let peak = region.peak_kib(name);
    println!("{name}: at most {} MiB of memory", peak / 1_024);
    assert!(peak < PEAK_KIB_MAX, "{name} had {peak} KiB of memory");
}

#[test]
fn a_large_file_arrives_although_broker_and_node_are_killed_on_its_way() {
    let mib = std::env::var("LINTAS_ATTACHMENT_MIB").ok().and_then(|n| n.parse().ok()).unwrap_or(40u64);
    let root = tempfile::tempdir().unwrap();
    let mut tap = None;
    let mut region = Region::found_with(Path::new(PROGRAM), root.path(), &["KH", "TH"], &[], |broker| {
        tap.insert(Tap::counting(broker)).address()
    });
    let tap = tap.unwrap();
    region.start_broker();
    region.start_node("TH");
    let file = root.path().join("seized-phone.img");
    write_random(&file, mib);
    let sealed = blob_length(mib * MIB).unwrap();
    let send = |arguments: &[&str], region: &Region| -> String {
        let said = region.lintas("TH", &[&["--json", "send"], arguments].concat()).ok();
        said.json()["packet_id"].as_str().unwrap().to_owned()
    };
    let large = send(&[&draft(root.path(), "large"), "--attach", file.to_str().unwrap()], &region);

    // The broker is killed when three fifths are there; meanwhile a small packet is written.
    let with_broker = region.folder("broker").join("blobs/TH");
    grows(&with_broker, sealed * 3 / 5, mib);
    modest(&region, "broker");
    region.kill_broker();
    let cut_at = part(&with_broker);
    assert!((1..sealed).contains(&cut_at), "it was not cut: {cut_at} of {sealed}");
    let small = send(&[&draft(root.path(), "small")], &region);
    region.start_broker();
    let accepted = |packet: &str, region: &Region| {
        let entry = entry(region, "TH", "outbox", packet).unwrap();
        (entry["state"] == "accepted").then(|| entry["time_ms"].as_u64().unwrap())
    };
    patiently(mib, "the receipts", || {
        [&small, &large].iter().all(|packet| accepted(packet, &region).is_some())
    });
    assert!(
        accepted(&small, &region) < accepted(&large, &region),
        "the small packet waited for the large one"
    );
    let (up, before) = tap.counted();
    println!("cut at {cut_at} of {sealed} bytes; {up} bytes went up");
    assert!(up < sealed * 3 / 2, "{up} bytes went up for {sealed}: the upload began anew");

    // The node is killed in the same way, at the other end.
    region.start_node("KH");
    let with_node = region.folder("KH").join("blobs/in");
    grows(&with_node, sealed * 3 / 5, mib);
    modest(&region, "KH");
    let moving = region.lintas("KH", &["--json", "status"]).ok().json()["transfers"].clone();
    region.kill_node("KH");
    let cut_at = part(&with_node);
    assert!((1..sealed).contains(&cut_at), "it was not cut: {cut_at} of {sealed}");
    if let Some(transfer) = moving.get(0) {
        assert_eq!(
            (transfer["direction"].as_str(), transfer["packet"].as_str()),
            (Some("download"), Some(&*large))
        );
        assert_eq!(transfer["total"], sealed);
    }
    region.start_node("KH");
    let here = |packet: &str, region: &Region| entry(region, "KH", "inbox", packet).is_some();
    patiently(mib, "the small packet", || here(&small, &region));
    patiently(mib, "the large packet", || here(&large, &region));
    let down = tap.counted().1 - before;
    println!("cut at {cut_at} of {sealed} bytes; {down} bytes went down");
    assert!(down < sealed * 3 / 2, "{down} bytes went down for {sealed}: the download began anew");

    let to = root.path().join("export");
    fs::create_dir(&to).unwrap();
    let arguments = ["--json", "export", &large, "--attachments", "--to", to.to_str().unwrap()];
    let exported = region.lintas("KH", &arguments).ok().json();
    let (out, digest) = (exported[0]["file"].as_str().unwrap(), exported[0]["sha256"].as_str().unwrap());
    assert!(same(&file, Path::new(out)), "the file is another");
    assert_eq!(hex(&unhex(digest).unwrap()).len(), 64);
    let delivered = || {
        let entry = entry(&region, "TH", "outbox", &large).unwrap();
        entry["recipients"][0]["state"] == "delivered"
    };
    patiently(mib, "the evidence", delivered);
    for name in ["broker", "KH", "TH"] {
        modest(&region, name);
    }
    // Nobody needs it any more.
    assert!(wait(|| fs::read_dir(&with_broker).unwrap().count() == 0), "the broker keeps it");
}
