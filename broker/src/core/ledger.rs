//! The ledger: queues, replay set and what the audit log needs ([`audit`]), folded over the journal. Recovery and the
//! forward path run the same [`Ledger::apply`]; nothing else changes it, not even time: packet ids are forgotten when a
//! record is applied whose time is beyond theirs.
//!
//! A record that the ledger does not need any more is spent, and may go with its segment: a PACKET when no queue holds
//! it, a TAKEN at once. The others bear audit events, or tell the log what it must know, so they go when the log is
//! published up to them: an ADMISSION when its packet has ended and its id is forgotten or its receipt erased, an
//! OUTCOME when its evidence is taken, all others at once: what they say stands in the snapshot.

pub mod audit;
pub mod live;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lintas_proto::{
    id::{Digest, PacketId},
    limits,
};

use self::{
    audit::Audit,
    live::{LivePacket, Recipients, Units},
};
use super::{
    ascending::Ascending,
    brief::{Admitted, Brief, Told},
    known::Known,
    queue::{Entry, Held, Queue},
    record::{Fact, RecordError},
    spent::Spent,
};

/// What stands behind a packet.
const NOT_ALONE: &str = "behind a packet stands its admission";

/// A packet id that was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Header digest it was used with.
    pub digest: Digest,
    /// Record of its admission, where the receipt stands; 0 when that was erased.
    pub admission: u64,
    /// From when on the packet cannot come again, because every copy has expired.
    pub forget_ms: u64,
}

/// A packet that nobody needs any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Agency that sent it.
    pub originator: String,
    /// Its attachments that no other packet names.
    pub blobs: Vec<Digest>,
    /// Length of its record, bytes.
    pub bytes: u64,
}

/// The state of a broker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    pub(super) known: Known,
    /// Highest time of an admission, event or epoch: what could have been forgotten by then is.
    pub(super) time_ms: u64,
    pub(super) queues: BTreeMap<String, Queue>,
    /// By sequence of the admission record.
    pub(super) packets: Ascending<u64, LivePacket>,
    /// Those with attachments, which are asked for by header digest.
    by_digest: HashMap<Digest, u64>,
    /// Of the packets.
    pub(super) units: Units,
    /// How many packets name a blob of an agency.
    pub(super) named: BTreeMap<(String, Digest), u32>,
    pub(super) audit: Audit,
    pub(super) spent: Spent,
    /// Record of a packet whose admission must come next.
    pending: Option<u64>,
}

impl Ledger {
    /// What is known of a packet id.
    #[must_use]
    pub fn seen(&self, id: &PacketId) -> Option<&Seen> {
        self.known.get(id)
    }

    /// Whether an id used with that `deliver_by_ms` may have been forgotten, so that a packet with it cannot be
    /// told from a replay. The clock may have been set back since.
    #[must_use]
    pub fn may_have_forgotten(&self, deliver_by_ms: u64) -> bool {
        forget_ms(deliver_by_ms) <= self.time_ms
    }

    /// An agency's queue.
    #[must_use]
    pub fn queue(&self, agency: &str) -> Option<&Queue> {
        self.queues.get(agency)
    }

    /// Entries of all queues.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.queues.values().map(Queue::len).sum()
    }

    /// Size of an agency's sub-log: the index of its next event.
    #[must_use]
    pub fn log_size(&self, agency: &str) -> u64 {
        self.audit.size(agency)
    }

    /// What the audit log needs.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// The time that a record gets when the clock says `now_ms`: times in the log never go back.
    #[must_use]
    pub fn time_at(&self, now_ms: u64) -> u64 {
        self.time_ms.max(now_ms)
    }

    /// A packet that some queue still holds, by the admission's record.
    #[must_use]
    pub fn packet(&self, admission: u64) -> Option<&LivePacket> {
        self.packets.get(&admission)
    }

    /// A packet with attachments that some queue still holds, by its header digest, with the admission's record.
    #[must_use]
    pub fn packet_by_digest(&self, digest: &Digest) -> Option<(u64, &LivePacket)> {
        let admission = *self.by_digest.get(digest)?;
        self.packets.get(&admission).map(|packet| (admission, packet))
    }

    /// Whether a packet that some queue still holds names that blob of the agency.
    #[must_use]
    pub fn names_blob(&self, agency: &str, blob: &Digest) -> bool {
        self.named.contains_key(&(agency.to_owned(), *blob))
    }

    /// All blobs that packets in the queues name, with their agencies.
    pub fn named_blobs(&self) -> impl Iterator<Item = (&str, &Digest)> {
        self.named.keys().map(|(agency, blob)| (agency.as_str(), blob))
    }

    /// Who waits for one of these packets, or for evidence about it: packet, whose queue.
    #[must_use]
    pub fn waits_for(&self, packets: &BTreeSet<PacketId>) -> Option<(PacketId, &str, Held)> {
        self.queues.iter().find_map(|(agency, queue)| {
            queue.after(0).find_map(|(_, entry)| {
                let id = match entry.held {
                    Held::Packet { admission, .. } => self.packets.get(&admission)?.packet_id,
                    Held::Evidence { packet, .. } => packet,
                };
                packets.contains(&id).then_some((id, agency.as_str(), entry.held))
            })
        })
    }

    /// The records that nobody needs.
    #[must_use]
    pub fn spent(&self) -> &Spent {
        &self.spent
    }

    /// Queue entries whose packets may no longer be handed over at `now_ms`, at most `max`.
    #[must_use]
    pub fn expired(&self, now_ms: u64, max: usize) -> Vec<(String, u64)> {
        let of_queue = |(agency, queue): (&String, &Queue)| -> Vec<(String, u64)> {
            queue.expired(now_ms).take(max).map(|number| (agency.clone(), number)).collect()
        };
        self.queues.iter().flat_map(of_queue).take(max).collect()
    }

    /// Folds one record in. Returns the packet that nobody needs any more, if this was its end.
    ///
    /// # Errors
    /// [`RecordError::Contradiction`] when the record does not follow from those before it. The ledger is not
    /// to be used then.
    pub fn apply(&mut self, sequence: u64, fact: &Fact) -> Result<Option<Ended>, RecordError> {
        let done = match Brief::of(fact) {
            Ok(Some(brief)) => self.fold(sequence, &brief),
            Ok(None) if self.pending.take().is_some() => Err(NOT_ALONE),
            Ok(None) => match fact {
                Fact::Epoch(epoch) => self.end_epoch(sequence, epoch),
                Fact::Events(events) => self.tell(sequence, events),
                Fact::SlotKey(key) => self.set_slot_key(sequence, key),
                Fact::Members(members) => self.set_members(sequence, members),
                Fact::Erasure(erasure) => self.erase(sequence, erasure),
                Fact::LogBegun(begun) => self.begin_log(sequence, begun),
                Fact::Packet(_) | Fact::Admission(_) | Fact::Outcome(_) | Fact::Taken(_) => {
                    Err("it has no brief")
                }
            }
            .map(|()| None),
            Err(what) => Err(what),
        };
        done.map_err(|what| RecordError::Contradiction { sequence, what })
    }

    /// Folds one record in by its brief.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn apply_brief(
        &mut self,
        sequence: u64,
        kind: u16,
        brief: &[u8],
    ) -> Result<Option<Ended>, RecordError> {
        let brief = Brief::read(kind, brief).ok_or("its brief is none");
        brief
            .and_then(|brief| self.fold(sequence, &brief))
            .map_err(|what| RecordError::Contradiction { sequence, what })
    }

    fn fold(&mut self, sequence: u64, brief: &Brief<'_>) -> Result<Option<Ended>, &'static str> {
        match (brief, self.pending.take()) {
            (Brief::Packet, None) => {
                self.pending = Some(sequence);
                Ok(None)
            }
            (Brief::Admission(admitted), Some(packet)) if packet.checked_add(1) == Some(sequence) => {
                self.admit(sequence, admitted).map(|()| None)
            }
            (Brief::Admission(_), _) => Err("an admission stands behind its packet"),
            (_, Some(_)) => Err(NOT_ALONE),
            (Brief::Outcome(told), None) => self.end(sequence, told),
            (Brief::Taken(agency, queue_sequence), None) => {
                self.take(sequence, agency, *queue_sequence).map(|()| None)
            }
        }
    }

    fn admit(&mut self, sequence: u64, admitted: &Admitted<'_>) -> Result<(), &'static str> {
        let Admitted { packet_id, digest, not_before_ms, deliver_by_ms, .. } = *admitted;
        let originator = self.units.get(admitted.originator);
        let released = admitted.released.iter().map(|(place, unit)| (*place, self.units.get(*unit)));
        let recipients = Recipients::new(released.collect());
        let remaining = u32::try_from(recipients.len()).map_err(|_| "too many recipients")?;
        if remaining == 0 {
            return Err("no recipient");
        }
        self.pass(admitted.time_ms)?;
        let forget_ms = forget_ms(deliver_by_ms);
        if !self.known.insert(packet_id, Seen { digest, admission: sequence, forget_ms }) {
            return Err("packet id was used before");
        }
        self.audit.grow(&originator.agency, 1 + u64::from(admitted.all))?;
        for (recipient_index, unit) in recipients.iter() {
            self.audit.grow(&unit.agency, 1)?;
            let held = Held::Packet { admission: sequence, recipient_index };
            let entry = Entry { held, not_before_ms, deliver_by_ms };
            push(&mut self.queues, &unit.agency, entry, &originator.agency);
        }
        let (blobs, bytes) = (admitted.blobs.as_slice().into(), admitted.packet_bytes);
        self.hold(
            sequence,
            LivePacket { packet_id, digest, originator, recipients, blobs, remaining, bytes },
        );
        Ok(())
    }

    /// Puts a packet among those that queues hold.
    pub(super) fn hold(&mut self, admission: u64, packet: LivePacket) {
        for blob in &packet.blobs {
            *self.named.entry((packet.originator.agency.clone(), *blob)).or_default() += 1;
        }
        if !packet.blobs.is_empty() {
            self.by_digest.insert(packet.digest, admission);
        }
        self.packets.insert(admission, packet);
    }

    fn end(&mut self, sequence: u64, outcome: &Told<'_>) -> Result<Option<Ended>, &'static str> {
        let queue = self.queues.get_mut(outcome.agency).ok_or("no such queue")?;
        let held = queue.get(outcome.queue_sequence).ok_or("no such queue entry")?.held;
        let Held::Packet { admission, recipient_index } = held else {
            return Err("the queue entry holds no packet");
        };
        let packet = self.packets.get_mut(&admission).ok_or("no such packet")?;
        packet.remaining = packet.remaining.checked_sub(1).ok_or("packet ended too often")?;
        let (originator, over, id) =
            (packet.originator.agency.clone(), packet.remaining == 0, packet.packet_id);
        // What is withheld once is not given later.
        if outcome.is_withheld {
            packet.recipients.remove(recipient_index);
        }
        queue.remove(outcome.queue_sequence, &originator);
        outcome.events.iter().try_for_each(|event| self.log(event))?;
        let ended = if over { self.let_go(admission) } else { None };
        self.queues.entry(originator).or_default().push(Entry::evidence(sequence, id), "");
        Ok(ended)
    }

    /// Takes a packet out that no queue holds.
    fn let_go(&mut self, admission: u64) -> Option<Ended> {
        let packet = self.packets.remove(&admission)?;
        if !packet.blobs.is_empty() {
            self.by_digest.remove(&packet.digest);
        }
        self.spent.insert(admission.saturating_sub(1));
        if self.known.get(&packet.packet_id).is_none_or(|seen| seen.admission != admission) {
            self.spent.insert_logged(admission);
        }
        let originator = packet.originator.agency.clone();
        let mut blobs = Vec::new();
        for blob in packet.blobs {
            let key = (originator.clone(), blob);
            let left = self.named.get(&key).copied().unwrap_or(0).saturating_sub(1);
            if left == 0 {
                self.named.remove(&key);
                blobs.push(blob);
            } else {
                self.named.insert(key, left);
            }
        }
        Some(Ended { originator, blobs, bytes: packet.bytes })
    }

    fn take(&mut self, sequence: u64, agency: &str, queue_sequence: u64) -> Result<(), &'static str> {
        let queue = self.queues.get_mut(agency).ok_or("no such queue")?;
        let entry = queue.get(queue_sequence).ok_or("no such queue entry")?;
        let Held::Evidence { outcome, .. } = entry.held else {
            return Err("the queue entry holds no evidence");
        };
        queue.remove(queue_sequence, "");
        self.spent.insert_logged(outcome);
        self.spent.insert(sequence);
        Ok(())
    }

    /// Time goes on. Before the log began it could go back.
    fn pass(&mut self, time_ms: u64) -> Result<(), &'static str> {
        if time_ms < self.time_ms && self.audit.has_begun() {
            return Err("time goes back");
        }
        self.time_ms = self.time_ms.max(time_ms);
        while let Some(seen) = self.known.forget(self.time_ms) {
            if seen.admission > 0 && !self.packets.contains_key(&seen.admission) {
                self.spent.insert_logged(seen.admission);
            }
        }
        Ok(())
    }
}

/// Puts an entry at the end of an agency's queue; the name is copied for the first one only.
fn push(queues: &mut BTreeMap<String, Queue>, agency: &str, entry: Entry, from: &str) {
    match queues.get_mut(agency) {
        Some(queue) => queue.push(entry, from),
        None => queues.entry(agency.to_owned()).or_default().push(entry, from),
    }
}

/// From when on a packet cannot come again.
fn forget_ms(deliver_by_ms: u64) -> u64 {
    deliver_by_ms.saturating_add(limits::CLOCK_SKEW_MS_MAX)
}

#[cfg(test)]
mod tests;
