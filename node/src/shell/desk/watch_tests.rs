//! Brokers that lie about their log, and what a node makes of them.

use std::{fs, sync::Arc};

use bytes::Bytes;
use lintas_config::os_entropy;
use lintas_proto::{
    audit::{
        epoch::RootEntry,
        note::{SignedCheckpoint, root_origin},
    },
    canonical,
    frame::FrameType,
    limits,
    schema::{
        EndedLog, EventType, Reason, StoredFinding, Submission, UnitRef, WitnessAnswer, WitnessRequest,
    },
    sign::{KeyRole, SigningKey, VerifyingKey},
};
use zeroize::Zeroizing;

use super::*;
use crate::{
    core::{
        health::{Check, Mark},
        log::{
            findings::{Finding, Kind, Weight},
            standing::tests::{Tree, convinces},
        },
    },
    testing::{AMBER, BROKER, Region, draft},
};

const HONEST: u64 = u64::MAX;
const HOUR_MS: u64 = 3_600_000;

fn origin() -> String {
    root_origin(BROKER)
}

fn note(region: &Region, tree: &Tree, size: u64) -> SignedCheckpoint {
    SignedCheckpoint::sign(tree.checkpoint(size, &origin()), &region.log_key()).unwrap()
}

fn public(key: &SigningKey) -> VerifyingKey {
    VerifyingKey::parse(&key.public_key()).unwrap()
}

fn request(region: &Region, tree: &Tree, old: u64, new: u64) -> WitnessRequest {
    let proof = tree.proof(old, new).iter().map(|hash| Bytes::copy_from_slice(hash)).collect();
    WitnessRequest { old_size: old, proof, checkpoint: note(region, tree, new).to_bytes() }
}

/// Asks as the session would.
fn ask(desk: &Desk, request: &WitnessRequest) -> (Reason, WitnessAnswer) {
    let heard = Heard { kind: FrameType::WitnessRequest, payload: canonical::encode(request) };
    let mut settled = desk.settle(desk.judge(vec![heard])).unwrap();
    assert!(settled.broken.is_none() && settled.acknowledgements.is_empty());
    let answer = settled.witness_answers.pop().unwrap();
    let reason = Reason::try_from(answer.reason).unwrap();
    assert_eq!(answer.cosignature.is_empty(), reason != Reason::Accepted);
    (reason, answer)
}

fn is_cosigned(region: &Region, desk: &Desk, tree: &Tree, size: u64, answer: &WitnessAnswer) -> bool {
    let witness = desk.directory().witness("TH").unwrap();
    answer.size == size && note(region, tree, size).add_cosignature(&witness, &answer.cosignature).is_ok()
}

fn as_finding(stored: &StoredFinding) -> Finding {
    let weight = if stored.is_evidence { Weight::Evidence } else { Weight::Accusation };
    let kinds = [Kind::Fork, Kind::OtherLeaf, Kind::Withheld, Kind::Rollback];
    let kind = kinds.into_iter().find(|kind| kind.as_str() == stored.kind).unwrap();
    Finding { kind, weight, text: stored.text.clone(), exhibits: stored.exhibits.clone() }
}

/// Kinds and weights of what was found; forks that are called evidence convince a stranger.
fn found(region: &Region, desk: &Desk) -> Vec<(Kind, Weight)> {
    let findings: Vec<Finding> = desk.findings().unwrap().iter().map(as_finding).collect();
    let mut forks = findings.iter().filter(|one| one.kind == Kind::Fork && one.weight == Weight::Evidence);
    assert!(forks.all(|one| convinces(one, &public(&region.log_key()))));
    findings.iter().map(|one| (one.kind, one.weight)).collect()
}

fn path(region: &Region) -> std::path::PathBuf {
    region.path("TH").join("witness").join(origin().replace('/', "_"))
}

/// Cambodia, which knows that checkpoint, seals a packet for Thailand.
fn packet_with(desk: &Desk, known: Option<&SignedCheckpoint>) -> Submission {
    if let Some(known) = known {
        desk.watch.learn(&Arc::new(known.clone()), &public_of(desk), |_| panic!("the first")).unwrap();
    }
    let text =
        draft(&["TH/TH-MAR"], "t", AMBER, "NONE").replacen("\"from\": \"TH-MAR\"", "\"from\": \"KH-AHT\"", 1);
    desk.send(&text, &[], &[], None, &How::default(), &mut os_entropy()).unwrap();
    let next = desk.next_submission().unwrap().unwrap();
    canonical::decode(&next.bytes, limits::FRAME_BYTES_MAX).unwrap()
}

fn public_of(desk: &Desk) -> VerifyingKey {
    desk.directory().brokers()[0].log_key.clone()
}

fn deliver(region: &Region, desk: &Desk, packet: &Submission) -> usize {
    let payload = canonical::encode(&region.delivery(packet, 0, 1));
    desk.settle(desk.judge(vec![Heard { kind: FrameType::Delivery, payload }]))
        .unwrap()
        .acknowledgements
        .len()
}

#[test]
fn a_witness_cosigns_what_continues_the_log_and_nothing_else() {
    let region = Region::new();
    let desk = region.desk("TH");
    let (honest, other) = (Tree::new(60, HONEST), Tree::new(60, 5));
    assert!(desk.hello().root_checkpoint.is_empty());
    let early = WitnessRequest { old_size: 3, ..request(&region, &honest, 0, 10) };
    assert_eq!(ask(&desk, &early).0, Reason::Replay, "nothing is known that this could continue");
    let proven = WitnessRequest { old_size: 0, ..request(&region, &honest, 3, 10) };
    assert_eq!(ask(&desk, &proven).0, Reason::Malformed);
    let (reason, answer) = ask(&desk, &request(&region, &honest, 0, 10));
    assert!(reason == Reason::Accepted && is_cosigned(&region, &desk, &honest, 10, &answer));
    let (reason, answer) = ask(&desk, &request(&region, &honest, 10, 23));
    assert!(reason == Reason::Accepted && is_cosigned(&region, &desk, &honest, 23, &answer));
    let shown = SignedCheckpoint::parse(&desk.hello().root_checkpoint).unwrap();
    assert_eq!(shown.claim(), note(&region, &honest, 23).claim());
    // The same again, and what the broker does not know of us.
    let (reason, answer) = ask(&desk, &request(&region, &honest, 10, 23));
    assert!(reason == Reason::Accepted && is_cosigned(&region, &desk, &honest, 23, &answer));
    let (reason, answer) = ask(&desk, &request(&region, &honest, 10, 30));
    assert_eq!((reason, answer.size), (Reason::Replay, 23));
    let (reason, answer) = ask(&desk, &request(&region, &honest, 3, 10));
    assert_eq!((reason, answer.size), (Reason::Replay, 23));
    assert_eq!(found(&region, &desk), []);
    // Another tree of the same size; one that does not continue; and one with a proof that leads elsewhere.
    assert_eq!(ask(&desk, &request(&region, &other, 10, 23)).0, Reason::Policy);
    assert_eq!(found(&region, &desk), [(Kind::Fork, Weight::Evidence)]);
    assert_eq!(ask(&desk, &request(&region, &other, 23, 40)).0, Reason::Policy);
    assert_eq!(found(&region, &desk)[1..], [(Kind::Fork, Weight::Evidence)]);
    let wrong = WitnessRequest { proof: vec![], ..request(&region, &honest, 23, 40) };
    assert_eq!(ask(&desk, &wrong).0, Reason::Policy);
    assert_eq!(
        found(&region, &desk)[2..],
        [(Kind::Fork, Weight::Accusation)],
        "no proof is no proof of a fork"
    );
    // What was refused changes nothing, and the honest log goes on.
    let (reason, answer) = ask(&desk, &request(&region, &honest, 23, 60));
    assert!(reason == Reason::Accepted && is_cosigned(&region, &desk, &honest, 60, &answer));
    let warnings = desk.status().warnings.join("\n");
    assert!(
        warnings.contains("lintas audit findings --out FILE") && warnings.contains("word only"),
        "{warnings}"
    );
    assert!(desk.doctor().iter().any(|check| check.check == "audit_log" && check.mark == Mark::Wrong));
}

#[test]
fn what_is_no_request_is_answered_with_its_reason() {
    let region = Region::new();
    let desk = region.desk("TH");
    let tree = Tree::new(9, HONEST);
    let good = request(&region, &tree, 0, 9);
    let signed_by = |key: &SigningKey, origin: &str| {
        SignedCheckpoint::sign(tree.checkpoint(9, origin), key).unwrap().to_bytes()
    };
    let stranger = SigningKey::from_seed(KeyRole::Log, &Zeroizing::new([3; 32])).unwrap();
    let mut empty = tree.checkpoint(0, &origin());
    empty.root = [1; 32];
    let wrong = [
        (Reason::BadSignature, signed_by(&stranger, &origin())),
        (Reason::StaleDirectory, signed_by(&region.log_key(), "hub.elsewhere/audit")),
        (Reason::StaleDirectory, signed_by(&region.log_key(), &format!("{BROKER}.log2/audit"))),
        (Reason::Malformed, Bytes::from_static(b"\xff\n\nx")),
        (Reason::Malformed, Bytes::from(vec![b'a'; 5_000])),
        (Reason::Malformed, SignedCheckpoint::sign(empty, &region.log_key()).unwrap().to_bytes()),
    ];
    for (reason, checkpoint) in wrong {
        assert_eq!(ask(&desk, &WitnessRequest { checkpoint, ..good.clone() }).0, reason);
    }
    let short = WitnessRequest { proof: vec![Bytes::from_static(b"short")], ..good };
    assert_eq!(ask(&desk, &short).0, Reason::Malformed);
    let heard = Heard { kind: FrameType::WitnessRequest, payload: Bytes::from_static(b"\xff") };
    assert!(desk.settle(desk.judge(vec![heard])).unwrap().broken.is_some());
    assert!(desk.known_checkpoint().is_none() && found(&region, &desk).is_empty());
}

#[test]
fn who_is_no_witness_cosigns_nothing() {
    let region = Region::with(|roster| roster.members[2].witness_key.clear());
    let desk = region.desk("TH");
    assert_eq!(ask(&desk, &request(&region, &Tree::new(9, HONEST), 0, 9)).0, Reason::StaleDirectory);
    assert!(desk.known_checkpoint().is_none());
}

#[test]
fn a_kill_between_keeping_and_answering_lets_no_second_tree_through() {
    let region = Region::new();
    let desk = region.desk("TH");
    let (honest, other) = (Tree::new(40, HONEST), Tree::new(40, 5));
    ask(&desk, &request(&region, &honest, 0, 10));
    // Kept; the answer never leaves.
    ask(&desk, &request(&region, &honest, 10, 20));
    drop(desk);
    let desk = region.desk("TH");
    let (reason, answer) = ask(&desk, &request(&region, &other, 10, 21));
    assert_eq!((reason, answer.size), (Reason::Replay, 20), "the broker knows of 10");
    assert_eq!(ask(&desk, &request(&region, &other, 10, 20)).0, Reason::Policy);
    assert_eq!(ask(&desk, &request(&region, &other, 20, 30)).0, Reason::Policy);
    let (reason, answer) = ask(&desk, &request(&region, &honest, 20, 20));
    assert!(reason == Reason::Accepted && is_cosigned(&region, &desk, &honest, 20, &answer));
    drop(desk);
    assert_eq!(found(&region, &region.desk("TH")), [(Kind::Fork, Weight::Evidence); 2]);
}

#[test]
fn what_is_not_kept_is_not_cosigned() {
    let region = Region::new();
    let desk = region.desk("TH");
    let tree = Tree::new(40, HONEST);
    ask(&desk, &request(&region, &tree, 0, 10));
    // Nothing can take the place of a folder that is not empty.
    fs::remove_file(path(&region)).unwrap();
    fs::create_dir_all(path(&region).join("x")).unwrap();
    assert_eq!(ask(&desk, &request(&region, &tree, 10, 20)).0, Reason::DiskFull);
    assert_eq!(desk.known_checkpoint().unwrap().claim().size, 10);
    assert!(desk.link().trouble.contains("not cosigned"));
    fs::remove_dir_all(path(&region)).unwrap();
    assert_eq!(ask(&desk, &request(&region, &tree, 10, 20)).0, Reason::Accepted);
}

#[test]
fn a_damaged_file_is_named_and_nothing_takes_its_place() {
    let region = Region::new();
    let desk = region.desk("TH");
    let tree = Tree::new(40, HONEST);
    ask(&desk, &request(&region, &tree, 0, 10));
    drop(desk);
    let whole = fs::read(path(&region)).unwrap();
    // In the origin, the size, the root and the signature.
    for at in [2, origin().len() + 1, origin().len() + 6, whole.len() - 12] {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        fs::write(path(&region), flipped).unwrap();
        let desk = region.desk("TH");
        assert_eq!(ask(&desk, &request(&region, &tree, 0, 10)).0, Reason::DiskFull, "{at}");
        let damaged =
            |check: &Check| check.check == "audit_log" && check.found.contains("cannot be believed");
        assert!(desk.doctor().iter().any(damaged));
        assert!(
            desk.learn_checkpoint(note(&region, &tree, 20), &[]).is_err() && desk.known_note().is_empty()
        );
    }
    fs::write(path(&region), whole).unwrap();
    assert_eq!(ask(&region.desk("TH"), &request(&region, &tree, 10, 20)).0, Reason::Accepted);
}

#[test]
fn every_packet_carries_what_its_sender_knows_and_a_fork_is_found() {
    let region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    let (honest, other) = (Tree::new(600, HONEST), Tree::new(600, 300));
    thailand.learn_checkpoint(note(&region, &honest, 400), &[]).unwrap();
    let packet = packet_with(&cambodia, Some(&note(&region, &other, 400)));
    assert_eq!(deliver(&region, &thailand, &packet), 1);
    assert_eq!(found(&region, &thailand), [(Kind::Fork, Weight::Evidence)]);
    // The next packet says the same; after a restart it is known still.
    drop(thailand);
    let thailand = region.desk("TH");
    assert_eq!(deliver(&region, &thailand, &packet_with(&cambodia, None)), 1);
    assert_eq!(found(&region, &thailand).len(), 1);
    // Of another size tiles decide.
    cambodia.learn_checkpoint(note(&region, &other, 520), &other.proof(400, 520)).unwrap();
    assert_eq!(deliver(&region, &thailand, &packet_with(&cambodia, None)), 1);
    let open = thailand.to_compare();
    assert_eq!((open.len(), found(&region, &thailand).len()), (1, 1));
    assert!(
        !thailand.compare_with(&open[0], Ok(Tree::new(600, HONEST))),
        "tiles of another tree prove nothing"
    );
    assert!(!thailand.compare_with::<Tree>(&open[0], Err("no such file".to_owned())));
    assert!(thailand.compare_with(&open[0], Ok(Tree::new(600, 300))));
    assert_eq!(found(&region, &thailand)[1..], [(Kind::Fork, Weight::Evidence)]);
    assert!(thailand.to_compare().is_empty());
    assert_eq!(thailand.known_checkpoint().unwrap().claim().size, 400);
}

#[test]
fn what_others_know_of_the_same_log_is_taken_over_once_it_is_proven() {
    let region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    let honest = Tree::new(600, HONEST);
    // It waits for the first one of ours.
    let packet = packet_with(&cambodia, Some(&note(&region, &honest, 512)));
    assert_eq!(deliver(&region, &thailand, &packet), 1);
    assert!(thailand.to_compare().is_empty() && thailand.known_checkpoint().is_none());
    thailand.learn_checkpoint(note(&region, &honest, 256), &[]).unwrap();
    let open = thailand.to_compare();
    assert!(thailand.compare_with(&open[0], Ok(Tree::new(600, HONEST))));
    assert_eq!(thailand.known_checkpoint().unwrap().claim().size, 512);
    // A smaller one that this node had itself needs no proof, and one that is proven to be a part changes nothing.
    for (size, open) in [(256, 0), (100, 1)] {
        let smaller = Arc::new(note(&region, &honest, size));
        thailand.hear_checkpoint("ID", &smaller.to_bytes());
        let waiting = thailand.to_compare();
        assert_eq!(waiting.len(), open);
        assert!(waiting.iter().all(|one| thailand.compare_with(one, Ok(Tree::new(600, HONEST)))));
    }
    assert_eq!(
        (thailand.known_checkpoint().unwrap().claim().size, found(&region, &thailand).len()),
        (512, 0)
    );
    // Nobody's checkpoint says nothing.
    let stranger = SigningKey::from_seed(KeyRole::Log, &Zeroizing::new([3; 32])).unwrap();
    let foreign = SignedCheckpoint::sign(honest.checkpoint(512, &origin()), &stranger).unwrap();
    thailand.hear_checkpoint("ID", &foreign.to_bytes());
    thailand.hear_checkpoint("ID", b"no note");
    assert_eq!((thailand.watch.strangers(), thailand.to_compare().len()), (2, 0));
    assert_eq!(found(&region, &thailand), []);
}

#[test]
fn a_cosignature_is_never_older_than_the_one_before() {
    let region = Region::new();
    let watch = &region.desk("TH").watch;
    assert_eq!([9, 12, 5, 13].map(|now_s| watch.cosigning_at(now_s)), [9, 12, 12, 13]);
}

#[test]
fn what_was_heard_and_is_known_meanwhile_holds_nothing_up() {
    let region = Region::new();
    let (desk, tree) = (Arc::new(region.desk("TH")), Tree::new(60, HONEST));
    assert_eq!(ask(&desk, &request(&region, &tree, 0, 10)).0, Reason::Accepted);
    let packet = packet_with(&region.desk("KH"), Some(&note(&region, &tree, 23)));
    assert_eq!(deliver(&region, &desk, &packet), 1);
    assert_eq!(desk.watch.waiting().all().len(), 1);
    assert_eq!(ask(&desk, &request(&region, &tree, 10, 23)).0, Reason::Accepted);
    let (done, is_done) = std::sync::mpsc::channel();
    let comparing = Arc::clone(&desk);
    std::thread::spawn(move || done.send(comparing.to_compare().len()));
    assert_eq!(is_done.recv_timeout(std::time::Duration::from_secs(10)), Ok(0), "it waits for itself");
    assert!(desk.watch.waiting().all().is_empty());
}

#[test]
fn a_checkpoint_that_is_learned_must_be_proven() {
    let region = Region::new();
    let desk = region.desk("TH");
    let (honest, other) = (Tree::new(60, HONEST), Tree::new(60, 5));
    let stranger = SigningKey::from_seed(KeyRole::Log, &Zeroizing::new([3; 32])).unwrap();
    let foreign = SignedCheckpoint::sign(honest.checkpoint(9, &origin()), &stranger).unwrap();
    assert!(desk.learn_checkpoint(foreign, &[]).is_err() && desk.known_checkpoint().is_none());
    desk.learn_checkpoint(note(&region, &honest, 16), &[]).unwrap();
    assert!(desk.learn_checkpoint(note(&region, &honest, 30), &[]).is_err());
    assert!(desk.learn_checkpoint(note(&region, &other, 40), &other.proof(16, 40)).is_err());
    assert!(desk.learn_checkpoint(note(&region, &honest, 9), &honest.proof(9, 16)).is_ok());
    assert_eq!(desk.known_checkpoint().unwrap().claim().size, 16);
    // What a proof could not show, tiles do.
    let open = desk.to_compare();
    assert!(desk.compare_with(&open[0], Ok(Tree::new(60, 5))));
    assert_eq!(found(&region, &desk), [(Kind::Fork, Weight::Evidence)]);
    desk.learn_checkpoint(note(&region, &honest, 40), &honest.proof(16, 40)).unwrap();
    drop(desk);
    assert_eq!(region.desk("TH").known_checkpoint().unwrap().claim().size, 40);
}

#[test]
fn the_authority_cannot_end_a_log_with_another_tree_unseen() {
    let mut region = Region::new();
    let desk = region.desk("TH");
    let (honest, other) = (Tree::new(60, HONEST), Tree::new(60, 5));
    desk.learn_checkpoint(note(&region, &honest, 30), &[]).unwrap();
    let root = Bytes::copy_from_slice(&other.checkpoint(30, "").root);
    let next = region.next(|roster| roster.brokers[0].ended_logs.push(EndedLog { size: 30, root }));
    let next = region.open(&next);
    assert!(desk.take_update(&Region::update(&desk.directory(), &[&next])).unwrap());
    let findings = desk.findings().unwrap();
    assert_eq!((findings.len(), findings[0].kind.as_str(), findings[0].is_evidence), (1, "fork", true));
    // The next log begins empty, and is another one.
    assert!(desk.known_checkpoint().is_none());
    assert_eq!(ask(&desk, &request(&region, &honest, 0, 10)).0, Reason::StaleDirectory);
}

#[test]
fn one_place_promised_to_two_events_is_found_also_in_one_batch() {
    let region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    let unit = UnitRef { agency: "TH".to_owned(), unit: "TH-MAR".to_owned() };
    let frames: Vec<Heard> = (1..=2)
        .map(|sequence| {
            let packet = packet_with(&cambodia, None);
            region.next_index.store(70, std::sync::atomic::Ordering::Relaxed);
            let receipt = region.receipt("TH", &packet.header, &[(EventType::Received, Some(unit.clone()))]);
            let mut delivery = region.delivery(&packet, 0, sequence);
            delivery.receipt = receipt;
            Heard { kind: FrameType::Delivery, payload: canonical::encode(&delivery) }
        })
        .collect();
    let settled = thailand.settle(thailand.judge(frames)).unwrap();
    assert_eq!(settled.acknowledgements.len(), 2, "the packets are taken all the same");
    let findings = thailand.findings().unwrap();
    assert_eq!((findings.len(), findings[0].kind.as_str(), findings[0].is_evidence), (1, "other-leaf", true));
    assert_eq!(findings[0].exhibits.len(), 2);
    drop(thailand);
    assert_eq!(region.desk("TH").findings().unwrap().len(), 1);
}

fn try_send(desk: &Desk, how: &How) -> Result<crate::core::view::Kept, Failure> {
    desk.send(&draft(&["KH/KH-AHT"], "t", AMBER, "NONE"), &[], &[], None, how, &mut os_entropy())
}

fn entry(directory: &lintas_proto::id::Digest, time_ms: u64) -> RootEntry {
    RootEntry {
        epoch: 1,
        time_ms,
        directory_hash: *directory,
        policy_set_hash: [0; 32],
        slots: 3,
        slots_root: [0; 32],
    }
}

/// As if people had compared the first directory so many hours ago.
fn age(region: &Region, hours: u64) {
    let mut old = Attested::begin(region.directory().hash(), clock::now_ms() - hours * HOUR_MS);
    fs::write(region.path("TH").join("attested"), old.encode()).unwrap();
}

#[test]
fn nothing_is_sealed_under_a_directory_that_the_log_does_not_attest() {
    let region = Region::new();
    drop(region.desk("TH"));
    age(&region, 23);
    let desk = region.desk("TH");
    try_send(&desk, &How::default()).unwrap();
    drop(desk);
    age(&region, 25);
    let desk = region.desk("TH");
    let refused = try_send(&desk, &How::default()).unwrap_err();
    assert_eq!(refused.code, Code::Stale);
    assert!(
        refused.message.contains("more than 24 hours ago") && refused.message.contains("--despite-stale")
    );
    assert!(desk.status().warnings.iter().any(|warning| warning.contains("24 hours")));
    let wrong = |check: &Check| check.check == "directory_attested" && check.mark == Mark::Wrong;
    assert!(desk.doctor().iter().any(wrong));
    let kept = try_send(&desk, &How { despite_stale: true, ..How::default() }).unwrap();
    assert!(desk.standing(&kept.packet_id).unwrap().despite_stale);
    // Another directory's attestation, an old entry that was cosigned again: neither helps.
    let now = clock::now_ms();
    desk.note_attested(&entry(&[9; 32], now), now);
    desk.note_attested(&entry(region.directory().hash(), now - 25 * HOUR_MS), now);
    assert_eq!(try_send(&desk, &How::default()).unwrap_err().code, Code::Stale);
    desk.note_attested(&entry(region.directory().hash(), now), now);
    try_send(&desk, &How::default()).unwrap();
    drop(desk);
    let desk = region.desk("TH");
    try_send(&desk, &How::default()).unwrap();
    assert!(desk.doctor().iter().any(|check| check.check == "directory_attested" && check.mark == Mark::Ok));
    drop(desk);
    let ahead = Attested::begin(region.directory().hash(), now + 30 * HOUR_MS).encode();
    fs::write(region.path("TH").join("attested"), ahead).unwrap();
    let refused = try_send(&region.desk("TH"), &How::default()).unwrap_err();
    assert!(refused.message.contains("still to come") && !refused.message.contains("hours ago"), "{refused}");
    fs::write(region.path("TH").join("attested"), "?").unwrap();
    let refused = try_send(&region.desk("TH"), &How::default()).unwrap_err();
    assert!(refused.message.contains("never attested"), "{refused}");
}

#[test]
fn a_new_directory_has_some_minutes_to_get_into_the_log() {
    let mut region = Region::new();
    let desk = region.desk("TH");
    let second = region.next(|_| {});
    let second = region.open(&second);
    assert!(desk.take_update(&Region::update(&desk.directory(), &[&second])).unwrap());
    try_send(&desk, &How::default()).unwrap();
    let now = clock::now_ms();
    let later = now + crate::core::log::attested::CHANGE_MS + 60_000;
    assert!(desk.attested.lock().unwrap().check(now).is_ok());
    assert!(desk.attested.lock().unwrap().check(later).is_err());
    desk.note_attested(&entry(second.hash(), now), now);
    assert!(desk.attested.lock().unwrap().check(later).is_ok());
    // What came while the node was off counts from when it was seen.
    drop(desk);
    let third = region.next(|_| {});
    fs::write(region.path("TH").join("directory.bin"), &third).unwrap();
    try_send(&region.desk("TH"), &How::default()).unwrap();
}

#[test]
fn the_hello_of_a_witness_attests_what_it_knows_and_a_quorum_is_not_forgotten_for_less() {
    let region = Region::new();
    let (honest, desk) = (Tree::new(60, HONEST), region.desk("TH"));
    let directory = desk.directory();
    let shown = || SignedCheckpoint::parse(&desk.hello().root_checkpoint).unwrap();
    assert!(desk.hello().root_checkpoint.is_empty());
    desk.learn_checkpoint(note(&region, &honest, 30), &[]).unwrap();
    let me = directory.witness("TH").unwrap();
    assert!(shown().claim().size == 30 && shown().cosigned_at(&me).is_some());
    assert!(shown().verify(&origin(), &public(&region.log_key())).is_ok());
    // A body says it without: who reads it asks nothing of the witness.
    assert!(SignedCheckpoint::parse(&desk.known_note()).unwrap().cosigned_at(&me).is_none());
    let others = directory.witnesses().into_iter().find(|witness| witness.name != me.name);
    let Some(other) = others else { return };
    let mut more = note(&region, &honest, 30);
    let agency = other.name.rsplit('/').next().unwrap().to_owned();
    let seed = region.secrets[&agency].witness_seed.as_ref().try_into().unwrap();
    let key = SigningKey::from_seed(KeyRole::Witness, &Zeroizing::new(seed)).unwrap();
    more.add_cosignature(&other, &more.cosign(&key, 1_900_000_000).unwrap()).unwrap();
    desk.learn_checkpoint(more, &[]).unwrap();
    desk.learn_checkpoint(note(&region, &honest, 30), &[]).unwrap();
    assert_eq!(shown().cosignatures(&directory.witnesses()).len(), 2);
}

#[test]
fn a_witness_cosigns_by_the_clock_that_was_agreed_and_never_attests_one_in_doubt() {
    let region = Region::new();
    let (honest, desk) = (Tree::new(60, HONEST), region.desk("TH"));
    let asked = canonical::encode(&request(&region, &honest, 0, 10));
    let answer = desk.cosign(&asked, 1_700_000_000_000).unwrap();
    assert_eq!(answer.cosignature[..8], 1_700_000_000_u64.to_be_bytes());
    let me = desk.directory().witness("TH").unwrap();
    let shown_s = || {
        let shown = SignedCheckpoint::parse(&desk.hello().root_checkpoint).unwrap();
        shown.cosigned_at(&me).unwrap()
    };
    let (now_ms, day_ms) = (clock::now_ms(), 86_400_000);
    assert!(shown_s() >= now_ms / 1_000);
    desk.doubt_clock();
    assert_eq!(shown_s(), 0, "a quorum counts it, and nobody takes it for fresh");
    desk.compare_clocks(now_ms - day_ms, now_ms - day_ms);
    assert_eq!(shown_s(), 0);
    desk.compare_clocks(now_ms, now_ms);
    assert!(shown_s() >= now_ms / 1_000);
}
