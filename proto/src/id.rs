//! Identifiers and digests: fixed sizes, one text form each.

use std::{fmt, str::FromStr};

use rand_core::CryptoRng;
use ring::digest::{Context, SHA256};
use thiserror::Error;

use crate::limits;

/// A SHA-256 digest.
pub type Digest = [u8; 32];

/// SHA-256 over the concatenation of `parts` (FIPS 180-4).
#[must_use]
pub fn sha256(parts: &[&[u8]]) -> Digest {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    finish(context)
}

/// Ends a running SHA-256.
pub(crate) fn finish(context: Context) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// Lower-case hex of any bytes.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Bytes of a hex text, either case.
///
/// # Errors
/// [`IdError::Hex`].
pub fn unhex(text: &str) -> Result<Vec<u8>, IdError> {
    let digit =
        |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok()).ok_or(IdError::Hex);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return Err(IdError::Hex);
    }
    pairs.iter().map(|[high, low]| Ok(digit(*high)? << 4 | digit(*low)?)).collect()
}

/// An identifier that is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum IdError {
    /// Not a UUIDv7.
    #[error("not a UUID of version 7, e.g. `0190a5b2-7c00-7abc-8def-0123456789ab`")]
    NotUuidV7,
    /// Not hex digits in pairs.
    #[error("not hex digits in pairs")]
    Hex,
    /// Not an agency or unit code.
    #[error("not a code: 1 to 32 of `A-Z`, `0-9` and `-`, starting with a letter")]
    Code,
    /// Not a region or broker name.
    #[error("not a name: 1 to 64 of `a-z`, `0-9`, `-` and `.`, starting with a letter")]
    Name,
}

/// UUIDv7 of a packet or a grant (RFC 9562 section 5.7): 48 bits of milliseconds, then 74 random bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId([u8; 16]);

impl PacketId {
    /// A new id made at `now_ms`.
    #[must_use]
    pub fn new(now_ms: u64, entropy: &mut dyn CryptoRng) -> Self {
        let mut bytes = [0; 16];
        entropy.fill_bytes(&mut bytes);
        let [_, _, a, b, c, d, e, f] = now_ms.to_be_bytes();
        let [.., g, h, i, j, k, l, m, n, o, p] = bytes;
        Self([a, b, c, d, e, f, 0x70 | (g & 0x0f), h, 0x80 | (i & 0x3f), j, k, l, m, n, o, p])
    }

    /// Reads 16 bytes.
    ///
    /// # Errors
    /// [`IdError::NotUuidV7`] for another size, version or variant.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, IdError> {
        let bytes: [u8; 16] = bytes.try_into().map_err(|_| IdError::NotUuidV7)?;
        let [_, _, _, _, _, _, version, _, variant, ..] = bytes;
        if version >> 4 == 7 && variant >> 6 == 2 { Ok(Self(bytes)) } else { Err(IdError::NotUuidV7) }
    }

    /// The 16 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// When it was made, milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn created_ms(&self) -> u64 {
        let [a, b, c, d, e, f, ..] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }
}

impl fmt::Display for PacketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let dash = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for PacketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PacketId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bytes = unhex(&text.replace('-', "")).map_err(|_| IdError::NotUuidV7)?;
        Self::from_bytes(&bytes)
    }
}

/// Checks an agency or unit code. ASCII capitals only, so that no two codes look alike.
///
/// # Errors
/// [`IdError::Code`].
pub fn check_code(code: &str) -> Result<(), IdError> {
    let first = code.bytes().next().is_some_and(|byte| byte.is_ascii_uppercase());
    let all = code.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-');
    if first && all && code.len() <= limits::CODE_BYTES_MAX { Ok(()) } else { Err(IdError::Code) }
}

/// Checks a region or broker name. ASCII small letters only.
///
/// # Errors
/// [`IdError::Name`].
pub fn check_name(name: &str) -> Result<(), IdError> {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    let all =
        name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte));
    if first && all && name.len() <= limits::NAME_BYTES_MAX { Ok(()) } else { Err(IdError::Name) }
}
