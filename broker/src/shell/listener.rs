//! The listener: who may connect, the hello, and one session an agency.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use lintas_link::{
    CloseCode, Connection, First, FrameWriter, Handshake, LinkError, PeerDirectory, Server, answer,
    receive_first, refuse,
};
use lintas_proto::{
    limits,
    schema::{Hello, HelloAck, Reason},
};
use tokio::{
    sync::mpsc,
    task::{JoinSet, block_in_place},
    time::timeout,
};

use super::{
    clock::IN_DOUBT,
    directory_streams::{ALONE_KINDS, Desk},
    intake::Intake,
    log::{Asking, Standing},
    notices::Notices,
    session::Session,
    shared::Shared,
};
use crate::core::refuse::sentence;

/// The protocol version of this broker.
const PROTOCOL: u32 = 1;
/// Most characters of a node's software name in the log.
const SOFTWARE_CHARS_MAX: usize = 64;

/// Admits the transport keys of members that are active now.
#[derive(Debug)]
pub(super) struct Members(pub(super) Arc<Shared>);

impl PeerDirectory for Members {
    fn admits(&self, transport_key: &[u8; 32]) -> bool {
        self.0.directory().agency_of_transport(transport_key).is_some()
    }

    fn peer(&self, transport_key: &[u8; 32]) -> Option<Arc<str>> {
        self.0.directory().agency_of_transport(transport_key).map(Arc::from)
    }
}

/// Longest wait for sessions to answer what they have taken when the broker stops, milliseconds.
const DRAIN_MS_MAX: u64 = 5_000;

/// Accepts nodes until `stop`; then lets the sessions answer what they have taken, and ends them.
pub(super) async fn listen(
    server: &Server,
    shared: &Arc<Shared>,
    (intake, desk): (mpsc::Sender<Intake>, Arc<Desk>),
    stop: impl Future<Output = ()>,
) {
    let sessions = Arc::new(Sessions::default());
    let mut tasks = JoinSet::new();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            handshake = server.accept() => {
                let Some(handshake) = handshake else { break };
                let (shared, sessions) = (Arc::clone(shared), Arc::clone(&sessions));
                let (intake, desk) = (intake.clone(), Arc::clone(&desk));
                tasks.spawn(async move {
                    let address = handshake.remote_address();
                    match greet(handshake, shared, (intake, desk), &sessions).await {
                        Ok(why) => tracing::info!(%address, %why, "session ended"),
                        Err(why) => tracing::warn!(%address, %why, "refused"),
                    }
                });
            }
            Some(_) = tasks.join_next() => {}
            () = &mut stop => break,
        }
    }
    shared.stopping.send_replace(true);
    let drained = async { while tasks.join_next().await.is_some() {} };
    if timeout(Duration::from_millis(DRAIN_MS_MAX), drained).await.is_err() {
        tracing::warn!("some nodes did not take their answers in time; they ask again");
    }
    tasks.shutdown().await;
}

/// Handshake, hello, session. Ok when there was a session.
async fn greet(
    handshake: Handshake,
    shared: Arc<Shared>,
    (intake, desk): (mpsc::Sender<Intake>, Arc<Desk>),
    sessions: &Sessions,
) -> Result<LinkError, LinkError> {
    let connection = handshake.complete().await?;
    let (first, mut writer, reader) = receive_first(&connection, &ALONE_KINDS).await?;
    // What changes from here on is told to the node.
    let notices = Notices::of(&shared);
    let agency =
        shared.directory().agency_of_transport(&connection.peer_key()).unwrap_or_default().to_owned();
    let hello = match first {
        First::Hello(hello) => hello,
        First::Other(..) if agency.is_empty() => {
            connection.close(CloseCode::NotAMember, "");
            return Err(connection.closed().await);
        }
        First::Other(kind, payload) => {
            tracing::info!(agency, address = %connection.remote_address(), "asks for the directory alone");
            return Ok(desk.alone(&connection, &agency, (kind, payload), writer).await);
        }
    };
    let (reading, _) = shared.clock.reading();
    let now_ms = reading.wall_ms;
    let checked = check(&hello, &agency, &shared, now_ms);
    let turns = match checked {
        Ok(()) | Err((Reason::Clock, _)) => {
            shared.clock.hear(&agency, checked.is_ok(), reading, &shared.directory())
        }
        Err(_) => None,
    };
    if let Err(why) = checked {
        return refused(&connection, &agency, why, now_ms, writer).await;
    }
    let known = block_in_place(|| Standing::hello(&shared, &agency, &hello.root_checkpoint));
    if Standing::must_stop(&shared) {
        connection.close(CloseCode::ShuttingDown, "the broker runs on a restored backup, and stops");
        return Err(connection.closed().await);
    }
    let Some(turns) = turns else {
        return refused(&connection, &agency, (Reason::Clock, IN_DOUBT.to_owned()), now_ms, writer).await;
    };
    answer(&mut writer, &welcome(&shared, now_ms)).await?;
    let software: String =
        hello.software.chars().take(SOFTWARE_CHARS_MAX).flat_map(char::escape_debug).collect();
    tracing::info!(agency, address = %connection.remote_address(), software, "session begins");
    sessions.begin(&agency, &connection);
    if let Ok(key) = hello.slot_key.as_ref().try_into() {
        let _ = intake.send(Intake::SlotKey { agency: agency.clone(), key }).await;
    }
    let metrics = Arc::clone(&shared);
    let metrics = &metrics.metrics;
    let witness = Arc::new(Asking::new(&agency, &shared, known));
    let (of, connected) = (agency.clone(), connection.clone());
    let session = Session { agency: of, connection: connected, shared, intake, desk, turns, witness };
    let _live = metrics.session();
    // Also when this task is ended from outside.
    let _seat = Seat { sessions, agency: &agency, connection: &connection };
    Ok(session.serve(writer, reader, notices).await)
}

/// Says no more than why: the peer may not be whom it claims to be.
async fn refused(
    connection: &Connection,
    agency: &str,
    (reason, text): (Reason, String),
    now_ms: u64,
    writer: FrameWriter,
) -> Result<LinkError, LinkError> {
    tracing::warn!(agency, reason = reason.as_str_name(), "hello refused");
    let ack = HelloAck {
        protocol: PROTOCOL,
        reason: reason as i32,
        text: sentence(&text),
        time_ms: now_ms,
        ..HelloAck::default()
    };
    refuse(connection, writer, &ack).await?;
    Err(connection.closed().await)
}

fn welcome(shared: &Shared, now_ms: u64) -> HelloAck {
    let directory = shared.directory();
    HelloAck {
        protocol: PROTOCOL,
        region: directory.roster().region.clone(),
        broker: shared.broker.clone(),
        reason: Reason::Accepted as i32,
        text: String::new(),
        roster_version: directory.roster().version,
        directory_hash: Bytes::copy_from_slice(directory.hash()),
        time_ms: now_ms,
        credit: u32::try_from(shared.credit).unwrap_or(u32::MAX),
    }
}

fn check(hello: &Hello, agency: &str, shared: &Shared, now_ms: u64) -> Result<(), (Reason, String)> {
    let directory = shared.directory();
    let region = &directory.roster().region;
    if hello.protocol != PROTOCOL {
        let text = format!(
            "The node speaks protocol {}, this broker {PROTOCOL}; update the older one.",
            hello.protocol
        );
        return Err((Reason::Malformed, text));
    }
    if hello.region != *region {
        return Err((
            Reason::WrongRegion,
            format!("The node belongs to another region; this broker serves {region}."),
        ));
    }
    if agency.is_empty() || hello.agency != agency {
        let text = "The node's key does not belong to the agency that it names; check its data folder.";
        return Err((Reason::UnknownSender, text.to_owned()));
    }
    if hello.time_ms.abs_diff(now_ms) > limits::CLOCK_SKEW_MS_MAX {
        let minutes = hello.time_ms.abs_diff(now_ms) / 60_000;
        let text = format!("The node's clock differs from the broker's by {minutes} minutes; set it right.");
        return Err((Reason::Clock, text));
    }
    Ok(())
}

/// The one live session of each agency. A newer one replaces the older: its node has come back on a new path.
#[derive(Debug, Default)]
struct Sessions(Mutex<HashMap<String, Connection>>);

impl Sessions {
    fn begin(&self, agency: &str, connection: &Connection) {
        let mut live = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(older) = live.insert(agency.to_owned(), connection.clone()) {
            older.close(CloseCode::Superseded, "a newer session of this agency began");
        }
    }

    /// Forgets the session, if it still is the newest of its agency.
    fn end(&self, agency: &str, connection: &Connection) {
        let mut live = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if live.get(agency).is_some_and(|newest| newest.stable_id() == connection.stable_id()) {
            live.remove(agency);
        }
    }
}

/// A session's place among the live ones.
struct Seat<'a> {
    sessions: &'a Sessions,
    agency: &'a str,
    connection: &'a Connection,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.sessions.end(self.agency, self.connection);
    }
}
