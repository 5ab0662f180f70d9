//! Attachments over streams of their own: up from the originator before its packet, down to those whom a packet
//! that names them was admitted for.

use std::io::Read as _;

use bytes::Bytes;
use lintas_link::{FrameReader, FrameWriter, LinkError, decode};
use lintas_proto::{
    canonical::fixed,
    envelope::{chunk, segment::blob_id},
    frame::FrameType,
    id::Digest,
    limits,
    schema::{AttachmentRef, BlobGet, BlobPut, BlobStatus, Reason},
};
use tokio::task::{JoinSet, block_in_place};

use super::{
    blobs::{BlobError, Upload},
    clock,
    session::Session,
};

/// Bytes read from a file at once.
const READ_BYTES: usize = 256 * 1024;

/// Serves blob streams until the connection ends. The transport caps how many a peer may open.
pub(super) async fn serve(session: &Session) -> Result<(), LinkError> {
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            accepted = session.connection.accept_stream() => {
                let (writer, reader) = accepted?;
                let session = session.clone();
                streams.spawn(async move {
                    if let Err(error) = stream(&session, writer, reader).await {
                        tracing::info!(agency = session.agency, %error, "an attachment's transfer ended early");
                    }
                });
            }
            Some(_) = streams.join_next() => {}
        }
    }
}

async fn stream(session: &Session, writer: FrameWriter, mut reader: FrameReader) -> Result<(), LinkError> {
    let kinds = [FrameType::BlobPut, FrameType::BlobGet, FrameType::DirectoryGet, FrameType::KeysetPut];
    match reader.next_of(&kinds).await? {
        Some(frame @ (FrameType::DirectoryGet | FrameType::KeysetPut, _)) => {
            session.desk.stream(&session.agency, frame, writer).await
        }
        Some((kind @ FrameType::BlobPut, payload)) => {
            let put: BlobPut = decode(kind, &payload)?;
            receive(session, put.blob.unwrap_or_default(), writer, reader).await
        }
        Some((kind, payload)) => give(session, decode(kind, &payload)?, writer).await,
        None => Ok(()),
    }
}

/// Takes an upload: says what is there already, then takes the bytes, checks the root, says that it is kept.
async fn receive(
    session: &Session,
    blob: AttachmentRef,
    mut writer: FrameWriter,
    mut reader: FrameReader,
) -> Result<(), LinkError> {
    if blob.length > limits::TRANSFER_BYTES_MAX {
        let text = "An attachment may have 16 MiB; send larger files in parts.";
        return answer(writer, status(&blob.blob_id, Reason::TooLarge, text, 0)).await;
    }
    let Some(id) = sound(&blob) else {
        let text = "The attachment's id, length and root do not fit each other.";
        return answer(writer, status(&blob.blob_id, Reason::Malformed, text, 0)).await;
    };
    if session.shared.blobs.has(&session.agency, &id) {
        return answer(writer, status(&id, Reason::Accepted, "", blob.length)).await;
    }
    let upload = block_in_place(|| session.shared.blobs.upload(&session.agency, id, blob.length));
    let mut upload = match upload {
        Ok(upload) => upload,
        Err(error) => return answer(writer, failed(session, &id, &error)).await,
    };
    writer.send_message(FrameType::BlobStatus, &status(&id, Reason::Accepted, "", 0)).await?;
    let outcome = match fill(session, &mut upload, blob.length, &mut reader).await? {
        Ok(()) => block_in_place(|| upload.keep(clock::now_ms())),
        Err(error) => {
            // Its file and its room are given back before the node is told.
            drop(upload);
            Err(error)
        }
    };
    let told = match &outcome {
        Ok(()) => status(&id, Reason::Accepted, "", blob.length),
        Err(error) => failed(session, &id, error),
    };
    answer(writer, told).await
}

/// Writes what comes, to the announced length and not beyond.
async fn fill(
    session: &Session,
    upload: &mut Upload,
    length: u64,
    reader: &mut FrameReader,
) -> Result<Result<(), BlobError>, LinkError> {
    let mut left = length;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let Some(bytes) = reader.read_raw(most).await? else { return Ok(Err(BlobError::Mismatch)) };
        left -= bytes.len() as u64;
        session.shared.metrics.attachment_bytes.add(bytes.len() as u64);
        if let Err(error) = block_in_place(|| upload.write(&bytes)) {
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}

/// Gives a blob to the originator, or to a recipient, of a packet in the queues that names it.
async fn give(session: &Session, get: BlobGet, mut writer: FrameWriter) -> Result<(), LinkError> {
    let found = allowed(session, &get).and_then(|(agency, blob)| {
        let file = block_in_place(|| session.shared.blobs.read(&agency, &blob));
        file.inspect_err(|error| tracing::error!(%error, "an attachment that a packet names is not there"))
            .ok()
    });
    let Some((mut file, length)) = found else {
        let text = "There is no such attachment for this agency; it may have been delivered and removed.";
        return answer(writer, status(&get.blob_id, Reason::MissingAttachment, text, 0)).await;
    };
    writer.send_message(FrameType::BlobStatus, &status(&get.blob_id, Reason::Accepted, "", length)).await?;
    let (mut buffer, mut left) = (vec![0; READ_BYTES], length);
    loop {
        // A read that fails resets the stream: the node sees a cut transfer, never a false end.
        let read = block_in_place(|| file.read(&mut buffer)).map_err(|_| LinkError::StreamEnded)?;
        left = left.checked_sub(read as u64).ok_or(LinkError::StreamEnded)?;
        if read == 0 {
            return if left == 0 { writer.finish().await } else { Err(LinkError::StreamEnded) };
        }
        writer.write_raw(Bytes::copy_from_slice(buffer.get(..read).unwrap_or_default())).await?;
    }
}

/// The uploader and id of a blob that this session may fetch.
fn allowed(session: &Session, get: &BlobGet) -> Option<(String, Digest)> {
    let blob: Digest = fixed("blob_id", &get.blob_id).ok()?;
    let digest: Digest = fixed("header_digest", &get.header_digest).ok()?;
    let ledger = session.shared.ledger();
    let packet = ledger.packet_by_digest(&digest).filter(|packet| packet.blobs.contains(&blob))?;
    let mine = packet.originator.agency == session.agency
        || packet.recipients.iter().any(|unit| unit.agency == session.agency);
    mine.then(|| (packet.originator.agency.clone(), blob))
}

fn sound(blob: &AttachmentRef) -> Option<Digest> {
    let root: Digest = fixed("root", &blob.root).ok()?;
    let id: Digest = fixed("blob_id", &blob.blob_id).ok()?;
    let possible = blob.length <= limits::BLOB_BYTES_MAX && chunk::plain_length(blob.length).is_some();
    (possible && blob_id(&root, blob.length) == id).then_some(id)
}

fn status(blob_id: &[u8], reason: Reason, text: &str, length: u64) -> BlobStatus {
    let blob_id = Bytes::copy_from_slice(blob_id);
    BlobStatus { blob_id, reason: reason as i32, text: text.to_owned(), length }
}

/// What the uploader is told; what the system says goes to the log.
fn failed(session: &Session, id: &Digest, error: &BlobError) -> BlobStatus {
    let reason = match error {
        BlobError::Mismatch => Reason::Malformed,
        BlobError::Quota => Reason::Quota,
        BlobError::Io(cause) => {
            tracing::error!(agency = session.agency, %cause, "an attachment cannot be stored");
            Reason::DiskFull
        }
    };
    status(id, reason, &error.to_string(), 0)
}

async fn answer(mut writer: FrameWriter, status: BlobStatus) -> Result<(), LinkError> {
    writer.send_message(FrameType::BlobStatus, &status).await?;
    writer.finish().await
}
