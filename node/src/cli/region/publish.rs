//! `lintas region publish`: from signed copies to the directory that everybody takes.

use std::path::{Path, PathBuf};

use clap::Args;
use lintas_config::{
    Bootstrap, Directory,
    authority::{self, Proposal, Review},
};
use serde::Serialize;

use super::{Ceremony, words};
use crate::shell::{
    failure::{Code, Failure},
    region::files::{self, BOOTSTRAP, DIRECTORY, HISTORY, history_name},
};

/// Options of `region publish`.
#[derive(Args)]
pub(super) struct Publish {
    /// Signed copies of one proposal.
    #[arg(required = true)]
    signed: Vec<PathBuf>,
    /// Public keys of offices, which give names to keys.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    office: Vec<PathBuf>,
    /// Folder of what is published: directory.bin, bootstrap.toml, history. It holds the version before.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Serialize)]
struct Done {
    directory: PathBuf,
    /// Whether newcomers need another bootstrap.toml than before.
    bootstrap_changed: bool,
    bootstrap: PathBuf,
    bootstrap_words: String,
    bootstrap_digits: String,
    history: PathBuf,
    #[serde(flatten)]
    review: Review,
}

/// Joins, checks, writes.
pub(super) fn run(ceremony: &Ceremony, publish: &Publish) -> Result<(), Failure> {
    let mut proposal = merged(&publish.signed)?;
    let offices = files::offices(&publish.office)?;
    let version = proposal.roster().version;
    let before = before(&publish.out, &proposal)?;
    let named = proposal.bootstrap().map_err(Failure::internal)?;
    let first = publish.signed.first().map(PathBuf::as_path).unwrap_or(Path::new(""));
    let review = authority::review(&proposal, before.as_ref(), &offices)
        .map_err(|error| files::unusable(first, &error))?;
    complete(&review)?;
    let mut authorities = named.authority_keys.clone();
    if let Some(before) = &before {
        authorities.extend(Bootstrap::of(before.roster()).map_err(Failure::internal)?.authority_keys);
    }
    proposal.keep_signatures_of(&authorities);
    let bytes = proposal.to_bytes();
    let forbidden = |error: &dyn std::fmt::Display| Failure::new(Code::Forbidden, error);
    match &before {
        Some(before) => before.succeed(&bytes, &[]).map(drop).map_err(|error| forbidden(&error))?,
        None => Directory::open(&bytes, &named).map(drop).map_err(|error| forbidden(&error))?,
    }
    let out = |name: &str| publish.out.join(name);
    let bootstrap_changed = bootstrap_changes(&out(BOOTSTRAP), before.as_ref(), &named)?;
    let history = out(HISTORY).join(history_name(version));
    std::fs::create_dir_all(out(HISTORY)).map_err(|error| Failure::file("make", &out(HISTORY), &error))?;
    if !history.exists() {
        files::write_new(&history, &bytes)?;
    } else if files::proposal(&history)?.hash() != proposal.hash() {
        return Err(Failure::new(
            Code::Forbidden,
            format_args!("another roster of version {version} was published already: {}", history.display()),
        ));
    }
    files::replace(&out(DIRECTORY), &bytes)?;
    // Last: until then a publication that was cut off can be done again.
    if bootstrap_changed {
        files::replace(&out(BOOTSTRAP), named.to_text().as_bytes())?;
    }
    let done = Done {
        directory: out(DIRECTORY),
        bootstrap_changed,
        bootstrap: out(BOOTSTRAP),
        bootstrap_words: named.words(),
        bootstrap_digits: named.fingerprint(),
        history,
        review,
    };
    ceremony.print(&done, plain_words)
}

/// All copies in one.
fn merged(paths: &[PathBuf]) -> Result<Proposal, Failure> {
    let (first, rest) = paths
        .split_first()
        .ok_or_else(|| Failure::new(Code::Usage, "which signed copies? name their files"))?;
    let mut all = files::proposal(first)?;
    for path in rest {
        all.merge(&files::proposal(path)?).map_err(|error| {
            Failure::new(Code::Forbidden, format_args!("`{}` cannot be used: {error}", path.display()))
        })?;
    }
    Ok(all)
}

/// The version before, as the folder has it; none for a first one.
fn before(out: &Path, proposal: &Proposal) -> Result<Option<Directory>, Failure> {
    let version = proposal.roster().version;
    let newest = out.join(DIRECTORY);
    if newest.exists() {
        let newest = files::proposal(&newest)?;
        let have = newest.roster().version;
        if have > version || (have == version && newest.hash() != proposal.hash()) {
            let message = format!(
                "version {have} is published already in `{}`; this is version {version}",
                out.display()
            );
            return Err(Failure::new(Code::Forbidden, message));
        }
    }
    let Some(earlier) = version.checked_sub(1).filter(|earlier| *earlier > 0) else { return Ok(None) };
    let path = out.join(HISTORY).join(history_name(earlier));
    let path = if path.exists() { path } else { newest };
    if !path.exists() {
        let message = format!(
            "version {version} follows version {earlier}, which is not in `{}`: put the directory.bin and bootstrap.toml \
             in force there first",
            out.display()
        );
        return Err(Failure::new(Code::NotSetUp, message));
    }
    files::directory(&path, None).map(Some)
}

/// Whether `bootstrap.toml` is another one from now on. The one that is there must be that of the version before, or
/// the new one.
fn bootstrap_changes(path: &Path, before: Option<&Directory>, named: &Bootstrap) -> Result<bool, Failure> {
    if !path.exists() {
        return if before.is_none() {
            Ok(true)
        } else {
            let message = format!("`{}` is missing: put it beside directory.bin again", path.display());
            Err(Failure::new(Code::NotSetUp, message))
        };
    }
    let there = files::bootstrap(path)?;
    if there.fingerprint() == named.fingerprint() {
        return Ok(false);
    }
    let old = before.map(|before| Bootstrap::of(before.roster())).transpose().map_err(Failure::internal)?;
    if old.is_some_and(|old| old.fingerprint() == there.fingerprint()) {
        return Ok(true);
    }
    let message = format!(
        "`{}` names other authorities than the directory there; find out which is false",
        path.display()
    );
    Err(Failure::new(Code::Forbidden, message))
}

/// Refuses what is not signed by all who must sign, and says whose signature is missing.
fn complete(review: &Review) -> Result<(), Failure> {
    if review.complete {
        return Ok(());
    }
    let needs: Vec<String> = review
        .needs
        .iter()
        .map(|need| format!("{} of {}: {} have signed", need.need, need.of, need.have))
        .collect();
    let missing = review.signatures.iter().filter(|by| !by.signed).map(|by| {
        let whose = match (by.before, by.after) {
            (true, false) => " (goes)",
            (false, true) if review.compared_with.is_some() => " (comes)",
            (true | false, true | false) => "",
        };
        format!("\n  {}{whose}", words::key(&by.office))
    });
    let missing: String = missing.collect();
    let message = format!("signatures are missing: {}. Not signed by:{missing}", needs.join("; "));
    Err(Failure::new(Code::Forbidden, message))
}

fn plain_words(done: &Done) -> String {
    let bootstrap = if done.bootstrap_changed {
        format!(
            "Who may sign is new: give {} to newcomers too, and let them compare, by another way,\n  {}\n  {}\n",
            done.bootstrap.display(),
            done.bootstrap_words,
            done.bootstrap_digits
        )
    } else {
        format!("Who may sign is as before: {}\n", done.bootstrap_words)
    };
    format!(
        "{}\nPublished: {}, kept as {}\n{bootstrap}Give directory.bin to the broker and to every member.\n",
        words::review(&done.review),
        done.directory.display(),
        done.history.display(),
    )
}
