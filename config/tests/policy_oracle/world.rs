//! The sample region in several states, and what a question says, in plain words: no Cedar here.

use std::sync::Arc;

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
pub const MARKINGS: [(&str, &str, u32); 24] = [
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
pub struct Asked {
    /// Which of [`regions`].
    pub region: usize,
    pub from: UnitRef,
    pub to: UnitRef,
    pub named: bool,
    pub kind: Kind,
    pub label: Label,
    pub onward: Onward,
    pub reviewed: bool,
    /// Agency that passes it on, how often it was, and whether the originator has consented.
    pub relay: Option<(String, u32, bool)>,
    pub now_ms: u64,
}

impl Asked {
    pub fn question(&self) -> Question<'_> {
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
pub fn regions(baseline: &str) -> Vec<Roster> {
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
    second.members.sort_by(|a, b| a.agency.cmp(&b.agency));
    vec![
        whole.clone(),
        with(&[("MM", MemberStatus::Suspended)]),
        with(&[("VN", MemberStatus::Suspended), ("ID", MemberStatus::Revoked)]),
        second,
    ]
}

pub fn units<'r>(roster: &'r Roster, agency: &str) -> &'r [RosterUnit] {
    roster.members.iter().find(|member| member.agency == agency).map_or(&[], |member| &member.units)
}

/// A bundle as it is kept, unsigned: who signed it is another test's question.
pub fn bundle(owner: &str, policies: &str) -> Arc<Bundle> {
    let said = PolicyBundle {
        format: 1,
        owner: owner.to_owned(),
        version: 1,
        policies: policies.to_owned(),
        ..PolicyBundle::default()
    };
    let said = canonical::encode(&said);
    let hash = sha256(&[&said]);
    let bytes =
        canonical::encode(&SignedPolicyBundle { bundle: said.into(), ..SignedPolicyBundle::default() });
    Bundle::kept(&bytes.into(), &hash).unwrap()
}

/// All sample bundles.
pub fn bundles() -> Vec<Arc<Bundle>> {
    sample::agencies().map(|agency| bundle(agency, sample::texts(agency).unwrap().0)).collect()
}

/// What is in force in each of the regions.
pub fn policies(regions: &[Roster], bundles: &[Arc<Bundle>]) -> Vec<Policies> {
    let in_force =
        |roster: &Roster| Policies::new(Arc::new(roster.clone()), bundles.iter().cloned(), 1).unwrap();
    regions.iter().map(in_force).collect()
}

/// A question and what the roster says of both sides.
pub struct Facts<'a> {
    pub asked: &'a Asked,
    pub originator: &'a Member,
    pub recipient: &'a Member,
    pub unit: &'a RosterUnit,
    pub rank: u32,
}

impl Facts<'_> {
    pub fn kind(&self, kinds: &[Kind]) -> bool {
        kinds.contains(&self.asked.kind)
    }
    pub fn tlp(&self, tlp: Tlp) -> bool {
        self.asked.label.tlp == tlp as i32
    }
    pub fn handling(&self, code: HandlingCode) -> bool {
        self.asked.label.handling.contains(&(code as i32))
    }
    pub fn caveat(&self, caveat: Caveat) -> bool {
        self.asked.label.caveats.contains(&(caveat as i32))
    }
    pub fn purpose(&self, purpose: Purpose) -> bool {
        self.asked.label.purposes.contains(&(purpose as i32))
    }
    pub fn about(&self, offence: Offence) -> bool {
        self.asked.label.offences.contains(&(offence as i32))
    }
    pub fn data(&self, data: DataCategory) -> bool {
        self.asked.label.data.contains(&(data as i32))
    }
    pub fn without_data(&self) -> bool {
        self.asked.label.data.is_empty()
    }
    pub fn does(&self, function: UnitFunction) -> bool {
        self.unit.functions.contains(&(function as i32))
    }
    pub fn works_for(&self, purpose: i32) -> bool {
        self.unit.purposes.contains(&purpose)
    }
    pub fn to(&self, agency: &str) -> bool {
        self.asked.to.agency == agency
    }
    pub fn to_unit(&self, unit: &str) -> bool {
        format!("{}/{}", self.asked.to.agency, self.asked.to.unit) == unit
    }
    pub fn to_group(&self, group: &str) -> bool {
        self.recipient.groups.iter().any(|known| known == group)
    }
    pub fn from(&self, agency: &str) -> bool {
        self.asked.from.agency == agency
    }
    pub fn from_group(&self, group: &str) -> bool {
        self.originator.groups.iter().any(|known| known == group)
    }
    pub fn within(&self) -> bool {
        self.asked.from.agency == self.asked.to.agency
    }
    /// Not before midnight (UTC) of that day.
    pub fn since(&self, day: &str) -> bool {
        self.asked.now_ms >= midnight(day)
    }
}

pub fn midnight(day: &str) -> u64 {
    format!("{day}T00:00:00Z").parse::<jiff::Timestamp>().unwrap().as_millisecond().try_into().unwrap()
}
