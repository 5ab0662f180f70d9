//! Rows for people: a table for each scenario, with what must be known about its rows below it.

use std::io::IsTerminal as _;

use super::{Row, Target};

const HEADER: [&str; 6] = ["what", "value", "beside", "ratio", "target", "verdict"];
/// Letters of a line of a note.
const NOTE_WIDTH: usize = 100;
const DIM: &str = "\x1b[2m";
const GOOD: &str = "\x1b[32m";
const BAD: &str = "\x1b[1;31m";
const PLAIN: &str = "\x1b[0m";

/// Whether standard output shows colours: it is a terminal, and nobody asked for none (`NO_COLOR`).
pub(crate) fn colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && std::io::stdout().is_terminal()
}

/// The rows as an aligned table; empty without rows.
pub(crate) fn render(rows: &[Row], colour: bool) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let cells: Vec<[String; 6]> = rows.iter().map(|row| cells(row, widest_reference(rows))).collect();
    let mut widths = HEADER.map(str::len);
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = format!("\n{}\n", painted(&aligned(&HEADER.map(str::to_owned), widths), DIM, colour));
    for (row, cells) in rows.iter().zip(&cells) {
        let line = aligned(cells, widths);
        let paint = if row.holds() == Some(false) { BAD } else { GOOD };
        match line.strip_suffix(verdict(row)).filter(|_| !verdict(row).is_empty()) {
            Some(before) => out += &format!("{before}{}\n", painted(verdict(row), paint, colour)),
            None => out += &format!("{line}\n"),
        }
    }
    out + &notes(rows, colour)
}

fn painted(text: &str, paint: &str, colour: bool) -> String {
    if colour { format!("{paint}{text}{PLAIN}") } else { text.to_owned() }
}

/// Value and ratio stand at the right of their columns, everything else at the left.
fn aligned(cells: &[String; 6], widths: [usize; 6]) -> String {
    let place = |(at, cell): (usize, &String)| match at {
        1 | 3 => format!("{cell:>width$}", width = widths[at]),
        _ => format!("{cell:<width$}", width = widths[at]),
    };
    let line: Vec<String> = cells.iter().enumerate().map(place).collect();
    line.join("  ").trim_end().to_owned()
}

fn cells(row: &Row, widest: usize) -> [String; 6] {
    let beside = row
        .reference
        .as_ref()
        .map_or_else(String::new, |(name, value)| format!("{:>widest$}  {name}", number(*value, row.unit)));
    let ratio = row.ratio().map_or_else(String::new, |ratio| format!("{} x", grouped(ratio, 2)));
    let target = row.target.map_or_else(String::new, |target| match target {
        Target::RatioAtLeast(least) => format!(">= {least} x"),
        Target::RatioAtMost(most) => format!("<= {most} x"),
        Target::AtLeast(least) => format!(">= {}", number(least, row.unit)),
        Target::AtMost(most) => format!("<= {}", number(most, row.unit)),
    });
    [row.scenario.clone(), number(row.value, row.unit), beside, ratio, target, verdict(row).to_owned()]
}

fn widest_reference(rows: &[Row]) -> usize {
    let width = |row: &Row| Some(number(row.reference.as_ref()?.1, row.unit).chars().count());
    rows.iter().filter_map(width).max().unwrap_or(0)
}

fn verdict(row: &Row) -> &'static str {
    match row.holds() {
        Some(true) => "holds",
        Some(false) => "MISSED",
        None => "",
    }
}

/// Each note once, below the rows to which it belongs.
fn notes(rows: &[Row], colour: bool) -> String {
    let mut told: Vec<(&str, Vec<&str>)> = Vec::new();
    for row in rows.iter().filter(|row| !row.note.is_empty()) {
        match told.iter_mut().find(|(note, _)| *note == row.note) {
            Some((_, of)) => of.push(&row.scenario),
            None => told.push((&row.note, vec![&row.scenario])),
        }
    }
    told.into_iter()
        .map(|(note, of)| {
            let text = wrapped(&format!("{}: {note}", of.join(", ")));
            format!("{}\n", painted(&text, DIM, colour))
        })
        .collect()
}

fn wrapped(text: &str) -> String {
    let (mut out, mut length) = ("  ".to_owned(), 2);
    for word in text.split(' ') {
        let letters = word.chars().count() + 1;
        if length > 2 && length + letters > NOTE_WIDTH {
            out.push_str("\n    ");
            length = 4;
        } else if length > 2 {
            out.push(' ');
        }
        out.push_str(word);
        length += letters;
    }
    out
}

/// A number with its unit, in a size that people read.
fn number(value: f64, unit: &str) -> String {
    let (value, unit) = match unit {
        "bytes" if value >= 1e9 => (value / 1e9, "GB"),
        "bytes" if value >= 1e6 => (value / 1e6, "MB"),
        "bytes" if value >= 1e4 => (value / 1e3, "kB"),
        "bytes/s" => (value / 1e6, "MB/s"),
        "us" if value >= 1e6 => (value / 1e6, "s"),
        "us" if value >= 1e4 => (value / 1e3, "ms"),
        unit => (value, unit),
    };
    let digits = if value.abs() >= 1_000.0 || value.fract() == 0.0 { 0 } else { 2 };
    format!("{} {unit}", grouped(value, digits))
}

/// A number with a comma between thousands.
pub(super) fn grouped(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |rest| ("-", rest));
    let mut out = sign.to_owned();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) && digit.is_ascii_digit() {
            out.push(',');
        }
        out.push(digit);
    }
    if part.is_empty() { out } else { format!("{out}.{part}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        vec![
            Row::new("submit.8x64.accepts", 26_000.0, "1/s")
                .beside("bare reference", 32_500.0)
                .must_be(Target::RatioAtLeast(0.75))
                .note("1,900 bytes each"),
            Row::new("submit.8x64.peak", 80e6, "bytes").must_be(Target::AtMost(64e6)),
            Row::new("submit.8x64.latency.p50", 367.25, "us").note("1,900 bytes each"),
        ]
    }

    #[test]
    fn columns_are_aligned_and_a_note_is_said_once() {
        assert_eq!(
            render(&rows(), false),
            "\n\
             what                          value  beside                       ratio  target     verdict\n\
             submit.8x64.accepts      26,000 1/s  32,500 1/s  bare reference  0.80 x  >= 0.75 x  holds\n\
             submit.8x64.peak              80 MB                                      <= 64 MB   MISSED\n\
             submit.8x64.latency.p50   367.25 us\n  \
             submit.8x64.accepts, submit.8x64.latency.p50: 1,900 bytes each\n"
        );
        assert_eq!(render(&[], false), "");
    }

    #[test]
    fn colour_only_where_it_is_wanted() {
        assert!(!render(&rows(), false).contains('\x1b'));
        let coloured = render(&rows(), true);
        assert!(coloured.contains("\x1b[32mholds\x1b[0m") && coloured.contains("\x1b[1;31mMISSED\x1b[0m"));
        let plain = coloured.replace(DIM, "").replace(GOOD, "").replace(BAD, "").replace(PLAIN, "");
        assert_eq!(plain, render(&rows(), false));
    }

    #[test]
    fn numbers_are_in_a_size_that_people_read() {
        for (value, unit, text) in [
            (1_234_567.0, "1/s", "1,234,567 1/s"),
            (999.5, "1/s", "999.50 1/s"),
            (64e6, "bytes", "64 MB"),
            (4.2e9, "bytes", "4.20 GB"),
            (812_000_000.0, "bytes/s", "812 MB/s"),
            (12_345.0, "us", "12.35 ms"),
            (-1_234.0, "us", "-1,234 us"),
            (f64::NAN, "us", "NaN us"),
        ] {
            assert_eq!(number(value, unit), text);
        }
    }

    #[test]
    fn long_notes_are_wrapped() {
        let row = Row::new("a", 1.0, "1/s").note("word ".repeat(60).trim());
        let table = render(&[row], false);
        assert!(table.lines().all(|line| line.chars().count() <= NOTE_WIDTH + 1), "{table}");
        assert_eq!(table.matches("word").count(), 60);
    }
}
