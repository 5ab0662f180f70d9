//! What the regional baseline and this agency's own release policy say of each recipient, before anything is sealed. The
//! broker asks the same, and the recipient's policy besides; here nothing has left the house yet.

use lintas_config::policy::{Decision, Denial, Layers, Question, Way, question::rank};
use lintas_proto::schema::{Roster, UnitRef};

use super::{Clearance, Cleared, Objection, Rules, objection};
use crate::core::{draft::Draft, state::name, text::one_line};

/// Asks of everybody who is cleared. Whoever is denied stops the whole, or is left out if the officer asked for that.
pub(super) fn ask(
    draft: &Draft,
    originator: &UnitRef,
    rules: Rules<'_>,
    clearance: &mut Clearance,
    objections: &mut Vec<Objection>,
) {
    if let Some(unknown) = unknown_marking(draft, rules.directory.roster()) {
        objections.push(unknown);
        return;
    }
    let published = rules.policies.bundle(&originator.agency).is_some();
    if !published {
        objections.push(no_bundle(&originator.agency));
    }
    let before = clearance.recipients.len();
    let mut released = Vec::with_capacity(before);
    for cleared in std::mem::take(&mut clearance.recipients) {
        let question = question(draft, originator, &cleared, rules);
        match rules.policies.decide(&question, Layers::Release).as_ref() {
            Decision::Release(_) => released.push(cleared),
            Decision::Review(allowed) => {
                clearance.review_by.extend(allowed.review_by.iter().cloned());
                released.push(cleared);
            }
            // Said once, for all of them.
            Decision::Deny(denial) if !published && is_of(&originator.agency, denial) => {}
            Decision::Deny(denial) => {
                let denied = denied(denial, &question, rules);
                if rules.without_denied {
                    clearance.denied.push(denied.to_string());
                } else {
                    objections.push(denied);
                }
            }
        }
    }
    clearance.recipients = released;
    clearance.review_by.sort_unstable();
    clearance.review_by.dedup();
    if published && clearance.recipients.is_empty() && !clearance.denied.is_empty() {
        let denied = clearance.denied.join("; ");
        objections.push(objection(
            format!("policy releases it to nobody: {denied}"),
            "there is nobody to send it to",
        ));
    }
}

fn question<'a>(
    draft: &'a Draft,
    originator: &'a UnitRef,
    cleared: &'a Cleared,
    rules: Rules<'_>,
) -> Question<'a> {
    Question {
        originator,
        recipient: &cleared.unit,
        named: cleared.named,
        kind: draft.kind,
        label: &draft.label,
        onward: draft.onward,
        reviewed: rules.reviewed,
        way: Way::Direct,
        now_ms: rules.now_ms,
    }
}

fn is_of(agency: &str, denial: &Denial) -> bool {
    denial.policy_id.split_once('/').is_some_and(|(owner, _)| owner == agency)
}

/// Who decided about whom, by which policy, why, and what to do.
fn denied(denial: &Denial, question: &Question<'_>, rules: Rules<'_>) -> Objection {
    let to = name(question.recipient);
    let why = format!(
        "{} does not release it to {to}: {} (policy {})",
        denial.decider(question),
        denial.why,
        denial.policy_id
    );
    // A unit stands here for its agency or a group: perhaps only that is wrong.
    let by_name = Question { named: true, ..*question };
    let would_go = !question.named
        && !matches!(rules.policies.decide(&by_name, Layers::Release).as_ref(), Decision::Deny(_));
    if would_go {
        objection(why, format!("name the unit: {to}"))
    } else {
        objection(why, denial.advice.as_str())
    }
}

fn no_bundle(agency: &str) -> Objection {
    objection(
        format!("{agency} has not published a release policy, so nothing leaves it"),
        "write one with `lintas policy new`, then `lintas policy publish`",
    )
}

/// A marking that the roster does not know has no rank: nobody could be cleared for it.
fn unknown_marking(draft: &Draft, roster: &Roster) -> Option<Objection> {
    let marking = draft.label.classification.as_ref().filter(|_| rank(roster, &draft.label).is_none())?;
    let (scheme, value) = (one_line(&marking.scheme), one_line(&marking.value));
    let known = |list: Vec<&str>| if list.is_empty() { "none".to_owned() } else { list.join(", ") };
    let Some(found) = roster.schemes.iter().find(|found| found.scheme == marking.scheme) else {
        let schemes = known(roster.schemes.iter().map(|found| found.scheme.as_str()).collect());
        return Some(objection(
            format!("the region has no scheme of markings `{scheme}`"),
            format!("its schemes are: {schemes}"),
        ));
    };
    let markings = known(found.markings.iter().map(|known| known.value.as_str()).collect());
    Some(objection(
        format!("the marking `{value}` of the scheme {scheme} stands in no table of the region"),
        format!("the region's markings of that scheme are: {markings}"),
    ))
}
