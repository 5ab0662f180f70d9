//! The publisher, without its thread.

use lintas_journal::ReadError;
use lintas_proto::schema::PublishedLog;
use rand_core::CryptoRng;

use super::{SimBroker, Stopped, stopped};
use crate::{
    core::{
        log::{fold::LogFold, publication::Publication},
        record::Fact,
    },
    shell::log::{files::LogFiles, memory::Memory},
};

/// Bytes of the journal that are read at a time.
const RUN_BYTES_MAX: u32 = 16 * 1024;

/// The disk of the audit log.
#[derive(Debug, Clone, Default)]
pub struct AuditDisk(Memory);

impl AuditDisk {
    /// Power goes at the `count`-th change from now (1 is the next one).
    pub fn power_off_in(&self, count: u64) {
        self.0.fail_at(self.0.calls().saturating_add(count.saturating_sub(1)));
    }

    /// Starts again: after a power cut with what this seed keeps, otherwise with everything that was written.
    #[must_use]
    pub fn crash(&self, power_cut: Option<u64>) -> Self {
        match power_cut {
            Some(seed) => Self(self.0.after_power_cut(seed)),
            None => Self(self.0.after_kill()),
        }
    }
}

#[derive(Debug)]
pub(super) struct Publishing {
    files: LogFiles<Memory>,
    fold: LogFold,
    /// The record to read next.
    next: u64,
}

impl Publishing {
    pub(super) fn open(disk: &AuditDisk, broker: &str, durable: u64) -> Result<Self, Stopped> {
        let (files, fold) = LogFiles::resume(disk.0.clone(), broker).map_err(stopped)?;
        let published = files.published().map_or(0, |state| state.sequence);
        if published > durable {
            let what = format!("the journal ends at record {durable}, and {published} was published");
            return Err(Stopped(what));
        }
        Ok(Self { files, fold, next: published.saturating_add(1) })
    }

    pub(super) fn published(&self) -> Option<&PublishedLog> {
        self.files.published()
    }

    fn publish(&mut self, publication: Option<Publication>) -> Result<(), Stopped> {
        publication.map_or(Ok(()), |publication| self.files.publish(publication).map_err(stopped))
    }
}

impl SimBroker {
    /// Publishes what is durable.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn publish(&mut self, entropy: &mut dyn CryptoRng) -> Result<(), Stopped> {
        while self.publishing.next <= self.durable {
            let fresh = self.fresh.take(self.publishing.next, self.durable);
            for (sequence, events) in &fresh {
                let fold = &mut self.publishing.fold;
                let publication = fold.apply_events(*sequence, events, entropy).map_err(stopped)?;
                self.publishing.publish(publication)?;
                self.publishing.next = sequence.saturating_add(1);
            }
            if fresh.is_empty() {
                self.read_on(self.fresh.read_until(self.durable), entropy)?;
            }
        }
        Ok(())
    }

    fn read_on(&mut self, last: u64, entropy: &mut dyn CryptoRng) -> Result<(), Stopped> {
        let next = self.publishing.next;
        let records = match self.reader.read_run(next, last, RUN_BYTES_MAX) {
            Ok(records) => records,
            Err(ReadError::NotFound { .. }) if self.ledger.spent().contains(next, u64::MAX) => Vec::new(),
            Err(error) => return Err(stopped(error)),
        };
        if records.is_empty() {
            self.publishing.next = next.saturating_add(1);
        }
        for record in records {
            let fact = Fact::from_record(&record).map_err(stopped)?;
            let (at, fold) = (self.publishing.next, &mut self.publishing.fold);
            let publication = fold.apply(at, &fact, entropy).map_err(stopped)?;
            self.publishing.publish(publication)?;
            self.publishing.next = at.saturating_add(1);
        }
        Ok(())
    }
}
