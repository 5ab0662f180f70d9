//! Checkpoints, cosignatures and proofs of the published log: one text each, and a signature holds for its text only.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lintas_fuzz::{
    draws::Draws,
    edit::edited,
    fixtures::{COSIGNED_S, Fixtures, LOG_INDEX, fixtures, origin},
};
use lintas_proto::{
    audit::{
        note::{SignedCheckpoint, quorum},
        proof::{PROOF_BYTES_MAX, TlogProof},
    },
    limits,
};

fuzz_target!(|data: &[u8]| {
    let (mut draws, all) = (Draws::new(data), fixtures());
    match draws.byte() % 5 {
        0 => note(&all, draws.rest()),
        1 => note(&all, &edited(&all.note.to_bytes(), &mut draws)),
        2 => cosignature(&all, &mut draws),
        3 => proof(&all, draws.rest()),
        _ => proof(&all, &edited(all.proof.to_text().as_bytes(), &mut draws)),
    }
});

fn note(all: &Fixtures, bytes: &[u8]) {
    let Ok(note) = SignedCheckpoint::parse(bytes) else { return };
    assert_eq!(note.to_bytes(), bytes, "written otherwise than it was read");
    assert!(bytes.len() <= limits::CHECKPOINT_BYTES_MAX);
    believed(all, &note);
    assert!(!bytes.contains(&b'\r') && !bytes.contains(&0x1b), "it may be printed");
}

/// Log and witnesses have signed one text.
fn believed(all: &Fixtures, note: &SignedCheckpoint) {
    let same = note.claim() == all.note.claim();
    let verified = note.verify(&origin(), &all.log_public);
    assert!(verified.is_err() || same, "a checkpoint that the log has not signed");
    let at = note.cosignatures(&all.witnesses);
    assert!(
        at.iter().all(|time| *time == COSIGNED_S) && (at.is_empty() || same),
        "a cosignature of another text"
    );
    assert!(at.len() <= all.witnesses.len(), "a witness counted twice");
    let attested = at.len() >= quorum(all.witnesses.len());
    assert_eq!(note.witnessed_at(&all.witnesses), attested.then_some(COSIGNED_S));
    let joined = note.joined(&all.note, &all.log_public, &all.witnesses);
    assert_eq!(joined.claim(), note.claim());
    assert_eq!(joined.cosignatures(&all.witnesses).len(), if same { all.witnesses.len() } else { 0 });
    assert!(verified.is_err() || joined.to_bytes().len() <= limits::CHECKPOINT_BYTES_MAX);
}

fn cosignature(all: &Fixtures, draws: &mut Draws<'_>) {
    let mut note = all.note.clone();
    let from = draws.some(80).to_vec();
    let witness = &all.witnesses[draws.below(all.witnesses.len())];
    if note.add_cosignature(witness, &from).is_ok() {
        assert_eq!(note.to_bytes().len(), all.note.to_bytes().len());
        believed(all, &note);
        assert_eq!(note.cosigned_at(witness), Some(COSIGNED_S), "a cosignature that nobody made");
    }
}

fn proof(all: &Fixtures, text: &[u8]) {
    let Ok(proof) = TlogProof::parse(text) else { return };
    assert_eq!(proof.to_text().as_bytes(), text, "written otherwise than it was read");
    assert!(text.len() <= PROOF_BYTES_MAX);
    believed(all, &proof.checkpoint);
    for (index, entry) in all.entries.iter().enumerate() {
        let holds = proof.verify(entry, &origin(), &all.log_public).is_ok();
        let proved = index == LOG_INDEX && proof.index == LOG_INDEX as u64 && proof.path == all.proof.path;
        assert!(!holds || proved, "entry {index} at {}", proof.index);
    }
}
