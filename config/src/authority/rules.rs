//! The regional baseline policy and the schemes of classification in words: what they say, and what a proposal changes.

use std::collections::{BTreeMap, BTreeSet};

use lintas_proto::schema::{ClassificationScheme, Marking, Roster};
use serde::Serialize;

use super::{
    review::{Change, change, list, loosening},
    units::loosening_if,
};
use crate::{
    directory::moment,
    policy::loosening::{Standing, standing},
};

/// A policy of the baseline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyView {
    /// Its id, e.g. `baseline/noforn`.
    pub id: String,
    /// Why it forbids.
    pub reason: String,
    /// What the sender can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// As it is written.
    pub text: String,
    /// If it was taken out: until when it still forbids, milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
}

/// A scheme of classification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SchemeView {
    /// Code.
    pub scheme: String,
    /// Its markings and their ranks.
    pub markings: BTreeMap<String, u32>,
}

/// Markings that count as equal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EquivalentView {
    /// Rank.
    pub rank: u32,
    /// Of each scheme its markings of this rank, e.g. `TH/LAP`.
    pub markings: Vec<String>,
}

/// Everything that the baseline of a roster forbids with, also what is leaving.
pub(super) fn policies(roster: &Roster) -> Vec<PolicyView> {
    let view = |policy: Standing<'_>| {
        let told = policy.told()?;
        let (text, until_ms) = (policy.text.to_owned(), policy.until_ms);
        Some(PolicyView { id: told.id, reason: told.reason, advice: told.advice, text, until_ms })
    };
    standing(roster).into_iter().filter_map(view).collect()
}

/// The schemes of a roster.
pub(super) fn scheme_views(roster: &Roster) -> Vec<SchemeView> {
    let markings = |scheme: &ClassificationScheme| {
        scheme.markings.iter().map(|marking| (marking.value.clone(), marking.rank)).collect()
    };
    let view = |scheme: &ClassificationScheme| SchemeView {
        scheme: scheme.scheme.clone(),
        markings: markings(scheme),
    };
    roster.schemes.iter().map(view).collect()
}

/// The same by ranks, the highest first.
pub(super) fn equivalents(roster: &Roster) -> Vec<EquivalentView> {
    let mut ranks: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for (scheme, marking) in
        roster.schemes.iter().flat_map(|scheme| scheme.markings.iter().map(move |marking| (scheme, marking)))
    {
        ranks.entry(marking.rank).or_default().push(named(scheme, marking));
    }
    ranks.into_iter().rev().map(|(rank, markings)| EquivalentView { rank, markings }).collect()
}

fn named(scheme: &ClassificationScheme, marking: &Marking) -> String {
    format!("{}/{}", scheme.scheme, marking.value)
}

/// What changes in the baseline. Without a roster before, everything comes.
pub(super) fn baseline(before: Option<&Roster>, after: &Roster) -> Vec<Change> {
    let (old, new) = (before.map(standing).unwrap_or_default(), standing(after));
    let stays = |old: &Standing<'_>| new.iter().any(|new| new.until_ms.is_none() && new.is(old));
    let gone: Vec<_> = old.iter().filter(|old| !stays(old)).map(|old| (old, id_and_reason(old))).collect();
    let (mut found, mut come) = (Vec::new(), BTreeSet::new());
    for policy in new.iter().filter(|policy| policy.until_ms.is_none()) {
        let known = old.iter().find(|known| known.is(policy));
        if known.is_some_and(|known| known.until_ms.is_none()) {
            continue;
        }
        let (id, why) = id_and_reason(policy);
        let replaces = gone.iter().any(|(old, (gone, _))| old.until_ms.is_none() && *gone == id);
        let how = match (known, replaces) {
            (Some(_), _) => "comes back before it has left",
            (None, true) => "has another text, which forbids at once",
            (None, false) => "comes and forbids at once",
        };
        found.push(change("baseline_comes", "region", format!("the baseline policy {id} {how}: {why}")));
        come.insert(id);
    }
    let goes = gone.iter().filter_map(|(old, (id, why))| {
        let what =
            if come.contains(id) { "the text before of the baseline policy" } else { "the baseline policy" };
        ends(old, &new).map(|(kind, how)| loosening(kind, "region", &format!("{what} {id}{how}: {why}")))
    });
    found.extend(goes);
    found
}

/// How a policy ends that the baseline has no more; none if that was said before.
fn ends(old: &Standing<'_>, new: &[Standing<'_>]) -> Option<(&'static str, String)> {
    let until_ms = new.iter().find(|new| new.is(old)).and_then(|new| new.until_ms);
    match (old.until_ms, until_ms) {
        (Some(_), Some(_)) => None,
        (None, Some(until_ms)) => Some((
            "baseline_goes",
            format!(" goes: it still forbids until {}, and no longer", moment(until_ms)),
        )),
        (None, None) => Some(("baseline_goes", " goes AT ONCE, which no node accepts".to_owned())),
        (Some(until_ms), None) => {
            Some(("baseline_left", format!(", which was to forbid until {}, has left", moment(until_ms))))
        }
    }
}

fn id_and_reason(policy: &Standing<'_>) -> (String, String) {
    let told = policy.told();
    told.map_or_else(|| ("that cannot be read".to_owned(), String::new()), |told| (told.id, told.reason))
}

/// What changes in the schemes of classification.
pub(super) fn schemes(before: &Roster, after: &Roster) -> Vec<Change> {
    let mut found = Vec::new();
    for scheme in &after.schemes {
        match before.schemes.iter().find(|known| known.scheme == scheme.scheme) {
            Some(known) => markings(known, scheme, &mut found),
            None => {
                let ranks =
                    scheme.markings.iter().map(|marking| format!("{} {}", marking.value, marking.rank));
                let ranks = list(&ranks.collect::<Vec<_>>());
                let text =
                    format!("the classification scheme {} comes, markings and ranks: {ranks}", scheme.scheme);
                found.push(change("scheme_comes", "region", text));
            }
        }
    }
    for gone in &before.schemes {
        if !after.schemes.iter().any(|scheme| scheme.scheme == gone.scheme) {
            let text = format!(
                "the classification scheme {} goes: a packet with a marking of it is released to nobody",
                gone.scheme
            );
            found.push(change("scheme_goes", "region", text));
        }
    }
    found
}

fn markings(old: &ClassificationScheme, new: &ClassificationScheme, found: &mut Vec<Change>) {
    let of = |scheme: &ClassificationScheme, value: &str| {
        scheme.markings.iter().find(|marking| marking.value == value).map(|marking| marking.rank)
    };
    for marking in &new.markings {
        let (name, rank) = (named(new, marking), marking.rank);
        match of(old, &marking.value) {
            Some(before) if before == rank => {}
            Some(before) => {
                let text = format!("the marking {name} has rank {rank} (before: {before})");
                found.push(loosening_if(rank < before, "marking_rank", "region", text));
            }
            None => {
                found.push(change(
                    "marking_comes",
                    "region",
                    format!("the marking {name} comes, rank {rank}"),
                ));
            }
        }
    }
    for gone in old.markings.iter().filter(|marking| of(new, &marking.value).is_none()) {
        let text = format!("the marking {} goes: a packet with it is released to nobody", named(old, gone));
        found.push(change("marking_goes", "region", text));
    }
}
