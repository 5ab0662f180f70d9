//! The baseline policy and the schemes of classification in plain words.

use std::collections::BTreeSet;

use lintas_config::authority::{PolicyView, SchemeView};

use crate::{core::text::one_line, shell::clock::show as time};

/// A line for each policy.
pub(super) fn short(policies: &[PolicyView]) -> String {
    let line = |policy: &PolicyView| {
        format!("  {}: {}{}\n", one_line(&policy.id), one_line(&policy.reason), leaves(policy))
    };
    policies.iter().map(line).collect()
}

fn leaves(policy: &PolicyView) -> String {
    policy.until_ms.map_or_else(String::new, |ms| format!(" (was taken out, forbids until {})", time(ms)))
}

/// Every policy as it is written.
pub(super) fn full(region: &str, version: u64, policies: &[PolicyView]) -> String {
    let whole = |policy: &PolicyView| {
        let lines = policy.text.lines().map(|line| format!("{}\n", one_line(line)));
        let left = policy.until_ms.map(|ms| format!("// Was taken out; forbids until {}.\n", time(ms)));
        format!("\n{}{}", left.unwrap_or_default(), lines.collect::<String>())
    };
    format!(
        "// Baseline policy of region {}, roster version {version}.\n{}",
        one_line(region),
        policies.iter().map(whole).collect::<String>()
    )
}

/// A table: one column for each scheme, one line for each rank, the highest first.
pub(super) fn equivalents(schemes: &[SchemeView]) -> String {
    if schemes.is_empty() {
        return "  none: a packet with a marking is released to nobody\n".to_owned();
    }
    let ranks: BTreeSet<u32> = schemes.iter().flat_map(|scheme| scheme.markings.values().copied()).collect();
    let cell = |scheme: &SchemeView, rank: u32| {
        let of_rank = scheme.markings.iter().filter(|(_, known)| **known == rank);
        let names: Vec<String> = of_rank.map(|(marking, _)| one_line(marking)).collect();
        if names.is_empty() { "-".to_owned() } else { names.join(", ") }
    };
    let mut columns =
        vec![["rank".to_owned()].into_iter().chain(ranks.iter().rev().map(u32::to_string)).collect()];
    columns.extend(schemes.iter().map(|scheme| -> Vec<String> {
        let title = one_line(&scheme.scheme);
        [title].into_iter().chain(ranks.iter().rev().map(|rank| cell(scheme, *rank))).collect()
    }));
    let mut lines = vec![String::new(); ranks.len() + 1];
    for column in &columns {
        let width = column.iter().map(|text| text.chars().count()).max().unwrap_or_default();
        for (line, text) in lines.iter_mut().zip(column) {
            line.push_str(&format!("  {text:<width$}"));
        }
    }
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheme(code: &str, markings: &[(&str, u32)]) -> SchemeView {
        let markings = markings.iter().map(|(value, rank)| ((*value).to_owned(), *rank)).collect();
        SchemeView { scheme: code.to_owned(), markings }
    }

    #[test]
    fn equivalents_stand_in_one_line() {
        let schemes = [
            scheme("REGION", &[("SECRET", 3), ("RESTRICTED", 1)]),
            scheme("TH", &[("LAP-MAK", 3), ("LAP", 2)]),
        ];
        let want = "  rank  REGION      TH\n  3     SECRET      LAP-MAK\n  2     -           LAP\n  1     RESTRICTED  -\n";
        assert_eq!(equivalents(&schemes), want);
        assert!(equivalents(&[]).contains("released to nobody"));
    }

    #[test]
    fn a_policy_that_was_taken_out_says_until_when_it_forbids_and_acts_on_no_terminal() {
        let policy = PolicyView {
            id: "baseline/x".to_owned(),
            reason: "so\u{1b}[2J".to_owned(),
            advice: None,
            text: "forbid (\n\u{1b}[2J);".to_owned(),
            until_ms: Some(86_400_000),
        };
        let (line, text) = (short(std::slice::from_ref(&policy)), full("r", 2, &[policy]));
        assert!(line.contains("was taken out, forbids until 1970-01-02"), "{line}");
        assert!(
            text.contains("\n// Was taken out; forbids until 1970-01-02") && text.contains("\nforbid ("),
            "{text}"
        );
        assert!(!line.contains('\u{1b}') && !text.contains('\u{1b}'));
    }
}
