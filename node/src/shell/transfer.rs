//! Blobs over streams of their own, a piece at a time; always ciphertext. A transfer that was cut goes on where
//! the receiving side stands.

use std::{fs::File, io::Read as _, os::unix::fs::FileExt as _, path::PathBuf, sync::Arc};

use bytes::Bytes;
use lintas_link::{Connection, FrameReader, LinkError, TakeError, take_raw};
use lintas_proto::{
    envelope::segment::SegmentRoot,
    frame::FrameType,
    id::{Digest, hex},
    schema::{AttachmentRef, BlobGet, BlobPut, BlobStatus, Reason},
};
use thiserror::Error;
use tokio::task::spawn_blocking;

use super::{
    arriving::{Arriving, Check},
    blobs::{NoRoom, Room},
    folder::Folder,
    progress::Gauge,
};
use crate::core::text::one_line;

/// Bytes read from disk and sent at once.
const PIECE_BYTES: usize = 128 * 1024;

/// Why a blob was not transferred.
#[derive(Debug, Error)]
pub(crate) enum TransferError {
    /// The connection, or a stream of it.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// This machine's disk.
    #[error("attachment {blob}: {error}")]
    File {
        /// Which, in hex.
        blob: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// This machine's disk is too full.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// The broker says no.
    #[error("the broker does not take or give attachment {blob}: {} `{text}`", reason.as_str_name())]
    Refused {
        /// Which, in hex.
        blob: String,
        /// Why.
        reason: Reason,
        /// Its sentence.
        text: String,
    },
    /// The broker says what cannot be.
    #[error("attachment {blob}: {what}")]
    Wrong {
        /// Which, in hex.
        blob: String,
        /// What is wrong.
        what: &'static str,
    },
    /// What was sealed is no more what the packet names.
    #[error(
        "attachment {blob}: the sealed file on this machine's disk is damaged; check the disk, and send what is in \
         the packet again as a new one"
    )]
    Damaged {
        /// Which, in hex.
        blob: String,
    },
    /// All of it came, and is not what the packet names.
    #[error("attachment {blob}: what the broker gave is not what the packet names; it was thrown away")]
    Mismatch {
        /// Which, in hex.
        blob: String,
    },
}

impl TransferError {
    /// Whether the whole connection ended, not one stream.
    pub(crate) fn connection_is_gone(&self) -> bool {
        matches!(self, Self::Link(error) if !matches!(
            error,
            LinkError::StreamReset(_)
                | LinkError::StreamStopped(_)
                | LinkError::StreamEnded
                | LinkError::Truncated { .. }
                | LinkError::Stalled { .. }
        ))
    }
}

/// How far one file of a packet is: what was done before it, and the gauge of the packet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark<'a> {
    /// Bytes of the files before this one.
    pub(crate) before: u64,
    /// Of the whole packet.
    pub(crate) gauge: &'a Gauge,
}

impl Mark<'_> {
    fn at(&self, here: u64) {
        self.gauge.set(self.before.saturating_add(here));
    }
}

/// Uploads a blob of ours, from where the broker has it.
pub(crate) async fn upload(
    connection: &Connection,
    folder: &Folder,
    blob: &AttachmentRef,
    mark: Mark<'_>,
) -> Result<(), TransferError> {
    let name = hex(&blob.blob_id);
    let file = open(&folder.blob_out(&name), blob).map_err(|error| failed(&name, error))?;
    let (mut writer, mut reader) = connection.open_stream().await?;
    writer.send_message(FrameType::BlobPut, &BlobPut { blob: Some(blob.clone()) }).await?;
    let stored = status(&mut reader, &name, blob).await?.length;
    mark.at(stored);
    if stored == blob.length {
        return Ok(());
    }
    if stored > blob.length {
        return Err(wrong(&name, "the broker claims to have more of it than there is"));
    }
    let mut at = stored;
    let sent = loop {
        if at == blob.length {
            break writer.finish().await;
        }
        let piece = piece(&file, at, blob.length).await.map_err(|error| failed(&name, error))?;
        at += piece.len() as u64;
        if let Err(error) = writer.write_raw(piece).await {
            break Err(error);
        }
        mark.at(at);
    };
    // A broker that stops reading says why.
    match (sent, status(&mut reader, &name, blob).await) {
        (Ok(()), Ok(_)) => Ok(()),
        (Err(error), Ok(_)) => Err(error.into()),
        (_, Err(error)) => Err(error),
    }
}

/// Whether the sealed file of a blob of ours is still what the packet names.
pub(crate) async fn check(folder: &Folder, blob: &AttachmentRef) -> Result<(), TransferError> {
    let name = hex(&blob.blob_id);
    let (path, expected, file_name) = (folder.blob_out(&name), blob.clone(), name.clone());
    blocking(&name, move || {
        let disk = |error| failed(&file_name, error);
        let mut file = File::open(path).map_err(disk)?;
        let (mut root, mut piece) = (SegmentRoot::default(), vec![0; PIECE_BYTES]);
        loop {
            let count = file.read(&mut piece).map_err(disk)?;
            if count == 0 {
                break;
            }
            root.update(piece.get(..count).unwrap_or_default());
        }
        let (root, length) = root.finish();
        let same = length == expected.length && root == *expected.root;
        if same { Ok(()) } else { Err(TransferError::Damaged { blob: file_name }) }
    })
    .await
}

/// Downloads a blob of a packet that was delivered, unless it is here, from where this node has it. Durable and
/// checked when this returns.
pub(crate) async fn download(
    connection: &Connection,
    folder: &Folder,
    room: Room,
    header_digest: &Digest,
    blob: &AttachmentRef,
    mark: Mark<'_>,
) -> Result<(), TransferError> {
    let name = hex(&blob.blob_id);
    let (target, length, its_folder) = (folder.blob_in(&name), blob.length, folder.clone());
    let file_name = name.clone();
    let opened = blocking(&name, move || {
        let part = Arriving::open(&target, length).map_err(|error| failed(&file_name, error))?;
        if let Some(part) = &part {
            room.check(&its_folder, part.missing())?;
        }
        Ok(part)
    });
    let Some(part) = opened.await? else {
        mark.at(length);
        return Ok(());
    };
    let (expected, file_name, offset) = (blob.clone(), name.clone(), part.here());
    mark.at(offset);
    if part.missing() == 0 {
        return blocking(&name, move || finish(part, &expected, &file_name)).await;
    }
    let (mut writer, mut reader) = connection.open_stream().await?;
    let digest = Bytes::copy_from_slice(header_digest);
    let get = BlobGet { blob_id: blob.blob_id.clone(), header_digest: digest, offset };
    writer.send_message(FrameType::BlobGet, &get).await?;
    if status(&mut reader, &name, blob).await?.length != blob.length {
        return Err(wrong(&name, "the broker has another length of it than the packet names"));
    }
    let (its_folder, its_name) = (folder.clone(), name.clone());
    let write = move |part: &mut Arriving, bytes: &[u8]| {
        if part.write(bytes).map_err(|error| failed(&its_name, error))? {
            room.check(&its_folder, part.missing())?;
        }
        Ok(())
    };
    let mut at = offset;
    let seen = |count| {
        at = at.saturating_add(count);
        mark.at(at);
    };
    let part =
        take_raw(&mut reader, part.missing(), part, write, seen).await.map_err(|error| match error {
            TakeError::Link(error) => error.into(),
            TakeError::Cut => wrong(&name, "the broker ended it too early"),
            TakeError::Write(error) => error,
            TakeError::Lost => wrong(&name, "writing it failed"),
        })?;
    blocking(&name, move || finish(part, &expected, &file_name)).await
}

fn finish(part: Arriving, blob: &AttachmentRef, name: &str) -> Result<(), TransferError> {
    match part.finish(blob).map_err(|error| failed(name, error))? {
        Check::Kept => Ok(()),
        Check::ThrownAway => Err(TransferError::Mismatch { blob: name.to_owned() }),
    }
}

async fn blocking<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T, TransferError> + Send + 'static,
) -> Result<T, TransferError> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(failed(name, std::io::Error::other(error))))
}

async fn status(
    reader: &mut FrameReader,
    name: &str,
    blob: &AttachmentRef,
) -> Result<BlobStatus, TransferError> {
    let status: BlobStatus = reader.next_message(FrameType::BlobStatus).await?;
    let reason = Reason::try_from(status.reason).unwrap_or_default();
    if reason != Reason::Accepted {
        let (blob, text) = (name.to_owned(), one_line(&status.text));
        return Err(TransferError::Refused { blob, reason, text });
    }
    if status.blob_id != blob.blob_id {
        return Err(wrong(name, "the broker answers about another one"));
    }
    Ok(status)
}

fn open(path: &PathBuf, blob: &AttachmentRef) -> std::io::Result<Arc<File>> {
    let file = File::open(path)?;
    if file.metadata()?.len() != blob.length {
        return Err(std::io::Error::other("the sealed file has another length than the packet names"));
    }
    Ok(Arc::new(file))
}

async fn piece(file: &Arc<File>, at: u64, length: u64) -> std::io::Result<Bytes> {
    let count = usize::try_from(length - at).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
    let file = Arc::clone(file);
    let read = spawn_blocking(move || {
        let mut piece = vec![0; count];
        file.read_exact_at(&mut piece, at).map(|()| Bytes::from(piece))
    });
    read.await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}

fn failed(name: &str, error: std::io::Error) -> TransferError {
    TransferError::File { blob: name.to_owned(), error }
}

fn wrong(name: &str, what: &'static str) -> TransferError {
    TransferError::Wrong { blob: name.to_owned(), what }
}
