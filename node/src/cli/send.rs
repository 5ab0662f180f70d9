//! `lintas send`: seal a draft and keep it.

use std::{path::PathBuf, thread::sleep, time::Duration};

use clap::Args;
use serde::Serialize;

use super::{
    Context, absolute,
    progress::with_bar,
    render::{outbox_entry, stands},
    unexpected,
};
use crate::{
    core::{
        draft::DRAFT_BYTES_MAX,
        text::one_line,
        view::{Kept, OutboxEntry, Standing},
    },
    shell::{
        clock::show as time,
        control::{self, Watcher},
        desk::{How, Reply, Request},
        failure::{Code, Failure, why},
        files,
    },
};

/// How often `--wait` looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

const EXAMPLE: &str = "\
Examples:
  lintas send alert.json --attach photo.jpg --wait 30
  lintas send alert.json --to KH/KH-AHT --to group:COMMIT
Exit codes: 0 kept (with --wait: accepted by the broker); 6 the draft or a recipient is wrong, nothing was sealed;
8 no answer yet, or it waits for review; it is kept; 9 the broker refused it, or released it to some only; 13 the directory is out of date or not attested, nothing was sealed.";

/// Options of `send`.
#[derive(Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Send {
    /// The draft, a JSON file as tests/case/alert.json.
    draft: PathBuf,
    /// A file to attach, at most 4 GiB; as often as there are files, up to 64.
    #[arg(long, value_name = "FILE")]
    attach: Vec<PathBuf>,
    /// One more recipient: AGENCY/UNIT, AGENCY for its single point of contact, or group:GROUP for those of all members
    /// of a group.
    #[arg(long, value_name = "AGENCY/UNIT")]
    to: Vec<String>,
    /// The unit of this agency that sends; as the draft says if left out.
    #[arg(long, value_name = "UNIT")]
    from: Option<String>,
    /// Seal although the directory is known to be out of date: keys and members in it may have been withdrawn. The
    /// outbox shows it.
    #[arg(long)]
    despite_stale: bool,
    /// Send to a group without those of its members whom no officer has confirmed.
    #[arg(long)]
    without_unconfirmed: bool,
    /// Send without those to whom the regional baseline or this agency's own policy does not release it, and say whom.
    /// Without this, one of them stops the whole.
    #[arg(long)]
    without_denied: bool,
    /// A person of this agency, not the sender, has looked at it as the label (H3) or the policy demands: it is sent at
    /// once, and the name is recorded. Without this it waits for `lintas review`.
    #[arg(long, value_name = "NAME, OFFICE")]
    reviewed: Option<String>,
    /// Wait at most so many seconds for the broker's answer. Without it the command ends as soon as the packet is kept.
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u32>,
}

#[derive(Serialize)]
struct Sent {
    #[serde(flatten)]
    kept: Kept,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<OutboxEntry>,
}

/// Seals, keeps, and says so.
pub(super) fn run(context: &Context, send: Send) -> Result<(), Failure> {
    let bytes = files::read(&send.draft, DRAFT_BYTES_MAX as u64).map_err(|error| {
        let message = format!("cannot read the draft `{}`: {}", send.draft.display(), why(&error));
        Failure::new(Code::Draft, message)
    })?;
    let draft = String::from_utf8(bytes)
        .map_err(|_| Failure::new(Code::Draft, "the draft is not text; it must be a JSON file"))?;
    let attach = send.attach.iter().map(|path| absolute(path)).collect::<Result<_, _>>()?;
    let how = How {
        despite_stale: send.despite_stale,
        without_unconfirmed: send.without_unconfirmed,
        without_denied: send.without_denied,
        reviewed: send.reviewed,
    };
    let request = Request::Send { draft, attach, to: send.to, from: send.from, how };
    let asked = with_bar("sealing", |watch| context.ask_watching(request, watch));
    let Reply::Kept(kept) = asked? else {
        return Err(unexpected());
    };
    let id = kept.packet_id.clone();
    if !kept.review_by.is_empty() {
        context.print(&Sent { kept, answer: None }, plain_words)?;
        let message = format!(
            "packet {id} is kept, and is not sent before a person has reviewed it: lintas review {id}"
        );
        return send.wait.map_or(Ok(()), |_| Err(Failure::new(Code::NoAnswer, message)));
    }
    let waited = |seconds| with_bar("uploading", |watch| wait(context, &id, seconds, watch));
    let answer = send.wait.and_then(waited);
    let standing = answer.as_ref().map(|entry| entry.standing.clone());
    context.print(&Sent { kept, answer }, plain_words)?;
    match (send.wait, standing) {
        (None, _) | (_, Some(Standing::Accepted { in_part: false, .. })) => Ok(()),
        (_, Some(Standing::Accepted { in_part: true, .. })) => {
            let message = format!("packet {id} was accepted in part: not every recipient gets it; see above");
            Err(Failure::new(Code::Refused, message))
        }
        (_, Some(Standing::Refused { .. })) => {
            let message = format!("packet {id} was refused; see above");
            Err(Failure::new(Code::Refused, message))
        }
        (
            Some(seconds),
            Some(
                Standing::Waiting { .. }
                | Standing::AwaitingReview { .. }
                | Standing::ReviewExpired { .. }
                | Standing::ReleasedInReview { .. }
                | Standing::RefusedInReview { .. },
            )
            | None,
        ) => {
            let message = format!(
                "no answer of the broker within {seconds} s; packet {id} is kept and will be sent, \
                 look with `lintas outbox`, and with `lintas status` whether `lintas run` is connected"
            );
            Err(Failure::new(Code::NoAnswer, message))
        }
    }
}

/// Looks until there is an answer or the time is over. Only a daemon can get one.
fn wait(context: &Context, id: &str, seconds: u32, watch: Watcher<'_>) -> Option<OutboxEntry> {
    let looks = u64::from(seconds).saturating_mul(1_000).div_ceil(LOOK_EVERY.as_millis().try_into().ok()?);
    let mut id = id.to_owned();
    for _ in 0..looks.max(1) {
        let request = Request::Standing { id: id.clone() };
        if let Some(Ok(Reply::Standing(entry))) = control::ask(&context.folder, &request) {
            match (&entry.standing, &entry.replaced_by) {
                (Standing::Waiting { .. }, _) => {}
                // The answer is the one to the packet that took its place.
                (Standing::Refused { .. }, Some(next)) => id.clone_from(next),
                (
                    Standing::Refused { .. }
                    | Standing::Accepted { .. }
                    // Sealed again, and now a policy wants it reviewed.
                    | Standing::AwaitingReview { .. }
                    | Standing::ReviewExpired { .. }
                    | Standing::ReleasedInReview { .. }
                    | Standing::RefusedInReview { .. },
                    _,
                ) => return Some(*entry),
            }
            if let Some(transfer) = &entry.transfer {
                watch(transfer.done, transfer.total);
            }
        }
        sleep(LOOK_EVERY);
    }
    None
}

fn plain_words(sent: &Sent) -> String {
    let Sent { kept, answer } = sent;
    let goes =
        if kept.review_by.is_empty() { "Kept, will be sent" } else { "Kept, NOT sent before it is reviewed" };
    let mut out = format!(
        "{goes}: packet {}\n  to {}\n  will not be delivered later than {}\n",
        kept.packet_id,
        kept.to.join(", "),
        time(kept.deliver_by_ms)
    );
    if !kept.left_out.is_empty() {
        let left_out = kept.left_out.join(", ");
        out.push_str(&format!(
            "  NOT to {left_out}: no officer has confirmed them (lintas confirm AGENCY)\n"
        ));
    }
    kept.warnings.iter().for_each(|warning| out.push_str(&format!("  WARNING: {}\n", one_line(warning))));
    kept.denied.iter().for_each(|why| out.push_str(&format!("  LEFT OUT: {}\n", one_line(why))));
    if !kept.review_by.is_empty() {
        out.push_str(&format!(
            "  a person other than the sender must look at it first (policy {}): lintas review {}\n",
            one_line(&kept.review_by.join(", ")),
            kept.packet_id
        ));
        return out;
    }
    match answer {
        Some(entry) if matches!(entry.standing, Standing::Accepted { in_part: false, .. }) => {
            out.push_str(&format!("  {}\n", stands(&entry.standing)));
        }
        Some(entry) => out.push_str(&outbox_entry(entry)),
        None if !kept.daemon => out.push_str("  It goes out when `lintas run` is started.\n"),
        None => {}
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_told_in_words_and_in_json() {
        let kept: Kept = serde_json::from_value(serde_json::json!({
            "packet_id": "p", "digest": "d", "to": ["KH/KH-AHT"], "deliver_by_ms": 1, "daemon": true,
            "warnings": ["the clock\nwas set"],
        }))
        .unwrap();
        let sent = Sent { kept, answer: None };
        assert_eq!(serde_json::to_value(&sent).unwrap()["warnings"][0], "the clock\nwas set");
        let told = plain_words(&sent);
        assert!(
            told.lines().any(|line| line.starts_with("  WARNING: the clock") && line.contains("was set")),
            "{told}"
        );
    }
}
