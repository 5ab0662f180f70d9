//! What the node knows: a pure fold over its journal ([`fold`]). Recovery runs the same code as the forward path.
//!
//! It holds an index entry for each packet, a few hundred bytes; the packets themselves stay in the journal
//! and are read by their sequence.

mod fold;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lintas_proto::{
    id::{Digest, PacketId},
    limits,
    schema::{AttachmentRef, Kind, Reason, UnitRef},
};

use super::{
    contacts::Contacts,
    freshness::Seen,
    ledger::Ledger,
    log::{
        findings::Findings,
        promises::Promises,
        receipts::{Grade, Receipts},
    },
    tally::Tally,
};

/// What the broker said to a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing yet.
    Waiting,
    /// Nothing, it is not submitted: a person must look at it first.
    AwaitsReview,
    /// Nothing, it is never submitted: a person has looked at it. If released, another packet has taken its place.
    Reviewed,
    /// It has it, durably.
    Accepted {
        /// The broker's time.
        time_ms: u64,
        /// Sub-log in which it stands.
        origin: String,
        /// 0-based index there.
        index: u64,
        /// The clocks of broker and node differ.
        clock_differs: bool,
    },
    /// It will not take it.
    Refused {
        /// Why.
        reason: Reason,
        /// The broker's sentence.
        text: String,
        /// The broker signed a statement of it.
        signed: bool,
        /// When it came here.
        received_ms: u64,
        /// Why this node did not seal it again, if it tried.
        not_resealed: String,
    },
}

/// What became of a packet at one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing is known yet.
    Pending,
    /// The broker did not release it to this recipient.
    Denied(Denied),
    /// The recipient signed that it has it.
    Delivered {
        /// The recipient's time.
        time_ms: u64,
    },
    /// Somebody signed that it did not arrive.
    Failed {
        /// Who says so.
        by: String,
        /// It is the broker.
        by_broker: bool,
        /// Why.
        reason: Reason,
        /// The policy that decided, if one did.
        policy_id: String,
        /// Their sentence.
        text: String,
        /// Their time.
        time_ms: u64,
    },
}

/// That a packet was not released to a recipient, as the broker's receipt says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Denied {
    /// The recipient's own policy does not take it; else the baseline or this agency's policy does not let it go.
    pub(crate) not_accepted: bool,
    /// Why.
    pub(crate) reason: Reason,
    /// The policies that decided.
    pub(crate) policy_ids: Vec<String>,
    /// What the sender is told.
    pub(crate) text: String,
    /// The broker's time.
    pub(crate) time_ms: u64,
}

/// What a person decided about the release of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Review {
    /// It may go.
    pub(crate) released: bool,
    /// Who, as they said.
    pub(crate) reviewer: String,
    /// Why, as they said.
    pub(crate) note: String,
    /// When.
    pub(crate) time_ms: u64,
}

/// A packet of this agency.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    /// SHA-256 of its header.
    pub(crate) digest: Digest,
    /// Its id.
    pub(crate) packet_id: PacketId,
    /// What it is.
    pub(crate) kind: Kind,
    /// When it was sealed.
    pub(crate) created_ms: u64,
    /// Each recipient and what became of it there.
    pub(crate) recipients: Vec<(UnitRef, Fate)>,
    /// What the broker said.
    pub(crate) answer: Answer,
    /// Not delivered later.
    pub(crate) deliver_by_ms: u64,
    /// Its blobs.
    pub(crate) attachments: Vec<AttachmentRef>,
    /// The packet whose place it took, because keys had moved.
    pub(crate) in_place_of: Option<PacketId>,
    /// The packet that took its place.
    pub(crate) replaced_by: Option<PacketId>,
    /// How often the same was sealed before.
    pub(crate) generation: u32,
    /// An officer sent it although the directory was known to be out of date, or not attested.
    pub(crate) despite_stale: bool,
    /// What a person decided about its release: of it, or of the packet whose place it took.
    pub(crate) review: Option<Review>,
    /// It waits again, because the log of its receipt has ended.
    pub(crate) again: bool,
    /// Records of what was said about it, and believed.
    pub(crate) evidence: Vec<u64>,
}

impl Outgoing {
    /// Whether its time is over on every clock.
    pub(crate) fn is_over(&self, now_ms: u64) -> bool {
        now_ms > self.deliver_by_ms.saturating_add(limits::CLOCK_SKEW_MS_MAX)
    }

    /// Whether something may still become of it before it has an answer: its content must stay.
    pub(crate) fn is_open(&self, now_ms: u64) -> bool {
        match self.answer {
            Answer::Waiting => true,
            Answer::AwaitsReview => !self.is_over(now_ms),
            Answer::Reviewed | Answer::Accepted { .. } | Answer::Refused { .. } => false,
        }
    }

    /// Whether it was released to some, and not to all.
    pub(crate) fn is_in_part(&self) -> bool {
        self.recipients.iter().any(|(_, fate)| matches!(fate, Fate::Denied(_)))
    }

    fn is_known(&self) -> bool {
        self.recipients.iter().all(|(_, fate)| !matches!(fate, Fate::Pending))
    }
}

/// A packet for one unit of this agency.
#[derive(Debug, Clone)]
pub(crate) struct Incoming {
    /// SHA-256 of its header.
    pub(crate) digest: Digest,
    /// Its id.
    pub(crate) packet_id: PacketId,
    /// Who sent it.
    pub(crate) originator: UnitRef,
    /// For which unit of ours.
    pub(crate) unit: String,
    /// What it is.
    pub(crate) kind: Kind,
    /// When it was durable here.
    pub(crate) received_ms: u64,
    /// Not delivered later.
    pub(crate) deliver_by_ms: u64,
    /// The sender's packet before this one; none for the first.
    pub(crate) previous: Option<Digest>,
    /// Its blobs.
    pub(crate) attachments: Vec<AttachmentRef>,
}

/// A delivery that was not taken.
#[derive(Debug, Clone)]
pub(crate) struct Rejection {
    /// SHA-256 of its header bytes.
    pub(crate) digest: Digest,
    /// For which unit.
    pub(crate) unit: String,
    /// Why.
    pub(crate) reason: Reason,
    /// In words.
    pub(crate) text: String,
    /// When.
    pub(crate) received_ms: u64,
}

/// The state.
#[derive(Debug, Default)]
pub(crate) struct State {
    outgoing: BTreeMap<u64, Outgoing>,
    outgoing_by_digest: HashMap<Digest, u64>,
    /// Sequences of packets without a final answer, in the order in which they were sealed.
    waiting: BTreeSet<u64>,
    /// The last packet released to each (agency, unit).
    released: HashMap<(String, String), Digest>,
    incoming: BTreeMap<u64, Incoming>,
    rejections: BTreeMap<u64, Rejection>,
    /// Deliveries answered, kept or rejected, by digest and unit: the sequence of their record.
    answered: HashMap<(Digest, String), u64>,
    /// Digests by (agency, packet id) of what was received.
    ids: HashMap<(String, PacketId), Digest>,
    tally: Tally,
    contacts: Contacts,
    seen: Seen,
    ledger: Ledger,
    receipts: Receipts,
    findings: Findings,
    promises: Promises,
    /// This machine's clock when the newest record was made.
    latest_ms: u64,
}

impl State {
    /// Packets without a final answer, oldest first.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (u64, &Outgoing)> {
        self.waiting.iter().filter_map(|sequence| Some((*sequence, self.outgoing.get(sequence)?)))
    }

    /// Own packets, newest first.
    pub(crate) fn outgoing(&self) -> impl Iterator<Item = (u64, &Outgoing)> {
        self.outgoing.iter().rev().map(|(sequence, packet)| (*sequence, packet))
    }

    /// Received packets, newest first.
    pub(crate) fn incoming(&self) -> impl Iterator<Item = (u64, &Incoming)> {
        self.incoming.iter().rev().map(|(sequence, packet)| (*sequence, packet))
    }

    /// Rejected deliveries, newest first.
    pub(crate) fn rejections(&self) -> impl Iterator<Item = &Rejection> {
        self.rejections.values().rev()
    }

    /// Our packet with that header digest.
    pub(crate) fn own(&self, digest: &Digest) -> Option<(u64, &Outgoing)> {
        let sequence = self.outgoing_by_digest.get(digest)?;
        Some((*sequence, self.outgoing.get(sequence)?))
    }

    /// The last packet that was released to a unit; zeros before the first.
    pub(crate) fn previous_to(&self, unit: &UnitRef) -> Digest {
        self.released.get(&(unit.agency.clone(), unit.unit.clone())).copied().unwrap_or_default()
    }

    /// The record that answered this delivery before.
    pub(crate) fn answered(&self, digest: &Digest, unit: &str) -> Option<u64> {
        self.answered.get(&(*digest, unit.to_owned())).copied()
    }

    /// Why that record rejected a delivery, if it did.
    pub(crate) fn rejection(&self, sequence: u64) -> Option<&Rejection> {
        self.rejections.get(&sequence)
    }

    /// Own packets that wait for a person's review and may still be released, oldest first.
    pub(crate) fn awaiting_review(&self, now_ms: u64) -> impl Iterator<Item = (u64, &Outgoing)> {
        let waits =
            move |packet: &Outgoing| packet.answer == Answer::AwaitsReview && now_ms < packet.deliver_by_ms;
        self.outgoing.iter().filter(move |(_, packet)| waits(packet)).map(|(at, packet)| (*at, packet))
    }

    /// The digest that an originator's packet id was used for before.
    pub(crate) fn digest_of(&self, agency: &str, packet_id: PacketId) -> Option<&Digest> {
        self.ids.get(&(agency.to_owned(), packet_id))
    }

    /// Where the content keys are.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Our packet in that record.
    pub(crate) fn sent_in(&self, sequence: u64) -> Option<&Outgoing> {
        self.outgoing.get(&sequence)
    }

    /// The received packet in that record.
    pub(crate) fn received_in(&self, sequence: u64) -> Option<&Incoming> {
        self.incoming.get(&sequence)
    }

    /// Evidence kept.
    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Receipts, and how well each is proven.
    pub(crate) fn receipts(&self) -> &Receipts {
        &self.receipts
    }

    /// Whether nothing more will become of our packet in that record: it was refused, or its time is over, or everybody's
    /// fate is known and the broker's log has it.
    pub(crate) fn is_settled(&self, sequence: u64, packet: &Outgoing, now_ms: u64) -> bool {
        match packet.answer {
            Answer::Waiting => false,
            Answer::AwaitsReview => packet.is_over(now_ms),
            Answer::Refused { .. } | Answer::Reviewed => true,
            Answer::Accepted { .. } => {
                let in_log = self.receipts.grade(sequence).is_some_and(|grade| grade != Grade::Promised);
                packet.is_over(now_ms) || (packet.is_known() && in_log)
            }
        }
    }

    /// Lets every packet wait again that is not settled and whose receipt stands in a log that has `ended`; how many.
    /// One that cannot be sent any more stays as it is, and is settled when its time is over.
    /// Follows from journal and directory, so it is done anew whenever the two are opened.
    pub(crate) fn submit_again(&mut self, ended: impl Fn(&str) -> bool, now_ms: u64) -> usize {
        let in_ended_log =
            |packet: &Outgoing| matches!(&packet.answer, Answer::Accepted { origin, .. } if ended(origin));
        let again: Vec<u64> = self
            .outgoing
            .iter()
            .filter(|(at, packet)| in_ended_log(packet) && !self.is_settled(**at, packet, now_ms))
            // Its sealed attachments went when it was purged: nobody can send it any more.
            .filter(|(at, packet)| packet.attachments.is_empty() || self.ledger.purged_ms(**at).is_none())
            .map(|(at, _)| *at)
            .collect();
        for sequence in &again {
            let Some(packet) = self.outgoing.get_mut(sequence) else { continue };
            packet.answer = Answer::Waiting;
            packet.again = true;
            self.waiting.insert(*sequence);
        }
        again.len()
    }

    /// To whom this agency may send.
    pub(crate) fn contacts(&self) -> &Contacts {
        &self.contacts
    }

    /// How new a directory the senders of received packets have.
    pub(crate) fn seen(&self) -> &Seen {
        &self.seen
    }

    /// What the broker's log should not show.
    pub(crate) fn findings(&self) -> &Findings {
        &self.findings
    }

    /// What receipts promised.
    pub(crate) fn promises(&mut self) -> &mut Promises {
        &mut self.promises
    }

    /// This machine's clock when the newest record was made; 0 before the first.
    pub(crate) fn latest_ms(&self) -> u64 {
        self.latest_ms
    }

    /// Whether the sender speaks of an earlier packet that never came here.
    pub(crate) fn misses_previous(&self, packet: &Incoming) -> bool {
        packet.previous.is_some_and(|digest| self.answered(&digest, &packet.unit).is_none())
    }
}

/// `TH / TH-MAR`, or a broker's name.
pub(crate) fn name(unit: &UnitRef) -> String {
    if unit.unit.is_empty() { unit.agency.clone() } else { format!("{}/{}", unit.agency, unit.unit) }
}
