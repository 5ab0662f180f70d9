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
//! | in doubt | agreed | the clock was set back to what it was, or to what would have been agreed at the start; or members say so in their hellos; or the operator does |
//!
//! Of each member its latest hello of the last 15 minutes counts: more agree than do not, and at least two (one, where only one
//! may connect). What they said is forgotten at each change of state, whenever the clock is set again, and with their membership.

use std::collections::BTreeMap;

use lintas_config::{Directory, clock::Reading};
use lintas_proto::limits::CLOCK_SKEW_MS_MAX;

/// Longest pause after which a broker that starts takes its clock for the one that wrote the log's last time, milliseconds.
const RESTART_MS_MAX: u64 = 60 * 60 * 1_000;
/// So many members must agree, where there are so many.
const AGREE_MIN: usize = 2;
/// How long a hello counts, milliseconds. A node that is refused for the clock says it again each half minute.
const HELLO_MS_MAX: u64 = 15 * 60 * 1_000;

/// What has become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is in doubt: the clock was set by so much, milliseconds.
    Doubted(u64),
    /// It is agreed, since the clock was set back.
    SetBack,
    /// It is agreed, since so many members say so.
    Agreed(usize),
    /// It is agreed, since the operator says so.
    Believed,
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
        /// What would be agreed if the clock were set to it.
        right: Right,
        /// What the hellos are about.
        since: Reading,
        /// By agency: whether its latest hello agrees, and when it came, by the time since boot.
        hellos: BTreeMap<String, (bool, u64)>,
    },
}

#[derive(Debug, Clone, Copy)]
enum Right {
    /// What was agreed last.
    Before(Reading),
    /// What the start would have agreed to: `last_ms` is the log's last time.
    Start { last_ms: u64, boot_ms: u64 },
}

impl Right {
    /// What is agreed with, if the clock that reads `now` is right by this.
    fn agrees(self, now: Reading) -> Option<Reading> {
        match self {
            Self::Before(anchor) => now.leapt_ms(anchor).is_none().then_some(anchor),
            Self::Start { last_ms, boot_ms } => {
                let began_ms = now.wall_ms.checked_sub(now.boot_ms.saturating_sub(boot_ms))?;
                is_restart(began_ms, last_ms).then_some(now)
            }
        }
    }
}

/// Whether a broker that starts at `now_ms` has not been away for longer than its clock is believed; not if nothing was written yet.
fn is_restart(now_ms: u64, last_ms: u64) -> bool {
    last_ms > 0
        && now_ms >= last_ms.saturating_sub(CLOCK_SKEW_MS_MAX)
        && now_ms <= last_ms.saturating_add(RESTART_MS_MAX)
}

impl Agreement {
    /// At the start, when the log's last time is `last_ms`; 0 if nothing was written yet: then by whether the roster holds.
    #[must_use]
    pub fn begin(now: Reading, last_ms: u64, roster_holds: bool) -> Self {
        let is_agreed = if last_ms == 0 { roster_holds } else { is_restart(now.wall_ms, last_ms) };
        let right = Right::Start { last_ms, boot_ms: now.boot_ms };
        Self { state: if is_agreed { State::Agreed { anchor: now } } else { doubt(right, now) } }
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
                self.state = doubt(Right::Before(before), now);
                Some(Change::Doubted(leapt_ms))
            }
            State::InDoubt { right, since, hellos } => {
                if let Some(anchor) = right.agrees(now) {
                    self.state = State::Agreed { anchor };
                    return Some(Change::SetBack);
                }
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
        hellos.insert(agency.to_owned(), (agrees, now.boot_ms));
        hellos
            .retain(|agency, (_, at)| may_connect(agency) && now.boot_ms.saturating_sub(*at) <= HELLO_MS_MAX);
        let members = directory.roster().members.iter().filter(|member| may_connect(&member.agency)).count();
        let agree = hellos.values().filter(|(agrees, _)| *agrees).count();
        let is_enough = agree >= AGREE_MIN.min(members).max(1) && agree > hellos.len() - agree;
        if !is_enough {
            return changed;
        }
        self.state = State::Agreed { anchor: now };
        Some(Change::Agreed(agree))
    }

    /// The operator has compared the clock with another one, and says that it is right.
    pub fn believe(&mut self, now: Reading) -> Option<Change> {
        let is_agreed = self.look(now).is_none() && self.anchor().is_some();
        self.state = State::Agreed { anchor: now };
        (!is_agreed).then_some(Change::Believed)
    }
}

fn doubt(right: Right, since: Reading) -> State {
    State::InDoubt { right, since, hellos: BTreeMap::new() }
}

#[cfg(test)]
mod tests;
