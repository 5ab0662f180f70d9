//! Time in policies. `context.now` may be compared with literals only, so it is known when an answer can change, and how long
//! it may be remembered.

use cedar_policy::Policy;
use serde_json::Value;

/// The moments that a policy compares the time with, milliseconds since 1970.
///
/// # Errors
/// The time is used in another way.
pub(super) fn moments(policy: &Policy) -> Result<Vec<u64>, String> {
    let tree = policy.to_json().map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    walk(&tree, &mut found)?;
    Ok(found)
}

const COMPARISONS: [&str; 6] = ["<", "<=", ">", ">=", "==", "!="];

fn walk(tree: &Value, found: &mut Vec<u64>) -> Result<(), String> {
    if is_now(tree) || is_context(tree) {
        return Err(
            "the time may be compared with a literal only: what else it is used for cannot be foreseen"
                .to_owned(),
        );
    }
    match tree {
        Value::Object(fields) => {
            for (key, value) in fields {
                if matches!(key.as_str(), "." | "has") && value.get("left").is_some_and(is_context) {
                    continue;
                }
                let sides = (value.get("left"), value.get("right"));
                if let (true, (Some(left), Some(right))) = (COMPARISONS.contains(&key.as_str()), sides)
                    && (is_now(left) || is_now(right))
                {
                    let other = if is_now(left) { right } else { left };
                    found.extend(literal(other)?);
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
