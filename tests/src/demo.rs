//! The demonstration: an alert about a trawler, with a photograph and a crew list, goes from Ranong to Phnom Penh
//! and to the regional coordinator through the broker; every claim is checked, and said in plain words.

mod log;
mod policy;

use std::{
    fs,
    path::{Path, PathBuf},
};

use lintas_proto::{
    id::{hex, sha256},
    schema::Reason,
};
use serde_json::{Value, json};

use crate::{
    member::{Answer, Member},
    policy::Released,
    process::wait,
    region::{Region, Wanted},
    search::{files as files_in, holding},
    stranger,
};

/// Stands in the alert's text; must stand nowhere on a disk or in a log.
pub const CANARY: &str = "7f3c-lintas-plaintext";
/// Agencies whose nodes run: the region's auditor, Cambodia, the regional coordination office, Thailand.
pub const NODES: [&str; 4] = ["AUD", "KH", "RCO", "TH"];
const ALERT: &[u8] = include_bytes!("../case/alert.json");
const PHOTOGRAPH: &[u8] = include_bytes!("../case/vessel.jpg");
const CREW_LIST: &[u8] = include_bytes!("../case/crew-list.pdf");

/// What was not as it should be.
pub type Difference = String;

/// Tells the story, step by step.
#[derive(Debug, Default)]
pub struct Teller {
    step: usize,
}

impl Teller {
    fn step(&mut self, text: &str) {
        self.step += 1;
        println!("\n{:>2}. {text}", self.step);
    }

    #[allow(clippy::unused_self, reason = "reads as the story is told")]
    fn note(&self, text: &str) {
        println!("    {text}");
    }
}

/// Plays the case in `root`. The region is left running.
///
/// # Errors
/// The first difference from what must be.
pub fn play(program: &Path, root: &Path, teller: &mut Teller) -> Result<Region, Difference> {
    teller.step("A region is founded: two of three authorities sign who is a member and with which keys.");
    let viet_nam = Member::of(&lintas_config::source::mekong().unwrap(), "VN");
    let held = [&viet_nam];
    let wanted = Wanted { held: &held, released: Released::AsTheSampleSays, ..Wanted::nodes(&NODES) };
    let mut region = Region::found_as(program, root, &wanted, |broker| broker);
    let files = case_files(root);
    teller.note(
        "Eight members, as config/mekong describes them; those whose nodes run watch the log. Each has made its own keys; no secret was shared.",
    );
    teller.note("Each has written down what it lets go and what it takes, and signed it. Only the broker sees all of these policies.");

    teller.step(
        "The broker starts, and the nodes of Thailand, of the coordinator and of the auditor. Cambodia's link is down.",
    );
    region.start_broker();
    region.start_node("TH");
    region.start_node("RCO");
    region.start_node("AUD");
    teller.note(&format!("The broker listens on {}.", region.broker_address()));

    policy::explained(&region, &files, teller)?;
    let packet = send(&region, &files, teller)?;
    receive(&region, "RCO", &packet, "The coordinator's node has it", teller)?;

    teller.step("The broker is killed with kill -9, before Cambodia has seen anything. It is started again.");
    region.kill_broker();
    region.start_broker();
    teller.note("It has recovered its journal; what it had answered for is there.");

    teller.step("Cambodia's node comes back and catches up.");
    region.start_node("KH");
    receive(&region, "KH", &packet, "In Phnom Penh's inbox", teller)?;
    teller.note(
        "Thailand's signature, the broker's receipt and the text were checked again before it was shown.",
    );
    export(&region, &packet, &files, teller)?;
    evidence(&region, &packet, teller)?;

    refused_at_home(&region, &files, &packet, teller)?;
    policy::refused(&region, &files, teller)?;
    refused_by_the_broker(&region, &viet_nam, teller)?;
    refused_stranger(&region, teller)?;
    suspended(&region, &files, &viet_nam, teller)?;
    log::play(&region, root, &packet, teller)?;
    policy::replayed(&region, teller)?;

    teller.step("Nothing that the officer wrote stands readable on any disk or in any log.");
    let searched = search(&region)?;
    teller.note(&format!(
        "{searched} files of broker and nodes were searched for a phrase of the alert; none holds it."
    ));
    Ok(region)
}

/// The alert and its files, where an officer would have them.
#[derive(Debug)]
struct CaseFiles {
    alert: PathBuf,
    photograph: PathBuf,
    crew_list: PathBuf,
}

fn case_files(root: &Path) -> CaseFiles {
    let folder = root.join("case");
    fs::create_dir_all(&folder).unwrap();
    let put = |name: &str, bytes: &[u8]| {
        fs::write(folder.join(name), bytes).unwrap();
        folder.join(name)
    };
    CaseFiles {
        alert: put("alert.json", ALERT),
        photograph: put("vessel.jpg", PHOTOGRAPH),
        crew_list: put("crew-list.pdf", CREW_LIST),
    }
}

fn send(region: &Region, files: &CaseFiles, teller: &mut Teller) -> Result<String, Difference> {
    teller.step("Ranong: an officer sends an alert about a trawler, with a photograph and the crew list.");
    let text = |path: &Path| path.to_str().unwrap_or_default().to_owned();
    let (alert, photograph, crew_list) =
        (text(&files.alert), text(&files.photograph), text(&files.crew_list));
    let arguments =
        ["--json", "send", &alert, "--attach", &photograph, "--attach", &crew_list, "--wait", "30"];
    let said = region.lintas("TH", &arguments);
    check(said.code == 0, &format!("the alert was not sent: {}{}", said.out, said.err))?;
    let packet = text_of(&said.json(), "packet_id")?;
    teller.note(&format!("Sealed for KH-AHT and RCO-DESK only, signed by Thailand, kept: packet {packet}."));
    let entry = outbox(region, &packet)?;
    check(entry["state"] == "accepted", &format!("the broker has not accepted the packet: {entry}"))?;
    teller.note(&format!(
        "The broker's signed receipt: durable, event {} in {}.",
        entry["index"],
        entry["log"].as_str().unwrap_or_default()
    ));
    Ok(packet)
}

/// The packet must arrive, once, and open.
fn receive(
    region: &Region,
    agency: &str,
    packet: &str,
    what: &str,
    teller: &Teller,
) -> Result<(), Difference> {
    let inbox = || -> Vec<Value> {
        let said = region.lintas(agency, &["--json", "inbox"]);
        if said.code == 0 {
            said.json()["packets"].as_array().cloned().unwrap_or_default()
        } else {
            Vec::new()
        }
    };
    check(wait(|| !inbox().is_empty()), &format!("nothing arrived:\n{}", read(&region.log(agency))))?;
    let packets = inbox();
    check(packets.len() == 1, &format!("the alert must arrive once: {packets:?}"))?;
    check(packets[0]["packet_id"] == packet, &format!("another packet arrived: {packets:?}"))?;
    let from = packets[0]["from"].as_str().unwrap_or_default();
    check(from.contains("TH-ATD-RNG"), &format!("it must come from Ranong: {packets:?}"))?;
    let shown = region.lintas(agency, &["--json", "show", packet]);
    check(shown.code == 0 && shown.out.contains(CANARY), &format!("the alert does not open: {}", shown.err))?;
    teller.note(&format!("{what}: \"{}\", from {from}.", packets[0]["title"].as_str().unwrap_or_default()));
    Ok(())
}

fn export(region: &Region, packet: &str, files: &CaseFiles, teller: &mut Teller) -> Result<(), Difference> {
    teller.step("The photograph and the crew list are written to a folder and compared with the originals.");
    let to = region.folder("exported");
    fs::create_dir_all(&to).unwrap();
    let said = region.lintas(
        "KH",
        &["--json", "export", packet, "--attachments", "--to", to.to_str().unwrap_or_default()],
    );
    check(said.code == 0, &format!("export failed: {}{}", said.out, said.err))?;
    let mut exported: Vec<String> = files_in(&to).iter().map(|path| digest(path)).collect();
    let mut originals = vec![digest(&files.photograph), digest(&files.crew_list)];
    exported.sort();
    originals.sort();
    check(exported == originals, &format!("the files differ: {exported:?} and {originals:?}"))?;
    teller.note("Both are the same, byte for byte (SHA-256).");
    Ok(())
}

fn evidence(region: &Region, packet: &str, teller: &mut Teller) -> Result<(), Difference> {
    teller.step("Signed evidence of delivery returns to Ranong.");
    let delivered = || -> Result<bool, Difference> {
        let entry = outbox(region, packet)?;
        Ok(entry["recipients"]
            .as_array()
            .is_some_and(|all| all.iter().all(|one| one["state"] == "delivered")))
    };
    check(wait(|| delivered() == Ok(true)), &format!("no evidence came: {}", outbox(region, packet)?))?;
    teller.note("The outbox says: delivered to KH-AHT and to RCO-DESK, each by that unit's own signature.");
    Ok(())
}

/// What Thailand's outbox says.
fn sent(region: &Region) -> Result<Vec<Value>, Difference> {
    let said = region.lintas("TH", &["--json", "outbox"]);
    check(said.code == 0, &format!("the outbox cannot be read: {}", said.err))?;
    Ok(said.json()["packets"].as_array().cloned().unwrap_or_default())
}

/// What it says of one packet.
fn outbox(region: &Region, packet: &str) -> Result<Value, Difference> {
    let found = sent(region)?.into_iter().find(|entry| entry["packet_id"] == packet);
    found.ok_or_else(|| format!("packet {packet} is not in the outbox"))
}

fn refused_at_home(
    region: &Region,
    files: &CaseFiles,
    packet: &str,
    teller: &mut Teller,
) -> Result<(), Difference> {
    teller.step("A second alert is marked for Thai eyes only, and addressed to Phnom Penh by mistake.");
    let mut draft: Value = serde_json::from_slice(ALERT).map_err(|error| error.to_string())?;
    draft["label"]["caveats"] = json!(["CAVEAT_NOFORN"]);
    let path = files.alert.with_file_name("mistake.json");
    fs::write(&path, draft.to_string()).map_err(|error| error.to_string())?;
    let said = region.lintas("TH", &["send", path.to_str().unwrap_or_default()]);
    check(said.code == 6, &format!("the node must refuse the mistake: {said:?}"))?;
    let kept = sent(region)?;
    check(kept.len() == 1 && kept[0]["packet_id"] == packet, &format!("nothing more may be kept: {kept:?}"))?;
    teller.note("Refused by Ranong's own node, before anything was encrypted. It says:");
    said.err.lines().for_each(|line| teller.note(&format!("  {line}")));
    Ok(())
}

fn refused_by_the_broker(region: &Region, member: &Member, teller: &mut Teller) -> Result<(), Difference> {
    teller.step(
        "A packet from Viet Nam is meant for another region. Its node lets it pass; the broker does not.",
    );
    let directory = region.directory();
    let to = lintas_proto::schema::UnitRef { agency: "KH".to_owned(), unit: "KH-AHT".to_owned() };
    let mut draft = member.draft(&directory, &to);
    draft.core.region = "elsewhere".to_owned();
    let submission = lintas_proto::canonical::encode(&member.seal(draft).submission);
    let hello = member.hello(&directory);
    let (mut session, _) = member
        .connect(region.broker_address(), &hello)
        .map_err(|error| format!("Viet Nam cannot connect: {error}"))?;
    let refusal = match member.submit(&mut session, submission) {
        Answer::Refusal(refusal) => refusal,
        Answer::Receipt(_) => return Err("the broker accepted a packet for another region".to_owned()),
    };
    check(refusal.reason == Reason::WrongRegion as i32, &format!("refused for another reason: {refusal:?}"))?;
    check(refusal.evidence.is_some(), "the refusal is not signed")?;
    teller.note(&format!("Refused, with the broker's signature: {}", refusal.text));
    Ok(())
}

fn refused_stranger(region: &Region, teller: &mut Teller) -> Result<(), Difference> {
    teller.step("A stranger with sound keys that no authority has signed tries to connect.");
    let refusal = stranger::try_to_connect(region.broker_address());
    check(refusal.refused, &format!("the stranger was not refused: {}", refusal.words))?;
    teller.note(&format!("Refused: {}.", refusal.words));
    Ok(())
}

/// A member is suspended while it is connected and something waits for it.
fn suspended(
    region: &Region,
    files: &CaseFiles,
    member: &Member,
    teller: &mut Teller,
) -> Result<(), Difference> {
    teller
        .step("Viet Nam's node is thought to be in wrong hands. It is connected, and an alert waits for it.");
    let (mut session, _) = member
        .connect(region.broker_address(), &member.hello(&region.directory()))
        .map_err(|error| format!("Viet Nam cannot connect: {error}"))?;
    let mut draft: Value = serde_json::from_slice(ALERT).map_err(|error| error.to_string())?;
    (draft["from"], draft["to"]) = (json!("RCO-DESK"), json!([format!("VN/{}", member.unit.unit)]));
    let path = files.alert.with_file_name("viet-nam.json");
    fs::write(&path, draft.to_string()).map_err(|error| error.to_string())?;
    let said = region.lintas("RCO", &["send", path.to_str().unwrap_or_default(), "--wait", "30"]);
    check(said.code == 0, &format!("the alert was not sent: {said:?}"))?;
    region.authority().enact("suspend.bin", &["--suspend", "VN"]);
    region.take_published("broker");
    teller.note(
        "Two offices of the authority sign its suspension; the broker's operator puts the file in place.",
    );
    check(member.wait_for_end(&mut session).is_some(), "Viet Nam's connection was not ended")?;
    let told = || -> Option<String> {
        let packet = region.lintas("RCO", &["--json", "outbox"]).json()["packets"][0].clone();
        let arrival = &packet["recipients"][0];
        (arrival["state"] == "failed").then(|| arrival["why"].as_str().unwrap_or_default().to_owned())
    };
    check(wait(|| told().is_some()), "the coordinator was not told that nothing was delivered")?;
    teller
        .note("Its connection is ended, what waited is withheld, and the coordinator has the broker's word:");
    teller.note(&format!("  {}", told().unwrap_or_default()));
    Ok(())
}

/// Searches everything that broker and nodes keep, and their logs; how many files that were.
fn search(region: &Region) -> Result<usize, Difference> {
    let mut files: Vec<PathBuf> =
        NODES.iter().chain(&["broker"]).flat_map(|name| files_in(&region.folder(name))).collect();
    files.extend(NODES.iter().chain(&["broker"]).map(|name| region.log(name)));
    let found = holding(&files, CANARY);
    check(found.is_empty(), &format!("these hold readable text of the alert: {found:?}"))?;
    Ok(files.len())
}

fn digest(path: &Path) -> String {
    hex(&sha256(&[&fs::read(path).unwrap()]))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn text_of(value: &Value, key: &str) -> Result<String, Difference> {
    value[key].as_str().map(str::to_owned).ok_or_else(|| format!("no `{key}` in {value}"))
}

fn check(holds: bool, difference: &str) -> Result<(), Difference> {
    if holds { Ok(()) } else { Err(difference.to_owned()) }
}
