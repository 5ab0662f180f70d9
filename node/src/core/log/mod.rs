//! The broker's audit log, as this node follows it.
//!
//! - [`receipts`]: how well each receipt is proven; [`inclusion`]: what proves it

pub(crate) mod findings;
pub(crate) mod inclusion;
pub(crate) mod receipts;
