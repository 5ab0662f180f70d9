//! Everything that shows what became of one packet: verified from the roster alone, and told in plain words.
//!
//! Nothing in the file is believed on its own word. Rosters lead to the reader's (or to its bootstrap file), keysets to the
//! identity keys in those rosters, statements to those keysets, leaves through slot and entry to a signed checkpoint.

mod gather;
mod region;
mod words;

use bytes::Bytes;
use lintas_config::directory::{Broker, PastRoster};
use lintas_proto::{
    audit::{
        epoch::RootEntry,
        note::{log_name, quorum, root_origin},
        proof::TlogProof,
    },
    canonical,
    envelope::{
        core::Core,
        verify::{VerifiedHeader, verify_header},
    },
    evidence::{Evidence, verify_evidence},
    id::{Digest, hex},
    limits,
    receipt::{Receipt, sub_log_origin, verify_receipt},
    schema::{AuditEvent, EventType, EvidenceFile, Header, Outcome, SignedEvidence, SignedReceipt, UnitRef},
};
use thiserror::Error;

pub(crate) use self::{
    gather::{bundles, speakers},
    region::{Anchor, open_bundle, roster_of},
};
use self::{
    region::Region,
    words::{acknowledged, happened, missing},
};
use super::{
    inclusion::{leaf_time_ms, opens, stands},
    receipts::{Grade, root_of},
};
use crate::core::{
    state::name,
    view::{Acknowledged, EvidenceView, LogPlace},
};

/// Longest file, bytes.
pub(crate) const FILE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why a file shows nothing.
#[derive(Debug, Error)]
#[error("{part} of the evidence file does not hold: {why}")]
pub(crate) struct Fault {
    /// Which part.
    part: &'static str,
    /// What is wrong with it.
    why: String,
}

fn fault(part: &'static str) -> impl Fn(&dyn ToString) -> Fault {
    move |why| Fault { part, why: why.to_string() }
}

/// Reads a file and checks everything in it; gives what it shows.
pub(crate) fn verify(bytes: &Bytes, anchor: &Anchor<'_>) -> Result<EvidenceView, Fault> {
    let file: EvidenceFile =
        canonical::decode(bytes, FILE_BYTES_MAX).map_err(|error| fault("the form")(&error))?;
    if file.format != 1 {
        return Err(fault("the form")(&"it is of another version"));
    }
    let region = Region::of(&file, anchor)?;
    let header = header(&file, &region)?;
    let (core, digest) = (header.core(), *header.digest());
    let (receipt, events, agency) = receipt(&file, &region, &header)?;
    let sent = events.first().is_some_and(|event| event.r#type == EventType::Submitted as i32);
    let acknowledged = statements(&file, &region, &header, (&receipt, &events))?;
    let place = place(&file, &region, &receipt, &agency)?;
    let grade = place.as_ref().map_or(Grade::Promised, |place| place.grade());
    let happened = events.iter().zip(&receipt.events).map(|(event, logged)| happened(event, logged.index));
    let missing = missing(grade, sent, &events, &acknowledged, place.as_ref());
    Ok(EvidenceView {
        packet_id: core.packet_id.to_string(),
        digest: hex(&digest),
        region: core.region.clone(),
        kind: core.kind.as_str_name().to_owned(),
        from: name(&core.originator),
        created_ms: core.created_ms,
        of: agency,
        side: if sent { "sent" } else { "received" }.to_owned(),
        log: receipt.origin.clone(),
        receipt_ms: receipt.time_ms,
        deadline_ms: receipt.deadline_ms,
        events: happened.collect(),
        acknowledgements: acknowledged,
        grade: grade.as_str().to_owned(),
        place,
        missing,
        written: None,
    })
}

fn header(file: &EvidenceFile, region: &Region) -> Result<VerifiedHeader, Fault> {
    let wrong = fault("the packet's header");
    let claimed: Header =
        canonical::decode(&file.header, limits::HEADER_BYTES_MAX).map_err(|error| wrong(&error))?;
    let core = Core::parse(&claimed.core).map_err(|error| wrong(&error))?;
    let mut last = wrong(&"no directory in the file has the sender's keys");
    for directory in &region.directories {
        if !region.vouches(directory, &core.originator.agency, core.created_ms) {
            last = wrong(&"a newer roster had taken the sender's keys from it by then");
            continue;
        }
        match verify_header(&file.header, &file.signature, &directory.at(core.created_ms)) {
            Ok(header) if core.region == directory.roster().region => return Ok(header),
            Ok(_) => last = wrong(&"it is of another region"),
            Err(error) => last = wrong(&error),
        }
    }
    Err(last)
}

/// The receipt, its events, and in whose sub-log it stands.
fn receipt(
    file: &EvidenceFile,
    region: &Region,
    header: &VerifiedHeader,
) -> Result<(Receipt, Vec<AuditEvent>, String), Fault> {
    let wrong = fault("the broker's receipt");
    let signed: SignedReceipt =
        canonical::decode(&file.receipt, limits::RECEIPT_BYTES_MAX).map_err(|error| wrong(&error))?;
    let mut signer = None;
    let (receipt, events) = verify_receipt(&signed, |id| {
        let broker = region.receipt_key(id)?;
        signer = Some(broker);
        Some(&broker.receipt_key)
    })
    .map_err(|error| wrong(&error))?;
    let agency = events.first().map(|event| event.agency.clone()).unwrap_or_default();
    let of_broker = |broker: &Broker| {
        (0..=broker.ended_logs.len())
            .any(|ended| sub_log_origin(&log_name(&broker.name, ended), &agency) == receipt.origin)
    };
    if !signer.is_some_and(of_broker) {
        return Err(wrong(&"it stands in a log that is not its signer's"));
    }
    let core = header.core();
    let same = receipt.header_digest == *header.digest() && receipt.packet_id == core.packet_id;
    let from = events.iter().all(|event| event.originator.as_ref() == Some(&core.originator));
    if same && from { Ok((receipt, events, agency)) } else { Err(wrong(&"it is for another packet")) }
}

/// What recipients and brokers said, each verified.
fn statements(
    file: &EvidenceFile,
    region: &Region,
    header: &VerifiedHeader,
    (receipt, events): (&Receipt, &[AuditEvent]),
) -> Result<Vec<Acknowledged>, Fault> {
    let wrong = fault("a signed statement");
    let core = header.core();
    let mut said = Vec::with_capacity(file.evidence.len());
    for bytes in &file.evidence {
        let signed: SignedEvidence =
            canonical::decode(bytes, limits::SIGNED_EVIDENCE_BYTES_MAX).map_err(|error| wrong(&error))?;
        let claimed = Evidence::parse(&signed.evidence).map_err(|error| wrong(&error))?;
        let id = signed.proof.as_ref().and_then(|proof| Digest::try_from(proof.key_id.as_ref()).ok());
        let key = id.and_then(|id| {
            if claimed.actor.unit.is_empty() {
                let broker = region.receipt_key(&id).filter(|broker| broker.name == claimed.actor.agency);
                broker.map(|broker| broker.receipt_key.clone())
            } else {
                region.packet_key(&claimed.actor, &id, claimed.time_ms)
            }
        });
        let key = key.ok_or_else(|| wrong(&format!("no key of {} fits it", name(&claimed.actor))))?;
        let evidence = verify_evidence(&signed, |_, _| Some(&key)).map_err(|error| wrong(&error))?;
        let about = evidence.header_digest == *header.digest()
            && evidence.packet_id == core.packet_id
            && evidence.region == core.region;
        let asked = |unit: &UnitRef| events.iter().any(|event| event.recipient.as_ref() == Some(unit));
        let broker_says_no = evidence.actor.unit.is_empty() && evidence.outcome != Outcome::Acceptance;
        let recipient = evidence.recipient.as_ref();
        let may = match recipient {
            Some(unit) => asked(unit) && (broker_says_no || evidence.actor == *unit),
            None => broker_says_no,
        };
        if !about || !may {
            return Err(wrong(&format!("{} may not say this of this packet", name(&evidence.actor))));
        }
        said.push(acknowledged(&evidence, receipt, events));
    }
    Ok(said)
}

/// Where the events stand, every step of it checked; none while they are only promised.
fn place(
    file: &EvidenceFile,
    region: &Region,
    receipt: &Receipt,
    agency: &str,
) -> Result<Option<LogPlace>, Fault> {
    let wrong = fault("a proof of the log");
    let (Some(slot), Some(root)) = (&file.slot, &file.root) else {
        let none = file.slot.is_none() && file.root.is_none() && file.leaves.is_empty();
        return if none { Ok(None) } else { Err(wrong(&"a part of it is missing")) };
    };
    let origin = root_of(&receipt.origin);
    let entry = RootEntry::parse(&root.entry).map_err(|error| wrong(&error))?;
    let proof = TlogProof::parse(&root.proof).map_err(|error| wrong(&error))?;
    let signed = region
        .brokers()
        .filter(|broker| {
            // A key that was in use before a log began does not sign for it.
            let mut logs = 0..=broker.ended_logs.len();
            logs.any(|ended| root_origin(&log_name(&broker.name, ended)) == origin)
        })
        .any(|broker| proof.verify(&root.entry, origin, &broker.log_key).is_ok());
    if !signed || proof.index != entry.epoch {
        return Err(wrong(&"the epoch's entry does not stand in a tree that the broker's log has signed"));
    }
    // Members never leave: all rosters with as many members have the same ones.
    let members = |roster: &&PastRoster| u32::try_from(roster.agencies.len()) == Ok(entry.slots);
    let roster = region.rosters().find(members);
    let roster = roster.ok_or_else(|| wrong(&"no roster here has as many members as the epoch has slots"))?;
    let watched = region.witnessed_under(&proof.checkpoint, entry.slots).unwrap_or(roster);
    if roster.index_of(agency) != Some(slot.roster_index) || !opens(slot, &entry) {
        return Err(wrong(&"the slot is not this agency's in that epoch"));
    }
    let sub_root = Digest::try_from(slot.root.as_ref()).map_err(|_| wrong(&"the root of the sub-log"))?;
    let same = file.leaves.len() == receipt.events.len()
        && file.leaves.iter().zip(&receipt.events).all(|(leaf, event)| {
            let in_time = leaf_time_ms(&leaf.leaf).is_some_and(|time_ms| time_ms <= entry.time_ms);
            leaf.index == event.index
                && leaf.leaf == event.leaf
                && in_time
                && stands(leaf, slot.size, &sub_root)
        });
    if !same {
        return Err(wrong(&"an event of the receipt does not stand where it was promised"));
    }
    Ok(Some(LogPlace {
        origin: origin.to_owned(),
        epoch: entry.epoch,
        epoch_ms: entry.time_ms,
        sub_log_size: slot.size,
        tree_size: proof.checkpoint.claim().size,
        cosigned: proof.checkpoint.cosignatures(&watched.witnesses).len(),
        witnesses: watched.witnesses.len(),
        needed: quorum(watched.witnesses.len()),
        witnessed_ms: proof.checkpoint.witnessed_at(&watched.witnesses).map(|at| at.saturating_mul(1_000)),
        roster_version: watched.version,
        given_up: region.end_of(origin).map(|ended| ended.size).filter(|size| *size <= entry.epoch),
    }))
}
