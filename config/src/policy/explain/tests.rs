use lintas_proto::schema::{HandlingCode, Kind, MemberStatus};

use super::{super::world::*, *};
use crate::policy::decide::{Asked, decide};

const SPOC: &str = "when { principal.functions.contains(Lintas::Function::\"SPOC\") }";

fn row<'e>(explanation: &'e Explanation, unit: &str) -> &'e Row {
    explanation.rows.iter().find(|row| row.unit == unit).unwrap()
}

fn answers(row: &Row) -> Vec<Answer> {
    row.layers.iter().map(|cell| cell.answer).collect()
}

#[test]
fn a_sender_sees_its_own_policy_and_that_others_decide_themselves() {
    let roster = roster();
    let own = set("TH", &[&policy("spocs", "permit", "Release", SPOC)]);
    let view = View::new(&roster, "TH", Some(&own), NOW).unwrap();
    let all = explain(&view, &alert(), None).unwrap();
    let units: usize = roster.members.iter().map(|member| member.units.len()).sum();
    assert_eq!(all.rows.len(), units);
    let kh = row(&all, "KH/KH-AHT");
    assert_eq!((kh.outcome, kh.policies.as_slice()), (Outcome::Release, &["TH/spocs".to_owned()][..]));
    assert_eq!(answers(kh), [Answer::ForbidsNothing, Answer::Permits, Answer::DecidesItself]);
    assert_eq!(
        (kh.why.as_str(), kh.open.as_str()),
        ("because of spocs", "KH decides itself whether it accepts it")
    );
    // Registered for other purposes only: the baseline, whatever the own policy says.
    let border = row(&all, "KH/KH-BOR");
    assert_eq!((border.outcome, border.policies[0].as_str()), (Outcome::Deny, "baseline/purpose"));
    assert_eq!(answers(border), [Answer::Forbids, Answer::NothingPermits, Answer::DecidesItself]);
    let vp = row(&all, "KH/KH-VP");
    assert_eq!((vp.outcome, vp.policies[0].as_str()), (Outcome::Deny, "TH/nothing-releases"));
    // Own units: both own layers count, and nothing is open.
    let own_unit = row(&all, "TH/TH-ATD-RNG");
    assert_eq!(answers(own_unit)[1..], [Answer::NothingPermits, Answer::NothingPermits]);
    let text = all.to_string();
    assert!(text.contains("KH decides itself whether it accepts it."), "{text}");
    assert!(text.contains("From TH/TH-SPOC: ALERT TLP:AMBER H0 for INVESTIGATION"), "{text}");
}

#[test]
fn a_recipient_asks_whether_it_would_accept() {
    let roster = roster();
    let forbid =
        policy("no-replies", "forbid", "Accept", "when { resource.kind == Lintas::Kind::\"REPLY\" }");
    let own = set("KH", &[&policy("members", "permit", "Accept", ""), &forbid]);
    let view = View::new(&roster, "KH", Some(&own), NOW).unwrap();
    let all = explain(&view, &alert(), None).unwrap();
    assert!(all.rows.iter().all(|row| row.unit.starts_with("KH/")) && all.rows.len() == 3);
    let kh = row(&all, "KH/KH-AHT");
    assert_eq!(answers(kh), [Answer::ForbidsNothing, Answer::DecidesItself, Answer::Permits]);
    assert_eq!(kh.open, "TH decides itself whether it releases it");
    let reply = Described { kind: Kind::Reply, ..alert() };
    let refused = explain(&view, &reply, Some(("KH", Some("KH-AHT")))).unwrap();
    assert_eq!((refused.rows.len(), refused.rows[0].policies[0].as_str()), (1, "KH/no-replies"));
    assert_eq!(refused.rows[0].decided_by, "the policy of KH");
}

#[test]
fn h3_waits_for_a_person_until_one_has_looked() {
    let roster = roster();
    let own = set("TH", &[&policy("spocs", "permit", "Release", SPOC)]);
    let view = View::new(&roster, "TH", Some(&own), NOW).unwrap();
    let mut packet = alert();
    packet.label.handling = vec![HandlingCode::H3 as i32];
    let kh =
        |packet: &Described| explain(&view, packet, Some(("KH", Some("KH-AHT")))).unwrap().rows.remove(0);
    let waits = kh(&packet);
    assert_eq!((waits.outcome, answers(&waits)[1]), (Outcome::Review, Answer::Review));
    assert_eq!(waits.policies, ["baseline/review-h3", "TH/spocs"]);
    assert_eq!(waits.why, "the label says H3; because of spocs");
    packet.reviewed = true;
    assert_eq!(kh(&packet).outcome, Outcome::Release);
}

#[test]
fn what_the_roster_does_not_know_is_asked_after_and_strangers_learn_nothing() {
    let mut roster = roster();
    let own = set("TH", &[&policy("spocs", "permit", "Release", SPOC)]);
    roster.members.iter_mut().find(|member| member.agency == "LA").unwrap().status =
        MemberStatus::Suspended as i32;
    let view = View::new(&roster, "TH", Some(&own), NOW).unwrap();
    let ask = |packet: &Described, only| explain(&view, packet, only).map_err(|error| error.to_string());
    let unknown = ask(&alert(), Some(("KX", None))).unwrap_err();
    assert!(unknown.contains("did you mean `KH`?"), "{unknown}");
    let unit = ask(&alert(), Some(("KH", Some("KH-ATH")))).unwrap_err();
    assert!(unit.contains("did you mean `KH-AHT`?") && unit.contains("KH-VP"), "{unit}");
    let mut foreign = alert();
    foreign.originator = super::super::world::unit("KH", "KH-AHT");
    assert!(ask(&foreign, Some(("VN", None))).unwrap_err().contains("unit of TH"));
    // A suspended member stands in no matrix, and who asks after it reads why.
    assert!(ask(&alert(), None).unwrap().rows.iter().all(|row| !row.unit.starts_with("LA/")));
    let suspended = ask(&alert(), Some(("LA", None))).unwrap();
    assert!(suspended.rows.iter().all(|row| row.policies == ["baseline/member"]));
}

#[test]
fn the_matrix_says_what_all_layers_together_decide() {
    let roster = roster();
    let accept = policy("some", "permit", "Accept", "when { resource.kind != Lintas::Kind::\"REPLY\" }");
    let own = set("TH", &[&policy("spocs", "permit", "Release", SPOC), &accept]);
    let view = View::new(&roster, "TH", Some(&own), NOW).unwrap();
    for kind in [Kind::Alert, Kind::Reply] {
        let packet = Described { kind, ..alert() };
        for row in explain(&view, &packet, Some(("TH", None))).unwrap().rows {
            let to = super::super::world::unit("TH", row.unit.split_once('/').unwrap().1);
            let asked = Asked { baseline: &view.baseline, originator: Some(&own), recipient: Some(&own) };
            let outcome = match decide(asked, &roster, &packet.question(&to, NOW), Layers::All) {
                Decision::Release(_) => (Outcome::Release, None),
                Decision::Review(_) => (Outcome::Review, None),
                Decision::Deny(denial) => (Outcome::Deny, Some(denial.policy_id)),
            };
            assert_eq!(row.outcome, outcome.0);
            assert!(outcome.1.is_none_or(|id| row.policies == [id]));
        }
    }
}
