//! The regional baseline policy and the schemes of classification in words: what they say, and what a proposal changes.

use std::collections::BTreeMap;

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
    let said = |policy: &Standing<'_>| policy.told().map(|told| told.reason).unwrap_or_default();
    let (mut found, mut changed) = (Vec::new(), Vec::new());
    for policy in new.iter().filter(|policy| policy.until_ms.is_none()) {
        let (id, why) = (policy.id(), said(policy));
        let text = match old.iter().find(|known| known.is(policy)) {
            Some(known) if known.until_ms.is_none() => continue,
            Some(_) => format!("the baseline policy {id} comes back before it has left: {why}"),
            None if old.iter().any(|known| known.until_ms.is_none() && known.id() == id) => {
                changed.push(id.clone());
                format!("the baseline policy {id} has another text, which forbids at once: {why}")
            }
            None => format!("the baseline policy {id} comes and forbids at once: {why}"),
        };
        found.push(change("baseline_comes", "region", text));
    }
    for policy in &old {
        let (id, why) = (policy.id(), said(policy));
        let until = new.iter().find(|next| next.is(policy)).map(|next| next.until_ms);
        let found_now = match (policy.until_ms, until) {
            (None, Some(None)) | (Some(_), Some(_)) => continue,
            (None, Some(Some(until_ms))) => {
                let what = if changed.contains(&id) {
                    "the text before of the baseline policy"
                } else {
                    "the baseline policy"
                };
                let text = format!(
                    "{what} {id} goes: it still forbids until {}, and no longer: {why}",
                    moment(until_ms)
                );
                loosening("baseline_goes", "region", &text)
            }
            (None, None) => {
                let text = format!("the baseline policy {id} goes AT ONCE, which no node accepts: {why}");
                loosening("baseline_goes", "region", &text)
            }
            (Some(until_ms), None) => {
                let text = format!(
                    "the baseline policy {id}, which was to forbid until {}, has left: {why}",
                    moment(until_ms)
                );
                loosening("baseline_left", "region", &text)
            }
        };
        found.push(found_now);
    }
    found
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
