//! One packet under two texts.

use std::collections::BTreeMap;

use cedar_policy::{ActionConstraint, Authorizer, Policy, PolicyId, PolicySet as CedarSet};
use lintas_proto::schema::{HandlingCode, Kind, Roster, UnitRef};

use crate::policy::{
    baseline::Baseline,
    decide::{Decision, Layers},
    question::{Question, Slice, member},
    set::PolicySet,
    space::{KINDS, Turn, neutral, turned},
    view::{Described, own_says, region_denies},
    vocabulary::{Word as _, uid, unit_name},
};

/// What becomes of a packet, as far as one agency decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Seen {
    /// The baseline forbids it: neither text matters.
    Region,
    Deny,
    Review,
    Release,
}

/// Who sends, and units of one agency that no policy can tell apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) from: UnitRef,
    pub(super) to: Vec<UnitRef>,
    pub(super) layers: Layers,
}

/// The policies that stand in one text only.
#[derive(Debug)]
pub(super) struct Changed {
    /// Of Release and Review.
    release: CedarSet,
    accept: CedarSet,
    pub(super) texts: Vec<String>,
}

impl Changed {
    pub(super) fn new(old: Option<&PolicySet>, new: Option<&PolicySet>) -> Self {
        let mut changed = Self { release: CedarSet::new(), accept: CedarSet::new(), texts: Vec::new() };
        for (set, other) in [(old, new), (new, old)] {
            let Some(set) = set else { continue };
            for policy in set.cedar().policies() {
                let Some(told) = set.told(policy.id()) else { continue };
                if other.is_some_and(|other| other.policies().any(|known| known.text == told.text)) {
                    continue;
                }
                let numbered = policy.new_id(PolicyId::new(changed.texts.len().to_string()));
                changed.texts.push(told.text.clone());
                let sides = [
                    (&["Release", "Review"][..], &mut changed.release),
                    (&["Accept"][..], &mut changed.accept),
                ];
                for (actions, side) in sides {
                    if actions.iter().any(|action| covers(policy, action)) {
                        // Numbers are never twice the same, so it cannot be refused.
                        let _ = side.add(numbered.clone());
                    }
                }
            }
        }
        changed
    }

    fn of(&self, layers: Layers) -> (&CedarSet, &'static [&'static str]) {
        if layers == Layers::Accept {
            (&self.accept, &["Accept"])
        } else {
            (&self.release, &["Release", "Review"])
        }
    }
}

/// Whether a policy may speak of an action.
fn covers(policy: &Policy, action: &str) -> bool {
    let (own, group) = (uid("Action", action), uid("Action", "transfer"));
    match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(named) => named == own,
        ActionConstraint::In(named) => named.contains(&own) || named.contains(&group),
    }
}

/// The kinds, by their places in [`KINDS`]: those that no text names are decided alike, and stand together.
pub(super) fn kinds(texts: &[&str]) -> Vec<Vec<usize>> {
    let named = |kind: &Kind| texts.iter().any(|text| text.contains(&format!("\"{}\"", kind.word())));
    let (named, alike): (Vec<usize>, Vec<usize>) =
        (0..KINDS.len()).partition(|at| KINDS.get(*at).is_some_and(named));
    let alone = named.into_iter().map(|at| vec![at]);
    alone.chain((!alike.is_empty()).then_some(alike)).collect()
}

/// Everybody to whom the agency may release and from whom it may accept, as far as a changed policy speaks of it.
pub(super) fn pairs(roster: &Roster, agency: &str, changed: &Changed, texts: &[&str]) -> Vec<Pair> {
    let first = |agency: &str| {
        let unit = member(roster, agency)?.units.first()?;
        Some(UnitRef { agency: agency.to_owned(), unit: unit.unit.clone() })
    };
    let Some(own) = first(agency) else { return Vec::new() };
    let mut pairs = Vec::new();
    let active = || roster.members.iter().map(|member| &member.agency).filter(|code| first(code).is_some());
    if !changed.release.is_empty() {
        for to in active().flat_map(|code| alike(roster, code, texts)) {
            pairs.push(Pair { from: own.clone(), to, layers: Layers::Release });
        }
    }
    if !changed.accept.is_empty() {
        let own_units = alike(roster, agency, texts);
        for from in active().filter_map(|code| first(code)) {
            let pair =
                |to: &Vec<UnitRef>| Pair { from: from.clone(), to: to.clone(), layers: Layers::Accept };
            pairs.extend(own_units.iter().map(pair));
        }
    }
    pairs
}

/// Units of an agency, those together of which policies know the same and which no text names.
fn alike(roster: &Roster, agency: &str, texts: &[&str]) -> Vec<Vec<UnitRef>> {
    let Some(member) = member(roster, agency) else { return Vec::new() };
    let mut found: BTreeMap<_, Vec<UnitRef>> = BTreeMap::new();
    for unit in &member.units {
        let quoted = format!("\"{}\"", unit_name(agency, &unit.unit));
        let named = texts.iter().any(|text| text.contains(&quoted)).then_some(&unit.unit);
        let known = (unit.clearance, &unit.functions, &unit.purposes, named);
        found.entry(known).or_default().push(UnitRef { agency: agency.to_owned(), unit: unit.unit.clone() });
    }
    found.into_values().collect()
}

/// Asks both texts at one moment.
#[derive(Debug)]
pub(super) struct Probe<'a> {
    changed: &'a Changed,
    baseline: Vec<PolicySet>,
    roster: &'a Roster,
    old: Option<&'a PolicySet>,
    new: Option<&'a PolicySet>,
    /// A policy names a group that no member has: it counts where it does not hold, so every packet is asked about.
    gone: bool,
    at_ms: u64,
}

impl<'a> Probe<'a> {
    pub(super) fn new(
        changed: &'a Changed,
        baseline: &Baseline,
        roster: &'a Roster,
        (old, new): (Option<&'a PolicySet>, Option<&'a PolicySet>),
        at_ms: u64,
    ) -> Self {
        let baseline = baseline.at(at_ms).0.into_iter().cloned().collect();
        let actions = ["Release", "Review", "Accept"];
        let gone = |set: &PolicySet| actions.iter().any(|action| !set.gone(roster, action).is_empty());
        let gone = old.is_some_and(gone) || new.is_some_and(gone);
        Self { changed, baseline, roster, old, new, gone, at_ms }
    }

    /// H3 waits for a person whatever the texts say: what comes after that is compared.
    fn packet(&self, pair: &Pair, kind: Kind, turns: &[Turn]) -> Option<(Described, UnitRef)> {
        let to = pair.to.first()?;
        let packet = turned(self.roster, to, neutral(self.roster, &pair.from, to, kind), turns);
        let reviewed = turns.contains(&Turn::Handling(HandlingCode::H3));
        Some((Described { reviewed, ..packet }, to.clone()))
    }

    /// The answers of both texts, where a changed policy says anything; elsewhere they are the same.
    pub(super) fn where_changed(&self, pair: &Pair, kind: Kind, turns: &[Turn]) -> Option<(Seen, Seen)> {
        let (packet, to) = self.packet(pair, kind, turns)?;
        let question = packet.question(&to, self.at_ms);
        let slice = Slice::new(self.roster, &question).ok()?;
        self.changed_speaks(&slice, pair.layers).then(|| self.answers(&slice, &question, pair.layers))
    }

    /// The answers of both texts.
    pub(super) fn both(&self, pair: &Pair, kind: Kind, turns: &[Turn]) -> Option<(Seen, Seen)> {
        let (packet, to) = self.packet(pair, kind, turns)?;
        let question = packet.question(&to, self.at_ms);
        let slice = Slice::new(self.roster, &question).ok()?;
        Some(self.answers(&slice, &question, pair.layers))
    }

    /// A policy that neither holds nor fails changes no decision, so it does not matter in which text it stands.
    fn changed_speaks(&self, slice: &Slice, layers: Layers) -> bool {
        let (changed, actions) = self.changed.of(layers);
        self.gone
            || actions.iter().any(|action| {
                let Ok(request) = slice.request(action) else { return true };
                let response = Authorizer::new().is_authorized(&request, changed, slice.entities());
                let diagnostics = response.diagnostics();
                diagnostics.reason().next().is_some() || diagnostics.errors().next().is_some()
            })
    }

    fn answers(&self, slice: &Slice, question: &Question<'_>, layers: Layers) -> (Seen, Seen) {
        if region_denies(&self.baseline, slice, self.roster, question).is_some() {
            return (Seen::Region, Seen::Region);
        }
        let answer = |set| match own_says(set, slice, self.roster, question, layers) {
            Decision::Release(_) => Seen::Release,
            Decision::Review(_) => Seen::Review,
            Decision::Deny(_) => Seen::Deny,
        };
        (answer(self.old), answer(self.new))
    }
}
