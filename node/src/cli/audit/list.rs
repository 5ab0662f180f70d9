//! `lintas audit list`: events, in order of time, page by page.

use clap::Args;

use super::{Auditor, From, agencies, words};
use crate::{
    core::{
        audit::{
            listing::{Cursor, Filter, Page, Row, list},
            packets::name,
        },
        text::one_line,
    },
    shell::{
        clock::{self, show as time},
        failure::{Code, Failure},
    },
};

/// Which events.
#[derive(Args)]
pub(super) struct Wanted {
    /// Sub-log of this agency; as often as there are agencies. Without it: all that are there.
    #[arg(long = "agency", value_name = "AGENCY")]
    pub(super) agencies: Vec<String>,
    /// From that day (2026-11-01, UTC) or moment (2026-11-01T12:00:00Z) on.
    #[arg(long, value_name = "DATE")]
    since: Option<String>,
    /// Before that day or moment.
    #[arg(long, value_name = "DATE")]
    until: Option<String>,
    /// Events of this kind, e.g. released; as often as there are kinds.
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<String>,
    /// Events with this outcome, e.g. accepted or policy; as often as there are outcomes.
    #[arg(long = "outcome", value_name = "OUTCOME")]
    outcomes: Vec<String>,
    /// Events of this packet: its id, or the first digits of its id or header digest.
    #[arg(long, value_name = "ID")]
    packet: Option<String>,
    /// Events in which this agency is on the other side.
    #[arg(long, value_name = "AGENCY")]
    with: Option<String>,
}

/// Options of `list`.
#[derive(Args)]
pub(super) struct List {
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    wanted: Wanted,
    /// At most so many events.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Go on behind the last page: what it gave as its next one.
    #[arg(long, value_name = "CURSOR")]
    page: Option<String>,
    /// The oldest first.
    #[arg(long)]
    oldest_first: bool,
    /// As CSV (RFC 4180), for a spreadsheet.
    #[arg(long)]
    csv: bool,
}

impl Wanted {
    /// The filter.
    pub(super) fn filter(&self) -> Result<Filter, Failure> {
        let moment = |text: &Option<String>, option: &str| {
            let read = |text: &String| {
                clock::read(text).ok_or_else(|| {
                    let message = format!(
                        "{option} needs a day, e.g. 2026-11-01, or a moment, e.g. 2026-11-01T12:00:00Z"
                    );
                    Failure::new(Code::Usage, message)
                })
            };
            text.as_ref().map(read).transpose()
        };
        let small = |texts: &[String]| -> Vec<String> {
            texts.iter().map(|text| text.to_lowercase().replace(['-', ' '], "_")).collect()
        };
        let kinds = small(&self.kinds);
        let known: Vec<String> = (1..=18).map(name).collect();
        if let Some(unknown) = kinds.iter().find(|kind| !known.contains(kind)) {
            let message =
                format!("there is no kind `{}`; there are: {}", one_line(unknown), known.join(", "));
            return Err(Failure::new(Code::Usage, message));
        }
        Ok(Filter {
            since_ms: moment(&self.since, "--since")?,
            until_ms: moment(&self.until, "--until")?,
            kinds,
            outcomes: small(&self.outcomes),
            packet: self.packet.as_ref().map(|packet| packet.to_lowercase()),
            with: self.with.clone(),
        })
    }
}

/// Lists.
pub(super) fn run(auditor: &Auditor, asked: &List) -> Result<(), Failure> {
    let place = auditor.place(&asked.from)?;
    let scope = agencies(&place, &asked.wanted.agencies)?;
    let anchor = auditor.anchor(&place)?;
    let filter = asked.wanted.filter()?;
    let cursor = asked.page.as_deref().map(|page| {
        Cursor::parse(page).ok_or_else(|| {
            Failure::new(Code::Usage, "--page needs what the page before gave as its next one")
        })
    });
    let cursor = cursor.transpose()?;
    let limit = usize::try_from(asked.limit).unwrap_or(usize::MAX);
    let page = list(&place.files, &anchor, &scope, &filter, (cursor.as_ref(), asked.oldest_first, limit));
    if asked.csv {
        use std::io::Write as _;
        let _ = std::io::stdout().write_all(csv(&page.events).as_bytes());
        return Ok(());
    }
    auditor.print(&page, |page| table(page, &asked.from))
}

fn table(page: &Page, from: &From) -> String {
    let mut out = String::new();
    for row in &page.events {
        out.push_str(&format!(
            "{}  {}#{}  {}\n",
            time(row.time_ms),
            row.agency,
            row.index,
            words::event(row)
        ));
    }
    if page.events.is_empty() {
        out.push_str("no such events\n");
    }
    if let Some(next) = &page.next {
        out.push_str(&format!("there are more: --page {next}\n"));
    }
    page.findings.iter().for_each(|found| out.push_str(&words::finding(found)));
    let where_ = from.from.as_deref().map_or(String::new(), |from| format!(" --from {}", super::shown(from)));
    out.push_str(&format!("not verified by this command: lintas audit verify{where_}\n"));
    out
}

const COLUMNS: [&str; 16] = [
    "agency",
    "index",
    "time_utc",
    "time_ms",
    "kind",
    "outcome",
    "packet_id",
    "header_digest",
    "from",
    "to",
    "policies",
    "first_index",
    "count",
    "opening",
    "event_id",
    "text",
];

/// RFC 4180: CRLF, a cell in quotes where it needs them.
pub(super) fn csv(rows: &[Row]) -> String {
    let mut out = format!("{}\r\n", COLUMNS.join(","));
    for row in rows {
        let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
        let utc = i64::try_from(row.time_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        let cells = [
            row.agency.clone(),
            row.index.to_string(),
            utc.map(|utc| utc.to_string()).unwrap_or_default(),
            row.time_ms.to_string(),
            row.kind.clone(),
            row.outcome.clone(),
            row.packet_id.clone(),
            row.header_digest.clone(),
            row.from.clone(),
            row.to.clone(),
            row.policies.join(" "),
            number(row.first_index),
            number(row.count),
            row.opening.to_owned(),
            row.event_id.clone(),
            row.text.clone(),
        ];
        let cells: Vec<String> = cells.iter().map(|text| cell(text)).collect();
        out.push_str(&format!("{}\r\n", cells.join(",")));
    }
    out
}

/// A cell that no spreadsheet takes for a formula, whatever the broker wrote.
fn cell(text: &str) -> String {
    let text = one_line(text);
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if formula { format!("'{text}") } else { text };
    if text.contains(['"', ',', '\n', '\r']) || formula {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula_or_breaks_its_row() {
        for (text, safe) in [
            ("=HYPERLINK(\"x\")", "\"'=HYPERLINK(\"\"x\"\")\""),
            ("+1", "\"'+1\""),
            ("-1", "\"'-1\""),
            ("@x", "\"'@x\""),
            ("a,b", "\"a,b\""),
            ("a\r\nb", "a\\u{d}\\u{a}b"),
            ("TH / TH-MAR", "TH / TH-MAR"),
            ("", ""),
        ] {
            assert_eq!(cell(text), safe);
        }
    }
}
