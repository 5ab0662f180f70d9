//! `lintas region review`: what a proposal changes.

use std::path::PathBuf;

use clap::Args;
use lintas_config::authority;

use super::{Ceremony, words};
use crate::shell::{
    failure::{Code, Failure},
    region::files,
};

/// Options of `region review`.
#[derive(Args)]
pub(super) struct Review {
    /// The proposal, signed or not.
    proposal: PathBuf,
    /// The directory that it shall follow; without it everything is shown as new.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Believe that directory only if the authorities of this bootstrap.toml signed it.
    #[arg(long, value_name = "FILE", requires = "against")]
    bootstrap: Option<PathBuf>,
    /// Public keys of offices, which give names to keys.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    office: Vec<PathBuf>,
}

/// Says it; ends with a failure if the proposal does not follow.
pub(super) fn run(ceremony: &Ceremony, args: &Review) -> Result<(), Failure> {
    let proposal = files::proposal(&args.proposal)?;
    let vouches = args.bootstrap.as_deref();
    let before = args.against.as_deref().map(|path| files::directory(path, vouches)).transpose()?;
    let offices = files::offices(&args.office)?;
    let review = authority::review(&proposal, before.as_ref(), &offices)
        .map_err(|error| files::unusable(&args.proposal, &error))?;
    ceremony.print(&review, words::review)?;
    let follows = before.map_or(Ok(Vec::new()), |before| before.proposed(&proposal.to_bytes()));
    follows.map(drop).map_err(|error| {
        Failure::new(Code::Forbidden, format_args!("the proposal does not follow that directory: {error}"))
    })
}
