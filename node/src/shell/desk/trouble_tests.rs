//! What goes wrong around a desk: old directories, a full disk, a clock that went back, a broker that signs what it
//! refuses.

use std::fs;

use bytes::Bytes;
use lintas_config::os_entropy;
use lintas_proto::{
    canonical,
    evidence::{Evidence, sign_evidence},
    frame::FrameType,
    limits,
    schema::{Outcome, Reason, Refusal, Stage, UnitRef},
};
use zeroize::Zeroizing;

use super::*;
use crate::{
    core::{
        records::Record,
        view::{Kept, Standing},
    },
    testing::{AMBER, BROKER, REGION, Region, digest, draft},
};

fn try_open(region: &Region) -> Result<Desk, Failure> {
    let folder = Folder::at(&region.path("TH"));
    let lock = folder.lock().unwrap();
    let desk = Desk::open(folder, lock, &Unlocker::KeyFile(Zeroizing::new([7; 32])), true)?;
    region.give_open(&desk);
    Ok(desk)
}

fn put(region: &Region, name: &str, bytes: &[u8]) {
    fs::write(region.path("TH").join(name), bytes).unwrap();
}

fn try_send(desk: &Desk, text: &str) -> Result<Kept, Failure> {
    desk.send(text, &[], &[], None, &How::default(), &mut os_entropy())
}

fn version(desk: &Desk) -> u64 {
    desk.status().roster_version
}

#[test]
fn nothing_older_than_the_mark_is_believed_after_a_restart() {
    let mut region = Region::new();
    drop(region.desk("TH"));
    let mark = region.path("TH").join("directory.mark");
    let first_mark = fs::read(&mark).unwrap();
    let (second, third) = (region.next(|_| {}), region.next(|_| {}));
    put(&region, "directory.bin", &third);
    let warning = |region: &Region| {
        let desk = try_open(region).unwrap();
        (version(&desk), desk.status().warnings.join(" "))
    };
    let (in_force, missing) = warning(&region);
    assert_eq!(in_force, 1);
    assert!(missing.contains("into the folder `rosters`"), "{missing}");
    assert_eq!(fs::read(&mark).unwrap(), first_mark);
    fs::create_dir(region.path("TH").join("rosters")).unwrap();
    put(&region, "rosters/february.bin", &second);
    put(&region, "rosters/notes.txt", b"no directory");
    assert_eq!(version(&try_open(&region).unwrap()), 3);
    let third_mark = fs::read(&mark).unwrap();
    // Rolled back, another region's, of the same version, damaged: not believed, and the mark stays.
    let foreign = Region::new();
    for (bytes, expected) in
        [(&region.bundle, ""), (&foreign.bundle, ""), (&Bytes::from_static(b"x"), "get it again")]
    {
        put(&region, "directory.bin", bytes);
        let (in_force, told) = warning(&region);
        assert_eq!(in_force, 3);
        assert!(told.contains(expected) && told.is_empty() == expected.is_empty(), "{told}");
        assert_eq!(fs::read(&mark).unwrap(), third_mark);
    }
    // Without the node's own copy nothing but what the mark speaks of, or what follows it, is believed.
    let current = region.path("TH").join("directory.current");
    let bytes = fs::read(&current).unwrap();
    for (bytes, expected) in [
        (&region.bundle, "rolled back"),
        (&foreign.bundle, "rolled back"),
        (&Bytes::from_static(b"x"), "get it again"),
    ] {
        fs::remove_file(&current).unwrap();
        put(&region, "directory.bin", bytes);
        let refused = try_open(&region).unwrap_err();
        assert_eq!(refused.code, Code::NotSetUp);
        assert!(refused.message.contains(expected), "{refused}");
        assert_eq!(fs::read(&mark).unwrap(), third_mark);
        put(&region, "directory.current", &region.bundle);
        assert!(try_open(&region).is_err());
    }
    put(&region, "directory.current", &bytes);
    // The first directory is only once believed on the bootstrap's word: with the mark it needs none.
    fs::remove_file(region.path("TH").join("bootstrap.toml")).unwrap();
    fs::remove_file(&current).unwrap();
    put(&region, "directory.bin", &third);
    assert_eq!(version(&try_open(&region).unwrap()), 3);
    put(&region, "directory.mark", b"LINTASHW");
    let damaged = try_open(&region).unwrap_err();
    assert!(damaged.message.contains("mark is damaged"), "{damaged}");
}

#[test]
fn a_power_cut_while_a_directory_is_kept_loses_nothing() {
    let mut region = Region::new();
    drop(region.desk("TH"));
    let (second, third) = (region.next(|_| {}), region.next(|_| {}));
    let folder = region.path("TH");
    let read = |name: &str| fs::read(folder.join(name)).unwrap();
    let (old, old_mark) = (read("directory.current"), read("directory.mark"));
    let desk = region.desk("TH");
    let update = Region::update(&desk.directory(), &[&region.open(&second), &region.open(&third)]);
    assert!(desk.take_update(&update).unwrap());
    drop(desk);
    let (new, new_mark) = (read("directory.current"), read("directory.mark"));
    // After the bytes, before the mark; after the mark, before the name. Then whole.
    for (mark, expected) in [(&old_mark, 1), (&new_mark, 3)] {
        put(&region, "directory.next", &new);
        put(&region, "directory.current", &old);
        put(&region, "directory.mark", mark);
        assert_eq!(version(&try_open(&region).unwrap()), expected);
    }
    assert_eq!((read("directory.current"), read("directory.mark")), (new, new_mark));
    assert!(!folder.join("directory.next").exists());
}

#[test]
fn a_new_directory_is_taken_up_while_the_node_runs_and_an_old_one_is_not() {
    let mut region = Region::new();
    let desk = region.desk("TH");
    let text = draft(&["KH/KH-AHT"], "t", AMBER, "NONE");
    try_send(&desk, &text).unwrap();
    region.rekey("KH");
    let next = region.next(|_| {});
    put(&region, "directory.bin", &next);
    desk.renew(false);
    assert_eq!((version(&desk), desk.hello().roster_version), (2, 2), "{:?}", desk.status().warnings);
    let held = desk.status().held;
    assert!(held[0].contains("KH has a new identity key"), "{held:?}");
    let refused = try_send(&desk, &text).unwrap_err();
    assert!(refused.message.contains("until then take KH out"), "{refused}");
    assert!(desk.confirm("KH", &"7".repeat(64), &[]).unwrap_err().message.contains("do not use it"));
    assert_eq!(desk.confirm("KH", "abc", &[]).unwrap_err().code, Code::Usage);
    let key = held[0].split_once("to you: ").unwrap().1.split_once('.').unwrap().0;
    desk.confirm("KH", key, &[]).unwrap();
    assert_eq!(desk.status().held, [""; 0]);
    try_send(&desk, &text).unwrap();
    put(&region, "directory.bin", &region.bundle.clone());
    desk.renew(true);
    assert_eq!(version(&desk), 2);
    let warnings = desk.status().warnings;
    assert!(warnings[0].contains("rolled back: version 2 is in force"), "{warnings:?}");
    put(&region, "directory.bin", &next);
    desk.renew(true);
    assert_eq!(desk.status().warnings, [""; 0]);
    drop(desk);
    let desk = region.desk("TH");
    assert_eq!((version(&desk), desk.status().held), (2, vec![]));
}

#[test]
fn a_full_disk_refuses_and_acknowledges_nothing_until_there_is_room() {
    let region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    let long = "x".repeat(900_000);
    let large = draft(&["KH/KH-AHT"], &long, AMBER, "NONE");
    let packet = |text: &str| -> lintas_proto::schema::Submission {
        try_send(&thailand, text).unwrap();
        let next = thailand.next_submission().unwrap().unwrap();
        canonical::decode(&next.bytes, limits::FRAME_BYTES_MAX).unwrap()
    };
    let brief = draft(&["KH/KH-AHT"], "t", AMBER, "NONE");
    let (small, other, packet) = (packet(&brief), packet(&brief), packet(&large));
    put(&region, "full", b"");
    fs::write(region.path("KH").join("full"), b"").unwrap();
    let fill = |desk: &Desk, text: &str| {
        let mut kept = 0;
        loop {
            match try_send(desk, text) {
                Ok(_) => kept += 1,
                Err(failure) => return (kept, failure),
            }
            assert!(kept < 100, "the disk is not full");
        }
    };
    let (kept, failure) = fill(&thailand, &large);
    assert_eq!(failure.code, Code::Storage);
    assert!(failure.message.contains("make room and try again"), "{failure}");
    assert_eq!(thailand.status().sent, kept + 3);
    let back = draft(&["TH/TH-MAR"], &long, AMBER, "NONE").replacen("TH-MAR", "KH-AHT", 1);
    assert_eq!(fill(&cambodia, &back).1.code, Code::Storage);

    let mut broken = region.delivery(&small, 0, 1);
    broken.signature = Bytes::from(vec![1; 64]);
    let sound = region.delivery(&packet, 0, 2);
    let heard = |delivery| Heard { kind: FrameType::Delivery, payload: canonical::encode(delivery) };
    // What lets the broker's queue drain is kept and answered from the reserve, the packet is not.
    let settled = cambodia.settle(cambodia.judge(vec![heard(&broken), heard(&sound)])).unwrap();
    assert!(settled.full);
    assert_eq!(settled.acknowledgements.iter().map(|answer| answer.queue_sequence).collect::<Vec<_>>(), [1]);
    assert_eq!(cambodia.status().received, 0);

    // A packet that finds no room holds back neither a smaller one nor what was answered before.
    let other = region.delivery(&other, 0, 3);
    let heard_all = vec![heard(&sound), heard(&other), heard(&broken)];
    let settled = cambodia.settle(cambodia.judge(heard_all)).unwrap();
    assert!(settled.full && settled.broken.is_none());
    assert_eq!(
        settled.acknowledgements.iter().map(|answer| answer.queue_sequence).collect::<Vec<_>>(),
        [1, 3]
    );
    assert_eq!(cambodia.status().received, 1);

    // Room returns; nothing is started anew.
    fs::remove_file(region.path("TH").join("full")).unwrap();
    fs::remove_file(region.path("KH").join("full")).unwrap();
    try_send(&thailand, &large).unwrap();
    let settled = cambodia.settle(cambodia.judge(vec![heard(&sound)])).unwrap();
    assert!(!settled.full);
    assert_eq!(settled.acknowledgements.len(), 1);
}

#[test]
fn a_clock_that_went_back_is_told() {
    let region = Region::new();
    let desk = region.desk("TH");
    try_send(&desk, &draft(&["KH/KH-AHT"], "t", AMBER, "NONE")).unwrap();
    assert_eq!(desk.status().warnings, [""; 0]);
    let next = desk.next_submission().unwrap().unwrap();
    let Record::Outgoing(stored) = desk.store.read(desk.store.state().own(&next.digest).unwrap().0).unwrap()
    else {
        panic!("another record");
    };
    let tomorrow = clock::now_ms() + 86_400_000;
    let later = lintas_proto::schema::StoredOutgoing { created_ms: tomorrow, ..stored };
    desk.store.keep(vec![Record::Outgoing(later)]).unwrap();
    let warnings = desk.status().warnings;
    assert!(warnings[0].contains("1440 minutes before the newest record") || warnings[0].contains("1439"));
}

#[test]
fn a_refusal_that_the_broker_signed_is_shown_as_such() {
    let region = Region::new();
    let desk = region.desk("TH");
    let kept = try_send(&desk, &draft(&["KH/KH-AHT"], "t", AMBER, "NONE")).unwrap();
    let next = desk.next_submission().unwrap().unwrap();
    let packet: lintas_proto::schema::Submission =
        canonical::decode(&next.bytes, limits::FRAME_BYTES_MAX).unwrap();
    let statement = |reason| Evidence {
        region: REGION.to_owned(),
        stage: Stage::Submission,
        outcome: Outcome::Rejection,
        reason,
        text: "No such unit.".to_owned(),
        packet_id: crate::testing::core(&packet.header).packet_id,
        header_digest: digest(&packet),
        actor: UnitRef { agency: BROKER.to_owned(), unit: String::new() },
        recipient: None,
        time_ms: clock::now_ms(),
        leaf: None,
        policy_id: String::new(),
        directory_hash: *region.directory().hash(),
    };
    let refuse = |signed| {
        let refusal = Refusal {
            packet_id: Bytes::new(),
            header_digest: Bytes::copy_from_slice(&next.digest),
            reason: Reason::UnknownRecipient as i32,
            text: "No such unit.".to_owned(),
            retry: false,
            evidence: Some(signed),
        };
        let heard = Heard { kind: FrameType::Refusal, payload: canonical::encode(&refusal) };
        desk.settle(desk.judge(vec![heard])).unwrap();
        desk.standing(&kept.packet_id).unwrap().standing
    };
    let key = region.receipt_key();
    let other = sign_evidence(&[statement(Reason::Expired)], &key).unwrap().remove(0);
    let stranger = sign_evidence(&[statement(Reason::UnknownRecipient)], &region.packet_key("KH")).unwrap();
    for false_statement in [other, stranger[0].clone()] {
        assert!(matches!(refuse(false_statement), Standing::Waiting { .. }));
    }
    let signed = sign_evidence(&[statement(Reason::UnknownRecipient)], &key).unwrap().remove(0);
    assert!(matches!(refuse(signed), Standing::Refused { signed: true, .. }));
}
