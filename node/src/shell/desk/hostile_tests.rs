//! What a hostile broker, or a stranger through it, may try.

use bytes::Bytes;
use lintas_config::os_entropy;
use lintas_proto::{
    canonical,
    evidence::{Evidence, sign_evidence},
    frame::FrameType,
    limits,
    schema::{Acknowledgement, EvidenceDelivery, Outcome, Reason, Stage, Submission, UnitRef},
};

use super::*;
use crate::testing::{AMBER, REGION, Region, core, digest, draft};

/// Seals a packet from Thailand to Cambodia.
fn packet(desk: &Desk) -> Submission {
    desk.send(&draft(&["KH/KH-AHT"], "t", AMBER, "NONE"), &[], &[], None, &mut os_entropy()).unwrap();
    let next = desk.next_submission().unwrap().unwrap();
    canonical::decode(&next.bytes, limits::FRAME_BYTES_MAX).unwrap()
}

fn hear(desk: &Desk, frames: Vec<(FrameType, Bytes)>) -> Vec<Acknowledgement> {
    let heard = frames.into_iter().map(|(kind, payload)| Heard { kind, payload }).collect();
    desk.settle(desk.judge(heard).unwrap()).unwrap().acknowledgements
}

fn unit(agency: &str, unit: &str) -> UnitRef {
    UnitRef { agency: agency.to_owned(), unit: unit.to_owned() }
}

/// Cambodia says that it has a packet, or that it failed.
fn statement(region: &Region, packet: &Submission, outcome: Outcome) -> Evidence {
    let accepted = outcome == Outcome::Acceptance;
    Evidence {
        region: REGION.to_owned(),
        stage: Stage::Delivery,
        outcome,
        reason: if accepted { Reason::Accepted } else { Reason::Malformed },
        text: String::new(),
        packet_id: core(&packet.header).packet_id,
        header_digest: digest(packet),
        actor: unit("KH", "KH-AHT"),
        recipient: Some(unit("KH", "KH-AHT")),
        time_ms: clock::now_ms(),
        leaf: None,
        policy_id: String::new(),
        directory_hash: *region.directory().hash(),
    }
}

/// Statements that differ in their time, signed by an agency, as deliveries.
fn told(region: &Region, signer: &str, said: &Evidence, count: u64) -> Vec<(FrameType, Bytes)> {
    let said: Vec<Evidence> =
        (0..count).map(|more| Evidence { time_ms: said.time_ms + more, ..said.clone() }).collect();
    let signed = sign_evidence(&said, &region.packet_key(signer)).unwrap();
    let frame = |(queue_sequence, signed)| {
        let delivery = EvidenceDelivery { queue_sequence, evidence: canonical::encode(signed) };
        (FrameType::Evidence, canonical::encode(&delivery))
    };
    (1..).zip(&signed).map(frame).collect()
}

/// Bytes of the records kept.
fn kept(desk: &Desk) -> usize {
    let mut count = 0;
    while desk.store.read(count as u64 + 1).is_ok() {
        count += 1;
    }
    count
}

#[test]
fn evidence_that_is_not_believed_holds_nothing_up_and_fills_nothing() {
    let region = Region::new();
    let thailand = region.desk("TH");
    let packet = packet(&thailand);
    let id = core(&packet.header).packet_id.to_string();
    let before = kept(&thailand);
    let said = statement(&region, &packet, Outcome::Acceptance);
    // Signed by Indonesia in the name of Cambodia.
    let forged = told(&region, "ID", &said, 64);
    assert_eq!(hear(&thailand, forged.clone()).len(), 64);
    assert_eq!(hear(&thailand, forged).len(), 64);
    assert_eq!(kept(&thailand), before + 16);
    assert_eq!(thailand.standing(&id).unwrap().recipients[0].state, "pending");
    assert!(thailand.link().trouble.contains("not believed"));
    // About packets that were never sent, forged or not.
    let other = Evidence { header_digest: [9; 32], ..said.clone() };
    for signer in ["ID", "KH"] {
        assert_eq!(hear(&thailand, told(&region, signer, &other, 3)).len(), 3);
    }
    assert_eq!(kept(&thailand), before + 16);
    drop(thailand);
    let thailand = region.desk("TH");
    assert_eq!(hear(&thailand, told(&region, "ID", &said, 1)).len(), 1);
    assert_eq!(kept(&thailand), before + 16);
    assert_eq!(hear(&thailand, told(&region, "KH", &said, 1)).len(), 1);
    assert_eq!(thailand.standing(&id).unwrap().recipients[0].state, "delivered");
}

#[test]
fn no_number_of_failures_fills_the_disk_or_hides_that_it_arrived() {
    let region = Region::new();
    let thailand = region.desk("TH");
    let packet = packet(&thailand);
    let id = core(&packet.header).packet_id.to_string();
    let before = kept(&thailand);
    let failed = statement(&region, &packet, Outcome::Failure);
    assert_eq!(hear(&thailand, told(&region, "KH", &failed, 20)).len(), 20);
    assert_eq!(kept(&thailand), before + 3);
    let arrived = statement(&region, &packet, Outcome::Acceptance);
    assert_eq!(hear(&thailand, told(&region, "KH", &arrived, 5)).len(), 5);
    assert_eq!(kept(&thailand), before + 4);
    assert_eq!(thailand.standing(&id).unwrap().recipients[0].state, "delivered");
}
