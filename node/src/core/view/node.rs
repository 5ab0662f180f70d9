//! Of the node itself: its keys, its connection, its state, and the agencies that it knows.

use lintas_config::words;
use lintas_proto::schema::HelloAck;
use serde::{Deserialize, Serialize};

use super::TransferView;

/// A public key as two people compare it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Fingerprint {
    /// 12 words.
    pub(crate) words: String,
    /// 12 groups of 5 digits.
    pub(crate) digits: String,
}

impl Fingerprint {
    /// Of that key.
    pub(crate) fn of(key: &[u8; 32]) -> Self {
        Self { words: words::fingerprint_words(key), digits: words::fingerprint_digits(key) }
    }
}

/// An agency as the directory lists it, to be compared with its own word.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ContactView {
    /// Code.
    pub(crate) agency: String,
    /// Name.
    pub(crate) name: String,
    /// Country, if it is of one.
    pub(crate) country: String,
    /// Code and name of each unit.
    pub(crate) units: Vec<String>,
    /// Its identity key.
    pub(crate) identity_key: Fingerprint,
    /// Version of the roster that lists it so.
    pub(crate) roster_version: u64,
    /// Its key is another one than before, and nobody vouches for it.
    pub(crate) held: bool,
    /// It is an active member.
    pub(crate) active: bool,
    /// An officer, or the first directory, vouches for it under this key.
    pub(crate) confirmed: bool,
    /// Its groups.
    pub(crate) groups: Vec<String>,
    /// Those through which nothing is sent to it yet.
    pub(crate) open_groups: Vec<String>,
}

/// The connection to the broker.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct LinkView {
    /// Whether a session is open.
    pub(crate) connected: bool,
    /// Since when it is as it is.
    pub(crate) since_ms: u64,
    /// Name of the broker, once it has said it.
    pub(crate) broker: String,
    /// What last went wrong, in words.
    pub(crate) trouble: String,
    /// Version of the broker's roster at the last hello; 0 before the first.
    #[serde(default)]
    pub(crate) broker_roster: u64,
    /// How far this machine's clock and the broker's were apart at the last hello, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) clock_apart_ms: Option<u64>,
}

impl LinkView {
    /// Notes what the broker said of itself in its answer to the hello.
    pub(crate) fn heard(&mut self, ack: &HelloAck, now_ms: u64) {
        self.broker.clone_from(&ack.broker);
        self.broker_roster = ack.roster_version;
        self.clock_apart_ms = Some(ack.time_ms.abs_diff(now_ms));
    }
}

/// How the node is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Status {
    /// The agency.
    pub(crate) agency: String,
    /// The region.
    pub(crate) region: String,
    /// Version of the roster in force.
    pub(crate) roster_version: u64,
    /// Whether the roster is valid now.
    pub(crate) roster_valid: bool,
    /// Until when it is.
    pub(crate) roster_until_ms: u64,
    /// Agencies of which nothing is believed, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) held: Vec<String>,
    /// Agencies to which something is not sent until an officer has confirmed them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) unconfirmed: Vec<String>,
    /// What the operator must do something about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) warnings: Vec<String>,
    /// Room left on the disk of the data folder, bytes; absent if the system does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) disk_free_bytes: Option<u64>,
    /// Whether a daemon answers.
    pub(crate) daemon: bool,
    /// A daemon that is locked says only that.
    #[serde(default)]
    pub(crate) locked: bool,
    /// The agency's release policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<super::PolicyView>,
    /// The connection; only a daemon has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) link: Option<LinkView>,
    /// Attachments on their way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) transfers: Vec<TransferView>,
    /// Own packets that wait for a person's review.
    #[serde(default)]
    pub(crate) awaiting_review: usize,
    /// Own packets without a final answer.
    pub(crate) waiting: usize,
    /// Own packets in all.
    pub(crate) sent: usize,
    /// Packets received.
    pub(crate) received: usize,
    /// Deliveries rejected.
    pub(crate) rejected: usize,
    /// Received packets whose predecessor was never seen.
    pub(crate) gaps: usize,
}

/// A packet that is purged, or would be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PurgedEntry {
    /// Its id.
    pub(crate) packet_id: String,
    /// `received` or `sent`.
    pub(crate) direction: String,
    /// Received: who sent it. Sent: its recipients.
    pub(crate) with: Vec<String>,
    /// What it is.
    pub(crate) kind: String,
    /// When it came or was sealed.
    pub(crate) time_ms: u64,
}

/// What a purge did, or would do.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Purged {
    /// Whether it was done.
    pub(crate) done: bool,
    /// How many packets.
    pub(crate) total: usize,
    /// The first 1,000 of them, newest first.
    pub(crate) packets: Vec<PurgedEntry>,
    /// Packets that fit but were left, because the broker has not answered to them yet.
    pub(crate) left_waiting: usize,
}

/// The keys that a unit can be written to with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct UnitKeys {
    /// The unit.
    pub(crate) unit: String,
    /// Oldest week of which the private key is here: days since 1970-01-01 divided by 7.
    pub(crate) first_epoch: u32,
    /// Last one.
    pub(crate) last_epoch: u32,
    /// When the last one ends, milliseconds since 1970.
    pub(crate) until_ms: u64,
}

/// The keys of this agency.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct KeysView {
    /// The agency.
    pub(crate) agency: String,
    /// The region.
    pub(crate) region: String,
    /// Each unit's.
    pub(crate) units: Vec<UnitKeys>,
    /// Version of the delegation by which the identity key lets this node sign keysets.
    pub(crate) delegation_version: u64,
    /// When that ends.
    pub(crate) delegated_until_ms: u64,
    /// Version of the keyset that was signed here last; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keyset_version: Option<u64>,
    /// Version in the directory in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) published_version: Option<u64>,
    /// Whether the directory in force has what was signed here last.
    pub(crate) published: bool,
    /// It takes this agency out.
    pub(crate) revoked: bool,
    /// Transport and packet keys that take over once the directory names them are waiting.
    pub(crate) keys_to_come: bool,
    /// Words of the key that cosigns the audit log.
    pub(crate) witness_words: String,
    /// Whether the directory names it, or another one; absent if this agency is no witness.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) witness_named: Option<bool>,
    /// Agencies whose keysets are to be brought to the broker.
    pub(crate) to_publish: Vec<String>,
    /// Key pages.
    pub(crate) pages: usize,
}
