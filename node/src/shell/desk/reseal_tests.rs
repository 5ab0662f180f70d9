//! Packets that the broker refused because keys had moved.

use std::fs;

use bytes::Bytes;
use lintas_config::{Directory, os_entropy};
use lintas_proto::{
    canonical,
    envelope::body,
    evidence::{Evidence, sign_evidence},
    frame::FrameType,
    id::hex,
    schema::{Outcome, Reason, Refusal, Stage, Submission, UnitRef},
};

use super::*;
use crate::{
    core::view::{OutboxEntry, Standing},
    testing::{AMBER, BROKER, REGION, Region, core, digest, draft},
};

fn next(desk: &Desk) -> Submission {
    let next = desk.next_submission().unwrap().unwrap();
    canonical::decode(&next.bytes, lintas_proto::limits::FRAME_BYTES_MAX).unwrap()
}

/// The broker refuses a packet for good, and signs it.
pub(super) fn refuse(region: &Region, desk: &Desk, packet: &Submission, reason: Reason) {
    let statement = Evidence {
        region: REGION.to_owned(),
        stage: Stage::Submission,
        outcome: Outcome::Rejection,
        reason,
        text: "Keys have moved.".to_owned(),
        packet_id: core(&packet.header).packet_id,
        header_digest: digest(packet),
        actor: UnitRef { agency: BROKER.to_owned(), unit: String::new() },
        recipient: None,
        time_ms: clock::now_ms(),
        leaf: None,
        policy_id: String::new(),
        directory_hash: *region.directory().hash(),
    };
    let refusal = Refusal {
        packet_id: Bytes::copy_from_slice(core(&packet.header).packet_id.as_bytes()),
        header_digest: Bytes::copy_from_slice(&digest(packet)),
        reason: reason as i32,
        text: "Keys have moved.".to_owned(),
        retry: false,
        evidence: Some(sign_evidence(&[statement], &region.receipt_key()).unwrap().remove(0)),
    };
    let heard = Heard { kind: FrameType::Refusal, payload: canonical::encode(&refusal) };
    desk.settle(desk.judge(vec![heard])).unwrap();
}

fn entry(desk: &Desk, id: &str) -> OutboxEntry {
    desk.standing(id).unwrap()
}

fn take(desk: &Desk, next: &Directory) {
    assert!(desk.take_update(&Region::update(&desk.directory(), &[next])).unwrap());
    assert!(!desk.seal_again().unwrap());
}

#[test]
fn a_packet_for_a_key_that_moved_is_sealed_again_with_its_attachments() {
    let mut region = Region::new();
    let thailand = region.desk("TH");
    let file = region.root.path().join("list.pdf");
    fs::write(&file, vec![7; 200_000]).unwrap();
    let text = draft(&["KH/KH-AHT"], "trawler", AMBER, "NONE");
    let kept = thailand.send(&text, &[file], &[], None, &How::default(), &mut os_entropy()).unwrap();
    let old = next(&thailand);
    region.rotate("KH");
    let second = region.next(|_| {});
    let second = region.open(&second);
    refuse(&region, &thailand, &old, Reason::Reseal);
    // Nothing is final before there is another one; after a crash the old one is submitted again.
    assert!(matches!(entry(&thailand, &kept.packet_id).standing, Standing::Waiting { why: Some(_), .. }));
    drop(thailand);
    let thailand = region.desk("TH");
    assert_eq!(digest(&next(&thailand)), digest(&old));
    refuse(&region, &thailand, &old, Reason::Reseal);
    // Meanwhile it does not go again, or both could be taken. A session that ends forgets the refusal.
    assert!(thailand.next_submission().unwrap().is_err());
    thailand.disconnected();
    assert!(!thailand.seal_again().unwrap());
    assert_eq!(digest(&next(&thailand)), digest(&old));
    refuse(&region, &thailand, &old, Reason::Reseal);
    take(&thailand, &second);
    let before = entry(&thailand, &kept.packet_id);
    assert!(matches!(before.standing, Standing::Refused { signed: true, .. }));
    let id = before.replaced_by.unwrap();
    assert_eq!(entry(&thailand, &id).in_place_of.as_ref(), Some(&kept.packet_id));
    assert_eq!(thailand.status().waiting, 1);

    // The same words, under the new key, until the same hour.
    let new = next(&thailand);
    assert_eq!(core(&new.header).packet_id.to_string(), id);
    assert_eq!(core(&new.header).deliver_by_ms, core(&old.header).deliver_by_ms);
    assert_ne!(new.openings[0].enc_key_id, old.openings[0].enc_key_id);
    let view = thailand.show(&id).unwrap();
    assert_eq!(view.body["title"][0]["text"], "trawler");
    let to = region.root.path().join("export");
    fs::create_dir(&to).unwrap();
    let exported = thailand.export(&id, &to).unwrap();
    assert_eq!(exported[0].attachment.claimed_name, "list.pdf");
    assert_eq!(fs::read(to.join("1.bin")).unwrap(), vec![7; 200_000]);
    // Its reader learns which packet it stands for, should that come too.
    let sequence = thailand.store.state().own(&digest(&new)).unwrap().0;
    let open = thailand.open_sent(sequence).unwrap();
    assert_eq!(hex(&open.body.supersedes), hex(&digest(&old)));
    assert_eq!(open.body.format, body::FORMAT);
    drop(thailand);
    let thailand = region.desk("TH");
    assert_eq!(entry(&thailand, &kept.packet_id).replaced_by, Some(id));
    assert_eq!(thailand.status().warnings, [""; 0]);
}

#[test]
fn sealing_again_ends() {
    let mut region = Region::new();
    let thailand = region.desk("TH");
    let text = draft(&["KH/KH-AHT"], "trawler", AMBER, "NONE");
    let kept = thailand.send(&text, &[], &[], None, &How::default(), &mut os_entropy()).unwrap();
    let mut id = kept.packet_id;
    for _ in 0..5 {
        let packet = next(&thailand);
        refuse(&region, &thailand, &packet, Reason::StaleDirectory);
        let following = region.next(|_| {});
        take(&thailand, &region.open(&following));
        id = entry(&thailand, &id).replaced_by.unwrap();
    }
    refuse(&region, &thailand, &next(&thailand), Reason::StaleDirectory);
    assert!(matches!(entry(&thailand, &id).standing, Standing::Refused { .. }));
    assert_eq!(entry(&thailand, &id).replaced_by, None);

    // Nor without a newer directory or key, nor when the preflight says no by now.
    let kept = thailand.send(&text, &[], &[], None, &How::default(), &mut os_entropy()).unwrap();
    refuse(&region, &thailand, &next(&thailand), Reason::Reseal);
    thailand.seal_again().unwrap();
    assert!(matches!(entry(&thailand, &kept.packet_id).standing, Standing::Refused { .. }));
    let kept = thailand.send(&text, &[], &[], None, &How::default(), &mut os_entropy()).unwrap();
    refuse(&region, &thailand, &next(&thailand), Reason::Reseal);
    let following = region.next(|roster| {
        let at = roster.members.iter().position(|member| member.agency == "KH").unwrap();
        roster.members[at].status = lintas_proto::schema::MemberStatus::Suspended as i32;
    });
    take(&thailand, &region.open(&following));
    let last = entry(&thailand, &kept.packet_id);
    assert!(matches!(last.standing, Standing::Refused { .. }) && last.replaced_by.is_none());
    assert!(thailand.link().trouble.contains("KH is suspended"), "{}", thailand.link().trouble);
    assert_eq!(thailand.status().waiting, 0);
}

#[test]
fn a_packet_is_submitted_again_when_it_was_the_broker_that_had_to_catch_up() {
    let region = Region::new();
    let thailand = region.desk("TH");
    let text = draft(&["KH/KH-AHT"], "trawler", AMBER, "NONE");
    let kept = thailand.send(&text, &[], &[], None, &How::default(), &mut os_entropy()).unwrap();
    let packet = next(&thailand);
    refuse(&region, &thailand, &packet, Reason::StaleDirectory);
    // The broker, put back from a backup, was brought the newer keysets, and has the directory of this node now.
    assert!(!thailand.seal_again().unwrap());
    assert!(matches!(entry(&thailand, &kept.packet_id).standing, Standing::Waiting { why: Some(_), .. }));
    let until_ms = thailand.next_submission().unwrap().err().flatten();
    assert!(until_ms.is_some_and(|ms| ms > clock::now_ms()), "after a pause, however often it is refused");
}

#[test]
fn attachments_are_not_sealed_again_without_room_or_while_the_node_is_being_locked() {
    let mut region = Region::new();
    drop(region.desk("TH"));
    let settings = region.path("TH").join("node.toml");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, format!("{text}attachments_mib_max = 1\n")).unwrap();
    let file = region.root.path().join("list.pdf");
    fs::write(&file, vec![7; 600_000]).unwrap();
    let thailand = region.desk("TH");
    let text_ = draft(&["KH/KH-AHT"], "trawler", AMBER, "NONE");
    let kept = thailand.send(&text_, &[file], &[], None, &How::default(), &mut os_entropy()).unwrap();
    region.rotate("KH");
    let second = region.next(|_| {});
    let second = region.open(&second);
    assert!(thailand.take_update(&Region::update(&thailand.directory(), &[&second])).unwrap());
    let old = next(&thailand);
    let blobs = || fs::read_dir(region.path("TH").join("blobs/out")).unwrap().count();
    refuse(&region, &thailand, &old, Reason::Reseal);
    assert!(thailand.seal_again().unwrap(), "it waits");
    assert!(thailand.link().trouble.contains("attachments_mib_max"), "{}", thailand.link().trouble);
    drop(thailand);
    fs::write(&settings, text).unwrap();
    let thailand = region.desk("TH");
    let old = next(&thailand);
    refuse(&region, &thailand, &old, Reason::Reseal);
    thailand.stop_long_work();
    assert!(thailand.seal_again().unwrap(), "it waits");
    assert!(thailand.link().trouble.contains("stopped"), "{}", thailand.link().trouble);
    assert_eq!(blobs(), 1);
    assert!(matches!(entry(&thailand, &kept.packet_id).standing, Standing::Waiting { .. }));
}

#[test]
fn a_packet_whose_sealed_attachment_is_damaged_stays_refused() {
    let mut region = Region::new();
    let thailand = region.desk("TH");
    let file = region.root.path().join("list.pdf");
    fs::write(&file, vec![7; 100_000]).unwrap();
    let text = draft(&["KH/KH-AHT"], "trawler", AMBER, "NONE");
    let kept = thailand.send(&text, &[file], &[], None, &How::default(), &mut os_entropy()).unwrap();
    let old = next(&thailand);
    let blob = fs::read_dir(region.path("TH").join("blobs/out")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&blob).unwrap();
    bytes[50_000] ^= 1;
    fs::write(&blob, bytes).unwrap();
    region.rotate("KH");
    let second = region.next(|_| {});
    refuse(&region, &thailand, &old, Reason::Reseal);
    take(&thailand, &region.open(&second));
    assert!(matches!(entry(&thailand, &kept.packet_id).standing, Standing::Refused { .. }));
    assert!(thailand.link().trouble.contains("attachment 1"), "{}", thailand.link().trouble);
    assert!(
        fs::read_dir(region.path("TH").join("blobs/out")).unwrap().all(|found| found.unwrap().path() == blob)
    );
}

#[test]
fn a_packet_that_the_broker_takes_after_all_is_not_replaced() {
    let mut region = Region::new();
    let thailand = region.desk("TH");
    let text = draft(&["KH/KH-AHT"], "trawler", AMBER, "NONE");
    let kept = thailand.send(&text, &[], &[], None, &How::default(), &mut os_entropy()).unwrap();
    let old = next(&thailand);
    refuse(&region, &thailand, &old, Reason::Reseal);
    let heard = Heard { kind: FrameType::Receipt, payload: region.submitted("TH", &old) };
    thailand.settle(thailand.judge(vec![heard])).unwrap();
    region.rotate("KH");
    let second = region.next(|_| {});
    take(&thailand, &region.open(&second));
    let entry = entry(&thailand, &kept.packet_id);
    assert!(matches!(entry.standing, Standing::Accepted { .. }) && entry.replaced_by.is_none());
}
