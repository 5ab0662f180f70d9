//! The broker's records: as they are handed to the journal, and as they become durable.

use std::collections::BTreeSet;

use bytes::Bytes;
use lintas_broker::{
    core::{queue::Held, record::Fact},
    sim::SimBroker,
};
use lintas_journal::{NewRecord, Record};
use lintas_proto::{
    canonical,
    evidence::Evidence,
    id::{Digest, sha256},
    limits,
    receipt::Receipt,
    schema::{
        EventType, LoggedEvent, Outcome, Reason, SignedEvidence, SignedReceipt, StoredAdmission,
        StoredOutcome, StoredTaken,
    },
};

use super::{Admitted, Oracle, Unit, must, unit};
use crate::{
    Violation,
    region::{Region, index},
};

/// How far the broker's clock may be ahead and still be acted upon: a start takes a clock that is an hour off for right, and
/// honest clocks differ.
const AHEAD_MS: u64 = 2 * 60 * 60 * 1_000;

pub(super) fn fact(sequence: u64, record: &NewRecord) -> Result<Fact, Violation> {
    let record = Record { sequence, kind: record.kind, payload: record.payload.clone() };
    Fact::from_record(&record).map_err(|error| Violation(error.to_string()))
}

fn receipt(bytes: &Bytes) -> Receipt {
    let signed: SignedReceipt = canonical::decode(bytes, limits::RECEIPT_BYTES_MAX).unwrap();
    Receipt::parse(&signed.receipt).unwrap().0
}

fn kinds(receipt: &Receipt) -> Vec<EventType> {
    let kind = |event: &LoggedEvent| EventType::try_from(i32::from(event.leaf[1])).unwrap();
    receipt.events.iter().map(kind).collect()
}

fn time(event: &LoggedEvent) -> u64 {
    u64::from_be_bytes(event.leaf[2..10].try_into().unwrap())
}

/// The times that a record bears, in order.
fn times(fact: &Fact) -> Vec<u64> {
    let of = |events: &[lintas_proto::schema::StoredEvent]| -> Vec<u64> {
        events.iter().filter_map(|stored| stored.event.as_ref()).map(time).collect()
    };
    match fact {
        Fact::Packet(_) | Fact::Taken(_) => Vec::new(),
        Fact::Admission(admission) => {
            let receipts =
                admission.recipients.iter().map(|to| &to.receipt).filter(|bytes| !bytes.is_empty());
            let all = std::iter::once(&admission.receipt).chain(receipts).map(receipt);
            let all: Vec<u64> = all.flat_map(|one| one.events).map(|event| time(&event)).collect();
            [vec![admission.time_ms], all].concat()
        }
        Fact::Outcome(outcome) => of(&outcome.events),
        Fact::Events(stored) => of(&stored.events),
        Fact::Epoch(epoch) => vec![epoch.time_ms],
        Fact::Members(stored) => of(&stored.events),
        Fact::SlotKey(stored) => of(stored.event.as_slice()),
        Fact::Erasure(stored) => of(&stored.events),
        Fact::LogBegun(begun) => vec![begun.time_ms],
    }
}

impl Oracle {
    /// The broker has handed records to its journal, under these rules.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn handed(&mut self, records: Vec<(u64, NewRecord)>, region: &Region) -> Result<(), Violation> {
        for (sequence, record) in records {
            let next = self.archive.last_key_value().map_or(1, |(last, _)| last + 1);
            must(sequence == next, || format!("record {sequence} is handed in where {next} is next"))?;
            if let Fact::Admission(admission) = fact(sequence, &record)? {
                self.released_as_the_terms_say(&admission, region)?;
            }
            self.archive.insert(sequence, record);
        }
        Ok(())
    }

    fn released_as_the_terms_say(
        &self,
        admission: &StoredAdmission,
        region: &Region,
    ) -> Result<(), Violation> {
        let digest: Digest = admission.header_digest.as_ref().try_into().unwrap();
        for to in &admission.recipients {
            let (unit, released) = (to.unit.clone().unwrap(), !to.receipt.is_empty());
            let name = self.name(&digest);
            let may = self.may_go(&digest, &unit, region);
            must(may == Some(released), || {
                format!("{name}: released to {} is {released}, the terms say {may:?}", unit.agency)
            })?;
            must(region.is_active(index(&unit.agency)), || {
                format!("{name} is admitted for {}, which is suspended", unit.agency)
            })?;
        }
        Ok(())
    }

    /// The broker says how far its journal is durable.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn reached(&mut self, broker: &SimBroker) -> Result<(), Violation> {
        let (last, durable) = broker.reached();
        self.become_durable(durable)?;
        if last == durable {
            must(*broker.ledger() == self.shadow, || {
                "the broker's ledger is not the fold of its durable records".to_owned()
            })?;
        }
        Ok(())
    }

    pub(super) fn become_durable(&mut self, durable: u64) -> Result<(), Violation> {
        while self.durable < durable {
            let sequence = self.durable + 1;
            let record = self.archive.get(&sequence);
            let record = record.ok_or_else(|| Violation(format!("record {sequence} was never handed in")))?;
            let fact = fact(sequence, record)?;
            self.check(sequence, &fact)?;
            self.shadow.apply(sequence, &fact).map_err(|error| Violation(error.to_string()))?;
            let published = self.log.apply(sequence, &fact, self.salts.entropy());
            let published = published.map_err(|error| Violation(error.to_string()))?;
            self.epochs.extend(published.and_then(|publication| publication.end));
            self.durable = sequence;
        }
        Ok(())
    }

    fn check(&mut self, sequence: u64, fact: &Fact) -> Result<(), Violation> {
        for time_ms in times(fact) {
            must(time_ms >= self.time_ms, || format!("record {sequence}: time goes back"))?;
            let true_ms = self.true_ms;
            must(time_ms <= true_ms + AHEAD_MS, || {
                format!("record {sequence}: it is {true_ms}, and the log says {time_ms}")
            })?;
            self.time_ms = time_ms;
        }
        match fact {
            Fact::Admission(admission) => self.admit(sequence, admission),
            Fact::Outcome(outcome) => self.end(sequence, outcome),
            Fact::Taken(taken) => self.take(sequence, taken),
            Fact::Packet(_)
            | Fact::Events(_)
            | Fact::Epoch(_)
            | Fact::Members(_)
            | Fact::SlotKey(_)
            | Fact::Erasure(_)
            | Fact::LogBegun(_) => Ok(()),
        }
    }

    /// Each admission bears an event for the submission, one for each recipient, and the recipient's own.
    fn admit(&mut self, sequence: u64, admission: &StoredAdmission) -> Result<(), Violation> {
        let digest: Digest = admission.header_digest.as_ref().try_into().unwrap();
        let name = self.name(&digest);
        let told = kinds(&receipt(&admission.receipt));
        let whole = told.first() == Some(&EventType::Submitted)
            && told.len() == 1 + admission.recipients.len()
            && admission.recipients.iter().zip(&told[1..]).all(|(to, kind)| {
                let told = matches!(kind, EventType::Denied | EventType::NotAccepted);
                let received = || kinds(&receipt(&to.receipt)) == [EventType::Received];
                if to.receipt.is_empty() { told } else { *kind == EventType::Released && received() }
            });
        must(whole, || format!("record {sequence}: {name} is admitted without its events: {told:?}"))?;
        let released = admission.recipients.iter().filter(|to| !to.receipt.is_empty());
        let released: BTreeSet<Unit> = released.map(|to| unit(to.unit.as_ref().unwrap())).collect();
        let (receipt, deliver_by_ms) = (sha256(&[&admission.receipt]), admission.deliver_by_ms);
        let before = self.admitted.insert(digest, Admitted { sequence, receipt, deliver_by_ms, released });
        must(before.is_none(), || format!("record {sequence}: {name} is admitted twice"))
    }

    /// What a recipient has acknowledged is durable there.
    fn end(&mut self, sequence: u64, outcome: &StoredOutcome) -> Result<(), Violation> {
        let said = evidence(&outcome.evidence);
        let to = said.recipient.as_ref().unwrap();
        let before = self.ended.insert((said.header_digest, unit(to)), sha256(&[&outcome.evidence]));
        must(before.is_none(), || {
            format!("record {sequence}: {} ends at {} again", self.name(&said.header_digest), to.unit)
        })?;
        if said.actor.unit.is_empty() {
            let until_ms = self.admitted.get(&said.header_digest).map_or(0, |one| one.deliver_by_ms);
            let is_over = said.reason != Reason::Expired || until_ms <= self.true_ms + AHEAD_MS;
            return must(is_over, || {
                let name = self.name(&said.header_digest);
                format!("record {sequence}: {name} ends as expired, {} ms too soon", until_ms - self.true_ms)
            });
        }
        let by_policy = said.outcome != Outcome::Rejection || said.reason == Reason::Policy;
        must(by_policy, || {
            let name = self.name(&said.header_digest);
            format!("record {sequence}: {} rejects {name}: {}", said.actor.agency, said.reason.as_str_name())
        })?;
        let mailbox = &self.mailboxes[index(&said.actor.agency)];
        let key = (said.header_digest, said.actor.unit.clone());
        let kept = mailbox.inbox.iter().any(|kept| (kept.digest, kept.unit.clone()) == key);
        let answered = match said.outcome {
            Outcome::Acceptance => kept,
            Outcome::Rejection | Outcome::Failure | Outcome::Unspecified => {
                kept || mailbox.rejected.contains(&key)
            }
        };
        let name = self.name(&said.header_digest);
        must(answered, || {
            format!("record {sequence}: {} has acknowledged {name}, and does not have it", said.actor.agency)
        })
    }

    /// Evidence that an originator has taken is durable there.
    fn take(&self, sequence: u64, taken: &StoredTaken) -> Result<(), Violation> {
        let queue = self.shadow.queue(&taken.agency);
        let held = queue.and_then(|queue| queue.get(taken.queue_sequence)).map(|entry| entry.held);
        let Some(Held::Evidence { outcome, .. }) = held else {
            return Err(Violation(format!("record {sequence}: what is taken is no evidence")));
        };
        let Fact::Outcome(stored) = fact(outcome, &self.archive[&outcome])? else {
            return Err(Violation(format!("record {outcome} is no outcome")));
        };
        let digest = sha256(&[&stored.evidence]);
        let (believed, doubted) = &self.mailboxes[index(&taken.agency)].evidence;
        let has = believed.contains(&digest) || doubted.contains(&digest);
        let name = self.name(&evidence(&stored.evidence).header_digest);
        must(has, || {
            format!(
                "record {sequence}: {} has taken evidence about {name}, and does not have it",
                taken.agency
            )
        })
    }

    /// How far the broker says that its log is published.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn published(&mut self, broker: &SimBroker) -> Result<(), Violation> {
        let published = broker.published();
        let epochs = published.map_or(0, |state| state.epochs);
        must(epochs >= self.published, || {
            format!("the log was published up to epoch {}, and now up to {epochs}", self.published)
        })?;
        self.published = epochs;
        let Some(state) = published else { return Ok(()) };
        let folded = usize::try_from(epochs).ok().and_then(|epochs| self.epochs.get(epochs.checked_sub(1)?));
        must(folded == Some(state), || {
            format!("epoch {epochs} is published otherwise than the durable records say")
        })
    }
}

/// Evidence that the broker has verified or signed.
pub(super) fn evidence(bytes: &Bytes) -> Evidence {
    let signed: SignedEvidence = canonical::decode(bytes, limits::SIGNED_EVIDENCE_BYTES_MAX).unwrap();
    Evidence::parse(&signed.evidence).unwrap()
}
