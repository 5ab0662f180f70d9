//! docs/examples/open_packet.py opens what this crate seals, and refuses what was changed.
//!
//! The program was written from docs/FORMAT.md on PyPI `cryptography`, so it shares no code with this crate.
//! Where no interpreter has that package, the tests say so on stderr and pass; with `LINTAS_NO_SKIP=1` they fail.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests; a failure is a failed test")]
#![allow(clippy::disallowed_methods, reason = "a test's file need not survive a power cut")]

mod scene;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use lintas_proto::{
    envelope::{
        seal::{Draft, Recipient, seal},
        wrap::DecryptionKey,
    },
    id::{PacketId, hex, sha256},
    sign::{KeyRole, SigningKey},
};
use rand_core::Rng as _;
use scene::{Given, System};
use zeroize::Zeroizing;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// An interpreter with `cryptography` 50 or later.
fn interpreter() -> Option<PathBuf> {
    let named = std::env::var_os("LINTAS_PYTHON").map(PathBuf::from);
    let own = root().join(".venv/bin/python");
    let candidates = named.map_or_else(|| vec![own, PathBuf::from("python3")], |named| vec![named]);
    let check = "import cryptography, sys; sys.exit(int(cryptography.__version__.split('.')[0]) < 50)";
    let fits = |python: &PathBuf| {
        Command::new(python).args(["-c", check]).output().is_ok_and(|output| output.status.success())
    };
    let found = candidates.into_iter().find(fits);
    if found.is_none() {
        let missing = "no Python with `cryptography` 50 or later; in the folder of the workspace run: \
                       python3 -m venv .venv && .venv/bin/pip install 'cryptography>=50'";
        assert!(std::env::var_os("LINTAS_NO_SKIP").is_none_or(|value| value != "1"), "{missing}");
        // Not `eprintln!`, which the test harness keeps to itself when a test passes.
        std::io::stderr().write_all(format!("\nSKIPPED: {missing}\n").as_bytes()).unwrap();
    }
    found
}

/// Runs the program on `json`: what it printed, or why it refused.
fn run(python: &Path, name: &str, json: &str) -> Result<String, String> {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.json"));
    std::fs::write(&file, json).unwrap();
    let program = root().join("docs/examples/open_packet.py");
    let output = Command::new(python).arg(program).arg(&file).env("PYTHONUTF8", "1").output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    if output.status.success() { Ok(out) } else { Err(err) }
}

#[test]
fn it_opens_the_worked_example() {
    let Some(python) = interpreter() else { return };
    let json = std::fs::read_to_string(root().join("docs/examples/packet.json")).unwrap();
    let printed = run(&python, "worked-example", &json).unwrap();
    let file = hex(&sha256(&[scene::FILE]));
    let expected = format!(
        "title [en]: Fishing boat with eleven men aboard\n\
         title [th]: เรือประมงมีชายสิบเอ็ดคน\n\
         attachment 'crew list.csv': {} bytes, SHA-256 {file}\n",
        scene::FILE.len()
    );
    assert_eq!(printed, expected);
}

/// A packet under keys that did not exist a moment ago, with attachments of no byte, of one byte, of one chunk
/// less one byte and of two segments.
fn fresh() -> (Given, Vec<usize>) {
    let mut entropy = System::new();
    let mut seed = || {
        let mut bytes = Zeroizing::new([0; 32]);
        entropy.fill_bytes(bytes.as_mut());
        bytes
    };
    let (sign_seed, secret_seed, other_seed) = (seed(), seed(), seed());
    let signer = SigningKey::from_seed(KeyRole::Packet, &sign_seed).unwrap();
    let secret = DecryptionKey::from_seed(&secret_seed).unwrap();
    let other = DecryptionKey::from_seed(&other_seed).unwrap();

    let packet_id = PacketId::new(scene::NOW_MS, &mut entropy);
    let (mut core, mut body) = (scene::core(packet_id), scene::body());
    let lengths = vec![0, 1, 16_383, 1_200_000];
    let mut blobs = Vec::new();
    for (index, length) in (0..).zip(&lengths) {
        let mut file = vec![0; *length];
        entropy.fill_bytes(&mut file);
        let (blob, reference, key) = scene::attachment(packet_id, index, &file, &mut entropy);
        core.attachments.push(reference);
        body.attachments.push(key);
        blobs.push(blob);
    }
    let recipients = vec![
        Recipient { unit: scene::vn(), key: other.public().clone(), previous: [0; 32], named: false },
        Recipient { unit: scene::kh(), key: secret.public().clone(), previous: [9; 32], named: true },
    ];
    let sealed =
        seal(Draft { core, body, recipients, visible_audience: true }, &signer, &mut entropy).unwrap();
    let blobs: Vec<&[u8]> = blobs.iter().map(Vec::as_slice).collect();
    (Given::of(&sealed, signer.public_key(), *secret_seed, 1, &blobs), lengths)
}

#[test]
fn it_opens_a_packet_that_was_sealed_just_now() {
    let Some(python) = interpreter() else { return };
    let (given, lengths) = fresh();
    let printed = run(&python, "fresh", &given.json(&[])).unwrap();
    for length in lengths {
        let line = format!("attachment 'crew list.csv': {length} bytes, SHA-256 ");
        assert!(printed.contains(&line), "{line} in {printed}");
    }
    assert!(printed.starts_with("title [en]: Fishing boat with eleven men aboard\n"), "{printed}");
}

#[test]
fn it_refuses_a_packet_of_which_any_part_was_changed() {
    let Some(python) = interpreter() else { return };
    type PartOf = fn(&mut Given) -> &mut Vec<u8>;
    let parts: [(&str, PartOf, &str); 8] = [
        ("signing_key", |g| &mut g.signing_key, "InvalidSignature"),
        ("decryption_seed", |g| &mut g.decryption_seed, "InvalidTag"),
        ("header", |g| &mut g.header, "InvalidSignature"),
        ("signature", |g| &mut g.signature, "InvalidSignature"),
        ("opening", |g| &mut g.opening, ""),
        ("wrap", |g| &mut g.wrap, "key wrap does not fit the header"),
        ("body", |g| &mut g.body, "body does not fit the header"),
        ("blob", |g| g.blobs.first_mut().unwrap(), "attachment does not fit the core"),
    ];
    let packet = scene::packet(&mut System::new());
    let signing_key = scene::signer(scene::TH_SIGN, KeyRole::Packet).public_key();
    for (name, part, reason) in parts {
        let given = || Given::of(&packet.sealed, signing_key, [scene::KH_SEED; 32], 0, &[&packet.blob]);
        let length = part(&mut given()).len();
        run(&python, name, &given().json(&[])).unwrap();
        for at in [0, length / 2, length - 1] {
            let mut changed = given();
            *part(&mut changed).get_mut(at).unwrap() ^= 0x01;
            let refused = run(&python, name, &changed.json(&[])).unwrap_err();
            // A key of which one bit is turned may be no point at all: then the reason is another one.
            let named = refused.contains(reason) || name == "signing_key";
            assert!(refused.starts_with("refused: ") && named, "{name} at {at}: {refused}");
        }
        let mut cut = given();
        part(&mut cut).pop();
        assert!(run(&python, name, &cut.json(&[])).unwrap_err().starts_with("refused: "), "{name} cut");
        let mut longer = given();
        part(&mut longer).push(0);
        assert!(run(&python, name, &longer.json(&[])).unwrap_err().starts_with("refused: "), "{name} longer");
    }
}
