//! What must be decided, in plain Rust, written from the words of docs/POLICY.md and from nothing else.

use lintas_config::policy::{DecidedBy, Decision, Denial, Layers};
use lintas_proto::schema::{
    Caveat, DataCategory, HandlingCode, MemberStatus, Onward, Purpose, Roster, Tlp, UnitFunction,
};

use crate::{
    agencies::rules_of,
    world::{Asked, Facts},
};

/// What a rule does when its words hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Permits,
    Forbids,
}

/// When a rule is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// Baseline: whatever is asked.
    Always,
    /// Baseline: a member passes the packet on.
    PassedOn,
    Released,
    Reviewed,
    Accepted,
}

/// One policy of the page, and whether its words hold here.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) id: String,
    pub(crate) when: When,
    pub(crate) effect: Effect,
    pub(crate) holds: bool,
}

impl Rule {
    pub(crate) fn new(owner: &str, id: &str, when: When, effect: Effect, holds: bool) -> Self {
        Self { id: format!("{owner}/{id}"), when, effect, holds }
    }
}

/// Who decided, and by which policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected {
    Denied { by: DecidedBy, id: String },
    Allowed { review: bool, released_by: Vec<String>, accepted_by: Vec<String>, review_by: Vec<String> },
}

impl Expected {
    fn denied(by: DecidedBy, id: impl Into<String>) -> Self {
        Self::Denied { by, id: id.into() }
    }

    /// What was decided, as far as the oracle knows of it.
    pub(crate) fn of(decision: &Decision) -> Self {
        let (review, allowed) = match decision {
            Decision::Deny(Denial { by, policy_id, .. }) => return Self::denied(by.clone(), policy_id),
            Decision::Release(allowed) => (false, allowed),
            Decision::Review(allowed) => (true, allowed),
        };
        let allowed = allowed.clone();
        Self::Allowed {
            review,
            released_by: allowed.released_by,
            accepted_by: allowed.accepted_by,
            review_by: allowed.review_by,
        }
    }
}

/// What the roster alone decides, or all rules that may be asked.
pub(crate) fn rules(roster: &Roster, asked: &Asked) -> Result<Vec<Rule>, Expected> {
    let member = |id: &str| Expected::denied(DecidedBy::Region, format!("baseline/{id}"));
    let active = |agency: &str| {
        let found = roster.members.iter().find(|known| known.agency == agency);
        found.filter(|known| known.status == MemberStatus::Active as i32)
    };
    let unit_of = |agency: &str, unit: &str| {
        let found = active(agency)?;
        Some((found, found.units.iter().find(|known| known.unit == unit)?))
    };
    let (originator, _) = unit_of(&asked.from.agency, &asked.from.unit).ok_or_else(|| member("member"))?;
    let (recipient, unit) = unit_of(&asked.to.agency, &asked.to.unit).ok_or_else(|| member("member"))?;
    let rank = match &asked.label.classification {
        None => 0,
        Some(marking) => {
            let known = crate::world::MARKINGS
                .iter()
                .find(|(scheme, value, _)| marking.scheme == *scheme && marking.value == *value);
            known.ok_or_else(|| member("marking"))?.2
        }
    };
    if asked.relay.as_ref().is_some_and(|(via, ..)| active(via).is_none()) {
        return Err(member("member"));
    }
    let facts = Facts { asked, originator, recipient, unit, rank };
    let mut rules = baseline(&facts);
    rules.extend(rules_of(&asked.from.agency, &facts));
    if !facts.within() {
        rules.extend(rules_of(&asked.to.agency, &facts));
    }
    Ok(rules)
}

fn baseline(f: &Facts<'_>) -> Vec<Rule> {
    let abroad = f.originator.country.is_empty() || f.originator.country != f.recipient.country;
    let (consent, hops) = f.asked.relay.as_ref().map_or((false, 0), |(_, hops, consent)| (*consent, *hops));
    let passes_freely = matches!(f.asked.onward, Onward::Region | Onward::Any);
    let protects = f.does(UnitFunction::VictimProtection) || f.does(UnitFunction::ChildProtection);
    let for_victims = f.purpose(Purpose::VictimProtection) && f.works_for(Purpose::VictimProtection as i32);
    let listed = f.asked.label.rel_to.contains(&f.asked.to.agency);
    let about_minor_victims = f.data(DataCategory::Victim) && f.data(DataCategory::Minor);
    let controlled = f.caveat(Caveat::Orcon) || f.handling(HandlingCode::H2);
    let always = [
        ("noforn", f.caveat(Caveat::Noforn) && !f.within() && abroad),
        ("rel-to", f.caveat(Caveat::RelTo) && !f.within() && !listed),
        ("tlp-red", f.tlp(Tlp::Red) && !f.asked.named),
        ("eyes-only", f.caveat(Caveat::EyesOnly) && !f.asked.named),
        ("clearance", f.rank > f.unit.clearance),
        ("purpose", !f.asked.label.purposes.iter().any(|purpose| f.works_for(*purpose))),
        ("minor-victims", about_minor_victims && !protects),
        ("financial-data", f.data(DataCategory::Financial) && !f.does(UnitFunction::FinancialIntelligence)),
        ("health-data", f.data(DataCategory::Health) && !for_victims),
        ("statistics-no-persons", f.purpose(Purpose::Statistics) && !f.without_data()),
    ];
    let passed_on = [
        ("third-party", !consent && !passes_freely),
        ("originator-controlled", controlled && !consent),
        ("hops", hops > 2),
    ];
    let rule = |when| move |(id, holds)| Rule::new("baseline", id, when, Effect::Forbids, holds);
    let always = always.into_iter().map(rule(When::Always));
    always.chain(passed_on.into_iter().map(rule(When::PassedOn))).collect()
}

/// The order of decision.
pub(crate) fn decide(rules: &[Rule], asked: &Asked, layers: Layers) -> Expected {
    let (release, accept) = (layers != Layers::Accept, layers != Layers::Release);
    let of = |agency: &str| format!("{agency}/");
    let holding = |when: When, effect: Effect, owner: &str| {
        let matching = rules.iter().filter(|rule| rule.holds && rule.when == when && rule.effect == effect);
        let mut ids: Vec<String> =
            matching.filter(|rule| rule.id.starts_with(owner)).map(|rule| rule.id.clone()).collect();
        ids.sort();
        ids
    };
    let always = holding(When::Always, Effect::Forbids, "baseline/");
    let passed_on = holding(When::PassedOn, Effect::Forbids, "baseline/");
    let both = always.iter().chain(passed_on.iter().filter(|_| asked.relay.is_some()));
    // What a sender or the broker asks first knows nothing of passing on; a recipient asks about that first.
    let first = if release && !always.is_empty() { always.first() } else { both.min() };
    if let Some(id) = first {
        return Expected::denied(DecidedBy::Region, id);
    }
    let (from, to) = (of(&asked.from.agency), of(&asked.to.agency));
    let mut released_by = Vec::new();
    let mut review_by = Vec::new();
    if release {
        released_by = holding(When::Released, Effect::Permits, &from);
        if let Some(id) = holding(When::Released, Effect::Forbids, &from).first() {
            return Expected::denied(DecidedBy::Originator, id);
        }
        if released_by.is_empty() {
            return Expected::denied(DecidedBy::Originator, format!("{from}nothing-releases"));
        }
        if asked.label.handling.contains(&(HandlingCode::H3 as i32)) {
            review_by.push("baseline/review-h3".to_owned());
        }
        review_by.extend(holding(When::Reviewed, Effect::Permits, &from));
    }
    let mut accepted_by = Vec::new();
    if accept {
        accepted_by = holding(When::Accepted, Effect::Permits, &to);
        if let Some(id) = holding(When::Accepted, Effect::Forbids, &to).first() {
            return Expected::denied(DecidedBy::Recipient, id);
        }
        if accepted_by.is_empty() {
            return Expected::denied(DecidedBy::Recipient, format!("{to}nothing-accepts"));
        }
    }
    let review = !review_by.is_empty() && !asked.reviewed;
    Expected::Allowed { review, released_by, accepted_by, review_by }
}
