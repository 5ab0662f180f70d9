//! The published log: a fold over the journal's records that says, for each epoch, what its files hold
//! (docs/AUDIT.md). The same records give the same bytes; only the keys of openings are drawn anew.
//!
//! - [`fold`]: from records to publications; [`resume`]: the fold as it was at the last epoch, from its files
//! - [`publication`]: what is to be written, in which order
//! - [`sub_log`]: an agency's own log; [`entries`]: what it and the root log have in common; [`tree`]: its tiles

pub mod entries;
pub mod fold;
pub mod publication;
pub mod resume;
pub mod sub_log;
#[cfg(test)]
mod tests;
pub mod tree;

use lintas_proto::receipt::ReceiptError;
use thiserror::Error;

/// Why the log cannot be published. The broker stops: what it would publish would be false.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LogError {
    /// A record does not follow from those before it.
    #[error("record {sequence} contradicts the audit log before it: {what}")]
    Contradiction {
        /// The record.
        sequence: u64,
        /// In which way.
        what: &'static str,
    },
    /// An event that does not stand where the one before it ends.
    #[error("record {sequence}: an event of {agency} has index {found} where {expected} is next")]
    Gap {
        /// The record.
        sequence: u64,
        /// Whose sub-log.
        agency: String,
        /// The index that follows.
        expected: u64,
        /// The index that came.
        found: u64,
    },
    /// A receipt that is none.
    #[error("record {sequence}: {error}")]
    Receipt {
        /// The record.
        sequence: u64,
        /// What is wrong.
        error: ReceiptError,
    },
    /// A file of the log is not what was published.
    #[error("audit/{file}: {what}; restore the folder audit/ together with journal/ from one backup")]
    File {
        /// Which file.
        file: String,
        /// What is wrong.
        what: String,
    },
}
