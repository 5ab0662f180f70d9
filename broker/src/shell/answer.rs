//! Answers to submissions: receipts and refusals on their way to a session's outbound side.

use bytes::Bytes;
use lintas_proto::{canonical, frame::FrameType};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::core::refuse::{Refused, Speaker};

/// One answer. Its place in the channel is free again when the writer has taken it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) kind: FrameType,
    pub(crate) payload: Bytes,
    _place: OwnedSemaphorePermit,
}

/// Where an answer goes, and the place that was kept for it.
#[derive(Debug)]
pub(crate) struct AnswerTo {
    pub(crate) sender: mpsc::Sender<Answer>,
    /// One of as many as the channel holds.
    pub(crate) place: OwnedSemaphorePermit,
}

impl AnswerTo {
    /// Never waits and never finds the channel full: every answer in it holds one of its places.
    pub(crate) fn send(self, kind: FrameType, payload: Bytes) {
        // A session that has ended asks again when it is back, and gets the same answer.
        let _ = self.sender.try_send(Answer { kind, payload, _place: self.place });
    }

    pub(crate) fn refuse(self, refused: &Refused, speaker: &Speaker<'_>, now_ms: u64) {
        self.send(FrameType::Refusal, canonical::encode(&refused.answer(speaker, now_ms)));
    }
}
