//! What became of a packet, shown by real nodes and a real broker, and verified on a machine that has nothing but the
//! region's directory or bootstrap file.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use lintas_tests::{ROLE_NODE, case::titled, process::wait, region::Region};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_lintas-demo");
/// Evidence that does not hold.
const EVIDENCE: i32 = 15;

/// `lintas evidence verify` of somebody who has no node: exit code and what it says.
fn verified(folder: &Path, by: &str) -> (i32, Value) {
    let option = if by.ends_with("toml") { "--bootstrap" } else { "--directory" };
    let mut command = Command::new(PROGRAM);
    command.args([ROLE_NODE, "--json", "evidence", "verify", "evidence.bin", option, by]);
    let said = command.current_dir(folder).env_remove("LINTAS_DATA").output().unwrap();
    (said.status.code().unwrap(), serde_json::from_slice(&said.stdout).unwrap_or_default())
}

/// The file alone in an empty folder, with what the reader believes.
fn moved(root: &Path, file: &str, node: &Path) -> PathBuf {
    let elsewhere = root.join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::copy(file, elsewhere.join("evidence.bin")).unwrap();
    fs::copy(node.join("bootstrap.toml"), elsewhere.join("bootstrap.toml")).unwrap();
    fs::copy(node.join("directory.current"), elsewhere.join("directory.bin")).unwrap();
    elsewhere
}

#[test]
fn a_packet_s_way_is_proven_from_the_roster_alone() {
    let root = tempfile::tempdir().unwrap();
    let mut region = Region::found(Path::new(PROGRAM), root.path(), &["KH", "TH"]);
    region.start_broker();
    ["KH", "TH"].iter().for_each(|node| region.start_node(node));
    let sent = region.lintas("TH", &["--json", "send", &titled(root.path(), "proven")]).ok().json();
    let id = sent["packet_id"].as_str().unwrap().to_owned();
    let evidence = |node: &str| region.lintas(node, &["--json", "evidence", &id]);
    let proven = |node: &str| {
        let said = evidence(node);
        said.code == 0
            && said.json()["grade"] == "witnessed"
            && said.json()["missing"] == serde_json::json!([])
    };
    assert!(wait(|| proven("TH") && proven("KH")), "TH: {:?}\nKH: {:?}", evidence("TH"), evidence("KH"));
    let outbox = region.lintas("TH", &["outbox"]).ok();
    assert!(outbox.out.contains("seen by a quorum of witnesses"), "{outbox:?}");
    let file = root.path().join("evidence.bin").display().to_string();
    let said = region.lintas("TH", &["evidence", &id, "--out", &file]).ok();
    for words in
        ["submitted", "released to KH/KH-AHT", "decided by TH (policy TH/release-all)", "KH/KH-AHT has it"]
    {
        assert!(said.out.contains(words), "{words}: {said:?}");
    }
    assert!(said.err.contains("who sent what kind of packet to whom"), "{said:?}");
    let elsewhere = moved(root.path(), &file, &region.folder("TH"));
    for by in ["bootstrap.toml", "directory.bin"] {
        let (code, view) = verified(&elsewhere, by);
        assert_eq!((code, &view["grade"]), (0, &Value::from("witnessed")), "{by}: {view}");
        assert_eq!(view["acknowledgements"][0]["by"], "KH/KH-AHT");
    }
    let mut bytes = fs::read(elsewhere.join("evidence.bin")).unwrap();
    bytes[200] ^= 1;
    fs::write(elsewhere.join("evidence.bin"), bytes).unwrap();
    assert_eq!(verified(&elsewhere, "bootstrap.toml").0, EVIDENCE);
    assert!(["KH", "TH"].iter().all(|node| region.stop_node(node)) && region.stop_broker());
}
