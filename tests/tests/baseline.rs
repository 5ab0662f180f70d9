//! The region's baseline policy and its markings, by the authority's commands. Real processes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::{
    ffi::OsStr,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use bytes::Bytes;
use lintas_config::{
    issue::sign_roster,
    policy::{baseline::LEAVES_AFTER_MS, loosening::standing},
    source::mekong,
};
use lintas_proto::{
    canonical, limits,
    schema::{DirectoryBundle, Roster, SignedRoster},
};
use lintas_tests::{
    ROLE_BROKER,
    authority::Authority,
    region::{Said, init_arguments},
};
use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_lintas-demo");
/// Exit codes: a file that cannot be used, a rule of the authority.
const UNUSABLE: i32 = 3;
/// As above.
const FORBIDDEN: i32 = 12;

/// A region with one member, TH.
struct World {
    root: TempDir,
    authority: Authority,
}

impl World {
    fn founded() -> Self {
        let root = TempDir::new().unwrap();
        let authority = Authority::at(Path::new(PROGRAM), &root.path().join("authority"));
        authority.begin(&["TH"], &["TH"], 10_000);
        let broker = root.path().join("broker");
        let made = Command::new(PROGRAM)
            .args([ROLE_BROKER, "init", "--name", "hub.mekong", "--data"])
            .arg(&broker)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let world = Self { root, authority };
        let source = mekong().unwrap();
        let described = source.members.iter().find(|member| member.agency == "TH").unwrap();
        let identity = world.root.path().join("identity.hex");
        let init = init_arguments(&source, described, SocketAddr::from(([127, 0, 0, 1], 9)), &identity);
        let _ = world.node(&init).ok();
        let request = world.root.path().join("TH/join-request.bin");
        world.authority.found(&broker.join("broker.roster"), &[request]);
        world
    }

    fn node<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Said {
        let (data, key) = (self.root.path().join("TH"), self.root.path().join("TH.unlock"));
        let begin = [OsStr::new("--data"), data.as_os_str(), OsStr::new("--key-file"), key.as_os_str()];
        let all: Vec<&OsStr> = begin.into_iter().chain(arguments.iter().map(AsRef::as_ref)).collect();
        self.authority.lintas(&all)
    }

    fn in_force(&self) -> PathBuf {
        self.authority.published().join("directory.bin")
    }

    fn change(&self, what: &[&str]) -> Said {
        let from = self.in_force();
        let begin = ["region", "change", "--from", from.to_str().unwrap()];
        self.authority.lintas(&[&begin[..], what].concat())
    }

    fn inspect(&self, what: &[&str]) -> Said {
        let directory = self.in_force();
        self.authority.lintas(&[what, &["region", "inspect", directory.to_str().unwrap()]].concat()).ok()
    }

    /// Writes a file of the authority's and gives its name.
    fn write(&self, name: &str, text: &str) -> String {
        let path = self.authority.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The sample's baseline, and the same without that policy.
    fn without(&self, id: &str) -> (String, String) {
        let text = mekong().unwrap().baseline.unwrap().text;
        let roster = Roster { baseline: text.clone(), ..Roster::default() };
        let all = standing(&roster);
        let rest = all.iter().filter(|policy| policy.id() != id).map(|policy| format!("{}\n", policy.text));
        let rest: String = rest.collect();
        assert!(rest.len() < text.trim().len());
        (text, rest)
    }

    fn roster(&self) -> (DirectoryBundle, Roster) {
        let bytes = Bytes::from(fs::read(self.in_force()).unwrap());
        let bundle: DirectoryBundle = canonical::decode(&bytes, limits::DIRECTORY_BYTES_MAX).unwrap();
        let signed: SignedRoster = canonical::decode(&bundle.roster, limits::ROSTER_BYTES_MAX).unwrap();
        let roster = canonical::decode(&signed.roster, limits::ROSTER_BYTES_MAX).unwrap();
        (bundle, roster)
    }
}

fn refused(said: &Said, code: i32, says: &str) {
    assert_eq!(said.code, code, "{said:?}");
    assert!(said.err.contains(says), "`{says}` is not in {said:?}");
}

#[test]
fn a_baseline_changes_by_a_roster_and_what_it_loses_forbids_for_fourteen_days() {
    let world = World::founded();
    let (_, less) = world.without("baseline/noforn");
    let shown = world.inspect(&[]).out;
    assert!(shown.contains("baseline/noforn: the label says NOFORN"), "{shown}");
    // A mistake is told with its place, and nothing is drafted.
    let bad = world.write("bad/policy.cedar", &less.replacen("\nforbid (", "\nforbit (", 1));
    let said = world.change(&["--baseline", &bad, "--out", "bad.bin"]);
    refused(&said, UNUSABLE, "policy.cedar, line 4, column 1: ");
    assert!(!world.authority.path("bad.bin").exists());

    let file = world.write("less/policy.cedar", &less);
    let said = world.change(&["--baseline", &file, "--out", "less.bin"]).ok();
    let goes = "region: LOOSENING: the baseline policy baseline/noforn goes: it still forbids until 20";
    assert!(said.out.contains(goes), "{said:?}");
    world.authority.sign_and_publish("less.bin", &[1, 2]);
    let (_, roster) = world.roster();
    assert_eq!(roster.leaving[0].until_ms, roster.not_before_ms + LEAVES_AFTER_MS);
    let shown = world.inspect(&[]).out;
    assert!(
        shown.contains("baseline/noforn: the label says NOFORN")
            && shown.contains("(was taken out, forbids until")
    );
    let directory = world.in_force();
    let full = ["region", "inspect", "--baseline", directory.to_str().unwrap()];
    let text = world.authority.lintas(&full).ok().out;
    assert!(text.contains("// Was taken out; forbids until") && text.contains("@id(\"noforn\")"), "{text}");
    let json = world.authority.lintas(&[&["--json"], &full[..]].concat()).ok().json();
    let left: Vec<&Value> =
        json["policies"].as_array().unwrap().iter().filter(|one| one["until_ms"].is_u64()).collect();
    assert_eq!((left.len(), left[0]["id"].as_str()), (1, Some("baseline/noforn")));
    // The member takes it.
    for name in ["bootstrap.toml", "directory.bin"] {
        fs::copy(world.authority.published().join(name), world.root.path().join("TH").join(name)).unwrap();
    }
    assert_eq!(world.node(&["--json", "status"]).ok().json()["roster_version"], 2);
    let folder = world.authority.published();
    let history =
        world.authority.lintas(&["--json", "region", "history", folder.to_str().unwrap()]).ok().json();
    assert_eq!(history["versions"][1]["changes"][0]["loosens"], true, "{history}");
}

#[test]
fn no_office_signs_a_roster_that_ends_a_forbid_at_once() {
    let world = World::founded();
    let (_, less) = world.without("baseline/noforn");
    let _ = world.change(&["--renew", "--out", "renew.bin"]).ok();
    // As `change` never drafts it: the policy is gone, and leaves nothing behind.
    let (bundle, mut roster) = world.roster();
    let signed: SignedRoster = canonical::decode(&bundle.roster, limits::ROSTER_BYTES_MAX).unwrap();
    roster.prev_hash = Bytes::copy_from_slice(&lintas_proto::id::sha256(&[&signed.roster]));
    (roster.version, roster.baseline) = (2, less);
    let unsigned = canonical::encode(&sign_roster(&roster, &[]).unwrap());
    let forged = DirectoryBundle { roster: unsigned, keysets: bundle.keysets };
    fs::write(world.authority.path("forged.bin"), canonical::encode(&forged)).unwrap();
    let against = world.in_force();
    let review = ["region", "review", "forged.bin", "--against", against.to_str().unwrap()];
    let said = world.authority.lintas(&review);
    refused(&said, FORBIDDEN, "ends the policy `baseline/noforn` of the regional baseline too early");
    assert!(said.out.contains("goes AT ONCE, which no node accepts"), "{said:?}");
    refused(&world.authority.sign(1, "forged.bin"), FORBIDDEN, "baseline/noforn");
    assert!(!world.authority.path("forged-signed-1.bin").exists());
    world.authority.sign_and_publish("renew.bin", &[1, 2]);
}

#[test]
fn markings_change_by_a_roster_and_are_shown_as_a_table() {
    let world = World::founded();
    let shown = world.inspect(&[]).out;
    let row = shown.lines().find(|line| line.trim_start().starts_with("3 ")).unwrap();
    assert!(row.contains("LAP-MAK") && row.contains("TOI-MAT") && row.contains("SECRET"), "{row}");
    assert!(shown.contains("may use what it receives for: prevention+investigation"), "{shown}");
    let found = world.inspect(&["--json"]).json();
    assert_eq!(found["equivalents"][1]["rank"], 3);
    assert_eq!(found["members"][0]["units"][0]["purposes"][0], "prevention");

    let sources = fs::read_to_string(world.authority.sources().join("region.toml")).unwrap();
    let file = world.write("schemes.toml", &sources.replace("LAP-MAK = 3", "LAP-MAK = 33"));
    refused(&world.change(&["--schemes", &file, "--out", "x.bin"]), UNUSABLE, "a number from 1 to 9");
    let file = world.write("schemes.toml", &sources.replace("LAP-MAK = 3", "LAP-MAK = 2"));
    let said = world.change(&["--schemes", &file, "--out", "schemes.bin"]).ok();
    let lower = "region: LOOSENING: the marking TH/LAP-MAK has rank 2 (before: 3)";
    assert!(said.out.contains(lower), "{said:?}");
    world.authority.sign_and_publish("schemes.bin", &[1, 2]);
    let shown = world.inspect(&[]).out;
    assert!(shown.contains("LAP, LAP-MAK"), "{shown}");
}
