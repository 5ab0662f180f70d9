//! Plain words on a terminal. Everything that another person wrote goes through [`printable`] or [`one_line`].

use lintas_proto::schema::CODE_PREFIXES;
use serde_json::Value;

use crate::{
    core::{
        text::{one_line, printable},
        view::{Arrival, Direction, OutboxEntry, Standing, TransferView},
    },
    shell::clock::show as time,
};

/// `1 packet`, `2 packets`.
pub(super) fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// `KIND_ALERT` → `alert`.
pub(super) fn kind(code: &str) -> String {
    words(code.strip_prefix("KIND_").unwrap_or(code))
}

/// `WITH_CONSENT` → `with consent`.
pub(super) fn words(code: &str) -> String {
    one_line(code).replace('_', " ").to_lowercase()
}

/// A title, or that there is none.
pub(super) fn title(text: &str) -> String {
    if text.is_empty() { "(no title)".to_owned() } else { one_line(text) }
}

/// One packet of the outbox.
pub(super) fn outbox_entry(entry: &OutboxEntry) -> String {
    let OutboxEntry {
        packet_id, kind: code, title: text, created_ms, standing, transfer, recipients, ..
    } = entry;
    let despite =
        if entry.despite_stale { ", although the directory was known to be out of date" } else { "" };
    let title = entry.purged_ms.map_or_else(|| title(text), |ms| format!("PURGED {}", time(ms)));
    let mut out = format!("{packet_id}  {}  {title}\n  sealed {}{despite}\n", kind(code), time(*created_ms));
    entry.reviewed_by.iter().for_each(|by| out.push_str(&format!("  reviewed by {}\n", one_line(by))));
    entry.in_place_of.iter().for_each(|id| out.push_str(&format!("  in place of {id}\n")));
    out.push_str(&format!("  {}\n", stands(standing)));
    entry
        .replaced_by
        .iter()
        .for_each(|id| out.push_str(&format!("  replaced by {id}; nothing is to be done\n")));
    out.extend(entry.proven.iter().map(|grade| format!("  {}\n", proven(grade))));
    out.extend(transfer.iter().map(|transfer| format!("  {}\n", moves(transfer))));
    // What the broker refused reached nobody, but for those who had it from a log that has ended.
    let gone = matches!(standing, Standing::Waiting { .. } | Standing::Accepted { .. });
    let told = recipients.iter().filter(|arrival| gone || arrival.state == "delivered");
    told.for_each(|arrival| out.push_str(&format!("  {}\n", arrives(arrival))));
    out
}

/// How well a receipt is proven.
pub(super) fn proven(grade: &str) -> &'static str {
    match grade {
        "included" => "in the broker's audit log; no quorum of witnesses has seen it yet",
        "witnessed" => "in the broker's audit log, seen by a quorum of witnesses",
        _ => "promised for the broker's audit log, not found there yet",
    }
}

/// Attachments on their way.
pub(super) fn moves(transfer: &TransferView) -> String {
    let TransferView { direction, packet, done, total } = transfer;
    let way = match direction {
        Direction::Upload => "attachments go to the broker",
        Direction::Download => "attachments come from the broker",
    };
    let share = u128::from(*done) * 100 / u128::from(*total).max(1);
    format!("{way}: {share} % of {} MiB, packet {}", total.div_ceil(1 << 20), one_line(packet))
}

/// Where a packet stands.
pub(super) fn stands(standing: &Standing) -> String {
    match standing {
        Standing::Waiting { why: None, .. } => "waiting: no answer of the broker yet".to_owned(),
        Standing::Waiting { why: Some(why), again_ms } => {
            let again = again_ms.map(|ms| format!("; tried again {}", time(ms))).unwrap_or_default();
            format!("waiting: {}{again}", one_line(why))
        }
        Standing::AwaitingReview { until_ms } => {
            format!("WAITS FOR REVIEW, not sent: lintas review; it can be released until {}", time(*until_ms))
        }
        Standing::ReviewExpired { until_ms } => {
            format!("NOT SENT: nobody had reviewed it when its time ended {}", time(*until_ms))
        }
        Standing::ReleasedInReview { by, time_ms } => {
            format!("released in review by {} {}", one_line(by), time(*time_ms))
        }
        Standing::RefusedInReview { by, note, time_ms } => {
            let note = if note.is_empty() { String::new() } else { format!(": {}", one_line(note)) };
            format!("NOT SENT, refused in review by {} {}{note}", one_line(by), time(*time_ms))
        }
        Standing::Accepted { time_ms, log, index, clock_differs, in_part } => {
            let warning = if *clock_differs {
                "\n  WARNING: the broker's clock and this machine's differ by more than 5 minutes"
            } else {
                ""
            };
            let part = if *in_part { " IN PART (not every recipient gets it)" } else { "" };
            format!("accepted{part} {}, entry {index} of {}{warning}", time(*time_ms), one_line(log))
        }
        Standing::Refused { who, why, advice, signed, time_ms, .. } => {
            let signed = if *signed { ", signed by the broker" } else { ", not signed" };
            format!("REFUSED by {who} {}{signed}: {}; {advice}", time(*time_ms), one_line(why))
        }
    }
}

fn arrives(arrival: &Arrival) -> String {
    let Arrival { unit, state, time_ms, why, advice, .. } = arrival;
    let when = time_ms.map(|ms| format!(" {}", time(ms))).unwrap_or_default();
    let why = why.as_ref().map(|why| format!(": {}", one_line(why))).unwrap_or_default();
    let advice = advice.as_ref().map(|advice| format!("; {advice}")).unwrap_or_default();
    let state = match state.as_str() {
        "denied" => "NOT RELEASED".to_owned(),
        "not-accepted" => "NOT ACCEPTED".to_owned(),
        "withheld" => "WITHHELD".to_owned(),
        other => words(other),
    };
    format!("{unit}: {state}{when}{why}{advice}")
}

/// A body or label as an indented outline. Names of fields are the schema's, in words.
pub(super) fn outline(value: &Value, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) => {
            if let (Some(Value::String(text)), true) = (fields.get("text"), fields.contains_key("language")) {
                return spoken(fields, text, &indent);
            }
            fields.iter().map(|(name, value)| field(name, value, depth)).collect()
        }
        Value::Array(items) => items.iter().map(|item| item_of(item, depth)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            format!("{indent}{}\n", scalar("", value))
        }
    }
}

fn field(name: &str, value: &Value, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    let label = spaced(name);
    match value {
        Value::Object(_) => format!("{indent}{label}:\n{}", outline(value, depth + 1)),
        Value::Array(items) if items.iter().all(|item| !item.is_object() && !item.is_array()) => {
            let items: Vec<String> = items.iter().map(|item| scalar(name, item)).collect();
            format!("{indent}{label}: {}\n", items.join(", "))
        }
        Value::Array(_) => format!("{indent}{label}:\n{}", outline(value, depth + 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            format!("{indent}{label}: {}\n", scalar(name, value))
        }
    }
}

fn item_of(item: &Value, depth: usize) -> String {
    let inner = outline(item, depth + 1);
    let mark = format!("{}- ", "  ".repeat(depth));
    format!("{mark}{}", inner.trim_start_matches(' '))
}

/// A text with its language.
fn spoken(fields: &serde_json::Map<String, Value>, text: &str, indent: &str) -> String {
    let language = fields.get("language").and_then(Value::as_str).unwrap_or("?");
    let machine = fields.get("machineTranslated").is_some_and(|flag| *flag == Value::Bool(true));
    let note = if machine { ", translated by a machine" } else { "" };
    format!("{indent}[{}{note}] {}\n", one_line(language), printable(text))
}

fn scalar(name: &str, value: &Value) -> String {
    match value {
        Value::String(text) if name.ends_with("Ms") => text.parse().map_or_else(|_| printable(text), time),
        Value::String(text) => code(text).unwrap_or_else(|| printable(text)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            one_line(&value.to_string())
        }
    }
}

/// A code of the schema without what its enum puts before it: `PERSON_ROLE_SUSPECT` → `SUSPECT`. Capitals tell it
/// from what an officer wrote.
fn code(text: &str) -> Option<String> {
    let rest = CODE_PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix))?;
    let code = rest.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    code.then(|| rest.replace('_', " "))
}

/// `retainUntilMs` → `retain until`.
fn spaced(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for c in one_line(name.strip_suffix("Ms").unwrap_or(name)).chars() {
        if c.is_ascii_uppercase() {
            out.push(' ');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_body_reads_as_an_outline() {
        let body = json!({
            "format": 1,
            "title": [{ "language": "en", "text": "Trawler\u{1b}[2J\nTO: ALL" }],
            "urgency": "URGENCY_URGENT",
            "persons": [{ "id": 1, "role": "PERSON_ROLE_SUSPECT" }, { "id": 2 }],
            "dueMs": "0",
        });
        let text = outline(&body, 0);
        assert!(text.contains("- [en] Trawler\\u{1b}[2J\n    | TO: ALL\n"), "{text}");
        assert!(text.contains("urgency: URGENT\n"), "{text}");
        assert!(text.contains("due: 1970-01-01 00:00:00 UTC"), "{text}");
        assert!(text.contains("  - id: 1\n    role: SUSPECT\n  - id: 2\n"), "{text}");
    }
}
