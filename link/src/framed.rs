//! Frames and raw bytes on a stream.
//!
//! Both halves may be used in `select!`: what a cancelled call has begun is kept, and the next call goes on
//! with it. A writer sends frames in the order of the calls, a cancelled one included.

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use lintas_proto::{
    canonical::{self, Shaped},
    frame::{self, FrameType},
};
use quinn::{RecvStream, SendStream};
use tokio::time::{Instant, timeout, timeout_at};

use crate::{
    assemble::Assembler,
    connection::CloseCode,
    error::LinkError,
    limits::{
        COALESCE_BYTES_MAX, GROUP_BYTES_MAX, Limits, RAW_GROUP_BYTES, RAW_GROUP_MS_MAX, RAW_PIECES_MAX,
        READ_BYTES_MAX,
    },
    registry::Seat,
};

/// Decodes the payload of a `kind` frame; accepts its one canonical encoding only.
///
/// # Errors
/// [`LinkError::Decode`] with message, field and offset.
pub fn decode<M: Shaped>(kind: FrameType, payload: &Bytes) -> Result<M, LinkError> {
    Ok(canonical::decode(payload, kind.bytes_max())?)
}

/// The sending half of a stream.
///
/// Dropped with everything handed over, it ends the stream; dropped in the middle of something, it resets
/// the stream, so that the peer cannot take a part for the whole.
pub struct FrameWriter {
    stream: SendStream,
    /// Headers and short payloads, not yet in `pending`.
    run: BytesMut,
    /// Not yet handed to the connection; together with `run` one group or one frame.
    pending: VecDeque<Bytes>,
    limits: Limits,
    /// The one type that may be sent, where not all may.
    only: Option<FrameType>,
    _seat: Arc<Seat>,
}

impl FrameWriter {
    pub(crate) fn new(stream: SendStream, limits: Limits, seat: Arc<Seat>) -> Self {
        Self { stream, run: BytesMut::new(), pending: VecDeque::new(), limits, only: None, _seat: seat }
    }

    /// Refuses frames of every other type, and raw bytes.
    pub(crate) fn only(mut self, kind: FrameType) -> Self {
        self.only = Some(kind);
        self
    }

    /// Sends one frame. Returns when the connection has taken it, not when the peer has.
    ///
    /// Safe to cancel: either nothing of the frame is sent, or the next call sends the rest of it first. A
    /// caller that must know which does not cancel.
    ///
    /// # Errors
    /// [`LinkError::Unsendable`] for a payload beyond [`FrameType::bytes_max`]; [`LinkError::Stalled`] when
    /// the peer takes nothing for too long; why the stream or the connection ended.
    pub async fn send(&mut self, kind: FrameType, payload: Bytes) -> Result<(), LinkError> {
        self.send_many([(kind, payload)]).await
    }

    /// Sends frames one after another, handing them over in groups: many small frames cost little more than
    /// their bytes.
    ///
    /// Safe to cancel: a first part of the frames is sent, the last of them perhaps by the next call.
    ///
    /// # Errors
    /// As [`send`](Self::send); frames before an unsendable one are sent.
    pub async fn send_many(
        &mut self,
        frames: impl IntoIterator<Item = (FrameType, Bytes)>,
    ) -> Result<(), LinkError> {
        self.flush().await?;
        let mut group = 0;
        for (kind, payload) in frames {
            group += frame::HEADER_BYTES + payload.len();
            if let Err(error) = self.queue(kind, payload) {
                self.flush().await?;
                return Err(error);
            }
            if group >= GROUP_BYTES_MAX {
                self.flush().await?;
                group = 0;
            }
        }
        self.flush().await
    }

    /// Sends a message as a `kind` frame. As [`send`](Self::send).
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_message<M: Shaped>(&mut self, kind: FrameType, message: &M) -> Result<(), LinkError> {
        self.send(kind, canonical::encode(message)).await
    }

    /// Sends bytes without a frame: the rest of a stream whose first frame announced them. Safe to cancel,
    /// as [`send`](Self::send).
    ///
    /// # Errors
    /// [`LinkError::Stalled`]; why the stream or the connection ended.
    pub async fn write_raw(&mut self, bytes: Bytes) -> Result<(), LinkError> {
        if self.only.is_some() {
            return Err(LinkError::UntrustedPeer);
        }
        self.flush().await?;
        if !bytes.is_empty() {
            self.pending.push_back(bytes);
        }
        self.flush().await
    }

    /// Ends the stream and waits until the peer's connection has received all of it (not until the peer has
    /// acted on it), or no longer wants it. Afterwards the connection may be closed without loss on the way.
    ///
    /// # Errors
    /// [`LinkError::Stalled`]; why the stream or the connection ended.
    pub async fn finish(mut self) -> Result<(), LinkError> {
        self.flush().await?;
        self.stream.finish().map_err(|_| LinkError::StreamEnded)?;
        let received = timeout(self.stall(), self.stream.stopped()).await.map_err(|_| self.stalled())?;
        match received {
            Ok(_) => Ok(()),
            Err(quinn::StoppedError::ConnectionLost(error)) => Err(error.into()),
            Err(quinn::StoppedError::ZeroRttRejected) => Err(LinkError::StreamEnded),
        }
    }

    /// Resets the stream: what was written is a part, and nobody may take it for the whole.
    pub fn cut(mut self) {
        // Fails only when the stream has already ended.
        let _ = self.stream.reset(CloseCode::Done.wire());
    }

    fn queue(&mut self, kind: FrameType, payload: Bytes) -> Result<(), LinkError> {
        if self.only.is_some_and(|only| only != kind) {
            return Err(LinkError::UntrustedPeer);
        }
        let header = frame::header(kind, payload.len()).map_err(LinkError::Unsendable)?;
        self.run.extend_from_slice(&header);
        if payload.len() <= COALESCE_BYTES_MAX {
            self.run.extend_from_slice(&payload);
        } else {
            self.end_run();
            self.pending.push_back(payload);
        }
        Ok(())
    }

    fn end_run(&mut self) {
        if !self.run.is_empty() {
            self.pending.push_back(self.run.split().freeze());
        }
    }

    /// Hands everything to the connection. Safe to cancel: what was taken is gone from `pending`.
    async fn flush(&mut self) -> Result<(), LinkError> {
        self.end_run();
        while !self.pending.is_empty() {
            let chunks = self.pending.make_contiguous();
            let stall = Duration::from_millis(self.limits.stall_ms_max);
            let written = timeout(stall, self.stream.write_chunks(chunks)).await;
            let written = written.map_err(|_| self.stalled())??;
            self.pending.drain(..written.chunks.min(self.pending.len()));
        }
        Ok(())
    }

    fn stall(&self) -> Duration {
        Duration::from_millis(self.limits.stall_ms_max)
    }

    fn stalled(&self) -> LinkError {
        LinkError::Stalled { ms_max: self.limits.stall_ms_max }
    }
}

impl Drop for FrameWriter {
    fn drop(&mut self) {
        if !self.pending.is_empty() || !self.run.is_empty() {
            // Fails only when the stream has already ended.
            let _ = self.stream.reset(CloseCode::Done.wire());
        }
    }
}

impl fmt::Debug for FrameWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameWriter").field("stream", &self.stream.id()).finish_non_exhaustive()
    }
}

/// The receiving half of a stream. Dropped, it tells the peer to stop sending.
///
/// What arrived before the peer closed the connection can still be read; what a peer sent before it left the
/// directory cannot.
pub struct FrameReader {
    stream: RecvStream,
    /// Received and not yet used, at most [`READ_BYTES_MAX`].
    arrived: Bytes,
    assembler: Assembler,
    /// Since when a frame has been arriving, and when its last piece came; none between frames.
    begun: Option<(Instant, Instant)>,
    limits: Limits,
    seat: Arc<Seat>,
}

impl FrameReader {
    pub(crate) fn new(stream: RecvStream, limits: Limits, seat: Arc<Seat>) -> Self {
        let assembler = Assembler::default();
        Self { stream, arrived: Bytes::new(), assembler, begun: None, limits, seat }
    }

    /// Waits for the next frame; none when the peer has ended the stream between frames.
    ///
    /// Between frames it waits for as long as the connection lives; inside one the peer may not pause, nor
    /// be slower than the limits say. Safe to cancel: a partial frame is kept for the next call.
    ///
    /// # Errors
    /// [`LinkError::Frame`] for an unknown type or a length beyond its limit, before anything is allocated
    /// for it; [`LinkError::Stalled`], [`LinkError::Truncated`]; why the stream or the connection ended.
    pub async fn next(&mut self) -> Result<Option<(FrameType, Bytes)>, LinkError> {
        self.next_allowed(None).await
    }

    /// As [`next`](Self::next), where only frames of these types belong: any other is refused by its header.
    ///
    /// # Errors
    /// As [`next`](Self::next); [`LinkError::UnexpectedFrame`].
    pub async fn next_of(&mut self, kinds: &[FrameType]) -> Result<Option<(FrameType, Bytes)>, LinkError> {
        self.next_allowed(Some(kinds)).await
    }

    async fn next_allowed(
        &mut self,
        kinds: Option<&[FrameType]>,
    ) -> Result<Option<(FrameType, Bytes)>, LinkError> {
        let check = |have| match kinds {
            Some(kinds) if !kinds.contains(&have) => Err(LinkError::UnexpectedFrame { have }),
            Some(_) | None => Ok(()),
        };
        loop {
            if self.seat.is_expelled() {
                return Err(LinkError::ClosedHere);
            }
            if let Some(frame) = self.assembler.push(&mut self.arrived).map_err(LinkError::Frame)? {
                self.begun = None;
                check(frame.0)?;
                return Ok(Some(frame));
            }
            if let Some((have, _)) = self.assembler.due() {
                check(have)?;
            }
            let missing = self.assembler.missing();
            match self.receive_in_time(missing > 0).await? {
                Some(chunk) => self.arrived = chunk,
                None if missing == 0 => return Ok(None),
                None => return Err(LinkError::Truncated { missing }),
            }
        }
    }

    /// Whether part of a frame has arrived: what a cancelled [`next`](Self::next) leaves behind.
    #[must_use]
    pub fn is_inside_frame(&self) -> bool {
        self.assembler.missing() > 0
    }

    /// Waits for a message that must come next, as a `kind` frame. Safe to cancel.
    ///
    /// # Errors
    /// As [`next_of`](Self::next_of) and [`decode`]; [`LinkError::Truncated`] when the stream ends instead.
    pub async fn next_message<M: Shaped>(&mut self, kind: FrameType) -> Result<M, LinkError> {
        match self.next_of(&[kind]).await? {
            Some((_, payload)) => decode(kind, &payload),
            None => Err(LinkError::Truncated { missing: frame::HEADER_BYTES }),
        }
    }

    /// Waits for raw bytes, at most `max` at once (and never none); nothing more when the peer has ended the
    /// stream. The caller knows from the first frame how many are due. Safe to cancel.
    ///
    /// # Errors
    /// [`LinkError::InsideFrame`] when a frame has begun; [`LinkError::Stalled`] when nothing comes for too
    /// long; why the stream or the connection ended.
    pub async fn read_raw(&mut self, max: usize) -> Result<Option<Bytes>, LinkError> {
        if self.is_inside_frame() {
            return Err(LinkError::InsideFrame);
        }
        if self.seat.is_expelled() {
            return Err(LinkError::ClosedHere);
        }
        if self.arrived.is_empty() {
            let chunk = timeout(self.stall(), self.stream.read_chunk(READ_BYTES_MAX, true)).await;
            let chunk = chunk.map_err(|_| LinkError::Stalled { ms_max: self.limits.stall_ms_max })??;
            let Some(chunk) = chunk else {
                return Ok(None);
            };
            self.arrived = chunk.bytes;
        }
        let take = self.arrived.len().min(max.max(1));
        Ok(Some(self.arrived.split_to(take)))
    }

    /// Waits for raw bytes as they came, a datagram's in each of `pieces`; how many came, nothing when the peer has ended
    /// the stream. Safe to cancel.
    ///
    /// # Errors
    /// As [`read_raw`](Self::read_raw).
    pub async fn read_raw_pieces(&mut self, pieces: &mut [Bytes]) -> Result<Option<usize>, LinkError> {
        if !self.arrived.is_empty() || self.is_inside_frame() || self.seat.is_expelled() {
            let came = self.read_raw(usize::MAX).await?;
            return Ok(came.zip(pieces.first_mut()).map(|(came, first)| {
                *first = came;
                1
            }));
        }
        let read = timeout(self.stall(), self.stream.read_chunks(pieces)).await;
        Ok(read.map_err(|_| LinkError::Stalled { ms_max: self.limits.stall_ms_max })??)
    }

    /// Copies raw bytes behind those in `into`, until it holds [`RAW_GROUP_BYTES`], `max` more have come, or some have and
    /// [`RAW_GROUP_MS_MAX`] are over; false when the peer has ended the stream before. Safe to cancel; what came before an
    /// error is in `into`.
    ///
    /// # Errors
    /// As [`read_raw`](Self::read_raw).
    pub(crate) async fn fill_raw(&mut self, into: &mut Vec<u8>, max: u64) -> Result<bool, LinkError> {
        let room = RAW_GROUP_BYTES.saturating_sub(into.len());
        let goal = into.len() + usize::try_from(max).unwrap_or(usize::MAX).min(room);
        let until = Instant::now() + Duration::from_millis(RAW_GROUP_MS_MAX);
        while into.len() < goal {
            let mut pieces = [const { Bytes::new() }; RAW_PIECES_MAX];
            let came = if into.is_empty() {
                self.read_raw_pieces(&mut pieces).await?
            } else {
                match timeout_at(until, self.read_raw_pieces(&mut pieces)).await {
                    Ok(came) => came?,
                    Err(_) => return Ok(true),
                }
            };
            let Some(count) = came else { return Ok(false) };
            let mut beyond = BytesMut::new();
            for piece in pieces.iter_mut().take(count) {
                let (now, later) = piece.split_at(piece.len().min(goal - into.len()));
                into.extend_from_slice(now);
                beyond.extend_from_slice(later);
            }
            self.arrived = beyond.freeze();
        }
        Ok(true)
    }

    fn stall(&self) -> Duration {
        Duration::from_millis(self.limits.stall_ms_max)
    }

    /// Receives the next piece: without a limit between frames, in time inside one.
    async fn receive_in_time(&mut self, inside: bool) -> Result<Option<Bytes>, LinkError> {
        let read = self.stream.read_chunk(READ_BYTES_MAX, true);
        if !inside {
            return Ok(read.await?.map(|chunk| chunk.bytes));
        }
        let now = Instant::now();
        let (begun, last) = *self.begun.get_or_insert((now, now));
        let length = self.assembler.due().map_or(0, |(_, length)| length);
        let slow_ms = (length as u64).saturating_mul(1_000) / self.limits.frame_bytes_per_second_min.max(1);
        let whole_ms = self.limits.stall_ms_max.saturating_add(slow_ms);
        let whole_left = Duration::from_millis(whole_ms).saturating_sub(begun.elapsed());
        let next_left = Duration::from_millis(self.limits.stall_ms_max).saturating_sub(last.elapsed());
        let ms_max = if whole_left < next_left { whole_ms } else { self.limits.stall_ms_max };
        let chunk = timeout(whole_left.min(next_left), read).await;
        let chunk = chunk.map_err(|_| LinkError::Stalled { ms_max })??;
        self.begun = Some((begun, Instant::now()));
        Ok(chunk.map(|chunk| chunk.bytes))
    }
}

impl fmt::Debug for FrameReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameReader").field("stream", &self.stream.id()).finish_non_exhaustive()
    }
}
