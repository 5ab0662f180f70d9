//! `lintas inbox`: what came.

use clap::Args;

use super::{
    Context,
    render::{count, kind, moves, proven, title, words},
    unexpected,
};
use crate::{
    core::{text::one_line, view::Inbox},
    shell::{
        clock::show as time,
        desk::{Reply, Request},
        failure::Failure,
    },
};

/// Options of lists.
#[derive(Args)]
pub(super) struct List {
    /// At most so many, the newest first; up to 1,000.
    #[arg(long, default_value_t = 50, value_name = "NUMBER")]
    pub(super) limit: usize,
}

/// Lists.
pub(super) fn run(context: &Context, list: &List) -> Result<(), Failure> {
    let Reply::Inbox(reply) = context.ask(Request::Inbox { limit: list.limit })? else {
        return Err(unexpected());
    };
    context.print(&reply, plain_words)
}

fn plain_words(inbox: &Inbox) -> String {
    let mut out = format!("{} of {}\n", inbox.packets.len(), count(inbox.total, "packet"));
    for entry in &inbox.packets {
        let attachments = match entry.attachments {
            0 => String::new(),
            count => format!(", {count} attached"),
        };
        out.push_str(&format!(
            "{}  {}  {}\n  from {} to {}, came {}{attachments}\n",
            entry.packet_id,
            kind(&entry.kind),
            entry.purged_ms.map_or_else(|| title(&entry.title), |ms| format!("PURGED {}", time(ms))),
            entry.from,
            entry.unit,
            time(entry.received_ms)
        ));
        entry.proven.iter().for_each(|grade| out.push_str(&format!("  receipt: {}\n", proven(grade))));
        entry.warnings.iter().for_each(|text| out.push_str(&format!("  WARNING: {}\n", one_line(text))));
    }
    for transfer in &inbox.arriving {
        out.push_str(&format!("ON ITS WAY: {}\n", moves(transfer)));
    }
    for entry in &inbox.rejected {
        out.push_str(&format!(
            "NOT TAKEN {}  for {}: {} ({})\n  the broker and the sender were told; header {}\n",
            time(entry.received_ms),
            entry.unit,
            one_line(&entry.text),
            words(&entry.reason),
            entry.digest
        ));
    }
    out
}
