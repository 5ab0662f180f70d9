//! Evidence of one packet, made by a node and verified by strangers; and packets whose log has ended.

use lintas_proto::{
    evidence::{Evidence, sign_evidence},
    frame::FrameType,
    id::sha256,
    limits,
    receipt::Receipt,
    schema::{
        EndedLog, EventType, EvidenceDelivery, EvidenceFile, LeafProof, Outcome, Reason, SignedReceipt,
        Stage, Submission, UnitRef,
    },
};

use super::*;
use crate::{
    core::{
        log::evidence_file::{self, Anchor},
        state::Answer,
    },
    shell::follow::Follower,
    testing::{AMBER, BROKER, REGION, Region, core, draft, log::FakeLog, submission_events},
};
use bytes::Bytes;
use lintas_proto::canonical;

fn unit() -> UnitRef {
    UnitRef { agency: "KH".to_owned(), unit: "KH-AHT".to_owned() }
}

fn hear(desk: &Desk, kind: FrameType, payload: Bytes) {
    desk.settle(desk.judge(vec![Heard { kind, payload }])).unwrap();
}

/// Thailand sends to Cambodia; the broker's receipt, from that place on.
fn sent(region: &Region, desk: &Desk, origin: &str, first: u64) -> (Submission, Bytes) {
    let (attach, to, how) = (Vec::new(), Vec::new(), How::default());
    let draft = draft(&["KH/KH-AHT"], "secret-canary", AMBER, "NONE");
    desk.answer(Request::Send { draft, attach, to, from: None, how }).unwrap();
    let Work::Submit(next) = desk.next_work().unwrap() else { panic!("nothing to submit") };
    let packet: Submission = canonical::decode(&next.bytes, limits::FRAME_BYTES_MAX).unwrap();
    let receipt = region.receipt_in((origin, first), "TH", &packet.header, &submission_events(&packet));
    hear(desk, FrameType::Receipt, receipt.clone());
    (packet, receipt)
}

/// Cambodia's word that it has it, with the leaf of its own log.
fn acknowledge(region: &Region, desk: &Desk, packet: &Submission, receipt: &Bytes) {
    let signed: SignedReceipt = canonical::decode(receipt, limits::RECEIPT_BYTES_MAX).unwrap();
    let (receipt, _) = Receipt::parse(&signed.receipt).unwrap();
    let mut leaf: [u8; 58] = receipt.events[1].leaf.as_ref().try_into().unwrap();
    leaf[1] = u8::try_from(EventType::Received as i32).unwrap();
    let evidence = Evidence {
        region: REGION.to_owned(),
        stage: Stage::Delivery,
        outcome: Outcome::Acceptance,
        reason: Reason::Accepted,
        text: String::new(),
        packet_id: core(&packet.header).packet_id,
        header_digest: sha256(&[&packet.header]),
        actor: unit(),
        recipient: Some(unit()),
        time_ms: clock::now_ms(),
        leaf: Some(leaf),
        policy_id: String::new(),
        directory_hash: *region.directory().hash(),
    };
    let signed = sign_evidence(&[evidence], &region.packet_key("KH")).unwrap();
    let delivery = EvidenceDelivery { queue_sequence: 1, evidence: canonical::encode(&signed[0]) };
    hear(desk, FrameType::Evidence, canonical::encode(&delivery));
}

/// A witnessed packet of Thailand, and the file about it.
async fn witnessed() -> (Region, Arc<Desk>, String, Bytes) {
    let region = Region::new();
    let (desk, mut log) = (Arc::new(region.desk("TH")), FakeLog::new(&region, "TH"));
    let now = clock::now_ms();
    log.end_epoch(now - 10_000);
    let (packet, receipt) = sent(&region, &desk, &log.sub, 0);
    acknowledge(&region, &desk, &packet, &receipt);
    log.log(&receipt);
    log.end_epoch(now + 5_000);
    log.publish(3);
    assert_eq!(Follower::new(&desk).round(&log).await.unwrap(), 1);
    let id = core(&packet.header).packet_id.to_string();
    let out = region.root.path().join("evidence.bin");
    desk.answer(Request::Evidence { id: id.clone(), out: Some(out.clone()) }).unwrap();
    (region, desk, id, std::fs::read(out).unwrap().into())
}

#[tokio::test]
async fn a_file_convinces_whoever_has_the_roster_or_the_bootstrap_file() {
    let (region, desk, id, bytes) = witnessed().await;
    let Reply::Evidence(here) = desk.answer(Request::Evidence { id, out: None }).unwrap() else {
        panic!("another answer")
    };
    let directory = region.directory();
    let there = evidence_file::verify(&bytes, &Anchor::Directory(&directory)).unwrap();
    assert_eq!(*here, there);
    assert_eq!(there, evidence_file::verify(&bytes, &Anchor::Bootstrap(&region.bootstrap)).unwrap());
    assert_eq!((there.grade.as_str(), there.missing.as_slice()), ("witnessed", &[][..]));
    let place = there.place.as_ref().unwrap();
    assert_eq!((place.cosigned, place.needed, place.witnesses, place.epoch), (3, 2, 3, 1));
    assert_eq!(there.events[1].decided_by.as_deref(), Some("the regional baseline"));
    let said = &there.acknowledgements[0];
    assert!(said.accepted && said.by == "KH/KH-AHT" && said.leaf.contains("same event"), "{said:?}");
    assert!(!bytes.windows(13).any(|window| window == b"secret-canary"));
    // Another region's reader believes nothing of it.
    let other = Region::new();
    assert!(evidence_file::verify(&bytes, &Anchor::Bootstrap(&other.bootstrap)).is_err());
    assert!(evidence_file::verify(&bytes, &Anchor::Directory(&other.directory())).is_err());
}

#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "what a test writes need not survive a power cut")]
async fn what_is_damaged_of_the_keys_of_then_is_named() {
    let (region, desk, id, _) = witnessed().await;
    let ask = || desk.answer(Request::Evidence { id: id.clone(), out: None });
    for (folder, begins) in [("seen/keysets", "KH."), ("seen/keysets", "TH."), ("seen/rosters", "0000")] {
        let files =
            std::fs::read_dir(region.path("TH").join(folder)).unwrap().map(|entry| entry.unwrap().path());
        let is_it =
            |path: &std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(begins);
        let file = files.into_iter().find(is_it).unwrap();
        let whole = std::fs::read(&file).unwrap();
        let mut damaged = whole.clone();
        damaged[0] ^= 1;
        std::fs::write(&file, &damaged).unwrap();
        let failure = ask().unwrap_err();
        let named = format!("damaged: {folder}/{}", file.file_name().unwrap().to_str().unwrap());
        assert!(failure.code == Code::Evidence && failure.message.contains(&named), "{failure}");
        std::fs::write(&file, &whole).unwrap();
        ask().unwrap();
    }
}

#[tokio::test]
async fn a_newer_roster_of_the_reader_s_leads_back_to_the_one_of_then() {
    let (mut region, _desk, _, bytes) = witnessed().await;
    let later = region.next(|roster| roster.reads_told_after_days = 7);
    let later = region.open(&later);
    assert_eq!(evidence_file::verify(&bytes, &Anchor::Directory(&later)).unwrap().grade, "witnessed");
}

#[tokio::test]
async fn the_witnesses_of_then_count_when_others_have_taken_their_place() {
    let (mut region, _desk, _, bytes) = witnessed().await;
    let now = clock::now_ms();
    for (later_ms, grade) in [(0, "witnessed"), (limits::ATTESTED_WITHIN_MS + 60_000, "included")] {
        let other = lintas_proto::sign::SigningKey::from_seed(
            lintas_proto::sign::KeyRole::Witness,
            &zeroize::Zeroizing::new([later_ms.to_be_bytes()[7]; 32]),
        )
        .unwrap();
        // Long before the cosignatures: then these were no witnesses any more.
        let later = region.next(|roster| {
            roster.not_before_ms = now - later_ms;
            let witnesses = roster.members.iter_mut().filter(|member| !member.witness_key.is_empty());
            let mut witnesses: Vec<_> = witnesses.collect();
            witnesses.iter_mut().for_each(|member| member.witness_key.clear());
            witnesses[0].witness_key = Bytes::copy_from_slice(&other.public_key());
        });
        let view = evidence_file::verify(&bytes, &Anchor::Directory(&region.open(&later))).unwrap();
        assert_eq!(view.grade, grade, "{:?}", view.place);
    }
}

#[tokio::test]
async fn who_was_no_member_any_more_says_nothing() {
    let (mut region, _desk, _, bytes) = witnessed().await;
    let now = clock::now_ms();
    for (not_before_ms, holds) in [(now, true), (now - 3_600_000, false)] {
        let later = region.next(|roster| {
            roster.not_before_ms = not_before_ms;
            let member = roster.members.iter_mut().find(|member| member.agency == "KH").unwrap();
            member.status = lintas_proto::schema::MemberStatus::Revoked as i32;
        });
        let verified = evidence_file::verify(&bytes, &Anchor::Directory(&region.open(&later)));
        assert_eq!(verified.is_ok(), holds, "{verified:?}");
    }
}

#[tokio::test]
async fn what_lies_behind_the_end_of_its_log_is_said_to() {
    for (size, behind) in [(1, true), (2, false)] {
        let (mut region, _desk, _, bytes) = witnessed().await;
        let later = region.next(|roster| {
            let root = Bytes::copy_from_slice(&[7; 32]);
            roster.brokers[0].ended_logs.push(EndedLog { size, root });
        });
        let view = evidence_file::verify(&bytes, &Anchor::Directory(&region.open(&later))).unwrap();
        assert_eq!(view.missing.iter().any(|missing| missing.contains("has ended this log")), behind);
    }
}

/// Flips a bit somewhere in the middle.
fn flip(bytes: &Bytes) -> Bytes {
    let mut other = bytes.to_vec();
    let at = other.len() / 2;
    other[at] ^= 1;
    other.into()
}

#[tokio::test]
async fn every_class_of_field_that_is_changed_is_noticed() {
    let (region, _desk, _, bytes) = witnessed().await;
    let file: EvidenceFile = canonical::decode(&bytes, 1 << 24).unwrap();
    type Change = fn(&mut EvidenceFile);
    let changes: [(&str, Change); 20] = [
        ("format", |file| file.format = 2),
        ("header", |file| file.header = flip(&file.header)),
        ("signature", |file| file.signature = flip(&file.signature)),
        ("directory", |file| file.directory = flip(&file.directory)),
        ("no directory", |file| file.directory = Bytes::new()),
        ("roster", |file| file.rosters[0] = flip(&file.rosters[0])),
        ("receipt", |file| file.receipt = flip(&file.receipt)),
        ("evidence", |file| file.evidence[0] = flip(&file.evidence[0])),
        ("leaf", |file| file.leaves[0].leaf = flip(&file.leaves[0].leaf)),
        ("leaf index", |file| file.leaves[0].index += 1),
        ("leaf path", |file| file.leaves[0].path[0] = flip(&file.leaves[0].path[0])),
        ("leaf gone", |file| drop(file.leaves.pop())),
        ("leaf more", |file| file.leaves.push(LeafProof::default())),
        ("slot salt", |file| file.slot.as_mut().unwrap().salt = flip(&file.slot.as_ref().unwrap().salt)),
        ("slot index", |file| file.slot.as_mut().unwrap().roster_index += 1),
        ("slot size", |file| file.slot.as_mut().unwrap().size += 1),
        ("slot root", |file| file.slot.as_mut().unwrap().root = flip(&file.slot.as_ref().unwrap().root)),
        ("slot gone", |file| file.slot = None),
        ("entry", |file| file.root.as_mut().unwrap().entry = flip(&file.root.as_ref().unwrap().entry)),
        ("proof", |file| file.root.as_mut().unwrap().proof = flip(&file.root.as_ref().unwrap().proof)),
    ];
    let directory = region.directory();
    for (what, change) in changes {
        let mut other = file.clone();
        change(&mut other);
        let bytes = canonical::encode(&other);
        for anchor in [Anchor::Directory(&directory), Anchor::Bootstrap(&region.bootstrap)] {
            let verified = evidence_file::verify(&bytes, &anchor);
            // A cosignature that does not fit is no cosignature; the rest still holds.
            let less =
                verified.as_ref().is_ok_and(|view| view.place.as_ref().is_some_and(|at| at.cosigned < 3));
            assert!(verified.is_err() || (what == "proof" && less), "{what}: {verified:?}");
        }
    }
    let same: EvidenceFile = EvidenceFile { slot: None, root: None, leaves: Vec::new(), ..file };
    let promised = evidence_file::verify(&canonical::encode(&same), &Anchor::Directory(&directory)).unwrap();
    assert!(promised.grade == "promised" && promised.missing[0].contains("proofs"), "{promised:?}");
}

#[tokio::test]
async fn what_stood_in_a_log_that_ended_is_sent_again_and_a_restart_changes_nothing() {
    let mut region = Region::new();
    let desk = region.desk("TH");
    let sub = format!("{BROKER}/audit/TH");
    let (packet, old) = sent(&region, &desk, &sub, 0);
    let digest = sha256(&[&packet.header]);
    let waits =
        |desk: &Desk| desk.store.state().waiting().map(|(_, packet)| packet.digest).collect::<Vec<_>>();
    assert!(waits(&desk).is_empty());
    let before = region.directory();
    let next = region.next(|roster| {
        let root = Bytes::copy_from_slice(&[7; 32]);
        roster.brokers[0].ended_logs.push(EndedLog { size: 5, root });
    });
    let next = region.open(&next);
    let update = Region::update(&before, &[&before, &next]);
    desk.take_update(&update).unwrap();
    assert_eq!(waits(&desk), [digest]);
    drop(desk);
    let desk = region.desk("TH");
    assert_eq!(waits(&desk), [digest], "journal and directory say the same again");
    let Work::Submit(again) = desk.next_work().unwrap() else { panic!("nothing to submit") };
    let again: Submission = canonical::decode(&again.bytes, limits::FRAME_BYTES_MAX).unwrap();
    assert_eq!(again.header, packet.header, "the same packet, which recipients recognise");
    // The old receipt counts no more; the one of the next log does.
    hear(&desk, FrameType::Receipt, old);
    assert_eq!(waits(&desk), [digest]);
    let place = (format!("{BROKER}.log2/audit/TH"), 0);
    let new = region.receipt_in((&place.0, place.1), "TH", &packet.header, &submission_events(&packet));
    hear(&desk, FrameType::Receipt, new);
    let check = |desk: &Desk| {
        assert!(waits(desk).is_empty());
        let state = desk.store.state();
        let (sequence, packet) = state.own(&digest).unwrap();
        assert!(matches!(&packet.answer, Answer::Accepted { origin, .. } if *origin == place.0));
        assert_eq!(state.receipts().of(sequence).unwrap().earlier.len(), 1, "the old one is kept");
    };
    check(&desk);
    drop(desk);
    check(&region.desk("TH"));
}

/// The log of that broker ends, and the desk hears of it.
fn end_log(region: &mut Region, desk: &Desk) {
    let before = region.directory();
    let next = region.next(|roster| {
        let root = Bytes::copy_from_slice(&[7; 32]);
        roster.brokers[0].ended_logs.push(EndedLog { size: 5, root });
    });
    let next = region.open(&next);
    desk.take_update(&Region::update(&before, &[&before, &next])).unwrap();
}

#[tokio::test]
async fn a_log_that_ended_before_what_was_witnessed_is_evidence_also_at_a_witness() {
    let (mut region, desk, ..) = witnessed().await;
    let origin = format!("{BROKER}/audit");
    // A witness keeps what it is asked to cosign, before anybody's cosignature is there.
    let known = desk.known_checkpoint().unwrap();
    let bare =
        lintas_proto::audit::note::SignedCheckpoint::sign(known.claim().clone(), &region.log_key()).unwrap();
    drop((known, desk));
    std::fs::write(region.path("TH").join("witness").join(origin.replace('/', "_")), bare.to_bytes())
        .unwrap();
    let desk = region.desk("TH");
    let before = region.directory();
    let next = region.next(|roster| {
        let root = Bytes::copy_from_slice(&[7; 32]);
        roster.brokers[0].ended_logs.push(EndedLog { size: 1, root });
    });
    let next = region.open(&next);
    desk.take_update(&Region::update(&before, &[&before, &next])).unwrap();
    let found = desk.findings().unwrap();
    assert!(found.len() == 1 && found[0].kind == "rollback" && found[0].is_evidence, "{found:?}");
}

#[test]
fn what_was_purged_with_its_attachments_is_not_sent_again() {
    for purged in [false, true] {
        let mut region = Region::new();
        let desk = region.desk("TH");
        let file = region.root.path().join("file");
        std::fs::write(&file, [7; 1_000]).unwrap();
        let (to, how) = (Vec::new(), How::default());
        let draft = draft(&["KH/KH-AHT"], "t", AMBER, "NONE");
        desk.answer(Request::Send { draft, attach: vec![file], to, from: None, how }).unwrap();
        let Work::Upload(upload) = desk.next_work().unwrap() else { panic!("nothing to upload") };
        desk.uploaded(upload.digest);
        let Work::Submit(next) = desk.next_work().unwrap() else { panic!("nothing to submit") };
        let packet: Submission = canonical::decode(&next.bytes, limits::FRAME_BYTES_MAX).unwrap();
        let sub = format!("{BROKER}/audit/TH");
        let receipt = region.receipt_in((&sub, 0), "TH", &packet.header, &submission_events(&packet));
        hear(&desk, FrameType::Receipt, receipt);
        if purged {
            let chosen =
                purge::Chosen { ids: std::slice::from_ref(&upload.packet), before_ms: None, expired: false };
            assert!(desk.purge(&chosen, true, clock::now_ms()).unwrap().done);
        }
        end_log(&mut region, &desk);
        let waits = desk.store.state().waiting().count();
        assert_eq!(waits, usize::from(!purged), "without its attachments it would wait for ever");
    }
}

#[test]
fn whoever_has_a_packet_does_not_get_it_again_under_another_id() {
    for delivered in [false, true] {
        let mut region = Region::new();
        let desk = region.desk("TH");
        let (packet, receipt) = sent(&region, &desk, &format!("{BROKER}/audit/TH"), 0);
        if delivered {
            acknowledge(&region, &desk, &packet, &receipt);
        }
        end_log(&mut region, &desk);
        assert_eq!(desk.store.state().waiting().count(), 1);
        super::reseal_tests::refuse(&region, &desk, &packet, Reason::Reseal);
        let digest = sha256(&[&packet.header]);
        assert_eq!(desk.why_pending(&digest).is_none(), delivered, "it is sealed anew");
        let refused = matches!(desk.store.state().own(&digest).unwrap().1.answer, Answer::Refused { .. });
        assert_eq!(refused, delivered);
    }
}

#[test]
fn what_stood_in_an_ended_log_is_submitted_again_by_an_agreed_clock_only() {
    let mut region = Region::new();
    let desk = region.desk("TH");
    sent(&region, &desk, &format!("{BROKER}/audit/TH"), 0);
    let waits = || desk.store.state().waiting().count();
    desk.doubt_clock();
    end_log(&mut region, &desk);
    assert_eq!(waits(), 0, "whether its time is over is not known");
    let (now_ms, day_ms) = (clock::now_ms(), 86_400_000);
    desk.compare_clocks(now_ms + 400 * day_ms, now_ms + 400 * day_ms);
    desk.submit_what_ended();
    assert_eq!(waits(), 0);
    desk.compare_clocks(now_ms, now_ms);
    desk.submit_what_ended();
    assert_eq!(waits(), 1);
}
