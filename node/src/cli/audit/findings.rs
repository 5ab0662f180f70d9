//! `lintas audit findings`: what this node has found in the broker's log by itself.

use std::path::PathBuf;

use clap::Args;

use super::{Auditor, shown};
use crate::{
    cli::unexpected,
    core::{
        audit::own::Found,
        text::{one_line, safe_json},
    },
    shell::{
        clock::show as time,
        desk::{Reply, Request},
        failure::{Code, Failure},
        files,
    },
};

/// Options of `findings`.
#[derive(Args)]
pub(super) struct Findings {
    /// Write all of them with their exhibits, as one JSON file for the region authority. Nothing is overwritten.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Lists, or writes.
pub(super) fn run(auditor: &Auditor, asked: &Findings) -> Result<(), Failure> {
    let Reply::Findings(mut found) = auditor.node()?.ask(Request::Findings)? else {
        return Err(unexpected());
    };
    if let Some(out) = &asked.out {
        let out = crate::cli::absolute(out)?;
        let text = serde_json::to_string_pretty(&found).map_err(Failure::internal)?;
        files::write_new(&out, safe_json(&text).as_bytes()).map_err(|error| {
            if error.kind() == std::io::ErrorKind::AlreadyExists {
                let message = format!("`{}` is there already; nothing was written", shown(&out));
                return Failure::new(Code::Usage, message);
            }
            Failure::file("write", &out, &error)
        })?;
    } else {
        // Only files carry exhibits.
        found.iter_mut().for_each(|one| one.exhibits.clear());
    }
    auditor.print(&found, |found| plain_words(found, asked.out.as_ref()))
}

fn plain_words(found: &Vec<Found>, out: Option<&PathBuf>) -> String {
    let mut text = String::new();
    for one in found {
        let worth = if one.is_evidence {
            "EVIDENCE: its exhibits convince whoever has the roster; give the file of --out to the region authority"
        } else {
            "accusation: this node's word against the broker's; ask the broker's operator"
        };
        text.push_str(&format!(
            "{}  {}\n  {}\n  worth: {worth}\n",
            time(one.time_ms),
            one_line(&one.kind),
            one_line(&one.text)
        ));
    }
    match (found.len(), out) {
        (0, _) => text.push_str("this node has found nothing that the broker's log should not show\n"),
        (n, Some(out)) => text.push_str(&format!("{n} findings with their exhibits in `{}`\n", shown(out))),
        (n, None) => text.push_str(&format!("{n} findings\n")),
    }
    text
}
