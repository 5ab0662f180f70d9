//! Packets that a person must look at before they are released.

use std::fs;

use lintas_config::os_entropy;
use lintas_proto::{
    canonical,
    frame::FrameType,
    limits,
    schema::{Reason, Submission},
};

use super::{reseal_tests::refuse, *};
use crate::{
    core::{
        records::Record,
        view::{Kept, Standing},
    },
    testing::{AMBER, OPEN, Region, core, digest, draft, submission_events},
};

const REVIEW_ALERTS: &str = r#"
@id("all")
@reason("for tests")
permit (principal, action == Lintas::Action::"Release", resource);

@id("alerts")
@reason("alerts are looked at first")
permit (principal, action == Lintas::Action::"Review", resource)
when { resource.kind == Lintas::Kind::"ALERT" };
"#;

const CLOSED: &str = r#"
@id("all")
@reason("for tests")
permit (principal, action == Lintas::Action::"Release", resource);

@id("not-to-kh")
@reason("the agreement with KH has ended")
forbid (principal in Lintas::Agency::"KH", action == Lintas::Action::"Release", resource);
"#;

const BY: &str = "Pol. Col. Somchai, Release Office";

/// An alert with words behind H3.
fn h3(to: &[&str]) -> String {
    let words =
        r#""handlingRestriction": [{ "language": "en", "text": "Only Major Dara may see it" }], "urgency""#;
    draft(to, "trawler", AMBER, "NONE").replace("CODE_H0", "CODE_H3").replace(r#""urgency""#, words)
}

fn send(desk: &Desk, text: &str, how: &How) -> Result<Kept, Failure> {
    desk.send(text, &[], &[], None, how, &mut os_entropy())
}

fn decide(desk: &Desk, id: &str, released: bool) -> Result<crate::core::view::Reviewed, Failure> {
    desk.review(id, Verdict { released, by: BY.to_owned(), note: "names a source".to_owned() })
}

fn standing(desk: &Desk, id: &str) -> Standing {
    desk.standing(id).unwrap().standing
}

/// The state as programs read it.
fn state(desk: &Desk, id: &str) -> String {
    let entry = serde_json::to_value(desk.standing(id).unwrap()).unwrap();
    entry["state"].as_str().unwrap().to_owned()
}

fn next(desk: &Desk) -> Option<Submission> {
    let next = desk.next_submission().unwrap().ok()?;
    Some(canonical::decode(&next.bytes, limits::FRAME_BYTES_MAX).unwrap())
}

#[test]
fn a_packet_with_h3_waits_for_a_person_and_goes_when_it_is_released() {
    let region = Region::new();
    let desk = region.desk("TH");
    let kept = send(&desk, &h3(&["KH/KH-AHT"]), &How::default()).unwrap();
    assert_eq!(kept.review_by, ["baseline/review-h3"]);
    assert_eq!(state(&desk, &kept.packet_id), "awaiting-review");
    assert!(next(&desk).is_none(), "the courier never takes it");
    drop(desk);
    // Nor after a restart, nor in a new session.
    let desk = region.desk("TH");
    desk.disconnected();
    assert!(next(&desk).is_none());
    let waiting = desk.reviews().unwrap();
    assert_eq!(waiting[0].packet.packet_id, kept.packet_id);
    assert_eq!(waiting[0].demanded_by, ["baseline/review-h3"]);
    assert!(
        waiting[0].restrictions[0].contains("Only Major Dara may see it"),
        "{:?}",
        waiting[0].restrictions
    );
    assert_eq!((desk.status().awaiting_review, desk.status().waiting), (1, 0));

    let reviewed = decide(&desk, &kept.packet_id, true).unwrap();
    let id = reviewed.replaced_by.unwrap();
    assert_eq!(state(&desk, &kept.packet_id), "released-in-review");
    drop(desk);
    let desk = region.desk("TH");
    let entry = desk.standing(&id).unwrap();
    assert_eq!((entry.in_place_of, entry.reviewed_by), (Some(kept.packet_id.clone()), Some(BY.to_owned())));
    let packet = next(&desk).unwrap();
    assert!(core(&packet.header).reviewed && core(&packet.header).packet_id.to_string() == id);
    assert_eq!(core(&packet.header).deliver_by_ms, kept.deliver_by_ms);
    // The unreviewed one never goes, and is decided about once.
    hear(&region, &desk, &packet);
    assert!(next(&desk).is_none());
    let again = decide(&desk, &kept.packet_id, false).unwrap_err();
    assert!(again.message.contains("has released it already"), "{again}");
    assert!(decide(&desk, &id, true).unwrap_err().message.contains("does not wait for review"));
    assert_eq!(desk.reviews().unwrap().len(), 0);
}

/// The broker takes it.
fn hear(region: &Region, desk: &Desk, packet: &Submission) {
    let heard = Heard { kind: FrameType::Receipt, payload: region.submitted("TH", packet) };
    desk.settle(desk.judge(vec![heard])).unwrap();
}

fn purge(desk: &Desk, id: &str) -> Result<Reply, Failure> {
    desk.answer(Request::Purge { ids: vec![id.to_owned()], before_ms: None, expired: false, confirmed: true })
}

#[test]
fn a_packet_that_is_refused_in_review_is_never_sent() {
    let region = Region::new();
    let desk = region.desk("TH");
    let kept = send(&desk, &h3(&["KH/KH-AHT"]), &How::default()).unwrap();
    assert_eq!(purge(&desk, &kept.packet_id).unwrap_err().code, Code::NoAnswer, "it may still be released");
    decide(&desk, &kept.packet_id, false).unwrap();
    drop(desk);
    let desk = region.desk("TH");
    assert_eq!(state(&desk, &kept.packet_id), "refused-in-review");
    let Standing::RefusedInReview { by, note, .. } = standing(&desk, &kept.packet_id) else {
        panic!("another")
    };
    assert_eq!((by.as_str(), note.as_str()), (BY, "names a source"));
    assert!(next(&desk).is_none() && decide(&desk, &kept.packet_id, true).is_err());
    assert_eq!((desk.status().awaiting_review, desk.status().waiting), (0, 0));
    purge(&desk, &kept.packet_id).unwrap();
}

#[test]
fn a_sender_may_record_the_review_at_once_and_must_say_who() {
    let region = Region::new();
    let desk = region.desk("TH");
    let reviewed = |by: &str| How { reviewed: Some(by.to_owned()), ..How::default() };
    for nobody in ["", " , ", "Somchai", "Somchai,", "a\nb, c"] {
        assert_eq!(
            send(&desk, &h3(&["KH/KH-AHT"]), &reviewed(nobody)).unwrap_err().code,
            Code::Usage,
            "{nobody}"
        );
    }
    assert_eq!(desk.status().sent, 0);
    let kept = send(&desk, &h3(&["KH/KH-AHT"]), &reviewed(BY)).unwrap();
    assert_eq!(kept.review_by, [""; 0]);
    drop(desk);
    let desk = region.desk("TH");
    assert!(core(&next(&desk).unwrap().header).reviewed);
    assert_eq!(desk.standing(&kept.packet_id).unwrap().reviewed_by.as_deref(), Some(BY));
}

#[test]
fn attachments_outlive_the_review_and_are_sealed_again_with_it() {
    let region = Region::new();
    let desk = region.desk("TH");
    let file = region.root.path().join("list.pdf");
    fs::write(&file, vec![7; 200_000]).unwrap();
    let kept =
        desk.send(&h3(&["KH/KH-AHT"]), &[file], &[], None, &How::default(), &mut os_entropy()).unwrap();
    drop(desk);
    let desk = region.desk("TH");
    desk.tidy();
    assert_eq!(desk.status().warnings, [""; 0]);
    assert!(matches!(desk.next_work().unwrap(), Work::Wait(_)), "its attachments do not go either");
    let id = decide(&desk, &kept.packet_id, true).unwrap().replaced_by.unwrap();
    let to = region.root.path().join("export");
    fs::create_dir(&to).unwrap();
    // H3 is not written into files without a yes.
    assert_eq!(desk.export(&id, &to).unwrap_err().code, Code::Usage);
    assert_eq!(fs::read_dir(&to).unwrap().count(), 0);
    desk.export_telling(&id, &to, true, &crate::shell::progress::nobody).unwrap();
    assert_eq!(fs::read(to.join("1.bin")).unwrap(), vec![7; 200_000]);
    // What was sealed for the one that never goes is gone.
    assert_eq!(fs::read_dir(desk.folder().path("blobs/out")).unwrap().count(), 1);
    drop(desk);
    let desk = region.desk("TH");
    assert!(matches!(desk.next_work().unwrap(), Work::Upload(_)));
    assert_eq!(desk.status().warnings, [""; 0]);
}

#[test]
fn nobody_can_release_what_the_policies_of_today_deny_or_whose_time_is_over() {
    let region = Region::new();
    let desk = region.desk("TH");
    let kept = send(&desk, &h3(&["KH/KH-AHT"]), &How::default()).unwrap();
    region.give(&desk, CLOSED);
    let denied = decide(&desk, &kept.packet_id, true).unwrap_err();
    assert!(denied.message.contains("the agreement with KH has ended (policy TH/not-to-kh)"), "{denied}");
    assert_eq!(state(&desk, &kept.packet_id), "awaiting-review", "nothing was decided");
    region.give(&desk, OPEN);
    let sequence = desk.store.state().awaiting_review(0).next().unwrap().0;
    let packet = desk.store.state().sent_in(sequence).unwrap().clone();
    let late = packet.deliver_by_ms + 1;
    assert_eq!(desk.store.state().awaiting_review(late).count(), 0);
    assert!(packet.is_open(late) && !packet.is_open(late + limits::CLOCK_SKEW_MS_MAX));
    assert!(review::waits(&packet, late).unwrap_err().message.contains("before anybody had reviewed it"));
    assert!(matches!(standing::reviewed(&packet, late), Standing::ReviewExpired { .. }));
    decide(&desk, &kept.packet_id, true).unwrap();
}

#[test]
fn a_broker_that_claims_to_have_what_waits_for_review_is_not_believed() {
    let region = Region::new();
    let desk = region.desk("TH");
    let kept = send(&desk, &h3(&["KH/KH-AHT"]), &How::default()).unwrap();
    let sequence = desk.store.state().awaiting_review(0).next().unwrap().0;
    let Record::Outgoing(stored) = desk.store.read(sequence).unwrap() else { panic!("another record") };
    let packet: Submission = canonical::decode(&stored.submission, limits::FRAME_BYTES_MAX).unwrap();
    hear(&region, &desk, &packet);
    assert!(
        desk.link().trouble.contains("a receipt of the broker is not believed"),
        "{}",
        desk.link().trouble
    );
    for reason in [Reason::Reseal, Reason::StaleDirectory, Reason::Policy] {
        refuse(&region, &desk, &packet, reason);
    }
    desk.seal_again().unwrap();
    desk.disconnected();
    assert_eq!(state(&desk, &kept.packet_id), "awaiting-review");
    assert!(next(&desk).is_none());
}

#[test]
fn a_packet_that_is_sealed_again_waits_if_a_policy_now_wants_it_reviewed() {
    let mut region = Region::new();
    let desk = region.desk("TH");
    let kept = send(&desk, &draft(&["KH/KH-AHT"], "t", AMBER, "NONE"), &How::default()).unwrap();
    let old = next(&desk).unwrap();
    region.rotate("KH");
    let second = region.next(|_| {});
    let second = region.open(&second);
    refuse(&region, &desk, &old, Reason::Reseal);
    assert!(desk.take_update(&Region::update(&desk.directory(), &[&second])).unwrap());
    region.give(&desk, REVIEW_ALERTS);
    desk.seal_again().unwrap();
    let id = desk.standing(&kept.packet_id).unwrap().replaced_by.unwrap();
    assert_eq!(state(&desk, &id), "awaiting-review");
    assert!(next(&desk).is_none());
    assert_eq!(desk.reviews().unwrap()[0].demanded_by, ["TH/alerts"]);
    // Once reviewed, it stays so when keys move again.
    let third = decide(&desk, &id, true).unwrap().replaced_by.unwrap();
    let packet = next(&desk).unwrap();
    region.rotate("KH");
    let newer = region.next(|_| {});
    let newer = region.open(&newer);
    refuse(&region, &desk, &packet, Reason::Reseal);
    assert!(desk.take_update(&Region::update(&desk.directory(), &[&newer])).unwrap());
    desk.seal_again().unwrap();
    let last = desk.standing(&third).unwrap().replaced_by.unwrap();
    let packet = next(&desk).unwrap();
    assert!(core(&packet.header).reviewed && core(&packet.header).packet_id.to_string() == last);
    assert_eq!(desk.standing(&last).unwrap().reviewed_by.as_deref(), Some(BY));
    assert_eq!(submission_events(&packet).len(), 2);
    assert_ne!(digest(&packet), digest(&old));
}

#[test]
fn a_full_disk_releases_nothing_and_decides_nothing() {
    let region = Region::new();
    let desk = region.desk("TH");
    let file = region.root.path().join("list.pdf");
    fs::write(&file, vec![7; 1_000]).unwrap();
    let large = h3(&["KH/KH-AHT"]).replace("trawler", &"x".repeat(900_000));
    let kept = desk.send(&large, &[file], &[], None, &How::default(), &mut os_entropy()).unwrap();
    let full = desk.folder().path("full");
    fs::write(&full, "").unwrap();
    let mut more = 0;
    // Until the open segment has no room either.
    while send(&desk, &large, &How::default()).is_ok() {
        more += 1;
        assert!(more < 100, "the disk is not full");
    }
    assert_eq!(decide(&desk, &kept.packet_id, true).unwrap_err().code, Code::Storage);
    assert_eq!(state(&desk, &kept.packet_id), "awaiting-review");
    assert_eq!(fs::read_dir(desk.folder().path("blobs/out")).unwrap().count(), 1);
    fs::remove_file(&full).unwrap();
    decide(&desk, &kept.packet_id, true).unwrap();
}
