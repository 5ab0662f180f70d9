//! `lintas outbox`: what was sent, and where it stands.

use super::{
    Context,
    inbox::List,
    render::{count, outbox_entry},
    unexpected,
};
use crate::{
    core::view::Outbox,
    shell::{
        desk::{Reply, Request},
        failure::Failure,
    },
};

/// Lists.
pub(super) fn run(context: &Context, list: &List) -> Result<(), Failure> {
    let Reply::Outbox(reply) = context.ask(Request::Outbox { limit: list.limit })? else {
        return Err(unexpected());
    };
    context.print(&reply, plain_words)
}

fn plain_words(outbox: &Outbox) -> String {
    let entries: String = outbox.packets.iter().map(outbox_entry).collect();
    format!("{} of {}\n{entries}", outbox.packets.len(), count(outbox.total, "packet"))
}
