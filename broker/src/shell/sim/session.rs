//! Sessions: what comes in from a node, and what goes out to it.

use bytes::Bytes;
use lintas_link::decode;
use lintas_proto::{
    canonical,
    frame::FrameType,
    id::Digest,
    limits,
    schema::{Acknowledgement, Delivery, EvidenceDelivery, Submission},
};

use super::{
    Frame, Hands, SimBroker, Stopped,
    round::{End, Intake},
    stopped,
};
use crate::core::{
    admit,
    deliver::Cursor,
    hand_over::{Asked, may_have},
    outcome::{self, How},
    queue::{Entry, Held},
    record::Fact,
};

/// One node's session.
#[derive(Debug)]
pub(super) struct Session {
    agency: String,
    cursor: Cursor,
    /// On its way out.
    out: Vec<Frame>,
}

/// An entry whose turn has come.
enum Turn {
    Frame(Frame),
    Denied(Box<Asked>),
}

impl SimBroker {
    /// A node says hello, and what time it is. False if it is refused.
    pub fn hello(&mut self, session: u64, agency: &str, theirs_ms: u64, hands: &Hands<'_>) -> bool {
        let agrees = theirs_ms.abs_diff(hands.now_ms) <= limits::CLOCK_SKEW_MS_MAX;
        let (now, directory) = (hands.reading(), hands.rules.directory());
        let change = self.agreement.hear(agency, agrees, now, directory);
        self.turned(change.is_some());
        if !agrees || self.agreement.anchor().is_none() {
            return false;
        }
        let begun = Session { agency: agency.to_owned(), cursor: Cursor::default(), out: Vec::new() };
        self.sessions.insert(session, begun);
        true
    }

    /// Whether anything may be done by the clock. When that changes all sessions end.
    pub(super) fn is_agreed(&mut self, hands: &Hands<'_>) -> bool {
        let change = self.agreement.look(hands.reading());
        self.turned(change.is_some());
        self.agreement.anchor().is_some()
    }

    fn turned(&mut self, changed: bool) {
        if changed {
            self.sessions.clear();
        }
    }

    /// Whether that session has not ended.
    #[must_use]
    pub fn serves(&self, session: u64) -> bool {
        self.sessions.contains_key(&session)
    }

    /// The node is gone.
    pub fn end_session(&mut self, session: u64) {
        self.sessions.remove(&session);
    }

    /// What a node sends.
    ///
    /// # Errors
    /// It broke the protocol, and its session ends.
    pub fn hear(
        &mut self,
        session: u64,
        kind: FrameType,
        payload: &Bytes,
        hands: &Hands<'_>,
    ) -> Result<(), String> {
        self.is_agreed(hands);
        let Some(agency) = self.sessions.get(&session).map(|one| one.agency.clone()) else { return Ok(()) };
        if kind == FrameType::Submission {
            let earlier = |hash: &Digest| hands.earlier.roster_version(hash, hands.now_ms);
            match admit::verify(payload, &agency, hands.rules, earlier, hands.now_ms) {
                Ok(verified) => self.intake.push(Intake::Submit { session, verified: Box::new(verified) }),
                Err(refused) => match admit::claimed(payload, &agency) {
                    None => self.refuse_now(session, &refused, hands),
                    claim => self.intake.push(Intake::Refuse { session, refused: Box::new(refused), claim }),
                },
            }
            return Ok(());
        }
        let said: Acknowledgement = decode(FrameType::Acknowledgement, payload).map_err(|e| e.to_string())?;
        let Acknowledgement { queue_sequence, evidence } = said;
        let how = if evidence.is_empty() {
            How::Taken
        } else {
            match outcome::verify(&evidence, &agency, hands.rules.directory(), hands.now_ms) {
                Ok(acknowledged) => How::Acknowledged(Box::new(acknowledged)),
                // The entry stays.
                Err(_) => return Ok(()),
            }
        };
        let entry = self.ledger.queue(&agency).and_then(|queue| queue.get(queue_sequence));
        let is_due = match entry.map(|entry| entry.held) {
            Some(Held::Packet { .. }) => matches!(how, How::Acknowledged(_)),
            Some(Held::Evidence { .. }) => matches!(how, How::Taken),
            None => false,
        };
        if is_due && let Some(one) = self.sessions.get_mut(&session) {
            one.cursor.acknowledged(queue_sequence);
        }
        self.intake.push(Intake::End(End { agency, queue_sequence, how }));
        Ok(())
    }

    pub(super) fn say(&mut self, session: u64, frame: Option<Frame>) {
        if let Some(one) = self.sessions.get_mut(&session) {
            one.out.extend(frame);
        }
    }

    /// What goes out to a node now: answers, and what is due of its queue.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn out(&mut self, session: u64, hands: &Hands<'_>) -> Result<Vec<Frame>, Stopped> {
        self.is_agreed(hands);
        let Some(one) = self.sessions.get_mut(&session) else { return Ok(Vec::new()) };
        let agency = one.agency.clone();
        let (mut frames, mut denied) = (std::mem::take(&mut one.out), Vec::new());
        let due = self
            .ledger
            .queue(&agency)
            .map(|queue| one.cursor.due(queue, self.durable, hands.now_ms, self.credit).entries);
        for (number, entry) in due.unwrap_or_default() {
            match self.turn(&agency, number, &entry, hands)? {
                Some(Turn::Frame(frame)) => frames.push(frame),
                Some(Turn::Denied(asked)) => denied.push((number, asked)),
                None => {}
            }
        }
        for (queue_sequence, asked) in denied {
            if let Some(one) = self.sessions.get_mut(&session) {
                one.cursor.put_off(queue_sequence, hands.now_ms);
            }
            self.intake.push(Intake::Deny { agency: agency.clone(), queue_sequence, asked });
        }
        Ok(frames)
    }

    /// What becomes of an entry; none if it has ended meanwhile.
    fn turn(
        &self,
        agency: &str,
        number: u64,
        entry: &Entry,
        hands: &Hands<'_>,
    ) -> Result<Option<Turn>, Stopped> {
        match self.frame(number, entry, hands) {
            Ok(turn) => Ok(Some(turn)),
            Err(_) if self.ledger.queue(agency).and_then(|queue| queue.get(number)).is_none() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn frame(&self, queue_sequence: u64, entry: &Entry, hands: &Hands<'_>) -> Result<Turn, Stopped> {
        match entry.held {
            Held::Evidence { outcome, .. } => {
                let Fact::Outcome(stored) = self.fact(outcome)? else { return Err(other(outcome)) };
                let delivery = EvidenceDelivery { queue_sequence, evidence: stored.evidence };
                Ok(Turn::Frame((FrameType::Evidence, canonical::encode(&delivery))))
            }
            Held::Packet { admission, recipient_index } => {
                let at = usize::try_from(recipient_index).map_err(stopped)?;
                let Fact::Packet(bytes) = self.fact(admission.saturating_sub(1))? else {
                    return Err(other(admission));
                };
                let packet: Submission =
                    canonical::decode(&bytes, limits::FRAME_BYTES_MAX).map_err(stopped)?;
                let asked = Asked::read(&packet, recipient_index).map_err(stopped)?;
                if !may_have(&asked, hands.rules, self.ledger.time_at(hands.now_ms)) {
                    return Ok(Turn::Denied(Box::new(asked)));
                }
                let Fact::Admission(stored) = self.fact(admission)? else { return Err(other(admission)) };
                let receipt = stored.recipients.get(at).map(|recipient| recipient.receipt.clone());
                let delivery = Delivery {
                    queue_sequence,
                    header: packet.header,
                    signature: packet.signature,
                    recipient_index,
                    opening: Some(packet.openings.get(at).cloned().ok_or_else(|| other(admission))?),
                    wrap: packet.wraps.get(at).cloned().ok_or_else(|| other(admission))?,
                    body: packet.body,
                    receipt: receipt.ok_or_else(|| other(admission))?,
                };
                Ok(Turn::Frame((FrameType::Delivery, canonical::encode(&delivery))))
            }
        }
    }

    fn fact(&self, sequence: u64) -> Result<Fact, Stopped> {
        Fact::from_record(&self.reader.read(sequence).map_err(stopped)?).map_err(stopped)
    }

    /// The receipt of a packet that was admitted before; none if it has gone.
    pub(super) fn receipt(&self, admission: u64) -> Result<Option<Frame>, Stopped> {
        match self.fact(admission) {
            Ok(Fact::Admission(stored)) => Ok(Some((FrameType::Receipt, stored.receipt))),
            Ok(_) => Err(other(admission)),
            Err(_) if self.ledger.spent().contains(admission, u64::MAX) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn other(sequence: u64) -> Stopped {
    Stopped(format!("record {sequence} is not what it must be"))
}
