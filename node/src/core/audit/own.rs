//! Whether the log has what the broker promised to this node.

use std::collections::BTreeMap;

use lintas_proto::audit::{files::LogFile, tile::WIDTH};
use serde::{Deserialize, Serialize};

use super::{
    anchor::Anchor,
    finding::{Finding, Findings, Kind},
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

/// Looks every promise up in a log that was scanned; how many belong to it.
pub(crate) fn compare(
    files: &dyn LogFiles,
    anchor: &Anchor,
    sizes: &BTreeMap<String, (u64, u64)>,
    promised: &[Promised],
    found: &mut Findings,
) -> u64 {
    let mut wanted: BTreeMap<(&str, u64), &Promised> = BTreeMap::new();
    for one in promised {
        let agency = one.origin.strip_prefix(&anchor.origin).and_then(|rest| rest.strip_prefix('/'));
        if let Some(agency) = agency.filter(|agency| sizes.contains_key(*agency)) {
            wanted.insert((agency, one.index), one);
        }
    }
    let mut compared = 0u64;
    let mut here: Option<(&str, u64, Vec<bytes::Bytes>)> = None;
    for ((agency, index), one) in wanted {
        let (size, proven_ms) = sizes.get(agency).copied().unwrap_or_default();
        if index >= size {
            // It may still come, or be fetched: a promise is broken by an epoch after its deadline whose slot lacks it.
            if one.deadline_ms < proven_ms {
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
