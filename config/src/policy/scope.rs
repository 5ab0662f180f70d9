//! What a policy's first line says it is asked about.

use cedar_policy::{ActionConstraint, EntityUid, Policy, PrincipalConstraint, ResourceConstraint};

/// The questions that are put to policies.
pub(super) const ASKED: [&str; 4] = ["Release", "Relay", "Accept", "Review"];

/// Which of [`ASKED`] a policy answers.
pub(super) fn actions(policy: &Policy) -> Vec<&'static str> {
    let named = match policy.action_constraint() {
        ActionConstraint::Any => return ASKED.to_vec(),
        ActionConstraint::Eq(action) => return asked(&[name(&action)]),
        ActionConstraint::In(actions) => actions,
    };
    let names: Vec<&str> = named.iter().map(name).collect();
    let transfer = names.contains(&"transfer").then_some(["Release", "Relay", "Accept"]);
    asked(&[names, transfer.into_iter().flatten().collect()].concat())
}

fn asked(names: &[&str]) -> Vec<&'static str> {
    ASKED.into_iter().filter(|action| names.contains(action)).collect()
}

/// Whether a policy is about every action there is, because it names none.
pub(super) fn names_no_action(policy: &Policy) -> bool {
    policy.action_constraint() == ActionConstraint::Any
}

/// What the recipient must be or be in, if the first line says so.
pub(super) fn recipient(policy: &Policy) -> Option<EntityUid> {
    match policy.principal_constraint() {
        PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
        PrincipalConstraint::In(uid) | PrincipalConstraint::Eq(uid) | PrincipalConstraint::IsIn(_, uid) => {
            Some(uid)
        }
    }
}

/// What the packet must be or be in: its parent is the agency of its originator.
pub(super) fn packet(policy: &Policy) -> Option<EntityUid> {
    match policy.resource_constraint() {
        ResourceConstraint::Any | ResourceConstraint::Is(_) => None,
        ResourceConstraint::In(uid) | ResourceConstraint::Eq(uid) | ResourceConstraint::IsIn(_, uid) => {
            Some(uid)
        }
    }
}

/// Type of an entity without its namespace.
pub(super) fn kind(uid: &EntityUid) -> &str {
    uid.type_name().basename()
}

/// What stands in the quotes of a literal.
pub(super) fn name(uid: &EntityUid) -> &str {
    uid.id().unescaped()
}
