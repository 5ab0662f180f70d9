//! `lintas audit erase`: orders the broker to forget the content of events.

use clap::Args;
use serde::Serialize;

use super::Auditor;
use crate::{
    cli::unexpected,
    shell::{
        desk::{Reply, Request},
        failure::{Code, Failure},
        trust,
    },
};

const REACH: &str = "\
It reaches the openings that the broker keeps, and mirrors that are updated after it. It does not reach: receipts that nodes
keep, exports, backups, and copies that others have made. Leaves and proofs stay; the erasure is itself an event.";

/// Options of `erase`.
#[derive(Args)]
#[command(after_help = REACH)]
pub(super) struct Erase {
    /// Entries of this agency's sub-log, as `lintas audit list` has them.
    #[arg(required = true)]
    indices: Vec<u64>,
    /// The legal ground, e.g. a law or an order of a court. It goes to the broker in clear.
    #[arg(long)]
    ground: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

#[derive(Serialize)]
struct Erased {
    log: String,
    entries: Vec<u64>,
    /// Index of the first ERASED event.
    event: u64,
}

/// Asks, orders, and says where it is logged.
pub(super) fn run(auditor: &Auditor, asked: Erase) -> Result<(), Failure> {
    let Erase { mut indices, ground, yes } = asked;
    indices.sort_unstable();
    indices.dedup();
    if indices.len() > lintas_proto::limits::ERASURE_INDICES_MAX {
        return Err(Failure::new(Code::Usage, "one order names at most 4,096 entries; give several"));
    }
    if ground.trim().is_empty() || ground.len() > lintas_proto::limits::SENTENCE_BYTES_MAX {
        return Err(Failure::new(Code::Usage, "the ground needs 1 to 384 bytes: name the law or the order"));
    }
    let context = auditor.node()?;
    context.folder.check()?;
    let directory = trust::look_only(&context.folder)?;
    let Reply::Status(status) = context.ask(Request::Status)? else { return Err(unexpected()) };
    let broker = directory.brokers().first();
    let broker = broker.ok_or_else(|| Failure::new(Code::NotFound, "the directory names no broker"))?;
    let origin = broker.sub_log_origin(&status.agency);
    let question = format!(
        "{} entries of {origin} are to be forgotten for good: nobody can open them any more, an auditor neither.\n{REACH}\n",
        indices.len()
    );
    context.confirm(yes, &question)?;
    let request = Request::Erase { origin: origin.clone(), indices: indices.clone(), ground };
    let Reply::Ordered(ordered) = context.ask(request)? else { return Err(unexpected()) };
    let erased = Erased { log: origin, entries: indices, event: ordered.index };
    auditor.print(&erased, |erased| {
        format!(
            "the broker has it, and logs it as entry {} of {}; it overwrites the openings within an hour\n\
             your own mirror follows with the next: lintas audit mirror\n",
            erased.event, erased.log
        )
    })
}
