use std::sync::Arc;

use super::{super::world::*, *};
use crate::policy::{check, set::PolicySet};

fn read(agency: &str, policies: &str) -> PolicySet {
    set(agency, &[policies])
}

#[test]
fn every_member_begins_with_a_bundle_that_stands_its_own_cases() {
    let roster = Arc::new(roster());
    let mut most = 0;
    for member in roster.members.iter().filter(|member| !member.units.is_empty()) {
        let Template { policies, cases } = template(&roster, &member.agency, NOW).unwrap();
        let set = read(&member.agency, &policies);
        assert_eq!(check::activation(&set, &cases, &roster, NOW), Ok(()), "{}", member.agency);
        most = most.max(cases.matches("[[case]]").count());
        assert!(policies.contains(&member.name) && !cases.contains("{{"));
    }
    assert_eq!(most, 10, "a member with all sorts of units has all cases");
}

#[test]
fn every_example_is_a_sound_policy_once_its_marks_are_taken_away() {
    let roster = roster();
    for member in roster.members.iter().filter(|member| !member.units.is_empty()) {
        let text = template(&roster, &member.agency, NOW).unwrap().policies;
        assert_eq!(text.matches("//> @id(").count(), 3);
        let used: Vec<&str> = text.lines().map(|line| line.strip_prefix(EXAMPLE).unwrap_or(line)).collect();
        let set = read(&member.agency, &used.join("\n"));
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
    let roster = Arc::new(roster);
    assert_eq!(check::activation(&read("TH", &policies), &cases, &roster, NOW), Ok(()));
    assert_eq!((cases.matches("[[case]]").count(), policies.matches("//> @id(").count()), (1, 1));
    assert!(template(&roster, "XX", NOW).is_err());
}

#[test]
fn who_has_no_unit_needs_no_policy() {
    let mut roster = roster();
    roster.members.iter_mut().find(|member| member.agency == "TH").unwrap().units.clear();
    assert_eq!(template(&roster, "TH", NOW), Err(ViewError::NoUnits("TH".to_owned())));
}
