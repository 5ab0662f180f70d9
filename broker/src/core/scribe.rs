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
    /// Of the generation, as events bear them.
    hashes: (Bytes, Bytes),
    time_ms: u64,
    /// Events written, by agency.
    written: BTreeMap<String, u64>,
    /// Drawn, and not used yet.
    salts: std::vec::IntoIter<[u8; 32]>,
}

impl<'a> Scribe<'a> {
    /// Nothing is written yet. Times in the log never go back, so the clock may be behind them.
    #[must_use]
    pub fn new(ledger: &'a Ledger, generation: Generation, now_ms: u64) -> Self {
        let hashes =
            [&generation.directory, &generation.policies].map(|hash| Bytes::copy_from_slice(hash)).into();
        let (time_ms, written) = (ledger.time_at(now_ms), BTreeMap::new());
        Self { ledger, generation, hashes, time_ms, written, salts: Vec::new().into_iter() }
    }

    /// Draws the salts of the next `events` at once: the system is asked once, not for each.
    pub fn draw(&mut self, events: usize, entropy: &mut dyn CryptoRng) {
        let mut salts = vec![[0; 32]; events];
        entropy.fill_bytes(salts.as_flattened_mut());
        self.salts = salts.into_iter();
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
        let size = self.ledger.log_size(&event.agency);
        let index = match self.written.get_mut(&event.agency) {
            Some(written) => {
                *written = written.saturating_add(1);
                size.saturating_add(*written).saturating_sub(1)
            }
            None => {
                self.written.insert(event.agency.clone(), 1);
                size
            }
        };
        let salt = self.salts.next().unwrap_or_else(|| {
            let mut salt = [0; 32];
            entropy.fill_bytes(&mut salt);
            salt
        });
        let (directory_hash, policy_set_hash) = self.hashes.clone();
        let event = AuditEvent { time_ms: self.time_ms, directory_hash, policy_set_hash, ..event };
        log_event(index, salt, &event)
    }

    /// The same, as it is stored outside of receipts.
    pub fn store(&mut self, event: AuditEvent, entropy: &mut dyn CryptoRng) -> StoredEvent {
        StoredEvent { agency: event.agency.clone(), event: Some(self.write(event, entropy)) }
    }
}
