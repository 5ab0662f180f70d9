//! `lintas audit mirror`: fetches the log through the running node.

use std::{thread::sleep, time::Duration};

use bytes::Bytes;
use clap::Args;
use lintas_proto::{audit::files::LogFile, schema::Role};

use super::{Auditor, bar, words};
use crate::{
    cli::{Context, unexpected},
    core::audit::finding::Severity,
    shell::{
        audit::{
            folder::LogFolder,
            mirror::{Mirror as Mirroring, Mirrored, Source},
        },
        clock,
        desk::{Reply, Request, piece_bytes},
        failure::{Code, Failure},
        trust,
    },
};

/// Between two questions to a node that has no connection.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Options of `mirror`.
#[derive(Args)]
pub(super) struct Mirror {
    /// Sub-log of this agency; as often as there are agencies. Without it: this agency's, and all that the roster lets it
    /// audit.
    #[arg(long = "agency", value_name = "AGENCY")]
    agencies: Vec<String>,
    /// Name of the log, if not the present one of the region's first broker.
    #[arg(long, value_name = "NAME")]
    log: Option<String>,
    /// How long to wait for the running node to have its connection back, each time that it is gone.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    wait: u32,
}

struct ThroughNode<'a> {
    context: &'a Context,
    /// For each piece. It has a name and an offset, so asking for it again changes nothing.
    wait: Duration,
}

impl Source for ThroughNode<'_> {
    fn get(&mut self, origin: &str, file: LogFile, offset: u64) -> Result<Option<(u64, Bytes)>, Failure> {
        let began = clock::moment();
        let piece = loop {
            let request = Request::LogPiece { origin: origin.to_owned(), path: file.to_string(), offset };
            match self.context.ask(request) {
                Ok(Reply::LogPiece(piece)) => break piece,
                Ok(_) => return Err(unexpected()),
                Err(failure) if failure.code == Code::NoAnswer && began.elapsed() < self.wait => {
                    sleep(RETRY_PAUSE);
                }
                Err(failure) => return Err(failure),
            }
        };
        piece.file_length.map(|length| Ok((length, piece_bytes(&piece)?))).transpose()
    }
}

/// Mirrors, and says what came.
pub(super) fn run(auditor: &Auditor, asked: &Mirror) -> Result<(), Failure> {
    let context = auditor.node()?;
    context.folder.check()?;
    let directory = trust::look_only(&context.folder)?;
    let Reply::Status(status) = context.ask(Request::Status)? else { return Err(unexpected()) };
    let own = status.agency.clone();
    let agencies = if asked.agencies.is_empty() {
        let mut all: Vec<String> = directory
            .roster()
            .members
            .iter()
            .filter(|member| directory.may_read(&own, &member.agency))
            // Whoever only watches has no events.
            .filter(|member| member.agency == own || member.roles != [Role::Witness as i32])
            .map(|member| member.agency.clone())
            .collect();
        all.sort();
        all
    } else {
        asked.agencies.clone()
    };
    if let Some(forbidden) = agencies.iter().find(|agency| !directory.may_read(&own, agency)) {
        let message = format!(
            "{own} may not read the sub-log of {}: by roster version {} of the region authority it reads its own, and as an \
             auditor those that the roster names for it; ask the region authority if that should be otherwise",
            crate::core::text::one_line(forbidden),
            directory.roster().version
        );
        return Err(Failure::new(Code::Refused, message));
    }
    let name = match (&asked.log, directory.brokers().first()) {
        (Some(name), _) => name.clone(),
        (None, Some(broker)) => broker.log_name(),
        (None, None) => return Err(Failure::new(Code::NotFound, "the directory names no broker")),
    };
    if lintas_proto::id::check_name(&name).is_err() {
        return Err(Failure::new(Code::Usage, "that is no name of a log"));
    }
    // Nobody connects for a node that does not run.
    let wait = if status.daemon { Duration::from_secs(asked.wait.into()) } else { Duration::ZERO };
    let bar = bar("mirroring", "{msg} {binary_bytes}, {binary_bytes_per_sec}");
    let mirror = Mirroring {
        folder: LogFolder::in_mirror(&context.folder.path("audit"), &name),
        origin: format!("{name}/audit"),
        directory: &directory,
        source: &mut ThroughNode { context: &context, wait },
        watch: &mut |bytes| bar.set_position(bytes),
        done: Mirrored::default(),
    };
    let done = mirror.run(&agencies);
    bar.finish_and_clear();
    let done = done?;
    auditor.print(&done, plain_words)?;
    match done.findings.iter().map(|finding| finding.severity).max() {
        None | Some(Severity::Note) => Ok(()),
        Some(Severity::NotAttested | Severity::Incomplete) => {
            Err(Failure::new(Code::AuditIncomplete, "the mirror is not complete; see above"))
        }
        Some(Severity::Damaged | Severity::BrokenPromise) => Err(Failure::new(
            Code::AuditDamaged,
            "the broker's log is not what was mirrored before; see above",
        )),
    }
}

fn plain_words(done: &Mirrored) -> String {
    let mut out = format!(
        "log {}: {} epochs, {} of them new; {} bytes came\n",
        done.log,
        done.epochs,
        done.epochs.saturating_sub(done.epochs_before),
        done.bytes
    );
    for sub in &done.sub_logs {
        let new = sub.entries.saturating_sub(sub.entries_before);
        out.push_str(&format!("sub-log of {}: {} entries, {new} of them new\n", sub.agency, sub.entries));
        if sub.erased > 0 {
            out.push_str(&format!(
                "  {} keys were deleted here, as {} ordered; other copies are not reached\n",
                sub.erased, sub.agency
            ));
        }
    }
    if !done.empty.is_empty() {
        out.push_str(&format!("nothing logged yet: {}\n", done.empty.join(", ")));
    }
    done.findings.iter().for_each(|found| out.push_str(&words::finding(found)));
    out.push_str("nothing of it is verified yet: lintas audit verify\n");
    out
}
