//! `lintas policy who-could-receive`: for which units at least one packet of a kind would be let go.

use clap::Args;
use lintas_config::policy::{could::who_could_receive, view::View};

use super::{
    Basis, Officer,
    explain::{Which, unknown},
    label::Open,
    words,
};
use crate::shell::failure::Failure;

/// Options of `who-could-receive`.
#[derive(Args)]
pub(super) struct Who {
    #[command(flatten)]
    open: Open,
    #[command(flatten)]
    basis: Basis,
    #[command(flatten)]
    which: Which,
}

/// Asks, and lists.
pub(super) fn run(officer: &Officer, who: &Who) -> Result<(), Failure> {
    let (roster, owner) = (officer.roster(&who.basis)?, officer.owner(&who.basis)?);
    let policies = who.which.policies(officer, &owner)?;
    let (originator, partial, at_ms) = who.open.partial(&roster, &owner)?;
    let view = View::new(&roster, &owner, policies.as_ref(), at_ms).map_err(|error| unknown(&error))?;
    let could = who_could_receive(&view, &originator, &partial).map_err(|error| unknown(&error))?;
    officer.print(&could, |could| {
        let nothing = if policies.is_none() { words::nothing_in_force(&owner) } else { String::new() };
        format!("{nothing}{}", words::coloured(&could.to_string()))
    })
}
