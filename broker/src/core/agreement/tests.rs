use lintas_proto::schema::MemberStatus;

use super::*;
use crate::testing::{NOW, World};

const DAY_MS: u64 = 86_400_000;
const HOUR_MS: u64 = 3_600_000;
const BOOT_MS: u64 = 50_000;

/// The machine's clock stands `wall_ms` where it should stand at NOW, `passed_ms` after that.
fn at(wall_ms: u64, passed_ms: u64) -> Reading {
    Reading { wall_ms: wall_ms + passed_ms, boot_ms: BOOT_MS + passed_ms }
}

/// Three active members.
fn region() -> World {
    World::new(NOW)
}

/// Agreed, then set 400 days ahead.
fn doubted() -> (Agreement, u64) {
    let (mut agreement, ahead) = (Agreement::begin(at(NOW, 0), NOW, true), NOW + 400 * DAY_MS);
    assert_eq!(agreement.look(at(ahead, 1_000)), Some(Change::Doubted(400 * DAY_MS)));
    (agreement, ahead)
}

#[test]
fn a_start_within_the_hour_is_agreed_and_any_other_is_in_doubt() {
    let begun = |last_ms, holds| Agreement::begin(at(NOW, 0), last_ms, holds).anchor().is_some();
    for last_ms in [NOW, NOW - 1, NOW - HOUR_MS, NOW + CLOCK_SKEW_MS_MAX] {
        assert!(begun(last_ms, true), "{last_ms}");
    }
    for last_ms in [NOW - HOUR_MS - 1, NOW - 400 * DAY_MS, NOW + CLOCK_SKEW_MS_MAX + 1, NOW + 400 * DAY_MS, 1]
    {
        assert!(!begun(last_ms, true), "{last_ms}");
    }
    // A new log has no last time: the roster says whether this may be now.
    assert!(begun(0, true) && !begun(0, false));
}

#[test]
fn a_clock_that_leaps_is_in_doubt_at_once_both_ways_and_agreed_when_it_is_set_back() {
    for wrong in
        [NOW + 400 * DAY_MS, NOW - 400 * DAY_MS, NOW + CLOCK_SKEW_MS_MAX + 1, NOW - CLOCK_SKEW_MS_MAX - 1]
    {
        let mut agreement = Agreement::begin(at(NOW, 0), NOW, true);
        assert_eq!(agreement.look(at(NOW, 700 * DAY_MS)), None, "time passes");
        assert_eq!(agreement.look(at(wrong, 1_000)), Some(Change::Doubted(wrong.abs_diff(NOW))));
        assert_eq!(agreement.anchor(), None);
        assert_eq!(agreement.look(at(wrong, 2_000)), None);
        assert_eq!(agreement.look(at(NOW + CLOCK_SKEW_MS_MAX, 3_000)), Some(Change::SetBack));
        assert_eq!(agreement.anchor(), Some(at(NOW, 0)), "the anchor is the old one");
    }
}

#[test]
fn many_small_steps_count_together() {
    let mut agreement = Agreement::begin(at(NOW, 0), NOW, true);
    let steps = (1..=5).map(|minutes| agreement.look(at(NOW + minutes * 60_000, minutes)));
    assert!(steps.into_iter().all(|change| change.is_none()));
    assert_eq!(agreement.look(at(NOW + 6 * 60_000, 6)), Some(Change::Doubted(6 * 60_000)));
}

#[test]
fn two_members_make_a_clock_agreed_and_one_cannot_however_often_it_comes() {
    let (world, (mut agreement, ahead)) = (region(), doubted());
    let directory = &world.directory;
    for _ in 0..5 {
        assert_eq!(agreement.hear("KH", true, at(ahead, 2_000), directory), None);
    }
    assert_eq!(agreement.hear("TH", true, at(ahead, 3_000), directory), Some(Change::Agreed(2)));
    assert_eq!(agreement.anchor(), Some(at(ahead, 3_000)));
    assert_eq!(agreement.hear("VN", false, at(ahead, 3_000), directory), None, "nobody is asked any more");
}

#[test]
fn more_must_agree_than_do_not_and_the_latest_hello_of_each_counts() {
    let (world, (mut agreement, ahead)) = (region(), doubted());
    let directory = &world.directory;
    let mut hear = |agency, agrees| agreement.hear(agency, agrees, at(ahead, 2_000), directory);
    assert_eq!((hear("KH", true), hear("VN", false)), (None, None));
    assert_eq!((hear("TH", false), hear("KH", true)), (None, None));
    assert_eq!(hear("TH", true), Some(Change::Agreed(2)), "two to one");
}

#[test]
fn what_was_said_is_forgotten_at_each_change_of_state_and_when_the_clock_is_set_again() {
    let (world, (mut agreement, ahead)) = (region(), doubted());
    let directory = &world.directory;
    agreement.hear("KH", true, at(ahead, 2_000), directory);
    // Set again: what KH said was about another time.
    assert_eq!(agreement.look(at(ahead + DAY_MS, 3_000)), None);
    assert_eq!(agreement.hear("TH", true, at(ahead + DAY_MS, 4_000), directory), None);
    // Set back, then set once more.
    assert_eq!(agreement.look(at(NOW, 5_000)), Some(Change::SetBack));
    assert!(agreement.look(at(ahead + DAY_MS, 6_000)).is_some());
    assert_eq!(agreement.hear("KH", true, at(ahead + DAY_MS, 7_000), directory), None);
}

#[test]
fn whoever_is_no_member_any_more_does_not_count() {
    let (mut world, (mut agreement, ahead)) = (region(), doubted());
    agreement.hear("KH", true, at(ahead, 2_000), &world.directory);
    world.set_status("KH", MemberStatus::Suspended);
    world.publish();
    assert_eq!(agreement.hear("TH", true, at(ahead, 3_000), &world.directory), None);
    // Where one alone may connect, it alone says.
    world.set_status("VN", MemberStatus::Suspended);
    world.publish();
    assert_eq!(agreement.hear("TH", true, at(ahead, 4_000), &world.directory), Some(Change::Agreed(1)));
}

#[test]
fn a_hello_counts_for_a_quarter_of_an_hour() {
    let (world, (mut agreement, ahead)) = (region(), doubted());
    let directory = &world.directory;
    const LATER: u64 = 2_000 + HELLO_MS_MAX;
    // VN and KH had wrong clocks, and have gone.
    assert_eq!(agreement.hear("VN", false, at(ahead, 2_000), directory), None);
    assert_eq!(agreement.hear("KH", false, at(ahead, 2_000), directory), None);
    assert_eq!(agreement.hear("KH", true, at(ahead, LATER), directory), None);
    assert_eq!(agreement.hear("TH", true, at(ahead, LATER), directory), Some(Change::Agreed(2)));
    // What was said long ago makes nothing agreed either.
    let (mut agreement, ahead) = doubted();
    assert_eq!(agreement.hear("KH", true, at(ahead, 2_000), directory), None);
    assert_eq!(agreement.hear("TH", true, at(ahead, LATER + 1), directory), None);
}

#[test]
fn a_start_in_doubt_is_agreed_once_the_clock_is_set_to_what_it_would_have_agreed_to() {
    let wrong = NOW + 400 * DAY_MS;
    let mut agreement = Agreement::begin(at(wrong, 0), NOW - HOUR_MS / 2, true);
    assert_eq!((agreement.anchor(), agreement.look(at(wrong, 1_000))), (None, None));
    // Days later: as much has passed since boot.
    let right = at(NOW, 3 * DAY_MS);
    assert_eq!((agreement.look(right), agreement.anchor()), (Some(Change::SetBack), Some(right)));
    // Had it started an hour later it would not have been agreed.
    let mut agreement = Agreement::begin(at(wrong, 0), NOW - HOUR_MS / 2, true);
    assert_eq!(agreement.look(at(NOW + HOUR_MS, 3 * DAY_MS)), None);
    assert_eq!(agreement.look(at(NOW - HOUR_MS, 3 * DAY_MS)), None);
    let mut new = Agreement::begin(at(wrong, 0), 0, false);
    assert_eq!(new.look(at(NOW, 1_000)), None, "of a new log nobody knows");
}

#[test]
fn the_operators_word_ends_a_doubt_until_the_clock_is_set_again() {
    let (mut agreement, ahead) = doubted();
    assert_eq!(agreement.believe(at(ahead, 2_000)), Some(Change::Believed));
    assert_eq!(agreement.anchor(), Some(at(ahead, 2_000)));
    assert_eq!(agreement.believe(at(ahead, 3_000)), None);
    assert!(matches!(agreement.look(at(NOW, 4_000)), Some(Change::Doubted(_))));
}
