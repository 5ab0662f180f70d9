use std::{fs, os::unix::fs::PermissionsExt as _};

use bytes::Bytes;
use lintas_config::os_entropy;
use lintas_proto::{
    canonical,
    frame::FrameType,
    limits,
    schema::{Reason, Submission},
};

use super::{send::How, *};
use crate::{
    core::health::{Check, Health, Mark},
    shell::health,
    testing::{AMBER, Region, draft},
};

fn found<'a>(checks: &'a [Check], name: &str) -> &'a Check {
    checks.iter().find(|check| check.check == name).unwrap_or_else(|| panic!("no check `{name}`"))
}

fn mark(checks: &[Check], name: &str) -> Mark {
    found(checks, name).mark
}

#[test]
fn a_sound_node_has_nothing_wrong_but_the_broker_that_is_not_there() {
    let region = Region::new();
    let desk = region.desk("TH");
    assert_eq!(mark(&desk.doctor(), "broker"), Mark::Warning, "it has hardly begun to try");
    desk.note_link(|link| link.trouble = "no handshake within 10000 ms".to_owned());
    let checks = desk.doctor();
    let wrong: Vec<_> = checks.iter().filter(|check| check.mark == Mark::Wrong).collect();
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    assert!(wrong[0].found.contains("no handshake") && wrong[0].advice.is_some(), "{wrong:?}");
    assert!(checks.iter().all(|check| (check.mark == Mark::Ok) == check.advice.is_none()), "{checks:?}");
    // One for each unit of the roster.
    let units: Vec<_> = checks.iter().filter(|check| check.check == "encryption_keys").collect();
    assert_eq!(units.len(), 2);
    assert!(
        units.iter().all(|check| check.mark == Mark::Ok && check.found.contains("weeks ahead")),
        "{units:?}"
    );
    // The roster of the tests ends in eleven days.
    assert_eq!(mark(&checks, "directory"), Mark::Warning);
    assert!(found(&checks, "directory").found.contains("in 11 days"));

    desk.note_link(|link| {
        (link.connected, link.broker) = (true, "hub.example".to_owned());
        link.trouble.clear();
    });
    let checks = desk.doctor();
    assert_eq!(Health::of(checks).worst, Mark::Warning);
}

#[test]
fn keys_that_the_directory_does_not_know_are_wrong() {
    let mut region = Region::new();
    let desk = region.desk("TH");
    assert_eq!(mark(&desk.doctor(), "keys"), Mark::Ok);
    region.rekey("TH");
    let next = region.next(|_| {});
    fs::write(region.path("TH").join("directory.bin"), next).unwrap();
    desk.renew(true);
    let checks = desk.doctor();
    // The identity key changed without a word of the old one: the agency itself is held.
    assert_eq!((mark(&checks, "keys"), mark(&checks, "held_agencies")), (Mark::Wrong, Mark::Warning));
    assert!(found(&checks, "keys").found.contains("nobody believes"));
}

#[test]
fn a_directory_that_was_refused_or_is_behind_is_told() {
    let mut region = Region::new();
    let desk = region.desk("TH");
    assert_eq!(mark(&desk.doctor(), "directory_file"), Mark::Ok);
    fs::write(region.path("TH").join("directory.bin"), b"nonsense").unwrap();
    desk.renew(true);
    desk.note_link(|link| link.broker_roster = 7);
    let checks = desk.doctor();
    assert_eq!(mark(&checks, "directory_file"), Mark::Warning);
    assert_eq!(mark(&checks, "directory_version"), Mark::Warning);
    assert!(found(&checks, "directory_version").found.contains("version 7"));
    // What the broker names within a session counts as well.
    let directory = desk.directory();
    desk.hear_of_directory(directory.roster().version, directory.hash());
    assert_eq!(mark(&desk.doctor(), "directory_version"), Mark::Ok);
    fs::write(region.path("TH").join("directory.bin"), region.next(|_| {})).unwrap();
    desk.renew(true);
    desk.hear_of_directory(1, &[0; 32]);
    assert_eq!(mark(&desk.doctor(), "directory_version"), Mark::Warning);
}

#[test]
fn a_clock_that_is_off_is_told_by_how_much() {
    let region = Region::new();
    let desk = region.desk("TH");
    for (apart_ms, expected) in [(1_000, Mark::Ok), (90_000, Mark::Warning), (600_000, Mark::Wrong)] {
        desk.note_link(|link| link.clock_apart_ms = Some(apart_ms));
        assert_eq!(mark(&desk.doctor(), "clock_of_broker"), expected, "{apart_ms}");
    }
    assert!(found(&desk.doctor(), "clock_of_broker").found.contains("600 s"));
}

#[test]
fn an_attachment_that_is_gone_and_one_that_belongs_to_nothing_are_told() {
    let region = Region::new();
    let file = region.root.path().join("photo");
    fs::write(&file, "a photo").unwrap();
    let desk = region.desk("TH");
    let text = draft(&["KH/KH-AHT"], "A boat", AMBER, "NONE");
    desk.send(&text, std::slice::from_ref(&file), &[], None, &How::default(), &mut os_entropy()).unwrap();
    assert_eq!(mark(&desk.doctor(), "attachments"), Mark::Ok);
    let out = region.path("TH").join("blobs/out");
    let blob = fs::read_dir(&out).unwrap().next().unwrap().unwrap().path();
    let kept = fs::read(&blob).unwrap();
    fs::remove_file(&blob).unwrap();
    let checks = desk.doctor();
    assert_eq!(mark(&checks, "attachments"), Mark::Wrong);
    assert!(found(&checks, "attachments").found.starts_with("1 attachments"));
    fs::write(&blob, kept).unwrap();
    fs::write(out.join("00ff"), "somebody's").unwrap();
    drop(desk);
    assert_eq!(mark(&region.desk("TH").doctor(), "attachments"), Mark::Warning);
}

#[test]
fn packets_that_wait_too_long_and_packets_refused_are_told() {
    let region = Region::new();
    let desk = region.desk("TH");
    assert_eq!(mark(&desk.doctor(), "outbox"), Mark::Ok);
    desk.send(
        &draft(&["KH/KH-AHT"], "A boat", AMBER, "NONE"),
        &[],
        &[],
        None,
        &How::default(),
        &mut os_entropy(),
    )
    .unwrap();
    let next = desk.next_submission().unwrap().unwrap();
    desk.put_off(next.digest, Reason::Quota, "later".to_owned());
    let check = found(&desk.doctor(), "outbox").clone();
    assert_eq!(check.mark, Mark::Ok, "it waits since a moment");
    assert!(check.found.contains("put off") && check.found.contains("later"), "{}", check.found);
}

#[test]
fn files_that_others_may_read_are_wrong_and_the_identity_key_is_to_be_moved() {
    let region = Region::new();
    drop(region.desk("TH"));
    let folder = Folder::at(&region.path("TH"));
    let key = region.root.path().join("unlock");
    fs::write(&key, "00").unwrap();
    let set = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    set(&key, 0o600);
    let checks = || health::of_files(&folder, Some(&key));
    let sound: Vec<_> = checks().into_iter().filter(|check| check.check != "disk").collect();
    assert_eq!(Health::of(sound.clone()).worst, Mark::Ok, "{sound:?}");

    set(&folder.path("node.keys"), 0o640);
    assert_eq!(mark(&checks(), "key_files"), Mark::Wrong);
    set(&key, 0o644);
    assert_eq!(mark(&checks(), "key_file"), Mark::Wrong);
    fs::write(folder.path("identity.key"), "sealed").unwrap();
    set(&folder.path("identity.key"), 0o600);
    assert_eq!(mark(&checks(), "identity_key"), Mark::Warning);
    fs::remove_dir(folder.path("blobs/in")).unwrap();
    assert_eq!(mark(&checks(), "inner_folders"), Mark::Wrong);
    set(folder.root(), 0o750);
    assert_eq!(mark(&checks(), "folder"), Mark::Wrong);
    let inside = folder.path("unlock");
    fs::write(&inside, "00").unwrap();
    set(&inside, 0o600);
    assert_eq!(mark(&health::of_files(&folder, Some(&inside)), "key_file"), Mark::Warning);
    let nowhere = health::of_files(&Folder::at(&region.root.path().join("nowhere")), None);
    assert_eq!((nowhere.len(), nowhere[0].mark), (1, Mark::Wrong));
}

#[test]
fn what_was_held_back_and_what_did_not_open_is_told() {
    let region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    let post = || -> Submission {
        let text = draft(&["KH/KH-AHT"], "A boat", AMBER, "NONE");
        thailand.send(&text, &[], &[], None, &How::default(), &mut os_entropy()).unwrap();
        let next = thailand.next_submission().unwrap().unwrap();
        let submission: Submission = canonical::decode(&next.bytes, limits::FRAME_BYTES_MAX).unwrap();
        let receipt = region.submitted("TH", &submission);
        let heard = Heard { kind: FrameType::Receipt, payload: receipt };
        assert!(thailand.settle(thailand.judge(vec![heard])).unwrap().broken.is_none());
        submission
    };
    let deliver = |submission: &Submission, body: Option<Bytes>| {
        let mut delivery = region.delivery(submission, 0, 1);
        delivery.body = body.unwrap_or(delivery.body);
        let heard = Heard { kind: FrameType::Delivery, payload: canonical::encode(&delivery) };
        assert!(cambodia.settle(cambodia.judge(vec![heard])).unwrap().broken.is_none());
    };
    let (_held_back, second) = (post(), post());
    let before = cambodia.doctor();
    assert_eq!((mark(&before, "gaps"), mark(&before, "inbox")), (Mark::Ok, Mark::Ok));
    deliver(&second, None);
    let checks = cambodia.doctor();
    assert_eq!((mark(&checks, "gaps"), mark(&checks, "inbox")), (Mark::Warning, Mark::Ok));
    deliver(&post(), Some(Bytes::from_static(b"not what was signed")));
    let checks = cambodia.doctor();
    assert_eq!(mark(&checks, "inbox"), Mark::Warning);
    assert!(found(&checks, "inbox").found.starts_with("1 deliveries"));
}
