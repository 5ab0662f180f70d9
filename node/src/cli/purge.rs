//! `lintas purge`: packets that nobody shall be able to open here any more.

use clap::Args;
use jiff::{Timestamp, civil::Date, tz::TimeZone};

use super::{
    Context,
    render::{count, kind},
    unexpected,
};
use crate::{
    core::{text::one_line, view::Purged},
    shell::{
        clock::show as time,
        desk::{Reply, Request},
        failure::{Code, Failure},
    },
};

/// Options of `purge`.
#[derive(Args)]
pub(super) struct Purge {
    /// Packet ids, or at least 8 digits of header digests.
    ids: Vec<String>,
    /// Everything that came or was sealed before that day (2026-11-01, UTC) or moment (2026-11-01T12:00:00Z).
    #[arg(long, value_name = "DATE")]
    before: Option<String>,
    /// Everything whose sender wanted it delivered by a time that is over.
    #[arg(long)]
    expired: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// Lists, asks, purges.
pub(super) fn run(context: &Context, purge: Purge) -> Result<(), Failure> {
    let before_ms = purge.before.as_deref().map(moment).transpose()?;
    let ask = |confirmed| {
        let (ids, expired) = (purge.ids.clone(), purge.expired);
        let Reply::Purged(purged) = context.ask(Request::Purge { ids, before_ms, expired, confirmed })?
        else {
            return Err(unexpected());
        };
        Ok(*purged)
    };
    let planned = ask(false)?;
    if planned.total == 0 {
        return context.print(&planned, plain_words);
    }
    context.confirm(purge.yes, &format!("{}This cannot be undone.", plain_words(&planned)))?;
    context.print(&ask(true)?, plain_words)
}

fn moment(text: &str) -> Result<u64, Failure> {
    let day = || text.parse::<Date>().ok().and_then(|day| day.to_zoned(TimeZone::UTC).ok());
    let found = text.parse::<Timestamp>().ok().or_else(|| day().map(|day| day.timestamp()));
    found.and_then(|time| u64::try_from(time.as_millisecond()).ok()).ok_or_else(|| {
        let message = "nothing was purged: --before needs a day, e.g. 2026-11-01, or a moment, e.g. 2026-11-01T12:00:00Z";
        Failure::new(Code::Usage, message)
    })
}

fn plain_words(purged: &Purged) -> String {
    let what = if purged.done { "purged: nobody can open them here any more" } else { "to purge" };
    let mut out = format!("{} {what}\n", count(purged.total, "packet"));
    for packet in &purged.packets {
        let direction = if packet.direction == "sent" { "sent to" } else { "from" };
        let with = packet.with.iter().map(|name| one_line(name)).collect::<Vec<_>>().join(", ");
        out.push_str(&format!(
            "  {}  {}  {direction} {with}, {}\n",
            packet.packet_id,
            kind(&packet.kind),
            time(packet.time_ms)
        ));
    }
    let more = purged.total - purged.packets.len().min(purged.total);
    if more > 0 {
        out.push_str(&format!("  and {more} more\n"));
    }
    if purged.left_waiting > 0 {
        let left = purged.left_waiting;
        out.push_str(&format!("{} left out: the broker has not answered yet\n", count(left, "packet")));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_midnight_utc() {
        assert_eq!(moment("1970-01-02").unwrap(), 86_400_000);
        assert_eq!(moment("1970-01-02T01:00:00+01:00").unwrap(), 86_400_000);
        assert!(moment("yesterday").is_err() && moment("1969-01-01").is_err());
    }
}
