//! The first block of a segment file.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `LJSEGM01` |
//! | 8 | 4 | format version, 2 |
//! | 12 | 4 | zero |
//! | 16 | 8 | segment number, from 1; it only grows, and a reused file takes a new one: it is the generation |
//! | 24 | 8 | number of the segment before this one; 0 for none |
//! | 32 | 4 | offset at which that segment ends |
//! | 36 | 4 | offset of the last group of that segment, its index |
//! | 40 | 32 | SHA-256 of the last group of that segment |
//! | 72 | 8 | number of the segment that this one replaces (recovery moved it here); 0 for none |
//! | 80 | 8 | number of the segment that ends the newest snapshot; 0 for none |
//! | 88 | 8 | sequence of the first record that will be written here |
//! | 96 | 3996 | zero |
//! | 4092 | 4 | crc32c of bytes 0 to 4092 |
//!
//! All integers are little-endian. The header is durable before anything behind it is written.

use crate::error::Field;
use crate::layout::{Hash, Take, all_zero};

pub(crate) const SEGMENT_HEADER_BYTES: u32 = 4096;

/// Room at the end of every segment that only the two closing marks (moved, closed) and the index without its entries may
/// use. Those have their room with what they stand for.
pub(crate) const TAIL_BYTES: u32 = 512;

const MAGIC: [u8; 8] = *b"LJSEGM01";
const VERSION: u32 = 2;
const CRC_AT: usize = 4092;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) number: u64,
    pub(crate) previous: u64,
    pub(crate) previous_end: u32,
    pub(crate) previous_index: u32,
    pub(crate) previous_hash: Hash,
    pub(crate) replaces: u64,
    pub(crate) image: u64,
    pub(crate) first_sequence: u64,
}

impl SegmentHeader {
    /// The whole first block, 4,096 bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_HEADER_BYTES as usize);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.previous.to_le_bytes());
        out.extend_from_slice(&self.previous_end.to_le_bytes());
        out.extend_from_slice(&self.previous_index.to_le_bytes());
        out.extend_from_slice(&self.previous_hash);
        out.extend_from_slice(&self.replaces.to_le_bytes());
        out.extend_from_slice(&self.image.to_le_bytes());
        out.extend_from_slice(&self.first_sequence.to_le_bytes());
        out.resize(CRC_AT, 0);
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the first block. `Ok(None)`: the block is blank, the file holds no segment.
    ///
    /// # Errors
    /// The field that is wrong. The magic is checked first, then the checksum of the block, then the
    /// version, so that a file of a later format is told apart from a damaged one.
    pub(crate) fn decode(block: &[u8]) -> Result<Option<Self>, Field> {
        if all_zero(block) {
            return Ok(None);
        }
        let (body, crc) = block.split_at_checked(CRC_AT).ok_or(Field::SegmentLength)?;
        let mut take = Take(body);
        if take.array() != Some(MAGIC) {
            return Err(Field::SegmentMagic);
        }
        if Take(crc).u32() != Some(crc32c::crc32c(body)) {
            return Err(Field::SegmentChecksum);
        }
        if take.u32() != Some(VERSION) {
            return Err(Field::SegmentVersion);
        }
        Self::fields(&mut take).map(Some).ok_or(Field::SegmentNumber)
    }

    fn fields(take: &mut Take<'_>) -> Option<Self> {
        let _zero: [u8; 4] = take.array()?;
        let number = take.u64()?;
        let previous = take.u64()?;
        let previous_end = take.u32()?;
        let previous_index = take.u32()?;
        let previous_hash = take.array()?;
        let replaces = take.u64()?;
        let image = take.u64()?;
        let first_sequence = take.u64()?;
        let header = Self {
            number,
            previous,
            previous_end,
            previous_index,
            previous_hash,
            replaces,
            image,
            first_sequence,
        };
        // A header may only point backwards; recovery relies on it to end its walk.
        let backwards = previous < number && replaces < number && image < number && first_sequence > 0;
        backwards.then_some(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            number: 9,
            previous: 7,
            previous_index: 4500,
            previous_end: 4242,
            previous_hash: [3; 32],
            replaces: 8,
            image: 5,
            first_sequence: 77,
        }
    }

    #[test]
    fn round_trip() {
        let block = header().encode();
        assert_eq!(block.len(), SEGMENT_HEADER_BYTES as usize);
        assert_eq!(SegmentHeader::decode(&block), Ok(Some(header())));
        assert_eq!(SegmentHeader::decode(&vec![0; 4096]), Ok(None));
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let block = header().encode();
        for bit in 0..block.len() * 8 {
            let mut bad = block.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let field = SegmentHeader::decode(&bad).unwrap_err();
            assert!(matches!(field, Field::SegmentMagic | Field::SegmentChecksum), "bit {bit}: {field:?}");
        }
    }

    #[test]
    fn short_blocks_and_forward_links_are_refused() {
        let block = header().encode();
        assert_eq!(SegmentHeader::decode(&block[..100]), Err(Field::SegmentLength));
        let forward = SegmentHeader { previous: 9, ..header() };
        assert_eq!(SegmentHeader::decode(&forward.encode()), Err(Field::SegmentNumber));
    }
}
