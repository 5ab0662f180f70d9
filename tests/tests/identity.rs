//! An agency has lost its offline identity key: it makes a new one, the region authority names it, the broker serves it,
//! and the others confirm it by telephone. Real processes, and no word to the broker.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::{ffi::OsStr, fs, path::Path};

use lintas_config::{Bootstrap, source::mekong, words::fingerprint_words};
use lintas_tests::{
    process::wait,
    region::{Region, init_arguments},
};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_lintas-demo");

fn status(region: &Region, agency: &str) -> Value {
    region.lintas(agency, &["--json", "status"]).ok().json()
}

/// Sends the sample alert to the first unit of an agency; the packet's id.
fn send(region: &Region, root: &Path, from: &str, to: &str) -> String {
    let said = region.lintas(from, &["--json", "send", &draft(root, from, to)]).ok().json();
    said["packet_id"].as_str().unwrap().to_owned()
}

fn draft(root: &Path, from: &str, to: &str) -> String {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("case/alert.json");
    let mut draft: Value = serde_json::from_slice(&fs::read(case).unwrap()).unwrap();
    let source = mekong().unwrap();
    let unit = |agency: &str| {
        let member = source.members.iter().find(|member| member.agency == agency).unwrap();
        member.units[0].unit.clone()
    };
    draft["from"] = json!(unit(from));
    draft["to"] = json!([format!("{to}/{}", unit(to))]);
    let path = root.join(format!("to-{to}.json"));
    fs::write(&path, draft.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Where the one recipient of a packet stands: state, and why.
fn arrival(region: &Region, from: &str, id: &str) -> (String, String) {
    let said = region.lintas(from, &["--json", "outbox"]).ok().json();
    let packets = said["packets"].as_array().cloned().unwrap_or_default();
    let packet = packets.into_iter().find(|packet| packet["packet_id"] == id).unwrap();
    let text = |key: &str| packet["recipients"][0][key].as_str().unwrap_or_default().to_owned();
    (text("state"), text("why"))
}

/// VN makes a node with a new identity, and the authority publishes its key.
fn begin_anew(region: &Region, root: &Path) {
    let (source, folder) = (mekong().unwrap(), region.folder("VN"));
    fs::rename(&folder, root.join("VN-lost")).unwrap();
    let described = source.members.iter().find(|member| member.agency == "VN").unwrap();
    let identity = root.join("VN-anew-identity.hex");
    let arguments = init_arguments(&source, described, region.broker_address(), &identity);
    let _ = region.lintas("VN", &arguments).ok();
    let authority = region.authority();
    let (from, request) = (authority.published().join("directory.bin"), folder.join("join-request.bin"));
    let typed = ["region", "change", "--out", "anew.bin", "--from"].map(OsStr::new);
    let typed = [&typed[..], &[from.as_os_str(), OsStr::new("--identity"), request.as_os_str()]].concat();
    let said = authority.lintas(&typed).ok();
    assert!(said.out.contains("NOBODY VOUCHES FOR IT"), "{said:?}");
    authority.sign_and_publish("anew.bin", &[1, 2]);
    let place = region.folder("broker").join("directory.bin");
    fs::copy(&from, place.with_extension("part")).unwrap();
    fs::rename(place.with_extension("part"), &place).unwrap();
}

#[test]
fn an_agency_that_lost_its_identity_key_comes_back() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let mut region = Region::found(Path::new(PROGRAM), root, &["TH", "VN"]);
    region.start_broker();
    region.start_node("TH");
    let waiting = send(&region, root, "TH", "VN");
    assert!(wait(|| arrival(&region, "TH", &waiting).0 == "pending"));
    begin_anew(&region, root);

    // What was sealed for the keys before is not delivered, and TH is told.
    assert!(
        wait(|| arrival(&region, "TH", &waiting).0 == "failed"),
        "{:?}",
        arrival(&region, "TH", &waiting)
    );
    let why = arrival(&region, "TH", &waiting).1;
    assert!(why.contains("its old one does not vouch for"), "{why}");

    // VN comes back by itself.
    let file = region.authority().published().join("bootstrap.toml");
    let words = Bootstrap::parse(&fs::read_to_string(&file).unwrap()).unwrap().fingerprint();
    let join = ["join", "--bootstrap", file.to_str().unwrap(), "--words", &words];
    let joined = || {
        let said = region.lintas("VN", &join);
        // Within a second of the new directory.
        assert!(said.code == 0 || said.err.contains("has not admitted VN yet"), "{said:?}");
        said.code == 0
    };
    assert!(wait(joined));
    region.start_node("VN");
    assert!(wait(|| status(&region, "VN")["link"]["connected"] == true), "{}", status(&region, "VN"));

    // TH holds it until its officer has compared the key.
    assert!(wait(|| status(&region, "TH")["roster_version"] == 2), "{}", status(&region, "TH"));
    assert_eq!(status(&region, "TH")["held"].as_array().unwrap().len(), 1);
    let refused = region.lintas("TH", &["send", &draft(root, "TH", "VN")]);
    assert_eq!(refused.code, 6, "{refused:?}");
    let directory = region.directory();
    let vn = directory.roster().members.iter().find(|member| member.agency == "VN").unwrap();
    let words = fingerprint_words(&vn.identity_key.as_ref().try_into().unwrap());
    let _ = region.lintas("TH", &["confirm", "VN", &words]).ok();
    let sent = send(&region, root, "TH", "VN");
    assert!(wait(|| arrival(&region, "TH", &sent).0 == "delivered"), "{:?}", arrival(&region, "TH", &sent));
    let answer = send(&region, root, "VN", "TH");
    assert!(
        wait(|| arrival(&region, "VN", &answer).0 == "delivered"),
        "{:?}",
        arrival(&region, "VN", &answer)
    );

    // Nothing of it is forgotten by a broker that crashes.
    region.kill_broker();
    region.start_broker();
    let sent = send(&region, root, "TH", "VN");
    assert!(wait(|| arrival(&region, "TH", &sent).0 == "delivered"), "{:?}", arrival(&region, "TH", &sent));
    assert!(["TH", "VN"].iter().all(|node| region.stop_node(node)) && region.stop_broker());
}
