//! The ledger: queues, replay set and sub-log sizes, folded over the journal. Recovery and the forward path
//! run the same [`Ledger::apply`].

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lintas_proto::{
    canonical::fixed,
    id::{Digest, PacketId},
    limits,
    schema::{StoredAdmission, StoredOutcome, UnitRef},
};

use super::record::{Fact, RecordError};

/// Most entries of one agency's queue. An agency that is offline for months keeps this many.
pub const QUEUE_ENTRIES_MAX: usize = 200_000;

/// A packet id that was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Header digest it was used with.
    pub digest: Digest,
    /// Record of its admission; the receipt stands there.
    pub admission: u64,
    /// From when on the id cannot come again, because every copy has expired.
    pub forget_ms: u64,
}

/// What a queue entry holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// A packet for one recipient; `admission` is a record, the packet the one before it.
    Packet {
        /// Sequence of the admission record.
        admission: u64,
        /// Which recipient of it, 0-based.
        recipient_index: u32,
    },
    /// Evidence about a packet that the agency originated; `outcome` is a record.
    Evidence {
        /// Sequence of the outcome record.
        outcome: u64,
    },
}

/// One entry of an agency's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// What it holds.
    pub held: Held,
    /// Not handed over earlier.
    pub not_before_ms: u64,
    /// Not handed over later; evidence never expires.
    pub deliver_by_ms: u64,
}

impl Entry {
    /// The youngest record that the entry stands on: it may be handed over once that is durable.
    #[must_use]
    pub fn record(&self) -> u64 {
        match self.held {
            Held::Packet { admission, .. } => admission,
            Held::Evidence { outcome } => outcome,
        }
    }
}

/// An agency's queue, in the order of admission.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Queue {
    /// Number of the next entry, from 1.
    pub(super) next: u64,
    pub(super) entries: BTreeMap<u64, Entry>,
}

impl Queue {
    fn push(&mut self, entry: Entry) {
        self.next = self.next.max(1);
        self.entries.insert(self.next, entry);
        self.next += 1;
    }

    /// Entries after number `after`, in order.
    pub fn after(&self, after: u64) -> impl Iterator<Item = (u64, &Entry)> {
        self.entries.range(after.saturating_add(1)..).map(|(number, entry)| (*number, entry))
    }

    /// The entry with that number.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<&Entry> {
        self.entries.get(&number)
    }

    /// Entries up to number `through` that are still there.
    #[must_use]
    pub fn pending_through(&self, through: u64) -> usize {
        self.entries.range(..=through).count()
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// A packet that some queue still holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LivePacket {
    /// UUIDv7.
    pub packet_id: PacketId,
    /// SHA-256 of its header.
    pub digest: Digest,
    /// Who sent it.
    pub originator: UnitRef,
    /// For whom it is, in the order of the commitments.
    pub recipients: Vec<UnitRef>,
    /// Its attachments.
    pub blobs: Vec<Digest>,
    /// Queue entries that still hold it.
    pub remaining: u32,
    /// Length of its record, bytes.
    pub bytes: u64,
}

/// The state of a broker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    pub(super) seen: HashMap<PacketId, Seen>,
    pub(super) forget: BTreeSet<(u64, PacketId)>,
    pub(super) queues: BTreeMap<String, Queue>,
    /// By sequence of the admission record.
    pub(super) packets: BTreeMap<u64, LivePacket>,
    pub(super) by_digest: HashMap<Digest, u64>,
    pub(super) log_sizes: BTreeMap<String, u64>,
    pub(super) spent: Spent,
}

impl Ledger {
    /// What is known of a packet id.
    #[must_use]
    pub fn seen(&self, id: &PacketId) -> Option<&Seen> {
        self.seen.get(id)
    }

    /// An agency's queue.
    #[must_use]
    pub fn queue(&self, agency: &str) -> Option<&Queue> {
        self.queues.get(agency)
    }

    /// Size of an agency's sub-log: the index of its next event.
    #[must_use]
    pub fn log_size(&self, agency: &str) -> u64 {
        self.log_sizes.get(agency).copied().unwrap_or(0)
    }

    /// A packet that some queue still holds, by the admission's record.
    #[must_use]
    pub fn packet(&self, admission: u64) -> Option<&LivePacket> {
        self.packets.get(&admission)
    }

    /// A packet that some queue still holds, by its header digest.
    #[must_use]
    pub fn packet_by_digest(&self, digest: &Digest) -> Option<&LivePacket> {
        self.by_digest.get(digest).and_then(|admission| self.packets.get(admission))
    }

    /// Whether a record must be kept. Packets go when no queue holds them; admissions and outcomes hold the
    /// audit events and stay until the published log holds those.
    #[must_use]
    pub fn is_live(&self, sequence: u64) -> bool {
        !self.spent.contains(sequence)
    }

    /// The records that nobody needs, for a compaction that goes on while the ledger moves on.
    #[must_use]
    pub fn spent(&self) -> Spent {
        self.spent.clone()
    }

    /// Queue entries whose packets may no longer be handed over at `now_ms`, at most `max`.
    #[must_use]
    pub fn expired(&self, now_ms: u64, max: usize) -> Vec<(String, u64, Entry)> {
        let of_queue = |(agency, queue): (&String, &Queue)| -> Vec<(String, u64, Entry)> {
            let over = queue.entries.iter().filter(|(_, entry)| entry.deliver_by_ms <= now_ms);
            over.take(max).map(|(number, entry)| (agency.clone(), *number, *entry)).collect()
        };
        self.queues.iter().flat_map(of_queue).take(max).collect()
    }

    /// Forgets packet ids that cannot come again. Not a fact of its own: it follows from time alone.
    pub fn forget(&mut self, now_ms: u64) {
        while let Some((at, id)) = self.forget.first().copied().filter(|(at, _)| *at <= now_ms) {
            self.forget.remove(&(at, id));
            self.seen.remove(&id);
        }
    }

    /// Folds one record in. Returns the packet that nobody needs any more, if this was its end.
    ///
    /// # Errors
    /// [`RecordError::Contradiction`] when the record does not follow from those before it.
    pub fn apply(&mut self, sequence: u64, fact: &Fact) -> Result<Option<LivePacket>, RecordError> {
        let contradiction = |what| RecordError::Contradiction { sequence, what };
        match fact {
            Fact::Packet(_) => Ok(None),
            Fact::Admission(admission) => {
                self.admit(sequence, admission).map(|()| None).map_err(contradiction)
            }
            Fact::Outcome(outcome) => self.end(sequence, outcome).map_err(contradiction),
            Fact::Taken(taken) => {
                let queue = self.queues.get_mut(&taken.agency);
                let entry = queue.and_then(|queue| queue.entries.remove(&taken.queue_sequence));
                let evidence = matches!(entry.map(|entry| entry.held), Some(Held::Evidence { .. }));
                self.spent.insert(sequence);
                if evidence { Ok(None) } else { Err(contradiction("no such evidence in the queue")) }
            }
        }
    }

    fn admit(&mut self, sequence: u64, admission: &StoredAdmission) -> Result<(), &'static str> {
        let id = PacketId::from_bytes(&admission.packet_id).map_err(|_| "packet id is none")?;
        let digest: Digest =
            fixed("header_digest", &admission.header_digest).map_err(|_| "digest is none")?;
        let originator = admission.originator.clone().ok_or("no originator")?;
        let blobs: Result<Vec<Digest>, _> = admission.blobs.iter().map(|blob| fixed("blob", blob)).collect();
        let forget_ms = admission.deliver_by_ms.saturating_add(limits::CLOCK_SKEW_MS_MAX);
        if self.seen.insert(id, Seen { digest, admission: sequence, forget_ms }).is_some() {
            return Err("packet id was used before");
        }
        self.forget.insert((forget_ms, id));
        *self.log_sizes.entry(originator.agency.clone()).or_default() +=
            1 + admission.recipients.len() as u64;
        let mut recipients = Vec::with_capacity(admission.recipients.len());
        for (recipient_index, recipient) in (0u32..).zip(&admission.recipients) {
            let unit = recipient.unit.clone().ok_or("no recipient")?;
            *self.log_sizes.entry(unit.agency.clone()).or_default() += 1;
            let held = Held::Packet { admission: sequence, recipient_index };
            let (not_before_ms, deliver_by_ms) = (admission.not_before_ms, admission.deliver_by_ms);
            let queue = self.queues.entry(unit.agency.clone()).or_default();
            queue.push(Entry { held, not_before_ms, deliver_by_ms });
            recipients.push(unit);
        }
        let remaining = u32::try_from(recipients.len()).map_err(|_| "too many recipients")?;
        let (blobs, bytes) = (blobs.map_err(|_| "blob id is none")?, admission.packet_bytes);
        self.by_digest.insert(digest, sequence);
        let packet = LivePacket { packet_id: id, digest, originator, recipients, blobs, remaining, bytes };
        self.packets.insert(sequence, packet);
        Ok(())
    }

    fn end(&mut self, sequence: u64, outcome: &StoredOutcome) -> Result<Option<LivePacket>, &'static str> {
        let queue = self.queues.get_mut(&outcome.agency).ok_or("no such queue")?;
        let entry = queue.entries.remove(&outcome.queue_sequence).ok_or("no such queue entry")?;
        let Held::Packet { admission, .. } = entry.held else {
            return Err("the queue entry holds no packet");
        };
        for event in &outcome.events {
            *self.log_sizes.entry(event.agency.clone()).or_default() += 1;
        }
        let packet = self.packets.get_mut(&admission).ok_or("no such packet")?;
        packet.remaining = packet.remaining.checked_sub(1).ok_or("packet ended too often")?;
        let originator = packet.originator.agency.clone();
        let mut ended = None;
        if packet.remaining == 0 {
            self.by_digest.remove(&packet.digest);
            ended = self.packets.remove(&admission);
            self.spent.insert(admission.saturating_sub(1));
        }
        let held = Held::Evidence { outcome: sequence };
        self.queues.entry(originator).or_default().push(Entry {
            held,
            not_before_ms: 0,
            deliver_by_ms: u64::MAX,
        });
        Ok(ended)
    }
}

/// A set of record sequences: one bit a record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spent {
    /// 64 records a block.
    pub(super) blocks: BTreeMap<u64, u64>,
}

impl Spent {
    fn insert(&mut self, sequence: u64) {
        *self.blocks.entry(sequence / 64).or_default() |= 1 << (sequence % 64);
    }

    /// Whether the record is in the set.
    #[must_use]
    pub fn contains(&self, sequence: u64) -> bool {
        self.blocks.get(&(sequence / 64)).is_some_and(|bits| bits >> (sequence % 64) & 1 == 1)
    }
}
