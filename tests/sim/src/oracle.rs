//! What must hold. The oracle keeps its own account, of what was sent, handed to the journal, made durable, handed over and
//! kept, and compares everything that happens with it.
//!
//! | invariant | where |
//! |---|---|
//! | a durable receipt at a node stands on a durable admission at the broker, and is that one, byte for byte | [`Oracle::node_acted`] |
//! | an acknowledgement that is durable at the broker stands on a durable record at the node | `records` |
//! | nothing durable changes or goes, in a crash or otherwise, but by compaction of what nobody needs | `recovery` |
//! | nothing is handed over that the policies deny, to a stranger, or to whoever was suspended since | [`Oracle::handed_over`] |
//! | the inbox holds each packet once, and a sender's packets in the order of admission | `mailboxes` |
//! | however clocks jump: no record is from the future, nothing is ended before its time is over, nothing is rejected but by a policy | `records` |
//! | times of records never go back; every admission bears its events; the published log is the fold of the records and only grows | `records` |
//! | at the end all is delivered or ended with a reason that the originator has, queues are empty, nothing is remembered for ever | `ending` |

mod ending;
mod mailboxes;
mod records;
mod recovery;

use std::collections::{BTreeMap, BTreeSet};

use lintas_broker::core::{ledger::Ledger, log::fold::LogFold};
use lintas_journal::NewRecord;
use lintas_node::sim::{Kept, Own, Sent};
use lintas_proto::{
    canonical,
    frame::FrameType,
    id::{Digest, sha256},
    limits,
    schema::{Delivery, PublishedLog, Tlp, UnitRef},
};

use crate::{
    Violation,
    dice::Dice,
    link::Frame,
    region::{AGENCIES, Region, index},
};

/// Agency and unit.
type Unit = (String, String);

fn unit(unit: &UnitRef) -> Unit {
    (unit.agency.clone(), unit.unit.clone())
}

/// A packet that some node has sealed.
#[derive(Debug, Clone)]
pub struct Packet {
    /// In the order of sealing, from 1.
    pub number: usize,
    /// Who sealed it.
    pub from: usize,
    /// To whom.
    pub to: Vec<UnitRef>,
    /// Its label.
    pub tlp: Tlp,
}

/// What the broker's durable records say of a packet.
#[derive(Debug, Clone)]
struct Admitted {
    sequence: u64,
    /// SHA-256 of the originator's receipt.
    receipt: Digest,
    deliver_by_ms: u64,
    released: BTreeSet<Unit>,
}

/// What one node has, durably.
#[derive(Debug, Default)]
struct Mailbox {
    inbox: Vec<Kept>,
    rejected: BTreeSet<(Digest, String)>,
    outbox: BTreeMap<Digest, Own>,
    /// Evidence that is believed, and that is not.
    evidence: (BTreeSet<Digest>, BTreeSet<Digest>),
    /// Label of what was sealed last.
    sealing: Option<Tlp>,
    /// Packets admitted up to this record may come out of their order.
    excused: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Oracle {
    packets: BTreeMap<Digest, Packet>,
    /// Everything handed to the broker's journal, without what a crash took before it was durable.
    archive: BTreeMap<u64, NewRecord>,
    durable: u64,
    /// Folded over what is durable.
    shadow: Ledger,
    log: LogFold,
    salts: Dice,
    /// How the log stood at the end of each epoch.
    epochs: Vec<PublishedLog>,
    published: u64,
    time_ms: u64,
    /// What time it really is.
    true_ms: u64,
    admitted: BTreeMap<Digest, Admitted>,
    /// SHA-256 of the evidence with which an entry ended.
    ended: BTreeMap<(Digest, Unit), Digest>,
    mailboxes: Vec<Mailbox>,
    /// The last record when an agency was suspended last.
    suspended: BTreeMap<usize, u64>,
}

/// The violation, unless it holds.
pub(crate) fn must(holds: bool, what: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation(what())) }
}

impl Oracle {
    /// Before anything happened.
    #[must_use]
    pub fn new(seed: u64, broker: &str) -> Self {
        Self {
            packets: BTreeMap::new(),
            archive: BTreeMap::new(),
            durable: 0,
            shadow: Ledger::default(),
            log: LogFold::new(broker, 0),
            salts: Dice::new(seed, 3),
            epochs: Vec::new(),
            published: 0,
            time_ms: 0,
            true_ms: 0,
            admitted: BTreeMap::new(),
            ended: BTreeMap::new(),
            mailboxes: AGENCIES.iter().map(|_| Mailbox::default()).collect(),
            suspended: BTreeMap::new(),
        }
    }

    /// It really is that time.
    pub fn time(&mut self, true_ms: u64) {
        self.true_ms = true_ms;
    }

    /// A node is about to seal a packet: if it stops while it keeps it, nobody is told.
    pub fn sealing(&mut self, from: usize, tlp: Tlp) {
        self.mailboxes[from].sealing = Some(tlp);
    }

    /// A node has sealed a packet.
    pub fn sealed(&mut self, from: usize, sent: &Sent, tlp: Tlp) -> usize {
        let number = self.packets.len() + 1;
        let packet = Packet { number, from, to: sent.recipients.clone(), tlp };
        self.packets.insert(sent.digest, packet);
        number
    }

    /// What a packet is called in the log.
    #[must_use]
    pub fn name(&self, digest: &Digest) -> String {
        self.packets.get(digest).map_or("?".to_owned(), |packet| format!("p{}", packet.number))
    }

    /// Packets sealed, and those of them that the broker has durably admitted.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.packets.len(), self.admitted.len())
    }

    /// From now on nothing that was admitted is handed over to that agency.
    pub fn suspended(&mut self, agency: usize, last_sequence: u64) {
        self.suspended.insert(agency, last_sequence);
    }

    /// What waits now may come out of its order: somebody was put off, and will come back.
    pub fn excuse(&mut self, agency: usize, last_sequence: u64) {
        self.mailboxes[agency].excused = last_sequence;
    }

    /// The broker lets frames out to an agency's node, under these rules.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn handed_over(&self, to: usize, frames: &[Frame], region: &Region) -> Result<(), Violation> {
        for (_, payload) in frames.iter().filter(|(kind, _)| *kind == FrameType::Delivery) {
            let delivery: Delivery = canonical::decode(payload, limits::FRAME_BYTES_MAX).unwrap();
            let (digest, opening) = (sha256(&[&delivery.header]), delivery.opening.unwrap_or_default());
            let unit = UnitRef { agency: opening.agency, unit: opening.unit };
            let (name, whom) = (self.name(&digest), AGENCIES[to]);
            let packet = self.packets.get(&digest);
            let packet = packet.ok_or_else(|| Violation(format!("{whom} is handed a packet of nobody")))?;
            must(unit.agency == whom && packet.to.contains(&unit), || {
                format!("{name} is handed to {whom}, and is not for it")
            })?;
            must(region.is_active(to), || format!("{name} is handed to {whom}, which is suspended"))?;
            must(region.allows(packet.from, to, packet.tlp), || {
                format!("{name} is handed to {whom}, and a policy denies it")
            })?;
            let admitted = self.admitted.get(&digest);
            let admitted = admitted
                .ok_or_else(|| Violation(format!("{name} is handed to {whom} before it is durable")))?;
            must(admitted.sequence > self.suspended.get(&to).copied().unwrap_or(0), || {
                format!("{name} is handed to {whom}, which was suspended after it was admitted")
            })?;
        }
        Ok(())
    }

    /// Whether the packet may go to that agency now, by the terms.
    fn may_go(&self, digest: &Digest, to: &UnitRef, region: &Region) -> Option<bool> {
        let (packet, to) = (self.packets.get(digest)?, index(&to.agency));
        Some(region.allows(packet.from, to, packet.tlp))
    }
}
