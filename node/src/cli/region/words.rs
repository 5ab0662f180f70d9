//! Proposals and directories in plain words. Everything that another person wrote goes through [`one_line`].

use lintas_config::authority::{
    self, BrokerView, Change, Inspection, KeyView, KeysetView, MemberView, Published, SignatureView,
};

use super::policy_words;
use crate::{core::text::one_line, shell::clock::show as time};

/// A key: whose, if known, and its words.
pub(super) fn key(key: &KeyView) -> String {
    let name = key.name.as_deref().map_or_else(String::new, |name| format!("\"{}\": ", one_line(name)));
    format!("{name}{}", key.words)
}

/// What a proposal changes, and who has signed it.
pub(super) fn review(review: &authority::Review) -> String {
    let before = review
        .valid_until_before_ms
        .map_or_else(String::new, |ms| format!("\n  (the one before: until {})", time(ms)));
    let compared = match (review.compared_with, review.version) {
        (Some(version), _) => format!("What changes, compared with version {version}:"),
        (None, 1) => "The first roster of this region. What it says:".to_owned(),
        (None, _) => "NOT COMPARED with the directory in force (give it with --against), so everything is shown as new:"
            .to_owned(),
    };
    let nothing = if review.changes.is_empty() { "  nothing but the validity\n" } else { "" };
    let needs: String = review
        .needs
        .iter()
        .map(|need| format!("  {} of {} must sign, {} have\n", need.need, need.of, need.have))
        .collect();
    format!(
        "Region {}, roster version {}\n  valid from {}\n  valid until {}{before}\n\n{compared}\n{nothing}{}\n\
         Signatures:\n{needs}{}\n\
         To compare with the other offices, the words of this roster, or its digits:\n  {}\n  {}\n",
        one_line(&review.region),
        review.version,
        time(review.valid_from_ms),
        time(review.valid_until_ms),
        changes(&review.changes, "  "),
        review.signatures.iter().map(|by| signature(by, "MISSING")).collect::<String>(),
        review.roster_words,
        review.roster_digits,
    )
}

fn signature(by: &SignatureView, absent: &str) -> String {
    let state = if by.signed { "signed " } else { absent };
    let role = match (by.before, by.after) {
        (true, false) => " (goes)",
        (true | false, true | false) => "",
    };
    format!("  {state}  {}{role}\n", key(&by.office))
}

fn changes(changes: &[Change], indent: &str) -> String {
    let line = |change: &Change| format!("{indent}{}: {}\n", one_line(&change.whose), one_line(&change.text));
    changes.iter().map(line).collect()
}

/// One version of the history.
pub(super) fn published(step: &Published) -> String {
    let vouched = if step.vouched { "  its authorities are those of the bootstrap file\n" } else { "" };
    let by: String = step.signed_by.iter().map(|by| format!("  signed by {}\n", key(by))).collect();
    let nothing = if step.changes.is_empty() { "  nothing changed but the validity\n" } else { "" };
    format!(
        "Version {}, from {} until {}\n{by}{vouched}{nothing}{}\n",
        step.version,
        time(step.valid_from_ms),
        time(step.valid_until_ms),
        changes(&step.changes, "  "),
    )
}

/// A directory.
pub(super) fn inspection(found: &Inspection) -> String {
    let authorities: String = found.authorities.iter().map(|by| signature(by, "       ")).collect();
    format!(
        "Region {}, roster version {}\n  valid from {}\n  valid until {}\n  words of this roster: {}\n\
         \nAuthorities, {} of which must sign (words of the bootstrap file: {}):\n{authorities}\
         \nBrokers:\n{}\nAudit log: {}\n  an agency is told after {} days that an auditor read its part of the log\n\
         {}\nBaseline policy, which no agency's own policy can widen (--baseline shows its text):\n{}\
         \nClassification, equivalents in each line:\n{}\nMembers:\n{}",
        one_line(&found.region),
        found.version,
        time(found.valid_from_ms),
        time(found.valid_until_ms),
        found.roster_words,
        found.threshold,
        found.bootstrap_words,
        found.brokers.iter().map(broker).collect::<String>(),
        authority::quorum_words(found.members.iter().filter(|member| member.witness_vkey.is_some()).count()),
        found.reads_told_after_days,
        vkeys(found),
        policy_words::short(&found.baseline),
        policy_words::equivalents(&found.schemes),
        found.members.iter().map(member).collect::<String>(),
    )
}

fn broker(broker: &BrokerView) -> String {
    let ended = broker.ended_logs.iter().map(|log| {
        let (size, root) = (log.ended_at_size.unwrap_or_default(), log.root.as_deref().unwrap_or_default());
        format!("    its log {} has ended at size {size}, root {root}\n", one_line(&log.origin))
    });
    format!(
        "  {}\n    connects with {}\n    signs receipts with {}\n    signs its log {} with {}\n{}",
        one_line(&broker.name),
        key(&broker.transport_key),
        key(&broker.receipt_key),
        one_line(&broker.log.origin),
        key(&broker.log_key),
        ended.collect::<String>(),
    )
}

/// The keys of the log as other verifiers are told.
fn vkeys(found: &Inspection) -> String {
    let logs = found.brokers.iter().filter_map(|broker| broker.log.vkey.as_ref());
    let witnesses = found.members.iter().filter_map(|member| member.witness_vkey.as_ref());
    let line = |(what, vkey): (&str, &String)| format!("  {what} {}\n", one_line(vkey));
    let lines = logs.map(|vkey| ("log", vkey)).chain(witnesses.map(|vkey| ("witness", vkey)));
    format!("  for other verifiers (vkey lines of C2SP):\n{}", lines.map(line).collect::<String>())
}

/// What a member has to do with the log beside its own part of it.
fn log_lines(member: &MemberView) -> String {
    let witness = member.witness_key.as_ref().map(|witness| format!("    witness key: {}\n", key(witness)));
    let audits = match member.audits.as_slice() {
        [] => String::new(),
        [all] if all == "*" => "    reads every agency's part of the log\n".to_owned(),
        some => format!("    reads the parts of the log of: {}\n", list(some)),
    };
    format!("{}{audits}", witness.unwrap_or_default())
}

fn member(member: &MemberView) -> String {
    let MemberView { agency, name, native_names, country, status, roles, groups, identity_key, .. } = member;
    let native = native_names.iter().map(|name| format!(" ({})", one_line(name))).collect::<String>();
    let country = if country.is_empty() { "no country" } else { country };
    let held = member.held.as_ref().map_or_else(String::new, |why| format!("    HELD: {}\n", one_line(why)));
    let units = member.units.iter().map(|unit| {
        let keys = unit.keys_until_ms.map_or_else(
            || "NO KEY: nobody can send to it".to_owned(),
            |ms| format!("can be sent to until {}", time(ms)),
        );
        let (code, name, functions) = (one_line(&unit.unit), one_line(&unit.name), unit.functions.join("+"));
        let purposes = if unit.purposes.is_empty() { "none".to_owned() } else { unit.purposes.join("+") };
        let clearance = unit.clearance;
        format!(
            "    unit {code}: \"{name}\", functions {functions}, clearance {clearance}; {keys}\n\
             \x20     may use what it receives for: {purposes}\n"
        )
    });
    let status = if *status == "active" { (*status).to_owned() } else { status.to_uppercase() };
    format!(
        "  {}: \"{}\"{native}, {}, {status}\n    roles: {}; groups: {}\n    identity key: {}\n{held}{}{}{}",
        one_line(agency),
        one_line(name),
        one_line(country),
        list(roles),
        list(groups),
        key(identity_key),
        log_lines(member),
        units.collect::<String>(),
        member.keyset.as_ref().map_or_else(|| "    has published no keys\n".to_owned(), keyset),
    )
}

fn keyset(keyset: &KeysetView) -> String {
    let words = |keys: &[KeyView]| keys.iter().map(key).collect::<Vec<_>>().join("; ");
    format!(
        "    keys: version {}, valid until {}\n      connects with {}\n      signs with {}\n",
        keyset.version,
        time(keyset.valid_until_ms),
        words(&keyset.transport_keys),
        words(&keyset.packet_keys),
    )
}

fn list(items: &[String]) -> String {
    if items.is_empty() { "none".to_owned() } else { one_line(&items.join(", ")) }
}

#[cfg(test)]
mod tests {
    use lintas_config::authority::{Need, Review};

    use super::*;

    #[test]
    fn what_strangers_wrote_cannot_act_on_a_terminal() {
        let hostile = "x\u{1b}[2J\nSignatures: all\u{202e}".to_owned();
        let change = Change { kind: "name", whose: hostile.clone(), text: hostile.clone(), loosens: false };
        let name = Some(hostile.clone());
        let office = KeyView { key: String::new(), words: "zoo".to_owned(), name };
        let shown = review(&Review {
            region: hostile,
            version: 2,
            roster: String::new(),
            roster_words: String::new(),
            roster_digits: String::new(),
            compared_with: None,
            valid_from_ms: 0,
            valid_until_ms: 0,
            valid_until_before_ms: None,
            changes: vec![change],
            signatures: vec![SignatureView { office, before: true, after: false, signed: false }],
            needs: vec![Need { of: "the authorities", have: 0, need: 1 }],
            complete: false,
        });
        assert!(!shown.chars().any(|c| c != '\n' && (c.is_control() || c == '\u{202e}')), "{shown:?}");
        assert_eq!(shown.lines().filter(|line| line.starts_with("Signatures:")).count(), 1);
        assert!(shown.contains("NOT COMPARED") && shown.contains("MISSING") && shown.contains("(goes)"));
    }
}
