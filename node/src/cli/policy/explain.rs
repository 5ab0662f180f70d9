//! `lintas policy explain`: would this packet go, to each member, and why, or why not.

use std::path::{Path, PathBuf};

use clap::Args;
use lintas_config::policy::{
    PolicySet,
    explain::explain,
    view::{View, ViewError},
};

use super::{Basis, Officer, agency, files::Draft, label::Asked, words};
use crate::{
    cli::absolute,
    shell::{
        clock,
        failure::{Code, Failure},
    },
};

/// Options of `explain`.
#[derive(Args)]
pub(super) struct Explain {
    #[command(flatten)]
    asked: Asked,
    #[command(flatten)]
    basis: Basis,
    #[command(flatten)]
    which: Which,
    /// Only what would become of it there: AGENCY or AGENCY/UNIT.
    #[arg(long, value_name = "AGENCY[/UNIT]")]
    to: Option<String>,
}

/// Which policies are asked.
#[derive(Args)]
pub(super) struct Which {
    /// Policy folder or file to ask, instead of the policy in force.
    #[arg(long, value_name = "DIR")]
    policy: Option<PathBuf>,
}

impl Which {
    /// The policies: those of the folder, or those in force; none if none are.
    pub(super) fn policies(&self, officer: &Officer, owner: &str) -> Result<Option<PolicySet>, Failure> {
        match &self.policy {
            Some(path) => candidate(officer, path, owner).map(Some),
            None => present(officer, owner),
        }
    }
}

/// The policies in force here.
pub(super) fn present(officer: &Officer, owner: &str) -> Result<Option<PolicySet>, Failure> {
    let kept = officer.in_force(clock::now_ms())?.filter(|(version, _)| version.owner == owner);
    let read = kept.map(|(version, said)| {
        PolicySet::read(agency(owner), &said.policies).map_err(|problems| {
            let first = problems.first().map(ToString::to_string).unwrap_or_default();
            let message = format!(
                "version {} of the policy, which is in force, cannot be read by this software: {first}",
                version.version
            );
            Failure::new(Code::Storage, message)
        })
    });
    read.transpose()
}

/// The policies of a folder or file, mistakes shown.
pub(super) fn candidate(officer: &Officer, path: &Path, owner: &str) -> Result<PolicySet, Failure> {
    let draft = Draft::read(&absolute(path)?)?;
    draft.policies(agency(owner)).map_err(|mistakes| officer.refused(&mistakes))
}

/// Asks, and shows the matrix.
pub(super) fn run(officer: &Officer, asked: &Explain) -> Result<(), Failure> {
    let (roster, owner) = (officer.roster(&asked.basis)?, officer.owner(&asked.basis)?);
    let policies = asked.which.policies(officer, &owner)?;
    let (packet, at_ms) = asked.asked.packet(&roster, &owner)?;
    let view = View::new(&roster, &owner, policies.as_ref(), at_ms).map_err(|error| unknown(&error))?;
    let only = asked.to.as_deref().map(|to| to.split_once('/').map_or((to, None), |(a, u)| (a, Some(u))));
    let explained = explain(&view, &packet, only).map_err(|error| unknown(&error))?;
    officer.print(&explained, |explained| {
        let nothing = if policies.is_none() { words::nothing_in_force(&owner) } else { String::new() };
        format!("{nothing}{}", words::coloured(&explained.to_string()))
    })
}

/// A name that the roster does not know, or a question that is none of this agency's.
pub(super) fn unknown(error: &ViewError) -> Failure {
    let code = match error {
        ViewError::Agency { .. } | ViewError::Unit { .. } | ViewError::NotOurs(_) | ViewError::NoUnits(_) => {
            Code::Usage
        }
        ViewError::Baseline(_) => Code::NotSetUp,
    };
    Failure::new(code, error)
}
