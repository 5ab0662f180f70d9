//! `lintas region history`: every directory that was published, checked from the first on.

use std::path::{Path, PathBuf};

use clap::Args;
use lintas_config::{
    Directory,
    authority::{Office, Published, Walk},
    directory::chain::STEPS_MAX,
};
use serde::Serialize;

use super::{Ceremony, words};
use crate::{
    core::text::one_line,
    shell::{
        failure::{Code, Failure},
        region::files::{self, BOOTSTRAP, DIRECTORY, HISTORY, history_name},
    },
};

/// Options of `region history`.
#[derive(Args)]
pub(super) struct History {
    /// Folder of what is published, with its folder `history`.
    folder: PathBuf,
    /// Who may sign, compared by another way: of the first version or of any later one; `bootstrap.toml` in the folder
    /// if left out.
    #[arg(long, value_name = "FILE")]
    bootstrap: Option<PathBuf>,
    /// Public keys of offices, which give names to keys.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    office: Vec<PathBuf>,
}

#[derive(Serialize)]
struct Found {
    versions: Vec<Published>,
    /// What is wrong; nothing after it was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    bootstrap_words: String,
}

/// Walks.
pub(super) fn run(ceremony: &Ceremony, args: &History) -> Result<(), Failure> {
    let vouches = args.bootstrap.clone().unwrap_or_else(|| args.folder.join(BOOTSTRAP));
    let bootstrap = files::bootstrap(&vouches)?;
    let offices: Vec<Office> = files::offices(&args.office)?;
    let mut walk = Walk::new(&bootstrap, &offices);
    let (mut versions, mut problem) = (Vec::new(), None);
    for path in listed(&args.folder.join(HISTORY))? {
        let step = files::directory_bytes(&path)
            .and_then(|bytes| walk.step(&bytes).map_err(|error| not_published(&path, &error)));
        match step {
            Ok(step) => versions.push(step),
            Err(failure) => {
                problem = Some(failure.message);
                break;
            }
        }
    }
    if problem.is_none() {
        let newest = walk.finish().map_err(|error| files::unusable(&vouches, &error))?;
        problem = differs(&args.folder.join(DIRECTORY), newest.as_ref());
    }
    let found = Found { versions, problem, bootstrap_words: bootstrap.words() };
    ceremony.print(&found, plain_words)?;
    found.problem.map_or(Ok(()), |problem| Err(Failure::new(Code::NotSetUp, problem)))
}

/// Files of versions, from the first to the last that is there. One in between that is missing is among them.
fn listed(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error: std::io::Error| Failure::file("read", folder, &error);
    let mut last = 0u64;
    for entry in std::fs::read_dir(folder).map_err(failed)?.take(2 * STEPS_MAX) {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        let version = name.strip_suffix(".bin").and_then(|number| number.parse::<u64>().ok());
        last = last.max(version.filter(|version| history_name(*version) == name).unwrap_or(0));
    }
    if last == 0 || last > STEPS_MAX as u64 {
        let what = "it must hold the directories that were published, 000001.bin and so on, at most 4,096";
        return Err(files::unusable(folder, &what));
    }
    Ok((1..=last).map(|version| folder.join(history_name(version))).collect())
}

fn not_published(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    let message = format!(
        "`{}` is not what the authorities published: {error}. It was changed or exchanged; get it from another copy",
        path.display()
    );
    Failure::new(Code::NotSetUp, message)
}

/// Whether `directory.bin` is another one than the newest of the history.
fn differs(path: &Path, newest: Option<&Directory>) -> Option<String> {
    let newest = newest.filter(|_| path.exists())?;
    let text = format!("`{}` is not the newest of the history", path.display());
    match files::proposal(path) {
        Ok(there) if there.hash() == *newest.roster_hash() => None,
        Ok(_) => Some(text),
        Err(failure) => Some(failure.message),
    }
}

fn plain_words(found: &Found) -> String {
    let end = match &found.problem {
        Some(problem) => format!("WRONG: {}\n", one_line(problem)),
        None => format!(
            "Versions 1 to {}: each was signed by those who must sign, and follows from the one before.\n\
             Words of the bootstrap file, to compare by another way:\n  {}\n",
            found.versions.len(),
            found.bootstrap_words
        ),
    };
    format!("{}{end}", found.versions.iter().map(words::published).collect::<String>())
}
