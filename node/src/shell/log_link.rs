//! Pieces of the broker's audit log, each over a stream of its own. What comes is bytes on nobody's word: whoever asks
//! for them verifies them.
//!
//! The session carries [`serve`]; everybody else asks through the desk's [`LogLine`], and is told at once when no session
//! is open.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use lintas_link::{Connection, FrameReader, FrameWriter, LinkError};
use lintas_proto::{
    audit::files::LogFile,
    frame::FrameType,
    limits,
    schema::{ErasurePut, ErasureStatus, LogGet, LogHead, Reason},
};
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};

use crate::core::text::{self, one_line};

/// Bytes read at once.
const PIECE_BYTES: usize = 64 * 1024;
/// Room made for an answer before it has come, bytes: its length is the peer's word.
const ROOM_BYTES: usize = 64 * 1024;
/// How long one piece may take, over the slowest link: so long, and a second for each KiB of it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pieces that are asked for at the same time.
const AT_ONCE_MAX: usize = 4;
/// Questions that wait for one of these.
const WAITING_MAX: usize = 64;

/// A piece of a file of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Length of the whole file, as the broker says.
    pub(crate) file_length: u64,
    /// From the asked offset on; shorter than asked at the end of the file.
    pub(crate) bytes: Bytes,
}

/// Why a piece did not come.
#[derive(Debug, Error)]
pub(crate) enum LogError {
    /// No session, or it ended before the answer.
    #[error("this node is not connected to the broker; the audit log is read again when it is")]
    NotConnected,
    /// The connection.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The broker says no.
    #[error("the broker does not give this part of its audit log: {} (it says `{text}`); {}", text::reason(*reason).0, text::reason(*reason).1)]
    Refused {
        /// Why.
        reason: Reason,
        /// Its sentence.
        text: String,
    },
    /// There is no such file, says the broker.
    #[error("the broker's audit log has no file `{0}`")]
    Missing(LogFile),
    /// More than was asked for.
    #[error("the broker sends more of its audit log than was asked for ({0} bytes)")]
    TooLong(u64),
    /// It takes too long.
    #[error("the broker did not send a part of its audit log in time")]
    Slow,
}

impl LogError {
    /// Whether the whole connection ended, not one stream.
    pub(crate) fn ends_connection(&self) -> bool {
        match self {
            Self::Link(
                LinkError::StreamReset(_) | LinkError::StreamStopped(_) | LinkError::Truncated { .. },
            ) => false,
            Self::Link(_) | Self::NotConnected => true,
            Self::Refused { .. } | Self::Missing(_) | Self::TooLong(_) | Self::Slow => false,
        }
    }
}

/// Fetches at most `length` bytes of a file of the log of `origin`, from `offset` on; 0 for all, and never more than
/// [`limits::LOG_PIECE_BYTES_MAX`].
pub(crate) async fn get(
    connection: &Connection,
    origin: &str,
    file: LogFile,
    offset: u64,
    length: u64,
) -> Result<Piece, LogError> {
    let max = if length == 0 { limits::LOG_PIECE_BYTES_MAX } else { length.min(limits::LOG_PIECE_BYTES_MAX) };
    let question = LogGet { origin: origin.to_owned(), path: file.to_string(), offset, length };
    let time = PATIENCE + Duration::from_secs(max / 1024);
    let receive = async { receive(connection.open_stream().await?, &question, file, max).await };
    timeout(time, receive).await.unwrap_or(Err(LogError::Slow))
}

async fn receive(
    (mut writer, mut reader): (FrameWriter, FrameReader),
    question: &LogGet,
    file: LogFile,
    max: u64,
) -> Result<Piece, LogError> {
    writer.send_message(FrameType::LogGet, question).await?;
    let head: LogHead = quick(reader.next_message(FrameType::LogHead)).await?;
    match Reason::try_from(head.reason).unwrap_or_default() {
        Reason::Accepted => {}
        Reason::MissingAttachment => return Err(LogError::Missing(file)),
        reason => return Err(LogError::Refused { reason, text: one_line(&head.text) }),
    }
    let left = head.file_length.saturating_sub(question.offset);
    if head.length > max.min(left) {
        return Err(LogError::TooLong(head.length));
    }
    let length = usize::try_from(head.length).map_err(|_| LogError::TooLong(head.length))?;
    let mut bytes = Vec::with_capacity(length.min(ROOM_BYTES));
    while bytes.len() < length {
        let missing = length - bytes.len();
        match quick(reader.read_raw(missing.min(PIECE_BYTES))).await? {
            Some(piece) => bytes.extend_from_slice(&piece),
            None => return Err(LinkError::Truncated { missing }.into()),
        }
    }
    Ok(Piece { file_length: head.file_length, bytes: bytes.into() })
}

/// One step of an answer: whoever says nothing for so long says nothing at all.
async fn quick<T>(step: impl Future<Output = Result<T, LinkError>>) -> Result<T, LogError> {
    Ok(timeout(PATIENCE, step).await.map_err(|_| LogError::Slow)??)
}

/// Orders the broker to forget openings (canonical bytes of `SignedErasureOrder`); what it says to that.
async fn order(connection: &Connection, order: Bytes) -> Result<ErasureStatus, LogError> {
    let send = async {
        let (mut writer, mut reader) = connection.open_stream().await?;
        writer.send_message(FrameType::ErasurePut, &ErasurePut { order }).await?;
        Ok(reader.next_message(FrameType::ErasureStatus).await?)
    };
    timeout(PATIENCE, send).await.unwrap_or(Err(LogError::Slow))
}

/// One question of somebody in this process.
pub(crate) enum Asked {
    /// A piece.
    Piece(AskedPiece),
    /// An order of erasure.
    Order(Bytes, oneshot::Sender<Result<ErasureStatus, LogError>>),
}

/// A piece that somebody asked for.
pub(crate) struct AskedPiece {
    origin: String,
    file: LogFile,
    offset: u64,
    length: u64,
    answer: oneshot::Sender<Result<Piece, LogError>>,
}

/// The way from the desk to the session that is open, if one is.
#[derive(Debug, Default)]
pub(crate) struct LogLine(Mutex<Option<mpsc::Sender<Asked>>>);

impl LogLine {
    /// The session's end; what was asked of an earlier session is given up.
    pub(crate) fn open(&self) -> mpsc::Receiver<Asked> {
        let (sender, asked) = mpsc::channel(WAITING_MAX);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        asked
    }

    /// As [`get`], over the session that is open.
    pub(crate) async fn get(
        &self,
        origin: &str,
        file: LogFile,
        offset: u64,
        length: u64,
    ) -> Result<Piece, LogError> {
        let (answer, answered) = oneshot::channel();
        let asked = AskedPiece { origin: origin.to_owned(), file, offset, length, answer };
        self.ask(Asked::Piece(asked)).await?;
        answered.await.unwrap_or(Err(LogError::NotConnected))
    }

    /// Orders an erasure, over the session that is open.
    pub(crate) async fn erase(&self, order: Bytes) -> Result<ErasureStatus, LogError> {
        let (answer, answered) = oneshot::channel();
        self.ask(Asked::Order(order, answer)).await?;
        answered.await.unwrap_or(Err(LogError::NotConnected))
    }

    async fn ask(&self, asked: Asked) -> Result<(), LogError> {
        let line = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        line.ok_or(LogError::NotConnected)?.send(asked).await.map_err(|_| LogError::NotConnected)
    }
}

/// Answers what is asked, several questions at once, as long as the connection lives.
pub(crate) async fn serve(connection: &Connection, mut asked: mpsc::Receiver<Asked>) -> LinkError {
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            Some(question) = asked.recv(), if running.len() < AT_ONCE_MAX => {
                let connection = connection.clone();
                running.spawn(async move {
                    let question = match question {
                        Asked::Piece(question) => question,
                        // An order that has gone out is carried out, whoever waits.
                        Asked::Order(bytes, answer) => {
                            let _ = answer.send(order(&connection, bytes).await);
                            return;
                        }
                    };
                    let AskedPiece { origin, file, offset, length, mut answer } = question;
                    let piece = tokio::select! {
                        piece = get(&connection, &origin, file, offset, length) => piece,
                        // Nobody waits for it any more.
                        () = answer.closed() => return,
                    };
                    let _ = answer.send(piece);
                });
            }
            Some(_) = running.join_next() => {}
            error = connection.closed() => return error,
        }
    }
}
