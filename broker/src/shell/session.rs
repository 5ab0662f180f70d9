//! One session: a node that said hello. Its submissions and acknowledgements come in on the session stream;
//! receipts, refusals and the agency's queue go out on it.
//!
//! What is handed over stays in the queue until its acknowledgement is durable, so a session that breaks is
//! simply begun again: every entry that is still there is sent again, in order.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use lintas_link::{Connection, FrameReader, FrameWriter, LinkError, decode};
use lintas_proto::{
    canonical,
    frame::FrameType,
    schema::{Acknowledgement, Delivery, EvidenceDelivery},
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::sleep,
};

use super::{
    clock,
    sequencer::{AnswerTo, End, How, Intake},
    shared::{Shared, StoredError},
    transfer,
};
use crate::core::{
    admit,
    ledger::{Entry, Held},
    outcome,
};

/// Most submissions of one session that are not answered yet. A node beyond it waits.
pub(crate) const IN_FLIGHT_MAX: usize = 256;
/// How long a session sleeps at most before it looks at its queue again, milliseconds: entries whose time has
/// come make no noise.
const LOOK_MS: u64 = 1_000;

/// A session of one agency.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) agency: String,
    pub(crate) connection: Connection,
    pub(crate) shared: Arc<Shared>,
    pub(crate) intake: mpsc::Sender<Intake>,
}

impl Session {
    /// Serves the node until it leaves, breaks the protocol, or is replaced.
    pub(crate) async fn serve(self, writer: FrameWriter, reader: FrameReader) -> LinkError {
        let (sender, answers) = mpsc::channel(IN_FLIGHT_MAX);
        let receiving = self.receive(reader, sender);
        let sending = self.send(writer, answers);
        let blobs = transfer::serve(&self);
        let ended = tokio::select! {
            result = receiving => result,
            result = sending => result,
            result = blobs => result,
            error = self.connection.closed() => Err(error),
        };
        let error = ended.err().unwrap_or(LinkError::StreamEnded);
        self.connection.fail(&error);
        error
    }

    async fn receive(
        &self,
        mut reader: FrameReader,
        sender: mpsc::Sender<(FrameType, Bytes)>,
    ) -> Result<(), LinkError> {
        let places = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
        let kinds = [FrameType::Submission, FrameType::Acknowledgement];
        while let Some((kind, payload)) = reader.next_of(&kinds).await? {
            if kind == FrameType::Acknowledgement {
                self.acknowledge(decode(kind, &payload)?).await?;
                continue;
            }
            let permit = Arc::clone(&places).acquire_owned().await.map_err(|_| LinkError::StreamEnded)?;
            let answer = AnswerTo { sender: sender.clone(), permit };
            let now_ms = clock::now_ms();
            match admit::verify(&payload, &self.agency, &self.shared.directory, now_ms) {
                Ok(verified) => self.hand_over(Intake::Submit(Box::new(verified), answer)).await?,
                Err(refused) => answer.refuse(&refused, &self.shared.speaker(), now_ms),
            }
        }
        Ok(())
    }

    async fn acknowledge(&self, acknowledgement: Acknowledgement) -> Result<(), LinkError> {
        let Acknowledgement { queue_sequence, evidence } = acknowledgement;
        let how = if evidence.is_empty() {
            How::Taken
        } else {
            match outcome::verify(&evidence, &self.agency, &self.shared.directory, clock::now_ms()) {
                Ok(acknowledged) => How::Acknowledged(Box::new(acknowledged)),
                Err(error) => {
                    tracing::warn!(agency = self.agency, queue_sequence, %error, "acknowledgement refused");
                    return Ok(());
                }
            }
        };
        self.hand_over(Intake::End(End { agency: self.agency.clone(), queue_sequence, how })).await
    }

    async fn hand_over(&self, intake: Intake) -> Result<(), LinkError> {
        self.intake.send(intake).await.map_err(|_| LinkError::StreamEnded)
    }

    async fn send(
        &self,
        mut writer: FrameWriter,
        mut answers: mpsc::Receiver<(FrameType, Bytes)>,
    ) -> Result<(), LinkError> {
        let mut durable = self.shared.durable.subscribe();
        let mut sent = BTreeSet::new();
        loop {
            durable.borrow_and_update();
            let due = self.due(&mut sent);
            for (number, entry) in &due {
                let frame = tokio::task::block_in_place(|| self.frame(*number, entry));
                match frame {
                    Ok((kind, payload)) => writer.send(kind, payload).await?,
                    Err(error) => {
                        self.shared.fail(&error);
                        return Err(LinkError::StreamEnded);
                    }
                }
                sent.insert(*number);
                while let Ok((kind, payload)) = answers.try_recv() {
                    writer.send(kind, payload).await?;
                }
            }
            if !due.is_empty() {
                continue;
            }
            tokio::select! {
                answer = answers.recv() => match answer {
                    Some((kind, payload)) => writer.send(kind, payload).await?,
                    None => return Ok(()),
                },
                changed = durable.changed() => changed.map_err(|_| LinkError::StreamEnded)?,
                () = sleep(Duration::from_millis(LOOK_MS)) => {}
            }
        }
    }

    /// Entries to be handed over now: in order, durable, in time, within the credit, each once a session.
    fn due(&self, sent: &mut BTreeSet<u64>) -> Vec<(u64, Entry)> {
        let (now_ms, durable) = (clock::now_ms(), *self.shared.durable.borrow());
        let ledger = self.shared.ledger();
        let Some(queue) = ledger.queue(&self.agency) else { return Vec::new() };
        sent.retain(|number| queue.get(*number).is_some());
        let room = self.shared.credit.saturating_sub(sent.len());
        queue
            .after(0)
            .filter(|(number, entry)| {
                let in_time = entry.not_before_ms <= now_ms && now_ms < entry.deliver_by_ms;
                !sent.contains(number) && entry.record() <= durable && in_time
            })
            .take(room)
            .map(|(number, entry)| (number, *entry))
            .collect()
    }

    /// One entry as a frame, from the journal.
    fn frame(&self, queue_sequence: u64, entry: &Entry) -> Result<(FrameType, Bytes), StoredError> {
        match entry.held {
            Held::Evidence { outcome } => {
                let evidence = self.shared.outcome(outcome)?.evidence;
                let delivery = EvidenceDelivery { queue_sequence, evidence };
                Ok((FrameType::Evidence, canonical::encode(&delivery)))
            }
            Held::Packet { admission, recipient_index } => {
                let missing = || StoredError::Other { sequence: admission, expected: "for this recipient" };
                let at = usize::try_from(recipient_index).map_err(|_| missing())?;
                let (stored, packet) = (self.shared.admission(admission)?, self.shared.packet(admission)?);
                let delivery = Delivery {
                    queue_sequence,
                    header: packet.header,
                    signature: packet.signature,
                    recipient_index,
                    opening: Some(packet.openings.get(at).cloned().ok_or_else(missing)?),
                    wrap: packet.wraps.get(at).cloned().ok_or_else(missing)?,
                    body: packet.body,
                    receipt: stored
                        .recipients
                        .get(at)
                        .map(|recipient| recipient.receipt.clone())
                        .ok_or_else(missing)?,
                };
                Ok((FrameType::Delivery, canonical::encode(&delivery)))
            }
        }
    }
}
