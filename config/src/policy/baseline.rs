//! The regional baseline. It only forbids, so more policies are never looser: whatever a roster takes out of it goes on to
//! forbid for a while, and whatever it adds forbids at once. That is all there is to "loosening waits, tightening does not".

use lintas_proto::{
    id::{Digest, sha256},
    schema::{LeavingPolicy, Roster},
};

use super::set::{Owner, PolicySet, Problem};

/// The baseline of a region whose roster names none.
pub const STANDARD: &str = include_str!("baseline.cedar");
/// How long a policy that was taken out still forbids, milliseconds: 14 days in sight of all members.
pub const LEAVES_AFTER_MS: u64 = 14 * 24 * 60 * 60 * 1_000;

/// The baseline of a roster.
#[derive(Debug, Clone)]
pub struct Baseline {
    present: PolicySet,
    /// Each with the end of its time, milliseconds since 1970.
    leaving: Vec<(PolicySet, u64)>,
}

impl Baseline {
    /// That of a roster.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn read(roster: &Roster) -> Result<Self, Problem> {
        let read = |text: &str| {
            PolicySet::read(Owner::Baseline, text)
                .map_err(|problems| problems.into_iter().next().unwrap_or_default())
        };
        let present = read(text(roster))?;
        let leave = |leaving: &LeavingPolicy| Ok((read(&leaving.policy)?, leaving.until_ms));
        let leaving = roster.leaving.iter().map(leave).collect::<Result<Vec<_>, Problem>>()?;
        Ok(Self { present, leaving })
    }

    /// Its policies, without those that are leaving.
    #[must_use]
    pub fn present(&self) -> &PolicySet {
        &self.present
    }

    /// Everything that forbids at `now_ms`, and its hash: H(H(present) ‖ H(leaving)…).
    #[must_use]
    pub fn at(&self, now_ms: u64) -> (Vec<&PolicySet>, Digest) {
        let leaving = self.leaving.iter().filter(|(_, until_ms)| *until_ms > now_ms).map(|(set, _)| set);
        let all: Vec<&PolicySet> = [&self.present].into_iter().chain(leaving).collect();
        let hashes: Vec<&[u8]> = all.iter().map(|set| set.hash().as_slice()).collect();
        let hash = sha256(&hashes);
        (all, hash)
    }

    /// When the next policy has left.
    #[must_use]
    pub fn next_change_ms(&self, now_ms: u64) -> Option<u64> {
        self.leaving.iter().map(|(_, until_ms)| *until_ms).filter(|until_ms| *until_ms > now_ms).min()
    }
}

/// The text of a roster's baseline.
#[must_use]
pub fn text(roster: &Roster) -> &str {
    if roster.baseline.is_empty() { STANDARD } else { &roster.baseline }
}
