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
    io::Write as _,
    path::Path,
    process::Command,
    thread::sleep,
    time::Duration,
};

use lintas_proto::envelope::blob::blob_length;
use lintas_tests::{case::titled, process::wait, region::Region, wire::Tap};
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

/// By another implementation than the one that is tested.
fn sha256_of(file: &Path) -> String {
    let output = Command::new("sha256sum").arg("--").arg(file).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

/// Length of the one part in a folder.
fn part(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().map(Result::unwrap);
    let parts = entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(".part"));
    parts.filter_map(|entry| entry.metadata().ok()).map(|found| found.len()).max().unwrap_or(0)
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

/// What is on its way, and how large it is.
struct Large {
    mib: u64,
    /// Bytes of its ciphertext.
    sealed: u64,
    packet: String,
}

impl Large {
    /// Waits until three fifths are in `folder`; `kill` must cut it there.
    fn cut(&self, folder: &Path, kill: impl FnOnce()) {
        for _ in 0..(6_000 + 60 * self.mib) {
            if part(folder) >= self.sealed * 3 / 5 {
                break;
            }
            sleep(Duration::from_millis(5));
        }
        kill();
        let here = part(folder);
        println!("cut at {here} of {} bytes", self.sealed);
        assert!((self.sealed * 3 / 5..self.sealed).contains(&here), "not cut: {here} of {}", self.sealed);
    }

    /// Bytes that went over the wire are too few for two attempts.
    fn resumed(&self, went: u64) {
        println!("{went} bytes went over the wire");
        assert!(went < self.sealed * 3 / 2, "{went} bytes for {}: it began anew", self.sealed);
    }
}

fn send(region: &Region, arguments: &[&str]) -> String {
    let said = region.lintas("TH", &[&["--json", "send"], arguments].concat()).ok();
    said.json()["packet_id"].as_str().unwrap().to_owned()
}

/// The broker is killed in the middle of the upload; meanwhile a small packet is written, which overtakes.
fn go_up(region: &mut Region, root: &Path, large: &Large) -> String {
    let folder = region.folder("broker").join("blobs/TH");
    large.cut(&folder, || {
        modest(region, "broker");
        region.kill_broker();
    });
    let small = send(region, &[&titled(root, "small")]);
    region.start_broker();
    let accepted = |packet: &str| {
        let entry = entry(region, "TH", "outbox", packet).unwrap();
        (entry["state"] == "accepted").then(|| entry["time_ms"].as_u64().unwrap())
    };
    let both = || [&small, &large.packet].iter().all(|packet| accepted(packet).is_some());
    patiently(large.mib, "the receipts", both);
    assert!(accepted(&small) < accepted(&large.packet), "the small packet waited for the large one");
    small
}

/// The node is killed in the middle of the download.
fn go_down(region: &mut Region, large: &Large, small: &str) {
    region.start_node("KH");
    let folder = region.folder("KH").join("blobs/in");
    large.cut(&folder, || {
        modest(region, "KH");
        region.kill_node("KH");
    });
    region.start_node("KH");
    for packet in [small, &large.packet] {
        patiently(large.mib, "a packet", || entry(region, "KH", "inbox", packet).is_some());
    }
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
    let packet = send(&region, &[&titled(root.path(), "large"), "--attach", file.to_str().unwrap()]);
    let large = Large { mib, sealed: blob_length(mib * MIB).unwrap(), packet };
    let small = go_up(&mut region, root.path(), &large);
    let (up, before) = tap.counted();
    large.resumed(up);
    go_down(&mut region, &large, &small);
    large.resumed(tap.counted().1 - before);

    let to = root.path().join("export");
    fs::create_dir(&to).unwrap();
    let arguments = ["--json", "export", &large.packet, "--attachments", "--to", to.to_str().unwrap()];
    let exported = region.lintas("KH", &arguments).ok().json();
    let said = exported[0]["sha256"].as_str().unwrap();
    assert_eq!(said, sha256_of(&file), "the file is another");
    assert_eq!(said, sha256_of(Path::new(exported[0]["file"].as_str().unwrap())), "it was written wrong");
    let delivered = || {
        let entry = entry(&region, "TH", "outbox", &large.packet).unwrap();
        entry["recipients"][0]["state"] == "delivered"
    };
    patiently(mib, "the evidence", delivered);
    for name in ["broker", "KH", "TH"] {
        modest(&region, name);
    }
    // Nobody needs it any more.
    let folder = region.folder("broker").join("blobs/TH");
    assert!(wait(|| fs::read_dir(&folder).unwrap().count() == 0), "the broker keeps it");
}
