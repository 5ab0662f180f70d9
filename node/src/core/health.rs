//! What `lintas doctor` says: checks, each with what was found, what it means and what to do.

use serde::{Deserialize, Serialize};

/// How a check ended. The worst of all decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mark {
    /// As it should be.
    Ok,
    /// It works, and something is to be done soon.
    Warning,
    /// It does not work, or it is not safe.
    Wrong,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Check {
    /// What was looked at; stable, for programs.
    pub(crate) check: String,
    /// How it is.
    pub(crate) mark: Mark,
    /// What was found and what it means.
    pub(crate) found: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) advice: Option<String>,
}

impl Check {
    /// All is well.
    pub(crate) fn ok(check: &str, found: impl Into<String>) -> Self {
        Self { check: check.to_owned(), mark: Mark::Ok, found: found.into(), advice: None }
    }

    /// Something is to be done soon.
    pub(crate) fn warning(check: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { mark: Mark::Warning, advice: Some(advice.into()), ..Self::ok(check, found) }
    }

    /// Something is broken.
    pub(crate) fn wrong(check: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { mark: Mark::Wrong, advice: Some(advice.into()), ..Self::ok(check, found) }
    }
}

/// All checks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Health {
    /// The worst of all.
    pub(crate) worst: Mark,
    /// In the order in which they were made.
    pub(crate) checks: Vec<Check>,
}

impl Health {
    /// Of these checks.
    pub(crate) fn of(checks: Vec<Check>) -> Self {
        Self { worst: checks.iter().map(|check| check.mark).max().unwrap_or(Mark::Ok), checks }
    }

    /// How many ended so.
    pub(crate) fn count(&self, mark: Mark) -> usize {
        self.checks.iter().filter(|check| check.mark == mark).count()
    }
}
