//! `lintas exposure`: which packets the loss of a key exposes.

use clap::Args;

use super::{
    Context,
    render::{count, title},
    unexpected,
};
use crate::{
    core::{
        exposure::{Exposed, Exposure},
        text::one_line,
    },
    shell::{
        clock::{self, show as time},
        desk::{Reply, Request},
        failure::{Code, Failure},
    },
};

/// Options.
#[derive(Args)]
pub(super) struct Asked {
    /// What is lost: the id of a key (64 hex digits, or its first 12 or more), `node` for everything on this node,
    /// `unit:TH-MAR` for the keys of a unit, `epoch:2930` for the keys of a week (weeks since 1970).
    #[arg(long, value_name = "KEY")]
    key: String,
    /// Packets that came or were sealed before this are left out: 2026-11-01, or 2026-11-01T08:00:00Z.
    #[arg(long, value_name = "DATE")]
    since: Option<String>,
    /// Show the titles of the packets as well.
    #[arg(long)]
    titles: bool,
}

/// Asks.
pub(super) fn run(context: &Context, asked: Asked) -> Result<(), Failure> {
    let Asked { key: lost, since, titles } = asked;
    let since_ms = since.as_deref().map(read_time).transpose()?;
    let Reply::Exposure(reply) = context.ask(Request::Exposure { lost, since_ms, titles })? else {
        return Err(unexpected());
    };
    context.print(reply.as_ref(), plain_words)
}

fn read_time(text: &str) -> Result<u64, Failure> {
    clock::read(text).ok_or_else(|| {
        let message = format!("`{}` is no date; write 2026-11-01, or 2026-11-01T08:00:00Z", one_line(text));
        Failure::new(Code::Usage, message)
    })
}

/// As an officer reads it.
pub(super) fn plain_words(found: &Exposure) -> String {
    let mut out = String::new();
    found.known_as.iter().for_each(|what| out.push_str(&format!("this is {}\n", one_line(what))));
    found.packets.iter().for_each(|packet| out.push_str(&entry(packet)));
    if found.not_listed > 0 {
        out.push_str(&format!("and {} more that are not listed; ask with --since\n", found.not_listed));
    }
    let since = found.since_ms.map(|ms| format!(" since {}", time(ms))).unwrap_or_default();
    out.push_str(&format!(
        "{} looked at{since}: {} can be read, {} with a signature that proves nothing any more, {} could not be looked \
         at\n",
        count(found.looked_at, "packet"), found.contents, found.signatures, found.unread
    ));
    found.advice.iter().for_each(|text| out.push_str(&format!("- {text}\n")));
    out
}

fn entry(packet: &Exposed) -> String {
    let what = match (packet.contents, packet.signature) {
        (true, false) => "CAN BE READ",
        (false, true) => "SIGNATURE PROVES NOTHING",
        (true, true) | (false, false) => "CAN BE READ, SIGNATURE PROVES NOTHING",
    };
    let words = packet.title.as_ref().map(|text| format!("\n  {}", title(text))).unwrap_or_default();
    format!(
        "{}  {}, {}  {what}\n  from {} to {}{words}\n",
        packet.packet_id,
        packet.direction,
        time(packet.time_ms),
        one_line(&packet.from),
        one_line(&packet.to.join(", ")),
    )
}
