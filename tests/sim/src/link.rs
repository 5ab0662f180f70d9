//! A session as QUIC shows it: an ordered stream of bytes each way, of which any front may have come when it breaks.
//! Nothing is lost, doubled or out of order within a session; whatever was under way when it broke is gone, and comes again
//! in the next one.

use std::collections::VecDeque;

use bytes::Bytes;
use lintas_proto::frame::{FrameType, HEADER_BYTES, header, parse_header};

/// A frame.
pub type Frame = (FrameType, Bytes);

/// One direction.
#[derive(Debug, Default)]
pub struct Stream {
    under_way: VecDeque<u8>,
    /// Come, and no whole frame yet.
    come: Vec<u8>,
}

impl Stream {
    /// Sends a frame.
    pub fn send(&mut self, (kind, payload): &Frame) {
        self.under_way.extend(header(*kind, payload.len()).unwrap());
        self.under_way.extend(payload.iter());
    }

    /// Bytes that are under way.
    #[must_use]
    pub fn length(&self) -> usize {
        self.under_way.len()
    }

    /// So many bytes arrive; the frames that are whole by then.
    pub fn arrive(&mut self, bytes: usize) -> Vec<Frame> {
        let bytes = bytes.min(self.under_way.len());
        self.come.extend(self.under_way.drain(..bytes));
        let (mut frames, mut at) = (Vec::new(), 0);
        while let Some(start) = self.come.get(at..at + HEADER_BYTES) {
            let (kind, length) = parse_header(start.try_into().unwrap()).unwrap();
            let Some(payload) = self.come.get(at + HEADER_BYTES..at + HEADER_BYTES + length) else { break };
            frames.push((kind, Bytes::copy_from_slice(payload)));
            at += HEADER_BYTES + length;
        }
        self.come.drain(..at);
        frames
    }
}

/// A session.
#[derive(Debug)]
pub struct Link {
    /// Its number; never used again.
    pub session: u64,
    /// From the node.
    pub up: Stream,
    /// To the node.
    pub down: Stream,
}

impl Link {
    /// A new session.
    #[must_use]
    pub fn new(session: u64) -> Self {
        Self { session, up: Stream::default(), down: Stream::default() }
    }
}
