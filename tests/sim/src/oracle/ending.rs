//! When everything has healed.

use lintas_broker::{
    core::{ledger::Ledger, snapshot},
    sim::SimBroker,
};
use lintas_node::sim::{Became, Said, SimNode};

use super::{Oracle, must, records::fact, unit};
use crate::{Violation, region::AGENCIES};

/// Longest snapshot of a broker at rest, bytes, however much went through it: the members, and what is spent.
const REST_BYTES_MAX: usize = 4 * 1024;
/// Most segments of a journal at rest.
const REST_SEGMENTS_MAX: u64 = 3;

impl Oracle {
    /// Whether the broker owes nobody anything.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.shadow.entries() == 0
    }

    /// Packets that have no final answer, with their originators.
    #[must_use]
    pub fn unanswered(&self) -> Vec<(usize, u64)> {
        let all = self.mailboxes.iter().enumerate();
        all.flat_map(|(agency, mailbox)| {
            let waiting = mailbox.outbox.values().filter(|own| own.said == Said::Nothing);
            waiting.map(move |own| (agency, own.created_ms))
        })
        .collect()
    }

    /// Nothing is under way: each packet is delivered, or ended with a reason that its originator has.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn at_rest(&self, broker: &SimBroker) -> Result<(), Violation> {
        must(self.doubted() == 0, || format!("{} pieces of evidence are doubted for ever", self.doubted()))?;
        must(self.is_drained(), || format!("{} entries are left in the queues", self.shadow.entries()))?;
        for (agency, mailbox) in self.mailboxes.iter().enumerate() {
            for own in mailbox.outbox.values() {
                let name = self.name(&own.digest);
                must(own.said != Said::Nothing, || format!("{name} of {} has no answer", AGENCIES[agency]))?;
            }
        }
        for (digest, admitted) in &self.admitted {
            let (packet, name) = (&self.packets[digest], self.name(digest));
            let own = &self.mailboxes[packet.from].outbox[digest];
            for (to, became) in &own.became {
                if !admitted.released.contains(&unit(to)) {
                    continue;
                }
                let inbox = &self.mailboxes[crate::region::index(&to.agency)].inbox;
                let has = inbox.iter().any(|kept| kept.digest == *digest && kept.unit == to.unit);
                let what = || format!("{name} at {}: {became:?}, in its inbox: {has}", to.unit);
                let knows = match became {
                    Became::Failed { .. } => true,
                    Became::Delivered => has,
                    Became::Pending | Became::Denied => false,
                };
                must(knows, what)?;
            }
        }
        self.fold_from_scratch(broker)
    }

    /// How much evidence is kept that its originator does not believe: it came while the directory or the clock there was not
    /// that of whoever signed.
    #[must_use]
    pub fn doubted(&self) -> usize {
        self.mailboxes.iter().map(|mailbox| mailbox.evidence.1.len()).sum()
    }

    /// The ledger is what a fold over all records gives, and what its snapshot gives back.
    fn fold_from_scratch(&self, broker: &SimBroker) -> Result<(), Violation> {
        let mut scratch = Ledger::default();
        for (sequence, record) in &self.archive {
            let folded = scratch.apply(*sequence, &fact(*sequence, record)?);
            folded.map_err(|error| Violation(error.to_string()))?;
        }
        must(scratch == *broker.ledger(), || "the ledger is not the fold of all records".to_owned())?;
        let again = snapshot::decode(&snapshot::encode(&scratch));
        let again = again.map_err(|error| Violation(error.to_string()))?;
        must(again == scratch, || "a snapshot gives another ledger back".to_owned())
    }

    /// Time went on until every packet id may be forgotten, and the journal was compacted: nothing is kept of what has ended.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn is_forgotten(&self, broker: &SimBroker) -> Result<(), Violation> {
        let bytes = snapshot::encode(broker.ledger()).len();
        must(bytes <= REST_BYTES_MAX, || format!("a ledger at rest is {bytes} bytes long"))?;
        let published = broker.published().map_or(0, |state| state.sequence);
        let needed = (1..=published).find(|sequence| !broker.ledger().spent().contains(*sequence, published));
        must(needed.is_none(), || format!("record {needed:?} is still needed, and all has ended"))?;
        let segments = broker.segments();
        must(segments <= REST_SEGMENTS_MAX, || format!("a journal at rest has {segments} segments"))
    }

    /// Nothing of what has ended is remembered for what is to be sent.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn node_at_rest(&self, agency: usize, node: &SimNode) -> Result<(), Violation> {
        let receipts = node.receipts().map_err(|stopped| Violation(stopped.0))?;
        for (digest, receipt) in receipts {
            let same = self.admitted.get(&digest).is_some_and(|admitted| admitted.receipt == receipt);
            must(same, || {
                format!("the receipt for {} is not the one in the broker's records", self.name(&digest))
            })?;
        }
        let load = node.under_way();
        must(load == 0, || format!("{} remembers {load} packets that are not to be sent", AGENCIES[agency]))
    }
}
