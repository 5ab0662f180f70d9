//! The roster: rules and signatures.

use lintas_proto::{
    canonical,
    id::{check_code, check_name},
    limits,
    schema::{Member, MemberStatus, Purpose, Role, Roster, RosterUnit, SignedRoster, UnitFunction},
    sign::{KeyRole, SUITE, Signed, VerifyingKey, key_id},
};

use super::{DirectoryError, logs};

/// The roster format of this version.
pub const FORMAT: u32 = 1;
/// Most authorities of a region.
pub const AUTHORITIES_MAX: usize = 32;
/// Most signatures of a roster, bytes never counted: those of the authorities before and after it.
const SIGNATURES_MAX: usize = 2 * AUTHORITIES_MAX;
/// Most brokers of a region.
pub const BROKERS_MAX: usize = 64;
/// Most policies that were taken out of the baseline and still forbid.
pub const LEAVING_MAX: usize = 64;
/// Most schemes of classification, and most markings of one.
pub const SCHEMES_MAX: usize = 64;
/// Most units of a member.
pub const UNITS_MAX: usize = 1_000;
/// Most groups of a member.
pub const GROUPS_MAX: usize = 64;
/// Highest clearance, as a rank within the member's own scheme of classifications.
pub const CLEARANCE_MAX: u32 = 9;
/// Longest time after which an agency is told that an auditor read its sub-log, days.
pub const READS_TOLD_DAYS_MAX: u32 = 365;
/// Longest name of a member or unit, bytes.
pub const TITLE_BYTES_MAX: usize = 256;
/// Longest validity of a roster, milliseconds: 400 days. Who is cut off from news does not believe for ever.
pub const ROSTER_VALID_MS_MAX: u64 = 400 * 24 * 60 * 60 * 1_000;

/// Who may sign a roster: k of n.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Authorities {
    pub(super) keys: Vec<VerifyingKey>,
    pub(super) threshold: usize,
}

impl Authorities {
    /// The authorities that a roster names.
    pub(super) fn of(roster: &Roster) -> Result<Self, DirectoryError> {
        let parse = |bytes: &bytes::Bytes| VerifyingKey::parse(bytes).map_err(|error| key("roster", error));
        let keys = roster.authority_keys.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let authorities = Self { keys, threshold: usize::try_from(roster.threshold).unwrap_or(usize::MAX) };
        authorities.check("roster")?;
        Ok(authorities)
    }

    /// Any two sets of signers have an authority in common, so that two rosters of one version have a culprit.
    pub(super) fn check(&self, whose: &str) -> Result<(), DirectoryError> {
        let (keys, n) = (&self.keys, self.keys.len());
        let once = keys.iter().enumerate().all(|(i, key)| !keys.iter().take(i).any(|other| other == key));
        let sound = once && n <= AUTHORITIES_MAX && self.threshold <= n && self.threshold > n / 2;
        let what = "needs 1 to 32 authority keys, each once, and a threshold of more than half of them";
        if sound { Ok(()) } else { Err(DirectoryError::Rule { whose: whose.to_owned(), what }) }
    }

    /// Signatures by strangers prove nothing and harm nothing: they may be those of the authorities to come.
    pub(super) fn signed(&self, signed: &SignedRoster) -> Result<(), DirectoryError> {
        let (have, need) = (signers(signed, &self.keys)?.len(), self.threshold);
        if have >= need { Ok(()) } else { Err(DirectoryError::TooFewSignatures { have, need }) }
    }
}

/// Those of `keys` that signed.
pub(crate) fn signers<'a>(
    signed: &SignedRoster,
    keys: &'a [VerifyingKey],
) -> Result<Vec<&'a VerifyingKey>, DirectoryError> {
    let sorted = ascending(signed.signatures.iter().map(|signature| signature.key_id.as_ref()));
    if !sorted || signed.signatures.len() > SIGNATURES_MAX {
        return Err(rule("roster", "at most 64 signatures, sorted by key id, no key twice"));
    }
    let mut found = Vec::new();
    for key in keys {
        let id = key_id(KeyRole::Authority, key.as_bytes());
        let by = signed.signatures.iter().find(|signature| signature.key_id.as_ref() == id);
        let Some(by) = by else { continue };
        key.verify(Signed::Roster, &signed.roster, &by.signature)
            .map_err(|_| DirectoryError::Signature("roster".to_owned()))?;
        found.push(key);
    }
    Ok(found)
}

/// Reads a roster that must be of `region`. Signatures are the caller's: see [`verify`].
pub(super) fn read(signed: &SignedRoster, region: &str) -> Result<Roster, DirectoryError> {
    let roster: Roster = canonical::decode(&signed.roster, limits::ROSTER_BYTES_MAX)?;
    if roster.region != region {
        return Err(DirectoryError::WrongRegion { have: roster.region, need: region.to_owned() });
    }
    Ok(roster)
}

/// Checks that k of `before`, and k of the authorities that it names itself, signed it, and its rules.
pub(super) fn verify(
    signed: &SignedRoster,
    roster: &Roster,
    before: &Authorities,
) -> Result<(), DirectoryError> {
    before.signed(signed)?;
    let named = Authorities::of(roster)?;
    if named != *before {
        named.signed(signed)?;
    }
    check(roster)
}

/// Rules of a roster, for whoever signs one and whoever reads one.
pub(crate) fn check(roster: &Roster) -> Result<(), DirectoryError> {
    let validity = roster.not_after_ms.saturating_sub(roster.not_before_ms);
    let rules = [
        ("format must be 1", roster.format == FORMAT),
        ("version must be 1 or more", roster.version > 0),
        (
            "the first version has no previous one, every other names its 32 bytes",
            roster.prev_hash.len() == if roster.version == 1 { 0 } else { 32 },
        ),
        ("must be valid for at least a moment and at most 400 days", {
            (1..=ROSTER_VALID_MS_MAX).contains(&validity)
        }),
        ("a region has 1 to 64 brokers", (1..=BROKERS_MAX).contains(&roster.brokers.len())),
        ("suite_min must be a suite of this version", roster.suite_min == u32::from(SUITE)),
        ("the baseline is at most 64 KiB long", roster.baseline.len() <= limits::BASELINE_BYTES_MAX),
        ("at most 64 policies leave the baseline at one time, 128 KiB in all; take out fewer at once", {
            let bytes: usize = roster.leaving.iter().map(|leaving| leaving.policy.len()).sum();
            roster.leaving.len() <= LEAVING_MAX && bytes <= 2 * limits::BASELINE_BYTES_MAX
        }),
        ("a policy that leaves the baseline is one policy, stands once, and not in the baseline too", {
            roster.leaving.len() <= LEAVING_MAX && crate::policy::loosening::is_sound(roster)
        }),
        ("a policy leaves the baseline within 400 days", {
            let last_ms = roster.not_before_ms.saturating_add(ROSTER_VALID_MS_MAX);
            roster.leaving.iter().all(|leaving| (1..=last_ms).contains(&leaving.until_ms))
        }),
        (
            "at most 64 classification schemes, each with 1 to 64 markings; sorted, each once, codes with ranks from 1 to 9",
            markings(roster),
        ),
        ("epoch_ms must be from 100 to 3,600,000", (100..=3_600_000).contains(&roster.epoch_ms)),
        (
            "reads of sub-logs must be told after at most 365 days",
            roster.reads_told_after_days <= READS_TOLD_DAYS_MAX,
        ),
        (
            "members must be sorted by agency, each once",
            ascending(roster.members.iter().map(|m| m.agency.as_str())),
        ),
        (
            "brokers must be sorted by name, each once",
            ascending(roster.brokers.iter().map(|b| b.name.as_str())),
        ),
    ];
    if let Some((what, _)) = rules.iter().find(|(_, holds)| !holds) {
        return Err(rule("roster", what));
    }
    Authorities::of(roster)?;
    name("region", &roster.region)?;
    for broker in &roster.brokers {
        name("broker", &broker.name)?;
        for bytes in [&broker.transport_key, &broker.receipt_key, &broker.log_key] {
            VerifyingKey::parse(bytes).map_err(|error| key(&format!("broker {}", broker.name), error))?;
        }
    }
    logs::check(roster)?;
    crate::policy::Baseline::read(roster).map_err(|problem| DirectoryError::Baseline(problem.to_string()))?;
    roster.members.iter().try_for_each(member)
}

/// Schemes of classification and their markings.
fn markings(roster: &Roster) -> bool {
    let is_word = |text: &str| check_code(text).is_ok();
    roster.schemes.len() <= SCHEMES_MAX
        && ascending(roster.schemes.iter().map(|scheme| scheme.scheme.as_str()))
        && roster.schemes.iter().all(|scheme| {
            is_word(&scheme.scheme)
                && (1..=SCHEMES_MAX).contains(&scheme.markings.len())
                && ascending(scheme.markings.iter().map(|marking| marking.value.as_str()))
                && scheme
                    .markings
                    .iter()
                    .all(|marking| is_word(&marking.value) && (1..=CLEARANCE_MAX).contains(&marking.rank))
        })
}

/// Rules of one member.
pub(crate) fn member(member: &Member) -> Result<(), DirectoryError> {
    code("agency", &member.agency)?;
    let country = member.country.as_bytes();
    let rules = [
        (
            "a member needs a status",
            MemberStatus::try_from(member.status).is_ok_and(|status| status != MemberStatus::Unspecified),
        ),
        ("a member needs a name of at most 256 bytes without control characters", title(&member.name)),
        (
            "at most 8 names in its own languages, of at most 256 bytes without control characters",
            member.native_names.len() <= 8 && member.native_names.iter().all(|name| title(name)),
        ),
        (
            "a country is two capitals (ISO 3166-1), or absent",
            country.is_empty() || (country.len() == 2 && country.iter().all(u8::is_ascii_uppercase)),
        ),
        (
            "a member needs roles, sorted, each once",
            !member.roles.is_empty() && enums::<Role>(&member.roles, Role::Unspecified),
        ),
        (
            "at most 64 groups, sorted, each once",
            member.groups.len() <= GROUPS_MAX && ascending(member.groups.iter().map(String::as_str)),
        ),
        (
            "at most 1,000 units, sorted, each once",
            member.units.len() <= UNITS_MAX && ascending(member.units.iter().map(|unit| unit.unit.as_str())),
        ),
        ("a handover is a signature of 64 bytes, or absent", matches!(member.handover.len(), 0 | 64)),
        (
            "an auditor reads named agencies, sorted, each once, or \"*\" alone; nobody else does",
            member.audits.is_empty()
                || (member.roles.contains(&(Role::Auditor as i32))
                    && ascending(member.audits.iter().map(String::as_str))
                    && (member.audits == ["*"]
                        || member.audits.iter().all(|agency| check_code(agency).is_ok()))),
        ),
    ];
    if let Some((what, _)) = rules.iter().find(|(_, holds)| !holds) {
        return Err(rule(&member.agency, what));
    }
    member.groups.iter().try_for_each(|group| code("group", group))?;
    member.units.iter().try_for_each(unit)?;
    if !member.witness_key.is_empty() {
        VerifyingKey::parse(&member.witness_key)
            .map_err(|error| key(&format!("witness key of {}", member.agency), error))?;
    }
    VerifyingKey::parse(&member.identity_key)
        .map(drop)
        .map_err(|error| key(&format!("identity key of {}", member.agency), error))
}

fn unit(unit: &RosterUnit) -> Result<(), DirectoryError> {
    code("unit", &unit.unit)?;
    let rules = [
        ("a unit needs a name of at most 256 bytes without control characters", title(&unit.name)),
        (
            "a unit needs functions, sorted, each once",
            !unit.functions.is_empty() && enums::<UnitFunction>(&unit.functions, UnitFunction::Unspecified),
        ),
        ("a clearance is from 0 to 9", unit.clearance <= CLEARANCE_MAX),
        ("purposes of a unit are sorted, each once", enums::<Purpose>(&unit.purposes, Purpose::Unspecified)),
    ];
    let broken = rules.iter().find(|(_, holds)| !holds);
    broken.map_or(Ok(()), |(what, _)| Err(rule(&unit.unit, what)))
}

/// Whether an officer can be shown this text: not empty, no control characters, nothing that turns the direction
/// of what stands around it.
pub(crate) fn title(text: &str) -> bool {
    let turns = |c: char| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let shown = |c: char| !c.is_control() && !turns(c);
    (1..=TITLE_BYTES_MAX).contains(&text.len()) && text.trim() == text && text.chars().all(shown)
}

fn enums<E: TryFrom<i32> + PartialEq>(list: &[i32], unspecified: E) -> bool {
    let known = |value: &i32| E::try_from(*value).is_ok_and(|value| value != unspecified);
    list.iter().all(known) && ascending(list.iter())
}

/// Whether each stands after the one before it.
pub(super) fn ascending<T: PartialOrd>(items: impl Iterator<Item = T> + Clone) -> bool {
    items.clone().zip(items.skip(1)).all(|(a, b)| a < b)
}

pub(super) fn rule(whose: &str, what: &'static str) -> DirectoryError {
    DirectoryError::Rule { whose: whose.to_owned(), what }
}

fn key(whose: &str, error: lintas_proto::sign::SignatureError) -> DirectoryError {
    DirectoryError::Key { whose: whose.to_owned(), error }
}

fn name(what: &'static str, text: &str) -> Result<(), DirectoryError> {
    check_name(text).map_err(|error| DirectoryError::Id { what, text: short(text), error })
}

pub(super) fn code(what: &'static str, text: &str) -> Result<(), DirectoryError> {
    check_code(text).map_err(|error| DirectoryError::Id { what, text: short(text), error })
}

/// What a stranger wrote, fit for one line.
fn short(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_debug).collect()
}
