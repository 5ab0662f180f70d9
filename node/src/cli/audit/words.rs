//! Findings and reports in plain words.

use std::fmt::Write as _;

use crate::{
    cli::render::words,
    core::{
        audit::{
            finding::{Finding, Kind, Proof, SHOWN_MAX, Severity},
            listing::Row,
            verify::{Report, SubReport, Verdict},
        },
        text::one_line,
    },
    shell::clock::show as time,
};

/// A report of `verify`.
pub(super) fn report(report: &Report, on_your_word: bool) -> String {
    let mut out = format!("log {}\n", report.log);
    if on_your_word {
        out.push_str("  the directory was taken on your word: no bootstrap file vouches for it\n");
    }
    // A string takes whatever is written to it.
    let _ = writeln!(out, "  checked against roster version {}", report.roster_version);
    if report.extract {
        out.push_str(
            "  an extract: whoever made it left content out; that is counted as left out, and says nothing about erasure\n",
        );
    }
    if let Some(ms) = report.resumed_ms {
        let _ = writeln!(
            out,
            "  went on from a scan that began {} and was interrupted; --full begins anew",
            time(ms)
        );
    }
    if report.epochs > 0 {
        let (first, last) = (time(report.first_ms), time(report.last_ms));
        let _ = writeln!(out, "  {} epochs, from {first} to {last}", report.epochs);
    } else {
        out.push_str("  no epoch could be read\n");
    }
    let _ = writeln!(out, "  root {}", report.root);
    let tolerates = match report.tolerates {
        0 => "tolerates no false witness".to_owned(),
        n => format!("tolerates {n} false"),
    };
    let _ = writeln!(
        out,
        "  witnesses: {}, {} must cosign; {tolerates}; {} epochs attested in time, {} too young to tell, {} cosigned \
         checkpoints",
        report.witnesses,
        report.quorum,
        report.attested_epochs,
        report.young_epochs,
        report.cosigned_checkpoints
    );
    if report.since_ms > 0 {
        let _ = writeln!(out, "  events before {} were not opened", time(report.since_ms));
    }
    report.sub_logs.iter().for_each(|sub| out.push_str(&sub_log(sub)));
    out.push_str(&own(report));
    for found in &report.findings {
        out.push_str(&finding(found));
    }
    for (kind, count) in report.counts.iter().filter(|(_, count)| **count > SHOWN_MAX) {
        let _ = writeln!(out, "and {} more like the last of kind {}", count - SHOWN_MAX, kind_name(*kind));
    }
    out.push_str(match report.verdict {
        Verdict::Whole => "WHOLE: every entry, tile, slot and opening that was checked is as it was signed\n",
        Verdict::NotAttested => {
            "WHOLE, BUT NOT ATTESTED: the log is as the broker signed it; for the times above it is the broker's word alone\n"
        }
        Verdict::Incomplete => "INCOMPLETE: what is there is whole; files are missing\n",
        Verdict::Damaged => "NOT WHOLE: see above\n",
    });
    out
}

/// What was compared with what this node keeps.
fn own(report: &Report) -> String {
    let wrong = |kind| report.counts.get(&kind).copied().unwrap_or(0);
    let wrong = wrong(Kind::Omitted).saturating_add(wrong(Kind::OtherLeaf));
    let mut out = String::new();
    for (compared, what) in [
        (report.own_receipts, "events that the broker's receipts here promise"),
        (report.own_evidence, "acknowledgements and other signed ends of packets kept here"),
    ] {
        match compared {
            Some(0) => out.push_str(&format!("{what}: this node keeps none of this log\n")),
            Some(n) => out.push_str(&format!("{what}: {n} compared with the log\n")),
            None => {}
        }
    }
    match wrong {
        0 => {}
        n => out.push_str(&format!("  NOT AS PROMISED: {n}, see below\n")),
    }
    out
}

fn sub_log(sub: &SubReport) -> String {
    let mut out = format!(
        "sub-log of {}: {} entries, {} opened, {} erased by order, {} left out; the root log has it as it is here in {} epochs\n",
        sub.agency, sub.entries, sub.opened, sub.erased, sub.left_out, sub.slots
    );
    let list = |counts: &std::collections::BTreeMap<String, u64>| {
        let one = |(name, count): (&String, &u64)| format!("{count} {}", words(name));
        counts.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    if !sub.events.is_empty() {
        let _ = writeln!(out, "  events: {}", list(&sub.events));
    }
    if !sub.policies.is_empty() {
        let _ = writeln!(out, "  allowed by: {}", list(&sub.policies));
    }
    if sub.waiting > 0 {
        let _ = writeln!(out, "  on their way, no end logged yet: {}", sub.waiting);
    }
    out
}

/// One finding, and what to do.
pub(super) fn finding(found: &Finding) -> String {
    let mark = match found.severity {
        Severity::Note => "note",
        Severity::NotAttested => "NOT ATTESTED",
        Severity::Incomplete => "MISSING",
        Severity::Damaged => "DAMAGED",
        Severity::BrokenPromise => "BROKEN PROMISE",
    };
    let range = |what: &str, (first, last): (u64, u64)| {
        if first == last { format!(", {what} {first}") } else { format!(", {what} {first} to {last}") }
    };
    let files: Vec<String> = found.files.iter().map(|file| one_line(file)).collect();
    let at = format!(
        "{}{}{}{}",
        one_line(&found.log),
        if files.is_empty() { String::new() } else { format!(", {}", files.join(" or ")) },
        found.entries.map(|entries| range("entry", entries)).unwrap_or_default(),
        found.epochs.map(|epochs| range("epoch", epochs)).unwrap_or_default(),
    );
    let worth = match found.proof {
        Proof::Evidence => "\n  worth: EVIDENCE: these files convince whoever has the roster",
        Proof::Accusation => "\n  worth: accusation: your word against the broker's",
        Proof::Nobody => "",
    };
    let kind = if found.kind == Kind::Note { String::new() } else { format!(" ({})", kind_name(found.kind)) };
    let mut out = format!("{mark}{kind}: {at}\n  {}\n", one_line(&found.what));
    if found.severity != Severity::Note {
        let _ = writeln!(out, "  who: {}{worth}\n  to do: {}", found.who, found.to_do);
    }
    out
}

/// The stable name of a kind.
pub(super) fn kind_name(kind: Kind) -> String {
    serde_json::to_value(kind).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// What happened, in a sentence.
pub(super) fn event(row: &Row) -> String {
    if row.opening != "open" {
        let why = if row.opening == "erased" {
            "content is not here: erased, or left out of this copy"
        } else {
            "content cannot be opened; run `lintas audit verify`"
        };
        return format!("{}: {why}", words(&row.kind));
    }
    let mut out = words(&row.kind);
    if !row.packet_id.is_empty() {
        let _ = write!(out, " packet {}", one_line(&row.packet_id));
    }
    for (word, unit) in [("from", &row.from), ("to", &row.to)] {
        if !unit.is_empty() {
            let _ = write!(out, " {word} {}", one_line(unit));
        }
    }
    if !row.outcome.is_empty() {
        let _ = write!(out, ": {}", words(&row.outcome));
    }
    if !row.policies.is_empty() {
        let _ = write!(out, " (policy: {})", one_line(&row.policies.join(", ")));
    }
    if !row.text.is_empty() {
        let _ = write!(out, ": {}", one_line(&row.text));
    }
    if let (Some(first), Some(count)) = (row.first_index, row.count) {
        let _ = match first.saturating_add(count).saturating_sub(1) {
            last if last == first => write!(out, ", entry {first}"),
            last => write!(out, ", entries {first} to {last}"),
        };
    }
    if !row.other_agency.is_empty() {
        let word = match row.kind.as_str() {
            "audit_read" => " of ",
            "audit_read_told" => ", read by ",
            _ => ", ",
        };
        let _ = write!(out, "{word}{}", one_line(&row.other_agency));
    }
    if let Some(version) = row.version {
        let _ = write!(out, ", version {version}");
    }
    out
}
