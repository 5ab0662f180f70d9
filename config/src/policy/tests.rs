use super::*;

#[test]
fn the_standard_baseline_is_sound() {
    let set = PolicySet::read(Owner::Baseline, baseline::STANDARD).unwrap();
    assert_eq!(set.policies().count(), 8);
}

#[test]
fn what_is_wrong_has_a_place() {
    let text = "@id(\"a\")\n@reason(\"b\")\npermit (principal, action == Lintas::Action::\"Release\", resource)\nwhen { resource.caveats.contains(Lintas::Caveat::\"NOFORM\") };\n";
    let problems = PolicySet::read(Owner::Agency("TH".to_owned()), text).unwrap_err();
    for problem in problems {
        println!("{problem}");
    }
    let text = "@id(\"a\")\n@reason(\"b\")\npermit (principal, action == Lintas::Action::\"Release\", resource)\nwhen { context.now < datetime(\"2027-01-01\") && resource.kind = Lintas::Kind::\"ALERT\" };\n";
    for problem in PolicySet::read(Owner::Agency("TH".to_owned()), text).unwrap_err() {
        println!("{problem}");
    }
    let text = "@id(\"a\")\n@reason(\"b\")\npermit (principal, action == Lintas::Action::\"Release\", resource)\nwhen { context.now < datetime(\"2027-01-01\") };\n";
    let set = PolicySet::read(Owner::Agency("TH".to_owned()), text).unwrap();
    assert!(set.next_moment_ms(0).is_some());
}
