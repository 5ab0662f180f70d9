//! cases.toml: read strictly, and asked of the right policies only.

use super::*;
use crate::policy::cases::{CASES_MAX, unreached};

const DEFAULTS: &str = "[defaults]\nfrom = \"TH/TH-A\"\nto = \"KH/KH-A\"\npurposes = [\"INVESTIGATION\"]\n\n";

fn case(keys: &str) -> String {
    format!("{DEFAULTS}[[case]]\nname = \"one\"\n{keys}\n")
}

#[track_caller]
fn refused(text: &str, line: usize, what: &str) {
    let problems = Cases::read(text, &th()).expect_err(text);
    assert!(problems[0].line == line && problems[0].to_string().contains(what), "{problems:?}");
}

fn run(owner: Owner, text: &str, cases: &str) -> Vec<Outcome> {
    let cases = Cases::read(cases, &owner).unwrap_or_else(|problems| panic!("{cases}\n{problems:?}"));
    cases.run(&read(owner, text), &roster(), NOW).unwrap()
}

#[track_caller]
fn holds(text: &str, keys: &str) {
    let outcomes = run(th(), text, &case(keys));
    assert!(outcomes[0].ok, "{outcomes:?}");
}

#[test]
fn what_a_file_says_wrongly_is_told_with_its_line() {
    refused(&case("expekt = \"deny\""), 8, "did you mean `expect`?");
    refused(&case("expect = \"realease\""), 8, "did you mean `release`?");
    refused(&case("expect = \"deny\"\ntlp = \"AMBER-STRICT\""), 9, "`AMBER_STRICT`");
    refused(&case("expect = \"deny\"\ndata = [\"MINOR\", \"MINER\"]"), 9, "did you mean `MINOR`?");
    refused(&case("expect = \"deny\"\nto = \"KH\""), 9, "agency and unit");
    refused(&case("expect = \"deny\"\nclassification = \"LAP\""), 9, "a scheme and a marking");
    refused(&case("expect = \"deny\"\nat = \"tomorrow\""), 9, "must be a moment");
    refused(&case("expect = \"deny\"\nhops = 2"), 6, "add `via`");
    refused(&case("expect = \"deny\"\nnamed = \"yes\""), 9, "must be true or false");
    refused(&case("from = \"VN/VN-A\"\nexpect = \"deny\""), 6, "neither `from` nor `to` is of TH");
    refused(&case(""), 6, "`expect` is missing");
    refused("[[case]]\nexpect = \"deny\"\n", 1, "`name` is missing");
    refused("[defaults]\nname = \"x\"\n", 2, "there is no key `name`");
    refused("[[case]\n", 1, "not TOML");
    refused("", 0, "there is no case");
    refused(&"[[case]]\n".repeat(CASES_MAX + 1), 0, "at most 1000");
    let two = format!("{}[[case]]\nname = \"two\"\nexpect = 3\n", case("expect = 1"));
    assert_eq!(Cases::read(&two, &th()).unwrap_err().len(), 2);
}

#[test]
fn only_the_owners_layers_and_the_baseline_are_asked() {
    // From TH: what KH accepts is not known, and not asked. To TH: only what TH accepts.
    holds(RELEASE, "expect = \"release\"\nby = \"TH/all\"");
    holds(ACCEPT, "expect = \"deny\"\nby = \"TH/nothing-releases\"");
    holds(ACCEPT, "from = \"KH/KH-A\"\nto = \"TH/TH-A\"\nexpect = \"release\"\nby = \"TH/take\"");
    holds(RELEASE, "from = \"KH/KH-A\"\nto = \"TH/TH-A\"\nexpect = \"deny\"\nby = \"TH/nothing-accepts\"");
    holds(RELEASE, "to = \"TH/TH-B\"\nexpect = \"deny\"\nby = \"TH/nothing-accepts\"");
    holds(&format!("{RELEASE}{ACCEPT}"), "to = \"TH/TH-B\"\nexpect = \"release\"");
    holds(RELEASE, "caveats = [\"NOFORN\"]\nexpect = \"deny\"\nby = \"baseline/noforn\"");
    holds(RELEASE, "to = \"LA/LA-A\"\nexpect = \"deny\"\nby = \"baseline/member\"");
    holds(RELEASE, "handling = [\"H3\"]\nexpect = \"review\"\nby = \"baseline/review-h3\"");
    holds(RELEASE, "handling = [\"H3\"]\nreviewed = true\nexpect = \"release\"");
    holds(RELEASE, "via = \"VN\"\nexpect = \"deny\"\nby = \"baseline/third-party\"");
    holds(RELEASE, "via = \"VN\"\nconsent = true\nexpect = \"release\"");
    holds(RELEASE, "classification = \"TH/LAP-MAK\"\nexpect = \"deny\"\nby = \"baseline/clearance\"");
    let timed = release("timed", "when { context.now < datetime(\"2027-01-01\") }");
    holds(&timed, "expect = \"release\"");
    holds(&timed, "at = \"2027-01-01T00:00:00Z\"\nexpect = \"deny\"");
}

#[test]
fn the_right_answer_of_the_wrong_policy_fails() {
    let outcomes =
        run(th(), RELEASE, &case("expect = \"deny\"\nby = \"TH/no-sources\"\ncaveats = [\"NOFORN\"]"));
    let problem = outcomes[0].problem();
    assert!(!outcomes[0].ok && problem.line == 6, "{problem}");
    assert!(
        problem.what.contains("expects deny by TH/no-sources") && problem.what.contains("baseline/noforn"),
        "{problem}"
    );
}

#[test]
fn the_cases_of_a_baseline_ask_nothing_but_it() {
    let text = policy(
        "no-alerts",
        "forbid (principal, action in Lintas::Action::\"transfer\", resource)",
        "when { resource.kind == Lintas::Kind::\"ALERT\" }",
    );
    let cases = format!(
        "{}[[case]]\nname = \"two\"\nkind = \"ALERT\"\nexpect = \"deny\"\nby = \"baseline/no-alerts\"\n",
        case("caveats = [\"NOFORN\"]\nexpect = \"release\"")
    );
    assert!(run(Owner::Baseline, &text, &cases).iter().all(|outcome| outcome.ok));
}

#[test]
fn policies_that_no_case_shows_are_named() {
    let text = format!(
        "{RELEASE}{}{}",
        release("other", "when { resource.kind == Lintas::Kind::\"ALERT\" }"),
        forbid("red", "when { resource.tlp == Lintas::Tlp::\"RED\" }")
    );
    let outcomes = run(th(), &text, &case("expect = \"release\""));
    let found: Vec<_> = unreached(&read(th(), &text), &outcomes);
    assert_eq!(found.iter().map(|problem| problem.line).collect::<Vec<_>>(), [4, 8]);
    assert!(
        found[0].what.contains("TH/other lets something go")
            && found[1].what.contains("TH/red stops something")
    );
    let more = format!(
        "{}[[case]]\nname = \"two\"\ntlp = \"RED\"\nexpect = \"deny\"\n[[case]]\nname = \"three\"\nkind = \"ALERT\"\nexpect = \"release\"\n",
        case("expect = \"release\"")
    );
    assert_eq!(unreached(&read(th(), &text), &run(th(), &text, &more)), []);
}
