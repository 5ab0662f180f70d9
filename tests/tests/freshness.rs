//! The directory moves on while nodes run and while they are away: they fetch it from the broker, seal again what it
//! no longer takes, and send to nobody new without an officer's word. Real processes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::{fs, path::Path};

use bytes::Bytes;
use lintas_config::{
    Bootstrap,
    issue::{fresh_seed, sign_keyset},
    os_entropy,
};
use lintas_proto::canonical;
use lintas_tests::{
    case::draft,
    member::Member,
    process::wait,
    region::{Region, now_ms},
};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_lintas-demo");

/// A group that the region has not had: KH, TH and VN are in it.
fn found_group(region: &Region) {
    let authority = region.authority();
    let edit = |file: &str, group: &str| {
        let (path, before) = (authority.sources().join(file), "groups = [\"ASEAN\", \"COMMIT\"]");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(before), "{text}");
        fs::write(path, text.replace(before, group)).unwrap();
    };
    edit("region.toml", "groups = [\"ASEAN\", \"COMMIT\", \"TRAWL\"]");
    ["kh.toml", "th.toml", "vn.toml"]
        .iter()
        .for_each(|file| edit(file, "groups = [\"ASEAN\", \"COMMIT\", \"TRAWL\"]"));
    authority.enact("group.bin", &["--sources", "sources", "--update", "KH", "TH", "VN"]);
    region.take_published("broker");
}

/// New encryption keys of a member whose secrets the test holds; the broker's operator brings the keyset.
fn rotate(region: &Region, member: &Member) {
    let (mut entropy, mut secrets) = (os_entropy(), member.secrets.clone());
    for known in &mut secrets.encryption_seeds {
        known.seed = Bytes::copy_from_slice(fresh_seed(&mut entropy).as_slice());
    }
    let (directory, agency) = (region.directory(), &member.unit.agency);
    let hash = Bytes::copy_from_slice(directory.keyset_hash(agency).unwrap());
    let version = directory.keyset_version(agency).unwrap() + 1;
    let keyset = canonical::encode(&sign_keyset(&secrets, version, hash, now_ms()).unwrap());
    let folder = region.folder("broker").join("keysets");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("KH.part"), keyset).unwrap();
    fs::rename(folder.join("KH.part"), folder.join("KH.bin")).unwrap();
    assert!(wait(|| folder.join("KH.bin.taken").exists()), "the broker does not take the keyset");
}

fn status(region: &Region, agency: &str) -> Value {
    region.lintas(agency, &["--json", "status"]).ok().json()
}

/// One line of TH's outbox.
fn entry(region: &Region, id: &str) -> Value {
    let said = region.lintas("TH", &["--json", "outbox"]).ok().json();
    let packets = said["packets"].as_array().cloned().unwrap_or_default();
    packets.into_iter().find(|packet| packet["packet_id"] == id).unwrap()
}

/// VN has nothing but its keys and the bootstrap file: the broker gives it the directory.
fn join(region: &mut Region) {
    for name in ["bootstrap.toml", "directory.bin"] {
        fs::remove_file(region.folder("VN").join(name)).unwrap();
    }
    let file = region.authority().published().join("bootstrap.toml");
    let fingerprint = Bootstrap::parse(&fs::read_to_string(&file).unwrap()).unwrap().fingerprint();
    let file = file.to_str().unwrap();
    let wrong = region.lintas("VN", &["join", "--bootstrap", file, "--words", "12345 67890"]);
    assert!(wrong.code == 2 && wrong.err.contains("do not use this file"), "{wrong:?}");
    let arguments = ["--json", "join", "--bootstrap", file, "--words", &fingerprint];
    let joined = region.lintas("VN", &arguments).ok().json();
    assert_eq!((&joined["agency"], &joined["roster_version"]), (&json!("VN"), &json!(1)));
    let again = region.lintas("VN", &arguments);
    assert!(again.code == 3 && again.err.contains("has joined already"), "{again:?}");
    region.start_node("VN");
    assert!(wait(|| status(region, "VN")["link"]["connected"] == true), "{}", status(region, "VN"));
}

#[test]
fn nodes_follow_the_directory_by_themselves() {
    let root = tempfile::tempdir().unwrap();
    let kh = Member::of(&lintas_config::source::mekong().unwrap(), "KH");
    let mut region =
        Region::found_with(Path::new(PROGRAM), root.path(), &["TH", "VN"], &[&kh], |broker| broker);
    region.start_broker();
    region.start_node("TH");
    join(&mut region);

    // A new roster goes to the broker alone; both nodes have it soon, in the session that they have.
    let since = status(&region, "TH")["link"]["since_ms"].clone();
    found_group(&region);
    for agency in ["TH", "VN"] {
        assert!(wait(|| status(&region, agency)["roster_version"] == 2), "{}", status(&region, agency));
    }
    assert_eq!(status(&region, "TH")["link"]["since_ms"], since);

    // Who is new in a group gets nothing through it before an officer's word.
    let through_group = draft(root.path(), "group.json", |alert| alert["to"] = json!(["group:TRAWL"]));
    let refused = region.lintas("TH", &["send", &through_group]);
    assert!(refused.code == 6 && refused.err.contains("lintas confirm VN"), "{refused:?}");
    assert_eq!(status(&region, "TH")["unconfirmed"].as_array().unwrap().len(), 2);
    let asked = region.lintas("TH", &["confirm", "VN"]);
    assert_eq!(asked.code, 2, "{asked:?}");
    let _ = region.lintas("TH", &["confirm", "VN", "--yes"]).ok();
    let arguments = ["--json", "send", &through_group, "--without-unconfirmed", "--wait", "30"];
    let sent = region.lintas("TH", &arguments).ok().json();
    assert_eq!(sent["left_out"], json!(["KH"]));

    // TH is away while KH changes its keys. What it sealed meanwhile is sealed again, by itself.
    assert!(region.stop_node("TH"));
    let to_kh = draft(root.path(), "kh.json", |alert| alert["to"] = json!([format!("KH/{}", kh.unit.unit)]));
    let sent = region.lintas("TH", &["--json", "send", &to_kh]).ok().json();
    let old = sent["packet_id"].as_str().unwrap();
    rotate(&region, &kh);
    region.start_node("TH");
    assert!(wait(|| entry(&region, old)["replaced_by"].is_string()), "{}", entry(&region, old));
    let new = entry(&region, old)["replaced_by"].as_str().unwrap().to_owned();
    assert!(wait(|| entry(&region, &new)["state"] == "accepted"), "{}", entry(&region, &new));
    assert_eq!(entry(&region, &new)["in_place_of"], json!(old));
    assert_eq!(entry(&region, old)["reason"], json!("REASON_RESEAL"));
    assert!(["TH", "VN"].iter().all(|node| region.stop_node(node)) && region.stop_broker());
}
