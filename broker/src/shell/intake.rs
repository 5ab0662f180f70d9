//! What sessions hand over to the sequencer.

use lintas_proto::{
    id::PacketId,
    schema::{Reason, SignedErasureOrder},
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::answer::AnswerTo;
use crate::core::{
    admit::{Claim, Verified},
    hand_over::Asked,
    outcome::How,
    refuse::Refused,
};

/// What sessions hand over.
#[derive(Debug)]
pub(crate) enum Intake {
    /// A submission that passed the gates without state.
    Submit(Box<Submitted>),
    /// A submission that one of those gates refused, for good or not: it may have been accepted before.
    Refuse(Box<Refusing>),
    /// The end of an entry of the session's own queue.
    End(End),
    /// An entry of the session's own queue that it may not hand over.
    Deny(Box<Denying>),
    /// What an agency's slots are to be salted with, as its node said in its hello.
    SlotKey { agency: String, key: [u8; 32] },
    /// An auditor asks for openings of another agency's sub-log; it may have them. Answered when the read is in the log,
    /// durably.
    Read {
        auditor: String,
        agency: String,
        first_index: u64,
        count: u64,
        answer: oneshot::Sender<Result<(), Denied>>,
    },
    /// An agency orders that openings of its own sub-log are erased; its signature, region and origin are verified.
    /// `packets` are those that the entries are about. Answered with the index of the first ERASED event, when that is
    /// durable.
    Erase {
        order: Box<SignedErasureOrder>,
        packets: Vec<PacketId>,
        answer: oneshot::Sender<Result<u64, Denied>>,
    },
}

/// Why something was not done, and what to do.
pub(crate) type Denied = (Reason, String);

/// A submission on its way to the journal.
#[derive(Debug)]
pub(crate) struct Submitted {
    pub(crate) verified: Verified,
    pub(crate) answer: AnswerTo,
    /// Its share of the bytes that all sessions together may have under way.
    pub(crate) share: OwnedSemaphorePermit,
}

/// A refusal on its way to the journal.
#[derive(Debug)]
pub(crate) struct Refusing {
    pub(crate) refused: Refused,
    /// Which packet it claims to be, if the gates did not say more of it.
    pub(crate) claim: Option<Claim>,
    pub(crate) answer: AnswerTo,
}

/// A queue entry that was not handed over.
#[derive(Debug)]
pub(crate) struct Denying {
    pub(crate) agency: String,
    pub(crate) queue_sequence: u64,
    /// What the policies were asked about it.
    pub(crate) asked: Asked,
}

/// The end of one queue entry.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) agency: String,
    pub(crate) queue_sequence: u64,
    pub(crate) how: How,
}
