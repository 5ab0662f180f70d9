//! Files of a log, as a broker hands them out: paths, bundles, entries, slots and openings.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use lintas_fuzz::{
    draws::Draws,
    edit::edited,
    fixtures::{entropy, fixtures},
};
use lintas_proto::{
    audit::{
        epoch::{ENTRY_BYTES, RootEntry, is_slot_of, slot, slot_path, slot_salt, slots_root},
        files::LogFile,
        leaf::{LEAF_BYTES, log_event},
        opening::{self, ERASED, KEY_BYTES, OpeningError},
        tile,
    },
    id::Digest,
    schema::LoggedEvent,
};

fuzz_target!(|data: &[u8]| {
    let mut draws = Draws::new(data);
    match draws.byte() % 7 {
        0 => path(&String::from_utf8_lossy(draws.rest())),
        1 => numbers(&mut draws),
        2 => bundle(draws.rest()),
        3 => entry(draws.rest()),
        4 => sealed(&mut draws),
        5 => sealed_by_a_broker(&mut draws),
        _ => slots(&mut draws),
    }
});

/// A path names a file of a log and nothing else on a disk.
fn path(text: &str) {
    if let Some(file) = LogFile::parse(text) {
        assert_eq!(file.to_string(), text, "two paths of one file");
        assert!(file.is_of_root() || file.is_of_sub_log());
        assert!(text.len() <= 64 && !text.contains("..") && !text.starts_with('/') && !text.ends_with('/'));
        assert!(
            text.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"/.-".contains(&byte))
        );
    }
    if let Some((index, width)) = tile::parse_numbered(text) {
        assert_eq!(tile::numbered(index, width), text);
        assert!((1..=256).contains(&width));
    }
}

fn numbers(draws: &mut Draws<'_>) {
    let (index, width) = (draws.number(), u16::from(draws.byte()) + 1);
    assert_eq!(tile::parse_numbered(&tile::numbered(index, width)), Some((index, width)));
    let files =
        [LogFile::Entries(index, width), LogFile::Slots(index), LogFile::Roster(index), LogFile::Keys(index)];
    for file in files {
        assert_eq!(LogFile::parse(&file.to_string()), Some(file));
    }
    let text = edited(files[draws.below(files.len())].to_string().as_bytes(), draws);
    path(&String::from_utf8_lossy(&text));
}

fn bundle(bytes: &[u8]) {
    let mut again = Vec::new();
    let mut whole = true;
    for entry in tile::entries(bytes) {
        assert!(whole, "an entry behind one that is cut");
        whole = entry.is_some_and(|entry| tile::push_entry(&mut again, entry));
    }
    assert!(bytes.starts_with(&again) && whole == (bytes.len() == again.len()));
    for index in [0, 1, 255, 256, 300, u64::MAX] {
        let at = usize::try_from(index % 256).unwrap() * 32;
        assert_eq!(tile::hash_in(bytes, index).as_ref().map(Digest::as_slice), bytes.get(at..at + 32));
    }
}

fn entry(bytes: &[u8]) {
    match RootEntry::parse(bytes) {
        Ok(entry) => assert_eq!(entry.to_bytes().as_slice(), bytes, "written otherwise than it was read"),
        Err(_) => assert!(bytes.len() != ENTRY_BYTES || bytes[0] != 1),
    }
}

/// Key, leaf and ciphertext of another opening, or changed ones, open nothing.
fn sealed(draws: &mut Draws<'_>) {
    let all = fixtures();
    let logged = &all.receipt.events[draws.below(all.receipt.events.len())];
    let (key, sealed) = opening::seal(logged, &mut entropy("opening")).unwrap();
    let (other_key, leaf) = (edited(key.as_slice(), draws), edited(&logged.leaf, draws));
    let other = edited(&sealed, draws);
    let Ok(other_key) = <[u8; KEY_BYTES]>::try_from(other_key) else { return };
    let opened = opening::open(logged.index, &leaf, &other_key, &other);
    let same = other_key == *key && leaf == logged.leaf && other == sealed;
    assert_eq!(opened.as_ref().ok().map(|(logged, _)| logged), same.then_some(logged));
    assert_eq!(opened == Err(OpeningError::Erased), other_key == ERASED);
    assert_eq!(opening::open_event(&leaf, &other_key, &other), opened.map(|(_, event)| event));
}

/// A broker may seal what it likes: what opens is an event that its leaf commits to.
fn sealed_by_a_broker(draws: &mut Draws<'_>) {
    let all = fixtures();
    let valid = &all.receipt.events[0];
    let given = LoggedEvent {
        index: draws.number(),
        leaf: if draws.flag() { vec![draws.byte(); LEAF_BYTES].into() } else { valid.leaf.clone() },
        salt: if draws.flag() { vec![draws.byte(); 32].into() } else { valid.salt.clone() },
        event: edited(&valid.event, draws).into(),
    };
    let (key, sealed) = opening::seal(&given, &mut entropy("opening")).unwrap();
    let opened = opening::open(given.index, &given.leaf, &key, &sealed);
    let whole = LoggedEvent { index: given.index, ..valid.clone() } == given;
    assert_eq!(opened.is_ok(), whole, "{opened:?}");
    if let Ok((logged, event)) = opened {
        let salt: Digest = logged.salt.as_ref().try_into().unwrap();
        assert_eq!((&log_event(logged.index, salt, &event), &logged), (&given, &given));
    }
}

/// One slot for each index.
fn slots(draws: &mut Draws<'_>) {
    let salt = slot_salt(&[draws.byte(); 32], "broker.mekong/audit", draws.number());
    let count = u32::try_from(1 + draws.below(20)).unwrap();
    let slots: Vec<Digest> = (0..count).map(|index| slot(&salt, index, 5, &[4; 32])).collect();
    let (index, other) = (draws.below(slots.len()), draws.below(slots.len() + 2));
    let entry = RootEntry {
        epoch: 7,
        time_ms: 1,
        directory_hash: [0; 32],
        policy_set_hash: [0; 32],
        slots: count,
        slots_root: slots_root(&slots),
    };
    let at = u32::try_from(index).unwrap();
    let path = slot_path(&slots, at).unwrap().concat();
    let changed = Bytes::from(edited(&path, draws));
    let hashes: Vec<Digest> = changed.chunks_exact(32).map(|hash| hash.try_into().unwrap()).collect();
    let same = other == index && hashes.concat() == path;
    let stands = is_slot_of(&entry, u32::try_from(other).unwrap(), &slots[index], &hashes);
    assert_eq!(stands, same, "slot {index} at {other}");
}
