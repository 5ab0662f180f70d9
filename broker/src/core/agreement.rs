//! Whether the broker's clock is to be acted upon.
//!
//! The log's times never go back, and what was ended by time stays ended: a clock that is wrong for a second would do harm for
//! ever. So there are two states. While the clock is *agreed*, everything goes on by it. While it is *in doubt* nothing is done
//! by time, and no newer time is written; the clock is still read, and nothing is ever taken for the time in its place.
//!
//! | from | to | when |
//! |---|---|---|
//! | start | agreed | the log's last time is at most an hour ago; or the log is new, and the roster holds by this clock |
//! | start | in doubt | otherwise |
//! | agreed | in doubt | the clock was set by more than 5 minutes since it was agreed |
//! | in doubt | agreed | members say so in their hellos, or the clock was set back to what it was |
//!
//! Of each member its latest hello counts: more agree than do not, and at least two (one, where only one may connect). What they
//! said is forgotten at each change of state, whenever the clock is set again, and with their membership.

use std::collections::BTreeMap;

use lintas_config::{Directory, clock::Reading};
use lintas_proto::limits::CLOCK_SKEW_MS_MAX;

/// Longest pause after which a broker that starts takes its clock for the one that wrote the log's last time, milliseconds.
const RESTART_MS_MAX: u64 = 60 * 60 * 1_000;
/// So many members must agree, where there are so many.
const AGREE_MIN: usize = 2;

/// What has become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is in doubt: the clock was set by so much, milliseconds.
    Doubted(u64),
    /// It is agreed, since the clock was set back.
    SetBack,
    /// It is agreed, since so many members say so.
    Agreed(usize),
}

/// See the module.
#[derive(Debug)]
pub struct Agreement {
    state: State,
}

#[derive(Debug)]
enum State {
    Agreed {
        /// When it was agreed. Not moved on, so that many small steps count together.
        anchor: Reading,
    },
    InDoubt {
        /// When it was agreed last.
        before: Option<Reading>,
        /// What the hellos are about.
        since: Reading,
        /// By agency: whether its latest hello agrees.
        hellos: BTreeMap<String, bool>,
    },
}

impl Agreement {
    /// At the start, when the log's last time is `last_ms`; 0 if nothing was written yet: then by whether the roster holds.
    #[must_use]
    pub fn begin(now: Reading, last_ms: u64, roster_holds: bool) -> Self {
        let is_restart = now.wall_ms >= last_ms.saturating_sub(CLOCK_SKEW_MS_MAX)
            && now.wall_ms <= last_ms.saturating_add(RESTART_MS_MAX);
        let is_agreed = if last_ms == 0 { roster_holds } else { is_restart };
        Self { state: if is_agreed { State::Agreed { anchor: now } } else { doubt(None, now) } }
    }

    /// When it was agreed; none while it is in doubt.
    #[must_use]
    pub fn anchor(&self) -> Option<Reading> {
        match self.state {
            State::Agreed { anchor } => Some(anchor),
            State::InDoubt { .. } => None,
        }
    }

    /// Looks at the clock. Nothing may be done by `now` before this has looked at it.
    pub fn look(&mut self, now: Reading) -> Option<Change> {
        match &mut self.state {
            State::Agreed { anchor } => {
                let (before, leapt_ms) = (*anchor, now.leapt_ms(*anchor)?);
                self.state = doubt(Some(before), now);
                Some(Change::Doubted(leapt_ms))
            }
            State::InDoubt { before: Some(anchor), .. } if now.leapt_ms(*anchor).is_none() => {
                self.state = State::Agreed { anchor: *anchor };
                Some(Change::SetBack)
            }
            State::InDoubt { since, hellos, .. } => {
                if now.leapt_ms(*since).is_some() {
                    hellos.clear();
                    *since = now;
                }
                None
            }
        }
    }

    /// A member whose key was proven says what time it is; `agrees` if that is the time of `now`.
    pub fn hear(
        &mut self,
        agency: &str,
        agrees: bool,
        now: Reading,
        directory: &Directory,
    ) -> Option<Change> {
        let changed = self.look(now);
        let State::InDoubt { hellos, .. } = &mut self.state else { return changed };
        let may_connect = |agency: &str| {
            directory.member(agency).is_some() && !directory.held().iter().any(|held| held.agency == agency)
        };
        hellos.insert(agency.to_owned(), agrees);
        hellos.retain(|agency, _| may_connect(agency));
        let members = directory.roster().members.iter().filter(|member| may_connect(&member.agency)).count();
        let agree = hellos.values().filter(|agrees| **agrees).count();
        let is_enough = agree >= AGREE_MIN.min(members).max(1) && agree > hellos.len() - agree;
        if !is_enough {
            return changed;
        }
        self.state = State::Agreed { anchor: now };
        Some(Change::Agreed(agree))
    }
}

fn doubt(before: Option<Reading>, since: Reading) -> State {
    State::InDoubt { before, since, hellos: BTreeMap::new() }
}

#[cfg(test)]
mod tests;
