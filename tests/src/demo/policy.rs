//! Who gets what: an officer asks before sending; a release is refused by the own policy, and one by another agency's; every
//! decision is made again from the log.

use std::{fs, path::Path};

use serde_json::{Value, json};

use super::{ALERT, CaseFiles, Difference, Teller, check, outbox, text_of};
use crate::{process::wait, region::Region};

/// Whose log is decided again: the one that released, and the one that did not take.
const CONCERNED: [&str; 2] = ["TH", "KH"];

/// Exit code of a packet that was refused, or does not reach everybody.
const NOT_TO_ALL: i32 = 9;

/// Before anything is sent.
pub(super) fn explained(region: &Region, files: &CaseFiles, teller: &mut Teller) -> Result<(), Difference> {
    teller.step("Ranong: before anything is sent, an officer asks who would get the alert.");
    let alert = files.alert.to_str().unwrap_or_default();
    let said = region.lintas("TH", &["--json", "policy", "explain", alert]);
    check(said.code == 0, &format!("the alert is not explained: {said:?}"))?;
    let rows = said.json()["rows"].as_array().cloned().unwrap_or_default();
    let of = |unit: &str| rows.iter().find(|row| row["unit"] == unit).cloned().unwrap_or_default();
    for unit in ["KH/KH-AHT", "RCO/RCO-DESK"] {
        let row = of(unit);
        check(row["outcome"] == "release", &format!("{unit} should get it: {row}"))?;
        teller.note(&format!("{unit} may have it: {}.", text_of(&row, "why")?));
    }
    let denied: Vec<&Value> = rows.iter().filter(|row| row["outcome"] == "deny").collect();
    let row = denied.iter().find(|row| row["unit"] == "ID/ID-SPOC").ok_or("ID-SPOC should not get it")?;
    let policy = row["policies"][0].as_str().ok_or("no policy is named")?;
    teller.note(&format!("ID/ID-SPOC may not: {} ({policy}).", text_of(row, "why")?));
    teller.note(&format!(
        "{} of {} units in the region may not have it, each for a reason that is told. Whether the others take it, their own policies say.",
        denied.len(),
        rows.len()
    ));
    Ok(())
}

/// A draft that the own policy denies, and one that another agency's policy does not take.
pub(super) fn refused(region: &Region, files: &CaseFiles, teller: &mut Teller) -> Result<(), Difference> {
    teller.step("Another alert would put a source at risk, and is addressed to the coordinator.");
    let draft = variant(files, "source.json", "RCO/RCO-DESK", "CAVEAT_SOURCE_PROTECT")?;
    let said = region.lintas("TH", &["send", &draft]);
    check(
        said.code == 6 && said.err.contains("TH/sources"),
        &format!("Thailand's policy forbids it: {said:?}"),
    )?;
    teller.note("Thailand's own policy forbids it. Nothing was encrypted, nothing was sent:");
    said.err.lines().for_each(|line| teller.note(&format!("  {line}")));

    teller.step("One for a single reader's eyes goes to Phnom Penh and to Hanoi. Thailand's policy lets it go to both.");
    let mut draft: Value = alert()?;
    draft["to"] = json!(["KH/KH-AHT", "VN/VN-C02"]);
    draft["label"]["caveats"] = json!(["CAVEAT_EYES_ONLY"]);
    let said = region.lintas("TH", &["--json", "send", &put(files, "eyes.json", &draft)?, "--wait", "30"]);
    check(said.code == NOT_TO_ALL, &format!("the broker must accept it in part: {said:?}"))?;
    let packet = text_of(&said.json(), "packet_id")?;
    let at = |unit: &str| -> Result<Value, Difference> {
        let entry = outbox(region, &packet)?;
        let all = entry["recipients"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|one| one["unit"] == unit).ok_or_else(|| format!("{unit} is not in {entry}"))
    };
    let told = || at("KH/KH-AHT").is_ok_and(|one| one["state"] == "not-accepted");
    check(wait(told), &format!("Cambodia's refusal was not told: {}", outbox(region, &packet)?))?;
    let hanoi = at("VN/VN-C02")?;
    check(hanoi["state"] == "released", &format!("Viet Nam's copy should wait for its node: {hanoi}"))?;
    let cambodia = at("KH/KH-AHT")?;
    teller.note("Viet Nam's copy is released and waits for its node. Cambodia does not take it, and says publicly why:");
    teller.note(&format!("  {}", text_of(&cambodia, "why")?));
    check(
        !outbox(region, &packet)?.to_string().contains("no-single-reader"),
        "Cambodia's own policy must stay with Cambodia",
    )?;
    teller.note("Which of its policies that was, and its own reason, only Cambodia's part of the log says.");
    Ok(())
}

/// Every decision again, from the log.
pub(super) fn replayed(region: &Region, teller: &mut Teller) -> Result<(), Difference> {
    teller.step(
        "Thailand and Cambodia make every decision of the broker again, from their own parts of the log.",
    );
    for agency in CONCERNED {
        let said = region.lintas(agency, &["--json", "audit", "mirror"]);
        check(said.code == 0, &format!("{agency}: the mirror failed: {said:?}"))?;
        let said = region.lintas(agency, &["--json", "policy", "replay"]);
        check(said.code == 0, &format!("the log of {agency} contradicts its policies: {said:?}"))?;
        let report = said.json();
        let (decided, same) = (report["decided"].as_u64(), report["same"].as_u64());
        check(
            decided == same && decided > Some(0),
            &format!("{agency}: nothing was decided again: {report}"),
        )?;
        teller.note(&format!(
            "{agency}: {} decisions, every one as its policy and the baseline of that moment say.",
            decided.unwrap_or_default()
        ));
    }
    Ok(())
}

fn alert() -> Result<Value, Difference> {
    serde_json::from_slice(ALERT).map_err(|error| error.to_string())
}

/// The alert to one unit, with one caveat more.
fn variant(files: &CaseFiles, name: &str, to: &str, caveat: &str) -> Result<String, Difference> {
    let mut draft = alert()?;
    draft["to"] = json!([to]);
    draft["label"]["caveats"] = json!([caveat]);
    put(files, name, &draft)
}

fn put(files: &CaseFiles, name: &str, draft: &Value) -> Result<String, Difference> {
    let path = files.alert.with_file_name(name);
    fs::write(&path, draft.to_string()).map_err(|error| error.to_string())?;
    Path::to_str(&path).map(str::to_owned).ok_or_else(|| "no such path".to_owned())
}
