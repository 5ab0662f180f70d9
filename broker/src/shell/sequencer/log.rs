//! What the sequencer tells the audit log beside packets: members, keys, reads, erasures, epochs. The records are made in
//! [`core::events`](crate::core::events) and [`core::erase`](crate::core::erase); here is when.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use lintas_journal::{Class, Committed};
use lintas_proto::{
    canonical,
    id::PacketId,
    limits,
    schema::{ErasureOrder, Reason, SignedErasureOrder},
};
use tokio::sync::oneshot;

use super::{Fatal, Sequencer};
use crate::{
    core::{
        erase::Erasure,
        events,
        pace::Pace,
        record::Fact,
        rules::{Generation, Rules},
        scribe::Scribe,
    },
    shell::intake::{Denied, Intake},
};

/// How many slot keys one agency may bring at once, and how often one more, milliseconds.
const SLOT_KEYS: (u64, u64) = (4, 60 * 60 * 1_000);
/// How many reads of one auditor are logged at once, and how often one more, milliseconds.
const READS: (u64, u64) = (1_024, 1_000);
/// How many orders of erasure one agency may bring at once, and how often one more, milliseconds. One order names up to
/// 4,096 entries, and each may become an event.
const ERASURES: (u64, u64) = (32, 60_000);
/// Most reads told in one round.
const TOLD_MAX: usize = 256;
/// What is said when the journal has no room.
const DISK_FULL: &str =
    "The broker's disk is full; nothing was done. Try again later, and tell the region's operator.";

/// What the log was told, as far as the ledger does not say it.
#[derive(Debug)]
pub(in crate::shell) struct Logbook {
    /// When the present epoch ends by the clock; 0 before the first round.
    next_epoch_ms: u64,
    /// Rules of which members, keysets and policy bundles are in the ledger.
    told: Option<Generation>,
    slot_keys: Pace,
    reads: Pace,
    erasures: Pace,
    /// Reads of this epoch that are in the log: auditor and agency; first entry, the one behind the last, record.
    read: HashMap<(String, String), (u64, u64, u64)>,
}

impl Default for Logbook {
    fn default() -> Self {
        let [slot_keys, reads, erasures] =
            [SLOT_KEYS, READS, ERASURES].map(|(burst, every_ms)| Pace::new(burst, every_ms));
        Self { next_epoch_ms: 0, told: None, slot_keys, reads, erasures, read: HashMap::new() }
    }
}

impl Logbook {
    /// How long the present epoch lasts, milliseconds.
    pub(super) fn wait_ms(&self, now_ms: u64) -> u64 {
        self.next_epoch_ms.saturating_sub(now_ms)
    }

    /// Whether an epoch of `every_ms` ends now; then the next one begins. They end at multiples of their length, so that
    /// the cadence says nothing about the load.
    pub(in crate::shell) fn is_over(&mut self, every_ms: u64, now_ms: u64) -> bool {
        let every_ms = every_ms.max(1);
        // A clock that was set back, or shorter epochs, do not make it longer.
        if self.next_epoch_ms > now_ms && self.next_epoch_ms - now_ms <= every_ms {
            return false;
        }
        let first = self.next_epoch_ms == 0;
        self.next_epoch_ms = (now_ms / every_ms).saturating_add(1).saturating_mul(every_ms);
        !first
    }
}

impl Sequencer {
    /// Members, keysets and policy bundles of the rules in force. False when the journal has no room: then nothing may be
    /// logged for those who are new, and nothing that was decided by policies that are not told.
    pub(super) fn tell_rules(&mut self, rules: &Rules, now_ms: u64) -> Result<bool, Fatal> {
        let generation = rules.generation();
        if self.logbook.told == Some(generation) {
            return Ok(true);
        }
        let (shared, mut entropy) = (Arc::clone(&self.shared), lintas_config::os_entropy());
        let (version, known) = (generation.roster_version, shared.ledger().audit().roster_version());
        if version < known {
            tracing::error!(
                version,
                known,
                "the roster is older than the one that the journal knows; give the newest one"
            );
        }
        let members = events::members(&shared.ledger(), rules, now_ms, &mut entropy);
        if let Some(fact) = members
            && !self.commit_if_room(vec![fact], Class::Essential, now_ms, |_| {})?
        {
            tracing::error!("the disk is full, its reserve too; members of the new roster are served later");
            return Ok(false);
        }
        let policies = events::policies(&shared.ledger(), rules, now_ms, &mut entropy);
        if let Some(fact) = policies
            && !self.commit_if_room(vec![fact], Class::Essential, now_ms, |_| {})?
        {
            tracing::error!("the disk is full, its reserve too; nothing is released under new policies");
            return Ok(false);
        }
        let keysets = events::keysets(&shared.ledger(), rules, now_ms, &mut entropy);
        let told = match keysets {
            Some(fact) => self.commit_if_room(vec![fact], Class::Essential, now_ms, |_| {})?,
            None => true,
        };
        self.logbook.told = told.then_some(generation);
        Ok(true)
    }

    /// Slot keys, reads and erasures.
    pub(super) fn tell_others(
        &mut self,
        others: Vec<Intake>,
        rules: &Rules,
        now_ms: u64,
    ) -> Result<(), Fatal> {
        for other in others {
            match other {
                Intake::SlotKey { agency, key } => self.slot_key((&agency, &key), rules, now_ms)?,
                Intake::Read { auditor, agency, first_index, count, answer } => {
                    self.read((auditor, agency), (first_index, count), answer, rules, now_ms)?;
                }
                Intake::Erase { order, packets, answer } => {
                    self.erase((&order, packets), answer, rules, now_ms)?;
                }
                Intake::Submit(_) | Intake::Refuse(_) | Intake::End(_) | Intake::Deny(_) => {}
            }
        }
        Ok(())
    }

    /// Ends the epoch when it is time, with or without traffic. Reads whose time has come are told before.
    pub(super) fn end_epoch(&mut self, rules: &Rules, now_ms: u64) -> Result<(), Fatal> {
        if !self.logbook.is_over(rules.directory().roster().epoch_ms.into(), now_ms) {
            return Ok(());
        }
        self.logbook.read.clear();
        let shared = Arc::clone(&self.shared);
        let mut facts: Vec<Fact> = {
            let (ledger, mut entropy) = (shared.ledger(), lintas_config::os_entropy());
            let mut scribe = Scribe::new(&ledger, rules.generation(), now_ms);
            let due = ledger.audit().reads_to_tell(scribe.time_ms()).take(TOLD_MAX);
            due.map(|read| events::told(read, &mut scribe, &mut entropy)).collect()
        };
        facts.push(events::epoch(&shared.ledger(), rules, now_ms));
        let counted = Arc::clone(&shared);
        if !self.commit_if_room(facts, Class::Essential, now_ms, move |_| counted.metrics.epochs.add(1))? {
            tracing::error!("the disk is full, its reserve too; the epoch ends later");
        }
        Ok(())
    }

    fn slot_key(&mut self, key: (&str, &[u8; 32]), rules: &Rules, now_ms: u64) -> Result<(), Fatal> {
        let shared = Arc::clone(&self.shared);
        let fact = {
            let (ledger, mut entropy) = (shared.ledger(), lintas_config::os_entropy());
            let mut scribe = Scribe::new(&ledger, rules.generation(), now_ms);
            events::slot_key(key, &ledger, &mut scribe, &mut entropy)
        };
        let Some(fact) = fact else { return Ok(()) };
        if self.logbook.slot_keys.wait_ms(key.0, now_ms) > 0 {
            tracing::warn!(agency = key.0, "changes its slot key too often; the one before stays");
            return Ok(());
        }
        self.logbook.slot_keys.count(key.0, now_ms);
        // Without room the next hello brings it again.
        if self.commit_if_room(vec![fact], Class::Ordinary, now_ms, |_| {})? {
            shared.metrics.slot_keys.add(1);
        }
        Ok(())
    }

    fn read(
        &mut self,
        who: (String, String),
        (first, count): (u64, u64),
        answer: oneshot::Sender<Result<(), Denied>>,
        rules: &Rules,
        now_ms: u64,
    ) -> Result<(), Fatal> {
        let shared = Arc::clone(&self.shared);
        let (auditor, agency) = (who.0.as_str(), who.1.as_str());
        let end =
            first.checked_add(count).filter(|end| count > 0 && *end <= shared.ledger().log_size(agency));
        let Some(end) = end else {
            let text = "There are no such entries in the sub-log.".to_owned();
            reply(answer, Err((Reason::Malformed, text)));
            return Ok(());
        };
        if let Some((_, _, record)) =
            self.logbook.read.get(&who).filter(|(from, to, _)| *from <= first && end <= *to)
        {
            self.answer_when_durable(*record, answer);
            return Ok(());
        }
        let wait_ms = self.logbook.reads.wait_ms(auditor, now_ms);
        if wait_ms > 0 {
            let text =
                format!("Too many reads; the broker logs the next one in {} s.", wait_ms.div_ceil(1_000));
            reply(answer, Err((Reason::Quota, text)));
            return Ok(());
        }
        self.logbook.reads.count(auditor, now_ms);
        let fact = {
            let (ledger, mut entropy) = (shared.ledger(), lintas_config::os_entropy());
            let mut scribe = Scribe::new(&ledger, rules.generation(), now_ms);
            let days = rules.directory().roster().reads_told_after_days;
            events::read((auditor, agency), (first, count), days, &mut scribe, &mut entropy)
        };
        if !self.commit_if_room(vec![fact], Class::Ordinary, now_ms, |_| {})? {
            reply(answer, Err((Reason::DiskFull, DISK_FULL.to_owned())));
            return Ok(());
        }
        let record = self.last_sequence;
        // What touches what was read before in this epoch is one range from now on.
        let known = self.logbook.read.get(&who).filter(|(from, to, _)| *from <= end && first <= *to);
        let (from, to) = known.map_or((first, end), |(from, to, _)| (first.min(*from), end.max(*to)));
        self.logbook.read.insert(who, (from, to, record));
        self.answer_when_durable(record, answer);
        Ok(())
    }

    fn erase(
        &mut self,
        (signed, packets): (&SignedErasureOrder, Vec<PacketId>),
        answer: oneshot::Sender<Result<u64, Denied>>,
        rules: &Rules,
        now_ms: u64,
    ) -> Result<(), Fatal> {
        let order: Option<ErasureOrder> = canonical::decode(&signed.order, limits::ERASURE_BYTES_MAX).ok();
        let agency =
            order.as_ref().and_then(|order| order.origin.split_once("/audit/")).map(|(_, agency)| agency);
        let (Some(order), Some(agency)) = (&order, agency) else {
            reply(answer, Err((Reason::Malformed, "The broker could not read the order.".to_owned())));
            return Ok(());
        };
        let wait_ms = self.logbook.erasures.wait_ms(agency, now_ms);
        if wait_ms > 0 {
            let text = format!(
                "Too many orders of erasure; the broker takes the next one in {} s. One order may name 4,096 entries.",
                wait_ms.div_ceil(1_000)
            );
            reply(answer, Err((Reason::Quota, text)));
            return Ok(());
        }
        let (packets, shared): (BTreeSet<PacketId>, _) =
            (packets.into_iter().collect(), Arc::clone(&self.shared));
        let bytes = canonical::encode(signed);
        let erasure = Erasure { agency, indices: &order.indices, packets: &packets, order: &bytes };
        let (record, first_index) = {
            let (ledger, mut entropy) = (shared.ledger(), lintas_config::os_entropy());
            let mut scribe = Scribe::new(&ledger, rules.generation(), now_ms);
            (erasure.record(&ledger, &mut scribe, &mut entropy), ledger.log_size(agency))
        };
        let fact = match record {
            Ok(fact) => fact,
            Err(error) => {
                reply(answer, Err((Reason::Policy, error.to_string())));
                return Ok(());
            }
        };
        self.logbook.erasures.count(agency, now_ms);
        let (full, counted) = (Arc::new(std::sync::Mutex::new(Some(answer))), Arc::clone(&shared));
        let waiting = Arc::clone(&full);
        let done = move |_: Committed| {
            counted.metrics.erasures.add(1);
            take(&waiting).into_iter().for_each(|answer| reply(answer, Ok(first_index)));
        };
        if !self.commit_if_room(vec![fact], Class::Ordinary, now_ms, done)? {
            let denied = || Err((Reason::DiskFull, DISK_FULL.to_owned()));
            take(&full).into_iter().for_each(|answer| reply(answer, denied()));
        }
        Ok(())
    }

    /// The answer, as soon as that record is durable.
    fn answer_when_durable(&self, record: u64, answer: oneshot::Sender<Result<(), Denied>>) {
        let mut durable = self.shared.durable.subscribe();
        self.runtime.spawn(async move {
            if durable.wait_for(|durable| *durable >= record).await.is_ok() {
                reply(answer, Ok(()));
            }
        });
    }
}

/// Whoever asked may be gone.
fn reply<T>(answer: oneshot::Sender<Result<T, Denied>>, with: Result<T, Denied>) {
    let _ = answer.send(with);
}

fn take<T>(kept: &std::sync::Mutex<Option<T>>) -> Option<T> {
    kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
}
