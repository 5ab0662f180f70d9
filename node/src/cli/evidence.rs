//! `lintas evidence`: what became of one packet, as it can be proven; and files of it, verified anywhere.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::{Args, Subcommand};
use lintas_config::{Bootstrap, Directory, directory::DirectoryError};
use lintas_proto::limits;

use super::{
    Context, absolute, print,
    render::{kind, words},
    unexpected,
};
use crate::{
    core::{
        log::evidence_file::{self, Anchor, FILE_BYTES_MAX, open_bundle},
        text::one_line,
        view::{Acknowledged, EvidenceView, Happened, LogPlace},
    },
    shell::{
        clock::show as time,
        desk::{Reply, Request},
        failure::{Code, Failure},
        files,
    },
};

/// Options of `evidence`.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Show {
    /// Packet id, or at least 8 digits of the header digest.
    #[arg(required = true)]
    id: Option<String>,
    /// Write one file that proves this on any machine; the file must not be there yet.
    ///
    /// It shows whoever reads it who sent what kind of packet to whom and when, and its clear label; never what it says.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(subcommand)]
    verify: Option<Verify>,
}

/// What can be done with a file.
#[derive(Subcommand)]
pub(super) enum Verify {
    /// Check a file that `lintas evidence --out` has written; needs no node and no connection.
    Verify {
        /// What `lintas evidence ID --out FILE` wrote.
        file: PathBuf,
        /// A directory that you have by a way you trust: directory.bin.
        #[arg(
            long,
            value_name = "FILE",
            conflicts_with = "bootstrap",
            required_unless_present = "bootstrap"
        )]
        directory: Option<PathBuf>,
        /// The bootstrap file of the region, whose words you have compared.
        #[arg(long, value_name = "FILE")]
        bootstrap: Option<PathBuf>,
    },
}

impl Show {
    /// What needs no data folder.
    pub(super) fn verification(&self) -> Option<&Verify> {
        self.verify.as_ref()
    }
}

/// Shows what can be proven of a packet; writes it.
pub(super) fn run(context: &Context, show: Show) -> Result<(), Failure> {
    let out = show.out.as_deref().map(absolute).transpose()?;
    if out.is_some() && !context.json {
        eprintln_reveals();
    }
    let id = show.id.unwrap_or_default();
    let Reply::Evidence(reply) = context.ask(Request::Evidence { id, out })? else {
        return Err(unexpected());
    };
    context.print(&*reply, plain_words)
}

/// Before it is written.
fn eprintln_reveals() {
    use std::io::Write as _;
    let _ = writeln!(
        std::io::stderr(),
        "the file shows whoever gets it: who sent what kind of packet to whom, when, and its clear label. It holds neither \
         the packet's content nor any secret key"
    );
}

/// Verifies a file, from a directory or a bootstrap file alone.
pub(super) fn verify(verify: &Verify, json: bool) -> Result<(), Failure> {
    let Verify::Verify { file, directory, bootstrap } = verify;
    let bytes = read(file, FILE_BYTES_MAX)?;
    let view = match (directory, bootstrap) {
        (Some(path), _) => {
            let directory = open(&read(path, limits::DIRECTORY_BYTES_MAX)?).map_err(|error| {
                Failure::new(Code::NotSetUp, format_args!("`{}`: {error}", path.display()))
            })?;
            evidence_file::verify(&bytes, &Anchor::Directory(&directory))
        }
        (None, path) => {
            let text = read(path.as_deref().unwrap_or(Path::new("bootstrap.toml")), 64 * 1024)?;
            let bootstrap = Bootstrap::parse(&String::from_utf8_lossy(&text))
                .map_err(|error| Failure::new(Code::NotSetUp, error))?;
            evidence_file::verify(&bytes, &Anchor::Bootstrap(&bootstrap))
        }
    };
    let view = view.map_err(|error| Failure::new(Code::Evidence, error))?;
    print(json, &view, plain_words)
}

/// The reader vouches for it.
fn open(bytes: &Bytes) -> Result<Directory, DirectoryError> {
    open_bundle(bytes)
}

fn read(path: &Path, max: usize) -> Result<Bytes, Failure> {
    files::read(path, max as u64).map(Bytes::from).map_err(|error| Failure::file("read", path, &error))
}

fn plain_words(view: &EvidenceView) -> String {
    let mut out = format!(
        "{} {}\n  region {}, {} sent it, sealed {}\n  as the log of {} shows it ({})\n",
        kind(&view.kind),
        view.packet_id,
        view.region,
        view.from,
        time(view.created_ms),
        view.of,
        view.side,
    );
    out.push_str("\nwhat the broker did, by its signed receipt:\n");
    view.events.iter().for_each(|event| out.push_str(&happened(event, &view.log)));
    if !view.acknowledgements.is_empty() {
        out.push_str("\nwhat others signed:\n");
        view.acknowledgements.iter().for_each(|said| out.push_str(&acknowledged(said)));
    }
    out.push_str(&format!("\nproven: {}\n", words(&view.grade)));
    match &view.place {
        Some(place) => out.push_str(&stands(place)),
        None => out.push_str(&format!(
            "  the broker promised on {} to have it in its log by {}\n",
            time(view.receipt_ms),
            time(view.deadline_ms)
        )),
    }
    view.missing.iter().for_each(|missing| out.push_str(&format!("  missing: {}\n", one_line(missing))));
    view.written.iter().for_each(|file| out.push_str(&format!("\nwritten: {}\n", one_line(file))));
    out
}

fn happened(event: &Happened, log: &str) -> String {
    let Happened { event, recipient, time_ms, index, decided_by, why } = event;
    let to = recipient.as_ref().map(|unit| format!(" {}", one_line(unit))).unwrap_or_default();
    let way = match event.as_str() {
        "RELEASED" => "released to",
        "RECEIVED" => "received for",
        "DENIED" => "NOT released, denied to",
        "NOT_ACCEPTED" => "NOT accepted by",
        "WITHHELD" => "WITHHELD from",
        "SUBMITTED" => "submitted",
        other => {
            return format!(
                "  {}{to} {}, entry {index} of {}\n",
                words(other),
                time(*time_ms),
                one_line(log)
            );
        }
    };
    let by = decided_by.as_ref().map(|by| format!(", decided by {}", one_line(by))).unwrap_or_default();
    let why = why.as_ref().map(|why| format!("    `{}`\n", one_line(why))).unwrap_or_default();
    format!("  {way}{to} {}{by}, entry {index} of {}\n{why}", time(*time_ms), one_line(log))
}

fn acknowledged(said: &Acknowledged) -> String {
    let Acknowledged { by, recipient, accepted, why, text, time_ms, leaf } = said;
    let of = recipient.as_ref().filter(|unit| *unit != by).map(|unit| format!(" of {}", one_line(unit)));
    let of = of.unwrap_or_default();
    if *accepted {
        return format!("  {} has it, {}; {leaf}\n", one_line(by), time(*time_ms));
    }
    let text = if text.is_empty() { String::new() } else { format!(" (`{}`)", one_line(text)) };
    format!(
        "  {} says{of} that it did NOT arrive, {}: {}{text}; {leaf}\n",
        one_line(by),
        time(*time_ms),
        one_line(why)
    )
}

fn stands(place: &LogPlace) -> String {
    let LogPlace {
        origin, epoch, epoch_ms, cosigned, witnesses, needed, witnessed_ms, roster_version, ..
    } = place;
    let when = witnessed_ms.map(|ms| format!(", at {}", time(ms))).unwrap_or_default();
    let few = if (1..4).contains(witnesses) { "; so few witnesses tolerate no false one" } else { "" };
    format!(
        "  epoch {epoch} of {}, which ended {}\n  cosigned by {cosigned} of {witnesses} witnesses of roster version {roster_version}, {needed} are \
         needed{when}{few}\n",
        one_line(origin),
        time(*epoch_ms)
    )
}
