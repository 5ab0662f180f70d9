//! What stays of it: the log, seen by witnesses; a proof that travels; an auditor who believes nobody.

use std::{fs, path::Path};

use lintas_proto::audit::note::SignedCheckpoint;
use serde_json::Value;

use super::{Difference, Teller, check, text_of};
use crate::{independent, process::wait, region::Region};

/// The agency whose node audits.
const AUDITOR: &str = "AUD";
/// Exit code of a log that is damaged.
const DAMAGED: i32 = 30;

pub(super) fn play(
    region: &Region,
    root: &Path,
    packet: &str,
    teller: &mut Teller,
) -> Result<(), Difference> {
    published(region, teller)?;
    evidence(region, root, packet, teller)?;
    audited(region, root, teller)
}

fn published(region: &Region, teller: &mut Teller) -> Result<(), Difference> {
    teller.step("Meanwhile the broker has published its log, and witnesses have cosigned it.");
    let path = region.folder("broker").join("audit/1/checkpoint");
    let mut shown = None;
    let cosigned = || {
        let note = fs::read_to_string(&path).unwrap_or_default();
        let by: Vec<String> = note
            .lines()
            .filter_map(|line| line.split_once("/witness/")?.1.split_once(' '))
            .map(|(agency, _)| agency.to_owned())
            .collect();
        shown = SignedCheckpoint::parse(note.as_bytes()).ok().map(|note| (note.claim().size, by));
        shown.as_ref().is_some_and(|(_, by)| by.len() >= 3)
    };
    check(wait(cosigned), "no quorum of witnesses has cosigned the log")?;
    let (epochs, by) = shown.unwrap_or_default();
    teller.note(&format!(
        "{epochs} epochs, one each half second with or without traffic; the newest is cosigned by {}.",
        by.join(", ")
    ));
    teller.note("Four witnesses, of whom three must sign: one may be false or away, and still no two logs are believed.");
    Ok(())
}

fn evidence(region: &Region, root: &Path, packet: &str, teller: &mut Teller) -> Result<(), Difference> {
    teller.step("Ranong asks for the proof of its alert, and writes it to a file.");
    let is_witnessed = || {
        let said = region.lintas("TH", &["--json", "evidence", packet]);
        said.code == 0
            && said.json()["grade"] == "witnessed"
            && said.json()["missing"].as_array().is_some_and(Vec::is_empty)
    };
    check(wait(is_witnessed), "the alert's way is not proven")?;
    let folder = root.join("elsewhere");
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let (file, bootstrap) = (folder.join("evidence.bin"), folder.join("bootstrap.toml"));
    let text = |path: &Path| path.to_str().unwrap_or_default().to_owned();
    let said = region.lintas("TH", &["evidence", packet, "--out", &text(&file)]);
    check(said.code == 0, &format!("no evidence: {said:?}"))?;
    said.out
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("written"))
        .for_each(|line| teller.note(&format!("  {line}")));
    fs::copy(region.folder("TH").join("bootstrap.toml"), &bootstrap).map_err(|error| error.to_string())?;
    let said = region.authority().lintas(&[
        "--json",
        "evidence",
        "verify",
        &text(&file),
        "--bootstrap",
        &text(&bootstrap),
    ]);
    check(said.code == 0 && said.json()["grade"] == "witnessed", &format!("it does not verify: {said:?}"))?;
    teller.note("In a folder with nothing but that file and the region's bootstrap file, without a node, it verifies.");
    Ok(())
}

fn audited(region: &Region, root: &Path, teller: &mut Teller) -> Result<(), Difference> {
    teller.step("The region's auditor copies the whole log and verifies every entry at home.");
    let said = region.lintas(AUDITOR, &["--json", "audit", "mirror"]);
    check(said.code == 0, &format!("the mirror failed: {said:?}"))?;
    let said = region.lintas(AUDITOR, &["--json", "audit", "verify"]);
    check(said.code == 0, &format!("the log is not whole: {said:?}"))?;
    let report = said.json();
    let sub_logs = report["sub_logs"].as_array().cloned().unwrap_or_default();
    let sum = |key: &str| sub_logs.iter().filter_map(|sub| sub[key].as_u64()).sum::<u64>();
    teller.note(&format!(
        "Whole: {} epochs, {} of them seen by a quorum in time; {} events of {} agencies, {} read; root {}.",
        report["epochs"],
        report["attested_epochs"],
        sum("entries"),
        sub_logs.len(),
        sum("opened"),
        text_of(&report, "root")?.get(..16).unwrap_or_default(),
    ));

    teller.step("Somebody changes one byte of one file of the log.");
    let log = region.folder(AUDITOR).join("audit/hub.mekong/audit");
    let copy = root.join("changed");
    independent::copy(&log, &copy);
    let size = report["epochs"].as_u64().unwrap_or_default();
    let tile = copy.join(format!("tile/0/000.p/{size}"));
    let mut bytes = fs::read(&tile).map_err(|error| format!("{}: {error}", tile.display()))?;
    *bytes.get_mut(100).ok_or("the tile is too short")? ^= 1;
    fs::write(&tile, bytes).map_err(|error| error.to_string())?;
    let [from, bootstrap] =
        [copy, region.folder(AUDITOR).join("bootstrap.toml")].map(|path| path.display().to_string());
    let said =
        region.authority().lintas(&["--json", "audit", "verify", "--from", &from, "--bootstrap", &bootstrap]);
    let found = said.json()["findings"].as_array().cloned().unwrap_or_default();
    let damage = found.iter().find(|one| one["kind"] == "damaged").cloned().unwrap_or(Value::Null);
    let named = damage["files"].to_string().contains(&format!("tile/0/000.p/{size}"));
    check(said.code == DAMAGED && named, &format!("the changed byte was not named: {said:?}"))?;
    teller.note(&format!("The verifier ends with {DAMAGED} and names it: {}", text_of(&damage, "what")?));
    let files: Vec<&str> =
        damage["files"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    teller.note(&format!(
        "  {}: {}, at entry {}.",
        text_of(&damage, "log")?,
        files.join(" or "),
        damage["entries"][0]
    ));
    Ok(())
}
