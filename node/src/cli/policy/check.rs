//! `lintas policy check`: every mistake, with its place and what to write instead.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use lintas_config::policy::{Owner, PolicySet, cases::Cases, check::literals};
use lintas_proto::schema::Roster;
use serde::Serialize;

use super::{
    Basis, Officer, agency,
    files::{Draft, Mistake, plain_words, refused},
};
use crate::{
    cli::{absolute, render::count},
    shell::failure::Failure,
};

/// Options of `check`.
#[derive(Args)]
pub(super) struct Check {
    /// Policy folder, or a file with policies alone.
    #[arg(default_value = "policy")]
    path: PathBuf,
    #[command(flatten)]
    basis: Basis,
    /// It is the baseline of a region: policies that only forbid.
    #[arg(long, conflicts_with = "owner")]
    baseline: bool,
}

#[derive(Serialize)]
struct Checked {
    owner: String,
    sound: bool,
    policies: usize,
    cases: usize,
    mistakes: Vec<Mistake>,
}

/// A policy that may be used, and its cases.
pub(super) struct Sound {
    pub(super) policies: PolicySet,
    pub(super) cases: Cases,
}

/// Looks, and says.
pub(super) fn run(officer: &Officer, check: &Check) -> Result<(), Failure> {
    let owner = if check.baseline { Owner::Baseline } else { agency(&officer.owner(&check.basis)?) };
    let draft = Draft::read(&absolute(&check.path)?)?;
    let looked = look(&draft, &owner, &officer.roster(&check.basis)?);
    let (policies, cases, mistakes) = match looked {
        Ok(sound) => (sound.policies.policies().count(), sound.cases.all().len(), Vec::new()),
        Err(mistakes) => (0, 0, mistakes),
    };
    let checked = Checked { owner: owner.to_string(), sound: mistakes.is_empty(), policies, cases, mistakes };
    officer.print(&checked, |checked| {
        if checked.sound {
            let (policies, cases) = (several(checked.policies), count(checked.cases, "case"));
            return format!(
                "The policy of {} can be read: {policies}, {cases}; every name in it stands in the directory.\nNext: lintas \
                 policy test {}\n",
                checked.owner,
                super::shown(&check.path)
            );
        }
        checked.mistakes.iter().map(plain_words).collect()
    })?;
    if checked.sound { Ok(()) } else { Err(refused(&checked.mistakes)) }
}

/// The policy and its cases, or everything that is wrong with them.
pub(super) fn look(draft: &Draft, owner: &Owner, roster: &Arc<Roster>) -> Result<Sound, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let policies = match draft.policies(owner.clone()) {
        Ok(policies) => {
            if let Err(problems) = literals(&policies, roster) {
                mistakes.extend(draft.in_policies(problems));
            }
            Some(policies)
        }
        Err(wrong) => {
            mistakes.extend(wrong);
            None
        }
    };
    match (policies, Cases::read(&draft.cases, owner)) {
        (Some(policies), Ok(cases)) if mistakes.is_empty() => Ok(Sound { policies, cases }),
        (_, Ok(_)) => Err(mistakes),
        (_, Err(problems)) => {
            mistakes.extend(draft.in_cases(problems));
            Err(mistakes)
        }
    }
}

/// `1 policy`, `2 policies`.
pub(super) fn several(policies: usize) -> String {
    if policies == 1 { "1 policy".to_owned() } else { format!("{policies} policies") }
}
