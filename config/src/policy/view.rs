//! What one agency can see of a decision: the baseline and its own bundle, never another's.
//!
//! | it is | it sees | what stays open |
//! |---|---|---|
//! | the originator's agency | baseline, its own Release | whether the recipient accepts |
//! | the recipient's agency | baseline, its own Accept | whether the originator releases |
//! | both | all of it | nothing |

use lintas_proto::schema::{
    Caveat, DataCategory, HandlingCode, Kind, Label, Member, Offence, Onward, Purpose, Roster, Tlp, UnitRef,
};
use thiserror::Error;

use super::{
    baseline::Baseline,
    decide::{Asked, DecidedBy, Decision, Denial, Layers, decide, decide_on},
    question::{Question, Slice, Way, unit},
    set::{PolicySet, Problem},
    vocabulary::Word,
};
use crate::document::meant;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ViewError {
    /// No such agency in the roster.
    #[error("the roster knows no agency `{code}`{meant}; `lintas region inspect` lists them")]
    Agency {
        /// As it was written.
        code: String,
        /// A question after the nearest one, or nothing.
        meant: String,
    },
    /// No such unit of it.
    #[error("{agency} has no unit `{code}`{meant}; its units are {known}")]
    Unit {
        /// Whose.
        agency: String,
        /// As it was written.
        code: String,
        /// As above.
        meant: String,
        /// Those it has.
        known: String,
    },
    /// The agency that asks has no part in it.
    #[error(
        "neither sender nor recipient is a unit of {0}: only they and the broker know what their policies say"
    )]
    NotOurs(String),
    /// It sends and receives nothing.
    #[error("{0} has no unit that sends or receives, so there is nothing for a policy to decide")]
    NoUnits(String),
    /// The roster's baseline.
    #[error("the baseline of the region cannot be read: {0}")]
    Baseline(Problem),
}

/// How a member passes a packet on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    /// Agency code.
    pub via: String,
    /// How often it was passed on, this time included.
    pub hops: u32,
    /// The originator has consented.
    pub consent: bool,
}

/// A packet as somebody describes it before there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Who would send it.
    pub originator: UnitRef,
    /// The sender names the unit itself.
    pub named: bool,
    /// What it is.
    pub kind: Kind,
    /// Its label.
    pub label: Label,
    /// Whether it may be passed on.
    pub onward: Onward,
    /// A person has reviewed it.
    pub reviewed: bool,
    /// Absent if it comes from its originator.
    pub relay: Option<Relay>,
}

impl Described {
    /// May it go to this unit?
    #[must_use]
    pub fn question<'a>(&'a self, recipient: &'a UnitRef, now_ms: u64) -> Question<'a> {
        let way = self.relay.as_ref().map_or(Way::Direct, |relay| Way::Relayed {
            via: &relay.via,
            hops: relay.hops,
            consent: relay.consent,
        });
        Question {
            originator: &self.originator,
            recipient,
            named: self.named,
            kind: self.kind,
            label: &self.label,
            onward: self.onward,
            reviewed: self.reviewed,
            way,
            now_ms,
        }
    }
}

/// What the baseline says, asked about everything that it may be asked about: the broker asks so.
pub(super) fn region_denies(
    baseline: &[PolicySet],
    slice: &Slice,
    roster: &Roster,
    question: &Question<'_>,
) -> Option<Denial> {
    let asked = Asked { baseline, originator: None, recipient: None };
    match decide_on(asked, slice, roster, question, Layers::All) {
        Decision::Deny(denial) if denial.by == DecidedBy::Region => Some(denial),
        Decision::Deny(_) | Decision::Release(_) | Decision::Review(_) => None,
    }
}

/// What one agency's bundle says, the baseline left out.
pub(super) fn own_says(
    own: Option<&PolicySet>,
    slice: &Slice,
    roster: &Roster,
    question: &Question<'_>,
    layers: Layers,
) -> Decision {
    decide_on(Asked { baseline: &[], originator: own, recipient: own }, slice, roster, question, layers)
}

/// The decision as far as one agency sees it.
pub(super) fn seen(
    baseline: &[PolicySet],
    own: Option<&PolicySet>,
    roster: &Roster,
    question: &Question<'_>,
    layers: Layers,
) -> Decision {
    let slice = match Slice::new(roster, question) {
        Ok(slice) => slice,
        Err(stop) => return Decision::Deny(stop.denial(question)),
    };
    match region_denies(baseline, &slice, roster, question) {
        Some(denial) => Decision::Deny(denial),
        None => own_says(own, &slice, roster, question, layers),
    }
}

/// See the module.
#[derive(Debug)]
pub struct View<'a> {
    pub(super) agency: &'a str,
    pub(super) roster: &'a Roster,
    pub(super) baseline: Vec<PolicySet>,
    pub(super) own: Option<&'a PolicySet>,
    pub(super) now_ms: u64,
}

impl<'a> View<'a> {
    /// Of `agency`, under a roster and its own policies (those in force, or a candidate), at `now_ms`.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn new(
        roster: &'a Roster,
        agency: &'a str,
        own: Option<&'a PolicySet>,
        now_ms: u64,
    ) -> Result<Self, ViewError> {
        listed(roster, agency)?;
        let baseline = Baseline::read(roster).map_err(ViewError::Baseline)?;
        let baseline = baseline.at(now_ms).0.into_iter().cloned().collect();
        Ok(Self { agency, roster, baseline, own, now_ms })
    }

    pub(super) fn region_denies(&self, question: &Question<'_>) -> Option<Denial> {
        match Slice::new(self.roster, question) {
            Ok(slice) => region_denies(&self.baseline, &slice, self.roster, question),
            Err(stop) => Some(stop.denial(question)),
        }
    }

    pub(super) fn own_says(&self, question: &Question<'_>, layers: Layers) -> Decision {
        let asked = Asked { baseline: &[], originator: self.own, recipient: self.own };
        decide(asked, self.roster, question, layers)
    }

    pub(super) fn seen(&self, question: &Question<'_>, layers: Layers) -> Decision {
        seen(&self.baseline, self.own, self.roster, question, layers)
    }

    /// Which of the own layers a packet passes: as the sender's agency, the recipient's, or both.
    pub(super) fn layers(&self, originator: &UnitRef, recipient: &UnitRef) -> Option<Layers> {
        match (originator.agency == self.agency, recipient.agency == self.agency) {
            (true, true) => Some(Layers::All),
            (true, false) => Some(Layers::Release),
            (false, true) => Some(Layers::Accept),
            (false, false) => None,
        }
    }
}

/// A member of the roster, active or not.
///
/// # Errors
/// [`ViewError::Agency`], with the nearest one there is.
pub fn listed<'r>(roster: &'r Roster, agency: &str) -> Result<&'r Member, ViewError> {
    roster.members.iter().find(|member| member.agency == agency).ok_or_else(|| {
        let known: Vec<&str> = roster.members.iter().map(|member| member.agency.as_str()).collect();
        ViewError::Agency { code: agency.chars().take(40).collect(), meant: meant(agency, &known) }
    })
}

/// A unit of the roster.
///
/// # Errors
/// [`ViewError`], with the nearest one there is.
pub fn listed_unit(roster: &Roster, named: &UnitRef) -> Result<(), ViewError> {
    let member = listed(roster, &named.agency)?;
    if unit(member, &named.unit).is_some() {
        return Ok(());
    }
    let known: Vec<&str> = member.units.iter().map(|unit| unit.unit.as_str()).collect();
    Err(ViewError::Unit {
        agency: named.agency.clone(),
        code: named.unit.chars().take(40).collect(),
        meant: meant(&named.unit, &known),
        known: if known.is_empty() { "none".to_owned() } else { known.join(", ") },
    })
}

/// `KH/KH-AHT`, as cases and commands name a unit.
pub(super) fn name(unit: &UnitRef) -> String {
    format!("{}/{}", unit.agency, unit.unit)
}

/// A packet in the words of its label, e.g. `ALERT TLP:AMBER H0 for INVESTIGATION about TRAFFICKING_IN_PERSONS`.
pub(super) fn words(packet: &Described) -> String {
    fn list<W: Word>(values: &[i32]) -> Vec<&'static str> {
        values.iter().filter_map(|value| W::try_from(*value).ok()).map(|word| word.word()).collect()
    }
    let label = &packet.label;
    let mut parts = vec![packet.kind.word().to_owned()];
    parts.extend(Tlp::try_from(label.tlp).map(|tlp| format!("TLP:{}", tlp.word())));
    parts.extend(list::<HandlingCode>(&label.handling).into_iter().map(str::to_owned));
    parts.extend(list::<Caveat>(&label.caveats).into_iter().map(str::to_owned));
    if !label.rel_to.is_empty() {
        parts.push(format!("({})", label.rel_to.join(", ")));
    }
    parts.extend(label.classification.as_ref().map(|mark| format!("marked {}/{}", mark.scheme, mark.value)));
    let lists = [
        ("for", list::<Purpose>(&label.purposes)),
        ("about", list::<Offence>(&label.offences)),
        ("with data", list::<DataCategory>(&label.data)),
    ];
    for (lead, words) in lists.iter().filter(|(_, words)| !words.is_empty()) {
        parts.push(format!("{lead} {}", words.join(", ")));
    }
    if packet.onward != Onward::None {
        parts.push(format!("onward {}", packet.onward.word()));
    }
    if !packet.named {
        parts.push("to a group or agency".to_owned());
    }
    if packet.reviewed {
        parts.push("reviewed".to_owned());
    }
    parts.extend(packet.relay.as_ref().map(|relay| format!("passed on by {}", relay.via)));
    parts.join(" ")
}
