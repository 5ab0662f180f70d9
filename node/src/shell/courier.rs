//! Attachments beside the session: uploads before their packets, downloads before their deliveries are kept. The
//! session goes on meanwhile.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use lintas_link::Connection;
use lintas_proto::{
    frame::FrameType,
    id::Digest,
    schema::{AttachmentRef, Reason},
};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    desk::{Desk, Heard, Step, Upload},
    transfer::{self, Mark, TransferError},
};
use crate::core::{outbox::retry_after_ms, text::one_line, view::Direction};

/// Most deliveries that wait here for their attachments.
const WAITING_MAX: usize = 16;
/// Most bytes of such deliveries.
const WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most packets whose attachments are fetched at the same time.
const FETCHES_MAX: usize = 2;
/// How often a fetch is tried in one session.
const TRIES_MAX: u32 = 12;
/// How often one is tried that brings other bytes than the packet names.
const MISMATCHES_MAX: u32 = 5;
/// How long a delivery without its attachments is left alone, before the broker is asked for it again.
const LEFT: Duration = Duration::from_secs(600);
/// How long after a place was free such a delivery is asked for.
const FREED: Duration = Duration::from_secs(2);

/// Uploads the attachments of a packet, one after the other, and tells the desk. An error is the connection's.
pub(super) async fn upload(
    desk: Arc<Desk>,
    connection: Connection,
    upload: Upload,
) -> Result<(), TransferError> {
    let Upload { digest, packet, attachments, doubted } = upload;
    let gauge = desk.transfers().begin(Direction::Upload, packet, total(&attachments));
    let mut before = 0;
    for blob in &attachments {
        let mark = Mark { before, gauge: &gauge };
        // What the broker could not use goes up again only if it is what the packet names.
        let sound = if doubted { transfer::check(desk.folder(), blob).await } else { Ok(()) };
        let done = match sound {
            Ok(()) => transfer::upload(&connection, desk.folder(), blob, mark).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => before = before.saturating_add(blob.length),
            Err(error) if error.connection_is_gone() => return Err(error),
            Err(error) => {
                let reason = match &error {
                    TransferError::Refused { reason, .. } => *reason,
                    TransferError::Damaged { .. } => Reason::Malformed,
                    TransferError::Link(_)
                    | TransferError::File { .. }
                    | TransferError::NoRoom(_)
                    | TransferError::Wrong { .. }
                    | TransferError::Mismatch { .. } => Reason::MissingAttachment,
                };
                tracing::warn!(%error, "an attachment was not uploaded; the packet waits");
                drop(gauge);
                desk.put_off(digest, reason, error.to_string());
                return Ok(());
            }
        }
    }
    drop(gauge);
    desk.uploaded(digest);
    Ok(())
}

/// A delivery whose attachments are to be fetched.
#[derive(Debug, Clone)]
struct Wanted {
    queue_sequence: u64,
    digest: Digest,
    packet: String,
    attachments: Vec<AttachmentRef>,
}

/// How a fetch ended.
#[derive(Debug)]
enum Fetched {
    /// Everything is durable.
    Here,
    /// Not in this session.
    GaveUp,
    /// The connection is gone.
    Gone(TransferError),
}

/// Deliveries that wait for their attachments, as they came: they are judged again when everything is here.
#[derive(Debug)]
pub(super) struct WaitingRoom {
    desk: Arc<Desk>,
    connection: Connection,
    waiting: BTreeMap<u64, Bytes>,
    bytes: usize,
    fetches: JoinSet<(u64, Fetched)>,
    places: Arc<Semaphore>,
    /// Something found no place here.
    crowded: bool,
    /// When the session is opened anew for what was left with the broker.
    again_at: Option<Instant>,
}

impl WaitingRoom {
    pub(super) fn new(desk: Arc<Desk>, connection: Connection) -> Self {
        Self {
            desk,
            connection,
            waiting: BTreeMap::new(),
            bytes: 0,
            fetches: JoinSet::new(),
            places: Arc::new(Semaphore::new(FETCHES_MAX)),
            crowded: false,
            again_at: None,
        }
    }

    /// When the broker is to be asked again for what was left with it.
    pub(super) fn again_at(&self) -> Option<Instant> {
        self.again_at
    }

    /// Keeps back deliveries whose attachments are missing, and begins to fetch those.
    pub(super) fn hold(&mut self, fetches: Vec<Step>) {
        for fetch in fetches {
            if let Step::Fetch { queue_sequence, digest, packet, attachments, payload } = fetch {
                self.add(Wanted { queue_sequence, digest, packet, attachments }, payload);
            }
        }
    }

    fn add(&mut self, wanted: Wanted, payload: Bytes) {
        if self.waiting.contains_key(&wanted.queue_sequence) {
            return;
        }
        let bytes = self.bytes.saturating_add(payload.len());
        if self.waiting.len() >= WAITING_MAX || bytes > WAITING_BYTES_MAX {
            self.crowded = true;
            self.again_at.get_or_insert_with(|| Instant::now() + LEFT);
            let waiting = self.waiting.len();
            self.desk.trouble(&format!(
                "a packet stays at the broker until the attachments of {waiting} others are here; nothing is to be \
                 done"
            ));
            return;
        }
        self.bytes = bytes;
        self.waiting.insert(wanted.queue_sequence, payload);
        let (desk, connection) = (Arc::clone(&self.desk), self.connection.clone());
        self.fetches.spawn(fetch(desk, connection, Arc::clone(&self.places), wanted));
    }

    /// The next delivery whose attachments are here. Never returns while there is none. Safe to cancel.
    pub(super) async fn next(&mut self) -> Result<Heard, TransferError> {
        loop {
            let Some(joined) = self.fetches.join_next().await else {
                return std::future::pending().await;
            };
            let Ok((queue_sequence, fetched)) = joined else {
                self.again_at.get_or_insert_with(|| Instant::now() + LEFT);
                continue;
            };
            let payload = self.waiting.remove(&queue_sequence).unwrap_or_default();
            self.bytes = self.bytes.saturating_sub(payload.len());
            if self.crowded && self.waiting.len() <= WAITING_MAX / 2 {
                self.crowded = false;
                self.again_at = Some(Instant::now() + FREED);
            }
            match fetched {
                Fetched::Here => return Ok(Heard { kind: FrameType::Delivery, payload }),
                Fetched::Gone(error) => return Err(error),
                Fetched::GaveUp => {
                    self.again_at.get_or_insert_with(|| Instant::now() + LEFT);
                }
            }
        }
    }
}

/// Fetches everything that a delivery names, with pauses that grow.
async fn fetch(
    desk: Arc<Desk>,
    connection: Connection,
    places: Arc<Semaphore>,
    wanted: Wanted,
) -> (u64, Fetched) {
    let mut mismatches = 0;
    for tries in 1..=TRIES_MAX {
        let Ok(place) = places.acquire().await else { break };
        let result = fetch_all(&desk, &connection, &wanted).await;
        drop(place);
        let Err(error) = result else { return (wanted.queue_sequence, Fetched::Here) };
        if error.connection_is_gone() {
            return (wanted.queue_sequence, Fetched::Gone(error));
        }
        mismatches += u32::from(matches!(error, TransferError::Mismatch { .. }));
        let why = one_line(&error.to_string());
        if mismatches >= MISMATCHES_MAX || tries == TRIES_MAX {
            desk.trouble(&format!(
                "a packet stays at the broker without its attachments, and is asked for again in ten minutes: {why}"
            ));
            break;
        }
        desk.trouble(&format!(
            "a packet waits for its attachments, which are tried again by themselves: {why}"
        ));
        sleep(Duration::from_millis(retry_after_ms(tries))).await;
    }
    (wanted.queue_sequence, Fetched::GaveUp)
}

async fn fetch_all(desk: &Desk, connection: &Connection, wanted: &Wanted) -> Result<(), TransferError> {
    let all = total(&wanted.attachments);
    let gauge = desk.transfers().begin(Direction::Download, wanted.packet.clone(), all);
    let mut before = 0;
    for blob in &wanted.attachments {
        let mark = Mark { before, gauge: &gauge };
        transfer::download(connection, desk.folder(), desk.room(), &wanted.digest, blob, mark).await?;
        before = before.saturating_add(blob.length);
    }
    Ok(())
}

fn total(attachments: &[AttachmentRef]) -> u64 {
    attachments.iter().map(|blob| blob.length).fold(0, u64::saturating_add)
}
