//! Why a directory is refused.

use lintas_proto::{canonical::DecodeError, id::IdError, sign::SignatureError};
use thiserror::Error;

use crate::policy::loosening::TooEarly;

/// Why a directory was refused. The directory in force stays in force.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DirectoryError {
    /// Not canonical.
    #[error("directory: {0}")]
    Decode(#[from] DecodeError),
    /// A code or name that is none.
    #[error("{what} `{text}` is {error}")]
    Id {
        /// What it should name.
        what: &'static str,
        /// What it says.
        text: String,
        /// What is wrong.
        error: IdError,
    },
    /// A field that must be there is not, or breaks a rule.
    #[error("{whose}: {what}")]
    Rule {
        /// "roster", or whose keyset.
        whose: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A key that cannot be used.
    #[error("{whose}: {error}")]
    Key {
        /// Whose key.
        whose: String,
        /// What is wrong.
        error: SignatureError,
    },
    /// Too few authorities signed the roster.
    #[error("roster is signed by {have} of the region's authorities, {need} are needed")]
    TooFewSignatures {
        /// Valid signatures of different authorities.
        have: usize,
        /// Signatures needed.
        need: usize,
    },
    /// A signature that does not fit.
    #[error("{0}: the signature does not fit")]
    Signature(String),
    /// A key that appears twice or in two roles: of whom. Nobody proves that a public key in a keyset is its own, so
    /// either may have taken the other's.
    #[error("{0}: this key is used twice; each key serves one role of one agency")]
    KeyTwice(String),
    /// The regional baseline cannot be used.
    #[error("baseline policy: {0}")]
    Baseline(String),
    /// For another region.
    #[error("directory is for region `{have}`, this node belongs to `{need}`")]
    WrongRegion {
        /// Region of the directory.
        have: String,
        /// Region expected.
        need: String,
    },
}

/// Why a directory may not follow the one in force. The directory in force stays in force.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SuccessionError {
    /// It would be refused as a first directory too.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The roster is older than the one in force.
    #[error("roster version {have} was rolled back: version {seen} is in force here; report who offered it")]
    RosterRolledBack {
        /// Version offered.
        have: u64,
        /// Version in force.
        seen: u64,
    },
    /// Two rosters of one version, both signed by the authorities.
    #[error(
        "the authorities signed two different rosters of version {version}; accept nothing from them until they \
         have explained it"
    )]
    RosterEquivocation {
        /// The version.
        version: u64,
    },
    /// A roster in between is missing, or the steps are out of order.
    #[error("after roster version {} comes {need}, not {have}; fetch the rosters in between", need - 1)]
    StepMissing {
        /// Version offered.
        have: u64,
        /// Version that must come next.
        need: u64,
    },
    /// The roster does not name the one in force as its predecessor.
    #[error(
        "roster version {version} does not follow from the roster in force here; its history is another one"
    )]
    RosterFork {
        /// The version.
        version: u64,
    },
    /// A member is no longer named. Members are revoked, never left out.
    #[error("roster leaves out {agency}; a member that leaves is named as revoked")]
    MemberGone {
        /// Agency.
        agency: String,
    },
    /// A revoked member is to return with the same identity key.
    #[error("roster brings back {agency}, which was revoked; it can come back under a new identity key only")]
    MemberReturned {
        /// Agency.
        agency: String,
    },
    /// What was said of an ended log is taken back.
    #[error(
        "roster takes back or changes what was said of a log of {broker} that has ended; accept nothing from the \
         authorities until they have explained it"
    )]
    LogReturned {
        /// Broker.
        broker: String,
    },
    /// Two keys would sign one log.
    #[error(
        "roster gives the log of {broker} another key, and two keys must not sign one log; with a new key a new log \
         begins: the roster must end this one"
    )]
    LogKey {
        /// Broker.
        broker: String,
    },
    /// A policy of the baseline would stop to forbid without having been announced.
    #[error(
        "roster version {version} ends the policy `{policy}` of the regional baseline too early: it must stay, or be \
         named as leaving until {} or later, so that every member sees it coming for 14 days. The roster in force \
         stays; the region authority must issue another one", moment(*until_ms)
    )]
    Loosened {
        /// Version of the roster.
        version: u64,
        /// Id of the policy, e.g. `baseline/noforn`.
        policy: String,
        /// Until when it must forbid at least, milliseconds since 1970.
        until_ms: u64,
    },
    /// A keyset or delegation may not follow the one in force.
    #[error("{what} of {agency}: {problem}")]
    Agency {
        /// Agency.
        agency: String,
        /// Its keyset or its delegation.
        what: Layer,
        /// What is wrong.
        problem: StampError,
    },
    /// No change of identity of that agency waits for confirmation, or the key confirmed is another one.
    #[error(
        "the identity key confirmed for {agency} is not the one in the roster; do not use it, and ask {agency} \
         by another way"
    )]
    NotConfirmed {
        /// Agency.
        agency: String,
    },
}

impl SuccessionError {
    /// What the roster of that version ends too early.
    pub(super) fn too_early(version: u64, early: TooEarly) -> Self {
        Self::Loosened { version, policy: early.policy, until_ms: early.until_ms }
    }
}

/// A moment, e.g. `2026-12-06 13:00 UTC`.
pub(crate) fn moment(ms: u64) -> String {
    let moment = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    moment.map_or_else(|| format!("{ms} ms"), |moment| moment.strftime("%Y-%m-%d %H:%M UTC").to_string())
}

/// What an agency signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// The keys it uses now.
    Keyset,
    /// Which online key may sign keysets.
    Delegation,
}

impl std::fmt::Display for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Keyset => "keyset",
            Self::Delegation => "delegation",
        })
    }
}

/// Why one version may not follow another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum StampError {
    /// There was one, and now there is none.
    #[error("it is missing, version {seen} is in force here")]
    Missing {
        /// Version in force.
        seen: u64,
    },
    /// Older than the one in force.
    #[error("version {have} was rolled back: version {seen} is in force here")]
    RolledBack {
        /// Version offered.
        have: u64,
        /// Version in force.
        seen: u64,
    },
    /// Same version, other bytes, both validly signed.
    #[error("two different ones of version {version} were signed; ask the agency which is its own")]
    Equivocation {
        /// The version.
        version: u64,
    },
    /// The next version, but it does not name the one in force as its predecessor.
    #[error("version {version} does not follow from the one in force here")]
    Fork {
        /// The version.
        version: u64,
    },
}

/// An agency has another identity key, and its old key did not sign for it. The agency is held: nothing of it is
/// believed and nothing is encrypted to it, until an officer has confirmed the new key
/// ([`Directory::confirm`](super::Directory::confirm)). Everybody else is unaffected.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{agency} has a new identity key, and its old key does not vouch for it. Ask {agency} by another way to read \
     its key to you: {after}. (The same in digits: {digits}.) Confirm it only if it is the same; until then nothing \
     is sent to {agency} and nothing of it is believed. (Key before: {before}.)"
)]
pub struct IdentityChanged {
    /// Agency.
    pub agency: String,
    /// Words of the key that was believed so far.
    pub before: String,
    /// Words of the key in the roster.
    pub after: String,
    /// Digits of the key in the roster.
    pub digits: String,
}
