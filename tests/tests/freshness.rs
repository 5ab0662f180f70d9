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
    Bootstrap, Directory,
    issue::{bundle, fresh_seed, sign_keyset, sign_roster},
    os_entropy,
};
use lintas_proto::{
    canonical,
    id::sha256,
    limits,
    schema::{DirectoryBundle, Keyset, Roster, SignedKeyset},
    sign::{KeyRole, SigningKey, VerifyingKey},
};
use lintas_tests::{
    member::Member,
    process::wait,
    region::{Region, now_ms},
};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_lintas-demo");

/// An authority whose only key the test holds, in place of the one that founded the region.
struct Authority {
    key: SigningKey,
    roster: Roster,
    keysets: Vec<SignedKeyset>,
}

impl Authority {
    fn over(region: &Region) -> Self {
        let key = SigningKey::from_seed(KeyRole::Authority, &fresh_seed(&mut os_entropy())).unwrap();
        let directory = region.directory();
        let found: DirectoryBundle =
            canonical::decode(directory.bytes(), limits::DIRECTORY_BYTES_MAX).unwrap();
        let keyset = |bytes| canonical::decode(bytes, limits::KEYSET_BYTES_MAX).unwrap();
        let roster = Roster {
            authority_keys: vec![Bytes::copy_from_slice(&key.public_key())],
            threshold: 1,
            ..directory.roster().clone()
        };
        let authority = Self { key, roster, keysets: found.keysets.iter().map(keyset).collect() };
        for folder in ["broker", "TH"] {
            fs::write(region.folder(folder).join("bootstrap.toml"), authority.bootstrap().to_text()).unwrap();
            fs::write(region.folder(folder).join("directory.bin"), authority.directory().bytes()).unwrap();
        }
        authority
    }

    fn bootstrap(&self) -> Bootstrap {
        let keys = vec![VerifyingKey::parse(&self.key.public_key()).unwrap()];
        Bootstrap { region: self.roster.region.clone(), authority_keys: keys, threshold: 1 }
    }

    fn directory(&self) -> Directory {
        let signed = sign_roster(&self.roster, std::slice::from_ref(&self.key)).unwrap();
        Directory::open(&bundle(&signed, self.keysets.clone()), &self.bootstrap()).unwrap()
    }

    /// Signs what `change` makes of the roster, and gives it to the broker alone.
    fn publish(&mut self, region: &Region, change: impl FnOnce(&mut Roster)) {
        self.roster.prev_hash = Bytes::copy_from_slice(&sha256(&[&canonical::encode(&self.roster)]));
        self.roster.version += 1;
        change(&mut self.roster);
        let place = region.folder("broker").join("directory.bin");
        fs::write(place.with_extension("part"), self.directory().bytes()).unwrap();
        fs::rename(place.with_extension("part"), place).unwrap();
    }

    /// New encryption keys of a member whose secrets the test holds.
    fn rotate(&mut self, member: &Member) {
        let (mut entropy, mut secrets) = (os_entropy(), member.secrets.clone());
        for known in &mut secrets.encryption_seeds {
            known.seed = Bytes::copy_from_slice(fresh_seed(&mut entropy).as_slice());
        }
        for signed in &mut self.keysets {
            let keyset: Keyset = canonical::decode(&signed.keyset, limits::KEYSET_BYTES_MAX).unwrap();
            if keyset.agency == member.unit.agency {
                let hash = Bytes::copy_from_slice(&sha256(&[&signed.keyset]));
                *signed = sign_keyset(&secrets, keyset.version + 1, hash, now_ms()).unwrap();
            }
        }
    }
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

fn draft(root: &Path, name: &str, to: &Value) -> String {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("case/alert.json");
    let mut draft: Value = serde_json::from_slice(&fs::read(case).unwrap()).unwrap();
    draft["to"] = to.clone();
    let path = root.join(name);
    fs::write(&path, draft.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// VN has nothing but its keys and the bootstrap file: the broker gives it the directory.
fn join(region: &mut Region, authority: &Authority, root: &Path) {
    for name in ["bootstrap.toml", "directory.bin"] {
        fs::remove_file(region.folder("VN").join(name)).unwrap();
    }
    let file = root.join("given.toml");
    fs::write(&file, authority.bootstrap().to_text()).unwrap();
    let file = file.to_str().unwrap();
    let wrong = region.lintas("VN", &["join", "--bootstrap", file, "--words", "12345 67890"]);
    assert!(wrong.code == 2 && wrong.err.contains("do not use this file"), "{wrong:?}");
    let fingerprint = authority.bootstrap().fingerprint();
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
    let mut authority = Authority::over(&region);
    region.start_broker();
    region.start_node("TH");
    join(&mut region, &authority, root.path());

    // A new roster goes to the broker alone; both nodes have it soon, in the session that they have.
    let since = status(&region, "TH")["link"]["since_ms"].clone();
    let groups = ["KH", "TH", "VN"];
    authority.publish(&region, |roster| {
        for member in roster.members.iter_mut().filter(|member| groups.contains(&member.agency.as_str())) {
            member.groups = vec!["TRAWL".to_owned()];
        }
    });
    for agency in ["TH", "VN"] {
        assert!(wait(|| status(&region, agency)["roster_version"] == 2), "{}", status(&region, agency));
    }
    assert_eq!(status(&region, "TH")["link"]["since_ms"], since);

    // Who is new in a group gets nothing through it before an officer's word.
    let through_group = draft(root.path(), "group.json", &json!(["group:TRAWL"]));
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
    let to_kh = draft(root.path(), "kh.json", &json!([format!("KH/{}", kh.unit.unit)]));
    let sent = region.lintas("TH", &["--json", "send", &to_kh]).ok().json();
    let old = sent["packet_id"].as_str().unwrap();
    authority.rotate(&kh);
    authority.publish(&region, |_| {});
    assert!(wait(|| status(&region, "VN")["roster_version"] == 3), "{}", status(&region, "VN"));
    region.start_node("TH");
    assert!(wait(|| entry(&region, old)["replaced_by"].is_string()), "{}", entry(&region, old));
    let new = entry(&region, old)["replaced_by"].as_str().unwrap().to_owned();
    assert!(wait(|| entry(&region, &new)["state"] == "accepted"), "{}", entry(&region, &new));
    assert_eq!(entry(&region, &new)["in_place_of"], json!(old));
    assert_eq!(entry(&region, old)["reason"], json!("REASON_RESEAL"));
    assert_eq!(status(&region, "TH")["roster_version"], 3);
    assert!(["TH", "VN"].iter().all(|node| region.stop_node(node)) && region.stop_broker());
}
