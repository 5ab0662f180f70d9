//! Many answers as few words. Of all labels with which something changes, the shortest are named: what holds of `ALERT` is
//! not said again of `ALERT about CORRUPTION`. Kinds, units and agencies that agree are named together.

use std::collections::{BTreeMap, BTreeSet};

use lintas_proto::schema::{Kind, Roster};

use super::{
    Effect, LINES_MAX,
    probe::{Pair, Probe, Seen},
};
use crate::policy::{
    decide::Layers,
    question::member,
    space::{KINDS, Turn, phrase},
    vocabulary::Word as _,
};

/// Most labels that one line names.
const NAMED_MAX: usize = 6;

/// How a decision turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Turned {
    Gains,
    GainsAfterReview,
    NoReview,
    Loses,
    OnlyAfterReview,
}

impl Turned {
    fn of((before, after): (Seen, Seen)) -> Option<Self> {
        match (before, after) {
            (Seen::Region, _) | (_, Seen::Region) => None,
            (Seen::Deny, Seen::Release) => Some(Self::Gains),
            (Seen::Deny, Seen::Review) => Some(Self::GainsAfterReview),
            (Seen::Review, Seen::Release) => Some(Self::NoReview),
            (Seen::Release | Seen::Review, Seen::Deny) => Some(Self::Loses),
            (Seen::Release, Seen::Review) => Some(Self::OnlyAfterReview),
            (Seen::Deny, Seen::Deny) | (Seen::Review, Seen::Review) | (Seen::Release, Seen::Release) => None,
        }
    }

    fn gains(self) -> bool {
        matches!(self, Self::Gains | Self::GainsAfterReview | Self::NoReview)
    }

    fn words(self, layers: Layers) -> &'static str {
        let accept = layers == Layers::Accept;
        match self {
            Self::Gains if accept => "accepts now",
            Self::Loses if accept => "accepts no longer",
            Self::Gains => "gains",
            Self::GainsAfterReview => "gains, after a person has looked at it",
            Self::NoReview => "gets without a person's look",
            Self::Loses => "loses",
            Self::OnlyAfterReview => "gets only after a person has looked at it",
        }
    }
}

/// Agency and unit.
type Named<'a> = (&'a str, &'a str);
/// Shortest labels, each with the turns with which it does not hold.
type Labels = Vec<(Vec<Turn>, Vec<Turn>)>;
/// What changes, for kinds by their place in [`KINDS`].
type What = Vec<(Vec<usize>, Labels)>;

/// Lines, and how many there was no room for.
pub(super) fn effects(
    probe: &Probe<'_>,
    pairs: &[Pair],
    kinds: &[Vec<usize>],
    combinations: &[Vec<Turn>],
    roster: &Roster,
) -> (Vec<Effect>, usize) {
    let mut found: BTreeMap<(bool, Turned, What), Vec<&Pair>> = BTreeMap::new();
    for pair in pairs {
        let mut changes: BTreeMap<Turned, BTreeMap<Labels, Vec<usize>>> = BTreeMap::new();
        for alike in kinds {
            let Some(kind) = alike.first().and_then(|at| KINDS.get(*at)) else { continue };
            for (turned, labels) in of_kind(probe, pair, *kind, combinations) {
                changes.entry(turned).or_default().entry(labels).or_default().extend(alike);
            }
        }
        for (turned, labels) in changes {
            let sorted = |(labels, mut kinds): (Labels, Vec<usize>)| {
                kinds.sort_unstable();
                (kinds, labels)
            };
            let mut what: What = labels.into_iter().map(sorted).collect();
            what.sort_unstable();
            found.entry((pair.layers == Layers::Accept, turned, what)).or_default().push(pair);
        }
    }
    let mut lines = Vec::new();
    for ((accept, turned, what), pairs) in found {
        let layers = if accept { Layers::Accept } else { Layers::Release };
        for who in whom(&pairs, roster, accept) {
            let what: Vec<String> = what.iter().map(|(kinds, labels)| said(kinds, labels)).collect();
            let verb = verb(turned.words(layers), &who.0);
            let text = match &who {
                (units, None) => format!("{units} {verb}: {}", what.join("; ")),
                (units, Some(from)) => format!("{units} {verb} from {from}: {}", what.join("; ")),
            };
            lines.push(Effect { who: who.0, gains: turned.gains(), text });
        }
    }
    let more = lines.len().saturating_sub(LINES_MAX);
    lines.truncate(LINES_MAX);
    (lines, more)
}

/// `gains` of one unit, `gain` of several.
fn verb(words: &str, units: &str) -> String {
    let several = units.contains(" and ") || units.contains(", ");
    let plural = ["gain", "get", "lose", "accept"]
        .into_iter()
        .filter(|_| several)
        .find_map(|verb| words.strip_prefix(verb)?.strip_prefix('s').map(|rest| format!("{verb}{rest}")));
    plural.unwrap_or_else(|| words.to_owned())
}

/// What changes for packets of one kind, shortest labels only.
fn of_kind(
    probe: &Probe<'_>,
    pair: &Pair,
    kind: Kind,
    combinations: &[Vec<Turn>],
) -> BTreeMap<Turned, Labels> {
    let mut answers: BTreeMap<&[Turn], (Seen, Seen)> = BTreeMap::new();
    let mut changed: BTreeMap<Turned, Vec<&Vec<Turn>>> = BTreeMap::new();
    for turns in combinations {
        let Some(both) = probe.where_changed(pair, kind, turns) else { continue };
        answers.insert(turns, both);
        if let Some(turned) = Turned::of(both) {
            changed.entry(turned).or_default().push(turns);
        }
    }
    let mut found = BTreeMap::new();
    for (turned, mut all) in changed {
        all.sort_by_key(|turns| turns.len());
        let mut shortest: Vec<&Vec<Turn>> = Vec::new();
        for turns in all {
            if !shortest.iter().any(|known| holds(turns, known)) {
                shortest.push(turns);
            }
        }
        let labels = shortest.into_iter().map(|label| {
            let mut except = Vec::new();
            for longer in
                combinations.iter().filter(|turns| turns.len() == label.len() + 1 && holds(turns, label))
            {
                let both = answers.get(longer.as_slice()).copied();
                let both = both.or_else(|| probe.both(pair, kind, longer));
                let usual = answers.get(label.as_slice()).map(|(_, after)| *after);
                if both.is_some_and(|(_, after)| after != Seen::Region && Some(after) != usual) {
                    except.extend(longer.iter().filter(|turn| !label.contains(turn)).cloned());
                }
            }
            (label.clone(), except)
        });
        let mut labels: Labels = labels.collect();
        labels.sort_unstable();
        found.insert(turned, labels);
    }
    found
}

/// Whether all of `part` is in `turns`.
fn holds(turns: &[Turn], part: &[Turn]) -> bool {
    part.iter().all(|turn| turns.contains(turn))
}

/// `ALERT, NOTICE about A or B, but not with MINOR`.
fn said(kinds: &[usize], labels: &Labels) -> String {
    let words: Vec<&str> = kinds.iter().filter_map(|at| KINDS.get(*at)).map(|kind| kind.word()).collect();
    let kinds =
        if words.len() == KINDS.len() { "packets of every kind".to_owned() } else { words.join(", ") };
    // Labels of one word each, of one field and with the same exceptions, are told together.
    let mut groups: Vec<(Vec<Turn>, &'static str, &[Turn])> = Vec::new();
    for (label, except) in labels {
        let field = |turns: &[Turn]| turns.first().map(|turn| turn.words().0);
        let alike = groups.last_mut().filter(|(turns, joint, known)| {
            *joint == " or "
                && label.len() == 1
                && field(turns) == field(label)
                && *known == except.as_slice()
        });
        match alike {
            Some((turns, ..)) => turns.extend(label.iter().cloned()),
            None => {
                let joint = if label.len() == 1 { " or " } else { " and " };
                groups.push((label.clone(), joint, except));
            }
        }
    }
    let label = |(turns, joint, except): &(Vec<Turn>, &str, &[Turn])| {
        let mut text = phrase(turns, joint);
        if !except.is_empty() {
            let gap = if text.is_empty() { "" } else { ", " };
            let lead = |turn: &Turn| turn.words().0;
            let except = except.chunk_by(|one, next| lead(one) == lead(next));
            let except: Vec<String> = except.map(|alike| phrase(alike, " or ")).collect();
            text = format!("{text}{gap}but not {}", except.join(" or "));
        }
        text
    };
    let mut shown: Vec<String> = groups.iter().take(NAMED_MAX).map(label).collect();
    if groups.len() > NAMED_MAX {
        shown.push(format!("and {} labels more", groups.len() - NAMED_MAX));
    }
    format!("{kinds} {}", shown.join("; or ")).trim_end().to_owned()
}

/// The receiving units, and for acceptance from whom.
fn whom(pairs: &[&Pair], roster: &Roster, accept: bool) -> Vec<(String, Option<String>)> {
    if !accept {
        let all = pairs.iter().flat_map(|pair| named(pair)).collect();
        return vec![(units(&all, roster), None)];
    }
    let mut by_sender: BTreeMap<&str, BTreeSet<Named<'_>>> = BTreeMap::new();
    for pair in pairs {
        by_sender.entry(&pair.from.agency).or_default().extend(named(pair));
    }
    let mut by_units: BTreeMap<BTreeSet<Named<'_>>, Vec<&str>> = BTreeMap::new();
    for (sender, units) in by_sender {
        by_units.entry(units).or_default().push(sender);
    }
    let senders = active(roster).count();
    let from = |agencies: Vec<&str>| {
        if agencies.len() == senders { "everybody".to_owned() } else { agencies.join(", ") }
    };
    by_units.into_iter().map(|(all, agencies)| (units(&all, roster), Some(from(agencies)))).collect()
}

fn named(pair: &Pair) -> impl Iterator<Item = Named<'_>> {
    pair.to.iter().map(|unit| (unit.agency.as_str(), unit.unit.as_str()))
}

fn active(roster: &Roster) -> impl Iterator<Item = (&str, usize)> {
    let units = |agency: &String| member(roster, agency).map_or(0, |member| member.units.len());
    roster
        .members
        .iter()
        .map(move |member| (member.agency.as_str(), units(&member.agency)))
        .filter(|(_, units)| *units > 0)
}

/// `every unit of every member`, or `KH / KH-AHT, KH-VP and TH (all units)`.
fn units(all: &BTreeSet<Named<'_>>, roster: &Roster) -> String {
    if all.len() == active(roster).map(|(_, units)| units).sum::<usize>() {
        return "every unit of every member".to_owned();
    }
    let mut parts = Vec::new();
    for (agency, count) in active(roster) {
        let named: Vec<&str> =
            all.iter().filter(|(known, _)| *known == agency).map(|(_, unit)| *unit).collect();
        if named.len() == count && count > 1 {
            parts.push(format!("{agency} (all units)"));
        } else if !named.is_empty() {
            parts.push(format!("{agency} / {}", named.join(", ")));
        }
    }
    parts.join(" and ")
}
