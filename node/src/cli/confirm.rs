//! `lintas confirm`: an officer's word for an agency: that its identity key is its own, and that it may be sent to.

use clap::Args;

use super::{Context, agree, status, unexpected};
use crate::{
    core::{text::one_line, view::ContactView},
    shell::{
        desk::{Reply, Request},
        failure::{Code, Failure},
    },
};

/// Options of `confirm`.
#[derive(Args)]
pub(super) struct Confirm {
    /// The agency: new here, new in a group, or held.
    agency: String,
    /// Its identity key as the agency has read it to you: 12 words, or 12 groups of 5 digits, as `lintas status`
    /// shows them; or 64 hex digits. Needed for one that is held; for another one you are shown the key and asked.
    key: Vec<String>,
    /// A group through which it may be reached; as often as there are groups. Without it: all of its groups.
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// You have compared the key with the agency by another way: do not ask.
    #[arg(long)]
    yes: bool,
}

/// Shows, asks, believes, and says how the node is then.
pub(super) fn run(context: &Context, confirm: Confirm) -> Result<(), Failure> {
    let Confirm { agency, key, groups, yes } = confirm;
    let mut key = key.join(" ");
    if key.is_empty() {
        let Reply::Contact(contact) = context.ask(Request::Contact { agency: agency.clone() })? else {
            return Err(unexpected());
        };
        key = shown(&contact, &groups, yes)?;
    }
    let Reply::Status(reply) = context.ask(Request::Confirm { agency, key, groups })? else {
        return Err(unexpected());
    };
    context.print(reply.as_ref(), status::plain_words)
}

/// The key that the officer was shown and agreed to.
fn shown(contact: &ContactView, groups: &[String], yes: bool) -> Result<String, Failure> {
    if contact.held {
        let message = format!(
            "{} has a new identity key that its old key does not vouch for. Call it at a number you know, let it read \
             the key, then: lintas confirm {} KEY",
            contact.agency, contact.agency
        );
        return Err(Failure::new(Code::Usage, message));
    }
    let asked = if groups.is_empty() { &contact.groups } else { groups };
    if !yes {
        let question = format!(
            "{}Has {} read you this key by another way, and may this agency send to it{}?",
            plain_words(contact),
            contact.agency,
            if asked.is_empty() { String::new() } else { format!(", also through {}", asked.join(", ")) },
        );
        if !agree(&question, "compare the key with the agency by another way, then give --yes or the key")? {
            return Err(Failure::new(Code::Usage, "nothing was confirmed"));
        }
    }
    Ok(contact.identity_key.words.clone())
}

fn plain_words(contact: &ContactView) -> String {
    let ContactView { agency, name, country, units, identity_key, roster_version, active, .. } = contact;
    let country = if country.is_empty() { String::new() } else { format!(", country {}", one_line(country)) };
    let suspended = if *active { "" } else { "\n  it is suspended or revoked" };
    let units: String = units.iter().map(|unit| format!("\n  unit {}", one_line(unit))).collect();
    let groups: Vec<String> = contact.groups.iter().map(|group| one_line(group)).collect();
    let groups = if groups.is_empty() { String::new() } else { format!("\n  groups: {}", groups.join(", ")) };
    format!(
        "{agency}: {}{country}\n  listed in roster version {roster_version}{suspended}{units}{groups}\n  identity key, in \
         words and in digits:\n  {}\n  {}\n",
        one_line(name),
        identity_key.words,
        identity_key.digits,
    )
}
