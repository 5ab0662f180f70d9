//! A full scan, from the first entry to the last. It can be interrupted and goes on where it was; it never begins where
//! another scan has ended.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashSet},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use lintas_proto::id::{Digest, hex, sha256};
use serde::{Deserialize, Serialize};

use super::{
    anchor::{Anchor, AnchorError, Trust},
    counterparts::{Halves, compare},
    finding::{Finding, Findings, Kind, Severity},
    own::Reached,
    root::{Epoch, RootScan, RootState},
    source::LogFiles,
    sub_log::{SubScan, SubState},
};

/// Events that must stand in two sub-logs, above which fewer epochs are looked at together: some 100 bytes each.
const HALVES_MAX: usize = 250_000;

/// What is to be checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) trust: Trust<'a>,
    /// Origin of the root log.
    pub(crate) origin: &'a str,
    /// Whose sub-logs.
    pub(crate) agencies: &'a [String],
    /// Openings of events before this time are left out.
    pub(crate) since_ms: u64,
    pub(crate) now_ms: u64,
    pub(crate) threads: usize,
    /// The files say that they are an extract: openings that are not here were left out.
    pub(crate) extract: bool,
}

/// Who is told how far a scan is, and keeps where it was.
pub(crate) trait Watch {
    /// So many epochs and entries of so many.
    fn progress(&mut self, done: u64, total: u64);
    /// Whether the state is to be kept now.
    fn is_due(&mut self) -> bool;
    /// Keeps it.
    fn keep(&mut self, state: &[u8]);
}

/// Where an interrupted scan was.
#[derive(Default, Serialize, Deserialize)]
struct State {
    root: RootState,
    subs: BTreeMap<String, SubState>,
    findings: Findings,
    begun_ms: u64,
}

/// What a scan found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// `whole`, `damaged`, `incomplete` or `not_attested`.
    pub(crate) verdict: Verdict,
    pub(crate) log: String,
    /// Version of the newest roster that is believed.
    pub(crate) roster_version: u64,
    pub(crate) epochs: u64,
    pub(crate) root: String,
    /// When the first and the last epoch ended; zeros without any.
    pub(crate) first_ms: u64,
    pub(crate) last_ms: u64,
    /// Witnesses of the newest roster; how many must cosign; how many may be false.
    pub(crate) witnesses: usize,
    pub(crate) quorum: usize,
    pub(crate) tolerates: usize,
    pub(crate) cosigned_checkpoints: u64,
    pub(crate) attested_epochs: u64,
    /// Epochs of the last minute that no quorum has cosigned yet.
    pub(crate) young_epochs: u64,
    pub(crate) sub_logs: Vec<SubReport>,
    pub(crate) since_ms: u64,
    /// The files are an extract: content of other events was left out by whoever made it.
    pub(crate) extract: bool,
    /// The scan went on from an interrupted one that began then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) resumed_ms: Option<u64>,
    /// Events that receipts of this node promise and that were compared; absent where there is no node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) own_receipts: Option<u64>,
    /// The same of signed evidence of how this agency's packets ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) own_evidence: Option<u64>,
    /// How many of each kind there are; the list has at most 100 of each.
    pub(crate) counts: BTreeMap<Kind, u64>,
    pub(crate) findings: Vec<Finding>,
}

/// What a scan found in one sub-log.
#[derive(Debug, Serialize)]
pub(crate) struct SubReport {
    pub(crate) agency: String,
    pub(crate) entries: u64,
    pub(crate) root: String,
    pub(crate) opened: u64,
    pub(crate) erased: u64,
    pub(crate) left_out: u64,
    /// Epochs whose slot is that of this sub-log.
    pub(crate) slots: u64,
    pub(crate) events: BTreeMap<String, u64>,
    /// Releases and receptions by the policy that allowed them.
    pub(crate) policies: BTreeMap<String, u64>,
    /// Packets at recipients whose end is not logged yet.
    pub(crate) waiting: usize,
}

/// The whole in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Whole,
    NotAttested,
    Incomplete,
    Damaged,
}

impl Verdict {
    pub(crate) fn of(worst: Option<Severity>) -> Self {
        match worst {
            None | Some(Severity::Note) => Self::Whole,
            Some(Severity::NotAttested) => Self::NotAttested,
            Some(Severity::Incomplete) => Self::Incomplete,
            Some(Severity::Damaged | Severity::BrokenPromise) => Self::Damaged,
        }
    }
}

/// A scan that is done, and what may still be compared with it.
pub(crate) struct Scanned {
    pub(crate) anchor: Anchor,
    pub(crate) report: Report,
    pub(crate) findings: Findings,
    /// How far the sub-logs were scanned.
    pub(crate) sizes: BTreeMap<String, Reached>,
}

impl Scanned {
    /// The report, with what was found since.
    pub(crate) fn into_report(self) -> Report {
        let mut report = self.report;
        report.verdict = Verdict::of(self.findings.worst());
        report.counts = self.findings.counts();
        report.findings = self.findings.into_shown();
        report
    }
}

/// Scans everything. `state` is what an interrupted scan kept; one of other logs or another scope is not used.
///
/// # Errors
/// [`AnchorError`] when nothing can be checked.
pub(crate) fn verify(
    files: &dyn LogFiles,
    asked: &Asked<'_>,
    state: Option<&[u8]>,
    watch: &mut dyn Watch,
) -> Result<Scanned, AnchorError> {
    let mut first = Findings::default();
    let anchor = Anchor::read(files, asked.trust, asked.origin, &mut first)?;
    let key = key(asked, &anchor);
    let kept = state.and_then(|state| read_state(state, &key));
    let resumed_ms = kept.as_ref().map(|kept| kept.begun_ms);
    let mut state = kept.unwrap_or(State { begun_ms: asked.now_ms, findings: first, ..State::default() });
    let mut sizes = BTreeMap::new();
    let mut report = empty(asked, &anchor, resumed_ms);
    let mut found = std::mem::take(&mut state.findings);
    let root = std::mem::take(&mut state.root);
    if let Some(mut root) = RootScan::begin(files, &anchor, root, asked.now_ms, &mut found) {
        // All but this one.
        let spare = AtomicUsize::new(asked.threads.saturating_sub(1));
        let mut subs: Vec<SubScan<'_>> = Vec::new();
        for agency in asked.agencies {
            let of = state.subs.remove(agency).unwrap_or_default();
            let how = (asked.since_ms, &spare, asked.extract);
            subs.extend(SubScan::begin(files, &anchor, agency, of, how, &mut found));
        }
        let total = subs.iter().fold(root.size(), |total, sub| total.saturating_add(sub.size()));
        let (scope, mut step) = (asked.agencies.iter().map(String::as_str).collect(), 1);
        loop {
            let epochs = root.next(&mut found);
            if epochs.is_empty() {
                break;
            }
            follow(&mut subs, &epochs, (&spare, &anchor.origin, &scope), &mut step, &mut found);
            let done = subs
                .iter()
                .fold(root.state.tree.size(), |done, sub| done.saturating_add(sub.state.tree.size()));
            watch.progress(done, total);
            if watch.is_due() {
                watch.keep(&write_state(&key, &root, &mut subs, &found, state.begun_ms));
            }
        }
        root.end(&mut found);
        for sub in &mut subs {
            sub.end(&mut found);
            watch.progress(total, total);
            let reached = Reached { size: sub.size(), slot_ms: sub.state.slot_ms };
            sizes.insert(sub.agency.clone(), reached);
            report.sub_logs.push(sub_report(sub));
        }
        fill(&mut report, &root);
    }
    Ok(Scanned { anchor, report, findings: found, sizes })
}

/// Lets the sub-logs go to the end of those epochs, `step` of them at a time, and compares what they say of each other. The
/// two events of a pair are of one epoch.
fn follow(
    subs: &mut [SubScan<'_>],
    epochs: &[Epoch<'_>],
    (spare, origin, scope): (&AtomicUsize, &str, &HashSet<&str>),
    step: &mut usize,
    found: &mut Findings,
) {
    let mut rest = epochs;
    while !rest.is_empty() {
        let (part, after) = rest.split_at((*step).min(rest.len()));
        let said = follow_part(subs, part, spare, found);
        compare(&said, origin, scope, found);
        // So many that it is worth the threads, and never much more than fit.
        let halves: usize = said.iter().map(Halves::len).sum();
        *step = if halves > HALVES_MAX { (*step / 2).max(1) } else { step.saturating_mul(2).min(256) };
        rest = after;
    }
}

/// Several sub-logs at a time, the longest first. A thread that finds none left is spare, for those that go on.
fn follow_part(
    subs: &mut [SubScan<'_>],
    epochs: &[Epoch<'_>],
    spare: &AtomicUsize,
    found: &mut Findings,
) -> Vec<Halves> {
    let all = spare.load(Ordering::Relaxed);
    let helpers = all.min(subs.len().saturating_sub(1));
    spare.fetch_sub(helpers, Ordering::Relaxed);
    let mut order: Vec<(usize, &mut SubScan<'_>)> = subs.iter_mut().enumerate().collect();
    order.sort_by_key(|(_, sub)| Reverse(sub.size()));
    let queue = Mutex::new(order.into_iter());
    let work = || {
        let mut done: Vec<(usize, Halves, Findings)> = Vec::new();
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((at, sub)) = next else {
                spare.fetch_add(1, Ordering::Relaxed);
                return done;
            };
            let mut found = Findings::default();
            let said = sub.follow(epochs, &mut found);
            done.push((at, said, found));
        }
    };
    let mut done = std::thread::scope(|scope| {
        let at_work: Vec<_> = (0..helpers).map(|_| scope.spawn(work)).collect();
        let mut done = work();
        for work in at_work {
            // What a thread that panicked has seen is not known.
            done.extend(work.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        done
    });
    spare.store(all, Ordering::Relaxed);
    done.sort_by_key(|(at, ..)| *at);
    let keep = |(_, said, part)| {
        found.append(part);
        said
    };
    done.into_iter().map(keep).collect()
}

fn empty(asked: &Asked<'_>, anchor: &Anchor, resumed_ms: Option<u64>) -> Report {
    let witnesses = anchor.newest().map_or(0, |roster| roster.witnesses.len());
    Report {
        verdict: Verdict::Damaged,
        log: anchor.origin.clone(),
        roster_version: anchor.newest().map_or(0, |roster| roster.version),
        epochs: 0,
        root: String::new(),
        first_ms: 0,
        last_ms: 0,
        witnesses,
        quorum: lintas_proto::audit::note::quorum(witnesses),
        tolerates: witnesses.saturating_sub(1) / 3,
        cosigned_checkpoints: 0,
        attested_epochs: 0,
        young_epochs: 0,
        sub_logs: Vec::new(),
        since_ms: asked.since_ms,
        extract: asked.extract,
        resumed_ms,
        own_receipts: None,
        own_evidence: None,
        counts: BTreeMap::new(),
        findings: Vec::new(),
    }
}

fn fill(report: &mut Report, root: &RootScan<'_>) {
    report.epochs = root.size();
    report.root = hex(root.root());
    report.first_ms = root.state.first_ms;
    report.last_ms = root.state.last_ms;
    report.cosigned_checkpoints = root.state.cosigned;
    report.attested_epochs = root.state.attested;
    report.young_epochs = root.state.young;
}

fn sub_report(sub: &mut SubScan<'_>) -> SubReport {
    let state = &mut sub.state;
    SubReport {
        agency: sub.agency.clone(),
        entries: state.tree.size(),
        root: hex(&state.tree.root()),
        opened: state.opened,
        erased: state.erased,
        left_out: state.left_out,
        slots: state.slots,
        events: state.packets.counts(),
        policies: state.packets.policies.clone(),
        waiting: state.packets.waiting(),
    }
}

/// What a state belongs to: log, its key, scope.
fn key(asked: &Asked<'_>, anchor: &Anchor) -> Digest {
    let agencies = asked.agencies.join(" ");
    let since = asked.since_ms.to_be_bytes();
    let parts: [&[u8]; 6] = [
        b"lintas/audit-scan/v1\0",
        anchor.origin.as_bytes(),
        b"\0",
        anchor.log_key.as_bytes(),
        agencies.as_bytes(),
        &since,
    ];
    sha256(&parts)
}

/// SHA-256 of all that follows, key, JSON.
fn write_state(
    key: &Digest,
    root: &RootScan<'_>,
    subs: &mut [SubScan<'_>],
    found: &Findings,
    begun_ms: u64,
) -> Vec<u8> {
    subs.iter_mut().for_each(|sub| sub.state.packets.settle());
    let state = State {
        root: root.state.clone(),
        subs: subs.iter().map(|sub| (sub.agency.clone(), sub.state.clone())).collect(),
        findings: found.clone(),
        begun_ms,
    };
    let json = serde_json::to_vec(&state).unwrap_or_default();
    [sha256(&[key, &json]).as_slice(), key, &json].concat()
}

fn read_state(bytes: &[u8], key: &Digest) -> Option<State> {
    let (sum, rest) = bytes.split_first_chunk::<32>()?;
    let json = rest.strip_prefix(key.as_slice())?;
    if sha256(&[rest]) != *sum {
        return None;
    }
    serde_json::from_slice(json).ok()
}
