//! Preflight: what can be known to be wrong with a draft before anything is encrypted. It checks the directory, the label,
//! and what the policies say of each recipient ([`release`]); everything that is wrong is said at once.

mod release;

use std::{collections::BTreeSet, fmt};

use lintas_config::{Directory, policy::Policies};
use lintas_proto::{
    envelope::wrap::EncryptionKey,
    label, limits,
    schema::{Caveat, Member, Onward, Tlp, UnitRef},
};

use super::{
    contacts::{Contacts, active},
    draft::{Addressee, Draft, contact},
    state::name,
    text::one_line,
};

/// A recipient that may have the packet, with the key to seal for. Made by [`check`] only.
#[derive(Debug, Clone)]
pub(crate) struct Cleared {
    /// The unit.
    pub(crate) unit: UnitRef,
    /// Its key now.
    pub(crate) key: EncryptionKey,
    /// When that key ends, milliseconds since 1970: nothing sealed for it is delivered later.
    pub(crate) key_until_ms: u64,
    /// The officer chose the unit itself, not an agency or a group that it stands for.
    pub(crate) named: bool,
}

/// One reason why the draft is not sealed, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Objection {
    /// Why.
    pub(crate) why: String,
    /// What to do.
    pub(crate) advice: String,
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.why, self.advice)
    }
}

fn objection(why: impl Into<String>, advice: impl Into<String>) -> Objection {
    Objection { why: why.into(), advice: advice.into() }
}

/// What a draft is checked against.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules<'a> {
    /// Who is who.
    pub(crate) directory: &'a Directory,
    /// Whom officers have confirmed.
    pub(crate) contacts: &'a Contacts,
    /// The regional baseline and the own release policy.
    pub(crate) policies: &'a Policies,
    /// Members of a group that are not confirmed are left out, instead of stopping the whole.
    pub(crate) without_unconfirmed: bool,
    /// So are recipients to whom a policy does not release it.
    pub(crate) without_denied: bool,
    /// A person of this agency has reviewed the release.
    pub(crate) reviewed: bool,
    /// Now.
    pub(crate) now_ms: u64,
}

/// Who gets a packet.
#[derive(Debug, Default)]
pub(crate) struct Clearance {
    /// The recipients.
    pub(crate) recipients: Vec<Cleared>,
    /// Members of the groups named that are left out, because no officer has confirmed them.
    pub(crate) left_out: Vec<String>,
    /// Recipients that are left out, because a policy does not release it to them: each with why and what to do.
    pub(crate) denied: Vec<String>,
    /// Policies that demand a person's review first.
    pub(crate) review_by: Vec<String>,
}

/// Checks a draft of `originator`: the recipients, cleared, or everything that is wrong with it.
pub(crate) fn check(
    draft: &Draft,
    originator: &UnitRef,
    rules: Rules<'_>,
) -> Result<Clearance, Vec<Objection>> {
    let Rules { directory, now_ms, .. } = rules;
    let mut objections = Vec::new();
    // Under such a directory nobody has keys: the one cause is told, not its consequences.
    if let Some(outdated) = not_in_force(directory, now_ms) {
        return Err(vec![outdated]);
    }
    if !directory.has_unit(originator) {
        let why = format!("this agency has no active unit `{}`", one_line(&originator.unit));
        objections.push(objection(why, "check --from, or ask the region authority to list the unit"));
    }
    let hours_max = limits::DELIVER_WITHIN_MS_MAX / 3_600_000;
    if !(1..=hours_max).contains(&draft.deliver_within_hours) {
        let why = format!("deliver_within_hours is {}", draft.deliver_within_hours);
        objections.push(objection(why, format!("it must be from 1 to {hours_max}")));
    }
    let label = label::check(&draft.label);
    if let Err(error) = &label {
        objections.push(objection(format!("the label is not valid: {error}"), "correct it"));
    }
    let mut clearance = recipients(draft, originator, rules, &mut objections);
    if label.is_ok() && directory.has_unit(originator) {
        release::ask(draft, originator, rules, &mut clearance, &mut objections);
    }
    contradictions(draft, &mut objections);
    if objections.is_empty() { Ok(clearance) } else { Err(objections) }
}

fn not_in_force(directory: &Directory, now_ms: u64) -> Option<Objection> {
    let (roster, minute) = (directory.roster(), 60_000);
    if now_ms < roster.not_before_ms {
        let minutes = (roster.not_before_ms - now_ms) / minute + 1;
        let why = format!(
            "the directory (roster version {}) is not valid for another {minutes} minutes",
            roster.version
        );
        return Some(objection(why, "check this machine's clock; if it is right, wait until then"));
    }
    (now_ms >= roster.not_after_ms).then(|| {
        let minutes = (now_ms - roster.not_after_ms) / minute;
        let why = format!("the directory (roster version {}) expired {minutes} minutes ago", roster.version);
        let advice = "get the newest directory.bin from the region authority, and check this machine's clock";
        objection(why, advice)
    })
}

fn recipients(
    draft: &Draft,
    originator: &UnitRef,
    rules: Rules<'_>,
    objections: &mut Vec<Objection>,
) -> Clearance {
    let mut clearance = Clearance::default();
    let mut seen = BTreeSet::new();
    for addressee in &draft.to {
        let own = &originator.agency;
        let cleared = match addressee {
            Addressee::Unit(unit) => clear(&unit.agency, Some(unit), own, rules),
            Addressee::Again { unit, named } => clear(&unit.agency, Some(unit), own, rules)
                .map(|cleared| Cleared { named: *named, ..cleared }),
            Addressee::Agency(agency) => clear(agency, None, own, rules),
            Addressee::Group(group) => {
                let members = group_members(group, own, rules, &mut clearance.left_out, objections);
                clearance.recipients.extend(members.into_iter().filter(|one| seen.insert(name(&one.unit))));
                continue;
            }
        };
        match cleared {
            Ok(recipient) => {
                if seen.insert(name(&recipient.unit)) {
                    clearance.recipients.push(recipient);
                } else {
                    let why = format!("{} is named twice", name(&recipient.unit));
                    objections.push(objection(why, "name each recipient once, before the groups"));
                }
            }
            Err(objection) => objections.push(objection),
        }
    }
    clearance.left_out.sort_unstable();
    clearance.left_out.dedup();
    let count = clearance.recipients.len();
    if (count == 0 && objections.is_empty()) || count > limits::RECIPIENTS_MAX {
        let why = format!("the draft has {count} recipients");
        objections.push(objection(why, format!("name 1 to {}, e.g. --to KH/KH-AHT", limits::RECIPIENTS_MAX)));
    }
    clearance
}

/// The single points of contact of all other active members of a group, in the order of the roster. It fails closed:
/// who is not confirmed stops the whole, unless the officer asked for the others.
fn group_members(
    group: &str,
    own: &str,
    rules: Rules<'_>,
    left_out: &mut Vec<String>,
    objections: &mut Vec<Objection>,
) -> Vec<Cleared> {
    let in_group = |member: &&Member| member.groups.iter().any(|known| known == group);
    let mut members = active(rules.directory).filter(in_group).peekable();
    if members.peek().is_none() {
        let why = format!("no active member is in the group {group}");
        objections.push(objection(why, "check its name, or get the newest directory"));
    }
    let mut cleared = Vec::new();
    for member in members.filter(|member| member.agency != own) {
        let agency = &member.agency;
        if rules.contacts.knows_in(member, group) {
            match clear(agency, None, own, rules) {
                Ok(recipient) => cleared.push(recipient),
                Err(why) => objections.push(Objection { why: format!("group {group}: {}", why.why), ..why }),
            }
        } else if rules.without_unconfirmed {
            left_out.push(agency.clone());
        } else {
            let why = format!(
                "group {group}: {agency} ({}) is new there, and no officer has confirmed it",
                one_line(&member.name)
            );
            let advice =
                format!("run `lintas confirm {agency}`, or send to the others with --without-unconfirmed");
            objections.push(objection(why, advice));
        }
    }
    cleared
}

/// A unit, or the single point of contact of an agency.
fn clear(agency: &str, unit: Option<&UnitRef>, own: &str, rules: Rules<'_>) -> Result<Cleared, Objection> {
    let Rules { directory, contacts, now_ms, .. } = rules;
    let Some(member) = directory.member(agency) else {
        let listed = directory.roster().members.iter().any(|member| member.agency == agency);
        let why = if listed { "is suspended or revoked" } else { "is not in the directory" };
        return Err(objection(
            format!("{agency} {why}"),
            "take it out, or get the newest directory.bin from the region authority",
        ));
    };
    let named = unit.is_some();
    let unit = match unit {
        Some(unit) => unit.clone(),
        None => contact(directory, agency).ok_or_else(|| {
            objection(
                format!("{agency} has no unit that is its only single point of contact"),
                format!("name a unit: {agency}/UNIT"),
            )
        })?,
    };
    if !directory.has_unit(&unit) {
        let units: Vec<&str> = member.units.iter().map(|unit| unit.unit.as_str()).collect();
        let advice = format!("its units are {}", units.join(", "));
        return Err(objection(format!("{agency} has no unit {}", unit.unit), advice));
    }
    if directory.is_self_revoked(agency) {
        return Err(objection(
            format!("{agency} has taken back all its keys, as after the loss of its node"),
            format!("take {agency} out, and ask it by another way when it has new keys"),
        ));
    }
    if let Some(held) = directory.held().iter().find(|held| held.agency == agency) {
        let advice = format!("when it is: lintas confirm {agency} KEY; until then take {agency} out");
        return Err(objection(held.to_string(), advice));
    }
    if agency != own && !contacts.knows(member) {
        let why = format!(
            "{agency} ({}) is new here, or has a new identity key, and no officer has confirmed it; replies to it wait \
             for that too",
            one_line(&member.name)
        );
        return Err(objection(why, format!("run `lintas confirm {agency}`, or take it out")));
    }
    let (key, key_until_ms) = directory.at(now_ms).encryption_key_until(&unit).ok_or_else(|| {
        objection(
            format!("{} has no encryption key in the directory that is valid now", name(&unit)),
            "get the newest directory.bin; if it is still missing, ask that agency to publish its keys",
        )
    })?;
    Ok(Cleared { key: key.clone(), key_until_ms, unit, named })
}

/// What no recipient can make good.
fn contradictions(draft: &Draft, objections: &mut Vec<Objection>) {
    let has = |caveat: Caveat| draft.label.caveats.contains(&(caveat as i32));
    let red = draft.label.tlp == Tlp::Red as i32;
    let passed_on = matches!(draft.onward, Onward::Region | Onward::Any);
    for (rule, holds) in [("TLP:RED", red), ("ORCON", has(Caveat::Orcon)), ("NOFORN", has(Caveat::Noforn))] {
        if holds && passed_on {
            let why = format!("{rule} and onward {} contradict each other", draft.onward.as_str_name());
            objections.push(objection(why, "set onward to NONE or WITH_CONSENT"));
        }
    }
}

#[cfg(test)]
mod tests;
