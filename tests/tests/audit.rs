//! An auditor at work: a real region, its log mirrored, verified, read, handed on and erased from.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::{fs, path::Path};

use lintas_tests::{
    case,
    process::wait,
    region::{Region, Wanted},
};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_lintas-demo");

#[test]
#[ignore]
fn play() {
    let root = tempfile::tempdir().unwrap();
    let nodes = ["AUD", "KH", "TH", "VN"];
    let wanted = Wanted { witnesses: Some(&nodes), ..Wanted::nodes(&nodes) };
    let mut region = Region::found_as(Path::new(PROGRAM), root.path(), &wanted, |b| b);
    region.authority().enact("reads.bin", &["--reads-told-after-days", "0"]);
    for folder in ["broker"].iter().chain(&nodes) {
        region.take_published(folder);
    }
    let say = |title: &str, said: &lintas_tests::region::Said| {
        println!("===== {title}: {}\n{}\n--- err\n{}", said.code, said.out, said.err);
    };
    let r = region.lintas("AUD", &["audit", "mirror"]);
    say("mirror without daemon", &r);
    let r = region.lintas("AUD", &["audit", "verify"]);
    say("verify without anything", &r);
    let r = region.lintas("AUD", &["audit", "list"]);
    say("list without anything", &r);
    region.start_broker();
    nodes.iter().for_each(|node| region.start_node(node));
    for n in 0..4 {
        let _ = region.lintas(
            "TH",
            &["--json", "send", &case::titled(root.path(), &format!("one {n}")), "--wait", "30"],
        );
    }
    let expiring = case::draft(root.path(), "exp.json", |alert| {
        alert["to"] = serde_json::json!(["RCO/RCO-DESK"]);
    });
    let r = region.lintas("TH", &["--json", "send", &expiring]);
    say("to RCO who is away", &r);
    let inbox = region.lintas("KH", &["--json", "inbox"]);
    say("inbox", &inbox);
    let id = inbox.json().as_array().and_then(|a| a[0]["packet_id"].as_str().map(str::to_owned));
    let _ = id;
    let whole = || region.lintas("TH", &["--json", "status"]).ok().json();
    println!("{}", whole());
    std::thread::sleep(std::time::Duration::from_secs(3));
    for agency in ["AUD", "TH", "KH"] {
        let r = region.lintas(agency, &["audit", "mirror"]);
        say(&format!("mirror {agency}"), &r);
        let r = region.lintas(agency, &["audit", "verify"]);
        say(&format!("verify {agency}"), &r);
    }
    let r = region.lintas("TH", &["audit", "mirror", "--agency", "KH"]);
    say("TH mirrors KH", &r);
    let r = region.lintas("TH", &["audit", "mirror", "--agency", "nonsense"]);
    say("TH mirrors nonsense", &r);
    let r = region.lintas("AUD", &["audit", "list", "--limit", "5"]);
    say("list", &r);
    let r = region.lintas("AUD", &["--json", "audit", "list", "--limit", "2"]);
    say("list json", &r);
    let r = region.lintas("AUD", &["audit", "list", "--csv", "--limit", "3"]);
    say("list csv", &r);
    for f in [
        vec!["--kind", "released"],
        vec!["--outcome", "accepted"],
        vec!["--with", "KH"],
        vec!["--since", "2020-01-01"],
        vec!["--until", "2020-01-01"],
        vec!["--agency", "LA"],
        vec!["--kind", "nope"],
        vec!["--oldest-first", "--agency", "TH"],
    ] {
        let mut args = vec!["audit", "list"];
        args.extend(&f);
        let r = region.lintas("AUD", &args);
        say(&format!("{f:?}"), &r);
    }
    let r = region.lintas("AUD", &["audit", "show", "1", "--agency", "TH"]);
    say("show", &r);
    let out = root.path().join("export").display().to_string();
    let r =
        region.lintas("AUD", &["audit", "export", "--out", &out, "--agency", "TH", "--kind", "submitted"]);
    say("export", &r);
    let r = region.lintas("AUD", &["audit", "export", "--out", &out]);
    say("export again", &r);
    let pin = region.authority().published().join("bootstrap.toml").display().to_string();
    let dirf = region.authority().published().join("directory.bin").display().to_string();
    let from = format!("{out}/log");
    let plain = |args: &[&str]| {
        let o = std::process::Command::new(PROGRAM)
            .arg("__node")
            .args(args)
            .current_dir(root.path())
            .env_remove("LINTAS_DATA")
            .output()
            .unwrap();
        println!(
            "===== {args:?}: {:?}\n{}\n--- err\n{}",
            o.status.code(),
            String::from_utf8_lossy(&o.stdout),
            String::from_utf8_lossy(&o.stderr)
        );
    };
    plain(&["audit", "verify", "--from", &from, "--bootstrap", &pin]);
    plain(&["audit", "verify", "--from", &from, "--directory", &dirf]);
    plain(&["audit", "verify", "--from", &from]);
    plain(&["audit", "verify", "--from", &out, "--bootstrap", &pin]);
    plain(&["audit", "list", "--from", &from, "--bootstrap", &pin]);
    let broker = region.folder("broker").join("audit/1").display().to_string();
    plain(&["audit", "verify", "--from", &broker, "--bootstrap", &pin]);
    // erase
    let r = region.lintas("TH", &["audit", "erase", "1", "--ground", "Court order 7", "--yes"]);
    say("erase 1", &r);
    let r = region.lintas("TH", &["audit", "erase", "0", "--ground", "Court order 7", "--yes"]);
    say("erase 0", &r);
    let r = region.lintas("TH", &["audit", "erase", "100000", "--ground", "Court order 7", "--yes"]);
    say("erase 100000", &r);
    std::thread::sleep(std::time::Duration::from_secs(3));
    for agency in ["AUD", "TH"] {
        let r = region.lintas(agency, &["audit", "mirror"]);
        say(&format!("mirror {agency}"), &r);
        let r = region.lintas(agency, &["audit", "verify"]);
        say(&format!("verify {agency}"), &r);
    }
    let r = region.lintas("TH", &["audit", "list"]);
    say("list", &r);
    let r = region.lintas("TH", &["audit", "findings"]);
    say("findings", &r);
    let r = region.lintas("AUD", &["doctor"]);
    say("doctor", &r);
    region.kill_broker();
    let r = region.lintas("AUD", &["audit", "mirror"]);
    say("mirror, broker gone", &r);
    let r = region.lintas("TH", &["audit", "erase", "1", "--ground", "x", "--yes"]);
    say("erase, broker gone", &r);
    assert!(region.stop_node("AUD"));
    let r = region.lintas("AUD", &["audit", "mirror"]);
    say("mirror, daemon gone", &r);
    let r = region.lintas("AUD", &["audit", "verify"]);
    say("verify, daemon gone", &r);
    region.start_broker();
    assert!(region.stop_broker());
    let _ = std::process::Command::new("cp")
        .args(["-a", root.path().to_str().unwrap(), "/tmp/w/aud/world"])
        .status();
    let _ = wait(|| true);
    let _: Option<Value> = None;
    let _ = fs::metadata("/");
}
