use lintas_proto::{
    limits,
    schema::{ClassificationScheme, Marking, MemberStatus},
};

use super::*;
use crate::testing::{AMBER, OPEN, Region, draft};

fn everybody(directory: &Directory) -> Contacts {
    let mut contacts = Contacts::default();
    crate::core::contacts::first(directory, 0).iter().for_each(|known| {
        contacts.apply(known);
    });
    contacts
}

/// What is in force with this text as the policy of TH.
fn policies(region: &Region, directory: &Directory, text: Option<&str>) -> Policies {
    let bundle = text.map(|text| region.bundle_of("TH", 1, text));
    Policies::new(directory.shared_roster(), bundle, directory.roster().not_before_ms + 60_000).unwrap()
}

/// As an officer asks without any option.
fn plainly<'a>(directory: &'a Directory, contacts: &'a Contacts, policies: &'a Policies) -> Rules<'a> {
    Rules {
        directory,
        contacts,
        policies,
        without_unconfirmed: false,
        without_denied: false,
        reviewed: false,
        now_ms: directory.roster().not_before_ms + 60_000,
    }
}

/// What the preflight says to a draft of TH-MAR under that policy of TH.
fn checked(
    region: &Region,
    policy: Option<&str>,
    json: &str,
    change: impl FnOnce(&mut Rules<'_>),
) -> Result<Clearance, Vec<String>> {
    let directory = region.directory();
    let draft = Draft::parse(json, &[], None).unwrap();
    let originator = draft.originator(&directory, "TH").unwrap();
    let (contacts, policies) = (everybody(&directory), policies(region, &directory, policy));
    let mut rules = plainly(&directory, &contacts, &policies);
    change(&mut rules);
    check(&draft, &originator, rules)
        .map_err(|objections| objections.iter().map(ToString::to_string).collect())
}

/// Everything that the preflight says against a draft of TH-MAR.
fn objections(region: &Region, json: &str) -> Vec<String> {
    checked(region, Some(OPEN), json, |_| {}).err().unwrap_or_default()
}

fn label(caveats: &str, rest: &str) -> String {
    format!(r#""tlp": "TLP_AMBER", "caveats": ["CAVEAT_{caveats}"]{rest}"#)
}

#[test]
fn each_rule_says_why_and_what_to_do() {
    let region = Region::new();
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
        (&to, label("NOFORN", ""), "NONE", "the regional baseline does not release it to KH/KH-AHT"),
        (&["TH/TH-VIC"], label("NOFORN", ""), "NONE", ""),
        (&to, rel_to(r#""ID""#), "NONE", "(policy baseline/rel-to); take it out, or add it"),
        (&["KH/KH-AHT", "TH/TH-VIC"], rel_to(r#""KH""#), "NONE", ""),
        (&["ID"], red.clone(), "NONE", "(policy baseline/tlp-red); name the unit: ID/ID-NCB"),
        (&to, red, "REGION", "TLP:RED and onward ONWARD_REGION contradict"),
        (&to, label("ORCON", ""), "ANY", "ORCON and onward ONWARD_ANY contradict"),
        (&to, label("REL_TO", ""), "NONE", "the label is not valid"),
    ];
    for (to, label, onward, expected) in cases {
        let said = objections(&region, &draft(to, "t", &label, onward));
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
    let said = objections(&region, &draft(&["KH/KH-AHT"], "t", AMBER, "NONE"));
    assert!(said[0].contains("KH is suspended or revoked"), "{said:?}");
}

#[test]
fn times_and_missing_keys_are_seen_before_sealing() {
    let first = Region::new();
    let directory = first.directory();
    let json = draft(&["KH/KH-AHT"], "t", AMBER, "NONE");
    let late = json.replacen('{', r#"{ "deliver_within_hours": 2161,"#, 1);
    assert!(objections(&first, &late)[0].contains("it must be from 1 to 2160"));
    let parsed = Draft::parse(&json, &[], None).unwrap();
    let originator = parsed.originator(&directory, "TH").unwrap();
    let roster = directory.roster();
    let said = |directory: &Directory, now_ms| {
        let (contacts, policies) = (everybody(directory), policies(&first, directory, Some(OPEN)));
        let rules = Rules { now_ms, ..plainly(directory, &contacts, &policies) };
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
        let (contacts, policies) = (everybody(&directory), policies(&region, &directory, Some(OPEN)));
        let rules = Rules { now_ms, ..plainly(&directory, &contacts, &policies) };
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

const NOT_TO_ID: &str = r#"
@id("all")
@reason("for tests")
permit (principal, action == Lintas::Action::"Release", resource);

@id("not-to-id")
@reason("ID has no agreement with us")
@advice("ask the liaison office")
forbid (principal in Lintas::Agency::"ID", action == Lintas::Action::"Release", resource);
"#;

#[test]
fn every_denial_says_who_decided_by_which_policy_and_what_to_do() {
    let region = Region::new();
    let text = draft(&["KH/KH-AHT", "ID/ID-CID", "ID/ID-NCB"], "t", &label("NOFORN", ""), "NONE");
    let said = checked(&region, Some(NOT_TO_ID), &text, |_| {}).unwrap_err();
    assert_eq!(said.len(), 3, "all at once: {said:?}");
    let text = draft(&["KH/KH-AHT", "ID/ID-CID"], "t", AMBER, "NONE");
    let said = checked(&region, Some(NOT_TO_ID), &text, |_| {}).unwrap_err();
    assert_eq!(
        said,
        [
            "the release policy of TH does not release it to ID/ID-CID: ID has no agreement with us (policy TH/not-to-id); \
          ask the liaison office"
        ]
    );
}

#[test]
fn whoever_is_denied_is_left_out_only_if_the_officer_asks_for_that() {
    let region = Region::new();
    let text = draft(&["KH/KH-AHT", "ID/ID-CID"], "t", AMBER, "NONE");
    let without = |text: &str| checked(&region, Some(NOT_TO_ID), text, |rules| rules.without_denied = true);
    let clearance = without(&text).unwrap();
    assert_eq!(clearance.recipients.len(), 1);
    assert!(clearance.denied[0].contains("ID/ID-CID") && clearance.denied[0].contains("TH/not-to-id"));
    let nobody = without(&draft(&["ID/ID-CID"], "t", AMBER, "NONE")).unwrap_err();
    assert!(nobody[0].contains("policy releases it to nobody"), "{nobody:?}");
    // What is not a matter of policy still stops the whole.
    assert!(without(&draft(&["KH/KH-AHT", "XX/XX-A"], "t", AMBER, "NONE")).is_err());
}

#[test]
fn without_a_policy_nothing_leaves_and_that_is_said_once() {
    let region = Region::new();
    let text = draft(&["KH/KH-AHT", "ID/ID-CID"], "t", AMBER, "NONE");
    let said = checked(&region, None, &text, |_| {}).unwrap_err();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("TH has not published a release policy")
            && said[0].contains("lintas policy publish")
    );
    assert!(checked(&region, None, &text, |rules| rules.without_denied = true).is_err());
    let red = draft(&["ID"], "t", r#""tlp": "TLP_RED""#, "NONE");
    let said = checked(&region, None, &red, |_| {}).unwrap_err();
    assert!(
        said.iter().any(|one| one.contains("baseline/tlp-red")),
        "the baseline speaks all the same: {said:?}"
    );
}

#[test]
fn an_unknown_marking_is_answered_with_the_markings_that_there_are() {
    let region = Region::with(|roster| {
        let marking = |value: &str, rank| Marking { value: value.to_owned(), rank };
        let markings = vec![marking("LAP", 2), marking("LAP-MAK", 3)];
        roster.schemes = vec![ClassificationScheme { scheme: "TH".to_owned(), markings }];
    });
    let marked = |scheme: &str, value: &str| {
        let marking = format!(r#"{AMBER}, "classification": {{ "scheme": "{scheme}", "value": "{value}" }}"#);
        objections(&region, &draft(&["KH/KH-AHT", "ID/ID-CID"], "t", &marking, "NONE"))
    };
    assert_eq!(
        marked("TH", "LAB"),
        [
            "the marking `LAB` of the scheme TH stands in no table of the region; the region's markings of that scheme are: \
          LAP, LAP-MAK"
        ]
    );
    assert!(marked("XX", "LAP")[0].ends_with("its schemes are: TH"));
    let known = marked("TH", "LAP");
    assert!(known.len() == 2 && known[0].contains("baseline/clearance"), "nobody is cleared: {known:?}");
}

#[test]
fn what_a_person_must_look_at_is_cleared_with_the_policies_that_say_so() {
    let region = Region::new();
    let text = draft(&["KH/KH-AHT"], "t", AMBER, "NONE").replace("CODE_H0", "CODE_H3");
    let text = text
        .replace(r#""urgency""#, r#""handlingRestriction": [{ "language": "en", "text": "x" }], "urgency""#);
    let clearance = checked(&region, Some(OPEN), &text, |_| {}).unwrap();
    assert_eq!(clearance.review_by, ["baseline/review-h3"]);
    let clearance = checked(&region, Some(OPEN), &text, |rules| rules.reviewed = true).unwrap();
    assert_eq!(clearance.review_by, [""; 0]);
}
