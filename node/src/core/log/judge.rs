//! Whether the exhibits of a finding prove it, by what the region's authorities have signed and nothing else.
//!
//! What is judged may come from anybody who wants to see the broker accused, so only what the broker has signed counts
//! against it, and only under the key and at the place that a believed roster names. docs/AUDIT.md, "Findings".

use bytes::Bytes;
use lintas_config::directory::{Broker, PastRoster, PastRosters};
use lintas_proto::{
    audit::{
        epoch::RootEntry,
        merkle::consistency_roots,
        note::{Checkpoint, SignedCheckpoint, log_name},
        proof::TlogProof,
    },
    canonical,
    id::Digest,
    limits,
    receipt::{Receipt, verify_receipt},
    schema::{EndedLog, LeafProof, LoggedEvent, RootProof, SignedReceipt, SlotOpening},
    sign::{KeyRole, key_id},
};
use thiserror::Error;

use super::{
    findings::Kind,
    inclusion::{leaf_time_ms, opens, stands},
    receipts::root_of,
};
/// Longest of the smaller exhibits, bytes.
const PROOF_BYTES_MAX: usize = 64 * 1024;
/// Beside a receipt its proof, bytes.
const RECEIPT_PROOF_BYTES_MAX: usize = 4 * 1024;

/// Why a finding is not proven.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub(crate) struct NotProven(String);

type Judged<T> = Result<T, NotProven>;

fn no<T>(why: impl Into<String>) -> Judged<T> {
    Err(NotProven(why.into()))
}

/// What the exhibits prove, in plain words; `kind` is the finding's stable name, `show` how a time is shown.
///
/// # Errors
/// [`NotProven`]: they do not prove it, or a finding of that kind cannot be proven.
pub(crate) fn judge(
    believed: &PastRosters,
    (kind, exhibits): (&str, &[Bytes]),
    show: fn(u64) -> String,
) -> Judged<String> {
    let judge = Judge { believed, show };
    match (Kind::of(kind), exhibits) {
        (Some(Kind::Fork), [note]) => judge.other_end(note),
        (Some(Kind::Fork), [small, large]) => judge.two_trees(small, large),
        (Some(Kind::Fork), [small, large, hashes]) => judge.not_a_prefix((small, large), hashes),
        (Some(Kind::Rollback), [note]) => judge.given_up(note),
        (Some(Kind::OtherLeaf), [one, other]) => judge.promised_twice(one, other),
        (Some(Kind::OtherLeaf), [receipt, leaf, slot, root]) => judge.other_leaf(receipt, leaf, (slot, root)),
        (Some(Kind::BackDated), [receipt, leaf, slot, root]) => judge.too_late(receipt, leaf, (slot, root)),
        (Some(Kind::BackDated), [receipt, leaf, slot, root, slot_before, root_before]) => {
            judge.too_early(receipt, leaf, (slot, root), (slot_before, root_before))
        }
        (Some(Kind::PromiseNotKept), [receipt, slot, root]) => judge.not_kept(receipt, (slot, root)),
        (Some(Kind::Fork | Kind::Rollback | Kind::OtherLeaf | Kind::BackDated | Kind::PromiseNotKept), _) => {
            no("it has not the exhibits that prove one of its kind")
        }
        (Some(Kind::Withheld), _) => no("that something was not shown cannot be proven"),
        (Some(Kind::DeliveredThoughDenied), _) => no(
            "it rests on the word of a recipient, whose keys stand in no roster: compare both with that agency",
        ),
        (None, _) => no("findings of that kind are not known here"),
    }
}

/// Reads exhibits under the rosters that are believed.
struct Judge<'a> {
    believed: &'a PastRosters,
    show: fn(u64) -> String,
}

/// An epoch that the broker has signed, and the state of one agency's sub-log at its end.
struct State {
    entry: RootEntry,
    size: u64,
    root: Digest,
}

impl Judge<'_> {
    /// Brokers of believed rosters that kept the log of that name, the newest first. A key signs for the logs up to the one
    /// that was in use while a roster named it: what is stolen later, or was before, does not sign for others.
    fn keepers<'s>(&'s self, name: &str) -> impl Iterator<Item = (&'s PastRoster, &'s Broker, usize)> {
        let number = move |broker: &Broker| {
            (0..=broker.ended_logs.len()).find(|ended| log_name(&broker.name, *ended) == name)
        };
        let brokers = self.believed.all().rev().flat_map(|one| one.brokers.iter().map(move |b| (one, b)));
        brokers.filter_map(move |(roster, broker)| Some((roster, broker, number(broker)?)))
    }

    /// A root checkpoint that the log has signed.
    fn note(&self, bytes: &Bytes) -> Judged<SignedCheckpoint> {
        let signed = SignedCheckpoint::parse(bytes).map_err(|error| NotProven(error.to_string()))?;
        let origin = signed.claim().origin.clone();
        let name = origin.strip_suffix("/audit").unwrap_or_default();
        let is_signed =
            self.keepers(name).any(|(_, broker, _)| signed.verify(&origin, &broker.log_key).is_ok());
        if is_signed { Ok(signed) } else { no(format!("no broker of the rosters has signed `{origin}` so")) }
    }

    fn notes(&self, small: &Bytes, large: &Bytes) -> Judged<(Checkpoint, Checkpoint)> {
        let (small, large) = (self.note(small)?.claim().clone(), self.note(large)?.claim().clone());
        if small.origin == large.origin { Ok((small, large)) } else { no("they are of two logs") }
    }

    fn two_trees(&self, small: &Bytes, large: &Bytes) -> Judged<String> {
        let (small, large) = self.notes(small, large)?;
        if small.size != large.size || small.root == large.root {
            return no("the two checkpoints do not contradict each other");
        }
        Ok(format!("the broker has signed two different logs `{}` of {} entries", small.origin, small.size))
    }

    fn not_a_prefix(&self, (small, large): (&Bytes, &Bytes), hashes: &Bytes) -> Judged<String> {
        let (small, large) = self.notes(small, large)?;
        let (hashes, rest) = hashes.as_chunks::<32>();
        let Some((first, others)) = hashes.split_first().filter(|_| rest.is_empty()) else {
            return no("the hashes are not 32 bytes each");
        };
        match consistency_roots(small.size, large.size, *first, others) {
            Some((from_small, from_large)) if from_large == large.root && from_small != small.root => {
                Ok(format!(
                    "the broker has signed its log `{}` with {} entries and with {}, and the second does not begin with \
                     the first",
                    small.origin, small.size, large.size
                ))
            }
            Some(_) | None => no("the hashes do not show that one tree does not begin with the other"),
        }
    }

    /// What the region authority says of the end of a log, and who watched it last.
    fn end_of<'s>(&'s self, origin: &str) -> Judged<(&'s EndedLog, Option<&'s PastRoster>)> {
        let name = origin.strip_suffix("/audit").unwrap_or_default();
        let ended = self.keepers(name).find_map(|(_, broker, number)| broker.ended_logs.get(number));
        let in_use = |(roster, broker, number): (_, &Broker, usize)| {
            (number == broker.ended_logs.len()).then_some(roster)
        };
        match ended {
            Some(ended) => Ok((ended, self.keepers(name).find_map(in_use))),
            None => no(format!("no believed roster says that `{origin}` has ended")),
        }
    }

    fn other_end(&self, note: &Bytes) -> Judged<String> {
        let signed = self.note(note)?;
        let claim = signed.claim();
        let (ended, _) = self.end_of(&claim.origin)?;
        if claim.size != ended.size || claim.root.as_slice() == ended.root.as_ref() {
            return no("it does not contradict the end of its log");
        }
        Ok(format!(
            "the log `{}` has ended with {} entries, says the region authority, and the broker had signed another tree of \
             that size",
            claim.origin, claim.size
        ))
    }

    fn given_up(&self, note: &Bytes) -> Judged<String> {
        let signed = self.note(note)?;
        let claim = signed.claim();
        let (ended, watched) = self.end_of(&claim.origin)?;
        let Some(watched) = watched else { return no("the roster of the witnesses of then is not here") };
        if signed.witnessed_at(&watched.witnesses).is_none() {
            return no("no quorum of witnesses has cosigned it");
        }
        if claim.size <= ended.size {
            return no("it is no larger than the end of its log");
        }
        Ok(format!(
            "the log `{}` has ended with {} entries, says the region authority, and a quorum of witnesses had cosigned {}",
            claim.origin, ended.size, claim.size
        ))
    }

    /// A receipt that the broker of its log has signed; whose sub-log it is of.
    fn receipt(&self, bytes: &Bytes) -> Judged<(Receipt, String)> {
        let wrong = |error: &dyn ToString| NotProven(error.to_string());
        let max = limits::RECEIPT_BYTES_MAX + RECEIPT_PROOF_BYTES_MAX;
        let signed: SignedReceipt = canonical::decode(bytes, max).map_err(|error| wrong(&error))?;
        let (claimed, _) = Receipt::parse(&signed.receipt).map_err(|error| wrong(&error))?;
        let Some((name, agency)) = claimed.origin.split_once("/audit/") else {
            return no("the receipt is of no log");
        };
        let keeper = |id: &Digest| {
            let mut keepers = self.keepers(name).map(|(_, broker, _)| &broker.receipt_key);
            keepers.find(|key| key_id(KeyRole::Receipt, key.as_bytes()) == *id)
        };
        let (receipt, _) = verify_receipt(&signed, keeper).map_err(|error| wrong(&error))?;
        Ok((receipt, agency.to_owned()))
    }

    /// The state of an agency's sub-log in an epoch of a root log.
    fn state(&self, origin: &str, agency: &str, (slot, root): (&Bytes, &Bytes)) -> Judged<State> {
        let wrong = |error: &dyn ToString| NotProven(error.to_string());
        let slot: SlotOpening = canonical::decode(slot, PROOF_BYTES_MAX).map_err(|error| wrong(&error))?;
        let root: RootProof = canonical::decode(root, PROOF_BYTES_MAX).map_err(|error| wrong(&error))?;
        let entry = RootEntry::parse(&root.entry).map_err(|error| wrong(&error))?;
        let proof = TlogProof::parse(&root.proof).map_err(|error| wrong(&error))?;
        let name = origin.strip_suffix("/audit").unwrap_or_default();
        let signed = self
            .keepers(name)
            .any(|(_, broker, _)| proof.verify(&root.entry, origin, &broker.log_key).is_ok());
        if !signed || proof.index != entry.epoch {
            return no("the epoch's entry does not stand in a tree that the broker's log has signed");
        }
        // Members never leave: all rosters with as many members have the same ones.
        let members = |roster: &&PastRoster| u32::try_from(roster.agencies.len()) == Ok(entry.slots);
        let Some(roster) = self.believed.all().find(members) else {
            return no("no believed roster has as many members as the epoch has slots");
        };
        let digest = Digest::try_from(slot.root.as_ref());
        match digest {
            Ok(root) if roster.index_of(agency) == Some(slot.roster_index) && opens(&slot, &entry) => {
                Ok(State { entry, size: slot.size, root })
            }
            Ok(_) | Err(_) => no(format!("the slot is not the one of {agency} in that epoch")),
        }
    }

    fn promised_twice(&self, one: &Bytes, other: &Bytes) -> Judged<String> {
        let ((one, _), (other, _)) = (self.receipt(one)?, self.receipt(other)?);
        if one.origin != other.origin {
            return no("the receipts are of two logs");
        }
        let promised = |a: &&LoggedEvent| other.events.iter().any(|b| a.index == b.index && a.leaf != b.leaf);
        let Some(event) = one.events.iter().find(promised) else {
            return no("the receipts do not promise one place to two events");
        };
        Ok(format!(
            "the broker has promised entry {} of the log `{}` to an event of packet {} and to another one of packet {}",
            event.index, one.origin, one.packet_id, other.packet_id
        ))
    }

    /// A receipt, a leaf of its sub-log, and the epoch in which that stands.
    fn placed(&self, receipt: &Bytes, leaf: &Bytes, at: (&Bytes, &Bytes)) -> Judged<Placed> {
        let (receipt, agency) = self.receipt(receipt)?;
        let state = self.state(root_of(&receipt.origin), &agency, at)?;
        let leaf: LeafProof =
            canonical::decode(leaf, PROOF_BYTES_MAX).map_err(|error| NotProven(error.to_string()))?;
        if !stands(&leaf, state.size, &state.root) {
            return no("the leaf does not stand in the tree of its slot");
        }
        let Some(event) = receipt.events.iter().find(|event| event.index == leaf.index) else {
            return no("the receipt promises nothing at that place");
        };
        let (same, time_ms) = (event.leaf == leaf.leaf, leaf_time_ms(&leaf.leaf).unwrap_or_default());
        Ok(Placed { index: leaf.index, same, time_ms, receipt, agency, state })
    }

    fn other_leaf(&self, receipt: &Bytes, leaf: &Bytes, at: (&Bytes, &Bytes)) -> Judged<String> {
        let Placed { index, same, receipt, .. } = self.placed(receipt, leaf, at)?;
        if same {
            return no("what was promised stands there");
        }
        Ok(format!(
            "the broker promised entry {index} of `{}` to an event of packet {}, and another one stands there",
            receipt.origin, receipt.packet_id
        ))
    }

    fn too_late(&self, receipt: &Bytes, leaf: &Bytes, at: (&Bytes, &Bytes)) -> Judged<String> {
        let Placed { index, same, time_ms, receipt, state, .. } = self.placed(receipt, leaf, at)?;
        if !same || time_ms <= state.entry.time_ms {
            return no("its time is not after the end of its epoch");
        }
        Ok(format!(
            "entry {index} of `{}` says that it is of {}, and stands in an epoch that ended {}",
            receipt.origin,
            (self.show)(time_ms),
            (self.show)(state.entry.time_ms)
        ))
    }

    fn too_early(
        &self,
        receipt: &Bytes,
        leaf: &Bytes,
        at: (&Bytes, &Bytes),
        before: (&Bytes, &Bytes),
    ) -> Judged<String> {
        let Placed { index, same, time_ms, receipt, agency, state } = self.placed(receipt, leaf, at)?;
        let before = self.state(root_of(&receipt.origin), &agency, before)?;
        let is_early =
            before.entry.epoch < state.entry.epoch && before.size <= index && time_ms < before.entry.time_ms;
        if !same || !is_early {
            return no("its time is not before the end of an epoch that did not have it");
        }
        Ok(format!(
            "entry {index} of `{}` says that it is of {}; at {} the log had {} entries, and not this one",
            receipt.origin,
            (self.show)(time_ms),
            (self.show)(before.entry.time_ms),
            before.size
        ))
    }

    fn not_kept(&self, receipt: &Bytes, at: (&Bytes, &Bytes)) -> Judged<String> {
        let (receipt, agency) = self.receipt(receipt)?;
        let state = self.state(root_of(&receipt.origin), &agency, at)?;
        if state.entry.time_ms <= receipt.deadline_ms {
            return no("the deadline of the receipt was not over");
        }
        let Some(absent) = receipt.events.iter().find(|event| event.index >= state.size) else {
            return no("the log had as many entries as the receipt promised");
        };
        Ok(format!(
            "the broker promised that entry {} of `{}` would stand there by {}; at {} that log had {} entries (packet {})",
            absent.index,
            receipt.origin,
            (self.show)(receipt.deadline_ms),
            (self.show)(state.entry.time_ms),
            state.size,
            receipt.packet_id
        ))
    }
}

/// A leaf at a place that a receipt speaks of.
struct Placed {
    index: u64,
    /// It is the promised one.
    same: bool,
    time_ms: u64,
    receipt: Receipt,
    agency: String,
    state: State,
}
