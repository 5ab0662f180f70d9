//! The demonstration: an alert about a trawler, with a photograph and a crew list, goes from Thailand to
//! Cambodia through the broker; every claim is checked, and said in plain words.

use std::{
    fs,
    path::{Path, PathBuf},
};

use lintas_proto::id::{hex, sha256};
use serde_json::Value;

use crate::{
    process::wait,
    region::{Agency, Region},
    search::{files as files_in, holding},
    stranger,
};

/// Stands in the alert's text; must stand nowhere on a disk or in a log.
pub const CANARY: &str = "7f3c-lintas-plaintext";
const ALERT: &[u8] = include_bytes!("../case/alert.json");
const PHOTOGRAPH: &[u8] = include_bytes!("../case/vessel.jpg");
const CREW_LIST: &[u8] = include_bytes!("../case/crew-list.pdf");

/// Thailand: marine police who write the alert.
pub const THAILAND: Agency = Agency {
    code: "TH",
    name: "Royal Thai Police (demonstration)",
    country: "TH",
    units: &["TH-MAR=Marine Police Ranong,maritime"],
};
/// Cambodia: the unit that reads it.
pub const CAMBODIA: Agency = Agency {
    code: "KH",
    name: "Cambodian National Police (demonstration)",
    country: "KH",
    units: &["KH-AHT=Anti Human Trafficking,investigation"],
};

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
    let mut region = Region::found(program, root, &[CAMBODIA, THAILAND]);
    let files = case_files(root);
    teller.note("Thailand, Cambodia and the broker have each made their own keys; no secret key was shared.");

    teller.step("The broker and Thailand's node start. Cambodia's node is away: the link is down.");
    region.start_broker();
    region.start_node("TH");
    teller.note(&format!("The broker listens on {}.", region.broker_address()));

    let packet = send(&region, &files, teller)?;

    teller.step("The broker is killed with kill -9, before Cambodia has seen anything. It is started again.");
    region.kill_broker();
    region.start_broker();
    teller.note("It has recovered its journal; nothing was written after the kill.");

    receive(&mut region, &packet, teller)?;
    export(&region, &packet, &files, teller)?;
    evidence(&region, &packet, teller)?;

    teller.step("A stranger with sound keys that no authority has signed tries to connect.");
    let refusal = stranger::try_to_connect(region.broker_address());
    check(refusal.refused, &format!("the stranger was not refused: {}", refusal.words))?;
    teller.note(&format!("Refused: {}.", refusal.words));

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
    let packet = text_of(&outbox(region)?, "packet_id")?;
    teller.note(&format!("Sealed for KH-AHT only, signed by Thailand, kept: packet {packet}."));
    let entry = outbox(region)?;
    check(entry["state"] == "accepted", &format!("the broker has not accepted the packet: {entry}"))?;
    teller.note(&format!(
        "The broker's signed receipt: durable, event {} in {}.",
        entry["index"],
        entry["log"].as_str().unwrap_or_default()
    ));
    Ok(packet)
}

fn receive(region: &mut Region, packet: &str, teller: &mut Teller) -> Result<(), Difference> {
    teller.step("Cambodia's node comes back and catches up.");
    region.start_node("KH");
    let arrived = wait(|| {
        let said = region.lintas("KH", &["--json", "inbox"]);
        said.code == 0 && said.json()["packets"].as_array().is_some_and(|packets| !packets.is_empty())
    });
    check(arrived, &format!("nothing arrived in Cambodia:\n{}", read(&region.log("KH"))))?;
    let inbox = region.lintas("KH", &["--json", "inbox"]).json();
    let packets = inbox["packets"].as_array().cloned().unwrap_or_default();
    check(packets.len() == 1, &format!("the alert must arrive once: {inbox}"))?;
    check(packets[0]["packet_id"] == packet, &format!("another packet arrived: {inbox}"))?;
    check(
        packets[0]["from"].as_str().is_some_and(|from| from.contains("TH-MAR")),
        &format!("not from Ranong: {inbox}"),
    )?;
    let shown = region.lintas("KH", &["--json", "show", packet]);
    check(shown.code == 0 && shown.out.contains(CANARY), &format!("the alert does not open: {}", shown.err))?;
    teller.note(&format!("In the inbox: \"{}\".", packets[0]["title"].as_str().unwrap_or_default()));
    teller.note(
        "Thailand's signature, the broker's receipt and the text were checked again before it was shown.",
    );
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
    teller.step("Cambodia's signed evidence of delivery returns to Ranong.");
    let delivered = || -> Result<bool, Difference> {
        let entry = outbox(region)?;
        check(entry["packet_id"] == packet, &format!("another packet is in the outbox: {entry}"))?;
        Ok(entry["recipients"]
            .as_array()
            .is_some_and(|all| all.iter().all(|one| one["state"] == "delivered")))
    };
    check(wait(|| delivered() == Ok(true)), &format!("no evidence came: {}", outbox(region)?))?;
    teller.note("The outbox says: delivered to KH / KH-AHT, by that unit's own signature.");
    Ok(())
}

/// The one entry of Thailand's outbox.
fn outbox(region: &Region) -> Result<Value, Difference> {
    let said = region.lintas("TH", &["--json", "outbox"]);
    check(said.code == 0, &format!("the outbox cannot be read: {}", said.err))?;
    let outbox = said.json();
    let packets = outbox["packets"].as_array().cloned().unwrap_or_default();
    check(packets.len() == 1, &format!("one packet was sent, the outbox says: {outbox}"))?;
    Ok(packets[0].clone())
}

/// Searches everything that broker and nodes keep, and their logs; how many files that were.
fn search(region: &Region) -> Result<usize, Difference> {
    let mut files: Vec<PathBuf> =
        ["broker", "TH", "KH"].iter().flat_map(|name| files_in(&region.folder(name))).collect();
    files.extend(["broker", "TH", "KH"].map(|name| region.log(name)));
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
