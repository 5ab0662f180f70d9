//! Blobs over streams of their own, a piece at a time; always ciphertext.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use lintas_link::{Connection, FrameReader, LinkError};
use lintas_proto::{
    envelope::segment::SegmentRoot,
    frame::FrameType,
    id::{Digest, hex},
    schema::{AttachmentRef, BlobGet, BlobPut, BlobStatus, Reason},
};
use thiserror::Error;
use tokio::{sync::mpsc, task::spawn_blocking};

use super::{files::PartFile, folder::Folder};
use crate::core::text::one_line;

/// Bytes read from disk and sent at once.
const PIECE_BYTES: usize = 128 * 1024;
/// Pieces received and not yet on disk.
const PIECES_MAX: usize = 16;

/// Why a blob was not transferred.
#[derive(Debug, Error)]
pub(crate) enum TransferError {
    /// The connection.
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
    /// The broker says what cannot be, or sends other bytes than the packet names.
    #[error("attachment {blob}: {what}")]
    Wrong {
        /// Which, in hex.
        blob: String,
        /// What is wrong.
        what: &'static str,
    },
}

/// Uploads a blob of ours, from where the broker has it.
pub(crate) async fn upload(
    connection: &Connection,
    folder: &Folder,
    blob: &AttachmentRef,
) -> Result<(), TransferError> {
    let name = hex(&blob.blob_id);
    let file = open(&folder.blob_out(&name), blob).map_err(|error| failed(&name, error))?;
    let (mut writer, mut reader) = connection.open_stream().await?;
    writer.send_message(FrameType::BlobPut, &BlobPut { blob: Some(blob.clone()) }).await?;
    let stored = status(&mut reader, &name, blob).await?.length;
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
    };
    // A broker that stops reading says why.
    match (sent, status(&mut reader, &name, blob).await) {
        (Ok(()), Ok(_)) => Ok(()),
        (Err(error), Ok(_)) => Err(error.into()),
        (_, Err(error)) => Err(error),
    }
}

/// Downloads a blob of a packet that was delivered, unless it is here. Durable and checked when this returns.
pub(crate) async fn download(
    connection: &Connection,
    folder: &Folder,
    header_digest: &Digest,
    blob: &AttachmentRef,
) -> Result<(), TransferError> {
    let name = hex(&blob.blob_id);
    let target = folder.blob_in(&name);
    // Files get this name only after their bytes were checked.
    if target.exists() {
        return Ok(());
    }
    let (mut writer, mut reader) = connection.open_stream().await?;
    let digest = Bytes::copy_from_slice(header_digest);
    let get = BlobGet { blob_id: blob.blob_id.clone(), header_digest: digest, offset: 0 };
    writer.send_message(FrameType::BlobGet, &get).await?;
    if status(&mut reader, &name, blob).await?.length != blob.length {
        return Err(wrong(&name, "the broker has another length of it than the packet names"));
    }
    let (pieces, arrived) = mpsc::channel(PIECES_MAX);
    let (expected, file_name) = (blob.clone(), name.clone());
    let written = spawn_blocking(move || write(arrived, &target, &expected, &file_name));
    let received = receive(&mut reader, &pieces, blob, &name).await;
    drop(pieces);
    let written = written.await.map_err(|_| wrong(&name, "writing it failed"))?;
    received.and(written)
}

/// Passes bytes on until all are here; the peer must end the stream there.
async fn receive(
    reader: &mut FrameReader,
    pieces: &mpsc::Sender<Bytes>,
    blob: &AttachmentRef,
    name: &str,
) -> Result<(), TransferError> {
    let mut missing = blob.length;
    while missing > 0 {
        let max = usize::try_from(missing).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let piece = reader.read_raw(max).await?;
        let piece = piece.ok_or_else(|| wrong(name, "the broker ended it too early"))?;
        missing = missing.saturating_sub(piece.len() as u64);
        if pieces.send(piece).await.is_err() {
            // The writer has failed, and says why.
            return Ok(());
        }
    }
    Ok(())
}

fn write(
    mut arrived: mpsc::Receiver<Bytes>,
    target: &Path,
    blob: &AttachmentRef,
    name: &str,
) -> Result<(), TransferError> {
    let disk = |error| failed(name, error);
    let mut file = PartFile::create(target).map_err(disk)?;
    let mut root = SegmentRoot::default();
    while let Some(piece) = arrived.blocking_recv() {
        root.update(&piece);
        file.write(&piece).map_err(disk)?;
    }
    let (root, length) = root.finish();
    if length != blob.length || root != *blob.root {
        return Err(wrong(name, "what came is not what the packet names"));
    }
    file.keep().map_err(disk)
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
