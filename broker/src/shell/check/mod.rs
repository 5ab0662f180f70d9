//! `check`: whether what a stopped broker has on its disk is whole. Nothing is written.
//!
//! The way of a check: [`run`] takes the lock, reads the mark of what is published, has the journal verified as a start
//! would and folded into the ledger; [`published`] derives every tile of the published log anew from its entries; then
//! [`leaves`] goes over the records that are still there, and each event of them must stand in `audit/` as it is. Last
//! [`policies`] looks at the chains of policies, and at their mark.

mod leaves;
mod policies;
mod published;

use bytes::Bytes;
use lintas_journal::{Anchor, Checked, Cut, Damage, FileDisk, Limits, OpenError, ReadError, check};
use lintas_proto::schema::PublishedLog;
use serde_json::{Value, json};

use self::{leaves::Leaves, published::Published};
use super::{
    folder::{Folder, FolderError},
    log::files::mark,
    recover::Folding,
    run_error::RunError,
    start::journal_limits,
};
use crate::core::record::Fact;

/// Findings that are listed; all are counted.
const LISTED_MAX: usize = 100;

/// Something that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Below the data folder.
    file: String,
    /// Segment of the journal, offset in its file.
    segment: Option<(u64, u64)>,
    /// Record of the journal, or the first one that is affected.
    record: Option<u64>,
    /// Entry of the log.
    entry: Option<u64>,
    what: String,
}

impl Finding {
    fn of(file: impl Into<String>, what: impl Into<String>) -> Self {
        Self { file: file.into(), segment: None, record: None, entry: None, what: what.into() }
    }

    fn entry(self, entry: u64) -> Self {
        Self { entry: Some(entry), ..self }
    }

    fn record(self, record: u64) -> Self {
        Self { record: Some(record), ..self }
    }

    fn damage(damage: &Damage) -> Self {
        let file = damage.file.map_or_else(|| "journal".to_owned(), segment_file);
        let what = format!("{} is wrong; {}", damage.field, damage.evidence);
        let segment = Some((damage.segment, damage.offset));
        Self { segment, record: damage.sequence, ..Self::of(file, what) }
    }

    fn json(&self) -> Value {
        let (segment, offset) = self.segment.unzip();
        json!({
            "file": self.file, "segment": segment, "offset": offset, "record": self.record,
            "entry": self.entry, "what": self.what,
        })
    }

    fn plain(&self) -> String {
        let mut out = format!("DAMAGED: {}", self.file);
        if let Some((segment, offset)) = self.segment {
            out.push_str(&format!(", segment {segment}, offset {offset}"));
        }
        if let Some(entry) = self.entry {
            out.push_str(&format!(", entry {entry}"));
        }
        if let Some(record) = self.record {
            out.push_str(&format!(", record {record}"));
        }
        format!("{out}\n  {}\n", self.what)
    }
}

/// What was found, as far as it is listed.
#[derive(Debug, Default)]
struct Findings {
    listed: Vec<Finding>,
    count: usize,
}

impl Findings {
    fn push(&mut self, finding: Finding) {
        self.count = self.count.saturating_add(1);
        if self.listed.len() < LISTED_MAX {
            self.listed.push(finding);
        }
    }
}

/// How it stands with a broker's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Whole,
    /// The last write to the journal is not complete.
    Torn,
    Damaged,
}

/// What a check says.
#[derive(Debug, Default)]
pub(crate) struct Report {
    findings: Findings,
    cut: Option<Cut>,
    /// Of the journal, if it could be read: segments, sequence of the next record, bytes verified, files without use, clean close.
    journal: Option<(u64, u64, u64, u64, bool)>,
    /// Agencies that have policies, and versions of all.
    policies: (u64, u64),
    /// Epochs and entries that are published.
    epochs: u64,
    entries: u64,
    /// Events of records that were compared with their entries.
    compared: u64,
    /// Entries whose records are no longer there.
    without_record: u64,
}

impl Report {
    pub(crate) fn verdict(&self) -> Verdict {
        match (self.findings.count, self.cut) {
            (0, None) => Verdict::Whole,
            (0, Some(_)) => Verdict::Torn,
            (..) => Verdict::Damaged,
        }
    }

    pub(crate) fn json(&self) -> Value {
        let verdict = match self.verdict() {
            Verdict::Whole => "whole",
            Verdict::Torn => "unfinished_write",
            Verdict::Damaged => "damaged",
        };
        let journal = self.journal.map(|(segments, next, bytes, idle, clean)| {
            json!({
                "segments": segments, "next_record": next, "verified_bytes": bytes, "idle_files": idle, "clean_close": clean,
            })
        });
        let cut = self.cut.map(|cut| {
            json!({
                "segment": cut.segment, "offset": cut.offset, "bytes": cut.bytes, "record": cut.first_sequence,
                "what": cut.field.to_string(),
            })
        });
        json!({
            "verdict": verdict, "journal": journal, "unfinished_write": cut,
            "audit": {
                "epochs": self.epochs, "entries": self.entries, "compared": self.compared,
                "without_record": self.without_record,
            },
            "policies": { "agencies": self.policies.0, "versions": self.policies.1 },
            "findings": self.findings.listed.iter().map(Finding::json).collect::<Vec<_>>(),
            "count": self.findings.count,
        })
    }

    pub(crate) fn plain(&self) -> String {
        let mut out = String::new();
        match self.journal {
            Some((segments, next, bytes, idle, clean)) => out.push_str(&format!(
                "journal: segments in use: {segments}, bytes verified: {bytes}, next record: {next}; it was {}\n  files \
                 without use: {idle}; what is in them, and zeros behind the end of a segment, means nothing\n",
                if clean { "closed" } else { "not closed: the broker was killed, or lost power" }
            )),
            None => out.push_str("journal: it could not be read to its end; audit/ was not compared with it\n"),
        }
        if let Some(cut) = self.cut {
            out.push_str(&format!(
                "  {cut}\n  after a crash or a power cut that is as it must be: nobody has an answer to what was in it. After \
                 a clean stop it is damage\n"
            ));
        }
        out.push_str(&format!(
            "audit: epochs: {}, entries of sub-logs: {}; {} of them compared with the journal, {} whose records the journal \
             no longer needs\n",
            self.epochs, self.entries, self.compared, self.without_record
        ));
        let (agencies, versions) = self.policies;
        out.push_str(&format!("policies: agencies: {agencies}, versions: {versions}\n"));
        self.findings.listed.iter().for_each(|finding| out.push_str(&finding.plain()));
        if self.findings.count > self.findings.listed.len() {
            out.push_str(&format!("and {} more\n", self.findings.count - self.findings.listed.len()));
        }
        out.push_str(match self.verdict() {
            Verdict::Whole => "WHOLE: journal, audit/ and policies/ are what the broker wrote, and agree\n",
            Verdict::Torn => "WHOLE, but the last write to the journal was not finished\n",
            Verdict::Damaged => {
                "NOT WHOLE: keep a copy of the folder as it is; then restore journal/, audit/, policies/ and policies.mark together from one backup\n"
            }
        });
        out.push_str("signatures, times and slots are not part of this check: lintas audit verify --from DIR/audit/NUMBER\n");
        out
    }
}

/// Checks the folder of a broker that does not run.
///
/// # Errors
/// When it cannot be checked: somebody runs on it, or the system does not give its files.
pub(crate) fn run(folder: &Folder) -> Result<Report, RunError> {
    let _lock = folder.look_lock()?;
    let settings = folder.settings()?;
    let limits = journal_limits(&settings, Limits { segments_max: u32::MAX, ..Limits::default() });
    let mut report = Report::default();
    let state = read_mark(folder, &mut report)?;
    let anchor = state.as_ref().map(|state| Anchor { sequence: state.sequence });
    let mut fold = Folding::default();
    let journal = match check(&FileDisk::look_only(folder.journal()), &limits, anchor, &mut fold) {
        Ok(journal) => Some(journal),
        Err(error) => {
            report.findings.push(opening(error)?);
            None
        }
    };
    policies::look(folder, journal.is_some().then_some(&fold), &mut report);
    let published = Published::read(folder, state, &mut report);
    if let Some(journal) = journal {
        report.cut = journal.report.cut;
        let found = &journal.report;
        report.journal = Some((
            found.segments,
            found.next_sequence,
            journal.verified_bytes,
            journal.idle_files,
            found.clean_close,
        ));
        compare(&journal, &fold, published, &mut report);
    }
    Ok(report)
}

/// How far the log is published. None before the first epoch.
fn read_mark(folder: &Folder, report: &mut Report) -> Result<Option<PublishedLog>, RunError> {
    let path = folder.audit().join("published");
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FolderError::Io { path, error }.into()),
    };
    let state = mark(&Bytes::from(bytes));
    if state.is_none() {
        let what = "its checksum does not hold; without it nobody can say how far audit/ is published";
        report.findings.push(Finding::of("audit/published", what));
    }
    Ok(state)
}

/// A journal that does not open: damage, or a reason why it cannot be checked.
fn opening(error: OpenError) -> Result<Finding, RunError> {
    match error {
        OpenError::Damaged(damage) => Ok(Finding::damage(&damage)),
        OpenError::ShortOfAnchor { anchor, last, cut } => {
            let cut = cut.map(|cut| format!(" ({cut})")).unwrap_or_default();
            let what = format!(
                "it ends at record {last}, but audit/ was published up to record {anchor}{cut}: the end of the journal is \
                 damaged, or one of the two folders comes from a backup"
            );
            Ok(Finding::of("journal", what).record(last.saturating_add(1)))
        }
        OpenError::Fold { sequence, source } => {
            let what = format!("what it says does not follow from what is before it: {source}");
            Ok(Finding { record: sequence, ..Finding::of("journal", what) })
        }
        OpenError::Limits(_) | OpenError::Locked | OpenError::Io { .. } | OpenError::DiskFull { .. } => {
            Err(error.into())
        }
    }
}

/// Every record that is there, beside what is published.
fn compare(journal: &Checked<FileDisk>, fold: &Folding, published: Published<'_>, report: &mut Report) {
    let (number, spent) = (fold.ledger.audit().number(), fold.ledger.spent());
    let needed = published.sequence();
    let mut leaves = Leaves::new(published, number);
    for sequence in 1..journal.report.next_sequence {
        match journal.reader.read(sequence).map(|record| Fact::from_record(&record)) {
            Ok(Ok(fact)) => leaves.record(sequence, &fact, &mut report.findings),
            Ok(Err(error)) => {
                report.findings.push(Finding::of("journal", error.to_string()).record(sequence));
            }
            Err(ReadError::NotFound { .. }) => {
                if !spent.contains(sequence, needed) {
                    let what = "this record is gone, and it is still needed";
                    report.findings.push(Finding::of("journal", what).record(sequence));
                }
            }
            Err(ReadError::Damaged(damage)) => report.findings.push(Finding::damage(&damage)),
            Err(error @ (ReadError::Closed | ReadError::Io { .. })) => {
                report.findings.push(Finding::of("journal", error.to_string()).record(sequence));
            }
        }
    }
    report.compared = leaves.compared();
    report.without_record = report.entries.saturating_sub(report.compared);
}

fn segment_file(file: u64) -> String {
    format!("journal/segment-{file:06}.journal")
}
