//! What sessions hand over to the sequencer.

use lintas_proto::schema::Reason;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{answer::AnswerTo, log::Erasure};
use crate::core::{admit::Verified, outcome::How};

/// What sessions hand over.
#[derive(Debug)]
pub(crate) enum Intake {
    /// A submission that passed the gates without state.
    Submit(Box<Submitted>),
    /// The end of an entry of the session's own queue.
    End(End),
    /// An auditor is about to be given openings of another agency's sub-log.
    Read {
        auditor: String,
        agency: String,
        first_index: u64,
        count: u64,
        answer: oneshot::Sender<Result<(), (Reason, String)>>,
    },
    /// An erasure order.
    Erase { erasure: Erasure, answer: oneshot::Sender<Result<u64, (Reason, String)>> },
}

/// A submission on its way to the journal.
#[derive(Debug)]
pub(crate) struct Submitted {
    pub(crate) verified: Verified,
    pub(crate) answer: AnswerTo,
    /// Its share of the bytes that all sessions together may have under way.
    pub(crate) share: OwnedSemaphorePermit,
}

/// The end of one queue entry.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) agency: String,
    pub(crate) queue_sequence: u64,
    pub(crate) how: How,
}
