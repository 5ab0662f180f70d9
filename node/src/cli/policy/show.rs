//! `lintas policy show`: the text of a version.

use std::path::PathBuf;

use clap::Args;
use lintas_proto::{id::hex, schema::PolicyBundle};
use serde::Serialize;

use super::{
    Officer,
    files::{CASES, POLICY},
    shown,
};
use crate::{
    cli::absolute,
    core::text::one_line,
    shell::{
        clock::show as time,
        failure::{Code, Failure},
        files::write_new,
        policies::files::{Version, said, versions},
    },
};

/// Options of `show`.
#[derive(Args)]
pub(super) struct Show {
    /// Which version; without it the newest.
    version: Option<u64>,
    /// Its cases instead of its policies.
    #[arg(long)]
    cases: bool,
    /// Write policy.cedar and cases.toml into this folder instead, to go on from there; nothing is overwritten.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Serialize)]
struct Shown {
    agency: String,
    version: u64,
    hash: String,
    not_before_ms: u64,
    note: String,
    certificate: u64,
    policies: String,
    cases: String,
}

/// Shows, or writes.
pub(super) fn run(officer: &Officer, show: &Show) -> Result<(), Failure> {
    let folder = officer.home()?;
    folder.check()?;
    let (version, said) = find(officer, show.version)?;
    if let Some(out) = &show.out {
        let out = absolute(out)?;
        std::fs::create_dir_all(&out).map_err(|error| Failure::file("make", &out, &error))?;
        for (name, text) in [(POLICY, &said.policies), (CASES, &said.cases)] {
            let path = out.join(name);
            write_new(&path, text.as_bytes()).map_err(|error| Failure::file("write", &path, &error))?;
        }
        return officer.print(&of(version, said), |_| format!("written into {}\n", shown(&out)));
    }
    let cases = show.cases;
    officer.print(&of(version, said), |shown| {
        // A line each in the way of a comment, so that the whole is still a policy, or cases.
        let (mark, text) = if cases { ("#", &shown.cases) } else { ("//", &shown.policies) };
        let note =
            if shown.note.is_empty() { String::new() } else { format!("{mark} {}\n", one_line(&shown.note)) };
        let text: String =
            text.lines().map(|line| format!("{}\n", one_line(&line.replace('\t', "    ")))).collect();
        format!(
            "{mark} version {} of {}, in force from {}, hash {}\n{note}{text}",
            shown.version,
            shown.agency,
            time(shown.not_before_ms),
            shown.hash
        )
    })
}

/// A version of the folder, the newest without a number.
pub(super) fn find(officer: &Officer, number: Option<u64>) -> Result<(Version, PolicyBundle), Failure> {
    let folder = officer.home()?;
    let versions = versions(folder)?;
    let found = match number {
        Some(number) => versions.iter().find(|one| one.version == number),
        None => versions.last(),
    };
    let version = found.ok_or_else(|| {
        let there = match (versions.first(), versions.last()) {
            (Some(first), Some(last)) => format!("there are {} to {}", first.version, last.version),
            (None, _) | (_, None) => {
                "this node has none; publish one with `lintas policy publish`".to_owned()
            }
        };
        let message = number.map_or_else(
            || format!("there is no policy: {there}"),
            |number| format!("there is no version {number} of this agency's policy: {there}"),
        );
        Failure::new(Code::NotFound, message)
    })?;
    Ok((version.clone(), said(folder, version)?))
}

fn of(version: Version, said: PolicyBundle) -> Shown {
    Shown {
        agency: version.owner,
        version: version.version,
        hash: hex(&version.hash),
        not_before_ms: version.not_before_ms,
        note: version.note,
        certificate: version.delegation,
        policies: said.policies,
        cases: said.cases,
    }
}
