//! A broker that tells another story than before: it is noticed, it is stopped, and nothing is lost. Real processes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::{fs, path::Path};

use lintas_proto::audit::note::SignedCheckpoint;
use lintas_tests::{drill::Drill, independent::copy, process::wait};
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
    drill.stands("TH", &waits, "pending");
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
