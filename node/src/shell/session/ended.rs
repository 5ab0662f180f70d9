//! Why a session ended, and what that says to the operator.

use lintas_link::LinkError;
use lintas_proto::schema::Reason;

use crate::{
    core::text::{self, one_line},
    shell::{
        clock,
        desk::{self, Broken},
        failure::Failure,
        transfer::TransferError,
    },
};

/// Why a session ended.
pub(super) enum Ended {
    /// It can be opened again.
    Link(String),
    /// The broker refused this node for the time.
    Clock(String),
    /// The broker refused this node: it can be opened once somebody has done something about it.
    Refused(String),
    /// The store failed: the process must stop.
    Fatal(Failure),
}

impl From<LinkError> for Ended {
    fn from(error: LinkError) -> Self {
        if let LinkError::Refused { reason, text } = &error {
            let (ours, advice) = text::hello(*reason);
            let now = clock::show(clock::now_ms());
            let said = one_line(text);
            let why = format!(
                "the broker refused this node: {ours} (it says `{said}`; this machine's clock says {now}); \
                 {advice}. The outbox keeps everything"
            );
            return if *reason == Reason::Clock { Self::Clock(why) } else { Self::Refused(why) };
        }
        if matches!(error, LinkError::NotAdmitted) {
            return Self::Refused(format!("{error}. The outbox keeps everything"));
        }
        Self::Link(error.to_string())
    }
}

impl From<TransferError> for Ended {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Link(error) => error.into(),
            error @ (TransferError::File { .. }
            | TransferError::NoRoom(_)
            | TransferError::Refused { .. }
            | TransferError::Wrong { .. }
            | TransferError::Damaged { .. }
            | TransferError::Mismatch { .. }) => Self::Link(error.to_string()),
        }
    }
}

impl From<Broken> for Ended {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Protocol(why) => Self::Link(why),
            Broken::Store(error) if error.is_fatal() => Self::Fatal(desk::stored(error)),
            Broken::Store(error) => Self::Link(error.to_string()),
            Broken::Internal(failure) => Self::Fatal(failure),
        }
    }
}
