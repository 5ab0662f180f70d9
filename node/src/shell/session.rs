//! The session with the broker: kept open, opened again after a pause when it ends.
//!
//! Nine futures share it: one submits, one receives, one writes, one keeps the directory, one keeps the own policy the same
//! here and there, one looks at the clock, one follows the broker's audit log, one compares checkpoints of others with ours, one fetches what is
//! asked of the log. Whichever ends, ends the session; what was unanswered is submitted again, and what was not acknowledged is delivered again.

use std::{
    future::ready,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use lintas_config::os_entropy;
use lintas_link::{
    Client, CloseCode, Connection, FrameReader, FrameWriter, LinkError, PeerDirectory, TransportKey, greet,
};
use lintas_proto::{
    canonical,
    frame::FrameType,
    schema::{HelloAck, Reason},
};
use rand_core::Rng as _;
use tokio::{
    sync::mpsc,
    task::{JoinSet, spawn_blocking},
    time::{Instant, sleep, sleep_until, timeout},
};

use self::{ended::Ended, line::Line};
use super::{
    clock,
    courier::{self, WaitingRoom},
    desk::{Broken, Desk, Heard, Work},
    failure::Failure,
    follow, log_link,
};
use crate::core::outbox::{clock_after_ms, reconnect_after_ms, refused_after_ms};

/// Groups of frames waiting to be written.
const GROUPS_MAX: usize = 16;
/// Most frames judged and kept together.
const BATCH_FRAMES_MAX: usize = 64;
/// From how many bytes on a batch takes no further frame.
const BATCH_BYTES: usize = 1024 * 1024;
/// A session that lived so long counts as a success, milliseconds.
const STEADY_MS: u64 = 10_000;
/// How long after something could not be kept the session is opened anew, so that it is delivered again.
const AGAIN_MS: u64 = 30_000;

/// Brokers of the directory; nobody else is spoken to. Once the desk is closed, nobody at all.
#[derive(Debug)]
struct Brokers(Weak<Desk>);

impl PeerDirectory for Brokers {
    fn admits(&self, transport_key: &[u8; 32]) -> bool {
        let Some(desk) = self.0.upgrade() else { return false };
        desk.directory().brokers().iter().any(|broker| broker.transport_key == *transport_key)
    }

    fn peer(&self, transport_key: &[u8; 32]) -> Option<Arc<str>> {
        let directory = self.0.upgrade()?.directory();
        let broker = directory.brokers().iter().find(|broker| broker.transport_key == *transport_key)?;
        Some(broker.name.as_str().into())
    }
}

/// The node's end of the link.
pub(crate) struct Session {
    desk: Arc<Desk>,
    client: Client,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session { .. }")
    }
}

impl Session {
    /// Opens a socket.
    pub(crate) fn new(desk: Arc<Desk>) -> Result<Self, Failure> {
        let key = TransportKey::from_seed(&desk.keys().transport_seed).map_err(Failure::internal)?;
        let any: IpAddr = match desk.settings().broker {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let client = Client::bind((any, 0).into(), &key, Arc::new(Brokers(Arc::downgrade(&desk))));
        Ok(Self { desk, client: client.map_err(Failure::internal)? })
    }

    /// Keeps a session open until the store fails. Dropped, it ends at once; [`close`](Self::close) tells the
    /// broker.
    pub(crate) async fn run(&self) -> Failure {
        // A session before this one, under another transport key, may have been dropped in the middle.
        self.desk.disconnected();
        let mut failures = 0;
        loop {
            let begun = Instant::now();
            let ended = tokio::select! {
                ended = self.once() => ended,
                () = self.desk.renewed() => {
                    self.desk.disconnected();
                    continue;
                }
            };
            self.desk.disconnected();
            let (why, after_ms): (String, fn(u32, u32) -> u64) = match ended {
                Ended::Link(why) => (why, reconnect_after_ms),
                Ended::Clock(why) => (why, clock_after_ms),
                Ended::Refused(why) => (why, refused_after_ms),
                Ended::Fatal(failure) => return failure,
            };
            if begun.elapsed() >= Duration::from_millis(STEADY_MS) {
                failures = 0;
            }
            let pause_ms = after_ms(failures, os_entropy().next_u32());
            failures = failures.saturating_add(1);
            tracing::warn!(why, pause_ms, "no session with the broker");
            self.desk.note_link(|link| {
                if link.connected || link.since_ms == 0 {
                    link.since_ms = clock::now_ms();
                }
                link.connected = false;
                link.trouble = why;
            });
            tokio::select! {
                () = sleep(Duration::from_millis(pause_ms)) => {}
                () = self.desk.renewed() => {}
            }
        }
    }

    /// Says good-bye.
    pub(crate) async fn close(&self) {
        self.client.close(CloseCode::Done, "");
        // The broker learns it sooner or later; nothing depends on it.
        let _ = timeout(Duration::from_secs(1), self.client.wait_idle()).await;
    }

    /// One session, from connecting to its end.
    async fn once(&self) -> Ended {
        match self.open().await {
            Err(ended) => ended,
            Ok((connection, writer, reader)) => {
                let ended = self.converse(&connection, writer, reader).await;
                connection.close(CloseCode::Done, "");
                ended
            }
        }
    }

    async fn open(&self) -> Result<(Connection, FrameWriter, FrameReader), Ended> {
        let address = self.desk.settings().broker;
        let connection = match self.client.connect(address).await {
            Err(LinkError::UnknownPeer) => self.ask_stranger(address).await?,
            other => other?,
        };
        let greeted = greet(&connection, &self.desk.hello()).await;
        if matches!(greeted, Err(LinkError::Refused { reason: Reason::Clock, .. })) {
            self.desk.doubt_clock();
        }
        let (ack, writer, reader) = greeted?;
        self.check(&ack)?;
        tracing::info!(broker = ack.broker, credit = ack.credit, "session open");
        self.desk.note_link(|link| {
            link.connected = true;
            link.since_ms = clock::now_ms();
            link.heard(&ack, clock::now_ms());
            link.trouble.clear();
        });
        self.desk.hear_of_directory(ack.roster_version, &ack.directory_hash);
        let now_ms = clock::now_ms();
        self.desk.compare_clocks(now_ms, ack.time_ms);
        let apart = ack.time_ms.abs_diff(now_ms);
        if apart > lintas_proto::limits::CLOCK_SKEW_MS_MAX {
            let minutes = apart / 60_000;
            self.desk.trouble(&format!(
                "this machine's clock and the broker's differ by {minutes} minutes; set it"
            ));
        }
        // Before anything is submitted.
        self.blocking(Desk::submit_what_ended).await?;
        Ok((connection, writer, reader))
    }

    fn check(&self, ack: &HelloAck) -> Result<(), Ended> {
        if ack.protocol != 1 {
            return Err(Ended::Link(format!("the broker speaks protocol {}, this node 1", ack.protocol)));
        }
        let keys = self.desk.keys();
        let ours = &keys.region;
        let known = self.desk.directory().brokers().iter().any(|broker| broker.name == ack.broker);
        if ack.region != *ours || !known {
            return Err(Ended::Link("the broker calls itself by another region or name".to_owned()));
        }
        Ok(())
    }

    async fn converse(&self, connection: &Connection, writer: FrameWriter, reader: FrameReader) -> Ended {
        let (frames, outgoing) = mpsc::channel(GROUPS_MAX);
        let ended = tokio::select! {
            ended = write(writer, outgoing) => ended,
            ended = self.submit(connection, frames.clone()) => ended,
            ended = self.receive(connection, reader, frames) => ended,
            ended = self.keep_current(connection) => ended,
            ended = self.keep_policies(connection) => ended,
            why = self.desk.clock_set() => Err(why.into()),
            error = follow::follow(&self.desk, connection) => Err(Broken::Store(error).into()),
            ended = self.compare(connection) => ended,
            error = log_link::serve(connection, self.desk.log_line().open()) => Err(error.into()),
        };
        let Err(ended) = ended else {
            return Ended::Link("the broker ended the session".to_owned());
        };
        ended
    }

    /// Submits what waits, as soon as it waits; attachments are uploaded beside.
    async fn submit(&self, connection: &Connection, frames: Frames) -> Result<(), Ended> {
        let mut uploads = JoinSet::new();
        loop {
            let work = self.blocking(Desk::next_work).await?;
            match work.map_err(|error| Ended::from(Broken::Store(error)))? {
                Work::Submit(submission) => {
                    let frame = (FrameType::Submission, submission.bytes);
                    frames.send(vec![frame]).await.map_err(|_| closed())?;
                }
                Work::Upload(upload) => {
                    uploads.spawn(courier::upload(Arc::clone(&self.desk), connection.clone(), upload));
                }
                Work::Wait(until_ms) => {
                    let pause = until_ms.map(|until| until.saturating_sub(clock::now_ms()));
                    let deadline = Instant::now() + Duration::from_millis(pause.unwrap_or(3_600_000));
                    tokio::select! {
                        () = self.desk.bell().notified() => {}
                        () = sleep_until(deadline) => {}
                        Some(ended) = uploads.join_next() => {
                            ended.map_err(|error| Ended::Fatal(Failure::internal(error)))??;
                        }
                    }
                }
            }
        }
    }

    /// Takes what comes, in batches of what is there already, and deliveries whose attachments are here at last.
    async fn receive(
        &self,
        connection: &Connection,
        mut reader: FrameReader,
        frames: Frames,
    ) -> Result<(), Ended> {
        let (mut again_at, mut end) = (None, None);
        let mut room = WaitingRoom::new(Arc::clone(&self.desk), connection.clone());
        let (mut batch, mut line) = (Batch::default(), Line::new(Arc::clone(&self.desk)));
        loop {
            if let Some(end) = end.take_if(|_| line.is_empty()) {
                return Result::map_err(end, Ended::from);
            }
            let (left_at, goes_on) = (room.again_at(), end.is_none() && line.has_room());
            let done = tokio::select! {
                done = line.next() => done?,
                () = gather(&mut reader, &mut batch), if goes_on => {
                    let Batch { heard, end: ended } = std::mem::take(&mut batch);
                    end = ended;
                    line.begin(heard);
                    continue;
                }
                delivery = room.next(), if goes_on => {
                    line.begin(vec![delivery?]);
                    continue;
                }
                () = until(again_at.into_iter().chain(left_at).min()) => {
                    return Err(Ended::Link("connecting again for deliveries that stayed at the broker".to_owned()));
                }
            };
            room.hold(done.fetches);
            let settled = done.settled?;
            if settled.full && again_at.is_none() {
                again_at = Some(Instant::now() + Duration::from_millis(AGAIN_MS));
            }
            let witness = |answer| (FrameType::WitnessAnswer, canonical::encode(&answer));
            let answers = settled.witness_answers.into_iter().map(witness);
            let taken = |taken| (FrameType::Acknowledgement, canonical::encode(&taken));
            let answers: Vec<_> = answers.chain(settled.acknowledgements.into_iter().map(taken)).collect();
            frames.send(answers).await.map_err(|_| closed())?;
            if let Some(broken) = settled.broken {
                return Err(broken.into());
            }
        }
    }

    /// Runs what touches the disk or takes long, outside of the runtime's threads.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Desk) -> T + Send + 'static,
    ) -> Result<T, Ended> {
        let desk = Arc::clone(&self.desk);
        let done = spawn_blocking(move || work(&desk)).await;
        done.map_err(|error| Ended::Fatal(Failure::internal(error)))
    }
}

/// Frames that go out together.
type Group = Vec<(FrameType, Bytes)>;
type Frames = mpsc::Sender<Group>;

fn closed() -> Ended {
    Ended::Link("the session stream has ended".to_owned())
}

async fn write(mut writer: FrameWriter, mut outgoing: mpsc::Receiver<Group>) -> Result<(), Ended> {
    while let Some(mut group) = outgoing.recv().await {
        while bytes(&group) < BATCH_BYTES
            && let Ok(next) = outgoing.try_recv()
        {
            group.extend(next);
        }
        writer.send_many(group).await?;
    }
    Ok(())
}

fn bytes(group: &Group) -> usize {
    group.iter().map(|(_, payload)| payload.len()).sum()
}

/// Frames that came together.
#[derive(Default)]
struct Batch {
    heard: Vec<Heard>,
    /// The stream ended behind them, well or not.
    end: Option<Result<(), LinkError>>,
}

/// The next frame, and those that are there already. Safe to cancel: what was gathered is in `batch`.
async fn gather(reader: &mut FrameReader, batch: &mut Batch) {
    let mut bytes = batch.heard.iter().map(|heard| heard.payload.len()).sum::<usize>();
    while batch.heard.len() < BATCH_FRAMES_MAX && bytes < BATCH_BYTES && batch.end.is_none() {
        let next = tokio::select! {
            biased;
            next = reader.next() => next,
            () = ready(()), if !batch.heard.is_empty() => break,
        };
        match next {
            Ok(Some((kind, payload))) => {
                bytes += payload.len();
                batch.heard.push(Heard { kind, payload });
            }
            Ok(None) => batch.end = Some(Ok(())),
            Err(error) => batch.end = Some(Err(error)),
        }
    }
}

/// Waits until then; forever without a time.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

mod compare;
mod directory;
mod ended;
mod line;
mod policies;

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a test writes need not survive a power cut")]
mod tests;
