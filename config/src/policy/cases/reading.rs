//! One table of cases.toml, key by key.

use lintas_proto::{
    id::check_code,
    schema::{
        Caveat, Classification, DataCategory, HandlingCode, Kind, Label, Offence, Onward, Purpose, Tlp,
        UnitRef,
    },
};

use super::{CASE_NAME_BYTES_MAX, Case, EXPECTED, Relay};
use crate::{
    document::{Entry, FileError, Section},
    policy::{
        set::Owner,
        vocabulary::{Word, all},
    },
};

/// The name first: it has no default.
pub(super) const KEYS: [&str; 21] = [
    "name",
    "from",
    "to",
    "named",
    "kind",
    "tlp",
    "handling",
    "caveats",
    "rel_to",
    "classification",
    "purposes",
    "offences",
    "data",
    "onward",
    "reviewed",
    "via",
    "hops",
    "consent",
    "at",
    "expect",
    "by",
];

/// One case, and what stands for all of them.
pub(super) struct Reading<'r, 'd> {
    pub(super) case: &'r Section<'d>,
    pub(super) defaults: Option<&'r Section<'d>>,
}

impl<'d> Reading<'_, 'd> {
    fn get(&self, key: &'static str) -> Option<Entry<'d>> {
        self.case.get(key).or_else(|| self.defaults?.get(key))
    }

    fn need(&self, key: &'static str, such_as: &str) -> Result<Entry<'d>, FileError> {
        self.get(key).map_or_else(|| self.case.need(key, such_as), Ok)
    }

    pub(super) fn case(&self, owner: &Owner) -> Result<Case, FileError> {
        let name = self.case.need("name", "\"an alert goes to every member\"")?;
        let name = name.text(|text| {
            let fits = (1..=CASE_NAME_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
            if fits {
                Ok(text.to_owned())
            } else {
                Err("must be 1 to 128 bytes long, without control characters")
            }
        })?;
        let case = Case {
            name,
            line: self.case.line(),
            expected: self.need("expect", "\"release\"")?.one_of(&EXPECTED)?,
            by: self.get("by").map(|entry| entry.text(|text| Ok::<_, &str>(text.to_owned()))).transpose()?,
            from: self.unit("from")?,
            to: self.unit("to")?,
            named: self.truth("named", true)?,
            kind: self.word::<Kind>("kind", Kind::Request)?,
            label: self.label()?,
            onward: self.word::<Onward>("onward", Onward::None)?,
            reviewed: self.truth("reviewed", false)?,
            relay: self.relay()?,
            at_ms: self.get("at").map(|entry| moment(&entry)).transpose()?,
        };
        match owner {
            Owner::Agency(code) if case.from.agency != *code && case.to.agency != *code => Err(self
                .case
                .wrong(format!("neither `from` nor `to` is of {code}: its policies would never be asked"))),
            Owner::Agency(_) | Owner::Baseline => Ok(case),
        }
    }

    fn label(&self) -> Result<Label, FileError> {
        let classification = self.get("classification").map(|entry| entry.text(marking)).transpose()?;
        let code = |entry: Entry<'_>| entry.text(|text| agency(text).map(|()| text.to_owned()));
        let mut rel_to = match self.get("rel_to") {
            None => Vec::new(),
            Some(entry) => entry.list()?.into_iter().map(code).collect::<Result<_, _>>()?,
        };
        rel_to.sort_unstable();
        rel_to.dedup();
        Ok(Label {
            tlp: self.word::<Tlp>("tlp", Tlp::Amber)? as i32,
            handling: self.words::<HandlingCode>("handling", |word| word as i32)?,
            caveats: self.words::<Caveat>("caveats", |word| word as i32)?,
            rel_to,
            classification,
            purposes: self.words::<Purpose>("purposes", |word| word as i32)?,
            offences: self.words::<Offence>("offences", |word| word as i32)?,
            data: self.words::<DataCategory>("data", |word| word as i32)?,
        })
    }

    fn unit(&self, key: &'static str) -> Result<UnitRef, FileError> {
        self.need(key, "\"TH/TH-SPOC\"")?.text(|text| {
            let (agency, unit) =
                text.split_once('/').ok_or("must be agency and unit, e.g. \"TH/TH-SPOC\"")?;
            if check_code(agency).is_err() || check_code(unit).is_err() {
                return Err("must be two codes of capitals, digits and hyphens, e.g. \"TH/TH-SPOC\"");
            }
            Ok(UnitRef { agency: agency.to_owned(), unit: unit.to_owned() })
        })
    }

    fn relay(&self) -> Result<Option<Relay>, FileError> {
        let hops = self.get("hops").map(|entry| entry.number(1..=255)).transpose()?;
        let consent = self.truth("consent", false)?;
        let via = self.get("via").map(|entry| entry.text(|text| agency(text).map(|()| text.to_owned())));
        match via.transpose()? {
            Some(via) => Ok(Some(Relay { via, hops: hops.unwrap_or(1), consent })),
            None if hops.is_some() || consent => Err(self
                .case
                .wrong("`hops` and `consent` are about a packet that is passed on; add `via`".to_owned())),
            None => Ok(None),
        }
    }

    fn truth(&self, key: &'static str, default: bool) -> Result<bool, FileError> {
        self.get(key).map_or(Ok(default), |entry| entry.truth())
    }

    fn word<W: Word + Copy>(&self, key: &'static str, default: W) -> Result<W, FileError> {
        self.get(key).map_or(Ok(default), |entry| entry.one_of(&known::<W>()))
    }

    fn words<W: Word + Copy>(&self, key: &'static str, number: fn(W) -> i32) -> Result<Vec<i32>, FileError> {
        let Some(entry) = self.get(key) else { return Ok(Vec::new()) };
        let words = entry.list()?.into_iter().map(|entry| entry.one_of(&known::<W>()).map(number));
        let mut words = words.collect::<Result<Vec<_>, _>>()?;
        words.sort_unstable();
        words.dedup();
        Ok(words)
    }
}

fn known<W: Word>() -> Vec<(&'static str, W)> {
    all::<W>().into_iter().map(|word| (word.word(), word)).collect()
}

fn agency(code: &str) -> Result<(), &'static str> {
    check_code(code).map_err(|_| "must be an agency's code, e.g. \"TH\"")
}

fn marking(text: &str) -> Result<Classification, &'static str> {
    let (scheme, value) = text.split_once('/').ok_or("must be a scheme and a marking, e.g. \"TH/LAP\"")?;
    Ok(Classification { scheme: scheme.to_owned(), value: value.to_owned() })
}

fn moment(entry: &Entry<'_>) -> Result<u64, FileError> {
    entry.text(|text| {
        let moment: Option<jiff::Timestamp> = text.parse().ok();
        let ms = moment.and_then(|moment| u64::try_from(moment.as_millisecond()).ok());
        ms.ok_or("must be a moment in quotes, e.g. \"2026-12-01T00:00:00Z\"")
    })
}
