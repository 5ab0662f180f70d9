//! Fingerprints that two people compare by telephone: 12 words of a well-known list of 2,048 (BIP 39, English), or 12
//! groups of 5 digits, which can be read aloud in every language.
//!
//! 12 words hold the first 132 bits of a SHA-256, so nobody finds another key with the same words. No two words of
//! the list have the same first four letters, so a slip of the ear is noticed.

use bip39::Language;
use lintas_proto::id::{Digest, sha256, unhex};

/// Words of a fingerprint.
pub const WORDS: usize = 12;
/// Bits that a word stands for: 2¹¹ = 2,048.
const WORD_BITS: u32 = 11;

/// The first 132 bits of a digest as 12 words.
#[must_use]
pub fn words(digest: &Digest) -> String {
    let list = Language::English.word_list();
    let (mut pending, mut bits) = (0u32, 0);
    let mut found: Vec<&str> = Vec::with_capacity(WORDS);
    for byte in digest {
        pending = (pending << 8) | u32::from(*byte);
        bits += 8;
        if bits >= WORD_BITS && found.len() < WORDS {
            bits -= WORD_BITS;
            let at = usize::try_from(pending >> bits).unwrap_or(usize::MAX);
            found.extend(list.get(at));
            pending &= (1 << bits) - 1;
        }
        if found.len() == WORDS {
            break;
        }
    }
    found.join(" ")
}

/// The first 192 bits of a digest as 12 groups of 5 digits.
#[must_use]
pub fn digits(digest: &Digest) -> String {
    let (pairs, _) = digest.as_chunks::<2>();
    let groups = pairs.iter().take(12).map(|pair| format!("{:05}", u16::from_be_bytes(*pair)));
    groups.collect::<Vec<_>>().join(" ")
}

/// The words of a public key (identity, authority or broker key).
#[must_use]
pub fn fingerprint_words(key: &[u8; 32]) -> String {
    words(&key_digest(key))
}

/// The digits of a public key.
#[must_use]
pub fn fingerprint_digits(key: &[u8; 32]) -> String {
    digits(&key_digest(key))
}

fn key_digest(key: &[u8; 32]) -> Digest {
    sha256(&[b"lintas/v1/key-fingerprint\0", key])
}

/// Whether two people read the same words (or digits): case, spacing, commas and hyphens do not count.
#[must_use]
pub fn same_words(a: &str, b: &str) -> bool {
    let (a, b) = (parts(a), parts(b));
    !a.is_empty() && a == b
}

/// Whether that is meant to be a fingerprint: 12 words of the list, or 12 groups of 5 digits.
#[must_use]
pub fn is_fingerprint(text: &str) -> bool {
    let parts = parts(text);
    let word = |part: &String| Language::English.find_word(part).is_some();
    let group = |part: &String| part.len() == 5 && part.bytes().all(|byte| byte.is_ascii_digit());
    parts.len() == WORDS && (parts.iter().all(word) || parts.iter().all(group))
}

/// Whether that may name a key: a fingerprint, or 64 hex digits, in groups or not.
#[must_use]
pub fn is_key(text: &str) -> bool {
    let hex: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    is_fingerprint(text) || unhex(&hex).is_ok_and(|bytes| bytes.len() == 32)
}

/// Whether somebody names that key: by its words, by its digits, or by all of its 64 hex digits, in groups or not.
#[must_use]
pub fn names_key(text: &str, key: &[u8; 32]) -> bool {
    let hex: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    same_words(text, &fingerprint_words(key))
        || same_words(text, &fingerprint_digits(key))
        || unhex(&hex).is_ok_and(|bytes| bytes == key)
}

fn parts(text: &str) -> Vec<String> {
    let gap = |c: char| c.is_whitespace() || matches!(c, ',' | '-' | '.' | ';');
    text.split(gap).filter(|part| !part.is_empty()).map(str::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_become_words_in_order() {
        let zeros = [0; 32];
        assert_eq!(words(&zeros), ["abandon"; 12].join(" "));
        assert_eq!(words(&[0xff; 32]), ["zoo"; 12].join(" "));
        // 132 bits count, and those after them do not.
        for bit in 0..256usize {
            let mut digest = zeros;
            digest[bit / 8] = 0x80 >> (bit % 8);
            let words = words(&digest);
            let differs: Vec<usize> = words
                .split(' ')
                .enumerate()
                .filter(|(_, word)| *word != "abandon")
                .map(|(at, _)| at)
                .collect();
            assert_eq!(differs, if bit < 132 { vec![bit / 11] } else { vec![] }, "bit {bit}");
        }
        // 7f…7f of BIP 39's own test vectors: legal winner thank year wave sausage worth useful legal winner thank.
        let known = words(&[0x7f; 32]);
        assert!(known.starts_with("legal winner thank year wave sausage worth useful legal winner thank"));
    }

    #[test]
    fn a_key_is_named_by_words_digits_or_hex_however_they_are_typed() {
        let (key, other) = ([7; 32], [8; 32]);
        let words = fingerprint_words(&key);
        let typed = format!("  {} ", words.to_uppercase().replace(' ', ",\n "));
        assert!(same_words(&typed, &words) && names_key(&typed, &key) && is_fingerprint(&typed));
        assert!(names_key(&fingerprint_digits(&key), &key) && is_fingerprint(&fingerprint_digits(&key)));
        assert!(names_key(&"07 ".repeat(32), &key) && !is_fingerprint(&"07".repeat(32)));
        assert!(!names_key(&typed, &other) && !names_key("", &key) && !same_words("", " "));
        let eleven = words.rsplit_once(' ').unwrap().0;
        assert!(!names_key(eleven, &key) && !is_fingerprint(eleven) && !same_words(eleven, &words));
        assert!(!is_fingerprint(&format!("{eleven} lintas")));
    }
}
