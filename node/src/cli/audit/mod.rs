//! `lintas audit`: the audit log, as an auditor uses it. docs/AUDIT.md says step by step how.
//!
//! | command | needs a node | needs the broker |
//! |---|---|---|
//! | `verify`, `list`, `show`, `export` | no: files and a directory or bootstrap file | no |
//! | `findings` | yes | no |
//! | `mirror`, `erase` | yes, running | yes |

mod erase;
mod export;
mod findings;
mod list;
mod mirror;
mod show;
mod verify;
mod words;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::Context;
use crate::{
    core::audit::{anchor::Anchor, finding::Findings},
    shell::{
        audit::folder::Place,
        failure::{Code, Failure},
        folder::Folder,
    },
};

const CODES: &str = "\
The usual way: `lintas audit mirror`, then `lintas audit verify`, then `lintas audit list`.
Exit codes of `verify`: 0 whole; 30 damaged or inconsistent; 31 files are missing; 32 whole, but no quorum of witnesses
attests all of its times; 2, 3 and 7 it could not be checked at all. docs/AUDIT.md says what to do on each finding.";

/// The audit log: mirror it, verify it, read it.
#[derive(Args)]
#[command(after_help = CODES)]
pub(super) struct Audit {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fetch what is new of the broker's audit log, as far as this agency may read it.
    Mirror(mirror::Mirror),
    /// Check the whole log, from its first entry to its last.
    Verify(verify::Verify),
    /// List events, the newest first.
    List(list::List),
    /// Show one event, and the proof of where it stands.
    Show(show::Show),
    /// Write events with their proofs into a folder that somebody else can verify.
    Export(export::Export),
    /// Order the broker to forget the content of events of this agency.
    Erase(erase::Erase),
    /// What this node has found in the broker's log: what convinces others, and what is its word alone.
    Findings(findings::Findings),
}

/// Which log, and against what it is checked.
#[derive(Args)]
struct From {
    /// Folder of a mirror, or a broker's `audit/<number>`; without it the mirror in the data folder.
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// Directory (directory.bin) to check against, instead of this node's.
    #[arg(long, value_name = "FILE")]
    directory: Option<PathBuf>,
    /// Bootstrap file of the region: vouches for --directory; alone, the log's own rosters are checked against it.
    #[arg(long, value_name = "FILE")]
    bootstrap: Option<PathBuf>,
    /// Name of the log, where there are several, e.g. hub.mekong or hub.mekong.log2.
    #[arg(long, value_name = "NAME")]
    log: Option<String>,
}

/// What every command of the auditor has.
pub(super) struct Auditor {
    data: Option<Folder>,
    key_file: Option<PathBuf>,
    json: bool,
}

/// Runs a command.
pub(super) fn run(
    audit: Audit,
    data: Option<PathBuf>,
    key_file: Option<PathBuf>,
    json: bool,
) -> Result<(), Failure> {
    let data = data.as_deref().map(super::absolute).transpose()?.map(|data| Folder::at(&data));
    let auditor = Auditor { data, key_file, json };
    match audit.command {
        Command::Mirror(mirror) => mirror::run(&auditor, &mirror),
        Command::Verify(verify) => verify::run(&auditor, &verify),
        Command::List(list) => list::run(&auditor, &list),
        Command::Show(show) => show::run(&auditor, &show),
        Command::Export(export) => export::run(&auditor, &export),
        Command::Erase(erase) => erase::run(&auditor, erase),
        Command::Findings(findings) => findings::run(&auditor, &findings),
    }
}

impl Auditor {
    /// A node's, for commands that need one.
    fn node(&self) -> Result<Context, Failure> {
        let folder = self.data.clone().ok_or_else(|| {
            Failure::new(Code::Usage, "which data folder? give --data DIR, or set LINTAS_DATA")
        })?;
        Ok(Context { folder, key_file: self.key_file.clone(), json: self.json })
    }

    /// The log that is meant.
    fn place(&self, from: &From) -> Result<Place, Failure> {
        let given = |path: &Option<PathBuf>| path.as_deref().map(super::absolute).transpose();
        let (folder, directory, bootstrap) =
            (given(&from.from)?, given(&from.directory)?, given(&from.bootstrap)?);
        let trust = (directory.as_deref(), bootstrap.as_deref());
        Place::find(folder.as_deref(), self.data.as_ref(), trust, from.log.as_deref())
    }

    /// Keys and rosters of a log, for who reads without verifying.
    fn anchor(&self, place: &Place) -> Result<Anchor, Failure> {
        Anchor::read(&place.files, place.trust(), &place.origin, &mut Findings::default())
            .map_err(|error| Failure::new(Code::NotSetUp, error))
    }

    fn print<T: Serialize>(&self, value: &T, plain: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        super::print(self.json, value, plain)
    }
}

/// The agencies asked for, or all whose sub-logs are there.
fn agencies(place: &Place, asked: &[String]) -> Result<Vec<String>, Failure> {
    let there = place.files.agencies();
    if asked.is_empty() {
        return Ok(there);
    }
    if let Some(unknown) = asked.iter().find(|asked| lintas_proto::id::check_code(asked).is_err()) {
        let message = format!("`{}` is no code of an agency", crate::core::text::one_line(unknown));
        return Err(Failure::new(Code::Usage, message));
    }
    if let Some(missing) = asked.iter().find(|asked| !there.contains(asked)) {
        let message = format!(
            "the sub-log of {missing} is not in `{}`: an agency reads its own, an auditor those that the roster grants; \
             mirror it with `lintas audit mirror --agency {missing}`",
            place.files.root().display()
        );
        return Err(Failure::new(Code::NotFound, message));
    }
    let mut asked = asked.to_vec();
    asked.sort();
    asked.dedup();
    Ok(asked)
}

/// A bar on a terminal, nothing elsewhere.
pub(super) fn bar(doing: &'static str, template: &str) -> ProgressBar {
    use std::io::IsTerminal as _;
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0).with_message(doing);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}

/// What was found, in words.
pub(super) fn finding_words(found: &crate::core::audit::finding::Finding) -> String {
    words::finding(found)
}

/// A path as it is shown.
fn shown(path: &Path) -> String {
    crate::core::text::one_line(&path.display().to_string())
}

#[cfg(test)]
mod tests;
