//! Why a packet would go, or not: one row for each unit, one column for each layer. An agency that asks sees its own columns;
//! of the others it reads that they decide themselves.

use std::{collections::BTreeMap, fmt};

use lintas_proto::schema::{Member, UnitRef};
use serde::Serialize;

use super::{
    decide::{Decision, Denial, Layers},
    view::{Described, View, ViewError, listed, listed_unit, name, words},
};
use crate::policy::question::member;

/// What would become of it, as far as the asking agency decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It may go.
    Release,
    /// It may go once a person of the originator has looked at it.
    Review,
    /// It may not.
    Deny,
}

/// What one layer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The baseline: nothing against it.
    ForbidsNothing,
    /// A policy permits it.
    Permits,
    /// A policy permits it once a person has looked at it.
    Review,
    /// A policy forbids it, or could not be evaluated.
    Forbids,
    /// No policy permits it.
    NothingPermits,
    /// That agency decides, and nobody else knows.
    DecidesItself,
}

/// One layer's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cell {
    /// Whose layer, e.g. `baseline`, `release by TH`, `acceptance by KH`.
    pub layer: String,
    /// What it says.
    pub answer: Answer,
    /// By which policies.
    pub policies: Vec<String>,
}

/// One unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Who would receive it, e.g. `KH/KH-AHT`.
    pub unit: String,
    /// What the unit is called.
    pub name: String,
    /// What would become of it.
    pub outcome: Outcome,
    /// Who decided, in words.
    pub decided_by: String,
    /// By which policies.
    pub policies: Vec<String>,
    /// Why; part of a sentence.
    pub why: String,
    /// What to do; may be empty.
    pub advice: String,
    /// Who else decides, and has not been asked; may be empty.
    pub open: String,
    /// Each layer.
    pub layers: Vec<Cell>,
}

/// The matrix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Who asks.
    pub agency: String,
    /// Who would send it.
    pub from: String,
    /// The packet, in words.
    pub packet: String,
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// One for each unit that was asked about.
    pub rows: Vec<Row>,
}

/// Explains what would become of a packet at every unit of every active member, or at those of `only`. Of a packet of another
/// agency: at the own units.
///
/// # Errors
/// [`ViewError`]: names that the roster does not know, or a question that is none of this agency's.
pub fn explain(
    view: &View<'_>,
    packet: &Described,
    only: Option<(&str, Option<&str>)>,
) -> Result<Explanation, ViewError> {
    listed_unit(view.roster, &packet.originator)?;
    let from_us = packet.originator.agency == view.agency;
    let (agency, unit) = match only {
        Some((agency, unit)) => (Some(agency), unit),
        None => ((!from_us).then_some(view.agency), None),
    };
    let members: Vec<&Member> = match agency {
        Some(agency) => vec![listed(view.roster, agency)?],
        None => view.roster.members.iter().filter(|one| member(view.roster, &one.agency).is_some()).collect(),
    };
    if let (Some(agency), Some(unit)) = (agency, unit) {
        listed_unit(view.roster, &UnitRef { agency: agency.to_owned(), unit: unit.to_owned() })?;
    }
    let mut rows = Vec::new();
    for one in members {
        for known in one.units.iter().filter(|known| unit.is_none_or(|unit| known.unit == unit)) {
            let to = UnitRef { agency: one.agency.clone(), unit: known.unit.clone() };
            let layers = view.layers(&packet.originator, &to);
            let layers = layers.ok_or_else(|| ViewError::NotOurs(view.agency.to_owned()))?;
            rows.push(row(view, packet, &to, known.name.clone(), layers));
        }
    }
    Ok(Explanation {
        agency: view.agency.to_owned(),
        from: name(&packet.originator),
        packet: words(packet),
        at_ms: view.now_ms,
        rows,
    })
}

/// The decision is the first denial in the order in which the broker asks: baseline, release, acceptance.
fn row(view: &View<'_>, packet: &Described, to: &UnitRef, title: String, layers: Layers) -> Row {
    let question = packet.question(to, view.now_ms);
    let (from, us) = (&packet.originator.agency, view.agency);
    let mut cells = Vec::with_capacity(3);
    let region = view.region_denies(&question);
    cells.push(match &region {
        Some(denial) => cell("baseline".to_owned(), Answer::Forbids, vec![denial.policy_id.clone()]),
        None => cell("baseline".to_owned(), Answer::ForbidsNothing, Vec::new()),
    });
    let sides = [
        (Layers::Release, layers != Layers::Accept, format!("release by {from}")),
        (Layers::Accept, layers != Layers::Release, format!("acceptance by {}", to.agency)),
    ];
    let mut decisions: Vec<Decision> = region.map(Decision::Deny).into_iter().collect();
    for (layer, ours, title) in sides {
        if ours {
            let decision = view.own_says(&question, layer);
            cells.push(said(title, &decision, layer));
            decisions.push(decision);
        } else {
            cells.push(cell(title, Answer::DecidesItself, Vec::new()));
        }
    }
    let open = match layers {
        Layers::All => String::new(),
        Layers::Release => format!("{} decides itself whether it accepts it", to.agency),
        Layers::Accept => format!("{from} decides itself whether it releases it"),
    };
    let denied = decisions.iter().find_map(|decision| match decision {
        Decision::Deny(denial) => Some(denial),
        Decision::Release(_) | Decision::Review(_) => None,
    });
    let row = Row {
        unit: name(to),
        name: title,
        outcome: Outcome::Release,
        decided_by: format!("the policy of {us}"),
        policies: Vec::new(),
        why: String::new(),
        advice: String::new(),
        open,
        layers: cells,
    };
    match denied {
        Some(denial) => refused(row, denial, denial.decider(&question)),
        None => let_through(row, view, &decisions),
    }
}

fn refused(row: Row, denial: &Denial, decided_by: String) -> Row {
    Row {
        outcome: Outcome::Deny,
        decided_by,
        policies: vec![denial.policy_id.clone()],
        why: denial.why.clone(),
        advice: denial.advice.clone(),
        open: String::new(),
        ..row
    }
}

fn let_through(row: Row, view: &View<'_>, decisions: &[Decision]) -> Row {
    let (mut outcome, mut policies) = (Outcome::Release, Vec::new());
    for decision in decisions {
        match decision {
            Decision::Release(allowed) => {
                policies.extend(allowed.released_by.iter().chain(&allowed.accepted_by).cloned());
            }
            Decision::Review(allowed) => {
                outcome = Outcome::Review;
                policies.splice(0..0, allowed.review_by.iter().chain(&allowed.released_by).cloned());
            }
            Decision::Deny(_) => {}
        }
    }
    let why: Vec<&str> = policies.iter().filter_map(|id| reason(view, id)).collect();
    let advice = match outcome {
        Outcome::Review => format!("a person of {} must look at it before it goes", view.agency),
        Outcome::Release | Outcome::Deny => String::new(),
    };
    Row { outcome, why: why.join("; "), policies, advice, ..row }
}

fn reason<'a>(view: &View<'a>, id: &str) -> Option<&'a str> {
    if id == super::decide::REVIEW_H3 {
        return Some("the label says H3");
    }
    view.own?.policies().find(|told| told.id == id).map(|told| told.reason.as_str())
}

fn cell(layer: String, answer: Answer, policies: Vec<String>) -> Cell {
    Cell { layer, answer, policies }
}

fn said(title: String, decision: &Decision, layer: Layers) -> Cell {
    match decision {
        Decision::Release(allowed) | Decision::Review(allowed) if layer == Layers::Accept => {
            cell(title, Answer::Permits, allowed.accepted_by.clone())
        }
        Decision::Release(allowed) => cell(title, Answer::Permits, allowed.released_by.clone()),
        Decision::Review(allowed) => {
            let ids = allowed.review_by.iter().chain(&allowed.released_by).cloned().collect();
            cell(title, Answer::Review, ids)
        }
        Decision::Deny(denial) => {
            let nothing = denial.policy_id.ends_with(super::decide::NOTHING_RELEASES)
                || denial.policy_id.ends_with(super::decide::NOTHING_ACCEPTS);
            let answer = if nothing { Answer::NothingPermits } else { Answer::Forbids };
            cell(title, answer, vec![denial.policy_id.clone()])
        }
    }
}

impl Outcome {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Release => "goes",
            Self::Review => "waits for review",
            Self::Deny => "does not go",
        }
    }
}

impl Answer {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::ForbidsNothing => "forbids nothing",
            Self::Permits => "permits",
            Self::Review => "permits after review",
            Self::Forbids => "forbids",
            Self::NothingPermits => "nothing permits it",
            Self::DecidesItself => "decides itself",
        }
    }
}

/// A table, and below it every reason once.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "From {}: {}", self.from, self.packet)?;
        let mut table = vec![["to", "", "baseline", "release", "acceptance"].map(str::to_owned).to_vec()];
        for row in &self.rows {
            let cells = row.layers.iter().map(|cell| match cell.policies.first() {
                Some(id) => format!("{} ({id})", cell.answer.words()),
                None => cell.answer.words().to_owned(),
            });
            let lead = [row.unit.clone(), row.outcome.words().to_owned()];
            table.push(lead.into_iter().chain(cells).collect());
        }
        let width = |at: usize| {
            table.iter().filter_map(|line| line.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        for line in &table {
            let cells: Vec<String> =
                line.iter().enumerate().map(|(at, cell)| format!("{cell:<0$}", width(at))).collect();
            writeln!(f, "{}", cells.join("  ").trim_end())?;
        }
        let mut reasons: BTreeMap<(Outcome, &str, String), Vec<&str>> = BTreeMap::new();
        for row in &self.rows {
            let policies = row.policies.join(", ");
            // Where several units fare alike, they stand in front.
            let why = row.why.replace(&format!(" to {}", row.unit.replacen('/', " / ", 1)), "");
            let mut said = format!("{why} (policy {policies})");
            for more in [&row.advice, &row.open].into_iter().filter(|more| !more.is_empty()) {
                said = format!("{said}. {}", capital(more));
            }
            reasons.entry((row.outcome, &row.decided_by, said)).or_default().push(&row.unit);
        }
        for ((outcome, by, said), units) in reasons {
            writeln!(f, "\n{}: {}.\n  {}: {said}.", units.join(", "), outcome.words(), capital(by))?;
        }
        Ok(())
    }
}

/// The same with a capital first letter.
pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests;
