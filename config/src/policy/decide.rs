//! The decision: three layers, each of which can only take away.
//!
//! ```text
//! allow = the regional baseline forbids nothing
//!     and the originator's bundle permits Release
//!     and the recipient's bundle permits Accept
//!     and no policy that was asked could not be evaluated
//! ```
//!
//! Another agency's bundle is never asked. What needs no policy comes first: originator and recipient are active members,
//! and the marking is one of the roster's. An error of any policy denies: Cedar leaves a `forbid` out that cannot be
//! evaluated, and would allow.

mod sentence;

use cedar_policy::{AuthorizationError, Authorizer, Decision as CedarDecision};
use lintas_proto::schema::{HandlingCode, Roster, UnitRef};

use super::{
    question::{Question, Slice, Way},
    set::{Owner, PolicySet, REASON_BYTES_MAX, Told},
    vocabulary::Word as _,
};

/// Name of the baseline in the ids of its policies.
pub const BASELINE: &str = "baseline";
/// Id of the decision that no policy of an agency releases; its code stands before it.
pub const NOTHING_RELEASES: &str = "nothing-releases";
/// Id of the decision that no policy of an agency accepts; its code stands before it.
pub const NOTHING_ACCEPTS: &str = "nothing-accepts";
/// Id under which the originator is told that a recipient does not take a packet; that agency's code stands before it.
pub const NOT_ACCEPTED: &str = "not-accepted";
/// Id of the decision that a person must look at a release because of the label alone.
pub const REVIEW_H3: &str = "baseline/review-h3";

/// Who decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecidedBy {
    /// The regional baseline, or what the roster says of members and markings.
    Region,
    /// The originator's bundle.
    Originator,
    /// The recipient's bundle.
    Recipient,
}

/// Why a recipient gets nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Whose policy it was.
    pub by: DecidedBy,
    /// Which policy, e.g. `baseline/noforn` or `TH/no-sources`. Stable: stands in signed evidence.
    pub policy_id: String,
    /// Why, as that policy's owner reads it; part of a sentence.
    pub why: String,
    /// What to do; part of a sentence.
    pub advice: String,
    /// Of a recipient's policy: what its owner lets others know.
    pub public_reason: Option<String>,
}

/// What the policies say of one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It may go.
    Release(Allowed),
    /// It may go once a person of the originator has looked at it.
    Review(Allowed),
    /// It may not.
    Deny(Denial),
}

/// Which policies let a packet go. Ids in ascending order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Of the originator.
    pub released_by: Vec<String>,
    /// Of the recipient.
    pub accepted_by: Vec<String>,
    /// Why a person must look at it, if so: policy ids.
    pub review_by: Vec<String>,
}

/// Which layers are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layers {
    /// The broker: all.
    All,
    /// The sender: baseline and its own bundle.
    Release,
    /// The recipient: baseline and its own bundle.
    Accept,
}

/// A question that needs no policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stop {
    /// The originator is no active member, or has no such unit.
    Originator,
    /// The recipient is none.
    Recipient,
    /// Whoever passes it on is none.
    Via,
    /// The roster does not know the marking.
    Marking,
    /// It could not be put in Cedar's terms.
    Broken(String),
}

/// The sets that are asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) baseline: &'a [PolicySet],
    pub(super) originator: Option<&'a PolicySet>,
    pub(super) recipient: Option<&'a PolicySet>,
}

/// Decides; nothing is remembered.
pub(super) fn decide(asked: Asked<'_>, roster: &Roster, question: &Question<'_>, layers: Layers) -> Decision {
    match Slice::new(roster, question) {
        Ok(slice) => decide_on(asked, &slice, roster, question, layers),
        Err(stop) => Decision::Deny(stop.denial(question)),
    }
}

/// The same, of a slice that was cut for this question.
pub(super) fn decide_on(
    asked: Asked<'_>,
    slice: &Slice,
    roster: &Roster,
    question: &Question<'_>,
    layers: Layers,
) -> Decision {
    match try_decide(asked, slice, roster, question, layers) {
        Ok(allowed) if allowed.review_by.is_empty() || question.reviewed => Decision::Release(allowed),
        Ok(allowed) => Decision::Review(allowed),
        Err(denial) => Decision::Deny(denial),
    }
}

fn try_decide(
    asked: Asked<'_>,
    slice: &Slice,
    roster: &Roster,
    question: &Question<'_>,
    layers: Layers,
) -> Result<Allowed, Denial> {
    let (release, accept) = (layers != Layers::Accept, layers != Layers::Release);
    forbidden(asked.baseline, slice, question, release, accept)?;
    let mut allowed = Allowed::default();
    if release {
        allowed.released_by = permitted(asked.originator, "Release", slice, roster, question)?;
        allowed.review_by = reviewed_by(asked.originator, slice, roster, question)?;
    }
    if accept {
        allowed.accepted_by = permitted(asked.recipient, "Accept", slice, roster, question)?;
    }
    Ok(allowed)
}

/// What one set of policies that only forbids says by itself: nobody else is asked.
pub(super) fn decide_baseline(set: &PolicySet, roster: &Roster, question: &Question<'_>) -> Decision {
    let forbids = || {
        let slice = Slice::new(roster, question).map_err(|stop| stop.denial(question))?;
        forbidden(std::slice::from_ref(set), &slice, question, true, true)
    };
    match forbids() {
        Ok(()) => {
            let review_by = review_of(question);
            let asks = !review_by.is_empty() && !question.reviewed;
            let allowed = Allowed { review_by, ..Allowed::default() };
            if asks { Decision::Review(allowed) } else { Decision::Release(allowed) }
        }
        Err(denial) => Decision::Deny(denial),
    }
}

/// Whether the baseline forbids.
fn forbidden(
    baseline: &[PolicySet],
    slice: &Slice,
    question: &Question<'_>,
    release: bool,
    accept: bool,
) -> Result<(), Denial> {
    let relayed = matches!(question.way, Way::Relayed { .. });
    let actions = [("Release", release), ("Relay", relayed), ("Accept", accept)];
    for (action, _) in actions.iter().filter(|(_, asked)| *asked) {
        for set in baseline {
            if let Answer::Forbidden(denial) = ask(set, action, slice, DecidedBy::Region)? {
                return Err(denial);
            }
        }
    }
    Ok(())
}

/// Policies of an agency that permit; a denial if there is none, or one forbids.
fn permitted(
    set: Option<&PolicySet>,
    action: &str,
    slice: &Slice,
    roster: &Roster,
    question: &Question<'_>,
) -> Result<Vec<String>, Denial> {
    let by = if action == "Release" { DecidedBy::Originator } else { DecidedBy::Recipient };
    let Some(set) = set else { return Err(default_denial(by, false, question)) };
    let gone = set.gone(roster, action);
    if let Some((told, group)) = gone.iter().find(|(told, _)| told.forbids) {
        return Err(names_nobody(by, told, group));
    }
    match ask(set, action, slice, by.clone())? {
        Answer::Permitted(mut ids) => {
            ids.retain(|id| gone.iter().all(|(told, _)| told.id != *id));
            if ids.is_empty() { Err(default_denial(by, true, question)) } else { Ok(ids) }
        }
        Answer::Forbidden(denial) => Err(denial),
        Answer::Silent => Err(default_denial(by, true, question)),
    }
}

/// Why a person must look at it. A policy that names a group which is gone asks for it too.
fn reviewed_by(
    set: Option<&PolicySet>,
    slice: &Slice,
    roster: &Roster,
    question: &Question<'_>,
) -> Result<Vec<String>, Denial> {
    let own = set.map(|set| ask(set, "Review", slice, DecidedBy::Originator)).transpose()?;
    let mut ids = review_of(question);
    ids.extend(match own {
        Some(Answer::Permitted(ids)) => ids,
        Some(Answer::Forbidden(_) | Answer::Silent) | None => Vec::new(),
    });
    let gone = set.map(|set| set.gone(roster, "Review")).unwrap_or_default();
    ids.extend(gone.into_iter().filter(|(told, _)| !told.forbids).map(|(told, _)| told.id.clone()));
    // The label's own reason stands first.
    let own = ids.iter().position(|id| id != REVIEW_H3).unwrap_or(ids.len());
    if let Some(own) = ids.get_mut(own..) {
        own.sort();
    }
    ids.dedup();
    Ok(ids)
}

/// The label itself asks for a person.
fn review_of(question: &Question<'_>) -> Vec<String> {
    let h3 = question.label.handling.contains(&(HandlingCode::H3 as i32));
    h3.then(|| REVIEW_H3.to_owned()).into_iter().collect()
}

/// A policy that forbids, and names a group that no member has: whom it meant is not known.
fn names_nobody(by: DecidedBy, told: &Told, group: &str) -> Denial {
    Denial {
        by,
        policy_id: told.id.clone(),
        why: format!("that policy names the group {group}, which no member has any more, so it forbids"),
        advice: "its owner must name the right group and publish it again".to_owned(),
        public_reason: None,
    }
}

enum Answer {
    Permitted(Vec<String>),
    Forbidden(Denial),
    Silent,
}

fn ask(set: &PolicySet, action: &str, slice: &Slice, by: DecidedBy) -> Result<Answer, Denial> {
    let request = slice.request(action).map_err(|stop| stop.broken(by.clone(), set.owner()))?;
    let response = Authorizer::new().is_authorized(&request, set.cedar(), slice.entities());
    let diagnostics = response.diagnostics();
    if let Some(error) = diagnostics.errors().next() {
        return Err(unevaluated(by, set, error));
    }
    let mut told: Vec<_> = diagnostics.reason().filter_map(|id| set.told(id)).collect();
    told.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(match (response.decision(), told.first()) {
        (CedarDecision::Allow, _) => Answer::Permitted(told.iter().map(|told| told.id.clone()).collect()),
        (CedarDecision::Deny, None) => Answer::Silent,
        (CedarDecision::Deny, Some(told)) => Answer::Forbidden(Denial {
            by,
            policy_id: told.id.clone(),
            why: told.reason.clone(),
            advice: told.advice.clone().unwrap_or_else(|| "take it out".to_owned()),
            public_reason: told.public_reason.clone(),
        }),
    })
}

/// A policy that cannot be evaluated denies, whatever it would have said.
fn unevaluated(by: DecidedBy, set: &PolicySet, error: &AuthorizationError) -> Denial {
    let AuthorizationError::PolicyEvaluationError(error) = error;
    let policy_id =
        set.told(error.policy_id()).map_or_else(|| set.owner().policy("?"), |told| told.id.clone());
    let what: String = error.inner().to_string().chars().take(REASON_BYTES_MAX).collect();
    Denial {
        by,
        policy_id,
        why: format!("that policy could not be evaluated, so it denies: {what}"),
        advice: "its owner must mend it".to_owned(),
        public_reason: None,
    }
}

/// Nothing permits: said in the words of the label, since no policy has any.
fn default_denial(by: DecidedBy, has_bundle: bool, question: &Question<'_>) -> Denial {
    let (from, to) = (question.originator, question.recipient);
    let kind = question.kind.word();
    let (owner, id, why) = match by {
        DecidedBy::Recipient => {
            let why =
                format!("no policy of {} accepts {kind} from {} at {}", to.agency, from.agency, to.unit);
            (&to.agency, NOTHING_ACCEPTS, why)
        }
        DecidedBy::Originator | DecidedBy::Region => {
            let why = format!("no policy of {} releases {kind} with this label to {}", from.agency, name(to));
            (&from.agency, NOTHING_RELEASES, why)
        }
    };
    let why = if has_bundle { why } else { format!("{owner} has not published a release policy, and {why}") };
    let advice = format!("take it out, or ask whoever writes {owner}'s policy");
    Denial { by, policy_id: Owner::Agency(owner.clone()).policy(id), why, advice, public_reason: None }
}

fn name(UnitRef { agency, unit }: &UnitRef) -> String {
    format!("{agency} / {unit}")
}

impl Stop {
    pub(super) fn denial(self, question: &Question<'_>) -> Denial {
        let (id, why, advice) = match self {
            Self::Originator => (
                "member",
                format!("{} is not an active unit of the region", name(question.originator)),
                "ask the region authority",
            ),
            Self::Via => (
                "member",
                "whoever passes it on is not an active member of the region".to_owned(),
                "ask the region authority",
            ),
            Self::Recipient => ("member", "it is not an active unit of the region".to_owned(), "take it out"),
            Self::Marking => {
                let marking = question.label.classification.clone().unwrap_or_default();
                let why = format!(
                    "the marking {} of the scheme {} stands in no table of the region",
                    marking.value, marking.scheme
                );
                ("marking", why, "choose one of the region's markings")
            }
            Self::Broken(error) => return Self::Broken(error).broken(DecidedBy::Region, &Owner::Baseline),
        };
        let policy_id = Owner::Baseline.policy(id);
        Denial { by: DecidedBy::Region, policy_id, why, advice: advice.to_owned(), public_reason: None }
    }

    fn broken(self, by: DecidedBy, owner: &Owner) -> Denial {
        let error = match self {
            Self::Broken(error) => error,
            Self::Originator | Self::Recipient | Self::Via | Self::Marking => String::new(),
        };
        Denial {
            by,
            policy_id: owner.policy("cannot-decide"),
            why: format!("the question could not be put to the policies: {error}"),
            advice: "report it to the operator of the region".to_owned(),
            public_reason: None,
        }
    }
}
