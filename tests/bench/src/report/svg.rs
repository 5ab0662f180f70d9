//! Charts as SVG.

use super::Chart;

/// The chart as an SVG document.
pub(crate) fn draw(chart: &Chart) -> String {
    format!("<!-- {} -->", chart.title)
}
