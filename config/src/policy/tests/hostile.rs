//! Ways by which a packet could go that somebody's policy denies.

use super::*;

#[test]
fn nobody_elses_bundle_is_ever_asked() {
    // TH forbids everything it could be asked of; a packet of KH to VN is none of its business.
    let shut = policy("no", "forbid (principal, action, resource)", "");
    let between = Ask { from: unit("KH/KH-A"), to: unit("VN/VN-A"), ..ask() };
    assert!(between.released(RELEASE, ACCEPT));
    assert_eq!(ask().denied(&shut, ACCEPT), "TH/no");
    // What the recipient permits to release, and the originator to accept, counts nothing.
    assert_eq!(ask().denied(ACCEPT, RELEASE), "TH/nothing-releases");
    assert_eq!(ask().denied(RELEASE, RELEASE), "KH/nothing-accepts");
}

#[test]
fn whoever_is_no_active_member_gets_and_gives_nothing() {
    for (from, to) in [
        ("TH/TH-A", "LA/LA-A"),
        ("TH/TH-A", "MM/MM-A"),
        ("TH/TH-A", "XX/XX-A"),
        ("TH/TH-A", "KH/KH-C"),
        ("TH/TH-A", "KH/TH-A"),
        ("LA/LA-A", "KH/KH-A"),
        ("MM/MM-A", "KH/KH-A"),
        ("TH/TH-C", "KH/KH-A"),
        ("XX/XX-A", "KH/KH-A"),
    ] {
        let asked = Ask { from: unit(from), to: unit(to), ..ask() };
        let baseline = [];
        let (originator, recipient) = (
            read(Owner::Agency(asked.from.agency.clone()), RELEASE),
            read(Owner::Agency(asked.to.agency.clone()), ACCEPT),
        );
        let sets = Asked { baseline: &baseline, originator: Some(&originator), recipient: Some(&recipient) };
        let decision = decide(sets, &roster(), &asked.question(), Layers::All);
        assert!(
            matches!(decision, Decision::Deny(denial) if denial.policy_id == "baseline/member"),
            "{from} {to}"
        );
    }
    for via in ["LA", "MM", "XX", ""] {
        let relayed = Ask { way: Way::Relayed { via, hops: 1, consent: true }, ..ask() };
        assert_eq!(relayed.denied(RELEASE, ACCEPT), "baseline/member", "{via}");
    }
}

#[test]
fn a_policy_about_whoever_passes_a_packet_on_knows_its_groups() {
    let commit = forbid("commit", "when { context has via && context.via in Lintas::Group::\"COMMIT\" }");
    let text = format!("{RELEASE}{commit}");
    let via = |via| Ask { way: Way::Relayed { via, hops: 1, consent: true }, ..ask() };
    assert_eq!(via("VN").denied(&text, ACCEPT), "TH/commit");
    assert!(via("KH").released(&text, ACCEPT));
}

#[test]
fn an_agencys_own_units_need_its_own_policies() {
    let own = Ask { from: unit("TH/TH-A"), to: unit("TH/TH-B"), ..ask() };
    assert_eq!(own.denied(RELEASE, RELEASE), "TH/nothing-accepts");
    let both = format!("{RELEASE}{ACCEPT}");
    assert!(own.released(&both, &both));
    let mut noforn = own;
    noforn.label.caveats = vec![lintas_proto::schema::Caveat::Noforn as i32];
    assert!(noforn.released(&both, &both));
    assert_eq!(Ask { to: unit("KH/KH-A"), ..noforn }.denied(&both, &both), "baseline/noforn");
}

#[test]
fn words_that_this_version_does_not_know_deny() {
    let mut unknown = vec![];
    for change in [
        |ask: &mut Ask| ask.label.tlp = 77,
        |ask: &mut Ask| ask.label.tlp = 0,
        |ask: &mut Ask| ask.label.handling = vec![99],
        |ask: &mut Ask| ask.label.caveats = vec![0],
        |ask: &mut Ask| ask.label.data.push(1_000),
        |ask: &mut Ask| ask.label.offences = vec![-1],
        |ask: &mut Ask| ask.kind = Kind::Unspecified,
        |ask: &mut Ask| ask.onward = Onward::Unspecified,
    ] {
        let mut asked = ask();
        change(&mut asked);
        unknown.push(asked.denied(RELEASE, ACCEPT));
    }
    assert!(unknown.iter().all(|id| id == "baseline/cannot-decide"), "{unknown:?}");
    assert_eq!(ask().marked("GEHEIM").denied(RELEASE, ACCEPT), "baseline/marking");
    assert_eq!(ask().marked("LAP-MAK").denied(RELEASE, ACCEPT), "baseline/clearance");
    let never = Ask { now_ms: u64::MAX, ..ask() };
    assert_eq!(never.denied(RELEASE, ACCEPT), "baseline/cannot-decide");
}

#[test]
fn a_review_releases_nothing_that_is_denied() {
    let review = policy("look", "permit (principal, action == Lintas::Action::\"Review\", resource)", "");
    let text = format!("{RELEASE}{review}");
    let Decision::Review(allowed) = ask().of(&text, ACCEPT) else { panic!() };
    assert_eq!(allowed.review_by, ["TH/look"]);
    let reviewed = Ask { reviewed: true, ..ask() };
    assert!(reviewed.released(&text, ACCEPT));
    assert_eq!(reviewed.denied(&review, ACCEPT), "TH/nothing-releases");
    assert_eq!(reviewed.denied(&format!("{text}{}", forbid("no", "")), ACCEPT), "TH/no");
    assert_eq!(reviewed.denied(&text, RELEASE), "KH/nothing-accepts");
    // A person's review that the recipient's policy demands is no business of the originator.
    assert!(ask().released(RELEASE, &format!("{ACCEPT}{review}")));
    let mut h3 = ask();
    h3.label.handling = vec![lintas_proto::schema::HandlingCode::H3 as i32];
    let Decision::Review(allowed) = h3.of(&text, ACCEPT) else { panic!() };
    assert_eq!(allowed.review_by, ["baseline/review-h3", "TH/look"]);
}

#[test]
fn each_side_asks_only_what_it_may_know() {
    let baseline = [];
    let shut = read(Owner::Agency("KH".to_owned()), RELEASE);
    let open = read(th(), RELEASE);
    let asked = Asked { baseline: &baseline, originator: Some(&open), recipient: None };
    assert!(matches!(decide(asked, &roster(), &ask().question(), Layers::Release), Decision::Release(_)));
    let asked = Asked { baseline: &baseline, originator: None, recipient: Some(&shut) };
    assert!(matches!(decide(asked, &roster(), &ask().question(), Layers::Accept), Decision::Deny(_)));
    let Decision::Deny(denial) = decide(asked, &roster(), &ask().question(), Layers::Accept) else {
        panic!()
    };
    let told = denial.for_originator(&ask().to);
    assert_eq!((told.policy_id.as_str(), told.why.as_str()), ("KH/not-accepted", "KH does not accept it"));
}

#[test]
fn a_refusal_of_a_recipient_tells_the_originator_nothing_of_its_policy() {
    let text = "@id(\"no-source\")\n@reason(\"we watch TH\")\n@advice(\"ask Somchai\")\n@public_reason(\"not before May\")\nforbid (principal, action == Lintas::Action::\"Accept\", resource);\n";
    let Decision::Deny(denial) = ask().of(RELEASE, &format!("{ACCEPT}{text}")) else { panic!() };
    assert_eq!(denial.policy_id, "KH/no-source");
    let told = format!("{:?}", denial.for_originator(&ask().to));
    for secret in ["no-source", "we watch", "Somchai"] {
        assert!(!told.contains(secret), "{told}");
    }
    assert!(told.contains("not before May") && told.contains("KH/not-accepted"), "{told}");
}
