//! The events of the journal's records, beside the published log: what is published stands there as the record has it.

use lintas_proto::{
    canonical, limits,
    receipt::Receipt,
    schema::{LoggedEvent, SignedReceipt, StoredAdmission, StoredEvent},
};

use super::{Finding, Findings, published::Published};
use crate::core::record::Fact;

/// Goes over the records, oldest first.
pub(super) struct Leaves<'a> {
    published: Published<'a>,
    /// How many logs have ended, by the ledger.
    number: u64,
    /// The records at hand are of the present log. Those of one that has ended may still lie before it.
    is_present: bool,
    /// Entries that were compared.
    compared: u64,
}

impl<'a> Leaves<'a> {
    pub(super) fn new(published: Published<'a>, number: u64) -> Self {
        Self { published, number, is_present: number == 0, compared: 0 }
    }

    /// Entries of sub-logs that a record vouches for.
    pub(super) fn compared(&self) -> u64 {
        self.compared
    }

    /// Compares one record.
    pub(super) fn record(&mut self, sequence: u64, fact: &Fact, found: &mut Findings) {
        match fact {
            Fact::Packet(_) | Fact::Taken(_) => {}
            Fact::LogBegun(begun) => self.is_present = begun.number == self.number,
            Fact::Admission(admission) => self.admission(sequence, admission, found),
            Fact::Outcome(outcome) => self.events(sequence, &outcome.events, found),
            Fact::Events(stored) => self.events(sequence, &stored.events, found),
            Fact::SlotKey(stored) => self.events(sequence, stored.event.as_slice(), found),
            Fact::Members(stored) => self.events(sequence, &stored.events, found),
            Fact::Erasure(stored) => {
                self.events(sequence, &stored.events, found);
                if self.is_published(sequence) {
                    for index in &stored.indices {
                        self.published.erased(&stored.agency, *index, sequence, found);
                    }
                }
            }
            Fact::Epoch(epoch) => {
                if self.is_published(sequence) {
                    self.published.epoch(epoch, sequence, found);
                }
            }
        }
    }

    fn is_published(&self, sequence: u64) -> bool {
        self.is_present
            && self.published.ended() == Some(self.number)
            && sequence <= self.published.sequence()
    }

    fn admission(&mut self, sequence: u64, admission: &StoredAdmission, found: &mut Findings) {
        let released = admission.recipients.iter().filter(|to| !to.receipt.is_empty());
        let receipts = released.map(|to| (&to.unit, &to.receipt));
        for (unit, receipt) in std::iter::once((&admission.originator, &admission.receipt)).chain(receipts) {
            let signed: Option<SignedReceipt> = canonical::decode(receipt, limits::FRAME_BYTES_MAX).ok();
            let receipt = signed.and_then(|signed| Receipt::parse(&signed.receipt).ok());
            let (Some((receipt, _)), Some(unit)) = (receipt, unit) else {
                let what = "a receipt of this record cannot be read";
                found.push(Finding::of("journal", what).record(sequence));
                continue;
            };
            // A receipt names its log; other records of an ended one stand before the first receipt of the present one.
            let suffix = format!(".log{}/audit/{}", self.number.saturating_add(1), unit.agency);
            self.is_present |= receipt.origin.ends_with(&suffix);
            for event in &receipt.events {
                self.event(sequence, &unit.agency, event, found);
            }
        }
    }

    fn events(&mut self, sequence: u64, events: &[StoredEvent], found: &mut Findings) {
        for StoredEvent { agency, event } in events {
            if let Some(event) = event {
                self.event(sequence, agency, event, found);
            }
        }
    }

    fn event(&mut self, sequence: u64, agency: &str, event: &LoggedEvent, found: &mut Findings) {
        if !self.is_present || self.published.ended() != Some(self.number) {
            return;
        }
        let is_in = event.index < self.published.size(agency);
        match (is_in, self.is_published(sequence)) {
            (true, true) => {
                self.compared = self.compared.saturating_add(1);
                self.published.event(agency, event, sequence, found);
            }
            (false, false) => {}
            (false, true) => {
                let what =
                    format!("the sub-log of {agency} ends before an event that was published by the mark");
                found.push(Finding::of("audit/published", what).entry(event.index).record(sequence));
            }
            (true, false) => {
                let what = format!("the sub-log of {agency} holds an event whose epoch has not ended");
                found.push(Finding::of("audit/published", what).entry(event.index).record(sequence));
            }
        }
    }
}
