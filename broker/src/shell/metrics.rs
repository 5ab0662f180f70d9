//! Metrics: what the broker counts, in Prometheus' text format (version 0.0.4). Never who: no agency, unit or
//! packet is a label, since who writes how much to whom is itself intelligence.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use lintas_proto::schema::Reason;

use super::{clock, shared::Shared};
use crate::core::outcome::How;

/// One more than the highest [`Reason`].
const REASONS: usize = 21;
/// Upper bounds of the histogram of groups, records; the last bucket has none.
const GROUP_RECORDS: [u64; 7] = [1, 2, 8, 32, 128, 512, 1_024];

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What sessions, sequencer and committer count. Starts at zero with the process.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) accepted: Counter,
    /// By the reason's number.
    refused: [Counter; REASONS],
    pub(crate) duplicates: Counter,
    pub(crate) deliveries: Counter,
    pub(crate) evidence: Counter,
    acknowledged: Counter,
    expired: Counter,
    taken: Counter,
    withheld: Counter,
    pub(crate) roster_changes: Counter,
    pub(crate) keyset_changes: Counter,
    pub(crate) self_revocations: Counter,
    pub(crate) directories_refused: Counter,
    pub(crate) keysets_refused: Counter,
    pub(crate) policy_changes: Counter,
    pub(crate) policies_refused: Counter,
    pub(crate) submission_bytes: Counter,
    pub(crate) attachment_bytes: Counter,
    pub(crate) attachment_bytes_given: Counter,
    pub(crate) log_bytes_given: Counter,
    pub(crate) witness_refusals: Counter,
    pub(crate) witness_lies: Counter,
    pub(crate) checkpoints_ignored: Counter,
    pub(crate) epochs: Counter,
    pub(crate) refusals_logged: Counter,
    pub(crate) slot_keys: Counter,
    pub(crate) erasures: Counter,
    /// Of the sequencer.
    clock_behind_ms: AtomicU64,
    sessions: AtomicU64,
    groups: [Counter; GROUP_RECORDS.len() + 1],
    group_records: Counter,
    /// Last record handed to the journal. Of the sequencer.
    last_sequence: AtomicU64,
    /// When the sequencer began its last round, milliseconds since 1970. Of the sequencer.
    round_ms: AtomicU64,
    /// When an epoch was published last, milliseconds since 1970. Of the publisher.
    published_ms: AtomicU64,
    /// The disk had no room for what is to be published. Of the publisher.
    log_full: AtomicBool,
}

/// A live session; dropped, it counts no more.
#[derive(Debug)]
pub(crate) struct Live<'a>(&'a AtomicU64);

impl Drop for Live<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    pub(crate) fn refused(&self, reason: Reason) {
        if let Some(counter) = usize::try_from(reason as i32).ok().and_then(|at| self.refused.get(at)) {
            counter.add(1);
        }
    }

    /// A queue entry has ended, but for its durability.
    pub(crate) fn ended(&self, how: &How) {
        match how {
            How::Acknowledged(_) => &self.acknowledged,
            How::Expired => &self.expired,
            How::Taken => &self.taken,
            How::Withheld { .. } | How::Denied(_) => &self.withheld,
        }
        .add(1);
    }

    pub(crate) fn session(&self) -> Live<'_> {
        self.sessions.fetch_add(1, Ordering::Relaxed);
        Live(&self.sessions)
    }

    /// A group of so many records is durable.
    pub(crate) fn group(&self, records: u64) {
        let at = GROUP_RECORDS.iter().position(|most| records <= *most).unwrap_or(GROUP_RECORDS.len());
        if let Some(bucket) = self.groups.get(at) {
            bucket.add(1);
        }
        self.group_records.add(records);
    }

    pub(crate) fn handed_over(&self, last_sequence: u64) {
        self.last_sequence.store(last_sequence, Ordering::Relaxed);
    }

    /// By how much the clock is behind the log.
    pub(crate) fn clock_behind(&self, behind_ms: u64) {
        self.clock_behind_ms.store(behind_ms, Ordering::Relaxed);
    }

    pub(crate) fn round(&self, now_ms: u64) {
        self.round_ms.store(now_ms, Ordering::Relaxed);
    }

    /// An epoch is published.
    pub(crate) fn published(&self, now_ms: u64) {
        self.published_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Whether the disk has no room for what is to be published.
    pub(crate) fn log_full(&self, is_full: bool) {
        self.log_full.store(is_full, Ordering::Relaxed);
    }

    pub(crate) fn is_log_full(&self) -> bool {
        self.log_full.load(Ordering::Relaxed)
    }

    /// When the sequencer began its last round; 0 before the first.
    pub(crate) fn last_round_ms(&self) -> u64 {
        self.round_ms.load(Ordering::Relaxed)
    }
}

/// The page of metrics.
pub(crate) fn page(shared: &Shared) -> String {
    let (metrics, mut page) = (&shared.metrics, Page(String::new()));
    page.counter("submissions_accepted", "Packets admitted and durable.", &metrics.accepted);
    page.head("submissions_refused_total", "counter", "Packets refused, by reason.");
    for (number, counter) in (0..).zip(&metrics.refused) {
        let reason = Reason::try_from(number).unwrap_or_default();
        if !matches!(reason, Reason::Unspecified | Reason::Accepted) {
            let name = reason.as_str_name().trim_start_matches("REASON_").to_ascii_lowercase();
            page.line("submissions_refused_total", &format!("{{reason=\"{name}\"}}"), counter.get());
        }
    }
    for (name, help, counter) in [
        ("duplicates", "Packets that came again and got their first receipt.", &metrics.duplicates),
        ("deliveries", "Packets handed over to a session, redeliveries included.", &metrics.deliveries),
        ("evidence_deliveries", "Evidence handed over, redeliveries included.", &metrics.evidence),
        ("acknowledgements", "Queue entries ended by the recipient's evidence.", &metrics.acknowledged),
        ("expired", "Queue entries ended by time.", &metrics.expired),
        (
            "withheld",
            "Queue entries ended because their recipient has left or a policy denies it to them.",
            &metrics.withheld,
        ),
        ("evidence_taken", "Evidence that its originator has taken.", &metrics.taken),
        ("submission_bytes", "Bytes of submissions received.", &metrics.submission_bytes),
        ("attachment_bytes", "Bytes of attachments received.", &metrics.attachment_bytes),
        ("audit_epochs", "Epochs of the audit log that have ended.", &metrics.epochs),
        ("audit_refusals", "Refusals that stand in the audit log.", &metrics.refusals_logged),
        ("audit_slot_keys", "Slot keys that agencies have brought.", &metrics.slot_keys),
        ("audit_erasures", "Orders of erasure that were carried out.", &metrics.erasures),
        ("attachment_bytes_given", "Bytes of attachments handed over.", &metrics.attachment_bytes_given),
    ] {
        page.counter(name, help, counter);
    }
    page.directory(metrics);
    let (entries, directory) = (shared.ledger().entries() as u64, shared.directory());
    let roster = directory.roster();
    for (name, help, value) in [
        ("sessions", "Nodes connected now.", metrics.sessions.load(Ordering::Relaxed)),
        ("queue_entries", "Packets and evidence that wait, all queues together.", entries),
        (
            "journal_last_sequence",
            "Last record handed to the journal.",
            metrics.last_sequence.load(Ordering::Relaxed),
        ),
        (
            "clock_in_doubt",
            "Whether this machine's clock is in doubt, so that nothing is done by it.",
            u64::from(shared.clock.agreed_ms().is_none()),
        ),
        (
            "clock_behind_milliseconds",
            "By how much the clock is behind the newest time in the audit log.",
            metrics.clock_behind_ms.load(Ordering::Relaxed),
        ),
        ("journal_durable_sequence", "Last record known to be durable.", *shared.durable.borrow()),
        ("roster_version", "Version of the roster in force.", roster.version),
        (
            "roster_ends_timestamp_seconds",
            "When the roster stops being valid, seconds since 1970.",
            roster.not_after_ms / 1_000,
        ),
    ] {
        page.head(name, "gauge", help);
        page.line(name, "", value);
    }
    page.policies(shared);
    page.log(shared);
    page.witnessed(shared);
    page.groups(metrics);
    page.0
}

struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP lintas_broker_{name} {help}\n# TYPE lintas_broker_{name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &str, value: u64) {
        let _ = writeln!(self.0, "lintas_broker_{name}{labels} {value}");
    }

    fn counter(&mut self, name: &str, help: &str, counter: &Counter) {
        let name = format!("{name}_total");
        self.head(&name, "counter", help);
        self.line(&name, "", counter.get());
    }

    fn labelled(&mut self, (name, help, label): (&str, &str, &str), counters: &[(&str, &Counter)]) {
        let name = format!("{name}_total");
        self.head(&name, "counter", help);
        for (value, counter) in counters {
            self.line(&name, &format!("{{{label}=\"{value}\"}}"), counter.get());
        }
    }

    /// Directories and keysets.
    fn directory(&mut self, metrics: &Metrics) {
        self.labelled(
            ("directory_changes", "New directories in force, by what made them.", "by"),
            &[
                ("roster", &metrics.roster_changes),
                ("keyset", &metrics.keyset_changes),
                ("self_revocation", &metrics.self_revocations),
            ],
        );
        self.labelled(
            ("directory_refused", "Directories and keysets that were not taken.", "what"),
            &[("directory", &metrics.directories_refused), ("keyset", &metrics.keysets_refused)],
        );
    }

    fn policies(&mut self, shared: &Shared) {
        let metrics = &shared.metrics;
        for (name, help, counter) in [
            ("policy_changes", "Release policies put in force since the start.", &metrics.policy_changes),
            ("policies_refused", "Release policies that were not taken.", &metrics.policies_refused),
        ] {
            self.counter(name, help, counter);
        }
        self.head("policies", "gauge", "Agencies whose release policies are in force.");
        self.line("policies", "", shared.rules().policies().bundles().count() as u64);
    }

    /// Who reads the audit log, and who watches it. No age where nobody witnesses.
    fn witnessed(&mut self, shared: &Shared) {
        let metrics = &shared.metrics;
        for (name, help, counter) in [
            ("log_bytes_given", "Bytes of the audit log handed over.", &metrics.log_bytes_given),
            ("witness_refusals", "Heads that a witness did not cosign.", &metrics.witness_refusals),
            ("witness_lies", "Answers of witnesses that were not true.", &metrics.witness_lies),
            ("checkpoints_ignored", "Checkpoints in hellos of no broker.", &metrics.checkpoints_ignored),
        ] {
            self.counter(name, help, counter);
        }
        let age_ms = shared.log.unwitnessed_ms(clock::shown_ms());
        if let Some(age_ms) = age_ms.filter(|_| !shared.directory().witnesses().is_empty()) {
            let name = "log_witnessed_seconds";
            self.head(name, "gauge", "How long ago a quorum of witnesses last cosigned the audit log.");
            self.line(name, "", age_ms / 1_000);
        }
    }

    /// How far the audit log is published.
    fn log(&mut self, shared: &Shared) {
        let (published, durable) = (*shared.log.published.borrow(), *shared.durable.borrow());
        let published_ms = shared.metrics.published_ms.load(Ordering::Relaxed);
        let unpublished = durable.saturating_sub(published.sequence);
        for (name, help, value) in [
            ("log_epochs", "Epochs of the audit log that are published.", published.epochs),
            (
                "log_published_timestamp_seconds",
                "When an epoch was published last, seconds since 1970; 0 before the first since the start.",
                published_ms / 1_000,
            ),
            ("log_unpublished_records", "Durable records that no published epoch covers yet.", unpublished),
            (
                "log_disk_full",
                "1 while the disk has no room for what is to be published.",
                u64::from(shared.metrics.is_log_full()),
            ),
        ] {
            self.head(name, "gauge", help);
            self.line(name, "", value);
        }
    }

    fn groups(&mut self, metrics: &Metrics) {
        self.head("group_records", "histogram", "Records of each durable group.");
        let (mut below, mut bounds) = (0, GROUP_RECORDS.iter());
        for bucket in &metrics.groups {
            below += bucket.get();
            let bound = bounds.next().map_or("+Inf".to_owned(), u64::to_string);
            self.line("group_records_bucket", &format!("{{le=\"{bound}\"}}"), below);
        }
        self.line("group_records_sum", "", metrics.group_records.get());
        self.line("group_records_count", "", below);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_counter() {
        let last = i32::try_from(REASONS).unwrap();
        assert!((0..last).all(|number| Reason::try_from(number).is_ok()));
        assert!(Reason::try_from(last).is_err(), "a new reason needs room");
    }

    #[test]
    fn the_histogram_is_cumulative() {
        let (metrics, mut page) = (Metrics::default(), Page(String::new()));
        for records in [1, 2, 2, 5_000] {
            metrics.group(records);
        }
        page.groups(&metrics);
        for line in [
            "bucket{le=\"1\"} 1\n",
            "bucket{le=\"2\"} 3\n",
            "bucket{le=\"1024\"} 3\n",
            "bucket{le=\"+Inf\"} 4\n",
            "sum 5005\n",
            "count 4\n",
        ] {
            assert!(page.0.contains(line), "{line}: {}", page.0);
        }
    }
}
