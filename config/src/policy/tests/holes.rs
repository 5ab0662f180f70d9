//! One test for each hole that trials met (docs/POLICY.md).

use super::*;

/// Cedar leaves a `forbid` out that it cannot evaluate, and would allow.
#[test]
fn hole_1_a_policy_that_cannot_be_evaluated_denies() {
    let overflow = forbid("sum", "when { resource.classification * 9000000000000000000 > 5 }");
    let text = format!("{RELEASE}{overflow}");
    assert!(ask().released(&text, ACCEPT), "nothing overflows without a marking");
    let marked = ask().marked("LAP");
    assert_eq!(marked.denied(&text, ACCEPT), "TH/sum");
    let Decision::Deny(denial) = marked.of(&text, ACCEPT) else { panic!() };
    assert!(
        denial.why.contains("could not be evaluated") && !denial.why.contains("policy `"),
        "{}",
        denial.why
    );
    // Of a permit too: what it would have said is not known.
    let permit = release("product", "when { resource.classification * 9000000000000000000 > 5 }");
    assert_eq!(marked.denied(&format!("{RELEASE}{permit}"), ACCEPT), "TH/product");
    // And of the policy that only asks for a person.
    let review = policy(
        "look",
        "permit (principal, action == Lintas::Action::\"Review\", resource)",
        "when { resource.classification * 9000000000000000000 > 5 }",
    );
    assert_eq!(marked.denied(&format!("{RELEASE}{review}"), ACCEPT), "TH/look");
    let accept = policy(
        "odd",
        "forbid (principal, action == Lintas::Action::\"Accept\", resource)",
        "when { resource.classification * 9000000000000000000 > 5 }",
    );
    assert_eq!(marked.denied(RELEASE, &format!("{ACCEPT}{accept}")), "KH/odd");
}

/// Without the schema there is no hierarchy of actions, and `action in` is never true.
#[test]
fn hole_2_a_policy_about_a_group_of_actions_is_about_each_of_them() {
    let head = "forbid (principal, action in Lintas::Action::\"transfer\", resource)";
    let none = policy("none", head, "");
    assert_eq!(ask().denied(&format!("{RELEASE}{none}"), ACCEPT), "TH/none");
    assert_eq!(ask().denied(RELEASE, &format!("{ACCEPT}{none}")), "KH/none");
    let condition = policy(
        "none",
        "forbid (principal, action, resource)",
        "when { action in Lintas::Action::\"transfer\" }",
    );
    assert_eq!(ask().denied(&format!("{RELEASE}{condition}"), ACCEPT), "TH/none");
}

/// A group that nobody is in is no error to Cedar.
#[test]
fn hole_3_a_misspelt_group_is_found_in_the_directory() {
    let head =
        "forbid (principal in Lintas::Group::\"ASAEN\", action == Lintas::Action::\"Release\", resource)";
    let set = read(th(), &policy("no-asean", head, ""));
    let problems = check::literals(&set, &roster()).unwrap_err();
    assert_eq!((problems.len(), problems[0].line, problems[0].column), (1, 3, 38));
    assert_eq!(problems[0].mend, "did you mean `ASEAN`?");
}

/// Later on a roster may come without that group: whom the policy meant is not known.
#[test]
fn hole_3_a_policy_whose_group_is_gone_is_in_nobodys_favour() {
    let forbids =
        "forbid (principal in Lintas::Group::\"OLD\", action == Lintas::Action::\"Release\", resource)";
    assert_eq!(ask().denied(&format!("{RELEASE}{}", policy("no-old", forbids, "")), ACCEPT), "TH/no-old");
    let permits = release("others", "unless { principal in Lintas::Group::\"OLD\" }");
    assert_eq!(ask().denied(&permits, ACCEPT), "TH/nothing-releases");
    assert!(ask().released(&format!("{RELEASE}{permits}"), ACCEPT), "another policy permits it");
    let review =
        "permit (principal in Lintas::Group::\"OLD\", action == Lintas::Action::\"Review\", resource)";
    let reviewed = ask().of(&format!("{RELEASE}{}", policy("look", review, "")), ACCEPT);
    assert!(matches!(reviewed, Decision::Review(allowed) if allowed.review_by == ["TH/look"]));
    let accept =
        "forbid (principal in Lintas::Group::\"OLD\", action == Lintas::Action::\"Accept\", resource)";
    assert!(
        ask().released(&format!("{RELEASE}{}", policy("in", accept, "")), ACCEPT),
        "about another action"
    );
}

/// To Cedar, what looks alike is a warning, and so is a policy that never holds.
#[test]
fn hole_4_what_cedar_only_warns_of_is_refused() {
    let cyrillic = release("to-th", "when { principal.agency.country == \"\u{422}H\" }");
    let [problem] = wrong(&cyrillic).try_into().unwrap();
    assert_eq!((problem.line, problem.column), (4, 37));
    assert_eq!(problem.mend, "write `T`");
    for never in [
        "when { resource.named && !resource.named }",
        "when { resource.kind == Lintas::Kind::\"ALERT\" && resource.kind == Lintas::Kind::\"REPLY\" }",
        "when { Lintas::Tlp::\"RED\" == resource.tlp } unless { resource.named } when { resource.tlp == Lintas::Tlp::\"CLEAR\" }",
        "when { resource.named } unless { resource.named || context.consent }",
        "when { false }",
        "when { principal is Lintas::Agency }",
        "when { context has nothing }",
    ] {
        let problems = wrong(&release("never", never));
        assert!(problems[0].what.contains("can never hold"), "{never}: {problems:?}");
    }
    let transfer =
        wrong(&policy("x", "permit (principal, action == Lintas::Action::\"transfer\", resource)", ""));
    assert!(transfer[0].mend.contains("action in"), "{transfer:?}");
    let may = "when { resource.named || !resource.named } unless { resource.kind == Lintas::Kind::\"ALERT\" && resource.kind == Lintas::Kind::\"REPLY\" }";
    read(th(), &release("may", may));
}

/// Cedar numbers policies that have no id.
#[test]
fn hole_5_a_policy_has_an_id_and_a_reason_of_its_own() {
    let bare = "permit (principal, action == Lintas::Action::\"Release\", resource);";
    assert!(wrong(bare)[0].what.contains("needs an id"));
    assert!(wrong(&format!("@id(\"a\") {bare}"))[0].what.contains("does not say why"));
    assert!(wrong(&format!("@id(\"a\") @reason(\" \") {bare}"))[0].what.contains("does not say why"));
    assert!(wrong(&format!("@id(\"policy_0\") @reason(\"x\") {bare}"))[0].what.contains("needs an id"));
    let twice = wrong(&format!("{RELEASE}{RELEASE}"));
    assert_eq!((twice[0].line, twice[0].what.as_str()), (4, "the id `all` stands twice"));
    let Decision::Release(allowed) = ask().of(RELEASE, ACCEPT) else { panic!() };
    assert_eq!(
        (allowed.released_by, allowed.accepted_by),
        (vec!["TH/all".to_owned()], vec!["KH/take".to_owned()])
    );
}

/// Cedar gives no reason where no policy spoke.
#[test]
fn hole_6_that_nothing_permits_is_explained() {
    let alerts = release("alerts", "when { resource.kind == Lintas::Kind::\"ALERT\" }");
    let Decision::Deny(denial) = ask().of(&alerts, ACCEPT) else { panic!() };
    assert_eq!(denial.policy_id, "TH/nothing-releases");
    assert_eq!(denial.why, "no policy of TH releases REQUEST with this label to KH / KH-A");
    let nothing = [];
    let asked = Asked { baseline: &nothing, originator: None, recipient: None };
    let Decision::Deny(denial) = decide(asked, &roster(), &ask().question(), Layers::All) else { panic!() };
    assert!(denial.why.starts_with("TH has not published a release policy, and no policy"), "{}", denial.why);
}
