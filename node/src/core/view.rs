//! What an officer or a program is shown. Times are milliseconds since 1970-01-01T00:00:00Z; the commands print
//! them as UTC with local time beside.

mod evidence;
mod node;
mod policy;
mod review;

use serde::{Deserialize, Serialize};

pub(crate) use evidence::{Acknowledged, EvidenceView, Happened, LogPlace};
pub(crate) use node::{ContactView, Fingerprint, KeysView, LinkView, Purged, PurgedEntry, Status, UnitKeys};
pub(crate) use policy::{PolicyVersion, PolicyView};
pub(crate) use review::{AwaitingReview, Reviewed};

/// A packet that was sealed and kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// Its id.
    pub(crate) packet_id: String,
    /// SHA-256 of its header, hex.
    pub(crate) digest: String,
    /// To whom.
    pub(crate) to: Vec<String>,
    /// Not delivered later.
    pub(crate) deliver_by_ms: u64,
    /// Members of a group to which it does not go, because no officer has confirmed them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) left_out: Vec<String>,
    /// Recipients to which it does not go, because a policy does not release it to them: each with why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) denied: Vec<String>,
    /// Policies that demand a person's review: it is not sent before that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) review_by: Vec<String>,
    /// What the officer must know of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) warnings: Vec<String>,
    /// Whether a daemon is there to send it now.
    pub(crate) daemon: bool,
}

/// Where a packet of ours stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(crate) enum Standing {
    /// No answer of the broker yet.
    Waiting {
        /// Why it was put off, if it was.
        #[serde(skip_serializing_if = "Option::is_none")]
        why: Option<String>,
        /// When it is tried again, if it was put off.
        #[serde(skip_serializing_if = "Option::is_none")]
        again_ms: Option<u64>,
    },
    /// A person of this agency must look at it before it is sent.
    #[serde(rename = "awaiting-review")]
    AwaitingReview {
        /// Until when it may be released.
        until_ms: u64,
    },
    /// Nobody looked at it in time; it was not sent.
    #[serde(rename = "review-expired")]
    ReviewExpired {
        /// Until when it might have been released.
        until_ms: u64,
    },
    /// A person of this agency has released it; another packet was sealed in its place.
    #[serde(rename = "released-in-review")]
    ReleasedInReview {
        /// Name and office, as they said.
        by: String,
        /// When.
        time_ms: u64,
    },
    /// A person of this agency has refused it; it was not sent.
    #[serde(rename = "refused-in-review")]
    RefusedInReview {
        /// Name and office, as they said.
        by: String,
        /// Why, as they said.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        note: String,
        /// When.
        time_ms: u64,
    },
    /// The broker has it durably.
    Accepted {
        /// The broker's time.
        time_ms: u64,
        /// Sub-log.
        log: String,
        /// 0-based index there.
        index: u64,
        /// The broker's clock and ours differ.
        clock_differs: bool,
        /// It was not released to every recipient: each says why not.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        in_part: bool,
    },
    /// The broker refused it for good, or this node did not seal it again.
    Refused {
        /// Who, why and what to do, in one sentence each.
        who: String,
        /// Code.
        reason: String,
        /// Why.
        why: String,
        /// What to do.
        advice: String,
        /// The broker signed a statement of it, and the signature holds.
        signed: bool,
        /// When.
        time_ms: u64,
    },
}

/// What became of a packet at one recipient.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Arrival {
    /// The recipient.
    pub(crate) unit: String,
    /// `pending`, `released`, `denied`, `not-accepted`, `withheld`, `delivered` or `failed`.
    pub(crate) state: String,
    /// When, if something is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) time_ms: Option<u64>,
    /// Who says so and why, for what did not arrive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
    /// What to do then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) advice: Option<String>,
    /// The policies that decided, if any did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) policies: Vec<String>,
}

/// Which way an attachment goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Direction {
    /// To the broker.
    Upload,
    /// From it.
    Download,
}

/// The attachments of one packet on their way, ciphertext bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TransferView {
    /// Which way.
    pub(crate) direction: Direction,
    /// Packet id.
    pub(crate) packet: String,
    /// Done.
    pub(crate) done: u64,
    /// Of so many.
    pub(crate) total: u64,
}

/// One line of the outbox.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct OutboxEntry {
    /// Its id.
    pub(crate) packet_id: String,
    /// What it is.
    pub(crate) kind: String,
    /// Its title, from the sealed body.
    pub(crate) title: String,
    /// When it was sealed.
    pub(crate) created_ms: u64,
    /// What the broker said.
    #[serde(flatten)]
    pub(crate) standing: Standing,
    /// Its attachments, while they are uploaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) transfer: Option<TransferView>,
    /// How well its receipt is proven: `promised`, `included` or `witnessed`; absent without a receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) proven: Option<String>,
    /// Each recipient.
    pub(crate) recipients: Vec<Arrival>,
    /// The packet whose place it took, because the broker asked for newer keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) in_place_of: Option<String>,
    /// The packet that took its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) replaced_by: Option<String>,
    /// An officer sent it although the directory was known to be out of date.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) despite_stale: bool,
    /// Name and office of the person who has reviewed the release, as they said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reviewed_by: Option<String>,
    /// When its content was purged here, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) purged_ms: Option<u64>,
}

/// One line of the inbox.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct InboxEntry {
    /// Its id.
    pub(crate) packet_id: String,
    /// Who sent it.
    pub(crate) from: String,
    /// For which unit.
    pub(crate) unit: String,
    /// What it is.
    pub(crate) kind: String,
    /// Its title, from the sealed body.
    pub(crate) title: String,
    /// When it was durable here.
    pub(crate) received_ms: u64,
    /// How well its receipt is proven, as in the outbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) proven: Option<String>,
    /// How many attachments.
    pub(crate) attachments: usize,
    /// When its content was purged here, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) purged_ms: Option<u64>,
    /// What the officer must know.
    pub(crate) warnings: Vec<String>,
}

/// A delivery that was not taken.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RejectedEntry {
    /// SHA-256 of its header bytes, hex.
    pub(crate) digest: String,
    /// For which unit.
    pub(crate) unit: String,
    /// Code.
    pub(crate) reason: String,
    /// Why.
    pub(crate) text: String,
    /// When.
    pub(crate) received_ms: u64,
}

/// The inbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Inbox {
    /// Newest first.
    pub(crate) packets: Vec<InboxEntry>,
    /// Newest first.
    pub(crate) rejected: Vec<RejectedEntry>,
    /// Packets that are kept as soon as their attachments are here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) arriving: Vec<TransferView>,
    /// How many there are in all.
    pub(crate) total: usize,
}

/// The outbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outbox {
    /// Newest first.
    pub(crate) packets: Vec<OutboxEntry>,
    /// How many there are in all.
    pub(crate) total: usize,
}

/// An attachment, without its key.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct AttachmentView {
    /// 1-based.
    pub(crate) number: usize,
    /// As the sender's computer called it: hostile text, never a path.
    pub(crate) claimed_name: String,
    /// Plaintext bytes.
    pub(crate) bytes: u64,
    /// SHA-256 of the plaintext, hex.
    pub(crate) sha256: String,
}

/// A packet, opened.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct PacketView {
    /// Its id.
    pub(crate) packet_id: String,
    /// SHA-256 of its header, hex.
    pub(crate) digest: String,
    /// `received` or `sent`.
    pub(crate) direction: String,
    /// Who signed it.
    pub(crate) from: String,
    /// Received: our unit. Sent: all recipients.
    pub(crate) to: Vec<String>,
    /// All recipients, when the sender let each see the others.
    pub(crate) audience: Vec<String>,
    /// What it is.
    pub(crate) kind: String,
    /// Whether it may be passed on.
    pub(crate) onward: String,
    /// The clear label.
    pub(crate) label: serde_json::Value,
    /// What handling codes and caveats oblige to, each as one sentence.
    #[serde(default)]
    pub(crate) restrictions: Vec<String>,
    /// Its attachments are not written into files without a yes: H3 or DISPLAY_ONLY.
    #[serde(default)]
    pub(crate) restricted: bool,
    /// When it was sealed.
    pub(crate) created_ms: u64,
    /// Not delivered later.
    pub(crate) deliver_by_ms: u64,
    /// Received: when it was durable here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) received_ms: Option<u64>,
    /// How well its receipt is proven, as in the outbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) proven: Option<String>,
    /// Sent: where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) outbox: Option<OutboxEntry>,
    /// What the officer must know.
    pub(crate) warnings: Vec<String>,
    /// The body, without keys and salts.
    pub(crate) body: serde_json::Value,
    /// Attachments.
    pub(crate) attachments: Vec<AttachmentView>,
}

/// What holds an officer's words is never printed, not even by `{:?}`.
macro_rules! unprintable {
    ($($view:ident),+) => {$(
        impl std::fmt::Debug for $view {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($view), " { .. }"))
            }
        }
    )+};
}

unprintable!(AttachmentView, InboxEntry, OutboxEntry, PacketView);

/// A file that was written.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Exported {
    /// Where.
    pub(crate) file: String,
    /// What it is.
    #[serde(flatten)]
    pub(crate) attachment: AttachmentView,
}
