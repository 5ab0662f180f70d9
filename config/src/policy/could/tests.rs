use super::{super::world::*, *};

const TRAFFICKING: &str = "when { principal.functions.contains(Lintas::Function::\"SPOC\") && \
    resource.offences.contains(Lintas::Offence::\"TRAFFICKING_IN_PERSONS\") && \
    resource.data.contains(Lintas::Data::\"VICTIM\") && resource.tlp == Lintas::Tlp::\"GREEN\" }";

fn outcome<'c>(could: &'c Could, unit: &str) -> &'c UnitCould {
    could.units.iter().find(|one| one.unit == unit).unwrap()
}

#[test]
fn what_is_open_is_tried_out_and_an_example_given() {
    let roster = roster();
    let own = set("TH", &[&policy("narrow", "permit", "Release", TRAFFICKING)]);
    let view = View::new(&roster, "TH", Some(&own), NOW).unwrap();
    let from = unit("TH", "TH-SPOC");
    let could = who_could_receive(&view, &from, &Partial::default()).unwrap();
    // Four conditions that only hold together are found.
    let kh = outcome(&could, "KH/KH-AHT");
    assert_eq!((kh.outcome, kh.policies.as_slice()), (Outcome::Release, &["TH/narrow".to_owned()][..]));
    for word in ["TRAFFICKING_IN_PERSONS", "VICTIM", "TLP:GREEN"] {
        assert!(kh.example.contains(word), "{}", kh.example);
    }
    assert_eq!(outcome(&could, "KH/KH-VP").outcome, Outcome::Deny);
    assert!(
        could.to_string().contains("KH (decides itself whether it accepts)\n  KH-AHT: could, e.g. ALERT")
    );
    let tried: usize = could.units.iter().map(|unit| unit.tried).sum();
    assert!(tried <= QUESTIONS_MAX, "{tried}");
}

#[test]
fn what_is_known_of_the_label_stays_as_it_is() {
    let roster = roster();
    let own = set("TH", &[&policy("narrow", "permit", "Release", TRAFFICKING)]);
    let view = View::new(&roster, "TH", Some(&own), NOW).unwrap();
    let from = unit("TH", "TH-SPOC");
    let red = Partial { kind: Some(Kind::Alert), tlp: Some(Tlp::Red), ..Partial::default() };
    let could = who_could_receive(&view, &from, &red).unwrap();
    assert!(could.units.iter().all(|unit| unit.outcome == Outcome::Deny && !unit.why.is_empty()));
    let h3 = Partial { handling: Some(vec![HandlingCode::H3]), ..Partial::default() };
    let could = who_could_receive(&view, &from, &h3).unwrap();
    assert_eq!(outcome(&could, "KH/KH-AHT").outcome, Outcome::Review);
}

#[test]
fn without_a_policy_nobody_could_and_another_agency_is_not_asked_for() {
    let roster = roster();
    let view = View::new(&roster, "TH", None, NOW).unwrap();
    let replies = Partial { kind: Some(Kind::Reply), ..Partial::default() };
    let could = who_could_receive(&view, &unit("TH", "TH-SPOC"), &replies).unwrap();
    assert!(could.units.iter().all(|unit| unit.outcome == Outcome::Deny));
    assert!(outcome(&could, "KH/KH-AHT").why.contains("has not published a release policy"));
    assert!(who_could_receive(&view, &unit("KH", "KH-AHT"), &Partial::default()).is_err());
}
