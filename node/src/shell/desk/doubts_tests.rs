//! Evidence that comes before its directory, or under a wrong clock, is believed in the end.

use lintas_proto::{
    canonical,
    frame::FrameType,
    limits,
    schema::{EventType, EvidenceDelivery, Outcome, StoredEvidence, Submission},
};

use super::{
    hostile_tests::{hear, kept, packet, statement, told},
    *,
};
use crate::{
    core::records::Record,
    testing::{Region, core, submission_events},
};

/// What Thailand's officer reads of the one recipient.
fn state(desk: &Desk, packet: &Submission) -> String {
    desk.standing(&core(&packet.header).packet_id.to_string()).unwrap().recipients[0].state.clone()
}

/// Cambodia has new keys, which Thailand's directory does not have yet; the next one, which has them.
fn rotated(region: &mut Region) -> bytes::Bytes {
    region.rotate("KH");
    region.next(|_| {})
}

fn take(region: &Region, desk: &Desk, next: &bytes::Bytes) {
    let next = region.open(next);
    assert!(desk.take_update(&Region::update(&desk.directory(), &[&next])).unwrap());
}

#[test]
fn evidence_that_came_before_its_directory_is_believed_under_it() {
    let mut region = Region::new();
    let thailand = region.desk("TH");
    let packet = packet(&thailand);
    let said = statement(&region, &packet, Outcome::Acceptance);
    let next = rotated(&mut region);
    let before = kept(&thailand);
    assert_eq!(thailand.judge_doubted().unwrap(), 0);
    assert_eq!(hear(&thailand, told(&region, "KH", &said, 1)).len(), 1);
    assert_eq!((kept(&thailand), state(&thailand, &packet)), (before + 1, "pending".to_owned()));
    assert_eq!(thailand.judge_doubted().unwrap(), 0, "nothing has changed");
    take(&region, &thailand, &next);
    assert_eq!(thailand.judge_doubted().unwrap(), 1);
    assert_eq!((kept(&thailand), state(&thailand, &packet)), (before + 2, "delivered".to_owned()));
    // Once, and for good.
    assert!(thailand.store.state().tally().doubted(0, 100).is_empty());
    drop(thailand);
    let thailand = region.desk("TH");
    assert_eq!(thailand.judge_doubted().unwrap(), 0);
    assert_eq!((kept(&thailand), state(&thailand, &packet)), (before + 2, "delivered".to_owned()));
}

#[test]
fn evidence_that_came_while_its_directory_was_taken_up_is_judged_again() {
    let mut region = Region::new();
    let thailand = region.desk("TH");
    let packet = packet(&thailand);
    let said = statement(&region, &packet, Outcome::Acceptance);
    let next = rotated(&mut region);
    let under = *thailand.directory().hash();
    take(&region, &thailand, &next);
    assert_eq!(thailand.judge_doubted().unwrap(), 0, "nothing is doubted");
    // Judged under the directory before, and kept only now.
    let (_, delivery) = told(&region, "KH", &said, 1).remove(0);
    let EvidenceDelivery { evidence, .. } = canonical::decode(&delivery, limits::FRAME_BYTES_MAX).unwrap();
    let doubted = StoredEvidence { evidence, received_ms: clock::now_ms() };
    thailand.store.keep(vec![Record::Doubted(doubted)]).unwrap();
    assert_eq!(thailand.judge_doubted().unwrap(), 0);
    thailand.note_doubted(&under);
    assert_eq!(thailand.judge_doubted().unwrap(), 1);
    assert_eq!(state(&thailand, &packet), "delivered");
}

#[test]
fn evidence_that_came_under_a_wrong_clock_is_believed_by_one_that_a_broker_agrees_with() {
    let region = Region::new();
    let thailand = region.desk("TH");
    let packet = packet(&thailand);
    let said = statement(&region, &packet, Outcome::Acceptance);
    assert_eq!(thailand.judge_doubted().unwrap(), 0);
    thailand.doubt_clock();
    let (_, delivery) = told(&region, "KH", &said, 1).remove(0);
    let EvidenceDelivery { evidence, .. } = canonical::decode(&delivery, limits::FRAME_BYTES_MAX).unwrap();
    let doubted = StoredEvidence { evidence, received_ms: clock::now_ms() };
    thailand.store.keep(vec![Record::Doubted(doubted)]).unwrap();
    thailand.note_doubted(thailand.directory().hash());
    assert_eq!((thailand.judge_doubted().unwrap(), state(&thailand, &packet)), (0, "pending".to_owned()));
    let now_ms = clock::now_ms();
    thailand.compare_clocks(now_ms, now_ms);
    assert_eq!((thailand.judge_doubted().unwrap(), state(&thailand, &packet)), (1, "delivered".to_owned()));
}

#[test]
fn a_call_looks_at_a_bounded_number_and_the_next_one_goes_on() {
    let mut region = Region::new();
    let thailand = region.desk("TH");
    let packet = packet(&thailand);
    let said = statement(&region, &packet, Outcome::Acceptance);
    let next = rotated(&mut region);
    // Forged by Indonesia: never believed.
    assert_eq!(hear(&thailand, told(&region, "ID", &said, 12)).len(), 12);
    assert_eq!(hear(&thailand, told(&region, "KH", &said, 1)).len(), 1);
    take(&region, &thailand, &next);
    assert_eq!((thailand.judge_doubted().unwrap(), state(&thailand, &packet)), (0, "pending".to_owned()));
    assert_eq!((thailand.judge_doubted().unwrap(), state(&thailand, &packet)), (1, "delivered".to_owned()));
    assert_eq!(thailand.store.state().tally().doubted(0, 100).len(), 12);
    let before = kept(&thailand);
    assert_eq!(thailand.judge_doubted().unwrap(), 0);
    assert_eq!(kept(&thailand), before);
}

#[test]
fn whoever_has_what_was_denied_is_found_also_when_the_evidence_is_believed_late() {
    let mut region = Region::new();
    let thailand = region.desk("TH");
    let packet = packet(&thailand);
    let mut events = submission_events(&packet);
    events[1].0 = EventType::Denied;
    hear(&thailand, vec![(FrameType::Receipt, region.receipt("TH", &packet.header, &events))]);
    let said = statement(&region, &packet, Outcome::Acceptance);
    let next = rotated(&mut region);
    hear(&thailand, told(&region, "KH", &said, 1));
    let findings = |desk: &Desk| desk.store.state().findings().all().count();
    assert_eq!(findings(&thailand), 0);
    take(&region, &thailand, &next);
    assert_eq!((thailand.judge_doubted().unwrap(), findings(&thailand)), (1, 1));
}

/// Flips a bit of `bytes` wherever a file below the folder holds them; how often.
fn damage(folder: &std::path::Path, bytes: &[u8]) -> usize {
    let mut found = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found += damage(&path, bytes);
            continue;
        }
        let mut held = std::fs::read(&path).unwrap();
        if let Some(at) = held.windows(bytes.len()).position(|part| part == bytes) {
            held[at] ^= 1;
            // In place: the node has the file open.
            let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, &held[at..=at], at as u64).unwrap();
            found += 1;
        }
    }
    found
}

#[test]
fn doubted_evidence_that_cannot_be_read_stops_none_behind_it() {
    let mut region = Region::new();
    let thailand = region.desk("TH");
    let packet = packet(&thailand);
    let said = statement(&region, &packet, Outcome::Acceptance);
    let next = rotated(&mut region);
    let forged = told(&region, "ID", &said, 1);
    let EvidenceDelivery { evidence, .. } = canonical::decode(&forged[0].1, limits::FRAME_BYTES_MAX).unwrap();
    assert_eq!(hear(&thailand, forged).len(), 1);
    assert_eq!(hear(&thailand, told(&region, "KH", &said, 1)).len(), 1);
    assert_eq!(damage(&region.path("TH"), &evidence), 1);
    let first = thailand.store.state().tally().doubted(0, 1)[0];
    assert!(thailand.store.read(first).is_err());
    take(&region, &thailand, &next);
    assert_eq!((thailand.judge_doubted().unwrap(), state(&thailand, &packet)), (1, "delivered".to_owned()));
}
