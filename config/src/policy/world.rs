//! The sample region for tests of what agencies can see: members, units and markings, without keys.

use bytes::Bytes;
use lintas_proto::schema::{
    ClassificationScheme, HandlingCode, Kind, Label, Marking, Offence, Onward, Purpose, Roster, Tlp, UnitRef,
};

use super::{
    set::{Owner, PolicySet},
    view::Described,
};

pub(crate) const NOW: u64 = 1_790_000_000_000;

pub(crate) fn roster() -> Roster {
    let marking = |value: &str, rank| Marking { value: value.to_owned(), rank };
    let scheme = |scheme: &str, markings| ClassificationScheme { scheme: scheme.to_owned(), markings };
    let source = crate::source::mekong().unwrap();
    Roster {
        region: source.region.clone(),
        version: 1,
        members: source.members.iter().map(|member| member.member(Bytes::from_static(&[1; 32]))).collect(),
        schemes: vec![
            scheme("KH", vec![marking("SOMNGAT", 2)]),
            scheme("TH", vec![marking("LAP", 1), marking("LAP-MAK", 2), marking("LAP-THISUT", 3)]),
        ],
        ..Roster::default()
    }
}

pub(crate) fn unit(agency: &str, unit: &str) -> UnitRef {
    UnitRef { agency: agency.to_owned(), unit: unit.to_owned() }
}

pub(crate) fn set(agency: &str, policies: &[&str]) -> PolicySet {
    PolicySet::read(Owner::Agency(agency.to_owned()), &policies.join("\n"))
        .unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// One policy; `rest` is what stands behind the bracket that it opens.
pub(crate) fn policy(id: &str, effect: &str, action: &str, rest: &str) -> String {
    format!(
        "@id(\"{id}\")\n@reason(\"because of {id}\")\n{effect} (principal, action == Lintas::Action::\"{action}\", resource)\n{rest};\n"
    )
}

/// An alert about trafficking of TH-SPOC, AMBER, for investigation, to named units.
pub(crate) fn alert() -> Described {
    Described {
        originator: unit("TH", "TH-SPOC"),
        named: true,
        kind: Kind::Alert,
        label: Label {
            tlp: Tlp::Amber as i32,
            handling: vec![HandlingCode::H0 as i32],
            purposes: vec![Purpose::Investigation as i32],
            offences: vec![Offence::TraffickingInPersons as i32],
            ..Label::default()
        },
        onward: Onward::None,
        reviewed: false,
        relay: None,
    }
}
