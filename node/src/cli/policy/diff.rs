//! `lintas policy diff`: what a new policy changes, in words: who gains, who loses.

use std::path::{Path, PathBuf};

use clap::Args;
use lintas_config::policy::{
    Baseline, PolicySet,
    diff::{Diff as Difference, diff},
};
use lintas_proto::schema::Roster;

use super::{
    Basis, Officer,
    explain::{candidate, present},
    words,
};
use crate::shell::{
    clock,
    failure::{Code, Failure},
};

/// Options of `diff`.
#[derive(Args)]
pub(super) struct Diff {
    /// Two policy folders or files, the older first; with one, it is compared with the policy in force; without any, the folder `policy` is.
    #[arg(value_name = "[OLD] NEW", default_value = "policy", num_args = 1..=2)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    basis: Basis,
}

/// Compares, and says.
pub(super) fn run(officer: &Officer, asked: &Diff) -> Result<(), Failure> {
    let (roster, owner) = (officer.roster(&asked.basis)?, officer.owner(&asked.basis)?);
    let read = |path: &Path| candidate(officer, path, &owner);
    let (old, new) = match asked.paths.as_slice() {
        [old, new] => (Some(read(old)?), read(new)?),
        [new] => (present(officer, &owner)?, read(new)?),
        _ => return Err(Failure::new(Code::Usage, "which policy? give one folder, or two")),
    };
    let against = match (asked.paths.len(), &old) {
        (1, Some(_)) => "Compared with the policy in force here.\n",
        (1, None) => {
            "No policy is in force here, so nothing is released and nothing is accepted: all of this is new.\n"
        }
        _ => "",
    };
    let found = compare(old.as_ref(), &new, &roster)?;
    officer.print(&found, |found| format!("{against}{}", words::safe(&found.to_string())))
}

/// The difference, now and at the moments to come.
pub(super) fn compare(
    old: Option<&PolicySet>,
    new: &PolicySet,
    roster: &Roster,
) -> Result<Difference, Failure> {
    let baseline = Baseline::read(roster).map_err(|problem| {
        Failure::new(Code::NotSetUp, format_args!("the baseline of the region cannot be read: {problem}"))
    })?;
    Ok(diff(old, Some(new), &baseline, roster, clock::now_ms()))
}
