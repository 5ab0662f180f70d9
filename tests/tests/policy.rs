//! Release policies in a region of real processes: who gets what, who is told what, and that nothing slips through while
//! policies change, brokers die, and nodes come and go.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::path::Path;

use lintas_tests::{
    case,
    policy::OPEN,
    process::wait,
    region::{Region, Said, Wanted},
};
use serde_json::{Value, json};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_lintas-demo");

/// Takes everything but what is about victims, and says so.
const NO_VICTIMS: &str = r#"
@id("release-all")
@reason("a test releases everything")
permit (principal, action == Lintas::Action::"Release", resource);

@id("accept-all")
@reason("a test takes everything")
permit (principal, action == Lintas::Action::"Accept", resource);

@id("no-victims")
@reason("an internal reason that nobody else may read")
@public_reason("send what is about victims to the coordinator")
forbid (principal, action == Lintas::Action::"Accept", resource)
when { resource.data.contains(Lintas::Data::"VICTIM") };
"#;

/// Releases nothing to Cambodia any more.
const NOT_TO_CAMBODIA: &str = r#"
@id("release-all")
@reason("a test releases everything")
permit (principal, action == Lintas::Action::"Release", resource);

@id("not-to-cambodia")
@reason("a joint operation is paused")
forbid (principal in Lintas::Agency::"KH", action == Lintas::Action::"Release", resource);

@id("accept-all")
@reason("a test takes everything")
permit (principal, action == Lintas::Action::"Accept", resource);
"#;

/// One case that all of these pass: an agency to itself.
fn cases(unit: &str) -> String {
    format!(
        "[[case]]\nname = \"to itself\"\nfrom = \"{unit}\"\nto = \"{unit}\"\nkind = \"ALERT\"\ntlp = \"AMBER\"\n\
         purposes = [\"INVESTIGATION\"]\nexpect = \"release\"\n"
    )
}

struct World {
    root: TempDir,
    region: Region,
}

impl World {
    fn of(nodes: &[&str]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let region =
            Region::found_as(Path::new(PROGRAM), root.path(), &Wanted::nodes(nodes), |broker| broker);
        Self { root, region }
    }

    /// Has an agency publish a policy, and waits until it is in force at the broker.
    fn publish(&self, agency: &str, policies: &str, unit: &str) {
        let _ = self.region.publish(agency, policies, &cases(unit)).ok();
        let same = || {
            let said = self.region.lintas(agency, &["--json", "policy", "history"]).ok().json();
            said["broker"] == said["newest"] && said["in_force"] == said["newest"]
        };
        assert!(wait(same), "the policy of {agency} does not come into force at the broker");
    }

    fn draft(&self, name: &str, change: impl FnOnce(&mut Value)) -> String {
        case::draft(self.root.path(), &format!("{name}.json"), |draft| {
            draft["body"]["title"] = json!([{ "language": "en", "text": name }]);
            change(draft);
        })
    }

    fn send(&self, agency: &str, draft: &str, more: &[&str]) -> Said {
        self.region.lintas(agency, &[&["--json", "send", draft], more].concat())
    }

    /// The entry of a packet in the outbox of TH.
    fn entry(&self, id: &str) -> Value {
        let said = self.region.lintas("TH", &["--json", "outbox", "--limit", "100"]).ok().json();
        let all = said["packets"].as_array().unwrap().clone();
        all.into_iter().find(|packet| packet["packet_id"] == id).unwrap_or_default()
    }

    /// What became of a packet of TH at one recipient.
    fn at(&self, id: &str, unit: &str) -> Value {
        let entry = self.entry(id);
        let arrivals = entry["arrivals"].as_array().or(entry["recipients"].as_array()).cloned();
        arrivals.unwrap_or_default().into_iter().find(|one| one["unit"] == unit).unwrap_or_default()
    }

    fn stands(&self, id: &str, unit: &str, state: &str) {
        assert!(wait(|| self.at(id, unit)["state"] == state), "{unit}: {}", self.entry(id));
    }

    fn inbox(&self, agency: &str) -> usize {
        let said = self.region.lintas(agency, &["--json", "inbox", "--limit", "100"]).ok().json();
        said["packets"].as_array().unwrap().len()
    }
}

fn id(said: Said) -> String {
    said.ok().json()["packet_id"].as_str().unwrap().to_owned()
}

const KH: &str = "KH/KH-AHT";
const RCO: &str = "RCO/RCO-DESK";

#[test]
fn a_packet_goes_to_those_who_may_have_it_and_each_side_hears_its_own_part() {
    let mut world = World::of(&["KH", "RCO", "TH"]);
    world.region.start_broker();
    ["KH", "RCO", "TH"].iter().for_each(|node| world.region.start_node(node));
    world.publish("KH", NO_VICTIMS, "KH/KH-AHT");

    let packet = id(world.send("TH", &world.draft("in part", |_| {}), &[]));
    world.stands(&packet, RCO, "delivered");
    world.stands(&packet, KH, "not-accepted");
    let told = world.at(&packet, KH).to_string();
    assert!(told.contains("send what is about victims to the coordinator"), "{told}");
    assert!(told.contains("KH/not-accepted"), "{told}");
    // What KH's policy says stays with KH and the broker.
    for secret in ["an internal reason", "no-victims"] {
        assert!(!world.entry(&packet).to_string().contains(secret), "{}", world.entry(&packet));
    }
    assert_eq!((world.inbox("KH"), world.inbox("RCO")), (0, 1));

    // Its own log tells KH what its policy did, and why; TH's log tells TH what was decided about whom.
    let events = |agency: &str, kind: &str| {
        let _ = world.region.lintas(agency, &["audit", "mirror"]).ok();
        let said = world.region.lintas(agency, &["--json", "audit", "list", "--kind", kind]).ok().json();
        said["events"].as_array().unwrap().clone()
    };
    assert!(wait(|| !events("KH", "not_accepted").is_empty() && !events("TH", "released").is_empty()));
    let own = events("KH", "not_accepted");
    assert!(own.len() == 1 && own[0]["policies"] == json!(["KH/no-victims"]), "{own:?}");
    assert!(events("KH", "received").is_empty());
    let sent = events("TH", "not_accepted");
    assert!(sent.len() == 1 && sent[0]["policies"] == json!(["KH/not-accepted"]), "{sent:?}");
    let released = events("TH", "released");
    assert!(released.len() == 1 && released[0]["policies"] == json!(["TH/release-all"]), "{released:?}");
    for agency in ["KH", "TH"] {
        assert_eq!(world.region.lintas(agency, &["audit", "verify"]).code, 0);
        let replayed = world.region.lintas(agency, &["--json", "policy", "replay"]);
        assert_eq!(replayed.code, 0, "the broker decided as the policies say: {replayed:?}");
    }
}

#[test]
fn what_waits_is_withheld_when_a_policy_is_tightened_and_nothing_refused_comes_back() {
    let mut world = World::of(&["KH", "RCO", "TH"]);
    world.region.start_broker();
    ["RCO", "TH"].iter().for_each(|node| world.region.start_node(node));
    let packet = id(world.send("TH", &world.draft("waits", |_| {}), &["--wait", "30"]));
    world.stands(&packet, RCO, "delivered");
    world.publish("TH", NOT_TO_CAMBODIA, "TH/TH-SPOC");

    // The sender's own node asks first, and says which policy it was.
    let refused = world.send("TH", &world.draft("too late", |_| {}), &[]);
    assert!(refused.code == 6 && refused.err.contains("TH/not-to-cambodia"), "{refused:?}");
    assert!(refused.err.contains("a joint operation is paused"), "{refused:?}");
    let without = id(world.send("TH", &world.draft("to the others", |_| {}), &["--without-denied"]));
    world.stands(&without, RCO, "delivered");

    // What the broker had taken before is held back.
    world.region.start_node("KH");
    world.stands(&packet, KH, "withheld");
    assert!(world.at(&packet, KH).to_string().contains("TH/not-to-cambodia"), "{}", world.at(&packet, KH));

    // Loosened again: what was refused stays refused, also through a restart; what is new goes.
    world.publish("TH", OPEN, "TH/TH-SPOC");
    world.region.kill_broker();
    world.region.start_broker();
    let next = id(world.send("TH", &world.draft("again", |_| {}), &[]));
    world.stands(&next, KH, "delivered");
    assert_eq!(world.inbox("KH"), 1, "only what was sent under the policy of then and of now");
    world.stands(&packet, KH, "withheld");
}

#[test]
fn policies_change_while_packets_flow_and_brokers_die() {
    const VERSIONS: u64 = 6;
    let mut world = World::of(&["KH", "TH"]);
    world.region.start_broker();
    ["KH", "TH"].iter().for_each(|node| world.region.start_node(node));
    let mut sent = Vec::new();
    for version in 2..=VERSIONS {
        let text = format!("// version {version}\n{OPEN}");
        let _ = world.region.publish("TH", &text, &cases("TH/TH-SPOC")).ok();
        for number in 0..4 {
            let name = format!("packet {version} {number}");
            let draft = world.draft(&name, |draft| draft["to"] = json!(["KH/KH-AHT"]));
            sent.push(id(world.send("TH", &draft, &[])));
        }
        if version % 2 == 0 {
            world.region.kill_broker();
            world.region.start_broker();
            ["KH", "TH"].iter().for_each(|node| world.region.hurry_node(node));
        }
    }
    for packet in &sent {
        world.stands(packet, KH, "delivered");
    }
    assert_eq!(world.inbox("KH"), sent.len(), "each once");
    let history = || world.region.lintas("TH", &["--json", "policy", "history"]).ok().json();
    assert!(wait(|| history()["broker"] == VERSIONS), "{}", history());
    // Every activation stands in the log once, in order.
    let _ = world.region.lintas("TH", &["audit", "mirror"]).ok();
    let versions = || -> Vec<u64> {
        let _ = world.region.lintas("TH", &["audit", "mirror"]).ok();
        let said =
            world.region.lintas("TH", &["--json", "audit", "list", "--kind", "policy_changed"]).ok().json();
        let mut events = said["events"].as_array().unwrap().clone();
        events.sort_by_key(|event| event["index"].as_u64());
        events.iter().map(|event| event["version"].as_u64().unwrap()).collect()
    };
    assert!(wait(|| versions().last() == Some(&VERSIONS)), "{:?}", versions());
    let told = versions();
    assert!(told.is_sorted_by(|one, next| one < next), "{told:?}");
    let replayed = world.region.lintas("TH", &["--json", "policy", "replay"]);
    assert_eq!(replayed.code, 0, "{replayed:?}");
}

#[test]
fn what_a_person_must_look_at_waits_until_somebody_has() {
    let mut world = World::of(&["KH", "TH"]);
    world.region.start_broker();
    ["KH", "TH"].iter().for_each(|node| world.region.start_node(node));
    let h3 = |name: &str| {
        world.draft(name, |draft| {
            draft["to"] = json!(["KH/KH-AHT"]);
            draft["label"]["handling"] = json!(["HANDLING_CODE_H3"]);
            draft["body"]["handling_restriction"] =
                json!([{ "language": "en", "text": "Ask before any arrest." }]);
        })
    };
    let (first, second) = (id(world.send("TH", &h3("first"), &[])), id(world.send("TH", &h3("second"), &[])));
    assert!(world.region.stop_node("TH"));
    world.region.start_node("TH");
    for packet in [&first, &second] {
        assert_eq!(world.entry(packet)["state"], "awaiting-review", "{}", world.entry(packet));
    }
    assert_eq!(world.inbox("KH"), 0);
    let decide = |packet: &str, how: &str| {
        world
            .region
            .lintas("TH", &["--json", "review", packet, how, "--by", "Inspector B, Bangkok", "--yes"])
            .ok()
    };
    let released = decide(&first, "--release").json();
    let _ = decide(&second, "--refuse");
    assert!(wait(|| world.inbox("KH") == 1), "{released}");
    assert_eq!(world.entry(&second)["state"], "refused-in-review");
    assert_eq!(world.entry(&first)["state"], "released-in-review");
}

#[test]
fn a_wrong_policy_is_not_published_and_the_one_in_force_stays() {
    let world = World::of(&["TH"]);
    let wrong = [
        ("typo", OPEN.replace("\"Accept\"", "\"Acept\""), "Accept"),
        ("vocabulary", OPEN.replace("resource);\n\n", "resource)\nwhen { resource.tlp == Lintas::Tlp::\"AMBR\" };\n\n"), "AMBER"),
        ("agency", OPEN.replace("(principal, action == Lintas::Action::\"Release\"", "(principal in Lintas::Agency::\"KG\", action == Lintas::Action::\"Release\""), "KG"),
        ("letter", OPEN.replace("(principal, action == Lintas::Action::\"Release\"", "(principal in Lintas::Agency::\"\u{41a}H\", action == Lintas::Action::\"Release\""), "only looks like"),
        ("impossible", OPEN.replace("resource);\n\n", "resource)\nwhen { resource.classification > 3 && resource.classification < 2 && false };\n\n"), "policy.cedar"),
        ("size", format!("{OPEN}//{}", "x".repeat(10 << 20)), "bytes"),
    ];
    for (name, text, says) in wrong {
        let said = world.region.publish("TH", &text, &cases("TH/TH-SPOC"));
        assert_eq!(said.code, 6, "{name}: {} {}", said.out.len(), said.err);
        let all = format!("{}{}", said.out, said.err);
        assert!(all.contains(says), "{name}: {all}");
        let history = world.region.lintas("TH", &["--json", "policy", "history"]).ok().json();
        assert_eq!((&history["in_force"], &history["newest"]), (&json!(1), &json!(1)), "{name}");
    }
}
