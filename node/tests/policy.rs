//! `lintas policy` and `lintas review` as officers run them: several at once, with a locked node, with what is no policy; and what
//! a program that called them reads.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "what a test writes need not survive a power cut")]

mod agency;

use std::{fs, process::Stdio, thread::sleep, time::Duration};

use agency::{Agency, CASES, POLICY, code, words};
use serde_json::Value;

/// The one object on standard error that a program reads, and what it says.
fn refused(agency: &Agency, arguments: &[&str], exit: i32) -> String {
    let said = agency.lintas(&[&["--json"], arguments].concat());
    assert_eq!(code(&said), exit, "{arguments:?}: {}", words(&said));
    let error: Value = serde_json::from_slice(&said.stderr)
        .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", words(&said)));
    assert_eq!(error["exit"], exit, "{error}");
    if !said.stdout.is_empty() {
        serde_json::from_slice::<Value>(&said.stdout).unwrap();
    }
    error["error"]["message"].as_str().unwrap().to_owned()
}

fn newest(agency: &Agency) -> u64 {
    agency.json(&["policy", "history"])["newest"].as_u64().unwrap()
}

#[test]
fn a_program_reads_one_object_from_every_policy_command_that_fails() {
    let agency = Agency::new();
    let typo = POLICY.replace("resource in", "resource inn");
    let wrong = agency.policy("wrong", &typo, CASES);
    let failing = agency.policy("failing", POLICY, &CASES.replace("\"release\"", "\"deny\""));
    let sound = agency.policy("sound", POLICY, CASES);
    let long = agency.policy("long", &"// x\n".repeat(2 << 20), CASES);
    let nowhere = agency.path("nowhere").to_str().unwrap().to_owned();
    for (arguments, exit, tells) in [
        (&["policy", "check", &wrong][..], 6, "mistake"),
        (&["policy", "test", &wrong], 6, "policy.cedar:7"),
        (&["policy", "publish", &wrong, "--yes"], 6, "policy.cedar:7"),
        (&["policy", "explain", "--policy", &wrong], 6, "policy.cedar:7"),
        (&["policy", "who-could-receive", "--policy", &wrong], 6, "policy.cedar:7"),
        (&["policy", "diff", &wrong], 6, "policy.cedar:7"),
        (&["policy", "test", &failing], 6, "1 of 1 case"),
        (&["policy", "publish", &failing, "--yes"], 6, "an alert among ourselves"),
        (&["policy", "check", &long], 6, "at most 262144 are allowed"),
        (&["policy", "publish", &long, "--yes"], 6, "at most 262144 are allowed"),
        (&["policy", "check", &nowhere], 7, "there is no such file"),
        (&["policy", "new", "--out", &sound], 2, ""),
        (&["policy", "show", "9"], 7, "9"),
        (&["policy", "replay"], 7, "lintas audit mirror"),
        (&["policy", "publish", &sound], 2, "--yes"),
        (&["policy", "publish", &sound, "--yes", "--not-before", "1999-01-01"], 6, "--not-before"),
        (&["policy", "publish", &sound, "--yes", "--note", &"x".repeat(300)], 6, "256"),
        // The folder `policy`, beside whoever types it.
        (&["policy", "publish"], 7, "there is no such file"),
        (&["policy", "sing"], 2, "sing"),
        (&["review", "0190a5b2-7c00-7abc-8def-0123456789ab"], 7, ""),
        (&["review", "00", "--release", "--by", "x", "--yes"], 2, "NAME, OFFICE"),
    ] {
        let message = refused(&agency, arguments, exit);
        assert!(message.contains(tells), "{arguments:?}: {message}");
    }
    assert_eq!(newest(&agency), 1, "the one in force stays in force");
    for arguments in [
        &["policy", "check", &sound][..],
        &["policy", "test", &sound],
        &["policy", "explain", "--from", "TH-MAR", "--policy", &sound],
        &["policy", "who-could-receive", "--from", "TH-MAR", "--policy", &sound],
        &["policy", "diff", &sound],
        &["policy", "history"],
        &["policy", "show"],
        &["policy", "publish", &sound, "--yes"],
        &["review"],
    ] {
        agency.json(arguments);
    }
    // To people the list of what is wrong stands beside the sentence.
    let told = words(&agency.lintas(&["policy", "publish", &wrong, "--yes"]));
    assert!(told.contains("to do:") && told.contains("the policy in force stays in force"), "{told}");
}

#[test]
fn of_two_officers_who_publish_at_once_one_is_told_to_look_again() {
    let agency = Agency::new();
    let mut daemon = agency.daemon(&[]);
    while agency.json(&["status"])["daemon"] == false {
        sleep(Duration::from_millis(100));
    }
    let first = agency.policy("first", POLICY, CASES);
    let second = agency.policy("second", &POLICY.replace("may have", "have"), CASES);
    let publish = |folder: &str| {
        let mut command = agency.command(&["--json", "policy", "publish", folder, "--yes"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let both = [publish(&first), publish(&second)].map(|child| child.wait_with_output().unwrap());
    let done = both.iter().filter(|said| code(said) == 0).count() as u64;
    for said in both.iter().filter(|said| code(said) != 0) {
        assert_eq!(code(said), 6, "{}", words(said));
        assert!(words(said).contains("nothing was published"), "{}", words(said));
    }
    assert!(done >= 1);
    assert_eq!(newest(&agency), 1 + done, "each that was told so is there, and no other");
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

#[test]
fn a_locked_node_publishes_nothing_and_shows_what_needs_no_keys() {
    let agency = Agency::new();
    let mut daemon = agency.daemon(&[]);
    while agency.json(&["status"])["daemon"] == false {
        sleep(Duration::from_millis(100));
    }
    assert_eq!(code(&agency.lintas(&["lock"])), 0);
    let sound = agency.policy("sound", POLICY, CASES);
    let message = refused(&agency, &["policy", "publish", &sound, "--yes"], 14);
    assert!(message.contains("lintas unlock"), "{message}");
    refused(&agency, &["review"], 14);
    assert_eq!(newest(&agency), 1);
    for arguments in [
        &["policy", "check", &sound][..],
        &["policy", "test", &sound],
        &["policy", "explain", "--from", "TH-MAR", "--policy", &sound],
        &["policy", "show"],
    ] {
        agency.json(arguments);
    }
    assert_eq!(code(&agency.lintas(&["unlock"])), 0);
    agency.json(&["policy", "publish", &sound, "--yes"]);
    assert_eq!(newest(&agency), 2);
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

#[test]
fn an_agency_without_a_policy_sends_nothing_and_is_told_how_to_begin() {
    let agency = Agency::without_policy();
    let draft = agency.draft("TH/TH-VIC");
    let message = refused(&agency, &["send", &draft], 6);
    assert!(message.contains("has not published a release policy") && message.contains("lintas policy new"));
    let new = agency.path("new").to_str().unwrap().to_owned();
    assert_eq!(code(&agency.lintas(&["policy", "new", "--out", &new])), 0);
    agency.json(&["policy", "publish", &new, "--yes"]);
    // A disk that fails in the middle: nothing is published, and the next attempt is.
    let part = agency.data().join("policy/.000002.bin.part");
    fs::create_dir(&part).unwrap();
    let message = refused(&agency, &["policy", "publish", &new, "--yes"], 10);
    assert!(message.contains("nothing was published") && message.contains("Make room"), "{message}");
    assert_eq!(newest(&agency), 1);
    fs::remove_dir(&part).unwrap();
    agency.json(&["policy", "publish", &new, "--yes"]);
    assert_eq!(newest(&agency), 2);
}
