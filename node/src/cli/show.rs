//! `lintas show`: one packet, opened again from disk.

use clap::Args;

use super::{
    Context,
    render::{kind, outbox_entry, outline, proven, words},
    unexpected,
};
use crate::{
    core::{
        text::{one_line, printable},
        view::PacketView,
    },
    shell::{
        clock::show as time,
        desk::{Reply, Request},
        failure::Failure,
    },
};

/// Options of `show`.
#[derive(Args)]
pub(super) struct Show {
    /// Packet id, or at least 8 digits of the header digest.
    id: String,
}

/// Shows.
pub(super) fn run(context: &Context, show: Show) -> Result<(), Failure> {
    let Reply::Packet(reply) = context.ask(Request::Show { id: show.id })? else {
        return Err(unexpected());
    };
    context.print(&*reply, plain_words)
}

/// What its reader is bound to.
pub(super) fn restrictions(restrictions: &[String]) -> String {
    if restrictions.is_empty() {
        return String::new();
    }
    let lines: String = restrictions.iter().map(|one| format!("  {}\n", printable(one))).collect();
    format!("\nyou are bound to:\n{lines}")
}

/// As an officer reads it.
pub(super) fn plain_words(packet: &PacketView) -> String {
    let onward = packet.onward.strip_prefix("ONWARD_").unwrap_or(&packet.onward);
    let mut out = format!(
        "{} {} ({})\n  signed by {}\n  to {}\n  sealed {}\n  onward: {}\n",
        kind(&packet.kind),
        packet.packet_id,
        packet.direction,
        packet.from,
        packet.to.join(", "),
        time(packet.created_ms),
        words(onward)
    );
    if !packet.audience.is_empty() {
        out.push_str(&format!("  the sender shows the audience: {}\n", packet.audience.join(", ")));
    }
    if let Some(ms) = packet.received_ms {
        out.push_str(&format!("  came {}\n", time(ms)));
    }
    if packet.outbox.is_none() {
        packet.proven.iter().for_each(|grade| out.push_str(&format!("  receipt: {}\n", proven(grade))));
    }
    packet.warnings.iter().for_each(|text| out.push_str(&format!("  WARNING: {}\n", one_line(text))));
    out.push_str(&restrictions(&packet.restrictions));
    out.push_str(&format!("\nlabel:\n{}\n{}\n", outline(&packet.label, 1), outline(&packet.body, 0)));
    for attachment in &packet.attachments {
        out.push_str(&format!(
            "attachment {}: {} bytes, SHA-256 {}\n  the sender calls it `{}`\n",
            attachment.number,
            attachment.bytes,
            attachment.sha256,
            one_line(&attachment.claimed_name)
        ));
    }
    if let Some(entry) = &packet.outbox {
        out.push_str(&format!("outbox:\n{}", outbox_entry(entry)));
    }
    out
}
