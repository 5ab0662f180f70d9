//! The listener: who may connect, the hello, and one session an agency.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use lintas_config::Directory;
use lintas_link::{
    CloseCode, Connection, Handshake, LinkError, PeerDirectory, Server, answer, receive_hello, refuse,
};
use lintas_proto::{
    limits,
    schema::{Hello, HelloAck, Reason},
};
use tokio::{sync::mpsc, task::JoinSet};

use super::{clock, sequencer::Intake, session::Session, shared::Shared};

/// The protocol version of this broker.
const PROTOCOL: u32 = 1;

/// Admits the transport keys of active members.
#[derive(Debug)]
pub(super) struct Members(pub(super) Arc<Directory>);

impl PeerDirectory for Members {
    fn admits(&self, transport_key: &[u8; 32]) -> bool {
        self.0.agency_of_transport(transport_key).is_some()
    }
}

/// Accepts nodes until the server is closed.
pub(super) async fn listen(server: &Server, shared: &Arc<Shared>, intake: &mpsc::Sender<Intake>) {
    let sessions = Arc::new(Sessions::default());
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            handshake = server.accept() => {
                let Some(handshake) = handshake else { return };
                let (shared, intake, sessions) = (Arc::clone(shared), intake.clone(), Arc::clone(&sessions));
                tasks.spawn(async move {
                    let address = handshake.remote_address();
                    match greet(handshake, shared, intake, &sessions).await {
                        Ok(error) => tracing::info!(%address, %error, "session ended"),
                        Err(error) => tracing::warn!(%address, %error, "refused"),
                    }
                });
            }
            Some(_) = tasks.join_next() => {}
        }
    }
}

/// Handshake, hello, session. Ok when there was a session.
async fn greet(
    handshake: Handshake,
    shared: Arc<Shared>,
    intake: mpsc::Sender<Intake>,
    sessions: &Sessions,
) -> Result<LinkError, LinkError> {
    let connection = handshake.complete().await?;
    let (hello, mut writer, reader) = receive_hello(&connection).await?;
    let agency = shared.directory.agency_of_transport(&connection.peer_key()).unwrap_or_default().to_owned();
    let now_ms = clock::now_ms();
    let ack = |reason: Reason, text: &str| HelloAck {
        protocol: PROTOCOL,
        region: shared.directory.roster().region.clone(),
        broker: shared.broker.clone(),
        reason: reason as i32,
        text: text.to_owned(),
        roster_version: shared.directory.roster().version,
        directory_hash: bytes::Bytes::copy_from_slice(shared.directory.hash()),
        time_ms: now_ms,
        credit: u32::try_from(shared.credit).unwrap_or(u32::MAX),
    };
    if let Err((reason, text)) = check(&hello, &agency, &shared, now_ms) {
        tracing::warn!(agency, ?reason, "hello refused");
        refuse(&connection, writer, &ack(reason, &text)).await?;
        return Err(connection.closed().await);
    }
    answer(&mut writer, &ack(Reason::Accepted, "")).await?;
    tracing::info!(agency, address = %connection.remote_address(), software = hello.software.escape_debug().to_string(), "session begins");
    sessions.begin(&agency, &connection);
    let session = Session { agency: agency.clone(), connection: connection.clone(), shared, intake };
    let error = session.serve(writer, reader).await;
    sessions.end(&agency, &connection);
    Ok(error)
}

fn check(hello: &Hello, agency: &str, shared: &Shared, now_ms: u64) -> Result<(), (Reason, String)> {
    let region = &shared.directory.roster().region;
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

    fn end(&self, agency: &str, connection: &Connection) {
        let mut live = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if live.get(agency).is_some_and(|newest| newest.stable_id() == connection.stable_id()) {
            live.remove(agency);
        }
    }
}
