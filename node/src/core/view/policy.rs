//! The own agency's release policy: its versions, and where each counts.

use serde::{Deserialize, Serialize};

/// One version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PolicyVersion {
    /// From 1.
    pub(crate) version: u64,
    /// SHA-256 of the canonical bytes of the `PolicyBundle`, in hex.
    pub(crate) hash: String,
    /// In force not earlier.
    pub(crate) not_before_ms: u64,
    /// What its author says of it; may be empty.
    pub(crate) note: String,
    /// Version of the certificate by which the identity key let the node sign it.
    pub(crate) certificate: u64,
    /// `in_force`, `to_come`, `over`, or `replaced_keys`: it was signed with keys that were replaced before this node was
    /// made, and is never in force here.
    pub(crate) here: String,
    /// `in_force`, `to_come`, `over`, `missing` or `refused`; absent if the broker was not asked since the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) at_broker: Option<String>,
}

/// The policy, as this node and the broker have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PolicyView {
    /// The agency.
    pub(crate) agency: String,
    /// Version in force here; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) in_force: Option<u64>,
    /// Newest version here; 0 for none.
    pub(crate) newest: u64,
    /// Newest version at the broker, 0 for none; absent if it was not asked since the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) broker: Option<u64>,
    /// When the broker said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) heard_ms: Option<u64>,
    /// What is wrong, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) trouble: Option<String>,
    /// Two different bundles have the same version.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) forked: bool,
    /// In order; in `status` left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) versions: Vec<PolicyVersion>,
}

impl PolicyView {
    /// In a line or two, without what is wrong.
    pub(crate) fn line(&self) -> String {
        let here = match (self.in_force, self.newest) {
            (Some(version), _) => format!("version {version} in force"),
            (None, 0) => "NONE, so nothing is released and nothing is taken".to_owned(),
            (None, _) => "none in force yet, so nothing is released and nothing is taken".to_owned(),
        };
        let broker = match self.broker {
            None => "the broker was not asked yet".to_owned(),
            Some(0) => "the broker has none".to_owned(),
            Some(version) if version == self.newest => "the broker has the same".to_owned(),
            Some(version) => format!("the broker has version {version}"),
        };
        let to_come =
            if self.in_force.is_some_and(|version| version < self.newest) { self.newest } else { 0 };
        let to_come = if to_come > 0 { format!(", version {to_come} to come") } else { String::new() };
        format!("{here}{to_come}; {broker}")
    }
}
