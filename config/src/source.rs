//! The readable sources of a region: a folder with `region.toml` and one file for each member, which people write,
//! review and keep under version control. No key stands in them. config/mekong/README.md explains every key;
//! [`mekong`] is that sample, compiled in.

use std::{fs, path::Path};

use bytes::Bytes;
use lintas_proto::{
    id::{check_code, check_name},
    schema::{Member, MemberStatus, Purpose, Role, RosterUnit, UnitFunction},
};

use crate::{
    directory::{
        AUTHORITIES_MAX, BROKERS_MAX, CLEARANCE_MAX, GROUPS_MAX, READS_TOLD_DAYS_MAX, UNITS_MAX, is_title,
    },
    document::{Document, Entry, Section, meant},
};

pub use crate::document::FileError;

/// Longest file, bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Most files of a region.
const FILES_MAX: usize = lintas_proto::limits::LIST_ITEMS_MAX;
/// The file about the region itself.
const REGION_FILE: &str = "region.toml";
const REGION_KEYS: [&str; 9] = [
    "region",
    "title",
    "authorities",
    "threshold",
    "brokers",
    "groups",
    "valid_days",
    "epoch_ms",
    "reads_told_after_days",
];
const MEMBER_KEYS: [&str; 9] =
    ["agency", "name", "native_names", "country", "roles", "groups", "witness", "audits", "unit"];
const UNIT_KEYS: [&str; 5] = ["code", "name", "functions", "clearance", "purposes"];
const ROLES: [(&str, Role); 4] = [
    ("agency", Role::Agency),
    ("coordinator", Role::Coordinator),
    ("auditor", Role::Auditor),
    ("witness", Role::Witness),
];

/// A region as its authority describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionSource {
    /// Name in all that is signed, e.g. `mekong`.
    pub region: String,
    /// What it is for.
    pub title: String,
    /// Who holds the authority keys: one office each.
    pub authorities: Vec<String>,
    /// How many of them must sign.
    pub threshold: u32,
    /// Names of the brokers.
    pub brokers: Vec<String>,
    /// Groups that members may be in.
    pub groups: Vec<String>,
    /// How long a roster is valid, days.
    pub valid_days: u32,
    /// Audit epoch, milliseconds.
    pub epoch_ms: u32,
    /// After how many days an agency is told that an auditor read its sub-log.
    pub reads_told_after_days: u32,
    /// Members, sorted by agency.
    pub members: Vec<MemberSource>,
}

/// A member as the authority describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberSource {
    /// File it stands in.
    pub file: String,
    /// Code.
    pub agency: String,
    /// Name in English.
    pub name: String,
    /// Name in its own languages and scripts.
    pub native_names: Vec<String>,
    /// ISO 3166-1 alpha-2; empty for an international body.
    pub country: String,
    /// Roles, sorted.
    pub roles: Vec<Role>,
    /// Groups, sorted.
    pub groups: Vec<String>,
    /// Whether it cosigns checkpoints of the audit log.
    pub witness: bool,
    /// Whose sub-logs it may read besides its own, sorted; `*` alone for all. Auditors only.
    pub audits: Vec<String>,
    /// Units, sorted by code.
    pub units: Vec<UnitSource>,
}

/// A unit as the authority attests it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitSource {
    /// Code.
    pub unit: String,
    /// Name.
    pub name: String,
    /// Functions, sorted.
    pub functions: Vec<UnitFunction>,
    /// Clearance, 0 to 9.
    pub clearance: u32,
    /// For which purposes it may use what it receives, sorted.
    pub purposes: Vec<Purpose>,
}

impl MemberSource {
    /// The member as the roster names it, active; without a witness key.
    #[must_use]
    pub fn member(&self, identity_key: Bytes) -> Member {
        let unit = |unit: &UnitSource| RosterUnit {
            unit: unit.unit.clone(),
            name: unit.name.clone(),
            functions: unit.functions.iter().map(|function| *function as i32).collect(),
            clearance: unit.clearance,
            purposes: unit.purposes.iter().map(|purpose| *purpose as i32).collect(),
        };
        Member {
            agency: self.agency.clone(),
            name: self.name.clone(),
            country: self.country.clone(),
            roles: self.roles.iter().map(|role| *role as i32).collect(),
            identity_key,
            units: self.units.iter().map(unit).collect(),
            groups: self.groups.clone(),
            status: MemberStatus::Active as i32,
            native_names: self.native_names.clone(),
            audits: self.audits.clone(),
            ..Member::default()
        }
    }
}

impl RegionSource {
    /// Reads the files of a folder whose names end in `.toml`.
    ///
    /// # Errors
    /// [`FileError`] with file, line and remedy.
    pub fn load(folder: &Path) -> Result<Self, FileError> {
        let whole = |file: &str, problem: String| FileError { file: file.to_owned(), line: 0, problem };
        let shown = folder.display().to_string();
        let listed = fs::read_dir(folder).map_err(|error| whole(&shown, error.to_string()))?;
        let mut files = Vec::new();
        for entry in listed {
            let entry = entry.map_err(|error| whole(&shown, error.to_string()))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.ends_with(".toml") || name.starts_with('.') {
                continue;
            }
            let size = entry.metadata().map_err(|error| whole(&name, error.to_string()))?.len();
            if size > FILE_BYTES_MAX || files.len() >= FILES_MAX {
                return Err(whole(
                    &name,
                    "too large, or one file too many; 1 MiB and 8,192 files".to_owned(),
                ));
            }
            let text = fs::read_to_string(entry.path()).map_err(|error| whole(&name, error.to_string()))?;
            files.push((name, text));
        }
        let files: Vec<(&str, &str)> =
            files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        Self::parse(&files)
    }

    /// Reads files, given as names and texts in any order.
    ///
    /// # Errors
    /// [`FileError`] with file, line and remedy.
    pub fn parse(files: &[(&str, &str)]) -> Result<Self, FileError> {
        let whole = |file: &str, problem: String| FileError { file: file.to_owned(), line: 0, problem };
        let region = files.iter().find(|(name, _)| *name == REGION_FILE);
        let Some((_, text)) = region else {
            let problem = "there is no such file in the folder; it says what the region is".to_owned();
            return Err(whole(REGION_FILE, problem));
        };
        let mut source = region_file(text)?;
        let mut members = Vec::new();
        for (name, text) in files.iter().filter(|(name, _)| *name != REGION_FILE) {
            members.push(member_file(name, text, &source.groups)?);
        }
        members.sort_by(|a, b| (&a.agency, &a.file).cmp(&(&b.agency, &b.file)));
        let again = members.iter().zip(members.iter().skip(1)).find(|(a, b)| a.agency == b.agency);
        if let Some((one, other)) = again {
            let problem = format!("{} stands in {} too; keep one of the two files", one.agency, one.file);
            return Err(whole(&other.file, problem));
        }
        source.members = members;
        Ok(source)
    }
}

fn region_file(text: &str) -> Result<RegionSource, FileError> {
    let document = Document::parse(REGION_FILE, text)?;
    let top = document.top(&REGION_KEYS)?;
    let offices = top.need("authorities", "[\"Office of …\", \"Office of …\", \"Office of …\"]")?;
    let authorities = each(&offices, 1..=AUTHORITIES_MAX, title)?;
    let threshold = top.need("threshold", "2")?;
    let n = u32::try_from(authorities.len()).unwrap_or(u32::MAX);
    let brokers = top.need("brokers", "[\"hub.mekong\"]")?;
    let codes = top.get("groups").map(|groups| each(&groups, 0..=GROUPS_MAX, code)).transpose()?;
    Ok(RegionSource {
        region: top.need("region", "\"mekong\"")?.text(name)?,
        title: top.need("title", "\"Police co-operation in …\"")?.text(title)?,
        // More than half, so that any two sets of signers have somebody in common.
        threshold: threshold.number(n / 2 + 1..=n)?,
        authorities,
        brokers: each(&brokers, 1..=BROKERS_MAX, name)?,
        groups: codes.unwrap_or_default(),
        valid_days: top.get("valid_days").map_or(Ok(30), |days| days.number(1..=399))?,
        epoch_ms: top.get("epoch_ms").map_or(Ok(10_000), |epoch| epoch.number(100..=3_600_000))?,
        reads_told_after_days: top
            .get("reads_told_after_days")
            .map_or(Ok(30), |days| days.number(0..=READS_TOLD_DAYS_MAX))?,
        members: Vec::new(),
    })
}

fn member_file(file: &str, text: &str, groups: &[String]) -> Result<MemberSource, FileError> {
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
    Ok(found)
}

/// A list of distinct texts, each as `check` reads it.
fn each<T: PartialEq, E: std::fmt::Display>(
    list: &Entry<'_>,
    count: std::ops::RangeInclusive<usize>,
    check: impl Fn(&str) -> Result<T, E>,
) -> Result<Vec<T>, FileError> {
    let entries = list.list()?;
    if !count.contains(&entries.len()) {
        let (min, max) = count.into_inner();
        return Err(list.wrong(format!("has {} items; from {min} to {max} are allowed", entries.len())));
    }
    let mut found = Vec::with_capacity(entries.len());
    for entry in entries {
        let item = entry.text(&check)?;
        if found.contains(&item) {
            return Err(entry.wrong("stands twice in the list"));
        }
        found.push(item);
    }
    Ok(found)
}

fn title(text: &str) -> Result<String, &'static str> {
    let must = "must be a text of 1 to 256 bytes, without control characters or spaces at its ends";
    if is_title(text) { Ok(text.to_owned()) } else { Err(must) }
}

fn code(text: &str) -> Result<String, &'static str> {
    let must = "must be 1 to 32 of A-Z, 0-9 and -, starting with a letter, e.g. \"TH-SPOC\"";
    check_code(text).map(|()| text.to_owned()).map_err(|_| must)
}

fn name(text: &str) -> Result<String, &'static str> {
    let must = "must be 1 to 64 of a-z, 0-9, - and ., starting with a letter, e.g. \"mekong\"";
    check_name(text).map(|()| text.to_owned()).map_err(|_| must)
}

fn country(text: &str) -> Result<String, &'static str> {
    let sound = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_uppercase());
    if sound {
        Ok(text.to_owned())
    } else {
        Err("must be two capitals (ISO 3166-1), e.g. \"TH\"; or leave it out")
    }
}

/// All functions of units by the names that people write, e.g. `victim-protection`.
#[must_use]
pub fn functions() -> Vec<(String, UnitFunction)> {
    let known = (1..64).filter_map(|value| UnitFunction::try_from(value).ok());
    let name = |function: UnitFunction| {
        let name = function.as_str_name().trim_start_matches("UNIT_FUNCTION_");
        name.to_ascii_lowercase().replace('_', "-")
    };
    known.map(|function| (name(function), function)).collect()
}

/// All purposes by the names that people write, e.g. `victim-protection`.
#[must_use]
pub fn purposes() -> Vec<(String, Purpose)> {
    let known = (1..64).filter_map(|value| Purpose::try_from(value).ok());
    let name = |purpose: Purpose| {
        let name = purpose.as_str_name().trim_start_matches("PURPOSE_");
        name.to_ascii_lowercase().replace('_', "-")
    };
    known.map(|purpose| (name(purpose), purpose)).collect()
}

/// The files of the sample region, config/mekong, as they were when this was compiled.
#[must_use]
pub fn mekong_files() -> [(&'static str, &'static str); 10] {
    [
        ("region.toml", include_str!("../mekong/region.toml")),
        ("th.toml", include_str!("../mekong/th.toml")),
        ("vn.toml", include_str!("../mekong/vn.toml")),
        ("kh.toml", include_str!("../mekong/kh.toml")),
        ("la.toml", include_str!("../mekong/la.toml")),
        ("mm.toml", include_str!("../mekong/mm.toml")),
        ("id.toml", include_str!("../mekong/id.toml")),
        ("rco.toml", include_str!("../mekong/rco.toml")),
        ("aud.toml", include_str!("../mekong/aud.toml")),
        ("omb.toml", include_str!("../mekong/omb.toml")),
    ]
}

/// The sample region.
///
/// # Errors
/// [`FileError`]; a test holds that there is none.
pub fn mekong() -> Result<RegionSource, FileError> {
    RegionSource::parse(&mekong_files())
}

#[cfg(test)]
mod tests;
