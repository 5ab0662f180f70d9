//! The sample region in several states, and what a question says, in plain words: no Cedar here.

use std::{cell::OnceCell, sync::Arc};

use lintas_config::{
    policy::{Bundle, Policies, Question, Way, sample},
    source::mekong,
};
use lintas_proto::{
    canonical,
    id::sha256,
    schema::{
        Caveat, ClassificationScheme, DataCategory, HandlingCode, Kind, Label, Marking, Member, MemberStatus,
        Offence, Onward, PolicyBundle, Purpose, Roster, RosterUnit, SignedPolicyBundle, Tlp, UnitFunction,
        UnitRef,
    },
};

/// Scheme, marking, rank: the table of docs/POLICY.md.
pub(crate) const MARKINGS: [(&str, &str, u32); 24] = [
    ("ID", "KONFIDENSIAL", 2),
    ("ID", "RAHASIA", 3),
    ("ID", "SANGAT-RAHASIA", 4),
    ("ID", "TERBATAS", 1),
    ("KH", "SAMNGAT", 2),
    ("KH", "SAMNGAT-BAMPHOT", 4),
    ("KH", "SAMNGAT-NAS", 3),
    ("LA", "LAP", 2),
    ("LA", "LAP-LAI", 3),
    ("LA", "LAP-THI-SUT", 4),
    ("MM", "ATWIN-YAY", 2),
    ("MM", "HLYO-WHET", 3),
    ("MM", "HTEIK-TAN-HLYO-WHET", 4),
    ("MM", "KANT-THAT", 1),
    ("REGION", "CONFIDENTIAL", 2),
    ("REGION", "RESTRICTED", 1),
    ("REGION", "SECRET", 3),
    ("REGION", "TOP-SECRET", 4),
    ("TH", "LAP", 2),
    ("TH", "LAP-MAK", 3),
    ("TH", "LAP-THI-SUT", 4),
    ("VN", "MAT", 2),
    ("VN", "TOI-MAT", 3),
    ("VN", "TUYET-MAT", 4),
];

/// One question, with everything that it borrows elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Which of [`regions`].
    pub(crate) region: usize,
    pub(crate) from: UnitRef,
    pub(crate) to: UnitRef,
    pub(crate) named: bool,
    pub(crate) kind: Kind,
    pub(crate) label: Label,
    pub(crate) onward: Onward,
    pub(crate) reviewed: bool,
    /// Agency that passes it on, how often it was, and whether the originator has consented.
    pub(crate) relay: Option<(String, u32, bool)>,
    pub(crate) now_ms: u64,
}

impl Asked {
    pub(crate) fn question(&self) -> Question<'_> {
        let way = self.relay.as_ref().map_or(Way::Direct, |(via, hops, consent)| Way::Relayed {
            via,
            hops: *hops,
            consent: *consent,
        });
        Question {
            originator: &self.from,
            recipient: &self.to,
            named: self.named,
            kind: self.kind,
            label: &self.label,
            onward: self.onward,
            reviewed: self.reviewed,
            way,
            now_ms: self.now_ms,
        }
    }
}

/// The sample region; with one member suspended; with one revoked and one suspended; with a second agency of a country.
pub(crate) fn regions(baseline: &str) -> Vec<Roster> {
    let source = mekong().unwrap();
    let members = source.members.iter().map(|member| member.member(Vec::new().into())).collect();
    let mut schemes: Vec<ClassificationScheme> = Vec::new();
    for (scheme, value, rank) in MARKINGS {
        if schemes.last().is_none_or(|known| known.scheme != scheme) {
            schemes.push(ClassificationScheme { scheme: scheme.to_owned(), markings: Vec::new() });
        }
        let markings = &mut schemes.last_mut().unwrap().markings;
        markings.push(Marking { value: value.to_owned(), rank });
    }
    let region = source.region.clone();
    let whole = Roster { region, members, schemes, baseline: baseline.to_owned(), ..Roster::default() };
    let with = |changes: &[(&str, MemberStatus)]| {
        let mut roster = whole.clone();
        for (agency, status) in changes {
            let member = roster.members.iter_mut().find(|member| member.agency == *agency).unwrap();
            member.status = *status as i32;
        }
        roster
    };
    let mut second = whole.clone();
    second.members.push(Member {
        agency: "DSI".to_owned(),
        country: "TH".to_owned(),
        units: vec![RosterUnit { unit: "DSI-A".to_owned(), ..units(&whole, "TH")[2].clone() }],
        ..whole.members.iter().find(|member| member.agency == "TH").unwrap().clone()
    });
    // And with a contact point that does nothing else.
    let lao = second.members.iter_mut().find(|member| member.agency == "LA").unwrap();
    lao.units[1].functions = vec![UnitFunction::Spoc as i32];
    second.members.sort_by(|a, b| a.agency.cmp(&b.agency));
    vec![
        whole.clone(),
        with(&[("MM", MemberStatus::Suspended)]),
        with(&[("VN", MemberStatus::Suspended), ("ID", MemberStatus::Revoked)]),
        second,
    ]
}

pub(crate) fn units<'r>(roster: &'r Roster, agency: &str) -> &'r [RosterUnit] {
    roster.members.iter().find(|member| member.agency == agency).map_or(&[], |member| &member.units)
}

/// A bundle as it is kept, unsigned: who signed it is another test's question.
pub(crate) fn bundle(owner: &str, policies: &str) -> Arc<Bundle> {
    let said = PolicyBundle {
        format: 1,
        owner: owner.to_owned(),
        version: 1,
        policies: policies.to_owned(),
        ..PolicyBundle::default()
    };
    let said = canonical::encode(&said);
    let hash = sha256(&[&said]);
    let bytes = canonical::encode(&SignedPolicyBundle { bundle: said, ..SignedPolicyBundle::default() });
    Bundle::kept(&bytes, &hash).unwrap()
}

/// All sample bundles.
pub(crate) fn bundles() -> Vec<Arc<Bundle>> {
    sample::agencies().map(|agency| bundle(agency, sample::texts(agency).unwrap().0)).collect()
}

/// What is in force in each of the regions, made when it is first asked.
pub(crate) struct InForce {
    regions: Vec<Roster>,
    bundles: Vec<Arc<Bundle>>,
    made: Vec<OnceCell<Policies>>,
}

impl InForce {
    pub(crate) fn new(regions: &[Roster], bundles: &[Arc<Bundle>]) -> Self {
        let made = regions.iter().map(|_| OnceCell::new()).collect();
        Self { regions: regions.to_vec(), bundles: bundles.to_vec(), made }
    }

    pub(crate) fn of(&self, region: usize) -> &Policies {
        let make = || {
            let roster = Arc::new(self.regions[region].clone());
            Policies::new(roster, self.bundles.iter().cloned(), 1).unwrap()
        };
        self.made[region].get_or_init(make)
    }
}

/// A question and what the roster says of both sides.
pub(crate) struct Facts<'a> {
    pub(crate) asked: &'a Asked,
    pub(crate) originator: &'a Member,
    pub(crate) recipient: &'a Member,
    pub(crate) unit: &'a RosterUnit,
    pub(crate) rank: u32,
}

impl Facts<'_> {
    pub(crate) fn kind(&self, kinds: &[Kind]) -> bool {
        kinds.contains(&self.asked.kind)
    }
    pub(crate) fn tlp(&self, tlp: Tlp) -> bool {
        self.asked.label.tlp == tlp as i32
    }
    pub(crate) fn handling(&self, code: HandlingCode) -> bool {
        self.asked.label.handling.contains(&(code as i32))
    }
    pub(crate) fn caveat(&self, caveat: Caveat) -> bool {
        self.asked.label.caveats.contains(&(caveat as i32))
    }
    pub(crate) fn purpose(&self, purpose: Purpose) -> bool {
        self.asked.label.purposes.contains(&(purpose as i32))
    }
    pub(crate) fn about(&self, offence: Offence) -> bool {
        self.asked.label.offences.contains(&(offence as i32))
    }
    pub(crate) fn data(&self, data: DataCategory) -> bool {
        self.asked.label.data.contains(&(data as i32))
    }
    pub(crate) fn without_data(&self) -> bool {
        self.asked.label.data.is_empty()
    }
    pub(crate) fn does(&self, function: UnitFunction) -> bool {
        self.unit.functions.contains(&(function as i32))
    }
    pub(crate) fn works_for(&self, purpose: i32) -> bool {
        self.unit.purposes.contains(&purpose)
    }
    pub(crate) fn to(&self, agency: &str) -> bool {
        self.asked.to.agency == agency
    }
    pub(crate) fn to_unit(&self, unit: &str) -> bool {
        format!("{}/{}", self.asked.to.agency, self.asked.to.unit) == unit
    }
    pub(crate) fn to_group(&self, group: &str) -> bool {
        self.recipient.groups.iter().any(|known| known == group)
    }
    pub(crate) fn from(&self, agency: &str) -> bool {
        self.asked.from.agency == agency
    }
    pub(crate) fn of_group(&self, group: &str) -> bool {
        self.originator.groups.iter().any(|known| known == group)
    }
    pub(crate) fn within(&self) -> bool {
        self.asked.from.agency == self.asked.to.agency
    }
    /// Not before midnight (UTC) of that day.
    pub(crate) fn since(&self, day: &str) -> bool {
        self.asked.now_ms >= midnight(day)
    }
}

pub(crate) fn midnight(day: &str) -> u64 {
    format!("{day}T00:00:00Z").parse::<jiff::Timestamp>().unwrap().as_millisecond().try_into().unwrap()
}
