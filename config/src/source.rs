//! The readable sources of a region: a folder with `region.toml` and one file for each member, which people write,
//! review and keep under version control. No key stands in them. config/mekong/README.md explains every key;
//! [`mekong`] is that sample, compiled in. The baseline policy stands in a file of its own, which `region.toml` names.

mod mekong;
mod members;
mod policy;

use std::{fs, path::Path};

use bytes::Bytes;
use lintas_proto::{
    id::{check_code, check_name},
    schema::{ClassificationScheme, Member, MemberStatus, Purpose, Role, RosterUnit, UnitFunction},
};

pub use self::{
    mekong::{mekong, mekong_files},
    policy::{BaselineSource, baseline_file, schemes_file},
};
pub use crate::document::FileError;
use crate::{
    directory::{AUTHORITIES_MAX, BROKERS_MAX, GROUPS_MAX, READS_TOLD_DAYS_MAX, is_title},
    document::{Document, Entry, whole},
};

/// Longest file, bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Most files of a region.
const FILES_MAX: usize = lintas_proto::limits::LIST_ITEMS_MAX;
/// The file about the region itself.
const REGION_FILE: &str = "region.toml";
const REGION_KEYS: [&str; 11] = [
    "region",
    "title",
    "authorities",
    "threshold",
    "brokers",
    "groups",
    "valid_days",
    "epoch_ms",
    "reads_told_after_days",
    "baseline",
    "scheme",
];
/// A region as its authority describes it.
#[derive(Debug, Clone, PartialEq)]
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
    /// The regional baseline policy; the standard one if none is named.
    pub baseline: Option<BaselineSource>,
    /// How the national schemes of classification stand beside each other, sorted.
    pub schemes: Vec<ClassificationScheme>,
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
    /// Reads the files of a folder whose names end in `.toml`, and the baseline policy that `region.toml` names.
    ///
    /// # Errors
    /// [`FileError`] with file, line and remedy.
    pub fn load(folder: &Path) -> Result<Self, FileError> {
        let shown = folder.display().to_string();
        let listed = fs::read_dir(folder).map_err(|error| whole(&shown, error.to_string()))?;
        let mut files = Vec::new();
        for entry in listed {
            let entry = entry.map_err(|error| whole(&shown, error.to_string()))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.ends_with(".toml") || name.starts_with('.') {
                continue;
            }
            if files.len() >= FILES_MAX {
                return Err(whole(&name, "one file too many; at most 8,192 are read".to_owned()));
            }
            let text = read(&name, &entry.path())?;
            files.push((name, text));
        }
        let region = files.iter().find(|(name, _)| name == REGION_FILE).map(|(_, text)| text.as_str());
        let policies = region.map(|text| policy::beside(folder, text)).transpose()?.unwrap_or_default();
        files.extend(policies);
        let files: Vec<(&str, &str)> =
            files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        Self::parse(&files)
    }

    /// Reads files, given as names and texts in any order. Those in folders are no members.
    ///
    /// # Errors
    /// [`FileError`] with file, line and remedy.
    pub fn parse(files: &[(&str, &str)]) -> Result<Self, FileError> {
        let region = files.iter().find(|(name, _)| *name == REGION_FILE);
        let Some((_, text)) = region else {
            let problem = "there is no such file in the folder; it says what the region is".to_owned();
            return Err(whole(REGION_FILE, problem));
        };
        let mut source = region_file(text, files)?;
        let mut members = Vec::new();
        for (name, text) in files.iter().filter(|(name, _)| *name != REGION_FILE && !name.contains('/')) {
            members.push(members::member_file(name, text, &source.groups)?);
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

/// A file as text.
fn read(name: &str, path: &Path) -> Result<String, FileError> {
    let wrong = |error: std::io::Error| whole(name, error.to_string());
    if fs::metadata(path).map_err(wrong)?.len() > FILE_BYTES_MAX {
        return Err(whole(name, "too large; 1 MiB is allowed".to_owned()));
    }
    fs::read_to_string(path).map_err(wrong)
}

fn region_file(text: &str, files: &[(&str, &str)]) -> Result<RegionSource, FileError> {
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
        baseline: policy::baseline(&top, files)?,
        schemes: policy::schemes(&top)?,
        members: Vec::new(),
    })
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

#[cfg(test)]
mod tests;
