//! Where a packet of ours stands, and what became of it at each recipient: who decided, by which policy, what to do.

use lintas_config::policy::decide::BASELINE;
use lintas_proto::schema::{Reason, UnitRef};

use super::{Desk, read::why};
use crate::{
    core::{
        state::{Answer, Denied, Fate, Outgoing, name},
        text::{self, one_line},
        view::{Arrival, Standing},
    },
    shell::clock,
};

const LOG_ENDED: &str = "the log in which the broker had it has ended, by the word of the region authority; it is sent \
    again, and whoever has it recognises it";

const NO_POLICY: &str = "this node knows no release policy of its own agency: nothing is sent, and what comes waits at the \
    broker. If the agency has published one, the node fetches it by itself; if not: lintas policy new, then lintas policy \
    publish";

impl Desk {
    /// What is to be said while the own policy is not known.
    pub(super) fn warning_of_policy(&self) -> Option<String> {
        match self.policies(&self.directory()) {
            Ok(policies) if policies.bundle(&self.keys().agency).is_some() => None,
            Ok(_) => Some(NO_POLICY.to_owned()),
            Err(failure) => Some(format!(
                "the release policies cannot be read, so nothing is sent and nothing is taken: {failure}"
            )),
        }
    }

    /// The broker, by name where the region has but one.
    fn broker_name(&self) -> String {
        match self.directory().brokers() {
            [only] => format!("the broker {}", only.name),
            _ => "the broker".to_owned(),
        }
    }

    /// Where one packet stands.
    pub(super) fn standing_of(&self, packet: &Outgoing) -> Standing {
        match &packet.answer {
            Answer::Waiting => self.why_waiting(packet),
            Answer::AwaitsReview | Answer::Reviewed => reviewed(packet, clock::now_ms()),
            Answer::Accepted { time_ms, origin, index, clock_differs } => Standing::Accepted {
                time_ms: *time_ms,
                log: origin.clone(),
                index: *index,
                clock_differs: *clock_differs,
                in_part: packet.is_in_part(),
            },
            Answer::Refused { reason, text, signed, received_ms, not_resealed } => {
                let theirs = why(*reason, text);
                let again = format!("it was not sealed again, because {}", one_line(not_resealed));
                let tried = !not_resealed.is_empty();
                Standing::Refused {
                    who: self.broker_name(),
                    reason: reason.as_str_name().to_owned(),
                    why: if tried { format!("{theirs}; {again}") } else { theirs },
                    advice: if tried {
                        "mend that, then send it again"
                    } else {
                        text::advice_at_last(*reason)
                    }
                    .to_owned(),
                    signed: *signed,
                    time_ms: *received_ms,
                }
            }
        }
    }

    fn why_waiting(&self, packet: &Outgoing) -> Standing {
        if packet.again && self.pipeline().why_put_off(&packet.digest).is_none() {
            return Standing::Waiting { why: Some(LOG_ENDED.to_owned()), again_ms: None };
        }
        if let Some(why) = self.why_pending(&packet.digest) {
            return Standing::Waiting { why: Some(why), again_ms: None };
        }
        let pipeline = self.pipeline();
        let put_off = pipeline.why_put_off(&packet.digest);
        Standing::Waiting {
            why: put_off.map(|put_off| why(put_off.reason, &put_off.text)),
            again_ms: put_off.map(|put_off| put_off.until_ms),
        }
    }
}

pub(super) fn reviewed(packet: &Outgoing, now_ms: u64) -> Standing {
    let until_ms = packet.deliver_by_ms;
    match (&packet.answer, &packet.review) {
        (Answer::Reviewed, Some(review)) if review.released => {
            Standing::ReleasedInReview { by: review.reviewer.clone(), time_ms: review.time_ms }
        }
        (Answer::Reviewed, Some(review)) => Standing::RefusedInReview {
            by: review.reviewer.clone(),
            note: review.note.clone(),
            time_ms: review.time_ms,
        },
        _ if now_ms >= until_ms => Standing::ReviewExpired { until_ms },
        _ => Standing::AwaitingReview { until_ms },
    }
}

/// What became of a packet of agency `own` at one recipient; `released` if the broker has taken it.
pub(super) fn arrival(own: &str, unit: &UnitRef, fate: &Fate, released: bool) -> Arrival {
    let known = |state: &str, time_ms| Arrival {
        unit: name(unit),
        state: state.to_owned(),
        time_ms,
        why: None,
        advice: None,
        policies: Vec::new(),
    };
    match fate {
        Fate::Pending => known(if released { "released" } else { "pending" }, None),
        Fate::Delivered { time_ms } => known("delivered", Some(*time_ms)),
        Fate::Denied(denied) => not_released(own, unit, denied, known),
        Fate::Failed { by, by_broker, reason, policy_id, text: theirs, time_ms } => {
            let by_policy = *reason == Reason::Policy;
            let state = match (by_policy, by_broker) {
                (true, true) => "withheld",
                (true, false) => "not-accepted",
                (false, _) => "failed",
            };
            let held_back = match (by_policy, by_broker) {
                (true, true) => "the broker had it, and a policy that came into force since holds it back: ",
                (true, false) | (false, _) => "",
            };
            Arrival {
                why: Some(format!("{held_back}{by} says: {}", why(*reason, theirs))),
                advice: Some(text::advice_at_last(*reason).to_owned()),
                policies: Some(policy_id.clone()).filter(|id| !id.is_empty()).into_iter().collect(),
                ..known(state, Some(*time_ms))
            }
        }
    }
}

fn not_released(
    own: &str,
    unit: &UnitRef,
    denied: &Denied,
    known: impl Fn(&str, Option<u64>) -> Arrival,
) -> Arrival {
    let Denied { not_accepted, reason, policy_ids, text: theirs, time_ms } = denied;
    let decided = decider(own, unit, *not_accepted, policy_ids);
    let by = if policy_ids.is_empty() {
        decided
    } else {
        format!("{decided} ({})", one_line(&policy_ids.join(", ")))
    };
    let (why, advice) = if theirs.is_empty() {
        (text::reason(*reason).0.to_owned(), Some(text::advice_at_last(*reason).to_owned()))
    } else {
        // The sentence says what to do.
        (format!("`{}`", one_line(theirs)), None)
    };
    Arrival {
        why: Some(format!("decided by {by}: {why}")),
        advice,
        policies: policy_ids.clone(),
        ..known(if *not_accepted { "not-accepted" } else { "denied" }, Some(*time_ms))
    }
}

/// Who decided, in words.
fn decider(own: &str, unit: &UnitRef, not_accepted: bool, policy_ids: &[String]) -> String {
    let of = |owner: &str| policy_ids.iter().any(|id| id.split_once('/').is_some_and(|(of, _)| of == owner));
    if not_accepted {
        format!("the policy of {}", unit.agency)
    } else if of(BASELINE) {
        "the regional baseline".to_owned()
    } else if of(own) {
        "this agency's own release policy".to_owned()
    } else {
        "the broker".to_owned()
    }
}
