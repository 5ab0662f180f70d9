//! Rules of evidence, receipts and groups. For each rule something that keeps all others.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests; a failure is a failed test"
)]

mod scene;

use bytes::Bytes;
use lintas_proto::{
    audit::{
        group::GroupError,
        leaf::{LeafError, log_event},
    },
    canonical::encode,
    evidence::{Evidence, EvidenceError, sign_evidence, verify_evidence},
    id::Digest,
    receipt::{Receipt, ReceiptError, sign_receipts, verify_receipt},
    schema::{self, Outcome, Reason, Stage},
    sign::{KeyRole, Signed, VerifyingKey},
};
use scene::{DAY_MS, NOW_MS, Packet, Stream};

fn packet() -> Packet {
    scene::packet(&mut Stream::new("rules"))
}

fn evidence_with(change: impl FnOnce(&mut Evidence)) -> Result<Bytes, EvidenceError> {
    let mut evidence = scene::delivered(&packet());
    change(&mut evidence);
    evidence.to_bytes()
}

#[test]
fn evidence_that_breaks_a_rule_is_refused() {
    type Change = fn(&mut Evidence);
    let changes: [(Change, &str); 11] = [
        (|e| e.stage = Stage::Unspecified, "stage"),
        (|e| e.outcome = Outcome::Unspecified, "outcome"),
        (|e| e.reason = Reason::Unspecified, "reason"),
        (|e| e.reason = Reason::Policy, "reason"),
        (|e| e.outcome = Outcome::Rejection, "reason"),
        (|e| e.text = "x".repeat(385), "text"),
        (|e| e.policy_id = "p".to_owned(), "policy_id"),
        (|e| e.recipient = None, "recipient"),
        (|e| (e.stage, e.leaf) = (Stage::Submission, None), "recipient"),
        (|e| (e.stage, e.recipient) = (Stage::Submission, None), "leaf"),
        (|e| e.time_ms = 0, "time_ms"),
    ];
    evidence_with(|_| ()).unwrap();
    for (number, (change, field)) in changes.into_iter().enumerate() {
        assert_eq!(evidence_with(change), Err(EvidenceError::Field(field)), "change {number}");
    }
    let names: [Change; 5] = [
        |e| e.region = "Mekong".to_owned(),
        |e| e.actor.agency = "kh".to_owned(),
        |e| e.actor.unit = "kh".to_owned(),
        |e| (e.actor.agency, e.actor.unit) = ("KH".to_owned(), String::new()),
        |e| e.recipient = Some(scene::unit("KH", "")),
    ];
    for (number, change) in names.into_iter().enumerate() {
        assert!(matches!(evidence_with(change), Err(EvidenceError::Id(_))), "name {number}");
    }
    evidence_with(|e| e.actor = scene::unit("broker.mekong", "")).unwrap();
    let raw = |change: fn(&mut schema::Evidence)| {
        let bytes = scene::delivered(&packet()).to_bytes().unwrap();
        let mut wire: schema::Evidence = lintas_proto::canonical::decode(&bytes, 1_024).unwrap();
        change(&mut wire);
        Evidence::parse(&encode(&wire)).unwrap_err()
    };
    assert_eq!(raw(|wire| wire.suite = 2), EvidenceError::Field("suite"));
    assert_eq!(raw(|wire| wire.actor = None), EvidenceError::Field("actor"));
    assert!(matches!(raw(|wire| wire.leaf.truncate(57)), EvidenceError::Size(_)));
    assert!(matches!(raw(|wire| wire.header_digest.truncate(31)), EvidenceError::Size(_)));
    assert!(matches!(raw(|wire| wire.text = "x".repeat(1_024)), EvidenceError::Decode(_)), "beyond 1 KiB");
}

#[test]
fn evidence_is_verified_with_the_key_of_who_speaks() {
    let key = scene::signer(scene::KH_SIGN, KeyRole::Packet);
    let public = VerifyingKey::parse(&key.public_key()).unwrap();
    let signed = sign_evidence(&[scene::delivered(&packet())], &key).unwrap().remove(0);
    let seen =
        verify_evidence(&signed, |actor, id| (*actor == scene::kh() && id == key.id()).then_some(&public));
    assert_eq!(seen.unwrap(), scene::delivered(&packet()));
    let unknown = verify_evidence(&signed, |_, _| None).unwrap_err();
    assert_eq!(unknown, EvidenceError::Group(GroupError::UnknownKey));
    let bare = schema::SignedEvidence { proof: None, ..signed };
    assert_eq!(verify_evidence(&bare, |_, _| Some(&public)).unwrap_err(), EvidenceError::Field("proof"));
}

fn receipt_with(change: impl FnOnce(&mut Receipt)) -> Result<(), ReceiptError> {
    let mut receipt = scene::receipt(&packet(), &mut Stream::new("salts"));
    change(&mut receipt);
    Receipt::parse(&receipt.to_bytes()).map(|_| ())
}

/// The first event of a receipt, changed and put under its salt again: a leaf that opens.
fn event_with(change: fn(&mut schema::AuditEvent)) -> Result<(), ReceiptError> {
    receipt_with(|receipt| {
        let logged = &receipt.events[0];
        let mut event: schema::AuditEvent = lintas_proto::canonical::decode(&logged.event, 2_048).unwrap();
        change(&mut event);
        receipt.events[0] = log_event(logged.index, logged.salt.as_ref().try_into().unwrap(), &event);
    })
}

#[test]
fn a_receipt_that_breaks_a_rule_is_refused() {
    type Change = fn(&mut Receipt);
    receipt_with(|_| ()).unwrap();
    let fields: [(Change, &str); 6] = [
        (|r| r.events.clear(), "events"),
        (|r| r.events.swap(0, 1), "events"),
        (|r| r.events[1].index = r.events[0].index, "events"),
        (|r| r.time_ms = 0, "deadline_ms"),
        (|r| r.deadline_ms = r.time_ms, "deadline_ms"),
        (|r| r.origin = "broker.mekong".to_owned(), "origin"),
    ];
    for (number, (change, field)) in fields.into_iter().enumerate() {
        assert_eq!(receipt_with(change), Err(ReceiptError::Field(field)), "change {number}");
    }
    for origin in
        ["Broker/audit/TH", "/audit/TH", "broker/audit/th", "broker/audit/A/audit/TH", "broker/audit/"]
    {
        let refused = receipt_with(|receipt| receipt.origin = origin.to_owned());
        assert!(matches!(refused, Err(ReceiptError::Id(_))), "{origin}: {refused:?}");
    }
    let other = Err(ReceiptError::Event { index: 0, error: LeafError::Mismatch });
    let events: [Change; 6] = [
        |r| r.events[0].salt = vec![1; 32].into(),
        |r| r.events[0].salt = vec![1; 31].into(),
        |r| r.events[0].leaf = vec![1; 58].into(),
        |r| r.events[0].leaf = [r.events[0].leaf.as_ref(), &[0]].concat().into(),
        |r| r.header_digest = [1; 32],
        |r| r.origin = "broker.mekong/audit/KH".to_owned(),
    ];
    for (number, change) in events.into_iter().enumerate() {
        assert_eq!(receipt_with(change), other, "event {number}");
    }
    assert_eq!(event_with(|event| event.agency = "KH".to_owned()), other);
    assert_eq!(event_with(|event| event.packet_id = Bytes::new()), other);
    assert_eq!(event_with(|event| event.header_digest = vec![1; 32].into()), other);
    let no_type = Err(ReceiptError::Event { index: 0, error: LeafError::NoType });
    assert_eq!(event_with(|event| event.r#type = 0), no_type);
}

#[test]
fn a_receipt_of_another_suite_is_refused() {
    let bytes = scene::receipt(&packet(), &mut Stream::new("salts")).to_bytes();
    let mut wire: schema::Receipt = lintas_proto::canonical::decode(&bytes, 65_536).unwrap();
    wire.suite = 2;
    assert_eq!(Receipt::parse(&encode(&wire)), Err(ReceiptError::Field("suite")));
}

#[test]
fn a_group_proof_that_cannot_be_is_refused() {
    let key = scene::signer(scene::BROKER_SIGN, KeyRole::Receipt);
    let public = VerifyingKey::parse(&key.public_key()).unwrap();
    let receipts: Vec<Bytes> = (0..5)
        .map(|n| Receipt {
            deadline_ms: NOW_MS + DAY_MS + n,
            ..scene::receipt(&packet(), &mut Stream::new("salts"))
        })
        .map(|receipt| receipt.to_bytes())
        .collect();
    let signed = sign_receipts(&receipts, &key).unwrap();
    let verify =
        |signed: &schema::SignedReceipt| verify_receipt(signed, |id| (id == key.id()).then_some(&public));
    signed.iter().for_each(|signed| drop(verify(signed).unwrap()));
    let with = |change: fn(&mut schema::GroupProof)| {
        let mut changed = signed[2].clone();
        change(changed.proof.as_mut().unwrap());
        verify(&changed).unwrap_err()
    };
    let (malformed, signature) =
        (ReceiptError::Group(GroupError::Malformed), ReceiptError::Group(GroupError::Signature));
    assert_eq!(with(|proof| proof.size = 0), malformed);
    assert_eq!(with(|proof| proof.index = 5), malformed);
    assert_eq!(with(|proof| proof.path.truncate(2)), malformed);
    assert_eq!(with(|proof| proof.path.push(vec![0; 32].into())), malformed);
    assert_eq!(with(|proof| proof.path[0].truncate(31)), malformed);
    assert_eq!(with(|proof| proof.key_id.truncate(31)), malformed);
    assert_eq!(with(|proof| proof.index = 3), signature);
    // Same path, another size: the root is the same, so the size is signed.
    assert_eq!(with(|proof| proof.size = 6), signature);
    assert_eq!(with(|proof| proof.signature.truncate(63)), signature);
    assert_eq!(with(|proof| proof.key_id = vec![1; 32].into()), ReceiptError::Group(GroupError::UnknownKey));
    // That it held under one key does not let it hold under another.
    let other = scene::signer(0x99, KeyRole::Receipt);
    let other = VerifyingKey::parse(&other.public_key()).unwrap();
    assert_eq!(verify_receipt(&signed[2], |_| Some(&other)).unwrap_err(), signature);
    // Evidence of one's own cannot stand for a receipt: the group has another PAE type.
    let evidence =
        lintas_proto::audit::group::sign(lintas_proto::audit::group::GroupOf::Evidence, &receipts, &key);
    let other = schema::SignedReceipt { proof: Some(evidence.unwrap().remove(2)), ..signed[2].clone() };
    assert_eq!(verify(&other).unwrap_err(), signature);
    let bare = schema::SignedReceipt { proof: None, ..signed[2].clone() };
    assert_eq!(verify(&bare).unwrap_err(), ReceiptError::Field("proof"));
}

#[test]
fn a_group_of_more_than_4_096_statements_is_refused() {
    use lintas_proto::audit::{
        group::{self, GroupOf},
        merkle,
    };
    let key = scene::signer(scene::BROKER_SIGN, KeyRole::Receipt);
    let public = VerifyingKey::parse(&key.public_key()).unwrap();
    let statements =
        |count: u32| -> Vec<Bytes> { (0..count).map(|n| n.to_be_bytes().to_vec().into()).collect() };
    let whole = statements(4_096);
    let proofs = group::sign(GroupOf::Receipts, &whole, &key).unwrap();
    group::verify(GroupOf::Receipts, &whole[4_095], &proofs[4_095], |_| Some(&public)).unwrap();
    let larger = statements(4_097);
    assert_eq!(group::sign(GroupOf::Receipts, &larger, &key), Err(GroupError::Malformed));
    assert_eq!(group::sign(GroupOf::Receipts, &[], &key), Err(GroupError::Malformed));
    // A signer who does not keep the limit: sound but for its size.
    let leaves: Vec<Digest> = larger.iter().map(|statement| merkle::leaf_hash(statement)).collect();
    let (root, paths) = merkle::paths(&leaves);
    let signed = [root.as_slice(), &4_097u32.to_be_bytes()].concat();
    let proof = schema::GroupProof {
        index: 0,
        size: 4_097,
        path: paths[0].iter().map(|hash| hash.to_vec().into()).collect(),
        key_id: key.id().to_vec().into(),
        signature: key.sign(Signed::ReceiptGroup, &signed).to_vec().into(),
    };
    public.verify(Signed::ReceiptGroup, &signed, &proof.signature).unwrap();
    let refused = group::verify(GroupOf::Receipts, &larger[0], &proof, |_| Some(&public));
    assert_eq!(refused, Err(GroupError::Malformed));
}
