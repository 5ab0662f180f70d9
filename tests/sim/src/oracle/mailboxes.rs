//! What the nodes keep.

use std::collections::{BTreeMap, BTreeSet};

use lintas_node::sim::{Kept, Own, Said, Sent, SimNode};
use lintas_proto::schema::{Reason, UnitRef};

use super::{Oracle, must, unit};
use crate::{Violation, region::AGENCIES};

impl Oracle {
    /// A node has done something: what it has now is durable there.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn node_acted(&mut self, agency: usize, node: &SimNode) -> Result<(), Violation> {
        let inbox = node.inbox();
        let before = self.mailboxes[agency].inbox.len();
        must(inbox.starts_with(&self.mailboxes[agency].inbox), || {
            format!("{}: its inbox has changed", AGENCIES[agency])
        })?;
        for at in before..inbox.len() {
            self.arrived(agency, &inbox[at], &inbox[..at])?;
        }
        let outbox = node.outbox().into_iter().map(|own| (own.digest, own)).collect();
        self.sent(agency, &outbox)?;
        must(node.broken_promises() == 0, || {
            format!("{} holds two receipts that promise one place of the log to two events", AGENCIES[agency])
        })?;
        let mailbox = &mut self.mailboxes[agency];
        mailbox.rejected.extend(node.rejected());
        (mailbox.inbox, mailbox.outbox, mailbox.evidence) = (inbox, outbox, node.evidence());
        Ok(())
    }

    /// A packet came into an inbox: it is for this unit, once, and not before one that was admitted earlier.
    fn arrived(&self, agency: usize, kept: &Kept, before: &[Kept]) -> Result<(), Violation> {
        let (name, whom) = (self.name(&kept.digest), AGENCIES[agency]);
        let to = UnitRef { agency: whom.to_owned(), unit: kept.unit.clone() };
        let admitted = self.admitted.get(&kept.digest).filter(|one| one.released.contains(&unit(&to)));
        let admitted = admitted.ok_or_else(|| {
            Violation(format!("{whom} has {name}, which was not released to {}", kept.unit))
        })?;
        let same = |other: &&Kept| other.digest == kept.digest && other.unit == kept.unit;
        must(before.iter().find(same).is_none(), || format!("{whom} has {name} twice"))?;
        let mailbox = &self.mailboxes[agency];
        if admitted.sequence <= mailbox.excused
            || mailbox.rejected.contains(&(kept.digest, kept.unit.clone()))
        {
            return Ok(());
        }
        let overtaken = before
            .iter()
            .filter(|other| other.unit == kept.unit && other.originator.agency == kept.originator.agency);
        for other in overtaken {
            let sequence = self.admitted.get(&other.digest).map_or(0, |other| other.sequence);
            must(sequence < admitted.sequence, || {
                format!("{whom} got {} before {name}, which was admitted first", self.name(&other.digest))
            })?;
        }
        Ok(())
    }

    /// What the broker is believed to have said stands in its durable records, and is not forgotten again.
    fn sent(&self, agency: usize, outbox: &BTreeMap<lintas_proto::id::Digest, Own>) -> Result<(), Violation> {
        let whom = AGENCIES[agency];
        for (digest, before) in &self.mailboxes[agency].outbox {
            let (name, now) = (self.name(digest), outbox.get(digest));
            let now = now.ok_or_else(|| Violation(format!("{whom} has lost {name} from its outbox")))?;
            let stays = before.said == Said::Nothing || before.said == now.said || now.said == Said::Accepted;
            must(stays, || format!("{whom}: {name} was {:?}, and is {:?}", before.said, now.said))?;
        }
        for (digest, own) in outbox {
            let (name, admitted) = (self.name(digest), self.admitted.get(digest));
            match own.said {
                Said::Nothing => {}
                Said::Accepted => must(admitted.is_some(), || {
                    format!("{whom} has a receipt for {name}, which is not durable at the broker")
                })?,
                // Its time was over when it was asked about again: then its receipt is forgotten, and evidence came.
                Said::Refused(Reason::Expired, _) => {}
                Said::Refused(reason, _) => must(admitted.is_none(), || {
                    format!(
                        "{whom} was told that {name} is refused ({}), and it was admitted",
                        reason.as_str_name()
                    )
                })?,
            }
        }
        Ok(())
    }

    /// A node came back from its disk: what it had is there.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn node_recovered(&mut self, agency: usize, node: &SimNode) -> Result<(), Violation> {
        let ((believed, doubted), mut unknown) = (node.evidence(), Vec::new());
        let mailbox = &self.mailboxes[agency];
        let lost: BTreeSet<_> = mailbox.evidence.0.difference(&believed).collect();
        let forgot = mailbox.evidence.1.iter().any(|one| !doubted.contains(one) && !believed.contains(one));
        for own in node.outbox() {
            // It was kept, and the power went before anybody could be told.
            if !self.packets.contains_key(&own.digest) {
                let recipients = own.became.iter().map(|(to, _)| to.clone()).collect();
                let tlp = mailbox.sealing.unwrap_or_default();
                let sent = Sent { digest: own.digest, recipients };
                unknown.push((sent, tlp));
            }
        }
        must(unknown.len() <= 1, || format!("{} has packets that nobody has sealed", AGENCIES[agency]))?;
        must(lost.is_empty() && !forgot, || format!("{} has lost evidence in a crash", AGENCIES[agency]))?;
        for (sent, tlp) in &unknown {
            self.sealed(agency, sent, *tlp);
        }
        self.node_acted(agency, node)
    }
}
