//! The house keeps its shape: arrows between crates run one way, and so do those between core and shell.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found
}

/// Whether a file is compiled for tests only.
fn is_test(path: &Path) -> bool {
    path.iter()
        .map(|part| part.to_string_lossy())
        .any(|part| ["tests", "testing", "testing.rs"].contains(&part.as_ref()) || part.ends_with("tests.rs"))
}

/// Code without comments, so that a doc may name what the code may not use.
fn code(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

#[test]
fn arrows_between_crates_run_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("proto", &[] as &[&str]),
        ("journal", &[]),
        ("config", &["proto"]),
        ("link", &["proto"]),
        ("broker", &["config", "journal", "link", "proto"]),
        ("node", &["config", "journal", "link", "proto"]),
        ("tests", &["broker", "config", "journal", "link", "node", "proto"]),
    ]);
    for (name, allowed) in allowed {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        let used = manifest.lines().filter_map(|line| line.strip_prefix("lintas-"));
        for used in used.map(|line| line.split(['.', ' ', '=']).next().unwrap()) {
            assert!(allowed.contains(&used), "{name} must not depend on {used}");
        }
    }
}

#[test]
fn quic_and_tls_live_in_link_only_and_proto_is_pure() {
    for name in ["proto", "config", "journal", "broker", "node"] {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        for forbidden in ["quinn", "rustls", "aws-lc"] {
            // Signatures and the halves of X-Wing (docs/adr/0002 and 0039).
            let is_allowed = (name, forbidden) == ("proto", "aws-lc");
            assert!(is_allowed || !manifest.contains(forbidden), "{name} must not depend on {forbidden}");
        }
    }
    let uses = |(_, text): &(PathBuf, String)| code(text).contains("aws_lc_rs");
    let who: BTreeSet<PathBuf> =
        sources(&root().join("proto/src")).into_iter().filter(uses).map(|(path, _)| path).collect();
    let allowed = ["envelope/xwing.rs", "sign.rs"].map(|path| root().join("proto/src").join(path));
    assert_eq!(who, BTreeSet::from(allowed));
    for name in ["proto", "journal"] {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        assert!(!manifest.contains("tokio"), "{name} must not depend on tokio");
    }
}

#[test]
fn cores_decide_and_never_do() {
    let forbidden =
        ["shell", "tokio", "quinn", "lintas_link", "std::fs", "std::net", "SystemTime", "Instant::now"];
    let mut seen = 0;
    for folder in ["broker/src/core", "node/src/core", "proto/src"] {
        for (path, text) in sources(&root().join(folder)).into_iter().filter(|(path, _)| !is_test(path)) {
            seen += 1;
            let code = code(&text);
            for forbidden in forbidden {
                assert!(!code.contains(forbidden), "{}: core must not use {forbidden}", path.display());
            }
        }
    }
    assert!(seen > 30, "the folders are not where this test looks: {seen} files");
}

#[test]
fn broker_and_node_never_import_each_other() {
    for (here, there) in [("broker", "lintas_node"), ("node", "lintas_broker")] {
        for (path, text) in sources(&root().join(here).join("src")) {
            assert!(!code(&text).contains(there), "{}: must not use {there}", path.display());
        }
    }
}

#[test]
fn the_broker_holds_no_key_that_opens_anything() {
    for (path, text) in sources(&root().join("broker/src")).into_iter().filter(|(path, _)| !is_test(path)) {
        for forbidden in ["DecryptionKey", "envelope::open", "ContentKey", "chunk::open", "Opener"] {
            assert!(
                !code(&text).contains(forbidden),
                "{}: a broker must not use {forbidden}",
                path.display()
            );
        }
    }
}

#[test]
fn the_top_level_holds_only_what_the_readme_names() {
    let allowed = [
        "Cargo.toml",
        "Cargo.lock",
        "CHANGELOG.md",
        "LICENSE",
        "README.md",
        "clippy.toml",
        "deny.toml",
        "rustfmt.toml",
        "proto",
        "config",
        "link",
        "journal",
        "broker",
        "node",
        "tests",
        "docs",
        "target",
    ];
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            name.starts_with('.') || allowed.contains(&name.as_str()),
            "{name} does not belong at the top level"
        );
    }
}

/// `crate`, `module`, `function` or `folder/file.rs` between backticks in the last column of a table.
fn named_tests(page: &str) -> Vec<String> {
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("|---"));
    let columns = rows.filter_map(|row| row.trim_end_matches('|').rsplit('|').next());
    columns.flat_map(|column| column.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

#[test]
fn the_tests_that_threats_names_are_there() {
    let page = fs::read_to_string(root().join("docs/THREATS.md")).unwrap();
    let before_advisories = page.split("## Advisories").next().unwrap();
    let crates = ["proto", "config", "link", "journal", "broker", "node", "tests"];
    let all: Vec<_> = crates.iter().flat_map(|name| sources(&root().join(name))).collect();
    let named = named_tests(before_advisories);
    assert!(named.len() > 50, "the table is not where this test looks: {named:?}");
    for name in named {
        let last = name.rsplit("::").next().unwrap().trim_end_matches('*');
        let there = root().join(&name).exists()
            || all.iter().any(|(path, text)| {
                path.file_stem().is_some_and(|stem| stem == last)
                    || path.iter().any(|part| part == last)
                    || text.contains(&format!("fn {last}"))
            });
        assert!(there, "docs/THREATS.md names a test that is not there: `{name}`");
    }
}
