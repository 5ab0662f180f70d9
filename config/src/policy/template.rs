//! A bundle to begin with: every line explained for somebody who has never seen a policy, every name taken from the roster, and
//! with its own cases. What the roster has nobody for (e.g. a child protection unit) is left out of the cases.

use lintas_proto::schema::{Member, Purpose, Roster, RosterUnit, UnitFunction};

use super::{
    question::member,
    view::{ViewError, listed},
    vocabulary::Word as _,
};

const POLICIES: &str = include_str!("starting.cedar");
const CASES: &str = include_str!("starting-cases.toml");
/// What stands before each line of an example.
pub const EXAMPLE: &str = "//> ";
/// How far ahead the example of a policy with an end ends, milliseconds: 90 days.
const EXAMPLE_MS: u64 = 90 * 24 * 60 * 60 * 1_000;

/// The two files of a policy folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// policy.cedar.
    pub policies: String,
    /// cases.toml.
    pub cases: String,
}

/// The starting bundle of a member.
///
/// # Errors
/// [`ViewError`]: the roster does not know it, or has no unit of it.
pub fn template(roster: &Roster, agency: &str, now_ms: u64) -> Result<Template, ViewError> {
    let own = listed(roster, agency)?;
    if own.units.is_empty() {
        return Err(ViewError::NoUnits(agency.to_owned()));
    }
    let words = words(roster, own, now_ms);
    let policies = fill(POLICIES, &words);
    // Each example and case stands in a paragraph of its own.
    let paragraphs = |text: &str, keep: &dyn Fn(&str) -> bool| {
        text.split("\n\n").filter(|part| keep(part)).collect::<Vec<_>>().join("\n\n")
    };
    let policies = paragraphs(&policies, &|part| !part.contains("{{"));
    let cases = paragraphs(&fill(CASES, &words), &|part| !part.contains("{{"));
    Ok(Template { policies: ended(policies), cases: ended(cases) })
}

fn ended(text: String) -> String {
    format!("{}\n", text.trim_end())
}

type Words = Vec<(&'static str, String)>;

fn fill(text: &str, words: &Words) -> String {
    let put = |text: String, (key, value): &(&str, String)| text.replace(&format!("{{{{{key}}}}}"), value);
    words.iter().fold(text.to_owned(), put)
}

fn words(roster: &Roster, own: &Member, now_ms: u64) -> Words {
    let units: Vec<String> =
        own.units.iter().map(|unit| format!("//   {}  {}", unit.unit, unit.name)).collect();
    let (groups, groups_words) = if own.groups.is_empty() {
        (format!("Lintas::Region::\"{}\"", roster.region), "all members of the region".to_owned())
    } else {
        let list: Vec<String> =
            own.groups.iter().map(|group| format!("Lintas::Group::\"{group}\"")).collect();
        (format!("[{}]", list.join(", ")), own.groups.join(" and "))
    };
    let mut words = vec![
        ("AGENCY", own.agency.clone()),
        ("AGENCY_NAME", own.name.clone()),
        ("REGION", roster.region.clone()),
        ("UNITS", units.join("\n")),
        ("GROUPS", groups),
        ("GROUPS_WORDS", groups_words),
        ("UNTIL", day(now_ms.saturating_add(EXAMPLE_MS))),
    ];
    own_words(own, &mut words);
    partner_words(roster, own, &mut words);
    words
}

fn own_words(own: &Member, words: &mut Words) {
    let contact = own.units.iter().find(|unit| is(unit, UnitFunction::Spoc)).or_else(|| own.units.first());
    let second = own.units.iter().rev().find(|unit| Some(*unit) != contact).or(contact);
    put(words, ["OWN_UNIT", "OWN_UNIT_PURPOSE"], contact);
    put(words, ["OWN_SECOND", "OWN_SECOND_PURPOSE"], second);
    put(words, ["OWN_PLAIN", "OWN_PLAIN_PURPOSE"], own.units.iter().find(|unit| !protects(unit)));
    put(words, ["OWN_CHILD", "OWN_CHILD_PURPOSE"], own.units.iter().find(|unit| protects(unit)));
}

/// Another active member: of the own groups, with a contact point, as far as there is one.
fn partner_words(roster: &Roster, own: &Member, words: &mut Words) {
    let spoc = |member: &Member| member.units.iter().position(|unit| is(unit, UnitFunction::Spoc));
    let mut others: Vec<&Member> = roster
        .members
        .iter()
        .filter(|one| {
            one.agency != own.agency && member(roster, &one.agency).is_some() && !one.units.is_empty()
        })
        .collect();
    let ours =
        |one: &Member| own.groups.is_empty() || one.groups.iter().any(|group| own.groups.contains(group));
    others.sort_by_key(|one| (!ours(one), spoc(one).is_none()));
    let Some(other) = others.first() else { return };
    words.push(("OTHER", other.agency.clone()));
    let contact = spoc(other).and_then(|at| other.units.get(at));
    words.extend(contact.or(other.units.first()).map(|unit| ("OTHER_UNIT", unit.unit.clone())));
    if ours(other) {
        words.push(("PARTNER", other.agency.clone()));
        put(words, ["PARTNER_SPOC", "PARTNER_SPOC_PURPOSE"], contact);
        let plain = other.units.iter().find(|unit| !is(unit, UnitFunction::Spoc));
        put(words, ["PARTNER_PLAIN", "PARTNER_PLAIN_PURPOSE"], plain);
    }
}

fn put(words: &mut Words, keys: [&'static str; 2], unit: Option<&RosterUnit>) {
    let Some(unit) = unit else { return };
    let usual = Purpose::Investigation as i32;
    let purpose = if unit.purposes.contains(&usual) { Some(&usual) } else { unit.purposes.first() };
    let purpose = purpose.and_then(|purpose| Purpose::try_from(*purpose).ok());
    let [code, registered] = keys;
    words.push((code, unit.unit.clone()));
    words.extend(purpose.map(|purpose| (registered, purpose.word().to_owned())));
}

fn is(unit: &RosterUnit, function: UnitFunction) -> bool {
    unit.functions.contains(&(function as i32))
}

fn protects(unit: &RosterUnit) -> bool {
    is(unit, UnitFunction::ChildProtection) || is(unit, UnitFunction::VictimProtection)
}

fn day(ms: u64) -> String {
    let moment = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    moment.map_or_else(|| "2100-01-01".to_owned(), |moment| moment.strftime("%Y-%m-%d").to_string())
}

#[cfg(test)]
mod tests;
