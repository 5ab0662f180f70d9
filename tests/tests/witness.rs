//! The region authority's side of the audit log: who watches it, who reads it, where one ends. Real processes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::{fs, path::Path};

use lintas_proto::{
    audit::note::{Checkpoint, SignedCheckpoint},
    canonical,
    schema::BrokerSecrets,
    sign::{KeyRole, SigningKey},
};
use lintas_tests::{process::wait, region::Region};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_lintas-demo");
/// Exit code: a rule of the authority.
const FORBIDDEN: i32 = 12;

/// What `region inspect` says of a file.
fn inspect(region: &Region, path: &Path) -> Value {
    region.authority().lintas(&["--json", "region", "inspect", path.to_str().unwrap()]).ok().json()
}

fn in_force(region: &Region) -> Value {
    inspect(region, &region.authority().published().join("directory.bin"))
}

fn member<'a>(directory: &'a Value, agency: &str) -> &'a Value {
    directory["members"].as_array().unwrap().iter().find(|member| member["agency"] == agency).unwrap()
}

/// A check of `lintas doctor`, which may warn of something else.
fn doctor(region: &Region, who: &str, name: &str) -> Option<Value> {
    let said = region.lintas(who, &["--json", "doctor"]).json();
    said["checks"].as_array().unwrap().iter().find(|check| check["check"] == name).cloned()
}

/// Runs `region change` and returns what it says.
fn change(region: &Region, out: &str, what: &[&str]) -> lintas_tests::region::Said {
    let from = region.authority().published().join("directory.bin");
    let begin = ["region", "change", "--out", out, "--from", from.to_str().unwrap()];
    region.authority().lintas(&[&begin[..], what].concat())
}

#[test]
fn an_outside_witness_joins_without_a_unit_and_others_come_and_go() {
    let root = tempfile::tempdir().unwrap();
    let mut region = Region::found(Path::new(PROGRAM), root.path(), &["OMB", "TH"]);
    region.start_broker();
    ["OMB", "TH"].iter().for_each(|node| region.start_node(node));
    let up = |who: &str, roster: u64| {
        let status = || region.lintas(who, &["--json", "status"]).ok().json();
        let is_up =
            |status: &Value| status["link"]["connected"] == true && status["roster_version"] == roster;
        assert!(wait(|| is_up(&status())), "{who}: {}", status());
    };
    ["OMB", "TH"].iter().for_each(|who| up(who, 1));
    let first = in_force(&region);
    assert_eq!((&first["quorum"], &first["tolerates_false_witnesses"]), (&2.into(), &0.into()));
    assert_eq!(member(&first, "OMB")["units"], Value::Array(vec![]));
    assert_eq!(doctor(&region, "OMB", "witness_key").unwrap()["mark"], "ok");
    assert!(region.lintas("OMB", &["keys"]).ok().out.contains("witness of the audit log, with the key "));
    let request = region.folder("OMB").join("join-request.bin");
    let words = inspect(&region, &request)["witness_key"]["words"].as_str().unwrap().to_owned();
    assert_eq!(member(&first, "OMB")["witness_key"]["words"], words.as_str());

    // TH is one no longer; the auditors read what KH and TH did; reads are told after a week.
    let what = ["--no-witness", "TH", "--audits", "AUD=TH,KH", "--reads-told-after-days", "7"];
    let said = change(&region, "second.bin", &what).ok().out;
    for text in [
        "region: 1 witness watches the log and must cosign it; tolerates no false witness",
        "region: an agency is told after 7 days that an auditor read its part of the log",
        "TH: is a witness of the log no longer",
        "AUD: may read the parts of the log of: KH, TH",
    ] {
        assert!(said.contains(text), "{said}\nlacks {text}");
    }
    region.authority().sign_and_publish("second.bin", &[1, 2]);
    region.take_published("broker");
    up("TH", 2);
    assert_eq!(doctor(&region, "TH", "witness_key"), None);
    assert!(region.lintas("TH", &["keys"]).ok().out.contains("no witness of the audit log"));

    // A key in another's request is nobody's.
    let of = |request: &Path| format!("TH={}", request.display());
    let other = change(&region, "x.bin", &["--witness", &of(&request)]);
    assert!(other.code == FORBIDDEN && other.err.contains("not of TH"), "{other:?}");
    let own = region.folder("TH").join("join-request.bin");
    region.authority().enact("third.bin", &["--witness", &of(&own)]);
    region.take_published("broker");
    up("TH", 3);
    assert_eq!(doctor(&region, "TH", "witness_key").unwrap()["mark"], "ok");
    let plain = region.authority().published().join("directory.bin");
    let plain = region.authority().lintas(&["region", "inspect", plain.to_str().unwrap()]).ok().out;
    for text in [
        "Audit log: 2 witnesses watch the log, 2 of them must cosign it; tolerates no false witness",
        "reads the parts of the log of: KH, TH",
        "  log hub.mekong/audit+",
        "  witness mekong/witness/OMB+",
        "signs its log hub.mekong/audit with ",
    ] {
        assert!(plain.contains(text), "{plain}\nlacks {text}");
    }
    assert!(["OMB", "TH"].iter().all(|node| region.stop_node(node)) && region.stop_broker());
}

#[test]
fn a_log_ends_once_and_by_whom_it_was_seen() {
    let root = tempfile::tempdir().unwrap();
    let region = Region::found(Path::new(PROGRAM), root.path(), &["KH", "TH"]);
    let secrets = fs::read(region.folder("broker").join("broker.keys")).unwrap();
    let secrets: BrokerSecrets = canonical::decode(&secrets.into(), 4_096).unwrap();
    let log = lintas_config::issue::seed("log", &secrets.log_seed).unwrap();
    let log = SigningKey::from_seed(KeyRole::Log, &log).unwrap();
    let checkpoint = |name: &str, origin: &str| {
        let said = Checkpoint { origin: origin.to_owned(), size: 42, root: [7; 32] };
        fs::write(region.authority().path(name), SignedCheckpoint::sign(said, &log).unwrap().to_bytes())
            .unwrap();
    };
    checkpoint("behind", "hub.mekong/audit");
    let alone = change(&region, "x.bin", &["--end-log", "hub.mekong=behind"]);
    assert!(alone.code == FORBIDDEN && alone.err.contains("only 0 of the 2 witnesses"), "{alone:?}");
    let said = change(&region, "end.bin", &["--end-log", "hub.mekong=behind", "--without-quorum"]).ok().out;
    let text = "hub.mekong: the log hub.mekong/audit ends at size 42, root 0707";
    assert!(said.contains(text) && said.contains("every node submits again"), "{said}");
    region.authority().sign_and_publish("end.bin", &[1, 2]);
    let found = in_force(&region);
    let broker = &found["brokers"][0];
    assert_eq!(broker["log"]["origin"], "hub.mekong.log2/audit");
    assert_eq!(broker["ended_logs"][0]["ended_at_size"], 42);
    let again = change(&region, "x.bin", &["--end-log", "hub.mekong=behind", "--without-quorum"]);
    assert!(again.code == FORBIDDEN && again.err.contains("`hub.mekong.log2/audit`"), "{again:?}");

    // New keys, the log key among them: only with an end of the log that they would sign.
    let fresh = region.authority().path("fresh");
    let (_, keys) = lintas_config::issue::new_broker("hub.mekong", &mut lintas_config::os_entropy()).unwrap();
    fs::write(&fresh, canonical::encode(&keys)).unwrap();
    let two_keys = change(&region, "x.bin", &["--broker", "fresh"]);
    assert!(
        two_keys.code == FORBIDDEN && two_keys.err.contains("two keys must not sign one log"),
        "{two_keys:?}"
    );
    checkpoint("newest", "hub.mekong.log2/audit");
    let both = ["--broker", "fresh", "--end-log", "hub.mekong=newest", "--without-quorum"];
    region.authority().enact("both.bin", &both);
    assert_eq!(in_force(&region)["brokers"][0]["log"]["origin"], "hub.mekong.log3/audit");
    let history = region.authority().published();
    let history = region.authority().lintas(&["region", "history", history.to_str().unwrap()]).ok().out;
    assert!(history.contains("the log hub.mekong.log2/audit ends at size 42"), "{history}");
}
