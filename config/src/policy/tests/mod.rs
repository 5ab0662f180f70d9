mod bundles;
mod cases;
mod gate;
mod holes;
mod hostile;
mod mistakes;
mod time;
mod words;

use lintas_proto::schema::{
    Classification, ClassificationScheme, Kind, Label, Marking, Member, MemberStatus, Onward, Purpose,
    Roster, RosterUnit, Tlp, UnitFunction, UnitRef,
};

use super::{
    decide::{Asked, decide},
    *,
};

/// 2026-09-21.
const NOW: u64 = 1_790_000_000_000;
const RELEASE: &str = "@id(\"all\")\n@reason(\"all of it\")\npermit (principal, action == Lintas::Action::\"Release\", resource);\n";
const ACCEPT: &str = "@id(\"take\")\n@reason(\"all of it\")\npermit (principal, action == Lintas::Action::\"Accept\", resource);\n";

fn th() -> Owner {
    Owner::Agency("TH".to_owned())
}

/// KH, TH and VN are active, LA is suspended, MM was revoked. KH, LA and TH are in ASEAN; VN is in COMMIT.
fn roster() -> Roster {
    let member = |agency: &str, groups: &[&str], status: MemberStatus| Member {
        agency: agency.to_owned(),
        country: agency.to_owned(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        status: status as i32,
        units: ["A", "B"]
            .map(|unit| RosterUnit {
                unit: format!("{agency}-{unit}"),
                functions: vec![UnitFunction::Spoc as i32],
                clearance: 2,
                purposes: vec![Purpose::Investigation as i32],
                ..RosterUnit::default()
            })
            .to_vec(),
        ..Member::default()
    };
    let marking = |value: &str, rank| Marking { value: value.to_owned(), rank };
    Roster {
        region: "example".to_owned(),
        members: vec![
            member("KH", &["ASEAN"], MemberStatus::Active),
            member("LA", &["ASEAN"], MemberStatus::Suspended),
            member("MM", &[], MemberStatus::Revoked),
            member("TH", &["ASEAN"], MemberStatus::Active),
            member("VN", &["COMMIT"], MemberStatus::Active),
        ],
        schemes: vec![ClassificationScheme {
            scheme: "TH".to_owned(),
            markings: vec![marking("LAP", 2), marking("LAP-MAK", 3)],
        }],
        ..Roster::default()
    }
}

/// A question that the standard baseline lets pass: an investigation's request of TH to KH.
#[derive(Clone)]
struct Ask {
    from: UnitRef,
    to: UnitRef,
    named: bool,
    kind: Kind,
    label: Label,
    onward: Onward,
    reviewed: bool,
    way: Way<'static>,
    now_ms: u64,
}

fn unit(name: &str) -> UnitRef {
    let (agency, unit) = name.split_once('/').unwrap();
    UnitRef { agency: agency.to_owned(), unit: unit.to_owned() }
}

fn ask() -> Ask {
    Ask {
        from: unit("TH/TH-A"),
        to: unit("KH/KH-A"),
        named: true,
        kind: Kind::Request,
        label: Label {
            tlp: Tlp::Amber as i32,
            purposes: vec![Purpose::Investigation as i32],
            ..Label::default()
        },
        onward: Onward::None,
        reviewed: false,
        way: Way::Direct,
        now_ms: NOW,
    }
}

impl Ask {
    fn question(&self) -> Question<'_> {
        Question {
            originator: &self.from,
            recipient: &self.to,
            named: self.named,
            kind: self.kind,
            label: &self.label,
            onward: self.onward,
            reviewed: self.reviewed,
            way: self.way,
            now_ms: self.now_ms,
        }
    }

    fn marked(mut self, value: &str) -> Self {
        self.label.classification = Some(Classification { scheme: "TH".to_owned(), value: value.to_owned() });
        self
    }

    /// What the originator's and the recipient's policies say of it.
    fn of(&self, originator: &str, recipient: &str) -> Decision {
        let baseline = [read(Owner::Baseline, baseline::STANDARD)];
        let originator = read(Owner::Agency(self.from.agency.clone()), originator);
        let recipient = read(Owner::Agency(self.to.agency.clone()), recipient);
        let asked = Asked { baseline: &baseline, originator: Some(&originator), recipient: Some(&recipient) };
        decide(asked, &roster(), &self.question(), Layers::All)
    }

    fn denied(&self, originator: &str, recipient: &str) -> String {
        match self.of(originator, recipient) {
            Decision::Deny(denial) => denial.policy_id,
            other @ (Decision::Release(_) | Decision::Review(_)) => panic!("{other:?}"),
        }
    }

    fn released(&self, originator: &str, recipient: &str) -> bool {
        matches!(self.of(originator, recipient), Decision::Release(_))
    }
}

fn read(owner: Owner, text: &str) -> PolicySet {
    PolicySet::read(owner, text).unwrap_or_else(|problems| panic!("{text}\n{problems:?}"))
}

/// The problems of a text of TH.
fn wrong(text: &str) -> Vec<Problem> {
    PolicySet::read(th(), text).expect_err(text)
}

/// A policy `id` of a head and its conditions.
fn policy(id: &str, head: &str, conditions: &str) -> String {
    format!("@id(\"{id}\")\n@reason(\"because\")\n{head}\n{conditions};\n")
}

fn release(id: &str, conditions: &str) -> String {
    policy(id, "permit (principal, action == Lintas::Action::\"Release\", resource)", conditions)
}

fn forbid(id: &str, conditions: &str) -> String {
    policy(id, "forbid (principal, action == Lintas::Action::\"Release\", resource)", conditions)
}
