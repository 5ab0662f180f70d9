//! The broker's audit log, as this node follows it.
//!
//! - [`receipts`]: how well each receipt is proven; [`inclusion`]: what proves it
//! - [`evidence_file`]: everything about one packet in one file, made and verified

pub(crate) mod inclusion;
pub(crate) mod receipts;
