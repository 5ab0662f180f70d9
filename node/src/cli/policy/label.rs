//! A packet that is only asked about: by a draft, or by the words of its label.

use std::path::PathBuf;

use clap::Args;
use lintas_config::policy::{could::Partial, view::Described};
use lintas_proto::schema::{
    Caveat, Classification, DataCategory, HandlingCode, Kind, Label, Member, Offence, Onward, Purpose,
    Roster, Tlp, UnitFunction, UnitRef,
};

use super::wrong;
use crate::{
    core::{
        draft::{self, DRAFT_BYTES_MAX},
        text::one_line,
    },
    shell::{
        clock,
        failure::{Code, Failure},
        files::read,
    },
};

/// Options that describe a packet; lists may be given several times, or with commas.
#[derive(Args)]
pub(super) struct Asked {
    /// The draft of a packet, as `lintas send` takes it; then the options that describe a label are not looked at.
    #[arg(value_name = "DRAFT.json")]
    draft: Option<PathBuf>,
    /// Who sends: a unit of the agency, or AGENCY/UNIT of another one, to ask what this agency would accept.
    #[arg(long, value_name = "UNIT")]
    from: Option<String>,
    /// ALERT, NOTICE, REQUEST, REPLY.
    #[arg(long, default_value = "ALERT")]
    kind: String,
    /// RED, AMBER_STRICT, AMBER, GREEN, CLEAR.
    #[arg(long, default_value = "AMBER")]
    tlp: String,
    /// Handling codes, e.g. H1.
    #[arg(long, value_delimiter = ',', value_name = "CODE")]
    handling: Vec<String>,
    /// Caveats, e.g. ORCON.
    #[arg(long = "caveat", value_delimiter = ',', value_name = "CAVEAT")]
    caveats: Vec<String>,
    /// Agencies named by REL_TO.
    #[arg(long, value_delimiter = ',', value_name = "AGENCY")]
    rel_to: Vec<String>,
    /// A marking of a scheme of the region, e.g. TH/LAP.
    #[arg(long, value_name = "SCHEME/MARKING")]
    classification: Option<String>,
    /// Purposes, e.g. INVESTIGATION.
    #[arg(long = "purpose", value_delimiter = ',', value_name = "PURPOSE", default_value = "INVESTIGATION")]
    purposes: Vec<String>,
    /// Offences, e.g. FORCED_LABOUR.
    #[arg(long = "offence", value_delimiter = ',', value_name = "OFFENCE")]
    offences: Vec<String>,
    /// Categories of data, e.g. FINANCIAL.
    #[arg(long = "category", value_delimiter = ',', value_name = "CATEGORY")]
    categories: Vec<String>,
    /// NONE, WITH_CONSENT, REGION, ANY.
    #[arg(long, default_value = "NONE")]
    onward: String,
    /// As addressed to an agency or a group, not to the unit by name.
    #[arg(long)]
    unnamed: bool,
    /// As if a person had reviewed the release already.
    #[arg(long)]
    reviewed: bool,
    /// As if it were that moment, e.g. 2026-12-01T00:00:00Z; without it now.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
}

/// Options that describe part of a label; what is not said is open.
#[derive(Args)]
pub(super) struct Open {
    /// Who sends: a unit of the agency.
    #[arg(long, value_name = "UNIT")]
    from: Option<String>,
    /// ALERT, NOTICE, REQUEST, REPLY.
    #[arg(long)]
    kind: Option<String>,
    /// RED, AMBER_STRICT, AMBER, GREEN, CLEAR.
    #[arg(long)]
    tlp: Option<String>,
    /// Handling codes, e.g. H1; `none` for none.
    #[arg(long, value_delimiter = ',', value_name = "CODE")]
    handling: Option<Vec<String>>,
    /// Caveats, e.g. ORCON; `none` for none.
    #[arg(long = "caveat", value_delimiter = ',', value_name = "CAVEAT")]
    caveats: Option<Vec<String>>,
    /// Agencies named by REL_TO.
    #[arg(long, value_delimiter = ',', value_name = "AGENCY", requires = "caveats")]
    rel_to: Vec<String>,
    /// A marking of a scheme of the region, e.g. TH/LAP; `none` for none.
    #[arg(long, value_name = "SCHEME/MARKING")]
    classification: Option<String>,
    /// Purposes, e.g. INVESTIGATION.
    #[arg(long = "purpose", value_delimiter = ',', value_name = "PURPOSE")]
    purposes: Option<Vec<String>>,
    /// Offences, e.g. FORCED_LABOUR; `none` for none.
    #[arg(long = "offence", value_delimiter = ',', value_name = "OFFENCE")]
    offences: Option<Vec<String>>,
    /// Categories of data, e.g. FINANCIAL; `none` for none.
    #[arg(long = "category", value_delimiter = ',', value_name = "CATEGORY")]
    categories: Option<Vec<String>>,
    /// NONE, WITH_CONSENT, REGION, ANY.
    #[arg(long)]
    onward: Option<String>,
    /// Addressed to the unit by name (true), or to an agency or group (false).
    #[arg(long)]
    named: Option<bool>,
    /// As if a person had reviewed the release already.
    #[arg(long)]
    reviewed: bool,
    /// As if it were that moment, e.g. 2026-12-01T00:00:00Z; without it now.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
}

impl Open {
    /// Who sends, what is known of the label, and when.
    pub(super) fn partial(&self, roster: &Roster, agency: &str) -> Result<(UnitRef, Partial, u64), Failure> {
        let at_ms = self.at.as_ref().map_or_else(|| Ok(clock::now_ms()), |text| moment(text, "--at"))?;
        let from = originator(roster, agency, self.from.as_deref().unwrap_or_default())?;
        let one = self.classification.as_deref();
        let partial = Partial {
            kind: maybe(self.kind.as_ref(), kind)?,
            tlp: maybe(self.tlp.as_ref(), tlp)?,
            handling: open_list(&self.handling, handling)?,
            caveats: open_list(&self.caveats, caveat)?,
            rel_to: sorted(&self.rel_to),
            classification: maybe(
                one,
                |text| if text == "none" { Ok(None) } else { marking(text).map(Some) },
            )?,
            purposes: open_list(&self.purposes, purpose)?,
            offences: open_list(&self.offences, offence)?,
            data: open_list(&self.categories, data)?,
            onward: maybe(self.onward.as_ref(), onward)?,
            named: self.named,
            reviewed: self.reviewed,
        };
        Ok((from, partial, at_ms))
    }
}

impl Asked {
    /// The packet, and when.
    pub(super) fn packet(&self, roster: &Roster, agency: &str) -> Result<(Described, u64), Failure> {
        let at_ms = self.at.as_ref().map_or_else(|| Ok(clock::now_ms()), |text| moment(text, "--at"))?;
        let (kind, label, onward, from) = match &self.draft {
            Some(path) => {
                let bytes = read(path, DRAFT_BYTES_MAX as u64)
                    .map_err(|error| Failure::file("read the draft", path, &error))?;
                let text = String::from_utf8(bytes)
                    .map_err(|_| wrong("the draft is not text; it must be a JSON file"))?;
                let draft = draft::Draft::parse(&text, &[], self.from.as_deref()).map_err(wrong)?;
                (draft.kind, draft.label, draft.onward, draft.from)
            }
            None => (
                kind(&self.kind)?,
                self.label()?,
                onward(&self.onward)?,
                self.from.clone().unwrap_or_default(),
            ),
        };
        let described = Described {
            originator: originator(roster, agency, &from)?,
            named: !self.unnamed,
            kind,
            label,
            onward,
            reviewed: self.reviewed,
            relay: None,
        };
        Ok((described, at_ms))
    }

    fn label(&self) -> Result<Label, Failure> {
        Ok(Label {
            tlp: tlp(&self.tlp)? as i32,
            handling: numbers(&self.handling, handling)?,
            caveats: numbers(&self.caveats, caveat)?,
            rel_to: sorted(&self.rel_to),
            classification: maybe(self.classification.as_deref(), marking)?,
            purposes: numbers(&self.purposes, purpose)?,
            offences: numbers(&self.offences, offence)?,
            data: numbers(&self.categories, data)?,
        })
    }
}

/// One vocabulary each: option, prefix of its codes.
macro_rules! vocabularies {
    ($($name:ident: $vocabulary:ty, $option:literal, $prefix:literal;)+) => {$(
        fn $name(text: &str) -> Result<$vocabulary, Failure> {
            word($option, text, $prefix, <$vocabulary>::from_str_name, <$vocabulary>::as_str_name)
        }
    )+};
}

vocabularies! {
    kind: Kind, "--kind", "KIND_";
    tlp: Tlp, "--tlp", "TLP_";
    handling: HandlingCode, "--handling", "HANDLING_CODE_";
    caveat: Caveat, "--caveat", "CAVEAT_";
    purpose: Purpose, "--purpose", "PURPOSE_";
    offence: Offence, "--offence", "OFFENCE_";
    data: DataCategory, "--category", "DATA_CATEGORY_";
    onward: Onward, "--onward", "ONWARD_";
}

fn maybe<T, S: AsRef<str>>(
    text: Option<S>,
    read: impl Fn(&str) -> Result<T, Failure>,
) -> Result<Option<T>, Failure> {
    text.map(|text| read(text.as_ref())).transpose()
}

/// A list that may be open; `none` alone is the empty one.
fn open_list<T>(
    texts: &Option<Vec<String>>,
    read: impl Fn(&str) -> Result<T, Failure>,
) -> Result<Option<Vec<T>>, Failure> {
    let Some(texts) = texts else { return Ok(None) };
    let some = texts.iter().filter(|text| *text != "none");
    some.map(|text| read(text)).collect::<Result<_, _>>().map(Some)
}

/// A list of a label: ascending, no value twice.
fn numbers<T: Into<i32>>(
    texts: &[String],
    read: impl Fn(&str) -> Result<T, Failure>,
) -> Result<Vec<i32>, Failure> {
    let mut values: Vec<i32> =
        texts.iter().map(|text| read(text).map(Into::into)).collect::<Result<_, _>>()?;
    values.sort_unstable();
    values.dedup();
    Ok(values)
}

fn sorted(codes: &[String]) -> Vec<String> {
    let mut codes = codes.to_vec();
    codes.sort_unstable();
    codes.dedup();
    codes
}

fn marking(text: &str) -> Result<Classification, Failure> {
    let (scheme, value) = text.split_once('/').ok_or_else(|| {
        Failure::new(Code::Usage, "--classification needs a scheme and a marking, e.g. TH/LAP")
    })?;
    Ok(Classification { scheme: scheme.to_owned(), value: value.to_owned() })
}

/// A moment of the command line.
pub(super) fn moment(text: &str, option: &str) -> Result<u64, Failure> {
    clock::read(text).ok_or_else(|| {
        let message =
            format!("{option} needs a day, e.g. 2026-12-01, or a moment, e.g. 2026-12-01T00:00:00Z (UTC)");
        Failure::new(Code::Usage, message)
    })
}

/// Who sends: the unit named, else the only one, else the only single point of contact.
fn originator(roster: &Roster, agency: &str, from: &str) -> Result<UnitRef, Failure> {
    if let Some((agency, unit)) = from.split_once('/') {
        return Ok(UnitRef { agency: agency.to_owned(), unit: unit.to_owned() });
    }
    let unit = |unit: &str| UnitRef { agency: agency.to_owned(), unit: unit.to_owned() };
    if !from.is_empty() {
        return Ok(unit(from));
    }
    let spoc = UnitFunction::Spoc as i32;
    let member: Option<&Member> = roster.members.iter().find(|member| member.agency == agency);
    let units = member.map(|member| member.units.as_slice()).unwrap_or_default();
    let mut spocs = units.iter().filter(|unit| unit.functions.contains(&spoc));
    match (units, spocs.next(), spocs.next()) {
        ([only], ..) => Ok(unit(&only.unit)),
        (_, Some(only), None) => Ok(unit(&only.unit)),
        _ => {
            let known: Vec<&str> = units.iter().map(|unit| unit.unit.as_str()).collect();
            let message =
                format!("which unit of {agency} sends? say --from UNIT; there are: {}", known.join(", "));
            Err(Failure::new(Code::Usage, message))
        }
    }
}

/// A word of a vocabulary, in capitals or not, with hyphens or not.
fn word<W: TryFrom<i32> + Copy>(
    option: &str,
    text: &str,
    prefix: &str,
    find: fn(&str) -> Option<W>,
    name: fn(&W) -> &'static str,
) -> Result<W, Failure> {
    let code = text.to_ascii_uppercase().replace(['-', ' ', '+'], "_");
    let code = if code.starts_with(prefix) { code } else { format!("{prefix}{code}") };
    let unspecified = format!("{prefix}UNSPECIFIED");
    find(&code).filter(|found| name(found) != unspecified).ok_or_else(|| {
        // Vocabularies have less than so many words.
        let known = (0..256).filter_map(|value| W::try_from(value).ok()).map(|word| name(&word));
        let known: Vec<&str> = known
            .filter(|known| *known != unspecified)
            .filter_map(|known| known.strip_prefix(prefix))
            .collect();
        let message = format!("{option}: there is no `{}`; there are: {}", one_line(text), known.join(", "));
        Failure::new(Code::Usage, message)
    })
}
