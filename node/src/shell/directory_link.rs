//! Directory and keysets over streams of their own. What comes is bytes on nobody's word: whoever takes them verifies
//! them.

use std::time::Duration;

use bytes::Bytes;
use lintas_link::{FrameReader, FrameWriter, LinkError};
use lintas_proto::{
    frame::FrameType,
    limits,
    schema::{DirectoryGet, DirectoryHead, KeysetPut, KeysetStatus, Reason},
};
use thiserror::Error;
use tokio::time::timeout;

use crate::core::text::{self, one_line};

/// Bytes read at once.
const PIECE_BYTES: usize = 64 * 1024;
/// Room made for an answer before it has come, bytes: its length is the peer's word.
const ROOM_BYTES: usize = 1024 * 1024;
/// How long one question may take, over the slowest link.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(600);

/// Why a question about the directory was not answered.
#[derive(Debug, Error)]
pub(crate) enum AskError {
    /// The connection.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The broker says no.
    #[error("the broker {what}: {} (it says `{text}`); {}", text::reason(*reason).0, text::reason(*reason).1)]
    Refused {
        /// What it does not do.
        what: &'static str,
        /// Why.
        reason: Reason,
        /// Its sentence.
        text: String,
    },
    /// More than a directory can have.
    #[error("the broker offers a directory of {0} bytes; at most {max} are taken", max = limits::DIRECTORY_BYTES_MAX)]
    TooLong(u64),
    /// It takes too long.
    #[error("the broker did not send the directory within {} minutes", ANSWER_TIME_MAX.as_secs() / 60)]
    Slow,
}

impl AskError {
    /// Whether the whole connection ended, not one stream.
    pub(crate) fn ends_connection(&self) -> bool {
        match self {
            Self::Link(
                LinkError::StreamReset(_) | LinkError::StreamStopped(_) | LinkError::Truncated { .. },
            ) => false,
            Self::Link(_) => true,
            Self::Refused { .. } | Self::TooLong(_) | Self::Slow => false,
        }
    }
}

/// Asks for everything newer: the bytes of a `DirectoryUpdate`, of which nothing is verified.
pub(crate) async fn ask(
    streams: (FrameWriter, FrameReader),
    question: &DirectoryGet,
) -> Result<Bytes, AskError> {
    timeout(ANSWER_TIME_MAX, receive(streams, question)).await.unwrap_or(Err(AskError::Slow))
}

async fn receive(
    (mut writer, mut reader): (FrameWriter, FrameReader),
    question: &DirectoryGet,
) -> Result<Bytes, AskError> {
    writer.send_message(FrameType::DirectoryGet, question).await?;
    let head: DirectoryHead = reader.next_message(FrameType::DirectoryHead).await?;
    check(head.reason, &head.text, "does not give its directory")?;
    let length = usize::try_from(head.length).ok().filter(|length| *length <= limits::DIRECTORY_BYTES_MAX);
    let length = length.ok_or(AskError::TooLong(head.length))?;
    Ok(receive_raw(&mut reader, length).await?)
}

/// So many bytes behind an answer.
pub(crate) async fn receive_raw(reader: &mut FrameReader, length: usize) -> Result<Bytes, LinkError> {
    let mut bytes = Vec::with_capacity(length.min(ROOM_BYTES));
    while bytes.len() < length {
        let missing = length - bytes.len();
        match reader.read_raw(missing.min(PIECE_BYTES)).await? {
            Some(piece) => bytes.extend_from_slice(&piece),
            None => return Err(LinkError::Truncated { missing }),
        }
    }
    Ok(bytes.into())
}

/// Brings a keyset: returns once it is durable in the broker's directory, or a newer one is.
pub(crate) async fn bring(
    (mut writer, mut reader): (FrameWriter, FrameReader),
    keyset: Bytes,
) -> Result<(), AskError> {
    writer.send_message(FrameType::KeysetPut, &KeysetPut { keyset }).await?;
    let status: KeysetStatus = reader.next_message(FrameType::KeysetStatus).await?;
    check(status.reason, &status.text, "does not take this agency's new keyset")
}

fn check(reason: i32, text: &str, what: &'static str) -> Result<(), AskError> {
    let reason = Reason::try_from(reason).unwrap_or_default();
    if reason == Reason::Accepted {
        return Ok(());
    }
    Err(AskError::Refused { what, reason, text: one_line(text) })
}
