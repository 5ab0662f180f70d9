//! Why a change is not proposed.

use lintas_proto::audit::note::NoteError;
use thiserror::Error;

use crate::{
    authority::found::FoundError,
    directory::{DirectoryError, SuccessionError},
    issue::IssueError,
};

/// Why a change is not proposed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ChangeError {
    /// A request and its source.
    #[error(transparent)]
    Found(#[from] FoundError),
    /// The result breaks a rule.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The result does not follow.
    #[error(transparent)]
    Succession(#[from] SuccessionError),
    /// As [`ChangeError::Directory`].
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// What is said in the sources is needed.
    #[error("{what} needs the sources of the region, which describe it; give their folder")]
    Sources {
        /// What is asked for.
        what: &'static str,
    },
    /// The sources are of another region.
    #[error("the sources are of region `{have}`, the directory is of `{need}`")]
    Region {
        /// Region of the sources.
        have: String,
        /// Region of the directory.
        need: String,
    },
    /// Not a member.
    #[error("{agency} is no member of the region; check the code, or admit it")]
    Stranger {
        /// Agency.
        agency: String,
    },
    /// To be admitted, but a member already.
    #[error("{agency} is a member already; a new identity key of a member is a change of its identity")]
    There {
        /// Agency.
        agency: String,
    },
    /// The change is the state.
    #[error("{agency} is {is} already; leave that out")]
    Already {
        /// Agency.
        agency: String,
        /// Its state.
        is: &'static str,
    },
    /// Revoked is for ever.
    #[error(
        "{agency} was revoked, which is for ever; its agency can come back under a new identity key only, with a \
         new request"
    )]
    Revoked {
        /// Agency.
        agency: String,
    },
    /// Asked for twice, or one of two that exclude each other.
    #[error("{agency} is named for two changes that exclude each other; ask for one")]
    Twice {
        /// Agency.
        agency: String,
    },
    /// The request has the key that the roster names already.
    #[error("the request of {agency} has the identity key that it has already; nothing would change")]
    SameIdentity {
        /// Agency.
        agency: String,
    },
    /// A signature of nobody.
    #[error(
        "a handover does not fit: no old identity key signed it for one of the new ones; ask the agency for the \
         right file, or leave it out (each officer then confirms the new key)"
    )]
    Handover,
    /// An office that cannot come or go.
    #[error("an authority key that is to {what}")]
    Office {
        /// What is wrong.
        what: &'static str,
    },
    /// A witness without a key.
    #[error(
        "{agency} is to be a witness, but no witness key of it is known; ask it for its request and give that: \
         --witness {agency}=join-request.bin"
    )]
    WitnessKey {
        /// Agency.
        agency: String,
    },
    /// A witness key in a request of somebody else.
    #[error(
        "the request given for {agency} is not of {agency} under its identity key in the directory; ask it for the \
         right file"
    )]
    OtherRequest {
        /// Agency.
        agency: String,
    },
    /// The end of a log that is none.
    #[error(
        "that is no checkpoint of the present log of {broker}, `{origin}`: {error}; get its file `checkpoint`"
    )]
    Checkpoint {
        /// Broker.
        broker: String,
        /// Origin of its log.
        origin: String,
        /// What is wrong.
        error: NoteError,
    },
    /// The end of a log that too few have seen.
    #[error(
        "only {have} of the {of} witnesses have cosigned that checkpoint of {broker}, and {need} must: a larger one \
         may be known to others. Ask every witness for the largest that it has. If there is none, \
         --without-quorum ends the log here, and what was included after it is lost from the log"
    )]
    Quorum {
        /// Broker.
        broker: String,
        /// Cosignatures.
        have: usize,
        /// Needed.
        need: usize,
        /// Witnesses.
        of: usize,
    },
    /// A new log key for a log that goes on.
    #[error(
        "broker {broker} has a new log key, and two keys must not sign one log: end its log with the same change, \
         --end-log {broker}=CHECKPOINT"
    )]
    LogGoesOn {
        /// Broker.
        broker: String,
    },
    /// A broker of which nobody has said anything.
    #[error("broker `{0}` is none of the region; name it in `region.toml` and give the sources")]
    Broker(String),
}
