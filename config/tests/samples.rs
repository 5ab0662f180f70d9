//! The policies of the sample region are sound, do what their own cases say, and stand up to the gate; so do the examples
//! of docs/POLICY.md.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "policy_oracle/world.rs"]
#[allow(dead_code, reason = "shared with the oracle, which asks for more")]
mod world;

use std::{collections::BTreeMap, sync::Arc};

use lintas_config::policy::{
    DecidedBy, Decision, Layers, Owner, PolicySet, Question, Way, baseline,
    cases::{Cases, unreached},
    check::activation,
    sample,
};
use lintas_proto::schema::{
    Caveat, DataCategory, HandlingCode, Kind, Label, Offence, Onward, Purpose, Roster, Tlp, UnitRef,
};

use world::{InForce, bundles, regions};

/// A moment within all arrangements: 1 December 2026.
const NOW: u64 = 1_796_083_200_000;
const PAGE: &str = include_str!("../../docs/POLICY.md");

fn region() -> Roster {
    regions(sample::baseline().0).swap_remove(0)
}

/// All owners with their policies and their cases.
fn owners() -> Vec<(Owner, PolicySet, &'static str)> {
    let agencies =
        sample::agencies().map(|code| (Owner::Agency(code.to_owned()), sample::texts(code).unwrap()));
    let read = |(owner, (policies, cases)): (Owner, (&str, &'static str))| {
        let set = PolicySet::read(owner.clone(), policies);
        (owner.clone(), set.unwrap_or_else(|problems| panic!("{owner}: {}", lines(&problems))), cases)
    };
    agencies.chain([(Owner::Baseline, sample::baseline())]).map(read).collect()
}

fn lines(problems: &[impl ToString]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_sample_policies_pass_the_gate() {
    let roster = Arc::new(region());
    for (owner, policies, cases) in owners() {
        if let Err(problems) = activation(&policies, cases, &roster, NOW) {
            panic!("{owner}: {}", lines(&problems));
        }
    }
}

#[test]
fn their_cases_show_every_policy_at_work_and_leaving_something_alone() {
    let roster = region();
    for (owner, policies, cases) in owners() {
        let cases =
            Cases::read(cases, &owner).unwrap_or_else(|problems| panic!("{owner}: {}", lines(&problems)));
        let outcomes = cases.run(&policies, &roster, NOW).unwrap();
        let failed: Vec<String> =
            outcomes.iter().filter(|one| !one.ok).map(|one| one.problem().to_string()).collect();
        assert_eq!(failed, Vec::<String>::new(), "{owner}");
        if owner == Owner::Baseline {
            // Asked alone, it permits nothing: what it forbids is what there is to see.
            assert!(outcomes.iter().any(|one| matches!(one.got, Decision::Release(_))));
        }
        let never = unreached(&policies, &outcomes);
        assert!(never.is_empty(), "{owner}: {}", lines(&never));
    }
}

#[test]
fn the_sample_baseline_holds_all_of_the_standard_one() {
    let read = |text: &str| {
        let set = PolicySet::read(Owner::Baseline, text).unwrap();
        let bare =
            |text: &str| text.lines().filter(|line| !line.starts_with("//")).collect::<Vec<_>>().join("\n");
        let told = set.policies().map(|told| (told.id.clone(), bare(&told.text).trim().to_owned()));
        told.collect::<BTreeMap<_, _>>()
    };
    let (standard, sample) = (read(baseline::STANDARD), read(sample::baseline().0));
    assert!(sample.len() > standard.len());
    for (id, text) in standard {
        assert_eq!(sample.get(&id), Some(&text), "{id}");
    }
}

/// The blocks of the page in one language.
fn blocks(language: &str) -> Vec<&'static str> {
    let start = format!("```{language}\n");
    PAGE.split(&start).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn the_examples_of_the_page_can_be_published() {
    let roster = Arc::new(region());
    let owner = Owner::Agency("TH".to_owned());
    let read = |text: &str| {
        PolicySet::read(owner.clone(), text).unwrap_or_else(|problems| panic!("{}", lines(&problems)))
    };
    let (policies, cases) = (blocks("cedar"), blocks("toml"));
    assert_eq!((policies.len(), cases.len()), (3, 2));
    policies.iter().for_each(|text| drop(read(text)));
    // The first and the last of them have cases.
    for (policies, cases) in [(policies[0], cases[0]), (policies[2], cases[1])] {
        if let Err(problems) = activation(&read(policies), cases, &roster, NOW) {
            panic!("{}", lines(&problems));
        }
    }
}

#[test]
fn the_page_names_every_word_and_every_sample_policy() {
    let words = lintas_config::policy::SCHEMA.split("enum [").skip(1).flat_map(|rest| {
        let list = rest.split(']').next().unwrap();
        list.split('"').skip(1).step_by(2).collect::<Vec<_>>()
    });
    let missing: Vec<&str> = words.filter(|word| !PAGE.contains(&format!("`{word}`"))).collect();
    assert_eq!(missing, Vec::<&str>::new());
    for (owner, policies, _) in owners() {
        for told in policies.policies() {
            let id = told.id.rsplit('/').next().unwrap();
            assert!(PAGE.contains(&format!("`{id}`")), "{owner}/{id}");
        }
    }
}

/// The label of tests/case/alert.json.
fn alert() -> Label {
    Label {
        tlp: Tlp::Amber as i32,
        handling: vec![HandlingCode::H1 as i32, HandlingCode::H2 as i32],
        caveats: vec![Caveat::Orcon as i32],
        purposes: vec![Purpose::Investigation as i32, Purpose::VictimProtection as i32],
        offences: vec![Offence::TraffickingInPersons as i32, Offence::ForcedLabour as i32],
        data: vec![DataCategory::Suspect as i32, DataCategory::Victim as i32],
        ..Label::default()
    }
}

fn decide(in_force: &InForce, region: usize, way: Way<'_>, from: &str, to: &str) -> Decision {
    let unit = |name: &str| {
        let (agency, unit) = name.split_once('/').unwrap();
        UnitRef { agency: agency.to_owned(), unit: unit.to_owned() }
    };
    let question = Question {
        originator: &unit(from),
        recipient: &unit(to),
        named: true,
        kind: Kind::Alert,
        label: &alert(),
        onward: Onward::WithConsent,
        reviewed: false,
        way,
        now_ms: NOW,
    };
    (*in_force.of(region).decide(&question, Layers::All)).clone()
}

#[test]
fn the_alert_of_the_sample_case_reaches_whom_it_is_for() {
    let in_force = InForce::new(&regions(sample::baseline().0), &bundles());
    let flows = [
        ("TH/TH-ATD-RNG", "KH/KH-AHT"),
        ("TH/TH-ATD-RNG", "RCO/RCO-DESK"),
        ("TH/TH-ATD-RNG", "VN/VN-C02"),
        ("KH/KH-AHT", "TH/TH-ATD-RNG"),
        ("VN/VN-C02", "TH/TH-ATD-RNG"),
        ("VN/VN-C02", "KH/KH-AHT"),
        ("VN/VN-C02", "LA/LA-ATD"),
        ("RCO/RCO-DESK", "VN/VN-C02"),
    ];
    for (from, to) in flows {
        let decision = decide(&in_force, 0, Way::Direct, from, to);
        assert!(matches!(decision, Decision::Release(_)), "{from} to {to}: {decision:?}");
    }
}

#[test]
fn what_is_orcon_is_passed_on_with_the_originators_consent_only() {
    let in_force = InForce::new(&regions(sample::baseline().0), &bundles());
    let passed_on = |consent| {
        let way = Way::Relayed { via: "RCO", hops: 1, consent };
        decide(&in_force, 0, way, "TH/TH-ATD-RNG", "VN/VN-C02")
    };
    assert!(matches!(passed_on(true), Decision::Release(_)));
    let Decision::Deny(denial) = passed_on(false) else { panic!("it was passed on without consent") };
    assert_eq!((denial.by, denial.policy_id.as_str()), (DecidedBy::Region, "baseline/originator-controlled"));
}

#[test]
fn a_suspended_member_gets_nothing_and_sends_nothing() {
    let in_force = InForce::new(&regions(sample::baseline().0), &bundles());
    for (from, to) in
        [("TH/TH-SPOC", "MM/MM-ATIPD"), ("MM/MM-ATIPD", "TH/TH-SPOC"), ("MM/MM-MAR", "MM/MM-ATIPD")]
    {
        let Decision::Deny(denial) = decide(&in_force, 1, Way::Direct, from, to) else {
            panic!("{from} to {to} went");
        };
        assert_eq!(
            (denial.by, denial.policy_id.as_str()),
            (DecidedBy::Region, "baseline/member"),
            "{from} to {to}"
        );
    }
    let before = decide(&in_force, 0, Way::Direct, "MM/MM-ATIPD", "TH/TH-SPOC");
    assert!(matches!(before, Decision::Release(_)), "{before:?}");
}
