//! The region authority's ceremony by its commands, as real processes in folders of their own.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::{
    ffi::{OsStr, OsString},
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use lintas_config::{Bootstrap, source::mekong};
use lintas_tests::{
    ROLE_BROKER,
    authority::{Authority, signed_name},
    region::{Said, init_arguments},
};
use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_lintas-demo");
/// Exit codes: wrong use, a file that cannot be used, a rule of the authority.
const USAGE: i32 = 2;
/// As above.
const UNUSABLE: i32 = 3;
/// As above.
const FORBIDDEN: i32 = 12;
const OFFICES: [&str; 3] = [
    "Regional coordination office, registrar",
    "Presidency of the senior officials, for the time being",
    "Supervisory board of the auditors",
];

/// A region of TH and KH, whose nodes and broker have keys, and its authority.
struct World {
    root: TempDir,
    authority: Authority,
}

impl World {
    /// Keys of everybody; nothing is founded yet.
    fn new() -> Self {
        let root = TempDir::new().unwrap();
        let authority = Authority::at(Path::new(PROGRAM), &root.path().join("authority"));
        authority.begin(&["TH", "KH"], &["TH", "KH"], 10_000);
        let broker = root.path().join("broker");
        let made = Command::new(PROGRAM)
            .args([ROLE_BROKER, "init", "--name", "hub.mekong", "--data"])
            .arg(&broker)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let world = Self { root, authority };
        world.init("TH", "TH");
        world.init("KH", "KH");
        world
    }

    fn founded() -> Self {
        let world = Self::new();
        world.authority.found(&world.broker(), &[world.request("TH"), world.request("KH")]);
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn broker(&self) -> PathBuf {
        self.path("broker").join("broker.roster")
    }

    fn request(&self, folder: &str) -> PathBuf {
        self.path(folder).join("join-request.bin")
    }

    /// Runs `lintas` at an agency.
    fn node<A: AsRef<OsStr>>(&self, folder: &str, arguments: &[A]) -> Said {
        let (data, key) = (self.path(folder), self.path(&format!("{folder}.unlock")));
        let mut all: Vec<OsString> = vec!["--data".into(), data.into(), "--key-file".into(), key.into()];
        all.extend(arguments.iter().map(|argument| argument.as_ref().to_owned()));
        self.authority.lintas(&all)
    }

    /// An agency makes its keys in a folder.
    fn init(&self, agency: &str, folder: &str) {
        let source = mekong().unwrap();
        let described = source.members.iter().find(|member| member.agency == agency).unwrap();
        let broker = SocketAddr::from(([127, 0, 0, 1], 9));
        let identity = self.path(&format!("{folder}-identity.hex"));
        let _ = self.node(folder, &init_arguments(&source, described, broker, &identity)).ok();
    }

    fn in_force(&self) -> PathBuf {
        self.authority.published().join("directory.bin")
    }

    /// Drafts a change of the directory in force.
    fn change(&self, name: &str, what: &[&OsStr]) -> Said {
        let from = self.in_force();
        let mut arguments = ["region", "change", "--out", name, "--from"].map(OsStr::new).to_vec();
        arguments.push(from.as_os_str());
        arguments.extend(what);
        self.authority.lintas(&arguments)
    }

    fn inspect(&self, path: &Path) -> Value {
        let arguments = ["--json", "region", "inspect"].map(OsStr::new);
        self.authority.lintas(&[&arguments[..], &[path.as_os_str()]].concat()).ok().json()
    }

    fn status_of(&self, agency: &str) -> Value {
        let found = self.inspect(&self.in_force());
        let members = found["members"].as_array().unwrap();
        members.iter().find(|member| member["agency"] == agency).unwrap()["status"].clone()
    }

    fn history(&self, more: &[&OsStr]) -> Said {
        let folder = self.authority.published();
        let arguments = ["--json", "region", "history"].map(OsStr::new);
        self.authority.lintas(&[&arguments[..], &[folder.as_os_str()], more].concat())
    }

    /// What a node says of itself with what is published.
    fn node_takes(&self, agency: &str) -> Value {
        for name in ["bootstrap.toml", "directory.bin"] {
            fs::copy(self.authority.published().join(name), self.path(agency).join(name)).unwrap();
        }
        self.node(agency, &["--json", "status"]).ok().json()
    }
}

fn refused(said: &Said, code: i32, says: &str) {
    assert_eq!(said.code, code, "{said:?}");
    assert!(said.err.contains(says), "`{says}` is not in {said:?}");
}

#[test]
fn a_region_is_founded_by_two_of_three_offices_and_by_no_fewer() {
    let world = World::new();
    let authority = &world.authority;
    let mut draft: Vec<OsString> = vec!["region".into(), "draft".into(), "--sources".into()];
    draft.extend([authority.sources().into(), "--broker".into(), world.broker().into(), "--request".into()]);
    draft.extend([world.request("KH").into(), world.request("TH").into(), "--out".into()]);
    draft.extend([authority.path("proposal.bin").into(), "--office".into()]);
    draft.extend([1, 3].map(|office| authority.public(office).into_os_string()));
    refused(&authority.lintas(&draft), FORBIDDEN, OFFICES[1]);
    draft.push(authority.public(2).into());
    let drafted = authority.lintas(&draft).ok().out;
    assert!(drafted.contains("TH: joins: \"Royal Thai Police\" (สำนักงานตำรวจแห่งชาติ), TH"), "{drafted}");
    refused(&authority.lintas(&draft), USAGE, "is there already");

    let proposal = authority.path("proposal.bin");
    let review = ["region", "review"].map(OsStr::new);
    let review = [&review[..], &[proposal.as_os_str(), OsStr::new("--office")]].concat();
    let public = authority.public(3);
    let text = authority.lintas(&[&review[..], &[public.as_os_str()]].concat()).ok().out;
    for says in [
        "The first roster of this region",
        "unit TH-MAR comes",
        "hub.mekong: broker comes",
        "2 of 3 authorities must sign",
        "2 of the authorities must sign, 0 have",
        &format!("MISSING  \"{}\"", OFFICES[2]),
    ] {
        assert!(text.contains(says), "`{says}` is not in {text}");
    }

    // Nobody signs without having been asked.
    let out = authority.path("unasked.bin");
    let unasked = ["region", "sign", "--out"].map(OsStr::new);
    let unasked = authority.office(1, &[&unasked[..], &[out.as_os_str(), proposal.as_os_str()]].concat());
    refused(&unasked, USAGE, "there is nobody to ask");
    assert!(!out.exists());

    let _ = authority.sign(3, "proposal.bin").ok();
    let one = authority.publish(&["proposal-signed-3.bin"]);
    refused(&one, FORBIDDEN, "2 of the authorities: 1 have signed");
    assert!(one.err.contains(OFFICES[0]) && one.err.contains(OFFICES[1]) && !one.err.contains(OFFICES[2]));
    refused(&authority.publish(&["proposal-signed-3.bin"; 2]), FORBIDDEN, "1 have signed");
    assert!(!world.in_force().exists());

    let _ = authority.sign(1, "proposal.bin").ok();
    let done = authority.publish(&["proposal-signed-3.bin", "proposal-signed-1.bin"]).ok().out;
    // A publication that was cut off is done again.
    let again = authority.publish(&["proposal-signed-3.bin", "proposal-signed-1.bin"]).ok().out;
    assert!(again.contains("Who may sign is as before"), "{again}");
    // Every machine makes the same words of its copy.
    let text = fs::read_to_string(authority.published().join("bootstrap.toml")).unwrap();
    let words = Bootstrap::parse(&text).unwrap().words();
    assert!(done.contains(&words), "{done}");
    assert_eq!(world.inspect(&authority.published().join("bootstrap.toml"))["words"], words.as_str());
    let copy = authority.path("carried.bin");
    fs::copy(world.in_force(), &copy).unwrap();
    assert_eq!(world.inspect(&copy)["bootstrap_words"], words.as_str());
    assert_eq!(world.history(&[]).ok().json()["bootstrap_words"], words.as_str());
    assert_eq!(world.node_takes("TH")["roster_version"], 1);

    // What an agency, a broker and an office read out is what the directory says of them.
    let found = world.inspect(&copy);
    let (request, broker) = (world.inspect(&world.request("KH")), world.inspect(&world.broker()));
    assert_eq!(request["identity_key"]["words"], found["members"][0]["identity_key"]["words"]);
    assert_eq!(broker["receipt_key"]["words"], found["brokers"][0]["receipt_key"]["words"]);
    assert_eq!(world.inspect(&authority.public(2))["words"], found["authorities"][1]["words"]);
}

#[test]
fn an_office_signs_one_roster_of_a_version_and_nothing_that_does_not_follow() {
    let world = World::founded();
    let authority = &world.authority;
    for (name, agency) in [("one.bin", "KH"), ("other.bin", "TH")] {
        let _ = world.change(name, &["--suspend", agency].map(OsStr::new)).ok();
    }
    let _ = authority.sign(1, "one.bin").ok();
    refused(&authority.sign(1, "other.bin"), FORBIDDEN, "signed another roster of version 2 already");
    assert!(!authority.path("other-signed-1.bin").exists());
    // The very same one may be signed again, e.g. because the copy was lost on the way.
    fs::remove_file(authority.path("one-signed-1.bin")).unwrap();
    let _ = authority.sign(1, "one.bin").ok();
    // Signatures of two proposals do not add up.
    let _ = authority.sign(2, "other.bin").ok();
    refused(&authority.publish(&["one-signed-1.bin", "other-signed-2.bin"]), FORBIDDEN, "another roster");

    let first = authority.path("first.bin");
    fs::copy(world.in_force(), &first).unwrap();
    let _ = authority.sign(3, "one.bin").ok();
    let _ = authority.publish(&["one-signed-1.bin", "one-signed-3.bin"]).ok();
    // Office 2 signed what was not published; it goes on with what was.
    refused(&authority.sign(2, "other.bin"), FORBIDDEN, "does not follow");
    world.authority.enact("three.bin", &["--reinstate", "KH"]);
    // What was drafted from an old directory does not follow, whichever directory is shown to the office.
    let late = authority.path("late.bin");
    let draft = ["region", "change", "--renew", "--from"].map(OsStr::new);
    let _ = authority
        .lintas(&[&draft[..], &[first.as_os_str(), OsStr::new("--out"), late.as_os_str()]].concat())
        .ok();
    refused(&authority.sign(1, "late.bin"), FORBIDDEN, "rolled back");
    let (out, sign) =
        (authority.path("late-signed.bin"), ["region", "sign", "--yes", "--against"].map(OsStr::new));
    let old =
        [&sign[..], &[first.as_os_str(), late.as_os_str(), OsStr::new("--out"), out.as_os_str()]].concat();
    refused(&authority.office(1, &old), FORBIDDEN, "version 3 is in force here");
    // An office that lost its mark knows nothing, and signs nothing.
    let _ = world.change("four.bin", &[OsStr::new("--renew")]).ok();
    fs::remove_file(authority.folder(1).join("signed.mark")).unwrap();
    refused(&authority.sign(1, "four.bin"), UNUSABLE, "does not know what it signed");
    assert!(!out.exists() && !authority.path("four-signed-1.bin").exists());
}

#[test]
fn members_come_are_suspended_and_reinstated_and_what_is_revoked_never_returns() {
    let world = World::founded();
    let authority = &world.authority;
    world.init("VN", "VN");
    let (sources, request) = (authority.sources(), world.request("VN"));
    let admit = ["--sources".as_ref(), sources.as_os_str(), "--admit".as_ref(), request.as_os_str()];
    refused(&world.change("vn.bin", &admit), FORBIDDEN, "no file describes it; write one, e.g. `vn.toml`");
    let known = lintas_config::source::mekong_files();
    let text = known.iter().find(|(name, _)| *name == "vn.toml").unwrap().1;
    fs::write(sources.join("vn.toml"), text).unwrap();
    let _ = world.change("vn.bin", &admit).ok();
    authority.sign_and_publish("vn.bin", &[1, 2, 3]);
    assert_eq!((world.status_of("VN"), world.status_of("KH")), ("active".into(), "active".into()));

    world.authority.enact("suspend.bin", &["--suspend", "KH"]);
    assert_eq!(world.status_of("KH"), "suspended");
    refused(&world.change("x.bin", &["--suspend", "KH"].map(OsStr::new)), FORBIDDEN, "is suspended already");
    world.authority.enact("reinstate.bin", &["--reinstate", "KH"]);
    assert_eq!(world.status_of("KH"), "active");
    world.authority.enact("revoke.bin", &["--revoke", "KH"]);
    assert_eq!(world.status_of("KH"), "revoked");
    refused(&world.change("x.bin", &["--reinstate", "KH"].map(OsStr::new)), FORBIDDEN, "which is for ever");
    refused(
        &world.change("x.bin", &["--suspend", "XX"].map(OsStr::new)),
        FORBIDDEN,
        "no member of the region",
    );
    refused(&world.change("x.bin", &[]), USAGE, "nothing was asked for");

    // What a source says anew is taken over when it is asked for, together with other changes.
    let th = fs::read_to_string(sources.join("th.toml")).unwrap();
    fs::write(sources.join("th.toml"), th.replace("Royal Thai Police", "Thai Police")).unwrap();
    let update = ["--sources".as_ref(), sources.as_os_str(), "--update".as_ref(), "TH".as_ref()];
    let said = world.change("update.bin", &[&update[..], &["--suspend", "VN"].map(OsStr::new)].concat()).ok();
    assert!(said.out.contains("TH: name: \"Thai Police\" (before: \"Royal Thai Police\")"), "{said:?}");
    assert!(said.out.contains("VN: is SUSPENDED"), "{said:?}");
    authority.sign_and_publish("update.bin", &[1, 2]);

    // The agency comes back under a new identity key, which nobody vouches for.
    world.init("KH", "KH-anew");
    let request = world.request("KH-anew");
    let back = ["--identity".as_ref(), request.as_os_str(), "--reinstate".as_ref(), "KH".as_ref()];
    let said = world.change("back.bin", &back).ok();
    assert!(said.out.contains("NOBODY VOUCHES FOR IT") && said.out.contains("COMES BACK"), "{said:?}");
    authority.sign_and_publish("back.bin", &[1, 2]);
    assert_eq!(world.status_of("KH"), "active");

    // The third office has missed five versions: it walks over them, or signs nothing.
    let _ = world.change("renew.bin", &["--renew", "--valid-days", "60"].map(OsStr::new)).ok();
    let alone = authority.path("alone.bin");
    fs::copy(world.in_force(), &alone).unwrap();
    let sign = ["region", "sign", "--yes", "renew.bin", "--out", "renew-3.bin", "--against", "alone.bin"];
    refused(&authority.office(3, &sign), FORBIDDEN, "give the folder `history`");
    authority.sign_and_publish("renew.bin", &[3, 1]);

    let history = world.history(&[]).ok().json();
    let versions = history["versions"].as_array().unwrap();
    assert_eq!(versions.len(), 8);
    assert_eq!(versions[7]["changes"].as_array().unwrap().len(), 0);
    let changes = versions[4]["changes"].as_array().unwrap();
    let says = |text: &str| changes.iter().any(|change| change["text"] == text);
    assert!(says("is REVOKED, for ever"), "{changes:?}");
    // KH was a witness beside TH and VN.
    assert!(
        says("2 witnesses watch the log, 2 of them must cosign it; tolerates no false witness"),
        "{changes:?}"
    );
}

#[test]
fn a_lost_authority_key_is_replaced_and_the_history_tells_it_and_finds_what_was_changed() {
    let world = World::founded();
    let authority = &world.authority;
    let _ = world.node_takes("TH");
    let first = authority.path("first-bootstrap.toml");
    fs::copy(authority.published().join("bootstrap.toml"), &first).unwrap();
    // The third office has lost its key, and the second one gives its office up.
    for (office, name) in [(4, "Fourth office"), (5, "Fifth office")] {
        let _ = authority.office(office, &["region", "office", "--name", name]).ok();
    }
    let lost = world.inspect(&world.in_force())["authorities"][2]["words"].as_str().unwrap().to_uppercase();
    let (second, fourth, fifth) = (authority.public(2), authority.public(4), authority.public(5));
    let offices = ["--drop-office".as_ref(), lost.as_ref(), second.as_os_str(), "--add-office".as_ref()];
    let _ =
        world.change("offices.bin", &[&offices[..], &[fourth.as_os_str(), fifth.as_os_str()]].concat()).ok();
    let _ = authority.sign(1, "offices.bin").ok();
    let _ = authority.sign(4, "offices.bin").ok();
    let new_only = authority.publish(&[&signed_name("offices.bin", 1), &signed_name("offices.bin", 4)]);
    refused(&new_only, FORBIDDEN, "2 of the authorities before it: 1 have signed");
    let _ = authority.sign(2, "offices.bin").ok();
    let old_only = authority.publish(&[&signed_name("offices.bin", 1), &signed_name("offices.bin", 2)]);
    refused(&old_only, FORBIDDEN, "2 of the authorities that it names: 1 have signed");
    let all = [1, 2, 4].map(|office| signed_name("offices.bin", office));
    let done = authority.publish(&all.each_ref().map(String::as_str)).ok();
    assert!(done.out.contains("Who may sign is new"), "{done:?}");
    // From now on the new ones sign, and the old ones do not.
    let _ = world.change("renew.bin", &["--renew"].map(OsStr::new)).ok();
    refused(&authority.sign(2, "renew.bin"), FORBIDDEN, "would count for nothing");
    authority.sign_and_publish("renew.bin", &[4, 5]);

    // A node that was away walks over what it missed.
    fs::create_dir(world.path("TH").join("rosters")).unwrap();
    let missed = authority.published().join("history/000002.bin");
    fs::copy(&missed, world.path("TH").join("rosters/000002.bin")).unwrap();
    assert_eq!(world.node_takes("TH")["roster_version"], 3);

    for bootstrap in [&first, &authority.published().join("bootstrap.toml")] {
        let history = world.history(&["--bootstrap".as_ref(), bootstrap.as_os_str()]).ok().json();
        let vouched: Vec<bool> =
            history["versions"].as_array().unwrap().iter().map(|v| v["vouched"] == true).collect();
        assert_eq!(vouched, if *bootstrap == first { [true, false, false] } else { [false, true, true] });
    }
    let other = World::founded();
    let strange = other.authority.published().join("bootstrap.toml");
    let said = world.history(&["--bootstrap".as_ref(), strange.as_os_str()]);
    refused(&said, UNUSABLE, "authorities of none of its versions");

    let sound = fs::read(&missed).unwrap();
    for at in (0..sound.len()).step_by(sound.len() / 16) {
        let mut changed = sound.clone();
        changed[at] ^= 1;
        fs::write(&missed, changed).unwrap();
        let said = world.history(&[]);
        refused(&said, UNUSABLE, "000002.bin` is not what the authorities published");
        assert_eq!(said.json()["versions"].as_array().unwrap().len(), 1, "byte {at}");
    }
    fs::remove_file(&missed).unwrap();
    let said = world.history(&[]);
    assert!(said.code != 0 && said.err.contains("000002.bin"), "{said:?}");
    // Another directory that was validly signed, in its place.
    fs::copy(other.in_force(), &missed).unwrap();
    refused(&world.history(&[]), UNUSABLE, "000002.bin");
    fs::write(&missed, sound).unwrap();
    let _ = world.history(&[]).ok();
}
