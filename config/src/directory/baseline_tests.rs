//! The 14 days: what a baseline loses goes on to forbid, whoever signed.

use bytes::Bytes;
use lintas_proto::{canonical, schema::LeavingPolicy};

use super::*;
use crate::{
    policy::{
        baseline::{LEAVES_AFTER_MS, STANDARD},
        loosening::{leaving, standing},
    },
    testing::{NOW, Region, region},
};

const DAY: u64 = 24 * 60 * 60 * 1_000;

/// The standard baseline without its first policy.
fn less() -> String {
    let roster = Roster::default();
    let all = standing(&roster);
    all[1..].iter().map(|policy| format!("{}\n", policy.text)).collect()
}

/// The next roster, `days` after the one before it, with that baseline.
fn next(region: &mut Region, days: u64, baseline: &str) {
    let before = region.roster.clone();
    region.next_version();
    region.roster.not_before_ms += days * DAY;
    region.roster.not_after_ms += days * DAY;
    region.roster.baseline = baseline.to_owned();
    region.roster.leaving = leaving(&before, baseline, region.roster.not_before_ms);
}

fn loosened(error: &SuccessionError) -> &str {
    let SuccessionError::Loosened { policy, .. } = error else { panic!("{error}") };
    assert!(error.to_string().contains("the region authority must issue another one"), "{error}");
    policy
}

#[test]
fn a_roster_that_drops_a_forbid_at_once_is_refused_however_many_signed_it() {
    let mut region = region();
    let first = region.open().unwrap();
    next(&mut region, 0, &less());
    let announced = std::mem::take(&mut region.roster.leaving);
    assert_eq!(announced.len(), 1);
    // All three of three, and it is a sound roster for whoever knows none before it.
    let all = crate::issue::bundle(
        &crate::issue::sign_roster(&region.roster, &region.authorities).unwrap(),
        region.keysets.clone(),
    );
    assert!(Directory::open(&all, &region.bootstrap()).is_ok());
    assert_eq!(loosened(&first.succeed(&all, &[]).unwrap_err()), "baseline/noforn");
    assert_eq!(loosened(&first.merge(&all, &[]).unwrap_err()), "baseline/noforn");
    assert_eq!(loosened(&first.proposed(&all).unwrap_err()), "baseline/noforn");
    // One moment too early, or dated back.
    region.roster.leaving = announced.clone();
    region.roster.leaving[0].until_ms -= 1;
    assert_eq!(loosened(&first.succeed(&region.bundle(), &[]).unwrap_err()), "baseline/noforn");
    region.roster.not_before_ms -= 10 * DAY;
    region.roster.leaving[0].until_ms = region.roster.not_before_ms + LEAVES_AFTER_MS;
    assert_eq!(loosened(&first.succeed(&region.bundle(), &[]).unwrap_err()), "baseline/noforn");
    // As announced.
    region.roster.not_before_ms += 10 * DAY;
    region.roster.leaving = announced;
    assert!(first.succeed(&region.bundle(), &[]).is_ok());
}

#[test]
fn after_fourteen_days_the_policy_may_go_and_not_a_moment_before() {
    let mut region = region();
    let first = region.open().unwrap();
    next(&mut region, 1, &less());
    let second = first.succeed(&region.bundle(), &[]).unwrap();
    let until_ms = region.roster.leaving[0].until_ms;
    assert_eq!(until_ms, region.roster.not_before_ms + LEAVES_AFTER_MS);
    // Earlier than was said, or forgotten.
    next(&mut region, 13, &less());
    assert_eq!(region.roster.leaving, [LeavingPolicy { until_ms, ..region.roster.leaving[0].clone() }]);
    assert!(second.succeed(&region.bundle(), &[]).is_ok());
    for change in
        [|all: &mut Vec<LeavingPolicy>| all.clear(), |all: &mut Vec<LeavingPolicy>| all[0].until_ms -= 1]
    {
        let kept = region.roster.leaving.clone();
        change(&mut region.roster.leaving);
        assert_eq!(loosened(&second.succeed(&region.bundle(), &[]).unwrap_err()), "baseline/noforn");
        region.roster.leaving = kept;
    }
    let third = second.succeed(&region.bundle(), &[]).unwrap();
    next(&mut region, 1, &less());
    assert!(region.roster.leaving.is_empty());
    let fourth = third.succeed(&region.bundle(), &[]).unwrap();
    // To come back is at once, and so is more.
    next(&mut region, 0, STANDARD);
    assert!(fourth.succeed(&region.bundle(), &[]).is_ok());
}

#[test]
fn whoever_walks_compares_every_step_and_whoever_resumes_all_but_the_first() {
    let mut region = region();
    let first = region.open().unwrap();
    next(&mut region, 0, &less());
    region.roster.leaving.clear();
    let cut = canonical::encode(&region.sign());
    next(&mut region, 0, &less());
    let (last, steps) = (region.bundle(), [cut]);
    assert_eq!(loosened(&first.succeed(&last, &steps).unwrap_err()), "baseline/noforn");
    // The mark does not hold the text of the baseline before the first step.
    assert!(Directory::resume(&last, &steps, first.high_water()).is_ok());
    next(&mut region, 0, STANDARD);
    let fourth = canonical::encode(&region.sign());
    next(&mut region, 0, &less());
    region.roster.leaving.clear();
    let third = match canonical::decode::<DirectoryBundle>(&last, limits::DIRECTORY_BYTES_MAX) {
        Ok(bundle) => bundle.roster,
        Err(error) => panic!("{error}"),
    };
    let steps: Vec<Bytes> = [steps.to_vec(), vec![third, fourth]].concat();
    let resumed = Directory::resume(&region.bundle(), &steps, first.high_water());
    assert_eq!(loosened(&resumed.unwrap_err()), "baseline/noforn");
}

#[test]
fn by_the_clock_of_whoever_takes_it_a_loosening_is_never_hurried() {
    let mut region = region();
    let first = region.open().unwrap();
    next(&mut region, 0, &less());
    let second = first.succeed(&region.bundle(), &[]).unwrap();
    // It follows; but it was signed long ago, or says that it was.
    assert!(first.lets_see(second.roster(), NOW + 6 * DAY).is_ok());
    let late = first.lets_see(second.roster(), NOW + 8 * DAY).unwrap_err();
    assert_eq!(loosened(&late), "baseline/noforn");
    assert!(first.lets_see(first.roster(), NOW + 8 * DAY).is_ok());
    assert!(second.lets_see(second.roster(), NOW + 8 * DAY).is_ok(), "it was in sight");
}
