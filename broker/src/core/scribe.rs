//! The scribe: puts audit events at the ends of their sub-logs, in the time of the log, under the rules in force.

use std::collections::BTreeMap;

use bytes::Bytes;
use lintas_proto::{
    audit::leaf::log_event,
    schema::{AuditEvent, LoggedEvent, StoredEvent},
};
use rand_core::CryptoRng;

use super::{ledger::Ledger, rules::Generation};

/// Writes behind what the ledger holds, and behind what it has written itself.
#[derive(Debug)]
pub struct Scribe<'a> {
    ledger: &'a Ledger,
    generation: Generation,
    time_ms: u64,
    /// Events written, by agency.
    written: BTreeMap<String, u64>,
}

impl<'a> Scribe<'a> {
    /// Nothing is written yet. Times in the log never go back, so the clock may be behind them.
    #[must_use]
    pub fn new(ledger: &'a Ledger, generation: Generation, now_ms: u64) -> Self {
        Self { ledger, generation, time_ms: ledger.time_at(now_ms), written: BTreeMap::new() }
    }

    /// The time of its events.
    #[must_use]
    pub fn time_ms(&self) -> u64 {
        self.time_ms
    }

    /// The rules of its events.
    #[must_use]
    pub fn generation(&self) -> &Generation {
        &self.generation
    }

    /// The next event of `event.agency`; time and rules are set here.
    pub fn write(&mut self, event: AuditEvent, entropy: &mut dyn CryptoRng) -> LoggedEvent {
        let written = self.written.entry(event.agency.clone()).or_default();
        let index = self.ledger.log_size(&event.agency).saturating_add(*written);
        *written = written.saturating_add(1);
        let mut salt = [0; 32];
        entropy.fill_bytes(&mut salt);
        let directory_hash = Bytes::copy_from_slice(&self.generation.directory);
        let policy_set_hash = Bytes::copy_from_slice(&self.generation.policies);
        let event = AuditEvent { time_ms: self.time_ms, directory_hash, policy_set_hash, ..event };
        log_event(index, salt, &event)
    }

    /// The same, as it is stored outside of receipts.
    pub fn store(&mut self, event: AuditEvent, entropy: &mut dyn CryptoRng) -> StoredEvent {
        StoredEvent { agency: event.agency.clone(), event: Some(self.write(event, entropy)) }
    }
}
