//! A keyset on paper: base64 in lines of 64 characters, and a checksum, so that it can be typed in again.
//!
//! | line | what |
//! |---|---|
//! | begins with `#` | for people |
//! | `sum: ` and 16 hex digits | the first 8 bytes of the SHA-256 of the bytes |
//! | anything else | base64 (RFC 4648) of the bytes; white space is ignored |

use lintas_proto::id::{hex, sha256};
use thiserror::Error;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const LINE_CHARS: usize = 64;
const SUM: &str = "sum:";

/// Paper that was not read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum PaperError {
    /// Not base64.
    #[error("line {0} holds a character that cannot stand there; compare it with the paper")]
    Character(usize),
    /// No checksum line.
    #[error("the line that begins with `sum:` is missing")]
    NoSum,
    /// The checksum is another one.
    #[error(
        "the checksum differs: a character was mistyped, or a line is missing; compare it with the paper"
    )]
    Sum,
}

/// The text for `bytes`; `says` is for people.
pub(crate) fn write(says: &[&str], bytes: &[u8]) -> String {
    let mut out: String = says.iter().map(|line| format!("# {line}\n")).collect();
    let mut line = String::new();
    for group in bytes.chunks(3) {
        let number = group.iter().fold(0u32, |number, byte| number << 8 | u32::from(*byte));
        let number = number << (8 * (3 - group.len()));
        for at in 0..4 {
            let digit = usize::try_from(number >> (18 - 6 * at) & 63).unwrap_or_default();
            let padding = at > u32::try_from(group.len()).unwrap_or(3);
            line.push(if padding { '=' } else { ALPHABET.get(digit).map_or('=', |c| char::from(*c)) });
        }
        if line.len() >= LINE_CHARS {
            out.push_str(&line);
            out.push('\n');
            line.clear();
        }
    }
    if !line.is_empty() {
        out.push_str(&line);
        out.push('\n');
    }
    out.push_str(&format!("{SUM} {}\n", sum(bytes)));
    out
}

/// Reads what [`write`] wrote, typed in again or not.
pub(crate) fn read(text: &str) -> Result<Vec<u8>, PaperError> {
    let (mut bytes, mut bits, mut count, mut told) = (Vec::new(), 0u32, 0, None);
    for (number, line) in (1..).zip(text.lines()).map(|(number, line)| (number, line.trim())) {
        if line.starts_with('#') {
            continue;
        }
        if let Some(rest) = line.strip_prefix(SUM) {
            told = Some(rest.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_lowercase());
            continue;
        }
        for byte in line.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=') {
            let digit = ALPHABET.iter().position(|known| *known == byte);
            let digit = digit.and_then(|digit| u32::try_from(digit).ok());
            bits = (bits << 6 | digit.ok_or(PaperError::Character(number))?) & 0xffff;
            count += 6;
            if count >= 8 {
                count -= 8;
                bytes.push(u8::try_from(bits >> count & 0xff).unwrap_or_default());
            }
        }
    }
    let told = told.ok_or(PaperError::NoSum)?;
    if sum(&bytes) == told { Ok(bytes) } else { Err(PaperError::Sum) }
}

fn sum(bytes: &[u8]) -> String {
    hex(&sha256(&[bytes])).chars().take(16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_paper_is_read_back() {
        assert_eq!(write(&[], b"Man").lines().next(), Some("TWFu"));
        assert_eq!(write(&[], b"Ma").lines().next(), Some("TWE="));
        for length in 0..200 {
            let bytes: Vec<u8> = (0..length).map(|at| (at * 37 % 251) as u8).collect();
            let text = write(&["For the safe"], &bytes);
            assert!(text.lines().all(|line| line.len() <= LINE_CHARS), "{text}");
            assert_eq!(read(&text).unwrap(), bytes);
            assert_eq!(read(&text.replace('\n', " \r\n")).unwrap(), bytes);
        }
    }

    #[test]
    fn a_mistyped_character_and_a_lost_line_are_found() {
        let text = write(&["For the safe"], &[7; 200]);
        let line = text.lines().nth(2).unwrap();
        assert_eq!(read(&text.replacen(line, "", 1)), Err(PaperError::Sum));
        assert_eq!(read(&text.replacen("BwcH", "BwcI", 1)), Err(PaperError::Sum));
        assert_eq!(read(&text.replacen("BwcH", "Bw?H", 1)), Err(PaperError::Character(2)));
        let without = text.lines().filter(|line| !line.starts_with("sum")).collect::<Vec<_>>().join("\n");
        assert_eq!(read(&without), Err(PaperError::NoSum));
    }
}
