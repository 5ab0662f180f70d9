//! The officer's commands as they are typed.

use std::path::Path;

use bytes::Bytes;
use clap::Parser as _;
use lintas_config::policy::{Bundle, Owner};
use lintas_proto::{
    id::sha256,
    schema::{AuditEvent, EventType, Kind, Label, Onward, PolicyFacts, Purpose, Reason, Tlp, UnitRef},
};

use super::files::{Draft, plain_words};
use crate::{
    cli::{Args, dispatch},
    shell::{failure::Code, files, folder::Folder, policies::Shelf},
    testing::{
        ALERT_GOES, REGION, Region, alerts,
        whole_log::{LogBuilder, region},
    },
};

/// A region, and the folder of Thailand's node.
struct Scene {
    region: Region,
    key_file: String,
}

impl Scene {
    fn new() -> Self {
        Self::of(Region::new())
    }

    fn of(region: Region) -> Self {
        drop(region.desk("TH"));
        let key_file = region.root.path().join("key");
        files::write_new(&key_file, "07".repeat(32).as_bytes()).unwrap();
        Self { key_file: key_file.to_str().unwrap().to_owned(), region }
    }

    fn path(&self, name: &str) -> String {
        self.region.root.path().join(name).to_str().unwrap().to_owned()
    }

    /// A policy folder.
    fn policy(&self, name: &str, policies: &str, cases: &str) -> String {
        let folder = self.path(name);
        std::fs::create_dir_all(&folder).unwrap();
        for (name, text) in [("policy.cedar", policies), ("cases.toml", cases)] {
            files::replace(&Path::new(&folder).join(name), text.as_bytes()).unwrap();
        }
        folder
    }

    /// How a command line ends.
    fn run(&self, words: &[&str]) -> Option<Code> {
        let data = self.path("TH");
        let all = ["lintas", "--data", &data, "--key-file", &self.key_file, "policy"];
        let args = Args::try_parse_from(all.iter().chain(words)).unwrap();
        dispatch(args).err().map(|failure| failure.code)
    }

    fn publish(&self, folder: &str) -> Option<Code> {
        self.run(&["publish", folder, "--yes", "--note", "a note"])
    }

    fn shelf(&self) -> Shelf {
        Shelf::open(&Folder::at(&self.region.path("TH")), REGION, "TH", u64::MAX).unwrap()
    }
}

#[test]
fn an_officer_begins_checks_tests_publishes_and_looks_back() {
    let scene = Scene::new();
    let draft = scene.path("draft");
    assert_eq!(scene.run(&["new", "--out", &draft]), None);
    assert_eq!(scene.run(&["new", "--out", &draft]), Some(Code::Usage), "nothing is overwritten");
    assert_eq!(scene.run(&["check", &draft]), None);
    assert_eq!(scene.run(&["test", &draft]), None);
    assert_eq!(scene.run(&["show"]), Some(Code::NotFound));
    assert_eq!(scene.run(&["history"]), None);
    assert_eq!(scene.run(&["explain", "--policy", &draft]), None);
    assert_eq!(
        scene.run(&["who-could-receive", "--policy", &draft, "--kind", "alert", "--caveat", "none"]),
        None
    );
    assert_eq!(scene.run(&["publish", &draft]), Some(Code::Usage), "without a terminal only --yes is a yes");
    assert_eq!(scene.shelf().newest(), 0);
    assert_eq!(scene.publish(&draft), None);
    let second = scene.policy("second", &alerts("second"), ALERT_GOES);
    assert_eq!(scene.run(&["diff", &second]), None);
    assert_eq!(scene.run(&["diff", &draft, &second]), None);
    assert_eq!(scene.publish(&second), None);
    assert_eq!(scene.shelf().newest(), 2);
    for words in [&["history"][..], &["show"], &["show", "1", "--cases"], &["--json", "show", "2"]] {
        assert_eq!(scene.run(words), None, "{words:?}");
    }
    assert_eq!(scene.run(&["show", "9"]), Some(Code::NotFound));
    // What is shown is what was published, and can be gone on from.
    let out = scene.path("out");
    assert_eq!(scene.run(&["show", "--out", &out]), None);
    let again = Draft::read(Path::new(&out)).unwrap();
    assert_eq!((again.policies, again.cases), (alerts("second"), ALERT_GOES.to_owned()));
    // Nobody brings it to a broker here.
    assert_eq!(scene.run(&["publish", &draft, "--yes", "--wait", "1"]), Some(Code::NoAnswer));
    assert_eq!(scene.run(&["publish", &draft, "--yes", "--not-before", "1999-01-01"]), Some(Code::Draft));
    assert_eq!(scene.run(&["publish", &draft, "--yes", "--not-before", "soon"]), Some(Code::Usage));
}

#[test]
fn a_wrong_policy_is_refused_with_its_place_and_the_one_in_force_stays() {
    let scene = Scene::new();
    let sound = scene.policy("sound", &alerts("sound"), ALERT_GOES);
    assert_eq!(scene.publish(&sound), None);
    let fails = ALERT_GOES.replace("\"release\"", "\"deny\"");
    let wrong = [
        (alerts("typo").replace("resource.kind", "resource.knid"), ALERT_GOES.to_owned()),
        (alerts("no such kind").replace("ALERT", "ALARM"), ALERT_GOES.to_owned()),
        (alerts("cases are no cases"), "[[case]]\nnaem = 1\n".to_owned()),
        (alerts("no such agency"), ALERT_GOES.replace("TH/TH-VIC", "MM/MM-NCB")),
        (alerts("a case fails"), fails.clone()),
        ("x".repeat(300_000), ALERT_GOES.to_owned()),
    ];
    for (policies, cases) in &wrong {
        let folder = scene.policy("wrong", policies, cases);
        assert_eq!(scene.publish(&folder), Some(Code::Draft), "{policies:.60} {cases}");
        assert_eq!(scene.shelf().newest(), 1);
    }
    let failing = scene.policy("wrong", &alerts("a case fails"), &fails);
    assert_eq!((scene.run(&["check", &failing]), scene.run(&["test", &failing])), (None, Some(Code::Draft)));
    let folder = scene.policy("wrong", &wrong[0].0, ALERT_GOES);
    for words in
        [&["check", &folder][..], &["test", &folder], &["explain", "--policy", &folder], &["diff", &folder]]
    {
        assert_eq!(scene.run(words), Some(Code::Draft), "{words:?}");
    }
    let draft = Draft::read(Path::new(&folder)).unwrap();
    let mistakes = draft.policies(Owner::Agency("TH".to_owned())).unwrap_err();
    let words = plain_words(&mistakes[0]);
    assert!(words.contains("policy.cedar:4:") && words.contains("knid") && words.contains('^'), "{words}");
    files::replace(&Path::new(&folder).join("policy.cedar"), b"permit\n  \xff(").unwrap();
    let refused = Draft::read(Path::new(&folder)).unwrap_err();
    assert!(refused.message.contains("policy.cedar:2:3: this is no text"), "{refused}");
    assert_eq!(scene.run(&["check", &scene.path("nowhere")]), Some(Code::NotFound));
}

#[test]
fn a_baseline_may_only_forbid_and_questions_need_names_that_exist() {
    let scene = Scene::new();
    let baseline = scene.path("baseline.cedar");
    files::write_new(Path::new(&baseline), alerts("permits").as_bytes()).unwrap();
    assert_eq!(scene.run(&["check", &baseline, "--baseline"]), Some(Code::Draft));
    let sound = scene.policy("sound", &alerts("sound"), ALERT_GOES);
    let ask = |words: &[&str]| scene.run(&[&["explain", "--policy", &sound], words].concat());
    assert_eq!(
        ask(&["--tlp", "amber-strict", "--handling", "H1,H2", "--to", "KH/KH-AHT", "--from", "TH-MAR"]),
        None
    );
    assert_eq!(ask(&["--from", "KH/KH-AHT"]), None, "what would be accepted here");
    for words in [
        &["--tlp", "PURPLE"][..],
        &["--to", "XX"],
        &["--from", "TH-XXX"],
        &["--at", "tomorrow"],
        &["--classification", "secret"],
    ] {
        assert_eq!(ask(words), Some(Code::Usage), "{words:?}");
    }
}

fn unit(agency: &str, unit: &str) -> UnitRef {
    UnitRef { agency: agency.to_owned(), unit: unit.to_owned() }
}

/// A log in which Thailand's alert was released by its first version, or refused by it.
fn mirrored(scene: &Scene, log: &mut LogBuilder, hash: &[u8], released: bool) {
    let by = unit("TH", "TH-VIC");
    log.event(&AuditEvent {
        r#type: EventType::PolicyChanged as i32,
        agency: "TH".to_owned(),
        time_ms: log.time_ms,
        version: 1,
        evidence_digest: Bytes::copy_from_slice(hash),
        ..AuditEvent::default()
    });
    let label =
        Label { tlp: Tlp::Amber as i32, purposes: vec![Purpose::Investigation as i32], ..Label::default() };
    let facts = PolicyFacts {
        kind: Kind::Alert as i32,
        label: Some(label),
        onward: Onward::None as i32,
        reviewed: false,
    };
    let submitted = log.about("TH", EventType::Submitted, 1, &by, None);
    log.event(&AuditEvent { facts: Some(facts), ..submitted });
    let (kind, reason) =
        if released { (EventType::Released, Reason::Accepted) } else { (EventType::Denied, Reason::Policy) };
    let decided = log.about("TH", kind, 1, &by, Some(&unit("KH", "KH-AHT")));
    log.event(&AuditEvent {
        reason: reason as i32,
        policy_ids: vec!["TH/alerts".to_owned()],
        version: 1,
        named: true,
        ..decided
    });
    log.epoch();
    let folder = scene.region.path("TH").join(format!("audit/{}/audit", crate::testing::BROKER));
    std::fs::remove_dir_all(&folder).ok();
    log.finish().write(&folder);
}

#[test]
fn the_past_is_decided_again_and_a_log_that_contradicts_the_policies_is_found() {
    let (region, witnesses) = region();
    let mut log = LogBuilder::new(&region, witnesses, 1_900_000_000_000);
    let scene = Scene::of(region);
    assert_eq!(scene.run(&["replay"]), Some(Code::NotFound), "nothing was mirrored");
    let first = scene.region.policy("TH", None, 1, &alerts("first"));
    let bundle = Bundle::open(&first, &scene.region.directory()).unwrap();
    scene.shelf().publish(&bundle, 2).unwrap();
    let mut liar = log.clone();
    mirrored(&scene, &mut log, bundle.hash(), true);
    assert_eq!(scene.run(&["replay"]), None);
    let none = alerts("none go").replace("permit", "forbid");
    let candidate = scene.policy("candidate", &none, ALERT_GOES);
    assert_eq!(
        scene.run(&["replay", "--policy", &candidate]),
        None,
        "what would flip is listed, and nothing is wrong"
    );
    mirrored(&scene, &mut liar, bundle.hash(), false);
    assert_eq!(scene.run(&["replay"]), Some(Code::AuditDamaged));
    assert_eq!(scene.run(&["replay", "--since", "2099-01-01"]), None);
    let (_, witnesses) = self::region();
    let mut unknown = LogBuilder::new(&scene.region, witnesses, 1_900_000_000_000);
    mirrored(&scene, &mut unknown, &sha256(&[b"a bundle of nobody"]), true);
    assert_eq!(scene.run(&["replay"]), Some(Code::AuditIncomplete));
}
