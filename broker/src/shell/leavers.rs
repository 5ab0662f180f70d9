//! The sequencer's search for entries whose recipients have left: begun with each directory, gone on with in parts.

use lintas_config::Directory;
use lintas_proto::id::Digest;

use super::intake::End;
use crate::core::{leave::Sweep, ledger::Ledger, outcome::How};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Leavers {
    /// Roster hash and directory hash of the directory under which the search was begun last; none at a start.
    under: Option<(Digest, Digest)>,
    sweep: Option<Sweep>,
    /// The disk kept an entry from being ended: when to search again.
    again_ms: Option<u64>,
}

impl Leavers {
    /// Whether there is more to look at now.
    pub(super) fn are_sought(&self) -> bool {
        self.under.is_none() || self.sweep.is_some()
    }

    /// Hash of the directory under which every queue was searched to its end.
    pub(super) fn sought_under(&self) -> Option<Digest> {
        self.under.filter(|_| self.sweep.is_none()).map(|(_, hash)| hash)
    }

    /// An entry that was found is still there.
    pub(super) fn seek_again(&mut self, at_ms: u64) {
        self.again_ms = Some(at_ms);
    }

    /// The next entries to be withheld under the directory in force.
    pub(super) fn next(&mut self, ledger: &Ledger, directory: &Directory, now_ms: u64) -> Vec<End> {
        let (roster, hash) = (*directory.roster_hash(), *directory.hash());
        let again = self.again_ms.is_some_and(|at| at <= now_ms);
        if again || self.under.is_none_or(|(_, under)| under != hash) {
            let same_roster = self.under.is_some_and(|(under, _)| under == roster);
            // A search that is not over begins anew, with the units.
            let units = again || !same_roster || self.sweep.is_some();
            (self.sweep, self.under) = (Some(Sweep::new(units)), Some((roster, hash)));
            self.again_ms = self.again_ms.filter(|_| !again);
        }
        let Some(sweep) = &mut self.sweep else { return Vec::new() };
        let found = sweep.next(ledger, directory);
        if sweep.is_over() {
            self.sweep = None;
        }
        let roster_version = directory.roster().version;
        let end = |(agency, queue_sequence, left)| {
            let how = How::Withheld { left, roster_version };
            End { agency, queue_sequence, how }
        };
        found.into_iter().map(end).collect()
    }
}
