//! The auditor's commands as they are typed, without a node and without a network.

use clap::Parser as _;
use lintas_config::Bootstrap;
use lintas_proto::audit::files::LogFile;
use tempfile::TempDir;

use crate::{
    cli::{Args, dispatch},
    shell::{failure::Code, files},
    testing::whole_log::{Files, LogBuilder, region},
};

/// How a command line ends.
fn run(words: &[&str]) -> Option<Code> {
    let args = Args::try_parse_from(["lintas", "audit"].iter().chain(words)).unwrap();
    dispatch(args).err().map(|failure| failure.code)
}

/// A folder with a log and the bootstrap file of its region.
fn scene() -> (TempDir, LogBuilder, Bootstrap) {
    let (region, witnesses) = region();
    let mut log = LogBuilder::new(&region, witnesses, 1_900_000_000_000);
    log.traffic(300);
    let folder = TempDir::new().unwrap();
    log.finish().write(&folder.path().join("log"));
    files::write_new(&folder.path().join("bootstrap.toml"), region.bootstrap.to_text().as_bytes()).unwrap();
    files::write_new(&folder.path().join("directory.bin"), &region.bundle).unwrap();
    (folder, log, region.bootstrap.clone())
}

#[test]
fn a_folder_is_verified_with_a_bootstrap_file_or_a_directory() {
    let (folder, log, _) = scene();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (from, bootstrap, directory) = (path("log"), path("bootstrap.toml"), path("directory.bin"));
    assert_eq!(run(&["verify", "--from", &from, "--bootstrap", &bootstrap]), None);
    assert_eq!(run(&["verify", "--from", &from, "--directory", &directory, "--json"]), None);
    assert_eq!(run(&["verify", "--from", &from, "--directory", &directory, "--bootstrap", &bootstrap]), None);
    let one =
        ["verify", "--from", &from, "--bootstrap", &bootstrap, "--agency", "KH", "--since", "2031-01-01"];
    assert_eq!(run(&one), None);
    // Whom to believe, and whose log, must be said.
    assert_eq!(run(&["verify", "--from", &from]), Some(Code::Usage));
    assert_eq!(run(&["verify", "--bootstrap", &bootstrap]), Some(Code::Usage));
    assert_eq!(run(&["verify", "--from", &path("nowhere"), "--bootstrap", &bootstrap]), Some(Code::NotFound));
    assert_eq!(
        run(&["verify", "--from", &from, "--bootstrap", &bootstrap, "--agency", "VN"]),
        Some(Code::NotFound)
    );
    let damaged = Files::path(&folder.path().join("log"), Some("KH"), LogFile::Openings(0));
    let mut bytes = files::read(&damaged, 1 << 20).unwrap();
    bytes[100] ^= 1;
    files::replace(&damaged, &bytes).unwrap();
    let verify = ["verify", "--from", &from, "--bootstrap", &bootstrap];
    assert_eq!(run(&verify), Some(Code::AuditDamaged));
    std::fs::remove_file(&damaged).unwrap();
    assert_eq!(run(&verify), Some(Code::AuditIncomplete));
    drop(log);
}

#[test]
fn events_are_listed_shown_and_exported_and_an_export_is_whole_but_for_what_it_leaves_out() {
    let (folder, ..) = scene();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (from, bootstrap, out) = (path("log"), path("bootstrap.toml"), path("out"));
    let place = ["--from", &from, "--bootstrap", &bootstrap];
    let with = |words: &[&'static str]| -> Vec<String> {
        words.iter().copied().chain(place).map(str::to_owned).collect()
    };
    let run = |words: Vec<String>| run(&words.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(run(with(&["list"])), None);
    assert_eq!(run(with(&["list", "--csv", "--kind", "released", "--with", "KH", "--limit", "3"])), None);
    assert_eq!(run(with(&["list", "--kind", "nonsense"])), Some(Code::Usage));
    assert_eq!(run(with(&["list", "--page", "nonsense"])), Some(Code::Usage));
    assert_eq!(run(with(&["show", "17", "--agency", "TH"])), None);
    assert_eq!(run(with(&["show", "17"])), Some(Code::Usage), "whose?");
    assert_eq!(run(with(&["show", "100000", "--agency", "TH"])), Some(Code::NotFound));
    let mut export = with(&["export", "--agency", "KH", "--kind", "received"]);
    export.extend(["--out".to_owned(), out.clone()]);
    assert_eq!(run(export.clone()), None);
    assert_eq!(run(export), Some(Code::Usage), "nothing is overwritten");
    // The trees, slots and signatures of the extract hold; what was left out is said.
    let log = format!("{out}/log");
    let verify = ["verify", "--from", &log, "--bootstrap", &bootstrap].map(str::to_owned).to_vec();
    assert_eq!(run(verify.clone()), None);
    // It is an extract because it says so; without that, content was taken away.
    std::fs::remove_file(format!("{log}/extract")).unwrap();
    assert_eq!(run(verify), Some(Code::AuditDamaged));
    let lines = std::fs::read_to_string(format!("{out}/events.jsonl")).unwrap();
    assert!(lines.lines().count() > 50);
    for line in lines.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!((event["kind"].as_str(), event["included"].as_bool()), (Some("received"), Some(true)));
    }
}

#[test]
fn pages_are_stable_while_the_log_grows() {
    use crate::core::audit::{
        anchor::{Anchor, Trust},
        finding::Findings,
        listing::{Cursor, Filter, list},
    };
    let (_folder, mut log, bootstrap) = scene();
    let agencies = ["ID", "KH"].map(str::to_owned);
    let origin = format!("{}/audit", crate::testing::BROKER);
    let all = |files: &Files, forwards: bool, limit: usize, grow: &mut dyn FnMut() -> Option<Files>| {
        let (mut files, mut cursor, mut events) = (files.clone(), None::<Cursor>, Vec::new());
        loop {
            let anchor =
                Anchor::read(&files, Trust::Bootstrap(&bootstrap), &origin, &mut Findings::default())
                    .unwrap();
            let how = (cursor.as_ref(), forwards, limit);
            let page = list(&files, &anchor, &agencies, &Filter::default(), how);
            events.extend(page.events.into_iter().map(|row| (row.time_ms, row.agency, row.index)));
            let Some(next) = page.next else { return events };
            cursor = Cursor::parse(&next);
            files = grow().unwrap_or(files);
        }
    };
    let files = log.finish();
    let whole = all(&files, true, usize::MAX, &mut || None);
    assert!(whole.len() > 300 && whole.is_sorted());
    assert_eq!(all(&files, true, 37, &mut || None), whole);
    let mut newest = all(&files, false, 41, &mut || {
        log.traffic(3);
        Some(log.finish())
    });
    newest.reverse();
    assert_eq!(newest, whole, "what is newer does not come in between");
}
