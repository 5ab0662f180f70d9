//! A broker that came back from its disks.

use lintas_broker::{core::record::Fact, sim::SimBroker};

use super::{Oracle, must, records::fact};
use crate::Violation;

impl Oracle {
    /// Everything that was durable is there, in the same bytes; what was not is there from the front, or not.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn broker_recovered(&mut self, broker: &SimBroker) -> Result<(), Violation> {
        let (last, durable) = broker.reached();
        must(last == durable, || "a broker begins with records that are not durable".to_owned())?;
        must(durable >= self.durable, || {
            format!("record {} was durable, and the journal ends at {durable}", self.durable)
        })?;
        self.archive.retain(|sequence, _| *sequence <= durable);
        // What was lost with the power gives its numbers to what comes after.
        self.suspended.values_mut().for_each(|last| *last = (*last).min(durable));
        self.become_durable(durable)?;
        must(*broker.ledger() == self.shadow, || {
            "the recovered ledger is not the fold of the records that were written".to_owned()
        })?;
        self.same_records(broker)?;
        self.published(broker)
    }

    /// Whatever the journal still holds is what was written; what has gone was needed by nobody.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn same_records(&self, broker: &SimBroker) -> Result<(), Violation> {
        for (sequence, written) in self.archive.range(..=self.durable) {
            let found = broker.record(*sequence);
            match found.map_err(|stopped| Violation(format!("record {sequence}: {}", stopped.0)))? {
                Some(found) => must(found.kind == written.kind && found.payload == written.payload, || {
                    format!("record {sequence} is not what was written")
                })?,
                None => {
                    let published = self.epochs.get(usize::try_from(self.published).unwrap().wrapping_sub(1));
                    let published = published.map_or(0, |state| state.sequence);
                    // What bears nothing for the log may go at once; later the ledger no longer tells it from the rest.
                    let at_once = matches!(fact(*sequence, written)?, Fact::Packet(_) | Fact::Taken(_));
                    let published = if at_once { u64::MAX } else { published };
                    must(self.shadow.spent().contains(*sequence, published), || {
                        format!("record {sequence} has gone, and somebody needs it")
                    })?;
                }
            }
        }
        Ok(())
    }
}
