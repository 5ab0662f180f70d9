//! What a verified file says, for people.

use lintas_proto::{
    audit::leaf::LEAF_BYTES,
    evidence::Evidence,
    receipt::Receipt,
    schema::{AuditEvent, EventType, Outcome},
};

use crate::core::{
    log::{inclusion::leaf_time_ms, receipts::Grade},
    state::name,
    text::{self, one_line},
    view::{Acknowledged, Happened, LogPlace},
};

pub(super) fn acknowledged(evidence: &Evidence, receipt: &Receipt, events: &[AuditEvent]) -> Acknowledged {
    let about = |(event, _): &(&AuditEvent, &lintas_proto::schema::LoggedEvent)| {
        event.recipient.is_some() && event.recipient == evidence.recipient
    };
    let ours = events.iter().zip(&receipt.events).find(about);
    let leaf = match (&evidence.leaf, ours) {
        (None, _) => "it names no entry of its own log".to_owned(),
        // The recipient's own side: the very leaf.
        (Some(leaf), Some((event, logged))) if event.r#type == EventType::Received as i32 => {
            if logged.leaf == leaf.as_slice() {
                "the entry that it saw is this one"
            } else {
                "it saw ANOTHER entry"
            }
            .to_owned()
        }
        (Some(leaf), Some((event, _))) => own_log(leaf, event),
        (Some(_), None) => "the receipt has nothing to compare its entry with".to_owned(),
    };
    let (ours, _) = text::reason(evidence.reason);
    Acknowledged {
        by: name(&evidence.actor),
        recipient: evidence.recipient.as_ref().map(name),
        accepted: evidence.outcome == Outcome::Acceptance,
        why: if evidence.outcome == Outcome::Acceptance { String::new() } else { ours.to_owned() },
        text: one_line(&evidence.text),
        time_ms: evidence.time_ms,
        leaf,
    }
}

/// A recipient names the leaf in its own sub-log: kind and time of it must be those of the release here. The rest of it
/// only the recipient can open.
fn own_log(leaf: &[u8; LEAF_BYTES], event: &AuditEvent) -> String {
    let received = leaf.get(1).is_some_and(|kind| i32::from(*kind) == EventType::Received as i32);
    if received && leaf_time_ms(leaf) == Some(event.time_ms) {
        "its own log shows the same event, at the same time".to_owned()
    } else {
        "its own log shows SOMETHING ELSE: compare with that agency".to_owned()
    }
}

/// Whose policy it was, e.g. `the regional baseline (baseline/noforn)`, `TH (policy TH/alerts)`.
fn decider(id: &str) -> String {
    let id = one_line(id);
    match id.split_once('/') {
        Some(("baseline", _)) => format!("the regional baseline ({id})"),
        Some((owner, _)) => format!("{owner} (policy {id})"),
        None => id,
    }
}

pub(super) fn happened(event: &AuditEvent, index: u64) -> Happened {
    let kind = EventType::try_from(event.r#type).unwrap_or_default();
    let code = kind.as_str_name();
    let decides = [EventType::Released, EventType::Denied, EventType::NotAccepted, EventType::Withheld];
    let decided = || {
        if event.policy_ids.is_empty() {
            "the regional baseline".to_owned()
        } else {
            event.policy_ids.iter().map(|id| decider(id)).collect::<Vec<_>>().join(", ")
        }
    };
    Happened {
        event: code.strip_prefix("EVENT_TYPE_").unwrap_or(code).to_owned(),
        recipient: event.recipient.as_ref().map(name),
        time_ms: event.time_ms,
        index,
        decided_by: decides.contains(&kind).then(decided),
        why: Some(one_line(&event.text)).filter(|text| !text.is_empty()),
    }
}

pub(super) fn missing(
    grade: Grade,
    sent: bool,
    events: &[AuditEvent],
    said: &[Acknowledged],
    place: Option<&LogPlace>,
) -> Vec<String> {
    let mut missing = Vec::new();
    match (grade, place) {
        (Grade::Promised, _) => missing.push(
            "the proofs that the broker's log has these events: it has not shown them yet, or this file was made before"
                .to_owned(),
        ),
        (Grade::Included, Some(place)) if place.witnesses == 0 => {
            missing.push("cosignatures: this region has no witnesses".to_owned());
        }
        (Grade::Included, Some(place)) => missing.push(format!(
            "a quorum of witnesses: {} have cosigned, {} of {} are needed",
            place.cosigned, place.needed, place.witnesses
        )),
        (Grade::Included, None) | (Grade::Witnessed, _) => {}
    }
    missing.extend(place.and_then(|place| Some((place, place.given_up?))).map(|(place, size)| {
        format!(
            "a place in a log that goes on: the region authority has ended this log with {size} epochs, and epoch {} lies \
             behind its end; that it was there once is shown all the same",
            place.epoch
        )
    }));
    let released = events.iter().filter(|event| event.r#type == EventType::Released as i32);
    for unit in released.filter_map(|event| event.recipient.as_ref()).map(name).filter(|_| sent) {
        if !said.iter().any(|said| said.recipient.as_ref() == Some(&unit)) {
            missing.push(format!("the acknowledgement of {unit}: none has come here yet"));
        }
    }
    missing
}
