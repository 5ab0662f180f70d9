//! `lintas join`: take up the region, once its authority has admitted the agency.

use std::path::PathBuf;

use clap::Args;
use lintas_config::Bootstrap;
use lintas_config::words::same_words;
use lintas_proto::{id::hex, limits};
use serde::Serialize;

use super::{Context, agree};
use crate::{
    core::keys::{Holds, Keys, open_file},
    shell::{
        desk::{check_membership, locked},
        failure::{Code, Failure},
        files, join, trust, unlock,
    },
};

/// Longest bootstrap file, bytes.
const BOOTSTRAP_BYTES_MAX: u64 = 64 * 1024;

/// Options of `join`.
#[derive(Args)]
pub(super) struct Join {
    /// The bootstrap file that the region authority has given you.
    #[arg(long, value_name = "FILE")]
    bootstrap: PathBuf,
    /// The directory that it has given you; without it, it is fetched from the broker.
    #[arg(long, value_name = "FILE")]
    directory: Option<PathBuf>,
    /// The fingerprint of the bootstrap file as the authority has read it to you, 12 words or 12 groups of 5 digits; you are
    /// not asked then.
    #[arg(long, value_name = "FINGERPRINT")]
    words: Option<String>,
    /// You have compared the fingerprint by another way: do not ask.
    #[arg(long)]
    yes: bool,
}

#[derive(Serialize)]
struct Joined {
    region: String,
    agency: String,
    fingerprint: String,
    roster_version: u64,
    members: usize,
}

/// Compares, fetches, checks, and keeps; nothing is kept before all of it holds.
pub(super) fn run(context: &Context, join: &Join) -> Result<(), Failure> {
    let folder = &context.folder;
    folder.check()?;
    let _lock = context.lock()?;
    if trust::mark(folder)?.is_some() {
        let message = "this node has joined already, and nothing was changed; a new directory comes from the broker by \
                       itself, or take directory.bin as docs/OPERATING.md says";
        return Err(Failure::new(Code::NotSetUp, message));
    }
    let text = files::read(&join.bootstrap, BOOTSTRAP_BYTES_MAX)
        .map_err(|error| Failure::file("read", &join.bootstrap, &error))?;
    let wrong = |error: &dyn std::fmt::Display| {
        let file = join.bootstrap.display();
        Failure::new(
            Code::NotSetUp,
            format_args!("`{file}` is no bootstrap file: {error}; get it again from the region authority"),
        )
    };
    let text = String::from_utf8(text).map_err(|_| wrong(&"it is not text"))?;
    let bootstrap = Bootstrap::parse(&text).map_err(|error| wrong(&error))?;
    compare(&bootstrap, join)?;

    let file = folder.read("node.keys", limits::KEYSET_BYTES_MAX as u64, "restore it from a copy")?;
    let (_, plain) =
        open_file(Holds::Node, &file, &unlock::unlocker(context.key_file.as_deref())?).map_err(locked)?;
    let (keys, _) = Keys::parse(&plain).map_err(locked)?;
    if bootstrap.region != keys.region {
        let message = format!(
            "the bootstrap file is for region `{}`, and these keys were made for `{}`",
            bootstrap.region, keys.region
        );
        return Err(Failure::new(Code::NotSetUp, message));
    }
    let directory = match &join.directory {
        Some(path) => join::read(path, &bootstrap)?,
        None => join::fetch(folder.settings()?.broker, &keys, &bootstrap)?,
    };
    if directory.roster().members.iter().all(|member| member.agency != keys.agency) {
        return Err(Failure::new(Code::NotSetUp, join::not_admitted(&keys.agency)));
    }
    check_membership(&directory, &keys)?;
    trust::begin(folder, &text, &directory)?;
    let joined = Joined {
        fingerprint: bootstrap.words(),
        region: bootstrap.region,
        agency: keys.agency.clone(),
        roster_version: directory.roster().version,
        members: directory.roster().members.len(),
    };
    context.print(&joined, plain_words)
}

/// Nothing is believed before the officer has compared the file with the authority by another way.
fn compare(bootstrap: &Bootstrap, join: &Join) -> Result<(), Failure> {
    let (words, digits) = (bootstrap.words(), bootstrap.fingerprint());
    let same = |text: &str| same_words(text, &words) || same_words(text, &digits);
    let fingerprint = format!("{words}\n  {digits}");
    match &join.words {
        Some(words) if same(words) => return Ok(()),
        Some(_) => {
            let message = format!(
                "the fingerprint of `{}` is\n  {fingerprint}\nand that is not what you gave; nothing was changed. If you \
                 made no mistake in typing, do not use this file: ask the region authority by another way",
                join.bootstrap.display()
            );
            return Err(Failure::new(Code::Usage, message));
        }
        None if join.yes => return Ok(()),
        None => {}
    }
    let keys: String =
        bootstrap.authority_keys.iter().map(|key| format!("  {}\n", hex(key.as_bytes()))).collect();
    let question = format!(
        "Region {}: {} of these {} keys of the region authority sign who is a member:\n{keys}Fingerprint, in \
         words and in digits:\n  {fingerprint}\nHas the authority read you the same fingerprint by another way, e.g. by telephone?",
        bootstrap.region,
        bootstrap.threshold,
        bootstrap.authority_keys.len(),
    );
    let advice = "nothing was changed. Compare the fingerprint with the region authority by another way, then give it with --words";
    if agree(&question, advice)? {
        Ok(())
    } else {
        Err(Failure::new(Code::Usage, "nothing was changed: ask the region authority for its bootstrap file"))
    }
}

fn plain_words(joined: &Joined) -> String {
    let Joined { region, agency, roster_version, members, .. } = joined;
    format!(
        "{agency} is a member of region {region}: roster version {roster_version}, {members} members. They all may be \
         sent to; who joins later needs an officer's word (lintas confirm).\n\
         What to do next: start `lintas run`.\n"
    )
}
