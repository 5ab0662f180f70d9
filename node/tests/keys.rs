//! Locked nodes, purges and keys as an operator meets them: real processes, their words, their exit codes.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "what a test writes need not survive a power cut")]

mod agency;

use std::{
    fs,
    process::{Command, Stdio},
};

use agency::{Agency, code, wait_for, words};

fn until(mut holds: impl FnMut() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("it does not come about");
}

fn end(daemon: &mut std::process::Child) {
    let id = daemon.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert!(daemon.wait().unwrap().success());
}

#[test]
fn a_locked_node_answers_everything_with_locked_until_it_is_unlocked() {
    let agency = Agency::new();
    let alone = agency.lintas(&["lock"]);
    assert!(code(&alone) == 0 && words(&alone).contains("nobody has the keys"), "{alone:?}");
    assert_eq!(code(&agency.lintas(&["unlock"])), 2);
    let mut daemon = agency.daemon(&[]);
    wait_for(&agency.data().join("control.sock"));
    let draft = agency.draft("TH/TH-VIC");
    let kept = agency.json(&["send", &draft]);
    let id = kept["packet_id"].as_str().unwrap();
    let locked = agency.json(&["lock"]);
    assert_eq!((&locked["locked"], &locked["daemon"]), (&true.into(), &true.into()));
    // Nobody gets the folder meanwhile, and nobody's passphrase is of use but to unlock.
    let commands: [&[&str]; 6] =
        [&["inbox"], &["outbox"], &["show", id], &["send", &draft], &["keys"], &["purge", id, "--yes"]];
    for command in commands {
        let said = agency.lintas(command);
        assert_eq!(code(&said), 14, "{command:?}: {}", words(&said));
        assert!(words(&said).contains("lintas unlock"), "{}", words(&said));
    }
    assert_eq!(code(&agency.lintas(&["lock"])), 0, "it is locked already");
    let status = agency.lintas(&["status"]);
    assert!(code(&status) == 0 && words(&status).contains("LOCKED since"), "{}", words(&status));
    assert_eq!(agency.json(&["status"])["locked"], true);
    // SIGHUP, which asks for a look at the directory, does no harm.
    let pid = daemon.id().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    fs::write(agency.path("passphrase"), "another passphrase\n").unwrap();
    let wrong = agency.lintas(&["unlock"]);
    assert!(code(&wrong) == 4 && words(&wrong).contains("nothing was opened"), "{}", words(&wrong));
    assert_eq!(agency.json(&["status"])["locked"], true);
    fs::write(agency.path("passphrase"), "a long passphrase\n").unwrap();
    let unlocked = agency.json(&["unlock"]);
    assert_eq!((&unlocked["daemon"], &unlocked["waiting"]), (&true.into(), &1.into()));
    assert_eq!(code(&agency.lintas(&["show", id])), 0);
    assert_eq!(code(&agency.lintas(&["unlock"])), 0, "it is not locked");
    // Again and again, and it ends cleanly also while it is locked.
    assert_eq!(code(&agency.lintas(&["lock"])), 0);
    end(&mut daemon);
    assert!(!agency.data().join("control.sock").exists());
    let log = fs::read_to_string(agency.path("log")).unwrap();
    assert!(log.contains("node is locked") && log.contains("node stops"), "{log}");
    assert!(!log.contains("a long passphrase") && !log.contains("another passphrase"), "{log}");
}

#[test]
fn a_node_starts_locked_without_a_secret() {
    let agency = Agency::new();
    fs::remove_file(agency.path("passphrase")).unwrap();
    let mut daemon = agency.daemon(&["--locked"]);
    wait_for(&agency.data().join("control.sock"));
    assert_eq!(agency.json(&["status"])["locked"], true);
    fs::write(agency.path("passphrase"), "a long passphrase\n").unwrap();
    assert_eq!(agency.json(&["unlock"])["agency"], "TH");
    until(|| fs::read_to_string(agency.path("log")).unwrap().contains("node runs"));
    end(&mut daemon);
}

#[test]
fn a_purge_asks_first_and_leaves_what_waits() {
    let agency = Agency::new();
    let kept = agency.json(&["send", &agency.draft("TH/TH-VIC")]);
    let id = kept["packet_id"].as_str().unwrap();
    let waits = agency.lintas(&["purge", id, "--yes"]);
    assert_eq!(code(&waits), 8, "{}", words(&waits));
    assert!(
        words(&waits).contains("still waiting") && words(&waits).contains("lintas run"),
        "{}",
        words(&waits)
    );
    let nothing = agency.lintas(&["purge", "--before", "2999-01-01"]);
    assert!(code(&nothing) == 0 && words(&nothing).contains("1 packets are left"), "{}", words(&nothing));
    assert_eq!(code(&agency.lintas(&["purge"])), 2);
    assert_eq!(code(&agency.lintas(&["purge", "--before", "yesterday"])), 2);
    assert_eq!(code(&agency.lintas(&["purge", "00000000", "--yes"])), 7);
    // Revoking asks too.
    let asked = agency.lintas(&["keys", "revoke"]);
    assert!(code(&asked) == 2 && words(&asked).contains("--yes"), "{}", words(&asked));
    assert_eq!(agency.json(&["keys"])["revoked"], false);
}

#[test]
fn the_identity_key_needs_a_secret_of_its_own() {
    let agency = Agency::without_node();
    let init = agency.init();
    let missing = agency.command(&init).env_remove("LINTAS_IDENTITY_PASSPHRASE_FILE").output().unwrap();
    assert_eq!(code(&missing), 4, "{}", words(&missing));
    let said = words(&missing);
    assert!(
        said.contains("LINTAS_IDENTITY_PASSPHRASE_FILE") && said.contains("--identity-key-file"),
        "{said}"
    );
    let mut same = agency.command(&init);
    let same = same.env("LINTAS_IDENTITY_PASSPHRASE_FILE", agency.path("passphrase")).output().unwrap();
    assert!(code(&same) == 4 && words(&same).contains("of its own"), "{}", words(&same));
    assert!(!agency.data().join("node.toml").exists());
    let made = agency.lintas(&init);
    assert_eq!(code(&made), 0, "{}", words(&made));
    assert!(words(&made).contains("Identity key (read it to others"), "{}", words(&made));
}

#[test]
fn a_revocation_from_paper_takes_the_agency_out() {
    let agency = Agency::new();
    let paper = agency.data().join("revocation.txt");
    let typed = agency.path("typed.txt");
    let text = fs::read_to_string(&paper).unwrap();
    let line = text.lines().find(|line| !line.starts_with('#')).unwrap();
    let typo = if line.starts_with('B') { "C" } else { "B" };
    fs::write(&typed, text.replacen(line, &line.replacen(|_: char| true, typo, 1), 1)).unwrap();
    let revoke = |file: &std::path::Path| {
        agency.lintas(&["keys", "revoke", "--yes", "--revocation", file.to_str().unwrap()])
    };
    let mistyped = revoke(&typed);
    assert!(code(&mistyped) == 3 && words(&mistyped).contains("mistyped"), "{}", words(&mistyped));
    let renewed = ["keys", "renew", "--identity", "identity.key"];
    let identity = agency.data().join("identity.key");
    let renew = agency.lintas(&[&renewed[..3], &[identity.to_str().unwrap()]].concat());
    assert_eq!(code(&renew), 0, "{}", words(&renew));
    assert!(
        words(&renew).contains("delegation 2") && words(&renew).contains("is void now"),
        "{}",
        words(&renew)
    );
    assert_ne!(fs::read_to_string(&paper).unwrap(), text);
    let revoked = revoke(&paper);
    assert_eq!(code(&revoked), 0, "{}", words(&revoked));
    assert!(words(&revoked).contains("REVOKED: the region does not know it yet"), "{}", words(&revoked));
    let again = agency.lintas(&[&renewed[..3], &[identity.to_str().unwrap()]].concat());
    assert!(code(&again) == 3 && words(&again).contains("new identity"), "{}", words(&again));
}

#[test]
fn a_new_machine_takes_the_place_of_the_old_one() {
    let agency = Agency::new();
    let (identity, directory) = (agency.data().join("identity.key"), agency.data().join("directory.bin"));
    let new = agency.path("new");
    let mut replace = agency.command(&["init", "--replace", "--broker", "127.0.0.1:9", "--identity"]);
    replace.arg(&identity).arg("--directory").arg(&directory).env("LINTAS_DATA", &new);
    let made = replace.output().unwrap();
    assert_eq!(code(&made), 0, "{}", words(&made));
    assert!(words(&made).contains("version 2") && words(&made).contains("keys publish"), "{}", words(&made));
    fs::copy(agency.data().join("bootstrap.toml"), new.join("bootstrap.toml")).unwrap();
    let early = agency.command(&["status"]).env("LINTAS_DATA", &new).output().unwrap();
    assert!(code(&early) == 3 && words(&early).contains("keys publish"), "{}", words(&early));
    // Any node of the region can bring the keyset; here it is the old one.
    let keyset = new.join("keyset.bin");
    let brought = agency.json(&["keys", "publish", keyset.to_str().unwrap()]);
    assert_eq!(brought["to_publish"][0], "TH");
    // With the wrong identity key nothing is made.
    let other = Agency::new();
    let other_identity = other.data().join("identity.key");
    let mut wrong = agency.command(&["init", "--replace", "--broker", "127.0.0.1:9", "--identity"]);
    wrong.arg(&other_identity).arg("--directory").arg(&directory);
    let wrong = wrong.env("LINTAS_DATA", agency.path("other")).output().unwrap();
    assert!(code(&wrong) == 3 && words(&wrong).contains("no agency"), "{}", words(&wrong));
    assert!(!agency.path("other").join("node.toml").exists());
}

#[test]
fn a_lock_stops_the_sealing_of_a_large_file_and_the_officer_is_told() {
    let agency = Agency::new();
    let mut daemon = agency.daemon(&[]);
    wait_for(&agency.data().join("control.sock"));
    let file = agency.path("large.bin");
    fs::File::create(&file).unwrap().set_len(4 << 30).unwrap();
    let draft = agency.draft("TH/TH-VIC");
    let mut send = agency.command(&["send", &draft, "--attach", file.to_str().unwrap()]);
    let send = send.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let sealed = || fs::read_dir(agency.data().join("blobs/out")).unwrap().count();
    until(|| sealed() == 1);
    let locked = agency.lintas(&["lock"]);
    assert_eq!(code(&locked), 0, "{}", words(&locked));
    let send = send.wait_with_output().unwrap();
    assert!(code(&send) == 14 && words(&send).contains("nothing was sealed"), "{}", words(&send));
    assert_eq!(sealed(), 0);
    assert_eq!(agency.json(&["status"])["locked"], true);
    end(&mut daemon);
}
