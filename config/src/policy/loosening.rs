//! What a roster takes out of the regional baseline, and for how long that still forbids. Taking out is the only way in which
//! a baseline gets looser: it only forbids.
//!
//! | a policy that stood | in the roster before as | must stand in the next one |
//! |---|---|---|
//! | in the baseline | present | in the baseline; or as leaving, for 14 days from the begin of that roster |
//! | as leaving, its time not over | leaving until T | in the baseline; or as leaving, until T or later |
//! | as leaving, its time over | leaving until T | nowhere |
//!
//! Two policies are the same if they differ in nothing but comments and space.

use std::collections::BTreeMap;

use lintas_proto::schema::{LeavingPolicy, Roster};

use super::{
    baseline::{LEAVES_AFTER_MS, text},
    set::{Owner, PolicySet, Told},
    text::statements,
};

/// How long a policy that was taken out must still forbid when a roster without it is signed or taken, by the clock of whoever
/// does it: a roster that was dated back, or lay about too long, would else make the 14 days shorter.
pub const IN_SIGHT_MS: u64 = LEAVES_AFTER_MS / 2;

/// A policy that a roster lets forbid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing<'r> {
    /// As it is written, without the space around it.
    pub text: &'r str,
    /// Until when it forbids, milliseconds since 1970; none while it stands in the baseline.
    pub until_ms: Option<u64>,
    /// What tells it from every other one.
    same: String,
}

/// A policy that would stop too early, and until when it must forbid at least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooEarly {
    /// Its id, e.g. `baseline/noforn`.
    pub policy: String,
    /// Milliseconds since 1970.
    pub until_ms: u64,
}

impl Standing<'_> {
    /// Whether it is that policy, whatever its comments.
    #[must_use]
    pub fn is(&self, other: &Standing<'_>) -> bool {
        self.same == other.same
    }

    /// What it says of itself.
    #[must_use]
    pub fn told(&self) -> Option<Told> {
        PolicySet::read(Owner::Baseline, self.text).ok()?.policies().next().cloned()
    }

    /// Its id, e.g. `baseline/noforn`.
    #[must_use]
    pub fn id(&self) -> String {
        self.told().map_or_else(|| "a policy of the baseline".to_owned(), |told| told.id)
    }
}

/// Everything that a roster lets forbid: its baseline in the order of the text, then what is leaving.
#[must_use]
pub fn standing(roster: &Roster) -> Vec<Standing<'_>> {
    let mut all = policies(text(roster));
    for leaving in &roster.leaving {
        let until_ms = Some(leaving.until_ms);
        all.extend(policies(&leaving.policy).into_iter().map(|one| Standing { until_ms, ..one }));
    }
    all
}

/// The policies of a text.
fn policies(text: &str) -> Vec<Standing<'_>> {
    fn one(text: &str) -> Standing<'_> {
        Standing { same: bare(text), text: text.trim(), until_ms: None }
    }
    statements(text).into_iter().map(|statement| one(statement.text)).collect()
}

/// What leaves when `baseline` takes the place of the baseline of `before` in a roster that begins at `not_before_ms`. A policy
/// that comes back leaves no more; one whose time is over has left.
#[must_use]
pub fn leaving(before: &Roster, baseline: &str, not_before_ms: u64) -> Vec<LeavingPolicy> {
    let next = policies(baseline);
    let begins_ms = not_before_ms.max(before.not_before_ms);
    let gone = standing(before).into_iter().filter(|old| !next.iter().any(|new| new.is(old)));
    gone.filter_map(|old| {
        let until_ms = old.until_ms.unwrap_or_else(|| begins_ms.saturating_add(LEAVES_AFTER_MS));
        (until_ms > not_before_ms).then(|| LeavingPolicy { policy: old.text.to_owned(), until_ms })
    })
    .collect()
}

/// The first policy that the roster `after` ends earlier than it may.
///
/// # Errors
/// [`TooEarly`].
pub fn follows(before: &Roster, after: &Roster) -> Result<(), TooEarly> {
    // Nobody wins time by a roster that says it began before the one in force.
    let begins_ms = after.not_before_ms.max(before.not_before_ms);
    kept(before, after, |old| match old.until_ms {
        None => Some(begins_ms.saturating_add(LEAVES_AFTER_MS)),
        Some(until_ms) => Some(until_ms).filter(|until_ms| *until_ms > after.not_before_ms),
    })
}

/// The first policy of the baseline of `before` that `after` ends so soon, by the clock of whoever signs it or takes it while
/// `before` is in force, that nobody would see it coming.
///
/// # Errors
/// [`TooEarly`].
pub fn in_sight(before: &Roster, after: &Roster, now_ms: u64) -> Result<(), TooEarly> {
    kept(before, after, |old| match old.until_ms {
        None => Some(now_ms.saturating_add(IN_SIGHT_MS)),
        Some(until_ms) => Some(until_ms).filter(|until_ms| *until_ms > now_ms),
    })
}

/// Whether `after` keeps each policy of `before` as long as `need` says.
fn kept(
    before: &Roster,
    after: &Roster,
    need: impl Fn(&Standing<'_>) -> Option<u64>,
) -> Result<(), TooEarly> {
    let mut there: BTreeMap<String, u64> = BTreeMap::new();
    for new in standing(after) {
        let until_ms = there.entry(new.same).or_default();
        *until_ms = (*until_ms).max(new.until_ms.unwrap_or(u64::MAX));
    }
    for old in standing(before) {
        let Some(until_ms) = need(&old) else { continue };
        if there.get(&old.same).is_none_or(|there| *there < until_ms) {
            return Err(TooEarly { policy: old.id(), until_ms });
        }
    }
    Ok(())
}

/// Whether each policy that is leaving is one, stands there once, and is not in the baseline as well.
pub(crate) fn is_sound(roster: &Roster) -> bool {
    let single = roster.leaving.iter().all(|leaving| policies(&leaving.policy).len() == 1);
    let mut all: Vec<String> = standing(roster).into_iter().map(|one| one.same).collect();
    all.sort_unstable();
    single && all.iter().zip(all.iter().skip(1)).all(|(a, b)| a != b)
}

/// A policy without comments, and with one space where there was any.
fn bare(text: &str) -> String {
    let (mut out, mut letters, mut space) =
        (String::with_capacity(text.len()), text.chars().peekable(), false);
    while let Some(letter) = letters.next() {
        if letter.is_whitespace() {
            space = true;
            continue;
        }
        if letter == '/' && letters.peek() == Some(&'/') {
            while letters.next_if(|inside| *inside != '\n').is_some() {}
            space = true;
            continue;
        }
        if space && !out.is_empty() {
            out.push(' ');
        }
        space = false;
        out.push(letter);
        if letter == '"' {
            while let Some(inside) = letters.next() {
                out.push(inside);
                match inside {
                    '\\' => out.extend(letters.next()),
                    '"' => break,
                    _ => {}
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 60 * 60 * 1_000;

    fn forbid(id: &str) -> String {
        format!(
            "@id(\"{id}\")\n@reason(\"it is // so; \\\"{id}\\\"\")\nforbid (principal, action in Lintas::Action::\"transfer\", resource)\n\
             when {{ resource.tlp == Lintas::Tlp::\"RED\" }};\n"
        )
    }

    fn roster(baseline: &[&str], leaving: &[(&str, u64)], not_before_ms: u64) -> Roster {
        let leave = |(id, until_ms): &(&str, u64)| LeavingPolicy { policy: forbid(id), until_ms: *until_ms };
        Roster {
            baseline: baseline.iter().map(|id| forbid(id)).collect(),
            leaving: leaving.iter().map(leave).collect(),
            not_before_ms,
            ..Roster::default()
        }
    }

    #[test]
    fn a_policy_that_stood_goes_on_for_fourteen_days_from_the_next_roster() {
        let before = roster(&["a", "b"], &[], DAY);
        let after = |until: u64| roster(&["a"], &[("b", until)], 2 * DAY);
        assert_eq!(follows(&before, &after(16 * DAY)), Ok(()));
        let early = TooEarly { policy: "baseline/b".to_owned(), until_ms: 16 * DAY };
        assert_eq!(follows(&before, &after(16 * DAY - 1)), Err(early.clone()));
        assert_eq!(follows(&before, &roster(&["a"], &[], 2 * DAY)), Err(early));
        assert_eq!(follows(&before, &roster(&["a", "b", "c"], &[], 2 * DAY)), Ok(()), "adding is at once");
        // Dated back, it does not go earlier.
        assert!(follows(&before, &roster(&["a"], &[("b", 14 * DAY)], 0)).is_err());
    }

    #[test]
    fn a_policy_that_is_leaving_leaves_when_it_was_said_and_not_before() {
        let before = roster(&["a"], &[("b", 15 * DAY)], DAY);
        assert!(follows(&before, &roster(&["a"], &[("b", 15 * DAY)], 9 * DAY)).is_ok());
        assert!(follows(&before, &roster(&["a"], &[("b", 15 * DAY - 1)], 9 * DAY)).is_err());
        assert!(follows(&before, &roster(&["a"], &[], 15 * DAY - 1)).is_err());
        assert!(follows(&before, &roster(&["a"], &[], 15 * DAY)).is_ok());
        assert!(follows(&before, &roster(&["a", "b"], &[], 9 * DAY)).is_ok(), "it comes back");
    }

    #[test]
    fn by_the_clock_a_loosening_stays_in_sight_for_a_week() {
        let before = roster(&["a", "b"], &[], 0);
        let after = roster(&["a"], &[("b", 14 * DAY)], 0);
        assert!(in_sight(&before, &after, 7 * DAY).is_ok());
        assert!(in_sight(&before, &after, 7 * DAY + 1).is_err());
        // What is leaving already was in sight.
        assert!(in_sight(&after, &after, 13 * DAY).is_ok() && in_sight(&after, &before, 13 * DAY).is_ok());
        assert!(in_sight(&after, &roster(&["a"], &[], 0), 13 * DAY).is_err());
        assert!(in_sight(&after, &roster(&["a"], &[], 0), 14 * DAY).is_ok());
    }

    #[test]
    fn what_leaves_follows_the_rule_and_what_comes_back_stays() {
        let before = roster(&["a", "b"], &[("c", 5 * DAY), ("d", 3 * DAY)], DAY);
        let (baseline, now) = ([forbid("a"), forbid("c")].concat(), 4 * DAY);
        let left = leaving(&before, &baseline, now);
        assert_eq!(left, [LeavingPolicy { policy: forbid("b").trim().to_owned(), until_ms: 18 * DAY }]);
        let after = Roster { baseline, leaving: left, not_before_ms: now, ..Roster::default() };
        assert!(follows(&before, &after).is_ok() && is_sound(&after));
        assert!(leaving(&after, &after.baseline, 18 * DAY).is_empty());
    }

    #[test]
    fn comments_and_space_make_no_other_policy_and_a_word_does() {
        let before = roster(&["a"], &[], 0);
        let with = |from: &str, to: &str| {
            assert!(before.baseline.contains(from), "{from}");
            let after = Roster { baseline: before.baseline.replace(from, to), ..before.clone() };
            follows(&before, &after).is_ok()
        };
        assert!(with("forbid (", "// why; \"not\n  forbid\t ("));
        assert!(!with("RED", "GREEN") && !with("// so", "//so") && !with("forbid (", "forbid("));
    }

    #[test]
    fn what_is_leaving_is_one_policy_each_and_once() {
        assert!(is_sound(&roster(&["a"], &[("b", 1)], 0)));
        assert!(!is_sound(&roster(&["a"], &[("a", 1)], 0)));
        assert!(!is_sound(&roster(&["a"], &[("b", 1), ("b", 2)], 0)));
        let mut two = roster(&["a"], &[("b", 1)], 0);
        two.leaving[0].policy.push_str(&forbid("c"));
        assert!(!is_sound(&two));
        two.leaving[0].policy = "// nothing".to_owned();
        assert!(!is_sound(&two));
    }

    #[test]
    fn a_roster_without_a_baseline_has_the_standard_one() {
        let none = Roster::default();
        assert_eq!(standing(&none).len(), 8);
        assert_eq!(follows(&none, &Roster { baseline: text(&none).to_owned(), ..Roster::default() }), Ok(()));
        let cut: String = text(&none).replace("@id(\"eyes-only\")", "@id(\"eyes\")");
        let early = follows(&none, &Roster { baseline: cut, ..Roster::default() }).unwrap_err();
        assert_eq!(early.policy, "baseline/eyes-only");
    }
}
