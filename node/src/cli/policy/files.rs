//! Policy folders, and what is wrong in them.

use std::path::{Path, PathBuf};

use lintas_config::policy::{Owner, PolicySet, Problem};
use lintas_proto::limits;
use serde::Serialize;

use super::{Failure, shown, wrong};
use crate::{core::text::one_line, shell::files::read};

/// Names in a policy folder.
pub(super) const POLICY: &str = "policy.cedar";
pub(super) const CASES: &str = "cases.toml";
/// Longest line of a file that is shown beside a mistake, characters.
const LINE_MAX: usize = 110;

/// A policy as it lies on the disk.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) policy_path: PathBuf,
    pub(super) policies: String,
    pub(super) cases_path: PathBuf,
    /// Empty if there are none.
    pub(super) cases: String,
}

/// A mistake in a file.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Mistake {
    pub(super) file: String,
    #[serde(flatten)]
    pub(super) problem: Problem,
    /// The line of the file; empty if the whole text is meant.
    pub(super) text: String,
}

impl Draft {
    /// Reads a policy folder, or a file with policies alone.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let folder = path.is_dir();
        let policy_path = if folder { path.join(POLICY) } else { path.to_owned() };
        let cases_path = policy_path.with_file_name(CASES);
        let policies = text(&policy_path)?;
        let cases = if folder && cases_path.exists() { text(&cases_path)? } else { String::new() };
        Ok(Self { policy_path, policies, cases_path, cases })
    }

    /// The policies, or everything that is wrong with them.
    pub(super) fn policies(&self, owner: Owner) -> Result<PolicySet, Vec<Mistake>> {
        PolicySet::read(owner, &self.policies).map_err(|problems| self.in_policies(problems))
    }

    /// With the places of the policies.
    pub(super) fn in_policies(&self, problems: Vec<Problem>) -> Vec<Mistake> {
        mistakes(&self.policy_path, &self.policies, problems)
    }

    /// With the places of the cases.
    pub(super) fn in_cases(&self, problems: Vec<Problem>) -> Vec<Mistake> {
        mistakes(&self.cases_path, &self.cases, problems)
    }
}

fn mistakes(path: &Path, text: &str, problems: Vec<Problem>) -> Vec<Mistake> {
    let line = |problem: &Problem| problem.line.checked_sub(1).and_then(|at| text.lines().nth(at));
    let mistake = |problem: Problem| {
        let text = line(&problem).unwrap_or_default().to_owned();
        Mistake { file: shown(path), problem, text }
    };
    problems.into_iter().map(mistake).collect()
}

/// A text file of at most as many bytes as a policy may have; a larger one, or one that is no text, is named with its place.
fn text(path: &Path) -> Result<String, Failure> {
    let length = std::fs::metadata(path).map_err(|error| Failure::file("read", path, &error))?.len();
    let max = limits::POLICY_TEXT_BYTES_MAX as u64;
    if length > max {
        let message = format!(
            "{}: the file is {length} bytes long, at most {max} are allowed; keep one policy for many agencies, with \
             groups and sets",
            shown(path)
        );
        return Err(wrong(message));
    }
    let bytes = read(path, max).map_err(|error| Failure::file("read", path, &error))?;
    String::from_utf8(bytes).map_err(|error| {
        let sound = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let sound = String::from_utf8_lossy(sound);
        let line = sound.matches('\n').count() + 1;
        let column = sound.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        wrong(format_args!(
            "{}:{line}:{column}: this is no text in UTF-8; save the file as UTF-8, and copy no characters from documents",
            shown(path)
        ))
    })
}

/// As an officer reads it: place, what is wrong, the line with a mark under it, what to do.
pub(super) fn plain_words(mistake: &Mistake) -> String {
    let Mistake { file, problem, text } = mistake;
    let place = match (problem.line, problem.column) {
        (0, _) => file.clone(),
        (line, 0) => format!("{file}:{line}"),
        (line, column) => format!("{file}:{line}:{column}"),
    };
    let mut out = format!("{place}: {}\n", one_line(&problem.what));
    if let Some(before) = problem.column.checked_sub(1).filter(|before| *before < LINE_MAX)
        && !text.is_empty()
    {
        let line: String = text.replace('\t', " ").chars().take(LINE_MAX).map(one).collect();
        out.push_str(&format!("    {line}\n    {}^\n", " ".repeat(before)));
    }
    if !problem.mend.is_empty() {
        out.push_str(&format!("    to do: {}\n", one_line(&problem.mend)));
    }
    out
}

/// What could move a cursor or turn a line is a question mark here; the place above still counts.
fn one(c: char) -> char {
    if one_line(&c.to_string()).chars().count() == 1 { c } else { '?' }
}

/// The refusal for mistakes, already shown.
pub(super) fn refused(mistakes: &[Mistake]) -> Failure {
    wrong(format_args!(
        "{} found; nothing was signed, and the policy in force stays in force",
        crate::cli::render::count(mistakes.len(), "mistake")
    ))
}
