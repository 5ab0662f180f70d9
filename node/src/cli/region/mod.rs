//! `lintas region`: the region authority's work.
//!
//! The authority is n offices, k of which must sign who is a member. Each office may sit on a machine of its own that
//! is connected to nothing; files are carried between them.
//!
//! | step | who | command | what it makes |
//! |---|---|---|---|
//! | 1 | each office | `office` | `authority.key` (stays), `authority.pub` (goes to who drafts) |
//! | 2 | whoever drafts; needs no secret | `draft`, later `change` | `proposal.bin`, without a signature |
//! | 3 | each office that signs | `review`, `sign` | a copy of the proposal with its signature |
//! | 4 | whoever publishes; needs no secret | `publish` | `directory.bin`, `bootstrap.toml`, `history/` |
//! | 5 | everybody | `inspect`, `history` | what is in force, and how it came about |
//!
//! No file of these is secret but `authority.key`. A proposal is an ordinary directory whose roster lacks signatures.

mod change;
mod draft;
mod history;
mod inspect;
mod office;
mod policy_words;
mod publish;
mod review;
mod sign;
mod words;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::shell::{
    failure::{Code, Failure},
    folder::Folder,
};

const STEPS: &str = "\
In this order: each office makes its key (office); somebody drafts (draft, later change); offices read and sign copies
(review, sign); somebody joins them (publish). Only `office` and `sign` need a folder (--data) and a secret.
Exit code 12: a rule of the authority forbids it, e.g. a signature is missing. docs/OPERATING.md has the commands.";

/// The region authority: who is a member, signed by k of its n offices.
#[derive(Args)]
#[command(after_help = STEPS)]
pub(super) struct Region {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make this office's authority key; --data names the office's folder.
    Office(office::Make),
    /// Draft the first roster of a region from its sources and the requests of its members.
    Draft(draft::Draft),
    /// Draft the next roster: who comes, goes, is suspended; which keys are replaced.
    Change(Box<change::Change>),
    /// Say in plain words what a proposal changes, and who has signed it.
    Review(review::Review),
    /// Add this office's signature to a proposal; --data names the office's folder.
    Sign(sign::Sign),
    /// Join the signed copies of a proposal into the directory that everybody takes.
    Publish(publish::Publish),
    /// Check all directories that were published, from the first one, and say what each changed.
    History(history::History),
    /// Say what a file of the region holds, and its keys in words to compare.
    Inspect(inspect::Inspect),
}

/// What every command of the authority needs.
pub(super) struct Ceremony {
    data: Option<PathBuf>,
    key_file: Option<PathBuf>,
    json: bool,
}

/// Runs a command. Only `office` and `sign` have a folder.
pub(super) fn run(
    region: &Region,
    data: Option<PathBuf>,
    key_file: Option<PathBuf>,
    json: bool,
) -> Result<(), Failure> {
    let ceremony = Ceremony { data, key_file, json };
    match &region.command {
        Command::Office(make) => office::run(&ceremony, make),
        Command::Draft(draft) => draft::run(&ceremony, draft),
        Command::Change(change) => change::run(&ceremony, change),
        Command::Review(review) => review::run(&ceremony, review),
        Command::Sign(sign) => sign::run(&ceremony, sign),
        Command::Publish(publish) => publish::run(&ceremony, publish),
        Command::History(history) => history::run(&ceremony, history),
        Command::Inspect(inspect) => inspect::run(&ceremony, inspect),
    }
}

impl Ceremony {
    /// The office's folder.
    fn folder(&self) -> Result<Folder, Failure> {
        let data = self.data.as_deref().ok_or_else(|| {
            Failure::new(Code::Usage, "which folder is the office's? give --data DIR, or set LINTAS_DATA")
        })?;
        Ok(Folder::at(&super::absolute(data)?))
    }

    fn key_file(&self) -> Option<&Path> {
        self.key_file.as_deref()
    }

    fn print<T: Serialize>(&self, value: &T, plain: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        super::print(self.json, value, plain)
    }
}
