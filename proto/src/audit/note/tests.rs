use zeroize::Zeroizing;

use super::*;

const ORIGIN: &str = "hub.mekong/audit";

fn key(role: KeyRole, seed: u8) -> (SigningKey, VerifyingKey) {
    let key = SigningKey::from_seed(role, &Zeroizing::new([seed; 32])).unwrap();
    let public = VerifyingKey::parse(&key.public_key()).unwrap();
    (key, public)
}

fn witness(seed: u8) -> (SigningKey, WitnessKey) {
    let (secret, key) = key(KeyRole::Witness, seed);
    (secret, WitnessKey { name: witness_name("mekong", &format!("W{seed}")), key })
}

fn signed() -> (SignedCheckpoint, VerifyingKey) {
    let (secret, public) = key(KeyRole::Log, 1);
    let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: 42, root: [7; 32] };
    (SignedCheckpoint::sign(checkpoint, &secret).unwrap(), public)
}

/// The published example of the C2SP tlog-cosignature specification.
#[test]
fn the_example_of_the_specification_reads_and_writes_the_same() {
    let note = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
        \u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
        \u{2014} witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";
    let parsed = SignedCheckpoint::parse(note.as_bytes()).unwrap();
    assert_eq!((parsed.claim().size, parsed.to_string().as_str()), (20_852_163, note));
}

#[test]
fn a_checkpoint_is_believed_of_its_log_only() {
    let (signed, public) = signed();
    let read = SignedCheckpoint::parse(&signed.to_bytes()).unwrap();
    assert_eq!(read.verify(ORIGIN, &public).unwrap().size, 42);
    assert_eq!(read.verify("other/audit", &public), Err(NoteError::Origin));
    assert_eq!(read.verify(ORIGIN, &key(KeyRole::Log, 2).1), Err(NoteError::Signature));
    let (secret, _) = key(KeyRole::Receipt, 1);
    assert_eq!(SignedCheckpoint::sign(read.claim().clone(), &secret), Err(NoteError::Role));
}

#[test]
fn every_flipped_bit_is_noticed() {
    let (mut signed, public) = signed();
    let (secret, witness) = witness(5);
    let cosignature = signed.cosign(&secret, 1_900_000_000).unwrap();
    signed.add_cosignature(&witness, &cosignature).unwrap();
    let bytes = signed.to_bytes();
    for bit in 0..bytes.len() * 8 {
        let mut other = bytes.to_vec();
        other[bit / 8] ^= 1 << (bit % 8);
        let Ok(read) = SignedCheckpoint::parse(&other) else { continue };
        let both = read.verify(ORIGIN, &public).is_ok() && read.cosigned_at(&witness).is_some();
        assert!(!both, "bit {bit} of {}", bytes.len());
    }
}

#[test]
fn two_notes_of_one_checkpoint_join_what_counts() {
    let (log, public) = signed();
    let all: Vec<(SigningKey, WitnessKey)> = (10..14).map(witness).collect();
    let keys: Vec<WitnessKey> = all[..3].iter().map(|(_, key)| key.clone()).collect();
    let by = |indices: &[usize]| {
        let mut note = log.clone();
        for index in indices {
            let cosignature = log.cosign(&all[*index].0, 100).unwrap();
            note.add_cosignature(&all[*index].1, &cosignature).unwrap();
        }
        note
    };
    let joined = by(&[0, 3]).joined(&by(&[1, 0]), &public, &keys);
    assert_eq!((joined.cosignatures(&keys).len(), joined.lines.len()), (2, 3), "a stranger is left out");
    assert!(joined.verify(ORIGIN, &public).is_ok());
    // A cosignature of something else does not count, and does not keep the true one out.
    let mut lying = by(&[2]);
    lying.lines[1].signature[70] ^= 1;
    assert_eq!(lying.joined(&by(&[2]), &public, &keys).cosignatures(&keys), [100]);
}

#[test]
fn a_quorum_counts_each_witness_once() {
    assert_eq!([0, 1, 2, 3, 4, 5, 7, 10, 11].map(quorum), [0, 1, 2, 2, 3, 4, 5, 7, 8]);
    let (mut signed, _) = signed();
    let all: Vec<(SigningKey, WitnessKey)> = (10..14).map(witness).collect();
    let keys: Vec<WitnessKey> = all.iter().map(|(_, key)| key.clone()).collect();
    for (time, index) in [(100, 0), (101, 0), (90, 1)] {
        let cosignature = signed.cosign(&all[index].0, time).unwrap();
        signed.add_cosignature(&keys[index], &cosignature).unwrap();
    }
    assert_eq!((signed.cosignatures(&keys), signed.witnessed_at(&keys)), (vec![90, 101], None));
    let cosignature = signed.cosign(&all[2].0, 120).unwrap();
    assert_eq!(signed.add_cosignature(&keys[3], &cosignature), Err(NoteError::Signature));
    signed.add_cosignature(&keys[2], &cosignature).unwrap();
    assert_eq!(signed.witnessed_at(&keys), Some(120));
    assert_eq!(signed.witnessed_at(&[]), None);
    let read = SignedCheckpoint::parse(&signed.to_bytes()).unwrap();
    assert_eq!(read.witnessed_at(&keys), Some(120));
}

#[test]
fn as_many_witnesses_as_a_region_may_have_fit() {
    let (mut signed, _) = signed();
    for seed in 0..limits::WITNESSES_MAX {
        let (secret, mut witness) = witness(u8::try_from(seed).unwrap());
        witness.name = witness_name(&"r".repeat(64), &format!("{seed:A>32}"));
        let cosignature = signed.cosign(&secret, u64::MAX).unwrap();
        signed.add_cosignature(&witness, &cosignature).unwrap();
    }
}

#[test]
fn what_is_no_checkpoint_is_refused() {
    let (signed, _) = signed();
    let note = signed.to_string();
    let sized = note.replace("\n42\n", "\n042\n");
    let long = note.repeat(40);
    let wrong = ["", "\n\n", note.trim_end(), &sized, &long, &note.replace('\n', "\r\n")];
    for wrong in wrong {
        assert!(SignedCheckpoint::parse(wrong.as_bytes()).is_err(), "{wrong}");
    }
    assert!(SignedCheckpoint::parse(note.replace("\n\n", "\nextension\n\n").as_bytes()).is_err());
}
