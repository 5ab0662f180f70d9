//! Conditions that contradict each other. Cedar finds what its types rule out; that a packet has two kinds at once, or a unit is
//! chosen by name and is not, it takes for a condition like any other.

use serde_json::Value;

/// Two conditions that must both hold and cannot, in words; `None` if none are seen. Sees equalities with different literals, and
/// a condition beside its opposite. The policy in Cedar's JSON.
pub(super) fn contradiction(policy: &Value) -> Option<String> {
    let mut all = Vec::new();
    for clause in policy.get("conditions").and_then(Value::as_array).into_iter().flatten() {
        let when = clause.get("kind").and_then(Value::as_str) == Some("when");
        collect(clause.get("body")?, when, &mut all);
    }
    for (at, one) in all.iter().enumerate() {
        for other in all.iter().skip(at + 1) {
            if one.0 == other.0 && one.1 != other.1 {
                return Some("a condition must hold and must not hold".to_owned());
            }
            if let (Some((what, a)), Some((same, b))) = (must_equal(one), must_equal(other))
                && what == same
                && a != b
            {
                return Some(format!("{} cannot be two things at once", said(what)));
            }
        }
    }
    None
}

/// What must hold (or must not), one by one.
fn collect<'t>(tree: &'t Value, holds: bool, all: &mut Vec<(&'t Value, bool)>) {
    let both = |key: &str| Some((tree.get(key)?.get("left")?, tree.get(key)?.get("right")?));
    if let Some(arg) = tree.pointer("/!/arg") {
        return collect(arg, !holds, all);
    }
    // Not (a or b) is: not a, and not b.
    match both(if holds { "&&" } else { "||" }) {
        Some((left, right)) => {
            collect(left, holds, all);
            collect(right, holds, all);
        }
        None => all.push((tree, holds)),
    }
}

fn must_equal<'t>((condition, holds): &(&'t Value, bool)) -> Option<(&'t Value, &'t Value)> {
    if *holds { equality(condition) } else { None }
}

/// What is compared, and the literal that it must equal.
fn equality(condition: &Value) -> Option<(&Value, &Value)> {
    let (left, right) = (condition.pointer("/==/left")?, condition.pointer("/==/right")?);
    let literal = |side: &Value| side.get("Value").is_some();
    match (literal(left), literal(right)) {
        (false, true) => Some((left, right)),
        (true, false) => Some((right, left)),
        (true, true) | (false, false) => None,
    }
}

/// `resource.kind` of a tree.
fn said(tree: &Value) -> String {
    let attribute = tree.pointer("/./attr").and_then(Value::as_str);
    let of = tree.pointer("/./left");
    match (attribute, of, tree.get("Var").and_then(Value::as_str)) {
        (Some(attribute), Some(of), _) => format!("{}.{attribute}", said(of)),
        (_, _, Some(variable)) => variable.to_owned(),
        _ => "something".to_owned(),
    }
}
