//! `lintas doctor` and `lintas exposure`, as an operator runs them: with a node and without, with a broker and without.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use lintas_tests::{
    process::wait,
    region::{Region, Said},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_lintas-demo");

/// How a check of `lintas --json doctor` ended, and what it found.
fn check(said: &Said, name: &str) -> (String, String) {
    let checks = said.json()["checks"].as_array().unwrap().clone();
    let check =
        checks.iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("{name}: {said:?}"));
    let text = |field: &str| check[field].as_str().unwrap().to_owned();
    (text("mark"), text("found"))
}

#[test]
fn a_doctor_sees_broker_node_and_keys_and_ends_with_the_worst() {
    let root = tempfile::tempdir().unwrap();
    let mut region = Region::found(Path::new(PROGRAM), root.path(), &["KH", "TH"]);
    region.start_broker();

    let key = region.key_file("TH");
    assert_eq!(
        check(&region.lintas("TH", &["--json", "doctor"]), "key_file").0,
        "wrong",
        "as the harness made it"
    );
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();

    // Nothing runs but the broker: it is tried once.
    let said = region.lintas("TH", &["--json", "doctor"]);
    assert_eq!(said.code, 20, "{said:?}");
    assert_eq!(check(&said, "running").0, "warning");
    let (mark, found) = check(&said, "broker");
    assert!(mark == "ok" && found.contains("answered by"), "{found}");
    assert_eq!(check(&said, "clock_of_broker").0, "ok");
    assert_eq!(check(&said, "keys").0, "ok");
    assert_eq!(check(&said, "identity_key").0, "warning", "init leaves it there");
    let words = region.lintas("TH", &["doctor"]);
    assert!(words.code == 20 && words.out.contains("to do: start `lintas run`"), "{words:?}");

    // A node that runs says how it is itself.
    fs::remove_file(region.folder("TH").join("identity.key")).unwrap();
    region.start_node("TH");
    let connected = wait(|| {
        let said = region.lintas("TH", &["--json", "doctor"]);
        check(&said, "broker").0 == "ok"
    });
    assert!(connected);
    let said = region.lintas("TH", &["--json", "doctor"]);
    let (mark, found) = check(&said, "broker");
    assert!(mark == "ok" && found.contains("connected to"), "{found}");
    assert_eq!(check(&said, "running").0, "ok");
    assert_eq!(check(&said, "identity_key").0, "ok");

    // The broker goes away.
    assert!(region.stop_broker());
    let lost = wait(|| check(&region.lintas("TH", &["--json", "doctor"]), "broker").0 == "wrong");
    assert!(lost);
    assert_eq!(region.lintas("TH", &["--json", "doctor"]).code, 21);

    // What opens the keys is another's: said, beside what can still be looked at.
    assert!(region.stop_node("TH"));
    fs::write(&key, "00".repeat(32)).unwrap();
    let said = region.lintas("TH", &["--json", "doctor"]);
    assert_eq!(said.code, 21, "{said:?}");
    assert_eq!(check(&said, "open").0, "wrong");
    assert_eq!(check(&said, "folder").0, "ok");
}

#[test]
fn an_officer_learns_what_the_loss_of_a_key_exposes() {
    let root = tempfile::tempdir().unwrap();
    let region = Region::found(Path::new(PROGRAM), root.path(), &["TH"]);
    let draft = lintas_tests::case::file("alert.json");
    let sent = region.lintas("TH", &["--json", "send", draft.to_str().unwrap()]).ok();
    let packet_id = sent.json()["packet_id"].as_str().unwrap().to_owned();
    let recipient = sent.json()["to"][0].as_str().unwrap().to_owned();

    let lost = format!("unit:{recipient}");
    let found = region.lintas("TH", &["--json", "exposure", "--key", &lost]).ok().json();
    assert_eq!((&found["contents"], &found["signatures"]), (&1.into(), &0.into()), "{found}");
    assert_eq!(found["packets"][0]["packet_id"], packet_id.as_str());
    let words = region.lintas("TH", &["exposure", "--key", "node", "--since", "2026-01-01"]).ok();
    assert!(words.out.contains(&packet_id) && words.out.contains("CAN BE READ"), "{words:?}");
    assert!(!words.out.contains("trawler"), "{words:?}");
    let later = region.lintas("TH", &["--json", "exposure", "--key", "node", "--since", "2100-01-01"]).ok();
    assert_eq!(later.json()["looked_at"], 0);
    for wrong in [["--key", "abc", "--since", "2026-01-01"], ["--key", "node", "--since", "yesterday"]] {
        let said = region.lintas("TH", &[&["exposure"][..], &wrong[..]].concat());
        assert_eq!(said.code, 2, "{said:?}");
    }
}
