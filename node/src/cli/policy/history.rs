//! `lintas policy history`: every version, and where it counts.

use super::{Officer, words};
use crate::{
    core::view::PolicyView,
    shell::{
        control,
        desk::{Reply, Request, policy::offline},
        failure::Failure,
        policies::files::versions,
    },
};

/// Lists; what the broker has, a running node knows.
pub(super) fn run(officer: &Officer) -> Result<(), Failure> {
    officer.print(&look(officer)?, words::history)
}

/// How the policy stands: as a running node says, else by the folder alone, which needs no keys.
pub(super) fn look(officer: &Officer) -> Result<PolicyView, Failure> {
    let folder = officer.home()?;
    folder.check()?;
    if let Some(Ok(Reply::Policy(view))) = control::ask(folder, &Request::Policy) {
        return Ok(*view);
    }
    let basis = super::Basis { directory: None, owner: None };
    Ok(offline(&officer.owner(&basis)?, &versions(folder)?))
}
