//! `lintas audit verify`: is the log whole?

use std::time::{Duration, Instant};

use clap::Args;
use indicatif::ProgressBar;
use lintas_proto::id::unhex;

use super::{Auditor, From, agencies, bar, words};
use crate::{
    cli::unexpected,
    core::audit::{
        finding::{Findings, Kind},
        own,
        verify::{Asked, Scanned, Verdict, Watch, verify},
    },
    shell::{
        audit::folder::{LogFolder, Place},
        clock,
        desk::{Reply, Request},
        failure::{Code, Failure},
    },
};

/// Options of `verify`.
#[derive(Args)]
pub(super) struct Verify {
    #[command(flatten)]
    from: From,
    /// Sub-log of this agency; as often as there are agencies. Without it: all that are there.
    #[arg(long = "agency", value_name = "AGENCY")]
    agencies: Vec<String>,
    /// Do not open events before that day (2026-11-01, UTC) or moment. Trees, slots and times are checked all the same.
    #[arg(long, value_name = "DATE")]
    since: Option<String>,
    /// Begin anew, even if a scan was interrupted here.
    #[arg(long)]
    full: bool,
    /// Do not compare with the receipts and acknowledgements that this node keeps.
    #[arg(long)]
    without_own_receipts: bool,
}

/// How often an unfinished scan is kept.
const KEEP_EVERY: Duration = Duration::from_secs(5);
/// Receipts that are asked for at a time.
const RECEIPTS_AT_ONCE: usize = 10_000;

struct Watching<'a> {
    bar: ProgressBar,
    files: &'a LogFolder,
    kept: Instant,
}

impl Watch for Watching<'_> {
    fn progress(&mut self, done: u64, total: u64) {
        self.bar.set_length(total);
        self.bar.set_position(done);
    }

    fn is_due(&mut self) -> bool {
        let due = clock::moment().saturating_duration_since(self.kept) >= KEEP_EVERY;
        if due {
            self.kept = clock::moment();
        }
        due
    }

    fn keep(&mut self, state: &[u8]) {
        // Without it an interrupted scan begins anew; that is all.
        let _ = self.files.keep_state(state);
    }
}

/// Scans, prints, and ends with the worst that was found.
pub(super) fn run(auditor: &Auditor, asked: &Verify) -> Result<(), Failure> {
    let place = auditor.place(&asked.from)?;
    let scope = agencies(&place, &asked.agencies)?;
    let since_ms = asked.since.as_deref().map_or(Ok(0), |since| {
        clock::read(since).ok_or_else(|| {
            Failure::new(
                Code::Usage,
                "--since needs a day, e.g. 2026-11-01, or a moment, e.g. 2026-11-01T12:00:00Z",
            )
        })
    })?;
    let state = if asked.full { None } else { place.files.state() };
    let template = "{msg} [{bar:30}] {human_pos} of {human_len} epochs and entries, {per_sec}, {eta} left";
    let bar = bar("checking", template);
    let mut watching = Watching { bar, files: &place.files, kept: clock::moment() };
    let wanted = Asked {
        trust: place.trust(),
        origin: &place.origin,
        agencies: &scope,
        since_ms,
        now_ms: clock::now_ms(),
        threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    };
    let scanned = verify(&place.files, &wanted, state.as_deref(), &mut watching);
    watching.bar.finish_and_clear();
    let mut scanned = scanned.map_err(|error| Failure::new(Code::NotSetUp, error))?;
    if !asked.without_own_receipts && auditor.data.is_some() {
        compare_own(auditor, &place, &mut scanned)?;
    }
    let report = scanned.into_report();
    place.files.forget_state();
    auditor.print(&report, |report| words::report(report, place.on_your_word))?;
    let (code, message) = match report.verdict {
        Verdict::Whole => return Ok(()),
        Verdict::NotAttested => {
            (Code::AuditNotAttested, "the log is whole, but no quorum of witnesses attests all of its times")
        }
        Verdict::Incomplete => {
            (Code::AuditIncomplete, "files of the log are missing, so that not all of it could be checked")
        }
        Verdict::Damaged => (Code::AuditDamaged, "the log is not whole"),
    };
    let total: u64 = report.counts.iter().filter(|(kind, _)| **kind != Kind::Note).map(|(_, n)| n).sum();
    Err(Failure::new(code, format_args!("{message}; findings: {total}")))
}

/// Compares what the node keeps with the log that was scanned.
fn compare_own(auditor: &Auditor, place: &Place, scanned: &mut Scanned) -> Result<(), Failure> {
    let context = auditor.node()?;
    // A node that was never set up keeps nothing.
    if !context.folder.path("node.toml").exists() {
        return Ok(());
    }
    let (mut after, mut compared) = (0, 0u64);
    let mut found: Findings = std::mem::take(&mut scanned.findings);
    loop {
        let Reply::AuditOwn(page) = context.ask(Request::AuditOwn { after, limit: RECEIPTS_AT_ONCE })? else {
            return Err(unexpected());
        };
        let mut promised = Vec::new();
        for one in &page.events {
            let Ok(leaf) = unhex(&one.leaf) else { continue };
            promised.push(own::Promised {
                origin: one.origin.clone(),
                index: one.index,
                leaf,
                packet: one.packet.clone(),
                deadline_ms: one.deadline_ms,
            });
        }
        compared += own::compare(&place.files, &scanned.anchor, &scanned.sizes, &promised, &mut found);
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    scanned.report.own_receipts = Some(compared);
    scanned.findings = found;
    Ok(())
}
