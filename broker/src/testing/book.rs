//! What a sequencer does, without thread or journal.

use lintas_config::os_entropy;
use lintas_proto::{envelope::seal::Sealed, id::Digest};

use super::World;
use crate::core::{
    ledger::{Ended, Ledger},
    outcome::{self, How},
    plan::{Plan, Sealed as Group, Verdict},
    quota::Quota,
    record::{Fact, RecordError},
};

/// Room in the queues of tests.
pub(crate) const QUEUE_ENTRIES_MAX: u32 = 1_000;

/// A ledger together with the records that made it.
#[derive(Default)]
pub(crate) struct Book {
    pub(crate) ledger: Ledger,
    pub(crate) facts: Vec<Fact>,
    pub(crate) now_ms: u64,
}

impl Book {
    pub(crate) fn at(now_ms: u64) -> Self {
        Self { now_ms, ..Self::default() }
    }

    /// Sequence of the last record.
    pub(crate) fn last(&self) -> u64 {
        self.facts.len() as u64
    }

    pub(crate) fn apply(&mut self, fact: Fact) -> Result<Option<Ended>, RecordError> {
        let sequence = self.last() + 1;
        let ended = self.ledger.apply(sequence, &fact)?;
        self.facts.push(fact);
        Ok(ended)
    }

    /// One group of submissions, planned, sealed and folded in.
    pub(crate) fn submit(&mut self, world: &World, packets: &[&Sealed]) -> (Vec<Verdict>, Group) {
        self.submit_with(world, packets, |_| true)
    }

    pub(crate) fn submit_with(
        &mut self,
        world: &World,
        packets: &[&Sealed],
        has_blob: impl Fn(&Digest) -> bool,
    ) -> (Vec<Verdict>, Group) {
        let speaker = world.speaker();
        let mut quota = Quota::new(0, QUEUE_ENTRIES_MAX);
        let mut plan = Plan::new(&self.ledger, &speaker, &world.rules, self.now_ms, &mut quota);
        let verdict =
            |packet: &&Sealed| plan.submit(world.admit(packet).unwrap(), &has_blob, &mut os_entropy());
        let verdicts: Vec<Verdict> = packets.iter().map(verdict).collect();
        let group = plan.finish().seal(&world.receipt_key).unwrap();
        for fact in group.facts.clone() {
            self.apply(fact).unwrap();
        }
        (verdicts, group)
    }

    /// Ends one queue entry, as the sequencer does.
    pub(crate) fn end(&mut self, world: &World, agency: &str, number: u64, how: &How) -> Option<Ended> {
        let fact = outcome::end(
            (agency, number),
            how,
            &self.ledger,
            &world.speaker(),
            self.now_ms,
            &mut os_entropy(),
        );
        self.apply(fact.unwrap().unwrap()).unwrap()
    }
}
