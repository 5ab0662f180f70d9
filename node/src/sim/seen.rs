//! What a simulator may look at.

use std::collections::BTreeSet;

use lintas_config::Directory;
use lintas_proto::{
    id::{Digest, sha256},
    schema::{Reason, UnitRef},
};

use super::{SimNode, Stopped, stopped};
use crate::core::{
    archive::{Sealed, open_incoming, open_outgoing},
    records::Record,
    state::{Answer, Fate},
};

/// What the broker said to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// Nothing that counts for good.
    Nothing,
    /// A receipt is kept.
    Accepted,
    /// A refusal is kept, and whether it is signed.
    Refused(Reason, bool),
}

/// What became of a packet at one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Became {
    /// Nothing is known.
    Pending,
    /// The receipt says that it was not released.
    Denied,
    /// The recipient signed that it has it.
    Delivered,
    /// Somebody signed that it did not arrive.
    Failed {
        /// The broker.
        by_broker: bool,
        /// Why.
        reason: Reason,
    },
}

/// A packet of the node's own.
#[derive(Debug, Clone)]
pub struct Own {
    /// SHA-256 of its header.
    pub digest: Digest,
    /// This node's clock when it was sealed.
    pub created_ms: u64,
    /// Not delivered later.
    pub deliver_by_ms: u64,
    /// The broker's word.
    pub said: Said,
    /// Each recipient's fate.
    pub became: Vec<(UnitRef, Became)>,
}

/// A packet in the inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its record.
    pub record: u64,
    /// SHA-256 of its header.
    pub digest: Digest,
    /// Who sent it.
    pub originator: UnitRef,
    /// For which unit.
    pub unit: String,
}

impl SimNode {
    /// The inbox, in the order in which it was kept.
    #[must_use]
    pub fn inbox(&self) -> Vec<Kept> {
        let state = self.state();
        let mut all: Vec<Kept> = state
            .incoming()
            .map(|(record, packet)| Kept {
                record,
                digest: packet.digest,
                originator: packet.originator.clone(),
                unit: packet.unit.clone(),
            })
            .collect();
        all.reverse();
        all
    }

    /// Deliveries that were rejected: digest and unit.
    #[must_use]
    pub fn rejected(&self) -> BTreeSet<(Digest, String)> {
        let state = self.state();
        state.rejections().map(|rejection| (rejection.digest, rejection.unit.clone())).collect()
    }

    /// The outbox, in the order in which it was sealed.
    #[must_use]
    pub fn outbox(&self) -> Vec<Own> {
        let state = self.state();
        let became = |fate: &Fate| match fate {
            Fate::Pending => Became::Pending,
            Fate::Denied(_) => Became::Denied,
            Fate::Delivered { .. } => Became::Delivered,
            Fate::Failed { by_broker, reason, .. } => {
                Became::Failed { by_broker: *by_broker, reason: *reason }
            }
        };
        let mut all: Vec<Own> = state
            .outgoing()
            .map(|(_, packet)| Own {
                digest: packet.digest,
                created_ms: packet.created_ms,
                deliver_by_ms: packet.deliver_by_ms,
                said: match &packet.answer {
                    Answer::Waiting | Answer::AwaitsReview | Answer::Reviewed => Said::Nothing,
                    Answer::Accepted { .. } => Said::Accepted,
                    Answer::Refused { reason, signed, .. } => Said::Refused(*reason, *signed),
                },
                became: packet.recipients.iter().map(|(unit, fate)| (unit.clone(), became(fate))).collect(),
            })
            .collect();
        all.reverse();
        all
    }

    /// SHA-256 of the receipt that is kept for each own packet, if one is.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn receipts(&self) -> Result<Vec<(Digest, Digest)>, Stopped> {
        let state = self.state();
        let all: Vec<(u64, Digest)> = state.outgoing().map(|(at, packet)| (at, packet.digest)).collect();
        let mut found = Vec::new();
        for (at, digest) in all {
            let Some(record) = state.receipts().of(at).map(|receipt| receipt.record) else { continue };
            if let Record::Receipt(stored) = self.store.read(record)? {
                found.push((digest, sha256(&[&stored.receipt])));
            }
        }
        Ok(found)
    }

    /// Everything this node keeps under its key pages opens again. How many packets.
    ///
    /// # Errors
    /// What does not open.
    pub fn opens_all(&self, directory: &Directory, now_ms: u64) -> Result<usize, Stopped> {
        let state = self.state();
        let incoming = state.incoming().map(|(record, _)| record);
        let all: Vec<u64> = incoming.chain(state.outgoing().map(|(record, _)| record)).collect();
        for record in &all {
            let kept = self.store.read(*record)?;
            if let Record::Incoming(stored) = &kept {
                let sealed = Sealed::incoming(*record, stored, state.ledger());
                open_incoming(stored, &sealed, &self.pages, directory, now_ms).map_err(stopped)?;
            } else if let Record::Outgoing(stored) = &kept {
                let sealed = Sealed::outgoing(*record, stored, state.ledger());
                open_outgoing(stored, &sealed, &self.pages).map_err(stopped)?;
            } else {
                return Err(Stopped(format!("record {record} is no packet but {kept:?}")));
            }
        }
        Ok(all.len())
    }

    /// SHA-256 of the evidence about own packets that is kept: what is believed, and what is not.
    #[must_use]
    pub fn evidence(&self) -> (BTreeSet<Digest>, BTreeSet<Digest>) {
        let (believed, doubted) = self.state().tally().all();
        (believed.into_iter().collect(), doubted.into_iter().collect())
    }

    /// How many submissions are under way or put off: nothing of it may stay when there is nothing to send.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.pipeline.load()
    }

    /// Places in the broker's log that two receipts have promised to two leaves, since this was asked last.
    #[must_use]
    pub fn broken_promises(&self) -> usize {
        self.state().promises().take_broken().len()
    }
}
