//! `lintas policy`: the release policy, as the officer who writes it uses it. docs/POLICY.md says step by step how.
//!
//! | command | needs a node | needs keys |
//! |---|---|---|
//! | `new`, `check`, `test`, `explain`, `who-could-receive`, `diff` | no: a directory, and files | no |
//! | `history`, `show`, `replay` | its folder | no |
//! | `publish` | its folder, or running | yes |

mod check;
mod diff;
mod explain;
mod files;
mod history;
mod label;
mod new;
mod publish;
mod replay;
mod show;
mod test;
mod who;
mod words;

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use clap::{Args, Subcommand};
use lintas_config::policy::Owner;
use lintas_proto::{
    canonical,
    id::check_code,
    limits,
    schema::{JoinRequest, PolicyBundle, Roster},
};
use serde::Serialize;

use self::files::{Mistake, plain_words};
use super::{Context, unexpected};
use crate::{
    core::text::one_line,
    shell::{
        audit::folder::{Believed, believe},
        desk::{Reply, Request},
        failure::{Code, Failure},
        files::read,
        folder::Folder,
        policies::files::{Version, said, versions},
    },
};

const CODES: &str = "\
The usual way: `lintas policy new`, write, `lintas policy check`, `test` and `explain` until it says what you mean, then
`lintas policy publish`. A policy folder holds `policy.cedar` and `cases.toml`.
Exit codes: 0 done; 2 the command line is wrong, or a question was answered with no; 6 the policy or its cases are wrong, or
another version was published meanwhile; 7 no such file or version; 8 published here, the broker has not answered yet; 9 published
here, the broker refuses it; 10 the disk, nothing was published; 14 the node is locked; `replay`: 30 the log contradicts the
policies, 31 events could not be decided again. The others: lintas --help.
docs/POLICY.md explains the language and every sample.";

/// The release policy of this agency: write it, try it, publish it.
#[derive(Args)]
#[command(after_help = CODES)]
pub(super) struct Policy {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write a commented policy to begin with.
    New(new::New),
    /// Look for mistakes: line, column, what is wrong, what to write instead.
    Check(check::Check),
    /// Try the policy's own cases.
    Test(test::Test),
    /// Whether a packet would go, to each member, and why or why not.
    Explain(explain::Explain),
    /// Which units could receive anything at all of a kind of packets, and under which conditions.
    WhoCouldReceive(who::Who),
    /// What a new policy changes, in words: who gains, who loses.
    Diff(diff::Diff),
    /// Check, test, compare, sign: the next version, in force here at once and at the broker when it has it.
    Publish(publish::Publish),
    /// Every version: when in force, where, what its author said of it.
    History,
    /// The text of a version.
    Show(show::Show),
    /// Decide the past again, from the audit log: as it was, or under another policy.
    Replay(replay::Replay),
}

/// Whose policy, and under which directory.
#[derive(Args)]
struct Basis {
    /// Directory (directory.bin) that says who is a member, instead of this node's.
    #[arg(long, value_name = "FILE")]
    directory: Option<PathBuf>,
    /// Agency whose policy it is, instead of this node's.
    #[arg(long, value_name = "CODE")]
    owner: Option<String>,
}

/// What every command of the officer has.
struct Officer {
    data: Option<Folder>,
    key_file: Option<PathBuf>,
    json: bool,
}

/// Runs a command.
pub(super) fn run(
    policy: Policy,
    data: Option<PathBuf>,
    key_file: Option<PathBuf>,
    json: bool,
) -> Result<(), Failure> {
    let data = data.as_deref().map(super::absolute).transpose()?.map(|data| Folder::at(&data));
    let officer = Officer { data, key_file, json };
    match policy.command {
        Command::New(new) => new::run(&officer, &new),
        Command::Check(check) => check::run(&officer, &check),
        Command::Test(test) => test::run(&officer, &test),
        Command::Explain(explain) => explain::run(&officer, &explain),
        Command::WhoCouldReceive(who) => who::run(&officer, &who),
        Command::Diff(diff) => diff::run(&officer, &diff),
        Command::Publish(publish) => publish::run(&officer, &publish),
        Command::History => history::run(&officer),
        Command::Show(show) => show::run(&officer, &show),
        Command::Replay(replay) => replay::run(&officer, &replay),
    }
}

impl Officer {
    fn home(&self) -> Result<&Folder, Failure> {
        self.data.as_ref().ok_or_else(|| {
            Failure::new(Code::Usage, "which data folder? give --data DIR, or set LINTAS_DATA")
        })
    }

    /// A node's, for commands that need one.
    fn node(&self) -> Result<Context, Failure> {
        let folder = self.home()?.clone();
        Ok(Context { folder, key_file: self.key_file.clone(), json: self.json })
    }

    /// Who is a member.
    fn roster(&self, basis: &Basis) -> Result<Arc<Roster>, Failure> {
        let directory = basis.directory.as_deref().map(super::absolute).transpose()?;
        let (believed, _) = believe(directory.as_deref(), None, self.data.as_ref())?;
        match believed {
            Believed::Directory(directory) => Ok(directory.shared_roster()),
            Believed::Bootstrap(_) => Err(Failure::internal("a bootstrap file names no members")),
        }
    }

    /// Whose policy: as the officer says, else as the node's folder says; the keys stay closed as long as they may.
    fn owner(&self, basis: &Basis) -> Result<String, Failure> {
        if let Some(owner) = &basis.owner {
            check_code(owner).map_err(|error| Failure::new(Code::Usage, format_args!("--owner: {error}")))?;
            return Ok(owner.clone());
        }
        let folder = self.data.as_ref().ok_or_else(|| {
            Failure::new(
                Code::Usage,
                "whose policy? give --owner CODE, or the data folder of a node (--data)",
            )
        })?;
        if let Some(newest) = versions(folder)?.pop() {
            return Ok(newest.owner);
        }
        let request = read(&folder.path("join-request.bin"), limits::KEYSET_BYTES_MAX as u64).ok();
        let request: Option<JoinRequest> =
            request.and_then(|bytes| canonical::decode(&Bytes::from(bytes), limits::KEYSET_BYTES_MAX).ok());
        if let Some(member) = request.and_then(|request| request.member) {
            return Ok(member.agency);
        }
        let Reply::Status(status) = self.node()?.ask(Request::Status)? else { return Err(unexpected()) };
        Ok(status.agency)
    }

    /// The version in force here now, and its text; none if there is none.
    fn in_force(&self, now_ms: u64) -> Result<Option<(Version, PolicyBundle)>, Failure> {
        let Some(folder) = &self.data else { return Ok(None) };
        let mut versions = versions(folder)?;
        versions.retain(|one| one.not_before_ms <= now_ms);
        let present = versions.pop().filter(|one| one.believed);
        present.map(|version| Ok((version.clone(), said(folder, &version)?))).transpose()
    }

    /// Beside the answer, for people: to a program an error is one object, and nothing beside it.
    fn aside(&self, text: &str) {
        if !self.json {
            words::aside(text);
        }
    }

    /// The refusal for mistakes: the list beside it, or in it for a program.
    fn refused(&self, mistakes: &[Mistake]) -> Failure {
        let (refused, list) =
            (files::refused(mistakes), mistakes.iter().map(plain_words).collect::<String>());
        self.aside(&list);
        if self.json { wrong(format_args!("{refused}:\n{list}")) } else { refused }
    }

    fn print<T: Serialize>(&self, value: &T, plain: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        super::print(self.json, value, plain)
    }
}

/// As policies name their owner.
fn agency(code: &str) -> Owner {
    Owner::Agency(code.to_owned())
}

/// A refusal because of the policy itself.
fn wrong(message: impl std::fmt::Display) -> Failure {
    Failure::new(Code::Draft, message)
}

/// A path as it is shown.
fn shown(path: &std::path::Path) -> String {
    one_line(&path.display().to_string())
}

#[cfg(test)]
mod tests;
