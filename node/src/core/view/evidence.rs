//! What became of one packet, as it can be proven.

use serde::{Deserialize, Serialize};

use crate::core::log::receipts::Grade;

/// What an evidence file shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EvidenceView {
    /// Its id.
    pub(crate) packet_id: String,
    /// SHA-256 of its header, hex.
    pub(crate) digest: String,
    /// The region.
    pub(crate) region: String,
    /// What it is.
    pub(crate) kind: String,
    /// Who signed it.
    pub(crate) from: String,
    /// When it was sealed, by its sender's word.
    pub(crate) created_ms: u64,
    /// From which agency's side.
    pub(crate) of: String,
    /// `sent` or `received`.
    pub(crate) side: String,
    /// Sub-log.
    pub(crate) log: String,
    /// The broker's receipt.
    pub(crate) receipt_ms: u64,
    /// By when the events were to stand in the log.
    pub(crate) deadline_ms: u64,
    /// What the broker did, in order.
    pub(crate) events: Vec<Happened>,
    /// What others said, each signed.
    pub(crate) acknowledgements: Vec<Acknowledged>,
    /// `promised`, `included` or `witnessed`.
    pub(crate) grade: String,
    /// Where in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) place: Option<LogPlace>,
    /// What is missing, and why.
    pub(crate) missing: Vec<String>,
    /// The file that was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) written: Option<String>,
}

/// One event of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Happened {
    /// What.
    pub(crate) event: String,
    /// For whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) recipient: Option<String>,
    /// The broker's time.
    pub(crate) time_ms: u64,
    /// Index in the sub-log.
    pub(crate) index: u64,
    /// By which policy, if one decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) decided_by: Option<String>,
    /// What the sender is told of a policy that did not let it through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
}

/// One signed statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Acknowledged {
    /// Who says so.
    pub(crate) by: String,
    /// For whom it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) recipient: Option<String>,
    /// They have it.
    pub(crate) accepted: bool,
    /// Why not.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub(crate) why: String,
    /// Their sentence.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub(crate) text: String,
    /// Their time.
    pub(crate) time_ms: u64,
    /// Whether the entry that they saw in their own log fits.
    pub(crate) leaf: String,
}

/// Where events stand in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogPlace {
    /// Root log.
    pub(crate) origin: String,
    /// Epoch: the index of its entry in the root log.
    pub(crate) epoch: u64,
    /// When it ended.
    pub(crate) epoch_ms: u64,
    /// Entries of the sub-log then.
    pub(crate) sub_log_size: u64,
    /// Entries of the root log under the checkpoint.
    pub(crate) tree_size: u64,
    /// Witnesses that cosigned the checkpoint.
    pub(crate) cosigned: usize,
    /// Witnesses of the region.
    pub(crate) witnesses: usize,
    /// How many must.
    pub(crate) needed: usize,
    /// When the quorum was there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) witnessed_ms: Option<u64>,
    /// Roster whose witnesses count.
    pub(crate) roster_version: u64,
    /// The region authority has ended this log with so many epochs, before this one: what followed was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) given_up: Option<u64>,
}

impl LogPlace {
    /// How well what stands there is proven.
    pub(crate) fn grade(&self) -> Grade {
        if self.witnessed_ms.is_some() { Grade::Witnessed } else { Grade::Included }
    }
}
