//! The broker's audit log, watched and followed: what this node knows of it, and what is wrong with it.
//!
//! - [`standing`]: the largest tree of a log that this node has verified, and whether others continue it
//! - [`witness`]: whether a checkpoint is cosigned; [`gossip`]: checkpoints that came inside packets
//! - [`receipts`]: how well each receipt is proven; [`inclusion`]: what proves it; [`promises`]: which place a receipt
//!   promised to which leaf
//! - [`evidence_file`]: everything about one packet in one file, verified
//! - [`attested`]: which directories the log attests
//! - [`pulse`]: whether the log goes on while this node is connected
//! - [`findings`]: what the log should not show, as evidence or as accusation; [`judge`]: whether others are convinced

pub(crate) mod attested;
pub(crate) mod evidence_file;
pub(crate) mod findings;
pub(crate) mod gossip;
pub(crate) mod inclusion;
pub(crate) mod judge;
pub(crate) mod promises;
pub(crate) mod pulse;
pub(crate) mod receipts;
pub(crate) mod standing;
pub(crate) mod witness;
