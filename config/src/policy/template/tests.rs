use super::{super::world::*, *};
use crate::policy::{
    Baseline, Layers, check,
    decide::{Asked, Decision, decide},
    set::{Owner, PolicySet},
    view::Described,
    vocabulary::Word,
};
use std::sync::Arc;

use lintas_proto::schema::{Caveat, DataCategory, HandlingCode, Kind, Label, Offence, Onward, Tlp, UnitRef};

/// Words of a list as the cases write them.
fn list<W: Word + Into<i32>>(case: &toml::Table, key: &str) -> Vec<i32> {
    let words = case.get(key).and_then(|list| list.as_array()).cloned().unwrap_or_default();
    words.iter().map(|word| known::<W>(word.as_str().unwrap())).collect()
}

fn known<W: Word + Into<i32>>(word: &str) -> i32 {
    (1..64).map_while(|value| W::try_from(value).ok()).find(|known| known.word() == word).unwrap().into()
}

fn place(case: &toml::Table, key: &str) -> UnitRef {
    let (agency, code) = case[key].as_str().unwrap().split_once('/').unwrap();
    unit(agency, code)
}

fn run(roster: &Roster, own: &PolicySet, agency: &str, cases: &str) -> usize {
    let file: toml::Table = cases.parse().unwrap();
    let defaults = file["defaults"].as_table().unwrap();
    // A member without units has none.
    let all = file.get("case").and_then(|all| all.as_array()).cloned().unwrap_or_default();
    let baseline = Baseline::read(roster).unwrap();
    for case in &all {
        let mut merged = defaults.clone();
        merged.extend(case.as_table().unwrap().clone());
        let (case, text) = (&merged, |key: &str| merged[key].as_str().unwrap());
        let packet = Described {
            originator: place(case, "from"),
            named: true,
            kind: Kind::try_from(known::<Kind>(text("kind"))).unwrap(),
            label: Label {
                tlp: known::<Tlp>(text("tlp")),
                handling: list::<HandlingCode>(case, "handling"),
                caveats: list::<Caveat>(case, "caveats"),
                purposes: list::<Purpose>(case, "purposes"),
                offences: list::<Offence>(case, "offences"),
                data: list::<DataCategory>(case, "data"),
                ..Label::default()
            },
            onward: Onward::None,
            reviewed: false,
            relay: None,
        };
        let to = place(case, "to");
        let layers = match (packet.originator.agency == agency, to.agency == agency) {
            (true, true) => Layers::All,
            (true, false) => Layers::Release,
            (false, _) => Layers::Accept,
        };
        let sets: Vec<PolicySet> = baseline.at(NOW).0.into_iter().cloned().collect();
        let asked = Asked { baseline: &sets, originator: Some(own), recipient: Some(own) };
        let (outcome, by) = match decide(asked, roster, &packet.question(&to, NOW), layers) {
            Decision::Release(allowed) => ("release", [allowed.released_by, allowed.accepted_by].concat()),
            Decision::Review(allowed) => ("review", allowed.review_by),
            Decision::Deny(denial) => ("deny", vec![denial.policy_id]),
        };
        assert_eq!(outcome, text("expect"), "{agency}: {case:?} {by:?}");
        if let Some(expected) = case.get("by").and_then(|by| by.as_str()) {
            assert!(by.iter().any(|id| id == expected), "{agency}: {case:?} {by:?}");
        }
    }
    all.len()
}

#[test]
fn every_member_begins_with_a_bundle_that_stands_its_own_cases() {
    let roster = Arc::new(roster());
    let mut most = 0;
    for member in &roster.members {
        let Template { policies, cases } = template(&roster, &member.agency, NOW).unwrap();
        let set = PolicySet::read(Owner::Agency(member.agency.clone()), &policies)
            .unwrap_or_else(|problems| panic!("{}: {problems:?}", member.agency));
        assert_eq!(check::activation(&set, &cases, &roster, NOW), Ok(()), "{}", member.agency);
        most = most.max(run(&roster, &set, &member.agency, &cases));
        assert!(policies.contains(&member.name) && !cases.contains("{{"));
    }
    assert_eq!(most, 9, "a member with all sorts of units has all cases");
}

#[test]
fn every_example_is_a_sound_policy_once_its_marks_are_taken_away() {
    let roster = roster();
    for member in &roster.members {
        let text = template(&roster, &member.agency, NOW).unwrap().policies;
        assert_eq!(text.matches("//> @id(").count(), 3);
        let used: Vec<&str> = text.lines().map(|line| line.strip_prefix(EXAMPLE).unwrap_or(line)).collect();
        let set = PolicySet::read(Owner::Agency(member.agency.clone()), &used.join("\n"))
            .unwrap_or_else(|problems| panic!("{}: {problems:?}", member.agency));
        assert_eq!(check::literals(&set, &roster), Ok(()));
        assert_eq!(set.policies().count(), 10);
        assert!(set.next_moment_ms(NOW).is_some(), "the one with an end has an end");
    }
}

#[test]
fn a_member_that_is_alone_gets_no_case_about_partners() {
    let mut roster = roster();
    roster.members.retain(|member| member.agency == "TH");
    let Template { policies, cases } = template(&roster, "TH", NOW).unwrap();
    let set = PolicySet::read(Owner::Agency("TH".to_owned()), &policies).unwrap();
    assert_eq!((run(&roster, &set, "TH", &cases), policies.matches("//> @id(").count()), (1, 1));
    assert!(template(&roster, "XX", NOW).is_err());
}
