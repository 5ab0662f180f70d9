use std::{fs, os::unix::fs::PermissionsExt as _};

use bytes::Bytes;
use lintas_config::policy::Bundle;
use lintas_proto::schema::LeavingPolicy;

use super::*;
use crate::{
    shell::{clock, desk::Desk, failure::Code},
    testing::{REGION, Region, alerts},
};

fn shelf(region: &Region) -> Result<Shelf, Failure> {
    Shelf::open(&Folder::at(&region.path("TH")), REGION, "TH", clock::now_ms())
}

fn put(region: &Region, shelf: &Shelf, before: Option<&Bytes>, from_ms: u64, text: &str) -> Bytes {
    let bytes = region.policy("TH", before, from_ms, text);
    shelf.publish(&Bundle::open(&bytes, &region.directory()).unwrap(), clock::now_ms()).unwrap();
    bytes
}

fn in_force(region: &Region, shelf: &Shelf, now_ms: u64) -> Option<u64> {
    let policies = shelf.policies(&region.directory(), now_ms).unwrap();
    policies.bundle("TH").map(|bundle| bundle.version())
}

/// A region, a shelf with three versions of which the third is to come, and when.
fn scene() -> (Region, Shelf, u64) {
    let region = Region::new();
    drop::<Desk>(region.desk("TH"));
    let (shelf, later) = (shelf(&region).unwrap(), clock::now_ms() + 3_600_000);
    let first = put(&region, &shelf, None, 1, &alerts("first"));
    let second = put(&region, &shelf, Some(&first), 2, &alerts("second"));
    put(&region, &shelf, Some(&second), later, &alerts("third"));
    (region, shelf, later)
}

#[test]
fn the_newest_whose_time_has_come_is_in_force_and_so_after_a_restart() {
    let (region, first, later) = scene();
    let again = shelf(&region).unwrap();
    for shelf in [&first, &again] {
        assert_eq!(in_force(&region, shelf, later - 1), Some(2));
        assert_eq!(in_force(&region, shelf, later), Some(3));
        assert_eq!((shelf.versions().len(), shelf.newest()), (3, 3));
    }
}

#[test]
fn a_version_is_never_skipped_repeated_or_put_before_another() {
    let (region, shelf, later) = scene();
    let third = files::bytes(&Folder::at(&region.path("TH")), &shelf.versions()[2]).unwrap();
    let fourth = region.policy("TH", Some(&third), later, &alerts("fourth"));
    let wrong = [
        region.policy("TH", None, later, &alerts("first again")),
        region.policy("TH", Some(&fourth), later, &alerts("one is missing")),
        region.policy("TH", Some(&third), later - 1, &alerts("in force before the third")),
    ];
    for bytes in wrong {
        let bundle = Bundle::open(&bytes, &region.directory()).unwrap();
        let refused = shelf.publish(&bundle, clock::now_ms()).unwrap_err();
        assert!(
            refused.code == Code::Draft && refused.message.starts_with("nothing was published"),
            "{refused}"
        );
    }
    assert_eq!(self::shelf(&region).unwrap().newest(), 3);
}

#[test]
fn a_damaged_or_missing_version_is_named_and_nothing_is_in_force_by_mistake() {
    let (region, ..) = scene();
    let path = |number: u64| region.path("TH").join(format!("policy/{number:06}.bin"));
    let sound = fs::read(path(3)).unwrap();
    let text = sound.windows(5).position(|part| part == b"third").unwrap();
    for at in [0, text, sound.len() - 1] {
        let mut damaged = sound.clone();
        damaged[at] ^= 1;
        fs::write(path(3), &damaged).unwrap();
        let refused = shelf(&region).unwrap_err();
        assert_eq!(refused.code, Code::Storage);
        assert!(
            refused.message.contains("000003.bin") && refused.message.contains("from a copy"),
            "{refused}"
        );
    }
    fs::write(path(3), &sound).unwrap();
    let second = fs::read(path(2)).unwrap();
    // A version of the same number, well signed, and another one.
    let other = region.policy("TH", Some(&fs::read(path(1)).unwrap().into()), 2, &alerts("another second"));
    fs::write(path(2), &other).unwrap();
    let refused = shelf(&region).unwrap_err();
    assert!(refused.message.contains("follows another version 2"), "{refused}");
    fs::write(path(2), &second).unwrap();
    fs::write(path(4), &sound).unwrap();
    assert!(shelf(&region).unwrap_err().message.contains("it is version 3"));
    fs::remove_file(path(4)).unwrap();
    fs::remove_file(path(2)).unwrap();
    let refused = shelf(&region).unwrap_err();
    assert!(refused.message.contains("one is missing"), "{refused}");
    // A write that was cut off is none.
    fs::write(path(2), &second).unwrap();
    fs::write(path(4).with_file_name(".000004.bin.part"), b"half").unwrap();
    let shelf = shelf(&region).unwrap();
    put(&region, &shelf, Some(&sound.into()), u64::MAX / 2, &alerts("fourth"));
    assert_eq!(shelf.newest(), 4);
}

#[test]
fn what_the_broker_refused_makes_room_and_nothing_else_does() {
    let (region, shelf, later) = scene();
    let first = files::bytes(&Folder::at(&region.path("TH")), &shelf.versions()[0]).unwrap();
    let mended = region.policy("TH", Some(&first), later, &alerts("mended"));
    let mended = Bundle::open(&mended, &region.directory()).unwrap();
    for refused in [None, Some(1), Some(3)] {
        shelf.note_broker(|broker| broker.refused = refused);
        assert!(shelf.publish(&mended, clock::now_ms()).is_err());
        assert_eq!((shelf.newest(), in_force(&region, &shelf, later)), (3, Some(3)));
    }
    // What is on its way to the broker is not replaced under it.
    shelf.note_broker(|broker| broker.refused = Some(2));
    let second = files::bytes(&Folder::at(&region.path("TH")), &shelf.versions()[1]).unwrap();
    assert!(shelf.is_to_bring(&second));
    assert!(shelf.publish(&mended, clock::now_ms()).is_err());
    shelf.note_broker(|broker| broker.refused = Some(2));
    shelf.publish(&mended, clock::now_ms()).unwrap();
    assert!(!shelf.is_to_bring(&second));
    for shelf in [&shelf, &self::shelf(&region).unwrap()] {
        assert_eq!(in_force(&region, shelf, later - 1), Some(1), "as long as its own time has not come");
        let policies = shelf.policies(&region.directory(), later).unwrap();
        assert_eq!(policies.bundle("TH").unwrap().hash(), mended.hash());
    }
}

#[test]
fn what_cannot_be_written_is_not_published_and_not_found_later() {
    let (region, shelf, later) = scene();
    let third = files::bytes(&Folder::at(&region.path("TH")), &shelf.versions()[2]).unwrap();
    let fourth = region.policy("TH", Some(&third), later, &alerts("fourth"));
    let fourth = Bundle::open(&fourth, &region.directory()).unwrap();
    // A folder stands where it would be written.
    let part = region.path("TH").join("policy/.000004.bin.part");
    fs::create_dir(&part).unwrap();
    let refused = shelf.publish(&fourth, clock::now_ms()).unwrap_err();
    assert!(refused.code == Code::Storage && refused.message.contains("stays in force"), "{refused}");
    assert_eq!((shelf.newest(), self::shelf(&region).unwrap().newest()), (3, 3));
    fs::remove_dir(&part).unwrap();
    shelf.publish(&fourth, clock::now_ms()).unwrap();
    assert_eq!(self::shelf(&region).unwrap().newest(), 4);
}

#[test]
fn another_agencys_policy_in_the_folder_is_refused() {
    let (region, ..) = scene();
    let folder = Folder::at(&region.path("TH"));
    let refused = Shelf::open(&folder, REGION, "KH", clock::now_ms()).unwrap_err();
    assert!(refused.code == Code::NotSetUp && refused.message.contains("TH"), "{refused}");
}

#[test]
fn history_goes_on_until_this_machine_has_published() {
    let mut region = Region::new();
    drop(region.desk("TH"));
    let first = region.policy("TH", None, 1, &alerts("of the old machine"));
    let second = region.policy("TH", Some(&first), 2, &alerts("of whoever has it now"));
    let third = region.policy("TH", Some(&second), 3, &alerts("and again"));
    let secrets = region.rekey("TH");
    let next = region.next(|_| {});
    let directory = region.open(&next);
    let shelf = shelf(&region).unwrap();
    let take =
        |offered: &Bytes| shelf.take(std::slice::from_ref(offered), ("TH", &directory), clock::now_ms());
    assert!(matches!((take(&first), take(&second)), (Ok(1), Ok(1))), "the next one follows the newest");
    assert!(shelf.policies(&directory, clock::now_ms()).unwrap().bundle("TH").is_none());
    region.secrets.insert("TH".to_owned(), secrets);
    let own = region.policy("TH", Some(&second), 3, &alerts("of this machine"));
    shelf.publish(&Bundle::open(&own, &directory).unwrap(), clock::now_ms()).unwrap();
    assert!(matches!(take(&third), Err(NotTaken::Untrue(_))));
    let in_force = shelf.policies(&directory, clock::now_ms()).unwrap();
    assert_eq!(in_force.bundle("TH").unwrap().bytes(), &own);
}

#[test]
fn of_what_the_broker_has_that_counts_which_could_be_kept() {
    let region = Region::new();
    drop(region.desk("TH"));
    let shelf = shelf(&region).unwrap();
    let first = region.policy("TH", None, 1, &alerts("first"));
    let second = region.policy("TH", Some(&first), 2, &alerts("second"));
    let part = region.path("TH").join("policy/.000002.bin.part");
    fs::create_dir_all(&part).unwrap();
    fs::set_permissions(part.parent().unwrap(), fs::Permissions::from_mode(0o700)).unwrap();
    let (offered, directory) = ([first, second], region.directory());
    for count in [2, 1] {
        let left = offered.len() - count;
        let taken = shelf.take(&offered[left..], ("TH", &directory), clock::now_ms());
        assert!(matches!(taken, Err(NotTaken::Failed(_))), "{taken:?}");
        assert_eq!((in_force(&region, &shelf, 5), shelf.newest()), (Some(1), 1));
    }
    fs::remove_dir(&part).unwrap();
    assert_eq!(shelf.take(&offered[1..], ("TH", &directory), clock::now_ms()).unwrap(), 1);
    assert_eq!(in_force(&region, &shelf, 5), Some(2));
}

#[test]
fn what_was_signed_with_replaced_keys_is_history_and_never_in_force() {
    let mut region = Region::new();
    drop(region.desk("TH"));
    let old = region.policy("TH", None, 1, &alerts("of the old machine"));
    region.rekey("TH");
    let next = region.next(|_| {});
    let directory = region.open(&next);
    let shelf = shelf(&region).unwrap();
    assert_eq!(shelf.take(&[old], ("TH", &directory), clock::now_ms()).unwrap(), 1);
    for shelf in [&shelf, &self::shelf(&region).unwrap()] {
        assert_eq!(shelf.newest(), 1, "the next one follows it");
        let policies = shelf.policies(&directory, clock::now_ms()).unwrap();
        assert!(policies.bundle("TH").is_none());
    }
}

#[test]
fn a_clock_that_was_ahead_leaves_nothing_in_force_once_it_is_right() {
    let (region, published, later) = scene();
    let ahead = later + 400 * 86_400_000;
    let opened_ahead = Shelf::open(&Folder::at(&region.path("TH")), REGION, "TH", ahead).unwrap();
    let third = files::bytes(&Folder::at(&region.path("TH")), &published.versions()[2]).unwrap();
    for shelf in [&published, &opened_ahead] {
        for (now_ms, version) in [(ahead, 3), (later - 1, 2), (1, 1), (ahead, 3), (later - 1, 2)] {
            assert_eq!(in_force(&region, shelf, now_ms), Some(version));
        }
    }
    // Published by such a clock, which lets those before it go.
    let fourth = region.policy("TH", Some(&third), later, &alerts("fourth"));
    published.publish(&Bundle::open(&fourth, &region.directory()).unwrap(), ahead).unwrap();
    assert_eq!(in_force(&region, &published, ahead), Some(4));
    assert_eq!(in_force(&region, &published, later - 1), Some(2));
    // What cannot be read again is not replaced by an older one.
    drop((in_force(&region, &opened_ahead, ahead), published));
    let opened_ahead = Shelf::open(&Folder::at(&region.path("TH")), REGION, "TH", ahead).unwrap();
    fs::write(region.path("TH").join("policy/000002.bin"), b"damaged").unwrap();
    assert!(opened_ahead.policies(&region.directory(), later - 1).is_err());
    assert!(opened_ahead.unreadable(later - 1).is_some());
}

#[test]
fn a_clock_that_was_ahead_does_not_end_a_baseline_that_is_leaving() {
    let (mut region, leaves_ms) = (Region::new(), clock::now_ms() + 3_600_000);
    drop::<Desk>(region.desk("TH"));
    let policy = "@id(\"no-red\")\n@reason(\"for tests\")\nforbid (principal, action, resource)\n\
                  when { resource.tlp == Lintas::Tlp::\"RED\" };\n";
    let leaving = LeavingPolicy { policy: policy.to_owned(), until_ms: leaves_ms };
    let next = region.next(|roster| roster.leaving.push(leaving));
    let directory = region.open(&next);
    let shelf = shelf(&region).unwrap();
    let hash = |now_ms| *shelf.policies(&directory, now_ms).unwrap().hash();
    let (before, ahead) = (hash(leaves_ms - 1), hash(leaves_ms + 400 * 86_400_000));
    assert_ne!(before, ahead);
    assert_eq!(hash(leaves_ms - 1), before);
}
