//! What a purge leaves on the disk, at every point at which the process may end.

use std::{fs, io::Read as _};

use bytes::Bytes;
use lintas_proto::{
    canonical,
    frame::FrameType,
    limits,
    schema::{Delivery, Submission},
};
use zeroize::Zeroizing;

use super::*;
use crate::shell::desk::How;
use crate::{
    core::{pages, vault::Unlocker, view::Kept},
    shell::{desk::Heard, folder::Folder},
    testing::{AMBER, Region, draft},
};

const NOW: fn() -> u64 = clock::now_ms;

fn post(desk: &Desk, title: &str) -> Kept {
    desk.send(
        &draft(&["KH/KH-AHT"], title, AMBER, "NONE"),
        &[],
        &[],
        None,
        &How::default(),
        &mut os_entropy(),
    )
    .unwrap()
}

fn submitted(desk: &Desk) -> Submission {
    canonical::decode(&desk.next_submission().unwrap().unwrap().bytes, limits::FRAME_BYTES_MAX).unwrap()
}

fn hear(desk: &Desk, kind: FrameType, payload: Bytes) -> usize {
    desk.settle(desk.judge(vec![Heard { kind, payload }])).unwrap().acknowledgements.len()
}

/// Thailand has sent and the broker has answered; Cambodia has received. The ids, in order.
fn exchanged(region: &Region, thailand: &Desk, cambodia: &Desk, count: u64) -> (Vec<String>, Vec<Delivery>) {
    let (mut ids, mut deliveries) = (Vec::new(), Vec::new());
    for at in 0..count {
        ids.push(post(thailand, &format!("packet {at}")).packet_id);
        let packet = submitted(thailand);
        hear(thailand, FrameType::Receipt, region.submitted("TH", &packet));
        let delivery = region.delivery(&packet, 0, at);
        assert_eq!(hear(cambodia, FrameType::Delivery, canonical::encode(&delivery)), 1);
        deliveries.push(delivery);
    }
    (ids, deliveries)
}

fn purge(desk: &Desk, ids: &[String], confirmed: bool) -> Result<Purged, Failure> {
    desk.purge(&Chosen { ids, before_ms: None, expired: false }, confirmed, NOW())
}

fn numbers(desk: &Desk) -> Vec<u64> {
    desk.change_secrets(super::super::keyring::Part::All, |secrets| {
        let pages: Vec<u64> = secrets.pages.iter().map(|page| page.number).collect();
        Ok(Some(pages))
    })
    .unwrap()
    .unwrap()
}

fn assert_purged(desk: &Desk, id: &str) {
    let failure = desk.show(id).unwrap_err();
    assert_eq!(failure.code, Code::NotFound);
    assert!(failure.message.contains("was purged here on 20"), "{failure}");
}

#[test]
fn purged_packets_are_gone_and_the_others_of_their_page_open() {
    let region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    let (ids, deliveries) = exchanged(&region, &thailand, &cambodia, 3);
    for desk in [&thailand, &cambodia] {
        let planned = purge(desk, &ids[1..2], false).unwrap();
        assert!(!planned.done && planned.total == 1 && planned.packets[0].packet_id == ids[1]);
        assert!(desk.show(&ids[1]).is_ok(), "only asked");
        let before = numbers(desk);
        assert!(purge(desk, &ids[1..2], true).unwrap().done);
        assert!(numbers(desk).iter().all(|page| !before.contains(page)), "the old page is gone");
        assert_purged(desk, &ids[1]);
        assert!(desk.show(&ids[0]).is_ok() && desk.show(&ids[2]).is_ok());
        assert_eq!(purge(desk, &ids[1..2], true).unwrap().total, 0, "once is enough");
    }
    // A new packet goes to a page that is there.
    let later = post(&thailand, "later");
    // The tombstone stays: what is delivered again is answered as before and not kept twice.
    assert_eq!(hear(&cambodia, FrameType::Delivery, canonical::encode(&deliveries[1])), 1);
    let inbox = cambodia.inbox(10).unwrap();
    let purged: Vec<bool> = inbox.packets.iter().map(|entry| entry.purged_ms.is_some()).collect();
    assert_eq!(purged, [false, true, false]);
    assert_eq!((inbox.packets[1].title.as_str(), inbox.packets[1].warnings.len()), ("", 0));
    // All of it holds after a kill.
    drop((thailand, cambodia));
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    assert!(thailand.show(&later.packet_id).is_ok());
    for desk in [&thailand, &cambodia] {
        assert_purged(desk, &ids[1]);
        assert!(desk.show(&ids[0]).unwrap().body.to_string().contains("packet 0"));
        // Moved once more, and what was moved before is purged.
        purge(desk, &ids[..1], true).unwrap();
        assert_purged(desk, &ids[0]);
        assert!(desk.show(&ids[2]).is_ok());
    }
}

#[test]
fn what_waits_for_an_answer_is_not_purged() {
    let region = Region::new();
    let thailand = region.desk("TH");
    let kept = post(&thailand, "waits");
    let refused = purge(&thailand, std::slice::from_ref(&kept.packet_id), true).unwrap_err();
    assert!(refused.message.contains("still waiting") && refused.message.contains("lintas run"), "{refused}");
    let all = Chosen { ids: &[], before_ms: Some(NOW() + 1_000), expired: false };
    let left = thailand.purge(&all, true, NOW()).unwrap();
    assert_eq!((left.total, left.left_waiting), (0, 1));
    assert!(thailand.show(&kept.packet_id).is_ok());
    let nothing = Chosen { ids: &[], before_ms: None, expired: false };
    assert_eq!(thailand.purge(&nothing, true, NOW()).unwrap_err().code, Code::Usage);
    assert_eq!(purge(&thailand, &["00000000".to_owned()], true).unwrap_err().code, Code::NotFound);
}

#[test]
fn by_age_and_by_expiry_only_what_is_due_goes() {
    let region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    let (ids, _) = exchanged(&region, &thailand, &cambodia, 2);
    let chosen = |before_ms, expired| Chosen { ids: &[], before_ms, expired };
    assert_eq!(cambodia.purge(&chosen(Some(NOW() - 60_000), true), true, NOW()).unwrap().total, 0);
    let far = NOW() + limits::DELIVER_WITHIN_MS_MAX + 1;
    assert_eq!(cambodia.purge(&chosen(None, true), true, far).unwrap().total, 2);
    assert_purged(&cambodia, &ids[0]);
    assert_eq!(thailand.purge(&chosen(Some(NOW() + 1_000), false), true, NOW()).unwrap().total, 2);
    assert_eq!(numbers(&thailand), [0; 0], "no page without a living key stays");
}

#[test]
fn the_old_key_file_is_overwritten_and_an_old_journal_does_not_open_with_the_new_one() {
    let region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    let (ids, _) = exchanged(&region, &thailand, &cambodia, 2);
    let folder = Folder::at(&region.path("KH"));
    let old = fs::read(folder.path("node.keys")).unwrap();
    // Whoever holds the old file open sees what is on the disk.
    let mut held = fs::File::open(folder.path("node.keys")).unwrap();
    purge(&cambodia, &ids[..1], true).unwrap();
    let mut left = Vec::new();
    held.read_to_end(&mut left).unwrap();
    assert_eq!(left, vec![0; old.len()], "zeros where the old keys stood");
    drop(cambodia);
    let names: Vec<_> = fs::read_dir(folder.root()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().starts_with(".node.keys")), "{names:?}");
    // The record as it was before the purge, and every page that is left today: its key is not among them.
    drop(thailand);
    let cambodia = region.desk("KH");
    let sequence = cambodia.store.state().incoming().last().unwrap().0;
    let Record::Incoming(kept) = cambodia.store.read(sequence).unwrap() else { panic!("another record") };
    let sealed = Sealed::incoming(sequence, &kept, &crate::core::ledger::Ledger::default());
    let opened =
        crate::core::archive::open_incoming(&kept, &sealed, &cambodia.pages(), &cambodia.directory(), NOW());
    assert!(matches!(opened, Err(crate::core::archive::ArchiveError::NoPage(_))));
    for page in numbers(&cambodia) {
        let key = cambodia.pages().key(page).cloned().unwrap();
        assert!(key.open(crate::core::inbox::INCOMING_PURPOSE, b"any", &kept.sealed_key).is_err());
    }
}

/// A kill after the record and before node.keys is written: as if the older file were still there.
#[test]
fn a_purge_that_was_interrupted_is_finished_when_the_node_opens() {
    let region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    let (ids, _) = exchanged(&region, &thailand, &cambodia, 3);
    let folder = Folder::at(&region.path("KH"));
    let victims: BTreeSet<u64> = cambodia.store.state().incoming().take(1).map(|(at, _)| at).collect();
    // Step by step, and the process ends behind the record.
    let (kept, _) = cambodia.keep_purge(&victims, NOW()).unwrap();
    kept.unwrap();
    let old_page = 1;
    assert!(numbers(&cambodia).contains(&old_page));
    let between = fs::read(folder.path("node.keys")).unwrap();
    drop(cambodia);
    let cambodia = region.desk("KH");
    assert!(!numbers(&cambodia).contains(&old_page), "destroyed at the next opening");
    assert_purged(&cambodia, &ids[2]);
    assert!(cambodia.show(&ids[0]).is_ok() && cambodia.show(&ids[1]).is_ok());
    drop(cambodia);
    // An older copy of the key file put back: the page goes again, as often as it comes.
    fs::write(folder.path("node.keys"), between).unwrap();
    let cambodia = region.desk("KH");
    assert!(!numbers(&cambodia).contains(&old_page));
    assert!(cambodia.show(&ids[0]).is_ok());
    // A page number is never used again.
    let made = cambodia.make_pages(1).unwrap();
    assert!(made[0] > *numbers(&cambodia).iter().filter(|page| **page != made[0]).max().unwrap());
}

/// A kill before the record: new pages were made, and nothing else.
#[test]
fn a_purge_that_never_began_changes_nothing() {
    let region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    let (ids, _) = exchanged(&region, &thailand, &cambodia, 2);
    cambodia.make_pages(1).unwrap();
    drop(cambodia);
    let cambodia = region.desk("KH");
    assert!(ids.iter().all(|id| cambodia.show(id).is_ok()));
    // What an interrupted writer left beside the key file is overwritten and removed, and the file itself is not.
    let folder = Folder::at(&region.path("KH"));
    drop(cambodia);
    fs::hard_link(folder.path("node.keys"), folder.path(".node.keys.old")).unwrap();
    fs::write(folder.path(".node.keys.part"), "half a key file").unwrap();
    let mut part = fs::File::open(folder.path(".node.keys.part")).unwrap();
    let cambodia = region.desk("KH");
    let mut left = Vec::new();
    part.read_to_end(&mut left).unwrap();
    assert_eq!(left, [0; 15]);
    assert!(!folder.path(".node.keys.old").exists() && !folder.path(".node.keys.part").exists());
    assert!(ids.iter().all(|id| cambodia.show(id).is_ok()));
}

#[test]
fn attachments_go_with_their_packet_but_not_those_that_another_names() {
    let region = Region::new();
    let thailand = region.desk("TH");
    let file = region.root.path().join("note.txt");
    fs::write(&file, "attached").unwrap();
    let text = draft(&["KH/KH-AHT"], "t", AMBER, "NONE");
    let kept = thailand
        .send(&text, std::slice::from_ref(&file), &[], None, &How::default(), &mut os_entropy())
        .unwrap();
    let other = thailand.send(&text, &[file], &[], None, &How::default(), &mut os_entropy()).unwrap();
    for _ in 0..2 {
        let packet = submitted(&thailand);
        hear(&thailand, FrameType::Receipt, region.submitted("TH", &packet));
    }
    let blobs = || fs::read_dir(region.path("TH").join("blobs/out")).unwrap().count();
    assert_eq!(blobs(), 2);
    purge(&thailand, std::slice::from_ref(&kept.packet_id), true).unwrap();
    assert_eq!(blobs(), 1);
    let to = region.root.path().join("export");
    fs::create_dir(&to).unwrap();
    assert!(thailand.export(&other.packet_id, &to).is_ok());
    assert_purged(&thailand, &kept.packet_id);
    // A kill before the blob was removed: the next opening removes it.
    let left = {
        let state = thailand.store.state();
        let (_, packet) = state.outgoing().find(|(_, p)| p.packet_id.to_string() == kept.packet_id).unwrap();
        thailand.folder.blob_out(&hex(&packet.attachments[0].blob_id))
    };
    fs::write(&left, "sealed").unwrap();
    drop(thailand);
    let thailand = region.desk("TH");
    assert!(!left.exists() && blobs() == 1);
    assert_eq!(thailand.export(&kept.packet_id, &to).unwrap_err().code, Code::NotFound);
}

#[test]
fn a_page_is_in_the_key_file_before_a_packet_uses_it() {
    let region = Region::new();
    let thailand = region.desk("TH");
    assert_eq!(numbers(&thailand), [0; 0]);
    let kept = post(&thailand, "first");
    assert_eq!(numbers(&thailand), [1]);
    // Ahead of need: with the page half used, the next one is made, and used only when the first is full.
    for _ in 1..pages::PAGE_KEYS_MAX / 2 {
        thailand.page(NOW()).unwrap();
    }
    thailand.tend_pages().unwrap();
    thailand.tend_pages().unwrap();
    assert_eq!(numbers(&thailand), [1, 2]);
    for _ in 0..pages::PAGE_KEYS_MAX / 2 {
        assert_eq!(thailand.page(NOW()).unwrap().0, 1);
    }
    assert_eq!(thailand.page(NOW()).unwrap().0, 2);
    // Only this passphrase's wrapping opens what is written, each time under another key.
    let folder = Folder::at(&region.path("TH"));
    let before = fs::read(folder.path("node.keys")).unwrap();
    thailand.make_pages(1).unwrap();
    assert_ne!(fs::read(folder.path("node.keys")).unwrap(), before);
    drop(thailand);
    let wrong = Unlocker::KeyFile(Zeroizing::new([8; 32]));
    let lock = folder.lock().unwrap();
    assert!(Desk::open(folder, lock, &wrong, false).is_err());
    assert!(region.desk("TH").show(&kept.packet_id).is_ok());
}

#[test]
fn a_purge_over_many_pages_keeps_every_other_packet() {
    let region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    let mut ids = Vec::new();
    for page in 1..=5 {
        // Two packets to a page; the rest of it is used up.
        ids.extend(exchanged(&region, &thailand, &cambodia, 2).0);
        assert_eq!(thailand.page(NOW()).unwrap().0, page);
        for _ in 3..pages::PAGE_KEYS_MAX {
            thailand.page(NOW()).unwrap();
        }
    }
    let victims: Vec<String> = ids.iter().step_by(2).cloned().collect();
    assert_eq!(purge(&thailand, &victims, true).unwrap().total, 5);
    assert!(numbers(&thailand).iter().all(|page| *page > 5));
    let records = || thailand.store.state().ledger().destroyed().len();
    assert_eq!(records(), 5);
    drop(thailand);
    let thailand = region.desk("TH");
    for (at, id) in ids.iter().enumerate() {
        assert_eq!(thailand.show(id).is_ok(), at % 2 == 1, "{at}");
    }
}

#[test]
fn packets_that_are_sealed_during_a_purge_open_afterwards() {
    let region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    let (ids, _) = exchanged(&region, &thailand, &cambodia, 8);
    let kept: Vec<Kept> = std::thread::scope(|scope| {
        let sending = scope.spawn(|| (0..40).map(|at| post(&thailand, &format!("at once {at}"))).collect());
        for id in &ids {
            purge(&thailand, std::slice::from_ref(id), true).unwrap();
        }
        sending.join().unwrap()
    });
    drop(thailand);
    let thailand = region.desk("TH");
    for packet in &kept {
        assert!(thailand.show(&packet.packet_id).is_ok(), "{}", packet.packet_id);
    }
    ids.iter().for_each(|id| assert_purged(&thailand, id));
}

/// The disk was full, say, when node.keys was to be written.
#[test]
fn a_purge_that_was_kept_and_not_carried_out_is_carried_out_when_it_is_asked_again() {
    let region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    let (ids, _) = exchanged(&region, &thailand, &cambodia, 1);
    let page = cambodia.store.state().ledger().newest().0;
    let in_the_way = Folder::at(&region.path("KH")).path(".node.keys.part");
    fs::create_dir(&in_the_way).unwrap();
    purge(&cambodia, &ids, true).unwrap_err();
    purge(&cambodia, &ids, true).unwrap_err();
    fs::remove_dir(&in_the_way).unwrap();
    assert!(numbers(&cambodia).contains(&page), "nobody has destroyed it");
    purge(&cambodia, &ids, true).unwrap();
    assert!(!numbers(&cambodia).contains(&page));
}

/// The same attachment came for another unit, whose packet is purged between judging and keeping.
#[test]
fn a_delivery_whose_attachment_goes_with_a_purge_is_not_acknowledged() {
    let region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    let file = region.root.path().join("note.txt");
    fs::write(&file, "attached").unwrap();
    let text = draft(&["KH/KH-AHT"], "t", AMBER, "NONE");
    thailand.send(&text, &[file], &[], None, &How::default(), &mut os_entropy()).unwrap();
    let payload = canonical::encode(&region.delivery(&submitted(&thailand), 0, 1));
    let blob = fs::read_dir(region.path("TH").join("blobs/out")).unwrap().next().unwrap().unwrap();
    let here = region.path("KH").join("blobs/in").join(blob.file_name());
    fs::copy(blob.path(), &here).unwrap();
    let heard = || vec![Heard { kind: FrameType::Delivery, payload: payload.clone() }];
    let steps = cambodia.judge(heard());
    fs::remove_file(&here).unwrap();
    let settled = cambodia.settle(steps).unwrap();
    assert!(settled.full && settled.acknowledgements.is_empty());
    assert_eq!(cambodia.status().received, 0);
    fs::copy(blob.path(), &here).unwrap();
    assert_eq!(cambodia.settle(cambodia.judge(heard())).unwrap().acknowledgements.len(), 1);
}

#[test]
fn an_older_copy_of_the_key_file_is_told_at_once() {
    let region = Region::new();
    let thailand = region.desk("TH");
    let folder = Folder::at(&region.path("TH"));
    let before = fs::read(folder.path("node.keys")).unwrap();
    let kept = post(&thailand, "t");
    assert_eq!(thailand.status().warnings, [""; 0]);
    drop(thailand);
    let newest = fs::read(folder.path("node.keys")).unwrap();
    fs::write(folder.path("node.keys"), before).unwrap();
    let thailand = region.desk("TH");
    assert!(thailand.show(&kept.packet_id).is_err());
    let told = thailand.status().warnings.join("; ");
    assert!(told.contains("node.keys is an older copy: 1 packets"), "{told}");
    drop(thailand);
    fs::write(folder.path("node.keys"), newest).unwrap();
    let thailand = region.desk("TH");
    assert_eq!(thailand.status().warnings, [""; 0]);
    assert!(thailand.show(&kept.packet_id).is_ok());
}
