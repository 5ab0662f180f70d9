//! What a proposal changes, in words, and whose signatures it has. Names in it were written by others: whoever shows
//! them escapes them.

use std::collections::BTreeMap;

use lintas_proto::{
    canonical,
    id::{Digest, hex},
    limits,
    schema::{BrokerKeys, DirectoryBundle, Member, MemberStatus, Roster},
    sign::VerifyingKey,
};
use serde::Serialize;

use super::{
    logs::{self, is_witness},
    names::{read_keyset, role_names, status},
    office::Office,
    proposal::Proposal,
    rules, units,
};
use crate::{
    directory::{Bootstrap, Directory, DirectoryError, vouches},
    words,
};

/// What a proposal says, beside the directory that it shall follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Review {
    /// Region.
    pub region: String,
    /// Version of its roster.
    pub version: u64,
    /// SHA-256 of its roster, hex: what is signed.
    pub roster: String,
    /// The same in words, to compare with the other offices.
    pub roster_words: String,
    /// And in digits.
    pub roster_digits: String,
    /// Version of the directory it was compared with; none if all of it is shown as new.
    pub compared_with: Option<u64>,
    /// Validity, milliseconds since 1970.
    pub valid_from_ms: u64,
    /// Its end.
    pub valid_until_ms: u64,
    /// End of the validity of the directory before.
    pub valid_until_before_ms: Option<u64>,
    /// What changes.
    pub changes: Vec<Change>,
    /// Every authority, before and after, and whether it signed.
    pub signatures: Vec<SignatureView>,
    /// How many must sign, and have.
    pub needs: Vec<Need>,
    /// Whether all that must sign have; not known, and false, if the directory before was not given.
    pub complete: bool,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// A word for programs, e.g. `joins`.
    pub kind: &'static str,
    /// Agency, broker or `region`.
    pub whose: String,
    /// For people.
    pub text: String,
    /// Whether somebody may receive what was withheld before.
    pub loosens: bool,
}

/// A public key as people compare it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyView {
    /// 64 hex digits.
    pub key: String,
    /// 12 words.
    pub words: String,
    /// Whose, as far as known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// An authority's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SignatureView {
    /// Its key.
    #[serde(flatten)]
    pub office: KeyView,
    /// Whether it is an authority before the change.
    pub before: bool,
    /// Whether it is one after it.
    pub after: bool,
    /// Whether it signed.
    pub signed: bool,
}

/// How many of some authorities must sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Need {
    /// Of which authorities.
    pub of: &'static str,
    /// Signatures there.
    pub have: usize,
    /// Signatures needed.
    pub need: usize,
}

impl KeyView {
    /// A key, with the name of the office that it is known by.
    #[must_use]
    pub fn of(key: &[u8; 32], offices: &[Office]) -> Self {
        let name =
            offices.iter().find(|office| office.key.as_bytes() == key).map(|office| office.name.clone());
        Self { key: hex(key), words: words::fingerprint_words(key), name }
    }
}

/// Describes `proposal` beside the directory `before` it; without one, all of it is described as new. `offices` give
/// names to keys.
///
/// # Errors
/// [`DirectoryError`] for a signature that does not fit.
pub fn review(
    proposal: &Proposal,
    before: Option<&Directory>,
    offices: &[Office],
) -> Result<Review, DirectoryError> {
    let roster = proposal.roster();
    let named = proposal.bootstrap()?;
    let old = before.map(|directory| Bootstrap::of(directory.roster())).transpose()?;
    let old_keys = old.as_ref().map(|old| old.authority_keys.as_slice()).unwrap_or_default();
    let mut all: Vec<VerifyingKey> = old_keys.to_vec();
    all.extend(named.authority_keys.iter().filter(|key| !old_keys.contains(key)).cloned());
    let signed = proposal.signers(&all)?;
    let view = |key: &VerifyingKey| SignatureView {
        office: KeyView::of(key.as_bytes(), offices),
        before: old_keys.contains(key),
        after: named.authority_keys.contains(key),
        signed: signed.contains(&key),
    };
    let mut needs = Vec::new();
    let need = |of, bootstrap: &Bootstrap| Need {
        of,
        have: signed.iter().filter(|key| bootstrap.authority_keys.contains(key)).count(),
        need: bootstrap.threshold,
    };
    match &old {
        Some(old) if !same_authorities(old, &named) => {
            needs.push(need("the authorities before it", old));
            needs.push(need("the authorities that it names", &named));
        }
        Some(_) | None => needs.push(need("the authorities", &named)),
    }
    let known = before.is_some() || roster.version == 1;
    let hash = proposal.hash();
    Ok(Review {
        region: roster.region.clone(),
        version: roster.version,
        roster: hex(&hash),
        roster_words: words::words(&hash),
        roster_digits: words::digits(&hash),
        compared_with: before.map(|directory| directory.roster().version),
        valid_from_ms: roster.not_before_ms,
        valid_until_ms: roster.not_after_ms,
        valid_until_before_ms: before.map(|directory| directory.roster().not_after_ms),
        changes: changes(before, proposal),
        signatures: all.iter().map(view).collect(),
        complete: known && needs.iter().all(|need| need.have >= need.need),
        needs,
    })
}

/// Whether a newcomer may go on with the bootstrap file of before.
fn same_authorities(a: &Bootstrap, b: &Bootstrap) -> bool {
    a.fingerprint() == b.fingerprint()
}

pub(super) fn change(kind: &'static str, whose: &str, text: String) -> Change {
    Change { kind, whose: whose.to_owned(), text, loosens: false }
}

/// A change by which somebody may receive what was withheld before.
pub(super) fn loosening(kind: &'static str, whose: &str, text: &str) -> Change {
    Change { loosens: true, ..change(kind, whose, format!("LOOSENING: {text}")) }
}

fn changes(before: Option<&Directory>, proposal: &Proposal) -> Vec<Change> {
    let (none, after) = (Roster::default(), proposal.roster());
    let old = before.map_or(&none, |directory| directory.roster());
    let mut found = Vec::new();
    region(old, after, &mut found);
    found.extend(rules::baseline(before.map(|directory| directory.roster()), after));
    found.extend(rules::schemes(old, after));
    brokers(old, after, &mut found);
    for member in &after.members {
        match old.members.iter().find(|known| known.agency == member.agency) {
            Some(known) => changed(&after.region, known, member, &mut found),
            None => joins(member, &mut found),
        }
    }
    for gone in old.members.iter().filter(|old| !after.members.iter().any(|new| new.agency == old.agency)) {
        let text = "is left out, which no node accepts: a member that leaves is revoked".to_owned();
        found.push(change("left_out", &gone.agency, text));
    }
    if let Some(before) = before {
        keysets(before, proposal, &mut found);
    }
    found
}

fn region(old: &Roster, new: &Roster, found: &mut Vec<Change>) {
    let mut add = |kind, text| found.push(change(kind, "region", text));
    for key in new.authority_keys.iter().filter(|key| !old.authority_keys.contains(key)) {
        add("authority_comes", format!("authority key comes: {}", key_words(key)));
    }
    for key in old.authority_keys.iter().filter(|key| !new.authority_keys.contains(key)) {
        add("authority_goes", format!("authority key goes: {}", key_words(key)));
    }
    let (n, k) = (new.authority_keys.len(), new.threshold);
    if (old.authority_keys.len(), old.threshold) != (n, k) {
        add("threshold", format!("{k} of {n} authorities must sign from now on"));
    }
    if old.epoch_ms != new.epoch_ms {
        add("epoch", format!("the log is published every {} milliseconds", new.epoch_ms));
    }
    if old.reads_told_after_days != new.reads_told_after_days {
        let days = new.reads_told_after_days;
        let text = format!("an agency is told after {days} days that an auditor read its part of the log");
        add("reads_told", text);
    }
    let of = |roster: &Roster| roster.members.iter().filter(|member| is_witness(member)).count();
    if of(old) != of(new) {
        add("witnesses", logs::quorum_words(of(new)));
    }
    if old.suite_min != 0 && old.suite_min != new.suite_min {
        add("suite", format!("lowest cipher suite: {}", new.suite_min));
    }
}

fn brokers(old: &Roster, new: &Roster, found: &mut Vec<Change>) {
    for broker in &new.brokers {
        let keys = format!(
            "connects with {}; signs receipts with {}; signs its log with {}",
            key_words(&broker.transport_key),
            key_words(&broker.receipt_key),
            key_words(&broker.log_key)
        );
        let before = old.brokers.iter().find(|known| known.name == broker.name);
        match before {
            Some(known) if same_keys(known, broker) => {}
            Some(_) => {
                found.push(change("broker_keys", &broker.name, format!("broker has new keys: {keys}")))
            }
            None => found.push(change("broker_comes", &broker.name, format!("broker comes: {keys}"))),
        }
        let ends = logs::ends(before, broker).into_iter();
        found.extend(ends.map(|text| change("log_ends", &broker.name, text)));
    }
    for gone in old.brokers.iter().filter(|old| !new.brokers.iter().any(|new| new.name == old.name)) {
        found.push(change("broker_goes", &gone.name, "broker goes".to_owned()));
    }
}

fn same_keys(a: &BrokerKeys, b: &BrokerKeys) -> bool {
    (&a.transport_key, &a.receipt_key, &a.log_key) == (&b.transport_key, &b.receipt_key, &b.log_key)
}

fn joins(member: &Member, found: &mut Vec<Change>) {
    let country = if member.country.is_empty() { "no country" } else { &member.country };
    let native = if member.native_names.is_empty() {
        String::new()
    } else {
        format!(" ({})", member.native_names.join("; "))
    };
    let text = format!(
        "joins: \"{}\"{native}, {country}; roles: {}; groups: {}; {}; identity key: {}",
        member.name,
        roles(member),
        list(&member.groups),
        status(member.status),
        key_words(&member.identity_key),
    );
    found.push(change("joins", &member.agency, text));
    let newcomer = Member { agency: member.agency.clone(), ..Member::default() };
    found.extend(logs::changed(&newcomer, member).map(|(kind, text)| change(kind, &member.agency, text)));
    found.extend(units::changed(&newcomer, member));
}

fn changed(region: &str, old: &Member, new: &Member, found: &mut Vec<Change>) {
    let revoked = old.status == MemberStatus::Revoked as i32;
    let mut add = |kind, text| found.push(change(kind, &new.agency, text));
    if old.status != new.status {
        add("status", status_changes(old.status, new.status));
    }
    if old.identity_key != new.identity_key {
        let before: [u8; 32] = old.identity_key.as_ref().try_into().unwrap_or_default();
        let vouched = if !revoked && vouches(region, &before, new) {
            "the old key vouches for it, so nobody has to confirm it"
        } else {
            "NOBODY VOUCHES FOR IT: every officer who writes to this agency must confirm it, and until then the agency \
             is cut off; make sure by another way that it is its own"
        };
        let (before, after) = (key_words(&old.identity_key), key_words(&new.identity_key));
        add("identity", format!("new identity key: {after} (before: {before}); {vouched}"));
    }
    if old.name != new.name {
        add("name", format!("name: \"{}\" (before: \"{}\")", new.name, old.name));
    }
    if old.native_names != new.native_names {
        add("native_names", format!("names in its own languages: {}", list(&new.native_names)));
    }
    if old.country != new.country {
        let or_none = |text: &str| if text.is_empty() { "none".to_owned() } else { text.to_owned() };
        add("country", format!("country: {} (before: {})", or_none(&new.country), or_none(&old.country)));
    }
    if old.roles != new.roles {
        add("roles", format!("roles: {} (before: {})", roles(new), roles(old)));
    }
    if old.groups != new.groups {
        add("groups", format!("groups: {} (before: {})", list(&new.groups), list(&old.groups)));
    }
    logs::changed(old, new).for_each(|(kind, text)| add(kind, text));
    found.extend(units::changed(old, new));
}

/// Keysets that are others than before, also those of an agency that is held.
fn keysets(before: &Directory, proposal: &Proposal, found: &mut Vec<Change>) {
    let bundle: Option<DirectoryBundle> = canonical::decode(before.bytes(), limits::DIRECTORY_BYTES_MAX).ok();
    let old = bundle.map(|bundle| bundle.keysets).unwrap_or_default();
    let mut old: BTreeMap<String, Digest> =
        old.iter().filter_map(read_keyset).map(|(keyset, hash)| (keyset.agency, hash)).collect();
    for (keyset, hash) in proposal.keysets().iter().filter_map(read_keyset) {
        let text = match old.remove(&keyset.agency) {
            Some(known) if known == hash => continue,
            Some(_) => format!("uses new keys: version {} of its keyset", keyset.version),
            None => format!("publishes keys: version {} of its keyset", keyset.version),
        };
        found.push(change("keyset", &keyset.agency, text));
    }
    old.keys()
        .for_each(|agency| found.push(change("keyset_goes", agency, "its keys are left out".to_owned())));
}

fn status_changes(old: i32, new: i32) -> String {
    let (old, new) = (MemberStatus::try_from(old), MemberStatus::try_from(new));
    let text = match (old, new) {
        (_, Ok(MemberStatus::Suspended)) => {
            "is SUSPENDED: it neither sends nor receives until it is reinstated"
        }
        (_, Ok(MemberStatus::Revoked)) => "is REVOKED, for ever",
        (Ok(MemberStatus::Revoked), Ok(MemberStatus::Active)) => {
            "was revoked and COMES BACK, which only a new identity key makes possible"
        }
        (Ok(_) | Err(_), Ok(MemberStatus::Active)) => "is reinstated: it sends and receives again",
        (Ok(_) | Err(_), Ok(MemberStatus::Unspecified) | Err(_)) => "has a status that is none",
    };
    text.to_owned()
}

fn roles(member: &Member) -> String {
    list(&role_names(member))
}

pub(super) fn list(items: &[String]) -> String {
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

/// A key by its words.
pub(super) fn key_words(key: &[u8]) -> String {
    <[u8; 32]>::try_from(key).map_or_else(|_| "no key".to_owned(), |key| words::fingerprint_words(&key))
}
