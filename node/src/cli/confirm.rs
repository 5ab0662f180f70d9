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
    /// Its new identity key as the agency has read it to you: 12 words, or 12 groups of 5 digits, as `lintas status`
    /// shows them; or 64 hex digits.
    #[arg(required = true)]
    key: Vec<String>,
}

/// Believes it, and says how the node is then.
pub(super) fn run(context: &Context, confirm: Confirm) -> Result<(), Failure> {
    let Reply::Status(reply) =
        context.ask(Request::Confirm { agency: confirm.agency, key: confirm.key.join(" ") })?
    else {
        return Err(unexpected());
    };
    context.print(reply.as_ref(), status::plain_words)
}
