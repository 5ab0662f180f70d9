//! Who could receive: of a label of which only part is known, for which units at least one packet would be let go. What is
//! open is tried out, up to a bound; who was not found may still be found with another label, and the answer says so.

use std::{collections::BTreeMap, fmt};

use lintas_proto::schema::{
    Caveat, Classification, DataCategory, HandlingCode, Kind, Offence, Onward, Purpose, Tlp, UnitRef,
};
use serde::Serialize;

use super::{
    decide::Decision,
    explain::Outcome,
    question::member,
    space::{KINDS, Turn, combinations, neutral, turned},
    view::{Described, View, ViewError, listed_unit, name, words},
};

/// Most questions of one answer.
pub const QUESTIONS_MAX: usize = 10_000;

/// A label of which part is known: `None` is open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Partial {
    /// What it is.
    pub kind: Option<Kind>,
    /// TLP.
    pub tlp: Option<Tlp>,
    /// Handling codes.
    pub handling: Option<Vec<HandlingCode>>,
    /// Caveats.
    pub caveats: Option<Vec<Caveat>>,
    /// Agencies of REL_TO; only with that caveat.
    pub rel_to: Vec<String>,
    /// The marking; `Some(None)` for none.
    pub classification: Option<Option<Classification>>,
    /// Purposes.
    pub purposes: Option<Vec<Purpose>>,
    /// Offences.
    pub offences: Option<Vec<Offence>>,
    /// Data.
    pub data: Option<Vec<DataCategory>>,
    /// Whether it may be passed on.
    pub onward: Option<Onward>,
    /// Whether the sender names the unit.
    pub named: Option<bool>,
    /// Whether a person has reviewed it.
    pub reviewed: bool,
}

/// One unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnitCould {
    /// E.g. `KH/KH-AHT`.
    pub unit: String,
    /// The best that was found.
    pub outcome: Outcome,
    /// A packet that would go, in words; empty if none was found.
    pub example: String,
    /// What decided about it; if none was found, what refused most often.
    pub policies: Vec<String>,
    /// Why it was refused; empty if one was found.
    pub why: String,
    /// How many packets were tried.
    pub tried: usize,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Could {
    /// Who asks.
    pub agency: String,
    /// Every unit of every active member.
    pub units: Vec<UnitCould>,
    /// Whether more could have been tried.
    pub cut_off: bool,
    /// Whether anything of the label was open.
    pub open: bool,
}

/// For which units of the region at least one packet of `originator`, a unit of the asking agency, would be let go.
///
/// # Errors
/// [`ViewError`].
pub fn who_could_receive(
    view: &View<'_>,
    originator: &UnitRef,
    partial: &Partial,
) -> Result<Could, ViewError> {
    listed_unit(view.roster, originator)?;
    if originator.agency != view.agency {
        return Err(ViewError::NotOurs(view.agency.to_owned()));
    }
    let turns: Vec<Turn> =
        Turn::every(view.roster, view.agency).into_iter().filter(|turn| partial.leaves_open(turn)).collect();
    let told: Vec<&str> =
        view.own.iter().flat_map(|own| own.policies()).map(|told| told.text.as_str()).collect();
    let combinations = combinations(&turns, &told, &[]);
    let kinds = partial.kind.map_or(KINDS.to_vec(), |kind| vec![kind]);
    let active = view.roster.members.iter().filter(|one| member(view.roster, &one.agency).is_some());
    let units: Vec<UnitRef> = active
        .flat_map(|one| {
            one.units.iter().map(|unit| UnitRef { agency: one.agency.clone(), unit: unit.unit.clone() })
        })
        .collect();
    let each = QUESTIONS_MAX.checked_div(units.len()).unwrap_or(1).max(1);
    let mut could = Could {
        agency: view.agency.to_owned(),
        units: Vec::with_capacity(units.len()),
        cut_off: false,
        open: partial.kind.is_none() || !turns.is_empty(),
    };
    for to in &units {
        let all = combinations.iter().flat_map(|turns| kinds.iter().map(move |kind| (*kind, turns)));
        let packets = all.map(|(kind, turns)| {
            let base = partial.fix(neutral(view.roster, originator, to, kind));
            turned(view.roster, to, base, turns)
        });
        let tried = try_out(view, to, packets.take(each));
        let wanted = tried.outcome == Outcome::Release;
        could.cut_off |= !wanted && combinations.len().saturating_mul(kinds.len()) > each;
        could.units.push(tried);
    }
    Ok(could)
}

/// The first that goes; failing that, the first that waits for review; failing that, what refused most often.
fn try_out(view: &View<'_>, to: &UnitRef, packets: impl Iterator<Item = Described>) -> UnitCould {
    let mut refused: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let mut best = UnitCould {
        unit: name(to),
        outcome: Outcome::Deny,
        example: String::new(),
        policies: Vec::new(),
        why: String::new(),
        tried: 0,
    };
    for packet in packets {
        best.tried += 1;
        let question = packet.question(to, view.now_ms);
        let Some(layers) = view.layers(&packet.originator, to) else { continue };
        match view.seen(&question, layers) {
            Decision::Release(allowed) => {
                let policies = allowed.released_by;
                return UnitCould { outcome: Outcome::Release, example: words(&packet), policies, ..best };
            }
            Decision::Review(allowed) if best.outcome == Outcome::Deny => {
                (best.outcome, best.example) = (Outcome::Review, words(&packet));
                best.policies = allowed.review_by;
            }
            Decision::Review(_) => {}
            Decision::Deny(denial) => {
                refused.entry(denial.policy_id).or_insert((0, denial.why)).0 += 1;
            }
        }
    }
    if best.outcome == Outcome::Deny
        && let Some((id, (_, why))) = refused.into_iter().max_by_key(|(_, (count, _))| *count)
    {
        (best.policies, best.why) = (vec![id], why);
    }
    best
}

impl Partial {
    fn leaves_open(&self, turn: &Turn) -> bool {
        match turn {
            Turn::Offence(_) => self.offences.is_none(),
            Turn::Data(_) => self.data.is_none(),
            Turn::Purpose(_) => self.purposes.is_none(),
            Turn::Tlp(_) => self.tlp.is_none(),
            Turn::Handling(_) => self.handling.is_none(),
            Turn::Caveat(_) | Turn::RelTo(_) => self.caveats.is_none(),
            Turn::Marking(..) => self.classification.is_none(),
            Turn::Onward(_) => self.onward.is_none(),
            Turn::Unnamed => self.named.is_none(),
            Turn::Relayed(_) => false,
        }
    }

    /// What is known, put into a packet.
    fn fix(&self, mut packet: Described) -> Described {
        fn put<W: Copy + Into<i32>>(list: &mut Vec<i32>, known: Option<&Vec<W>>) {
            if let Some(words) = known {
                *list = words.iter().map(|word| (*word).into()).collect();
                list.sort_unstable();
                list.dedup();
            }
        }
        let label = &mut packet.label;
        label.tlp = self.tlp.map_or(label.tlp, Into::into);
        put(&mut label.handling, self.handling.as_ref());
        put(&mut label.caveats, self.caveats.as_ref());
        put(&mut label.purposes, self.purposes.as_ref());
        put(&mut label.offences, self.offences.as_ref());
        put(&mut label.data, self.data.as_ref());
        label.rel_to.clone_from(&self.rel_to);
        if let Some(classification) = &self.classification {
            label.classification.clone_from(classification);
        }
        packet.onward = self.onward.unwrap_or(packet.onward);
        packet.named = self.named.unwrap_or(packet.named);
        packet.reviewed = self.reviewed;
        packet
    }
}

/// Grouped by agency.
impl fmt::Display for Could {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = "";
        for unit in &self.units {
            let (agency, code) = unit.unit.split_once('/').unwrap_or((&unit.unit, ""));
            if agency != last {
                let open = if agency == self.agency { "" } else { " (decides itself whether it accepts)" };
                writeln!(f, "{agency}{open}")?;
                last = agency;
            }
            let by = unit.policies.join(", ");
            match unit.outcome {
                Outcome::Release if self.open => {
                    writeln!(f, "  {code}: could, e.g. {} ({by})", unit.example)?
                }
                Outcome::Release => writeln!(f, "  {code}: yes ({by})")?,
                Outcome::Review => writeln!(f, "  {code}: after review, e.g. {} ({by})", unit.example)?,
                Outcome::Deny => writeln!(f, "  {code}: nothing found: {} ({by})", unit.why)?,
            }
        }
        if self.open {
            let tried: usize = self.units.iter().map(|unit| unit.tried).sum();
            writeln!(
                f,
                "\n{tried} packets were tried. Another label may still get through where nothing was found."
            )?;
        }
        if self.cut_off {
            writeln!(f, "More could have been tried: name more of the label for a sharper answer.")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
