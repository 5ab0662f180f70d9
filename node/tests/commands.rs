//! The command `lintas` as an officer runs it: a real process, its words, its exit codes.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "what a test writes need not survive a power cut")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use lintas_config::{
    Bootstrap,
    issue::{bundle, fresh_seed, new_broker, sign_roster},
    os_entropy,
};
use lintas_proto::{
    canonical, limits,
    schema::{JoinRequest, Roster},
    sign::{KeyRole, SigningKey, VerifyingKey},
};
use serde_json::Value;
use tempfile::TempDir;

const LINTAS: &str = env!("CARGO_BIN_EXE_lintas");

/// An agency's folder, member of a region whose broker is away.
struct Agency {
    root: TempDir,
}

impl Agency {
    fn new() -> Self {
        let agency = Self { root: TempDir::new().unwrap() };
        fs::write(agency.path("passphrase"), "a long passphrase\n").unwrap();
        fs::write(agency.path("identity-passphrase"), "a secret of its own\n").unwrap();
        let made = agency.lintas(&[
            "init",
            "--region",
            "mekong",
            "--agency",
            "TH",
            "--name",
            "Royal Thai Police",
            "--country",
            "TH",
            "--unit",
            "TH-MAR=Marine Police, maritime",
            "--unit",
            "TH-VIC=Victim Protection, victim-protection",
            "--broker",
            "127.0.0.1:9",
        ]);
        assert_eq!(code(&made), 0, "{made:?}");
        agency.join();
        agency
    }

    /// The region authority's work.
    fn join(&self) {
        let mut entropy = os_entropy();
        let authority = SigningKey::from_seed(KeyRole::Authority, &fresh_seed(&mut entropy)).unwrap();
        let (_, broker) = new_broker("hub.mekong", &mut entropy).unwrap();
        let request = Bytes::from(fs::read(self.data().join("join-request.bin")).unwrap());
        let request: JoinRequest = canonical::decode(&request, limits::KEYSET_BYTES_MAX).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let now = u64::try_from(now).unwrap();
        let roster = Roster {
            format: 1,
            region: "mekong".to_owned(),
            version: 1,
            not_before_ms: now - 1_000,
            not_after_ms: now + 1_000_000_000,
            authority_keys: vec![Bytes::copy_from_slice(&authority.public_key())],
            threshold: 1,
            members: vec![request.member.unwrap()],
            brokers: vec![broker],
            suite_min: 1,
            epoch_ms: 10_000,
            ..Roster::default()
        };
        let key = VerifyingKey::parse(&authority.public_key()).unwrap();
        let bootstrap = Bootstrap { region: "mekong".to_owned(), authority_keys: vec![key], threshold: 1 };
        let signed = sign_roster(&roster, &[authority]).unwrap();
        fs::write(self.data().join("bootstrap.toml"), bootstrap.to_text()).unwrap();
        fs::write(self.data().join("directory.bin"), bundle(&signed, vec![request.keyset.unwrap()])).unwrap();
        fs::write(self.data().join("node.toml"), "broker = \"127.0.0.1:9\"\nsegment_mib = 1\n").unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn data(&self) -> PathBuf {
        self.path("data")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(LINTAS);
        command.args(arguments).stdin(Stdio::null());
        command.env_remove("LINTAS_KEY_FILE").env("LINTAS_DATA", self.data());
        command.env("LINTAS_PASSPHRASE_FILE", self.path("passphrase"));
        command.env("LINTAS_IDENTITY_PASSPHRASE_FILE", self.path("identity-passphrase"));
        command
    }

    fn lintas(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let said = self.lintas(&[&["--json"], arguments].concat());
        assert_eq!(code(&said), 0, "{said:?}");
        serde_json::from_slice(&said.stdout).unwrap()
    }

    fn draft(&self, to: &str) -> String {
        let path = self.path("draft.json");
        let text = format!(
            r#"{{ "kind": "ALERT", "from": "TH-MAR", "to": ["{to}"], "onward": "ONWARD_NONE",
                "label": {{ "tlp": "TLP_AMBER", "handling": ["HANDLING_CODE_H1", "HANDLING_CODE_H0"],
                            "purposes": ["PURPOSE_INVESTIGATION"] }},
                "body": {{ "title": [{{ "language": "en", "text": "Trawler \u001b[2J off Ranong" }}],
                           "urgency": "URGENCY_URGENT", "pap": "PAP_AMBER", "origin": "ORIGIN_HUMAN",
                           "alert": {{ "suspected": ["OFFENCE_FORCED_LABOUR"] }} }} }}"#
        );
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn daemon(&self) -> Child {
        let log = fs::File::create(self.path("log")).unwrap();
        self.command(&["run"]).stderr(log).spawn().unwrap()
    }
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

fn wait_for(path: &Path) {
    for _ in 0..600 {
        if path.exists() {
            return;
        }
        sleep(Duration::from_millis(50));
    }
    panic!("{} does not come", path.display());
}

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
    let mut killed = agency.daemon();
    wait_for(&agency.data().join("control.sock"));
    killed.kill().unwrap();
    killed.wait().unwrap();
    // The socket of the killed one is still there; a command is in nobody's way.
    assert_eq!(agency.json(&["status"])["daemon"], false);
    let mut daemon = agency.daemon();
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
