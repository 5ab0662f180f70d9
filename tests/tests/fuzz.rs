//! The fuzz crate, which is no part of this workspace, keeps up with it: every message is fuzzed, as it is shipped.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn inside(path: &str) -> Vec<PathBuf> {
    fs::read_dir(root().join(path)).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn targets() -> BTreeSet<String> {
    let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    inside("tests/fuzz/fuzz_targets").into_iter().map(stem).collect()
}

#[test]
fn every_message_of_the_schema_is_fuzzed() {
    let named = |line: &str| Some(line.strip_prefix("message ")?.split_whitespace().next()?.to_owned());
    let schema: Vec<String> =
        inside("proto/schema/lintas/v1").iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let schema: BTreeSet<String> = schema.iter().flat_map(|text| text.lines().filter_map(named)).collect();
    let list = read("tests/fuzz/src/messages.rs");
    let list = list.split("\nmessages!(").nth(1).unwrap().split(");").next().unwrap();
    let list: BTreeSet<String> =
        list.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
    assert!(schema.len() > 100, "the schema is not where this test looks: {}", schema.len());
    assert_eq!(list, schema);
}

#[test]
fn every_target_is_built_and_has_a_small_corpus() {
    let manifest = read("tests/fuzz/Cargo.toml");
    let built = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("path = \"fuzz_targets/")?.strip_suffix(".rs\""));
    assert_eq!(built.map(str::to_owned).collect::<BTreeSet<_>>(), targets());
    assert!(targets().len() >= 8, "{:?}", targets());
    let mut bytes = 0;
    for target in targets() {
        let files = inside(&format!("tests/fuzz/corpus/{target}"));
        assert!((5..=64).contains(&files.len()), "{target}: {} files", files.len());
        bytes += files.iter().map(|file| fs::metadata(file).unwrap().len()).sum::<u64>();
    }
    assert!(bytes < 1 << 20, "the corpus in the sources has {bytes} bytes");
}

#[test]
fn what_is_fuzzed_is_what_is_shipped() {
    let packages = |path: &str| -> BTreeSet<String> {
        let lock = read(path);
        let packages = lock.split("[[package]]").skip(1).map(|package| {
            let mut lines =
                package.lines().filter(|line| line.starts_with("name = ") || line.starts_with("version = "));
            format!("{} {}", lines.next().unwrap(), lines.next().unwrap())
        });
        packages.collect()
    };
    let (shipped, fuzzed) = (packages("Cargo.lock"), packages("tests/fuzz/Cargo.lock"));
    let own = ["arbitrary", "libfuzzer-sys", "lintas-fuzz"].map(|name| format!("name = \"{name}\" "));
    let other: Vec<&String> = fuzzed
        .difference(&shipped)
        .filter(|package| !own.iter().any(|own| package.starts_with(own.as_str())))
        .collect();
    assert!(fuzzed.len() > 100, "{}", fuzzed.len());
    assert!(other.is_empty(), "in tests/fuzz/Cargo.lock, but not in Cargo.lock: {other:?}");
    let ours = read("tests/fuzz/Cargo.toml");
    let ours: Vec<&str> =
        ours.lines().filter_map(|line| line.strip_prefix("lintas-")?.split(' ').next()).collect();
    assert_eq!(ours, ["link", "proto"], "of our crates the fuzz crate depends on these two only");
}
