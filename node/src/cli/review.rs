//! `lintas review`: a person looks at what waits before it is sent.

use clap::Args;

use super::{
    Context,
    render::{count, outbox_entry},
    show::{self, restrictions},
    unexpected,
};
use crate::{
    core::{
        text::one_line,
        view::{AwaitingReview, PacketView, Reviewed, Standing},
    },
    shell::{
        clock::show as time,
        desk::{Reply, Request, Verdict},
        failure::{Code, Failure},
    },
};

const EXAMPLE: &str = "\
Examples:
  lintas review                       what waits, and until when it can be released
  lintas review 0190a5b2-7c00-7abc-8def-0123456789ab
  lintas review 0190a5b2-7c00-7abc-8def-0123456789ab --release --by \"Pol. Col. Somchai, Release Office\"
  lintas review 0190a5b2-7c00-7abc-8def-0123456789ab --refuse --by \"Pol. Col. Somchai, Release Office\" --note \"names a source\"

Whoever reviews should be another person than whoever sent it. Lintas records the name that is given and cannot prove whose
hand typed it: who may log in at this machine is for your agency to rule. What is released is checked against the directory and
the policies of today, sealed again, and says in its signed core that it was reviewed.
Exit codes: 0 done; 2 the question was answered with no, or there was nobody to ask; 6 it does not wait for review, or a
policy denies it now; 7 no such packet; 13 the directory is out of date.";

/// Options of `review`.
#[derive(Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Review {
    /// Packet id, or at least 8 digits of the header digest; without it, all that wait are listed.
    id: Option<String>,
    /// Release it: it is sent.
    #[arg(long, requires_all = ["id", "by"], conflicts_with = "refuse")]
    release: bool,
    /// Refuse it: it is not sent, now or later.
    #[arg(long, requires_all = ["id", "by"])]
    refuse: bool,
    /// Who has reviewed it.
    #[arg(long, value_name = "NAME, OFFICE")]
    by: Option<String>,
    /// Why, for your own records; nobody else is told.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// You have read it and its restrictions: do not ask.
    #[arg(long)]
    yes: bool,
}

/// Lists, shows or decides.
pub(super) fn run(context: &Context, review: Review) -> Result<(), Failure> {
    let Review { id, release, refuse, by, note, yes } = review;
    let Some(id) = id else {
        let Reply::Reviews(waiting) = context.ask(Request::Reviews)? else { return Err(unexpected()) };
        return context.print(&waiting, |waiting| list(waiting));
    };
    if !release && !refuse {
        if by.is_some() || note.is_some() {
            return Err(Failure::new(Code::Usage, "say what you have decided: --release or --refuse"));
        }
        return context.print(&shown(context, &id)?, plain_words);
    }
    if !yes {
        let packet = shown(context, &id)?;
        let what =
            if release { "Release it, to be sent to" } else { "Refuse it, so that it is never sent to" };
        let question = format!("{}\n{what} {}?", plain_words(&packet), packet.to.join(", "));
        context.confirm(false, &question)?;
    }
    let verdict = Verdict { released: release, by: by.unwrap_or_default(), note: note.unwrap_or_default() };
    let Reply::Reviewed(reviewed) = context.ask(Request::Review { id, verdict })? else {
        return Err(unexpected());
    };
    context.print(reviewed.as_ref(), decided)
}

/// A packet that waits.
fn shown(context: &Context, id: &str) -> Result<PacketView, Failure> {
    let Reply::Packet(packet) = context.ask(Request::Show { id: id.to_owned() })? else {
        return Err(unexpected());
    };
    let standing = packet.outbox.as_ref().map(|entry| &entry.standing);
    if matches!(standing, Some(Standing::AwaitingReview { .. })) {
        return Ok(*packet);
    }
    let message =
        format!("packet {} does not wait for review; `lintas review` lists those that do", packet.packet_id);
    Err(Failure::new(Code::Draft, message))
}

/// The restrictions first, then all of it.
fn plain_words(packet: &PacketView) -> String {
    format!("{}\n{}", restrictions(&packet.restrictions).trim_start(), show::plain_words(packet))
}

fn list(waiting: &[AwaitingReview]) -> String {
    let mut out = format!("{} to be reviewed before it is sent\n", count(waiting.len(), "packet"));
    for one in waiting {
        out.push_str(&outbox_entry(&one.packet));
        let to: Vec<&str> = one.packet.recipients.iter().map(|arrival| arrival.unit.as_str()).collect();
        out.push_str(&format!("  to {}\n", to.join(", ")));
        if !one.demanded_by.is_empty() {
            out.push_str(&format!("  the review is demanded by {}\n", one_line(&one.demanded_by.join(", "))));
        }
        one.restrictions.iter().for_each(|text| out.push_str(&format!("  {}\n", one_line(text))));
    }
    out
}

fn decided(reviewed: &Reviewed) -> String {
    let Reviewed { packet_id, by, replaced_by, to, deliver_by_ms, daemon, .. } = reviewed;
    let Some(next) = replaced_by else {
        return format!("Refused by {}: packet {packet_id} is not sent.\n", one_line(by));
    };
    let start = if *daemon { "" } else { "  It goes out when `lintas run` is started.\n" };
    format!(
        "Released by {}: sealed again as packet {next}, will be sent\n  to {}\n  will not be delivered later than {}\n{start}",
        one_line(by),
        to.join(", "),
        time(*deliver_by_ms)
    )
}
