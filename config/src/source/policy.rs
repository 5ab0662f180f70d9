//! What the sources say of policy: the regional baseline, and how the national schemes of classification stand beside each
//! other.

use std::path::{Component, Path};

use lintas_proto::schema::{ClassificationScheme, Marking};

use super::{FileError, REGION_FILE, REGION_KEYS, code, read};
use crate::{
    directory::{CLEARANCE_MAX, SCHEMES_MAX},
    document::{Document, Section, whole},
    policy::{Owner, PolicySet},
};

pub(super) const SCHEME_KEYS: [&str; 2] = ["code", "markings"];
/// The cases of a policy stand beside it.
const CASES: &str = "cases.toml";

/// A baseline as its authority writes it: every policy in it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaselineSource {
    /// File it stands in.
    pub file: String,
    /// Its policies.
    pub text: String,
    /// File of its cases.
    pub cases_file: String,
    /// Its cases; empty if there are none.
    pub cases: String,
}

impl BaselineSource {
    fn new(file: &str, text: &str, cases: &str) -> Result<Self, FileError> {
        let read = PolicySet::read(Owner::Baseline, text);
        let policies = read.map_err(|problems| FileError::of_problems(file, &problems))?;
        if policies.policies().next().is_none() {
            let problem = "no policy is in it; write one, or leave `baseline` out for the standard one";
            return Err(whole(file, problem.to_owned()));
        }
        let (text, cases) = (text.to_owned(), cases.to_owned());
        Ok(Self { file: file.to_owned(), text, cases_file: cases_beside(file), cases })
    }
}

/// Reads a baseline, and `cases.toml` beside it if there is one.
///
/// # Errors
/// [`FileError`] with file, line, column and remedy.
pub fn baseline_file(path: &Path) -> Result<BaselineSource, FileError> {
    let (file, cases) = (path.display().to_string(), path.with_file_name(CASES));
    let text = read(&file, path)?;
    let told = if cases.exists() { read(&cases.display().to_string(), &cases)? } else { String::new() };
    BaselineSource::new(&file, &text, &told)
}

/// Reads the `[[scheme]]` tables of a file: of a `region.toml`, or of one with nothing else in it.
///
/// # Errors
/// [`FileError`] with file, line and remedy.
pub fn schemes_file(path: &Path) -> Result<Vec<ClassificationScheme>, FileError> {
    let file = path.display().to_string();
    let text = read(&file, path)?;
    let found = schemes(&Document::parse(&file, &text)?.top(&REGION_KEYS)?)?;
    if found.is_empty() {
        return Err(whole(&file, "no line `[[scheme]]` is in it, so it says nothing of markings".to_owned()));
    }
    Ok(found)
}

/// The baseline that a `region.toml` names, out of `files`.
pub(super) fn baseline(
    top: &Section<'_>,
    files: &[(&str, &str)],
) -> Result<Option<BaselineSource>, FileError> {
    let Some(entry) = top.get("baseline") else { return Ok(None) };
    let path = entry.text(within)?;
    let text = |name: &str| files.iter().find(|(known, _)| *known == name).map(|(_, text)| *text);
    let missing = || entry.wrong("must be the path of a file in this folder, and there is none of that name");
    let policies = text(&path).ok_or_else(missing)?;
    BaselineSource::new(&path, policies, text(&cases_beside(&path)).unwrap_or_default()).map(Some)
}

/// The files that a `region.toml` names beside itself, by their names: those that are there.
pub(super) fn beside(folder: &Path, region: &str) -> Result<Vec<(String, String)>, FileError> {
    let document = Document::parse(REGION_FILE, region)?;
    let Some(entry) = document.top(&REGION_KEYS)?.get("baseline") else { return Ok(Vec::new()) };
    let named = entry.text(within)?;
    let mut found = Vec::new();
    for name in [cases_beside(&named), named] {
        let path = folder.join(&name);
        if !path.exists() {
            continue;
        }
        let (real, root) = (path.canonicalize(), folder.canonicalize());
        if !real.is_ok_and(|real| root.is_ok_and(|root| real.starts_with(root))) {
            return Err(entry.wrong("must be a file in this folder, and leads out of it"));
        }
        let text = read(&name, &path)?;
        found.push((name, text));
    }
    Ok(found)
}

fn cases_beside(file: &str) -> String {
    Path::new(file).with_file_name(CASES).to_string_lossy().into_owned()
}

/// A path that does not lead out of the folder.
fn within(text: &str) -> Result<String, &'static str> {
    let inside = Path::new(text).components().all(|part| matches!(part, Component::Normal(_)));
    let sound = inside && text.ends_with(".cedar") && text.len() <= 256;
    let must = "must be a path within this folder that ends in .cedar, e.g. \"policy/baseline/policy.cedar\"";
    if sound { Ok(text.to_owned()) } else { Err(must) }
}

/// The tables `[[scheme]]`.
pub(super) fn schemes(top: &Section<'_>) -> Result<Vec<ClassificationScheme>, FileError> {
    let mut found: Vec<ClassificationScheme> = Vec::new();
    for section in top.sections("scheme", &SCHEME_KEYS)? {
        let entry = section.need("code", "\"TH\"")?;
        let scheme = entry.text(code)?;
        if found.iter().any(|known| known.scheme == scheme) {
            return Err(entry.wrong("stands twice; write all markings of a scheme into one table"));
        }
        if found.len() >= SCHEMES_MAX {
            return Err(entry.wrong("is one scheme too many; at most 64 are allowed"));
        }
        let listed = section.need("markings", "{ SECRET = 5 }")?;
        let mut markings = Vec::new();
        for (marking, rank) in listed.pairs("SECRET = 5")? {
            let value = marking.text(code)?;
            markings.push(Marking { value, rank: rank.number(1..=CLEARANCE_MAX)? });
        }
        if !(1..=SCHEMES_MAX).contains(&markings.len()) {
            return Err(listed.wrong("must hold 1 to 64 markings, each with its rank, e.g. SECRET = 5"));
        }
        markings.sort_by(|a, b| a.value.cmp(&b.value));
        found.push(ClassificationScheme { scheme, markings });
    }
    found.sort_by(|a, b| a.scheme.cmp(&b.scheme));
    Ok(found)
}
