//! The policies of the sample region are sound, and do what their own cases say.

#![allow(clippy::unwrap_used, reason = "tests")]

use lintas_config::policy::{Owner, PolicySet, baseline, sample};

#[test]
fn the_sample_policies_can_be_read() {
    let owners =
        sample::agencies().map(|agency| (Owner::Agency(agency.to_owned()), sample::texts(agency).unwrap().0));
    for (owner, text) in owners.chain([(Owner::Baseline, sample::baseline().0)]) {
        let read = PolicySet::read(owner.clone(), text);
        assert!(
            read.is_ok(),
            "{owner}: {}",
            read.unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        );
    }
}

#[test]
fn the_sample_baseline_holds_all_of_the_standard_one() {
    let read = |text: &str| {
        let set = PolicySet::read(Owner::Baseline, text).unwrap();
        let text = |told: &str| {
            told.lines().filter(|line| !line.starts_with("//")).map(str::to_owned).collect::<Vec<_>>()
        };
        set.policies()
            .map(|told| (told.id.clone(), text(&told.text)))
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    let (standard, sample) = (read(baseline::STANDARD), read(sample::baseline().0));
    for (id, text) in standard {
        assert_eq!(sample.get(&id), Some(&text), "{id}");
    }
}
