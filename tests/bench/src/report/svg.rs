//! Charts as SVG: self-contained, without script, readable on white and in dark mode.

mod axis;

use std::fmt::Write as _;

use axis::{Axis, label};

use super::{Bars, Chart, Line, table::grouped};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
/// Of the plot itself: left, top, bottom.
const LEFT: f64 = 64.0;
const TOP: f64 = 78.0;
const BOTTOM: f64 = HEIGHT - 52.0;
/// About how wide a letter of the small text is, and a bold one.
const LETTER: f64 = 7.1;
const BOLD: f64 = 8.2;
/// How far names beside the ends of lines stand apart at least.
const NAMES_APART: f64 = 17.0;
/// A line with more points than this is drawn without them.
const POINTS_MAX: usize = 100;
/// Of one bar, with the space below it.
const BAR: f64 = 40.0;
/// A bar with such a name is ours.
const OURS: &str = "Lintas";

/// Colours that colour-blind readers tell apart; the lighter ones on dark.
const STYLE: &str = "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;font-size:13px;fill:#3d4451}\
.title{font-size:17px;font-weight:600;fill:#14171c}.value{font-weight:600;fill:#14171c}.back{fill:#fff}\
.grid{stroke:#e3e6eb}.axis{stroke:#8a92a0}.c0{color:#0067b1}.c1{color:#c8500a}.c2{color:#00805a}.c3{color:#a8478d}\
.c4{color:#7a6200}.c5{color:#5b6472}.name{fill:currentColor;font-weight:600}\
@media(prefers-color-scheme:dark){text{fill:#b4bcc8}.title,.value{fill:#f1f3f6}.back{fill:#14171c}.grid{stroke:#2b313b}\
.axis{stroke:#6b7483}.c0{color:#5cb3ff}.c1{color:#ff9a56}.c2{color:#3fd0a0}.c3{color:#e993d1}.c4{color:#dcc04a}\
.c5{color:#9aa4b2}.name{fill:currentColor}}";
const COLOURS: usize = 6;

/// The chart as an SVG document.
pub(crate) fn draw(chart: &Chart) -> String {
    let names = chart.lines.iter().map(|line| line.name.chars().count()).max().unwrap_or(0);
    let right = WIDTH - (names as f64 * BOLD + 34.0).min(WIDTH / 2.5);
    let points = || chart.lines.iter().flat_map(|line| &line.points);
    let plot = Plot {
        x: Axis::new(points().map(|point| point.0), chart.x.1),
        y: Axis::new(points().map(|point| point.1), chart.y.1),
        right,
    };
    let mut body = plot.frame(chart);
    let mut ends = Vec::new();
    for (number, line) in chart.lines.iter().enumerate() {
        let places: Vec<(f64, f64)> = line.points.iter().filter_map(|point| plot.place(*point)).collect();
        let _ = write!(body, "<g class=\"c{}\">", number % COLOURS);
        body.push_str(&drawn(&places));
        body.push_str("</g>\n");
        if let Some(end) = places.last() {
            ends.push((number, *end));
        }
    }
    body.push_str(&plot.names(&chart.lines, ends));
    document(&chart.title, &described(chart), HEIGHT, &body)
}

/// Horizontal bars as an SVG document, in the order in which they are given.
pub(crate) fn bars(bars: &Bars) -> String {
    let names = bars.bars.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let left = (names as f64 * LETTER + 40.0).min(WIDTH / 2.0);
    let most =
        bars.bars.iter().map(|(_, value)| *value).filter(|value| value.is_finite()).fold(0.0, f64::max);
    let room = WIDTH - left - 110.0;
    let mut body = String::new();
    for (number, (name, value)) in bars.bars.iter().enumerate() {
        let (top, colour) = (58.0 + number as f64 * BAR, if name.starts_with(OURS) { 0 } else { 5 });
        let part = if most > 0.0 { (value / most).clamp(0.0, 1.0) } else { 0.0 };
        let (length, middle) = (if part.is_finite() { part * room } else { 0.0 }, top + BAR / 2.0 - 2.0);
        let _ = writeln!(
            body,
            "<text x=\"{:.1}\" y=\"{middle:.1}\" text-anchor=\"end\"{}>{}</text><rect class=\"c{colour}\" x=\"{left:.1}\" \
             y=\"{:.1}\" width=\"{length:.1}\" height=\"{:.1}\" rx=\"3\" fill=\"currentColor\"/><text class=\"value\" \
             x=\"{:.1}\" y=\"{middle:.1}\">{}</text>",
            left - 12.0,
            if colour == 0 { " class=\"value\"" } else { "" },
            escaped(name),
            top + 2.0,
            BAR - 14.0,
            left + length + 10.0,
            amount(*value),
        );
    }
    let _ = writeln!(
        body,
        "<text x=\"{}\" y=\"28\" text-anchor=\"end\">{}</text>",
        WIDTH - 24.0,
        escaped(bars.unit)
    );
    let each = |(name, value): &(String, f64)| format!("{name}: {} {}", amount(*value), bars.unit);
    let told: Vec<String> = bars.bars.iter().map(each).collect();
    document(&bars.title, &told.join("; "), 74.0 + bars.bars.len() as f64 * BAR, &body)
}

/// The two axes and where the plot ends on the right.
struct Plot {
    x: Axis,
    y: Axis,
    right: f64,
}

impl Plot {
    fn place(&self, (x, y): (f64, f64)) -> Option<(f64, f64)> {
        Some((LEFT + self.x.place(x)? * (self.right - LEFT), BOTTOM - self.y.place(y)? * (BOTTOM - TOP)))
    }

    /// Grid, ticks and what the axes are called.
    fn frame(&self, chart: &Chart) -> String {
        let mut out = String::new();
        for (tick, place) in self.y.ticks.iter().filter_map(|tick| Some((tick, self.y.place(*tick)?))) {
            let y = BOTTOM - place * (BOTTOM - TOP);
            let _ = writeln!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text x=\"{}\" y=\"{:.1}\" \
                 text-anchor=\"end\">{}</text>",
                self.right,
                LEFT - 9.0,
                y + 4.5,
                label(*tick),
            );
        }
        for (tick, place) in self.x.ticks.iter().filter_map(|tick| Some((tick, self.x.place(*tick)?))) {
            let x = LEFT + place * (self.right - LEFT);
            let _ = writeln!(
                out,
                "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{BOTTOM}\" y2=\"{}\"/><text x=\"{x:.1}\" y=\"{}\" \
                 text-anchor=\"middle\">{}</text>",
                BOTTOM + 5.0,
                BOTTOM + 20.0,
                label(*tick),
            );
        }
        let _ = writeln!(
            out,
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{BOTTOM}\" y2=\"{BOTTOM}\"/><text x=\"{:.1}\" y=\"{}\" \
             text-anchor=\"middle\">{}</text><text x=\"24\" y=\"56\">{}</text>",
            self.right,
            f64::midpoint(LEFT, self.right),
            HEIGHT - 12.0,
            axis_name(chart.x),
            axis_name(chart.y),
        );
        out
    }

    /// The names of the lines beside their ends, in the lines' colours: a legend that needs no looking up.
    fn names(&self, lines: &[Line], mut ends: Vec<(usize, (f64, f64))>) -> String {
        ends.sort_by(|a, b| a.1.1.total_cmp(&b.1.1));
        let mut places: Vec<f64> = ends.iter().map(|end| end.1.1).collect();
        for at in 1..places.len() {
            places[at] = places[at].max(places[at - 1] + NAMES_APART);
        }
        // What was pushed below the axis goes up again, and pushes.
        let mut lowest = BOTTOM;
        for place in places.iter_mut().rev() {
            *place = place.min(lowest);
            lowest = *place - NAMES_APART;
        }
        let mut out = String::new();
        for ((number, _), place) in ends.iter().zip(places) {
            let (class, x) = (number % COLOURS, self.right + 14.0);
            let _ = writeln!(
                out,
                "<g class=\"c{class}\"><circle cx=\"{x:.1}\" cy=\"{place:.1}\" r=\"4\" fill=\"currentColor\"/><text \
                 class=\"name\" x=\"{:.1}\" y=\"{:.1}\">{}</text></g>",
                x + 9.0,
                place + 4.5,
                escaped(&lines[*number].name),
            );
        }
        out
    }
}

/// A line with its points.
fn drawn(places: &[(f64, f64)]) -> String {
    let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let mut out = format!(
        "<polyline points=\"{}\" fill=\"none\" stroke=\"currentColor\" stroke-width=\"2.5\" stroke-linejoin=\"round\"/>",
        path.join(" "),
    );
    if places.len() <= POINTS_MAX {
        for (x, y) in places {
            let _ = write!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"currentColor\"/>");
        }
    }
    out
}

fn axis_name((name, logarithmic): (&str, bool)) -> String {
    format!("{}{}", escaped(name), if logarithmic { " (logarithmic)" } else { "" })
}

/// What a reader who does not see the chart is told.
fn described(chart: &Chart) -> String {
    let each = |line: &Line| {
        let point = |(x, y): &(f64, f64)| format!("{} at {}", label(*y), label(*x));
        let ends: Vec<String> =
            [line.points.first(), line.points.last()].into_iter().flatten().map(point).collect();
        format!(
            "{}: {}",
            line.name,
            if ends.is_empty() { "no points".to_owned() } else { ends.join(", then ") }
        )
    };
    let lines: Vec<String> = chart.lines.iter().map(each).collect();
    format!("{} over {}. {}", chart.y.0, chart.x.0, lines.join("; "))
}

fn document(title: &str, described: &str, height: f64, body: &str) -> String {
    let (title, described) = (escaped(title), escaped(described));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" aria-labelledby=\"title description\">\n<title id=\"title\">{title}</title>\n\
         <desc id=\"description\">{described}</desc>\n<style>{STYLE}</style>\n\
         <rect class=\"back\" width=\"{WIDTH}\" height=\"{height}\" rx=\"8\"/>\n\
         <text class=\"title\" x=\"24\" y=\"30\">{title}</text>\n{body}</svg>\n"
    )
}

/// A value beside its bar.
fn amount(value: f64) -> String {
    grouped(value, if value.abs() < 10.0 { 2 } else { 0 })
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML has no control characters.
            letter if letter.is_control() => out.push(' '),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests;
