//! Whether this agency takes a packet: the regional baseline and the own policy, asked with what the originator signed.

use lintas_config::policy::{Decision, Denial, Layers, Policies, Question, Way};
use lintas_proto::{
    envelope::core::Core,
    evidence::Evidence,
    limits,
    schema::{Opening, Outcome, Reason, UnitRef},
};

use super::Rejected;
use crate::core::{state::name, text::shorten};

/// That this agency does not take a packet: what its officers read, and what the sender reads.
pub(super) struct NotTaken {
    own: String,
    told: String,
    policy_id: String,
}

/// Asks the baseline and the own policy whether a packet is taken, by what its originator signed.
pub(super) fn denied(
    policies: &Policies,
    core: &Core,
    opening: &Opening,
    unit: &UnitRef,
    now_ms: u64,
) -> Option<NotTaken> {
    let question = Question {
        originator: &core.originator,
        recipient: unit,
        named: opening.named,
        kind: core.kind,
        label: &core.label,
        onward: core.onward,
        reviewed: core.reviewed,
        way: Way::Direct,
        now_ms,
    };
    let decision = policies.decide(&question, Layers::Accept);
    let denial: &Denial = match decision.as_ref() {
        Decision::Release(_) => return None,
        Decision::Deny(denial) => denial,
        // Only the originator's side can ask for a review.
        Decision::Review(_) => return None,
    };
    let told = denial.for_originator(unit);
    let (kind, from) = (core.kind.as_str_name(), name(&core.originator));
    let kind = kind.strip_prefix("KIND_").unwrap_or(kind);
    Some(NotTaken {
        own: format!("{kind} from {from}: {}", denial.sentence(&question)),
        told: shorten(&told.sentence(&question), limits::SENTENCE_BYTES_MAX),
        policy_id: told.policy_id,
    })
}

impl NotTaken {
    /// `evidence` says yet that it was taken.
    pub(super) fn reject(self, evidence: Evidence) -> Rejected {
        let evidence = Evidence {
            outcome: Outcome::Rejection,
            reason: Reason::Policy,
            text: self.told,
            policy_id: self.policy_id,
            ..evidence
        };
        Rejected {
            digest: evidence.header_digest,
            unit: evidence.actor.unit.clone(),
            text: self.own,
            evidence,
        }
    }
}
