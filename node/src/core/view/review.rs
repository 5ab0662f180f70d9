//! Review before release.

use serde::{Deserialize, Serialize};

use super::OutboxEntry;

/// A packet that a person must look at before it is sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AwaitingReview {
    /// The packet.
    #[serde(flatten)]
    pub(crate) packet: OutboxEntry,
    /// What its label obliges readers to; the sender's own words first.
    pub(crate) restrictions: Vec<String>,
    /// The policies that demand the review today.
    pub(crate) demanded_by: Vec<String>,
}

/// What was decided.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Reviewed {
    /// The packet that waited.
    pub(crate) packet_id: String,
    /// Whether it goes.
    pub(crate) released: bool,
    /// Name and office, as they said.
    pub(crate) by: String,
    /// The packet that goes in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) replaced_by: Option<String>,
    /// To whom it goes, or does not.
    pub(crate) to: Vec<String>,
    /// Not delivered later.
    pub(crate) deliver_by_ms: u64,
    /// Whether a daemon is there to send it now.
    pub(crate) daemon: bool,
}
