//! What a new text changes, in words: which policies, and who gains and who loses.
//!
//! Decisions are compared over a space of packets (`space`): every unit, every kind, now and at each moment
//! to come that either text names. That is no proof, and the answer says what was compared. Most of it costs little: where
//! none of the policies that differ says anything, nothing can have changed (docs/adr/0031).

mod probe;
mod summary;

use std::{collections::BTreeMap, fmt};

use lintas_proto::schema::Roster;
use serde::Serialize;

use self::probe::{Pair, Probe};
use super::{
    baseline::Baseline,
    explain::capital,
    set::{Owner, PolicySet, Told},
    space::{Turn, combinations},
};

/// Most packets that are asked about.
pub const QUESTIONS_MAX: usize = 40_000;
/// Most moments to come.
const MOMENTS_MAX: usize = 16;
/// Most lines about who gains and who loses, of each time.
pub const LINES_MAX: usize = 40;

/// What became of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// Its text is another.
    Changed,
}

/// One policy that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyChange {
    /// Its id.
    pub id: String,
    /// What became of it.
    pub fate: Fate,
    /// Whether it forbids; of a removed one, whether it did.
    pub forbids: bool,
    /// Why it stands, or stood.
    pub reason: String,
}

/// One line about who gains or loses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Effect {
    /// Who, e.g. `KH / KH-AHT`.
    pub who: String,
    /// Whether it is more than before.
    pub gains: bool,
    /// All of it, e.g. `KH / KH-AHT gains: ALERT about TRAFFICKING_IN_PERSONS`.
    pub text: String,
}

/// What holds from one moment on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Period {
    /// Milliseconds since 1970.
    pub from_ms: u64,
    /// Who gains, who loses; empty if nobody does.
    pub effects: Vec<Effect>,
    /// Lines beyond [`LINES_MAX`].
    pub more: usize,
}

/// What was compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Space {
    /// Packets asked about, each under both texts.
    pub packets: usize,
    /// Pairs of sender and receiving units; units that no policy can tell apart count once.
    pub pairs: usize,
    /// Labels for each kind; kinds that no policy names count once.
    pub labels: usize,
    /// Moments.
    pub moments: usize,
    /// Labels that there was no room for.
    pub labels_left_out: usize,
    /// Moments that there was no room for.
    pub moments_left_out: usize,
}

/// The difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// Whose policies.
    pub owner: String,
    /// Those that differ, by id.
    pub policies: Vec<PolicyChange>,
    /// From now on, and from each moment on at which it becomes another difference.
    pub periods: Vec<Period>,
    /// What was compared.
    pub space: Space,
}

/// Compares two texts of one agency; `None` is no bundle.
#[must_use]
pub fn diff(
    old: Option<&PolicySet>,
    new: Option<&PolicySet>,
    baseline: &Baseline,
    roster: &Roster,
    now_ms: u64,
) -> Diff {
    let owner = new.or(old).map(PolicySet::owner).cloned().unwrap_or(Owner::Baseline);
    let policies = policies(old, new);
    let mut diff = Diff { owner: owner.to_string(), policies, periods: Vec::new(), space: Space::default() };
    let Owner::Agency(agency) = owner else { return diff };
    let probed = Probed::new(&agency, (old, new), baseline, roster, now_ms);
    diff.space = probed.space.clone();
    for moment_ms in &probed.moments_ms {
        let probe = Probe::new(&probed.changed, baseline, roster, (old, new), *moment_ms);
        let (effects, more) =
            summary::effects(&probe, &probed.pairs, &probed.kinds, &probed.combinations, roster);
        let last = diff.periods.last();
        if last.is_none_or(|last| (&last.effects, last.more) != (&effects, more)) {
            diff.periods.push(Period { from_ms: *moment_ms, effects, more });
        }
    }
    diff
}

/// What is asked about.
struct Probed {
    changed: probe::Changed,
    pairs: Vec<Pair>,
    kinds: Vec<Vec<usize>>,
    combinations: Vec<Vec<Turn>>,
    moments_ms: Vec<u64>,
    space: Space,
}

impl Probed {
    fn new(
        agency: &str,
        (old, new): (Option<&PolicySet>, Option<&PolicySet>),
        baseline: &Baseline,
        roster: &Roster,
        now_ms: u64,
    ) -> Self {
        let changed = probe::Changed::new(old, new);
        let texts: Vec<&str> = [old, new].into_iter().flatten().map(PolicySet::text).collect();
        // Every policy of the baseline, also those that leave it later.
        let region = baseline.at(now_ms).0;
        let asked: Vec<&str> = texts.iter().copied().chain(region.iter().map(|set| set.text())).collect();
        let pairs = probe::pairs(roster, agency, &changed, &asked);
        let kinds = probe::kinds(&asked);
        let mut moments_ms = vec![now_ms];
        for set in [old, new].into_iter().flatten() {
            let mut at_ms = now_ms;
            while let Some(next) = set.next_moment_ms(at_ms) {
                moments_ms.push(next);
                at_ms = next;
            }
        }
        moments_ms.sort_unstable();
        moments_ms.dedup();
        let moments_left_out = moments_ms.len().saturating_sub(MOMENTS_MAX);
        moments_ms.truncate(MOMENTS_MAX);
        let focus: Vec<&str> = changed.texts.iter().map(String::as_str).collect();
        let mut combinations = combinations(&Turn::every(roster, agency), &focus, &texts);
        let each = pairs.len().saturating_mul(kinds.len()).saturating_mul(moments_ms.len());
        let room = QUESTIONS_MAX.checked_div(each).unwrap_or(usize::MAX).max(1);
        let labels_left_out = combinations.len().saturating_sub(room);
        combinations.truncate(room);
        let space = Space {
            packets: each.saturating_mul(combinations.len()),
            pairs: pairs.len(),
            labels: combinations.len(),
            moments: moments_ms.len(),
            labels_left_out,
            moments_left_out,
        };
        Self { changed, pairs, kinds, combinations, moments_ms, space }
    }
}

/// By id, so that a policy which moved within the text has not changed.
fn policies(old: Option<&PolicySet>, new: Option<&PolicySet>) -> Vec<PolicyChange> {
    let by_id = |set: Option<&'_ PolicySet>| -> BTreeMap<String, Told> {
        set.iter().flat_map(|set| set.policies()).map(|told| (told.id.clone(), told.clone())).collect()
    };
    let (before, after) = (by_id(old), by_id(new));
    let change = |told: &Told, fate| PolicyChange {
        id: told.id.clone(),
        fate,
        forbids: told.forbids,
        reason: told.reason.clone(),
    };
    let mut changes: Vec<PolicyChange> = before
        .values()
        .filter(|told| !after.contains_key(&told.id))
        .map(|told| change(told, Fate::Removed))
        .collect();
    for told in after.values() {
        match before.get(&told.id) {
            None => changes.push(change(told, Fate::Added)),
            Some(known) if known.text != told.text => changes.push(change(told, Fate::Changed)),
            Some(_) => {}
        }
    }
    changes.sort_by(|a, b| a.id.cmp(&b.id));
    changes
}

impl Diff {
    /// Whether every decision that was compared is the same.
    #[must_use]
    pub fn decides_the_same(&self) -> bool {
        self.periods.iter().all(|period| period.effects.is_empty())
    }

    /// Whether nothing differs at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty() && self.decides_the_same()
    }
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.policies.is_empty() {
            writeln!(f, "No policy of {} differs.", self.owner)?;
        }
        for change in &self.policies {
            let verb = if change.forbids { "forbids" } else { "permits" };
            let fate = match change.fate {
                Fate::Added => "new",
                Fate::Removed => "gone",
                Fate::Changed => "changed",
            };
            writeln!(f, "{fate}: {} ({verb}): {}", change.id, change.reason)?;
        }
        if !self.policies.is_empty() && self.decides_the_same() {
            writeln!(f, "\nThe texts differ, and every decision that was compared is the same.")?;
        }
        for (at, period) in self.periods.iter().enumerate() {
            if at == 0 && period.effects.is_empty() {
                continue;
            }
            let when = if at == 0 { "now".to_owned() } else { format!("from {} on", moment(period.from_ms)) };
            writeln!(f, "\n{}:", capital(&when))?;
            if period.effects.is_empty() {
                writeln!(f, "  no difference any more")?;
            }
            for effect in &period.effects {
                writeln!(f, "  {}", apart(&effect.text))?;
            }
            if period.more > 0 {
                writeln!(f, "  and {} lines more", period.more)?;
            }
        }
        let Space { packets, pairs, labels, moments, labels_left_out, moments_left_out } = &self.space;
        if *packets > 0 {
            writeln!(
                f,
                "\nCompared: {packets} packets ({pairs} pairs of sender and recipient, {labels} labels of each kind, \
                 moments: {moments}). That is no proof: other labels may be decided otherwise."
            )?;
        }
        if labels_left_out + moments_left_out > 0 {
            writeln!(f, "No room for {labels_left_out} labels and {moments_left_out} times more.")?;
        }
        Ok(())
    }
}

/// What a line says of each kind of packets, on a line of its own.
fn apart(text: &str) -> String {
    let (who, what) = text.split_once(": ").filter(|_| text.contains("; ")).unwrap_or((text, ""));
    if what.is_empty() {
        return text.to_owned();
    }
    let what = what.replace("; or ", ", or ").replace("; ", "\n    ");
    format!("{who}:\n    {what}")
}

/// A moment as people read it, UTC.
pub(super) fn moment(ms: u64) -> String {
    let known = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    known.map_or_else(|| format!("{ms} ms"), |moment| moment.to_string())
}

#[cfg(test)]
pub(super) mod tests;
