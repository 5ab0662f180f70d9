//! Time: what policies may say of it, and how long an answer is remembered (hole 7).

use super::*;

const TIMED: &str = "when { context.now < datetime(\"2027-01-01\") }";

fn moments(condition: &str) -> Vec<u64> {
    let set = read(th(), &release("timed", condition));
    let next = |now: &u64| set.next_moment_ms(*now);
    std::iter::successors(next(&0), next).collect()
}

#[test]
fn the_moments_of_a_policy_are_known_in_every_form() {
    let year = 1_798_761_600_000;
    for condition in [
        TIMED,
        "when { datetime(\"2027-01-01\") > context.now }",
        "when { context[\"now\"] <= datetime(\"2027-01-01T00:00:00Z\") }",
        "unless { context.now == datetime(\"2027-01-01T07:00:00.000+0700\") }",
        "when { if resource.named then context.now >= datetime(\"2027-01-01\") else context.now != datetime(\"2027-01-01\") }",
    ] {
        assert_eq!(moments(condition), [year, year + 1], "{condition}");
    }
    assert!(moments("when { resource.named }").is_empty());
}

#[test]
fn time_that_is_used_in_any_other_way_is_refused() {
    for condition in [
        "when { context.now < context.now.offset(duration(\"1d\")) }",
        "when { context.now.toTime() > duration(\"8h\") }",
        "when { context.now.durationSince(datetime(\"2026-01-01\")) < duration(\"10d\") }",
        "when { datetime(\"2027-01-01\").durationSince(context.now) > duration(\"10d\") }",
        "when { context.now < datetime(\"2027-01-01\").offset(duration(\"1d\")) }",
        "when { [datetime(\"2027-01-01\")].contains(context.now) }",
        "when { {at: context.now}.at < datetime(\"2027-01-01\") }",
        "when { {c: context}.c.now < datetime(\"2027-01-01\") }",
        "when { (if resource.named then context else context).now < datetime(\"2027-01-01\") }",
        "when { context == {now: datetime(\"2027-01-01\"), purposes: resource.purposes, hops: 0, consent: false} }",
        "when { (if resource.named then context.now else datetime(\"2027-01-01\")) < datetime(\"2027-06-01\") }",
    ] {
        let problems = wrong(&release("timed", condition));
        assert!(problems.iter().any(|problem| problem.what.contains("time")), "{condition}: {problems:?}");
    }
}

fn told(ask: &Ask, policies: &Policies) -> bool {
    matches!(&*policies.decide(&ask.question(), Layers::Release), Decision::Release(_))
}

#[test]
fn hole_7_an_answer_is_not_remembered_past_the_moment_that_changes_it() {
    let (region, directory) = bundles::region();
    let text = format!(
        "{}{}",
        release("timed", TIMED),
        release("later", "when { context.now >= datetime(\"2027-02-01\") }")
    );
    let bundle = bundles::open(&region, &directory, &text).unwrap();
    let policies = Policies::new(directory.shared_roster(), [bundle], NOW).unwrap();
    let at = |now_ms| Ask { now_ms, ..ask() };
    let year = 1_798_761_600_000;
    assert!(told(&at(year - 1), &policies) && told(&at(year - 1), &policies));
    assert!(!told(&at(year), &policies) && !told(&at(year + 2), &policies));
    // A clock that goes back finds what was true then.
    assert!(told(&at(year - 1), &policies) && told(&at(NOW), &policies) && !told(&at(year + 1), &policies));
    assert_eq!(policies.decide_until(&at(NOW).question(), Layers::All).1, year);
}

#[test]
fn hole_7_another_bundle_or_another_roster_is_another_generation() {
    let (mut region, directory) = bundles::region();
    let of = |text: &str| bundles::open(&region, &directory, text).unwrap();
    let open = Policies::new(directory.shared_roster(), [of(RELEASE)], NOW).unwrap();
    let shut = Policies::new(directory.shared_roster(), [of(&forbid("no", ""))], NOW).unwrap();
    assert!(told(&ask(), &open) && !told(&ask(), &shut));
    assert_ne!(open.hash(), shut.hash());
    let bundle = of(RELEASE);
    region.roster.members[0].status = MemberStatus::Suspended as i32;
    let suspended = Policies::new(std::sync::Arc::new(region.roster), [bundle], NOW).unwrap();
    assert!(!told(&ask(), &suspended));
}

#[test]
fn an_answer_is_remembered_for_one_question_only() {
    let (region, directory) = bundles::region();
    let red = "when { resource.tlp == Lintas::Tlp::\"RED\" || context has via || context.hops > 1 }";
    let text = format!("{RELEASE}{}{}", forbid("no-red", red), forbid("named", "unless { resource.named }"));
    let bundle = bundles::open(&region, &directory, &text).unwrap();
    let policies = Policies::new(directory.shared_roster(), [bundle], NOW).unwrap();
    let mut red = ask();
    red.label.tlp = lintas_proto::schema::Tlp::Red as i32;
    let relayed = Ask { way: Way::Relayed { via: "KH", hops: 1, consent: true }, ..ask() };
    let unnamed = Ask { named: false, ..ask() };
    for _ in 0..2 {
        assert!(told(&ask(), &policies));
        assert!(!told(&red, &policies) && !told(&relayed, &policies) && !told(&unnamed, &policies));
    }
    // A unit that does not exist, made of the letters of two that do.
    let glued = Ask { from: UnitRef { agency: "TH".to_owned(), unit: "TH-A\0KH".to_owned() }, ..ask() };
    assert!(!told(&glued, &policies) && told(&ask(), &policies));
}

#[test]
fn with_other_bundles_or_at_another_time_it_is_what_would_be_read_anew() {
    let (mut region, directory) = bundles::region();
    let of = |text: &str| bundles::open(&region, &directory, text).unwrap();
    let (first, second) = (of(RELEASE), of(&forbid("no", "")));
    let policy = "@id(\"gone\") @reason(\"it leaves\") forbid (principal, action, resource) when { resource.tlp == Lintas::Tlp::\"CLEAR\" };";
    region.roster.leaving =
        vec![lintas_proto::schema::LeavingPolicy { policy: policy.to_owned(), until_ms: NOW + 1_000 }];
    let roster = std::sync::Arc::new(region.roster);
    let read = |bundle: &std::sync::Arc<Bundle>, now_ms| {
        Policies::new(std::sync::Arc::clone(&roster), [std::sync::Arc::clone(bundle)], now_ms).unwrap()
    };
    let begun = read(&first, NOW);
    assert_eq!(begun.next_change_ms(), Some(NOW + 1_000));
    let mut clear = ask();
    clear.label.tlp = lintas_proto::schema::Tlp::Clear as i32;
    for (bundle, now_ms) in [(&first, NOW + 1_000), (&second, NOW + 999), (&second, NOW + 1_000)] {
        let (with, new) = (begun.with([std::sync::Arc::clone(bundle)], now_ms), read(bundle, now_ms));
        assert_eq!((with.hash(), with.next_change_ms()), (new.hash(), new.next_change_ms()));
        assert!(std::sync::Arc::ptr_eq(with.roster(), begun.roster()));
        assert_eq!(told(&clear, &with), told(&clear, &new));
    }
    let later = begun.with([first], NOW + 1_000);
    assert!(!told(&clear, &begun) && told(&clear, &later), "what is remembered is not taken along");
}
