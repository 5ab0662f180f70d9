use bytes::Bytes;
use lintas_proto::schema::{StoredEpoch, StoredErasure};

use super::{
    LogError,
    fold::LogFold,
    publication::{Publication, Write},
};
use crate::{
    core::record::Fact,
    testing::{BROKER, Facts, NOW, unit},
};

/// What the last record gives, behind all before it.
fn fold(facts: &[Fact]) -> Result<Option<Publication>, LogError> {
    let (mut fold, mut entropy) = (LogFold::new(BROKER, 0), lintas_config::os_entropy());
    let mut last = None;
    for (sequence, fact) in (1..).zip(facts) {
        last = fold.apply(sequence, fact, &mut entropy)?;
    }
    Ok(last)
}

fn scene() -> Facts {
    let mut facts = Facts::new();
    facts.members(&["KH", "TH"]);
    facts.packet("KH", &[unit("TH", "A"), unit("KH", "B"), unit("TH", "B")]);
    facts.epoch();
    facts.packet("TH", &[unit("KH", "A")]);
    facts.outcome("KH", "KH");
    facts
}

fn contradicts(facts: &[Fact], expected: &str) {
    let error = fold(facts).unwrap_err();
    assert!(error.to_string().contains(expected), "{expected}: {error}");
}

#[test]
fn what_does_not_follow_is_not_published() {
    assert_eq!(fold(&scene().all).unwrap(), None);
    // An admission, an outcome and an epoch that are lost.
    for (lost, agency) in [(2, "TH"), (6, "KH")] {
        let mut facts = scene();
        facts.packet("KH", &[unit("TH", "A")]);
        facts.outcome("TH", "KH");
        facts.all.remove(lost);
        let error = fold(&facts.all).unwrap_err();
        assert!(matches!(&error, LogError::Gap { agency: whose, .. } if whose == agency), "{lost}: {error}");
    }
    let mut facts = scene();
    facts.epoch();
    facts.all.remove(3);
    contradicts(&facts.all, "an epoch has another number");
    // The same one twice.
    let mut facts = scene();
    let again = facts.all[2].clone();
    facts.all.push(again);
    contradicts(&facts.all, "older than the epoch before it");

    let epoch = |epoch, time_ms| {
        let directory_hash = Bytes::from_static(&[1; 32]);
        Fact::Epoch(StoredEpoch { epoch, time_ms, directory_hash, ..StoredEpoch::default() })
    };
    contradicts(&[epoch(0, NOW)], "before there are members");
    let mut facts = scene();
    facts.all.push(epoch(1, NOW));
    contradicts(&facts.all, "ends before what it holds");
    let mut facts = scene();
    facts.begin();
    facts.all.push(scene().all[2].clone());
    assert!(matches!(fold(&facts.all), Err(LogError::Receipt { .. })), "a receipt of the log that ended");
    let mut facts = scene();
    let erasure = StoredErasure { agency: "TH".to_owned(), indices: vec![99], ..StoredErasure::default() };
    facts.all.push(Fact::Erasure(erasure));
    contradicts(&facts.all, "what is to be erased is not there");
    let mut facts = scene();
    if let Some(Fact::Outcome(outcome)) = facts.all.last_mut() {
        outcome.events[0].agency = "TH".to_owned();
    }
    contradicts(&facts.all, "does not open its leaf");
}

#[test]
fn a_key_that_is_forgotten_before_it_is_written_is_never_written() {
    let mut facts = scene();
    facts.erase("TH", &[0, 4]);
    facts.epoch();
    let contents = fold(&facts.all).unwrap().unwrap().contents;
    let of_keys = |path: &str| -> Vec<&Write> {
        let found = contents.iter().filter(|(target, _)| target.to_string() == path);
        found.map(|(_, write)| write).collect()
    };
    let writes = of_keys("1/TH/keys/000");
    // Entry 0 was published before; entry 4 is of this epoch.
    let [Write::Append { at, bytes }, Write::Overwrite { at: 0, bytes: zeros }] = writes[..] else {
        panic!("{writes:?}");
    };
    assert_eq!(zeros, &[0; 32]);
    let keys: Vec<bool> = bytes.as_chunks::<32>().0.iter().map(|key| *key == [0; 32]).collect();
    let first = usize::try_from(at / 32).unwrap();
    assert_eq!(first, 3, "a change of the directory, two receptions");
    assert!(keys.iter().enumerate().all(|(place, zero)| *zero == (first + place == 4)), "{keys:?}");
    assert!(matches!(of_keys("1/KH/keys/000")[..], [Write::Append { .. }]));
}
