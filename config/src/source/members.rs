//! The file of a member.

use lintas_proto::schema::{Purpose, Role, UnitFunction};

use super::{FileError, MemberSource, UnitSource, code, country, each, functions, purposes, title};
use crate::{
    directory::{CLEARANCE_MAX, GROUPS_MAX, UNITS_MAX},
    document::{Document, Entry, Section, meant},
};

pub(super) const MEMBER_KEYS: [&str; 9] =
    ["agency", "name", "native_names", "country", "roles", "groups", "witness", "audits", "unit"];
pub(super) const UNIT_KEYS: [&str; 5] = ["code", "name", "functions", "clearance", "purposes"];
const ROLES: [(&str, Role); 4] = [
    ("agency", Role::Agency),
    ("coordinator", Role::Coordinator),
    ("auditor", Role::Auditor),
    ("witness", Role::Witness),
];

/// Reads it. `groups` are those of the region.
pub(super) fn member_file(file: &str, text: &str, groups: &[String]) -> Result<MemberSource, FileError> {
    let document = Document::parse(file, text)?;
    let top = document.top(&MEMBER_KEYS)?;
    let known: Vec<&str> = groups.iter().map(String::as_str).collect();
    let group = |text: &str| {
        let listed = known.contains(&text).then(|| text.to_owned());
        listed.ok_or_else(|| format!("must be listed under `groups` in region.toml{}", meant(text, &known)))
    };
    let mut roles = Vec::new();
    for role in top.need("roles", "[\"agency\"]")?.list()? {
        roles.push(role.one_of(&ROLES)?);
    }
    roles.sort_by_key(|role| *role as i32);
    roles.dedup();
    if roles.is_empty() {
        return Err(top.wrong("`roles` is empty; a member has at least one".to_owned()));
    }
    let mut in_groups =
        top.get("groups").map(|groups| each(&groups, 0..=GROUPS_MAX, group)).transpose()?.unwrap_or_default();
    in_groups.sort();
    let native = top.get("native_names").map(|names| each(&names, 0..=8, title)).transpose()?;
    let units = units(&top, &roles)?;
    let (witness, audits) = (witness(&top, &roles)?, audits(&top, &roles)?);
    Ok(MemberSource {
        file: file.to_owned(),
        agency: top.need("agency", "\"TH\"")?.text(code)?,
        name: top.need("name", "\"Royal Thai Police\"")?.text(title)?,
        native_names: native.unwrap_or_default(),
        country: top.get("country").map_or(Ok(String::new()), |entry| entry.text(country))?,
        roles,
        groups: in_groups,
        witness,
        audits,
        units,
    })
}

/// Whether it is a witness, which whoever is nothing else must be.
fn witness(top: &Section<'_>, roles: &[Role]) -> Result<bool, FileError> {
    let entry = top.get("witness");
    let is = entry.as_ref().map_or(Ok(false), Entry::truth)?;
    if is || !roles.contains(&Role::Witness) {
        return Ok(is);
    }
    let must = "the role `witness` needs witness = true";
    Err(entry
        .map_or_else(|| top.wrong(must.to_owned()), |entry| entry.wrong(format!("must be true: {must}"))))
}

/// Whose sub-logs it may read.
fn audits(top: &Section<'_>, roles: &[Role]) -> Result<Vec<String>, FileError> {
    let Some(entry) = top.get("audits") else { return Ok(Vec::new()) };
    if !roles.contains(&Role::Auditor) {
        return Err(
            entry.wrong("is for members of role `auditor` only; everybody reads their own log anyway")
        );
    }
    let all = |text: &str| if text == "*" { Ok(text.to_owned()) } else { code(text) };
    let mut audits = each(&entry, 0..=lintas_proto::limits::LIST_ITEMS_MAX, all)?;
    if audits.len() > 1 && audits.iter().any(|agency| agency == "*") {
        return Err(entry.wrong("must be \"*\" alone, or codes of agencies"));
    }
    audits.sort();
    Ok(audits)
}

/// Its units. Whoever only audits or watches needs none.
fn units(top: &Section<'_>, roles: &[Role]) -> Result<Vec<UnitSource>, FileError> {
    let functions = functions();
    let known: Vec<(&str, UnitFunction)> = functions.iter().map(|(name, f)| (name.as_str(), *f)).collect();
    let sections = top.sections("unit", &UNIT_KEYS)?;
    let writes = roles.iter().any(|role| !matches!(role, Role::Auditor | Role::Witness));
    if (sections.is_empty() && writes) || sections.len() > UNITS_MAX {
        let must = "a member needs 1 to 1,000 units, each under a line `[[unit]]`; only auditors and witnesses \
                    may have none";
        return Err(top.wrong(must.to_owned()));
    }
    let mut units: Vec<UnitSource> = Vec::new();
    for section in &sections {
        let mut functions = Vec::new();
        for function in section.need("functions", "[\"spoc\"]")?.list()? {
            functions.push(function.one_of(&known)?);
        }
        functions.sort_by_key(|function| *function as i32);
        functions.dedup();
        if functions.is_empty() {
            return Err(section.wrong("`functions` is empty; a unit has at least one".to_owned()));
        }
        let entry = section.need("code", "\"TH-SPOC\"")?;
        let unit = entry.text(code)?;
        if units.iter().any(|known| known.unit == unit) {
            return Err(entry.wrong("stands twice in this file; each unit has a code of its own"));
        }
        let name = section.need("name", "\"Marine Police\"")?.text(title)?;
        let clearance = section.get("clearance").map_or(Ok(0), |rank| rank.number(0..=CLEARANCE_MAX))?;
        let purposes = unit_purposes(section)?;
        units.push(UnitSource { unit, name, functions, clearance, purposes });
    }
    units.sort_by(|a, b| a.unit.cmp(&b.unit));
    Ok(units)
}

/// For which purposes a unit may use what it receives.
fn unit_purposes(section: &Section<'_>) -> Result<Vec<Purpose>, FileError> {
    let named = purposes();
    let known: Vec<(&str, Purpose)> = named.iter().map(|(name, purpose)| (name.as_str(), *purpose)).collect();
    let mut found = Vec::new();
    for purpose in section.need("purposes", "[\"investigation\"]")?.list()? {
        found.push(purpose.one_of(&known)?);
    }
    found.sort_by_key(|purpose| *purpose as i32);
    found.dedup();
    if found.is_empty() {
        return Err(section.wrong("`purposes` is empty; a unit has at least one".to_owned()));
    }
    Ok(found)
}
