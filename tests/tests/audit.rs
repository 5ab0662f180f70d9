//! An auditor at work: a real region, its log mirrored, verified, read, handed on and erased from; and every class of
//! stored file with a byte flipped.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::too_many_lines,
    reason = "tests"
)]

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use lintas_tests::{
    ROLE_BROKER, ROLE_NODE, case,
    independent::files,
    process::wait,
    region::{Region, Said, Wanted},
};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_lintas-demo");
const NODES: [&str; 4] = ["AUD", "KH", "TH", "VN"];
const NOT_FOUND: i32 = 7;
const DAMAGED: i32 = 30;
const UNFINISHED: i32 = 32;
/// Longest check of these small folders, seconds.
const CHECK_S_MAX: u64 = 10;

/// A region with an auditor, four witnesses, and reads that are told at once.
fn region(root: &Path) -> Region {
    let wanted = Wanted { witnesses: Some(&NODES), ..Wanted::nodes(&NODES) };
    let mut region = Region::found_as(Path::new(PROGRAM), root, &wanted, |broker| broker);
    region.authority().enact("reads.bin", &["--reads-told-after-days", "0"]);
    ["broker"].iter().chain(&NODES).for_each(|folder| region.take_published(folder));
    region.start_broker();
    NODES.iter().for_each(|node| region.start_node(node));
    region
}

/// A command on a machine that has nothing but these files.
fn elsewhere(role: &str, arguments: &[&str]) -> Said {
    let output = Command::new(PROGRAM).arg(role).args(arguments).env_remove("LINTAS_DATA").output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

fn send(region: &Region, root: &Path, to: &str, title: &str) -> String {
    let draft = case::draft(root, &format!("{title}.json"), |alert| {
        alert["to"] = json!([to]);
        alert["body"]["title"] = json!([{ "language": "en", "text": title }]);
    });
    let sent = region.lintas("TH", &["--json", "send", &draft]).ok().json();
    sent["packet_id"].as_str().unwrap().to_owned()
}

/// The events that a node's mirror has, oldest first; none of a sub-log that is not there yet.
fn events(region: &Region, node: &str, filter: &[&str]) -> Vec<Value> {
    let list = ["--json", "audit", "list", "--oldest-first", "--limit", "1000"];
    let listed = region.lintas(node, &[&list[..], filter].concat());
    if listed.code == NOT_FOUND {
        return Vec::new();
    }
    listed.ok().json()["events"].as_array().unwrap().clone()
}

/// Mirrors until the mirror of `node` has an event that `filter` finds.
fn mirrored(region: &Region, node: &str, filter: &[&str]) -> Vec<Value> {
    let mut found = Vec::new();
    let there = wait(|| {
        let _ = region.lintas(node, &["audit", "mirror"]).ok();
        found = events(region, node, filter);
        !found.is_empty()
    });
    assert!(there, "{node} never mirrors {filter:?}");
    found
}

#[test]
fn an_auditor_mirrors_verifies_reads_hands_on_and_sees_an_erasure() {
    let root = tempfile::tempdir().unwrap();
    let mut region = region(root.path());
    let ids: Vec<String> =
        (0..3).map(|n| send(&region, root.path(), "KH/KH-AHT", &format!("alert{n}"))).collect();
    let away = send(&region, root.path(), "RCO/RCO-DESK", "away");
    let acknowledged = |node: &str, agency: &str| {
        mirrored(&region, node, &["--kind", "acknowledged", "--packet", &ids[2], "--agency", agency]).len()
    };
    let both = (acknowledged("TH", "TH"), acknowledged("AUD", "TH"), acknowledged("AUD", "KH"));
    assert_eq!(both, (1, 1, 1));

    // What the auditor reads, the agency is told in one of its next epochs.
    let told = mirrored(&region, "TH", &["--kind", "audit-read-told"]);
    assert_eq!(told[0]["other_agency"], "AUD");
    let verify = |node: &str| region.lintas(node, &["--json", "audit", "verify"]);
    let whole = verify("TH").ok().json();
    assert_eq!((&whole["own_receipts"], &whole["own_evidence"]), (&json!(8), &json!(3)), "{whole}");
    let _ = verify("AUD").ok();

    // Filters and pages.
    let th = ["--agency", "TH"];
    let all = events(&region, "AUD", &th);
    let (mut paged, mut next) = (Vec::new(), None::<String>);
    loop {
        let page = next.iter().flat_map(|next| ["--page", next.as_str()]);
        let list = ["--json", "audit", "list", "--oldest-first", "--limit", "3", "--agency", "TH"];
        let arguments: Vec<&str> = list.into_iter().chain(page).collect();
        let listed = region.lintas("AUD", &arguments).ok().json();
        paged.extend(listed["events"].as_array().unwrap().clone());
        next = listed["next"].as_str().map(str::to_owned);
        if next.is_none() {
            break;
        }
    }
    assert_eq!(paged, all);
    let count = |filter: &[&str]| events(&region, "AUD", &[&th[..], filter].concat()).len();
    assert_eq!((count(&["--with", "RCO"]), count(&["--packet", away.get(..18).unwrap()])), (1, 2));
    assert_eq!(
        (count(&["--kind", "released", "--outcome", "accepted"]), count(&["--until", "2020-01-01"])),
        (4, 0)
    );
    let csv = region.lintas("AUD", &["audit", "list", "--csv", "--agency", "TH", "--kind", "submitted"]).ok();
    assert_eq!(csv.out.lines().count(), 5, "{csv:?}");
    let shown = region.lintas("AUD", &["audit", "show", "1", "--agency", "TH"]).ok();
    assert!(shown.out.contains("the path leads to its root") && shown.out.contains("quorum"), "{shown:?}");

    // National scope.
    let refused = region.lintas("TH", &["audit", "mirror", "--agency", "KH"]);
    assert!(refused.code == 9 && refused.err.contains("TH may not read the sub-log of KH"), "{refused:?}");

    // On another machine, with the bootstrap file alone, or on the word of whoever gives the directory.
    let carried = root.path().join("carried");
    let out = carried.display().to_string();
    let export = ["audit", "export", "--out", &out, "--agency", "TH", "--kind", "submitted"];
    let _ = region.lintas("AUD", &export).ok();
    let authority = region.authority();
    let by = |name: &str| authority.published().join(name).display().to_string();
    let log = carried.join("log").display().to_string();
    for (by, file) in [("--bootstrap", by("bootstrap.toml")), ("--directory", by("directory.bin"))] {
        let said = elsewhere(ROLE_NODE, &["audit", "verify", "--from", &log, by, &file]).ok();
        assert!(said.out.contains("an extract") && !said.out.contains("BROKEN"), "{said:?}");
        assert_eq!(said.out.contains("on your word"), by == "--directory", "{said:?}");
    }
    let said =
        elsewhere(ROLE_NODE, &["audit", "list", "--from", &log, "--bootstrap", &by("bootstrap.toml")]).ok();
    assert!(said.out.contains("left out of this copy") && !said.out.contains("by order"), "{said:?}");
    fs::remove_file(carried.join("log/extract")).unwrap();
    assert_eq!(
        elsewhere(ROLE_NODE, &["audit", "verify", "--from", &log, "--bootstrap", &by("bootstrap.toml")]).code,
        DAMAGED
    );

    erased(&region, &ids[0]);
    interrupted(&mut region, root.path());
    assert!(NODES.iter().all(|node| region.stop_node(node)) && region.stop_broker());

    // A broker's own folder, against the bootstrap file alone; and its disk.
    let data = region.folder("broker");
    let own = data.join("audit/1").display().to_string();
    let _ =
        elsewhere(ROLE_NODE, &["audit", "verify", "--from", &own, "--bootstrap", &by("bootstrap.toml")]).ok();
    let checked = elsewhere(ROLE_BROKER, &["check", "--data", data.to_str().unwrap()]).ok();
    assert!(checked.out.contains("WHOLE: journal, audit/ and policies/"), "{checked:?}");
}

/// TH has what is logged of a packet forgotten: every mirror that follows stays green, and no key is left.
fn erased(region: &Region, packet: &str) {
    let erase = |index: &str| {
        region.lintas("TH", &["--json", "audit", "erase", index, "--ground", "Order 7", "--yes"])
    };
    let early = region.lintas("TH", &["audit", "erase", "99999", "--ground", "Order 7", "--yes"]);
    assert!(early.code == 9 && early.err.contains("order it again when they are"), "{early:?}");
    assert!(!early.err.contains("the node tries again"), "{early:?}");
    let mine = events(region, "TH", &["--packet", packet]);
    let index = mine[0]["index"].as_u64().unwrap();
    let ordered = erase(&index.to_string()).ok().json();
    for node in ["TH", "AUD"] {
        let said = mirrored(region, node, &["--agency", "TH", "--kind", "erased"]);
        assert_eq!((&said[0]["index"], &said[0]["first_index"]), (&ordered["event"], &json!(index)));
        let report = region.lintas(node, &["--json", "audit", "verify"]).ok().json();
        let subs = report["sub_logs"].as_array().unwrap();
        let th = subs.iter().find(|sub| sub["agency"] == "TH").unwrap();
        assert_eq!(th["erased"], 1, "{report}");
    }
    let key = |log: PathBuf| {
        fs::read(log.join("TH/keys/000")).unwrap()[usize::try_from(index).unwrap() * 32..][..32].to_vec()
    };
    for log in ["broker/audit/1", "TH/audit/hub.mekong/audit", "AUD/audit/hub.mekong/audit"] {
        assert_eq!(key(region.folder(log)), [0; 32], "{log}");
    }
    let shown = region.lintas("AUD", &["audit", "show", &index.to_string(), "--agency", "TH"]).ok();
    assert!(shown.out.contains("content is not here"), "{shown:?}");
}

/// A mirror that is killed at any moment, and one whose broker goes away, are completed by the next.
fn interrupted(region: &mut Region, root: &Path) {
    let (data, key) = (region.folder("AUD"), region.key_file("AUD"));
    for pause_ms in [5, 15, 25, 40, 60] {
        let _ = send(region, root, "KH/KH-AHT", &format!("more{pause_ms}"));
        let arguments = [OsStr::new(ROLE_NODE), OsStr::new("--data"), data.as_os_str()];
        let mut mirror = Command::new(PROGRAM);
        let mirror = mirror.args(arguments).args(["audit", "mirror"]).env("LINTAS_KEY_FILE", &key);
        let mut mirror = mirror.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(pause_ms));
        let _ = mirror.kill();
        let _ = mirror.wait().unwrap();
    }
    region.kill_broker();
    let broken = region.lintas("AUD", &["audit", "mirror", "--wait", "0"]);
    assert!(broken.code == 8 && broken.err.contains("broker"), "{broken:?}");
    assert!(region.stop_node("AUD"));
    let no_node = region.lintas("AUD", &["audit", "mirror"]);
    assert!(no_node.code == 8 && no_node.err.contains("start `lintas run`"), "{no_node:?}");
    // What is here can be read without anybody.
    let _ = region.lintas("AUD", &["audit", "verify"]).ok();
    region.start_broker();
    region.start_node("AUD");
    // Both have only just begun: the command waits until they have found each other.
    let waited = region.lintas("AUD", &["audit", "mirror"]);
    assert_eq!(waited.code, 0, "{waited:?}");
    NODES.iter().for_each(|node| region.hurry_node(node));
    let caught_up = wait(|| {
        let mirrored = region.lintas("AUD", &["audit", "mirror"]).code == 0;
        mirrored && events(region, "AUD", &["--kind", "submitted"]).len() >= 9
    });
    assert!(caught_up, "{:?}", region.lintas("AUD", &["audit", "mirror"]));
    let _ = region.lintas("AUD", &["audit", "verify"]).ok();
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1 << (at % 8);
    fs::write(path, bytes).unwrap();
}

/// Where the file means something: up to the last byte that is not zero.
fn used(path: &Path) -> usize {
    fs::read(path).unwrap().iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

#[test]
fn a_flipped_byte_is_found_in_every_class_of_file_and_named() {
    let root = tempfile::tempdir().unwrap();
    let mut region = region(root.path());
    let id = send(&region, root.path(), "KH/KH-AHT", "flipped");
    let there = mirrored(&region, "TH", &["--kind", "acknowledged", "--packet", &id]);
    assert_eq!(there.len(), 1);
    let data = region.folder("broker");
    let check = |expected: &[i32]| -> Option<Value> {
        let before = std::time::Instant::now();
        let said = elsewhere(ROLE_BROKER, &["--json", "check", "--data", data.to_str().unwrap()]);
        assert!(before.elapsed().as_secs() < CHECK_S_MAX);
        expected.contains(&said.code).then(|| said.json())
    };
    let busy = elsewhere(ROLE_BROKER, &["check", "--data", data.to_str().unwrap()]);
    assert!(busy.code == 3 && busy.err.contains("in use"), "{busy:?}");
    assert!(NODES.iter().all(|node| region.stop_node(node)) && region.stop_broker());
    let before = check(&[0]).unwrap();
    assert!(
        before["journal"]["clean_close"] == true && before["audit"]["compared"].as_u64() >= Some(5),
        "{before}"
    );
    assert_eq!(before["audit"]["compared"], before["audit"]["entries"], "{before}");

    // The journal: headers, groups, records; at the very end it is an unfinished write.
    let segments: Vec<PathBuf> =
        files(&data.join("journal")).into_iter().filter(|path| used(path) > 0).collect();
    let mut flipped = 0;
    for path in &segments {
        let end = used(path);
        let samples = (0..end).step_by((end / 60).max(1)).chain([8, 16, 4_092, 4_096, end - 1, end + 9]);
        for at in samples {
            flip(path, at);
            let found = check(&[DAMAGED, UNFINISHED]);
            let found = found.unwrap_or_else(|| panic!("byte {at} of {}, which has {end}", path.display()));
            let name = format!("journal/{}", path.file_name().unwrap().to_str().unwrap());
            let named = found["findings"]
                .as_array()
                .unwrap()
                .iter()
                .any(|one| one["file"] == name.as_str() || one["file"] == "journal");
            assert!(named || found["unfinished_write"]["offset"].is_u64(), "{at}: {found}");
            flip(path, at);
            flipped += 1;
        }
    }
    assert!(flipped > 60, "{flipped}");

    // The published log: by the check of its operator, or by the verification of an auditor; which names it.
    let bootstrap = region.authority().published().join("bootstrap.toml").display().to_string();
    let log = data.join("audit/1");
    let own = log.display().to_string();
    let verify =
        || elsewhere(ROLE_NODE, &["--json", "audit", "verify", "--from", &own, "--bootstrap", &bootstrap]);
    let _ = verify().ok();
    flip(&data.join("audit/published"), 50);
    assert_eq!(check(&[DAMAGED]).unwrap()["findings"][0]["file"], "audit/published");
    flip(&data.join("audit/published"), 50);
    let mut classes = std::collections::BTreeSet::new();
    for path in files(&log) {
        let length = fs::read(&path).unwrap().len();
        let name = path.strip_prefix(&log).unwrap().to_str().unwrap().to_owned();
        // Unfinished tiles of earlier checkpoints are read by nobody who verifies the newest one.
        let old = name.contains(".p/") && !newest(&path);
        let of_others = ["AUD/", "VN/", "ID/", "LA/", "MM/", "RCO/", "TH/tile"]
            .iter()
            .any(|other| name.starts_with(other));
        if length == 0 || old || of_others {
            continue;
        }
        flip(&path, length / 2);
        let (said, before) = (verify(), std::time::Instant::now());
        assert!(before.elapsed().as_secs() < CHECK_S_MAX);
        let agency = name.split_once('/').filter(|(first, _)| ["TH", "KH"].contains(first));
        let file = agency.map_or(name.as_str(), |(_, rest)| rest);
        let text = format!("{}{}", said.out, said.err);
        let named = text.contains(&format!("\"{file}\"")) || text.contains(&format!("{file}: "));
        let by_auditor = (30..=32).contains(&said.code) && named;
        let found = check(&[0, DAMAGED]).unwrap();
        let by_operator = found["findings"].to_string().contains(file);
        // What is published beyond the checkpoint at hand only the operator's check reads.
        assert!(by_auditor || by_operator, "{name}: {said:?}\n{found}");
        let in_trees = ["tile/", "openings/", "keys/"].iter().any(|class| file.starts_with(class));
        assert!(by_operator || !in_trees, "{name}: {found}");
        classes.insert(file.split('/').next().unwrap().to_owned());
        flip(&path, length / 2);
    }
    let classes: Vec<&str> = classes.iter().map(String::as_str).collect();
    assert_eq!(
        classes,
        ["checkpoint", "cosigned", "keys", "openings", "rosters", "sizes", "slot-keys", "slots", "tile"]
    );
    assert!(check(&[0]).is_some());
}

/// Of the unfinished tiles and bundles of one number the widest.
fn newest(path: &Path) -> bool {
    let width = |path: &Path| path.file_name().unwrap().to_str().unwrap().parse::<u32>().unwrap_or(0);
    files(path.parent().unwrap()).iter().all(|other| width(other) <= width(path))
}
