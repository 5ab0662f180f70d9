//! What is wrong with a policy, said so that its author can mend it. Cedar knows policies by number and vocabularies as types
//! of entities; nobody who writes a release policy needs to.

use cedar_policy::{ValidationError, ValidationWarning};
use miette::Diagnostic;

use super::{
    set::Problem,
    text::{Literal, Statement},
    vocabulary::{ACTIONS, NAMED, vocabularies},
};
use crate::document;

/// What to do about a policy that can never hold.
pub(super) const NEVER_HOLDS: &str = "take it out, or mend the condition that nothing can meet";

/// The known word that was meant, as a question; empty if none is near.
pub(super) fn meant(word: &str, known: &[&str]) -> String {
    let plain = |word: &str| word.to_ascii_uppercase().replace('_', "-");
    let same = known.iter().find(|known| plain(known) == plain(word));
    same.map_or_else(
        || document::meant(word, known).trim_start_matches("; ").to_owned(),
        |known| format!("did you mean `{known}`?"),
    )
}

/// The known word that was meant, or all of them.
pub(super) fn suggest(word: &str, known: &[&str]) -> String {
    let near = meant(word, known);
    if !near.is_empty() {
        return near;
    }
    let shown: Vec<String> = known.iter().take(12).map(|known| format!("`{known}`")).collect();
    let more = if known.len() > shown.len() { ", …" } else { "" };
    if shown.is_empty() { String::new() } else { format!("known here: {}{more}", shown.join(", ")) }
}

/// Literals of unknown types, words that stand in no vocabulary, actions that do not exist.
pub(super) fn words(statement: &Statement<'_>) -> Vec<Problem> {
    statement.literals().iter().filter_map(|literal| word(statement, literal)).collect()
}

fn word(statement: &Statement<'_>, literal: &Literal<'_>) -> Option<Problem> {
    let Literal { kind, name, name_at, start } = literal;
    let vocabularies = vocabularies();
    let types: Vec<&str> = vocabularies.iter().map(|(kind, ..)| *kind).chain(NAMED).collect();
    let short = kind.strip_prefix("Lintas::").unwrap_or(kind);
    if !types.contains(&short) {
        let what = format!("there is nothing of the type `{kind}`");
        let full: Vec<String> = types.iter().map(|kind| format!("Lintas::{kind}")).collect();
        let full: Vec<&str> = full.iter().map(String::as_str).collect();
        let near = meant(short, &types);
        let mend = if near.is_empty() { suggest(kind, &full) } else { near.replacen('`', "`Lintas::", 1) };
        return Some(statement.problem(*start, what, &mend));
    }
    if short == kind {
        let what = format!("the type is called `Lintas::{kind}`");
        return Some(statement.problem(*start, what, &format!("write Lintas::{kind}::\"{name}\"")));
    }
    let (called, known) = vocabularies
        .iter()
        .find(|(kind, ..)| *kind == short)
        .map_or_else(|| ("action", ACTIONS.as_slice()), |(_, called, known)| (*called, known.as_slice()));
    let listed = short == "Action" || !NAMED.contains(&short);
    let what = format!("there is no {called} `{name}`");
    (listed && !known.contains(name)).then(|| statement.problem(*name_at, what, &suggest(name, known)))
}

/// A text that is no policy.
pub(super) fn unparsed(statement: &Statement<'_>, error: &dyn Diagnostic) -> Problem {
    let mut what = plain(&error.to_string());
    let mut mend = error.help().map(|help| plain(&help.to_string())).unwrap_or_default();
    let label = || error.labels()?.next()?.label().map(str::to_owned);
    if mend.is_empty() {
        mend = label().map(|label| plain(&label)).unwrap_or_default();
    }
    let mut offset = offset(error);
    if what.contains("'=' is not a valid operator") {
        "`=` does not compare anything".clone_into(&mut what);
        "write `==`".clone_into(&mut mend);
        offset = single_equals(statement.text).unwrap_or(offset);
    }
    if what.contains("unexpected end of input") {
        "this policy does not end".clone_into(&mut what);
        "a policy ends with a semicolon; look for a bracket or a quotation mark that was never closed"
            .clone_into(&mut mend);
        offset = 0;
    }
    statement.problem(offset, what, &mend)
}

fn single_equals(text: &str) -> Option<usize> {
    super::text::tokens(text).find(|token| token.is("=")).map(|token| token.start)
}

/// What Cedar's validator refuses; nothing for what [`words`] says better.
pub(super) fn invalid(statement: &Statement<'_>, error: &ValidationError) -> Option<Problem> {
    let said = !words(statement).is_empty();
    let spelling = matches!(
        error,
        ValidationError::UnrecognizedEntityType(_)
            | ValidationError::UnrecognizedActionId(_)
            | ValidationError::InvalidActionApplication(_)
            | ValidationError::InvalidEnumEntity(_)
    );
    if said && spelling {
        return None;
    }
    let mut mend = error.help().map(|help| plain(&help.to_string())).unwrap_or_default();
    let mut what = plain(&error.to_string());
    if let (ValidationError::UnsafeOptionalAttributeAccess(_), Some(name)) = (error, what.split('`').nth(1)) {
        mend = format!("write context has {name} && before it");
        what = format!("`{name}` may be absent: a packet that comes from its originator has none");
    }
    Some(statement.problem(offset(error), what, &mend))
}

/// What Cedar's validator warns of: an error here.
pub(super) fn warned(statement: &Statement<'_>, warning: &ValidationWarning) -> Option<Problem> {
    let mut mend = warning.help().map(|help| plain(&help.to_string())).unwrap_or_default();
    let mut what = plain(&warning.to_string());
    if matches!(
        warning,
        ValidationWarning::ImpossiblePolicy(_) | ValidationWarning::InvalidActionApplication(_)
    ) {
        if !words(statement).is_empty() {
            return None;
        }
        "this policy can never hold: its conditions contradict each other or the schema"
            .clone_into(&mut what);
        NEVER_HOLDS.clone_into(&mut mend);
    }
    if matches!(warning, ValidationWarning::InvalidActionApplication(_)) {
        "nobody ever asks for \"transfer\" itself: this policy can never hold".clone_into(&mut what);
        "write action in Lintas::Action::\"transfer\"".clone_into(&mut mend);
    }
    Some(statement.problem(offset(warning), what, &mend))
}

/// Cedar's words without its numbers of policies and its own terms.
pub(super) fn plain(said: &str) -> String {
    let rest = said.strip_prefix("for policy `").and_then(|rest| rest.split_once('`'));
    let rest = rest.map_or(said, |(_, rest)| rest.trim_start_matches([':', ',', ' ']));
    let terms = [
        (" on entity type `Lintas::", " of `"),
        ("entity type `Lintas::", "type `"),
        (" in context for Lintas::Action::", " of the context of "),
        ("`Lintas::", "`"),
        ("Cedar", "a policy"),
        ("eid", "word"),
        ("entity entities", "types"),
    ];
    terms.iter().fold(rest.to_owned(), |said, (from, to)| said.replace(from, to))
}

/// Where in the statement, bytes.
fn offset(diagnostic: &dyn Diagnostic) -> usize {
    diagnostic.labels().and_then(|mut labels| labels.next()).map_or(0, |label| label.offset())
}
