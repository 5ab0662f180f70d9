//! The drills of docs/OPERATING.md: what is typed when a node, an identity key, an authority key or a broker's key is
//! lost, and what follows from it. Real processes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::{fs, path::Path};

use lintas_tests::{
    drill::{Drill, ids},
    process::wait,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_lintas-demo");
const KH: &str = "KH/KH-AHT";
const TH: &str = "TH/TH-ATD-RNG";
/// Exit codes: the recipient cannot be sent to; a rule of the authority.
const NOT_SENT: i32 = 6;
/// As above.
const FORBIDDEN: i32 = 12;
const JOIN: &str = "lintas join --bootstrap bootstrap.toml";
const SIGN_ANEW: &str = "lintas policy publish policy";
const PUBLISH: &str = "lintas keys publish revocation.txt";
const CONFIRM: &str = "lintas confirm KH WORDS";

fn begin(nodes: &[&str]) -> (TempDir, Drill) {
    let root = tempfile::tempdir().unwrap();
    let drill = Drill::begin(Path::new(PROGRAM), root.path(), nodes);
    (root, drill)
}

/// TH writes to KH and KH to TH; both arrive.
fn both_ways(drill: &Drill, kh: &str) {
    let there = drill.sent("TH", "TH-ATD-RNG", KH);
    let back = drill.sent(kh, "KH-AHT", TH);
    drill.stands("TH", &there, "delivered");
    drill.stands(kh, &back, "delivered");
    assert!(drill.inbox(kh).contains(&there) && drill.inbox("TH").contains(&back));
}

/// KH, with keys in a new folder, joins and runs.
fn join(drill: &mut Drill, folder: &str, roster: u64) {
    drill.carry(&drill.authority.published().join("bootstrap.toml"), "bootstrap.toml");
    // The broker first reports what it cannot deliver any more, then admits the new keys.
    let joined = wait(|| drill.step(folder, JOIN, &[], &["--yes"]).code == 0);
    assert!(joined, "{folder} cannot join");
    drill.region.start_node(folder);
    drill.is_up(folder, roster);
    publish(drill, folder);
}

/// KH lets go and takes what it did before: signed anew, because a policy that was signed with keys of before is over.
fn publish(drill: &Drill, folder: &str) {
    let policy = || drill.region.lintas(folder, &["--json", "policy", "history"]).ok().json();
    assert!(wait(|| policy()["broker"].is_u64()), "{folder} does not hear of its policy");
    let files = format!("publish {}", drill.policy_of("KH"));
    let means = [("publish policy", files.as_str())];
    assert!(wait(|| drill.step(folder, SIGN_ANEW, &means, &["--yes"]).code == 0), "{}", policy());
    assert!(
        wait(|| policy()["broker"] == policy()["newest"] && policy()["in_force"] == policy()["newest"]),
        "{}",
        policy()
    );
}

/// Nothing goes from TH to KH before an officer's word for the key that KH reads out; then it does.
fn confirm(drill: &Drill) {
    let refused = drill.send("TH", "TH-ATD-RNG", KH);
    assert!(refused.code == NOT_SENT && refused.err.contains("lintas confirm KH"), "{refused:?}");
    let read_out = drill.step("KH-new", "lintas region inspect join-request.bin", &[], &[]).ok().out;
    let words = drill.new_words();
    assert!(read_out.contains(&words), "{read_out}");
    // Another key's words are not taken.
    let others = drill.inspect("published/directory.bin");
    let others = others["members"][0]["identity_key"]["words"].as_str().unwrap().to_owned();
    assert_ne!(drill.step("TH", CONFIRM, &[("WORDS", &others)], &[]).code, 0);
    let _ = drill.step("TH", CONFIRM, &[("WORDS", &words)], &[]).ok();
    assert_eq!(drill.status("TH")["held"], Value::Null);
}

/// What `exposure` finds at `who` with any of these keys: packets that can be read, packets whose signature proves
/// nothing.
fn exposed(drill: &Drill, who: &str, keys: &[Value]) -> (Vec<String>, Vec<String>) {
    let mut found = (Vec::new(), Vec::new());
    for key in keys {
        let line = "lintas exposure --key KEY";
        let said = drill.step(who, line, &[("KEY", key.as_str().unwrap())], &["--json"]).ok().json();
        let packets = said["packets"].as_array().cloned().unwrap_or_default();
        let (read, signed): (Vec<Value>, Vec<Value>) =
            packets.into_iter().partition(|packet| packet["contents"] == true);
        found.0.extend(ids(&json!(read)));
        found.1.extend(ids(&json!(signed)));
    }
    found.0.sort();
    found.1.sort();
    found
}

fn sorted<const N: usize>(ids: [&String; N]) -> Vec<String> {
    let mut ids = ids.map(Clone::clone).to_vec();
    ids.sort();
    ids
}

/// The node has no connection, and gets none.
fn is_out(drill: &Drill, who: &str) {
    let out = |status: &Value| status["link"]["connected"] == false;
    assert!(wait(|| out(&drill.status(who))), "{}", drill.status(who));
    let refused = || {
        let status = drill.status(who);
        status["link"]["trouble"].as_str().is_some_and(|why| why.contains("does not know this node's key"))
    };
    assert!(wait(refused), "{}", drill.status(who));
}

#[test]
fn a_stolen_node_is_revoked_from_paper_and_its_agency_comes_back() {
    let (_root, mut drill) = begin(&["KH", "TH", "VN"]);
    drill.region.start_broker();
    ["KH", "TH", "VN"].iter().for_each(|node| drill.region.start_node(node));
    let other = drill.sent("VN", "VN-C02", TH);
    let read = drill.sent("TH", "TH-ATD-RNG", KH);
    let came = drill.sent("KH", "KH-AHT", TH);
    drill.stands("VN", &other, "delivered");
    drill.stands("TH", &read, "delivered");
    drill.stands("KH", &came, "delivered");
    // In the thief's hands, and switched off; something waits for it.
    assert!(drill.region.stop_node("KH"));
    let waits = drill.sent("TH", "TH-ATD-RNG", KH);
    drill.stands("TH", &waits, "released");

    drill.carry(&drill.region.folder("KH").join("revocation.txt"), "revocation.txt");
    let _ = drill.step("VN", PUBLISH, &[], &[]).ok();
    let why = drill.stands("TH", &waits, "failed");
    assert!(why.contains("KH"), "{why}");
    drill.region.start_node("KH");
    is_out(&drill, "KH");
    let never = drill.sent("KH", "KH-AHT", TH);
    assert_eq!(drill.inbox("KH"), sorted([&read]));

    // What its keys expose, at the sender, at the recipient, and at whoever has nothing to do with it.
    let unit = drill.step("TH", "lintas exposure --key unit:KH/KH-AHT", &[], &["--json"]).ok().json();
    assert_eq!(ids(&unit["packets"]), sorted([&read, &waits]));
    drill.carry(&drill.authority.published().join("directory.bin"), "directory.bin");
    let line = "lintas region inspect directory.bin --json";
    let directory = drill.step("TH", line, &[], &[]).ok().json();
    let members = directory["members"].as_array().unwrap();
    let keyset = &members.iter().find(|member| member["agency"] == "KH").unwrap()["keyset"];
    let encryption: Vec<Value> =
        keyset["encryption_keys"].as_array().unwrap().iter().map(|key| key["id"].clone()).collect();
    let signing = keyset["packet_key_ids"].as_array().unwrap();
    assert_eq!(exposed(&drill, "TH", &encryption), (sorted([&read, &waits]), vec![]));
    assert_eq!(exposed(&drill, "KH", &encryption), (sorted([&read]), vec![]));
    assert_eq!(exposed(&drill, "VN", &encryption), (vec![], vec![]));
    assert_eq!(exposed(&drill, "TH", signing), (vec![], sorted([&came])));
    assert_eq!(exposed(&drill, "VN", signing), (vec![], vec![]));

    // New keys, for which the old identity key vouches.
    let request = drill.region.init_anew("KH", "KH-new");
    drill.carry(&request, "join-request.bin");
    drill.carry(&drill.region.folder("KH").join("identity.key"), "identity.key");
    let opens = std::path::absolute(drill.region.identity_key_file("KH")).unwrap();
    let line = "lintas keys handover --identity identity.key --to join-request.bin --out handover.bin";
    let more = ["--identity-key-file", opens.to_str().unwrap()];
    let asked = drill.step("KH-new", line, &[], &more);
    assert!(asked.code == 2 && asked.err.contains(&drill.new_words()), "{asked:?}");
    let _ = drill.step("KH-new", line, &[], &[&more[..], &["--yes"]].concat()).ok();
    let line = "lintas region change --from PUBLISHED/directory.bin --identity join-request.bin --handover \
                handover.bin --out proposal.bin";
    let said = drill.step("KH-new", line, &[], &[]).ok();
    assert!(!said.out.contains("NOBODY VOUCHES"), "{said:?}");
    drill.enact("proposal.bin");
    ["TH", "VN"].iter().for_each(|node| drill.is_up(node, 2));
    // Vouched for: nobody holds it.
    assert_eq!(drill.status("TH")["held"], Value::Null);
    join(&mut drill, "KH-new", 2);
    confirm(&drill);
    both_ways(&drill, "KH-new");
    // The thief is still out, and what he wrote has gone nowhere.
    is_out(&drill, "KH");
    assert!(!drill.inbox("TH").contains(&never));
    // A node that is connected while it is revoked loses its connection.
    drill.is_up("VN", 2);
    drill.carry(&drill.region.folder("VN").join("revocation.txt"), "revocation.txt");
    let _ = drill.step("TH", PUBLISH, &[], &[]).ok();
    is_out(&drill, "VN");
    assert!(["KH", "KH-new", "TH", "VN"].iter().all(|node| drill.region.stop_node(node)));
    assert!(drill.region.stop_broker());
}

#[test]
fn a_lost_node_is_replaced_under_the_same_identity() {
    let (_root, mut drill) = begin(&["KH", "TH"]);
    drill.region.start_broker();
    ["KH", "TH"].iter().for_each(|node| drill.region.start_node(node));
    both_ways(&drill, "KH");
    // Gone; something waits for its keys. The safe holds the identity key.
    assert!(drill.region.stop_node("KH"));
    let waits = drill.sent("TH", "TH-ATD-RNG", KH);
    drill.stands("TH", &waits, "released");
    drill.carry(&drill.region.folder("KH").join("identity.key"), "identity.key");
    drill.carry(&drill.region.folder("TH").join("directory.current"), "directory.current");
    let opens = std::path::absolute(drill.region.identity_key_file("KH")).unwrap();
    let broker = drill.region.broker_address().to_string();
    let line = "lintas init --replace --identity identity.key --directory directory.current --broker 203.0.113.7:7411";
    let means = [("203.0.113.7:7411", broker.as_str())];
    let more = ["--identity-key-file", opens.to_str().unwrap()];
    let _ = drill.step("KH-new", line, &means, &more).ok();
    drill.carry(&drill.region.folder("KH-new").join("keyset.bin"), "keyset.bin");
    let _ = drill.step("TH", "lintas keys publish keyset.bin", &[], &[]).ok();
    let brought = || drill.region.lintas("TH", &["--json", "keys"]).ok().json()["to_publish"] == json!([]);
    assert!(wait(brought), "{}", drill.status("TH"));
    // Whoever found it switches it on.
    drill.region.start_node("KH");
    is_out(&drill, "KH");
    assert!(!drill.inbox("KH").contains(&waits));
    join(&mut drill, "KH-new", 1);
    // Nobody has the key any more: its sender is told.
    let why = drill.stands("TH", &waits, "failed");
    assert!(why.contains("a key that this node does not have"), "{why}");
    // The same identity: there is nothing to confirm.
    let status = drill.status("TH");
    assert_eq!((&status["held"], &status["unconfirmed"]), (&Value::Null, &Value::Null));
    both_ways(&drill, "KH-new");
    is_out(&drill, "KH");
    // The paper of before is void.
    drill.carry(&drill.region.folder("KH").join("revocation.txt"), "revocation.txt");
    let void = drill.step("TH", PUBLISH, &[], &[]);
    assert_ne!(void.code, 0, "{void:?}");
    both_ways(&drill, "KH-new");
    assert!(["KH", "KH-new", "TH"].iter().all(|node| drill.region.stop_node(node)));
    assert!(drill.region.stop_broker());
}

#[test]
fn a_lost_identity_key_is_replaced_and_each_officer_compares_the_new_one() {
    replace_identity(false);
}

#[test]
fn an_identity_key_in_other_hands_is_revoked_and_replaced() {
    replace_identity(true);
}

fn replace_identity(stolen: bool) {
    let (_root, mut drill) = begin(&["KH", "TH"]);
    drill.region.start_broker();
    ["KH", "TH"].iter().for_each(|node| drill.region.start_node(node));
    both_ways(&drill, "KH");
    assert!(drill.region.stop_node("KH"));
    let waits = drill.sent("TH", "TH-ATD-RNG", KH);
    drill.stands("TH", &waits, "released");
    if stolen {
        drill.carry(&drill.region.folder("KH").join("revocation.txt"), "revocation.txt");
        let _ = drill.step("TH", PUBLISH, &[], &[]).ok();
        drill.stands("TH", &waits, "failed");
    }
    let request = drill.region.init_anew("KH", "KH-new");
    drill.carry(&request, "join-request.bin");
    let line =
        "lintas region change --from PUBLISHED/directory.bin --identity join-request.bin --out proposal.bin";
    let said = drill.step("KH-new", line, &[], &[]).ok();
    assert!(said.out.contains("NOBODY VOUCHES FOR IT"), "{said:?}");
    drill.enact("proposal.bin");
    drill.is_up("TH", 2);
    let held = drill.status("TH")["held"].clone();
    assert!(held[0].as_str().is_some_and(|held| held.contains("KH")), "{held}");
    let why = drill.stands("TH", &waits, "failed");
    assert!(stolen || why.contains("its old one does not vouch for"), "{why}");
    drill.region.start_node("KH");
    is_out(&drill, "KH");
    join(&mut drill, "KH-new", 2);
    // Nothing is believed of it: what it writes is not in TH's inbox.
    let before = drill.inbox("TH");
    let early = drill.sent("KH-new", "KH-AHT", TH);
    drill.stands("KH-new", &early, "released");
    assert_eq!(drill.inbox("TH"), before);
    confirm(&drill);
    both_ways(&drill, "KH-new");
    // What it wrote before is believed now, too.
    drill.stands("KH-new", &early, "delivered");
    // A broker that crashes has forgotten nothing of it.
    drill.region.kill_broker();
    drill.region.start_broker();
    both_ways(&drill, "KH-new");
    assert!(["KH", "KH-new", "TH"].iter().all(|node| drill.region.stop_node(node)));
    assert!(drill.region.stop_broker());
}

#[test]
fn a_lost_authority_key_is_replaced_while_a_node_is_off() {
    let (_root, mut drill) = begin(&["KH", "TH", "VN"]);
    drill.region.start_broker();
    ["TH", "VN"].iter().for_each(|node| drill.region.start_node(node));
    ["TH", "VN"].iter().for_each(|node| drill.is_up(node, 1));
    assert!(drill.region.stop_node("VN"));
    drill.carry(&drill.authority.published().join("directory.bin"), "first.bin");
    drill.carry(&drill.authority.published().join("bootstrap.toml"), "first.toml");

    let line = "lintas region office --name \"Registrar, second key\"";
    let _ = drill.step("authority/office-4", line, &[], &[]).ok();
    drill.carry(&drill.authority.public(3), "lost.pub");
    drill.carry(&drill.authority.public(4), "authority.pub");
    let line = "lintas region change --from PUBLISHED/directory.bin --drop-office lost.pub --add-office \
                authority.pub --out proposal.bin";
    let _ = drill.step("TH", line, &[], &[]).ok();
    let sign = "lintas region sign proposal.bin --against PUBLISHED/directory.bin --out signed-1.bin";
    let _ = drill.step("authority/office-1", sign, &[], &["--yes"]).ok();
    // One of two of the old ones, and one of two of the new ones: too few, also with the new one.
    let publish = "lintas region publish signed-1.bin signed-2.bin --out PUBLISHED";
    let sign = "lintas region sign proposal.bin --against PUBLISHED/directory.bin --out signed-2.bin";
    let vouched = ["--yes", "--bootstrap", "published/bootstrap.toml"];
    let _ = drill.step("authority/office-4", sign, &[("signed-2", "signed-4")], &vouched).ok();
    let few = drill.step("TH", publish, &[("signed-2", "signed-4")], &[]);
    assert!(few.code == FORBIDDEN && few.err.contains("1 have signed"), "{few:?}");
    let _ = drill.step("authority/office-2", sign, &[], &["--yes"]).ok();
    let _ = drill.step("TH", publish, &[], &[]).ok();
    drill.to_broker(&drill.authority.published().join("directory.bin"));
    drill.is_up("TH", 2);
    drill.region.start_node("VN");
    drill.is_up("VN", 2);

    // A newcomer, with nothing but its keys and the new bootstrap file.
    for name in ["bootstrap.toml", "directory.bin", "directory.current", "directory.mark"] {
        fs::remove_file(drill.region.folder("KH").join(name)).unwrap();
    }
    join(&mut drill, "KH", 2);
    both_ways(&drill, "KH");

    // The lost key signs nothing that anybody takes: neither a next roster, nor another second one.
    let change = ["region", "change", "--suspend", "TH", "--from"];
    let from = ["first.bin", "--out", "rival.bin"];
    let _ = drill.authority.lintas(&[&change[..], &from[..]].concat()).ok();
    let sign = ["region", "sign", "--yes", "rival.bin", "--out", "rival-3.bin"];
    let old = ["--against", "first.bin", "--bootstrap", "first.toml"];
    let _ = drill.authority.office(3, &[&sign[..], &old[..]].concat()).ok();
    let from = ["published/directory.bin", "--out", "third.bin"];
    let _ = drill.authority.lintas(&[&change[..], &from[..]].concat()).ok();
    assert_eq!(drill.authority.sign(3, "third.bin").code, FORBIDDEN);
    drill.to_broker(&drill.authority.path("rival-3.bin"));
    let log = || fs::read_to_string(drill.region.log("broker")).unwrap();
    assert!(wait(|| log().contains("directory.bin is not taken")), "{}", log());
    both_ways(&drill, "KH");
    assert_eq!(drill.status("TH")["roster_version"], 2);
    assert!(["KH", "TH", "VN"].iter().all(|node| drill.region.stop_node(node)));
    assert!(drill.region.stop_broker());
}

#[test]
fn a_brokers_keys_are_replaced_while_a_node_is_away() {
    let (_root, mut drill) = begin(&["KH", "TH"]);
    drill.region.start_broker();
    drill.region.start_node("TH");
    drill.is_up("TH", 1);
    // Accepted under the old key; its evidence waits for TH, which is away.
    let accepted = drill.sent("TH", "TH-ATD-RNG", KH);
    drill.stands("TH", &accepted, "released");
    assert!(drill.region.stop_node("TH"));
    drill.region.start_node("KH");
    assert!(wait(|| drill.inbox("KH").len() == 1), "{}", drill.status("KH"));
    let mut written: Vec<String> = (0..3).map(|_| drill.sent("TH", "TH-ATD-RNG", KH)).collect();

    let listen = drill.region.broker_address().to_string();
    let folder = std::path::absolute(drill.region.folder("broker")).unwrap();
    let means = [("/srv/lintas", folder.to_str().unwrap())];
    let line =
        "lintas-broker init --data new --name hub.mekong --listen 203.0.113.7:7411 --log-of /srv/lintas";
    let _ = drill.step("broker", line, &[means[0], ("203.0.113.7:7411", &listen)], &[]).ok();
    let line =
        "lintas region change --from PUBLISHED/directory.bin --broker new/broker.roster --out proposal.bin";
    let _ = drill.step("broker", line, &[], &[]).ok();
    drill.authority.sign_and_publish("proposal.bin", &[1, 2]);
    assert!(drill.region.stop_broker());
    let _ = drill.step("broker", "mv new/broker.keys new/broker.roster /srv/lintas/", &means, &[]).ok();
    let line = "cp PUBLISHED/directory.bin /srv/lintas/directory.bin";
    let _ = drill.step("broker", line, &means, &[]).ok();
    drill.region.start_broker();
    drill.is_up("KH", 2);

    drill.region.start_node("TH");
    drill.is_up("TH", 2);
    written.push(accepted);
    written.iter().for_each(|id| drop(drill.stands("TH", id, "delivered")));
    written.sort();
    assert_eq!(drill.inbox("KH"), written);
    both_ways(&drill, "KH");
    assert!(["KH", "TH"].iter().all(|node| drill.region.stop_node(node)) && drill.region.stop_broker());
}
