use std::path::Path;

use super::{
    members::{MEMBER_KEYS, UNIT_KEYS},
    policy::SCHEME_KEYS,
    *,
};
use crate::directory::check_member;

/// The sample, with one text in one file changed.
fn changed(file: &str, from: &str, to: &str) -> Result<RegionSource, FileError> {
    let files = mekong_files().map(|(name, text)| {
        assert!(name != file || text.contains(from), "{from}");
        (name, if name == file { text.replacen(from, to, 1) } else { text.to_owned() })
    });
    RegionSource::parse(&files.each_ref().map(|(name, text)| (*name, text.as_str())))
}

#[test]
fn the_sample_is_sound_and_complete() {
    let source = mekong().unwrap();
    let codes: Vec<&str> = source.members.iter().map(|member| member.agency.as_str()).collect();
    assert_eq!(codes, ["AUD", "ID", "KH", "LA", "MM", "OMB", "RCO", "TH", "VN"]);
    let with = |role| source.members.iter().filter(|member| member.roles.contains(&role)).count();
    assert_eq!((with(Role::Agency), with(Role::Coordinator), with(Role::Auditor)), (7, 1, 1));
    let witnesses: Vec<&MemberSource> = source.members.iter().filter(|member| member.witness).collect();
    let states = witnesses.iter().filter(|member| !member.country.is_empty()).count();
    assert_eq!((witnesses.len(), states, with(Role::Witness)), (6, 3, 1));
    assert_eq!(lintas_proto::audit::note::false_witnesses(witnesses.len()), 1);
    for member in &source.members {
        assert_eq!(member.country.is_empty(), member.native_names.is_empty(), "{}", member.agency);
        let identity = crate::testing::public(&crate::testing::key(lintas_proto::sign::KeyRole::Identity));
        check_member(&member.member(identity)).unwrap();
    }
    let all: Vec<UnitFunction> =
        source.members.iter().flat_map(|m| &m.units).flat_map(|u| u.functions.clone()).collect();
    for (name, function) in functions() {
        assert!(all.contains(&function), "no unit of the sample shows {name}");
        assert!(include_str!("../../mekong/README.md").contains(&format!("| `{name}` |")), "{name}");
    }
    for (name, _) in purposes() {
        assert!(include_str!("../../mekong/README.md").contains(&format!("`{name}`")), "{name}");
    }
}

#[test]
fn the_sample_has_a_baseline_with_cases_and_equivalents_of_all_its_states() {
    let source = mekong().unwrap();
    let baseline = source.baseline.as_ref().unwrap();
    assert_eq!(baseline.file, "policy/baseline/policy.cedar");
    assert_eq!(baseline.cases_file, "policy/baseline/cases.toml");
    assert!(baseline.cases.contains("[[case]]"));
    let codes: Vec<&str> = source.schemes.iter().map(|scheme| scheme.scheme.as_str()).collect();
    assert_eq!(codes, ["ID", "KH", "LA", "MM", "REGION", "TH", "VN"]);
    let states = source.members.iter().filter(|member| !member.country.is_empty());
    assert!(states.into_iter().all(|member| codes.contains(&member.country.as_str())));
    // Every state has an equivalent of what is secret in the region.
    assert!(source.schemes.iter().all(|scheme| scheme.markings.iter().any(|marking| marking.rank == 3)));
}

#[test]
fn mistakes_in_baseline_and_schemes_are_told_with_their_place() {
    let cedar = "policy/baseline/policy.cedar";
    told(&[
        (cedar, "NOFORN\") &&", "NOFORM\") &&", "policy/baseline/policy.cedar, line "),
        (cedar, "@reason(\"the label says REL_TO", "@raison(\"the label says REL_TO", "does not say why"),
        (cedar, "forbid (", "permit (", "the baseline may only forbid"),
        (
            "region.toml",
            "policy/baseline/policy.cedar",
            "policy/policy.cedar",
            "region.toml, line 21: `baseline` is \"policy/policy.cedar\"; it must be the path of a file in this folder",
        ),
        ("region.toml", "policy/baseline/policy.cedar", "../policy.cedar", "a path within this folder"),
        ("region.toml", "policy/baseline/policy.cedar", "/etc/policy.cedar", "a path within this folder"),
        ("region.toml", "policy/baseline/policy.cedar", "th.toml", "that ends in .cedar"),
        ("region.toml", "LAP-MAK = 3", "LAP-MAK = 10", "`LAP-MAK` is 10; it must be a number from 1 to 9"),
        ("region.toml", "LAP-MAK = 3", "LAP-MAK = 0", "a number from 1 to 9"),
        ("region.toml", "LAP-MAK = 3", "\"ลับมาก\" = 3", "มาก` must be 1 to 32 of A-Z"),
        ("region.toml", "LAP-MAK = 3", "LAP = 3", "region.toml, line "),
        ("region.toml", "code = \"VN\"", "code = \"TH\"", "stands twice"),
        ("region.toml", "code = \"VN\"", "code = \"vn\"", "must be 1 to 32 of A-Z"),
        ("region.toml", "code = \"VN\"", "kode = \"VN\"", "did you mean `code`?"),
        (
            "region.toml",
            "code = \"VN\"\n[scheme.markings]",
            "code = \"VN\"\n[scheme.marks]",
            "there is no key",
        ),
        (
            "th.toml",
            "purposes = [\"prevention\", \"victim-protection\"]",
            "purposes = []",
            "`purposes` is empty",
        ),
        ("th.toml", "\"prosecution\"", "\"persecution\"", "did you mean `prosecution`?"),
    ]);
}

#[test]
fn a_column_of_the_baseline_is_where_the_mistake_stands() {
    let error = changed("policy/baseline/policy.cedar", "when {", "whem {").unwrap_err();
    let (_, text) = mekong_files()[10];
    let line = 1 + text.lines().position(|line| line.starts_with("when {")).unwrap();
    assert_eq!((error.line, error.column), (line, 1), "{error}");
    assert!(error.to_string().starts_with(&format!("policy/baseline/policy.cedar, line {line}, column 1: ")));
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a test's own files")]
fn a_baseline_outside_of_the_folder_is_not_followed() {
    let folder = std::env::temp_dir().join(format!("lintas-source-{}", std::process::id()));
    let sources = folder.join("sources");
    std::fs::create_dir_all(sources.join("policy/baseline")).unwrap();
    for (name, text) in mekong_files() {
        std::fs::write(sources.join(name), text).unwrap();
    }
    assert_eq!(RegionSource::load(&sources).unwrap(), mekong().unwrap());
    let (policy, outside) = (sources.join("policy/baseline/policy.cedar"), folder.join("outside.cedar"));
    std::fs::rename(&policy, &outside).unwrap();
    let missing = RegionSource::load(&sources).unwrap_err().to_string();
    assert!(missing.contains("there is none of that name"), "{missing}");
    std::os::unix::fs::symlink(&outside, &policy).unwrap();
    let error = RegionSource::load(&sources).unwrap_err().to_string();
    assert!(error.contains("leads out of it"), "{error}");
    std::fs::remove_file(&policy).unwrap();
    std::fs::write(&policy, "x".repeat(10 << 20)).unwrap();
    let error = RegionSource::load(&sources).unwrap_err().to_string();
    assert!(error.contains("too large"), "{error}");
    // The same, of files given alone.
    assert!(baseline_file(&policy).unwrap_err().to_string().contains("too large"));
    assert_eq!(baseline_file(&outside).unwrap().cases, "");
    assert_eq!(schemes_file(&sources.join("region.toml")).unwrap(), mekong().unwrap().schemes);
    assert!(schemes_file(&sources.join("th.toml")).is_err());
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn the_folder_and_what_was_compiled_in_are_the_same() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("mekong");
    assert_eq!(RegionSource::load(&folder).unwrap(), mekong().unwrap());
    assert!(RegionSource::load(&folder.join("nowhere")).is_err());
    assert!(RegionSource::load(&folder.join("../src")).unwrap_err().to_string().starts_with("region.toml: "));
}

#[test]
fn every_key_is_explained_in_the_readme() {
    let readme = include_str!("../../mekong/README.md");
    for key in REGION_KEYS.iter().chain(&MEMBER_KEYS).chain(&UNIT_KEYS).chain(&SCHEME_KEYS) {
        assert!(readme.contains(&format!("`{key}`")) || readme.contains(&format!("`[[{key}]]`")), "{key}");
    }
}

#[test]
fn mistakes_are_told_with_file_line_and_remedy() {
    let cases = [
        (
            "th.toml",
            "\"maritime\"",
            "\"maritme\"",
            "th.toml, line 26: `functions` is \"maritme\"; it must be one of",
        ),
        ("th.toml", "\"maritime\"", "\"maritme\"", "did you mean `maritime`?"),
        (
            "th.toml",
            "country =",
            "contry =",
            "th.toml, line 4: there is no key `contry`; did you mean `country`?",
        ),
        ("th.toml", "clearance = 3", "clearence = 3", "did you mean `clearance`?"),
        (
            "th.toml",
            "clearance = 3",
            "clearance = 10",
            "th.toml, line 14: `clearance` is 10; it must be a number from 0 to 9",
        ),
        (
            "th.toml",
            "\"TH-MAR\"",
            "\"TH-SPOC\"",
            "line 24: `code` is \"TH-SPOC\"; it stands twice in this file",
        ),
        ("th.toml", "agency = \"TH\"", "agency = \"th\"", "must be 1 to 32 of A-Z"),
        (
            "th.toml",
            "agency = \"TH\"\n",
            "",
            "th.toml, line 1: `agency` is missing; add it, e.g. agency = \"TH\"",
        ),
        ("th.toml", "country = \"TH\"", "country = \"THA\"", "must be two capitals"),
        ("th.toml", "\"Marine Police Division\"", "\"Marine\\u202e Police\"", "without control characters"),
        ("th.toml", "agency = \"TH\"", "agency = \"VN\"", "VN stands in"),
        ("rco.toml", "\"coordinator\"", "\"cordinator\"", "did you mean `coordinator`?"),
        (
            "id.toml",
            "[\"ASEAN\"]",
            "[\"ASAEN\"]",
            "must be listed under `groups` in region.toml; did you mean",
        ),
        ("vn.toml", "[[unit]]", "[[units]]", "did you mean `unit`?"),
        (
            "region.toml",
            "threshold = 2",
            "threshold = 1",
            "region.toml, line 12: `threshold` is 1; it must be a number from 2 to 3",
        ),
        ("region.toml", "\"hub.mekong\"", "", "`brokers` has 0 items; from 1 to 64 are allowed"),
        ("region.toml", "[\"ASEAN\", ", "[\"ASEAN\", \"ASEAN\", ", "stands twice in the list"),
        ("region.toml", "threshold = 2", "threshold = ", "region.toml, line 12: not TOML"),
    ];
    told(&cases);
}

#[test]
fn who_watches_and_reads_the_log_is_said_soundly() {
    told(&[
        ("th.toml", "witness = true", "witness = \"yes\"", "`witness` is \"yes\"; it must be true or false"),
        ("omb.toml", "witness = true", "witness = false", "the role `witness` needs witness = true"),
        ("omb.toml", "witness = true\n", "", "omb.toml, line 1: the role `witness` needs witness = true"),
        ("omb.toml", "[\"witness\"]", "[\"agency\"]", "a member needs 1 to 1,000 units"),
        ("th.toml", "witness = true", "audits = [\"*\"]", "is for members of role `auditor` only"),
        ("aud.toml", "[\"*\"]", "[\"*\", \"TH\"]", "must be \"*\" alone, or codes of agencies"),
        ("aud.toml", "[\"*\"]", "[\"th\"]", "must be 1 to 32 of A-Z"),
        ("region.toml", "after_days = 30", "after_days = 366", "a number from 0 to 365"),
    ]);
}

fn told(cases: &[(&str, &str, &str, &str)]) {
    for (file, from, to, want) in cases {
        let error = changed(file, from, to).unwrap_err().to_string();
        assert!(error.contains(want), "{error}\nlacks {want}");
    }
}

#[test]
fn no_key_stands_in_the_sources() {
    for (file, text) in mekong_files() {
        let long = |word: &str| word.len() >= 40 && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
        assert!(!text.split(|c: char| !c.is_ascii_alphanumeric()).any(long), "{file}");
    }
}
