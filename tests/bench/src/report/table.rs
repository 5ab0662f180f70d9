//! Rows for people.

use super::Row;

/// One line of the table.
pub(crate) fn line(row: &Row) -> String {
    let reference = row.reference.as_ref().map_or_else(String::new, |(name, value)| {
        let ratio = row.ratio().map_or_else(String::new, |ratio| format!("  x {ratio:.2}"));
        format!("  {name}: {}{ratio}", number(*value, row.unit))
    });
    let target = row.target_text().map_or_else(String::new, |target| {
        let mark = if row.holds() == Some(true) { "holds" } else { "MISSED" };
        format!("  [{target}: {mark}]")
    });
    let note = if row.note.is_empty() { String::new() } else { format!("  ({})", row.note) };
    format!("{:<36} {:>16}{reference}{target}{note}", row.scenario, number(row.value, row.unit))
}

/// A number with its unit, in a size that people read.
fn number(value: f64, unit: &str) -> String {
    let (value, unit) = match unit {
        "bytes" if value >= 1e6 => (value / 1e6, "MB"),
        "bytes" if value >= 1e3 => (value / 1e3, "kB"),
        "bytes/s" => (value / 1e6, "MB/s"),
        "us" if value >= 1e6 => (value / 1e6, "s"),
        "us" if value >= 1e4 => (value / 1e3, "ms"),
        unit => (value, unit),
    };
    let digits = if value.abs() >= 1_000.0 { 0 } else { 2 };
    format!("{value:.digits$} {unit}")
}
