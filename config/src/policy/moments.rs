//! Time in policies. `context.now` may be compared with literals only, so it is known when an answer can change, and how long
//! it may be remembered.

use serde_json::Value;

/// What a policy may not say, and what to write instead.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) what: String,
    pub(super) mend: &'static str,
}

const MOMENT: &str = "write e.g. context.now < datetime(\"2027-01-01\")";

/// The moments that a policy compares the time with, milliseconds since 1970. The policy in Cedar's JSON.
///
/// # Errors
/// The time is used in another way, or something is asked of a name: only what the question is about has a country or groups.
pub(super) fn moments(policy: &Value) -> Result<Vec<u64>, Wrong> {
    let mut found = Vec::new();
    walk(policy, &mut found)?;
    Ok(found)
}

const COMPARISONS: [&str; 6] = ["<", "<=", ">", ">=", "==", "!="];

fn walk(tree: &Value, found: &mut Vec<u64>) -> Result<(), Wrong> {
    if is_now(tree) || is_context(tree) {
        let what =
            "the time may be compared with a literal only: what else it is used for cannot be foreseen"
                .to_owned();
        return Err(Wrong { what, mend: MOMENT });
    }
    match tree {
        Value::Object(fields) => {
            for (key, value) in fields {
                let sides = (value.get("left"), value.get("right"));
                if matches!(key.as_str(), "." | "has" | "in" | "is") && sides.0.is_some_and(names) {
                    return Err(Wrong {
                        what: "a policy may not ask where a name belongs, or what it has: it is asked about the packet and \
                               the unit only, and of all others it would always hear no"
                            .to_owned(),
                        mend: "ask it of principal, principal.agency, resource, resource.originator or context.via",
                    });
                }
                if matches!(key.as_str(), "." | "has") && sides.0.is_some_and(is_context) {
                    continue;
                }
                if let (true, (Some(left), Some(right))) = (COMPARISONS.contains(&key.as_str()), sides)
                    && (is_now(left) || is_now(right))
                {
                    let other = if is_now(left) { right } else { left };
                    found.extend(literal(other).map_err(|what| Wrong { what, mend: MOMENT })?);
                    continue;
                }
                walk(value, found)?;
            }
            Ok(())
        }
        Value::Array(all) => all.iter().try_for_each(|one| walk(one, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

/// Whether an entity is named in it.
fn names(tree: &Value) -> bool {
    match tree {
        Value::Object(fields) => fields.iter().any(|(key, value)| key == "__entity" || names(value)),
        Value::Array(all) => all.iter().any(names),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// `context.now`, and also `context["now"]`: one tree for both.
fn is_now(tree: &Value) -> bool {
    tree.get(".").is_some_and(|access| {
        access.get("attr").and_then(Value::as_str) == Some("now")
            && access.pointer("/left/Var").and_then(Value::as_str) == Some("context")
    })
}

/// All of the circumstances at once, and the time with them.
fn is_context(tree: &Value) -> bool {
    tree.get("Var").and_then(Value::as_str) == Some("context")
}

/// The moment of `datetime("…")`, and the one after it: `==` and `<=` change their answer there.
fn literal(tree: &Value) -> Result<[u64; 2], String> {
    let text = tree.pointer("/datetime/0/Value").and_then(Value::as_str);
    let text = text.ok_or("the time is compared with something that is not written as datetime(\"…\")")?;
    let date = || text.parse::<jiff::civil::Date>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok();
    let moment = match date().filter(|_| text.len() == 10) {
        Some(date) => date.timestamp(),
        None => {
            let parsed = jiff::Timestamp::strptime("%Y-%m-%dT%H:%M:%S%.f%z", text.replace('Z', "+0000"));
            parsed.map_err(|error| format!("`{text}` is no moment: {error}"))?
        }
    };
    let ms = u64::try_from(moment.as_millisecond()).map_err(|_| format!("`{text}` is before 1970"))?;
    Ok([ms, ms + 1])
}
