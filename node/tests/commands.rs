//! The command `lintas` as an officer runs it: a real process, its words, its exit codes.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "what a test writes need not survive a power cut")]

mod agency;

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command, thread::sleep, time::Duration};

use agency::{Agency, code, wait_for, words};

#[test]
fn an_officer_sends_offline_looks_and_is_told_what_to_do() {
    let agency = Agency::new();
    let again = agency.lintas(&["send", &agency.draft("TH/TH-XXX")]);
    assert_eq!(code(&again), 6);
    assert!(words(&again).contains("its units are TH-MAR, TH-VIC"), "{}", words(&again));

    let draft = agency.draft("TH/TH-VIC");
    let sent = agency.json(&["send", &draft]);
    let id = sent["packet_id"].as_str().unwrap();
    assert_eq!(agency.json(&["outbox"])["packets"][0]["state"], "waiting");
    let shown = words(&agency.lintas(&["show", id]));
    assert!(shown.contains(r"Trawler \u{1b}[2J off Ranong") && !shown.contains('\u{1b}'), "{shown}");
    assert!(shown.contains("signed by TH/TH-MAR") && shown.contains(" UTC"), "{shown}");
    assert_eq!(agency.json(&["status"])["waiting"], 1);
    // The passphrase file of this test is open to others, by the usual umask or by this.
    fs::set_permissions(agency.path("passphrase"), fs::Permissions::from_mode(0o644)).unwrap();
    let warned = words(&agency.lintas(&["status"]));
    assert!(warned.contains("WARNING: others may read") && warned.contains("chmod 600"), "{warned}");

    let missing = agency.lintas(&["show", "0190a5b2-7c00-7abc-8def-0123456789ab"]);
    assert_eq!(code(&missing), 7, "{}", words(&missing));
    let init = ["init", "--region", "r", "--agency", "TH", "--name", "n", "--unit", "A=B, spoc"];
    assert_eq!(code(&agency.lintas(&[&init[..], &["--broker", "127.0.0.1:9"]].concat())), 3);
    assert_eq!(code(&agency.lintas(&["send"])), 2);
    fs::write(agency.path("passphrase"), "another passphrase").unwrap();
    let locked = agency.lintas(&["inbox"]);
    assert_eq!(code(&locked), 4, "{}", words(&locked));
    assert!(words(&locked).contains("passphrase"), "{}", words(&locked));
}

#[test]
fn a_daemon_answers_commands_and_ends_cleanly() {
    let agency = Agency::new();
    let draft = agency.draft("TH/TH-VIC");
    let mut killed = agency.daemon(&[]);
    wait_for(&agency.data().join("control.sock"));
    killed.kill().unwrap();
    killed.wait().unwrap();
    // The socket of the killed one is still there; a command is in nobody's way.
    assert_eq!(agency.json(&["status"])["daemon"], false);
    let mut daemon = agency.daemon(&[]);
    while agency.json(&["status"])["daemon"] == false {
        sleep(Duration::from_millis(100));
    }
    // The daemon has the keys; commands need none.
    fs::remove_file(agency.path("passphrase")).unwrap();
    let waited = agency.lintas(&["send", &draft, "--wait", "1"]);
    assert_eq!(code(&waited), 8, "{}", words(&waited));
    assert!(words(&waited).contains("Kept, will be sent"), "{}", words(&waited));
    let status = words(&agency.lintas(&["status"]));
    assert!(status.contains("not connected") && status.contains("1 without an answer"), "{status}");
    let id = daemon.id().to_string();
    // What may not follow is not taken up, also when the operator asks for it.
    fs::write(agency.data().join("directory.bin"), "not a directory").unwrap();
    assert!(Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
    while agency.json(&["status"])["warnings"].is_null() {
        sleep(Duration::from_millis(100));
    }
    let status = words(&agency.lintas(&["status"]));
    assert!(status.contains("WARNING: directory.bin is not believed") && status.contains("version 1, valid"));
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert!(daemon.wait().unwrap().success());
    assert!(!agency.data().join("control.sock").exists());
    let log = fs::read_to_string(agency.path("log")).unwrap();
    assert!(log.contains("node stops") && !log.contains("Trawler"), "{log}");
}
