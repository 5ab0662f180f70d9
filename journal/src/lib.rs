//! The one place that makes bytes durable: segments, group commit, recovery.
