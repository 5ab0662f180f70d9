//! Writes the first corpus: valid objects behind the byte that chooses how a target takes them, and choices drawn at random
//! from a fixed seed. `run merge` calls it, and keeps what covers something.

#![allow(clippy::disallowed_methods, reason = "files that need not survive a power cut")]
#![allow(clippy::unwrap_used, reason = "a tool; what fails is seen")]

use std::{fs, path::PathBuf};

use bytes::Bytes;
// Built as the targets are, so it needs what their instrumentation calls.
use libfuzzer_sys as _;
use lintas_fuzz::{
    fixtures::{COSIGNED_S, entropy, fixtures},
    messages::NAMES,
};
use lintas_proto::{
    canonical::encode,
    envelope::pad::pad,
    frame::{self, FrameType},
    receipt::sign_receipts,
    schema::{Acknowledgement, Hello, HelloAck},
};
use rand_core::Rng as _;

/// Random inputs for each target.
const RANDOM: usize = 400;

fn main() {
    let folder = PathBuf::from(std::env::args().nth(1).expect("a folder to write to"));
    let all = fixtures();
    let mut seeds: Vec<(&str, Vec<u8>)> = Vec::new();
    let mut add = |target, parts: &[&[u8]]| seeds.push((target, parts.concat()));
    for (at, packet) in (0u8..).zip(&all.kinds) {
        let (sent, core, body) = (encode(&packet.submission), &packet.header.core, encode(&packet.body));
        add("packet_core", &[&[0, at], core]);
        add("packet", &[&[0, at], &sent]);
        add("body", &[&[0, at], &pad(&body).unwrap()]);
        add("body", &[&[2, at], &body]);
        (1..8).for_each(|how| add("packet", &[&[how, at]]));
        (1..6).for_each(|how| add("grant", &[&[how, at, 0]]));
        for (number, grant) in (0..).zip(all.grants.iter().flatten()) {
            add("grant", &[&[0, at, number], &grant.grant]);
        }
        let submission = NAMES.iter().position(|name| *name == "Submission").unwrap();
        add("canonical", &[&[u8::try_from(submission).unwrap(), 0], &sent]);
        add("frames", &[&[at, 1, 2, 3], &framed(FrameType::Submission, &sent)]);
    }
    for (at, _) in (0u8..).zip(NAMES) {
        add("canonical", &[&[at, 1], &[0x55; 60]]);
    }
    let receipt = encode(&sign_receipts(&[all.receipt.to_bytes()], &all.broker_signer).unwrap()[0]);
    let hello = encode(&Hello { root_checkpoint: all.note.to_bytes(), ..Hello::default() });
    let ack = encode(&HelloAck { reason: 1, text: "welcome".to_owned(), ..HelloAck::default() });
    let several = [
        framed(FrameType::Hello, &hello),
        framed(FrameType::HelloAck, &ack),
        framed(FrameType::Receipt, &receipt),
        framed(
            FrameType::Acknowledgement,
            &encode(&Acknowledgement { queue_sequence: 7, ..Default::default() }),
        ),
    ];
    add("frames", &[&[2, 7, 0], &several.concat()]);
    add("keys", &[&[0], all.kh_public.as_bytes()]);
    add("keys", &[&[3], &all.kh.public().to_bytes()]);
    add("keys", &[&[6], b"0190a5b2-7c00-7abc-8def-0123456789ab"]);
    add("keys", &[&[7], b"KH-CNP"]);
    add("keys", &[&[7], b"broker.mekong"]);
    add("receipt", &[&[0], &all.receipt.to_bytes()]);
    add("evidence", &[&[0], &all.evidence.to_bytes().unwrap()]);
    add("note", &[&[0], &all.note.to_bytes()]);
    add("note", &[&[2, 80], &COSIGNED_S.to_be_bytes()]);
    add("note", &[&[3], all.proof.to_text().as_bytes()]);
    for path in [
        "checkpoint",
        "tile/3/x001/x234/067",
        "tile/entries/005.p/17",
        "roster/12",
        "slot-keys",
        "keys/x001/000",
    ] {
        add("log_files", &[&[0], path.as_bytes()]);
    }
    let targets: Vec<String> = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz_targets"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let mut entropy = entropy("seeds");
    for target in &targets {
        for number in 0..RANDOM {
            let mut bytes = vec![0; 1 + number];
            entropy.fill_bytes(&mut bytes);
            write(&folder, target, &bytes);
        }
    }
    for (target, bytes) in &seeds {
        assert!(targets.iter().any(|known| known == target), "{target}");
        write(&folder, target, bytes);
    }
}

fn framed(kind: FrameType, payload: &Bytes) -> Vec<u8> {
    [frame::header(kind, payload.len()).unwrap().as_slice(), payload].concat()
}

fn write(folder: &std::path::Path, target: &str, bytes: &[u8]) {
    let folder = folder.join(target);
    fs::create_dir_all(&folder).unwrap();
    let name = lintas_proto::id::hex(&lintas_proto::id::sha256(&[bytes])[..20]);
    fs::write(folder.join(name), bytes).unwrap();
}
