//! `lintas outbox`: what was sent, and where it stands.

use super::{Context, inbox::List, render::outbox_entry, unexpected};
use crate::{
    core::view::Outbox,
    shell::{
        desk::{Reply, Request},
        failure::Failure,
    },
};

/// Lists.
pub(super) fn run(context: &Context, list: &List) -> Result<(), Failure> {
    match context.ask(Request::Outbox { limit: list.limit })? {
        Reply::Outbox(outbox) => context.print(&outbox, plain_words),
        other => Err(unexpected(&other)),
    }
}

fn plain_words(outbox: &Outbox) -> String {
    let entries: String = outbox.packets.iter().map(outbox_entry).collect();
    format!("{} of {} packets\n{entries}", outbox.packets.len(), outbox.total)
}
