//! Briefs: what the ledger folds of the records that there are many of. The journal keeps them in the index of each sealed
//! segment, so that a start reads some hundred bytes of a packet, not all of it. The ledger folds nothing else of such
//! a record, so that it makes no difference which of the two was read.
//!
//! Numbers and texts as in [`terse`](super::terse); a unit is its agency and its name, both texts; what there are several
//! of stands behind its count.
//!
//! | kind | brief |
//! |---|---|
//! | 1 PACKET | nothing |
//! | 2 ADMISSION | packet id (16), header digest (32), originator, not_before_ms, deliver_by_ms, time_ms, packet_bytes, count of all recipients; of those to whom it was released: place, unit; blobs (32 each) |
//! | 3 OUTCOME | agency, queue sequence, 1 if it tells of a withheld packet, else 0; events: agency, index, time_ms |
//! | 4 TAKEN | agency, queue sequence |
//!
//! The other kinds have none: a start reads them whole.

use bytes::Bytes;
use lintas_proto::{
    canonical::fixed,
    id::{Digest, PacketId},
    schema::{EventType, StoredAdmission, StoredEvent, StoredOutcome, StoredTaken, UnitRef},
};

use super::{
    ledger::audit::kind,
    record::{ADMISSION, Fact, OUTCOME, PACKET, TAKEN},
    terse::{Reading, Writing},
};

/// Agency and name.
pub(super) type Unit<'a> = (&'a str, &'a str);

/// What the ledger folds of a record.
#[derive(Debug, PartialEq)]
pub(super) enum Brief<'a> {
    /// A packet; means nothing without the admission that follows.
    Packet,
    /// A packet was accepted.
    Admission(Admitted<'a>),
    /// A queue entry that held a packet has ended.
    Outcome(Told<'a>),
    /// The agency has the evidence of that queue entry.
    Taken(&'a str, u64),
}

/// Of an admission.
#[derive(Debug, PartialEq)]
pub(super) struct Admitted<'a> {
    pub(super) packet_id: PacketId,
    pub(super) digest: Digest,
    pub(super) originator: Unit<'a>,
    pub(super) not_before_ms: u64,
    pub(super) deliver_by_ms: u64,
    pub(super) time_ms: u64,
    pub(super) packet_bytes: u64,
    /// How many recipients there are.
    pub(super) all: u32,
    /// Those to whom it was released, by their places among all, ascending.
    pub(super) released: Vec<(u32, Unit<'a>)>,
    pub(super) blobs: Vec<Digest>,
}

/// Of an outcome.
#[derive(Debug, PartialEq)]
pub(super) struct Told<'a> {
    pub(super) agency: &'a str,
    pub(super) queue_sequence: u64,
    pub(super) is_withheld: bool,
    pub(super) events: Vec<Logged<'a>>,
}

/// An event at the end of an agency's sub-log.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Logged<'a> {
    pub(super) agency: &'a str,
    pub(super) index: u64,
    pub(super) time_ms: u64,
}

impl<'a> Logged<'a> {
    pub(super) fn of(stored: &'a StoredEvent) -> Result<Self, &'static str> {
        let event = stored.event.as_ref().ok_or("an event that is none")?;
        let time =
            event.leaf.get(2..10).and_then(|time| time.try_into().ok()).ok_or("a leaf that is none")?;
        Ok(Self { agency: &stored.agency, index: event.index, time_ms: u64::from_be_bytes(time) })
    }
}

impl<'a> Brief<'a> {
    /// Of a fact; `None` for one that has none.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn of(fact: &'a Fact) -> Result<Option<Self>, &'static str> {
        Ok(Some(match fact {
            Fact::Packet(_) => Self::Packet,
            Fact::Admission(admission) => Self::Admission(Admitted::of(admission)?),
            Fact::Outcome(outcome) => Self::Outcome(Told::of(outcome)?),
            Fact::Taken(StoredTaken { agency, queue_sequence }) => Self::Taken(agency, *queue_sequence),
            Fact::Epoch(_)
            | Fact::Events(_)
            | Fact::SlotKey(_)
            | Fact::Members(_)
            | Fact::Erasure(_)
            | Fact::LogBegun(_) => return Ok(None),
        }))
    }

    /// Reads one; `None` if it is none.
    pub(super) fn read(kind: u16, bytes: &'a [u8]) -> Option<Self> {
        let mut reading = Reading(bytes);
        let brief = match kind {
            PACKET => Self::Packet,
            ADMISSION => Self::Admission(Admitted::read(&mut reading)?),
            OUTCOME => Self::Outcome(Told::read(&mut reading)?),
            TAKEN => Self::Taken(reading.text()?, reading.number()?),
            _ => return None,
        };
        reading.is_over().then_some(brief)
    }

    /// Its bytes.
    pub(super) fn to_bytes(&self) -> Bytes {
        let mut out = Writing::default();
        match self {
            Self::Packet => {}
            Self::Admission(admitted) => admitted.write(&mut out),
            Self::Outcome(told) => told.write(&mut out),
            Self::Taken(agency, queue_sequence) => {
                out.text(agency);
                out.number(*queue_sequence);
            }
        }
        out.0.into()
    }
}

impl<'a> Admitted<'a> {
    fn of(admission: &'a StoredAdmission) -> Result<Self, &'static str> {
        let blobs: Result<Vec<Digest>, _> = admission.blobs.iter().map(|blob| fixed("blob", blob)).collect();
        let mut released = Vec::with_capacity(admission.recipients.len());
        for (place, recipient) in (0u32..).zip(&admission.recipients) {
            if !recipient.receipt.is_empty() {
                released.push((place, unit(recipient.unit.as_ref().ok_or("no recipient")?)));
            }
        }
        Ok(Self {
            packet_id: PacketId::from_bytes(&admission.packet_id).map_err(|_| "packet id is none")?,
            digest: fixed("header_digest", &admission.header_digest).map_err(|_| "digest is none")?,
            originator: unit(admission.originator.as_ref().ok_or("no originator")?),
            not_before_ms: admission.not_before_ms,
            deliver_by_ms: admission.deliver_by_ms,
            time_ms: admission.time_ms,
            packet_bytes: admission.packet_bytes,
            all: u32::try_from(admission.recipients.len()).map_err(|_| "too many recipients")?,
            released,
            blobs: blobs.map_err(|_| "blob id is none")?,
        })
    }

    fn write(&self, out: &mut Writing) {
        out.bytes(self.packet_id.as_bytes());
        out.bytes(&self.digest);
        write_unit(out, self.originator);
        for number in [self.not_before_ms, self.deliver_by_ms, self.time_ms, self.packet_bytes] {
            out.number(number);
        }
        out.number(u64::from(self.all));
        out.number(self.released.len() as u64);
        for (place, unit) in &self.released {
            out.number(u64::from(*place));
            write_unit(out, *unit);
        }
        out.number(self.blobs.len() as u64);
        out.bytes(self.blobs.as_flattened());
    }

    fn read(reading: &mut Reading<'a>) -> Option<Self> {
        Some(Self {
            packet_id: PacketId::from_bytes(&reading.array::<16>()?).ok()?,
            digest: reading.array()?,
            originator: read_unit(reading)?,
            not_before_ms: reading.number()?,
            deliver_by_ms: reading.number()?,
            time_ms: reading.number()?,
            packet_bytes: reading.number()?,
            all: reading.place()?,
            released: several(reading, |reading| Some((reading.place()?, read_unit(reading)?)))?,
            blobs: several(reading, |reading| reading.array())?,
        })
    }
}

impl<'a> Told<'a> {
    fn of(outcome: &'a StoredOutcome) -> Result<Self, &'static str> {
        let withheld = |stored: &StoredEvent| {
            stored.event.as_ref().is_some_and(|event| kind(&event.leaf) == EventType::Withheld)
        };
        Ok(Self {
            agency: &outcome.agency,
            queue_sequence: outcome.queue_sequence,
            is_withheld: outcome.events.iter().any(withheld),
            events: outcome.events.iter().map(Logged::of).collect::<Result<_, _>>()?,
        })
    }

    fn write(&self, out: &mut Writing) {
        out.text(self.agency);
        out.number(self.queue_sequence);
        out.number(u64::from(self.is_withheld));
        out.number(self.events.len() as u64);
        for Logged { agency, index, time_ms } in &self.events {
            out.text(agency);
            out.number(*index);
            out.number(*time_ms);
        }
    }

    fn read(reading: &mut Reading<'a>) -> Option<Self> {
        Some(Self {
            agency: reading.text()?,
            queue_sequence: reading.number()?,
            is_withheld: match reading.number()? {
                0 => false,
                1 => true,
                _ => return None,
            },
            events: several(reading, |reading| {
                Some(Logged { agency: reading.text()?, index: reading.number()?, time_ms: reading.number()? })
            })?,
        })
    }
}

fn unit(unit: &UnitRef) -> Unit<'_> {
    (&unit.agency, &unit.unit)
}

/// What stands behind its count.
pub(super) fn several<'a, T>(
    reading: &mut Reading<'a>,
    mut one: impl FnMut(&mut Reading<'a>) -> Option<T>,
) -> Option<Vec<T>> {
    // Nothing is reserved for more than can be there.
    let count = usize::try_from(reading.number()?).ok().filter(|count| *count <= reading.0.len())?;
    let mut all = Vec::with_capacity(count.min(1_024));
    for _ in 0..count {
        all.push(one(reading)?);
    }
    Some(all)
}

/// Appends a unit.
pub(super) fn write_unit(out: &mut Writing, (agency, name): Unit<'_>) {
    out.text(agency);
    out.text(name);
}

/// Takes a unit.
pub(super) fn read_unit<'a>(reading: &mut Reading<'a>) -> Option<Unit<'a>> {
    Some((reading.text()?, reading.text()?))
}
