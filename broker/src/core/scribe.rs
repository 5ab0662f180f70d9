//! The scribe: puts audit events at the ends of their sub-logs, in the time of the log, under the directory in force.

use std::collections::BTreeMap;

use bytes::Bytes;
use lintas_proto::{
    audit::leaf::log_event,
    id::Digest,
    schema::{AuditEvent, LoggedEvent, StoredEvent},
};
use rand_core::CryptoRng;

use super::ledger::Ledger;

/// Writes behind what the ledger holds, and behind what it has written itself.
#[derive(Debug)]
pub struct Scribe<'a> {
    ledger: &'a Ledger,
    directory_hash: Digest,
    time_ms: u64,
    /// Events written, by agency.
    written: BTreeMap<String, u64>,
}

impl<'a> Scribe<'a> {
    /// Nothing is written yet. Times in the log never go back, so the clock may be behind them.
    #[must_use]
    pub fn new(ledger: &'a Ledger, directory_hash: Digest, now_ms: u64) -> Self {
        Self { ledger, directory_hash, time_ms: ledger.time_at(now_ms), written: BTreeMap::new() }
    }

    /// The time of its events.
    #[must_use]
    pub fn time_ms(&self) -> u64 {
        self.time_ms
    }

    /// The next event of `event.agency`; time and directory are set here.
    pub fn write(&mut self, event: AuditEvent, entropy: &mut dyn CryptoRng) -> LoggedEvent {
        let written = self.written.entry(event.agency.clone()).or_default();
        let index = self.ledger.log_size(&event.agency).saturating_add(*written);
        *written = written.saturating_add(1);
        let mut salt = [0; 32];
        entropy.fill_bytes(&mut salt);
        let directory_hash = Bytes::copy_from_slice(&self.directory_hash);
        log_event(index, salt, &AuditEvent { time_ms: self.time_ms, directory_hash, ..event })
    }

    /// The same, as it is stored outside of receipts.
    pub fn store(&mut self, event: AuditEvent, entropy: &mut dyn CryptoRng) -> StoredEvent {
        StoredEvent { agency: event.agency.clone(), event: Some(self.write(event, entropy)) }
    }
}
