//! The gate: names that exist, policies that can be asked, cases that hold.

use std::sync::Arc;

use super::*;

#[track_caller]
fn problem(owner: Owner, text: &str) -> Problem {
    let mut problems = check::literals(&read(owner, text), &roster()).expect_err(text);
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.remove(0)
}

fn head(action: &str, principal: &str, resource: &str) -> String {
    let action = if action.is_empty() { String::new() } else { format!(" {action}") };
    policy("x", &format!("permit (principal{principal}, action{action}, resource{resource})"), "")
}

const TO_RELEASE: &str = "== Lintas::Action::\"Release\"";
const TO_ACCEPT: &str = "== Lintas::Action::\"Accept\"";

#[test]
fn every_name_must_stand_in_the_roster() {
    for (literal, what, mend) in [
        ("Lintas::Agency::\"TG\"", "no agency `TG`", "did you mean `TH`?"),
        ("Lintas::Agency::\"th\"", "no agency `th`", "did you mean `TH`?"),
        ("Lintas::Agency::\"SINGAPORE\"", "no agency", "known here: `KH`, `LA`"),
        ("Lintas::Agency::\"MM\"", "no member of the region any more", "take it out"),
        ("Lintas::Group::\"COMIT\"", "has the group `COMIT`", "did you mean `COMMIT`?"),
        ("Lintas::Region::\"mekong\"", "not called `mekong`", "Lintas::Region::\"example\""),
        ("Lintas::Unit::\"KH/KH-C\"", "KH has no unit `KH-C`", "did you mean `KH-A`?"),
        ("Lintas::Unit::\"KX/KH-A\"", "no agency `KX`", "did you mean `KH`?"),
        ("Lintas::Unit::\"MM/MM-A\"", "any more", ""),
        ("Lintas::Unit::\"KH-A\"", "its agency is missing", "\"TH/TH-SPOC\""),
    ] {
        let condition = problem(th(), &release("x", &format!("when {{ principal in {literal} }}")));
        let column = "when { principal in ".len() + literal.find('"').unwrap() + 2;
        assert_eq!((condition.line, condition.column), (4, column), "{literal}");
        assert!(condition.what.contains(what) && condition.mend.contains(mend), "{condition}");
        let scope = problem(th(), &head(TO_RELEASE, &format!(" in {literal}"), ""));
        assert_eq!((scope.line, &scope.what), (3, &condition.what));
    }
    let suspended = head(TO_RELEASE, " in Lintas::Agency::\"LA\"", "");
    assert_eq!(check::literals(&read(th(), &suspended), &roster()), Ok(()));
    let packet = release("x", "when { resource == Lintas::Packet::\"packet\" }");
    assert!(problem(th(), &packet).what.contains("packets have no names"));
    let listed =
        release("x", "when { resource.relTo.containsAny([Lintas::Agency::\"TH\", Lintas::Agency::\"XX\"]) }");
    assert!(problem(th(), &listed).what.contains("`XX`"));
}

#[test]
fn a_policy_that_would_never_be_asked_is_refused() {
    let relay = "== Lintas::Action::\"Relay\"";
    for (text, what) in [
        (head(relay, "", ""), "only the baseline is asked"),
        (head("in [Lintas::Action::\"Relay\"]", "", ""), "only the baseline is asked"),
        (head(TO_RELEASE, "", " in Lintas::Agency::\"KH\""), "releases only what TH wrote"),
        (head(TO_RELEASE, "", " in Lintas::Group::\"COMMIT\""), "releases only what TH wrote"),
        (head(TO_ACCEPT, " in Lintas::Agency::\"KH\"", ""), "accepts only for its own units"),
        (head(TO_ACCEPT, " == Lintas::Unit::\"KH/KH-A\"", ""), "accepts only for its own units"),
        (head(TO_ACCEPT, " is Lintas::Unit in Lintas::Agency::\"KH\"", ""), "accepts only for its own units"),
        (
            head(
                "in Lintas::Action::\"transfer\"",
                " in Lintas::Agency::\"KH\"",
                " in Lintas::Agency::\"VN\"",
            ),
            "neither about what TH wrote nor about its own units",
        ),
    ] {
        let problem = problem(th(), &text);
        assert!(problem.what.contains(what) && !problem.mend.is_empty() && problem.line == 1, "{problem}");
    }
}

#[test]
fn a_policy_that_does_more_than_its_author_means_is_refused() {
    assert!(problem(th(), &head("", "", "")).what.contains("permits everything at once"));
    let review = policy("x", "forbid (principal, action == Lintas::Action::\"Review\", resource)", "");
    assert!(problem(th(), &review).what.contains("take away a review"));
    assert!(problem(Owner::Baseline, &review).what.contains("never asked"));
}

#[test]
fn a_policy_that_can_be_asked_passes() {
    for text in [
        head(TO_RELEASE, " in Lintas::Agency::\"KH\"", " in Lintas::Agency::\"TH\""),
        head(TO_RELEASE, "", " in Lintas::Group::\"ASEAN\""),
        head(TO_ACCEPT, " in Lintas::Group::\"ASEAN\"", " in Lintas::Agency::\"VN\""),
        head(TO_ACCEPT, " == Lintas::Unit::\"TH/TH-A\"", ""),
        head("in [Lintas::Action::\"Release\", Lintas::Action::\"Review\"]", "", ""),
        head("in Lintas::Action::\"transfer\"", " in Lintas::Agency::\"KH\"", ""),
        policy("x", "forbid (principal, action, resource)", "when { resource.tlp == Lintas::Tlp::\"RED\" }"),
    ] {
        assert_eq!(check::literals(&read(th(), &text), &roster()), Ok(()), "{text}");
    }
    assert_eq!(check::literals(&read(Owner::Baseline, baseline::STANDARD), &roster()), Ok(()));
}

#[test]
fn a_bundle_counts_only_if_names_and_cases_hold() {
    let roster = Arc::new(roster());
    let gate = |text: &str, cases: &str| check::activation(&read(th(), text), cases, &roster, NOW);
    let good = "[[case]]\nname = \"a request\"\nfrom = \"TH/TH-A\"\nto = \"KH/KH-A\"\npurposes = [\"INVESTIGATION\"]\nexpect = \"release\"\n";
    assert_eq!(gate(RELEASE, good), Ok(()));
    let problems = gate(RELEASE, &good.replace("\"release\"", "\"deny\"")).unwrap_err();
    assert_eq!(problems[0].line, 1);
    assert!(
        problems[0].what.starts_with("in the cases: case `a request` expects deny, but: It goes from TH"),
        "{problems:?}"
    );
    let problems = gate(RELEASE, "").unwrap_err();
    assert!(problems[0].what.contains("there is no case"), "{problems:?}");
    let misspelt = head(TO_RELEASE, " in Lintas::Agency::\"KG\"", "");
    let problems = gate(&misspelt, &good.replace("purposes", "purpose")).unwrap_err();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[1].what.contains("there is no key `purpose`; did you mean `purposes`?"), "{problems:?}");
}
