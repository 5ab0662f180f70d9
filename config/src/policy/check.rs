//! What a bundle must stand before it is signed, and again before it counts: every name in it exists, every policy can be asked,
//! and its own cases come out as they say.

use std::sync::Arc;

use cedar_policy::{EntityUid, Policy};
use lintas_proto::schema::{Member, MemberStatus, Roster};

use super::{
    cases::Cases,
    scope::{self, kind, name},
    set::{Owner, PROBLEMS_MAX, PolicySet, Problem},
    spelling::suggest,
    text::{Statement, statements},
};

/// The gate: names, policies and cases, under the roster in force. A problem of the cases begins with their file.
///
/// # Errors
/// Everything that is wrong, in the order of the texts.
pub fn activation(
    policies: &PolicySet,
    cases: &str,
    roster: &Arc<Roster>,
    now_ms: u64,
) -> Result<(), Vec<Problem>> {
    let mut problems = literals(policies, roster).err().unwrap_or_default();
    let of_cases = |problem: Problem| Problem { what: format!("in the cases: {}", problem.what), ..problem };
    match Cases::read(cases, policies.owner()) {
        Err(more) => problems.extend(more.into_iter().map(of_cases)),
        // Before its names are right there is no use in asking it.
        Ok(cases) if problems.is_empty() => {
            let outcomes = cases.run(policies, roster, now_ms).map_err(|problem| vec![problem])?;
            let failed = outcomes.iter().filter(|outcome| !outcome.ok);
            problems.extend(failed.map(|outcome| of_cases(outcome.problem())));
        }
        Ok(_) => {}
    }
    problems.truncate(PROBLEMS_MAX);
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// Whether every agency, unit, group and region that the policies name stands in the roster, suspended members included, and
/// whether every policy can be asked at all.
///
/// # Errors
/// Every name that does not, with its place.
pub fn literals(policies: &PolicySet, roster: &Roster) -> Result<(), Vec<Problem>> {
    let mut problems = Vec::new();
    for statement in statements(policies.text()) {
        // Statements and policies are the same in number and order: a set is made of no other text.
        let Some(policy) = policies.cedar().policy(&statement.policy_id()) else { continue };
        let found = problems.len();
        names(&statement, policy, roster, &mut problems);
        if problems.len() == found {
            let dead = dead(policy, policies.owner(), roster);
            problems.extend(dead.map(|(what, mend)| statement.problem(0, what, &mend)));
        }
        if problems.len() >= PROBLEMS_MAX {
            break;
        }
    }
    problems.truncate(PROBLEMS_MAX);
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// What Cedar found is what counts; the text only tells where.
fn names(statement: &Statement<'_>, policy: &Policy, roster: &Roster, problems: &mut Vec<Problem>) {
    let written = statement.literals();
    let mut told: Vec<EntityUid> = Vec::new();
    for uid in policy.entity_literals() {
        if told.contains(&uid) {
            continue;
        }
        if let Some((what, mend)) = unknown(&uid, roster) {
            let same = |kind: &str| kind.rsplit("::").next() == Some(scope::kind(&uid));
            let place = written.iter().find(|literal| literal.name == name(&uid) && same(&literal.kind));
            problems.push(statement.problem(place.map_or(0, |literal| literal.name_at), what, &mend));
        }
        told.push(uid);
    }
}

/// Why the roster does not know a name, and what was meant.
fn unknown(uid: &EntityUid, roster: &Roster) -> Option<(String, String)> {
    let name = name(uid);
    match kind(uid) {
        "Agency" => agency(name, roster).err(),
        "Unit" => {
            let Some((code, unit)) = name.split_once('/') else {
                let what = format!("`{name}` names no unit: its agency is missing");
                return Some((what, "write it as agency and unit: \"TH/TH-SPOC\"".to_owned()));
            };
            match agency(code, roster) {
                Err(wrong) => Some(wrong),
                Ok(member) if member.units.iter().any(|known| known.unit == unit) => None,
                Ok(member) => {
                    let units: Vec<&str> = member.units.iter().map(|known| known.unit.as_str()).collect();
                    Some((format!("{code} has no unit `{unit}`"), suggest(unit, &units)))
                }
            }
        }
        "Group" => {
            let mut groups: Vec<&str> =
                roster.members.iter().flat_map(|member| &member.groups).map(String::as_str).collect();
            groups.sort_unstable();
            groups.dedup();
            let what = format!("no member of the region has the group `{name}`");
            (!groups.contains(&name)).then(|| (what, suggest(name, &groups)))
        }
        "Region" if name == roster.region => None,
        "Region" => Some((
            format!("this region is not called `{name}`"),
            format!("write Lintas::Region::\"{}\"", roster.region),
        )),
        "Packet" => Some((
            "packets have no names".to_owned(),
            "say what the packet is like: resource.kind, resource.tlp, …".to_owned(),
        )),
        _ => None,
    }
}

fn agency<'r>(code: &str, roster: &'r Roster) -> Result<&'r Member, (String, String)> {
    let found = roster.members.iter().find(|member| member.agency == code);
    match found {
        Some(member) if member.status != MemberStatus::Revoked as i32 => Ok(member),
        Some(_) => Err((
            format!("{code} is no member of the region any more"),
            "take it out; it receives nothing and releases nothing".to_owned(),
        )),
        None => {
            let codes: Vec<&str> = roster.members.iter().map(|member| member.agency.as_str()).collect();
            Err((format!("there is no agency `{code}` in the region"), suggest(code, &codes)))
        }
    }
}

/// Why a policy would never be asked, or say something that its author cannot want.
fn dead(policy: &Policy, owner: &Owner, roster: &Roster) -> Option<(String, String)> {
    let actions = scope::actions(policy);
    let forbids = policy.effect() == cedar_policy::Effect::Forbid;
    let Owner::Agency(code) = owner else {
        let asked = actions.iter().any(|action| *action != "Review");
        return (!asked).then(|| {
            let what = "the baseline is never asked whether a person must look at a packet".to_owned();
            (what, "leave it to the agencies".to_owned())
        });
    };
    if scope::names_no_action(policy) && !forbids {
        let what = "this policy permits everything at once: it releases, accepts, and demands a person's review of every \
                    release";
        let mend = "name the action: action == Lintas::Action::\"Release\" (or \"Accept\")";
        return Some((what.to_owned(), mend.to_owned()));
    }
    if forbids && !scope::names_no_action(policy) && actions.contains(&"Review") {
        let what = "a policy that forbids \"Review\" would take away a review that another one asks for";
        return Some((
            what.to_owned(),
            "permit \"Review\" for what a person must look at, and nothing else".to_owned(),
        ));
    }
    let asked = actions.iter().filter(|action| **action != "Relay");
    if asked.clone().next().is_none() {
        let what = "only the baseline is asked for \"Relay\": this policy would never be asked";
        let mend = "use action \"Release\": it is asked each time a packet is passed on, with context.via and context.hops";
        return Some((what.to_owned(), mend.to_owned()));
    }
    let mine = |place: Option<EntityUid>| place.is_none_or(|uid| belongs(&uid, code, roster));
    let (from_me, to_me) = (mine(scope::packet(policy)), mine(scope::recipient(policy)));
    let (mut release, mut accept) = (false, false);
    for action in asked {
        if *action == "Accept" { accept = true } else { release = true }
    }
    if (release && from_me) || (accept && to_me) {
        return None;
    }
    let what = match (release, accept) {
        (_, false) => {
            format!("{code} releases only what {code} wrote itself: this policy would never be asked")
        }
        (false, true) => format!("{code} accepts only for its own units: this policy would never be asked"),
        (true, true) => {
            format!(
                "this policy is neither about what {code} wrote nor about its own units, so it would never be asked"
            )
        }
    };
    let mend = if release {
        "to release something to an agency, write principal in Lintas::Agency::\"…\""
    } else {
        "to accept something of an agency, write resource in Lintas::Agency::\"…\""
    };
    Some((what, mend.to_owned()))
}

/// Whether something of an agency can be, or be in, what a policy's first line names.
fn belongs(uid: &EntityUid, code: &str, roster: &Roster) -> bool {
    let name = name(uid);
    match kind(uid) {
        "Agency" => name == code,
        "Unit" => name.split_once('/').is_some_and(|(agency, _)| agency == code),
        "Group" => {
            let me = roster.members.iter().find(|member| member.agency == code);
            me.is_some_and(|member| member.groups.iter().any(|group| group == name))
        }
        _ => true,
    }
}
