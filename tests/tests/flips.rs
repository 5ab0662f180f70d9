//! One bit of anything stored is flipped.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods, reason = "tests")]

use std::{fs, path::{Path, PathBuf}, collections::BTreeMap};
use lintas_tests::{case::{self, titled}, dice::Dice, independent::files, load, process::wait, region::Region, trace::Trace};

const PROGRAM: &str = env!("CARGO_BIN_EXE_lintas-demo");

fn class(path: &Path) -> String {
    let names = path.iter().map(|name| {
        let name = name.to_str().unwrap();
        if name.len() <= 3 && name.chars().all(|l| l.is_ascii_uppercase()) { return "*".to_owned(); }
        if name.len() > 40 { return "HEX".to_owned(); }
        name.chars().map(|l| if l.is_ascii_digit() { '#' } else { l }).collect::<String>()
    });
    names.collect::<Vec<_>>().join("/")
}

fn flip(path: &Path, at: usize, bit: u8) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1 << bit;
    fs::write(path, bytes).unwrap();
}

fn node_says(region: &Region, agency: &str, packet: &str, out: &Path) -> (i32, String) {
    let mut all = String::new();
    let mut code = 0;
    let _ = fs::remove_dir_all(out);
    fs::create_dir_all(out).unwrap();
    for c in [&["--json", "status"][..], &["--json", "outbox"], &["--json", "inbox"], &["--json", "show", packet], &["--json", "policy", "history"], &["--json", "keys"], &["--json", "evidence", packet, "--out", out.join("e").to_str().unwrap()], &["--json", "export", packet, "--attachments", "--to", out.to_str().unwrap()]] {
        let said = region.lintas(agency, c);
        if said.code != 0 { code = said.code; }
        all.push_str(&format!("{} {} {}\n", said.code, said.out, said.err));
    }
    (code, all)
}

#[test]
fn observe() {
    let mut dice = Dice::of("flips");
    let root = tempfile::tempdir().unwrap();
    let mut region = Region::found(Path::new(PROGRAM), root.path(), &["KH", "TH"]);
    region.is_small();
    ["broker", "TH", "KH"].iter().for_each(|n| region.start(n));
    let mut kept = std::collections::BTreeSet::new();
    let mut first = String::new();
    for number in 0..2 {
        let draft = titled(root.path(), &format!("alert {number}"));
        let photo = case::file("vessel.jpg").display().to_string();
        let said = region.lintas("TH", &["--json", "send", &draft, "--attach", &photo]).ok();
        first = said.json()["packet_id"].as_str().unwrap().to_owned();
        kept.insert(first.clone());
    }
    load::has_arrived(&region, &kept, "before");
    load::log_holds(&region, "before");
    load::ends_whole(&mut region, "before");
    for who in ["broker", "TH", "KH"] {
        let folder = region.folder(who);
        let mut classes: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        for path in files(&folder) {
            let c = class(path.strip_prefix(&folder).unwrap());
            if c.starts_with("journal/") || c.starts_with("audit/") { continue; }
            classes.entry(c).or_default().push(path);
        }
        let out = root.path().join("out");
        let (_, before) = if who == "broker" { (0, String::new()) } else { node_says(&region, who, &first, &out) };
        println!("BEFORE {who} {}", before.replace('\n', " "));
        for (c, paths) in classes {
            let path = dice.pick(&paths).clone();
            let length = fs::read(&path).unwrap().len();
            println!("CLASS {who} {c} {} files, {} bytes", paths.len(), length);
            if length == 0 { continue; }
            for at in [0, length / 2, length - 1] {
                let whole = fs::read(&path).unwrap();
                flip(&path, at, 2);
                let bad = fs::read(&path).unwrap();
                if who == "broker" {
                    let check = region.check();
                    let mut line = format!("check {}", check.code);
                    if check.code != 0 { line += &check.out.replace('\n', " "); line += &check.err; }
                    let before = region.starts("broker");
                    let log = region.said("broker").len();
                    region.start_traced("broker", &Trace::syncs(&root.path().join("x")));
                    let up = region.comes_up("broker", before);
                    if up { let _ = wait(|| true); let e = region.stop("broker"); line += &format!(" RUNS {e}"); } else { line += &format!(" ENDS {}", region.end_of("broker")); }
                    let said: Vec<String> = region.said("broker")[log..].lines().filter(|l| !l.contains(" INFO ")).map(str::to_owned).collect();
                    println!("  {at}: {line} {}", said.join(" // "));
                } else {
                    let (code, says) = node_says(&region, who, &first, &out);
                    println!("  {at}: {code} same {} {}", says == before, if says == before { String::new() } else { says.lines().zip(before.lines()).filter(|(a, b)| a != b).map(|(a, _)| a.to_owned()).collect::<Vec<_>>().join(" // ") });
                }
                if fs::read(&path).is_ok_and(|now| now == bad) { fs::write(&path, &whole).unwrap(); } else { println!("   REWRITTEN"); }
            }
        }
    }
}
