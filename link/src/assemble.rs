//! Puts frames together from pieces of any size. No I/O: bytes in, frames out.

use bytes::{Buf as _, Bytes};
use lintas_proto::frame::{self, FrameError, FrameType, HEADER_BYTES};

use crate::limits::READ_BYTES_MAX;

/// A frame that is still arriving.
///
/// Holds at most twice what has arrived of it plus [`READ_BYTES_MAX`], and never more than its length: a peer
/// that announces a long frame and sends nothing pins next to nothing.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    header: [u8; HEADER_BYTES],
    header_have: usize,
    /// Set when the header is whole and valid.
    payload: Option<Payload>,
}

#[derive(Debug)]
struct Payload {
    kind: FrameType,
    need: usize,
    have: Vec<u8>,
}

impl Assembler {
    /// Takes from `arrived` what belongs to the frame that is due; returns it when it is whole.
    ///
    /// After an error every further call fails the same way: there is no way back into step.
    pub(crate) fn push(&mut self, arrived: &mut Bytes) -> Result<Option<(FrameType, Bytes)>, FrameError> {
        let mut payload = match self.payload.take() {
            Some(payload) => payload,
            None if self.fill_header(arrived) => {
                let (kind, need) = frame::parse_header(self.header)?;
                Payload { kind, need, have: Vec::with_capacity(need.min(READ_BYTES_MAX)) }
            }
            None => return Ok(None),
        };
        let room = payload.need.saturating_sub(payload.have.len());
        let take = arrived.remaining().min(room);
        if payload.have.capacity() - payload.have.len() < take {
            payload.have.reserve_exact(room.min(payload.have.len().max(take)));
        }
        // Copied: a slice of `arrived` would pin a whole batch of datagrams for as long as the frame lives.
        payload.have.extend_from_slice(&arrived.split_to(take));
        if payload.have.len() < payload.need {
            self.payload = Some(payload);
            return Ok(None);
        }
        self.header_have = 0;
        Ok(Some((payload.kind, payload.have.into())))
    }

    /// Bytes of the frame that are known to be missing: 0 between frames.
    pub(crate) fn missing(&self) -> usize {
        match &self.payload {
            Some(payload) => payload.need.saturating_sub(payload.have.len()),
            None if self.header_have == 0 => 0,
            None => HEADER_BYTES.saturating_sub(self.header_have).max(1),
        }
    }

    /// Type and payload length of the frame that is arriving, once its header is whole.
    pub(crate) fn due(&self) -> Option<(FrameType, usize)> {
        self.payload.as_ref().map(|payload| (payload.kind, payload.need))
    }

    fn fill_header(&mut self, arrived: &mut Bytes) -> bool {
        while let Some(slot) = self.header.get_mut(self.header_have) {
            if !arrived.has_remaining() {
                return false;
            }
            *slot = arrived.get_u8();
            self.header_have += 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announced_length_allocates_little() {
        let mut assembler = Assembler::default();
        let longest = FrameType::Submission.bytes_max();
        let header = frame::header(FrameType::Submission, longest).unwrap();
        assert_eq!(assembler.push(&mut Bytes::copy_from_slice(&header)), Ok(None));
        assert_eq!(assembler.missing(), longest);
        assert!(assembler.payload.unwrap().have.capacity() <= READ_BYTES_MAX);
    }

    #[test]
    fn memory_follows_what_has_arrived() {
        let mut assembler = Assembler::default();
        let longest = FrameType::Submission.bytes_max();
        let header = frame::header(FrameType::Submission, longest).unwrap();
        assert_eq!(assembler.push(&mut Bytes::copy_from_slice(&header)), Ok(None));
        let mut have = 0;
        while have + 1_200 < longest {
            assert_eq!(assembler.push(&mut Bytes::from(vec![1; 1_200])), Ok(None));
            have += 1_200;
            let held = assembler.payload.as_ref().map_or(0, |payload| payload.have.capacity());
            assert!(held <= longest.min(2 * have + READ_BYTES_MAX), "{held} held for {have}");
        }
    }

    #[test]
    fn every_split_gives_the_same_frames() {
        let mut wire = Vec::new();
        for (kind, length) in [(FrameType::Hello, 0), (FrameType::Receipt, 3), (FrameType::Refusal, 1)] {
            wire.extend_from_slice(&frame::header(kind, length).unwrap());
            wire.extend(std::iter::repeat_n(kind as u8, length));
        }
        let wire = Bytes::from(wire);
        for (first, second) in (0..=wire.len()).flat_map(|a| (a..=wire.len()).map(move |b| (a, b))) {
            let mut assembler = Assembler::default();
            let mut frames = Vec::new();
            for mut piece in [wire.slice(..first), wire.slice(first..second), wire.slice(second..)] {
                while let Some(frame) = assembler.push(&mut piece).unwrap() {
                    frames.push(frame);
                }
                assert!(piece.is_empty());
            }
            let kinds: Vec<_> = frames.iter().map(|(kind, payload)| (*kind, payload.len())).collect();
            assert_eq!(kinds, [(FrameType::Hello, 0), (FrameType::Receipt, 3), (FrameType::Refusal, 1)]);
            assert!(frames.iter().all(|(kind, payload)| payload.iter().all(|byte| *byte == *kind as u8)));
            assert_eq!(assembler.missing(), 0);
        }
    }
}
