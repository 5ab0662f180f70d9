//! What a scenario found: rows, and lines of charts.

pub(crate) mod svg;
pub(crate) mod table;

use serde::Serialize;

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Target {
    /// Value divided by the reference's.
    RatioAtLeast(f64),
    /// Value divided by the reference's.
    RatioAtMost(f64),
    /// The value itself.
    AtLeast(f64),
    /// The value itself.
    AtMost(f64),
}

/// One row: a value, if there is one beside what it is compared with, and what must hold.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    /// What was measured, from the general to the special: `submit.8x64.accepts`.
    pub(crate) scenario: String,
    pub(crate) value: f64,
    /// `1/s`, `us`, `bytes`, `bytes/s`, ...
    pub(crate) unit: &'static str,
    /// What it is compared with, and that one's value in the same unit.
    pub(crate) reference: Option<(String, f64)>,
    pub(crate) target: Option<Target>,
    /// What a reader must know to judge the number, e.g. what a peer guarantees.
    pub(crate) note: String,
}

impl Row {
    /// A value without anything beside it.
    pub(crate) fn new(scenario: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { scenario: scenario.into(), value, unit, reference: None, target: None, note: String::new() }
    }

    /// Beside `reference`, measured in the same run.
    pub(crate) fn beside(mut self, reference: impl Into<String>, value: f64) -> Self {
        self.reference = Some((reference.into(), value));
        self
    }

    pub(crate) fn must_be(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// Value divided by the reference's.
    pub(crate) fn ratio(&self) -> Option<f64> {
        self.reference.as_ref().filter(|(_, value)| *value != 0.0).map(|(_, value)| self.value / value)
    }

    /// Whether the target holds; none without a target. A ratio that cannot be made does not hold.
    pub(crate) fn holds(&self) -> Option<bool> {
        let ratio = self.ratio();
        self.target.map(|target| match target {
            Target::RatioAtLeast(least) => ratio.is_some_and(|ratio| ratio >= least),
            Target::RatioAtMost(most) => ratio.is_some_and(|ratio| ratio <= most),
            Target::AtLeast(least) => self.value >= least,
            Target::AtMost(most) => self.value <= most,
        })
    }

    /// The target in words: `ratio >= 0.75`, `<= 64000000`.
    pub(crate) fn target_text(&self) -> Option<String> {
        self.target.map(|target| match target {
            Target::RatioAtLeast(least) => format!("ratio >= {least}"),
            Target::RatioAtMost(most) => format!("ratio <= {most}"),
            Target::AtLeast(least) => format!(">= {least}"),
            Target::AtMost(most) => format!("<= {most}"),
        })
    }

    /// One line of JSON.
    pub(crate) fn json(&self) -> String {
        #[derive(Serialize)]
        struct Line<'a> {
            scenario: &'a str,
            value: f64,
            unit: &'a str,
            reference: Option<&'a str>,
            reference_value: Option<f64>,
            ratio: Option<f64>,
            target: Option<String>,
            holds: Option<bool>,
            #[serde(skip_serializing_if = "str::is_empty")]
            note: &'a str,
        }
        let line = Line {
            scenario: &self.scenario,
            value: self.value,
            unit: self.unit,
            reference: self.reference.as_ref().map(|(name, _)| name.as_str()),
            reference_value: self.reference.as_ref().map(|(_, value)| *value),
            ratio: self.ratio(),
            target: self.target_text(),
            holds: self.holds(),
            note: &self.note,
        };
        serde_json::to_string(&line).unwrap()
    }
}

/// A chart: lines over a common axis.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Chart {
    /// File name without ending: `latency`.
    pub(crate) file: &'static str,
    pub(crate) title: String,
    /// Name and unit of the axis below, and whether it is logarithmic.
    pub(crate) x: (&'static str, bool),
    /// Name and unit of the axis on the left, and whether it is logarithmic.
    pub(crate) y: (&'static str, bool),
    pub(crate) lines: Vec<Line>,
}

/// A line of a chart.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Values beside each other, as horizontal bars; those whose names begin with `Lintas` stand out.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(
    not(feature = "peers"),
    allow(dead_code, reason = "what is drawn so is measured with the feature only")
)]
pub(crate) struct Bars {
    /// File name without ending: `peers`.
    pub(crate) file: &'static str,
    pub(crate) title: String,
    pub(crate) unit: &'static str,
    /// Names and values, from the top down.
    pub(crate) bars: Vec<(String, f64)>,
}

/// What a scenario found.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) rows: Vec<Row>,
    pub(crate) charts: Vec<Chart>,
    pub(crate) bars: Vec<Bars>,
}

impl From<Vec<Row>> for Outcome {
    fn from(rows: Vec<Row>) -> Self {
        Self { rows, ..Self::default() }
    }
}
