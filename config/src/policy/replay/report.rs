//! What came of deciding the past again.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::FOUND_MAX;
use crate::policy::{diff::moment, explain::capital};

/// Why a decision cannot be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Its opening was erased.
    Erased,
    /// What was asked stands in another event, which was erased or is missing.
    NoFacts,
    /// The roster of that version is not at hand.
    UnknownRoster,
    /// The bundle that was in force is not at hand.
    UnknownBundle,
    /// The baseline of that roster cannot be read by this version.
    BadBaseline,
    /// The event says something that this version does not know.
    Unreadable,
}

impl Cause {
    /// In words, with what to do.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Erased => "their openings were erased by an order; nothing can be done",
            Self::NoFacts => {
                "what was asked stands in a SUBMITTED that was erased or is missing; read the log from its first event"
            }
            Self::UnknownRoster => "the roster of then is not at hand; fetch the region's history",
            Self::UnknownBundle => "the bundle in force then is not at hand; fetch the history of the policy",
            Self::BadBaseline => {
                "this version cannot read the baseline of then; use the version that was in use then"
            }
            Self::Unreadable => "they say something that this version does not know; update the software",
        }
    }
}

/// One decision that came out otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Which event of the sub-log.
    pub index: u64,
    /// When, milliseconds since 1970.
    pub time_ms: u64,
    /// Packet id, hex.
    pub packet: String,
    /// Who sent it.
    pub from: String,
    /// To whom.
    pub to: String,
    /// What the log says.
    pub was: String,
    /// By which policies.
    pub was_by: Vec<String>,
    /// What it is now.
    pub would_be: String,
    /// By which policies.
    pub would_be_by: Vec<String>,
    /// Why, of a refusal; may be empty.
    pub why: String,
}

/// The result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whose sub-log.
    pub agency: String,
    /// Whether a candidate was asked; otherwise what was in force.
    pub candidate: bool,
    /// Decisions that were made again.
    pub decided: u64,
    /// Those that came out as the log says.
    pub same: u64,
    /// Those that did not, in order; at most [`FOUND_MAX`].
    pub found: Vec<Found>,
    /// Those beyond.
    pub more: u64,
    /// Packets withheld by a policy at hand-over: counted, not decided again.
    pub withheld: u64,
    /// Refusals that were no policy's.
    pub otherwise: u64,
    /// Decisions that could not be made again.
    pub not_replayed: BTreeMap<Cause, u64>,
    /// Time of the first decision, milliseconds since 1970; 0 if there is none.
    pub first_ms: u64,
    /// Time of the last one.
    pub last_ms: u64,
}

impl Report {
    pub(super) fn new(agency: &str, candidate: bool) -> Self {
        Self {
            agency: agency.to_owned(),
            candidate,
            decided: 0,
            same: 0,
            found: Vec::new(),
            more: 0,
            withheld: 0,
            otherwise: 0,
            not_replayed: BTreeMap::new(),
            first_ms: 0,
            last_ms: 0,
        }
    }

    pub(super) fn cannot(&mut self, cause: Cause) {
        *self.not_replayed.entry(cause).or_default() += 1;
    }

    pub(super) fn decided(&mut self, time_ms: u64) {
        if self.decided == 0 {
            self.first_ms = time_ms;
        }
        (self.decided, self.last_ms) = (self.decided + 1, time_ms);
    }

    pub(super) fn found(&mut self, found: Found) {
        if self.found.len() < FOUND_MAX {
            self.found.push(found);
        } else {
            self.more += 1;
        }
    }

    /// Whether everything could be decided again and came out the same.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.decided == self.same && self.not_replayed.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.candidate { "would be" } else { "must have been" };
        for one in &self.found {
            let by = |ids: &[String]| {
                if ids.is_empty() { String::new() } else { format!(" by {}", ids.join(", ")) }
            };
            write!(f, "{} packet {} from {} to {}: ", moment(one.time_ms), one.packet, one.from, one.to)?;
            write!(f, "was {}{}, {verb} {}{}", one.was, by(&one.was_by), one.would_be, by(&one.would_be_by))?;
            writeln!(f, "{}{}", if one.why.is_empty() { "" } else { ": " }, one.why)?;
        }
        if self.more > 0 {
            writeln!(f, "and {} more", self.more)?;
        }
        let differ = self.decided - self.same;
        if self.decided > 0 {
            let (first, last) = (moment(self.first_ms), moment(self.last_ms));
            write!(
                f,
                "{} decisions of {} from {first} to {last} were made again: ",
                self.decided, self.agency
            )?;
        } else {
            write!(f, "No decision of {} was made again: ", self.agency)?;
        }
        match (differ, self.candidate) {
            (0, true) => writeln!(f, "none would flip.")?,
            (_, true) => writeln!(f, "{differ} would flip.")?,
            (0, false) => writeln!(f, "none differs from the log.")?,
            (_, false) => writeln!(
                f,
                "{differ} differ from the log. The broker did not decide by the policies in force: report it to the \
                 operator and to the auditors, with this list."
            )?,
        }
        for (cause, count) in &self.not_replayed {
            writeln!(f, "Not decided again: {count}. {}.", capital(cause.words()))?;
        }
        if self.withheld > 0 {
            writeln!(f, "Withheld by a policy at hand-over, not decided again: {}.", self.withheld)?;
        }
        Ok(())
    }
}
