//! What is in force at one time: the directory, and the policies under its roster. Exchanged as one, so that nobody ever judges
//! by the one of today and the other of yesterday.

use std::sync::Arc;

use lintas_config::{Directory, policy::Policies};
use lintas_proto::id::Digest;

/// See the module.
#[derive(Debug, Clone)]
pub struct Rules {
    directory: Arc<Directory>,
    policies: Arc<Policies>,
}

/// Which rules a decision was made under.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Generation {
    /// directory_hash.
    pub directory: Digest,
    /// policy_set_hash.
    pub policies: Digest,
    /// Version of the roster; the directory's hash says it too.
    pub roster_version: u64,
}

impl Rules {
    /// `policies` must be those under the roster of `directory`.
    #[must_use]
    pub fn new(directory: Arc<Directory>, policies: Arc<Policies>) -> Self {
        debug_assert!(
            Arc::ptr_eq(policies.roster(), &directory.shared_roster()),
            "policies of another roster"
        );
        Self { directory, policies }
    }

    /// Who is a member, with which keys.
    #[must_use]
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// Who releases what to whom.
    #[must_use]
    pub fn policies(&self) -> &Arc<Policies> {
        &self.policies
    }

    /// Of both.
    #[must_use]
    pub fn generation(&self) -> Generation {
        Generation {
            directory: *self.directory.hash(),
            policies: *self.policies.hash(),
            roster_version: self.directory.roster().version,
        }
    }
}
