//! Streams beside the session. Attachments: up from the originator before its packet, down to those who
//! may have a packet that names them. What is about the directory or the log goes to
//! [`directory_streams`](super::directory_streams).

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use lintas_link::{FrameReader, FrameWriter, LinkError, TakeError, decode, take_raw};
use lintas_proto::{
    canonical::fixed,
    envelope::{chunk, segment::blob_id},
    frame::FrameType,
    id::Digest,
    limits,
    schema::{AttachmentRef, BlobGet, BlobPut, BlobStatus, Reason},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::{JoinSet, block_in_place},
    time::timeout,
};

use super::{blobs::BlobError, clock, directory_streams::KINDS, session::Session, upload::Upload};
use crate::core::hand_over::{Asked, may_have};

/// Bytes read from a file at once.
const READ_BYTES: usize = 256 * 1024;

/// Most transfers of one session at once; more wait. The transport caps how many a peer may begin.
const SESSION_TRANSFERS_MAX: usize = 8;
/// How often it is looked at during a transfer whether the agency may still have it, milliseconds: a large file takes hours on a
/// slow line. After each change of what is in force at once.
const LOOK_AGAIN_MS: u64 = 5_000;
/// How long a transfer waits for those of other agencies to end, before the node is told to try again.
const PLACE_TIME_MAX: Duration = Duration::from_secs(30);

/// Serves further streams until the connection ends.
pub(super) async fn serve(session: &Session) -> Result<(), LinkError> {
    let mut streams = JoinSet::new();
    let places = Arc::new(Semaphore::new(SESSION_TRANSFERS_MAX));
    loop {
        tokio::select! {
            accepted = session.connection.accept_stream() => {
                let (writer, reader) = accepted?;
                let (session, places) = (session.clone(), Arc::clone(&places));
                streams.spawn(async move {
                    if let Err(error) = stream(&session, &places, writer, reader).await {
                        tracing::info!(agency = session.agency, %error, "a stream beside the session ended early");
                    }
                });
            }
            Some(_) = streams.join_next() => {}
        }
    }
}

async fn stream(
    session: &Session,
    places: &Arc<Semaphore>,
    writer: FrameWriter,
    mut reader: FrameReader,
) -> Result<(), LinkError> {
    let kinds: Vec<_> = KINDS.into_iter().chain([FrameType::BlobPut, FrameType::BlobGet]).collect();
    match reader.next_of(&kinds).await? {
        Some(frame) if KINDS.contains(&frame.0) => session.desk.stream(&session.agency, frame, writer).await,
        Some((kind @ FrameType::BlobPut, payload)) => {
            let put: BlobPut = decode(kind, &payload)?;
            let blob = put.blob.unwrap_or_default();
            match place(session, places).await {
                Some(_place) => receive(session, blob, writer, reader).await,
                None => answer(writer, busy(&blob.blob_id)).await,
            }
        }
        Some((kind, payload)) => {
            let get: BlobGet = decode(kind, &payload)?;
            match place(session, places).await {
                Some(_place) => give(session, get, writer).await,
                None => answer(writer, busy(&get.blob_id)).await,
            }
        }
        None => Ok(()),
    }
}

/// A place among the transfers of this session, and one among those of all; none when all are taken for long.
async fn place(
    session: &Session,
    places: &Arc<Semaphore>,
) -> Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
    let own = Arc::clone(places).acquire_owned().await.ok()?;
    let all = Arc::clone(&session.shared.blobs.transfers).acquire_owned();
    let shared = timeout(PLACE_TIME_MAX, all).await.ok()?.ok()?;
    Some((own, shared))
}

fn busy(blob_id: &[u8]) -> BlobStatus {
    let text = "The broker moves as many attachments as it can at once; this one is tried again by itself.";
    status(blob_id, Reason::Quota, text, 0)
}

/// Takes an upload: says what is there already, then takes the rest, checks the root, says that it is kept.
async fn receive(
    session: &Session,
    blob: AttachmentRef,
    mut writer: FrameWriter,
    mut reader: FrameReader,
) -> Result<(), LinkError> {
    let Some(id) = sound(&blob) else {
        let text = "The attachment's id, length and root do not fit each other.";
        return answer(writer, status(&blob.blob_id, Reason::Malformed, text, 0)).await;
    };
    let all = || status(&id, Reason::Accepted, "", blob.length);
    if session.shared.blobs.has(&session.agency, &id) {
        return answer(writer, all()).await;
    }
    let mut upload = match session.shared.blobs.upload(&session.agency, id, blob.length).await {
        Ok(Some(upload)) => upload,
        Ok(None) => return answer(writer, all()).await,
        Err(error) => return answer(writer, failed(session, &id, &error)).await,
    };
    if upload.missing() > 0 {
        writer.send_message(FrameType::BlobStatus, &status(&id, Reason::Accepted, "", upload.here())).await?;
        let counted = Arc::clone(&session.shared);
        let seen = |count| counted.metrics.attachment_bytes.add(count);
        upload = match take_raw(&mut reader, upload.missing(), upload, Upload::write, seen).await {
            Ok(upload) => upload,
            Err(TakeError::Link(error)) => return Err(error),
            Err(TakeError::Cut) => return answer(writer, failed(session, &id, &BlobError::Cut)).await,
            Err(TakeError::Write(error)) => return answer(writer, failed(session, &id, &error)).await,
            Err(TakeError::Lost) => {
                let error = BlobError::Io(io::Error::other("writing it failed"));
                return answer(writer, failed(session, &id, &error)).await;
            }
        };
    }
    let told = match block_in_place(|| upload.keep()) {
        Ok(()) => all(),
        Err(error) => failed(session, &id, &error),
    };
    answer(writer, told).await
}

/// Gives a blob, from the asked offset on, to the originator, or to a recipient, of a packet in the queues that
/// names it.
async fn give(session: &Session, get: BlobGet, mut writer: FrameWriter) -> Result<(), LinkError> {
    if session.shared.clock.agreed_ms().is_none() {
        return Err(LinkError::StreamEnded);
    }
    let mut still = Still::new(session);
    let found = allowed(session, &get).and_then(|(agency, blob)| {
        let file = block_in_place(|| session.shared.blobs.read(&agency, &blob));
        file.inspect_err(|error| tracing::error!(%error, "an attachment that a packet names is not there"))
            .ok()
    });
    let Some((mut file, length)) = found else {
        let text = "There is no such attachment for this agency; it may have been delivered and removed.";
        return answer(writer, status(&get.blob_id, Reason::MissingAttachment, text, 0)).await;
    };
    let Some(left) = length.checked_sub(get.offset) else {
        let text = "The attachment is shorter than the offset that was asked for.";
        return answer(writer, status(&get.blob_id, Reason::Malformed, text, 0)).await;
    };
    writer.send_message(FrameType::BlobStatus, &status(&get.blob_id, Reason::Accepted, "", length)).await?;
    block_in_place(|| file.seek(SeekFrom::Start(get.offset))).map_err(|_| LinkError::StreamEnded)?;
    match pour(session, &get, &mut still, (file, left), &mut writer).await {
        Ok(()) => writer.finish().await,
        Err(error) => {
            // The node sees a cut transfer, never a false end.
            writer.cut();
            Err(error)
        }
    }
}

/// The rest of a file, as long as the agency may have it.
async fn pour(
    session: &Session,
    get: &BlobGet,
    still: &mut Still,
    (mut file, mut left): (File, u64),
    writer: &mut FrameWriter,
) -> Result<(), LinkError> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        if still.is_to_be_asked(clock::shown_ms()) && allowed(session, get).is_none() {
            tracing::info!(
                agency = session.agency,
                "an attachment is cut off: the agency may not have it any more"
            );
            return Err(LinkError::StreamEnded);
        }
        let read = block_in_place(|| file.read(&mut buffer)).map_err(|_| LinkError::StreamEnded)?;
        left = left.checked_sub(read as u64).ok_or(LinkError::StreamEnded)?;
        if read == 0 {
            return if left == 0 { Ok(()) } else { Err(LinkError::StreamEnded) };
        }
        writer.write_raw(Bytes::copy_from_slice(buffer.get(..read).unwrap_or_default())).await?;
        session.shared.metrics.attachment_bytes_given.add(read as u64);
    }
}

/// When it is to be asked again whether an agency may have what it is being given.
struct Still {
    changed: watch::Receiver<u64>,
    asked_ms: u64,
}

impl Still {
    fn new(session: &Session) -> Self {
        Self { changed: session.shared.changed.subscribe(), asked_ms: clock::shown_ms() }
    }

    fn is_to_be_asked(&mut self, now_ms: u64) -> bool {
        let is_changed = self.changed.has_changed().unwrap_or(true);
        let is_due = is_changed || now_ms.abs_diff(self.asked_ms) >= LOOK_AGAIN_MS;
        if is_due {
            self.changed.mark_unchanged();
            self.asked_ms = now_ms;
        }
        is_due
    }
}

/// The uploader and id of a blob that this session may fetch: its own, or one of a packet that its agency may have under the
/// rules in force.
fn allowed(session: &Session, get: &BlobGet) -> Option<(String, Digest)> {
    let blob: Digest = fixed("blob_id", &get.blob_id).ok()?;
    let digest: Digest = fixed("header_digest", &get.header_digest).ok()?;
    let shared = &session.shared;
    let now_ms = shared.clock.agreed_ms()?;
    let (admission, uploader, places, time_ms) = {
        let ledger = shared.ledger();
        let (admission, packet) = ledger.packet_by_digest(&digest)?;
        if !packet.blobs.contains(&blob) {
            return None;
        }
        let mine = packet.recipients.iter().filter(|(_, unit)| unit.agency == session.agency);
        let places: Vec<u32> = mine.map(|(at, _)| at).collect();
        (admission, packet.originator.agency.clone(), places, ledger.time_at(now_ms))
    };
    if uploader == session.agency {
        return Some((uploader, blob));
    }
    if places.is_empty() {
        return None;
    }
    let packet = block_in_place(|| shared.packet(admission)).ok()?;
    let rules = shared.rules_at(time_ms);
    let may_have = |at: &u32| Asked::read(&packet, *at).is_ok_and(|asked| may_have(&asked, &rules, time_ms));
    places.iter().any(may_have).then_some((uploader, blob))
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
        BlobError::Mismatch | BlobError::Cut => Reason::Malformed,
        BlobError::TooLarge(_) => Reason::TooLarge,
        BlobError::Quota { .. } | BlobError::Count | BlobError::Busy => Reason::Quota,
        BlobError::NoRoom(_) => Reason::DiskFull,
        BlobError::Io(cause) => {
            tracing::error!(agency = session.agency, %cause, "an attachment cannot be stored");
            Reason::DiskFull
        }
        BlobError::Unsure(cause) => {
            session.shared.fail(&format_args!("the folder of attachments could not be synced: {cause}"));
            Reason::DiskFull
        }
    };
    status(id, reason, &error.to_string(), 0)
}

async fn answer(mut writer: FrameWriter, status: BlobStatus) -> Result<(), LinkError> {
    writer.send_message(FrameType::BlobStatus, &status).await?;
    writer.finish().await
}
