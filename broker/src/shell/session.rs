//! One session: a node that said hello. Its submissions and acknowledgements come in on the session stream;
//! receipts, refusals and the agency's queue go out on it.
//!
//! Before a packet is handed over its release is judged again ([`core::hand_over`](crate::core::hand_over)); what the agency
//! may not have any more goes to the sequencer, which ends it, and the session goes on with what comes behind.
//!
//! What is handed over stays in the queue until its acknowledgement is durable, so a session that breaks is
//! simply begun again: every entry that is still there is sent again, in order.

use std::{
    collections::BTreeSet,
    future::ready,
    iter::Peekable,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
    vec::IntoIter,
};

use bytes::Bytes;
use lintas_link::{CloseCode, Connection, FrameReader, FrameWriter, LinkError, decode};
use lintas_proto::{
    canonical,
    frame::FrameType,
    id::Digest,
    schema::{Acknowledgement, Delivery, EvidenceDelivery, WitnessAnswer},
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task::block_in_place,
    time::sleep,
};

use super::{
    answer::{Answer, AnswerTo},
    directory_streams::Desk,
    intake::{Denying, End, Intake, Refusing, Submitted},
    log::Asking,
    notices::Notices,
    shared::{Shared, StoredError},
    transfer,
};
use crate::core::{
    admit,
    deliver::{Cursor, Due},
    hand_over::{Asked, may_have},
    outcome::{self, How},
    queue::{Entry, Held},
};

/// Most submissions of one session that are not answered yet. A node beyond it waits.
pub(crate) const IN_FLIGHT_MAX: usize = 256;
/// Most frames of one session that are looked at before what they became is handed over: to wake the sequencer for each
/// would cost more than its work.
const BURST_MAX: usize = 16;
/// Most acknowledgements that the sending half of a session has not seen yet.
const ACKNOWLEDGED_MAX: usize = 1_024;
/// From how many bytes on a group of deliveries takes no further one.
const GROUP_BYTES: usize = 256 * 1024;
/// What one that is denied counts for: it costs a look at the policies all the same.
const DENIED_BYTES: usize = 4 * 1024;
/// Longest submission that is verified without telling the runtime that its thread is busy.
const INLINE_BYTES_MAX: usize = 16 * 1024;
/// How long a session sleeps at most before it looks at its queue again, milliseconds: entries whose time has
/// come make no noise. Tests rely on the bell alone.
const LOOK_MS: u64 = if cfg!(test) { 60_000 } else { 1_000 };

/// A session of one agency.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) agency: String,
    pub(crate) connection: Connection,
    pub(crate) shared: Arc<Shared>,
    pub(crate) intake: mpsc::Sender<Intake>,
    pub(super) desk: Arc<Desk>,
    /// Changes when the clock comes into doubt, or out of it.
    pub(super) turns: watch::Receiver<u64>,
    /// What this node is asked as a witness.
    pub(super) witness: Arc<Asking>,
}

impl Session {
    /// Serves the node until it leaves, breaks the protocol, is replaced, or the broker stops. A node that ends
    /// its side first gets the answers that are still due.
    pub(super) async fn serve(self, writer: FrameWriter, reader: FrameReader, notices: Notices) -> LinkError {
        let (sender, answers) = mpsc::channel(IN_FLIGHT_MAX);
        let acknowledged = Acknowledged::default();
        let receiving = async {
            match self.receive(reader, sender, &acknowledged).await {
                // The answers end with the last submission, and `sending` with them.
                Ok(()) => std::future::pending().await,
                Err(error) => Err(error),
            }
        };
        let sending = self.send(writer, answers, notices, &acknowledged);
        let blobs = transfer::serve(&self);
        let mut turns = self.turns.clone();
        let ended = tokio::select! {
            result = receiving => result,
            result = sending => result,
            result = blobs => result,
            error = self.connection.closed() => Err(error),
            _ = turns.changed() => Err(LinkError::StreamEnded),
        };
        let error = ended.err().unwrap_or(LinkError::StreamEnded);
        if *self.shared.stopping.borrow() || *self.shared.failed.borrow() {
            self.connection.close(CloseCode::ShuttingDown, "the broker is stopping");
        } else if self.turns.has_changed().unwrap_or(true) {
            self.connection.close(CloseCode::ShuttingDown, "the broker's clock was set; say hello again");
        } else {
            self.connection.fail(&error);
        }
        error
    }

    /// Reads until the node ends its side or the broker stops. What had come by then is handed over in any case.
    async fn receive(
        &self,
        reader: FrameReader,
        sender: mpsc::Sender<Answer>,
        acknowledged: &Acknowledged,
    ) -> Result<(), LinkError> {
        let mut burst = Vec::new();
        let read = self.read(reader, sender, &mut burst, acknowledged).await;
        self.hand_over(&mut burst).await?;
        read
    }

    async fn read(
        &self,
        mut reader: FrameReader,
        sender: mpsc::Sender<Answer>,
        burst: &mut Vec<Intake>,
        acknowledged: &Acknowledged,
    ) -> Result<(), LinkError> {
        let places = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
        let mut stopping = self.shared.stopping.subscribe();
        let kinds = [FrameType::Submission, FrameType::Acknowledgement, FrameType::WitnessAnswer];
        loop {
            let come = tokio::select! {
                biased;
                _ = stopping.wait_for(|stopping| *stopping) => return Ok(()),
                frame = reader.next_of(&kinds) => Some(frame?),
                () = ready(()), if !burst.is_empty() => None,
            };
            let Some(frame) = come else {
                self.hand_over(burst).await?;
                continue;
            };
            let Some((kind, payload)) = frame else { return Ok(()) };
            if kind == FrameType::Acknowledgement {
                let end = self.acknowledge(decode(kind, &payload)?);
                acknowledged.add(end.as_ref().filter(|end| self.is_due(end)));
                burst.extend(end.map(Intake::End));
            } else if kind == FrameType::WitnessAnswer {
                let answer: WitnessAnswer = decode(kind, &payload)?;
                block_in_place(|| self.witness.answer(&self.shared, &answer))?;
            } else {
                let place = self.wait_for(&places, 1, burst).await?;
                // At most the longest frame, which is less than all sessions may have.
                let bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX);
                let share = self.wait_for(&self.shared.intake_bytes, bytes, burst).await?;
                let answer = AnswerTo { sender: sender.clone(), place };
                burst.extend(self.submit(&payload, answer, share));
            }
            if burst.len() >= BURST_MAX {
                self.hand_over(burst).await?;
            }
        }
    }

    /// So many of `permits`. Nothing is held back while they are waited for: what is in the burst may hold them.
    async fn wait_for(
        &self,
        permits: &Arc<Semaphore>,
        count: u32,
        burst: &mut Vec<Intake>,
    ) -> Result<OwnedSemaphorePermit, LinkError> {
        if let Ok(permit) = Arc::clone(permits).try_acquire_many_owned(count) {
            return Ok(permit);
        }
        self.hand_over(burst).await?;
        Arc::clone(permits).acquire_many_owned(count).await.map_err(|_| LinkError::StreamEnded)
    }

    /// What a submission becomes; none if it was answered at once.
    fn submit(&self, payload: &Bytes, answer: AnswerTo, share: OwnedSemaphorePermit) -> Option<Intake> {
        self.shared.metrics.submission_bytes.add(payload.len() as u64);
        // In doubt the session ends, and the node submits it again.
        let now_ms = self.shared.clock.agreed_ms()?;
        let rules = self.shared.rules();
        let earlier = |hash: &Digest| self.shared.named(hash, now_ms);
        let verify = || admit::verify(payload, &self.agency, &rules, earlier, now_ms);
        // To make room on this thread for others costs as much as a short packet.
        let is_long = payload.len() > INLINE_BYTES_MAX;
        match if is_long { block_in_place(verify) } else { verify() } {
            Ok(verified) => Some(Intake::Submit(Box::new(Submitted { verified, answer, share }))),
            Err(refused) => {
                let claim = || admit::claimed(payload, &self.agency);
                let claim = if is_long { block_in_place(claim) } else { claim() };
                if claim.is_some() {
                    // Its receipt may have been lost on the way, and keys or directories have moved since; or it came before in
                    // another session, and has no place yet.
                    return Some(Intake::Refuse(Box::new(Refusing { refused, claim, answer })));
                }
                tracing::debug!(
                    agency = self.agency,
                    reason = refused.reason.as_str_name(),
                    "packet refused"
                );
                self.shared.refuse(answer, &refused, now_ms);
                None
            }
        }
    }

    /// The end of an entry; none if it is not believed.
    fn acknowledge(&self, acknowledgement: Acknowledgement) -> Option<End> {
        let Acknowledgement { queue_sequence, evidence } = acknowledgement;
        let how = if evidence.is_empty() {
            How::Taken
        } else {
            match outcome::verify(
                &evidence,
                &self.agency,
                &self.shared.directory(),
                self.shared.clock.now_ms(),
            ) {
                Ok(acknowledged) => How::Acknowledged(Box::new(acknowledged)),
                Err(error) => {
                    tracing::warn!(agency = self.agency, queue_sequence, %error, "acknowledgement refused");
                    return None;
                }
            }
        };
        Some(End { agency: self.agency.clone(), queue_sequence, how })
    }

    /// Whether it ends an entry that is there: nothing else gives credit back.
    fn is_due(&self, end: &End) -> bool {
        let ledger = self.shared.ledger();
        let entry = ledger.queue(&end.agency).and_then(|queue| queue.get(end.queue_sequence));
        match entry.map(|entry| entry.held) {
            Some(Held::Packet { .. }) => matches!(end.how, How::Acknowledged(_)),
            Some(Held::Evidence { .. }) => matches!(end.how, How::Taken),
            None => false,
        }
    }

    /// Hands a burst over to the sequencer.
    async fn hand_over(&self, burst: &mut Vec<Intake>) -> Result<(), LinkError> {
        for intake in burst.drain(..) {
            self.intake.send(intake).await.map_err(|_| LinkError::StreamEnded)?;
        }
        Ok(())
    }

    async fn send(
        &self,
        mut writer: FrameWriter,
        mut answers: mpsc::Receiver<Answer>,
        mut notices: Notices,
        acknowledged: &Acknowledged,
    ) -> Result<(), LinkError> {
        let mut bell = self.shared.bell(&self.agency).unwrap_or_else(|| watch::channel(()).1);
        let (mut cursor, mut due_answers) = (Cursor::default(), Vec::new());
        loop {
            bell.borrow_and_update();
            acknowledged.take().into_iter().for_each(|number| cursor.acknowledged(number));
            let Due { entries, more } = self.due(&mut cursor);
            let goes_on = more || !entries.is_empty();
            let mut entries = entries.into_iter().peekable();
            while entries.peek().is_some() {
                let Group { mut frames, denied } = self.group(&mut entries)?;
                while let Ok(answer) = answers.try_recv() {
                    frames.push((answer.kind, answer.payload));
                }
                writer.send_many(frames).await?;
                let now_ms = self.shared.clock.now_ms();
                denied.iter().for_each(|denying| cursor.put_off(denying.queue_sequence, now_ms));
                self.hand_over(&mut denied.into_iter().map(|one| Intake::Deny(Box::new(one))).collect())
                    .await?;
            }
            if goes_on {
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                count = answers.recv_many(&mut due_answers, IN_FLIGHT_MAX) => {
                    if count == 0 {
                        return writer.finish().await;
                    }
                    // Together: a commit answers many at once.
                    let frames = due_answers.drain(..).map(|answer| (answer.kind, answer.payload));
                    writer.send_many(frames).await?;
                }
                notice = notices.next(&self.shared) => {
                    writer.send_message(FrameType::DirectoryNotice, &notice).await?;
                }
                request = self.witness.next(&self.shared) => {
                    writer.send_message(FrameType::WitnessRequest, &request).await?;
                }
                () = acknowledged.added.notified() => {}
                rung = bell.changed() => rung.map_err(|_| LinkError::StreamEnded)?,
                () = sleep(Duration::from_millis(LOOK_MS)) => {}
            }
        }
    }

    fn due(&self, cursor: &mut Cursor) -> Due {
        let (agreed_ms, durable) = (self.shared.clock.agreed_ms(), *self.shared.durable.borrow());
        match (self.shared.ledger().queue(&self.agency), agreed_ms) {
            (Some(queue), Some(now_ms)) => cursor.due(queue, durable, now_ms, self.shared.credit),
            (None, _) | (_, None) => Due { entries: Vec::new(), more: false },
        }
    }

    /// Entries that go out together: many short ones cost little more than one.
    fn group(&self, entries: &mut Peekable<IntoIter<(u64, Entry)>>) -> Result<Group, LinkError> {
        let is_recent = |(_, entry): &(u64, Entry)| self.shared.recent.has(entry);
        let inline = entries.peek().is_some_and(is_recent);
        let mut gather = || {
            let (mut group, mut bytes) = (Group::default(), 0);
            let fits =
                |bytes: usize, next: &(u64, Entry)| bytes < GROUP_BYTES && (!inline || is_recent(next));
            while let Some((number, entry)) = entries.next_if(|next| fits(bytes, next)) {
                match self.turn(number, &entry)? {
                    Some(Turn::Frame(kind, payload)) => {
                        bytes += payload.len();
                        let metrics = &self.shared.metrics;
                        let packet = kind == FrameType::Delivery;
                        if packet { &metrics.deliveries } else { &metrics.evidence }.add(1);
                        group.frames.push((kind, payload));
                    }
                    Some(Turn::Denied(asked)) => {
                        bytes += DENIED_BYTES;
                        let agency = self.agency.clone();
                        group.denied.push(Denying { agency, queue_sequence: number, asked: *asked });
                    }
                    None => {}
                }
            }
            Ok(group)
        };
        // To make room on this thread for others costs more than what need not be read.
        if inline { gather() } else { block_in_place(gather) }
    }

    /// What becomes of an entry whose turn has come; none if it has ended meanwhile.
    fn turn(&self, number: u64, entry: &Entry) -> Result<Option<Turn>, LinkError> {
        self.frame(number, entry).map(Some).or_else(|error| {
            // Ended meanwhile, its packet may be gone with an old segment.
            let ledger = self.shared.ledger();
            if ledger.queue(&self.agency).and_then(|queue| queue.get(number)).is_none() {
                return Ok(None);
            }
            self.shared.fail(&error);
            Err(LinkError::StreamEnded)
        })
    }

    /// One entry as a frame.
    fn frame(&self, queue_sequence: u64, entry: &Entry) -> Result<Turn, StoredError> {
        match entry.held {
            Held::Evidence { outcome, .. } => {
                let evidence = self.shared.evidence(outcome)?;
                let delivery = EvidenceDelivery { queue_sequence, evidence };
                Ok(Turn::Frame(FrameType::Evidence, canonical::encode(&delivery)))
            }
            Held::Packet { admission, recipient_index } => {
                let missing = || StoredError::Other { sequence: admission, expected: "for this recipient" };
                let at = usize::try_from(recipient_index).map_err(|_| missing())?;
                let packet = self.shared.packet(admission)?;
                let asked = Asked::read(&packet, recipient_index)
                    .map_err(|error| StoredError::Unreadable { sequence: admission, error })?;
                let time_ms =
                    self.shared.clock.agreed_ms().map(|now_ms| self.shared.ledger().time_at(now_ms));
                let may_have = |time_ms| may_have(&asked, &self.shared.rules_at(time_ms), time_ms);
                // In doubt the session ends, and nothing comes of the denial.
                if !time_ms.is_some_and(may_have) {
                    return Ok(Turn::Denied(Box::new(asked)));
                }
                let receipt = self.shared.admission(admission, |stored| {
                    stored.recipients.get(at).map(|recipient| recipient.receipt.clone())
                })?;
                let delivery = Delivery {
                    queue_sequence,
                    header: packet.header,
                    signature: packet.signature,
                    recipient_index,
                    opening: Some(packet.openings.get(at).cloned().ok_or_else(missing)?),
                    wrap: packet.wraps.get(at).cloned().ok_or_else(missing)?,
                    body: packet.body,
                    receipt: receipt.filter(|receipt| !receipt.is_empty()).ok_or_else(missing)?,
                };
                Ok(Turn::Frame(FrameType::Delivery, canonical::encode(&delivery)))
            }
        }
    }
}

/// Numbers of entries whose acknowledgements are on their way to the disk, from the receiving to the sending half. What finds
/// no room here holds its credit until the entry has ended.
#[derive(Debug, Default)]
struct Acknowledged {
    numbers: Mutex<BTreeSet<u64>>,
    added: Notify,
}

impl Acknowledged {
    fn add(&self, end: Option<&End>) {
        let mut numbers = self.numbers();
        if let Some(end) = end.filter(|_| numbers.len() < ACKNOWLEDGED_MAX) {
            numbers.insert(end.queue_sequence);
            self.added.notify_one();
        }
    }

    fn take(&self) -> BTreeSet<u64> {
        std::mem::take(&mut *self.numbers())
    }

    fn numbers(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What goes out together.
#[derive(Default)]
struct Group {
    frames: Vec<(FrameType, Bytes)>,
    /// Entries that the agency may not have.
    denied: Vec<Denying>,
}

/// An entry whose turn has come.
enum Turn {
    /// As it is handed over.
    Frame(FrameType, Bytes),
    /// The agency may not have it.
    Denied(Box<Asked>),
}
