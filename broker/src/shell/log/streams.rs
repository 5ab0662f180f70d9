//! Streams about the log: a node reads a piece of a file, or brings an erasure order. Nothing but the files of a log is
//! ever opened, and nothing is held in memory for a slow reader but the part that is being sent.

use std::{
    io::{Read as _, Seek as _, SeekFrom},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use lintas_config::{
    Directory,
    directory::{LogOwner, LogRef},
};
use lintas_link::{FrameWriter, LinkError, decode};
use lintas_proto::{
    audit::files::LogFile,
    canonical::Shaped,
    frame::FrameType,
    limits,
    schema::{ErasurePut, ErasureStatus, LogGet, LogHead, Reason},
};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::block_in_place,
    time::timeout,
};

use super::{
    erasure, me,
    reading::{LogFiles, Opened},
};
use crate::{
    core::refuse::sentence,
    shell::{
        intake::{Denied, Intake},
        places::Places,
        shared::Shared,
    },
};

/// Most streams of one agency at once; more are refused.
const STREAMS_OF_AGENCY_MAX: usize = 8;
/// Most files that are looked through at once; more wait.
const LOOKS_MAX: usize = 4;
/// Bytes sent at once, and held for a reader.
const SEND_BYTES: usize = 256 * 1024;
/// Longest transfer, milliseconds: this, and the time for its length at [`BYTES_PER_SECOND_MIN`].
const TRANSFER_MS: u64 = 60_000;
/// Slowest transfer. Who is slower asks for shorter pieces.
const BYTES_PER_SECOND_MIN: u64 = 2 * 1024;
/// Serves these streams.
#[derive(Debug)]
pub(in crate::shell) struct LogDesk {
    shared: Arc<Shared>,
    intake: mpsc::Sender<Intake>,
    places: Places,
    looks: Semaphore,
}

/// A piece that may be given.
struct Piece {
    opened: Opened,
    offset: u64,
    length: u64,
}

impl LogDesk {
    pub(in crate::shell) fn new(shared: Arc<Shared>, intake: mpsc::Sender<Intake>) -> Self {
        Self { shared, intake, places: Places::new(STREAMS_OF_AGENCY_MAX), looks: Semaphore::new(LOOKS_MAX) }
    }

    /// Serves a stream that began with a LogGet or an ErasurePut.
    pub(in crate::shell) async fn stream(
        &self,
        agency: &str,
        (kind, payload): (FrameType, Bytes),
        writer: FrameWriter,
    ) -> Result<(), LinkError> {
        let place = self.places.take(agency);
        if kind == FrameType::ErasurePut {
            let put: ErasurePut = decode(kind, &payload)?;
            let done = if place.is_some() { self.erase(agency, put.order).await } else { Err(busy()) };
            let (reason, text, index) = match done {
                Ok(index) => (Reason::Accepted, String::new(), index),
                Err((reason, text)) => (reason, sentence(&text), 0),
            };
            let status = ErasureStatus { reason: reason as i32, text, index };
            return answer(writer, FrameType::ErasureStatus, &status).await;
        }
        let get: LogGet = decode(kind, &payload)?;
        let found = if place.is_some() { self.find(agency, &get).await } else { Err(busy()) };
        match found {
            Ok(piece) => {
                let slow_ms = piece.length.saturating_mul(1_000) / BYTES_PER_SECOND_MIN;
                let ms_max = TRANSFER_MS.saturating_add(slow_ms);
                let given = timeout(Duration::from_millis(ms_max), self.give(piece, writer)).await;
                given.unwrap_or(Err(LinkError::Stalled { ms_max }))
            }
            Err((reason, text)) => {
                let head = LogHead { reason: reason as i32, text: sentence(&text), ..LogHead::default() };
                answer(writer, FrameType::LogHead, &head).await
            }
        }
    }

    /// The piece that is asked for, if this agency may have it. Reads of another agency's events are in the log first.
    async fn find(&self, agency: &str, get: &LogGet) -> Result<Piece, Denied> {
        let directory = self.shared.directory();
        let (files, what) = locate(&self.shared, &directory, agency, get)?;
        let opened = {
            let _turn = self.looks.acquire().await.map_err(|_| unreadable())?;
            block_in_place(|| files.open(what)).map_err(|error| {
                tracing::error!(path = get.path, %error, "a file of the log cannot be read");
                unreadable()
            })?
        };
        let opened = opened.ok_or_else(|| {
            let text = format!("The log {} has no file {} (yet).", get.origin, get.path);
            (Reason::MissingAttachment, text)
        })?;
        let rest = opened.length.checked_sub(get.offset).ok_or_else(|| {
            let text = format!("The file {} is shorter than the offset that was asked for.", get.path);
            (Reason::Malformed, text)
        })?;
        let asked = if get.length == 0 { u64::MAX } else { get.length };
        let length = rest.min(asked).min(limits::LOG_PIECE_BYTES_MAX);
        if let Some(owner) = files.agency.filter(|owner| what.shows_events() && owner != agency) {
            self.log_read(agency, owner, opened.entries(get.offset, length)).await?;
        }
        Ok(Piece { opened, offset: get.offset, length })
    }

    /// Has a read written into the log; returns when that is durable.
    async fn log_read(&self, auditor: &str, agency: String, entries: (u64, u64)) -> Result<(), Denied> {
        let (first_index, count) = entries;
        if count == 0 {
            return Ok(());
        }
        let (answer, told) = oneshot::channel();
        let auditor = auditor.to_owned();
        let read = Intake::Read { auditor, agency, first_index, count, answer };
        self.intake.send(read).await.map_err(|_| stopping())?;
        told.await.map_err(|_| stopping())?
    }

    /// Checks an order and has it carried out; the index of its first ERASED event.
    async fn erase(&self, agency: &str, order: Bytes) -> Result<u64, Denied> {
        let checked = {
            let _turn = self.looks.acquire().await.map_err(|_| stopping())?;
            block_in_place(|| erasure::check(&self.shared, agency, &order))?
        };
        let (order, packets) = match checked {
            erasure::Checked::Done(index) => return Ok(index),
            erasure::Checked::ToDo { order, packets } => (order, packets),
        };
        let (answer, told) = oneshot::channel();
        let erase = Intake::Erase { order, packets, answer };
        self.intake.send(erase).await.map_err(|_| stopping())?;
        told.await.map_err(|_| stopping())?
    }

    /// Sends head and bytes, a part at a time.
    async fn give(&self, piece: Piece, mut writer: FrameWriter) -> Result<(), LinkError> {
        let Piece { opened: Opened { mut file, length: file_length, .. }, offset, length } = piece;
        let head = LogHead { reason: Reason::Accepted as i32, text: String::new(), file_length, length };
        writer.send_message(FrameType::LogHead, &head).await?;
        block_in_place(|| file.seek(SeekFrom::Start(offset))).map_err(|_| LinkError::StreamEnded)?;
        let mut left = length;
        while left > 0 {
            let mut part = Vec::with_capacity(SEND_BYTES);
            let read =
                block_in_place(|| (&mut file).take(left.min(SEND_BYTES as u64)).read_to_end(&mut part));
            // A read that fails resets the stream: the node sees a cut transfer, never a false end.
            match read {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Err(LinkError::StreamEnded),
            }
            left = left.saturating_sub(part.len() as u64);
            self.shared.metrics.log_bytes_given.add(part.len() as u64);
            writer.write_raw(part.into()).await?;
        }
        writer.finish().await
    }
}

/// The file that a question names, if the agency may read that log.
fn locate(
    shared: &Shared,
    directory: &Directory,
    asker: &str,
    get: &LogGet,
) -> Result<(LogFiles, LogFile), Denied> {
    let log = directory.log_of(&get.origin).filter(|log| log.broker.name == shared.broker);
    let log = log.ok_or_else(|| {
        let text = "This broker keeps no log of that name; ask the broker whose name it begins with.";
        (Reason::MissingAttachment, text.to_owned())
    })?;
    may_read(directory, asker, &log)?;
    let what = LogFile::parse(&get.path).ok_or_else(|| {
        let text = "A log has no file of that name; docs/AUDIT.md lists those that it has.";
        (Reason::MissingAttachment, text.to_owned())
    })?;
    let agency = match log.owner {
        LogOwner::Root => None,
        LogOwner::Agency(agency) => Some(agency.to_owned()),
    };
    if let Some(owner) = agency.as_ref().filter(|owner| *owner != asker)
        && log.ended().is_some()
        && what.shows_events()
    {
        let text = format!(
            "The log {} has ended, and reads of events are written into the present one only; ask {owner} for what it \
             keeps of it.",
            get.origin
        );
        return Err((Reason::Policy, text));
    }
    let present = shared.log.present(log.broker);
    let files = match log.ended() {
        None => LogFiles { agency, ..present },
        // Nobody writes it any more.
        Some(ended) => LogFiles {
            agency,
            number: log.number.saturating_add(1),
            epochs: ended.size,
            cosigned: u64::MAX,
            ..present
        },
    };
    Ok((files, what))
}

/// Every active member reads the root log; of sub-logs its own, and those that the roster lets it audit.
fn may_read(directory: &Directory, asker: &str, log: &LogRef<'_>) -> Result<(), Denied> {
    let (allowed, what) = match log.owner {
        LogOwner::Root => (directory.member(asker).is_some(), "the log of this region".to_owned()),
        LogOwner::Agency(owner) => (directory.may_read(asker, owner), format!("the log of {owner}")),
    };
    if allowed {
        return Ok(());
    }
    let text = format!(
        "The roster of the region authority does not let {asker} read {what}; whoever needs to asks the region \
         authority for the role of an auditor with that scope."
    );
    Err((Reason::Policy, text))
}

/// The present sub-log of an agency.
pub(super) fn own(shared: &Shared, directory: &Directory, agency: &str) -> Option<LogFiles> {
    let present = shared.log.present(me(shared, directory)?);
    Some(LogFiles { agency: Some(agency.to_owned()), ..present })
}

pub(super) fn unreadable() -> Denied {
    (Reason::DiskFull, "The broker cannot read its log; tell its operator.".to_owned())
}

fn stopping() -> Denied {
    (Reason::ShuttingDown, "The broker is stopping; ask again when it is back.".to_owned())
}

fn busy() -> Denied {
    let text = "Too many questions about the log at once; ask again when the others are answered.";
    (Reason::Quota, text.to_owned())
}

async fn answer<M: Shaped>(mut writer: FrameWriter, kind: FrameType, message: &M) -> Result<(), LinkError> {
    writer.send_message(kind, message).await?;
    writer.finish().await
}
