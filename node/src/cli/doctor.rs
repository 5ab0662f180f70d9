//! `lintas doctor`: is this node sound, and what is to be done?

use super::{Context, unexpected};
use crate::{
    core::{
        health::{Check, Health, Mark},
        text::printable,
    },
    shell::{
        desk::{Reply, Request},
        failure::{Code, Failure},
        health,
    },
};

/// Looks, prints, and ends with the worst that was found.
pub(super) fn run(context: &Context) -> Result<(), Failure> {
    let mut checks = health::of_files(&context.folder, context.key_file.as_deref());
    match context.ask(Request::Doctor) {
        Ok(Reply::Doctor(more)) => checks.extend(more),
        Ok(_) => return Err(unexpected()),
        // Said already.
        Err(failure) if failure.code == Code::NotSetUp && !context.folder.path("node.toml").exists() => {}
        Err(failure) => checks.push(health::unopened(&failure)),
    }
    let found = Health::of(checks);
    context.print(&found, plain_words)?;
    let (warnings, wrong) = (found.count(Mark::Warning), found.count(Mark::Wrong));
    match found.worst {
        Mark::Ok => Ok(()),
        Mark::Warning => Err(Failure::new(Code::Warned, format_args!("warnings: {warnings}"))),
        Mark::Wrong => Err(Failure::new(Code::Wrong, format_args!("wrong: {wrong}, warnings: {warnings}"))),
    }
}

/// As an operator reads it.
pub(super) fn plain_words(found: &Health) -> String {
    let total = found.checks.len();
    let list: String = found.checks.iter().map(one).collect();
    format!("{list}{} of {total} checks are well\n", found.count(Mark::Ok))
}

fn one(check: &Check) -> String {
    let mark = match check.mark {
        Mark::Ok => "ok     ",
        Mark::Warning => "WARNING",
        Mark::Wrong => "WRONG  ",
    };
    let advice = check.advice.as_ref().map(|advice| format!("\n         to do: {}", printable(advice)));
    format!(
        "{mark}  {}: {}{}\n",
        check.check.replace('_', " "),
        printable(&check.found),
        advice.unwrap_or_default()
    )
}
