//! The baseline, markings and purposes: from a change to the words of its review.

use lintas_proto::schema::{ClassificationScheme, Marking, Purpose, Roster};

use super::*;
use crate::{
    Directory,
    policy::{
        baseline::{LEAVES_AFTER_MS, STANDARD},
        loosening::standing,
    },
    source::BaselineSource,
    testing::{NOW, Region, region},
};

const DAY: u64 = 24 * 60 * 60 * 1_000;
const CLOCKS: u64 = lintas_proto::limits::CLOCK_SKEW_MS_MAX;
const OTHER: &str = "@id(\"no-recalls\")\n@reason(\"nobody recalls\")\nforbid (principal, action in Lintas::Action::\"transfer\", resource)\n\
                     when { resource.kind == Lintas::Kind::\"RECALL\" };\n";

fn baseline(text: &str) -> Changes {
    let (file, cases_file) = ("policy.cedar".to_owned(), "cases.toml".to_owned());
    let baseline = BaselineSource { file, text: text.to_owned(), cases_file, cases: String::new() };
    Changes { baseline: Some(baseline), ..Changes::default() }
}

/// The standard baseline without its first policy.
fn less() -> String {
    let roster = Roster::default();
    standing(&roster)[1..].iter().map(|policy| format!("{}\n", policy.text)).collect()
}

fn scheme(code: &str, markings: &[(&str, u32)]) -> ClassificationScheme {
    let marking = |(value, rank): &(&str, u32)| Marking { value: (*value).to_owned(), rank: *rank };
    ClassificationScheme { scheme: code.to_owned(), markings: markings.iter().map(marking).collect() }
}

/// The review of a change, and the directory that it makes when two authorities sign it.
fn made(region: &Region, from: &Directory, changes: &Changes, now_ms: u64) -> (Review, Directory) {
    let mut proposal = change(from, None, changes, now_ms).unwrap();
    region.authorities[..2].iter().for_each(|key| proposal.sign(key));
    let review = review(&proposal, Some(from), &[]).unwrap();
    (review, from.succeed(&proposal.to_bytes(), &[]).unwrap())
}

fn says(review: &Review) -> Vec<(&'static str, bool, &str)> {
    review.changes.iter().map(|change| (change.kind, change.loosens, change.text.as_str())).collect()
}

#[test]
fn what_is_taken_out_forbids_for_fourteen_days_and_then_leaves_with_the_next_roster() {
    let mut region = region();
    region.roster.not_before_ms = NOW - DAY;
    let first = region.open().unwrap();
    let (review, second) = made(&region, &first, &baseline(&format!("{OTHER}{}", less())), NOW);
    let said = says(&review);
    assert_eq!(said.len(), 2, "{said:?}");
    assert_eq!(
        said[0],
        (
            "baseline_comes",
            false,
            "the baseline policy baseline/no-recalls comes and forbids at once: nobody recalls"
        )
    );
    let (kind, loosens, text) = said[1];
    assert_eq!((kind, loosens), ("baseline_goes", true));
    assert!(
        text.starts_with("LOOSENING: the baseline policy baseline/noforn goes: it still forbids until 20"),
        "{text}"
    );
    let until_ms = NOW - CLOCKS + LEAVES_AFTER_MS;
    assert_eq!(second.roster().leaving[0].until_ms, until_ms);

    // A renewal takes it along, and lets it go when its time is over.
    let (review, third) = made(&region, &second, &Changes::default(), NOW + 3 * DAY);
    assert_eq!((says(&review).len(), third.roster().leaving.len()), (0, 1));
    let (review, fourth) = made(&region, &third, &Changes::default(), until_ms + CLOCKS);
    assert!(fourth.roster().leaving.is_empty());
    let said = says(&review);
    assert!(said.len() == 1 && said[0].0 == "baseline_left" && said[0].1, "{said:?}");
    assert!(said[0].2.contains("has left"), "{said:?}");

    // Before that it may come back, at once.
    let (review, back) = made(&region, &third, &baseline(&format!("{OTHER}{STANDARD}")), NOW + 4 * DAY);
    assert!(back.roster().leaving.is_empty());
    let said = says(&review);
    assert!(
        said.len() == 1 && said[0].2.contains("baseline/noforn comes back before it has left"),
        "{said:?}"
    );
}

#[test]
fn a_policy_with_another_text_is_both_and_other_comments_are_nothing() {
    let region = region();
    let first = region.open().unwrap();
    let (review, _) = made(&region, &first, &baseline(&format!("// A word.\n{STANDARD}")), NOW);
    assert_eq!(says(&review), []);
    let other = STANDARD
        .replace("resource.tlp == Lintas::Tlp::\"RED\"", "resource.tlp == Lintas::Tlp::\"AMBER_STRICT\"");
    let (review, second) = made(&region, &first, &baseline(&other), NOW);
    let said = says(&review);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].2.contains("baseline/tlp-red has another text, which forbids at once"), "{said:?}");
    assert!(
        said[1].1 && said[1].2.contains("the text before of the baseline policy baseline/tlp-red goes"),
        "{said:?}"
    );
    let found = inspect(&second, &[]).unwrap();
    let red: Vec<_> = found.baseline.iter().filter(|policy| policy.id == "baseline/tlp-red").collect();
    assert_eq!((red.len(), red[0].until_ms), (2, None));
    assert!(red[1].until_ms.is_some() && red[1].text.contains("RED") && !red[0].text.contains("\"RED\""));
}

#[test]
fn a_proposal_that_drops_a_policy_at_once_is_named_and_does_not_follow() {
    let region = region();
    let first = region.open().unwrap();
    let changed = change(&first, None, &baseline(&less()), NOW).unwrap();
    let mut roster = changed.roster().clone();
    roster.leaving.clear();
    let proposal = Proposal::new(&roster, region.keysets.clone()).unwrap();
    let said = review(&proposal, Some(&first), &[]).unwrap();
    assert!(
        said.changes.iter().any(|change| change.text.contains("AT ONCE, which no node accepts")),
        "{said:?}"
    );
    let refused = first.proposed(&proposal.to_bytes()).unwrap_err();
    assert!(refused.to_string().contains("baseline/noforn"), "{refused}");
}

#[test]
fn a_lower_rank_a_higher_clearance_and_a_new_purpose_are_loosenings() {
    let mut region = region();
    region.roster.schemes =
        vec![scheme("KH", &[("SAMNGAT", 2)]), scheme("TH", &[("LAP", 2), ("LAP-MAK", 3)])];
    let first = region.open().unwrap();
    let schemes = vec![scheme("TH", &[("LAP", 3), ("LAP-MAK", 2), ("POK", 1)]), scheme("VN", &[("MAT", 2)])];
    let changes = Changes { schemes: Some(schemes), ..Changes::default() };
    let (said, second) = made(&region, &first, &changes, NOW);
    assert_eq!(
        says(&said),
        [
            ("marking_rank", false, "the marking TH/LAP has rank 3 (before: 2)"),
            ("marking_rank", true, "LOOSENING: the marking TH/LAP-MAK has rank 2 (before: 3)"),
            ("marking_comes", false, "the marking TH/POK comes, rank 1"),
            ("scheme_comes", false, "the classification scheme VN comes, markings and ranks: MAT 2"),
            (
                "scheme_goes",
                false,
                "the classification scheme KH goes: a packet with a marking of it is released to nobody"
            ),
        ]
    );
    let found = inspect(&second, &[]).unwrap();
    assert_eq!(found.equivalents[1].markings, ["TH/LAP-MAK", "VN/MAT"]);

    let mut roster = second.roster().clone();
    roster.version += 1;
    roster.prev_hash = second.roster_hash().to_vec().into();
    let unit = &mut roster.members[1].units[0];
    (unit.clearance, unit.purposes) = (3, vec![Purpose::Prevention as i32, Purpose::Investigation as i32]);
    roster.members[1].units[1].clearance = 1;
    roster.members[1].units[1].purposes.clear();
    let proposal = Proposal::new(&roster, region.keysets.clone()).unwrap();
    let said = review(&proposal, Some(&second), &[]).unwrap();
    assert_eq!(
        says(&said),
        [
            (
                "unit_purposes",
                true,
                "LOOSENING: unit TH-A: purposes prevention+investigation (before: investigation)"
            ),
            ("unit_clearance", true, "LOOSENING: unit TH-A: clearance 3 (before: 2)"),
            ("unit_purposes", false, "unit TH-B: purposes none (before: investigation)"),
            ("unit_clearance", false, "unit TH-B: clearance 1 (before: 2)"),
        ]
    );
}

#[test]
fn a_first_roster_says_every_policy_every_marking_and_what_units_may_do() {
    let mut region = region();
    region.roster.schemes = vec![scheme("TH", &[("LAP", 2)])];
    let proposal = Proposal::new(&region.roster, region.keysets.clone()).unwrap();
    let said = review(&proposal, None, &[]).unwrap();
    let of = |kind: &str| said.changes.iter().filter(|change| change.kind == kind).count();
    assert_eq!((of("baseline_comes"), of("scheme_comes")), (8, 1));
    assert!(said.changes.iter().any(|change| change.text.contains("purposes investigation, clearance 2")));
}

#[test]
fn no_more_policies_leave_at_one_time_than_a_roster_may_name() {
    let mut region = region();
    let many: String = (0..70).map(|n| OTHER.replace("no-recalls", &format!("p{n}"))).collect();
    region.roster.baseline = many;
    let first = region.open().unwrap();
    let refused = change(&first, None, &baseline(OTHER), NOW).unwrap_err().to_string();
    assert!(refused.contains("take out fewer at once"), "{refused}");
}
