use lintas_proto::{limits, schema::MemberStatus};

use super::*;
use crate::testing::{AMBER, Region, draft};

fn everybody(directory: &Directory) -> Contacts {
    let mut contacts = Contacts::default();
    crate::core::contacts::first(directory, 0).iter().for_each(|known| {
        contacts.apply(known);
    });
    contacts
}

/// Everything that the preflight says against a draft of TH-MAR.
fn objections(directory: &Directory, json: &str) -> Vec<String> {
    let draft = Draft::parse(json, &[], None).unwrap();
    let originator = draft.originator(directory, "TH").unwrap();
    let now_ms = directory.roster().not_before_ms + 60_000;
    let contacts = everybody(directory);
    let rules = Rules { directory, contacts: &contacts, without_unconfirmed: false, now_ms };
    match check(&draft, &originator, rules) {
        Ok(_) => Vec::new(),
        Err(objections) => objections.iter().map(ToString::to_string).collect(),
    }
}

fn label(caveats: &str, rest: &str) -> String {
    format!(r#""tlp": "TLP_AMBER", "caveats": ["CAVEAT_{caveats}"]{rest}"#)
}

#[test]
fn each_rule_says_why_and_what_to_do() {
    let directory = Region::new().directory();
    let to = ["KH/KH-AHT"];
    let rel_to = |list: &str| label("REL_TO", &format!(r#", "relTo": [{list}]"#));
    let red = r#""tlp": "TLP_RED""#.to_owned();
    let cases: [(&[&str], String, &str, &str); 14] = [
        (&to, AMBER.to_owned(), "ANY", ""),
        (&["XX/XX-A"], AMBER.to_owned(), "NONE", "XX is not in the directory"),
        (&["KH/KH-B"], AMBER.to_owned(), "NONE", "its units are KH-AHT"),
        (&["KH"], AMBER.to_owned(), "NONE", "name a unit: KH/UNIT"),
        (&["ID"], AMBER.to_owned(), "NONE", ""),
        (&["ID", "ID/ID-NCB"], AMBER.to_owned(), "NONE", "ID/ID-NCB is named twice"),
        (&to, label("NOFORN", ""), "NONE", "KH is foreign"),
        (&["TH/TH-VIC"], label("NOFORN", ""), "NONE", ""),
        (&to, rel_to(r#""ID""#), "NONE", "KH is not in its list"),
        (&["KH/KH-AHT", "TH/TH-VIC"], rel_to(r#""KH""#), "NONE", ""),
        (&["ID"], red.clone(), "NONE", "name the unit: ID/UNIT"),
        (&to, red, "REGION", "TLP:RED and onward ONWARD_REGION contradict"),
        (&to, label("ORCON", ""), "ANY", "ORCON and onward ONWARD_ANY contradict"),
        (&to, label("REL_TO", ""), "NONE", "the label is not valid"),
    ];
    for (to, label, onward, expected) in cases {
        let said = objections(&directory, &draft(to, "t", &label, onward));
        if expected.is_empty() {
            assert_eq!(said, [""; 0], "{to:?} {label} {onward}");
        } else {
            assert!(said.iter().any(|one| one.contains(expected)), "{expected}: {said:?}");
        }
    }
}

#[test]
fn a_suspended_agency_gets_nothing() {
    let region = Region::with(|roster| {
        let cambodia = roster.members.iter_mut().find(|member| member.agency == "KH").unwrap();
        cambodia.status = MemberStatus::Suspended as i32;
    });
    let said = objections(&region.directory(), &draft(&["KH/KH-AHT"], "t", AMBER, "NONE"));
    assert!(said[0].contains("KH is suspended or revoked"), "{said:?}");
}

#[test]
fn times_and_missing_keys_are_seen_before_sealing() {
    let directory = Region::new().directory();
    let json = draft(&["KH/KH-AHT"], "t", AMBER, "NONE");
    let late = json.replacen('{', r#"{ "deliver_within_hours": 2161,"#, 1);
    assert!(objections(&directory, &late)[0].contains("it must be from 1 to 2160"));
    let parsed = Draft::parse(&json, &[], None).unwrap();
    let originator = parsed.originator(&directory, "TH").unwrap();
    let roster = directory.roster();
    let said = |directory: &Directory, now_ms| {
        let contacts = everybody(directory);
        let rules = Rules { directory, contacts: &contacts, without_unconfirmed: false, now_ms };
        let said = check(&parsed, &originator, rules).unwrap_err();
        said.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let expired = said(&directory, roster.not_after_ms + 120_000);
    assert_eq!(expired.len(), 1, "{expired:?}");
    assert!(expired[0].contains("expired 2 minutes ago; get the newest directory.bin"), "{expired:?}");
    let early = said(&directory, roster.not_before_ms - 60_000);
    assert!(early[0].contains("is not valid for another 2 minutes; check this machine's clock"), "{early:?}");
    // The roster lasts, the keys do not.
    let region = Region::with(|roster| roster.not_after_ms = roster.not_before_ms + 52 * limits::EPOCH_MS);
    let directory = region.directory();
    let without = said(&directory, directory.roster().not_before_ms + 26 * limits::EPOCH_MS);
    assert_eq!(without.len(), 1, "{without:?}");
    assert!(
        without[0].contains("KH/KH-AHT has no encryption key in the directory that is valid now"),
        "{without:?}"
    );
    assert!(without[0].contains("ask that agency to publish its keys"), "{without:?}");
}

#[test]
fn nothing_is_to_be_delivered_after_the_end_of_a_recipients_key() {
    let region = Region::with(|roster| roster.not_after_ms = roster.not_before_ms + 52 * limits::EPOCH_MS);
    let directory = region.directory();
    let json = draft(&["KH/KH-AHT"], "t", AMBER, "NONE");
    let longest = json.replacen('{', r#"{ "deliver_within_hours": 2160,"#, 1);
    let composed = |now_ms: u64| {
        let parsed = Draft::parse(&longest, &[], None).unwrap();
        let originator = parsed.originator(&directory, "TH").unwrap();
        let contacts = everybody(&directory);
        let rules = Rules { directory: &directory, contacts: &contacts, without_unconfirmed: false, now_ms };
        let cleared = check(&parsed, &originator, rules).unwrap().recipients;
        let until_ms = cleared[0].key_until_ms;
        let packet_id = lintas_proto::id::PacketId::new(now_ms, &mut lintas_config::os_entropy());
        let sender = crate::core::draft::Sender { originator, packet_id, reviewed: false };
        let state = crate::core::state::State::default();
        let core = crate::core::draft::compose(parsed, sender, cleared, Vec::new(), &directory, &state).core;
        (core.deliver_by_ms, until_ms)
    };
    let now = directory.roster().not_before_ms + 60_000;
    let (by, until) = composed(now);
    assert!(by == now + limits::DELIVER_WITHIN_MS_MAX && by <= until);
    // Ten weeks on, KH has published nothing: its last key serves, and ends before 90 days are over.
    let late = now + 10 * limits::EPOCH_MS;
    let (by, until) = composed(late);
    assert!(by == until && by < late + limits::DELIVER_WITHIN_MS_MAX, "{by} {until}");
}
