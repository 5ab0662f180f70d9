//! From the journal's records to what is published.

use std::collections::{BTreeMap, BTreeSet};

use lintas_proto::{
    audit::{
        epoch::{RootEntry, slot, slot_salt, slots_root},
        files::LogFile,
        leaf::open_event,
        note::{log_name, root_origin},
        opening::{ERASED, KEY_BYTES},
        tile::WIDTH,
    },
    canonical::{self, fixed},
    id::{Digest, check_code},
    limits,
    receipt::{Receipt, ReceiptError, sub_log_origin},
    schema::{
        LoggedEvent, PublishedLog, SignedReceipt, StoredAdmission, StoredEpoch, StoredErasure, StoredEvent,
        StoredMembers, StoredSlotKey,
    },
};
use rand_core::CryptoRng;

use super::{
    LogError,
    entries::Entries,
    publication::{Appended, Publication, Target, Write},
    sub_log::SubLog,
};
use crate::core::record::Fact;

/// Events after which a part of an epoch is given out before its end, so that no epoch is held whole. Tests are to get
/// there.
const PART_EVENTS_MAX: usize = if cfg!(test) { 300 } else { 8_192 };

/// The log as far as the records were folded in.
#[derive(Debug, Clone)]
pub struct LogFold {
    pub(super) broker: String,
    /// How many logs have ended.
    pub(super) ended: u64,
    pub(super) root: Entries,
    pub(super) slots: Appended,
    pub(super) rosters: Appended,
    pub(super) roster_version: u64,
    /// Who has the slots, in the roster's order.
    pub(super) members: Vec<String>,
    pub(super) members_changed: bool,
    pub(super) sub_logs: BTreeMap<String, SubLog>,
    /// When the last epoch ended.
    pub(super) epoch_ms: u64,
    /// Highest time of an event or epoch.
    pub(super) latest_ms: u64,
    /// What was not given out yet.
    out: Publication,
    out_events: usize,
    /// Openings to be forgotten.
    erased: BTreeSet<(String, u64)>,
}

impl LogFold {
    /// An empty log of a broker of which so many have ended.
    #[must_use]
    pub fn new(broker: &str, ended: u64) -> Self {
        Self {
            broker: broker.to_owned(),
            ended,
            root: Entries::default(),
            slots: Appended::default(),
            rosters: Appended::default(),
            roster_version: 0,
            members: Vec::new(),
            members_changed: false,
            sub_logs: BTreeMap::new(),
            epoch_ms: 0,
            latest_ms: 0,
            out: Publication::default(),
            out_events: 0,
            erased: BTreeSet::new(),
        }
    }

    /// Folds one record in. Gives what is to be published now: at the end of an epoch, or a part of one that is long.
    ///
    /// # Errors
    /// [`LogError`]; the fold is not to be used then.
    pub fn apply(
        &mut self,
        sequence: u64,
        fact: &Fact,
        entropy: &mut dyn CryptoRng,
    ) -> Result<Option<Publication>, LogError> {
        let mut at = Record { sequence, entropy };
        match fact {
            Fact::Packet(_) | Fact::Taken(_) => return Ok(None),
            Fact::Admission(admission) => self.admission(&mut at, admission)?,
            Fact::Outcome(outcome) => self.events(&mut at, &outcome.events)?,
            Fact::Events(stored) => self.events(&mut at, &stored.events)?,
            Fact::SlotKey(stored) => self.slot_key(&mut at, stored)?,
            Fact::Members(stored) => self.members(&mut at, stored)?,
            Fact::Erasure(stored) => self.erasure(&mut at, stored)?,
            Fact::LogBegun(begun) => {
                if begun.number <= self.ended {
                    return Err(at.contradiction("the log that ends has ended before"));
                }
                *self = Self::new(&self.broker, begun.number);
            }
            Fact::Epoch(epoch) => return self.epoch(&at, epoch).map(Some),
        }
        Ok((self.out_events >= PART_EVENTS_MAX).then(|| self.give()))
    }

    /// As [`apply`](Self::apply), of a record that was written just now: these are the events that it holds, in their order, by
    /// whoever put them there. They were sealed into their leaves by the same process, so they are not opened again.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn apply_events(
        &mut self,
        sequence: u64,
        events: &[StoredEvent],
        entropy: &mut dyn CryptoRng,
    ) -> Result<Option<Publication>, LogError> {
        let mut at = Record { sequence, entropy };
        for stored in events {
            let event = stored.event.as_ref().ok_or_else(|| at.contradiction("an event is missing"))?;
            self.event(&mut at, &stored.agency, event)?;
        }
        Ok((self.out_events >= PART_EVENTS_MAX).then(|| self.give()))
    }

    /// Name of the root log: `<log>/audit`.
    #[must_use]
    pub fn root_origin(&self) -> String {
        root_origin(&self.log_name())
    }

    fn log_name(&self) -> String {
        log_name(&self.broker, usize::try_from(self.ended).unwrap_or(usize::MAX))
    }

    fn admission(&mut self, at: &mut Record<'_>, admission: &StoredAdmission) -> Result<(), LogError> {
        let released = admission.recipients.iter().filter(|to| !to.receipt.is_empty());
        let recipients = released.map(|to| (&to.unit, &to.receipt));
        for (unit, receipt) in std::iter::once((&admission.originator, &admission.receipt)).chain(recipients)
        {
            let sequence = at.sequence;
            let wrong = |error| LogError::Receipt { sequence, error };
            let agency = &unit.as_ref().ok_or_else(|| at.contradiction("a unit is missing"))?.agency;
            let signed: SignedReceipt =
                canonical::decode(receipt, limits::FRAME_BYTES_MAX).map_err(|error| wrong(error.into()))?;
            let (receipt, _) = Receipt::parse(&signed.receipt).map_err(wrong)?;
            if receipt.origin != sub_log_origin(&self.log_name(), agency) {
                return Err(wrong(ReceiptError::Field("origin")));
            }
            for event in &receipt.events {
                self.event(at, agency, event)?;
            }
        }
        Ok(())
    }

    fn events(&mut self, at: &mut Record<'_>, events: &[StoredEvent]) -> Result<(), LogError> {
        for stored in events {
            let event = stored.event.as_ref().ok_or_else(|| at.contradiction("an event is missing"))?;
            if !open_event(event).is_ok_and(|opened| opened.agency == stored.agency) {
                return Err(at.contradiction("an event does not open its leaf"));
            }
            self.event(at, &stored.agency, event)?;
        }
        Ok(())
    }

    /// One event, at the place where the one before it ends.
    fn event(&mut self, at: &mut Record<'_>, agency: &str, event: &LoggedEvent) -> Result<(), LogError> {
        let time = event.leaf.get(2..10).and_then(|time| time.try_into().ok()).map(u64::from_be_bytes);
        let time = time.ok_or_else(|| at.contradiction("a leaf has another length"))?;
        if time < self.epoch_ms {
            return Err(at.contradiction("an event is older than the epoch before it"));
        }
        self.latest_ms = self.latest_ms.max(time);
        let log = match self.sub_logs.get_mut(agency) {
            Some(log) => log,
            None => self.sub_logs.entry(agency.to_owned()).or_default(),
        };
        let (expected, found, sequence) = (log.size(), event.index, at.sequence);
        if expected != found {
            return Err(LogError::Gap { sequence, agency: agency.to_owned(), expected, found });
        }
        let sealed = log.push(event, &target(self.ended, agency), &mut self.out, at.entropy);
        self.out_events += 1;
        if sealed { Ok(()) } else { Err(at.contradiction("an event cannot be sealed")) }
    }

    fn slot_key(&mut self, at: &mut Record<'_>, stored: &StoredSlotKey) -> Result<(), LogError> {
        let key = fixed("key", &stored.key).map_err(|_| at.contradiction("a slot key is none"))?;
        self.events(at, stored.event.as_slice())?;
        self.agency(at, &stored.agency)?.slot_key = key;
        Ok(())
    }

    fn members(&mut self, at: &mut Record<'_>, stored: &StoredMembers) -> Result<(), LogError> {
        self.events(at, &stored.events)?;
        for agency in &stored.agencies {
            self.agency(at, agency)?;
        }
        self.members_changed |= self.roster_version != stored.roster_version;
        (self.roster_version, self.members) = (stored.roster_version, stored.agencies.clone());
        Ok(())
    }

    fn erasure(&mut self, at: &mut Record<'_>, stored: &StoredErasure) -> Result<(), LogError> {
        let size = self.agency(at, &stored.agency)?.size();
        if stored.indices.iter().any(|index| *index >= size) {
            return Err(at.contradiction("what is to be erased is not there"));
        }
        self.erased.extend(stored.indices.iter().map(|index| (stored.agency.clone(), *index)));
        self.events(at, &stored.events)
    }

    /// An agency's sub-log. Its name becomes a folder's.
    fn agency(&mut self, at: &Record<'_>, agency: &str) -> Result<&mut SubLog, LogError> {
        check_code(agency).map_err(|_| at.contradiction("an agency's code is none"))?;
        Ok(self.sub_logs.entry(agency.to_owned()).or_default())
    }

    fn epoch(&mut self, at: &Record<'_>, stored: &StoredEpoch) -> Result<Publication, LogError> {
        if stored.epoch != self.root.size() {
            return Err(at.contradiction("an epoch has another number"));
        }
        if stored.time_ms < self.latest_ms {
            return Err(at.contradiction("an epoch ends before what it holds"));
        }
        if self.members.is_empty() {
            return Err(at.contradiction("an epoch ends before there are members"));
        }
        for (agency, log) in &mut self.sub_logs {
            log.finish(stored.epoch, &target(self.ended, agency), &mut self.out);
        }
        let slots = self.slots(stored.epoch);
        let count = u32::try_from(slots.len()).map_err(|_| at.contradiction("there are too many members"))?;
        let policy_set_hash = match stored.policy_set_hash.is_empty() {
            true => Digest::default(),
            false => fixed("policy_set_hash", &stored.policy_set_hash)
                .map_err(|_| at.contradiction("an epoch's policy hash is none"))?,
        };
        let entry = RootEntry {
            epoch: stored.epoch,
            time_ms: stored.time_ms,
            directory_hash: fixed("directory_hash", &stored.directory_hash)
                .map_err(|_| at.contradiction("an epoch's directory hash is none"))?,
            policy_set_hash,
            slots: count,
            slots_root: slots_root(&slots),
        };
        let target = root_target(self.ended);
        if self.members_changed {
            self.rosters.put(&[&stored.epoch.to_be_bytes(), &self.roster_version.to_be_bytes()]);
            self.rosters.give(|| target(LogFile::Rosters), &mut self.out.tiles);
            self.members_changed = false;
        }
        if stored.epoch.is_multiple_of(WIDTH) {
            self.slots.at = 0;
        }
        self.slots.put(&[&count.to_be_bytes(), slots.as_flattened()]);
        self.slots.give(|| target(LogFile::Slots(stored.epoch / WIDTH)), &mut self.out.tiles);
        self.root.push(&entry.to_bytes(), &target, &mut self.out);
        self.root.finish(&target, &mut self.out);
        (self.epoch_ms, self.latest_ms) = (stored.time_ms, stored.time_ms);
        self.out.end = Some(self.state(at.sequence));
        Ok(self.give())
    }

    /// One slot for each member, in the roster's order.
    pub(super) fn slots(&self, epoch: u64) -> Vec<Digest> {
        let (origin, nothing) = (self.root_origin(), SubLog::default());
        let one = |(index, agency): (u32, &String)| {
            let log = self.sub_logs.get(agency).unwrap_or(&nothing);
            slot(&slot_salt(&log.slot_key, &origin, epoch), index, log.size(), &log.root())
        };
        (0..).zip(&self.members).map(one).collect()
    }

    /// How far the log is published when what was given out so far is durable.
    fn state(&self, sequence: u64) -> PublishedLog {
        PublishedLog {
            ended: self.ended,
            sequence,
            epochs: self.root.size(),
            root: self.root.root().to_vec().into(),
            time_ms: self.epoch_ms,
            roster_version: self.roster_version,
            members: self.members.clone(),
            sub_logs: self.sub_logs.iter().map(|(agency, log)| log.state(agency)).collect(),
            rosters_bytes: self.rosters.at,
            slots_bytes: self.slots.at,
        }
    }

    /// What was not given out yet.
    fn give(&mut self) -> Publication {
        for (agency, log) in &mut self.sub_logs {
            log.flush(&target(self.ended, agency), &mut self.out);
        }
        self.out_events = 0;
        let mut out = std::mem::take(&mut self.out);
        for (agency, index) in std::mem::take(&mut self.erased) {
            forget(&mut out.contents, target(self.ended, &agency)(LogFile::Keys(index / WIDTH)), index);
        }
        out
    }
}

/// Puts zeros in place of the key of entry `index`: where it is about to be written, or where it was.
fn forget(contents: &mut Vec<(Target, Write)>, keys: Target, index: u64) {
    let at = index % WIDTH * KEY_BYTES as u64;
    for (target, write) in contents.iter_mut().rev() {
        let Write::Append { at: from, bytes } = write else { continue };
        let within = at.checked_sub(*from).and_then(|within| usize::try_from(within).ok());
        let key =
            within.filter(|_| *target == keys).and_then(|within| bytes.get_mut(within..within + KEY_BYTES));
        if let Some(key) = key {
            key.copy_from_slice(&ERASED);
            return;
        }
    }
    contents.push((keys, Write::Overwrite { at, bytes: ERASED.to_vec() }));
}

/// Names a sub-log's files.
pub(super) fn target(ended: u64, agency: &str) -> impl Fn(LogFile) -> Target {
    move |file| Target { ended, agency: Some(agency.to_owned()), file }
}

/// Names the root log's files.
pub(super) fn root_target(ended: u64) -> impl Fn(LogFile) -> Target {
    move |file| Target { ended, agency: None, file }
}

/// The record that is folded in.
struct Record<'a> {
    sequence: u64,
    entropy: &'a mut dyn CryptoRng,
}

impl Record<'_> {
    fn contradiction(&self, what: &'static str) -> LogError {
        LogError::Contradiction { sequence: self.sequence, what }
    }
}
