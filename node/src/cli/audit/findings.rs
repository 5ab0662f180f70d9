//! `lintas audit findings`: what this node has found in the broker's log by itself.

use std::{collections::BTreeMap, path::PathBuf};

use bytes::Bytes;
use clap::Args;
use lintas_config::directory::PastRosters;
use lintas_proto::id::{hex, unhex};

use super::{Auditor, shown};
use crate::{
    cli::unexpected,
    core::{
        audit::own::{Checked, FindingsFile, Found},
        log::{evidence_file::roster_of, judge::judge},
        text::{one_line, safe_json},
    },
    shell::{
        audit::folder::{Believed, believe},
        clock::show as time,
        desk::{Reply, Request, evidence::seen_rosters},
        failure::{Code, Failure},
        files,
    },
};

/// Longest file of findings, bytes.
const FILE_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// Options of `findings`.
#[derive(Args)]
pub(super) struct Findings {
    /// Write all of them with their exhibits, as one JSON file for the region authority. Nothing is overwritten.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Check a file that --out has written; needs no node and no connection, if --directory or --bootstrap is given.
    #[arg(long, value_name = "FILE", conflicts_with = "out")]
    check: Option<PathBuf>,
    /// Directory (directory.bin) to check against, instead of this node's.
    #[arg(long, value_name = "FILE", requires = "check")]
    directory: Option<PathBuf>,
    /// Bootstrap file of the region: vouches for --directory; alone, the rosters of the file are checked against it.
    #[arg(long, value_name = "FILE", requires = "check")]
    bootstrap: Option<PathBuf>,
}

/// Lists, or writes, or checks what somebody has written.
pub(super) fn run(auditor: &Auditor, asked: &Findings) -> Result<(), Failure> {
    if let Some(file) = &asked.check {
        return check(auditor, asked, &crate::cli::absolute(file)?);
    }
    let node = auditor.node()?;
    let Reply::Findings(mut found) = node.ask(Request::Findings)? else {
        return Err(unexpected());
    };
    if let Some(out) = &asked.out {
        let out = crate::cli::absolute(out)?;
        let rosters = seen_rosters(&node.folder)?.values().map(|roster| hex(roster)).collect();
        let file = FindingsFile { format: 1, rosters, findings: found };
        let text = serde_json::to_string_pretty(&file).map_err(Failure::internal)?;
        found = file.findings;
        files::write_new(&out, safe_json(&text).as_bytes()).map_err(|error| {
            if error.kind() == std::io::ErrorKind::AlreadyExists {
                let message = format!("`{}` is there already; nothing was written", shown(&out));
                return Failure::new(Code::Usage, message);
            }
            Failure::file("write", &out, &error)
        })?;
    }
    // Only files carry exhibits.
    found.iter_mut().for_each(|one| one.exhibits.clear());
    auditor.print(&found, |found| plain_words(found, asked.out.as_ref()))
}

/// Judges each finding of a file by what the reader believes, not by what the file says of it.
fn check(auditor: &Auditor, asked: &Findings, path: &std::path::Path) -> Result<(), Failure> {
    let given = |path: &Option<PathBuf>| path.as_deref().map(crate::cli::absolute).transpose();
    let (directory, bootstrap) = (given(&asked.directory)?, given(&asked.bootstrap)?);
    let (trust, on_your_word) = believe(directory.as_deref(), bootstrap.as_deref(), auditor.data.as_ref())?;
    let bad = |error: &dyn std::fmt::Display| {
        Failure::new(Code::Evidence, format_args!("`{}` is no file of findings: {error}", shown(path)))
    };
    let bytes = files::read(path, FILE_BYTES_MAX).map_err(|error| Failure::file("read", path, &error))?;
    let file: FindingsFile = serde_json::from_slice(&bytes).map_err(|error| bad(&error))?;
    if file.format != 1 {
        return Err(bad(&"it is of another version"));
    }
    let mut believed = match &trust {
        Believed::Directory(directory) => PastRosters::of(directory),
        Believed::Bootstrap(bootstrap) => PastRosters::from_bootstrap(bootstrap),
    }
    .map_err(|error| Failure::new(Code::NotSetUp, error))?;
    let mut offered = BTreeMap::new();
    for roster in &file.rosters {
        let bytes = Bytes::from(unhex(roster).map_err(|error| bad(&error))?);
        offered.insert(roster_of(&bytes).map_err(|error| bad(&error))?.version, bytes);
    }
    // Those that are not believed prove nothing, and that is all.
    let refused = believed.believe(&offered);
    let checked: Vec<Checked> = file.findings.into_iter().map(|one| checked(&believed, one)).collect();
    let failed = checked.iter().filter(|one| one.is_evidence && one.proves.is_none()).count();
    auditor.print(&checked, |checked| {
        let mut text = String::new();
        if on_your_word {
            text.push_str("the directory was taken on your word: no bootstrap file vouches for it\n");
        }
        for (version, error) in &refused {
            text.push_str(&format!("roster version {version} of the file is not believed: {error}\n"));
        }
        text + &checked_words(checked)
    })?;
    if failed == 0 {
        return Ok(());
    }
    Err(Failure::new(
        Code::Evidence,
        format_args!("{failed} findings say that they are evidence, and are not"),
    ))
}

fn checked(believed: &PastRosters, found: Found) -> Checked {
    let exhibits: Result<Vec<Bytes>, _> =
        found.exhibits.iter().map(|exhibit| unhex(exhibit).map(Bytes::from)).collect();
    let judged = match exhibits {
        Ok(exhibits) => judge(believed, (&found.kind, &exhibits), time).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let (proves, why_not) = match judged {
        Ok(proves) => (Some(proves), None),
        Err(why) => (None, Some(why)),
    };
    let Found { kind, text, is_evidence, time_ms, .. } = found;
    Checked { kind, time_ms, text, is_evidence, proves, why_not }
}

fn checked_words(checked: &[Checked]) -> String {
    let mut text = String::new();
    for one in checked {
        text.push_str(&format!("{}  {}\n", time(one.time_ms), one_line(&one.kind)));
        match (&one.proves, &one.why_not) {
            (Some(proves), _) => text.push_str(&format!("  PROVEN: {}\n", one_line(proves))),
            (None, why) => text.push_str(&format!(
                "  NOT PROVEN: {}\n  the node's words: {}\n",
                one_line(why.as_deref().unwrap_or_default()),
                one_line(&one.text)
            )),
        }
    }
    let proven = checked.iter().filter(|one| one.proves.is_some()).count();
    text.push_str(&format!("{} findings, {proven} of them proven\n", checked.len()));
    text
}

fn plain_words(found: &Vec<Found>, out: Option<&PathBuf>) -> String {
    let mut text = String::new();
    for one in found {
        let worth = if one.is_evidence {
            "EVIDENCE: its exhibits convince whoever has the roster (`--check FILE`); give the file of --out to the region \
             authority"
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
