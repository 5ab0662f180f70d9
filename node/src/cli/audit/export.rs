//! `lintas audit export`: a folder that somebody else can verify: the files of the log, and the events that were asked for.
//!
//! The files are those of the root log and of the sub-logs asked for, whole, since a proof needs the tiles around it; of
//! openings and keys only those of the events that were asked for, the other keys are zeros. What is not there is not
//! proven to be complete: that is what a mirror is for.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use clap::Args;
use lintas_proto::audit::{files::LogFile, tile::WIDTH};
use serde::Serialize;

use super::{Auditor, From, agencies, list::Wanted, shown};
use crate::{
    core::{
        audit::{
            anchor::pair,
            listing::{list, show},
            source::LogFiles as _,
        },
        text::safe_json,
    },
    shell::{
        audit::folder::{EXTRACT, Place},
        failure::{Code, Failure},
        files,
    },
};

/// Options of `export`.
#[derive(Args)]
pub(super) struct Export {
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    wanted: Wanted,
    /// Folder to make; nothing may be there yet.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Most events of one export.
const EVENTS_MAX: usize = 100_000;

#[derive(Serialize)]
struct Exported {
    folder: PathBuf,
    events: usize,
    files: u64,
}

const README: &str = "\
An extract of an audit log of Lintas.

events.jsonl   one event a line, the oldest first: what happened, its leaf, and the path that proves where it stands
log/           the files of the log that the proofs need (docs/AUDIT.md); signatures by the broker and by witnesses

To check the trees, signatures, times and slots, and that the openings that are here are what the leaves commit to:

    lintas audit verify --from log --bootstrap bootstrap.toml

bootstrap.toml must come from the region authority, not from who gave you this folder. Of entries that are not part of this
extract only the place, the kind and the time are here; `verify` counts them as left out. What else the log says of them, and
whether anything was erased, only a mirror shows.
Any tool for C2SP tlog-tiles reads log/ as well.
";

/// Writes.
pub(super) fn run(auditor: &Auditor, asked: &Export) -> Result<(), Failure> {
    let place = auditor.place(&asked.from)?;
    let scope = agencies(&place, &asked.wanted.agencies)?;
    let anchor = auditor.anchor(&place)?;
    let out = crate::cli::absolute(&asked.out)?;
    if out.exists() {
        let message = format!("`{}` is there already; export into a new folder", shown(&out));
        return Err(Failure::new(Code::Usage, message));
    }
    let page = list(&place.files, &anchor, &scope, &asked.wanted.filter()?, (None, true, EVENTS_MAX));
    if page.next.is_some() {
        return Err(Failure::new(
            Code::Usage,
            "that is more than 100,000 events; ask for less, e.g. with --since and --until",
        ));
    }
    if page.events.is_empty() {
        return Err(Failure::new(Code::NotFound, "no such events; nothing was written"));
    }
    files::private_folder(&out).map_err(|error| Failure::file("make", &out, &error))?;
    let mut lines = String::new();
    for row in &page.events {
        let proven = show(&place.files, &anchor, &row.agency, row.index);
        let line = serde_json::to_string(&proven).map_err(Failure::internal)?;
        lines.push_str(&format!("{}\n", safe_json(&line)));
    }
    let write = |name: &str, bytes: &[u8]| {
        let path = out.join(name);
        files::write_new(&path, bytes).map_err(|error| Failure::file("write", &path, &error))
    };
    write("events.jsonl", lines.as_bytes())?;
    write("README.txt", README.as_bytes())?;
    let log = out.join("log");
    files::private_folder(&log).map_err(|error| Failure::file("make", &log, &error))?;
    write(&format!("log/{EXTRACT}"), b"Content of events that were not asked for was left out.\n")?;
    let wanted: BTreeSet<(String, u64)> =
        page.events.iter().map(|row| (row.agency.clone(), row.index)).collect();
    let mut copied = 0u64;
    copy(&place, None, place.files.root(), &out.join("log"), &wanted, &mut copied)?;
    rosters(&place, &out.join("log"), &mut copied)?;
    for agency in wanted.iter().map(|(agency, _)| agency).collect::<BTreeSet<_>>() {
        let to = out.join("log").join(agency);
        copy(&place, Some(agency), &place.files.root().join(agency), &to, &wanted, &mut copied)?;
    }
    let exported = Exported { folder: out, events: page.events.len(), files: copied };
    auditor.print(&exported, |done| {
        format!("{} events and {} files of the log in `{}`\n", done.events, done.files, shown(&done.folder))
    })
}

/// Copies the rosters that the log names, from wherever they are kept.
fn rosters(place: &Place, to: &Path, copied: &mut u64) -> Result<(), Failure> {
    let read = |file| place.files.read(None, file, 0, 128 << 20).ok().flatten();
    let turns = read(LogFile::Rosters).unwrap_or_default();
    for (_, version) in turns.chunks(16).filter_map(pair) {
        let target = to.join(LogFile::Roster(version).to_string());
        let Some(bytes) = read(LogFile::Roster(version)).filter(|_| !target.exists()) else { continue };
        let parent = target.parent().unwrap_or(to);
        files::private_folder(parent).map_err(|error| Failure::file("make", parent, &error))?;
        files::write_new(&target, &bytes).map_err(|error| Failure::file("write", &target, &error))?;
        *copied = copied.saturating_add(1);
    }
    Ok(())
}

/// Copies the files of one log.
fn copy(
    place: &Place,
    owner: Option<&String>,
    from: &Path,
    to: &Path,
    wanted: &BTreeSet<(String, u64)>,
    copied: &mut u64,
) -> Result<(), Failure> {
    let mut folders = vec![from.to_owned()];
    while let Some(folder) = folders.pop() {
        let read = std::fs::read_dir(&folder).map_err(|error| Failure::file("read", &folder, &error))?;
        for entry in read.flatten() {
            let path = entry.path();
            let Some(name) = path.strip_prefix(from).ok().and_then(Path::to_str) else { continue };
            if path.is_dir() {
                // The sub-logs stand within the root log's folder.
                if owner.is_some() || lintas_proto::id::check_code(name).is_err() {
                    folders.push(path);
                }
                continue;
            }
            let Some(file) = LogFile::parse(name) else { continue };
            let mut bytes = files::read(&place.files.path(owner.map(String::as_str), file), 128 << 20)
                .map_err(|error| Failure::file("read", &path, &error))?;
            if let (LogFile::Keys(number), Some(agency)) = (file, owner) {
                for (at, key) in (0u64..).zip(bytes.chunks_exact_mut(32)) {
                    let index = number.saturating_mul(WIDTH).saturating_add(at);
                    if !wanted.contains(&(agency.clone(), index)) {
                        key.fill(0);
                    }
                }
            }
            let target = to.join(name);
            let parent = target.parent().unwrap_or(to);
            files::private_folder(parent).map_err(|error| Failure::file("make", parent, &error))?;
            files::write_new(&target, &bytes).map_err(|error| Failure::file("write", &target, &error))?;
            *copied = copied.saturating_add(1);
        }
    }
    Ok(())
}
