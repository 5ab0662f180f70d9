//! `lintas audit show`: one event, and the proof of where it stands.

use std::fmt::Write as _;

use clap::Args;

use super::{Auditor, From, agencies, words};
use crate::{
    core::{
        audit::listing::{Shown, find, show},
        text::one_line,
    },
    shell::{
        clock::show as time,
        failure::{Code, Failure},
    },
};

/// Options of `show`.
#[derive(Args)]
pub(super) struct Show {
    /// Index in the sub-log, or event id (32 hex digits), as `lintas audit list` has them.
    event: String,
    #[command(flatten)]
    from: From,
    /// Whose sub-log; needed for an index where there are several.
    #[arg(long, value_name = "AGENCY")]
    agency: Option<String>,
}

/// Finds and shows.
pub(super) fn run(auditor: &Auditor, asked: &Show) -> Result<(), Failure> {
    let place = auditor.place(&asked.from)?;
    let scope = agencies(&place, asked.agency.as_slice())?;
    let anchor = auditor.anchor(&place)?;
    let none = || Failure::new(Code::NotFound, "there is no such event in the sub-logs that are here");
    let text = asked.event.to_lowercase();
    let (agency, index) = if text.len() == 32 {
        let at = |agency: &String| Some((agency.clone(), find(&place.files, &anchor, agency, &text)?));
        scope.iter().find_map(at).ok_or_else(none)?
    } else {
        let index: u64 = text.parse().map_err(|_| {
            Failure::new(Code::Usage, "say which event: its index, or its event id of 32 hex digits")
        })?;
        match scope.as_slice() {
            [agency] => (agency.clone(), index),
            [] => return Err(none()),
            [..] => {
                let message = format!("whose event {index}? say it with --agency: {}", scope.join(", "));
                return Err(Failure::new(Code::Usage, message));
            }
        }
    };
    let shown = show(&place.files, &anchor, &agency, index).ok_or_else(none)?;
    auditor.print(&shown, plain_words)?;
    if shown.included && shown.root_included {
        return Ok(());
    }
    Err(Failure::new(
        Code::AuditDamaged,
        "the proof of this event does not hold, or files of it are missing: lintas audit verify",
    ))
}

fn plain_words(shown: &Shown) -> String {
    let row = &shown.event;
    let mut out = format!("{}\n  {}\n", words::event(row), time(row.time_ms));
    // A string takes whatever is written to it.
    let _ = writeln!(out, "  event id {}", row.event_id);
    if !row.header_digest.is_empty() {
        let _ = writeln!(out, "  header digest of the packet {}", row.header_digest);
    }
    if let Some(facts) = &row.facts {
        let label = serde_json::to_string(facts).unwrap_or_default();
        let _ = writeln!(out, "  what the policies were asked about: {}", one_line(&label));
    }
    let _ = writeln!(out, "  leaf {}\n  commitment {}", shown.leaf, shown.commitment);
    let holds =
        |holds| if holds { "the path leads to its root" } else { "THE PATH DOES NOT LEAD TO ITS ROOT" };
    let _ = writeln!(
        out,
        "  entry {} of {} in {}, root {}: {}",
        row.index,
        shown.size,
        shown.log,
        shown.root,
        holds(shown.included)
    );
    match (shown.epoch, shown.epoch_ms) {
        (Some(epoch), Some(ms)) => {
            let _ = writeln!(
                out,
                "  published in epoch {epoch}, which ended {}; its entry in the root log: {}",
                time(ms),
                holds(shown.root_included)
            );
        }
        (Some(_) | None, _) => out.push_str("  its epoch is not in the root log that is here\n"),
    }
    match shown.witnessed_s {
        Some(seconds) => {
            let _ = writeln!(
                out,
                "  a quorum of witnesses cosigned that root log {}",
                time(seconds.saturating_mul(1_000))
            );
        }
        None => out.push_str("  no quorum of witnesses cosigned the checkpoint that is here\n"),
    }
    shown.findings.iter().for_each(|found| out.push_str(&words::finding(found)));
    out
}
