//! An outsider verifies a log from the documents alone: docs/examples/verify_log.py was written from docs/AUDIT.md and
//! docs/FORMAT.md, and shares no code with Lintas. It accepts what a real broker has published, and names what was changed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use lintas_proto::audit::note::SignedCheckpoint;
use lintas_tests::{case, independent::copy, process::wait, python::Outsider, region::Region};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_lintas-demo");

fn size(checkpoint: &Path) -> u64 {
    let note = fs::read(checkpoint).ok().and_then(|note| SignedCheckpoint::parse(&note).ok());
    note.map_or(0, |note| note.claim().size)
}

/// What `lintas region inspect` says of a directory, in a file.
fn inspected(region: &Region, directory: &Path, to: &Path) -> PathBuf {
    let arguments = ["--json", "region", "inspect", directory.to_str().unwrap()];
    fs::write(to, region.authority().lintas(&arguments).ok().out).unwrap();
    to.to_owned()
}

/// One file of each class, and the byte of it that is changed. Only what stands under the checkpoint is vouched for.
fn one_of_each(log: &Path) -> Vec<(PathBuf, usize)> {
    let th = log.join("TH");
    let widths = [log, &th].map(|folder| size(&folder.join("checkpoint")));
    assert!(widths.iter().all(|width| (1..256).contains(width)), "one bundle each: {widths:?}");
    let mut files = Vec::new();
    for (folder, width) in [(log, widths[0]), (&th, widths[1])] {
        files.push((folder.join("checkpoint"), 20));
        for tile in ["tile/0", "tile/entries"] {
            files.push((folder.join(format!("{tile}/000.p/{width}")), 40));
        }
    }
    for name in ["slots/000", "cosigned/000"] {
        files.push((log.join(name), 40));
    }
    // The last byte of a size, of a slot key, of the length of the first opening, and of the first key.
    for (name, at) in [("sizes", 15), ("slot-keys", 39), ("openings/000", 1), ("keys/000", 31)] {
        files.push((th.join(name), at));
    }
    files
}

#[test]
fn an_outsider_verifies_a_region_s_log_from_the_documents_alone() {
    let Some(outsider) = Outsider::find() else { return };
    let root = tempfile::tempdir().unwrap();
    let nodes = ["KH", "TH"];
    let mut region = Region::found(Path::new(PROGRAM), root.path(), &nodes);
    region.start_broker();
    nodes.iter().for_each(|node| region.start_node(node));
    for title in ["the first", "the second"] {
        let _ =
            region.lintas("TH", &["--json", "send", &case::titled(root.path(), title), "--wait", "30"]).ok();
    }
    let log = region.folder("broker").join("audit/1");
    // Each packet: submitted, released, acknowledged.
    assert!(wait(|| size(&log.join("TH/checkpoint")) >= 6 && log.join("cosigned/000").exists()));
    let erase = ["audit", "erase", "1", "--ground", "order 7/2026 of the court", "--yes"];
    let _ = region.lintas("TH", &erase).ok();
    let erased = || fs::read(log.join("TH/keys/000")).unwrap()[32..64] == [0; 32];
    assert!(wait(|| erased() && size(&log.join("TH/checkpoint")) >= 7));
    // The roster changes; from then on the slots stand under the next one.
    let first = inspected(
        &region,
        &region.authority().published().join("directory.bin"),
        &root.path().join("1.json"),
    );
    region.authority().enact("suspend.bin", &["--suspend", "VN"]);
    region.take_published("broker");
    let rosters = || fs::read(log.join("rosters")).unwrap().len();
    assert!(wait(|| rosters() == 32), "the second roster has no epoch");
    let epochs = size(&log.join("checkpoint"));
    assert!(wait(|| size(&log.join("checkpoint")) > epochs + 1));
    let mirrored = region.lintas("TH", &["--json", "audit", "mirror"]).ok().json();
    assert!(nodes.iter().all(|node| region.stop_node(node)) && region.stop_broker());

    let newest = region.authority().published().join("directory.bin");
    let second = inspected(&region, &newest, &root.path().join("2.json"));
    let said = outsider.verify(&log, &[&second, &first]).unwrap();
    assert!(said.starts_with("hub.mekong/audit: ") && said.contains("seen by a quorum of 2"), "{said}");
    assert!(
        said.contains("hub.mekong/audit/TH: ") && said.contains(" 1 erased; its slot is right in "),
        "{said}"
    );
    // A mirror is the same log, as far as that agency reads it.
    let mirror = region.folder("TH").join("audit/hub.mekong/audit");
    let of_mirror = outsider.verify(&mirror, &[&second]).unwrap();
    assert!(
        of_mirror.contains("hub.mekong/audit/TH: ") && !of_mirror.contains("/KH: "),
        "{of_mirror} {mirrored}"
    );
    house_s_own_verifier_agrees(&region, &log);

    let copied = root.path().join("copied");
    copy(&log, &copied);
    for (file, at) in one_of_each(&copied) {
        let before = fs::read(&file).unwrap();
        let mut bytes = before.clone();
        bytes[at] ^= 1;
        fs::write(&file, bytes).unwrap();
        let refused = outsider.verify(&copied, &[&second]).unwrap_err();
        assert!(refused.starts_with("refused: "), "{} at {at}: {refused}", file.display());
        assert!(!refused.contains("Traceback"), "{refused}");
        fs::write(&file, before).unwrap();
    }
    assert_eq!(outsider.verify(&copied, &[&second]).as_deref(), Ok(said.as_str()));
    another_key_is_refused(&outsider, &copied, &second);
}

/// `lintas audit verify` reads a broker's folder, from the bootstrap file alone.
fn house_s_own_verifier_agrees(region: &Region, log: &Path) {
    let bootstrap = region.folder("broker").join("bootstrap.toml");
    let [log, bootstrap] = [log, &bootstrap].map(|path| path.to_str().unwrap());
    let said = region.lintas("TH", &["audit", "verify", "--from", log, "--bootstrap", bootstrap]);
    assert!(said.code == 0 || said.code == 32, "whole, perhaps not attested in time: {said:?}");
    assert!(said.out.contains("sub-log of KH") && said.out.contains("sub-log of TH"), "{said:?}");
}

/// The keys come from the directory: with another one nothing is believed.
fn another_key_is_refused(outsider: &Outsider, log: &Path, region: &Path) {
    let mut other: Value = serde_json::from_slice(&fs::read(region).unwrap()).unwrap();
    let of_kh = other["brokers"][0]["sub_logs"].as_array().unwrap().clone();
    let vkey = |log: &Value| log["vkey"].as_str().unwrap().rsplit_once('+').unwrap().1.to_owned();
    assert!(of_kh.iter().all(|log| vkey(log) == vkey(&of_kh[0])), "one key signs one broker's logs");
    other["quorum"] = 3.into();
    let path = region.with_extension("other");
    fs::write(&path, other.to_string()).unwrap();
    let refused = outsider.verify(log, &[&path]).unwrap_err();
    assert!(refused.contains("no quorum of witnesses"), "{refused}");
    let witnesses = other["members"].as_array_mut().unwrap();
    witnesses.iter_mut().for_each(|member| drop(member.as_object_mut().unwrap().remove("witness_vkey")));
    fs::write(&path, other.to_string()).unwrap();
    let refused = outsider.verify(log, &[&path]).unwrap_err();
    assert!(refused.contains("signed by a key that was not given"), "{refused}");
}
