//! An agency's folder and its commands, for the tests of commands.

#![allow(dead_code, reason = "each file of tests uses its part")]
#![allow(unreachable_pub, reason = "as above")]

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
    schema::{JoinRequest, Purpose, Roster},
    sign::{KeyRole, SigningKey, VerifyingKey},
};
use serde_json::Value;
use tempfile::TempDir;

const LINTAS: &str = env!("CARGO_BIN_EXE_lintas");

/// What leaves the agency, and what it takes: what its own units write to each other.
pub(crate) const POLICY: &str = r#"@id("own-units")
@reason("units of our own agency may have what we write")
permit (principal in Lintas::Agency::"TH", action == Lintas::Action::"Release", resource);

@id("accept-own")
@reason("we take what we write ourselves")
permit (principal, action == Lintas::Action::"Accept", resource in Lintas::Agency::"TH");
"#;

/// A case of it.
pub(crate) const CASES: &str = r#"[[case]]
name = "an alert among ourselves"
from = "TH/TH-MAR"
to = "TH/TH-VIC"
kind = "ALERT"
tlp = "AMBER"
purposes = ["INVESTIGATION"]
expect = "release"
"#;

/// An agency's folder, member of a region whose broker is away.
pub(crate) struct Agency {
    root: TempDir,
}

impl Agency {
    pub(crate) fn new() -> Self {
        let agency = Self::without_policy();
        let policy = agency.policy("policy", POLICY, CASES);
        let published = agency.lintas(&["policy", "publish", &policy, "--yes"]);
        assert_eq!(code(&published), 0, "{}", words(&published));
        agency
    }

    /// It has published none: nothing leaves it.
    pub(crate) fn without_policy() -> Self {
        let agency = Self::without_node();
        let made = agency.lintas(&agency.init());
        assert_eq!(code(&made), 0, "{made:?}");
        agency.join();
        agency
    }

    /// A policy folder, as an officer has written it; its path.
    pub(crate) fn policy(&self, name: &str, policies: &str, cases: &str) -> String {
        let folder = self.path(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("policy.cedar"), policies).unwrap();
        fs::write(folder.join("cases.toml"), cases).unwrap();
        folder.to_str().unwrap().to_owned()
    }

    /// Only its two passphrases.
    pub(crate) fn without_node() -> Self {
        let agency = Self { root: TempDir::new().unwrap() };
        for (name, secret) in
            [("passphrase", "a long passphrase\n"), ("identity-passphrase", "a secret of its own\n")]
        {
            fs::write(agency.path(name), secret).unwrap();
            fs::set_permissions(agency.path(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        agency
    }

    /// How it is founded.
    #[allow(clippy::unused_self, reason = "reads like the other things that an agency does")]
    pub(crate) fn init(&self) -> [&'static str; 15] {
        [
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
        ]
    }

    /// The region authority's work.
    fn join(&self) {
        let mut entropy = os_entropy();
        let authority = SigningKey::from_seed(KeyRole::Authority, &fresh_seed(&mut entropy)).unwrap();
        let (_, broker) = new_broker("hub.mekong", &mut entropy).unwrap();
        let request = Bytes::from(fs::read(self.data().join("join-request.bin")).unwrap());
        let request: JoinRequest = canonical::decode(&request, limits::KEYSET_BYTES_MAX).unwrap();
        let mut member = request.member.unwrap();
        // What the authority registers its units for.
        member.units.iter_mut().for_each(|unit| unit.purposes = vec![Purpose::Investigation as i32]);
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
            members: vec![member],
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

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path("data")
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(LINTAS);
        command.args(arguments).stdin(Stdio::null());
        command.env_remove("LINTAS_KEY_FILE").env("LINTAS_DATA", self.data());
        command.env("LINTAS_PASSPHRASE_FILE", self.path("passphrase"));
        command.env("LINTAS_IDENTITY_PASSPHRASE_FILE", self.path("identity-passphrase"));
        command
    }

    pub(crate) fn lintas(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let said = self.lintas(&[&["--json"], arguments].concat());
        assert_eq!(code(&said), 0, "{said:?}");
        serde_json::from_slice(&said.stdout).unwrap()
    }

    pub(crate) fn draft(&self, to: &str) -> String {
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

    pub(crate) fn daemon(&self, options: &[&str]) -> Child {
        let log = fs::File::create(self.path("log")).unwrap();
        self.command(&[&["run"], options].concat()).stderr(log).spawn().unwrap()
    }
}

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

pub(crate) fn words(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

pub(crate) fn wait_for(path: &Path) {
    for _ in 0..600 {
        if path.exists() {
            return;
        }
        sleep(Duration::from_millis(50));
    }
    panic!("{} does not come", path.display());
}
