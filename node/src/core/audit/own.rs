//! Whether the log has what the broker promised to this node.

use std::collections::{BTreeMap, BTreeSet};

use lintas_proto::{
    audit::{files::LogFile, tile::WIDTH},
    limits,
};
use serde::{Deserialize, Serialize};

use super::{
    anchor::Anchor,
    finding::{Finding, Findings, Kind, Proof},
    listing,
    source::{LogFiles, bundle, width},
};

/// An event of a receipt that a node keeps.
#[derive(Debug, Clone)]
pub(crate) struct Promised {
    /// Origin of the sub-log.
    pub(crate) origin: String,
    pub(crate) index: u64,
    pub(crate) leaf: Vec<u8>,
    pub(crate) packet: String,
    /// By when it was to be in the log.
    pub(crate) deadline_ms: u64,
}

/// How far a sub-log was scanned.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Reached {
    /// Entries of its checkpoint.
    pub(crate) size: u64,
    /// When the last epoch ended in which the root log has exactly this state of it; 0 for none.
    pub(crate) slot_ms: u64,
}

/// Looks every promise up in a log that was scanned; how many belong to it.
pub(crate) fn compare(
    files: &dyn LogFiles,
    anchor: &Anchor,
    sizes: &BTreeMap<String, Reached>,
    promised: &[Promised],
    found: &mut Findings,
) -> u64 {
    let mut wanted: Vec<(&str, u64, &Promised)> = Vec::new();
    for one in promised {
        let agency = one.origin.strip_prefix(&anchor.origin).and_then(|rest| rest.strip_prefix('/'));
        if let Some(agency) = agency.filter(|agency| sizes.contains_key(*agency)) {
            wanted.push((agency, one.index, one));
        }
    }
    wanted.sort_by_key(|(agency, index, _)| (*agency, *index));
    let mut compared = 0u64;
    let mut here: Option<(&str, u64, Vec<bytes::Bytes>)> = None;
    for (agency, index, one) in wanted {
        let Reached { size, slot_ms } = sizes.get(agency).copied().unwrap_or_default();
        if index >= size {
            // It may still come, or be mirrored later; a promise is broken when a slot after its deadline lacks it.
            if one.deadline_ms < slot_ms {
                let text = format!(
                    "the broker's receipt for packet {} promised an event here by its deadline; the log ends before it",
                    one.packet
                );
                found.push(
                    Finding::new(Kind::Omitted, &one.origin, text).of(LogFile::Checkpoint).entry(index),
                );
            }
            continue;
        }
        let number = index / WIDTH;
        if here.as_ref().is_none_or(|(of, at, _)| *of != agency || *at != number) {
            let read = bundle(files, &one.origin, Some(agency), number, size);
            // A bundle that cannot be read was reported by the scan.
            here = read.ok().map(|(entries, _)| (agency, number, entries));
        }
        let entries = here.as_ref().map(|(_, _, entries)| entries);
        let at = usize::try_from(index % WIDTH).unwrap_or(usize::MAX);
        let Some(leaf) = entries.and_then(|entries| entries.get(at)) else { continue };
        compared = compared.saturating_add(1);
        if leaf.as_ref() != one.leaf.as_slice() {
            let text = format!(
                "the broker's receipt for packet {} promised another event than the one that stands here",
                one.packet
            );
            let file = LogFile::Entries(number, width(number, size));
            found.push(Finding::new(Kind::OtherLeaf, &one.origin, text).of(file).entry(index));
        }
    }
    compared
}

/// Evidence about a packet of this agency, as its node keeps it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OwnEvidence {
    pub(crate) packet: String,
    /// Whom the packet was for: agency / unit.
    pub(crate) to: String,
    /// SHA-256 of the evidence, in hex.
    pub(crate) digest: String,
    pub(crate) received_ms: u64,
}

/// Looks for each evidence that this node keeps in its agency's sub-log: the event that ended the packet must name it. How
/// many were found.
pub(crate) fn compare_evidence(
    files: &dyn LogFiles,
    anchor: &Anchor,
    (agency, reached): (&str, Reached),
    kept: &[OwnEvidence],
    found: &mut Findings,
) -> u64 {
    let origin = format!("{}/{agency}", anchor.origin);
    let mut wanted: BTreeMap<(String, String), &OwnEvidence> =
        kept.iter().map(|one| ((one.packet.clone(), one.to.clone()), one)).collect();
    let (mut compared, mut unseen, mut submitted) = (0u64, false, BTreeSet::new());
    // What cannot be read was reported by the scan.
    let mut quiet = Findings::default();
    for number in 0..reached.size.div_ceil(WIDTH) {
        let rows = listing::read(files, &origin, agency, (number, reached.size), &|_, _| true, &mut quiet);
        for row in rows {
            unseen |= row.opening != "open";
            if row.kind == "submitted" {
                submitted.insert(row.packet_id.clone());
            }
            if row.evidence_digest.is_empty() {
                continue;
            }
            let Some(one) = wanted.remove(&(row.packet_id, row.to)) else { continue };
            compared = compared.saturating_add(1);
            if one.digest != row.evidence_digest {
                let text = format!(
                    "the log names other evidence of how packet {} ended at {} than the signed one that this node keeps",
                    one.packet, one.to
                );
                let file = LogFile::Entries(number, width(number, reached.size));
                found.push(Finding::new(Kind::OtherLeaf, &origin, text).of(file).entry(row.index));
            }
        }
    }
    for one in wanted.into_values() {
        let late = one.received_ms.saturating_add(limits::COSIGNED_WITHIN_MS) < reached.slot_ms;
        if late && !unseen && submitted.contains(&one.packet) {
            let text = format!(
                "this node keeps signed evidence of how packet {} ended at {}, and no event of the log says so",
                one.packet, one.to
            );
            // The evidence is signed by the recipient; that it went through the broker is this node's word.
            let finding = Finding { proof: Proof::Accusation, ..Finding::new(Kind::Omitted, &origin, text) };
            found.push(finding.of(LogFile::Checkpoint));
        }
    }
    compared
}

/// A piece of a file of the broker's log, on its way from the node to a command.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LogPiece {
    /// Length of the whole file; none if there is no such file.
    pub(crate) file_length: Option<u64>,
    /// In hex.
    pub(crate) bytes: String,
}

/// As [`Promised`], on its way from the node to a command.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OwnEvent {
    pub(crate) origin: String,
    pub(crate) index: u64,
    /// In hex.
    pub(crate) leaf: String,
    pub(crate) packet: String,
    pub(crate) deadline_ms: u64,
}

/// Some of them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OwnPage {
    pub(crate) events: Vec<OwnEvent>,
    /// Evidence about packets of this agency.
    #[serde(default)]
    pub(crate) evidence: Vec<OwnEvidence>,
    /// Where to go on; none at the end.
    pub(crate) next: Option<u64>,
}

/// An order of erasure that the broker has logged.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ordered {
    /// Index of the first ERASED event.
    pub(crate) index: u64,
}

/// Findings with what convinces others, as a file: JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FindingsFile {
    /// 1.
    pub(crate) format: u32,
    /// Rosters that lead to the reader's: canonical bytes of `SignedRoster`, in hex.
    pub(crate) rosters: Vec<String>,
    pub(crate) findings: Vec<Found>,
}

/// What a finding of a file is worth to whoever checked it.
#[derive(Debug, Serialize)]
pub(crate) struct Checked {
    pub(crate) kind: String,
    pub(crate) time_ms: u64,
    /// The node's words.
    pub(crate) text: String,
    /// The node says that it is evidence.
    pub(crate) is_evidence: bool,
    /// What the exhibits prove; none if they prove nothing.
    pub(crate) proves: Option<String>,
    /// Why they do not.
    pub(crate) why_not: Option<String>,
}

/// A finding that the node keeps.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) kind: String,
    pub(crate) text: String,
    pub(crate) is_evidence: bool,
    pub(crate) time_ms: u64,
    /// In hex.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) exhibits: Vec<String>,
}

#[cfg(test)]
mod tests;
