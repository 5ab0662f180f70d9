//! A group and the records in it.
//!
//! A group starts at a multiple of 8 bytes:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `LJGROUP1` |
//! | 8 | 8 | number of the segment |
//! | 16 | 4 | number of the group in its segment, from 0 |
//! | 20 | 4 | offset of this header in the segment |
//! | 24 | 4 | `synced`: everything of this segment below this offset was durable before this group was written |
//! | 28 | 4 | bytes of the records, without the padding |
//! | 32 | 4 | count of the records |
//! | 36 | 2 | contents: 1 owner, 2 carried, 3 snapshot, 4 moved, 5 closed, 6 index |
//! | 38 | 2 | zero |
//! | 40 | 8 | sequence of the first record (owner), else of the next one to come |
//! | 48 | 32 | SHA-256 of the group before this one, also across segments |
//! | 80 | 4 | zero |
//! | 84 | 4 | crc32c of bytes 0 to 84 |
//! | 88 | | the records, then zeros up to a multiple of 8 |
//!
//! A record:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | bytes of the payload |
//! | 4 | 2 | kind |
//! | 6 | 2 | zero |
//! | 8 | 8 | sequence: a carried record keeps its original one; the journal's own records have 0 |
//! | 16 | 4 | crc32c of: segment number (8 bytes), bytes 0 to 16, payload |
//! | 20 | | the payload |

use ring::digest::{SHA256, digest};

use crate::error::Field;
use crate::layout::{Hash, Take};

pub(crate) const GROUP_HEADER_BYTES: u32 = 88;
pub(crate) const FRAME_BYTES: u32 = 20;
/// Groups start at multiples of this, in bytes.
pub(crate) const ALIGN: u32 = 8;
pub(crate) const MAGIC: [u8; 8] = *b"LJGROUP1";

const CRC_AT: usize = 84;

/// What the records of a group are. The codes are stable; a retired one is never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contents {
    /// The owner's records, with new sequences.
    Owner,
    /// Live records out of a segment that goes away, with their old sequences.
    Carried,
    /// Parts of a snapshot, or its last record.
    Image,
    /// The move that recovery began in this segment's header is complete.
    Moved,
    /// The owner closed the journal; everything before is durable.
    Closed,
    /// What stands in this segment, which is complete; see `index`.
    Index,
}

impl Contents {
    fn code(self) -> u16 {
        match self {
            Self::Owner => 1,
            Self::Carried => 2,
            Self::Image => 3,
            Self::Moved => 4,
            Self::Closed => 5,
            Self::Index => 6,
        }
    }

    fn from_code(code: u16) -> Option<Self> {
        match code {
            1 => Some(Self::Owner),
            2 => Some(Self::Carried),
            3 => Some(Self::Image),
            4 => Some(Self::Moved),
            5 => Some(Self::Closed),
            6 => Some(Self::Index),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    pub(crate) segment: u64,
    pub(crate) number: u32,
    pub(crate) offset: u32,
    pub(crate) synced: u32,
    pub(crate) body_bytes: u32,
    pub(crate) records: u32,
    pub(crate) contents: Contents,
    pub(crate) first_sequence: u64,
    pub(crate) previous: Hash,
}

/// Where a group goes; what its header says besides its records.
#[derive(Debug, Clone)]
pub(crate) struct Position {
    pub(crate) segment: u64,
    pub(crate) number: u32,
    pub(crate) offset: u32,
    pub(crate) synced: u32,
    pub(crate) first_sequence: u64,
    pub(crate) previous: Hash,
}

/// One record in a segment's bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RawRecord<'a> {
    pub(crate) sequence: u64,
    pub(crate) kind: u16,
    pub(crate) payload: &'a [u8],
    /// For the index, when it is written; it is not read back with the record.
    pub(crate) brief: Option<&'a [u8]>,
}

impl RawRecord<'_> {
    /// Bytes of the frame and the payload; saturates where no segment could hold it.
    pub(crate) fn encoded_bytes(&self) -> u32 {
        u32::try_from(self.payload.len()).unwrap_or(u32::MAX).saturating_add(FRAME_BYTES)
    }
}

/// Bytes of a group whose records have payloads of these lengths, with header and padding.
pub(crate) fn encoded_bytes(payloads: impl IntoIterator<Item = u64>) -> u64 {
    let body = payloads
        .into_iter()
        .fold(0u64, |sum, bytes| sum.saturating_add(bytes).saturating_add(u64::from(FRAME_BYTES)));
    body.saturating_add(u64::from(GROUP_HEADER_BYTES))
        .div_ceil(u64::from(ALIGN))
        .saturating_mul(u64::from(ALIGN))
}

/// Appends one whole group to `out` and returns its SHA-256.
///
/// # Errors
/// [`Field::GroupLength`] when a length does not fit its field; `out` then holds what it held before. Callers
/// check their limits first, so that this is a fault of the journal.
pub(crate) fn encode<'a>(
    out: &mut Vec<u8>,
    position: &Position,
    contents: Contents,
    records: impl IntoIterator<Item = RawRecord<'a>>,
) -> Result<Hash, Field> {
    let start = out.len();
    let group = encode_after(out, start, position, contents, records);
    if group.is_none() {
        out.truncate(start);
    }
    group.ok_or(Field::GroupLength)
}

fn encode_after<'a>(
    out: &mut Vec<u8>,
    start: usize,
    position: &Position,
    contents: Contents,
    records: impl IntoIterator<Item = RawRecord<'a>>,
) -> Option<Hash> {
    let body_at = start.checked_add(GROUP_HEADER_BYTES as usize)?;
    out.resize(body_at, 0);
    let mut count = 0u32;
    for record in records {
        encode_record(out, position.segment, record)?;
        count = count.checked_add(1)?;
    }
    let body_bytes = u32::try_from(out.len().checked_sub(body_at)?).ok()?;
    let header = GroupHeader {
        segment: position.segment,
        number: position.number,
        offset: position.offset,
        synced: position.synced,
        body_bytes,
        records: count,
        contents,
        first_sequence: position.first_sequence,
        previous: position.previous,
    };
    out.get_mut(start..body_at)?.copy_from_slice(&header.encode());
    let padded = out.len().checked_sub(start)?.next_multiple_of(ALIGN as usize);
    out.resize(start.checked_add(padded)?, 0);
    Some(hash_of(out.get(start..)?))
}

fn encode_record(out: &mut Vec<u8>, segment: u64, record: RawRecord<'_>) -> Option<()> {
    let at = out.len();
    out.extend_from_slice(&u32::try_from(record.payload.len()).ok()?.to_le_bytes());
    out.extend_from_slice(&record.kind.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&record.sequence.to_le_bytes());
    let crc = record_crc(segment, out.get(at..)?, record.payload);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(record.payload);
    Some(())
}

/// SHA-256 of a whole group, header and padding included.
pub(crate) fn hash_of(group: &[u8]) -> Hash {
    let mut hash = [0; 32];
    let digest = digest(&SHA256, group);
    hash.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    hash
}

/// The segment number comes first in the checksum, so that a record that an earlier use of the file left
/// behind can never pass.
fn record_crc(segment: u64, frame: &[u8], payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&segment.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, frame);
    crc32c::crc32c_append(crc, payload)
}

impl GroupHeader {
    fn encode(&self) -> [u8; GROUP_HEADER_BYTES as usize] {
        let mut out = Vec::with_capacity(GROUP_HEADER_BYTES as usize);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.segment.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.synced.to_le_bytes());
        out.extend_from_slice(&self.body_bytes.to_le_bytes());
        out.extend_from_slice(&self.records.to_le_bytes());
        out.extend_from_slice(&self.contents.code().to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&self.first_sequence.to_le_bytes());
        out.extend_from_slice(&self.previous);
        out.extend_from_slice(&[0; 4]);
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        let mut block = [0; GROUP_HEADER_BYTES as usize];
        block.iter_mut().zip(out).for_each(|(to, from)| *to = from);
        block
    }

    /// Reads a group header found at `offset` of segment `segment`.
    ///
    /// # Errors
    /// The first field that is wrong: what the place dictates is compared before the checksum, so that the
    /// report names it.
    pub(crate) fn decode(bytes: &[u8], segment: u64, offset: u32) -> Result<Self, Field> {
        let block = bytes.get(..GROUP_HEADER_BYTES as usize).ok_or(Field::GroupLength)?;
        let (body, crc) = block.split_at_checked(CRC_AT).ok_or(Field::GroupLength)?;
        let mut take = Take(body);
        if take.array() != Some(MAGIC) {
            return Err(Field::GroupMagic);
        }
        if take.u64() != Some(segment) {
            return Err(Field::GroupSegment);
        }
        let number = take.u32().ok_or(Field::GroupLength)?;
        if take.u32() != Some(offset) {
            return Err(Field::GroupOffset);
        }
        if Take(crc).u32() != Some(crc32c::crc32c(body)) {
            return Err(Field::GroupChecksum);
        }
        Self::rest(&mut take, segment, number, offset).ok_or(Field::GroupContents)
    }

    fn rest(take: &mut Take<'_>, segment: u64, number: u32, offset: u32) -> Option<Self> {
        let synced = take.u32()?;
        let body_bytes = take.u32()?;
        let records = take.u32()?;
        let contents = Contents::from_code(take.u16()?)?;
        let _zero = take.u16()?;
        let first_sequence = take.u64()?;
        let previous = take.array()?;
        Some(Self {
            segment,
            number,
            offset,
            synced,
            body_bytes,
            records,
            contents,
            first_sequence,
            previous,
        })
    }
}

/// Reads the record at the front of `bytes`, which lies in segment `segment`.
///
/// # Errors
/// The field that is wrong: a length beyond `bytes`, or the checksum.
pub(crate) fn decode_record(bytes: &[u8], segment: u64) -> Result<RawRecord<'_>, Field> {
    let record = parse_record(bytes)?;
    let (frame, _) = bytes.split_at_checked(FRAME_BYTES as usize).ok_or(Field::RecordLength)?;
    let (covered, crc) = frame.split_at_checked(16).ok_or(Field::RecordLength)?;
    if Take(crc).u32() != Some(record_crc(segment, covered, record.payload)) {
        return Err(Field::RecordChecksum);
    }
    Ok(record)
}

/// The same, of bytes whose checksum was verified before.
///
/// # Errors
/// A length beyond `bytes`.
pub(crate) fn parse_record(bytes: &[u8]) -> Result<RawRecord<'_>, Field> {
    let (frame, rest) = bytes.split_at_checked(FRAME_BYTES as usize).ok_or(Field::RecordLength)?;
    let mut take = Take(frame);
    let length = take.u32().ok_or(Field::RecordLength)?;
    let kind = take.u16().ok_or(Field::RecordLength)?;
    let _zero = take.u16();
    let sequence = take.u64().ok_or(Field::RecordLength)?;
    let payload = rest.get(..length as usize).ok_or(Field::RecordLength)?;
    Ok(RawRecord { sequence, kind, payload, brief: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn position() -> Position {
        Position { segment: 5, number: 2, offset: 4096, synced: 4096, first_sequence: 10, previous: [7; 32] }
    }

    proptest! {
        #[test]
        fn round_trip(payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 1..8)) {
            let mut out = vec![1, 2, 3];
            let records = payloads.iter().zip(10u64..).map(|(payload, sequence)| RawRecord { sequence, kind: 4, payload, brief: None });
            let hash = encode(&mut out, &position(), Contents::Owner, records).unwrap();
            let group = &out[3..];
            prop_assert_eq!(group.len() as u64, encoded_bytes(payloads.iter().map(|p| p.len() as u64)));
            prop_assert_eq!(hash, hash_of(group));
            let header = GroupHeader::decode(group, 5, 4096).unwrap();
            prop_assert_eq!(header.records as usize, payloads.len());
            let mut body = &group[88..88 + header.body_bytes as usize];
            for payload in &payloads {
                let record = decode_record(body, 5).unwrap();
                prop_assert_eq!(record.payload, &payload[..]);
                prop_assert_eq!(decode_record(body, 6), Err(Field::RecordChecksum));
                body = &body[record.encoded_bytes() as usize..];
            }
            prop_assert!(body.is_empty());
        }

        #[test]
        fn hostile_bytes_never_pass_nor_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(GroupHeader::decode(&bytes, 5, 4096).is_err());
            prop_assert!(decode_record(&bytes, 5).is_err());
        }
    }
}
