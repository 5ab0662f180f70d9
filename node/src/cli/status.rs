//! `lintas status`: how the node is.

use super::{
    Context,
    render::{count, moves},
    unexpected,
};
use crate::{
    core::{
        text::one_line,
        view::{LinkView, Status},
    },
    shell::{
        clock::show as time,
        desk::{Reply, Request},
        failure::Failure,
    },
};

/// Says.
pub(super) fn run(context: &Context) -> Result<(), Failure> {
    match context.ask(Request::Status)? {
        Reply::Status(reply) => context.print(reply.as_ref(), plain_words),
        Reply::Locked { since_ms } => super::lock::print(context, since_ms),
        Reply::Kept(_)
        | Reply::Inbox(_)
        | Reply::Outbox(_)
        | Reply::Standing(_)
        | Reply::Packet(_)
        | Reply::Evidence(_)
        | Reply::Exported(_)
        | Reply::Reviews(_)
        | Reply::Reviewed(_)
        | Reply::Purged(_)
        | Reply::Doctor(_)
        | Reply::Exposure(_)
        | Reply::Contact(_)
        | Reply::LogPiece(_)
        | Reply::AuditOwn(_)
        | Reply::Findings(_)
        | Reply::Ordered(_)
        | Reply::Policy(_)
        | Reply::Keys(_) => Err(unexpected()),
    }
}

/// As an officer reads it.
pub(super) fn plain_words(status: &Status) -> String {
    let mut out = format!(
        "agency {} in region {}\ndirectory: roster version {}, {}\n{}",
        status.agency,
        status.region,
        status.roster_version,
        validity(status),
        status
            .link
            .as_ref()
            .map_or_else(|| "not running: start `lintas run` to send and receive\n".to_owned(), connection),
    );
    out.push_str(&format!(
        "outbox: {}, {} without an answer\n",
        count(status.sent, "packet"),
        status.waiting
    ));
    if status.awaiting_review > 0 {
        let waiting = count(status.awaiting_review, "packet");
        out.push_str(&format!("review: {waiting} to be looked at before it is sent: lintas review\n"));
    }
    out.push_str(&format!("inbox: {}, {} not taken\n", count(status.received, "packet"), status.rejected));
    if let Some(policy) = &status.policy {
        out.push_str(&format!("release policy: {}\n", policy.line()));
        policy.trouble.iter().for_each(|why| out.push_str(&format!("WARNING: {}\n", one_line(why))));
    }
    for transfer in &status.transfers {
        out.push_str(&format!("{}\n", moves(transfer)));
    }
    if let Some(bytes) = status.disk_free_bytes {
        out.push_str(&format!("disk: {} MiB left\n", bytes >> 20));
    }
    status.held.iter().for_each(|why| {
        out.push_str(&format!("HELD: {} To confirm: lintas confirm AGENCY WORDS\n", one_line(why)))
    });
    status.unconfirmed.iter().for_each(|why| out.push_str(&format!("UNCONFIRMED: {}\n", one_line(why))));
    status.warnings.iter().for_each(|text| out.push_str(&format!("WARNING: {}\n", one_line(text))));
    if status.gaps > 0 {
        out.push_str(&format!(
            "WARNING: {} packets name an earlier one that was not seen here\n",
            status.gaps
        ));
    }
    out
}

fn validity(status: &Status) -> String {
    let until = time(status.roster_until_ms);
    if status.roster_valid {
        format!("valid until {until}")
    } else {
        format!("NOT VALID NOW (until {until}): get the newest from the region authority, check the clock")
    }
}

fn connection(link: &LinkView) -> String {
    let trouble = if link.trouble.is_empty() {
        String::new()
    } else {
        format!("  last trouble: {}\n", one_line(&link.trouble))
    };
    let since = if link.since_ms == 0 { String::new() } else { format!(" since {}", time(link.since_ms)) };
    if link.connected {
        format!("connected to {}{since}\n{trouble}", one_line(&link.broker))
    } else {
        format!("running, not connected{since}; it keeps trying\n{trouble}")
    }
}
