//! What a command says when it cannot do what it was asked, and its exit code.

use std::{fmt, io, path::Path, process::ExitCode};

use serde::{Deserialize, Serialize};

/// Exit codes. Stable; a retired one is never used again.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
   0  done
   1  a fault in this program; please report it
   2  the command line is wrong, or a question was answered with no
   3  the data folder is not set up, or a file in it cannot be used
   4  the keys stay closed: wrong or missing passphrase or key file
   5  another lintas process is using the data folder
   6  the draft or the policy is not valid, or this node's checks say no; nothing was sealed or published
   7  there is no such packet, attachment or version
   8  the broker has not answered yet; a packet or policy is kept and will be sent
   9  the broker refused the packet or the policy
  10  the disk failed or is full, or kept bytes are damaged
  11  the running node ended before it answered: look at `lintas outbox` before you send again
  12  `lintas region`: nothing was drafted, signed or published; a rule of the region authority forbids it
  13  the directory is known to be out of date; nothing was sealed
  14  the node is locked: `lintas unlock`
  15  `lintas evidence`: it does not hold, or cannot be shown to others
  20  `lintas doctor` has warnings: it works, and something is to be done soon
  21  `lintas doctor` found something wrong
  30  `lintas audit verify`: the log is damaged or contradicts itself; `lintas policy replay`: it contradicts the policies
  31  `lintas audit verify`: files of the log are missing; `lintas policy replay`: not everything could be decided again
  32  `lintas audit verify`: whole, but no quorum of witnesses attests all of its times";

/// Whose fault it is, roughly; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub(crate) enum Code {
    /// A fault of ours.
    Internal = 1,
    /// The command line.
    Usage = 2,
    /// The data folder.
    NotSetUp = 3,
    /// The keys.
    Locked = 4,
    /// Another process.
    InUse = 5,
    /// The draft.
    Draft = 6,
    /// No such thing.
    NotFound = 7,
    /// Not yet.
    NoAnswer = 8,
    /// The broker.
    Refused = 9,
    /// The disk.
    Storage = 10,
    /// The daemon ended; what was asked may have been done or not.
    DaemonEnded = 11,
    /// The rules of the region authority.
    Forbidden = 12,
    /// The directory is known to be out of date.
    Stale = 13,
    /// The daemon has no keys until somebody unlocks it.
    NodeLocked = 14,
    /// Evidence that does not hold.
    Evidence = 15,
    /// `audit verify`: damaged or inconsistent.
    AuditDamaged = 30,
    /// `audit verify`: files are missing.
    AuditIncomplete = 31,
    /// `audit verify`: no quorum of witnesses.
    AuditNotAttested = 32,
    /// `doctor`: warnings.
    Warned = 20,
    /// `doctor`: something is wrong.
    Wrong = 21,
}

/// A command that failed: one or more plain sentences that say what to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// Decides the exit code.
    pub(crate) code: Code,
    /// For people.
    pub(crate) message: String,
}

impl Failure {
    /// A failure with a code.
    pub(crate) fn new(code: Code, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string() }
    }

    /// A fault of this program.
    pub(crate) fn internal(message: impl fmt::Display) -> Self {
        Self::new(Code::Internal, message)
    }

    /// What the system said about a file.
    pub(crate) fn file(doing: &str, path: &Path, error: &io::Error) -> Self {
        let code = if error.kind() == io::ErrorKind::NotFound { Code::NotFound } else { Code::Storage };
        Self::new(code, format_args!("cannot {doing} `{}`: {}", path.display(), why(error)))
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> ExitCode {
        ExitCode::from(self.code as u8)
    }
}

/// What the system said, in plain words where they are known.
pub(crate) fn why(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound {
        "there is no such file or folder".to_owned()
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        "this user may not; look whose it is and what its mode is (ls -l)".to_owned()
    } else {
        error.to_string()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
