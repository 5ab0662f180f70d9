//! The broker's decision about one recipient: all three layers, asked with what the originator signed. The same code at
//! admission, in the sequencer's turn, and at each hand-over.
//!
//! A denial has two sides. The originator reads what its own policy or the baseline says; of another agency's policy it
//! reads only that the packet is not accepted. That agency reads in its own sub-log what its policy says.

use lintas_config::policy::{Allowed, DecidedBy, Decision, Denial, Layers, Question, Way};
use lintas_proto::{
    envelope::core::Core,
    schema::{EventType, Opening, PolicyFacts, UnitRef},
};

use super::{
    refuse::sentence,
    rules::{Generation, Rules},
};

/// A policy, and what it has to say: one plain sentence that fits into evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    /// Stable id, e.g. `TH/no-sources`.
    pub policy_id: String,
    /// Who decided about whom, why, what to do.
    pub text: String,
}

/// A recipient that gets nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// Who.
    pub recipient: UnitRef,
    /// The sender chose the unit itself.
    pub named: bool,
    /// For the originator.
    pub told: Words,
    /// For the recipient, if its own bundle decided.
    pub own: Option<Words>,
}

/// What the policies say of one recipient.
pub type Judgement = Result<Allowed, Box<Denied>>;

/// What the policies are asked about a recipient of a packet, by its signed bytes.
#[must_use]
pub fn question<'a>(core: &'a Core, recipient: &'a UnitRef, named: bool, now_ms: u64) -> Question<'a> {
    Question {
        originator: &core.originator,
        recipient,
        named,
        kind: core.kind,
        label: &core.label,
        onward: core.onward,
        reviewed: core.reviewed,
        way: Way::Direct,
        now_ms,
    }
}

/// What the log holds of a packet, beside originator, recipient and time.
#[must_use]
pub fn facts(core: &Core) -> PolicyFacts {
    PolicyFacts {
        kind: core.kind as i32,
        label: Some(core.label.clone()),
        onward: core.onward as i32,
        reviewed: core.reviewed,
    }
}

/// Decides. A release that a person must look at first is none here: the signed core would say that it was reviewed.
///
/// # Errors
/// [`Denied`].
pub fn judge(rules: &Rules, question: &Question<'_>) -> Judgement {
    judge_until(rules, question).0
}

/// The same, and until when (not included) the policies say the same, milliseconds since 1970.
fn judge_until(rules: &Rules, question: &Question<'_>) -> (Judgement, u64) {
    let (decision, until_ms) = rules.policies().decide_until(question, Layers::All);
    let judgement = match decision.as_ref() {
        Decision::Release(allowed) => Ok(allowed.clone()),
        Decision::Deny(denial) => Err(denied(denial, question)),
        Decision::Review(allowed) => Err(denied(&unreviewed(allowed, question), question)),
    };
    (judgement, until_ms)
}

fn denied(denial: &Denial, question: &Question<'_>) -> Box<Denied> {
    let recipient = question.recipient;
    let words = |denial: &Denial| Words {
        policy_id: denial.policy_id.clone(),
        text: sentence(&denial.sentence(question)),
    };
    Box::new(Denied {
        recipient: recipient.clone(),
        named: question.named,
        told: words(&denial.for_originator(recipient)),
        own: (denial.by == DecidedBy::Recipient).then(|| words(denial)),
    })
}

fn unreviewed(allowed: &Allowed, question: &Question<'_>) -> Denial {
    let policy_id = allowed.review_by.first().cloned().unwrap_or_default();
    let of_agency = policy_id.starts_with(&format!("{}/", question.originator.agency));
    let agency = &question.originator.agency;
    Denial {
        by: if of_agency { DecidedBy::Originator } else { DecidedBy::Region },
        policy_id,
        why: format!("a person of {agency} must review it first"),
        advice: format!("have it reviewed at {agency}, and send it from there"),
        public_reason: None,
    }
}

impl Denied {
    /// As it stands in the originator's sub-log.
    #[must_use]
    pub fn kind(&self) -> EventType {
        if self.own.is_some() { EventType::NotAccepted } else { EventType::Denied }
    }

    /// Whether it says something of the policy of another agency than `originator`.
    #[must_use]
    pub fn probes(&self, originator: &UnitRef) -> bool {
        self.own.is_some() && self.recipient.agency != originator.agency
    }
}

/// Judgements of all recipients of a packet, and how long they hold.
#[derive(Debug, Clone)]
pub struct Judged {
    /// Under which rules.
    pub generation: Generation,
    /// From when until when (not included) the policies say the same, milliseconds since 1970.
    from_ms: u64,
    until_ms: u64,
    /// In the order of the openings.
    pub all: Vec<Judgement>,
}

impl Judged {
    /// Judges at `now_ms`.
    #[must_use]
    pub fn new(rules: &Rules, core: &Core, openings: &[Opening], now_ms: u64) -> Self {
        let (mut all, mut until_ms) = (Vec::with_capacity(openings.len()), u64::MAX);
        for opening in openings {
            let unit = UnitRef { agency: opening.agency.clone(), unit: opening.unit.clone() };
            let question = question(core, &unit, opening.named, now_ms);
            let (judgement, holds_until_ms) = judge_until(rules, &question);
            until_ms = until_ms.min(holds_until_ms);
            all.push(judgement);
        }
        Self { generation: rules.generation(), from_ms: now_ms, until_ms, all }
    }

    /// Whether it would be the same at `now_ms`. A clock may go back.
    #[must_use]
    pub fn holds(&self, generation: &Generation, now_ms: u64) -> bool {
        self.generation == *generation && (self.from_ms..self.until_ms).contains(&now_ms)
    }

    /// Those who get nothing.
    pub fn denied(&self) -> impl Iterator<Item = &Denied> {
        self.all.iter().filter_map(|one| one.as_ref().err()).map(Box::as_ref)
    }
}
