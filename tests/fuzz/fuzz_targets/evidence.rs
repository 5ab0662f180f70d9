//! Evidence, and the file that shows what became of a packet: what is parsed is written again as it came, and no changed
//! statement or proof is believed.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use lintas_fuzz::{
    draws::Draws,
    edit::edited,
    fixtures::{Fixtures, fixtures},
    messages::gate,
    shaped,
};
use lintas_proto::{
    audit::{epoch::RootEntry, leaf::open_event, note::SignedCheckpoint, proof::TlogProof},
    canonical::{decode, encode},
    envelope::verify::verify_header,
    evidence::{Evidence, sign_evidence, verify_evidence},
    id::Digest,
    limits,
    receipt::{Receipt, sign_receipts},
    schema::{
        self, DirectoryBundle, EvidenceFile, LeafProof, Outcome, Reason, RootProof, SignedEvidence,
        SignedReceipt, SignedRoster, Stage, UnitRef,
    },
};

fuzz_target!(|data: &[u8]| {
    let (mut draws, all) = (Draws::new(data), fixtures());
    let valid = all.evidence.to_bytes().unwrap();
    match draws.byte() % 8 {
        0 => parse(&Bytes::copy_from_slice(draws.rest())),
        1 => parse(&edited(&valid, &mut draws).into()),
        2 => parse(&shaped::changed::<schema::Evidence>(&valid, &mut draws).into()),
        3 => believed(&all, &edited(&encode(&signed(&all, &all.evidence)), &mut draws).into()),
        4 => {
            let changed =
                shaped::changed::<SignedEvidence>(&encode(&signed(&all, &all.evidence)), &mut draws);
            believed(&all, &changed.into());
        }
        5 => file(&all, &Bytes::copy_from_slice(draws.rest())),
        6 => file(&all, &edited(&whole_file(&all), &mut draws).into()),
        _ => file(&all, &shaped::changed::<EvidenceFile>(&whole_file(&all), &mut draws).into()),
    }
});

fn parse(bytes: &Bytes) {
    let Ok(evidence) = Evidence::parse(bytes) else { return };
    assert_eq!(evidence.to_bytes().as_ref(), Ok(bytes), "written otherwise than it was read");
    assert!(bytes.len() <= limits::EVIDENCE_BYTES_MAX && evidence.text.len() <= limits::SENTENCE_BYTES_MAX);
    assert_eq!(evidence.outcome == Outcome::Acceptance, evidence.reason == Reason::Accepted);
    assert_eq!(evidence.recipient.is_none(), evidence.stage == Stage::Submission);
    assert!(evidence.policy_id.is_empty() || evidence.reason == Reason::Policy);
    assert!(evidence.time_ms > 0);
}

/// The first of a group of two.
fn signed(all: &Fixtures, evidence: &Evidence) -> SignedEvidence {
    let later = Evidence { time_ms: all.evidence.time_ms + 100, ..all.evidence.clone() };
    sign_evidence(&[evidence.clone(), later], &all.kh_signer).unwrap().swap_remove(0)
}

fn believed(all: &Fixtures, bytes: &Bytes) {
    let Ok(given) = decode::<SignedEvidence>(bytes, limits::SIGNED_EVIDENCE_BYTES_MAX) else { return };
    let find = |actor: &UnitRef, id: &Digest| {
        (actor.agency == "KH" && id == all.kh_signer.id()).then_some(&all.kh_public)
    };
    if let Ok(evidence) = verify_evidence(&given, find) {
        assert_eq!(
            (evidence, given),
            (all.evidence.clone(), signed(all, &all.evidence)),
            "nobody signed that"
        );
    }
}

/// A file with all of its parts but the directory, which is no matter of this crate.
fn whole_file(all: &Fixtures) -> Bytes {
    let receipts = sign_receipts(&[all.receipt.to_bytes()], &all.broker_signer).unwrap();
    let proof = Bytes::from(all.proof.to_text());
    encode(&EvidenceFile {
        format: 1,
        header: all.packet.submission.header.clone(),
        signature: all.packet.submission.signature.clone(),
        receipt: encode(&receipts[0]),
        evidence: vec![encode(&signed(all, &all.evidence))],
        root: Some(RootProof { proof, ..RootProof::default() }),
        ..EvidenceFile::default()
    })
}

/// Each part through the parser that a verifier of the file asks.
fn file(all: &Fixtures, bytes: &Bytes) {
    let Some(file) = gate::<EvidenceFile>(bytes) else { return };
    let known =
        file.header == all.packet.submission.header && file.signature == all.packet.submission.signature;
    assert_eq!(verify_header(&file.header, &file.signature, all.directory()).is_ok(), known);
    gate::<DirectoryBundle>(&file.directory);
    file.rosters.iter().for_each(|roster| drop(gate::<SignedRoster>(roster)));
    if let Some(signed) = gate::<SignedReceipt>(&file.receipt) {
        if let Ok((receipt, events)) = Receipt::parse(&signed.receipt) {
            assert_eq!(receipt.to_bytes(), signed.receipt);
            assert!(receipt.events.iter().map(|logged| open_event(logged)).eq(events.into_iter().map(Ok)));
        }
    }
    file.evidence.iter().for_each(|evidence| believed(all, evidence));
    file.leaves.iter().for_each(|leaf| drop(gate::<LeafProof>(&encode(leaf))));
    if let Some(root) = &file.root {
        if let Ok(proof) = TlogProof::parse(&root.proof) {
            assert_eq!(proof.to_text().as_bytes(), root.proof);
            assert!(SignedCheckpoint::parse(&proof.checkpoint.to_bytes()).is_ok());
        }
        if let Ok(entry) = RootEntry::parse(&root.entry) {
            assert_eq!(entry.to_bytes().as_slice(), root.entry);
        }
    }
}
