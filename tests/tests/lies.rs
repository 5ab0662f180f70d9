//! A broker that tells another story than before: it is noticed, it is stopped, and nothing is lost. Real processes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::{fs, net::SocketAddr, path::Path, process::Command, time::Duration};

use lintas_proto::{
    audit::{merkle::consistency_roots, note::SignedCheckpoint},
    canonical,
    id::{hex, unhex},
    schema::UnitRef,
    sign::VerifyingKey,
};
use lintas_tests::{
    ROLE_NODE,
    drill::Drill,
    independent::copy,
    member::{Answer, Member},
    process::wait,
    region::{Region, Wanted, free_address},
};
use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_lintas-demo");
const KH: &str = "KH/KH-AHT";
const VN: &str = "VN/VN-C02";
/// Four witnesses, of which one may be false.
const NODES: [&str; 4] = ["KH", "RCO", "TH", "VN"];
/// Exit code of a broker: it runs on a restored backup.
const BEHIND: i32 = 6;
/// Exit code: a rule of the authority.
const FORBIDDEN: i32 = 12;
/// Exit code: evidence that does not hold.
const EVIDENCE: i32 = 15;
/// Exit code: whole, but not attested at all times.
const NOT_ATTESTED: i32 = 32;
/// Folder of a broker's copy.
const OTHER: &str = "second";

fn begin() -> (TempDir, Drill) {
    let root = tempfile::tempdir().unwrap();
    let mut drill = Drill::begin(Path::new(PROGRAM), root.path(), &NODES);
    drill.region.start_broker();
    NODES.iter().for_each(|node| drill.region.start_node(node));
    (root, drill)
}

/// Size of the root log as its checkpoint says, and how many have cosigned it.
fn head(drill: &Drill, number: usize) -> (u64, usize) {
    let path = drill.region.folder("broker").join(format!("audit/{number}/checkpoint"));
    let note = fs::read(path).unwrap_or_default();
    let size = SignedCheckpoint::parse(&note).map_or(0, |note| note.claim().size);
    (size, String::from_utf8_lossy(&note).lines().filter(|line| line.contains("/witness/")).count())
}

/// Size of the largest tree of the first root log that a node has verified.
fn known(drill: &Drill, agency: &str) -> u64 {
    let note = fs::read(drill.region.folder(agency).join("witness/hub.mekong_audit")).unwrap();
    SignedCheckpoint::parse(&note).unwrap().claim().size
}

/// Waits until a quorum has cosigned a root log of more than `size` epochs.
fn cosigned_beyond(drill: &Drill, number: usize, size: u64) {
    let beyond = || head(drill, number).0 > size && head(drill, number).1 >= 3;
    assert!(wait(beyond), "log {number}: {:?}", head(drill, number));
}

#[test]
fn a_broker_on_an_older_backup_is_stopped_and_its_next_log_loses_nothing() {
    let (root, mut drill) = begin();
    let first = drill.sent("TH", "TH-ATD-RNG", KH);
    drill.stands("TH", &first, "delivered");
    cosigned_beyond(&drill, 1, 3);
    assert!(drill.region.stop_broker());
    let (folder, backup) = (drill.region.folder("broker"), root.path().join("backup"));
    copy(&folder, &backup);
    let backed_up = head(&drill, 1).0;

    // After the backup: one that arrives, and one that waits at the broker.
    drill.region.start_broker();
    let second = drill.sent("TH", "TH-ATD-RNG", KH);
    drill.stands("TH", &second, "delivered");
    cosigned_beyond(&drill, 1, backed_up + 3);
    drill.region.kill_node("VN");
    let waits = drill.sent("TH", "TH-ATD-RNG", VN);
    drill.stands("TH", &waits, "released");
    drill.region.kill_broker();
    let known = ["KH", "RCO", "TH"].map(|agency| known(&drill, agency));

    fs::remove_dir_all(&folder).unwrap();
    copy(&backup, &folder);
    fs::remove_dir_all(folder.join("index")).unwrap();
    drill.region.start_broker();
    assert_eq!(drill.region.broker_ends(), Some(BEHIND));
    let said = fs::read_to_string(drill.region.log("broker")).unwrap();
    assert!(said.contains("this broker runs on a restored backup"), "{said}");
    // Nobody need be there to say so again.
    let means = std::path::absolute(&folder).unwrap();
    let means = [("/srv/lintas", means.to_str().unwrap())];
    let again = drill.step("broker", "lintas-broker run --data /srv/lintas", &means, &[]);
    assert!(again.code == BEHIND && again.err.contains("--end-log hub.mekong=behind"), "{again:?}");

    drill.carry(&folder.join("audit/1/behind"), "behind");
    let line =
        "lintas region change --from PUBLISHED/directory.bin --end-log hub.mekong=behind --out proposal.bin";
    let mut said = drill.step("TH", line, &[], &[]);
    if said.code == FORBIDDEN {
        // The broker died while one was on its way to the witnesses: some know it, the others the one before.
        assert!(said.err.contains("of the 4 witnesses have cosigned that checkpoint"), "{said:?}");
        assert!(
            known.iter().any(|size| *size != known[0]),
            "one tree, so their hellos are its quorum: {known:?}"
        );
        said = drill.step("TH", line, &[], &["--without-quorum"]);
    }
    let said = said.ok().out;
    assert!(said.contains("the log hub.mekong/audit ends at size "), "{said}");
    drill.authority.sign_and_publish("proposal.bin", &[1, 2]);
    let _ = drill.step("TH", "cp PUBLISHED/directory.bin /srv/lintas/directory.bin", &means, &[]).ok();
    drill.region.start_broker();
    ["KH", "RCO", "TH"].iter().for_each(|node| drill.region.hurry_node(node));
    drill.is_up("TH", 2);
    drill.region.start_node("VN");
    // What was not answered for good is submitted again, and nobody gets anything twice.
    drill.stands("TH", &waits, "delivered");
    let third = drill.sent("TH", "TH-ATD-RNG", KH);
    drill.stands("TH", &third, "delivered");
    let mut all = vec![first, second, third];
    all.sort();
    assert_eq!((drill.inbox("KH"), drill.inbox("VN")), (all, vec![waits]));
    cosigned_beyond(&drill, 2, 0);
    assert!(NODES.iter().all(|node| drill.region.stop_node(node)) && drill.region.stop_broker());
}

/// A checkpoint of a broker's folder, as it is published.
fn published(folder: &Path) -> (u64, Vec<u8>) {
    let note = fs::read(folder.join("audit/1/checkpoint")).unwrap_or_default();
    (SignedCheckpoint::parse(&note).map_or(0, |note| note.claim().size), note)
}

/// What a node has found, without exhibits.
fn findings(region: &Region, who: &str) -> Vec<Value> {
    region.lintas(who, &["--json", "audit", "findings"]).ok().json().as_array().unwrap().clone()
}

/// `lintas audit findings --check` of somebody who has no node: exit code and what it says.
fn checked(file: &Path, by: &Path) -> (i32, Value) {
    let option = if by.extension().is_some_and(|end| end == "toml") { "--bootstrap" } else { "--directory" };
    let mut command = Command::new(PROGRAM);
    command.args([ROLE_NODE, "--json", "audit", "findings", "--check"]).arg(file).arg(option).arg(by);
    let said = command.env_remove("LINTAS_DATA").output().unwrap();
    (said.status.code().unwrap(), serde_json::from_slice(&said.stdout).unwrap_or_default())
}

/// A stranger's own judgement of a fork, from the log's key and nothing of ours but hashes and signatures.
fn proves_a_fork(exhibits: &[Vec<u8>], key: &VerifyingKey) -> bool {
    let [small, large, hashes @ ..] = exhibits else { return false };
    let note = |bytes: &[u8]| {
        let note = SignedCheckpoint::parse(bytes).ok()?;
        note.verify("hub.mekong/audit", key).ok().cloned()
    };
    let (Some(small), Some(large)) = (note(small), note(large)) else { return false };
    // Two trees of one size need no hashes.
    let [hashes] = hashes else { return small.size == large.size && small.root != large.root };
    let hashes: Vec<[u8; 32]> = hashes.chunks(32).map(|hash| hash.try_into().unwrap()).collect();
    consistency_roots(small.size, large.size, hashes[0], &hashes[1..])
        .is_some_and(|(from_small, from_large)| from_large == large.root && from_small != small.root)
}

/// What TH writes convinces whoever has the roster: by their own hands, and by the command.
fn convinces_others(region: &Region, root: &Path) {
    let file = root.join("findings.json");
    let _ = region.lintas("TH", &["audit", "findings", "--out", file.to_str().unwrap()]).ok();
    let written: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let exhibits: Vec<Vec<u8>> = written["findings"][0]["exhibits"]
        .as_array()
        .unwrap()
        .iter()
        .map(|exhibit| unhex(exhibit.as_str().unwrap()).unwrap())
        .collect();
    let directory = region.directory();
    let key = &directory.brokers()[0].log_key;
    assert!(proves_a_fork(&exhibits, key));
    let altered = |exhibit: usize, byte: usize| {
        let mut exhibits = exhibits.clone();
        exhibits[exhibit][byte] ^= 1;
        exhibits
    };
    let last = exhibits.len() - 1;
    assert!(!proves_a_fork(&altered(0, 30), key) && !proves_a_fork(&altered(last, 5), key));
    let proves = |said: &Value, words: &str| said[0]["proves"].as_str().unwrap().contains(words);
    for by in ["bootstrap.toml", "directory.bin"] {
        let (code, said) = checked(&file, &region.authority().published().join(by));
        assert!(
            code == 0
                && ["does not begin with", "two different logs"].iter().any(|words| proves(&said, words)),
            "{by}: {said}"
        );
    }
    let mut spoiled = written.clone();
    spoiled["findings"][0]["exhibits"][last] = hex(&altered(last, 5)[last]).into();
    let spoiled_file = root.join("spoiled.json");
    fs::write(&spoiled_file, spoiled.to_string()).unwrap();
    let (code, said) = checked(&spoiled_file, &region.authority().published().join("bootstrap.toml"));
    assert!(code == EVIDENCE && said[0]["proves"].is_null(), "{said}");
}

/// The broker's folder is copied, and both copies run, each with a node that watches the log. The third witness is false:
/// it tells both that it knows nothing.
#[test]
fn two_copies_of_a_broker_are_found_out_by_what_comes_inside_a_packet() {
    let root = tempfile::tempdir().unwrap();
    let source = lintas_config::source::mekong().unwrap();
    let liar = Member::of(&source, "VN");
    let wanted =
        Wanted { held: &[&liar], witnesses: Some(&["KH", "TH", "VN"]), ..Wanted::nodes(&["KH", "TH"]) };
    let mut region = Region::found_as(Path::new(PROGRAM), root.path(), &wanted, |broker| broker);
    region.start_broker();
    ["KH", "TH"].iter().for_each(|node| region.start_node(node));
    let (first, second) = (region.folder("broker"), region.folder(OTHER));
    assert!(wait(|| published(&first).0 > 3), "nothing is published");
    assert!(["KH", "TH"].iter().all(|node| region.stop_node(node)) && region.stop_broker());
    copy(&first, &second);

    // The second copy listens elsewhere, and KH is led there.
    let settings = fs::read_to_string(second.join("broker.toml")).unwrap();
    let (here, there) = (region.broker_address(), free_address());
    fs::write(second.join("broker.toml"), settings.replace(&here.to_string(), &there.to_string())).unwrap();
    let before = published(&second).0;
    let mut other = region.other_broker(OTHER);
    lead(&region, "KH", here, there);
    region.start_node("KH");
    let directory = region.directory();
    let lie = liar.connect(there, &liar.hello(&directory)).unwrap();
    assert!(wait(|| published(&second).0 > before + 3), "the second copy publishes nothing");
    assert!(region.stop_node("KH"));
    drop(lie);
    assert!(other.is_running());
    assert!(other.terminate().success());
    let (size, note) = published(&second);

    // The first copy goes on with TH, and has a larger tree by now.
    region.start_broker();
    region.start_node("TH");
    let (mut session, _) = liar.connect(here, &liar.hello(&directory)).unwrap();
    let knows = || {
        let known = fs::read(region.folder("TH").join("witness/hub.mekong_audit")).unwrap_or_default();
        SignedCheckpoint::parse(&known).map_or(0, |known| known.claim().size)
    };
    assert!(wait(|| knows() > size), "TH knows {} of {size} epochs", knows());
    assert_eq!(findings(&region, "TH"), Vec::<Value>::new());

    // A packet to TH brings what the second copy has signed.
    let to = UnitRef { agency: "TH".to_owned(), unit: "TH-ATD-RNG".to_owned() };
    let mut draft = liar.draft(&directory, &to);
    draft.body.root_checkpoint = note.into();
    let sealed = canonical::encode(&liar.seal(draft).submission);
    let answer = liar.submit(&mut session, sealed);
    assert!(matches!(answer, Answer::Receipt(_)), "{answer:?}");
    assert!(wait(|| !findings(&region, "TH").is_empty()), "TH finds nothing");
    let found = findings(&region, "TH");
    assert!(found.len() == 1 && found[0]["kind"] == "fork" && found[0]["is_evidence"] == true, "{found:?}");
    let status = region.lintas("TH", &["status"]).ok().out;
    assert!(status.contains("This can be proven: show it to the region authority"), "{status}");

    convinces_others(&region, root.path());

    // The other node need only say hello: the first copy serves nobody any more, and KH cosigns nothing of it. It waits a
    // little for what others know, and would end by itself.
    lead(&region, "KH", there, here);
    region.start_node("KH");
    let stops =
        || fs::read_to_string(region.log("broker")).unwrap().contains("It admits and delivers nothing");
    assert!(wait(stops), "the first copy goes on");
    region.kill_broker();
    assert!(["KH", "TH"].iter().all(|node| region.stop_node(node)));
}

/// Has a stopped node use another address of its broker.
fn lead(region: &Region, who: &str, from: SocketAddr, to: SocketAddr) {
    let path = region.folder(who).join("node.toml");
    let settings = fs::read_to_string(&path).unwrap();
    assert!(settings.contains(&from.to_string()), "{settings}");
    fs::write(path, settings.replace(&from.to_string(), &to.to_string())).unwrap();
}

/// A packet from TH to KH arrives, and a quorum has seen it in the log.
fn proven(drill: &Drill) {
    let id = drill.sent("TH", "TH-ATD-RNG", KH);
    drill.stands("TH", &id, "delivered");
    for who in ["TH", "KH"] {
        let said = || drill.region.lintas(who, &["--json", "evidence", &id]);
        let witnessed = || said().code == 0 && said().json()["grade"] == "witnessed";
        assert!(wait(witnessed), "{who}: {:?}", said());
    }
}

#[test]
fn whatever_befalls_an_honest_broker_nobody_finds_anything() {
    let (_root, mut drill) = begin();
    proven(&drill);
    // Killed while packets are on their way, three times; a node as well.
    for _ in 0..3 {
        let packets: Vec<String> = (0..5).map(|_| drill.sent("TH", "TH-ATD-RNG", KH)).collect();
        drill.region.kill_broker();
        drill.region.start_broker();
        NODES.iter().for_each(|node| drill.region.hurry_node(node));
        packets.iter().for_each(|id| drop(drill.stands("TH", id, "delivered")));
    }
    drill.region.kill_node("TH");
    drill.region.start_node("TH");
    drill.is_up("TH", 1);
    proven(&drill);
    // Stopped for longer than any promise's deadline has been.
    drill.region.stop_node("RCO");
    assert!(drill.region.stop_broker());
    std::thread::sleep(Duration::from_secs(12));
    drill.region.start_broker();
    drill.region.start_node("RCO");
    NODES.iter().for_each(|node| drill.region.hurry_node(node));
    proven(&drill);

    // New keys, a new roster, an erased entry.
    let (identity, key) =
        (drill.region.folder("TH").join("identity.key"), drill.region.identity_key_file("TH"));
    let renew = ["keys", "renew", "--all", "--identity", identity.to_str().unwrap()];
    let renew: Vec<&str> = renew.into_iter().chain(["--identity-key-file", key.to_str().unwrap()]).collect();
    let _ = drill.region.lintas("TH", &renew).ok();
    proven(&drill);
    // The newcomer stands before RCO, TH and VN in the roster, and their slots move on.
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/mekong/omb.toml");
    fs::copy(sample, drill.authority.sources().join("omb.toml")).unwrap();
    let request = std::path::absolute(drill.region.init_anew("OMB", "OMB")).unwrap();
    let (sources, request) = (drill.authority.sources().display().to_string(), request.display().to_string());
    let what = ["--sources", &sources, "--admit", &request, "--no-witness", "VN"];
    drill.authority.enact("second.bin", &what);
    drill.region.take_published("broker");
    drill.is_up("TH", 2);
    proven(&drill);
    let _ = drill.region.lintas("TH", &["audit", "erase", "1", "2", "--ground", "a test", "--yes"]).ok();
    proven(&drill);
    let whole = |drill: &Drill, who: &str| {
        let _ = drill.region.lintas(who, &["audit", "mirror"]).ok();
        let said = drill.region.lintas(who, &["--json", "audit", "verify"]);
        // While the broker was away nobody attested anything; that is no finding against it.
        assert!(said.code == 0 || said.code == NOT_ATTESTED, "{who}: {said:?}");
    };
    ["KH", "TH"].iter().for_each(|who| whole(&drill, who));

    // The region authority ends the log where it is.
    assert!(drill.region.stop_broker());
    drill.carry(&drill.region.folder("broker").join("audit/1/checkpoint"), "behind");
    drill.authority.enact("third.bin", &["--end-log", "hub.mekong=behind", "--without-quorum"]);
    drill.region.take_published("broker");
    drill.region.start_broker();
    NODES.iter().for_each(|node| drill.region.hurry_node(node));
    drill.is_up("TH", 3);
    drill.is_up("KH", 3);
    proven(&drill);
    cosigned_beyond(&drill, 2, 0);
    // The ended log still is what the receipts of it say.
    let ended = drill.region.folder("broker").join("audit/1");
    let verify = ["audit", "verify", "--agency", "TH", "--from", ended.to_str().unwrap()];
    let said = drill.region.lintas("TH", &verify);
    assert!(said.code == 0 || said.code == NOT_ATTESTED, "{said:?}");
    for who in NODES {
        assert_eq!(findings(&drill.region, who), Vec::<Value>::new(), "{who}");
    }
    assert!(NODES.iter().all(|node| drill.region.stop_node(node)) && drill.region.stop_broker());
}
