//! Streams about the directory and the policies: a node asks for what is new, or brings a keyset or its agency's own policies.
//! Within a session; but for the policies also on a connection without a hello: a node that does not know the broker's key
//! yet, or no longer, asks for nothing else.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use lintas_link::{CloseCode, Connection, FrameReader, FrameWriter, LinkError, decode};
use lintas_proto::{
    canonical::Shaped,
    frame::FrameType,
    schema::{
        DirectoryGet, DirectoryHead, KeysetPut, KeysetStatus, PolicyGet, PolicyHead, PolicyPut, PolicyStatus,
        Reason,
    },
};
use tokio::{
    sync::Semaphore,
    task::{JoinSet, spawn_blocking},
    time::timeout,
};

use super::{keeper::Keeper, log::LogDesk, offer::Answer, places::Places, shared::Shared};
use crate::core::refuse::sentence;

/// Frames that such a stream may begin with without a hello: about the directory, or about the log.
pub(super) const ALONE_KINDS: [FrameType; 4] =
    [FrameType::DirectoryGet, FrameType::KeysetPut, FrameType::LogGet, FrameType::ErasurePut];
/// Within a session: about the agency's own policies, too.
pub(super) const KINDS: [FrameType; 6] = [
    FrameType::DirectoryGet,
    FrameType::KeysetPut,
    FrameType::LogGet,
    FrameType::ErasurePut,
    FrameType::PolicyPut,
    FrameType::PolicyGet,
];
/// Most answers that are put together at once; more wait.
const ANSWERS_MAX: usize = 4;
/// Most directory, keyset and policy streams of one agency at once; more are refused.
const STREAMS_OF_AGENCY_MAX: usize = 4;
/// Bytes sent at once.
const SEND_BYTES: usize = 256 * 1024;
/// Longest transfer, milliseconds: this, and the time for its length at [`BYTES_PER_SECOND_MIN`].
const TRANSFER_MS: u64 = 60_000;
/// Slowest transfer. Who is slower asks again over a better line, or gets the file by hand.
const BYTES_PER_SECOND_MIN: u64 = 2 * 1024;
/// Longest life of a connection without a hello, milliseconds: a megabyte by satellite.
const ALONE_MS_MAX: u64 = 600_000;

/// What all such streams share.
#[derive(Debug)]
pub(super) struct Desk {
    shared: Arc<Shared>,
    keeper: Arc<Keeper>,
    /// What is asked about the log.
    log: LogDesk,
    answers: Semaphore,
    places: Places,
}

impl Desk {
    pub(super) fn new(shared: Arc<Shared>, keeper: Arc<Keeper>, log: LogDesk) -> Self {
        let (answers, places) = (Semaphore::new(ANSWERS_MAX), Places::new(STREAMS_OF_AGENCY_MAX));
        Self { shared, keeper, log, answers, places }
    }

    /// Serves a stream that began with one of [`KINDS`].
    pub(super) async fn stream(
        &self,
        agency: &str,
        (kind, payload): (FrameType, Bytes),
        writer: FrameWriter,
    ) -> Result<(), LinkError> {
        if matches!(kind, FrameType::LogGet | FrameType::ErasurePut) {
            return self.log.stream(agency, (kind, payload), writer).await;
        }
        let place = self.places.take(agency);
        if kind == FrameType::KeysetPut {
            let put: KeysetPut = decode(kind, &payload)?;
            let (reason, text) = match place {
                Some(_) => self.keeper.put(agency, put.keyset).await,
                None => busy(),
            };
            return answer(writer, FrameType::KeysetStatus, &KeysetStatus { reason: reason as i32, text })
                .await;
        }
        if kind == FrameType::PolicyPut {
            let put: PolicyPut = decode(kind, &payload)?;
            let status = match place {
                Some(_) => self.keeper.put_policy(agency, &put.bundle).await,
                None => busy_status(),
            };
            return answer(writer, FrameType::PolicyStatus, &status).await;
        }
        if kind == FrameType::PolicyGet {
            return self.give_policies(agency, place.is_some(), decode(kind, &payload)?, writer).await;
        }
        let get: DirectoryGet = decode(kind, &payload)?;
        let found = if place.is_some() { self.find(get).await? } else { Err(busy()) };
        match found {
            Ok(found) => {
                let (reason, length) = (Reason::Accepted as i32, found.length);
                let head = DirectoryHead { reason, text: String::new(), length };
                give((FrameType::DirectoryHead, &head), found, writer).await
            }
            Err((reason, text)) => {
                let head = DirectoryHead { reason: reason as i32, text: sentence(&text), length: 0 };
                answer(writer, FrameType::DirectoryHead, &head).await
            }
        }
    }

    /// The agency's own bundles above the version that its node has.
    async fn give_policies(
        &self,
        agency: &str,
        has_place: bool,
        get: PolicyGet,
        writer: FrameWriter,
    ) -> Result<(), LinkError> {
        let kind = FrameType::PolicyHead;
        let refused = |(reason, text): (Reason, String)| PolicyHead {
            reason: reason as i32,
            text: sentence(&text),
            ..PolicyHead::default()
        };
        if !has_place {
            return answer(writer, kind, &refused(busy())).await;
        }
        let accepted = PolicyHead { reason: Reason::Accepted as i32, ..PolicyHead::default() };
        let _turn = self.answers.acquire().await.map_err(|_| LinkError::StreamEnded)?;
        let Some((newest, paths)) = self.shared.policies.above(agency, get.version) else {
            return answer(writer, kind, &accepted).await;
        };
        let found = spawn_blocking(move || Answer::policies(paths)).await;
        match found.map_err(|_| LinkError::StreamEnded)? {
            Ok(found) => {
                let (version, hash) = (newest.version(), Bytes::copy_from_slice(newest.hash()));
                let head = PolicyHead { version, hash, length: found.length, ..accepted };
                give((kind, &head), found, writer).await
            }
            Err(error) => {
                tracing::error!(%error, agency, "policies cannot be read");
                let text =
                    "The broker cannot read its copy of the policies; ask again, or tell its operator.";
                answer(writer, kind, &refused((Reason::Quota, text.to_owned()))).await
            }
        }
    }

    /// Serves a connection without a hello. Returns when it has ended.
    pub(super) async fn alone(
        self: Arc<Self>,
        connection: &Connection,
        agency: &str,
        first: (FrameType, Bytes),
        writer: FrameWriter,
    ) -> LinkError {
        let mut streams = JoinSet::new();
        let serve = |stream: (FrameType, Bytes), writer: FrameWriter| {
            let (desk, agency) = (Arc::clone(&self), agency.to_owned());
            async move { desk.stream(&agency, stream, writer).await }
        };
        streams.spawn(serve(first, writer));
        let serving = async {
            loop {
                tokio::select! {
                    accepted = connection.accept_stream() => {
                        let (writer, mut reader) = accepted?;
                        let Some(frame) = begin(&mut reader).await? else { continue };
                        streams.spawn(serve(frame, writer));
                    }
                    Some(ended) = streams.join_next() => ended.unwrap_or(Ok(()))?,
                }
            }
        };
        let mut stopping = self.shared.stopping.subscribe();
        let ended: Result<Result<(), LinkError>, CloseCode> = tokio::select! {
            ended = timeout(Duration::from_millis(ALONE_MS_MAX), serving) => ended.map_err(|_| CloseCode::Done),
            _ = stopping.wait_for(|stopping| *stopping) => Err(CloseCode::ShuttingDown),
        };
        match ended {
            Ok(Err(error)) => connection.fail(&error),
            Ok(Ok(())) => connection.close(CloseCode::Done, ""),
            Err(code) => connection.close(code, ""),
        }
        connection.closed().await
    }

    async fn find(&self, get: DirectoryGet) -> Result<Result<Answer, (Reason, String)>, LinkError> {
        let _turn = self.answers.acquire().await.map_err(|_| LinkError::StreamEnded)?;
        let (keeper, directory) = (Arc::clone(&self.keeper), self.shared.directory());
        let found = spawn_blocking(move || keeper.offers.answer(&directory, &get)).await;
        found.map_err(|_| LinkError::StreamEnded)
    }
}

/// The first frame of a further stream, in time.
async fn begin(reader: &mut FrameReader) -> Result<Option<(FrameType, Bytes)>, LinkError> {
    let ms_max = lintas_link::limits::HELLO_MS_MAX;
    let first = timeout(Duration::from_millis(ms_max), reader.next_of(&ALONE_KINDS)).await;
    first.unwrap_or(Err(LinkError::HelloTimeout { ms_max }))
}

/// Sends head and update, a part at a time; not for ever.
async fn give<M: Shaped>(head: (FrameType, &M), found: Answer, writer: FrameWriter) -> Result<(), LinkError> {
    let slow_ms = found.length.saturating_mul(1_000) / BYTES_PER_SECOND_MIN;
    let ms_max = TRANSFER_MS.saturating_add(slow_ms);
    let given = timeout(Duration::from_millis(ms_max), send(head, found, writer)).await;
    given.unwrap_or(Err(LinkError::Stalled { ms_max }))
}

async fn send<M: Shaped>(
    (kind, head): (FrameType, &M),
    mut found: Answer,
    mut writer: FrameWriter,
) -> Result<(), LinkError> {
    writer.send_message(kind, head).await?;
    loop {
        let read = spawn_blocking(move || (found.next(SEND_BYTES), found)).await;
        let (part, rest) = read.map_err(|_| LinkError::StreamEnded)?;
        found = rest;
        match part {
            Ok(Some(bytes)) => writer.write_raw(bytes).await?,
            Ok(None) => return writer.finish().await,
            Err(error) => {
                // The node sees a cut transfer.
                tracing::error!(%error, "a file of the answer cannot be read");
                return Err(LinkError::StreamEnded);
            }
        }
    }
}

fn busy_status() -> PolicyStatus {
    let (reason, text) = busy();
    PolicyStatus { reason: reason as i32, text, ..PolicyStatus::default() }
}

fn busy() -> (Reason, String) {
    let text = "Too many questions at once; ask again when the others are answered.";
    (Reason::Quota, text.to_owned())
}

async fn answer<M: Shaped>(mut writer: FrameWriter, kind: FrameType, message: &M) -> Result<(), LinkError> {
    writer.send_message(kind, message).await?;
    writer.finish().await
}
