use lintas_proto::schema::{HandlingCode, Member, RosterUnit};
use proptest::prelude::*;

use super::{
    super::{
        decide::{Asked, Decision, Layers, decide},
        question::member,
        space::{KINDS, neutral, turned},
        world::*,
    },
    *,
};

const TRAFFICKING: &str = "when { resource.offences.contains(Lintas::Offence::\"TRAFFICKING_IN_PERSONS\") }";

/// Two members, of which KH has three units and TH two.
fn small() -> Roster {
    let mut roster = roster();
    roster.members.retain(|member| ["KH", "TH"].contains(&member.agency.as_str()));
    for member in &mut roster.members {
        member.units.truncate(3);
    }
    let th = roster.members.iter_mut().find(|member| member.agency == "TH").unwrap();
    th.units.truncate(2);
    roster
}

fn compare(roster: &Roster, old: &[&str], new: &[&str]) -> Diff {
    let (old, new) = (set("TH", old), set("TH", new));
    diff(Some(&old), Some(&new), &Baseline::read(roster).unwrap(), roster, NOW)
}

fn lines(diff: &Diff) -> Vec<&str> {
    diff.periods.iter().flat_map(|period| &period.effects).map(|effect| effect.text.as_str()).collect()
}

#[test]
fn who_gains_is_said_in_the_fewest_words() {
    let roster = small();
    let unit = "when { principal == Lintas::Unit::\"KH/KH-AHT\" && resource.kind == Lintas::Kind::\"ALERT\" && \
        resource.offences.contains(Lintas::Offence::\"TRAFFICKING_IN_PERSONS\") }";
    let diff = compare(&roster, &[], &[&policy("alerts", "permit", "Release", unit)]);
    assert_eq!(lines(&diff), ["KH / KH-AHT gains: ALERT about TRAFFICKING_IN_PERSONS"]);
    let change = PolicyChange {
        id: "TH/alerts".to_owned(),
        fate: Fate::Added,
        forbids: false,
        reason: "because of alerts".to_owned(),
    };
    assert_eq!(diff.policies, [change]);
    let all = compare(&roster, &[&policy("all", "permit", "Release", "")], &[]);
    assert_eq!(lines(&all), ["every unit of every member loses: packets of every kind"]);
}

#[test]
fn a_new_forbid_takes_away_only_what_was_given() {
    let roster = small();
    let permit = policy("all", "permit", "Release", "when { principal in Lintas::Agency::\"KH\" }");
    let forbid =
        policy("no-minors", "forbid", "Release", "when { resource.data.contains(Lintas::Data::\"MINOR\") }");
    let diff = compare(&roster, &[&permit], &[&permit, &forbid]);
    assert_eq!(lines(&diff), ["KH (all units) loses: packets of every kind with data on MINOR"]);
    // The other way round, together with the permit: an exception, not a list.
    let diff = compare(&roster, &[&forbid], &[&permit, &forbid]);
    assert_eq!(lines(&diff), ["KH (all units) gains: packets of every kind but not with data on MINOR"]);
}

#[test]
fn exceptions_are_each_one_enough_and_every_kind_has_its_line() {
    let roster = small();
    let permit = policy(
        "alerts",
        "permit",
        "Release",
        "when { principal == Lintas::Unit::\"KH/KH-AHT\" && (resource.kind == Lintas::Kind::\"ALERT\" || (resource.kind == \
         Lintas::Kind::\"NOTICE\" && resource.data.contains(Lintas::Data::\"WITNESS\"))) }",
    );
    let forbid = policy(
        "not-these",
        "forbid",
        "Release",
        "when { resource.data.contains(Lintas::Data::\"MINOR\") || resource.caveats.contains(Lintas::Caveat::\"ORCON\") }",
    );
    let diff = compare(&roster, &[], &[&permit, &forbid]);
    let told = "KH / KH-AHT gains:\n    ALERT but not with data on MINOR or with ORCON\n    NOTICE with data on WITNESS, but \
        not with data on MINOR or with ORCON\n";
    assert!(diff.to_string().contains(told), "{diff}");
}

#[test]
fn review_and_acceptance_have_their_own_words() {
    let roster = small();
    let permit = policy("all", "permit", "Release", "when { principal in Lintas::Agency::\"KH\" }");
    let review = policy("look", "permit", "Review", TRAFFICKING);
    let diff = compare(&roster, &[&permit], &[&permit, &review]);
    let told = "KH (all units) gets only after a person has looked at it: packets of every kind about \
        TRAFFICKING_IN_PERSONS";
    assert_eq!(lines(&diff), [told]);
    let accept = policy("kh", "permit", "Accept", "when { resource.originator == Lintas::Agency::\"KH\" }");
    let diff = compare(&roster, &[&accept], &[]);
    assert_eq!(lines(&diff), ["TH (all units) accepts no longer from KH: packets of every kind"]);
}

#[test]
fn a_policy_with_an_end_is_a_difference_until_then() {
    let roster = small();
    let until = "when { principal in Lintas::Agency::\"KH\" && context.now < datetime(\"2027-01-01\") }";
    let diff = compare(&roster, &[], &[&policy("for-now", "permit", "Release", until)]);
    let periods: Vec<_> =
        diff.periods.iter().map(|period| (moment(period.from_ms), period.effects.len())).collect();
    assert_eq!(periods, [(moment(NOW), 1), ("2027-01-01T00:00:00Z".to_owned(), 0)]);
    assert!(diff.to_string().contains("From 2027-01-01T00:00:00Z on:\n  no difference any more"), "{diff}");
}

#[test]
fn other_words_for_the_same_are_a_change_of_text_only() {
    let roster = small();
    let old = policy("all", "permit", "Release", "when { resource.kind == Lintas::Kind::\"ALERT\" }");
    let new =
        policy("all", "permit", "Release", "when { [Lintas::Kind::\"ALERT\"].contains(resource.kind) }");
    let diff = compare(&roster, &[&old], &[&new]);
    assert!(diff.decides_the_same() && !diff.is_empty() && diff.policies[0].fate == Fate::Changed);
    let text = diff.to_string();
    assert!(
        text.contains("every decision that was compared is the same") && text.contains("no proof"),
        "{text}"
    );
    // A policy that moved, or a new note, is no change.
    let other = policy("other", "permit", "Accept", "");
    let moved = compare(&roster, &[&old, &other], &["// a note\n", &other, &old]);
    assert!(moved.policies.iter().all(|change| change.id == "TH/other"), "{moved:?}");
    assert!(moved.decides_the_same());
}

#[test]
fn a_forbid_whose_group_is_gone_takes_away_everything_and_the_difference_says_so() {
    let roster = small();
    let permit = policy("all", "permit", "Release", "when { principal in Lintas::Agency::\"KH\" }");
    let gone = policy("no-group", "forbid", "Release", "when { principal in Lintas::Group::\"GONE\" }");
    let diff = compare(&roster, &[&permit], &[&permit, &gone]);
    assert_eq!(lines(&diff), ["KH (all units) loses: packets of every kind"]);
}

#[test]
fn conditions_that_only_hold_together_are_found() {
    let roster = small();
    let narrow = "when { resource.offences.contains(Lintas::Offence::\"CORRUPTION\") && \
        resource.data.contains(Lintas::Data::\"FINANCIAL\") && resource.tlp == Lintas::Tlp::\"RED\" && \
        resource.purposes.contains(Lintas::Purpose::\"PROSECUTION\") && \
        resource.caveats.contains(Lintas::Caveat::\"ORCON\") }";
    let diff = compare(&roster, &[], &[&policy("narrow", "permit", "Release", narrow)]);
    let told = "gain: packets of every kind about CORRUPTION with data on FINANCIAL for PROSECUTION with TLP RED \
        with ORCON";
    assert!(lines(&diff).iter().any(|line| line.ends_with(told)), "{diff}");
}

#[test]
fn the_first_bundle_and_a_big_region_stay_within_bounds() {
    let mut roster = roster();
    let units = |member: &Member| -> Vec<RosterUnit> {
        let more = (0..20).map(|at| RosterUnit { unit: format!("Z-{at:02}"), ..member.units[0].clone() });
        member.units.iter().cloned().chain(more).collect()
    };
    for member in roster.members.iter_mut().filter(|member| !member.units.is_empty()) {
        member.units = units(member);
    }
    let (one, other) = (set("TH", &[&policy("a", "permit", "Release", TRAFFICKING)]), None);
    let diff = diff(other, Some(&one), &Baseline::read(&roster).unwrap(), &roster, NOW);
    assert!(diff.space.packets <= QUESTIONS_MAX && diff.space.labels_left_out == 0, "{:?}", diff.space);
    assert!(!diff.decides_the_same() && diff.periods[0].effects.len() <= LINES_MAX);
}

/// From these the bundles of the property tests are put together.
pub(in crate::policy) fn menu() -> Vec<String> {
    [
        ("all", "permit", "Release", ""),
        ("spocs", "permit", "Release", "when { principal.functions.contains(Lintas::Function::\"SPOC\") }"),
        ("kh", "permit", "Release", "when { principal in Lintas::Agency::\"KH\" }"),
        ("tip", "permit", "Release", TRAFFICKING),
        ("one", "permit", "Release", "when { principal == Lintas::Unit::\"KH/KH-VP\" && resource.named }"),
        ("green", "permit", "Release", "when { resource.tlp == Lintas::Tlp::\"GREEN\" }"),
        ("until", "permit", "Release", "when { context.now < datetime(\"2027-01-01\") }"),
        ("no-minors", "forbid", "Release", "when { resource.data.contains(Lintas::Data::\"MINOR\") }"),
        (
            "no-sources",
            "forbid",
            "Release",
            "when { resource.caveats.contains(Lintas::Caveat::\"SOURCE_PROTECT\") }",
        ),
        ("breaks", "forbid", "Release", "when { principal.clearance + 9223372036854775807 > 1 }"),
        ("look", "permit", "Review", "when { resource.data.contains(Lintas::Data::\"VICTIM\") }"),
        ("members", "permit", "Accept", ""),
        ("alerts", "permit", "Accept", "when { resource.kind == Lintas::Kind::\"ALERT\" }"),
        ("no-kh", "forbid", "Accept", "when { resource.originator == Lintas::Agency::\"KH\" }"),
        ("no-orcon", "forbid", "Accept", "when { resource.caveats.contains(Lintas::Caveat::\"ORCON\") }"),
    ]
    .map(|(id, effect, action, rest)| policy(id, effect, action, rest))
    .to_vec()
}

/// A bundle of the menu, by the bits of a number.
pub(in crate::policy) fn chosen(agency: &str, bits: u16) -> PolicySet {
    let menu = menu();
    let some: Vec<&str> = menu
        .iter()
        .enumerate()
        .filter(|(at, _)| bits >> at & 1 == 1)
        .map(|(_, text)| text.as_str())
        .collect();
    set(agency, &some)
}

/// Whether any packet of the space is decided otherwise, asked without any short cut: every unit by itself.
fn any_differs(old: &PolicySet, new: &PolicySet, roster: &Roster) -> bool {
    let baseline = Baseline::read(roster).unwrap();
    let probed = Probed::new("TH", (Some(old), Some(new)), &baseline, roster, NOW);
    let units = |agency: &str| {
        let units = member(roster, agency).unwrap().units.clone();
        units.into_iter().map(|one| unit(agency, &one.unit)).collect::<Vec<_>>()
    };
    let everybody = [units("KH"), units("TH")].concat();
    let release = everybody.iter().map(|to| (units("TH")[0].clone(), to.clone(), Layers::Release));
    let accept = ["KH", "TH"]
        .into_iter()
        .flat_map(|from| units("TH").into_iter().map(move |to| (units(from)[0].clone(), to, Layers::Accept)));
    let mut pairs = release.chain(accept);
    pairs.any(|(from, to, layers)| {
        let kinds = KINDS.iter().flat_map(|kind| probed.combinations.iter().map(move |turns| (*kind, turns)));
        kinds.into_iter().any(|(kind, turns)| {
            let mut packet = turned(roster, &to, neutral(roster, &from, &to, kind), turns);
            packet.reviewed = packet.label.handling.contains(&(HandlingCode::H3 as i32));
            probed.moments_ms.iter().any(|at_ms| {
                let sets: Vec<PolicySet> = baseline.at(*at_ms).0.into_iter().cloned().collect();
                let outcome = |own: &PolicySet| {
                    let asked = Asked { baseline: &sets, originator: Some(own), recipient: Some(own) };
                    match decide(asked, roster, &packet.question(&to, *at_ms), layers) {
                        Decision::Release(_) => 0,
                        Decision::Review(_) => 1,
                        Decision::Deny(_) => 2,
                    }
                };
                outcome(old) != outcome(new)
            })
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_said_exactly_if_nothing_is_decided_otherwise(old in 0u16..1 << 15, flipped in 0u32..15, more in 0u32..15) {
        let mut roster = small();
        roster.members.iter_mut().for_each(|member| member.units.truncate(2));
        let new = old ^ (1 << flipped) ^ (1 << more);
        let (old, new) = (chosen("TH", old), chosen("TH", new));
        let told = diff(Some(&old), Some(&new), &Baseline::read(&roster).unwrap(), &roster, NOW);
        prop_assert_eq!(told.decides_the_same(), !any_differs(&old, &new, &roster), "{}", told);
        let none = diff(Some(&old), Some(&old), &Baseline::read(&roster).unwrap(), &roster, NOW);
        prop_assert!(none.is_empty() && none.space.packets == 0);
    }
}
