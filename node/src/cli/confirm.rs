//! `lintas confirm`: an officer's word that a held agency's new identity key is its own.

use clap::Args;

use super::{Context, status, unexpected};
use crate::shell::{
    desk::{Reply, Request},
    failure::Failure,
};

/// Options of `confirm`.
#[derive(Args)]
pub(super) struct Confirm {
    /// The agency that is held.
    agency: String,
    /// Its new identity key as the agency has read it to you: 64 hex digits, in groups or not.
    #[arg(required = true)]
    key: Vec<String>,
}

/// Believes it, and says how the node is then.
pub(super) fn run(context: &Context, confirm: Confirm) -> Result<(), Failure> {
    let Reply::Status(reply) =
        context.ask(Request::Confirm { agency: confirm.agency, key: confirm.key.concat() })?
    else {
        return Err(unexpected());
    };
    context.print(reply.as_ref(), status::plain_words)
}
