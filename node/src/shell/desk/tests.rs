use std::{fs, path::Path, sync::Arc};

use bytes::Bytes;
use lintas_config::os_entropy;
use lintas_proto::{
    canonical,
    evidence::{Evidence, sign_evidence, verify_evidence},
    frame::FrameType,
    limits,
    schema::{
        Acknowledgement, EvidenceDelivery, Outcome, Reason, Refusal, SignedEvidence, Stage, Submission,
        UnitRef,
    },
};

use super::*;
use crate::{
    core::view::{Kept, Standing},
    shell::control,
    testing::{AMBER, Region, core, digest, draft},
};

const CANARY: &str = "canary-7f3a91";

/// What a hostile broker does to a delivery.
type Change = fn(&mut lintas_proto::schema::Delivery);

/// A packet to be submitted.
#[derive(Debug)]
pub(super) struct Next {
    pub(super) digest: lintas_proto::id::Digest,
    pub(super) bytes: Bytes,
}

impl Desk {
    fn post(&self, draft: &str) -> Kept {
        self.send(draft, &[], &[], None, &How::default(), &mut os_entropy()).unwrap()
    }

    /// What is next for the session; attachments are uploaded at once.
    pub(super) fn next_submission(&self) -> Result<Result<Next, Option<u64>>, StoreError> {
        loop {
            match self.next_work()? {
                Work::Submit(submission) => {
                    let bytes = submission.bytes;
                    let digest = digest(&canonical::decode(&bytes, limits::FRAME_BYTES_MAX).unwrap());
                    return Ok(Ok(Next { digest, bytes }));
                }
                Work::Wait(until_ms) => return Ok(Err(until_ms)),
                Work::Upload(upload) => self.uploaded(upload.digest),
            }
        }
    }

    /// The next packet that the session would submit.
    fn submitted(&self) -> lintas_proto::schema::Submission {
        let next = self.next_submission().unwrap().unwrap();
        canonical::decode(&next.bytes, limits::FRAME_BYTES_MAX).unwrap()
    }

    /// Hears frames as the session would.
    fn hear(&self, frames: Vec<(FrameType, Bytes)>) -> Vec<Acknowledgement> {
        let heard = frames.into_iter().map(|(kind, payload)| Heard { kind, payload }).collect();
        self.settle(self.judge(heard)).unwrap().acknowledgements
    }

    fn state_of(&self, id: &str) -> Standing {
        self.standing(id).unwrap().standing
    }
}

fn receipt_for(region: &Region, submission: &Submission) -> (FrameType, Bytes) {
    (FrameType::Receipt, region.submitted("TH", submission))
}

fn delivery_of(region: &Region, submission: &Submission, sequence: u64) -> (FrameType, Bytes) {
    (FrameType::Delivery, canonical::encode(&region.delivery(submission, 0, sequence)))
}

fn signed(bytes: &Bytes) -> SignedEvidence {
    canonical::decode(bytes, limits::SIGNED_EVIDENCE_BYTES_MAX).unwrap()
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

fn assert_no_canary(folder: &Path) {
    let found = files(folder);
    assert!(found.len() > 5, "{found:?}");
    for path in found {
        let bytes = fs::read(&path).unwrap();
        let holds = bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
        assert!(!holds, "{} holds plaintext", path.display());
    }
}

#[test]
fn a_packet_sealed_offline_survives_a_kill_and_is_nowhere_in_clear() {
    let region = Region::new();
    let attached = region.root.path().join("note.txt");
    fs::write(&attached, format!("{CANARY} in a file")).unwrap();
    let desk = region.desk("TH");
    let text = draft(&["KH/KH-AHT"], CANARY, AMBER, "NONE");
    let kept = desk
        .send(&text, std::slice::from_ref(&attached), &[], None, &How::default(), &mut os_entropy())
        .unwrap();
    assert!(matches!(desk.state_of(&kept.packet_id), Standing::Waiting { why: None, .. }));
    // No close: what a kill leaves.
    drop(desk);
    fs::remove_file(&attached).unwrap();
    assert_no_canary(&region.path("TH"));
    let desk = region.desk("TH");
    assert!(matches!(desk.state_of(&kept.packet_id), Standing::Waiting { .. }));
    let view = desk.show(&kept.packet_id).unwrap();
    assert_eq!((view.from.as_str(), view.to.as_slice()), ("TH/TH-MAR", ["KH/KH-AHT".to_owned()].as_slice()));
    assert!(view.body.to_string().contains(CANARY));
    assert!(!view.body.to_string().contains("attachments"), "keys are not shown");
    assert_eq!(view.attachments[0].claimed_name, "note.txt");
    let submission = desk.submitted();
    assert_eq!(core(&submission.header).packet_id.to_string(), kept.packet_id);
}

#[test]
fn only_one_process_has_the_folder() {
    let region = Region::new();
    let desk = region.desk("TH");
    let folder = Folder::at(&region.path("TH"));
    assert_eq!(folder.lock().unwrap_err().code, Code::InUse);
    drop(desk);
    let wrong = Unlocker::KeyFile(zeroize::Zeroizing::new([8; 32]));
    let third = Desk::open(folder.clone(), folder.lock().unwrap(), &wrong, false).unwrap_err();
    assert_eq!(third.code, Code::Locked, "{third}");
}

#[test]
fn receipts_are_kept_and_each_packet_names_the_one_before() {
    let region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    let text = draft(&["KH/KH-AHT"], CANARY, AMBER, "NONE");
    let first = thailand.post(&text);
    let first_packet = thailand.submitted();
    thailand.hear(vec![receipt_for(&region, &first_packet)]);
    assert!(matches!(thailand.state_of(&first.packet_id), Standing::Accepted { index: 4, .. }));
    let second = thailand.post(&text);
    let second_packet = thailand.submitted();
    // The broker swallows the first.
    let acknowledged = cambodia.hear(vec![delivery_of(&region, &second_packet, 2)]);
    assert_eq!(acknowledged[0].queue_sequence, 2);
    let inbox = cambodia.inbox(10).unwrap();
    assert!(inbox.packets[0].warnings[0].contains("was not seen"), "{inbox:?}");
    assert_eq!(cambodia.status().gaps, 1);
    cambodia.hear(vec![delivery_of(&region, &first_packet, 1)]);
    assert_eq!(cambodia.status().gaps, 0);
    assert_eq!(cambodia.inbox(10).unwrap().packets.len(), 2);
    assert_eq!(cambodia.show(&second.packet_id).unwrap().warnings, [""; 0]);
    assert_no_canary(&region.path("KH"));
}

#[test]
fn a_packet_delivered_again_gets_the_same_answer_and_is_kept_once() {
    let region = Region::new();
    let thailand = region.desk("TH");
    thailand.post(&draft(&["KH/KH-AHT"], CANARY, AMBER, "NONE"));
    let packet = thailand.submitted();
    let cambodia = region.desk("KH");
    // Twice in one batch, then again, then after a kill.
    let first = cambodia.hear(vec![delivery_of(&region, &packet, 1), delivery_of(&region, &packet, 2)]);
    let again = cambodia.hear(vec![delivery_of(&region, &packet, 3)]);
    drop(cambodia);
    let cambodia = region.desk("KH");
    let later = cambodia.hear(vec![delivery_of(&region, &packet, 4)]);
    for answer in [&first[1], &again[0], &later[0]] {
        assert_eq!(answer.evidence, first[0].evidence);
    }
    assert_eq!(cambodia.inbox(10).unwrap().packets.len(), 1);
    let key = lintas_proto::sign::VerifyingKey::parse(&region.packet_key("KH").public_key()).unwrap();
    let evidence = verify_evidence(&signed(&first[0].evidence), |_, _| Some(&key)).unwrap();
    assert_eq!((evidence.stage, evidence.outcome), (Stage::Delivery, Outcome::Acceptance));
    assert_eq!(evidence.header_digest, digest(&packet));
    assert!(evidence.leaf.is_some() && evidence.recipient.as_ref() == Some(&evidence.actor));
}

#[test]
fn a_delivery_that_is_not_what_was_signed_is_rejected_with_evidence() {
    let region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    let cases: [(&str, Change, Reason); 4] = [
        ("body", |d| d.body = flipped(&d.body), Reason::Malformed),
        ("signature", |d| d.signature = flipped(&d.signature), Reason::BadSignature),
        ("wrap", |d| d.wrap = flipped(&d.wrap), Reason::Malformed),
        ("receipt", |d| d.receipt = Bytes::from_static(b"no receipt"), Reason::Malformed),
    ];
    for (at, (name, change, reason)) in (0u64..).zip(cases) {
        thailand.post(&draft(&["KH/KH-AHT"], CANARY, AMBER, "NONE"));
        let mut delivery = region.delivery(&thailand.submitted(), 0, at);
        change(&mut delivery);
        let frame = (FrameType::Delivery, canonical::encode(&delivery));
        let answer = cambodia.hear(vec![frame.clone()]);
        let evidence = Evidence::parse(&signed(&answer[0].evidence).evidence).unwrap();
        assert_eq!((evidence.outcome, evidence.reason), (Outcome::Failure, reason), "{name}");
        assert!(!evidence.text.is_empty());
        assert_eq!(cambodia.hear(vec![frame])[0].evidence, answer[0].evidence, "{name}, again");
    }
    assert_eq!(cambodia.inbox(10).unwrap().packets.len(), 0);
    assert_eq!(cambodia.inbox(10).unwrap().rejected.len(), 4);
}

fn flipped(bytes: &Bytes) -> Bytes {
    let mut bytes = bytes.to_vec();
    bytes[40] ^= 1;
    Bytes::from(bytes)
}

#[test]
fn a_broker_that_misroutes_breaks_the_protocol() {
    let region = Region::new();
    let (thailand, indonesia) = (region.desk("TH"), region.desk("ID"));
    thailand.post(&draft(&["KH/KH-AHT"], CANARY, AMBER, "NONE"));
    let (kind, payload) = delivery_of(&region, &thailand.submitted(), 1);
    let broken = |heard| indonesia.settle(indonesia.judge(vec![heard])).unwrap().broken;
    assert!(matches!(broken(Heard { kind, payload }), Some(Broken::Protocol(_))));
    let payload = Bytes::new();
    let submission = Heard { kind: FrameType::Submission, payload };
    assert!(matches!(broken(submission), Some(Broken::Protocol(_))));
}

#[test]
fn evidence_is_believed_from_the_recipient_only_and_kept_once() {
    let region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    let kept = thailand.post(&draft(&["KH/KH-AHT"], CANARY, AMBER, "NONE"));
    let packet = thailand.submitted();
    thailand.hear(vec![receipt_for(&region, &packet)]);
    let answer = cambodia.hear(vec![delivery_of(&region, &packet, 1)]);
    let honest = answer[0].evidence.clone();
    // Indonesia claims to have it, and claims that Cambodia has it.
    let claim = Evidence::parse(&signed(&honest).evidence).unwrap();
    let unit = UnitRef { agency: "ID".to_owned(), unit: "ID-CID".to_owned() };
    let lies = [
        Evidence { actor: unit.clone(), ..claim.clone() },
        Evidence { actor: unit.clone(), recipient: Some(unit), ..claim.clone() },
        claim,
    ];
    let lies = sign_evidence(&lies, &region.packet_key("ID")).unwrap();
    let frame = |queue_sequence, evidence| {
        let delivery = EvidenceDelivery { queue_sequence, evidence };
        (FrameType::Evidence, canonical::encode(&delivery))
    };
    for (at, lie) in (10..).zip(&lies) {
        let taken = thailand.hear(vec![frame(at, canonical::encode(lie))]);
        assert_eq!(taken, [Acknowledgement { queue_sequence: at, evidence: Bytes::new() }]);
    }
    assert_eq!(thailand.standing(&kept.packet_id).unwrap().recipients[0].state, "released");
    let twice = vec![frame(1, honest.clone()), frame(2, honest.clone())];
    let acknowledged = thailand.hear(twice);
    assert_eq!(acknowledged.iter().map(|a| a.queue_sequence).collect::<Vec<_>>(), [1, 2]);
    drop(thailand);
    let thailand = region.desk("TH");
    assert_eq!(thailand.hear(vec![frame(3, honest)]).len(), 1);
    assert_eq!(thailand.standing(&kept.packet_id).unwrap().recipients[0].state, "delivered");
}

#[test]
fn a_refusal_is_final_or_put_off_and_never_undoes_a_receipt() {
    let region = Region::new();
    let thailand = region.desk("TH");
    let kept = thailand.post(&draft(&["KH/KH-AHT"], CANARY, AMBER, "NONE"));
    let packet = thailand.submitted();
    let refusal = |reason: Reason, retry| {
        let refusal = Refusal {
            packet_id: Bytes::new(),
            header_digest: Bytes::copy_from_slice(&digest(&packet)),
            reason: reason as i32,
            text: "not \u{1b}[31mtoday".to_owned(),
            retry,
            evidence: None,
        };
        (FrameType::Refusal, canonical::encode(&refusal))
    };
    thailand.hear(vec![refusal(Reason::Quota, true)]);
    let Standing::Waiting { why: Some(why), again_ms: Some(_) } = thailand.state_of(&kept.packet_id) else {
        panic!("must wait");
    };
    assert!(why.contains(r"not \u{1b}[31mtoday"), "{why}");
    thailand.hear(vec![refusal(Reason::UnknownRecipient, false)]);
    let Standing::Refused { reason, advice, .. } = thailand.state_of(&kept.packet_id) else {
        panic!("must be refused");
    };
    assert_eq!(reason, "REASON_UNKNOWN_RECIPIENT");
    assert!(advice.contains("newest directory"), "{advice}");
    thailand.hear(vec![receipt_for(&region, &packet), refusal(Reason::Expired, false)]);
    assert!(matches!(thailand.state_of(&kept.packet_id), Standing::Accepted { .. }));
}

#[test]
fn receipts_of_strangers_change_nothing() {
    let (region, other) = (Region::new(), Region::new());
    let thailand = region.desk("TH");
    let kept = thailand.post(&draft(&["KH/KH-AHT"], CANARY, AMBER, "NONE"));
    let packet = thailand.submitted();
    let wrong_log = region.submitted("KH", &packet);
    let wrong_broker = other.submitted("TH", &packet);
    for receipt in [wrong_log, wrong_broker, Bytes::from_static(b"x")] {
        thailand.hear(vec![(FrameType::Receipt, receipt)]);
        assert!(matches!(thailand.state_of(&kept.packet_id), Standing::Waiting { .. }));
    }
    assert!(!thailand.status().link.unwrap().trouble.is_empty());
}

#[test]
fn attachments_are_exported_under_our_names_and_overwrite_nothing() {
    let region = Region::new();
    let desk = region.desk("TH");
    let hostile = region.root.path().join("..%2f\u{1b}[2Jevil\u{202e}gpj.exe");
    let content = vec![b'x'; 100_000];
    fs::write(&hostile, &content).unwrap();
    let text = draft(&["KH/KH-AHT"], "t", AMBER, "NONE");
    let kept = desk.send(&text, &[hostile], &[], None, &How::default(), &mut os_entropy()).unwrap();
    let to = region.root.path().join("export");
    fs::create_dir(&to).unwrap();
    let exported = desk.export(&kept.packet_id, &to).unwrap();
    assert_eq!(exported[0].file, to.join("1.bin").display().to_string());
    assert_eq!(fs::read(to.join("1.bin")).unwrap(), content);
    let again = desk.export(&kept.packet_id, &to).unwrap_err();
    assert!(again.message.contains("already there"), "{again}");
    assert_eq!(files(&to).len(), 1);
    // A damaged blob leaves nothing behind.
    fs::remove_file(to.join("1.bin")).unwrap();
    let blob = files(&region.path("TH").join("blobs/out"))[0].clone();
    let mut sealed = fs::read(&blob).unwrap();
    sealed[70_000] ^= 1;
    fs::write(&blob, sealed).unwrap();
    assert_eq!(desk.export(&kept.packet_id, &to).unwrap_err().code, Code::Storage);
    assert_eq!(files(&to).len(), 0);
}

#[test]
fn only_blobs_that_are_not_whole_are_swept() {
    let region = Region::new();
    drop(region.desk("TH"));
    let orphan = region.path("TH").join("blobs/out/.abc.part");
    fs::write(&orphan, "half").unwrap();
    // Whole, but the journal does not know it.
    let whole = region.path("TH").join("blobs/out").join("ab".repeat(32));
    fs::write(&whole, "whole").unwrap();
    let desk = region.desk("TH");
    assert!(!orphan.exists() && whole.exists());
    let warnings = desk.status().warnings;
    assert!(
        warnings[0].contains("1 attachments") && warnings[0].contains("belong to no packet"),
        "{warnings:?}"
    );
}

#[test]
fn a_draft_that_the_preflight_refuses_leaves_no_trace() {
    let region = Region::new();
    let desk = region.desk("TH");
    let noforn = r#""tlp": "TLP_AMBER", "caveats": ["CAVEAT_NOFORN"]"#;
    let cases = [
        (draft(&["KH/KH-XXX"], "t", AMBER, "NONE"), "has no unit"),
        (draft(&["KH/KH-AHT"], "t", noforn, "NONE"), "NOFORN"),
        (draft(&["KH/KH-AHT"], "t", AMBER, "PERHAPS"), "onward"),
        (draft(&[], "t", AMBER, "NONE"), "recipients"),
        (draft(&["KH/KH-AHT"], "", AMBER, "NONE"), "title"),
        ("{".to_owned(), "not valid"),
        (draft(&["KH/KH-AHT"], "t", AMBER, "NONE").replace("\"from\"", "\"form\""), "form"),
    ];
    for (text, expected) in cases {
        let failure = desk.send(&text, &[], &[], None, &How::default(), &mut os_entropy()).unwrap_err();
        assert_eq!(failure.code, Code::Draft, "{failure}");
        assert!(failure.message.contains(expected), "{failure}");
    }
    assert_eq!(desk.status().sent, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_reach_a_daemon_through_its_socket() {
    let region = Region::new();
    let desk = Arc::new(region.desk("TH"));
    let folder = desk.folder().clone();
    let listener = control::listen(&folder).unwrap();
    let serving =
        tokio::spawn(control::serve(listener, crate::shell::door::Door::new(Some(Arc::clone(&desk))).0));
    let draft = draft(&["KH/KH-AHT"], CANARY, AMBER, "NONE");
    let asked = tokio::task::spawn_blocking(move || {
        let send = Request::Send {
            draft,
            attach: vec![],
            to: vec!["ID".to_owned()],
            from: None,
            how: How::default(),
        };
        let Some(Ok(Reply::Kept(kept))) = control::ask(&folder, &send) else { panic!("not kept") };
        let shown = control::ask(&folder, &Request::Show { id: kept.packet_id.clone() });
        let Some(Ok(Reply::Packet(packet))) = shown else { panic!("not shown") };
        assert_eq!(packet.to, ["KH/KH-AHT", "ID/ID-NCB"]);
        let missing = control::ask(&folder, &Request::Show { id: "00000000".to_owned() });
        assert_eq!(missing.unwrap().unwrap_err().code, Code::NotFound);
        use std::os::unix::fs::PermissionsExt as _;
        fs::metadata(folder.socket()).unwrap().permissions().mode() & 0o777
    });
    assert_eq!(asked.await.unwrap(), 0o600);
    serving.abort();
}
